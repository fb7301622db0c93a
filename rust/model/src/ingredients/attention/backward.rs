//! The way back through attention.

use ferroformer_kernels::{AttentionGradients, Dropout, Mat, MatMut, attention_backward};

use super::super::blind;
use super::{Around, Attention};
use crate::error::Result;
use crate::training::Pass;

impl Attention {
    /// What [`convolve`](Self::convolve) read and the gradient of context -> that of x, to `d_x`; those of queries and values are added
    /// and written to `d_qkv`, those of the weights are added to `gradient`. Whether there is a convolution.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(crate) fn convolve_backward(
        &self,
        pass: &Pass,
        around: Around,
        x: Mat,
        qkv: Mat,
        d_context: Mat,
        gradient: &mut Attention,
        d_x: MatMut,
        d_qkv: MatMut,
    ) -> Result<bool> {
        let (Some(convolution), Some(surroundings)) = (&self.convolution, around.surroundings) else {
            return Ok(false);
        };
        let gradient = gradient.convolution.as_mut().expect("gradients lie as the weights do");
        let [queries, _, values] = self.columns();
        let d = d_context.block(0..d_context.rows(), queries.len()..d_context.cols());
        let (d_queries, rest) = d_qkv.split_cols(queries.end);
        let d_values = rest.split_cols(values.end - queries.end).1;
        let read = self.convolved(x, qkv);
        convolution.backward(pass, surroundings, read, d, gradient, d_x, d_queries, d_values)?;
        Ok(true)
    }

    /// qkv (T, all heads x head_dim) and the gradient of context, d_context -> the gradient of qkv, and of the keys and values of a
    /// source in `d_source`; that of the bias is added to `d_bias`.
    #[expect(clippy::too_many_arguments, reason = "what flows back, each by its own name")]
    pub(crate) fn attend_backward(
        &self,
        pass: &Pass,
        around: Around,
        dropout: Option<Dropout>,
        qkv: Mat,
        mut d_context: MatMut,
        scratch: &mut [f32],
        mut d_qkv: MatMut,
        d_source: Option<MatMut>,
        d_bias: Option<&mut [f32]>,
        d_positions: Option<MatMut>,
    ) {
        let (places, tokens) = (self.columns(), pass.tokens());
        let qkv = self.operands(qkv, around);
        if let Some(d_source) = d_source {
            let (dk, dv) = d_source.split_cols(places[1].len());
            let dq = d_qkv.into_block(0..tokens, places[0].clone());
            let heads = self.of(pass.step.part, around, dropout);
            let gradients = AttentionGradients::from([dq, dk, dv]);
            return attention_backward(self.level, pass.threads, qkv, heads, d_context.view(), scratch, gradients);
        }
        let (dq, rest) = d_qkv.reborrow().split_cols(places[0].len());
        let (dk, rest) = rest.split_cols(places[1].len());
        let dv = rest.split_cols(places[2].len()).0;
        let positions = match d_positions {
            Some(d) => self.cut_positions(d),
            None => [None, None],
        };
        let part = pass.step.part;
        let mut attended = self.attended(d_context.reborrow());
        let shares = blind::take(self.blind(part, around), places[2].len(), self.head_dim, &mut attended);
        let heads = self.of(part, around, dropout);
        let gradients = AttentionGradients { qkv: [dq, dk, dv], bias: d_bias, positions };
        let d = d_context.view().block(0..tokens, 0..self.heads * self.head_dim);
        attention_backward(self.level, pass.threads, qkv, heads, d, scratch, gradients);
        blind::give(shares, d_qkv.reborrow().into_block(0..tokens, places[2].clone()));
        self.turn(around, true, d_qkv);
    }

    /// Where queries and keys are normalised: what [`project`](Self::project) made and the gradient of what was normalised, in d_qkv
    /// (T, all heads x head_dim) -> that of what it was before, in its place; those of the weights are added to `gradient`.
    pub(crate) fn normed_backward(
        &self,
        pass: &Pass,
        qkv: Mat,
        d_qkv: MatMut,
        sums: MatMut,
        gradient: &mut Attention,
    ) -> Result<()> {
        match (&self.query_key_norm, &mut gradient.query_key_norm) {
            (Some(norm), Some(gradient)) => norm.backward(pass, self.columns_made(), qkv, d_qkv, sums, gradient),
            _ => Ok(()),
        }
    }
}
