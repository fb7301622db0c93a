//! From gradients to other weights.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Mutex;

use ferroformer_kernels::{self as kernels, Threads, floats_of};

use super::gradients::{Gradients, Layout, exports, trained_slots};
use super::pass::lock;
use crate::checkpoint::Checkpoint;
use crate::encoder::Encoder;
use crate::error::{ModelError, Result};
use crate::export::{self, Export, Values};
use crate::loader::Slot;
use crate::weights::Weights;

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101), as torch has it.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub betas: [f64; 2],
    pub eps: f64,
}

/// Gradient descent with momentum, as torch has it.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    pub momentum: f64,
    pub nesterov: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Rule {
    AdamW(AdamW),
    Sgd(Sgd),
}

impl Rule {
    /// What it keeps for each weight, by the names that torch gives them.
    fn state(self) -> &'static [&'static str] {
        match self {
            Rule::AdamW(_) => &["exp_avg", "exp_avg_sq"],
            Rule::Sgd(Sgd { momentum, .. }) if momentum != 0.0 => &["momentum_buffer"],
            Rule::Sgd(_) => &[],
        }
    }
}

pub struct Optimizer {
    rule: Rule,
    weight_decay: f64,
    /// Whether each slot of the layout decays.
    decays: Vec<bool>,
    /// One for each name in [`Rule::state`], alike with the weights.
    state: Vec<Weights>,
    layout: Layout,
    blueprint: crate::blueprint::Blueprint,
    steps: u64,
}

/// Some neighbours of one slot: weights, gradients, state.
struct Share<'a> {
    weights: &'a mut [f32],
    gradients: &'a [f32],
    state: Vec<&'a mut [f32]>,
    decays: bool,
}

impl Optimizer {
    /// For all slots but the frozen ones; `no_decay` names those without weight decay.
    pub fn new(
        encoder: &Encoder,
        rule: Rule,
        weight_decay: f64,
        no_decay: &HashSet<String>,
        frozen: HashSet<String>,
        threads: usize,
    ) -> Result<Self> {
        let (layout, threads) = (Layout::new(encoder, frozen)?, Threads::new(threads));
        let zeros = |_: &&str| layout.zeros(&encoder.blueprint, &threads);
        let state = rule.state().iter().map(zeros).collect::<Result<_>>()?;
        let decays = layout.slots.iter().map(|slot| !no_decay.contains(slot)).collect();
        Ok(Optimizer { rule, weight_decay, decays, state, layout, blueprint: encoder.blueprint.clone(), steps: 0 })
    }

    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One step with this learning rate, of the gradients times `scale`.
    pub fn step(
        &mut self,
        encoder: &mut Encoder,
        gradients: &Gradients,
        lr: f64,
        scale: f32,
        threads: usize,
    ) -> Result<()> {
        self.layout.check_fits(encoder)?;
        gradients.check_fits(encoder)?;
        encoder.check_trainable()?;
        if gradients.layout().frozen != self.layout.frozen {
            let problem =
                "the gradients are of other parameters than the optimizer's: freeze and unfreeze before it is made";
            return Err(ModelError::Input(problem.to_owned()));
        }
        self.steps += 1;
        let (level, rule, decay, steps) = (encoder.level, self.rule, self.weight_decay, self.steps);
        let shares: Vec<_> = self.shares(encoder, gradients).into_iter().map(Mutex::new).collect();
        let serial = Threads::serial;
        Threads::new(threads).for_each(shares.len(), |_, i| {
            let Share { weights, gradients, state, decays } = &mut *lock(&shares[i]);
            let weight_decay = if *decays { decay } else { 0.0 };
            match (rule, &mut state[..]) {
                (Rule::AdamW(AdamW { betas, eps }), [m, v]) => {
                    let rule = kernels::AdamW { lr, beta1: betas[0], beta2: betas[1], eps, weight_decay, step: steps };
                    kernels::adamw(level, &serial(), &rule, weights, gradients, m, v, scale);
                }
                (Rule::Sgd(Sgd { momentum, nesterov }), state) => {
                    let rule = kernels::Sgd { lr, momentum, weight_decay, nesterov };
                    kernels::sgd(
                        level,
                        &serial(),
                        &rule,
                        weights,
                        gradients,
                        state.first_mut().map_or(&mut [][..], |x| x),
                        scale,
                    );
                }
                _ => unreachable!("an optimiser with another's state"),
            }
        });
        Ok(())
    }

    fn shares<'a>(&'a mut self, encoder: &'a mut Encoder, gradients: &'a Gradients) -> Vec<Share<'a>> {
        let pieces = gradients.weights.pieces();
        let mut weights = Pieces::new(encoder.weights_mut());
        let mut state: Vec<_> = self.state.iter_mut().map(Pieces::new).collect();
        let share = |run: &super::gradients::Run| Share {
            weights: weights.take(run.piece, &run.range),
            gradients: &floats_of(pieces[run.piece].words)[run.range.clone()],
            state: state.iter_mut().map(|state| state.take(run.piece, &run.range)).collect(),
            decays: self.decays[run.slot],
        };
        self.layout.runs.iter().map(share).collect()
    }

    /// Writes state and number of steps: a safetensors file with `exp_avg.<name>` and so on.
    pub fn save(&self, path: &Path, tensor_names: &HashMap<String, String>) -> Result<()> {
        let steps = [self.steps as f32];
        let mut names = HashMap::from([("steps".to_owned(), "steps".to_owned())]);
        let mut all = vec![Export { slot: "steps".to_owned(), shape: vec![1], values: Values::Vector(&steps) }];
        let prefixes: Vec<String> = self.rule.state().iter().map(|name| format!("{name}.")).collect();
        for (weights, prefix) in self.state.iter().zip(&prefixes) {
            all.extend(exports(weights, &self.layout, prefix));
            names
                .extend(tensor_names.iter().map(|(slot, name)| (format!("{prefix}{slot}"), format!("{prefix}{name}"))));
        }
        export::save(&all, path, &names)
    }

    /// Reads what [`save`](Self::save) wrote, for the same parameters.
    pub fn load(&mut self, path: &Path, tensor_names: &HashMap<String, String>) -> Result<()> {
        let file = Checkpoint::open(&[path.to_owned()], None)?;
        let slots = trained_slots(&self.layout, &self.blueprint);
        let expected = 1 + slots.len() * self.state.len();
        if file.names().count() != expected {
            let found = file.names().count();
            let problem = format!("{}: {found} tensors; this optimizer has {expected}", path.display());
            return Err(ModelError::Mismatch(problem));
        }
        let mut steps = [0.0];
        let place = file.tensor("steps")?;
        place.expect(&[1])?;
        place.read(0, &mut steps)?;
        let tensor = |prefix: &str, slot: &Slot| {
            let name = tensor_names.get(&slot.name).map_or("", String::as_str);
            file.tensor(&format!("{prefix}.{name}"))
        };
        let all = || self.rule.state().iter().flat_map(|prefix| slots.iter().map(move |slot| (*prefix, slot)));
        // Nothing is changed before everything is known to fit.
        all().try_for_each(|(prefix, slot)| tensor(prefix, slot)?.expect(&slot.shape))?;
        for (weights, prefix) in self.state.iter_mut().zip(self.rule.state()) {
            for slot in &slots {
                let mut values = vec![0.0; slot.shape.iter().product()];
                tensor(prefix, slot)?.read(0, &mut values)?;
                weights.slot_mut(&slot.name)?.set(&values);
            }
        }
        self.steps = steps[0] as u64;
        Ok(())
    }
}

/// Pieces of weights, from which neighbours are taken in the order in which they lie.
struct Pieces<'a> {
    /// What is left of each, and where that begins.
    left: Vec<(&'a mut [f32], usize)>,
}

impl<'a> Pieces<'a> {
    fn new(weights: &'a mut Weights) -> Self {
        Pieces { left: weights.floats_mut().into_iter().map(|floats| (floats, 0)).collect() }
    }

    fn take(&mut self, piece: usize, range: &std::ops::Range<usize>) -> &'a mut [f32] {
        let (left, begin) = &mut self.left[piece];
        let _not_of_a_trained_slot = left.split_off_mut(..range.start - *begin);
        *begin = range.end;
        left.split_off_mut(..range.len()).unwrap_or_default()
    }
}
