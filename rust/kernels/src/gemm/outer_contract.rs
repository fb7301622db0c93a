//! The gradient of weights on every ISA against its definition.

use super::*;
use crate::isa::Level;
use crate::testing::{Guarded, Random, assert_same_bits, for_every_level, lanes};
use crate::threads::Threads;

/// The gradient as checkpoints store weights, (N, K), and of the biases (N,).
fn gradient(
    level: Level,
    threads: usize,
    x: &[f32],
    dy: &[f32],
    [k, n]: [usize; 2],
    gap: usize,
) -> (Vec<f32>, Vec<f32>) {
    let m = x.len() / k;
    let (x, dy) = (Guarded::new(x, m, k, gap, gap), Guarded::new(dy, m, n, gap, gap + 1));
    let mut lies = vec![0.0; PackedLinear::len(level, Precision::Float32, k, n)];
    // In two batches, the second added to the first.
    for rows in [0..m / 3, m / 3..m] {
        weight_gradient(
            level,
            &Threads::new(threads),
            x.mat().rows_of(rows.clone()),
            dy.mat().rows_of(rows),
            &mut lies,
        );
    }
    let words = lies.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let mut data = crate::stored::Stored::zeroed(words.len()).unwrap();
    data.own_mut().copy_from_slice(&words);
    let packed = PackedLinear::of(level, Precision::Float32, [k, n], data);
    let padding: f32 = lies.iter().map(|x| x.abs()).sum::<f32>();
    let (weights, biases): (Vec<_>, Vec<_>) = (0..n).map(|n| (packed.weights_of(n), packed.bias_of(n))).unzip();
    let weights = weights.concat();
    let real: f32 = weights.iter().chain(&biases).map(|x| x.abs()).sum();
    assert!((padding - real).abs() <= 1e-4 * real, "the padding has a gradient");
    (weights, biases)
}

#[test]
fn the_stated_accuracy_is_kept() {
    let mut random = Random(1);
    for_every_level(|level| {
        let panel = 2 * lanes(level);
        for (m, k, n) in [
            (1, 1, 1),
            (3, 5, 2),
            (70, 15, panel),
            (2100, 31, panel + 1),
            (130, 200, 3 * panel - 1),
            (40, 99, 9 * panel),
        ] {
            let (x, dy) = (random.floats(m * k), random.floats(m * n));
            let (weights, biases) = gradient(level, 1, &x, &dy, [k, n], 0);
            let allowed = |sum: f64| m as f64 * 2f64.powi(-23) * sum;
            for (i, bias) in biases.iter().enumerate() {
                let terms = (0..m).map(|r| f64::from(dy[r * n + i]));
                let (exact, sum) = terms.fold((0.0, 0.0), |(a, b), t| (a + t, b + t.abs()));
                assert!((f64::from(*bias) - exact).abs() <= allowed(sum), "bias {i} of {m} x {k} x {n}");
                for j in 0..k {
                    let terms = (0..m).map(|r| f64::from(dy[r * n + i]) * f64::from(x[r * k + j]));
                    let (exact, sum) = terms.fold((0.0, 0.0), |(a, b), t| (a + t, b + t.abs()));
                    let got = weights[i * k + j];
                    assert!(
                        (f64::from(got) - exact).abs() <= allowed(sum),
                        "{i}, {j} of {m} x {k} x {n}: {got}, not {exact}"
                    );
                }
            }
            for threads in [2, 3] {
                let (others, other_biases) = gradient(level, threads, &x, &dy, [k, n], threads);
                assert_same_bits(&others, &weights, format_args!("{threads} threads"));
                assert_same_bits(&other_biases, &biases, format_args!("{threads} threads"));
            }
        }
    });
}
