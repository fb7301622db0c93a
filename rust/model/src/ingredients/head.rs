//! The last layer of a task: some numbers for each sequence or for each token, after a transform where there is one. Its weights may
//! be those of the word embeddings.

use ferroformer_kernels::{
    Level, Mat, MatMut, Narrow, PackedLinear, Threads, narrow, scale, soft_cap, soft_cap_backward,
};

use super::linear::Layer;
use super::{Linear, Transform};
use crate::blueprint::{Blueprint, HeadInput, HeadSpec};
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
    pub(crate) transform_transposed: Option<PackedLinear>,
}

/// Of a model's first head, and of its second.
pub(crate) const SCOPES: [&str; 2] = ["head", "second_head"];

fn parts(scope: &str, spec: HeadSpec) -> Vec<Layer> {
    vec![Layer::new(scope, spec.outputs, spec.bias).fixed_bias(spec.fixed_bias)]
}

/// The width of what the last layer reads.
fn inputs(blueprint: &Blueprint, spec: HeadSpec) -> usize {
    spec.transform.and_then(|transform| transform.size).unwrap_or(blueprint.hidden_size)
}

impl Head {
    pub(crate) fn slots(blueprint: &Blueprint, scope: &str, spec: HeadSpec) -> Vec<Slot> {
        let transform = spec.transform.into_iter().flat_map(|spec| Transform::slots(blueprint, spec));
        let mut slots: Vec<Slot> = transform.collect();
        if !spec.tied {
            slots.extend(Linear::slots(&parts(scope, spec), inputs(blueprint, spec)));
        }
        slots
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, scope: &str, spec: HeadSpec) -> Result<Self> {
        let transform = spec.transform.map(|spec| Transform::load(loader, blueprint, spec)).transpose()?;
        let dense = || Linear::load(loader, parts(scope, spec), inputs(blueprint, spec));
        let dense = (!spec.tied).then(dense).transpose()?;
        Ok(Self { transform, dense, spec, level: loader.level })
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
            transform.forward(threads, x, last.form(), room)?;
            last.forward(threads, room.hidden.mat(), &mut room.narrow, Default::default(), out.reborrow())?;
        } else {
            let HeadRoom { narrow: narrow_x, hidden, .. } = room;
            let x = self.scaled(threads, x, hidden)?;
            narrow_x.resize(last.form(), x.rows(), x.cols())?;
            narrow(self.level, threads, x, narrow_x);
            last.forward(threads, x, narrow_x, Default::default(), out.reborrow())?;
        }
        if let Some(cap) = self.spec.soft_cap {
            soft_cap(self.level, threads, cap, out);
        }
        Ok(())
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
        let last_gradient = gradient.dense.as_mut().or(words_gradient);
        let Some(transform) = &self.transform else {
            let HeadRoom { hidden, transposed, .. } = room;
            let x = self.scaled(threads, x, hidden)?;
            last_gradient.into_iter().for_each(|gradient| gradient.add_gradient(level, threads, x, d));
            input_gradient(last, level, threads, d, dx.reborrow(), transposed)?;
            if let Some(factor) = self.spec.factor {
                (0..dx.rows()).for_each(|r| scale(level, threads, dx.row_mut(r), factor));
            }
            return Ok(());
        };
        transform.forward(threads, x, last.form(), room)?;
        last_gradient.into_iter().for_each(|gradient| gradient.add_gradient(level, threads, room.hidden.mat(), d));
        room.d_hidden.resize(x.rows(), room.hidden.mat().cols())?;
        let HeadRoom { d_hidden, transposed, .. } = room;
        input_gradient(last, level, threads, d, d_hidden.mat_mut(), transposed)?;
        let d_hidden = std::mem::take(&mut room.d_hidden);
        transform.backward(threads, x, d_hidden.mat(), room, gradient.transform.as_mut(), dx)?;
        room.d_hidden = d_hidden;
        Ok(())
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let transform = self.transform.iter().flat_map(Transform::exports);
        transform.chain(self.dense.iter().flat_map(Linear::exports))
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let mut floats = self.transform.as_mut().map_or(vec![], Transform::floats_mut);
        floats.extend(self.dense.as_mut().into_iter().flat_map(Linear::floats_mut));
        floats
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let mut places = self.transform.as_ref().map_or(vec![], Transform::places);
        places.extend(self.dense.as_ref().into_iter().flat_map(Linear::places));
        places
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        let transform = self.transform.as_mut().and_then(|transform| transform.slot_mut(slot));
        transform.or_else(|| self.dense.as_mut()?.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = self.transform.as_ref().map_or(vec![], Transform::pieces);
        pieces.extend(self.dense.as_ref().into_iter().flat_map(Linear::pieces));
        pieces
    }
}
