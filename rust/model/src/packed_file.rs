//! Weights as they lie in memory, in a file: written once, mapped and used at once.
//!
//! A safetensors file. Each tensor is the words (U32) of one [`Piece`], filled up with zeros to a multiple of 64 bytes; the
//! header is filled up with spaces, so that every tensor starts a cache line. `__metadata__` holds the fields of [`facts`], which
//! must be what this build, CPU and blueprint would write, and a checksum of all tensors with their names.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ferroformer_kernels::{LAYOUT_VERSION, Level, MappedFile, Precision, Stored, Threads, bytes_of};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use crate::blueprint::Blueprint;
use crate::checkpoint::{SafetensorsFile, read_exact_at};
use crate::checksum::Checksum;
use crate::error::{ModelError, Result};
use crate::export::replace;

const FORMAT: &str = "ferroformer-packed";
/// Bytes that tensors are multiples of, and start at multiples of.
const LINE: usize = 64;
/// Bytes that a thread reads and sums at a time.
const BLOCK: usize = 1 << 18;

/// Words of weights under a name of their own.
pub(crate) struct Piece<'a> {
    pub(crate) name: String,
    pub(crate) words: &'a [u32],
}

impl<'a> Piece<'a> {
    pub(crate) fn new(name: impl Into<String>, words: &'a [u32]) -> Self {
        Piece { name: name.into(), words }
    }
}

/// (field, what must stand there) for weights of this kind.
fn facts(blueprint: &Blueprint, level: Level, precision: Precision) -> [(&'static str, String); 5] {
    [
        ("format", FORMAT.to_owned()),
        ("layout_version", LAYOUT_VERSION.to_string()),
        ("precision", precision.name().to_owned()),
        ("layout", precision.layout(level)),
        ("shapes", blueprint.shapes()),
    ]
}

// --- write ---------------------------------------------------------------------------------------------------------------

/// Replaces `path` by a file of these pieces.
pub(crate) fn write(
    path: &Path,
    blueprint: &Blueprint,
    level: Level,
    precision: Precision,
    pieces: &[Piece],
) -> Result<()> {
    let header = header(facts(blueprint, level, precision), pieces);
    replace(path, |unfinished| {
        let mut file = BufWriter::new(File::create(unfinished)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for piece in pieces {
            file.write_all(bytes_of(piece.words))?;
            file.write_all(&[0; LINE][..padded(piece.words.len()) - 4 * piece.words.len()])?;
        }
        file.flush()
    })
}

/// Bytes in the file for so many words.
fn padded(words: usize) -> usize {
    words.saturating_mul(4).checked_next_multiple_of(LINE).unwrap_or(usize::MAX)
}

fn header(facts: [(&str, String); 5], pieces: &[Piece]) -> String {
    let mut sum = Checksum::new();
    let (mut entries, mut end) = (serde_json::Map::new(), 0);
    for piece in pieces {
        let (start, size) = (end, padded(piece.words.len()));
        end += size;
        let entry = serde_json::json!({"dtype": "U32", "shape": [size / 4], "data_offsets": [start, end]});
        entries.insert(piece.name.clone(), entry);
        add_tensor(&mut sum, &piece.name, bytes_of(piece.words).chunks(BLOCK).map(Checksum::of));
    }
    let mut metadata: HashMap<_, _> = facts.into_iter().collect();
    metadata.insert("checksum", format!("{:016x}", sum.0));
    metadata.insert("ferroformer_version", env!("CARGO_PKG_VERSION").to_owned());
    entries.insert("__metadata__".to_owned(), serde_json::json!(metadata));
    let mut text = serde_json::Value::Object(entries).to_string();
    text.push_str(&" ".repeat((8 + text.len()).next_multiple_of(LINE) - 8 - text.len()));
    text
}

fn add_tensor(sum: &mut Checksum, name: &str, blocks: impl Iterator<Item = Checksum>) {
    sum.add(Checksum::of(name.as_bytes()).0);
    blocks.for_each(|block| sum.add(block.0));
}

// --- read ----------------------------------------------------------------------------------------------------------------

/// A packed file, mapped, its header believed and its bytes summed.
pub(crate) struct PackedFile {
    path: PathBuf,
    file: Arc<MappedFile>,
    precision: Precision,
    /// Name -> first byte and size.
    tensors: HashMap<String, (usize, usize)>,
}

impl PackedFile {
    /// Opens a file that must hold weights of this kind; of any precision where none is asked for.
    pub(crate) fn open(
        path: &Path,
        blueprint: &Blueprint,
        level: Level,
        precision: Option<Precision>,
        threads: &Threads,
    ) -> Result<Self> {
        let SafetensorsFile { file, data, metadata } = SafetensorsFile::open(path)?;
        let none = HashMap::new();
        let fields = metadata.metadata().as_ref().unwrap_or(&none);
        let stored = fields.get("precision").and_then(|name| Precision::by_name(name));
        let precision = precision.or(stored).unwrap_or(Precision::Float32);
        for fact in facts(blueprint, level, precision) {
            expect(fields, fact).map_err(|problem| misfit(path, problem))?;
        }
        let mut order: Vec<_> = metadata.tensors().into_iter().collect();
        order.sort_by_key(|(_, info)| info.data_offsets);
        let place = |(name, info): &(String, &TensorInfo)| {
            let place = place(data, info).map_err(|e| ModelError::corrupt(path, format!("tensor {name:?}: {e}")))?;
            Ok((name.clone(), place))
        };
        let tensors = order.iter().map(place).collect::<Result<_>>()?;
        let file = Arc::new(MappedFile::new(file).map_err(|e| ModelError::io(path, e))?);
        let packed = PackedFile { path: path.to_owned(), file, precision, tensors };
        let names: Vec<_> = order.iter().map(|(name, _)| name.as_str()).collect();
        let checksum = format!("{:016x}", packed.sum(&names, threads)?.0);
        expect(fields, ("checksum", checksum))
            .map_err(|problem| ModelError::corrupt(path, format!("{problem}: the file is damaged")))?;
        Ok(packed)
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// The words of a piece, which must be so many.
    pub(crate) fn take<T: ferroformer_kernels::Element>(&self, name: &str, words: usize) -> Result<Stored<T>> {
        let Some((start, size)) = self.tensors.get(name) else {
            return Err(misfit(&self.path, format!("there is no tensor {name:?}, which the model needs")));
        };
        if *size != padded(words) {
            let problem = format!("tensor {name:?} has {size} bytes; expected {}", padded(words));
            return Err(misfit(&self.path, problem));
        }
        let stored = Stored::mapped(&self.file, *start..start + 4 * words);
        stored.ok_or_else(|| ModelError::corrupt(&self.path, format!("tensor {name:?} lies outside the file")))
    }

    /// An error if the file has changed since it was opened: what was computed from it might be wrong.
    pub(crate) fn check(&self) -> Result<()> {
        if self.file.is_unchanged() {
            return Ok(());
        }
        let problem = "the file was changed after the model was loaded from it; load the model again";
        Err(ModelError::corrupt(&self.path, problem))
    }

    /// The checksum of these tensors in this order. The file is read, not touched through the map: that costs no more, keeps
    /// pages that no call will need out of this process, and what is missing is an error.
    fn sum(&self, names: &[&str], threads: &Threads) -> Result<Checksum> {
        let blocks: Vec<_> = names.iter().flat_map(|name| blocks(self.tensors[*name])).collect();
        let sums: Vec<_> = blocks.iter().map(|_| Mutex::new(Ok(Checksum::new()))).collect();
        let buffers: Vec<_> = (0..threads.count()).map(|_| Mutex::new(vec![0; BLOCK])).collect();
        threads.for_each(blocks.len(), |rank, i| {
            let (start, size) = blocks[i];
            let mut buffer = buffers[rank].lock().unwrap_or_else(PoisonError::into_inner);
            let read = read_exact_at(self.file.file(), &mut buffer[..size], start as u64);
            *sums[i].lock().unwrap_or_else(PoisonError::into_inner) = read.map(|()| Checksum::of(&buffer[..size]));
        });
        let mut sums = sums.into_iter().map(|sum| sum.into_inner().unwrap_or_else(PoisonError::into_inner));
        let mut sum = Checksum::new();
        for name in names {
            let count = self.tensors[*name].1.div_ceil(BLOCK);
            let sums: io::Result<Vec<_>> = sums.by_ref().take(count).collect();
            add_tensor(&mut sum, name, sums.map_err(|e| ModelError::io(&self.path, e))?.into_iter());
        }
        Ok(sum)
    }
}

fn expect(fields: &HashMap<String, String>, (field, expected): (&str, String)) -> std::result::Result<(), String> {
    match fields.get(field) {
        Some(found) if *found == expected => Ok(()),
        Some(found) => Err(format!("{field} is {found:.200?}; expected {expected:?}")),
        None => Err(format!("{field} is missing; expected {expected:?}")),
    }
}

fn misfit(path: &Path, problem: String) -> ModelError {
    ModelError::Mismatch(format!("{}: {problem}", path.display()))
}

/// First byte and size of a tensor, of which the header has been checked against the size of the file.
fn place(data: u64, info: &TensorInfo) -> std::result::Result<(usize, usize), String> {
    let (start, end) = info.data_offsets;
    let first = usize::try_from(data).ok().and_then(|data| data.checked_add(start));
    match (first, end.checked_sub(start)) {
        _ if info.dtype != Dtype::U32 => Err(format!("dtype is {:?}; expected U32", info.dtype)),
        (Some(first), Some(size)) if first.is_multiple_of(LINE) && size.is_multiple_of(LINE) => Ok((first, size)),
        _ => Err(format!("bytes {start}..{end} of the data are not at multiples of {LINE} in the file")),
    }
}

fn blocks((start, size): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    (0..size).step_by(BLOCK).map(move |first| (start + first, BLOCK.min(size - first)))
}
