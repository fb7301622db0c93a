//! Embeddings of distances, which attention multiplies with queries and keys (He et al. 2020, arXiv 2006.03654). All layers share them;
//! each makes position keys and queries of them by its own weights.

use ferroformer_kernels::{Level, Mat, MatMut, Narrow, Stored, Threads, add};

use super::LayerNorm;
use crate::blueprint::{Blueprint, DisentangledSpec};
use crate::error::Result;
use crate::export::{Export, Values, ValuesMut};
use crate::init::Init;
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::weights::Place;
use crate::workspace::Rows;

pub(crate) struct RelativeEmbeddings {
    /// (2 span, H)
    table: Stored,
    norm: Option<LayerNorm>,
    spec: DisentangledSpec,
    size: usize,
    level: Level,
}

const TABLE: &str = "relative.weight";
const NORM: &str = "relative.norm";

impl RelativeEmbeddings {
    pub(crate) fn slots(blueprint: &Blueprint, spec: DisentangledSpec) -> impl Iterator<Item = Slot> + use<> {
        let size = blueprint.hidden_size;
        let table = Slot::new(TABLE.to_owned(), &[spec.rows(), size], Init::Normal);
        let norm = spec.norm.into_iter().flat_map(move |norm| LayerNorm::slots(NORM, size, norm.norm(), norm.bias));
        std::iter::once(table).chain(norm)
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, spec: DisentangledSpec) -> Result<Self> {
        let size = blueprint.hidden_size;
        let table = loader.vector(&Slot::new(TABLE.to_owned(), &[spec.rows(), size], Init::Normal))?;
        let norm = spec.norm.map(|norm| LayerNorm::load(loader, NORM.to_owned(), size, norm.norm(), norm.bias));
        Ok(Self { table, norm: norm.transpose()?, spec, size, level: loader.level })
    }

    fn table(&self) -> Mat<'_> {
        Mat::dense(&self.table, self.spec.rows(), self.size)
    }

    /// Rows (2 span, H).
    pub(crate) fn forward(&self, threads: &Threads, out: &mut Rows) -> Result<()> {
        out.resize(self.spec.rows(), self.size)?;
        match &self.norm {
            Some(norm) => norm.forward(threads, self.table(), out.mat_mut(), &mut Narrow::default()),
            None => out.mat_mut().copy(self.table()),
        }
        Ok(())
    }

    /// Adds to `gradient`, from that of what [`forward`](Self::forward) made; `d` is left with that of the table.
    pub(crate) fn backward(&self, d: &mut Rows, gradient: &mut RelativeEmbeddings) {
        if let Some(norm) = &self.norm {
            let mut sums = vec![0.0; 2 * self.size];
            let mut before = vec![0.0; self.table.len()];
            norm.backward(self.table(), d.mat(), MatMut::dense(&mut before, self.spec.rows(), self.size), &mut sums);
            d.mat_mut().copy(Mat::dense(&before, self.spec.rows(), self.size));
            let own = gradient.norm.as_mut();
            own.into_iter().for_each(|norm| norm.add_gradient(Mat::dense(&sums, 1, sums.len())));
        }
        if !gradient.table.is_empty() {
            add(self.level, d.mat(), MatMut::dense(gradient.table.own_mut(), self.spec.rows(), self.size));
        }
    }

    /// The row of each distance i - j from -(reach - 1) to reach - 1.
    pub(crate) fn places(&self, reach: usize) -> Vec<u32> {
        (1 - reach as i64..reach as i64).map(|distance| self.spec.place(distance)).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty() && self.norm.as_ref().is_none_or(LayerNorm::is_empty)
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let shape = vec![self.table.len() / self.size, self.size];
        let table = Export { slot: TABLE.to_owned(), shape, values: Values::Vector(&self.table) };
        std::iter::once(table).chain(self.norm.iter().flat_map(LayerNorm::exports))
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let mut floats = vec![self.table.own_mut()];
        floats.extend(self.norm.iter_mut().flat_map(LayerNorm::floats_mut));
        floats
    }

    pub(crate) fn places_of_slots(&self) -> Vec<Vec<Place>> {
        let mut places = vec![vec![Place::alone(TABLE.to_owned(), self.table.len())]];
        places.extend(self.norm.iter().flat_map(LayerNorm::places));
        places
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        if slot == TABLE {
            return Some(ValuesMut::Vector(self.table.own_mut()));
        }
        self.norm.as_mut()?.slot_mut(slot)
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = vec![Piece::new(TABLE, self.table.words())];
        pieces.extend(self.norm.iter().flat_map(LayerNorm::pieces));
        pieces
    }
}

impl DisentangledSpec {
    /// Of the table: as many for keys behind as for keys ahead.
    pub(crate) fn rows(self) -> usize {
        2 * self.span
    }

    /// The row of a distance.
    fn place(self, distance: i64) -> u32 {
        let bucket = if self.max_distance > 0 { self.bucket(distance) } else { distance };
        let span = self.span as i64;
        (bucket + span).clamp(0, 2 * span - 1) as u32
    }

    /// Distances up to half of the span as they are, farther ones by their logarithm; in f32, as torch does it.
    fn bucket(self, distance: i64) -> i64 {
        let middle = (self.span / 2) as i64;
        if distance.abs() <= middle {
            return distance;
        }
        let ratio = (distance.unsigned_abs() as f32 / middle as f32).ln();
        let most = (((self.max_distance as f64 - 1.0) / middle as f64) as f32).ln();
        let far = (ratio / most * (middle - 1) as f32).ceil() as i64 + middle;
        far * distance.signum()
    }
}
