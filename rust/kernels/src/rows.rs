//! Walking a row of floats by vectors, its tail included: the only loops that kernels on rows need.

use std::ops::Deref;

use crate::isa::Isa;

/// `x = f(x)` for every element.
#[inline(always)]
#[rustfmt::skip]
pub(crate) fn map_in_place<I: Isa>(isa: I, xs: &mut [f32], f: impl Fn(I::V) -> I::V) {
    map_with_place(isa, xs, #[inline(always)] |_, x| f(x));
}

/// `x = f(i, x)`, i the number of the vector's first element.
#[inline(always)]
pub(crate) fn map_with_place<I: Isa>(isa: I, xs: &mut [f32], f: impl Fn(usize, I::V) -> I::V) {
    let whole = xs.len() - xs.len() % I::LANES;
    let mut chunks = xs.chunks_exact_mut(I::LANES);
    for (n, chunk) in (&mut chunks).enumerate() {
        // SAFETY: a chunk holds LANES floats.
        unsafe { isa.store(chunk.as_mut_ptr(), f(n * I::LANES, isa.load(chunk.as_ptr()))) };
    }
    let tail = chunks.into_remainder();
    if !tail.is_empty() {
        isa.store_first(tail, f(whole, isa.load_first(tail, 0.0)));
    }
}

/// `out = f(a, b, ...)` element by element; all rows have the length of `out`.
#[inline(always)]
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
        unsafe { isa.store(out.as_mut_ptr().add(i), f(vectors(isa, &inputs, i))) };
    }
    if whole < out.len() {
        isa.store_first(&mut out[whole..], f(tails(isa, &inputs, whole, 0.0)));
    }
}

/// `state = f(state, inputs)` element by element; all rows have the length of the first.
#[inline(always)]
pub(crate) fn update<I: Isa, const N: usize, const M: usize>(
    isa: I,
    state: [&mut [f32]; N],
    inputs: [&[f32]; M],
    f: impl Fn([I::V; N], [I::V; M]) -> [I::V; N],
) {
    let len = state[0].len();
    let mut state = state.map(|row| &mut row[..len]);
    let inputs = inputs.map(|row| &row[..len]);
    let whole = len - len % I::LANES;
    for i in (0..whole).step_by(I::LANES) {
        // SAFETY: i + LANES <= whole <= the length of every row.
        unsafe {
            let new = f(vectors(isa, &state, i), vectors(isa, &inputs, i));
            for (row, v) in state.iter_mut().zip(&new) {
                isa.store(row.as_mut_ptr().add(i), *v);
            }
        }
    }
    if whole < len {
        let new = f(tails(isa, &state, whole, 0.0), tails(isa, &inputs, whole, 0.0));
        for (row, v) in state.iter_mut().zip(&new) {
            isa.store_first(&mut row[whole..], *v);
        }
    }
}

/// The vectors at `i` of several rows. (A closure for `array::map` would not always be inlined.)
///
/// # Safety
/// Each row has `LANES` floats from `i` on.
#[inline(always)]
unsafe fn vectors<I: Isa, R: Deref<Target = [f32]>, const N: usize>(isa: I, rows: &[R; N], i: usize) -> [I::V; N] {
    let mut all = [isa.splat(0.0); N];
    for (v, row) in all.iter_mut().zip(rows) {
        // SAFETY: the caller's promise.
        *v = unsafe { isa.load(row.as_ptr().add(i)) };
    }
    all
}

/// What is left of several rows from `i` on, less than a vector.
#[inline(always)]
fn tails<I: Isa, R: Deref<Target = [f32]>, const N: usize>(isa: I, rows: &[R; N], i: usize, fill: f32) -> [I::V; N] {
    let mut all = [isa.splat(0.0); N];
    for (v, row) in all.iter_mut().zip(rows) {
        *v = isa.load_first(&row[i..], fill);
    }
    all
}

/// Folds rows of one length into four parts, lane by lane; tails are filled up with `fill`, a value that changes nothing.
///
/// All four begin with `start`. They hide the latency of `f` and keep sums of many terms short. The order depends on the
/// length alone.
#[inline(always)]
fn fold<I: Isa, const N: usize, A: Copy>(
    isa: I,
    rows: [&[f32]; N],
    fill: f32,
    start: A,
    f: impl Fn(A, [I::V; N]) -> A,
) -> [A; 4] {
    let len = rows[0].len();
    let rows = rows.map(|row| &row[..len]);
    let mut running = [start; 4];
    let fours = len - len % (4 * I::LANES);
    for i in (0..fours).step_by(4 * I::LANES) {
        for (n, r) in running.iter_mut().enumerate() {
            // SAFETY: vector n of four.
            *r = f(*r, unsafe { vectors(isa, &rows, i + n * I::LANES) });
        }
    }
    for (i, r) in (fours..len).step_by(I::LANES).zip(&mut running) {
        let v = if i + I::LANES <= len {
            // SAFETY: as the line above says.
            unsafe { vectors(isa, &rows, i) }
        } else {
            tails(isa, &rows, i, fill)
        };
        *r = f(*r, v);
    }
    running
}

/// The sums of `terms` of the elements of rows of one length, which are 0 for zeros, each in the order of [`sum`].
#[inline(always)]
#[rustfmt::skip]
pub(crate) fn zip_sums<I: Isa, const N: usize, const S: usize>(
    isa: I,
    rows: [&[f32]; N],
    terms: impl Fn([I::V; N]) -> [I::V; S],
) -> [f32; S] {
    let [a, b, c, d] = fold(isa, rows, 0.0, [isa.splat(0.0); S], #[inline(always)] |mut sums, v| {
        for (sum, term) in sums.iter_mut().zip(&terms(v)) {
            *sum = isa.add(*sum, *term);
        }
        sums
    });
    let mut sums = [0.0; S];
    for (s, sum) in sums.iter_mut().enumerate() {
        *sum = sum_lanes(isa, [a[s], b[s], c[s], d[s]]);
    }
    sums
}

#[inline(always)]
#[rustfmt::skip]
pub(crate) fn sum<I: Isa>(isa: I, xs: &[f32]) -> f32 {
    sum_lanes(isa, fold(isa, [xs], 0.0, isa.splat(0.0), #[inline(always)] |sum, [x]| isa.add(sum, x)))
}

/// The sum of f(x), which is 0 for `fill`, in the order of [`sum`].
#[inline(always)]
#[rustfmt::skip]
pub(crate) fn sum_of<I: Isa>(isa: I, xs: &[f32], fill: f32, f: impl Fn(I::V) -> I::V) -> f32 {
    sum_lanes(isa, fold(isa, [xs], fill, isa.splat(0.0), #[inline(always)] |sum, [x]| isa.add(sum, f(x))))
}

/// `x = f(x)` for every element; the sum of these, in the order of [`sum`].
#[inline(always)]
pub(crate) fn map_sum_in_place<I: Isa>(isa: I, xs: &mut [f32], f: impl Fn(I::V) -> I::V) -> f32 {
    let mut sums = [isa.splat(0.0); 4];
    let mut fours = xs.chunks_exact_mut(4 * I::LANES);
    for four in &mut fours {
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: vector i of four.
            unsafe {
                let x = four.as_mut_ptr().add(i * I::LANES);
                let y = f(isa.load(x));
                isa.store(x, y);
                *sum = isa.add(*sum, y);
            }
        }
    }
    for (part, sum) in fours.into_remainder().chunks_mut(I::LANES).zip(&mut sums) {
        let y = if part.len() == I::LANES {
            // SAFETY: the part holds LANES floats.
            unsafe {
                let y = f(isa.load(part.as_ptr()));
                isa.store(part.as_mut_ptr(), y);
                y
            }
        } else {
            isa.store_first(part, f(isa.load_first(part, 0.0)));
            isa.load_first(part, 0.0)
        };
        *sum = isa.add(*sum, y);
    }
    sum_lanes(isa, sums)
}

/// The sum of (x - mean)^2.
#[inline(always)]
#[rustfmt::skip]
pub(crate) fn sum_of_squares<I: Isa>(isa: I, xs: &[f32], mean: f32) -> f32 {
    let centre = isa.splat(mean);
    let squares = fold(isa, [xs], mean, isa.splat(0.0), #[inline(always)] |sum, [x]| {
        let d = isa.sub(x, centre);
        isa.mul_add(d, d, sum)
    });
    sum_lanes(isa, squares)
}

/// The largest element, -inf for an empty row; what it says of a row with NaN is undefined.
#[inline(always)]
#[rustfmt::skip]
pub(crate) fn max<I: Isa>(isa: I, xs: &[f32]) -> f32 {
    const LEAST: f32 = f32::NEG_INFINITY;
    let [a, b, c, d] = fold(isa, [xs], LEAST, isa.splat(LEAST), #[inline(always)] |max, [x]| isa.max(x, max));
    isa.lanes(isa.max(isa.max(a, b), isa.max(c, d)))[..I::LANES].iter().fold(LEAST, |a, &b| a.max(b))
}

/// The largest magnitude, 0 for an empty row; NaN where there is one, else infinity where there is one.
///
/// Without their sign the bits of floats, read as integers, have the order of the magnitudes, NaN last.
#[inline(always)]
#[rustfmt::skip]
pub(crate) fn max_magnitude<I: Isa>(isa: I, xs: &[f32]) -> f32 {
    let [a, b, c, d] = fold(isa, [xs], 0.0, isa.splat(0.0), #[inline(always)] |max, [x]| {
        isa.as_floats(isa.max_words(isa.as_words(max), isa.as_words(isa.abs(x))))
    });
    let (a, b) = (isa.max_words(isa.as_words(a), isa.as_words(b)), isa.max_words(isa.as_words(c), isa.as_words(d)));
    highest(isa, isa.max_words(a, b))
}

/// The largest lane of magnitudes, in the order of [`max_magnitude`].
#[inline(always)]
pub(crate) fn highest<I: Isa>(isa: I, magnitudes: I::W) -> f32 {
    let lanes = isa.lanes(isa.as_floats(magnitudes));
    f32::from_bits(lanes[..I::LANES].iter().fold(0, |max, x| max.max(x.to_bits())))
}

/// The sum of all lanes of four vectors, pair by pair.
#[inline(always)]
fn sum_lanes<I: Isa>(isa: I, [a, b, c, d]: [I::V; 4]) -> f32 {
    let mut lanes = isa.lanes(isa.add(isa.add(a, b), isa.add(c, d)));
    let mut n = I::LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] += lanes[i + n];
        }
    }
    lanes[0]
}
