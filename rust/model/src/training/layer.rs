//! One layer, there and back. Sub-layer k adds its work to a stream: s_k = x + branch(work(u)), where u = before(x) and x is
//! after(s_(k-1)), each with the norms that there are. The sums s are kept; x and u are made of them again.

use std::ops::Range;

use ferroformer_kernels::{Epilogue, Mat, MatMut, add, linear};

use super::pass::{Chunk, ChunkRoom, Pass, Site, Work};
use super::tape::{Flow, PositionRoom, Saved, SavedAttention, SavedFeedForward, Transposed};
use crate::block::{At, Block};
use crate::error::Result;
use crate::ingredients::{Around, LayerNorm, table_of_layer};
use crate::workspace::Rows;

/// Where a chunk's sums for norms lie in its row: two vectors for each.
const AFTER: usize = 0;
const BETWEEN: usize = 1;
const BRANCH: usize = 2;
const BRANCH_BELOW: usize = 3;
pub(super) const SUMS: usize = 8;

fn place(which: usize, size: usize) -> Range<usize> {
    2 * which * size..2 * (which + 1) * size
}

/// `sums` may have more columns than a layer's norms of this size need.
fn add_sums(norm: Option<&mut LayerNorm>, sums: &MatMut, which: usize, size: usize) {
    let sums = sums.view();
    norm.into_iter().for_each(|norm| norm.add_gradient(sums.block(0..sums.rows(), place(which, size))));
}

impl Block {
    /// The norm between the sum (or the stream) that comes before a sub-layer and what its work reads; true: what the work is added to
    /// is normalised as well.
    fn between(&self, sub_layer: usize) -> Option<(&LayerNorm, bool)> {
        let below = sub_layer.checked_sub(1).filter(|_| self.parallel.is_none());
        match below.and_then(|below| self.residual(below).after.as_ref()) {
            Some(norm) => Some((norm, true)),
            None => self.residual(self.before_of(sub_layer)).before.as_ref().map(|norm| (norm, false)),
        }
    }

    fn between_mut(&mut self, sub_layer: usize) -> Option<&mut LayerNorm> {
        let below = sub_layer.checked_sub(1).filter(|_| self.parallel.is_none());
        match below {
            Some(below) if self.residual(below).after.is_some() => self.residual_mut(below).after.as_mut(),
            _ => {
                let owner = self.before_of(sub_layer);
                self.residual_mut(owner).before.as_mut()
            }
        }
    }

    /// s (t, H) -> what stands between it and the work, in the chunk's room.
    fn normalise(&self, sub_layer: usize, s: Mat, chunk: &mut Chunk) {
        if let Some((norm, _)) = self.between(sub_layer) {
            let ChunkRoom { hidden, none, .. } = &mut *chunk.room;
            norm.forward(&chunk.threads, s, hidden.first_mut(s.rows()), none);
        }
    }

    /// What the work reads.
    fn read<'a>(&self, sub_layer: usize, s: Mat<'a>, normed: Mat<'a>) -> Mat<'a> {
        if self.between(sub_layer).is_some() { normed } else { s }
    }

    /// What the work is added to.
    fn stream<'a>(&self, sub_layer: usize, s: Mat<'a>, normed: Mat<'a>) -> Mat<'a> {
        if self.between(sub_layer).is_some_and(|(_, both)| both) { normed } else { s }
    }

    /// Where in the model an attention's work is dropped, and its probabilities.
    fn sites(&self, stage: usize, layer: usize) -> [Site; 2] {
        match stage {
            0 if self.bottleneck.is_some() => [Site::Nowhere, Site::Probabilities(layer)],
            0 => [Site::Attention(layer), Site::Probabilities(layer)],
            _ => [Site::CrossAttention(layer), Site::CrossProbabilities(layer)],
        }
    }

    /// Likewise of a feed-forward's work. What is added inside a bottleneck is not dropped, nor what another feed-forward follows.
    fn site(&self, k: usize, layer: usize) -> Site {
        let last = k + 1 == self.feed_forwards.len();
        if last && self.bottleneck.is_none() { Site::FeedForward(layer) } else { Site::Nowhere }
    }

    /// All tokens of a batch: the stream that sub-layers add to, hidden (T, C) -> `saved`, and `sum` (T, C), the last one; a `sum` without
    /// rows is not wanted.
    pub(super) fn record_stream(
        &self,
        pass: &Pass,
        at: At,
        hidden: Mat,
        saved: &mut Saved,
        mut sum: MatMut,
        scratch: &mut [f32],
    ) -> Result<()> {
        let Saved { attentions, feed_forwards, .. } = saved;
        for stage in 0..self.stages() {
            let (done, rest) = attentions.split_at_mut(stage);
            let s = done.last().map_or(hidden, |below| below.sum.view());
            self.record_attention(pass, stage, at, s, &mut rest[0], scratch)?;
            let SavedAttention { context, made: own_made, sum: own_sum, .. } = &mut rest[0];
            let (context, (attention, residual)) = (context.view(), &self.attentions[stage]);
            let last = stage + 1 == self.stages();
            let [up, made, sum] = if last {
                feed_forwards[0].mats(self.feed_forwards.len() == 1, &mut sum)
            } else {
                std::array::from_fn(|_| MatMut::dense(&mut [], 0, hidden.cols()))
            };
            let mats = [own_made.reborrow(), own_sum.reborrow(), up, made, sum];
            let [site, _] = self.sites(stage, at.layer);
            pass.for_each_chunk(mats, [], |mut chunk, [own_made, mut own_sum, up, made, sum], []| {
                let (tokens, count) = (chunk.tokens.clone(), chunk.tokens.len());
                let s = s.rows_of(tokens.clone());
                self.normalise(stage, s, &mut chunk);
                let stream = self.stream(stage, s, chunk.room.hidden.first(count));
                let [_, output] = attention.layers();
                let context = context.rows_of(tokens.clone());
                let work = Work { site, layer: output, x: context, branch: residual.branch.as_ref() };
                chunk.add_work(work, stream, own_made, own_sum.reborrow())?;
                if !last {
                    return Ok(());
                }
                let base = if self.parallel.is_some() { hidden.rows_of(tokens) } else { own_sum.view() };
                self.record_feed_forward(0, at.layer, chunk, base, own_sum.view(), up, made, sum)
            })?;
        }
        for k in 1..self.feed_forwards.len() {
            let (done, rest) = feed_forwards.split_at_mut(k);
            let below = done[k - 1].sum.view();
            let mats = rest[0].mats(k + 1 == self.feed_forwards.len(), &mut sum);
            pass.for_each_chunk(mats, [], |chunk, [up, made, sum], []| {
                let below = below.rows_of(chunk.tokens.clone());
                self.record_feed_forward(k, at.layer, chunk, below, below, up, made, sum)
            })?;
        }
        Ok(())
    }

    fn record_attention(
        &self,
        pass: &Pass,
        stage: usize,
        at: At,
        s: Mat,
        saved: &mut SavedAttention,
        scratch: &mut [f32],
    ) -> Result<()> {
        let (attention, _) = &self.attentions[stage];
        let SavedAttention { qkv, source: keys_values, context, .. } = saved;
        let around = at.of_stage(stage, None);
        pass.for_each_chunk([qkv.reborrow()], [], |mut chunk, [qkv], []| {
            let (tokens, count) = (chunk.tokens.clone(), chunk.tokens.len());
            let s = s.rows_of(tokens.clone());
            self.normalise(stage, s, &mut chunk);
            let Chunk { threads, room, .. } = &mut chunk;
            let ChunkRoom { hidden, none, .. } = &mut **room;
            let x = match at.read {
                Some(read) => read.rows_of(tokens.clone()),
                None => self.read(stage, s, hidden.first(count)),
            };
            attention.project(threads, x, none, around.of(tokens), qkv)
        })?;
        if let (1.., Some((_, source))) = (stage, at.source) {
            attention.project_source(pass.threads, source, &mut Default::default(), keys_values.reborrow())?;
        }
        let [_, site] = self.sites(stage, at.layer);
        let (dropout, part) = (pass.step.dropout(site), pass.step.part);
        let around = at.of_stage(stage, Some(keys_values.view()));
        let qkv = qkv.view();
        attention.attend(pass.threads, part, around, qkv, dropout, scratch, None, context.reborrow());
        attention.convolve(pass.threads, around, s, qkv, context.reborrow())
    }

    /// Some tokens: what feed-forward's norm reads, `base`, and the sum so far, `below` (t, H) -> what its activation reads, `up`, and
    /// the sum with its work.
    #[expect(clippy::too_many_arguments, reason = "what is read and written, each by its own name")]
    fn record_feed_forward(
        &self,
        k: usize,
        layer: usize,
        mut chunk: Chunk,
        base: Mat,
        below: Mat,
        up: MatMut,
        made: MatMut,
        sum: MatMut,
    ) -> Result<()> {
        let (number, count) = (self.stages() + k, chunk.tokens.len());
        let (feed_forward, residual) = &self.feed_forwards[k];
        self.normalise(number, base, &mut chunk);
        let Chunk { threads, room, .. } = &mut chunk;
        let ChunkRoom { hidden: normed, feed_forward: inner, .. } = &mut **room;
        feed_forward.record(threads, self.read(number, base, normed.first(count)), up, inner.first_mut(count))?;
        if sum.rows() > 0 {
            let [_, down] = feed_forward.layers();
            let mut room = std::mem::take(&mut chunk.room.feed_forward);
            chunk.drop(Site::Activation(layer, k), room.first_mut(count).into_block(0..count, 0..down.inputs()));
            chunk.room.feed_forward = room;
            let inner = chunk.room.feed_forward.first(count).block(0..count, 0..down.inputs());
            let stream = self.stream(number, base, chunk.room.hidden.first(count));
            let stream = if self.parallel.is_some() { below } else { stream };
            let (site, branch) = (self.site(k, layer), residual.branch.as_ref());
            chunk.add_work(Work { site, layer: down, x: inner, branch }, stream, made, sum)?;
        }
        Ok(())
    }

    /// What comes out of this block, hidden (T, H), from what [`record`](Self::record) summed.
    pub(crate) fn output(&self, pass: &Pass, sum: Mat, hidden: MatMut) -> Result<()> {
        pass.for_each_chunk([hidden], [], |mut chunk, [mut hidden], []| {
            let Chunk { tokens, threads, room, .. } = &mut chunk;
            let sum = sum.rows_of(tokens.clone());
            match self.after() {
                Some(norm) => norm.forward(threads, sum, hidden, &mut room.none),
                None => hidden.copy(sum),
            }
            Ok(())
        })
    }

    /// What [`record_stream`](Self::record_stream) read, made and saved, and the gradient of what came out behind the last norm of the
    /// stream, in `flow` -> the gradient of what was read, in its place; those of the weights are added to `gradient`. The gradient of what
    /// attention read, where that is not the stream, goes to `flow.d_read`.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(super) fn stream_backward(
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
        for k in (0..self.feed_forwards.len()).rev() {
            self.feed_forward_backward(pass, k, at, flow, saved, sum, transposed, gradient)?;
        }
        for stage in (0..self.stages()).rev() {
            self.attention_backward(pass, stage, at, flow, saved, transposed, scratch, gradient)?;
        }
        Ok(())
    }

    /// From `flow.d_hidden`, or of one that another follows from the gradient of its sum, `flow.d_before`, to that of the sum before it, in
    /// `flow.d_before`, and from the first to that of the last attention's context.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    fn feed_forward_backward(
        &self,
        pass: &Pass,
        k: usize,
        at: At,
        flow: &mut Flow,
        saved: &mut Saved,
        sum: Mat,
        transposed: &Transposed,
        gradient: &mut Block,
    ) -> Result<()> {
        let (level, threads, size) = (pass.step.level, pass.threads, sum.cols());
        let (number, below, last) = (self.stages() + k, self.stages() - 1, k + 1 == self.feed_forwards.len());
        let (feed_forward, residual) = &self.feed_forwards[k];
        if !last {
            std::mem::swap(&mut flow.d_sum, &mut flow.d_before);
        }
        let Flow { hidden, d_hidden, d_sum, d_before, dropped, middle, d_up, d_context, sums, .. } = flow;
        let Saved { attentions, feed_forwards, .. } = saved;
        let (done, rest) = feed_forwards.split_at_mut(k);
        let (attention, SavedFeedForward { up, made, .. }) = (&attentions[below], &mut rest[0]);
        let before = done.last().map_or(attention.sum.view(), |below| below.sum.view());
        let base = if self.parallel.is_some() { hidden.view() } else { before };
        let (d_out, made, made_below) = (d_hidden.view(), made.view(), attention.made.view());
        let [d_down, d_output] = dropped;
        let mats = [
            d_sum.reborrow(),
            d_before.reborrow(),
            middle.reborrow(),
            up.reborrow(),
            d_up.reborrow(),
            d_context.reborrow(),
            d_down.reborrow(),
            d_output.reborrow(),
        ];
        pass.for_each_chunk(mats, [sums.reborrow()], |mut chunk, mats, [mut sums]| {
            let [mut d_sum, mut d_before, middle, up, d_up, d_context, mut d_down, mut d_output] = mats;
            let (tokens, sums) = (chunk.tokens.clone(), &mut sums.row_mut(0)[..SUMS * size]);
            sums.fill(0.0);
            let d_out = d_out.rows_of(tokens.clone());
            match &residual.after {
                _ if !last => {}
                Some(norm) => {
                    norm.backward(sum.rows_of(tokens.clone()), d_out, d_sum.reborrow(), &mut sums[place(AFTER, size)]);
                }
                None => d_sum.copy(d_out),
            }
            let branch = residual.branch.as_ref().map(|norm| (norm, made.rows_of(tokens.clone())));
            let site = self.site(k, at.layer);
            let d_down = chunk.work_back(site, branch, d_sum.view(), &mut d_down, &mut sums[place(BRANCH, size)]);
            let back = |chunk: &Chunk, residual: Option<Mat>, out: MatMut| {
                let drop = |rows: MatMut| chunk.drop(Site::Activation(at.layer, k), rows);
                let transposed = &transposed.feed_forwards[k];
                feed_forward.backward(&chunk.threads, transposed, up, d_down, residual, d_up, out, drop);
            };
            let s = base.rows_of(tokens.clone());
            let own = &mut sums[place(BETWEEN, size)];
            self.step_back(number, &mut chunk, s, d_sum.view(), middle, d_before.reborrow(), own, back);
            if k > 0 {
                return Ok(());
            }
            let d_work = if self.parallel.is_some() { d_sum.view() } else { d_before.view() };
            let own = &mut sums[place(BRANCH_BELOW, size)];
            self.context_back(
                below,
                at.layer,
                &mut chunk,
                made_below,
                d_work,
                transposed,
                &mut d_output,
                d_context,
                own,
            );
            Ok(())
        })?;
        add_sums(gradient.between_mut(number), sums, BETWEEN, size);
        let (feed_forward_gradient, residual_gradient) = &mut gradient.feed_forwards[k];
        add_sums(residual_gradient.after.as_mut().filter(|_| last), sums, AFTER, size);
        add_sums(residual_gradient.branch.as_mut(), sums, BRANCH, size);
        let d_work = if self.parallel.is_some() { d_sum.view() } else { d_before.view() };
        let (d_down, d_output) = (after(d_down, d_sum.view()), after(d_output, d_work));
        let [up_gradient, down_gradient] = feed_forward_gradient.layers_mut();
        let inner = up.view().block(0..up.rows(), 0..feed_forward.layers()[1].inputs());
        down_gradient.add_gradient(level, threads, inner, d_down);
        up_gradient.add_gradient(level, threads, self.read(number, base, middle.view()), d_up.view());
        if k > 0 {
            return Ok(());
        }
        add_sums(gradient.residual_mut(below).branch.as_mut(), sums, BRANCH_BELOW, size);
        let [_, output_gradient] = gradient.attentions[below].0.layers_mut();
        output_gradient.add_gradient(level, threads, attention.context.view(), d_output);
        Ok(())
    }

    /// The way back through a sub-layer's work, `back`, to what stands before it: from the gradient of its sum, `d_stream`, to that of
    /// s, in `out`; `middle` gets what the work read, where a norm made that. `back` adds what it is given.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    fn step_back(
        &self,
        sub_layer: usize,
        chunk: &mut Chunk,
        s: Mat,
        d_stream: Mat,
        middle: MatMut,
        mut out: MatMut,
        sums: &mut [f32],
        back: impl FnOnce(&Chunk, Option<Mat>, MatMut),
    ) {
        let Some((norm, both)) = self.between(sub_layer) else { return back(chunk, Some(d_stream), out) };
        let mut d_read = std::mem::take(&mut chunk.room.hidden);
        back(chunk, both.then_some(d_stream), d_read.first_mut(s.rows()));
        norm.forward(&chunk.threads, s, middle, &mut chunk.room.none);
        norm.backward(s, d_read.first(s.rows()), out.reborrow(), sums);
        chunk.room.hidden = d_read;
        if !both {
            add(chunk.step.level, d_stream, out);
        }
    }

    /// From the gradient of what an attention's work was added to, `d_work`, to that of its context.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    fn context_back(
        &self,
        stage: usize,
        layer: usize,
        chunk: &mut Chunk,
        made: Mat,
        d_work: Mat,
        transposed: &Transposed,
        d_output: &mut MatMut,
        d_context: MatMut,
        sums: &mut [f32],
    ) {
        let ([site, _], tokens) = (self.sites(stage, layer), chunk.tokens.clone());
        let branch = self.residual(stage).branch.as_ref().map(|norm| (norm, made.rows_of(tokens)));
        let d_output = chunk.work_back(site, branch, d_work, d_output, sums);
        linear(&chunk.threads, d_output, &transposed.attentions[stage].output, Epilogue::default(), d_context);
    }

    /// From `flow.d_context` and `flow.d_before`, the gradients of this attention's context and of its sum, to that of what comes before
    /// it: in `flow.d_before` again, or for the first in `flow.d_hidden`.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    fn attention_backward(
        &self,
        pass: &Pass,
        stage: usize,
        at: At,
        flow: &mut Flow,
        saved: &mut Saved,
        transposed: &mut Transposed,
        scratch: &mut [f32],
        gradient: &mut Block,
    ) -> Result<()> {
        let convolved = self.attend_backward(pass, stage, at, flow, saved, transposed, scratch, gradient)?;
        let (level, threads, size) = (pass.step.level, pass.threads, flow.hidden.cols());
        let transposed = &*transposed;
        let Flow {
            hidden, d_hidden, d_sum, d_before, dropped, middle, d_context, d_qkv, d_read: d_apart, sums, ..
        } = flow;
        let [_, d_output] = dropped;
        let (done, _) = saved.attentions.split_at(stage);
        let below = done.last();
        let s = below.map_or(hidden.view(), |below| below.sum.view());
        let made_below = below.map(|below| below.made.view());
        let (d_stream, columns) = (d_before.view(), self.attentions[stage].0.columns_made());
        let d_qkv = d_qkv.view().block(0..s.rows(), 0..columns);
        let (out, d_read) = if below.is_some() { (d_sum, None) } else { (d_hidden, convolved.then_some(d_sum.view())) };
        let (middle_now, d_apart) = (middle.reborrow(), d_apart.reborrow());
        let mats = [out.reborrow(), middle_now, d_output.reborrow(), d_context.reborrow(), d_apart];
        pass.for_each_chunk(mats, [sums.reborrow()], |mut chunk, mats, [mut sums]| {
            let [mut out, middle, mut d_output, d_context, d_apart] = mats;
            let (tokens, sums) = (chunk.tokens.clone(), &mut sums.row_mut(0)[..SUMS * size]);
            sums.fill(0.0);
            let projection = &transposed.attentions[stage].projection;
            let back = |chunk: &Chunk, residual: Option<Mat>, out: MatMut| {
                let epilogue = Epilogue { residual, ..Epilogue::default() };
                linear(&chunk.threads, d_qkv.rows_of(chunk.tokens.clone()), projection, epilogue, out);
            };
            let (s, d_stream) = (s.rows_of(tokens.clone()), d_stream.rows_of(tokens));
            let own = &mut sums[place(BETWEEN, size)];
            if at.read.is_some() {
                back(&chunk, None, d_apart);
                out.copy(d_stream);
            } else {
                self.step_back(stage, &mut chunk, s, d_stream, middle, out.reborrow(), own, back);
            }
            if let Some(d_read) = d_read {
                add(level, d_read.rows_of(chunk.tokens.clone()), out.reborrow());
            }
            if let Some(made) = made_below {
                let (d_work, own) = (out.view(), &mut sums[place(BRANCH_BELOW, size)]);
                let (layer, d_output) = (at.layer, &mut d_output);
                self.context_back(stage - 1, layer, &mut chunk, made, d_work, transposed, d_output, d_context, own);
            }
            Ok(())
        })?;
        add_sums(gradient.between_mut(stage), sums, BETWEEN, size);
        let [projection_gradient, _] = gradient.attentions[stage].0.layers_mut();
        let read = at.read.unwrap_or_else(|| self.read(stage, s, middle.view()));
        projection_gradient.add_gradient(level, threads, read, d_qkv);
        if let Some(below) = below {
            add_sums(gradient.residual_mut(stage - 1).branch.as_mut(), sums, BRANCH_BELOW, size);
            let d_output = after(d_output, out.view());
            let [_, output_gradient] = gradient.attentions[stage - 1].0.layers_mut();
            output_gradient.add_gradient(level, threads, below.context.view(), d_output);
            std::mem::swap(&mut flow.d_sum, &mut flow.d_before);
        }
        Ok(())
    }

    /// From `flow.d_context` to `flow.d_qkv`, and to the gradients of distances and of a source. Whether there is a convolution: then
    /// the gradient of what that read is in `flow.d_sum`.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    fn attend_backward(
        &self,
        pass: &Pass,
        stage: usize,
        at: At,
        flow: &mut Flow,
        saved: &mut Saved,
        transposed: &mut Transposed,
        scratch: &mut [f32],
        gradient: &mut Block,
    ) -> Result<bool> {
        let (level, threads) = (pass.step.level, pass.threads);
        let ([_, site], (attention, _)) = (self.sites(stage, at.layer), &self.attentions[stage]);
        let (dropout, SavedAttention { qkv, source: keys_values, .. }) =
            (pass.step.dropout(site), &mut saved.attentions[stage]);
        let around = at.of_stage(stage, Some(keys_values.view()));
        let own_transposed = &transposed.attentions[stage];
        let own_gradient = &mut gradient.attentions[stage].0;
        let (d_context, d_qkv) = (flow.d_context.reborrow(), flow.d_qkv.reborrow());
        if let (Some((_, source)), Some((d_source, d_keys_values)), Some(back)) =
            (at.source.filter(|_| stage > 0), &mut flow.source, &own_transposed.source)
        {
            let d = Some(d_keys_values.reborrow());
            attention.attend_backward(pass, around, dropout, qkv.view(), d_context, scratch, d_qkv, d, None, None);
            let mut d = Rows::default();
            d.resize(source.rows(), source.cols())?;
            linear(threads, d_keys_values.view(), back, Epilogue::default(), d.mat_mut());
            add(level, d.mat(), d_source.reborrow());
            let layer = own_gradient.source_mut();
            layer.into_iter().for_each(|layer| layer.add_gradient(level, threads, source, d_keys_values.view()));
            return Ok(false);
        }
        let mut positions = flow.positions.as_deref_mut();
        if let Some(positions) = positions.as_deref_mut() {
            positions.resize_gradient(around.positions.map_or(0, |(projected, _)| projected.cols()))?;
        }
        let d_positions = positions.as_deref_mut().map(|positions| positions.d_projected.mat_mut());
        let table = table_of_layer(at.layer, flow.d_bias.len());
        let d_bias = flow.d_bias.get_mut(table).map(|d| &mut d[..]);
        let qkv = qkv.view();
        attention.attend_backward(pass, around, dropout, qkv, d_context, scratch, d_qkv, None, d_bias, d_positions);
        let (x, d_context) = (flow.hidden.view(), flow.d_context.view());
        let (d_read, d_qkv) = (flow.d_sum.reborrow(), flow.d_qkv.reborrow());
        let convolved = attention.convolve_backward(pass, around, x, qkv, d_context, own_gradient, d_read, d_qkv)?;
        attention.normed_backward(pass, qkv, flow.d_qkv.reborrow(), flow.sums.reborrow(), own_gradient)?;
        if let Some(positions) = positions {
            let PositionRoom { read, d_read, d_projected, transposed: room, .. } = positions;
            let (d, dx) = (d_projected.mat(), d_read.mat_mut());
            let projection = &own_transposed.projection;
            attention.positions_backward(threads, read.mat(), d, projection, room, own_gradient, dx)?;
        }
        Ok(convolved)
    }
}

impl SavedFeedForward<'_> {
    /// What it reads and makes; the sum of the last is another's.
    fn mats<'a>(&'a mut self, last: bool, last_sum: &'a mut MatMut) -> [MatMut<'a>; 3] {
        let sum = if last { last_sum.reborrow() } else { self.sum.reborrow() };
        [self.up.reborrow(), self.made.reborrow(), sum]
    }
}

impl<'a> At<'a> {
    /// What an attention goes by: the first by what stands around a token, the other by a source and what is made of it.
    fn of_stage(self, stage: usize, keys_values: Option<Mat<'a>>) -> Around<'a> {
        let scale = self.around.scale;
        match (stage, self.source, keys_values) {
            (0, ..) => self.around,
            (_, Some((part, _)), Some(keys_values)) => {
                Around { source: Some((part, keys_values)), scale, ..Around::default() }
            }
            _ => Around { scale, ..Around::default() },
        }
    }
}

/// What was dropped, where there is any.
pub(super) fn after<'a>(dropped: &'a MatMut, plain: Mat<'a>) -> Mat<'a> {
    if dropped.rows() == 0 { plain } else { dropped.view() }
}
