//! A soft cap keeps logits within bounds (Gemma 2, arXiv 2408.00118, section 2): cap tanh(x / cap).

use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::{Mat, MatMut};
use crate::math::tanh;
use crate::rows::{map_in_place, update};
use crate::threads::{Disjoint, Threads};

/// x (T, N) in place, cap > 0. Each element is within 2^-22 of the exact value's magnitude.
pub fn soft_cap(level: Level, threads: &Threads, cap: f32, x: MatMut) {
    let (rows, cols) = (x.rows(), x.cols());
    let x = Disjoint::new(x);
    threads.for_each_block(rows, cols * 16, |rows| {
        // SAFETY: the blocks of rows do not overlap.
        let mut x = unsafe { x.block(rows.clone(), 0..cols) };
        (0..rows.len()).for_each(|r| dispatch_floats(level, Forward { cap, row: x.row_mut(r) }));
    });
}

/// From what [`soft_cap`] made, y (T, N), and the gradient of it: that of what it read, in its place. An element's factor,
/// 1 - (y / cap)^2, is within 2^-22 of the exact one.
///
/// # Panics
/// If the shapes disagree.
pub fn soft_cap_backward(level: Level, threads: &Threads, cap: f32, y: Mat, d: MatMut) {
    let (rows, cols) = (y.rows(), y.cols());
    assert_eq!((rows, cols), (d.rows(), d.cols()), "soft_cap_backward: y and d");
    let d = Disjoint::new(d);
    threads.for_each_block(rows, cols * 4, |rows| {
        // SAFETY: as above.
        let mut d = unsafe { d.block(rows.clone(), 0..cols) };
        let each = rows.enumerate();
        each.for_each(|(i, r)| dispatch_floats(level, Backward { cap, y: y.row(r), d: d.row_mut(i) }));
    });
}

struct Forward<'a> {
    cap: f32,
    row: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(self, isa: I) {
        let cap = isa.splat(self.cap);
        map_in_place(isa, self.row, #[inline(always)] |x| isa.mul(cap, tanh(isa, isa.div(x, cap)).0));
    }
}

struct Backward<'a> {
    cap: f32,
    y: &'a [f32],
    d: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(self, isa: I) {
        let (cap, one) = (isa.splat(self.cap), isa.splat(1.0));
        update(isa, [self.d], [self.y], #[inline(always)] |[d], [y]| {
            let share = isa.div(y, cap);
            [isa.mul(d, isa.sub(one, isa.mul(share, share)))]
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, Random, for_every_level, lanes};

    #[test]
    fn the_stated_accuracy_is_kept_there_and_back() {
        let mut random = Random(72);
        for_every_level(|level| {
            for (cols, cap) in (0..=2 * lanes(level) + 3).flat_map(|cols| [(cols, 30.0), (cols, 0.7)]) {
                let x: Vec<f32> = random.floats(3 * cols).iter().map(|x| x * 2.0 * cap).collect();
                let mut y = Guarded::new(&x, 3, cols, 2, 1);
                soft_cap(level, &Threads::new(2), cap, y.mat_mut());
                for (y, x) in y.values().iter().zip(&x) {
                    let exact = naive::soft_cap(f64::from(*x), f64::from(cap));
                    assert!((f64::from(*y) - exact).abs() <= 2f64.powi(-22) * exact.abs(), "{y}, not {exact}");
                }
                let dy = random.floats(3 * cols);
                let mut d = Guarded::new(&dy, 3, cols, 1, 3);
                soft_cap_backward(level, &Threads::new(2), cap, y.mat(), d.mat_mut());
                for ((d, dy), x) in d.values().iter().zip(&dy).zip(&x) {
                    let factor = naive::soft_cap_slope(f64::from(*x), f64::from(cap));
                    let error = (f64::from(*d) - f64::from(*dy) * factor).abs();
                    assert!(error <= f64::from(dy.abs()) * 1e-6, "{d} of {dy}, by {factor}");
                }
            }
        });
    }

    #[test]
    fn what_is_beyond_all_bounds_is_the_cap_and_nan_stays() {
        for_every_level(|level| {
            let mut x = [f32::INFINITY, -1e30, f32::NAN];
            soft_cap(level, &Threads::serial(), 30.0, MatMut::dense(&mut x, 1, 3));
            assert!(x[0] == 30.0 && x[1] == -30.0 && x[2].is_nan());
        });
    }
}
