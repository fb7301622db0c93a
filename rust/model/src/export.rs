//! From weights in their final layout back to tensors as checkpoints store them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use ferroformer_kernels::{Level, PackedLinear, Precision, Table, floats_of_mut};
use half::bf16;
use safetensors::{Dtype, View};

use crate::error::{ModelError, Result};
use crate::order::Order;

/// A slot's values where they lie.
pub(crate) enum Values<'a> {
    Vector(&'a [f32]),
    Table(&'a Table, Level),
    Weights(Outputs<'a>, &'a Order),
    Biases(Outputs<'a>, &'a Order),
}

/// Of one layer after the other.
pub(crate) type Outputs<'a> = Vec<(&'a PackedLinear, Range<usize>)>;
pub(crate) type OutputsMut<'a> = Vec<(&'a mut PackedLinear, Range<usize>)>;

impl Values<'_> {
    /// Whether bf16 holds them exactly.
    fn in_bf16(&self) -> bool {
        match self {
            Values::Vector(_) | Values::Biases(..) => false,
            Values::Table(table, _) => table.precision() == Precision::BFloat16,
            Values::Weights(layers, _) => layers.iter().all(|(packed, _)| packed.precision() == Precision::BFloat16),
        }
    }

    /// All of them, row-major as a checkpoint has them.
    pub(crate) fn to_vec(&self) -> Vec<f32> {
        match self {
            Values::Vector(values) => values.to_vec(),
            Values::Table(table, level) => (0..table.rows()).flat_map(|r| table.row(*level, r)).collect(),
            Values::Weights(layers, order) => {
                order.lay(each(layers).flat_map(|(packed, n)| packed.weights_of(n)).collect())
            }
            Values::Biases(layers, order) => order.lay(each(layers).map(|(packed, n)| packed.bias_of(n)).collect()),
        }
    }
}

fn each<'a>(layers: &Outputs<'a>) -> impl Iterator<Item = (&'a PackedLinear, usize)> {
    layers.iter().flat_map(|(packed, outputs)| outputs.clone().map(|n| (*packed, n)))
}

/// A slot's place.
pub(crate) enum ValuesMut<'a> {
    Vector(&'a mut [f32]),
    /// In f32.
    Table(&'a mut Table),
    Weights(OutputsMut<'a>, &'a Order),
    Biases(OutputsMut<'a>, &'a Order),
}

impl ValuesMut<'_> {
    /// Writes all values, row-major as a checkpoint has them.
    pub(crate) fn set(self, values: &[f32]) {
        match self {
            ValuesMut::Vector(place) => place.copy_from_slice(values),
            ValuesMut::Table(table) => floats_of_mut(table.words_mut()).copy_from_slice(values),
            ValuesMut::Weights(layers, order) => {
                let (values, mut first) = (order.read(values), 0);
                for (packed, outputs) in layers {
                    let count = outputs.len() * packed.inputs();
                    packed.set_weights(outputs.start, &values[first..first + count]);
                    first += count;
                }
            }
            ValuesMut::Biases(layers, order) => {
                let (values, mut first) = (order.read(values), 0);
                for (packed, outputs) in layers {
                    packed.set_bias(outputs.start, &values[first..first + outputs.len()]);
                    first += outputs.len();
                }
            }
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
        if self.values.in_bf16() { Dtype::BF16 } else { Dtype::F32 }
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.values.to_vec();
        if self.values.in_bf16() {
            values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect()
        } else {
            values.iter().flat_map(|x| x.to_le_bytes()).collect()
        }
    }
    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype().bitsize() / 8
    }
}

/// Writes the exports under their names in `tensor_names`.
pub(crate) fn save(exports: &[Export], path: &Path, tensor_names: &HashMap<String, String>) -> Result<()> {
    let name = |slot: &String| {
        let missing = || ModelError::Input(format!("tensor_names has no name for the slot {slot:?}"));
        tensor_names.get(slot).cloned().ok_or_else(missing)
    };
    let tensors = exports.iter().map(|e| Ok((name(&e.slot)?, e))).collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    replace(path, |unfinished| {
        safetensors::serialize_to_file(tensors, Some(metadata), unfinished).map_err(|e| match e {
            safetensors::SafeTensorError::IoError(e) => e,
            e => std::io::Error::other(e),
        })
    })
}

/// Has `write` write a file beside `path` and puts it there, so that a reader finds the old file or the new one, whole. Who has
/// mapped the old one keeps it.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let unfinished = path.with_extension(format!("unfinished-{}", std::process::id()));
    let written = write(&unfinished).and_then(|()| {
        File::open(&unfinished)?.sync_all()?;
        std::fs::rename(&unfinished, path)
    });
    written.map_err(|e| {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&unfinished);
        ModelError::io(path, e)
    })
}
