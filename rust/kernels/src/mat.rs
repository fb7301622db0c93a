//! Row-major views with a checked row stride.
//!
//! The stride may exceed the number of columns. Workspaces use that (see [`padded_stride`]): rows that lie a
//! multiple of 4 KiB apart fall into the same cache set and push each other out.

use std::marker::PhantomData;
use std::ops::Range;

use crate::buffer::words_of;

/// A row stride for `cols` columns that keeps neighbouring rows in different cache sets: an odd number of cache lines.
pub fn padded_stride(cols: usize) -> usize {
    (cols.div_ceil(16) | 1) * 16
}

/// A view of `rows` x `cols` elements: floats, or words that hold several smaller numbers.
#[derive(Clone, Copy)]
pub struct Mat<'a, T = f32> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

/// Elements that a view spans.
fn span(rows: usize, cols: usize, stride: usize) -> usize {
    assert!(cols <= stride || rows <= 1, "a row of {cols} does not fit a stride of {stride}");
    if rows == 0 {
        0
    } else {
        (rows - 1).checked_mul(stride).and_then(|n| n.checked_add(cols)).expect("view too large")
    }
}

impl<'a, T: Copy> Mat<'a, T> {
    /// # Panics
    /// If `data` is too short.
    pub fn new(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Self {
        let data = &data[..span(rows, cols, stride)];
        Self { data, rows, cols, stride }
    }

    /// Rows that follow each other without a gap.
    pub fn dense(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::new(data, rows, cols, cols)
    }

    pub fn rows(&self) -> usize {
        self.rows
    }
    pub fn cols(&self) -> usize {
        self.cols
    }
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }
    pub(crate) fn as_ptr(&self) -> *const T {
        self.data.as_ptr()
    }

    #[inline(always)]
    pub fn row(&self, r: usize) -> &'a [T] {
        assert!(r < self.rows);
        &self.data[r * self.stride..][..self.cols]
    }

    pub fn rows_of(&self, rows: Range<usize>) -> Mat<'a, T> {
        self.block(rows, 0..self.cols)
    }

    pub fn block(&self, rows: Range<usize>, cols: Range<usize>) -> Mat<'a, T> {
        assert!(rows.end <= self.rows && cols.end <= self.cols);
        if rows.is_empty() {
            return Mat { data: &[], rows: 0, cols: cols.len(), stride: self.stride };
        }
        Mat::new(&self.data[rows.start * self.stride + cols.start..], rows.len(), cols.len(), self.stride)
    }
}

impl<'a> Mat<'a> {
    /// The same bits.
    pub fn words(self) -> Mat<'a, u32> {
        Mat { data: words_of(self.data), rows: self.rows, cols: self.cols, stride: self.stride }
    }
}

/// A writable view. It holds a pointer, not a slice, because views of neighbouring columns interleave in memory.
pub struct MatMut<'a, T = f32> {
    data: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    /// Whether nobody else has what lies between the rows.
    alone: bool,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: a MatMut is the only way to its elements, as a `&mut [T]` is.
unsafe impl<T: Send> Send for MatMut<'_, T> {}

impl<'a, T: Copy> MatMut<'a, T> {
    /// # Panics
    /// If `data` is too short.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Self {
        let data = data[..span(rows, cols, stride)].as_mut_ptr();
        Self { data, rows, cols, stride, alone: true, owner: PhantomData }
    }

    pub fn dense(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        Self::new(data, rows, cols, cols)
    }

    pub fn rows(&self) -> usize {
        self.rows
    }
    pub fn cols(&self) -> usize {
        self.cols
    }
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.data
    }

    #[inline(always)]
    pub fn row_mut(&mut self, r: usize) -> &mut [T] {
        assert!(r < self.rows);
        // SAFETY: row r lies inside the view, which `new` checked, and `self` is borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(r * self.stride), self.cols) }
    }

    /// The same view for a shorter time.
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut { ..*self }
    }

    /// To be read for a while.
    ///
    /// # Panics
    /// If others may write between the rows.
    /// Copies all elements of `x`, whose shape must be this one.
    pub fn copy(&mut self, x: Mat<T>) {
        assert_eq!((x.rows(), x.cols()), (self.rows, self.cols), "copy: shapes");
        (0..self.rows).for_each(|r| self.row_mut(r).copy_from_slice(x.row(r)));
    }

    pub fn view(&self) -> Mat<'_, T> {
        assert!(self.alone, "a view of some columns");
        // SAFETY: the elements from the first to the last are the view's own or, between its rows, nobody's else.
        let data = unsafe { std::slice::from_raw_parts(self.data, span(self.rows, self.cols, self.stride)) };
        Mat { data, rows: self.rows, cols: self.cols, stride: self.stride }
    }

    /// The first `rows` rows, and the others.
    pub fn split_rows(self, rows: usize) -> (MatMut<'a, T>, MatMut<'a, T>) {
        let (all, cols) = (self.rows, self.cols);
        // SAFETY: the two have no row in common.
        let first = MatMut { ..unsafe { std::ptr::read(&self) } };
        (first.into_block(0..rows, 0..cols), self.into_block(rows..all, 0..cols))
    }

    /// The first `cols` columns, and the others.
    pub fn split_cols(self, cols: usize) -> (MatMut<'a, T>, MatMut<'a, T>) {
        let (rows, all) = (self.rows, self.cols);
        // SAFETY: the two have no column in common.
        let first = MatMut { ..unsafe { std::ptr::read(&self) } };
        (first.into_block(0..rows, 0..cols), self.into_block(0..rows, cols..all))
    }

    pub fn fill(&mut self, value: T) {
        (0..self.rows).for_each(|r| self.row_mut(r).fill(value));
    }

    pub fn into_block(self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'a, T> {
        assert!(rows.start <= rows.end && rows.end <= self.rows);
        assert!(cols.start <= cols.end && cols.end <= self.cols);
        let offset = if rows.is_empty() { 0 } else { rows.start * self.stride + cols.start };
        // SAFETY: the offset is that of an element of the view (or 0).
        let data = unsafe { self.data.add(offset) };
        MatMut { data, rows: rows.len(), cols: cols.len(), alone: self.alone && cols.len() == self.cols, ..self }
    }
}

impl<'a> MatMut<'a> {
    /// The same memory for words.
    pub fn into_words(self) -> MatMut<'a, u32> {
        let MatMut { data, rows, cols, stride, alone, .. } = self;
        // A word is as large as a float and aligned alike, and any bits are either.
        MatMut { data: data.cast(), rows, cols, stride, alone, owner: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_odd_numbers_of_lines() {
        for cols in 1..5000 {
            let stride = padded_stride(cols);
            assert!(stride >= cols && stride % 32 == 16, "{cols} {stride}");
        }
    }

    #[test]
    fn blocks_see_their_elements() {
        let data: Vec<f32> = (0..35).map(|i| i as f32).collect();
        let mat = Mat::new(&data, 5, 6, 7);
        let block = mat.block(1..4, 2..5);
        assert_eq!((block.rows(), block.cols()), (3, 3));
        assert_eq!(block.row(2), [23.0, 24.0, 25.0]);
        assert_eq!(mat.block(5..5, 0..6).rows(), 0);
    }

    #[test]
    fn columns_may_be_written_side_by_side() {
        let mut data = vec![0.0; 12];
        MatMut::new(&mut data, 3, 4, 4).into_block(0..3, 2..4).row_mut(1).fill(5.0);
        assert_eq!(data, [0., 0., 0., 0., 0., 0., 5., 5., 0., 0., 0., 0.]);
    }

    #[test]
    fn rows_may_be_split() {
        let mut data = vec![0.0; 11];
        let (mut first, mut rest) = MatMut::new(&mut data, 3, 3, 4).split_rows(1);
        first.fill(1.0);
        rest.fill(2.0);
        assert_eq!((first.rows(), rest.rows(), first.view().rows()), (1, 2, 1));
        assert_eq!(data, [1., 1., 1., 0., 2., 2., 2., 0., 2., 2., 2.]);
        let (none, all) = MatMut::new(&mut data, 3, 3, 4).split_rows(0);
        assert_eq!((none.rows(), all.rows()), (0, 3));
        let (all, none) = all.split_rows(3);
        assert_eq!((all.rows(), none.rows()), (3, 0));
    }

    #[test]
    #[should_panic]
    fn a_view_longer_than_its_data_is_refused() {
        Mat::new(&[0.0; 10], 3, 4, 4);
    }

    #[test]
    fn blocks_of_blocks_and_their_writable_twins_agree() {
        let data: Vec<f32> = (0..70).map(|i| i as f32).collect();
        let mut copy = data.clone();
        let mat = Mat::new(&data, 7, 8, 10);
        for (rows, cols) in [(0..7, 0..8), (2..5, 3..4), (6..7, 7..8), (3..3, 8..8), (1..6, 5..5)] {
            let block = mat.block(rows.clone(), cols.clone());
            let mut twin = MatMut::new(&mut copy, 7, 8, 10).into_block(rows.clone(), cols.clone());
            assert_eq!((block.rows(), block.cols()), (rows.len(), cols.len()));
            assert_eq!((twin.rows(), twin.cols()), (rows.len(), cols.len()));
            for r in 0..rows.len() {
                assert_eq!(block.row(r), twin.row_mut(r));
                assert_eq!(block.row(r), mat.rows_of(rows.clone()).block(r..r + 1, cols.clone()).row(0));
            }
        }
    }

    #[test]
    fn the_last_row_needs_no_gap_behind_it() {
        assert_eq!(Mat::new(&[1.0; 9], 2, 4, 5).row(1), [1.0; 4]);
        assert_eq!(Mat::new(&[0.0; 0], 0, 4, 5).rows(), 0);
        assert_eq!(Mat::dense(&[0.0; 0], 3, 0).row(2), [0.0; 0]);
    }

    #[test]
    #[should_panic(expected = "does not fit a stride")]
    fn rows_that_overlap_are_refused() {
        MatMut::new(&mut [0.0; 10], 2, 4, 3);
    }

    #[test]
    #[should_panic(expected = "too large")]
    fn a_view_larger_than_memory_is_refused() {
        Mat::new(&[0.0; 10], usize::MAX, 2, 4);
    }

    #[test]
    #[should_panic]
    fn a_block_beyond_the_view_is_refused() {
        MatMut::new(&mut [0.0; 20], 3, 4, 6).into_block(0..3, 2..5);
    }
}
