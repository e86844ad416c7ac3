//! The optimizer at work: parameters in groups, what it remembers of each by name, and its step.

use super::kernels::{Arg, Kernels};
use super::lbfgs::Memory;
use super::part::{How, Part, slot_names};
use super::{Algorithm, Optim};
use crate::error::{Error, Kind, Result};
use crate::schedule::{ScheduleState, Scheduler};
use lightcell_events::run::Metrics;
use std::collections::{BTreeMap, HashMap};
use tch::nn::{self, OptimizerConfig, VarStore};
use tch::{Kind as TKind, Tensor};

/// An optimizer with its parameters and what it remembers of them. A run has one:
/// [`Fit::optimizer`](crate::Fit::optimizer).
///
/// ```
/// use lightcell::prelude::*;
/// # hparams! { Hp {} }
/// # struct Net(Linear);
/// # impl LightningModule for Net {
/// #     type HParams = Hp;
/// #     type Batch = (Tensor, Tensor);
/// #     fn new(p: &Path, _: &Hp) -> Net { Net(linear(p / "l1", 4, 2)) }
/// #     fn forward(&self, x: &Tensor) -> Tensor { self.0.forward(x) }
/// #     fn training_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<Tensor> {
/// #         let loss = self.forward(x).cross_entropy_for_logits(y);
/// #         cx.log("train_loss", &loss);
/// #         Ok(loss)
/// #     }
/// # }
/// # let x = Tensor::randn([32, 4], (Kind::Float, Device::Cpu));
/// # let y = Tensor::zeros([32], (Kind::Int64, Device::Cpu));
/// # let data = Data::new(TensorDataset::new(x, y)?).batch_size(8);
/// let mut fit = Trainer::new().max_epochs(1).fit::<Net, _>(&Hp::default(), &data)?;
/// let optimizer = fit.optimizer_mut();
/// assert_eq!(optimizer.lr(), 1e-3);
/// let state = optimizer.state();
/// assert_eq!(state[0].0, "l1.weight.step");
/// assert_eq!(state[0].1.double_value(&[]), 4.0);
/// optimizer.load_state(&state)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Optimizer {
    pub(super) algorithm: Algorithm,
    pub(super) groups: Vec<Group>,
    pub(crate) scheduler: Scheduler,
    pub(super) kernels: Kernels,
    /// Steps by fused kernels, where there are some.
    fused: bool,
    /// What L-BFGS remembers, after its first step.
    pub(super) lbfgs: Option<Memory>,
    /// tch's optimizer over the same parameters, for one thing it alone can do: take gradients away. A gradient that is
    /// zero instead would move a parameter that the loss does not depend on.
    gradients: nn::Optimizer,
    /// Learning rates of the groups in place of what the schedule says.
    fixed: Option<Vec<f64>>,
}

#[derive(Debug)]
pub(super) struct Group {
    /// Empty for the parameters that fit no group.
    pattern: String,
    /// Before the schedule.
    initial_lr: f64,
    lr: f64,
    pub(super) weight_decay: f64,
    pub(super) members: Vec<Member>,
}

#[derive(Debug)]
pub(super) struct Member {
    name: String,
    tensor: Tensor,
    /// Its own steps: a parameter without a gradient makes none.
    step: u64,
    /// One for each of the algorithm's slots, empty before its first step.
    slots: Vec<Tensor>,
}

impl Optimizer {
    pub(crate) fn new(optim: &Optim, parameters: Vec<(String, Tensor)>, scheduler: Scheduler) -> Result<Optimizer> {
        let gradients = gradients(parameters.iter().map(|(_, tensor)| tensor))?;
        let group = |pattern: &str, lr: Option<f64>, weight_decay: Option<f64>| Group {
            pattern: pattern.to_owned(),
            initial_lr: lr.unwrap_or(optim.lr),
            lr: lr.unwrap_or(optim.lr),
            weight_decay: weight_decay.unwrap_or(optim.weight_decay),
            members: Vec::new(),
        };
        let mut groups = vec![group("", None, None)];
        groups.extend(optim.groups.iter().map(|g| group(&g.pattern, g.lr, g.weight_decay)));
        let names: Vec<String> = parameters.iter().map(|(name, _)| name.clone()).collect();
        for (name, tensor) in parameters {
            let at = optim.groups.iter().position(|g| g.fits(&name)).map_or(0, |at| at + 1);
            groups[at].members.push(Member {
                name,
                tensor,
                step: 0,
                slots: Vec::new(),
            });
        }
        if let Some(empty) = groups[1..].iter().find(|group| group.members.is_empty()) {
            let error = format!("no parameter is left for the group `{}`", empty.pattern);
            return Err(Error::new(Kind::Option, error).hint(format!("the parameters are {}", names.join(", "))));
        }
        let mut optimizer = Optimizer {
            algorithm: optim.algorithm,
            groups,
            scheduler,
            kernels: Kernels::load()?,
            fused: optim.fused,
            lbfgs: None,
            gradients,
            fixed: None,
        };
        optimizer.scheduled();
        Ok(optimizer)
    }

    /// Learning rate of the next step, of the parameters that are in no group.
    pub fn lr(&self) -> f64 {
        self.groups[0].lr
    }

    /// Patterns and learning rates of the groups; first, with an empty pattern, that of the parameters in none.
    pub fn lrs(&self) -> Vec<(String, f64)> {
        self.groups
            .iter()
            .map(|group| (group.pattern.clone(), group.lr))
            .collect()
    }

    /// Sets the learning rates of all groups until it is called again; `None` gives them back to the schedule.
    pub(crate) fn fix_lrs(&mut self, lrs: Option<Vec<f64>>) {
        self.fixed = lrs;
        self.scheduled();
    }

    /// What belongs to each group.
    pub(crate) fn members_by_group(&self) -> Vec<Members> {
        let names = |group: &Group| group.members.iter().map(|member| member.name.clone()).collect();
        let members = |group: &Group| Members {
            names: names(group),
            lr: group.lr,
            initial_lr: group.initial_lr,
            weight_decay: group.weight_decay,
            scheduled: self.scheduler.scheduled(),
        };
        self.groups.iter().map(members).collect()
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Names of the parameters that are not frozen.
    pub(crate) fn trained_names(&self) -> Vec<String> {
        let members = self.groups.iter().flat_map(|group| &group.members);
        let trained = members.filter(|member| member.tensor.requires_grad());
        trained.map(|member| member.name.clone()).collect()
    }

    /// Follows parameters that were frozen or are trained again. What it remembers of them stays.
    ///
    /// # Errors
    /// libtorch's own.
    pub(crate) fn follow(&mut self) -> Result<()> {
        let members = self.groups.iter().flat_map(|group| &group.members);
        self.gradients = gradients(members.map(|member| &member.tensor))?;
        Ok(())
    }

    /// Takes all gradients away.
    pub fn zero_grad(&mut self) {
        self.gradients.zero_grad();
    }

    /// Changes the parameters along their gradients. Those without one stay as they are.
    ///
    /// # Errors
    /// libtorch's own, such as a device without memory; and with LBFGS, which a run steps otherwise.
    pub fn step(&mut self) -> Result<()> {
        self.step_by(self.fused)
    }

    /// Does the operations of a step one by one, in the order of PyTorch's default and with its rounding.
    ///
    /// # Errors
    /// As [`step`](Optimizer::step).
    pub(crate) fn step_unfused(&mut self) -> Result<()> {
        self.step_by(false)
    }

    fn step_by(&mut self, fused: bool) -> Result<()> {
        if self.is_lbfgs() {
            return Err(Error::new(
                Kind::Option,
                "LBFGS steps only in a run, which computes the loss anew for it",
            ));
        }
        let _guard = tch::no_grad_guard();
        let (algorithm, kernels) = (self.algorithm, &self.kernels);
        let slots = slot_names(algorithm).len();
        for group in &mut self.groups {
            // Those that have made the same number of steps go together, usually all.
            let mut parts: BTreeMap<u64, Vec<(usize, Tensor)>> = BTreeMap::new();
            for (at, member) in group.members.iter_mut().enumerate() {
                let grad = member.tensor.grad();
                if !grad.defined() {
                    continue;
                }
                member.begin(algorithm, slots)?;
                parts.entry(member.step).or_default().push((at, grad));
                member.step += 1;
            }
            for (step, grads) in &parts {
                let mut part = Part::new(slots);
                for (at, grad) in grads {
                    let member = &group.members[*at];
                    part.add(&member.tensor, grad, &member.slots);
                }
                let how = How {
                    algorithm,
                    fused,
                    lr: group.lr,
                    weight_decay: group.weight_decay,
                    step: step + 1,
                };
                part.run(kernels, how)?;
            }
        }
        Ok(())
    }

    /// The parameters that are trained, in the order in which they were made.
    pub(super) fn trained(&self) -> Vec<Tensor> {
        let members = self.groups.iter().flat_map(|group| &group.members);
        members
            .filter(|member| member.tensor.requires_grad())
            .map(|member| member.tensor.shallow_clone())
            .collect()
    }

    pub(crate) fn grads(&self) -> Vec<Tensor> {
        let members = self.groups.iter().flat_map(|group| &group.members);
        members
            .map(|member| member.tensor.grad())
            .filter(Tensor::defined)
            .collect()
    }

    /// Scales the gradients of all parameters so that the norm of all of them together is at most `max_norm`; gives the
    /// norm as it was, on the device (`torch.nn.utils.clip_grad_norm_`). `None` when there is no gradient.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn clip_grad_norm(&self, max_norm: f64) -> Result<Option<Tensor>> {
        let _guard = tch::no_grad_guard();
        let grads = self.grads();
        if grads.is_empty() {
            return Ok(None);
        }
        let args = [Arg::Tensors(&grads), Arg::Float(max_norm)];
        self.kernels.tensor("clip_norm", &args).map(Some)
    }

    /// Brings each number of the gradients into `-limit..=limit` (`torch.nn.utils.clip_grad_value_`).
    ///
    /// # Errors
    /// libtorch's own.
    pub fn clip_grad_value(&self, limit: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let grads = self.grads();
        if !grads.is_empty() {
            self.kernels
                .call("clip_value", &[Arg::Tensors(&grads), Arg::Float(limit)])?;
        }
        Ok(())
    }

    /// What it remembers of the parameters: `l1.weight.exp_avg` and so on, under PyTorch's names, and the number of steps
    /// as a float `l1.weight.step`, where PyTorch has it. Parameters without a step are left out. Tensors share their
    /// memory with the optimizer.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        if let Some(memory) = &self.lbfgs {
            return memory.state();
        }
        let slots = slot_names(self.algorithm);
        let counted = !matches!(self.algorithm, Algorithm::Sgd { .. });
        let mut state = Vec::new();
        for member in self.groups.iter().flat_map(|group| &group.members) {
            if member.slots.is_empty() {
                continue;
            }
            if counted {
                state.push((format!("{}.step", member.name), Tensor::from(member.step as f32)));
            }
            for (slot, tensor) in slots.iter().zip(&member.slots) {
                state.push((format!("{}.{slot}", member.name), tensor.shallow_clone()));
            }
        }
        state
    }

    /// Takes back what [`state`](Optimizer::state) gave. Nothing is changed when something does not fit.
    ///
    /// # Errors
    /// When a name is unknown or missing, or a tensor has another shape than its parameter.
    pub fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let _guard = tch::no_grad_guard();
        if let (true, Some(like)) = (self.is_lbfgs(), self.trained().first()) {
            let numbers = self.trained().iter().map(|tensor| tensor.numel() as i64).sum();
            self.lbfgs = Memory::load(state, numbers, like)?;
            return Ok(());
        }
        let slots = slot_names(self.algorithm);
        let counted = !matches!(self.algorithm, Algorithm::Sgd { .. });
        let name = self.algorithm.name();
        let fault = |text: String| Error::new(Kind::Data, text);
        let mut given: HashMap<&str, &Tensor> = state.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut loaded = Vec::new();
        for member in self.groups.iter().flat_map(|group| &group.members) {
            let mut take = |slot: &str| given.remove(format!("{}.{slot}", member.name).as_str());
            let step = if counted { take("step") } else { None };
            let tensors: Vec<&Tensor> = slots.iter().filter_map(|slot| take(slot)).collect();
            if tensors.is_empty() && step.is_none() {
                loaded.push((0, Vec::new()));
                continue;
            }
            if tensors.len() != slots.len() || counted != step.is_some() {
                let needs = if counted { "step, " } else { "" };
                return Err(fault(format!(
                    "the state of {} is not whole: {name} needs {needs}{}",
                    member.name,
                    slots.join(", ")
                )));
            }
            let mut copies = Vec::new();
            for (slot, tensor) in slots.iter().zip(tensors) {
                if tensor.size() != member.tensor.size() {
                    return Err(fault(format!(
                        "{}.{slot} has the shape {:?}, the parameter {:?}",
                        member.name,
                        tensor.size(),
                        member.tensor.size()
                    )));
                }
                let mut copy = member.tensor.f_zeros_like()?;
                copy.f_copy_(tensor)?;
                copies.push(copy);
            }
            let steps = match step {
                Some(step) if step.numel() == 1 => {
                    f64::try_from(step.f_to_kind(TKind::Double)?.f_reshape([-1])?.get(0))?
                }
                Some(step) => {
                    return Err(fault(format!(
                        "{}.step must have one element, not the shape {:?}",
                        member.name,
                        step.size()
                    )));
                }
                None => 1.0,
            };
            loaded.push((steps as u64, copies));
        }
        if let Some(unknown) = given.keys().min() {
            return Err(fault(format!("{name} has nothing called {unknown} here"))
                .hint("the state is that of another model or optimizer"));
        }
        let members = self.groups.iter_mut().flat_map(|group| &mut group.members);
        for (member, (step, slots)) in members.zip(loaded) {
            (member.step, member.slots) = (step, slots);
        }
        Ok(())
    }

    /// How far the schedule has come.
    pub fn schedule_state(&self) -> &ScheduleState {
        self.scheduler.state()
    }

    /// Takes back what [`schedule_state`](Optimizer::schedule_state) gave.
    pub fn load_schedule_state(&mut self, state: ScheduleState) {
        self.scheduler.load_state(state);
        self.scheduled();
    }

    /// A run of so many optimizer steps and epochs begins.
    pub(crate) fn begin_run(&mut self, steps: u64, epochs: u64) -> Result<()> {
        self.scheduler.begin_run(steps, epochs)?;
        self.scheduled();
        Ok(())
    }

    /// An optimizer step is done.
    pub(crate) fn after_step(&mut self) {
        self.scheduler.after_step();
        self.scheduled();
    }

    /// A scaler left an optimizer step out.
    pub(crate) fn after_skipped_step(&mut self) {
        self.scheduler.after_skipped_step();
        self.scheduled();
    }

    /// The training batches of an epoch are done; its validation is not.
    pub(crate) fn after_epoch(&mut self) {
        self.scheduler.after_epoch();
        self.scheduled();
    }

    /// An epoch is done, with its validation.
    pub(crate) fn after_validation(&mut self, metrics: &Metrics) -> Result<()> {
        let lrs: Vec<f64> = self.groups.iter().map(|group| group.initial_lr).collect();
        self.scheduler.after_validation(metrics, &lrs)?;
        self.scheduled();
        Ok(())
    }

    /// Sets what the schedule says.
    fn scheduled(&mut self) {
        for (index, group) in self.groups.iter_mut().enumerate() {
            let fixed = self.fixed.as_ref().and_then(|lrs| lrs.get(index)).copied();
            group.lr = fixed.unwrap_or_else(|| self.scheduler.lr(group.initial_lr, index));
        }
        if self.fixed.is_some() {
            return;
        }
        if let (Some(value), Some(momentum)) = (self.scheduler.momentum(), self.algorithm.momentum_mut()) {
            *momentum = value;
        }
    }
}

/// What belongs to a group, and its settings now.
pub(crate) struct Members {
    pub names: Vec<String>,
    pub lr: f64,
    pub initial_lr: f64,
    pub weight_decay: f64,
    /// Whether a schedule changes the learning rate.
    pub scheduled: bool,
}

/// tch's optimizer over those that are trained; the names are not used. One that is frozen must not be thawed.
fn gradients<'a>(parameters: impl Iterator<Item = &'a Tensor>) -> Result<nn::Optimizer> {
    let vars = VarStore::new(tch::Device::Cpu);
    for (index, tensor) in parameters.enumerate() {
        if tensor.requires_grad() {
            let _ = vars.root().add(&index.to_string(), tensor.shallow_clone(), true);
        }
    }
    Ok(nn::sgd(0.0, 0.0, 0.0, false).build(&vars, 0.0)?)
}

impl Member {
    /// Makes what is remembered, before the first step.
    fn begin(&mut self, algorithm: Algorithm, slots: usize) -> Result<()> {
        if self.slots.len() == slots {
            return Ok(());
        }
        let from = match algorithm {
            Algorithm::Adagrad {
                initial_accumulator_value,
                ..
            } => initial_accumulator_value,
            _ => 0.0,
        };
        self.slots = (0..slots)
            .map(|_| Ok(self.tensor.f_full_like(from)?.set_requires_grad(false)))
            .collect::<Result<_>>()?;
        Ok(())
    }
}
