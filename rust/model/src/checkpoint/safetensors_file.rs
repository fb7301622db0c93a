//! Safetensors files: 8 bytes N (little endian), N bytes of JSON, the tensors' bytes without holes.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::Metadata;

use super::{Contents, Place, open_file};
use crate::error::{ModelError, Result};
use crate::order::Order;

/// The limit of the reference implementation.
const LONGEST_HEADER: u64 = 100_000_000;

/// An open file, its header checked against its size.
pub(crate) struct SafetensorsFile {
    pub(crate) file: File,
    /// Where the tensors' bytes begin.
    pub(crate) data: u64,
    pub(crate) metadata: Metadata,
}

impl SafetensorsFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let io = |e| ModelError::io(path, e);
        let (mut file, size) = open_file(path)?;
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
        Ok(SafetensorsFile { file, data: 8 + length, metadata })
    }

    pub(super) fn contents(self) -> Contents {
        let places = self.metadata.tensors().into_iter().map(|(name, info)| {
            let start = self.data + info.data_offsets.0 as u64;
            (
                name,
                Place {
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    start,
                    order: Order::default(),
                    big_endian: false,
                },
            )
        });
        let tensors: HashMap<_, _> = places.collect();
        Contents { file: self.file, tensors, metadata: self.metadata.metadata().clone().unwrap_or_default() }
    }
}

/// N, if a file of this size can hold so long a header.
fn header_length(start: &[u8], size: u64) -> std::result::Result<u64, String> {
    let Ok(bytes) = <[u8; 8]>::try_from(start) else {
        return Err(format!("{} bytes are too few for a safetensors file, which has at least 8", start.len()));
    };
    let length = u64::from_le_bytes(bytes);
    if length > size - 8 {
        return Err(format!(
            "the header should be {length} bytes long, the file has {} after its length{}",
            size - 8,
            what_it_looks_like(&bytes).unwrap_or("; an incomplete download?")
        ));
    }
    if length > LONGEST_HEADER {
        return Err(format!("the header is {length} bytes long; the limit is {LONGEST_HEADER}"));
    }
    Ok(length)
}

/// A hint for a file that is no checkpoint, from its first bytes.
pub(super) fn what_it_looks_like(start: &[u8]) -> Option<&'static str> {
    match start {
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', ..] => {
            Some("; this looks like a git-lfs pointer: run `git lfs pull`")
        }
        [b'P', b'K', 3, 4, ..] => Some("; this looks like a zip archive, perhaps a torch checkpoint"),
        [b'<', ..] => Some("; this looks like a web page"),
        _ => None,
    }
}
