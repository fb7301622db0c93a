//! One layer of a transformer: attention, where there is a source attention over that, then feed-forward, once or several times. Each is a
//! sub-layer that adds what it makes to the residual stream; norms stand where the model has them (`ingredients/residual.rs`). Where there
//! is a bottleneck the stream is the layer's own, narrower than what comes in and goes out (`ingredients/bottleneck.rs`).

use ferroformer_kernels::{self as kernels, Form, Level, Mat, MatMut, Narrow, Threads, add};

use crate::batch::Part;
use crate::blueprint::{Blueprint, NormSpec, Parallel};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::ingredients::{Around, Attention, Bottleneck, FeedForward, LayerNorm, Linear, Residual};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::training::{Transposed, TransposedAttention};
use crate::weights::Place;
use crate::workspace::{Room, Rows};

/// Which layer, and what its attention goes by.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) layer: usize,
    pub(crate) around: Around<'a>,
    /// What the layer attends to beside: the tokens of a source, and their last hidden states (Ts, its size).
    pub(crate) source: Option<(&'a Part<'a>, Mat<'a>)>,
    /// (T, R): what attention reads while the model learns, where that is not the stream.
    pub(crate) read: Option<Mat<'a>>,
}

pub(crate) struct Block {
    /// The first sub-layers: over the tokens themselves, and over a source's.
    pub(crate) attentions: Vec<(Attention, Residual)>,
    pub(crate) feed_forwards: Vec<(FeedForward, Residual)>,
    pub(crate) bottleneck: Option<Bottleneck>,
    /// Whether feed-forward reads what attention reads.
    pub(crate) parallel: Option<Parallel>,
    level: Level,
}

/// Their names, and whether each reads a source.
fn attentions(blueprint: &Blueprint, block: usize) -> impl Iterator<Item = (String, bool)> {
    let names = [("attention", false), ("cross_attention", true)].into_iter();
    let there = 1 + usize::from(blueprint.source.is_some());
    names.take(there).map(move |(name, source)| (format!("layers.{block}.{name}"), source))
}

/// The names of feed-forwards; the last, or only, one has no number.
fn feed_forwards(blueprint: &Blueprint, block: usize) -> impl Iterator<Item = (String, NormSpec)> {
    let (last, norm) = (blueprint.feed_forward.count - 1, blueprint.norm);
    let name = move |k| if k == last { "feed_forward".to_owned() } else { format!("feed_forward_{k}") };
    let norm = move |k| if k == last { norm.last() } else { norm };
    (0..=last).map(move |k| (format!("layers.{block}.{}", name(k)), norm(k)))
}

fn bottleneck(block: usize) -> String {
    format!("layers.{block}.bottleneck")
}

/// Whether feed-forward has a norm of its own.
fn feed_forward_normed(blueprint: &Blueprint) -> bool {
    blueprint.parallel != Some(Parallel::SharedNorm)
}

impl Block {
    /// Of the block with this number, which is the layer's.
    pub(crate) fn slots(blueprint: &Blueprint, block: usize, layer: usize) -> impl Iterator<Item = Slot> + use<> {
        let mut slots = vec![];
        for (scope, source) in attentions(blueprint, block) {
            slots.extend(Attention::slots(blueprint, &scope, source));
            slots.extend(Residual::slots(blueprint, &scope, source || blueprint.layer(layer).attention_norm));
        }
        for (scope, _) in feed_forwards(blueprint, block) {
            slots.extend(FeedForward::slots(blueprint, &scope));
            slots.extend(Residual::slots(blueprint, &scope, feed_forward_normed(blueprint)));
        }
        let scope = bottleneck(block);
        slots.extend(blueprint.bottleneck.into_iter().flat_map(|spec| Bottleneck::slots(blueprint, spec, &scope)));
        slots.into_iter()
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, block: usize, layer: usize) -> Result<Self> {
        let attention = |(scope, source): (String, bool)| {
            let normed = source || blueprint.layer(layer).attention_norm;
            Ok((
                Attention::load(loader, blueprint, &scope, source)?,
                Residual::load(loader, blueprint, &scope, normed, blueprint.norm)?,
            ))
        };
        let feed_forward = |(scope, norm): (String, NormSpec)| {
            let normed = feed_forward_normed(blueprint);
            Ok((
                FeedForward::load(loader, blueprint, &scope)?,
                Residual::load(loader, blueprint, &scope, normed, norm)?,
            ))
        };
        let bottleneck = |spec| Bottleneck::load(loader, blueprint, spec, &bottleneck(block));
        Ok(Self {
            attentions: attentions(blueprint, block).map(attention).collect::<Result<_>>()?,
            feed_forwards: feed_forwards(blueprint, block).map(feed_forward).collect::<Result<_>>()?,
            bottleneck: blueprint.bottleneck.map(bottleneck).transpose()?,
            parallel: blueprint.parallel,
            level: loader.level,
        })
    }

    /// How many sub-layers attend: each is [`project`](Self::project), attention itself, [`finish`](Self::finish).
    pub(crate) fn stages(&self) -> usize {
        self.attentions.len()
    }

    /// The number of the last sub-layer.
    pub(crate) fn last(&self) -> usize {
        self.stages() + self.feed_forwards.len() - 1
    }

    pub(crate) fn residual(&self, sub_layer: usize) -> &Residual {
        match sub_layer.checked_sub(self.stages()) {
            None => &self.attentions[sub_layer].1,
            Some(k) => &self.feed_forwards[k].1,
        }
    }

    pub(crate) fn residual_mut(&mut self, sub_layer: usize) -> &mut Residual {
        match sub_layer.checked_sub(self.stages()) {
            None => &mut self.attentions[sub_layer].1,
            Some(k) => &mut self.feed_forwards[k].1,
        }
    }

    /// The norm of the layer's last sum.
    pub(crate) fn after(&self) -> Option<&LayerNorm> {
        self.bottleneck.as_ref().map_or(self.residual(self.last()).after.as_ref(), |narrow| Some(narrow.norm()))
    }

    /// Whose norm a sub-layer's work reads.
    pub(crate) fn before_of(&self, sub_layer: usize) -> usize {
        if self.parallel == Some(Parallel::SharedNorm) && sub_layer == self.last() { 0 } else { sub_layer }
    }

    fn before(&self, sub_layer: usize) -> Option<&LayerNorm> {
        self.residual(self.before_of(sub_layer)).before.as_ref()
    }

    /// The form in which [`project`](Self::project) reads what is in `room.narrow`.
    pub(crate) fn form(&self, stage: usize) -> Form {
        let form = || self.form_before(stage, self.attentions[stage].0.form());
        self.bottleneck.as_ref().map_or_else(form, |bottleneck| bottleneck.forms()[0])
    }

    /// That in which a sub-layer, whose work reads `form`, reads the stream.
    fn form_before(&self, sub_layer: usize, form: Form) -> Form {
        if self.before(sub_layer).is_some() { Form::Floats } else { form }
    }

    /// Some tokens: hidden (T, H), in [`form`](Self::form) in `room.narrow` -> what attention takes of them, (T, its columns), and where
    /// there is a bottleneck the stream (T, C).
    #[expect(clippy::too_many_arguments, reason = "what is read and written, each by its own name")]
    pub(crate) fn project(
        &self,
        stage: usize,
        threads: &Threads,
        hidden: Mat,
        around: Around,
        room: &mut Room,
        stream: MatMut,
        qkv: MatMut,
    ) -> Result<()> {
        let (Room { narrow, normed, bottleneck: room, .. }, (attention, _)) = (room, &self.attentions[stage]);
        if let Some(bottleneck) = &self.bottleneck {
            bottleneck.enter(threads, hidden, narrow, room, stream, attention.form())?;
            return attention.project(threads, room.read.mat(), narrow, around, qkv);
        }
        let x = match self.before(stage) {
            Some(norm) => {
                narrow.resize(attention.form(), hidden.rows(), hidden.cols())?;
                norm.forward(threads, hidden, normed.mat_mut(), narrow);
                normed.mat()
            }
            None => hidden,
        };
        attention.project(threads, x, narrow, around, qkv)
    }

    /// That in which a feed-forward reads the stream.
    fn feed_forward_form(&self, k: usize) -> Form {
        self.form_before(self.stages() + k, self.feed_forwards[k].0.form())
    }

    /// What all layers know of distances, x (P, H) -> what this one makes of it for attention.
    pub(crate) fn project_positions(
        &self,
        threads: &Threads,
        x: Mat,
        narrow: &mut Narrow,
        out: &mut Rows,
    ) -> Result<()> {
        self.attentions[0].0.project_positions(threads, x, narrow, out)
    }

    /// What follows attention, token by token, to the next or to the end of the layer: context (T, heads x head_dim), hidden (T, H)
    /// in and out, and out once more in `room.narrow`, in the form that what comes next reads. Where there is a bottleneck, with the
    /// stream (T, C).
    #[expect(clippy::too_many_arguments, reason = "what is read and written, each by its own name")]
    pub(crate) fn finish(
        &self,
        stage: usize,
        threads: &Threads,
        context: Mat,
        hidden: &mut MatMut,
        mut stream: MatMut,
        form: Form,
        room: &mut Room,
    ) -> Result<()> {
        let Some(bottleneck) = &self.bottleneck else {
            return self.finish_stream(stage, threads, context, hidden, form, room);
        };
        self.finish_stream(stage, threads, context, &mut stream, bottleneck.forms()[1], room)?;
        let Room { narrow, bottleneck: room, .. } = room;
        bottleneck.widen(threads, stream.view(), narrow, room, hidden.reborrow(), form)
    }

    /// Likewise, of the stream that sub-layers add to.
    fn finish_stream(
        &self,
        stage: usize,
        threads: &Threads,
        context: Mat,
        hidden: &mut MatMut,
        form: Form,
        room: &mut Room,
    ) -> Result<()> {
        let (rows, cols) = (hidden.rows(), hidden.cols());
        let last = stage + 1 == self.stages();
        let Room { narrow, sum, normed, feed_forward: inner, .. } = room;
        let (mut x, mut y) = (hidden.reborrow(), sum.mat_mut());
        let (attention, residual) = &self.attentions[stage];
        attention.output(threads, context, residual.stream(&x), narrow, y.reborrow())?;
        let mut swaps = 0;
        if self.parallel.is_none() {
            let read = if last { self.feed_forward_form(0) } else { form };
            narrow.resize(read, rows, cols)?;
            swaps += self.join(threads, residual, &mut x, &mut y, normed, narrow);
        }
        for (k, (feed_forward, residual)) in self.feed_forwards.iter().enumerate().filter(|_| last) {
            let before = self.before(self.stages() + k);
            let form = if k + 1 < self.feed_forwards.len() { self.feed_forward_form(k + 1) } else { form };
            if let Some(norm) = before {
                narrow.resize(feed_forward.form(), rows, cols)?;
                norm.forward(threads, x.view(), normed.mat_mut(), narrow);
            }
            if self.parallel.is_some() {
                // The stream is what was read, and the sum so far lies in y.
                feed_forward.forward(threads, normed.mat(), narrow, Some(y.view()), inner, x.reborrow())?;
                narrow.resize(form, rows, cols)?;
                kernels::narrow(self.level, threads, x.view(), narrow);
            } else {
                let u = if before.is_some() { normed.mat() } else { x.view() };
                feed_forward.forward(threads, u, narrow, residual.stream(&x), inner, y.reborrow())?;
                narrow.resize(form, rows, cols)?;
                swaps += self.join(threads, residual, &mut x, &mut y, normed, narrow);
            }
        }
        if swaps % 2 == 1 {
            y.copy(x.view());
        }
        Ok(())
    }

    /// The stream x and what came of a sub-layer, y: its work and x, or where it has a branch norm its work alone -> the stream behind
    /// it in x, and in `narrow` in its form. The two may change places: how often they did.
    fn join<'a>(
        &self,
        threads: &Threads,
        residual: &Residual,
        x: &mut MatMut<'a>,
        y: &mut MatMut<'a>,
        normed: &mut Rows,
        narrow: &mut Narrow,
    ) -> usize {
        let mut swaps = 0;
        if let Some(branch) = &residual.branch {
            branch.forward(threads, y.view(), normed.mat_mut(), &mut Narrow::default());
            add(self.level, normed.mat(), x.reborrow());
        } else if let Some(after) = &residual.after {
            after.forward(threads, y.view(), x.reborrow(), narrow);
            return 0;
        } else {
            std::mem::swap(x, y);
            swaps = 1;
        }
        kernels::narrow(self.level, threads, x.view(), narrow);
        swaps
    }

    fn residuals(&self) -> impl Iterator<Item = &Residual> {
        let feed_forwards = self.feed_forwards.iter().map(|(_, residual)| residual);
        self.attentions.iter().map(|(_, residual)| residual).chain(feed_forwards)
    }

    fn norms(&self) -> impl Iterator<Item = &LayerNorm> {
        self.residuals().flat_map(Residual::norms)
    }

    fn norms_mut(&mut self) -> impl Iterator<Item = &mut LayerNorm> {
        let feed_forwards = self.feed_forwards.iter_mut().map(|(_, residual)| residual);
        let residuals = self.attentions.iter_mut().map(|(_, residual)| residual).chain(feed_forwards);
        residuals.flat_map(Residual::norms_mut)
    }

    fn attention_layers(&self) -> impl Iterator<Item = &Attention> {
        self.attentions.iter().map(|(attention, _)| attention)
    }

    fn feed_forward_layers(&self) -> impl Iterator<Item = &FeedForward> {
        self.feed_forwards.iter().map(|(feed_forward, _)| feed_forward)
    }

    /// Whether it holds nothing, as the gradient of a block that is frozen.
    pub(crate) fn is_empty(&self) -> bool {
        self.attention_layers().all(Attention::is_empty)
            && self.feed_forward_layers().flat_map(FeedForward::layers).all(Linear::is_empty)
            && self.norms().all(LayerNorm::is_empty)
            && self.bottleneck.as_ref().is_none_or(Bottleneck::is_empty)
    }

    pub(crate) fn transposed(&self, level: Level) -> Result<Transposed> {
        let both = |[first, last]: [&Linear; 2]| Ok([first.transposed(level)?, last.transposed(level)?]);
        let attention = |attention: &Attention| {
            let [projection, output] = attention.layers();
            Ok(TransposedAttention {
                projection: projection.transposed(level)?,
                output: output.transposed(level)?,
                source: attention.source().map(|source| source.transposed(level)).transpose()?,
            })
        };
        Ok(Transposed {
            attentions: self.attention_layers().map(attention).collect::<Result<_>>()?,
            feed_forwards: self.feed_forward_layers().map(|x| both(x.layers())).collect::<Result<_>>()?,
            bottleneck: self.bottleneck.as_ref().map(|bottleneck| both(bottleneck.layers())).transpose()?,
        })
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let feed_forwards = self.feed_forward_layers().flat_map(FeedForward::exports);
        let linears = self.attention_layers().flat_map(Attention::exports).chain(feed_forwards);
        let bottleneck = self.bottleneck.iter().flat_map(Bottleneck::exports);
        linears.chain(self.norms().flat_map(LayerNorm::exports)).chain(bottleneck)
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let Self { attentions, feed_forwards, bottleneck, .. } = self;
        let (attentions, residuals): (Vec<_>, Vec<_>) = attentions.iter_mut().map(|(a, r)| (a, r)).unzip();
        let (feed_forwards, others): (Vec<_>, Vec<_>) = feed_forwards.iter_mut().map(|(f, r)| (f, r)).unzip();
        let feed_forwards = feed_forwards.into_iter().flat_map(FeedForward::floats_mut);
        let linears = attentions.into_iter().flat_map(Attention::floats_mut).chain(feed_forwards);
        let norms = residuals.into_iter().chain(others).flat_map(Residual::norms_mut);
        let bottleneck = bottleneck.iter_mut().flat_map(Bottleneck::floats_mut);
        linears.chain(norms.flat_map(LayerNorm::floats_mut)).chain(bottleneck).collect()
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let feed_forwards = self.feed_forward_layers().flat_map(FeedForward::places);
        let linears = self.attention_layers().flat_map(Attention::places).chain(feed_forwards);
        let bottleneck = self.bottleneck.iter().flat_map(Bottleneck::places);
        linears.chain(self.norms().flat_map(LayerNorm::places)).chain(bottleneck).collect()
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        if self.norms().any(|norm| norm.holds(slot)) {
            return self.norms_mut().find_map(|norm| norm.slot_mut(slot));
        }
        let Self { attentions, feed_forwards, bottleneck, .. } = self;
        let found = attentions.iter_mut().find_map(|(attention, _)| attention.slot_mut(slot));
        let found =
            found.or_else(|| feed_forwards.iter_mut().find_map(|(feed_forward, _)| feed_forward.slot_mut(slot)));
        found.or_else(|| bottleneck.as_mut()?.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let feed_forwards = self.feed_forward_layers().flat_map(FeedForward::pieces);
        let linears = self.attention_layers().flat_map(Attention::pieces).chain(feed_forwards);
        let bottleneck = self.bottleneck.iter().flat_map(Bottleneck::pieces);
        linears.chain(self.norms().flat_map(LayerNorm::pieces)).chain(bottleneck).collect()
    }
}
