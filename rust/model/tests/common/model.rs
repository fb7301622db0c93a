//! A small model with initial weights.

use std::collections::HashMap;

use ferroformer_kernels::Level;
use ferroformer_model::{Blueprint, Encoder, Precision, Source};

/// Sizes that divide no vector and no tile; heads are odd, which bf16 has no pairs for.
pub(crate) const BLUEPRINT: &str = r#"{
    "hidden_size": 52, "num_layers": 2,
    "embeddings": {"vocab_size": 97, "positions": 300, "token_types": 2, "norm": {"eps": 1e-12}},
    "attention": {"heads": 4, "head_dim": 13},
    "feed_forward": {"size": 71, "activation": "gelu"},
    "norm": {"kind": "layer_norm", "eps": 1e-12, "placement": "post"},
    "pooler": {"activation": "tanh"}
}"#;

/// [`BLUEPRINT`] with weights in groups, of different numbers and shapes; with a convolution beside its attention; and with a bottleneck,
/// several feed-forwards and norms that are weights alone.
#[allow(dead_code, reason = "not for all tests")]
pub(crate) fn variants() -> [String; 3] {
    let attention = |more: &str| BLUEPRINT.replace("\"head_dim\": 13", &format!("\"head_dim\": 13, {more}"));
    let groups = r#""groups": {"query": 4, "key": 2, "value": 13, "output": 2}, "stored": "convolution""#;
    let feed_forward = r#""size": 78, "groups": {"up": 26, "down": 13}, "stored": "groups""#;
    [
        attention(groups).replace("\"size\": 71", feed_forward),
        attention(r#""convolution": {"kernel": 5}"#).replace("\"heads\": 4", "\"heads\": 3"),
        BLUEPRINT
            .replace("\"num_layers\": 2", r#""num_layers": 2, "bottleneck": {"size": 39, "attention": "second"}"#)
            .replace("\"heads\": 4", "\"heads\": 3")
            .replace("\"size\": 71", "\"size\": 23, \"count\": 3")
            .replace("\"kind\": \"layer_norm\"", "\"kind\": \"affine\""),
    ]
}

pub(crate) const PRECISIONS: [Precision; 3] = [Precision::Float32, Precision::BFloat16, Precision::Int8];

pub(crate) fn initial(blueprint: &str, level: Level, precision: Precision) -> Encoder {
    let source = Source {
        checkpoint: None,
        tensor_names: &HashMap::new(),
        initializer_range: 0.3,
        spreads: &HashMap::new(),
        seed: 1,
    };
    Encoder::load(Blueprint::from_json(blueprint).unwrap(), level, precision, &source, 3).unwrap()
}
