//! Disentangled attention: to the score of a query for a key their distance adds what it says to either.
//!
//!   scale (q_i k_j + q_i pos_key[place(i - j)] + k_j pos_query[place(i - j)])
//!
//! Distances share rows of pos_key and pos_query, far ones more of them. So products are with rows, and what a pair needs is
//! gathered: of `Q pos_key^T` block of queries by block, and of `K pos_query^T`, computed once; of either only the rows
//! that the distances at hand need. On the way back the gradients of scores are summed up by rows and go through the same products.
//! (He et al. 2020, arXiv 2006.03654, section 3.)

use std::ops::Range;

use super::operands::Operands;
use super::{BLOCK, pack_keys};
use crate::buffer::words_of_mut;
use crate::gemm::{Float32, Panels, Rows, multiply, outer};
use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::{Mat, MatMut, padded_stride};
use crate::rows::update;

/// What the distance from a key to a query adds to their score.
#[derive(Clone, Copy)]
pub struct Positions<'a> {
    /// pos_key (P, heads x D), with which queries are multiplied; None adds nothing.
    pub keys: Option<Mat<'a>>,
    /// pos_query (P, heads x D), with which keys are multiplied; None adds nothing.
    pub queries: Option<Mat<'a>>,
    /// (2 reach - 1,): the row of distance i - j is `places[i - j + reach - 1]`. The reach is at least the longest sequence.
    pub places: &'a [u32],
}

impl Positions<'_> {
    /// P.
    pub(super) fn count(&self) -> usize {
        self.keys.or(self.queries).map_or(0, |x| x.rows())
    }

    /// # Panics
    /// If they do not fit sequences of up to `longest` tokens or so many columns of queries and keys.
    pub(super) fn check(&self, longest: usize, columns: usize) {
        let mut given = [self.keys, self.queries].into_iter().flatten();
        assert!(given.all(|x| (x.rows(), x.cols()) == (self.count(), columns)), "attention: positions");
        let fit = self.places.len() % 2 == 1 && self.places.len() >= 2 * longest.max(1) - 1;
        let there = self.count() == 0 || self.places.iter().all(|place| (*place as usize) < self.count());
        assert!(fit && there, "attention: places");
    }
}

/// Floats of scratch that each thread needs in [`attention`](super::attention) beside
/// [`attention_scratch`](super::attention_scratch) where there are [`Positions`], P of them.
pub fn positions_scratch(level: Level, length: usize, head_dim: usize, positions: usize) -> usize {
    let [panels, block, by_key] = sizes(level, length, head_dim, positions);
    panels + block + by_key
}

/// Likewise in [`attention_backward`](super::attention_backward), beside
/// [`attention_backward_scratch`](super::attention_backward_scratch).
pub fn positions_backward_scratch(level: Level, length: usize, head_dim: usize, positions: usize) -> usize {
    let [_, _, by_key] = sizes(level, length, head_dim, positions);
    positions_scratch(level, length, head_dim, positions) + by_key + rows_size(level, head_dim, positions)
}

/// Of the fields of [`Relative`].
fn sizes(level: Level, length: usize, head_dim: usize, positions: usize) -> [usize; 3] {
    let (columns, stride) = (positions.next_multiple_of(level.panel()), padded_stride(positions));
    [columns * (head_dim + 1), BLOCK.min(length) * stride, length * stride]
}

/// Of panels with a position in each row.
fn rows_size(level: Level, head_dim: usize, positions: usize) -> usize {
    head_dim.next_multiple_of(level.panel()) * (positions + 1)
}

/// The positions for one head of one sequence.
pub(super) struct Relative<'a> {
    level: Level,
    /// (P, D) each.
    keys: Option<Mat<'a>>,
    queries: Option<Mat<'a>>,
    places: &'a [u32],
    length: usize,
    /// The rows of positions that the sequence needs, from the first of a panel on: U of them.
    used: Range<usize>,
    /// With a used row of `keys` in each column.
    panels: &'a mut [u32],
    /// (up to BLOCK, U): a block of queries times these.
    block: &'a mut [f32],
    /// (keys, U): the sequence's keys times `queries`.
    by_key: &'a mut [f32],
}

impl<'a> Relative<'a> {
    /// For the head in these columns, so many queries, and their keys k (keys, D).
    pub(super) fn new(
        level: Level,
        positions: Positions<'a>,
        columns: Range<usize>,
        length: usize,
        k: Mat,
        scratch: &'a mut [f32],
    ) -> Self {
        let own = |x: Mat<'a>| x.block(0..x.rows(), columns.clone());
        let (keys, queries, places) = (positions.keys.map(own), positions.queries.map(own), positions.places);
        let [panels, block, by_key] = sizes(level, length, k.cols(), positions.count());
        let (panels, scratch) = scratch.split_at_mut(panels);
        let (block, scratch) = scratch.split_at_mut(block);
        let (panels, by_key) = (words_of_mut(panels), &mut scratch[..by_key]);
        let mut new = Relative { level, keys, queries, places, length, used: 0..0, panels, block, by_key };
        new.used = new.rows(&(0..length), &(0..k.rows()));
        new.multiply_keys(k);
        if let Some(x) = new.keys {
            dispatch_floats(level, Pack { x: x.rows_of(new.used.clone()), by_columns: true, out: new.panels });
        }
        new
    }

    /// The rows of positions that these pairs need, and those before the first in its panel.
    fn rows(&self, queries: &Range<usize>, keys: &Range<usize>) -> Range<usize> {
        if queries.is_empty() || keys.is_empty() {
            return 0..0;
        }
        let reach = self.places.len().div_ceil(2);
        let places = &self.places[queries.start + reach - keys.end..queries.end + reach - 1 - keys.start];
        let (first, last) = places.iter().fold((u32::MAX, 0), |(a, b), x| (a.min(*x), b.max(*x)));
        first as usize / self.level.panel() * self.level.panel()..last as usize + 1
    }

    fn multiply_keys(&mut self, k: Mat) {
        let Some(x) = self.queries else { return };
        dispatch_floats(self.level, Pack { x: x.rows_of(self.used.clone()), by_columns: true, out: self.panels });
        for keys in blocks(k.rows()) {
            let rows = self.rows(&(0..self.length), &keys);
            let b = Panels { data: &self.panels[self.panel(&rows, k.cols())..], depth: k.cols() };
            let (used, stride) = (self.used.len(), padded_stride(self.used.len()));
            let by_key = MatMut::new(self.by_key, k.rows(), used, stride);
            let out = by_key.into_block(keys.clone(), rows.start - self.used.start..rows.end - self.used.start);
            dispatch_floats(self.level, Product { x: k.rows_of(keys), b, out, add: false });
        }
    }

    /// Where the panel that begins with the first of these rows lies.
    fn panel(&self, rows: &Range<usize>, dim: usize) -> usize {
        (rows.start - self.used.start) * (dim + 1)
    }

    /// Adds to the scores of a block of queries, q (queries, D), for some keys.
    pub(super) fn add(&mut self, q: Mat, queries: &Range<usize>, keys: &Range<usize>, scores: &mut MatMut) {
        if self.keys.is_some() {
            let rows = self.rows(queries, keys);
            let b = Panels { data: &self.panels[self.panel(&rows, q.cols())..], depth: q.cols() };
            let stride = padded_stride(rows.len());
            let out = MatMut::new(self.block, queries.len(), rows.len(), stride);
            dispatch_floats(self.level, Product { x: q, b, out, add: false });
            for_each_tile(self.places, queries, keys, |r, tile, places| {
                let products = &self.block[r * stride..][..rows.len()];
                let scores = &mut scores.row_mut(r)[tile.start - keys.start..];
                for (score, place) in scores.iter_mut().zip(places.iter().rev()) {
                    *score += products[*place as usize - rows.start];
                }
            });
        }
        if self.queries.is_some() {
            let (first, stride) = (self.used.start, padded_stride(self.used.len()));
            for_each_tile(self.places, queries, keys, |r, tile, places| {
                let scores = &mut scores.row_mut(r)[tile.start - keys.start..];
                for ((score, place), key) in scores.iter_mut().zip(places.iter().rev()).zip(tile) {
                    *score += self.by_key[key * stride + *place as usize - first];
                }
            });
        }
    }
}

/// The way back of [`Relative`].
pub(super) struct RelativeBackward<'a> {
    pub(super) there: Relative<'a>,
    /// With a row of positions in each.
    panels: &'a mut [u32],
    /// (keys, U): the gradient of `by_key`.
    by_key: &'a mut [f32],
    /// (P, D) each, where it is wanted: of `keys` and of `queries`.
    gradients: [Option<MatMut<'a>>; 2],
}

impl<'a> RelativeBackward<'a> {
    pub(super) fn new(
        level: Level,
        positions: Positions<'a>,
        columns: Range<usize>,
        length: usize,
        k: Mat,
        scratch: &'a mut [f32],
        gradients: [Option<MatMut<'a>>; 2],
    ) -> Self {
        let (dim, count) = (k.cols(), positions.count());
        let (own, scratch) = scratch.split_at_mut(positions_scratch(level, length, dim, count));
        let (panels, by_key) = scratch.split_at_mut(rows_size(level, dim, count));
        let there = Relative::new(level, positions, columns, length, k, own);
        let by_key = &mut by_key[..k.rows() * padded_stride(there.used.len())];
        by_key.fill(0.0);
        RelativeBackward { there, panels: words_of_mut(panels), by_key, gradients }
    }

    /// The gradient of the scores of a block of queries for some keys: adds to dq (queries, D) what these added.
    pub(super) fn add(&mut self, q: Mat, queries: &Range<usize>, keys: &Range<usize>, d_scores: Mat, dq: MatMut) {
        let places = self.there.places;
        if let Some(positions) = self.there.keys {
            let rows = self.there.rows(queries, keys);
            let mut block = MatMut::dense(self.there.block, queries.len(), rows.len());
            block.fill(0.0);
            for_each_tile(places, queries, keys, |r, tile, places| {
                let (sums, d) = (block.row_mut(r), &d_scores.row(r)[tile.start - keys.start..]);
                for (d, place) in d.iter().zip(places.iter().rev()) {
                    sums[*place as usize - rows.start] += d;
                }
            });
            let block = Mat::dense(self.there.block, queries.len(), rows.len());
            back(self.there.level, block, positions, &rows, q, self.panels, dq, &mut self.gradients[0]);
        }
        if self.there.queries.is_some() {
            let (first, stride) = (self.there.used.start, padded_stride(self.there.used.len()));
            for_each_tile(places, queries, keys, |r, tile, places| {
                let d = &d_scores.row(r)[tile.start - keys.start..];
                for ((d, place), key) in d.iter().zip(places.iter().rev()).zip(tile) {
                    self.by_key[key * stride + *place as usize - first] += d;
                }
            });
        }
    }

    /// Adds to the gradient of the keys, when all queries are done.
    pub(super) fn finish(mut self, k: Mat, mut dk: MatMut) {
        let Some(positions) = self.there.queries else { return };
        let used = self.there.used.clone();
        let by_key = Mat::new(self.by_key, k.rows(), used.len(), padded_stride(used.len()));
        for keys in blocks(k.rows()) {
            let rows = self.there.rows(&(0..self.there.length), &keys);
            let d = by_key.block(keys.clone(), rows.start - used.start..rows.end - used.start);
            let (k, dk) = (k.rows_of(keys.clone()), dk.reborrow().into_block(keys, 0..k.cols()));
            back(self.there.level, d, positions, &rows, k, self.panels, dk, &mut self.gradients[1]);
        }
    }
}

/// From the gradient d (M, R) of the products of x (M, D) with some rows of positions: adds to dx and to the positions' own.
#[expect(clippy::too_many_arguments, reason = "a product's operands and their gradients")]
fn back(
    level: Level,
    d: Mat,
    positions: Mat,
    rows: &Range<usize>,
    x: Mat,
    panels: &mut [u32],
    dx: MatMut,
    gradient: &mut Option<MatMut>,
) {
    let dim = x.cols();
    dispatch_floats(level, Pack { x: positions.rows_of(rows.clone()), by_columns: false, out: panels });
    dispatch_floats(level, Product { x: d, b: Panels { data: panels, depth: rows.len() }, out: dx, add: true });
    if let Some(gradient) = gradient {
        let c = gradient.reborrow().into_block(rows.clone(), 0..dim);
        dispatch_floats(level, Outer { x: d, b: x, c });
    }
}

fn blocks(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(BLOCK).map(move |first| first..rows.min(first + BLOCK))
}

/// For the pairs of queries and keys by tiles, whose lines of products stay in the first-level cache: the query's number among
/// these, the keys, and their places, the last key's first.
fn for_each_tile(
    places: &[u32],
    queries: &Range<usize>,
    keys: &Range<usize>,
    mut f: impl FnMut(usize, Range<usize>, &[u32]),
) {
    const TILE: usize = 64;
    let reach = places.len().div_ceil(2);
    for start in keys.clone().step_by(TILE) {
        let tile = start..keys.end.min(start + TILE);
        for (r, query) in queries.clone().enumerate() {
            f(r, tile.clone(), &places[query + reach - tile.end..query + reach - tile.start]);
        }
    }
}

/// `out = x b`, or added to it.
struct Product<'a> {
    x: Mat<'a>,
    b: Panels<'a>,
    out: MatMut<'a>,
    add: bool,
}

impl Kernel for Product<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(self, isa: I) {
        let columns = self.out.cols();
        let (out, mut sums) = if self.add { (None, Some(self.out)) } else { (Some(self.out), None) };
        multiply::<I, Float32>(isa, Rows::plain(self.x), self.b, columns, out, #[inline(always)] |tile, rows, columns| {
            if let Some(sums) = &mut sums {
                for (i, r) in rows.enumerate() {
                    let sums = &mut sums.row_mut(r)[columns.clone()];
                    update(isa, [sums], [&*tile.row_mut(i)], #[inline(always)] |[sum], [x]| [isa.add(sum, x)]);
                }
            }
        });
    }
}

/// Panels with a row of x in each column, or in each row.
struct Pack<'a> {
    x: Mat<'a>,
    by_columns: bool,
    out: &'a mut [u32],
}

impl Kernel for Pack<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if self.by_columns {
            pack_keys::<I, Float32>(isa, self.x, self.out);
        } else {
            Float32::pack_values(isa, self.x, self.out);
        }
    }
}

/// `c += x^T b`.
struct Outer<'a> {
    x: Mat<'a>,
    b: Mat<'a>,
    c: MatMut<'a>,
}

impl Kernel for Outer<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        outer(isa, self.x, self.b, self.c);
    }
}
