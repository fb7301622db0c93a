//! Rows of x in the form that a product in bf16 or int8 reads, and how rows of floats become that.
//!
//! int8: symmetric, one scale a row, so that a row's numbers do not depend on its neighbours':
//!
//!   scale = max |T x| / 127,  q = round(T x / scale) in -127..=127,  stored plus the offset that the ISA's product wants
//!
//! where T evens out the row first ([`spread`](crate::spread)).

use std::ops::Range;

use crate::buffer::{Buffer, NoMemory, bytes_of_mut, halves_of_mut};
use crate::gemm::Precision;
use crate::isa::{Isa, Kernel, Level, MAX_PANEL, dispatch};
use crate::mat::{Mat, MatMut, padded_stride};
use crate::rows::{highest, max_magnitude};
use crate::spread::spread;
use crate::threads::{Disjoint, Threads};

/// What a product reads its rows as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// The floats themselves.
    Floats,
    Bf16,
    Bytes,
}

impl Form {
    /// What products with weights of this precision read on this level.
    pub fn of(level: Level, precision: Precision) -> Form {
        match precision {
            Precision::Float32 => Form::Floats,
            Precision::BFloat16 if level.has_bf16() => Form::Bf16,
            Precision::BFloat16 => Form::Floats,
            Precision::Int8 => Form::Bytes,
        }
    }

    /// Words that a row of `cols` takes.
    fn words(self, cols: usize) -> usize {
        match self {
            Form::Floats => 0,
            Form::Bf16 => cols.div_ceil(2),
            Form::Bytes => cols.div_ceil(4),
        }
    }
}

/// Rows of x (M, K) in a form other than floats; nothing where the form is that of floats.
#[derive(Default)]
pub struct Narrow {
    form: Option<Form>,
    words: Buffer<u32>,
    scales: Buffer,
    rows: usize,
    cols: usize,
}

impl Narrow {
    /// Room for (M, K) in this form.
    pub fn resize(&mut self, form: Form, rows: usize, cols: usize) -> Result<(), NoMemory> {
        (self.form, self.rows, self.cols) = (Some(form), rows, cols);
        self.words.resize(rows.saturating_mul(self.stride()))?;
        self.scales.resize(if form == Form::Bytes { rows } else { 0 })
    }

    pub fn form(&self) -> Form {
        self.form.unwrap_or(Form::Floats)
    }
    pub fn rows(&self) -> usize {
        self.rows
    }
    pub fn cols(&self) -> usize {
        self.cols
    }

    fn stride(&self) -> usize {
        match self.form().words(self.cols) {
            0 => 0,
            words => padded_stride(words),
        }
    }

    pub(crate) fn words(&self) -> Mat<'_, u32> {
        Mat::new(&self.words, self.rows, self.form().words(self.cols), self.stride())
    }

    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// To be written by several threads, each its own rows.
    pub(crate) fn shared(&mut self) -> SharedNarrow<'_> {
        let (form, rows, cols, stride) = (self.form(), self.rows, self.cols, self.stride());
        let words = MatMut::new(&mut self.words, rows, form.words(cols), stride);
        let scales = MatMut::dense(&mut self.scales, if form == Form::Bytes { rows } else { 0 }, 1);
        SharedNarrow { form, rows, cols, words: Disjoint::new(words), scales: Disjoint::new(scales) }
    }
}

pub(crate) struct SharedNarrow<'a> {
    form: Form,
    rows: usize,
    cols: usize,
    words: Disjoint<'a, u32>,
    scales: Disjoint<'a>,
}

impl SharedNarrow<'_> {
    pub(crate) fn shape(&self) -> (Form, usize, usize) {
        (self.form, self.rows, self.cols)
    }

    /// # Safety
    /// No two ranges that live at the same time overlap.
    pub(crate) unsafe fn rows_of(&self, rows: Range<usize>) -> NarrowRows<'_> {
        let scaled = if self.form == Form::Bytes { rows.clone() } else { 0..0 };
        // SAFETY: the caller's promise.
        unsafe {
            let words = self.words.block(rows, 0..self.form.words(self.cols));
            NarrowRows { form: self.form, words, scales: self.scales.block(scaled, 0..1) }
        }
    }
}

/// Some rows, to be written by one thread.
pub(crate) struct NarrowRows<'a> {
    form: Form,
    words: MatMut<'a, u32>,
    scales: MatMut<'a>,
}

impl NarrowRows<'_> {
    /// Row `r` from its floats.
    #[inline(always)]
    pub(crate) fn set<I: Isa>(&mut self, isa: I, r: usize, x: &[f32]) {
        match self.form {
            Form::Floats => {}
            Form::Bf16 if I::HAS_BF16 => to_bf16(isa, x, halves_of_mut(self.words.row_mut(r))),
            Form::Bf16 => unreachable!("bf16 rows on an instruction set without"),
            Form::Bytes => {
                let bytes = bytes_of_mut(self.words.row_mut(r));
                self.scales.row_mut(r)[0] = to_spread_bytes(isa, x, I::BYTE_OFFSET, bytes);
            }
        }
    }
}

/// Each row of `x` (M, K) in the form of `out`, whose shape it is. Nothing where that is the form of floats.
///
/// A row with NaN or an infinity has a scale of NaN.
///
/// # Panics
/// If the shapes disagree.
pub fn narrow(level: Level, threads: &Threads, x: Mat, out: &mut Narrow) {
    let out = out.shared();
    let (form, rows, cols) = out.shape();
    if form == Form::Floats {
        return;
    }
    assert_eq!((x.rows(), x.cols()), (rows, cols), "narrow: x and out");
    threads.for_each_block(rows, cols * 4, |rows| {
        // SAFETY: the blocks of rows do not overlap.
        let out = unsafe { out.rows_of(rows.clone()) };
        dispatch(level, NarrowKernel { x: x.rows_of(rows), out });
    });
}

struct NarrowKernel<'a> {
    x: Mat<'a>,
    out: NarrowRows<'a>,
}

impl Kernel for NarrowKernel<'_> {
    type Out = ();
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        for r in 0..self.x.rows() {
            self.out.set(isa, r, self.x.row(r));
        }
    }
}

/// `x` in bf16; what is left of `out` is zero.
#[inline(always)]
pub(crate) fn to_bf16<I: Isa>(isa: I, x: &[f32], out: &mut [u16]) {
    let mut vectors = x.chunks_exact(I::LANES);
    let mut i = 0;
    for v in &mut vectors {
        // SAFETY: a vector of x, and as many halves of `out`, which has one for each element of x.
        unsafe { isa.store_bf16(out[i..i + I::LANES].as_mut_ptr(), isa.load(v.as_ptr())) };
        i += I::LANES;
    }
    let tail = vectors.remainder();
    if !tail.is_empty() {
        let mut halves = [0; MAX_PANEL];
        // SAFETY: room for a vector.
        unsafe { isa.store_bf16(halves.as_mut_ptr(), isa.load_first(tail, 0.0)) };
        out[i..i + tail.len()].copy_from_slice(&halves[..tail.len()]);
    }
    out[x.len()..].fill(0);
}

/// `x` in signed bytes plus `offset`, and their scale; what is left of `out` is zero.
#[inline(always)]
#[rustfmt::skip]
pub(crate) fn to_bytes<I: Isa>(isa: I, x: &[f32], offset: i32, out: &mut [u8]) -> f32 {
    let most = max_magnitude(isa, x);
    out[x.len()..].fill(0);
    let Some(bytes) = Bytes::new(isa, most, offset) else { return flat(most, offset, &mut out[..x.len()]) };
    for (vector, out) in x.chunks(I::LANES).zip(out.chunks_mut(I::LANES)) {
        let count = vector.len();
        // SAFETY: a whole vector of x.
        let v = if count == I::LANES { unsafe { isa.load(vector.as_ptr()) } } else { isa.load_first(vector, 0.0) };
        bytes.put(isa, v, &mut out[..count]);
    }
    most / 127.0
}

/// A row in signed bytes, and their scale and sum.
pub(crate) struct Quantise<'a> {
    pub(crate) row: &'a [f32],
    pub(crate) words: &'a mut [u32],
}

impl Kernel for Quantise<'_> {
    type Out = (f32, i32);
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> (f32, i32) {
        let bytes = bytes_of_mut(self.words);
        let scale = to_bytes(isa, self.row, 0, bytes);
        (scale, bytes.iter().map(|q| i32::from(q.cast_signed())).sum())
    }
}

/// The same of T x ([`spread`](crate::spread)), which is computed twice rather than kept.
#[inline(always)]
#[rustfmt::skip]
fn to_spread_bytes<I: Isa>(isa: I, x: &[f32], offset: i32, out: &mut [u8]) -> f32 {
    let mut most = isa.splat_word(0);
    spread(isa, x, #[inline(always)] |_, v, _| most = isa.max_words(most, isa.as_words(isa.abs(v))));
    let most = highest(isa, most);
    out[x.len()..].fill(0);
    let Some(bytes) = Bytes::new(isa, most, offset) else { return flat(most, offset, &mut out[..x.len()]) };
    spread(isa, x, #[inline(always)] |p, v, count| bytes.put(isa, v, &mut out[p..p + count]));
    most / 127.0
}

/// How floats up to a magnitude become bytes.
struct Bytes<I: Isa> {
    inverse: I::V,
    offset: I::W,
}

impl<I: Isa> Bytes<I> {
    /// `None` where all are zero or one is not finite.
    #[inline(always)]
    fn new(isa: I, most: f32, offset: i32) -> Option<Self> {
        // Of denormals alone the reciprocal would be infinite.
        let inverse = isa.splat((127.0 / most).min(f32::MAX));
        (most > 0.0 && most.is_finite()).then_some(Bytes { inverse, offset: isa.splat_word(offset.cast_unsigned()) })
    }

    /// The first lanes of `v`, as many as `out` has bytes.
    #[inline(always)]
    fn put(&self, isa: I, v: I::V, out: &mut [u8]) {
        let q = isa.add_words(isa.to_integers(isa.mul(v, self.inverse)), self.offset);
        if out.len() == I::LANES {
            // SAFETY: room for a vector.
            unsafe { isa.store_low_bytes(out.as_mut_ptr(), q) };
        } else {
            let mut bytes = [0; MAX_PANEL];
            // SAFETY: as above.
            unsafe { isa.store_low_bytes(bytes.as_mut_ptr(), q) };
            out.copy_from_slice(&bytes[..out.len()]);
        }
    }
}

/// Bytes that stand for zeros, or for a row with NaN or infinity, whose scale says so.
#[inline(always)]
fn flat(most: f32, offset: i32, out: &mut [u8]) -> f32 {
    out.fill(offset as u8);
    if most == 0.0 { 0.0 } else { f32::NAN }
}
