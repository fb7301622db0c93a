//! Token, position and token-type vectors, summed and normalised.

use ferroformer_kernels::{Buffer, Level, Mat, Threads, gather_add};

use super::LayerNorm;
use crate::batch::Part;
use crate::blueprint::Blueprint;
use crate::error::Result;
use crate::export::{Export, Values};
use crate::init::Init;
use crate::loader::{Loader, Slot};
use crate::workspace::Rows;

/// (rows, H), one row for each id.
struct Table {
    slot: Slot,
    rows: Buffer,
}

impl Table {
    fn mat(&self) -> Mat<'_> {
        Mat::dense(&self.rows, self.slot.shape[0], self.slot.shape[1])
    }
}

pub(crate) struct Embeddings {
    word: Table,
    position: Table,
    token_type: Table,
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

    pub(crate) fn load(loader: &mut Loader, blueprint: &Blueprint) -> Result<Self> {
        let mut table = |slot: Slot| -> Result<Table> { Ok(Table { rows: loader.table(&slot)?, slot }) };
        let [word, position, token_type] = table_slots(blueprint);
        let (word, position, token_type) = (table(word)?, table(position)?, table(token_type)?);
        let norm = LayerNorm::load(loader, NORM.to_owned(), blueprint.hidden_size, blueprint.embeddings.norm.eps)?;
        Ok(Self { word, position, token_type, norm, level: loader.level })
    }

    /// The tokens of `part` (T,) -> out (T, H); `sum` (T, H) is left with the vectors before the norm.
    pub(crate) fn forward(&self, threads: &Threads, part: &Part, sum: &mut Rows, out: &mut Rows) {
        let words = part.embeds.unwrap_or(self.word.mat());
        let tables = [(words, part.ids), (self.token_type.mat(), part.types), (self.position.mat(), part.positions)];
        gather_add(self.level, tables, sum.mat_mut());
        self.norm.forward(threads, sum.mat(), out.mat_mut());
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let tables = [&self.word, &self.position, &self.token_type].map(|table| Export {
            slot: table.slot.name.clone(),
            shape: table.slot.shape.clone(),
            values: Values::Table(&table.rows),
        });
        tables.into_iter().chain(self.norm.exports())
    }

    pub(crate) fn bytes(&self) -> usize {
        let tables = [&self.word, &self.position, &self.token_type];
        tables.iter().map(|table| table.rows.bytes()).sum::<usize>() + self.norm.bytes()
    }
}
