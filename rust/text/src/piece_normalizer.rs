//! How SentencePiece makes a text ready for its pieces: a map of characters, white space, "▁" for spaces.
//!
//! The map takes the longest text that it has at each place, as the library itself does; the `tokenizers` crate goes by
//! graphemes (<https://github.com/google/sentencepiece/blob/master/src/normalizer.cc>).

use crate::charsmap::{self, CharsMap};
use crate::protobuf::Damage;
use crate::sentence_piece::{SentencePiece, Spaces, USER_DEFINED};
use crate::trie::Trie;

pub(crate) const SPACE: &str = "▁";

pub(crate) struct PieceNormalizer {
    map: Option<CharsMap>,
    spaces: Spaces,
    /// Pieces that a user defined are left as they are.
    fixed: FixedPieces,
}

/// Pieces that are taken wherever they occur.
pub(crate) struct FixedPieces(Trie);

impl FixedPieces {
    pub(crate) fn new(model: &SentencePiece<'_>) -> Result<Self, Damage> {
        let fixed = model.pieces.iter().filter(|piece| piece.kind == USER_DEFINED).map(|piece| piece.text);
        Trie::new(fixed.zip(0..)).map(Self).ok_or("it has more than 4 GB of pieces")
    }

    /// The length of the longest that `text` begins with.
    pub(crate) fn prefix(&self, text: &str) -> Option<usize> {
        self.0.prefixes(text.as_bytes()).last().map(|(length, _)| length)
    }
}

impl PieceNormalizer {
    pub(crate) fn new(model: &SentencePiece<'_>) -> Result<Self, Damage> {
        let map = if model.charsmap.is_empty() { None } else { Some(charsmap::read(model.charsmap)?) };
        Ok(Self { map, spaces: model.spaces, fixed: FixedPieces::new(model)? })
    }

    pub(crate) fn normalize<'a>(&'a self, mut text: &'a str) -> String {
        let Spaces { add_dummy_prefix, remove_extra, escape, as_suffix } = self.spaces;
        let space = if escape { SPACE } else { " " };
        while remove_extra && let Some((" ", rest)) = self.first(text) {
            text = rest;
        }
        let mut normal = String::with_capacity(text.len() + text.len() / 2 + SPACE.len());
        if text.is_empty() {
            return normal;
        }
        if add_dummy_prefix && !as_suffix {
            normal.push_str(space);
        }
        let mut after_space = remove_extra;
        while let Some((part, rest)) = self.first(text) {
            let part = if after_space { part.trim_start_matches(' ') } else { part };
            if !part.is_empty() {
                normal.extend(part.split_inclusive(' ').flat_map(|part| match part.strip_suffix(' ') {
                    Some(before) => [before, space],
                    None => [part, ""],
                }));
                after_space = remove_extra && part.ends_with(' ');
            }
            text = rest;
        }
        if remove_extra {
            normal.truncate(normal.trim_end_matches(space).len());
        }
        if add_dummy_prefix && as_suffix {
            normal.push_str(space);
        }
        normal
    }

    /// What the text begins with, normalized, and what comes after it; None at its end.
    fn first<'a>(&'a self, text: &'a str) -> Option<(&'a str, &'a str)> {
        let char = text.chars().next()?.len_utf8();
        if let Some(length) = self.fixed.prefix(text) {
            return Some(text.split_at(length));
        }
        // a map whose texts end inside a character is passed over
        let mapped = self.map.as_ref().and_then(|map| map.longest_prefix(text.as_bytes()));
        match mapped.and_then(|(length, normal)| Some((normal, text.get(length..)?))) {
            Some(mapped) => Some(mapped),
            None => Some(text.split_at(char)),
        }
    }
}
