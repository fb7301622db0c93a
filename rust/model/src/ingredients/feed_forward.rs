//! The position-wise feed-forward network: up, activation, down.

use ferroformer_kernels::{
    Activation, Epilogue, Form, Level, Mat, MatMut, Narrow, Threads, activation_backward, linear, narrow,
};

use super::Linear;
use crate::blueprint::Blueprint;
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::training::Transposed;
use crate::weights::Place;
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

    /// Some tokens: what is read, `hidden` (T, H) -> `up` (T, size), what the activation reads, and `inner`, what it makes of that.
    pub(crate) fn record(&self, threads: &Threads, hidden: Mat, mut up: MatMut, mut inner: MatMut) {
        self.up.forward(threads, hidden, &Narrow::default(), Epilogue::default(), up.reborrow());
        for t in 0..up.rows() {
            let row = inner.row_mut(t);
            row.copy_from_slice(up.row_mut(t));
            self.activation.apply(self.level, row);
        }
    }

    /// Some tokens: `up` as it was recorded and the gradient of what this ingredient made, `d_out` (T, H) -> the gradients of `up`
    /// and of what was read, to which `residual` is added; `up` becomes what the activation made of it.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(crate) fn backward(
        &self,
        threads: &Threads,
        transposed: &Transposed,
        up: MatMut,
        d_out: Mat,
        residual: Mat,
        mut d_up: MatMut,
        d_hidden: MatMut,
    ) {
        linear(threads, d_out, &transposed.down, Epilogue::default(), d_up.reborrow());
        activation_backward(self.level, self.activation, up, d_up.reborrow());
        let residual = Epilogue { residual: Some(residual), ..Epilogue::default() };
        linear(threads, d_up.view(), &transposed.up, residual, d_hidden);
    }

    /// The layers of this ingredient, whose gradients a caller takes.
    pub(crate) fn layers(&self) -> [&Linear; 2] {
        [&self.up, &self.down]
    }

    pub(crate) fn layers_mut(&mut self) -> [&mut Linear; 2] {
        [&mut self.up, &mut self.down]
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.up.exports().chain(self.down.exports())
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        vec![self.up.floats_mut(), self.down.floats_mut()]
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        vec![self.up.places(), self.down.places()]
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        self.up.slot_mut(slot).or_else(|| self.down.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        vec![self.up.piece(), self.down.piece()]
    }
}
