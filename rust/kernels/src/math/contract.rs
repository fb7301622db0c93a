//! The contract of the elementary functions, one table row each: name, function, definition, measure and bound.

use super::{Activation, activation_backward, erf, exp};
use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::MatMut;
use crate::naive;
use crate::rows::map_in_place;
use crate::testing::{Guarded, NASTY, Random, assert_same_bits, for_every_level, lanes, nans, slope, ulps};

struct Function {
    name: &'static str,
    apply: fn(Level, &mut [f32]),
    exact: fn(f64) -> f64,
    /// The error of a result: (x, got, exact).
    error: fn(f32, f32, f64) -> f64,
    bound: f64,
    range: (f32, f32),
}

macro_rules! on_slices {
    ($name:ident, $function:path) => {
        fn $name(level: Level, xs: &mut [f32]) {
            struct Map<'a>(&'a mut [f32]);
            impl Kernel for Map<'_> {
                type Out = ();
                #[inline(always)]
                fn run<I: Isa>(self, isa: I) {
                    map_in_place(
                        isa,
                        self.0,
                        #[inline(always)]
                        |x| $function(isa, x),
                    );
                }
            }
            dispatch_floats(level, Map(xs));
        }
    };
}
on_slices!(exp_slice, exp);
on_slices!(erf_slice, erf::erf);

/// The derivatives, where the functions themselves lie ready to be looked at.
fn slopes(level: Level, activation: Activation, xs: &mut [f32]) {
    let mut d = vec![1.0; xs.len()];
    let cols = xs.len();
    activation_backward(level, activation, MatMut::dense(xs, 1, cols), MatMut::dense(&mut d, 1, cols));
    xs.copy_from_slice(&d);
}

const ANY: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

const FUNCTIONS: [Function; 12] = [
    Function {
        name: "exp",
        apply: exp_slice,
        exact: f64::exp,
        error: |_, got, exact| ulps(got, exact),
        bound: 1.1,
        range: (0.0, f32::INFINITY),
    },
    Function {
        name: "erf",
        apply: erf_slice,
        exact: naive::erf,
        error: |_, got, exact| distance(got, exact),
        bound: 2.4e-7,
        range: (-1.0, 1.0),
    },
    Function {
        name: "tanh",
        apply: |level, xs| Activation::Tanh.apply(level, xs),
        exact: |x| naive::activation(Activation::Tanh, x),
        error: |_, got, exact| ulps(got, exact),
        bound: 1.4,
        range: (-1.0, 1.0),
    },
    Function {
        name: "gelu",
        apply: |level, xs| Activation::Gelu.apply(level, xs),
        exact: |x| naive::activation(Activation::Gelu, x),
        error: per_x,
        bound: 1.9e-7,
        range: ANY,
    },
    Function {
        name: "gelu_tanh",
        apply: |level, xs| Activation::GeluTanh.apply(level, xs),
        exact: |x| naive::activation(Activation::GeluTanh, x),
        error: per_x,
        bound: 1.2e-7,
        range: ANY,
    },
    Function {
        name: "silu",
        apply: |level, xs| Activation::Silu.apply(level, xs),
        exact: |x| naive::activation(Activation::Silu, x),
        // Below -88 e^-x is infinite and the result 0.
        error: |x, got, exact| if x < -88.0 && distance(got, exact) < 3e-37 { 0.0 } else { ulps(got, exact) },
        bound: 2.5,
        range: ANY,
    },
    Function {
        name: "relu",
        apply: |level, xs| Activation::Relu.apply(level, xs),
        exact: |x| naive::activation(Activation::Relu, x),
        error: |_, got, exact| ulps(got, exact),
        bound: 0.0,
        range: (0.0, f32::INFINITY),
    },
    Function {
        name: "gelu'",
        apply: |level, xs| slopes(level, Activation::Gelu, xs),
        exact: |x| naive::activation_slope(Activation::Gelu, x),
        error: |_, got, exact| distance(got, exact),
        bound: 2e-7,
        range: (-0.13, 1.13),
    },
    Function {
        name: "gelu_tanh'",
        apply: |level, xs| slopes(level, Activation::GeluTanh, xs),
        exact: |x| naive::activation_slope(Activation::GeluTanh, x),
        error: |_, got, exact| distance(got, exact),
        bound: 1.7e-7,
        range: (-0.13, 1.13),
    },
    Function {
        name: "relu'",
        apply: |level, xs| slopes(level, Activation::Relu, xs),
        exact: |x| naive::activation_slope(Activation::Relu, x),
        error: |_, got, exact| distance(got, exact),
        bound: 0.0,
        range: (0.0, 1.0),
    },
    Function {
        name: "silu'",
        apply: |level, xs| slopes(level, Activation::Silu, xs),
        exact: |x| naive::activation_slope(Activation::Silu, x),
        error: |_, got, exact| distance(got, exact),
        bound: 2.4e-7,
        range: (-0.1, 1.1),
    },
    Function {
        name: "tanh'",
        apply: |level, xs| slopes(level, Activation::Tanh, xs),
        exact: |x| naive::activation_slope(Activation::Tanh, x),
        error: |_, got, exact| distance(got, exact),
        bound: 1.5e-7,
        range: (0.0, 1.0),
    },
];

/// Absolute; equal infinities and two NaN are at no distance, a NaN and a number infinitely far apart.
fn distance(got: f32, exact: f64) -> f64 {
    let got = f64::from(got);
    if got == exact || got.is_nan() && exact.is_nan() {
        return 0.0;
    }
    if got.is_nan() || exact.is_nan() { f64::INFINITY } else { (got - exact).abs() }
}

/// Relative to x, the activations' scale.
fn per_x(x: f32, got: f32, exact: f64) -> f64 {
    distance(got, exact) / f64::from(x.abs().clamp(f32::MIN_POSITIVE, f32::MAX))
}

/// The error that `function` makes in the worst of `xs`, by level, and where.
fn worst(function: &Function, xs: &[f32]) -> Vec<(Level, f64, f32)> {
    let exact: Vec<f64> = xs.iter().map(|x| (function.exact)(f64::from(*x))).collect();
    let mut worst = vec![];
    for_every_level(|level| {
        let mut got = xs.to_vec();
        (function.apply)(level, &mut got);
        let errors = xs.iter().zip(&got).zip(&exact).map(|((x, got), exact)| ((function.error)(*x, *got, *exact), *x));
        worst.push(errors.fold((level, 0.0, 0.0), |w, (e, x)| if e > w.1 { (level, e, x) } else { w }));
    });
    worst
}

/// Every 2,053rd float.
fn grid() -> Vec<f32> {
    (0..=u32::MAX).step_by(2053).map(f32::from_bits).chain(NASTY).collect()
}

#[test]
fn the_stated_accuracy_is_kept() {
    let grid = grid();
    for function in &FUNCTIONS {
        for (level, error, x) in worst(function, &grid) {
            assert!(error <= function.bound, "{} of {x:e} on {level:?}: error {error:e}", function.name);
        }
    }
}

/// Twenty minutes on two cores in a release build; `--nocapture` shows the greatest errors.
#[test]
#[ignore = "takes minutes"]
fn the_stated_accuracy_is_kept_by_every_float() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    const PIECE: u64 = 1 << 20;
    for function in &FUNCTIONS {
        let next = std::sync::atomic::AtomicU64::new(0);
        let work = || {
            let mut found: Vec<(Level, f64, f32)> = vec![];
            loop {
                let first = next.fetch_add(PIECE, std::sync::atomic::Ordering::Relaxed);
                if first > u64::from(u32::MAX) {
                    return found;
                }
                let xs: Vec<f32> = (first..first + PIECE).map(|bits| f32::from_bits(bits as u32)).collect();
                found.extend(worst(function, &xs));
                found.sort_by(|a, b| a.0.name().cmp(b.0.name()).then(b.1.total_cmp(&a.1)));
                found.dedup_by_key(|(level, ..)| *level);
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for (level, error, x) in workers.into_iter().flat_map(|worker| worker.join().unwrap()) {
                eprintln!("{} on {}: {error:e} at {x:e}", function.name, level.name());
                assert!(error <= function.bound, "{} of {x:e} on {level:?}: error {error:e}", function.name);
            }
        });
    }
}

#[test]
fn results_keep_their_range_and_sign_and_nan_stays_nan() {
    let grid = grid();
    for_every_level(|level| {
        for function in &FUNCTIONS {
            let mut got = grid.clone();
            (function.apply)(level, &mut got);
            for (x, y) in grid.iter().zip(got) {
                let exact = (function.exact)(f64::from(*x));
                let name = function.name;
                assert_eq!(y.is_nan(), exact.is_nan(), "{name} of {x:e} is {y:e}");
                if !y.is_nan() {
                    assert!(y >= function.range.0 && y <= function.range.1, "{name} of {x:e} is {y:e}");
                    assert!(f64::from(y) * exact >= 0.0, "{name} of {x:e} is {y:e}, not {exact:e}");
                }
            }
        }
    });
}

/// Up to the error that is allowed to both neighbours.
#[test]
fn rising_functions_rise() {
    let mut xs: Vec<f32> = Random(1).floats(100_000).iter().map(|x| x * 20.0).collect();
    xs.sort_by(f32::total_cmp);
    for_every_level(|level| {
        for function in FUNCTIONS.iter().filter(|f| ["exp", "erf", "tanh", "relu"].contains(&f.name)) {
            let mut got = xs.clone();
            (function.apply)(level, &mut got);
            for (x, pair) in xs.iter().zip(got.windows(2)) {
                let [a, b] = [pair[0], pair[1]];
                let fall = (function.error)(*x, b, f64::from(a));
                assert!(b >= a || fall <= 2.0 * function.bound, "{} falls after {x:e}: {a:e}, {b:e}", function.name);
            }
        }
    });
}

#[test]
fn the_twins_slope_is_the_derivative_of_the_twin() {
    use Activation::*;
    for activation in [Gelu, GeluTanh, Relu, Silu, Tanh] {
        for x in Random(3).floats(200).iter().map(|x| f64::from(*x) * 12.0) {
            let [got, exact] = [slope(|x| naive::activation(activation, x), x), naive::activation_slope(activation, x)];
            assert!((got - exact).abs() < 1e-8, "{activation:?} at {x}: {got}, not {exact}");
        }
    }
}

#[test]
fn the_chain_rule_is_kept_beside_the_functions_own_bits() {
    let mut random = Random(4);
    use Activation::*;
    for_every_level(|level| {
        for activation in [Gelu, GeluTanh, Relu, Silu, Tanh] {
            for (rows, cols) in [(0, 4), (3, 0), (1, 1), (5, 3), (3, 4 * lanes(level) + 3)] {
                let x: Vec<f32> = random.floats(rows * cols).iter().map(|x| x * 8.0).collect();
                let d = random.floats(rows * cols);
                let [mut expected, mut slope] = [x.clone(), x.clone()];
                activation.apply(level, &mut expected);
                slopes(level, activation, &mut slope);
                let [mut y, mut dx] = [(&x, 1), (&d, 2)].map(|(m, offset)| Guarded::new(m, rows, cols, 3, offset));
                activation_backward(level, activation, y.mat_mut(), dx.mat_mut());
                assert_same_bits(&y.values(), &expected, format_args!("{activation:?}"));
                let products: Vec<f32> = d.iter().zip(&slope).map(|(d, slope)| d * slope).collect();
                assert_same_bits(&dx.values(), &products, format_args!("{activation:?}'"));
            }
        }
    });
}

/// Whatever the length, the alignment, the place in the slice and the company, NaN included.
#[test]
fn an_element_has_the_same_bits_anywhere() {
    let mut random = Random(2);
    let nasty: Vec<f32> = NASTY.into_iter().chain(nans()).collect();
    for_every_level(|level| {
        for function in &FUNCTIONS {
            for len in 0..=4 * lanes(level) + 3 {
                let mut xs: Vec<f32> = random.floats(len).iter().map(|x| x * 8.0).collect();
                for x in xs.iter_mut().step_by(3) {
                    *x = nasty[random.next() as usize % nasty.len()];
                }
                let mut expected = xs.clone();
                for x in &mut expected {
                    (function.apply)(level, std::slice::from_mut(x));
                }
                for offset in 0..lanes(level) {
                    let mut row = Guarded::row(&xs, offset);
                    (function.apply)(level, row.slice());
                    assert_same_bits(&row.values(), &expected, format_args!("{} of {len} at {offset}", function.name));
                }
            }
        }
    });
}
