//! All that a checkpoint fills. What lies alike - gradients, the state of an optimiser - is of the same type.

use std::ops::Range;

use crate::block::Block;
use crate::blueprint::Blueprint;
use crate::error::{ModelError, Result};
use crate::export::{Export, ValuesMut};
use crate::ingredients::{Embeddings, Head, Pooler};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;

pub(crate) struct Weights {
    pub(crate) embeddings: Embeddings,
    pub(crate) blocks: Vec<Block>,
    pub(crate) pooler: Option<Pooler>,
    pub(crate) head: Option<Head>,
}

/// Where the values of a slot lie in one of the pieces.
pub(crate) struct Place {
    pub(crate) slot: String,
    pub(crate) ranges: Vec<Range<usize>>,
}

impl Place {
    /// A slot that has a piece of so many floats for itself.
    pub(crate) fn alone(slot: String, floats: usize) -> Self {
        Place { slot, ranges: std::iter::once(0..floats).collect() }
    }
}

impl Weights {
    /// Every slot with its shape, in the order of a checkpoint.
    pub(crate) fn slots(blueprint: &Blueprint) -> Vec<Slot> {
        let mut slots = Embeddings::slots(blueprint);
        slots.extend((0..blueprint.num_layers).flat_map(|i| Block::slots(blueprint, &format!("layers.{i}"))));
        slots.extend(blueprint.pooler.iter().flat_map(|_| Pooler::slots(blueprint)));
        slots.extend(blueprint.head.iter().flat_map(|spec| Head::slots(blueprint, *spec)));
        slots
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint) -> Result<Self> {
        let block = |i| Block::load(loader, blueprint, &format!("layers.{i}"));
        let blocks = (0..blueprint.num_layers).map(block).collect::<Result<_>>()?;
        Ok(Self {
            embeddings: Embeddings::load(loader, blueprint)?,
            blocks,
            pooler: blueprint.pooler.map(|spec| Pooler::load(loader, blueprint, spec)).transpose()?,
            head: blueprint.head.map(|spec| Head::load(loader, blueprint, spec)).transpose()?,
        })
    }

    /// The weights as they lie in memory.
    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = self.embeddings.pieces();
        pieces.extend(self.blocks.iter().flat_map(Block::pieces));
        pieces.extend(self.pooler.iter().flat_map(Pooler::pieces));
        pieces.extend(self.head.iter().flat_map(Head::pieces));
        pieces
    }

    /// The same in f32, to be changed.
    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let mut floats = self.embeddings.floats_mut();
        floats.extend(self.blocks.iter_mut().flat_map(Block::floats_mut));
        floats.extend(self.pooler.iter_mut().flat_map(Pooler::floats_mut));
        floats.extend(self.head.iter_mut().flat_map(Head::floats_mut));
        floats
    }

    /// Of each piece in f32, whose it is.
    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let mut places = self.embeddings.places();
        places.extend(self.blocks.iter().flat_map(Block::places));
        places.extend(self.pooler.iter().flat_map(Pooler::places));
        places.extend(self.head.iter().flat_map(Head::places));
        places
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let blocks = self.blocks.iter().flat_map(Block::exports);
        let pooler = self.pooler.iter().flat_map(Pooler::exports);
        let head = self.head.iter().flat_map(Head::exports);
        self.embeddings.exports().chain(blocks).chain(pooler).chain(head)
    }

    /// The values of a slot, row-major, with its shape.
    pub(crate) fn tensor(&self, slot: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let export = self.exports().find(|export| export.slot == slot).ok_or_else(|| unknown(slot))?;
        Ok((export.shape, export.values.to_vec()))
    }

    /// A slot to be written as a whole.
    pub(crate) fn slot_mut(&mut self, slot: &str) -> Result<ValuesMut<'_>> {
        let Self { embeddings, blocks, pooler, head } = self;
        let found = embeddings.slot_mut(slot);
        let found = found.or_else(|| blocks.iter_mut().find_map(|block| block.slot_mut(slot)));
        let found = found.or_else(|| pooler.as_mut()?.slot_mut(slot));
        found.or_else(|| head.as_mut()?.slot_mut(slot)).ok_or_else(|| unknown(slot))
    }
}

fn unknown(slot: &str) -> ModelError {
    ModelError::Input(format!("the model has no slot {slot:?}"))
}
