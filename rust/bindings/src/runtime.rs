//! Instruction set and threads, as Python asks for them.

use std::sync::atomic::{AtomicUsize, Ordering};

use ferroformer_kernels::{Level, Threads, ThreadsError, checked_threads, default_threads};
use ferroformer_model::ModelError;
use pyo3::prelude::*;

use crate::enter::enter;
use crate::errors::{model_error, named};

/// What `set_num_threads` said; 0 where it has not been called.
static CHOSEN: AtomicUsize = AtomicUsize::new(0);

fn threads_error(error: ThreadsError) -> PyErr {
    named("InputError", error.to_string())
}

pub(crate) fn level() -> PyResult<Level> {
    Level::current().map_err(|e| model_error(ModelError::Isa(e)))
}

pub(crate) fn threads() -> PyResult<usize> {
    match CHOSEN.load(Ordering::Relaxed) {
        0 => Ok(default_threads().map_err(threads_error)?.0),
        chosen => Ok(chosen),
    }
}

#[pyfunction]
pub(crate) fn isa() -> PyResult<&'static str> {
    Ok(level()?.name())
}

#[pyfunction]
pub(crate) fn available_isas() -> Vec<&'static str> {
    Level::available().map(Level::name).collect()
}

#[pyfunction]
pub(crate) fn get_num_threads() -> PyResult<usize> {
    threads()
}

#[pyfunction]
pub(crate) fn num_threads_reason() -> PyResult<String> {
    match CHOSEN.load(Ordering::Relaxed) {
        0 => Ok(default_threads().map_err(threads_error)?.1),
        _ => Ok("set_num_threads".to_owned()),
    }
}

#[pyfunction]
pub(crate) fn set_num_threads(num_threads: i64) -> PyResult<()> {
    let count = checked_threads(num_threads).map_err(threads_error)?;
    CHOSEN.store(count, Ordering::Relaxed);
    Ok(())
}

/// Panics in the last of `tasks` tasks, on whatever thread that runs: the tests see an InternalError arrive.
#[pyfunction]
pub(crate) fn _panic(py: Python<'_>, tasks: usize) -> PyResult<()> {
    let threads = threads()?;
    let work = || -> Result<(), ModelError> {
        Threads::new(threads).for_each(tasks, |_, i| assert!(i + 1 < tasks, "on purpose"));
        Ok(())
    };
    enter(py, work, model_error)
}
