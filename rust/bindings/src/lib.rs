//! `ferroformer._native`: convert, leave the GIL, call, wrap. No logic lives here.

#![forbid(unsafe_code)]

mod arrays;
mod cache;
mod checkpoint;
mod encoder;
mod enter;
mod errors;
mod runtime;
mod tokenizer;
mod training;
mod vocabulary;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::cache::Cache;
    #[pymodule_export]
    use super::checkpoint::Checkpoint;
    #[pymodule_export]
    use super::encoder::Encoder;
    #[pymodule_export]
    use super::runtime::{_panic, available_isas, get_num_threads, isa, num_threads_reason, set_num_threads};

    #[pymodule_export]
    use super::training::{Gradients, Optimizer, Recording, cross_entropy};

    #[pymodule_export]
    use super::vocabulary::top_k;

    use super::*;

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        enter::silence_panics();
        m.add("__version__", env!("CARGO_PKG_VERSION"))?;
        tokenizer::register(m)
    }
}
