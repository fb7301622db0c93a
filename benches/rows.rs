//! What works along rows: LayerNorm, softmax and GELU on one thread, on every ISA.
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use criterion::{Criterion, Throughput};
use ferroformer_kernels::{Activation, Level, Mat, MatMut, Narrow, Threads, layer_norm, naive, softmax};
use report::{Contest, floats, prove};

/// Rows that stay in the second-level cache; 77 and 1001 divide no vector.
const SIZES: [(&str, usize, usize); 9] = [
    ("LayerNorm", 128, 384),
    ("LayerNorm", 128, 768),
    ("LayerNorm", 128, 1001),
    ("softmax", 512, 16),
    ("softmax", 512, 77),
    ("softmax", 512, 128),
    ("softmax", 256, 512),
    ("GELU", 64, 1536),
    ("GELU", 32, 3072),
];

fn main() {
    if report::table_is_wanted() {
        table();
    }
    let mut criterion = report::criterion();
    history(&mut criterion, Level::current().expect("FERROFORMER_ISA"));
    criterion.final_summary();
}

struct Problem {
    name: &'static str,
    level: Level,
    rows: usize,
    cols: usize,
    x: Vec<f32>,
    weight: Vec<f32>,
    out: Vec<f32>,
}

impl Problem {
    fn new(level: Level, (name, rows, cols): (&'static str, usize, usize)) -> Self {
        let x = floats(rows * cols);
        Problem { name, level, rows, cols, out: x.clone(), x, weight: floats(cols) }
    }

    /// Softmax and GELU work in place, on what the call before left behind: their time does not depend on the values, as
    /// long as these do not become denormal, which `run` in a loop sees to.
    fn once(&mut self) {
        let (x, weight) = (Mat::dense(&self.x, self.rows, self.cols), &self.weight);
        match self.name {
            "LayerNorm" => {
                let out = MatMut::dense(&mut self.out, self.rows, self.cols);
                layer_norm(self.level, &Threads::serial(), x, weight, weight, 1e-12, out, &mut Narrow::default());
            }
            "softmax" => self.out.chunks_mut(self.cols).for_each(|row| softmax(self.level, row, 1.0)),
            _ => Activation::Gelu.apply(self.level, &mut self.out),
        }
    }

    fn exact(&self) -> Vec<f64> {
        let row = |row: &[f32]| match self.name {
            "LayerNorm" => naive::layer_norm(row, &self.weight, &self.weight, 1e-12),
            "softmax" => naive::softmax(row, 1.0),
            _ => row.iter().map(|x| naive::activation(Activation::Gelu, f64::from(*x))).collect(),
        };
        self.x.chunks(self.cols).flat_map(row).collect()
    }

    /// Proves the first run against the twin; later runs of GELU find its fixed points, not numbers that fade away.
    fn proved(mut self) -> Self {
        self.once();
        prove(self.name, &self.out, self.exact(), 1e-5);
        if self.name == "GELU" {
            self.out.iter_mut().for_each(|x| *x = 8.0 + x.abs());
        }
        self
    }

    fn elements(&self) -> f64 {
        self.x.len() as f64
    }
}

fn table() {
    let levels: Vec<Level> = Level::available().collect();
    println!("\nRows, one thread, 10^9 elements a second");
    print!("{:>9} {:>10}", "", "rows");
    levels.iter().for_each(|level| print!(" {:>8}", level.name()));
    println!();
    for size in SIZES {
        let mut contest = Contest::new();
        let mut elements = 0.0;
        for level in &levels {
            let mut problem = Problem::new(*level, size).proved();
            elements = problem.elements();
            contest.add(move || problem.once());
        }
        let times = contest.run();
        print!("{:>9} {:>10}", size.0, format!("{} x {}", size.1, size.2));
        (0..levels.len()).for_each(|i| print!(" {:>8.2}", times.giga(i, elements)));
        println!();
    }
}

fn history(criterion: &mut Criterion, level: Level) {
    for size in SIZES {
        let mut group = criterion.benchmark_group(format!("{}/{}", size.0, level.name()));
        let mut problem = Problem::new(level, size).proved();
        group.throughput(Throughput::Elements(problem.x.len() as u64));
        group.bench_function(format!("{}x{}", size.1, size.2), |b| b.iter(|| problem.once()));
    }
}
