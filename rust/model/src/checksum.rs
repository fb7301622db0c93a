//! A 64-bit checksum as fast as memory: it finds damage, not malice.
//!
//! Eight lanes, each a chain of x -> rotate((x ^ word) P): every step is one to one, so a change in one word changes the
//! result.

/// An odd number with bits all over (2^64 divided by the golden ratio).
const P: u64 = 0x9e37_79b9_7f4a_7c15;
const LANES: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Checksum(pub(crate) u64);

impl Checksum {
    pub(crate) fn new() -> Self {
        Checksum(P)
    }

    pub(crate) fn add(&mut self, word: u64) {
        self.0 = step(self.0, word);
    }

    /// Of some bytes; zeros may be missing at the end, up to a multiple of 64.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut lanes: [u64; LANES] = std::array::from_fn(|i| i as u64);
        let (whole, rest) = bytes.as_chunks::<{ 8 * LANES }>();
        whole.iter().for_each(|chunk| mix(&mut lanes, chunk));
        if !rest.is_empty() {
            let mut last = [0; 8 * LANES];
            last[..rest.len()].copy_from_slice(rest);
            mix(&mut lanes, &last);
        }
        let mut sum = Checksum::new();
        lanes.into_iter().for_each(|lane| sum.add(lane));
        sum
    }
}

#[inline(always)]
fn mix(lanes: &mut [u64; LANES], chunk: &[u8; 8 * LANES]) {
    for (lane, word) in lanes.iter_mut().zip(chunk.as_chunks().0) {
        *lane = step(*lane, u64::from_le_bytes(*word));
    }
}

#[inline(always)]
fn step(x: u64, word: u64) -> u64 {
    (x ^ word).wrapping_mul(P).rotate_left(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_counts_and_zeros_at_the_end_do_not() {
        let bytes: Vec<u8> = (0..150).collect();
        let sum = Checksum::of(&bytes);
        for i in 0..8 * bytes.len() {
            let mut changed = bytes.clone();
            changed[i / 8] ^= 1 << (i % 8);
            assert_ne!(Checksum::of(&changed), sum, "bit {i}");
        }
        assert_eq!(Checksum::of(&[&bytes[..], &[0; 42]].concat()), sum);
        assert_ne!(Checksum::of(&[&bytes[..], &[0; 43]].concat()), sum);
    }
}
