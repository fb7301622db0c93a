//! Weights on their way from a checkpoint to their place, a few hundred kilobytes at a time, on all threads.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::buffer::{Buffer, NoMemory};
use crate::threads::Threads;

/// Floats in a piece: what is read stays in the second-level cache until it is packed.
const PIECE: usize = 1 << 15;
/// Rows come in multiples of this, which is one of every panel's width: panels are then written whole.
const ROWS: usize = 32;

/// Cuts `rows` rows of `width` floats into pieces; each goes through `read(first row, floats)` into a buffer and from there
/// through `take(rows, floats)`, pieces side by side on all threads. The last error comes out.
pub(crate) fn by_pieces<E: From<NoMemory> + Send>(
    threads: &Threads,
    rows: usize,
    width: usize,
    read: impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync,
    take: impl Fn(Range<usize>, &[f32]) + Sync,
) -> Result<(), E> {
    let step = (PIECE / width.max(1) / ROWS).max(1) * ROWS;
    let pieces = rows.div_ceil(step);
    let buffers: Vec<_> = (0..threads.count().min(pieces)).map(|_| Mutex::new(Buffer::<f32>::default())).collect();
    let failure = Mutex::new(None);
    threads.for_each(pieces, |rank, i| {
        let rows = i * step..rows.min((i + 1) * step);
        let mut buffer = buffers[rank].lock().unwrap_or_else(PoisonError::into_inner);
        let result = buffer.resize(rows.len().saturating_mul(width)).map_err(E::from).and_then(|()| {
            read(rows.start, &mut buffer)?;
            take(rows, &buffer);
            Ok(())
        });
        if let Err(error) = result {
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
