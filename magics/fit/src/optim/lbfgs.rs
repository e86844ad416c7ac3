//! L-BFGS: steps along a direction made of the last gradients, with the loss computed anew after each.

use super::kernels::Arg;
use super::{Algorithm, Optimizer};
use crate::error::{Error, Kind, Result};
use std::collections::HashMap;
use tch::{Kind as TKind, Tensor};

/// The settings, under PyTorch's names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lbfgs {
    pub max_iter: u64,
    pub max_eval: Option<u64>,
    pub tolerance_grad: f64,
    pub tolerance_change: f64,
    pub history_size: usize,
}

/// What it remembers: of all parameters in one row, not of each.
#[derive(Debug)]
pub(super) struct Memory {
    d: Tensor,
    prev_flat_grad: Tensor,
    h_diag: Tensor,
    old_dirs: Vec<Tensor>,
    old_stps: Vec<Tensor>,
    ro: Vec<Tensor>,
    t: f64,
    n_iter: u64,
}

impl Memory {
    /// The direction of the first iteration: down the gradient.
    fn first(grad: &Tensor) -> Result<Memory> {
        Ok(Memory {
            d: grad.f_neg()?,
            prev_flat_grad: grad.shallow_clone(),
            h_diag: Tensor::f_ones([0i64; 0], (grad.kind(), grad.device()))?,
            old_dirs: Vec::new(),
            old_stps: Vec::new(),
            ro: Vec::new(),
            t: 0.0,
            n_iter: 1,
        })
    }

    /// Learns from the last step what the curvature is.
    fn learn(&mut self, grad: &Tensor, history_size: usize) -> Result<()> {
        let y = grad.f_sub(&self.prev_flat_grad)?;
        let s = self.d.f_mul_scalar(self.t)?;
        let ys = y.f_dot(&s)?;
        if ys.f_double_value(&[])? > 1e-10 {
            if self.old_dirs.len() >= history_size.max(1) {
                for list in [&mut self.old_dirs, &mut self.old_stps, &mut self.ro] {
                    list.drain(..1);
                }
            }
            self.h_diag = ys.f_div(&y.f_dot(&y)?)?;
            self.ro.push(ys.f_reciprocal()?);
            self.old_dirs.push(y);
            self.old_stps.push(s);
        }
        self.prev_flat_grad = grad.shallow_clone();
        self.n_iter += 1;
        Ok(())
    }

    /// Under PyTorch's names; lists as one tensor, their first dimension the steps.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let rows = |list: &[Tensor]| {
            if list.is_empty() {
                self.d.zeros_like().unsqueeze(0).narrow(0, 0, 0)
            } else {
                Tensor::stack(list, 0)
            }
        };
        let ro = if self.ro.is_empty() {
            self.h_diag.unsqueeze(0).narrow(0, 0, 0)
        } else {
            Tensor::stack(&self.ro, 0)
        };
        [
            ("d", self.d.shallow_clone()),
            ("prev_flat_grad", self.prev_flat_grad.shallow_clone()),
            ("H_diag", self.h_diag.shallow_clone()),
            ("old_dirs", rows(&self.old_dirs)),
            ("old_stps", rows(&self.old_stps)),
            ("ro", ro),
            ("t", Tensor::from(self.t)),
            ("n_iter", Tensor::from(self.n_iter as i64)),
        ]
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .into()
    }

    /// From what [`state`](Memory::state) gave, for so many numbers, like this one.
    pub fn load(state: &[(String, Tensor)], numbers: i64, like: &Tensor) -> Result<Option<Memory>> {
        if state.is_empty() {
            return Ok(None);
        }
        let given: HashMap<&str, &Tensor> = state.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let names = [
            "d",
            "prev_flat_grad",
            "H_diag",
            "old_dirs",
            "old_stps",
            "ro",
            "t",
            "n_iter",
        ];
        if let Some(unknown) = given.keys().filter(|name| !names.contains(name)).min() {
            return Err(
                Error::new(Kind::Data, format!("LBFGS has nothing called {unknown} here"))
                    .hint("the state is that of another model or optimizer"),
            );
        }
        let rows = given.get("ro").map_or(0, |ro| ro.numel() as i64);
        let take = |name: &str, shape: &[i64]| {
            let tensor = given.get(name).ok_or_else(|| {
                let error = format!("the state is not whole: LBFGS needs {}", names.join(", "));
                Error::new(Kind::Data, error)
            })?;
            if tensor.size() != shape {
                let error = format!("{name} has the shape {:?}, not {shape:?}", tensor.size());
                return Err(Error::new(Kind::Data, error));
            }
            // A copy: what was given may be changed.
            Ok(tensor.f_detach()?.f_to_device(like.device())?.copy())
        };
        let list = |name: &str, shape: &[i64]| -> Result<Vec<Tensor>> {
            let all = take(name, shape)?;
            // Each with memory of its own, as when it was made: sums over a row that begins elsewhere are rounded otherwise.
            (0..rows).map(|row| Ok(all.f_get(row)?.copy())).collect()
        };
        let number = |name: &str| -> Result<f64> { Ok(take(name, &[])?.f_double_value(&[])?) };
        Ok(Some(Memory {
            d: take("d", &[numbers])?,
            prev_flat_grad: take("prev_flat_grad", &[numbers])?,
            h_diag: take("H_diag", &[])?,
            old_dirs: list("old_dirs", &[rows, numbers])?,
            old_stps: list("old_stps", &[rows, numbers])?,
            ro: list("ro", &[rows])?,
            t: number("t")?,
            n_iter: number("n_iter")? as u64,
        }))
    }
}

impl Optimizer {
    /// Whether a step computes the loss several times: [`step_again`](Optimizer::step_again) instead of `step`.
    pub(crate) fn is_lbfgs(&self) -> bool {
        matches!(self.algorithm, Algorithm::Lbfgs(_))
    }

    /// All gradients in a row, zeros for those that are not there.
    fn flat_grad(&self) -> Result<Tensor> {
        let mut all = Vec::new();
        for tensor in self.trained() {
            let grad = tensor.grad();
            let grad = if grad.defined() {
                grad
            } else {
                tensor.f_detach()?.f_zeros_like()?
            };
            all.push(grad.f_reshape([-1])?);
        }
        Ok(Tensor::f_cat(&all, 0)?)
    }

    /// An L-BFGS step from gradients that are there and belong to this loss. `again` computes gradients and loss anew. The
    /// device is waited for several times: where to stop is asked after each iteration, as in PyTorch.
    ///
    /// # Errors
    /// libtorch's own, and those of `again`.
    pub(crate) fn step_again(&mut self, loss: f64, again: &mut dyn FnMut(&mut Optimizer) -> Result<f64>) -> Result<()> {
        let Algorithm::Lbfgs(settings) = self.algorithm else {
            return self.step();
        };
        let max_eval = settings.max_eval.unwrap_or(settings.max_iter * 5 / 4);
        let lr = self.lr();
        let (mut loss, mut evals) = (loss, 1);
        let mut grad = self.flat_grad()?;
        if largest(&grad)? <= settings.tolerance_grad {
            return Ok(());
        }
        for n in 1..=settings.max_iter {
            let (t, before) = (self.turn(&grad, settings, lr)?, loss);
            let Some(t) = t else { break };
            if n == settings.max_iter {
                break;
            }
            loss = again(self)?;
            evals += 1;
            grad = self.flat_grad()?;
            let moved = match &self.lbfgs {
                Some(memory) => largest(&memory.d.f_mul_scalar(t)?)?,
                None => 0.0,
            };
            if evals >= max_eval
                || largest(&grad)? <= settings.tolerance_grad
                || moved <= settings.tolerance_change
                || (loss - before).abs() < settings.tolerance_change
            {
                break;
            }
        }
        Ok(())
    }

    /// One iteration: a new direction, and a step along it. `None`, and no step, when it leads nowhere.
    fn turn(&mut self, grad: &Tensor, settings: Lbfgs, lr: f64) -> Result<Option<f64>> {
        let _guard = tch::no_grad_guard();
        let memory = match self.lbfgs.take() {
            Some(mut memory) => {
                memory.learn(grad, settings.history_size)?;
                let args = [&memory.old_dirs, &memory.old_stps, &memory.ro].map(|list| Arg::Tensors(list));
                let [dirs, stps, ro] = args;
                memory.d = self.kernels.tensor(
                    "lbfgs_direction",
                    &[Arg::Tensor(grad), dirs, stps, ro, Arg::Tensor(&memory.h_diag)],
                )?;
                memory
            }
            None => Memory::first(grad)?,
        };
        let memory = self.lbfgs.insert(memory);
        memory.t = lr;
        if memory.n_iter == 1 {
            // Rounded to the gradients' precision, as in PyTorch.
            let inverse = grad.f_abs()?.f_sum(grad.kind())?.f_reciprocal()?;
            if inverse.f_double_value(&[])? < 1.0 {
                memory.t = inverse.f_mul_scalar(lr)?.f_double_value(&[])?;
            }
        }
        if grad.f_dot(&memory.d)?.f_double_value(&[])? > -settings.tolerance_change {
            return Ok(None);
        }
        let (d, t) = (memory.d.shallow_clone(), memory.t);
        let params = self.trained();
        self.kernels.call(
            "lbfgs_advance",
            &[Arg::Tensors(&params), Arg::Tensor(&d), Arg::Float(t)],
        )?;
        Ok(Some(t))
    }
}

fn largest(tensor: &Tensor) -> Result<f64> {
    Ok(tensor.f_abs()?.f_max()?.f_to_kind(TKind::Double)?.f_double_value(&[])?)
}
