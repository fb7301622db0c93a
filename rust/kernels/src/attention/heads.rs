//! Whose attention it is: heads, sequences, and which keys a query attends to.

use std::ops::Range;

use super::disentangled::Positions;
use super::rules::Rules;
use crate::dropout::Dropout;
use crate::mat::Mat;

/// Whose attention it is.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    pub heads: usize,
    /// Heads of keys and values, a divisor of `heads`: query head h reads head h / (heads / key_heads) of these.
    /// (Ainslie et al. 2023, arXiv 2305.13245.)
    pub key_heads: usize,
    /// Sequence s has the rows `starts[s] - starts[0]..starts[s + 1] - starts[0]`.
    pub starts: &'a [usize],
    /// Where the keys of each sequence lie in theirs, if they are another's: as `starts`.
    pub source: Option<&'a [usize]>,
    /// (S,): how many keys of each sequence, the first ones, can be attended to; all where it is None.
    pub keys: Option<&'a [usize]>,
    pub scale: f32,
    /// How far behind and ahead of itself a query attends, by the keys' numbers in the sequence: `[w, w]` is a sliding window,
    /// `[usize::MAX, 0]` causal. Cost goes with it.
    pub reach: [usize; 2],
    /// Scaled scores s become `cap tanh(s / cap)`, within -cap..cap. (Gemma 2, arXiv 2408.00118.)
    pub soft_cap: Option<f32>,
    /// What is added to the scaled, and capped, scores.
    pub bias: Option<Bias<'a>>,
    /// What else the distance adds; with as many heads of keys, and operands in f32.
    pub positions: Option<Positions<'a>>,
    /// Of the probabilities: row number (starts[s] + query) heads + head, column key.
    pub dropout: Option<Dropout>,
}

/// A bias for each head and distance: query i's score for key j gets `table[head][j - i + reach - 1]`.
/// (Raffel et al. 2020, arXiv 1910.10683, section 2.1.)
#[derive(Clone, Copy)]
pub struct Bias<'a> {
    /// (heads, 2 reach - 1)
    pub table: &'a [f32],
    /// At least the longest sequence.
    pub reach: usize,
}

impl<'a> Heads<'a> {
    /// As many heads of keys, every row a key, in everyone's reach, without cap, bias, positions and dropout.
    pub fn new(heads: usize, starts: &'a [usize], scale: f32) -> Self {
        Heads {
            heads,
            key_heads: heads,
            starts,
            source: None,
            keys: None,
            scale,
            reach: [usize::MAX; 2],
            soft_cap: None,
            bias: None,
            positions: None,
            dropout: None,
        }
    }

    /// Query heads to a key head.
    pub(super) fn group(&self) -> usize {
        self.heads / self.key_heads
    }

    pub(super) fn sequences(&self) -> usize {
        self.starts.len() - 1
    }

    /// The rows of sequence s, of queries and of keys.
    pub(super) fn rows(&self, s: usize) -> [Range<usize>; 2] {
        let [rows, keys] =
            [self.starts, self.key_starts()].map(|starts| starts[s] - starts[0]..starts[s + 1] - starts[0]);
        let keys = keys.start..keys.start + self.keys.map_or(keys.len(), |keys| keys[s]);
        [rows, keys]
    }

    /// The rows of all keys of sequence s, those too that nobody attends to.
    pub(super) fn all_keys(&self, s: usize) -> Range<usize> {
        let starts = self.key_starts();
        starts[s] - starts[0]..starts[s + 1] - starts[0]
    }

    fn key_starts(&self) -> &'a [usize] {
        self.source.unwrap_or(self.starts)
    }

    /// The longest sequence of queries or keys, for so many of them and queries of so many columns.
    ///
    /// # Panics
    /// If the fields disagree with these or each other.
    pub(super) fn longest(&self, queries: usize, keys: usize, columns: usize) -> usize {
        let sequences = self.sequences();
        for (starts, rows) in [(self.starts, queries), (self.key_starts(), keys)] {
            let fit = starts.len() == sequences + 1 && starts.is_sorted() && starts[sequences] - starts[0] == rows;
            assert!(fit, "attention: starts");
        }
        assert!(self.heads.is_multiple_of(self.key_heads), "attention: key_heads");
        let starts = self.key_starts();
        let fit = self
            .keys
            .is_none_or(|keys| keys.len() == sequences && (0..sequences).all(|s| keys[s] <= starts[s + 1] - starts[s]));
        assert!(fit, "attention: keys");
        let longest =
            [self.starts, starts].into_iter().flat_map(|starts| starts.windows(2).map(|pair| pair[1] - pair[0]));
        let longest = longest.max().unwrap_or(0);
        let fit = |bias: Bias| bias.reach >= longest.max(1) && bias.table.len() == self.heads * bias.columns();
        assert!(self.bias.is_none_or(fit), "attention: bias");
        if let Some(positions) = self.positions {
            assert!(self.group() == 1 && self.source.is_none(), "attention: positions, key_heads and a source");
            positions.check(longest, columns);
        }
        longest
    }

    /// Those of the query heads from `head` on of sequence s.
    pub(super) fn rules(&self, s: usize, head: usize) -> Rules<'a> {
        let bias = self.bias.map(|bias| Mat::dense(bias.table, self.heads, bias.columns()).rows_of(head..self.heads));
        let dropout = self.dropout.map(|dropout| (dropout, self.dropout_row(s, 0, head), self.heads as u64));
        Rules { scale: self.scale, soft_cap: self.soft_cap, reach: self.reach, bias, dropout }
    }

    pub(super) fn dropout_row(&self, s: usize, query: usize, head: usize) -> u64 {
        ((self.starts[s] + query) * self.heads + head) as u64
    }
}

impl Bias<'_> {
    pub(super) fn columns(self) -> usize {
        2 * self.reach - 1
    }
}
