//! A vector for each sequence: its first token's, or the mean of all, through a dense layer.

use ferroformer_kernels::{
    Activation, Epilogue, Level, Mat, MatMut, Narrow, PackedLinear, Threads, activation_backward, add, narrow,
};

use super::linear::Layer;
use super::{LayerNorm, Linear};
use crate::batch::Part;
use crate::blueprint::{Blueprint, PoolerInput, PoolerSpec};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::training::input_gradient;
use crate::weights::Place;
use crate::workspace::Rows;

pub(crate) struct Pooler {
    dense: Linear,
    activation: Activation,
    norm: Option<LayerNorm>,
    spec: PoolerSpec,
    level: Level,
}

/// What a pooler works in.
#[derive(Default)]
pub(crate) struct PoolerRoom {
    /// (S, H): what is read.
    pub(crate) read: Rows,
    /// (S, H): what a norm reads.
    inner: Rows,
    pub(crate) pooled: Rows,
    narrow: Narrow,
    transposed: Option<PackedLinear>,
}

const NORM: &str = "pooler.norm";

fn parts(blueprint: &Blueprint, spec: PoolerSpec) -> Vec<Layer> {
    vec![Layer::new("pooler", blueprint.hidden_size, spec.bias)]
}

impl Pooler {
    pub(crate) fn slots(blueprint: &Blueprint, spec: PoolerSpec) -> impl Iterator<Item = Slot> + use<> {
        let size = blueprint.hidden_size;
        let norm = spec.norm.into_iter().flat_map(move |norm| LayerNorm::slots(NORM, size, norm.norm(), norm.bias));
        Linear::slots(&parts(blueprint, spec), size).chain(norm)
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, spec: PoolerSpec) -> Result<Self> {
        let size = blueprint.hidden_size;
        let dense = Linear::load(loader, parts(blueprint, spec), size)?;
        let norm = spec.norm.map(|norm| LayerNorm::load(loader, NORM.to_owned(), size, norm.norm(), norm.bias));
        Ok(Self { dense, activation: spec.activation.into(), norm: norm.transpose()?, spec, level: loader.level })
    }

    /// Whether what it reads is dropped.
    pub(crate) fn drops(&self) -> bool {
        self.spec.dropout
    }

    /// What it reads of all tokens, hidden (T, H) -> `room.read` (S, H); zeros for a sequence without a token.
    pub(crate) fn read(&self, part: &Part, hidden: Mat, room: &mut PoolerRoom) -> Result<()> {
        room.read.resize(part.sequences(), hidden.cols())?;
        for (s, range) in part.ranges().enumerate() {
            let mut out = room.read.mat_mut().into_block(s..s + 1, 0..hidden.cols());
            out.fill(0.0);
            match self.spec.reads {
                _ if range.is_empty() => {}
                PoolerInput::First => out.row_mut(0).copy_from_slice(hidden.row(range.start)),
                PoolerInput::Mean => {
                    let count = range.len() as f32;
                    range.for_each(|t| add(self.level, hidden.rows_of(t..t + 1), out.reborrow()));
                    out.row_mut(0).iter_mut().for_each(|sum| *sum /= count);
                }
            }
        }
        Ok(())
    }

    /// Adds the gradient of what [`read`](Self::read) made to that of the tokens it read.
    pub(crate) fn read_backward(&self, part: &Part, d: Mat, mut d_hidden: MatMut) {
        for (s, range) in part.ranges().enumerate().filter(|(_, range)| !range.is_empty()) {
            let (d, share) = (d.rows_of(s..s + 1), 1.0 / range.len() as f32);
            match self.spec.reads {
                PoolerInput::First => {
                    let first = d_hidden.reborrow().into_block(range.start..range.start + 1, 0..d.cols());
                    add(self.level, d, first);
                }
                PoolerInput::Mean => range.for_each(|t| {
                    d_hidden.row_mut(t).iter_mut().zip(d.row(0)).for_each(|(sum, d)| *sum += d * share);
                }),
            }
        }
    }

    /// `room.read` (S, H) -> `room.pooled` (S, H).
    pub(crate) fn forward(&self, threads: &Threads, room: &mut PoolerRoom) -> Result<()> {
        let PoolerRoom { read, inner, pooled, narrow: form, .. } = room;
        let (rows, cols) = (read.mat().rows(), read.mat().cols());
        pooled.resize(rows, cols)?;
        form.resize(self.dense.form(), rows, cols)?;
        narrow(self.level, threads, read.mat(), form);
        let activation = Epilogue { activation: Some(self.activation), ..Epilogue::default() };
        let Some(norm) = &self.norm else {
            self.dense.forward(threads, read.mat(), form, activation, pooled.mat_mut());
            return Ok(());
        };
        inner.resize(rows, cols)?;
        self.dense.forward(threads, read.mat(), form, activation, inner.mat_mut());
        norm.forward(threads, inner.mat(), pooled.mat_mut(), &mut Narrow::default());
        Ok(())
    }

    /// What [`forward`](Self::forward) left and the gradient of what it made, d (S, H) -> that of what it read, d_read; those of the weights are
    /// added to `gradient`.
    pub(crate) fn backward(
        &self,
        threads: &Threads,
        room: &mut PoolerRoom,
        d: Mat,
        gradient: Option<&mut Pooler>,
        d_read: MatMut,
    ) -> Result<()> {
        let PoolerRoom { read, inner, pooled, transposed, .. } = room;
        let (rows, cols) = (d.rows(), d.cols());
        // The gradient of what the activation made, where its result lay.
        let mut sums = vec![0.0; 2 * cols];
        match &self.norm {
            Some(norm) => norm.backward(inner.mat(), d, pooled.mat_mut(), &mut sums),
            None => pooled.mat_mut().copy(d),
        }
        inner.resize(rows, cols)?;
        self.dense.forward(threads, read.mat(), &Narrow::default(), Epilogue::default(), inner.mat_mut());
        activation_backward(self.level, self.activation, inner.mat_mut(), pooled.mat_mut());
        if let Some(gradient) = gradient {
            if let Some(norm) = &mut gradient.norm {
                norm.add_gradient(Mat::dense(&sums, 1, sums.len()));
            }
            gradient.dense.add_gradient(self.level, threads, read.mat(), pooled.mat());
        }
        input_gradient(&self.dense, self.level, threads, pooled.mat(), d_read, transposed)
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.dense.exports().chain(self.norm.iter().flat_map(LayerNorm::exports))
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let mut floats = vec![self.dense.floats_mut()];
        floats.extend(self.norm.iter_mut().flat_map(LayerNorm::floats_mut));
        floats
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let mut places = vec![self.dense.places()];
        places.extend(self.norm.iter().flat_map(LayerNorm::places));
        places
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        self.dense.slot_mut(slot).or_else(|| self.norm.as_mut()?.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = vec![self.dense.piece()];
        pieces.extend(self.norm.iter().flat_map(LayerNorm::pieces));
        pieces
    }
}
