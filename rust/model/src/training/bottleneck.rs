//! A layer with a bottleneck, there and back: what `layer.rs` does with a stream, between the ways in and out.

use ferroformer_kernels::{Epilogue, Mat, MatMut, linear};

use super::layer::after;
use super::pass::{Chunk, Pass, Site, Work};
use super::tape::{Flow, Narrowed, Saved, Transposed};
use crate::block::{At, Block};
use crate::error::Result;
use crate::ingredients::Bottleneck;

impl Block {
    /// All tokens of a batch: hidden (T, H) -> `saved`, and `sum` (T, H), of which [`output`](Self::output) makes what comes out of
    /// this block; a `sum` without rows is not wanted. What a bottleneck gives is left in `narrowed`.
    #[expect(clippy::too_many_arguments, reason = "what is read and written, each by its own name")]
    pub(crate) fn record(
        &self,
        pass: &Pass,
        at: At,
        hidden: Mat,
        narrowed: Option<&mut Narrowed>,
        saved: &mut Saved,
        sum: MatMut,
        scratch: &mut [f32],
    ) -> Result<()> {
        let (Some(bottleneck), Some(narrowed)) = (&self.bottleneck, narrowed) else {
            return self.record_stream(pass, at, hidden, saved, sum, scratch);
        };
        bottleneck.record(pass, hidden, narrowed)?;
        let mut inside = take(&mut saved.inside);
        let at = At { read: Some(narrowed.read.view()), ..at };
        self.record_stream(pass, at, narrowed.hidden.view(), saved, inside.reborrow(), scratch)?;
        saved.inside = inside;
        if sum.rows() == 0 {
            return Ok(());
        }
        let (inside, [_, widening]) = (saved.inside.view(), bottleneck.layers());
        pass.for_each_chunk([sum], [], |mut chunk, [sum], []| {
            let (tokens, count) = (chunk.tokens.clone(), chunk.tokens.len());
            self.leave_stream(&mut chunk, inside);
            let x = chunk.room.hidden.first(count);
            let work = Work { site: Site::FeedForward(at.layer), layer: widening, x, branch: None };
            chunk.add_work(work, hidden.rows_of(tokens), MatMut::dense(&mut [], 0, sum.cols()), sum)
        })
    }

    /// What comes out behind the last sub-layer, from its sum (T, C) to the chunk's room.
    fn leave_stream(&self, chunk: &mut Chunk, inside: Mat) {
        let (tokens, count) = (chunk.tokens.clone(), chunk.tokens.len());
        let room = &mut *chunk.room;
        let mut out = room.hidden.first_mut(count);
        match &self.residual(self.last()).after {
            Some(norm) => norm.forward(&chunk.threads, inside.rows_of(tokens), out, &mut room.none),
            None => out.copy(inside.rows_of(tokens)),
        }
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
        transposed.fill(pass.threads, self);
        let (Some(bottleneck), Some(mut narrowed)) = (&self.bottleneck, flow.narrowed.take()) else {
            return self.stream_backward(pass, at, flow, saved, sum, transposed, scratch, gradient);
        };
        bottleneck.record(pass, flow.hidden.view(), &mut narrowed)?;
        self.widen_backward(pass, at.layer, flow, &mut narrowed, saved.inside.view(), sum, transposed, gradient)?;
        std::mem::swap(&mut flow.hidden, &mut narrowed.hidden);
        std::mem::swap(&mut flow.d_hidden, &mut narrowed.d_hidden);
        let inside = take(&mut saved.inside);
        let inner = At { read: Some(narrowed.read.view()), ..at };
        self.stream_backward(pass, inner, flow, saved, inside.view(), transposed, scratch, gradient)?;
        saved.inside = inside;
        std::mem::swap(&mut flow.hidden, &mut narrowed.hidden);
        std::mem::swap(&mut flow.d_hidden, &mut narrowed.d_hidden);
        bottleneck.narrow_all_backward(pass, flow, &mut narrowed, transposed, gradient)?;
        flow.narrowed = Some(narrowed);
        Ok(())
    }

    /// From `flow.d_hidden` (T, H) to `narrowed.d_sum`, the gradient of the layer's last sum, and to `narrowed.d_hidden` (T, C), that of
    /// what came out behind the last sub-layer, of whose sum, `inside`, `flow.middle` becomes that.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    fn widen_backward(
        &self,
        pass: &Pass,
        layer: usize,
        flow: &mut Flow,
        narrowed: &mut Narrowed,
        inside: Mat,
        sum: Mat,
        transposed: &Transposed,
        gradient: &mut Block,
    ) -> Result<()> {
        let (Some(bottleneck), Some([_, back])) = (&self.bottleneck, &transposed.bottleneck) else { return Ok(()) };
        let (width, Flow { d_hidden, middle, sums, .. }) = (2 * sum.cols(), flow);
        let Narrowed { d_hidden: d_stream, d_sum, dropped, .. } = narrowed;
        let d_out = d_hidden.view();
        let mats = [d_sum.reborrow(), dropped.reborrow(), d_stream.reborrow(), middle.reborrow()];
        pass.for_each_chunk(mats, [sums.reborrow()], |mut chunk, mats, [mut sums]| {
            let [mut d_sum, mut dropped, d_stream, mut middle] = mats;
            let (tokens, count) = (chunk.tokens.clone(), chunk.tokens.len());
            let sums = &mut sums.row_mut(0)[..width];
            sums.fill(0.0);
            bottleneck.norm().backward(sum.rows_of(tokens.clone()), d_out.rows_of(tokens), d_sum.reborrow(), sums);
            let d = chunk.work_back(Site::FeedForward(layer), None, d_sum.view(), &mut dropped, &mut []);
            linear(&chunk.threads, d, back, Epilogue::default(), d_stream);
            self.leave_stream(&mut chunk, inside);
            middle.copy(chunk.room.hidden.first(count));
            Ok(())
        })?;
        let Some(gradient) = &mut gradient.bottleneck else { return Ok(()) };
        gradient.norm_mut().add_gradient(sums.view().block(0..sums.rows(), 0..width));
        let [_, widening] = gradient.layers_mut();
        widening.add_gradient(pass.step.level, pass.threads, middle.view(), after(dropped, d_sum.view()));
        Ok(())
    }
}

impl Bottleneck {
    /// All tokens of a batch: x (T, H) -> `narrowed`.
    fn record(&self, pass: &Pass, x: Mat, narrowed: &mut Narrowed) -> Result<()> {
        let Narrowed { hidden, made, read, .. } = narrowed;
        let mats = [made.reborrow(), hidden.reborrow(), read.reborrow()];
        pass.for_each_chunk(mats, [], |mut chunk, [made, stream, read], []| {
            let x = x.rows_of(chunk.tokens.clone());
            self.narrow(&chunk.threads, x, &mut chunk.room.none, made, stream, read)
        })
    }

    /// From the gradients of what was given, `narrowed.d_hidden` and `flow.d_read`, and of the layer's last sum to that of what the layer
    /// read, `flow.d_hidden` (T, H); `flow.hidden` holds this.
    fn narrow_all_backward(
        &self,
        pass: &Pass,
        flow: &mut Flow,
        narrowed: &mut Narrowed,
        transposed: &Transposed,
        gradient: &mut Block,
    ) -> Result<()> {
        let (Some([back, _]), Some(gradient)) = (&transposed.bottleneck, &mut gradient.bottleneck) else {
            return Ok(());
        };
        let Flow { hidden, d_hidden, d_read, sums, .. } = flow;
        let Narrowed { made, d_made, d_hidden: d_stream, d_sum, .. } = narrowed;
        let (made, d_read, d_sum, width) = (made.view(), d_read.view(), d_sum.view(), 2 * made.cols());
        let mats = [d_hidden.reborrow(), d_stream.reborrow(), d_made.reborrow()];
        pass.for_each_chunk(mats, [sums.reborrow()], |chunk, [d_hidden, d_stream, d_made], [mut sums]| {
            let sums = &mut sums.row_mut(0)[..width];
            sums.fill(0.0);
            let [made, d_read, d_sum] = [made, d_read, d_sum].map(|mat| mat.rows_of(chunk.tokens.clone()));
            self.narrow_backward(&chunk.threads, back, made, d_stream, d_read, d_sum, d_made, d_hidden, sums);
            Ok(())
        })?;
        gradient.add_sums(sums.view());
        let [narrowing, _] = gradient.layers_mut();
        narrowing.add_gradient(pass.step.level, pass.threads, hidden.view(), d_made.view());
        Ok(())
    }
}

/// Leaves none there.
fn take<'a>(mat: &mut MatMut<'a>) -> MatMut<'a> {
    std::mem::replace(mat, MatMut::dense(&mut [], 0, 0))
}
