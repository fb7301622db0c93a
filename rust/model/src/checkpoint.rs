//! Safetensors files: headers checked against the file before anything is believed, tensors read on demand.
//!
//! The file is read, not mapped: a file that is cut short under us is a short read, hence an error, and not a signal.
//! Format: 8 bytes N (little endian), N bytes of JSON, the tensors' bytes without holes.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ferroformer_kernels::bytes_of_mut;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::error::{ModelError, Result};

/// The limit of the reference implementation.
const LONGEST_HEADER: u64 = 100_000_000;

/// One open safetensors file.
pub(crate) struct Shard {
    path: PathBuf,
    pub(crate) file: File,
    /// Where the tensors' bytes begin.
    pub(crate) data: u64,
    pub(crate) metadata: Metadata,
}

impl Shard {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let io = |e| ModelError::io(path, e);
        // Asked before opening: to open a FIFO would wait for a writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(ModelError::corrupt(path, "not a regular file"));
        }
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut start = Vec::new();
        file.by_ref().take(8).read_to_end(&mut start).map_err(io)?;
        let length = header_length(&start, size).map_err(|problem| ModelError::corrupt(path, problem))?;
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|e| ModelError::corrupt(path, format!("the header is not valid safetensors JSON: {e}")))?;
        let (expected, found) = (metadata.data_len() as u64, size - 8 - length);
        if expected != found {
            let problem = format!("the header describes {expected} bytes of tensors, the file holds {found}");
            let hint = if found < expected { "; an incomplete download?" } else { "" };
            return Err(ModelError::corrupt(path, problem + hint));
        }
        Ok(Shard { path: path.to_owned(), file, data: 8 + length, metadata })
    }
}

/// N, if a file of this size can hold so long a header.
fn header_length(start: &[u8], size: u64) -> std::result::Result<u64, String> {
    let Ok(bytes) = <[u8; 8]>::try_from(start) else {
        return Err(format!("{} bytes are too few for a safetensors file, which has at least 8", start.len()));
    };
    let length = u64::from_le_bytes(bytes);
    if length > size - 8 {
        let hint = match &bytes {
            b"version " => "; this looks like a git-lfs pointer: run `git lfs pull`",
            [b'P', b'K', 3, 4, ..] => "; this looks like a zip archive, perhaps a torch checkpoint",
            [b'<', ..] => "; this looks like a web page",
            _ => "; an incomplete download?",
        };
        return Err(format!(
            "the header should be {length} bytes long, the file has {} after its length{hint}",
            size - 8
        ));
    }
    if length > LONGEST_HEADER {
        return Err(format!("the header is {length} bytes long; the limit is {LONGEST_HEADER}"));
    }
    Ok(length)
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
            for name in shard.metadata.tensors().into_keys() {
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
        self.shards.iter().filter_map(|shard| shard.metadata.metadata().clone()).flatten().collect()
    }

    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>> {
        let shard = self.by_name.get(name).map(|i| &self.shards[*i]);
        shard
            .and_then(|shard| shard.metadata.info(name).map(|info| Tensor { shard, info, name: name.to_owned() }))
            .ok_or_else(|| ModelError::Mismatch(format!("the checkpoint has no tensor {name:?}")))
    }
}

/// A tensor that is still on disk.
pub struct Tensor<'a> {
    shard: &'a Shard,
    info: &'a TensorInfo,
    name: String,
}

impl Tensor<'_> {
    pub fn shape(&self) -> &[usize] {
        &self.info.shape
    }

    /// As safetensors spells it: "F32", "BF16", ...
    pub fn dtype(&self) -> String {
        format!("{:?}", self.info.dtype)
    }

    /// An error unless the tensor is a floating-point one of this shape.
    pub(crate) fn expect(&self, shape: &[usize]) -> Result<()> {
        let (name, path) = (&self.name, self.shard.path.display());
        if !matches!(self.info.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let dtype = self.dtype();
            let problem = format!("{path}: tensor {name:?} has dtype {dtype}; expected F32, F16, BF16 or F64");
            return Err(ModelError::Mismatch(problem));
        }
        if self.info.shape != shape {
            let found = &self.info.shape;
            let problem = format!("{path}: tensor {name:?} has shape {found:?}; the model expects {shape:?}");
            return Err(ModelError::Mismatch(problem));
        }
        Ok(())
    }

    /// Fills `out` with the elements from `first` on, as f32.
    pub(crate) fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
        if self.info.dtype == Dtype::F32 && cfg!(target_endian = "little") {
            return self.read_bytes(first * 4, bytes_of_mut(out));
        }
        let width = self.info.dtype.bitsize() / 8;
        let mut bytes = vec![0; out.len() * width];
        self.read_bytes(first * width, &mut bytes)?;
        match self.info.dtype {
            Dtype::F32 => convert(&bytes, out, f32::from_le_bytes),
            Dtype::F16 => convert(&bytes, out, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => convert(&bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F64 => convert(&bytes, out, |b| f64::from_le_bytes(b) as f32),
            _ => return self.expect(&self.info.shape),
        }
        Ok(())
    }

    fn read_bytes(&self, first: usize, bytes: &mut [u8]) -> Result<()> {
        let offset = self.shard.data + (self.info.data_offsets.0 + first) as u64;
        read_exact_at(&self.shard.file, bytes, offset).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                ModelError::corrupt(&self.shard.path, "the file was cut short while it was read")
            }
            _ => ModelError::io(&self.shard.path, e),
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
