//! One thread's share of a product: some rows of x times some panels of weights.
//!
//!   for each block of rows (its x stays in the second-level cache)
//!     for each slice of k (a slice of a panel stays in the first- or second-level cache)
//!       for each panel
//!         for each register tile of rows
//!
//! Rows are spread evenly over tiles (16 rows are 8 + 8, not 14 + 2), for a short tile waits on the latency of its
//! own sums. With at most four rows there is one tile, and it takes several panels at a time for the same reason.

use std::ops::Range;

use super::format::Format;
use super::tile::{Finish, Next, Tile, tile};
use crate::isa::{Isa, MAX_PANEL, MAX_TILE_ROWS};
use crate::mat::{Mat, MatMut};

/// Rows of x that are multiplied with every panel before the next rows are touched, in words.
const BLOCK_WORDS: usize = 96 * 1024;
/// The slice of k that a panel is cut into when many rows share it, in words.
const SLICE: usize = 1024;

/// Panels of weights: each a head, then `depth` rows of words.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    pub(crate) data: &'a [u32],
    pub(crate) depth: usize,
}

impl<'a> Panels<'a> {
    /// From one panel to the next.
    #[inline(always)]
    fn stride<I: Isa, F: Format<I>>(self) -> usize {
        (F::HEAD + self.depth) * I::PANEL
    }

    /// Those from the panel that holds this column on.
    #[inline(always)]
    fn starting_at<I: Isa, F: Format<I>>(self, column: usize) -> Self {
        Panels { data: &self.data[column / I::PANEL * self.stride::<I, F>()..], ..self }
    }

    /// What the `i`th of `count` tiles asks for: its share of the slice `k` of the second panel, in whole lines per word of k.
    /// Where there is no such panel it asks in vain.
    #[inline(always)]
    fn next<I: Isa, F: Format<I>>(self, k: &Range<usize>, i: usize, count: usize) -> Next {
        let step = I::PANEL.div_ceil(count);
        let start = self.stride::<I, F>() + (F::HEAD + k.start) * I::PANEL + i * k.len() * step;
        Next { start: self.data.as_ptr().wrapping_add(start), step }
    }
}

/// Rows that a product reads, with a scale for each where the format has them.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, X> {
    pub(crate) mat: Mat<'a, X>,
    pub(crate) scales: &'a [f32],
}

impl<'a, X: Copy> Rows<'a, X> {
    #[inline(always)]
    pub(crate) fn plain(mat: Mat<'a, X>) -> Self {
        Rows { mat, scales: &[] }
    }

    #[inline(always)]
    fn some(self, rows: Range<usize>) -> Self {
        let scales = if self.scales.is_empty() { self.scales } else { &self.scales[rows.clone()] };
        Rows { mat: self.mat.rows_of(rows), scales }
    }
}

/// `finish(init + x b)`, for as many columns as there are from the first panel's first on. `done(tile, rows, columns)` is given
/// each finished tile while it is in the cache. It lies in `c`, where there is one; else it is gone afterwards.
#[inline(always)]
pub(crate) fn multiply<I: Isa, F: Format<I>>(
    isa: I,
    x: Rows<F::X>,
    b: Panels,
    columns: usize,
    mut c: Option<MatMut>,
    mut done: impl FnMut(&mut MatMut, Range<usize>, Range<usize>),
) {
    let (all, depth) = (x.mat.rows(), b.depth);
    assert!(x.mat.cols().div_ceil(F::STEPS) == depth, "multiply: the shapes of x and b");
    assert!(c.as_ref().is_none_or(|c| (c.rows(), c.cols()) == (all, columns)), "multiply: the shape of c");
    assert!(!F::SCALED || x.scales.len() == all, "multiply: a scale for each row");
    assert!(b.data.len() >= columns.div_ceil(I::PANEL) * b.stride::<I, F>(), "multiply: b has too few panels");
    let block = (BLOCK_WORDS / depth.max(1)).max(2 * I::TILE_ROWS);
    let mut scratch = [0.0; MAX_TILE_ROWS * MAX_PANEL];
    for first in (0..all).step_by(block) {
        let rows = first..all.min(first + block);
        // Sums that are not complete wait in `c`.
        let slice = if rows.len() <= I::TILE_ROWS || c.is_none() { depth.max(1) } else { SLICE };
        for k in (0..depth.max(1)).step_by(slice) {
            let k = k..depth.min(k + slice);
            let mut column = 0;
            while column < columns {
                let panels = panels_at_once::<I>(rows.len());
                let panels = if (columns - column) / I::PANEL >= panels { panels } else { 1 };
                let width = (panels * I::PANEL).min(columns - column);
                let here = column..column + width;
                let begin = b.starting_at::<I, F>(column);
                for (i, tile_rows) in tiles(rows.clone(), I::TILE_ROWS).enumerate() {
                    let next = begin.next::<I, F>(&k, i, rows.len().div_ceil(I::TILE_ROWS));
                    let x = x.some(tile_rows.clone());
                    let mut out = c.as_mut().map(|c| c.reborrow().into_block(tile_rows.clone(), here.clone()));
                    let mut tile = match out.take_if(|_| width.is_multiple_of(I::PANEL)) {
                        Some(out) => out,
                        None => beside(&mut scratch, tile_rows.len(), panels * I::PANEL, k.start, &mut out),
                    };
                    sum_tile::<I, F>(isa, x, begin, &mut tile, k.clone(), next);
                    let mut tile = tile.into_block(0..tile_rows.len(), 0..width);
                    if k.end == depth {
                        done(&mut tile, tile_rows.clone(), here.clone());
                    }
                    if let Some(out) = &mut out {
                        (0..tile_rows.len()).for_each(|r| out.row_mut(r).copy_from_slice(tile.row_mut(r)));
                    }
                }
                column = here.end;
            }
        }
    }
}

/// Whole panels for a tile whose place has less, with the sums so far, if k does not begin here.
#[inline(always)]
fn beside<'a>(scratch: &'a mut [f32], rows: usize, width: usize, k: usize, out: &mut Option<MatMut>) -> MatMut<'a> {
    let mut tile = MatMut::dense(&mut scratch[..rows * width], rows, width);
    if let Some(out) = out
        && k > 0
    {
        (0..rows).for_each(|r| tile.row_mut(r)[..out.cols()].copy_from_slice(out.row_mut(r)));
    }
    tile
}

/// Panels that a tile of few rows takes together: enough sums to hide the latency, as many as the registers hold.
#[inline(always)]
fn panels_at_once<I: Isa>(rows: usize) -> usize {
    match (I::TILE_ROWS, rows) {
        (14.., 1 | 2) => 4,
        (14.., 3 | 4) => 2,
        (6.., 1) => 4,
        (6.., 2) => 2,
        _ => 1,
    }
}

/// `rows` cut evenly into tiles of at most `most` rows.
#[inline(always)]
#[rustfmt::skip]
pub(super) fn tiles(rows: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let count = rows.len().div_ceil(most);
    (0..count).map(#[inline(always)] move |i| {
        rows.start + rows.len() * i / count..rows.start + rows.len() * (i + 1) / count
    })
}

/// One register tile over one slice of k, in words: adds the slice's products to `out`, or begins it where the slice is the
/// first. `begin` is where the first of its panels begins.
#[inline(always)]
fn sum_tile<I: Isa, F: Format<I>>(
    isa: I,
    x: Rows<F::X>,
    begin: Panels,
    out: &mut MatMut,
    slice: Range<usize>,
    next: Next,
) {
    let (rows, panels, b_stride) = (out.rows(), out.cols() / I::PANEL, begin.stride::<I, F>());
    assert!(begin.data.len() >= panels * b_stride && x.mat.rows() == rows, "a tile inside its operands");
    let (c, c_stride) = (out.as_mut_ptr(), out.stride());
    let head = begin.data.as_ptr();
    let (init, init_stride, init_panel) =
        if slice.start == 0 { (head, 0, b_stride) } else { (c.cast_const().cast(), c_stride, I::PANEL) };
    let steps = slice.start * F::STEPS..x.mat.cols().min(slice.end * F::STEPS);
    let t = Tile {
        x: x.mat.block(0..rows, steps.clone()).as_ptr(),
        x_stride: x.mat.stride(),
        steps: steps.len(),
        b: begin.data[(F::HEAD + slice.start) * I::PANEL..].as_ptr(),
        b_stride,
        next,
        init,
        init_stride,
        init_panel,
        c,
        c_stride,
        finish: (slice.end == begin.depth).then_some(Finish { head, scales: x.scales.as_ptr() }),
    };
    // SAFETY: `out` has `rows` rows of `panels` panels, x as many rows (and scales: `multiply`) and the slice's steps, and
    // `begin` holds the panels.
    unsafe { tile_of::<I, F>(isa, rows, panels, t) };
}

/// The instance of [`tile`] for the given rows and panels.
///
/// # Safety
/// That of [`tile`].
#[inline(always)]
unsafe fn tile_of<I: Isa, F: Format<I>>(isa: I, rows: usize, panels: usize, t: Tile<F::X>) {
    macro_rules! instances {
        ($(($r:literal, $p:literal))*) => {
            match (rows, panels) {
                // The guard is a constant: a tile that is too tall for the registers is not compiled.
                // SAFETY: the caller's promise.
                $(($r, $p) if $r <= I::TILE_ROWS => unsafe { tile::<I, F, $r, $p>(isa, t) },)*
                _ => unreachable!("no tile of {rows} rows by {panels} panels"),
            }
        };
    }
    instances! {
        (1, 1) (2, 1) (3, 1) (4, 1) (5, 1) (6, 1) (7, 1) (8, 1) (9, 1) (10, 1) (11, 1) (12, 1) (13, 1) (14, 1)
        (1, 4) (2, 4) (1, 2) (2, 2) (3, 2) (4, 2)
    }
}
