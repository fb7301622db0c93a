//! Whether a blueprint says what can be computed. No number of it is used before this.

use super::{
    AttentionGroups, AttentionSpec, Blueprint, BottleneckAttention, FeedForwardGroups, HeadInput, HeadSpec,
    NormPlacement, RelativeSpec, WeightShape,
};
use crate::error::{ModelError, Result};

impl Blueprint {
    pub(super) fn check(&self) -> Result<()> {
        if let Some(source) = &self.source {
            let plain = source.source.is_none() && source.pooler.is_none() && source.head.is_none();
            if !plain || source.attention.causal || source.attention.disentangled.is_some() {
                return Err(refused(
                    "a source is an encoder without pooler and head, without vectors of distances".to_owned(),
                ));
            }
            if source.embeddings.shared
                && [source.embeddings.vocab_size, source.embedding_size()]
                    != [self.embeddings.vocab_size, self.embedding_size()]
            {
                return Err(refused("a source that shares words has others".to_owned()));
            }
            source.check()?;
        }
        self.check_sizes()?;
        self.check_layers()?;
        self.check_groups()?;
        self.check_convolution()?;
        self.check_bottleneck()?;
        self.check_head()?;
        let embedding_norm = self.embeddings.norm.map_or(0.0, |norm| norm.eps);
        let transform = self.head.and_then(|head| head.transform?.norm).map_or(0.0, |norm| norm.eps);
        let pooler = self.pooler.and_then(|pooler| pooler.norm).map_or(0.0, |norm| norm.eps);
        for (name, eps) in [
            ("embeddings.norm.eps", embedding_norm),
            ("norm.eps", self.norm.eps),
            ("norm.last_eps", self.norm.last().eps),
            ("head.transform.norm.eps", transform),
            ("pooler.norm.eps", pooler),
            ("attention.query_key_norm.eps", self.attention.query_key_norm.map_or(0.0, |norm| norm.eps)),
        ] {
            if !(eps >= 0.0 && eps.is_finite()) {
                return Err(refused(format!("{name} is {eps}; expected a finite number >= 0")));
            }
        }
        self.check_numbers()
    }

    fn check_numbers(&self) -> Result<()> {
        let factors = self.attention.rotary.iter().map(|rotary| ("attention.rotary.factor", rotary.factor));
        let others = [
            ("embeddings.factor", self.embeddings.factor.map_or(1.0, |factor| factor.value)),
            ("norm.offset", self.norm.offset),
            ("head.factor", self.head.and_then(|head| head.factor).unwrap_or(1.0)),
        ];
        if let Some((name, x)) = factors.chain(others).find(|(_, x)| !x.is_finite()) {
            return Err(refused(format!("{name} is {x}; expected a finite number")));
        }
        let caps = [
            ("attention.soft_cap", self.attention.soft_cap),
            ("head.soft_cap", self.head.and_then(|head| head.soft_cap)),
        ];
        match caps.into_iter().find(|(_, cap)| cap.is_some_and(|cap| !(cap > 0.0 && cap.is_finite()))) {
            Some((name, cap)) => {
                Err(refused(format!("{name} is {}; expected a finite number > 0", cap.unwrap_or(0.0))))
            }
            None => Ok(()),
        }
    }

    /// Every size is positive and small enough that their products cannot overflow.
    fn check_sizes(&self) -> Result<()> {
        const LIMIT: usize = 1 << 31;
        // Every slot has a name: a damaged file must not ask for a billion.
        const MOST_LAYERS: usize = 1 << 12;
        let e = &self.embeddings;
        let transform = self.head.and_then(|head| head.transform?.size);
        let sizes = [
            ("hidden_size", Some(self.hidden_size)),
            ("num_layers", Some(self.num_layers)),
            ("embeddings.vocab_size", Some(e.vocab_size)),
            ("embeddings.size", e.size),
            ("embeddings.positions", e.positions),
            ("embeddings.token_types", e.token_types),
            ("embeddings.task_types", e.task_types),
            ("attention.heads", Some(self.attention.heads)),
            ("attention.head_dim", Some(self.attention.head_dim)),
            ("attention.rotary.table.positions", self.attention.rotary_positions()),
            ("attention.disentangled.span", self.attention.disentangled.map(|d| d.span)),
            ("attention.scale_factor", Some(self.attention.scale_factor)),
            ("attention.relative.buckets", self.attention.relative.map(|relative| relative.buckets)),
            ("feed_forward.size", Some(self.feed_forward.size)),
            ("feed_forward.count", Some(self.feed_forward.count)),
            ("bottleneck.size", self.bottleneck.map(|bottleneck| bottleneck.size)),
            ("attention.convolution.kernel", self.attention.convolution.map(|convolution| convolution.kernel)),
            ("head.outputs", self.head.map(|head| head.outputs)),
            ("head.transform.size", transform),
            ("second_head.outputs", self.second_head.map(|head| head.outputs)),
        ];
        for (name, size) in sizes {
            if let Some(size) = size.filter(|size| *size == 0 || *size > LIMIT) {
                return Err(refused(format!("{name} is {size}; expected 1 <= {name} <= {LIMIT}")));
            }
        }
        for (name, count) in [("num_layers", self.num_layers), ("feed_forward.count", self.feed_forward.count)] {
            if count > MOST_LAYERS {
                return Err(refused(format!("{name} is {count}; at most {MOST_LAYERS} are supported")));
            }
        }
        if !e.projection && self.embedding_size() != self.hidden_size {
            let problem = format!("embeddings.size is {}, hidden_size {}", self.embedding_size(), self.hidden_size);
            return Err(refused(format!("{problem}: a projection is needed")));
        }
        if e.positions.is_some_and(|rows| rows <= e.position_offset) || e.positions.is_none() && e.position_offset > 0 {
            let rows = e.positions.unwrap_or(0);
            let problem = format!("embeddings.positions is {rows}, embeddings.position_offset {}", e.position_offset);
            return Err(refused(format!("{problem}: no position is left")));
        }
        if e.position_offset > 0 && (e.padding_position.is_some() || !self.attention.rotary.is_empty()) {
            return Err(refused("embeddings.position_offset is for tables of positions alone".to_owned()));
        }
        if e.position_columns && e.position_offset == 0 {
            return Err(refused("embeddings.position_columns is for positions with an offset".to_owned()));
        }
        if let Some(sines) = &e.sines
            && (e.positions.is_none() || sines.frequencies.iter().any(|x| !x.is_finite()))
        {
            return Err(refused("embeddings.sines are of a table of positions and of finite numbers".to_owned()));
        }
        if e.words_projected && !e.projection || e.neighbours && !e.words_projected {
            return Err(refused(
                "embeddings.words_projected goes with a projection, embeddings.neighbours with that".to_owned(),
            ));
        }
        if e.neighbours && (self.attention.causal || self.source.is_some() || e.shared) {
            return Err(refused("embeddings.neighbours are an encoder's: a word sees the one behind it".to_owned()));
        }
        if e.masked && e.projection {
            return Err(refused("embeddings cannot be both masked and projected".to_owned()));
        }
        Ok(())
    }

    fn check_layers(&self) -> Result<()> {
        let (count, layers) = (self.layers.len(), self.num_layers);
        if count != 0 && count != layers {
            return Err(refused(format!("layers has {count} entries; expected none or num_layers = {layers}")));
        }
        for (i, layer) in self.layers.iter().enumerate() {
            if !layer.attention_norm && !self.pre_norm() {
                return Err(refused(format!("layer {i} has no norm after attention")));
            }
            if layer.shares.is_some_and(|j| j >= i || self.layers[j].shares.is_some()) {
                return Err(refused(format!("layer {i} shares the weights of no lower layer that has its own")));
            }
            if layer.rotary.is_some_and(|r| r >= self.attention.rotary.len()) {
                return Err(refused(format!("layer {i} has a rotation that attention.rotary lacks")));
            }
            if let Some(scale) = layer.scale.filter(|scale| !scale.is_finite()) {
                return Err(refused(format!("layer {i} has the scale {scale}; expected a finite number")));
            }
        }
        if self.parallel.is_some() && (self.norm.placement != NormPlacement::Pre || self.source.is_some()) {
            return Err(refused("parallel sub-layers go with norms before them and without a source".to_owned()));
        }
        if let Some(relative) = self.attention.relative {
            let [_, single] = relative.side();
            if single == 0 || relative.max_distance <= single || relative.max_distance > 1 << 31 {
                let RelativeSpec { buckets, max_distance, .. } = relative;
                let problem = format!("attention.relative has {buckets} buckets up to the distance {max_distance}");
                let expected = "expected a bucket for a single distance on each side, and distances beyond these";
                return Err(refused(format!("{problem}; {expected}")));
            }
        }
        if self.attention.disentangled.is_some_and(|d| d.span < 4 || !d.keys && !d.queries) {
            return Err(refused("attention.disentangled needs a span of 4 or more, and keys or queries".to_owned()));
        }
        let (heads, key_heads, dim) = (self.attention.heads, self.attention.key_heads(), self.attention.head_dim);
        if key_heads == 0 || !heads.is_multiple_of(key_heads) {
            return Err(refused(format!(
                "attention.heads = {heads} is no multiple of attention.key_heads = {key_heads}"
            )));
        }
        if self.attention.by_head && (!self.attention.fused || key_heads != heads) {
            return Err(refused("attention.by_head is for weights held as one, with as many heads of keys".to_owned()));
        }
        if self.attention.stored != WeightShape::Rows && self.attention.by_head {
            return Err(refused("attention.by_head is for weights held as rows".to_owned()));
        }
        if self.attention.rotary.iter().any(|rotary| 2 * rotary.pairs() > dim) {
            return Err(refused(format!("a rotation turns more than the {dim} channels of a head")));
        }
        Ok(())
    }

    /// Groups divide what they cut.
    fn check_groups(&self) -> Result<()> {
        let (attention, feed_forward) = (&self.attention, &self.feed_forward);
        let ([queries, keys, values], hidden) = (attention.qkv_sizes(), self.stream_size());
        let all = [
            ("attention.groups.query", attention.groups.query, [hidden, queries]),
            ("attention.groups.key", attention.groups.key, [hidden, keys]),
            ("attention.groups.value", attention.groups.value, [hidden, values]),
            ("attention.groups.output", attention.groups.output, [self.context_size(), hidden]),
            ("feed_forward.groups.up", feed_forward.groups.up, [hidden, feed_forward.size]),
            ("feed_forward.groups.down", feed_forward.groups.down, [feed_forward.size, hidden]),
        ];
        for (name, groups, sizes) in all {
            if groups == 0 || sizes.iter().any(|size| !size.is_multiple_of(groups)) {
                return Err(refused(format!("{name} is {groups}, no divisor of {sizes:?}")));
            }
        }
        let whole = |sizes: &[usize]| sizes.iter().all(|groups| *groups == 1);
        let AttentionGroups { query, key, value, output } = attention.groups;
        let FeedForwardGroups { up, down } = feed_forward.groups;
        let transposed = |stored| stored == WeightShape::Transposed;
        if transposed(attention.stored) && !whole(&[query, key, value, output])
            || transposed(feed_forward.stored) && !whole(&[up, down])
        {
            return Err(refused("weights held as (inputs, outputs) have no groups".to_owned()));
        }
        if attention.fused && !whole(&[query, key, value]) || feed_forward.gated && !whole(&[up]) {
            return Err(refused("layers that are fused or gated have no groups".to_owned()));
        }
        if attention.disentangled.is_some() && !whole(&[query, key, value]) {
            return Err(refused("disentangled attention has no groups".to_owned()));
        }
        Ok(())
    }

    fn check_convolution(&self) -> Result<()> {
        let attention = &self.attention;
        let Some(convolution) = attention.convolution else { return Ok(()) };
        if convolution.kernel.is_multiple_of(2) {
            return Err(refused(format!("attention.convolution.kernel is {}; it is odd", convolution.kernel)));
        }
        if attention.key_heads() != attention.heads || attention.fused || self.pre_norm() {
            let problem = "a convolution beside attention wants a head of keys for each of queries, unfused, and norms after sums";
            return Err(refused(problem.to_owned()));
        }
        let alone = attention.rotary.is_empty() && attention.query_key_norm.is_none();
        if attention.causal || self.source.is_some() || !alone {
            let problem = "a convolution beside attention sees what follows a token, and reads queries as they were made: there is no causal attention, no source, no rotation and no norm of queries";
            return Err(refused(problem.to_owned()));
        }
        Ok(())
    }

    fn check_bottleneck(&self) -> Result<()> {
        if self.feed_forward.count > 1 && self.parallel.is_some() {
            return Err(refused("sub-layers that are parallel are two".to_owned()));
        }
        let Some(bottleneck) = self.bottleneck else { return Ok(()) };
        let AttentionSpec { query_key_norm, disentangled, convolution, fused, groups, stored, .. } = &self.attention;
        let plain = *stored == WeightShape::Rows && [groups.query, groups.key, groups.value, groups.output] == [1; 4];
        let alone = query_key_norm.is_none() && disentangled.is_none() && convolution.is_none();
        if self.norm.placement != NormPlacement::Post || self.source.is_some() || !alone || !plain {
            let problem = "a bottleneck goes with norms after sums, without a source, and with plain attention";
            return Err(refused(problem.to_owned()));
        }
        if *fused && bottleneck.attention == BottleneckAttention::Second {
            return Err(refused("queries, keys and values that read different vectors are not fused".to_owned()));
        }
        Ok(())
    }

    fn check_head(&self) -> Result<()> {
        if self.pooler.is_some_and(|pooler| !pooler.dense && (pooler.activation.is_some() || pooler.norm.is_some())) {
            return Err(refused("a pooler without a dense layer has no activation and no norm".to_owned()));
        }
        let plain = |head: &HeadSpec| head.reads == HeadInput::Pooled && head.transform.is_none() && !head.tied;
        if self.second_head.is_some_and(|head| !plain(&head) || self.pooler.is_none() || self.head.is_none()) {
            return Err(refused("a second head is a linear layer on pooled vectors, beside a first".to_owned()));
        }
        let Some(head) = self.head else { return Ok(()) };
        if head.factor.is_some() && head.transform.is_some() {
            return Err(refused("head.factor is for a head without a transform".to_owned()));
        }
        if self.pooler.is_none() && head.reads == HeadInput::Pooled {
            return Err(refused("a head reads the pooled vectors of a model without a pooler".to_owned()));
        }
        let reads = head.transform.and_then(|transform| transform.size).unwrap_or(self.hidden_size);
        if let Some(split) = head.split.filter(|split| *split == 0 || *split >= reads) {
            return Err(refused(format!(
                "head.split is {split}; expected 0 < head.split < {reads}, the head's inputs"
            )));
        }
        if !head.tied {
            return Ok(());
        }
        let reads = head.split.unwrap_or(reads);
        let words = [self.embeddings.vocab_size, self.embedding_size()];
        if [head.outputs, reads] != words {
            let [outputs, inputs] = words;
            return Err(refused(format!(
                "a head of {} outputs from {reads} cannot share word embeddings of ({outputs}, {inputs})",
                head.outputs
            )));
        }
        Ok(())
    }
}

fn refused(problem: String) -> ModelError {
    ModelError::Blueprint(problem)
}
