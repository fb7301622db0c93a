//! The contract of `linear`.

use proptest::prelude::*;

use super::{Epilogue, PackedLinear, Precision, linear};
use crate::isa::Level;
use crate::math::Activation;
use crate::naive;
use crate::testing::{Guarded, NASTY, Random, assert_same_bits, for_every_level, lanes, nans, ulp};
use crate::threads::Threads;

const ROWS: [usize; 33] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
    43, 129,
];
const MOST_ROWS: usize = 129;

/// A layer as it comes from a checkpoint, and its packed form.
struct Layer {
    weight: Vec<f32>,
    bias: Vec<f32>,
    packed: PackedLinear,
}

impl Layer {
    fn new(level: Level, weight: Vec<f32>, bias: Vec<f32>) -> Self {
        let inputs = weight.len().checked_div(bias.len()).unwrap_or(0);
        Self::with_inputs(level, weight, bias, inputs)
    }

    fn with_inputs(level: Level, weight: Vec<f32>, bias: Vec<f32>, inputs: usize) -> Self {
        let mut packed = PackedLinear::zeroed(level, Precision::Float32, inputs, bias.len()).unwrap();
        packed.set_weights(0, &weight);
        packed.set_bias(0, &bias);
        Layer { weight, bias, packed }
    }

    fn random(level: Level, k: usize, n: usize) -> Self {
        let mut random = Random((k * 1000 + n) as u64);
        Self::with_inputs(level, random.floats(k * n), random.floats(n), k)
    }

    /// The product of dense rows, through operands whose rows lie `gap` apart and off every cache line.
    fn apply(&self, threads: usize, x: &[f32], rows: usize, gap: usize, offset: usize) -> Vec<f32> {
        let x = Guarded::new(x, rows, self.packed.inputs(), gap, offset);
        let mut out = Guarded::output(rows, self.packed.outputs(), gap, offset + 1);
        linear(&Threads::new(threads), x.mat(), &self.packed, Epilogue::default(), out.mat_mut());
        out.values()
    }

    /// Row by row.
    fn apply_singly(&self, x: &[f32], rows: usize) -> Vec<f32> {
        let k = self.packed.inputs();
        (0..rows).flat_map(|r| self.apply(1, &x[r * k..][..k], 1, 0, 0)).collect()
    }

    /// As stated: within K ULP of the sum of all magnitudes.
    fn check(&self, x: &[f32], got: &[f32]) {
        let (k, n) = (self.packed.inputs(), self.bias.len());
        let absolute = |xs: &[f32]| xs.iter().map(|x| x.abs()).collect::<Vec<f32>>();
        let exact = naive::linear(x, &self.weight, &self.bias, k);
        let scale = naive::linear(&absolute(x), &absolute(&self.weight), &absolute(&self.bias), k);
        for (i, ((got, exact), scale)) in got.iter().zip(exact).zip(scale).enumerate() {
            let error = (f64::from(*got) - exact).abs();
            assert!(
                error <= k as f64 * ulp(scale),
                "k {k}, n {n}: element ({}, {}) is {got:e}, not {exact:e}",
                i / n,
                i % n
            );
        }
    }
}

/// k and n: all tails of n, with few k; some n with tails of k and with k beyond one and two slices.
fn shapes(level: Level) -> impl Iterator<Item = (usize, usize)> {
    let panel = level.panel();
    let wide = (0..=4 * panel + 3).flat_map(|n| [1, 2, 19].map(|k| (k, n)));
    let deep = [3, 4, 5, 31, 32, 33, 64, 100, 257].into_iter().flat_map(move |k| [1, panel, panel + 1].map(|n| (k, n)));
    let sliced =
        [1023, 1024, 1025, 2048, 2500].into_iter().flat_map(move |k| [1, panel, 4 * panel + 3].map(|n| (k, n)));
    wide.chain(deep).chain(sliced)
}

#[test]
fn the_stated_accuracy_is_kept() {
    let mut random = Random(20);
    for_every_level(|level| {
        for (k, n) in shapes(level) {
            let layer = Layer::random(level, k, n);
            let x = random.floats(20 * k);
            layer.check(&x, &layer.apply(1, &x, 20, 0, 0));
        }
    });
}

/// The law of the batch: a row's bits depend on the row and the weights alone.
#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    let mut random = Random(21);
    for_every_level(|level| {
        for (k, n) in shapes(level) {
            let layer = Layer::random(level, k, n);
            let most = if k < 200 || n < 40 { MOST_ROWS } else { 43 };
            let x = random.floats(most * k);
            let singly = layer.apply_singly(&x, most);
            for m in ROWS.into_iter().filter(|m| *m <= most) {
                // The last rows of the batch, so that each row takes many positions.
                let (x, expected) = (&x[(most - m) * k..], &singly[(most - m) * n..]);
                assert_same_bits(&layer.apply(1, x, m, m % 3, m % 17), expected, format_args!("m {m}, k {k}, n {n}"));
            }
        }
    });
}

#[test]
fn blocks_of_rows_and_shares_of_threads_change_nothing() {
    let mut random = Random(22);
    for_every_level(|level| {
        for (m, k, n) in [(1, 3000, 1500), (16, 384, 1152), (43, 300, 333), (1100, 100, 70), (129, 1500, 200)] {
            let layer = Layer::random(level, k, n);
            let x = random.floats(m * k);
            let expected = layer.apply_singly(&x, m);
            for threads in 1..=3 {
                let got = layer.apply(threads, &x, m, threads, 5);
                assert_same_bits(&got, &expected, format_args!("m {m}, k {k}, n {n}, {threads} threads"));
            }
        }
    });
}

#[test]
fn operands_may_lie_anywhere() {
    let mut random = Random(23);
    for_every_level(|level| {
        for n in [1, lanes(level), level.panel(), 2 * level.panel() + 3] {
            let layer = Layer::random(level, 21, n);
            let x = random.floats(5 * 21);
            let expected = layer.apply_singly(&x, 5);
            for offset in 0..lanes(level) {
                for gap in [0, 1, 16, 29] {
                    let context = format_args!("n {n}, offset {offset}, gap {gap}");
                    assert_same_bits(&layer.apply(1, &x, 5, gap, offset), &expected, context);
                }
            }
        }
    });
}

#[test]
fn without_inputs_the_bias_is_left() {
    for_every_level(|level| {
        for n in [0, 1, level.panel(), 2 * level.panel() + 3] {
            let bias = Random(24).floats(n);
            let layer = Layer::with_inputs(level, vec![], bias.clone(), 0);
            for m in [0, 1, 3, 30] {
                assert_same_bits(&layer.apply(2, &[], m, 2, 1), &bias.repeat(m), format_args!("m {m}, n {n}"));
            }
        }
    });
}

/// What follows the product is what the same functions do to the finished product.
#[test]
fn epilogues_follow_the_product() {
    use Activation::{Gelu, GeluTanh, Relu, Silu, Tanh};
    let mut random = Random(25);
    let activations = [None, Some(Gelu), Some(GeluTanh), Some(Relu), Some(Silu), Some(Tanh)];
    for_every_level(|level| {
        for (k, n) in [(7, 1), (20, level.panel()), (33, 4 * level.panel() + 3), (1030, 70)] {
            let layer = Layer::random(level, k, n);
            for m in [1, 2, 4, 5, 16, 31] {
                let (x, residual) = (random.floats(m * k), random.floats(m * n));
                let plain = layer.apply(1, &x, m, 0, 0);
                for activation in activations {
                    for with_residual in [false, true] {
                        let mut expected = plain.clone();
                        if let Some(activation) = activation {
                            activation.apply(level, &mut expected);
                        }
                        if with_residual {
                            expected.iter_mut().zip(&residual).for_each(|(y, r)| *y += r);
                        }
                        let x = Guarded::new(&x, m, k, 1, 3);
                        let residual = Guarded::new(&residual, m, n, 2, 5);
                        let mut out = Guarded::output(m, n, 3, 7);
                        let residual = with_residual.then(|| residual.mat());
                        linear(
                            &Threads::new(2),
                            x.mat(),
                            &layer.packed,
                            Epilogue { activation, residual },
                            out.mat_mut(),
                        );
                        let context = format_args!("m {m}, k {k}, n {n}, {activation:?}, residual {with_residual}");
                        assert_same_bits(&out.values(), &expected, context);
                    }
                }
            }
        }
    });
}

#[test]
fn nan_and_infinity_stay_in_their_row() {
    let mut random = Random(26);
    for_every_level(|level| {
        for (m, k, n) in [(1, 5, 3), (4, 9, 70), (15, 20, 33), (30, 1030, 5)] {
            let layer = Layer::random(level, k, n);
            let clean = random.floats(m * k);
            let expected = layer.apply(1, &clean, m, 0, 0);
            for poison in nans().into_iter().chain([f32::INFINITY, f32::NEG_INFINITY]) {
                let r = random.next() as usize % m;
                let mut x = clean.clone();
                x[r * k + random.next() as usize % k] = poison;
                let got = layer.apply(1, &x, m, 0, 0);
                let rows = r * n..(r + 1) * n;
                assert!(got[rows.clone()].iter().all(|y| !y.is_finite()), "{poison} in row {r} of ({m}, {k}, {n})");
                assert_same_bits(&got[..rows.start], &expected[..rows.start], format_args!("rows before {r}"));
                assert_same_bits(&got[rows.end..], &expected[rows.end..], format_args!("rows after {r}"));
            }
        }
    });
}

#[test]
fn a_nan_weight_stays_in_its_column() {
    for_every_level(|level| {
        let (k, n) = (6, 2 * level.panel() + 3);
        let clean = Layer::random(level, k, n);
        let x = Random(27).floats(5 * k);
        let expected = clean.apply(1, &x, 5, 0, 0);
        for column in 0..n {
            let mut weight = clean.weight.clone();
            weight[column * k + 2] = f32::NAN;
            let got = Layer::new(level, weight, clean.bias.clone()).apply(1, &x, 5, 0, 0);
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let same = if i % n == column { got.is_nan() } else { got.to_bits() == expected.to_bits() };
                assert!(same, "element {i} of (5, {n}) with NaN in column {column}");
            }
        }
    });
}

/// Multiplied by one and added to nothing, every float comes through, the denormal ones too.
#[test]
fn one_input_of_weight_one_hands_on_any_float() {
    let nasty: Vec<f32> = NASTY.into_iter().chain(nans()).collect();
    for_every_level(|level| {
        let n = level.panel() + 1;
        let layer = Layer::new(level, vec![1.0; n], vec![-0.0; n]);
        let expected: Vec<f32> = nasty.iter().flat_map(|x| vec![*x; n]).collect();
        assert_same_bits(&layer.apply(1, &nasty, nasty.len(), 0, 0), &expected, format_args!("identity"));
    });
}

#[test]
#[should_panic(expected = "linear: out")]
fn an_output_of_another_shape_is_refused() {
    let layer = Layer::random(Level::best(), 2, 3);
    let x = Guarded::new(&[0.0; 8], 4, 2, 0, 0);
    let mut out = Guarded::output(4, 2, 0, 0);
    linear(&Threads::serial(), x.mat(), &layer.packed, Epilogue::default(), out.mat_mut());
}

/// Magnitudes from 2^-20 to 2^20 and exact zeros.
fn element() -> impl Strategy<Value = f32> {
    prop_oneof![4 => -1f32..1.0, 1 => Just(0.0), 2 => (-20i32..20, -1f32..1.0).prop_map(|(e, x)| x * 2f32.powi(e))]
}

fn problem() -> impl Strategy<Value = (Vec<f32>, Vec<f32>, Vec<f32>)> {
    (0usize..40, 1usize..150, 0usize..90).prop_flat_map(|(m, k, n)| {
        let floats = |len| prop::collection::vec(element(), len);
        (floats(m * k), floats(n * k), floats(n))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_product_keeps_to_the_twin((x, weight, bias) in problem(), gap in 0usize..20, threads in 1usize..4) {
        for_every_level(|level| {
            if bias.is_empty() {
                return;
            }
            let layer = Layer::new(level, weight.clone(), bias.clone());
            let m = x.len() / layer.packed.inputs();
            layer.check(&x, &layer.apply(threads, &x, m, gap, gap));
        });
    }
}
