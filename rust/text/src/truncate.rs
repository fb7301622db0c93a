//! Cutting the tokens of one or two sequences down to a budget, before special tokens are added.
//!
//! The lengths are worked out here instead of in the crate's `truncate_encodings` because that one asserts on a stride
//! that does not fit, and a panic is no way to report an argument.

use std::ops::Range;

use tokenizers::{Encoding, TruncationDirection};

use crate::{Side, TextError};

/// Which of two sequences gives up tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    LongestFirst,
    OnlyFirst,
    OnlySecond,
}

/// Truncation of one call. `max_length` counts special tokens; `stride` is the overlap of overflowing windows.
#[derive(Clone, Debug)]
pub struct Truncation {
    pub strategy: Strategy,
    pub max_length: usize,
    pub stride: usize,
    pub side: Side,
    /// Keep what is cut off as further windows instead of dropping it.
    pub keep_overflow: bool,
}

impl Truncation {
    /// Cuts `first` and `second` so that together with `special` more tokens they fit `max_length`.
    pub(crate) fn apply(
        &self,
        index: usize,
        first: &mut Encoding,
        second: Option<&mut Encoding>,
        special: usize,
    ) -> Result<(), TextError> {
        let room = self.max_length.checked_sub(special).ok_or(TextError::MaxLengthTooSmall {
            index,
            max_length: self.max_length,
            special,
        })?;
        let lengths = (first.len(), second.as_ref().map(|s| s.len()));
        let (keep_first, keep_second) = self.split_room(index, lengths, room)?;
        self.cut(first, keep_first)?;
        match second {
            Some(second) => self.cut(second, keep_second),
            None => Ok(()),
        }
    }

    /// How many tokens each sequence keeps.
    fn split_room(
        &self,
        index: usize,
        (first, second): (usize, Option<usize>),
        room: usize,
    ) -> Result<(usize, usize), TextError> {
        let total = first + second.unwrap_or(0);
        if total <= room {
            return Ok((first, second.unwrap_or(0)));
        }
        if room == 0 {
            return Ok((0, 0));
        }
        let excess = total - room;
        let shorten = |length: usize| {
            if length > excess { Ok(length - excess) } else { Err(TextError::SequenceTooShort { index }) }
        };
        match (self.strategy, second) {
            (Strategy::LongestFirst, None) => Ok((room, 0)),
            (Strategy::LongestFirst, Some(second)) => Ok(longest_first(first, second, room)),
            (Strategy::OnlyFirst, _) => Ok((shorten(first)?, second.unwrap_or(0))),
            (Strategy::OnlySecond, Some(second)) => Ok((first, shorten(second)?)),
            (Strategy::OnlySecond, None) => Err(TextError::NoSecondSequence { index }),
        }
    }

    fn cut(&self, encoding: &mut Encoding, keep: usize) -> Result<(), TextError> {
        if keep >= encoding.len() {
            return Ok(());
        }
        if keep > 0 && self.stride >= keep {
            return Err(TextError::StrideTooLarge { stride: self.stride, room: keep, max_length: self.max_length });
        }
        if self.keep_overflow {
            encoding.truncate(keep, self.stride, self.side.into());
        } else {
            // Not `truncate`: it copies the whole text into windows, which would be thrown away.
            *encoding = match self.side {
                Side::Right => slice(encoding, 0..keep),
                Side::Left => slice(encoding, encoding.len() - keep..encoding.len()),
            };
        }
        Ok(())
    }
}

/// Takes tokens from the longer of the two until both fit; an odd token left over goes to the longer (if they are
/// equal: to the second).
fn longest_first(first: usize, second: usize, room: usize) -> (usize, usize) {
    let shorter = first.min(second).min(room / 2);
    if first <= second { (shorter, room - shorter) } else { (room - shorter, shorter) }
}

fn slice(encoding: &Encoding, range: Range<usize>) -> Encoding {
    Encoding::new(
        encoding.get_ids()[range.clone()].to_vec(),
        encoding.get_type_ids()[range.clone()].to_vec(),
        encoding.get_tokens()[range.clone()].to_vec(),
        encoding.get_word_ids()[range.clone()].to_vec(),
        encoding.get_offsets()[range.clone()].to_vec(),
        encoding.get_special_tokens_mask()[range.clone()].to_vec(),
        encoding.get_attention_mask()[range].to_vec(),
        vec![],
        Default::default(),
    )
}

impl From<Side> for TruncationDirection {
    fn from(side: Side) -> Self {
        match side {
            Side::Left => TruncationDirection::Left,
            Side::Right => TruncationDirection::Right,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{Token, TruncationParams, TruncationStrategy, truncate_encodings};

    fn tokens(count: usize) -> Encoding {
        Encoding::from_tokens((0..count).map(|i| Token::new(i as u32, i.to_string(), (i, i + 1))).collect(), 0)
    }

    /// Every small case agrees with the crate's own truncation, windows included.
    #[test]
    fn equals_the_crate() {
        let strategies = [
            (Strategy::LongestFirst, TruncationStrategy::LongestFirst),
            (Strategy::OnlyFirst, TruncationStrategy::OnlyFirst),
            (Strategy::OnlySecond, TruncationStrategy::OnlySecond),
        ];
        for (strategy, theirs) in strategies {
            for side in [Side::Left, Side::Right] {
                for (first, second, max_length) in
                    (0..9).flat_map(|a| (0..9).flat_map(move |b| (0..18).map(move |m| (a, b, m))))
                {
                    let ours = Truncation { strategy, max_length, stride: 0, side, keep_overflow: true };
                    let params = TruncationParams { strategy: theirs, max_length, stride: 0, direction: side.into() };
                    let (mut a, mut b) = (tokens(first), tokens(second));
                    let result = ours.apply(0, &mut a, Some(&mut b), 0);
                    let dropping = Truncation { keep_overflow: false, ..ours.clone() };
                    let (mut c, mut d) = (tokens(first), tokens(second));
                    assert_eq!(dropping.apply(0, &mut c, Some(&mut d), 0).is_ok(), result.is_ok());
                    assert_eq!((a.get_offsets(), b.get_tokens()), (c.get_offsets(), d.get_tokens()));
                    match truncate_encodings(tokens(first), Some(tokens(second)), &params) {
                        Ok((x, y)) => assert_eq!((a, Some(b)), (x, y), "{ours:?} {first} {second}"),
                        Err(_) => assert!(result.is_err(), "{ours:?} {first} {second}"),
                    }
                }
            }
        }
    }

    #[test]
    fn a_stride_that_does_not_fit_is_an_error() {
        let truncation = Truncation {
            strategy: Strategy::LongestFirst,
            max_length: 5,
            stride: 3,
            side: Side::Right,
            keep_overflow: false,
        };
        let error = truncation.apply(0, &mut tokens(9), None, 2).unwrap_err();
        assert!(matches!(error, TextError::StrideTooLarge { room: 3, .. }));
        assert!(truncation.apply(0, &mut tokens(3), None, 2).is_ok());
    }
}
