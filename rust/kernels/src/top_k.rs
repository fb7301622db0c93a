//! The largest of a row of logits, and the logarithm of the sum of all exponentials: what sampling and beam search need of a vocabulary.
//!
//!   log softmax(z)_i = z_i - log sum e^z
//!
//! The k largest so far are a heap with the worst on top. Few of the others are better than that, so a row is read at the speed of
//! comparing four vectors at a time with it.

use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::{Mat, MatMut};
use crate::math::exp;
use crate::rows::sum_of;
use crate::threads::{Disjoint, Threads};

/// The k largest of each row of `logits` (N, V) to `values` and their columns to `indices` (N, k), the largest first, of equal ones the
/// one with the smaller index; and log sum e^z of each row to `log_sums` (N,).
///
/// NaN counts as -inf. A log sum is within 2e-6 of the exact value and a rounding of the largest logit; it is NaN where a row holds
/// NaN or +inf, and -inf where it holds -inf alone.
///
/// # Panics
/// If the shapes disagree or k is not in 1..=V.
pub fn log_softmax_top_k(
    level: Level,
    threads: &Threads,
    logits: Mat,
    values: MatMut,
    indices: MatMut<u32>,
    log_sums: &mut [f64],
) {
    let (rows, cols, k) = (logits.rows(), logits.cols(), values.cols());
    assert!((1..=cols).contains(&k) && cols <= u32::MAX as usize, "top_k: {k} of {cols}");
    assert_eq!((values.rows(), indices.rows(), indices.cols()), (rows, rows, k), "top_k: values and indices");
    assert_eq!(log_sums.len(), rows, "top_k: log_sums");
    let log_sums = Disjoint::new(MatMut::dense(log_sums, rows, 1));
    let (values, indices) = (Disjoint::new(values), Disjoint::new(indices));
    threads.for_each_block(rows, cols * 16, |range| {
        for r in range {
            // SAFETY: each row is in one range.
            let (mut values, mut indices, mut log_sum) = unsafe {
                (values.block(r..r + 1, 0..k), indices.block(r..r + 1, 0..k), log_sums.block(r..r + 1, 0..1))
            };
            let best = Best { values: values.row_mut(0), indices: indices.row_mut(0) };
            log_sum.row_mut(0)[0] = dispatch_floats(level, TopK { row: logits.row(r), best });
        }
    });
}

struct TopK<'a> {
    row: &'a [f32],
    best: Best<'a>,
}

impl Kernel for TopK<'_> {
    type Out = f64;
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> f64 {
        self.best.begin(self.row);
        above(isa, self.row, &mut self.best);
        self.best.sort();
        log_sum(isa, self.row, self.best.values[0])
    }
}

/// Shows the heap all elements that the first ones, which it has, leave a chance.
#[inline(always)]
fn above<I: Isa>(isa: I, row: &[f32], best: &mut Best) {
    const FOUR: usize = 4;
    let mut at = best.values.len();
    while at < row.len() {
        let worst = isa.splat(best.values[0]);
        let mut found = 0;
        let here = (row.len() - at).min(FOUR * I::LANES);
        for (i, part) in row[at..at + here].chunks(I::LANES).enumerate() {
            let v = if part.len() == I::LANES {
                // SAFETY: the part holds LANES floats.
                unsafe { isa.load(part.as_ptr()) }
            } else {
                isa.load_first(part, f32::NEG_INFINITY)
            };
            found |= u64::from(isa.below(worst, v)) << (i * I::LANES);
        }
        while found != 0 {
            let i = at + found.trailing_zeros() as usize;
            best.show(row[i], i as u32);
            found &= found - 1;
        }
        at += here;
    }
}

/// log sum e^z, where this is the largest.
#[inline(always)]
#[rustfmt::skip]
fn log_sum<I: Isa>(isa: I, row: &[f32], largest: f32) -> f64 {
    const PIECE: usize = 1024;
    // A row of -inf alone, where the formula has -inf less -inf. With NaN beside these the sum is NaN, as it should.
    if largest == f32::NEG_INFINITY && row.iter().all(|x| *x == largest) {
        return f64::NEG_INFINITY;
    }
    let highest = isa.splat(largest);
    let mut sum = 0.0;
    // Sums in f32 are short.
    for piece in row.chunks(PIECE) {
        let terms = sum_of(isa, piece, f32::NEG_INFINITY, #[inline(always)] |z| exp(isa, isa.sub(z, highest)));
        sum += f64::from(terms);
    }
    sum.ln() + f64::from(largest)
}

/// The best so far: a heap with the worst at 0, and at i none better than those at 2 i + 1 and 2 i + 2; once sorted the best first.
struct Best<'a> {
    values: &'a mut [f32],
    indices: &'a mut [u32],
}

impl Best<'_> {
    /// The first elements, as many as there is room for.
    fn begin(&mut self, row: &[f32]) {
        for (i, (value, index)) in self.values.iter_mut().zip(self.indices.iter_mut()).enumerate() {
            (*value, *index) = (if row[i].is_nan() { f32::NEG_INFINITY } else { row[i] }, i as u32);
        }
        let len = self.values.len();
        (0..len / 2).rev().for_each(|i| self.sink(i, len));
    }

    /// Takes an element from behind all that were shown before, if it is better than the worst.
    fn show(&mut self, value: f32, index: u32) {
        if value > self.values[0] {
            (self.values[0], self.indices[0]) = (value, index);
            self.sink(0, self.values.len());
        }
    }

    /// The worst goes last, of these and then of the rest.
    fn sort(&mut self) {
        for len in (1..self.values.len()).rev() {
            self.swap(0, len);
            self.sink(0, len);
        }
    }

    /// Moves what stands at `i` to where it belongs in a heap of `len`.
    fn sink(&mut self, mut i: usize, len: usize) {
        while 2 * i + 1 < len {
            let mut child = 2 * i + 1;
            if child + 1 < len && self.worse(child + 1, child) {
                child += 1;
            }
            if !self.worse(child, i) {
                return;
            }
            self.swap(child, i);
            i = child;
        }
    }

    fn worse(&self, a: usize, b: usize) -> bool {
        let (x, y) = (self.values[a], self.values[b]);
        x < y || x == y && self.indices[a] > self.indices[b]
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.values.swap(a, b);
        self.indices.swap(a, b);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, NASTY, Random, assert_same_bits, for_every_level, lanes, nans};

    /// Values, indices and log sums of rows that lie `gap` apart and off every cache line.
    fn found(
        level: Level,
        threads: usize,
        logits: &[f32],
        [rows, k]: [usize; 2],
        offset: usize,
    ) -> (Vec<f32>, Vec<u32>, Vec<f64>) {
        let cols = logits.len() / rows;
        let logits = Guarded::new(logits, rows, cols, offset % 3, offset);
        let mut values = Guarded::output(rows, k, offset % 3, offset + 1);
        let mut indices = vec![u32::MAX; rows * k];
        let mut log_sums = vec![0.0; rows];
        let into = MatMut::dense(&mut indices, rows, k);
        log_softmax_top_k(level, &Threads::new(threads), logits.mat(), values.mat_mut(), into, &mut log_sums);
        (values.values(), indices, log_sums)
    }

    /// As stated.
    fn check(level: Level, row: &[f32], k: usize, offset: usize) {
        let (values, indices, log_sums) = found(level, 1, row, [1, k], offset);
        let (exact_values, exact_indices) = naive::top_k(row, k);
        assert_eq!(indices, exact_indices, "{k} of {}", row.len());
        assert_same_bits(&values, &exact_values, format_args!("{k} of {}", row.len()));
        let exact = naive::log_sum_exp(row);
        let allowed = 2e-6 + f64::from(f32::EPSILON) * f64::from(values[0].abs());
        let same = log_sums[0] == exact || log_sums[0].is_nan() && exact.is_nan();
        assert!(same || (log_sums[0] - exact).abs() <= allowed, "{} is not {exact}", log_sums[0]);
    }

    #[test]
    fn all_lengths_and_numbers_keep_to_the_twin() {
        let mut random = Random(1);
        for_every_level(|level| {
            for len in (1..=9 * lanes(level) + 3).chain([1000, 5000]) {
                let row: Vec<f32> = random.floats(len).iter().map(|x| 20.0 * x).collect();
                for k in [1, 2, 3, 7, 64, 200, len].into_iter().filter(|k| *k <= len) {
                    check(level, &row, k, len % 16);
                }
            }
        });
    }

    #[test]
    fn of_equal_ones_the_first_is_better() {
        let mut random = Random(2);
        for_every_level(|level| {
            for len in [5, 100, 1000] {
                for different in [1, 2, 3, 10] {
                    let row: Vec<f32> = (0..len).map(|_| (random.next() % different) as f32).collect();
                    for k in [1, 4, len / 2, len] {
                        check(level, &row, k, 0);
                    }
                }
            }
            check(level, &[-0.0, 0.0, -0.0, 0.0], 3, 0);
        });
    }

    #[test]
    fn rising_and_falling_rows() {
        for_every_level(|level| {
            let rising: Vec<f32> = (0..3000).map(|i| i as f32 * 0.01).collect();
            let falling: Vec<f32> = rising.iter().rev().copied().collect();
            for (row, k) in [&rising, &falling].into_iter().flat_map(|row| [1, 5, 50, 3000].map(|k| (row, k))) {
                check(level, row, k, 3);
            }
        });
    }

    #[test]
    fn strange_numbers() {
        for_every_level(|level| {
            let finite: Vec<f32> = NASTY.into_iter().filter(|x| x.is_finite()).collect();
            for k in [1, 5, finite.len()] {
                check(level, &finite, k, 1);
                check(level, &NASTY, k, 1);
            }
            for len in 1..=5 * lanes(level) {
                check(level, &vec![f32::NEG_INFINITY; len], 1 + len / 2, 0);
                for i in 0..len {
                    for strange in nans().into_iter().chain([f32::INFINITY, f32::NEG_INFINITY]) {
                        let mut row = vec![-3.0; len];
                        row[i] = strange;
                        check(level, &row, 1 + len / 2, 0);
                    }
                }
            }
        });
    }

    #[test]
    fn company_threads_and_alignment_change_nothing() {
        let (rows, cols, k) = (23, 4001, 9);
        let logits = Random(3).floats(rows * cols);
        for_every_level(|level| {
            let (values, indices, log_sums) = found(level, 1, &logits, [rows, k], 0);
            for threads in [1, 2, 3] {
                let other = found(level, threads, &logits, [rows, k], threads);
                assert_eq!((&other.0, &other.1, &other.2), (&values, &indices, &log_sums));
            }
            for r in [0, 11] {
                let alone = found(level, 1, &logits[r * cols..][..cols], [1, k], 5);
                assert_eq!((&alone.0[..], alone.2[0]), (&values[r * k..][..k], log_sums[r]));
            }
        });
    }

    #[test]
    #[should_panic(expected = "top_k: 4 of 3")]
    fn more_than_there_are_is_refused() {
        found(Level::best(), 1, &[0.0; 3], [1, 4], 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn any_row_keeps_to_the_twin(row in prop::collection::vec(-30f32..30.0, 1..400), part in 0f64..1.0) {
            let k = 1 + (part * (row.len() - 1) as f64) as usize;
            for_every_level(|level| check(level, &row, k, 0));
        }
    }
}
