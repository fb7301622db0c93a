//! One layer of a transformer: attention, then feed-forward, each added to its input. A norm follows each sum (post), or precedes
//! attention and feed-forward (pre).

use ferroformer_kernels::{self as kernels, Epilogue, Form, Level, Mat, MatMut, Narrow, Threads, add, linear};

use crate::batch::Part;
use crate::blueprint::{Blueprint, NormPlacement};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::ingredients::{Around, AttentionOutput, FeedForward, LayerNorm, Linear, SelfAttention};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::training::{Chunk, ChunkRoom, Flow, Pass, PositionRoom, Saved, Site, Transposed};
use crate::weights::Place;
use crate::workspace::{Room, Rows};

/// Which layer, and what its attention goes by.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) layer: usize,
    pub(crate) around: Around<'a>,
}

pub(crate) struct Block {
    attention: SelfAttention,
    attention_norm: Option<LayerNorm>,
    feed_forward: FeedForward,
    feed_forward_norm: LayerNorm,
    placement: NormPlacement,
    level: Level,
}

impl Block {
    /// Of the block with this number, which is the layer's.
    pub(crate) fn slots(blueprint: &Blueprint, block: usize, layer: usize) -> impl Iterator<Item = Slot> + use<> {
        let (scope, size, biased) = (format!("layers.{block}"), blueprint.hidden_size, blueprint.norm.biased());
        let norm = |name: &str| LayerNorm::slots(&format!("{scope}.{name}.norm"), size, biased);
        let attention_norm = blueprint.layer(layer).attention_norm.then(|| norm("attention"));
        let attention = SelfAttention::slots(blueprint, &format!("{scope}.attention"));
        let feed_forward = FeedForward::slots(blueprint, &format!("{scope}.feed_forward")).chain(norm("feed_forward"));
        attention.chain(attention_norm.into_iter().flatten()).chain(feed_forward)
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, block: usize, layer: usize) -> Result<Self> {
        let (scope, size, spec) = (format!("layers.{block}"), blueprint.hidden_size, blueprint.norm);
        let norm = |name| LayerNorm::load(loader, format!("{scope}.{name}.norm"), size, spec.norm(), spec.biased());
        Ok(Self {
            attention: SelfAttention::load(loader, blueprint, &format!("{scope}.attention"))?,
            attention_norm: blueprint.layer(layer).attention_norm.then(|| norm("attention")).transpose()?,
            feed_forward: FeedForward::load(loader, blueprint, &format!("{scope}.feed_forward"))?,
            feed_forward_norm: norm("feed_forward")?,
            placement: spec.placement,
            level: loader.level,
        })
    }

    /// The form in which [`project`](Self::project) reads what is in `room.narrow`.
    pub(crate) fn form(&self) -> Form {
        if self.norm_before().is_some() { Form::Floats } else { self.attention.form() }
    }

    /// The norm of what attention reads.
    fn norm_before(&self) -> Option<&LayerNorm> {
        self.attention_norm.as_ref().filter(|_| self.placement == NormPlacement::Pre)
    }

    /// The norm of what attention made.
    fn norm_after(&self) -> &LayerNorm {
        self.attention_norm.as_ref().expect("a blueprint without it has been refused")
    }

    /// Some tokens: hidden (T, H), in [`form`](Self::form) in `room.narrow` -> queries, keys and values (T, all heads x head_dim).
    pub(crate) fn project(
        &self,
        threads: &Threads,
        hidden: Mat,
        around: Around,
        room: &mut Room,
        qkv: MatMut,
    ) -> Result<()> {
        let Room { narrow, normed, .. } = room;
        let x = match self.norm_before() {
            Some(norm) => {
                narrow.resize(self.attention.form(), hidden.rows(), hidden.cols())?;
                norm.forward(threads, hidden, normed.mat_mut(), narrow);
                normed.mat()
            }
            None => hidden,
        };
        self.attention.project(threads, x, narrow, around, qkv)
    }

    /// What all layers know of distances, x (P, H) -> what this one makes of it for attention.
    pub(crate) fn project_positions(
        &self,
        threads: &Threads,
        x: Mat,
        narrow: &mut Narrow,
        out: &mut Rows,
    ) -> Result<()> {
        self.attention.project_positions(threads, x, narrow, out)
    }

    /// hidden (T, H), which was projected, and qkv of all tokens of the part -> context (T, heads x head_dim).
    #[expect(clippy::too_many_arguments, reason = "what attention reads and writes, each by its own name")]
    pub(crate) fn attend(
        &self,
        threads: &Threads,
        part: &Part,
        around: Around,
        hidden: Mat,
        qkv: Mat,
        scratch: &mut [f32],
        attentions: AttentionOutput,
        mut context: MatMut,
    ) -> Result<()> {
        self.attention.attend(threads, part, around, qkv, None, scratch, attentions, context.reborrow());
        self.attention.convolve(threads, around, hidden, qkv, context)
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
        let Room { narrow, sum, normed, feed_forward: inner, .. } = room;
        narrow.resize(self.feed_forward.form(), rows, cols)?;
        match self.placement {
            NormPlacement::Pre => {
                self.feed_forward_norm.forward(threads, sum.mat(), normed.mat_mut(), narrow);
                self.feed_forward.forward(threads, normed.mat(), narrow, sum.mat(), inner, hidden.reborrow())?;
                narrow.resize(form, rows, cols)?;
                kernels::narrow(self.level, threads, hidden.view(), narrow);
            }
            NormPlacement::Post => {
                self.norm_after().forward(threads, sum.mat(), hidden.reborrow(), narrow);
                self.feed_forward.forward(threads, hidden.view(), narrow, hidden.view(), inner, sum.mat_mut())?;
                narrow.resize(form, rows, cols)?;
                self.feed_forward_norm.forward(threads, sum.mat(), hidden.reborrow(), narrow);
            }
        }
        Ok(())
    }

    /// All tokens of a batch: hidden (T, H) -> `saved`, and `sum` (T, H), of which [`output`](Self::output) makes what comes out of
    /// this block; a `sum` without rows is not wanted.
    pub(crate) fn record(
        &self,
        pass: &Pass,
        at: At,
        hidden: Mat,
        saved: &mut Saved,
        sum: MatMut,
        scratch: &mut [f32],
    ) -> Result<()> {
        let Saved { qkv, context, first_sum, up } = saved;
        let (At { layer, around }, [_, output], [_, down]) = (at, self.attention.layers(), self.feed_forward.layers());
        pass.for_each_chunk([qkv.reborrow()], [], |mut chunk, [qkv], []| {
            let Chunk { tokens, threads, room, .. } = &mut chunk;
            let ChunkRoom { hidden: normed, none, .. } = &mut **room;
            let mut x = hidden.rows_of(tokens.clone());
            if let Some(norm) = self.norm_before() {
                norm.forward(threads, x, normed.first_mut(tokens.len()), none);
                x = normed.first(tokens.len());
            }
            self.attention.project(threads, x, none, around.of(tokens.clone()), qkv)
        })?;
        let dropout = pass.step.dropout(Site::Probabilities(layer));
        let part = pass.step.part;
        self.attention.attend(pass.threads, part, around, qkv.view(), dropout, scratch, None, context.reborrow());
        self.attention.convolve(pass.threads, around, hidden, qkv.view(), context.reborrow())?;
        let context = context.view();
        let mats = [first_sum.reborrow(), up.reborrow(), sum];
        pass.for_each_chunk(mats, [], |mut chunk, [mut first_sum, up, sum], []| {
            let (tokens, count) = (chunk.tokens.clone(), chunk.tokens.len());
            let (hidden, context) = (hidden.rows_of(tokens.clone()), context.rows_of(tokens));
            chunk.add_dropped(Site::Attention(layer), output, context, hidden, first_sum.reborrow())?;
            let Chunk { threads, room, .. } = &mut chunk;
            let ChunkRoom { hidden: middle, feed_forward: inner, none, .. } = &mut **room;
            self.middle_norm().forward(threads, first_sum.view(), middle.first_mut(count), none);
            self.feed_forward.record(threads, middle.first(count), up, inner.first_mut(count))?;
            if sum.rows() > 0 {
                let inner = chunk.room.feed_forward.first(count).block(0..count, 0..down.inputs());
                let residual = match self.placement {
                    NormPlacement::Post => chunk.room.hidden.first(count),
                    NormPlacement::Pre => first_sum.view(),
                };
                chunk.add_dropped(Site::FeedForward(layer), down, inner, residual, sum)?;
            }
            Ok(())
        })
    }

    /// The norm of what feed-forward reads.
    fn middle_norm(&self) -> &LayerNorm {
        match self.placement {
            NormPlacement::Post => self.norm_after(),
            NormPlacement::Pre => &self.feed_forward_norm,
        }
    }

    /// What comes out of this block, hidden (T, H), from what [`record`](Self::record) summed.
    pub(crate) fn output(&self, pass: &Pass, sum: Mat, hidden: MatMut) -> Result<()> {
        pass.for_each_chunk([hidden], [], |mut chunk, [mut hidden], []| {
            let Chunk { tokens, threads, room, .. } = &mut chunk;
            let sum = sum.rows_of(tokens.clone());
            match self.placement {
                NormPlacement::Post => self.feed_forward_norm.forward(threads, sum, hidden, &mut room.none),
                NormPlacement::Pre => hidden.copy(sum),
            }
            Ok(())
        })
    }

    /// What [`record`](Self::record) read, made and saved, and the gradient of what came out, in `flow` -> the gradient of what
    /// was read, in its place; those of the weights are added to `gradient`.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(crate) fn backward(
        &self,
        pass: &Pass,
        at: At,
        flow: &mut Flow,
        saved: &mut Saved,
        sum: Mat,
        transposed: &mut Transposed,
        scratch: &mut [f32],
        gradient: &mut Block,
    ) -> Result<()> {
        let (level, threads, size) = (pass.step.level, pass.threads, sum.cols());
        let (At { layer, around }, pre) = (at, self.placement == NormPlacement::Pre);
        transposed.fill(threads, self.attention.layers(), self.feed_forward.layers());
        let transposed = &*transposed;
        let Flow {
            hidden,
            d_hidden,
            d_sum,
            d_first_sum,
            dropped,
            middle,
            d_up,
            d_context,
            d_qkv,
            sums,
            d_bias,
            positions,
            ..
        } = flow;
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
            let (last, first) = sums.row_mut(0)[..4 * size].split_at_mut(2 * size);
            last.fill(0.0);
            first.fill(0.0);
            let d_out = d_out.rows_of(tokens.clone());
            match self.placement {
                NormPlacement::Post => {
                    self.feed_forward_norm.backward(sum.rows_of(tokens.clone()), d_out, d_sum.reborrow(), last);
                }
                NormPlacement::Pre => d_sum.copy(d_out),
            }
            let d_down = chunk.dropped(Site::FeedForward(layer), d_sum.view(), &mut d_down);
            let Chunk { threads, room, .. } = &mut chunk;
            let ChunkRoom { hidden: d_middle, none, .. } = &mut **room;
            let d_middle_rows = d_middle.first_mut(count);
            let residual = (!pre).then_some(d_sum.view());
            self.feed_forward.backward(threads, transposed, up, d_down, residual, d_up, d_middle_rows);
            let first_sum = first_sum.rows_of(tokens);
            self.middle_norm().forward(threads, first_sum, middle, none);
            self.middle_norm().backward(first_sum, d_middle.first(count), d_first_sum.reborrow(), first);
            if pre {
                add(level, d_sum.view(), d_first_sum.reborrow());
            }
            let d_output = chunk.dropped(Site::Attention(layer), d_first_sum.view(), &mut d_output);
            linear(&chunk.threads, d_output, &transposed.output, Epilogue::default(), d_context);
            Ok(())
        })?;
        let all = sums.view();
        let [last, first] = [0, 2].map(|i| all.block(0..all.rows(), i * size..(i + 2) * size));
        if !pre {
            gradient.feed_forward_norm.add_gradient(last);
        }
        gradient.middle_norm_mut().add_gradient(first);
        let (d_sum_view, d_first_sum) = (d_sum.view(), d_first_sum.view());
        let (d_down, d_output) = (after(d_down, d_sum_view), after(d_output, d_first_sum));
        let [up_gradient, down_gradient] = gradient.feed_forward.layers_mut();
        let inner = up.view().block(0..up.rows(), 0..self.feed_forward.layers()[1].inputs());
        down_gradient.add_gradient(level, threads, inner, d_down);
        up_gradient.add_gradient(level, threads, middle.view(), d_up.view());
        let [_, output_gradient] = gradient.attention.layers_mut();
        output_gradient.add_gradient(level, threads, context.view(), d_output);
        let dropout = pass.step.dropout(Site::Probabilities(layer));
        let mut positions = positions.as_deref_mut();
        let (qkv, d_bias) = (qkv.view(), d_bias.as_deref_mut());
        if let Some(positions) = positions.as_deref_mut() {
            positions.resize_gradient(at.around.positions.map_or(0, |(projected, _)| projected.cols()))?;
        }
        let d_positions = positions.as_deref_mut().map(|positions| positions.d_projected.mat_mut());
        let d_qkv_place = d_qkv.reborrow();
        self.attention.attend_backward(
            pass,
            around,
            dropout,
            qkv,
            d_context.reborrow(),
            scratch,
            d_qkv_place,
            d_bias,
            d_positions,
        );
        let (own, d_read) = (&mut gradient.attention, d_sum.reborrow());
        let (attention, d_context) = (&self.attention, d_context.view());
        let convolved =
            attention.convolve_backward(pass, around, hidden.view(), qkv, d_context, own, d_read, d_qkv.reborrow())?;
        let d_read = d_sum.view();
        if let Some(positions) = positions {
            let PositionRoom { read, d_read, d_projected, transposed: room, .. } = positions;
            let (d, dx) = (d_projected.mat(), d_read.mat_mut());
            let own = &mut gradient.attention;
            self.attention.positions_backward(threads, read.mat(), d, &transposed.projection, room, own, dx)?;
        }
        let (d_qkv, hidden) = (d_qkv.view(), hidden.view());
        let mats = [d_hidden.reborrow(), middle.reborrow()];
        pass.for_each_chunk(mats, [sums.reborrow()], |mut chunk, [d_hidden, normed], [mut sums]| {
            let Chunk { threads, tokens, room, .. } = &mut chunk;
            let (d_qkv, d_first_sum) = (d_qkv.rows_of(tokens.clone()), d_first_sum.rows_of(tokens.clone()));
            let mut d_hidden = d_hidden;
            let Some(norm) = self.norm_before() else {
                let residual = Epilogue { residual: Some(d_first_sum), ..Epilogue::default() };
                linear(threads, d_qkv, &transposed.projection, residual, d_hidden.reborrow());
                if convolved {
                    add(level, d_read.rows_of(tokens.clone()), d_hidden);
                }
                return Ok(());
            };
            let (x, count) = (hidden.rows_of(tokens.clone()), tokens.len());
            let ChunkRoom { hidden: d_normed, none, .. } = &mut **room;
            linear(threads, d_qkv, &transposed.projection, Epilogue::default(), d_normed.first_mut(count));
            norm.forward(threads, x, normed, none);
            let sums = &mut sums.row_mut(0)[..2 * size];
            sums.fill(0.0);
            norm.backward(x, d_normed.first(count), d_hidden.reborrow(), sums);
            add(level, d_first_sum, d_hidden);
            Ok(())
        })?;
        let [projection_gradient, _] = gradient.attention.layers_mut();
        match self.norm_before() {
            None => projection_gradient.add_gradient(level, threads, hidden, d_qkv),
            Some(_) => {
                projection_gradient.add_gradient(level, threads, middle.view(), d_qkv);
                let all = sums.view();
                let norm = gradient.attention_norm.as_mut();
                norm.into_iter().for_each(|norm| norm.add_gradient(all.block(0..all.rows(), 0..2 * size)));
            }
        }
        Ok(())
    }

    fn middle_norm_mut(&mut self) -> &mut LayerNorm {
        match (self.placement, &mut self.attention_norm) {
            (NormPlacement::Post, Some(norm)) => norm,
            (NormPlacement::Pre | NormPlacement::Post, _) => &mut self.feed_forward_norm,
        }
    }

    fn norms(&self) -> impl Iterator<Item = &LayerNorm> {
        self.attention_norm.iter().chain([&self.feed_forward_norm])
    }

    fn norms_mut(&mut self) -> impl Iterator<Item = &mut LayerNorm> {
        self.attention_norm.iter_mut().chain([&mut self.feed_forward_norm])
    }

    /// Whether it holds nothing, as the gradient of a block that is frozen.
    pub(crate) fn is_empty(&self) -> bool {
        self.attention.is_empty()
            && self.feed_forward.layers().into_iter().all(Linear::is_empty)
            && self.norms().all(LayerNorm::is_empty)
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
        let linears = self.attention.exports().chain(self.feed_forward.exports());
        linears.chain(self.norms().flat_map(LayerNorm::exports))
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let Self { attention, attention_norm, feed_forward, feed_forward_norm, .. } = self;
        let norms = attention_norm.iter_mut().chain([feed_forward_norm]);
        let linears = attention.floats_mut().into_iter().chain(feed_forward.floats_mut());
        linears.chain(norms.flat_map(LayerNorm::floats_mut)).collect()
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let linears = self.attention.places().into_iter().chain(self.feed_forward.places());
        linears.chain(self.norms().flat_map(LayerNorm::places)).collect()
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        if self.norms().any(|norm| norm.holds(slot)) {
            return self.norms_mut().find_map(|norm| norm.slot_mut(slot));
        }
        let Self { attention, feed_forward, .. } = self;
        attention.slot_mut(slot).or_else(|| feed_forward.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let linears = self.attention.pieces().into_iter().chain(self.feed_forward.pieces());
        linears.chain(self.norms().flat_map(LayerNorm::pieces)).collect()
    }
}

/// What was dropped, where there is any.
fn after<'a>(dropped: &'a MatMut, plain: Mat<'a>) -> Mat<'a> {
    if dropped.rows() == 0 { plain } else { dropped.view() }
}
