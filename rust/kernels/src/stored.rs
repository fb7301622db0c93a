//! Where weights lie: in memory of their own, or in a file that is mapped.
//!
//! A mapped file costs no copy, and all processes that map it share its pages. The price: who changes the file in place changes
//! the weights under a running product. Any bits are numbers, so that gives wrong numbers and nothing worse; whoever computes
//! asks [`MappedFile::is_unchanged`] first. To touch a page beyond the end of a file that was cut short is a signal.

use std::fs::{File, Metadata};
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::SystemTime;

use memmap2::Mmap;

use crate::buffer::{Buffer, Element, NoMemory, words_of};

/// A file's bytes, to be read only.
pub struct MappedFile {
    map: Mmap,
    file: File,
    stamp: (u64, Option<SystemTime>),
}

impl MappedFile {
    /// Maps all of `file`, which stays open.
    pub fn new(file: File) -> io::Result<Self> {
        let stamp = stamp(&file.metadata()?);
        // SAFETY: the map is read-only and shared. Bytes that others change reach us as other numbers, all of them valid
        // (`Element`); no length or offset is ever read from here.
        let map = unsafe { Mmap::map(&file)? };
        if map.len() as u64 != stamp.0 {
            return Err(io::Error::other("the file changed while it was opened"));
        }
        Ok(MappedFile { map, file, stamp })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether size and time of change are those of the beginning. A file that was replaced under its name counts as
    /// unchanged: its old pages stay with us.
    pub fn is_unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|now| stamp(&now) == self.stamp)
    }
}

fn stamp(metadata: &Metadata) -> (u64, Option<SystemTime>) {
    (metadata.len(), metadata.modified().ok())
}

/// Elements that stay as they are once they are written, from the start of a cache line on.
pub struct Stored<T: Element = f32>(Place<T>);

enum Place<T: Element> {
    Own(Buffer<T>),
    /// `len` elements from byte `start` on.
    Mapped {
        file: Arc<MappedFile>,
        start: usize,
        len: usize,
    },
}

impl<T: Element> Default for Stored<T> {
    fn default() -> Self {
        Stored(Place::Own(Buffer::default()))
    }
}

impl<T: Element> Stored<T> {
    /// Zeros, to be written.
    pub fn zeroed(len: usize) -> Result<Self, NoMemory> {
        Ok(Stored(Place::Own(Buffer::zeroed(len)?)))
    }

    /// As they are, to be written.
    pub fn own(buffer: Buffer<T>) -> Self {
        Stored(Place::Own(buffer))
    }

    /// Bytes of a file; `None` where they are not whole elements of the file that start a cache line.
    pub fn mapped(file: &Arc<MappedFile>, bytes: Range<usize>) -> Option<Self> {
        const LINE: usize = 64;
        let inside = bytes.start <= bytes.end && bytes.end <= file.map.len();
        let whole = bytes.start.is_multiple_of(LINE) && bytes.len().is_multiple_of(size_of::<T>());
        let len = bytes.len() / size_of::<T>();
        (inside && whole).then(|| Stored(Place::Mapped { file: Arc::clone(file), start: bytes.start, len }))
    }

    /// To be written.
    ///
    /// # Panics
    /// If they lie in a file.
    pub fn own_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Place::Own(buffer) => buffer,
            Place::Mapped { .. } => panic!("weights in a file are not written"),
        }
    }

    /// The same bits as words.
    pub fn words(&self) -> &[u32] {
        words_of(self)
    }
}

impl<T: Element> Deref for Stored<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &self.0 {
            Place::Own(buffer) => buffer,
            // SAFETY: `mapped` has checked that the elements lie inside the map, which lives as long as we do, and are aligned
            // (a map starts a page); any bits are an element.
            Place::Mapped { file, start, len } => unsafe {
                std::slice::from_raw_parts(file.map.as_ptr().add(*start).cast(), *len)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_aligned_elements_inside_the_file() {
        let path = std::env::temp_dir().join(format!("ferroformer-stored-{}", std::process::id()));
        let bytes: Vec<u8> = (0..200).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = Arc::new(MappedFile::new(File::open(&path).unwrap()).unwrap());
        let stored = Stored::<u32>::mapped(&file, 64..72).unwrap();
        assert_eq!(*stored, [64, 68].map(|b: u8| u32::from_ne_bytes([b, b + 1, b + 2, b + 3])));
        assert_eq!(stored.as_ptr() as usize % 64, 0);
        #[expect(clippy::reversed_empty_ranges, reason = "as a bad header may say")]
        for refused in [4..8, 64..70, 128..256, 192..204, 64..0, usize::MAX - 63..usize::MAX] {
            assert!(Stored::<u32>::mapped(&file, refused).is_none());
        }
        assert!(file.is_unchanged());
        std::fs::write(&path, &bytes[..100]).unwrap();
        assert!(!file.is_unchanged());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    #[should_panic(expected = "not written")]
    fn a_file_is_not_written() {
        let path = std::env::temp_dir().join(format!("ferroformer-stored-once-{}", std::process::id()));
        std::fs::write(&path, [0; 64]).unwrap();
        let file = Arc::new(MappedFile::new(File::open(&path).unwrap()).unwrap());
        std::fs::remove_file(&path).unwrap();
        Stored::<f32>::mapped(&file, 0..64).unwrap().own_mut();
    }
}
