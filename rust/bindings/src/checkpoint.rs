//! Checkpoints, as Python sees them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use ferroformer_model as model;
use numpy::PyArrayDyn;
use pyo3::prelude::*;

use crate::arrays::array;
use crate::enter::enter;
use crate::errors::model_error;

#[pyclass(frozen, module = "ferroformer._native")]
pub(crate) struct Checkpoint(pub(crate) Arc<model::Checkpoint>);

#[pymethods]
impl Checkpoint {
    #[new]
    #[pyo3(signature = (files, weight_map=None))]
    fn new(py: Python<'_>, files: Vec<PathBuf>, weight_map: Option<HashMap<String, usize>>) -> PyResult<Self> {
        let checkpoint = enter(py, || model::Checkpoint::open(&files, weight_map.as_ref()), model_error)?;
        Ok(Self(Arc::new(checkpoint)))
    }

    fn names(&self) -> Vec<&str> {
        self.0.names().collect()
    }

    fn shape(&self, name: &str) -> PyResult<Vec<usize>> {
        Ok(self.0.tensor(name).map_err(model_error)?.shape().to_vec())
    }

    fn dtype(&self, name: &str) -> PyResult<String> {
        Ok(self.0.tensor(name).map_err(model_error)?.dtype())
    }

    fn read<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let read = || self.0.tensor(name).and_then(|tensor| Ok((tensor.shape().to_vec(), tensor.values()?)));
        let (shape, values) = enter(py, read, model_error)?;
        array(py, values, shape)
    }

    fn equal(&self, py: Python<'_>, name: &str, other: &str) -> PyResult<bool> {
        enter(py, || self.0.tensor(name)?.equals(&self.0.tensor(other)?), model_error)
    }

    fn metadata(&self) -> HashMap<String, String> {
        self.0.metadata()
    }
}
