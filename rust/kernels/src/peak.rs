//! What the hardware allows, for benchmarks to compare with.

use crate::isa::{Isa, Kernel, Level, dispatch};

/// Does `rounds` times 24 independent vector multiply-adds in registers and returns how many floating-point operations
/// that were (two per element) with a value that keeps them from being optimised away.
pub fn multiply_adds(level: Level, rounds: usize) -> (usize, f32) {
    struct Spin(usize);
    impl Kernel for Spin {
        type Out = (usize, f32);
        #[inline(always)]
        #[rustfmt::skip]
        fn run<I: Isa>(self, isa: I) -> (usize, f32) {
            const CHAINS: usize = 12;
            let mut chains: [I::V; CHAINS] = std::array::from_fn(#[inline(always)] |i| isa.splat(i as f32));
            let (a, b) = (isa.splat(std::hint::black_box(0.5)), isa.splat(std::hint::black_box(1.0)));
            for _ in 0..2 * self.0 {
                for chain in &mut chains {
                    *chain = isa.mul_add(*chain, a, b);
                }
            }
            let total = chains.iter().map(#[inline(always)] |v| isa.lanes(*v)[0]).sum();
            (self.0 * 2 * CHAINS * I::LANES * 2, total)
        }
    }
    dispatch(level, Spin(rounds))
}

/// Reads all elements but a few once, as streams side by side: one alone does not keep the memory busy.
pub fn read(level: Level, xs: &[f32]) -> f32 {
    struct Read<'a>(&'a [f32]);
    impl Kernel for Read<'_> {
        type Out = f32;
        #[inline(always)]
        #[rustfmt::skip]
        fn run<I: Isa>(self, isa: I) -> f32 {
            const STREAMS: usize = 8;
            let len = self.0.len() / STREAMS;
            let mut sums = [isa.splat(0.0); STREAMS];
            for i in (0..len - len % I::LANES).step_by(I::LANES) {
                for (s, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: i + LANES <= len, and there are STREAMS times len elements.
                    *sum = isa.add(*sum, unsafe { isa.load(self.0.as_ptr().add(s * len + i)) });
                }
            }
            sums.iter().map(#[inline(always)] |v| isa.lanes(*v)[0]).sum()
        }
    }
    dispatch(level, Read(xs))
}
