//! A vector for each sequence: one token's, or the mean of all, through a dense layer where there is one.

use std::ops::Range;

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
    dense: Option<Linear>,
    activation: Option<Activation>,
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
        let dense = spec.dense.then(|| Linear::slots(&parts(blueprint, spec), size));
        dense.into_iter().flatten().chain(norm)
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, spec: PoolerSpec) -> Result<Self> {
        let size = blueprint.hidden_size;
        let dense = spec.dense.then(|| Linear::load(loader, parts(blueprint, spec), size)).transpose()?;
        let norm = spec.norm.map(|norm| LayerNorm::load(loader, NORM.to_owned(), size, norm.norm(), norm.bias));
        let activation = spec.activation.map(Activation::from);
        Ok(Self { dense, activation, norm: norm.transpose()?, spec, level: loader.level })
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
                PoolerInput::Last => out.row_mut(0).copy_from_slice(hidden.row(last(part, range))),
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
            let mut one = |t: usize| add(self.level, d, d_hidden.reborrow().into_block(t..t + 1, 0..d.cols()));
            match self.spec.reads {
                PoolerInput::First => one(range.start),
                PoolerInput::Last => one(last(part, range)),
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
        let Some(dense) = &self.dense else {
            pooled.mat_mut().copy(read.mat());
            return Ok(());
        };
        form.resize(dense.form(), rows, cols)?;
        narrow(self.level, threads, read.mat(), form);
        let activation = Epilogue { activation: self.activation, ..Epilogue::default() };
        let Some(norm) = &self.norm else {
            return dense.forward(threads, read.mat(), form, activation, pooled.mat_mut());
        };
        inner.resize(rows, cols)?;
        dense.forward(threads, read.mat(), form, activation, inner.mat_mut())?;
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
        mut d_read: MatMut,
    ) -> Result<()> {
        let Some(dense) = &self.dense else {
            d_read.copy(d);
            return Ok(());
        };
        let PoolerRoom { read, inner, pooled, transposed, .. } = room;
        let (rows, cols) = (d.rows(), d.cols());
        // The gradient of what the activation made, where its result lay.
        let mut sums = vec![0.0; 2 * cols];
        match &self.norm {
            Some(norm) => norm.backward(inner.mat(), d, pooled.mat_mut(), &mut sums),
            None => pooled.mat_mut().copy(d),
        }
        if let Some(activation) = self.activation {
            inner.resize(rows, cols)?;
            dense.forward(threads, read.mat(), &mut Narrow::default(), Epilogue::default(), inner.mat_mut())?;
            activation_backward(self.level, activation, inner.mat_mut(), pooled.mat_mut());
        }
        if let Some(gradient) = gradient {
            if let Some(norm) = &mut gradient.norm {
                norm.add_gradient(Mat::dense(&sums, 1, sums.len()));
            }
            let own = gradient.dense.as_mut();
            own.into_iter().for_each(|own| own.add_gradient(self.level, threads, read.mat(), pooled.mat()));
        }
        input_gradient(dense, self.level, threads, pooled.mat(), d_read, transposed)
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.dense.iter().flat_map(Linear::exports).chain(self.norm.iter().flat_map(LayerNorm::exports))
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let norm = self.norm.iter_mut().flat_map(LayerNorm::floats_mut);
        self.dense.iter_mut().flat_map(Linear::floats_mut).chain(norm).collect()
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let norm = self.norm.iter().flat_map(LayerNorm::places);
        self.dense.iter().flat_map(Linear::places).chain(norm).collect()
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        let dense = self.dense.as_mut().and_then(|dense| dense.slot_mut(slot));
        dense.or_else(|| self.norm.as_mut()?.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let norm = self.norm.iter().flat_map(LayerNorm::pieces);
        self.dense.iter().flat_map(Linear::pieces).chain(norm).collect()
    }
}

/// The token of a sequence, whose rows these are, that stands last in its padded row.
fn last(part: &Part, mut rows: Range<usize>) -> usize {
    let first = rows.start;
    rows.by_ref().max_by_key(|t| part.columns[*t]).unwrap_or(first)
}
