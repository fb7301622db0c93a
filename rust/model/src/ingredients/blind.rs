//! Tokens that no key is in reach of. They stand in padding, where only the loss of question answering looks; the reference gives them
//! the mean of the values of all tokens of their padded row, for the softmax of equal scores is uniform, however low they are.

use std::ops::Range;

use ferroformer_kernels::{Mat, MatMut};

use crate::batch::Part;

/// Of each sequence that has any: its rows, and those of them, the last ones. A token in padding attends as far as `window`;
/// `masked`: not at all.
pub(super) fn blind<'a>(
    part: &'a Part,
    window: Option<usize>,
    masked: bool,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + 'a {
    let keys = part.keys.unwrap_or(&[]);
    let first = move |keys: usize| match (keys, window) {
        (0, _) => 0,
        (keys, _) if masked => keys,
        (keys, Some(window)) => keys + window,
        (_, None) => usize::MAX,
    };
    let rows = part.ranges().zip(keys).map(move |(rows, keys)| {
        let first = rows.len().min(first(*keys));
        (rows.clone(), rows.start + first..rows.end)
    });
    rows.filter(|(_, blind)| !blind.is_empty())
}

/// Writes what they make of the values (T, key heads x D) to their rows of context (T, heads x D).
pub(super) fn fill(
    blind: impl Iterator<Item = (Range<usize>, Range<usize>)>,
    values: Mat,
    dim: usize,
    mut context: MatMut,
) {
    for (rows, blind) in blind {
        let mut mean = vec![0.0; values.cols()];
        let share = 1.0 / rows.len() as f32;
        rows.for_each(|r| mean.iter_mut().zip(values.row(r)).for_each(|(sum, v)| *sum += v * share));
        for r in blind {
            let row = context.row_mut(r);
            let group = row.len() / mean.len();
            row.chunks_exact_mut(dim)
                .enumerate()
                .for_each(|(h, out)| out.copy_from_slice(&mean[h / group * dim..][..dim]));
        }
    }
}

/// The gradient of the values of a sequence's rows, the same for each.
pub(super) type Shares = Vec<(Range<usize>, Vec<f32>)>;

/// Takes these rows out of the gradient of context: they are zeros then.
pub(super) fn take(
    blind: impl Iterator<Item = (Range<usize>, Range<usize>)>,
    columns: usize,
    dim: usize,
    d_context: &mut MatMut,
) -> Shares {
    let one = |(rows, blind): (Range<usize>, Range<usize>)| {
        let (mut d, share) = (vec![0.0; columns], 1.0 / rows.len() as f32);
        for r in blind {
            let row = d_context.row_mut(r);
            let group = row.len() / columns;
            for (h, dx) in row.chunks_exact(dim).enumerate() {
                d[h / group * dim..][..dim].iter_mut().zip(dx).for_each(|(sum, dx)| *sum += dx * share);
            }
            row.fill(0.0);
        }
        (rows, d)
    };
    blind.map(one).collect()
}

/// Adds what [`take`] took to the gradient of the values.
pub(super) fn give(shares: Shares, mut d_values: MatMut) {
    for (rows, d) in shares {
        rows.for_each(|r| d_values.row_mut(r).iter_mut().zip(&d).for_each(|(sum, d)| *sum += d));
    }
}
