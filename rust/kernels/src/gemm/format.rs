//! How a word of weights meets a row of x: all that the products in f32, bf16 and int8 do differently.
//!
//! Weights come in words of 32 bits whatever they are: one f32, two bf16 or four bytes, consecutive in k, of one column.
//! A vector of words is `LANES` columns. So panels, tiles and blocks are the same for all, and a word is one or more steps.

use crate::isa::Isa;

pub(crate) trait Format<I: Isa> {
    /// An element of a row of x, of which a step takes one.
    type X: Copy;
    type Splat: Copy;
    type Weight: Copy;
    type Sum: Copy;
    /// Steps that a word of weights is good for.
    const STEPS: usize = 1;
    /// Rows at the head of a panel: where the sums begin, and what [`finish`](Self::finish) needs.
    const HEAD: usize = 1;
    /// Whether each row of x has a scale.
    const SCALED: bool = false;

    fn splat(isa: I, x: Self::X) -> Self::Splat;
    /// What a step takes of the words at `p`.
    ///
    /// # Safety
    /// `p` is readable for `LANES` words, and the word before it.
    unsafe fn weight(isa: I, p: *const u32, step: usize) -> Self::Weight;
    fn multiply_add(isa: I, sum: Self::Sum, x: Self::Splat, w: Self::Weight) -> Self::Sum;
    fn sum(isa: I, bits: I::W) -> Self::Sum;
    fn bits(isa: I, sum: Self::Sum) -> I::W;
    /// The result of a complete sum, for a row of x with this scale: where there are none, the sum itself.
    ///
    /// # Safety
    /// `head` is readable for a vector in each of the panel's `HEAD` rows.
    #[inline(always)]
    unsafe fn finish(isa: I, sum: Self::Sum, _scale: I::V, _head: *const u32) -> I::V {
        isa.as_floats(Self::bits(isa, sum))
    }
}

/// f32 times f32, or times bf16 that is widened in registers: half the memory, the arithmetic of f32.
pub(crate) struct Floats<const BF16: bool>;

pub(crate) type Float32 = Floats<false>;
pub(crate) type WidenedBf16 = Floats<true>;

impl<I: Isa, const BF16: bool> Format<I> for Floats<BF16> {
    type X = f32;
    type Splat = I::V;
    type Weight = I::V;
    type Sum = I::V;
    const STEPS: usize = if BF16 { 2 } else { 1 };

    #[inline(always)]
    fn splat(isa: I, x: f32) -> I::V {
        isa.splat(x)
    }
    /// Of bf16 the first step takes the low halves. Read from half a word before they are the high ones, so that both steps
    /// are the same instructions: unrolled, the compiler loads x for both and sends sums to the stack for it.
    #[inline(always)]
    unsafe fn weight(isa: I, p: *const u32, step: usize) -> I::V {
        if !BF16 {
            // SAFETY: the caller's promise.
            return isa.as_floats(unsafe { isa.load_words(p) });
        }
        // SAFETY: from half a word before `p` on, or from `p`.
        isa.high_bf16(unsafe { isa.load_words(p.cast::<u16>().sub(1).add(step).cast()) })
    }
    #[inline(always)]
    fn multiply_add(isa: I, sum: I::V, x: I::V, w: I::V) -> I::V {
        isa.mul_add(x, w, sum)
    }
    #[inline(always)]
    fn sum(isa: I, bits: I::W) -> I::V {
        isa.as_floats(bits)
    }
    #[inline(always)]
    fn bits(isa: I, sum: I::V) -> I::W {
        isa.as_words(sum)
    }
}

/// bf16 times bf16, summed in f32 by the CPU's own instruction.
pub(crate) struct Bf16;

impl<I: Isa> Format<I> for Bf16 {
    type X = u32;
    type Splat = I::W;
    type Weight = I::W;
    type Sum = I::V;

    #[inline(always)]
    fn splat(isa: I, x: u32) -> I::W {
        isa.splat_word(x)
    }
    #[inline(always)]
    unsafe fn weight(isa: I, p: *const u32, _step: usize) -> I::W {
        // SAFETY: the caller's promise.
        unsafe { isa.load_words(p) }
    }
    #[inline(always)]
    fn multiply_add(isa: I, sum: I::V, x: I::W, w: I::W) -> I::V {
        isa.dot_bf16(sum, x, w)
    }
    #[inline(always)]
    fn sum(isa: I, bits: I::W) -> I::V {
        isa.as_floats(bits)
    }
    #[inline(always)]
    fn bits(isa: I, sum: I::V) -> I::W {
        isa.as_words(sum)
    }
}

/// Bytes times bytes, summed in integers: y = x_scale w_scale sum + bias. The sums begin with what the offset of x
/// (`BYTE_OFFSET`) adds to them, taken off; the head's other rows are w_scale and bias.
pub(crate) struct Int8;

impl<I: Isa> Format<I> for Int8 {
    type X = u32;
    type Splat = I::W;
    type Weight = I::W;
    type Sum = I::W;
    const HEAD: usize = 3;
    const SCALED: bool = true;

    #[inline(always)]
    fn splat(isa: I, x: u32) -> I::W {
        isa.splat_word(x)
    }
    #[inline(always)]
    unsafe fn weight(isa: I, p: *const u32, _step: usize) -> I::W {
        // SAFETY: the caller's promise.
        unsafe { isa.load_words(p) }
    }
    #[inline(always)]
    fn multiply_add(isa: I, sum: I::W, x: I::W, w: I::W) -> I::W {
        isa.dot_bytes(sum, x, w)
    }
    #[inline(always)]
    fn sum(_isa: I, bits: I::W) -> I::W {
        bits
    }
    #[inline(always)]
    fn bits(_isa: I, sum: I::W) -> I::W {
        sum
    }
    #[inline(always)]
    unsafe fn finish(isa: I, sum: I::W, scale: I::V, head: *const u32) -> I::V {
        // SAFETY: the caller's promise.
        let [w_scale, bias] = unsafe { [isa.load_words(head.add(I::PANEL)), isa.load_words(head.add(2 * I::PANEL))] };
        let product = isa.mul(isa.to_floats(sum), isa.as_floats(w_scale));
        isa.mul_add(product, scale, isa.as_floats(bias))
    }
}
