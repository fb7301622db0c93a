//! AVX-512F: sixteen floats, thirty-two registers, hence a tile of 14 rows by 2 vectors (28 sums, 2 weights,
//! 1 broadcast).

use core::arch::x86_64::*;

use super::Isa;

#[derive(Clone, Copy)]
pub(crate) struct Avx512 {
    _private: (),
}

impl Avx512 {
    /// # Safety
    /// The CPU has AVX-512F, and the caller's function enables it.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self { _private: () }
    }
}

const SIGN: i32 = i32::MIN;

/// The mask of the first `n < 16` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    (1 << n) - 1
}

/// One intrinsic that computes on registers alone.
macro_rules! op {
    ($intrinsic:ident($($arg:expr),*)) => {
        // SAFETY: the token proves that the CPU has AVX-512F; the intrinsic touches no memory.
        unsafe { $intrinsic($($arg),*) }
    };
    ($intrinsic:ident::<$n:tt>($($arg:expr),*)) => {
        // SAFETY: as above.
        unsafe { $intrinsic::<$n>($($arg),*) }
    };
}

// SAFETY: every intrinsic below needs AVX-512F, which the door of `Level::Avx512` enables.
unsafe impl Isa for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const TILE_ROWS: usize = 14;

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
    fn select_lt(self, a: __m512, b: __m512, t: __m512, f: __m512) -> __m512 {
        let less = op!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b));
        op!(_mm512_mask_blend_ps(less, f, t))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        op!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        op!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
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
    fn scale_by_power_of_two(self, a: __m512, n: __m512) -> __m512 {
        op!(_mm512_scalef_ps(a, n))
    }
}
