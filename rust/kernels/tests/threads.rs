//! What kernels rely on in `Threads`.

use std::collections::HashSet;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;

use ferroformer_kernels::Threads;

fn this_thread() -> ThreadId {
    std::thread::current().id()
}

#[test]
fn there_is_always_one_thread() {
    assert_eq!(Threads::new(0).count(), 1);
    assert_eq!(Threads::serial().count(), 1);
    assert_eq!(Threads::new(5).count(), 5);
}

#[test]
fn one_thread_works_through_the_tasks_in_order_and_at_home() {
    let (home, seen) = (this_thread(), Mutex::new(vec![]));
    Threads::serial().for_each(50, |rank, i| {
        assert_eq!((rank, this_thread()), (0, home));
        seen.lock().unwrap().push(i);
    });
    assert!(seen.into_inner().unwrap().into_iter().eq(0..50));
}

#[test]
fn rank_zero_is_the_caller_and_no_rank_reaches_the_count() {
    let home = this_thread();
    for (count, tasks) in [(2, 1), (2, 100), (3, 2), (7, 500)] {
        Threads::new(count).for_each(tasks, |rank, _| {
            assert!(rank < count.min(tasks));
            assert_eq!(rank == 0, this_thread() == home);
        });
    }
}

#[test]
fn blocks_are_consecutive_and_none_is_empty() {
    for (items, work) in [(0, 1 << 20), (1, 1 << 20), (5, 1 << 20), (777, 1 << 12), (777, 1 << 20), (777, 0)] {
        for count in 1..=4 {
            let seen = Mutex::new(vec![]);
            Threads::new(count).for_each_block(items, work, |block| seen.lock().unwrap().push(block));
            let mut blocks = seen.into_inner().unwrap();
            blocks.sort_by_key(|block| block.start);
            assert!(blocks.iter().all(|block| !block.is_empty()), "{blocks:?}");
            assert!(blocks.into_iter().flatten().eq(0..items), "{items} items on {count} threads");
        }
    }
}

#[test]
fn a_task_may_share_out_tasks_of_its_own() {
    let sum = AtomicUsize::new(0);
    Threads::new(3).for_each(20, |_, i| {
        Threads::new(2).for_each(10, |_, j| {
            sum.fetch_add(10 * i + j, Ordering::Relaxed);
        });
    });
    assert_eq!(sum.into_inner(), (0..200).sum());
}

#[test]
fn after_a_panic_no_task_runs_any_more() {
    let running = AtomicUsize::new(0);
    let result = catch_unwind(|| {
        Threads::new(4).for_each(1000, |_, i| {
            running.fetch_add(1, Ordering::SeqCst);
            if i % 100 == 7 {
                running.fetch_sub(1, Ordering::SeqCst);
                resume_unwind(Box::new(i));
            }
            running.fetch_sub(1, Ordering::SeqCst);
        });
    });
    assert_eq!(result.unwrap_err().downcast::<usize>().unwrap().checked_rem(100), Some(7));
    assert_eq!(running.load(Ordering::SeqCst), 0);
}

#[test]
fn helpers_are_used_when_there_is_time() {
    let seen = Mutex::new(HashSet::new());
    Threads::new(2).for_each(200, |_, _| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        seen.lock().unwrap().insert(this_thread());
    });
    assert_eq!(seen.into_inner().unwrap().len(), 2);
}
