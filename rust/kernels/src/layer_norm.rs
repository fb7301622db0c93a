//! Layer normalisation (Ba, Kiros and Hinton 2016, arXiv 1607.06450).
//!
//!   y = (x - mean) / sqrt(var + eps) * weight + bias,  mean and (biased) variance of the row
//!
//! The variance is summed over (x - mean)^2 in a second pass: one pass over x^2 cancels when the mean is large.

use crate::isa::{Isa, Kernel, Level, dispatch};
use crate::mat::{Mat, MatMut};
use crate::rows::{sum, sum_of_squares, zip_map};
use crate::threads::{Disjoint, Threads};

/// Normalises each row of `x` (T, H) into `out` (T, H); `weight` and `bias` are (H,).
///
/// Each element within 16 ULP of the row's largest |(x - mean) / sigma|; a row that holds a NaN or an infinity becomes NaN.
///
/// # Panics
/// If the shapes disagree.
pub fn layer_norm(level: Level, threads: Threads, x: Mat, weight: &[f32], bias: &[f32], eps: f32, out: MatMut) {
    assert_eq!((x.rows(), x.cols()), (out.rows(), out.cols()), "layer_norm: x and out");
    assert_eq!((weight.len(), bias.len()), (x.cols(), x.cols()), "layer_norm: weight and bias");
    let out = Disjoint::new(out);
    threads.for_each_block(x.rows(), x.cols() * 8, |rows| {
        // SAFETY: the blocks of rows do not overlap.
        let out = unsafe { out.block(rows.clone(), 0..x.cols()) };
        dispatch(level, LayerNorm { x: x.rows_of(rows), weight, bias, eps, out });
    });
}

struct LayerNorm<'a> {
    x: Mat<'a>,
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    out: MatMut<'a>,
}

impl Kernel for LayerNorm<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        for r in 0..self.x.rows() {
            layer_norm_row(isa, self.x.row(r), self.weight, self.bias, self.eps, self.out.row_mut(r));
        }
    }
}

#[inline(always)]
fn layer_norm_row<I: Isa>(isa: I, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let n = x.len() as f32;
    let mean = sum(isa, x) / n;
    let variance = sum_of_squares(isa, x, mean) / n;
    let centre = isa.splat(mean);
    let scale = isa.splat(1.0 / (variance + eps).sqrt());
    zip_map(isa, [x, weight, bias], out, #[inline(always)] |[x, w, b]| {
        isa.mul_add(isa.mul(isa.sub(x, centre), scale), w, b)
    });
}
