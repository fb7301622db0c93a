//! The position-wise feed-forward network: up, activation, down.

use ferroformer_kernels::{Activation, Epilogue, Threads};

use super::Linear;
use crate::blueprint::Blueprint;
use crate::error::Result;
use crate::export::Export;
use crate::loader::{Loader, Slot};
use crate::workspace::Workspace;

pub(crate) struct FeedForward {
    up: Linear,
    down: Linear,
    activation: Activation,
}

fn up_parts(blueprint: &Blueprint, scope: &str) -> Vec<(String, usize)> {
    vec![(format!("{scope}.up"), blueprint.feed_forward.size)]
}

fn down_parts(blueprint: &Blueprint, scope: &str) -> Vec<(String, usize)> {
    vec![(format!("{scope}.down"), blueprint.hidden_size)]
}

impl FeedForward {
    pub(crate) fn slots(blueprint: &Blueprint, scope: &str) -> Vec<Slot> {
        let up = Linear::slots(&up_parts(blueprint, scope), blueprint.hidden_size);
        let down = Linear::slots(&down_parts(blueprint, scope), blueprint.feed_forward.size);
        up.into_iter().chain(down).flatten().collect()
    }

    pub(crate) fn load(loader: &mut Loader, blueprint: &Blueprint, scope: &str) -> Result<Self> {
        let up = Linear::load(loader, up_parts(blueprint, scope), blueprint.hidden_size)?;
        let down = Linear::load(loader, down_parts(blueprint, scope), blueprint.feed_forward.size)?;
        Ok(Self { up, down, activation: blueprint.feed_forward.activation.into() })
    }

    /// `ws.hidden` (T, H) -> `ws.sum` = hidden + down(activation(up(hidden))).
    pub(crate) fn forward(&self, threads: &Threads, ws: &mut Workspace) {
        let activation = Epilogue { activation: Some(self.activation), ..Epilogue::default() };
        self.up.forward(threads, ws.hidden.mat(), activation, ws.feed_forward.mat_mut());
        let residual = Epilogue { residual: Some(ws.hidden.mat()), ..Epilogue::default() };
        self.down.forward(threads, ws.feed_forward.mat(), residual, ws.sum.mat_mut());
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.up.exports().chain(self.down.exports())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.up.bytes() + self.down.bytes()
    }
}
