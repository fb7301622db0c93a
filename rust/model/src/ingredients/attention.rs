//! Multi-head attention with its projections: over the tokens themselves, or over those of a source.

use std::ops::Range;

use ferroformer_kernels::{
    AttentionGradients, Cached, CachedQuery, Dropout, Epilogue, Form, Heads, KeyValues, Level, Mat, MatMut, Narrow,
    Output, PackedLinear, Positions, Probabilities, Qkv, Threads, Turn, add, attention, attention_backward,
    attention_cached, linear, narrow, rotary,
};

use super::convolution::{Convolution, Read, Surroundings};
use super::linear::Layer;
use super::{Distances, LayerNorm, Linear, QueryKeyNorm, blind};
use crate::batch::Part;
use crate::blueprint::{AttentionSpec, Blueprint, BottleneckAttention, BottleneckSpec, DisentangledSpec};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::training::{Pass, input_gradient};
use crate::weights::Place;
use crate::workspace::Rows;

pub(crate) struct Attention {
    /// H, or what a bottleneck makes of that, to all heads x head_dim: queries, keys, values and a convolution's values of a token side by side; queries alone where there is
    /// a source.
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

/// The layer that makes the values of the convolution, and where its others are.
const CONVOLVED: &str = "convolution.value";
const CONVOLUTION: &str = "convolution";

fn projection_parts(blueprint: &Blueprint, scope: &str, source: bool) -> Vec<Layer> {
    let spec = &blueprint.attention;
    let [queries, keys, values] = spec.qkv_sizes();
    let (biased, groups, stored) = (spec.bias && spec.key_bias, spec.groups, spec.stored);
    if source {
        return vec![Layer::new(format!("{scope}.query"), queries, spec.bias).grouped(groups.query, stored)];
    }
    if spec.fused {
        let mut whole = Layer::new(format!("{scope}.qkv"), spec.qkv_size(), biased).grouped(1, stored);
        if spec.bias && !spec.key_bias {
            let apart = [("query", 0..queries), ("value", queries + keys..spec.qkv_size())];
            whole = whole.with_biases(apart.map(|(name, outputs)| (format!("{scope}.{name}"), outputs)).into());
        }
        if spec.by_head {
            whole = whole.by_head([3, spec.heads, spec.head_dim]);
        }
        return vec![whole];
    }
    let part = |(name, size, groups, bias)| Layer::new(format!("{scope}.{name}"), size, bias).grouped(groups, stored);
    if let Some(BottleneckSpec { size, attention: BottleneckAttention::Second }) = blueprint.bottleneck {
        let second = |name, outputs| Layer::new(format!("{scope}.{name}"), outputs, spec.bias).reading(0..size);
        let value = Layer::new(format!("{scope}.value"), values, spec.bias);
        return vec![second("query", queries), second("key", keys), value.reading(size..blueprint.attention_inputs())];
    }
    let mut parts = vec![
        part(("query", queries, groups.query, spec.bias)),
        part(("key", keys, groups.key, biased)),
        part(("value", values, groups.value, spec.bias)),
    ];
    parts.extend(spec.convolution.map(|_| part((CONVOLVED, spec.convolved_size(), 1, spec.bias))));
    parts
}

/// The layers that read a source, and its size.
fn source_parts(blueprint: &Blueprint, scope: &str, source: bool) -> Option<(Vec<Layer>, usize)> {
    let size = blueprint.source.as_ref().filter(|_| source)?.hidden_size;
    let (spec, [_, keys, values]) = (&blueprint.attention, blueprint.attention.qkv_sizes());
    let part =
        |(name, size, groups, bias)| Layer::new(format!("{scope}.{name}"), size, bias).grouped(groups, spec.stored);
    let (keys, values) =
        (("key", keys, spec.groups.key, spec.bias && spec.key_bias), ("value", values, spec.groups.value, spec.bias));
    Some(([keys, values].map(part).into(), size))
}

fn position_parts(blueprint: &Blueprint, scope: &str) -> Option<Vec<Layer>> {
    let attention = &blueprint.attention;
    let spec = attention.disentangled.filter(|spec| !spec.shared)?;
    let part = |name, bias| Layer::new(format!("{scope}.{name}"), blueprint.attention_size(), bias);
    let keys = spec.keys.then(|| part("position_key", attention.bias && attention.key_bias));
    let queries = spec.queries.then(|| part("position_query", attention.bias));
    Some(keys.into_iter().chain(queries).collect())
}

fn output_parts(blueprint: &Blueprint, scope: &str) -> Vec<Layer> {
    let AttentionSpec { output_bias, groups, stored, .. } = &blueprint.attention;
    vec![Layer::new(format!("{scope}.output"), blueprint.stream_size(), *output_bias).grouped(groups.output, *stored)]
}

impl Attention {
    pub(crate) fn slots(blueprint: &Blueprint, scope: &str, source: bool) -> impl Iterator<Item = Slot> + use<> {
        let projection = Linear::slots(&projection_parts(blueprint, scope, source), blueprint.attention_inputs());
        let positions = position_parts(blueprint, scope).unwrap_or_default();
        let norm = blueprint.attention.query_key_norm.filter(|_| !source).into_iter();
        let norm: Vec<_> = norm.flat_map(|spec| QueryKeyNorm::slots(blueprint, spec, scope)).collect();
        let (parts, size) = source_parts(blueprint, scope, source).unwrap_or_default();
        let convolution = |spec| Convolution::slots(blueprint, spec, &format!("{scope}.{CONVOLUTION}"));
        let convolution = blueprint.attention.convolution.map(convolution);
        projection
            .chain(Linear::slots(&parts, size))
            .chain(Linear::slots(&positions, blueprint.hidden_size))
            .chain(convolution.into_iter().flatten())
            .chain(Linear::slots(&output_parts(blueprint, scope), blueprint.context_size()))
            .chain(norm)
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, scope: &str, source: bool) -> Result<Self> {
        let projection = projection_parts(blueprint, scope, source);
        let projection = Linear::load(loader, projection, blueprint.attention_inputs())?;
        let norm = blueprint.attention.query_key_norm.filter(|_| !source);
        let source = source_parts(blueprint, scope, source);
        let source = source.map(|(parts, size)| Linear::load(loader, parts, size)).transpose()?;
        let output = Linear::load(loader, output_parts(blueprint, scope), blueprint.context_size())?;
        let convolution = |spec| Convolution::load(loader, blueprint, spec, &format!("{scope}.{CONVOLUTION}"));
        let positions = position_parts(blueprint, scope);
        let positions = positions.map(|parts| Linear::load(loader, parts, blueprint.hidden_size)).transpose()?;
        let spec = &blueprint.attention;
        let norm = norm.map(|norm| QueryKeyNorm::load(loader, blueprint, norm, scope));
        Ok(Self {
            projection,
            output,
            query_key_norm: norm.transpose()?,
            source,
            positions,
            disentangled: spec.disentangled,
            masked: blueprint.embeddings.masked,
            convolution: spec.convolution.map(convolution).transpose()?,
            in_floats: !spec.rotary.is_empty()
                || spec.disentangled.is_some()
                || spec.query_key_norm.is_some()
                || spec.convolution.is_some()
                || spec.causal
                || blueprint.source.is_some(),
            scale: 1.0 / ((spec.head_dim * spec.scale_factor) as f32).sqrt(),
            soft_cap: spec.soft_cap,
            causal: spec.causal,
            heads: spec.heads,
            key_heads: spec.key_heads(),
            head_dim: spec.head_dim,
            level: loader.level,
        })
    }

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

    /// What [`convolve`](Self::convolve) read and the gradient of context -> that of x, to `d_x`; those of queries and values are added
    /// and written to `d_qkv`, those of the weights are added to `gradient`. Whether there is a convolution.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(crate) fn convolve_backward(
        &self,
        pass: &Pass,
        around: Around,
        x: Mat,
        qkv: Mat,
        d_context: Mat,
        gradient: &mut Attention,
        d_x: MatMut,
        d_qkv: MatMut,
    ) -> Result<bool> {
        let (Some(convolution), Some(surroundings)) = (&self.convolution, around.surroundings) else {
            return Ok(false);
        };
        let gradient = gradient.convolution.as_mut().expect("gradients lie as the weights do");
        let [queries, _, values] = self.columns();
        let d = d_context.block(0..d_context.rows(), queries.len()..d_context.cols());
        let (d_queries, rest) = d_qkv.split_cols(queries.end);
        let d_values = rest.split_cols(values.end - queries.end).1;
        let read = self.convolved(x, qkv);
        convolution.backward(pass, surroundings, read, d, gradient, d_x, d_queries, d_values)?;
        Ok(true)
    }

    fn blind<'a>(&self, part: &'a Part, around: Around) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + 'a {
        blind::blind(part, around.window, self.masked)
    }

    /// The layer that makes keys and queries of positions.
    fn position_layer(&self) -> &Linear {
        self.positions.as_ref().unwrap_or(&self.projection)
    }

    /// Embeddings of distances x (P, H) -> what attention takes their keys and queries from.
    pub(crate) fn project_positions(&self, threads: &Threads, x: Mat, room: &mut Narrow, out: &mut Rows) -> Result<()> {
        let layer = self.position_layer();
        room.resize(layer.form(), x.rows(), x.cols())?;
        narrow(self.level, threads, x, room);
        out.resize(x.rows(), layer.outputs())?;
        layer.forward(threads, x, room, Epilogue::default(), out.mat_mut())
    }

    /// Where the keys and queries of positions lie in a row of what [`project_positions`](Self::project_positions) made.
    fn position_columns(&self) -> [Option<Range<usize>>; 2] {
        let (size, Some(spec)) = (self.heads * self.head_dim, self.disentangled) else { return [None, None] };
        let [keys, queries] = match (spec.shared, spec.keys) {
            (true, _) => [size..2 * size, 0..size],
            (false, true) => [0..size, size..2 * size],
            (false, false) => [0..0, 0..size],
        };
        [spec.keys.then_some(keys), spec.queries.then_some(queries)]
    }

    fn positions_in<'a>(&self, projected: Mat<'a>) -> [Option<Mat<'a>>; 2] {
        self.position_columns().map(|columns| Some(projected.block(0..projected.rows(), columns?)))
    }

    /// What [`project_positions`](Self::project_positions) read, x (P, H), and the gradient of what it made, d -> that of x, added to
    /// `dx`; those of the weights are added to `gradient`. `transposed` is the projection's, `room` for weights of their own.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(crate) fn positions_backward(
        &self,
        threads: &Threads,
        x: Mat,
        d: Mat,
        transposed: &PackedLinear,
        room: &mut Option<PackedLinear>,
        gradient: &mut Attention,
        mut dx: MatMut,
    ) -> Result<()> {
        let layer_gradient = match &mut gradient.positions {
            Some(positions) => positions,
            None => &mut gradient.projection,
        };
        layer_gradient.add_gradient(self.level, threads, x, d);
        let mut back = Rows::default();
        back.resize(x.rows(), x.cols())?;
        match &self.positions {
            Some(positions) => input_gradient(positions, self.level, threads, d, back.mat_mut(), room)?,
            None => linear(threads, d, transposed, Epilogue::default(), back.mat_mut()),
        }
        add(self.level, back.mat(), dx.reborrow());
        Ok(())
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

    /// qkv (T, all heads x head_dim) and the gradient of context, d_context -> the gradient of qkv, and of the keys and values of a
    /// source in `d_source`; that of the bias is added to `d_bias`.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(crate) fn attend_backward(
        &self,
        pass: &Pass,
        around: Around,
        dropout: Option<Dropout>,
        qkv: Mat,
        mut d_context: MatMut,
        scratch: &mut [f32],
        mut d_qkv: MatMut,
        d_source: Option<MatMut>,
        d_bias: Option<&mut [f32]>,
        d_positions: Option<MatMut>,
    ) {
        let (places, tokens) = (self.columns(), pass.tokens());
        let qkv = self.operands(qkv, around);
        if let Some(d_source) = d_source {
            let (dk, dv) = d_source.split_cols(places[1].len());
            let dq = d_qkv.into_block(0..tokens, places[0].clone());
            let heads = self.of(pass.step.part, around, dropout);
            let gradients = AttentionGradients::from([dq, dk, dv]);
            return attention_backward(self.level, pass.threads, qkv, heads, d_context.view(), scratch, gradients);
        }
        let (dq, rest) = d_qkv.reborrow().split_cols(places[0].len());
        let (dk, rest) = rest.split_cols(places[1].len());
        let dv = rest.split_cols(places[2].len()).0;
        let positions = match d_positions {
            Some(d) => self.cut_positions(d),
            None => [None, None],
        };
        let part = pass.step.part;
        let mut attended = self.attended(d_context.reborrow());
        let shares = blind::take(self.blind(part, around), places[2].len(), self.head_dim, &mut attended);
        let heads = self.of(part, around, dropout);
        let gradients = AttentionGradients { qkv: [dq, dk, dv], bias: d_bias, positions };
        let d = d_context.view().block(0..tokens, 0..self.heads * self.head_dim);
        attention_backward(self.level, pass.threads, qkv, heads, d, scratch, gradients);
        blind::give(shares, d_qkv.reborrow().into_block(0..tokens, places[2].clone()));
        self.turn(around, true, d_qkv);
    }

    /// Where queries and keys are normalised: what [`project`](Self::project) made and the gradient of what was normalised, in d_qkv
    /// (T, all heads x head_dim) -> that of what it was before, in its place; those of the weights are added to `gradient`.
    pub(crate) fn normed_backward(
        &self,
        pass: &Pass,
        qkv: Mat,
        d_qkv: MatMut,
        sums: MatMut,
        gradient: &mut Attention,
    ) -> Result<()> {
        match (&self.query_key_norm, &mut gradient.query_key_norm) {
            (Some(norm), Some(gradient)) => norm.backward(pass, self.columns_made(), qkv, d_qkv, sums, gradient),
            _ => Ok(()),
        }
    }

    /// The keys' and the queries' columns of what [`project_positions`](Self::project_positions) made.
    fn cut_positions<'a>(&self, d: MatMut<'a>) -> [Option<MatMut<'a>>; 2] {
        let (rows, size) = (d.rows(), self.heads * self.head_dim);
        let [keys, queries] = self.position_columns();
        if d.cols() == size {
            return if keys.is_some() { [Some(d), None] } else { [None, Some(d)] };
        }
        let (first, rest) = d.split_cols(size);
        let second = rest.into_block(0..rows, 0..size);
        let [keys_there, queries_there] = [keys.is_some(), queries.is_some()];
        let [keys, queries] = if keys.is_some_and(|keys| keys.start == 0) { [first, second] } else { [second, first] };
        [keys_there.then_some(keys), queries_there.then_some(queries)]
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

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        [&self.projection].into_iter().chain(&self.source).chain([&self.output]).chain(&self.positions)
    }

    fn norms(&self) -> impl Iterator<Item = &LayerNorm> {
        self.query_key_norm.iter().flat_map(QueryKeyNorm::norms)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.linears().all(Linear::is_empty)
            && self.convolution.as_ref().is_none_or(Convolution::is_empty)
            && self.query_key_norm.as_ref().is_none_or(QueryKeyNorm::is_empty)
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let convolution = self.convolution.iter().flat_map(Convolution::exports);
        self.linears().flat_map(Linear::exports).chain(convolution).chain(self.norms().flat_map(LayerNorm::exports))
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let Self { projection, source, output, positions, convolution, query_key_norm, .. } = self;
        let linears = [projection].into_iter().chain(source).chain([output]).chain(positions);
        linears
            .flat_map(Linear::floats_mut)
            .chain(convolution.iter_mut().flat_map(Convolution::floats_mut))
            .chain(query_key_norm.iter_mut().flat_map(QueryKeyNorm::floats_mut))
            .collect()
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let convolution = self.convolution.iter().flat_map(Convolution::places);
        self.linears()
            .flat_map(Linear::places)
            .chain(convolution)
            .chain(self.norms().flat_map(LayerNorm::places))
            .collect()
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        if self.norms().any(|norm| norm.holds(slot)) {
            return self.query_key_norm.as_mut()?.slot_mut(slot);
        }
        let Self { projection, source, output, positions, convolution, .. } = self;
        let mut linears = [projection].into_iter().chain(source).chain([output]).chain(positions);
        linears.find_map(|linear| linear.slot_mut(slot)).or_else(|| convolution.as_mut()?.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let convolution = self.convolution.iter().flat_map(Convolution::pieces);
        self.linears()
            .flat_map(Linear::pieces)
            .chain(convolution)
            .chain(self.norms().flat_map(LayerNorm::pieces))
            .collect()
    }
}
