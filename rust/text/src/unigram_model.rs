//! Unigram: a text cut into pieces whose scores have the largest sum (Kudo 2018, <https://arxiv.org/abs/1804.10959>).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::{Formatter, Result as FmtResult};
use std::ops::Range;

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokenizers::{Result, Token};

use crate::trie::Trie;

/// An unknown character costs this much more than the worst piece.
const UNKNOWN_PENALTY: f64 = 10.0;
const MISSING_UNKNOWN: &str = "Encountered an unknown token but `unk_id` is missing";

/// Written and read as the model of a `tokenizer.json`.
#[derive(Serialize)]
#[serde(tag = "type", rename = "Unigram")]
pub(crate) struct Unigram {
    unk_id: Option<u32>,
    vocab: Pieces,
    /// Unknown pieces become the tokens of their bytes.
    byte_fallback: bool,
    #[serde(skip)]
    unk_score: f64,
}

/// Pieces and scores by id. A piece may occur twice; the last counts where it is looked for.
pub(crate) struct Pieces {
    /// The pieces end to end.
    text: String,
    ends: Vec<u32>,
    scores: Vec<f64>,
    ids: Trie,
}

/// The best way to cut a text that ends here: its score, its last piece and where that starts.
#[derive(Clone, Copy)]
struct Cut {
    score: f64,
    id: u32,
    start: Option<usize>,
}

impl Unigram {
    pub(crate) fn new(vocab: Pieces, unk_id: Option<usize>, byte_fallback: bool) -> std::result::Result<Self, String> {
        let unk_id = match unk_id {
            Some(id) if id >= vocab.len() => {
                return Err(format!("unk_id is {id}, but the vocabulary has {} pieces", vocab.len()));
            }
            id => id.map(|id| id as u32),
        };
        let worst = vocab.scores.iter().copied().fold(f64::INFINITY, f64::min);
        Ok(Self { unk_id, vocab, byte_fallback, unk_score: worst - UNKNOWN_PENALTY })
    }

    pub(crate) fn tokenize(&self, text: &str) -> Result<Vec<Token>> {
        let mut tokens = Vec::new();
        for span in self.spans(text)? {
            let piece = &text[span.clone()];
            let offsets = (span.start, span.end);
            match (self.token_to_id(piece), self.bytes(piece, offsets)) {
                (Some(id), _) => tokens.push(Token::new(id, piece.to_owned(), offsets)),
                (None, Some(bytes)) => tokens.extend(bytes),
                (None, None) => {
                    tokens.push(Token::new(self.unk_id.ok_or(MISSING_UNKNOWN)?, piece.to_owned(), offsets));
                }
            }
        }
        Ok(tokens)
    }

    /// The best cut of a text; neighbours that are unknown are one span.
    fn spans(&self, text: &str) -> Result<Vec<Range<usize>>> {
        let cuts = self.cuts(text)?;
        let (mut spans, mut end, mut unknown) = (Vec::<Range<usize>>::new(), text.len(), false);
        while end > 0 {
            let Cut { id, start, .. } = cuts[end];
            let start = start.expect("every character ends a cut");
            let is_unknown = Some(id) == self.unk_id;
            match spans.last_mut() {
                Some(next) if unknown && is_unknown => next.start = start,
                _ => spans.push(start..end),
            }
            (end, unknown) = (start, is_unknown);
        }
        spans.reverse();
        Ok(spans)
    }

    /// The best cut that ends at each byte (Viterbi).
    fn cuts(&self, text: &str) -> Result<Vec<Cut>> {
        let mut cuts = vec![Cut { score: 0.0, id: 0, start: None }; text.len() + 1];
        for (start, char) in text.char_indices() {
            let here = cuts[start].score;
            let mut offer = |length: usize, id: u32, score: f64| {
                let cut = &mut cuts[start + length];
                if cut.start.is_none() || here + score > cut.score {
                    *cut = Cut { score: here + score, id, start: Some(start) };
                    return true;
                }
                false
            };
            let mut known = false;
            for (length, id) in self.vocab.prefixes(&text.as_bytes()[start..]) {
                offer(length, id, self.vocab.score(id));
                known |= length == char.len_utf8();
            }
            if !known
                && offer(char.len_utf8(), self.unk_id.unwrap_or_default(), self.unk_score)
                && self.unk_id.is_none()
            {
                return Err(MISSING_UNKNOWN.into());
            }
        }
        Ok(cuts)
    }

    fn bytes(&self, piece: &str, offsets: (usize, usize)) -> Option<Vec<Token>> {
        let token = |byte: u8| {
            let name = format!("<0x{byte:02X}>");
            Some(Token::new(self.token_to_id(&name)?, name, offsets))
        };
        if self.byte_fallback { piece.bytes().map(token).collect() } else { None }
    }

    pub(crate) fn token_to_id(&self, token: &str) -> Option<u32> {
        self.vocab.id(token)
    }

    pub(crate) fn id_to_token(&self, id: u32) -> Option<String> {
        ((id as usize) < self.vocab.len()).then(|| self.vocab.piece(id).to_owned())
    }

    pub(crate) fn get_vocab(&self) -> HashMap<String, u32> {
        (0..self.vocab.len() as u32).map(|id| (self.vocab.piece(id).to_owned(), id)).collect()
    }

    pub(crate) fn get_vocab_size(&self) -> usize {
        self.vocab.len()
    }
}

impl Pieces {
    pub(crate) fn new<'a>(pieces: impl Iterator<Item = (&'a str, f64)>) -> std::result::Result<Self, String> {
        let mut list = PieceList::default();
        for (piece, score) in pieces {
            list.push(piece, score);
        }
        list.finished()
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn piece(&self, id: u32) -> &str {
        let id = id as usize;
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[id] as usize]
    }

    pub(crate) fn id(&self, piece: &str) -> Option<u32> {
        self.ids.get(piece)
    }

    pub(crate) fn score(&self, id: u32) -> f64 {
        self.scores[id as usize]
    }

    /// The lengths and ids of all pieces that `text` begins with, by rising length.
    pub(crate) fn prefixes(&self, text: &[u8]) -> impl Iterator<Item = (usize, u32)> {
        self.ids.prefixes(text)
    }

    /// The first id of a token, with this score if one is given.
    pub(crate) fn first(&self, token: &str, score: Option<f64>) -> Option<usize> {
        let is_it = |id: &usize| self.piece(*id as u32) == token && score.is_none_or(|score| score == self.scores[*id]);
        (0..self.len()).find(is_it)
    }
}

/// Pieces that are not looked for yet.
#[derive(Default)]
struct PieceList {
    text: String,
    ends: Vec<usize>,
    scores: Vec<f64>,
}

impl PieceList {
    fn push(&mut self, piece: &str, score: f64) {
        self.text.push_str(piece);
        self.ends.push(self.text.len());
        self.scores.push(score);
    }

    fn finished(self) -> std::result::Result<Pieces, String> {
        let Self { mut text, ends, mut scores } = self;
        text.shrink_to_fit();
        scores.shrink_to_fit();
        let starts = std::iter::once(&0).chain(&ends);
        let pieces = starts.zip(&ends).map(|(&start, &end)| &text[start..end]);
        let ids = Trie::new(pieces.zip(0..));
        let ends = ends.iter().map(|&end| u32::try_from(end)).collect::<std::result::Result<_, _>>();
        match (ids, ends) {
            (Some(ids), Ok(ends)) => Ok(Pieces { text, ends, scores, ids }),
            _ => Err("more than 4 GB of pieces".to_owned()),
        }
    }
}

impl Serialize for Pieces {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.len()))?;
        for (id, score) in (0..).zip(&self.scores) {
            list.serialize_element(&(self.piece(id), score))?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_seq(Scored)
    }
}

struct Scored;

impl<'de> Visitor<'de> for Scored {
    type Value = Pieces;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> FmtResult {
        formatter.write_str("tokens with their scores")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Pieces, A::Error> {
        let mut pieces = PieceList::default();
        while let Some((piece, score)) = list.next_element::<(Cow<'_, str>, f64)>()? {
            pieces.push(&piece, score);
        }
        pieces.finished().map_err(A::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Unigram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Description {
            unk_id: Option<usize>,
            vocab: Pieces,
            #[serde(default)]
            byte_fallback: bool,
        }
        let Description { unk_id, vocab, byte_fallback } = Description::deserialize(deserializer)?;
        Self::new(vocab, unk_id, byte_fallback).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::Model;
    use tokenizers::models::unigram::Unigram as Crates;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_crates(
            vocab in proptest::collection::vec(("(<0x(61|C3|A9)>|[abé日<0x6>]{0,4})", -9_i32..3), 1..40),
            unk_id in proptest::option::of(0_usize..4),
            byte_fallback in any::<bool>(),
            texts in proptest::collection::vec("[abcé日<0x6>]{0,12}", 1..20),
        ) {
            let json = serde_json::json!({"type": "Unigram", "unk_id": unk_id, "byte_fallback": byte_fallback,
                "vocab": vocab}).to_string();
            let (ours, theirs) = (serde_json::from_str::<Unigram>(&json), serde_json::from_str::<Crates>(&json));
            prop_assert_eq!(ours.is_ok(), theirs.is_ok());
            let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return Ok(()) };
            prop_assert_eq!(serde_json::to_value(&ours).unwrap(), serde_json::to_value(&theirs).unwrap());
            prop_assert_eq!(ours.get_vocab(), theirs.get_vocab());
            prop_assert_eq!(ours.get_vocab_size(), theirs.get_vocab_size());
            for text in texts {
                prop_assert_eq!(ours.token_to_id(&text), theirs.token_to_id(&text));
                let (ours, theirs) = (ours.tokenize(&text), theirs.tokenize(&text));
                prop_assert_eq!(ours.map_err(|e| e.to_string()), theirs.map_err(|e| e.to_string()));
            }
            for id in 0..50 {
                prop_assert_eq!(ours.id_to_token(id), theirs.id_to_token(id));
            }
        }
    }
}
