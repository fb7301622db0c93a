//! SentencePiece's compiled maps of characters, checked: the crate reads them without any check.
//!
//! A map is the length of a trie in four bytes, the trie, and the texts that its values point to, each ended by a zero.
//! The trie is a double array: from the unit at `p` its byte `c` leads to the unit at `p ^ offset ^ c`, and its value is
//! in the unit at `p ^ offset` (<https://github.com/s-yata/darts-clone>).

const VALUE: u32 = 1 << 31;
const HAS_VALUE: u32 = 1 << 8;

/// A map that is whole: every step from every unit, and every value, stays inside of it.
pub(crate) struct CharsMap {
    units: Vec<u32>,
    texts: String,
}

impl CharsMap {
    /// The length of the longest text of the map that `text` begins with, and what stands for it.
    pub(crate) fn longest_prefix(&self, text: &[u8]) -> Option<(usize, &str)> {
        let mut base = offset(*self.units.first()?);
        let mut longest = None;
        for (length, &byte) in (1..).zip(text) {
            let place = base ^ usize::from(byte);
            let unit = *self.units.get(place)?;
            if unit & (VALUE | 0xff) != u32::from(byte) {
                break;
            }
            base = place ^ offset(unit);
            if unit & HAS_VALUE != 0 {
                longest = Some((length, self.units[base] & !VALUE));
            }
        }
        let (length, start) = longest?;
        Some((length, self.texts.get(start as usize..)?.split('\0').next()?))
    }
}

pub(crate) fn read(map: &[u8]) -> Result<CharsMap, &'static str> {
    let (length, rest) = map.split_first_chunk::<4>().ok_or("it is cut short")?;
    let length = u32::from_le_bytes(*length) as usize / 4 * 4;
    let (trie, texts) = rest.split_at_checked(length).ok_or("it is cut short")?;
    let texts = std::str::from_utf8(texts).map_err(|_| "its texts are not UTF-8")?;
    let units: Vec<u32> =
        trie.chunks_exact(4).map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]])).collect();
    if units.is_empty() {
        return Err("its trie is empty");
    }
    for (place, &unit) in units.iter().enumerate().filter(|(_, unit)| *unit & VALUE == 0) {
        let base = place ^ offset(unit);
        if (base | 0xff) >= units.len() {
            return Err("its trie leads out of it");
        }
        if unit & HAS_VALUE != 0 && !texts.is_char_boundary((units[base] & !VALUE) as usize) {
            return Err("its trie points to no text");
        }
    }
    Ok(CharsMap { units, texts: texts.to_owned() })
}

fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit >> 6) & 8)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of "a" to "b": the root leads to the unit of "a", which has the value 0.
    fn map() -> Vec<u8> {
        let mut units = [0_u32; 256];
        units[0] = 1 << 10; // offset 1
        units[1 ^ 97] = u32::from(b'a') | HAS_VALUE | 3 << 10; // at 96: base 96 ^ 3
        units[96 ^ 3] = VALUE;
        [&1024_u32.to_le_bytes()[..], units.map(u32::to_le_bytes).as_flattened(), b"b\0"].concat()
    }

    /// With the unit at `place` replaced.
    fn with(place: usize, unit: u32) -> Vec<u8> {
        let mut map = map();
        map[4 + 4 * place..][..4].copy_from_slice(&unit.to_le_bytes());
        map
    }

    #[test]
    fn the_longest_text_is_found() {
        let map = read(&map()).unwrap();
        assert_eq!(map.longest_prefix(b"ab"), Some((1, "b")));
        for text in [&b""[..], b"b", b"\xff"] {
            assert_eq!(map.longest_prefix(text), None);
        }
    }

    #[test]
    fn what_leads_out_is_refused() {
        assert!(read(&with(0, 256 << 10)).is_err());
        assert!(read(&with(5, 1 << 9 | 1 << 10)).is_err());
        assert!(read(&with(99, VALUE | 3)).is_err());
        assert!(read(&map()[..1000]).is_err());
        assert!(read(&[map(), b"\xff".to_vec()].concat()).is_err());
        for map in [&b""[..], b"\0\0\0", b"\0\0\0\0", b"\xff\xff\xff\xff"] {
            assert!(read(map).is_err());
        }
    }
}
