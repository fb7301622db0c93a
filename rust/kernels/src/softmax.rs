//! Softmax of a row in place.

use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::math::exp;
use crate::rows::{map_in_place, map_sum_in_place, max};

/// `x_i = e^(scale (x_i - max)) / sum`. `scale` >= 0.
///
/// Each is within 4 ULP (8 in rows of more than 1,000), and 2 more for every e-fold below the largest: the rounding of
/// `scale (x_i - max)`.
///
/// A row of -inf alone (nothing to attend to) becomes zeros, where the formula has 0/0; NaN or +inf make the row NaN.
pub fn softmax(level: Level, row: &mut [f32], scale: f32) {
    struct Softmax<'a>(&'a mut [f32], f32);
    impl Kernel for Softmax<'_> {
        type Out = ();
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            softmax_row(isa, self.0, self.1);
        }
    }
    dispatch_floats(level, Softmax(row, scale));
}

#[inline(always)]
#[rustfmt::skip]
pub(crate) fn softmax_row<I: Isa>(isa: I, row: &mut [f32], scale: f32) {
    let inverse = isa.splat(1.0 / exp_row(isa, row, scale));
    map_in_place(isa, row, #[inline(always)] |x| isa.mul(x, inverse));
}

/// `x_i = e^(scale (x_i - max))` and the sum of these; for a row of -inf alone zeros and 1.
#[inline(always)]
#[rustfmt::skip]
pub(crate) fn exp_row<I: Isa>(isa: I, row: &mut [f32], scale: f32) -> f32 {
    let highest = max(isa, row);
    if highest == f32::NEG_INFINITY && row.iter().all(|x| *x == f32::NEG_INFINITY) {
        row.fill(0.0);
        return 1.0;
    }
    let (highest, scale) = (isa.splat(highest), isa.splat(scale));
    map_sum_in_place(isa, row, #[inline(always)] |x| exp(isa, isa.mul(isa.sub(x, highest), scale)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, NASTY, Random, assert_same_bits, for_every_level, lanes, nans, ulps};

    /// The softmax of a row that begins `offset` floats after a cache line.
    fn softmax_at(level: Level, row: &[f32], scale: f32, offset: usize) -> Vec<f32> {
        let mut guarded = Guarded::row(row, offset);
        softmax(level, guarded.slice(), scale);
        guarded.values()
    }

    /// As stated.
    fn check(level: Level, row: &[f32], scale: f32) {
        let got = softmax_at(level, row, scale, 1);
        let few = if row.len() > 1000 { 8.0 } else { 4.0 };
        let max = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        for ((x, got), exact) in row.iter().zip(&got).zip(naive::softmax(row, scale)) {
            let below = (max - x) * scale;
            let error = ulps(*got, exact);
            assert!(
                error <= few + 2.0 * f64::from(below.min(110.0)),
                "of {}: {got:e}, not {exact:e}: {error} ULP",
                row.len()
            );
            assert!((0.0..=1.0).contains(got), "{got:e}");
        }
        let sum: f64 = got.iter().map(|x| f64::from(*x)).sum();
        assert!(ulps(1.0, sum) <= few, "the sum of {} is {sum}", row.len());
    }

    #[test]
    fn the_stated_accuracy_is_kept() {
        let mut random = Random(3);
        for_every_level(|level| {
            for len in (1..=4 * lanes(level) + 3).chain([128, 1000, 4096]) {
                for spread in [0.0, 1.0, 10.0, 80.0] {
                    let row: Vec<f32> = random.floats(len).iter().map(|x| x * spread).collect();
                    check(level, &row, 1.0);
                    check(level, &row, 0.125);
                }
            }
        });
    }

    #[test]
    fn the_alignment_changes_nothing() {
        let mut random = Random(4);
        for_every_level(|level| {
            for len in 0..=4 * lanes(level) + 3 {
                let row = random.floats(len);
                let expected = softmax_at(level, &row, 1.0, 0);
                for offset in 1..lanes(level) {
                    assert_same_bits(
                        &softmax_at(level, &row, 1.0, offset),
                        &expected,
                        format_args!("{len} at {offset}"),
                    );
                }
            }
        });
    }

    #[test]
    fn minus_infinity_gets_nothing_and_a_row_of_it_is_zeros() {
        for_every_level(|level| {
            for len in 0..=4 * lanes(level) + 3 {
                let mut row = vec![f32::NEG_INFINITY; len];
                assert_same_bits(&softmax_at(level, &row, 0.5, 1), &vec![0.0; len], format_args!("{len}"));
                for i in 0..len {
                    row[i] = -1e30;
                    let got = softmax_at(level, &row, 0.5, 1);
                    assert!(got.iter().enumerate().all(|(j, p)| *p == if i == j { 1.0 } else { 0.0 }), "{i} of {len}");
                    row[i] = f32::NEG_INFINITY;
                }
            }
        });
    }

    #[test]
    fn nan_and_infinity_make_the_row_nan() {
        for_every_level(|level| {
            for len in 1..=4 * lanes(level) + 3 {
                for i in 0..len {
                    for poison in nans().into_iter().chain([f32::INFINITY]) {
                        for rest in [0.5, f32::NEG_INFINITY] {
                            let mut row = vec![rest; len];
                            row[i] = poison;
                            let got = softmax_at(level, &row, 1.0, 0);
                            assert!(got.iter().all(|p| p.is_nan()), "{poison} at {i} of {len} among {rest}: {got:?}");
                        }
                    }
                }
            }
        });
    }

    #[test]
    fn extreme_rows_keep_to_the_twin() {
        let finite: Vec<f32> = NASTY.into_iter().filter(|x| x.is_finite()).collect();
        for_every_level(|level| {
            check(level, &finite, 1.0);
            check(level, &finite, 1e-3);
            check(level, &[1e-45; 37], 1.0);
            check(level, &[-1e-40, 1e-40, 0.0], 0.5);
            check(level, &[f32::MAX, f32::MAX, f32::MIN], 1.0);
            check(level, &[0.0, -87.0, -88.5, -100.0, -103.5, -104.0], 1.0);
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn any_row_keeps_to_the_twin(row in prop::collection::vec(-50f32..50.0, 1..200), scale in 0f32..2.0) {
            for_every_level(|level| check(level, &row, scale));
        }
    }
}
