//! Each head's queries and keys are normalised before they meet: RMSNorm over a head's channels, with weights that all heads of
//! queries, and all of keys, share (Henry et al. 2020, arXiv 2010.04245).

use std::ops::Range;

use ferroformer_kernels::{Mat, MatMut};

use super::LayerNorm;
use crate::blueprint::{Blueprint, RmsNormSpec};
use crate::error::Result;
use crate::export::ValuesMut;
use crate::loader::{Loader, Slot};
use crate::training::Pass;

pub(crate) struct QueryKeyNorm {
    /// Of queries and of keys.
    norms: [LayerNorm; 2],
    /// Where they lie in a row of queries, keys and values.
    columns: [Range<usize>; 2],
    head_dim: usize,
}

fn scopes(scope: &str) -> [String; 2] {
    ["query", "key"].map(|name| format!("{scope}.{name}_norm"))
}

impl QueryKeyNorm {
    pub(crate) fn slots(blueprint: &Blueprint, spec: RmsNormSpec, scope: &str) -> Vec<Slot> {
        let slots = |scope: String| LayerNorm::slots(&scope, blueprint.attention.head_dim, spec.norm(), false);
        scopes(scope).into_iter().flat_map(slots).collect()
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, spec: RmsNormSpec, scope: &str) -> Result<Self> {
        let (head_dim, [queries, keys, _]) = (blueprint.attention.head_dim, blueprint.attention.qkv_sizes());
        let [query, key] = scopes(scope).map(|scope| LayerNorm::load(loader, scope, head_dim, spec.norm(), false));
        Ok(Self { norms: [query?, key?], columns: [0..queries, queries..queries + keys], head_dim })
    }

    /// Some tokens' queries and keys, in the first columns of qkv, in place. Where there are more columns than the `size` of queries,
    /// keys and values together, what they were is left in those.
    pub(crate) fn forward(&self, size: usize, mut qkv: MatMut) {
        let (rows, cols) = (qkv.rows(), qkv.cols());
        if cols > size {
            (0..rows).for_each(|t| qkv.row_mut(t).copy_within(0..cols - size, size));
        }
        for (norm, columns) in self.norms.iter().zip(&self.columns) {
            norm.forward_of_heads(qkv.reborrow().into_block(0..rows, columns.clone()));
        }
    }

    /// What [`forward`](Self::forward) left in qkv and the gradient of what it made, in the first columns of d_qkv -> that of what it
    /// read, in its place; those of the weights are added to `gradient`. `sums` has a row for each chunk.
    pub(crate) fn backward(
        &self,
        pass: &Pass,
        size: usize,
        qkv: Mat,
        d_qkv: MatMut,
        mut sums: MatMut,
        gradient: &mut QueryKeyNorm,
    ) -> Result<()> {
        let width = 2 * self.head_dim;
        pass.for_each_chunk([d_qkv], [sums.reborrow()], |chunk, [mut d], [mut sums]| {
            let (qkv, rows) = (qkv.rows_of(chunk.tokens.clone()), chunk.tokens.len());
            let sums = &mut sums.row_mut(0)[..2 * width];
            sums.fill(0.0);
            for ((norm, columns), sums) in self.norms.iter().zip(&self.columns).zip(sums.chunks_exact_mut(width)) {
                let before = qkv.block(0..rows, size + columns.start..size + columns.end);
                norm.backward_of_heads(before, d.reborrow().into_block(0..rows, columns.clone()), sums);
            }
            Ok(())
        })?;
        let sums = sums.view();
        for (i, norm) in gradient.norms.iter_mut().enumerate() {
            norm.add_gradient(sums.block(0..sums.rows(), i * width..(i + 1) * width));
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.norms.iter().all(LayerNorm::is_empty)
    }

    pub(crate) fn norms(&self) -> impl Iterator<Item = &LayerNorm> {
        self.norms.iter()
    }

    pub(crate) fn floats_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.norms.iter_mut().flat_map(LayerNorm::floats_mut)
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        self.norms.iter_mut().find_map(|norm| norm.slot_mut(slot))
    }
}
