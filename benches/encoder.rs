//! Whole forward passes with made-up weights: MiniLM-L6 and bert-base, one thread and all.
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ferroformer_kernels::{Activation, Level, Mat, MatMut, Narrow, Norm, Precision, Threads, layer_norm, softmax};
use ferroformer_model::{Batch, Cancel, Encoder, Padded, Want};
use report::bert::{MODELS, encoder, operations};
use report::{Contest, floats, prove};

/// (sequences, length)
const BATCHES: [(usize, usize); 4] = [(1, 16), (1, 128), (8, 128), (1, 512)];

fn main() {
    let level = Level::current().expect("FERROFORMER_ISA");
    let models = MODELS.map(|model| (model.0, encoder(level, model, false)));
    if report::table_is_wanted() {
        table(level, &models);
    }
    let mut criterion = report::criterion();
    history(&mut criterion, level, &models);
    criterion.final_summary();
}

fn batch<'a>(encoder: &Encoder, ids: &'a [i64], (rows, width): (usize, usize)) -> Batch<'a> {
    let padded = Padded { rows, width, ids: Some(&ids[..rows * width]), ..Padded::default() };
    Batch::from_padded(padded, encoder.blueprint()).expect("a batch")
}

/// As many as the largest batch takes.
fn ids() -> Vec<i64> {
    (0..1024).map(|i| i * 7919 % 30522).collect()
}

fn forward(encoder: &Encoder, threads: usize, batch: &Batch) -> Vec<f32> {
    let cancel = Cancel::new(&|| false);
    encoder
        .forward(threads, batch, Want::default(), &cancel)
        .expect("a forward pass")
        .last_hidden_state
        .unwrap_or_default()
}

fn table(level: Level, models: &[(&str, Encoder)]) {
    let ids = ids();
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    println!("\nEncoders on {}: tokens a second and share of the peak, on one thread and on {all};", level.name());
    println!("the share of one thread's time that GELU, LayerNorm and softmax take");
    println!("{:>10} {:>9} {:>9} {:>8} {:>9} {:>8} {:>8}", "", "batch", "one", "of peak", "all", "of peak", "rows");
    for (name, encoder) in models {
        for shape in BATCHES {
            let batch = batch(encoder, &ids, shape);
            let one = forward(encoder, 1, &batch);
            let exact: Vec<f64> = one.iter().map(|x| f64::from(*x)).collect();
            prove("all threads", &forward(encoder, all, &batch), exact, 0.0);
            let mut contest = Contest::new();
            let peak_operations = contest.add_peak(level, Precision::Float32);
            for threads in [1, all] {
                let batch = &batch;
                contest.add(move || drop(black_box(forward(encoder, threads, batch))));
            }
            let mut rows = RowWork::new(level, encoder, shape);
            contest.add(move || rows.once());
            let times = contest.run();
            let (operations, tokens) = (operations(encoder, &vec![shape.1; shape.0]), (shape.0 * shape.1) as f64);
            let share = |i| 100.0 * times.ratio(0, i) * operations / peak_operations;
            println!(
                "{name:>10} {:>9} {:>9.0} {:>7.0}% {:>9.0} {:>7.0}% {:>7.1}%",
                format!("{} x {}", shape.0, shape.1),
                tokens / times.seconds(1),
                share(1),
                tokens / times.seconds(2),
                share(2) / all as f64,
                100.0 * times.ratio(3, 1),
            );
        }
    }
}

/// What works along rows in one forward pass: as much of it, on made-up values that stay in the cache as they do there.
struct RowWork {
    level: Level,
    layers: usize,
    tokens: usize,
    /// (1, H)
    hidden: Vec<f32>,
    /// (1, 4 H)
    feed_forward: Vec<f32>,
    /// (1, L) of each head
    scores: Vec<f32>,
    heads: usize,
}

impl RowWork {
    fn new(level: Level, encoder: &Encoder, (sequences, length): (usize, usize)) -> Self {
        let blueprint = encoder.blueprint();
        RowWork {
            level,
            layers: blueprint.num_layers,
            tokens: sequences * length,
            hidden: floats(blueprint.hidden_size),
            feed_forward: floats(blueprint.feed_forward.size),
            scores: floats(length),
            heads: blueprint.attention.heads,
        }
    }

    fn once(&mut self) {
        let (level, width) = (self.level, self.hidden.len());
        let mut out = vec![0.0; width];
        for _ in 0..self.layers * self.tokens {
            for _ in 0..2 {
                let (x, out) = (Mat::dense(&self.hidden, 1, width), MatMut::dense(&mut out, 1, width));
                layer_norm(
                    level,
                    &Threads::serial(),
                    x,
                    &self.hidden,
                    &self.hidden,
                    Norm { centred: true, scaled: true, eps: 1e-12, offset: 0.0 },
                    out,
                    &mut Narrow::default(),
                );
            }
            Activation::Gelu.apply(level, &mut self.feed_forward);
            (0..self.heads).for_each(|_| softmax(level, &mut self.scores, 1.0));
        }
        black_box(&out);
    }
}

fn history(criterion: &mut Criterion, level: Level, models: &[(&str, Encoder)]) {
    let ids = ids();
    for (name, encoder) in models {
        let mut group = criterion.benchmark_group(format!("encoder/{}/{name}", level.name()));
        for shape in BATCHES {
            let batch = batch(encoder, &ids, shape);
            group.throughput(Throughput::Elements((shape.0 * shape.1) as u64));
            let name = format!("{}x{}", shape.0, shape.1);
            group.bench_function(name, |b| b.iter(|| forward(encoder, 1, &batch)));
        }
    }
}
