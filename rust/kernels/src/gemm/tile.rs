//! The register tile: R rows of x times P panels of weights, all sums in registers.
//!
//!   sum[r][c] = init[r][c];  for k: sum[r][c] += x[r][k] * b[k][c]
//!
//! Each element is one chain of additions in the order of k. It does not depend on R, P or where the caller cuts k, because
//! a cut stores the sum and goes on from it: so a row has the same bits in any company.

use super::format::Format;
use crate::isa::Isa;

/// How many rows ahead a panel is asked for: panels come from the second-level cache or from further away. It brings 2 to
/// 4 % of the peak at BERT's shapes; to ask for the rows of `c` as well brings nothing. Where few rows read several panels
/// at a time, memory is the limit and the hardware's own prefetching does better alone.
const AHEAD: usize = 16;

/// What a tile reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Tile<X> {
    pub(super) x: *const X,
    pub(super) x_stride: usize,
    /// Elements of a row of x.
    pub(super) steps: usize,
    /// The first of P panels, at the first row of weights.
    pub(super) b: *const u32,
    /// From one panel to the next, in `b` and in `head`.
    pub(super) b_stride: usize,
    pub(super) next: Next,
    /// Where the sums begin, a row of P panels: the panels' heads (stride 0) or `c` itself.
    pub(super) init: *const u32,
    pub(super) init_stride: usize,
    /// From one panel's columns to the next in `init`.
    pub(super) init_panel: usize,
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
    /// Where the sums are complete.
    pub(super) finish: Option<Finish>,
}

/// What this tile asks for so that the next panel lies in the second-level cache when its turn comes.
#[derive(Clone, Copy)]
pub(super) struct Next {
    pub(super) start: *const u32,
    /// Words for each word of k.
    pub(super) step: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Finish {
    /// The first panel's head.
    pub(super) head: *const u32,
    /// One for each row of x, where the format has them.
    pub(super) scales: *const f32,
}

/// # Safety
/// With R rows and P panels: `x` is readable for R rows of `steps`, `b` for P panels of as many words as the steps
/// need and a word before each, `init` for R rows of P panels, the heads of P panels and R scales, and `c` is writable for
/// R rows of P panels, at their strides.
#[inline(always)]
pub(super) unsafe fn tile<I: Isa, F: Format<I>, const R: usize, const P: usize>(isa: I, t: Tile<F::X>) {
    let mut sums = [[[F::sum(isa, isa.splat_word(0)); 2]; P]; R];
    for (r, row) in sums.iter_mut().enumerate() {
        for (p, [left, right]) in row.iter_mut().enumerate() {
            // SAFETY: inside row r, panel p of `init`.
            unsafe {
                let init = t.init.add(r * t.init_stride + p * t.init_panel);
                *left = F::sum(isa, isa.load_words(init));
                *right = F::sum(isa, isa.load_words(init.add(I::LANES)));
            }
        }
    }
    for i in 0..t.steps {
        // SAFETY: one of the steps.
        unsafe { add_step::<I, F, R, P>(isa, &t, i, &mut sums) };
    }
    match t.finish {
        // Apart from the others, so that there is no choice between a sum and its store.
        Some(Finish { head, scales }) if F::SCALED => {
            for (r, row) in sums.iter().enumerate() {
                // SAFETY: R scales.
                let scale = isa.splat(unsafe { *scales.add(r) });
                for (p, vectors) in row.iter().enumerate() {
                    for (i, sum) in vectors.iter().enumerate() {
                        // SAFETY: inside row r, panel p of `c` and of the heads.
                        unsafe {
                            let result = F::finish(isa, *sum, scale, head.add(p * t.b_stride + i * I::LANES));
                            isa.store(t.c.add(r * t.c_stride + p * I::PANEL + i * I::LANES), result);
                        }
                    }
                }
            }
        }
        _ => {
            for (r, row) in sums.iter().enumerate() {
                for (p, vectors) in row.iter().enumerate() {
                    for (i, sum) in vectors.iter().enumerate() {
                        // SAFETY: inside row r, panel p of `c`.
                        unsafe {
                            let c = t.c.add(r * t.c_stride + p * I::PANEL + i * I::LANES);
                            isa.store_words(c.cast(), F::bits(isa, *sum));
                        }
                    }
                }
            }
        }
    }
}

/// # Safety
/// That of [`tile`]; `i` is one of its steps.
#[inline(always)]
unsafe fn add_step<I: Isa, F: Format<I>, const R: usize, const P: usize>(
    isa: I,
    t: &Tile<F::X>,
    i: usize,
    sums: &mut [[[F::Sum; 2]; P]; R],
) {
    let (k, step) = (i / F::STEPS, i % F::STEPS);
    let b = t.b.wrapping_add(k * I::PANEL);
    if P == 1 {
        isa.prefetch(b.wrapping_add(AHEAD * I::PANEL));
        isa.prefetch(b.wrapping_add(AHEAD * I::PANEL + I::LANES));
        isa.prefetch_far(t.next.start.wrapping_add(k * t.next.step));
    }
    // SAFETY: word k of the first panel; before it is the panel's head.
    let mut weights = [[unsafe { F::weight(isa, b, step) }; 2]; P];
    for (p, [left, right]) in weights.iter_mut().enumerate() {
        // SAFETY: word k of panel p.
        unsafe {
            let b = b.add(p * t.b_stride);
            *left = F::weight(isa, b, step);
            *right = F::weight(isa, b.add(I::LANES), step);
        }
    }
    for (r, row) in sums.iter_mut().enumerate() {
        // SAFETY: a step of row r < R.
        let x = F::splat(isa, unsafe { *t.x.add(r * t.x_stride + i) });
        for ([left, right], [u, v]) in row.iter_mut().zip(weights) {
            *left = F::multiply_add(isa, *left, x, u);
            *right = F::multiply_add(isa, *right, x, v);
        }
    }
}
