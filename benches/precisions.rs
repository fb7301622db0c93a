//! The matrix product on one thread in bf16 and int8, at the shapes of MiniLM and bert-base: shares of what the CPU's own
//! instruction for them can do, and what quantising the rows costs beside it.
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use std::hint::black_box;

use ferroformer_kernels::{
    Epilogue, Form, Input, Level, Mat, MatMut, Narrow, PackedLinear, Precision, Threads, linear, narrow, padded_stride,
    peak,
};
use report::{Contest, floats};

/// (K, N)
const SHAPES: [(usize, usize); 8] =
    [(384, 1152), (384, 384), (384, 1536), (1536, 384), (768, 2304), (768, 768), (768, 3072), (3072, 768)];
const ROWS: [usize; 5] = [4, 16, 64, 128, 1024];
/// Beyond any last-level cache that is likely.
const BEYOND_CACHE: usize = 96 << 20;

fn main() {
    let level = Level::current().expect("FERROFORMER_ISA");
    if report::table_is_wanted() {
        for precision in [Precision::Float32, Precision::BFloat16, Precision::Int8] {
            products(level, precision);
            vectors(level, precision);
        }
    }
}

struct Problem {
    rows: usize,
    x: Vec<f32>,
    narrow: Narrow,
    packed: PackedLinear,
}

impl Problem {
    fn new(level: Level, precision: Precision, rows: usize, (k, n): (usize, usize)) -> Self {
        let packed = PackedLinear::new(level, precision, &floats(n * k), None, k).expect("memory");
        let mut narrow = Narrow::default();
        narrow.resize(packed.form(), rows, k).expect("memory");
        let mut problem = Problem { rows, x: floats(rows * padded_stride(k)), narrow, packed };
        problem.narrow();
        problem
    }

    fn mat(&self) -> Mat<'_> {
        Mat::new(&self.x, self.rows, self.packed.inputs(), padded_stride(self.packed.inputs()))
    }

    fn narrow(&mut self) {
        let mut narrow_rows = std::mem::take(&mut self.narrow);
        narrow(self.packed.level(), &Threads::serial(), self.mat(), &mut narrow_rows);
        self.narrow = narrow_rows;
    }

    fn product(&self, packed: &PackedLinear, out: &mut [f32]) {
        let x = if packed.form() == Form::Floats { Input::Floats(self.mat()) } else { Input::Narrow(&self.narrow) };
        let out = MatMut::dense(out, self.rows, packed.outputs());
        linear(&Threads::serial(), x, packed, Epilogue::default(), out);
    }
}

fn products(level: Level, precision: Precision) {
    println!(
        "\n{precision:?} on {}, one thread, 10^9 operations a second; the share of the product's time that",
        level.name()
    );
    println!("the rows of x take to become what it reads");
    println!("{:>11}  {:>5} {:>9} {:>8} {:>8}", "K x N", "M", "ours", "of peak", "narrow");
    for (k, n) in SHAPES {
        for m in ROWS {
            let problem = Problem::new(level, precision, m, (k, n));
            let mut other = Problem::new(level, precision, m, (k, n));
            let mut out = vec![0.0; m * n];
            let mut contest = Contest::new();
            let peak = contest.add_peak(level, precision);
            let problem = &problem;
            contest.add(move || problem.product(black_box(&problem.packed), &mut out));
            contest.add(move || other.narrow());
            let times = contest.run();
            let operations = 2.0 * (m * k * n) as f64;
            println!(
                "{:>11}  {m:>5} {:>9.1} {:>7.0}% {:>7.1}%",
                format!("{k} x {n}"),
                times.giga(1, operations),
                100.0 * times.ratio(0, 1) * operations / peak,
                100.0 * times.ratio(2, 1),
            );
        }
    }
}

/// M = 1 from weights that no cache holds: memory sets the pace.
fn vectors(level: Level, precision: Precision) {
    println!(
        "\n{precision:?} for M = 1 on {}, one thread, GB/s of weights, and the share of a plain read",
        level.name()
    );
    let memory = floats(BEYOND_CACHE / 4);
    for shape in SHAPES {
        let problem = Problem::new(level, precision, 1, shape);
        let copies = BEYOND_CACHE.div_ceil(4 * problem.packed.words().len());
        let packed: Vec<PackedLinear> = (0..copies).map(|_| Problem::new(level, precision, 1, shape).packed).collect();
        let (problem, memory, packed) = (&problem, &memory, &packed);
        let mut out = vec![0.0; shape.1];
        let mut contest = Contest::new();
        contest.add(move || {
            black_box(peak::read(level, black_box(memory)));
        });
        contest.add(move || packed.iter().for_each(|packed| problem.product(packed, &mut out)));
        let times = contest.run();
        let bytes = (4 * copies * packed[0].words().len()) as f64;
        println!(
            "{:>11}  {:>9.1} {:>7.0}%",
            format!("{} x {}", shape.0, shape.1),
            times.giga(1, bytes),
            100.0 * times.ratio(0, 1) * bytes / (4 * memory.len()) as f64
        );
    }
}
