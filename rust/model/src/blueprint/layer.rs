//! What a layer is made of beside attention, and what one layer has that others have not.

use ferroformer_kernels::Activation;
use serde::Deserialize;

use super::{one, yes};

/// The shape of a linear layer's weights in a checkpoint, for N outputs, K inputs and G groups.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightShape {
    /// (N, K / G)
    #[default]
    Rows,
    /// (N, K / G, 1): a convolution that sees one token at a time.
    Convolution,
    /// Likewise, and biases (N, 1).
    Pointwise,
    /// (G, K / G, N / G)
    Groups,
    /// (K, N), without groups.
    Transposed,
}

impl WeightShape {
    /// Of the weights and of the biases.
    pub(crate) fn of(self, [outputs, inputs]: [usize; 2], groups: usize) -> [Vec<usize>; 2] {
        match self {
            WeightShape::Rows => [vec![outputs, inputs / groups], vec![outputs]],
            WeightShape::Convolution => [vec![outputs, inputs / groups, 1], vec![outputs]],
            WeightShape::Pointwise => [vec![outputs, inputs / groups, 1], vec![outputs, 1]],
            WeightShape::Transposed => [vec![inputs, outputs], vec![outputs]],
            WeightShape::Groups => [vec![groups, inputs / groups, outputs / groups], vec![outputs]],
        }
    }
}

/// What sub-layers add to is not what a layer reads but a stream that is made of it, of another width, and at the end, through a linear
/// layer, added to it: sub-layers cost less (Sun et al. 2020, arXiv 2004.02984).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BottleneckSpec {
    /// The stream's width.
    pub size: usize,
    pub attention: BottleneckAttention,
}

/// What queries, keys and values are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BottleneckAttention {
    /// The stream.
    Stream,
    /// Queries and keys of a second one, made likewise; values of what the layer reads.
    Second,
    /// What the layer reads.
    Input,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedForwardSpec {
    pub size: usize,
    /// How many a layer has, one after the other.
    #[serde(default = "one")]
    pub count: usize,
    pub activation: ActivationName,
    /// Whether a second layer beside `up` is multiplied by its activated outputs.
    #[serde(default)]
    pub gated: bool,
    /// Whether a checkpoint holds the two, the activated first, as one.
    #[serde(default)]
    pub fused: bool,
    #[serde(default = "yes")]
    pub bias: bool,
    #[serde(default)]
    pub groups: FeedForwardGroups,
    #[serde(default)]
    pub stored: WeightShape,
}

/// As [`AttentionGroups`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedForwardGroups {
    pub up: usize,
    pub down: usize,
}

impl Default for FeedForwardGroups {
    fn default() -> Self {
        FeedForwardGroups { up: 1, down: 1 }
    }
}

/// Whether feed-forward has a norm of its own then, or reads attention's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parallel {
    OwnNorm,
    SharedNorm,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LayerSpec {
    /// Whose weights it has, where they are not its own: a lower layer's.
    pub shares: Option<usize>,
    /// How far a token attends: to either side, or behind alone where attention is causal.
    pub window: Option<usize>,
    /// What its attention's scores are multiplied by; 1 / the root of head_dim where it is not given.
    pub scale: Option<f32>,
    /// Which of the rotations.
    pub rotary: Option<usize>,
    /// Whether what attention reads is normalised, where blocks do so.
    pub attention_norm: bool,
}

impl Default for LayerSpec {
    fn default() -> Self {
        Self { shares: None, window: None, scale: None, rotary: None, attention_norm: true }
    }
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

impl FeedForwardSpec {
    /// The outputs of `up`, the gate's included.
    pub(crate) fn up_size(&self) -> usize {
        if self.gated { 2 * self.size } else { self.size }
    }
}
