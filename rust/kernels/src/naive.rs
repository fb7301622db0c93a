//! The twins: what the kernels compute, in the plainest form, summed in f64.
//!
//! Matrices are dense and row-major. These are definitions, for tests and for readers; nothing fast calls them.

use crate::math::Activation;

/// `x (m, k) times weight (n, k) transposed, plus bias (n)`.
pub fn linear(x: &[f32], weight: &[f32], bias: &[f32], k: usize) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let m = x.len().checked_div(k).unwrap_or(0);
    let row = |i: usize| (0..bias.len()).map(move |j| (i, j));
    (0..m).flat_map(row).map(|(i, j)| dot(&x[i * k..][..k], &weight[j * k..][..k]) + f64::from(bias[j])).collect()
}

/// The exact function, by series and continued fraction where the standard library has none.
pub fn activation(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => x / 2.0 * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::GeluTanh => {
            x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }
        Activation::Relu => {
            if x.is_nan() {
                x
            } else {
                x.max(0.0)
            }
        }
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
    }
}

/// Abramowitz and Stegun 7.1.6: erf x = 2/sqrt(pi) e^(-x^2) sum 2^n x^(2n+1) / (1 3 5 ... (2n+1)); no cancellation.
pub fn erf(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 6.0 {
        return if x.is_nan() { x } else { x.signum() };
    }
    let (mut term, mut sum) = (x, x);
    for n in 1.. {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
        if term.abs() <= 1e-18 * sum.abs() {
            break;
        }
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

/// A row of -inf alone becomes zeros.
pub fn softmax(row: &[f32], scale: f32) -> Vec<f64> {
    if row.iter().all(|x| *x == f32::NEG_INFINITY) {
        return vec![0.0; row.len()];
    }
    let max = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let e: Vec<f64> = row.iter().map(|x| ((f64::from(*x) - f64::from(max)) * f64::from(scale)).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| e / sum).collect()
}

pub fn layer_norm(row: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f64> {
    let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
    let n = row.len() as f64;
    let mean = row.iter().sum::<f64>() / n;
    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + f64::from(eps)).sqrt();
    row.iter().zip(weight).zip(bias).map(|((x, w), b)| (x - mean) * scale * f64::from(*w) + f64::from(*b)).collect()
}

/// q (l, d), k (n, d), v (n, e) -> probabilities (l, n) and out (l, e).
pub fn attention(q: &[f32], k: &[f32], v: &[f32], d: usize, e: usize, scale: f32) -> (Vec<f64>, Vec<f64>) {
    let n = k.len() / d;
    let (mut probabilities, mut out) = (vec![], vec![]);
    for q in q.chunks_exact(d) {
        let scores: Vec<f32> = linear(q, k, &vec![0.0; n], d).into_iter().map(|s| s as f32).collect();
        let p = softmax(&scores, scale);
        out.extend((0..e).map(|j| p.iter().enumerate().map(|(i, p)| p * f64::from(v[i * e + j])).sum::<f64>()));
        probabilities.extend(p);
    }
    (probabilities, out)
}

pub fn gather_add(tables: &[(&[f32], &[u32])], width: usize) -> Vec<f64> {
    let tokens = tables.first().map_or(0, |(_, ids)| ids.len());
    let element = |t: usize, j: usize| tables.iter().map(|(x, ids)| f64::from(x[ids[t] as usize * width + j])).sum();
    (0..tokens).flat_map(|t| (0..width).map(move |j| (t, j))).map(|(t, j)| element(t, j)).collect()
}
