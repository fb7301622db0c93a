//! Tokenizers made from a vocabulary, in whichever file it is kept, and a description of everything else.

use std::collections::HashMap;

use ahash::RandomState;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::models::bpe::BpeBuilder;
use tokenizers::models::unigram::Unigram;
use tokenizers::{DecoderWrapper, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

use crate::sentence_piece::SentencePiece;
use crate::shared_model::SharedModel;
use crate::tokens::Tokens;
use crate::word_piece_model::WordPiece;
use crate::{TextError, Tokenizer, tokenizer::Pipeline};

/// Where the tokens are read from.
#[derive(Clone, Debug)]
pub enum Vocabulary<'a> {
    /// A `vocab.txt`: one a line, trailing white space dropped, the last of several equal lines counts.
    Lines(&'a [u8]),
    /// A `tokenizer.json`, whose other sections are not looked at.
    Description(&'a str),
    /// A `vocab.json`, and a `merges.txt` of pairs with a space between them.
    Merges { vocab: &'a [u8], merges: &'a [u8] },
    /// A SentencePiece model, with its first `skip` pieces replaced by `before`, and `after` at the end.
    Pieces { model: &'a [u8], before: Vec<(String, f64)>, skip: usize, after: Vec<(String, f64)> },
}

/// The model section of a `tokenizer.json` without what is in the vocabulary.
#[derive(Deserialize)]
#[serde(tag = "type")]
enum Options {
    WordPiece {
        unk_token: String,
    },
    BPE {
        unk_token: Option<String>,
        #[serde(default)]
        fuse_unk: bool,
        #[serde(default)]
        byte_fallback: bool,
    },
    Unigram {
        /// Where there is a token of this name (and score), it is the unknown one; else `unk_id` is.
        unk_token: Option<String>,
        unk_score: Option<f64>,
        unk_id: Option<usize>,
        #[serde(default)]
        byte_fallback: bool,
    },
}

/// The other sections of a `tokenizer.json` that are computed with.
#[derive(Deserialize)]
struct Sections {
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    decoder: Option<DecoderWrapper>,
}

type Ids = HashMap<String, u32, RandomState>;
type Scores = Vec<(String, f64)>;
type Merges = Vec<(String, String)>;

impl Tokenizer {
    /// `options` and `sections` are JSON. No added tokens, no post-processor.
    pub fn assemble(vocabulary: &Vocabulary<'_>, options: &str, sections: &str) -> Result<Self, TextError> {
        let describe = |e: tokenizers::Error| TextError::Description(e.to_string());
        let sections: Sections = read_json(sections)?;
        let mut pipeline = Pipeline::new(read_json::<Options>(options)?.model(vocabulary)?);
        pipeline
            .with_normalizer(sections.normalizer)
            .map_err(describe)?
            .with_pre_tokenizer(sections.pre_tokenizer)
            .with_decoder(sections.decoder);
        Ok(Self::from_parts(pipeline, None))
    }
}

impl Options {
    fn model(self, vocabulary: &Vocabulary<'_>) -> Result<SharedModel, TextError> {
        let describe = |e: tokenizers::Error| TextError::Description(e.to_string());
        Ok(match self {
            Self::WordPiece { unk_token } => WordPiece::new(vocabulary.tokens()?, unk_token).into(),
            Self::BPE { unk_token, fuse_unk, byte_fallback } => {
                let (vocab, merges) = vocabulary.merges()?;
                let mut builder =
                    BpeBuilder::new().vocab_and_merges(vocab, merges).fuse_unk(fuse_unk).byte_fallback(byte_fallback);
                if let Some(unk_token) = unk_token {
                    builder = builder.unk_token(unk_token);
                }
                ModelWrapper::BPE(builder.build().map_err(describe)?).into()
            }
            Self::Unigram { unk_token, unk_score, unk_id, byte_fallback } => {
                let scores = vocabulary.scores()?;
                let is_unk = |(token, score): &(String, f64)| {
                    Some(token) == unk_token.as_ref() && unk_score.is_none_or(|unk_score| unk_score == *score)
                };
                let unk_id = scores.iter().position(is_unk).or(unk_id);
                ModelWrapper::Unigram(Unigram::from(scores, unk_id, byte_fallback).map_err(describe)?).into()
            }
        })
    }
}

impl Vocabulary<'_> {
    fn tokens(&self) -> Result<Tokens, TextError> {
        #[derive(Deserialize)]
        struct Model {
            vocab: Tokens,
        }
        match self {
            Self::Lines(text) => Ok(Tokens::new(utf8("the vocabulary", text)?.lines().map(str::trim_end).zip(0..))),
            Self::Description(json) => described(json, "tokens and ids").map(|model: Model| model.vocab),
            _ => Err(self.unfit("WordPiece")),
        }
    }

    fn merges(&self) -> Result<(Ids, Merges), TextError> {
        #[derive(Deserialize)]
        struct Model {
            vocab: Ids,
            #[serde(default)]
            merges: MergeList,
        }
        match self {
            Self::Merges { vocab, merges } => {
                let vocab = read_json(utf8("vocab.json", vocab)?)?;
                let lines = utf8("merges.txt", merges)?.lines().filter(|line| !line.starts_with("#version"));
                Ok((vocab, split_all(lines)?))
            }
            Self::Description(json) => {
                let Model { vocab, merges } = described(json, "tokens and ids, with merges")?;
                let merges = match merges {
                    MergeList::Pairs(pairs) => pairs,
                    MergeList::Lines(lines) => split_all(lines.iter().map(String::as_str))?,
                };
                Ok((vocab, merges))
            }
            Self::Pieces { model, .. } => {
                let model = SentencePiece::read(model)?;
                let vocab = model.pieces.iter().map(|piece| piece.text.to_owned()).zip(0..).collect();
                Ok((vocab, model.merges()))
            }
            Self::Lines(_) => Err(self.unfit("BPE")),
        }
    }

    fn scores(&self) -> Result<Scores, TextError> {
        #[derive(Deserialize)]
        struct Model {
            vocab: Scores,
        }
        match self {
            Self::Description(json) => described(json, "tokens with scores").map(|model: Model| model.vocab),
            Self::Pieces { model, before, skip, after } => {
                let model = SentencePiece::read(model)?;
                let pieces = model.pieces.iter().skip(*skip).map(|piece| (piece.text.to_owned(), piece.score));
                Ok(before.iter().cloned().chain(pieces).chain(after.iter().cloned()).collect())
            }
            _ => Err(self.unfit("Unigram")),
        }
    }

    fn unfit(&self, kind: &str) -> TextError {
        TextError::Description(format!("a {kind} model is not made from such a vocabulary"))
    }
}

/// Pairs as they are written today, or with a space between them.
#[derive(Deserialize)]
#[serde(untagged)]
enum MergeList {
    Pairs(Merges),
    Lines(Vec<String>),
}

impl Default for MergeList {
    fn default() -> Self {
        Self::Pairs(Vec::new())
    }
}

fn split_all<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Merges, TextError> {
    let split = |(index, line): (usize, &str)| match line.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
        _ => Err(TextError::Description(format!("merge {} is {line:?}, not two tokens", index + 1))),
    };
    lines.enumerate().map(split).collect()
}

/// The model of a `tokenizer.json`.
fn described<M: DeserializeOwned>(json: &str, what: &str) -> Result<M, TextError> {
    #[derive(Deserialize)]
    struct Description<M> {
        model: M,
    }
    let description: Description<M> =
        serde_json::from_str(json).map_err(|e| TextError::Description(format!("no vocabulary of {what}: {e}")))?;
    Ok(description.model)
}

fn read_json<T: DeserializeOwned>(json: &str) -> Result<T, TextError> {
    serde_json::from_str(json).map_err(|e| TextError::Description(e.to_string()))
}

fn utf8<'a>(name: &'static str, text: &'a [u8]) -> Result<&'a str, TextError> {
    std::str::from_utf8(text).map_err(|e| TextError::NotUtf8 {
        name,
        line: 1 + text[..e.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTION: &str = r###"{
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": false,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "?", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {"?": 0, "un": 1, "##do": 2}}}"###;
    const WORD_PIECE: &str = r#"{"type": "WordPiece", "unk_token": "?"}"#;
    const BPE: &str = r#"{"type": "BPE"}"#;
    const NOTHING: &str = "{}";

    fn kind(vocabulary: &Vocabulary<'_>, options: &str) -> Result<Tokenizer, TextError> {
        Tokenizer::assemble(vocabulary, options, NOTHING)
    }

    #[test]
    fn it_is_the_pipeline_that_its_description_describes() {
        let described = Tokenizer::from_json(DESCRIPTION).unwrap().to_json(false).unwrap();
        for vocabulary in [Vocabulary::Description(DESCRIPTION), Vocabulary::Lines(b"?\nun\n##do \n")] {
            let tokenizer = Tokenizer::assemble(&vocabulary, WORD_PIECE, DESCRIPTION).unwrap();
            assert_eq!(tokenizer.to_json(false).unwrap(), described);
        }
    }

    #[test]
    fn merges_are_read_from_either_place() {
        let files = Vocabulary::Merges { vocab: br#"{"a": 0, "b": 1, "ab": 2}"#, merges: b"#version: 0.2\na b\n" };
        let json = r#"{"model": {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": MERGES}}"#;
        let expected = kind(&files, BPE).unwrap().to_json(false).unwrap();
        for merges in [r#"["a b"]"#, r#"[["a", "b"]]"#] {
            let json = json.replace("MERGES", merges);
            assert_eq!(kind(&Vocabulary::Description(&json), BPE).unwrap().to_json(false).unwrap(), expected);
        }
        for merges in ["a\n", "a b c\n", "\n", "a c\n"] {
            let vocabulary = Vocabulary::Merges { vocab: br#"{"a": 0, "b": 1}"#, merges: merges.as_bytes() };
            assert!(matches!(kind(&vocabulary, BPE), Err(TextError::Description(_))), "{merges}");
        }
    }

    #[test]
    fn the_unknown_token_is_found_by_name_and_score() {
        let vocabulary = Vocabulary::Description(r#"{"model": {"vocab": [["a", -1.0], ["?", -2.0], ["?", 0.0]]}}"#);
        let unk = |options: &str| {
            let json =
                kind(&vocabulary, &format!(r#"{{"type": "Unigram", {options}}}"#)).unwrap().to_json(false).unwrap();
            serde_json::from_str::<serde_json::Value>(&json).unwrap()["model"]["unk_id"].as_u64()
        };
        assert_eq!(unk(r#""unk_id": 0"#), Some(0));
        assert_eq!(unk(r#""unk_id": 0, "unk_token": "?""#), Some(1));
        assert_eq!(unk(r#""unk_id": 0, "unk_token": "?", "unk_score": 0.0"#), Some(2));
        assert_eq!(unk(r#""unk_id": 0, "unk_token": "b""#), Some(0));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let error = kind(&Vocabulary::Lines(b"a\nb\n\xff\n"), WORD_PIECE).err().unwrap();
        assert!(matches!(error, TextError::NotUtf8 { line: 3, .. }));
        for model in [r#""vocab": [["a", 0.5]]"#, r#""vocab": {"a": -1}"#, r#""vocab": null"#, r#""y": 0"#] {
            let json = format!(r#"{{"model": {{{model}}}}}"#);
            for options in [WORD_PIECE, BPE] {
                assert!(kind(&Vocabulary::Description(&json), options).is_err(), "{model}");
            }
        }
        assert!(kind(&Vocabulary::Lines(b"a\n"), BPE).is_err());
        assert!(kind(&Vocabulary::Lines(b"a\n"), r#"{"type": "Unigram"}"#).is_err());
    }
}
