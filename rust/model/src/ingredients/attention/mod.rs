//! Multi-head attention with its projections: over the tokens themselves, or over those of a source.

mod backward;
mod positions;
mod weights;

use std::ops::Range;

use ferroformer_kernels::{
    Cached, CachedQuery, Dropout, Epilogue, Form, Heads, KeyValues, Level, Mat, MatMut, Narrow, Output, Positions,
    Probabilities, Qkv, Threads, Turn, attention, attention_cached, narrow, rotary,
};

use super::convolution::{Convolution, Read, Surroundings};
use super::{Distances, Linear, QueryKeyNorm, blind};
use crate::batch::Part;
use crate::blueprint::DisentangledSpec;
use crate::error::Result;

pub(crate) struct Attention {
    /// H, or what a bottleneck makes of that, to all heads x head_dim: queries, keys, values and a convolution's values of a token
    /// side by side; queries alone where there is a source.
    projection: Linear,
    output: Linear,
    query_key_norm: Option<QueryKeyNorm>,
    /// The source's size to keys and values.
    source: Option<Linear>,
    /// H to the keys and queries of positions, where they have weights of their own.
    positions: Option<Linear>,
    disentangled: Option<DisentangledSpec>,
    /// Beside attention: what it makes stands behind attention's in the context.
    convolution: Option<Convolution>,
    /// Whether attention computes in f32 whatever the precision of the weights.
    in_floats: bool,
    /// Whether a token in padding attends to none.
    masked: bool,
    scale: f32,
    soft_cap: Option<f32>,
    causal: bool,
    heads: usize,
    /// Of keys and values; several heads of queries may share one.
    key_heads: usize,
    head_dim: usize,
    level: Level,
}

/// What a layer's attention goes by beside its weights.
#[derive(Clone, Copy, Default)]
pub(crate) struct Around<'a> {
    /// (T, 2 P): of all tokens, and whether pairs are neighbours.
    pub(crate) angles: Option<(Mat<'a>, bool)>,
    /// How far a token attends.
    pub(crate) window: Option<usize>,
    /// Of scores, where a layer has its own.
    pub(crate) scale: Option<f32>,
    /// Of attention to another's tokens: what they are, and the keys and values that this layer makes of them.
    pub(crate) source: Option<(&'a Part<'a>, Mat<'a>)>,
    /// For each head and distance.
    pub(crate) bias: Option<&'a Distances>,
    /// What [`project_positions`](Attention::project_positions) made, and the row of each distance.
    pub(crate) positions: Option<(Mat<'a>, &'a [u32])>,
    /// Who stands beside whom, for a convolution.
    pub(crate) surroundings: Option<&'a Surroundings>,
}

impl<'a> Around<'a> {
    /// With the angles of some tokens alone.
    pub(crate) fn of(self, tokens: Range<usize>) -> Self {
        Around { angles: self.angles.map(|(angles, interleaved)| (angles.rows_of(tokens), interleaved)), ..self }
    }
}

/// Where the attention probabilities of a part go, if anywhere: (S, heads, W, W) for padded rows of width W.
type AttentionOutput<'a> = Option<&'a mut [f32]>;

impl Attention {
    /// The form in which [`project`](Self::project) reads x.
    pub(crate) fn form(&self) -> Form {
        self.projection.form()
    }

    /// How many columns [`project`](Self::project) makes.
    pub(crate) fn columns_made(&self) -> usize {
        self.projection.outputs()
    }

    /// Some tokens: x (T, H) -> queries, keys and values (T, all heads x head_dim), or queries alone, in the first columns of `qkv`;
    /// in bf16 where attention computes in that: then they fill the first half of these. The angles are these tokens'. Where there are
    /// more columns, queries and keys that are normalised follow as they were before.
    pub(crate) fn project(
        &self,
        threads: &Threads,
        x: Mat,
        narrow: &mut Narrow,
        around: Around,
        mut qkv: MatMut,
    ) -> Result<()> {
        self.made_by(&self.projection, threads, x, narrow, qkv.reborrow())?;
        if let Some(norm) = &self.query_key_norm {
            norm.forward(self.columns_made(), qkv.reborrow());
        }
        if !self.in_bf16() && self.source.is_none() {
            self.turn(around, false, qkv);
        }
        Ok(())
    }

    /// The tokens of a source: x (Ts, its size), narrow in `room` -> keys and values (Ts, twice key heads x head_dim), in bf16 as in
    /// [`project`](Self::project).
    pub(crate) fn project_source(&self, threads: &Threads, x: Mat, room: &mut Narrow, out: MatMut) -> Result<()> {
        let Some(layer) = &self.source else { return Ok(()) };
        room.resize(layer.form(), x.rows(), x.cols())?;
        narrow(self.level, threads, x, room);
        self.made_by(layer, threads, x, room, out)
    }

    fn made_by(&self, layer: &Linear, threads: &Threads, x: Mat, narrow: &mut Narrow, out: MatMut) -> Result<()> {
        let (rows, cols) = (out.rows(), layer.outputs());
        let mut out = out.into_block(0..rows, 0..cols);
        if self.in_bf16() {
            let words = out.reborrow().into_words().into_block(0..rows, 0..cols / 2);
            layer.forward(threads, x, narrow, Epilogue::default(), Output::Bf16(words))
        } else {
            layer.forward(threads, x, narrow, Epilogue::default(), out)
        }
    }

    pub(crate) fn source(&self) -> Option<&Linear> {
        self.source.as_ref()
    }

    pub(crate) fn source_mut(&mut self) -> Option<&mut Linear> {
        self.source.as_mut()
    }

    /// Queries and keys, or on the way back their gradients, in qkv (T, all heads x head_dim), by the angles.
    pub(crate) fn turn(&self, around: Around, back: bool, qkv: MatMut) {
        if let Some((angles, interleaved)) = around.angles {
            let (rows, size) = (qkv.rows(), (self.heads + self.key_heads) * self.head_dim);
            let turn = Turn { angles, head_dim: self.head_dim, interleaved, back };
            rotary(self.level, turn, qkv.into_block(0..rows, 0..size));
        }
    }

    fn in_bf16(&self) -> bool {
        self.projection.makes_bf16() && self.head_dim.is_multiple_of(2) && !self.in_floats
    }

    /// Each sequence of the part with itself or with its source: what [`project`](Self::project) made, qkv (T, all heads x head_dim)
    /// -> context (T, heads x head_dim).
    #[expect(clippy::too_many_arguments, reason = "what attention reads and writes, each by its own name")]
    pub(crate) fn attend(
        &self,
        threads: &Threads,
        part: &Part,
        around: Around,
        qkv: Mat,
        dropout: Option<Dropout>,
        scratch: &mut [f32],
        attentions: AttentionOutput,
        context: MatMut,
    ) {
        let mut context = self.attended(context);
        let values = (!self.in_bf16()).then(|| self.operands(qkv, around)[2]);
        let qkv = if self.in_bf16() {
            let operands = self.operand_columns(qkv, around);
            Qkv::Bf16(operands.map(|(x, cols)| x.words().block(0..x.rows(), cols.start / 2..cols.end / 2)))
        } else {
            Qkv::Floats(self.operands(qkv, around))
        };
        let source = around.source.map(|(source, _)| (source.width, source.columns));
        let probabilities =
            attentions.map(|out| Probabilities { out, width: part.width, columns: part.columns, source });
        attention(self.level, threads, qkv, self.of(part, around, dropout), scratch, probabilities, context.reborrow());
        if let (Some(values), None) = (values, around.source) {
            blind::fill(self.blind(part, around), values, self.head_dim, context);
        }
    }

    /// The keys and values in what [`project`](Self::project) or [`project_source`](Self::project_source) made.
    pub(crate) fn keys_values<'a>(&self, made: Mat<'a>) -> [Mat<'a>; 2] {
        let [queries, keys, values] = self.columns();
        let offset = if self.source.is_some() { queries.len() } else { 0 };
        [keys, values].map(|cols| made.block(0..made.rows(), cols.start - offset..cols.end - offset))
    }

    /// As [`attend`](Self::attend), each token to the keys and values in the cache that `queries` says.
    #[expect(clippy::too_many_arguments, reason = "what attention reads and writes, each by its own name")]
    pub(crate) fn attend_cached(
        &self,
        threads: &Threads,
        cache: &KeyValues,
        queries: &[CachedQuery],
        around: Around,
        qkv: Mat,
        scratch: &mut [f32],
        context: MatMut,
    ) {
        let [columns, ..] = self.columns();
        let of = Cached {
            cache,
            queries,
            heads: self.heads,
            scale: around.scale.unwrap_or(self.scale),
            soft_cap: self.soft_cap,
            bias: around.bias.map(Distances::bias),
        };
        attention_cached(self.level, threads, qkv.block(0..qkv.rows(), columns), of, scratch, None, context);
    }

    /// The columns of context, or of its gradient, that attention makes.
    fn attended<'a>(&self, context: MatMut<'a>) -> MatMut<'a> {
        let rows = context.rows();
        context.into_block(0..rows, 0..self.heads * self.head_dim)
    }

    /// Beside [`attend`](Self::attend), where there is a convolution: x (T, H), what [`project`](Self::project) read, and qkv -> the rest
    /// of context.
    pub(crate) fn convolve(&self, threads: &Threads, around: Around, x: Mat, qkv: Mat, context: MatMut) -> Result<()> {
        let (Some(convolution), Some(surroundings)) = (&self.convolution, around.surroundings) else { return Ok(()) };
        let size = self.heads * self.head_dim;
        let out = context.split_cols(size).1;
        convolution.forward(threads, surroundings, self.convolved(x, qkv), out)
    }

    /// What a convolution reads.
    fn convolved<'a>(&self, x: Mat<'a>, qkv: Mat<'a>) -> Read<'a> {
        let ([queries, _, values], all) = (self.columns(), self.columns_made());
        let block = |columns| qkv.block(0..qkv.rows(), columns);
        Read { x, queries: block(queries), values: block(values.end..all) }
    }

    fn blind<'a>(&self, part: &'a Part, around: Around) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + 'a {
        blind::blind(part, around.window, self.masked)
    }

    /// Queries, keys and values.
    fn operands<'a>(&self, qkv: Mat<'a>, around: Around<'a>) -> [Mat<'a>; 3] {
        self.operand_columns(qkv, around).map(|(x, cols)| x.block(0..x.rows(), cols))
    }

    /// Which columns of what they are; in bf16 half as many words.
    fn operand_columns<'a>(&self, qkv: Mat<'a>, around: Around<'a>) -> [(Mat<'a>, Range<usize>); 3] {
        let [queries, keys, values] = self.columns();
        let (source, offset) = around.source.map_or((qkv, 0), |(_, source)| (source, keys.start));
        let there = |cols: Range<usize>| (source, cols.start - offset..cols.end - offset);
        [(qkv, queries), there(keys), there(values)]
    }

    /// Where queries, keys and values lie in a row.
    fn columns(&self) -> [Range<usize>; 3] {
        let (queries, keys) = (self.heads * self.head_dim, self.key_heads * self.head_dim);
        [0..queries, queries..queries + keys, queries + keys..queries + 2 * keys]
    }

    fn of<'a>(&self, part: &Part<'a>, around: Around<'a>, dropout: Option<Dropout>) -> Heads<'a> {
        let window = around.window.unwrap_or(usize::MAX);
        let ahead = if self.causal && around.source.is_none() { 0 } else { window };
        let bias = around.bias.map(Distances::bias);
        let positions = around.positions.map(|(projected, places)| {
            let [keys, queries] = self.positions_in(projected);
            Positions { keys, queries, places }
        });
        Heads {
            dropout,
            source: around.source.map(|(source, _)| source.starts),
            keys: around.source.map_or(part.keys, |(source, _)| source.keys),
            key_heads: self.key_heads,
            reach: [window, ahead],
            soft_cap: self.soft_cap,
            bias,
            positions,
            ..Heads::new(self.heads, part.starts, around.scale.unwrap_or(self.scale))
        }
    }

    /// The layers of this ingredient, whose gradients a caller takes.
    pub(crate) fn layers(&self) -> [&Linear; 2] {
        [&self.projection, &self.output]
    }

    pub(crate) fn layers_mut(&mut self) -> [&mut Linear; 2] {
        [&mut self.projection, &mut self.output]
    }

    /// Some tokens: context (T, heads x head_dim) -> out (T, H) = output(context), and `residual`, narrow in `room`.
    pub(crate) fn output(
        &self,
        threads: &Threads,
        context: Mat,
        residual: Option<Mat>,
        room: &mut Narrow,
        out: MatMut,
    ) -> Result<()> {
        room.resize(self.output.form(), context.rows(), context.cols())?;
        narrow(self.level, threads, context, room);
        self.output.forward(threads, context, room, Epilogue { residual, ..Epilogue::default() }, out)
    }
}
