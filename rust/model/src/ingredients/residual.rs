//! How a sub-layer joins the residual stream: after(x + branch(work(before(x)))), with each of the norms that the model has.

use ferroformer_kernels::{Mat, MatMut};

use crate::blueprint::{Blueprint, NormPlacement, NormSpec};
use crate::error::Result;
use crate::loader::{Loader, Slot};

use super::LayerNorm;

#[derive(Default)]
pub(crate) struct Residual {
    pub(crate) before: Option<LayerNorm>,
    pub(crate) branch: Option<LayerNorm>,
    pub(crate) after: Option<LayerNorm>,
}

/// The scopes of before, branch and after. What a post-norm and a pre-norm model have one of has one name; some sub-layers have no such.
fn scopes(blueprint: &Blueprint, scope: &str, normed: bool) -> [Option<String>; 3] {
    let (norm, branch) = (normed.then(|| format!("{scope}.norm")), Some(format!("{scope}.branch_norm")));
    match blueprint.norm.placement {
        NormPlacement::Pre => [norm, None, None],
        NormPlacement::Sandwich => [norm, branch, None],
        NormPlacement::Post => [None, None, norm],
    }
}

impl Residual {
    pub(crate) fn slots(blueprint: &Blueprint, scope: &str, normed: bool) -> impl Iterator<Item = Slot> + use<> {
        let (size, spec) = (blueprint.stream_size(), blueprint.norm);
        let norms = scopes(blueprint, scope, normed).into_iter().flatten();
        norms.flat_map(move |scope| LayerNorm::slots(&scope, size, spec.norm(), spec.biased()))
    }

    /// With norms that are said by `spec`.
    pub(crate) fn load(
        loader: &Loader,
        blueprint: &Blueprint,
        scope: &str,
        normed: bool,
        spec: NormSpec,
    ) -> Result<Self> {
        let size = blueprint.stream_size();
        let load = |scope: Option<String>| {
            scope.map(|scope| LayerNorm::load(loader, scope, size, spec.norm(), spec.biased())).transpose()
        };
        let [before, branch, after] = scopes(blueprint, scope, normed).map(load);
        Ok(Self { before: before?, branch: branch?, after: after? })
    }

    pub(crate) fn norms(&self) -> impl Iterator<Item = &LayerNorm> {
        let Self { before, branch, after } = self;
        before.iter().chain(branch).chain(after)
    }

    pub(crate) fn norms_mut(&mut self) -> impl Iterator<Item = &mut LayerNorm> {
        let Self { before, branch, after } = self;
        before.iter_mut().chain(branch).chain(after)
    }
}

impl Residual {
    /// What is added to a sub-layer's work at once: the stream, unless the work is normalised before.
    pub(crate) fn stream<'a>(&self, x: &'a MatMut) -> Option<Mat<'a>> {
        self.branch.is_none().then(|| x.view())
    }
}
