//! Attention of one sequence on one thread, on every ISA, beside the peak of the best.
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use criterion::{Criterion, Throughput};
use ferroformer_kernels::{
    Bias, Heads, Level, Mat, MatMut, Positions, Precision, Qkv, Threads, attention, attention_scratch, naive,
    positions_scratch,
};
use report::{Contest, floats, prove};

/// (heads, D)
const HEADS: [(usize, usize); 2] = [(12, 32), (12, 64)];
/// 77 divides no vector and no tile.
const LENGTHS: [usize; 4] = [16, 77, 128, 512];

fn main() {
    if report::table_is_wanted() {
        table();
        options(Level::best());
    }
    let mut criterion = report::criterion();
    history(&mut criterion, Level::current().expect("FERROFORMER_ISA"));
    criterion.final_summary();
}

struct Problem {
    level: Level,
    length: usize,
    starts: [usize; 2],
    heads: usize,
    dim: usize,
    qkv: Vec<f32>,
    scratch: Vec<f32>,
    out: Vec<f32>,
}

impl Problem {
    fn new(level: Level, length: usize, (heads, dim): (usize, usize)) -> Self {
        let (qkv, out) = (floats(length * 3 * heads * dim), vec![0.0; length * heads * dim]);
        Problem {
            level,
            length,
            starts: [0, length],
            heads,
            dim,
            qkv,
            scratch: vec![0.0; attention_scratch(level, length, dim)],
            out,
        }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }

    fn run(&mut self) {
        self.run_with(|heads| heads);
    }

    fn run_with<'a>(&'a mut self, options: impl Fn(Heads<'a>) -> Heads<'a>) {
        let (length, width) = (self.length, self.heads * self.dim);
        let qkv = Mat::dense(&self.qkv, length, 3 * width);
        let qkv = [0, 1, 2].map(|i| qkv.block(0..length, i * width..(i + 1) * width));
        let (scale, out) = (self.scale(), MatMut::dense(&mut self.out, length, width));
        let scratch = &mut self.scratch;
        attention(
            self.level,
            &Threads::serial(),
            Qkv::Floats(qkv),
            options(Heads::new(self.heads, &self.starts, scale)),
            scratch,
            None,
            out,
        );
    }

    /// The first head against the twin.
    fn prove(&mut self) {
        self.run();
        let (width, dim) = (self.heads * self.dim, self.dim);
        let head = |xs: &[f32], stride, first| -> Vec<f32> {
            xs.chunks(stride).flat_map(|row| row[first..first + dim].to_vec()).collect()
        };
        let [q, k, v] = [0, 1, 2].map(|i| head(&self.qkv, 3 * width, i * width));
        let (_, exact) = naive::attention(&q, &k, &v, dim, dim, self.scale());
        prove("attention", &head(&self.out, width, 0), exact, 1e-5);
    }

    fn operations(&self) -> f64 {
        4.0 * (self.length * self.length * self.heads * self.dim) as f64
    }
}

fn table() {
    let levels: Vec<Level> = Level::available().collect();
    println!("\nAttention, one thread, GFLOP/s (of the two products alone)");
    print!("{:>8} {:>5} {:>8}", "heads", "L", "of peak");
    levels.iter().for_each(|level| print!(" {:>8}", level.name()));
    println!();
    for heads in HEADS {
        for length in LENGTHS {
            let mut contest = Contest::new();
            let peak_operations = contest.add_peak(levels[0], Precision::Float32);
            let mut operations = 0.0;
            for level in &levels {
                let mut problem = Problem::new(*level, length, heads);
                problem.prove();
                operations = problem.operations();
                contest.add(move || problem.run());
            }
            let times = contest.run();
            let share = 100.0 * times.ratio(0, 1) * operations / peak_operations;
            print!("{:>8} {length:>5} {share:>7.0}%", format!("{} x {}", heads.0, heads.1));
            (1..=levels.len()).for_each(|i| print!(" {:>8.1}", times.giga(i, operations)));
            println!();
        }
    }
}

/// The forms of positions that encoders have, and causal attention.
fn options(level: Level) {
    const WINDOW: [usize; 2] = [64; 2];
    println!("\nOptions on {}, one thread, times as long as plain attention", level.name());
    println!("{:>8} {:>5} {:>8} {:>8} {:>8} {:>12}", "heads", "L", "bias", "window", "causal", "disentangled");
    for heads in HEADS {
        for length in [128, 512, 2048] {
            let (width, reach) = (heads.0 * heads.1, length);
            let table = floats(heads.0 * (2 * reach - 1));
            let (rows, places) = (floats(512 * width), places(reach));
            let rows = Mat::dense(&rows, 512, width);
            let positions = Positions { keys: Some(rows), queries: Some(rows), places: &places };
            let problem = || {
                let mut problem = Problem::new(level, length, heads);
                problem.scratch.extend(vec![0.0; positions_scratch(level, length, heads.1, 512)]);
                problem
            };
            let [mut plain, mut biased, mut window, mut causal, mut placed] = std::array::from_fn(|_| problem());
            let mut contest = Contest::new();
            contest.add(move || plain.run());
            contest.add(|| biased.run_with(|of| Heads { bias: Some(Bias { table: &table, reach }), ..of }));
            contest.add(move || window.run_with(|of| Heads { reach: WINDOW, ..of }));
            contest.add(move || causal.run_with(|of| Heads { reach: [usize::MAX, 0], ..of }));
            contest.add(|| placed.run_with(|of| Heads { positions: Some(positions), ..of }));
            let times = contest.run();
            let [bias, window, causal, placed] = [1, 2, 3, 4].map(|i| times.ratio(i, 0));
            let name = format!("{} x {}", heads.0, heads.1);
            println!("{name:>8} {length:>5} {bias:>8.2} {window:>8.2} {causal:>8.2} {placed:>12.2}");
        }
    }
}

/// Of 512 positions: 128 distances to either side have their own, the others share by their logarithm.
fn places(reach: usize) -> Vec<u32> {
    let place = |distance: f64| match distance.abs() {
        near if near <= 128.0 => distance,
        far => distance.signum() * (128.0 + 127.0 * (far / 128.0).ln() / (2048.0f64 / 128.0).ln()).ceil(),
    };
    (0..2 * reach - 1).map(|i| (256.0 + place(i as f64 - (reach - 1) as f64)).clamp(0.0, 511.0) as u32).collect()
}

fn history(criterion: &mut Criterion, level: Level) {
    for heads in HEADS {
        let mut group = criterion.benchmark_group(format!("attention/{}/{}x{}", level.name(), heads.0, heads.1));
        for length in LENGTHS {
            let mut problem = Problem::new(level, length, heads);
            group.throughput(Throughput::Elements((length * length * heads.0 * heads.1) as u64));
            group.bench_function(length.to_string(), |b| b.iter(|| problem.run()));
        }
    }
}
