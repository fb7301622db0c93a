//! Walking a row of floats by vectors, its tail included: the only loops that kernels on rows need.

use crate::isa::Isa;

/// `x = f(x)` for every element.
#[inline(always)]
pub(crate) fn map_in_place<I: Isa>(isa: I, xs: &mut [f32], f: impl Fn(I::V) -> I::V) {
    let mut chunks = xs.chunks_exact_mut(I::LANES);
    for chunk in &mut chunks {
        // SAFETY: a chunk holds LANES floats.
        unsafe { isa.store(chunk.as_mut_ptr(), f(isa.load(chunk.as_ptr()))) };
    }
    let tail = chunks.into_remainder();
    if !tail.is_empty() {
        isa.store_first(tail, f(isa.load_first(tail, 0.0)));
    }
}

/// `out = f(a, b, ...)` element by element; all rows have the length of `out`.
#[inline(always)]
#[rustfmt::skip]
pub(crate) fn zip_map<I: Isa, const N: usize>(
    isa: I,
    inputs: [&[f32]; N],
    out: &mut [f32],
    f: impl Fn([I::V; N]) -> I::V,
) {
    let inputs = inputs.map(|row| &row[..out.len()]);
    let whole = out.len() - out.len() % I::LANES;
    for i in (0..whole).step_by(I::LANES) {
        // SAFETY: i + LANES <= whole <= the length of every row.
        unsafe {
            let v = inputs.map(#[inline(always)] |row| isa.load(row.as_ptr().add(i)));
            isa.store(out.as_mut_ptr().add(i), f(v));
        }
    }
    if whole < out.len() {
        let v = inputs.map(#[inline(always)] |row| isa.load_first(&row[whole..], 0.0));
        isa.store_first(&mut out[whole..], f(v));
    }
}

/// Folds a row into one vector, lane by lane; the tail is filled up with `fill`, a value that changes nothing.
///
/// Two running vectors, both beginning with `start`, hide the latency of `f`. The order depends on the length alone.
#[inline(always)]
fn fold<I: Isa>(isa: I, xs: &[f32], fill: f32, start: f32, f: impl Fn(I::V, I::V) -> I::V) -> [I::V; 2] {
    let [mut a, mut b] = [isa.splat(start); 2];
    let mut pairs = xs.chunks_exact(2 * I::LANES);
    for pair in &mut pairs {
        // SAFETY: a pair holds 2 * LANES floats.
        unsafe {
            a = f(a, isa.load(pair.as_ptr()));
            b = f(b, isa.load(pair.as_ptr().add(I::LANES)));
        }
    }
    for part in pairs.remainder().chunks(I::LANES) {
        let x = if part.len() == I::LANES {
            // SAFETY: the part holds LANES floats.
            unsafe { isa.load(part.as_ptr()) }
        } else {
            isa.load_first(part, fill)
        };
        a = f(a, x);
    }
    [a, b]
}

#[inline(always)]
#[rustfmt::skip]
pub(crate) fn sum<I: Isa>(isa: I, xs: &[f32]) -> f32 {
    let [a, b] = fold(isa, xs, 0.0, 0.0, #[inline(always)] |sum, x| isa.add(sum, x));
    sum_lanes(isa, isa.add(a, b))
}

/// The sum of (x - mean)^2.
#[inline(always)]
#[rustfmt::skip]
pub(crate) fn sum_of_squares<I: Isa>(isa: I, xs: &[f32], mean: f32) -> f32 {
    let centre = isa.splat(mean);
    let [a, b] = fold(isa, xs, mean, 0.0, #[inline(always)] |sum, x| {
        let d = isa.sub(x, centre);
        isa.mul_add(d, d, sum)
    });
    sum_lanes(isa, isa.add(a, b))
}

/// The largest element, -inf for an empty row; what it says of a row with NaN is undefined.
#[inline(always)]
#[rustfmt::skip]
pub(crate) fn max<I: Isa>(isa: I, xs: &[f32]) -> f32 {
    const LEAST: f32 = f32::NEG_INFINITY;
    let [a, b] = fold(isa, xs, LEAST, LEAST, #[inline(always)] |max, x| isa.max(x, max));
    isa.lanes(isa.max(a, b))[..I::LANES].iter().fold(LEAST, |a, &b| a.max(b))
}

/// The sum of the lanes, pair by pair.
#[inline(always)]
fn sum_lanes<I: Isa>(isa: I, v: I::V) -> f32 {
    let mut lanes = isa.lanes(v);
    let mut n = I::LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] += lanes[i + n];
        }
    }
    lanes[0]
}
