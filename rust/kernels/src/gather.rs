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
    fn run<I: Isa>(self, isa: I) {
        zip_map(isa, self.rows, self.out, #[inline(always)] |vectors| {
            vectors.into_iter().reduce(#[inline(always)] |a, b| isa.add(a, b)).unwrap_or(isa.splat(0.0))
        });
    }
}
