//! The one place where a Rust error becomes a Python exception.

use std::io;

use ferroformer_model::ModelError;
use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError};
use pyo3::prelude::*;

/// An exception of `ferroformer.errors`, by its name.
pub(crate) fn named(class: &str, message: String) -> PyErr {
    let make = |py: Python<'_>| -> PyResult<PyErr> {
        let exception = py.import("ferroformer.errors")?.getattr(class)?.call1((&message,))?;
        Ok(PyErr::from_value(exception))
    };
    Python::attach(|py| make(py).unwrap_or_else(|_| PyRuntimeError::new_err(message.clone())))
}

pub(crate) fn model_error(error: ModelError) -> PyErr {
    let class = match &error {
        ModelError::Blueprint(_) => "ConfigError",
        ModelError::Corrupt { .. } => "CorruptModelError",
        ModelError::Mismatch(_) => "WeightMismatchError",
        ModelError::Input(_) | ModelError::Isa(_) => "InputError",
        ModelError::Id { .. } => "TokenIdError",
        ModelError::Memory { .. } | ModelError::NoMemory(_) => "ResourceLimitError",
        ModelError::Io { path, source } => return os_error(source, path.display().to_string()),
        ModelError::Interrupted => return PyKeyboardInterrupt::new_err(()),
    };
    named(class, error.to_string())
}

/// OSError with errno and file name, from which Python makes FileNotFoundError, PermissionError and so on.
fn os_error(error: &io::Error, path: String) -> PyErr {
    match error.raw_os_error() {
        Some(errno) => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            PyOSError::new_err((errno, text, path))
        }
        None => PyOSError::new_err(format!("{path}: {error}")),
    }
}

pub(crate) fn internal(panic: String) -> PyErr {
    let version = env!("CARGO_PKG_VERSION");
    named("InternalError", format!("this is a bug in ferroformer {version}, please report it: {panic}"))
}
