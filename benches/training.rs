//! What training adds to inference, one thread, as shares of the hardware's peak.
#![expect(clippy::print_stdout, reason = "the table is the purpose")]

use std::hint::black_box;

use ferroformer_kernels::{Level, Mat, PackedLinear, Precision, Threads, padded_stride, weight_gradient};
use report::{Contest, floats};

/// (K, N)
const SHAPES: [(usize, usize); 8] =
    [(384, 1152), (384, 384), (384, 1536), (1536, 384), (768, 2304), (768, 768), (768, 3072), (3072, 768)];
const TOKENS: [usize; 3] = [128, 629, 2048];

fn main() {
    let level = Level::current().expect("FERROFORMER_ISA");
    if report::table_is_wanted() {
        weight_gradients(level);
    }
}

/// Rows as workspaces keep them.
fn rows(count: usize, cols: usize) -> Vec<f32> {
    floats(count * padded_stride(cols))
}

fn weight_gradients(level: Level) {
    println!("\ndW = dY^T X on {}, one thread, GFLOP/s", level.name());
    println!("{:>11}  {:>6} {:>8} {:>8}", "K x N", "tokens", "GFLOP/s", "of peak");
    for (k, n) in SHAPES {
        for m in TOKENS {
            let (x, dy) = (rows(m, k), rows(m, n));
            let (x, dy) = (Mat::new(&x, m, k, padded_stride(k)), Mat::new(&dy, m, n, padded_stride(n)));
            let mut gradient = vec![0.0; PackedLinear::len(level, Precision::Float32, k, n)];
            let mut contest = Contest::new();
            let peak = contest.add_peak(level, Precision::Float32);
            let serial = Threads::serial();
            contest.add(move || weight_gradient(level, &serial, black_box(x), dy, &mut gradient));
            let times = contest.run();
            let operations = 2.0 * (m * k * n) as f64;
            let (giga, share) = (times.giga(1, operations), 100.0 * times.ratio(0, 1) * operations / peak);
            println!("{:>11}  {m:>6} {giga:>8.1} {share:>7.0}%", format!("{k} x {n}"));
        }
    }
}
