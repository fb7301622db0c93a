//! How many threads to use when nobody says.

use std::env;
use std::sync::OnceLock;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ThreadsError {
    #[error("{VARIABLE}={0:?} is not a number of threads; expected a whole number from 1 to {MOST}")]
    Variable(String),
    #[error("num_threads is {0}; expected a whole number from 1 to {MOST}")]
    Argument(i64),
}

const VARIABLE: &str = "FERROFORMER_NUM_THREADS";
const MOST: usize = 1024;

fn in_range(count: usize) -> bool {
    (1..=MOST).contains(&count)
}

/// A number of threads that a caller asks for.
pub fn checked_threads(count: i64) -> Result<usize, ThreadsError> {
    usize::try_from(count).ok().filter(|n| in_range(*n)).ok_or(ThreadsError::Argument(count))
}

/// The number of threads and where it comes from: `FERROFORMER_NUM_THREADS`, else the cores that the scheduler and the
/// control group's quota leave to this process.
pub fn default_threads() -> Result<(usize, String), ThreadsError> {
    match env::var(VARIABLE) {
        Ok(value) if !value.is_empty() => {
            let count = value.trim().parse().ok().filter(|n| in_range(*n));
            Ok((count.ok_or(ThreadsError::Variable(value))?, VARIABLE.to_owned()))
        }
        _ => Ok(cores().clone()),
    }
}

/// Asked once: it takes reading several files.
fn cores() -> &'static (usize, String) {
    static CORES: OnceLock<(usize, String)> = OnceLock::new();
    CORES.get_or_init(|| match std::thread::available_parallelism() {
        // The standard library looks at the affinity mask and at the quota, rounded down.
        Ok(cores) => (cores.get().min(MOST), "cores allowed by affinity and control group".to_owned()),
        Err(error) => (1, format!("the system does not say how many cores there are ({error})")),
    })
}
