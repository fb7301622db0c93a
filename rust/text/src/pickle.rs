//! Encodings as text, so that Python can pickle them.

use tokenizers::Encoding;

use crate::TextError;

pub fn encoding_to_json(encoding: &Encoding) -> Result<String, TextError> {
    serde_json::to_string(encoding).map_err(|e| TextError::Encoding(e.to_string()))
}

/// Checks what the methods of an [`Encoding`] rely on: a pickle may come from anywhere.
pub fn encoding_from_json(json: &str) -> Result<Encoding, TextError> {
    let encoding: Encoding = serde_json::from_str(json).map_err(|e| TextError::Encoding(e.to_string()))?;
    let lengths = [
        encoding.get_type_ids().len(),
        encoding.get_tokens().len(),
        encoding.get_word_ids().len(),
        encoding.get_offsets().len(),
        encoding.get_special_tokens_mask().len(),
        encoding.get_attention_mask().len(),
    ];
    if lengths.iter().any(|&length| length != encoding.len()) {
        return Err(TextError::Encoding("its columns differ in length".to_owned()));
    }
    Ok(encoding)
}
