//! BERT's pipeline, made from a vocabulary and its options.

use tokenizers::decoders::wordpiece::WordPiece as Decoder;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

use crate::description;
use crate::shared_model::SharedModel;
use crate::tokens::Tokens;
use crate::word_piece_model::WordPiece;
use crate::{TextError, Tokenizer, tokenizer::Pipeline};

/// Where the tokens and their ids are read from.
#[derive(Clone, Copy, Debug)]
pub enum Vocabulary<'a> {
    /// A `vocab.txt`: one a line, trailing white space dropped, the last of several equal lines counts.
    Lines(&'a [u8]),
    /// A `tokenizer.json`, whose other sections are not looked at.
    Description(&'a str),
}

#[derive(Clone, Debug)]
pub struct WordPieceOptions {
    pub unk_token: String,
    pub lowercase: bool,
    /// None: if `lowercase`.
    pub strip_accents: Option<bool>,
    pub handle_chinese_chars: bool,
}

impl Tokenizer {
    /// Text split at white space and punctuation, then WordPiece; no added tokens, no post-processor.
    pub fn word_piece(vocabulary: Vocabulary<'_>, options: WordPieceOptions) -> Result<Self, TextError> {
        let WordPieceOptions { unk_token, lowercase, strip_accents, handle_chinese_chars } = options;
        let describe = |e: tokenizers::Error| TextError::Description(e.to_string());
        let mut pipeline = Pipeline::new(SharedModel::from(WordPiece::new(vocabulary.read()?, unk_token)));
        pipeline
            .with_normalizer(Some(BertNormalizer::new(true, handle_chinese_chars, strip_accents, lowercase)))
            .map_err(describe)?
            .with_pre_tokenizer(Some(BertPreTokenizer))
            .with_decoder(Some(Decoder::default()));
        Ok(Self::assemble(pipeline, None))
    }
}

impl Vocabulary<'_> {
    fn read(self) -> Result<Tokens, TextError> {
        match self {
            Self::Lines(text) => read_lines(text),
            Self::Description(json) => description::vocabulary(json),
        }
    }
}

fn read_lines(text: &[u8]) -> Result<Tokens, TextError> {
    let text = std::str::from_utf8(text).map_err(|e| TextError::VocabularyNotUtf8 {
        line: 1 + text[..e.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count(),
    })?;
    Ok(Tokens::new(text.lines().map(str::trim_end).zip(0..)))
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

    fn options() -> WordPieceOptions {
        WordPieceOptions { unk_token: "?".into(), lowercase: true, strip_accents: None, handle_chinese_chars: false }
    }

    #[test]
    fn it_is_the_pipeline_that_its_description_describes() {
        let described = Tokenizer::from_json(DESCRIPTION).unwrap().to_json(false).unwrap();
        for vocabulary in [Vocabulary::Description(DESCRIPTION), Vocabulary::Lines(b"?\nun\n##do \n")] {
            let tokenizer = Tokenizer::word_piece(vocabulary, options()).unwrap();
            assert_eq!(tokenizer.to_json(false).unwrap(), described);
        }
    }

    #[test]
    fn damaged_lines_are_named() {
        let error = Tokenizer::word_piece(Vocabulary::Lines(b"a\nb\n\xff\n"), options()).err().unwrap();
        assert!(matches!(error, TextError::VocabularyNotUtf8 { line: 3 }));
    }
}
