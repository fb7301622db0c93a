//! The door between Python and Rust: leave the GIL, catch panics, let Ctrl-C in.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ferroformer_model::{Cancel, ModelError};
use pyo3::prelude::*;

use crate::errors::{internal, model_error};

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic becomes an exception, so nothing is printed; this hook sees only panics of this module's code.
pub(crate) fn silence_panics() {
    std::panic::set_hook(Box::new(|info| LAST_PANIC.with(|last| *last.borrow_mut() = info.to_string())));
}

/// Runs `work` without the GIL; a panic becomes an InternalError.
pub(crate) fn enter<T: Send, E>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, E> + Send,
    error: fn(E) -> PyErr,
) -> PyResult<T>
where
    E: Send,
{
    match py.detach(|| catch_unwind(AssertUnwindSafe(work))) {
        Ok(result) => result.map_err(error),
        Err(payload) => {
            let text =
                payload.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| payload.downcast_ref().cloned());
            let last = LAST_PANIC.with(|last| last.take());
            Err(internal(if last.is_empty() { text.unwrap_or_default() } else { last }))
        }
    }
}

/// [`enter`] for long work: Python's signal handlers run while it runs, and what they raise stops it.
pub(crate) fn enter_long<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&Cancel) -> Result<T, ModelError> + Send,
) -> PyResult<T> {
    const PAUSE: Duration = Duration::from_millis(50);
    let raised = Mutex::new((Instant::now(), None));
    let poll = || {
        let mut raised = raised.lock().unwrap_or_else(|e| e.into_inner());
        if raised.0.elapsed() >= PAUSE {
            raised.0 = Instant::now();
            raised.1 = Python::attach(|py| py.check_signals()).err();
        }
        raised.1.is_some()
    };
    let result = enter(py, || work(&Cancel::new(&poll)), model_error);
    match raised.into_inner().unwrap_or_else(|e| e.into_inner()).1 {
        Some(signal) => Err(signal),
        None => result,
    }
}
