//! One layer of a transformer: attention, then feed-forward, each added to its input and normalised.

use ferroformer_kernels::{Epilogue, Form, Level, Mat, MatMut, Narrow, Threads, linear};

use crate::batch::Part;
use crate::blueprint::{Blueprint, NormKind, NormPlacement};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::ingredients::{AttentionOutput, FeedForward, LayerNorm, Linear, SelfAttention};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::training::{Chunk, ChunkRoom, Flow, Pass, Saved, Site, Transposed};
use crate::weights::Place;
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
        let Workspace { qkv, context, scratch, .. } = ws;
        self.attention.attend(threads, part, qkv.mat(), None, scratch, attentions, context.mat_mut());
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

    /// All tokens of a batch: hidden (T, H) -> `saved`, and `sum` (T, H), of which [`output`](Self::output) makes what comes out of
    /// this block; a `sum` without rows is not wanted.
    pub(crate) fn record(
        &self,
        pass: &Pass,
        layer: usize,
        hidden: Mat,
        saved: &mut Saved,
        sum: MatMut,
        scratch: &mut [f32],
    ) {
        let Saved { qkv, context, first_sum, up } = saved;
        let [[projection, output], [_, down]] = [self.attention.layers(), self.feed_forward.layers()];
        pass.for_each_chunk([qkv.reborrow()], [], |chunk, [qkv], []| {
            projection.forward(
                &chunk.threads,
                hidden.rows_of(chunk.tokens),
                &chunk.room.none,
                Epilogue::default(),
                qkv,
            );
        });
        let dropout = pass.step.dropout(Site::Probabilities(layer));
        self.attention.attend(pass.threads, pass.step.part, qkv.view(), dropout, scratch, None, context.reborrow());
        let context = context.view();
        let mats = [first_sum.reborrow(), up.reborrow(), sum];
        pass.for_each_chunk(mats, [], |mut chunk, [mut first_sum, up, sum], []| {
            let (tokens, count) = (chunk.tokens.clone(), chunk.tokens.len());
            let (hidden, context) = (hidden.rows_of(tokens.clone()), context.rows_of(tokens));
            chunk.add_dropped(Site::Attention(layer), output, context, hidden, first_sum.reborrow());
            let Chunk { threads, room, .. } = &mut chunk;
            let ChunkRoom { hidden: middle, feed_forward: inner, none } = &mut **room;
            self.attention_norm.forward(threads, first_sum.view(), middle.first_mut(count), none);
            self.feed_forward.record(threads, middle.first(count), up, inner.first_mut(count));
            if sum.rows() > 0 {
                let (inner, middle) = (chunk.room.feed_forward.first(count), chunk.room.hidden.first(count));
                chunk.add_dropped(Site::FeedForward(layer), down, inner, middle, sum);
            }
        });
    }

    /// What comes out of this block, hidden (T, H), from what [`record`](Self::record) summed.
    pub(crate) fn output(&self, pass: &Pass, sum: Mat, hidden: MatMut) {
        pass.for_each_chunk([hidden], [], |mut chunk, [hidden], []| {
            let Chunk { tokens, threads, room, .. } = &mut chunk;
            self.feed_forward_norm.forward(threads, sum.rows_of(tokens.clone()), hidden, &mut room.none);
        });
    }

    /// What [`record`](Self::record) read, made and saved, and the gradient of what came out, in `flow` -> the gradient of what
    /// was read, in its place; those of the weights are added to `gradient`.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(crate) fn backward(
        &self,
        pass: &Pass,
        layer: usize,
        flow: &mut Flow,
        saved: &mut Saved,
        sum: Mat,
        transposed: &mut Transposed,
        scratch: &mut [f32],
        gradient: &mut Block,
    ) {
        let (level, threads, size) = (pass.step.level, pass.threads, sum.cols());
        transposed.fill(threads, self.attention.layers(), self.feed_forward.layers());
        let transposed = &*transposed;
        let Flow { hidden, d_hidden, d_sum, d_first_sum, dropped, middle, d_up, d_context, d_qkv, sums } = flow;
        let Saved { qkv, context, first_sum, up } = saved;
        let first_sum = first_sum.view();
        let d_out = d_hidden.view();
        let [d_down, d_output] = dropped;
        let mats = [
            d_sum.reborrow(),
            d_first_sum.reborrow(),
            middle.reborrow(),
            up.reborrow(),
            d_up.reborrow(),
            d_context.reborrow(),
            d_down.reborrow(),
            d_output.reborrow(),
        ];
        pass.for_each_chunk(mats, [sums.reborrow()], |mut chunk, mats, [mut sums]| {
            let [mut d_sum, mut d_first_sum, middle, up, d_up, d_context, mut d_down, mut d_output] = mats;
            let (tokens, count) = (chunk.tokens.clone(), chunk.tokens.len());
            let (second, first) = sums.row_mut(0).split_at_mut(2 * size);
            second.fill(0.0);
            first.fill(0.0);
            let d_out = d_out.rows_of(tokens.clone());
            self.feed_forward_norm.backward(sum.rows_of(tokens.clone()), d_out, d_sum.reborrow(), second);
            let d_down = chunk.dropped(Site::FeedForward(layer), d_sum.view(), &mut d_down);
            let Chunk { threads, room, .. } = &mut chunk;
            let ChunkRoom { hidden: d_middle, none, .. } = &mut **room;
            let d_middle_rows = d_middle.first_mut(count);
            self.feed_forward.backward(threads, transposed, up, d_down, d_sum.view(), d_up, d_middle_rows);
            let first_sum = first_sum.rows_of(tokens);
            self.attention_norm.forward(threads, first_sum, middle, none);
            self.attention_norm.backward(first_sum, d_middle.first(count), d_first_sum.reborrow(), first);
            let d_output = chunk.dropped(Site::Attention(layer), d_first_sum.view(), &mut d_output);
            linear(&chunk.threads, d_output, &transposed.output, Epilogue::default(), d_context);
        });
        let sums = sums.view();
        gradient.feed_forward_norm.add_gradient(sums.block(0..sums.rows(), 0..2 * size));
        gradient.attention_norm.add_gradient(sums.block(0..sums.rows(), 2 * size..4 * size));
        let (d_sum, d_first_sum) = (d_sum.view(), d_first_sum.view());
        let (d_down, d_output) = (after(d_down, d_sum), after(d_output, d_first_sum));
        let [up_gradient, down_gradient] = gradient.feed_forward.layers_mut();
        down_gradient.add_gradient(level, threads, up.view(), d_down);
        up_gradient.add_gradient(level, threads, middle.view(), d_up.view());
        let [projection_gradient, output_gradient] = gradient.attention.layers_mut();
        output_gradient.add_gradient(level, threads, context.view(), d_output);
        let dropout = pass.step.dropout(Site::Probabilities(layer));
        self.attention.attend_backward(pass, dropout, qkv.view(), d_context.view(), scratch, d_qkv.reborrow());
        let d_qkv = d_qkv.view();
        pass.for_each_chunk([d_hidden.reborrow()], [], |chunk, [d_hidden], []| {
            let tokens = chunk.tokens;
            let residual = Epilogue { residual: Some(d_first_sum.rows_of(tokens.clone())), ..Epilogue::default() };
            linear(&chunk.threads, d_qkv.rows_of(tokens), &transposed.projection, residual, d_hidden);
        });
        projection_gradient.add_gradient(level, threads, hidden.view(), d_qkv);
    }

    /// Whether it holds nothing, as the gradient of a block that is frozen.
    pub(crate) fn is_empty(&self) -> bool {
        let linears = self.attention.layers().into_iter().chain(self.feed_forward.layers());
        linears.into_iter().all(Linear::is_empty) && self.attention_norm.is_empty() && self.feed_forward_norm.is_empty()
    }

    pub(crate) fn transposed(&self, level: Level) -> Result<Transposed> {
        let [projection, output] = self.attention.layers();
        let [up, down] = self.feed_forward.layers();
        Ok(Transposed {
            projection: projection.transposed(level)?,
            output: output.transposed(level)?,
            up: up.transposed(level)?,
            down: down.transposed(level)?,
        })
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let attention = self.attention.exports().chain(self.attention_norm.exports());
        attention.chain(self.feed_forward.exports()).chain(self.feed_forward_norm.exports())
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let Self { attention, attention_norm, feed_forward, feed_forward_norm } = self;
        let attention = attention.floats_mut().into_iter().chain(attention_norm.floats_mut());
        attention.chain(feed_forward.floats_mut()).chain(feed_forward_norm.floats_mut()).collect()
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let attention = self.attention.places().into_iter().chain(self.attention_norm.places());
        attention.chain(self.feed_forward.places()).chain(self.feed_forward_norm.places()).collect()
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        let Self { attention, attention_norm, feed_forward, feed_forward_norm } = self;
        let attention = attention_norm.slot_mut(slot).or_else(|| attention.slot_mut(slot));
        attention.or_else(|| feed_forward_norm.slot_mut(slot)).or_else(|| feed_forward.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let attention = self.attention.pieces().into_iter().chain(self.attention_norm.pieces());
        attention.chain(self.feed_forward.pieces()).chain(self.feed_forward_norm.pieces()).collect()
    }
}

/// What was dropped, where there is any.
fn after<'a>(dropped: &'a MatMut, plain: Mat<'a>) -> Mat<'a> {
    if dropped.rows() == 0 { plain } else { dropped.view() }
}
