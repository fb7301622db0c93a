//! Multi-head self-attention with its projections.

use ferroformer_kernels::{Epilogue, Level, Probabilities, Threads, attention};

use super::Linear;
use crate::batch::Part;
use crate::blueprint::{AttentionSpec, Blueprint};
use crate::error::Result;
use crate::export::Export;
use crate::loader::{Loader, Slot};
use crate::workspace::Workspace;

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

    pub(crate) fn load(loader: &mut Loader, blueprint: &Blueprint, scope: &str) -> Result<Self> {
        let projection = Linear::load(loader, projection_parts(blueprint, scope), blueprint.hidden_size)?;
        let output = Linear::load(loader, output_parts(blueprint, scope), blueprint.attention_size())?;
        Ok(Self { projection, output, spec: blueprint.attention, level: loader.level })
    }

    /// `ws.hidden` (T, H) -> `ws.sum` = hidden + attention(hidden).
    pub(crate) fn forward(&self, threads: &Threads, part: &Part, ws: &mut Workspace, attentions: AttentionOutput) {
        let AttentionSpec { heads, head_dim } = self.spec;
        self.projection.forward(threads, ws.hidden.mat(), Epilogue::default(), ws.qkv.mat_mut());
        let size = heads * head_dim;
        let qkv = [0, 1, 2].map(|i| ws.qkv.mat().block(0..part.tokens(), i * size..(i + 1) * size));
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
        let residual = Epilogue { residual: Some(ws.hidden.mat()), ..Epilogue::default() };
        self.output.forward(threads, ws.context.mat(), residual, ws.sum.mat_mut());
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.projection.exports().chain(self.output.exports())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.projection.bytes() + self.output.bytes()
    }
}
