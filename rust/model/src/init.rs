//! Initial values for tensors that no checkpoint gives.
//!
//! Each value is a function of (seed, slot, index) alone, so the order of loading and the number of threads do not matter.
//! Bits: SplitMix64 (Steele, Lea and Flood 2014). Normal deviates: Box and Muller 1958.

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Init {
    Zeros,
    Ones,
    /// N(0, s^2), where s is the slot's own or `initializer_range`.
    Normal,
    Sines(Sines),
}

/// A row for each position: the sines of its angles, their cosines, and zeros where the row is longer.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Sines {
    /// The angles at position 1.
    pub(crate) frequencies: Vec<f64>,
    /// Whether an angle is rounded to f32, as torch does it.
    pub(crate) rounded: bool,
    pub(crate) width: usize,
    /// A position whose row is zeros.
    pub(crate) empty: Option<usize>,
}

impl Sines {
    /// Elements `first..` of the rows.
    pub(crate) fn fill(&self, first: usize, out: &mut [f32]) {
        let count = self.frequencies.len();
        for (n, x) in (first..).zip(out) {
            let (position, column) = (n / self.width, n % self.width);
            let angle = |i: usize| angle(position as u32, self.frequencies[i], self.rounded);
            *x = match column {
                _ if self.empty == Some(position) => 0.0,
                _ if column < count => angle(column).sin() as f32,
                _ if column < 2 * count => angle(column - count).cos() as f32,
                _ => 0.0,
            };
        }
    }
}

pub(crate) fn angle(position: u32, frequency: f64, rounded: bool) -> f64 {
    if rounded { f64::from(position as f32 * frequency as f32) } else { f64::from(position) * frequency }
}

pub(crate) struct Generator {
    key: u64,
}

impl Generator {
    pub(crate) fn new(seed: u64, slot: &str) -> Self {
        // FNV-1a tells the slots apart; SplitMix64 then scatters the key.
        let hash =
            slot.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Self { key: scatter(seed ^ scatter(hash)) }
    }

    /// Fills `out` with deviates `first..`.
    pub(crate) fn normal(&self, first: usize, std: f32, out: &mut [f32]) {
        // Deviates come in pairs.
        if !first.is_multiple_of(2) {
            let Some((second, rest)) = out.split_first_mut() else { return };
            let mut pair = [0.0; 2];
            self.normal(first - 1, std, &mut pair);
            *second = pair[1];
            return self.normal(first + 1, std, rest);
        }
        for (i, pair) in out.chunks_mut(2).enumerate() {
            let bits = scatter(self.key.wrapping_add((first / 2 + i) as u64));
            // In (0, 1] and [0, 1): the logarithm of zero does not come up.
            let radius = ((bits >> 40) + 1) as f32 / (1 << 24) as f32;
            let angle = (bits & 0xff_ffff) as f32 / (1 << 24) as f32;
            let (sin, cos) = (angle * std::f32::consts::TAU).sin_cos();
            let radius = std * (-2.0 * radius.ln()).sqrt();
            pair[0] = radius * cos;
            if let Some(x) = pair.get_mut(1) {
                *x = radius * sin;
            }
        }
    }
}

pub(crate) fn scatter(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviates_are_normal_and_repeatable() {
        let mut xs = vec![0.0; 100_000];
        Generator::new(7, "a").normal(0, 0.02, &mut xs);
        let n = xs.len() as f64;
        let mean = xs.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let std = (xs.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n).sqrt();
        let tails = xs.iter().filter(|x| x.abs() > 0.04).count() as f64 / n;
        assert!(
            mean.abs() < 3e-4 && (std - 0.02).abs() < 2e-4 && (tails - 0.0455).abs() < 4e-3,
            "{mean} {std} {tails}"
        );

        let mut part = vec![0.0; 10];
        Generator::new(7, "a").normal(50, 0.02, &mut part);
        assert_eq!(part, xs[50..60]);
        Generator::new(7, "a").normal(51, 0.02, &mut part);
        assert_eq!(part, xs[51..61]);
        Generator::new(7, "b").normal(50, 0.02, &mut part);
        assert_ne!(part, xs[50..60]);
    }
}
