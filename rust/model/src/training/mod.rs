//! From a batch to the gradients of all weights, and from gradients to other weights.
//!
//! [`Encoder::record`] is a forward pass that keeps what the way back needs; [`Encoder::backward`] takes the gradients of what came out
//! to those of the weights. In between whoever calls makes a loss of the outputs: no loss is known here. Each ingredient has its
//! `backward` beside its `forward`. The batch is ragged, so padding costs nothing here either.
//!
//! Tokens are cut into chunks that depend on their number alone, and sums over tokens are taken in the order of the tokens or of the
//! chunks: the same batch gives the same bits on any number of threads.

mod bottleneck;
mod gradients;
mod layer;
mod loss;
mod optimizer;
mod pass;
mod record;
mod stack;
mod tape;

pub use gradients::Gradients;
pub use loss::cross_entropy;
pub use optimizer::{AdamW, Optimizer, Rule, Sgd};
pub use pass::Dropout;
pub(crate) use pass::{Chunk, Pass, Site};
pub(crate) use record::input_gradient;
pub use record::{Cotangents, Recipe, Recording};
pub(crate) use tape::{Flow, Tape, Transposed, TransposedAttention};
