//! What works along rows: LayerNorm, softmax and GELU, the gradients of these (with a prime) and dropout, on one thread, on every
//! ISA.
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use criterion::{Criterion, Throughput};
use ferroformer_kernels::{
    Activation, Dropout, Level, Mat, MatMut, Narrow, Norm, Threads, activation_backward, cross_entropy, layer_norm,
    layer_norm_backward, naive, softmax,
};
use report::{Contest, floats, prove};

/// Rows that stay in the second-level cache; 77 and 1001 divide no vector.
const SIZES: [(&str, usize, usize); 13] = [
    ("LayerNorm", 128, 384),
    ("LayerNorm", 128, 768),
    ("LayerNorm", 128, 1001),
    ("softmax", 512, 16),
    ("softmax", 512, 77),
    ("softmax", 512, 128),
    ("softmax", 256, 512),
    ("GELU", 64, 1536),
    ("GELU", 32, 3072),
    ("LayerNorm'", 128, 768),
    ("GELU'", 32, 3072),
    ("dropout", 128, 768),
    ("loss", 8, 30522),
];

const NORM: Norm = Norm { centred: true, scaled: true, eps: 1e-12, offset: 0.0 };
const RATE: f32 = 0.1;
const KEY: u64 = 7;

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
    sums: [Vec<f32>; 2],
    losses: Vec<f64>,
}

impl Problem {
    fn new(level: Level, (name, rows, cols): (&'static str, usize, usize)) -> Self {
        let x = floats(rows * cols);
        let (sums, losses) = ([vec![0.0; cols], vec![0.0; cols]], vec![0.0; rows]);
        Problem { name, level, rows, cols, out: x.clone(), x, weight: floats(cols), sums, losses }
    }

    /// All but LayerNorm work in place, on what the call before left behind: their time does not depend on the values, as
    /// long as these do not become denormal, which `run` in a loop sees to.
    fn once(&mut self) {
        let Problem { level, rows, cols, ref weight, .. } = *self;
        let out = MatMut::dense(&mut self.out, rows, cols);
        match self.name {
            "LayerNorm" => {
                let x = Mat::dense(&self.x, rows, cols);
                layer_norm(level, &Threads::serial(), x, weight, weight, NORM, out, &mut Narrow::default());
            }
            "LayerNorm'" => {
                let x = Mat::dense(&self.x, rows, cols);
                let [dweight, dbias] = &mut self.sums;
                layer_norm_backward(level, x, weight, NORM, x, out, dweight, dbias);
            }
            "softmax" => self.out.chunks_mut(cols).for_each(|row| softmax(level, row, 1.0)),
            "GELU'" => activation_backward(level, Activation::Gelu, MatMut::dense(&mut self.x, rows, cols), out),
            "dropout" => Dropout::new(RATE, KEY).expect("a rate").apply(level, 0, out),
            "loss" => {
                let labels: Vec<usize> = (0..rows).collect();
                cross_entropy(level, &Threads::serial(), out, &labels, None, 0.0, &mut self.losses);
            }
            _ => Activation::Gelu.apply(level, &mut self.out),
        }
    }

    fn exact(&self) -> Vec<f64> {
        let each = |row: &[f32], f: &dyn Fn(f64) -> f64| row.iter().map(|x| f(f64::from(*x))).collect();
        let row = |(r, row): (usize, &[f32])| match self.name {
            "LayerNorm" => naive::layer_norm(row, &self.weight, &self.weight, NORM),
            "LayerNorm'" => {
                let [dx, ..] = naive::layer_norm_backward(row, &self.weight, NORM, row);
                dx
            }
            "softmax" => naive::softmax(row, 1.0),
            "GELU'" => each(row, &|x| x * naive::activation_slope(Activation::Gelu, x)),
            "dropout" => {
                let kept = |c: usize| f64::from(naive::dropout_keeps(RATE, KEY, r as u64, c as u32));
                (0..self.cols).map(|c| f64::from(row[c]) * kept(c) / (1.0 - f64::from(RATE))).collect()
            }
            "loss" => naive::cross_entropy(row, r, &vec![1.0; self.cols], 0.0).1,
            _ => each(row, &|x| naive::activation(Activation::Gelu, x)),
        };
        self.x.chunks(self.cols).enumerate().flat_map(row).collect()
    }

    /// Proves the first run against the twin; later runs of GELU find its fixed points, not numbers that fade away.
    fn proved(mut self) -> Self {
        let exact = self.exact();
        self.once();
        prove(self.name, &self.out, exact, 1e-5);
        if self.name == "GELU'" {
            self.x.iter_mut().for_each(|x| *x = 8.0 + x.abs());
        }
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
    print!("{:>10} {:>10}", "", "rows");
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
        print!("{:>10} {:>10}", size.0, format!("{} x {}", size.1, size.2));
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
