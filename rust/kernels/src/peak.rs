//! What the hardware allows, for benchmarks to compare with.

use crate::isa::{Isa, Kernel, Level, dispatch};
use crate::rows::sum;

/// Does `rounds` times 24 independent vector multiply-adds in registers and returns how many floating-point operations
/// that were (two per element) with a value that keeps them from being optimised away.
pub fn multiply_adds(level: Level, rounds: usize) -> (usize, f32) {
    struct Spin(usize);
    impl Kernel for Spin {
        type Out = (usize, f32);
        #[inline(always)]
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

/// Reads every element once, front to back.
pub fn read(level: Level, xs: &[f32]) -> f32 {
    struct Read<'a>(&'a [f32]);
    impl Kernel for Read<'_> {
        type Out = f32;
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> f32 {
            sum(isa, self.0)
        }
    }
    dispatch(level, Read(xs))
}
