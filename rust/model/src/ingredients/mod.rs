//! The parts that models are made of. Each file holds one: its slots, how it is loaded and how it runs.
//!
//! An ingredient owns its weights and nothing else. What it computes goes into buffers of the caller, so a
//! later backward pass finds there what the forward pass stored.

mod attention;
mod blind;
mod bottleneck;
mod convolution;
mod disentangled;
mod embeddings;
mod feed_forward;
mod head;
mod linear;
mod norm;
mod pooler;
mod query_key_norm;
mod relative;
mod residual;
mod transform;

pub(crate) use attention::{Around, Attention};
pub(crate) use bottleneck::{Bottleneck, BottleneckRoom};
pub(crate) use convolution::Surroundings;
pub(crate) use disentangled::RelativeEmbeddings;
pub(crate) use embeddings::{EmbeddingRoom, Embeddings};
pub(crate) use feed_forward::FeedForward;
pub(crate) use head::{Head, HeadRoom, SCOPES as HEADS};
pub(crate) use linear::Linear;
pub(crate) use norm::LayerNorm;
pub(crate) use pooler::{Pooler, PoolerRoom};
pub(crate) use query_key_norm::QueryKeyNorm;
pub(crate) use relative::{Distances, RelativeBias, table_of_layer};
pub(crate) use residual::Residual;
pub(crate) use transform::Transform;
