//! The other product of training: sums over rows, of what a layer read and of the gradient of what it made.
//!
//!   c[i][j] += sum over m of x[m][i] b[m][j]        x (M, I), b (M, J), c (I, J)
//!
//! Both operands are read where they lie: a step of m is a few neighbours of a row of x, each broadcast, and two vectors
//! of a row of b. Nothing is packed or transposed. Each element is one chain of additions in the order of m, wherever m, i and
//! j are cut, so that a gradient has the same bits on any number of threads, and sums go on where a batch before left them.

use std::ops::Range;

use super::block::tiles;
use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::{Mat, MatMut};
use crate::threads::{Disjoint, Threads};

/// Steps of m for which the sums stay in registers: two vectors of b for each lie in the second-level cache.
const SLICE: usize = 1024;
/// Columns of x whose slice stays in the second-level cache while one panel after the other of b goes by.
const COLUMNS: usize = 98;
/// Panels of a task.
const PANELS: usize = 8;
/// How many rows ahead x and b are asked for: rows lie far apart, which no hardware foresees.
const AHEAD: usize = 8;

/// The gradient of a [`PackedLinear`](super::PackedLinear)'s weights and biases, from what it read, x (M, K), and the gradient of
/// what it made, dy (M, N): added to `gradient`, which lies as the weights do.
///
///   dW = dy^T x,  db = the sum of dy's rows
///
/// Every element is one sum in the order of the rows, within M ULP of the sum of |dy x|.
///
/// # Panics
/// If the shapes disagree.
pub fn weight_gradient(level: Level, threads: &Threads, x: Mat, dy: Mat, gradient: &mut [f32]) {
    let (panel, depth, outputs) = (level.panel(), x.cols(), dy.cols());
    assert_eq!(x.rows(), dy.rows(), "weight_gradient: rows");
    let panels = outputs.div_ceil(panel);
    assert_eq!(gradient.len(), panels * panel * (depth + 1), "weight_gradient: gradient");
    let gradient = Disjoint::new(MatMut::dense(gradient, panels * (depth + 1), panel));
    let (groups, blocks) = (panels.div_ceil(PANELS), depth.div_ceil(COLUMNS));
    let alone = Threads::serial();
    let threads = if x.rows() * depth * outputs < LEAST_SHARED { &alone } else { threads };
    threads.for_each(groups * blocks, |_, task| {
        let (group, block) = (task / blocks, task % blocks);
        let inputs = depth * block / blocks..depth * (block + 1) / blocks;
        for p in panels * group / groups..panels * (group + 1) / groups {
            let columns = p * panel..outputs.min((p + 1) * panel);
            let (start, b) = (p * (depth + 1), dy.block(0..dy.rows(), columns.clone()));
            // SAFETY: tasks have different panels or different rows of them; the head is the first block's.
            let c = unsafe { gradient.block(start + 1 + inputs.start..start + 1 + inputs.end, 0..columns.len()) };
            dispatch_floats(level, Outer { x: x.block(0..x.rows(), inputs.clone()), b, c });
            if block == 0 {
                // SAFETY: as above.
                let head = unsafe { gradient.block(start..start + 1, 0..columns.len()) };
                dispatch_floats(level, SumRows { b, head });
            }
        }
    });
}

/// Multiply-adds below which a gradient is not worth a second thread.
const LEAST_SHARED: usize = 1 << 18;

struct Outer<'a> {
    x: Mat<'a>,
    b: Mat<'a>,
    c: MatMut<'a>,
}

impl Kernel for Outer<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        outer(isa, self.x, self.b, self.c);
    }
}

/// `head += the sum of the rows of b`, row by row.
struct SumRows<'a> {
    b: Mat<'a>,
    head: MatMut<'a>,
}

impl Kernel for SumRows<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let head = self.head.row_mut(0);
        let mut sums = Columns::load(isa, head);
        for m in 0..self.b.rows() {
            let row = Columns::load(isa, self.b.row(m));
            sums = Columns([isa.add(sums.0[0], row.0[0]), isa.add(sums.0[1], row.0[1])]);
        }
        sums.store(isa, head);
    }
}

/// `c += x^T b` on one thread.
#[inline(always)]
pub(crate) fn outer<I: Isa>(isa: I, x: Mat, b: Mat, mut c: MatMut) {
    assert!(x.rows() == b.rows() && (c.rows(), c.cols()) == (x.cols(), b.cols()), "outer: shapes");
    for m in (0..x.rows()).step_by(SLICE) {
        let m = m..x.rows().min(m + SLICE);
        for first in (0..b.cols()).step_by(I::PANEL) {
            let columns = first..b.cols().min(first + I::PANEL);
            for rows in tiles(0..x.cols(), I::TILE_ROWS) {
                let tile = c.reborrow().into_block(rows.clone(), columns.clone());
                tile_of(isa, x.block(m.clone(), rows), b.block(m.clone(), columns.clone()), tile);
            }
        }
    }
}

/// The instance of [`tile`] for the given rows.
#[inline(always)]
fn tile_of<I: Isa>(isa: I, x: Mat, b: Mat, c: MatMut) {
    macro_rules! instances {
        ($($r:literal)*) => {
            match x.cols() {
                // The guard is a constant: a tile that is too tall for the registers is not compiled.
                $($r if $r <= I::TILE_ROWS && b.cols() == I::PANEL => tile::<I, $r, true>(isa, x, b, c),)*
                $($r if $r <= I::TILE_ROWS => tile::<I, $r, false>(isa, x, b, c),)*
                rows => unreachable!("no tile of {rows} rows"),
            }
        };
    }
    instances! { 1 2 3 4 5 6 7 8 9 10 11 12 13 14 }
}

/// R columns of x by a panel of b or, where it is not WHOLE, by what there is of one.
#[inline(always)]
fn tile<I: Isa, const R: usize, const WHOLE: bool>(isa: I, x: Mat, b: Mat, mut c: MatMut) {
    assert!(x.cols() == R && x.rows() == b.rows() && c.rows() == R && (!WHOLE || b.cols() == I::PANEL));
    let mut sums = [[isa.splat(0.0); 2]; R];
    for (r, sums) in sums.iter_mut().enumerate() {
        *sums = Columns::load(isa, c.row_mut(r)).0;
    }
    let (x_ptr, x_stride, b_ptr, b_stride) = (x.as_ptr(), x.stride(), b.as_ptr(), b.stride());
    for m in 0..x.rows() {
        let [u, v] = if WHOLE {
            let next = b_ptr.wrapping_add((m + AHEAD) * b_stride).cast();
            isa.prefetch(next);
            isa.prefetch(next.wrapping_add(I::LANES));
            // SAFETY: row m of b has PANEL columns.
            unsafe { [isa.load(b_ptr.add(m * b_stride)), isa.load(b_ptr.add(m * b_stride + I::LANES))] }
        } else {
            Columns::load(isa, b.row(m)).0
        };
        isa.prefetch(x_ptr.wrapping_add((m + AHEAD) * x_stride).cast());
        for (r, [left, right]) in sums.iter_mut().enumerate() {
            // SAFETY: row m of x has R columns.
            let x = isa.splat(unsafe { *x_ptr.add(m * x_stride + r) });
            *left = isa.mul_add(x, u, *left);
            *right = isa.mul_add(x, v, *right);
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        Columns::<I>(sums).store(isa, c.row_mut(r));
    }
}

/// Up to a panel of columns.
struct Columns<I: Isa>([I::V; 2]);

impl<I: Isa> Columns<I> {
    #[inline(always)]
    fn load(isa: I, row: &[f32]) -> Self {
        // A closure for `array::map` would not always be inlined.
        let mut all = [isa.splat(0.0); 2];
        for (i, v) in all.iter_mut().enumerate() {
            *v = match Self::part(row.len(), i) {
                // SAFETY: the row holds the vector.
                part if part.len() == I::LANES => unsafe { isa.load(row[part].as_ptr()) },
                part => isa.load_first(&row[part], 0.0),
            };
        }
        Columns(all)
    }

    #[inline(always)]
    fn store(self, isa: I, row: &mut [f32]) {
        for (i, v) in self.0.into_iter().enumerate() {
            match Self::part(row.len(), i) {
                // SAFETY: the row holds the vector.
                part if part.len() == I::LANES => unsafe { isa.store(row[part].as_mut_ptr(), v) },
                part => isa.store_first(&mut row[part], v),
            }
        }
    }

    /// Where vector i of a row of `len` columns stands.
    #[inline(always)]
    fn part(len: usize, i: usize) -> Range<usize> {
        len.min(i * I::LANES)..len.min((i + 1) * I::LANES)
    }
}
