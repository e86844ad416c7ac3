//! PyTorch's fused steps of optimizers: a kernel that goes once through a parameter, its gradient and what is remembered of
//! it, where the usual operations go through them once each.

use crate::{Result, checked, sys};
use std::ffi::c_int;
use tch::Tensor;
use torch_sys::C_tensor;

/// Settings of one step of Adam.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamSettings {
    lr: f64,
    beta1: f64,
    beta2: f64,
    weight_decay: f64,
    eps: f64,
    step: f64,
    amsgrad: i32,
    decoupled: i32,
}

impl AdamSettings {
    /// Of the `step`-th step, counted from 1; no weight decay, eps 1e-8.
    pub fn new(step: u64, lr: f64, (beta1, beta2): (f64, f64)) -> AdamSettings {
        AdamSettings {
            lr,
            beta1,
            beta2,
            weight_decay: 0.0,
            eps: 1e-8,
            step: step as f64,
            amsgrad: 0,
            decoupled: 0,
        }
    }

    /// Sets what is added to the divisor.
    #[must_use]
    pub fn eps(self, eps: f64) -> AdamSettings {
        AdamSettings { eps, ..self }
    }

    /// Sets the weight decay: part of the gradient, or `decoupled` from it as in AdamW.
    #[must_use]
    pub fn weight_decay(self, weight_decay: f64, decoupled: bool) -> AdamSettings {
        AdamSettings {
            weight_decay,
            decoupled: decoupled.into(),
            ..self
        }
    }

    /// Whether it divides by the largest mean square so far.
    #[must_use]
    pub fn amsgrad(self, on: bool) -> AdamSettings {
        AdamSettings {
            amsgrad: on.into(),
            ..self
        }
    }
}

/// Settings of one step of SGD.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdSettings {
    lr: f64,
    momentum: f64,
    dampening: f64,
    weight_decay: f64,
    nesterov: i32,
    first: i32,
}

impl SgdSettings {
    /// Without a momentum, without weight decay.
    pub fn new(lr: f64) -> SgdSettings {
        SgdSettings {
            lr,
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: 0,
            first: 0,
        }
    }

    /// Sets the momentum and its kind; at the `first` step its buffers are made from the gradients.
    #[must_use]
    pub fn momentum(self, momentum: f64, dampening: f64, nesterov: bool, first: bool) -> SgdSettings {
        SgdSettings {
            momentum,
            dampening,
            nesterov: nesterov.into(),
            first: first.into(),
            ..self
        }
    }

    /// Sets the weight decay.
    #[must_use]
    pub fn weight_decay(self, weight_decay: f64) -> SgdSettings {
        SgdSettings { weight_decay, ..self }
    }
}

/// One step of Adam (`torch._fused_adam_`, `torch._fused_adamw_`). The lists are as long as `params`, and their tensors of the
/// same shapes: the gradients, the means, the mean squares and, with AMSGrad, the largest mean squares. Gives false, and
/// changes nothing, where the kernel is not made for such tensors: types of numbers that differ, a gradient whose numbers lie
/// in another order.
///
/// ```
/// use lightcell_torch::AdamSettings;
/// use tch::Tensor;
/// let (x, gradient) = (Tensor::from_slice(&[1f32]), Tensor::from_slice(&[2f32]));
/// let (mean, square) = (x.zeros_like(), x.zeros_like());
/// let settings = AdamSettings::new(1, 0.1, (0.9, 0.999));
/// assert!(lightcell_torch::fused_adam(&settings, &[&x], &[&[&gradient], &[&mean], &[&square]])?);
/// assert!((f64::try_from(&x).unwrap() - 0.9).abs() < 1e-6);
/// # Ok::<(), lightcell_torch::Error>(())
/// ```
///
/// # Errors
/// libtorch's own, such as a device without memory.
#[inline(never)]
pub fn fused_adam(settings: &AdamSettings, params: &[&Tensor], lists: &[&[&Tensor]]) -> Result<bool> {
    let wanted = if settings.amsgrad != 0 { 4 } else { 3 };
    step(params, lists, wanted, |tensors, count, done| {
        // SAFETY: so many lists of the length of `params` as the settings ask for, of tensors that outlive the call. Their
        // numbers change behind shared references, as in all of tch's functions in place.
        unsafe { sys::lightcell_torch_fused_adam(settings, tensors, count, done) }
    })
}

/// One step of SGD (`torch._fused_sgd_`). The lists are as long as `params`, and their tensors of the same shapes: the gradients
/// and, with a momentum, its buffers. Gives false, and changes nothing, where the kernel is not made for such tensors.
///
/// ```
/// use lightcell_torch::SgdSettings;
/// use tch::Tensor;
/// let (x, gradient) = (Tensor::from_slice(&[1f32]), Tensor::from_slice(&[2f32]));
/// assert!(lightcell_torch::fused_sgd(&SgdSettings::new(0.25), &[&x], &[&[&gradient]])?);
/// assert_eq!(f64::try_from(&x).unwrap(), 0.5);
/// # Ok::<(), lightcell_torch::Error>(())
/// ```
///
/// # Errors
/// As [`fused_adam`].
#[inline(never)]
pub fn fused_sgd(settings: &SgdSettings, params: &[&Tensor], lists: &[&[&Tensor]]) -> Result<bool> {
    let wanted = if settings.momentum != 0.0 { 2 } else { 1 };
    step(params, lists, wanted, |tensors, count, done| {
        // SAFETY: as in `fused_adam`.
        unsafe { sys::lightcell_torch_fused_sgd(settings, tensors, count, done) }
    })
}

/// Calls a kernel with all tensors, one list after the other, if there are as many lists as wanted and each is as long as
/// `params`; whether it did the step.
fn step(
    params: &[&Tensor],
    lists: &[&[&Tensor]],
    wanted: usize,
    kernel: impl FnOnce(*const *const C_tensor, usize, &mut c_int) -> c_int,
) -> Result<bool> {
    if lists.len() != wanted || lists.iter().any(|list| list.len() != params.len()) {
        return Ok(false);
    }
    let all = std::iter::once(&params).chain(lists).flat_map(|list| list.iter());
    let tensors: Vec<*const C_tensor> = all.map(|tensor| tensor.as_ptr()).collect();
    let mut done: c_int = 0;
    checked(kernel(tensors.as_ptr(), params.len(), &mut done))?;
    Ok(done != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn all_types_of_numbers_are_stepped() {
        for kind in [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Half] {
            let tensor = |value: f64| Tensor::from_slice(&[value, value]).to_kind(kind);
            let (x, gradient, mean, square) = (tensor(1.0), tensor(0.5), tensor(0.0), tensor(0.0));
            let adam = AdamSettings::new(1, 0.25, (0.9, 0.999));
            assert!(fused_adam(&adam, &[&x], &[&[&gradient], &[&mean], &[&square]]).unwrap());
            // The first step of Adam is the rate, whatever the gradient.
            assert!((f64::try_from(&x.get(0)).unwrap() - 0.75).abs() < 1e-2, "{kind:?}: {x}");
            let sgd = SgdSettings::new(0.5).momentum(0.9, 0.0, true, true);
            assert!(fused_sgd(&sgd, &[&x], &[&[&gradient], &[&mean]]).unwrap());
            // Nesterov: the gradient and 0.9 of it, as it is the first in the buffer.
            assert!(
                (f64::try_from(&x.get(1)).unwrap() - 0.275).abs() < 1e-2,
                "{kind:?}: {x}"
            );
        }
    }

    /// What the kernel would read as if it were in order is left to others, and nothing is changed.
    #[test]
    fn tensors_that_do_not_lie_alike_are_refused() {
        let tensor = |size: &[i64]| Tensor::ones(size, (Kind::Float, Device::Cpu));
        let x = tensor(&[2, 3]);
        let settings = SgdSettings::new(1.0);
        let changes = |x: &Tensor, gradient: &Tensor| fused_sgd(&settings, &[x], &[&[gradient]]).unwrap();
        assert!(!changes(&x, &tensor(&[3, 2]).transpose(0, 1)));
        assert!(!changes(&x, &tensor(&[3, 2])));
        assert!(!changes(&x, &tensor(&[2, 3]).to_kind(Kind::Double)));
        assert!(!changes(&x.to_kind(Kind::Int64), &x.to_kind(Kind::Int64)));
        let wide = tensor(&[2, 6]).slice(1, 0, 6, 2);
        assert!(!changes(&wide, &wide));
        assert!(!fused_sgd(&settings, &[&x], &[]).unwrap());
        assert!(!fused_sgd(&settings, &[&x], &[&[]]).unwrap());
        assert!(!fused_sgd(&settings, &[], &[&[]]).unwrap());
        let adam = AdamSettings::new(1, 1.0, (0.9, 0.999));
        assert!(!fused_adam(&adam.amsgrad(true), &[&x], &[&[&x], &[&x], &[&x]]).unwrap());
        assert_eq!(x.sum(Kind::Double).double_value(&[]), 6.0);
        // A transposed parameter whose gradient lies as it does is in order.
        let turned = tensor(&[3, 2]).transpose(0, 1);
        assert!(changes(&turned, &turned.ones_like()));
        assert_eq!(turned.sum(Kind::Double).double_value(&[]), 0.0);
    }
}
