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

use std::ops::Range;

use super::Panels;
use super::pack::{PanelsMut, Spread};
use crate::buffer::{NoMemory, floats_of_mut};
use crate::isa::{Level, dispatch_floats};
use crate::mat::{Mat, MatMut};
use crate::narrow::Form;
use crate::pieces::by_pieces;
use crate::stored::Stored;
use crate::threads::{Disjoint, Threads};

/// To be raised by whatever changes how weights lie in memory: files hold them so.
pub const LAYOUT_VERSION: u32 = 1;

/// How weights are stored, and with what they are multiplied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precision {
    Float32,
    BFloat16,
    Int8,
}

impl Precision {
    const ALL: [Precision; 3] = [Precision::Float32, Precision::BFloat16, Precision::Int8];

    pub fn name(self) -> &'static str {
        match self {
            Precision::Float32 => "float32",
            Precision::BFloat16 => "bfloat16",
            Precision::Int8 => "int8",
        }
    }

    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.name() == name)
    }

    /// Weights in a word of 32 bits.
    pub fn per_word(self) -> usize {
        match self {
            Precision::Float32 => 1,
            Precision::BFloat16 => 2,
            Precision::Int8 => 4,
        }
    }

    /// Rows at the head of a panel: `Format::HEAD`.
    pub(super) fn head(self) -> usize {
        if self == Precision::Int8 { 3 } else { 1 }
    }

    fn bias_row(self) -> usize {
        self.head() - 1
    }

    /// All that the layout of weights on this level depends on. Levels that say the same read each other's.
    pub fn layout(self, level: Level) -> String {
        let numbers = match self {
            Precision::Float32 => "float32".to_owned(),
            Precision::BFloat16 => "pairs of bfloat16".to_owned(),
            Precision::Int8 => format!("fours of int8 for x + {}", level.byte_offset()),
        };
        let endian = if cfg!(target_endian = "little") { "little" } else { "big" };
        format!("panels of {} columns, {numbers}, {endian}-endian", level.panel())
    }
}

/// The weights of a linear layer, K inputs to N outputs, packed for one ISA.
pub struct PackedLinear {
    data: Stored<u32>,
    inputs: usize,
    outputs: usize,
    level: Level,
    precision: Precision,
}

impl PackedLinear {
    /// Words that so many weights take; `usize::MAX` where nothing could hold them.
    pub fn len(level: Level, precision: Precision, inputs: usize, outputs: usize) -> usize {
        let panel = level.panel();
        let depth = inputs.div_ceil(precision.per_word()).saturating_add(precision.head());
        outputs.div_ceil(panel).saturating_mul(panel).saturating_mul(depth)
    }

    /// All zeros: to be filled by [`fill`](Self::fill).
    pub fn zeroed(level: Level, precision: Precision, inputs: usize, outputs: usize) -> Result<Self, NoMemory> {
        let data = Stored::zeroed(Self::len(level, precision, inputs, outputs))?;
        Ok(Self { data, inputs, outputs, level, precision })
    }

    /// From panels that lie ready.
    ///
    /// # Panics
    /// If their length is not [`len`](Self::len).
    pub fn of(level: Level, precision: Precision, [inputs, outputs]: [usize; 2], data: Stored<u32>) -> Self {
        assert_eq!(data.len(), Self::len(level, precision, inputs, outputs), "panels of another size");
        Self { data, inputs, outputs, level, precision }
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
    /// The panels.
    pub fn words(&self) -> &[u32] {
        &self.data
    }
    /// The panels, to be changed in place.
    pub fn words_mut(&mut self) -> &mut [u32] {
        self.data.own_mut()
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

    /// Sets the weights of some outputs: `read(n, rows)` writes the rows (.., K) of outputs `n..`, counted from the first,
    /// and is called for pieces side by side on all threads.
    ///
    /// # Panics
    /// If the outputs are not there.
    pub fn fill<E: From<NoMemory> + Send>(
        &mut self,
        threads: &Threads,
        outputs: Range<usize>,
        read: impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        assert!(outputs.end <= self.outputs, "outputs do not fit");
        let (first, inputs) = (outputs.start, self.inputs);
        let panels = self.panels_mut();
        by_pieces(threads, outputs.len(), inputs, read, |rows, floats| {
            // SAFETY: pieces are different outputs.
            unsafe { panels.set(first + rows.start, floats) }
        })
    }

    /// Sets the weights of the outputs `first..` from whole rows (rows, K).
    ///
    /// # Panics
    /// If the rows do not fit.
    pub fn set_weights(&mut self, first: usize, rows: &[f32]) {
        if self.inputs == 0 {
            return assert!(rows.is_empty());
        }
        let fit = rows.len().is_multiple_of(self.inputs) && first + rows.len() / self.inputs <= self.outputs;
        assert!(fit, "rows do not fit");
        // SAFETY: nobody else writes.
        unsafe { self.panels_mut().set(first, rows) }
    }

    /// Takes the transpose of `other`, without its biases, for the inputs and outputs from `at` on: what takes the gradient of a
    /// layer's outputs, the inputs here, to that of its inputs. Both in f32.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn transpose(&mut self, threads: &Threads, other: &PackedLinear, at: [usize; 2]) {
        let (panel, [first_input, first_output]) = (self.level.panel(), at);
        let (inputs, outputs) = (other.outputs, first_output..first_output + other.inputs);
        let fit = first_input + inputs <= self.inputs && outputs.end <= self.outputs && self.level == other.level;
        let floats = self.precision == Precision::Float32 && other.precision == Precision::Float32;
        assert!(fit && floats, "transpose: shapes and precisions");
        let (rows, theirs) = (self.panel_words() / panel, other.panel_words());
        let panels = Disjoint::new(MatMut::dense(self.data.own_mut(), self.outputs.div_ceil(panel) * rows, panel));
        let (first, end) = (outputs.start / panel, outputs.end.div_ceil(panel));
        threads.for_each_block(end - first, inputs * panel, |range| {
            for p in first + range.start..first + range.end {
                let columns = outputs.start.max(p * panel)..outputs.end.min((p + 1) * panel);
                let place = p * rows + 1 + first_input;
                // SAFETY: each panel is written once.
                let mut body =
                    unsafe { panels.block(place..place + inputs, columns.start - p * panel..columns.end - p * panel) };
                for n in (0..inputs).step_by(panel) {
                    let row = 1 + columns.start - first_output;
                    let square = other.data[n / panel * theirs + row * panel..].chunks_exact(panel);
                    for i in 0..panel.min(inputs - n) {
                        let out = body.row_mut(n + i).iter_mut();
                        out.zip(square.clone()).for_each(|(out, row)| *out = row[i]);
                    }
                }
            }
        });
    }

    fn panels_mut(&mut self) -> PanelsMut<'_> {
        PanelsMut::new(self.data.own_mut(), self.level, self.precision, self.inputs)
    }

    /// Sets the biases of the outputs `first..`.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn set_bias(&mut self, first: usize, bias: &[f32]) {
        assert!(first + bias.len() <= self.outputs, "biases do not fit");
        for (i, b) in bias.iter().enumerate() {
            let place = self.head(first + i, self.precision.bias_row());
            self.data.own_mut()[place] = b.to_bits();
        }
    }

    /// The weights of output `n`, as the product sees them: (K,).
    pub fn weights_of(&self, n: usize) -> Vec<f32> {
        let mut weights = vec![0.0; self.inputs];
        self.read_weights(n, &mut weights);
        weights
    }

    /// [`weights_of`](Self::weights_of), to `out`.
    pub(crate) fn read_weights(&self, n: usize, out: &mut [f32]) {
        let (per_word, panel) = (self.precision.per_word(), self.level.panel());
        let words = self.data[self.head(n, self.precision.head())..].iter().step_by(panel);
        match self.precision {
            Precision::Float32 => out.iter_mut().zip(words).for_each(|(x, word)| *x = f32::from_bits(*word)),
            Precision::BFloat16 => out.chunks_mut(per_word).zip(words).for_each(|(out, word)| {
                let pair = [word << 16, word & 0xffff_0000].map(f32::from_bits);
                out.copy_from_slice(&pair[..out.len()]);
            }),
            Precision::Int8 => {
                let scale = f32::from_bits(self.data[self.head(n, 1)]);
                let mut spread = vec![0.0; self.inputs];
                for (out, word) in spread.chunks_mut(per_word).zip(words) {
                    out.iter_mut().zip(word.to_le_bytes()).for_each(|(x, b)| *x = f32::from(b.cast_signed()) * scale);
                }
                dispatch_floats(self.level, Spread { row: &spread, factor: 1.0, out });
            }
        }
    }

    /// `weights_of(ids[t]) += rows[t]` for every token t in order but those whose id is `skip`: the gradient of a look-up of
    /// weights, in f32. Rows (T, K).
    ///
    /// # Panics
    /// If the shapes disagree, an id is no output, or the weights are not in f32.
    pub fn scatter_add(&mut self, threads: &Threads, rows: Mat, ids: &[u32], skip: Option<u32>) {
        assert_eq!((rows.rows(), rows.cols()), (ids.len(), self.inputs), "scatter_add: rows and ids");
        assert_eq!(self.precision, Precision::Float32, "scatter_add: the weights");
        assert!(ids.iter().all(|id| (*id as usize) < self.outputs), "scatter_add: ids");
        let (panel, panel_rows, inputs) = (self.level.panel(), self.panel_words() / self.level.panel(), self.inputs);
        let all = self.data.len() / panel;
        let data = Disjoint::new(MatMut::dense(floats_of_mut(self.data.own_mut()), all, panel));
        threads.for_each_block(inputs, rows.rows() * 8, |range| {
            for (t, id) in ids.iter().enumerate().filter(|(_, id)| Some(**id) != skip) {
                let (first, column) = (*id as usize / panel * panel_rows + 1, *id as usize % panel);
                // SAFETY: the ranges of inputs do not overlap.
                let mut place = unsafe { data.block(first + range.start..first + range.end, column..column + 1) };
                for (i, x) in rows.row(t)[range.clone()].iter().enumerate() {
                    place.row_mut(i)[0] += x;
                }
            }
        });
    }

    /// Where the weights and where the biases of some outputs lie among [`words`](Self::words), in f32. What fills up the last
    /// panel counts to the last output.
    pub fn places(&self, outputs: Range<usize>) -> [Vec<Range<usize>>; 2] {
        let (panel, words) = (self.level.panel(), self.panel_words());
        let [mut weights, mut biases] = [vec![], vec![]];
        for p in outputs.start / panel..outputs.end.div_ceil(panel) {
            let first = outputs.start.max(p * panel) - p * panel;
            let end = if outputs.end == self.outputs { panel } else { panel.min(outputs.end - p * panel) };
            let row = |r: usize| p * words + r * panel + first..p * words + r * panel + end;
            biases.push(row(0));
            if end - first == panel {
                weights.push(row(1).start..(p + 1) * words);
            } else {
                weights.extend((1..words / panel).map(row));
            }
        }
        [weights, biases]
    }

    pub fn bias_of(&self, n: usize) -> f32 {
        f32::from_bits(self.data[self.head(n, self.precision.bias_row())])
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
    fn places_cover_the_panels_once() {
        for level in Level::available() {
            let packed = PackedLinear::zeroed(level, Precision::Float32, 3, 70).unwrap();
            let mut seen = vec![0; packed.words().len()];
            for outputs in [0..7, 7..40, 40..70] {
                for range in packed.places(outputs).into_iter().flatten() {
                    seen[range].iter_mut().for_each(|n| *n += 1);
                }
            }
            assert!(seen.iter().all(|n| *n == 1));
            let whole = packed.places(0..70);
            assert_eq!(whole[0].len(), 70usize.div_ceil(level.panel()));
        }
    }

    #[test]
    fn a_transpose_has_the_weights_and_no_biases() {
        for level in Level::available() {
            for (inputs, outputs) in [(1, 1), (5, 31), (17, 33), (40, 96), (65, 2)] {
                let weight: Vec<f32> = (0..inputs * outputs).map(|i| i as f32 + 1.0).collect();
                let packed =
                    PackedLinear::new(level, Precision::Float32, &weight, Some(&vec![7.0; outputs]), inputs).unwrap();
                let mut transposed = PackedLinear::zeroed(level, Precision::Float32, outputs, inputs).unwrap();
                transposed.transpose(&Threads::new(2), &packed, [0, 0]);
                for k in 0..inputs {
                    let column: Vec<f32> = weight.iter().skip(k).step_by(inputs).copied().collect();
                    assert_eq!(transposed.weights_of(k), column);
                    assert_eq!(transposed.bias_of(k), 0.0);
                }
                let other = PackedLinear::new(level, Precision::Float32, &column_major(&weight, inputs), None, outputs)
                    .unwrap();
                assert_eq!(transposed.words(), other.words(), "padding included");
            }
        }
    }

    #[test]
    fn transposes_stand_side_by_side() {
        for level in Level::available() {
            let group = |seed: usize, inputs: usize, outputs: usize| -> Vec<f32> {
                (0..inputs * outputs).map(|i| (i + 100 * seed) as f32).collect()
            };
            let (shapes, mut all) = ([(5, 33), (37, 3), (1, 70)], [0, 0]);
            let total = shapes.iter().fold([0, 0], |[k, n], (inputs, outputs)| [k + inputs, n + outputs]);
            let mut whole = PackedLinear::zeroed(level, Precision::Float32, total[1], total[0]).unwrap();
            let mut expected = vec![vec![0.0; total[1]]; total[0]];
            for (seed, (inputs, outputs)) in shapes.into_iter().enumerate() {
                let weight = group(seed, inputs, outputs);
                let packed = PackedLinear::new(level, Precision::Float32, &weight, None, inputs).unwrap();
                whole.transpose(&Threads::new(2), &packed, [all[1], all[0]]);
                for (i, w) in weight.iter().enumerate() {
                    expected[all[0] + i % inputs][all[1] + i / inputs] = *w;
                }
                all = [all[0] + inputs, all[1] + outputs];
            }
            (0..total[0]).for_each(|k| assert_eq!(whole.weights_of(k), expected[k]));
        }
    }

    #[test]
    fn scattered_rows_add_up_in_their_columns() {
        for level in Level::available() {
            let (inputs, outputs, ids) = (5, 70, [3u32, 69, 3, 40]); // of which 40 is skipped
            let rows: Vec<f32> = (0..ids.len() * inputs).map(|i| i as f32).collect();
            let mut packed = PackedLinear::zeroed(level, Precision::Float32, inputs, outputs).unwrap();
            packed.scatter_add(&Threads::new(2), Mat::dense(&rows, ids.len(), inputs), &ids, Some(40));
            let row = |t: usize| &rows[t * inputs..][..inputs];
            let sum: Vec<f32> = row(0).iter().zip(row(2)).map(|(a, b)| a + b).collect();
            assert_eq!([packed.weights_of(3), packed.weights_of(69)], [sum, row(1).to_vec()]);
            let all: f32 = crate::buffer::floats_of(packed.words()).iter().sum();
            assert_eq!(all, rows[..3 * inputs].iter().sum::<f32>());
        }
    }

    fn column_major(weight: &[f32], inputs: usize) -> Vec<f32> {
        (0..inputs).flat_map(|k| weight.iter().skip(k).step_by(inputs).copied()).collect()
    }

    #[test]
    #[should_panic]
    fn too_many_rows_are_refused() {
        PackedLinear::zeroed(Level::best(), Precision::Float32, 2, 3).unwrap().set_weights(2, &[0.0; 4]);
    }
}
