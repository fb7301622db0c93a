//! Python's arguments as those of `ferroformer-text`, with errors that say which text is meant.

use ferroformer_text::{self as text, AddedToken};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyList, PyString, PyTuple};

use crate::errors::named;

pub(super) fn token_id(position: usize, id: i64) -> PyResult<u32> {
    u32::try_from(id).map_err(|_| named("TokenIdError", format!("ids[{position}] is {id}, which is no token id")))
}

pub(super) fn side(name: &str) -> PyResult<text::Side> {
    match name {
        "left" => Ok(text::Side::Left),
        "right" => Ok(text::Side::Right),
        _ => Err(named("InputError", format!("a side is 'left' or 'right', not {name:?}"))),
    }
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct TruncationArg {
    strategy: String,
    max_length: usize,
    stride: usize,
    side: String,
    keep_overflow: bool,
}

impl TryFrom<TruncationArg> for text::Truncation {
    type Error = PyErr;

    fn try_from(arg: TruncationArg) -> PyResult<Self> {
        let strategy = match arg.strategy.as_str() {
            "longest_first" => text::Strategy::LongestFirst,
            "only_first" => text::Strategy::OnlyFirst,
            "only_second" => text::Strategy::OnlySecond,
            other => {
                return Err(named("InputError", format!("{other:?} is not a truncation strategy")));
            }
        };
        let TruncationArg { max_length, stride, keep_overflow, .. } = arg;
        Ok(Self { strategy, max_length, stride, side: side(&arg.side)?, keep_overflow })
    }
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct PaddingArg {
    length: Option<usize>,
    multiple_of: Option<usize>,
    side: String,
    id: u32,
    type_id: u32,
    token: String,
}

impl TryFrom<PaddingArg> for text::Padding {
    type Error = PyErr;

    fn try_from(arg: PaddingArg) -> PyResult<Self> {
        let PaddingArg { length, multiple_of, id, type_id, token, .. } = arg;
        Ok(Self { length, multiple_of, side: side(&arg.side)?, id, type_id, token })
    }
}

/// A vocabulary, read where Python has it.
#[derive(FromPyObject)]
pub(super) enum VocabularyArg {
    /// `bytes` of a vocab.txt
    Lines(PyBackedBytes),
    /// `str` of a tokenizer.json
    Description(PyBackedStr),
    /// (vocab.json, merges.txt)
    Merges(PyBackedBytes, PyBackedBytes),
    /// (model, before, skip, after)
    Pieces(PyBackedBytes, Vec<(String, f64)>, usize, Vec<(String, f64)>),
}

impl VocabularyArg {
    pub(super) fn borrow(&self) -> text::Vocabulary<'_> {
        match self {
            Self::Lines(lines) => text::Vocabulary::Lines(lines),
            Self::Description(json) => text::Vocabulary::Description(json),
            Self::Merges(vocab, merges) => text::Vocabulary::Merges { vocab, merges },
            Self::Pieces(model, before, skip, after) => {
                text::Vocabulary::Pieces { model, before: before.clone(), skip: *skip, after: after.clone() }
            }
        }
    }
}

#[derive(FromPyObject, IntoPyObject)]
#[pyo3(from_item_all)]
pub(super) struct AddedTokenArg {
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

impl From<AddedTokenArg> for AddedToken {
    fn from(arg: AddedTokenArg) -> Self {
        let AddedTokenArg { content, single_word, lstrip, rstrip, normalized, special } = arg;
        Self { content, single_word, lstrip, rstrip, normalized, special }
    }
}

impl From<AddedToken> for AddedTokenArg {
    fn from(token: AddedToken) -> Self {
        let AddedToken { content, single_word, lstrip, rstrip, normalized, special } = token;
        Self { content, single_word, lstrip, rstrip, normalized, special }
    }
}

/// A text held through its Python string: nothing is copied, and it may be read without the GIL.
enum OwnedSequence {
    Text(PyBackedStr),
    Words(Vec<PyBackedStr>),
}

impl OwnedSequence {
    fn extract(index: usize, item: &Bound<'_, PyAny>, pre_split: bool) -> PyResult<Self> {
        if !pre_split {
            return string(index, item).map(Self::Text);
        }
        items(item)
            .ok_or_else(|| wrong_type(index, item, "a list of words"))?
            .iter()
            .map(|word| string(index, word))
            .collect::<PyResult<_>>()
            .map(Self::Words)
    }

    fn borrow(&self) -> text::Sequence<'_> {
        match self {
            Self::Text(text) => text::Sequence::Text(text),
            Self::Words(words) => text::Sequence::Words(words.iter().map(|word| &**word).collect()),
        }
    }
}

pub(super) struct OwnedInput {
    first: OwnedSequence,
    second: Option<OwnedSequence>,
}

impl OwnedInput {
    /// A text, or a list or tuple of two. Where texts are lists of words, two lists are a pair and strings are words.
    pub(super) fn extract(index: usize, item: &Bound<'_, PyAny>, pre_split: bool) -> PyResult<Self> {
        if let Some([first, second]) = items(item).as_deref()
            && !(pre_split && first.is_instance_of::<PyString>())
        {
            return Ok(Self {
                first: OwnedSequence::extract(index, first, pre_split)?,
                second: Some(OwnedSequence::extract(index, second, pre_split)?),
            });
        }
        Ok(Self { first: OwnedSequence::extract(index, item, pre_split)?, second: None })
    }

    pub(super) fn borrow(&self) -> text::Input<'_> {
        text::Input { first: self.first.borrow(), second: self.second.as_ref().map(OwnedSequence::borrow) }
    }
}

/// The items of a list or tuple.
fn items<'py>(object: &Bound<'py, PyAny>) -> Option<Vec<Bound<'py, PyAny>>> {
    if let Ok(list) = object.cast::<PyList>() {
        return Some(list.iter().collect());
    }
    object.cast::<PyTuple>().ok().map(|tuple| tuple.iter().collect())
}

pub(super) fn string(index: usize, object: &Bound<'_, PyAny>) -> PyResult<PyBackedStr> {
    let text = object.cast::<PyString>().map_err(|_| wrong_type(index, object, "str"))?;
    PyBackedStr::try_from(text.clone()).map_err(|e| {
        named("InputError", format!("text[{index}] is not valid Unicode (a lone surrogate): {}", e.value(object.py())))
    })
}

fn wrong_type(index: usize, object: &Bound<'_, PyAny>, expected: &str) -> PyErr {
    let found = object.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("text[{index}] is {found}, expected {expected}"))
}
