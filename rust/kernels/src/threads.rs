//! Threads outside, SIMD inside: how a call shares its tasks out over the cores.
//!
//! A call has its [`Threads`]: the calling one, which leads, and helpers. [`Threads::for_each`] opens a door behind which
//! tasks are handed out by a counter. The leader works too, so that one thread needs no pool; helpers come in if
//! and when a worker of a rayon pool is free. When the counter has run out the leader closes the door and waits only
//! for those who are inside. So a call never waits for another call's work, however busy the pool is.
//!
//! Between one `for_each` and the next helpers stay at the door for a moment, looking: to wake a sleeping thread takes tens of
//! microseconds, a layer of a small model on a short sentence not much more. They go when nothing comes, and when the
//! team is dropped at the end of the call.
//!
//! The pool is built at the first call that needs it, never at import, and belongs to one process: a forked child
//! finds another pid in it and builds its own, leaking the parent's handle (to drop it would join threads that
//! the child does not have). No lock is held anywhere that a fork could freeze.

use std::any::Any;
use std::cell::{OnceCell, UnsafeCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::mat::MatMut;

/// The threads of one call. It stays with the thread that made it (it is not `Sync`), which leads it.
pub struct Threads {
    count: usize,
    crew: OnceCell<Arc<Crew>>,
}

/// Below this many multiply-adds a share is not worth handing over.
const LEAST_SHARE: usize = 1 << 16;

/// How long a helper looks for the next work before it leaves.
const PATIENCE: Duration = Duration::from_micros(200);

impl Threads {
    /// The calling thread and up to `count - 1` helpers, who are called at the first work that is worth it.
    pub fn new(count: usize) -> Self {
        Threads { count: count.max(1), crew: OnceCell::new() }
    }

    /// The calling thread alone.
    pub fn serial() -> Self {
        Threads::new(1)
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs `task(rank, i)` for every `i` in `0..tasks`, each once, in any order. Tasks that run at the same time have
    /// different ranks, all below `count()`; rank 0 is the calling thread. A panic in a task comes out here.
    pub fn for_each(&self, tasks: usize, task: impl Fn(usize, usize) + Sync) {
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
        let helpers = self.count.min(tasks).saturating_sub(1);
        if helpers == 0 { work(0) } else { self.crew.get_or_init(Crew::new).share(helpers, &work) }
    }

    /// Runs `task` on consecutive ranges that cover `0..items`, as many as the work is worth.
    pub fn for_each_block(&self, items: usize, work_per_item: usize, task: impl Fn(Range<usize>) + Sync) {
        let blocks = self.blocks(items, work_per_item);
        self.for_each(blocks, |_, i| task(items * i / blocks..items * (i + 1) / blocks));
    }

    /// Runs `task(rank, rows, blocks)` on consecutive ranges of rows, `count` of them, each with its rows of all matrices.
    ///
    /// # Panics
    /// If the matrices differ in their rows.
    pub fn for_each_rows<const N: usize>(
        &self,
        count: usize,
        mats: [MatMut; N],
        task: impl Fn(usize, Range<usize>, [MatMut; N]) + Sync,
    ) {
        let rows = mats.first().map_or(0, MatMut::rows);
        assert!(mats.iter().all(|mat| mat.rows() == rows), "for_each_rows: rows");
        let columns = mats.each_ref().map(MatMut::cols);
        let mats = mats.map(Disjoint::new);
        self.for_each(count, |rank, i| {
            let range = rows * i / count..rows * (i + 1) / count;
            // SAFETY: the ranges do not overlap.
            let block = |n: usize| unsafe { mats[n].block(range.clone(), 0..columns[n]) };
            task(rank, range.clone(), std::array::from_fn(block));
        });
    }

    /// Into how many blocks to cut `items`: one for one thread, else a few for each, for one thread may be slower.
    fn blocks(&self, items: usize, work_per_item: usize) -> usize {
        const BLOCKS_PER_THREAD: usize = 3;
        if self.count == 1 {
            return 1.min(items);
        }
        let worth = items.saturating_mul(work_per_item) / LEAST_SHARE;
        worth.clamp(1, self.count * BLOCKS_PER_THREAD).min(items)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(crew) = self.crew.get() {
            crew.door.store(DISMISSED, Ordering::Relaxed);
        }
    }
}

/// What the leader and the helpers of a team share.
struct Crew {
    /// The number of the work in the high half; below it twice the helpers inside, plus one when the door is closed.
    door: AtomicU64,
    /// Helpers called who have not left.
    present: AtomicUsize,
    ranks: AtomicUsize,
    work: UnsafeCell<Work>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

type Work = *const (dyn Fn(usize) + Sync);

// SAFETY: `work` is written by the leader while the door is closed and nobody is inside, and read by those inside; what
// it points to is `Sync`, and lives until the leader has closed the door again and the last has left.
unsafe impl Send for Crew {}
// SAFETY: as above.
unsafe impl Sync for Crew {}

const CLOSED: u64 = 1;
const HELPER: u64 = 2;
const NUMBER: u64 = 1 << 32;
/// The door of a team that is no more: no work has this number.
const DISMISSED: u64 = u64::MAX;

impl Crew {
    fn new() -> Arc<Self> {
        fn nothing(_rank: usize) {}
        Arc::new(Crew {
            door: AtomicU64::new(CLOSED),
            present: AtomicUsize::new(0),
            ranks: AtomicUsize::new(0),
            work: UnsafeCell::new(&nothing),
            panic: Mutex::new(None),
        })
    }

    /// Runs `work(rank)` here and on up to `helpers` others until all have returned.
    fn share<'a>(self: &Arc<Self>, helpers: usize, work: &'a (dyn Fn(usize) + Sync + 'a)) {
        let erased: *const (dyn Fn(usize) + Sync + 'a) = work;
        // SAFETY: the door is closed and nobody is inside. Only the lifetime changes: nobody follows the pointer once
        // this function has returned.
        unsafe { *self.work.get() = std::mem::transmute::<*const (dyn Fn(usize) + Sync + 'a), Work>(erased) };
        self.ranks.store(1, Ordering::Relaxed);
        let number = self.door.load(Ordering::Relaxed) / NUMBER + 1;
        self.door.store(number * NUMBER, Ordering::Release);
        self.call(helpers);
        let own = catch_unwind(AssertUnwindSafe(|| work(0)));
        self.close();
        let helped = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = own.err().or(helped) {
            resume_unwind(panic);
        }
    }

    /// Calls helpers until `helpers` are present. Where no pool can be had the leader works alone.
    fn call(self: &Arc<Self>, helpers: usize) {
        let present = self.present.load(Ordering::Relaxed);
        let Some(pool) = (present < helpers).then(|| pool(helpers)).flatten() else { return };
        for _ in present..helpers {
            self.present.fetch_add(1, Ordering::Relaxed);
            let crew = Arc::clone(self);
            pool.spawn(move || crew.help());
        }
    }

    /// Lets nobody in any more and waits until the last helper has left.
    fn close(&self) {
        const SPINS: usize = 5000;
        self.door.fetch_or(CLOSED, Ordering::Relaxed);
        let mut spins = 0;
        while self.door.load(Ordering::Acquire) % NUMBER != CLOSED {
            // A helper that takes long has a large task, or has lost its core: then it is better to sleep than to spin.
            if spins < SPINS {
                std::hint::spin_loop()
            } else {
                std::thread::sleep(Duration::from_micros(50))
            }
            spins += 1;
        }
    }

    /// A helper's day: through the door once for each work, until none has come for a while.
    fn help(&self) {
        const LOOKS: usize = 64;
        let (mut last, mut since) = (0, Instant::now());
        loop {
            for _ in 0..LOOKS {
                let door = self.door.load(Ordering::Acquire);
                if door == DISMISSED {
                    return;
                }
                if door / NUMBER != last && door & CLOSED == 0 {
                    last = door / NUMBER;
                    self.join_in(last);
                    since = Instant::now();
                }
                std::hint::spin_loop();
            }
            if since.elapsed() > PATIENCE {
                break;
            }
        }
        self.present.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes part in work `number`, if its door is still open.
    fn join_in(&self, number: u64) {
        let step = |door| (door / NUMBER == number && door & CLOSED == 0).then_some(door + HELPER);
        if self.door.fetch_update(Ordering::Acquire, Ordering::Relaxed, step).is_err() {
            return;
        }
        let rank = self.ranks.fetch_add(1, Ordering::Relaxed);
        // SAFETY: we are inside, so the leader does not write `work`, and what it points to lives until we leave.
        let work = unsafe { &**self.work.get() };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(rank))) {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
        self.door.fetch_sub(HELPER, Ordering::Release);
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

/// A matrix that several tasks write to, each its own block.
pub(crate) struct Disjoint<'a, T = f32>(MatMut<'a, T>);

// SAFETY: only `block` gives access, and its callers promise that blocks do not overlap.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T: Copy> Disjoint<'a, T> {
    pub(crate) fn new(mat: MatMut<'a, T>) -> Self {
        Disjoint(mat)
    }

    /// # Safety
    /// No two blocks that live at the same time overlap.
    pub(crate) unsafe fn block(&self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'_, T> {
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
    fn one_team_does_many_works() {
        let threads = Threads::new(3);
        for n in 0..2000 {
            let sum = AtomicUsize::new(0);
            threads.for_each(n % 7, |_, i| {
                sum.fetch_add(i + 1, Ordering::SeqCst);
            });
            assert_eq!(sum.into_inner(), (n % 7) * (n % 7 + 1) / 2);
            if n % 500 == 0 {
                std::thread::sleep(2 * PATIENCE);
            }
        }
    }

    #[test]
    fn callers_do_not_wait_for_each_other() {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let threads = Threads::new(2);
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
