//! The contract of `linear` in bf16 and int8.

use proptest::prelude::*;

use super::{Epilogue, Input, Output, PackedLinear, Precision, linear};
use crate::isa::Level;
use crate::mat::Mat;
use crate::math::Activation;
use crate::naive;
use crate::narrow::{Form, Narrow, narrow};
use crate::testing::{Guarded, Random, assert_same_bits, for_every_level, nans, ulp};
use crate::threads::Threads;

const NARROW: [Precision; 2] = [Precision::BFloat16, Precision::Int8];
const ROWS: [usize; 20] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 28, 29, 43, 129];

/// A layer as it comes from a checkpoint, and its packed form.
struct Layer {
    weight: Vec<f32>,
    bias: Vec<f32>,
    packed: PackedLinear,
}

impl Layer {
    fn new(level: Level, precision: Precision, weight: Vec<f32>, bias: Vec<f32>, inputs: usize) -> Self {
        let packed = PackedLinear::new(level, precision, &weight, Some(&bias), inputs).unwrap();
        Layer { weight, bias, packed }
    }

    fn random(level: Level, precision: Precision, k: usize, n: usize) -> Self {
        let mut random = Random((k * 1000 + n) as u64);
        Self::new(level, precision, random.floats(k * n), random.floats(n), k)
    }

    /// The product of dense rows, by operands whose rows lie `gap` apart and off every cache line.
    fn apply(&self, threads: usize, x: &[f32], rows: usize, gap: usize) -> Vec<f32> {
        self.apply_with(threads, x, rows, gap, Epilogue::default())
    }

    fn apply_with(&self, threads: usize, x: &[f32], rows: usize, gap: usize, epilogue: Epilogue) -> Vec<f32> {
        let (k, n) = (self.packed.inputs(), self.packed.outputs());
        let threads = Threads::new(threads);
        let x = Guarded::new(x, rows, k, gap, gap);
        let mut out = Guarded::output(rows, n, gap, gap + 1);
        let mut narrowed = Narrow::default();
        narrowed.resize(self.packed.form(), rows, k).unwrap();
        narrow(self.packed.level(), &threads, x.mat(), &mut narrowed);
        let input = if self.packed.form() == Form::Floats { Input::Floats(x.mat()) } else { Input::Narrow(&narrowed) };
        linear(&threads, input, &self.packed, epilogue, out.mat_mut());
        out.values()
    }

    fn apply_singly(&self, x: &[f32], rows: usize) -> Vec<f32> {
        let k = self.packed.inputs();
        (0..rows).flat_map(|r| self.apply(1, &x[r * k..][..k], 1, 0)).collect()
    }

    fn exact(&self, x: &[f32]) -> Vec<f64> {
        match self.packed.precision() {
            Precision::Float32 => naive::linear(x, &self.weight, &self.bias, self.packed.inputs()),
            Precision::BFloat16 => {
                let x = if self.packed.form() == Form::Bf16 { naive::to_bf16(x) } else { x.to_vec() };
                naive::linear(&x, &naive::to_bf16(&self.weight), &self.bias, self.packed.inputs())
            }
            Precision::Int8 => naive::linear_int8(x, &self.weight, &self.bias, self.packed.inputs()),
        }
    }

    /// As stated: within K ULP of the sum of all magnitudes, of which int8 needs three.
    fn check(&self, x: &[f32], got: &[f32]) {
        let (k, n) = (self.packed.inputs(), self.bias.len());
        let absolute = |xs: &[f32]| xs.iter().map(|x| x.abs()).collect::<Vec<f32>>();
        let scale = naive::linear(&absolute(x), &absolute(&self.weight), &absolute(&self.bias), k);
        for (i, ((got, exact), scale)) in got.iter().zip(self.exact(x)).zip(scale).enumerate() {
            let error = (f64::from(*got) - exact).abs();
            let allowed = (k.max(4) as f64) * ulp(scale.max(1e-30));
            assert!(
                error <= allowed,
                "{:?}, k {k}, n {n}: element ({}, {}) is {got:e}, not {exact:e}: {error:e} > {allowed:e}",
                self.packed.precision(),
                i / n,
                i % n
            );
        }
    }
}

fn for_every_layer(shapes: &[(usize, usize)], mut test: impl FnMut(&Layer)) {
    for_every_level(|level| {
        for precision in NARROW {
            for (k, n) in shapes {
                test(&Layer::random(level, precision, *k, *n));
            }
        }
    });
}

/// Tails of k and n, k beyond one slice of words.
const SHAPES: [(usize, usize); 16] = [
    (1, 1),
    (2, 33),
    (3, 5),
    (4, 64),
    (5, 31),
    (7, 100),
    (8, 16),
    (16, 131),
    (33, 32),
    (48, 48),
    (63, 8),
    (96, 70),
    (130, 33),
    (384, 40),
    (2050, 35),
    (4200, 33),
];

#[test]
fn the_stated_accuracy_is_kept() {
    let mut random = Random(30);
    for_every_layer(&SHAPES, |layer| {
        let x = random.floats(17 * layer.packed.inputs());
        layer.check(&x, &layer.apply(1, &x, 17, 0));
    });
}

/// The law of the batch.
#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    let mut random = Random(31);
    for_every_layer(&[(7, 33), (48, 70), (130, 131), (4200, 33)], |layer| {
        let (k, n) = (layer.packed.inputs(), layer.packed.outputs());
        let x = random.floats(129 * k);
        let singly = layer.apply_singly(&x, 129);
        for m in ROWS {
            let (x, expected) = (&x[(129 - m) * k..], &singly[(129 - m) * n..]);
            for threads in 1..=2 {
                let context = format_args!("{:?}, m {m}, k {k}, n {n}", layer.packed.precision());
                assert_same_bits(&layer.apply(threads, x, m, m % 3), expected, context);
            }
        }
    });
}

/// The sums are integers: no instruction set may differ from another in a single bit of the result.
#[test]
fn int8_is_the_same_on_every_instruction_set() {
    let mut random = Random(32);
    for (k, n) in SHAPES {
        let x = random.floats(15 * k);
        let results: Vec<_> = Level::available()
            .filter(|level| level.name() != "scalar")
            .map(|level| Layer::random(level, Precision::Int8, k, n).apply(1, &x, 15, 1))
            .collect();
        for other in &results {
            assert_same_bits(other, &results[0], format_args!("k {k}, n {n}"));
        }
    }
}

/// The largest magnitudes everywhere: where an instruction saturates it would show here.
#[test]
fn the_largest_bytes_do_not_overflow() {
    for_every_level(|level| {
        for k in [2, 3, 5, 31, 4099] {
            for (x_sign, w_sign) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)] {
                let layer = Layer::new(level, Precision::Int8, vec![w_sign; k * 35], vec![0.0; 35], k);
                let x = vec![x_sign; 3 * k];
                layer.check(&x, &layer.apply(1, &x, 3, 0));
            }
        }
    });
}

#[test]
fn epilogues_follow_the_product() {
    let mut random = Random(33);
    for_every_layer(&[(20, 33), (48, 70)], |layer| {
        let (k, n) = (layer.packed.inputs(), layer.packed.outputs());
        let (x, residual) = (random.floats(16 * k), random.floats(16 * n));
        let mut expected = layer.apply(1, &x, 16, 0);
        Activation::Gelu.apply(layer.packed.level(), &mut expected);
        expected.iter_mut().zip(&residual).for_each(|(y, r)| *y += r);
        let residual = Guarded::new(&residual, 16, n, 2, 5);
        let epilogue = Epilogue { activation: Some(Activation::Gelu), residual: Some(residual.mat()) };
        let got = layer.apply_with(2, &x, 16, 1, epilogue);
        assert_same_bits(&got, &expected, format_args!("{:?}", layer.packed.precision()));
    });
}

/// The floats of the same product, rounded.
#[test]
fn results_in_bf16_are_those_in_floats_rounded() {
    let mut random = Random(35);
    for_every_layer(&[(1, 2), (20, 34), (48, 96), (130, 70), (4200, 66)], |layer| {
        let (level, k, n) = (layer.packed.level(), layer.packed.inputs(), layer.packed.outputs());
        if !level.has_bf16() {
            return;
        }
        for rows in ROWS {
            let (x, residual) = (random.floats(rows * k), random.floats(rows * n));
            let residual = Guarded::new(&residual, rows, n, 2, 5);
            let epilogue = Epilogue { activation: Some(Activation::Tanh), residual: Some(residual.mat()) };
            let expected = naive::to_bf16(&layer.apply_with(1, &x, rows, 0, epilogue));
            let mut narrowed = Narrow::default();
            narrowed.resize(layer.packed.form(), rows, k).unwrap();
            narrow(level, &Threads::serial(), Mat::dense(&x, rows, k), &mut narrowed);
            let mut out = Guarded::output(rows, n / 2, rows % 3, rows);
            let words = Output::Bf16(out.mat_mut().into_words());
            linear(&Threads::new(1 + rows % 2), Input::Narrow(&narrowed), &layer.packed, epilogue, words);
            let halves = |word: &f32| [word.to_bits() << 16, word.to_bits() & 0xffff_0000].map(f32::from_bits);
            let got: Vec<f32> = out.values().iter().flat_map(halves).collect();
            assert_same_bits(&got, &expected, format_args!("{:?}, {rows} rows", layer.packed.precision()));
        }
    });
}

#[test]
#[should_panic(expected = "bf16 out of Floats")]
fn floats_do_not_become_bf16() {
    let layer = Layer::random(Level::best(), Precision::Float32, 2, 4);
    let mut out = Guarded::output(4, 2, 0, 0);
    let words = Output::Bf16(out.mat_mut().into_words());
    linear(&Threads::serial(), Mat::dense(&[0.0; 8], 4, 2), &layer.packed, Epilogue::default(), words);
}

#[test]
fn nan_and_infinity_stay_in_their_row() {
    let mut random = Random(34);
    for_every_layer(&[(5, 3), (20, 33), (48, 70)], |layer| {
        let (k, n, m) = (layer.packed.inputs(), layer.packed.outputs(), 15);
        let clean = random.floats(m * k);
        let expected = layer.apply(1, &clean, m, 0);
        for poison in nans().into_iter().chain([f32::INFINITY, f32::NEG_INFINITY]) {
            let r = random.next() as usize % m;
            let mut x = clean.clone();
            x[r * k + random.next() as usize % k] = poison;
            let got = layer.apply(1, &x, m, 0);
            let rows = r * n..(r + 1) * n;
            assert!(got[rows.clone()].iter().all(|y| !y.is_finite()), "{poison} in row {r}");
            assert_same_bits(&got[..rows.start], &expected[..rows.start], format_args!("rows before {r}"));
            assert_same_bits(&got[rows.end..], &expected[rows.end..], format_args!("rows after {r}"));
        }
    });
}

#[test]
fn rows_of_zeros_and_of_denormals() {
    for_every_layer(&[(20, 33), (48, 70)], |layer| {
        let k = layer.packed.inputs();
        for value in [0.0, -0.0, 1e-45, -1e-40, 1e-37] {
            let got = layer.apply(1, &vec![value; k], 1, 0);
            let close = got.iter().zip(&layer.bias).all(|(y, b)| (y - b).abs() <= 1e-35);
            assert!(close, "{value:e}: {got:?}");
        }
    });
}

#[test]
fn without_inputs_or_rows() {
    for_every_level(|level| {
        for precision in NARROW {
            let layer = Layer::new(level, precision, vec![], vec![0.5, -1.5], 0);
            assert_same_bits(&layer.apply(1, &[], 3, 0), &[0.5, -1.5].repeat(3), format_args!("{precision:?}"));
        }
    });
}

#[test]
#[should_panic(expected = "their form")]
fn floats_are_refused_where_bytes_are_read() {
    let layer = Layer::random(Level::best(), Precision::Int8, 2, 3);
    let x = Guarded::new(&[0.0; 8], 4, 2, 0, 0);
    let mut out = Guarded::output(4, 3, 0, 0);
    linear(&Threads::serial(), x.mat(), &layer.packed, Epilogue::default(), out.mat_mut());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_product_keeps_to_the_twin(
        (k, x, weight) in (1usize..70, 1usize..9, 1usize..40).prop_flat_map(|(k, m, n)| {
            let floats = |len| prop::collection::vec(-1f32..1.0, len);
            (Just(k), floats(m * k), floats(n * k))
        }),
        threads in 1usize..4,
    ) {
        for_every_level(|level| {
            for precision in NARROW {
                let n = weight.len() / k;
                let layer = Layer::new(level, precision, weight.clone(), vec![0.25; n], k);
                layer.check(&x, &layer.apply(threads, &x, x.len() / k, threads));
            }
        });
    }
}
