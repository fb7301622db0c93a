//! Layer normalisation with its scale and shift.

use ferroformer_kernels::{Level, Mat, MatMut, Narrow, Stored, Threads, layer_norm};

use crate::error::Result;
use crate::export::{Export, Values};
use crate::init::Init;
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;

pub(crate) struct LayerNorm {
    scope: String,
    weight: Stored,
    bias: Stored,
    eps: f32,
    level: Level,
}

impl LayerNorm {
    pub(crate) fn slots(scope: &str, size: usize) -> [Slot; 2] {
        let weight = Slot::new(format!("{scope}.weight"), &[size], Init::Ones);
        [weight, Slot::new(format!("{scope}.bias"), &[size], Init::Zeros)]
    }

    pub(crate) fn load(loader: &Loader, scope: String, size: usize, eps: f32) -> Result<Self> {
        let [weight, bias] = Self::slots(&scope, size);
        let (weight, bias) = (loader.vector(&weight)?, loader.vector(&bias)?);
        Ok(Self { scope, weight, bias, eps, level: loader.level })
    }

    /// x (T, H) -> out (T, H), and `narrow` (T, H) in its form.
    pub(crate) fn forward(&self, threads: &Threads, x: Mat, out: MatMut, narrow: &mut Narrow) {
        layer_norm(self.level, threads, x, &self.weight, &self.bias, self.eps, out, narrow);
    }

    pub(crate) fn exports(&self) -> [Export<'_>; 2] {
        [("weight", &self.weight), ("bias", &self.bias)].map(|(name, values)| Export {
            slot: format!("{}.{name}", self.scope),
            shape: vec![values.len()],
            values: Values::Vector(values),
        })
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        [("weight", &self.weight), ("bias", &self.bias)]
            .map(|(name, values)| Piece::new(format!("{}.{name}", self.scope), values.words()))
            .into()
    }
}
