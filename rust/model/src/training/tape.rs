//! The memory of a pass through the model and back: one block of floats for all activations that are kept, one for what flows
//! back through a layer. Both are used again by the next batch.

use std::sync::Mutex;

use ferroformer_kernels::{
    Buffer, Level, MatMut, Narrow, PackedLinear, Threads, add, attention_backward_scratch, attention_scratch,
    padded_stride, positions_backward_scratch, positions_scratch,
};

use super::pass::{ChunkRoom, Pass, Site, chunks, longest_chunk};
use crate::batch::Part;
use crate::block::Block;
use crate::blueprint::Blueprint;
use crate::encoder::Encoder;
use crate::error::Result;
use crate::ingredients::{Distances, HeadRoom, Linear, PoolerRoom, Surroundings};
use crate::memory;
use crate::rotation;
use crate::workspace::Rows;

/// The sizes of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) tokens: usize,
    pub(crate) longest: usize,
}

#[derive(Default)]
pub(crate) struct Tape {
    floats: Buffer,
    flow: Buffer,
    pub(crate) scratch: Buffer,
    pub(crate) rooms: Vec<Mutex<ChunkRoom>>,
    pub(crate) transposed: Option<Transposed>,
    embedding_transposed: Option<PackedLinear>,
    /// Of all tokens: the angles of each rotation, and the bias of each distance with its gradient.
    angles: Vec<Rows>,
    distances: Option<Distances>,
    d_bias: Option<Vec<f32>>,
    positions: Option<PositionRoom>,
    surroundings: Option<Surroundings>,
    top: Top,
}

/// Where positions have keys and queries: what layers read of them, what a layer makes, and the way back.
#[derive(Default)]
pub(crate) struct PositionRoom {
    /// The row of each distance.
    pub(crate) places: Vec<u32>,
    /// (P, H): what all layers read, and what one does after dropout.
    all: Rows,
    pub(crate) read: Rows,
    pub(crate) narrow: Narrow,
    pub(crate) projected: Rows,
    pub(crate) d_projected: Rows,
    /// (P, H): of what a layer read, then over all layers.
    pub(crate) d_read: Rows,
    pub(crate) d_all: Rows,
    pub(crate) transposed: Option<PackedLinear>,
}

impl PositionRoom {
    /// What a layer reads and makes.
    pub(crate) fn project(&mut self, pass: &Pass, layer: usize, block: &Block) -> Result<()> {
        let all = self.all.mat();
        self.read.resize(all.rows(), all.cols())?;
        self.read.mat_mut().copy(all);
        if let Some(dropout) = pass.step.dropout(Site::Positions(layer)) {
            dropout.apply(pass.step.level, 0, self.read.mat_mut());
        }
        block.project_positions(pass.threads, self.read.mat(), &mut self.narrow, &mut self.projected)
    }

    /// What a layer made and the rows of distances, which attention reads while gradients are written here;
    /// [`give_back`](Self::give_back) puts them back.
    pub(crate) fn take_made(&mut self) -> (Rows, Vec<u32>) {
        (std::mem::take(&mut self.projected), std::mem::take(&mut self.places))
    }

    pub(crate) fn give_back(&mut self, made: (Rows, Vec<u32>)) {
        (self.projected, self.places) = made;
    }

    /// Zeros where a layer's gradients go; what it made has so many columns.
    pub(crate) fn resize_gradient(&mut self, columns: usize) -> Result<()> {
        let read = (self.read.mat().rows(), self.read.mat().cols());
        self.d_projected.resize(read.0, columns)?;
        self.d_projected.mat_mut().fill(0.0);
        self.d_read.resize(read.0, read.1)?;
        self.d_read.mat_mut().fill(0.0);
        Ok(())
    }

    /// Adds a layer's gradient to that of all.
    pub(crate) fn add(&mut self, pass: &Pass, layer: usize) {
        if let Some(dropout) = pass.step.dropout(Site::Positions(layer)) {
            dropout.apply(pass.step.level, 0, self.d_read.mat_mut());
        }
        add(pass.step.level, self.d_read.mat(), self.d_all.mat_mut());
    }
}

/// What lies between the last layer and the outputs. Nothing of it is kept for the way back, which computes it again.
#[derive(Default)]
pub(crate) struct Top {
    pub(crate) pooler: PoolerRoom,
    /// (M, H): what the head reads, after dropout.
    pub(crate) head: Rows,
    pub(crate) logits: Rows,
    pub(crate) d_logits: Rows,
    pub(crate) d_head: Rows,
    pub(crate) d_pooled: Rows,
    pub(crate) room: HeadRoom,
    pub(crate) second_room: HeadRoom,
}

/// What a layer keeps for the way back.
pub(crate) struct Saved<'a> {
    /// (T, all heads x head_dim)
    pub(crate) qkv: MatMut<'a>,
    /// (T, heads x head_dim)
    pub(crate) context: MatMut<'a>,
    /// (T, H): what the first norm reads.
    pub(crate) first_sum: MatMut<'a>,
    /// (T, up's outputs): what activation or gate reads.
    pub(crate) up: MatMut<'a>,
}

/// All layers' memory: what the second norm of each reads (T, H), and for each, or for all by turns, what else it keeps.
pub(crate) struct Layers<'a> {
    pub(crate) sums: Vec<MatMut<'a>>,
    pub(crate) saved: Vec<Saved<'a>>,
}

/// What flows through a layer, forwards and back; `d`: the gradient of.
pub(crate) struct Flow<'a> {
    /// (T, H): what the layer reads.
    pub(crate) hidden: MatMut<'a>,
    /// (T, H): the gradient of what the layer makes, then of what it reads.
    pub(crate) d_hidden: MatMut<'a>,
    pub(crate) d_sum: MatMut<'a>,
    pub(crate) d_first_sum: MatMut<'a>,
    /// The two before after dropout; without rows where there is none.
    pub(crate) dropped: [MatMut<'a>; 2],
    /// (T, H): what feed-forward reads.
    pub(crate) middle: MatMut<'a>,
    /// (T, up's outputs)
    pub(crate) d_up: MatMut<'a>,
    pub(crate) d_context: MatMut<'a>,
    pub(crate) d_qkv: MatMut<'a>,
    /// (T, E): what the embeddings' projection reads, and the gradient of what is looked up; without rows where there is none.
    pub(crate) embedded: [MatMut<'a>; 2],
    /// (chunks, 4 H or more): sums over the tokens of a chunk.
    pub(crate) sums: MatMut<'a>,
    /// (heads, distances): of the relative bias, over all layers.
    pub(crate) d_bias: Option<&'a mut [f32]>,
    pub(crate) positions: Option<&'a mut PositionRoom>,
}

/// A layer's products the other way round. All layers use them by turns.
pub(crate) struct Transposed {
    pub(crate) projection: PackedLinear,
    pub(crate) output: PackedLinear,
    pub(crate) up: PackedLinear,
    pub(crate) down: PackedLinear,
}

/// Cuts matrices from a block of floats.
struct Cutter<'a>(&'a mut [f32]);

fn floats(rows: usize, cols: usize) -> usize {
    rows.saturating_mul(padded_stride(cols))
}

impl<'a> Cutter<'a> {
    fn cut(&mut self, rows: usize, cols: usize) -> MatMut<'a> {
        let data = self.0.split_off_mut(..floats(rows, cols)).unwrap_or_default();
        MatMut::new(data, rows, cols, padded_stride(cols))
    }
}

impl Tape {
    /// Room for a batch. With `checkpointing` all layers share what one keeps.
    pub(crate) fn resize(
        &mut self,
        encoder: &Encoder,
        threads: &Threads,
        sizes: Sizes,
        checkpointing: bool,
        dropping: bool,
    ) -> Result<()> {
        const WHAT: &str = "the activations of a training step";
        let (blueprint, level, Sizes { tokens, longest, .. }) = (&encoder.blueprint, encoder.level, sizes);
        let (h, a, f) = (blueprint.hidden_size, blueprint.context_size(), blueprint.feed_forward.up_size());
        let qkv = blueprint.attention.qkv_size();
        let layer = [qkv, a, h, f].iter().map(|cols| floats(tokens, *cols)).sum::<usize>();
        let layers = if checkpointing { 1 } else { blueprint.num_layers };
        let kept = (layer * layers).saturating_add(floats(tokens, h) * blueprint.num_layers);
        let flow = [h, h, h, h, h, f, a, qkv].iter().map(|cols| floats(tokens, *cols)).sum::<usize>();
        let flow = flow
            + if dropping { 2 * floats(tokens, h) } else { 0 }
            + 2 * floats(projected(blueprint, tokens), blueprint.embedding_size())
            + floats(chunks(tokens), sum_columns(blueprint));
        let missing = |floats: usize, buffer: &Buffer| (floats * 4).saturating_sub(buffer.bytes()) as u64;
        memory::require(WHAT, missing(kept, &self.floats) + missing(flow, &self.flow))?;
        self.floats.resize(kept).map_err(|_| memory::refused(WHAT, kept))?;
        self.flow.resize(flow).map_err(|_| memory::refused(WHAT, flow))?;
        let (dim, positions) = (blueprint.attention.head_dim, blueprint.attention.disentangled.map(|spec| spec.rows()));
        let more = |of: fn(Level, usize, usize, usize) -> usize| positions.map_or(0, |p| of(level, longest, dim, p));
        let back = attention_backward_scratch(level, longest, dim) + more(positions_backward_scratch);
        let scratch = back.max(attention_scratch(level, longest, dim) + more(positions_scratch));
        self.scratch.resize(scratch * threads.count())?;
        self.rooms.resize_with(threads.count(), Mutex::default);
        for room in &mut self.rooms {
            let room = room.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
            room.hidden.resize(longest_chunk(tokens), h)?;
            room.feed_forward.resize(longest_chunk(tokens), f)?;
        }
        if self.transposed.is_none() {
            self.transposed = encoder.weights.blocks.first().map(|block| block.transposed(level)).transpose()?;
        }
        Ok(())
    }

    /// Everything at once, each to be borrowed by itself.
    pub(crate) fn parts(
        &mut self,
        blueprint: &Blueprint,
        tokens: usize,
        checkpointing: bool,
        dropping: bool,
    ) -> Parts<'_> {
        let (h, a, f) = (blueprint.hidden_size, blueprint.context_size(), blueprint.feed_forward.up_size());
        let qkv = blueprint.attention.qkv_size();
        let mut kept = Cutter(&mut self.floats);
        let sums = (0..blueprint.num_layers).map(|_| kept.cut(tokens, h)).collect();
        let mut saved = || Saved {
            qkv: kept.cut(tokens, qkv),
            context: kept.cut(tokens, a),
            first_sum: kept.cut(tokens, h),
            up: kept.cut(tokens, f),
        };
        let saved = (0..if checkpointing { 1 } else { blueprint.num_layers }).map(|_| saved()).collect();
        let mut flow = Cutter(&mut self.flow);
        let [hidden, d_hidden, d_sum, d_first_sum, middle] = std::array::from_fn(|_| flow.cut(tokens, h));
        let flow = Flow {
            hidden,
            d_hidden,
            d_sum,
            d_first_sum,
            middle,
            d_up: flow.cut(tokens, f),
            d_context: flow.cut(tokens, a),
            d_qkv: flow.cut(tokens, qkv),
            dropped: std::array::from_fn(|_| flow.cut(if dropping { tokens } else { 0 }, h)),
            embedded: std::array::from_fn(|_| flow.cut(projected(blueprint, tokens), blueprint.embedding_size())),
            sums: flow.cut(chunks(tokens), sum_columns(blueprint)),
            d_bias: self.d_bias.as_deref_mut(),
            positions: self.positions.as_mut(),
        };
        Parts {
            layers: Layers { sums, saved },
            flow,
            scratch: &mut self.scratch,
            rooms: &self.rooms,
            transposed: self.transposed.as_mut(),
            embedding_transposed: &mut self.embedding_transposed,
            angles: &self.angles,
            distances: self.distances.as_ref(),
            surroundings: self.surroundings.as_ref(),
            top: &mut self.top,
        }
    }

    /// What attention goes by, from the positions of all tokens.
    pub(crate) fn look_around(&mut self, encoder: &Encoder, threads: &Threads, part: &Part) -> Result<()> {
        rotation::fill(&encoder.weights.rotations, part.positions, &mut self.angles)?;
        self.distances = encoder.weights.relative.as_ref().map(|relative| relative.distances(part.longest()));
        self.d_bias = self.distances.as_ref().map(|distances| vec![0.0; distances.len()]);
        if let Some(spec) = encoder.blueprint.attention.convolution {
            self.surroundings.get_or_insert_default().resize(spec, threads, part);
        }
        if let Some(distances) = &encoder.weights.distances {
            let room = self.positions.get_or_insert_default();
            room.places = distances.places(part.longest().max(1));
            distances.forward(threads, &mut room.all)?;
            room.d_all.resize(room.all.mat().rows(), room.all.mat().cols())?;
            room.d_all.mat_mut().fill(0.0);
        }
        Ok(())
    }
}

/// How many tokens the embeddings' projection sees.
fn projected(blueprint: &Blueprint, tokens: usize) -> usize {
    if blueprint.embeddings.projection { tokens } else { 0 }
}

/// The columns of sums over tokens: two norms' of a layer, or one of the embeddings.
fn sum_columns(blueprint: &Blueprint) -> usize {
    (4 * blueprint.hidden_size).max(2 * blueprint.embedding_size())
}

impl Transposed {
    /// Of a layer's projection and output, and up and down.
    pub(crate) fn fill(&mut self, threads: &Threads, attention: [&Linear; 2], feed_forward: [&Linear; 2]) {
        let Self { projection, output, up, down } = self;
        let layers = attention.into_iter().chain(feed_forward);
        for (transposed, layer) in [projection, output, up, down].into_iter().zip(layers) {
            layer.transpose(threads, transposed);
        }
    }
}

pub(crate) struct Parts<'a> {
    pub(crate) layers: Layers<'a>,
    pub(crate) flow: Flow<'a>,
    pub(crate) scratch: &'a mut [f32],
    pub(crate) rooms: &'a [Mutex<ChunkRoom>],
    pub(crate) transposed: Option<&'a mut Transposed>,
    pub(crate) embedding_transposed: &'a mut Option<PackedLinear>,
    pub(crate) angles: &'a [Rows],
    pub(crate) distances: Option<&'a Distances>,
    pub(crate) surroundings: Option<&'a Surroundings>,
    pub(crate) top: &'a mut Top,
}

impl<'a> Layers<'a> {
    /// What layer i keeps.
    pub(crate) fn saved(&mut self, i: usize) -> (&mut Saved<'a>, &mut MatMut<'a>) {
        let slot = if self.saved.len() == 1 { 0 } else { i };
        (&mut self.saved[slot], &mut self.sums[i])
    }
}
