//! Normalizers whose files are checked before the crate reads them.

use std::borrow::Cow;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper, Result};

use crate::charsmap;

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
        if json.contains("recompiled") {
            let section = serde_json::from_str(&json).map_err(D::Error::custom)?;
            check_maps(&section).map_err(D::Error::custom)?;
            json = Cow::Owned(section.to_string()); // without escapes, which the crate does not read
        }
        serde_json::from_str(&json).map(Self).map_err(D::Error::custom)
    }
}

/// The crate asks for as much memory as a map of characters says, and panics at any damage.
fn check_maps(section: &Value) -> std::result::Result<(), String> {
    match section {
        Value::Object(fields) if fields.get("type").is_some_and(|kind| kind == "Precompiled") => {
            let map = fields.get("precompiled_charsmap").and_then(Value::as_str);
            let bytes = map.and_then(base64).ok_or("a Precompiled normalizer has no precompiled_charsmap in base64")?;
            charsmap::read(&bytes).map(drop).map_err(|damage| format!("a precompiled_charsmap is damaged: {damage}"))
        }
        Value::Object(fields) => fields.values().try_for_each(check_maps),
        Value::Array(parts) => parts.iter().try_for_each(check_maps),
        _ => Ok(()),
    }
}

/// With its padding, as the crate wants it.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.as_bytes().chunks(4) {
        let bits = group.iter().try_fold(0, |bits, &byte| Some(bits << 6 | u32::from(digit(byte)?)))?;
        let unused = 32 - 6 * group.len();
        if bits.trailing_zeros() < (6 * group.len() % 8) as u32 {
            return None; // more bits than the bytes have
        }
        bytes.extend(&(bits << unused).to_be_bytes()[..group.len() * 6 / 8]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        assert_eq!(base64("").unwrap(), b"");
        for (text, bytes) in
            [("Zg==", &b"f"[..]), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("Zm9vYmE=", b"fooba"), ("w6n/", b"\xc3\xa9\xff")]
        {
            assert_eq!(base64(text).unwrap(), bytes, "{text}");
        }
        for text in ["Zg", "Zg=", "Zg===", "Z===", "Zh==", "Zm9=", "????", "Zg==Zg=="] {
            assert!(base64(text).is_none(), "{text}");
        }
    }

    #[test]
    fn damaged_maps_are_refused_wherever_they_are() {
        for map in [r#""""#, r#""CAAAAAAAAAA=""#, r#""/////w==""#, r#""????????""#, "1", "null"] {
            let one = format!(r#"{{"type": "Precompiled", "precompiled_charsmap": {map}}}"#);
            let nested = format!(r#"{{"type": "Sequence", "normalizers": [{{"type": "NFC"}}, {one}]}}"#);
            for json in [one, nested] {
                assert!(serde_json::from_str::<CheckedNormalizer>(&json).is_err(), "{json}");
            }
        }
        assert!(serde_json::from_str::<CheckedNormalizer>(r#"{"type": "Precompiled"}"#).is_err());
        assert!(serde_json::from_str::<CheckedNormalizer>(r#"{"type": "NFC"}"#).is_ok());
    }
}
