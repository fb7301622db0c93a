//! What is looked up for a token, and what is made of that before the first layer.

use serde::Deserialize;

use super::{EmbeddingNormSpec, yes};

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
