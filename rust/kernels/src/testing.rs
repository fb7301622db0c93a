//! What the contract tests share: every level, nasty floats, guarded operands at any alignment, distances in ULP.

use crate::buffer::Buffer;
use crate::isa::Level;
use crate::mat::{Mat, MatMut};

/// Runs `test` on every level that the CPU has; a failure names the level.
pub(crate) fn for_every_level(mut test: impl FnMut(Level)) {
    struct Named(Level);
    impl Drop for Named {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed on level {}", self.0.name());
            }
        }
    }
    let levels: Vec<Level> = Level::available().collect();
    let names: Vec<_> = levels.iter().map(|level| level.name()).collect();
    assert_eq!(names, levels_of_this_cpu(), "a test that skips a level proves nothing of it");
    for level in levels {
        let _named = Named(level);
        test(level);
    }
}

/// Asked of the CPU itself, not of [`Level`].
fn levels_of_this_cpu() -> Vec<&'static str> {
    let mut names = vec![];
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let (avx512, avx2) = (has!("avx512f") && has!("avx512bw") && has!("avx512dq"), has!("avx2") && has!("fma"));
        let known = [
            ("avx512-bf16", avx512 && has!("avx512vnni") && has!("avx512bf16")),
            ("avx512-vnni", avx512 && has!("avx512vnni")),
            ("avx512", avx512),
            ("avx2-vnni", avx2 && has!("avxvnni")),
            ("avx2", avx2),
        ];
        names.extend(known.into_iter().filter_map(|(name, there)| there.then_some(name)));
    }
    names.push("scalar");
    names
}

/// Floats in a vector of `level`.
pub(crate) fn lanes(level: Level) -> usize {
    level.panel() / 2
}

/// Where kernels go wrong: zeros, denormals, both ends of the range, and the seams of the approximations.
pub(crate) const NASTY: [f32; 44] = [
    0.0,
    -0.0,
    1e-45,
    -1e-45,
    1.175_494_2e-38,
    -1.175_494_2e-38,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    1e-30,
    -1e-20,
    f32::EPSILON,
    -f32::EPSILON,
    0.346_573_6,
    -0.346_573_6,
    0.624_999_94,
    0.625,
    -0.625_000_06,
    0.999_999_94,
    1.0,
    -1.0,
    3.919_999_8,
    3.92,
    -3.920_000_3,
    5.543_717,
    -5.543_718,
    -10.0,
    17.5,
    87.336_54,
    -87.336_55,
    88.722_83,
    88.722_84,
    89.0,
    -88.8,
    -103.972_08,
    -103.98,
    -104.5,
    4_194_304.5,
    1e10,
    -1e13,
    3e38,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
];

/// Quiet and signalling, of both signs.
pub(crate) fn nans() -> [f32; 4] {
    [0x7fc0_0000, 0xffc0_0001, 0x7f80_0001, 0xffff_ffff].map(f32::from_bits)
}

/// Seeded numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// `n` floats in [-1, 1).
    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.next() >> 40) as f32 * 2f32.powi(-23) - 1.0).collect()
    }
}

/// A unit in the last place of an f32 at `x`.
pub(crate) fn ulp(x: f64) -> f64 {
    let exponent = (x.abs().to_bits() >> 52) as i32 - 1023;
    2f64.powi(exponent.clamp(-126, 127) - 23)
}

/// How far `got` is from the exact value, in ULP of that; an infinity counts as 2^128, two NaN are equal.
pub(crate) fn ulps(got: f32, exact: f64) -> f64 {
    if got.is_nan() || exact.is_nan() {
        return if got.is_nan() == exact.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let end = 2f64.powi(128);
    let exact = exact.clamp(-end, end);
    (f64::from(got).clamp(-end, end) - exact).abs() / ulp(exact)
}

/// f'(x) by differences of the fourth order, within about 1e-8 of f's scale; f32 holds where f is asked if |x| < 1.
pub(crate) fn slope(f: impl Fn(f64) -> f64, x: f64) -> f64 {
    const H: f64 = 1.0 / 512.0;
    (8.0 * (f(x + H) - f(x - H)) - (f(x + 2.0 * H) - f(x - 2.0 * H))) / (12.0 * H)
}

/// Equal bit by bit; any NaN equals any other, for which of two NaN an addition hands on is not ours to say.
pub(crate) fn assert_same_bits(got: &[f32], expected: &[f32], context: std::fmt::Arguments) {
    assert_eq!(got.len(), expected.len(), "{context}");
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert!(same, "{context}: element {i} is {a:e}, not {b:e}");
    }
}

/// A matrix in a sea of poison: whoever reads beyond it gets NaN, and what was written beyond it is found on drop.
pub(crate) struct Guarded {
    buffer: Buffer,
    start: usize,
    rows: usize,
    cols: usize,
    stride: usize,
}

const GUARD: usize = 48;
const POISON: f32 = f32::from_bits(0x7fc5_a5a5);

impl Guarded {
    /// Unwritten: (rows, cols), rows `gap` floats apart, beginning `offset` floats after a cache line's first.
    pub(crate) fn output(rows: usize, cols: usize, gap: usize, offset: usize) -> Self {
        let stride = cols + gap;
        let mut buffer = Buffer::zeroed(2 * GUARD + offset + rows * stride).unwrap();
        buffer.fill(POISON);
        Guarded { buffer, start: GUARD + offset, rows, cols, stride }
    }

    pub(crate) fn new(values: &[f32], rows: usize, cols: usize, gap: usize, offset: usize) -> Self {
        assert_eq!(values.len(), rows * cols);
        let mut guarded = Self::output(rows, cols, gap, offset);
        for r in 0..rows {
            guarded.mat_mut().row_mut(r).copy_from_slice(&values[r * cols..][..cols]);
        }
        guarded
    }

    pub(crate) fn row(values: &[f32], offset: usize) -> Self {
        Self::new(values, 1, values.len(), 0, offset)
    }

    pub(crate) fn mat(&self) -> Mat<'_> {
        Mat::new(&self.buffer[self.start..self.buffer.len() - GUARD], self.rows, self.cols, self.stride)
    }

    pub(crate) fn mat_mut(&mut self) -> MatMut<'_> {
        let end = self.buffer.len() - GUARD;
        MatMut::new(&mut self.buffer[self.start..end], self.rows, self.cols, self.stride)
    }

    /// The elements of a single row.
    pub(crate) fn slice(&mut self) -> &mut [f32] {
        assert_eq!(self.rows, 1);
        &mut self.buffer[self.start..self.start + self.cols]
    }

    pub(crate) fn values(&self) -> Vec<f32> {
        (0..self.rows).flat_map(|r| self.mat().row(r).to_vec()).collect()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for (i, x) in self.buffer.iter().enumerate() {
            let place = i.wrapping_sub(self.start);
            let (row, col) = place.checked_div(self.stride).map_or((usize::MAX, 0), |row| (row, place % self.stride));
            let inside = i >= self.start && row < self.rows && col < self.cols;
            assert!(inside || x.to_bits() == POISON.to_bits(), "element {place} beyond the view was written: {x:e}");
        }
    }
}
