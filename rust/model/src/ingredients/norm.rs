//! Layer normalisation with its scale and shift.

use ferroformer_kernels::{Level, Mat, MatMut, Narrow, Stored, Threads, layer_norm, layer_norm_backward};

use crate::error::Result;
use crate::export::{Export, Values, ValuesMut};
use crate::init::Init;
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::weights::Place;

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

    /// What was normalised, x (T, H), and the gradient of the result, dy -> that of x, dx; those of weight and bias are added to
    /// `sums` (2 H,).
    pub(crate) fn backward(&self, x: Mat, dy: Mat, dx: MatMut, sums: &mut [f32]) {
        let (weight, bias) = sums.split_at_mut(self.weight.len());
        layer_norm_backward(self.level, x, &self.weight, self.eps, dy, dx, weight, bias);
    }

    /// Adds what [`backward`](Self::backward) has summed for each chunk (chunks, 2 H) to this gradient, as far as it is wanted.
    pub(crate) fn add_gradient(&mut self, sums: Mat) {
        for r in 0..sums.rows() {
            let (weight, bias) = sums.row(r).split_at(sums.cols() / 2);
            for (gradient, sum) in [(&mut self.weight, weight), (&mut self.bias, bias)] {
                gradient.own_mut().iter_mut().zip(sum).for_each(|(gradient, sum)| *gradient += sum);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.weight.is_empty() && self.bias.is_empty()
    }

    pub(crate) fn exports(&self) -> [Export<'_>; 2] {
        [("weight", &self.weight), ("bias", &self.bias)].map(|(name, values)| Export {
            slot: format!("{}.{name}", self.scope),
            shape: vec![values.len()],
            values: Values::Vector(values),
        })
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        vec![self.weight.own_mut(), self.bias.own_mut()]
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let place = |name, values: &Stored| vec![Place::alone(format!("{}.{name}", self.scope), values.len())];
        vec![place("weight", &self.weight), place("bias", &self.bias)]
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        match slot.strip_prefix(&self.scope)? {
            ".weight" => Some(ValuesMut::Vector(self.weight.own_mut())),
            ".bias" => Some(ValuesMut::Vector(self.bias.own_mut())),
            _ => None,
        }
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        [("weight", &self.weight), ("bias", &self.bias)]
            .map(|(name, values)| Piece::new(format!("{}.{name}", self.scope), values.words()))
            .into()
    }
}
