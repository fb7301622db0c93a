//! From rows of weights, as checkpoints store them, to panels.

use super::Precision;
use crate::buffer::words_of;
use crate::isa::{Isa, Kernel, Level, MAX_PANEL, dispatch_floats};
use crate::mat::MatMut;
use crate::narrow::Quantise;
use crate::spread::{group, spread};
use crate::threads::Disjoint;

/// Panels that several threads write to, each its own outputs: all their rows of words (.., PANEL).
pub(super) struct PanelsMut<'a> {
    words: Disjoint<'a, u32>,
    level: Level,
    precision: Precision,
    inputs: usize,
}

impl<'a> PanelsMut<'a> {
    /// Of `words`, which are whole panels.
    pub(super) fn new(words: &'a mut [u32], level: Level, precision: Precision, inputs: usize) -> Self {
        let (rows, panel) = (words.len() / level.panel(), level.panel());
        PanelsMut { words: Disjoint::new(MatMut::dense(words, rows, panel)), level, precision, inputs }
    }

    /// Sets the weights of the outputs `first..` from whole rows (rows, K).
    ///
    /// # Safety
    /// The outputs are there, and no two calls at the same time set the same.
    pub(super) unsafe fn set(&self, first: usize, rows: &[f32]) {
        let (head, panel) = (self.precision.head(), self.level.panel());
        let depth = self.inputs.div_ceil(self.precision.per_word());
        let end = first + rows.len() / self.inputs.max(1);
        let narrow = self.precision != Precision::Float32;
        let mut words = vec![0; if narrow { panel * depth } else { 0 }];
        let mut spread = vec![0.0; if narrow { self.inputs } else { 0 }];
        let mut n = first;
        while n < end {
            let columns = n % panel..panel.min(n % panel + end - n);
            let source = &rows[(n - first) * self.inputs..][..columns.len() * self.inputs];
            let start = n / panel * (head + depth);
            n += columns.len();
            // SAFETY: the caller's promise: these are the columns of different outputs.
            let [mut head, mut body] = [start..start + head, start + head..start + head + depth]
                .map(|rows| unsafe { self.words.block(rows, columns.clone()) });
            if !narrow {
                transpose(words_of(source), &mut body);
                continue;
            }
            let words = &mut words[..columns.len() * depth];
            for (i, (row, words)) in source.chunks_exact(self.inputs).zip(words.chunks_exact_mut(depth)).enumerate() {
                if self.precision == Precision::BFloat16 {
                    dispatch_floats(self.level, Pair { row, words });
                } else {
                    self.quantise(i, row, &mut spread, words, &mut head);
                }
            }
            transpose(words, &mut body);
        }
    }

    /// A row of bytes, four a word, `spread` (K,) on the way; its scale and where its sum begins go to column `i` of the head.
    fn quantise(&self, i: usize, row: &[f32], spread: &mut [f32], words: &mut [u32], head: &mut MatMut<u32>) {
        dispatch_floats(self.level, Spread { row, factor: 1.0 / group(self.inputs) as f32, out: spread });
        let (scale, sum) = dispatch_floats(self.level, Quantise { row: spread, words });
        head.row_mut(0)[i] = (-self.level.byte_offset() * sum).cast_unsigned();
        head.row_mut(1)[i] = scale.to_bits();
    }
}

/// `out = factor T row`.
pub(super) struct Spread<'a> {
    pub(super) row: &'a [f32],
    pub(super) factor: f32,
    pub(super) out: &'a mut [f32],
}

impl Kernel for Spread<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(self, isa: I) {
        spread(isa, self.row, #[inline(always)] |p, v, count| {
            let scaled = isa.lanes(isa.mul(v, isa.splat(self.factor)));
            self.out[p..p + count].copy_from_slice(&scaled[..count]);
        });
    }
}

/// A row of bf16, two a word; what is left is zero.
pub(crate) struct Pair<'a> {
    pub(crate) row: &'a [f32],
    pub(crate) words: &'a mut [u32],
}

impl Kernel for Pair<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, _isa: I) {
        let (pairs, last) = self.row.as_chunks::<2>();
        for (word, [low, high]) in self.words.iter_mut().zip(pairs) {
            *word = bf16(*low) | bf16(*high) << 16;
        }
        if let ([x], Some(word)) = (last, self.words.last_mut()) {
            *word = bf16(*x);
        }
    }
}

/// The bits of the nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
pub(crate) fn bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() { bits >> 16 | 0x40 } else { bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16 }
}

/// `out[i][j] = rows[j][i]` for rows (C, K) and out (K, C), by strips of a cache line so that each line is read and written
/// once.
fn transpose(rows: &[u32], out: &mut MatMut<u32>) {
    const STRIP: usize = 16;
    let cols = out.rows();
    let mut strip = [[0; STRIP]; MAX_PANEL];
    for i in (0..cols).step_by(STRIP) {
        let count = STRIP.min(cols - i);
        for (row, strip) in rows.chunks_exact(cols).zip(&mut strip) {
            strip[..count].copy_from_slice(&row[i..i + count]);
        }
        for t in 0..count {
            for (x, row) in out.row_mut(i + t).iter_mut().zip(&strip) {
                *x = row[t];
            }
        }
    }
}
