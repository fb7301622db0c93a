//! Between numpy's arrays and vectors. Arrays come in C-contiguous and are copied; results are moved out.

use numpy::ndarray::{Array, Dimension, IntoDimension};
use numpy::{Element, IntoPyArray, PyArray, PyReadonlyArray};
use pyo3::prelude::*;

use crate::errors::{internal, named};

pub(crate) fn shape<T: Element, D: Dimension>(array: &PyReadonlyArray<'_, T, D>) -> Vec<usize> {
    array.as_array().shape().to_vec()
}

pub(crate) fn copy<T: Element + Copy, D: Dimension>(
    array: Option<PyReadonlyArray<'_, T, D>>,
) -> PyResult<Option<Vec<T>>> {
    let slice = |array: PyReadonlyArray<'_, T, D>| Ok(array.as_slice()?.to_vec());
    let not_contiguous = |_: numpy::AsSliceError| named("InputError", "an array is not C-contiguous".to_owned());
    array.map(slice).transpose().map_err(not_contiguous)
}

/// Moves the values into an array of the given shape.
pub(crate) fn array<S: IntoDimension>(
    py: Python<'_>,
    values: Vec<f32>,
    shape: S,
) -> PyResult<Bound<'_, PyArray<f32, S::Dim>>> {
    let array = Array::from_shape_vec(shape, values).map_err(|e| internal(e.to_string()))?;
    Ok(array.into_pyarray(py))
}
