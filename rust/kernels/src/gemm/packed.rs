//! Weights laid out in the order in which the product reads them.
//!
//! The columns are cut into panels of `PANEL` (two vectors of the ISA); the last is filled up with zeros. A panel
//! is its bias (zeros where there is none) and then K rows of weights, so that the product streams it from
//! front to back, beginning its sums with the bias:
//!
//!   panel p:  bias[p0..p0+PANEL]  w[0][p0..p0+PANEL]  w[1][..]  ...  w[K-1][..]

use std::collections::TryReserveError;

use crate::buffer::Buffer;
use crate::isa::Level;

/// The weights of a linear layer, K inputs to N outputs, packed for one ISA.
pub struct PackedLinear {
    data: Buffer,
    inputs: usize,
    outputs: usize,
    level: Level,
}

impl PackedLinear {
    /// All zeros: to be filled by [`set_output`](Self::set_output).
    pub fn zeroed(level: Level, inputs: usize, outputs: usize) -> Result<Self, TryReserveError> {
        let panel = level.panel();
        let len = outputs.div_ceil(panel).saturating_mul(panel).saturating_mul(inputs.saturating_add(1));
        Ok(Self { data: Buffer::zeroed(len)?, inputs, outputs, level })
    }

    /// From `weight` (N, K) row-major, as checkpoints store it, and `bias` (N,).
    ///
    /// # Panics
    /// If the shapes disagree.
    pub fn new(level: Level, weight: &[f32], bias: Option<&[f32]>, inputs: usize) -> Result<Self, TryReserveError> {
        let outputs = weight.len().checked_div(inputs).or(bias.map(<[f32]>::len)).unwrap_or(0);
        assert_eq!(weight.len(), inputs * outputs, "weight is not a multiple of the inputs");
        let mut packed = Self::zeroed(level, inputs, outputs)?;
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
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.data.bytes()
    }

    /// Where output `n` stands: the start of its panel and its column there.
    fn place(&self, n: usize) -> (usize, usize) {
        let panel = self.level.panel();
        (n / panel * panel * (self.inputs + 1), n % panel)
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
        let mut n = first;
        while n < end {
            let (start, column) = self.place(n);
            let columns = (panel - column).min(end - n);
            let source = &rows[(n - first) * inputs..][..columns * inputs];
            transpose(source, inputs, &mut self.data[start + panel + column..], panel);
            n += columns;
        }
    }

    /// Sets the biases of the outputs `first..`.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn set_bias(&mut self, first: usize, bias: &[f32]) {
        assert!(first + bias.len() <= self.outputs, "biases do not fit");
        for (i, b) in bias.iter().enumerate() {
            let (start, column) = self.place(first + i);
            self.data[start + column] = *b;
        }
    }

    /// The weights of output `n`, as stored: (K,).
    pub fn weights_of(&self, n: usize) -> impl Iterator<Item = f32> {
        let (start, column) = self.place(n);
        let panel = self.level.panel();
        (0..self.inputs).map(move |k| self.data[start + panel * (k + 1) + column])
    }

    pub fn bias_of(&self, n: usize) -> f32 {
        let (start, column) = self.place(n);
        self.data[start + column]
    }

    pub(crate) fn panels(&self) -> &[f32] {
        &self.data
    }
}

/// `out[i * stride + j] = rows[j * cols + i]`, by strips of a cache line so that each line is read and written once.
fn transpose(rows: &[f32], cols: usize, out: &mut [f32], stride: usize) {
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
                let mut packed = PackedLinear::zeroed(level, inputs, outputs).unwrap();
                for (n, row) in weight.chunks(inputs * 7).enumerate() {
                    packed.set_weights(n * 7, row);
                }
                packed.set_bias(0, &bias);
                for n in 0..outputs {
                    assert!(packed.weights_of(n).eq(weight[n * inputs..][..inputs].iter().copied()));
                    assert_eq!(packed.bias_of(n), bias[n]);
                }
            }
        }
    }

    #[test]
    #[should_panic]
    fn too_many_rows_are_refused() {
        PackedLinear::zeroed(Level::best(), 2, 3).unwrap().set_weights(2, &[0.0; 4]);
    }
}
