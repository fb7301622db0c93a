//! Normalizers whose files are checked before the crate reads them.

use std::borrow::Cow;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokenizers::normalizers::Precompiled;
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper, Result};

#[derive(Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct CheckedNormalizer(NormalizerWrapper);

impl Normalizer for CheckedNormalizer {
    fn normalize(&self, text: &mut NormalizedString) -> Result<()> {
        self.0.normalize(text)
    }
}

impl<'de> Deserialize<'de> for CheckedNormalizer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?.get();
        let mut json = Cow::Borrowed(json);
        if json.contains("precompiled_charsmap") {
            let section = serde_json::from_str(&json).map_err(D::Error::custom)?;
            check_maps(&section).map_err(D::Error::custom)?;
            json = Cow::Owned(section.to_string()); // without escapes, which the crate does not read
        }
        serde_json::from_str(&json).map(Self).map_err(D::Error::custom)
    }
}

/// Reads all maps of characters in a section: the crate asks for as much memory as they say, and panics at any damage.
fn check_maps(section: &Value) -> std::result::Result<(), String> {
    match section {
        Value::Object(fields) => match fields.get("precompiled_charsmap") {
            Some(Value::String(map)) if !is_whole(map) => Err("a precompiled_charsmap is cut short".to_owned()),
            Some(map) => {
                let alone = serde_json::json!({"type": "Precompiled", "precompiled_charsmap": map}).to_string();
                serde_json::from_str::<Precompiled>(&alone).map(drop).map_err(|e| e.to_string())
            }
            None => fields.values().try_for_each(check_maps),
        },
        Value::Array(parts) => parts.iter().try_for_each(check_maps),
        _ => Ok(()),
    }
}

/// In base64: the length of a trie in four bytes, the trie, and more. What is no base64 is not looked at.
fn is_whole(map: &str) -> bool {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = map.chars().take(6).map_while(|char| ALPHABET.find(char));
    let bits = digits.fold(0, |bits, digit| bits << 6 | digit as u64);
    let length = ((bits >> 4) as u32).swap_bytes() as usize;
    let bytes = map.trim_end_matches('=').len() * 3 / 4;
    bytes < 4 || length <= bytes - 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_as_long_as_they_say() {
        let read = |map: &str| {
            let one = format!(r#"{{"type": "Precompiled", "precompiled_charsmap": "{map}"}}"#);
            let json = format!(r#"{{"type": "Sequence", "normalizers": [{{"type": "NFC"}}, {one}]}}"#);
            let [one, nested] =
                [one, json].map(|json| serde_json::from_str::<CheckedNormalizer>(&json).map(drop).is_ok());
            assert_eq!(one, nested, "{map}");
            one
        };
        // 4, four bytes, "a"
        assert!(read("BAAAAAAAAABhAA=="));
        // 8, four bytes; 2^32 - 1, nothing; not base64; nothing
        for map in ["CAAAAAAAAAA=", "/////w==", "/////2Fh", "????????", ""] {
            assert!(!read(map), "{map}");
        }
    }
}
