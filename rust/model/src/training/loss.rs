//! The loss of a vocabulary, which is too large for numpy.

use ferroformer_kernels::{self as kernels, Level, MatMut, Threads};

/// The losses (M,) of rows of logits (M, `classes`), which become the gradients of these: see the kernel.
///
/// # Panics
/// If the shapes disagree or a label has no class.
pub fn cross_entropy(
    level: Level,
    threads: usize,
    logits: &mut [f32],
    classes: usize,
    labels: &[usize],
    weights: Option<&[f32]>,
    label_smoothing: f32,
) -> Vec<f64> {
    let mut losses = vec![0.0; labels.len()];
    let logits = MatMut::dense(logits, labels.len(), classes);
    kernels::cross_entropy(level, &Threads::new(threads), logits, labels, weights, label_smoothing, &mut losses);
    losses
}
