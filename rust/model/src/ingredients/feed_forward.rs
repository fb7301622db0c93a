//! The position-wise feed-forward network: up, activation or gate, down.

use ferroformer_kernels::{
    Activation, Epilogue, Form, Level, Mat, MatMut, Narrow, PackedLinear, Threads, activation_backward, gate,
    gate_backward, linear, narrow,
};

use super::Linear;
use super::linear::Layer;
use crate::blueprint::{Blueprint, FeedForwardSpec};
use crate::error::Result;
use crate::export::{Export, ValuesMut};
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;
use crate::weights::Place;
use crate::workspace::Rows;

pub(crate) struct FeedForward {
    /// H to size; where it is gated to 2 x size, the gate and what it multiplies.
    up: Linear,
    down: Linear,
    activation: Activation,
    gated: bool,
    size: usize,
    level: Level,
}

fn up_parts(blueprint: &Blueprint, scope: &str) -> Vec<Layer> {
    let FeedForwardSpec { size, gated, fused, bias, groups, stored, .. } = blueprint.feed_forward;
    let part = |name, size| Layer::new(format!("{scope}.{name}"), size, bias).grouped(groups.up, stored);
    if gated && fused {
        return vec![part("gate_up", 2 * size)];
    }
    let names: &[&str] = if gated { &["gate", "up"] } else { &["up"] };
    names.iter().map(|name| part(name, size)).collect()
}

fn down_parts(blueprint: &Blueprint, scope: &str) -> Vec<Layer> {
    let FeedForwardSpec { bias, groups, stored, .. } = blueprint.feed_forward;
    vec![Layer::new(format!("{scope}.down"), blueprint.stream_size(), bias).grouped(groups.down, stored)]
}

impl FeedForward {
    pub(crate) fn slots(blueprint: &Blueprint, scope: &str) -> impl Iterator<Item = Slot> + use<> {
        let up = Linear::slots(&up_parts(blueprint, scope), blueprint.stream_size());
        up.chain(Linear::slots(&down_parts(blueprint, scope), blueprint.feed_forward.size))
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, scope: &str) -> Result<Self> {
        let FeedForwardSpec { size, gated, activation, .. } = blueprint.feed_forward;
        let up = Linear::load(loader, up_parts(blueprint, scope), blueprint.stream_size())?;
        let down = Linear::load(loader, down_parts(blueprint, scope), size)?;
        Ok(Self { up, down, activation: activation.into(), gated, size, level: loader.level })
    }

    /// The form in which x is read.
    pub(crate) fn form(&self) -> Form {
        self.up.form()
    }

    /// Some tokens: x (T, H), in [`form`](Self::form) in `narrow_x` -> out (T, H) = down(activation(up(x))), and `residual`. `inner` is
    /// (T, up's outputs).
    pub(crate) fn forward(
        &self,
        threads: &Threads,
        x: Mat,
        narrow_x: &mut Narrow,
        residual: Option<Mat>,
        inner: &mut Rows,
        out: MatMut,
    ) -> Result<()> {
        let activation = (!self.gated).then_some(self.activation);
        let epilogue = Epilogue { activation, ..Epilogue::default() };
        self.up.forward(threads, x, narrow_x, epilogue, inner.mat_mut())?;
        if self.gated {
            gate(self.level, threads, self.activation, inner.mat_mut());
        }
        let inner = inner.mat().block(0..x.rows(), 0..self.size);
        narrow_x.resize(self.down.form(), inner.rows(), inner.cols())?;
        narrow(self.level, threads, inner, narrow_x);
        self.down.forward(threads, inner, narrow_x, Epilogue { residual, ..Epilogue::default() }, out)
    }

    /// Some tokens: what is read, x (T, H) -> `up` (T, up's outputs), what activation or gate reads, and `inner` (T, size or more), in
    /// whose first columns lies what they make of that.
    pub(crate) fn record(&self, threads: &Threads, x: Mat, mut up: MatMut, mut inner: MatMut) -> Result<()> {
        self.up.forward(threads, x, &mut Narrow::default(), Epilogue::default(), up.reborrow())?;
        for t in 0..up.rows() {
            let row = inner.row_mut(t);
            row.copy_from_slice(up.row_mut(t));
            if !self.gated {
                self.activation.apply(self.level, row);
            }
        }
        if self.gated {
            gate(self.level, threads, self.activation, inner);
        }
        Ok(())
    }

    /// Some tokens: `up` as it was recorded and the gradient of what this ingredient made, `d_out` (T, H) -> the gradients of `up`
    /// and of what was read, to which `residual` is added where there is one; the first columns of `up` become what activation or
    /// gate made of it, and what was left of that: `drop` drops it.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(crate) fn backward(
        &self,
        threads: &Threads,
        [transposed_up, transposed_down]: &[PackedLinear; 2],
        mut up: MatMut,
        d_out: Mat,
        residual: Option<Mat>,
        mut d_up: MatMut,
        d_x: MatMut,
        drop: impl Fn(MatMut),
    ) {
        let rows = d_up.rows();
        let mut d_inner = d_up.reborrow().into_block(0..rows, 0..self.size);
        linear(threads, d_out, transposed_down, Epilogue::default(), d_inner.reborrow());
        drop(d_inner);
        if self.gated {
            gate_backward(self.level, self.activation, up.reborrow(), d_up.reborrow());
        } else {
            activation_backward(self.level, self.activation, up.reborrow(), d_up.reborrow());
        }
        drop(up.into_block(0..rows, 0..self.size));
        linear(threads, d_up.view(), transposed_up, Epilogue { residual, ..Epilogue::default() }, d_x);
    }

    /// The layers of this ingredient, whose gradients a caller takes.
    pub(crate) fn layers(&self) -> [&Linear; 2] {
        [&self.up, &self.down]
    }

    pub(crate) fn layers_mut(&mut self) -> [&mut Linear; 2] {
        [&mut self.up, &mut self.down]
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.up.exports().chain(self.down.exports())
    }

    pub(crate) fn floats_mut(&mut self) -> Vec<&mut [f32]> {
        self.up.floats_mut().chain(self.down.floats_mut()).collect()
    }

    pub(crate) fn places(&self) -> Vec<Vec<Place>> {
        self.up.places().chain(self.down.places()).collect()
    }

    pub(crate) fn slot_mut(&mut self, slot: &str) -> Option<ValuesMut<'_>> {
        self.up.slot_mut(slot).or_else(|| self.down.slot_mut(slot))
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        self.up.pieces().chain(self.down.pieces()).collect()
    }
}
