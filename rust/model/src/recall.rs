//! What a call brings beside its batch: what it remembers of earlier tokens, and the source that its sequences attend to.

use std::ops::Range;

use ferroformer_kernels::{CachedQuery, Mat};

use crate::batch::{Batch, Part};
use crate::blueprint::Blueprint;
use crate::cache::Cache;
use crate::error::{ModelError, Result};
use crate::workspace::Rows;

#[derive(Clone, Default)]
pub(crate) struct Beside<'a> {
    /// What each block makes of the embeddings of distances.
    pub(crate) positions: Option<&'a [Rows]>,
    pub(crate) recall: Option<Recall<'a>>,
    pub(crate) source: Option<&'a SourceStates>,
    /// Which of the call's sequences are meant.
    pub(crate) sequences: Range<usize>,
}

/// A cache in which the call's tokens have their slots.
#[derive(Clone, Copy)]
pub(crate) struct Recall<'a> {
    pub(crate) cache: &'a Cache,
    /// Whether it held no token before.
    pub(crate) fresh: bool,
}

/// The last hidden states of sources, without padding.
pub struct SourceStates {
    batch: Batch<'static>,
    states: Rows,
}

impl SourceStates {
    /// Of padded states (B, W, size) and a mask (B, W) of 1 and 0; without one all are tokens.
    pub fn new(states: &[f32], shape: [usize; 3], mask: Option<&[i64]>) -> Result<Self> {
        let [rows, width, size] = shape;
        let batch = Batch::of_places(rows, width, mask)?;
        let mut own = Rows::default();
        own.resize(batch.tokens(), size)?;
        let part = batch.part(0..rows);
        crate::outputs::pad(&part, states, own.mat_mut());
        Ok(SourceStates { batch, states: own })
    }

    pub(crate) fn starts(&self) -> &[usize] {
        self.batch.starts()
    }

    pub(crate) fn states(&self) -> Mat<'_> {
        self.states.mat()
    }

    /// The padded width of its rows.
    pub fn width(&self) -> usize {
        self.batch.width()
    }

    /// An error unless they are for so many sequences of this model.
    pub(crate) fn check(&self, blueprint: &Blueprint, sequences: usize) -> Result<()> {
        let Some(source) = &blueprint.source else {
            return Err(ModelError::Input("the model attends to no source".to_owned()));
        };
        let (size, given) = (self.states.mat().cols(), self.batch.sequences());
        if size != source.hidden_size {
            let expected = source.hidden_size;
            return Err(ModelError::Input(format!("encoder_hidden_states have {size} channels; expected {expected}")));
        }
        if given != sequences {
            return Err(ModelError::Input(format!("encoder_hidden_states of {given} rows for {sequences} sequences")));
        }
        Ok(())
    }
}

impl<'a> Beside<'a> {
    pub(crate) fn of(&self, sequences: Range<usize>) -> Self {
        Beside { sequences, ..self.clone() }
    }

    pub(crate) fn check(&self, blueprint: &Blueprint, batch: &Batch) -> Result<()> {
        let remembered = self.recall.is_some_and(|recall| recall.cache.has_sources());
        match self.source {
            Some(source) => source.check(blueprint, batch.sequences()),
            None if blueprint.source.is_some() && !remembered => {
                Err(ModelError::Input("the model attends to a source: encoder outputs are missing".to_owned()))
            }
            None => Ok(()),
        }
    }

    /// How far tokens of a part may stand from each other and, where that is remembered, how long sources are.
    pub(crate) fn longest(&self, part: &Part) -> [usize; 2] {
        match self.recall {
            Some(recall) => recall.cache.longest(self.sequences.clone()),
            None => [part.longest(), 0],
        }
    }

    /// The longest source that is attended to as it is.
    pub(crate) fn longest_read(&self) -> usize {
        self.source.map_or(0, |source| source.batch.part(self.sequences.clone()).longest())
    }

    pub(crate) fn source_queries(&self, part: &Part) -> Vec<CachedQuery<'a>> {
        self.recall.map_or(vec![], |recall| recall.cache.source_queries(self.sequences.clone(), part))
    }

    /// The source's tokens, and their states.
    pub(crate) fn source_of_part(&self) -> Option<(Part<'a>, Mat<'a>)> {
        let source = self.source?;
        let starts = source.starts();
        let rows = starts[self.sequences.start]..starts[self.sequences.end];
        Some((source.batch.part(self.sequences.clone()), source.states.mat().rows_of(rows)))
    }
}
