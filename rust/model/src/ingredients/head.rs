//! The last layer of a task: some numbers for each sequence or for each token.

use ferroformer_kernels::{Epilogue, Level, Mat, MatMut, Narrow, Threads, narrow};

use super::Linear;
use crate::blueprint::{Blueprint, HeadInput, HeadSpec};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::training::input_gradient;
use crate::weights::Place;

pub(crate) struct Head {
    dense: Linear,
    spec: HeadSpec,
    level: Level,
}

fn parts(spec: HeadSpec) -> Vec<(String, usize)> {
    vec![("head".to_owned(), spec.outputs)]
}

impl Head {
    pub(crate) fn slots(blueprint: &Blueprint, spec: HeadSpec) -> Vec<Slot> {
        Linear::slots(&parts(spec), blueprint.hidden_size).into_iter().flatten().collect()
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, spec: HeadSpec) -> Result<Self> {
        let dense = Linear::load(loader, parts(spec), blueprint.hidden_size)?;
        Ok(Self { dense, spec, level: loader.level })
    }

    pub(crate) fn reads(&self) -> HeadInput {
        self.spec.reads
    }

    pub(crate) fn outputs(&self) -> usize {
        self.spec.outputs
    }

    /// x (M, H) -> out (M, outputs). `room` is scratch.
    pub(crate) fn forward(&self, threads: &Threads, x: Mat, room: &mut Narrow, out: MatMut) -> Result<()> {
        room.resize(self.dense.form(), x.rows(), x.cols())?;
        narrow(self.level, threads, x, room);
        self.dense.forward(threads, x, room, Epilogue::default(), out);
        Ok(())
    }

    /// The gradient of the outputs, d (M, outputs) -> that of x, dx (M, H).
    pub(crate) fn backward(&self, level: Level, threads: &Threads, d: Mat, dx: MatMut) -> Result<()> {
        input_gradient(&self.dense, level, threads, d, dx)
    }

    pub(crate) fn add_gradient(&mut self, level: Level, threads: &Threads, x: Mat, d: Mat) {
        self.dense.add_gradient(level, threads, x, d);
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
