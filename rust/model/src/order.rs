//! Tensors whose values lie in another order than they are read in.

/// Axes as they are read, the last one fastest: of each its size, and how many elements further the next index lies. Without axes the
/// elements lie as they are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    axes: Vec<(usize, usize)>,
}

impl Order {
    pub(crate) fn new(shape: &[usize], strides: &[usize]) -> Self {
        Order { axes: shape.iter().copied().zip(strides.iter().copied()).collect() }
    }

    /// Rows of `width` elements that are read part by part, each with all of its heads, and lie head by head, each with its share of
    /// all parts: [parts, heads, rows of one head in one part].
    pub(crate) fn by_head([parts, heads, rows]: [usize; 3], width: usize) -> Self {
        let share = rows * width;
        Order::new(&[parts, heads, share], &[share, parts * share, 1])
    }

    /// (rows, width) of what lies as (width, rows).
    pub(crate) fn transposed(rows: usize, width: usize) -> Self {
        Order::new(&[rows, width], &[1, rows])
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.axes.is_empty()
    }

    /// Where element `i` lies.
    pub(crate) fn place(&self, mut i: usize) -> usize {
        if self.is_plain() {
            return i;
        }
        let mut place = 0;
        for (size, stride) in self.axes.iter().rev() {
            place += i % size * stride;
            i /= size;
        }
        place
    }

    /// Elements lie as they are read from each multiple of this to the next.
    pub(crate) fn run(&self) -> usize {
        if self.is_plain() {
            return usize::MAX;
        }
        let mut run = 1;
        for (size, stride) in self.axes.iter().rev() {
            if *stride != run && *size != 1 {
                break;
            }
            run = run.saturating_mul(*size);
        }
        run.max(1)
    }

    /// Whether neighbours lie so far apart that a file is better read as a whole.
    pub(crate) fn is_scattered(&self) -> bool {
        const SHORT: usize = 16;
        self.run() < SHORT
    }

    /// Elements as they are read -> as they lie.
    pub(crate) fn lay(&self, values: Vec<f32>) -> Vec<f32> {
        if self.is_plain() {
            return values;
        }
        let mut laid = vec![0.0; values.len()];
        for (n, row) in values.chunks(self.row().max(1)).enumerate() {
            let places = laid[self.place(n * self.row())..].iter_mut().step_by(self.step());
            places.zip(row).for_each(|(place, x)| *place = *x);
        }
        laid
    }

    /// Elements as they lie -> as they are read.
    pub(crate) fn read(&self, laid: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; laid.len()];
        self.read_from(laid, 0, &mut values);
        values
    }

    /// Likewise, those from `first` on.
    pub(crate) fn read_from(&self, laid: &[f32], mut first: usize, mut out: &mut [f32]) {
        if self.is_plain() {
            return out.copy_from_slice(&laid[first..first + out.len()]);
        }
        while !out.is_empty() {
            let count = (self.row() - first % self.row()).min(out.len());
            let (row, after) = out.split_at_mut(count);
            let places = laid[self.place(first)..].iter().step_by(self.step());
            row.iter_mut().zip(places).for_each(|(x, place)| *x = *place);
            (first, out) = (first + count, after);
        }
    }

    /// The size of the last axis, and how far from one of its elements to the next.
    fn row(&self) -> usize {
        self.axes.last().map_or(1, |axis| axis.0)
    }

    fn step(&self) -> usize {
        self.axes.last().map_or(1, |axis| axis.1.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_become_parts() {
        // two parts of three heads of one row of two: a row says its part, its head and its column
        let row = |part, head| [0, 1].map(|column| (100 * part + 10 * head + column) as f32);
        let read: Vec<f32> = (0..2).flat_map(|part| (0..3).flat_map(move |head| row(part, head))).collect();
        let laid: Vec<f32> = (0..3).flat_map(|head| (0..2).flat_map(move |part| row(part, head))).collect();
        let order = Order::by_head([2, 3, 1], 2);
        assert_eq!(order.run(), 2);
        assert_eq!(order.read(&laid), read);
        assert_eq!(order.lay(read), laid);
    }

    #[test]
    fn a_transpose_is_read_from_anywhere() {
        let order = Order::transposed(3, 5);
        let laid: Vec<f32> = (0..15).map(|i| i as f32).collect();
        let read: Vec<f32> = (0..3).flat_map(|row| (0..5).map(move |column| (3 * column + row) as f32)).collect();
        assert!(order.is_scattered() && order.read(&laid) == read && order.lay(read.clone()) == laid);
        for first in 0..15 {
            let mut out = vec![0.0; 15 - first];
            order.read_from(&laid, first, &mut out);
            assert_eq!(out, read[first..]);
        }
    }

    #[test]
    fn runs_are_as_long_as_elements_are_neighbours() {
        for (shape, strides, run) in [
            (&[2, 3][..], &[1, 2][..], 1),
            (&[2, 3], &[3, 1], 6),
            (&[2, 3], &[4, 1], 3),
            (&[2, 1, 3], &[3, 7, 1], 6),
            (&[2, 3], &[0, 1], 3),
            (&[2, 0], &[1, 1], 1),
        ] {
            let order = Order::new(shape, strides);
            assert_eq!(order.run(), run, "{shape:?} {strides:?}");
            for i in 0..shape.iter().product() {
                assert_eq!(order.place(i), order.place(i / run * run) + i % run, "{shape:?} {strides:?}");
            }
        }
    }
}
