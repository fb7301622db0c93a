//! Layer normalisation (Ba, Kiros and Hinton 2016, arXiv 1607.06450).
//!
//!   y = (x - mean) / sqrt(var + eps) * (offset + weight) + bias,  mean and (biased) variance of the row
//!
//! The variance is summed over (x - mean)^2 in a second pass: one pass over x^2 cancels when the mean is large.
//! RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467) takes 0 for the mean. Where nothing is normalised (NoNorm, Sun et al. 2020,
//! arXiv 2004.02984) 1 stands for the root too, and weight and bias are what is left.

use crate::isa::{Isa, Kernel, Level, dispatch};
use crate::mat::{Mat, MatMut};
use crate::narrow::{Form, Narrow, NarrowRows};
use crate::rows::{sum, sum_of_squares, zip_map};
use crate::threads::{Disjoint, Threads};

/// What a norm takes for the mean of a row, and adds to its variance and to the weights.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Norm {
    /// Whether the mean is subtracted; else it counts as 0: RMSNorm.
    pub centred: bool,
    /// Whether it is divided by the root of its variance; else by 1.
    pub scaled: bool,
    pub eps: f32,
    /// 1 where the weights are what a factor differs from 1 by, else 0.
    pub offset: f32,
}

impl Norm {
    #[inline(always)]
    pub(crate) fn mean<I: Isa>(self, isa: I, x: &[f32]) -> f32 {
        if self.centred { sum(isa, x) / x.len() as f32 } else { 0.0 }
    }

    /// One by the root of variance and eps.
    #[inline(always)]
    pub(crate) fn scale<I: Isa>(self, isa: I, x: &[f32], mean: f32) -> f32 {
        if self.scaled { 1.0 / (sum_of_squares(isa, x, mean) / x.len() as f32 + self.eps).sqrt() } else { 1.0 }
    }
}

/// Normalises each row of `x` (T, H) into `out` (T, H), and while it is in the cache into `narrow` (T, H) too, where the next
/// product wants another form than floats; `weight` and `bias` are (H,).
///
/// Each element is within 3 * 2^-23 |offset + weight| max |x| / sigma and the last rounding of the exact value. A row that holds a
/// NaN or an infinity becomes NaN; one whose variance overflows, from about 1e19 on, becomes the bias. (Where rows are not scaled sigma is
/// 1, and an element depends on no other.)
///
/// # Panics
/// If the shapes disagree.
#[expect(clippy::too_many_arguments, reason = "the operands of a layer norm, each by its own name")]
pub fn layer_norm(
    level: Level,
    threads: &Threads,
    x: Mat,
    weight: &[f32],
    bias: &[f32],
    norm: Norm,
    out: MatMut,
    narrow: &mut Narrow,
) {
    assert_eq!((x.rows(), x.cols()), (out.rows(), out.cols()), "layer_norm: x and out");
    assert_eq!((weight.len(), bias.len()), (x.cols(), x.cols()), "layer_norm: weight and bias");
    let narrow = narrow.shared();
    let (form, narrow_rows, narrow_cols) = narrow.shape();
    let floats = form == Form::Floats;
    assert!(floats || (narrow_rows, narrow_cols) == (x.rows(), x.cols()), "layer_norm: x and narrow");
    let out = Disjoint::new(out);
    threads.for_each_block(x.rows(), x.cols() * 8, |rows| {
        // SAFETY: the blocks of rows do not overlap.
        let (out, narrow) =
            unsafe { (out.block(rows.clone(), 0..x.cols()), narrow.rows_of(if floats { 0..0 } else { rows.clone() })) };
        dispatch(level, LayerNorm { x: x.rows_of(rows), weight, bias, norm, out, narrow });
    });
}

struct LayerNorm<'a> {
    x: Mat<'a>,
    weight: &'a [f32],
    bias: &'a [f32],
    norm: Norm,
    out: MatMut<'a>,
    narrow: NarrowRows<'a>,
}

impl Kernel for LayerNorm<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        for r in 0..self.x.rows() {
            let out = self.out.row_mut(r);
            layer_norm_row(isa, self.x.row(r), self.weight, self.bias, self.norm, out);
            self.narrow.set(isa, r, out);
        }
    }
}

#[inline(always)]
#[rustfmt::skip]
fn layer_norm_row<I: Isa>(isa: I, x: &[f32], weight: &[f32], bias: &[f32], norm: Norm, out: &mut [f32]) {
    let mean = norm.mean(isa, x);
    let (centre, scale, offset) = (isa.splat(mean), isa.splat(norm.scale(isa, x, mean)), isa.splat(norm.offset));
    zip_map(isa, [x, weight, bias], out, #[inline(always)] |[x, w, b]| {
        isa.mul_add(isa.mul(isa.sub(x, centre), scale), isa.add(offset, w), b)
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, Random, assert_same_bits, for_every_level, lanes, nans, ulp};

    const NORM: Norm = Norm { centred: true, scaled: true, eps: 1e-12, offset: 0.0 };
    const RMS: Norm = Norm { centred: false, scaled: true, eps: 1e-6, offset: 1.0 };
    const NONE: Norm = Norm { centred: false, scaled: false, eps: 0.0, offset: 0.0 };

    /// Normalises dense rows of `cols` through operands that lie `gap` apart and off every cache line.
    fn normalised(
        level: Level,
        threads: usize,
        norm: Norm,
        x: &[f32],
        [weight, bias]: [&[f32]; 2],
        gap: usize,
        offset: usize,
    ) -> Vec<f32> {
        let cols = weight.len();
        let rows = x.len() / cols.max(1);
        let x = Guarded::new(x, rows, cols, gap, offset);
        let [mut weight, mut bias] = [Guarded::row(weight, offset + 1), Guarded::row(bias, offset + 2)];
        let mut out = Guarded::output(rows, cols, gap, offset + 3);
        layer_norm(
            level,
            &Threads::new(threads),
            x.mat(),
            weight.slice(),
            bias.slice(),
            norm,
            out.mat_mut(),
            &mut Narrow::default(),
        );
        out.values()
    }

    /// As stated.
    fn check(level: Level, norm: Norm, row: &[f32], [weight, bias]: [&[f32]; 2]) {
        let got = normalised(level, 1, norm, row, [weight, bias], 0, 0);
        let x = || row.iter().map(|x| f64::from(*x));
        let (n, largest) = (row.len() as f64, x().fold(0f64, |a, b| a.max(b.abs())));
        let mean = if norm.centred { x().sum::<f64>() / n } else { 0.0 };
        let variance = x().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let sigma = if norm.scaled { (variance + f64::from(norm.eps)).sqrt() } else { 1.0 };
        for (i, exact) in naive::layer_norm(row, weight, bias, norm).into_iter().enumerate() {
            let allowed =
                3.0 * 2f64.powi(-23) * f64::from((norm.offset + weight[i]).abs()) * largest / sigma + 0.5 * ulp(exact);
            let error = (f64::from(got[i]) - exact).abs();
            assert!(error <= allowed, "{i} of {}: {}, not {exact}: {error:e} > {allowed:e}", row.len(), got[i]);
        }
    }

    #[test]
    fn the_stated_accuracy_is_kept() {
        let mut random = Random(5);
        for_every_level(|level| {
            for len in (1..=4 * lanes(level) + 3).chain([384, 768, 1000, 4096]) {
                let parameters = [&random.floats(len)[..], &random.floats(len)];
                for (spread, mean) in [(1.0, 0.0), (1e-3, 0.0), (1e6, 0.0), (1e-15, 0.0), (1.0, 100.0)] {
                    let row: Vec<f32> = random.floats(len).iter().map(|x| x * spread + mean).collect();
                    [NORM, RMS, NONE].into_iter().for_each(|norm| check(level, norm, &row, parameters));
                }
            }
        });
    }

    #[test]
    fn a_row_has_the_same_bits_anywhere() {
        let mut random = Random(6);
        for_every_level(|level| {
            for (rows, cols) in (0..=4 * lanes(level) + 3).map(|cols| (3, cols)).chain([(0, 5), (700, 257)]) {
                let (weight, bias) = (random.floats(cols), random.floats(cols));
                let x = random.floats(rows * cols);
                let expected: Vec<f32> = x
                    .chunks(cols.max(1))
                    .flat_map(|row| normalised(level, 1, NORM, row, [&weight, &bias], 0, 0))
                    .collect();
                for offset in 0..if rows < 10 { lanes(level) } else { 3 } {
                    let got = normalised(level, 1 + offset % 3, NORM, &x, [&weight, &bias], offset % 5, offset);
                    assert_same_bits(&got, &expected, format_args!("({rows}, {cols}) at {offset}"));
                }
            }
        });
    }

    #[test]
    fn nan_and_infinity_stay_in_their_row() {
        for_every_level(|level| {
            for len in 1..=4 * lanes(level) + 3 {
                let parameters = [&vec![1.0; len][..], &vec![0.0; len]];
                let clean = Random(7).floats(3 * len);
                let expected = normalised(level, 1, NORM, &clean, parameters, 1, 1);
                for poison in nans().into_iter().chain([f32::INFINITY, f32::NEG_INFINITY]) {
                    let mut x = clean.clone();
                    x[len + len / 2] = poison;
                    let got = normalised(level, 1, NORM, &x, parameters, 1, 1);
                    assert!(got[len..2 * len].iter().all(|y| y.is_nan()), "{poison} in a row of {len}");
                    assert_same_bits(&got[..len], &expected[..len], format_args!("{len}"));
                    assert_same_bits(&got[2 * len..], &expected[2 * len..], format_args!("{len}"));
                }
            }
        });
    }

    #[test]
    fn equal_elements_become_the_bias() {
        for_every_level(|level| {
            for value in [0.0, -0.0, 1e-45, -1e-40, 0.5, -3.0, 1e30] {
                let bias = Random(8).floats(8);
                let got = normalised(level, 1, NORM, &[value; 8], [&[2.0; 8], &bias], 0, 0);
                assert_same_bits(&got, &bias, format_args!("{value:e}"));
            }
        });
    }

    #[test]
    fn a_variance_beyond_f32_leaves_the_bias() {
        for_every_level(|level| {
            let got = normalised(level, 1, NORM, &[1e30, -1e30, 1e25, 0.0], [&[1.0; 4], &[0.5; 4]], 0, 0);
            assert_same_bits(&got, &[0.5; 4], format_args!("huge"));
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn any_row_keeps_to_the_twin(
            elements in prop::collection::vec((-100f32..100.0, -3f32..3.0, -3f32..3.0), 1..300),
        ) {
            let row: Vec<f32> = elements.iter().map(|e| e.0).collect();
            let weight: Vec<f32> = elements.iter().map(|e| e.1).collect();
            let bias: Vec<f32> = elements.iter().map(|e| e.2).collect();
            for_every_level(|level| [NORM, RMS, NONE].into_iter().for_each(|norm| check(level, norm, &row, [&weight, &bias])));
        }
    }
}
