//! The laws of a step back: the same bits on any number of threads and with layers computed twice, and the gradient of a batch is
//! the sum of those of its sequences.

mod common {
    pub(crate) mod model;
}

use std::collections::HashSet;

use common::model::{BLUEPRINT, PRECISIONS, initial, variants};
use ferroformer_kernels::{Level, Precision};
use ferroformer_model::{AdamW, Batch, Cancel, Cotangents, Dropout, Encoder, Gradients, Optimizer, Recipe, Rule};

const HIDDEN: usize = 52;
const DROPOUT: Option<Dropout> = Some(Dropout {
    seed: 7,
    embeddings: 0.1,
    hidden: 0.1,
    attention: 0.2,
    head: 0.3,
    pooler: 0.4,
    inner: 0.1,
    last: 0.2,
});

fn encoder(level: Level) -> Encoder {
    initial(BLUEPRINT, level, Precision::Float32)
}

/// Of each kind of blueprint on each level.
fn encoders() -> impl Iterator<Item = (String, Encoder)> {
    let [grouped, convolved, narrowed] = variants();
    let kinds =
        [("plain", BLUEPRINT.to_owned()), ("grouped", grouped), ("convolved", convolved), ("narrowed", narrowed)];
    let of = |level, (kind, blueprint): &(_, String)| {
        (format!("{level:?}, {kind}"), initial(blueprint, level, Precision::Float32))
    };
    Level::available().flat_map(move |level| kinds.clone().map(|kind| of(level, &kind)))
}

/// Some are longer than a chunk of tokens, one is empty.
fn sequences() -> Vec<Vec<i64>> {
    [1, 2, 0, 17, 40, 129, 64, 200].iter().map(|n| (0..*n).map(|i| (i * 31 + n * 7) % 96).collect()).collect()
}

/// Numbers from -1 to 1 without a pattern.
fn scattered(count: usize, seed: usize) -> Vec<f32> {
    let number = |i: usize| ((i + 1) * (2 * seed + 7919)).wrapping_mul(0x9E37_79B9) as u32 >> 8;
    (0..count).map(|i| number(i) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// The gradients of sum(d * last hidden state) + sum(e * pooled), for each sequence with numbers of its own.
fn add_gradients(
    encoder: &Encoder,
    threads: usize,
    sequences: &[(usize, Vec<i64>)],
    recipe: Recipe,
    gradients: &mut Gradients,
) {
    let lengths: Vec<i64> = sequences.iter().map(|(_, s)| s.len() as i64).collect();
    let ids: Vec<i64> = sequences.iter().flat_map(|(_, s)| s.clone()).collect();
    let width = sequences.iter().map(|(_, s)| s.len()).max().unwrap();
    let (mut d, mut e) = (vec![], vec![]);
    for (number, sequence) in sequences {
        d.extend(scattered(sequence.len() * HIDDEN, *number));
        // what stands in the padding is not read
        d.resize(d.len() + (width - sequence.len()) * HIDDEN, f32::NAN);
        e.extend(scattered(HIDDEN, number + 100));
    }
    let never = Cancel::new(&|| false);
    let batch = Batch::from_ragged(&ids, None, &lengths, encoder.blueprint()).unwrap();
    let (_, recording) = encoder.record(threads, batch, None, recipe, &never).unwrap();
    let d = Cotangents { last_hidden_state: Some(&d), pooled: Some(&e), logits: None };
    encoder.backward(threads, recording, d, gradients, &never).unwrap();
}

fn numbered(sequences: Vec<Vec<i64>>) -> Vec<(usize, Vec<i64>)> {
    sequences.into_iter().enumerate().collect()
}

fn zeros(encoder: &Encoder) -> Gradients {
    Gradients::new(encoder, HashSet::new(), 2).unwrap()
}

/// (slot, values)
fn values(gradients: &Gradients) -> Vec<(String, Vec<f32>)> {
    gradients.slots().iter().map(|slot| (slot.clone(), gradients.tensor(slot).unwrap().1)).collect()
}

fn bits(gradients: &Gradients) -> Vec<(String, Vec<u32>)> {
    values(gradients).into_iter().map(|(slot, xs)| (slot, xs.iter().map(|x| x.to_bits()).collect())).collect()
}

#[test]
fn the_same_bits_on_any_threads_and_with_layers_computed_twice() {
    for (name, encoder) in encoders() {
        for dropout in [None, DROPOUT] {
            let results = [(1, false), (2, false), (3, false), (8, false), (1, true), (3, true)].map(
                |(threads, checkpointing)| {
                    let mut gradients = zeros(&encoder);
                    let recipe = Recipe { dropout, checkpointing };
                    add_gradients(&encoder, threads, &numbered(sequences()), recipe, &mut gradients);
                    let norm = gradients.norm(threads);
                    gradients.scale(threads, 0.3);
                    assert!(norm.is_finite() && norm > 1.0, "{name}: {norm}");
                    (norm.to_bits(), bits(&gradients))
                },
            );
            for result in &results[1..] {
                assert!(*result == results[0], "{name}, {dropout:?}");
            }
        }
    }
}

#[test]
fn the_same_weights_on_any_threads() {
    for level in Level::available() {
        let results = [1, 2, 3, 8].map(|threads| {
            let mut encoder = encoder(level);
            let rule = Rule::AdamW(AdamW { betas: [0.9, 0.999], eps: 1e-8 });
            let mut optimizer = Optimizer::new(&encoder, rule, 0.01, &HashSet::new(), HashSet::new(), threads).unwrap();
            let mut gradients = zeros(&encoder);
            for seed in 0..2 {
                gradients.zero(threads);
                let dropout = DROPOUT.map(|dropout| Dropout { seed, ..dropout });
                let recipe = Recipe { dropout, checkpointing: false };
                add_gradients(&encoder, threads, &numbered(sequences()), recipe, &mut gradients);
                optimizer.step(&mut encoder, &gradients, 0.01, 0.5, threads).unwrap();
            }
            gradients
                .slots()
                .iter()
                .flat_map(|slot| encoder.tensor(slot).unwrap().1)
                .map(f32::to_bits)
                .collect::<Vec<_>>()
        });
        assert!(results[1..].iter().all(|weights| *weights == results[0]), "{level:?}");
    }
}

#[test]
fn a_batch_is_the_sum_of_its_sequences() {
    for (name, encoder) in encoders() {
        let (mut whole, mut sum) = (zeros(&encoder), zeros(&encoder));
        add_gradients(&encoder, 2, &numbered(sequences()), Recipe::default(), &mut whole);
        for one in numbered(sequences()).into_iter().filter(|(_, s)| !s.is_empty()) {
            add_gradients(&encoder, 2, &[one], Recipe::default(), &mut sum);
        }
        for ((slot, whole), (_, sum)) in values(&whole).into_iter().zip(values(&sum)) {
            let largest = |xs: &mut dyn Iterator<Item = f32>| xs.fold(0.0, |a: f32, x| a.max(x.abs()));
            let (scale, apart) =
                (largest(&mut whole.iter().copied()), largest(&mut whole.iter().zip(&sum).map(|(a, b)| a - b)));
            // a key's bias moves all scores of a softmax alike: its gradient is the rounding of numbers of about 1
            let allowed = 2e-6 * scale.max(1.0);
            assert!(apart <= allowed, "{name}, {slot}: {apart} of {scale}");
        }
    }
}

#[test]
fn a_batch_without_a_token_has_no_gradient() {
    let encoder = encoder(Level::best());
    let mut gradients = zeros(&encoder);
    let tokens = Batch::from_ragged(&[], None, &[0, 0], encoder.blueprint()).unwrap();
    let never = Cancel::new(&|| false);
    let (_, recording) = encoder.record(2, tokens, None, Recipe::default(), &never).unwrap();
    let d = Cotangents { pooled: Some(&[1.0; 2 * HIDDEN]), ..Cotangents::default() };
    encoder.backward(2, recording, d, &mut gradients, &never).unwrap();
    assert_eq!(gradients.norm(2), 0.0);
}

#[test]
fn only_float32_can_be_trained() {
    for precision in PRECISIONS {
        let encoder = initial(BLUEPRINT, Level::best(), precision);
        let batch = Batch::from_ragged(&[1, 2], None, &[2], encoder.blueprint()).unwrap();
        let recorded = encoder.record(2, batch, None, Recipe::default(), &Cancel::new(&|| false));
        assert_eq!(recorded.is_ok(), precision == Precision::Float32, "{precision:?}");
    }
}
