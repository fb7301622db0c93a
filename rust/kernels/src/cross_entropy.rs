//! Cross-entropy of rows of logits with their labels, and its gradient in their place.
//!
//!   loss = sum of t_c (log sum e^z - z_c),  t_c = w_c ((1 - smoothing) [c = label] + smoothing / C)
//!   d loss / d z_c = (sum of t) p_c - t_c,  p = softmax(z)
//!
//! as torch.nn.functional.cross_entropy has it with reduction="none". Rows are long where words are predicted, and a loss near 0 is
//! what training is after: sums in f32 are short, the rest is in f64.

use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::MatMut;
use crate::math::exp;
use crate::rows::{map_in_place, map_sum_in_place, max, update, zip_sums};
use crate::threads::{Disjoint, Threads};

/// `losses` (T,) of `logits` (T, C), which become the gradients of these, with `labels` (T,) and the classes' `weights` (C,), none of
/// them negative. To divide by the rows, or by the weights of their labels, is the caller's.
///
/// With w the sum of t of the row, a loss is within 1e-6 (w + loss) of the exact value and an element of the gradient within 1e-6 w.
/// A row that holds a NaN or +inf becomes NaN, as one of -inf alone.
///
/// # Panics
/// If the shapes disagree, a label has no class or the smoothing is not in 0..=1.
pub fn cross_entropy(
    level: Level,
    threads: &Threads,
    logits: MatMut,
    labels: &[usize],
    weights: Option<&[f32]>,
    label_smoothing: f32,
    losses: &mut [f64],
) {
    let (rows, cols) = (logits.rows(), logits.cols());
    assert_eq!([labels.len(), losses.len()], [rows; 2], "cross_entropy: labels and losses");
    assert!(labels.iter().all(|label| *label < cols), "cross_entropy: a label beyond {cols} classes");
    assert!(weights.is_none_or(|weights| weights.len() == cols), "cross_entropy: weights");
    assert!((0.0..=1.0).contains(&label_smoothing), "cross_entropy: a label smoothing of {label_smoothing}");
    let all = weights.map_or(cols as f64, |weights| weights.iter().map(|w| f64::from(*w)).sum());
    let smoothing = f64::from(label_smoothing);
    let classes = Classes { weights, all, hard: 1.0 - smoothing, soft: smoothing / cols as f64 };
    let (logits, losses) = (Disjoint::new(logits), Disjoint::new(MatMut::dense(losses, 1, rows)));
    threads.for_each_block(rows, cols * 16, |range| {
        // SAFETY: the ranges do not overlap.
        let (logits, mut losses) = unsafe { (logits.block(range.clone(), 0..cols), losses.block(0..1, range.clone())) };
        dispatch_floats(level, CrossEntropy { logits, labels: &labels[range], classes, losses: losses.row_mut(0) });
    });
}

#[derive(Clone, Copy)]
struct Classes<'a> {
    weights: Option<&'a [f32]>,
    /// The sum of the weights.
    all: f64,
    /// What the label has of a row, and what each class.
    hard: f64,
    soft: f64,
}

struct CrossEntropy<'a> {
    logits: MatMut<'a>,
    labels: &'a [usize],
    classes: Classes<'a>,
    losses: &'a mut [f64],
}

impl Kernel for CrossEntropy<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        for (r, loss) in self.losses.iter_mut().enumerate() {
            *loss = self.classes.row(isa, self.logits.row_mut(r), self.labels[r]);
        }
    }
}

impl Classes<'_> {
    #[inline(always)]
    fn row<I: Isa>(self, isa: I, row: &mut [f32], label: usize) -> f64 {
        let highest = max(isa, row);
        let label_below = f64::from(row[label]) - f64::from(highest);
        let (sum, below) = self.exponentials(isa, row, highest);
        let label_weight = self.weights.map_or(
            1.0,
            #[inline(always)]
            |weights| f64::from(weights[label]),
        );
        let (hard, log_sum) = (self.hard * label_weight, sum.ln());
        let scale = (hard + self.soft * self.all) / sum;
        let of_label = scale * f64::from(row[label]) - hard - self.soft * label_weight;
        self.gradient(isa, row, scale);
        row[label] = of_label as f32;
        hard * (log_sum - label_below) + self.soft * self.all * log_sum - self.soft * below
    }

    /// `z = e^(z - highest)`; the sum of these, and, where labels are smoothed, that of w (z - highest).
    #[inline(always)]
    #[rustfmt::skip]
    fn exponentials<I: Isa>(self, isa: I, row: &mut [f32], highest: f32) -> (f64, f64) {
        const ADDED: usize = 8;
        let highest = isa.splat(highest);
        let (mut sum, mut below) = (0.0, 0.0);
        let len = 4 * ADDED * I::LANES;
        for (n, piece) in row.chunks_mut(len).enumerate() {
            map_in_place(isa, piece, #[inline(always)] |z| isa.sub(z, highest));
            if self.soft != 0.0 {
                below += match self.weights {
                    None => f64::from(zip_sums(isa, [piece], #[inline(always)] |[z]| [z])[0]),
                    Some(weights) => {
                        let weights = &weights[n * len..][..piece.len()];
                        f64::from(zip_sums(isa, [piece, weights], #[inline(always)] |[z, w]| [isa.mul(z, w)])[0])
                    }
                };
            }
            sum += f64::from(map_sum_in_place(isa, piece, #[inline(always)] |z| exp(isa, z)));
        }
        (sum, below)
    }

    /// `e = scale e - soft w`.
    #[inline(always)]
    #[rustfmt::skip]
    fn gradient<I: Isa>(self, isa: I, row: &mut [f32], scale: f64) {
        let (scale, minus_soft) = (isa.splat(scale as f32), isa.splat(-self.soft as f32));
        match self.weights {
            None => map_in_place(isa, row, #[inline(always)] |e| isa.mul_add(e, scale, minus_soft)),
            Some(weights) => update(isa, [row], [weights], #[inline(always)] |[e], [w]| {
                [isa.mul_add(e, scale, isa.mul(w, minus_soft))]
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, Random, assert_same_bits, for_every_level, lanes, nans, slope};

    /// Losses and gradients of rows that lie `gap` apart and off every cache line.
    fn at(
        level: Level,
        threads: usize,
        [logits, weights]: [&[f32]; 2],
        labels: &[usize],
        smoothing: f32,
        offset: usize,
    ) -> (Vec<f64>, Vec<f32>) {
        let (rows, cols) = (labels.len(), logits.len() / labels.len().max(1));
        let mut logits = Guarded::new(logits, rows, cols, offset % 3, offset);
        let mut guarded = Guarded::row(weights, offset + 1);
        let weights = (!weights.is_empty()).then(|| &*guarded.slice());
        let mut losses = vec![f64::NAN; rows];
        cross_entropy(level, &Threads::new(threads), logits.mat_mut(), labels, weights, smoothing, &mut losses);
        (losses, logits.values())
    }

    /// As stated.
    fn check(level: Level, row: &[f32], label: usize, weights: &[f32], smoothing: f32) {
        let (losses, gradient) = at(level, 1, [row, weights], &[label], smoothing, 0);
        let ones = vec![1.0; row.len()];
        let weights = if weights.is_empty() { &ones } else { weights };
        let (loss, exact) = naive::cross_entropy(row, label, weights, smoothing);
        let smoothing = f64::from(smoothing);
        let all = weights.iter().map(|w| f64::from(*w)).sum::<f64>() * smoothing / row.len() as f64
            + (1.0 - smoothing) * f64::from(weights[label]);
        let error = (losses[0] - loss).abs();
        assert!(error <= 1e-6 * (all + loss), "of {}: {}, not {loss}: {error:e}", row.len(), losses[0]);
        for (i, (got, exact)) in gradient.iter().zip(exact).enumerate() {
            let error = (f64::from(*got) - exact).abs();
            assert!(error <= 1e-6 * all, "{i} of {}: {got}, not {exact}: {error:e}", row.len());
        }
    }

    #[test]
    fn the_stated_accuracy_is_kept() {
        let mut random = Random(61);
        for_every_level(|level| {
            for len in (1..=4 * lanes(level) + 3).chain([1000, 30_522]) {
                for (spread, mean) in [(0.0, 0.0), (1.0, 0.0), (10.0, -3.0), (60.0, 1000.0)] {
                    let row: Vec<f32> = random.floats(len).iter().map(|x| x * spread + mean).collect();
                    let weights: Vec<f32> = random.floats(len).iter().map(|x| x.abs()).collect();
                    for smoothing in [0.0, 0.1, 1.0] {
                        let label = random.next() as usize % len;
                        check(level, &row, label, &[], smoothing);
                        check(level, &row, label, &weights, smoothing);
                    }
                }
            }
        });
    }

    /// As recorded from torch.
    #[test]
    fn two_rows_are_what_torch_says() {
        let logits = [1.0, -2.0, 0.5, 3.0, 0.0, 4.0, -1.0, 2.0];
        for_every_level(|level| {
            let (losses, gradients) = at(level, 1, [&logits, &[0.5, 1.0, 2.0, 0.25]], &[3, 0], 0.1, 0);
            let torch = [0.022_739_003, -0.023_245_553, -0.028_626_466, 0.029_133_01];
            let torch = torch.into_iter().chain([-0.453_917_38, 0.443_592_85, -0.046_842_646, 0.057_167_146]);
            assert!(losses.iter().zip([0.339_468_33, 2.193_385_6]).all(|(a, b)| (a - b).abs() < 5e-7), "{losses:?}");
            assert!(gradients.iter().zip(torch).all(|(a, b)| (a - b).abs() < 2e-7), "{gradients:?}");
        });
    }

    #[test]
    fn the_gradient_is_the_derivative_of_the_twins_loss() {
        let mut random = Random(62);
        for smoothing in [0.0, 0.1] {
            let (row, weights) = (random.floats(7), random.floats(7).iter().map(|x| x.abs()).collect::<Vec<_>>());
            let (_, gradient) = naive::cross_entropy(&row, 2, &weights, smoothing);
            for (i, exact) in gradient.into_iter().enumerate() {
                let loss = |z: f64| {
                    let mut row = row.clone();
                    row[i] = z as f32;
                    naive::cross_entropy(&row, 2, &weights, smoothing).0
                };
                let got = slope(loss, f64::from(row[i]));
                assert!((got - exact).abs() < 1e-8, "{i}: {got}, not {exact}");
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_anywhere_and_minus_infinity_no_gradient() {
        let mut random = Random(63);
        for_every_level(|level| {
            for (rows, cols) in (1..=4 * lanes(level) + 3).map(|cols| (3, cols)).chain([(0, 0), (300, 257), (3, 5000)])
            {
                let mut logits = random.floats(rows * cols);
                let weights: Vec<f32> = random.floats(cols).iter().map(|x| x.abs()).collect();
                let labels: Vec<usize> = (0..rows).map(|_| random.next() as usize % cols).collect();
                for (row, label) in logits.chunks_mut(cols.max(1)).zip(&labels).filter(|_| cols > 1) {
                    row[(label + 1) % cols] = f32::NEG_INFINITY;
                }
                for (weights, smoothing) in [(&[][..], 0.0), (&weights, 0.0)] {
                    let one = |(row, label): (&[f32], &usize)| at(level, 1, [row, weights], &[*label], smoothing, 0);
                    let expected: Vec<_> = logits.chunks(cols.max(1)).zip(&labels).map(one).collect();
                    for offset in 0..5 {
                        let (losses, gradients) =
                            at(level, 1 + offset % 3, [&logits, weights], &labels, smoothing, offset);
                        for (r, (loss, gradient)) in expected.iter().enumerate() {
                            assert_eq!(losses[r].to_bits(), loss[0].to_bits(), "row {r} of {cols}");
                            let got = &gradients[r * cols..][..cols];
                            assert_same_bits(got, gradient, format_args!("row {r} of {cols} at {offset}"));
                            assert!(cols == 1 || got[(labels[r] + 1) % cols] == 0.0 && loss[0].is_finite());
                        }
                    }
                }
            }
        });
    }

    #[test]
    fn nan_and_infinity_stay_in_their_row() {
        for_every_level(|level| {
            for len in 1..=4 * lanes(level) + 3 {
                for poison in nans().into_iter().chain([f32::INFINITY]) {
                    for smoothing in [0.0, 0.1] {
                        let mut logits = Random(64).floats(3 * len);
                        logits[len + len / 2] = poison;
                        let (losses, gradients) = at(level, 1, [&logits, &[]], &[0; 3], smoothing, 1);
                        assert!(losses.iter().enumerate().all(|(r, loss)| loss.is_nan() == (r == 1)));
                        assert!(gradients.iter().enumerate().all(|(i, g)| g.is_nan() == (i / len == 1)));
                    }
                }
            }
        });
    }

    #[test]
    #[should_panic(expected = "beyond 2 classes")]
    fn a_label_without_a_class_is_refused() {
        at(Level::best(), 1, [&[0.0; 2], &[]], &[2], 0.0, 0);
    }
}
