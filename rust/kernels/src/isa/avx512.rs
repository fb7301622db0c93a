//! AVX-512: sixteen floats, thirty-two registers, hence a tile of 14 rows by 2 vectors (28 sums, 2 weights,
//! 1 broadcast).
//!
//! F, BW and DQ are in every server's CPU that has AVX-512; VNNI (bytes) came with Cascade Lake, BF16 with Cooper Lake and Zen 4.

use core::arch::x86_64::*;

use super::Isa;
use super::avx2::four_sums;

#[derive(Clone, Copy)]
pub(crate) struct Avx512<const VNNI: bool, const BF16: bool> {
    _private: (),
}

impl<const VNNI: bool, const BF16: bool> Avx512<VNNI, BF16> {
    /// # Safety
    /// The CPU has AVX-512F and BW, and VNNI and BF16 where the type says so; the caller's function enables them.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self { _private: () }
    }
}

const SIGN: i32 = i32::MIN;
const HIGH_HALF: i32 = 0xffff_0000_u32.cast_signed();

/// The mask of the first `n < 16` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    (1 << n) - 1
}

/// One intrinsic that computes on registers alone.
macro_rules! op {
    ($intrinsic:ident($($arg:expr),*)) => {
        // SAFETY: the token proves that the CPU has what it names; the intrinsic touches no memory.
        unsafe { $intrinsic($($arg),*) }
    };
    ($intrinsic:ident::<$n:tt>($($arg:expr),*)) => {
        // SAFETY: as above.
        unsafe { $intrinsic::<$n>($($arg),*) }
    };
}

/// The lower half plus the upper.
#[inline(always)]
fn fold(v: __m512) -> __m256 {
    let (low, high) = (op!(_mm512_castps512_ps256(v)), op!(_mm512_extractf32x8_ps::<1>(v)));
    op!(_mm256_add_ps(low, high))
}

// SAFETY: every intrinsic below needs AVX-512F or BW, or stands behind `VNNI` or `BF16`: the doors enable them.
unsafe impl<const VNNI: bool, const BF16: bool> Isa for Avx512<VNNI, BF16> {
    type V = __m512;
    type W = __m512i;
    const LANES: usize = 16;
    const TILE_ROWS: usize = 14;
    const HAS_BF16: bool = BF16;
    const BYTE_OFFSET: i32 = if VNNI { 128 } else { 0 };

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        op!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        op!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        op!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn copysign(self, a: __m512, s: __m512) -> __m512 {
        let (a, s) = (op!(_mm512_castps_si512(a)), op!(_mm512_castps_si512(s)));
        // 0xCA: bit by bit, the second where the first (the sign mask) is set, else the third.
        let sign = op!(_mm512_set1_epi32(SIGN));
        let bits = op!(_mm512_ternarylogic_epi32::<0xCA>(sign, s, a));
        op!(_mm512_castsi512_ps(bits))
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        op!(_mm512_sqrt_ps(a))
    }
    #[inline(always)]
    fn select_lt(self, a: __m512, b: __m512, t: __m512, f: __m512) -> __m512 {
        let less = op!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b));
        op!(_mm512_mask_blend_ps(less, f, t))
    }
    #[inline(always)]
    fn below(self, a: __m512, b: __m512) -> u32 {
        op!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b)).into()
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        op!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn prefetch(self, p: *const u32) {
        op!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }
    #[inline(always)]
    fn prefetch_far(self, p: *const u32) {
        op!(_mm_prefetch::<_MM_HINT_T1>(p.cast()))
    }
    #[inline(always)]
    fn load_first(self, xs: &[f32], fill: f32) -> __m512 {
        debug_assert!(xs.len() < Self::LANES);
        // SAFETY: the mask leaves out what lies beyond `xs`, and memory that is left out is not touched.
        unsafe { _mm512_mask_loadu_ps(self.splat(fill), first(xs.len()), xs.as_ptr()) }
    }
    #[inline(always)]
    fn store_first(self, xs: &mut [f32], v: __m512) {
        debug_assert!(xs.len() < Self::LANES);
        // SAFETY: as above.
        unsafe { _mm512_mask_storeu_ps(xs.as_mut_ptr(), first(xs.len()), v) }
    }
    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        four_sums(fold(a), fold(b), fold(c), fold(d))
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, a: __m512, n: __m512) -> __m512 {
        op!(_mm512_scalef_ps(a, n))
    }
    #[inline(always)]
    fn splat_word(self, x: u32) -> __m512i {
        op!(_mm512_set1_epi32(x.cast_signed()))
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const u32) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store_words(self, p: *mut u32, w: __m512i) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(p.cast(), w) }
    }
    #[inline(always)]
    unsafe fn store_low_bytes(self, p: *mut u8, w: __m512i) {
        let bytes = op!(_mm512_cvtepi32_epi8(w));
        // SAFETY: the caller's promise.
        unsafe { _mm_storeu_si128(p.cast(), bytes) }
    }
    #[inline(always)]
    unsafe fn load_signed_bytes(self, p: *const i8) -> __m512i {
        // SAFETY: the caller's promise.
        let bytes = unsafe { _mm_loadu_si128(p.cast()) };
        op!(_mm512_cvtepi8_epi32(bytes))
    }
    #[inline(always)]
    unsafe fn load_halves(self, p: *const u16) -> __m512i {
        // SAFETY: the caller's promise.
        let halves = unsafe { _mm256_loadu_si256(p.cast()) };
        op!(_mm512_cvtepu16_epi32(halves))
    }
    #[inline(always)]
    fn add_words(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn max_words(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_max_epi32(a, b))
    }
    #[inline(always)]
    fn mul_words(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_mullo_epi32(a, b))
    }
    #[inline(always)]
    fn xor_words(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_xor_si512(a, b))
    }
    #[inline(always)]
    fn shift_right(self, a: __m512i, bits: u32) -> __m512i {
        op!(_mm512_srlv_epi32(a, self.splat_word(bits)))
    }
    #[inline(always)]
    fn select_below(self, a: __m512i, b: __m512i, t: __m512, f: __m512) -> __m512 {
        let below = op!(_mm512_cmplt_epu32_mask(a, b));
        op!(_mm512_mask_blend_ps(below, f, t))
    }
    #[inline(always)]
    fn as_floats(self, w: __m512i) -> __m512 {
        op!(_mm512_castsi512_ps(w))
    }
    #[inline(always)]
    fn as_words(self, v: __m512) -> __m512i {
        op!(_mm512_castps_si512(v))
    }
    #[inline(always)]
    fn to_floats(self, w: __m512i) -> __m512 {
        op!(_mm512_cvtepi32_ps(w))
    }
    #[inline(always)]
    fn to_integers(self, v: __m512) -> __m512i {
        op!(_mm512_cvtps_epi32(v))
    }
    #[inline(always)]
    fn low_bf16(self, w: __m512i) -> __m512 {
        self.as_floats(op!(_mm512_slli_epi32::<16>(w)))
    }
    #[inline(always)]
    fn high_bf16(self, w: __m512i) -> __m512 {
        let mask = op!(_mm512_set1_epi32(HIGH_HALF));
        self.as_floats(op!(_mm512_and_si512(w, mask)))
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: __m512) {
        debug_assert!(BF16);
        // SAFETY: BF16 as the type says; the caller's promise.
        unsafe { _mm256_storeu_si256(p.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v))) }
    }
    #[inline(always)]
    fn dot_bf16(self, sums: __m512, x: __m512i, w: __m512i) -> __m512 {
        debug_assert!(BF16);
        // SAFETY: BF16 as the type says; the vectors differ in the names of their lanes only.
        unsafe {
            let (x, w) = (std::mem::transmute::<__m512i, __m512bh>(x), std::mem::transmute::<__m512i, __m512bh>(w));
            _mm512_dpbf16_ps(sums, x, w)
        }
    }
    #[inline(always)]
    fn dot_bytes(self, sums: __m512i, x: __m512i, w: __m512i) -> __m512i {
        if VNNI {
            return op!(_mm512_dpbusd_epi32(sums, x, w));
        }
        // |x| (sign(x) w): neither 2 x 127 x 127 nor a factor overflows 16 bits.
        let (magnitude, negative) = (op!(_mm512_abs_epi8(x)), op!(_mm512_movepi8_mask(x)));
        let zero = op!(_mm512_setzero_si512());
        let w = op!(_mm512_mask_sub_epi8(w, negative, zero, w));
        let pairs = op!(_mm512_maddubs_epi16(magnitude, w));
        let ones = op!(_mm512_set1_epi16(1));
        let fours = op!(_mm512_madd_epi16(pairs, ones));
        op!(_mm512_add_epi32(sums, fours))
    }
}
