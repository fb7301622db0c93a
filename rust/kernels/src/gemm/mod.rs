//! The matrix product with packed weights, and what is done to each tile while it is in the cache.

mod block;
#[cfg(test)]
mod contract;
mod format;
#[cfg(test)]
mod narrow_contract;
mod outer;
#[cfg(test)]
mod outer_contract;
mod pack;
mod packed;
mod tile;

pub(crate) use block::{Panels, Rows, multiply};
use format::WidenedBf16;
pub(crate) use format::{Bf16, Float32, Format, Int8};
pub(crate) use outer::outer;
pub use outer::weight_gradient;
pub(crate) use pack::Pair;
pub use packed::{LAYOUT_VERSION, PackedLinear, Precision};

use std::ops::Range;

use crate::buffer::halves_of_mut;
use crate::isa::{Isa, Kernel, Level, dispatch, dispatch_floats};
use crate::mat::{Mat, MatMut};
use crate::math::{Activation, activate};
use crate::narrow::{Form, Narrow, to_bf16};
use crate::threads::{Disjoint, Threads};

/// What follows the product, element by element: first the activation, then the residual is added.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    pub activation: Option<Activation>,
    /// (M, N), added to the result.
    pub residual: Option<Mat<'a>>,
}

/// x (M, K), in the form that the weights ask for ([`PackedLinear::form`]).
#[derive(Clone, Copy)]
pub enum Input<'a> {
    Floats(Mat<'a>),
    Narrow(&'a Narrow),
}

impl Input<'_> {
    fn shape(&self) -> (usize, usize, Form) {
        match self {
            Input::Floats(x) => (x.rows(), x.cols(), Form::Floats),
            Input::Narrow(x) => (x.rows(), x.cols(), x.form()),
        }
    }
}

impl<'a> From<Mat<'a>> for Input<'a> {
    fn from(x: Mat<'a>) -> Self {
        Input::Floats(x)
    }
}

/// Where a product goes, (M, N).
pub enum Output<'a> {
    Floats(MatMut<'a>),
    /// Rounded to bf16, two columns a word: (M, N / 2), N even. Only from rows that are [`Form::Bf16`] or [`Form::Bytes`], where
    /// the CPU has bf16.
    Bf16(MatMut<'a, u32>),
}

impl<'a> From<MatMut<'a>> for Output<'a> {
    fn from(out: MatMut<'a>) -> Self {
        Output::Floats(out)
    }
}

impl<'a> Output<'a> {
    /// Some of the columns; in bf16 they begin and end at even ones.
    ///
    /// # Panics
    /// If they are not there.
    pub fn columns(&mut self, columns: Range<usize>) -> Output<'_> {
        match self {
            Output::Floats(out) => {
                let rows = out.rows();
                Output::Floats(out.reborrow().into_block(0..rows, columns))
            }
            Output::Bf16(out) => {
                assert!(
                    columns.start.is_multiple_of(2) && columns.end.is_multiple_of(2),
                    "columns of bf16: {columns:?}"
                );
                let rows = out.rows();
                Output::Bf16(out.reborrow().into_block(0..rows, columns.start / 2..columns.end / 2))
            }
        }
    }

    fn shape(&self) -> (usize, usize) {
        match self {
            Output::Floats(out) => (out.rows(), out.cols()),
            Output::Bf16(out) => (out.rows(), 2 * out.cols()),
        }
    }
}

/// An output whose columns several threads write.
enum Shared<'a> {
    Floats(Disjoint<'a>),
    Bf16(Disjoint<'a, u32>),
}

impl<'a> Shared<'a> {
    fn new(out: Output<'a>) -> Self {
        match out {
            Output::Floats(out) => Shared::Floats(Disjoint::new(out)),
            Output::Bf16(out) => Shared::Bf16(Disjoint::new(out)),
        }
    }

    /// # Safety
    /// No two ranges of columns that live at the same time overlap; each begins at an even column.
    unsafe fn columns(&self, rows: usize, columns: Range<usize>) -> Output<'_> {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Shared::Floats(out) => Output::Floats(out.block(0..rows, columns)),
                Shared::Bf16(out) => Output::Bf16(out.block(0..rows, columns.start / 2..columns.end / 2)),
            }
        }
    }
}

/// `out = epilogue(x W^T + bias)` for x (M, K), W (N, K) packed, out (M, N).
///
/// Every element is one sum in the order of k. With weights in f32 or bf16 it begins with the bias and is within K ULP of
/// the sum of |x w| (x itself rounded to bf16 where the CPU multiplies these). With weights in int8 it is a sum of integers,
/// without error and the same on every instruction set, scaled and added to the bias with three roundings; |sum| < 2^31 needs
/// K <= 133,000.
///
/// # Panics
/// If the shapes disagree or `x` has another form than [`PackedLinear::form`].
pub fn linear<'a, 'b>(
    threads: &Threads,
    x: impl Into<Input<'a>>,
    weights: &PackedLinear,
    epilogue: Epilogue,
    out: impl Into<Output<'b>>,
) {
    let (x, out) = (x.into(), out.into());
    let (inputs, outputs) = (weights.inputs(), weights.outputs());
    let (rows, cols, form) = x.shape();
    assert_eq!(
        (cols, form),
        (inputs, weights.form()),
        "linear: columns of x and inputs of the weights, and their form"
    );
    assert_eq!(out.shape(), (rows, outputs), "linear: out");
    let bf16 = matches!(out, Output::Bf16(_));
    assert!(!bf16 || form != Form::Floats && weights.level().has_bf16(), "linear: bf16 out of {form:?}");
    if let Some(residual) = epilogue.residual {
        assert_eq!((residual.rows(), residual.cols()), (rows, outputs), "linear: residual");
    }
    let panel = weights.level().panel();
    let out = Shared::new(out);
    let work_per_panel = rows * weights.depth() * panel;
    threads.for_each_block(outputs.div_ceil(panel), work_per_panel, |panels| {
        let columns = panels.start * panel..outputs.min(panels.end * panel);
        let residual = epilogue.residual.map(|r| r.block(0..rows, columns.clone()));
        // SAFETY: the blocks of columns do not overlap, and a panel has an even number of columns.
        let out = unsafe { out.columns(rows, columns) };
        let product = Product { b: weights.panels(panels.start), epilogue: Epilogue { residual, ..epilogue }, out };
        product.run(weights.level(), weights.precision(), x);
    });
}

/// Some columns of a product.
struct Product<'a> {
    b: Panels<'a>,
    epilogue: Epilogue<'a>,
    out: Output<'a>,
}

impl Product<'_> {
    fn run(self, level: Level, precision: Precision, x: Input) {
        match x {
            Input::Floats(x) => {
                dispatch_floats(level, OfFloats { product: self, x, widen: precision != Precision::Float32 })
            }
            Input::Narrow(x) => dispatch(level, OfNarrow { product: self, x }),
        }
    }

    #[inline(always)]
    #[rustfmt::skip]
    fn multiply<I: Isa, F: Format<I>>(self, isa: I, x: Rows<F::X>) {
        let Epilogue { activation, residual } = self.epilogue;
        let columns = self.out.shape().1;
        let (floats, mut bf16) = match self.out {
            Output::Floats(out) => (Some(out), None),
            Output::Bf16(out) => (None, Some(out)),
        };
        multiply::<I, F>(isa, x, self.b, columns, floats, #[inline(always)] |tile, rows, columns| {
            if activation.is_none() && residual.is_none() && bf16.is_none() {
                return;
            }
            for (i, r) in rows.enumerate() {
                let row = tile.row_mut(i);
                if let Some(activation) = activation {
                    activate(isa, activation, row);
                }
                if let Some(residual) = residual {
                    add(isa, &residual.row(r)[columns.clone()], row);
                }
                if I::HAS_BF16 && let Some(out) = &mut bf16 {
                    to_bf16(isa, row, halves_of_mut(&mut out.row_mut(r)[columns.start / 2..columns.end / 2]));
                }
            }
        });
    }
}

struct OfFloats<'a> {
    product: Product<'a>,
    x: Mat<'a>,
    widen: bool,
}

impl Kernel for OfFloats<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let x = Rows::plain(self.x);
        if self.widen {
            self.product.multiply::<I, WidenedBf16>(isa, x);
        } else {
            self.product.multiply::<I, Float32>(isa, x);
        }
    }
}

struct OfNarrow<'a> {
    product: Product<'a>,
    x: &'a Narrow,
}

impl Kernel for OfNarrow<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let x = Rows { mat: self.x.words(), scales: self.x.scales() };
        match self.x.form() {
            Form::Bytes => self.product.multiply::<I, Int8>(isa, x),
            Form::Bf16 if I::HAS_BF16 => self.product.multiply::<I, Bf16>(isa, x),
            form => unreachable!("{form:?} rows on an instruction set without"),
        }
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
