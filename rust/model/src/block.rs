//! One layer of a transformer: attention, then feed-forward, each added to its input and normalised.

use ferroformer_kernels::{Form, Mat, MatMut, Narrow, Threads};

use crate::batch::Part;
use crate::blueprint::{Blueprint, NormKind, NormPlacement};
use crate::error::Result;
use crate::export::Export;
use crate::ingredients::{AttentionOutput, FeedForward, LayerNorm, SelfAttention};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::workspace::{Room, Workspace};

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

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, scope: &str) -> Result<Self> {
        let (NormKind::LayerNorm, NormPlacement::Post) = (blueprint.norm.kind, blueprint.norm.placement);
        let (size, eps) = (blueprint.hidden_size, blueprint.norm.eps);
        Ok(Self {
            attention: SelfAttention::load(loader, blueprint, &format!("{scope}.attention"))?,
            attention_norm: LayerNorm::load(loader, format!("{scope}.attention.norm"), size, eps)?,
            feed_forward: FeedForward::load(loader, blueprint, &format!("{scope}.feed_forward"))?,
            feed_forward_norm: LayerNorm::load(loader, format!("{scope}.feed_forward.norm"), size, eps)?,
        })
    }

    /// hidden (T, H), in the form of this block in `narrow` -> queries, keys and values (T, 3 x heads x head_dim).
    pub(crate) fn project(&self, threads: &Threads, hidden: Mat, narrow: &Narrow, qkv: MatMut) {
        self.attention.project(threads, hidden, narrow, qkv);
    }

    /// The form in which [`project`](Self::project) reads.
    pub(crate) fn form(&self) -> Form {
        self.attention.form()
    }

    /// `ws.qkv` of all tokens of the part -> `ws.context`.
    pub(crate) fn attend(&self, threads: &Threads, part: &Part, ws: &mut Workspace, attentions: AttentionOutput) {
        self.attention.attend(threads, part, ws, attentions);
    }

    /// What follows attention, token by token: context (T, heads x head_dim), hidden (T, H) in and out, and out once more in
    /// `room.narrow`, in the form that what comes after this block reads.
    pub(crate) fn finish(
        &self,
        threads: &Threads,
        context: Mat,
        hidden: &mut MatMut,
        form: Form,
        room: &mut Room,
    ) -> Result<()> {
        let (rows, cols) = (hidden.rows(), hidden.cols());
        self.attention.output(threads, context, hidden.view(), room)?;
        room.narrow.resize(self.feed_forward.form(), rows, cols)?;
        self.attention_norm.forward(threads, room.sum.mat(), hidden.reborrow(), &mut room.narrow);
        self.feed_forward.forward(threads, hidden.view(), room)?;
        room.narrow.resize(form, rows, cols)?;
        self.feed_forward_norm.forward(threads, room.sum.mat(), hidden.reborrow(), &mut room.narrow);
        Ok(())
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let attention = self.attention.exports().chain(self.attention_norm.exports());
        attention.chain(self.feed_forward.exports()).chain(self.feed_forward_norm.exports())
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let attention = self.attention.pieces().into_iter().chain(self.attention_norm.pieces());
        attention.chain(self.feed_forward.pieces()).chain(self.feed_forward_norm.pieces()).collect()
    }
}
