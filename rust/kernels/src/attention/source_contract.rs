//! Attention to another's keys: every ISA against the twins, there and back, whatever the lengths on either side.

use super::*;
use crate::naive;
use crate::testing::{Random, for_every_level};

const HEADS: usize = 2;
const QUERIES: [usize; 4] = [5, 1, 0, 43];
const KEYS: [usize; 4] = [3, 60, 2, 7];
/// Of the last sequence's keys only so many are attended to.
const ATTENDED: [usize; 4] = [3, 60, 2, 6];

fn starts(lengths: &[usize]) -> Vec<usize> {
    (0..=lengths.len()).map(|s| 7 + lengths[..s].iter().sum::<usize>()).collect()
}

/// Rows `first..first + count` of one head, dense.
fn part(xs: &[f32], dim: usize, first: usize, count: usize, head: usize) -> Vec<f32> {
    xs.chunks(HEADS * dim).skip(first).take(count).flat_map(|row| row[head * dim..][..dim].to_vec()).collect()
}

fn close(ours: &[f32], exact: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), exact.len());
    ours.iter().zip(exact).for_each(|(x, y)| assert!((f64::from(*x) - y).abs() <= tolerance, "{x} instead of {y}"));
}

#[test]
fn keys_of_another() {
    for_every_level(|level| {
        for (dim, threads) in [(1, 1), (8, 2), (20, 3), (64, 2)] {
            let columns = HEADS * dim;
            let [queries, keys] = [QUERIES, KEYS].map(|lengths| lengths.iter().sum::<usize>());
            let mut random = Random(dim as u64);
            let (q, dout) = (random.floats(queries * columns), random.floats(queries * columns));
            let (k, v) = (random.floats(keys * columns), random.floats(keys * columns));
            let (own, source) = (starts(&QUERIES), starts(&KEYS));
            let scale = 1.0 / (dim as f32).sqrt();
            let heads = Heads { source: Some(&source), keys: Some(&ATTENDED), ..Heads::new(HEADS, &own, scale) };
            let mats = [Mat::dense(&q, queries, columns), Mat::dense(&k, keys, columns), Mat::dense(&v, keys, columns)];
            let (width, key_width) = (44, 61);
            let places: Vec<usize> = QUERIES.iter().flat_map(|n| width - n..width).collect();
            let key_places: Vec<usize> = KEYS.iter().flat_map(|n| 0..*n).collect();
            let mut p = vec![-7.0; QUERIES.len() * HEADS * width * key_width];
            let mut out = vec![f32::NAN; queries * columns];
            let mut scratch = vec![0.0; threads * attention_scratch(level, 60, dim)];
            let source_places = Some((key_width, &key_places[..]));
            let wanted = Probabilities { out: &mut p, width, columns: &places, source: source_places };
            let (team, place) = (Threads::new(threads), MatMut::dense(&mut out, queries, columns));
            attention(level, &team, Qkv::Floats(mats), heads, &mut scratch, Some(wanted), place);
            let mut gradients = [queries, keys, keys].map(|rows| vec![f32::NAN; rows * columns]);
            let mut scratch = vec![0.0; threads * attention_backward_scratch(level, 60, dim)];
            let [dq, dk, dv] = &mut gradients;
            let places = [
                MatMut::dense(dq, queries, columns),
                MatMut::dense(dk, keys, columns),
                MatMut::dense(dv, keys, columns),
            ];
            attention_backward(level, &team, mats, heads, Mat::dense(&dout, queries, columns), &mut scratch, places);
            let wide = |xs: Vec<f32>| -> Vec<f64> { xs.into_iter().map(f64::from).collect() };
            for s in 0..QUERIES.len() {
                let (first, first_key) = (own[s] - own[0], source[s] - source[0]);
                let (count, attended) = (QUERIES[s], ATTENDED[s]);
                for head in 0..HEADS {
                    let of = |xs: &[f32]| part(xs, dim, first, count, head);
                    let of_keys = |xs: &[f32], count: usize| part(xs, dim, first_key, count, head);
                    let (q, dout) = (of(&q), of(&dout));
                    let (k, v) = (of_keys(&k, attended), of_keys(&v, attended));
                    let (weights, exact) = naive::attention(&q, &k, &v, dim, dim, scale);
                    close(&of(&out), &exact, 2e-6);
                    let square = &p[(s * HEADS + head) * width * key_width..][..width * key_width];
                    for (row, weights) in square.chunks(key_width).skip(width - count).zip(weights.chunks(attended)) {
                        close(&row[..attended], weights, 2e-6);
                    }
                    let mask = vec![1.0; count * attended];
                    let [q, k, v, dout] = [q, k, v, dout].map(wide);
                    let exact = naive::attention_backward(&q, &k, &v, &dout, &mask, dim, dim, f64::from(scale));
                    close(&of(&gradients[0]), &exact[0], 2e-5);
                    for (ours, exact) in gradients[1..].iter().zip(&exact[1..]) {
                        close(&of_keys(ours, attended), exact, 2e-5);
                        let rest = of_keys(ours, KEYS[s]);
                        assert!(rest[attended * dim..].iter().all(|x| *x == 0.0));
                    }
                }
            }
        }
    });
}
