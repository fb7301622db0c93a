//! The activation functions of feed-forward blocks and poolers.

use super::{erf, exp, tanh};
use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::rows::map_in_place;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    /// x / 2 (1 + erf(x / sqrt 2)): transformers' "gelu".
    Gelu,
    /// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): transformers' "gelu_new" and "gelu_pytorch_tanh".
    GeluTanh,
    Relu,
    /// x / (1 + e^-x): "silu" or "swish".
    Silu,
    Tanh,
}

impl Activation {
    /// Applies the function to every element, on this thread.
    pub fn apply(self, level: Level, xs: &mut [f32]) {
        dispatch_floats(level, Apply { activation: self, xs });
    }
}

struct Apply<'a> {
    activation: Activation,
    xs: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        activate(isa, self.activation, self.xs);
    }
}

/// Chooses once per slice, not once per vector.
#[rustfmt::skip]
#[inline(always)]
pub(crate) fn activate<I: Isa>(isa: I, activation: Activation, xs: &mut [f32]) {
    match activation {
        Activation::Gelu => map_in_place(isa, xs, #[inline(always)] |x| gelu(isa, x)),
        Activation::GeluTanh => map_in_place(isa, xs, #[inline(always)] |x| gelu_tanh(isa, x)),
        Activation::Relu => map_in_place(isa, xs, #[inline(always)] |x| isa.max(isa.splat(0.0), x)),
        Activation::Silu => map_in_place(isa, xs, #[inline(always)] |x| silu(isa, x)),
        Activation::Tanh => map_in_place(isa, xs, #[inline(always)] |x| tanh::tanh(isa, x)),
    }
}

/// Within 1.9e-7 |x| of the exact value.
#[inline(always)]
fn gelu<I: Isa>(isa: I, x: I::V) -> I::V {
    let half = isa.mul(x, isa.splat(0.5));
    let e = erf::erf(isa, isa.mul(x, isa.splat(std::f32::consts::FRAC_1_SQRT_2)));
    isa.mul(half, isa.add(isa.splat(1.0), e))
}

/// Within 1.2e-7 |x| of the exact value.
#[inline(always)]
fn gelu_tanh<I: Isa>(isa: I, x: I::V) -> I::V {
    const SQRT_2_BY_PI: f32 = 0.797_884_6;
    let cube = isa.mul(isa.mul(x, x), x);
    let inner = isa.mul(isa.splat(SQRT_2_BY_PI), isa.mul_add(cube, isa.splat(0.044_715), x));
    let half = isa.mul(x, isa.splat(0.5));
    isa.mul(half, isa.add(isa.splat(1.0), tanh::tanh(isa, inner)))
}

/// Within 2.5 ULP; 0 below -88, where e^-x overflows and the exact value is within 3e-37 of 0.
#[inline(always)]
fn silu<I: Isa>(isa: I, x: I::V) -> I::V {
    let e = exp(isa, isa.sub(isa.splat(0.0), x));
    isa.div(x, isa.add(isa.splat(1.0), e))
}
