//! From slots to weights in their final layout.
//!
//! A slot is a place for one tensor, named in the blueprint's words. Tensors are read in pieces of a few hundred
//! kilobytes, converted and packed, on all threads, so that no second copy of the weights ever exists. Weights that were packed
//! before are taken as they lie in their file.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use ferroformer_kernels::{Arena, Element, Level, PackedLinear, Precision, Stored, Table, Threads};

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::init::{Generator, Init};
use crate::memory;
use crate::order::Order;
use crate::packed_file::PackedFile;

/// A place for one tensor.
#[derive(Clone, Debug)]
pub struct Slot {
    pub name: String,
    /// As a checkpoint has it.
    pub shape: Vec<usize>,
    /// How the model reads a checkpoint's tensor.
    pub(crate) order: Order,
    pub(crate) init: Init,
    /// Whether training changes it.
    pub(crate) trained: bool,
}

impl Slot {
    pub(crate) fn new(name: String, shape: &[usize], init: Init) -> Self {
        Slot { name, shape: shape.to_vec(), order: Order::default(), init, trained: true }
    }

    /// Whether files can do without it: it is what it always is.
    pub(crate) fn is_computed(&self) -> bool {
        !self.trained && matches!(self.init, Init::Sines(_))
    }
}

/// A slot, and which of a linear layer's outputs its values belong to.
pub(crate) type Share = (Slot, Range<usize>);

/// Where the values of the slots come from.
pub struct Source<'a> {
    pub checkpoint: Option<&'a Checkpoint>,
    /// Slot to name in the checkpoint; a slot that is not here gets initial values.
    pub tensor_names: &'a HashMap<String, String>,
    /// The standard deviation of initial weights.
    pub initializer_range: f32,
    /// The same of slots that have their own.
    pub spreads: &'a HashMap<String, f32>,
    pub seed: u64,
}

#[derive(Clone, Copy)]
pub(crate) struct Loader<'a> {
    pub(crate) level: Level,
    /// Of tables and linear layers.
    pub(crate) precision: Precision,
    pub(crate) threads: &'a Threads,
    pub(crate) from: &'a From<'a>,
    /// Before the names of slots and pieces: whose they are, of a model and the one inside.
    pub(crate) prefix: &'static str,
}

/// Weights to be packed, or packed ones.
pub(crate) enum From<'a> {
    /// With the room where they go.
    Source(&'a Source<'a>, Arena),
    Packed(&'a PackedFile),
    /// Zeros, and nothing at all for pieces whose slots are all named.
    Zeros(Arena, &'a HashSet<String>),
}

impl Loader<'_> {
    /// Checks every slot against the checkpoint's headers before anything is allocated.
    pub(crate) fn check(source: &Source, slots: &[Slot]) -> Result<()> {
        for slot in slots {
            if let (Some(checkpoint), Some(name)) = (source.checkpoint, source.tensor_names.get(&slot.name)) {
                checkpoint.tensor(name)?.expect(&slot.shape)?;
            }
        }
        Ok(())
    }

    /// A vector as it is.
    pub(crate) fn vector(&self, slot: &Slot) -> Result<Stored> {
        let slot = &self.named(slot);
        if self.leaves_out(&[slot]) {
            return Ok(Stored::default());
        }
        let mut vector = self.place(&slot.name, slot.shape.iter().product())?;
        if let From::Source(source, _) = self.from {
            fill(source, slot, 0, vector.own_mut())?;
        }
        Ok(vector)
    }

    /// (rows, H), one row for each id.
    pub(crate) fn table(&self, slot: &Slot) -> Result<Table> {
        let slot = &self.named(slot);
        let (rows, cols) = if self.leaves_out(&[slot]) { (0, 0) } else { (slot.shape[0], slot.shape[1]) };
        let [words, scales] = Table::lens(self.precision, rows, cols);
        let (words, scales) = (self.place(&slot.name, words)?, self.place(&scales_of(&slot.name), scales)?);
        let mut table = Table::of(self.precision, [rows, cols], words, scales);
        if let From::Source(source, _) = self.from {
            table.fill(self.level, self.threads, |first, rows| fill(source, slot, first * cols, rows))?;
        }
        Ok(table)
    }

    /// Layers with the same inputs side by side in one, under one name: weights (N, K) of all outputs, biases (N,) of some; of a
    /// single layer those from output `first` on.
    pub(crate) fn linear(
        &self,
        name: &str,
        inputs: usize,
        weights: &[Share],
        biases: &[Share],
        first: usize,
    ) -> Result<PackedLinear> {
        let (level, precision) = (self.level, self.precision);
        let named = |shares: &[Share]| -> Vec<Share> {
            shares.iter().map(|(slot, outputs)| (self.named(slot), outputs.clone())).collect()
        };
        let (name, weights, biases) = (&format!("{}{name}", self.prefix), &named(weights), &named(biases));
        if self.leaves_out(&weights.iter().chain(biases).map(|(slot, _)| slot).collect::<Vec<_>>()) {
            return Ok(PackedLinear::of(level, precision, [0, 0], Stored::default()));
        }
        let outputs = weights.iter().map(|(_, outputs)| outputs.len()).sum();
        let words = self.place(name, PackedLinear::len(level, precision, inputs, outputs))?;
        let mut packed = PackedLinear::of(level, precision, [inputs, outputs], words);
        let From::Source(source, _) = self.from else { return Ok(packed) };
        for (slot, outputs) in weights {
            let whole = whole(source, slot)?;
            packed.fill(self.threads, outputs.clone(), |n, rows| {
                let n = (first + n) * inputs;
                match &whole {
                    Some(laid) => {
                        slot.order.read_from(laid, n, rows);
                        Ok(())
                    }
                    None => fill(source, slot, n, rows),
                }
            })?;
        }
        for (slot, outputs) in biases {
            let mut values = memory::zeroed("the model", outputs.len())?;
            fill(source, slot, first, &mut values)?;
            packed.set_bias(outputs.start, &values);
        }
        Ok(packed)
    }

    /// A slot by its whole name.
    fn named(&self, slot: &Slot) -> Slot {
        Slot { name: format!("{}{}", self.prefix, slot.name), ..slot.clone() }
    }

    fn leaves_out(&self, slots: &[&Slot]) -> bool {
        matches!(self.from, From::Zeros(_, out) if slots.iter().all(|slot| out.contains(&slot.name)))
    }

    /// Where weights lie ready, or where they are to be written.
    fn place<T: Element>(&self, name: &str, len: usize) -> Result<Stored<T>> {
        match self.from {
            _ if len == 0 => Ok(Stored::default()),
            From::Packed(file) => file.take(name, len),
            From::Source(_, arena) | From::Zeros(arena, _) => {
                arena.zeroed(len).map(Stored::own).map_err(|_| memory::refused("the model", len))
            }
        }
    }
}

/// The name of a table's scales beside its own.
pub(crate) fn scales_of(table: &str) -> String {
    format!("{table}.scales")
}

/// All of a checkpoint's tensor as it lies, where reading it in pieces would mean to read it element by element.
fn whole(source: &Source, slot: &Slot) -> Result<Option<Vec<f32>>> {
    match (source.checkpoint, source.tensor_names.get(&slot.name)) {
        (Some(checkpoint), Some(name)) if slot.order.is_scattered() => checkpoint.tensor(name)?.values().map(Some),
        _ => Ok(None),
    }
}

/// Elements `first..` of a slot as the model reads it, from the checkpoint or as initial values.
fn fill(source: &Source, slot: &Slot, first: usize, out: &mut [f32]) -> Result<()> {
    if let (Some(checkpoint), Some(name)) = (source.checkpoint, source.tensor_names.get(&slot.name)) {
        return checkpoint.tensor(name)?.read_as(&slot.order, first, out);
    }
    match &slot.init {
        Init::Zeros => out.fill(0.0),
        Init::Ones => out.fill(1.0),
        Init::Sines(sines) => sines.fill(first, out),
        Init::Normal => {
            let spread = source.spreads.get(&slot.name).copied().unwrap_or(source.initializer_range);
            Generator::new(source.seed, &slot.name).normal(first, spread, out);
        }
    }
    Ok(())
}
