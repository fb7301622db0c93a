//! Token, position and token-type vectors, summed; normalised and projected where the model does so, the words' with those of their
//! neighbours where it reads these.

use std::ops::Range;

use ferroformer_kernels::{
    Dropout, Epilogue, Form, Level, Lookup, Mat, MatMut, Narrow, PackedLinear, Precision, Table, Threads,
    floats_of_mut, gather_add, linear, narrow, scale, scatter_add,
};

use super::linear::Layer;
use super::{LayerNorm, Linear};
use crate::batch::{NOBODY, Part};
use crate::blueprint::{Blueprint, EmbeddingNormSpec, FactorSpec, PositionSines};
use crate::error::Result;
use crate::export::{Export, Values, ValuesMut};
use crate::init::{Init, Sines};
use crate::loader::{Loader, Slot, scales_of};
use crate::packed_file::Piece;
use crate::training::{Chunk, Flow, Pass, Site};
use crate::weights::Place;
use crate::workspace::Rows;

pub(crate) struct Embeddings {
    word: Words,
    tables: Vec<Look>,
    /// What words' vectors are multiplied by.
    factor: f32,
    norm: Option<LayerNorm>,
    projection: Option<Linear>,
    /// Whether the tables are added to what the projection makes of words, and the norm is of the sum.
    words_projected: bool,
    /// Whether the projection reads the words behind and before a word beside its own.
    neighbours: bool,
    /// Of the vectors that are looked up, E.
    size: usize,
    /// Whether what stands in padding becomes zeros.
    masked: bool,
    level: Level,
}

/// A table, whose rows a token chooses by one of its numbers.
struct Look {
    by: By,
    table: Table,
    slot: String,
    /// The row that learns nothing.
    padding: Option<u32>,
}

#[derive(Clone, Copy)]
enum By {
    Word,
    TokenType,
    Position,
    Task,
}

/// The word embeddings: a table, or the weights of a head too, which has a bias for each word.
enum Words {
    Table(Look),
    Tied(Linear, Option<u32>),
    /// Those of the model that reads this one.
    Shared,
}

/// What some tokens' embeddings are made in.
#[derive(Default)]
pub(crate) struct EmbeddingRoom {
    /// (t, E or 3 E): before and after a norm that stands before the projection.
    sum: Rows,
    normed: Rows,
    narrow: Narrow,
    /// (t, H): what is added to the projection, and the sum, where there is a norm of that.
    added: Rows,
    whole: Rows,
}

const WORD: &str = "embeddings.word";
const NORM: &str = "embeddings.norm";

fn tied_parts(blueprint: &Blueprint) -> Vec<Layer> {
    let (bias, fixed) = blueprint.head.map_or((false, false), |head| (head.bias, head.fixed_bias));
    vec![Layer::new(WORD, blueprint.embeddings.vocab_size, bias).fixed_bias(fixed)]
}

fn projection_parts(blueprint: &Blueprint) -> Vec<Layer> {
    vec![Layer::new("embeddings.projection", blueprint.hidden_size, blueprint.embeddings.projection_bias)]
}

fn slot(name: &str, shape: [usize; 2]) -> Slot {
    Slot::new(format!("{name}.weight"), &shape, Init::Normal)
}

fn position_sines(slot: Slot, spec: &PositionSines, padding: Option<u32>) -> Slot {
    let PositionSines { frequencies, rounded } = spec.clone();
    let sines = Sines { frequencies, rounded, width: slot.shape[1], empty: padding.map(|row| row as usize) };
    Slot { init: Init::Sines(sines), trained: false, ..slot }
}

/// The width of the vectors of all tables but the words', and of what is normalised.
fn sum_size(blueprint: &Blueprint) -> usize {
    if blueprint.embeddings.words_projected { blueprint.hidden_size } else { blueprint.embedding_size() }
}

/// All tables but the words', in the order in which their rows are added.
fn tables(blueprint: &Blueprint) -> impl Iterator<Item = (By, Slot, Option<u32>)> + use<'_> {
    let e = &blueprint.embeddings;
    let tables = [
        (By::TokenType, "embeddings.token_type", e.token_types, None),
        (By::Position, "embeddings.position", e.positions, e.padding_position),
        (By::Task, "embeddings.task_type", e.task_types, None),
    ];
    let size = sum_size(blueprint);
    let slot = move |by, name, rows| match &e.sines {
        Some(sines) if matches!(by, By::Position) => {
            position_sines(slot(name, [rows, size]), sines, e.padding_position)
        }
        _ => slot(name, [rows, size]),
    };
    tables.into_iter().filter_map(move |(by, name, rows, padding)| Some((by, slot(by, name, rows?), padding)))
}

fn factor(spec: FactorSpec, precision: Precision) -> f32 {
    match precision {
        Precision::BFloat16 if spec.rounded => half::bf16::from_f32(spec.value).to_f32(),
        _ => spec.value,
    }
}

impl By {
    fn ids<'a>(self, part: &Part<'a>) -> &'a [u32] {
        match self {
            By::Word => part.ids,
            By::TokenType => part.types,
            By::Position => part.positions,
            By::Task => part.tasks,
        }
    }
}

impl Look {
    /// Adds the gradient of what was looked up by these ids, d (T, E), if it is wanted.
    fn add_gradient(&mut self, level: Level, pass: &Pass, ids: &[u32], d: Mat) {
        if self.table.rows() > 0 {
            scatter_add(level, pass.threads, d, ids, self.padding, &mut self.table);
        }
    }
}

impl Embeddings {
    pub(crate) fn slots(blueprint: &Blueprint) -> Vec<Slot> {
        let (e, size) = (&blueprint.embeddings, blueprint.embedding_size());
        let mut slots = if e.shared { vec![] } else { vec![slot(WORD, [e.vocab_size, size])] };
        slots.extend(tables(blueprint).map(|(_, slot, _)| slot));
        let norm_slots = |norm: EmbeddingNormSpec| LayerNorm::slots(NORM, sum_size(blueprint), norm.norm(), norm.bias);
        slots.extend(e.norm.into_iter().flat_map(norm_slots));
        if e.projection {
            slots.extend(Linear::slots(&projection_parts(blueprint), blueprint.projected_size()));
        }
        if blueprint.tied() {
            slots.extend(Linear::slots(&tied_parts(blueprint), size).skip(1));
        }
        slots
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint) -> Result<Self> {
        let (e, size) = (&blueprint.embeddings, blueprint.embedding_size());
        let look = |by, slot: Slot, padding| Ok(Look { by, table: loader.table(&slot)?, slot: slot.name, padding });
        let word = if e.shared {
            Words::Shared
        } else if blueprint.tied() {
            Words::Tied(Linear::load(loader, tied_parts(blueprint), size)?, e.padding)
        } else {
            Words::Table(look(By::Word, slot(WORD, [e.vocab_size, size]), e.padding)?)
        };
        let norm = |spec: EmbeddingNormSpec| {
            LayerNorm::load(loader, NORM.to_owned(), sum_size(blueprint), spec.norm(), spec.bias)
        };
        let projection = || Linear::load(loader, projection_parts(blueprint), blueprint.projected_size());
        Ok(Self {
            word,
            tables: tables(blueprint).map(|(by, slot, padding)| look(by, slot, padding)).collect::<Result<_>>()?,
            factor: e.factor.map_or(1.0, |spec| factor(spec, loader.precision)),
            norm: e.norm.map(norm).transpose()?,
            projection: e.projection.then(projection).transpose()?,
            words_projected: e.words_projected,
            neighbours: e.neighbours,
            size,
            masked: e.masked,
            level: loader.level,
        })
    }

    /// Some tokens of `part` (T,) -> out (T, H), and `narrow` in its form.
    pub(crate) fn forward(
        &self,
        threads: &Threads,
        part: &Part,
        tokens: Range<usize>,
        room: &mut EmbeddingRoom,
        mut out: MatMut,
        narrow_out: &mut Narrow,
    ) -> Result<()> {
        let Some(projection) = &self.projection else {
            match &self.norm {
                Some(norm) => {
                    room.sum.resize(tokens.len(), self.size)?;
                    self.look_up(part, tokens.clone(), room.sum.mat_mut());
                    norm.forward(threads, room.sum.mat(), out.reborrow(), narrow_out);
                    if self.masked && part.keys.is_some() {
                        clear_padding(part, tokens, out.reborrow());
                        narrow(self.level, threads, out.view(), narrow_out);
                    }
                }
                None => {
                    self.look_up(part, tokens, out.reborrow());
                    narrow(self.level, threads, out.view(), narrow_out);
                }
            }
            return Ok(());
        };
        self.before_projection(threads, part, tokens.clone(), room, None)?;
        self.project(threads, projection, part, tokens, room, out.reborrow())?;
        match self.norm_of_sum() {
            Some(norm) => norm.forward(threads, room.whole.mat(), out, narrow_out),
            None => narrow(self.level, threads, out.view(), narrow_out),
        }
        Ok(())
    }

    /// The norm of what is projected, and that of what the projection makes with all that is added.
    fn norm_before(&self) -> Option<&LayerNorm> {
        self.norm.as_ref().filter(|_| !self.words_projected)
    }

    fn norm_of_sum(&self) -> Option<&LayerNorm> {
        self.norm.as_ref().filter(|_| self.words_projected)
    }

    /// The width of what is projected.
    fn projected_size(&self) -> usize {
        if self.neighbours { 3 * self.size } else { self.size }
    }

    /// What the projection reads: `room.normed`, and `room.narrow` in its form.
    fn before_projection(
        &self,
        threads: &Threads,
        part: &Part,
        tokens: Range<usize>,
        room: &mut EmbeddingRoom,
        dropout: Option<Dropout>,
    ) -> Result<()> {
        let (count, first, size) = (tokens.len(), tokens.start, self.projected_size());
        let EmbeddingRoom { sum, normed, narrow: room_narrow, .. } = room;
        sum.resize(count, size)?;
        normed.resize(count, size)?;
        room_narrow.resize(self.projection.as_ref().map_or(Form::Floats, Linear::form), count, size)?;
        self.look_up(part, tokens, sum.mat_mut());
        match self.norm_before() {
            Some(norm) => norm.forward(threads, sum.mat(), normed.mat_mut(), room_narrow),
            None => {
                normed.mat_mut().copy(sum.mat());
                narrow(self.level, threads, normed.mat(), room_narrow);
            }
        }
        if let Some(dropout) = dropout.filter(|_| !self.words_projected) {
            dropout.apply(self.level, first, normed.mat_mut());
        }
        Ok(())
    }

    /// What [`before_projection`](Self::before_projection) left of some tokens -> out (t, H), or where there is a norm of the sum
    /// `room.whole`.
    fn project(
        &self,
        threads: &Threads,
        projection: &Linear,
        part: &Part,
        tokens: Range<usize>,
        room: &mut EmbeddingRoom,
        out: MatMut,
    ) -> Result<()> {
        let EmbeddingRoom { normed, narrow, added, whole, .. } = room;
        let mut epilogue = Epilogue::default();
        if self.words_projected && !self.tables.is_empty() {
            added.resize(tokens.len(), out.cols())?;
            let sources: Vec<_> = self.others(part).map(|(table, ids, x)| (table, &ids[tokens.clone()], x)).collect();
            gather_add(self.level, &sources, added.mat_mut());
            epilogue.residual = Some(added.mat());
        }
        if self.norm_of_sum().is_none() {
            return projection.forward(threads, normed.mat(), narrow, epilogue, out);
        }
        whole.resize(tokens.len(), out.cols())?;
        projection.forward(threads, normed.mat(), narrow, epilogue, whole.mat_mut())
    }

    /// The words of its own.
    fn words(&self) -> Lookup<'_> {
        match &self.word {
            Words::Table(look) => Lookup::Table(&look.table),
            Words::Tied(linear, _) => linear.lookup(),
            Words::Shared => unreachable!("words that are another's are looked up there"),
        }
    }

    /// All tables but the words', with the ids that are looked up and what rows are multiplied by.
    fn others<'a>(&'a self, part: &'a Part) -> impl Iterator<Item = (Lookup<'a>, &'a [u32], f32)> {
        self.tables.iter().map(|look| (Lookup::Table(&look.table), look.by.ids(part), 1.0))
    }

    /// The sum of some tokens' rows of all tables that are looked up first (T, E), or their words' and these words' neighbours' side by
    /// side (T, 3 E).
    fn look_up(&self, part: &Part, tokens: Range<usize>, mut out: MatMut) {
        if !self.neighbours {
            return self.look_up_of(part, &part.ids[tokens.clone()], tokens, out);
        }
        for (n, ids) in around(part).into_iter().enumerate() {
            let mut out = block_mut(&mut out, n, self.size);
            let ids = &ids[tokens.clone()];
            self.look_up_of(part, &somebody(ids), tokens.clone(), out.reborrow());
            clear_nobody(ids, out);
        }
    }

    /// Likewise, of words with these ids (t,).
    fn look_up_of(&self, part: &Part, ids: &[u32], tokens: Range<usize>, out: MatMut) {
        let (words, factor) = match (&self.word, part.embeds) {
            (_, Some(embeds)) => (Lookup::Floats(embeds), 1.0),
            (Words::Shared, None) => (part.shared.expect("whose words they are").words(), self.factor),
            (_, None) => (self.words(), self.factor),
        };
        let others = self.others(part).filter(|_| !self.words_projected);
        let others = others.map(|(table, ids, factor)| (table, &ids[tokens.clone()], factor));
        let sources: Vec<_> = std::iter::once((words, ids, factor)).chain(others).collect();
        gather_add(self.level, &sources, out);
    }

    /// All tokens of a batch -> out (T, H).
    pub(crate) fn record(&self, pass: &Pass, out: MatMut) -> Result<()> {
        pass.for_each_chunk([out], [], |mut chunk, [mut out], []| {
            let Chunk { step, tokens, threads, room } = &mut chunk;
            let (dropout, room) = (step.dropout(Site::Embeddings), &mut **room);
            let (embeddings, none) = (&mut room.embeddings, &mut room.none);
            if let Some(projection) = self.projection.as_ref().filter(|_| !self.words_projected) {
                self.before_projection(threads, step.part, tokens.clone(), embeddings, dropout)?;
                return self.project(threads, projection, step.part, tokens.clone(), embeddings, out);
            }
            self.forward(threads, step.part, tokens.clone(), embeddings, out.reborrow(), none)?;
            if let Some(dropout) = dropout {
                dropout.apply(self.level, tokens.start, out);
            }
            Ok(())
        })
    }

    /// Adds to `gradient`, from that of what [`record`](Self::record) made, `flow.d_hidden`; `transposed` is room for the projection's
    /// weights. The gradient of words that are another's goes to `shared`.
    pub(crate) fn backward(
        &self,
        pass: &Pass,
        flow: &mut Flow,
        transposed: &mut Option<PackedLinear>,
        gradient: &mut Embeddings,
        shared: Option<&mut Embeddings>,
    ) -> Result<()> {
        if gradient.is_empty() && shared.as_ref().is_none_or(|shared| shared.is_empty()) {
            return Ok(());
        }
        let Flow { d_hidden, d_sum, embedded, sums, .. } = flow;
        let [normed, d_embedded] = embedded;
        let transposed = match &self.projection {
            Some(projection) => {
                let room = transposed.take().map_or_else(|| projection.transposed(self.level), Ok)?;
                let room = transposed.insert(room);
                projection.transpose(pass.threads, room);
                Some(&*room)
            }
            None => None,
        };
        let d_sum = if d_embedded.rows() > 0 { d_embedded } else { d_sum };
        let mats = [d_hidden.reborrow(), d_sum.reborrow(), normed.reborrow()];
        pass.for_each_chunk(mats, [sums.reborrow()], |mut chunk, [mut d, mut d_sum, mut normed], [mut sums]| {
            let Chunk { step, tokens, threads, room } = &mut chunk;
            let (dropout, room) = (step.dropout(Site::Embeddings), &mut room.embeddings);
            self.before_projection(threads, step.part, tokens.clone(), room, dropout)?;
            let own_sums = &mut sums.row_mut(0)[..];
            if self.words_projected {
                self.sum_backward(threads, step.part, tokens.clone(), room, dropout, d.reborrow(), own_sums)?;
            }
            let dropout = dropout.filter(|_| !self.words_projected);
            let EmbeddingRoom { sum, normed: made, .. } = room;
            if self.masked {
                clear_padding(step.part, tokens.clone(), d.reborrow());
            }
            let mut d_normed = match transposed {
                Some(transposed) => {
                    normed.copy(made.mat());
                    linear(threads, d.view(), transposed, Epilogue::default(), made.mat_mut());
                    made.mat_mut()
                }
                None => d.reborrow(),
            };
            if let Some(dropout) = dropout {
                dropout.apply(self.level, tokens.start, d_normed.reborrow());
            }
            let Some(norm) = self.norm_before() else {
                d_sum.copy(d_normed.view());
                return Ok(());
            };
            let sums = &mut own_sums[..2 * self.size];
            sums.fill(0.0);
            norm.backward(sum.mat(), d_normed.view(), d_sum, sums);
            Ok(())
        })?;
        if let Some(norm) = &mut gradient.norm {
            let width = 2 * if self.words_projected { d_hidden.cols() } else { self.size };
            norm.add_gradient(sums.view().block(0..sums.rows(), 0..width));
        }
        if let Some(projection) = &mut gradient.projection {
            projection.add_gradient(self.level, pass.threads, normed.view(), d_hidden.view());
        }
        let d_tables = if self.words_projected { d_hidden.view() } else { d_sum.view() };
        for look in &mut gradient.tables {
            look.add_gradient(self.level, pass, look.by.ids(pass.step.part), d_tables);
        }
        if self.factor != 1.0 {
            (0..d_sum.rows()).for_each(|t| scale(self.level, pass.threads, d_sum.row_mut(t), self.factor));
        }
        let words = shared.unwrap_or(gradient);
        if !self.neighbours {
            words.add_words(self.level, pass, pass.step.part.ids, d_sum.view());
            return Ok(());
        }
        for (n, ids) in around(pass.step.part).into_iter().enumerate() {
            clear_nobody(ids, block_mut(d_sum, n, self.size));
            let d = d_sum.view().block(0..ids.len(), n * self.size..(n + 1) * self.size);
            words.add_words(self.level, pass, &somebody(ids), d);
        }
        Ok(())
    }

    /// Some tokens' embeddings where words are projected, what [`before_projection`](Self::before_projection) left and the gradient of what
    /// came out, d (t, H) -> that of the sum, in its place; that of the norm's weights in `sums`.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    fn sum_backward(
        &self,
        threads: &Threads,
        part: &Part,
        tokens: Range<usize>,
        room: &mut EmbeddingRoom,
        dropout: Option<Dropout>,
        mut d: MatMut,
        sums: &mut [f32],
    ) -> Result<()> {
        if let Some(dropout) = dropout {
            dropout.apply(self.level, tokens.start, d.reborrow());
        }
        let (Some(norm), Some(projection)) = (self.norm_of_sum(), &self.projection) else { return Ok(()) };
        self.project(threads, projection, part, tokens, room, d.reborrow())?;
        let EmbeddingRoom { added, whole, .. } = room;
        added.resize(d.rows(), d.cols())?;
        added.mat_mut().copy(d.view());
        let sums = &mut sums[..2 * d.cols()];
        sums.fill(0.0);
        norm.backward(whole.mat(), added.mat(), d, sums);
        Ok(())
    }

    /// Adds the gradient of words with these ids that were looked up, d (T, E).
    fn add_words(&mut self, level: Level, pass: &Pass, ids: &[u32], d: Mat) {
        match &mut self.word {
            Words::Table(look) => look.add_gradient(level, pass, ids, d),
            Words::Tied(linear, padding) => linear.scatter_add(pass.threads, d, ids, *padding),
            Words::Shared => {}
        }
    }

    /// Whether it holds nothing, as the gradient of embeddings that are frozen.
    pub(crate) fn is_empty(&self) -> bool {
        let linears = self.tied().into_iter().chain(&self.projection);
        linears.into_iter().all(Linear::is_empty)
            && self.norm.as_ref().is_none_or(LayerNorm::is_empty)
            && self.looks().all(|look| look.table.rows() == 0)
    }

    /// The word embeddings as the layer that a head shares with them.
    pub(crate) fn tied(&self) -> Option<&Linear> {
        match &self.word {
            Words::Table(_) | Words::Shared => None,
            Words::Tied(linear, _) => Some(linear),
        }
    }

    pub(crate) fn tied_mut(&mut self) -> Option<&mut Linear> {
        match &mut self.word {
            Words::Table(_) | Words::Shared => None,
            Words::Tied(linear, _) => Some(linear),
        }
    }

    fn looks(&self) -> impl Iterator<Item = &Look> {
        let words = match &self.word {
            Words::Table(look) => Some(look),
            Words::Tied(..) | Words::Shared => None,
        };
        words.into_iter().chain(&self.tables)
    }

    fn looks_mut(&mut self) -> impl Iterator<Item = &mut Look> {
        let words = match &mut self.word {
            Words::Table(look) => Some(look),
            Words::Tied(..) | Words::Shared => None,
        };
        words.into_iter().chain(&mut self.tables)
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.tied().into_iter().chain(&self.projection)
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let tables = self.looks().map(|Look { slot, table, .. }| Export {
            slot: slot.clone(),
            shape: vec![table.rows(), table.cols()],
            values: Values::Table(table, self.level),
        });
        let norm = self.norm.iter().flat_map(LayerNorm::exports);
        tables.chain(norm).chain(self.linears().flat_map(Linear::exports))
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let Self { word, tables, norm, projection, .. } = self;
        let (linear, look) = match word {
            Words::Table(look) => (None, Some(look)),
            Words::Tied(linear, _) => (Some(linear), None),
            Words::Shared => (None, None),
        };
        let mut floats = norm.as_mut().map_or(vec![], LayerNorm::floats_mut);
        floats.extend(linear.into_iter().chain(projection).flat_map(Linear::floats_mut));
        floats.extend(look.into_iter().chain(tables).map(|look| floats_of_mut(look.table.words_mut())));
        floats
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let mut places = self.norm.as_ref().map_or(vec![], LayerNorm::places);
        places.extend(self.linears().flat_map(Linear::places));
        let alone = |look: &Look| vec![Place::alone(look.slot.clone(), look.table.rows() * look.table.cols())];
        places.extend(self.looks().map(alone));
        places
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        if self.looks().any(|look| look.slot == slot) {
            return self.looks_mut().find(|look| look.slot == slot).map(|look| ValuesMut::Table(&mut look.table));
        }
        let Self { word, norm, projection, .. } = self;
        let tied = match word {
            Words::Table(_) | Words::Shared => None,
            Words::Tied(linear, _) => linear.slot_mut(slot),
        };
        tied.or_else(|| norm.as_mut()?.slot_mut(slot)).or_else(|| projection.as_mut()?.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = self.norm.as_ref().map_or(vec![], LayerNorm::pieces);
        pieces.extend(self.linears().flat_map(Linear::pieces));
        for Look { slot, table, .. } in self.looks() {
            let [words, scales] = table.words();
            pieces.push(Piece::new(slot, words));
            if !scales.is_empty() {
                pieces.push(Piece::new(scales_of(slot), scales));
            }
        }
        pieces
    }
}

/// The words that the projection reads of each token, in the order in which it reads them: behind it, its own, before it.
fn around<'a>(part: &Part<'a>) -> [&'a [u32]; 3] {
    let [next, previous] = part.neighbours;
    [next, part.ids, previous]
}

/// Some columns of each row, `size` of them, behind n times as many.
fn block_mut<'a>(rows: &'a mut MatMut, n: usize, size: usize) -> MatMut<'a> {
    let count = rows.rows();
    rows.reborrow().into_block(0..count, n * size..(n + 1) * size)
}

/// Ids that are there for those that are not.
fn somebody(ids: &[u32]) -> Vec<u32> {
    ids.iter().map(|id| if *id == NOBODY { 0 } else { *id }).collect()
}

/// Zeros where there is no word.
fn clear_nobody(ids: &[u32], mut rows: MatMut) {
    let nobody = ids.iter().enumerate().filter(|(_, id)| **id == NOBODY);
    nobody.for_each(|(t, _)| rows.row_mut(t).fill(0.0));
}

/// Zeros for those of some tokens, whose rows these are, that stand in padding.
fn clear_padding(part: &Part, tokens: Range<usize>, mut rows: MatMut) {
    for padding in part.padding() {
        let (start, end) = (padding.start.max(tokens.start), padding.end.min(tokens.end));
        (start..end).for_each(|t| rows.row_mut(t - tokens.start).fill(0.0));
    }
}
