//! One call of an algorithm's kernel: for parameters of one group that have made the same number of steps.

use super::Algorithm;
use super::kernels::{Arg, Kernels};
use crate::error::Result;
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
pub(super) struct Part {
    pub params: Vec<Tensor>,
    pub grads: Vec<Tensor>,
    /// For each of the algorithm's slots, those of the parameters.
    pub slots: Vec<Vec<Tensor>>,
}

impl Part {
    pub fn new(slots: usize) -> Part {
        Part {
            params: Vec::new(),
            grads: Vec::new(),
            slots: (0..slots).map(|_| Vec::new()).collect(),
        }
    }

    /// Changes the parameters; `step` is the number of this step, from 1.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn run(&self, kernels: &Kernels, algorithm: Algorithm, lr: f64, weight_decay: f64, step: u64) -> Result<()> {
        // A slot that the settings do without is an empty list, which the kernel does not touch.
        let names = slot_names(algorithm);
        let slot = |name: &str| {
            let at = names.iter().position(|n| *n == name);
            Arg::Tensors(at.map_or(&[], |at| self.slots[at].as_slice()))
        };
        let (params, grads) = (Arg::Tensors(&self.params), Arg::Tensors(&self.grads));
        let (lr, weight_decay) = (Arg::Float(lr), Arg::Float(weight_decay));
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
