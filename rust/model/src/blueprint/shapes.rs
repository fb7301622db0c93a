//! What of a blueprint decides the shapes and the order of the weights: what a packed file must agree with.

use super::{AttentionGroups, Blueprint, EmbeddingsSpec};

impl Blueprint {
    /// All that the weights' shapes come from. A pooler is left out: a file may hold one that a model does without.
    pub(crate) fn shapes(&self) -> String {
        let EmbeddingsSpec { vocab_size, size, positions, token_types, task_types, norm, projection, .. } =
            &self.embeddings;
        let layers: Vec<_> = self.layers.iter().map(|layer| (layer.shares, layer.attention_norm)).collect();
        let plain = self.layers.iter().all(|layer| layer.shares.is_none() && layer.attention_norm);
        let (attention, feed_forward) = (&self.attention, self.feed_forward);
        let mut shapes = format!(
            "hidden_size {}, num_layers {}, vocab_size {vocab_size}, positions {positions:?}, token_types {token_types:?}, \
             task_types {task_types:?}, embeddings {size:?} norm {:?} projection {projection}, attention {:?} bias {} {} \
             relative {:?} rotary {:?} distances {:?}, feed_forward {} gated {} bias {}, norm {:?} {:?} bias {}",
            self.hidden_size,
            self.num_layers,
            norm.map(|norm| norm.bias),
            attention.qkv_sizes(),
            attention.bias,
            attention.output_bias,
            attention.relative.map(|relative| (relative.buckets, attention.heads)),
            attention.rotary_positions(),
            attention.disentangled.map(|d| (d.span, d.keys, d.queries, d.shared, d.norm.map(|norm| norm.bias))),
            feed_forward.size,
            feed_forward.gated,
            feed_forward.bias,
            self.norm.kind,
            self.norm.placement,
            self.norm.biased(),
        );
        if attention.relative.is_some_and(|relative| relative.by_layer) {
            shapes += ", relative by layer";
        }
        if !attention.key_bias {
            shapes += ", keys without bias";
        }
        if attention.query_key_norm.is_some() {
            shapes += ", query_key_norm";
        }
        if self.embeddings.words_projected {
            shapes += ", words projected";
            if self.embeddings.projection_bias {
                shapes += " with a bias";
            }
            if self.embeddings.neighbours {
                shapes += " and with neighbours";
            }
        }
        if let Some(bottleneck) = self.bottleneck {
            shapes += &format!(", bottleneck {} {:?}", bottleneck.size, bottleneck.attention);
        }
        if feed_forward.count > 1 {
            shapes += &format!(", feed_forwards {}", feed_forward.count);
        }
        if !plain {
            shapes += &format!(", layers {layers:?}");
        }
        if let Some(parallel) = self.parallel {
            shapes += &format!(", parallel {parallel:?}");
        }
        if let Some(source) = &self.source {
            shapes += &format!(", source ({})", source.shapes());
        }
        let AttentionGroups { query, key, value, output } = attention.groups;
        let groups = [query, key, value, output, feed_forward.groups.up, feed_forward.groups.down];
        if groups != [1; 6] {
            shapes += &format!(", groups {groups:?}");
        }
        if let Some(convolution) = attention.convolution {
            shapes += &format!(", convolution {}", convolution.kernel);
        }
        if let Some(head) = self.head {
            let transform = head.transform.map(|t| (t.size, t.bias, t.norm.map(|norm| norm.bias)));
            shapes += &format!(", head {} bias {} transform {transform:?} tied {}", head.outputs, head.bias, head.tied);
            if let Some(split) = head.split {
                shapes += &format!(" split {split}");
            }
        }
        if let Some(head) = self.second_head {
            shapes += &format!(", second head {} bias {}", head.outputs, head.bias);
        }
        shapes
    }
}
