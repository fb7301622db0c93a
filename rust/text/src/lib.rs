//! Text to token ids: the `tokenizers` crate behind a thin room.
//!
//! A [`Tokenizer`] is immutable. Truncation and padding are arguments of a call, never state of the object, so one
//! tokenizer may serve any number of threads with different options. Everything runs on the calling thread: the
//! crate's own batch functions use rayon's global pool, which does not survive a fork.

#![forbid(unsafe_code)]

mod assemble;
mod bpe_model;
mod charsmap;
mod checked_normalizer;
mod description;
mod error;
mod input;
mod pad;
mod pickle;
mod piece_normalizer;
mod piece_segmenter;
mod protobuf;
mod sentence_piece;
mod sentence_piece_processor;
mod shared_model;
mod tokenizer;
mod tokens;
mod trie;
mod truncate;
mod unigram_model;
mod word_piece_model;

pub use assemble::Vocabulary;
pub use description::outline;
pub use error::TextError;
pub use input::{Input, Sequence};
pub use pad::Padding;
pub use pickle::{encoding_from_json, encoding_to_json};
pub use sentence_piece::sentence_piece_outline;
pub use sentence_piece_processor::SentencePieceProcessor;
pub use tokenizer::{Batch, EncodeOptions, Tokenizer};
pub use tokenizers::{AddedToken, Encoding};
pub use truncate::{Strategy, Truncation};

/// The end of a row at which tokens are cut off or padding is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}
