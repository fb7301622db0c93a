//! Embedding look-up: the sum of one row from each of several tables.

use crate::add::add;
use crate::buffer::{NoMemory, floats_of_mut, words_of};
use crate::gemm::{PackedLinear, Pair, Precision};
use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::{Mat, MatMut};
use crate::narrow::Quantise;
use crate::pieces::by_pieces;
use crate::stored::Stored;
use crate::threads::{Disjoint, Threads};

/// Rows to be looked up, (V, H), each stored as f32, as bf16, or as int8 with a scale.
pub struct Table {
    words: Stored<u32>,
    scales: Stored,
    rows: usize,
    cols: usize,
    precision: Precision,
}

impl Table {
    /// Words and scales that so many rows take; `usize::MAX` where nothing could hold them.
    pub fn lens(precision: Precision, rows: usize, cols: usize) -> [usize; 2] {
        let words = rows.saturating_mul(cols.div_ceil(precision.per_word()));
        [words, if precision == Precision::Int8 { rows } else { 0 }]
    }

    /// All zeros: to be filled by [`fill`](Self::fill).
    pub fn zeroed(precision: Precision, rows: usize, cols: usize) -> Result<Self, NoMemory> {
        let [words, scales] = Self::lens(precision, rows, cols);
        Ok(Table { words: Stored::zeroed(words)?, scales: Stored::zeroed(scales)?, rows, cols, precision })
    }

    /// From words and scales that lie ready.
    ///
    /// # Panics
    /// If their lengths are not [`lens`](Self::lens).
    pub fn of(precision: Precision, [rows, cols]: [usize; 2], words: Stored<u32>, scales: Stored) -> Self {
        assert_eq!([words.len(), scales.len()], Self::lens(precision, rows, cols), "a table of another size");
        Table { words, scales, rows, cols, precision }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }
    pub fn cols(&self) -> usize {
        self.cols
    }
    pub fn precision(&self) -> Precision {
        self.precision
    }
    /// What it holds: words, and the scales' bits.
    pub fn words(&self) -> [&[u32]; 2] {
        [&self.words, self.scales.words()]
    }

    /// To be changed in place.
    pub fn words_mut(&mut self) -> &mut [u32] {
        self.words.own_mut()
    }

    /// Sets all rows: `read(r, rows)` writes the rows `r..` (.., H), and is called for pieces side by side on all threads.
    pub fn fill<E: From<NoMemory> + Send>(
        &mut self,
        level: Level,
        threads: &Threads,
        read: impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let (rows, cols, precision) = (self.rows, self.cols, self.precision);
        let [words, scales] = [self.words.own_mut().len(), self.scales.own_mut().len()];
        let words = Disjoint::new(MatMut::dense(self.words.own_mut(), rows, words.checked_div(rows).unwrap_or(0)));
        let scales = Disjoint::new(MatMut::dense(self.scales.own_mut(), scales, 1));
        by_pieces(threads, rows, cols, read, |rows, floats| {
            for (r, row) in rows.zip(floats.chunks_exact(cols)) {
                // SAFETY: each row is in one piece.
                let mut words = unsafe { words.block(r..r + 1, 0..cols.div_ceil(precision.per_word())) };
                let words = words.row_mut(0);
                match precision {
                    Precision::Float32 => words.copy_from_slice(words_of(row)),
                    Precision::BFloat16 => dispatch_floats(level, Pair { row, words }),
                    Precision::Int8 => {
                        // SAFETY: as above.
                        let mut scale = unsafe { scales.block(r..r + 1, 0..1) };
                        scale.row_mut(0)[0] = dispatch_floats(level, Quantise { row, words }).0;
                    }
                }
            }
        })
    }

    /// Row `r` as it is looked up.
    pub fn row(&self, level: Level, r: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.cols];
        dispatch_floats(level, Look { source: Lookup::Table(self), r, factor: 1.0, out: &mut out, add: false });
        out
    }

    fn words_of(&self, r: usize) -> &[u32] {
        let width = self.cols.div_ceil(self.precision.per_word());
        &self.words[r * width..][..width]
    }
}

/// Where rows come from.
#[derive(Clone, Copy)]
pub enum Lookup<'a> {
    Table(&'a Table),
    /// The weights of a linear layer's outputs, (N, K).
    Weights(&'a PackedLinear),
    Floats(Mat<'a>),
}

impl Lookup<'_> {
    fn cols(&self) -> usize {
        match self {
            Lookup::Table(table) => table.cols,
            Lookup::Weights(packed) => packed.inputs(),
            Lookup::Floats(mat) => mat.cols(),
        }
    }
}

/// `out[t] = factors[0] sources[0][ids[0][t]] + factors[1] sources[1][ids[1][t]] + ...`, added in that order: out (T, H), sources (V, H), ids (T,).
///
/// # Panics
/// If the shapes disagree or an id has no row: the caller has checked them.
pub fn gather_add(level: Level, sources: &[(Lookup, &[u32], f32)], mut out: MatMut) {
    for (source, ids, _) in sources {
        assert_eq!((source.cols(), ids.len()), (out.cols(), out.rows()), "gather_add: a table and its ids");
    }
    for t in 0..out.rows() {
        for (i, (source, ids, factor)) in sources.iter().enumerate() {
            let (source, factor, out) = (*source, *factor, out.row_mut(t));
            dispatch_floats(level, Look { source, r: ids[t] as usize, factor, out, add: i > 0 });
        }
    }
}

/// `table[ids[t]] += rows[t]` for every token t in order but those whose id is `skip`: the gradient of a look-up. Rows (T, H),
/// table (V, H) in f32.
///
/// Each element of the table is one sum in the order of the tokens, on any number of threads.
///
/// # Panics
/// If the shapes disagree, an id has no row, or the table is not in f32.
pub fn scatter_add(level: Level, threads: &Threads, rows: Mat, ids: &[u32], skip: Option<u32>, table: &mut Table) {
    const COLUMNS: usize = 64;
    assert_eq!((rows.rows(), rows.cols()), (ids.len(), table.cols), "scatter_add: rows and ids");
    assert_eq!(table.precision, Precision::Float32, "scatter_add: the table");
    let (count, cols) = (table.rows, table.cols);
    let table = Disjoint::new(MatMut::dense(floats_of_mut(table.words.own_mut()), count, cols));
    threads.for_each_block(cols.div_ceil(COLUMNS), rows.rows() * COLUMNS, |blocks| {
        let columns = blocks.start * COLUMNS..cols.min(blocks.end * COLUMNS);
        for (t, id) in ids.iter().enumerate().filter(|(_, id)| Some(**id) != skip) {
            // SAFETY: the blocks of columns do not overlap.
            let row = unsafe { table.block(*id as usize..*id as usize + 1, columns.clone()) };
            add(level, rows.block(t..t + 1, columns.clone()), row);
        }
    });
}

/// One row, written or added.
struct Look<'a> {
    source: Lookup<'a>,
    r: usize,
    factor: f32,
    out: &'a mut [f32],
    add: bool,
}

impl Kernel for Look<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(self, isa: I) {
        let Look { source, r, factor, out, add } = self;
        match source {
            Lookup::Weights(packed) => {
                let row = packed.weights_of(r);
                put(isa, out, add, factor, row.len(), #[inline(always)] |p| {
                    // SAFETY: `put` asks for vectors inside the row.
                    unsafe { isa.load(row.as_ptr().add(p)) }
                }, #[inline(always)] |p| row[p]);
            }
            Lookup::Floats(mat) => {
                let row = mat.row(r);
                put(isa, out, add, factor, row.len(), #[inline(always)] |p| {
                    // SAFETY: `put` asks for vectors inside the row.
                    unsafe { isa.load(row.as_ptr().add(p)) }
                }, #[inline(always)] |p| row[p]);
            }
            Lookup::Table(table) => {
                let words = table.words_of(r);
                match table.precision {
                    Precision::Float32 => {
                        put(isa, out, add, factor, words.len(), #[inline(always)] |p| {
                            // SAFETY: as above.
                            isa.as_floats(unsafe { isa.load_words(words.as_ptr().add(p)) })
                        }, #[inline(always)] |p| f32::from_bits(words[p]));
                    }
                    Precision::BFloat16 => {
                        put(isa, out, add, factor, 2 * words.len(), #[inline(always)] |p| {
                            // SAFETY: as above, two halves a word.
                            isa.low_bf16(unsafe { isa.load_halves(words.as_ptr().cast::<u16>().add(p)) })
                        }, #[inline(always)] |p| f32::from_bits(words[p / 2] << (16 - 16 * (p % 2)) & 0xffff_0000));
                    }
                    Precision::Int8 => {
                        let scale = table.scales[r];
                        put(isa, out, add, factor, 4 * words.len(), #[inline(always)] |p| {
                            // SAFETY: as above, four bytes a word.
                            let q = unsafe { isa.load_signed_bytes(words.as_ptr().cast::<i8>().add(p)) };
                            isa.mul(isa.to_floats(q), isa.splat(scale))
                        }, #[inline(always)] |p| f32::from(words[p / 4].to_le_bytes()[p % 4].cast_signed()) * scale);
                    }
                }
            }
        }
    }
}

/// Writes or adds so many times a row that is read a vector at a time, its tail one by one.
#[inline(always)]
fn put<I: Isa>(
    isa: I,
    out: &mut [f32],
    add: bool,
    factor: f32,
    len: usize,
    vector: impl Fn(usize) -> I::V,
    single: impl Fn(usize) -> f32,
) {
    assert!(out.len() <= len);
    let whole = out.len() - out.len() % I::LANES;
    for p in (0..whole).step_by(I::LANES) {
        let place = out[p..p + I::LANES].as_mut_ptr();
        // SAFETY: a vector of `out`.
        unsafe {
            let (v, factor) = (vector(p), isa.splat(factor));
            let v = isa.mul(v, factor);
            isa.store(place, if add { isa.add(isa.load(place), v) } else { v });
        }
    }
    for (p, place) in out.iter_mut().enumerate().skip(whole) {
        let x = single(p) * factor;
        *place = if add { *place + x } else { x };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, NASTY, Random, assert_same_bits, for_every_level, lanes};

    /// Every sum of three floats in this order, products and sums rounded, is what `*` and `+` give.
    #[test]
    fn sums_are_those_of_plain_additions() {
        let mut random = Random(9);
        for_every_level(|level| {
            for width in 0..=4 * lanes(level) + 3 {
                for offset in 0..lanes(level) {
                    let tables = [5, 3, 1].map(|rows| (rows, random.floats(rows * width)));
                    let ids: [&[u32]; 3] = [&[4, 0, 4, 2, 1], &[0, 2, 2, 1, 0], &[0; 5]];
                    let element = |n: usize, i: usize| tables[n].1[ids[n][i / width] as usize * width + i % width];
                    let plain: Vec<f32> =
                        (0..5 * width).map(|i| 0.3 * element(0, i) + element(1, i) + 7.1 * element(2, i)).collect();
                    let guarded = tables.map(|(rows, table)| Guarded::new(&table, rows, width, 2, offset));
                    let mut out = Guarded::output(5, width, 3, offset + 1);
                    let [a, b, c] = &guarded;
                    let tables = [(a, ids[0], 0.3), (b, ids[1], 1.0), (c, ids[2], 7.1)]
                        .map(|(table, ids, factor)| (Lookup::Floats(table.mat()), ids, factor));
                    gather_add(level, &tables, out.mat_mut());
                    assert_same_bits(&out.values(), &plain, format_args!("width {width} at {offset}"));
                }
            }
        });
    }

    #[test]
    fn two_tables_are_rounded_once() {
        let (words, positions) = (Random(10).floats(7 * 33), Random(11).floats(4 * 33));
        let (ids, places) = ([6, 0, 3], [0, 1, 2]);
        let exact = naive::gather_add(&[(&words, &ids), (&positions, &places)], 33);
        let expected: Vec<f32> = exact.iter().map(|x| *x as f32).collect();
        for_every_level(|level| {
            let mut out = Guarded::output(3, 33, 0, 0);
            let tables = [(&words, 7, &ids[..]), (&positions, 4, &places)];
            let tables = tables.map(|(table, rows, ids)| (Lookup::Floats(Mat::dense(table, rows, 33)), ids, 1.0));
            gather_add(level, &tables, out.mat_mut());
            assert_same_bits(&out.values(), &expected, format_args!("two tables"));
        });
    }

    #[test]
    fn one_table_is_copied_whatever_it_holds() {
        for_every_level(|level| {
            let mut out = Guarded::output(2, NASTY.len(), 0, 0);
            let table = Lookup::Floats(Mat::dense(&NASTY, 1, NASTY.len()));
            gather_add(level, &[(table, &[0, 0], 1.0)], out.mat_mut());
            assert_same_bits(&out.values(), &[NASTY, NASTY].concat(), format_args!("one table"));
        });
    }

    #[test]
    #[should_panic]
    fn an_id_without_a_row_is_refused() {
        let table = Lookup::Floats(Mat::dense(&[0.0; 6], 2, 3));
        gather_add(Level::best(), &[(table, &[2], 1.0)], MatMut::dense(&mut [0.0; 3], 1, 3));
    }

    #[test]
    fn scattered_rows_add_up_in_order() {
        let mut random = Random(3);
        for_every_level(|level| {
            for (tokens, rows, cols) in [(0, 3, 5), (40, 7, 1), (300, 5, 130)] {
                let ids: Vec<u32> = (0..tokens).map(|_| (random.next() % rows as u64) as u32).collect();
                let x = random.floats(tokens * cols);
                let mut exact = vec![0f32; rows * cols];
                for (t, id) in ids.iter().enumerate().filter(|(_, id)| **id != 2) {
                    (0..cols).for_each(|c| exact[*id as usize * cols + c] += x[t * cols + c]);
                }
                for threads in [1, 3] {
                    let mut table = Table::zeroed(Precision::Float32, rows, cols).unwrap();
                    scatter_add(level, &Threads::new(threads), Mat::dense(&x, tokens, cols), &ids, Some(2), &mut table);
                    assert_eq!(crate::buffer::floats_of(table.words()[0]), exact);
                }
            }
        });
    }
}
