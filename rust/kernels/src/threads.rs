//! Threads outside, SIMD inside: how a call shares its tasks out over the cores.
//!
//! [`Threads::for_each`] hands tasks out by one counter. The calling thread works too, so that one thread needs
//! no pool, and helpers are jobs on a rayon pool that join in if and when a worker is free. When the counter has
//! run out the caller closes the job and waits only for those that are inside it: a helper that comes later
//! finds the door closed. So a call never waits for another call's work, however busy the pool is.
//!
//! The pool is built at the first call that needs it, never at import, and belongs to one process: a forked child
//! finds another pid in it and builds its own, leaking the parent's handle (to drop it would join threads that
//! the child does not have). No lock is held anywhere that a fork could freeze.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

use crate::mat::MatMut;
use crate::quota::{ThreadsError, checked};

/// How many threads an operation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(usize);

/// Below this many multiply-adds a share is not worth waking a thread for.
const LEAST_SHARE: usize = 1 << 17;

impl Threads {
    /// The calling thread alone.
    pub const SERIAL: Threads = Threads(1);

    /// At least one.
    pub fn new(count: usize) -> Self {
        Threads(count.max(1))
    }

    /// What a caller asks for, if it is a sensible number.
    pub fn checked(count: i64) -> Result<usize, ThreadsError> {
        checked(count)
    }

    pub fn count(self) -> usize {
        self.0
    }

    /// Runs `task(rank, i)` for every `i` in `0..tasks`, each once, in any order. Tasks that run at the same time have
    /// different ranks, all below `count()`; rank 0 is the calling thread. A panic in a task comes out here.
    pub fn for_each(self, tasks: usize, task: impl Fn(usize, usize) + Sync) {
        let next = AtomicUsize::new(0);
        let work = |rank| {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= tasks {
                    break;
                }
                task(rank, i);
            }
        };
        let helpers = self.0.min(tasks).saturating_sub(1);
        match pool(helpers) {
            Some(pool) if helpers > 0 => share(pool, helpers, &work),
            _ => work(0),
        }
    }

    /// Runs `task` on consecutive ranges that cover `0..items`, as many as the work is worth.
    pub fn for_each_block(self, items: usize, work_per_item: usize, task: impl Fn(Range<usize>) + Sync) {
        let blocks = self.blocks(items, work_per_item);
        self.for_each(blocks, |_, i| task(items * i / blocks..items * (i + 1) / blocks));
    }

    /// Into how many blocks to cut `items`: one for one thread, else a few for each, for one thread may be slower.
    fn blocks(self, items: usize, work_per_item: usize) -> usize {
        const BLOCKS_PER_THREAD: usize = 3;
        if self.0 == 1 {
            return 1.min(items);
        }
        let worth = items.saturating_mul(work_per_item) / LEAST_SHARE;
        worth.clamp(1, self.0 * BLOCKS_PER_THREAD).min(items)
    }
}

/// A pool and the process that its threads live in.
struct Pool {
    pid: u32,
    workers: usize,
    rayon: rayon::ThreadPool,
}

/// A pool of at least `workers` threads; `None` where threads cannot be had, and the caller works alone.
///
/// A pool that is too small is replaced and stays behind idle: that takes a call of `set_num_threads` with more threads
/// than ever before.
fn pool(workers: usize) -> Option<&'static rayon::ThreadPool> {
    static POOL: AtomicPtr<Pool> = AtomicPtr::new(null_mut());
    if workers == 0 {
        return None;
    }
    let pid = std::process::id();
    let found = POOL.load(Ordering::Acquire);
    // SAFETY: a pointer that was once stored comes from `Box::leak` below and is never freed.
    if let Some(pool) = unsafe { found.as_ref() }
        && pool.pid == pid
        && pool.workers >= workers
    {
        return Some(&pool.rayon);
    }
    let name = |i| format!("ferroformer-{i}");
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(workers).thread_name(name).build().ok()?;
    let built: &'static Pool = Box::leak(Box::new(Pool { pid, workers, rayon }));
    POOL.store(std::ptr::from_ref(built).cast_mut(), Ordering::Release);
    Some(&built.rayon)
}

/// One call's work, as helpers see it.
struct Job {
    /// Twice the number of helpers inside, plus one when the door is closed.
    inside: AtomicUsize,
    ranks: AtomicUsize,
    work: *const (dyn Fn(usize) + Sync),
    caller: Thread,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `work` points to a `Sync` closure and is followed only between `enter` and `leave`, while it lives.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

const CLOSED: usize = 1;
const HELPER: usize = 2;

impl Job {
    fn enter(&self) -> bool {
        let step = |inside| (inside & CLOSED == 0).then_some(inside + HELPER);
        self.inside.fetch_update(Ordering::Acquire, Ordering::Relaxed, step).is_ok()
    }

    fn leave(&self) {
        if self.inside.fetch_sub(HELPER, Ordering::Release) == CLOSED + HELPER {
            self.caller.unpark();
        }
    }

    fn help(&self) {
        if !self.enter() {
            return;
        }
        let rank = self.ranks.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the door was open, so `share` has not returned and will not before `leave`.
        let work = unsafe { &*self.work };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(rank))) {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
        self.leave();
    }

    /// Lets nobody in any more and waits until the last helper has left.
    fn close(&self) {
        const SPINS: usize = 2000;
        self.inside.fetch_or(CLOSED, Ordering::Relaxed);
        for spins in 0.. {
            if self.inside.load(Ordering::Acquire) == CLOSED {
                return;
            }
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::park() }
        }
    }
}

fn share<'a>(pool: &'static rayon::ThreadPool, helpers: usize, work: &'a (dyn Fn(usize) + Sync + 'a)) {
    let work: *const (dyn Fn(usize) + Sync + 'a) = work;
    let job = Arc::new(Job {
        inside: AtomicUsize::new(0),
        ranks: AtomicUsize::new(1),
        // SAFETY: only the lifetime changes; `close` below keeps `work` borrowed until no helper can reach it.
        work: unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + 'a), *const (dyn Fn(usize) + Sync)>(work) },
        caller: std::thread::current(),
        panic: Mutex::new(None),
    });
    for _ in 0..helpers {
        let job = Arc::clone(&job);
        pool.spawn(move || job.help());
    }
    // SAFETY: `work` is the reference that came in.
    let own = catch_unwind(AssertUnwindSafe(|| unsafe { &*work }(0)));
    job.close();
    let helped = job.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(panic) = own.err().or(helped) {
        resume_unwind(panic);
    }
}

/// A matrix that several tasks write to, each its own block.
pub(crate) struct Disjoint<'a>(MatMut<'a>);

// SAFETY: only `block` gives access, and its callers promise that blocks do not overlap.
unsafe impl Sync for Disjoint<'_> {}

impl<'a> Disjoint<'a> {
    pub(crate) fn new(mat: MatMut<'a>) -> Self {
        Disjoint(mat)
    }

    /// # Safety
    /// No two blocks that live at the same time overlap.
    pub(crate) unsafe fn block(&self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'_> {
        // SAFETY: the caller's promise makes the copies of the view exclusive where they reach.
        unsafe { std::ptr::read(&self.0) }.into_block(rows, cols)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_and_ranks_are_exclusive() {
        for count in [1, 2, 3, 8] {
            let runs: Vec<_> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
            let busy: Vec<_> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            Threads::new(count).for_each(1000, |rank, i| {
                assert_eq!(busy[rank].fetch_add(1, Ordering::SeqCst), 0, "rank {rank} is used twice");
                runs[i].fetch_add(1, Ordering::SeqCst);
                busy[rank].fetch_sub(1, Ordering::SeqCst);
            });
            assert!(runs.iter().all(|n| n.load(Ordering::SeqCst) == 1));
        }
    }

    #[test]
    fn blocks_cover_their_items() {
        for (items, work) in [(0, 1), (1, 1 << 20), (7, 1 << 20), (1000, 1 << 10), (1000, 1 << 20)] {
            let sum = AtomicUsize::new(0);
            Threads::new(4).for_each_block(items, work, |range| {
                sum.fetch_add(range.len(), Ordering::SeqCst);
            });
            assert_eq!(sum.into_inner(), items);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        for _ in 0..20 {
            let result = catch_unwind(|| {
                Threads::new(3).for_each(100, |_, i| {
                    if i == 50 {
                        resume_unwind(Box::new("task 50"));
                    }
                })
            });
            assert_eq!(result.unwrap_err().downcast_ref(), Some(&"task 50"));
        }
    }

    #[test]
    fn callers_do_not_wait_for_each_other() {
        let threads = Threads::new(2);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(move || {
                    for n in 0..200 {
                        let sum = AtomicUsize::new(0);
                        threads.for_each(n, |_, i| {
                            sum.fetch_add(i + 1, Ordering::SeqCst);
                        });
                        assert_eq!(sum.into_inner(), n * (n + 1) / 2);
                    }
                });
            }
        });
    }
}
