//! Multi-head self-attention with its projections.

use std::ops::Range;

use ferroformer_kernels::{
    AttentionGradients, Dropout, Epilogue, Form, Heads, Level, Mat, MatMut, Narrow, Output, Precision, Probabilities,
    Qkv, Threads, Turn, attention, attention_backward, narrow, rotary,
};

use super::linear::Layer;
use super::{Distances, Linear};
use crate::batch::Part;
use crate::blueprint::{AttentionSpec, Blueprint};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::training::Pass;
use crate::weights::Place;
use crate::workspace::Room;

pub(crate) struct SelfAttention {
    /// H to all heads x head_dim: queries, keys and values of a token side by side.
    projection: Linear,
    output: Linear,
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
}

impl<'a> Around<'a> {
    /// With the angles of some tokens alone.
    pub(crate) fn of(self, tokens: Range<usize>) -> Self {
        Around { angles: self.angles.map(|(angles, interleaved)| (angles.rows_of(tokens), interleaved)), ..self }
    }
}

/// Where the attention probabilities of a part go, if anywhere: (S, heads, W, W) for padded rows of width W.
pub(crate) type AttentionOutput<'a> = Option<&'a mut [f32]>;

fn projection_parts(blueprint: &Blueprint, scope: &str) -> Vec<Layer> {
    let [queries, keys, values] = blueprint.attention.qkv_sizes();
    if blueprint.attention.fused {
        return vec![Layer::new(format!("{scope}.qkv"), queries + keys + values, blueprint.attention.bias)];
    }
    let part = |(name, size)| Layer::new(format!("{scope}.{name}"), size, blueprint.attention.bias);
    [("query", queries), ("key", keys), ("value", values)].map(part).into()
}

fn output_parts(blueprint: &Blueprint, scope: &str) -> Vec<Layer> {
    vec![Layer::new(format!("{scope}.output"), blueprint.hidden_size, blueprint.attention.output_bias)]
}

impl SelfAttention {
    pub(crate) fn slots(blueprint: &Blueprint, scope: &str) -> impl Iterator<Item = Slot> + use<> {
        let projection = Linear::slots(&projection_parts(blueprint, scope), blueprint.hidden_size);
        projection.chain(Linear::slots(&output_parts(blueprint, scope), blueprint.attention_size()))
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, scope: &str) -> Result<Self> {
        let projection = Linear::load(loader, projection_parts(blueprint, scope), blueprint.hidden_size)?;
        let output = Linear::load(loader, output_parts(blueprint, scope), blueprint.attention_size())?;
        let AttentionSpec { heads, head_dim, .. } = blueprint.attention;
        let key_heads = blueprint.attention.key_heads();
        Ok(Self { projection, output, heads, key_heads, head_dim, level: loader.level })
    }

    /// The form in which [`project`](Self::project) reads x.
    pub(crate) fn form(&self) -> Form {
        self.projection.form()
    }

    /// Some tokens: x (T, H) -> queries, keys and values (T, all heads x head_dim), in bf16 where attention computes in that: then
    /// they fill the first half of each row. The angles are these tokens'.
    pub(crate) fn project(&self, threads: &Threads, x: Mat, narrow: &Narrow, around: Around, mut qkv: MatMut) {
        let (rows, cols) = (qkv.rows(), qkv.cols());
        if self.in_bf16(around) {
            let words = qkv.into_words().into_block(0..rows, 0..cols / 2);
            return self.projection.forward(threads, x, narrow, Epilogue::default(), Output::Bf16(words));
        }
        self.projection.forward(threads, x, narrow, Epilogue::default(), qkv.reborrow());
        self.turn(around, false, qkv);
    }

    /// Queries and keys, or on the way back their gradients, in qkv (T, all heads x head_dim), by the angles.
    pub(crate) fn turn(&self, around: Around, back: bool, qkv: MatMut) {
        if let Some((angles, interleaved)) = around.angles {
            let (rows, size) = (qkv.rows(), (self.heads + self.key_heads) * self.head_dim);
            let turn = Turn { angles, head_dim: self.head_dim, interleaved, back };
            rotary(self.level, turn, qkv.into_block(0..rows, 0..size));
        }
    }

    fn in_bf16(&self, around: Around) -> bool {
        let there = Form::of(self.level, Precision::BFloat16) == Form::Bf16;
        there && self.form() != Form::Floats && self.head_dim.is_multiple_of(2) && around.angles.is_none()
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
        let qkv = if self.in_bf16(around) {
            Qkv::Bf16(places.map(|cols| qkv.words().block(tokens.clone(), cols.start / 2..cols.end / 2)))
        } else {
            Qkv::Floats(places.map(|cols| qkv.block(tokens.clone(), cols)))
        };
        let probabilities = attentions.map(|out| Probabilities { out, width: part.width, columns: part.columns });
        attention(self.level, threads, qkv, self.of(part, around, dropout), scratch, probabilities, context);
    }

    /// Where queries, keys and values lie in a row.
    fn columns(&self) -> [Range<usize>; 3] {
        let (queries, keys) = (self.heads * self.head_dim, self.key_heads * self.head_dim);
        [0..queries, queries..queries + keys, queries + keys..queries + 2 * keys]
    }

    fn of<'a>(&self, part: &Part<'a>, around: Around<'a>, dropout: Option<Dropout>) -> Heads<'a> {
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        let reach = [around.window.unwrap_or(usize::MAX); 2];
        let bias = around.bias.map(Distances::bias);
        Heads {
            dropout,
            keys: part.keys,
            key_heads: self.key_heads,
            reach,
            bias,
            ..Heads::new(self.heads, part.starts, scale)
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
        d_context: Mat,
        scratch: &mut [f32],
        mut d_qkv: MatMut,
        d_bias: Option<&mut [f32]>,
    ) {
        let (places, tokens) = (self.columns(), pass.tokens());
        let (dq, rest) = d_qkv.reborrow().split_cols(places[0].len());
        let (dk, dv) = rest.split_cols(places[1].len());
        let qkv = places.map(|cols| qkv.block(0..tokens, cols));
        let heads = self.of(pass.step.part, around, dropout);
        let gradients = AttentionGradients { qkv: [dq, dk, dv], bias: d_bias, positions: [None, None] };
        attention_backward(self.level, pass.threads, qkv, heads, d_context, scratch, gradients);
        self.turn(around, true, d_qkv);
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
        self.output.forward(threads, context, &room.narrow, residual, room.sum.mat_mut());
        Ok(())
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.projection.exports().chain(self.output.exports())
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        vec![self.projection.floats_mut(), self.output.floats_mut()]
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        vec![self.projection.places(), self.output.places()]
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        self.projection.slot_mut(slot).or_else(|| self.output.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        vec![self.projection.piece(), self.output.piece()]
    }
}
