//! What a model is made of, in the field's words. Whoever reads a checkpoint's configuration writes one of these.

mod attention;
mod check;
mod embeddings;
mod head;
mod layer;
mod norm;
mod shapes;

use serde::Deserialize;

use crate::error::{ModelError, Result};
pub(crate) use attention::{
    AttentionGroups, AttentionSpec, ConvolutionSpec, DisentangledSpec, RelativeSpec, RotarySpec, SinesSpec,
};
pub(crate) use embeddings::{EmbeddingsSpec, FactorSpec, PositionSines};
pub use head::HeadInput;
pub(crate) use head::{HeadSpec, PoolerInput, PoolerSpec, TransformSpec};
pub(crate) use layer::{
    ActivationName, BottleneckAttention, BottleneckSpec, FeedForwardGroups, FeedForwardSpec, LayerSpec, Parallel,
    WeightShape,
};
pub(crate) use norm::{EmbeddingNormSpec, NormPlacement, NormSpec, RmsNormSpec};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blueprint {
    pub hidden_size: usize,
    pub num_layers: usize,
    pub embeddings: EmbeddingsSpec,
    pub attention: AttentionSpec,
    pub feed_forward: FeedForwardSpec,
    pub norm: NormSpec,
    /// Whether feed-forward reads what attention reads, not what that made of it.
    #[serde(default)]
    pub parallel: Option<Parallel>,
    /// Where the sub-layers of a layer work on a stream of another width.
    #[serde(default)]
    pub bottleneck: Option<BottleneckSpec>,
    /// The model whose last hidden states each layer attends to as well.
    #[serde(default)]
    pub source: Option<Box<Blueprint>>,
    /// What is peculiar to a layer; one for each, or none.
    #[serde(default)]
    pub layers: Vec<LayerSpec>,
    pub pooler: Option<PoolerSpec>,
    pub head: Option<HeadSpec>,
    /// A second head, on the pooled vectors.
    #[serde(default)]
    pub second_head: Option<HeadSpec>,
}

fn one() -> usize {
    1
}

fn unit() -> f32 {
    1.0
}

fn yes() -> bool {
    true
}

impl Blueprint {
    pub fn from_json(json: &str) -> Result<Self> {
        let blueprint: Self =
            serde_json::from_str(json).map_err(|e| ModelError::Blueprint(format!("blueprint: {e}")))?;
        blueprint.check()?;
        Ok(blueprint)
    }

    /// The width of what a sequence's pooled vector becomes.
    pub fn pooled_size(&self) -> usize {
        self.second_head.map_or(self.hidden_size, |head| head.outputs)
    }

    pub(crate) fn layer(&self, i: usize) -> LayerSpec {
        self.layers.get(i).copied().unwrap_or_default()
    }

    /// The layers that have weights of their own.
    pub(crate) fn own_layers(&self) -> impl Iterator<Item = usize> {
        (0..self.num_layers).filter(|i| self.layer(*i).shares.is_none())
    }

    /// Which of the blocks, one for each of [`own_layers`](Self::own_layers), each layer has.
    pub(crate) fn blocks(&self) -> Vec<usize> {
        let own: Vec<usize> = self.own_layers().collect();
        (0..self.num_layers).map(|i| own.binary_search(&self.layer(i).shares.unwrap_or(i)).unwrap_or(0)).collect()
    }

    pub(crate) fn pre_norm(&self) -> bool {
        self.norm.placement != NormPlacement::Post
    }

    /// Whether a token's vectors depend on how far others stand from it, beside on positions.
    pub(crate) fn counts_distances(&self) -> bool {
        self.attention.relative.is_some()
            || self.attention.disentangled.is_some()
            || self.layers.iter().any(|layer| layer.window.is_some())
    }

    /// The width of what sub-layers add to.
    pub(crate) fn stream_size(&self) -> usize {
        self.bottleneck.map_or(self.hidden_size, |bottleneck| bottleneck.size)
    }

    /// The width of what queries, keys and values are made of.
    pub(crate) fn attention_inputs(&self) -> usize {
        let Some(BottleneckSpec { size, attention }) = self.bottleneck else { return self.hidden_size };
        match attention {
            BottleneckAttention::Stream => size,
            BottleneckAttention::Second => size + self.hidden_size,
            BottleneckAttention::Input => self.hidden_size,
        }
    }

    /// The width of what is looked up.
    pub(crate) fn embedding_size(&self) -> usize {
        self.embeddings.size.unwrap_or(self.hidden_size)
    }

    /// The width of what the embeddings' projection reads.
    pub(crate) fn projected_size(&self) -> usize {
        self.embedding_size() * if self.embeddings.neighbours { 3 } else { 1 }
    }

    /// Whether the word embeddings are the weights of the head too.
    pub(crate) fn tied(&self) -> bool {
        self.head.is_some_and(|head| head.tied)
    }

    /// The width of all heads together.
    pub(crate) fn attention_size(&self) -> usize {
        self.attention.heads * self.attention.head_dim
    }

    /// The width of what attention makes of a token, with the convolution's.
    pub(crate) fn context_size(&self) -> usize {
        self.attention_size() + self.attention.convolved_size()
    }

    /// The number of parameters, saturating.
    pub fn parameters(&self) -> u64 {
        let sizes = crate::weights::Weights::slots(self).into_iter().map(|slot| slot.shape);
        sizes
            .map(|shape| shape.iter().fold(1u64, |n, size| n.saturating_mul(*size as u64)))
            .fold(0, u64::saturating_add)
    }
}
