//! The model that a blueprint describes: its weights, what calls keep for each other, and what can be asked of it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ferroformer_kernels::{Arena, Level, Narrow, Precision, Threads};

use crate::batch::Batch;
use crate::block::Block;
use crate::blueprint::Blueprint;
use crate::cache::Cache;
use crate::cancel::Cancel;
use crate::checkpoint::Checkpoint;
use crate::error::{ModelError, Result};
use crate::export;
use crate::loader::{From, Loader, Slot, Source};
use crate::memory;
use crate::outputs::{Outputs, Want};
use crate::packed_file::{self, PackedFile};
use crate::pooling::Pooling;
use crate::recall::{Beside, Recall, SourceStates};
use crate::stack::Stack;
use crate::training::Tape;
use crate::weights::Weights;
use crate::workspace::{Rows, Workspace};

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
        let from = &From::Source(source, Arena::expecting(expected));
        Self::build(blueprint, &Loader { level, precision, threads, from, prefix: "" })
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
        let from = &From::Packed(&file);
        let loader = Loader { level, precision: file.precision(), threads, from, prefix: "" };
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
        self.stack().forward(threads, batch, want, Beside::default(), cancel)
    }

    /// The batch behind what the cache holds, which it is added to. With an error the cache is as before.
    pub fn forward_cached(
        &self,
        threads: usize,
        batch: &Batch,
        want: Want,
        cache: &mut Cache,
        source: Option<&SourceStates>,
        cancel: &Cancel,
    ) -> Result<Outputs> {
        cache.check(&self.blueprint, batch)?;
        if want.attentions && cache.lengths().iter().any(|length| *length > 0) {
            return Err(ModelError::Input("output_attentions is not supported with past_key_values".to_owned()));
        }
        let before: Vec<_> = cache.lengths().into_iter().map(|length| length as i64).collect();
        let fresh = before.iter().all(|length| *length == 0);
        cache.append(batch)?;
        let remember = |cache: &mut Cache| {
            if let Some(source) = source {
                self.stack().remember_source(threads, cache, source)?;
            }
            // what of a source is remembered gives no probabilities
            let read = source.filter(|_| want.attentions);
            let beside = Beside { recall: Some(Recall { cache, fresh }), source: read, ..Beside::default() };
            self.stack().forward(threads, batch, want, beside, cancel)
        };
        let outputs = remember(cache);
        if outputs.is_err() {
            cache.roll_back(&before)?;
        }
        outputs
    }

    /// The batch, and with each sequence a source for it to attend to.
    pub fn forward_with_source(
        &self,
        threads: usize,
        batch: &Batch,
        want: Want,
        source: &SourceStates,
        cancel: &Cancel,
    ) -> Result<Outputs> {
        self.stack().forward(threads, batch, want, Beside { source: Some(source), ..Beside::default() }, cancel)
    }

    /// Sentences to vectors, (S, modes x H).
    pub fn embed(&self, threads: usize, batch: &Batch, pooling: &SentencePooling, cancel: &Cancel) -> Result<Vec<f32>> {
        self.stack().embed(threads, batch, pooling, cancel)
    }

    /// A padded batch through the model that this one attends to, to padded last hidden states (B, W, its size).
    pub fn forward_source(&self, threads: usize, batch: &Batch, want: Want, cancel: &Cancel) -> Result<Outputs> {
        let stack =
            self.source_stack().ok_or_else(|| ModelError::Input("the model attends to no source".to_owned()))?;
        stack.forward(threads, batch, want, Beside::default(), cancel)
    }

    pub(crate) fn stack(&self) -> Stack<'_> {
        let Self { blueprint, weights, level, .. } = self;
        Stack { encoder: self, blueprint, weights, level: *level, shared: None }
    }

    /// The model inside that this one attends to.
    pub(crate) fn source_stack(&self) -> Option<Stack<'_>> {
        let (blueprint, weights) = (self.blueprint.source.as_deref()?, self.weights.source.as_deref()?);
        Some(Stack { blueprint, weights, shared: Some(&self.weights.embeddings), ..self.stack() })
    }

    /// What each block makes of the embeddings of distances, which depends on nothing but weights. The lock is never waited for.
    pub(crate) fn positions(&self, threads: &Threads) -> Result<Option<Arc<Vec<Rows>>>> {
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

    /// A workspace from the shelf. The lock is never waited for: a fork may have caught it held by a thread that the child
    /// does not have.
    pub(crate) fn room(&self) -> Workspace {
        self.workspaces.try_lock().ok().and_then(|mut shelf| shelf.pop()).unwrap_or_default()
    }

    /// Back to the shelf, which holds one room per thread of a call.
    pub(crate) fn keep(&self, ws: Workspace, threads: usize) {
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
        let slots = self.named_slots(tensor_names);
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

    /// The slots, without those that are computed and have no name in files.
    fn named_slots(&self, tensor_names: &HashMap<String, String>) -> Vec<Slot> {
        let named = |slot: &Slot| tensor_names.contains_key(&slot.name) || !slot.is_computed();
        Weights::slots(&self.blueprint).into_iter().filter(named).collect()
    }

    /// Writes every slot under its name in `tensor_names`: in float32, or in bfloat16 where it is held so. Those that are computed may
    /// have none.
    /// What int8 has rounded no such file can say.
    pub fn save(&self, path: &Path, tensor_names: &HashMap<String, String>) -> Result<()> {
        if self.precision == Precision::Int8 {
            return Err(ModelError::Input("weights in int8 cannot be written as a plain checkpoint".to_owned()));
        }
        let named: HashSet<String> = self.named_slots(tensor_names).into_iter().map(|slot| slot.name).collect();
        let exports = self.weights.exports().into_iter().filter(|export| named.contains(&export.slot));
        export::save(&exports.collect::<Vec<_>>(), path, tensor_names)
    }

    /// Writes the weights as they lie in memory, for [`map`](Self::map).
    pub fn save_packed(&self, path: &Path) -> Result<()> {
        packed_file::write(path, &self.blueprint, self.level, self.precision, &self.weights.pieces())
    }
}
