//! A model, as Python sees it. Arrays come in C-contiguous (`ferroformer.model_inputs` sees to that) and are copied, so that
//! nobody can change them while the GIL is released; results are moved out.

use std::collections::HashMap;
use std::path::PathBuf;

use ferroformer_model::{
    self as model, Batch, Blueprint, HeadInput, Padded, Pooling, Precision, SentencePooling, Source, Want,
};
use numpy::ndarray::{Array, Dimension, IntoDimension};
use numpy::{Element, IntoPyArray, PyArray, PyArray2, PyArray3, PyArrayDyn, PyReadonlyArray};
use pyo3::prelude::*;

use crate::checkpoint::Checkpoint;
use crate::enter::{enter, enter_long};
use crate::errors::{internal, model_error, named};
use crate::runtime::{level, threads};

#[pyclass(frozen, module = "ferroformer._native")]
pub(crate) struct Encoder(model::Encoder);

type Ids<'py> = Option<PyReadonlyArray<'py, i64, numpy::Ix2>>;
type List<'py, T> = Option<Vec<Bound<'py, T>>>;
type Outputs<'py> = (
    Option<Bound<'py, PyArray3<f32>>>,
    Option<Bound<'py, PyArray2<f32>>>,
    Option<Bound<'py, PyArrayDyn<f32>>>,
    List<'py, PyArray3<f32>>,
    List<'py, PyArray<f32, numpy::Ix4>>,
);

#[pymethods]
impl Encoder {
    #[new]
    fn new(
        py: Python<'_>,
        blueprint: &str,
        checkpoint: Option<&Checkpoint>,
        tensor_names: HashMap<String, String>,
        initializer_range: f32,
        seed: u64,
        dtype: &str,
    ) -> PyResult<Self> {
        let (level, precision, threads) = (level()?, precision(dtype)?, threads()?);
        let checkpoint = checkpoint.map(|checkpoint| &*checkpoint.0);
        let source = Source { checkpoint, tensor_names: &tensor_names, initializer_range, seed };
        let load = || model::Encoder::load(Blueprint::from_json(blueprint)?, level, precision, &source, threads);
        Ok(Self(enter(py, load, model_error)?))
    }

    /// From a packed file, which is mapped.
    #[staticmethod]
    fn map(py: Python<'_>, blueprint: &str, path: PathBuf, dtype: Option<&str>) -> PyResult<Self> {
        let (level, precision, threads) = (level()?, dtype.map(precision).transpose()?, threads()?);
        let map = || model::Encoder::map(Blueprint::from_json(blueprint)?, level, precision, &path, threads);
        Ok(Self(enter(py, map, model_error)?))
    }

    #[staticmethod]
    fn slots(py: Python<'_>, blueprint: &str) -> PyResult<Vec<(String, Vec<usize>)>> {
        let slots = enter(py, || model::Encoder::slots(&Blueprint::from_json(blueprint)?), model_error)?;
        Ok(slots.into_iter().map(|slot| (slot.name, slot.shape)).collect())
    }

    #[expect(clippy::too_many_arguments, reason = "the arguments of transformers' forward")]
    fn forward<'py>(
        &self,
        py: Python<'py>,
        input_ids: Ids<'py>,
        inputs_embeds: Option<PyReadonlyArray<'py, f32, numpy::Ix3>>,
        attention_mask: Ids<'py>,
        token_type_ids: Ids<'py>,
        position_ids: Ids<'py>,
        output_hidden_states: bool,
        output_attentions: bool,
    ) -> PyResult<Outputs<'py>> {
        let shape = input_ids.as_ref().map(shape).or(inputs_embeds.as_ref().map(shape)).unwrap_or_default();
        let (rows, width) = (shape.first().copied().unwrap_or(0), shape.get(1).copied().unwrap_or(0));
        let [ids, mask, types, positions] =
            [copy(input_ids)?, copy(attention_mask)?, copy(token_type_ids)?, copy(position_ids)?];
        let embeds = copy(inputs_embeds)?;
        let padded = Padded {
            rows,
            width,
            ids: ids.as_deref(),
            embeds: embeds.as_deref(),
            mask: mask.as_deref(),
            types: types.as_deref(),
            positions: positions.as_deref(),
        };
        let want = Want { hidden_states: output_hidden_states, attentions: output_attentions };
        let (threads, blueprint) = (threads()?, self.0.blueprint());
        let out = enter_long(py, |cancel| {
            let batch = Batch::from_padded(padded, blueprint)?;
            self.0.forward(threads, &batch, want, cancel)
        })?;
        let (hidden, heads) = (blueprint.hidden_size, blueprint.attention.heads);
        let states = |states: Vec<Vec<f32>>| states.into_iter().map(|x| array(py, x, (rows, width, hidden))).collect();
        let attentions =
            |all: Vec<Vec<f32>>| all.into_iter().map(|x| array(py, x, (rows, heads, width, width))).collect();
        let logits = blueprint.head.map_or(vec![], |head| match head.reads {
            HeadInput::Pooled => vec![rows, head.outputs],
            HeadInput::Tokens => vec![rows, width, head.outputs],
        });
        Ok((
            out.last_hidden_state.map(|x| array(py, x, (rows, width, hidden))).transpose()?,
            out.pooled.map(|x| array(py, x, (rows, hidden))).transpose()?,
            out.logits.map(|x| array(py, x, logits)).transpose()?,
            output_hidden_states.then(|| states(out.hidden_states)).transpose()?,
            output_attentions.then(|| attentions(out.attentions)).transpose()?,
        ))
    }

    #[expect(clippy::too_many_arguments, reason = "the ragged batch and how it is pooled")]
    fn embed<'py>(
        &self,
        py: Python<'py>,
        token_ids: PyReadonlyArray<'py, i64, numpy::Ix1>,
        token_type_ids: Option<PyReadonlyArray<'py, i64, numpy::Ix1>>,
        lengths: PyReadonlyArray<'py, i64, numpy::Ix1>,
        skip: Option<PyReadonlyArray<'py, i64, numpy::Ix1>>,
        pooling: Vec<String>,
        normalize: bool,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let modes =
            pooling.iter().map(|name| name.parse::<Pooling>()).collect::<Result<Vec<_>, _>>().map_err(model_error)?;
        let (ids, types, skip) = (copy(Some(token_ids))?.unwrap_or_default(), copy(token_type_ids)?, copy(skip)?);
        let lengths = copy(Some(lengths))?.unwrap_or_default();
        let pooling = SentencePooling { modes: &modes, skip: skip.as_deref(), normalize };
        let threads = threads()?;
        let vectors = enter_long(py, |cancel| {
            let batch = Batch::from_ragged(&ids, types.as_deref(), &lengths, self.0.blueprint())?;
            self.0.embed(threads, &batch, &pooling, cancel)
        })?;
        array(py, vectors, (lengths.len(), modes.len() * self.0.blueprint().hidden_size))
    }

    fn tensor<'py>(&self, py: Python<'py>, slot: &str) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let (shape, values) = enter(py, || self.0.tensor(slot), model_error)?;
        array(py, values, shape)
    }

    fn num_parameters(&self) -> u64 {
        self.0.blueprint().parameters()
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        self.0.precision().name()
    }

    fn memory_footprint(&self) -> usize {
        self.0.bytes()
    }

    fn save(&self, py: Python<'_>, path: PathBuf, tensor_names: HashMap<String, String>) -> PyResult<()> {
        enter(py, || self.0.save(&path, &tensor_names), model_error)
    }

    fn save_packed(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        enter(py, || self.0.save_packed(&path), model_error)
    }
}

fn precision(dtype: &str) -> PyResult<Precision> {
    let unknown = || named("InputError", format!("dtype={dtype:?}; expected float32, bfloat16 or int8"));
    Precision::by_name(dtype).ok_or_else(unknown)
}

fn shape<T: Element, D: Dimension>(array: &PyReadonlyArray<'_, T, D>) -> Vec<usize> {
    array.as_array().shape().to_vec()
}

fn copy<T: Element + Copy, D: Dimension>(array: Option<PyReadonlyArray<'_, T, D>>) -> PyResult<Option<Vec<T>>> {
    let slice = |array: PyReadonlyArray<'_, T, D>| Ok(array.as_slice()?.to_vec());
    let not_contiguous = |_: numpy::AsSliceError| named("InputError", "an array is not C-contiguous".to_owned());
    array.map(slice).transpose().map_err(not_contiguous)
}

/// Moves the values into an array of the given shape.
fn array<S: IntoDimension>(py: Python<'_>, values: Vec<f32>, shape: S) -> PyResult<Bound<'_, PyArray<f32, S::Dim>>> {
    let array = Array::from_shape_vec(shape, values).map_err(|e| internal(e.to_string()))?;
    Ok(array.into_pyarray(py))
}
