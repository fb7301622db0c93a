//! What a head does first: dense, activation and, where there is one, norm.

use ferroformer_kernels::{
    Activation, Epilogue, Form, Level, Mat, MatMut, Narrow, Threads, activation_backward, narrow,
};

use super::head::HeadRoom;
use super::linear::Layer;
use super::{LayerNorm, Linear};
use crate::blueprint::{Blueprint, TransformSpec};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::training::input_gradient;
use crate::weights::Place;

pub(crate) struct Transform {
    dense: Linear,
    activation: Option<Activation>,
    norm: Option<LayerNorm>,
    /// Its outputs.
    size: usize,
    level: Level,
}

const NORM: &str = "head.norm";

fn parts(blueprint: &Blueprint, spec: TransformSpec) -> Vec<Layer> {
    vec![Layer::new("head.transform", spec.size.unwrap_or(blueprint.hidden_size), spec.bias)]
}

impl Transform {
    pub(crate) fn slots(blueprint: &Blueprint, spec: TransformSpec) -> impl Iterator<Item = Slot> + use<> {
        let size = spec.size.unwrap_or(blueprint.hidden_size);
        let norm = spec.norm.into_iter().flat_map(move |norm| LayerNorm::slots(NORM, size, norm.norm(), norm.bias));
        Linear::slots(&parts(blueprint, spec), blueprint.hidden_size).chain(norm)
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, spec: TransformSpec) -> Result<Self> {
        let size = spec.size.unwrap_or(blueprint.hidden_size);
        let dense = Linear::load(loader, parts(blueprint, spec), blueprint.hidden_size)?;
        let norm = spec.norm.map(|norm| LayerNorm::load(loader, NORM.to_owned(), size, norm.norm(), norm.bias));
        Ok(Self {
            dense,
            activation: spec.activation.map(Activation::from),
            norm: norm.transpose()?,
            size,
            level: loader.level,
        })
    }

    /// x (M, H) -> `room.hidden` (M, size), and `room.narrow` in the form that is asked for; `room.inner` is left with what a norm
    /// read.
    pub(crate) fn forward(&self, threads: &Threads, x: Mat, form: Form, room: &mut HeadRoom) -> Result<()> {
        let HeadRoom { narrow: form_room, inner, hidden, .. } = room;
        inner.resize(x.rows(), self.size)?;
        hidden.resize(x.rows(), self.size)?;
        form_room.resize(self.dense.form(), x.rows(), x.cols())?;
        narrow(self.level, threads, x, form_room);
        let activation = Epilogue { activation: self.activation, ..Epilogue::default() };
        match &self.norm {
            Some(norm) => {
                self.dense.forward(threads, x, form_room, activation, inner.mat_mut())?;
                form_room.resize(form, x.rows(), self.size)?;
                norm.forward(threads, inner.mat(), hidden.mat_mut(), form_room);
            }
            None => {
                self.dense.forward(threads, x, form_room, activation, hidden.mat_mut())?;
                form_room.resize(form, x.rows(), self.size)?;
                narrow(self.level, threads, hidden.mat(), form_room);
            }
        }
        Ok(())
    }

    /// x (M, H), what [`forward`](Self::forward) left of it and the gradient of what it made, d (M, size) -> that of x, dx.
    pub(crate) fn backward(
        &self,
        threads: &Threads,
        x: Mat,
        d: Mat,
        room: &mut HeadRoom,
        gradient: Option<&mut Transform>,
        dx: MatMut,
    ) -> Result<()> {
        let HeadRoom { inner, d_inner, transform_transposed, .. } = room;
        d_inner.resize(x.rows(), self.size)?;
        let mut sums = vec![0.0; 2 * self.size];
        match &self.norm {
            Some(norm) => norm.backward(inner.mat(), d, d_inner.mat_mut(), &mut sums),
            None => d_inner.mat_mut().copy(d),
        }
        if let Some(activation) = self.activation {
            self.dense.forward(threads, x, &mut Narrow::default(), Epilogue::default(), inner.mat_mut())?;
            activation_backward(self.level, activation, inner.mat_mut(), d_inner.mat_mut());
        }
        if let Some(gradient) = gradient {
            if let Some(norm) = &mut gradient.norm {
                norm.add_gradient(Mat::dense(&sums, 1, sums.len()));
            }
            gradient.dense.add_gradient(self.level, threads, x, d_inner.mat());
        }
        input_gradient(&self.dense, self.level, threads, d_inner.mat(), dx, transform_transposed)
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.dense.exports().chain(self.norm.iter().flat_map(LayerNorm::exports))
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        let mut floats = self.dense.floats_mut().collect::<Vec<_>>();
        floats.extend(self.norm.iter_mut().flat_map(LayerNorm::floats_mut));
        floats
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        let mut places = self.dense.places().collect::<Vec<_>>();
        places.extend(self.norm.iter().flat_map(LayerNorm::places));
        places
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        self.dense.slot_mut(slot).or_else(|| self.norm.as_mut()?.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = self.dense.pieces().collect::<Vec<_>>();
        pieces.extend(self.norm.iter().flat_map(LayerNorm::pieces));
        pieces
    }
}
