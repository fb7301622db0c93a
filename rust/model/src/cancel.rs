//! How a long call is stopped.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{ModelError, Result};

/// Asked often, between one layer and the next; `poll` says whether to stop and is called on the calling thread alone.
pub struct Cancel<'a> {
    poll: &'a (dyn Fn() -> bool + Sync),
    stopped: AtomicBool,
}

impl<'a> Cancel<'a> {
    pub fn new(poll: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Cancel { poll, stopped: AtomicBool::new(false) }
    }

    /// `rank` 0 is the calling thread.
    pub(crate) fn check(&self, rank: usize) -> Result<()> {
        if rank == 0 && (self.poll)() {
            self.stopped.store(true, Ordering::Relaxed);
        }
        if self.stopped.load(Ordering::Relaxed) { Err(ModelError::Interrupted) } else { Ok(()) }
    }
}
