//! Multi-head self-attention with its projections.

use ferroformer_kernels::{
    Epilogue, Form, Level, Mat, MatMut, Narrow, Output, Precision, Probabilities, Qkv, Threads, attention, narrow,
};

use super::Linear;
use crate::batch::Part;
use crate::blueprint::{AttentionSpec, Blueprint};
use crate::error::Result;
use crate::export::Export;
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::workspace::{Room, Workspace};

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

    /// Each sequence of the part with itself: `ws.qkv` -> `ws.context` (T, heads x head_dim).
    pub(crate) fn attend(&self, threads: &Threads, part: &Part, ws: &mut Workspace, attentions: AttentionOutput) {
        let AttentionSpec { heads, head_dim } = self.spec;
        let size = heads * head_dim;
        let (qkv, tokens) = (ws.qkv.mat(), 0..part.tokens());
        let qkv = if self.in_bf16() {
            Qkv::Bf16([0, 1, 2].map(|i| qkv.words().block(tokens.clone(), i * size / 2..(i + 1) * size / 2)))
        } else {
            Qkv::Floats([0, 1, 2].map(|i| qkv.block(tokens.clone(), i * size..(i + 1) * size)))
        };
        let probabilities = attentions.map(|out| Probabilities { out, width: part.width, columns: part.columns });
        let scale = 1.0 / (head_dim as f32).sqrt();
        attention(
            self.level,
            threads,
            qkv,
            heads,
            part.starts,
            scale,
            &mut ws.scratch,
            probabilities,
            ws.context.mat_mut(),
        );
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

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        vec![self.projection.piece(), self.output.piece()]
    }
}
