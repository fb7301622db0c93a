//! The angles of rotary position embeddings.

use crate::blueprint::RotarySpec;
use crate::error::Result;
use crate::workspace::Rows;

/// Cosines and sines of each token's angles, (T, 2 P), for each rotation.
pub(crate) fn fill(specs: &[RotarySpec], positions: &[u32], angles: &mut Vec<Rows>) -> Result<()> {
    angles.resize_with(specs.len(), Rows::default);
    for (spec, rows) in specs.iter().zip(angles) {
        let pairs = spec.frequencies.len();
        rows.resize(positions.len(), 2 * pairs)?;
        let mut rows = rows.mat_mut();
        for (t, position) in positions.iter().enumerate() {
            let (cos, sin) = rows.row_mut(t).split_at_mut(pairs);
            for ((frequency, cos), sin) in spec.frequencies.iter().zip(cos).zip(sin) {
                let angle = angle(*position, *frequency, spec.rounded);
                (*cos, *sin) = (angle.cos() as f32, angle.sin() as f32);
            }
        }
    }
    Ok(())
}

fn angle(position: u32, frequency: f64, rounded: bool) -> f64 {
    if rounded { f64::from(position as f32 * frequency as f32) } else { f64::from(position) * frequency }
}
