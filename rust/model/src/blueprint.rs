//! What a model is made of, in the field's words. Whoever reads a checkpoint's configuration writes one of these.

use ferroformer_kernels::{Activation, Norm};
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

/// The sum of a token's vector and, where there are such tables, its position's and its token type's; normalised, projected.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingsSpec {
    pub vocab_size: usize,
    /// Of the vectors; the model's where it is not given.
    #[serde(default)]
    pub size: Option<usize>,
    /// What words' vectors are multiplied by; others, which a caller gives for them, are not.
    #[serde(default)]
    pub factor: Option<FactorSpec>,
    pub positions: Option<usize>,
    pub token_types: Option<usize>,
    /// Another table of the same kind.
    #[serde(default)]
    pub task_types: Option<usize>,
    /// Whether words are looked up among those of the model that reads this one.
    #[serde(default)]
    pub shared: bool,
    /// The id of a word whose vector is not learned from where it stands in a text.
    #[serde(default)]
    pub padding: Option<u32>,
    /// The same of a position. Positions are then counted from it, over the words that have another id; those that have this one as
    /// their id have it as their position.
    #[serde(default)]
    pub padding_position: Option<u32>,
    /// How many rows of the positions' table stand before that of position 0. Positions then count tokens, not columns: padding on the
    /// left moves nothing.
    #[serde(default)]
    pub position_offset: usize,
    /// Whether they count columns all the same.
    #[serde(default)]
    pub position_columns: bool,
    /// Positions' vectors where no training changes them.
    #[serde(default)]
    pub sines: Option<PositionSines>,
    pub norm: Option<EmbeddingNormSpec>,
    /// Whether a linear layer follows, from `size` to the model's.
    #[serde(default)]
    pub projection: bool,
    /// Whether that layer reads words' vectors alone. Those of the other tables have the model's size and are added to what it makes; the
    /// norm is of the sum.
    #[serde(default)]
    pub words_projected: bool,
    #[serde(default = "yes")]
    pub projection_bias: bool,
    /// Whether it reads the vectors of a word's neighbours too: of the next one, its own, of the one before, zeros where a row ends.
    #[serde(default)]
    pub neighbours: bool,
    /// Whether what stands in padding becomes zeros, where it is computed, and attends to nothing in any layer.
    #[serde(default)]
    pub masked: bool,
}

/// The sines of angles that grow with the position, their cosines, and zeros where there are more channels: unless a checkpoint has
/// others. Zeros for the position that is a padding's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionSines {
    /// The angles at position 1.
    pub frequencies: Vec<f64>,
    /// Whether an angle is rounded to f32, as torch does it.
    #[serde(default)]
    pub rounded: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactorSpec {
    pub value: f32,
    /// Whether it is rounded to the precision that the weights have, where that is bf16.
    #[serde(default)]
    pub rounded: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingNormSpec {
    pub eps: f32,
    #[serde(default)]
    pub kind: NormKind,
    #[serde(default = "yes")]
    pub bias: bool,
}

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

/// Beside each head of attention one of a convolution over the neighbours of a token, whose kernel is made for each token from its query
/// and its neighbours (Jiang et al. 2020, arXiv 2008.02496).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvolutionSpec {
    /// The tokens that one sees: itself and as many to either side.
    pub kernel: usize,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsNormSpec {
    pub eps: f32,
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

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormSpec {
    pub kind: NormKind,
    pub eps: f32,
    /// Of a layer's last feed-forward, where that is another.
    #[serde(default)]
    pub last_eps: Option<f32>,
    pub placement: NormPlacement,
    #[serde(default = "yes")]
    pub bias: bool,
    /// What is added to the weights: 1 where these are what a factor differs from 1 by.
    #[serde(default)]
    pub offset: f32,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    #[default]
    LayerNorm,
    /// Without a mean and without a bias.
    RmsNorm,
    /// Weights and a bias, and nothing normalised.
    Affine,
}

/// Whether feed-forward has a norm of its own then, or reads attention's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parallel {
    OwnNorm,
    SharedNorm,
}

/// Where a block normalises: after the residual sums; or what attention and feed-forward read, and then once more after the last
/// block; or likewise and what they made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlacement {
    Post,
    Pre,
    Sandwich,
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

/// A vector for each sequence: one token's or a mean, through a dense layer where there is one.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolerSpec {
    #[serde(default = "yes")]
    pub dense: bool,
    pub activation: Option<ActivationName>,
    #[serde(default)]
    pub reads: PoolerInput,
    #[serde(default = "yes")]
    pub bias: bool,
    /// After the activation.
    #[serde(default)]
    pub norm: Option<EmbeddingNormSpec>,
    /// Whether what it reads is dropped as what the head reads is.
    #[serde(default)]
    pub dropout: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolerInput {
    #[default]
    First,
    /// The one that stands last in its row.
    Last,
    Mean,
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
    /// How many of its inputs these weights read, where others, held as (inputs, outputs), read the rest.
    #[serde(default)]
    pub split: Option<usize>,
    #[serde(default = "yes")]
    pub bias: bool,
    /// Whether no training changes that; a checkpoint has it as (1, outputs).
    #[serde(default)]
    pub fixed_bias: bool,
    /// What comes out becomes cap tanh(x / cap).
    #[serde(default)]
    pub soft_cap: Option<f32>,
    /// What it reads is multiplied by it; where there is no transform.
    #[serde(default)]
    pub factor: Option<f32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformSpec {
    pub activation: Option<ActivationName>,
    pub norm: Option<EmbeddingNormSpec>,
    /// Its outputs; the model's size where it is not given.
    #[serde(default)]
    pub size: Option<usize>,
    #[serde(default = "yes")]
    pub bias: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadInput {
    /// The pooled vector of each sequence.
    Pooled,
    /// The last hidden state of each token.
    Tokens,
    /// Likewise, and the mean over a sequence's tokens of what comes out.
    Mean,
}

impl HeadInput {
    /// Whether what comes out is one row for each sequence.
    pub fn of_sequences(self) -> bool {
        self != HeadInput::Tokens
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

fn one() -> usize {
    1
}

fn unit() -> f32 {
    1.0
}

fn yes() -> bool {
    true
}

impl NormKind {
    fn norm(self) -> Norm {
        Norm { centred: self == NormKind::LayerNorm, scaled: self != NormKind::Affine, eps: 0.0, offset: 0.0 }
    }
}

impl NormSpec {
    pub(crate) fn norm(&self) -> Norm {
        Norm { eps: self.eps, offset: self.offset, ..self.kind.norm() }
    }

    /// Of a layer's last feed-forward.
    pub(crate) fn last(&self) -> Self {
        NormSpec { eps: self.last_eps.unwrap_or(self.eps), ..*self }
    }

    pub(crate) fn biased(&self) -> bool {
        self.bias && self.kind != NormKind::RmsNorm
    }
}

impl EmbeddingNormSpec {
    pub(crate) fn norm(self) -> Norm {
        Norm { eps: self.eps, ..self.kind.norm() }
    }
}

impl RmsNormSpec {
    pub(crate) fn norm(self) -> Norm {
        Norm { eps: self.eps, ..NormKind::RmsNorm.norm() }
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

impl FeedForwardSpec {
    /// The outputs of `up`, the gate's included.
    pub(crate) fn up_size(&self) -> usize {
        if self.gated { 2 * self.size } else { self.size }
    }
}

impl Blueprint {
    pub fn from_json(json: &str) -> Result<Self> {
        let blueprint: Self =
            serde_json::from_str(json).map_err(|e| ModelError::Blueprint(format!("blueprint: {e}")))?;
        blueprint.check()?;
        Ok(blueprint)
    }

    fn check(&self) -> Result<()> {
        if let Some(source) = &self.source {
            let plain = source.source.is_none() && source.pooler.is_none() && source.head.is_none();
            if !plain || source.attention.causal || source.attention.disentangled.is_some() {
                return Err(refused(
                    "a source is an encoder without pooler and head, without vectors of distances".to_owned(),
                ));
            }
            if source.embeddings.shared
                && [source.embeddings.vocab_size, source.embedding_size()]
                    != [self.embeddings.vocab_size, self.embedding_size()]
            {
                return Err(refused("a source that shares words has others".to_owned()));
            }
            source.check()?;
        }
        self.check_sizes()?;
        self.check_layers()?;
        self.check_groups()?;
        self.check_convolution()?;
        self.check_bottleneck()?;
        self.check_head()?;
        let embedding_norm = self.embeddings.norm.map_or(0.0, |norm| norm.eps);
        let transform = self.head.and_then(|head| head.transform?.norm).map_or(0.0, |norm| norm.eps);
        let pooler = self.pooler.and_then(|pooler| pooler.norm).map_or(0.0, |norm| norm.eps);
        for (name, eps) in [
            ("embeddings.norm.eps", embedding_norm),
            ("norm.eps", self.norm.eps),
            ("norm.last_eps", self.norm.last().eps),
            ("head.transform.norm.eps", transform),
            ("pooler.norm.eps", pooler),
            ("attention.query_key_norm.eps", self.attention.query_key_norm.map_or(0.0, |norm| norm.eps)),
        ] {
            if !(eps >= 0.0 && eps.is_finite()) {
                return Err(refused(format!("{name} is {eps}; expected a finite number >= 0")));
            }
        }
        self.check_numbers()
    }

    fn check_numbers(&self) -> Result<()> {
        let factors = self.attention.rotary.iter().map(|rotary| ("attention.rotary.factor", rotary.factor));
        let others = [
            ("embeddings.factor", self.embeddings.factor.map_or(1.0, |factor| factor.value)),
            ("norm.offset", self.norm.offset),
            ("head.factor", self.head.and_then(|head| head.factor).unwrap_or(1.0)),
        ];
        if let Some((name, x)) = factors.chain(others).find(|(_, x)| !x.is_finite()) {
            return Err(refused(format!("{name} is {x}; expected a finite number")));
        }
        let caps = [
            ("attention.soft_cap", self.attention.soft_cap),
            ("head.soft_cap", self.head.and_then(|head| head.soft_cap)),
        ];
        match caps.into_iter().find(|(_, cap)| cap.is_some_and(|cap| !(cap > 0.0 && cap.is_finite()))) {
            Some((name, cap)) => {
                Err(refused(format!("{name} is {}; expected a finite number > 0", cap.unwrap_or(0.0))))
            }
            None => Ok(()),
        }
    }

    /// Every size is positive and small enough that their products cannot overflow.
    fn check_sizes(&self) -> Result<()> {
        const LIMIT: usize = 1 << 31;
        // Every slot has a name: a damaged file must not ask for a billion.
        const MOST_LAYERS: usize = 1 << 12;
        let e = &self.embeddings;
        let transform = self.head.and_then(|head| head.transform?.size);
        let sizes = [
            ("hidden_size", Some(self.hidden_size)),
            ("num_layers", Some(self.num_layers)),
            ("embeddings.vocab_size", Some(e.vocab_size)),
            ("embeddings.size", e.size),
            ("embeddings.positions", e.positions),
            ("embeddings.token_types", e.token_types),
            ("embeddings.task_types", e.task_types),
            ("attention.heads", Some(self.attention.heads)),
            ("attention.head_dim", Some(self.attention.head_dim)),
            ("attention.rotary.table.positions", self.attention.rotary_positions()),
            ("attention.disentangled.span", self.attention.disentangled.map(|d| d.span)),
            ("attention.scale_factor", Some(self.attention.scale_factor)),
            ("attention.relative.buckets", self.attention.relative.map(|relative| relative.buckets)),
            ("feed_forward.size", Some(self.feed_forward.size)),
            ("feed_forward.count", Some(self.feed_forward.count)),
            ("bottleneck.size", self.bottleneck.map(|bottleneck| bottleneck.size)),
            ("attention.convolution.kernel", self.attention.convolution.map(|convolution| convolution.kernel)),
            ("head.outputs", self.head.map(|head| head.outputs)),
            ("head.transform.size", transform),
            ("second_head.outputs", self.second_head.map(|head| head.outputs)),
        ];
        for (name, size) in sizes {
            if let Some(size) = size.filter(|size| *size == 0 || *size > LIMIT) {
                return Err(refused(format!("{name} is {size}; expected 1 <= {name} <= {LIMIT}")));
            }
        }
        for (name, count) in [("num_layers", self.num_layers), ("feed_forward.count", self.feed_forward.count)] {
            if count > MOST_LAYERS {
                return Err(refused(format!("{name} is {count}; at most {MOST_LAYERS} are supported")));
            }
        }
        if !e.projection && self.embedding_size() != self.hidden_size {
            let problem = format!("embeddings.size is {}, hidden_size {}", self.embedding_size(), self.hidden_size);
            return Err(refused(format!("{problem}: a projection is needed")));
        }
        if e.positions.is_some_and(|rows| rows <= e.position_offset) || e.positions.is_none() && e.position_offset > 0 {
            let rows = e.positions.unwrap_or(0);
            let problem = format!("embeddings.positions is {rows}, embeddings.position_offset {}", e.position_offset);
            return Err(refused(format!("{problem}: no position is left")));
        }
        if e.position_offset > 0 && (e.padding_position.is_some() || !self.attention.rotary.is_empty()) {
            return Err(refused("embeddings.position_offset is for tables of positions alone".to_owned()));
        }
        if e.position_columns && e.position_offset == 0 {
            return Err(refused("embeddings.position_columns is for positions with an offset".to_owned()));
        }
        if let Some(sines) = &e.sines
            && (e.positions.is_none() || sines.frequencies.iter().any(|x| !x.is_finite()))
        {
            return Err(refused("embeddings.sines are of a table of positions and of finite numbers".to_owned()));
        }
        if e.words_projected && !e.projection || e.neighbours && !e.words_projected {
            return Err(refused(
                "embeddings.words_projected goes with a projection, embeddings.neighbours with that".to_owned(),
            ));
        }
        if e.neighbours && (self.attention.causal || self.source.is_some() || e.shared) {
            return Err(refused("embeddings.neighbours are an encoder's: a word sees the one behind it".to_owned()));
        }
        if e.masked && e.projection {
            return Err(refused("embeddings cannot be both masked and projected".to_owned()));
        }
        Ok(())
    }

    fn check_layers(&self) -> Result<()> {
        let (count, layers) = (self.layers.len(), self.num_layers);
        if count != 0 && count != layers {
            return Err(refused(format!("layers has {count} entries; expected none or num_layers = {layers}")));
        }
        for (i, layer) in self.layers.iter().enumerate() {
            if !layer.attention_norm && !self.pre_norm() {
                return Err(refused(format!("layer {i} has no norm after attention")));
            }
            if layer.shares.is_some_and(|j| j >= i || self.layers[j].shares.is_some()) {
                return Err(refused(format!("layer {i} shares the weights of no lower layer that has its own")));
            }
            if layer.rotary.is_some_and(|r| r >= self.attention.rotary.len()) {
                return Err(refused(format!("layer {i} has a rotation that attention.rotary lacks")));
            }
            if let Some(scale) = layer.scale.filter(|scale| !scale.is_finite()) {
                return Err(refused(format!("layer {i} has the scale {scale}; expected a finite number")));
            }
        }
        if self.parallel.is_some() && (self.norm.placement != NormPlacement::Pre || self.source.is_some()) {
            return Err(refused("parallel sub-layers go with norms before them and without a source".to_owned()));
        }
        if let Some(relative) = self.attention.relative {
            let [_, single] = relative.side();
            if single == 0 || relative.max_distance <= single || relative.max_distance > 1 << 31 {
                let RelativeSpec { buckets, max_distance, .. } = relative;
                let problem = format!("attention.relative has {buckets} buckets up to the distance {max_distance}");
                let expected = "expected a bucket for a single distance on each side, and distances beyond these";
                return Err(refused(format!("{problem}; {expected}")));
            }
        }
        if self.attention.disentangled.is_some_and(|d| d.span < 4 || !d.keys && !d.queries) {
            return Err(refused("attention.disentangled needs a span of 4 or more, and keys or queries".to_owned()));
        }
        let (heads, key_heads, dim) = (self.attention.heads, self.attention.key_heads(), self.attention.head_dim);
        if key_heads == 0 || !heads.is_multiple_of(key_heads) {
            return Err(refused(format!(
                "attention.heads = {heads} is no multiple of attention.key_heads = {key_heads}"
            )));
        }
        if self.attention.by_head && (!self.attention.fused || key_heads != heads) {
            return Err(refused("attention.by_head is for weights held as one, with as many heads of keys".to_owned()));
        }
        if self.attention.stored != WeightShape::Rows && self.attention.by_head {
            return Err(refused("attention.by_head is for weights held as rows".to_owned()));
        }
        if self.attention.rotary.iter().any(|rotary| 2 * rotary.pairs() > dim) {
            return Err(refused(format!("a rotation turns more than the {dim} channels of a head")));
        }
        Ok(())
    }

    /// Groups divide what they cut.
    fn check_groups(&self) -> Result<()> {
        let (attention, feed_forward) = (&self.attention, &self.feed_forward);
        let ([queries, keys, values], hidden) = (attention.qkv_sizes(), self.stream_size());
        let all = [
            ("attention.groups.query", attention.groups.query, [hidden, queries]),
            ("attention.groups.key", attention.groups.key, [hidden, keys]),
            ("attention.groups.value", attention.groups.value, [hidden, values]),
            ("attention.groups.output", attention.groups.output, [self.context_size(), hidden]),
            ("feed_forward.groups.up", feed_forward.groups.up, [hidden, feed_forward.size]),
            ("feed_forward.groups.down", feed_forward.groups.down, [feed_forward.size, hidden]),
        ];
        for (name, groups, sizes) in all {
            if groups == 0 || sizes.iter().any(|size| !size.is_multiple_of(groups)) {
                return Err(refused(format!("{name} is {groups}, no divisor of {sizes:?}")));
            }
        }
        let whole = |sizes: &[usize]| sizes.iter().all(|groups| *groups == 1);
        let AttentionGroups { query, key, value, output } = attention.groups;
        let FeedForwardGroups { up, down } = feed_forward.groups;
        let transposed = |stored| stored == WeightShape::Transposed;
        if transposed(attention.stored) && !whole(&[query, key, value, output])
            || transposed(feed_forward.stored) && !whole(&[up, down])
        {
            return Err(refused("weights held as (inputs, outputs) have no groups".to_owned()));
        }
        if attention.fused && !whole(&[query, key, value]) || feed_forward.gated && !whole(&[up]) {
            return Err(refused("layers that are fused or gated have no groups".to_owned()));
        }
        if attention.disentangled.is_some() && !whole(&[query, key, value]) {
            return Err(refused("disentangled attention has no groups".to_owned()));
        }
        Ok(())
    }

    fn check_convolution(&self) -> Result<()> {
        let attention = &self.attention;
        let Some(convolution) = attention.convolution else { return Ok(()) };
        if convolution.kernel.is_multiple_of(2) {
            return Err(refused(format!("attention.convolution.kernel is {}; it is odd", convolution.kernel)));
        }
        if attention.key_heads() != attention.heads || attention.fused || self.pre_norm() {
            let problem = "a convolution beside attention wants a head of keys for each of queries, unfused, and norms after sums";
            return Err(refused(problem.to_owned()));
        }
        let alone = attention.rotary.is_empty() && attention.query_key_norm.is_none();
        if attention.causal || self.source.is_some() || !alone {
            let problem = "a convolution beside attention sees what follows a token, and reads queries as they were made: there is no causal attention, no source, no rotation and no norm of queries";
            return Err(refused(problem.to_owned()));
        }
        Ok(())
    }

    fn check_bottleneck(&self) -> Result<()> {
        if self.feed_forward.count > 1 && self.parallel.is_some() {
            return Err(refused("sub-layers that are parallel are two".to_owned()));
        }
        let Some(bottleneck) = self.bottleneck else { return Ok(()) };
        let AttentionSpec { query_key_norm, disentangled, convolution, fused, groups, stored, .. } = &self.attention;
        let plain = *stored == WeightShape::Rows && [groups.query, groups.key, groups.value, groups.output] == [1; 4];
        let alone = query_key_norm.is_none() && disentangled.is_none() && convolution.is_none();
        if self.norm.placement != NormPlacement::Post || self.source.is_some() || !alone || !plain {
            let problem = "a bottleneck goes with norms after sums, without a source, and with plain attention";
            return Err(refused(problem.to_owned()));
        }
        if *fused && bottleneck.attention == BottleneckAttention::Second {
            return Err(refused("queries, keys and values that read different vectors are not fused".to_owned()));
        }
        Ok(())
    }

    fn check_head(&self) -> Result<()> {
        if self.pooler.is_some_and(|pooler| !pooler.dense && (pooler.activation.is_some() || pooler.norm.is_some())) {
            return Err(refused("a pooler without a dense layer has no activation and no norm".to_owned()));
        }
        let plain = |head: &HeadSpec| head.reads == HeadInput::Pooled && head.transform.is_none() && !head.tied;
        if self.second_head.is_some_and(|head| !plain(&head) || self.pooler.is_none() || self.head.is_none()) {
            return Err(refused("a second head is a linear layer on pooled vectors, beside a first".to_owned()));
        }
        let Some(head) = self.head else { return Ok(()) };
        if head.factor.is_some() && head.transform.is_some() {
            return Err(refused("head.factor is for a head without a transform".to_owned()));
        }
        if self.pooler.is_none() && head.reads == HeadInput::Pooled {
            return Err(refused("a head reads the pooled vectors of a model without a pooler".to_owned()));
        }
        let reads = head.transform.and_then(|transform| transform.size).unwrap_or(self.hidden_size);
        if let Some(split) = head.split.filter(|split| *split == 0 || *split >= reads) {
            return Err(refused(format!(
                "head.split is {split}; expected 0 < head.split < {reads}, the head's inputs"
            )));
        }
        if !head.tied {
            return Ok(());
        }
        let reads = head.split.unwrap_or(reads);
        let words = [self.embeddings.vocab_size, self.embedding_size()];
        if [head.outputs, reads] != words {
            let [outputs, inputs] = words;
            return Err(refused(format!(
                "a head of {} outputs from {reads} cannot share word embeddings of ({outputs}, {inputs})",
                head.outputs
            )));
        }
        Ok(())
    }

    /// All that the weights' shapes come from. A pooler is left out: a file may hold one that a model does without.
    pub(crate) fn shapes(&self) -> String {
        let EmbeddingsSpec { vocab_size, size, positions, token_types, task_types, norm, projection, .. } =
            &self.embeddings;
        let layers: Vec<_> = self.layers.iter().map(|layer| (layer.shares, layer.attention_norm)).collect();
        let plain = self.layers.iter().all(|layer| layer.shares.is_none() && layer.attention_norm);
        let (attention, feed_forward) = (&self.attention, self.feed_forward);
        let mut shapes = format!(
            "hidden_size {}, num_layers {}, vocab_size {vocab_size}, positions {positions:?}, token_types {token_types:?}, \
             task_types {task_types:?}, embeddings {size:?} norm {:?} projection {projection}, attention {:?} bias {} {} \
             relative {:?} rotary {:?} distances {:?}, feed_forward {} gated {} bias {}, norm {:?} {:?} bias {}",
            self.hidden_size,
            self.num_layers,
            norm.map(|norm| norm.bias),
            attention.qkv_sizes(),
            attention.bias,
            attention.output_bias,
            attention.relative.map(|relative| (relative.buckets, attention.heads)),
            attention.rotary_positions(),
            attention.disentangled.map(|d| (d.span, d.keys, d.queries, d.shared, d.norm.map(|norm| norm.bias))),
            feed_forward.size,
            feed_forward.gated,
            feed_forward.bias,
            self.norm.kind,
            self.norm.placement,
            self.norm.biased(),
        );
        if attention.relative.is_some_and(|relative| relative.by_layer) {
            shapes += ", relative by layer";
        }
        if !attention.key_bias {
            shapes += ", keys without bias";
        }
        if attention.query_key_norm.is_some() {
            shapes += ", query_key_norm";
        }
        if self.embeddings.words_projected {
            shapes += ", words projected";
            if self.embeddings.projection_bias {
                shapes += " with a bias";
            }
            if self.embeddings.neighbours {
                shapes += " and with neighbours";
            }
        }
        if let Some(bottleneck) = self.bottleneck {
            shapes += &format!(", bottleneck {} {:?}", bottleneck.size, bottleneck.attention);
        }
        if feed_forward.count > 1 {
            shapes += &format!(", feed_forwards {}", feed_forward.count);
        }
        if !plain {
            shapes += &format!(", layers {layers:?}");
        }
        if let Some(parallel) = self.parallel {
            shapes += &format!(", parallel {parallel:?}");
        }
        if let Some(source) = &self.source {
            shapes += &format!(", source ({})", source.shapes());
        }
        let AttentionGroups { query, key, value, output } = attention.groups;
        let groups = [query, key, value, output, feed_forward.groups.up, feed_forward.groups.down];
        if groups != [1; 6] {
            shapes += &format!(", groups {groups:?}");
        }
        if let Some(convolution) = attention.convolution {
            shapes += &format!(", convolution {}", convolution.kernel);
        }
        if let Some(head) = self.head {
            let transform = head.transform.map(|t| (t.size, t.bias, t.norm.map(|norm| norm.bias)));
            shapes += &format!(", head {} bias {} transform {transform:?} tied {}", head.outputs, head.bias, head.tied);
            if let Some(split) = head.split {
                shapes += &format!(" split {split}");
            }
        }
        if let Some(head) = self.second_head {
            shapes += &format!(", second head {} bias {}", head.outputs, head.bias);
        }
        shapes
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

fn refused(problem: String) -> ModelError {
    ModelError::Blueprint(problem)
}
