//! A stack of blocks over embeddings at work: a batch is cut into parts, each goes through embeddings and blocks in a workspace.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use ferroformer_kernels::{Form, Level, Mat, MatMut, Narrow, Threads};

use crate::batch::{Batch, Part};
use crate::block::Block;
use crate::blueprint::{Blueprint, HeadInput, LayerSpec};
use crate::cache::Cache;
use crate::cancel::Cancel;
use crate::encoder::{Encoder, SentencePooling};
use crate::error::{ModelError, Result};
use crate::ingredients::{Around, Embeddings, Linear, table_of_layer};
use crate::memory;
use crate::outputs::{Outputs, PartOutputs, Want, cut, means, of_sequences, unpad};
use crate::packed_file::PackedFile;
use crate::pooling::normalize;
use crate::recall::{Beside, SourceStates};
use crate::rotation;
use crate::weights::Weights;
use crate::workspace::{Room, Rows, Workspace};

/// A model, or the one inside that it reads.
#[derive(Clone, Copy)]
pub(crate) struct Stack<'a> {
    pub(crate) encoder: &'a Encoder,
    pub(crate) blueprint: &'a Blueprint,
    pub(crate) weights: &'a Weights,
    pub(crate) level: Level,
    /// Whose words are looked up, where it has none of its own.
    pub(crate) shared: Option<&'a Embeddings>,
}

impl<'m> Stack<'m> {
    /// A padded batch to padded outputs.
    pub(crate) fn forward(
        &self,
        threads: usize,
        batch: &Batch,
        want: Want,
        beside: Beside,
        cancel: &Cancel,
    ) -> Result<Outputs> {
        let mut outputs = Outputs::new(batch, self.blueprint, want, beside.source.map_or(0, SourceStates::width))?;
        let parts = batch.parts(threads);
        let shares = outputs.split(&parts, batch);
        beside.check(self.blueprint, batch)?;
        self.run(threads, batch, &parts, shares, beside, cancel, |threads, part, ws, out| {
            if let Some(last) = out.last_hidden_state {
                unpad(part, ws.hidden.mat(), last);
            }
            if let Some(pooler) = &self.weights.pooler {
                pooler.read(part, ws.hidden.mat(), &mut ws.pooler)?;
                pooler.forward(threads, &mut ws.pooler)?;
            }
            if let Some(out) = out.pooled {
                let Workspace { pooler, logits, head: room, .. } = &mut *ws;
                let mut made = pooler.pooled.mat();
                if let Some(head) = &self.weights.second_head {
                    logits.resize(made.rows(), head.outputs())?;
                    head.forward(threads, None, made, room, logits.mat_mut())?;
                    made = logits.mat();
                }
                of_sequences(part, made, out);
            }
            out.logits.map_or(Ok(()), |logits| self.judge(threads, part, ws, logits))
        })?;
        Ok(outputs)
    }

    /// Sentences to vectors, (S, modes x H).
    pub(crate) fn embed(
        &self,
        threads: usize,
        batch: &Batch,
        pooling: &SentencePooling,
        cancel: &Cancel,
    ) -> Result<Vec<f32>> {
        let width = pooling.modes.len() * self.blueprint.hidden_size;
        let mut vectors = memory::zeroed_vec("the output", batch.sequences().checked_mul(width))?;
        let parts = batch.parts(threads);
        let shares = cut(&mut vectors, &parts, batch.sequences());
        let shares = parts.iter().cloned().zip(shares).collect();
        self.run(
            threads,
            batch,
            &parts,
            shares,
            Beside::default(),
            cancel,
            |_, part, ws, (sequences, out): (Range<usize>, &mut [f32])| {
                let skips = sequences.map(|s| pooling.skip.map_or(0, |skip| skip[s].max(0) as usize));
                for ((range, skip), out) in part.ranges().zip(skips).zip(out.chunks_exact_mut(width)) {
                    let tokens = ws.hidden.mat().rows_of(range);
                    for (mode, out) in pooling.modes.iter().zip(out.chunks_exact_mut(self.blueprint.hidden_size)) {
                        mode.pool(tokens, skip, out);
                    }
                    if pooling.normalize {
                        normalize(out);
                    }
                }
                Ok(())
            },
        )?;
        Ok(vectors)
    }

    /// Takes each part through the model and hands what comes out to `finish`, with the part's share of the outputs.
    ///
    /// Parts run side by side, each on one thread, where there are enough of them; else one after the other,
    /// each on all threads.
    #[expect(clippy::too_many_arguments, reason = "what a call is made of, each by its own name")]
    fn run<T: Shares + Send>(
        &self,
        threads: usize,
        batch: &Batch,
        parts: &[Range<usize>],
        shares: Vec<T>,
        beside: Beside,
        cancel: &Cancel,
        finish: impl Fn(&Threads, &Part, &mut Workspace, T) -> Result<()> + Sync,
    ) -> Result<()> {
        self.encoder.file.as_ref().map_or(Ok(()), PackedFile::check)?;
        let shares: Vec<_> = shares.into_iter().map(|share| Mutex::new(Some(share))).collect();
        let positions =
            if self.weights.distances.is_some() { self.encoder.positions(&Threads::new(threads))? } else { None };
        let beside = Beside { positions: positions.as_ref().map(|x| &x[..]), ..beside };
        let failure = Mutex::new(None);
        let run_part = |team: &Threads, rank, i: usize| {
            let part = Part { shared: self.shared, ..batch.part(parts[i].clone()) };
            let Some(mut share) = lock(&shares[i]).take() else { return };
            let mut ws = self.encoder.room();
            let beside = beside.of(parts[i].clone());
            let result = self
                .run_part(team, &part, &beside, &mut ws, &mut share, &|| cancel.check(rank))
                .and_then(|()| finish(team, &part, &mut ws, share));
            if let Err(error) = result {
                *lock(&failure) = Some(error);
            }
            self.encoder.keep(ws, threads);
        };
        let all = Threads::new(threads);
        if parts.len() >= threads {
            all.for_each(parts.len(), |rank, i| run_part(&Threads::serial(), rank, i));
        } else {
            (0..parts.len()).for_each(|i| run_part(&all, 0, i));
        }
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// The tokens of a part to `ws.hidden` (T, H).
    ///
    /// Attention takes whole sequences. All else goes token by token: a chunk of tokens is taken by one thread from the end of
    /// one attention to the beginning of the next, so that what it makes stays in that core's cache.
    fn run_part(
        &self,
        threads: &Threads,
        part: &Part,
        beside: &Beside,
        ws: &mut Workspace,
        share: &mut impl Shares,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        check()?;
        let [longest, longest_source] = beside.longest(part);
        ws.resize(self.level, threads, self.blueprint, part, part.longest().max(beside.longest_read()))?;
        ws.resize_cached(threads, self.blueprint, longest.max(longest_source))?;
        rotation::fill(&self.weights.rotations, part.positions, &mut ws.angles)?;
        ws.distances = self.weights.relative.iter().map(|relative| relative.distances(longest)).collect();
        ws.places = self.weights.distances.as_ref().map_or(vec![], |x| x.places(part.longest().max(1)));
        let (layers, of_layer) = (self.layers(), self.blueprint.blocks());
        let stages: Vec<_> =
            layers.iter().enumerate().flat_map(|(i, block)| (0..block.stages()).map(move |s| (i, s))).collect();
        self.each_chunk(threads, ws, |team, tokens, _, [mut hidden, stream, qkv], room, angles| {
            let (block, around) = (layers[0], self.around(0, angles));
            room.narrow.resize(block.form(0), hidden.rows(), hidden.cols())?;
            let Room { embeddings, narrow, .. } = room;
            self.weights.embeddings.forward(team, part, tokens.clone(), embeddings, hidden.reborrow(), narrow)?;
            block.project(0, team, hidden.view(), around.of(tokens), room, stream, qkv)
        })?;
        share.hidden_state(0, part, ws);
        for (n, &(i, stage)) in stages.iter().enumerate() {
            check()?;
            let (block, next) = (layers[i], stages.get(n + 1).map(|&(i, stage)| (i, layers[i], stage)));
            self.attend(threads, part, beside, (i, block, stage), of_layer[i], ws, share)?;
            self.each_chunk(threads, ws, |team, tokens, context, [mut hidden, mut stream, qkv], room, angles| {
                let form = next.map_or(Form::Floats, |(_, block, stage)| block.form(stage));
                block.finish(stage, team, context, &mut hidden, stream.reborrow(), form, room)?;
                match (next, &self.weights.final_norm) {
                    (Some((i, block, stage)), _) => {
                        let around = self.around(i, angles);
                        block.project(stage, team, hidden.view(), around.of(tokens), room, stream, qkv)
                    }
                    (None, Some(norm)) => {
                        room.sum.mat_mut().copy(hidden.view());
                        norm.forward(team, room.sum.mat(), hidden, &mut Narrow::default());
                        Ok(())
                    }
                    (None, None) => Ok(()),
                }
            })?;
            if stage + 1 == block.stages() {
                share.hidden_state(i + 1, part, ws);
            }
        }
        Ok(())
    }

    /// One attention of a layer: what was projected -> `ws.context`.
    #[expect(clippy::too_many_arguments, reason = "what attention reads and writes, each by its own name")]
    fn attend(
        &self,
        threads: &Threads,
        part: &Part,
        beside: &Beside,
        (layer, block, stage): (usize, &Block, usize),
        block_number: usize,
        ws: &mut Workspace,
        share: &mut impl Shares,
    ) -> Result<()> {
        let Workspace { angles, distances, places, surroundings, hidden, qkv, context, scratch, .. } = ws;
        let (attention, qkv, mut context) = (&block.attentions[stage].0, qkv.mat(), context.mat_mut());
        if stage > 0 {
            let LayerSpec { scale, .. } = self.blueprint.layer(layer);
            if let Some(recall) = beside.recall.filter(|_| beside.source.is_none()) {
                let (cache, queries) = (recall.cache.layer(layer, stage), beside.source_queries(part));
                attention.attend_cached(
                    threads,
                    &cache,
                    &queries,
                    Around { scale, ..Around::default() },
                    qkv,
                    scratch,
                    context,
                );
                return Ok(());
            }
            let Some((tokens, states)) = beside.source_of_part() else {
                return Err(ModelError::Input("the model attends to a source, and there is none".to_owned()));
            };
            let (source, source_narrow) = (&mut ws.source, &mut ws.source_narrow);
            source.resize(states.rows(), attention.source().map_or(0, Linear::outputs))?;
            attention.project_source(threads, states, source_narrow, source.mat_mut())?;
            let around = Around { source: Some((&tokens, source.mat())), scale, ..Around::default() };
            attention.attend(threads, part, around, qkv, None, scratch, share.cross_attention(layer), context);
            return Ok(());
        }
        let positions = beside.positions.map(|positions| (positions[block_number].mat(), &places[..]));
        let (bias, surroundings) = (distances.get(table_of_layer(layer, distances.len())), surroundings.as_ref());
        let around = Around { bias, positions, surroundings, ..self.around(layer, angles) };
        if let Some(recall) = beside.recall {
            let slots = recall.cache.own_slots(beside.sequences.clone(), part);
            recall.cache.write(self.level, [layer, stage], &slots, attention.keys_values(qkv));
            if !recall.fresh {
                let queries = recall.cache.queries(beside.sequences.clone(), part, around.window);
                let cache = recall.cache.layer(layer, stage);
                attention.attend_cached(threads, &cache, &queries, around, qkv, scratch, context);
                return Ok(());
            }
        }
        attention.attend(threads, part, around, qkv, None, scratch, share.attention(layer), context.reborrow());
        attention.convolve(threads, around, hidden.mat(), qkv, context)
    }

    /// What the layers make of the sources of a cache's sequences.
    pub(crate) fn remember_source(&self, threads: usize, cache: &mut Cache, source: &SourceStates) -> Result<()> {
        source.check(self.blueprint, cache.lengths().len())?;
        cache.take_sources(source.starts())?;
        let (threads, states) = (&Threads::new(threads), source.states());
        let (mut room, mut made) = (Narrow::default(), Rows::default());
        let slots = cache.source_slots(0..cache.lengths().len());
        for (layer, block) in self.layers().into_iter().enumerate() {
            let attention = &block.attentions[1].0;
            made.resize(states.rows(), attention.source().map_or(0, Linear::outputs))?;
            attention.project_source(threads, states, &mut room, made.mat_mut())?;
            cache.write(self.level, [layer, 1], &slots, attention.keys_values(made.mat()));
        }
        Ok(())
    }

    /// The block of each layer.
    pub(crate) fn layers(&self) -> Vec<&'m Block> {
        self.blueprint.blocks().into_iter().map(|block| &self.weights.blocks[block]).collect()
    }

    /// What a layer's attention goes by, of what is not a matter of distances alone: with the angles of all tokens.
    pub(crate) fn around<'a>(&self, layer: usize, angles: &'a [Rows]) -> Around<'a> {
        let LayerSpec { window, scale, rotary, .. } = self.blueprint.layer(layer);
        let angles = rotary.map(|r| (angles[r].mat(), self.weights.rotations[r].interleaved()));
        Around { angles, window, scale, ..Around::default() }
    }

    /// `work(team, tokens, context, [hidden, stream, qkv], room, angles)` for chunks of a part's tokens, with their rows of the workspace: chunks
    /// side by side, each on one thread, where there are enough tokens; else one chunk on all threads.
    fn each_chunk(
        &self,
        threads: &Threads,
        ws: &mut Workspace,
        work: impl Fn(&Threads, Range<usize>, Mat, [MatMut; 3], &mut Room, &[Rows]) -> Result<()> + Sync,
    ) -> Result<()> {
        let (context, rooms, angles) = (ws.context.mat(), &ws.rooms, &ws.angles);
        let chunks = chunks(context.rows(), threads.count());
        let failure = Mutex::new(None);
        let chunk = |team: &Threads, rank: usize, tokens: Range<usize>, mats: [MatMut; 3]| {
            let mut room = lock(&rooms[rank]);
            let result = room
                .resize(self.blueprint, tokens.len())
                .and_then(|()| work(team, tokens.clone(), context.rows_of(tokens), mats, &mut room, angles));
            if let Err(error) = result {
                *lock(&failure) = Some(error);
            }
        };
        let mats = [ws.hidden.mat_mut(), ws.stream.mat_mut(), ws.qkv.mat_mut()];
        if chunks == 1 {
            chunk(threads, 0, 0..context.rows(), mats);
        } else {
            threads.for_each_rows(chunks, mats, |rank, tokens, mats| chunk(&Threads::serial(), rank, tokens, mats));
        }
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// What the head says of each token or sequence, to `out`, padded, zeros where there is no token; or of those that are selected.
    fn judge(&self, threads: &Threads, part: &Part, ws: &mut Workspace, out: &mut [f32]) -> Result<()> {
        let Some(head) = &self.weights.head else { return Ok(()) };
        let Workspace { pooler, hidden, selected, logits, head: room, .. } = ws;
        let x = match (head.reads(), part.selected) {
            (HeadInput::Pooled, _) => pooler.pooled.mat(),
            (HeadInput::Tokens, Some(tokens)) => {
                selected.resize(tokens.len(), self.blueprint.hidden_size)?;
                let rows = tokens.iter().map(|t| hidden.mat().row(t - part.starts[0]));
                rows.enumerate().for_each(|(r, row)| selected.mat_mut().row_mut(r).copy_from_slice(row));
                selected.mat()
            }
            (HeadInput::Tokens | HeadInput::Mean, _) => hidden.mat(),
        };
        let tied = self.weights.embeddings.tied();
        // Where that can be, logits are made where they are wanted: those of a vocabulary are many.
        if head.reads() == HeadInput::Tokens && (part.selected.is_some() || part.is_padded()) {
            return head.forward(threads, tied, x, room, MatMut::dense(out, x.rows(), head.outputs()));
        }
        logits.resize(x.rows(), head.outputs())?;
        head.forward(threads, tied, x, room, logits.mat_mut())?;
        match head.reads() {
            HeadInput::Pooled => of_sequences(part, ws.logits.mat(), out),
            HeadInput::Mean => means(part, ws.logits.mat(), out),
            HeadInput::Tokens => unpad(part, ws.logits.mat(), out),
        }
        Ok(())
    }
}

/// Where a part's intermediate results go, if they are wanted.
trait Shares {
    fn hidden_state(&mut self, _layer: usize, _part: &Part, _ws: &Workspace) {}
    fn attention(&mut self, _layer: usize) -> Option<&mut [f32]> {
        None
    }
    fn cross_attention(&mut self, _layer: usize) -> Option<&mut [f32]> {
        None
    }
}

impl Shares for PartOutputs<'_> {
    fn hidden_state(&mut self, layer: usize, part: &Part, ws: &Workspace) {
        if let Some(out) = self.hidden_states.get_mut(layer) {
            unpad(part, ws.hidden.mat(), out);
        }
    }
    fn attention(&mut self, layer: usize) -> Option<&mut [f32]> {
        self.attentions.get_mut(layer).map(|out| &mut **out)
    }
    fn cross_attention(&mut self, layer: usize) -> Option<&mut [f32]> {
        self.cross_attentions.get_mut(layer).map(|out| &mut **out)
    }
}

/// Sentence vectors need the last hidden states alone.
impl Shares for (Range<usize>, &mut [f32]) {}

/// Into how many chunks to cut a part's tokens.
///
/// A chunk reads all weights, from the last-level cache: fewer rows would make that the limit, more would not leave room for
/// their activations in the second-level cache.
fn chunks(tokens: usize, threads: usize) -> usize {
    const LEAST: usize = 32;
    const MOST: usize = 64;
    if threads > 1 && tokens < threads * LEAST {
        return 1;
    }
    tokens.div_ceil(MOST).next_multiple_of(threads).min((tokens / LEAST).max(1)).max(1)
}

/// A panic elsewhere leaves nothing half-done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
