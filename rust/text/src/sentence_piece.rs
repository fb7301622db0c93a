//! SentencePiece models: the pieces of a `spiece.model`, and how text is normalized before they are looked for.
//!
//! The numbers of the fields are those of
//! <https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto>.

use std::collections::HashMap;

use serde::Serialize;

use crate::TextError;
use crate::protobuf::{Damage, Fields, Value};

/// Splits of longer pieces are not looked for: there are as many as a piece has characters.
const LONGEST_MERGE: usize = 1 << 12;

#[derive(Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a str,
    pub(crate) score: f64,
    pub(crate) kind: i32,
}

pub(crate) const NORMAL: i32 = 1;
pub(crate) const UNKNOWN: i32 = 2;
pub(crate) const CONTROL: i32 = 3;
pub(crate) const USER_DEFINED: i32 = 4;
pub(crate) const UNUSED: i32 = 5;
pub(crate) const BYTE: i32 = 6;

#[derive(Debug)]
pub(crate) struct SentencePiece<'a> {
    pub(crate) pieces: Vec<Piece<'a>>,
    pub(crate) model_type: i32,
    pub(crate) byte_fallback: bool,
    unk: (i32, &'a str),
    bos: (i32, &'a str),
    eos: (i32, &'a str),
    /// What is shown of the unknown piece.
    pub(crate) unk_surface: &'a str,
    pub(crate) charsmap: &'a [u8],
    pub(crate) spaces: Spaces,
    /// Whether text is changed when it is decoded.
    pub(crate) has_denormalizer: bool,
}

/// What happens to white space before a text is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spaces {
    pub(crate) add_dummy_prefix: bool,
    pub(crate) remove_extra: bool,
    /// As "▁".
    pub(crate) escape: bool,
    /// The dummy prefix is a suffix.
    pub(crate) as_suffix: bool,
}

/// What a caller has to know of a SentencePiece model besides its pieces.
#[derive(Debug, Serialize)]
struct Outline<'a> {
    /// "Unigram" or "BPE", or a number that stands for another algorithm.
    model_type: &'a str,
    byte_fallback: bool,
    unk_id: i32,
    unk_piece: &'a str,
    bos_id: i32,
    bos_piece: &'a str,
    eos_id: i32,
    eos_piece: &'a str,
    /// Pieces that are matched before the model sees the text, and whether they are control symbols.
    added_tokens: Vec<(&'a str, bool)>,
}

/// The outline of a SentencePiece model, as JSON, and its precompiled map of characters.
pub fn sentence_piece_outline(model: &[u8]) -> Result<(String, &[u8]), TextError> {
    let model = SentencePiece::read(model)?;
    let added = model.pieces.iter().filter(|piece| [CONTROL, USER_DEFINED].contains(&piece.kind));
    let outline = Outline {
        model_type: match model.model_type {
            1 => "Unigram",
            2 => "BPE",
            3 => "word",
            4 => "char",
            _ => "unknown",
        },
        byte_fallback: model.byte_fallback,
        unk_id: model.unk.0,
        unk_piece: model.unk.1,
        bos_id: model.bos.0,
        bos_piece: model.bos.1,
        eos_id: model.eos.0,
        eos_piece: model.eos.1,
        added_tokens: added.map(|piece| (piece.text, piece.kind == CONTROL)).collect(),
    };
    let json = serde_json::to_string(&outline).map_err(|e| TextError::Description(e.to_string()))?;
    Ok((json, model.charsmap))
}

impl<'a> SentencePiece<'a> {
    pub(crate) fn read(model: &'a [u8]) -> Result<Self, TextError> {
        Self::parse(model).map_err(TextError::SentencePiece)
    }

    fn parse(message: &'a [u8]) -> Result<Self, Damage> {
        let mut model = Self {
            pieces: Vec::new(),
            model_type: 1,
            byte_fallback: false,
            unk: (0, "<unk>"),
            bos: (1, "<s>"),
            eos: (2, "</s>"),
            unk_surface: " \u{2047} ",
            charsmap: &[],
            spaces: Spaces { add_dummy_prefix: true, remove_extra: true, escape: true, as_suffix: false },
            has_denormalizer: false,
        };
        for field in Fields::new(message) {
            match field? {
                (1, piece) => model.pieces.push(Piece::parse(piece.bytes()?)?),
                (2, trainer) => model.take_trainer(trainer.bytes()?)?,
                (3, normalizer) => model.take_normalizer(normalizer.bytes()?)?,
                (5, denormalizer) => model.has_denormalizer = has_charsmap(denormalizer.bytes()?)?,
                _ => {}
            }
        }
        if model.pieces.is_empty() { Err("it has no pieces") } else { Ok(model) }
    }

    fn take_trainer(&mut self, message: &'a [u8]) -> Result<(), Damage> {
        for field in Fields::new(message) {
            match field? {
                (3, value) => self.model_type = value.int()?,
                (24, value) => self.spaces.as_suffix = value.int()? != 0,
                (35, value) => self.byte_fallback = value.int()? != 0,
                (40, value) => self.unk.0 = value.int()?,
                (41, value) => self.bos.0 = value.int()?,
                (42, value) => self.eos.0 = value.int()?,
                (44, value) => self.unk_surface = value.text()?,
                (45, value) => self.unk.1 = value.text()?,
                (46, value) => self.bos.1 = value.text()?,
                (47, value) => self.eos.1 = value.text()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn take_normalizer(&mut self, message: &'a [u8]) -> Result<(), Damage> {
        for field in Fields::new(message) {
            match field? {
                (2, charsmap) => self.charsmap = charsmap.bytes()?,
                (3, value) => self.spaces.add_dummy_prefix = value.int()? != 0,
                (4, value) => self.spaces.remove_extra = value.int()? != 0,
                (5, value) => self.spaces.escape = value.int()? != 0,
                _ => {}
            }
        }
        Ok(())
    }

    /// The merges that make the pieces out of each other: a piece is as early as its id, whatever it is merged from.
    pub(crate) fn merges(&self) -> Vec<(&'a str, &'a str)> {
        let ids: HashMap<&str, usize> = self.pieces.iter().enumerate().map(|(id, piece)| (piece.text, id)).collect();
        let mut whole: Vec<_> = ids.iter().filter(|(text, _)| text.len() <= LONGEST_MERGE).collect();
        whole.sort_unstable_by_key(|&(_, &id)| id);
        let splits = |text: &'a str| text.char_indices().skip(1).map(move |(middle, _)| text.split_at(middle));
        let known = whole.into_iter().flat_map(|(&text, _)| splits(text));
        known.filter(|(left, right)| ids.contains_key(left) && ids.contains_key(right)).collect()
    }
}

fn has_charsmap(normalizer: &[u8]) -> Result<bool, Damage> {
    for field in Fields::new(normalizer) {
        if let (2, charsmap) = field? {
            return Ok(!charsmap.bytes()?.is_empty());
        }
    }
    Ok(false)
}

impl<'a> Piece<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, Damage> {
        let mut piece = Self { text: "", score: 0.0, kind: NORMAL };
        for field in Fields::new(message) {
            match field? {
                (1, value) => piece.text = value.text()?,
                (2, value) => piece.score = value.float()?.into(),
                (3, value @ Value::Varint(_)) => piece.kind = value.int()?,
                _ => {}
            }
        }
        if piece.score.is_nan() { Err("a piece whose score is not a number") } else { Ok(piece) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message's field: bytes.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8][..], content].concat()
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        field(1, &[&field(1, text.as_bytes())[..], &[0x15], &score.to_le_bytes(), &[0x18, kind]].concat())
    }

    fn model() -> Vec<u8> {
        let pieces = [piece("<unk>", 0.0, 2), piece("<s>", 0.0, 3), piece("a", -1.5, 1), piece("é", -2.0, 1)];
        let more = [piece("aé", -3.0, 1), piece("aéa", -4.0, 1), piece("<X>", 0.0, 4)];
        let trainer = field(2, &[0x18, 2, 0x98, 0x02, 1, 0xc0, 0x02, 0]);
        [pieces.concat(), more.concat(), trainer, field(3, &field(2, b"\x04\0\0\0\0\0\0\0a\0"))].concat()
    }

    #[test]
    fn a_model_is_read() {
        let bytes = model();
        let (outline, charsmap) = sentence_piece_outline(&bytes).unwrap();
        assert_eq!(
            outline,
            r#"{"model_type":"BPE","byte_fallback":true,"unk_id":0,"unk_piece":"<unk>","bos_id":1,"bos_piece":"<s>","eos_id":2,"eos_piece":"</s>","added_tokens":[["<s>",true],["<X>",false]]}"#
        );
        assert_eq!(charsmap, b"\x04\0\0\0\0\0\0\0a\0");
        let model = SentencePiece::read(&bytes).unwrap();
        assert_eq!((model.pieces[2].text, model.pieces[2].score), ("a", -1.5));
    }

    #[test]
    fn merges_come_in_the_order_of_what_they_make() {
        let bytes = model();
        let merges = SentencePiece::read(&bytes).unwrap().merges();
        assert_eq!(merges, [("a", "é"), ("aé", "a")]);
    }

    #[test]
    fn damage_is_an_error() {
        let bytes = model();
        for length in 0..bytes.len() {
            let _ = SentencePiece::read(&bytes[..length]);
        }
        assert!(SentencePiece::read(b"").is_err());
        assert!(SentencePiece::read(&piece("a", f32::NAN, 1)).is_err());
    }
}
