//! From slots to weights in their final layout.
//!
//! A slot is a place for one tensor, named in the blueprint's words. Tensors are read in pieces of a few hundred
//! kilobytes, converted and packed, so that no second copy of the weights ever exists.

use std::collections::HashMap;

use ferroformer_kernels::{Buffer, Level, PackedLinear, Precision, Table};

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::init::{Generator, Init};
use crate::memory;

/// A place for one tensor.
#[derive(Clone, Debug)]
pub struct Slot {
    pub name: String,
    pub shape: Vec<usize>,
    pub(crate) init: Init,
}

impl Slot {
    pub(crate) fn new(name: String, shape: &[usize], init: Init) -> Self {
        Slot { name, shape: shape.to_vec(), init }
    }
}

/// Where the values of the slots come from.
pub struct Source<'a> {
    pub checkpoint: Option<&'a Checkpoint>,
    /// Slot to name in the checkpoint; a slot that is not here gets initial values.
    pub tensor_names: &'a HashMap<String, String>,
    /// The standard deviation of initial weights.
    pub initializer_range: f32,
    pub seed: u64,
}

pub(crate) struct Loader<'a> {
    pub(crate) level: Level,
    /// Of tables and linear layers.
    precision: Precision,
    source: &'a Source<'a>,
    piece: Buffer,
    bytes: Vec<u8>,
}

/// Floats read at a time.
const PIECE: usize = 1 << 16;

impl<'a> Loader<'a> {
    pub(crate) fn new(level: Level, precision: Precision, source: &'a Source<'a>) -> Self {
        Loader { level, precision, source, piece: Buffer::default(), bytes: Vec::new() }
    }

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
    pub(crate) fn vector(&mut self, slot: &Slot) -> Result<Buffer> {
        let mut vector = memory::zeroed("the model", slot.shape.iter().product())?;
        for (i, piece) in vector.chunks_mut(PIECE).enumerate() {
            fill(self.source, slot, i * PIECE, piece, &mut self.bytes)?;
        }
        Ok(vector)
    }

    /// (rows, H), one row for each id.
    pub(crate) fn table(&mut self, slot: &Slot) -> Result<Table> {
        let (level, rows, cols) = (self.level, slot.shape[0], slot.shape[1]);
        let mut table = Table::zeroed(self.precision, rows, cols)
            .map_err(|_| memory::refused("the model", rows.saturating_mul(cols)))?;
        self.pieces(slot, cols, |first, rows| table.set_rows(level, first, rows))?;
        Ok(table)
    }

    /// Layers with the same inputs side by side in one: (weight (N, K), bias (N,)) each.
    pub(crate) fn linear(&mut self, parts: &[[Slot; 2]]) -> Result<PackedLinear> {
        let inputs = parts[0][0].shape[1];
        let outputs = parts.iter().map(|[weight, _]| weight.shape[0]).sum();
        let mut packed = PackedLinear::zeroed(self.level, self.precision, inputs, outputs)
            .map_err(|_| memory::refused("the model", inputs.saturating_mul(outputs)))?;
        let mut first = 0;
        for [weight, bias] in parts {
            self.pieces(weight, inputs, |n, rows| packed.set_weights(first + n, rows))?;
            self.pieces(bias, 1, |n, values| packed.set_bias(first + n, values))?;
            first += weight.shape[0];
        }
        Ok(packed)
    }

    /// Hands over whole rows of `width` elements, a piece at a time, with the number of the first row.
    fn pieces(&mut self, slot: &Slot, width: usize, mut take: impl FnMut(usize, &[f32])) -> Result<()> {
        // A multiple of every panel width: panels are then written whole.
        const ROWS: usize = 32;
        let rows = (PIECE / width / ROWS).max(1) * ROWS;
        for first in (0..slot.shape[0]).step_by(rows) {
            let count = rows.min(slot.shape[0] - first);
            self.piece.resize(count * width).map_err(|_| memory::refused("the model", count * width))?;
            fill(self.source, slot, first * width, &mut self.piece, &mut self.bytes)?;
            take(first, &self.piece);
        }
        Ok(())
    }
}

/// Elements `first..` of a slot, from the checkpoint or as initial values. `first` is even.
fn fill(source: &Source, slot: &Slot, first: usize, out: &mut [f32], bytes: &mut Vec<u8>) -> Result<()> {
    if let (Some(checkpoint), Some(name)) = (source.checkpoint, source.tensor_names.get(&slot.name)) {
        return checkpoint.tensor(name)?.read(first, out, bytes);
    }
    match slot.init {
        Init::Zeros => out.fill(0.0),
        Init::Ones => out.fill(1.0),
        Init::Normal => Generator::new(source.seed, &slot.name).normal(first, source.initializer_range, out),
    }
    Ok(())
}
