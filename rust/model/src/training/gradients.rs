//! The gradients of all weights that are trained. They lie as the weights do, so that what is done to both goes element by element.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use ferroformer_kernels::{Arena, Level, Precision, Threads, floats_of, scale, sum_of_squares};

use crate::blueprint::Blueprint;
use crate::encoder::Encoder;
use crate::error::{ModelError, Result};
use crate::export::Export;
use crate::loader::{From, Loader, Slot};
use crate::memory;
use crate::weights::Weights;

pub struct Gradients {
    pub(crate) weights: Weights,
    layout: Layout,
}

/// Which slots are trained, and where they lie.
#[derive(Clone)]
pub(crate) struct Layout {
    level: Level,
    shapes: String,
    pub(crate) frozen: HashSet<String>,
    /// Those that are not frozen, in the order of a checkpoint.
    pub(crate) slots: Vec<String>,
    pub(crate) runs: Vec<Run>,
}

/// Neighbours in memory that belong to one slot.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) piece: usize,
    pub(crate) range: Range<usize>,
    /// Its number among the layout's.
    pub(crate) slot: usize,
}

impl Layout {
    /// `frozen` names slots of the model that are not trained.
    pub(crate) fn new(encoder: &Encoder, frozen: HashSet<String>) -> Result<Self> {
        let all = Weights::slots(&encoder.blueprint);
        let mut frozen = frozen;
        if let Some(unknown) = frozen.iter().find(|name| all.iter().all(|slot| slot.name != **name)) {
            return Err(ModelError::Input(format!("the model has no slot {unknown:?}")));
        }
        frozen.extend(all.iter().filter(|slot| !slot.trained).map(|slot| slot.name.clone()));
        let slots: Vec<String> = all.into_iter().map(|slot| slot.name).filter(|name| !frozen.contains(name)).collect();
        let numbers: HashMap<&String, usize> = slots.iter().zip(0..).collect();
        let mut runs = vec![];
        for (piece, places) in encoder.weights.places().into_iter().enumerate() {
            let first = runs.len();
            for place in places {
                let Some(&slot) = numbers.get(&place.slot) else { continue };
                runs.extend(place.ranges.into_iter().flat_map(cut).map(|range| Run { piece, range, slot }));
            }
            runs[first..].sort_by_key(|run| run.range.start);
        }
        Ok(Layout { level: encoder.level, shapes: shapes(&encoder.blueprint), frozen, slots, runs })
    }

    /// Zeros for all that is trained.
    pub(crate) fn zeros(&self, blueprint: &Blueprint, threads: &Threads) -> Result<Weights> {
        let slots = Weights::slots(blueprint);
        let trained = slots.iter().filter(|slot| !self.frozen.contains(&slot.name));
        let floats: usize = trained.map(|slot| slot.shape.iter().product::<usize>()).sum();
        memory::require("the gradients and the optimiser", floats as u64 * 4)?;
        let from = &From::Zeros(Arena::expecting(4 * floats + 128 * slots.len()), &self.frozen);
        Weights::load(
            &Loader { level: self.level, precision: Precision::Float32, threads, from, prefix: "" },
            blueprint,
        )
    }

    pub(crate) fn check_fits(&self, encoder: &Encoder) -> Result<()> {
        if self.level != encoder.level || self.shapes != shapes(&encoder.blueprint) {
            return Err(ModelError::Input("the gradients are those of another model".to_owned()));
        }
        Ok(())
    }

    /// The number of a slot.
    pub(crate) fn find(&self, slot: &str) -> Result<usize> {
        let missing = || ModelError::Input(format!("the slot {slot:?} is not trained"));
        self.slots.iter().position(|name| name == slot).ok_or_else(missing)
    }
}

/// Into ranges that are worth a thread, and no more.
fn cut(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    const MOST: usize = 1 << 15;
    range.clone().step_by(MOST).map(move |start| start..range.end.min(start + MOST))
}

fn shapes(blueprint: &Blueprint) -> String {
    format!("{}, pooler {}", blueprint.shapes(), blueprint.pooler.is_some())
}

impl Gradients {
    /// All zeros. Slots that are frozen have none, and cost nothing.
    pub fn new(encoder: &Encoder, frozen: HashSet<String>, threads: usize) -> Result<Self> {
        let layout = Layout::new(encoder, frozen)?;
        Ok(Gradients { weights: layout.zeros(&encoder.blueprint, &Threads::new(threads))?, layout })
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn check_fits(&self, encoder: &Encoder) -> Result<()> {
        self.layout.check_fits(encoder)
    }

    /// The slots that have a gradient.
    pub fn slots(&self) -> &[String] {
        &self.layout.slots
    }

    /// The gradient of a slot, row-major, with its shape.
    pub fn tensor(&self, slot: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        self.layout.find(slot)?;
        self.weights.tensor(slot)
    }

    /// # Panics
    /// If there are not as many values as the slot has.
    pub fn set(&mut self, slot: &str, values: &[f32]) -> Result<()> {
        self.layout.find(slot)?;
        self.weights.slot_mut(slot)?.set(values);
        Ok(())
    }

    /// The Euclidean norm of all of them together, summed in one order.
    pub fn norm(&self, threads: usize) -> f64 {
        let pieces = self.weights.pieces();
        let (threads, serial) = (Threads::new(threads), Threads::serial);
        let sums: Vec<_> = self.layout.runs.iter().map(|_| std::sync::Mutex::new(0.0)).collect();
        threads.for_each(sums.len(), |_, i| {
            let run = &self.layout.runs[i];
            let values = &floats_of(pieces[run.piece].words)[run.range.clone()];
            *super::pass::lock(&sums[i]) = sum_of_squares(self.layout.level, &serial(), values);
        });
        sums.iter().map(|sum| *super::pass::lock(sum)).sum::<f64>().sqrt()
    }

    pub fn scale(&mut self, threads: usize, factor: f32) {
        let (level, threads) = (self.layout.level, Threads::new(threads));
        self.weights.floats_mut().into_iter().for_each(|floats| scale(level, &threads, floats, factor));
    }

    /// All zeros again.
    pub fn zero(&mut self, threads: usize) {
        const BLOCK: usize = 1 << 16;
        let blocks: Vec<_> = self
            .weights
            .floats_mut()
            .into_iter()
            .flat_map(|floats| floats.chunks_mut(BLOCK))
            .map(std::sync::Mutex::new)
            .collect();
        Threads::new(threads).for_each(blocks.len(), |_, i| super::pass::lock(&blocks[i]).fill(0.0));
    }
}

pub(crate) fn trained_slots(layout: &Layout, blueprint: &Blueprint) -> Vec<Slot> {
    Weights::slots(blueprint).into_iter().filter(|slot| !layout.frozen.contains(&slot.name)).collect()
}

/// The exports of weights of a layout, their slots' names after `prefix`.
pub(crate) fn exports<'a>(
    weights: &'a Weights,
    layout: &'a Layout,
    prefix: &'a str,
) -> impl Iterator<Item = Export<'a>> {
    let trained = weights.exports().into_iter().filter(|export| !layout.frozen.contains(&export.slot));
    trained.map(move |export| Export { slot: format!("{prefix}{}", export.slot), ..export })
}
