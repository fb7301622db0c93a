//! What attention is made of: heads, rotations, distances, what stands beside it.

use serde::Deserialize;

use super::{EmbeddingNormSpec, RmsNormSpec, WeightShape, one, unit, yes};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionSpec {
    pub heads: usize,
    /// Of keys and values; as many as of queries where it is not given.
    #[serde(default)]
    pub key_heads: Option<usize>,
    pub head_dim: usize,
    #[serde(default = "yes")]
    pub bias: bool,
    /// Whether keys have one, where queries and values do. Where they have none, a checkpoint holds those of the others apart.
    #[serde(default = "yes")]
    pub key_bias: bool,
    #[serde(default = "yes")]
    pub output_bias: bool,
    /// Whether queries, keys and values are made by weights that a checkpoint holds as one.
    #[serde(default)]
    pub fused: bool,
    /// Whether these lie head by head: what makes queries, keys and values of the first, then those of the second.
    #[serde(default)]
    pub by_head: bool,
    /// Of each head of queries and keys by itself, before they are turned.
    #[serde(default)]
    pub query_key_norm: Option<RmsNormSpec>,
    /// Scores become cap tanh(score / cap).
    #[serde(default)]
    pub soft_cap: Option<f32>,
    /// From which a layer takes one.
    #[serde(default)]
    pub rotary: Vec<RotarySpec>,
    pub relative: Option<RelativeSpec>,
    pub disentangled: Option<DisentangledSpec>,
    /// Whether a token attends to itself and to those before it alone.
    #[serde(default)]
    pub causal: bool,
    /// Scores are divided by the root of so many times head_dim.
    #[serde(default = "one")]
    pub scale_factor: usize,
    #[serde(default)]
    pub groups: AttentionGroups,
    #[serde(default)]
    pub stored: WeightShape,
    pub convolution: Option<ConvolutionSpec>,
}

/// Into how many groups the inputs and outputs of each layer are cut, one of outputs reading one of inputs alone.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionGroups {
    pub query: usize,
    pub key: usize,
    pub value: usize,
    pub output: usize,
}

impl Default for AttentionGroups {
    fn default() -> Self {
        AttentionGroups { query: 1, key: 1, value: 1, output: 1 }
    }
}

/// Beside each head of attention one of a convolution over the neighbours of a token, whose kernel is made for each token from its query
/// and its neighbours (Jiang et al. 2020, arXiv 2008.02496).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvolutionSpec {
    /// The tokens that one sees: itself and as many to either side.
    pub kernel: usize,
}

/// Queries and keys are multiplied with vectors of their distance too (He et al. 2020, arXiv 2006.03654).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisentangledSpec {
    /// Half of the number of vectors.
    pub span: usize,
    /// Where distances are in buckets by their logarithm: that of the last bucket; else 0.
    pub max_distance: usize,
    /// Whether queries meet the positions' keys, and keys their queries.
    pub keys: bool,
    pub queries: bool,
    /// Whether these are made by the weights that make queries and keys of tokens, or by weights of their own.
    pub shared: bool,
    pub norm: Option<EmbeddingNormSpec>,
}

/// Queries and keys are turned by angles that grow with the position.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotarySpec {
    /// Of each pair of channels: its angle at position 1. Empty where there is a table.
    #[serde(default)]
    pub frequencies: Vec<f64>,
    #[serde(default)]
    pub interleaved: bool,
    /// Whether an angle is rounded to f32, as torch does it: far from the beginning of a text that is not nothing.
    #[serde(default)]
    pub rounded: bool,
    /// Sines and cosines that are computed are multiplied by it.
    #[serde(default = "unit")]
    pub factor: f32,
    /// Where sines and cosines are read from a table of a checkpoint's: for how many positions. Where there is none it holds
    /// base^(-i / P) for the frequencies.
    #[serde(default)]
    pub table: Option<SinesSpec>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinesSpec {
    pub positions: usize,
    pub pairs: usize,
    pub base: f64,
}

/// A learned bias for each distance of a key, in buckets that grow with it, and each head (Raffel et al. 2020, arXiv 1910.10683).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelativeSpec {
    pub buckets: usize,
    pub max_distance: usize,
    /// Whether half of the buckets are for keys ahead; else these have the bias of a token itself.
    #[serde(default = "yes")]
    pub bidirectional: bool,
    /// Whether each layer has a table of its own; else one is for all.
    #[serde(default)]
    pub by_layer: bool,
}

impl RelativeSpec {
    /// The buckets of one side, and those of them for single distances.
    pub(crate) fn side(&self) -> [usize; 2] {
        let side = if self.bidirectional { self.buckets / 2 } else { self.buckets };
        [side, side / 2]
    }
}

impl RotarySpec {
    pub(crate) fn pairs(&self) -> usize {
        self.table.map_or(self.frequencies.len(), |table| table.pairs)
    }
}

impl AttentionSpec {
    /// The number of positions that the rotations have tables for.
    pub(crate) fn rotary_positions(&self) -> Option<usize> {
        self.rotary.iter().filter_map(|rotary| Some(rotary.table?.positions)).min()
    }

    pub(crate) fn key_heads(&self) -> usize {
        self.key_heads.unwrap_or(self.heads)
    }

    /// The widths of queries, keys and values.
    pub(crate) fn qkv_sizes(&self) -> [usize; 3] {
        [self.heads, self.key_heads(), self.key_heads()].map(|heads| heads * self.head_dim)
    }

    /// The width of all that is made of a token for attention and, where there is one, for the convolution.
    pub(crate) fn qkv_size(&self) -> usize {
        self.qkv_sizes().iter().sum::<usize>() + self.convolved_size()
    }

    /// The width of what the convolution makes, 0 where there is none.
    pub(crate) fn convolved_size(&self) -> usize {
        if self.convolution.is_some() { self.heads * self.head_dim } else { 0 }
    }

    /// Likewise, and where these are normalised, of queries and keys as they were before: what the way back needs.
    pub(crate) fn recorded_qkv_size(&self) -> usize {
        let [queries, keys, _] = self.qkv_sizes();
        self.qkv_size() + self.query_key_norm.map_or(0, |_| queries + keys)
    }
}
