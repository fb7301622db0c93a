use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use tokenizers::{
    AddedToken, Decoder, DecoderWrapper, Encoding, InputSequence, PostProcessor, PostProcessorWrapper,
    PreTokenizerWrapper, TokenizerImpl,
};

use crate::checked_normalizer::CheckedNormalizer;
use crate::shared_model::SharedModel;
use crate::{Input, Padding, Sequence, Side, Strategy, TextError, Truncation};

pub(crate) type Pipeline =
    TokenizerImpl<SharedModel, CheckedNormalizer, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Options of one call.
#[derive(Clone, Debug)]
pub struct EncodeOptions {
    pub add_special_tokens: bool,
    /// Read special tokens that occur in the text as plain text.
    pub split_special_tokens: bool,
    pub truncation: Option<Truncation>,
    pub padding: Option<Padding>,
}

/// The rows of a call; an input has several where its overflow is kept.
#[derive(Debug)]
pub struct Batch {
    pub rows: Vec<Encoding>,
    /// The input that each row comes from.
    pub samples: Vec<usize>,
}

/// An immutable tokenizer.
#[derive(Clone)]
pub struct Tokenizer {
    /// Normalizer, pre-tokenizer, model, added tokens and decoder; no truncation, padding or post-processor.
    pipeline: Arc<Pipeline>,
    /// The same pipeline reading special tokens as text. The crate keeps that switch inside the object, so calls that
    /// want it get a second object, made by the first of them.
    literal: OnceLock<Arc<Pipeline>>,
    /// Kept apart from the pipeline because truncation comes between the two.
    post_processor: Option<PostProcessorWrapper>,
}

impl Tokenizer {
    /// From the text of a `tokenizer.json`. Its truncation and padding are dropped: a call says what it wants.
    pub fn from_json(json: &str) -> Result<Self, TextError> {
        let describe = |e: tokenizers::Error| TextError::Description(e.to_string());
        let mut pipeline = Pipeline::from_str(json).map_err(describe)?;
        let post_processor = pipeline.get_post_processor().cloned();
        pipeline.with_post_processor(None::<PostProcessorWrapper>);
        pipeline.with_truncation(None).map_err(describe)?.with_padding(None);
        Ok(Self::from_parts(pipeline, post_processor))
    }

    pub(crate) fn from_parts(pipeline: Pipeline, post_processor: Option<PostProcessorWrapper>) -> Self {
        // Only the crate's batch and padding functions ask for this, and none of them is called here; it is a second
        // lock on the door to rayon's global pool.
        tokenizers::utils::parallelism::set_parallelism(false);
        Self { pipeline: Arc::new(pipeline), literal: OnceLock::new(), post_processor }
    }

    /// The text of a `tokenizer.json`.
    pub fn to_json(&self, pretty: bool) -> Result<String, TextError> {
        let mut pipeline = Pipeline::clone(&self.pipeline);
        pipeline.with_post_processor(self.post_processor.clone());
        pipeline.to_string(pretty).map_err(|e| TextError::Description(e.to_string()))
    }

    /// The same tokenizer with more added tokens, and how many of them were new or changed.
    pub fn with_added_tokens(&self, tokens: Vec<AddedToken>) -> Result<(Self, usize), TextError> {
        let mut pipeline = Pipeline::clone(&self.pipeline);
        let added = pipeline.add_tokens(tokens).map_err(|e| TextError::AddTokens(e.to_string()))?;
        Ok((Self::from_parts(pipeline, self.post_processor.clone()), added))
    }

    /// The same tokenizer with another post-processor, given as that section of a `tokenizer.json`.
    pub fn with_post_processor(&self, json: &str) -> Result<Self, TextError> {
        let post_processor = serde_json::from_str(json).map_err(|e| TextError::Description(e.to_string()))?;
        Ok(Self { post_processor: Some(post_processor), ..self.clone() })
    }

    /// Rows with everything an [`Encoding`] holds; offsets count characters.
    pub fn encode(&self, inputs: &[Input<'_>], options: &EncodeOptions) -> Result<Batch, TextError> {
        self.check_stride(options)?;
        let mut batch = Batch { rows: Vec::with_capacity(inputs.len()), samples: Vec::with_capacity(inputs.len()) };
        for (index, input) in inputs.iter().enumerate() {
            let mut row = self.encode_one(index, input, options)?;
            let overflow = row.take_overflowing();
            batch.samples.extend(std::iter::repeat_n(index, 1 + overflow.len()));
            batch.rows.push(row);
            batch.rows.extend(overflow);
        }
        if let Some(padding) = &options.padding {
            padding.apply(&mut batch.rows);
        }
        Ok(batch)
    }

    /// Ids alone, end to end, with the length of each text: all that a sentence embedding needs.
    pub fn encode_ids(
        &self,
        texts: &[&str],
        add_special_tokens: bool,
        max_length: Option<usize>,
        truncation_side: Side,
    ) -> Result<(Vec<i64>, Vec<i64>), TextError> {
        let truncation = max_length.map(|max_length| Truncation {
            strategy: Strategy::LongestFirst,
            max_length,
            stride: 0,
            side: truncation_side,
            keep_overflow: false,
        });
        let (mut ids, mut lengths) = (Vec::new(), Vec::with_capacity(texts.len()));
        for (index, text) in texts.iter().enumerate() {
            let tokens = self.pipeline.encode_fast(*text, false).map_err(|e| tokenize_error(index, e))?;
            let row = self.finish(index, tokens, None, add_special_tokens, truncation.as_ref())?;
            ids.extend(row.get_ids().iter().map(|&id| i64::from(id)));
            lengths.push(row.len() as i64);
        }
        Ok((ids, lengths))
    }

    fn encode_one(&self, index: usize, input: &Input<'_>, options: &EncodeOptions) -> Result<Encoding, TextError> {
        let pipeline = self.pipeline_for(options);
        let tokens = |sequence: &Sequence<'_>| {
            pipeline.encode_char_offsets(InputSequence::from(sequence), false).map_err(|e| tokenize_error(index, e))
        };
        let first = tokens(&input.first)?;
        let second = input.second.as_ref().map(tokens).transpose()?.map(|mut second| {
            second.set_type_ids(vec![1; second.len()]);
            second
        });
        self.finish(index, first, second, options.add_special_tokens, options.truncation.as_ref())
    }

    /// Truncates the tokens of a row, then lets the post-processor put special tokens around them.
    fn finish(
        &self,
        index: usize,
        mut first: Encoding,
        mut second: Option<Encoding>,
        add_special_tokens: bool,
        truncation: Option<&Truncation>,
    ) -> Result<Encoding, TextError> {
        if let Some(truncation) = truncation {
            let special = if add_special_tokens { self.num_special_tokens(second.is_some()) } else { 0 };
            truncation.apply(index, &mut first, second.as_mut(), special)?;
        }
        let joined = match &self.post_processor {
            Some(processor) => processor.process(first, second, add_special_tokens),
            None => <dyn PostProcessor>::default_process(std::iter::once(first).chain(second).collect(), false)
                .map(|rows| Encoding::merge(rows, false)),
        };
        joined.map_err(|e| tokenize_error(index, e))
    }

    /// A stride that leaves no step forward is refused before any text is looked at, whatever its length.
    fn check_stride(&self, options: &EncodeOptions) -> Result<(), TextError> {
        let Some(&Truncation { stride, max_length, .. }) = options.truncation.as_ref() else {
            return Ok(());
        };
        let room = max_length.saturating_sub(self.num_special_tokens(false));
        if room < stride {
            return Err(TextError::StrideTooLarge { stride, room, max_length });
        }
        Ok(())
    }

    fn pipeline_for(&self, options: &EncodeOptions) -> &Pipeline {
        if !options.split_special_tokens {
            return &self.pipeline;
        }
        self.literal.get_or_init(|| {
            let mut pipeline = Pipeline::clone(&self.pipeline);
            pipeline.set_encode_special_tokens(true);
            Arc::new(pipeline)
        })
    }

    /// The text of some ids; ids outside the vocabulary are skipped.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, TextError> {
        self.pipeline.decode(ids, skip_special_tokens).map_err(|e| TextError::Decode(e.to_string()))
    }

    pub fn tokens_to_string(&self, tokens: Vec<String>) -> Result<String, TextError> {
        match self.pipeline.get_decoder() {
            Some(decoder) => decoder.decode(tokens).map_err(|e| TextError::Decode(e.to_string())),
            None => Ok(tokens.join(" ")),
        }
    }

    /// Added by the post-processor to one text or to a pair.
    pub fn num_special_tokens(&self, pair: bool) -> usize {
        self.post_processor.as_ref().map_or(0, |processor| processor.added_tokens(pair))
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.pipeline.token_to_id(token)
    }

    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.pipeline.id_to_token(id)
    }

    pub fn vocabulary(&self, with_added_tokens: bool) -> HashMap<String, u32> {
        self.pipeline.get_vocab(with_added_tokens)
    }

    pub fn vocabulary_size(&self, with_added_tokens: bool) -> usize {
        self.pipeline.get_vocab_size(with_added_tokens)
    }

    /// The added tokens by rising id.
    pub fn added_tokens(&self) -> Vec<(u32, AddedToken)> {
        let mut tokens: Vec<_> = self.pipeline.get_added_tokens_decoder().into_iter().collect();
        tokens.sort_unstable_by_key(|(id, _)| *id);
        tokens
    }

    /// "WordPiece", "BPE", "Unigram" or "WordLevel".
    pub fn model_kind(&self) -> &'static str {
        self.pipeline.get_model().kind()
    }
}

fn tokenize_error(index: usize, error: tokenizers::Error) -> TextError {
    TextError::Tokenize { index, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r###"{
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "normalizer": null, "decoder": null,
        "added_tokens": [{"id": 1, "content": "[S]", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {"type": "BertProcessing", "cls": ["[S]", 1], "sep": ["[S]", 1]},
        "model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "[S]": 1, "a": 2, "b": 3, "c": 4}}}"###;

    fn plain() -> EncodeOptions {
        EncodeOptions { add_special_tokens: true, split_special_tokens: false, truncation: None, padding: None }
    }

    fn truncation(max_length: usize, stride: usize) -> Truncation {
        Truncation { strategy: Strategy::LongestFirst, max_length, stride, side: Side::Right, keep_overflow: true }
    }

    fn ids(batch: &Batch) -> Vec<Vec<u32>> {
        batch.rows.iter().map(|row| row.get_ids().to_vec()).collect()
    }

    fn text(text: &str) -> Input<'_> {
        Input { first: Sequence::Text(text), second: None }
    }

    #[test]
    fn the_call_alone_decides_about_truncation_and_padding() {
        let tokenizer = Tokenizer::from_json(JSON).unwrap();
        let inputs = [text("a b c a"), text("c")];
        assert_eq!(ids(&tokenizer.encode(&inputs, &plain()).unwrap()), [vec![1, 2, 3, 4, 2, 1], vec![1, 4, 1]]);
        let options = EncodeOptions {
            truncation: Some(truncation(4, 1)),
            padding: Some(Padding {
                length: None,
                multiple_of: Some(5),
                side: Side::Left,
                id: 9,
                type_id: 0,
                token: "p".into(),
            }),
            ..plain()
        };
        let batch = tokenizer.encode(&inputs, &options).unwrap();
        assert_eq!(ids(&batch), [[9, 1, 2, 3, 1], [9, 1, 3, 4, 1], [9, 1, 4, 2, 1], [9, 9, 1, 4, 1]]);
        assert_eq!(batch.samples, [0, 0, 0, 1]);
        assert_eq!(batch.rows[0].get_sequence_ids(), [None, None, Some(0), Some(0), None]);
        assert_eq!(ids(&tokenizer.encode(&inputs, &plain()).unwrap())[1], [1, 4, 1]);
    }

    #[test]
    fn special_tokens_may_be_read_as_text() {
        let tokenizer = Tokenizer::from_json(JSON).unwrap();
        let literal = EncodeOptions { split_special_tokens: true, ..plain() };
        assert_eq!(ids(&tokenizer.encode(&[text("a[S]")], &plain()).unwrap()), [[1, 2, 1, 1]]);
        assert_eq!(ids(&tokenizer.encode(&[text("a[S]")], &literal).unwrap()), [[1, 0, 1]]);
    }

    #[test]
    fn ids_alone_are_those_of_the_full_encoding() {
        let tokenizer = Tokenizer::from_json(JSON).unwrap();
        let (flat, lengths) = tokenizer.encode_ids(&["a b c a", "", "c"], true, Some(4), Side::Right).unwrap();
        assert_eq!(flat, [1, 2, 3, 1, 1, 1, 1, 4, 1]);
        assert_eq!(lengths, [4, 2, 3]);
    }

    #[test]
    fn json_goes_round() {
        let tokenizer = Tokenizer::from_json(JSON).unwrap();
        let again = Tokenizer::from_json(&tokenizer.to_json(true).unwrap()).unwrap();
        assert_eq!(again.num_special_tokens(true), 3);
        assert_eq!(again.added_tokens(), tokenizer.added_tokens());
        assert!(Tokenizer::from_json("{").is_err());
    }

    #[test]
    fn arguments_that_leave_no_room_are_errors() {
        let tokenizer = Tokenizer::from_json(JSON).unwrap();
        let encode = |t| tokenizer.encode(&[text("a b c a")], &EncodeOptions { truncation: Some(t), ..plain() });
        assert!(matches!(encode(truncation(1, 0)), Err(TextError::MaxLengthTooSmall { special: 2, .. })));
        assert!(matches!(encode(truncation(4, 2)), Err(TextError::StrideTooLarge { room: 2, .. })));
        assert!(encode(truncation(2, 0)).is_ok());
    }
}
