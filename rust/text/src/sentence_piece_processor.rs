//! Text to pieces and back, to the letter as SentencePiece's own library does it; for models whose ids are not those of
//! their pieces.

use crate::TextError;
use crate::piece_normalizer::{PieceNormalizer, SPACE};
use crate::piece_segmenter::PieceSegmenter;
use crate::protobuf::Damage;
use crate::sentence_piece::{BYTE, CONTROL, SentencePiece, Spaces, UNKNOWN};

pub struct SentencePieceProcessor {
    normalizer: PieceNormalizer,
    segmenter: PieceSegmenter,
    byte_fallback: bool,
    unk_surface: String,
    spaces: Spaces,
}

impl SentencePieceProcessor {
    pub fn new(model: &[u8]) -> Result<Self, TextError> {
        Self::of(&SentencePiece::read(model)?).map_err(TextError::SentencePiece)
    }

    fn of(model: &SentencePiece<'_>) -> Result<Self, Damage> {
        if model.has_denormalizer {
            return Err("it changes text when it decodes, which is not supported");
        }
        Ok(Self {
            normalizer: PieceNormalizer::new(model)?,
            segmenter: PieceSegmenter::new(model)?,
            byte_fallback: model.byte_fallback,
            unk_surface: model.unk_surface.to_owned(),
            spaces: model.spaces,
        })
    }

    /// The pieces of a text. What is unknown is one piece from end to end, or a piece a byte.
    pub fn encode(&self, text: &str) -> Vec<String> {
        let text = self.normalizer.normalize(text);
        let mut pieces: Vec<String> = Vec::new();
        let mut after_unknown = false;
        for (span, id) in self.segmenter.parts(&text) {
            let part = &text[span];
            match pieces.last_mut() {
                _ if id.is_none() && self.byte_fallback => pieces.extend(part.bytes().map(|b| format!("<0x{b:02X}>"))),
                Some(unknown) if id.is_none() && after_unknown => unknown.push_str(part),
                _ => pieces.push(part.to_owned()),
            }
            after_unknown = id.is_none();
        }
        pieces
    }

    /// The text of pieces; those that the model does not have stand for themselves.
    pub fn decode<'a>(&self, pieces: impl IntoIterator<Item = &'a str>) -> String {
        let mut text = String::new();
        let mut bytes = Vec::new();
        // whether a space may be dropped: none has been, and nothing came before
        let mut at_start = true;
        for piece in pieces {
            let kind = self.segmenter.pieces().id(piece).map(|id| self.segmenter.kind(id));
            if let (Some(BYTE), Some(byte)) = (kind, byte_of(piece)) {
                bytes.push(byte);
                continue;
            }
            push_bytes(&mut text, &mut bytes);
            at_start &= text.is_empty();
            match kind {
                Some(CONTROL) => {}
                Some(UNKNOWN) => text.push_str(&self.unk_surface),
                None => text.push_str(piece),
                Some(_) => {
                    let droppable = at_start && (self.spaces.add_dummy_prefix || self.spaces.remove_extra);
                    let rest = piece.strip_prefix(SPACE).filter(|_| droppable);
                    // where more spaces are removed anyway, the next piece may lose one too
                    at_start &= rest.is_none() || self.spaces.remove_extra;
                    text.push_str(&rest.unwrap_or(piece).replace(SPACE, " "));
                }
            }
        }
        push_bytes(&mut text, &mut bytes);
        text
    }

    pub fn id_to_piece(&self, id: usize) -> Option<&str> {
        (id < self.segmenter.pieces().len()).then(|| self.segmenter.pieces().piece(id as u32))
    }
}

/// Of "<0x0A>".
fn byte_of(piece: &str) -> Option<u8> {
    u8::from_str_radix(piece.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

/// Bytes as text; each that belongs to no character is a replacement character.
fn push_bytes(text: &mut String, bytes: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    bytes.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sentence_piece::{NORMAL, USER_DEFINED};

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8][..], content].concat()
    }

    /// A model of these pieces; `algorithm` is 1 or 2, the third field of the trainer's part.
    fn processor(algorithm: u8, pieces: &[(&str, f32, i32)]) -> SentencePieceProcessor {
        let piece = |&(text, score, kind): &(&str, f32, i32)| {
            let score = [&[2 << 3 | 5][..], &score.to_le_bytes()].concat();
            field(1, &[field(1, text.as_bytes()), score, vec![3 << 3, kind as u8]].concat())
        };
        let model = [pieces.iter().flat_map(piece).collect(), field(2, &[3 << 3, algorithm])].concat();
        SentencePieceProcessor::new(&model).unwrap()
    }

    const PIECES: [(&str, f32, i32); 7] = [
        ("<unk>", 0.0, UNKNOWN),
        ("</s>", 0.0, CONTROL),
        ("[X]", 0.0, USER_DEFINED),
        ("▁", -3.0, NORMAL),
        ("a", -2.0, NORMAL),
        ("▁a", -1.0, NORMAL),
        ("aa", -1.5, NORMAL),
    ];

    #[test]
    fn texts_are_cut_and_joined() {
        for algorithm in [1, 2] {
            let processor = processor(algorithm, &PIECES);
            for (text, pieces) in [
                ("", &[][..]),
                ("  ", &[]),
                (" a  a ", &["▁a", "▁a"]),
                ("b日a", &["▁", "b日", "a"]),
                ("a[X]aa", &["▁a", "[X]", "aa"]),
                ("</s>", &["▁", "</s>"]),
            ] {
                assert_eq!(processor.encode(text), pieces, "{text:?} by algorithm {algorithm}");
            }
        }
        let processor = processor(1, &PIECES);
        for (pieces, text) in
            [(&["▁a", "▁a"][..], "a a"), (&["</s>", "▁a", "<unk>", "▁b", "aa"], "a \u{2047} ▁baa"), (&[], "")]
        {
            assert_eq!(processor.decode(pieces.iter().copied()), text);
        }
        assert_eq!((processor.id_to_piece(2), processor.id_to_piece(7)), (Some("[X]"), None));
    }

    #[test]
    fn of_equal_sums_the_first_counts() {
        let pieces = [("<unk>", 0.0, UNKNOWN), ("▁", 0.0, NORMAL), ("a", -1.0, NORMAL), ("aa", -2.5, NORMAL)];
        assert_eq!(processor(1, &pieces).encode("aaa"), ["▁", "a", "a", "a"]);
        let pieces = [("<unk>", 0.0, UNKNOWN), ("▁", 0.0, NORMAL), ("a", -1.0, NORMAL), ("aa", -1.5, NORMAL)];
        assert_eq!(processor(1, &pieces).encode("aaa"), ["▁", "a", "aa"]);
    }

    #[test]
    fn damage_is_an_error() {
        assert!(SentencePieceProcessor::new(b"").is_err());
        let empty = field(1, &field(1, b""));
        assert!(SentencePieceProcessor::new(&empty).is_err());
        let words = [field(1, &field(1, b"a")), field(2, &[3 << 3, 3])].concat();
        assert!(SentencePieceProcessor::new(&words).is_err());
    }
}
