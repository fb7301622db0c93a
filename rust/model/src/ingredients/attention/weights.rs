//! Which weights an attention has, and where they come from and go.

use super::super::convolution::Convolution;
use super::super::linear::Layer;
use super::super::{LayerNorm, Linear, QueryKeyNorm};
use super::Attention;
use crate::blueprint::{AttentionSpec, Blueprint, BottleneckAttention, BottleneckSpec};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::weights::Place;

/// The layer that makes the values of the convolution, and where its others are.
const CONVOLVED: &str = "convolution.value";
const CONVOLUTION: &str = "convolution";

fn projection_parts(blueprint: &Blueprint, scope: &str, source: bool) -> Vec<Layer> {
    let spec = &blueprint.attention;
    let [queries, keys, values] = spec.qkv_sizes();
    let (biased, groups, stored) = (spec.bias && spec.key_bias, spec.groups, spec.stored);
    if source {
        return vec![Layer::new(format!("{scope}.query"), queries, spec.bias).grouped(groups.query, stored)];
    }
    if spec.fused {
        let mut whole = Layer::new(format!("{scope}.qkv"), spec.qkv_size(), biased).grouped(1, stored);
        if spec.bias && !spec.key_bias {
            let apart = [("query", 0..queries), ("value", queries + keys..spec.qkv_size())];
            whole = whole.with_biases(apart.map(|(name, outputs)| (format!("{scope}.{name}"), outputs)).into());
        }
        if spec.by_head {
            whole = whole.by_head([3, spec.heads, spec.head_dim]);
        }
        return vec![whole];
    }
    let part = |(name, size, groups, bias)| Layer::new(format!("{scope}.{name}"), size, bias).grouped(groups, stored);
    if let Some(BottleneckSpec { size, attention: BottleneckAttention::Second }) = blueprint.bottleneck {
        let second = |name, outputs| Layer::new(format!("{scope}.{name}"), outputs, spec.bias).reading(0..size);
        let value = Layer::new(format!("{scope}.value"), values, spec.bias);
        return vec![second("query", queries), second("key", keys), value.reading(size..blueprint.attention_inputs())];
    }
    let mut parts = vec![
        part(("query", queries, groups.query, spec.bias)),
        part(("key", keys, groups.key, biased)),
        part(("value", values, groups.value, spec.bias)),
    ];
    parts.extend(spec.convolution.map(|_| part((CONVOLVED, spec.convolved_size(), 1, spec.bias))));
    parts
}

/// The layers that read a source, and its size.
fn source_parts(blueprint: &Blueprint, scope: &str, source: bool) -> Option<(Vec<Layer>, usize)> {
    let size = blueprint.source.as_ref().filter(|_| source)?.hidden_size;
    let (spec, [_, keys, values]) = (&blueprint.attention, blueprint.attention.qkv_sizes());
    let part =
        |(name, size, groups, bias)| Layer::new(format!("{scope}.{name}"), size, bias).grouped(groups, spec.stored);
    let (keys, values) =
        (("key", keys, spec.groups.key, spec.bias && spec.key_bias), ("value", values, spec.groups.value, spec.bias));
    Some(([keys, values].map(part).into(), size))
}

fn position_parts(blueprint: &Blueprint, scope: &str) -> Option<Vec<Layer>> {
    let attention = &blueprint.attention;
    let spec = attention.disentangled.filter(|spec| !spec.shared)?;
    let part = |name, bias| Layer::new(format!("{scope}.{name}"), blueprint.attention_size(), bias);
    let keys = spec.keys.then(|| part("position_key", attention.bias && attention.key_bias));
    let queries = spec.queries.then(|| part("position_query", attention.bias));
    Some(keys.into_iter().chain(queries).collect())
}

fn output_parts(blueprint: &Blueprint, scope: &str) -> Vec<Layer> {
    let AttentionSpec { output_bias, groups, stored, .. } = &blueprint.attention;
    vec![Layer::new(format!("{scope}.output"), blueprint.stream_size(), *output_bias).grouped(groups.output, *stored)]
}

impl Attention {
    pub(crate) fn slots(blueprint: &Blueprint, scope: &str, source: bool) -> impl Iterator<Item = Slot> + use<> {
        let projection = Linear::slots(&projection_parts(blueprint, scope, source), blueprint.attention_inputs());
        let positions = position_parts(blueprint, scope).unwrap_or_default();
        let norm = blueprint.attention.query_key_norm.filter(|_| !source).into_iter();
        let norm: Vec<_> = norm.flat_map(|spec| QueryKeyNorm::slots(blueprint, spec, scope)).collect();
        let (parts, size) = source_parts(blueprint, scope, source).unwrap_or_default();
        let convolution = |spec| Convolution::slots(blueprint, spec, &format!("{scope}.{CONVOLUTION}"));
        let convolution = blueprint.attention.convolution.map(convolution);
        projection
            .chain(Linear::slots(&parts, size))
            .chain(Linear::slots(&positions, blueprint.hidden_size))
            .chain(convolution.into_iter().flatten())
            .chain(Linear::slots(&output_parts(blueprint, scope), blueprint.context_size()))
            .chain(norm)
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, scope: &str, source: bool) -> Result<Self> {
        let projection = projection_parts(blueprint, scope, source);
        let projection = Linear::load(loader, projection, blueprint.attention_inputs())?;
        let norm = blueprint.attention.query_key_norm.filter(|_| !source);
        let source = source_parts(blueprint, scope, source);
        let source = source.map(|(parts, size)| Linear::load(loader, parts, size)).transpose()?;
        let output = Linear::load(loader, output_parts(blueprint, scope), blueprint.context_size())?;
        let convolution = |spec| Convolution::load(loader, blueprint, spec, &format!("{scope}.{CONVOLUTION}"));
        let positions = position_parts(blueprint, scope);
        let positions = positions.map(|parts| Linear::load(loader, parts, blueprint.hidden_size)).transpose()?;
        let spec = &blueprint.attention;
        let norm = norm.map(|norm| QueryKeyNorm::load(loader, blueprint, norm, scope));
        Ok(Self {
            projection,
            output,
            query_key_norm: norm.transpose()?,
            source,
            positions,
            disentangled: spec.disentangled,
            masked: blueprint.embeddings.masked,
            convolution: spec.convolution.map(convolution).transpose()?,
            in_floats: !spec.rotary.is_empty()
                || spec.disentangled.is_some()
                || spec.query_key_norm.is_some()
                || spec.convolution.is_some()
                || spec.causal
                || blueprint.source.is_some(),
            scale: 1.0 / ((spec.head_dim * spec.scale_factor) as f32).sqrt(),
            soft_cap: spec.soft_cap,
            causal: spec.causal,
            heads: spec.heads,
            key_heads: spec.key_heads(),
            head_dim: spec.head_dim,
            level: loader.level,
        })
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        [&self.projection].into_iter().chain(&self.source).chain([&self.output]).chain(&self.positions)
    }

    fn norms(&self) -> impl Iterator<Item = &LayerNorm> {
        self.query_key_norm.iter().flat_map(QueryKeyNorm::norms)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.linears().all(Linear::is_empty)
            && self.convolution.as_ref().is_none_or(Convolution::is_empty)
            && self.query_key_norm.as_ref().is_none_or(QueryKeyNorm::is_empty)
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let convolution = self.convolution.iter().flat_map(Convolution::exports);
        self.linears().flat_map(Linear::exports).chain(convolution).chain(self.norms().flat_map(LayerNorm::exports))
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let Self { projection, source, output, positions, convolution, query_key_norm, .. } = self;
        let linears = [projection].into_iter().chain(source).chain([output]).chain(positions);
        linears
            .flat_map(Linear::floats_mut)
            .chain(convolution.iter_mut().flat_map(Convolution::floats_mut))
            .chain(query_key_norm.iter_mut().flat_map(QueryKeyNorm::floats_mut))
            .collect()
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let convolution = self.convolution.iter().flat_map(Convolution::places);
        self.linears()
            .flat_map(Linear::places)
            .chain(convolution)
            .chain(self.norms().flat_map(LayerNorm::places))
            .collect()
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        if self.norms().any(|norm| norm.holds(slot)) {
            return self.query_key_norm.as_mut()?.slot_mut(slot);
        }
        let Self { projection, source, output, positions, convolution, .. } = self;
        let mut linears = [projection].into_iter().chain(source).chain([output]).chain(positions);
        linears.find_map(|linear| linear.slot_mut(slot)).or_else(|| convolution.as_mut()?.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let convolution = self.convolution.iter().flat_map(Convolution::pieces);
        self.linears()
            .flat_map(Linear::pieces)
            .chain(convolution)
            .chain(self.norms().flat_map(LayerNorm::pieces))
            .collect()
    }
}
