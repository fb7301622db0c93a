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
    /// Scope and number of outputs of each layer.
    parts: Vec<(String, usize)>,
}

impl Linear {
    /// Weight and bias of each part.
    pub(crate) fn slots(parts: &[(String, usize)], inputs: usize) -> Vec<[Slot; 2]> {
        let part = |(scope, outputs): &(String, usize)| {
            let weight = Slot::new(format!("{scope}.weight"), &[*outputs, inputs], Init::Normal);
            [weight, Slot::new(format!("{scope}.bias"), &[*outputs], Init::Zeros)]
        };
        parts.iter().map(part).collect()
    }

    pub(crate) fn load(loader: &Loader, parts: Vec<(String, usize)>, inputs: usize) -> Result<Self> {
        let packed = loader.linear(&name(&parts), &Self::slots(&parts, inputs))?;
        Ok(Self { packed, parts })
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
        self.layers().flat_map(move |(scope, outputs)| {
            let (count, weights) = (outputs.len(), Values::Weights(&self.packed, outputs.clone()));
            let biases = Values::Biases(&self.packed, outputs);
            [
                Export { slot: format!("{scope}.weight"), shape: vec![count, inputs], values: weights },
                Export { slot: format!("{scope}.bias"), shape: vec![count], values: biases },
            ]
        })
    }

    /// Each layer with its outputs.
    fn layers(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.parts.iter().scan(0, |next, (scope, outputs)| {
            *next += outputs;
            Some((scope.as_str(), *next - outputs..*next))
        })
    }

    pub(crate) fn floats_mut(&mut self) -> &mut [f32] {
        floats_of_mut(self.packed.words_mut())
    }

    pub(crate) fn places(&self) -> Vec<Place> {
        let place = |(scope, outputs): (&str, Range<usize>)| {
            let [weights, biases] = self.packed.places(outputs);
            [("weight", weights), ("bias", biases)]
                .map(|(name, ranges)| Place { slot: format!("{scope}.{name}"), ranges })
        };
        self.layers().flat_map(place).collect()
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        let (scope, name) = slot.rsplit_once('.')?;
        let (_, outputs) = self.layers().find(|(layer, _)| *layer == scope)?;
        match name {
            "weight" => Some(ValuesMut::Weights(&mut self.packed, outputs)),
            "bias" => Some(ValuesMut::Biases(&mut self.packed, outputs)),
            _ => None,
        }
    }

    pub(crate) fn piece(&self) -> Piece<'_> {
        Piece::new(name(&self.parts), self.packed.words())
    }
}

/// Of all parts together.
fn name(parts: &[(String, usize)]) -> String {
    parts.iter().map(|(scope, _)| scope.as_str()).collect::<Vec<_>>().join("+")
}
