//! Attention of a few queries to keys and values in the cache, each query with its own list of them.
//!
//!   out = softmax(cap tanh(scale q K^T / cap) + bias) V
//!
//! Every key and value is read where it lies, once for all query heads of its group; nothing is packed, for memory is the limit.
//! A score is one sum in the order of the channels, an element of `out` one in the order of the list: so a query's row depends on its own
//! list alone, not on the queries beside it.

use super::heads::Bias;
use super::rules::Rules;
use super::{LEAST_SHARED, request};
use crate::gemm::Precision;
use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::key_values::{KeyValues, Side, row_channels};
use crate::mat::{Mat, MatMut, padded_stride};
use crate::rows::zip_map;
use crate::threads::{Disjoint, Threads};

/// Whose attention it is.
#[derive(Clone, Copy)]
pub struct Cached<'a> {
    pub cache: &'a KeyValues,
    /// (T,)
    pub queries: &'a [CachedQuery<'a>],
    /// A multiple of the cache's key heads: query head h reads head h / (heads / key_heads) of these.
    pub heads: usize,
    pub scale: f32,
    /// Scaled scores s become `cap tanh(s / cap)`.
    pub soft_cap: Option<f32>,
    /// By the distance between the places of a key and the query.
    pub bias: Option<Bias<'a>>,
}

/// What a query attends to.
#[derive(Clone, Copy)]
pub struct CachedQuery<'a> {
    /// The slots of the keys in its reach, in their order. Neighbouring queries whose slots begin in the same place in memory are taken
    /// together, while their keys are in the cache.
    pub slots: &'a [u32],
    /// Its own place, where the first slot has place 0: for the bias alone.
    pub position: usize,
}

/// Floats of scratch that each thread needs in [`attention_cached`], for lists of up to `length` slots.
pub fn attention_cached_scratch(heads: usize, key_heads: usize, head_dim: usize, length: usize) -> usize {
    heads / key_heads * (2 * row_channels(head_dim) + padded_stride(length))
}

/// q (T, heads x D) -> out (T, heads x D).
///
/// With `probabilities` (T x heads, width) the weights of query t and head h are written to the first columns of row t heads + h, as many
/// as it has slots; the others are left as they are. The accuracy is that of [`attention`](super::attention) in f32, of keys and values as
/// the cache holds them. NaN in a key goes to the rows of every query that has its slot, in a value to its channel of these. A query
/// without slots gets zeros.
///
/// # Panics
/// If the shapes disagree, there is no room for a slot, the bias does not reach, or `scratch` is shorter than `threads` times
/// [`attention_cached_scratch`].
pub fn attention_cached(
    level: Level,
    threads: &Threads,
    q: Mat,
    of: Cached,
    scratch: &mut [f32],
    probabilities: Option<MatMut>,
    out: MatMut,
) {
    let Cached { cache, queries, heads, .. } = of;
    let (key_heads, dim) = (cache.key_heads(), cache.head_dim());
    let (longest, work) = of.check(&q, &out);
    let group = heads / key_heads;
    let size = attention_cached_scratch(heads, key_heads, dim, longest);
    let width = probabilities.as_ref().map_or(0, MatMut::cols);
    let fits = |p: &MatMut| p.rows() == queries.len() * heads && longest <= width;
    assert!(probabilities.as_ref().is_none_or(fits), "attention_cached: probabilities");
    let probabilities = probabilities.map(Disjoint::new);
    let scratch = Disjoint::new(MatMut::dense(scratch, threads.count(), size));
    let out = Disjoint::new(out);
    let alone = Threads::serial();
    let threads = if work < LEAST_SHARED { &alone } else { threads };
    threads.for_each(queries.len() * key_heads, |rank, task| {
        let (first, key_head) = (task / key_heads, task % key_heads);
        // SAFETY: tasks that run together have different ranks.
        let mut scratch = unsafe { scratch.block(rank..rank + 1, 0..size) };
        for (t, query) in queries.iter().enumerate().skip(first).take(of.together(first)) {
            let own = key_head * group..(key_head + 1) * group;
            let columns = own.start * dim..own.end * dim;
            // SAFETY: each query is in one task for each key head, which has its own rows of probabilities and columns of out.
            let (mut out, probabilities) = unsafe {
                let rows = t * heads + own.start..t * heads + own.end;
                let probabilities = probabilities.as_ref().map(|p| p.block(rows, 0..query.slots.len()));
                (out.block(t..t + 1, columns.clone()), probabilities)
            };
            let q = &q.row(t)[columns];
            let (scratch, out) = (scratch.row_mut(0), out.row_mut(0));
            let rules = of.rules(own.start);
            let head = Head { cache, key_head, query: *query, rules, group, q, scratch, probabilities, out };
            dispatch_floats(level, head);
        }
    });
}

impl<'a> Cached<'a> {
    /// The longest list, and the multiply-adds in all.
    fn check(&self, q: &Mat, out: &MatMut) -> (usize, usize) {
        let (tokens, columns) = (self.queries.len(), self.heads * self.cache.head_dim());
        assert!(self.heads.is_multiple_of(self.cache.key_heads()), "attention_cached: heads");
        assert_eq!((q.rows(), q.cols()), (tokens, columns), "attention_cached: q");
        assert_eq!((out.rows(), out.cols()), (tokens, columns), "attention_cached: out");
        for query in self.queries {
            self.cache.check(query.slots);
            let reaches = |bias: Bias| {
                let ahead = query.slots.len().saturating_sub(query.position);
                query.position < bias.reach && ahead <= bias.reach
            };
            assert!(self.bias.is_none_or(reaches), "attention_cached: bias");
        }
        let whole = |bias: Bias| bias.table.len() == self.heads * bias.columns();
        assert!(self.bias.is_none_or(whole), "attention_cached: bias");
        let lengths = || self.queries.iter().map(|query| query.slots.len());
        (lengths().max().unwrap_or(0), lengths().sum::<usize>().saturating_mul(columns))
    }

    /// How many queries from t on are taken together; none where t is taken with those before it.
    fn together(&self, t: usize) -> usize {
        let place = |query: &CachedQuery| query.slots.as_ptr();
        let same = |a: usize, b: usize| std::ptr::eq(place(&self.queries[a]), place(&self.queries[b]));
        if t > 0 && same(t - 1, t) {
            return 0;
        }
        1 + (t + 1..self.queries.len()).take_while(|next| same(t, *next)).count()
    }

    /// Those of the query heads from `head` on.
    fn rules(&self, head: usize) -> Rules<'a> {
        let bias = self.bias.map(|bias| Mat::dense(bias.table, self.heads, bias.columns()).rows_of(head..self.heads));
        Rules { scale: self.scale, soft_cap: self.soft_cap, reach: [usize::MAX; 2], bias, dropout: None }
    }
}

/// One key head, and the heads of one query that read it, side by side.
struct Head<'a> {
    cache: &'a KeyValues,
    key_head: usize,
    query: CachedQuery<'a>,
    rules: Rules<'a>,
    group: usize,
    /// (group x D,)
    q: &'a [f32],
    scratch: &'a mut [f32],
    /// (group, L)
    probabilities: Option<MatMut<'a>>,
    /// (group x D,)
    out: &'a mut [f32],
}

impl Kernel for Head<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.cache.precision() {
            Precision::Float32 => self.attend::<I, false>(isa),
            _ => self.attend::<I, true>(isa),
        }
    }
}

impl Head<'_> {
    #[inline(always)]
    #[rustfmt::skip]
    fn attend<I: Isa, const BF16: bool>(mut self, isa: I) {
        let (dim, length) = (self.cache.head_dim(), self.query.slots.len());
        let (width, stride) = (row_channels(dim), padded_stride(length));
        let (q, rest) = self.scratch.split_at_mut(self.group * width);
        let (sums, scores) = rest.split_at_mut(self.group * width);
        let scores = &mut scores[..self.group * stride];
        for (row, q) in q.chunks_exact_mut(width).zip(self.q.chunks_exact(dim)) {
            row[..dim].copy_from_slice(q);
            row[dim..].fill(0.0);
        }
        let rows = Rows { cache: self.cache, key_head: self.key_head, slots: self.query.slots };
        rows.walk(isa, Side::Keys, #[inline(always)] |first, keys| {
            score::<I, BF16>(isa, q, width, keys, &mut scores[first..], stride);
        });
        let keys = 0..length;
        sums.fill(0.0);
        for head in 0..self.group {
            let row = &mut scores[head * stride..][..length];
            let inverse = 1.0 / self.rules.of_head(head).exp(isa, self.query.position, &keys, row);
            if let Some(probabilities) = &mut self.probabilities {
                let inverse = isa.splat(inverse);
                zip_map(isa, [&*row], probabilities.row_mut(head), #[inline(always)] |[x]| isa.mul(x, inverse));
            }
            // The queries are done with.
            q[head * width] = inverse;
        }
        rows.walk(isa, Side::Values, #[inline(always)] |first, values| {
            weigh::<I, BF16>(isa, &scores[first..], stride, values, sums, width);
        });
        for (head, (out, sums)) in self.out.chunks_exact_mut(dim).zip(sums.chunks_exact(width)).enumerate() {
            let inverse = isa.splat(q[head * width]);
            zip_map(isa, [sums], out, #[inline(always)] |[x]| isa.mul(x, inverse));
        }
    }
}

/// Rows that are handed on together.
const BLOCK: usize = 16;
/// Keys whose scores are computed side by side.
const KEYS: usize = 4;

/// The keys and values of one head in some slots.
struct Rows<'a> {
    cache: &'a KeyValues,
    key_head: usize,
    slots: &'a [u32],
}

impl Rows<'_> {
    /// Calls `visit(first, rows)` for all rows in order, a block at a time, and asks for the next block's.
    #[inline(always)]
    fn walk<I: Isa>(&self, isa: I, side: Side, mut visit: impl FnMut(usize, &[&[u32]])) {
        for first in (0..self.slots.len()).step_by(BLOCK) {
            let (block, rest) = self.slots[first..].split_at(BLOCK.min(self.slots.len() - first));
            for slot in rest.iter().take(BLOCK) {
                request(isa, self.cache.row(side, self.key_head, *slot));
            }
            let mut rows = [&[][..]; BLOCK];
            for (row, slot) in rows.iter_mut().zip(block) {
                *row = self.cache.row(side, self.key_head, *slot);
            }
            visit(first, &rows[..block.len()]);
        }
    }
}

/// Vector `i` of a row's channels.
///
/// # Safety
/// The row has as many.
#[inline(always)]
unsafe fn channels<I: Isa, const BF16: bool>(isa: I, row: &[u32], i: usize) -> I::V {
    // SAFETY: the caller's promise.
    unsafe {
        if BF16 {
            isa.low_bf16(isa.load_halves(row.as_ptr().cast::<u16>().add(i * I::LANES)))
        } else {
            isa.load(row.as_ptr().cast::<f32>().add(i * I::LANES))
        }
    }
}

/// Query heads that are computed together, where so many are left: as many as the registers hold.
#[inline(always)]
fn heads_at_once<I: Isa>(left: usize) -> usize {
    match (I::TILE_ROWS, left) {
        (14.., 4..) => 4,
        (_, 2..) => 2,
        _ => 1,
    }
}

/// The scores of the queries (group, width) for some keys, each query's `stride` after the one before, with room for whole fours.
#[inline(always)]
fn score<I: Isa, const BF16: bool>(
    isa: I,
    q: &[f32],
    width: usize,
    keys: &[&[u32]],
    scores: &mut [f32],
    stride: usize,
) {
    let group = q.len() / width;
    for first in (0..keys.len()).step_by(KEYS) {
        // At the end of the list its last key stands in for those that are not there; their scores are not read.
        let mut four = [keys[first]; KEYS];
        for (i, key) in four.iter_mut().enumerate() {
            *key = keys[(first + i).min(keys.len() - 1)];
        }
        let mut head = 0;
        while head < group {
            let heads = heads_at_once::<I>(group - head);
            let (q, scores) = (&q[head * width..], &mut scores[head * stride + first..]);
            match heads {
                4 if I::TILE_ROWS >= 14 => put(scores, stride, dots::<I, BF16, 4>(isa, q, width, four)),
                2 => put(scores, stride, dots::<I, BF16, 2>(isa, q, width, four)),
                _ => put(scores, stride, dots::<I, BF16, 1>(isa, q, width, four)),
            }
            head += heads;
        }
    }
}

#[inline(always)]
fn put<const G: usize>(scores: &mut [f32], stride: usize, dots: [[f32; KEYS]; G]) {
    for (g, dots) in dots.iter().enumerate() {
        scores[g * stride..][..KEYS].copy_from_slice(dots);
    }
}

/// The products of G queries, each `width` channels, with four keys.
#[inline(always)]
fn dots<I: Isa, const BF16: bool, const G: usize>(
    isa: I,
    q: &[f32],
    width: usize,
    keys: [&[u32]; KEYS],
) -> [[f32; KEYS]; G] {
    let words = if BF16 { width / 2 } else { width };
    assert!(q.len() >= G * width && keys.iter().all(|key| key.len() == words), "a tile inside its operands");
    let mut sums = [[isa.splat(0.0); KEYS]; G];
    for i in 0..width / I::LANES {
        let mut k = [isa.splat(0.0); KEYS];
        for (k, key) in k.iter_mut().zip(&keys) {
            // SAFETY: a vector of `width` channels.
            *k = unsafe { channels::<I, BF16>(isa, key, i) };
        }
        for (g, sums) in sums.iter_mut().enumerate() {
            // SAFETY: a vector of query g's channels.
            let q = unsafe { isa.load(q.as_ptr().add(g * width + i * I::LANES)) };
            for (sum, k) in sums.iter_mut().zip(k) {
                *sum = isa.mul_add(q, k, *sum);
            }
        }
    }
    let mut dots = [[0.0; KEYS]; G];
    for (dots, sums) in dots.iter_mut().zip(sums) {
        *dots = isa.sums(sums);
    }
    dots
}

/// Adds some values, times the weights that each head of the group has for them, to the group's sums (group, width).
#[inline(always)]
fn weigh<I: Isa, const BF16: bool>(
    isa: I,
    weights: &[f32],
    stride: usize,
    values: &[&[u32]],
    sums: &mut [f32],
    width: usize,
) {
    let (group, vectors) = (sums.len() / width, width / I::LANES);
    let mut head = 0;
    while head < group {
        let heads = heads_at_once::<I>(group - head);
        let mut at = 0;
        while at < vectors {
            let count = if vectors - at >= 4 { 4 } else { 1 };
            let (weights, sums) = (&weights[head * stride..], &mut sums[head * width..]);
            let tile = Tile { weights, stride, values, at, sums, width };
            match (heads, count) {
                (4, 4) if I::TILE_ROWS >= 14 => tile.add::<I, BF16, 4, 4>(isa),
                (4, _) if I::TILE_ROWS >= 14 => tile.add::<I, BF16, 4, 1>(isa),
                (2, 4) => tile.add::<I, BF16, 2, 4>(isa),
                (2, _) => tile.add::<I, BF16, 2, 1>(isa),
                (_, 4) => tile.add::<I, BF16, 1, 4>(isa),
                _ => tile.add::<I, BF16, 1, 1>(isa),
            }
            at += count;
        }
        head += heads;
    }
}

/// Some heads by some vectors of channels, from vector `at` on.
struct Tile<'a> {
    weights: &'a [f32],
    stride: usize,
    values: &'a [&'a [u32]],
    at: usize,
    sums: &'a mut [f32],
    width: usize,
}

impl Tile<'_> {
    #[inline(always)]
    fn add<I: Isa, const BF16: bool, const G: usize, const C: usize>(self, isa: I) {
        let Tile { weights, stride, values, at, sums, width } = self;
        let words = if BF16 { width / 2 } else { width };
        assert!((at + C) * I::LANES <= width && sums.len() >= G * width, "a tile inside its sums");
        assert!(weights.len() >= (G - 1) * stride + values.len(), "a tile inside its weights");
        let mut tile = [[isa.splat(0.0); C]; G];
        for (g, row) in tile.iter_mut().enumerate() {
            for (c, sum) in row.iter_mut().enumerate() {
                // SAFETY: vector at + c of head g's `width` channels.
                *sum = unsafe { isa.load(sums.as_ptr().add(g * width + (at + c) * I::LANES)) };
            }
        }
        for (j, value) in values.iter().enumerate() {
            assert!(value.len() == words, "a value of `width` channels");
            let mut v = [isa.splat(0.0); C];
            for (c, v) in v.iter_mut().enumerate() {
                // SAFETY: a vector of `width` channels.
                *v = unsafe { channels::<I, BF16>(isa, value, at + c) };
            }
            for (g, row) in tile.iter_mut().enumerate() {
                // SAFETY: head g's weight of value j.
                let weight = isa.splat(unsafe { *weights.as_ptr().add(g * stride + j) });
                for (sum, v) in row.iter_mut().zip(v) {
                    *sum = isa.mul_add(weight, v, *sum);
                }
            }
        }
        for (g, row) in tile.iter().enumerate() {
            for (c, sum) in row.iter().enumerate() {
                // SAFETY: as where it was loaded.
                unsafe { isa.store(sums.as_mut_ptr().add(g * width + (at + c) * I::LANES), *sum) };
            }
        }
    }
}
