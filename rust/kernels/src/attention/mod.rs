//! Scaled dot-product attention, one head of one sequence at a time, on exact lengths.
//!
//!   out = softmax(scale Q K^T + bias) V        (what [`Positions`] add to that: disentangled.rs; what a cap makes of it: rules.rs)
//!
//! K is packed transposed and V as it is, into panels like those of weights; then for each block of queries
//!
//!   scores (block, L) = Q K^T;  e^(scale (score - max)) and their sum, row by row;  out (block, D) = these V / sum
//!
//! by the matrix product's own tiles, in f32 or in bf16. A block's scores stay in the second-level cache; there is no (L, L) tensor, no
//! padding and no mask. Where queries do not reach all keys a block has the panels of those that any of its queries reaches, and V is
//! packed for each block; zeros stand where a query reaches less. Else a query's row does not depend on the block that it falls into.
//! (Vaswani et al. 2017, arXiv 1706.03762.)

mod backward;
#[cfg(test)]
mod backward_contract;
mod cached;
#[cfg(test)]
mod cached_contract;
#[cfg(test)]
mod contract;
mod disentangled;
mod heads;
mod operands;
#[cfg(test)]
mod options_contract;
mod rules;
#[cfg(test)]
mod source_contract;

pub use backward::{AttentionGradients, attention_backward, attention_backward_scratch};
pub use cached::{Cached, CachedQuery, attention_cached, attention_cached_scratch};
use disentangled::Relative;
pub use disentangled::{Positions, positions_backward_scratch, positions_scratch};
pub use heads::{Bias, Heads};
use operands::Operands;
use rules::{Rules, only};

use crate::buffer::words_of_mut;
use crate::gemm::{Bf16, Float32, Panels, Rows, multiply};
use std::ops::Range;

use crate::isa::{Isa, Kernel, Level, dispatch, dispatch_floats};
use crate::mat::{Mat, MatMut, padded_stride};
use crate::rows::map_in_place;
use crate::threads::{Disjoint, Threads};

/// Queries whose scores are held at a time; a multiple of every ISA's tile height but the scalar one.
const BLOCK: usize = 42;

/// Where attention probabilities are wanted: (S, heads, width, width of keys), of which the rows and columns that hold a token are
/// written.
pub struct Probabilities<'a> {
    pub out: &'a mut [f32],
    pub width: usize,
    /// (T,): where each token stands in its padded row.
    pub columns: &'a [usize],
    /// The two of the keys, where these are another's.
    pub source: Option<(usize, &'a [usize])>,
}

/// Where those of a sequence stand: the places of its queries in columns, and those of its keys in rows of so many.
#[derive(Clone, Copy)]
struct Places<'a> {
    queries: &'a [usize],
    keys: &'a [usize],
    width: usize,
}

/// Floats of scratch that each thread needs in [`attention`], for sequences of up to `length` tokens. With positions there is more:
/// [`positions_scratch`].
pub fn attention_scratch(level: Level, length: usize, head_dim: usize) -> usize {
    Scratch::new(level.panel(), length, head_dim).floats()
}

/// Queries, keys and values.
#[derive(Clone, Copy)]
pub enum Qkv<'a> {
    /// (T, heads x D), and twice (T, key_heads x D).
    Floats([Mat<'a>; 3]),
    /// In bf16, two channels a word: of half as many columns. D is even, and the CPU multiplies bf16.
    Bf16([Mat<'a, u32>; 3]),
}

/// Multi-head attention over each sequence alone: q (T, heads x D), k and v (T, key_heads x D), or as many as `heads.source` says
/// -> out (T, heads x D).
///
/// With `probabilities` the weights are written too (as they are before dropout).
/// With R = u (4 + scale D max |q| max |k| + max |bias|), where products with positions count like q and k, and u = 2^-23, a
/// probability is within 2 R of itself and an element of `out` within R max |v| of the exact value. From operands in bf16 both
/// products are of numbers rounded to that, and u = 2^-8. NaN in a key goes to every row of its sequence and head that reaches it, in a
/// value to its column of the rows of every block of which one does, in a query to its own row. A query that reaches no key gets
/// zeros.
///
/// # Panics
/// If the shapes disagree or `scratch` is shorter than `threads` times [`attention_scratch`].
pub fn attention(
    level: Level,
    threads: &Threads,
    qkv: Qkv,
    heads: Heads,
    scratch: &mut [f32],
    probabilities: Option<Probabilities>,
    out: MatMut,
) {
    let call = Call { level, threads, heads, scratch, probabilities, out };
    match qkv {
        Qkv::Floats(qkv) => call.run(qkv, 1, |mut head| {
            let (dim, scratch) = (head.k.cols(), std::mem::take(&mut head.more_scratch));
            let columns = head.first * dim..(head.first + 1) * dim;
            let relative = heads.positions.map(|p| Relative::new(level, p, columns, head.q.rows(), head.k, scratch));
            dispatch_floats(level, InFloats(head, relative));
        }),
        Qkv::Bf16(qkv) => {
            assert!(level.has_bf16(), "attention: bf16 on an instruction set without");
            assert!(heads.positions.is_none(), "attention: positions and bf16");
            call.run(qkv, 2, |head| dispatch(level, InBf16(head)));
        }
    }
}

struct Call<'a> {
    level: Level,
    threads: &'a Threads,
    heads: Heads<'a>,
    scratch: &'a mut [f32],
    probabilities: Option<Probabilities<'a>>,
    out: MatMut<'a>,
}

impl Call<'_> {
    /// All heads of all sequences by `attend`; the operands have so many channels a word.
    fn run<X: Copy + Sync>(self, qkv: [Mat<X>; 3], per_word: usize, attend: impl Fn(Head<X>) + Sync) {
        let Call { level, threads, heads: of, scratch, probabilities, out } = self;
        let (heads, key_heads, tokens, columns) = (of.heads, of.key_heads, out.rows(), out.cols());
        let keys = qkv[1].rows();
        let (longest, group, head_dim) = (of.longest(tokens, keys, columns), of.group(), columns / heads);
        assert!(head_dim * heads == columns && head_dim.is_multiple_of(per_word), "attention: heads");
        for (x, (rows, heads)) in qkv.iter().zip([(tokens, heads), (keys, key_heads), (keys, key_heads)]) {
            assert!((x.rows(), x.cols() * per_word) == (rows, heads * head_dim), "attention: q, k, v and out");
        }
        let sizes = Scratch::new(level.panel(), longest, head_dim);
        let more = of.positions.map_or(0, |x| positions_scratch(level, longest, head_dim, x.count()));
        let own = probabilities.as_ref().map_or((0, &[][..]), |p| (p.width, p.columns));
        let (width, key_places) = probabilities.as_ref().and_then(|p| p.source).unwrap_or(own);
        let square = own.0 * width;
        let probabilities = probabilities.map(|p| Disjoint::new(MatMut::dense(p.out, of.sequences() * heads, square)));
        let scratch = Disjoint::new(MatMut::dense(scratch, threads.count(), sizes.floats() + more));
        let out = Disjoint::new(out);
        let alone = Threads::serial();
        let threads = if tokens * longest * columns < LEAST_SHARED { &alone } else { threads };
        threads.for_each(of.sequences() * key_heads, |rank, task| {
            let (s, key_head) = (task / key_heads, task % key_heads);
            let ([rows, key_rows], first) = (of.rows(s), key_head * group);
            let cols = |head: usize, count: usize, per_word: usize| {
                head * head_dim / per_word..(head + count) * head_dim / per_word
            };
            let q = qkv[0].block(rows.clone(), cols(first, group, per_word));
            let [k, v] = [1, 2].map(|i| qkv[i].block(key_rows.clone(), cols(key_head, 1, per_word)));
            // SAFETY: tasks that run together have different ranks, and each its own rows and columns of out and its own
            // rows of probabilities.
            let (mut scratch, probabilities, out) = unsafe {
                let squares = s * heads + first..s * heads + first + group;
                let own = probabilities.as_ref().map(|p| p.block(squares, 0..square));
                let out = out.block(rows.clone(), cols(first, group, 1));
                (scratch.block(rank..rank + 1, 0..sizes.floats() + more), own, out)
            };
            let places = |p| (p, Places { queries: &own.1[rows], keys: &key_places[key_rows], width });
            let probabilities = probabilities.map(places);
            let rules = of.rules(s, first);
            let (scratch, more_scratch) = scratch.row_mut(0).split_at_mut(sizes.floats());
            attend(Head { first, group, q, k, v, rules, scratch, more_scratch, sizes, probabilities, out });
        });
    }
}

/// Multiply-adds below which attention is not worth a second thread.
const LEAST_SHARED: usize = 1 << 17;

/// How the scratch space of one thread is divided, in words.
#[derive(Clone, Copy)]
struct Scratch {
    keys: usize,
    values: usize,
    scores: usize,
    narrow: usize,
}

impl Scratch {
    fn new(panel: usize, length: usize, head_dim: usize) -> Self {
        let panels = |columns: usize, depth: usize| columns.div_ceil(panel) * panel * (depth + 1);
        let rows = BLOCK.min(length);
        let narrow = rows * padded_stride(length.max(head_dim).div_ceil(2));
        let scores = rows * padded_stride(length);
        Scratch { keys: panels(length, head_dim), values: panels(head_dim, length), scores, narrow }
    }

    fn floats(self) -> usize {
        self.keys + self.values + self.scores + self.narrow
    }
}

/// One key head of one sequence, and the query heads that read it, side by side.
struct Head<'a, X> {
    /// The first of these.
    first: usize,
    group: usize,
    q: Mat<'a, X>,
    k: Mat<'a, X>,
    v: Mat<'a, X>,
    rules: Rules<'a>,
    scratch: &'a mut [f32],
    /// For positions.
    more_scratch: &'a mut [f32],
    sizes: Scratch,
    /// (group, width x width of keys), and where in that those of the sequence stand.
    probabilities: Option<(MatMut<'a>, Places<'a>)>,
    out: MatMut<'a>,
}

impl<X: Copy> Head<'_, X> {
    /// `add(q, queries, keys, scores)` adds something to the scores of some queries for some keys.
    #[inline(always)]
    #[rustfmt::skip]
    fn attend<I: Isa, F: Operands<I, X = X>>(
        mut self,
        isa: I,
        mut add: impl FnMut(Mat<X>, &Range<usize>, &Range<usize>, &mut MatMut),
    ) {
        let (length, attended, depth) = (self.q.rows(), self.k.rows(), self.k.cols());
        let dim = self.out.cols() / self.group;
        let (keys, rest) = self.scratch.split_at_mut(self.sizes.keys);
        let (values, rest) = rest.split_at_mut(self.sizes.values);
        let (scores, narrow) = rest.split_at_mut(self.sizes.scores);
        let (keys, values, narrow) = (words_of_mut(keys), words_of_mut(values), words_of_mut(narrow));
        pack_keys::<I, F>(isa, self.k, keys);
        let mut packed = None;
        for first in (0..length).step_by(BLOCK) {
            let rows = first..length.min(first + BLOCK);
            let reached = self.rules.panels(rows.clone(), attended, I::PANEL);
            if packed.as_ref() != Some(&reached) {
                F::pack_values(isa, self.v.rows_of(reached.clone()), values);
                packed = Some(reached.clone());
            }
            let keys = Panels { data: &keys[reached.start * (depth + 1)..], depth };
            let values = Panels { data: values, depth: reached.len().div_ceil(F::PER_WORD) };
            let (columns, stride) = (reached.len(), padded_stride(reached.len()));
            for head in 0..self.group {
                let q = self.q.block(0..length, head * depth..(head + 1) * depth);
                let mut block = MatMut::new(scores, rows.len(), columns, stride);
                rows.clone().for_each(#[inline(always)] |r| ask::<I, F>(isa, q, r + BLOCK));
                let q = q.rows_of(rows.clone());
                multiply::<I, F>(isa, Rows::plain(q), keys, columns, Some(block.reborrow()), #[inline(always)] |_, _, _| ());
                add(q, &rows, &reached, &mut block);
                let wanted = self.probabilities.as_mut().map(#[inline(always)] |(p, places)| (p.row_mut(head), *places));
                let inverses = weigh(isa, self.rules.of_head(head), rows.clone(), attended, reached.start, block, wanted);
                let weights = Rows::plain(F::rows(isa, Mat::new(scores, rows.len(), columns, stride), narrow));
                let out = self.out.reborrow().into_block(rows.clone(), head * dim..(head + 1) * dim);
                multiply::<I, F>(isa, weights, values, dim, Some(out), #[inline(always)] |tile, rows, _| {
                    for (i, inverse) in inverses[rows].iter().enumerate() {
                        let inverse = isa.splat(*inverse);
                        map_in_place(isa, tile.row_mut(i), #[inline(always)] |x| isa.mul(x, inverse));
                    }
                });
            }
        }
    }
}

/// The scores of some queries for the keys from one on -> their weights, which are still to be multiplied by what this returns.
#[inline(always)]
fn weigh<I: Isa>(
    isa: I,
    rules: Rules,
    queries: Range<usize>,
    attended: usize,
    first_key: usize,
    mut scores: MatMut,
    mut probabilities: Option<(&mut [f32], Places)>,
) -> [f32; BLOCK] {
    let mut inverses = [0.0; BLOCK];
    // Apart, for then all rows have one length, and what follows from it is computed once.
    if rules.unlimited() {
        let keys = 0..attended;
        for ((r, query), inverse) in queries.enumerate().zip(&mut inverses) {
            *inverse = weigh_row(isa, &rules, query, &keys, attended, scores.row_mut(r), &mut probabilities);
        }
    } else {
        for ((r, query), inverse) in queries.enumerate().zip(&mut inverses) {
            let keys = rules.keys(query..query + 1, attended);
            let row = only(scores.row_mut(r), first_key, &keys);
            *inverse = weigh_row(isa, &rules, query, &keys, attended, row, &mut probabilities);
        }
    }
    inverses
}

#[inline(always)]
fn weigh_row<I: Isa>(
    isa: I,
    rules: &Rules,
    query: usize,
    keys: &Range<usize>,
    attended: usize,
    row: &mut [f32],
    probabilities: &mut Option<(&mut [f32], Places)>,
) -> f32 {
    let inverse = 1.0 / rules.exp(isa, query, keys, row);
    if let Some((out, places)) = probabilities {
        let out = &mut out[places.queries[query] * places.width..][..places.width];
        scatter(row, inverse, &places.keys[..attended], keys, out);
    }
    rules.drop(isa, query, keys, row);
    inverse
}

struct InFloats<'a>(Head<'a, f32>, Option<Relative<'a>>);

impl Kernel for InFloats<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(mut self, isa: I) {
        self.0.attend::<I, Float32>(isa, #[inline(always)] |q, queries, keys, scores| {
            if let Some(relative) = &mut self.1 {
                relative.add(q, queries, keys, scores);
            }
        });
    }
}

struct InBf16<'a>(Head<'a, u32>);

impl Kernel for InBf16<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(self, isa: I) {
        if I::HAS_BF16 {
            self.0.attend::<I, Bf16>(isa, #[inline(always)] |_, _, _, _| ());
        }
    }
}

/// `inverse` times the weights of some keys, and zeros for the others, to where these stand in a padded row.
fn scatter(weights: &[f32], inverse: f32, columns: &[usize], keys: &Range<usize>, out: &mut [f32]) {
    for column in columns[..keys.start].iter().chain(&columns[keys.end..]) {
        out[*column] = 0.0;
    }
    for (x, column) in weights.iter().zip(&columns[keys.clone()]) {
        out[*column] = *x * inverse;
    }
}

/// A head's rows lie far apart, which no hardware foresees: each is asked for so many rows before it is read.
const AHEAD: usize = 8;

/// Asks for row `r`, if there is one.
#[inline(always)]
fn ask<I: Isa, F: Operands<I>>(isa: I, x: Mat<F::X>, r: usize) {
    if r < x.rows() {
        request(isa, F::words(x.row(r)));
    }
}

#[inline(always)]
fn request<I: Isa>(isa: I, words: &[u32]) {
    const LINE: usize = 16;
    words.chunks(LINE).for_each(
        #[inline(always)]
        |line| isa.prefetch(line.as_ptr()),
    );
}

/// Panels of keys as columns: a row of zeros to begin the sums, then each word of every key.
#[inline(always)]
fn pack_keys<I: Isa, F: Operands<I>>(isa: I, k: Mat<F::X>, out: &mut [u32]) {
    let panels = k.rows().div_ceil(I::PANEL);
    for (p, panel) in out.chunks_exact_mut((k.cols() + 1) * I::PANEL).take(panels).enumerate() {
        let first = p * I::PANEL;
        let count = I::PANEL.min(k.rows() - first);
        panel[..I::PANEL].fill(0);
        for j in 0..count {
            ask::<I, F>(isa, k, first + j + AHEAD);
            for (out, word) in panel[I::PANEL..].chunks_exact_mut(I::PANEL).zip(F::words(k.row(first + j))) {
                out[j] = *word;
            }
        }
        for row in panel.chunks_exact_mut(I::PANEL) {
            row[count..].fill(0);
        }
    }
}
