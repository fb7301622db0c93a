//! The room in which a forward pass works: made once, used again, as large as the most tokens in flight at a time.

use std::sync::Mutex;

use ferroformer_kernels::{
    Buffer, Level, Mat, MatMut, Narrow, Threads, attention_cached_scratch, attention_scratch, padded_stride,
    positions_scratch,
};

use crate::batch::Part;
use crate::blueprint::Blueprint;
use crate::error::Result;
use crate::ingredients::{BottleneckRoom, Distances, EmbeddingRoom, HeadRoom, PoolerRoom, Surroundings};
use crate::memory;

/// Rows of activations, apart by a stride that suits the cache.
#[derive(Default)]
pub(crate) struct Rows {
    buffer: Buffer,
    rows: usize,
    cols: usize,
}

impl Rows {
    pub(crate) fn resize(&mut self, rows: usize, cols: usize) -> Result<()> {
        (self.rows, self.cols) = (rows, cols);
        let len = rows.saturating_mul(padded_stride(cols));
        self.buffer.resize(len).map_err(|_| memory::refused("the workspace", len))
    }

    pub(crate) fn mat(&self) -> Mat<'_> {
        Mat::new(&self.buffer, self.rows, self.cols, padded_stride(self.cols))
    }

    pub(crate) fn mat_mut(&mut self) -> MatMut<'_> {
        MatMut::new(&mut self.buffer, self.rows, self.cols, padded_stride(self.cols))
    }
}

impl Rows {
    /// The first rows.
    pub(crate) fn first(&self, rows: usize) -> Mat<'_> {
        self.mat().rows_of(0..rows)
    }

    pub(crate) fn first_mut(&mut self, rows: usize) -> MatMut<'_> {
        let cols = self.cols;
        self.mat_mut().into_block(0..rows, 0..cols)
    }
}

/// What a part works in.
#[derive(Default)]
pub(crate) struct Workspace {
    /// (T, H): what flows from block to block.
    pub(crate) hidden: Rows,
    /// (T, C): what flows inside a block, where that has a bottleneck; else without columns.
    pub(crate) stream: Rows,
    /// (T, all heads x head_dim)
    pub(crate) qkv: Rows,
    /// (T, heads x head_dim)
    pub(crate) context: Rows,
    /// (Ts, twice key heads x head_dim): keys and values of the tokens of a source.
    pub(crate) source: Rows,
    pub(crate) source_narrow: Narrow,
    /// (T, 2 P): of each of the model's rotations.
    pub(crate) angles: Vec<Rows>,
    /// The bias of each distance, where the model has one: for all layers, or for each.
    pub(crate) distances: Vec<Distances>,
    /// The row of each distance, where positions have keys and queries.
    pub(crate) places: Vec<u32>,
    /// Who stands beside whom, where a convolution asks.
    pub(crate) surroundings: Option<Surroundings>,
    pub(crate) pooler: PoolerRoom,
    /// (M, H): what the head reads, where that is some tokens alone.
    pub(crate) selected: Rows,
    /// What the head makes of each token or sequence.
    pub(crate) logits: Rows,
    pub(crate) head: HeadRoom,
    /// Of each thread that works on attention.
    pub(crate) scratch: Buffer,
    /// One for each thread that works on some tokens of the part.
    pub(crate) rooms: Vec<Mutex<Room>>,
}

/// What some tokens of a part work in, from the end of attention to the next.
#[derive(Default)]
pub(crate) struct Room {
    /// What the next product reads, where that is not floats.
    pub(crate) narrow: Narrow,
    /// (t, C): a residual sum before its norm. (C is H where there is no bottleneck.)
    pub(crate) sum: Rows,
    /// (t, C): what a product reads, where that is not the residual stream.
    pub(crate) normed: Rows,
    /// (t, up's outputs)
    pub(crate) feed_forward: Rows,
    pub(crate) embeddings: EmbeddingRoom,
    pub(crate) bottleneck: BottleneckRoom,
}

impl Room {
    pub(crate) fn resize(&mut self, blueprint: &Blueprint, tokens: usize) -> Result<()> {
        self.sum.resize(tokens, blueprint.stream_size())?;
        self.normed.resize(if blueprint.pre_norm() { tokens } else { 0 }, blueprint.stream_size())?;
        self.bottleneck.resize(blueprint, tokens)?;
        self.feed_forward.resize(tokens, blueprint.feed_forward.up_size())
    }
}

impl Workspace {
    /// Room for a part, whose tokens attend to so many others at most.
    pub(crate) fn resize(
        &mut self,
        level: Level,
        threads: &Threads,
        blueprint: &Blueprint,
        part: &Part,
        longest: usize,
    ) -> Result<()> {
        let (tokens, hidden, heads) = (part.tokens(), blueprint.hidden_size, blueprint.context_size());
        if let Some(spec) = blueprint.attention.convolution {
            self.surroundings.get_or_insert_default().resize(spec, threads, part);
        }
        self.hidden.resize(tokens, hidden)?;
        self.stream.resize(tokens, blueprint.bottleneck.map_or(0, |bottleneck| bottleneck.size))?;
        self.qkv.resize(tokens, blueprint.attention.qkv_size())?;
        self.context.resize(tokens, heads)?;
        self.rooms.resize_with(threads.count(), Mutex::default);
        let (dim, positions) = (blueprint.attention.head_dim, blueprint.attention.disentangled.map(|spec| spec.rows()));
        let positions = positions.map_or(0, |positions| positions_scratch(level, longest, dim, positions));
        let scratch = threads.count() * (attention_scratch(level, longest, dim) + positions);
        self.scratch.resize(scratch).map_err(|_| memory::refused("the workspace", scratch))
    }

    /// Room for attention to lists of so many slots.
    pub(crate) fn resize_cached(&mut self, threads: &Threads, blueprint: &Blueprint, longest: usize) -> Result<()> {
        let attention = &blueprint.attention;
        let (heads, key_heads) = (attention.heads, attention.key_heads());
        let scratch = threads.count() * attention_cached_scratch(heads, key_heads, attention.head_dim, longest);
        let scratch = scratch.max(self.scratch.len());
        self.scratch.resize(scratch).map_err(|_| memory::refused("the workspace", scratch))
    }
}
