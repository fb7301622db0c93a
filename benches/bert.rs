//! Encoders of the sizes that everybody knows, with made-up weights.

use std::collections::HashMap;

use ferroformer_kernels::{Level, Precision};
use ferroformer_model::{Blueprint, Encoder, Source};

/// (name, layers, hidden size, heads)
pub const MODELS: [(&str, usize, usize, usize); 2] = [("MiniLM-L6", 6, 384, 12), ("bert-base", 12, 768, 12)];

/// With a classifier of two labels or without.
pub fn encoder(level: Level, (_, layers, hidden, heads): (&str, usize, usize, usize), classifier: bool) -> Encoder {
    let top = match classifier {
        true => r#""pooler": {"activation": "tanh"}, "head": {"reads": "pooled", "outputs": 2}"#,
        false => r#""pooler": null"#,
    };
    let blueprint = format!(
        r#"{{
            "hidden_size": {hidden}, "num_layers": {layers},
            "embeddings": {{"vocab_size": 30522, "positions": 512, "token_types": 2, "norm": {{"eps": 1e-12}}}},
            "attention": {{"heads": {heads}, "head_dim": {}}},
            "feed_forward": {{"size": {}, "activation": "gelu"}},
            "norm": {{"kind": "layer_norm", "eps": 1e-12, "placement": "post"}},
            {top}
        }}"#,
        hidden / heads,
        4 * hidden
    );
    let (tensor_names, spreads) = (&HashMap::new(), &HashMap::new());
    let source = Source { checkpoint: None, tensor_names, initializer_range: 0.02, spreads, seed: 0 };
    Encoder::load(Blueprint::from_json(&blueprint).expect("a blueprint"), level, Precision::Float32, &source, 2)
        .expect("memory")
}

/// Of the products of a forward pass over rows of these lengths: four times hidden^2 for attention and eight for the
/// feed-forward part, and the scores.
pub fn operations(encoder: &Encoder, lengths: &[usize]) -> f64 {
    let (layers, hidden) = (encoder.blueprint().num_layers, encoder.blueprint().hidden_size);
    2.0 * lengths.iter().map(|length| layers * length * hidden * (12 * hidden + 2 * length)).sum::<usize>() as f64
}
