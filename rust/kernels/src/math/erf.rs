//! The error function.
//!
//!   erf(x) = x P(u),  u = 2 x^2 / END^2 - 1 in [-1, 1],  for |x| < END; and the sign of x beyond, where 1 - |erf| < 2^-24
//!
//! P has degree 15 and was fitted for the least absolute error of erf (2e-8). In u, unlike in x^2, its
//! coefficients are small and decreasing, so that nothing cancels; there is no division.

use super::polynomial;
use crate::isa::Isa;

const END: f32 = 3.92;
const TWO_BY_END_SQUARED: f32 = 0.130_154_1;
const P: [f32; 16] = [
    0.360_736_82,
    -0.180_108_64,
    0.134_084_27,
    -0.109_178_5,
    0.090_602_3,
    -0.074_030_146,
    0.058_358_595,
    -0.043_374_83,
    0.029_820_519,
    -0.020_18,
    0.014_005_434,
    -0.007_372_648,
    0.002_086_675_3,
    -0.001_618_138_9,
    0.002_045_911,
    -0.000_775_585_8,
];

/// erf(x) within 2.4e-7 absolute; never beyond -1 or 1, and exactly there where |x| > 3.92; NaN for NaN.
#[inline(always)]
pub(crate) fn erf<I: Isa>(isa: I, x: I::V) -> I::V {
    let u = isa.mul_add(isa.mul(x, x), isa.splat(TWO_BY_END_SQUARED), isa.splat(-1.0));
    let one = isa.splat(1.0);
    let inside = isa.min(one, isa.max(isa.splat(-1.0), isa.mul(x, polynomial(isa, u, P))));
    let beyond = isa.copysign(one, x);
    isa.select_lt(isa.splat(END), isa.abs(x), beyond, inside)
}
