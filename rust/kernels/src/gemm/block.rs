//! One thread's share of a product: some rows of A times some panels of B.
//!
//!   for each block of rows (its A stays in the second-level cache)
//!     for each slice of k (a slice of a panel stays in the first- or second-level cache)
//!       for each panel
//!         for each register tile of rows
//!
//! Rows are spread evenly over tiles (16 rows are 8 + 8, not 14 + 2), for a short tile waits on the latency of its
//! own sums. With at most four rows there is one tile, and it takes several panels at a time for the same reason.

use std::ops::Range;

use super::tile::{Tile, tile};
use crate::isa::{Isa, MAX_PANEL, MAX_TILE_ROWS};
use crate::mat::{Mat, MatMut};

/// Rows of A that are multiplied with every panel before the next rows are touched, in floats.
const BLOCK_FLOATS: usize = 96 * 1024;
/// The slice of k that a panel is cut into when many rows share it.
const SLICE: usize = 1024;

/// `depth` rows of weights per panel, each panel preceded by one row where the sums begin.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) depth: usize,
}

/// `c = init + a b` for all columns of `c`; `done(rows, columns)` is told of each finished tile, while it is in the cache.
///
/// The columns of `c` begin at a panel's first column: `b` begins at that panel.
#[inline(always)]
pub(crate) fn multiply<I: Isa>(
    isa: I,
    a: Mat,
    b: Panels,
    c: &mut MatMut,
    mut done: impl FnMut(&mut MatMut, Range<usize>, Range<usize>),
) {
    let panel_len = (b.depth + 1) * I::PANEL;
    assert!(a.cols() == b.depth && a.rows() == c.rows(), "multiply: the shapes of a, b and c");
    assert!(b.data.len() >= c.cols().div_ceil(I::PANEL) * panel_len, "multiply: b has too few panels");
    let block = (BLOCK_FLOATS / b.depth.max(1)).max(2 * I::TILE_ROWS);
    let mut first = 0;
    while first < a.rows() {
        let rows = first..a.rows().min(first + block);
        let few = rows.len() <= 4;
        let slice = if rows.len() <= I::TILE_ROWS { b.depth } else { SLICE };
        let mut k = 0;
        loop {
            let depth = slice.min(b.depth - k);
            let last = k + depth == b.depth;
            let mut column = 0;
            while column < c.cols() {
                let panels = if few { panels_at_once::<I>(rows.len()) } else { 1 };
                let whole = (c.cols() - column) / I::PANEL;
                let panels = if whole >= panels { panels } else { 1 };
                let columns = column..c.cols().min(column + panels * I::PANEL);
                for tile_rows in tiles(rows.clone(), I::TILE_ROWS) {
                    let begin = &b.data[columns.start / I::PANEL * panel_len..];
                    let out = c.reborrow().into_block(tile_rows.clone(), columns.clone());
                    step(isa, a.rows_of(tile_rows.clone()), begin, out, k..k + depth);
                    if last {
                        done(c, tile_rows, columns.clone());
                    }
                }
                column = columns.end;
            }
            k += depth;
            if last {
                break;
            }
        }
        first = rows.end;
    }
}

/// Panels that a tile of few rows takes together: enough sums to hide the latency, as many as the registers hold.
#[inline(always)]
fn panels_at_once<I: Isa>(rows: usize) -> usize {
    match (I::TILE_ROWS, rows) {
        (14.., 1 | 2) => 4,
        (14.., _) => 2,
        (6.., 1) => 4,
        (6.., 2) => 2,
        _ => 1,
    }
}

/// `rows` cut evenly into tiles of at most `most` rows.
#[inline(always)]
#[rustfmt::skip]
fn tiles(rows: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let count = rows.len().div_ceil(most);
    (0..count).map(#[inline(always)] move |i| {
        rows.start + rows.len() * i / count..rows.start + rows.len() * (i + 1) / count
    })
}

/// One register tile over one slice of k: adds the slice's products to `out`, or begins it where the slice is the first.
/// `begin` is where the first of its panels begins. A part of a panel is summed beside `out`, a whole panel wide.
#[inline(always)]
fn step<I: Isa>(isa: I, a: Mat, begin: &[f32], mut out: MatMut, slice: Range<usize>) {
    let columns = out.cols();
    if columns.is_multiple_of(I::PANEL) {
        return sum_tile(isa, a, begin, &mut out, slice);
    }
    let mut scratch = [0.0; MAX_TILE_ROWS * MAX_PANEL];
    let mut beside = MatMut::dense(&mut scratch, out.rows(), I::PANEL);
    if slice.start > 0 {
        for r in 0..out.rows() {
            beside.row_mut(r)[..columns].copy_from_slice(out.row_mut(r));
        }
    }
    sum_tile(isa, a, begin, &mut beside, slice);
    for r in 0..out.rows() {
        out.row_mut(r).copy_from_slice(&beside.row_mut(r)[..columns]);
    }
}

/// [`step`] for whole panels.
#[inline(always)]
fn sum_tile<I: Isa>(isa: I, a: Mat, begin: &[f32], out: &mut MatMut, slice: Range<usize>) {
    let (rows, panels, b_stride) = (out.rows(), out.cols() / I::PANEL, (a.cols() + 1) * I::PANEL);
    assert!(begin.len() >= panels * b_stride && a.rows() == rows, "a tile inside its operands");
    let (c, c_stride) = (out.as_mut_ptr(), out.stride());
    let (init, init_stride, init_panel) =
        if slice.start == 0 { (begin.as_ptr(), 0, b_stride) } else { (c.cast_const(), c_stride, I::PANEL) };
    let t = Tile {
        a: a.block(0..rows, slice.clone()).as_ptr(),
        a_stride: a.stride(),
        b: begin[(slice.start + 1) * I::PANEL..].as_ptr(),
        b_stride,
        depth: slice.len(),
        init,
        init_stride,
        init_panel,
        c,
        c_stride,
    };
    // SAFETY: `out` has `rows` rows of `panels` panels, `a` as many rows and the slice's columns, and `begin` holds the panels.
    unsafe { tile_of(isa, rows, panels, t) };
}

/// The instance of [`tile`] for the given rows and panels.
///
/// # Safety
/// That of [`tile`].
#[inline(always)]
unsafe fn tile_of<I: Isa>(isa: I, rows: usize, panels: usize, t: Tile) {
    macro_rules! instances {
        ($(($r:literal, $p:literal))*) => {
            match (rows, panels) {
                // The guard is a constant: a tile that is too tall for the registers is not compiled.
                // SAFETY: the caller's promise.
                $(($r, $p) if $r <= I::TILE_ROWS => unsafe { tile::<I, $r, $p>(isa, t) },)*
                _ => unreachable!("no tile of {rows} rows by {panels} panels"),
            }
        };
    }
    instances! {
        (1, 1) (2, 1) (3, 1) (4, 1) (5, 1) (6, 1) (7, 1) (8, 1) (9, 1) (10, 1) (11, 1) (12, 1) (13, 1) (14, 1)
        (1, 4) (2, 4) (1, 2) (2, 2) (3, 2) (4, 2)
    }
}
