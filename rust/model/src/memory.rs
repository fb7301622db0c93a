//! Memory is asked for before it is taken: a number from a file never allocates unchecked.

use std::fs::read_to_string;

use ferroformer_kernels::Buffer;

use crate::error::{ModelError, Result};

/// An error where `needed` bytes are more than the machine or its control group has left.
///
/// To ask the system takes longer than a short sentence allows, so little is taken without asking.
pub(crate) fn require(what: &'static str, needed: u64) -> Result<()> {
    const LITTLE: u64 = 1 << 26;
    if needed < LITTLE {
        return Ok(());
    }
    match available() {
        Some(available) if needed > available => Err(ModelError::Memory { what, needed, available }),
        _ => Ok(()),
    }
}

/// A buffer of zeros, or an error that says what it was for.
pub(crate) fn zeroed(what: &'static str, len: usize) -> Result<Buffer> {
    Buffer::zeroed(len).map_err(|_| refused(what, len))
}

/// A vector of zeros, likewise.
pub(crate) fn zeroed_vec(what: &'static str, len: Option<usize>) -> Result<Vec<f32>> {
    let len = len.ok_or_else(|| refused(what, usize::MAX / 4))?;
    ferroformer_kernels::zeroed_vec(len).ok_or_else(|| refused(what, len))
}

pub(crate) fn refused(what: &'static str, floats: usize) -> ModelError {
    ModelError::Memory { what, needed: floats as u64 * 4, available: available().unwrap_or(0) }
}

/// Bytes left: the machine's, or the control group's where that is less. `None` where the system does not say.
fn available() -> Option<u64> {
    let machine = read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    });
    let read = |name: &str| read_to_string(format!("/sys/fs/cgroup/memory.{name}")).ok()?.trim().parse::<u64>().ok();
    let group = read("max").map(|max| max.saturating_sub(read("current").unwrap_or(0)));
    machine.into_iter().chain(group).min()
}
