//! Files of `torch.save`: a pickle that names tensors, and beside it the bytes of their storages.
//!
//! Since torch 1.6 a zip archive: `<name>/data.pkl`, a `<name>/data/<key>` for each storage, `<name>/byteorder`. Before, one after
//! the other: the pickles of [`MAGIC`], of the writer's properties, of the tensors, and of the list of the storages' keys; then for
//! each of these the number of its elements (8 bytes) and the elements. Only dictionaries of tensors are read; see [`super::pickle`].

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use super::pickle::{Pickle, Problem, Storage, View};
use super::safetensors_file::what_it_looks_like;
use super::zip::Zip;
use super::{Contents, Place, open_file, read_exact_at};
use crate::error::{ModelError, Result};
use crate::order::Order;

/// A few kB are usual.
const LONGEST_PICKLE: u64 = 1 << 26;
/// The pickles of torch's magic number, and of the format's version, 1001.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";

pub(super) fn open(path: &Path) -> Result<Contents> {
    let (file, size) = open_file(path)?;
    let mut start = vec![0; MAGIC.len().min(usize::try_from(size).unwrap_or(usize::MAX))];
    read_exact_at(&file, &mut start, 0).map_err(|e| ModelError::io(path, e))?;
    let tensors = if start.starts_with(b"PK\x03\x04") {
        zipped(path, &file, size)?
    } else if start == MAGIC {
        in_a_row(path, &file, size)?
    } else {
        let hint = match start[..] {
            [0x80, ..] => "; this looks like a pickle, but not one of torch.save with its default protocol",
            _ => what_it_looks_like(&start).unwrap_or_default(),
        };
        return Err(ModelError::corrupt(path, format!("neither a zip archive nor a file of an older torch{hint}")));
    };
    Ok(Contents { file, tensors, metadata: HashMap::new() })
}

fn zipped(path: &Path, file: &File, size: u64) -> Result<HashMap<String, Place>> {
    let zip = Zip::open(path, file, size)?;
    let root = zip.names().find_map(|name| name.strip_suffix("/data.pkl").filter(|root| !root.contains('/')));
    let root = root.ok_or_else(|| zip.corrupt("a zip archive without data.pkl, so not of torch.save"))?;
    if zip.names().any(|name| name.strip_prefix(root) == Some("/constants.pkl")) {
        return Err(zip.corrupt("it holds a TorchScript program, not tensors by name"));
    }
    let pickle = zip.bytes(&format!("{root}/data.pkl"), LONGEST_PICKLE)?.unwrap_or_default();
    let order = zip.bytes(&format!("{root}/byteorder"), 16)?;
    let big_endian = match order.as_deref() {
        None | Some(b"little") => false,
        Some(b"big") => true,
        Some(other) => return Err(zip.corrupt(format!("its byteorder is {:?}", String::from_utf8_lossy(other)))),
    };
    let pickle = Pickle::read(&pickle).map_err(|problem| corrupt(path, problem))?;
    let tensors = pickle.state_dict().map_err(|problem| zip.corrupt(problem))?;
    let start = |storage: &Storage| {
        let name = format!("{root}/data/{}", storage.key);
        let (start, size) = zip.find(&name)?.ok_or_else(|| zip.corrupt(format!("{name:?} is missing")))?;
        match bytes_of(storage) {
            Some(needed) if needed <= size => Ok(start),
            _ => {
                let problem = format!("{name:?} has {size} bytes; {} elements are expected there", storage.numel);
                Err(zip.corrupt(problem))
            }
        }
    };
    let starts = pickle.storages.iter().map(start).collect::<Result<Vec<_>>>()?;
    Ok(places(&pickle, &tensors, &starts, big_endian))
}

fn in_a_row(path: &Path, file: &File, size: u64) -> Result<HashMap<String, Place>> {
    let mut length = LONGEST_PICKLE.min(1 << 16);
    loop {
        let mut bytes = vec![0; size.min(length) as usize];
        read_exact_at(file, &mut bytes, 0).map_err(|e| ModelError::io(path, e))?;
        match pickles(&bytes) {
            Ok((pickle, keys, end)) => {
                let tensors = pickle.state_dict().map_err(|problem| ModelError::corrupt(path, problem))?;
                let starts = starts(path, file, size, &pickle, &keys, end as u64)?;
                return Ok(places(&pickle, &tensors, &starts, false));
            }
            Err(Problem::Short) if length < size && length < LONGEST_PICKLE => length *= 4,
            Err(problem) => return Err(corrupt(path, problem)),
        }
    }
}

/// The tensors, the keys of the storages in their order, and where the storages begin.
fn pickles(bytes: &[u8]) -> std::result::Result<(Pickle<'_>, Vec<&str>, usize), Problem> {
    let mut at = MAGIC.len();
    at += Pickle::read(&bytes[at..])?.size;
    let tensors = Pickle::read(&bytes[at..])?;
    at += tensors.size;
    let keys = Pickle::read(&bytes[at..])?;
    Ok((tensors, keys.texts().map_err(Problem::Bad)?, at + keys.size))
}

/// Where the elements of each of the pickle's storages begin.
fn starts(path: &Path, file: &File, size: u64, pickle: &Pickle, keys: &[&str], mut at: u64) -> Result<Vec<u64>> {
    let known: HashMap<_, _> = pickle.storages.iter().map(|storage| (storage.key, storage)).collect();
    let mut found = HashMap::new();
    for key in keys {
        let storage = known.get(key);
        let storage = storage.ok_or_else(|| ModelError::corrupt(path, format!("storage {key:?} is of no tensor")))?;
        let mut numel = [0; 8];
        let cut_short = || ModelError::corrupt(path, format!("storage {key:?} is cut short; an incomplete download?"));
        read_exact_at(file, &mut numel, at).map_err(|_| cut_short())?;
        if u64::from_le_bytes(numel) != storage.numel as u64 {
            let (found, expected) = (u64::from_le_bytes(numel), storage.numel);
            let problem = format!("storage {key:?} has {found} elements; {expected} are expected");
            return Err(ModelError::corrupt(path, problem));
        }
        found.insert(*key, (at + 8, storage.dtype));
        let end = bytes_of(storage).and_then(|bytes| bytes.checked_add(at + 8)).filter(|end| *end <= size);
        at = end.ok_or_else(cut_short)?;
    }
    let start = |storage: &Storage| match found.get(storage.key) {
        Some((start, dtype)) if *dtype == storage.dtype && known[storage.key].numel == storage.numel => Ok(*start),
        _ => Err(ModelError::corrupt(path, format!("storage {:?} is missing, or of two kinds", storage.key))),
    };
    pickle.storages.iter().map(start).collect()
}

/// Where tensors lie of which the storages begin there.
fn places(pickle: &Pickle, tensors: &[(&str, &View)], starts: &[u64], big_endian: bool) -> HashMap<String, Place> {
    let place = |(name, view): &(&str, &View)| {
        let dtype = pickle.storages[view.storage].dtype;
        let start = starts[view.storage] + (view.first * (dtype.bitsize() / 8)) as u64;
        let (shape, strides) = (view.shape.clone(), view.strides.as_ref());
        let order = strides.map_or(Order::default(), |strides| Order::new(&shape, strides));
        ((*name).to_owned(), Place { dtype, shape, start, order, big_endian })
    };
    tensors.iter().map(place).collect()
}

fn bytes_of(storage: &Storage) -> Option<u64> {
    (storage.numel as u64).checked_mul(storage.dtype.bitsize() as u64 / 8)
}

fn corrupt(path: &Path, problem: Problem) -> ModelError {
    match problem {
        Problem::Bad(problem) => ModelError::corrupt(path, problem),
        Problem::Short => ModelError::corrupt(path, "its pickle is cut short; an incomplete download?"),
    }
}
