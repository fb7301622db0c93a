//! Gated linear units (Shazeer 2020, arXiv 2002.05202): one half of a row is activated and multiplies the other.

use super::Activation;
use super::activation::{gated, gated_chain};
use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::MatMut;
use crate::threads::{Disjoint, Threads};

/// Rows (T, 2 N) of a gate and x -> activation(gate) x in their first half.
///
/// # Panics
/// If the columns are odd in number.
pub fn gate(level: Level, threads: &Threads, activation: Activation, rows: MatMut) {
    let (count, cols) = (rows.rows(), rows.cols());
    assert!(cols.is_multiple_of(2), "gate: columns");
    let rows = Disjoint::new(rows);
    threads.for_each_block(count, cols * 8, |range| {
        // SAFETY: the blocks of rows do not overlap.
        let rows = unsafe { rows.block(range, 0..cols) };
        dispatch_floats(level, Gate { activation, rows });
    });
}

struct Gate<'a> {
    activation: Activation,
    rows: MatMut<'a>,
}

impl Kernel for Gate<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let half = self.rows.cols() / 2;
        for r in 0..self.rows.rows() {
            let (gate, x) = self.rows.row_mut(r).split_at_mut(half);
            gated(isa, self.activation, [gate, x]);
        }
    }
}

/// Rows (T, 2 N) as [`gate`] read them, and in the first half of d (T, 2 N) the gradient of what it made -> rows as it left them, and
/// their gradient in d; on this thread.
///
/// # Panics
/// If the shapes disagree.
pub fn gate_backward(level: Level, activation: Activation, rows: MatMut, d: MatMut) {
    assert!(
        (rows.rows(), rows.cols()) == (d.rows(), d.cols()) && d.cols().is_multiple_of(2),
        "gate_backward: rows and d"
    );
    dispatch_floats(level, Backward { activation, rows, d });
}

struct Backward<'a> {
    activation: Activation,
    rows: MatMut<'a>,
    d: MatMut<'a>,
}

impl Kernel for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let half = self.d.cols() / 2;
        for r in 0..self.d.rows() {
            let (gate, x) = self.rows.row_mut(r).split_at_mut(half);
            let (d_gate, d_x) = self.d.row_mut(r).split_at_mut(half);
            gated_chain(isa, self.activation, [gate, x, d_gate, d_x]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, Random, for_every_level, lanes, slope};

    const ALL: [Activation; 5] =
        [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu, Activation::Tanh];

    #[test]
    fn a_row_is_the_twins() {
        let mut random = Random(81);
        for_every_level(|level| {
            for (half, activation) in (1..=2 * lanes(level) + 3).flat_map(|half| ALL.map(|f| (half, f))) {
                let x: Vec<f32> = random.floats(3 * 2 * half).iter().map(|x| x * 4.0).collect();
                let mut rows = Guarded::new(&x, 3, 2 * half, 3, 1);
                gate(level, &Threads::new(2), activation, rows.mat_mut());
                for (r, x) in x.chunks(2 * half).enumerate() {
                    let got = rows.mat().row(r);
                    assert_eq!(got[half..], x[half..]);
                    for (i, exact) in naive::gate(activation, x).into_iter().enumerate() {
                        let allowed = 4e-7 * f64::from(x[i].abs().max(1e-3) * x[half + i].abs());
                        assert!((f64::from(got[i]) - exact).abs() <= allowed, "{activation:?} {}: {exact}", got[i]);
                    }
                }
            }
        });
    }

    #[test]
    fn the_gradient_is_the_twins_slope() {
        let mut random = Random(82);
        for_every_level(|level| {
            for (half, activation) in [1, 5, 2 * lanes(level) + 3].into_iter().flat_map(|half| ALL.map(|f| (half, f))) {
                let (x, d) = (random.floats(2 * half), random.floats(half));
                let mut rows = Guarded::new(&x, 1, 2 * half, 0, 1);
                let mut d_rows = Guarded::new(&[&d[..], &vec![f32::NAN; half]].concat(), 1, 2 * half, 0, 2);
                gate_backward(level, activation, rows.mat_mut(), d_rows.mat_mut());
                let mut made = Guarded::new(&x, 1, 2 * half, 0, 3);
                gate(level, &Threads::serial(), activation, made.mat_mut());
                assert_eq!(rows.values(), made.values());
                for i in (0..2 * half).filter(|i| activation != Activation::Relu || x[i % half].abs() > 0.01) {
                    let exact = slope(
                        |v| {
                            let (at, v) = (
                                i % half,
                                if i < half { (v, f64::from(x[half + i])) } else { (f64::from(x[i - half]), v) },
                            );
                            naive::activation(activation, v.0) * v.1 * f64::from(d[at])
                        },
                        f64::from(x[i]),
                    );
                    assert!((f64::from(d_rows.values()[i]) - exact).abs() < 1e-6, "{activation:?} {i} of {half}");
                }
            }
        });
    }
}
