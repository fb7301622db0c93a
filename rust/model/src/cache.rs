//! What a model remembers of the tokens that it has seen: each layer's keys and values of them, in slots. A sequence is a list of slots,
//! so sequences that were one up to some token share what they were, and to go on with others is to copy lists.

use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ferroformer_kernels::{CachedQuery, KeyValues, Mat, Precision};

use crate::batch::{Batch, Part};
use crate::blueprint::Blueprint;
use crate::error::{ModelError, Result};
use crate::memory;

pub struct Cache {
    /// One for each layer.
    layers: Vec<RwLock<KeyValues>>,
    /// Likewise, of the tokens of sources; none where the model has no such.
    source_layers: Vec<RwLock<KeyValues>>,
    sequences: Vec<Sequence>,
    /// How many lists hold each slot, and those that none holds.
    holders: Vec<u32>,
    free: Vec<u32>,
    /// 0, 1, 2, ...: the slots of all sources, end to end.
    sources: Vec<u32>,
    shapes: String,
}

#[derive(Clone, Default)]
struct Sequence {
    slots: Vec<u32>,
    /// The position of its next token.
    next: u32,
    /// Which of the sources' slots are its own.
    source: Range<usize>,
}

impl Cache {
    /// Of no sequence yet. Keys and values are held in f32 where the weights are, else in bf16.
    pub fn new(blueprint: &Blueprint, precision: Precision) -> Self {
        let precision = if precision == Precision::Float32 { precision } else { Precision::BFloat16 };
        let attention = &blueprint.attention;
        let layer = |_| RwLock::new(KeyValues::new(attention.key_heads(), attention.head_dim, precision));
        let sources = if blueprint.source.is_some() { blueprint.num_layers } else { 0 };
        Cache {
            layers: (0..blueprint.num_layers).map(layer).collect(),
            source_layers: (0..sources).map(layer).collect(),
            sequences: vec![],
            holders: vec![],
            free: vec![],
            sources: vec![],
            shapes: blueprint.shapes(),
        }
    }

    /// The tokens of each sequence.
    pub fn lengths(&self) -> Vec<usize> {
        self.sequences.iter().map(|sequence| sequence.slots.len()).collect()
    }

    /// The position that the next token of each sequence has; none where there is no sequence yet.
    pub fn next_positions(&self) -> Option<Vec<u32>> {
        (!self.sequences.is_empty()).then(|| self.sequences.iter().map(|sequence| sequence.next).collect())
    }

    /// Bytes held, for all slots that there is room for.
    pub fn bytes(&self) -> usize {
        self.layers.iter().chain(&self.source_layers).map(|layer| read(layer).bytes()).sum()
    }

    /// Whether it holds what sequences attend to in their sources.
    pub fn has_sources(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Sequence i is from now on a continuation of what was sequence `indices[i]`.
    pub fn reorder(&mut self, indices: &[i64]) -> Result<()> {
        let count = self.sequences.len();
        let chosen = |(i, index): (usize, &i64)| {
            let found = usize::try_from(*index).ok().and_then(|index| self.sequences.get(index).cloned());
            found.ok_or_else(|| ModelError::Input(format!("indices[{i}] is {index}; there are {count} sequences")))
        };
        let sequences: Vec<_> = indices.iter().enumerate().map(chosen).collect::<Result<_>>()?;
        sequences.iter().flat_map(|sequence| &sequence.slots).for_each(|slot| self.holders[*slot as usize] += 1);
        for sequence in std::mem::replace(&mut self.sequences, sequences) {
            self.release(sequence.slots);
        }
        Ok(())
    }

    /// Each sequence forgets all but its first tokens, as many as `lengths` says.
    pub fn crop(&mut self, lengths: &[i64]) -> Result<()> {
        if lengths.len() != self.sequences.len() {
            let (given, count) = (lengths.len(), self.sequences.len());
            return Err(ModelError::Input(format!("{given} lengths for {count} sequences")));
        }
        for (i, (length, sequence)) in lengths.iter().zip(&self.sequences).enumerate() {
            if !(0..=sequence.slots.len() as i64).contains(length) {
                let held = sequence.slots.len();
                return Err(ModelError::Input(format!("lengths[{i}] is {length}; the sequence has {held} tokens")));
            }
        }
        for (i, length) in lengths.iter().enumerate() {
            let sequence = &mut self.sequences[i];
            let forgotten = sequence.slots.split_off(*length as usize);
            sequence.next -= forgotten.len() as u32;
            self.release(forgotten);
        }
        Ok(())
    }

    /// As it was when sequences had these lengths, of which there may have been none.
    pub(crate) fn roll_back(&mut self, lengths: &[i64]) -> Result<()> {
        if !lengths.is_empty() {
            return self.crop(lengths);
        }
        self.reorder(&[])
    }

    fn release(&mut self, slots: Vec<u32>) {
        for slot in slots {
            self.holders[slot as usize] -= 1;
            if self.holders[slot as usize] == 0 {
                self.free.push(slot);
            }
        }
    }

    /// Room for the tokens of a batch behind its sequences; the first batch says how many these are. An error changes nothing.
    pub(crate) fn append(&mut self, batch: &Batch) -> Result<()> {
        if self.sequences.is_empty() {
            self.sequences.resize_with(batch.sequences(), Sequence::default);
        }
        let needed = batch.tokens().saturating_sub(self.free.len());
        let slots = self.holders.len() + needed;
        reserve(&self.layers, slots)?;
        self.holders.resize(slots, 0);
        self.free.extend((slots - needed..slots).rev().map(|slot| slot as u32));
        for (s, sequence) in self.sequences.iter_mut().enumerate() {
            let part = batch.part(s..s + 1);
            for _ in 0..part.tokens() {
                let slot = self.free.pop().expect("as many as there are tokens");
                self.holders[slot as usize] = 1;
                sequence.slots.push(slot);
            }
            sequence.next = batch.next_position(s).unwrap_or(sequence.next);
        }
        Ok(())
    }

    /// An error unless a batch of this model continues its sequences.
    pub(crate) fn check(&self, blueprint: &Blueprint, batch: &Batch) -> Result<()> {
        let (held, given) = (self.sequences.len(), batch.sequences());
        if self.shapes != blueprint.shapes() {
            return Err(ModelError::Input("past_key_values are those of another model".to_owned()));
        }
        if held > 0 && held != given {
            return Err(ModelError::Input(format!("past_key_values have {held} sequences, the batch has {given}")));
        }
        Ok(())
    }

    /// Room for all tokens of the sources of the sequences, in their order.
    pub(crate) fn take_sources(&mut self, starts: &[usize]) -> Result<()> {
        let count = starts.last().map_or(0, |last| last - starts[0]);
        reserve(&self.source_layers, count)?;
        self.sources = (0..count as u32).collect();
        for (sequence, pair) in self.sequences.iter_mut().zip(starts.windows(2)) {
            sequence.source = pair[0] - starts[0]..pair[1] - starts[0];
        }
        Ok(())
    }

    pub(crate) fn layer(&self, i: usize, stage: usize) -> RwLockReadGuard<'_, KeyValues> {
        read(if stage == 0 { &self.layers[i] } else { &self.source_layers[i] })
    }

    pub(crate) fn write(&self, level: ferroformer_kernels::Level, at: [usize; 2], slots: &[u32], rows: [Mat; 2]) {
        let [layer, stage] = at;
        let layer = if stage == 0 { &self.layers[layer] } else { &self.source_layers[layer] };
        write(layer).write(level, slots, rows[0], rows[1]);
    }

    /// The slots of a part's own tokens, which are the last of its sequences.
    pub(crate) fn own_slots(&self, sequences: Range<usize>, part: &Part) -> Vec<u32> {
        let own =
            |(sequence, rows): (&Sequence, Range<usize>)| sequence.slots[sequence.slots.len() - rows.len()..].to_vec();
        self.sequences[sequences].iter().zip(part.ranges()).flat_map(own).collect()
    }

    /// The slots of the sources of some sequences.
    pub(crate) fn source_slots(&self, sequences: Range<usize>) -> Vec<u32> {
        let own = |sequence: &Sequence| self.sources[sequence.source.clone()].to_vec();
        self.sequences[sequences].iter().flat_map(own).collect()
    }

    /// What each of a part's tokens attends to, as far as `window` behind itself.
    pub(crate) fn queries(&self, sequences: Range<usize>, part: &Part, window: Option<usize>) -> Vec<CachedQuery<'_>> {
        let mut queries = vec![];
        for (sequence, rows) in self.sequences[sequences].iter().zip(part.ranges()) {
            let count = sequence.slots.len();
            queries.extend((count - rows.len()..count).map(|place| {
                let first = place.saturating_sub(window.unwrap_or(usize::MAX));
                CachedQuery { slots: &sequence.slots[first..=place], position: place - first }
            }));
        }
        queries
    }

    /// What each attends to in its source.
    pub(crate) fn source_queries(&self, sequences: Range<usize>, part: &Part) -> Vec<CachedQuery<'_>> {
        let mut queries = vec![];
        for (sequence, rows) in self.sequences[sequences].iter().zip(part.ranges()) {
            let slots = &self.sources[sequence.source.clone()];
            queries.extend(rows.map(|_| CachedQuery { slots, position: 0 }));
        }
        queries
    }

    /// The longest lists of slots of some sequences, and of their sources.
    pub(crate) fn longest(&self, sequences: Range<usize>) -> [usize; 2] {
        let sequences = &self.sequences[sequences];
        let longest = |length: fn(&Sequence) -> usize| sequences.iter().map(length).max().unwrap_or(0);
        [longest(|sequence| sequence.slots.len()), longest(|sequence| sequence.source.len())]
    }
}

fn reserve(layers: &[RwLock<KeyValues>], slots: usize) -> Result<()> {
    for layer in layers {
        let mut layer = write(layer);
        layer
            .reserve(slots)
            .map_err(|_| memory::refused("past_key_values", slots * layer.key_heads() * layer.head_dim()))?;
    }
    Ok(())
}

/// A panic elsewhere leaves nothing half-done behind these locks.
fn read(layer: &RwLock<KeyValues>) -> RwLockReadGuard<'_, KeyValues> {
    layer.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(layer: &RwLock<KeyValues>) -> RwLockWriteGuard<'_, KeyValues> {
    layer.write().unwrap_or_else(PoisonError::into_inner)
}
