//! Attention on every ISA against its twin, and law 1.

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
    in_bf16: bool,
}

impl Operands {
    fn random(lengths: &[usize], heads: usize, dim: usize) -> Self {
        let tokens = lengths.iter().sum::<usize>();
        let mut random = Random((tokens * 1000 + dim) as u64);
        let qkv = std::array::from_fn(|_| random.floats(tokens * heads * dim));
        let (lengths, scale) = (lengths.to_vec(), 1.0 / (dim as f32).sqrt());
        Operands { lengths, heads, dim, qkv, scale, in_bf16: false }
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
    fn attend(&self, level: Level, threads: usize, weights: bool, gap: usize, offset: usize) -> (Vec<f32>, Vec<f32>) {
        let (tokens, width) = (self.qkv[0].len() / self.columns(), self.width());
        let in_bf16 = self.in_bf16(level);
        let [q, k, v] = [0, 1, 2].map(|i| {
            let (values, columns) =
                if in_bf16 { (pairs(&self.qkv[i]), self.columns() / 2) } else { (self.qkv[i].clone(), self.columns()) };
            Guarded::new(&values, tokens, columns, gap, offset + i)
        });
        let floats = [q.mat(), k.mat(), v.mat()];
        let qkv = if in_bf16 { Qkv::Bf16(floats.map(Mat::words)) } else { Qkv::Floats(floats) };
        let mut out = Guarded::output(tokens, self.columns(), gap, offset);
        let starts: Vec<usize> =
            (0..=self.lengths.len()).map(|s| 100 + self.lengths[..s].iter().sum::<usize>()).collect();
        let columns: Vec<usize> = self.lengths.iter().flat_map(|length| width - length..width).collect();
        let mut p = Guarded::row(&vec![UNTOUCHED; self.lengths.len() * self.heads * width * width], offset);
        let given = weights.then(|| Probabilities { out: p.slice(), width, columns: &columns, source: None });
        // No longer than was asked for, and full of poison.
        let mut scratch = Guarded::output(1, threads * attention_scratch(level, width, self.dim), 0, offset);
        attention(
            level,
            &Threads::new(threads),
            qkv,
            Heads::new(self.heads, &starts, self.scale),
            scratch.slice(),
            given,
            out.mat_mut(),
        );
        (p.values(), out.values())
    }

    fn in_bf16(&self, level: Level) -> bool {
        self.in_bf16 && level.has_bf16()
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
            let rounding = 2f64.powi(if self.in_bf16(level) { -8 } else { -23 }) * (4.0 + score);
            for (got, exact) in p.iter().zip(exact_p) {
                let error = (f64::from(*got) - exact).abs();
                assert!(error <= 2.0 * rounding * exact, "{} x {}: {got:e}, not {exact:e}", self.lengths[s], self.dim);
            }
            for (got, exact) in out.iter().zip(exact_out) {
                let error = (f64::from(*got) - exact).abs();
                let allowed = rounding * largest(&v);
                assert!(error <= allowed, "{} x {}: {got:e}, not {exact:e}", self.lengths[s], self.dim);
            }
        }
    }
}

/// Rounded to bf16, two a word.
fn pairs(xs: &[f32]) -> Vec<f32> {
    let halves: Vec<u32> = naive::to_bf16(xs).into_iter().map(|x| x.to_bits() >> 16).collect();
    halves.chunks(2).map(|pair| f32::from_bits(pair[0] | pair[1] << 16)).collect()
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
fn bf16_keeps_the_accuracy_stated_for_it_and_law_1() {
    for_every_level(|level| {
        let in_bf16 =
            |lengths: &[usize], heads, dim| Operands { in_bf16: true, ..Operands::random(lengths, heads, dim) };
        for dim in [2, 6, 8, 24, 32, 64, 98] {
            for length in (1..=50).chain([100, 129, 512]) {
                in_bf16(&[length], 1, dim).check(level, 1);
            }
            let batch = in_bf16(&[7, 0, 30, 1, 43], 3, dim);
            let (p, out) = batch.attend(level, 1, true, 0, 0);
            for threads in 1..=3 {
                let (other_p, other_out) = batch.attend(level, threads, true, threads, threads);
                assert_same_bits(&other_p, &p, format_args!("probabilities, {threads} threads"));
                assert_same_bits(&other_out, &out, format_args!("{threads} threads"));
            }
            let first = in_bf16(&[7], 3, dim);
            let alone = Operands { qkv: batch.qkv.each_ref().map(|x| x[..7 * 3 * dim].to_vec()), ..first };
            assert_same_bits(&alone.attend(level, 1, false, 0, 0).1, &out[..7 * 3 * dim], format_args!("alone"));
        }
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
        Qkv::Floats([x; 3]),
        Heads::new(1, &[0, 5, 3, 6], 1.0),
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
            in_bf16: false,
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
