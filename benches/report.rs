//! How the benchmarks measure: contestants take turns, and the hardware's own limits are contestants too.
//!
//! On a machine that is shared or changes its clock, numbers taken minutes apart cannot be compared. So every
//! contestant runs once in every round, the hardware's peak among them, shares and ratios are taken within a round, and
//! the table shows medians over the rounds. Criterion keeps the history of the same kernels.

pub mod bert;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use ferroformer_kernels::{Level, Precision, peak};

const ROUNDS: usize = 7;
/// A contestant's turn lasts at least this long.
const TURN: Duration = Duration::from_millis(10);

pub struct Contest<'a> {
    contestants: Vec<Contestant<'a>>,
}

struct Contestant<'a> {
    work: Box<dyn FnMut() + 'a>,
    /// In a turn, where that is fixed.
    calls: Option<usize>,
}

/// Seconds per call, [contestant][round].
pub struct Times(Vec<Vec<f64>>);

impl<'a> Contest<'a> {
    #[expect(clippy::new_without_default, reason = "an empty contest is a beginning, not a default")]
    pub fn new() -> Self {
        Contest { contestants: vec![] }
    }

    pub fn add(&mut self, work: impl FnMut() + 'a) {
        self.contestants.push(Contestant { work: Box::new(work), calls: None });
    }

    /// What goes on with what the stage before it left: called once in its turn, and never before the first round.
    pub fn add_stage(&mut self, work: impl FnMut() + 'a) {
        self.contestants.push(Contestant { work: Box::new(work), calls: Some(1) });
    }

    /// Some multiply-adds in registers: the peak of a precision. Gives how many operations one call is.
    pub fn add_peak(&mut self, level: Level, precision: Precision) -> f64 {
        const SPINS: usize = 10_000;
        self.add(move || {
            black_box(peak::multiply_adds(level, precision, SPINS));
        });
        peak::multiply_adds(level, precision, SPINS).0 as f64
    }

    pub fn run(mut self) -> Times {
        let calls =
            self.contestants.iter_mut().map(|each| each.calls.unwrap_or_else(|| calls_per_turn(&mut each.work)));
        let calls: Vec<usize> = calls.collect();
        let mut times = vec![vec![]; calls.len()];
        for _ in 0..ROUNDS {
            for ((Contestant { work, .. }, calls), times) in self.contestants.iter_mut().zip(&calls).zip(&mut times) {
                let start = Instant::now();
                for _ in 0..*calls {
                    work();
                }
                times.push(start.elapsed().as_secs_f64() / *calls as f64);
            }
        }
        Times(times)
    }
}

fn calls_per_turn(work: &mut dyn FnMut()) -> usize {
    work();
    let start = Instant::now();
    work();
    (TURN.as_secs_f64() / start.elapsed().as_secs_f64().max(1e-9)).ceil() as usize
}

impl Times {
    pub fn seconds(&self, contestant: usize) -> f64 {
        median(self.0[contestant].iter().copied())
    }

    /// How many times as long as contestant `b` contestant `a` takes.
    pub fn ratio(&self, a: usize, b: usize) -> f64 {
        median(self.0[a].iter().zip(&self.0[b]).map(|(a, b)| a / b))
    }

    /// 10^9 units a second, for `units` per call.
    pub fn giga(&self, contestant: usize, units: f64) -> f64 {
        units / self.seconds(contestant) / 1e9
    }
}

fn median(xs: impl Iterator<Item = f64>) -> f64 {
    let mut xs: Vec<f64> = xs.collect();
    xs.sort_by(f64::total_cmp);
    xs[xs.len() / 2]
}

/// False where criterion was asked to do something else than to measure everything.
pub fn table_is_wanted() -> bool {
    !std::env::args().any(|arg| ["--test", "--list"].contains(&arg.as_str()))
}

/// For the history, not for close comparisons: short.
pub fn criterion() -> Criterion {
    let criterion = Criterion::default().sample_size(10).without_plots();
    criterion
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .configure_from_args()
}

/// Numbers in [-1, 1) that look random: SplitMix64.
pub fn floats(n: usize) -> Vec<f32> {
    let scatter = |i: usize| {
        let x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    (0..n).map(|i| (scatter(i) >> 40) as f32 * 2f32.powi(-23) - 1.0).collect()
}

/// # Panics
/// If an element is further than `tolerance` from the exact one.
pub fn prove(name: &str, got: &[f32], exact: impl IntoIterator<Item = f64>, tolerance: f64) {
    let mut count = 0;
    for (i, (got, exact)) in got.iter().zip(exact).enumerate() {
        let close = (f64::from(*got) - exact).abs() <= tolerance;
        assert!(close, "{name}: element {i} is {got}, not {exact}");
        count += 1;
    }
    assert_eq!(count, got.len(), "{name}");
}
