//! A tree of texts, byte by byte, in three lists: 9 bytes a node.

/// Stands for no value.
const NONE: u32 = u32::MAX;

/// Finds which of its texts another text begins with. Nodes are numbered level by level, so those below one node lie
/// together, and behind those of the node before it.
pub(crate) struct Trie {
    /// The last byte of each node's text.
    labels: Vec<u8>,
    /// The first node below each node; where those of the last end is there too.
    below: Vec<u32>,
    /// The value of each node's text.
    values: Vec<u32>,
}

impl Trie {
    /// Of equal texts the last counts. None if there are more than 2^32 nodes.
    pub(crate) fn new<'a>(texts: impl Iterator<Item = (&'a str, u32)>) -> Option<Self> {
        let mut sorted: Vec<(&[u8], u32)> = texts.map(|(text, value)| (text.as_bytes(), value)).collect();
        sorted.sort_by_key(|&(text, _)| text);
        // the last of several is what is kept
        sorted.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = next.1;
            }
            same
        });
        let mut trie = Self { labels: vec![0], below: Vec::new(), values: vec![value_at(&sorted, 0)] };
        let (mut level, mut depth) = (vec![&sorted[..]], 0);
        while !level.is_empty() {
            let mut next = Vec::new();
            for texts in level {
                trie.below.push(u32::try_from(trie.labels.len()).ok()?);
                let longer = &texts[usize::from(texts.first().is_some_and(|(text, _)| text.len() == depth))..];
                for texts in longer.chunk_by(|a, b| a.0[depth] == b.0[depth]) {
                    trie.labels.push(texts[0].0[depth]);
                    trie.values.push(value_at(texts, depth + 1));
                    next.push(texts);
                }
            }
            (level, depth) = (next, depth + 1);
        }
        trie.below.push(u32::try_from(trie.labels.len()).ok()?);
        for list in [&mut trie.below, &mut trie.values] {
            list.shrink_to_fit();
        }
        trie.labels.shrink_to_fit();
        Some(trie)
    }

    pub(crate) fn get(&self, text: &str) -> Option<u32> {
        let node = text.bytes().try_fold(0, |node, byte| self.step(node, byte))?;
        Some(self.values[node]).filter(|&value| value != NONE)
    }

    /// The lengths and values of all texts that `text` begins with, by rising length; not of the empty one.
    pub(crate) fn prefixes(&self, text: &[u8]) -> impl Iterator<Item = (usize, u32)> {
        let nodes = text.iter().scan(0, |node, &byte| {
            *node = self.step(*node, byte)?;
            Some(*node)
        });
        (1..).zip(nodes.map(|node| self.values[node])).filter(|&(_, value)| value != NONE)
    }

    fn step(&self, node: usize, byte: u8) -> Option<usize> {
        let (start, end) = (self.below[node] as usize, self.below[node + 1] as usize);
        self.labels[start..end].binary_search(&byte).ok().map(|place| start + place)
    }
}

/// The value of the text of this length among those that share its bytes: no other is as short.
fn value_at(texts: &[(&[u8], u32)], length: usize) -> u32 {
    texts.first().filter(|(text, _)| text.len() == length).map_or(NONE, |&(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map_of_strings(texts in proptest::collection::vec("[abé]{0,4}", 0..40), other in "[abéc]{0,6}") {
            let trie = Trie::new(texts.iter().map(String::as_str).zip(0..)).unwrap();
            let map: HashMap<&str, u32> = texts.iter().map(String::as_str).zip(0..).collect();
            for text in texts.iter().chain([&other]) {
                prop_assert_eq!(trie.get(text), map.get(text.as_str()).copied());
                let ends = (1..=text.len()).filter_map(|end| Some((end, *map.get(text.get(..end)?)?)));
                prop_assert_eq!(trie.prefixes(text.as_bytes()).collect::<Vec<_>>(), ends.collect::<Vec<_>>());
            }
        }
    }
}
