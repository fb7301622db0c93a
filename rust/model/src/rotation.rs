//! The angles of rotary position embeddings: computed, or from a checkpoint's table.

use ferroformer_kernels::Stored;

use crate::blueprint::{Blueprint, RotarySpec, SinesSpec};
use crate::error::Result;
use crate::export::{Export, Values, ValuesMut};
use crate::init::{Init, Sines, angle};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::weights::Place;
use crate::workspace::Rows;

pub(crate) struct Rotation {
    spec: RotarySpec,
    /// (positions, 2 P): sines, then cosines.
    table: Option<(String, Stored)>,
}

fn slot(number: usize, table: SinesSpec) -> Slot {
    let SinesSpec { positions, pairs, base } = table;
    let name = format!("rotary.{number}.weight");
    let frequencies = (0..pairs).map(|i| base.powf(-(i as f64) / pairs as f64)).collect();
    let sines = Sines { frequencies, rounded: false, width: 2 * pairs, empty: None };
    Slot { trained: false, ..Slot::new(name, &[positions, 2 * pairs], Init::Sines(sines)) }
}

impl Rotation {
    pub(crate) fn slots(blueprint: &Blueprint) -> impl Iterator<Item = Slot> + use<> {
        let tables: Vec<_> = blueprint.attention.rotary.iter().map(|spec| spec.table).collect();
        tables.into_iter().enumerate().filter_map(|(number, table)| Some(slot(number, table?)))
    }

    pub(crate) fn load(loader: &Loader, spec: &RotarySpec, number: usize) -> Result<Self> {
        let table = |table| -> Result<_> {
            let slot = slot(number, table);
            Ok((slot.name.clone(), loader.vector(&slot)?))
        };
        Ok(Self { spec: spec.clone(), table: spec.table.map(table).transpose()? })
    }

    /// Cosines and sines of each token's angles, (T, 2 P).
    fn fill(&self, positions: &[u32], rows: &mut Rows) -> Result<()> {
        let pairs = self.spec.pairs();
        rows.resize(positions.len(), 2 * pairs)?;
        let mut rows = rows.mat_mut();
        for (t, position) in positions.iter().enumerate() {
            let (cos, sin) = rows.row_mut(t).split_at_mut(pairs);
            match &self.table {
                Some((_, table)) => {
                    let (sines, cosines) = table[*position as usize * 2 * pairs..][..2 * pairs].split_at(pairs);
                    cos.copy_from_slice(cosines);
                    sin.copy_from_slice(sines);
                }
                None => {
                    for ((frequency, cos), sin) in self.spec.frequencies.iter().zip(cos).zip(sin) {
                        let angle = angle(*position, *frequency, self.spec.rounded);
                        (*cos, *sin) = (self.spec.factor * angle.cos() as f32, self.spec.factor * angle.sin() as f32);
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn interleaved(&self) -> bool {
        self.spec.interleaved
    }

    pub(crate) fn export(&self) -> Option<Export<'_>> {
        let (slot, values) = self.table.as_ref()?;
        let width = 2 * self.spec.pairs();
        Some(Export { slot: slot.clone(), shape: vec![values.len() / width, width], values: Values::Vector(values) })
    }

    pub(crate) fn floats_mut(&mut self) -> Option<&mut [f32]> {
        Some(self.table.as_mut()?.1.own_mut())
    }

    pub(crate) fn place(&self) -> Option<Vec<Place>> {
        let (slot, values) = self.table.as_ref()?;
        Some(vec![Place::alone(slot.clone(), values.len())])
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        let (name, values) = self.table.as_mut()?;
        (name == slot).then(|| ValuesMut::Vector(values.own_mut()))
    }

    pub(crate) fn piece(&self) -> Option<Piece<'_>> {
        let (slot, values) = self.table.as_ref()?;
        Some(Piece::new(slot.clone(), values.words()))
    }
}

/// Of all rotations.
pub(crate) fn fill(rotations: &[Rotation], positions: &[u32], angles: &mut Vec<Rows>) -> Result<()> {
    angles.resize_with(rotations.len(), Rows::default);
    rotations.iter().zip(angles).try_for_each(|(rotation, rows)| rotation.fill(positions, rows))
}
