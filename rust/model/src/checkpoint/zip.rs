//! The directory of a zip archive whose entries are stored as they are, as torch writes them (with zip64's numbers).
//!
//! Format: APPNOTE.TXT 6.3.10, sections 4.3.7 to 4.3.16 and 4.5.3.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use super::read_exact_at;
use crate::error::{ModelError, Result};

const LONGEST_DIRECTORY: u64 = 100_000_000;
const END: usize = 22;
const LONGEST_COMMENT: usize = 0xffff;

/// Where an entry begins, header and all, and how many bytes it holds.
#[derive(Clone, Copy)]
struct Entry {
    header: u64,
    size: u64,
    /// Neither compressed nor encrypted.
    plain: bool,
}

pub(super) struct Zip<'a> {
    path: &'a Path,
    file: &'a File,
    /// Where the directory begins: before it lies what the entries hold.
    directory: u64,
    entries: HashMap<String, Entry>,
}

impl<'a> Zip<'a> {
    pub(super) fn open(path: &'a Path, file: &'a File, size: u64) -> Result<Self> {
        let mut zip = Zip { path, file, directory: size, entries: HashMap::new() };
        let (start, length, count) = zip.find_directory(size)?;
        if length > LONGEST_DIRECTORY {
            return Err(zip.corrupt(format!("its directory is {length} bytes long; the limit is {LONGEST_DIRECTORY}")));
        }
        let bytes = zip.read(start, length as usize)?;
        zip.directory = start;
        zip.entries = entries(&bytes, count).map_err(|problem| zip.corrupt(problem))?;
        Ok(zip)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Where the bytes of an entry lie and how many there are, all before the directory; `None` if there is no such entry.
    pub(super) fn find(&self, name: &str) -> Result<Option<(u64, u64)>> {
        let Some(&Entry { header, size, plain }) = self.entries.get(name) else { return Ok(None) };
        if !plain {
            return Err(self.corrupt(format!("{name:?} is compressed or encrypted, which torch's are not")));
        }
        let fixed = self.read(header, 30)?;
        if !fixed.starts_with(b"PK\x03\x04") {
            return Err(self.corrupt(format!("{name:?} does not begin where the directory says")));
        }
        let start = header + 30 + u64::from(u16_at(&fixed, 26)) + u64::from(u16_at(&fixed, 28));
        if start.checked_add(size).is_none_or(|end| end > self.directory) {
            return Err(self.corrupt(format!("{name:?} does not end before the directory; an incomplete download?")));
        }
        Ok(Some((start, size)))
    }

    /// All bytes of an entry that may not be longer.
    pub(super) fn bytes(&self, name: &str, longest: u64) -> Result<Option<Vec<u8>>> {
        match self.find(name)? {
            Some((_, size)) if size > longest => {
                Err(self.corrupt(format!("{name:?} is {size} bytes long; the limit is {longest}")))
            }
            Some((start, size)) => self.read(start, size as usize).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn corrupt(&self, problem: impl Into<String>) -> ModelError {
        ModelError::corrupt(self.path, problem)
    }

    /// First byte, length, and number of entries of the directory, which lies inside the file.
    fn find_directory(&self, size: u64) -> Result<(u64, u64, u64)> {
        let tail = usize::try_from(size).unwrap_or(usize::MAX).min(END + LONGEST_COMMENT);
        let first = size - tail as u64;
        let bytes = self.read(first, tail)?;
        let missing = || self.corrupt("a zip archive without a directory at its end; an incomplete download?");
        let at = (0..(tail + 1).saturating_sub(END)).rev().find(|at| bytes[*at..].starts_with(b"PK\x05\x06"));
        let at = at.ok_or_else(missing)?;
        let end = &bytes[at..];
        let (count, length, start) = (u16_at(end, 10), u32_at(end, 12), u32_at(end, 16));
        let mut found = (u64::from(start), u64::from(length), u64::from(count));
        if let Some(at) = at.checked_sub(20).filter(|at| bytes[*at..].starts_with(b"PK\x06\x07")) {
            let wide = u64_at(&bytes[at..], 8);
            let end = self.read(wide, 56)?;
            if !end.starts_with(b"PK\x06\x06") {
                return Err(missing());
            }
            found = (u64_at(&end, 48), u64_at(&end, 40), u64_at(&end, 32));
        }
        if found.0.checked_add(found.1).is_none_or(|end| end > size) {
            return Err(self.corrupt("the zip archive's directory lies outside of the file; an incomplete download?"));
        }
        Ok(found)
    }

    fn read(&self, start: u64, size: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        read_exact_at(self.file, &mut bytes, start).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidInput => {
                self.corrupt(format!("{size} bytes at {start} lie outside of the file"))
            }
            _ => ModelError::io(self.path, e),
        })?;
        Ok(bytes)
    }
}

/// The entries of a directory, which must be so many.
fn entries(mut bytes: &[u8], count: u64) -> std::result::Result<HashMap<String, Entry>, String> {
    let mut entries = HashMap::new();
    for number in 0..count {
        let (name, entry, rest) =
            entry(bytes).map_err(|problem| format!("entry {number} of its directory {problem}"))?;
        if entries.insert(name.to_owned(), entry).is_some() {
            return Err(format!("it has two entries {name:?}"));
        }
        bytes = rest;
    }
    Ok(entries)
}

/// Name and place of an entry, and the directory after it.
fn entry(bytes: &[u8]) -> std::result::Result<(&str, Entry, &[u8]), String> {
    let (fixed, rest) = bytes.split_first_chunk::<46>().ok_or("is cut short")?;
    if !fixed.starts_with(b"PK\x01\x02") {
        return Err("is damaged".to_owned());
    }
    let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(fixed, at)));
    let (name, rest) = rest.split_at_checked(name).ok_or("is cut short")?;
    let (extra, rest) = rest.split_at_checked(extra).ok_or("is cut short")?;
    let (_, rest) = rest.split_at_checked(comment).ok_or("is cut short")?;
    let name = std::str::from_utf8(name).map_err(|_| "has a name that is not UTF-8")?;
    let [stored, size, header] = numbers(fixed, extra).ok_or("lacks its sizes")?;
    let plain = u16_at(fixed, 10) == 0 && u16_at(fixed, 8) & 1 == 0 && stored == size;
    Ok((name, Entry { header, size, plain }, rest))
}

/// Bytes stored, bytes held, and first byte of an entry: in zip64's field where they have no room of their own.
fn numbers(fixed: &[u8], extra: &[u8]) -> Option<[u64; 3]> {
    let mut wide = zip64(extra).unwrap_or_default();
    let mut number = |at: usize| match u32_at(fixed, at) {
        u32::MAX => {
            let (first, rest) = wide.split_first_chunk()?;
            wide = rest;
            Some(u64::from_le_bytes(*first))
        }
        narrow => Some(narrow.into()),
    };
    let (size, stored, header) = (number(24)?, number(20)?, number(42)?);
    Some([stored, size, header])
}

/// The content of zip64's field among the extra fields.
fn zip64(mut extra: &[u8]) -> Option<&[u8]> {
    loop {
        let (head, rest) = extra.split_first_chunk::<4>()?;
        let (content, rest) = rest.split_at_checked(u16_at(head, 2).into())?;
        if u16_at(head, 0) == 1 {
            return Some(content);
        }
        extra = rest;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
