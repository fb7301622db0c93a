//! Gradients and optimisers, as Python sees them.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ferroformer_model::{self as model, AdamW, Rule, Sgd};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayDyn, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArrayDyn};
use pyo3::prelude::*;

use crate::arrays::{array, copy, shape};
use crate::encoder::Encoder;
use crate::enter::enter;
use crate::errors::{model_error, named};
use crate::runtime::{level, threads};

/// A batch and what its forward pass left; good for one way back.
#[pyclass(frozen, module = "ferroformer._native")]
pub(crate) struct Recording(pub(crate) Mutex<Option<model::Recording>>);

#[pyclass(frozen, module = "ferroformer._native")]
pub(crate) struct Gradients(pub(crate) Mutex<model::Gradients>);

#[pyclass(frozen, module = "ferroformer._native")]
pub(crate) struct Optimizer(Mutex<model::Optimizer>);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Work that cannot fail, without the GIL; a panic becomes an InternalError.
fn sure<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    enter(py, || Ok(work()), |never: Infallible| match never {})
}

#[pymethods]
impl Gradients {
    #[new]
    fn new(py: Python<'_>, encoder: &Encoder, frozen: HashSet<String>) -> PyResult<Self> {
        let threads = threads()?;
        let new = || encoder.read(|encoder| model::Gradients::new(encoder, frozen, threads));
        Ok(Self(Mutex::new(enter(py, new, model_error)?)))
    }

    fn slots(&self, py: Python<'_>) -> Vec<String> {
        py.detach(|| lock(&self.0).slots().to_vec())
    }

    fn tensor<'py>(&self, py: Python<'py>, slot: &str) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let (shape, values) = enter(py, || lock(&self.0).tensor(slot), model_error)?;
        array(py, values, shape)
    }

    fn set(&self, py: Python<'_>, slot: &str, values: PyReadonlyArrayDyn<'_, f32>) -> PyResult<()> {
        let values = copy(Some(values))?.unwrap_or_default();
        enter(py, || lock(&self.0).set(slot, &values), model_error)
    }

    fn norm(&self, py: Python<'_>) -> PyResult<f64> {
        let threads = threads()?;
        sure(py, || lock(&self.0).norm(threads))
    }

    fn scale(&self, py: Python<'_>, factor: f32) -> PyResult<()> {
        let threads = threads()?;
        sure(py, || lock(&self.0).scale(threads, factor))
    }

    fn zero(&self, py: Python<'_>) -> PyResult<()> {
        let threads = threads()?;
        sure(py, || lock(&self.0).zero(threads))
    }
}

#[pymethods]
impl Optimizer {
    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "the settings of an optimizer, each by its own name")]
    fn adamw(
        py: Python<'_>,
        encoder: &Encoder,
        beta1: f64,
        beta2: f64,
        eps: f64,
        weight_decay: f64,
        no_decay: HashSet<String>,
        frozen: HashSet<String>,
    ) -> PyResult<Self> {
        let rule = Rule::AdamW(AdamW { betas: [beta1, beta2], eps });
        Self::of(py, encoder, rule, weight_decay, no_decay, frozen)
    }

    #[staticmethod]
    fn sgd(
        py: Python<'_>,
        encoder: &Encoder,
        momentum: f64,
        nesterov: bool,
        weight_decay: f64,
        no_decay: HashSet<String>,
        frozen: HashSet<String>,
    ) -> PyResult<Self> {
        Self::of(py, encoder, Rule::Sgd(Sgd { momentum, nesterov }), weight_decay, no_decay, frozen)
    }

    fn step(&self, py: Python<'_>, encoder: &Encoder, gradients: &Gradients, lr: f64, scale: f32) -> PyResult<()> {
        let threads = threads()?;
        let step = || encoder.write(|encoder| lock(&self.0).step(encoder, &lock(&gradients.0), lr, scale, threads));
        enter(py, step, model_error)
    }

    #[getter]
    fn steps(&self, py: Python<'_>) -> u64 {
        py.detach(|| lock(&self.0).steps())
    }

    fn save(&self, py: Python<'_>, path: PathBuf, tensor_names: HashMap<String, String>) -> PyResult<()> {
        enter(py, || lock(&self.0).save(&path, &tensor_names), model_error)
    }

    fn load(&self, py: Python<'_>, path: PathBuf, tensor_names: HashMap<String, String>) -> PyResult<()> {
        enter(py, || lock(&self.0).load(&path, &tensor_names), model_error)
    }
}

impl Optimizer {
    fn of(
        py: Python<'_>,
        encoder: &Encoder,
        rule: Rule,
        weight_decay: f64,
        no_decay: HashSet<String>,
        frozen: HashSet<String>,
    ) -> PyResult<Self> {
        let threads = threads()?;
        let new = || encoder.read(|e| model::Optimizer::new(e, rule, weight_decay, &no_decay, frozen, threads));
        Ok(Self(Mutex::new(enter(py, new, model_error)?)))
    }
}

/// Takes the recording out: it can be used once.
pub(crate) fn take(recording: &Recording) -> PyResult<model::Recording> {
    let used = || named("InputError", "a recording is good for one way back".to_owned());
    lock(&recording.0).take().ok_or_else(used)
}

type LossesAndGradients<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray2<f32>>);

/// The losses (M,) of rows of logits (M, C) with labels (M,), and the gradients of these.
#[pyfunction]
pub(crate) fn cross_entropy<'py>(
    py: Python<'py>,
    logits: PyReadonlyArray2<'py, f32>,
    labels: PyReadonlyArray1<'py, i64>,
    weights: Option<PyReadonlyArray1<'py, f32>>,
    label_smoothing: f32,
) -> PyResult<LossesAndGradients<'py>> {
    let (rows, classes) = (shape(&logits)[0], shape(&logits)[1]);
    let (level, threads) = (level()?, threads()?);
    let (mut gradients, weights) = (copy(Some(logits))?.unwrap_or_default(), copy(weights)?);
    let labels: Vec<usize> = copy(Some(labels))?.unwrap_or_default().into_iter().map(|label| label as usize).collect();
    let compute = || {
        let (gradients, weights) = (&mut gradients, weights.as_deref());
        model::cross_entropy(level, threads, gradients, classes, &labels, weights, label_smoothing)
    };
    let losses = sure(py, compute)?;
    Ok((losses.into_pyarray(py), array(py, gradients, (rows, classes))?))
}
