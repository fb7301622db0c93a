//! A dense layer on each sequence's first token.

use ferroformer_kernels::{Activation, Epilogue, Form, Mat, MatMut, Narrow, Threads};

use super::Linear;
use crate::blueprint::{Blueprint, PoolerSpec};
use crate::error::Result;
use crate::export::Export;
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;

pub(crate) struct Pooler {
    dense: Linear,
    activation: Activation,
}

fn parts(blueprint: &Blueprint) -> Vec<(String, usize)> {
    vec![("pooler".to_owned(), blueprint.hidden_size)]
}

impl Pooler {
    pub(crate) fn slots(blueprint: &Blueprint) -> Vec<Slot> {
        Linear::slots(&parts(blueprint), blueprint.hidden_size).into_iter().flatten().collect()
    }

    pub(crate) fn load(loader: &Loader, blueprint: &Blueprint, spec: PoolerSpec) -> Result<Self> {
        let dense = Linear::load(loader, parts(blueprint), blueprint.hidden_size)?;
        Ok(Self { dense, activation: spec.activation.into() })
    }

    pub(crate) fn form(&self) -> Form {
        self.dense.form()
    }

    /// First tokens (S, H), also in the pooler's form -> out (S, H).
    pub(crate) fn forward(&self, threads: &Threads, first: Mat, narrow: &Narrow, out: MatMut) {
        let activation = Epilogue { activation: Some(self.activation), ..Epilogue::default() };
        self.dense.forward(threads, first, narrow, activation, out);
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.dense.exports()
    }

    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        vec![self.dense.piece()]
    }
}
