//! Checkpoints: files of tensors by name. What a file says is checked against the file before anything is believed; tensors
//! are read on demand, piece by piece.
//!
//! Each format ([`safetensors_file`], [`torch_file`]) says where its tensors lie: a [`Place`] each, from which they are read
//! alike. Files are read, not mapped: one that is cut short under us is a short read, hence an error, and not a signal.

mod pickle;
mod safetensors_file;
mod torch_file;
mod zip;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use ferroformer_kernels::bytes_of_mut;
use half::{bf16, f16};
use safetensors::Dtype;

use crate::error::{ModelError, Result};
use crate::memory;
use crate::order::Order;

pub(crate) use safetensors_file::SafetensorsFile;

/// Where a tensor lies in its file: all of it inside, which has been checked.
struct Place {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Of its first element.
    start: u64,
    order: Order,
    big_endian: bool,
}

impl Place {
    fn width(&self) -> usize {
        self.dtype.bitsize() / 8
    }
}

/// What a reader of a format finds in a file.
struct Contents {
    file: File,
    tensors: HashMap<String, Place>,
    metadata: HashMap<String, String>,
}

/// One file of a checkpoint.
struct Shard {
    path: PathBuf,
    contents: Contents,
}

impl Shard {
    /// By the name's end, as transformers does.
    fn open(path: &Path) -> Result<Self> {
        let torch = path.extension().is_some_and(|end| ["bin", "pt", "pth"].iter().any(|torch| end == *torch));
        let contents = if torch { torch_file::open(path)? } else { SafetensorsFile::open(path)?.contents() };
        Ok(Shard { path: path.to_owned(), contents })
    }
}

/// A file and its size.
fn open_file(path: &Path) -> Result<(File, u64)> {
    let io = |e| ModelError::io(path, e);
    // Asked before opening: to open a FIFO would wait for a writer.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(ModelError::corrupt(path, "not a regular file"));
    }
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    Ok((file, size))
}

/// The tensors of one or more files, by name.
pub struct Checkpoint {
    shards: Vec<Shard>,
    /// In the order of their names.
    tensors: Vec<(String, usize)>,
    by_name: HashMap<String, usize>,
}

impl Checkpoint {
    /// Opens all `files` and reads their headers. `weight_map`, from the index of a sharded checkpoint, says which file must
    /// hold which tensor.
    pub fn open(files: &[PathBuf], weight_map: Option<&HashMap<String, usize>>) -> Result<Self> {
        let shards = files.iter().map(|path| Shard::open(path)).collect::<Result<Vec<_>>>()?;
        let mut by_name = HashMap::new();
        for (i, shard) in shards.iter().enumerate() {
            for name in shard.contents.tensors.keys() {
                if let Some(other) = by_name.insert(name.clone(), i) {
                    let problem = format!("tensor {name:?} is also in {}", shards[other].path.display());
                    return Err(ModelError::corrupt(&shard.path, problem));
                }
            }
        }
        for (name, &i) in weight_map.into_iter().flatten() {
            let Some(shard) = shards.get(i) else {
                return Err(ModelError::Input(format!("weight_map: {name:?} is in file {i} of {}", shards.len())));
            };
            if by_name.get(name) != Some(&i) {
                let problem = format!("tensor {name:?}, which the index places here, is not in this file");
                return Err(ModelError::corrupt(&shard.path, problem));
            }
        }
        let mut tensors: Vec<_> = by_name.iter().map(|(name, i)| (name.clone(), *i)).collect();
        tensors.sort();
        Ok(Checkpoint { shards, tensors, by_name })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(name, _)| name.as_str())
    }

    pub fn metadata(&self) -> HashMap<String, String> {
        self.shards.iter().flat_map(|shard| shard.contents.metadata.clone()).collect()
    }

    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>> {
        let shard = self.by_name.get(name).map(|i| &self.shards[*i]);
        let place = shard.and_then(|shard| Some((shard, shard.contents.tensors.get(name)?)));
        place
            .map(|(shard, place)| Tensor { shard, place, name: name.to_owned() })
            .ok_or_else(|| ModelError::Mismatch(format!("the checkpoint has no tensor {name:?}")))
    }
}

/// A tensor that is still on disk.
pub struct Tensor<'a> {
    shard: &'a Shard,
    place: &'a Place,
    name: String,
}

impl Tensor<'_> {
    pub fn shape(&self) -> &[usize] {
        &self.place.shape
    }

    /// As safetensors spells it: "F32", "BF16", ...
    pub fn dtype(&self) -> String {
        format!("{:?}", self.place.dtype)
    }

    /// An error unless the tensor is a floating-point one of this shape.
    pub(crate) fn expect(&self, shape: &[usize]) -> Result<()> {
        let (name, path) = (&self.name, self.shard.path.display());
        if !matches!(self.place.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let dtype = self.dtype();
            let problem = format!("{path}: tensor {name:?} has dtype {dtype}; expected F32, F16, BF16 or F64");
            return Err(ModelError::Mismatch(problem));
        }
        if self.place.shape != shape {
            let found = &self.place.shape;
            let problem = format!("{path}: tensor {name:?} has shape {found:?}; the model expects {shape:?}");
            return Err(ModelError::Mismatch(problem));
        }
        Ok(())
    }

    /// Whether another holds the same values.
    pub fn equals(&self, other: &Tensor) -> Result<bool> {
        self.expect(self.shape())?;
        other.expect(self.shape())?;
        const PIECE: usize = 1 << 16;
        let count = self.shape().iter().try_fold(1_usize, |count, size| count.checked_mul(*size)).unwrap_or(0);
        let (mut own, mut others) = (vec![0.0; PIECE.min(count)], vec![0.0; PIECE.min(count)]);
        for first in (0..count).step_by(PIECE) {
            let piece = PIECE.min(count - first);
            self.read(first, &mut own[..piece])?;
            other.read(first, &mut others[..piece])?;
            if own[..piece] != others[..piece] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All elements as f32; an error if the tensor is not one of floats.
    pub fn values(&self) -> Result<Vec<f32>> {
        self.expect(self.shape())?;
        let count = self.shape().iter().try_fold(1_usize, |count, size| count.checked_mul(*size));
        let mut values = memory::zeroed_vec("a tensor", count)?;
        // Piece by piece: what is not f32 is converted on the way.
        const PIECE: usize = 1 << 16;
        values.chunks_mut(PIECE).enumerate().try_for_each(|(i, piece)| self.read(i * PIECE, piece))?;
        Ok(values)
    }

    /// Fills `out` with the elements from `first` on, as f32.
    pub(crate) fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
        self.read_as(&Order::default(), first, out)
    }

    /// Likewise, of a view of the tensor.
    pub(crate) fn read_as(&self, order: &Order, first: usize, out: &mut [f32]) -> Result<()> {
        let place = self.place;
        let plain = order.is_plain() && place.order.is_plain();
        if place.dtype == Dtype::F32 && plain && place.big_endian == cfg!(target_endian = "big") {
            return self.read_bytes(first * 4, bytes_of_mut(out));
        }
        let mut bytes = vec![0; out.len() * place.width()];
        if plain {
            self.read_bytes(first * place.width(), &mut bytes)?;
        } else {
            self.gather(order, first, &mut bytes)?;
        }
        if place.big_endian {
            bytes.chunks_exact_mut(place.width()).for_each(<[u8]>::reverse);
        }
        match place.dtype {
            Dtype::F32 => convert(&bytes, out, f32::from_le_bytes),
            Dtype::F16 => convert(&bytes, out, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => convert(&bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F64 => convert(&bytes, out, |b| f64::from_le_bytes(b) as f32),
            _ => return self.expect(&place.shape),
        }
        Ok(())
    }

    /// Elements `first..` of a view, which are read in the order of the file, near ones in one go.
    fn gather(&self, order: &Order, first: usize, out: &mut [u8]) -> Result<()> {
        /// Bytes between two elements that cost less than another read.
        const GAP: usize = 512;
        const LONGEST: usize = 1 << 20;
        let width = self.place.width();
        // One of the two is plain, nearly always.
        let run = match (order.run(), self.place.order.run()) {
            (run, usize::MAX) | (usize::MAX, run) => run,
            _ => 1,
        };
        let mut wanted = vec![];
        let (mut i, mut left) = (first, out);
        while !left.is_empty() {
            let count = (run - i % run).min(left.len() / width);
            let (piece, after) = left.split_at_mut(count * width);
            wanted.push((self.place.order.place(order.place(i)) * width, piece));
            (i, left) = (i + count, after);
        }
        wanted.sort_unstable_by_key(|(place, _)| *place);
        let mut rest = &mut wanted[..];
        let mut bytes = vec![];
        while let Some((start, _)) = rest.first() {
            let start = *start;
            let end = |(place, piece): &(usize, &mut [u8])| place + piece.len();
            let near =
                |pair: &[(usize, &mut [u8])]| pair[1].0 <= end(&pair[0]) + GAP && end(&pair[1]) <= start + LONGEST;
            let count = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
            let (run, after) = rest.split_at_mut(count);
            bytes.resize(run.iter().map(end).max().unwrap_or(start) - start, 0);
            self.read_bytes(start, &mut bytes)?;
            for (place, piece) in run {
                let size = piece.len();
                piece.copy_from_slice(&bytes[*place - start..][..size]);
            }
            rest = after;
        }
        Ok(())
    }

    /// The bytes from `first` on.
    fn read_bytes(&self, first: usize, bytes: &mut [u8]) -> Result<()> {
        let Shard { path, contents } = self.shard;
        read_exact_at(&contents.file, bytes, self.place.start + first as u64).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => ModelError::corrupt(path, "the file was cut short while it was read"),
            _ => ModelError::io(path, e),
        })
    }
}

fn convert<const N: usize>(bytes: &[u8], out: &mut [f32], f: impl Fn([u8; N]) -> f32) {
    for (x, b) in out.iter_mut().zip(bytes.as_chunks().0) {
        *x = f(*b);
    }
}

#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_read(bytes, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                bytes = &mut bytes[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}
