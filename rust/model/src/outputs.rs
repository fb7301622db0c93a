//! What a forward pass leaves behind, in the caller's shape.

use std::ops::Range;

use ferroformer_kernels::{Mat, MatMut};

use crate::batch::{Batch, Part};
use crate::blueprint::Blueprint;
use crate::error::Result;
use crate::memory::{require, zeroed_vec};

/// What is wanted beside the last hidden state.
#[derive(Clone, Copy, Default)]
pub struct Want {
    pub hidden_states: bool,
    pub attentions: bool,
}

/// Padded arrays, zero where the mask was zero.
pub struct Outputs {
    /// (B, W, H), where the model has no head.
    pub last_hidden_state: Option<Vec<f32>>,
    /// (B, H), where the model has a pooler and no head; (B, outputs) of its second head, where it has one.
    pub pooled: Option<Vec<f32>>,
    /// (B, Ws, its size), the last hidden states of the model that this one attends to, of a training step.
    pub source_hidden_state: Option<Vec<f32>>,
    /// (B, outputs) or (B, W, outputs), where the model has a head; (M, outputs) where it reads M selected tokens alone.
    pub logits: Option<Vec<f32>>,
    /// The embeddings' and each block's output, (B, W, H) each, where wanted; the last is `last_hidden_state`.
    pub hidden_states: Vec<Vec<f32>>,
    /// Each block's probabilities, (B, heads, W, W), where wanted.
    pub attentions: Vec<Vec<f32>>,
    /// Each block's probabilities of its source's tokens, (B, heads, W, Ws), where wanted.
    pub cross_attentions: Vec<Vec<f32>>,
}

impl Outputs {
    /// `source_width`: that of a source that is attended to.
    pub(crate) fn new(batch: &Batch, blueprint: &Blueprint, want: Want, source_width: usize) -> Result<Self> {
        const WHAT: &str = "the output";
        let (sequences, width) = (batch.sequences(), batch.width());
        let hidden = sequences.checked_mul(width).and_then(|n| n.checked_mul(blueprint.hidden_size));
        let squares = |keys: usize| {
            let square = width.checked_mul(keys).and_then(|n| n.checked_mul(blueprint.attention.heads));
            square.and_then(|n| n.checked_mul(sequences))
        };
        let (attention, cross) = (squares(width), squares(source_width));
        let copies = |wanted: bool, count| if wanted { count as u64 } else { 0 };
        let floats = |len: Option<usize>, copies: u64| len.map_or(u64::MAX, |len| len as u64).saturating_mul(copies);
        let logits = blueprint.head.map(|head| {
            let tokens =
                || batch.selected.as_ref().map_or(sequences.checked_mul(width), |selected| Some(selected.len()));
            let each = if head.reads.of_sequences() { Some(sequences) } else { tokens() };
            each.and_then(|n| n.checked_mul(head.outputs))
        });
        let states = floats(hidden, 1 + copies(want.hidden_states, blueprint.num_layers + 1));
        let states = states.saturating_add(logits.map_or(0, |len| floats(len, 1)));
        let attentions = copies(want.attentions, blueprint.num_layers);
        let all = states.saturating_add(floats(attention, attentions)).saturating_add(floats(cross, attentions));
        require(WHAT, all.saturating_mul(4))?;
        let layers = |wanted: bool, count, len| {
            (0..if wanted { count } else { 0 }).map(|_| zeroed_vec(WHAT, len)).collect::<Result<Vec<_>>>()
        };
        let vector = |wanted: bool, len| if wanted { zeroed_vec(WHAT, len).map(Some) } else { Ok(None) };
        let pooled = sequences.checked_mul(blueprint.pooled_size());
        let pooled_wanted = blueprint.pooler.is_some() && (logits.is_none() || blueprint.second_head.is_some());
        Ok(Self {
            last_hidden_state: vector(logits.is_none(), hidden)?,
            pooled: vector(pooled_wanted, pooled)?,
            logits: logits.map(|len| zeroed_vec(WHAT, len)).transpose()?,
            hidden_states: layers(want.hidden_states, blueprint.num_layers + 1, hidden)?,
            attentions: layers(want.attentions, blueprint.num_layers, attention)?,
            cross_attentions: layers(want.attentions && source_width > 0, blueprint.num_layers, cross)?,
            source_hidden_state: None,
        })
    }

    /// Cuts the outputs at the borders of the parts, so that each can be written by its own thread.
    pub(crate) fn split<'a>(&'a mut self, parts: &[Range<usize>], batch: &Batch) -> Vec<PartOutputs<'a>> {
        let cut = |xs: &'a mut [f32]| cut(xs, parts, batch.sequences());
        let single = |xs: &'a mut Option<Vec<f32>>| xs.as_mut().map(|xs| cut(xs).into_iter());
        let (mut last, mut pooled) = (single(&mut self.last_hidden_state), single(&mut self.pooled));
        let mut logits = self.logits.as_mut().map(|xs| match batch.selected() {
            None => cut(xs).into_iter(),
            Some(count) => cut_selected(xs, parts, batch, count).into_iter(),
        });
        let mut hidden: Vec<_> = self.hidden_states.iter_mut().map(|xs| cut(xs).into_iter()).collect();
        let mut attentions: Vec<_> = self.attentions.iter_mut().map(|xs| cut(xs).into_iter()).collect();
        let mut cross: Vec<_> = self.cross_attentions.iter_mut().map(|xs| cut(xs).into_iter()).collect();
        let part = |_: &Range<usize>| PartOutputs {
            last_hidden_state: last.as_mut().and_then(Iterator::next),
            pooled: pooled.as_mut().and_then(Iterator::next),
            logits: logits.as_mut().and_then(Iterator::next),
            hidden_states: hidden.iter_mut().filter_map(Iterator::next).collect(),
            attentions: attentions.iter_mut().filter_map(Iterator::next).collect(),
            cross_attentions: cross.iter_mut().filter_map(Iterator::next).collect(),
        };
        parts.iter().map(part).collect()
    }
}

/// One part's share of [`Outputs`].
pub(crate) struct PartOutputs<'a> {
    pub(crate) last_hidden_state: Option<&'a mut [f32]>,
    pub(crate) pooled: Option<&'a mut [f32]>,
    pub(crate) logits: Option<&'a mut [f32]>,
    pub(crate) hidden_states: Vec<&'a mut [f32]>,
    pub(crate) attentions: Vec<&'a mut [f32]>,
    pub(crate) cross_attentions: Vec<&'a mut [f32]>,
}

/// Cuts `xs`, which holds the same number of elements for each sequence, into the parts' shares.
pub(crate) fn cut<'a>(mut xs: &'a mut [f32], parts: &[Range<usize>], sequences: usize) -> Vec<&'a mut [f32]> {
    let each = xs.len() / sequences.max(1);
    let next = |part: &Range<usize>| xs.split_off_mut(..part.len() * each).unwrap_or_default();
    parts.iter().map(next).collect()
}

/// Likewise, where it holds as many for each of the `count` selected tokens.
fn cut_selected<'a>(mut xs: &'a mut [f32], parts: &[Range<usize>], batch: &Batch, count: usize) -> Vec<&'a mut [f32]> {
    let each = xs.len() / count.max(1);
    let selected = |part: &Range<usize>| batch.part(part.clone()).selected.map_or(0, <[usize]>::len);
    let next = |part: &Range<usize>| xs.split_off_mut(..selected(part) * each).unwrap_or_default();
    parts.iter().map(next).collect()
}

/// Rows (M, N) without gaps.
pub(crate) fn dense(rows: Mat, out: &mut [f32]) {
    let each = out.chunks_exact_mut(rows.cols()).enumerate();
    each.for_each(|(r, out)| out.copy_from_slice(rows.row(r)));
}

/// The rows of a part's sequences (S, N) to their places in (S, N); what belongs to no token stays as it is.
pub(crate) fn of_sequences(part: &Part, rows: Mat, out: &mut [f32]) {
    for ((s, range), out) in part.ranges().enumerate().zip(out.chunks_exact_mut(rows.cols())) {
        if !range.is_empty() {
            out.copy_from_slice(rows.row(s));
        }
    }
}

/// The mean of each sequence's rows (T, N) to its place in (S, N), summed in their order; zeros where there is none.
pub(crate) fn means(part: &Part, rows: Mat, out: &mut [f32]) {
    for (range, out) in part.ranges().zip(out.chunks_exact_mut(rows.cols())) {
        let count = range.len().max(1) as f32;
        out.fill(0.0);
        range.for_each(|t| out.iter_mut().zip(rows.row(t)).for_each(|(sum, x)| *sum += x));
        out.iter_mut().for_each(|sum| *sum /= count);
    }
}

/// The gradient of [`means`].
pub(crate) fn means_backward(part: &Part, d: &[f32], mut rows: MatMut) {
    let cols = rows.cols();
    for (range, d) in part.ranges().zip(d.chunks_exact(cols)) {
        let share = 1.0 / range.len().max(1) as f32;
        range.for_each(|t| rows.row_mut(t).iter_mut().zip(d).for_each(|(x, d)| *x = d * share));
    }
}

/// The padded (S, W, N) to the rows of a part's tokens (T, N).
pub(crate) fn pad(part: &Part, padded: &[f32], mut rows: MatMut) {
    let cols = rows.cols();
    for (s, range) in part.ranges().enumerate() {
        for t in range {
            let place = (s * part.width + part.columns[t]) * cols;
            rows.row_mut(t).copy_from_slice(&padded[place..place + cols]);
        }
    }
}

/// The rows of a part's tokens (T, H) to their places in the padded (S, W, H).
pub(crate) fn unpad(part: &Part, rows: Mat, out: &mut [f32]) {
    let hidden = rows.cols();
    for (s, range) in part.ranges().enumerate() {
        for t in range {
            let place = (s * part.width + part.columns[t]) * hidden;
            out[place..place + hidden].copy_from_slice(rows.row(t));
        }
    }
}
