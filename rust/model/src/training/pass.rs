//! What all ingredients are told of a pass through the model, and how its tokens are shared out.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ferroformer_kernels::{self as kernels, Epilogue, Level, Mat, MatMut, Narrow, Threads, add};

use crate::batch::Part;
use crate::cancel::Cancel;
use crate::error::{ModelError, Result};
use crate::ingredients::{EmbeddingRoom, LayerNorm, Linear};
use crate::workspace::Rows;

/// Which activations become zero while a model learns, and by whose dice (Srivastava et al. 2014).
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    pub seed: u64,
    /// Of embeddings.
    pub embeddings: f32,
    /// Of what attention and feed-forward add to the residual.
    pub hidden: f32,
    /// Of attention's probabilities.
    pub attention: f32,
    /// Of what the head reads.
    pub head: f32,
    /// Of what the pooler reads, where that is dropped.
    pub pooler: f32,
    /// Of what feed-forward's activation or gate makes.
    pub inner: f32,
    /// Of what the final norm makes.
    pub last: f32,
}

impl Dropout {
    pub(super) fn check(self) -> Result<()> {
        let rates = [
            ("embeddings", self.embeddings),
            ("hidden states", self.hidden),
            ("attention", self.attention),
            ("the head", self.head),
            ("the pooler", self.pooler),
            ("activations", self.inner),
            ("last hidden states", self.last),
        ];
        match rates.into_iter().find(|(_, rate)| !(0.0..1.0).contains(rate)) {
            Some((what, rate)) => {
                Err(ModelError::Input(format!("the dropout rate of {what} is {rate}; expected 0 <= rate < 1")))
            }
            None => Ok(()),
        }
    }
}

/// Where in the model something is dropped.
#[derive(Clone, Copy)]
pub(crate) enum Site {
    Embeddings,
    Probabilities(usize),
    Attention(usize),
    CrossProbabilities(usize),
    CrossAttention(usize),
    FeedForward(usize),
    /// Of a layer, and which of its feed-forwards.
    Activation(usize, usize),
    /// What a layer reads of the embeddings of distances.
    Positions(usize),
    Head,
    Pooler,
    /// What the final norm makes.
    Last,
    /// Where nothing is.
    Nowhere,
}

pub(crate) struct Pass<'a> {
    pub(crate) threads: &'a Threads,
    pub(crate) step: Step<'a>,
    /// One for each thread.
    pub(crate) rooms: &'a [Mutex<ChunkRoom>],
    pub(crate) cancel: &'a Cancel<'a>,
}

/// What every thread is told.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) level: Level,
    pub(crate) part: &'a Part<'a>,
    pub(crate) dropout: Option<Dropout>,
}

/// What a chunk works in.
#[derive(Default)]
pub(crate) struct ChunkRoom {
    pub(crate) hidden: Rows,
    pub(crate) feed_forward: Rows,
    pub(crate) embeddings: EmbeddingRoom,
    /// Products in f32 read floats: this stays empty.
    pub(crate) none: Narrow,
}

/// Some tokens of the batch, on one thread.
pub(crate) struct Chunk<'a> {
    pub(crate) step: Step<'a>,
    pub(crate) tokens: Range<usize>,
    pub(crate) threads: Threads,
    pub(crate) room: MutexGuard<'a, ChunkRoom>,
}

/// Into how many chunks the tokens of a batch are cut. It must not depend on the threads.
pub(crate) fn chunks(tokens: usize) -> usize {
    const LEAST: usize = 32;
    const MOST: usize = 64;
    const ENOUGH: usize = 16;
    tokens.div_ceil(MOST).max(ENOUGH.min(tokens / LEAST)).max(1)
}

/// The most tokens of a chunk.
pub(crate) fn longest_chunk(tokens: usize) -> usize {
    tokens.div_ceil(chunks(tokens))
}

impl Step<'_> {
    /// What is dropped at a site, if anything.
    pub(crate) fn dropout(&self, site: Site) -> Option<kernels::Dropout> {
        // Numbers that no layer reaches by what every layer has.
        const OTHERS: u64 = 1 << 32;
        let dropout = self.dropout?;
        let (rate, number) = match site {
            Site::Embeddings => (dropout.embeddings, 0),
            Site::Head => (dropout.head, 1),
            Site::Pooler => (dropout.pooler, 2),
            Site::Last => (dropout.last, 3),
            Site::Probabilities(layer) => (dropout.attention, 4 * layer as u64 + 5),
            Site::Attention(layer) => (dropout.hidden, 4 * layer as u64 + 6),
            Site::FeedForward(layer) => (dropout.hidden, 4 * layer as u64 + 7),
            Site::Positions(layer) => (dropout.hidden, 4 * layer as u64 + 8),
            Site::CrossProbabilities(layer) => (dropout.attention, OTHERS + 3 * layer as u64),
            Site::CrossAttention(layer) => (dropout.hidden, OTHERS + 3 * layer as u64 + 1),
            Site::Activation(layer, k) => (dropout.inner, OTHERS * (k as u64 + 1) + 3 * layer as u64 + 2),
            Site::Nowhere => return None,
        };
        kernels::Dropout::new(rate, crate::init::scatter(dropout.seed ^ crate::init::scatter(number)))
    }
}

impl Chunk<'_> {
    /// Drops what is dropped at a site, of rows for the chunk's tokens.
    pub(crate) fn drop(&self, site: Site, rows: MatMut) {
        if let Some(dropout) = self.step.dropout(site) {
            dropout.apply(self.step.level, self.tokens.start, rows);
        }
    }

    /// What a sub-layer's last layer makes, normalised where there is a norm for that, dropped, and added to `residual`. `made` is what
    /// such a norm reads.
    pub(crate) fn add_work<'a>(
        &self,
        work: Work,
        residual: Mat,
        mut made: MatMut<'a>,
        mut out: MatMut<'a>,
    ) -> Result<()> {
        let (Chunk { step, tokens, threads, .. }, Work { site, layer, x, branch }) = (self, work);
        let (dropout, none) = (step.dropout(site), &mut Narrow::default());
        if branch.is_none() && dropout.is_none() {
            let residual = Epilogue { residual: Some(residual), ..Epilogue::default() };
            return layer.forward(threads, x, none, residual, out);
        }
        let place = if branch.is_some() { &mut made } else { &mut out };
        layer.forward(threads, x, none, Epilogue::default(), place.reborrow())?;
        if let Some(norm) = branch {
            norm.forward(threads, made.view(), out.reborrow(), none);
        }
        if let Some(dropout) = dropout {
            dropout.apply(step.level, tokens.start, out.reborrow());
        }
        add(step.level, residual, out);
        Ok(())
    }

    /// The gradient of what a sub-layer's last layer made from that of what was left of it, `d`: in `place`, unless that is empty and
    /// nothing was done to it. `branch`: the norm and what it read; its sums are added to `sums`.
    pub(crate) fn work_back<'a>(
        &mut self,
        site: Site,
        branch: Option<(&LayerNorm, Mat)>,
        d: Mat<'a>,
        place: &'a mut MatMut,
        sums: &mut [f32],
    ) -> Mat<'a> {
        if place.rows() == 0 {
            return d;
        }
        let (step, first) = (self.step, self.tokens.start);
        let drop = |rows: MatMut| {
            if let Some(dropout) = step.dropout(site) {
                dropout.apply(step.level, first, rows);
            }
        };
        match branch {
            None => {
                place.copy(d);
                drop(place.reborrow());
            }
            Some((norm, made)) => {
                let room = &mut self.room.hidden;
                room.first_mut(d.rows()).copy(d);
                drop(room.first_mut(d.rows()));
                norm.backward(made, room.first(d.rows()), place.reborrow(), sums);
            }
        }
        place.view()
    }
}

/// The last layer of a sub-layer, what it reads, and the norm of what it makes.
pub(crate) struct Work<'a> {
    pub(crate) site: Site,
    pub(crate) layer: &'a Linear,
    pub(crate) x: Mat<'a>,
    pub(crate) branch: Option<&'a LayerNorm>,
}

impl Pass<'_> {
    pub(crate) fn tokens(&self) -> usize {
        self.step.part.tokens()
    }

    /// `work(chunk, rows, sums)` for every chunk of tokens, side by side: with its rows of matrices of tokens, and its own row of
    /// matrices that have one for each chunk. A matrix without rows is one that is not there. Once the call is cancelled, chunks
    /// are left as they are.
    pub(crate) fn for_each_chunk<const N: usize, const M: usize>(
        &self,
        by_token: [MatMut; N],
        by_chunk: [MatMut; M],
        work: impl Fn(Chunk, [MatMut; N], [MatMut; M]) -> Result<()> + Sync,
    ) -> Result<()> {
        let (tokens, count) = (self.tokens(), chunks(self.tokens()));
        let range = |i: usize| tokens * i / count..tokens * (i + 1) / count;
        let (mut by_token, mut by_chunk) = (by_token.map(Some), by_chunk.map(Some));
        let shares: Vec<_> = (0..count)
            .map(|i| {
                let rows = by_token.each_mut().map(|mat| cut(mat, range(i).len()));
                let sums = by_chunk.each_mut().map(|mat| cut(mat, 1));
                Mutex::new(Some((rows, sums)))
            })
            .collect();
        let (step, rooms, cancel) = (self.step, self.rooms, self.cancel);
        let failure = Mutex::new(None);
        self.threads.for_each(count, |rank, i| {
            let Some((rows, sums)) = lock(&shares[i]).take().filter(|_| cancel.check(rank).is_ok()) else { return };
            let chunk = Chunk { step, tokens: range(i), threads: Threads::serial(), room: lock(&rooms[rank]) };
            if let Err(error) = work(chunk, rows, sums) {
                *lock(&failure) = Some(error);
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// Takes the first rows off.
fn cut<'a>(mat: &mut Option<MatMut<'a>>, rows: usize) -> MatMut<'a> {
    let mat_now = mat.take().expect("what was put back");
    let rows = rows.min(mat_now.rows());
    let (first, rest) = mat_now.split_rows(rows);
    *mat = Some(rest);
    first
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
