//! Weights laid out in the order in which the product reads them.
//!
//! The columns are cut into panels of `PANEL` (two vectors of the ISA); the last is filled up with zeros. A panel
//! is its head and then its weights, so that the product streams it from front to back:
//!
//!   panel p:  head  w[0][p0..p0+PANEL]  w[1][..]  ...
//!
//! in words of 32 bits: one f32, two bf16 or four int8 of a column, consecutive in k (the last word filled up with zeros). The
//! head is the row where the sums begin, the bias (zeros where there is none); for int8 it is three rows: what the
//! offset of x adds to a sum, taken off; the columns' scales; the biases.
//!
//! int8: symmetric, one scale a column, of W' = W T / B ([`spread`](crate::spread)): scale = max |w'| / 127,
//! q = round(w' / scale).

use crate::buffer::{Buffer, NoMemory, bytes_of_mut, words_of};
use crate::gemm::Panels;
use crate::isa::{Isa, Kernel, Level, dispatch_floats};
use crate::narrow::{Form, to_bytes};
use crate::spread::{group, spread};

/// How weights are stored, and with what they are multiplied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precision {
    Float32,
    BFloat16,
    Int8,
}

impl Precision {
    /// Weights in a word.
    pub(crate) fn per_word(self) -> usize {
        match self {
            Precision::Float32 => 1,
            Precision::BFloat16 => 2,
            Precision::Int8 => 4,
        }
    }

    /// Rows at the head of a panel: `Format::HEAD`.
    fn head(self) -> usize {
        if self == Precision::Int8 { 3 } else { 1 }
    }

    fn bias_row(self) -> usize {
        self.head() - 1
    }
}

/// The weights of a linear layer, K inputs to N outputs, packed for one ISA.
pub struct PackedLinear {
    data: Buffer<u32>,
    inputs: usize,
    outputs: usize,
    level: Level,
    precision: Precision,
}

impl PackedLinear {
    /// All zeros: to be filled by [`set_weights`](Self::set_weights).
    pub fn zeroed(level: Level, precision: Precision, inputs: usize, outputs: usize) -> Result<Self, NoMemory> {
        let panel = level.panel();
        let depth = inputs.div_ceil(precision.per_word()).saturating_add(precision.head());
        let len = outputs.div_ceil(panel).saturating_mul(panel).saturating_mul(depth);
        Ok(Self { data: Buffer::zeroed(len)?, inputs, outputs, level, precision })
    }

    /// From `weight` (N, K) row-major, as checkpoints store it, and `bias` (N,).
    ///
    /// # Panics
    /// If the shapes disagree.
    pub fn new(
        level: Level,
        precision: Precision,
        weight: &[f32],
        bias: Option<&[f32]>,
        inputs: usize,
    ) -> Result<Self, NoMemory> {
        let outputs = weight.len().checked_div(inputs).or(bias.map(<[f32]>::len)).unwrap_or(0);
        assert_eq!(weight.len(), inputs * outputs, "weight is not a multiple of the inputs");
        let mut packed = Self::zeroed(level, precision, inputs, outputs)?;
        packed.set_weights(0, weight);
        if let Some(bias) = bias {
            packed.set_bias(0, bias);
        }
        Ok(packed)
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }
    pub fn outputs(&self) -> usize {
        self.outputs
    }
    pub fn level(&self) -> Level {
        self.level
    }
    pub fn precision(&self) -> Precision {
        self.precision
    }
    /// The form in which the product reads x.
    pub fn form(&self) -> Form {
        Form::of(self.level, self.precision)
    }
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.data.bytes()
    }
    /// Rows of words in a panel, its head aside.
    pub(crate) fn depth(&self) -> usize {
        self.inputs.div_ceil(self.precision.per_word())
    }

    /// The panels from number `first` on.
    pub(crate) fn panels(&self, first: usize) -> Panels<'_> {
        Panels { data: &self.data[first * self.panel_words()..], depth: self.depth() }
    }

    fn panel_words(&self) -> usize {
        (self.precision.head() + self.depth()) * self.level.panel()
    }

    /// Where output `n` stands: the start of its panel and its column there.
    fn place(&self, n: usize) -> (usize, usize) {
        let panel = self.level.panel();
        (n / panel * self.panel_words(), n % panel)
    }

    /// Where row `r` of the head of output `n` stands.
    fn head(&self, n: usize, r: usize) -> usize {
        let (start, column) = self.place(n);
        start + r * self.level.panel() + column
    }

    /// Sets the weights of the outputs `first..` from whole rows (rows, K).
    ///
    /// # Panics
    /// If the rows do not fit.
    pub fn set_weights(&mut self, first: usize, rows: &[f32]) {
        let (inputs, panel) = (self.inputs, self.level.panel());
        if inputs == 0 {
            return assert!(rows.is_empty());
        }
        assert!(rows.len().is_multiple_of(inputs) && first + rows.len() / inputs <= self.outputs, "rows do not fit");
        let end = first + rows.len() / inputs;
        let mut words = vec![];
        let mut n = first;
        while n < end {
            let (start, column) = self.place(n);
            let columns = (panel - column).min(end - n);
            let source = &rows[(n - first) * inputs..][..columns * inputs];
            let source = match self.precision {
                Precision::Float32 => words_of(source),
                Precision::BFloat16 => pair(source, inputs, &mut words),
                Precision::Int8 => self.quantised(n, source, &mut words),
            };
            let begin = start + panel * self.precision.head() + column;
            transpose(source, self.depth(), &mut self.data[begin..], panel);
            n += columns;
        }
    }

    /// Rows of bytes, four a word; writes the scales of the outputs `n..` and where their sums begin.
    fn quantised<'a>(&mut self, n: usize, rows: &[f32], words: &'a mut Vec<u32>) -> &'a [u32] {
        let depth = self.depth();
        words.clear();
        words.resize(rows.len() / self.inputs * depth, 0);
        let (mut spread, factor) = (vec![0.0; self.inputs], 1.0 / group(self.inputs) as f32);
        for (i, (row, words)) in rows.chunks_exact(self.inputs).zip(words.chunks_exact_mut(depth)).enumerate() {
            dispatch_floats(self.level, Spread { row, factor, out: &mut spread });
            let (scale, sum) = dispatch_floats(self.level, Quantise { row: &spread, words });
            let (begin, scales) = (self.head(n + i, 0), self.head(n + i, 1));
            self.data[begin] = (-self.level.byte_offset() * sum).cast_unsigned();
            self.data[scales] = scale.to_bits();
        }
        words
    }

    /// Sets the biases of the outputs `first..`.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn set_bias(&mut self, first: usize, bias: &[f32]) {
        assert!(first + bias.len() <= self.outputs, "biases do not fit");
        for (i, b) in bias.iter().enumerate() {
            let place = self.head(first + i, self.precision.bias_row());
            self.data[place] = b.to_bits();
        }
    }

    /// The weights of output `n`, as the product sees them: (K,).
    pub fn weights_of(&self, n: usize) -> Vec<f32> {
        let (per_word, place) = (self.precision.per_word(), self.head(n, self.precision.head()));
        let word = |k: usize| self.data[place + self.level.panel() * (k / per_word)];
        let all = 0..self.inputs;
        match self.precision {
            Precision::Float32 => all.map(|k| f32::from_bits(word(k))).collect(),
            Precision::BFloat16 => all.map(|k| f32::from_bits(word(k) << (16 - 16 * (k % 2)) & 0xffff_0000)).collect(),
            Precision::Int8 => {
                let scale = f32::from_bits(self.data[self.head(n, 1)]);
                let spread: Vec<_> =
                    all.map(|k| f32::from(word(k).to_le_bytes()[k % 4].cast_signed()) * scale).collect();
                let mut weights = vec![0.0; self.inputs];
                dispatch_floats(self.level, Spread { row: &spread, factor: 1.0, out: &mut weights });
                weights
            }
        }
    }

    pub fn bias_of(&self, n: usize) -> f32 {
        f32::from_bits(self.data[self.head(n, self.precision.bias_row())])
    }
}

/// A row in signed bytes, and their scale and sum.
struct Quantise<'a> {
    row: &'a [f32],
    words: &'a mut [u32],
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

/// `out = factor T row`.
struct Spread<'a> {
    row: &'a [f32],
    factor: f32,
    out: &'a mut [f32],
}

impl Kernel for Spread<'_> {
    type Out = ();
    #[inline(always)]
    #[rustfmt::skip]
    fn run<I: Isa>(self, isa: I) {
        spread(isa, self.row, #[inline(always)] |p, v, count| {
            let scaled = isa.lanes(isa.mul(v, isa.splat(self.factor)));
            self.out[p..p + count].copy_from_slice(&scaled[..count]);
        });
    }
}

/// Rows of bf16, two a word.
fn pair<'a>(rows: &[f32], cols: usize, words: &'a mut Vec<u32>) -> &'a [u32] {
    words.clear();
    for row in rows.chunks_exact(cols) {
        let pairs = row.chunks(2).map(|pair| bf16(pair[0]) | pair.get(1).map_or(0, |x| bf16(*x)) << 16);
        words.extend(pairs);
    }
    words
}

/// The bits of the nearest bf16, ties to even; NaN stays NaN.
pub(crate) fn bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() { bits >> 16 | 0x40 } else { bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16 }
}

/// `out[i * stride + j] = rows[j * cols + i]`, by strips of a cache line so that each line is read and written once.
fn transpose(rows: &[u32], cols: usize, out: &mut [u32], stride: usize) {
    const STRIP: usize = 16;
    for i in (0..cols).step_by(STRIP) {
        for (j, row) in rows.chunks_exact(cols).enumerate() {
            for (t, x) in row[i..].iter().take(STRIP).enumerate() {
                out[(i + t) * stride + j] = *x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        for level in Level::available() {
            for (inputs, outputs) in [(1, 1), (5, 31), (17, 33), (40, 96), (3, 0)] {
                let weight: Vec<f32> = (0..inputs * outputs).map(|i| i as f32 + 1.0).collect();
                let bias: Vec<f32> = (0..outputs).map(|i| -(i as f32)).collect();
                let mut packed = PackedLinear::zeroed(level, Precision::Float32, inputs, outputs).unwrap();
                for (n, row) in weight.chunks(inputs * 7).enumerate() {
                    packed.set_weights(n * 7, row);
                }
                packed.set_bias(0, &bias);
                for n in 0..outputs {
                    assert!(packed.weights_of(n) == weight[n * inputs..][..inputs]);
                    assert_eq!(packed.bias_of(n), bias[n]);
                }
            }
        }
    }

    #[test]
    #[should_panic]
    fn too_many_rows_are_refused() {
        PackedLinear::zeroed(Level::best(), Precision::Float32, 2, 3).unwrap().set_weights(2, &[0.0; 4]);
    }
}
