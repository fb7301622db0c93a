//! A dense layer on each sequence's first token.

use ferroformer_kernels::{
    Activation, Epilogue, Form, Level, Mat, MatMut, Narrow, PackedLinear, Threads, activation_backward,
};

use super::Linear;
use crate::blueprint::{Blueprint, PoolerSpec};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::training::input_gradient;
use crate::weights::Place;

pub(crate) struct Pooler {
    dense: Linear,
    activation: Activation,
}

fn parts(blueprint: &Blueprint) -> Vec<(String, usize)> {
    vec![("pooler".to_owned(), blueprint.hidden_size)]
}

impl Pooler {
    pub(crate) fn slots(blueprint: &Blueprint) -> Vec<Slot> {
        Linear::slots(&parts(blueprint), blueprint.hidden_size).into_iter().flatten().collect()
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, spec: PoolerSpec) -> Result<Self> {
        let dense = Linear::load(loader, parts(blueprint), blueprint.hidden_size)?;
        Ok(Self { dense, activation: spec.activation.into() })
    }

    pub(crate) fn form(&self) -> Form {
        self.dense.form()
    }

    /// First tokens (S, H), also in the pooler's form -> out (S, H).
    pub(crate) fn forward(&self, threads: &Threads, first: Mat, narrow: &Narrow, out: MatMut) {
        let activation = Epilogue { activation: Some(self.activation), ..Epilogue::default() };
        self.dense.forward(threads, first, narrow, activation, out);
    }

    /// First tokens (S, H), what [`forward`](Self::forward) made of them and the gradient of that -> the gradient of what the
    /// activation read, in its place, and that of the first tokens.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(crate) fn backward(
        &self,
        level: Level,
        threads: &Threads,
        first: Mat,
        mut pooled: MatMut,
        mut d_pooled: MatMut,
        d_first: MatMut,
        transposed: &mut Option<PackedLinear>,
    ) -> Result<()> {
        self.dense.forward(threads, first, &Narrow::default(), Epilogue::default(), pooled.reborrow());
        activation_backward(level, self.activation, pooled, d_pooled.reborrow());
        input_gradient(&self.dense, level, threads, d_pooled.view(), d_first, transposed)
    }

    pub(crate) fn add_gradient(&mut self, level: Level, threads: &Threads, first: Mat, d: Mat) {
        self.dense.add_gradient(level, threads, first, d);
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.dense.exports()
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        vec![self.dense.floats_mut()]
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        vec![self.dense.places()]
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        self.dense.slot_mut(slot)
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        vec![self.dense.piece()]
    }
}
