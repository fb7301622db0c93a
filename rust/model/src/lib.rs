//! Models from ingredients, by blueprint.
//!
//! A [`Blueprint`] names the ingredients of a model in the field's words; a [`Checkpoint`] holds tensors; [`Encoder::load`]
//! puts the tensors into the ingredients. A call makes a ragged [`Batch`] of its padded arguments, cuts it into parts,
//! and takes each through embeddings and blocks in a reusable workspace. No architecture has a name here.

#![forbid(unsafe_code)]

mod batch;
mod block;
mod blueprint;
mod cache;
mod cancel;
mod checkpoint;
mod checksum;
mod encoder;
mod error;
mod export;
mod ingredients;
mod init;
mod loader;
mod memory;
mod order;
mod outputs;
mod packed_file;
mod pooling;
mod recall;
mod rotation;
mod stack;
mod training;
mod weights;
mod workspace;

pub use batch::{Batch, Padded};
pub use blueprint::{Blueprint, HeadInput};
pub use cache::Cache;
pub use cancel::Cancel;
pub use checkpoint::{Checkpoint, Tensor};
pub use encoder::{Encoder, SentencePooling};
pub use error::{ModelError, Result};
pub use ferroformer_kernels::Precision;
pub use loader::{Slot, Source};
pub use outputs::{Outputs, Want};
pub use pooling::Pooling;
pub use recall::SourceStates;
pub use training::cross_entropy;
pub use training::{AdamW, Cotangents, Dropout, Gradients, Optimizer, Recipe, Recording, Rule, Sgd};
