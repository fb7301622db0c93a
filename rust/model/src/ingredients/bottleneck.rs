//! The way into a layer whose sub-layers work on a stream of another width, and the way out (Sun et al. 2020, arXiv 2004.02984):
//!
//!   stream = norm(W x + b),  second = norm(W' x + b'),  and behind the last sub-layer  y = norm(V stream + c + x)

use std::ops::Range;

use ferroformer_kernels::{
    Epilogue, Form, Level, Mat, MatMut, Narrow, PackedLinear, Threads, add, linear, narrow as to_form,
};

use super::linear::Layer;
use super::{LayerNorm, Linear};
use crate::blueprint::{Blueprint, BottleneckAttention, BottleneckSpec};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::weights::Place;
use crate::workspace::Rows;

pub(crate) struct Bottleneck {
    /// H to the stream, C, and where attention has a second one to both side by side.
    narrowing: Linear,
    /// Of each of them.
    norms: Vec<LayerNorm>,
    /// C to H.
    widening: Linear,
    /// Of the layer's last sum.
    norm: LayerNorm,
    spec: BottleneckSpec,
    level: Level,
}

/// What some tokens are narrowed in, and widened.
#[derive(Default)]
pub(crate) struct BottleneckRoom {
    /// (t, C or 2 C): what the norms read.
    made: Rows,
    /// (t, R): what attention reads.
    pub(crate) read: Rows,
    /// (t, H): the layer's last sum.
    sum: Rows,
}

impl BottleneckRoom {
    pub(crate) fn resize(&mut self, blueprint: &Blueprint, tokens: usize) -> Result<()> {
        let Some(spec) = blueprint.bottleneck else { return Ok(()) };
        self.made.resize(tokens, spec.made())?;
        self.read.resize(tokens, blueprint.attention_inputs())?;
        self.sum.resize(tokens, blueprint.hidden_size)
    }
}

impl BottleneckSpec {
    /// Of the stream and of the second.
    fn names(self) -> &'static [&'static str] {
        if self.attention == BottleneckAttention::Second { &["stream", "second"] } else { &["stream"] }
    }

    /// The width of all that norms read.
    pub(crate) fn made(self) -> usize {
        self.names().len() * self.size
    }

    fn columns(self, n: usize) -> Range<usize> {
        n * self.size..(n + 1) * self.size
    }
}

fn narrowing(spec: BottleneckSpec, scope: &str) -> Vec<Layer> {
    spec.names().iter().map(|name| Layer::new(format!("{scope}.{name}"), spec.size, true)).collect()
}

fn widening(blueprint: &Blueprint, scope: &str) -> Vec<Layer> {
    vec![Layer::new(format!("{scope}.output"), blueprint.hidden_size, true)]
}

/// The scopes of all norms with their widths, the last sum's behind the others.
fn norms(blueprint: &Blueprint, spec: BottleneckSpec, scope: &str) -> Vec<(String, usize)> {
    let narrow = spec.names().iter().map(|name| (*name, spec.size));
    let all = narrow.chain([("output", blueprint.hidden_size)]);
    all.map(|(name, size)| (format!("{scope}.{name}_norm"), size)).collect()
}

impl Bottleneck {
    pub(crate) fn slots(blueprint: &Blueprint, spec: BottleneckSpec, scope: &str) -> Vec<Slot> {
        let mut slots: Vec<Slot> = Linear::slots(&narrowing(spec, scope), blueprint.hidden_size).collect();
        slots.extend(Linear::slots(&widening(blueprint, scope), spec.size));
        let norm = blueprint.norm;
        let norms = norms(blueprint, spec, scope).into_iter();
        slots.extend(norms.flat_map(|(scope, size)| LayerNorm::slots(&scope, size, norm.norm(), norm.biased())));
        slots
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, spec: BottleneckSpec, scope: &str) -> Result<Self> {
        let norm = blueprint.norm;
        let load = |(scope, size)| LayerNorm::load(loader, scope, size, norm.norm(), norm.biased());
        let mut norms = norms(blueprint, spec, scope).into_iter().map(load).collect::<Result<Vec<_>>>()?;
        let norm = norms.pop().expect("the norm of the last sum");
        let narrowing = Linear::load(loader, narrowing(spec, scope), blueprint.hidden_size)?;
        let widening = Linear::load(loader, widening(blueprint, scope), spec.size)?;
        Ok(Self { narrowing, norms, widening, norm, spec, level: loader.level })
    }

    /// The forms in which [`narrow`](Self::narrow) and [`widen`](Self::widen) read what they read.
    pub(crate) fn forms(&self) -> [Form; 2] {
        [self.narrowing.form(), self.widening.form()]
    }

    /// Of the layer's last sum.
    pub(crate) fn norm(&self) -> &LayerNorm {
        &self.norm
    }

    pub(crate) fn norm_mut(&mut self) -> &mut LayerNorm {
        &mut self.norm
    }

    /// Some tokens: x (t, H), in its form in `form` -> the stream (t, C) and what attention reads, `read` (t, R); `made` (t, C or 2 C) is
    /// left with what the norms read.
    pub(crate) fn narrow(
        &self,
        threads: &Threads,
        x: Mat,
        form: &mut Narrow,
        mut made: MatMut,
        mut stream: MatMut,
        mut read: MatMut,
    ) -> Result<()> {
        self.narrowing.forward(threads, x, form, Epilogue::default(), made.reborrow())?;
        let none = &mut Narrow::default();
        let made = |n| made.view().block(0..x.rows(), self.spec.columns(n));
        self.norms[0].forward(threads, made(0), stream.reborrow(), none);
        match self.spec.attention {
            BottleneckAttention::Stream => read.copy(stream.view()),
            BottleneckAttention::Input => read.copy(x),
            BottleneckAttention::Second => {
                let (second, mut input) = read.split_cols(self.spec.size);
                self.norms[1].forward(threads, made(1), second, none);
                input.copy(x);
            }
        }
        Ok(())
    }

    /// [`narrow`](Self::narrow) in a room: what attention reads is left there, and in `form` in the form that it asks for.
    pub(crate) fn enter(
        &self,
        threads: &Threads,
        x: Mat,
        form: &mut Narrow,
        room: &mut BottleneckRoom,
        stream: MatMut,
        asked: Form,
    ) -> Result<()> {
        let BottleneckRoom { made, read, .. } = room;
        self.narrow(threads, x, form, made.mat_mut(), stream, read.mat_mut())?;
        form.resize(asked, x.rows(), read.mat().cols())?;
        to_form(self.level, threads, read.mat(), form);
        Ok(())
    }

    /// Some tokens: the stream (t, C), in its form in `form`, and what the layer read, hidden (t, H) -> what it makes, in its place, and
    /// in `form` in the form that is asked for.
    pub(crate) fn widen(
        &self,
        threads: &Threads,
        stream: Mat,
        form: &mut Narrow,
        room: &mut BottleneckRoom,
        hidden: MatMut,
        asked: Form,
    ) -> Result<()> {
        let epilogue = Epilogue { residual: Some(hidden.view()), ..Epilogue::default() };
        self.widening.forward(threads, stream, form, epilogue, room.sum.mat_mut())?;
        form.resize(asked, hidden.rows(), hidden.cols())?;
        self.norm.forward(threads, room.sum.mat(), hidden, form);
        Ok(())
    }

    /// Some tokens: what [`narrow`](Self::narrow) made, the gradients of what it gave, `d_stream` and `d_read`, and that of the layer's last
    /// sum, `d_sum` -> that of x, `dx`, and of what the norms read, `d_made`; those of the norms are added to `sums`.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(crate) fn narrow_backward(
        &self,
        threads: &Threads,
        transposed: &PackedLinear,
        made: Mat,
        mut d_stream: MatMut,
        d_read: Mat,
        d_sum: Mat,
        mut d_made: MatMut,
        mut dx: MatMut,
        sums: &mut [f32],
    ) {
        let (rows, size, level) = (made.rows(), self.spec.size, self.level);
        let [second, input] = match self.spec.attention {
            BottleneckAttention::Stream => {
                add(level, d_read, d_stream.reborrow());
                [None, None]
            }
            BottleneckAttention::Input => [None, Some(d_read)],
            BottleneckAttention::Second => {
                [Some(d_read.block(0..rows, 0..size)), Some(d_read.block(0..rows, size..d_read.cols()))]
            }
        };
        let gradients = [d_stream.view()].into_iter().chain(second);
        for (n, ((norm, d), sums)) in self.norms.iter().zip(gradients).zip(sums.chunks_mut(2 * size)).enumerate() {
            let columns = self.spec.columns(n);
            let out = d_made.reborrow().into_block(0..rows, columns.clone());
            norm.backward(made.block(0..rows, columns), d, out, sums);
        }
        linear(
            threads,
            d_made.view(),
            transposed,
            Epilogue { residual: Some(d_sum), ..Epilogue::default() },
            dx.reborrow(),
        );
        input.into_iter().for_each(|d| add(level, d, dx.reborrow()));
    }

    /// Adds what [`narrow_backward`](Self::narrow_backward) has summed for each chunk.
    pub(crate) fn add_sums(&mut self, sums: Mat) {
        for (n, norm) in self.norms.iter_mut().enumerate() {
            let width = 2 * self.spec.size;
            norm.add_gradient(sums.block(0..sums.rows(), n * width..(n + 1) * width));
        }
    }

    /// The layers of this ingredient, whose gradients a caller takes: in, and out.
    pub(crate) fn layers(&self) -> [&Linear; 2] {
        [&self.narrowing, &self.widening]
    }

    pub(crate) fn layers_mut(&mut self) -> [&mut Linear; 2] {
        [&mut self.narrowing, &mut self.widening]
    }

    fn all_norms(&self) -> impl Iterator<Item = &LayerNorm> {
        self.norms.iter().chain([&self.norm])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.layers().into_iter().all(Linear::is_empty) && self.all_norms().all(LayerNorm::is_empty)
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let linears = self.layers().into_iter().flat_map(Linear::exports);
        linears.chain(self.all_norms().flat_map(LayerNorm::exports))
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let Self { narrowing, norms, widening, norm, .. } = self;
        let linears = [narrowing, widening].into_iter().flat_map(Linear::floats_mut);
        linears.chain(norms.iter_mut().chain([norm]).flat_map(LayerNorm::floats_mut)).collect()
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let linears = self.layers().into_iter().flat_map(Linear::places);
        linears.chain(self.all_norms().flat_map(LayerNorm::places)).collect()
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        let Self { narrowing, norms, widening, norm, .. } = self;
        let linear = [narrowing, widening].into_iter().find_map(|linear| linear.slot_mut(slot));
        linear.or_else(|| norms.iter_mut().chain([norm]).find_map(|norm| norm.slot_mut(slot)))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let linears = self.layers().into_iter().flat_map(Linear::pieces);
        linears.chain(self.all_norms().flat_map(LayerNorm::pieces)).collect()
    }
}
