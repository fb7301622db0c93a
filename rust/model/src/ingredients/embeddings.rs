//! Token, position and token-type vectors, summed and normalised.

use std::ops::Range;

use ferroformer_kernels::{Level, Lookup, Mat, MatMut, Narrow, Table, Threads, floats_of_mut, gather_add, scatter_add};

use super::LayerNorm;
use crate::batch::Part;
use crate::blueprint::Blueprint;
use crate::error::Result;
use crate::export::{Export, Values, ValuesMut};
use crate::init::Init;
use crate::loader::{Loader, Slot, scales_of};
use crate::packed_file::Piece;
use crate::training::{Chunk, ChunkRoom, Flow, Pass, Site};
use crate::weights::Place;

pub(crate) struct Embeddings {
    word: Table,
    position: Table,
    token_type: Table,
    names: [String; 3],
    norm: LayerNorm,
    level: Level,
}

const NORM: &str = "embeddings.norm";

fn table_slots(blueprint: &Blueprint) -> [Slot; 3] {
    let (e, width) = (&blueprint.embeddings, blueprint.hidden_size);
    let table = |name, rows| Slot::new(format!("embeddings.{name}.weight"), &[rows, width], Init::Normal);
    [table("word", e.vocab_size), table("position", e.positions), table("token_type", e.token_types)]
}

impl Embeddings {
    pub(crate) fn slots(blueprint: &Blueprint) -> Vec<Slot> {
        let norm = LayerNorm::slots(NORM, blueprint.hidden_size);
        table_slots(blueprint).into_iter().chain(norm).collect()
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint) -> Result<Self> {
        let slots = table_slots(blueprint);
        let [word, position, token_type] = &slots;
        let (word, position, token_type) = (loader.table(word)?, loader.table(position)?, loader.table(token_type)?);
        let norm = LayerNorm::load(loader, NORM.to_owned(), blueprint.hidden_size, blueprint.embeddings.norm.eps)?;
        Ok(Self { word, position, token_type, names: slots.map(|slot| slot.name), norm, level: loader.level })
    }

    /// Some tokens of `part` (T,) -> out (T, H), and `narrow` in its form; `sum` (T, H) is left with the vectors before the
    /// norm.
    pub(crate) fn forward(
        &self,
        threads: &Threads,
        part: &Part,
        tokens: Range<usize>,
        mut sum: MatMut,
        out: MatMut,
        narrow: &mut Narrow,
    ) {
        let words = part.embeds.map_or(Lookup::Table(&self.word), |embeds: Mat| Lookup::Floats(embeds));
        let tables = [
            (words, part.ids),
            (Lookup::Table(&self.token_type), part.types),
            (Lookup::Table(&self.position), part.positions),
        ];
        gather_add(self.level, tables.map(|(table, ids)| (table, &ids[tokens.clone()])), sum.reborrow());
        self.norm.forward(threads, sum.view(), out, narrow);
    }

    /// All tokens of a batch -> out (T, H).
    pub(crate) fn record(&self, pass: &Pass, out: MatMut) {
        pass.for_each_chunk([out], [], |mut chunk, [mut out], []| {
            let Chunk { step, tokens, threads, room } = &mut chunk;
            let ChunkRoom { hidden: sum, none, .. } = &mut **room;
            let sum = sum.first_mut(tokens.len());
            self.forward(threads, step.part, tokens.clone(), sum, out.reborrow(), none);
            if let Some(dropout) = step.dropout(Site::Embeddings) {
                dropout.apply(self.level, tokens.start, out);
            }
        });
    }

    /// Adds to `gradient`, from that of what [`record`](Self::record) made, `flow.d_hidden`.
    pub(crate) fn backward(&self, pass: &Pass, flow: &mut Flow, gradient: &mut Embeddings) {
        if gradient.is_empty() {
            return;
        }
        let Flow { hidden, d_hidden, d_sum, sums, .. } = flow;
        let size = d_sum.cols();
        pass.for_each_chunk(
            [d_hidden.reborrow(), d_sum.reborrow(), hidden.reborrow()],
            [sums.reborrow()],
            |mut chunk, [mut d, d_sum, out], [mut sums]| {
                let Chunk { step, tokens, threads, room } = &mut chunk;
                let ChunkRoom { hidden: sum, none, .. } = &mut **room;
                if let Some(dropout) = step.dropout(Site::Embeddings) {
                    dropout.apply(self.level, tokens.start, d.reborrow());
                }
                self.forward(threads, step.part, tokens.clone(), sum.first_mut(tokens.len()), out, none);
                let sums = &mut sums.row_mut(0)[..2 * size];
                sums.fill(0.0);
                self.norm.backward(sum.first(tokens.len()), d.view(), d_sum, sums);
            },
        );
        gradient.norm.add_gradient(sums.view().block(0..sums.rows(), 0..2 * size));
        let part = pass.step.part;
        let tables = [
            (&mut gradient.word, part.ids),
            (&mut gradient.position, part.positions),
            (&mut gradient.token_type, part.types),
        ];
        for (table, ids) in tables.into_iter().filter(|(table, _)| table.rows() > 0) {
            scatter_add(self.level, pass.threads, d_sum.view(), ids, table);
        }
    }

    /// Whether it holds nothing, as the gradient of embeddings that are frozen.
    pub(crate) fn is_empty(&self) -> bool {
        self.norm.is_empty() && self.tables().iter().all(|table| table.rows() == 0)
    }

    fn tables(&self) -> [&Table; 3] {
        [&self.word, &self.position, &self.token_type]
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let tables = self.names.iter().zip(self.tables()).map(|(name, table)| Export {
            slot: name.clone(),
            shape: vec![table.rows(), table.cols()],
            values: Values::Table(table, self.level),
        });
        tables.chain(self.norm.exports())
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let mut floats = self.norm.floats_mut();
        let tables = [&mut self.word, &mut self.position, &mut self.token_type];
        floats.extend(tables.map(|table| floats_of_mut(table.words_mut())));
        floats
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let mut places = self.norm.places();
        let whole = |table: &Table| vec![0..table.rows() * table.cols()];
        let tables = self.names.iter().zip(self.tables());
        places.extend(tables.map(|(name, table)| vec![Place { slot: name.clone(), ranges: whole(table) }]));
        places
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        let found = self.names.iter().position(|name| name == slot);
        match found {
            Some(0) => Some(ValuesMut::Table(&mut self.word)),
            Some(1) => Some(ValuesMut::Table(&mut self.position)),
            Some(_) => Some(ValuesMut::Table(&mut self.token_type)),
            None => self.norm.slot_mut(slot),
        }
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = self.norm.pieces();
        for (name, [words, scales]) in self.names.iter().zip(self.tables().map(Table::words)) {
            pieces.push(Piece::new(name, words));
            if !scales.is_empty() {
                pieces.push(Piece::new(scales_of(name), scales));
            }
        }
        pieces
    }
}
