//! Floats aligned to a cache line, from an allocation that may fail.

use std::alloc::{Layout, alloc_zeroed};
use std::collections::TryReserveError;
use std::ops::{Deref, DerefMut};

const LINE: usize = 16;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// A vector of floats whose first element starts a cache line.
#[derive(Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    pub fn zeroed(len: usize) -> Result<Self, TryReserveError> {
        let mut buffer = Buffer::default();
        buffer.resize(len)?;
        Ok(buffer)
    }

    /// To `len` elements; new ones are zero, what memory a shorter buffer held is kept.
    pub fn resize(&mut self, len: usize) -> Result<(), TryReserveError> {
        let lines = len.div_ceil(LINE);
        self.lines.try_reserve_exact(lines.saturating_sub(self.lines.len()))?;
        self.lines.resize(lines.max(self.lines.len()), Line([0.0; LINE]));
        self.len = len;
        Ok(())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` floats (`resize`), and a Line is sixteen of them and nothing else.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `self` is borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
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
        let mut buffer = Buffer::zeroed(1001).unwrap();
        assert_eq!(buffer.as_ptr() as usize % 64, 0);
        assert!(buffer.len() == 1001 && buffer.iter().all(|x| *x == 0.0));
        let bytes = buffer.bytes();
        buffer.resize(10).unwrap();
        buffer.resize(1000).unwrap();
        assert_eq!(buffer.bytes(), bytes);
    }

    #[test]
    fn vectors_of_zeros() {
        assert_eq!(zeroed_vec(0), Some(vec![]));
        assert_eq!(zeroed_vec(5), Some(vec![0.0; 5]));
        assert_eq!(zeroed_vec(usize::MAX / 4), None);
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        assert!(Buffer::zeroed(usize::MAX / 4).is_err());
    }
}
