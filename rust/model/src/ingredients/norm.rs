//! Layer normalisation with its scale and, where it has one, its shift.

use ferroformer_kernels::{
    Buffer, Level, Mat, MatMut, Narrow, Norm, Stored, Threads, head_norm, head_norm_backward, layer_norm,
    layer_norm_backward,
};

use crate::error::Result;
use crate::export::{Export, Values, ValuesMut};
use crate::init::Init;
use crate::loader::{Loader, Slot};
use crate::memory;
use crate::packed_file::Piece;
use crate::weights::Place;

pub(crate) struct LayerNorm {
    scope: String,
    weight: Stored,
    bias: Shift,
    norm: Norm,
    level: Level,
}

enum Shift {
    Learned(Stored),
    /// Zeros, of no slot.
    None(Buffer),
}

impl LayerNorm {
    pub(crate) fn slots(scope: &str, size: usize, norm: Norm, biased: bool) -> impl Iterator<Item = Slot> + use<> {
        let init = if norm.offset == 0.0 { Init::Ones } else { Init::Zeros };
        let weight = Slot::new(format!("{scope}.weight"), &[size], init);
        let bias = biased.then(|| Slot::new(format!("{scope}.bias"), &[size], Init::Zeros));
        std::iter::once(weight).chain(bias)
    }

    pub(crate) fn load(loader: &Loader, scope: String, size: usize, norm: Norm, biased: bool) -> Result<Self> {
        let mut slots = Self::slots(&scope, size, norm, biased).map(|slot| loader.vector(&slot));
        let weight = slots.next().expect("a weight")?;
        let bias = match slots.next() {
            Some(bias) => Shift::Learned(bias?),
            None => Shift::None(memory::zeroed("the model", weight.len())?),
        };
        drop(slots);
        Ok(Self { scope, weight, bias, norm, level: loader.level })
    }

    /// x (T, H) -> out (T, H), and `narrow` (T, H) in its form.
    pub(crate) fn forward(&self, threads: &Threads, x: Mat, out: MatMut, narrow: &mut Narrow) {
        let bias = match &self.bias {
            Shift::Learned(bias) => &**bias,
            Shift::None(zeros) => zeros,
        };
        layer_norm(self.level, threads, x, &self.weight, bias, self.norm, out, narrow);
    }

    /// What was normalised, x (T, H), and the gradient of the result, dy -> that of x, dx; those of weight and bias are added to
    /// `sums` (2 H,).
    pub(crate) fn backward(&self, x: Mat, dy: Mat, dx: MatMut, sums: &mut [f32]) {
        let (weight, bias) = sums.split_at_mut(self.weight.len());
        layer_norm_backward(self.level, x, &self.weight, self.norm, dy, dx, weight, bias);
    }

    /// Each head of x (T, heads x H) by itself, in place; where there is no bias.
    pub(crate) fn forward_of_heads(&self, x: MatMut) {
        head_norm(self.level, &self.weight, self.norm, x);
    }

    /// What [`forward_of_heads`](Self::forward_of_heads) read, x, and the gradient of what it made, d -> that of x, in its place; that
    /// of the weight is added to the first half of `sums` (2 H,).
    pub(crate) fn backward_of_heads(&self, x: Mat, d: MatMut, sums: &mut [f32]) {
        head_norm_backward(self.level, x, &self.weight, self.norm, d, &mut sums[..self.weight.len()]);
    }

    /// Adds what [`backward`](Self::backward) has summed for each chunk (chunks, 2 H) to this gradient, as far as it is wanted.
    pub(crate) fn add_gradient(&mut self, sums: Mat) {
        for r in 0..sums.rows() {
            let (weight, bias) = sums.row(r).split_at(sums.cols() / 2);
            for (gradient, sum) in self.vectors_mut().zip([weight, bias]) {
                gradient.own_mut().iter_mut().zip(sum).for_each(|(gradient, sum)| *gradient += sum);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.vectors().all(|(_, values)| values.is_empty())
    }

    /// What is learned, by its name.
    fn vectors(&self) -> impl Iterator<Item = (&'static str, &Stored)> {
        let bias = match &self.bias {
            Shift::Learned(bias) => Some(("bias", bias)),
            Shift::None(_) => None,
        };
        std::iter::once(("weight", &self.weight)).chain(bias)
    }

    fn vectors_mut(&mut self) -> impl Iterator<Item = &mut Stored> {
        let bias = match &mut self.bias {
            Shift::Learned(bias) => Some(bias),
            Shift::None(_) => None,
        };
        std::iter::once(&mut self.weight).chain(bias)
    }

    /// Whether the slot is one of this norm's.
    pub(crate) fn holds(&self, slot: &str) -> bool {
        slot.strip_prefix(&self.scope).is_some_and(|name| [".weight", ".bias"].contains(&name))
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.vectors().map(|(name, values)| Export {
            slot: format!("{}.{name}", self.scope),
            shape: vec![values.len()],
            values: Values::Vector(values),
        })
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        self.vectors_mut().map(Stored::own_mut).collect()
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        self.vectors().map(|(name, v)| vec![Place::alone(format!("{}.{name}", self.scope), v.len())]).collect()
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        let name = slot.strip_prefix(&self.scope)?.strip_prefix('.')?;
        let place = self.vectors().position(|(known, _)| known == name)?;
        self.vectors_mut().nth(place).map(|values| ValuesMut::Vector(values.own_mut()))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        self.vectors().map(|(name, values)| Piece::new(format!("{}.{name}", self.scope), values.words())).collect()
    }
}
