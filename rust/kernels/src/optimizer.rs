//! The steps of optimizers: passes over parameters, gradients and moments, slices of one length.
//!
//! Element by element, so the bits do not depend on how the threads share them out.

use std::ops::Range;

use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::MatMut;
use crate::rows::{map_in_place, max_magnitude, update, zip_sums};
use crate::threads::{Disjoint, Threads};

/// Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv 1711.05101).
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// This step's number; the first is 1.
    pub step: u64,
}

/// Stochastic gradient descent with momentum.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    pub lr: f64,
    pub momentum: f64,
    pub nesterov: bool,
    /// Added to the gradient.
    pub weight_decay: f64,
}

/// What an element that is read and written again costs, in multiply-adds.
const WORK: usize = 8;

/// One step as torch.optim.AdamW takes it, the gradient first multiplied by `scale`; `m` and `v` begin as zeros.
///
/// With u = 2^-23, m and v are within 2 u of their greatest term of the exact values, and w within 1.5 u |w| and 6 u of the largest
/// step that its m allows.
///
/// # Panics
/// If the lengths disagree or the step is 0.
#[expect(clippy::too_many_arguments, reason = "the operands of a step, each by its own name")]
pub fn adamw(
    level: Level,
    threads: &Threads,
    hyper: &AdamW,
    w: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    scale: f32,
) {
    assert!(hyper.step > 0, "adamw: the first step is 1");
    assert_eq!(w.len(), g.len(), "adamw: w and g");
    let factors = hyper.factors();
    share(threads, WORK, [w, m, v], |range, state| {
        dispatch_floats(level, AdamWStep { factors, state, g: &g[range], scale });
    });
}

impl AdamW {
    /// In f64, as torch has them, and then rounded.
    fn factors(&self) -> [f32; 8] {
        let AdamW { lr, beta1, beta2, eps, weight_decay, step } = *self;
        let [debt1, debt2] = [beta1, beta2].map(|beta| 1.0 - beta.powf(step as f64));
        [1.0 - lr * weight_decay, beta1, 1.0 - beta1, beta2, 1.0 - beta2, -lr / debt1, 1.0 / debt2.sqrt(), eps]
            .map(|x| x as f32)
    }
}

struct AdamWStep<'a> {
    factors: [f32; 8],
    /// w, m and v.
    state: [&'a mut [f32]; 3],
    g: &'a [f32],
    scale: f32,
}

impl Kernel for AdamWStep<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(self, isa: I) {
        let [keep, keep1, new1, keep2, new2, minus_lr, unbias, eps] = self.factors;
        let (keep, keep1, new1) = (isa.splat(keep), isa.splat(keep1), isa.splat(new1));
        let (keep2, new2) = (isa.splat(keep2), isa.splat(new2));
        let [minus_lr, unbias, eps] = [isa.splat(minus_lr), isa.splat(unbias), isa.splat(eps)];
        let scale = isa.splat(self.scale);
        update(isa, self.state, [self.g], #[inline(always)] |[w, m, v], [g]| {
            let g = isa.mul(g, scale);
            let m = isa.mul_add(g, new1, isa.mul(m, keep1));
            let v = isa.mul_add(isa.mul(g, new2), g, isa.mul(v, keep2));
            let root = isa.mul_add(isa.sqrt(v), unbias, eps);
            [isa.mul_add(w, keep, isa.div(isa.mul(m, minus_lr), root)), m, v]
        });
    }
}

/// One step as torch.optim.SGD takes it, without dampening, the gradient first multiplied by `scale`. `velocity` begins as zeros;
/// without momentum it is empty.
///
/// Each result is within 4 * 2^-23 of its greatest term of the exact value.
///
/// # Panics
/// If the lengths disagree.
pub fn sgd(level: Level, threads: &Threads, hyper: &Sgd, w: &mut [f32], g: &[f32], velocity: &mut [f32], scale: f32) {
    assert_eq!(w.len(), g.len(), "sgd: w and g");
    if hyper.momentum == 0.0 {
        assert!(velocity.is_empty(), "sgd: velocity without momentum");
        share(threads, WORK, [w], |range, state| dispatch_floats(level, SgdStep { hyper, state, g: &g[range], scale }));
    } else {
        share(threads, WORK, [w, velocity], |range, state| {
            dispatch_floats(level, SgdStep { hyper, state, g: &g[range], scale });
        });
    }
}

struct SgdStep<'a, const N: usize> {
    hyper: &'a Sgd,
    /// w and, with momentum, the velocity.
    state: [&'a mut [f32]; N],
    g: &'a [f32],
    scale: f32,
}

impl<const N: usize> Kernel for SgdStep<'_, N> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(self, isa: I) {
        let Sgd { lr, momentum, nesterov, weight_decay } = *self.hyper;
        let [minus_lr, decay] = [isa.splat(-lr as f32), isa.splat(weight_decay as f32)];
        let [momentum, scale] = [isa.splat(momentum as f32), isa.splat(self.scale)];
        update(isa, self.state, [self.g], #[inline(always)] |mut state, [g]| {
            let g = isa.mul_add(state[0], decay, isa.mul(g, scale));
            let mut down = g;
            if N == 2 {
                state[1] = isa.mul_add(state[1], momentum, g);
                down = if nesterov { isa.mul_add(state[1], momentum, g) } else { state[1] };
            }
            state[0] = isa.mul_add(down, minus_lr, state[0]);
            state
        });
    }
}

/// `x = factor x` for every element.
pub fn scale(level: Level, threads: &Threads, xs: &mut [f32], factor: f32) {
    struct Scale<'a>(&'a mut [f32], f32);
    impl Kernel for Scale<'_> {
        type Out = ();
        #[inline(always)]
        #[rustfmt::skip]
        fn run<I: Isa>(self, isa: I) {
            let factor = isa.splat(self.1);
            map_in_place(isa, self.0, #[inline(always)] |x| isa.mul(x, factor));
        }
    }
    share(threads, WORK, [xs], |_, [xs]| dispatch_floats(level, Scale(xs, factor)));
}

/// The sum of the squares of all elements, within 1e-6 of it; NaN where there is one, else infinity where there is one.
///
/// The order depends on the length alone: blocks are summed on any thread, and their sums added in order.
pub fn sum_of_squares(level: Level, threads: &Threads, xs: &[f32]) -> f64 {
    const BLOCK: usize = 4096;
    let mut sums = vec![0.0; xs.len().div_ceil(BLOCK)];
    share(threads, BLOCK, [&mut sums[..]], |range, [sums]| {
        for (sum, i) in sums.iter_mut().zip(range) {
            *sum = dispatch_floats(level, Squares(&xs[i * BLOCK..xs.len().min((i + 1) * BLOCK)]));
        }
    });
    sums.iter().sum()
}

struct Squares<'a>(&'a [f32]);

impl Kernel for Squares<'_> {
    type Out = f64;
    /// The largest element is brought near 1 by a power of two, so that no square overflows or fades, and sums in f32 are short.
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(self, isa: I) -> f64 {
        const ADDED: usize = 8;
        let most = max_magnitude(isa, self.0);
        if !most.is_finite() {
            return f64::from(most);
        }
        let exponent = (most.to_bits() >> 23).clamp(1, 253);
        let scale = f32::from_bits((254 - exponent) << 23);
        let factor = isa.splat(scale);
        let mut total = 0.0;
        for piece in self.0.chunks(4 * ADDED * I::LANES) {
            let [sum] = zip_sums(isa, [piece], #[inline(always)] |[x]| {
                let x = isa.mul(x, factor);
                [isa.mul(x, x)]
            });
            total += f64::from(sum);
        }
        total / (f64::from(scale) * f64::from(scale))
    }
}

/// Runs `task` on consecutive ranges of slices of one length, as many as the work is worth.
fn share<T: Copy + Send, const N: usize>(
    threads: &Threads,
    work_per_element: usize,
    slices: [&mut [T]; N],
    task: impl Fn(Range<usize>, [&mut [T]; N]) + Sync,
) {
    let len = slices[0].len();
    assert!(slices.iter().all(|slice| slice.len() == len), "an optimizer's slices: lengths");
    let slices = slices.map(|slice| Disjoint::new(MatMut::dense(slice, 1, len)));
    threads.for_each_block(len, work_per_element, |range| {
        // SAFETY: the ranges do not overlap.
        let mut blocks = slices.each_ref().map(|slice| unsafe { slice.block(0..1, range.clone()) });
        task(range, blocks.each_mut().map(|block| block.row_mut(0)));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, Random, assert_same_bits, for_every_level, lanes, nans};

    const U: f64 = 1.0 / (1 << 23) as f64;
    const ADAMW: AdamW = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, step: 1 };
    const SGD: Sgd = Sgd { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.01 };

    /// Parameters, gradients and two states, the last nowhere below 0.
    fn operands(random: &mut Random, len: usize) -> [Vec<f32>; 4] {
        let [w, g, m, mut v] = std::array::from_fn(|_| random.floats(len));
        v.iter_mut().for_each(|v| *v = v.abs());
        [w, g, m, v]
    }

    /// w, m and v after a step, on slices off every cache line.
    fn adamw_at(level: Level, threads: usize, hyper: &AdamW, x: &[Vec<f32>; 4], scale: f32, o: usize) -> [Vec<f32>; 3] {
        let [mut w, mut g, mut m, mut v] = [0, 1, 2, 3].map(|i| Guarded::row(&x[i], o + i));
        adamw(level, &Threads::new(threads), hyper, w.slice(), g.slice(), m.slice(), v.slice(), scale);
        [w.values(), m.values(), v.values()]
    }

    /// w and velocity after a step.
    fn sgd_at(level: Level, threads: usize, hyper: &Sgd, x: &[Vec<f32>; 3], scale: f32, o: usize) -> [Vec<f32>; 2] {
        let [mut w, mut g, mut velocity] = [0, 1, 2].map(|i| Guarded::row(&x[i], o + i));
        sgd(level, &Threads::new(threads), hyper, w.slice(), g.slice(), velocity.slice(), scale);
        [w.values(), velocity.values()]
    }

    #[test]
    fn adamw_keeps_the_stated_accuracy() {
        let mut random = Random(51);
        for_every_level(|level| {
            for len in (0..=4 * lanes(level) + 3).chain([1000]) {
                for (step, magnitude) in [(1, 1.0), (2, 1e-6), (1000, 1e3), (1_000_000, 1.0)] {
                    let mut x = operands(&mut random, len);
                    x[1].iter_mut().for_each(|g| *g *= magnitude);
                    let (hyper, scale) = (AdamW { step, ..ADAMW }, 0.5);
                    let [w, m, v] = adamw_at(level, 1, &hyper, &x, scale, 0);
                    for i in 0..len {
                        let [w0, g, m0, v0] = [0, 1, 2, 3].map(|n| f64::from(x[n][i]));
                        let g = g * f64::from(scale);
                        let exact = naive::adamw(&hyper, [w0, g, m0, v0]);
                        let most = m0.abs().max(g.abs());
                        let [_, _, v1] = exact;
                        let largest = hyper.lr * most
                            / (1.0 - hyper.beta1.powi(step as i32))
                            / ((v1 / (1.0 - hyper.beta2.powi(step as i32))).sqrt() + hyper.eps);
                        let got = [w[i], m[i], v[i]].map(f64::from);
                        let errors: [f64; 3] = std::array::from_fn(|n| (got[n] - exact[n]).abs());
                        let allowed = [1.5 * U * w0.abs() + 6.0 * U * largest, 2.0 * U * most, 2.0 * U * v0.max(g * g)];
                        let held = (0..3).all(|n| errors[n] <= allowed[n]);
                        assert!(held, "{i} of {len}, step {step}: {errors:?} > {allowed:?}");
                    }
                }
            }
        });
    }

    #[test]
    fn sgd_keeps_the_stated_accuracy() {
        let mut random = Random(52);
        for_every_level(|level| {
            for len in (0..=4 * lanes(level) + 3).chain([1000]) {
                for hyper in [SGD, Sgd { nesterov: true, ..SGD }, Sgd { momentum: 0.0, ..SGD }] {
                    let [w, g, velocity, _] = operands(&mut random, len);
                    let velocity = if hyper.momentum == 0.0 { vec![] } else { velocity };
                    let x = [w, g, velocity];
                    let [w, velocity] = sgd_at(level, 1, &hyper, &x, 0.5, 0);
                    for i in 0..len {
                        let before = x[2].get(i).copied().unwrap_or(0.0);
                        let exact =
                            naive::sgd(&hyper, [f64::from(x[0][i]), 0.5 * f64::from(x[1][i]), f64::from(before)]);
                        let error = (f64::from(w[i]) - exact[0]).abs();
                        assert!(error <= 4.0 * U, "w {i} of {len}: {error:e}");
                        let error = velocity.get(i).map_or(0.0, |v| (f64::from(*v) - exact[1]).abs());
                        assert!(error <= 4.0 * U, "velocity {i} of {len}: {error:e}");
                    }
                }
            }
        });
    }

    /// As recorded from torch.
    #[test]
    fn three_steps_end_where_torch_ends() {
        const W: [f32; 4] = [0.5, -1.25, 3.0, 0.0];
        const G: [[f32; 4]; 3] = [[0.1, -2.0, 1e-4, 0.5], [-0.3, 0.25, 2e-4, 0.0], [0.7, 1.0, -5e-4, 1e-9]];
        let close = |got: [f32; 4], torch: [f32; 4]| {
            assert!(
                got.iter().zip(torch).all(|(a, b)| (a - b).abs() <= 2.5e-7 * b.abs().max(0.25)),
                "{got:?}, not {torch:?}"
            );
        };
        for_every_level(|level| {
            let threads = Threads::serial();
            let (mut w, mut m, mut v) = (W, [0.0; 4], [0.0; 4]);
            for (step, g) in (1..).zip(&G) {
                let hyper = AdamW { lr: 1e-2, beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.1, step };
                adamw(level, &threads, &hyper, &mut w, g, &mut m, &mut v, 1.0);
            }
            close(w, [0.489_215_02, -1.229_416_3, 2.974_328, -0.021_892_186]);
            for (momentum, nesterov, torch) in [
                (0.9, false, [0.457_105_37, -0.849_228_3, 2.983_169_3, -0.135_310_05]),
                (0.9, true, [0.409_887_05, -0.811_874_1, 2.975_901_4, -0.171_435_45]),
                (0.0, false, [0.448_491_48, -1.171_628_6, 2.991_029, -0.049_900_05]),
            ] {
                let (mut w, mut velocity) = (W, [0.0; 4]);
                let velocity = if momentum == 0.0 { &mut [][..] } else { &mut velocity };
                for g in &G {
                    let hyper = Sgd { lr: 0.1, momentum, nesterov, weight_decay: 0.01 };
                    sgd(level, &threads, &hyper, &mut w, g, velocity, 1.0);
                }
                close(w, torch);
            }
        });
    }

    #[test]
    fn neither_threads_nor_alignment_change_a_bit() {
        let mut random = Random(53);
        for_every_level(|level| {
            for len in [0, 1, 4 * lanes(level) + 3, 50_001] {
                let x = operands(&mut random, len);
                let y = [x[0].clone(), x[1].clone(), x[2].clone()];
                let expected = (adamw_at(level, 1, &ADAMW, &x, 1.0, 0), sgd_at(level, 1, &SGD, &y, 1.0, 0));
                let squares = sum_of_squares(level, &Threads::serial(), &x[0]);
                for (threads, offset) in [(1, 3), (2, 1), (3, 0)] {
                    let got = (
                        adamw_at(level, threads, &ADAMW, &x, 1.0, offset),
                        sgd_at(level, threads, &SGD, &y, 1.0, offset),
                    );
                    for (got, expected) in got.0.iter().chain(&got.1).zip(expected.0.iter().chain(&expected.1)) {
                        assert_same_bits(got, expected, format_args!("{len} on {threads}"));
                    }
                    let again = sum_of_squares(level, &Threads::new(threads), Guarded::row(&x[0], offset).slice());
                    assert_eq!(again.to_bits(), squares.to_bits());
                }
            }
        });
    }

    #[test]
    fn the_sum_of_squares_is_within_a_millionth_at_any_magnitude() {
        let mut random = Random(54);
        for_every_level(|level| {
            let threads = Threads::serial();
            for len in (0..=4 * lanes(level) + 3).chain([4095, 4096, 4097, 100_000]) {
                for magnitude in [1.0, 1e-44, 1e-38, 1e-22, 1e25, f32::MAX] {
                    let any: Vec<f32> = random.floats(len).iter().map(|x| x * magnitude).collect();
                    for xs in [any, vec![magnitude * 0.7; len]] {
                        let exact: f64 = xs.iter().map(|x| f64::from(*x).powi(2)).sum();
                        let got = sum_of_squares(level, &threads, &xs);
                        assert!((got - exact).abs() <= 1e-6 * exact, "{len} of {magnitude:e}: {got:e}, not {exact:e}");
                    }
                }
            }
        });
    }

    #[test]
    fn what_is_not_finite_is_not_overlooked() {
        for_every_level(|level| {
            let threads = Threads::serial();
            for len in [1, lanes(level), 4 * lanes(level) + 3, 9000] {
                for i in [0, len / 2, len - 1] {
                    let mut xs = vec![1.0; len];
                    xs[i] = f32::NEG_INFINITY;
                    assert_eq!(sum_of_squares(level, &threads, &xs), f64::INFINITY);
                    for nan in nans() {
                        xs[i] = nan;
                        assert!(sum_of_squares(level, &threads, &xs).is_nan());
                    }
                    let [w, m, v] =
                        adamw_at(level, 1, &ADAMW, &[vec![1.0; len], xs, vec![0.0; len], vec![0.0; len]], 1.0, 0);
                    assert!((0..len).all(|n| [w[n], m[n], v[n]].iter().all(|x| x.is_nan() == (n == i))));
                }
            }
        });
    }

    #[test]
    fn scale_multiplies_every_element() {
        for_every_level(|level| {
            for len in (0..=4 * lanes(level) + 3).chain([70_000]) {
                let xs = Random(55).floats(len);
                let expected: Vec<f32> = xs.iter().map(|x| x * 0.3).collect();
                let mut row = Guarded::row(&xs, 1);
                scale(level, &Threads::new(2), row.slice(), 0.3);
                assert_same_bits(&row.values(), &expected, format_args!("{len}"));
            }
        });
    }

    #[test]
    #[should_panic(expected = "lengths")]
    fn slices_of_several_lengths_are_refused() {
        let mut x = [[0.0; 4]; 2];
        let [w, v] = &mut x;
        adamw(Level::best(), &Threads::serial(), &ADAMW, w, &[0.0; 4], &mut [0.0; 3], v, 1.0);
    }
}
