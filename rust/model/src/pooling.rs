//! One vector for a sentence: how the hidden states of its tokens are put together (as sentence-transformers does).

use std::str::FromStr;

use ferroformer_kernels::Mat;

use crate::error::ModelError;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pooling {
    /// The first token.
    Cls,
    Max,
    Mean,
    /// The sum divided by the square root of the number of tokens.
    MeanSqrtLen,
    /// Token i counts i times (from 1).
    WeightedMean,
    LastToken,
}

impl FromStr for Pooling {
    type Err = ModelError;
    fn from_str(name: &str) -> Result<Self, ModelError> {
        Ok(match name {
            "cls" => Pooling::Cls,
            "max" => Pooling::Max,
            "mean" => Pooling::Mean,
            "mean_sqrt_len_tokens" => Pooling::MeanSqrtLen,
            "weightedmean" => Pooling::WeightedMean,
            "lasttoken" => Pooling::LastToken,
            _ => {
                const NAMES: &str = "cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken";
                return Err(ModelError::Input(format!("pooling mode {name:?} is unknown; expected one of: {NAMES}")));
            }
        })
    }
}

impl Pooling {
    /// The tokens `skip..` of a sentence (L, H) -> out (H,); zeros where there are none.
    pub(crate) fn pool(self, tokens: Mat, skip: usize, out: &mut [f32]) {
        out.fill(0.0);
        let (first, length) = (skip.min(tokens.rows()), tokens.rows());
        if first == length {
            return;
        }
        let count = (length - first) as f32;
        let mut add = |weight: fn(usize) -> f32, divisor: f32| {
            for i in first..length {
                let weight = weight(i + 1);
                out.iter_mut().zip(tokens.row(i)).for_each(|(sum, x)| *sum += weight * x);
            }
            out.iter_mut().for_each(|x| *x /= divisor);
        };
        match self {
            Pooling::Cls => out.copy_from_slice(tokens.row(first)),
            Pooling::LastToken => out.copy_from_slice(tokens.row(length - 1)),
            Pooling::Mean => add(|_| 1.0, count),
            Pooling::MeanSqrtLen => add(|_| 1.0, count.sqrt()),
            Pooling::WeightedMean => add(|i| i as f32, (first + 1..=length).map(|i| i as f32).sum()),
            Pooling::Max => {
                out.copy_from_slice(tokens.row(first));
                for i in first + 1..length {
                    out.iter_mut().zip(tokens.row(i)).for_each(|(max, x)| *max = max.max(*x));
                }
            }
        }
    }
}

/// To Euclidean length 1; a vector shorter than 1e-12 is divided by that instead, as torch's `normalize` does.
pub(crate) fn normalize(x: &mut [f32]) {
    let length = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-12) as f32;
    x.iter_mut().for_each(|x| *x /= length);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(mode: &str, skip: usize) -> Vec<f32> {
        let tokens = [1.0, -2.0, 3.0, 0.0, 5.0, 5.0];
        let mut out = vec![9.0; 2];
        mode.parse::<Pooling>().unwrap().pool(Mat::dense(&tokens, 3, 2), skip, &mut out);
        out
    }

    #[test]
    fn modes() {
        assert_eq!(pooled("cls", 0), [1.0, -2.0]);
        assert_eq!(pooled("max", 0), [5.0, 5.0]);
        assert_eq!(pooled("mean", 0), [3.0, 1.0]);
        assert_eq!(pooled("mean", 1), [4.0, 2.5]);
        assert_eq!(pooled("lasttoken", 0), [5.0, 5.0]);
        assert_eq!(pooled("weightedmean", 0), [22.0 / 6.0, 13.0 / 6.0]);
        assert_eq!(pooled("mean_sqrt_len_tokens", 1), [8.0 / 2f32.sqrt(), 5.0 / 2f32.sqrt()]);
        assert_eq!(pooled("mean", 3), [0.0, 0.0]);
    }

    #[test]
    fn lengths() {
        let mut x = [3.0, 4.0];
        normalize(&mut x);
        assert_eq!(x, [0.6, 0.8]);
        let mut zero = [0.0; 3];
        normalize(&mut zero);
        assert_eq!(zero, [0.0; 3]);
    }
}
