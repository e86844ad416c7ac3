//! How parameters are changed: a description that a model returns, and the optimizer made from it.

use crate::error::Result;
use tch::nn::{self, OptimizerConfig, VarStore};

/// An optimizer with its settings. Names and defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optim {
    algorithm: Algorithm,
    lr: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Algorithm {
    Sgd {
        momentum: f64,
        weight_decay: f64,
        nesterov: bool,
    },
    Adam {
        weight_decay: f64,
    },
    AdamW {
        weight_decay: f64,
    },
}

/// Stochastic gradient descent with a momentum (0 for none).
pub fn sgd(lr: f64, momentum: f64) -> Optim {
    Optim {
        algorithm: Algorithm::Sgd {
            momentum,
            weight_decay: 0.0,
            nesterov: false,
        },
        lr,
    }
}

/// Adam.
pub fn adam(lr: f64) -> Optim {
    Optim {
        algorithm: Algorithm::Adam { weight_decay: 0.0 },
        lr,
    }
}

/// AdamW, with PyTorch's default weight decay of 0.01.
pub fn adamw(lr: f64) -> Optim {
    Optim {
        algorithm: Algorithm::AdamW { weight_decay: 0.01 },
        lr,
    }
}

impl Optim {
    /// Sets the weight decay.
    #[must_use]
    pub fn weight_decay(mut self, decay: f64) -> Optim {
        match &mut self.algorithm {
            Algorithm::Sgd { weight_decay, .. }
            | Algorithm::Adam { weight_decay }
            | Algorithm::AdamW { weight_decay } => *weight_decay = decay,
        }
        self
    }

    /// Turns Nesterov's momentum on; for SGD only, elsewhere it changes nothing.
    #[must_use]
    pub fn nesterov(mut self) -> Optim {
        if let Algorithm::Sgd { nesterov, .. } = &mut self.algorithm {
            *nesterov = true;
        }
        self
    }

    /// The learning rate.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    pub(crate) fn build(&self, vars: &VarStore) -> Result<nn::Optimizer> {
        Ok(match self.algorithm {
            Algorithm::Sgd {
                momentum,
                weight_decay,
                nesterov,
            } => nn::sgd(momentum, 0.0, weight_decay, nesterov).build(vars, self.lr)?,
            Algorithm::Adam { weight_decay } => nn::Adam {
                wd: weight_decay,
                ..nn::Adam::default()
            }
            .build(vars, self.lr)?,
            Algorithm::AdamW { weight_decay } => nn::AdamW {
                wd: weight_decay,
                ..nn::AdamW::default()
            }
            .build(vars, self.lr)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Tensor, nn::Init};

    /// Minimises (x - 3)² from 0.
    fn minimise(optim: Optim, steps: usize) -> f64 {
        let vars = VarStore::new(Device::Cpu);
        let x = vars.root().var("x", &[1], Init::Const(0.0));
        let mut optimizer = optim.build(&vars).unwrap();
        for _ in 0..steps {
            let loss = (&x - 3.0).square().sum(tch::Kind::Float);
            optimizer.zero_grad();
            loss.backward();
            optimizer.step();
        }
        f64::try_from(&x.detach().squeeze()).unwrap()
    }

    #[test]
    fn all_of_them_go_downhill() {
        let _turn = crate::tests::in_turn();
        for optim in [
            sgd(0.1, 0.0),
            sgd(0.02, 0.9),
            sgd(0.02, 0.9).nesterov(),
            adam(0.1),
            adamw(0.1).weight_decay(0.0),
        ] {
            let x = minimise(optim, 200);
            assert!((x - 3.0).abs() < 0.05, "{optim:?}: {x}");
        }
    }

    #[test]
    fn one_step_of_sgd_is_exact() {
        let _turn = crate::tests::in_turn();
        // x - lr · 2 (x - 3) = 0 + 0.1 · 6
        assert!((minimise(sgd(0.1, 0.0), 1) - 0.6).abs() < 1e-6);
        let _ = Tensor::new();
    }
}
