//! Floats or words aligned to a cache line, from memory that may be refused.
//!
//! A large buffer is a mapping of its own: its pages are zeroed by the system when they are first touched, go back when it is
//! dropped, and are asked for as huge pages, for weights are read from end to end and every small page costs a look-up.

use std::alloc::{Layout, alloc_zeroed};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

use crate::arena::Piece;

const LINE: usize = 16;
/// Bytes from which on a buffer is a mapping.
const LARGE: usize = 1 << 20;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; LINE]);

/// What a buffer may hold: 32 bits, any of which are a value.
///
/// # Safety
/// The type has the size of a u32, no stricter alignment and no padding, and every bit pattern is one of its values.
pub unsafe trait Element: Copy + Send + Sync + 'static {}

// SAFETY: 32 bits, all patterns.
unsafe impl Element for f32 {}
// SAFETY: as above.
unsafe impl Element for u32 {}

/// The system has no memory left for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("out of memory")]
pub struct NoMemory;

enum Memory {
    Lines(Vec<Line>),
    Mapping(MmapMut),
    Piece(Piece),
}

/// A vector whose first element starts a cache line.
pub struct Buffer<T: Element = f32> {
    memory: Memory,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Element> Default for Buffer<T> {
    fn default() -> Self {
        Buffer { memory: Memory::Lines(vec![]), len: 0, element: PhantomData }
    }
}

impl<T: Element> Buffer<T> {
    pub fn zeroed(len: usize) -> Result<Self, NoMemory> {
        Ok(Buffer { memory: Memory::zeroed(len)?, len, element: PhantomData })
    }

    /// The first `len` elements of a piece, which holds as many.
    pub(crate) fn of(piece: Piece, len: usize) -> Self {
        assert!(len.saturating_mul(size_of::<T>()) <= piece.bytes(), "a piece of {} bytes for {len}", piece.bytes());
        Buffer { memory: Memory::Piece(piece), len, element: PhantomData }
    }

    /// To `len` elements. What memory a longer buffer held is kept; where there is not enough, all elements become zero.
    pub fn resize(&mut self, len: usize) -> Result<(), NoMemory> {
        if len.saturating_mul(size_of::<T>()) > self.bytes() {
            // The old memory goes before the new comes.
            *self = Buffer::default();
            self.memory = Memory::zeroed(len)?;
        }
        self.len = len;
        Ok(())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match &self.memory {
            Memory::Lines(lines) => lines.len() * size_of::<Line>(),
            Memory::Mapping(mapping) => mapping.len(),
            Memory::Piece(piece) => piece.bytes(),
        }
    }
}

impl Memory {
    /// Room for `len` elements.
    fn zeroed(len: usize) -> Result<Self, NoMemory> {
        let bytes = len.checked_mul(4).filter(|bytes| *bytes <= isize::MAX as usize).ok_or(NoMemory)?;
        if bytes < LARGE {
            let lines = len.div_ceil(LINE);
            let mut memory = Vec::new();
            memory.try_reserve_exact(lines).map_err(|_| NoMemory)?;
            memory.resize(lines, Line([0; LINE]));
            return Ok(Memory::Lines(memory));
        }
        map(bytes).map(Memory::Mapping)
    }

    fn as_ptr(&self) -> *const u8 {
        match self {
            Memory::Lines(lines) => lines.as_ptr().cast(),
            Memory::Mapping(mapping) => mapping.as_ptr(),
            Memory::Piece(piece) => piece.as_ptr(),
        }
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        match self {
            Memory::Lines(lines) => lines.as_mut_ptr().cast(),
            Memory::Mapping(mapping) => mapping.as_mut_ptr(),
            Memory::Piece(piece) => piece.as_mut_ptr(),
        }
    }
}

/// Zeros on huge pages. These are a wish: where there are none, small ones serve.
pub(crate) fn map(bytes: usize) -> Result<MmapMut, NoMemory> {
    let mapping = MmapMut::map_anon(bytes).map_err(|_| NoMemory)?;
    #[cfg(target_os = "linux")]
    let _ = mapping.advise(memmap2::Advice::HugePage);
    Ok(mapping)
}

impl<T: Element> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the memory holds at least `len` elements (`zeroed`, `resize`), any of whose bits are a value, and starts a
        // cache line or a page.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.len) }
    }
}

impl<T: Element> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), self.len) }
    }
}

/// The same bits as words.
pub(crate) fn words_of<T: Element>(xs: &[T]) -> &[u32] {
    // SAFETY: an element is 32 bits, aligned as a u32 at most as strictly; every pattern is a u32.
    unsafe { std::slice::from_raw_parts(xs.as_ptr().cast(), xs.len()) }
}

/// The same bits as words, to be written.
pub(crate) fn words_of_mut<T: Element>(xs: &mut [T]) -> &mut [u32] {
    // SAFETY: as above, the other way round too.
    unsafe { std::slice::from_raw_parts_mut(xs.as_mut_ptr().cast(), xs.len()) }
}

/// Words as the floats that they are the bits of.
pub fn floats_of(words: &[u32]) -> &[f32] {
    // SAFETY: a float is as large as a word and aligned alike, and any bits are one.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
}

pub fn floats_of_mut(words: &mut [u32]) -> &mut [f32] {
    // SAFETY: as above, and any float is a word.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
}

/// The elements' bytes.
pub fn bytes_of<T: Element>(xs: &[T]) -> &[u8] {
    // SAFETY: an element is four bytes, all of which are set.
    unsafe { std::slice::from_raw_parts(xs.as_ptr().cast(), size_of_val(xs)) }
}

/// The elements' bytes, to be written.
pub fn bytes_of_mut<T: Element>(xs: &mut [T]) -> &mut [u8] {
    // SAFETY: an element is four bytes, any of which are one.
    unsafe { std::slice::from_raw_parts_mut(xs.as_mut_ptr().cast(), size_of_val(xs)) }
}

/// The words' halves, to be written.
pub(crate) fn halves_of_mut(xs: &mut [u32]) -> &mut [u16] {
    // SAFETY: two halves a word, any of which are a u32.
    unsafe { std::slice::from_raw_parts_mut(xs.as_mut_ptr().cast(), 2 * xs.len()) }
}

/// A vector of zeros, `None` where there is no memory for it. The system hands out zeroed pages when they are first
/// touched, so that a large vector costs nothing here.
pub fn zeroed_vec(len: usize) -> Option<Vec<f32>> {
    let layout = Layout::array::<f32>(len).ok()?;
    if len == 0 {
        return Some(Vec::new());
    }
    // SAFETY: the size is not zero.
    let data = unsafe { alloc_zeroed(layout) };
    // SAFETY: from the global allocator, with the layout of a Vec of `len` floats; bits of zero are a float.
    (!data.is_null()).then(|| unsafe { Vec::from_raw_parts(data.cast(), len, len) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_zeroed_and_reused() {
        for len in [1001, LARGE / 4 + 1] {
            let mut buffer = Buffer::<f32>::zeroed(len).unwrap();
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
            assert!(buffer.len() == len && buffer.iter().all(|x| *x == 0.0));
            let bytes = buffer.bytes();
            buffer.resize(10).unwrap();
            buffer.resize(len - 1).unwrap();
            assert_eq!(buffer.bytes(), bytes);
            buffer.resize(2 * len).unwrap();
            assert!(buffer.len() == 2 * len && buffer.iter().all(|x| *x == 0.0));
        }
    }

    #[test]
    fn vectors_of_zeros() {
        assert_eq!(zeroed_vec(0), Some(vec![]));
        assert_eq!(zeroed_vec(5), Some(vec![0.0; 5]));
        assert_eq!(zeroed_vec(usize::MAX / 4), None);
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        assert!(Buffer::<f32>::zeroed(usize::MAX / 4).is_err());
    }
}
