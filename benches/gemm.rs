//! The matrix product on one thread, beside the crates `gemm` and `matrixmultiply`, at the shapes of MiniLM and bert-base.
//!
//! Ours are packed at load, the rivals pack at every call what is worth packing. They are given the weights both as
//! checkpoints hold them, (N, K), and transposed, and the better result counts. Our x has the row stride that the model's
//! workspaces give it; theirs is dense, for they copy it.
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ferroformer_kernels::{
    Epilogue, Level, Mat, MatMut, PackedLinear, Precision, Threads, linear, naive, padded_stride, peak,
};
use report::{Contest, floats, prove};

/// (K, N)
const SHAPES: [(usize, usize); 8] =
    [(384, 1152), (384, 384), (384, 1536), (1536, 384), (768, 2304), (768, 768), (768, 3072), (3072, 768)];
const ROWS: [usize; 4] = [4, 16, 128, 1024];
/// Beyond any last-level cache that is likely.
const BEYOND_CACHE: usize = 96 << 20;

fn main() {
    let level = Level::current().expect("FERROFORMER_ISA");
    if report::table_is_wanted() {
        products(level);
        vectors(level);
    }
    let mut criterion = report::criterion();
    history(&mut criterion, level);
    criterion.final_summary();
}

struct Problem {
    m: usize,
    k: usize,
    n: usize,
    x: Vec<f32>,
    /// At the model's row stride.
    padded: Vec<f32>,
    weight: Vec<f32>,
    packed: PackedLinear,
}

/// What the rivals are given: (N, K) or (K, N).
#[derive(Clone, Copy)]
enum Layout {
    Checkpoint,
    Transposed,
}

/// `product(problem, weights, layout, out)`
type Product = fn(&Problem, &[f32], Layout, &mut [f32]);

const RIVALS: [(&str, Product, Layout); 4] = [
    ("gemm", Problem::gemm, Layout::Checkpoint),
    ("gemm", Problem::gemm, Layout::Transposed),
    ("matrixmultiply", Problem::matrixmultiply, Layout::Checkpoint),
    ("matrixmultiply", Problem::matrixmultiply, Layout::Transposed),
];

impl Problem {
    fn new(level: Level, m: usize, (k, n): (usize, usize)) -> Self {
        let weight = floats(n * k);
        let packed = PackedLinear::new(level, Precision::Float32, &weight, None, k).expect("memory");
        let x = floats(m * k);
        let mut padded = vec![0.0; m * padded_stride(k)];
        for (row, x) in padded.chunks_mut(padded_stride(k)).zip(x.chunks(k)) {
            row[..k].copy_from_slice(x);
        }
        Problem { m, k, n, x, padded, weight, packed }
    }

    fn ours(&self, packed: &PackedLinear, out: &mut [f32]) {
        let x = Mat::new(&self.padded, self.m, self.k, padded_stride(self.k));
        let out = MatMut::dense(out, self.m, self.n);
        linear(&Threads::serial(), x, packed, Epilogue::default(), out);
    }

    /// The strides of a layout along K and along N, once all lengths have been checked.
    fn strides(&self, weight: &[f32], layout: Layout, out: &[f32]) -> (isize, isize) {
        let Problem { m, k, n, .. } = *self;
        assert!(self.x.len() == m * k && weight.len() == k * n && out.len() == m * n);
        match layout {
            Layout::Checkpoint => (1, k as isize),
            Layout::Transposed => (n as isize, 1),
        }
    }

    #[rustfmt::skip]
    fn gemm(&self, weight: &[f32], layout: Layout, out: &mut [f32]) {
        let Problem { m, k, n, .. } = *self;
        let (along_k, along_n) = self.strides(weight, layout, out);
        let (x, w, out) = (self.x.as_ptr(), weight.as_ptr(), out.as_mut_ptr());
        let one_thread = gemm::Parallelism::None;
        // SAFETY: dense row-major x (M, K) and out (M, N), and weights with the strides of their layout.
        unsafe {
            gemm::gemm(
                m, n, k, out, 1, n as isize, false, x, 1, k as isize, w, along_n, along_k, 0.0, 1.0, false, false, false,
                one_thread,
            );
        }
    }

    fn matrixmultiply(&self, weight: &[f32], layout: Layout, out: &mut [f32]) {
        let Problem { m, k, n, .. } = *self;
        let (along_k, along_n) = self.strides(weight, layout, out);
        let (x, w, out) = (self.x.as_ptr(), weight.as_ptr(), out.as_mut_ptr());
        // SAFETY: as above.
        unsafe { matrixmultiply::sgemm(m, k, n, 1.0, x, k as isize, 1, w, along_k, along_n, 0.0, out, n as isize, 1) };
    }

    fn transposed(&self) -> Vec<f32> {
        (0..self.k * self.n).map(|i| self.weight[i % self.n * self.k + i / self.n]).collect()
    }

    /// The first and the last row of each contestant's product against the twin.
    fn prove(&self) {
        let mut out = vec![f32::NAN; self.m * self.n];
        self.ours(&self.packed, &mut out);
        self.prove_rows("ferroformer", &out);
        let transposed = self.transposed();
        for (name, product, layout) in RIVALS {
            out.fill(f32::NAN);
            product(self, self.layout(&transposed, layout), layout, &mut out);
            self.prove_rows(name, &out);
        }
    }

    fn layout<'a>(&'a self, transposed: &'a [f32], layout: Layout) -> &'a [f32] {
        match layout {
            Layout::Checkpoint => &self.weight,
            Layout::Transposed => transposed,
        }
    }

    fn prove_rows(&self, name: &str, out: &[f32]) {
        for r in [0, self.m - 1] {
            let exact = naive::linear(&self.x[r * self.k..][..self.k], &self.weight, &vec![0.0; self.n], self.k);
            prove(name, &out[r * self.n..][..self.n], exact, self.k as f64 * 1e-6);
        }
    }

    fn operations(&self) -> f64 {
        2.0 * (self.m * self.k * self.n) as f64
    }
}

fn products(level: Level) {
    println!("\nGEMM on {}, one thread, GFLOP/s; x: times the speed of", level.name());
    println!(
        "{:>11}  {:>5} {:>9} {:>7} {:>8} {:>9} {:>7} {:>9}",
        "K x N", "M", "ours", "of peak", "gemm", "mat.mult.", "x gemm", "x mat.m."
    );
    for shape in SHAPES {
        for m in ROWS {
            let problem = Problem::new(level, m, shape);
            problem.prove();
            let transposed = problem.transposed();
            let (problem, transposed) = (&problem, &transposed);
            let mut contest = Contest::new();
            let peak_operations = contest.add_peak(level, Precision::Float32);
            let outs = || vec![0.0; m * problem.n];
            let mut out = outs();
            contest.add(move || problem.ours(black_box(&problem.packed), &mut out));
            for (_, product, layout) in RIVALS {
                let (weight, mut out) = (problem.layout(transposed, layout), outs());
                contest.add(move || product(problem, black_box(weight), layout, &mut out));
            }
            let times = contest.run();
            let operations = problem.operations();
            println!(
                "{:>11}  {m:>5} {:>9.1} {:>6.0}% {:>8.1} {:>9.1} {:>7.2} {:>9.2}",
                format!("{} x {}", shape.0, shape.1),
                times.giga(1, operations),
                100.0 * times.ratio(0, 1) * operations / peak_operations,
                times.giga(2, operations).max(times.giga(3, operations)),
                times.giga(4, operations).max(times.giga(5, operations)),
                times.ratio(2, 1).min(times.ratio(3, 1)),
                times.ratio(4, 1).min(times.ratio(5, 1)),
            );
        }
    }
}

/// M = 1: the weights are read once, so memory sets the pace. They are taken in turn from copies that no cache holds.
fn vectors(level: Level) {
    println!("\nGEMM for M = 1 on {}, one thread, GB/s of weights; last, weights that stay in the cache", level.name());
    println!(
        "{:>11}  {:>9} {:>8} {:>8} {:>9} {:>7} {:>8}",
        "K x N", "ours", "of read", "gemm", "mat.mult.", "x gemm", "in cache"
    );
    let memory = floats(BEYOND_CACHE / 4);
    for shape in SHAPES {
        let problem = Problem::new(level, 1, shape);
        problem.prove();
        let len = problem.weight.len();
        let bytes = 4.0 * len as f64;
        let copies = BEYOND_CACHE.div_ceil(4 * len);
        let packed: Vec<PackedLinear> = (0..copies).map(|_| Problem::new(level, 1, shape).packed).collect();
        let plain = problem.weight.repeat(copies);
        let (problem, packed, memory) = (&problem, &packed, &memory);
        let mut contest = Contest::new();
        contest.add(move || {
            black_box(peak::read(level, black_box(memory)));
        });
        let outs = || vec![0.0; problem.n];
        let mut out = outs();
        contest.add(move || packed.iter().for_each(|packed| problem.ours(packed, &mut out)));
        for (_, product, layout) in RIVALS {
            // In the other layout these are other weights, which takes as long.
            let (mut out, plain) = (outs(), &plain);
            contest.add(move || plain.chunks(len).for_each(|weight| product(problem, weight, layout, &mut out)));
        }
        let mut cached = outs();
        contest.add(move || problem.ours(black_box(&problem.packed), &mut cached));
        let times = contest.run();
        let all = bytes * copies as f64;
        println!(
            "{:>11}  {:>9.1} {:>7.0}% {:>8.1} {:>9.1} {:>7.2} {:>8.1}",
            format!("{} x {}", shape.0, shape.1),
            times.giga(1, all),
            100.0 * times.ratio(0, 1) * all / (4 * memory.len()) as f64,
            times.giga(2, all).max(times.giga(3, all)),
            times.giga(4, all).max(times.giga(5, all)),
            times.ratio(2, 1).min(times.ratio(3, 1)),
            times.giga(6, bytes),
        );
    }
}

fn history(criterion: &mut Criterion, level: Level) {
    for shape in SHAPES {
        let mut group = criterion.benchmark_group(format!("gemm/{}/{}x{}", level.name(), shape.0, shape.1));
        for m in [1, 16, 128] {
            let problem = Problem::new(level, m, shape);
            let mut out = vec![0.0; m * problem.n];
            group.throughput(Throughput::Elements((m * problem.k * problem.n) as u64));
            group.bench_function(m.to_string(), |b| b.iter(|| problem.ours(&problem.packed, &mut out)));
        }
    }
}
