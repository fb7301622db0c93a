//! Texts in, encodings out: the Python face of `ferroformer-text`.

mod args;

use std::borrow::Cow;

use ferroformer_text::{self as text, EncodeOptions, TextError};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyDict, PyList, PyType};

use crate::errors::named;
use args::{AddedTokenArg, OwnedInput, PaddingArg, TruncationArg, VocabularyArg, side, string, token_id};

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Encoding>()?;
    m.add_class::<Tokenizer>()?;
    m.add_class::<SentencePieceProcessor>()?;
    m.add_function(wrap_pyfunction!(sentence_piece_outline, m)?)
}

#[pyfunction]
fn sentence_piece_outline(py: Python<'_>, model: PyBackedBytes) -> PyResult<(String, Cow<'_, [u8]>)> {
    enter(py, || {
        let (outline, charsmap) = text::sentence_piece_outline(&model)?;
        Ok((outline, Cow::Owned(charsmap.to_vec())))
    })
}

#[pyclass(frozen, module = "ferroformer._native")]
struct SentencePieceProcessor(text::SentencePieceProcessor);

#[pymethods]
impl SentencePieceProcessor {
    #[new]
    fn new(py: Python<'_>, model: PyBackedBytes) -> PyResult<Self> {
        enter(py, || text::SentencePieceProcessor::new(&model)).map(Self)
    }

    fn encode(&self, py: Python<'_>, texts: &Bound<'_, PyList>) -> PyResult<Vec<Vec<String>>> {
        let texts = texts.iter().enumerate().map(|(index, text)| string(index, &text)).collect::<PyResult<Vec<_>>>()?;
        enter(py, || Ok(texts.iter().map(|text| self.0.encode(text)).collect()))
    }

    fn decode(&self, py: Python<'_>, pieces: Vec<String>) -> PyResult<String> {
        enter(py, || Ok(self.0.decode(pieces.iter().map(String::as_str))))
    }

    fn id_to_piece(&self, id: usize) -> Option<&str> {
        self.0.id_to_piece(id)
    }
}

/// The class says whose fault it is: the tokenizer's files or the call's arguments. All are ValueErrors.
fn text_error(error: TextError) -> PyErr {
    let class = match &error {
        TextError::Description(_)
        | TextError::NotJson(_)
        | TextError::NoModel
        | TextError::NotUtf8 { .. }
        | TextError::SentencePiece(_)
        | TextError::AddTokens(_) => "TokenizerError",
        _ => "InputError",
    };
    named(class, error.to_string())
}

fn enter<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T, TextError> + Send) -> PyResult<T> {
    crate::enter::enter(py, work, text_error)
}

#[pyclass(frozen, module = "ferroformer._native")]
struct Encoding(text::Encoding);

type Span = Option<(usize, usize)>;
/// Ids end to end, and how many of them are each text's.
type Ragged<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

#[pymethods]
impl Encoding {
    #[new]
    fn new(json: &str) -> PyResult<Self> {
        text::encoding_from_json(json).map(Self).map_err(text_error)
    }

    #[getter]
    fn ids(&self) -> &[u32] {
        self.0.get_ids()
    }

    #[getter]
    fn type_ids(&self) -> &[u32] {
        self.0.get_type_ids()
    }

    #[getter]
    fn tokens(&self) -> &[String] {
        self.0.get_tokens()
    }

    #[getter]
    fn offsets(&self) -> &[(usize, usize)] {
        self.0.get_offsets()
    }

    #[getter]
    fn word_ids(&self) -> &[Option<u32>] {
        self.0.get_word_ids()
    }

    #[getter]
    fn sequence_ids(&self) -> Vec<Option<usize>> {
        self.0.get_sequence_ids()
    }

    #[getter]
    fn special_tokens_mask(&self) -> &[u32] {
        self.0.get_special_tokens_mask()
    }

    #[getter]
    fn attention_mask(&self) -> &[u32] {
        self.0.get_attention_mask()
    }

    #[getter]
    fn n_sequences(&self) -> usize {
        self.0.n_sequences()
    }

    fn token_to_sequence(&self, token: usize) -> Option<usize> {
        self.0.token_to_sequence(token)
    }

    fn token_to_word(&self, token: usize) -> Option<u32> {
        self.0.token_to_word(token).map(|(_, word)| word)
    }

    fn token_to_chars(&self, token: usize) -> Span {
        self.0.token_to_chars(token).map(|(_, span)| span)
    }

    #[pyo3(signature = (word, sequence = 0))]
    fn word_to_tokens(&self, word: u32, sequence: usize) -> Span {
        self.0.word_to_tokens(word, sequence)
    }

    #[pyo3(signature = (word, sequence = 0))]
    fn word_to_chars(&self, word: u32, sequence: usize) -> Span {
        self.0.word_to_chars(word, sequence)
    }

    #[pyo3(signature = (char, sequence = 0))]
    fn char_to_token(&self, char: usize, sequence: usize) -> Option<usize> {
        self.0.char_to_token(char, sequence)
    }

    #[pyo3(signature = (char, sequence = 0))]
    fn char_to_word(&self, char: usize, sequence: usize) -> Option<u32> {
        self.0.char_to_word(char, sequence)
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    fn __repr__(&self) -> String {
        format!("Encoding(num_tokens={}, n_sequences={})", self.0.len(), self.0.n_sequences())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, (String,))> {
        let json = text::encoding_to_json(&slf.get().0).map_err(text_error)?;
        Ok((slf.get_type(), (json,)))
    }
}

#[pyclass(frozen, module = "ferroformer._native")]
struct Tokenizer(text::Tokenizer);

#[pymethods]
impl Tokenizer {
    #[new]
    fn new(py: Python<'_>, json: &str) -> PyResult<Self> {
        enter(py, || text::Tokenizer::from_json(json)).map(Self)
    }

    #[pyo3(signature = (pretty = false))]
    fn to_json(&self, py: Python<'_>, pretty: bool) -> PyResult<String> {
        enter(py, || self.0.to_json(pretty))
    }

    #[staticmethod]
    fn outline(py: Python<'_>, json: &str) -> PyResult<String> {
        enter(py, || text::outline(json))
    }

    #[staticmethod]
    fn assemble(py: Python<'_>, vocab: VocabularyArg, model: &str, sections: &str) -> PyResult<Self> {
        enter(py, || text::Tokenizer::assemble(&vocab.borrow(), model, sections)).map(Self)
    }

    fn with_added_tokens(&self, py: Python<'_>, tokens: Vec<AddedTokenArg>) -> PyResult<(Self, usize)> {
        let tokens = tokens.into_iter().map(AddedTokenArg::into).collect();
        enter(py, || self.0.with_added_tokens(tokens)).map(|(tokenizer, added)| (Self(tokenizer), added))
    }

    fn with_post_processor(&self, py: Python<'_>, json: &str) -> PyResult<Self> {
        enter(py, || self.0.with_post_processor(json)).map(Self)
    }

    #[pyo3(signature = (inputs, *, pre_split, add_special_tokens, split_special_tokens, truncation, padding))]
    #[expect(clippy::too_many_arguments, reason = "the options of one call, all keywords")]
    fn encode(
        &self,
        py: Python<'_>,
        inputs: &Bound<'_, PyList>,
        pre_split: bool,
        add_special_tokens: bool,
        split_special_tokens: bool,
        truncation: Option<TruncationArg>,
        padding: Option<PaddingArg>,
    ) -> PyResult<(Vec<Encoding>, Vec<usize>)> {
        let options = EncodeOptions {
            add_special_tokens,
            split_special_tokens,
            truncation: truncation.map(text::Truncation::try_from).transpose()?,
            padding: padding.map(text::Padding::try_from).transpose()?,
        };
        let inputs = inputs
            .iter()
            .enumerate()
            .map(|(index, item)| OwnedInput::extract(index, &item, pre_split))
            .collect::<PyResult<Vec<_>>>()?;
        let batch = enter(py, || {
            let inputs: Vec<_> = inputs.iter().map(OwnedInput::borrow).collect();
            self.0.encode(&inputs, &options)
        })?;
        Ok((batch.rows.into_iter().map(Encoding).collect(), batch.samples))
    }

    #[pyo3(signature = (texts, add_special_tokens = true, max_length = None, truncation_side = "right"))]
    fn encode_ids<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyList>,
        add_special_tokens: bool,
        max_length: Option<usize>,
        truncation_side: &str,
    ) -> PyResult<Ragged<'py>> {
        let side = side(truncation_side)?;
        let texts = texts.iter().enumerate().map(|(index, text)| string(index, &text)).collect::<PyResult<Vec<_>>>()?;
        let (ids, lengths) = enter(py, || {
            let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
            self.0.encode_ids(&texts, add_special_tokens, max_length, side)
        })?;
        Ok((ids.into_pyarray(py), lengths.into_pyarray(py)))
    }

    fn decode(&self, py: Python<'_>, ids: Vec<i64>, skip_special_tokens: bool) -> PyResult<String> {
        let ids = ids.iter().enumerate().map(|(i, &id)| token_id(i, id)).collect::<PyResult<Vec<_>>>()?;
        enter(py, || self.0.decode(&ids, skip_special_tokens))
    }

    fn tokens_to_string(&self, py: Python<'_>, tokens: Vec<String>) -> PyResult<String> {
        enter(py, || self.0.tokens_to_string(tokens))
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }

    fn id_to_token(&self, id: i64) -> Option<String> {
        self.0.id_to_token(u32::try_from(id).ok()?)
    }

    fn vocabulary<'py>(&self, py: Python<'py>, with_added_tokens: bool) -> PyResult<Bound<'py, PyDict>> {
        self.0.vocabulary(with_added_tokens).into_pyobject(py)
    }

    fn vocabulary_size(&self, with_added_tokens: bool) -> usize {
        self.0.vocabulary_size(with_added_tokens)
    }

    fn added_tokens(&self) -> Vec<(u32, AddedTokenArg)> {
        self.0.added_tokens().into_iter().map(|(id, token)| (id, token.into())).collect()
    }

    fn num_special_tokens(&self, pair: bool) -> usize {
        self.0.num_special_tokens(pair)
    }

    #[getter]
    fn model_kind(&self) -> &'static str {
        self.0.model_kind()
    }

    fn __repr__(&self) -> String {
        format!("Tokenizer(model={}, vocab_size={})", self.0.model_kind(), self.0.vocabulary_size(true))
    }

    /// It never changes, so a copy would be the same thing twice.
    fn __deepcopy__<'py>(slf: Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        slf
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, (String,))> {
        Ok((slf.get_type(), (slf.get().to_json(slf.py(), false)?,)))
    }
}
