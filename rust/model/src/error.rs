//! What can go wrong, by what the caller can do about it.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The model asked for cannot be built.
    #[error("{0}")]
    Blueprint(String),
    /// A file does not hold what its format promises.
    #[error("{}: {problem}", path.display())]
    Corrupt { path: PathBuf, problem: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The checkpoint is sound but does not fit the model.
    #[error("{0}")]
    Mismatch(String),
    /// An argument of a call.
    #[error("{0}")]
    Input(String),
    /// An id without a row in its table.
    #[error("{argument}[{row}, {column}] is {id}; expected 0 <= id < {limit}")]
    Id { argument: &'static str, row: usize, column: usize, id: i64, limit: usize },
    #[error("{what} needs {needed} bytes; {available} are available")]
    Memory { what: &'static str, needed: u64, available: u64 },
    #[error("the workspace: {0}")]
    NoMemory(#[from] ferroformer_kernels::NoMemory),
    #[error("{0}")]
    Isa(#[from] ferroformer_kernels::IsaError),
    #[error("interrupted")]
    Interrupted,
}

pub type Result<T> = std::result::Result<T, ModelError>;

impl ModelError {
    pub(crate) fn corrupt(path: &Path, problem: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), problem: problem.into() }
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
