//! A stack of blocks over embeddings: the model that a blueprint describes.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ferroformer_kernels::{Level, Threads};

use crate::batch::{Batch, Part};
use crate::block::Block;
use crate::blueprint::Blueprint;
use crate::cancel::Cancel;
use crate::error::{ModelError, Result};
use crate::export::{self, Export};
use crate::ingredients::{Embeddings, Pooler};
use crate::loader::{Loader, Slot, Source};
use crate::memory;
use crate::outputs::{Outputs, PartOutputs, Want, cut, unpad};
use crate::pooling::{Pooling, normalize};
use crate::workspace::Workspace;

pub struct Encoder {
    blueprint: Blueprint,
    level: Level,
    embeddings: Embeddings,
    blocks: Vec<Block>,
    pooler: Option<Pooler>,
    /// Rooms that no call is working in.
    workspaces: Mutex<Vec<Workspace>>,
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
        let mut slots = Embeddings::slots(blueprint);
        slots.extend((0..blueprint.num_layers).flat_map(|i| Block::slots(blueprint, &format!("layers.{i}"))));
        slots.extend(blueprint.pooler.iter().flat_map(|_| Pooler::slots(blueprint)));
        Ok(slots)
    }

    /// Checks all shapes against the checkpoint and the size against the memory that is left, then loads and packs.
    pub fn load(blueprint: Blueprint, level: Level, source: &Source) -> Result<Self> {
        Loader::check(source, &Self::slots(&blueprint)?)?;
        let loader = &mut Loader::new(level, source);
        let block = |i| Block::load(loader, &blueprint, &format!("layers.{i}"));
        let blocks = (0..blueprint.num_layers).map(block).collect::<Result<_>>()?;
        Ok(Self {
            embeddings: Embeddings::load(loader, &blueprint)?,
            blocks,
            pooler: blueprint.pooler.map(|spec| Pooler::load(loader, &blueprint, spec)).transpose()?,
            level,
            blueprint,
            workspaces: Mutex::default(),
        })
    }

    pub fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }

    /// Bytes held by the weights.
    pub fn bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(Block::bytes).sum();
        self.embeddings.bytes() + blocks + self.pooler.as_ref().map_or(0, Pooler::bytes)
    }

    /// A padded batch to padded outputs.
    pub fn forward(&self, threads: usize, batch: &Batch, want: Want, cancel: &Cancel) -> Result<Outputs> {
        let mut outputs = Outputs::new(batch, &self.blueprint, want)?;
        let parts = batch.parts(threads);
        let shares = outputs.split(&parts, batch.sequences());
        self.run(threads, batch, &parts, shares, cancel, |threads, part, ws, mut out| {
            if let Some(pooled) = out.pooled.take() {
                self.pool_first(threads, part, ws, pooled);
            }
            unpad(part, ws.hidden.mat(), out.last_hidden_state);
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
        finish: impl Fn(&Threads, &Part, &mut Workspace, T) + Sync,
    ) -> Result<()> {
        let shares: Vec<_> = shares.into_iter().map(|share| Mutex::new(Some(share))).collect();
        let failure = Mutex::new(None);
        let run_part = |team: &Threads, rank, i: usize| {
            let part = batch.part(parts[i].clone());
            let Some(mut share) = lock(&shares[i]).take() else { return };
            let mut ws = self.room();
            match self.run_part(team, &part, &mut ws, &mut share, &|| cancel.check(rank)) {
                Ok(()) => finish(team, &part, &mut ws, share),
                Err(error) => *lock(&failure) = Some(error),
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
    fn run_part(
        &self,
        threads: &Threads,
        part: &Part,
        ws: &mut Workspace,
        share: &mut impl Shares,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        check()?;
        ws.resize(self.level, threads, &self.blueprint, [part.sequences(), part.tokens(), part.longest()])?;
        self.embeddings.forward(threads, part, &mut ws.sum, &mut ws.hidden);
        share.hidden_state(0, part, ws);
        for (i, block) in self.blocks.iter().enumerate() {
            check()?;
            block.forward(threads, part, ws, share.attention(i));
            share.hidden_state(i + 1, part, ws);
        }
        Ok(())
    }

    /// The first token of each sequence through the pooler, to `out` (S, H); zeros for an empty sequence.
    fn pool_first(&self, threads: &Threads, part: &Part, ws: &mut Workspace, out: &mut [f32]) {
        let Some(pooler) = &self.pooler else { return };
        for (s, range) in part.ranges().enumerate() {
            if !range.is_empty() {
                ws.first.mat_mut().row_mut(s).copy_from_slice(ws.hidden.mat().row(range.start));
            }
        }
        pooler.forward(threads, ws.first.mat(), ws.pooled.mat_mut());
        for ((s, range), out) in part.ranges().enumerate().zip(out.chunks_exact_mut(self.blueprint.hidden_size)) {
            if !range.is_empty() {
                out.copy_from_slice(ws.pooled.mat().row(s));
            }
        }
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
        let export = self.exports().find(|export| export.slot == slot);
        let export = export.ok_or_else(|| ModelError::Input(format!("the model has no slot {slot:?}")))?;
        Ok((export.shape, export.values.to_vec()))
    }

    /// Writes every slot as float32 under its name in `tensor_names`.
    pub fn save(&self, path: &Path, tensor_names: &HashMap<String, String>) -> Result<()> {
        export::save(&self.exports().collect::<Vec<_>>(), path, tensor_names)
    }

    fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let blocks = self.blocks.iter().flat_map(Block::exports);
        let pooler = self.pooler.iter().flat_map(Pooler::exports);
        self.embeddings.exports().chain(blocks).chain(pooler)
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

/// A panic elsewhere leaves nothing half-done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
