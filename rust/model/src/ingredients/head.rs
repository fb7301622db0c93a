//! The last layer of a task: some numbers for each sequence or for each token, after a transform where there is one. Its weights may
//! be those of the word embeddings; where these are narrower than what it reads it has others for the rest.

use ferroformer_kernels::{
    Epilogue, Form, Level, Mat, MatMut, Narrow, PackedLinear, Threads, narrow, scale, soft_cap, soft_cap_backward,
};

use super::linear::Layer;
use super::{Linear, Transform};
use crate::blueprint::{Blueprint, HeadInput, HeadSpec, WeightShape};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::training::input_gradient;
use crate::weights::Place;
use crate::workspace::Rows;

pub(crate) struct Head {
    transform: Option<Transform>,
    /// None where the word embeddings serve.
    dense: Option<Linear>,
    /// Of the inputs that these do not read.
    rest: Option<Linear>,
    spec: HeadSpec,
    level: Level,
}

/// What a head works in.
#[derive(Default)]
pub(crate) struct HeadRoom {
    pub(crate) narrow: Narrow,
    /// (M, N): what the transform makes, step by step.
    pub(crate) inner: Rows,
    pub(crate) hidden: Rows,
    /// (M, N), on the way back.
    d_hidden: Rows,
    pub(crate) d_inner: Rows,
    /// The head's weights and the transform's the other way round.
    transposed: Option<PackedLinear>,
    rest_transposed: Option<PackedLinear>,
    /// (some rows, outputs): what the rest is added to.
    first: Rows,
    pub(crate) transform_transposed: Option<PackedLinear>,
}

/// Of a model's first head, and of its second.
pub(crate) const SCOPES: [&str; 2] = ["head", "second_head"];

fn parts(scope: &str, spec: HeadSpec) -> Vec<Layer> {
    vec![Layer::new(scope, spec.outputs, spec.bias).fixed_bias(spec.fixed_bias)]
}

fn rest_parts(scope: &str, spec: HeadSpec) -> Vec<Layer> {
    vec![Layer::new(format!("{scope}.rest"), spec.outputs, false).grouped(1, WeightShape::Transposed)]
}

/// The width of what the last layer reads, and of the rest.
fn inputs(blueprint: &Blueprint, spec: HeadSpec) -> [usize; 2] {
    let all = spec.transform.and_then(|transform| transform.size).unwrap_or(blueprint.hidden_size);
    let first = spec.split.unwrap_or(all);
    [first, all - first]
}

impl Head {
    pub(crate) fn slots(blueprint: &Blueprint, scope: &str, spec: HeadSpec) -> Vec<Slot> {
        let transform = spec.transform.into_iter().flat_map(|spec| Transform::slots(blueprint, spec));
        let (mut slots, [first, rest]) = (transform.collect::<Vec<Slot>>(), inputs(blueprint, spec));
        if !spec.tied {
            slots.extend(Linear::slots(&parts(scope, spec), first));
        }
        if rest > 0 {
            slots.extend(Linear::slots(&rest_parts(scope, spec), rest));
        }
        slots
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, scope: &str, spec: HeadSpec) -> Result<Self> {
        let transform = spec.transform.map(|spec| Transform::load(loader, blueprint, spec)).transpose()?;
        let [first, rest] = inputs(blueprint, spec);
        let dense = || Linear::load(loader, parts(scope, spec), first);
        let dense = (!spec.tied).then(dense).transpose()?;
        let rest = (rest > 0).then(|| Linear::load(loader, rest_parts(scope, spec), rest)).transpose()?;
        Ok(Self { transform, dense, rest, spec, level: loader.level })
    }

    pub(crate) fn reads(&self) -> HeadInput {
        self.spec.reads
    }

    pub(crate) fn outputs(&self) -> usize {
        self.spec.outputs
    }

    /// The layer that makes the outputs: its own, or the word embeddings, `words`.
    fn last<'a>(&'a self, words: Option<&'a Linear>) -> &'a Linear {
        self.dense.as_ref().or(words).expect("a head has weights of its own or shares them")
    }

    /// x (M, H) -> out (M, outputs).
    pub(crate) fn forward(
        &self,
        threads: &Threads,
        words: Option<&Linear>,
        x: Mat,
        room: &mut HeadRoom,
        mut out: MatMut,
    ) -> Result<()> {
        let last = self.last(words);
        if let Some(transform) = &self.transform {
            let form = if self.rest.is_some() { Form::Floats } else { last.form() };
            transform.forward(threads, x, form, room)?;
            let HeadRoom { narrow, hidden, first, .. } = room;
            match &self.rest {
                Some(rest) => self.both(threads, [last, rest], hidden.mat(), narrow, first, out.reborrow())?,
                None => last.forward(threads, hidden.mat(), narrow, Default::default(), out.reborrow())?,
            }
        } else {
            let HeadRoom { narrow: narrow_x, hidden, first, .. } = room;
            let x = self.scaled(threads, x, hidden)?;
            match &self.rest {
                Some(rest) => self.both(threads, [last, rest], x, narrow_x, first, out.reborrow())?,
                None => self.product(threads, last, x, narrow_x, None, out.reborrow())?,
            }
        }
        if let Some(cap) = self.spec.soft_cap {
            soft_cap(self.level, threads, cap, out);
        }
        Ok(())
    }

    fn product(
        &self,
        threads: &Threads,
        layer: &Linear,
        x: Mat,
        room: &mut Narrow,
        residual: Option<Mat>,
        out: MatMut,
    ) -> Result<()> {
        room.resize(layer.form(), x.rows(), x.cols())?;
        narrow(self.level, threads, x, room);
        layer.forward(threads, x, room, Epilogue { residual, ..Epilogue::default() }, out)
    }

    /// x (M, K) -> out (M, outputs), the sum of what two layers make of its first channels and of the rest. Some rows after the other: the
    /// room for what the first makes of them is as large as they are.
    fn both(
        &self,
        threads: &Threads,
        [last, rest]: [&Linear; 2],
        x: Mat,
        narrow: &mut Narrow,
        room: &mut Rows,
        mut out: MatMut,
    ) -> Result<()> {
        const ROWS: usize = 64;
        for start in (0..x.rows()).step_by(ROWS) {
            let rows = start..x.rows().min(start + ROWS);
            let [first, others] = self.cut(x.rows_of(rows.clone()));
            room.resize(rows.len(), out.cols())?;
            self.product(threads, last, first, narrow, None, room.mat_mut())?;
            let columns = 0..out.cols();
            let out = out.reborrow().into_block(rows, columns);
            self.product(threads, rest, others, narrow, Some(room.mat()), out)?;
        }
        Ok(())
    }

    /// What the last layer reads of x, and the rest.
    fn cut<'a>(&self, x: Mat<'a>) -> [Mat<'a>; 2] {
        let (rows, split) = (0..x.rows(), self.spec.split.unwrap_or(x.cols()));
        [x.block(rows.clone(), 0..split), x.block(rows, split..x.cols())]
    }

    /// The outputs' gradient d (M, outputs), and what made them, x (M, K) -> that of x, dx; those of the weights are added to theirs.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    fn product_backward(
        &self,
        threads: &Threads,
        words: Option<&Linear>,
        x: Mat,
        d: Mat,
        [room, rest_room]: [&mut Option<PackedLinear>; 2],
        gradients: [Option<&mut Linear>; 2],
        dx: MatMut,
    ) -> Result<()> {
        let ([first, others], [gradient, rest_gradient]) = (self.cut(x), gradients);
        let (d_first, d_others) = dx.split_cols(first.cols());
        gradient.into_iter().for_each(|gradient| gradient.add_gradient(self.level, threads, first, d));
        input_gradient(self.last(words), self.level, threads, d, d_first, room)?;
        let Some(rest) = &self.rest else { return Ok(()) };
        rest_gradient.into_iter().for_each(|gradient| gradient.add_gradient(self.level, threads, others, d));
        input_gradient(rest, self.level, threads, d, d_others, rest_room)
    }

    /// x (M, H) times the factor, where there is one.
    fn scaled<'a>(&self, threads: &Threads, x: Mat<'a>, room: &'a mut Rows) -> Result<Mat<'a>> {
        let Some(factor) = self.spec.factor else { return Ok(x) };
        room.resize(x.rows(), x.cols())?;
        room.mat_mut().copy(x);
        (0..x.rows()).for_each(|r| scale(self.level, threads, room.mat_mut().row_mut(r), factor));
        Ok(room.mat())
    }

    /// The outputs, (M, outputs), and their gradient d -> that of what they were before the cap, if there is one, in its place.
    pub(crate) fn cap_backward(&self, threads: &Threads, outputs: Mat, d: MatMut) {
        if let Some(cap) = self.spec.soft_cap {
            soft_cap_backward(self.level, threads, cap, outputs, d);
        }
    }

    /// x (M, H) and the gradient of the outputs before any cap, d (M, outputs) -> that of x, dx (M, H); those of the weights are added to `gradient`
    /// and to that of the word embeddings, `words_gradient`.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(crate) fn backward(
        &self,
        threads: &Threads,
        words: Option<&Linear>,
        x: Mat,
        d: Mat,
        room: &mut HeadRoom,
        gradient: &mut Head,
        words_gradient: Option<&mut Linear>,
        mut dx: MatMut,
    ) -> Result<()> {
        let (level, last) = (self.level, self.last(words));
        let gradients = [gradient.dense.as_mut().or(words_gradient), gradient.rest.as_mut()];
        let Some(transform) = &self.transform else {
            let HeadRoom { hidden, transposed, rest_transposed, .. } = room;
            let x = self.scaled(threads, x, hidden)?;
            let rooms = [transposed, rest_transposed];
            self.product_backward(threads, words, x, d, rooms, gradients, dx.reborrow())?;
            if let Some(factor) = self.spec.factor {
                (0..dx.rows()).for_each(|r| scale(level, threads, dx.row_mut(r), factor));
            }
            return Ok(());
        };
        transform.forward(threads, x, last.form(), room)?;
        room.d_hidden.resize(x.rows(), room.hidden.mat().cols())?;
        let HeadRoom { hidden, d_hidden, transposed, rest_transposed, .. } = room;
        let rooms = [transposed, rest_transposed];
        self.product_backward(threads, words, hidden.mat(), d, rooms, gradients, d_hidden.mat_mut())?;
        let d_hidden = std::mem::take(&mut room.d_hidden);
        transform.backward(threads, x, d_hidden.mat(), room, gradient.transform.as_mut(), dx)?;
        room.d_hidden = d_hidden;
        Ok(())
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.dense.iter().chain(&self.rest)
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let transform = self.transform.iter().flat_map(Transform::exports);
        transform.chain(self.linears().flat_map(Linear::exports))
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let mut floats = self.transform.as_mut().map_or(vec![], Transform::floats_mut);
        floats.extend(self.dense.iter_mut().chain(&mut self.rest).flat_map(Linear::floats_mut));
        floats
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let mut places = self.transform.as_ref().map_or(vec![], Transform::places);
        places.extend(self.linears().flat_map(Linear::places));
        places
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        let transform = self.transform.as_mut().and_then(|transform| transform.slot_mut(slot));
        transform.or_else(|| self.dense.iter_mut().chain(&mut self.rest).find_map(|linear| linear.slot_mut(slot)))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = self.transform.as_ref().map_or(vec![], Transform::pieces);
        pieces.extend(self.linears().flat_map(Linear::pieces));
        pieces
    }
}
