//! Softmax of a row in place.

use crate::isa::{Isa, Kernel, Level, dispatch};
use crate::math::exp;
use crate::rows::{map_in_place, max, sum};

/// `x_i = e^(scale (x_i - max)) / sum`, each within 4 ULP plus the rounding of the scaled difference. `scale` >= 0.
///
/// A row of -inf alone (nothing to attend to) becomes zeros, where the formula has 0/0; NaN or +inf make the row NaN.
pub fn softmax(level: Level, row: &mut [f32], scale: f32) {
    struct Softmax<'a>(&'a mut [f32], f32);
    impl Kernel for Softmax<'_> {
        type Out = ();
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            softmax_row(isa, self.0, self.1);
        }
    }
    dispatch(level, Softmax(row, scale));
}

#[inline(always)]
pub(crate) fn softmax_row<I: Isa>(isa: I, row: &mut [f32], scale: f32) {
    let highest = max(isa, row);
    if highest == f32::NEG_INFINITY && row.iter().all(|x| *x == f32::NEG_INFINITY) {
        row.fill(0.0);
        return;
    }
    let (highest, scale) = (isa.splat(highest), isa.splat(scale));
    map_in_place(isa, row, #[inline(always)] |x| exp(isa, isa.mul(isa.sub(x, highest), scale)));
    let inverse = isa.splat(1.0 / sum(isa, row));
    map_in_place(isa, row, #[inline(always)] |x| isa.mul(x, inverse));
}
