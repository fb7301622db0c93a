//! Rotary position embeddings (Su et al. 2021, arXiv 2104.09864): pairs of channels turned by angles that grow with the position,
//! so that a query's product with a key depends on their distance.
//!
//!   (a, b) -> (a cos - b sin, b cos + a sin)

use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::mat::{Mat, MatMut};
use crate::rows::update;

/// How heads are turned.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// (T, 2 P): the cosines of each token's P angles, then the sines.
    pub angles: Mat<'a>,
    pub head_dim: usize,
    /// Whether the pairs are neighbours, (0, 1), (2, 3), ...; else they are (0, P), (1, P + 1), ...
    pub interleaved: bool,
    /// The other way: of gradients.
    pub back: bool,
}

/// Each head of each row of x (T, heads x head_dim), in place, on this thread. Channels from 2 P on stay as they are.
///
/// # Panics
/// If the shapes disagree.
pub fn rotary(level: Level, turn: Turn, x: MatMut) {
    let (angles, dim) = (turn.angles, turn.head_dim);
    assert!(angles.rows() == x.rows() && angles.cols() <= dim && angles.cols().is_multiple_of(2), "rotary: angles");
    assert!(x.cols().is_multiple_of(dim), "rotary: heads");
    dispatch_floats(level, Rotary { turn, x });
}

struct Rotary<'a> {
    turn: Turn<'a>,
    x: MatMut<'a>,
}

impl Kernel for Rotary<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(mut self, isa: I) {
        let Turn { angles, head_dim, interleaved, back } = self.turn;
        let pairs = angles.cols() / 2;
        let sign = if back { -1.0 } else { 1.0 };
        let signs = isa.splat(sign);
        for r in 0..self.x.rows() {
            let (cos, sin) = angles.row(r).split_at(pairs);
            for head in self.x.row_mut(r).chunks_exact_mut(head_dim) {
                if interleaved {
                    for ((pair, cos), sin) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
                        let (a, b, sin) = (pair[0], pair[1], sin * sign);
                        (pair[0], pair[1]) = (a * cos - b * sin, b * cos + a * sin);
                    }
                    continue;
                }
                let (a, rest) = head.split_at_mut(pairs);
                update(isa, [a, &mut rest[..pairs]], [cos, sin], #[inline(always)] |[a, b], [cos, sin]| {
                    let sin = isa.mul(sin, signs);
                    [isa.sub(isa.mul(a, cos), isa.mul(b, sin)), isa.mul_add(b, cos, isa.mul(a, sin))]
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, Random, for_every_level, lanes};

    #[test]
    fn a_row_is_the_twins_and_turned_back_it_is_itself() {
        let mut random = Random(91);
        for_every_level(|level| {
            for (pairs, interleaved) in (0..=2 * lanes(level) + 3).flat_map(|pairs| [(pairs, false), (pairs, true)]) {
                let (heads, rows, head_dim) = (3, 2, 2 * pairs + 3);
                let x = random.floats(rows * heads * head_dim);
                let angles: Vec<f32> = (0..rows)
                    .flat_map(|_| {
                        let angles: Vec<f32> = random.floats(pairs).iter().map(|x| x * 100.0).collect();
                        angles.iter().map(|x| x.cos()).chain(angles.iter().map(|x| x.sin())).collect::<Vec<_>>()
                    })
                    .collect();
                let mut got = Guarded::new(&x, rows, heads * head_dim, 2, 1);
                let turn = Turn { angles: Mat::dense(&angles, rows, 2 * pairs), head_dim, interleaved, back: false };
                rotary(level, turn, got.mat_mut());
                for r in 0..rows {
                    let row = &x[r * heads * head_dim..][..heads * head_dim];
                    let twin = naive::rotary(row, turn.angles.row(r), head_dim, interleaved);
                    for (got, exact) in got.mat().row(r).iter().zip(twin) {
                        assert!((f64::from(*got) - exact).abs() <= 2.4e-7, "{got} and {exact}");
                    }
                }
                rotary(level, Turn { back: true, ..turn }, got.mat_mut());
                for (got, x) in got.values().iter().zip(&x) {
                    assert!((got - x).abs() <= 6e-7, "{got} and {x}");
                }
            }
        });
    }
}
