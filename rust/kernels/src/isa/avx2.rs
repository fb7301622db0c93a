//! AVX2 with FMA: eight floats, sixteen registers, hence a tile of 6 rows by 2 vectors (12 sums, 2 weights,
//! 1 broadcast). AVX-VNNI (bytes) came with Alder Lake and Zen 5.

use core::arch::x86_64::*;

use super::Isa;

#[derive(Clone, Copy)]
pub(crate) struct Avx2<const VNNI: bool> {
    _private: (),
}

impl<const VNNI: bool> Avx2<VNNI> {
    /// # Safety
    /// The CPU has AVX2 and FMA, and AVX-VNNI where the type says so; the caller's function enables them.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self { _private: () }
    }
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

#[inline(always)]
fn sign_mask() -> __m256 {
    op!(_mm256_set1_ps(-0.0))
}

/// The mask of the first `n < 8` lanes.
#[inline(always)]
fn first(n: usize) -> __m256i {
    let (count, lanes) = (op!(_mm256_set1_epi32(n as i32)), op!(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
    op!(_mm256_cmpgt_epi32(count, lanes))
}

/// The sums of the lanes of each, in the same order.
#[inline(always)]
pub(super) fn four_sums(a: __m256, b: __m256, c: __m256, d: __m256) -> [f32; 4] {
    let (ab, cd) = (op!(_mm256_hadd_ps(a, b)), op!(_mm256_hadd_ps(c, d)));
    // The four sums of the lower halves, then those of the upper.
    let halves = op!(_mm256_hadd_ps(ab, cd));
    let (low, high) = (op!(_mm256_castps256_ps128(halves)), op!(_mm256_extractf128_ps::<1>(halves)));
    let both = op!(_mm_add_ps(low, high));
    let mut sums = [0.0; 4];
    // SAFETY: four floats.
    unsafe { _mm_storeu_ps(sums.as_mut_ptr(), both) };
    sums
}

/// 2^n for a whole n in -126..=127.
#[inline(always)]
fn power_of_two(n: __m256) -> __m256 {
    let (n, bias) = (op!(_mm256_cvtps_epi32(n)), op!(_mm256_set1_epi32(127)));
    let biased = op!(_mm256_add_epi32(n, bias));
    let bits = op!(_mm256_slli_epi32::<23>(biased));
    op!(_mm256_castsi256_ps(bits))
}

// SAFETY: every intrinsic below needs AVX2 or FMA, or stands behind `VNNI`: the doors enable them.
unsafe impl<const VNNI: bool> Isa for Avx2<VNNI> {
    type V = __m256;
    type W = __m256i;
    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;
    const BYTE_OFFSET: i32 = if VNNI { 128 } else { 0 };

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        op!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        op!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        op!(_mm256_andnot_ps(sign_mask(), a))
    }
    #[inline(always)]
    fn copysign(self, a: __m256, s: __m256) -> __m256 {
        let sign = op!(_mm256_and_ps(sign_mask(), s));
        op!(_mm256_or_ps(self.abs(a), sign))
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        op!(_mm256_sqrt_ps(a))
    }
    #[inline(always)]
    fn select_lt(self, a: __m256, b: __m256, t: __m256, f: __m256) -> __m256 {
        let less = op!(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b));
        op!(_mm256_blendv_ps(f, t, less))
    }
    #[inline(always)]
    fn below(self, a: __m256, b: __m256) -> u32 {
        let less = op!(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b));
        op!(_mm256_movemask_ps(less)).cast_unsigned()
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        op!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
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
    fn load_first(self, xs: &[f32], fill: f32) -> __m256 {
        debug_assert!(xs.len() < Self::LANES);
        let mask = first(xs.len());
        // SAFETY: the mask leaves out what lies beyond `xs`, and memory that is left out is not touched.
        let read = unsafe { _mm256_maskload_ps(xs.as_ptr(), mask) };
        let mask = op!(_mm256_castsi256_ps(mask));
        op!(_mm256_blendv_ps(self.splat(fill), read, mask))
    }
    #[inline(always)]
    fn store_first(self, xs: &mut [f32], v: __m256) {
        debug_assert!(xs.len() < Self::LANES);
        // SAFETY: as above.
        unsafe { _mm256_maskstore_ps(xs.as_mut_ptr(), first(xs.len()), v) }
    }
    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m256; 4]) -> [f32; 4] {
        four_sums(a, b, c, d)
    }
    /// In two steps, so that a result below the normal numbers is reached through normal factors.
    #[inline(always)]
    fn scale_by_power_of_two(self, a: __m256, n: __m256) -> __m256 {
        let half = op!(_mm256_floor_ps(self.mul(n, self.splat(0.5))));
        let a = self.mul(a, power_of_two(half));
        self.mul(a, power_of_two(self.sub(n, half)))
    }
    #[inline(always)]
    fn splat_word(self, x: u32) -> __m256i {
        op!(_mm256_set1_epi32(x.cast_signed()))
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const u32) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store_words(self, p: *mut u32, w: __m256i) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(p.cast(), w) }
    }
    #[inline(always)]
    unsafe fn store_low_bytes(self, p: *mut u8, w: __m256i) {
        let low = op!(_mm256_set1_epi32(0x0c08_0400));
        // Each half's four low bytes into its first word, then the two words side by side.
        let bytes = op!(_mm256_shuffle_epi8(w, low));
        let lanes = op!(_mm256_setr_epi32(0, 4, 0, 0, 0, 0, 0, 0));
        let bytes = op!(_mm256_permutevar8x32_epi32(bytes, lanes));
        let bytes = op!(_mm256_castsi256_si128(bytes));
        // SAFETY: the caller's promise.
        unsafe { _mm_storel_epi64(p.cast(), bytes) }
    }
    #[inline(always)]
    unsafe fn load_signed_bytes(self, p: *const i8) -> __m256i {
        // SAFETY: the caller's promise.
        let bytes = unsafe { _mm_loadl_epi64(p.cast()) };
        op!(_mm256_cvtepi8_epi32(bytes))
    }
    #[inline(always)]
    unsafe fn load_halves(self, p: *const u16) -> __m256i {
        // SAFETY: the caller's promise.
        let halves = unsafe { _mm_loadu_si128(p.cast()) };
        op!(_mm256_cvtepu16_epi32(halves))
    }
    #[inline(always)]
    fn add_words(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_add_epi32(a, b))
    }
    #[inline(always)]
    fn max_words(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_max_epi32(a, b))
    }
    #[inline(always)]
    fn mul_words(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_mullo_epi32(a, b))
    }
    #[inline(always)]
    fn xor_words(self, a: __m256i, b: __m256i) -> __m256i {
        op!(_mm256_xor_si256(a, b))
    }
    #[inline(always)]
    fn shift_right(self, a: __m256i, bits: u32) -> __m256i {
        op!(_mm256_srlv_epi32(a, self.splat_word(bits)))
    }
    /// There is no unsigned comparison: a is not below b where it is the larger of the two.
    #[inline(always)]
    fn select_below(self, a: __m256i, b: __m256i, t: __m256, f: __m256) -> __m256 {
        let larger = op!(_mm256_max_epu32(a, b));
        let not_below = self.as_floats(op!(_mm256_cmpeq_epi32(a, larger)));
        op!(_mm256_blendv_ps(t, f, not_below))
    }
    #[inline(always)]
    fn as_floats(self, w: __m256i) -> __m256 {
        op!(_mm256_castsi256_ps(w))
    }
    #[inline(always)]
    fn as_words(self, v: __m256) -> __m256i {
        op!(_mm256_castps_si256(v))
    }
    #[inline(always)]
    fn to_floats(self, w: __m256i) -> __m256 {
        op!(_mm256_cvtepi32_ps(w))
    }
    #[inline(always)]
    fn to_integers(self, v: __m256) -> __m256i {
        op!(_mm256_cvtps_epi32(v))
    }
    #[inline(always)]
    fn low_bf16(self, w: __m256i) -> __m256 {
        self.as_floats(op!(_mm256_slli_epi32::<16>(w)))
    }
    #[inline(always)]
    fn high_bf16(self, w: __m256i) -> __m256 {
        let mask = op!(_mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
        self.as_floats(op!(_mm256_and_si256(w, mask)))
    }
    #[inline(always)]
    fn dot_bytes(self, sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
        if VNNI {
            return op!(_mm256_dpbusd_avx_epi32(sums, x, w));
        }
        // |x| (sign(x) w): neither 2 x 127 x 127 nor a factor overflows 16 bits.
        let (magnitude, w) = (op!(_mm256_abs_epi8(x)), op!(_mm256_sign_epi8(w, x)));
        let pairs = op!(_mm256_maddubs_epi16(magnitude, w));
        let ones = op!(_mm256_set1_epi16(1));
        let fours = op!(_mm256_madd_epi16(pairs, ones));
        op!(_mm256_add_epi32(sums, fours))
    }
}
