//! Dropout without a state (Srivastava et al. 2014).
//!
//! Whether an element falls is a hash of a key, its row's number and its column: whoever comes to it again, on whatever thread,
//! in whatever order, on whatever instruction set, finds the same, and no mask is kept. The hash of a column is lowbias32
//! (Chris Wellons, hash-prospector), with the row's key at its beginning and in its middle; a row's key is two rounds of
//! splitmix64 (Steele, Lea and Flood 2014).

use crate::isa::{Isa, Kernel, Level, MAX_PANEL, dispatch_floats};
use crate::mat::MatMut;
use crate::rows::map_with_place;

/// Elements fall at a rate p, and those that stay are multiplied by 1 / (1 - p).
#[derive(Clone, Copy)]
pub struct Dropout {
    key: u64,
    /// Hashes below it fall.
    threshold: u32,
    scale: f32,
}

const COLUMNS: [u32; MAX_PANEL] = {
    let mut columns = [0; MAX_PANEL];
    let mut i = 0;
    while i < MAX_PANEL {
        columns[i] = i as u32;
        i += 1;
    }
    columns
};

impl Dropout {
    /// `None` where nothing falls.
    ///
    /// # Panics
    /// If p is not in 0..1.
    pub fn new(p: f32, key: u64) -> Option<Self> {
        assert!((0.0..1.0).contains(&p), "dropout: {p} is not in 0..1");
        let threshold = (f64::from(p) * 2f64.powi(32)).round() as u32;
        let scale = (1.0 / (1.0 - f64::from(p))) as f32;
        (p != 0.0).then_some(Dropout { key, threshold, scale })
    }

    /// The rows, whose numbers are `first_row..`, on this thread; what falls becomes 0, NaN too. Applied to gradients it is its own
    /// derivative.
    pub fn apply(self, level: Level, first_row: usize, rows: MatMut) {
        dispatch_floats(level, Apply { dropout: self, first_row, rows });
    }

    /// A row in place, from a column on.
    #[inline(always)]
    #[rustfmt::skip]
    pub(crate) fn row<I: Isa>(self, isa: I, row: u64, column: usize, xs: &mut [f32]) {
        let keys = splitmix(self.key.wrapping_add(splitmix(row)));
        let (first, second) = ((keys as u32).wrapping_add(column as u32), isa.splat_word((keys >> 32) as u32));
        // SAFETY: COLUMNS holds MAX_PANEL >= LANES words.
        let columns = unsafe { isa.load_words(COLUMNS.as_ptr()) };
        let (threshold, scale) = (isa.splat_word(self.threshold), isa.splat(self.scale));
        map_with_place(isa, xs, #[inline(always)] |i, x| {
            let h = isa.add_words(columns, isa.splat_word(first.wrapping_add(i as u32)));
            let h = isa.mul_words(isa.xor_words(h, isa.shift_right(h, 16)), isa.splat_word(0x7feb_352d));
            let h = isa.xor_words(h, second);
            let h = isa.mul_words(isa.xor_words(h, isa.shift_right(h, 15)), isa.splat_word(0x846c_a68b));
            let h = isa.xor_words(h, isa.shift_right(h, 16));
            isa.select_below(h, threshold, isa.splat(0.0), isa.mul(x, scale))
        });
    }
}

struct Apply<'a> {
    dropout: Dropout,
    first_row: usize,
    rows: MatMut<'a>,
}

impl Kernel for Apply<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        for r in 0..self.rows.rows() {
            self.dropout.row(isa, (self.first_row + r) as u64, 0, self.rows.row_mut(r));
        }
    }
}

#[inline(always)]
fn splitmix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, Random, assert_same_bits, for_every_level, lanes};

    /// Whether each of so many elements is kept.
    fn kept(p: f32, key: u64, first_row: usize, [rows, cols]: [usize; 2]) -> Vec<bool> {
        let mut xs = vec![1.0; rows * cols];
        Dropout::new(p, key).unwrap().apply(Level::best(), first_row, MatMut::dense(&mut xs, rows, cols));
        xs.iter().map(|x| *x != 0.0).collect()
    }

    /// How many standard deviations the number of trues lies from what chance would have.
    fn surprise(trues: impl IntoIterator<Item = bool>, chance: f64) -> f64 {
        let (n, hits) = trues.into_iter().fold((0.0, 0.0), |(n, hits), hit| (n + 1.0, hits + f64::from(hit)));
        (hits - n * chance) / (n * chance * (1.0 - chance)).sqrt()
    }

    #[test]
    fn an_element_is_the_twins_anywhere_on_every_level() {
        let mut random = Random(41);
        for_every_level(|level| {
            for cols in (0..=4 * lanes(level) + 3).chain([768]) {
                for (offset, p) in [0.1, 0.5, 0.999, 1e-3, 1.0 - f32::EPSILON].into_iter().enumerate() {
                    let (key, first_row) = (random.next(), random.next() as usize >> 8);
                    let x = random.floats(3 * cols);
                    let mut rows = Guarded::new(&x, 3, cols, offset, offset);
                    Dropout::new(p, key).unwrap().apply(level, first_row, rows.mat_mut());
                    let scale = (1.0 / (1.0 - f64::from(p))) as f32;
                    let element = |(i, x): (usize, &f32)| {
                        let (row, column) = ((first_row + i / cols) as u64, (i % cols) as u32);
                        if naive::dropout_keeps(p, key, row, column) { x * scale } else { 0.0 }
                    };
                    let expected: Vec<f32> = x.iter().enumerate().map(element).collect();
                    assert_same_bits(&rows.values(), &expected, format_args!("{cols} at {p}"));
                }
            }
        });
    }

    #[test]
    fn what_falls_is_zero_whatever_it_was() {
        for_every_level(|level| {
            let mut xs = [f32::NAN; 1000];
            Dropout::new(0.5, 1).unwrap().apply(level, 0, MatMut::dense(&mut xs, 1, 1000));
            assert!(xs.iter().all(|x| x.is_nan() || x.to_bits() == 0) && xs.contains(&0.0));
        });
    }

    #[test]
    fn the_rate_is_kept_in_all_and_in_every_column_and_row() {
        for p in [0.01, 0.1, 0.5, 0.9] {
            let [rows, cols] = [1000, 768];
            let kept = kept(p, 42, 0, [rows, cols]);
            let chance = 1.0 - f64::from(p);
            assert!(surprise(kept.iter().copied(), chance).abs() < 4.0, "{p}");
            let by_row = kept.chunks(cols).map(|row| surprise(row.iter().copied(), chance));
            let by_column = (0..cols).map(|c| surprise((0..rows).map(|r| kept[r * cols + c]), chance));
            for (name, surprises) in [("row", by_row.collect::<Vec<_>>()), ("column", by_column.collect())] {
                // Squares of normal numbers: their mean is 1, with a variance of 2 / n.
                let n = surprises.len() as f64;
                let mean = surprises.iter().map(|s| s * s).sum::<f64>() / n;
                assert!((mean - 1.0).abs() < 4.0 * (2.0 / n).sqrt() + 0.02, "{name} at {p}: {mean}");
            }
        }
    }

    #[test]
    fn neighbours_rows_and_keys_know_nothing_of_each_other() {
        let [rows, cols] = [400, 768];
        for p in [0.1, 0.5] {
            let here = kept(p, 7, 100, [rows, cols]);
            let chance = f64::from(p * p + (1.0 - p) * (1.0 - p));
            let agree = |a: &[bool], b: &[bool]| surprise(a.iter().zip(b).map(|(a, b)| a == b), chance).abs();
            for distance in [1, 2, 3, 4, 7, 8, 16, 32, 64, 256, cols, 2 * cols, 16 * cols, 128 * cols] {
                let surprise = agree(&here, &here[distance..]);
                assert!(surprise < 4.0, "{distance} apart at {p}: {surprise}");
            }
            for key in (0..64).map(|bit| 7 ^ 1 << bit) {
                let surprise = agree(&here, &kept(p, key, 100, [rows, cols]));
                assert!(surprise < 4.5, "key {key} at {p}: {surprise}");
            }
        }
    }

    /// Chi-squared over the 256 patterns of eight neighbours, and of eight rows.
    #[test]
    fn patterns_come_as_often_as_chance_has_them() {
        let [rows, cols] = [1024, 768];
        let kept = kept(0.5, 3, 0, [rows, cols]);
        for stride in [1, cols] {
            let mut counts = [0u32; 256];
            for i in 0..kept.len() / 8 {
                let first = if stride == 1 { 8 * i } else { i / cols * 8 * cols + i % cols };
                counts[(0..8).fold(0, |bits, k| 2 * bits + usize::from(kept[first + k * stride]))] += 1;
            }
            let expected = (kept.len() / 8) as f64 / 256.0;
            let chi: f64 = counts.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
            assert!((chi - 255.0).abs() < 4.0 * 510f64.sqrt(), "{stride} apart: {chi}");
        }
    }

    #[test]
    fn nothing_falls_at_rate_zero_and_one_is_refused() {
        assert!(Dropout::new(0.0, 1).is_none());
        for p in [1.0, -0.1, f32::NAN] {
            assert!(std::panic::catch_unwind(|| Dropout::new(p, 1)).is_err());
        }
    }
}
