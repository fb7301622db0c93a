//! WordPiece: a word is cut into the longest tokens that it begins with, one after the other
//! (Schuster and Nakajima 2012, <https://research.google/pubs/pub37842/>).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tokenizers::{Result, Token};

use crate::tokens::Tokens;

/// Written and read as the model of a `tokenizer.json`.
#[derive(Deserialize, Serialize)]
#[serde(tag = "type", rename = "WordPiece")]
pub(crate) struct WordPiece {
    unk_token: String,
    /// Before each piece but a word's first.
    continuing_subword_prefix: String,
    /// Longer words are unknown.
    max_input_chars_per_word: usize,
    vocab: Tokens,
}

impl WordPiece {
    pub(crate) fn new(vocab: Tokens, unk_token: String) -> Self {
        Self { unk_token, continuing_subword_prefix: "##".to_owned(), max_input_chars_per_word: 100, vocab }
    }

    pub(crate) fn token_to_id(&self, token: &str) -> Option<u32> {
        self.vocab.id(token)
    }

    pub(crate) fn id_to_token(&self, id: u32) -> Option<String> {
        self.vocab.token(id).map(str::to_owned)
    }

    pub(crate) fn get_vocab(&self) -> HashMap<String, u32> {
        self.vocab.to_map()
    }

    pub(crate) fn get_vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The pieces of a word, with their offsets in bytes; or the unknown token for the whole.
    pub(crate) fn tokenize(&self, word: &str) -> Result<Vec<Token>> {
        if word.chars().count() <= self.max_input_chars_per_word
            && let Some(pieces) = self.pieces(word)
        {
            return Ok(pieces);
        }
        let id = self.vocab.id(&self.unk_token).ok_or("WordPiece error: Missing [UNK] token from the vocabulary")?;
        Ok(vec![Token::new(id, self.unk_token.clone(), (0, word.len()))])
    }

    fn pieces(&self, word: &str) -> Option<Vec<Token>> {
        let (mut pieces, mut start) = (Vec::new(), 0);
        let mut rest = word.to_owned(); // what is left of the word, behind the prefix
        while start < word.len() {
            let prefix = rest.len() - (word.len() - start);
            let (length, id) = self.longest(&rest, prefix)?;
            let end = start + length - prefix;
            pieces.push(Token::new(id, rest[..length].to_owned(), (start, end)));
            start = end;
            rest.clear();
            rest.push_str(&self.continuing_subword_prefix);
            rest.push_str(&word[start..]);
        }
        Some(pieces)
    }

    /// The length of the longest token that `text` begins with, of more than `prefix` bytes, and its id.
    fn longest(&self, text: &str, prefix: usize) -> Option<(usize, u32)> {
        let ends = text.char_indices().rev().map(|(start, char)| start + char.len_utf8());
        ends.take_while(|&end| end > prefix).find_map(|end| Some((end, self.vocab.id(&text[..end])?)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::Model;
    use tokenizers::models::wordpiece::WordPiece as Crates;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_crates(
            vocab in proptest::collection::hash_map("(##)?[abé日#]{0,3}", 0_u32..30, 0..30),
            words in proptest::collection::vec("[abé日#]{0,8}", 1..20),
            longest in 0_usize..10,
        ) {
            let json = serde_json::json!({"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": longest, "vocab": vocab}).to_string();
            let (ours, theirs): (WordPiece, Crates) =
                (serde_json::from_str(&json).unwrap(), serde_json::from_str(&json).unwrap());
            for word in words {
                let (ours, theirs) = (ours.tokenize(&word), theirs.tokenize(&word));
                prop_assert_eq!(ours.map_err(|e| e.to_string()), theirs.map_err(|e| e.to_string()));
            }
        }
    }

    #[test]
    fn a_description_needs_all_of_it() {
        let json =
            r###"{"unk_token": "?", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9, "vocab": {}}"###;
        assert!(serde_json::from_str::<WordPiece>(json).is_ok());
        for part in ["unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"] {
            assert!(serde_json::from_str::<WordPiece>(&json.replace(part, "other")).is_err());
        }
    }
}
