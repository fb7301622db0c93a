//! A learned bias for each head and distance of a key from a query, in buckets: one for each small distance, and then ever wider ones
//! (Raffel et al. 2020, arXiv 1910.10683).

use ferroformer_kernels::{Bias, Stored};

use crate::blueprint::{Blueprint, RelativeSpec};
use crate::error::Result;
use crate::export::{Export, Values, ValuesMut};
use crate::init::Init;
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::weights::Place;

pub(crate) struct RelativeBias {
    /// (buckets, heads)
    table: Stored,
    slot: String,
    spec: RelativeSpec,
    heads: usize,
}

/// The bias of each head for each distance: (heads, 2 reach - 1).
pub(crate) struct Distances {
    table: Vec<f32>,
    reach: usize,
}

impl Distances {
    pub(crate) fn bias(&self) -> Bias<'_> {
        Bias { table: &self.table, reach: self.reach }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

/// Which of so many tables is a layer's: there is one for each, or one for all, or none.
pub(crate) fn table_of_layer(layer: usize, tables: usize) -> usize {
    layer.min(tables.saturating_sub(1))
}

const SLOT: &str = "relative.weight";

impl RelativeBias {
    /// Of each table.
    pub(crate) fn slots(blueprint: &Blueprint) -> Vec<Slot> {
        let Some(spec) = blueprint.attention.relative else { return vec![] };
        let names = match spec.by_layer {
            true => (0..blueprint.num_layers).map(|layer| format!("layers.{layer}.{SLOT}")).collect(),
            false => vec![SLOT.to_owned()],
        };
        let shape = [spec.buckets, blueprint.attention.heads];
        names.into_iter().map(|name| Slot::new(name, &shape, Init::Normal)).collect()
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint) -> Result<Vec<Self>> {
        let Some(spec) = blueprint.attention.relative else { return Ok(vec![]) };
        let heads = blueprint.attention.heads;
        let load = |slot: Slot| Ok(Self { table: loader.vector(&slot)?, slot: slot.name, spec, heads });
        Self::slots(blueprint).into_iter().map(load).collect()
    }

    /// For sequences of up to `longest` tokens.
    pub(crate) fn distances(&self, longest: usize) -> Distances {
        let reach = longest.max(1);
        let buckets: Vec<usize> = self.buckets(reach).collect();
        let head = |h: usize| buckets.iter().map(move |bucket| self.table[bucket * self.heads + h]);
        Distances { table: (0..self.heads).flat_map(head).collect(), reach }
    }

    /// Adds the gradient of [`distances`](Self::distances).
    pub(crate) fn add_gradient(&mut self, d: &[f32], reach: usize) {
        if self.table.is_empty() {
            return;
        }
        let (heads, width) = (self.heads, 2 * reach - 1);
        for (place, bucket) in self.buckets(reach).collect::<Vec<_>>().into_iter().enumerate() {
            let row = &mut self.table.own_mut()[bucket * heads..][..heads];
            row.iter_mut().enumerate().for_each(|(h, sum)| *sum += d[h * width + place]);
        }
    }

    /// Of the distances 1 - reach..reach.
    fn buckets(&self, reach: usize) -> impl Iterator<Item = usize> {
        let spec = self.spec;
        (1 - reach as isize..reach as isize).map(move |distance| bucket(distance, spec))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(crate) fn export(&self) -> Export<'_> {
        let shape = vec![self.table.len() / self.heads, self.heads];
        Export { slot: self.slot.clone(), shape, values: Values::Vector(&self.table) }
    }

    pub(crate) fn floats_mut(&mut self) -> &mut [f32] {
        self.table.own_mut()
    }

    pub(crate) fn place(&self) -> Vec<Place> {
        vec![Place::alone(self.slot.clone(), self.table.len())]
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        (slot == self.slot).then(|| ValuesMut::Vector(self.table.own_mut()))
    }

    pub(crate) fn piece(&self) -> Piece<'_> {
        Piece::new(&self.slot, self.table.words())
    }
}

/// Half of the buckets are for keys ahead, if any are. Of those of a side, one half is for single distances, the other grows by a factor
/// up to `max_distance`; in f32, as torch does it.
fn bucket(distance: isize, spec: RelativeSpec) -> usize {
    let [side, single] = spec.side();
    let (first, far) = match (distance > 0, spec.bidirectional) {
        (true, false) => (0, 0),
        (ahead, _) => (if ahead { side } else { 0 }, distance.unsigned_abs()),
    };
    if far < single {
        return first + far;
    }
    let (ratio, most) = (far as f32 / single as f32, (spec.max_distance as f64 / single as f64).ln() as f32);
    let wide = (ratio.ln() / most * (side - single) as f32) as usize;
    first + wide.saturating_add(single).min(side - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 32 buckets to 128, as T5's and MPNet's.
    #[test]
    fn buckets_grow() {
        let spec = RelativeSpec { buckets: 32, max_distance: 128, bidirectional: true, by_layer: false };
        let of = |distance| bucket(distance, spec);
        assert_eq!((-7..=7).map(of).collect::<Vec<_>>(), [7, 6, 5, 4, 3, 2, 1, 0, 17, 18, 19, 20, 21, 22, 23]);
        let far = [8, 11, 12, 15, 16, 22, 23, 31, 32, 45, 46, 63, 64, 90, 91, 127, 128, 10_000].map(|d| of(-d));
        assert_eq!(far, [8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 15, 15]);
        assert!((1..500).all(|d| of(d) == of(-d) + 16));
    }

    /// Of 32 buckets to 128 for what lies behind alone, as T5's decoder's.
    #[test]
    fn nothing_ahead_has_a_bucket() {
        let spec = RelativeSpec { buckets: 32, max_distance: 128, bidirectional: false, by_layer: false };
        let of = |distance| bucket(distance, spec);
        assert!((0..500).all(|d| of(d) == 0) && (0..16).all(|d| of(-d) == d as usize));
        let far = [16, 18, 19, 20, 21, 23, 24, 26, 27, 30, 31, 112, 113, 127, 128, 10_000].map(|d| of(-d));
        assert_eq!(far, [16, 16, 17, 17, 18, 18, 19, 19, 20, 20, 21, 30, 31, 31, 31, 31]);
    }
}
