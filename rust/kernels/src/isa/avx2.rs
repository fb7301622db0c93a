//! AVX2 with FMA: eight floats, sixteen registers, hence a tile of 6 rows by 2 vectors (12 sums, 2 weights,
//! 1 broadcast).

use core::arch::x86_64::*;

use super::Isa;

#[derive(Clone, Copy)]
pub(crate) struct Avx2 {
    _private: (),
}

impl Avx2 {
    /// # Safety
    /// The CPU has AVX2 and FMA, and the caller's function enables them.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self { _private: () }
    }
}

/// One intrinsic that computes on registers alone.
macro_rules! op {
    ($intrinsic:ident($($arg:expr),*)) => {
        // SAFETY: the token proves that the CPU has AVX2 and FMA; the intrinsic touches no memory.
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

/// 2^n for a whole n in -126..=127.
#[inline(always)]
fn power_of_two(n: __m256) -> __m256 {
    let (n, bias) = (op!(_mm256_cvtps_epi32(n)), op!(_mm256_set1_epi32(127)));
    let biased = op!(_mm256_add_epi32(n, bias));
    let bits = op!(_mm256_slli_epi32::<23>(biased));
    op!(_mm256_castsi256_ps(bits))
}

// SAFETY: every intrinsic below needs AVX2 or FMA, which the door of `Level::Avx2` enables.
unsafe impl Isa for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;

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
    fn select_lt(self, a: __m256, b: __m256, t: __m256, f: __m256) -> __m256 {
        let less = op!(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b));
        op!(_mm256_blendv_ps(f, t, less))
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        op!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        op!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
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
    /// In two steps, so that a result below the normal numbers is reached through normal factors.
    #[inline(always)]
    fn scale_by_power_of_two(self, a: __m256, n: __m256) -> __m256 {
        let half = op!(_mm256_floor_ps(self.mul(n, self.splat(0.5))));
        let a = self.mul(a, power_of_two(half));
        self.mul(a, power_of_two(self.sub(n, half)))
    }
}
