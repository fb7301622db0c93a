//! Queries, keys, values and probabilities in the form in which attention multiplies them.

use crate::buffer::{halves_of_mut, words_of};
use crate::gemm::{Bf16, Float32, Format};
use crate::isa::Isa;
use crate::mat::{Mat, MatMut, padded_stride};
use crate::narrow::to_bf16;

pub(super) trait Operands<I: Isa>: Format<I> {
    /// Numbers in a word.
    const PER_WORD: usize;

    /// Rows in this form, in `scratch` where that is not their own.
    fn rows<'a>(isa: I, x: Mat<'a>, scratch: &'a mut [u32]) -> Mat<'a, Self::X>;
    /// One row's words, likewise.
    fn row<'a>(isa: I, x: &'a [f32], scratch: &'a mut [u32]) -> &'a [u32];
    /// Panels of value columns: a row of zeros to begin the sums, then each value's part.
    fn pack_values(isa: I, v: Mat, out: &mut [u32]);
}

impl<I: Isa> Operands<I> for Float32 {
    const PER_WORD: usize = 1;

    #[inline(always)]
    fn rows<'a>(_isa: I, x: Mat<'a>, _scratch: &'a mut [u32]) -> Mat<'a> {
        x
    }
    #[inline(always)]
    fn row<'a>(_isa: I, x: &'a [f32], _scratch: &'a mut [u32]) -> &'a [u32] {
        words_of(x)
    }
    #[inline(always)]
    fn pack_values(_isa: I, v: Mat, out: &mut [u32]) {
        let panels = v.cols().div_ceil(I::PANEL);
        for (p, panel) in out.chunks_exact_mut((v.rows() + 1) * I::PANEL).take(panels).enumerate() {
            let first = p * I::PANEL;
            let count = I::PANEL.min(v.cols() - first);
            let (zeros, rows) = panel.split_at_mut(I::PANEL);
            zeros.fill(0);
            for (r, row) in rows.chunks_exact_mut(I::PANEL).enumerate() {
                row[..count].copy_from_slice(words_of(&v.row(r)[first..first + count]));
                row[count..].fill(0);
            }
        }
    }
}

/// In pairs: of channels in queries and keys, of tokens in probabilities and values.
impl<I: Isa> Operands<I> for Bf16 {
    const PER_WORD: usize = 2;

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
    fn row<'a>(isa: I, x: &'a [f32], scratch: &'a mut [u32]) -> &'a [u32] {
        let words = &mut scratch[..x.len().div_ceil(2)];
        to_bf16(isa, x, halves_of_mut(words));
        words
    }
    #[inline(always)]
    fn pack_values(isa: I, v: Mat, out: &mut [u32]) {
        let (panels, depth) = (v.cols().div_ceil(I::PANEL), v.rows().div_ceil(2));
        for (p, panel) in out.chunks_exact_mut((depth + 1) * I::PANEL).take(panels).enumerate() {
            let first = p * I::PANEL;
            let count = I::PANEL.min(v.cols() - first);
            let (zeros, rows) = panel.split_at_mut(I::PANEL);
            zeros.fill(0);
            for (r, row) in rows.chunks_exact_mut(I::PANEL).enumerate() {
                let (even, odd) = (v.row(2 * r), if 2 * r + 1 < v.rows() { v.row(2 * r + 1) } else { &[] });
                let odd = if odd.is_empty() { odd } else { &odd[first..first + count] };
                pair(isa, &even[first..first + count], odd, row);
            }
        }
    }
}

/// `out[j] = even[j], odd[j]`, zeros where there are none.
#[inline(always)]
fn pair<I: Isa>(isa: I, even: &[f32], odd: &[f32], out: &mut [u32]) {
    let mut halves = [[0u16; 2 * crate::isa::MAX_PANEL]; 2];
    to_bf16(isa, even, &mut halves[0][..I::PANEL]);
    to_bf16(isa, odd, &mut halves[1][..I::PANEL]);
    for (j, word) in out.iter_mut().enumerate() {
        *word = u32::from(halves[0][j]) | u32::from(halves[1][j]) << 16;
    }
}
