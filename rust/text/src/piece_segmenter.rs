//! A normalized text cut into SentencePiece's pieces, by either of its two algorithms.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use crate::piece_normalizer::FixedPieces;
use crate::protobuf::Damage;
use crate::sentence_piece::{BYTE, CONTROL, NORMAL, SentencePiece, UNKNOWN, UNUSED, USER_DEFINED};
use crate::unigram_model::Pieces;

/// An unknown character costs this much more than the worst piece.
const UNKNOWN_PENALTY: f32 = 10.0;

/// A part of the text, and the piece that it is, if it is one.
pub(crate) type Part = (Range<usize>, Option<u32>);

pub(crate) struct PieceSegmenter {
    pieces: Pieces,
    kinds: Vec<u8>,
    algorithm: Algorithm,
}

enum Algorithm {
    Unigram { unk_score: f32, best: f32 },
    Bpe { fixed: FixedPieces },
}

impl PieceSegmenter {
    pub(crate) fn new(model: &SentencePiece<'_>) -> Result<Self, Damage> {
        let pieces = Pieces::new(model.pieces.iter().map(|piece| (piece.text, piece.score)))
            .map_err(|_| "it has more than 4 GB of pieces")?;
        if model.pieces.iter().any(|piece| piece.text.is_empty()) {
            return Err("it has an empty piece");
        }
        let scores = model.pieces.iter().filter(|piece| piece.kind == NORMAL).map(|piece| piece.score as f32);
        let algorithm = match model.model_type {
            1 => Algorithm::Unigram {
                unk_score: scores.clone().fold(f32::MAX, f32::min) - UNKNOWN_PENALTY,
                best: scores.fold(f32::MIN_POSITIVE, f32::max),
            },
            2 => Algorithm::Bpe { fixed: FixedPieces::new(model)? },
            _ => return Err("its algorithm is neither Unigram nor BPE"),
        };
        // numbers that no kind has count as pieces of no use
        let kinds = model.pieces.iter().map(|piece| u8::try_from(piece.kind).unwrap_or(UNUSED as u8)).collect();
        Ok(Self { pieces, kinds, algorithm })
    }

    pub(crate) fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    pub(crate) fn kind(&self, id: u32) -> i32 {
        self.kinds[id as usize].into()
    }

    /// The parts of a text from front to back.
    pub(crate) fn parts(&self, text: &str) -> Vec<Part> {
        match &self.algorithm {
            Algorithm::Unigram { unk_score, best } => self.best_parts(text, *unk_score, *best),
            Algorithm::Bpe { fixed } => self.merged_parts(text, fixed),
        }
    }

    /// The cut whose scores have the largest sum. Sums are rounded as the library rounds them: of equal ones it keeps the
    /// first, so the last bit decides (<https://github.com/google/sentencepiece/blob/master/src/unigram_model.cc>).
    fn best_parts(&self, text: &str, unk_score: f32, best: f32) -> Vec<Part> {
        let mut cuts: Vec<Option<(f32, Part)>> = vec![None; text.len() + 1];
        for (start, char) in text.char_indices() {
            let here = cuts[start].as_ref().map_or(0.0, |(score, _)| *score);
            let mut offer = |length: usize, id: Option<u32>, score: f32| {
                let (cut, score) = (&mut cuts[start + length], score + here);
                if cut.as_ref().is_none_or(|(other, _)| score > *other) {
                    *cut = Some((score, (start..start + length, id)));
                }
            };
            let mut known = false;
            for (length, id) in self.pieces.prefixes(&text.as_bytes()[start..]) {
                let score = match self.kind(id) {
                    UNKNOWN | CONTROL | BYTE | UNUSED => continue,
                    USER_DEFINED => length as f32 * best - 0.1,
                    _ => self.pieces.score(id) as f32,
                };
                offer(length, Some(id), score);
                known |= length == char.len_utf8();
            }
            if !known {
                offer(char.len_utf8(), None, unk_score);
            }
        }
        let mut parts = Vec::new();
        let mut end = text.len();
        while let Some((_, part)) = cuts[end].take() {
            end = part.0.start;
            parts.push(part);
        }
        parts.reverse();
        parts
    }

    /// Characters, of which the neighbours that make the best piece become one as long as any make one
    /// (<https://github.com/google/sentencepiece/blob/master/src/bpe_model.cc>).
    fn merged_parts(&self, text: &str, fixed: &FixedPieces) -> Vec<Part> {
        let mut symbols = symbols(text, fixed);
        let mut splits = HashMap::new();
        let mut queue: BinaryHeap<Pair> = BinaryHeap::new();
        for right in 1..symbols.len() {
            queue.extend(self.pair(text, &symbols, Some(right - 1), Some(right), &mut splits));
        }
        while let Some(Pair { left, right, length, .. }) = queue.pop() {
            let (first, second) = (symbols[left].span.clone(), symbols[right].span.clone());
            // either may have gone into another piece since
            if first.is_empty() || second.is_empty() || first.len() + second.len() != length {
                continue;
            }
            let next = symbols[right].next;
            symbols[left] = Symbol { span: first.start..second.end, next, ..symbols[left] };
            symbols[right].span = second.end..second.end;
            if let Some(next) = next {
                symbols[next].previous = Some(left);
            }
            queue.extend(self.pair(text, &symbols, symbols[left].previous, Some(left), &mut splits));
            queue.extend(self.pair(text, &symbols, Some(left), next, &mut splits));
        }
        let mut parts = Vec::new();
        for span in symbols.into_iter().map(|symbol| symbol.span).filter(|span| !span.is_empty()) {
            self.split_unused(text, span, &splits, &mut parts);
        }
        parts
    }

    fn pair(
        &self,
        text: &str,
        symbols: &[Symbol],
        left: Option<usize>,
        right: Option<usize>,
        splits: &mut HashMap<Range<usize>, usize>,
    ) -> Option<Pair> {
        let (left, right) = (left?, right?);
        let (first, second) = (&symbols[left], &symbols[right]);
        if first.fixed || second.fixed {
            return None;
        }
        let span = first.span.start..second.span.end;
        let id = self.pieces.id(&text[span.clone()])?;
        match self.kind(id) {
            UNKNOWN | CONTROL | BYTE => return None,
            UNUSED => {
                splits.insert(span.clone(), second.span.start);
            }
            _ => {}
        }
        Some(Pair { score: self.pieces.score(id), left, right, length: span.len() })
    }

    /// A piece that is not used becomes the two that it was merged from.
    fn split_unused(
        &self,
        text: &str,
        span: Range<usize>,
        splits: &HashMap<Range<usize>, usize>,
        parts: &mut Vec<Part>,
    ) {
        let mut waiting = vec![span];
        while let Some(span) = waiting.pop() {
            let id = self.pieces.id(&text[span.clone()]).filter(|&id| self.kind(id) != UNKNOWN);
            match splits.get(&span).filter(|_| id.is_some_and(|id| self.kind(id) == UNUSED)) {
                Some(&middle) => waiting.extend([middle..span.end, span.start..middle]),
                None => parts.push((span, id)),
            }
        }
    }
}

/// A part of a text that is being merged. Empty where it went into another.
#[derive(Clone)]
struct Symbol {
    span: Range<usize>,
    fixed: bool,
    previous: Option<usize>,
    next: Option<usize>,
}

fn symbols(text: &str, fixed: &FixedPieces) -> Vec<Symbol> {
    let mut symbols = Vec::new();
    let mut start = 0;
    while let Some(char) = text[start..].chars().next() {
        let whole = fixed.prefix(&text[start..]);
        let end = start + whole.unwrap_or(char.len_utf8());
        let (previous, next) = (symbols.len().checked_sub(1), Some(symbols.len() + 1));
        symbols.push(Symbol { span: start..end, fixed: whole.is_some(), previous, next });
        start = end;
    }
    if let Some(last) = symbols.last_mut() {
        last.next = None;
    }
    symbols
}

/// Two neighbours that make a piece, by its score; of equal ones the first in the text.
#[derive(PartialEq)]
struct Pair {
    score: f64,
    left: usize,
    right: usize,
    length: usize,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
