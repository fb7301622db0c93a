//! Elementary functions on vectors. Each states its error and is held to it, on every ISA, by `contract.rs`.

mod activation;
#[cfg(test)]
mod contract;
mod erf;
mod exp;
mod gate;
mod tanh;

pub(crate) use activation::activate;
pub use activation::{Activation, activation_backward};
pub(crate) use exp::exp;
pub use gate::{gate, gate_backward};
pub(crate) use tanh::tanh;

use crate::isa::Isa;

/// `c[0] + c[1] x + c[2] x^2 + ...` by Horner's rule.
#[inline(always)]
fn polynomial<I: Isa, const N: usize>(isa: I, x: I::V, c: [f32; N]) -> I::V {
    let mut sum = isa.splat(c[N - 1]);
    for i in (0..N - 1).rev() {
        sum = isa.mul_add(sum, x, isa.splat(c[i]));
    }
    sum
}
