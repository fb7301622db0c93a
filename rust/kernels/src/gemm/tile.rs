//! The register tile: R rows of A times P panels of B, all sums in registers.
//!
//!   sum[r][c] = init[r][c];  for k: sum[r][c] += a[r][k] * b[k][c]
//!
//! Each element is one chain of fused multiply-adds in the order of k. It does not depend on R, P or where the
//! caller cuts k, because a cut stores the sum and goes on from it: so a row has the same bits in any company.

use crate::isa::Isa;

/// How many rows ahead a panel is asked for: panels come from the second-level cache or from further away. It brings 2 to
/// 4 % of the peak at BERT's shapes; to ask for the rows of `c` as well brings nothing. Where few rows read several panels
/// at a time, memory is the limit and the hardware's own prefetching does better alone.
const AHEAD: usize = 16;

/// What a tile reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) a: *const f32,
    pub(super) a_stride: usize,
    /// The first of P panels, at row k = 0.
    pub(super) b: *const f32,
    /// From one panel to the next.
    pub(super) b_stride: usize,
    pub(super) depth: usize,
    /// Where the sums begin, a row of P panels: a bias (stride 0) or `c` itself.
    pub(super) init: *const f32,
    pub(super) init_stride: usize,
    /// From one panel's columns to the next in `init`.
    pub(super) init_panel: usize,
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
}

/// # Safety
/// With R rows and P panels: `a` is readable for R rows of `depth`, `b` for P panels of `depth` rows, `init` for R rows of P
/// panels, and `c` is writable for R rows of P panels, at their strides.
#[inline(always)]
pub(super) unsafe fn tile<I: Isa, const R: usize, const P: usize>(isa: I, t: Tile) {
    let mut sums = [[[isa.splat(0.0); 2]; P]; R];
    for (r, row) in sums.iter_mut().enumerate() {
        for (p, [x, y]) in row.iter_mut().enumerate() {
            // SAFETY: inside row r, panel p of `init`.
            unsafe {
                let init = t.init.add(r * t.init_stride + p * t.init_panel);
                *x = isa.load(init);
                *y = isa.load(init.add(I::LANES));
            }
        }
    }
    for k in 0..t.depth {
        let mut weights = [[isa.splat(0.0); 2]; P];
        for (p, [x, y]) in weights.iter_mut().enumerate() {
            // SAFETY: row k < depth of panel p.
            unsafe {
                let b = t.b.add(p * t.b_stride + k * I::PANEL);
                if P == 1 {
                    isa.prefetch(b.wrapping_add(AHEAD * I::PANEL));
                    isa.prefetch(b.wrapping_add(AHEAD * I::PANEL + I::LANES));
                }
                *x = isa.load(b);
                *y = isa.load(b.add(I::LANES));
            }
        }
        for (r, row) in sums.iter_mut().enumerate() {
            // SAFETY: element k < depth of row r < R.
            let a = isa.splat(unsafe { *t.a.add(r * t.a_stride + k) });
            for ([x, y], [u, v]) in row.iter_mut().zip(weights) {
                *x = isa.mul_add(a, u, *x);
                *y = isa.mul_add(a, v, *y);
            }
        }
    }
    for (r, row) in sums.into_iter().enumerate() {
        for (p, [x, y]) in row.into_iter().enumerate() {
            // SAFETY: inside row r, panel p of `c`.
            unsafe {
                let c = t.c.add(r * t.c_stride + p * I::PANEL);
                isa.store(c, x);
                isa.store(c.add(I::LANES), y);
            }
        }
    }
}
