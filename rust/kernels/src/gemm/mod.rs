//! The matrix product with packed weights, and what is done to each tile while it is in the cache.

mod block;
#[cfg(test)]
mod contract;
mod packed;
mod tile;

pub(crate) use block::{Panels, multiply};
pub use packed::PackedLinear;

use crate::isa::{Isa, Kernel, dispatch};
use crate::mat::{Mat, MatMut};
use crate::math::{Activation, activate};
use crate::threads::{Disjoint, Threads};

/// What follows the product, element by element: first the activation, then the residual is added.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    pub activation: Option<Activation>,
    /// (M, N), added to the result.
    pub residual: Option<Mat<'a>>,
}

/// `out = epilogue(x W^T + bias)` for x (M, K), W (N, K) packed, out (M, N).
///
/// Every element is one sum in the order of k, begun with the bias: within K ULP of the sum of |x w|.
///
/// # Panics
/// If the shapes disagree.
pub fn linear(threads: &Threads, x: Mat, weights: &PackedLinear, epilogue: Epilogue, out: MatMut) {
    let (inputs, outputs) = (weights.inputs(), weights.outputs());
    assert_eq!(x.cols(), inputs, "linear: columns of x and inputs of the weights");
    assert_eq!((out.rows(), out.cols()), (x.rows(), outputs), "linear: out");
    if let Some(residual) = epilogue.residual {
        assert_eq!((residual.rows(), residual.cols()), (x.rows(), outputs), "linear: residual");
    }
    let (rows, panel) = (x.rows(), weights.level().panel());
    let out = Disjoint::new(out);
    let work_per_panel = rows * inputs * panel;
    threads.for_each_block(outputs.div_ceil(panel), work_per_panel, |panels| {
        let columns = panels.start * panel..outputs.min(panels.end * panel);
        let data = &weights.panels()[panels.start * panel * (inputs + 1)..];
        let residual = epilogue.residual.map(|r| r.block(0..rows, columns.clone()));
        // SAFETY: the blocks of columns do not overlap.
        let out = unsafe { out.block(0..rows, columns) };
        let epilogue = Epilogue { residual, ..epilogue };
        dispatch(weights.level(), Linear { x, b: Panels { data, depth: inputs }, epilogue, out });
    });
}

struct Linear<'a> {
    x: Mat<'a>,
    b: Panels<'a>,
    epilogue: Epilogue<'a>,
    out: MatMut<'a>,
}

impl Kernel for Linear<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(mut self, isa: I) {
        let Epilogue { activation, residual } = self.epilogue;
        multiply(isa, self.x, self.b, &mut self.out, #[inline(always)] |out, rows, columns| {
            if activation.is_none() && residual.is_none() {
                return;
            }
            for r in rows {
                let row = &mut out.row_mut(r)[columns.clone()];
                if let Some(activation) = activation {
                    activate(isa, activation, row);
                }
                if let Some(residual) = residual {
                    add(isa, &residual.row(r)[columns.clone()], row);
                }
            }
        });
    }
}

#[inline(always)]
fn add<I: Isa>(isa: I, xs: &[f32], out: &mut [f32]) {
    let mut pairs = out.chunks_exact_mut(I::LANES).zip(xs.chunks_exact(I::LANES));
    for (out, x) in &mut pairs {
        // SAFETY: both chunks hold LANES floats.
        unsafe { isa.store(out.as_mut_ptr(), isa.add(isa.load(out.as_ptr()), isa.load(x.as_ptr()))) };
    }
    let whole = out.len() - out.len() % I::LANES;
    for (out, x) in out[whole..].iter_mut().zip(&xs[whole..]) {
        *out += x;
    }
}
