//! The twins: what the kernels compute, in the plainest form, summed in f64.
//!
//! Matrices are dense and row-major. These are definitions, for tests and for readers; nothing fast calls them.

use crate::layer_norm::Norm;
use crate::math::Activation;
use crate::optimizer::{AdamW, Sgd};

/// `x (m, k) times weight (n, k) transposed, plus bias (n)`.
pub fn linear(x: &[f32], weight: &[f32], bias: &[f32], k: usize) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let m = x.len().checked_div(k).unwrap_or(0);
    let row = |i: usize| (0..bias.len()).map(move |j| (i, j));
    (0..m).flat_map(row).map(|(i, j)| dot(&x[i * k..][..k], &weight[j * k..][..k]) + f64::from(bias[j])).collect()
}

/// Rounded to the nearest of 8 bits, ties to even.
pub fn to_bf16(xs: &[f32]) -> Vec<f32> {
    let round = |x: f32| {
        let unit = 2f64.powi((f64::from(x.abs()).log2().floor() as i32).max(-126) - 7);
        ((f64::from(x) / unit).round_ties_even() * unit) as f32
    };
    xs.iter().map(|x| if x.is_finite() && *x != 0.0 { round(*x) } else { *x }).collect()
}

/// [`linear`] of rows and weights that are spread, and rounded to 127 steps of the largest of each row.
pub fn linear_int8(x: &[f32], weight: &[f32], bias: &[f32], k: usize) -> Vec<f64> {
    let group = [16, 8, 4, 2, 1].into_iter().find(|b| k.is_multiple_of(*b)).unwrap_or(1);
    let rounded = |rows: &[f32], divisor: f32| -> Vec<(Vec<f64>, f64)> {
        let row = |row: &[f32]| {
            let spread: Vec<f32> = spread(row, group).iter().map(|x| x / divisor).collect();
            let most = spread.iter().fold(0f32, |most, x| most.max(x.abs()));
            let inverse = if most == 0.0 { 0.0 } else { 127.0 / most };
            (spread.iter().map(|x| f64::from((x * inverse).round_ties_even())).collect(), f64::from(most / 127.0))
        };
        rows.chunks_exact(k.max(1)).map(row).collect()
    };
    let (x, weight) = (rounded(x, 1.0), rounded(weight, group as f32));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let element = |(x, x_scale): &(Vec<f64>, f64), j: usize| {
        let (w, w_scale) = &weight[j];
        dot(x, w) * x_scale * w_scale + f64::from(bias[j])
    };
    x.iter().flat_map(|x| (0..bias.len()).map(move |j| element(x, j)).collect::<Vec<_>>()).collect()
}

/// The Walsh-Hadamard transform of each group of channels i, i + n / group, i + 2 n / group, ...; in f32, for what follows
/// is rounded.
fn spread(row: &[f32], group: usize) -> Vec<f32> {
    let mut row = row.to_vec();
    let (n, mut half) = (row.len(), row.len() / 2);
    while half >= 1 && half >= n / group && group > 1 {
        for i in 0..n {
            if i / half % 2 == 0 {
                (row[i], row[i + half]) = (row[i] + row[i + half], row[i] - row[i + half]);
            }
        }
        half /= 2;
    }
    row
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

/// The derivative of the exact function; at infinities its limit.
pub fn activation_slope(activation: Activation, x: f64) -> f64 {
    let x = x.clamp(-1e3, 1e3);
    match activation {
        Activation::Gelu => {
            let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            (1.0 + erf(x / std::f64::consts::SQRT_2)) / 2.0 + x * density
        }
        Activation::GeluTanh => {
            let c = (2.0 / std::f64::consts::PI).sqrt();
            let u = c * (x + 0.044_715 * x.powi(3));
            (1.0 + u.tanh()) / 2.0 + x / 2.0 * u.cosh().powi(-2) * c * (1.0 + 3.0 * 0.044_715 * x * x)
        }
        Activation::Relu => {
            if x.is_nan() {
                x
            } else {
                f64::from(x > 0.0)
            }
        }
        Activation::Silu => (1.0 + x / (1.0 + x.exp())) / (1.0 + (-x).exp()),
        Activation::Tanh => x.cosh().powi(-2),
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

/// log sum e^x.
pub fn log_sum_exp(row: &[f32]) -> f64 {
    let max = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    if row.iter().all(|x| *x == f32::NEG_INFINITY) {
        return f64::NEG_INFINITY;
    }
    row.iter().map(|x| (f64::from(*x) - f64::from(max)).exp()).sum::<f64>().ln() + f64::from(max)
}

/// The k largest and where they stand, the first before its equals; NaN is -inf.
pub fn top_k(row: &[f32], k: usize) -> (Vec<f32>, Vec<u32>) {
    let value = |i: &u32| if row[*i as usize].is_nan() { f32::NEG_INFINITY } else { row[*i as usize] };
    let mut order: Vec<u32> = (0..row.len() as u32).collect();
    // Stable.
    order.sort_by(|a, b| value(b).partial_cmp(&value(a)).expect("no NaN"));
    order.truncate(k);
    (order.iter().map(value).collect(), order)
}

pub fn layer_norm(row: &[f32], weight: &[f32], bias: &[f32], norm: Norm) -> Vec<f64> {
    let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
    let n = row.len() as f64;
    let mean = if norm.centred { row.iter().sum::<f64>() / n } else { 0.0 };
    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let scale = if norm.scaled { 1.0 / (variance + f64::from(norm.eps)).sqrt() } else { 1.0 };
    row.iter().zip(weight).zip(bias).map(|((x, w), b)| (x - mean) * scale * factor(norm, *w) + f64::from(*b)).collect()
}

fn factor(norm: Norm, weight: f32) -> f64 {
    f64::from(norm.offset) + f64::from(weight)
}

/// The gradients of x, weight and bias, from that of the output of one row.
pub fn layer_norm_backward(row: &[f32], weight: &[f32], norm: Norm, dy: &[f32]) -> [Vec<f64>; 3] {
    let unit = layer_norm(row, &vec![1.0; row.len()], &vec![0.0; row.len()], Norm { offset: 0.0, ..norm });
    let dbias: Vec<f64> = dy.iter().map(|d| f64::from(*d)).collect();
    let g: Vec<f64> = dbias.iter().zip(weight).map(|(d, w)| d * factor(norm, *w)).collect();
    let mean = |xs: &mut dyn Iterator<Item = f64>| xs.sum::<f64>() / row.len() as f64;
    let x = || row.iter().map(|x| f64::from(*x));
    let centred = |mean: f64| if norm.centred { mean } else { 0.0 };
    let centre = centred(mean(&mut x()));
    let sigma = (mean(&mut x().map(|x| (x - centre).powi(2))) + f64::from(norm.eps)).sqrt();
    let (mean_g, mean_gx) = (centred(mean(&mut g.iter().copied())), mean(&mut g.iter().zip(&unit).map(|(g, x)| g * x)));
    let (sigma, mean_gx) = if norm.scaled { (sigma, mean_gx) } else { (1.0, 0.0) };
    let dx = g.iter().zip(&unit).map(|(g, x)| (g - mean_g - x * mean_gx) / sigma).collect();
    [dx, dbias.iter().zip(&unit).map(|(d, x)| d * x).collect(), dbias]
}

/// Whether dropout at `rate` keeps an element.
pub fn dropout_keeps(rate: f32, key: u64, row: u64, column: u32) -> bool {
    let splitmix = |x: u64| {
        let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let keys = splitmix(key.wrapping_add(splitmix(row)));
    let x = column.wrapping_add(keys as u32);
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d) ^ (keys >> 32) as u32;
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    f64::from(x ^ (x >> 16)) >= (f64::from(rate) * 2f64.powi(32)).round()
}

/// torch's cross-entropy of one row, unreduced, and its gradient.
pub fn cross_entropy(row: &[f32], label: usize, weights: &[f32], smoothing: f32) -> (f64, Vec<f64>) {
    let max = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let below = |i: usize| f64::from(row[i]) - f64::from(max);
    let log_sum = (0..row.len()).map(|i| below(i).exp()).sum::<f64>().ln();
    let target = |i: usize| {
        let hard = if i == label { 1.0 - f64::from(smoothing) } else { 0.0 };
        f64::from(weights[i]) * (hard + f64::from(smoothing) / row.len() as f64)
    };
    let all: f64 = (0..row.len()).map(target).sum();
    let loss = (0..row.len()).map(|i| if target(i) == 0.0 { 0.0 } else { target(i) * (log_sum - below(i)) }).sum();
    (loss, (0..row.len()).map(|i| all * (below(i) - log_sum).exp() - target(i)).collect())
}

/// One element's new w, m and v.
pub fn adamw(hyper: &AdamW, [w, g, m, v]: [f64; 4]) -> [f64; 3] {
    let AdamW { lr, beta1, beta2, eps, weight_decay, step } = *hyper;
    let m = beta1 * m + (1.0 - beta1) * g;
    let v = beta2 * v + (1.0 - beta2) * g * g;
    let unbiased = |moment: f64, beta: f64| moment / (1.0 - beta.powi(step as i32));
    let w = w - lr * weight_decay * w - lr * unbiased(m, beta1) / (unbiased(v, beta2).sqrt() + eps);
    [w, m, v]
}

/// One element's new w and velocity.
pub fn sgd(hyper: &Sgd, [w, g, velocity]: [f64; 3]) -> [f64; 2] {
    let Sgd { lr, momentum, nesterov, weight_decay } = *hyper;
    let g = g + weight_decay * w;
    let velocity = momentum * velocity + g;
    [w - lr * if nesterov { g + momentum * velocity } else { velocity }, velocity]
}

/// q (l, d), k (n, d), v (n, e) -> probabilities (l, n) and out (l, e).
pub fn attention(q: &[f32], k: &[f32], v: &[f32], d: usize, e: usize, scale: f32) -> (Vec<f64>, Vec<f64>) {
    let wide = |xs: &[f32]| -> Vec<f64> { xs.iter().map(|x| f64::from(*x)).collect() };
    let scores = scores(&wide(q), &wide(k), d, f64::from(scale), &|_, _| 0.0);
    attend(&scores, &vec![1.0; scores.len()], &wide(v), e)
}

/// q (l, d), k (n, d) -> (l, n): `scale q k + added(query, key)`, which is -inf where the query does not attend to the key.
pub fn scores(q: &[f64], k: &[f64], d: usize, scale: f64, added: &dyn Fn(usize, usize) -> f64) -> Vec<f64> {
    let keys = |i: usize| (0..k.len() / d).map(move |j| (i, j));
    let score = |(i, j): (usize, usize)| scale * dot(&q[i * d..][..d], &k[j * d..][..d]) + added(i, j);
    (0..q.len() / d).flat_map(keys).map(score).collect()
}

/// `cap tanh(score / cap)`.
pub fn soft_cap(score: f64, cap: f64) -> f64 {
    cap * (score / cap).tanh()
}

/// Its derivative.
pub fn soft_cap_slope(score: f64, cap: f64) -> f64 {
    1.0 - (score / cap).tanh().powi(2)
}

/// [`scores`] of disentangled attention: the distance from key j to query i adds `scale (q_i pos_key[place] + k_j pos_query[place])`,
/// `place(i, j)` a row of both (p, d).
pub fn disentangled_scores(
    [q, k, pos_key, pos_query]: [&[f64]; 4],
    d: usize,
    scale: f64,
    place: &dyn Fn(usize, usize) -> usize,
    added: &dyn Fn(usize, usize) -> f64,
) -> Vec<f64> {
    let row = |x: &'_ [f64], i: usize| x[i * d..][..d].to_vec();
    let position = |i: usize, j: usize| {
        let p = place(i, j);
        dot(&row(q, i), &row(pos_key, p)) + dot(&row(k, j), &row(pos_query, p))
    };
    scores(q, k, d, scale, &|i, j| scale * position(i, j) + added(i, j))
}

/// The gradients of q, k, pos_key and pos_query from that of their scores, ds (l, n).
pub fn disentangled_scores_backward(
    [q, k, pos_key, pos_query]: [&[f64]; 4],
    d: usize,
    scale: f64,
    place: &dyn Fn(usize, usize) -> usize,
    ds: &[f64],
) -> [Vec<f64>; 4] {
    let (l, n) = (q.len() / d, k.len() / d);
    let [mut dq, mut dk] = scores_backward(q, k, d, scale, ds);
    let [mut d_pos_key, mut d_pos_query] = [pos_key, pos_query].map(|x| vec![0.0; x.len()]);
    for (i, j) in (0..l).flat_map(|i| (0..n).map(move |j| (i, j))) {
        let (p, ds) = (place(i, j), scale * ds[i * n + j]);
        for c in 0..d {
            dq[i * d + c] += ds * pos_key[p * d + c];
            d_pos_key[p * d + c] += ds * q[i * d + c];
            dk[j * d + c] += ds * pos_query[p * d + c];
            d_pos_query[p * d + c] += ds * k[j * d + c];
        }
    }
    [dq, dk, d_pos_key, d_pos_query]
}

/// Scores (l, n), `mask` (l, n), which multiplies the probabilities, and v (n, e) -> the probabilities without it and out (l, e).
/// A query that attends to nothing gets zeros.
pub fn attend(scores: &[f64], mask: &[f64], v: &[f64], e: usize) -> (Vec<f64>, Vec<f64>) {
    let n = (v.len() / e).max(1);
    let (mut probabilities, mut out) = (vec![], vec![]);
    for (scores, mask) in scores.chunks_exact(n).zip(mask.chunks_exact(n)) {
        let max = scores.iter().fold(f64::MIN, |a, &b| a.max(b));
        let exp: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
        let sum = exp.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let p: Vec<f64> = exp.iter().map(|x| x / sum).collect();
        out.extend((0..e).map(|c| (0..n).map(|j| p[j] * mask[j] * v[j * e + c]).sum::<f64>()));
        probabilities.extend(p);
    }
    (probabilities, out)
}

/// The gradients of scores and v from that of out, dout (l, e).
pub fn attend_backward(scores: &[f64], mask: &[f64], v: &[f64], dout: &[f64], e: usize) -> [Vec<f64>; 2] {
    let n = (v.len() / e).max(1);
    let (p, _) = attend(scores, mask, v, e);
    let (mut ds, mut dv) = (vec![], vec![0.0; v.len()]);
    for ((p, mask), dout) in p.chunks_exact(n).zip(mask.chunks_exact(n)).zip(dout.chunks_exact(e)) {
        let dp: Vec<f64> = (0..n).map(|j| mask[j] * dot(dout, &v[j * e..][..e])).collect();
        let mean = dot(p, &dp);
        ds.extend((0..n).map(|j| p[j] * (dp[j] - mean)));
        for (j, c) in (0..n).flat_map(|j| (0..e).map(move |c| (j, c))) {
            dv[j * e + c] += p[j] * mask[j] * dout[c];
        }
    }
    [ds, dv]
}

/// The gradients of q and k from that of their scores, ds (l, n).
pub fn scores_backward(q: &[f64], k: &[f64], d: usize, scale: f64, ds: &[f64]) -> [Vec<f64>; 2] {
    let (l, n) = (q.len() / d, k.len() / d);
    let (mut dq, mut dk) = (vec![0.0; q.len()], vec![0.0; k.len()]);
    for (i, j) in (0..l).flat_map(|i| (0..n).map(move |j| (i, j))) {
        (0..d).for_each(|c| dq[i * d + c] += scale * ds[i * n + j] * k[j * d + c]);
        (0..d).for_each(|c| dk[j * d + c] += scale * ds[i * n + j] * q[i * d + c]);
    }
    [dq, dk]
}

/// The gradients of q, k and v from that of out, dout (l, e); `mask` (l, n) multiplies the probabilities.
#[expect(clippy::too_many_arguments, reason = "the operands of attention and their shapes")]
pub fn attention_backward(
    q: &[f64],
    k: &[f64],
    v: &[f64],
    dout: &[f64],
    mask: &[f64],
    d: usize,
    e: usize,
    scale: f64,
) -> [Vec<f64>; 3] {
    let [ds, dv] = attend_backward(&scores(q, k, d, scale, &|_, _| 0.0), mask, v, dout, e);
    let [dq, dk] = scores_backward(q, k, d, scale, &ds);
    [dq, dk, dv]
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub fn gather_add(tables: &[(&[f32], &[u32])], width: usize) -> Vec<f64> {
    let tokens = tables.first().map_or(0, |(_, ids)| ids.len());
    let element = |t: usize, j: usize| tables.iter().map(|(x, ids)| f64::from(x[ids[t] as usize * width + j])).sum();
    (0..tokens).flat_map(|t| (0..width).map(move |j| (t, j))).map(|(t, j)| element(t, j)).collect()
}

/// Rows whose first half is activated and multiplied by the second.
pub fn gate(act: Activation, row: &[f32]) -> Vec<f64> {
    let (gate, x) = row.split_at(row.len() / 2);
    gate.iter().zip(x).map(|(gate, x)| activation(act, f64::from(*gate)) * f64::from(*x)).collect()
}

/// Each pair of channels of each head of a row, turned by the angle whose cosine and sine stand in `turn`.
pub fn rotary(row: &[f32], turn: &[f32], head_dim: usize, interleaved: bool) -> Vec<f64> {
    let half = turn.len() / 2;
    let mut out: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
    for head in out.chunks_exact_mut(head_dim) {
        for i in 0..half {
            let (a, b) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
            let (cos, sin) = (f64::from(turn[i]), f64::from(turn[half + i]));
            (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[b] * cos + head[a] * sin);
        }
    }
    out
}

/// Each channel of the rows' neighbours by its taps (K, cols); neighbours that are no rows are zeros.
pub fn depthwise(x: &[f32], taps: &[f32], rows: &[u32], kernel: usize, cols: usize) -> Vec<f64> {
    let dynamic: Vec<f32> = rows
        .chunks_exact(kernel)
        .flat_map(|_| (0..cols).flat_map(|c| (0..kernel).map(move |j| taps[j * cols + c])))
        .collect();
    self::dynamic(x, &dynamic, rows, kernel, cols, 1)
}

/// Each head of the rows' neighbours by its taps for a row (rows, heads, K); neighbours that are no rows are zeros.
pub fn dynamic(x: &[f32], taps: &[f32], rows: &[u32], kernel: usize, heads: usize, dim: usize) -> Vec<f64> {
    let width = heads * dim;
    let mut out = vec![];
    for (t, near) in rows.chunks_exact(kernel).enumerate() {
        for c in 0..width {
            let taps = &taps[(t * heads + c / dim) * kernel..][..kernel];
            let term = |(row, w): (&u32, &f32)| Some(f64::from(*x.get(*row as usize * width + c)?) * f64::from(*w));
            out.push(near.iter().zip(taps).filter_map(term).sum());
        }
    }
    out
}
