//! Tokenizers made from a vocabulary, in whichever file it is kept, and a description of everything else.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokenizers::{DecoderWrapper, PreTokenizerWrapper};

use crate::bpe_model::{Bpe, BpeOptions, split};
use crate::checked_normalizer::CheckedNormalizer;
use crate::sentence_piece::SentencePiece;
use crate::shared_model::SharedModel;
use crate::tokens::Tokens;
use crate::unigram_model::{Pieces, Unigram};
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
    #[serde(rename = "BPE")]
    Bpe(BpeOptions),
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
    normalizer: Option<CheckedNormalizer>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    decoder: Option<DecoderWrapper>,
}

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
        Ok(match self {
            Self::WordPiece { unk_token } => WordPiece::new(vocabulary.tokens()?, unk_token).into(),
            Self::Bpe(options) => vocabulary.merged(options)?.into(),
            Self::Unigram { unk_token, unk_score, unk_id, byte_fallback } => {
                let pieces = vocabulary.pieces()?;
                let named = unk_token.and_then(|token| pieces.first(&token, unk_score));
                let model = Unigram::new(pieces, named.or(unk_id), byte_fallback);
                model.map_err(TextError::Description)?.into()
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

    fn merged(&self, options: BpeOptions) -> Result<Bpe, TextError> {
        let model = match self {
            Self::Merges { vocab, merges } => {
                let vocab = read_json(utf8("vocab.json", vocab)?)?;
                let lines = utf8("merges.txt", merges)?.lines().filter(|line| !line.starts_with("#version"));
                let pairs = lines.enumerate().map(|(index, line)| {
                    let bad = || TextError::Description(format!("merge {index} is {line:?}, not two tokens"));
                    split(line).ok_or_else(bad)
                });
                Bpe::new(vocab, pairs.collect::<Result<Vec<_>, _>>()?.into_iter(), options)
            }
            Self::Description(json) => {
                let json: &RawValue = described(json, "tokens and ids, with merges")?;
                Bpe::from_json(json.get(), options).map_err(|e| e.to_string())
            }
            Self::Pieces { model, before, skip, after } => {
                let model = SentencePiece::read(model)?;
                let pieces = model.pieces.iter().skip(*skip).map(|piece| (piece.text, piece.score));
                let arranged = before.iter().map(scored).chain(pieces).chain(after.iter().map(scored));
                let vocab = Tokens::new(arranged.map(|(token, _)| token).zip(0..));
                Bpe::new(vocab, model.merges().into_iter(), options)
            }
            Self::Lines(_) => return Err(self.unfit("BPE")),
        };
        model.map_err(TextError::Description)
    }

    fn pieces(&self) -> Result<Pieces, TextError> {
        #[derive(Deserialize)]
        struct Model {
            vocab: Pieces,
        }
        match self {
            Self::Description(json) => described(json, "tokens with scores").map(|model: Model| model.vocab),
            Self::Pieces { model, before, skip, after } => {
                let model = SentencePiece::read(model)?;
                let pieces = model.pieces.iter().skip(*skip).map(|piece| (piece.text, piece.score));
                Pieces::new(before.iter().map(scored).chain(pieces).chain(after.iter().map(scored)))
                    .map_err(TextError::Description)
            }
            _ => Err(self.unfit("Unigram")),
        }
    }

    fn unfit(&self, kind: &str) -> TextError {
        TextError::Description(format!("a {kind} model is not made from such a vocabulary"))
    }
}

fn scored((token, score): &(String, f64)) -> (&str, f64) {
    (token, *score)
}

/// The model of a `tokenizer.json`.
fn described<'a, M: Deserialize<'a>>(json: &'a str, what: &str) -> Result<M, TextError> {
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
