//! The gradients of layer normalisation.
//!
//!   dx = (g - mean(g) - x' mean(g x')) / sigma,  g = dy (offset + weight),  x' = (x - mean(x)) / sigma,  sigma = sqrt(var + eps)
//!   dweight = sum of dy x',  dbias = sum of dy  over the rows
//!
//! (and where the norm is not centred, with 0 for both means but that of g x'; where it is not scaled, with 0 for that too and 1 for
//! sigma). Mean and variance are found again from x: two passes over a row in the cache, against two more numbers to keep for it.

use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::layer_norm::Norm;
use crate::mat::{Mat, MatMut};
use crate::rows::{update, zip_sums};

/// From `x` (T, H), what was normalised, and `dy` (T, H), the gradient of the result: writes the gradient of x to `dx` (T, H),
/// and adds those of `weight` and of the bias to `dweight` and `dbias` (H,), row by row; on this thread.
///
/// With u = 2^-23, a = max |x| / sigma of the row and G its max |dy (offset + weight)|, each element of `dx` is within 2 u (1 + a)^2 G / sigma
/// of the exact value; each row adds to the error of `dbias` no more than u / 2 of the sum, and to that of `dweight` as much and
/// 3 u a |dy|. A row of `x` that holds a NaN or an infinity becomes NaN, and with it `dweight`.
///
/// # Panics
/// If the shapes disagree.
#[expect(clippy::too_many_arguments, reason = "the operands of a layer norm, each by its own name")]
pub fn layer_norm_backward(
    level: Level,
    x: Mat,
    weight: &[f32],
    norm: Norm,
    dy: Mat,
    dx: MatMut,
    dweight: &mut [f32],
    dbias: &mut [f32],
) {
    let (rows, cols) = (x.rows(), x.cols());
    assert_eq!(
        [(dy.rows(), dy.cols()), (dx.rows(), dx.cols())],
        [(rows, cols); 2],
        "layer_norm_backward: x, dy and dx"
    );
    assert_eq!([weight.len(), dweight.len(), dbias.len()], [cols; 3], "layer_norm_backward: weight, dweight and dbias");
    dispatch_floats(level, Backward { x, weight, norm, dy, dx, dweight, dbias });
}

struct Backward<'a> {
    x: Mat<'a>,
    weight: &'a [f32],
    norm: Norm,
    dy: Mat<'a>,
    dx: MatMut<'a>,
    dweight: &'a mut [f32],
    dbias: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        for r in 0..self.x.rows() {
            self.row(isa, r);
        }
    }
}

impl Backward<'_> {
    #[inline(always)]
    #[rustfmt::skip]
    fn row<I: Isa>(&mut self, isa: I, r: usize) {
        let (x, dy) = (self.x.row(r), self.dy.row(r));
        let n = x.len() as f32;
        let mean = self.norm.mean(isa, x);
        let (centre, scale) = (isa.splat(mean), isa.splat(self.norm.scale(isa, x, mean)));
        let offset = isa.splat(self.norm.offset);
        let [g, gx] = zip_sums(isa, [x, dy, self.weight], #[inline(always)] |[x, dy, w]| {
            let g = isa.mul(dy, isa.add(offset, w));
            [g, isa.mul(g, isa.mul(isa.sub(x, centre), scale))]
        });
        let mean_g = if self.norm.centred { g / n } else { 0.0 };
        let mean_gx = if self.norm.scaled { -gx / n } else { 0.0 };
        let (mean_g, mean_gx) = (isa.splat(mean_g), isa.splat(mean_gx));
        let out = [self.dx.row_mut(r), &mut *self.dweight, &mut *self.dbias];
        update(isa, out, [x, dy, self.weight], #[inline(always)] |[_, dweight, dbias], [x, dy, w]| {
            let unit = isa.mul(isa.sub(x, centre), scale);
            let g = isa.sub(isa.mul(dy, isa.add(offset, w)), mean_g);
            [isa.mul(isa.mul_add(unit, mean_gx, g), scale), isa.mul_add(dy, unit, dweight), isa.add(dbias, dy)]
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, Random, assert_same_bits, for_every_level, lanes, nans, slope};

    const NORM: Norm = Norm { centred: true, scaled: true, eps: 1e-12, offset: 0.0 };
    const RMS: Norm = Norm { centred: false, scaled: true, eps: 1e-6, offset: 1.0 };
    const NONE: Norm = Norm { centred: false, scaled: false, eps: 0.0, offset: 0.0 };

    /// dx, dweight and dbias of dense rows, through operands that lie `gap` apart and off every cache line.
    fn backward(
        level: Level,
        norm: Norm,
        [x, weight, dy]: [&[f32]; 3],
        start: f32,
        gap: usize,
        offset: usize,
    ) -> [Vec<f32>; 3] {
        let cols = weight.len();
        let rows = x.len() / cols.max(1);
        let [x, dy] = [(x, 0), (dy, 1)].map(|(m, o)| Guarded::new(m, rows, cols, gap, offset + o));
        let mut weight = Guarded::row(weight, offset + 2);
        let mut dx = Guarded::output(rows, cols, gap, offset + 3);
        let [mut dweight, mut dbias] = [4, 5].map(|o| Guarded::row(&vec![start; cols], offset + o));
        layer_norm_backward(
            level,
            x.mat(),
            weight.slice(),
            norm,
            dy.mat(),
            dx.mat_mut(),
            dweight.slice(),
            dbias.slice(),
        );
        [dx.values(), dweight.values(), dbias.values()]
    }

    #[test]
    fn the_twin_is_the_derivative_of_the_forward_twin() {
        let mut random = Random(31);
        for (len, norm) in [2, 5, 33].into_iter().flat_map(|len| [(len, NORM), (len, RMS), (len, NONE)]) {
            let [x, weight, bias, dy] = std::array::from_fn(|_| random.floats(len));
            let loss = |x: &[f32], weight: &[f32], bias: &[f32]| -> f64 {
                naive::layer_norm(x, weight, bias, norm).iter().zip(&dy).map(|(y, d)| y * f64::from(*d)).sum()
            };
            let with = |xs: &[f32], i: usize, x: f64| {
                let mut xs = xs.to_vec();
                xs[i] = x as f32;
                xs
            };
            let twin = naive::layer_norm_backward(&x, &weight, norm, &dy);
            for i in 0..len {
                let slopes = [
                    slope(|v| loss(&with(&x, i, v), &weight, &bias), f64::from(x[i])),
                    slope(|v| loss(&x, &with(&weight, i, v), &bias), f64::from(weight[i])),
                    slope(|v| loss(&x, &weight, &with(&bias, i, v)), f64::from(bias[i])),
                ];
                for (slope, exact) in slopes.into_iter().zip(&twin) {
                    assert!((slope - exact[i]).abs() < 1e-5 * (1.0 + slope.abs()), "{slope}, not {}", exact[i]);
                }
            }
        }
    }

    #[test]
    fn the_stated_accuracy_is_kept() {
        let mut random = Random(32);
        let u = 2f64.powi(-23);
        for_every_level(|level| {
            for len in (1..=4 * lanes(level) + 3).chain([384, 768, 1000, 4096]) {
                let weight = random.floats(len);
                let spreads = [(1.0, 0.0), (1e-3, 0.0), (1e6, 0.0), (1e-15, 0.0), (1.0, 100.0)];
                for ((spread, mean), norm) in spreads.into_iter().flat_map(|s| [(s, NORM), (s, RMS), (s, NONE)]) {
                    let x: Vec<f32> = random.floats(len).iter().map(|x| x * spread + mean).collect();
                    let dy = random.floats(len);
                    let [dx, dweight, dbias] = backward(level, norm, [&x, &weight, &dy], 0.0, 0, 0);
                    let [exact_dx, exact_dweight, exact_dbias] = naive::layer_norm_backward(&x, &weight, norm, &dy);
                    let n = len as f64;
                    let xs = || x.iter().map(|x| f64::from(*x));
                    let centre = if norm.centred { xs().sum::<f64>() / n } else { 0.0 };
                    let variance = xs().map(|x| (x - centre).powi(2)).sum::<f64>() / n;
                    let sigma = if norm.scaled { (variance + f64::from(norm.eps)).sqrt() } else { 1.0 };
                    let a = xs().fold(0f64, |a, x| a.max(x.abs())) / sigma;
                    let g =
                        dy.iter().zip(&weight).fold(0f64, |g, (d, w)| g.max(f64::from(d * (norm.offset + w)).abs()));
                    for i in 0..len {
                        let error = (f64::from(dx[i]) - exact_dx[i]).abs() / (u * (1.0 + a).powi(2) * g / sigma);
                        assert!(error <= 2.0, "dx {i} of {len}: {error}, {spread:e} {mean}");
                        let error = (f64::from(dweight[i]) - exact_dweight[i]).abs();
                        let allowed = u * (3.0 * a * f64::from(dy[i].abs()) + exact_dweight[i].abs());
                        assert!(error <= allowed, "dweight {i} of {len}: {error:e} > {allowed:e}, {spread:e} {mean}");
                        assert_eq!(f64::from(dbias[i]), exact_dbias[i]);
                    }
                }
            }
        });
    }

    #[test]
    fn rows_have_the_same_bits_anywhere_and_are_added_in_order() {
        let mut random = Random(33);
        for_every_level(|level| {
            for (rows, cols) in (1..=4 * lanes(level) + 3).map(|cols| (3, cols)).chain([(0, 5), (3, 0), (70, 257)]) {
                let weight = random.floats(cols);
                let [x, dy] = std::array::from_fn(|_| random.floats(rows * cols));
                let mut expected = [vec![], vec![0.25; cols], vec![0.25; cols]];
                for (x, dy) in x.chunks(cols.max(1)).zip(dy.chunks(cols.max(1))) {
                    let [_, dweight, dbias] = &mut expected;
                    let mut dx = vec![0.0; cols];
                    let [x, dy] = [x, dy].map(|row| Mat::dense(row, 1, cols));
                    layer_norm_backward(level, x, &weight, NORM, dy, MatMut::dense(&mut dx, 1, cols), dweight, dbias);
                    expected[0].extend(dx);
                }
                for offset in 0..lanes(level) {
                    let got = backward(level, NORM, [&x, &weight, &dy], 0.25, offset % 5, offset);
                    for (got, expected) in got.iter().zip(&expected) {
                        assert_same_bits(got, expected, format_args!("({rows}, {cols}) at {offset}"));
                    }
                }
            }
        });
    }

    #[test]
    fn nan_and_infinity_stay_in_their_row() {
        for_every_level(|level| {
            for len in 1..=4 * lanes(level) + 3 {
                let mut random = Random(34);
                let weight = vec![1.0; len];
                let [clean, dy] = std::array::from_fn(|_| random.floats(3 * len));
                let [expected, ..] = backward(level, NORM, [&clean, &weight, &dy], 0.0, 1, 1);
                for poison in nans().into_iter().chain([f32::INFINITY, f32::NEG_INFINITY]) {
                    let mut x = clean.clone();
                    x[len + len / 2] = poison;
                    let [dx, dweight, dbias] = backward(level, NORM, [&x, &weight, &dy], 0.0, 1, 1);
                    assert!(dx[len..2 * len].iter().chain(&dweight).all(|y| y.is_nan()), "{poison} in a row of {len}");
                    assert!(dbias.iter().all(|y| y.is_finite()));
                    assert_same_bits(&dx[..len], &expected[..len], format_args!("{len}"));
                    assert_same_bits(&dx[2 * len..], &expected[2 * len..], format_args!("{len}"));
                }
            }
        });
    }
}
