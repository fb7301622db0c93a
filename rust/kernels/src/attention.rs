//! Scaled dot-product attention, one head of one sequence at a time, on exact lengths.
//!
//!   out = softmax(scale Q K^T) V
//!
//! K is packed transposed and V as it is, into panels like those of weights; then for each block of queries
//!
//!   scores (block, L) = Q K^T;  softmax of each row;  out (block, D) = scores V
//!
//! by the matrix product's own tiles. A block's scores stay in the second-level cache; there is no (L, L) tensor, no
//! padding and no mask. A query's row does not depend on the block that it falls into.
//! (Vaswani et al. 2017, arXiv 1706.03762.)

use crate::gemm::{Panels, multiply};
use crate::isa::{Isa, Kernel, Level, dispatch};
use crate::mat::{Mat, MatMut, padded_stride};
use crate::softmax::softmax_row;
use crate::threads::{Disjoint, Threads};

/// Queries whose scores are held at a time; a multiple of every ISA's tile height but the scalar one.
const BLOCK: usize = 42;

/// Where attention probabilities are wanted: (S, heads, width, width), of which the rows and columns that hold a token are
/// written.
pub struct Probabilities<'a> {
    pub out: &'a mut [f32],
    pub width: usize,
    /// (T,): where each token stands in its padded row.
    pub columns: &'a [usize],
}

/// Floats of scratch that each thread needs in [`attention`], for sequences of up to `length` tokens.
pub fn attention_scratch(level: Level, length: usize, head_dim: usize) -> usize {
    Scratch::new(level.panel(), length, head_dim).floats()
}

/// Multi-head self-attention over each sequence alone: q, k, v (T, heads x D) -> out (T, heads x D).
///
/// Sequence s has the rows `starts[s] - starts[0]..starts[s + 1] - starts[0]`. With `probabilities` the weights are written too.
/// With R = 2^-23 (4 + scale D max |q| max |k|), a probability is within 2 R of itself and an element of `out` within
/// R max |v| of the exact value. NaN in a key reaches every row of its sequence and head, in a value its column of these,
/// in a query its own row.
///
/// # Panics
/// If the shapes disagree or `scratch` is shorter than `threads` times [`attention_scratch`].
#[expect(clippy::too_many_arguments, reason = "the operands of attention, each by its own name")]
pub fn attention(
    level: Level,
    threads: &Threads,
    [q, k, v]: [Mat; 3],
    heads: usize,
    starts: &[usize],
    scale: f32,
    scratch: &mut [f32],
    probabilities: Option<Probabilities>,
    out: MatMut,
) {
    assert!(starts.is_sorted(), "attention: starts");
    let (base, sequences) = (starts[0], starts.len() - 1);
    let shape = (starts[sequences] - base, out.cols());
    assert!(
        [q, k, v].iter().all(|x| (x.rows(), x.cols()) == shape) && out.rows() == shape.0,
        "attention: q, k, v and out"
    );
    let head_dim = shape.1 / heads;
    assert_eq!(head_dim * heads, shape.1, "attention: heads");
    let longest = starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    let sizes = Scratch::new(level.panel(), longest, head_dim);
    let width = probabilities.as_ref().map_or(0, |p| p.width);
    let columns = probabilities.as_ref().map_or(&[][..], |p| p.columns);
    let probabilities = probabilities.map(|p| Disjoint::new(MatMut::dense(p.out, sequences * heads, width.pow(2))));
    let scratch = Disjoint::new(MatMut::dense(scratch, threads.count(), sizes.floats()));
    let out = Disjoint::new(out);
    let alone = Threads::serial();
    let threads = if shape.0 * longest * shape.1 < LEAST_SHARED { &alone } else { threads };
    threads.for_each(sequences * heads, |rank, task| {
        let (s, head) = (task / heads, task % heads);
        let rows = starts[s] - base..starts[s + 1] - base;
        let cols = head * head_dim..(head + 1) * head_dim;
        let [q, k, v] = [q, k, v].map(|x| x.block(rows.clone(), cols.clone()));
        // SAFETY: tasks that run together have different ranks, and each its own rows and columns of out and its own
        // row of probabilities.
        let (mut scratch, mut probabilities, out) = unsafe {
            let own = probabilities.as_ref().map(|p| p.block(task..task + 1, 0..width.pow(2)));
            (scratch.block(rank..rank + 1, 0..sizes.floats()), own, out.block(rows.clone(), cols))
        };
        let probabilities = probabilities.as_mut().map(|p| (p.row_mut(0), &columns[rows]));
        let (scratch, sizes) = (scratch.row_mut(0), sizes);
        dispatch(level, Head { q, k, v, scale, scratch, sizes, probabilities, out });
    });
}

/// Multiply-adds below which attention is not worth a second thread.
const LEAST_SHARED: usize = 1 << 17;

/// How the scratch space of one thread is divided.
#[derive(Clone, Copy)]
struct Scratch {
    keys: usize,
    values: usize,
    scores: usize,
}

impl Scratch {
    fn new(panel: usize, length: usize, head_dim: usize) -> Self {
        let panels = |columns: usize, depth: usize| columns.div_ceil(panel) * panel * (depth + 1);
        let scores = BLOCK.min(length) * padded_stride(length);
        Scratch { keys: panels(length, head_dim), values: panels(head_dim, length), scores }
    }

    fn floats(self) -> usize {
        self.keys + self.values + self.scores
    }
}

struct Head<'a> {
    q: Mat<'a>,
    k: Mat<'a>,
    v: Mat<'a>,
    scale: f32,
    scratch: &'a mut [f32],
    sizes: Scratch,
    /// (width, width), and the columns of the sequence's tokens.
    probabilities: Option<(&'a mut [f32], &'a [usize])>,
    out: MatMut<'a>,
}

impl Kernel for Head<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(mut self, isa: I) {
        let (length, dim) = (self.q.rows(), self.q.cols());
        let (keys, rest) = self.scratch.split_at_mut(self.sizes.keys);
        let (values, scores) = rest.split_at_mut(self.sizes.values);
        pack_keys::<I>(self.k, keys);
        pack_values::<I>(self.v, values);
        let (keys, values) = (Panels { data: keys, depth: dim }, Panels { data: values, depth: length });
        let stride = padded_stride(length);
        for first in (0..length).step_by(BLOCK) {
            let rows = first..length.min(first + BLOCK);
            let mut block = MatMut::new(scores, rows.len(), length, stride);
            multiply(isa, self.q.rows_of(rows.clone()), keys, &mut block, #[inline(always)] |_, _, _| ());
            for r in 0..rows.len() {
                softmax_row(isa, block.row_mut(r), self.scale);
                if let Some((out, columns)) = &mut self.probabilities {
                    scatter(block.row_mut(r), columns, first + r, out);
                }
            }
            let scores = Mat::new(scores, rows.len(), length, stride);
            let mut out = self.out.reborrow().into_block(rows, 0..dim);
            multiply(isa, scores, values, &mut out, #[inline(always)] |_, _, _| ());
        }
    }
}

/// Row `r` of the probabilities to where its token and the others stand in the padded square.
fn scatter(row: &[f32], columns: &[usize], r: usize, out: &mut [f32]) {
    let width = out.len().isqrt();
    let out = &mut out[columns[r] * width..][..width];
    for (x, column) in row.iter().zip(columns) {
        out[*column] = *x;
    }
}

/// Panels of keys as columns: a row of zeros to begin the sums, then element d of each key.
#[inline(always)]
fn pack_keys<I: Isa>(k: Mat, out: &mut [f32]) {
    let dim = k.cols();
    let panels = k.rows().div_ceil(I::PANEL);
    for (p, panel) in out.chunks_exact_mut((dim + 1) * I::PANEL).take(panels).enumerate() {
        let first = p * I::PANEL;
        let count = I::PANEL.min(k.rows() - first);
        panel[..I::PANEL].fill(0.0);
        for j in 0..count {
            for (out, x) in panel[I::PANEL..].chunks_exact_mut(I::PANEL).zip(k.row(first + j)) {
                out[j] = *x;
            }
        }
        for row in panel.chunks_exact_mut(I::PANEL) {
            row[count..].fill(0.0);
        }
    }
}

/// Panels of value columns: a row of zeros to begin the sums, then each value's part.
#[inline(always)]
fn pack_values<I: Isa>(v: Mat, out: &mut [f32]) {
    let panels = v.cols().div_ceil(I::PANEL);
    for (p, panel) in out.chunks_exact_mut((v.rows() + 1) * I::PANEL).take(panels).enumerate() {
        let first = p * I::PANEL;
        let count = I::PANEL.min(v.cols() - first);
        let (zeros, rows) = panel.split_at_mut(I::PANEL);
        zeros.fill(0.0);
        for (r, row) in rows.chunks_exact_mut(I::PANEL).enumerate() {
            row[..count].copy_from_slice(&v.row(r)[first..first + count]);
            row[count..].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, Random, assert_same_bits, for_every_level, lanes, nans};

    const UNTOUCHED: f32 = -7.0;

    /// q, k, v (T, heads x D), dense, of sequences of the given lengths.
    #[derive(Clone, Debug)]
    struct Operands {
        lengths: Vec<usize>,
        heads: usize,
        dim: usize,
        qkv: [Vec<f32>; 3],
        scale: f32,
    }

    impl Operands {
        fn random(lengths: &[usize], heads: usize, dim: usize) -> Self {
            let tokens = lengths.iter().sum::<usize>();
            let mut random = Random((tokens * 1000 + dim) as u64);
            let qkv = std::array::from_fn(|_| random.floats(tokens * heads * dim));
            Operands { lengths: lengths.to_vec(), heads, dim, qkv, scale: 1.0 / (dim as f32).sqrt() }
        }

        fn columns(&self) -> usize {
            self.heads * self.dim
        }

        /// One head of one sequence, dense.
        fn part(&self, xs: &[f32], sequence: usize, head: usize) -> Vec<f32> {
            let first = self.lengths[..sequence].iter().sum::<usize>();
            let rows = xs.chunks(self.columns()).skip(first).take(self.lengths[sequence]);
            rows.flat_map(|row| row[head * self.dim..][..self.dim].to_vec()).collect()
        }

        /// Through operands whose rows lie `gap` apart and off every cache line; gives also the probabilities, if asked
        /// for, each sequence's on the right of its padded rows.
        fn attend(
            &self,
            level: Level,
            threads: usize,
            weights: bool,
            gap: usize,
            offset: usize,
        ) -> (Vec<f32>, Vec<f32>) {
            let (tokens, width) = (self.qkv[0].len() / self.columns(), self.width());
            let [q, k, v] = [0, 1, 2].map(|i| Guarded::new(&self.qkv[i], tokens, self.columns(), gap, offset + i));
            let mut out = Guarded::output(tokens, self.columns(), gap, offset);
            let starts: Vec<usize> =
                (0..=self.lengths.len()).map(|s| 100 + self.lengths[..s].iter().sum::<usize>()).collect();
            let columns: Vec<usize> = self.lengths.iter().flat_map(|length| width - length..width).collect();
            let mut p = Guarded::row(&vec![UNTOUCHED; self.lengths.len() * self.heads * width * width], offset);
            let given = weights.then(|| Probabilities { out: p.slice(), width, columns: &columns });
            // No longer than was asked for, and full of poison.
            let mut scratch = Guarded::output(1, threads * attention_scratch(level, width, self.dim), 0, offset);
            attention(
                level,
                &Threads::new(threads),
                [q.mat(), k.mat(), v.mat()],
                self.heads,
                &starts,
                self.scale,
                scratch.slice(),
                given,
                out.mat_mut(),
            );
            (p.values(), out.values())
        }

        fn width(&self) -> usize {
            self.lengths.iter().copied().max().unwrap_or(0)
        }

        /// The probabilities of one head of one sequence, without the padding, which must be untouched.
        fn unpadded(&self, p: &[f32], sequence: usize, head: usize) -> Vec<f32> {
            let (width, length) = (self.width(), self.lengths[sequence]);
            let square = &p[(sequence * self.heads + head) * width * width..][..width * width];
            let (padding, rows) = square.split_at((width - length) * width);
            let rows: Vec<_> = rows.chunks(width.max(1)).map(|row| row.split_at(width - length)).collect();
            assert!(padding.iter().chain(rows.iter().flat_map(|row| row.0)).all(|x| *x == UNTOUCHED));
            rows.into_iter().flat_map(|row| row.1.to_vec()).collect()
        }

        /// As stated.
        fn check(&self, level: Level, threads: usize) {
            let (p, out) = self.attend(level, threads, true, 3, 1);
            for (s, head) in (0..self.lengths.len()).flat_map(|s| (0..self.heads).map(move |head| (s, head))) {
                let [q, k, v] = [0, 1, 2].map(|i| self.part(&self.qkv[i], s, head));
                let (exact_p, exact_out) = naive::attention(&q, &k, &v, self.dim, self.dim, self.scale);
                let largest = |xs: &[f32]| xs.iter().fold(0f64, |a, b| a.max(f64::from(b.abs())));
                let score = f64::from(self.scale) * self.dim as f64 * largest(&q) * largest(&k);
                let (p, out) = (self.unpadded(&p, s, head), self.part(&out, s, head));
                let rounding = 2f64.powi(-23) * (4.0 + score);
                for (got, exact) in p.iter().zip(exact_p) {
                    let error = (f64::from(*got) - exact).abs();
                    assert!(
                        error <= 2.0 * rounding * exact,
                        "{} x {}: {got:e}, not {exact:e}",
                        self.lengths[s],
                        self.dim
                    );
                }
                for (got, exact) in out.iter().zip(exact_out) {
                    let error = (f64::from(*got) - exact).abs();
                    let allowed = rounding * largest(&v);
                    assert!(error <= allowed, "{} x {}: {got:e}, not {exact:e}", self.lengths[s], self.dim);
                }
            }
        }
    }

    const DIMS: [usize; 6] = [1, 3, 8, 24, 32, 64];

    #[test]
    fn the_stated_accuracy_is_kept() {
        for_every_level(|level| {
            for dim in DIMS {
                for length in (1..=50).chain([100, 129]) {
                    let mut operands = Operands::random(&[length], 1, dim);
                    operands.check(level, 1);
                    operands.qkv[0].iter_mut().for_each(|q| *q *= 16.0);
                    operands.check(level, 1);
                }
            }
            Operands::random(&[7, 0, 30, 512, 1, 43], 3, 20).check(level, 3);
        });
    }

    #[test]
    fn alignment_threads_and_wanted_probabilities_change_nothing() {
        for_every_level(|level| {
            for dim in [1, 8, 20] {
                let operands = Operands::random(&[3, 45, 1, 0, 17], 3, dim);
                let (p, out) = operands.attend(level, 1, true, 0, 0);
                for offset in 0..lanes(level) {
                    let threads = 1 + offset % 3;
                    let got = operands.attend(level, threads, true, offset % 4, offset);
                    assert_same_bits(&got.0, &p, format_args!("dim {dim} at {offset}: probabilities"));
                    assert_same_bits(&got.1, &out, format_args!("dim {dim} at {offset}"));
                    let got = operands.attend(level, threads, false, offset % 4, offset);
                    assert_same_bits(&got.1, &out, format_args!("dim {dim} at {offset}, no probabilities"));
                }
            }
        });
    }

    #[test]
    fn a_sequence_and_head_has_the_same_bits_in_any_batch() {
        for_every_level(|level| {
            let lengths = [5, 100, 16, 43, 1, 42];
            let batch = Operands::random(&lengths, 2, 24);
            let (_, out) = batch.attend(level, 2, false, 0, 0);
            for (s, head) in (0..lengths.len()).flat_map(|s| [(s, 0), (s, 1)]) {
                let mut single = Operands::random(&lengths[s..=s], 1, 24);
                single.qkv = std::array::from_fn(|i| batch.part(&batch.qkv[i], s, head));
                let (_, alone) = single.attend(level, 1, true, 1, 1);
                assert_same_bits(&alone, &batch.part(&out, s, head), format_args!("sequence {s}, head {head}"));
            }
        });
    }

    /// The queries turned round by some places: each falls into another place of a tile, or into another block.
    #[test]
    fn a_query_has_the_same_bits_in_any_place() {
        for_every_level(|level| {
            for (length, dim) in [(5, 8), (43, 32), (129, 3)] {
                let mut operands = Operands::random(&[length], 1, dim);
                let (_, expected) = operands.attend(level, 1, false, 0, 0);
                for turn in 1..length {
                    operands.qkv[0].rotate_left(dim);
                    let (_, mut got) = operands.attend(level, 1, false, 0, 0);
                    got.rotate_right(turn * dim);
                    assert_same_bits(&got, &expected, format_args!("{length} x {dim}, turned by {turn}"));
                }
            }
        });
    }

    #[test]
    fn nan_goes_where_it_must_and_no_further() {
        const DIM: usize = 9;
        let lengths = [4, 50, 3];
        for_every_level(|level| {
            let clean = Operands::random(&lengths, 2, DIM);
            let (_, expected) = clean.attend(level, 1, false, 0, 0);
            for (operand, poison) in (0..3).flat_map(|operand| nans().map(|nan| (operand, nan))) {
                // Row 20 of the second sequence, element 2 of its second head.
                let (row, column) = (lengths[0] + 20, DIM + 2);
                let mut poisoned = clean.clone();
                poisoned.qkv[operand][row * 2 * DIM + column] = poison;
                let (_, got) = poisoned.attend(level, 1, false, 0, 0);
                for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    let (r, c) = (i / (2 * DIM), i % (2 * DIM));
                    let same_part = (lengths[0]..lengths[0] + lengths[1]).contains(&r) && c >= DIM;
                    let reached = match operand {
                        0 => r == row && c >= DIM,
                        1 => same_part,
                        _ => same_part && c == column,
                    };
                    let right = if reached { got.is_nan() } else { got.to_bits() == expected.to_bits() };
                    assert!(right, "operand {operand}, element ({r}, {c}): {got:e}, {expected:e} without NaN");
                }
            }
        });
    }

    #[test]
    fn huge_scores_choose_and_tiny_ones_average() {
        for_every_level(|level| {
            let mut operands = Operands::random(&[3], 1, 2);
            operands.qkv = [
                vec![1e18, 0.0, 0.0, 1e18, 1e-45, 0.0],
                vec![1e18, 0.0, 0.0, 1e18, 1e-45, 0.0],
                vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            ];
            let (_, out) = operands.attend(level, 1, false, 0, 0);
            assert_eq!(out[..4], [1.0, 2.0, 3.0, 4.0]);
            assert!((out[4] - 3.0).abs() < 1e-6 && (out[5] - 4.0).abs() < 1e-6, "{out:?}");
        });
    }

    #[test]
    #[should_panic(expected = "starts")]
    fn sequences_that_overlap_are_refused() {
        let x = Mat::dense(&[0.0; 6], 6, 1);
        let mut out = [0.0; 6];
        attention(
            Level::best(),
            &Threads::serial(),
            [x; 3],
            1,
            &[0, 5, 3, 6],
            1.0,
            &mut [0.0; 10_000],
            None,
            MatMut::dense(&mut out, 6, 1),
        );
    }

    fn batches() -> impl Strategy<Value = Operands> {
        (prop::collection::vec(0usize..60, 0..5), 1usize..4, 1usize..40).prop_flat_map(|(lengths, heads, dim)| {
            let floats = || prop::collection::vec(-3f32..3.0, lengths.iter().sum::<usize>() * heads * dim);
            let scale = 1.0 / (dim as f32).sqrt();
            [floats(), floats(), floats()].prop_map(move |qkv| Operands {
                lengths: lengths.clone(),
                heads,
                dim,
                qkv,
                scale,
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(60) })]
        #[test]
        fn any_batch_keeps_to_the_twin(operands in batches(), threads in 1usize..4) {
            for_every_level(|level| operands.check(level, threads));
        }
    }
}
