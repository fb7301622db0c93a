//! A model, as Python sees it. Arrays come in C-contiguous (`ferroformer.model_inputs` sees to that) and are copied, so that
//! nobody can change them while the GIL is released; results are moved out.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, RwLock, TryLockError};

use ferroformer_model::{
    self as model, Batch, Blueprint, Cotangents, Dropout, HeadInput, ModelError, Padded, Pooling, Precision, Recipe,
    SentencePooling, Source, Want,
};
use numpy::{PyArray, PyArray2, PyArray3, PyArrayDyn, PyReadonlyArray, PyReadonlyArrayDyn};
use pyo3::prelude::*;

use crate::arrays::{array, copy, shape};

use crate::cache::Cache;
use crate::checkpoint::Checkpoint;
use crate::enter::{enter, enter_long};
use crate::errors::{model_error, named};
use crate::runtime::{level, threads};
use crate::training::{Gradients, Recording, lock, take};

/// Calls read the weights side by side; an optimiser's step writes them and has to be alone.
#[pyclass(frozen, module = "ferroformer._native")]
pub(crate) struct Encoder {
    encoder: RwLock<model::Encoder>,
    blueprint: Blueprint,
    precision: Precision,
}

impl Encoder {
    pub(crate) fn cache(&self) -> model::Cache {
        model::Cache::new(&self.blueprint, self.precision)
    }

    fn of(encoder: model::Encoder) -> Self {
        let (blueprint, precision) = (encoder.blueprint().clone(), encoder.precision());
        Encoder { encoder: RwLock::new(encoder), blueprint, precision }
    }

    /// To be called without the GIL: who writes may need it to be done.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&model::Encoder) -> T) -> T {
        work(&self.encoder.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&mut model::Encoder) -> Result<T, ModelError>,
    ) -> Result<T, ModelError> {
        match self.encoder.try_write() {
            Ok(mut encoder) => work(&mut encoder),
            Err(TryLockError::Poisoned(poisoned)) => work(&mut poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(ModelError::Input("the weights cannot change while another call uses the model".to_owned()))
            }
        }
    }
}

type Ids<'py> = Option<PyReadonlyArray<'py, i64, numpy::Ix2>>;
/// The last hidden states of a source (B, Ts, size) and its mask (B, Ts).
type SourceArrays<'py> = Option<(PyReadonlyArray<'py, f32, numpy::Ix3>, Ids<'py>)>;
/// The ids of a source (B, Ts) and its mask.
type SourceIds<'py> = Option<(PyReadonlyArray<'py, i64, numpy::Ix2>, Ids<'py>)>;
type List<'py, T> = Option<Vec<Bound<'py, T>>>;
type Outputs<'py> = (
    Option<Bound<'py, PyArray3<f32>>>,
    Option<Bound<'py, PyArray2<f32>>>,
    Option<Bound<'py, PyArrayDyn<f32>>>,
    List<'py, PyArray3<f32>>,
    List<'py, PyArray<f32, numpy::Ix4>>,
    List<'py, PyArray<f32, numpy::Ix4>>,
);

type Recorded<'py> = (
    Option<Bound<'py, PyArray3<f32>>>,
    Option<Bound<'py, PyArray2<f32>>>,
    Option<Bound<'py, PyArrayDyn<f32>>>,
    Option<Bound<'py, PyArray3<f32>>>,
    Recording,
);

#[pymethods]
impl Encoder {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "where weights come from, and what they are")]
    fn new(
        py: Python<'_>,
        blueprint: &str,
        checkpoint: Option<&Checkpoint>,
        tensor_names: HashMap<String, String>,
        initializer_range: f32,
        spreads: HashMap<String, f32>,
        seed: u64,
        dtype: &str,
    ) -> PyResult<Self> {
        let (level, precision, threads) = (level()?, precision(dtype)?, threads()?);
        let checkpoint = checkpoint.map(|checkpoint| &*checkpoint.0);
        let source = Source { checkpoint, tensor_names: &tensor_names, initializer_range, spreads: &spreads, seed };
        let load = || model::Encoder::load(Blueprint::from_json(blueprint)?, level, precision, &source, threads);
        Ok(Self::of(enter(py, load, model_error)?))
    }

    /// From a packed file, which is mapped.
    #[staticmethod]
    fn map(py: Python<'_>, blueprint: &str, path: PathBuf, dtype: Option<&str>) -> PyResult<Self> {
        let (level, precision, threads) = (level()?, dtype.map(precision).transpose()?, threads()?);
        let map = || model::Encoder::map(Blueprint::from_json(blueprint)?, level, precision, &path, threads);
        Ok(Self::of(enter(py, map, model_error)?))
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
        task_type_ids: Ids<'py>,
        position_ids: Ids<'py>,
        compute_padding: bool,
        selected: Ids<'py>,
        output_hidden_states: bool,
        output_attentions: bool,
        cache: Option<&Cache>,
        source: SourceArrays<'py>,
        encode: bool,
    ) -> PyResult<Outputs<'py>> {
        let shape = input_ids.as_ref().map(shape).or(inputs_embeds.as_ref().map(shape)).unwrap_or_default();
        let (rows, width) = (shape.first().copied().unwrap_or(0), shape.get(1).copied().unwrap_or(0));
        let given = [input_ids, attention_mask, token_type_ids, task_type_ids, position_ids, selected];
        let [ids, mask, types, tasks, positions, selected] = given.map(copy);
        let (ids, mask, types, tasks, positions, selected) = (ids?, mask?, types?, tasks?, positions?, selected?);
        let embeds = copy(inputs_embeds)?;
        let padded = Padded {
            rows,
            width,
            ids: ids.as_deref(),
            embeds: embeds.as_deref(),
            mask: mask.as_deref(),
            types: types.as_deref(),
            tasks: tasks.as_deref(),
            positions: positions.as_deref(),
            first_positions: None,
            compute_padding,
            selected: selected.as_deref(),
        };
        let want = Want { hidden_states: output_hidden_states, attentions: output_attentions };
        let blueprint = if encode { self.blueprint.source.as_deref() } else { Some(&self.blueprint) };
        let nothing = || named("InputError", "the model attends to no source".to_owned());
        let (threads, blueprint) = (threads()?, blueprint.ok_or_else(nothing)?);
        let source_shape = source.as_ref().map(|(states, _)| shape_of(states));
        let (source_states, source_mask) = source.unzip();
        let (source_states, source_mask) = (copy(source_states)?, copy(source_mask.flatten())?);
        let (out, selected) = enter_long(py, |cancel| {
            let source = source_shape.map(|shape| {
                model::SourceStates::new(source_states.as_deref().unwrap_or(&[]), shape, source_mask.as_deref())
            });
            let (source, mut cache) = (source.transpose()?, cache.map(|cache| lock(&cache.0)));
            let first = cache.as_ref().and_then(|cache| cache.next_positions());
            let padded = Padded { first_positions: first.as_deref(), ..padded };
            let batch = Batch::from_padded(padded, blueprint)?;
            let out = self.read(|encoder| match (&mut cache, &source) {
                _ if encode => encoder.forward_source(threads, &batch, want, cancel),
                (Some(cache), _) => encoder.forward_cached(threads, &batch, want, cache, source.as_ref(), cancel),
                (None, Some(source)) => encoder.forward_with_source(threads, &batch, want, source, cancel),
                (None, None) => encoder.forward(threads, &batch, want, cancel),
            })?;
            Ok((out, batch.selected()))
        })?;
        let (hidden, heads) = (blueprint.hidden_size, blueprint.attention.heads);
        let states = |states: Vec<Vec<f32>>| states.into_iter().map(|x| array(py, x, (rows, width, hidden))).collect();
        let attentions = |all: Vec<Vec<f32>>, keys: usize| {
            all.into_iter().map(|x| array(py, x, (rows, heads, width, keys))).collect()
        };
        let source_width = source_shape.map_or(0, |shape| shape[1]);
        let logits = self.logits_shape(rows, width, selected);
        Ok((
            out.last_hidden_state.map(|x| array(py, x, (rows, width, hidden))).transpose()?,
            out.pooled.map(|x| array(py, x, (rows, blueprint.pooled_size()))).transpose()?,
            out.logits.map(|x| array(py, x, logits)).transpose()?,
            output_hidden_states.then(|| states(out.hidden_states)).transpose()?,
            output_attentions.then(|| attentions(out.attentions, width)).transpose()?,
            (output_attentions && source_width > 0)
                .then(|| attentions(out.cross_attentions, source_width))
                .transpose()?,
        ))
    }

    /// A forward pass of a training step: last hidden states, pooled vectors, logits, and what `backward` needs.
    /// selected (B, W): 1 for the tokens that a head on tokens reads, whose logits then come as (M, outputs).
    /// dropout: seed, and (rates of embeddings, of hidden states, of attention's probabilities, of what the head reads, of what the
    /// pooler reads, of activations, of last hidden states).
    #[expect(clippy::too_many_arguments, reason = "the arguments of transformers' forward")]
    fn record<'py>(
        &self,
        py: Python<'py>,
        input_ids: PyReadonlyArray<'py, i64, numpy::Ix2>,
        attention_mask: Ids<'py>,
        token_type_ids: Ids<'py>,
        task_type_ids: Ids<'py>,
        position_ids: Ids<'py>,
        compute_padding: bool,
        selected: Ids<'py>,
        dropout: Option<(u64, [f32; 7])>,
        gradient_checkpointing: bool,
        source: SourceIds<'py>,
    ) -> PyResult<Recorded<'py>> {
        let shape = shape(&input_ids);
        let (rows, width) = (shape[0], shape[1]);
        let given = [Some(input_ids), attention_mask, token_type_ids, task_type_ids, position_ids, selected];
        let [ids, mask, types, tasks, positions, selected] = given.map(copy);
        let (ids, mask, types, tasks, positions, selected) = (ids?, mask?, types?, tasks?, positions?, selected?);
        let padded = Padded {
            rows,
            width,
            ids: ids.as_deref(),
            embeds: None,
            mask: mask.as_deref(),
            types: types.as_deref(),
            tasks: tasks.as_deref(),
            positions: positions.as_deref(),
            first_positions: None,
            compute_padding,
            selected: selected.as_deref(),
        };
        let dropout = dropout.map(|(seed, [embeddings, hidden, attention, head, pooler, inner, last])| Dropout {
            seed,
            embeddings,
            hidden,
            attention,
            head,
            pooler,
            inner,
            last,
        });
        let recipe = Recipe { dropout, checkpointing: gradient_checkpointing };
        let threads = threads()?;
        let source_shape = source.as_ref().map(|(ids, _)| self::shape(ids));
        let (source_ids, source_mask) = source.unzip();
        let (source_ids, source_mask) = (copy(source_ids)?, copy(source_mask.flatten())?);
        let source_width = source_shape.as_ref().map_or(0, |shape| shape[1]);
        let (out, recording, selected) = enter_long(py, |cancel| {
            let batch = Batch::from_ids(padded, &self.blueprint)?;
            let source = source_shape.zip(self.blueprint.source.as_deref()).map(|(shape, blueprint)| {
                let (rows, width) = (shape[0], shape[1]);
                let (ids, mask) = (source_ids.as_deref(), source_mask.as_deref());
                Batch::from_ids(Padded { rows, width, ids, mask, ..Padded::default() }, blueprint)
            });
            let (source, selected) = (source.transpose()?, batch.selected());
            let (out, recording) = self.read(|encoder| encoder.record(threads, batch, source, recipe, cancel))?;
            Ok((out, recording, selected))
        })?;
        let hidden = self.blueprint.hidden_size;
        let source_size = self.blueprint.source.as_ref().map_or(0, |source| source.hidden_size);
        Ok((
            out.last_hidden_state.map(|x| array(py, x, (rows, width, hidden))).transpose()?,
            out.pooled.map(|x| array(py, x, (rows, self.blueprint.pooled_size()))).transpose()?,
            out.logits.map(|x| array(py, x, self.logits_shape(rows, width, selected))).transpose()?,
            out.source_hidden_state.map(|x| array(py, x, (rows, source_width, source_size))).transpose()?,
            Recording(Mutex::new(Some(recording))),
        ))
    }

    /// Adds the gradients of all weights to `gradients`, from those of what `record` returned.
    fn backward<'py>(
        &self,
        py: Python<'py>,
        recording: &Recording,
        last_hidden_state: Option<PyReadonlyArray<'py, f32, numpy::Ix3>>,
        pooled: Option<PyReadonlyArray<'py, f32, numpy::Ix2>>,
        logits: Option<PyReadonlyArrayDyn<'py, f32>>,
        gradients: &Gradients,
    ) -> PyResult<()> {
        let (recording, threads) = (take(recording)?, threads()?);
        let (last_hidden_state, pooled, logits) = (copy(last_hidden_state)?, copy(pooled)?, copy(logits)?);
        enter_long(py, |cancel| {
            let (last_hidden_state, pooled) = (last_hidden_state.as_deref(), pooled.as_deref());
            let d = Cotangents { last_hidden_state, pooled, logits: logits.as_deref() };
            self.read(|encoder| encoder.backward(threads, recording, d, &mut lock(&gradients.0), cancel))
        })
    }

    /// Keeps a recording's memory for the next, where no way back is wanted.
    fn discard(&self, py: Python<'_>, recording: &Recording) -> PyResult<()> {
        let recording = take(recording)?;
        py.detach(|| self.read(|encoder| encoder.discard(recording)));
        Ok(())
    }

    /// Gives back the memory that training keeps from one step for the next.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let release = |encoder: &mut model::Encoder| {
            encoder.release_tape();
            Ok(())
        };
        enter(py, || self.write(release), model_error)
    }

    /// Reads all weights again, in place.
    fn refill(&self, py: Python<'_>, checkpoint: &Checkpoint, tensor_names: HashMap<String, String>) -> PyResult<()> {
        enter(py, || self.write(|encoder| encoder.refill(&checkpoint.0, &tensor_names)), model_error)
    }

    fn set(&self, py: Python<'_>, slot: &str, values: PyReadonlyArrayDyn<'_, f32>) -> PyResult<()> {
        let values = copy(Some(values))?.unwrap_or_default();
        enter(py, || self.write(|encoder| encoder.set(slot, &values)), model_error)
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
            let batch = Batch::from_ragged(&ids, types.as_deref(), &lengths, &self.blueprint)?;
            self.read(|encoder| encoder.embed(threads, &batch, &pooling, cancel))
        })?;
        array(py, vectors, (lengths.len(), modes.len() * self.blueprint.hidden_size))
    }

    fn tensor<'py>(&self, py: Python<'py>, slot: &str) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let (shape, values) = enter(py, || self.read(|encoder| encoder.tensor(slot)), model_error)?;
        array(py, values, shape)
    }

    fn num_parameters(&self) -> u64 {
        self.blueprint.parameters()
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        self.precision.name()
    }

    fn memory_footprint(&self, py: Python<'_>) -> usize {
        py.detach(|| self.read(model::Encoder::bytes))
    }

    fn save(&self, py: Python<'_>, path: PathBuf, tensor_names: HashMap<String, String>) -> PyResult<()> {
        enter(py, || self.read(|encoder| encoder.save(&path, &tensor_names)), model_error)
    }

    fn save_packed(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        enter(py, || self.read(|encoder| encoder.save_packed(&path)), model_error)
    }
}

impl Encoder {
    fn logits_shape(&self, rows: usize, width: usize, selected: Option<usize>) -> Vec<usize> {
        self.blueprint.head.map_or(vec![], |head| match (head.reads, selected) {
            (HeadInput::Pooled | HeadInput::Mean, _) => vec![rows, head.outputs],
            (HeadInput::Tokens, None) => vec![rows, width, head.outputs],
            (HeadInput::Tokens, Some(count)) => vec![count, head.outputs],
        })
    }
}

fn shape_of(states: &PyReadonlyArray<'_, f32, numpy::Ix3>) -> [usize; 3] {
    let shape = shape(states);
    [shape[0], shape[1], shape[2]]
}

fn precision(dtype: &str) -> PyResult<Precision> {
    let unknown = || named("InputError", format!("dtype={dtype:?}; expected float32, bfloat16 or int8"));
    Precision::by_name(dtype).ok_or_else(unknown)
}
