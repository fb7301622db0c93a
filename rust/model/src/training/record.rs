//! The way through the model that keeps what the way back needs, and the way back.

use std::sync::PoisonError;

use ferroformer_kernels::{Level, Mat, MatMut, PackedLinear, Precision, Threads, add};

use super::gradients::Gradients;
use super::pass::{Dropout, Pass, Site};
use super::stack::plan;
use super::tape::{Flow, Parts, Tape, Top};
use crate::batch::{Batch, Part};
use crate::blueprint::HeadInput;
use crate::cancel::Cancel;
use crate::encoder::Encoder;
use crate::error::{ModelError, Result};
use crate::ingredients::Linear;
use crate::outputs::{Outputs, Want, dense, means, means_backward, of_sequences, pad, unpad};
use crate::weights::Weights;

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
    source: Option<Batch<'static>>,
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

    /// A padded batch to padded outputs, and what the way back needs; with a source, where the model attends to one.
    pub fn record(
        &self,
        threads: usize,
        batch: Batch<'static>,
        source: Option<Batch<'static>>,
        recipe: Recipe,
        cancel: &Cancel,
    ) -> Result<(Outputs, Recording)> {
        self.check_trainable()?;
        recipe.dropout.map_or(Ok(()), Dropout::check)?;
        if source.is_some() != self.blueprint.source.is_some() {
            return Err(ModelError::Input("a source to attend to belongs to a model that does so".to_owned()));
        }
        if let Some(source) = source.as_ref().filter(|source| source.sequences() != batch.sequences()) {
            let (given, expected) = (source.sequences(), batch.sequences());
            return Err(ModelError::Input(format!("input_ids have {given} rows, decoder_input_ids {expected}")));
        }
        let threads = &Threads::new(threads);
        let mut outputs = Outputs::new(&batch, &self.blueprint, Want::default(), 0)?;
        let mut tape = self.tape();
        let mut source_tape = tape.source.take().unwrap_or_default();
        if let (Some(stack), Some(source)) = (self.source_stack(), &source) {
            let part = stack.whole(source);
            let plan = plan(&part, None, recipe);
            source_tape.resize(stack, threads, plan)?;
            source_tape.look_around(stack, threads, &part)?;
            let mut parts = source_tape.parts(stack.blueprint, plan);
            let pass = Pass { threads, step: stack.step(&part, recipe), rooms: parts.rooms, cancel };
            stack.record(&pass, &mut parts, None)?;
            outputs.source_hidden_state = crate::memory::zeroed_vec(
                "the output",
                Some(source.sequences() * source.width() * stack.blueprint.hidden_size),
            )
            .map(Some)?;
            outputs.source_hidden_state.iter_mut().for_each(|out| unpad(&part, parts.flow.hidden.view(), out));
        }
        let (stack, part) = (self.stack(), &batch.part(0..batch.sequences()));
        let source_part = source.as_ref().map(|source| source.part(0..source.sequences()));
        let plan = plan(part, source_part.as_ref(), recipe);
        tape.resize(stack, threads, plan)?;
        tape.look_around(stack, threads, part)?;
        let source_parts = self.source_parts(&mut source_tape, source_part.as_ref(), recipe);
        let read = source_part.as_ref().zip(source_parts.as_ref().map(|parts| parts.flow.hidden.view()));
        let mut parts = tape.parts(&self.blueprint, plan);
        let pass = &Pass { threads, step: stack.step(part, recipe), rooms: parts.rooms, cancel };
        stack.record(pass, &mut parts, read)?;
        let Parts { flow, top, .. } = &mut parts;
        cancel.check(0)?;
        if let Some(last) = &mut outputs.last_hidden_state {
            unpad(part, flow.hidden.view(), last);
        }
        self.top(pass, flow.hidden.view(), batch.selected.as_deref(), top)?;
        if let Some(out) = &mut outputs.pooled {
            let Top { pooler, room, logits, .. } = &mut **top;
            let mut made = pooler.pooled.mat();
            if let Some(head) = &self.weights.second_head {
                logits.resize(made.rows(), head.outputs())?;
                head.forward(threads, None, made, room, logits.mat_mut())?;
                made = logits.mat();
            }
            of_sequences(part, made, out);
        }
        if let (Some(out), Some(head)) = (&mut outputs.logits, &self.weights.head) {
            let Top { head: x, room, logits, .. } = &mut **top;
            logits.resize(x.mat().rows(), head.outputs())?;
            head.forward(threads, self.weights.embeddings.tied(), x.mat(), room, logits.mat_mut())?;
            match (head.reads(), &batch.selected) {
                (HeadInput::Pooled, _) => of_sequences(part, logits.mat(), out),
                (HeadInput::Mean, _) => means(part, logits.mat(), out),
                (HeadInput::Tokens, None) => unpad(part, logits.mat(), out),
                (HeadInput::Tokens, Some(_)) => dense(logits.mat(), out),
            }
        }
        tape.source = Some(source_tape);
        Ok((outputs, Recording { batch, source, recipe, tape }))
    }

    /// What a recording has kept of its source, with the last hidden states in `flow.hidden`.
    fn source_parts<'a>(&self, tape: &'a mut Tape, part: Option<&Part>, recipe: Recipe) -> Option<Parts<'a>> {
        Some(tape.parts(self.blueprint.source.as_deref()?, plan(part?, None, recipe)))
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
        let Recording { batch, source, recipe, mut tape } = recording;
        let threads = &Threads::new(threads);
        let (stack, part) = (self.stack(), &batch.part(0..batch.sequences()));
        self.check_cotangents(part, batch.selected.as_ref().map(Vec::len), d)?;
        let mut source_tape = tape.source.take().unwrap_or_default();
        let source_stack = self.source_stack();
        let source_part = source.as_ref().zip(source_stack).map(|(source, stack)| stack.whole(source));
        let mut source_parts = self.source_parts(&mut source_tape, source_part.as_ref(), recipe);
        let plan = plan(part, source_part.as_ref(), recipe);
        let mut parts = tape.parts(&self.blueprint, plan);
        let pass = &Pass { threads, step: stack.step(part, recipe), rooms: parts.rooms, cancel };
        stack.last(pass, &parts.layers, parts.flow.hidden.reborrow())?;
        self.top(pass, parts.flow.hidden.view(), batch.selected.as_deref(), parts.top)?;
        self.top_backward(pass, d, batch.selected.as_deref(), &mut parts.flow, parts.top, gradients)?;
        if let (Some((d_source, _)), Some(stack), Some(part), Some(source)) =
            (&mut parts.flow.source, source_stack, &source_part, &mut source_parts)
        {
            // What the source's last layer made lies in its flow no more where one has been computed again since.
            d_source.fill(0.0);
            let pass = Pass { threads, step: stack.step(part, recipe), rooms: source.rooms, cancel };
            stack.last(&pass, &source.layers, source.flow.hidden.reborrow())?;
        }
        let read = source_part.as_ref().zip(source_parts.as_ref().map(|parts| parts.flow.hidden.view()));
        stack.backward(pass, &mut parts, read, &mut gradients.weights, None, recipe.checkpointing)?;
        if let (Some((d_source, _)), Some(stack), Some(part), Some(source), Some(gradient)) =
            (&parts.flow.source, source_stack, &source_part, &mut source_parts, &mut gradients.weights.source)
        {
            source.flow.d_hidden.copy(d_source.view());
            let pass = &Pass { threads, step: stack.step(part, recipe), rooms: source.rooms, cancel };
            let shared = stack.blueprint.embeddings.shared.then_some(&mut gradients.weights.embeddings);
            stack.backward(pass, source, None, gradient, shared, recipe.checkpointing)?;
        }
        cancel.check(0)?;
        tape.source = Some(source_tape);
        self.keep_tape(tape);
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
        let Top { pooler: pooler_room, head: x, logits, d_logits, d_head, d_pooled, room, second_room } = top;
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
            head.cap_backward(threads, logits.mat(), d_logits.mat_mut());
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
