//! Token, position and token-type vectors, summed and normalised.

use std::ops::Range;

use ferroformer_kernels::{Level, Lookup, Mat, MatMut, Narrow, Table, Threads, gather_add};

use super::LayerNorm;
use crate::batch::Part;
use crate::blueprint::Blueprint;
use crate::error::Result;
use crate::export::{Export, Values};
use crate::init::Init;
use crate::loader::{Loader, Slot, scales_of};
use crate::packed_file::Piece;

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
