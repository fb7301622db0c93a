//! Instruction sets as tokens.
//!
//! A kernel is written once, generic over `I: Isa`, and holds the token by value: having one proves that the
//! CPU has the instructions, because tokens are made only behind the doors of [`level`]. Each method is one
//! instruction (or the few that stand for one), so this trait is the whole list of what a new ISA must say.
//!
//! Everything from the door down to here must be `#[inline(always)]`, closures included: an intrinsic that is
//! not inlined into a function with its target feature becomes a call, right but fifteen times slower. A function passed by
//! its name goes through a shim that has no such mark, so it is wrapped in a closure. `tools/check_codegen.sh` looks.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod level;
mod scalar;

pub use level::{IsaError, Level};
pub(crate) use level::{Kernel, dispatch};

/// The widest panel of any ISA, in floats: the size of on-stack scratch rows.
pub(crate) const MAX_PANEL: usize = 32;
/// The tallest register tile of any ISA, in rows.
pub(crate) const MAX_TILE_ROWS: usize = 14;

/// # Safety
/// Only [`level`]'s doors may make a value of an implementing type, inside a function that enables every
/// feature which the implementation's intrinsics need.
pub(crate) unsafe trait Isa: Copy {
    /// A vector of `LANES` floats.
    type V: Copy;
    const LANES: usize;
    /// Rows of the register tile of the matrix product (two vectors wide).
    const TILE_ROWS: usize;
    /// Columns of a packed panel.
    const PANEL: usize = 2 * Self::LANES;

    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    /// `p` is readable for `LANES` floats; no alignment is needed.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// # Safety
    /// `p` is writable for `LANES` floats; no alignment is needed.
    unsafe fn store(self, p: *mut f32, v: Self::V);

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the ISA can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The smaller; `b` where the two are unordered, so put the value that may be NaN there.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger; `b` where the two are unordered.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn abs(self, a: Self::V) -> Self::V;
    /// The magnitude of `a` with the sign of `s`.
    fn copysign(self, a: Self::V, s: Self::V) -> Self::V;
    /// `t` where `a < b`, else `f` (so `f` where they are unordered).
    fn select_lt(self, a: Self::V, b: Self::V, t: Self::V, f: Self::V) -> Self::V;
    /// To the nearest integer, ties to even, for |a| < 2^22.
    fn round(self, a: Self::V) -> Self::V;
    /// `a * 2^n` for a whole `n` in -252..=252, gradual underflow included.
    fn scale_by_power_of_two(self, a: Self::V, n: Self::V) -> Self::V;

    /// Asks for the cache line of `p`, which may lie anywhere, to be brought close.
    #[inline(always)]
    fn prefetch(self, _p: *const f32) {}

    /// The first `xs.len() < LANES` floats, the rest `fill`.
    #[inline(always)]
    fn load_first(self, xs: &[f32], fill: f32) -> Self::V {
        debug_assert!(xs.len() < Self::LANES);
        let mut lanes = [fill; MAX_PANEL];
        lanes[..xs.len()].copy_from_slice(xs);
        // SAFETY: `lanes` holds MAX_PANEL >= LANES floats.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// The first `xs.len() < LANES` lanes of `v`.
    #[inline(always)]
    fn store_first(self, xs: &mut [f32], v: Self::V) {
        debug_assert!(xs.len() < Self::LANES);
        let lanes = self.lanes(v);
        xs.copy_from_slice(&lanes[..xs.len()]);
    }

    /// The lanes of `v` in order; what lies past `LANES` is zero.
    #[inline(always)]
    fn lanes(self, v: Self::V) -> [f32; MAX_PANEL] {
        let mut lanes = [0.0; MAX_PANEL];
        // SAFETY: `lanes` holds MAX_PANEL >= LANES floats.
        unsafe { self.store(lanes.as_mut_ptr(), v) };
        lanes
    }
}
