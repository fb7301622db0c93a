//! Norms: which, where, around what.

use ferroformer_kernels::Norm;
use serde::Deserialize;

use super::yes;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingNormSpec {
    pub eps: f32,
    #[serde(default)]
    pub kind: NormKind,
    #[serde(default = "yes")]
    pub bias: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsNormSpec {
    pub eps: f32,
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

/// Where a block normalises: after the residual sums; or what attention and feed-forward read, and then once more after the last
/// block; or likewise and what they made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlacement {
    Post,
    Pre,
    Sandwich,
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
