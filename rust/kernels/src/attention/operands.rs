//! Queries, keys, values and probabilities in the form in which attention multiplies them.

use super::{AHEAD, ask};
use crate::buffer::{halves_of_mut, words_of};
use crate::gemm::{Bf16, Float32, Format};
use crate::isa::Isa;
use crate::mat::{Mat, MatMut, padded_stride};
use crate::narrow::to_bf16;

pub(super) trait Operands<I: Isa>: Format<I> {
    /// Tokens in a word of packed values.
    const PER_WORD: usize;

    /// The bits of queries, keys or values.
    fn words(row: &[Self::X]) -> &[u32];
    /// Probabilities in this form, in `scratch` where that is not their own.
    fn rows<'a>(isa: I, x: Mat<'a>, scratch: &'a mut [u32]) -> Mat<'a, Self::X>;
    /// Panels of value columns: a row of zeros to begin the sums, then each word.
    fn pack_values(isa: I, v: Mat<Self::X>, out: &mut [u32]);
}

impl<I: Isa> Operands<I> for Float32 {
    const PER_WORD: usize = 1;

    #[inline(always)]
    fn words(row: &[f32]) -> &[u32] {
        words_of(row)
    }
    #[inline(always)]
    fn rows<'a>(_isa: I, x: Mat<'a>, _scratch: &'a mut [u32]) -> Mat<'a> {
        x
    }
    #[inline(always)]
    fn pack_values(isa: I, v: Mat, out: &mut [u32]) {
        let panels = v.cols().div_ceil(I::PANEL);
        for (p, panel) in out.chunks_exact_mut((v.rows() + 1) * I::PANEL).take(panels).enumerate() {
            let first = p * I::PANEL;
            let count = I::PANEL.min(v.cols() - first);
            let (zeros, rows) = panel.split_at_mut(I::PANEL);
            zeros.fill(0);
            for (r, row) in rows.chunks_exact_mut(I::PANEL).enumerate() {
                if p == 0 {
                    ask::<I, Self>(isa, v, r + AHEAD);
                }
                row[..count].copy_from_slice(words_of(&v.row(r)[first..first + count]));
                row[count..].fill(0);
            }
        }
    }
}

/// In pairs: of channels in queries and keys, of tokens in probabilities and packed values.
impl<I: Isa> Operands<I> for Bf16 {
    const PER_WORD: usize = 2;

    #[inline(always)]
    fn words(row: &[u32]) -> &[u32] {
        row
    }
    #[inline(always)]
    fn rows<'a>(isa: I, x: Mat<'a>, scratch: &'a mut [u32]) -> Mat<'a, u32> {
        let words = x.cols().div_ceil(2);
        let stride = padded_stride(words);
        let mut out = MatMut::new(scratch, x.rows(), words, stride);
        for r in 0..x.rows() {
            to_bf16(isa, x.row(r), halves_of_mut(out.row_mut(r)));
        }
        Mat::new(scratch, x.rows(), words, stride)
    }
    #[inline(always)]
    fn pack_values(isa: I, v: Mat<u32>, out: &mut [u32]) {
        let (panels, depth) = ((2 * v.cols()).div_ceil(I::PANEL), v.rows().div_ceil(2));
        for (p, panel) in out.chunks_exact_mut((depth + 1) * I::PANEL).take(panels).enumerate() {
            let first = p * I::PANEL / 2;
            let count = (I::PANEL / 2).min(v.cols() - first);
            let (zeros, rows) = panel.split_at_mut(I::PANEL);
            zeros.fill(0);
            for (r, row) in rows.chunks_exact_mut(I::PANEL).enumerate() {
                if p == 0 {
                    ask::<I, Self>(isa, v, 2 * r + AHEAD);
                    ask::<I, Self>(isa, v, 2 * r + AHEAD + 1);
                }
                let even = &v.row(2 * r)[first..first + count];
                let odd = if 2 * r + 1 < v.rows() { &v.row(2 * r + 1)[first..first + count] } else { &[] };
                pair(even, odd, &mut row[..2 * count]);
                row[2 * count..].fill(0);
            }
        }
    }
}

/// Two rows of pairs of channels to pairs of rows, channel by channel; zeros where there is no second row.
#[inline(always)]
fn pair(even: &[u32], odd: &[u32], out: &mut [u32]) {
    let pairs = out.as_chunks_mut::<2>().0;
    if odd.is_empty() {
        pairs.iter_mut().zip(even).for_each(|(out, e)| *out = [e & 0xffff, e >> 16]);
    } else {
        let both = even.iter().zip(odd);
        pairs.iter_mut().zip(both).for_each(|(out, (e, o))| *out = [e & 0xffff | o << 16, e >> 16 | o & 0xffff_0000]);
    }
}
