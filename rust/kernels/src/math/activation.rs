//! The activation functions of feed-forward blocks and poolers.

use super::{erf, exp, tanh};
use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::MatMut;
use crate::rows::{map_in_place, update};

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

/// `call(isa, rows, f)`, f the function of an activation with its derivative: chosen once per row, not once per vector.
macro_rules! chosen {
    ($activation:expr, $call:ident($isa:ident, $rows:expr)) => {
        match $activation {
            Activation::Gelu => $call(
                $isa,
                $rows,
                #[inline(always)]
                |x| gelu($isa, x),
            ),
            Activation::GeluTanh => $call(
                $isa,
                $rows,
                #[inline(always)]
                |x| gelu_tanh($isa, x),
            ),
            Activation::Relu => $call(
                $isa,
                $rows,
                #[inline(always)]
                |x| relu($isa, x),
            ),
            Activation::Silu => $call(
                $isa,
                $rows,
                #[inline(always)]
                |x| silu($isa, x),
            ),
            Activation::Tanh => $call(
                $isa,
                $rows,
                #[inline(always)]
                |x| tanh::tanh($isa, x),
            ),
        }
    };
}

/// Chooses once per slice, not once per vector.
#[rustfmt::skip]
#[inline(always)]
pub(crate) fn activate<I: Isa>(isa: I, activation: Activation, xs: &mut [f32]) {
    match activation {
        Activation::Gelu => map_in_place(isa, xs, #[inline(always)] |x| gelu(isa, x).0),
        Activation::GeluTanh => map_in_place(isa, xs, #[inline(always)] |x| gelu_tanh(isa, x).0),
        Activation::Relu => map_in_place(isa, xs, #[inline(always)] |x| relu(isa, x).0),
        Activation::Silu => map_in_place(isa, xs, #[inline(always)] |x| silu(isa, x).0),
        Activation::Tanh => map_in_place(isa, xs, #[inline(always)] |x| tanh::tanh(isa, x).0),
    }
}

/// x -> f(x), as [`Activation::apply`] has it to the bit, and d -> d f'(x), on this thread; x and d (T, N).
///
/// f' is within 2.4e-7 of the exact value and NaN for NaN; ReLU's is 0 at 0.
///
/// # Panics
/// If the shapes disagree.
pub fn activation_backward(level: Level, activation: Activation, x: MatMut, d: MatMut) {
    assert_eq!((x.rows(), x.cols()), (d.rows(), d.cols()), "activation_backward: x and d");
    dispatch_floats(level, Backward { activation, x, d });
}

struct Backward<'a> {
    activation: Activation,
    x: MatMut<'a>,
    d: MatMut<'a>,
}

impl Kernel for Backward<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(mut self, isa: I) {
        for r in 0..self.x.rows() {
            let rows = [self.x.row_mut(r), self.d.row_mut(r)];
            chosen!(self.activation, chain(isa, rows));
        }
    }
}

/// (x, d) -> (f(x), d f'(x)), by the chain rule.
#[rustfmt::skip]
#[inline(always)]
fn chain<I: Isa>(isa: I, rows: [&mut [f32]; 2], f: impl Fn(I::V) -> (I::V, I::V)) {
    update(isa, rows, [], #[inline(always)] |[x, d], []| {
        let (y, slope) = f(x);
        [y, isa.mul(d, slope)]
    });
}

/// (gate, x) -> (f(gate) x, x).
#[rustfmt::skip]
#[inline(always)]
pub(super) fn gated<I: Isa>(isa: I, activation: Activation, [gate, x]: [&mut [f32]; 2]) {
    #[inline(always)]
    #[rustfmt::skip]
    fn product<I: Isa>(isa: I, [gate, x]: [&mut [f32]; 2], f: impl Fn(I::V) -> (I::V, I::V)) {
        update(isa, [gate], [x], #[inline(always)] |[gate], [x]| [isa.mul(f(gate).0, x)]);
    }
    chosen!(activation, product(isa, [gate, x]));
}

/// (gate, x, d, _) -> (f(gate) x, x, d f'(gate) x, d f(gate)).
#[rustfmt::skip]
#[inline(always)]
pub(super) fn gated_chain<I: Isa>(isa: I, activation: Activation, rows: [&mut [f32]; 4]) {
    #[inline(always)]
    #[rustfmt::skip]
    fn product<I: Isa>(isa: I, rows: [&mut [f32]; 4], f: impl Fn(I::V) -> (I::V, I::V)) {
        update(isa, rows, [], #[inline(always)] |[gate, x, d, _], []| {
            let (y, slope) = f(gate);
            [isa.mul(y, x), x, isa.mul(isa.mul(d, slope), x), isa.mul(d, y)]
        });
    }
    chosen!(activation, product(isa, rows));
}

// Each function comes with its derivative, which costs nothing where it is not used.

/// Within 1.9e-7 |x| of the exact value; the derivative, Phi(x) + x phi(x), within 2e-7.
#[inline(always)]
fn gelu<I: Isa>(isa: I, x: I::V) -> (I::V, I::V) {
    const BY_SQRT_2_PI: f32 = 0.398_942_3;
    let half = isa.splat(0.5);
    let e = isa.add(isa.splat(1.0), erf::erf(isa, isa.mul(x, isa.splat(std::f32::consts::FRAC_1_SQRT_2))));
    let near = within(isa, x, 16.0);
    let density = exp(isa, isa.mul(isa.mul(near, near), isa.splat(-0.5)));
    let slope = isa.mul_add(e, half, isa.mul(isa.mul(near, isa.splat(BY_SQRT_2_PI)), density));
    (isa.mul(isa.mul(x, half), e), slope)
}

/// Within 1.2e-7 |x| of the exact value; the derivative within 1.7e-7.
#[inline(always)]
fn gelu_tanh<I: Isa>(isa: I, x: I::V) -> (I::V, I::V) {
    const SQRT_2_BY_PI: f32 = 0.797_884_6;
    const CUBIC: f32 = 0.044_715;
    let (one, half) = (isa.splat(1.0), isa.splat(0.5));
    let cube = isa.mul(isa.mul(x, x), x);
    let inner = isa.mul(isa.splat(SQRT_2_BY_PI), isa.mul_add(cube, isa.splat(CUBIC), x));
    let (t, slope) = tanh::tanh(isa, inner);
    let t = isa.add(one, t);
    let near = within(isa, x, 16.0);
    let inner_slope = isa.mul(isa.splat(SQRT_2_BY_PI), isa.mul_add(isa.mul(near, near), isa.splat(3.0 * CUBIC), one));
    let rest = isa.mul(isa.mul(near, inner_slope), slope);
    (isa.mul(isa.mul(x, half), t), isa.mul(half, isa.add(t, rest)))
}

/// Exact; the derivative is 0 at 0.
#[inline(always)]
fn relu<I: Isa>(isa: I, x: I::V) -> (I::V, I::V) {
    let zero = isa.splat(0.0);
    let y = isa.max(zero, x);
    (y, isa.select_lt(zero, x, isa.splat(1.0), isa.mul(y, zero)))
}

/// Within 2.5 ULP; 0 below -88, where e^-x overflows and the exact value is within 3e-37 of 0. The derivative,
/// s (1 + x (1 - s)) with s = 1 / (1 + e^-x), within 2.4e-7.
#[inline(always)]
fn silu<I: Isa>(isa: I, x: I::V) -> (I::V, I::V) {
    let one = isa.splat(1.0);
    let e = exp(isa, isa.sub(isa.splat(0.0), x));
    let finite = isa.min(isa.splat(f32::MAX), e);
    let s = isa.div(one, isa.add(one, finite));
    let slope = isa.mul(s, isa.mul_add(within(isa, x, 128.0), isa.mul(finite, s), one));
    (isa.div(x, isa.add(one, e)), slope)
}

/// x, or the end of -end..=end that is nearest: where a derivative has reached its limit, and infinity would make a NaN.
#[inline(always)]
fn within<I: Isa>(isa: I, x: I::V, end: f32) -> I::V {
    isa.min(isa.splat(end), isa.max(isa.splat(-end), x))
}
