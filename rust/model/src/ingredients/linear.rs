//! y = x W^T + b, several such layers with the same input side by side in one product (query, key and value).

use ferroformer_kernels::{Epilogue, Form, Input, Mat, Narrow, Output, PackedLinear, Threads, linear};

use crate::error::Result;
use crate::export::{Export, Values};
use crate::init::Init;
use crate::loader::{Loader, Slot};
use crate::packed_file::Piece;

pub(crate) struct Linear {
    packed: PackedLinear,
    /// Scope and number of outputs of each layer.
    parts: Vec<(String, usize)>,
}

impl Linear {
    /// Weight and bias of each part.
    pub(crate) fn slots(parts: &[(String, usize)], inputs: usize) -> Vec<[Slot; 2]> {
        let part = |(scope, outputs): &(String, usize)| {
            let weight = Slot::new(format!("{scope}.weight"), &[*outputs, inputs], Init::Normal);
            [weight, Slot::new(format!("{scope}.bias"), &[*outputs], Init::Zeros)]
        };
        parts.iter().map(part).collect()
    }

    pub(crate) fn load(loader: &Loader, parts: Vec<(String, usize)>, inputs: usize) -> Result<Self> {
        let packed = loader.linear(&name(&parts), &Self::slots(&parts, inputs))?;
        Ok(Self { packed, parts })
    }

    /// The form in which x is read.
    pub(crate) fn form(&self) -> Form {
        self.packed.form()
    }

    /// x (T, K), as floats and in [`form`](Self::form) where that is another -> out (T, N).
    pub(crate) fn forward<'a>(
        &self,
        threads: &Threads,
        x: Mat,
        narrow: &Narrow,
        epilogue: Epilogue,
        out: impl Into<Output<'a>>,
    ) {
        let x = if self.form() == Form::Floats { Input::Floats(x) } else { Input::Narrow(narrow) };
        linear(threads, x, &self.packed, epilogue, out);
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        let inputs = self.packed.inputs();
        let starts = self.parts.iter().scan(0, |next, (_, outputs)| {
            *next += outputs;
            Some(*next - outputs)
        });
        self.parts.iter().zip(starts).flat_map(move |((scope, outputs), start)| {
            let range = start..start + outputs;
            let weights = Values::Weights(&self.packed, range.clone());
            [
                Export { slot: format!("{scope}.weight"), shape: vec![*outputs, inputs], values: weights },
                Export {
                    slot: format!("{scope}.bias"),
                    shape: vec![*outputs],
                    values: Values::Biases(&self.packed, range),
                },
            ]
        })
    }

    pub(crate) fn piece(&self) -> Piece<'_> {
        Piece::new(name(&self.parts), self.packed.words())
    }
}

/// Of all parts together.
fn name(parts: &[(String, usize)]) -> String {
    parts.iter().map(|(scope, _)| scope.as_str()).collect::<Vec<_>>().join("+")
}
