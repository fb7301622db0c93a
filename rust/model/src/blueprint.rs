//! What a model is made of, in the field's words. Whoever reads a checkpoint's configuration writes one of these.

use ferroformer_kernels::Activation;
use serde::Deserialize;

use crate::error::{ModelError, Result};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blueprint {
    pub hidden_size: usize,
    pub num_layers: usize,
    pub embeddings: EmbeddingsSpec,
    pub attention: AttentionSpec,
    pub feed_forward: FeedForwardSpec,
    pub norm: NormSpec,
    pub pooler: Option<PoolerSpec>,
    pub head: Option<HeadSpec>,
}

/// The sum of a token's, a position's and a token type's vector, normalised.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingsSpec {
    pub vocab_size: usize,
    pub positions: usize,
    pub token_types: usize,
    /// The id of a word whose vector is not learned from where it stands in a text.
    #[serde(default)]
    pub padding: Option<u32>,
    pub norm: EmbeddingNormSpec,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingNormSpec {
    pub eps: f32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionSpec {
    pub heads: usize,
    pub head_dim: usize,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedForwardSpec {
    pub size: usize,
    pub activation: ActivationName,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormSpec {
    pub kind: NormKind,
    pub eps: f32,
    pub placement: NormPlacement,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    LayerNorm,
}

/// Where a block normalises: after the residual sum (post).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlacement {
    Post,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolerSpec {
    pub activation: ActivationName,
}

/// The last layer of a task: a linear one.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadSpec {
    pub outputs: usize,
    pub reads: HeadInput,
    /// A layer before it: dense, activation, norm.
    pub transform: Option<TransformSpec>,
    /// Whether its weights are those of the word embeddings.
    #[serde(default)]
    pub tied: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformSpec {
    pub activation: ActivationName,
    pub eps: f32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadInput {
    /// The pooled vector of each sequence.
    Pooled,
    /// The last hidden state of each token.
    Tokens,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationName {
    Gelu,
    GeluTanh,
    Relu,
    Silu,
    Tanh,
}

impl From<ActivationName> for Activation {
    fn from(name: ActivationName) -> Self {
        match name {
            ActivationName::Gelu => Activation::Gelu,
            ActivationName::GeluTanh => Activation::GeluTanh,
            ActivationName::Relu => Activation::Relu,
            ActivationName::Silu => Activation::Silu,
            ActivationName::Tanh => Activation::Tanh,
        }
    }
}

impl Blueprint {
    pub fn from_json(json: &str) -> Result<Self> {
        let blueprint: Self =
            serde_json::from_str(json).map_err(|e| ModelError::Blueprint(format!("blueprint: {e}")))?;
        blueprint.check()?;
        Ok(blueprint)
    }

    /// Every size is positive and small enough that their products cannot overflow.
    fn check(&self) -> Result<()> {
        const LIMIT: usize = 1 << 31;
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("num_layers", self.num_layers),
            ("embeddings.vocab_size", self.embeddings.vocab_size),
            ("embeddings.positions", self.embeddings.positions),
            ("embeddings.token_types", self.embeddings.token_types),
            ("attention.heads", self.attention.heads),
            ("attention.head_dim", self.attention.head_dim),
            ("feed_forward.size", self.feed_forward.size),
            ("head.outputs", self.head.map_or(1, |head| head.outputs)),
        ];
        for (name, size) in sizes {
            if size == 0 || size > LIMIT {
                return Err(ModelError::Blueprint(format!("{name} is {size}; expected 1 <= {name} <= {LIMIT}")));
            }
        }
        if self.pooler.is_none() && self.head.is_some_and(|head| head.reads == HeadInput::Pooled) {
            return Err(ModelError::Blueprint(
                "a head reads the pooled vectors of a model without a pooler".to_owned(),
            ));
        }
        if let Some(head) = self.head
            && head.tied
            && head.outputs != self.embeddings.vocab_size
        {
            return Err(ModelError::Blueprint(format!(
                "head.outputs is {}; the word embeddings that it shares have {}",
                head.outputs, self.embeddings.vocab_size
            )));
        }
        let transform = self.head.and_then(|head| head.transform).map_or(0.0, |transform| transform.eps);
        for (name, eps) in [
            ("embeddings.norm.eps", self.embeddings.norm.eps),
            ("norm.eps", self.norm.eps),
            ("head.transform.eps", transform),
        ] {
            if !(eps >= 0.0 && eps.is_finite()) {
                return Err(ModelError::Blueprint(format!("{name} is {eps}; expected a finite number >= 0")));
            }
        }
        Ok(())
    }

    /// All sizes that the weights' shapes come from. A pooler is left out: a file may hold one that a model does without.
    pub(crate) fn shapes(&self) -> String {
        let EmbeddingsSpec { vocab_size, positions, token_types, .. } = &self.embeddings;
        format!(
            "hidden_size {}, num_layers {}, vocab_size {vocab_size}, positions {positions}, token_types {token_types}, \
             attention {}, feed_forward {}{}",
            self.hidden_size,
            self.num_layers,
            self.attention_size(),
            self.feed_forward.size,
            self.head.map_or(String::new(), |head| {
                let (transform, tied) = (head.transform.is_some(), head.tied);
                format!(
                    ", head {}{}{}",
                    head.outputs,
                    if transform { " transformed" } else { "" },
                    if tied { " tied" } else { "" }
                )
            })
        )
    }

    /// Whether the word embeddings are the weights of the head too.
    pub(crate) fn tied(&self) -> bool {
        self.head.is_some_and(|head| head.tied)
    }

    /// The width of all heads together.
    pub(crate) fn attention_size(&self) -> usize {
        self.attention.heads * self.attention.head_dim
    }

    /// The number of parameters, saturating.
    pub fn parameters(&self) -> u64 {
        let (h, a, f) = (self.hidden_size as u64, self.attention_size() as u64, self.feed_forward.size as u64);
        let linear = |inputs: u64, outputs: u64| inputs.saturating_add(1).saturating_mul(outputs);
        let e = &self.embeddings;
        let tables = (e.vocab_size as u64 + e.positions as u64 + e.token_types as u64).saturating_mul(h);
        let block = [linear(h, a).saturating_mul(3), linear(a, h), linear(h, f), linear(f, h), 4 * h];
        let block = block.into_iter().fold(0, u64::saturating_add);
        let pooler = if self.pooler.is_some() { linear(h, h) } else { 0 };
        let head = self.head.map_or(0, |head| {
            let transform = if head.transform.is_some() { linear(h, h).saturating_add(2 * h) } else { 0 };
            transform.saturating_add(if head.tied { head.outputs as u64 } else { linear(h, head.outputs as u64) })
        });
        [tables, 2 * h, block.saturating_mul(self.num_layers as u64), pooler, head]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}
