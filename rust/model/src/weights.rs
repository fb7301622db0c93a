//! All that a checkpoint fills. What lies alike - gradients, the state of an optimiser - is of the same type.

use std::ops::Range;

use crate::block::Block;
use crate::blueprint::Blueprint;
use crate::error::{ModelError, Result};
use crate::export::{Export, ValuesMut};
use crate::ingredients::{Embeddings, HEADS, Head, LayerNorm, Pooler, RelativeBias, RelativeEmbeddings};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::rotation::Rotation;

pub(crate) struct Weights {
    pub(crate) embeddings: Embeddings,
    pub(crate) rotations: Vec<Rotation>,
    pub(crate) relative: Vec<RelativeBias>,
    pub(crate) distances: Option<RelativeEmbeddings>,
    /// One for each of the layers that have weights of their own.
    pub(crate) blocks: Vec<Block>,
    pub(crate) final_norm: Option<LayerNorm>,
    pub(crate) pooler: Option<Pooler>,
    pub(crate) head: Option<Head>,
    pub(crate) second_head: Option<Head>,
    /// Those of the model whose last hidden states are attended to.
    pub(crate) source: Option<Box<Weights>>,
}

/// Before the names of its slots and pieces.
const SOURCE: &str = "source.";

fn of_source(name: String) -> String {
    format!("{SOURCE}{name}")
}

const FINAL_NORM: &str = "final_norm";

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
        slots.extend(Rotation::slots(blueprint));
        slots.extend(RelativeBias::slots(blueprint));
        let own = blueprint.own_layers().enumerate();
        let distances = blueprint.attention.disentangled.into_iter();
        slots.extend(distances.flat_map(|spec| RelativeEmbeddings::slots(blueprint, spec)));
        slots.extend(own.flat_map(|(block, layer)| Block::slots(blueprint, block, layer)));
        if blueprint.pre_norm() {
            slots.extend(LayerNorm::slots(
                FINAL_NORM,
                blueprint.hidden_size,
                blueprint.norm.norm(),
                blueprint.norm.biased(),
            ));
        }
        slots.extend(blueprint.pooler.into_iter().flat_map(|spec| Pooler::slots(blueprint, spec)));
        let heads = HEADS.into_iter().zip([blueprint.head, blueprint.second_head]);
        slots.extend(heads.flat_map(|(scope, spec)| spec.map_or(vec![], |spec| Head::slots(blueprint, scope, spec))));
        let source = blueprint.source.iter().flat_map(|source| Self::slots(source));
        slots.extend(source.map(|slot| Slot { name: of_source(slot.name), ..slot }));
        slots
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint) -> Result<Self> {
        let (size, norm) = (blueprint.hidden_size, blueprint.norm);
        let own = blueprint.own_layers().enumerate();
        let rotary = blueprint.attention.rotary.iter().enumerate();
        let rotations = rotary.map(|(number, spec)| Rotation::load(loader, spec, number));
        let distances = |spec| RelativeEmbeddings::load(loader, blueprint, spec);
        let head = |scope, spec| Head::load(loader, blueprint, scope, spec);
        let source = |inner| Self::load(&Loader { prefix: SOURCE, ..*loader }, inner).map(Box::new);
        let final_norm = || LayerNorm::load(loader, FINAL_NORM.to_owned(), size, norm.norm(), norm.biased());
        Ok(Self {
            blocks: own.map(|(block, layer)| Block::load(loader, blueprint, block, layer)).collect::<Result<_>>()?,
            embeddings: Embeddings::load(loader, blueprint)?,
            rotations: rotations.collect::<Result<_>>()?,
            relative: RelativeBias::load(loader, blueprint)?,
            distances: blueprint.attention.disentangled.map(distances).transpose()?,
            final_norm: blueprint.pre_norm().then(final_norm).transpose()?,
            pooler: blueprint.pooler.map(|spec| Pooler::load(loader, blueprint, spec)).transpose()?,
            head: blueprint.head.map(|spec| head(HEADS[0], spec)).transpose()?,
            second_head: blueprint.second_head.map(|spec| head(HEADS[1], spec)).transpose()?,
            source: blueprint.source.as_deref().map(source).transpose()?,
        })
    }

    /// The weights as they lie in memory.
    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = self.embeddings.pieces();
        pieces.extend(self.rotations.iter().filter_map(Rotation::piece));
        pieces.extend(self.relative.iter().map(RelativeBias::piece));
        pieces.extend(self.distances.iter().flat_map(RelativeEmbeddings::pieces));
        pieces.extend(self.blocks.iter().flat_map(Block::pieces));
        pieces.extend(self.final_norm.iter().flat_map(LayerNorm::pieces));
        pieces.extend(self.pooler.iter().flat_map(Pooler::pieces));
        pieces.extend(self.head.iter().chain(&self.second_head).flat_map(Head::pieces));
        let source = self.source.iter().flat_map(|source| source.pieces());
        pieces.extend(source.map(|piece| Piece { name: of_source(piece.name), ..piece }));
        pieces
    }

    /// The same in f32, to be changed.
    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let mut floats = self.embeddings.floats_mut();
        floats.extend(self.rotations.iter_mut().filter_map(Rotation::floats_mut));
        floats.extend(self.relative.iter_mut().map(RelativeBias::floats_mut));
        floats.extend(self.distances.iter_mut().flat_map(RelativeEmbeddings::floats_mut));
        floats.extend(self.blocks.iter_mut().flat_map(Block::floats_mut));
        floats.extend(self.final_norm.iter_mut().flat_map(LayerNorm::floats_mut));
        floats.extend(self.pooler.iter_mut().flat_map(Pooler::floats_mut));
        floats.extend(self.head.iter_mut().chain(&mut self.second_head).flat_map(Head::floats_mut));
        floats.extend(self.source.iter_mut().flat_map(|source| source.floats_mut()));
        floats
    }

    /// Of each piece in f32, whose it is.
    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let mut places = self.embeddings.places();
        places.extend(self.rotations.iter().filter_map(Rotation::place));
        places.extend(self.relative.iter().map(RelativeBias::place));
        places.extend(self.distances.iter().flat_map(RelativeEmbeddings::places_of_slots));
        places.extend(self.blocks.iter().flat_map(Block::places));
        places.extend(self.final_norm.iter().flat_map(LayerNorm::places));
        places.extend(self.pooler.iter().flat_map(Pooler::places));
        places.extend(self.head.iter().chain(&self.second_head).flat_map(Head::places));
        let named = |place: Place| Place { slot: of_source(place.slot), ..place };
        let source = self.source.iter().flat_map(|source| source.places());
        places.extend(source.map(|piece| piece.into_iter().map(named).collect()));
        places
    }

    pub(crate) fn exports(&self) -> Vec<Export<'_>> {
        let rotations = self.rotations.iter().filter_map(Rotation::export);
        let relative = rotations.chain(self.relative.iter().map(RelativeBias::export));
        let distances = self.distances.iter().flat_map(RelativeEmbeddings::exports);
        let blocks = distances.chain(self.blocks.iter().flat_map(Block::exports));
        let final_norm = self.final_norm.iter().flat_map(LayerNorm::exports);
        let pooler = self.pooler.iter().flat_map(Pooler::exports);
        let head = self.head.iter().chain(&self.second_head).flat_map(Head::exports);
        let source = self.source.iter().flat_map(|source| source.exports());
        let source = source.map(|export| Export { slot: of_source(export.slot), ..export });
        let above = final_norm.chain(pooler).chain(head).chain(source);
        self.embeddings.exports().chain(relative).chain(blocks).chain(above).collect()
    }

    /// The lowest layer that these gradients have to reach, of layers that have these blocks; past the last where none has.
    pub(crate) fn lowest_layer(&self, of_layer: &[usize]) -> usize {
        let Weights { embeddings, relative, distances, blocks, source, .. } = self;
        let all = !embeddings.is_empty()
            || !relative.iter().all(RelativeBias::is_empty)
            || distances.as_ref().is_some_and(|distances| !distances.is_empty())
            || source.is_some();
        match all {
            true => 0,
            false => of_layer.iter().position(|block| !blocks[*block].is_empty()).unwrap_or(of_layer.len()),
        }
    }

    /// The values of a slot, row-major, with its shape.
    pub(crate) fn tensor(&self, slot: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let export = self.exports().into_iter().find(|export| export.slot == slot).ok_or_else(|| unknown(slot))?;
        Ok((export.shape, export.values.to_vec()))
    }

    /// A slot to be written as a whole.
    pub(crate) fn slot_mut(&mut self, slot: &str) -> Result<ValuesMut<'_>> {
        if let (Some(source), Some(inner)) = (&mut self.source, slot.strip_prefix(SOURCE)) {
            return source.slot_mut(inner);
        }
        let Self { embeddings, rotations, relative, distances, blocks, final_norm, pooler, head, second_head, .. } =
            self;
        let found = embeddings.slot_mut(slot).or_else(|| rotations.iter_mut().find_map(|r| r.slot_mut(slot)));
        let found = found.or_else(|| relative.iter_mut().find_map(|relative| relative.slot_mut(slot)));
        let found = found.or_else(|| distances.as_mut()?.slot_mut(slot));
        let found = found.or_else(|| final_norm.as_mut()?.slot_mut(slot));
        let found = found.or_else(|| blocks.iter_mut().find_map(|block| block.slot_mut(slot)));
        let found = found.or_else(|| pooler.as_mut()?.slot_mut(slot));
        let found = found.or_else(|| head.as_mut()?.slot_mut(slot));
        found.or_else(|| second_head.as_mut()?.slot_mut(slot)).ok_or_else(|| unknown(slot))
    }
}

fn unknown(slot: &str) -> ModelError {
    ModelError::Input(format!("the model has no slot {slot:?}"))
}
