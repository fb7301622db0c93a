use thiserror::Error;

/// What can go wrong between a text and its ids.
#[derive(Debug, Error)]
pub enum TextError {
    #[error("the tokenizer description is not valid: {0}")]
    Description(String),

    #[error("tokenizer.json is not valid JSON: {0}")]
    NotJson(String),

    #[error("tokenizer.json must hold an object with a 'model'")]
    NoModel,

    #[error("line {line} of {name} is not UTF-8")]
    NotUtf8 { name: &'static str, line: usize },

    #[error("not a SentencePiece model: {0}")]
    SentencePiece(&'static str),

    #[error("text[{index}] cannot be tokenized: {reason}")]
    Tokenize { index: usize, reason: String },

    #[error(
        "text[{index}]: Truncation error: Sequence to truncate too short to respect the provided max_length \
         (one of the two sequences alone is too long; truncation='longest_first' would cut both)"
    )]
    SequenceTooShort { index: usize },

    #[error("text[{index}]: Truncation error: Second sequence not provided (truncation='only_second' needs a pair)")]
    NoSecondSequence { index: usize },

    #[error(
        "text[{index}]: max_length={max_length} leaves no room for a text beside the {special} special tokens that \
         this tokenizer adds"
    )]
    MaxLengthTooSmall { index: usize, max_length: usize, special: usize },

    #[error(
        "stride={stride} is greater than or equal to the {room} tokens of text that max_length={max_length} leaves \
         to a window"
    )]
    StrideTooLarge { stride: usize, room: usize, max_length: usize },

    #[error("the ids cannot be decoded: {0}")]
    Decode(String),

    #[error("not the text of an encoding: {0}")]
    Encoding(String),

    #[error("the tokens cannot be added: {0}")]
    AddTokens(String),
}
