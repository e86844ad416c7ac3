//! One call of an algorithm's kernel, fused where there is one: for parameters of one group that have made the same number
//! of steps.

use super::Algorithm;
use super::kernels::{Arg, Kernels};
use crate::error::Result;
use lightcell_torch::{AdamSettings, SgdSettings};
use tch::Tensor;

/// PyTorch's names of what an algorithm remembers of a parameter.
pub(super) fn slot_names(algorithm: Algorithm) -> Vec<&'static str> {
    let names: &[(&str, bool)] = match algorithm {
        Algorithm::Sgd { momentum, .. } => &[("momentum_buffer", momentum != 0.0)],
        Algorithm::Adam { amsgrad, .. } => &[("exp_avg", true), ("exp_avg_sq", true), ("max_exp_avg_sq", amsgrad)],
        Algorithm::RmsProp { momentum, centered, .. } => &[
            ("square_avg", true),
            ("momentum_buffer", momentum > 0.0),
            ("grad_avg", centered),
        ],
        Algorithm::Adagrad { .. } => &[("sum", true)],
        Algorithm::Lbfgs(_) => &[],
    };
    names
        .iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| *name)
        .collect()
}

/// Parameters of one group that have made the same number of steps.
pub(super) struct Part<'a> {
    params: Vec<&'a Tensor>,
    grads: Vec<&'a Tensor>,
    /// For each of the algorithm's slots, those of the parameters.
    slots: Vec<Vec<&'a Tensor>>,
}

/// How a group is changed in a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub algorithm: Algorithm,
    /// By PyTorch's fused kernel, where there is one for the algorithm and the tensors.
    pub fused: bool,
    pub lr: f64,
    pub weight_decay: f64,
    /// The number of this step, from 1.
    pub step: u64,
}

impl<'a> Part<'a> {
    pub fn new(slots: usize) -> Part<'a> {
        Part {
            params: Vec::new(),
            grads: Vec::new(),
            slots: (0..slots).map(|_| Vec::new()).collect(),
        }
    }

    pub fn add(&mut self, param: &'a Tensor, grad: &'a Tensor, slots: &'a [Tensor]) {
        self.params.push(param);
        self.grads.push(grad);
        for (list, slot) in self.slots.iter_mut().zip(slots) {
            list.push(slot);
        }
    }

    /// Changes the parameters.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn run(&self, kernels: &Kernels, how: How) -> Result<()> {
        if how.fused && self.fused(how)? {
            return Ok(());
        }
        self.foreach(kernels, how)
    }

    /// Changes the parameters by a kernel that goes through each once; whether there is one for them.
    fn fused(&self, how: How) -> Result<bool> {
        let lists = std::iter::once(&self.grads).chain(&self.slots);
        let lists: Vec<&[&Tensor]> = lists.map(Vec::as_slice).collect();
        Ok(match how.algorithm {
            Algorithm::Adam {
                decoupled,
                betas,
                eps,
                amsgrad,
            } => {
                let settings = AdamSettings::new(how.step, how.lr, betas).eps(eps).amsgrad(amsgrad);
                lightcell_torch::fused_adam(
                    &settings.weight_decay(how.weight_decay, decoupled),
                    &self.params,
                    &lists,
                )?
            }
            Algorithm::Sgd {
                momentum,
                dampening,
                nesterov,
            } => {
                let settings = SgdSettings::new(how.lr).weight_decay(how.weight_decay);
                let settings = settings.momentum(momentum, dampening, nesterov, how.step == 1);
                lightcell_torch::fused_sgd(&settings, &self.params, &lists)?
            }
            Algorithm::RmsProp { .. } | Algorithm::Adagrad { .. } | Algorithm::Lbfgs(_) => false,
        })
    }

    /// Changes the parameters by operations on all of them, one after the other: the order of PyTorch's default, and its
    /// rounding.
    fn foreach(&self, kernels: &Kernels, how: How) -> Result<()> {
        let (algorithm, step) = (how.algorithm, how.step);
        // A slot that the settings do without is an empty list, which the kernel does not touch.
        let names = slot_names(algorithm);
        let slot = |name: &str| {
            let at = names.iter().position(|n| *n == name);
            Arg::Refs(at.map_or(&[], |at| self.slots[at].as_slice()))
        };
        let (params, grads) = (Arg::Refs(&self.params), Arg::Refs(&self.grads));
        let (lr, weight_decay) = (Arg::Float(how.lr), Arg::Float(how.weight_decay));
        match algorithm {
            Algorithm::Sgd {
                momentum,
                dampening,
                nesterov,
            } => kernels.call(
                "sgd",
                &[
                    params,
                    grads,
                    slot("momentum_buffer"),
                    Arg::Bool(step == 1),
                    lr,
                    weight_decay,
                    Arg::Float(momentum),
                    Arg::Float(dampening),
                    Arg::Bool(nesterov),
                ],
            ),
            Algorithm::Adam {
                decoupled,
                betas,
                eps,
                amsgrad,
            } => kernels.call(
                "adam",
                &[
                    params,
                    grads,
                    slot("exp_avg"),
                    slot("exp_avg_sq"),
                    slot("max_exp_avg_sq"),
                    Arg::Float(step as f64),
                    lr,
                    weight_decay,
                    Arg::Bool(decoupled),
                    Arg::Float(betas.0),
                    Arg::Float(betas.1),
                    Arg::Float(eps),
                    Arg::Bool(amsgrad),
                ],
            ),
            Algorithm::RmsProp {
                alpha,
                eps,
                momentum,
                centered,
            } => kernels.call(
                "rmsprop",
                &[
                    params,
                    grads,
                    slot("square_avg"),
                    slot("momentum_buffer"),
                    slot("grad_avg"),
                    lr,
                    weight_decay,
                    Arg::Float(alpha),
                    Arg::Float(eps),
                    Arg::Float(momentum),
                    Arg::Bool(centered),
                ],
            ),
            Algorithm::Adagrad { lr_decay, eps, .. } => kernels.call(
                "adagrad",
                &[
                    params,
                    grads,
                    slot("sum"),
                    Arg::Float(step as f64),
                    lr,
                    weight_decay,
                    Arg::Float(lr_decay),
                    Arg::Float(eps),
                ],
            ),
            // It steps otherwise.
            Algorithm::Lbfgs(_) => return Ok(()),
        }?;
        Ok(())
    }
}
