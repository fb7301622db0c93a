//! What writing a text token by token waits for, as shares of the speed at which the same threads can read memory: products of a few
//! rows with weights that no cache holds, attention to cached keys and values, and the largest of the logits.
//!
//! Whoever is next to us on the machine takes of the same memory, so the fastest of many rounds counts.
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use std::hint::black_box;
use std::time::Instant;

use criterion::Criterion;
use ferroformer_kernels::{
    Cached, CachedQuery, Epilogue, Form, Input, KeyValues, Level, Mat, MatMut, Narrow, PackedLinear, Precision,
    Threads, attention_cached, attention_cached_scratch, linear, log_softmax_top_k, naive, narrow, peak,
};
use report::{floats, prove};

/// (K, N)
const SHAPES: [(usize, usize); 5] = [(768, 2304), (768, 3072), (3072, 768), (768, 50257), (512, 58101)];
const ROWS: [usize; 6] = [1, 2, 3, 4, 6, 8];
const PRECISIONS: [Precision; 3] = [Precision::Float32, Precision::BFloat16, Precision::Int8];
const ROUNDS: usize = 9;
/// Of weights or cache that are read in turn: more than the last-level cache.
const BYTES: usize = 384 << 20;
/// (heads, key_heads, D, keys)
const CACHES: [(usize, usize, usize, usize); 4] =
    [(12, 12, 64, 1024), (8, 8, 64, 32), (32, 8, 128, 1024), (8, 1, 256, 1024)];

fn main() {
    if report::table_is_wanted() {
        let level = Level::current().expect("FERROFORMER_ISA");
        for threads in [1, 2] {
            products(level, threads);
            attention(level, threads);
        }
        largest(level);
    }
    let mut criterion = report::criterion();
    history(&mut criterion, Level::current().expect("FERROFORMER_ISA"));
    criterion.final_summary();
}

/// Seconds of the fastest round of each contestant, who take turns.
fn fastest(contestants: &mut [Box<dyn FnMut() + '_>]) -> Vec<f64> {
    let mut best = vec![f64::INFINITY; contestants.len()];
    for _ in 0..ROUNDS {
        for (work, best) in contestants.iter_mut().zip(&mut best) {
            let start = Instant::now();
            work();
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    best
}

/// Reads all of it, each thread its part.
fn read(level: Level, threads: &Threads, xs: &[f32]) {
    let part = xs.len() / threads.count();
    threads.for_each(threads.count(), |_, i| {
        black_box(peak::read(level, &xs[i * part..][..part]));
    });
}

/// Copies of a layer's weights that are as many bytes as wanted.
fn stack(level: Level, precision: Precision, (k, n): (usize, usize)) -> Vec<PackedLinear> {
    let weight = floats(n * k);
    let first = PackedLinear::new(level, precision, &weight, None, k).expect("memory");
    let count = (BYTES / (4 * first.words().len())).max(2);
    let copy = |_| {
        let mut copy = PackedLinear::zeroed(level, precision, k, n).expect("memory");
        copy.words_mut().copy_from_slice(first.words());
        copy
    };
    let all: Vec<_> = (0..count).map(copy).collect();
    let (x, mut out) = (floats(k), vec![0.0; n]);
    if precision == Precision::Float32 {
        linear(&Threads::serial(), Mat::dense(&x, 1, k), &all[0], Epilogue::default(), MatMut::dense(&mut out, 1, n));
        prove("linear", &out, naive::linear(&x, &weight, &vec![0.0; n], k), k as f64 * 1e-6);
    }
    all
}

fn products(level: Level, threads: usize) {
    let source = floats(BYTES / 4);
    println!("\nProducts of a few rows, {threads} threads, {}: share of what they can read", level.name());
    print!("{:>12} {:>9}", "K x N", "");
    ROWS.iter().for_each(|rows| print!(" {rows:>7}"));
    println!("   GB/s");
    for (shape, precision) in SHAPES.into_iter().flat_map(|shape| PRECISIONS.map(|precision| (shape, precision))) {
        let (k, n) = shape;
        let weights = stack(level, precision, shape);
        let bytes = weights.iter().map(|w| 4 * w.words().len()).sum::<usize>() as f64;
        let team = Threads::new(threads);
        let (team, weights, source) = (&team, &weights, &source);
        let mut contestants: Vec<Box<dyn FnMut()>> = vec![Box::new(move || read(level, team, source))];
        for rows in ROWS {
            let x = floats(rows * k);
            let mut narrowed = Narrow::default();
            let form = Form::of(level, precision);
            narrowed.resize(form, rows, k).expect("memory");
            let mut out = vec![0.0; rows * n];
            contestants.push(Box::new(move || {
                for weights in weights {
                    let x = Mat::dense(&x, rows, k);
                    narrow(level, team, x, &mut narrowed);
                    let x = if form == Form::Floats { Input::Floats(x) } else { Input::Narrow(&narrowed) };
                    linear(team, x, weights, Epilogue::default(), MatMut::dense(&mut out, rows, n));
                }
            }));
        }
        let times = fastest(&mut contestants);
        let bandwidth = 4.0 * source.len() as f64 / times[0];
        print!("{:>12} {:>9}", format!("{k} x {n}"), precision.name());
        times[1..].iter().for_each(|time| print!(" {:>6.0}%", 100.0 * bytes / time / bandwidth));
        println!(" {:>6.1}", bandwidth / 1e9);
    }
}

fn attention(level: Level, threads: usize) {
    let source = floats(BYTES / 4);
    println!(
        "\nAttention of one query to cached keys, {threads} threads, {}: share of what they can read",
        level.name()
    );
    for (heads, key_heads, dim, length) in CACHES {
        for precision in [Precision::Float32, Precision::BFloat16] {
            let slots: Vec<u32> = (0..length as u32).collect();
            let columns = key_heads * dim;
            let x = floats(length * columns);
            let layer = || {
                let mut cache = KeyValues::new(key_heads, dim, precision);
                cache.reserve(length).expect("memory");
                let x = Mat::dense(&x, length, columns);
                cache.write(level, &slots, x, x);
                cache
            };
            let bytes = 2 * length * columns * (4 / precision.per_word());
            let layers: Vec<_> = (0..(BYTES / bytes).max(2)).map(|_| layer()).collect();
            let queries = [CachedQuery { slots: &slots, position: length - 1 }];
            let q = floats(heads * dim);
            let mut out = vec![0.0; heads * dim];
            let mut scratch = vec![0.0; threads * attention_cached_scratch(heads, key_heads, dim, length)];
            let team = Threads::new(threads);
            let team = &team;
            let mut contestants: Vec<Box<dyn FnMut()>> = vec![
                Box::new(|| read(level, team, &source)),
                Box::new(|| {
                    for cache in &layers {
                        let scale = 1.0 / (dim as f32).sqrt();
                        let of = Cached { cache, queries: &queries, heads, scale, soft_cap: None, bias: None };
                        let (q, out) = (Mat::dense(&q, 1, heads * dim), MatMut::dense(&mut out, 1, heads * dim));
                        attention_cached(level, team, q, of, &mut scratch, None, out);
                    }
                }),
            ];
            let times = fastest(&mut contestants);
            let bandwidth = 4.0 * source.len() as f64 / times[0];
            let share = 100.0 * (bytes * layers.len()) as f64 / times[1] / bandwidth;
            let (micros, name) = (1e6 * times[1] / layers.len() as f64, precision.name());
            println!(
                "{heads:>3} heads on {key_heads:>2} x {dim:>3}, {length:>5} keys {name:>9} {micros:>9.1} us {share:>4.0}% {:>6.1} GB/s",
                bandwidth / 1e9
            );
        }
    }
}

fn largest(level: Level) {
    println!("\nThe k largest of a row of logits and its log sum, one thread, microseconds");
    for cols in [32000, 50257, 256_000] {
        let logits = floats(cols);
        print!("{cols:>8}");
        for k in [1, 8, 50, 200] {
            let (mut values, mut indices, mut sums) = (vec![0.0; k], vec![0; k], [0.0]);
            let logits = &logits;
            let mut contestants: Vec<Box<dyn FnMut()>> = vec![Box::new(move || {
                let (values, indices) = (MatMut::dense(&mut values, 1, k), MatMut::dense(&mut indices, 1, k));
                let logits = Mat::dense(logits, 1, cols);
                log_softmax_top_k(level, &Threads::serial(), logits, values, indices, &mut sums);
            })];
            let times: Vec<f64> = (0..20).map(|_| fastest(&mut contestants)[0]).collect();
            print!("   k = {k}: {:>6.1}", 1e6 * times.iter().copied().fold(f64::INFINITY, f64::min));
        }
        println!();
    }
}

fn history(criterion: &mut Criterion, level: Level) {
    let (cols, k) = (50257, 8);
    let logits = floats(cols);
    let (mut values, mut indices, mut sums) = (vec![0.0; k], vec![0; k], [0.0]);
    criterion.bench_function(&format!("top_k/{}", level.name()), |b| {
        b.iter(|| {
            let (values, indices) = (MatMut::dense(&mut values, 1, k), MatMut::dense(&mut indices, 1, k));
            let logits = Mat::dense(&logits, 1, cols);
            log_softmax_top_k(level, &Threads::serial(), logits, values, indices, &mut sums);
        });
    });
}
