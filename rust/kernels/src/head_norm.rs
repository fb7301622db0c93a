//! The norm of each head of queries and keys by itself (Henry et al. 2020, arXiv 2010.04245), in place: one weight for each channel of
//! a head, the same for all heads, and no bias. Formulas: `layer_norm.rs`, `layer_norm_backward.rs`.

use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::layer_norm::Norm;
use crate::mat::{Mat, MatMut};
use crate::rows::{update, zip_sums};

/// Normalises each head of each row of `x` (T, heads x D), in place, on this thread; `weight` is (D,). As accurate as
/// [`layer_norm`](crate::layer_norm).
///
/// # Panics
/// If the shapes disagree.
pub fn head_norm(level: Level, weight: &[f32], norm: Norm, x: MatMut) {
    assert!(x.cols().is_multiple_of(weight.len()), "head_norm: heads");
    dispatch_floats(level, Forward { weight, norm, x });
}

/// From `x` (T, heads x D), what was normalised, and `d`, the gradient of the result: writes that of x in its place, and adds that of
/// the weight to `dweight` (D,), head by head and row by row; on this thread. As accurate as
/// [`layer_norm_backward`](crate::layer_norm_backward).
///
/// # Panics
/// If the shapes disagree.
pub fn head_norm_backward(level: Level, x: Mat, weight: &[f32], norm: Norm, d: MatMut, dweight: &mut [f32]) {
    assert!(x.cols().is_multiple_of(weight.len()) && weight.len() == dweight.len(), "head_norm_backward: heads");
    assert_eq!((x.rows(), x.cols()), (d.rows(), d.cols()), "head_norm_backward: x and d");
    dispatch_floats(level, Backward { x, weight, norm, d, dweight });
}

struct Forward<'a> {
    weight: &'a [f32],
    norm: Norm,
    x: MatMut<'a>,
}

impl Kernel for Forward<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(mut self, isa: I) {
        let offset = isa.splat(self.norm.offset);
        for r in 0..self.x.rows() {
            for head in self.x.row_mut(r).chunks_exact_mut(self.weight.len()) {
                let mean = self.norm.mean(isa, head);
                let (centre, scale) = (isa.splat(mean), isa.splat(self.norm.scale(isa, head, mean)));
                update(isa, [head], [self.weight], #[inline(always)] |[x], [w]| {
                    [isa.mul(isa.mul(isa.sub(x, centre), scale), isa.add(offset, w))]
                });
            }
        }
    }
}

struct Backward<'a> {
    x: Mat<'a>,
    weight: &'a [f32],
    norm: Norm,
    d: MatMut<'a>,
    dweight: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(mut self, isa: I) {
        let (weight, norm, n, offset) = (self.weight, self.norm, self.weight.len() as f32, isa.splat(self.norm.offset));
        for r in 0..self.x.rows() {
            let heads = self.x.row(r).chunks_exact(weight.len()).zip(self.d.row_mut(r).chunks_exact_mut(weight.len()));
            for (x, d) in heads {
                let mean = norm.mean(isa, x);
                let (centre, scale) = (isa.splat(mean), isa.splat(norm.scale(isa, x, mean)));
                let [g, gx] = zip_sums(isa, [x, &*d, weight], #[inline(always)] |[x, d, w]| {
                    let g = isa.mul(d, isa.add(offset, w));
                    [g, isa.mul(g, isa.mul(isa.sub(x, centre), scale))]
                });
                let mean_g = if norm.centred { g / n } else { 0.0 };
                let (mean_g, mean_gx) = (isa.splat(mean_g), isa.splat(-gx / n));
                update(isa, [d, &mut *self.dweight], [x, weight], #[inline(always)] |[d, dweight], [x, w]| {
                    let unit = isa.mul(isa.sub(x, centre), scale);
                    let g = isa.sub(isa.mul(d, isa.add(offset, w)), mean_g);
                    [isa.mul(isa.mul_add(unit, mean_gx, g), scale), isa.mul_add(d, unit, dweight)]
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer_norm::layer_norm;
    use crate::layer_norm_backward::layer_norm_backward;
    use crate::narrow::Narrow;
    use crate::testing::{Guarded, Random, assert_same_bits, for_every_level, lanes};
    use crate::threads::Threads;

    /// Each head is a row of a layer norm: forwards and back, to the bit.
    #[test]
    fn a_head_is_a_row() {
        let mut random = Random(71);
        for_every_level(|level| {
            for (dim, centred) in (1..=2 * lanes(level) + 3).chain([64, 129]).flat_map(|d| [(d, false), (d, true)]) {
                let (rows, heads, offset) = (3, 4, dim % 2);
                let norm = Norm { centred, scaled: true, eps: 1e-6, offset: offset as f32 };
                let [x, dy] = std::array::from_fn(|_| random.floats(rows * heads * dim));
                let weight = random.floats(dim);
                let mut got = Guarded::new(&x, rows, heads * dim, 2, 1);
                head_norm(level, &weight, norm, got.mat_mut());
                let flat = |xs| Mat::dense(xs, rows * heads, dim);
                let mut expected = vec![0.0; x.len()];
                let out = MatMut::dense(&mut expected, rows * heads, dim);
                let (bias, narrow) = (vec![0.0; dim], &mut Narrow::default());
                layer_norm(level, &Threads::serial(), flat(&x), &weight, &bias, norm, out, narrow);
                assert_same_bits(&got.values(), &expected, format_args!("{dim}"));

                let mut d = Guarded::new(&dy, rows, heads * dim, 3, 2);
                let [mut dweight, mut expected_dweight, mut dbias] = [0.5, 0.5, 0.0].map(|x| vec![x; dim]);
                let x_mat = Mat::dense(&x, rows, heads * dim);
                head_norm_backward(level, x_mat, &weight, norm, d.mat_mut(), &mut dweight);
                let (dx, sums) = (MatMut::dense(&mut expected, rows * heads, dim), (&mut expected_dweight, &mut dbias));
                layer_norm_backward(level, flat(&x), &weight, norm, flat(&dy), dx, sums.0, sums.1);
                assert_same_bits(&d.values(), &expected, format_args!("{dim}"));
                assert_same_bits(&dweight, &expected_dweight, format_args!("{dim}"));
            }
        });
    }
}
