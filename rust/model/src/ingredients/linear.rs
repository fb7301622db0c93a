//! y = x W^T + b, several such layers with the same input side by side (query, key and value). Where a layer's weights are in groups,
//! a group's outputs read its own inputs alone: y[:, g] = x[:, g] W_g^T, and each group of each layer is a product of its own. Layers may
//! read a part of the inputs: those that read the same are one product.

use std::ops::Range;

use ferroformer_kernels::{
    self as kernels, Epilogue, Form, Input, Level, Lookup, Mat, Narrow, Output, PackedLinear, Precision, Threads,
    floats_of_mut, weight_gradient,
};

use crate::blueprint::WeightShape;
use crate::error::Result;
use crate::export::{Export, Values, ValuesMut};
use crate::init::Init;
use crate::loader::{Loader, Share, Slot};
use crate::order::Order;
use crate::packed_file::Piece;
use crate::weights::Place;

pub(crate) struct Linear {
    /// One, or one for each group of each layer, or for layers that read the same.
    products: Vec<Product>,
    weights: Vec<Share>,
    biases: Vec<Share>,
    inputs: usize,
    level: Level,
}

/// Some outputs, and the inputs that they read.
struct Product {
    name: String,
    packed: PackedLinear,
    reads: Range<usize>,
    makes: Range<usize>,
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
    groups: usize,
    /// Which of the inputs it reads, where not all.
    reads: Option<Range<usize>>,
    shape: WeightShape,
    /// Whether biases are not trained; a checkpoint has them as (1, outputs).
    fixed_bias: bool,
}

impl Layer {
    pub(crate) fn new(scope: impl Into<String>, outputs: usize, bias: bool) -> Self {
        let scope = scope.into();
        let biases = bias.then(|| (scope.clone(), 0..outputs)).into_iter().collect();
        let shape = WeightShape::Rows;
        Layer { biases, scope, outputs, by_head: None, groups: 1, reads: None, shape, fixed_bias: false }
    }

    /// With these biases, that a checkpoint holds apart.
    pub(crate) fn with_biases(self, biases: Vec<(String, Range<usize>)>) -> Self {
        Layer { biases, ..self }
    }

    /// As a checkpoint holds it: of each head its rows of all parts, [parts, heads, channels].
    pub(crate) fn by_head(self, axes: [usize; 3]) -> Self {
        Layer { by_head: Some(axes), ..self }
    }

    /// With weights in groups, or in another shape.
    pub(crate) fn grouped(self, groups: usize, shape: WeightShape) -> Self {
        Layer { groups, shape, ..self }
    }

    /// That reads some of the inputs; not in groups.
    pub(crate) fn reading(self, inputs: Range<usize>) -> Self {
        Layer { reads: Some(inputs), ..self }
    }

    /// With biases that no training changes.
    pub(crate) fn fixed_bias(self, fixed_bias: bool) -> Self {
        Layer { fixed_bias, ..self }
    }

    /// Of so many inputs those that it reads.
    fn reads(&self, inputs: usize) -> Range<usize> {
        self.reads.clone().unwrap_or(0..inputs)
    }

    fn weight(&self, inputs: usize) -> Share {
        let inputs = self.reads(inputs).len();
        let [shape, _] = self.shape.of([self.outputs, inputs], self.groups);
        let slot = Slot::new(format!("{}.weight", self.scope), &shape, Init::Normal);
        let order = match (self.shape, &shape[..]) {
            (WeightShape::Groups, &[groups, columns, rows]) => {
                Order::new(&[groups, rows, columns], &[columns * rows, 1, rows])
            }
            (WeightShape::Transposed, _) => Order::transposed(self.outputs, inputs),
            _ => self.order(self.outputs, inputs),
        };
        (Slot { order, ..slot }, 0..self.outputs)
    }

    fn biases(&self) -> impl Iterator<Item = Share> {
        self.biases.iter().map(|(scope, outputs)| {
            let [_, shape] = self.shape.of([outputs.len(), 1], 1);
            let shape = if self.fixed_bias { vec![1, outputs.len()] } else { shape };
            let slot = Slot::new(format!("{scope}.bias"), &shape, Init::Zeros);
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
        let (mut weights, mut biases, mut outputs) = (vec![], vec![], 0);
        for part in &parts {
            weights.push(after(outputs, part.weight(inputs)));
            biases.extend(part.biases().map(|share| after(outputs, share)));
            outputs += part.outputs;
        }
        let products = if parts.iter().all(|part| part.groups == 1) {
            let (mut products, mut first) = (vec![], 0);
            for same in parts.chunk_by(|a, b| a.reads == b.reads) {
                let product = Product::load(loader, same, inputs, first)?;
                first = product.makes.end;
                products.push(product);
            }
            products
        } else {
            let first = parts.iter().scan(0, |next, part| Some(std::mem::replace(next, *next + part.outputs)));
            let groups =
                parts.iter().zip(first).flat_map(|(part, first)| (0..part.groups).map(move |g| (part, first, g)));
            groups.map(|(part, first, g)| Product::load_group(loader, part, inputs, first, g)).collect::<Result<_>>()?
        };
        Ok(Self { products, weights, biases, inputs, level: loader.level })
    }

    pub(crate) fn outputs(&self) -> usize {
        self.products.last().map_or(0, |last| last.makes.end)
    }

    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// The form in which x is read; groups take their own part of the floats.
    pub(crate) fn form(&self) -> Form {
        if self.products.len() == 1 { self.products[0].packed.form() } else { Form::Floats }
    }

    /// Whether what comes out can be in bf16 where the weights are not f32: every product begins at an even column.
    pub(crate) fn makes_bf16(&self) -> bool {
        let narrow = |product: &Product| product.packed.precision() != Precision::Float32;
        let there = Form::of(self.level, Precision::BFloat16) == Form::Bf16;
        there && self.products.iter().all(|product| narrow(product) && product.makes.start.is_multiple_of(2))
    }

    /// x (T, K), as floats and in [`form`](Self::form) where that is another -> out (T, N). Where x is read as floats, `narrow` is room.
    pub(crate) fn forward<'a>(
        &self,
        threads: &Threads,
        x: Mat,
        narrow: &mut Narrow,
        epilogue: Epilogue,
        out: impl Into<Output<'a>>,
    ) -> Result<()> {
        let mut out = out.into();
        if let [Product { packed, .. }] = &self.products[..] {
            kernels::linear(threads, input(packed.form(), x, narrow), packed, epilogue, out);
            return Ok(());
        }
        for Product { packed, reads, makes, .. } in &self.products {
            let rows = 0..x.rows();
            let x = x.block(rows.clone(), reads.clone());
            narrow.resize(packed.form(), x.rows(), x.cols())?;
            kernels::narrow(self.level, threads, x, narrow);
            let residual = epilogue.residual.map(|residual| residual.block(rows, makes.clone()));
            let epilogue = Epilogue { residual, ..epilogue };
            kernels::linear(threads, input(packed.form(), x, narrow), packed, epilogue, out.columns(makes.clone()));
        }
        Ok(())
    }

    /// Takes the gradient of what this layer made to that of what it read; in f32, with zeros between groups.
    pub(crate) fn transposed(&self, level: Level) -> Result<PackedLinear> {
        Ok(PackedLinear::zeroed(level, Precision::Float32, self.outputs(), self.inputs())?)
    }

    /// Fills [`transposed`](Self::transposed).
    pub(crate) fn transpose(&self, threads: &Threads, transposed: &mut PackedLinear) {
        for Product { packed, reads, makes, .. } in &self.products {
            transposed.transpose(threads, packed, [makes.start, reads.start]);
        }
    }

    /// Adds the gradients of weights and biases, from x (T, K) and dy (T, N), to this one, which holds them; nothing where they are
    /// not wanted.
    pub(crate) fn add_gradient(&mut self, level: Level, threads: &Threads, x: Mat, dy: Mat) {
        for Product { packed, reads, makes, .. } in &mut self.products {
            if !packed.words().is_empty() {
                let (x, dy) = (x.block(0..x.rows(), reads.clone()), dy.block(0..dy.rows(), makes.clone()));
                weight_gradient(level, threads, x, dy, floats_of_mut(packed.words_mut()));
            }
        }
    }

    /// Its weights, an output's as a row.
    ///
    /// # Panics
    /// If they are in groups.
    pub(crate) fn lookup(&self) -> Lookup<'_> {
        let [Product { packed, .. }] = &self.products[..] else { unreachable!("a look-up of weights in groups") };
        Lookup::Weights(packed)
    }

    /// Adds the gradient of a look-up of weights (T, K), if it is wanted.
    pub(crate) fn scatter_add(&mut self, threads: &Threads, rows: Mat, ids: &[u32], skip: Option<u32>) {
        if !self.is_empty() {
            self.products.iter_mut().for_each(|product| product.packed.scatter_add(threads, rows, ids, skip));
        }
    }

    /// Whether it holds nothing, as the gradient of a layer that is frozen.
    pub(crate) fn is_empty(&self) -> bool {
        self.products.iter().all(|product| product.packed.words().is_empty())
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let export = |slot: &Slot, values| Export { slot: slot.name.clone(), shape: slot.shape.clone(), values };
        let products = |outputs: &Range<usize>| {
            self.products.iter().filter_map(|product| Some((&product.packed, product.cut(outputs)?))).collect()
        };
        let weights = self.weights.iter().map(move |(slot, outputs)| {
            let values = Values::Weights(products(outputs), &slot.order);
            export(slot, values)
        });
        let biases = self.biases.iter().map(move |(slot, outputs)| {
            let values = Values::Biases(products(outputs), &slot.order);
            export(slot, values)
        });
        weights.chain(biases)
    }

    pub(crate) fn floats_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.products.iter_mut().map(|product| floats_of_mut(product.packed.words_mut()))
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Vec<Place>> {
        self.products.iter().map(|product| {
            let places = |shares: &[Share], kind: usize| {
                let ranges = |outputs| std::mem::take(&mut product.packed.places(outputs)[kind]);
                let place = |(slot, outputs): &Share| {
                    Some(Place { slot: slot.name.clone(), ranges: ranges(product.cut(outputs)?) })
                };
                shares.iter().filter_map(place).collect::<Vec<_>>()
            };
            places(&self.weights, 0).into_iter().chain(places(&self.biases, 1)).collect()
        })
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        let Self { products, weights, biases, .. } = self;
        let of = |shares: &'_ [Share]| shares.iter().position(|(known, _)| known.name == slot);
        let (weight, bias) = (of(weights), of(biases));
        let (slot, outputs) = match (weight, bias) {
            (Some(i), _) => &weights[i],
            (None, Some(i)) => &biases[i],
            (None, None) => return None,
        };
        let cut = |product: &Product| product.cut(outputs);
        let layers = products.iter_mut().filter_map(|product| Some((cut(product)?, &mut product.packed)));
        let layers = layers.map(|(outputs, packed)| (packed, outputs)).collect();
        Some(match weight {
            Some(_) => ValuesMut::Weights(layers, &slot.order),
            None => ValuesMut::Biases(layers, &slot.order),
        })
    }

    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        self.products.iter().map(|product| Piece::new(product.name.clone(), product.packed.words()))
    }
}

impl Product {
    /// Layers that read the same, whose outputs come after so many others'.
    fn load(loader: &Loader, parts: &[Layer], inputs: usize, first: usize) -> Result<Self> {
        let (mut weights, mut biases, mut outputs) = (vec![], vec![], 0);
        for part in parts {
            weights.push(after(outputs, part.weight(inputs)));
            biases.extend(part.biases().map(|share| after(outputs, share)));
            outputs += part.outputs;
        }
        let name = parts.iter().map(|part| part.scope.as_str()).collect::<Vec<_>>().join("+");
        let reads = parts.first().map_or(0..inputs, |part| part.reads(inputs));
        let packed = loader.linear(&name, reads.len(), &weights, &biases, 0)?;
        Ok(Product { name, packed, reads, makes: first..first + outputs })
    }

    /// A group of a layer, whose outputs come after so many others'.
    fn load_group(loader: &Loader, layer: &Layer, inputs: usize, first: usize, group: usize) -> Result<Self> {
        let (reads, makes) = (inputs / layer.groups, layer.outputs / layer.groups);
        let name = format!("{}/{group}", layer.scope);
        let weight = (layer.weight(inputs).0, 0..makes);
        let biases: Vec<Share> = layer.biases().map(|(slot, _)| (slot, 0..makes)).collect();
        let packed = loader.linear(&name, reads, &[weight], &biases, group * makes)?;
        let start = first + group * makes;
        Ok(Product { name, packed, reads: group * reads..(group + 1) * reads, makes: start..start + makes })
    }

    /// Which of these outputs of all are its own, counted from its first.
    fn cut(&self, outputs: &Range<usize>) -> Option<Range<usize>> {
        let (start, end) = (outputs.start.max(self.makes.start), outputs.end.min(self.makes.end));
        (start < end).then(|| start - self.makes.start..end - self.makes.start)
    }
}

fn input<'a>(form: Form, x: Mat<'a>, narrow: &'a Narrow) -> Input<'a> {
    if form == Form::Floats { Input::Floats(x) } else { Input::Narrow(narrow) }
}
