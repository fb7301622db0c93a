//! Four floats at a time in plain Rust: the semantics of every other ISA, and what any CPU can run.

use super::Isa;

#[derive(Clone, Copy)]
pub(crate) struct Scalar {
    _private: (),
}

impl Scalar {
    /// # Safety
    /// None to keep: the name and the mark are those of the other ISAs.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self { _private: () }
    }
}

type V = [f32; 4];
type W = [u32; 4];

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

#[inline(always)]
fn power_of_two(n: f32) -> f32 {
    f32::from_bits(((n as i32 + 127) as u32) << 23)
}

// SAFETY: no intrinsics, hence no features.
unsafe impl Isa for Scalar {
    type V = V;
    type W = W;
    const LANES: usize = 4;
    const TILE_ROWS: usize = 4;
    const BYTE_OFFSET: i32 = 0;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: the caller's promise; an unaligned read of four floats.
        unsafe { p.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: the caller's promise; an unaligned write of four floats.
        unsafe { p.cast::<V>().write_unaligned(v) }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a / b)
    }
    /// Rounded twice: without the FMA instruction `f32::mul_add` is a slow library call.
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, a: V) -> V {
        a.map(f32::abs)
    }
    #[inline(always)]
    fn copysign(self, a: V, s: V) -> V {
        zip(a, s, f32::copysign)
    }
    #[inline(always)]
    fn sqrt(self, a: V) -> V {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    fn select_lt(self, a: V, b: V, t: V, f: V) -> V {
        std::array::from_fn(|i| if a[i] < b[i] { t[i] } else { f[i] })
    }
    #[inline(always)]
    fn below(self, a: V, b: V) -> u32 {
        (0..4).map(|i| u32::from(a[i] < b[i]) << i).sum()
    }
    /// Adding 1.5 * 2^23 leaves no bits for a fraction, and the FPU rounds ties to even.
    #[inline(always)]
    fn round(self, a: V) -> V {
        const SHIFT: f32 = 12_582_912.0;
        a.map(|x| (x + SHIFT) - SHIFT)
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, a: V, n: V) -> V {
        zip(a, n, |a, n| {
            let half = (n * 0.5).floor();
            a * power_of_two(half) * power_of_two(n - half)
        })
    }
    #[inline(always)]
    fn splat_word(self, x: u32) -> W {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const u32) -> W {
        // SAFETY: the caller's promise; an unaligned read of four words.
        unsafe { p.cast::<W>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_words(self, p: *mut u32, w: W) {
        // SAFETY: the caller's promise; an unaligned write of four words.
        unsafe { p.cast::<W>().write_unaligned(w) }
    }
    #[inline(always)]
    unsafe fn store_low_bytes(self, p: *mut u8, w: W) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[u8; 4]>().write_unaligned(w.map(|x| x as u8)) }
    }
    #[inline(always)]
    unsafe fn load_signed_bytes(self, p: *const i8) -> W {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[i8; 4]>().read_unaligned().map(|x| i32::from(x).cast_unsigned()) }
    }
    #[inline(always)]
    unsafe fn load_halves(self, p: *const u16) -> W {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[u16; 4]>().read_unaligned().map(u32::from) }
    }
    #[inline(always)]
    fn add_words(self, a: W, b: W) -> W {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn max_words(self, a: W, b: W) -> W {
        std::array::from_fn(|i| a[i].cast_signed().max(b[i].cast_signed()).cast_unsigned())
    }
    #[inline(always)]
    fn mul_words(self, a: W, b: W) -> W {
        std::array::from_fn(|i| a[i].wrapping_mul(b[i]))
    }
    #[inline(always)]
    fn xor_words(self, a: W, b: W) -> W {
        std::array::from_fn(|i| a[i] ^ b[i])
    }
    #[inline(always)]
    fn shift_right(self, a: W, bits: u32) -> W {
        a.map(|x| x >> bits)
    }
    #[inline(always)]
    fn select_below(self, a: W, b: W, t: V, f: V) -> V {
        std::array::from_fn(|i| if a[i] < b[i] { t[i] } else { f[i] })
    }
    #[inline(always)]
    fn as_floats(self, w: W) -> V {
        w.map(f32::from_bits)
    }
    #[inline(always)]
    fn as_words(self, v: V) -> W {
        v.map(f32::to_bits)
    }
    #[inline(always)]
    fn to_floats(self, w: W) -> V {
        w.map(|x| x.cast_signed() as f32)
    }
    #[inline(always)]
    fn to_integers(self, v: V) -> W {
        const END: f32 = 2_147_483_648.0;
        v.map(|x| if (-END..END).contains(&x) { (x.round_ties_even() as i32).cast_unsigned() } else { 1 << 31 })
    }
    #[inline(always)]
    fn low_bf16(self, w: W) -> V {
        w.map(|x| f32::from_bits(x << 16))
    }
    #[inline(always)]
    fn high_bf16(self, w: W) -> V {
        w.map(|x| f32::from_bits(x & 0xffff_0000))
    }
    #[inline(always)]
    fn dot_bytes(self, sums: W, x: W, w: W) -> W {
        let bytes = |w: u32| w.to_le_bytes().map(|b| i32::from(b.cast_signed()));
        let dot = |x: u32, w: u32| bytes(x).into_iter().zip(bytes(w)).map(|(x, w)| x * w).sum::<i32>();
        std::array::from_fn(|i| sums[i].wrapping_add(dot(x[i], w[i]).cast_unsigned()))
    }
}
