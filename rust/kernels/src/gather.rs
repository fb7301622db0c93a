//! Embedding look-up: the sum of one row from each of several tables.

use crate::isa::{Isa, Kernel, Level, dispatch};
use crate::mat::{Mat, MatMut};
use crate::rows::zip_map;

/// `out[t] = tables[0][ids[0][t]] + tables[1][ids[1][t]] + ...`, added in that order: out (T, H), tables (V, H), ids (T,).
///
/// # Panics
/// If the shapes disagree or an id has no row: the caller has checked them.
pub fn gather_add<const N: usize>(level: Level, tables: [(Mat, &[u32]); N], mut out: MatMut) {
    for (table, ids) in &tables {
        assert_eq!((table.cols(), ids.len()), (out.cols(), out.rows()), "gather_add: a table and its ids");
    }
    for t in 0..out.rows() {
        let rows = tables.map(|(table, ids)| table.row(ids[t] as usize));
        dispatch(level, Add { rows, out: out.row_mut(t) });
    }
}

struct Add<'a, const N: usize> {
    rows: [&'a [f32]; N],
    out: &'a mut [f32],
}

impl<const N: usize> Kernel for Add<'_, N> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(self, isa: I) {
        zip_map(isa, self.rows, self.out, #[inline(always)] |vectors| {
            vectors.into_iter().reduce(#[inline(always)] |a, b| isa.add(a, b)).unwrap_or(isa.splat(0.0))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, NASTY, Random, assert_same_bits, for_every_level, lanes};

    /// Every sum of three floats in this order, rounded twice, is what `+` gives.
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
                        (0..5 * width).map(|i| element(0, i) + element(1, i) + element(2, i)).collect();
                    let guarded = tables.map(|(rows, table)| Guarded::new(&table, rows, width, 2, offset));
                    let mut out = Guarded::output(5, width, 3, offset + 1);
                    let [a, b, c] = &guarded;
                    let tables = [(a.mat(), ids[0]), (b.mat(), ids[1]), (c.mat(), ids[2])];
                    gather_add(level, tables, out.mat_mut());
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
            let tables = [(Mat::dense(&words, 7, 33), &ids[..]), (Mat::dense(&positions, 4, 33), &places)];
            gather_add(level, tables, out.mat_mut());
            assert_same_bits(&out.values(), &expected, format_args!("two tables"));
        });
    }

    #[test]
    fn one_table_is_copied_whatever_it_holds() {
        for_every_level(|level| {
            let mut out = Guarded::output(2, NASTY.len(), 0, 0);
            gather_add(level, [(Mat::dense(&NASTY, 1, NASTY.len()), &[0, 0])], out.mat_mut());
            assert_same_bits(&out.values(), &[NASTY, NASTY].concat(), format_args!("one table"));
        });
    }

    #[test]
    #[should_panic]
    fn an_id_without_a_row_is_refused() {
        gather_add(Level::best(), [(Mat::dense(&[0.0; 6], 2, 3), &[2])], MatMut::dense(&mut [0.0; 3], 1, 3));
    }
}
