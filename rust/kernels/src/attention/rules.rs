//! From the scores of a query to its weights: the keys in its reach, the bias of their distances, the softmax, dropout.

use std::ops::Range;

use crate::dropout::Dropout;
use crate::isa::Isa;
use crate::mat::Mat;
use crate::math::tanh;
use crate::rows::{map_in_place, update, zip_map};
use crate::softmax::exp_row;

/// Those of one sequence and of the query heads from one on.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) scale: f32,
    pub(super) soft_cap: Option<f32>,
    /// How far behind and ahead of itself a query attends.
    pub(super) reach: [usize; 2],
    /// (.., 2 reach - 1)
    pub(super) bias: Option<Mat<'a>>,
    /// With the row number of the first query and head, and from one query to the next.
    pub(super) dropout: Option<(Dropout, u64, u64)>,
}

impl Rules<'_> {
    /// Those of the `i`th of the heads, which is then the first.
    #[inline(always)]
    pub(super) fn of_head(&self, i: usize) -> Self {
        let bias = self.bias.map(|bias| bias.rows_of(i..bias.rows()));
        Rules { bias, dropout: self.dropout.map(|(dropout, first, step)| (dropout, first + i as u64, step)), ..*self }
    }

    /// Whether every query reaches every key.
    pub(super) fn unlimited(&self) -> bool {
        self.reach == [usize::MAX; 2]
    }

    /// Which of so many keys are in the reach of any of the queries.
    #[inline(always)]
    pub(super) fn keys(&self, queries: Range<usize>, attended: usize) -> Range<usize> {
        let [behind, ahead] = self.reach;
        let end = queries.end.saturating_add(ahead).min(attended);
        queries.start.saturating_sub(behind).min(end)..end
    }

    /// Likewise, and those before the first in its panel of so many.
    pub(super) fn panels(&self, queries: Range<usize>, attended: usize, panel: usize) -> Range<usize> {
        let keys = self.keys(queries, attended);
        keys.start / panel * panel..keys.end
    }

    /// A query's scores for these keys -> `e^(score - max)`, the score scaled, capped and biased, and the sum of these.
    #[inline(always)]
    #[rustfmt::skip]
    pub(super) fn exp<I: Isa>(&self, isa: I, query: usize, keys: &Range<usize>, row: &mut [f32]) -> f32 {
        let mut scale = self.scale;
        if let Some(cap) = self.soft_cap {
            let (inner, cap) = (isa.splat(scale / cap), isa.splat(cap));
            map_in_place(isa, row, #[inline(always)] |s| isa.mul(cap, tanh(isa, isa.mul(s, inner)).0));
            scale = 1.0;
        }
        if let Some(table) = self.bias {
            let (factor, bias) = (isa.splat(scale), &table.row(0)[distances(table.cols(), query, keys)]);
            update(isa, [&mut *row], [bias], #[inline(always)] |[s], [b]| [isa.mul_add(s, factor, b)]);
            scale = 1.0;
        }
        exp_row(isa, row, scale)
    }

    /// A query's scores -> the derivatives of what the cap makes of them, once scaled; all is left as it is where there is no cap.
    #[inline(always)]
    #[rustfmt::skip]
    pub(super) fn slopes<I: Isa>(&self, isa: I, row: &[f32], slopes: &mut [f32]) {
        if let Some(cap) = self.soft_cap {
            let inner = isa.splat(self.scale / cap);
            zip_map(isa, [row], slopes, #[inline(always)] |[s]| tanh(isa, isa.mul(s, inner)).1);
        }
    }

    /// Dropout of a query's weights for these keys, or of their gradient.
    #[inline(always)]
    pub(super) fn drop<I: Isa>(&self, isa: I, query: usize, keys: &Range<usize>, row: &mut [f32]) {
        if let Some((dropout, first, step)) = self.dropout {
            dropout.row(isa, first + query as u64 * step, keys.start, row);
        }
    }
}

/// Where the distances from a query to keys stand in a row of so many columns, distance 0 in its middle.
pub(super) fn distances(columns: usize, query: usize, keys: &Range<usize>) -> Range<usize> {
    let first = keys.start + columns / 2 - query;
    first..first + keys.len()
}

/// What a row for keys `first..` holds for `keys`; the others get zeros.
#[inline(always)]
pub(super) fn only<'a>(row: &'a mut [f32], first: usize, keys: &Range<usize>) -> &'a mut [f32] {
    if keys.len() == row.len() {
        return row;
    }
    let (before, rest) = row.split_at_mut(keys.start - first);
    let (row, after) = rest.split_at_mut(keys.len());
    before.fill(0.0);
    after.fill(0.0);
    row
}
