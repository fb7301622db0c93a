//! From weights in their final layout back to tensors as checkpoints store them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use ferroformer_kernels::{Level, PackedLinear, Table};
use safetensors::{Dtype, View};

use crate::error::{ModelError, Result};

/// A slot's values where they lie.
pub(crate) enum Values<'a> {
    Vector(&'a [f32]),
    Table(&'a Table, Level),
    Weights(&'a PackedLinear, Range<usize>),
    Biases(&'a PackedLinear, Range<usize>),
}

impl Values<'_> {
    pub(crate) fn to_vec(&self) -> Vec<f32> {
        match self {
            Values::Vector(values) => values.to_vec(),
            Values::Table(table, level) => (0..table.rows()).flat_map(|r| table.row(*level, r)).collect(),
            Values::Weights(packed, outputs) => outputs.clone().flat_map(|n| packed.weights_of(n)).collect(),
            Values::Biases(packed, outputs) => outputs.clone().map(|n| packed.bias_of(n)).collect(),
        }
    }
}

/// A slot with its values, as the safetensors crate wants to see it.
pub(crate) struct Export<'a> {
    pub(crate) slot: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Values<'a>,
}

impl View for &Export<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.values.to_vec().iter().flat_map(|x| x.to_le_bytes()).collect()
    }
    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * 4
    }
}

/// Writes the exports under their names in `tensor_names`: beside the target first, then renamed, so that a reader finds
/// the old file or the new one, whole.
pub(crate) fn save(exports: &[Export], path: &Path, tensor_names: &HashMap<String, String>) -> Result<()> {
    let name = |slot: &String| {
        let missing = || ModelError::Input(format!("tensor_names has no name for the slot {slot:?}"));
        tensor_names.get(slot).cloned().ok_or_else(missing)
    };
    let tensors = exports.iter().map(|e| Ok((name(&e.slot)?, e))).collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let unfinished = path.with_extension(format!("unfinished-{}", std::process::id()));
    let written = safetensors::serialize_to_file(tensors, Some(metadata), &unfinished)
        .map_err(|e| match e {
            safetensors::SafeTensorError::IoError(e) => ModelError::io(path, e),
            e => ModelError::io(path, std::io::Error::other(e)),
        })
        .and_then(|()| {
            let settle = || {
                File::open(&unfinished)?.sync_all()?;
                std::fs::rename(&unfinished, path)
            };
            settle().map_err(|e| ModelError::io(path, e))
        });
    if written.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&unfinished);
    }
    written
}
