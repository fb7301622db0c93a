//! Multi-head self-attention with its projections.

use ferroformer_kernels::{
    Dropout, Epilogue, Form, Heads, Level, Mat, MatMut, Narrow, Output, Precision, Probabilities, Qkv, Threads,
    attention, attention_backward, narrow,
};

use super::Linear;
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
    /// H to 3 x heads x head_dim: queries, keys and values of a token side by side.
    projection: Linear,
    output: Linear,
    spec: AttentionSpec,
    level: Level,
}

/// Where the attention probabilities of a part go, if anywhere: (S, heads, W, W) for padded rows of width W.
pub(crate) type AttentionOutput<'a> = Option<&'a mut [f32]>;

fn projection_parts(blueprint: &Blueprint, scope: &str) -> Vec<(String, usize)> {
    ["query", "key", "value"].map(|name| (format!("{scope}.{name}"), blueprint.attention_size())).into()
}

fn output_parts(blueprint: &Blueprint, scope: &str) -> Vec<(String, usize)> {
    vec![(format!("{scope}.output"), blueprint.hidden_size)]
}

impl SelfAttention {
    pub(crate) fn slots(blueprint: &Blueprint, scope: &str) -> Vec<Slot> {
        let projection = Linear::slots(&projection_parts(blueprint, scope), blueprint.hidden_size);
        let output = Linear::slots(&output_parts(blueprint, scope), blueprint.attention_size());
        projection.into_iter().chain(output).flatten().collect()
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, scope: &str) -> Result<Self> {
        let projection = Linear::load(loader, projection_parts(blueprint, scope), blueprint.hidden_size)?;
        let output = Linear::load(loader, output_parts(blueprint, scope), blueprint.attention_size())?;
        Ok(Self { projection, output, spec: blueprint.attention, level: loader.level })
    }

    /// The form in which [`project`](Self::project) reads x.
    pub(crate) fn form(&self) -> Form {
        self.projection.form()
    }

    /// x (T, H) -> queries, keys and values (T, 3 x heads x head_dim), in bf16 where attention computes in that: then they fill
    /// the first half of each row.
    pub(crate) fn project(&self, threads: &Threads, x: Mat, narrow: &Narrow, qkv: MatMut) {
        let (rows, cols) = (qkv.rows(), qkv.cols());
        let out = if self.in_bf16() {
            Output::Bf16(qkv.into_words().into_block(0..rows, 0..cols / 2))
        } else {
            Output::Floats(qkv)
        };
        self.projection.forward(threads, x, narrow, Epilogue::default(), out);
    }

    fn in_bf16(&self) -> bool {
        let there = Form::of(self.level, Precision::BFloat16) == Form::Bf16;
        there && self.form() != Form::Floats && self.spec.head_dim.is_multiple_of(2)
    }

    /// Each sequence of the part with itself: qkv (T, 3 x heads x head_dim) -> context (T, heads x head_dim).
    #[expect(clippy::too_many_arguments, reason = "what attention reads and writes, each by its own name")]
    pub(crate) fn attend(
        &self,
        threads: &Threads,
        part: &Part,
        qkv: Mat,
        dropout: Option<Dropout>,
        scratch: &mut [f32],
        attentions: AttentionOutput,
        context: MatMut,
    ) {
        let AttentionSpec { head_dim, .. } = self.spec;
        let (size, tokens) = (self.spec.heads * head_dim, 0..part.tokens());
        let qkv = if self.in_bf16() {
            Qkv::Bf16([0, 1, 2].map(|i| qkv.words().block(tokens.clone(), i * size / 2..(i + 1) * size / 2)))
        } else {
            Qkv::Floats([0, 1, 2].map(|i| qkv.block(tokens.clone(), i * size..(i + 1) * size)))
        };
        let probabilities = attentions.map(|out| Probabilities { out, width: part.width, columns: part.columns });
        attention(self.level, threads, qkv, self.heads(part, dropout), scratch, probabilities, context);
    }

    fn heads<'a>(&self, part: &Part<'a>, dropout: Option<Dropout>) -> Heads<'a> {
        let scale = 1.0 / (self.spec.head_dim as f32).sqrt();
        Heads { dropout, keys: part.keys, ..Heads::new(self.spec.heads, part.starts, scale) }
    }

    /// qkv (T, 3 x heads x head_dim) and the gradient of context, d_context -> the gradient of qkv.
    pub(crate) fn attend_backward(
        &self,
        pass: &Pass,
        dropout: Option<Dropout>,
        qkv: Mat,
        d_context: Mat,
        scratch: &mut [f32],
        d_qkv: MatMut,
    ) {
        let (size, tokens) = (self.spec.heads * self.spec.head_dim, pass.tokens());
        let qkv = [0, 1, 2].map(|i| qkv.block(0..tokens, i * size..(i + 1) * size));
        let (dq, rest) = d_qkv.split_cols(size);
        let (dk, dv) = rest.split_cols(size);
        let heads = self.heads(pass.step.part, dropout);
        attention_backward(self.level, pass.threads, qkv, heads, d_context, scratch, [dq, dk, dv]);
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
