//! What is made of the last hidden states.

use serde::Deserialize;

use super::{ActivationName, EmbeddingNormSpec, yes};

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
