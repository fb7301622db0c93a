//! A convolution beside attention, whose kernel is made for each token from the words around it (Jiang et al. 2020, arXiv 2008.02496):
//!
//!   k = W_p depthwise(x) + b,  w = softmax(W_k (q k) + c) for each head,  y[t, h] = sum_j w[t, h, j] v[t + j - (K - 1) / 2, h]
//!
//! q are attention's queries; v is made beside its values.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ferroformer_kernels::{
    Epilogue, Level, Mat, MatMut, Narrow, Neighbours, PackedLinear, Stored, Threads, depthwise, depthwise_taps,
    dynamic, dynamic_taps, narrow, softmax,
};

use super::Linear;
use super::linear::Layer;
use crate::batch::Part;
use crate::blueprint::{Blueprint, ConvolutionSpec, WeightShape};
use crate::error::Result;
use crate::export::{Export, Values, ValuesMut};
use crate::init::Init;
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::training::{Pass, input_gradient};
use crate::weights::Place;
use crate::workspace::Rows;

pub(crate) struct Convolution {
    /// (H, K): each channel's taps.
    depth: Stored,
    depth_slot: String,
    /// H to heads x head_dim.
    point: Linear,
    /// heads x head_dim to heads x K.
    kernel: Linear,
    spec: ConvolutionSpec,
    level: Level,
}

/// Who stands beside whom, and what convolutions work in.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// (T, K)
    near: Vec<u32>,
    kernel: usize,
    /// One for each thread.
    rooms: Vec<Mutex<Room>>,
    back: Mutex<Back>,
}

/// What some tokens of a part work in.
#[derive(Default)]
struct Room {
    made: Made,
    narrow: Narrow,
}

/// What is made of some tokens on the way there.
#[derive(Default)]
struct Made {
    /// (t, H)
    depth: Rows,
    /// (t, heads x head_dim): keys, and queries times keys.
    keys: Rows,
    products: Rows,
    /// (t, heads x K)
    weights: Rows,
}

/// What all tokens of a batch work in on the way back.
#[derive(Default)]
struct Back {
    made: Made,
    d_depth: Rows,
    d_keys: Rows,
    d_weights: Rows,
    /// (K, H)
    d_taps: Vec<f32>,
    point: Option<PackedLinear>,
    kernel: Option<PackedLinear>,
}

/// What a convolution reads of the tokens.
#[derive(Clone, Copy)]
pub(crate) struct Read<'a> {
    /// (T, H): what attention reads.
    pub(crate) x: Mat<'a>,
    /// (T, heads x head_dim)
    pub(crate) queries: Mat<'a>,
    pub(crate) values: Mat<'a>,
}

impl Surroundings {
    /// Of a part's tokens, whose neighbours are those that stand beside them in their padded row.
    pub(crate) fn resize(&mut self, spec: ConvolutionSpec, threads: &Threads, part: &Part) {
        self.kernel = spec.kernel;
        self.near.clear();
        let mut row = vec![Neighbours::NOBODY; part.width];
        for range in part.ranges() {
            row.fill(Neighbours::NOBODY);
            range.clone().for_each(|t| row[part.columns[t]] = t as u32);
            for t in range {
                let column = |j: usize| (part.columns[t] + j).checked_sub(spec.kernel / 2);
                let at = |j: usize| column(j).and_then(|c| row.get(c).copied()).unwrap_or(Neighbours::NOBODY);
                self.near.extend((0..spec.kernel).map(at));
            }
        }
        self.rooms.resize_with(threads.count(), Mutex::default);
    }

    fn near(&self) -> Neighbours<'_> {
        Neighbours { rows: &self.near, kernel: self.kernel }
    }
}

fn point_parts(blueprint: &Blueprint, scope: &str) -> Vec<Layer> {
    let point = Layer::new(format!("{scope}.point"), blueprint.attention_size(), true);
    vec![point.grouped(1, WeightShape::Pointwise)]
}

fn kernel_parts(blueprint: &Blueprint, spec: ConvolutionSpec, scope: &str) -> Vec<Layer> {
    vec![Layer::new(format!("{scope}.kernel"), blueprint.attention.heads * spec.kernel, true)]
}

fn depth_slot(blueprint: &Blueprint, spec: ConvolutionSpec, scope: &str) -> Slot {
    Slot::new(format!("{scope}.depth.weight"), &[blueprint.hidden_size, 1, spec.kernel], Init::Normal)
}

impl Convolution {
    pub(crate) fn slots(blueprint: &Blueprint, spec: ConvolutionSpec, scope: &str) -> Vec<Slot> {
        let mut slots = vec![depth_slot(blueprint, spec, scope)];
        slots.extend(Linear::slots(&point_parts(blueprint, scope), blueprint.hidden_size));
        slots.extend(Linear::slots(&kernel_parts(blueprint, spec, scope), blueprint.attention_size()));
        slots
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, spec: ConvolutionSpec, scope: &str) -> Result<Self> {
        let slot = depth_slot(blueprint, spec, scope);
        Ok(Self {
            depth: loader.vector(&slot)?,
            depth_slot: slot.name,
            point: Linear::load(loader, point_parts(blueprint, scope), blueprint.hidden_size)?,
            kernel: Linear::load(loader, kernel_parts(blueprint, spec, scope), blueprint.attention_size())?,
            spec,
            level: loader.level,
        })
    }

    /// All tokens of a part -> out (T, heads x head_dim): chunks of them side by side, each on one thread.
    pub(crate) fn forward(&self, threads: &Threads, around: &Surroundings, read: Read, out: MatMut) -> Result<()> {
        const CHUNK: usize = 32;
        let (taps, failure) = (self.taps(), Mutex::new(None));
        let chunk = |team: &Threads, rank: usize, tokens: std::ops::Range<usize>, out: MatMut| {
            let Room { made, narrow } = &mut *lock(&around.rooms[rank]);
            let near = around.near().of(tokens.clone());
            let queries = read.queries.rows_of(tokens.clone());
            let result = made.resize(self, tokens.len()).and_then(|()| {
                let mats = [&mut made.depth, &mut made.keys, &mut made.products, &mut made.weights];
                self.make(team, near, read.x, queries, &taps, narrow, mats.map(Rows::mat_mut))
            });
            match result {
                Ok(()) => dynamic(self.level, near, read.values, made.weights.mat(), 0, false, out),
                Err(error) => *lock(&failure) = Some(error),
            }
        };
        let tokens = out.rows();
        if tokens <= CHUNK {
            chunk(threads, 0, 0..tokens, out);
        } else {
            let count = tokens.div_ceil(CHUNK);
            threads.for_each_rows(count, [out], |rank, tokens, [out]| chunk(&Threads::serial(), rank, tokens, out));
        }
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// What is made of some tokens up to their kernels: in the order of [`Made`].
    #[expect(clippy::too_many_arguments, reason = "what is read and made, each by its own name")]
    fn make(
        &self,
        threads: &Threads,
        near: Neighbours,
        x: Mat,
        queries: Mat,
        taps: &[f32],
        room: &mut Narrow,
        [mut depth, mut keys, mut products, mut weights]: [MatMut; 4],
    ) -> Result<()> {
        let taps = Mat::dense(taps, self.spec.kernel, x.cols());
        depthwise(self.level, near, x, taps, false, depth.reborrow());
        room.resize(self.point.form(), depth.rows(), depth.cols())?;
        narrow(self.level, threads, depth.view(), room);
        self.point.forward(threads, depth.view(), room, Epilogue::default(), keys.reborrow())?;
        for t in 0..keys.rows() {
            let terms = queries.row(t).iter().zip(&*keys.row_mut(t));
            products.row_mut(t).iter_mut().zip(terms).for_each(|(product, (q, k))| *product = q * k);
        }
        room.resize(self.kernel.form(), products.rows(), products.cols())?;
        narrow(self.level, threads, products.view(), room);
        self.kernel.forward(threads, products.view(), room, Epilogue::default(), weights.reborrow())?;
        for t in 0..weights.rows() {
            weights.row_mut(t).chunks_exact_mut(self.spec.kernel).for_each(|head| softmax(self.level, head, 1.0));
        }
        Ok(())
    }

    /// The gradient of what [`forward`](Self::forward) made of all tokens of a batch, d (T, heads x head_dim) -> that of x, to `d_x`, and
    /// of values, to `d_values`; that of queries is added to `d_queries`, those of the weights to `gradient`.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(crate) fn backward(
        &self,
        pass: &Pass,
        around: &Surroundings,
        read: Read,
        d: Mat,
        gradient: &mut Convolution,
        d_x: MatMut,
        d_queries: MatMut,
        d_values: MatMut,
    ) -> Result<()> {
        let (level, threads, tokens) = (self.level, pass.threads, read.x.rows());
        let (near, taps, Read { x, queries, values }) = (around.near(), self.taps(), read);
        let mut back = lock(&around.back);
        let Back { made, d_depth, d_keys, d_weights, d_taps, point, kernel } = &mut *back;
        made.resize(self, tokens)?;
        d_depth.resize(tokens, x.cols())?;
        d_keys.resize(tokens, queries.cols())?;
        d_weights.resize(tokens, self.kernel.outputs())?;
        let Made { depth, keys, products, weights } = made;
        let mats = [&mut *depth, &mut *keys, &mut *products, &mut *weights, &mut *d_weights].map(Rows::mat_mut);
        pass.for_each_chunk(mats, [], |mut chunk, [depth, keys, products, mut weights, mut d_weights], []| {
            let (tokens, room) = (chunk.tokens.clone(), &mut chunk.room.none);
            let (near, queries) = (near.of(tokens.clone()), queries.rows_of(tokens.clone()));
            let mats = [depth, keys, products, weights.reborrow()];
            self.make(&chunk.threads, near, x, queries, &taps, room, mats)?;
            dynamic_taps(level, near, values, d.rows_of(tokens), d_weights.reborrow());
            for t in 0..d_weights.rows() {
                let heads = weights.row_mut(t).chunks_exact(self.spec.kernel);
                heads
                    .zip(d_weights.row_mut(t).chunks_exact_mut(self.spec.kernel))
                    .for_each(|(p, d)| softmax_back(p, d));
            }
            Ok(())
        })?;
        input_gradient(&self.kernel, level, threads, d_weights.mat(), d_keys.mat_mut(), kernel)?;
        pass.for_each_chunk([d_keys.mat_mut(), d_queries], [], |chunk, [mut d_keys, mut d_queries], []| {
            for (t, row) in chunk.tokens.clone().enumerate() {
                let terms = keys.mat().row(row).iter().zip(queries.row(row));
                let gradients = d_keys.row_mut(t).iter_mut().zip(d_queries.row_mut(t));
                gradients.zip(terms).for_each(|((d, d_query), (k, q))| {
                    *d_query += *d * k;
                    *d *= q;
                });
            }
            Ok(())
        })?;
        input_gradient(&self.point, level, threads, d_keys.mat(), d_depth.mat_mut(), point)?;
        pass.for_each_chunk([d_x, d_values], [], |chunk, [d_x, d_values], []| {
            let near = near.of(chunk.tokens.clone());
            depthwise(level, near, d_depth.mat(), Mat::dense(&taps, self.spec.kernel, x.cols()), true, d_x);
            dynamic(level, near, d, weights.mat(), 0, true, d_values);
            Ok(())
        })?;
        gradient.kernel.add_gradient(level, threads, products.mat(), d_weights.mat());
        gradient.point.add_gradient(level, threads, depth.mat(), d_keys.mat());
        if !gradient.depth.is_empty() {
            d_taps.clear();
            d_taps.resize(taps.len(), 0.0);
            let place = MatMut::dense(d_taps, self.spec.kernel, x.cols());
            depthwise_taps(level, threads, near, x, d_depth.mat(), place);
            for (c, taps) in gradient.depth.own_mut().chunks_exact_mut(self.spec.kernel).enumerate() {
                taps.iter_mut().enumerate().for_each(|(j, sum)| *sum += d_taps[j * x.cols() + c]);
            }
        }
        Ok(())
    }

    /// (K, H)
    fn taps(&self) -> Vec<f32> {
        let kernel = self.spec.kernel;
        (0..kernel).flat_map(|j| self.depth.iter().skip(j).step_by(kernel).copied()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.depth.is_empty() && self.linears().into_iter().all(Linear::is_empty)
    }

    fn linears(&self) -> [&Linear; 2] {
        [&self.point, &self.kernel]
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let shape = vec![self.depth.len() / self.spec.kernel, 1, self.spec.kernel];
        let depth = Export { slot: self.depth_slot.clone(), shape, values: Values::Vector(&self.depth) };
        std::iter::once(depth).chain(self.linears().into_iter().flat_map(Linear::exports))
    }

    pub(crate) fn floats_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let Self { depth, point, kernel, .. } = self;
        std::iter::once(depth.own_mut()).chain([point, kernel].into_iter().flat_map(Linear::floats_mut))
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Vec<Place>> {
        let depth = vec![Place::alone(self.depth_slot.clone(), self.depth.len())];
        std::iter::once(depth).chain(self.linears().into_iter().flat_map(Linear::places))
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        if slot == self.depth_slot {
            return Some(ValuesMut::Vector(self.depth.own_mut()));
        }
        let Self { point, kernel, .. } = self;
        [point, kernel].into_iter().find_map(|linear| linear.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let depth = Piece::new(&self.depth_slot, self.depth.words());
        std::iter::once(depth).chain(self.linears().into_iter().flat_map(Linear::pieces))
    }
}

impl Made {
    fn resize(&mut self, convolution: &Convolution, tokens: usize) -> Result<()> {
        let Convolution { point, kernel, .. } = convolution;
        self.depth.resize(tokens, point.inputs())?;
        self.keys.resize(tokens, point.outputs())?;
        self.products.resize(tokens, point.outputs())?;
        self.weights.resize(tokens, kernel.outputs())
    }
}

/// The gradient of what a softmax read, from its result p and the gradient of that, in its place.
fn softmax_back(p: &[f32], d: &mut [f32]) {
    let mean: f32 = p.iter().zip(&*d).map(|(p, d)| p * d).sum();
    d.iter_mut().zip(p).for_each(|(d, p)| *d = p * (*d - mean));
}

/// A panic elsewhere leaves nothing half-done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
