//! Token, position and token-type vectors, summed and normalised.

use std::ops::Range;

use ferroformer_kernels::{Level, Lookup, MatMut, Narrow, Table, Threads, floats_of_mut, gather_add, scatter_add};

use super::{LayerNorm, Linear};
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
    word: Words,
    position: Table,
    token_type: Table,
    names: [String; 3],
    padding: Option<u32>,
    norm: LayerNorm,
    level: Level,
}

/// The word embeddings: a table, or the weights of a head too, which has a bias for each word.
enum Words {
    Table(Table),
    Tied(Linear),
}

const NORM: &str = "embeddings.norm";

fn tied_parts(blueprint: &Blueprint) -> Vec<(String, usize)> {
    vec![("embeddings.word".to_owned(), blueprint.embeddings.vocab_size)]
}

fn table_slots(blueprint: &Blueprint) -> [Slot; 3] {
    let (e, width) = (&blueprint.embeddings, blueprint.hidden_size);
    let table = |name, rows| Slot::new(format!("embeddings.{name}.weight"), &[rows, width], Init::Normal);
    [table("word", e.vocab_size), table("position", e.positions), table("token_type", e.token_types)]
}

impl Embeddings {
    pub(crate) fn slots(blueprint: &Blueprint) -> Vec<Slot> {
        let norm = LayerNorm::slots(NORM, blueprint.hidden_size);
        let bias = blueprint.tied().then(|| Linear::slots(&tied_parts(blueprint), blueprint.hidden_size));
        let bias = bias.into_iter().flatten().map(|[_, bias]| bias);
        table_slots(blueprint).into_iter().chain(norm).chain(bias).collect()
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint) -> Result<Self> {
        let slots = table_slots(blueprint);
        let [word, position, token_type] = &slots;
        let word = if blueprint.tied() {
            Words::Tied(Linear::load(loader, tied_parts(blueprint), blueprint.hidden_size)?)
        } else {
            Words::Table(loader.table(word)?)
        };
        let (position, token_type) = (loader.table(position)?, loader.table(token_type)?);
        let norm = LayerNorm::load(loader, NORM.to_owned(), blueprint.hidden_size, blueprint.embeddings.norm.eps)?;
        Ok(Self {
            word,
            position,
            token_type,
            names: slots.map(|slot| slot.name),
            norm,
            padding: blueprint.embeddings.padding,
            level: loader.level,
        })
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
        let words = match (&self.word, part.embeds) {
            (_, Some(embeds)) => Lookup::Floats(embeds),
            (Words::Table(table), None) => Lookup::Table(table),
            (Words::Tied(linear), None) => linear.lookup(),
        };
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
        let words = match &mut gradient.word {
            Words::Table(table) => Some((table, part.ids, self.padding)),
            Words::Tied(linear) => {
                linear.scatter_add(pass.threads, d_sum.view(), part.ids, self.padding);
                None
            }
        };
        let tables = [(&mut gradient.position, part.positions, None), (&mut gradient.token_type, part.types, None)];
        for (table, ids, skip) in words.into_iter().chain(tables).filter(|(table, ..)| table.rows() > 0) {
            scatter_add(self.level, pass.threads, d_sum.view(), ids, skip, table);
        }
    }

    /// Whether it holds nothing, as the gradient of embeddings that are frozen.
    pub(crate) fn is_empty(&self) -> bool {
        let words = match &self.word {
            Words::Table(table) => table.rows() == 0,
            Words::Tied(linear) => linear.is_empty(),
        };
        self.norm.is_empty() && words && self.tables().iter().all(|(_, table)| table.rows() == 0)
    }

    /// The word embeddings as the layer that a head shares with them.
    pub(crate) fn tied(&self) -> Option<&Linear> {
        match &self.word {
            Words::Table(_) => None,
            Words::Tied(linear) => Some(linear),
        }
    }

    pub(crate) fn tied_mut(&mut self) -> Option<&mut Linear> {
        match &mut self.word {
            Words::Table(_) => None,
            Words::Tied(linear) => Some(linear),
        }
    }

    /// All tables with their slots.
    fn tables(&self) -> Vec<(&String, &Table)> {
        let [word, position, token_type] = &self.names;
        let words = match &self.word {
            Words::Table(table) => Some((word, table)),
            Words::Tied(_) => None,
        };
        words.into_iter().chain([(position, &self.position), (token_type, &self.token_type)]).collect()
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let tables = self.tables().into_iter().map(|(name, table)| Export {
            slot: name.clone(),
            shape: vec![table.rows(), table.cols()],
            values: Values::Table(table, self.level),
        });
        tables.chain(self.norm.exports()).chain(self.tied().into_iter().flat_map(Linear::exports))
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let mut floats = self.norm.floats_mut();
        floats.push(match &mut self.word {
            Words::Table(table) => floats_of_mut(table.words_mut()),
            Words::Tied(linear) => linear.floats_mut(),
        });
        floats.extend([&mut self.position, &mut self.token_type].map(|table| floats_of_mut(table.words_mut())));
        floats
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let mut places = self.norm.places();
        let alone = |(name, table): (&String, &Table)| vec![Place::alone(name.clone(), table.rows() * table.cols())];
        places.extend(self.tied().map(Linear::places));
        places.extend(self.tables().into_iter().map(alone));
        places
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        let [_, position, token_type] = &self.names;
        if slot == position {
            return Some(ValuesMut::Table(&mut self.position));
        }
        if slot == token_type {
            return Some(ValuesMut::Table(&mut self.token_type));
        }
        if !slot.starts_with("embeddings.word.") {
            return self.norm.slot_mut(slot);
        }
        match &mut self.word {
            Words::Table(table) => (slot == self.names[0]).then_some(ValuesMut::Table(table)),
            Words::Tied(linear) => linear.slot_mut(slot),
        }
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = self.norm.pieces();
        pieces.extend(self.tied().map(Linear::piece));
        for (name, table) in self.tables() {
            let [words, scales] = table.words();
            pieces.push(Piece::new(name, words));
            if !scales.is_empty() {
                pieces.push(Piece::new(scales_of(name), scales));
            }
        }
        pieces
    }
}
