//! Convolutions over the neighbours of a token: of each channel by taps of its own (depthwise), and of each head by taps that differ
//! from token to token (dynamic).
//!
//!   depthwise:  y[t, c] = sum_j w[j, c] x[n(t, j), c]
//!   dynamic:    y[t, h, c] = sum_j w[t, h, j] x[n(t, j), h, c]
//!
//! n(t, j) is token t + j - (K - 1) / 2 of the same sequence; beyond its ends x is zero. Sums begin with 0 and are in the order of j.
//! Backwards a token is the neighbour of its neighbours: n(n(t, j), K - 1 - j) = t.

use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::{Mat, MatMut};
use crate::rows::{update, zip_sums};
use crate::threads::{Disjoint, Threads};

/// The neighbours of some tokens.
#[derive(Clone, Copy)]
pub struct Neighbours<'a> {
    /// (T, K): rows of x, or [`NOBODY`](Self::NOBODY).
    pub rows: &'a [u32],
    /// K.
    pub kernel: usize,
}

impl<'a> Neighbours<'a> {
    /// Where a neighbour would be beyond the end of a sequence.
    pub const NOBODY: u32 = u32::MAX;

    /// Those of some of the tokens.
    ///
    /// # Panics
    /// If they are not there.
    pub fn of(self, tokens: std::ops::Range<usize>) -> Neighbours<'a> {
        Neighbours { rows: &self.rows[tokens.start * self.kernel..tokens.end * self.kernel], ..self }
    }

    fn check(&self, tokens: usize, x: Mat) {
        assert_eq!(self.rows.len(), tokens * self.kernel, "convolution: neighbours of each token");
        let there = |row: &u32| *row == Self::NOBODY || (*row as usize) < x.rows();
        assert!(self.rows.iter().all(there), "convolution: a neighbour that is not there");
    }

    /// Of token t: (j, row) of those that are there.
    #[inline(always)]
    fn each(&self, t: usize) -> impl Iterator<Item = (usize, usize)> + use<'a> {
        let rows = self.rows[t * self.kernel..(t + 1) * self.kernel].iter();
        rows.enumerate().filter(|(_, row)| **row != Self::NOBODY).map(|(j, row)| (j, *row as usize))
    }
}

/// `x` (.., H) and `taps` (K, H) -> `out` (T, H), for T tokens with these neighbours. `back`: the gradient of x from that of what was
/// made, given as `x`. On this thread.
///
/// # Panics
/// If the shapes disagree.
pub fn depthwise(level: Level, near: Neighbours, x: Mat, taps: Mat, back: bool, out: MatMut) {
    near.check(out.rows(), x);
    assert_eq!([x.cols(), taps.cols(), taps.rows()], [out.cols(), out.cols(), near.kernel], "depthwise: shapes");
    dispatch_floats(level, Depthwise { near, x, taps, back, out });
}

struct Depthwise<'a> {
    near: Neighbours<'a>,
    x: Mat<'a>,
    taps: Mat<'a>,
    back: bool,
    out: MatMut<'a>,
}

impl Kernel for Depthwise<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(mut self, isa: I) {
        for t in 0..self.out.rows() {
            let out = self.out.row_mut(t);
            out.fill(0.0);
            for (j, row) in self.near.each(t) {
                let taps = self.taps.row(if self.back { self.near.kernel - 1 - j } else { j });
                update(isa, [&mut *out], [self.x.row(row), taps], #[inline(always)] |[sum], [x, w]| [isa.mul_add(x, w, sum)]);
            }
        }
    }
}

/// Adds the gradient of the taps to `d_taps` (K, H), in the order of the tokens: from `x` (.., H) and that of what was made,
/// `dy` (T, H).
///
/// # Panics
/// If the shapes disagree.
pub fn depthwise_taps(level: Level, threads: &Threads, near: Neighbours, x: Mat, dy: Mat, d_taps: MatMut) {
    near.check(dy.rows(), x);
    let (rows, cols) = (d_taps.rows(), d_taps.cols());
    assert_eq!([x.cols(), dy.cols(), rows], [cols, cols, near.kernel], "depthwise_taps: shapes");
    let all = Disjoint::new(d_taps);
    threads.for_each_block(cols, dy.rows() * near.kernel, |columns| {
        let [x, dy] = [x, dy].map(|mat| mat.block(0..mat.rows(), columns.clone()));
        // SAFETY: the blocks of columns do not overlap.
        let d_taps = unsafe { all.block(0..rows, columns) };
        dispatch_floats(level, DepthwiseTaps { near, x, dy, d_taps });
    });
}

struct DepthwiseTaps<'a> {
    near: Neighbours<'a>,
    x: Mat<'a>,
    dy: Mat<'a>,
    d_taps: MatMut<'a>,
}

impl Kernel for DepthwiseTaps<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(mut self, isa: I) {
        for t in 0..self.dy.rows() {
            for (j, row) in self.near.each(t) {
                let rows = [self.x.row(row), self.dy.row(t)];
                update(isa, [self.d_taps.row_mut(j)], rows, #[inline(always)] |[sum], [x, dy]| [isa.mul_add(x, dy, sum)]);
            }
        }
    }
}

/// `x` (.., heads x D) and `taps` (.., heads x K) of each token -> `out` (T, heads x D), for T tokens with these neighbours; these are
/// the taps of the tokens themselves, of which `first` is the first. `back`: the gradient of x from that of what was made, given
/// as `x`. On this thread.
///
/// # Panics
/// If the shapes disagree.
pub fn dynamic(level: Level, near: Neighbours, x: Mat, taps: Mat, first: usize, back: bool, out: MatMut) {
    near.check(out.rows(), x);
    let heads = taps.cols() / near.kernel;
    assert!(taps.cols() == heads * near.kernel && heads > 0 && x.cols().is_multiple_of(heads), "dynamic: heads");
    assert_eq!(x.cols(), out.cols(), "dynamic: x and out");
    assert!(taps.rows() >= if back { x.rows() } else { first + out.rows() }, "dynamic: taps");
    dispatch_floats(level, Dynamic { near, x, taps, first, back, out });
}

struct Dynamic<'a> {
    near: Neighbours<'a>,
    x: Mat<'a>,
    taps: Mat<'a>,
    first: usize,
    back: bool,
    out: MatMut<'a>,
}

impl Kernel for Dynamic<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(mut self, isa: I) {
        let kernel = self.near.kernel;
        let dim = self.x.cols() * kernel / self.taps.cols();
        for t in 0..self.out.rows() {
            let out = self.out.row_mut(t);
            out.fill(0.0);
            for (j, row) in self.near.each(t) {
                let (taps, place) = if self.back { (self.taps.row(row), kernel - 1 - j) } else { (self.taps.row(self.first + t), j) };
                let heads = out.chunks_exact_mut(dim).zip(self.x.row(row).chunks_exact(dim));
                for ((out, x), taps) in heads.zip(taps.chunks_exact(kernel)) {
                    let w = isa.splat(taps[place]);
                    update(isa, [out], [x], #[inline(always)] |[sum], [x]| [isa.mul_add(x, w, sum)]);
                }
            }
        }
    }
}

/// The gradient of the taps of T tokens with these neighbours, `d_taps` (T, heads x K), from `x` (.., heads x D) and that of what was
/// made of them, `dy` (T, heads x D). Zero for neighbours that are not there. On this thread.
///
/// # Panics
/// If the shapes disagree.
pub fn dynamic_taps(level: Level, near: Neighbours, x: Mat, dy: Mat, d_taps: MatMut) {
    near.check(dy.rows(), x);
    let heads = d_taps.cols() / near.kernel;
    assert!(d_taps.cols() == heads * near.kernel && heads > 0 && x.cols().is_multiple_of(heads), "dynamic_taps: heads");
    assert_eq!([x.cols(), d_taps.rows()], [dy.cols(), dy.rows()], "dynamic_taps: shapes");
    dispatch_floats(level, DynamicTaps { near, x, dy, d_taps });
}

struct DynamicTaps<'a> {
    near: Neighbours<'a>,
    x: Mat<'a>,
    dy: Mat<'a>,
    d_taps: MatMut<'a>,
}

impl Kernel for DynamicTaps<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(mut self, isa: I) {
        let kernel = self.near.kernel;
        let dim = self.x.cols() * kernel / self.d_taps.cols();
        for t in 0..self.dy.rows() {
            let d_taps = self.d_taps.row_mut(t);
            d_taps.fill(0.0);
            for (j, row) in self.near.each(t) {
                let heads = self.x.row(row).chunks_exact(dim).zip(self.dy.row(t).chunks_exact(dim));
                for (d_taps, (x, dy)) in d_taps.chunks_exact_mut(kernel).zip(heads) {
                    [d_taps[j]] = zip_sums(isa, [x, dy], #[inline(always)] |[x, dy]| [isa.mul(x, dy)]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, Random, assert_same_bits, for_every_level, lanes};

    /// Of sequences of these lengths.
    fn neighbours(lengths: &[usize], kernel: usize) -> Vec<u32> {
        let mut start = 0;
        let mut all = vec![];
        for length in lengths {
            for t in 0..*length {
                all.extend((0..kernel).map(|j| match (t + j).checked_sub(kernel / 2).filter(|n| n < length) {
                    Some(n) => (start + n) as u32,
                    None => Neighbours::NOBODY,
                }));
            }
            start += length;
        }
        all
    }

    const LENGTHS: [usize; 5] = [1, 7, 2, 0, 4];
    const TOKENS: usize = 14;

    /// |got - exact| <= (K + 1) 2^-23 of the sum of magnitudes, which is at most `terms`.
    fn close(got: &[f32], exact: &[f64], terms: usize) {
        assert_eq!(got.len(), exact.len());
        for (got, exact) in got.iter().zip(exact) {
            let allowed = (terms + 1) as f64 * 2f64.powi(-23) * terms as f64;
            assert!((f64::from(*got) - exact).abs() <= allowed, "{got}, not {exact}");
        }
    }

    fn dot(a: &[f64], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum()
    }

    /// Both convolutions are linear in x and in their taps: <dy, conv(x, w)> = <dx, x> = <dw, w>, whatever dy is.
    #[test]
    fn depthwise_is_the_twin_and_its_gradients_are_its_adjoints() {
        let mut random = Random(51);
        for_every_level(|level| {
            for (kernel, cols) in [1, 3, 9].into_iter().flat_map(|k| (1..=2 * lanes(level) + 3).map(move |c| (k, c))) {
                let rows = neighbours(&LENGTHS, kernel);
                let near = Neighbours { rows: &rows, kernel };
                let [x, dy] = [0, 1].map(|_| random.floats(TOKENS * cols));
                let taps = random.floats(kernel * cols);
                let (gx, gdy) = (Guarded::new(&x, TOKENS, cols, 2, 1), Guarded::new(&dy, TOKENS, cols, 1, 3));
                let weights = Mat::dense(&taps, kernel, cols);
                let mut y = Guarded::output(TOKENS, cols, 3, 5);
                depthwise(level, near, gx.mat(), weights, false, y.mat_mut());
                let exact = naive::depthwise(&x, &taps, &rows, kernel, cols);
                close(&y.values(), &exact, kernel);
                let mut dx = Guarded::output(TOKENS, cols, 1, 2);
                depthwise(level, near, gdy.mat(), weights, true, dx.mat_mut());
                let mut d_taps = Guarded::new(&vec![0.0; kernel * cols], kernel, cols, 4, 1);
                depthwise_taps(level, &Threads::new(2), near, gx.mat(), gdy.mat(), d_taps.mat_mut());
                let whole = dot(&exact, &dy);
                for (d, x) in [(dx.values(), &x), (d_taps.values(), &taps)] {
                    let d: Vec<f64> = d.into_iter().map(f64::from).collect();
                    assert!((dot(&d, x) - whole).abs() < 1e-5 * (TOKENS * cols * kernel) as f64, "{kernel} {cols}");
                }
            }
        });
    }

    #[test]
    fn dynamic_is_the_twin_and_its_gradients_are_its_adjoints() {
        let mut random = Random(52);
        for_every_level(|level| {
            for (kernel, dim) in [1, 3, 9].into_iter().flat_map(|k| (1..=2 * lanes(level) + 3).map(move |d| (k, d))) {
                let (heads, rows) = (3, neighbours(&LENGTHS, kernel));
                let (near, cols) = (Neighbours { rows: &rows, kernel }, heads * dim);
                let [x, dy] = [0, 1].map(|_| random.floats(TOKENS * cols));
                let taps = random.floats(TOKENS * heads * kernel);
                let (gx, gdy) = (Guarded::new(&x, TOKENS, cols, 2, 1), Guarded::new(&dy, TOKENS, cols, 1, 3));
                let weights = Guarded::new(&taps, TOKENS, heads * kernel, 1, 2);
                let mut y = Guarded::output(TOKENS, cols, 3, 5);
                dynamic(level, near, gx.mat(), weights.mat(), 0, false, y.mat_mut());
                let exact = naive::dynamic(&x, &taps, &rows, kernel, heads, dim);
                close(&y.values(), &exact, kernel);
                let mut dx = Guarded::output(TOKENS, cols, 1, 2);
                dynamic(level, near, gdy.mat(), weights.mat(), 0, true, dx.mat_mut());
                let mut d_taps = Guarded::output(TOKENS, heads * kernel, 4, 1);
                dynamic_taps(level, near, gx.mat(), gdy.mat(), d_taps.mat_mut());
                let whole = dot(&exact, &dy);
                for (d, x) in [(dx.values(), &x), (d_taps.values(), &taps)] {
                    let d: Vec<f64> = d.into_iter().map(f64::from).collect();
                    assert!((dot(&d, x) - whole).abs() < 1e-5 * (TOKENS * cols * kernel) as f64, "{kernel} {dim}");
                }
            }
        });
    }

    #[test]
    fn some_tokens_have_the_bits_of_all() {
        let mut random = Random(53);
        for_every_level(|level| {
            let (kernel, heads, dim) = (5, 2, lanes(level) + 3);
            let (rows, cols) = (neighbours(&LENGTHS, kernel), heads * dim);
            let near = Neighbours { rows: &rows, kernel };
            let (x, taps) = (random.floats(TOKENS * cols), random.floats(TOKENS * heads * kernel));
            let (x, depth) = (Mat::dense(&x, TOKENS, cols), random.floats(kernel * cols));
            let (taps, depth) = (Mat::dense(&taps, TOKENS, heads * kernel), Mat::dense(&depth, kernel, cols));
            let [mut y, mut z] = [0, 1].map(|_| Guarded::output(TOKENS, cols, 0, 0));
            dynamic(level, near, x, taps, 0, false, y.mat_mut());
            depthwise(level, near, x, depth, false, z.mat_mut());
            for tokens in [0..3, 3..11, 11..TOKENS] {
                let [mut some, mut other] = [0, 1].map(|_| Guarded::output(tokens.len(), cols, 0, 0));
                dynamic(level, near.of(tokens.clone()), x, taps, tokens.start, false, some.mat_mut());
                depthwise(level, near.of(tokens.clone()), x, depth, false, other.mat_mut());
                let part = tokens.start * cols..tokens.end * cols;
                assert_same_bits(&some.values(), &y.values()[part.clone()], format_args!("{tokens:?}"));
                assert_same_bits(&other.values(), &z.values()[part], format_args!("{tokens:?}"));
            }
        });
    }
}
