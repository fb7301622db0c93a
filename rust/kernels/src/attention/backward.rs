//! The gradient of attention: of one head of one sequence at a time, on exact lengths, with probabilities computed anew.
//!
//!   P = softmax(scale Q K^T),  O = (P m) V            m: dropout, 0 or 1 / (1 - p); 1 without
//!   dV = (P m)^T dO
//!   dP = (dO V^T) m
//!   dS = scale P (dP - rowsum(P dP))
//!   dQ = dS K,  dK = dS^T Q
//!
//! block of queries by block: a block's P and dS stay in the second-level cache, and their sums over queries go on from one block to
//! the next in the order of the queries. (The formulas: Dao et al. 2022, arXiv 2205.14135, appendix B.2.)

use super::operands::Operands;
use super::{BLOCK, Heads, LEAST_SHARED, pack_keys};
use crate::buffer::words_of_mut;
use crate::dropout::Dropout;
use crate::gemm::{Float32, Panels, Rows, multiply, outer};
use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::{Mat, MatMut, padded_stride};
use crate::rows::{update, zip_sums};
use crate::softmax::softmax_row;
use crate::threads::{Disjoint, Threads};

/// Floats of scratch that each thread needs in [`attention_backward`], for sequences of up to `length` tokens.
pub fn attention_backward_scratch(level: Level, length: usize, head_dim: usize) -> usize {
    Sizes::new(level.panel(), length, head_dim).floats()
}

/// The gradients of queries, keys and values (T, heads x D each) from that of what attention made of them, `dout`
/// (T, heads x D). Sums over queries and keys are taken in their order, so nothing depends on the other sequences or the threads.
///
/// With u = 2^-23 and all magnitudes below 1, an element is within u (L + 2 D + 8) times the sum of the magnitudes of its terms.
///
/// # Panics
/// If the shapes disagree or `scratch` is shorter than `threads` times [`attention_backward_scratch`].
pub fn attention_backward(
    level: Level,
    threads: &Threads,
    qkv: [Mat; 3],
    of: Heads,
    dout: Mat,
    scratch: &mut [f32],
    dqkv: [MatMut; 3],
) {
    let (tokens, columns, heads) = (dout.rows(), dout.cols(), of.heads);
    let (sequences, longest, head_dim) = (of.starts.len() - 1, of.longest(tokens), columns / heads);
    assert!(head_dim * heads == columns, "attention_backward: heads");
    assert!(qkv.iter().all(|x| (x.rows(), x.cols()) == (tokens, columns)), "attention_backward: q, k, v");
    assert!(dqkv.iter().all(|x| (x.rows(), x.cols()) == (tokens, columns)), "attention_backward: dq, dk, dv");
    let sizes = Sizes::new(level.panel(), longest, head_dim);
    let scratch = Disjoint::new(MatMut::dense(scratch, threads.count(), sizes.floats()));
    let dqkv = dqkv.map(Disjoint::new);
    let alone = Threads::serial();
    let threads = if tokens * longest * columns < LEAST_SHARED { &alone } else { threads };
    threads.for_each(sequences * heads, |rank, task| {
        let (s, head) = (task / heads, task % heads);
        let (rows, keys) = of.rows(s);
        let (cols, key_rows) = (head * head_dim..(head + 1) * head_dim, rows.start..rows.start + keys);
        let [q, k, v] = [&rows, &key_rows, &key_rows].map(|rows| rows.clone());
        let [q, k, v] = [qkv[0].block(q, cols.clone()), qkv[1].block(k, cols.clone()), qkv[2].block(v, cols.clone())];
        // SAFETY: tasks that run together have different ranks, and each its own rows and columns of the gradients.
        let (mut scratch, [dq, dk, dv]) = unsafe {
            let scratch = scratch.block(rank..rank + 1, 0..sizes.floats());
            (scratch, dqkv.each_ref().map(|x| x.block(rows.clone(), cols.clone())))
        };
        let dropout = of.dropout.map(|dropout| (dropout, of.dropout_row(s, 0, head), heads as u64));
        let dout = dout.block(rows.clone(), cols.clone());
        let head = Head { q, k, v, dout, scale: of.scale, dropout, scratch: scratch.row_mut(0), sizes, dq, dk, dv };
        dispatch_floats(level, head);
    });
}

/// How the scratch space of one thread is divided.
#[derive(Clone, Copy)]
struct Sizes {
    /// Panels with keys as columns, and as large with values as columns.
    keys: usize,
    /// Panels with a key in each row.
    rows: usize,
    block: usize,
}

impl Sizes {
    fn new(panel: usize, length: usize, head_dim: usize) -> Self {
        let panels = |columns: usize, depth: usize| columns.div_ceil(panel) * panel * (depth + 1);
        let block = BLOCK.min(length) * padded_stride(length);
        Sizes { keys: panels(length, head_dim), rows: panels(head_dim, length), block }
    }

    fn floats(self) -> usize {
        2 * self.keys + self.rows + 2 * self.block
    }
}

struct Head<'a> {
    q: Mat<'a>,
    k: Mat<'a>,
    v: Mat<'a>,
    dout: Mat<'a>,
    scale: f32,
    /// With the row number of the first query, and from one query to the next.
    dropout: Option<(Dropout, u64, u64)>,
    scratch: &'a mut [f32],
    sizes: Sizes,
    dq: MatMut<'a>,
    dk: MatMut<'a>,
    dv: MatMut<'a>,
}

impl Kernel for Head<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(mut self, isa: I) {
        let (length, attended, dim) = (self.q.rows(), self.k.rows(), self.q.cols());
        let (keys, rest) = self.scratch.split_at_mut(self.sizes.keys);
        let (values, rest) = rest.split_at_mut(self.sizes.keys);
        let (key_rows, rest) = rest.split_at_mut(self.sizes.rows);
        let (p, ds) = rest.split_at_mut(self.sizes.block);
        let (keys, values, key_rows) = (words_of_mut(keys), words_of_mut(values), words_of_mut(key_rows));
        pack_keys::<I, Float32>(isa, self.k, keys);
        pack_keys::<I, Float32>(isa, self.v, values);
        Float32::pack_values(isa, self.k, key_rows);
        let [keys, values] = [&*keys, &*values].map(#[inline(always)] |data| Panels { data, depth: dim });
        let key_rows = Panels { data: key_rows, depth: attended };
        for gradient in [&mut self.dk, &mut self.dv] {
            (0..length).for_each(#[inline(always)] |r| gradient.row_mut(r).fill(0.0));
        }
        let stride = padded_stride(attended);
        for first in (0..length).step_by(BLOCK) {
            let rows = first..length.min(first + BLOCK);
            let (q, dout) = (self.q.rows_of(rows.clone()), self.dout.rows_of(rows.clone()));
            let [mut p, mut ds] = [&mut *p, &mut *ds].map(#[inline(always)] |x| MatMut::new(x, rows.len(), attended, stride));
            multiply::<I, Float32>(isa, Rows::plain(q), keys, attended, Some(p.reborrow()), #[inline(always)] |_, _, _| ());
            multiply::<I, Float32>(isa, Rows::plain(dout), values, attended, Some(ds.reborrow()), #[inline(always)] |_, _, _| ());
            for r in 0..rows.len() {
                let dropout = self.dropout.map(#[inline(always)] |(d, row, step)| (d, row + (first + r) as u64 * step));
                row_backward(isa, self.scale, dropout, p.row_mut(r), ds.row_mut(r));
            }
            let (p, ds) = (p.view(), ds.view());
            let dq = self.dq.reborrow().into_block(rows, 0..dim);
            multiply::<I, Float32>(isa, Rows::plain(ds), key_rows, dim, Some(dq), #[inline(always)] |_, _, _| ());
            outer(isa, p, dout, self.dv.reborrow().into_block(0..attended, 0..dim));
            outer(isa, ds, q, self.dk.reborrow().into_block(0..attended, 0..dim));
        }
    }
}

/// A query's scores and the gradient of its weights -> its weights, after dropout, and the gradient of its scores.
#[inline(always)]
#[rustfmt::skip]
fn row_backward<I: Isa>(isa: I, scale: f32, dropout: Option<(Dropout, u64)>, p: &mut [f32], d: &mut [f32]) {
    softmax_row(isa, p, scale);
    if let Some((dropout, row)) = dropout {
        dropout.row(isa, row, d);
    }
    let [sum] = zip_sums(isa, [&*p, &*d], #[inline(always)] |[p, d]| [isa.mul(p, d)]);
    let (sum, scale) = (isa.splat(sum), isa.splat(scale));
    update(isa, [&mut *d], [&*p], #[inline(always)] |[d], [p]| [isa.mul(isa.mul(p, isa.sub(d, sum)), scale)]);
    if let Some((dropout, row)) = dropout {
        dropout.row(isa, row, p);
    }
}
