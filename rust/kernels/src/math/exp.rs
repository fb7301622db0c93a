//! e^x.
//!
//!   n = round(x / ln 2);  r = x - n ln 2, |r| <= ln 2 / 2;  e^x = 2^n e^r
//!
//! with ln 2 in two parts, so that n ln 2 is subtracted without loss, and e^r - 1 - r = r^2 P(r), P a polynomial of
//! degree 4 fitted for the least relative error of e^r (3e-9).

use super::polynomial;
use crate::isa::Isa;

const P: [f32; 5] = [0.5, 0.166_665_2, 0.041_666_206, 0.008_368_881, 0.001_395_047_1];
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Beyond these e^x is 0 or infinite.
const LOWEST: f32 = -104.5;
const HIGHEST: f32 = 89.0;

/// e^x within 1.1 ULP, denormal results too; NaN for NaN, 0 and infinity at the ends.
#[inline(always)]
pub(crate) fn exp<I: Isa>(isa: I, x: I::V) -> I::V {
    let x = isa.min(isa.splat(HIGHEST), isa.max(isa.splat(LOWEST), x));
    let n = isa.round(isa.mul(x, isa.splat(std::f32::consts::LOG2_E)));
    let r = isa.mul_add(n, isa.splat(-LN2_HIGH), x);
    let r = isa.mul_add(n, isa.splat(-LN2_LOW), r);
    let e = isa.mul_add(isa.mul(r, r), polynomial(isa, r, P), r);
    isa.scale_by_power_of_two(isa.add(e, isa.splat(1.0)), n)
}
