//! The hyperbolic tangent.
//!
//!   |x| < 0.625:  x + x^3 P(x^2), P of degree 5 fitted for the least relative error (2e-10)
//!   beyond:       1 - 2 / (e^(2 |x|) + 1), with the sign of x

use super::{exp, polynomial};
use crate::isa::Isa;

const SMALL: f32 = 0.625;
const P: [f32; 6] = [-0.333_333_3, 0.133_332_1, -0.053_947_322, 0.021_703_646, -0.008_184_425, 0.002_149_202_4];

/// tanh(x) within 1.4 ULP; never beyond -1 or 1; NaN for NaN. And its derivative within 1.5e-7: with q = 1 - |tanh(x)| it is
/// q (2 - q), where 1 - tanh(x)^2 would cancel.
#[inline(always)]
pub(crate) fn tanh<I: Isa>(isa: I, x: I::V) -> (I::V, I::V) {
    let magnitude = isa.abs(x);
    let square = isa.mul(x, x);
    let near = isa.mul_add(isa.mul(x, square), polynomial(isa, square, P), x);
    let (one, two) = (isa.splat(1.0), isa.splat(2.0));
    let e = exp(isa, isa.add(magnitude, magnitude));
    let q = isa.div(two, isa.add(e, one));
    let y = isa.select_lt(magnitude, isa.splat(SMALL), near, isa.copysign(isa.sub(one, q), x));
    (y, isa.mul(q, isa.sub(two, q)))
}
