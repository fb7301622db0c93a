//! Tokens and their ids in a few allocations: a map of strings costs ten times as much memory, and time to build.

use std::collections::HashMap;
use std::fmt::{Formatter, Result as FmtResult};

use ahash::RandomState;
use hashbrown::HashTable;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// No token occurs twice; several may have one id.
pub(crate) struct Tokens {
    /// The tokens end to end, in the order of `ids`.
    text: String,
    ends: Vec<u32>,
    ids: Vec<u32>,
    /// Places in `ids`, found by token.
    places: HashTable<u32>,
    /// Places in `ids` by rising id.
    by_id: Vec<u32>,
    hash: RandomState,
}

impl Tokens {
    fn with_capacity(count: usize) -> Self {
        Self {
            text: String::with_capacity(8 * count),
            ends: Vec::with_capacity(count),
            ids: Vec::with_capacity(count),
            places: HashTable::with_capacity(count),
            by_id: Vec::new(),
            hash: RandomState::new(),
        }
    }

    /// Of several equal tokens the last counts.
    pub(crate) fn new<'a>(pairs: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let mut tokens = Self::with_capacity(pairs.size_hint().0);
        pairs.for_each(|(token, id)| tokens.insert(token, id));
        tokens.finished()
    }

    fn insert(&mut self, token: &str, id: u32) {
        if let Some(place) = self.place(token) {
            self.ids[place] = id;
            return;
        }
        let place = self.ids.len() as u32;
        self.text.push_str(token);
        self.ends.push(u32::try_from(self.text.len()).expect("4 GB of tokens"));
        self.ids.push(id);
        let Self { text, ends, places, hash, .. } = self;
        places.insert_unique(hash.hash_one(token), place, |&other| hash.hash_one(at(text, ends, other as usize)));
    }

    fn finished(mut self) -> Self {
        self.by_id = (0..self.ids.len() as u32).collect();
        self.by_id.sort_by_key(|&place| self.ids[place as usize]);
        for list in [&mut self.ends, &mut self.ids] {
            list.shrink_to_fit();
        }
        self.text.shrink_to_fit();
        self
    }

    fn place(&self, token: &str) -> Option<usize> {
        let same = |&place: &u32| at(&self.text, &self.ends, place as usize) == token;
        self.places.find(self.hash.hash_one(token), same).map(|&place| place as usize)
    }

    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.place(token).map(|place| self.ids[place])
    }

    /// The last token that has it.
    pub(crate) fn token(&self, id: u32) -> Option<&str> {
        let after = self.by_id.partition_point(|&place| self.ids[place as usize] <= id);
        let place = self.by_id[..after].last().map(|&place| place as usize)?;
        (self.ids[place] == id).then(|| at(&self.text, &self.ends, place))
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// By rising id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        let pair = |&place: &u32| (at(&self.text, &self.ends, place as usize), self.ids[place as usize]);
        self.by_id.iter().map(pair)
    }

    pub(crate) fn to_map(&self) -> HashMap<String, u32> {
        self.iter().map(|(token, id)| (token.to_owned(), id)).collect()
    }
}

fn at<'a>(text: &'a str, ends: &[u32], place: usize) -> &'a str {
    let start = place.checked_sub(1).map_or(0, |before| ends[before]);
    &text[start as usize..ends[place] as usize]
}

impl Serialize for Tokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Tokens;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> FmtResult {
        formatter.write_str("tokens with their ids")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tokens, A::Error> {
        let mut tokens = Tokens::with_capacity(0);
        while let Some((token, id)) = map.next_entry::<String, u32>()? {
            tokens.insert(&token, id);
        }
        Ok(tokens.finished())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_map_of_strings(pairs in proptest::collection::vec((".{0,3}", 0_u32..40), 0..60)) {
            let tokens = Tokens::new(pairs.iter().map(|(token, id)| (token.as_str(), *id)));
            let map: HashMap<String, u32> = pairs.into_iter().collect();
            prop_assert_eq!(tokens.len(), map.len());
            prop_assert_eq!(&tokens.to_map(), &map);
            for (token, id) in &map {
                prop_assert_eq!(tokens.id(token), Some(*id));
                prop_assert_eq!(map[tokens.token(*id).unwrap()], *id);
                prop_assert_eq!(tokens.id(&format!("{token}####")), None);
            }
            for id in 0..50 {
                prop_assert_eq!(tokens.token(id).is_some(), map.values().any(|&other| other == id));
            }
            let again: Tokens = serde_json::from_str(&serde_json::to_string(&tokens).unwrap()).unwrap();
            prop_assert_eq!(again.to_map(), map);
        }
    }
}
