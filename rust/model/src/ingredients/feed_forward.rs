//! The position-wise feed-forward network: up, activation, down.

use ferroformer_kernels::{Activation, Epilogue, Form, Level, Mat, Threads, narrow};

use super::Linear;
use crate::blueprint::Blueprint;
use crate::error::Result;
use crate::export::Export;
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::workspace::Room;

pub(crate) struct FeedForward {
    up: Linear,
    down: Linear,
    activation: Activation,
    level: Level,
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

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, scope: &str) -> Result<Self> {
        let up = Linear::load(loader, up_parts(blueprint, scope), blueprint.hidden_size)?;
        let down = Linear::load(loader, down_parts(blueprint, scope), blueprint.feed_forward.size)?;
        Ok(Self { up, down, activation: blueprint.feed_forward.activation.into(), level: loader.level })
    }

    /// The form in which x is read.
    pub(crate) fn form(&self) -> Form {
        self.up.form()
    }

    /// Some tokens: hidden (T, H), in [`form`](Self::form) in `room.narrow` -> `room.sum` = hidden + down(activation(up(hidden))).
    pub(crate) fn forward(&self, threads: &Threads, hidden: Mat, room: &mut Room) -> Result<()> {
        let activation = Epilogue { activation: Some(self.activation), ..Epilogue::default() };
        self.up.forward(threads, hidden, &room.narrow, activation, room.feed_forward.mat_mut());
        let inner = room.feed_forward.mat();
        room.narrow.resize(self.down.form(), inner.rows(), inner.cols())?;
        narrow(self.level, threads, inner, &mut room.narrow);
        let residual = Epilogue { residual: Some(hidden), ..Epilogue::default() };
        self.down.forward(threads, inner, &room.narrow, residual, room.sum.mat_mut());
        Ok(())
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.up.exports().chain(self.down.exports())
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        vec![self.up.piece(), self.down.piece()]
    }
}
