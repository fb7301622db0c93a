//! What a language model's head does first: dense, activation, norm.

use ferroformer_kernels::{
    Activation, Epilogue, Form, Level, Mat, MatMut, Narrow, Threads, activation_backward, narrow,
};

use super::head::HeadRoom;
use super::{LayerNorm, Linear};
use crate::blueprint::{Blueprint, TransformSpec};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::training::input_gradient;
use crate::weights::Place;

pub(crate) struct Transform {
    dense: Linear,
    activation: Activation,
    norm: LayerNorm,
    level: Level,
}

const NORM: &str = "head.norm";

fn parts(blueprint: &Blueprint) -> Vec<(String, usize)> {
    vec![("head.transform".to_owned(), blueprint.hidden_size)]
}

impl Transform {
    pub(crate) fn slots(blueprint: &Blueprint) -> Vec<Slot> {
        let dense = Linear::slots(&parts(blueprint), blueprint.hidden_size).into_iter().flatten();
        dense.chain(LayerNorm::slots(NORM, blueprint.hidden_size)).collect()
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, spec: TransformSpec) -> Result<Self> {
        let dense = Linear::load(loader, parts(blueprint), blueprint.hidden_size)?;
        let norm = LayerNorm::load(loader, NORM.to_owned(), blueprint.hidden_size, spec.eps)?;
        Ok(Self { dense, activation: spec.activation.into(), norm, level: loader.level })
    }

    /// x (M, H) -> `room.hidden` (M, H), and `room.narrow` in the form that is asked for; `room.inner` is left with what the norm
    /// read.
    pub(crate) fn forward(&self, threads: &Threads, x: Mat, form: Form, room: &mut HeadRoom) -> Result<()> {
        let HeadRoom { narrow: form_room, inner, hidden, .. } = room;
        inner.resize(x.rows(), x.cols())?;
        hidden.resize(x.rows(), x.cols())?;
        form_room.resize(self.dense.form(), x.rows(), x.cols())?;
        narrow(self.level, threads, x, form_room);
        let activation = Epilogue { activation: Some(self.activation), ..Epilogue::default() };
        self.dense.forward(threads, x, form_room, activation, inner.mat_mut());
        form_room.resize(form, x.rows(), x.cols())?;
        self.norm.forward(threads, inner.mat(), hidden.mat_mut(), form_room);
        Ok(())
    }

    /// x (M, H), what [`forward`](Self::forward) left of it and the gradient of what it made, d (M, H) -> that of x, dx.
    pub(crate) fn backward(
        &self,
        threads: &Threads,
        x: Mat,
        d: Mat,
        room: &mut HeadRoom,
        gradient: Option<&mut Transform>,
        dx: MatMut,
    ) -> Result<()> {
        let HeadRoom { inner, d_inner, transform_transposed, .. } = room;
        d_inner.resize(x.rows(), x.cols())?;
        let mut sums = vec![0.0; 2 * x.cols()];
        self.norm.backward(inner.mat(), d, d_inner.mat_mut(), &mut sums);
        self.dense.forward(threads, x, &Narrow::default(), Epilogue::default(), inner.mat_mut());
        activation_backward(self.level, self.activation, inner.mat_mut(), d_inner.mat_mut());
        if let Some(gradient) = gradient {
            gradient.norm.add_gradient(Mat::dense(&sums, 1, sums.len()));
            gradient.dense.add_gradient(self.level, threads, x, d_inner.mat());
        }
        input_gradient(&self.dense, self.level, threads, d_inner.mat(), dx, transform_transposed)
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.dense.exports().chain(self.norm.exports())
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let mut floats = vec![self.dense.floats_mut()];
        floats.extend(self.norm.floats_mut());
        floats
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let mut places = vec![self.dense.places()];
        places.extend(self.norm.places());
        places
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        self.norm.slot_mut(slot).or_else(|| self.dense.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = vec![self.dense.piece()];
        pieces.extend(self.norm.pieces());
        pieces
    }
}
