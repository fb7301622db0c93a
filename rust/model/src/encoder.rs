//! A stack of blocks over embeddings: the model that a blueprint describes.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ferroformer_kernels::{Arena, Form, Level, Mat, MatMut, Narrow, Precision, Threads};

use crate::batch::{Batch, Part};
use crate::block::Block;
use crate::blueprint::{Blueprint, HeadInput, LayerSpec};
use crate::cancel::Cancel;
use crate::checkpoint::Checkpoint;
use crate::error::{ModelError, Result};
use crate::export;
use crate::ingredients::Around;
use crate::loader::{From, Loader, Slot, Source};
use crate::memory;
use crate::outputs::{Outputs, PartOutputs, Want, cut, means, of_sequences, unpad};
use crate::packed_file::{self, PackedFile};
use crate::pooling::{Pooling, normalize};
use crate::rotation;
use crate::training::Tape;
use crate::weights::Weights;
use crate::workspace::{Room, Rows, Workspace};

pub struct Encoder {
    pub(crate) blueprint: Blueprint,
    pub(crate) level: Level,
    pub(crate) precision: Precision,
    pub(crate) weights: Weights,
    /// Where the weights lie if they are mapped.
    pub(crate) file: Option<PackedFile>,
    /// Rooms that no call is working in.
    workspaces: Mutex<Vec<Workspace>>,
    /// For each block what it makes of the embeddings of distances; made when it is first needed.
    positions: Mutex<Option<Arc<Vec<Rows>>>>,
    /// The room of a training step that no step is working in.
    pub(crate) tapes: Mutex<Option<Tape>>,
}

/// How sentences become vectors.
pub struct SentencePooling<'a> {
    /// Put end to end in this order.
    pub modes: &'a [Pooling],
    /// How many tokens at the beginning of each sentence are left out.
    pub skip: Option<&'a [i64]>,
    pub normalize: bool,
}

impl Encoder {
    /// Every slot with its shape, in the order of a checkpoint; an error where they would not fit the memory that is left.
    pub fn slots(blueprint: &Blueprint) -> Result<Vec<Slot>> {
        memory::require("the model", blueprint.parameters().saturating_mul(4))?;
        Ok(Weights::slots(blueprint))
    }

    /// Checks all shapes against the checkpoint and the size against the memory that is left, then loads and packs.
    pub fn load(
        blueprint: Blueprint,
        level: Level,
        precision: Precision,
        source: &Source,
        threads: usize,
    ) -> Result<Self> {
        let slots = Self::slots(&blueprint)?;
        Loader::check(source, &slots)?;
        let threads = &Threads::new(threads);
        // What is not in `precision` makes it more: the last tables then have mappings of their own.
        let expected = blueprint.parameters() as usize * 4 / precision.per_word() + 64 * slots.len();
        let from = From::Source(source, Arena::expecting(expected));
        Self::build(blueprint, &Loader { level, precision, threads, from })
    }

    /// Maps a file of [`save_packed`](Self::save_packed), whose weights must be of this precision, if one is asked for. They
    /// stay in the file.
    pub fn map(
        blueprint: Blueprint,
        level: Level,
        precision: Option<Precision>,
        path: &Path,
        threads: usize,
    ) -> Result<Self> {
        let threads = &Threads::new(threads);
        let file = PackedFile::open(path, &blueprint, level, precision, threads)?;
        let loader = Loader { level, precision: file.precision(), threads, from: From::Packed(&file) };
        let encoder = Self::build(blueprint, &loader)?;
        Ok(Self { file: Some(file), ..encoder })
    }

    fn build(blueprint: Blueprint, loader: &Loader) -> Result<Self> {
        Ok(Self {
            weights: Weights::load(loader, &blueprint)?,
            level: loader.level,
            precision: loader.precision,
            blueprint,
            file: None,
            workspaces: Mutex::default(),
            positions: Mutex::default(),
            tapes: Mutex::default(),
        })
    }

    pub fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Bytes of the weights, in memory or in a mapped file.
    pub fn bytes(&self) -> usize {
        self.weights.pieces().iter().map(|piece| size_of_val(piece.words)).sum()
    }

    /// A padded batch to padded outputs.
    pub fn forward(&self, threads: usize, batch: &Batch, want: Want, cancel: &Cancel) -> Result<Outputs> {
        let mut outputs = Outputs::new(batch, &self.blueprint, want)?;
        let parts = batch.parts(threads);
        let shares = outputs.split(&parts, batch.sequences());
        self.run(threads, batch, &parts, shares, cancel, |threads, part, ws, out| {
            if let Some(last) = out.last_hidden_state {
                unpad(part, ws.hidden.mat(), last);
            }
            if let Some(pooler) = &self.weights.pooler {
                pooler.read(part, ws.hidden.mat(), &mut ws.pooler)?;
                pooler.forward(threads, &mut ws.pooler)?;
            }
            if let Some(out) = out.pooled {
                let Workspace { pooler, logits, head: room, .. } = &mut *ws;
                let mut made = pooler.pooled.mat();
                if let Some(head) = &self.weights.second_head {
                    logits.resize(made.rows(), head.outputs())?;
                    head.forward(threads, None, made, room, logits.mat_mut())?;
                    made = logits.mat();
                }
                of_sequences(part, made, out);
            }
            out.logits.map_or(Ok(()), |logits| self.judge(threads, part, ws, logits))
        })?;
        Ok(outputs)
    }

    /// Sentences to vectors, (S, modes x H).
    pub fn embed(&self, threads: usize, batch: &Batch, pooling: &SentencePooling, cancel: &Cancel) -> Result<Vec<f32>> {
        let width = pooling.modes.len() * self.blueprint.hidden_size;
        let mut vectors = memory::zeroed_vec("the output", batch.sequences().checked_mul(width))?;
        let parts = batch.parts(threads);
        let shares = cut(&mut vectors, &parts, batch.sequences());
        let shares = parts.iter().cloned().zip(shares).collect();
        self.run(
            threads,
            batch,
            &parts,
            shares,
            cancel,
            |_, part, ws, (sequences, out): (Range<usize>, &mut [f32])| {
                let skips = sequences.map(|s| pooling.skip.map_or(0, |skip| skip[s].max(0) as usize));
                for ((range, skip), out) in part.ranges().zip(skips).zip(out.chunks_exact_mut(width)) {
                    let tokens = ws.hidden.mat().rows_of(range);
                    for (mode, out) in pooling.modes.iter().zip(out.chunks_exact_mut(self.blueprint.hidden_size)) {
                        mode.pool(tokens, skip, out);
                    }
                    if pooling.normalize {
                        normalize(out);
                    }
                }
                Ok(())
            },
        )?;
        Ok(vectors)
    }

    /// Takes each part through the model and hands what comes out to `finish`, with the part's share of the outputs.
    ///
    /// Parts run side by side, each on one thread, where there are enough of them; else one after the other,
    /// each on all threads.
    fn run<T: Shares + Send>(
        &self,
        threads: usize,
        batch: &Batch,
        parts: &[Range<usize>],
        shares: Vec<T>,
        cancel: &Cancel,
        finish: impl Fn(&Threads, &Part, &mut Workspace, T) -> Result<()> + Sync,
    ) -> Result<()> {
        self.file.as_ref().map_or(Ok(()), PackedFile::check)?;
        let shares: Vec<_> = shares.into_iter().map(|share| Mutex::new(Some(share))).collect();
        let positions = self.positions(&Threads::new(threads))?;
        let failure = Mutex::new(None);
        let run_part = |team: &Threads, rank, i: usize| {
            let part = batch.part(parts[i].clone());
            let Some(mut share) = lock(&shares[i]).take() else { return };
            let mut ws = self.room();
            let result = self
                .run_part(team, &part, positions.as_ref().map(|x| &x[..]), &mut ws, &mut share, &|| cancel.check(rank))
                .and_then(|()| finish(team, &part, &mut ws, share));
            if let Err(error) = result {
                *lock(&failure) = Some(error);
            }
            self.keep(ws, threads);
        };
        let all = Threads::new(threads);
        if parts.len() >= threads {
            all.for_each(parts.len(), |rank, i| run_part(&Threads::serial(), rank, i));
        } else {
            (0..parts.len()).for_each(|i| run_part(&all, 0, i));
        }
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// The tokens of a part to `ws.hidden` (T, H).
    ///
    /// Attention takes whole sequences. All else goes token by token: a chunk of tokens is taken by one thread from the end of
    /// one attention to the beginning of the next, so that what it makes stays in that core's cache.
    fn run_part(
        &self,
        threads: &Threads,
        part: &Part,
        positions: Option<&[Rows]>,
        ws: &mut Workspace,
        share: &mut impl Shares,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        check()?;
        ws.resize(self.level, threads, &self.blueprint, part)?;
        rotation::fill(&self.weights.rotations, part.positions, &mut ws.angles)?;
        ws.distances = self.weights.relative.as_ref().map(|relative| relative.distances(part.longest()));
        ws.places = self.weights.distances.as_ref().map_or(vec![], |x| x.places(part.longest().max(1)));
        let (layers, of_layer) = (self.layers(), self.blueprint.blocks());
        self.each_chunk(threads, ws, |team, tokens, _, mut hidden, qkv, room, angles| {
            let (block, around) = (layers[0], self.around(0, angles));
            room.narrow.resize(block.form(), hidden.rows(), hidden.cols())?;
            let Room { embeddings, narrow, .. } = room;
            self.weights.embeddings.forward(team, part, tokens.clone(), embeddings, hidden.reborrow(), narrow)?;
            block.project(team, hidden.view(), around.of(tokens), room, qkv)
        })?;
        share.hidden_state(0, part, ws);
        for (i, block) in layers.iter().enumerate() {
            check()?;
            let Workspace { angles, distances, places, hidden, qkv, context, scratch, surroundings, .. } = &mut *ws;
            let positions = positions.map(|positions| (positions[of_layer[i]].mat(), &places[..]));
            let (bias, surroundings) = (distances.as_ref(), surroundings.as_ref());
            let around = Around { bias, positions, surroundings, ..self.around(i, angles) };
            let (hidden, attentions) = (hidden.mat(), share.attention(i));
            block.attend(threads, part, around, hidden, qkv.mat(), scratch, attentions, context.mat_mut())?;
            let next = layers.get(i + 1);
            self.each_chunk(threads, ws, |team, tokens, context, mut hidden, qkv, room, angles| {
                block.finish(team, context, &mut hidden, next.map_or(Form::Floats, |next| next.form()), room)?;
                match (next, &self.weights.final_norm) {
                    (Some(next), _) => {
                        let around = self.around(i + 1, angles);
                        next.project(team, hidden.view(), around.of(tokens), room, qkv)
                    }
                    (None, Some(norm)) => {
                        room.sum.mat_mut().copy(hidden.view());
                        norm.forward(team, room.sum.mat(), hidden, &mut Narrow::default());
                        Ok(())
                    }
                    (None, None) => Ok(()),
                }
            })?;
            share.hidden_state(i + 1, part, ws);
        }
        Ok(())
    }

    /// The block of each layer.
    pub(crate) fn layers(&self) -> Vec<&Block> {
        self.blueprint.blocks().into_iter().map(|block| &self.weights.blocks[block]).collect()
    }

    /// What a layer's attention goes by, of what is not a matter of distances alone: with the angles of all tokens.
    pub(crate) fn around<'a>(&self, layer: usize, angles: &'a [Rows]) -> Around<'a> {
        let LayerSpec { window, rotary, .. } = self.blueprint.layer(layer);
        let angles = rotary.map(|r| (angles[r].mat(), self.weights.rotations[r].interleaved()));
        Around { angles, window, ..Around::default() }
    }

    /// What each block makes of the embeddings of distances, which depends on nothing but weights. The lock is never waited for.
    fn positions(&self, threads: &Threads) -> Result<Option<Arc<Vec<Rows>>>> {
        let Some(distances) = &self.weights.distances else { return Ok(None) };
        if let Some(made) = self.positions.try_lock().ok().and_then(|made| made.clone()) {
            return Ok(Some(made));
        }
        let (mut read, mut room) = (Rows::default(), Narrow::default());
        distances.forward(threads, &mut read)?;
        let project = |block: &Block| {
            let mut out = Rows::default();
            block.project_positions(threads, read.mat(), &mut room, &mut out).map(|()| out)
        };
        let made = Arc::new(self.weights.blocks.iter().map(project).collect::<Result<Vec<_>>>()?);
        if let Ok(mut place) = self.positions.try_lock() {
            *place = Some(made.clone());
        }
        Ok(Some(made))
    }

    /// The weights, to be changed: what was made of them is forgotten.
    pub(crate) fn weights_mut(&mut self) -> &mut Weights {
        *self.positions.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        &mut self.weights
    }

    /// `work(team, tokens, context, hidden, qkv, room, angles)` for chunks of a part's tokens, with their rows of the workspace: chunks
    /// side by side, each on one thread, where there are enough tokens; else one chunk on all threads.
    fn each_chunk(
        &self,
        threads: &Threads,
        ws: &mut Workspace,
        work: impl Fn(&Threads, Range<usize>, Mat, MatMut, MatMut, &mut Room, &[Rows]) -> Result<()> + Sync,
    ) -> Result<()> {
        let (context, rooms, angles) = (ws.context.mat(), &ws.rooms, &ws.angles);
        let chunks = chunks(context.rows(), threads.count());
        let failure = Mutex::new(None);
        let chunk = |team: &Threads, rank: usize, tokens: Range<usize>, [hidden, qkv]: [MatMut; 2]| {
            let mut room = lock(&rooms[rank]);
            let result = room
                .resize(&self.blueprint, tokens.len())
                .and_then(|()| work(team, tokens.clone(), context.rows_of(tokens), hidden, qkv, &mut room, angles));
            if let Err(error) = result {
                *lock(&failure) = Some(error);
            }
        };
        let mats = [ws.hidden.mat_mut(), ws.qkv.mat_mut()];
        if chunks == 1 {
            chunk(threads, 0, 0..context.rows(), mats);
        } else {
            threads.for_each_rows(chunks, mats, |rank, tokens, mats| chunk(&Threads::serial(), rank, tokens, mats));
        }
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// What the head says of each token or sequence, to `out`, padded; zeros where there is no token.
    fn judge(&self, threads: &Threads, part: &Part, ws: &mut Workspace, out: &mut [f32]) -> Result<()> {
        let Some(head) = &self.weights.head else { return Ok(()) };
        let Workspace { pooler, hidden, logits, head: room, .. } = ws;
        let x = if head.reads() == HeadInput::Pooled { pooler.pooled.mat() } else { hidden.mat() };
        logits.resize(x.rows(), head.outputs())?;
        head.forward(threads, self.weights.embeddings.tied(), x, room, logits.mat_mut())?;
        match head.reads() {
            HeadInput::Pooled => of_sequences(part, ws.logits.mat(), out),
            HeadInput::Tokens => unpad(part, ws.logits.mat(), out),
            HeadInput::Mean => means(part, ws.logits.mat(), out),
        }
        Ok(())
    }

    /// A workspace from the shelf. The lock is never waited for: a fork may have caught it held by a thread that the child
    /// does not have.
    fn room(&self) -> Workspace {
        self.workspaces.try_lock().ok().and_then(|mut shelf| shelf.pop()).unwrap_or_default()
    }

    /// Back to the shelf, which holds one room per thread of a call.
    fn keep(&self, ws: Workspace, threads: usize) {
        if let Ok(mut shelf) = self.workspaces.try_lock()
            && shelf.len() < threads
        {
            shelf.push(ws);
        }
    }

    /// The values of a slot, row-major, with its shape.
    pub fn tensor(&self, slot: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        self.weights.tensor(slot)
    }

    /// Reads every slot again, in place, from what a checkpoint holds under its name.
    pub fn refill(&mut self, checkpoint: &Checkpoint, tensor_names: &HashMap<String, String>) -> Result<()> {
        self.check_trainable()?;
        let slots = Weights::slots(&self.blueprint);
        let tensor = |slot: &Slot| {
            let missing = || ModelError::Input(format!("tensor_names has no name for the slot {:?}", slot.name));
            checkpoint.tensor(tensor_names.get(&slot.name).ok_or_else(missing)?)
        };
        slots.iter().try_for_each(|slot| tensor(slot)?.expect(&slot.shape))?;
        for slot in &slots {
            let mut values = memory::zeroed("a tensor", slot.shape.iter().product())?;
            tensor(slot)?.read(0, &mut values)?;
            self.weights_mut().slot_mut(&slot.name)?.set(&values);
        }
        Ok(())
    }

    /// Writes a slot, row-major.
    pub fn set(&mut self, slot: &str, values: &[f32]) -> Result<()> {
        self.check_trainable()?;
        self.weights_mut().slot_mut(slot)?.set(values);
        Ok(())
    }

    /// Writes every slot under its name in `tensor_names`: in float32, or in bfloat16 where it is held so.
    /// What int8 has rounded no such file can say.
    pub fn save(&self, path: &Path, tensor_names: &HashMap<String, String>) -> Result<()> {
        if self.precision == Precision::Int8 {
            return Err(ModelError::Input("weights in int8 cannot be written as a plain checkpoint".to_owned()));
        }
        export::save(&self.weights.exports().collect::<Vec<_>>(), path, tensor_names)
    }

    /// Writes the weights as they lie in memory, for [`map`](Self::map).
    pub fn save_packed(&self, path: &Path) -> Result<()> {
        packed_file::write(path, &self.blueprint, self.level, self.precision, &self.weights.pieces())
    }
}

/// Where a part's intermediate results go, if they are wanted.
trait Shares {
    fn hidden_state(&mut self, _layer: usize, _part: &Part, _ws: &Workspace) {}
    fn attention(&mut self, _layer: usize) -> Option<&mut [f32]> {
        None
    }
}

impl Shares for PartOutputs<'_> {
    fn hidden_state(&mut self, layer: usize, part: &Part, ws: &Workspace) {
        if let Some(out) = self.hidden_states.get_mut(layer) {
            unpad(part, ws.hidden.mat(), out);
        }
    }
    fn attention(&mut self, layer: usize) -> Option<&mut [f32]> {
        self.attentions.get_mut(layer).map(|out| &mut **out)
    }
}

/// Sentence vectors need the last hidden states alone.
impl Shares for (Range<usize>, &mut [f32]) {}

/// Into how many chunks to cut a part's tokens.
///
/// A chunk reads all weights, from the last-level cache: fewer rows would make that the limit, more would not leave room for
/// their activations in the second-level cache.
fn chunks(tokens: usize, threads: usize) -> usize {
    const LEAST: usize = 32;
    const MOST: usize = 64;
    if threads > 1 && tokens < threads * LEAST {
        return 1;
    }
    tokens.div_ceil(MOST).next_multiple_of(threads).min((tokens / LEAST).max(1)).max(1)
}

/// A panic elsewhere leaves nothing half-done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
