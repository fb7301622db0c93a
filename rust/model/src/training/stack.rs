//! A stack of blocks, there and back: from ids to last hidden states, and from the gradient of these to those of its weights.

use ferroformer_kernels::{Mat, MatMut};

use super::pass::{Pass, Site, Step};
use super::record::Recipe;
use super::tape::{Flow, Layers, Parts, Plan};
use crate::batch::{Batch, Part};
use crate::block::At;
use crate::error::Result;
use crate::ingredients::{Around, Distances, Embeddings, table_of_layer};
use crate::stack::Stack;
use crate::weights::Weights;
use crate::workspace::Rows;

/// What recording some sequences asks of a tape; `source`: what these attend to.
pub(super) fn plan(part: &Part, source: Option<&Part>, recipe: Recipe) -> Plan {
    let Recipe { dropout, checkpointing } = recipe;
    let longest = part.longest().max(source.map_or(0, Part::longest));
    let source = source.map_or(0, Part::tokens);
    Plan { tokens: part.tokens(), longest, source, checkpointing, dropping: dropout.is_some() }
}

fn bias_of(distances: &[Distances], layer: usize) -> Option<&Distances> {
    distances.get(table_of_layer(layer, distances.len()))
}

/// A source and its last hidden states.
type Read<'a> = Option<(&'a Part<'a>, Mat<'a>)>;

impl Stack<'_> {
    /// All sequences of a batch.
    pub(super) fn whole<'a>(&self, batch: &'a Batch) -> Part<'a>
    where
        Self: 'a,
    {
        Part { shared: self.shared, ..batch.part(0..batch.sequences()) }
    }

    /// What is dropped in a source is not what is dropped in the model that reads it.
    pub(super) fn step<'a>(&self, part: &'a Part<'a>, recipe: Recipe) -> Step<'a> {
        let inside =
            self.encoder.blueprint.source.as_deref().is_some_and(|source| std::ptr::eq(source, self.blueprint));
        let own = if inside { crate::init::scatter(1) } else { 0 };
        let dropout = recipe.dropout.map(|dropout| super::Dropout { seed: dropout.seed ^ own, ..dropout });
        Step { level: self.level, part, dropout }
    }

    /// A batch to last hidden states, in `flow.hidden`.
    pub(super) fn record(&self, pass: &Pass, parts: &mut Parts, source: Read) -> Result<()> {
        let blocks = self.layers();
        let Parts { layers, flow, scratch, angles, distances, surroundings, .. } = parts;
        for (layer, block) in blocks.iter().enumerate() {
            pass.cancel.check(0)?;
            self.input(pass, layer, layers, flow.hidden.reborrow())?;
            let (saved, sum) = layers.saved(layer);
            if let Some(positions) = &mut flow.positions {
                positions.project(pass, layer, block)?;
            }
            let positions = flow.positions.as_deref().map(|room| (room.projected.mat(), &room.places[..]));
            let (bias, surroundings) = (bias_of(distances, layer), *surroundings);
            let around = Around { bias, positions, surroundings, ..self.around(layer, angles) };
            let at = At { layer, around, source, read: None };
            block.record(pass, at, flow.hidden.view(), flow.narrowed.as_mut(), saved, sum.reborrow(), scratch)?;
        }
        self.last(pass, layers, flow.hidden.reborrow())
    }

    /// From the gradient of the last hidden states, in `flow.d_hidden`, to those of all weights, and of a source in `flow.source`.
    pub(super) fn backward(
        &self,
        pass: &Pass,
        parts: &mut Parts,
        source: Read,
        gradients: &mut Weights,
        shared: Option<&mut Embeddings>,
        checkpointing: bool,
    ) -> Result<()> {
        let (blocks, of_layer) = (self.layers(), self.blueprint.blocks());
        let lowest = if shared.is_some() { 0 } else { gradients.lowest_layer(&of_layer) };
        let Parts { layers, flow, scratch, transposed, embedding_transposed, angles, distances, surroundings, .. } =
            parts;
        let Some(transposed) = transposed else { return Ok(()) };
        self.last_backward(pass, layers.sums[blocks.len() - 1].view(), flow, gradients)?;
        for layer in (lowest..blocks.len()).rev() {
            pass.cancel.check(0)?;
            self.input(pass, layer, layers, flow.hidden.reborrow())?;
            let (saved, sum) = layers.saved(layer);
            let mut made = (Rows::default(), vec![]);
            if let Some(positions) = &mut flow.positions {
                positions.project(pass, layer, blocks[layer])?;
                made = positions.take_made();
            }
            let positions = flow.positions.is_some().then(|| (made.0.mat(), &made.1[..]));
            let (bias, surroundings) = (bias_of(distances, layer), *surroundings);
            let around = Around { bias, positions, surroundings, ..self.around(layer, angles) };
            let at = At { layer, around, source, read: None };
            if checkpointing {
                let unwanted = MatMut::dense(&mut [], 0, sum.cols());
                let (hidden, narrowed) = (flow.hidden.view(), flow.narrowed.as_mut());
                blocks[layer].record(pass, at, hidden, narrowed, saved, unwanted, scratch)?;
            }
            let gradient = &mut gradients.blocks[of_layer[layer]];
            blocks[layer].backward(pass, at, flow, saved, sum.view(), transposed, scratch, gradient)?;
            if let Some(positions) = &mut flow.positions {
                positions.give_back(made);
                positions.add(pass, layer);
            }
        }
        if let (Some(distances), Some(gradient), Some(positions)) =
            (&self.weights.distances, &mut gradients.distances, &mut flow.positions)
        {
            distances.backward(&mut positions.d_all, gradient);
        }
        for (gradient, d) in gradients.relative.iter_mut().zip(&*flow.d_bias) {
            gradient.add_gradient(d, pass.step.part.longest().max(1));
        }
        if lowest == 0 {
            let gradient = &mut gradients.embeddings;
            self.weights.embeddings.backward(pass, flow, embedding_transposed, gradient, shared)?;
        }
        Ok(())
    }

    /// What a layer reads, (T, H): the embeddings or what the layer below makes.
    fn input(&self, pass: &Pass, layer: usize, layers: &Layers, hidden: MatMut) -> Result<()> {
        match layer.checked_sub(1) {
            None => self.weights.embeddings.record(pass, hidden),
            Some(below) => self.layers()[below].output(pass, layers.sums[below].view(), hidden),
        }
    }

    /// The last hidden states (T, H).
    pub(super) fn last(&self, pass: &Pass, layers: &Layers, hidden: MatMut) -> Result<()> {
        let count = layers.sums.len();
        let Some(norm) = &self.weights.final_norm else { return self.input(pass, count, layers, hidden) };
        let sum = layers.sums[count - 1].view();
        pass.for_each_chunk([hidden], [], |mut chunk, [mut hidden], []| {
            let sum = sum.rows_of(chunk.tokens.clone());
            norm.forward(&chunk.threads, sum, hidden.reborrow(), &mut chunk.room.none);
            chunk.drop(Site::Last, hidden);
            Ok(())
        })
    }

    /// The gradient of the last hidden states, `flow.d_hidden` -> that of what the last block makes, `sum`, in its place.
    fn last_backward(&self, pass: &Pass, sum: Mat, flow: &mut Flow, gradients: &mut Weights) -> Result<()> {
        let Some(norm) = &self.weights.final_norm else { return Ok(()) };
        let (size, Flow { d_hidden, sums, .. }) = (sum.cols(), flow);
        pass.for_each_chunk([d_hidden.reborrow()], [sums.reborrow()], |mut chunk, [mut d], [mut sums]| {
            let (sum, count) = (sum.rows_of(chunk.tokens.clone()), chunk.tokens.len());
            let sums = &mut sums.row_mut(0)[..2 * size];
            sums.fill(0.0);
            chunk.drop(Site::Last, d.reborrow());
            let room = &mut chunk.room.hidden;
            room.first_mut(count).copy(d.view());
            norm.backward(sum, room.first(count), d, sums);
            Ok(())
        })?;
        let all = sums.view();
        let gradient = gradients.final_norm.as_mut();
        gradient.into_iter().for_each(|norm| norm.add_gradient(all.block(0..all.rows(), 0..2 * size)));
        Ok(())
    }
}
