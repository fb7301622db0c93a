//! What training adds to inference, and whole steps of it: one thread, as shares of the hardware's peak.
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use std::cell::RefCell;
use std::collections::HashSet;
use std::hint::black_box;

use ferroformer_kernels::{
    Epilogue, Heads, Level, Mat, MatMut, PackedLinear, Precision, Threads, attention_backward,
    attention_backward_scratch, linear, naive, padded_stride, weight_gradient,
};
use ferroformer_model::{
    AdamW, Batch, Cancel, Cotangents, Encoder, Gradients, Optimizer, Padded, Recipe, Recording, Rule,
};
use report::bert::{MODELS, encoder, operations};
use report::{Contest, floats, prove};

/// (K, N)
const SHAPES: [(usize, usize); 8] =
    [(384, 1152), (384, 384), (384, 1536), (1536, 384), (768, 2304), (768, 768), (768, 3072), (3072, 768)];
const TOKENS: [usize; 3] = [128, 629, 2048];
/// (heads, D)
const HEADS: [(usize, usize); 2] = [(12, 32), (12, 64)];
const LENGTHS: [usize; 2] = [128, 512];
/// Of the rows of a step: as long as they can be, and 629 tokens, as in benches/compare.
const ROWS: [[usize; 16]; 2] = [[WIDTH; 16], [128, 38, 29, 26, 56, 27, 22, 53, 11, 30, 24, 9, 45, 59, 48, 24]];
const WIDTH: usize = 128;

fn main() {
    let level = Level::current().expect("FERROFORMER_ISA");
    if report::table_is_wanted() {
        products(level);
        attentions(level);
        steps(level);
    }
}

/// Rows as workspaces keep them.
fn rows(count: usize, cols: usize) -> Vec<f32> {
    floats(count * padded_stride(cols))
}

/// The two products of a linear layer's way back.
fn products(level: Level) {
    println!("\ndW = dY^T X, and dX = dY W with W transposed first, on {}, one thread, GFLOP/s", level.name());
    println!("{:>11}  {:>6} {:>8} {:>8} {:>8} {:>8}", "K x N", "tokens", "dW", "of peak", "dX", "of peak");
    for (k, n) in SHAPES {
        for m in TOKENS {
            let (x, dy) = (rows(m, k), rows(m, n));
            let (x, dy) = (Mat::new(&x, m, k, padded_stride(k)), Mat::new(&dy, m, n, padded_stride(n)));
            let mut gradient = vec![0.0; PackedLinear::len(level, Precision::Float32, k, n)];
            let mut back = InputGradient::new(level, (k, n), m);
            back.prove(dy);
            let mut contest = Contest::new();
            let peak = contest.add_peak(level, Precision::Float32);
            let serial = Threads::serial();
            contest.add(move || weight_gradient(level, &serial, black_box(x), dy, &mut gradient));
            contest.add(move || back.once(black_box(dy)));
            let times = contest.run();
            let operations = 2.0 * (m * k * n) as f64;
            print!("{:>11}  {m:>6}", format!("{k} x {n}"));
            for i in [1, 2] {
                let share = 100.0 * times.ratio(0, i) * operations / peak;
                print!(" {:>8.1} {share:>7.0}%", times.giga(i, operations));
            }
            println!();
        }
    }
}

struct InputGradient {
    /// (N, K)
    weights: Vec<f32>,
    packed: PackedLinear,
    transposed: PackedLinear,
    dx: Vec<f32>,
}

impl InputGradient {
    fn new(level: Level, (k, n): (usize, usize), tokens: usize) -> Self {
        let weights = floats(n * k);
        let packed = PackedLinear::new(level, Precision::Float32, &weights, None, k).expect("memory");
        let transposed = PackedLinear::zeroed(level, Precision::Float32, n, k).expect("memory");
        InputGradient { weights, packed, transposed, dx: rows(tokens, k) }
    }

    fn once(&mut self, dy: Mat) {
        let (serial, k) = (Threads::serial(), self.packed.inputs());
        self.transposed.transpose(&serial, &self.packed, [0, 0]);
        let dx = MatMut::new(&mut self.dx, dy.rows(), k, padded_stride(k));
        linear(&serial, dy, &self.transposed, Epilogue::default(), dx);
    }

    /// The last token's against the definition.
    fn prove(&mut self, dy: Mat) {
        self.once(dy);
        let (k, last) = (self.packed.inputs(), dy.rows() - 1);
        let mut exact = vec![0.0; k];
        for (dy, weights) in dy.row(last).iter().zip(self.weights.chunks_exact(k)) {
            exact.iter_mut().zip(weights).for_each(|(sum, w)| *sum += f64::from(*dy) * f64::from(*w));
        }
        prove("dX", &self.dx[last * padded_stride(k)..][..k], exact, 1e-3);
    }
}

/// Of one sequence. Operations are those of five products: one computes the scores once more.
fn attentions(level: Level) {
    println!("\nAttention's way back on {}, one thread, GFLOP/s (of the products alone)", level.name());
    println!("{:>8} {:>5} {:>8} {:>8}", "heads", "L", "GFLOP/s", "of peak");
    for (heads, dim) in HEADS {
        for length in LENGTHS {
            let mut attention = Attention::new(level, length, heads, dim);
            attention.prove();
            let mut contest = Contest::new();
            let peak = contest.add_peak(level, Precision::Float32);
            contest.add(move || attention.once());
            let times = contest.run();
            let operations = 10.0 * (length * length * heads * dim) as f64;
            let (giga, share) = (times.giga(1, operations), 100.0 * times.ratio(0, 1) * operations / peak);
            println!("{:>8} {length:>5} {giga:>8.1} {share:>7.0}%", format!("{heads} x {dim}"));
        }
    }
}

struct Attention {
    level: Level,
    length: usize,
    heads: usize,
    dim: usize,
    /// (L, 3 heads x D), and the gradient of that.
    qkv: Vec<f32>,
    dqkv: Vec<f32>,
    dout: Vec<f32>,
    scratch: Vec<f32>,
}

impl Attention {
    fn new(level: Level, length: usize, heads: usize, dim: usize) -> Self {
        let (qkv, dout) = (rows(length, 3 * heads * dim), rows(length, heads * dim));
        let scratch = vec![0.0; attention_backward_scratch(level, length, dim)];
        Attention { level, length, heads, dim, dqkv: qkv.clone(), qkv, dout, scratch }
    }

    fn once(&mut self) {
        let (length, width) = (self.length, self.heads * self.dim);
        let stride = padded_stride(3 * width);
        let qkv = Mat::new(&self.qkv, length, 3 * width, stride);
        let qkv = [0, 1, 2].map(|i| qkv.block(0..length, i * width..(i + 1) * width));
        let (dq, dkv) = MatMut::new(&mut self.dqkv, length, 3 * width, stride).split_cols(width);
        let (dk, dv) = dkv.split_cols(width);
        let (starts, scale) = ([0, length], 1.0 / (self.dim as f32).sqrt());
        let (of, dout) =
            (Heads::new(self.heads, &starts, scale), Mat::new(&self.dout, length, width, padded_stride(width)));
        attention_backward(self.level, &Threads::serial(), qkv, of, dout, &mut self.scratch, [dq, dk, dv]);
    }

    /// The first head against the twin.
    fn prove(&mut self) {
        self.once();
        let (length, width, dim) = (self.length, self.heads * self.dim, self.dim);
        let head = |xs: &[f32], columns, first| -> Vec<f32> {
            let rows = xs.chunks_exact(padded_stride(columns)).take(length);
            rows.flat_map(|row| row[first..first + dim].to_vec()).collect()
        };
        let wide = |xs: Vec<f32>| -> Vec<f64> { xs.into_iter().map(f64::from).collect() };
        let [q, k, v] = [0, 1, 2].map(|i| wide(head(&self.qkv, 3 * width, i * width)));
        let (dout, all) = (wide(head(&self.dout, width, 0)), vec![1.0; length * length]);
        let exact = naive::attention_backward(&q, &k, &v, &dout, &all, dim, dim, 1.0 / (dim as f64).sqrt());
        for (i, exact) in exact.into_iter().enumerate() {
            prove("attention's way back", &head(&self.dqkv, 3 * width, i * width), exact, 1e-4);
        }
    }
}

/// Of a classifier. Each product of the way there has two on the way back; what is computed once more does not count.
fn steps(level: Level) {
    println!(
        "\nSteps on {}, one thread, milliseconds; \"rest\" clips, updates (AdamW) and sets gradients to zero",
        level.name()
    );
    print!("{:>10} {:>6} {:>9} {:>8} {:>9} {:>8}", "", "tokens", "forward", "of peak", "backward", "of peak");
    println!(" {:>9} {:>9} {:>8} {:>15}", "rest", "step", "of peak", "peak in GFLOP/s");
    for model in MODELS {
        for lengths in ROWS {
            let step = Step::new(encoder(level, model, true), &lengths);
            let operations = operations(&step.encoder, &lengths);
            let step = RefCell::new(step);
            let mut contest = Contest::new();
            let peak = contest.add_peak(level, Precision::Float32);
            contest.add_stage(|| step.borrow_mut().forward());
            contest.add_stage(|| step.borrow_mut().backward());
            contest.add_stage(|| step.borrow_mut().rest());
            let times = contest.run();
            let share = |i, operations| 100.0 * times.ratio(0, i) * operations / peak;
            let [forward, backward, rest] = [1, 2, 3].map(|i| times.seconds(i) * 1e3);
            let whole: f64 = [1, 2, 3].map(|i| times.ratio(i, 0)).iter().sum();
            println!(
                "{:>10} {:>6} {forward:>9.1} {:>7.0}% {backward:>9.1} {:>7.0}% {rest:>9.1} {:>9.1} {:>7.0}% {:>15.1}",
                model.0,
                lengths.iter().sum::<usize>(),
                share(1, operations),
                share(2, 2.0 * operations),
                forward + backward + rest,
                100.0 * 3.0 * operations / peak / whole,
                times.giga(0, peak),
            );
        }
    }
}

struct Step {
    encoder: Encoder,
    gradients: Gradients,
    optimizer: Optimizer,
    /// (B, W)
    ids: Vec<i64>,
    mask: Vec<i64>,
    /// (B, 2)
    dlogits: Vec<f32>,
    recording: Option<Recording>,
}

impl Step {
    /// After a first step, which finds the memory.
    fn new(encoder: Encoder, lengths: &[usize]) -> Self {
        let rule = Rule::AdamW(AdamW { betas: [0.9, 0.999], eps: 1e-8 });
        let optimizer = Optimizer::new(&encoder, rule, 0.01, &HashSet::new(), HashSet::new(), 1).expect("memory");
        let mut step = Step {
            gradients: Gradients::new(&encoder, HashSet::new(), 1).expect("memory"),
            optimizer,
            ids: (0..(lengths.len() * WIDTH) as i64).map(|i| i * 7919 % 30522).collect(),
            mask: lengths.iter().flat_map(|length| (0..WIDTH).map(move |i| i64::from(i < *length))).collect(),
            dlogits: floats(2 * lengths.len()),
            recording: None,
            encoder,
        };
        step.forward();
        step.backward();
        step.rest();
        step
    }

    fn forward(&mut self) {
        let (ids, mask) = (Some(&self.ids[..]), Some(&self.mask[..]));
        let padded = Padded { rows: self.ids.len() / WIDTH, width: WIDTH, ids, mask, ..Padded::default() };
        let batch = Batch::from_ids(padded, self.encoder.blueprint()).expect("a batch");
        let recorded = self.encoder.record(1, batch, None, Recipe::default(), &Cancel::new(&|| false));
        self.recording = Some(recorded.expect("a forward pass").1);
    }

    fn backward(&mut self) {
        let recording = self.recording.take().expect("a forward pass before");
        let d = Cotangents { logits: Some(&self.dlogits), ..Cotangents::default() };
        let cancel = Cancel::new(&|| false);
        self.encoder.backward(1, recording, d, &mut self.gradients, &cancel).expect("a way back");
    }

    fn rest(&mut self) {
        let norm = self.gradients.norm(1);
        self.gradients.scale(1, (1.0 / norm).min(1.0) as f32);
        self.optimizer.step(&mut self.encoder, &self.gradients, 1e-5, 1.0, 1).expect("a step");
        self.gradients.zero(1);
    }
}
