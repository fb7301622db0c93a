use std::borrow::Cow;

use tokenizers::InputSequence;

/// One text: a string, or the words that the caller split it into.
#[derive(Clone, Debug)]
pub enum Sequence<'a> {
    Text(&'a str),
    Words(Vec<&'a str>),
}

/// What becomes one row: a text or a pair of texts.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    pub first: Sequence<'a>,
    pub second: Option<Sequence<'a>>,
}

impl<'a> From<&'a Sequence<'a>> for InputSequence<'a> {
    fn from(sequence: &'a Sequence<'a>) -> Self {
        match sequence {
            Sequence::Text(text) => InputSequence::Raw(Cow::Borrowed(text)),
            Sequence::Words(words) => InputSequence::PreTokenized(Cow::Borrowed(words)),
        }
    }
}
