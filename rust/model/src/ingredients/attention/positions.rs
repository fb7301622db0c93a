//! Vectors of distances, projected for disentangled attention, and back.

use std::ops::Range;

use ferroformer_kernels::{Epilogue, Mat, MatMut, Narrow, PackedLinear, Threads, add, linear, narrow};

use super::super::Linear;
use super::Attention;
use crate::error::Result;
use crate::training::input_gradient;
use crate::workspace::Rows;

impl Attention {
    /// The layer that makes keys and queries of positions.
    fn position_layer(&self) -> &Linear {
        self.positions.as_ref().unwrap_or(&self.projection)
    }

    /// Embeddings of distances x (P, H) -> what attention takes their keys and queries from.
    pub(crate) fn project_positions(&self, threads: &Threads, x: Mat, room: &mut Narrow, out: &mut Rows) -> Result<()> {
        let layer = self.position_layer();
        room.resize(layer.form(), x.rows(), x.cols())?;
        narrow(self.level, threads, x, room);
        out.resize(x.rows(), layer.outputs())?;
        layer.forward(threads, x, room, Epilogue::default(), out.mat_mut())
    }

    /// Where the keys and queries of positions lie in a row of what [`project_positions`](Self::project_positions) made.
    fn position_columns(&self) -> [Option<Range<usize>>; 2] {
        let (size, Some(spec)) = (self.heads * self.head_dim, self.disentangled) else { return [None, None] };
        let [keys, queries] = match (spec.shared, spec.keys) {
            (true, _) => [size..2 * size, 0..size],
            (false, true) => [0..size, size..2 * size],
            (false, false) => [0..0, 0..size],
        };
        [spec.keys.then_some(keys), spec.queries.then_some(queries)]
    }

    pub(super) fn positions_in<'a>(&self, projected: Mat<'a>) -> [Option<Mat<'a>>; 2] {
        self.position_columns().map(|columns| Some(projected.block(0..projected.rows(), columns?)))
    }

    /// What [`project_positions`](Self::project_positions) read, x (P, H), and the gradient of what it made, d -> that of x, added to
    /// `dx`; those of the weights are added to `gradient`. `transposed` is the projection's, `room` for weights of their own.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(crate) fn positions_backward(
        &self,
        threads: &Threads,
        x: Mat,
        d: Mat,
        transposed: &PackedLinear,
        room: &mut Option<PackedLinear>,
        gradient: &mut Attention,
        mut dx: MatMut,
    ) -> Result<()> {
        let layer_gradient = match &mut gradient.positions {
            Some(positions) => positions,
            None => &mut gradient.projection,
        };
        layer_gradient.add_gradient(self.level, threads, x, d);
        let mut back = Rows::default();
        back.resize(x.rows(), x.cols())?;
        match &self.positions {
            Some(positions) => input_gradient(positions, self.level, threads, d, back.mat_mut(), room)?,
            None => linear(threads, d, transposed, Epilogue::default(), back.mat_mut()),
        }
        add(self.level, back.mat(), dx.reborrow());
        Ok(())
    }

    /// The keys' and the queries' columns of what [`project_positions`](Self::project_positions) made.
    pub(super) fn cut_positions<'a>(&self, d: MatMut<'a>) -> [Option<MatMut<'a>>; 2] {
        let (rows, size) = (d.rows(), self.heads * self.head_dim);
        let [keys, queries] = self.position_columns();
        if d.cols() == size {
            return if keys.is_some() { [Some(d), None] } else { [None, Some(d)] };
        }
        let (first, rest) = d.split_cols(size);
        let second = rest.into_block(0..rows, 0..size);
        let [keys_there, queries_there] = [keys.is_some(), queries.is_some()];
        let [keys, queries] = if keys.is_some_and(|keys| keys.start == 0) { [first, second] } else { [second, first] };
        [keys_there.then_some(keys), queries_there.then_some(queries)]
    }
}
