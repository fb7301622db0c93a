//! A ragged batch: the tokens of all sequences end to end. Padding is dropped here, at the door.

use std::ops::Range;

use ferroformer_kernels::Mat;

use crate::blueprint::Blueprint;
use crate::error::{ModelError, Result};
use crate::ingredients::Embeddings;

/// Row-major (B, W) arguments of a call, as the caller padded them.
#[derive(Clone, Copy, Default)]
pub struct Padded<'a> {
    pub rows: usize,
    pub width: usize,
    /// (B, W); this or `embeds`.
    pub ids: Option<&'a [i64]>,
    /// (B, W, E), in place of word vectors.
    pub embeds: Option<&'a [f32]>,
    /// (B, W) of 1 and 0; all ones where there is none.
    pub mask: Option<&'a [i64]>,
    /// (B, W); zeros where there are none.
    pub types: Option<&'a [i64]>,
    /// (B, W), of another table of the kind; zeros where there are none.
    pub tasks: Option<&'a [i64]>,
    /// (B, W); 0, 1, 2, ... along each row where there are none, or along its tokens, as the model counts them.
    pub positions: Option<&'a [i64]>,
    /// (B,): the first position of each row, where they are counted from another than the model's first.
    pub first_positions: Option<&'a [u32]>,
    /// Whether what is masked is computed too, as tokens that attend and that none attends to.
    pub compute_padding: bool,
    /// (B, W) of 1 and 0: the tokens that a head on tokens reads; all where there is none.
    pub selected: Option<&'a [i64]>,
}

pub struct Batch<'a> {
    ids: Vec<u32>,
    types: Vec<u32>,
    /// Empty where the model has no such table.
    tasks: Vec<u32>,
    positions: Vec<u32>,
    /// (S,): the position of each row's next token, where that is not the one behind its last.
    next: Vec<u32>,
    /// Where a token stands in its padded row.
    columns: Vec<usize>,
    /// Sequence s has the tokens `starts[s]..starts[s + 1]`.
    starts: Vec<usize>,
    width: usize,
    /// (S,): how many tokens of each sequence, the first ones, can be attended to; all where it is None.
    keys: Option<Vec<usize>>,
    /// The tokens that a head on tokens reads, counted from the batch's first; all where it is None.
    pub(crate) selected: Option<Vec<usize>>,
    /// Of each token what `ids` would be of those that stand behind it and before it in its padded row, masked or not, or
    /// [`NOBODY`]; empty where the model does not read them.
    neighbours: [Vec<u32>; 2],
    /// What `ids` point into, where it is not the vocabulary: (B x W, H).
    embeds: Option<Mat<'a>>,
}

/// Where a row ends.
pub(crate) const NOBODY: u32 = u32::MAX;

/// Some consecutive sequences of a batch.
pub(crate) struct Part<'a> {
    pub(crate) ids: &'a [u32],
    pub(crate) types: &'a [u32],
    pub(crate) tasks: &'a [u32],
    pub(crate) positions: &'a [u32],
    pub(crate) columns: &'a [usize],
    pub(crate) neighbours: [&'a [u32]; 2],
    /// As in the batch: the part's first token is number `starts[0]`.
    pub(crate) starts: &'a [usize],
    pub(crate) keys: Option<&'a [usize]>,
    /// Tokens of this part, by their numbers in the batch.
    pub(crate) selected: Option<&'a [usize]>,
    pub(crate) width: usize,
    pub(crate) embeds: Option<Mat<'a>>,
    /// Whose words are looked up, where a model has none of its own.
    pub(crate) shared: Option<&'a Embeddings>,
}

impl Part<'_> {
    pub(crate) fn tokens(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn sequences(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether its tokens lie as in the caller's (S, W): all are there, in the order of columns.
    pub(crate) fn is_padded(&self) -> bool {
        self.tokens() == self.sequences() * self.width
            && self.columns.iter().enumerate().all(|(t, column)| t % self.width == *column)
    }

    /// The tokens of each sequence, counted from the first token of the part.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let base = self.starts[0];
        self.starts.windows(2).map(move |pair| pair[0] - base..pair[1] - base)
    }

    /// The tokens in padding, counted from the first token of the part.
    pub(crate) fn padding(&self) -> impl Iterator<Item = Range<usize>> {
        let keys = self.keys.unwrap_or(&[]);
        self.ranges().zip(keys).map(|(rows, keys)| rows.start + keys..rows.end)
    }

    pub(crate) fn longest(&self) -> usize {
        self.ranges().map(|range| range.len()).max().unwrap_or(0)
    }
}

impl<'a> Batch<'a> {
    /// Every argument has B x W elements (x H for `embeds`), and every id is in its table.
    pub fn from_padded(padded: Padded<'a>, blueprint: &Blueprint) -> Result<Self> {
        let Padded { rows, width, ids, embeds, mask, types, tasks, positions, .. } = padded;
        let Padded { first_positions, compute_padding, selected, .. } = padded;
        if first_positions.is_some_and(|first| first.len() != rows) {
            let held = first_positions.map_or(0, <[u32]>::len);
            return Err(ModelError::Input(format!("past_key_values have {held} sequences, the batch has {rows}")));
        }
        let (limits, size) = (Limits::new(blueprint), blueprint.embedding_size());
        let count = rows.checked_mul(width).filter(|n| *n <= u32::MAX as usize);
        let count =
            count.ok_or_else(|| ModelError::Input(format!("a batch of {rows} x {width} tokens is too large")))?;
        if width == 0 && rows > 0 {
            return Err(ModelError::Input(format!("{rows} sequences of length 0; expected at least one token")));
        }
        let sizes = [ids, mask, types, tasks, positions, selected].map(|x| x.map(<[i64]>::len));
        if sizes.into_iter().flatten().any(|n| n != count)
            || embeds.is_some_and(|e| Some(e.len()) != count.checked_mul(size))
        {
            return Err(ModelError::Input(format!("an argument does not have the shape ({rows}, {width})")));
        }
        if ids.is_some() == embeds.is_some() {
            return Err(ModelError::Input("You must specify exactly one of input_ids or inputs_embeds".to_owned()));
        }
        let embeds = embeds.map(|e| Mat::dense(e, count, size));
        let mut batch = Batch { embeds, ..Self::empty(width) };
        batch.keys = compute_padding.then(Vec::new);
        batch.selected = selected.map(|_| vec![]);
        let is_token = |i: usize| mask.is_none_or(|mask| mask[i] != 0);
        for row in 0..rows {
            let all = row * width..(row + 1) * width;
            let tokens = all.clone().filter(|i| is_token(*i));
            if let Some(keys) = &mut batch.keys {
                keys.push(tokens.clone().count());
            }
            let padding = all.clone().filter(|i| compute_padding && !is_token(*i));
            let of_row = |x: Option<&'a [i64]>| x.map(|x| &x[all.clone()]);
            let first = first_positions.map(|first| first[row]);
            let counted = limits.count(of_row(ids), of_row(mask), width, first);
            batch.next.extend(limits.next(width, first));
            for i in tokens.chain(padding) {
                let column = i % width;
                let at = |argument, limit| Place { argument, row, column, limit };
                let word = |i: usize, column: usize| {
                    let place = Place { argument: limits.argument, row, column, limit: limits.words };
                    ids.map_or(Ok(i as u32), |x| place.check(x[i]))
                };
                batch.ids.push(word(i, column)?);
                if blueprint.embeddings.neighbours {
                    let [next, previous] = &mut batch.neighbours;
                    next.push(if column + 1 < width { word(i + 1, column + 1)? } else { NOBODY });
                    previous.push(if column > 0 { word(i - 1, column - 1)? } else { NOBODY });
                }
                batch.types.push(types.map_or(Ok(0), |x| at("token_type_ids", limits.types).check(x[i]))?);
                batch.positions.push(match positions {
                    Some(x) => at("position_ids", limits.positions - limits.offset).check(x[i])? + limits.offset as u32,
                    None => limits.row(counted[column], width)?,
                });
                if limits.tasks > 0 {
                    batch.tasks.push(tasks.map_or(Ok(0), |x| at("task_type_ids", limits.tasks).check(x[i]))?);
                }
                if let (Some(places), Some(wanted)) = (&mut batch.selected, selected)
                    && wanted[i] != 0
                {
                    places.push(batch.columns.len());
                }
                batch.columns.push(column);
            }
            batch.starts.push(batch.ids.len());
        }
        batch.check_gaps(blueprint)?;
        Ok(batch)
    }

    /// A distance is counted in tokens: an error where a model goes by distances and a row has padding between its tokens. Nor does
    /// padding before tokens see none of them, where it is computed behind them.
    fn check_gaps(&self, blueprint: &Blueprint) -> Result<()> {
        let gap = |row: &Range<usize>| self.columns[row.clone()].windows(2).any(|pair| pair[1] != pair[0] + 1);
        let order_counts = blueprint.counts_distances() || blueprint.attention.causal && self.keys.is_some();
        match self.starts.windows(2).map(|pair| pair[0]..pair[1]).position(|row| gap(&row)) {
            Some(row) if order_counts => Err(ModelError::Input(format!(
                "attention_mask has zeros between the ones of row {row}; a model with relative positions or windows wants padding at \
                 one side, and on the right where a loss is of padding too"
            ))),
            _ => Ok(()),
        }
    }

    /// Where tokens stand in rows (B, W), and nothing else of them.
    pub(crate) fn of_places(rows: usize, width: usize, mask: Option<&[i64]>) -> Result<Batch<'static>> {
        if mask.is_some_and(|mask| Some(mask.len()) != rows.checked_mul(width)) {
            return Err(ModelError::Input(format!("an attention mask does not have the shape ({rows}, {width})")));
        }
        let mut batch = Batch::empty(width);
        for row in 0..rows {
            batch.columns.extend((0..width).filter(|column| mask.is_none_or(|mask| mask[row * width + column] != 0)));
            batch.starts.push(batch.columns.len());
        }
        let count = batch.columns.len();
        (batch.ids, batch.types, batch.positions) = (vec![0; count], vec![0; count], vec![0; count]);
        Ok(batch)
    }

    /// Of ids alone, so that nothing is borrowed.
    pub fn from_ids(padded: Padded, blueprint: &Blueprint) -> Result<Batch<'static>> {
        if padded.embeds.is_some() {
            return Err(ModelError::Input("a batch to be learned from has input_ids, not inputs_embeds".to_owned()));
        }
        let batch = Batch::from_padded(padded, blueprint)?;
        let Batch { ids, types, tasks, positions, next, columns, starts, width, keys, selected, neighbours, .. } =
            batch;
        let embeds = None;
        Ok(Batch { ids, types, tasks, positions, next, columns, starts, width, keys, selected, neighbours, embeds })
    }

    /// Sequences end to end: `lengths[s]` tokens each.
    pub fn from_ragged(ids: &[i64], types: Option<&[i64]>, lengths: &[i64], blueprint: &Blueprint) -> Result<Self> {
        let limits = Limits::new(blueprint);
        let mut batch = Self::empty(0);
        let mut next = 0usize;
        for (row, &length) in lengths.iter().enumerate() {
            let end = usize::try_from(length).ok().and_then(|n| next.checked_add(n)).filter(|end| *end <= ids.len());
            let Some(end) = end else {
                return Err(ModelError::Input(format!(
                    "lengths[{row}] is {length}; {} tokens are left",
                    ids.len() - next
                )));
            };
            let counted = limits.count(Some(&ids[next..end]), None, end - next, None);
            for (column, i) in (next..end).enumerate() {
                let at = |argument, limit| Place { argument, row, column, limit };
                batch.ids.push(at("token_ids", limits.words).check(ids[i])?);
                let token_type = types.map_or(Some(0), |types| types.get(i).copied()).unwrap_or(-1);
                batch.types.push(at("token_type_ids", limits.types).check(token_type)?);
                batch.positions.push(limits.row(counted[column], end - next)?);
                if limits.tasks > 0 {
                    batch.tasks.push(0);
                }
                batch.columns.push(column);
            }
            if blueprint.embeddings.neighbours {
                let [behind, before] = &mut batch.neighbours;
                let words = &batch.ids[next..end];
                behind.extend(words.iter().skip(1).chain(&[NOBODY]).take(words.len()));
                before.extend([NOBODY].iter().chain(words).take(words.len()));
            }
            batch.starts.push(end);
            batch.width = batch.width.max(end - next);
            next = end;
        }
        if next != ids.len() {
            return Err(ModelError::Input(format!("lengths add up to {next}, there are {} token_ids", ids.len())));
        }
        Ok(batch)
    }

    fn empty(width: usize) -> Self {
        let (ids, types, tasks, positions, next, columns) = (vec![], vec![], vec![], vec![], vec![], vec![]);
        let (starts, neighbours) = (vec![0], [vec![], vec![]]);
        let (keys, selected, embeds) = (None, None, None);
        Batch { ids, types, tasks, positions, next, columns, starts, width, keys, selected, neighbours, embeds }
    }

    /// How many tokens a head on tokens reads, where it does not read all.
    pub fn selected(&self) -> Option<usize> {
        self.selected.as_ref().map(Vec::len)
    }

    pub(crate) fn sequences(&self) -> usize {
        self.starts.len() - 1
    }

    pub(crate) fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// The position of the token that comes behind those of sequence s, where it has some.
    pub(crate) fn next_position(&self, s: usize) -> Option<u32> {
        let last = self.positions[self.starts[s]..self.starts[s + 1]].last();
        self.next.get(s).copied().or(last.map(|last| last + 1))
    }

    pub(crate) fn starts(&self) -> &[usize] {
        &self.starts
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn part(&self, sequences: Range<usize>) -> Part<'_> {
        let starts = &self.starts[sequences.start..=sequences.end];
        let tokens = starts[0]..starts[sequences.len()];
        Part {
            ids: &self.ids[tokens.clone()],
            types: &self.types[tokens.clone()],
            tasks: if self.tasks.is_empty() { &[] } else { &self.tasks[tokens.clone()] },
            positions: &self.positions[tokens.clone()],
            columns: &self.columns[tokens.clone()],
            neighbours: self.neighbours.each_ref().map(|ids| ids.get(tokens.clone()).unwrap_or(&[])),
            starts,
            keys: self.keys.as_ref().map(|keys| &keys[sequences]),
            selected: self.selected.as_ref().map(|selected| {
                let before = |end: usize| selected.partition_point(|t| *t < end);
                &selected[before(tokens.start)..before(tokens.end)]
            }),
            width: self.width,
            embeds: self.embeds,
            shared: None,
        }
    }

    /// Consecutive sequences cut into parts to be worked on one by one, each by one thread if there are enough of them.
    ///
    /// A part has up to 256 tokens, which bounds the workspace, and fewer where that would leave threads idle; a
    /// sequence is never cut.
    pub(crate) fn parts(&self, threads: usize) -> Vec<Range<usize>> {
        const LEAST: usize = 64;
        const MOST: usize = 256;
        const PARTS_PER_THREAD: usize = 4;
        let target = (self.ids.len() / (threads * PARTS_PER_THREAD)).clamp(LEAST, MOST);
        let (mut parts, mut first) = (vec![], 0);
        for s in 1..=self.sequences() {
            let next = self.starts.get(s + 1).copied().unwrap_or(usize::MAX);
            if next - self.starts[first] > target {
                parts.push(first..s);
                first = s;
            }
        }
        parts
    }
}

/// How many rows each table has. What has no table is not limited, but for types, which are then all 0.
struct Limits {
    /// What words' ids are called: of a model that attends to another there are two such arguments.
    argument: &'static str,
    words: usize,
    types: usize,
    tasks: usize,
    positions: usize,
    /// The rows before position 0's.
    offset: usize,
    /// Whether positions count tokens, not columns.
    tokens: bool,
    /// The position from which those are counted that are not this word's, which has it.
    padding: Option<i64>,
}

impl Limits {
    fn new(blueprint: &Blueprint) -> Self {
        let e = &blueprint.embeddings;
        Limits {
            argument: if blueprint.source.is_some() { "decoder_input_ids" } else { "input_ids" },
            words: e.vocab_size,
            types: e.token_types.unwrap_or(1),
            tasks: e.task_types.unwrap_or(0),
            positions: e.positions.or(blueprint.attention.rotary_positions()).unwrap_or(u32::MAX as usize),
            offset: e.position_offset,
            tokens: e.position_offset > 0 && !e.position_columns,
            padding: e.padding_position.map(i64::from),
        }
    }

    /// The rows of the table of positions of a row whose caller gave none, counted from the model's first or from this one.
    fn count(&self, ids: Option<&[i64]>, mask: Option<&[i64]>, width: usize, first: Option<u32>) -> Vec<i64> {
        let (columns, offset) = (0..width as i64, self.offset as i64);
        let first = first.map(i64::from);
        match (self.padding, ids) {
            (None, _) if self.tokens && first.is_none() => {
                // What is masked has the row before the first one.
                let next = |counted: &mut i64, column: i64| {
                    let token = mask.is_none_or(|mask| mask[column as usize] != 0);
                    *counted += i64::from(token);
                    Some(if token { offset + *counted - 1 } else { offset - 1 })
                };
                columns.scan(0, next).collect()
            }
            (None, _) => columns.map(|column| column + first.unwrap_or(offset)).collect(),
            (Some(padding), None) => columns.map(|column| column + first.unwrap_or(padding + 1)).collect(),
            (Some(padding), Some(ids)) => {
                let next = |counted: &mut i64, id: &i64| {
                    *counted += i64::from(*id != padding);
                    Some(if *id == padding { padding } else { *counted })
                };
                ids.iter().scan(first.map_or(padding, |first| first - 1), next).collect()
            }
        }
    }

    /// The position behind so many columns where it is not the one behind the last token's: padding among these counts.
    fn next(&self, width: usize, first: Option<u32>) -> Option<u32> {
        let first = first.map_or(self.padding? + 1, i64::from);
        u32::try_from(first + width as i64).ok()
    }

    /// A row of the table of positions that was counted, of a sequence of so many tokens.
    fn row(&self, row: i64, tokens: usize) -> Result<u32> {
        u32::try_from(row).ok().filter(|row| (*row as usize) < self.positions).ok_or_else(|| self.too_long(tokens))
    }

    fn too_long(&self, tokens: usize) -> ModelError {
        let most = self.positions as i64 - self.padding.map_or(self.offset as i64, |padding| padding + 1);
        ModelError::Input(format!("sequences of {tokens} tokens are longer than the model's {most} positions"))
    }
}

/// Where an id stands, for the message if it is out of range.
struct Place {
    argument: &'static str,
    row: usize,
    column: usize,
    limit: usize,
}

impl Place {
    fn check(self, id: i64) -> Result<u32> {
        match u32::try_from(id) {
            Ok(checked) if (id as u64) < self.limit as u64 => Ok(checked),
            _ => {
                let Place { argument, row, column, limit } = self;
                Err(ModelError::Id { argument, row, column, id, limit })
            }
        }
    }
}
