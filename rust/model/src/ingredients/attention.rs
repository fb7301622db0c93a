//! Multi-head self-attention with its projections.

use std::ops::Range;

use ferroformer_kernels::{
    AttentionGradients, Dropout, Epilogue, Form, Heads, Level, Mat, MatMut, Narrow, Output, PackedLinear, Positions,
    Probabilities, Qkv, Threads, Turn, add, attention, attention_backward, linear, narrow, rotary,
};

use super::convolution::{Convolution, Read, Surroundings};
use super::linear::Layer;
use super::{Distances, Linear, blind};
use crate::batch::Part;
use crate::blueprint::{AttentionSpec, Blueprint, DisentangledSpec};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::training::{Pass, input_gradient};
use crate::weights::Place;
use crate::workspace::{Room, Rows};

pub(crate) struct SelfAttention {
    /// H to all heads x head_dim: queries, keys, values and a convolution's values of a token side by side.
    projection: Linear,
    output: Linear,
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
    /// For each head and distance.
    pub(crate) bias: Option<&'a Distances>,
    /// What [`project_positions`](SelfAttention::project_positions) made, and the row of each distance.
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
pub(crate) type AttentionOutput<'a> = Option<&'a mut [f32]>;

/// The layer that makes the values of the convolution, and where its others are.
const CONVOLVED: &str = "convolution.value";
const CONVOLUTION: &str = "convolution";

fn projection_parts(blueprint: &Blueprint, scope: &str) -> Vec<Layer> {
    let spec = &blueprint.attention;
    let [queries, keys, values] = spec.qkv_sizes();
    let biased = spec.bias && spec.key_bias;
    if spec.fused {
        let mut whole = Layer::new(format!("{scope}.qkv"), spec.qkv_size(), biased);
        if spec.bias && !spec.key_bias {
            let apart = [("query", 0..queries), ("value", queries + keys..spec.qkv_size())];
            whole = whole.with_biases(apart.map(|(name, outputs)| (format!("{scope}.{name}"), outputs)).into());
        }
        if spec.by_head {
            whole = whole.by_head([3, spec.heads, spec.head_dim]);
        }
        return vec![whole];
    }
    let AttentionSpec { groups, stored, .. } = spec;
    let part = |(name, size, groups, bias)| Layer::new(format!("{scope}.{name}"), size, bias).grouped(groups, *stored);
    let mut parts = vec![
        part(("query", queries, groups.query, spec.bias)),
        part(("key", keys, groups.key, biased)),
        part(("value", values, groups.value, spec.bias)),
    ];
    parts.extend(spec.convolution.map(|_| part((CONVOLVED, spec.convolved_size(), 1, spec.bias))));
    parts
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
    vec![Layer::new(format!("{scope}.output"), blueprint.hidden_size, *output_bias).grouped(groups.output, *stored)]
}

impl SelfAttention {
    pub(crate) fn slots(blueprint: &Blueprint, scope: &str) -> impl Iterator<Item = Slot> + use<> {
        let projection = Linear::slots(&projection_parts(blueprint, scope), blueprint.hidden_size);
        let positions = position_parts(blueprint, scope).unwrap_or_default();
        let convolution = |spec| Convolution::slots(blueprint, spec, &format!("{scope}.{CONVOLUTION}"));
        let convolution = blueprint.attention.convolution.map(convolution);
        projection
            .chain(Linear::slots(&positions, blueprint.hidden_size))
            .chain(convolution.into_iter().flatten())
            .chain(Linear::slots(&output_parts(blueprint, scope), blueprint.context_size()))
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, scope: &str) -> Result<Self> {
        let projection = Linear::load(loader, projection_parts(blueprint, scope), blueprint.hidden_size)?;
        let output = Linear::load(loader, output_parts(blueprint, scope), blueprint.context_size())?;
        let convolution = |spec| Convolution::load(loader, blueprint, spec, &format!("{scope}.{CONVOLUTION}"));
        let positions = position_parts(blueprint, scope);
        let positions = positions.map(|parts| Linear::load(loader, parts, blueprint.hidden_size)).transpose()?;
        let spec = &blueprint.attention;
        Ok(Self {
            projection,
            output,
            positions,
            disentangled: spec.disentangled,
            masked: blueprint.embeddings.masked,
            convolution: spec.convolution.map(convolution).transpose()?,
            in_floats: !spec.rotary.is_empty() || spec.disentangled.is_some() || spec.convolution.is_some(),
            scale: 1.0 / ((spec.head_dim * spec.scale_factor) as f32).sqrt(),
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

    /// Some tokens: x (T, H) -> queries, keys and values (T, all heads x head_dim), in bf16 where attention computes in that: then
    /// they fill the first half of each row. The angles are these tokens'.
    pub(crate) fn project(
        &self,
        threads: &Threads,
        x: Mat,
        narrow: &mut Narrow,
        around: Around,
        mut qkv: MatMut,
    ) -> Result<()> {
        let (rows, cols) = (qkv.rows(), qkv.cols());
        if self.in_bf16() {
            let words = qkv.into_words().into_block(0..rows, 0..cols / 2);
            return self.projection.forward(threads, x, narrow, Epilogue::default(), Output::Bf16(words));
        }
        self.projection.forward(threads, x, narrow, Epilogue::default(), qkv.reborrow())?;
        self.turn(around, false, qkv);
        Ok(())
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

    /// Each sequence of the part with itself: qkv (T, all heads x head_dim) -> context (T, heads x head_dim).
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
        let (places, tokens) = (self.columns(), 0..part.tokens());
        let mut context = self.attended(context);
        let values = (!self.in_bf16()).then(|| qkv.block(tokens.clone(), places[2].clone()));
        let qkv = if self.in_bf16() {
            Qkv::Bf16(places.map(|cols| qkv.words().block(tokens.clone(), cols.start / 2..cols.end / 2)))
        } else {
            Qkv::Floats(places.map(|cols| qkv.block(tokens.clone(), cols)))
        };
        let probabilities = attentions.map(|out| Probabilities { out, width: part.width, columns: part.columns });
        attention(self.level, threads, qkv, self.of(part, around, dropout), scratch, probabilities, context.reborrow());
        if let Some(values) = values {
            blind::fill(self.blind(part, around), values, self.head_dim, context);
        }
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
        let ([queries, _, values], all) = (self.columns(), qkv.cols());
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
        gradient: &mut SelfAttention,
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
        gradient: &mut SelfAttention,
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

    /// Where queries, keys and values lie in a row.
    fn columns(&self) -> [Range<usize>; 3] {
        let (queries, keys) = (self.heads * self.head_dim, self.key_heads * self.head_dim);
        [0..queries, queries..queries + keys, queries + keys..queries + 2 * keys]
    }

    fn of<'a>(&self, part: &Part<'a>, around: Around<'a>, dropout: Option<Dropout>) -> Heads<'a> {
        let reach = [around.window.unwrap_or(usize::MAX); 2];
        let bias = around.bias.map(Distances::bias);
        let positions = around.positions.map(|(projected, places)| {
            let [keys, queries] = self.positions_in(projected);
            Positions { keys, queries, places }
        });
        Heads {
            dropout,
            keys: part.keys,
            key_heads: self.key_heads,
            reach,
            bias,
            positions,
            ..Heads::new(self.heads, part.starts, self.scale)
        }
    }

    /// qkv (T, all heads x head_dim) and the gradient of context, d_context -> the gradient of qkv; that of the bias is added to
    /// `d_bias`.
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
        d_bias: Option<&mut [f32]>,
        d_positions: Option<MatMut>,
    ) {
        let (places, tokens) = (self.columns(), pass.tokens());
        let (dq, rest) = d_qkv.reborrow().split_cols(places[0].len());
        let (dk, rest) = rest.split_cols(places[1].len());
        let dv = rest.split_cols(places[2].len()).0;
        let qkv = places.clone().map(|cols| qkv.block(0..tokens, cols));
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

    /// Some tokens: context (T, heads x head_dim) and what they were before, hidden (T, H) -> hidden + output(context).
    pub(crate) fn output(&self, threads: &Threads, context: Mat, hidden: Mat, room: &mut Room) -> Result<()> {
        room.narrow.resize(self.output.form(), context.rows(), context.cols())?;
        narrow(self.level, threads, context, &mut room.narrow);
        let residual = Epilogue { residual: Some(hidden), ..Epilogue::default() };
        self.output.forward(threads, context, &mut room.narrow, residual, room.sum.mat_mut())
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        [&self.projection, &self.output].into_iter().chain(&self.positions)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.linears().all(Linear::is_empty) && self.convolution.as_ref().is_none_or(Convolution::is_empty)
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.linears().flat_map(Linear::exports).chain(self.convolution.iter().flat_map(Convolution::exports))
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let Self { projection, output, positions, convolution, .. } = self;
        let linears = [projection, output].into_iter().chain(positions).flat_map(Linear::floats_mut);
        linears.chain(convolution.iter_mut().flat_map(Convolution::floats_mut)).collect()
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let convolution = self.convolution.iter().flat_map(Convolution::places);
        self.linears().flat_map(Linear::places).chain(convolution).collect()
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        let Self { projection, output, positions, convolution, .. } = self;
        let found = [projection, output].into_iter().chain(positions).find_map(|linear| linear.slot_mut(slot));
        found.or_else(|| convolution.as_mut()?.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let convolution = self.convolution.iter().flat_map(Convolution::pieces);
        self.linears().flat_map(Linear::pieces).chain(convolution).collect()
    }
}
