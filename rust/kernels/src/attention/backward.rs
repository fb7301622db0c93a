//! The gradient of attention: of one head of one sequence at a time, on exact lengths, with probabilities computed anew.
//!
//!   P = softmax(scale Q K^T + bias),  O = (P m) V     m: dropout, 0 or 1 / (1 - p); 1 without
//!   dV = (P m)^T dO
//!   dP = (dO V^T) m
//!   dS = P (dP - rowsum(P dP))            times the slope of the cap, where there is one
//!   dbias = the sums of dS over all pairs at a distance
//!   dQ = scale dS K,  dK = scale dS^T Q
//!
//! block of queries by block: a block's P and dS stay in the second-level cache, and their sums over queries go on from one block to
//! the next in the order of the queries. (The formulas: Dao et al. 2022, arXiv 2205.14135, appendix B.2.)

use std::ops::Range;

use super::disentangled::{RelativeBackward, positions_backward_scratch};
use super::operands::Operands;
use super::rules::{Rules, distances, only};
use super::{BLOCK, Heads, LEAST_SHARED, pack_keys};
use crate::buffer::words_of_mut;
use crate::gemm::{Float32, Panels, Rows, multiply, outer};
use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::{Mat, MatMut, padded_stride};
use crate::rows::{map_in_place, update, zip_sums};
use crate::threads::{Disjoint, Threads};

/// Floats of scratch that each thread needs in [`attention_backward`], for sequences of up to `length` tokens. With positions there
/// is more: [`positions_backward_scratch`].
pub fn attention_backward_scratch(level: Level, length: usize, head_dim: usize) -> usize {
    Sizes::new(level.panel(), length, head_dim).floats()
}

/// Where the gradients go.
pub struct AttentionGradients<'a> {
    /// Of queries, keys and values, as these: written.
    pub qkv: [MatMut<'a>; 3],
    /// (heads, 2 reach - 1), of the bias: added.
    pub bias: Option<&'a mut [f32]>,
    /// (P, heads x D) each, of the positions' keys and queries: added.
    pub positions: [Option<MatMut<'a>>; 2],
}

impl<'a> From<[MatMut<'a>; 3]> for AttentionGradients<'a> {
    fn from(qkv: [MatMut<'a>; 3]) -> Self {
        AttentionGradients { qkv, bias: None, positions: [None, None] }
    }
}

/// The gradients of queries (T, heads x D), keys and values (T, key_heads x D each, or as many as `of.source` says) from that of what attention made of them,
/// `dout` (T, heads x D), and those of the bias and the positions, if they are wanted. Sums over queries, keys and the heads of a group are taken in a fixed
/// order, those of bias and positions over sequences too, so nothing depends on the threads, and but for these not on the other
/// sequences.
///
/// With u = 2^-23 and all magnitudes below 1, an element is within u (L + 2 D + 8) times the sum of the magnitudes of its terms.
///
/// # Panics
/// If the shapes disagree or `scratch` is shorter than `threads` times [`attention_backward_scratch`].
pub fn attention_backward<'a>(
    level: Level,
    threads: &Threads,
    qkv: [Mat; 3],
    of: Heads,
    dout: Mat,
    scratch: &mut [f32],
    gradients: impl Into<AttentionGradients<'a>>,
) {
    let AttentionGradients { qkv: dqkv, bias: dbias, positions: dpositions } = gradients.into();
    let (tokens, columns, heads, key_heads) = (dout.rows(), dout.cols(), of.heads, of.key_heads);
    let (sequences, keys, group, head_dim) = (of.sequences(), qkv[1].rows(), of.group(), columns / heads);
    let longest = of.longest(tokens, keys, columns);
    assert!(head_dim * heads == columns, "attention_backward: heads");
    for ((x, dx), (rows, heads)) in qkv.iter().zip(&dqkv).zip([(tokens, heads), (keys, key_heads), (keys, key_heads)]) {
        let shape = (rows, heads * head_dim);
        assert!((x.rows(), x.cols()) == shape, "attention_backward: q, k, v");
        assert!((dx.rows(), dx.cols()) == shape, "attention_backward: dq, dk, dv");
    }
    let distances = of.bias.map_or(0, |bias| bias.columns());
    assert!(
        dbias.as_ref().is_none_or(|d| of.bias.is_some() && d.len() == heads * distances),
        "attention_backward: dbias"
    );
    let positions = of.positions.map_or(0, |x| x.count());
    for dx in dpositions.iter().flatten() {
        assert!((dx.rows(), dx.cols()) == (positions, columns), "attention_backward: dpositions");
    }
    let sizes = Sizes::new(level.panel(), longest, head_dim);
    let more = of.positions.map_or(0, |_| positions_backward_scratch(level, longest, head_dim, positions));
    let one_order = dbias.is_some() || dpositions.iter().any(Option::is_some);
    let scratch = Disjoint::new(MatMut::dense(scratch, threads.count(), sizes.floats() + more));
    let dqkv = dqkv.map(Disjoint::new);
    let dpositions = dpositions.map(|x| x.map(Disjoint::new));
    let dbias = dbias.map(|dbias| Disjoint::new(MatMut::dense(dbias, heads, distances)));
    let task = |rank: usize, s: usize, key_head: usize| {
        let [rows, key_rows] = of.rows(s);
        let (heads, all_keys) = (key_head * group..(key_head + 1) * group, of.all_keys(s));
        let cols = heads.start * head_dim..heads.end * head_dim;
        let key_cols = key_head * head_dim..(key_head + 1) * head_dim;
        let (q, dout) = (qkv[0].block(rows.clone(), cols.clone()), dout.block(rows.clone(), cols.clone()));
        let [k, v] = [1, 2].map(|i| qkv[i].block(key_rows.clone(), key_cols.clone()));
        // SAFETY: tasks that run together have different ranks, and each its own rows and columns of the gradients; where there
        // are those of bias or positions, each its own heads.
        let (mut scratch, [dq, dk, dv], dbias, dpositions) = unsafe {
            let scratch = scratch.block(rank..rank + 1, 0..sizes.floats() + more);
            let [dq, dk, dv] = &dqkv;
            let (dq, [dk, dv]) =
                (dq.block(rows.clone(), cols.clone()), [dk, dv].map(|x| x.block(all_keys.clone(), key_cols.clone())));
            let dbias = dbias.as_ref().map(|x| x.block(heads.clone(), 0..distances));
            let own = |i: usize| dpositions[i].as_ref().map(|x| x.block(0..positions, cols.clone()));
            (scratch, [dq, dk, dv], dbias, [own(0), own(1)])
        };
        let rules = of.rules(s, heads.start);
        let (scratch, more) = scratch.row_mut(0).split_at_mut(sizes.floats());
        let relative = of.positions.map(|x| RelativeBackward::new(level, x, cols, rows.len(), k, more, dpositions));
        dispatch_floats(level, Head { group, q, k, v, dout, rules, relative, scratch, sizes, dq, dk, dv, dbias });
    };
    let alone = Threads::serial();
    let threads = if tokens * longest * columns < LEAST_SHARED { &alone } else { threads };
    if one_order {
        threads.for_each(key_heads, |rank, head| (0..sequences).for_each(|s| task(rank, s, head)));
    } else {
        threads.for_each(sequences * key_heads, |rank, i| task(rank, i / key_heads, i % key_heads));
    }
}

/// How the scratch space of one thread is divided.
#[derive(Clone, Copy)]
struct Sizes {
    /// Panels with keys as columns, and as large with values as columns.
    keys: usize,
    /// Panels with a key in each row.
    rows: usize,
    block: usize,
    slopes: usize,
}

impl Sizes {
    fn new(panel: usize, length: usize, head_dim: usize) -> Self {
        let panels = |columns: usize, depth: usize| columns.div_ceil(panel) * panel * (depth + 1);
        let (block, slopes) = (BLOCK.min(length) * padded_stride(length), padded_stride(length));
        Sizes { keys: panels(length, head_dim), rows: panels(head_dim, length), block, slopes }
    }

    fn floats(self) -> usize {
        2 * self.keys + self.rows + 2 * self.block + self.slopes
    }
}

/// One key head of one sequence, and the query heads that read it, side by side.
struct Head<'a> {
    group: usize,
    q: Mat<'a>,
    k: Mat<'a>,
    v: Mat<'a>,
    dout: Mat<'a>,
    rules: Rules<'a>,
    relative: Option<RelativeBackward<'a>>,
    scratch: &'a mut [f32],
    sizes: Sizes,
    dq: MatMut<'a>,
    dk: MatMut<'a>,
    dv: MatMut<'a>,
    /// (group, 2 reach - 1)
    dbias: Option<MatMut<'a>>,
}

impl Kernel for Head<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(mut self, isa: I) {
        let (length, attended, dim) = (self.q.rows(), self.k.rows(), self.k.cols());
        let (keys, rest) = self.scratch.split_at_mut(self.sizes.keys);
        let (values, rest) = rest.split_at_mut(self.sizes.keys);
        let (key_rows, rest) = rest.split_at_mut(self.sizes.rows);
        let (p, rest) = rest.split_at_mut(self.sizes.block);
        let (ds, slopes) = rest.split_at_mut(self.sizes.block);
        let (keys, values, key_rows) = (words_of_mut(keys), words_of_mut(values), words_of_mut(key_rows));
        pack_keys::<I, Float32>(isa, self.k, keys);
        pack_keys::<I, Float32>(isa, self.v, values);
        for gradient in [&mut self.dk, &mut self.dv] {
            (0..gradient.rows()).for_each(#[inline(always)] |r| gradient.row_mut(r).fill(0.0));
        }
        let mut packed = None;
        for first in (0..length).step_by(BLOCK) {
            let rows = first..length.min(first + BLOCK);
            let reached = self.rules.panels(rows.clone(), attended, I::PANEL);
            if packed.as_ref() != Some(&reached) {
                Float32::pack_values(isa, self.k.rows_of(reached.clone()), key_rows);
                packed = Some(reached.clone());
            }
            let [keys, values] = [&*keys, &*values].map(#[inline(always)] |all| {
                Panels { data: &all[reached.start * (dim + 1)..], depth: dim }
            });
            let key_rows = Panels { data: key_rows, depth: reached.len() };
            let (columns, stride) = (reached.len(), padded_stride(reached.len()));
            for head in 0..self.group {
                let (own, rules) = (head * dim..(head + 1) * dim, self.rules.of_head(head));
                let [q, dout] = [self.q, self.dout].map(#[inline(always)] |x| x.block(rows.clone(), own.clone()));
                let [mut p, mut ds] = [&mut *p, &mut *ds].map(#[inline(always)] |x| MatMut::new(x, rows.len(), columns, stride));
                multiply::<I, Float32>(isa, Rows::plain(q), keys, columns, Some(p.reborrow()), #[inline(always)] |_, _, _| ());
                if let Some(relative) = &mut self.relative {
                    relative.there.add(q, &rows, &reached, &mut p);
                }
                multiply::<I, Float32>(isa, Rows::plain(dout), values, columns, Some(ds.reborrow()), #[inline(always)] |_, _, _| ());
                for query in rows.clone() {
                    let keys = rules.keys(query..query + 1, attended);
                    let p = only(p.row_mut(query - first), reached.start, &keys);
                    let ds = only(ds.row_mut(query - first), reached.start, &keys);
                    let dbias = self.dbias.as_mut().map(#[inline(always)] |x| x.row_mut(head));
                    row_backward(isa, &rules, query, &keys, p, ds, &mut slopes[..keys.len()], dbias);
                }
                let (p, ds) = (p.view(), ds.view());
                let mut dq = self.dq.reborrow().into_block(rows.clone(), own);
                multiply::<I, Float32>(isa, Rows::plain(ds), key_rows, dim, Some(dq.reborrow()), #[inline(always)] |_, _, _| ());
                if let Some(relative) = &mut self.relative {
                    relative.add(q, &rows, &reached, ds, dq);
                }
                outer(isa, p, dout, self.dv.reborrow().into_block(reached.clone(), 0..dim));
                outer(isa, ds, q, self.dk.reborrow().into_block(reached.clone(), 0..dim));
            }
        }
        if let Some(relative) = self.relative {
            relative.finish(self.k, self.dk);
        }
    }
}

/// A query's scores and the gradient of its weights -> its weights, after dropout, and the gradient of its scores before these were
/// scaled and capped. `slopes` is room for as many keys.
#[inline(always)]
#[rustfmt::skip]
#[expect(clippy::too_many_arguments, reason = "one row of each operand")]
fn row_backward<I: Isa>(
    isa: I,
    rules: &Rules,
    query: usize,
    keys: &Range<usize>,
    p: &mut [f32],
    d: &mut [f32],
    slopes: &mut [f32],
    dbias: Option<&mut [f32]>,
) {
    rules.slopes(isa, p, slopes);
    let inverse = isa.splat(1.0 / rules.exp(isa, query, keys, p));
    map_in_place(isa, p, #[inline(always)] |x| isa.mul(x, inverse));
    rules.drop(isa, query, keys, d);
    let [sum] = zip_sums(isa, [&*p, &*d], #[inline(always)] |[p, d]| [isa.mul(p, d)]);
    let (sum, scale) = (isa.splat(sum), isa.splat(rules.scale));
    if let Some(dbias) = dbias {
        update(isa, [&mut *d], [&*p], #[inline(always)] |[d], [p]| [isa.mul(p, isa.sub(d, sum))]);
        let place = distances(dbias.len(), query, keys);
        update(isa, [&mut dbias[place]], [&*d], #[inline(always)] |[sum], [d]| [isa.add(sum, d)]);
        map_in_place(isa, d, #[inline(always)] |d| isa.mul(d, scale));
    } else {
        update(isa, [&mut *d], [&*p], #[inline(always)] |[d], [p]| [isa.mul(isa.mul(p, isa.sub(d, sum)), scale)]);
    }
    if rules.soft_cap.is_some() {
        update(isa, [d], [&*slopes], #[inline(always)] |[d], [slope]| [isa.mul(d, slope)]);
    }
    rules.drop(isa, query, keys, p);
}
