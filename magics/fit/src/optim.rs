//! How parameters are changed: a description that a model returns. [`Optimizer`] is made from it.

mod group;
mod kernels;
mod lbfgs;
mod looking;
mod optimizer;
mod part;

pub use group::ParamGroup;
pub(crate) use group::name_fits;
pub(crate) use kernels::Kernels;
pub use optimizer::Optimizer;

use crate::error::{Error, Kind, Result};
use lbfgs::Lbfgs;

use crate::schedule::{CosineAnnealingLR, Plan, Schedule, Scheduler};

/// An optimizer with its settings, parameter groups and schedule of the learning rate. Names and defaults are PyTorch's.
///
/// ```
/// use lightcell::prelude::*;
/// // No weight decay for biases; the rate rises over 100 steps, then falls along a cosine to 0 at the run's end.
/// let optim = adamw(3e-4)
///     .betas(0.9, 0.95)
///     .weight_decay(0.1)
///     .group(ParamGroup::new("*.bias").weight_decay(0.0))
///     .warmup(100)
///     .cosine();
/// assert_eq!(optim.lr(), 3e-4);
/// ```
#[derive(Debug, Clone)]
pub struct Optim {
    pub(crate) algorithm: Algorithm,
    pub(crate) lr: f64,
    pub(crate) weight_decay: f64,
    pub(crate) groups: Vec<ParamGroup>,
    pub(crate) plan: Plan,
    pub(crate) fused: bool,
    /// The first setting that the algorithm does not have. Said when the optimizer is made, where an error can be said.
    fault: Option<Error>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Algorithm {
    Sgd {
        momentum: f64,
        dampening: f64,
        nesterov: bool,
    },
    Adam {
        /// AdamW: the decay is no part of the gradient.
        decoupled: bool,
        betas: (f64, f64),
        eps: f64,
        amsgrad: bool,
    },
    RmsProp {
        alpha: f64,
        eps: f64,
        momentum: f64,
        centered: bool,
    },
    Adagrad {
        lr_decay: f64,
        initial_accumulator_value: f64,
        eps: f64,
    },
    Lbfgs(Lbfgs),
}

impl Algorithm {
    /// PyTorch's name of its class.
    pub fn name(&self) -> &'static str {
        match self {
            Algorithm::Sgd { .. } => "SGD",
            Algorithm::Adam { decoupled: false, .. } => "Adam",
            Algorithm::Adam { decoupled: true, .. } => "AdamW",
            Algorithm::RmsProp { .. } => "RMSprop",
            Algorithm::Adagrad { .. } => "Adagrad",
            Algorithm::Lbfgs(_) => "LBFGS",
        }
    }

    /// What a schedule that cycles the momentum changes; `None` when there is nothing of the kind.
    pub fn momentum_mut(&mut self) -> Option<&mut f64> {
        match self {
            Algorithm::Sgd { momentum, .. } | Algorithm::RmsProp { momentum, .. } => Some(momentum),
            Algorithm::Adam { betas, .. } => Some(&mut betas.0),
            Algorithm::Adagrad { .. } | Algorithm::Lbfgs(_) => None,
        }
    }
}

/// Stochastic gradient descent with a momentum, 0 for none (`torch.optim.SGD`).
///
/// ```
/// use lightcell::prelude::*;
/// let optim = sgd(0.1, 0.9).nesterov().weight_decay(5e-4);
/// ```
pub fn sgd(lr: f64, momentum: f64) -> Optim {
    Optim::new(
        lr,
        Algorithm::Sgd {
            momentum,
            dampening: 0.0,
            nesterov: false,
        },
    )
}

/// Adam (`torch.optim.Adam`): betas 0.9 and 0.999, eps 1e-8, no weight decay.
///
/// ```
/// use lightcell::prelude::*;
/// let optim = adam(1e-3).amsgrad();
/// ```
pub fn adam(lr: f64) -> Optim {
    Optim::new(
        lr,
        Algorithm::Adam {
            decoupled: false,
            betas: (0.9, 0.999),
            eps: 1e-8,
            amsgrad: false,
        },
    )
}

/// AdamW (`torch.optim.AdamW`): betas 0.9 and 0.999, eps 1e-8, a weight decay of 0.01.
///
/// ```
/// use lightcell::prelude::*;
/// let optim = adamw(1e-3).weight_decay(0.05);
/// ```
pub fn adamw(lr: f64) -> Optim {
    let algorithm = Algorithm::Adam {
        decoupled: true,
        betas: (0.9, 0.999),
        eps: 1e-8,
        amsgrad: false,
    };
    Optim::new(lr, algorithm).weight_decay(0.01)
}

/// RMSprop (`torch.optim.RMSprop`): alpha 0.99, eps 1e-8, no momentum, not centered.
///
/// ```
/// use lightcell::prelude::*;
/// let optim = rmsprop(1e-2).alpha(0.9).momentum(0.9);
/// ```
pub fn rmsprop(lr: f64) -> Optim {
    Optim::new(
        lr,
        Algorithm::RmsProp {
            alpha: 0.99,
            eps: 1e-8,
            momentum: 0.0,
            centered: false,
        },
    )
}

/// Adagrad (`torch.optim.Adagrad`): no decay of the rate, accumulators from 0, eps 1e-10.
///
/// ```
/// use lightcell::prelude::*;
/// let optim = adagrad(1e-2).lr_decay(1e-4);
/// ```
pub fn adagrad(lr: f64) -> Optim {
    Optim::new(
        lr,
        Algorithm::Adagrad {
            lr_decay: 0.0,
            initial_accumulator_value: 0.0,
            eps: 1e-10,
        },
    )
}

/// L-BFGS without a line search (`torch.optim.LBFGS`): up to 20 iterations a step, each of which computes the loss of the
/// batch anew; of the last 100 of them it keeps two copies of all gradients. For small models and whole data sets as one
/// batch. It has no weight decay and no groups, and its `state` is that of all parameters together.
///
/// ```
/// use lightcell::prelude::*;
/// let optim = lbfgs(1.0).max_iter(10).history_size(20);
/// ```
pub fn lbfgs(lr: f64) -> Optim {
    Optim::new(
        lr,
        Algorithm::Lbfgs(Lbfgs {
            max_iter: 20,
            max_eval: None,
            tolerance_grad: 1e-7,
            tolerance_change: 1e-9,
            history_size: 100,
        }),
    )
}

impl Optim {
    fn new(lr: f64, algorithm: Algorithm) -> Optim {
        Optim {
            algorithm,
            lr,
            weight_decay: 0.0,
            groups: Vec::new(),
            plan: Plan::default(),
            fused: true,
            fault: None,
        }
    }

    fn lacks(mut self, setting: &str) -> Optim {
        let name = self.algorithm.name();
        self.fault
            .get_or_insert_with(|| Error::new(Kind::Option, format!("{name} has no setting `{setting}`")));
        self
    }

    /// Sets the weight decay, not negative.
    #[must_use]
    pub fn weight_decay(mut self, decay: f64) -> Optim {
        self.weight_decay = decay;
        self
    }

    /// Sets the momentum of SGD or RMSprop, not negative.
    #[must_use]
    pub fn momentum(mut self, value: f64) -> Optim {
        match &mut self.algorithm {
            Algorithm::Sgd { momentum, .. } | Algorithm::RmsProp { momentum, .. } => *momentum = value,
            _ => return self.lacks("momentum"),
        }
        self
    }

    /// Sets by how much SGD's momentum takes less of the gradient: 0 all of it, 1 nothing.
    #[must_use]
    pub fn dampening(mut self, value: f64) -> Optim {
        match &mut self.algorithm {
            Algorithm::Sgd { dampening, .. } => *dampening = value,
            _ => return self.lacks("dampening"),
        }
        self
    }

    /// Turns Nesterov's momentum on, for SGD with a momentum and without dampening.
    #[must_use]
    pub fn nesterov(mut self) -> Optim {
        match &mut self.algorithm {
            Algorithm::Sgd { nesterov, .. } => *nesterov = true,
            _ => return self.lacks("nesterov"),
        }
        self
    }

    /// Sets how slowly Adam's means of the gradient and of its square move, from 0 to below 1.
    #[must_use]
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Optim {
        match &mut self.algorithm {
            Algorithm::Adam { betas, .. } => *betas = (beta1, beta2),
            _ => return self.lacks("betas"),
        }
        self
    }

    /// Sets what is added to the divisor, of Adam, AdamW, RMSprop and Adagrad.
    #[must_use]
    pub fn eps(mut self, value: f64) -> Optim {
        match &mut self.algorithm {
            Algorithm::Adam { eps, .. } | Algorithm::RmsProp { eps, .. } | Algorithm::Adagrad { eps, .. } => {
                *eps = value
            }
            Algorithm::Sgd { .. } | Algorithm::Lbfgs(_) => return self.lacks("eps"),
        }
        self
    }

    /// Whether SGD, Adam and AdamW step by libtorch's fused kernels, as PyTorch does with `fused=True`: one pass through a
    /// parameter instead of one for each operation. On by default, as it is faster everywhere; PyTorch's own default takes the
    /// operations one by one, and rounds differently in the last digit. A run with `--compat lightning` does so too.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let optim = adam(1e-3).fused(false);
    /// ```
    #[must_use]
    pub fn fused(mut self, on: bool) -> Optim {
        self.fused = on;
        match self.algorithm {
            Algorithm::RmsProp { .. } | Algorithm::Adagrad { .. } | Algorithm::Lbfgs(_) if on => self.lacks("fused"),
            _ => self,
        }
    }

    /// Divides by the largest mean square so far, in Adam and AdamW.
    #[must_use]
    pub fn amsgrad(mut self) -> Optim {
        match &mut self.algorithm {
            Algorithm::Adam { amsgrad, .. } => *amsgrad = true,
            _ => return self.lacks("amsgrad"),
        }
        self
    }

    /// Sets how slowly RMSprop's mean square moves, from 0 to 1.
    #[must_use]
    pub fn alpha(mut self, value: f64) -> Optim {
        match &mut self.algorithm {
            Algorithm::RmsProp { alpha, .. } => *alpha = value,
            _ => return self.lacks("alpha"),
        }
        self
    }

    /// Divides by the deviation instead of the root of the mean square, in RMSprop.
    #[must_use]
    pub fn centered(mut self) -> Optim {
        match &mut self.algorithm {
            Algorithm::RmsProp { centered, .. } => *centered = true,
            _ => return self.lacks("centered"),
        }
        self
    }

    /// Sets how fast Adagrad's own learning rate falls with its steps.
    #[must_use]
    pub fn lr_decay(mut self, value: f64) -> Optim {
        match &mut self.algorithm {
            Algorithm::Adagrad { lr_decay, .. } => *lr_decay = value,
            _ => return self.lacks("lr_decay"),
        }
        self
    }

    /// Sets from where Adagrad's sums of squares begin.
    #[must_use]
    pub fn initial_accumulator_value(mut self, value: f64) -> Optim {
        match &mut self.algorithm {
            Algorithm::Adagrad {
                initial_accumulator_value,
                ..
            } => *initial_accumulator_value = value,
            _ => return self.lacks("initial_accumulator_value"),
        }
        self
    }

    /// Sets how many iterations an L-BFGS step has at most, at least 1; and with it that the loss is computed at most 1.25
    /// times as often.
    #[must_use]
    pub fn max_iter(mut self, iterations: u64) -> Optim {
        match &mut self.algorithm {
            Algorithm::Lbfgs(settings) => settings.max_iter = iterations,
            _ => return self.lacks("max_iter"),
        }
        self
    }

    /// Sets how often an L-BFGS step computes the loss at most.
    #[must_use]
    pub fn max_eval(mut self, evaluations: u64) -> Optim {
        match &mut self.algorithm {
            Algorithm::Lbfgs(settings) => settings.max_eval = Some(evaluations),
            _ => return self.lacks("max_eval"),
        }
        self
    }

    /// Sets of how many iterations L-BFGS keeps the gradients, at least 1.
    #[must_use]
    pub fn history_size(mut self, iterations: usize) -> Optim {
        match &mut self.algorithm {
            Algorithm::Lbfgs(settings) => settings.history_size = iterations,
            _ => return self.lacks("history_size"),
        }
        self
    }

    /// Sets below which largest gradient (1e-7) and which change of loss or parameters (1e-9) an L-BFGS step ends.
    #[must_use]
    pub fn tolerance(mut self, grad: f64, change: f64) -> Optim {
        match &mut self.algorithm {
            Algorithm::Lbfgs(settings) => (settings.tolerance_grad, settings.tolerance_change) = (grad, change),
            _ => return self.lacks("tolerance"),
        }
        self
    }

    /// Gives the parameters of these names a learning rate or weight decay of their own. Of several groups that a name
    /// fits, the first holds.
    #[must_use]
    pub fn group(mut self, group: ParamGroup) -> Optim {
        self.groups.push(group);
        self
    }

    /// Changes the learning rate while the model is trained.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let optim = sgd(0.1, 0.9).schedule(MultiStepLR::new([30, 60]).gamma(0.2));
    /// let optim = adam(1e-3).schedule(OneCycleLR::new(1e-2));
    /// let optim = adam(1e-3).schedule(StepLR::new(500).per_step());
    /// ```
    #[must_use]
    pub fn schedule(mut self, schedule: impl Into<Schedule>) -> Optim {
        self.plan.schedule = Some(schedule.into());
        self
    }

    /// Lets the learning rate fall to 0 along a cosine, step by step over the whole run.
    #[must_use]
    pub fn cosine(self) -> Optim {
        self.schedule(CosineAnnealingLR::whole_run())
    }

    /// Begins with small learning rates: in the n-th of the first `steps` optimizer steps, n / `steps` of what the
    /// schedule says. A schedule that counts steps begins after them.
    #[must_use]
    pub fn warmup(mut self, steps: u64) -> Optim {
        self.plan.warmup = steps;
        self
    }

    /// The learning rate, before a schedule changes it.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// Refuses what PyTorch refuses.
    fn check(&self) -> Result<()> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        not_negative("the learning rate", self.lr)?;
        not_negative("weight_decay", self.weight_decay)?;
        for group in &self.groups {
            group.check()?;
        }
        match self.algorithm {
            Algorithm::Sgd {
                momentum,
                dampening,
                nesterov,
            } => {
                not_negative("momentum", momentum)?;
                if nesterov && (momentum == 0.0 || dampening != 0.0) {
                    return Err(
                        Error::new(Kind::Option, "Nesterov's momentum needs a momentum and no dampening")
                            .hint("sgd(0.1, 0.9).nesterov()"),
                    );
                }
            }
            Algorithm::Adam { betas, eps, .. } => {
                for beta in [betas.0, betas.1] {
                    if !(0.0..1.0).contains(&beta) {
                        return Err(Error::new(
                            Kind::Option,
                            format!("betas are at least 0 and below 1, not {beta}"),
                        ));
                    }
                }
                not_negative("eps", eps)?;
            }
            Algorithm::RmsProp {
                alpha, eps, momentum, ..
            } => {
                not_negative("alpha", alpha)?;
                not_negative("eps", eps)?;
                not_negative("momentum", momentum)?;
            }
            Algorithm::Adagrad {
                lr_decay,
                initial_accumulator_value,
                eps,
            } => {
                not_negative("lr_decay", lr_decay)?;
                not_negative("initial_accumulator_value", initial_accumulator_value)?;
                not_negative("eps", eps)?;
            }
            Algorithm::Lbfgs(_) => {
                if self.weight_decay != 0.0 || !self.groups.is_empty() {
                    return Err(Error::new(
                        Kind::Option,
                        "LBFGS has neither weight decay nor parameter groups",
                    ));
                }
            }
        }
        self.plan.check(self.algorithm)
    }

    /// The optimizer for these parameters, given with their names in the order in which they were made.
    pub(crate) fn build(&self, parameters: Vec<(String, tch::Tensor)>) -> Result<Optimizer> {
        self.check()?;
        Optimizer::new(self, parameters, Scheduler::new(self.plan.clone()))
    }
}

/// Refuses a negative number, and what is no number.
pub(crate) fn not_negative(name: &str, value: f64) -> Result<()> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::new(Kind::Option, format!("{name} cannot be {value}")).hint("it is at least 0"))
}

#[cfg(test)]
mod tests;
