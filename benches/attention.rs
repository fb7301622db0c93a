//! Attention of one sequence on one thread, on every ISA, beside the peak of the best.
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use criterion::{Criterion, Throughput};
use ferroformer_kernels::{Heads, Level, Mat, MatMut, Precision, Qkv, Threads, attention, attention_scratch, naive};
use report::{Contest, floats, prove};

/// (heads, D)
const HEADS: [(usize, usize); 2] = [(12, 32), (12, 64)];
/// 77 divides no vector and no tile.
const LENGTHS: [usize; 4] = [16, 77, 128, 512];

fn main() {
    if report::table_is_wanted() {
        table();
    }
    let mut criterion = report::criterion();
    history(&mut criterion, Level::current().expect("FERROFORMER_ISA"));
    criterion.final_summary();
}

struct Problem {
    level: Level,
    length: usize,
    heads: usize,
    dim: usize,
    qkv: Vec<f32>,
    scratch: Vec<f32>,
    out: Vec<f32>,
}

impl Problem {
    fn new(level: Level, length: usize, (heads, dim): (usize, usize)) -> Self {
        let (qkv, out) = (floats(length * 3 * heads * dim), vec![0.0; length * heads * dim]);
        Problem { level, length, heads, dim, qkv, scratch: vec![0.0; attention_scratch(level, length, dim)], out }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }

    fn run(&mut self) {
        let (length, width) = (self.length, self.heads * self.dim);
        let qkv = Mat::dense(&self.qkv, length, 3 * width);
        let qkv = [0, 1, 2].map(|i| qkv.block(0..length, i * width..(i + 1) * width));
        let (scale, out) = (self.scale(), MatMut::dense(&mut self.out, length, width));
        let scratch = &mut self.scratch;
        attention(
            self.level,
            &Threads::serial(),
            Qkv::Floats(qkv),
            Heads::new(self.heads, &[0, length], scale),
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
