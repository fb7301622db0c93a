//! What the hardware allows, for benchmarks to compare with.

use crate::gemm::{Bf16, Float32, Format, Int8, Precision};
use crate::isa::{Isa, Kernel, Level, MAX_PANEL, dispatch, dispatch_floats};

/// Does `rounds` times 24 independent vector multiply-adds in registers, by the instruction that products in this precision
/// use, and returns how many operations that were (two per multiply-add) with a value that keeps them from being
/// optimised away.
pub fn multiply_adds(level: Level, precision: Precision, rounds: usize) -> (usize, f32) {
    match precision {
        Precision::Int8 => dispatch(level, Spin { rounds, precision }),
        Precision::BFloat16 if level.has_bf16() => dispatch(level, Spin { rounds, precision }),
        Precision::BFloat16 | Precision::Float32 => dispatch_floats(level, Spin { rounds, precision }),
    }
}

struct Spin {
    rounds: usize,
    precision: Precision,
}

impl Kernel for Spin {
    type Out = (usize, f32);
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> (usize, f32) {
        match self.precision {
            Precision::Int8 => spin::<I, Int8>(isa, self.rounds, 4),
            Precision::BFloat16 if I::HAS_BF16 => spin::<I, Bf16>(isa, self.rounds, 2),
            _ => spin::<I, Float32>(isa, self.rounds, 1),
        }
    }
}

/// `pairs`: multiply-adds of one lane.
#[inline(always)]
#[rustfmt::skip]
fn spin<I: Isa, F: Format<I>>(isa: I, rounds: usize, pairs: usize) -> (usize, f32)
where
    F::X: Default,
{
    const CHAINS: usize = 12;
    let zero = isa.splat_word(std::hint::black_box(0));
    let mut chains: [F::Sum; CHAINS] = std::array::from_fn(#[inline(always)] |_| F::sum(isa, zero));
    let words = std::hint::black_box([0; 1 + MAX_PANEL]);
    // SAFETY: a panel of words, and one before it.
    let w = unsafe { F::weight(isa, words[1..].as_ptr(), 0) };
    let x = F::splat(isa, std::hint::black_box(F::X::default()));
    for _ in 0..2 * rounds {
        for chain in &mut chains {
            *chain = F::multiply_add(isa, *chain, x, w);
        }
    }
    let total = chains.into_iter().map(#[inline(always)] |sum| isa.lanes(isa.as_floats(F::bits(isa, sum)))[0]).sum();
    (rounds * 2 * CHAINS * I::LANES * 2 * pairs, total)
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
    dispatch_floats(level, Read(xs))
}
