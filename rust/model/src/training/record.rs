//! The way through the model that keeps what the way back needs, and the way back.

use std::sync::PoisonError;

use ferroformer_kernels::{Level, Mat, MatMut, PackedLinear, Precision, Threads, add};

use super::gradients::Gradients;
use super::pass::{Dropout, Pass, Site, Step};
use super::tape::{Flow, Layers, Parts, Sizes, Tape, Top};
use crate::batch::{Batch, Part};
use crate::block::{At, Block};
use crate::blueprint::HeadInput;
use crate::cancel::Cancel;
use crate::encoder::Encoder;
use crate::error::{ModelError, Result};
use crate::ingredients::{Around, Linear};
use crate::outputs::{Outputs, Want, means, means_backward, of_sequences, pad, unpad};
use crate::weights::Weights;
use crate::workspace::Rows;

/// How a batch is learned from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recipe {
    pub dropout: Option<Dropout>,
    /// Layers keep only what they read, and are computed once more on the way back.
    pub checkpointing: bool,
}

/// A batch and what its forward pass left.
pub struct Recording {
    batch: Batch<'static>,
    recipe: Recipe,
    tape: Tape,
}

/// The gradients of a loss by what came out of a model, in the shapes of [`Outputs`]; what is not there is zero. What stands where the
/// mask was zero is not read.
#[derive(Clone, Copy, Default)]
pub struct Cotangents<'a> {
    pub last_hidden_state: Option<&'a [f32]>,
    pub pooled: Option<&'a [f32]>,
    pub logits: Option<&'a [f32]>,
}

impl Encoder {
    /// An error unless the weights can be changed.
    pub(crate) fn check_trainable(&self) -> Result<()> {
        let problem = match (self.precision, &self.file) {
            (Precision::Float32, None) => return Ok(()),
            (Precision::Float32, Some(_)) => "weights that are mapped from a packed file".to_owned(),
            (precision, _) => format!("weights in {}", precision.name()),
        };
        Err(ModelError::Input(format!("{problem} cannot be trained: load the checkpoint with dtype=\"float32\"")))
    }

    fn sizes(&self, batch: &Batch) -> Sizes {
        let part = batch.part(0..batch.sequences());
        Sizes { tokens: part.tokens(), longest: part.longest() }
    }

    /// A padded batch to padded outputs, and what the way back needs.
    pub fn record(
        &self,
        threads: usize,
        batch: Batch<'static>,
        recipe: Recipe,
        cancel: &Cancel,
    ) -> Result<(Outputs, Recording)> {
        self.check_trainable()?;
        recipe.dropout.map_or(Ok(()), Dropout::check)?;
        let threads = &Threads::new(threads);
        let mut outputs = Outputs::new(&batch, &self.blueprint, Want::default())?;
        let mut tape = self.tape();
        tape.resize(self, threads, self.sizes(&batch), recipe.checkpointing, recipe.dropout.is_some())?;
        let part = &batch.part(0..batch.sequences());
        tape.look_around(self, threads, part)?;
        let Parts { mut layers, mut flow, scratch, rooms, angles, distances, surroundings, top, .. } =
            self.parts(&mut tape, part, recipe);
        let step = Step { level: self.level, part, dropout: recipe.dropout };
        let (pass, blocks) = (&Pass { threads, step, rooms, cancel }, &self.layers()[..]);
        for (layer, block) in blocks.iter().enumerate() {
            cancel.check(0)?;
            self.input(pass, blocks, layer, &layers, flow.hidden.reborrow())?;
            let (saved, sum) = layers.saved(layer);
            if let Some(positions) = &mut flow.positions {
                positions.project(pass, layer, block)?;
            }
            let positions = flow.positions.as_deref().map(|room| (room.projected.mat(), &room.places[..]));
            let at =
                At { layer, around: Around { bias: distances, positions, surroundings, ..self.around(layer, angles) } };
            block.record(pass, at, flow.hidden.view(), saved, sum.reborrow(), scratch)?;
        }
        self.last(pass, blocks, &layers, flow.hidden.reborrow())?;
        cancel.check(0)?;
        if let Some(last) = &mut outputs.last_hidden_state {
            unpad(part, flow.hidden.view(), last);
        }
        self.top(pass, flow.hidden.view(), batch.selected.as_deref(), top)?;
        if let Some(out) = &mut outputs.pooled {
            let Top { pooler, room, logits, .. } = &mut *top;
            let mut made = pooler.pooled.mat();
            if let Some(head) = &self.weights.second_head {
                logits.resize(made.rows(), head.outputs())?;
                head.forward(threads, None, made, room, logits.mat_mut())?;
                made = logits.mat();
            }
            of_sequences(part, made, out);
        }
        if let (Some(out), Some(head)) = (&mut outputs.logits, &self.weights.head) {
            let Top { head: x, room, logits, .. } = top;
            logits.resize(x.mat().rows(), head.outputs())?;
            head.forward(threads, self.weights.embeddings.tied(), x.mat(), room, logits.mat_mut())?;
            match (head.reads(), &batch.selected) {
                (HeadInput::Pooled, _) => of_sequences(part, logits.mat(), out),
                (HeadInput::Mean, _) => means(part, logits.mat(), out),
                (HeadInput::Tokens, None) => unpad(part, logits.mat(), out),
                (HeadInput::Tokens, Some(_)) => dense(logits.mat(), out),
            }
        }
        Ok((outputs, Recording { batch, recipe, tape }))
    }

    /// Adds the gradients of all weights to `gradients`.
    pub fn backward(
        &self,
        threads: usize,
        recording: Recording,
        d: Cotangents,
        gradients: &mut Gradients,
        cancel: &Cancel,
    ) -> Result<()> {
        self.check_trainable()?;
        gradients.check_fits(self)?;
        let Recording { batch, recipe, mut tape } = recording;
        let threads = &Threads::new(threads);
        let part = &batch.part(0..batch.sequences());
        self.check_cotangents(part, batch.selected.as_ref().map(Vec::len), d)?;
        let Parts {
            mut layers,
            mut flow,
            scratch,
            rooms,
            top,
            transposed,
            embedding_transposed,
            angles,
            distances,
            surroundings,
        } = self.parts(&mut tape, part, recipe);
        let step = Step { level: self.level, part, dropout: recipe.dropout };
        let (pass, blocks) = (&Pass { threads, step, rooms, cancel }, &self.layers()[..]);
        let of_layer = self.blueprint.blocks();
        let lowest = gradients.lowest_layer(&of_layer);
        self.last(pass, blocks, &layers, flow.hidden.reborrow())?;
        self.top(pass, flow.hidden.view(), batch.selected.as_deref(), top)?;
        self.top_backward(pass, d, batch.selected.as_deref(), &mut flow, top, gradients)?;
        let Some(transposed) = transposed else { return Ok(()) };
        self.last_backward(pass, layers.sums[blocks.len() - 1].view(), &mut flow, gradients)?;
        for layer in (lowest..blocks.len()).rev() {
            cancel.check(0)?;
            self.input(pass, blocks, layer, &layers, flow.hidden.reborrow())?;
            let (saved, sum) = layers.saved(layer);
            let mut made = (Rows::default(), vec![]);
            if let Some(positions) = &mut flow.positions {
                positions.project(pass, layer, blocks[layer])?;
                made = positions.take_made();
            }
            let positions = flow.positions.is_some().then(|| (made.0.mat(), &made.1[..]));
            let at =
                At { layer, around: Around { bias: distances, positions, surroundings, ..self.around(layer, angles) } };
            if recipe.checkpointing {
                let unwanted = MatMut::dense(&mut [], 0, sum.cols());
                blocks[layer].record(pass, at, flow.hidden.view(), saved, unwanted, scratch)?;
            }
            let gradient = &mut gradients.weights.blocks[of_layer[layer]];
            blocks[layer].backward(pass, at, &mut flow, saved, sum.view(), transposed, scratch, gradient)?;
            if let Some(positions) = &mut flow.positions {
                positions.give_back(made);
                positions.add(pass, layer);
            }
        }
        if let (Some(distances), Some(gradient), Some(positions)) =
            (&self.weights.distances, &mut gradients.weights.distances, &mut flow.positions)
        {
            distances.backward(&mut positions.d_all, gradient);
        }
        if let (Some(gradient), Some(d)) = (&mut gradients.weights.relative, &flow.d_bias) {
            gradient.add_gradient(d, part.longest().max(1));
        }
        if lowest == 0 {
            let gradient = &mut gradients.weights.embeddings;
            self.weights.embeddings.backward(pass, &mut flow, embedding_transposed, gradient)?;
        }
        cancel.check(0)?;
        self.keep_tape(tape);
        Ok(())
    }

    fn parts<'a>(&self, tape: &'a mut Tape, part: &Part, recipe: Recipe) -> Parts<'a> {
        tape.parts(&self.blueprint, part.tokens(), recipe.checkpointing, recipe.dropout.is_some())
    }

    /// What a layer reads, (T, H): the embeddings or what the layer below makes.
    fn input(&self, pass: &Pass, blocks: &[&Block], layer: usize, layers: &Layers, hidden: MatMut) -> Result<()> {
        match layer.checked_sub(1) {
            None => self.weights.embeddings.record(pass, hidden),
            Some(below) => blocks[below].output(pass, layers.sums[below].view(), hidden),
        }
    }

    /// The last hidden states (T, H).
    fn last(&self, pass: &Pass, blocks: &[&Block], layers: &Layers, hidden: MatMut) -> Result<()> {
        let Some(norm) = &self.weights.final_norm else {
            return self.input(pass, blocks, blocks.len(), layers, hidden);
        };
        let sum = layers.sums[blocks.len() - 1].view();
        pass.for_each_chunk([hidden], [], |mut chunk, [hidden], []| {
            norm.forward(&chunk.threads, sum.rows_of(chunk.tokens.clone()), hidden, &mut chunk.room.none);
            Ok(())
        })
    }

    /// The gradient of the last hidden states, `flow.d_hidden` -> that of what the last block makes, `sum`, in its place.
    fn last_backward(&self, pass: &Pass, sum: Mat, flow: &mut Flow, gradients: &mut Gradients) -> Result<()> {
        let Some(norm) = &self.weights.final_norm else { return Ok(()) };
        let (size, Flow { d_hidden, sums, .. }) = (sum.cols(), flow);
        pass.for_each_chunk([d_hidden.reborrow()], [sums.reborrow()], |mut chunk, [d], [mut sums]| {
            let (sum, count) = (sum.rows_of(chunk.tokens.clone()), chunk.tokens.len());
            let sums = &mut sums.row_mut(0)[..2 * size];
            sums.fill(0.0);
            let room = &mut chunk.room.hidden;
            room.first_mut(count).copy(d.view());
            norm.backward(sum, room.first(count), d, sums);
            Ok(())
        })?;
        let all = sums.view();
        let gradient = gradients.weights.final_norm.as_mut();
        gradient.into_iter().for_each(|norm| norm.add_gradient(all.block(0..all.rows(), 0..2 * size)));
        Ok(())
    }

    /// The pooled vectors and what the head reads, from the last hidden states (T, H).
    fn top(&self, pass: &Pass, hidden: Mat, selected: Option<&[usize]>, top: &mut Top) -> Result<()> {
        let size = self.blueprint.hidden_size;
        if let Some(pooler) = &self.weights.pooler {
            pooler.read(pass.step.part, hidden, &mut top.pooler)?;
            if let Some(dropout) = pass.step.dropout(Site::Pooler).filter(|_| pooler.drops()) {
                dropout.apply(self.level, 0, top.pooler.read.mat_mut());
            }
            pooler.forward(pass.threads, &mut top.pooler)?;
        }
        if let Some(head) = &self.weights.head {
            let Top { head: out, pooler, .. } = &mut *top;
            let x = if head.reads() == HeadInput::Pooled { pooler.pooled.mat() } else { hidden };
            out.resize(selected.map_or(x.rows(), <[usize]>::len), size)?;
            for r in 0..out.mat().rows() {
                out.mat_mut().row_mut(r).copy_from_slice(x.row(selected.map_or(r, |selected| selected[r])));
            }
            if let Some(dropout) = pass.step.dropout(Site::Head) {
                dropout.apply(self.level, 0, top.head.mat_mut());
            }
        }
        Ok(())
    }

    /// From the gradients of what came out to that of the last hidden states, in `flow.d_hidden`; `flow.hidden` holds these.
    fn top_backward(
        &self,
        pass: &Pass,
        d: Cotangents,
        selected: Option<&[usize]>,
        flow: &mut Flow,
        top: &mut Top,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let (part, level, threads, size) = (pass.step.part, self.level, pass.threads, self.blueprint.hidden_size);
        let Top { pooler: pooler_room, head: x, d_logits, d_head, d_pooled, room, second_room, .. } = top;
        flow.d_hidden.fill(0.0);
        if let Some(d) = d.last_hidden_state {
            pad(part, d, flow.d_hidden.reborrow());
        }
        d_pooled.resize(part.sequences(), size)?;
        d_pooled.mat_mut().fill(0.0);
        let Weights { embeddings, head: head_gradient, second_head: second_gradient, pooler: pooler_gradient, .. } =
            &mut gradients.weights;
        match (d.pooled, &self.weights.second_head, second_gradient) {
            (None, ..) => {}
            (Some(d), Some(head), Some(gradient)) => {
                d_logits.resize(part.sequences(), head.outputs())?;
                rows_of_sequences(part, d, d_logits.mat_mut());
                let (x, dx) = (pooler_room.pooled.mat(), d_pooled.mat_mut());
                head.backward(threads, None, x, d_logits.mat(), second_room, gradient, None, dx)?;
            }
            (Some(d), ..) => rows_of_sequences(part, d, d_pooled.mat_mut()),
        }
        if let (Some(head), Some(gradient), Some(d)) = (&self.weights.head, head_gradient, d.logits) {
            d_logits.resize(x.mat().rows(), head.outputs())?;
            match (head.reads(), selected) {
                (HeadInput::Pooled, _) => rows_of_sequences(part, d, d_logits.mat_mut()),
                (HeadInput::Mean, _) => means_backward(part, d, d_logits.mat_mut()),
                (HeadInput::Tokens, None) => pad(part, d, d_logits.mat_mut()),
                (HeadInput::Tokens, Some(_)) => from_dense(d, d_logits.mat_mut()),
            }
            d_head.resize(x.mat().rows(), size)?;
            let (words, words_gradient) = (self.weights.embeddings.tied(), embeddings.tied_mut());
            let (x, d, dx) = (x.mat(), d_logits.mat(), d_head.mat_mut());
            head.backward(threads, words, x, d, room, gradient, words_gradient, dx)?;
            if let Some(dropout) = pass.step.dropout(Site::Head) {
                dropout.apply(level, 0, d_head.mat_mut());
            }
            let mut place =
                if head.reads() == HeadInput::Pooled { d_pooled.mat_mut() } else { flow.d_hidden.reborrow() };
            match selected {
                None => add(level, d_head.mat(), place),
                Some(selected) => selected.iter().enumerate().for_each(|(r, t)| {
                    add(level, d_head.mat().rows_of(r..r + 1), place.reborrow().into_block(*t..*t + 1, 0..size));
                }),
            }
        }
        if let Some(pooler) = &self.weights.pooler {
            d_head.resize(part.sequences(), size)?;
            pooler.backward(threads, pooler_room, d_pooled.mat(), pooler_gradient.as_mut(), d_head.mat_mut())?;
            if let Some(dropout) = pass.step.dropout(Site::Pooler).filter(|_| pooler.drops()) {
                dropout.apply(level, 0, d_head.mat_mut());
            }
            pooler.read_backward(part, d_head.mat(), flow.d_hidden.reborrow());
        }
        Ok(())
    }

    fn check_cotangents(&self, part: &Part, selected: Option<usize>, d: Cotangents) -> Result<()> {
        let (sequences, width, size) = (part.sequences(), part.width, self.blueprint.hidden_size);
        let logits = self.weights.head.as_ref().map(|head| {
            head.outputs() * if head.reads().of_sequences() { sequences } else { selected.unwrap_or(sequences * width) }
        });
        let wrong = |name: &str, given: Option<&[f32]>, expected: Option<usize>| match given {
            Some(given) if Some(given.len()) != expected => Err(ModelError::Input(format!(
                "the gradient of {name} has {} elements; the model's {name} have {}",
                given.len(),
                expected.unwrap_or(0)
            ))),
            _ => Ok(()),
        };
        wrong("last_hidden_state", d.last_hidden_state, Some(sequences * width * size))?;
        wrong("pooled", d.pooled, self.weights.pooler.is_some().then_some(sequences * self.blueprint.pooled_size()))?;
        wrong("logits", d.logits, logits)
    }

    /// The tape that the last batch used, if nobody has it. The lock is never waited for.
    fn tape(&self) -> Tape {
        self.tapes.try_lock().ok().and_then(|mut shelf| shelf.take()).unwrap_or_default()
    }

    fn keep_tape(&self, tape: Tape) {
        if let Ok(mut shelf) = self.tapes.try_lock() {
            *shelf = Some(tape);
        }
    }

    /// Keeps a recording's memory for the next.
    pub fn discard(&self, recording: Recording) {
        self.keep_tape(recording.tape);
    }

    /// Gives the memory back that training has kept for the next batch.
    pub fn release_tape(&mut self) {
        *self.tapes.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Rows (M, N) without gaps.
fn dense(rows: Mat, out: &mut [f32]) {
    let each = out.chunks_exact_mut(rows.cols()).enumerate();
    each.for_each(|(r, out)| out.copy_from_slice(rows.row(r)));
}

fn from_dense(d: &[f32], mut rows: MatMut) {
    let each = d.chunks_exact(rows.cols()).enumerate();
    each.for_each(|(r, d)| rows.row_mut(r).copy_from_slice(d));
}

/// Rows (S, N) to rows, zeros for sequences without a token.
fn rows_of_sequences(part: &Part, d: &[f32], mut rows: MatMut) {
    let cols = rows.cols();
    for ((s, range), d) in part.ranges().enumerate().zip(d.chunks_exact(cols)) {
        if range.is_empty() { rows.row_mut(s).fill(0.0) } else { rows.row_mut(s).copy_from_slice(d) }
    }
}

/// dx = dy W for a layer on its own; `transposed` is room for its weights.
pub(crate) fn input_gradient(
    linear: &Linear,
    level: Level,
    threads: &Threads,
    dy: Mat,
    dx: MatMut,
    transposed: &mut Option<PackedLinear>,
) -> Result<()> {
    let room = match transposed.take() {
        Some(room) => room,
        None => linear.transposed(level)?,
    };
    let room = transposed.insert(room);
    linear.transpose(threads, room);
    ferroformer_kernels::linear(threads, dy, room, Default::default(), dx);
    Ok(())
}
