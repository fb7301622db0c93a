//! y = x W^T + b, several such layers with the same input side by side in one product (query, key and value).

use std::ops::Range;

use ferroformer_kernels::{
    Epilogue, Form, Input, Level, Lookup, Mat, Narrow, Output, PackedLinear, Precision, Threads, floats_of_mut, linear,
    weight_gradient,
};

use crate::error::Result;
use crate::export::{Export, Values, ValuesMut};
use crate::init::Init;
use crate::loader::{Loader, Share, Slot};
use crate::order::Order;
use crate::packed_file::Piece;
use crate::weights::Place;

pub(crate) struct Linear {
    packed: PackedLinear,
    /// Of all layers together.
    name: String,
    weights: Vec<Share>,
    biases: Vec<Share>,
}

/// One of the layers.
#[derive(Clone)]
pub(crate) struct Layer {
    scope: String,
    outputs: usize,
    /// The scopes of biases, and whose they are. Where there is none it is zero, and stays so.
    biases: Vec<(String, Range<usize>)>,
    /// Parts, heads and channels of the outputs, where a checkpoint holds them head by head.
    by_head: Option<[usize; 3]>,
    /// Whether a checkpoint holds the weights as (inputs, outputs).
    transposed: bool,
    /// Whether biases are not trained; a checkpoint has them as (1, outputs).
    fixed_bias: bool,
}

impl Layer {
    pub(crate) fn new(scope: impl Into<String>, outputs: usize, bias: bool) -> Self {
        let scope = scope.into();
        let biases = bias.then(|| (scope.clone(), 0..outputs)).into_iter().collect();
        Layer { scope, outputs, biases, by_head: None, transposed: false, fixed_bias: false }
    }

    /// With these biases, that a checkpoint holds apart.
    pub(crate) fn with_biases(self, biases: Vec<(String, Range<usize>)>) -> Self {
        Layer { biases, ..self }
    }

    /// As a checkpoint holds it: of each head its rows of all parts, [parts, heads, channels].
    pub(crate) fn by_head(self, axes: [usize; 3]) -> Self {
        Layer { by_head: Some(axes), ..self }
    }

    /// As a checkpoint holds it, where it holds weights as (inputs, outputs).
    pub(crate) fn transposed(self, transposed: bool) -> Self {
        Layer { transposed, ..self }
    }

    /// With biases that no training changes.
    pub(crate) fn fixed_bias(self, fixed_bias: bool) -> Self {
        Layer { fixed_bias, ..self }
    }

    fn weight(&self, inputs: usize) -> Share {
        if self.transposed {
            let slot = Slot::new(format!("{}.weight", self.scope), &[inputs, self.outputs], Init::Normal);
            return (Slot { order: Order::transposed(self.outputs, inputs), ..slot }, 0..self.outputs);
        }
        let slot = Slot::new(format!("{}.weight", self.scope), &[self.outputs, inputs], Init::Normal);
        (Slot { order: self.order(self.outputs, inputs), ..slot }, 0..self.outputs)
    }

    fn biases(&self) -> impl Iterator<Item = Share> {
        self.biases.iter().map(|(scope, outputs)| {
            let shape = [1, outputs.len()];
            let shape = if self.fixed_bias { &shape[..] } else { &shape[1..] };
            let slot = Slot::new(format!("{scope}.bias"), shape, Init::Zeros);
            (Slot { order: self.order(outputs.len(), 1), trained: !self.fixed_bias, ..slot }, outputs.clone())
        })
    }

    /// What lies head by head has all outputs.
    fn order(&self, outputs: usize, width: usize) -> Order {
        let axes = self.by_head.filter(|_| outputs == self.outputs);
        axes.map_or(Order::default(), |axes| Order::by_head(axes, width))
    }
}

/// Whose outputs come after so many others'.
fn after(first: usize, (slot, outputs): Share) -> Share {
    (slot, first + outputs.start..first + outputs.end)
}

impl Linear {
    /// Weight and bias of each layer.
    pub(crate) fn slots(parts: &[Layer], inputs: usize) -> impl Iterator<Item = Slot> + use<> {
        let shares = parts.iter().flat_map(|part| std::iter::once(part.weight(inputs)).chain(part.biases()));
        shares.map(|(slot, _)| slot).collect::<Vec<_>>().into_iter()
    }

    pub(crate) fn load(loader: &Loader, parts: Vec<Layer>, inputs: usize) -> Result<Self> {
        let name = parts.iter().map(|part| part.scope.as_str()).collect::<Vec<_>>().join("+");
        let (mut weights, mut biases, mut first) = (vec![], vec![], 0);
        for part in &parts {
            weights.push(after(first, part.weight(inputs)));
            biases.extend(part.biases().map(|share| after(first, share)));
            first += part.outputs;
        }
        Ok(Self { packed: loader.linear(&name, inputs, &weights, &biases)?, name, weights, biases })
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
        let export = |slot: &Slot, values| Export { slot: slot.name.clone(), shape: slot.shape.clone(), values };
        let weights = self
            .weights
            .iter()
            .map(move |(slot, outputs)| export(slot, Values::Weights(&self.packed, outputs.clone(), &slot.order)));
        let biases = self
            .biases
            .iter()
            .map(move |(slot, outputs)| export(slot, Values::Biases(&self.packed, outputs.clone(), &slot.order)));
        weights.chain(biases)
    }

    pub(crate) fn floats_mut(&mut self) -> &mut [f32] {
        floats_of_mut(self.packed.words_mut())
    }

    pub(crate) fn places(&self) -> Vec<Place> {
        let places = |shares: &[Share], kind: usize| {
            let ranges = |outputs: &Range<usize>| std::mem::take(&mut self.packed.places(outputs.clone())[kind]);
            let place = |(slot, outputs): &Share| Place { slot: slot.name.clone(), ranges: ranges(outputs) };
            shares.iter().map(place).collect::<Vec<_>>()
        };
        places(&self.weights, 0).into_iter().chain(places(&self.biases, 1)).collect()
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        let Self { packed, weights, biases, .. } = self;
        if let Some((slot, outputs)) = weights.iter().find(|(known, _)| known.name == slot) {
            return Some(ValuesMut::Weights(packed, outputs.clone(), &slot.order));
        }
        let (slot, outputs) = biases.iter().find(|(known, _)| known.name == slot)?;
        Some(ValuesMut::Biases(packed, outputs.clone(), &slot.order))
    }

    pub(crate) fn piece(&self) -> Piece<'_> {
        Piece::new(self.name.clone(), self.packed.words())
    }
}
