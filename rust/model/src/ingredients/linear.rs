//! y = x W^T + b, several such layers with the same input side by side in one product (query, key and value).

use std::ops::Range;

use ferroformer_kernels::{
    Epilogue, Form, Input, Level, Lookup, Mat, Narrow, Output, PackedLinear, Precision, Threads, floats_of_mut, linear,
    weight_gradient,
};

use crate::error::Result;
use crate::export::{Export, Values, ValuesMut};
use crate::init::Init;
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::weights::Place;

pub(crate) struct Linear {
    packed: PackedLinear,
    parts: Vec<Layer>,
}

/// One of the layers.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) scope: String,
    pub(crate) outputs: usize,
    /// Without one it is zero, and stays so.
    pub(crate) bias: bool,
}

impl Layer {
    pub(crate) fn new(scope: impl Into<String>, outputs: usize, bias: bool) -> Self {
        Layer { scope: scope.into(), outputs, bias }
    }

    fn slots(&self, inputs: usize) -> (Slot, Option<Slot>) {
        let Layer { scope, outputs, bias } = self;
        let weight = Slot::new(format!("{scope}.weight"), &[*outputs, inputs], Init::Normal);
        (weight, bias.then(|| Slot::new(format!("{scope}.bias"), &[*outputs], Init::Zeros)))
    }
}

impl Linear {
    /// Weight and bias of each layer.
    pub(crate) fn slots(parts: &[Layer], inputs: usize) -> impl Iterator<Item = Slot> + use<> {
        let slots: Vec<_> = parts.iter().map(|part| part.slots(inputs)).collect();
        slots.into_iter().flat_map(|(weight, bias)| std::iter::once(weight).chain(bias))
    }

    pub(crate) fn load(loader: &Loader, parts: Vec<Layer>, inputs: usize) -> Result<Self> {
        let slots: Vec<_> = parts.iter().map(|part| part.slots(inputs)).collect();
        let packed = loader.linear(&name(&parts), &slots)?;
        Ok(Self { packed, parts })
    }

    pub(crate) fn outputs(&self) -> usize {
        self.packed.outputs()
    }

    pub(crate) fn inputs(&self) -> usize {
        self.packed.inputs()
    }

    /// The form in which x is read.
    pub(crate) fn form(&self) -> Form {
        self.packed.form()
    }

    /// x (T, K), as floats and in [`form`](Self::form) where that is another -> out (T, N).
    pub(crate) fn forward<'a>(
        &self,
        threads: &Threads,
        x: Mat,
        narrow: &Narrow,
        epilogue: Epilogue,
        out: impl Into<Output<'a>>,
    ) {
        let x = if self.form() == Form::Floats { Input::Floats(x) } else { Input::Narrow(narrow) };
        linear(threads, x, &self.packed, epilogue, out);
    }

    /// Takes the gradient of what this layer made to that of what it read; in f32.
    pub(crate) fn transposed(&self, level: Level) -> Result<PackedLinear> {
        Ok(PackedLinear::zeroed(level, Precision::Float32, self.packed.outputs(), self.packed.inputs())?)
    }

    /// Fills [`transposed`](Self::transposed).
    pub(crate) fn transpose(&self, threads: &Threads, transposed: &mut PackedLinear) {
        transposed.transpose(threads, &self.packed);
    }

    /// Adds the gradients of weights and biases, from x (T, K) and dy (T, N), to this one, which holds them; nothing where they are
    /// not wanted.
    pub(crate) fn add_gradient(&mut self, level: Level, threads: &Threads, x: Mat, dy: Mat) {
        if !self.packed.words().is_empty() {
            weight_gradient(level, threads, x, dy, floats_of_mut(self.packed.words_mut()));
        }
    }

    /// Its weights, an output's as a row.
    pub(crate) fn lookup(&self) -> Lookup<'_> {
        Lookup::Weights(&self.packed)
    }

    /// Adds the gradient of a look-up of weights (T, K), if it is wanted.
    pub(crate) fn scatter_add(&mut self, threads: &Threads, rows: Mat, ids: &[u32], skip: Option<u32>) {
        if !self.is_empty() {
            self.packed.scatter_add(threads, rows, ids, skip);
        }
    }

    /// Whether it holds nothing, as the gradient of a layer that is frozen.
    pub(crate) fn is_empty(&self) -> bool {
        self.packed.words().is_empty()
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let inputs = self.packed.inputs();
        self.layers().flat_map(move |(Layer { scope, bias, .. }, outputs)| {
            let (count, weights) = (outputs.len(), Values::Weights(&self.packed, outputs.clone()));
            let biases = Values::Biases(&self.packed, outputs);
            let weight = Export { slot: format!("{scope}.weight"), shape: vec![count, inputs], values: weights };
            let bias = bias.then(|| Export { slot: format!("{scope}.bias"), shape: vec![count], values: biases });
            std::iter::once(weight).chain(bias)
        })
    }

    /// Each layer with its outputs.
    fn layers(&self) -> impl Iterator<Item = (&Layer, Range<usize>)> {
        self.parts.iter().scan(0, |next, part| {
            *next += part.outputs;
            Some((part, *next - part.outputs..*next))
        })
    }

    pub(crate) fn floats_mut(&mut self) -> &mut [f32] {
        floats_of_mut(self.packed.words_mut())
    }

    pub(crate) fn places(&self) -> Vec<Place> {
        let place = |(Layer { scope, bias, .. }, outputs): (&Layer, Range<usize>)| {
            let [weights, biases] = self.packed.places(outputs);
            let places = [("weight", weights), ("bias", biases)]
                .map(|(name, ranges)| Place { slot: format!("{scope}.{name}"), ranges });
            places.into_iter().take(1 + usize::from(*bias)).collect::<Vec<_>>()
        };
        self.layers().flat_map(place).collect()
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        let (scope, name) = slot.rsplit_once('.')?;
        let (Layer { bias, .. }, outputs) = self.layers().find(|(layer, _)| layer.scope == scope)?;
        match name {
            "weight" => Some(ValuesMut::Weights(&mut self.packed, outputs)),
            "bias" if *bias => Some(ValuesMut::Biases(&mut self.packed, outputs)),
            _ => None,
        }
    }

    pub(crate) fn piece(&self) -> Piece<'_> {
        Piece::new(name(&self.parts), self.packed.words())
    }
}

/// Of all parts together.
fn name(parts: &[Layer]) -> String {
    parts.iter().map(|part| part.scope.as_str()).collect::<Vec<_>>().join("+")
}
