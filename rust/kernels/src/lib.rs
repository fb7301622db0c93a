//! Numbers only: kernels on slices of floats, their instruction sets and their threads.
//!
//! A public operation checks its shapes, shares its rows or columns out over [`Threads`], and enters each share through
//! one door, `isa::dispatch`, into code compiled for the [`Level`]. Below the door there is one algorithm, generic over
//! the ISA's token, on one thread, without allocation. What each kernel computes is defined by its twin in [`naive`].

mod add;
mod arena;
mod attention;
mod buffer;
mod convolution;
mod cross_entropy;
mod dropout;
mod gather;
mod gemm;
mod head_norm;
mod isa;
mod key_values;
mod layer_norm;
mod layer_norm_backward;
mod mat;
mod math;
pub mod naive;
mod narrow;
mod optimizer;
pub mod peak;
mod pieces;
mod quota;
mod rotary;
mod rows;
mod soft_cap;
mod softmax;
mod spread;
mod stored;
#[cfg(test)]
mod testing;
mod threads;
mod top_k;

pub use add::add;
pub use arena::Arena;
pub use attention::{
    AttentionGradients, Bias, Cached, CachedQuery, Heads, Positions, Probabilities, Qkv, attention, attention_backward,
    attention_backward_scratch, attention_cached, attention_cached_scratch, attention_scratch,
    positions_backward_scratch, positions_scratch,
};
pub use buffer::{Buffer, Element, NoMemory, bytes_of, bytes_of_mut, floats_of, floats_of_mut, zeroed_vec};
pub use convolution::{Neighbours, depthwise, depthwise_taps, dynamic, dynamic_taps};
pub use cross_entropy::cross_entropy;
pub use dropout::Dropout;
pub use gather::{Lookup, Table, gather_add, scatter_add};
pub use gemm::{Epilogue, Input, LAYOUT_VERSION, Output, PackedLinear, Precision, linear, weight_gradient};
pub use head_norm::{head_norm, head_norm_backward};
pub use isa::{IsaError, Level};
pub use key_values::KeyValues;
pub use layer_norm::{Norm, layer_norm};
pub use layer_norm_backward::layer_norm_backward;
pub use mat::{Mat, MatMut, padded_stride};
pub use math::{Activation, activation_backward, gate, gate_backward};
pub use narrow::{Form, Narrow, narrow};
pub use optimizer::{AdamW, Sgd, adamw, scale, sgd, sum_of_squares};
pub use quota::{ThreadsError, checked_threads, default_threads};
pub use rotary::{Turn, rotary};
pub use soft_cap::{soft_cap, soft_cap_backward};
pub use softmax::softmax;
pub use stored::{MappedFile, Stored};
pub use threads::Threads;
pub use top_k::log_softmax_top_k;
