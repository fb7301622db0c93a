//! Passes over the logits of whole vocabularies, as Python sees them.

use ferroformer_kernels::{Mat, MatMut, Threads, log_softmax_top_k};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::arrays::{array, shape};
use crate::errors::named;
use crate::runtime::{level, threads};

type Largest<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray2<i64>>, Bound<'py, PyArray1<f64>>);

/// The k largest of each row of scores (N, V), where they are, (N, k) each, and the logarithm of each row's sum of exponentials (N,).
/// It is over before a thread that waits for the GIL would notice, so it keeps it and the scores are read where they are.
#[pyfunction]
pub(crate) fn top_k<'py>(py: Python<'py>, scores: PyReadonlyArray2<'py, f32>, k: usize) -> PyResult<Largest<'py>> {
    let (rows, cols) = (shape(&scores)[0], shape(&scores)[1]);
    if !(1..=cols).contains(&k) {
        return Err(named("InputError", format!("k is {k}; expected 1 <= k <= {cols}, the columns of scores")));
    }
    let scores = scores.as_slice().map_err(|_| named("InputError", "an array is not C-contiguous".to_owned()))?;
    let (mut values, mut indices, mut log_sums) = (vec![0.0; rows * k], vec![0u32; rows * k], vec![0.0; rows]);
    let (best, places) = (MatMut::dense(&mut values, rows, k), MatMut::dense(&mut indices, rows, k));
    let threads = Threads::new(threads()?);
    log_softmax_top_k(level()?, &threads, Mat::dense(scores, rows, cols), best, places, &mut log_sums);
    let indices: Vec<i64> = indices.into_iter().map(i64::from).collect();
    Ok((array(py, values, (rows, k))?, indices.into_pyarray(py).reshape((rows, k))?, log_sums.into_pyarray(py)))
}
