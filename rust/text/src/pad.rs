//! Filling rows up to a common length.

use tokenizers::Encoding;

use crate::Side;

/// Padding of one call: to `length`, or to the longest row where there is none.
#[derive(Clone, Debug)]
pub struct Padding {
    pub length: Option<usize>,
    pub multiple_of: Option<usize>,
    pub side: Side,
    pub id: u32,
    pub type_id: u32,
    pub token: String,
}

impl Padding {
    pub(crate) fn apply(&self, rows: &mut [Encoding]) {
        let longest = || rows.iter().map(Encoding::len).max().unwrap_or(0);
        let length = self.length.unwrap_or_else(longest);
        let length = self.multiple_of.map_or(length, |m| length.next_multiple_of(m.max(1)));
        for row in rows.iter_mut().filter(|row| row.len() < length) {
            self.fill(row, length - row.len());
        }
    }

    fn fill(&self, row: &mut Encoding, count: usize) {
        let padding = Encoding::new(
            vec![self.id; count],
            vec![self.type_id; count],
            vec![self.token.clone(); count],
            vec![None; count],
            vec![(0, 0); count],
            vec![1; count],
            vec![0; count],
            vec![],
            Default::default(),
        );
        let parts = match self.side {
            Side::Right => [std::mem::take(row), padding],
            Side::Left => [padding, std::mem::take(row)],
        };
        *row = Encoding::merge(parts, false);
    }
}
