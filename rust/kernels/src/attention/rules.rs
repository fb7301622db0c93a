//! From the scores of a query to its weights: the bias of its distances, the softmax, dropout.

use std::ops::Range;

use crate::dropout::Dropout;
use crate::isa::Isa;
use crate::mat::Mat;
use crate::rows::update;
use crate::softmax::exp_row;

/// Those of one head of one sequence.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) scale: f32,
    /// (1, 2 reach - 1)
    pub(super) bias: Option<Mat<'a>>,
    /// With the row number of the first query, and from one query to the next.
    pub(super) dropout: Option<(Dropout, u64, u64)>,
}

impl Rules<'_> {
    /// A query's scores for these keys -> `e^(score - max)`, the score scaled and biased, and the sum of these.
    #[inline(always)]
    #[rustfmt::skip]
    pub(super) fn exp<I: Isa>(&self, isa: I, query: usize, keys: &Range<usize>, row: &mut [f32]) -> f32 {
        let Some(table) = self.bias else {
            return exp_row(isa, row, self.scale);
        };
        let (scale, bias) = (isa.splat(self.scale), &table.row(0)[distances(table.cols(), query, keys)]);
        update(isa, [&mut *row], [bias], #[inline(always)] |[s], [b]| [isa.mul_add(s, scale, b)]);
        exp_row(isa, row, 1.0)
    }

    /// Dropout of a query's weights for all keys, or of their gradient.
    #[inline(always)]
    pub(super) fn drop<I: Isa>(&self, isa: I, query: usize, row: &mut [f32]) {
        if let Some((dropout, first, step)) = self.dropout {
            dropout.row(isa, first + query as u64 * step, row);
        }
    }
}

/// Where the distances from a query to keys stand in a row of so many columns, distance 0 in its middle.
pub(super) fn distances(columns: usize, query: usize, keys: &Range<usize>) -> Range<usize> {
    let first = keys.start + columns / 2 - query;
    first..first + keys.len()
}
