//! BPE: a word's characters, merged pair by pair (Sennrich, Haddow and Birch 2016, <https://arxiv.org/abs/1508.07909>).

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt::{Formatter, Result as FmtResult};

use ahash::RandomState;
use hashbrown::HashTable;
use serde::de::{DeserializeSeed, Error, SeqAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use tokenizers::{Result, Token};

use crate::tokens::Tokens;

/// What a model does besides merging.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct BpeOptions {
    pub(crate) unk_token: Option<String>,
    /// Before each character but a word's first.
    pub(crate) continuing_subword_prefix: Option<String>,
    /// Behind a word's last character.
    pub(crate) end_of_word_suffix: Option<String>,
    /// Neighbours that are unknown are one token.
    #[serde(default)]
    pub(crate) fuse_unk: bool,
    /// Unknown characters become the tokens of their bytes.
    #[serde(default)]
    pub(crate) byte_fallback: bool,
    /// Words of the vocabulary are not merged but taken as they are.
    #[serde(default)]
    pub(crate) ignore_merges: bool,
}

/// Written and read as the model of a `tokenizer.json`.
pub(crate) struct Bpe {
    options: BpeOptions,
    vocab: Tokens,
    merges: Merges,
}

/// Pairs of ids, found by their hash.
struct Merges {
    table: HashTable<Merge>,
    hash: RandomState,
}

#[derive(Clone, Copy)]
struct Merge {
    left: u32,
    right: u32,
    rank: u32,
    made: u32,
}

/// A part of a word; the others of the word are found by their places. Of length 0 where it went into another.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    length: usize,
    before: Option<usize>,
    after: Option<usize>,
}

impl Bpe {
    /// `pairs` are merged in their order; of equal ones the last counts.
    pub(crate) fn new<'a>(
        vocab: Tokens,
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
        options: BpeOptions,
    ) -> std::result::Result<Self, String> {
        let mut merges = Merges::new();
        for (rank, pair) in pairs.enumerate() {
            merges.insert(&vocab, &options, rank, pair)?;
        }
        Ok(Self { options, vocab, merges })
    }

    pub(crate) fn tokenize(&self, word: &str) -> Result<Vec<Token>> {
        if word.is_empty() {
            return Ok(Vec::new());
        }
        if self.options.ignore_merges
            && let Some(id) = self.vocab.id(word)
        {
            return Ok(vec![Token::new(id, word.to_owned(), (0, word.len()))]);
        }
        let mut symbols = self.symbols(word)?;
        self.merge(&mut symbols);
        let mut start = 0;
        let left = symbols.iter().filter(|symbol| symbol.length > 0);
        Ok(left
            .map(|&Symbol { id, length, .. }| {
                let offsets = (start, start + length);
                start += length;
                Token::new(id, self.id_to_token(id).unwrap_or_default(), offsets)
            })
            .collect())
    }

    /// One a character, or a byte; unknown ones are left out where there is no unknown token.
    fn symbols(&self, word: &str) -> Result<Vec<Symbol>> {
        let mut symbols = Vec::with_capacity(word.len());
        let mut add = |id: u32, length: usize| {
            let place = symbols.len();
            symbols.push(Symbol { id, length, before: place.checked_sub(1), after: Some(place + 1) });
        };
        let mut unknown: Option<(u32, usize)> = None; // waits for its neighbours
        for (start, char) in word.char_indices() {
            let end = start + char.len_utf8();
            let name = self.name(word, start, end);
            if let Some(id) = self.vocab.id(&name) {
                if let Some((id, length)) = unknown.take() {
                    add(id, length);
                }
                add(id, end - start);
            } else if let Some(bytes) = self.bytes(&name) {
                bytes.into_iter().for_each(|id| add(id, 1));
            } else if let Some(token) = &self.options.unk_token {
                let missing = || format!("The `unk_token` {token:?} is not in the vocabulary");
                let id = self.vocab.id(token).ok_or_else(missing)?;
                unknown = match unknown {
                    Some((_, length)) if self.options.fuse_unk => Some((id, length + end - start)),
                    Some((id, length)) => {
                        add(id, length);
                        Some((id, end - start))
                    }
                    None => Some((id, end - start)),
                };
            }
        }
        if let Some((id, length)) = unknown {
            add(id, length);
        }
        if let Some(last) = symbols.last_mut() {
            last.after = None;
        }
        Ok(symbols)
    }

    /// A character as the vocabulary writes it where it stands.
    fn name<'a>(&self, word: &'a str, start: usize, end: usize) -> Cow<'a, str> {
        let prefix = if start > 0 { self.options.continuing_subword_prefix.as_deref() } else { None };
        let suffix = if end == word.len() { self.options.end_of_word_suffix.as_deref() } else { None };
        match (prefix.unwrap_or_default(), suffix.unwrap_or_default()) {
            ("", "") => Cow::Borrowed(&word[start..end]),
            (prefix, suffix) => Cow::Owned([prefix, &word[start..end], suffix].concat()),
        }
    }

    fn bytes(&self, name: &str) -> Option<Vec<u32>> {
        let id = |byte: u8| self.vocab.id(&format!("<0x{byte:02X}>"));
        if self.options.byte_fallback { name.bytes().map(id).collect() } else { None }
    }

    /// Merges the pair of lowest rank, of several the first, until there is none.
    fn merge(&self, symbols: &mut [Symbol]) {
        let of = |symbols: &[Symbol], place: usize, after: usize| {
            let merge = self.merges.find(symbols[place].id, symbols[after].id)?;
            Some(Reverse((merge.rank, place, merge.made)))
        };
        let mut queue: BinaryHeap<_> = (1..symbols.len()).filter_map(|i| of(symbols, i - 1, i)).collect();
        while let Some(Reverse((_, place, made))) = queue.pop() {
            let Symbol { length, after: Some(after), .. } = symbols[place] else { continue };
            // what was seen when it was queued may have been merged since
            if length == 0 || of(symbols, place, after).is_none_or(|Reverse((_, _, now))| now != made) {
                continue;
            }
            let right = std::mem::replace(&mut symbols[after].length, 0);
            let next = symbols[after].after;
            symbols[place] = Symbol { id: made, length: length + right, after: next, ..symbols[place] };
            if let Some(next) = next {
                symbols[next].before = Some(place);
                queue.extend(of(symbols, place, next));
            }
            if let Some(before) = symbols[place].before {
                queue.extend(of(symbols, before, place));
            }
        }
    }

    pub(crate) fn token_to_id(&self, token: &str) -> Option<u32> {
        self.vocab.id(token)
    }

    pub(crate) fn id_to_token(&self, id: u32) -> Option<String> {
        self.vocab.token(id).map(str::to_owned)
    }

    pub(crate) fn get_vocab(&self) -> HashMap<String, u32> {
        self.vocab.to_map()
    }

    pub(crate) fn get_vocab_size(&self) -> usize {
        self.vocab.len()
    }
}

impl Merges {
    fn new() -> Self {
        Self { table: HashTable::new(), hash: RandomState::new() }
    }

    fn insert(
        &mut self,
        vocab: &Tokens,
        options: &BpeOptions,
        rank: usize,
        (left, right): (&str, &str),
    ) -> std::result::Result<(), String> {
        let prefix = options.continuing_subword_prefix.as_deref().unwrap_or_default();
        let id = |token: &str| {
            let missing = || format!("merge {rank} ({left:?} and {right:?}): {token:?} is not in the vocabulary");
            vocab.id(token).ok_or_else(missing)
        };
        let rest =
            right.get(prefix.len()..).ok_or_else(|| format!("merge {rank}: {right:?} is shorter than {prefix:?}"))?;
        let made = id(&[left, rest].concat())?;
        let rank = u32::try_from(rank).map_err(|_| "more than 2^32 merges")?;
        let merge = Merge { left: id(left)?, right: id(right)?, rank, made };
        let Self { table, hash } = self;
        let key = |merge: &Merge| hash.hash_one((merge.left, merge.right));
        let same = |other: &Merge| (other.left, other.right) == (merge.left, merge.right);
        match table.find_mut(key(&merge), same) {
            Some(other) => *other = merge,
            None => {
                table.insert_unique(key(&merge), merge, key);
            }
        }
        Ok(())
    }

    fn find(&self, left: u32, right: u32) -> Option<&Merge> {
        self.table.find(self.hash.hash_one((left, right)), |merge| (merge.left, merge.right) == (left, right))
    }
}

impl Serialize for Bpe {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let BpeOptions { unk_token, continuing_subword_prefix, end_of_word_suffix, .. } = &self.options;
        let mut merges: Vec<&Merge> = self.merges.table.iter().collect();
        merges.sort_unstable_by_key(|merge| merge.rank);
        let token = |id| self.vocab.token(id).unwrap_or_default();
        let pairs: Vec<_> = merges.iter().map(|merge| (token(merge.left), token(merge.right))).collect();
        let mut model = serializer.serialize_struct("BPE", 10)?;
        model.serialize_field("type", "BPE")?;
        model.serialize_field("dropout", &None::<f32>)?;
        model.serialize_field("unk_token", unk_token)?;
        model.serialize_field("continuing_subword_prefix", continuing_subword_prefix)?;
        model.serialize_field("end_of_word_suffix", end_of_word_suffix)?;
        model.serialize_field("fuse_unk", &self.options.fuse_unk)?;
        model.serialize_field("byte_fallback", &self.options.byte_fallback)?;
        model.serialize_field("ignore_merges", &self.options.ignore_merges)?;
        model.serialize_field("vocab", &self.vocab)?;
        model.serialize_field("merges", &pairs)?;
        model.end()
    }
}

/// `vocab` and `merges` of a model section. The pairs are read when the ids are known, and their names not kept.
#[derive(Deserialize)]
struct Described<'a> {
    vocab: Tokens,
    #[serde(borrow)]
    merges: Option<&'a RawValue>,
}

impl Bpe {
    /// From the model section of a `tokenizer.json`, with these options instead of its own.
    pub(crate) fn from_json(json: &str, options: BpeOptions) -> serde_json::Result<Self> {
        let Described { vocab, merges: described } = serde_json::from_str(json)?;
        let mut merges = Merges::new();
        if let Some(described) = described {
            let pairs = Pairs { vocab: &vocab, options: &options, merges: &mut merges };
            pairs.deserialize(&mut serde_json::Deserializer::from_str(described.get()))?;
        }
        Ok(Self { options, vocab, merges })
    }
}

struct Pairs<'a> {
    vocab: &'a Tokens,
    options: &'a BpeOptions,
    merges: &'a mut Merges,
}

impl<'de> DeserializeSeed<'de> for Pairs<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Pairs<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut Formatter<'_>) -> FmtResult {
        formatter.write_str("a list of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        let mut rank = 0;
        while let Some(Pair(left, right)) = list.next_element()? {
            self.merges.insert(self.vocab, self.options, rank, (&left, &right)).map_err(A::Error::custom)?;
            rank += 1;
        }
        Ok(())
    }
}

/// Two tokens, as they are written today or with a space between them.
struct Pair(String, String);

impl<'de> Deserialize<'de> for Pair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Pair;

            fn expecting(&self, formatter: &mut Formatter<'_>) -> FmtResult {
                formatter.write_str("two tokens")
            }

            fn visit_str<E: Error>(self, text: &str) -> std::result::Result<Pair, E> {
                let (left, right) =
                    split(text).ok_or_else(|| E::custom(format!("a merge is {text:?}, not two tokens")))?;
                Ok(Pair(left.to_owned(), right.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> std::result::Result<Pair, A::Error> {
                let mut next = || pair.next_element()?.ok_or_else(|| A::Error::custom("a merge is not two tokens"));
                let (left, right) = (next()?, next()?);
                Ok(Pair(left, right))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The two tokens of a merge with a space between them.
pub(crate) fn split(merge: &str) -> Option<(&str, &str)> {
    merge.split_once(' ').filter(|(_, right)| !right.contains(' '))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::Model;
    use tokenizers::models::bpe::BPE as Crates;

    use super::*;

    /// All that can be merged of these tokens.
    fn merges(vocab: &HashMap<String, u32>, prefix: &str) -> Vec<(String, String)> {
        let both = vocab.keys().flat_map(|left| vocab.keys().map(move |right| (left.clone(), right.clone())));
        let made = |left: &str, right: &str| right.get(prefix.len()..).map(|rest| format!("{left}{rest}"));
        both.filter(|(left, right)| made(left, right).is_some_and(|made| vocab.contains_key(&made))).collect()
    }

    proptest! {
        #[test]
        fn it_is_the_crates(
            tokens in proptest::collection::hash_set("(<0x(61|C3|A9)>|#?[abé日]{1,4}w?)", 1..60),
            (unk, fuse_unk, byte_fallback, ignore_merges) in any::<(bool, bool, bool, bool)>(),
            prefix in proptest::option::of("#?"),
            suffix in proptest::option::of("w?"),
            legacy in any::<bool>(),
            words in proptest::collection::vec("[abcé日]{0,30}", 1..20),
        ) {
            let vocab: HashMap<String, u32> = tokens.into_iter().zip(0..).collect();
            let pairs = merges(&vocab, prefix.as_deref().unwrap_or_default());
            let pairs = if legacy {
                serde_json::json!(pairs.iter().map(|(a, b)| format!("{a} {b}")).collect::<Vec<_>>())
            } else {
                serde_json::json!(pairs)
            };
            let json = serde_json::json!({"type": "BPE", "unk_token": unk.then_some("a"), "fuse_unk": fuse_unk,
                "byte_fallback": byte_fallback, "ignore_merges": ignore_merges, "continuing_subword_prefix": prefix,
                "end_of_word_suffix": suffix, "vocab": vocab, "merges": pairs}).to_string();
            let ours = Bpe::from_json(&json, serde_json::from_str(&json).unwrap()).unwrap();
            let theirs: Crates = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(serde_json::to_value(&ours).unwrap(), serde_json::to_value(&theirs).unwrap());
            prop_assert_eq!(ours.get_vocab(), theirs.get_vocab());
            for word in words {
                prop_assert_eq!(ours.token_to_id(&word), theirs.token_to_id(&word));
                let (ours, theirs) = (ours.tokenize(&word), theirs.tokenize(&word));
                prop_assert_eq!(ours.is_ok(), theirs.is_ok());
                prop_assert_eq!(ours.ok(), theirs.ok());
            }
        }
    }

    #[test]
    fn merges_that_make_no_token_are_named() {
        let options = BpeOptions::default;
        let read = |merges: &str| {
            Bpe::from_json(&format!(r#"{{"vocab": {{"a": 0, "b": 1}}, "merges": {merges}}}"#), options())
        };
        assert!(read("[]").is_ok() && read("null").is_ok());
        for merges in
            [r#"["a"]"#, r#"["a b c"]"#, r#"[["a"]]"#, r#"[["a", "b"]]"#, r#"[["a", "b", "a"]]"#, r#"["a c"]"#, "3"]
        {
            assert!(read(merges).is_err(), "{merges}");
        }
        let prefixed = BpeOptions { continuing_subword_prefix: Some("##".to_owned()), ..options() };
        let json = r#"{"vocab": {"a": 0}, "merges": ["a a"]}"#;
        assert!(Bpe::from_json(json, prefixed).is_err());
    }
}
