//! The memory of a pass through the model and back: one block of floats for all activations that are kept, one for what flows
//! back through a layer. Both are used again by the next batch.

use std::sync::Mutex;

use ferroformer_kernels::{
    Buffer, Level, MatMut, Narrow, PackedLinear, Threads, add, attention_backward_scratch, attention_scratch,
    padded_stride, positions_backward_scratch, positions_scratch,
};

use super::layer::SUMS;
use super::pass::{ChunkRoom, Pass, Site, chunks, longest_chunk};
use crate::batch::Part;
use crate::block::Block;
use crate::blueprint::{Blueprint, NormPlacement};
use crate::error::Result;
use crate::ingredients::{Bottleneck, Distances, HeadRoom, PoolerRoom, Surroundings};
use crate::memory;
use crate::rotation;
use crate::stack::Stack;
use crate::workspace::Rows;

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
    distances: Vec<Distances>,
    d_bias: Vec<Vec<f32>>,
    positions: Option<PositionRoom>,
    surroundings: Option<Surroundings>,
    top: Top,
    /// Of the model inside.
    pub(crate) source: Option<Box<Tape>>,
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

/// What lies between the last layer and the outputs. Nothing of it is kept for the way back, which computes it again, but the logits
/// where they are capped.
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
    pub(crate) attentions: Vec<SavedAttention<'a>>,
    pub(crate) feed_forwards: Vec<SavedFeedForward<'a>>,
    /// (T, C): the last sum inside a bottleneck; else without rows, for that is the layer's.
    pub(crate) inside: MatMut<'a>,
}

/// C is H where there is no bottleneck.
pub(crate) struct SavedFeedForward<'a> {
    /// (T, up's outputs): what activation or gate reads.
    pub(crate) up: MatMut<'a>,
    /// (T, C): what it made, where that is normalised before it is added.
    pub(crate) made: MatMut<'a>,
    /// (T, C): the stream and its work; of the last without rows.
    pub(crate) sum: MatMut<'a>,
}

pub(crate) struct SavedAttention<'a> {
    /// (T, all heads x head_dim), or queries alone; where queries and keys are normalised, these as they were before too.
    pub(crate) qkv: MatMut<'a>,
    /// (Ts, twice key heads x head_dim): keys and values of a source's tokens.
    pub(crate) source: MatMut<'a>,
    /// (T, heads x head_dim), and what a convolution makes
    pub(crate) context: MatMut<'a>,
    /// (T, C): what it made, where that is normalised before it is added.
    pub(crate) made: MatMut<'a>,
    /// (T, C): the stream and its work.
    pub(crate) sum: MatMut<'a>,
}

/// All layers' memory: the last sum of each (T, H), and for each, or for all by turns, what else it keeps.
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
    /// (T, C): of a sub-layer's sum, and of the one before.
    pub(crate) d_sum: MatMut<'a>,
    pub(crate) d_before: MatMut<'a>,
    /// The two as their sub-layers' last layers see them, where they were dropped or normalised; else without rows.
    pub(crate) dropped: [MatMut<'a>; 2],
    /// (T, C): what a sub-layer's work reads.
    pub(crate) middle: MatMut<'a>,
    /// (T, up's outputs)
    pub(crate) d_up: MatMut<'a>,
    pub(crate) d_context: MatMut<'a>,
    pub(crate) d_qkv: MatMut<'a>,
    /// (T, R): of what attention reads, where that is not the stream; else without rows.
    pub(crate) d_read: MatMut<'a>,
    /// Where a layer has a bottleneck.
    pub(crate) narrowed: Option<Narrowed<'a>>,
    /// Of a source's last hidden states (Ts, its size), over all layers; of a layer's keys and values of these.
    pub(crate) source: Option<(MatMut<'a>, MatMut<'a>)>,
    /// (T, E or 3 E): what the embeddings' projection reads, and the gradient of what is looked up; without rows where the first is what the
    /// layers read.
    pub(crate) embedded: [MatMut<'a>; 2],
    /// (chunks, 8 H or more): sums over the tokens of a chunk.
    pub(crate) sums: MatMut<'a>,
    /// (heads, distances): of each relative bias, over the layers that have it.
    pub(crate) d_bias: &'a mut [Vec<f32>],
    pub(crate) positions: Option<&'a mut PositionRoom>,
}

/// What a bottleneck gives to the sub-layers inside, and what flows back.
pub(crate) struct Narrowed<'a> {
    /// (T, C): the stream before the first sub-layer.
    pub(crate) hidden: MatMut<'a>,
    pub(crate) d_hidden: MatMut<'a>,
    /// (T, C or 2 C): what its norms read.
    pub(crate) made: MatMut<'a>,
    pub(crate) d_made: MatMut<'a>,
    /// (T, R): what attention reads.
    pub(crate) read: MatMut<'a>,
    /// (T, H): of the layer's last sum, and as its last layer sees it, where it was dropped; else without rows.
    pub(crate) d_sum: MatMut<'a>,
    pub(crate) dropped: MatMut<'a>,
}

/// A layer's products the other way round. All layers use them by turns.
pub(crate) struct Transposed {
    pub(crate) attentions: Vec<TransposedAttention>,
    /// Up and down.
    pub(crate) feed_forwards: Vec<[PackedLinear; 2]>,
    /// In and out.
    pub(crate) bottleneck: Option<[PackedLinear; 2]>,
}

pub(crate) struct TransposedAttention {
    pub(crate) projection: PackedLinear,
    pub(crate) output: PackedLinear,
    pub(crate) source: Option<PackedLinear>,
}

/// What a batch asks of a tape.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) tokens: usize,
    /// The longest sequence, or the longest source.
    pub(crate) longest: usize,
    /// Tokens of the source.
    pub(crate) source: usize,
    /// All layers share what one keeps.
    pub(crate) checkpointing: bool,
    pub(crate) dropping: bool,
}

fn floats(rows: usize, cols: usize) -> usize {
    rows.saturating_mul(padded_stride(cols))
}

/// Cuts matrices from a block of floats; from none it measures what it would take: then they are empty.
struct Cutter<'a> {
    block: Option<&'a mut [f32]>,
    floats: usize,
}

impl<'a> Cutter<'a> {
    fn of(block: &'a mut [f32]) -> Self {
        Cutter { block: Some(block), floats: 0 }
    }

    fn measure() -> Self {
        Cutter { block: None, floats: 0 }
    }

    fn cut(&mut self, rows: usize, cols: usize) -> MatMut<'a> {
        let floats = floats(rows, cols);
        self.floats = self.floats.saturating_add(floats);
        match &mut self.block {
            Some(block) => {
                let data = block.split_off_mut(..floats).unwrap_or_default();
                MatMut::new(data, rows, cols, padded_stride(cols))
            }
            None => MatMut::dense(&mut [], 0, cols),
        }
    }
}

/// What all layers keep.
fn layers<'a>(blueprint: &Blueprint, plan: Plan, from: &mut Cutter<'a>) -> Layers<'a> {
    let (tokens, h, c, a) = (plan.tokens, blueprint.hidden_size, blueprint.stream_size(), blueprint.context_size());
    let [queries, keys, values] = blueprint.attention.qkv_sizes();
    let normed = if blueprint.norm.placement == NormPlacement::Sandwich { tokens } else { 0 };
    let sums = (0..blueprint.num_layers).map(|_| from.cut(tokens, h)).collect();
    let attention = |stage: usize, from: &mut Cutter<'a>| SavedAttention {
        qkv: from.cut(tokens, if stage == 0 { blueprint.attention.recorded_qkv_size() } else { queries }),
        source: from.cut(if stage == 0 { 0 } else { plan.source }, keys + values),
        context: from.cut(tokens, a),
        made: from.cut(normed, c),
        sum: from.cut(tokens, c),
    };
    let count = blueprint.feed_forward.count;
    let feed_forward = |k: usize, from: &mut Cutter<'a>| SavedFeedForward {
        up: from.cut(tokens, blueprint.feed_forward.up_size()),
        made: from.cut(normed, c),
        sum: from.cut(if k + 1 < count { tokens } else { 0 }, c),
    };
    let stages = 1 + usize::from(blueprint.source.is_some());
    let mut saved = |_| Saved {
        attentions: (0..stages).map(|stage| attention(stage, from)).collect(),
        feed_forwards: (0..count).map(|k| feed_forward(k, from)).collect(),
        inside: from.cut(if blueprint.bottleneck.is_some() { tokens } else { 0 }, c),
    };
    let saved = (0..if plan.checkpointing { 1 } else { blueprint.num_layers }).map(&mut saved).collect();
    Layers { sums, saved }
}

/// What flows through one.
fn flow<'a>(blueprint: &Blueprint, plan: Plan, from: &mut Cutter<'a>) -> Flow<'a> {
    let (tokens, h, f) = (plan.tokens, blueprint.hidden_size, blueprint.feed_forward.up_size());
    let c = blueprint.stream_size();
    let [hidden, d_hidden] = std::array::from_fn(|_| from.cut(tokens, h));
    let [d_sum, d_before, middle] = std::array::from_fn(|_| from.cut(tokens, c));
    let apart = plan.dropping || blueprint.norm.placement == NormPlacement::Sandwich;
    let apart = if apart { tokens } else { 0 };
    let read = if blueprint.bottleneck.is_some() { tokens } else { 0 };
    let [_, keys, values] = blueprint.attention.qkv_sizes();
    let source = blueprint.source.as_ref();
    Flow {
        hidden,
        d_hidden,
        d_sum,
        d_before,
        middle,
        d_up: from.cut(tokens, f),
        d_context: from.cut(tokens, blueprint.context_size()),
        d_qkv: from.cut(tokens, blueprint.attention.qkv_size()),
        dropped: std::array::from_fn(|_| from.cut(apart, c)),
        d_read: from.cut(read, blueprint.attention_inputs()),
        narrowed: blueprint.bottleneck.map(|spec| Narrowed {
            hidden: from.cut(tokens, c),
            d_hidden: from.cut(tokens, c),
            made: from.cut(tokens, spec.made()),
            d_made: from.cut(tokens, spec.made()),
            read: from.cut(tokens, blueprint.attention_inputs()),
            d_sum: from.cut(tokens, h),
            dropped: from.cut(apart, h),
        }),
        source: source.map(|of| (from.cut(plan.source, of.hidden_size), from.cut(plan.source, keys + values))),
        embedded: std::array::from_fn(|_| from.cut(projected(blueprint, tokens), blueprint.projected_size())),
        sums: from.cut(chunks(tokens), sum_columns(blueprint)),
        d_bias: &mut [],
        positions: None,
    }
}

impl Tape {
    /// Room for a batch.
    pub(crate) fn resize(&mut self, stack: Stack, threads: &Threads, plan: Plan) -> Result<()> {
        const WHAT: &str = "the activations of a training step";
        let (blueprint, level, Plan { tokens, longest, .. }) = (stack.blueprint, stack.level, plan);
        let (mut kept, mut flowing) = (Cutter::measure(), Cutter::measure());
        layers(blueprint, plan, &mut kept);
        flow(blueprint, plan, &mut flowing);
        let missing = |floats: usize, buffer: &Buffer| (floats.saturating_mul(4)).saturating_sub(buffer.bytes()) as u64;
        let [kept, flowing] = [kept.floats, flowing.floats];
        memory::require(WHAT, missing(kept, &self.floats) + missing(flowing, &self.flow))?;
        self.floats.resize(kept).map_err(|_| memory::refused(WHAT, kept))?;
        self.flow.resize(flowing).map_err(|_| memory::refused(WHAT, flowing))?;
        let (dim, positions) = (blueprint.attention.head_dim, blueprint.attention.disentangled.map(|spec| spec.rows()));
        let more = |of: fn(Level, usize, usize, usize) -> usize| positions.map_or(0, |p| of(level, longest, dim, p));
        let back = attention_backward_scratch(level, longest, dim) + more(positions_backward_scratch);
        let scratch = back.max(attention_scratch(level, longest, dim) + more(positions_scratch));
        self.scratch.resize(scratch * threads.count())?;
        self.rooms.resize_with(threads.count(), Mutex::default);
        for room in &mut self.rooms {
            let room = room.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
            room.hidden.resize(longest_chunk(tokens), blueprint.stream_size())?;
            room.feed_forward.resize(longest_chunk(tokens), blueprint.feed_forward.up_size())?;
        }
        if self.transposed.is_none() {
            self.transposed = stack.weights.blocks.first().map(|block| block.transposed(level)).transpose()?;
        }
        Ok(())
    }

    /// Everything at once, each to be borrowed by itself.
    pub(crate) fn parts(&mut self, blueprint: &Blueprint, plan: Plan) -> Parts<'_> {
        let flow = flow(blueprint, plan, &mut Cutter::of(&mut self.flow));
        Parts {
            layers: layers(blueprint, plan, &mut Cutter::of(&mut self.floats)),
            flow: Flow { d_bias: &mut self.d_bias, positions: self.positions.as_mut(), ..flow },
            scratch: &mut self.scratch,
            rooms: &self.rooms,
            transposed: self.transposed.as_mut(),
            embedding_transposed: &mut self.embedding_transposed,
            angles: &self.angles,
            distances: &self.distances,
            surroundings: self.surroundings.as_ref(),
            top: &mut self.top,
        }
    }

    /// What attention goes by, from the positions of all tokens.
    pub(crate) fn look_around(&mut self, stack: Stack, threads: &Threads, part: &Part) -> Result<()> {
        rotation::fill(&stack.weights.rotations, part.positions, &mut self.angles)?;
        self.distances = stack.weights.relative.iter().map(|relative| relative.distances(part.longest())).collect();
        self.d_bias = self.distances.iter().map(|distances| vec![0.0; distances.len()]).collect();
        if let Some(spec) = stack.blueprint.attention.convolution {
            self.surroundings.get_or_insert_default().resize(spec, threads, part);
        }
        if let Some(distances) = &stack.weights.distances {
            let room = self.positions.get_or_insert_default();
            room.places = distances.places(part.longest().max(1));
            distances.forward(threads, &mut room.all)?;
            room.d_all.resize(room.all.mat().rows(), room.all.mat().cols())?;
            room.d_all.mat_mut().fill(0.0);
        }
        Ok(())
    }
}

/// How many tokens the embeddings' projection sees; all too where gradients inside layers are narrower than what is looked up.
fn projected(blueprint: &Blueprint, tokens: usize) -> usize {
    if blueprint.embeddings.projection || blueprint.bottleneck.is_some() { tokens } else { 0 }
}

/// The columns of sums over tokens: a layer's norms', those of queries and keys, or one of the embeddings.
fn sum_columns(blueprint: &Blueprint) -> usize {
    let size = blueprint.hidden_size.max(blueprint.stream_size());
    (SUMS * size).max(2 * blueprint.embedding_size()).max(4 * blueprint.attention.head_dim)
}

impl Transposed {
    pub(crate) fn fill(&mut self, threads: &Threads, block: &Block) {
        let feed_forwards = block.feed_forwards.iter().map(|(feed_forward, _)| feed_forward.layers());
        let bottleneck = block.bottleneck.iter().map(Bottleneck::layers);
        let room = self.feed_forwards.iter_mut().chain(&mut self.bottleneck);
        for (transposed, layers) in room.zip(feed_forwards.chain(bottleneck)) {
            transposed.iter_mut().zip(layers).for_each(|(transposed, layer)| layer.transpose(threads, transposed));
        }
        for (transposed, (attention, _)) in self.attentions.iter_mut().zip(&block.attentions) {
            let [projection, output] = attention.layers();
            projection.transpose(threads, &mut transposed.projection);
            output.transpose(threads, &mut transposed.output);
            if let (Some(transposed), Some(source)) = (&mut transposed.source, attention.source()) {
                source.transpose(threads, transposed);
            }
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
    pub(crate) distances: &'a [Distances],
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
