//! One layer of a transformer: attention, then feed-forward, each added to its input and normalised.

use ferroformer_kernels::Threads;

use crate::batch::Part;
use crate::blueprint::{Blueprint, NormKind, NormPlacement};
use crate::error::Result;
use crate::export::Export;
use crate::ingredients::{AttentionOutput, FeedForward, LayerNorm, SelfAttention};
use crate::loader::{Loader, Slot};
use crate::workspace::Workspace;

pub(crate) struct Block {
    attention: SelfAttention,
    attention_norm: LayerNorm,
    feed_forward: FeedForward,
    feed_forward_norm: LayerNorm,
}

impl Block {
    pub(crate) fn slots(blueprint: &Blueprint, scope: &str) -> Vec<Slot> {
        let mut slots = SelfAttention::slots(blueprint, &format!("{scope}.attention"));
        slots.extend(LayerNorm::slots(&format!("{scope}.attention.norm"), blueprint.hidden_size));
        slots.extend(FeedForward::slots(blueprint, &format!("{scope}.feed_forward")));
        slots.extend(LayerNorm::slots(&format!("{scope}.feed_forward.norm"), blueprint.hidden_size));
        slots
    }

    pub(crate) fn load(loader: &mut Loader, blueprint: &Blueprint, scope: &str) -> Result<Self> {
        let (NormKind::LayerNorm, NormPlacement::Post) = (blueprint.norm.kind, blueprint.norm.placement);
        let (size, eps) = (blueprint.hidden_size, blueprint.norm.eps);
        Ok(Self {
            attention: SelfAttention::load(loader, blueprint, &format!("{scope}.attention"))?,
            attention_norm: LayerNorm::load(loader, format!("{scope}.attention.norm"), size, eps)?,
            feed_forward: FeedForward::load(loader, blueprint, &format!("{scope}.feed_forward"))?,
            feed_forward_norm: LayerNorm::load(loader, format!("{scope}.feed_forward.norm"), size, eps)?,
        })
    }

    /// `ws.hidden` (T, H) in and out.
    pub(crate) fn forward(&self, threads: &Threads, part: &Part, ws: &mut Workspace, attentions: AttentionOutput) {
        self.attention.forward(threads, part, ws, attentions);
        self.attention_norm.forward(threads, ws.sum.mat(), ws.hidden.mat_mut());
        self.feed_forward.forward(threads, ws);
        self.feed_forward_norm.forward(threads, ws.sum.mat(), ws.hidden.mat_mut());
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let attention = self.attention.exports().chain(self.attention_norm.exports());
        attention.chain(self.feed_forward.exports()).chain(self.feed_forward_norm.exports())
    }

    pub(crate) fn bytes(&self) -> usize {
        let norms = self.attention_norm.bytes() + self.feed_forward_norm.bytes();
        self.attention.bytes() + self.feed_forward.bytes() + norms
    }
}
