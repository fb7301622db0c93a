//! What a model remembers of its sequences, as Python sees it.

use std::sync::Mutex;

use ferroformer_model as model;
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;

use crate::arrays::copy;
use crate::encoder::Encoder;
use crate::enter::enter;
use crate::errors::model_error;
use crate::training::lock;

#[pyclass(frozen, module = "ferroformer._native")]
pub(crate) struct Cache(pub(crate) Mutex<model::Cache>);

#[pymethods]
impl Cache {
    #[new]
    fn new(encoder: &Encoder) -> Self {
        Cache(Mutex::new(encoder.cache()))
    }

    /// The tokens of each sequence.
    fn lengths(&self, py: Python<'_>) -> Vec<usize> {
        py.detach(|| lock(&self.0).lengths())
    }

    fn reorder(&self, py: Python<'_>, indices: PyReadonlyArray1<'_, i64>) -> PyResult<()> {
        let indices = copy(Some(indices))?.unwrap_or_default();
        enter(py, || lock(&self.0).reorder(&indices), model_error)
    }

    fn crop(&self, py: Python<'_>, lengths: PyReadonlyArray1<'_, i64>) -> PyResult<()> {
        let lengths = copy(Some(lengths))?.unwrap_or_default();
        enter(py, || lock(&self.0).crop(&lengths), model_error)
    }

    /// Bytes held.
    fn memory_footprint(&self, py: Python<'_>) -> usize {
        py.detach(|| lock(&self.0).bytes())
    }
}
