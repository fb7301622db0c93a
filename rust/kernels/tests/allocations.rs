//! The caller owns the memory: on the calling thread no kernel allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ferroformer_kernels::{
    Activation, Epilogue, Heads, Level, Lookup, Mat, MatMut, Narrow, Norm, PackedLinear, Precision, Probabilities, Qkv,
    Threads, attention, attention_scratch, gather_add, layer_norm, linear, softmax,
};

/// The system's allocator, with a count for each thread: the test harness has threads of its own.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all is left to the system's allocator; the counter is a plain thread-local number, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1]))), 1);
}

#[test]
fn no_kernel_allocates() {
    const T: usize = 100;
    const H: usize = 72;
    const HEADS: usize = 3;
    const NORM: Norm = Norm { centred: true, scaled: true, eps: 1e-12, offset: 0.0 };
    let x = vec![0.5; T * 3 * H];
    let mat = |cols| Mat::dense(&x[..T * cols], T, cols);
    let (mut wide, mut out) = (vec![0.0; T * 3 * H], vec![0.0; T * H]);
    let mut probabilities = vec![0.0; HEADS * T * T];
    let columns: Vec<usize> = (0..T).collect();
    let ids = [1; T];
    for level in Level::available() {
        let mut scratch = vec![0.0; attention_scratch(level, T, H / HEADS)];
        let packed =
            PackedLinear::new(level, Precision::Float32, &vec![0.1; 3 * H * H], Some(&[0.2; 3 * H]), H).unwrap();
        let count = allocations(|| {
            for activation in [None, Some(Activation::Gelu), Some(Activation::GeluTanh), Some(Activation::Silu)] {
                let epilogue = Epilogue { activation, residual: Some(mat(3 * H)) };
                linear(&Threads::serial(), mat(H), &packed, epilogue, MatMut::dense(&mut wide, T, 3 * H));
            }
            let normed = MatMut::dense(&mut out, T, H);
            layer_norm(level, &Threads::serial(), mat(H), &x[..H], &x[..H], NORM, normed, &mut Narrow::default());
            attention(
                level,
                &Threads::serial(),
                Qkv::Floats([mat(H); 3]),
                Heads::new(HEADS, &[0, T], 0.2),
                &mut scratch,
                Some(Probabilities { out: &mut probabilities, width: T, columns: &columns, source: None }),
                MatMut::dense(&mut out, T, H),
            );
            gather_add(
                level,
                &[(Lookup::Floats(mat(H)), &ids[..], 2.0), (Lookup::Floats(mat(H)), &ids, 1.0)],
                MatMut::dense(&mut out, T, H),
            );
            softmax(level, &mut wide, 1.0);
            Activation::Tanh.apply(level, &mut wide);
        });
        assert_eq!(count, 0, "on {}", level.name());
    }
}
