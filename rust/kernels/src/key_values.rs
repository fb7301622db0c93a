//! The keys and values of the tokens that a layer has seen, to be attended to again.
//!
//! A slot is the place of one token's keys and values, of all key heads. Slots lie in chunks, so that more of them cost no copy of
//! those that are there; inside a chunk a key head's keys lie one after the other, as its values do: (2, key_heads, CHUNK, D). Which slots
//! are a sequence's, and in which order, is a list of the caller's: sequences that part have one list up to there, and no copies.
//!
//! A row has room for a multiple of 16 channels, the others zeros, so that it is whole vectors on every instruction set.

use crate::buffer::{Buffer, NoMemory, words_of};
use crate::gemm::{Pair, Precision};
use crate::isa::{Level, dispatch_floats};
use crate::mat::Mat;

/// Slots in a chunk: few, for the last one is half empty on average.
const CHUNK: usize = 64;
/// A row's channels are a multiple of this.
const CHANNELS: usize = 16;

/// Keys and values of one layer, in f32 or rounded to bf16, which is half the memory.
pub struct KeyValues {
    key_heads: usize,
    head_dim: usize,
    precision: Precision,
    chunks: Vec<Buffer<u32>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Keys,
    Values,
}

/// The channels of a row.
pub(crate) fn row_channels(head_dim: usize) -> usize {
    head_dim.next_multiple_of(CHANNELS)
}

impl KeyValues {
    /// Without slots.
    ///
    /// # Panics
    /// If the precision is int8.
    pub fn new(key_heads: usize, head_dim: usize, precision: Precision) -> Self {
        assert!(precision != Precision::Int8, "key_values: float32 or bfloat16, not int8");
        KeyValues { key_heads, head_dim, precision, chunks: vec![] }
    }

    /// Room for slots `0..slots`; those that are there stay where they are. On failure, too.
    pub fn reserve(&mut self, slots: usize) -> Result<(), NoMemory> {
        let count = slots.div_ceil(CHUNK);
        self.chunks.try_reserve(count.saturating_sub(self.chunks.len())).map_err(|_| NoMemory)?;
        while self.chunks.len() < count {
            self.chunks.push(Buffer::zeroed(self.chunk_words().ok_or(NoMemory)?)?);
        }
        Ok(())
    }

    /// The slots that there is room for.
    pub fn slots(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(Buffer::bytes).sum()
    }

    pub fn key_heads(&self) -> usize {
        self.key_heads
    }
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Row t of `keys` and of `values` (T, key_heads x D each) into slot `slots[t]`, in the order of t. In bf16 rounded to nearest,
    /// ties to even; NaN stays NaN.
    ///
    /// # Panics
    /// If the shapes disagree or there is no room for a slot.
    pub fn write(&mut self, level: Level, slots: &[u32], keys: Mat, values: Mat) {
        let shape = (slots.len(), self.key_heads * self.head_dim);
        for x in [keys, values] {
            assert_eq!((x.rows(), x.cols()), shape, "key_values: tokens and channels of keys and values");
        }
        self.check(slots);
        for (side, x) in [(Side::Keys, keys), (Side::Values, values)] {
            for (t, slot) in slots.iter().enumerate() {
                for (head, row) in x.row(t).chunks_exact(self.head_dim).enumerate() {
                    let bf16 = self.precision == Precision::BFloat16;
                    let words = self.row_mut(side, head, *slot);
                    if bf16 {
                        let words = &mut words[..row.len().div_ceil(2)];
                        dispatch_floats(level, Pair { row, words });
                    } else {
                        words[..row.len()].copy_from_slice(words_of(row));
                    }
                }
            }
        }
    }

    /// Panics unless there is room for all of these.
    pub(crate) fn check(&self, slots: &[u32]) {
        let last = slots.iter().copied().max().map_or(0, |slot| slot as usize + 1);
        assert!(last <= self.slots(), "key_values: slot {} where there is room for {}", last - 1, self.slots());
    }

    /// The keys or values of one head in one slot.
    #[inline(always)]
    pub(crate) fn row(&self, side: Side, head: usize, slot: u32) -> &[u32] {
        &self.chunks[slot as usize / CHUNK][self.place(side, head, slot)..][..self.row_words()]
    }

    fn row_mut(&mut self, side: Side, head: usize, slot: u32) -> &mut [u32] {
        let (place, words) = (self.place(side, head, slot), self.row_words());
        &mut self.chunks[slot as usize / CHUNK][place..][..words]
    }

    /// Where a row begins in its chunk.
    #[inline(always)]
    fn place(&self, side: Side, head: usize, slot: u32) -> usize {
        ((side as usize * self.key_heads + head) * CHUNK + slot as usize % CHUNK) * self.row_words()
    }

    #[inline(always)]
    fn row_words(&self) -> usize {
        row_channels(self.head_dim) / self.precision.per_word()
    }

    /// `None` where nothing could hold them.
    fn chunk_words(&self) -> Option<usize> {
        let channels = self.head_dim.checked_next_multiple_of(CHANNELS)?;
        (2 * CHUNK).checked_mul(self.key_heads)?.checked_mul(channels / self.precision.per_word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{Guarded, NASTY, Random, assert_same_bits, for_every_level, nans};

    /// The channels that a row holds, the zeros after them included.
    fn channels(cache: &KeyValues, side: Side, head: usize, slot: u32) -> Vec<f32> {
        let halves = |word: &u32| [word << 16, word & 0xffff_0000].map(f32::from_bits);
        let words = cache.row(side, head, slot);
        match cache.precision() {
            Precision::Float32 => words.iter().map(|word| f32::from_bits(*word)).collect(),
            _ => words.iter().flat_map(halves).collect(),
        }
    }

    #[test]
    fn what_was_written_is_there_until_it_is_written_again() {
        let mut random = Random(1);
        for_every_level(|level| {
            for (key_heads, dim) in [(1, 1), (3, 7), (2, 16), (2, 33), (1, 80)] {
                for precision in [Precision::Float32, Precision::BFloat16] {
                    let mut cache = KeyValues::new(key_heads, dim, precision);
                    let mut held = std::collections::BTreeMap::new();
                    for slots in [&[0, 5, 63][..], &[64, 200, 5], &[], &[1000, 63, 1000]] {
                        cache.reserve(slots.iter().max().map_or(0, |slot| *slot as usize + 1)).unwrap();
                        let [keys, values] = [0, 1].map(|_| random.floats(slots.len() * key_heads * dim));
                        let [k, v] =
                            [&keys, &values].map(|x| Guarded::new(x, slots.len(), key_heads * dim, 3, key_heads));
                        cache.write(level, slots, k.mat(), v.mat());
                        for (t, slot) in slots.iter().enumerate() {
                            let row = |x: &[f32]| x[t * key_heads * dim..][..key_heads * dim].to_vec();
                            held.insert(*slot, [row(&keys), row(&values)]);
                        }
                    }
                    for (slot, rows) in &held {
                        for (side, row) in [Side::Keys, Side::Values].into_iter().zip(rows) {
                            for (head, row) in row.chunks(dim).enumerate() {
                                let mut row =
                                    if precision == Precision::Float32 { row.to_vec() } else { naive::to_bf16(row) };
                                row.resize(row_channels(dim), 0.0);
                                let got = channels(&cache, side, head, *slot);
                                assert_same_bits(&got, &row, format_args!("{side:?} {head} of slot {slot}"));
                            }
                        }
                    }
                }
            }
        });
    }

    #[test]
    fn strange_numbers_are_kept() {
        let row = [&NASTY[..], &nans()].concat();
        let x = Mat::dense(&row, 1, row.len());
        for_every_level(|level| {
            for precision in [Precision::Float32, Precision::BFloat16] {
                let mut cache = KeyValues::new(1, row.len(), precision);
                cache.reserve(1).unwrap();
                cache.write(level, &[0], x, x);
                let expected = if precision == Precision::Float32 { row.clone() } else { naive::to_bf16(&row) };
                let got = channels(&cache, Side::Values, 0, 0);
                assert_same_bits(&got[..row.len()], &expected, format_args!("{precision:?}"));
            }
        });
    }

    #[test]
    fn room_comes_in_chunks_and_bf16_takes_half() {
        let bytes = |precision| {
            let mut cache = KeyValues::new(2, 64, precision);
            assert_eq!((cache.bytes(), cache.slots()), (0, 0));
            cache.reserve(CHUNK + 1).unwrap();
            cache.reserve(3).unwrap();
            assert_eq!(cache.slots(), 2 * CHUNK);
            cache.bytes()
        };
        assert_eq!(bytes(Precision::Float32), 2 * CHUNK * 2 * 2 * 64 * 4);
        assert_eq!(bytes(Precision::BFloat16), 2 * CHUNK * 2 * 2 * 64 * 2);
    }

    #[test]
    fn rows_begin_a_line_where_they_are_whole_lines() {
        for (dim, precision, align) in
            [(64, Precision::Float32, 64), (16, Precision::Float32, 64), (64, Precision::BFloat16, 64)]
        {
            let mut cache = KeyValues::new(3, dim, precision);
            cache.reserve(CHUNK).unwrap();
            for (side, head, slot) in [(Side::Keys, 0, 1), (Side::Keys, 2, 63), (Side::Values, 1, 7)] {
                assert_eq!(cache.row(side, head, slot).as_ptr() as usize % align, 0);
            }
        }
    }

    #[test]
    fn an_impossible_size_is_an_error_and_leaves_what_is_there() {
        let mut cache = KeyValues::new(1 << 20, 1 << 40, Precision::Float32);
        assert!(cache.reserve(1).is_err());
        let mut cache = KeyValues::new(1, 16, Precision::Float32);
        cache.reserve(1).unwrap();
        assert!(cache.reserve(usize::MAX).is_err());
        assert_eq!(cache.slots(), CHUNK);
    }

    #[test]
    #[should_panic(expected = "slot 64 where there is room for 64")]
    fn a_slot_without_room_is_refused() {
        let mut cache = KeyValues::new(1, 2, Precision::Float32);
        cache.reserve(10).unwrap();
        let x = Mat::dense(&[0.0; 4], 2, 2);
        cache.write(Level::best(), &[63, 64], x, x);
    }

    #[test]
    #[should_panic(expected = "int8")]
    fn int8_is_refused() {
        KeyValues::new(1, 2, Precision::Int8);
    }
}
