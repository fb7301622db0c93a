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
pub(crate) use level::{Kernel, dispatch, dispatch_floats};

/// The widest panel of any ISA, in words: the size of on-stack scratch rows.
pub(crate) const MAX_PANEL: usize = 32;
/// The tallest register tile of any ISA, in rows.
pub(crate) const MAX_TILE_ROWS: usize = 14;

/// # Safety
/// Only [`level`]'s doors may make a value of an implementing type, inside a function that enables every
/// feature which the implementation's intrinsics need.
pub(crate) unsafe trait Isa: Copy {
    /// A vector of `LANES` floats.
    type V: Copy;
    /// A vector of `LANES` words of 32 bits: integers, four bytes each, or two bf16 each, the first in the low bits.
    type W: Copy;
    const LANES: usize;
    /// Rows of the register tile of the matrix product (two vectors wide).
    const TILE_ROWS: usize;
    /// Columns of a packed panel.
    const PANEL: usize = 2 * Self::LANES;
    /// Whether [`dot_bf16`](Self::dot_bf16) is one instruction; where it is not, bf16 weights are widened and x stays in f32.
    const HAS_BF16: bool = false;
    /// What is added to the bytes of x for [`dot_bytes`](Self::dot_bytes): 128 where its instruction takes them unsigned.
    const BYTE_OFFSET: i32;

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
    /// Bit i where lane i of `a` is below that of `b`; never where they are unordered.
    fn below(self, a: Self::V, b: Self::V) -> u32;
    /// Correctly rounded.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// To the nearest integer, ties to even, for |a| < 2^22.
    fn round(self, a: Self::V) -> Self::V;
    /// `a * 2^n` for a whole `n` in -252..=252, gradual underflow included.
    fn scale_by_power_of_two(self, a: Self::V, n: Self::V) -> Self::V;

    fn splat_word(self, x: u32) -> Self::W;
    /// # Safety
    /// `p` is readable for `LANES` words; no alignment is needed.
    unsafe fn load_words(self, p: *const u32) -> Self::W;
    /// # Safety
    /// `p` is writable for `LANES` words; no alignment is needed.
    unsafe fn store_words(self, p: *mut u32, w: Self::W);
    /// The low byte of each word.
    ///
    /// # Safety
    /// `p` is writable for `LANES` bytes.
    unsafe fn store_low_bytes(self, p: *mut u8, w: Self::W);
    /// `LANES` signed bytes, each widened to a word.
    ///
    /// # Safety
    /// `p` is readable for `LANES` bytes.
    unsafe fn load_signed_bytes(self, p: *const i8) -> Self::W;
    /// `LANES` halves, each widened to a word by zeros.
    ///
    /// # Safety
    /// `p` is readable for `LANES` times 16 bits.
    unsafe fn load_halves(self, p: *const u16) -> Self::W;
    /// Sums of integers, wrapping.
    fn add_words(self, a: Self::W, b: Self::W) -> Self::W;
    /// The larger of signed integers.
    fn max_words(self, a: Self::W, b: Self::W) -> Self::W;
    /// The low halves of products of integers.
    fn mul_words(self, a: Self::W, b: Self::W) -> Self::W;
    fn xor_words(self, a: Self::W, b: Self::W) -> Self::W;
    /// By `bits` < 32, zeros coming in.
    fn shift_right(self, a: Self::W, bits: u32) -> Self::W;
    /// `t` where `a < b` as unsigned integers, else `f`.
    fn select_below(self, a: Self::W, b: Self::W, t: Self::V, f: Self::V) -> Self::V;
    /// The same bits.
    fn as_floats(self, w: Self::W) -> Self::V;
    /// The same bits.
    fn as_words(self, v: Self::V) -> Self::W;
    /// From signed integers, rounded to nearest.
    fn to_floats(self, w: Self::W) -> Self::V;
    /// To the nearest signed integer, ties to even; i32::MIN for NaN and what does not fit.
    fn to_integers(self, v: Self::V) -> Self::W;
    /// The first bf16 of each word.
    fn low_bf16(self, w: Self::W) -> Self::V;
    /// The second bf16 of each word.
    fn high_bf16(self, w: Self::W) -> Self::V;
    /// Rounded to the nearest bf16, ties to even; only where `HAS_BF16`.
    ///
    /// # Safety
    /// `p` is writable for `LANES` times 16 bits.
    unsafe fn store_bf16(self, _p: *mut u16, _v: Self::V) {
        unreachable!("no bf16 on this instruction set")
    }
    /// `sums + x[0] w[0] + x[1] w[1]` of the bf16 in each word; only where `HAS_BF16`.
    fn dot_bf16(self, _sums: Self::V, _x: Self::W, _w: Self::W) -> Self::V {
        unreachable!("no bf16 on this instruction set")
    }
    /// `sums + x[0] w[0] + .. + x[3] w[3]` of the bytes in each word, exactly: x in -127..=127 plus `BYTE_OFFSET`, w in
    /// -127..=127.
    fn dot_bytes(self, sums: Self::W, x: Self::W, w: Self::W) -> Self::W;

    /// Asks for the cache line of `p`, which may lie anywhere, to be brought close.
    #[inline(always)]
    fn prefetch(self, _p: *const u32) {}

    /// Likewise, no nearer than the second-level cache.
    #[inline(always)]
    fn prefetch_far(self, _p: *const u32) {}

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

    /// The sums of the lanes of four vectors, each in the same order.
    #[inline(always)]
    fn sums(self, vectors: [Self::V; 4]) -> [f32; 4] {
        let mut sums = [0.0; 4];
        for (sum, v) in sums.iter_mut().zip(vectors) {
            let mut lanes = self.lanes(v);
            let mut n = Self::LANES;
            while n > 1 {
                n /= 2;
                for i in 0..n {
                    lanes[i] += lanes[i + n];
                }
            }
            *sum = lanes[0];
        }
        sums
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
