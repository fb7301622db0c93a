//! Room for all weights of a model in one large mapping.
//!
//! Huge pages cover whole, aligned pieces of a mapping only: were each matrix a mapping of its own, half of a small model would
//! lie on small pages, and a product that reads all weights would wait for the look-ups (3 % of bert-base in f32, 7 % in int8).

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use memmap2::MmapMut;

use crate::buffer::{Buffer, Element, NoMemory, map};

const LINE: usize = 64;

/// Hands out room from the front of its newest mapping to the back; nothing comes back before all pieces of a mapping do.
#[derive(Default)]
pub struct Arena {
    /// Bytes that the first mapping has at least.
    expected: Cell<usize>,
    newest: RefCell<Option<Rest>>,
}

struct Rest {
    block: Arc<Block>,
    next: usize,
}

impl Arena {
    /// For so many bytes in all, each piece in whole lines of 64 bytes. What is not handed out of them is never touched, and
    /// costs addresses alone; a piece beyond them gets a mapping of its own, and so it is with none expected.
    pub fn expecting(bytes: usize) -> Self {
        Arena { expected: Cell::new(bytes), newest: RefCell::default() }
    }

    /// Zeros.
    pub fn zeroed<T: Element>(&self, len: usize) -> Result<Buffer<T>, NoMemory> {
        let bytes =
            len.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_next_multiple_of(LINE)).ok_or(NoMemory)?;
        let mut newest = self.newest.borrow_mut();
        let rest = match newest.take_if(|rest| rest.block.bytes - rest.next >= bytes) {
            Some(rest) => rest,
            None => Rest { block: Block::new(bytes.max(self.expected.take()))?, next: 0 },
        };
        let piece = Piece { block: Arc::clone(&rest.block), start: rest.next, bytes };
        *newest = Some(Rest { next: rest.next + bytes, ..rest });
        Ok(Buffer::of(piece, len))
    }
}

struct Block {
    start: *mut u8,
    bytes: usize,
    _mapping: MmapMut,
}

// SAFETY: the bytes are reached through pieces alone, each by its owner's borrow.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    fn new(bytes: usize) -> Result<Arc<Self>, NoMemory> {
        // There is no mapping of nothing.
        let mut mapping = map(bytes.max(LINE))?;
        Ok(Arc::new(Block { start: mapping.as_mut_ptr(), bytes: mapping.len(), _mapping: mapping }))
    }
}

/// Bytes of a mapping that nobody else has.
pub(crate) struct Piece {
    block: Arc<Block>,
    start: usize,
    bytes: usize,
}

impl Piece {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.block.start.wrapping_add(self.start)
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.block.start.wrapping_add(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_apart_aligned_and_outlive_the_arena() {
        for expected in [0, 100, 5000, 1 << 23] {
            let arena = Arena::expecting(expected);
            let mut pieces: Vec<Buffer<u32>> =
                [5, 0, 17, 1 << 20, 100, 1 << 18, 3].map(|len| arena.zeroed(len).unwrap()).into();
            drop(arena);
            for (i, piece) in pieces.iter_mut().enumerate() {
                assert_eq!(piece.as_ptr() as usize % LINE, 0);
                assert!(piece.iter().all(|x| *x == 0));
                piece.fill(i as u32 + 1);
            }
            for (i, piece) in pieces.iter().enumerate() {
                assert!(piece.iter().all(|x| *x == i as u32 + 1));
            }
        }
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        let arena = Arena::default();
        assert!(arena.zeroed::<f32>(usize::MAX / 4).is_err());
        assert!(arena.zeroed::<f32>(usize::MAX / 2).is_err());
        assert_eq!(arena.zeroed::<f32>(3).unwrap().len(), 3);
    }
}
