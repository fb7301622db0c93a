//! Sums of rows.

use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::{Mat, MatMut};
use crate::rows::update;

/// `out += x`, both (T, H); on this thread.
///
/// # Panics
/// If the shapes disagree.
pub fn add(level: Level, x: Mat, out: MatMut) {
    assert_eq!((x.rows(), x.cols()), (out.rows(), out.cols()), "add: x and out");
    dispatch_floats(level, Add { x, out });
}

struct Add<'a> {
    x: Mat<'a>,
    out: MatMut<'a>,
}

impl Kernel for Add<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(mut self, isa: I) {
        for r in 0..self.x.rows() {
            update(isa, [self.out.row_mut(r)], [self.x.row(r)], #[inline(always)] |[sum], [x]| [isa.add(sum, x)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Guarded, Random, for_every_level, lanes};

    #[test]
    fn every_element_is_the_sum() {
        let mut random = Random(1);
        for_every_level(|level| {
            for cols in 0..=4 * lanes(level) + 3 {
                let (x, y) = (random.floats(3 * cols), random.floats(3 * cols));
                let (x, mut out) = (Guarded::new(&x, 3, cols, 2, 1), Guarded::new(&y, 3, cols, 1, 3));
                add(level, x.mat(), out.mat_mut());
                let exact: Vec<f32> = x.values().iter().zip(&y).map(|(x, y)| x + y).collect();
                assert_eq!(out.values(), exact);
            }
        });
    }
}
