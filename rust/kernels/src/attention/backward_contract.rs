//! The gradient of attention: its twin against finite differences, and every ISA against its twin.

use super::*;
use crate::dropout::Dropout;
use crate::naive;
use crate::testing::{Guarded, Random, assert_same_bits, for_every_level};

struct Problem {
    lengths: Vec<usize>,
    keys: Vec<usize>,
    heads: usize,
    dim: usize,
    scale: f32,
    /// q, k, v, dout (T, heads x D)
    operands: [Vec<f32>; 4],
    dropout: Option<Dropout>,
}

impl Problem {
    fn new(lengths: &[usize], keys: &[usize], heads: usize, dim: usize) -> Self {
        let tokens = lengths.iter().sum::<usize>();
        let mut random = Random((tokens * 100 + dim) as u64);
        let operands = std::array::from_fn(|_| random.floats(tokens * heads * dim));
        let scale = 2.0 / (dim as f32).sqrt();
        Problem { lengths: lengths.to_vec(), keys: keys.to_vec(), heads, dim, scale, operands, dropout: None }
    }

    fn starts(&self) -> Vec<usize> {
        (0..=self.lengths.len()).map(|s| 3 + self.lengths[..s].iter().sum::<usize>()).collect()
    }

    fn of<'a>(&'a self, starts: &'a [usize]) -> Heads<'a> {
        Heads { keys: Some(&self.keys), dropout: self.dropout, ..Heads::new(self.heads, starts, self.scale) }
    }

    /// dq, dk, dv through operands whose rows lie `gap` apart and off every cache line.
    fn gradients(&self, level: Level, threads: usize, gap: usize, offset: usize) -> [Vec<f32>; 3] {
        let (columns, starts) = (self.heads * self.dim, self.starts());
        let tokens = self.operands[0].len() / columns;
        let [q, k, v, dout] = self.operands.each_ref().map(|x| Guarded::new(x, tokens, columns, gap, offset));
        let mut out: [Guarded; 3] = std::array::from_fn(|i| Guarded::output(tokens, columns, gap, offset + i));
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        let size = threads * attention_backward_scratch(level, longest, self.dim);
        let mut scratch = Guarded::output(1, size, 0, offset);
        let [dq, dk, dv] = &mut out;
        attention_backward(
            level,
            &Threads::new(threads),
            [q.mat(), k.mat(), v.mat()],
            self.of(&starts),
            dout.mat(),
            scratch.slice(),
            [dq.mat_mut(), dk.mat_mut(), dv.mat_mut()],
        );
        out.map(|x| x.values())
    }

    /// Rows `first..first + count` of one head, dense.
    fn part(&self, xs: &[f32], first: usize, count: usize, head: usize) -> Vec<f32> {
        let rows = xs.chunks(self.heads * self.dim).skip(first).take(count);
        rows.flat_map(|row| row[head * self.dim..][..self.dim].to_vec()).collect()
    }

    fn mask(&self, level: Level, s: usize, head: usize) -> Vec<f64> {
        let (starts, n) = (self.starts(), self.keys[s]);
        let row = |query: usize| {
            let mut row = vec![1.0; n];
            if let Some(dropout) = self.dropout {
                dropout_row(level, dropout, self.of(&starts).dropout_row(s, query, head), &mut row);
            }
            row
        };
        (0..self.lengths[s]).flat_map(row).map(f64::from).collect()
    }

    /// As stated.
    fn check(&self, level: Level, threads: usize) {
        let got = self.gradients(level, threads, 3, 1);
        for (s, head) in (0..self.lengths.len()).flat_map(|s| (0..self.heads).map(move |head| (s, head))) {
            let (first, l, n) = (self.starts()[s] - 3, self.lengths[s], self.keys[s]);
            let wide = |i: usize, count| -> Vec<f64> {
                self.part(&self.operands[i], first, count, head).into_iter().map(f64::from).collect()
            };
            let (q, k, v, dout) = (wide(0, l), wide(1, n), wide(2, n), wide(3, l));
            let (mask, scale) = (self.mask(level, s, head), f64::from(self.scale));
            let exact = naive::attention_backward(&q, &k, &v, &dout, &mask, self.dim, self.dim, scale);
            for (i, exact) in exact.iter().enumerate() {
                let got_part = self.part(&got[i], first, if i == 0 { l } else { n }, head);
                let scale = exact.iter().fold(1e-3f64, |a, b| a.max(b.abs()));
                for (got, exact) in got_part.iter().zip(exact) {
                    let allowed = 2f64.powi(-23) * (l as f64).sqrt().max(8.0) * 8.0 * scale;
                    let error = (f64::from(*got) - exact).abs();
                    assert!(error <= allowed, "gradient {i}, {l} x {n} x {}: {got:e}, not {exact:e}", self.dim);
                }
            }
            // What nobody can attend to has no gradient.
            for i in [1, 2] {
                assert!(self.part(&got[i], first + n, l - n, head).iter().all(|x| *x == 0.0));
            }
        }
    }
}

fn dropout_row(level: Level, dropout: Dropout, row: u64, xs: &mut [f32]) {
    struct Apply<'a>(Dropout, u64, &'a mut [f32]);
    impl Kernel for Apply<'_> {
        type Out = ();
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            self.0.row(isa, self.1, 0, self.2);
        }
    }
    dispatch_floats(level, Apply(dropout, row, xs));
}

const DIMS: [usize; 6] = [1, 3, 8, 24, 32, 64];

#[test]
fn the_twin_is_the_derivative() {
    let (l, n, d, e, scale) = (3, 4, 5, 2, 0.7);
    let mut random = Random(9);
    let mut floats = |count| -> Vec<f64> { random.floats(count).into_iter().map(f64::from).collect() };
    let (operands, dout) = ([floats(l * d), floats(n * d), floats(n * e)], floats(l * e));
    let mask: Vec<f64> = (0..l * n).map(|i| if i % 3 == 0 { 0.0 } else { 1.5 }).collect();
    let value = |x: &[Vec<f64>; 3]| -> f64 {
        (0..l)
            .map(|i| {
                let score = |j: usize| scale * (0..d).map(|c| x[0][i * d + c] * x[1][j * d + c]).sum::<f64>();
                let sum: f64 = (0..n).map(|j| score(j).exp()).sum();
                let weight = |j: usize| score(j).exp() / sum * mask[i * n + j];
                (0..e).map(|c| dout[i * e + c] * (0..n).map(|j| weight(j) * x[2][j * e + c]).sum::<f64>()).sum::<f64>()
            })
            .sum()
    };
    let [q, k, v] = &operands;
    let gradients = naive::attention_backward(q, k, v, &dout, &mask, d, e, scale);
    for (i, gradient) in gradients.iter().enumerate() {
        for (j, exact) in gradient.iter().enumerate() {
            const STEP: f64 = 1e-5;
            let at = |step: f64| {
                let mut moved = operands.clone();
                moved[i][j] += step;
                value(&moved)
            };
            let difference = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            assert!((difference - exact).abs() < 1e-8, "{i}, {j}: {difference} and {exact}");
        }
    }
}

#[test]
fn the_stated_accuracy_is_kept() {
    for_every_level(|level| {
        for dim in DIMS {
            for length in (1..=50).chain([100, 129]) {
                Problem::new(&[length], &[length], 1, dim).check(level, 1);
            }
        }
        Problem::new(&[7, 0, 30, 200, 1, 43], &[7, 0, 21, 100, 1, 42], 3, 20).check(level, 3);
    });
}

#[test]
fn dropout_is_that_of_the_forward_pass() {
    for_every_level(|level| {
        let mut problem = Problem::new(&[5, 70], &[5, 60], 2, 16);
        problem.dropout = Dropout::new(0.3, 11);
        problem.check(level, 2);
        let starts = problem.starts();
        let [q, k, v, _] = problem.operands.each_ref().map(|x| Mat::dense(x, 75, 32));
        let mut scratch = vec![0.0; attention_scratch(level, 70, 16)];
        let mut out = vec![0.0; 75 * 32];
        let serial = Threads::serial();
        attention(
            level,
            &serial,
            Qkv::Floats([q, k, v]),
            problem.of(&starts),
            &mut scratch,
            None,
            MatMut::dense(&mut out, 75, 32),
        );
        let (mask, head) = (problem.mask(level, 1, 1), 1);
        let part = |i: usize, count: usize| problem.part(&problem.operands[i], 5, count, head);
        let (p, _) = naive::attention(&part(0, 70), &part(1, 60), &part(2, 60), 16, 16, problem.scale);
        for (i, row) in problem.part(&out, 5, 70, head).chunks(16).enumerate() {
            for (c, got) in row.iter().enumerate() {
                let values = part(2, 60);
                let exact: f64 =
                    (0..60).map(|j| p[i * 60 + j] * mask[i * 60 + j] * f64::from(values[j * 16 + c])).sum();
                assert!((f64::from(*got) - exact).abs() < 1e-5, "{got} and {exact}");
            }
        }
    });
}

#[test]
fn a_sequence_has_the_same_bits_in_any_company() {
    for_every_level(|level| {
        let all = Problem::new(&[17, 90, 3], &[17, 80, 3], 3, 24);
        let together = all.gradients(level, 1, 0, 0);
        for (threads, gap, offset) in [(2, 3, 1), (3, 0, 5)] {
            for (a, b) in all.gradients(level, threads, gap, offset).iter().zip(&together) {
                assert_same_bits(a, b, format_args!("{threads} threads"));
            }
        }
        let mut alone = Problem::new(&[90], &[80], 3, 24);
        alone.operands = all.operands.each_ref().map(|x| x[17 * 72..107 * 72].to_vec());
        for (a, b) in alone.gradients(level, 1, 0, 0).iter().zip(&together) {
            assert_same_bits(a, &b[17 * 72..107 * 72], format_args!("alone"));
        }
    });
}
