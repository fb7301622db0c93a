//! Parts of a `tokenizer.json`, read without the others.

use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::TextError;

#[derive(Deserialize, Serialize)]
struct Outline<'a> {
    #[serde(borrow)]
    added_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    padding: Option<&'a RawValue>,
    #[serde(borrow)]
    truncation: Option<&'a RawValue>,
    #[serde(borrow)]
    post_processor: Option<&'a RawValue>,
    #[serde(borrow)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing)]
    model: &'a RawValue,
}

/// The sections that are not computed with but say what a caller's defaults are, as JSON again.
pub fn outline(json: &str) -> Result<String, TextError> {
    let outline = serde_json::from_str::<Outline<'_>>(json).map_err(|e| match e.classify() {
        Category::Data => TextError::NoModel,
        _ => TextError::NotJson(e.to_string()),
    })?;
    if !outline.model.get().starts_with('{') {
        return Err(TextError::NoModel);
    }
    serde_json::to_string(&outline).map_err(|e| TextError::NotJson(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_leaves_the_model_out() {
        let json = r#"{"version": "1.0", "padding": null, "added_tokens": [{"id": 1}], "model": {"vocab": {"a": 0}}}"#;
        let expected =
            r#"{"added_tokens":[{"id": 1}],"padding":null,"truncation":null,"post_processor":null,"normalizer":null}"#;
        assert_eq!(outline(json).unwrap(), expected);
    }

    #[test]
    fn an_outline_needs_a_model() {
        for json in ["[]", "3", "{}", r#"{"model": []}"#] {
            assert!(matches!(outline(json), Err(TextError::NoModel)), "{json}");
        }
        for json in ["", "{", r#"{"model": {}} x"#, r#"{"model": {"a": }}"#] {
            assert!(matches!(outline(json), Err(TextError::NotJson(_))), "{json}");
        }
    }
}
