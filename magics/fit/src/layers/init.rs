//! How weights are drawn: with PyTorch's formulas, in the same order of operations, on the CPU whatever the device, so that
//! no bit differs.

use crate::error::{Error, Kind as ErrorKind};
use crate::path::Path;
use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// From ±`bound`.
pub(super) fn uniform(shape: &[i64], bound: f64) -> Tensor {
    Tensor::empty(shape, CPU).uniform_(-bound, bound)
}

/// A weight of a linear layer or a convolution: `kaiming_uniform_(a=√5)`.
pub(super) fn weight(shape: &[i64], fan_in: i64) -> Tensor {
    if fan_in <= 0 {
        return constant(shape, 0.0);
    }
    let slope = 5.0f64.sqrt();
    let gain = (2.0 / (1.0 + slope * slope)).sqrt();
    let deviation = gain / (fan_in as f64).sqrt();
    uniform(shape, 3.0f64.sqrt() * deviation)
}

/// The bias that goes with it: from ±1/√`fan_in`.
pub(super) fn bias(size: i64, fan_in: i64) -> Tensor {
    if fan_in <= 0 {
        return constant(&[size], 0.0);
    }
    uniform(&[size], 1.0 / (fan_in as f64).sqrt())
}

/// `xavier_uniform_` of a matrix `[out, in]`.
pub(super) fn xavier(outputs: i64, inputs: i64) -> Tensor {
    let deviation = (2.0 / (inputs + outputs) as f64).sqrt();
    uniform(&[outputs, inputs], 3.0f64.sqrt() * deviation)
}

/// From the standard normal distribution.
pub(super) fn normal(shape: &[i64]) -> Tensor {
    Tensor::empty(shape, CPU).normal_(0.0, 1.0)
}

/// The probability with which something is dropped, or 0 and a fault when it is none.
pub(super) fn probability(path: &Path, dropout: f64) -> f64 {
    if (0.0..=1.0).contains(&dropout) {
        return dropout;
    }
    path.fault(
        Error::new(
            ErrorKind::Model,
            format!("dropout cannot have the probability {dropout}"),
        )
        .hint("it is between 0 and 1"),
    );
    0.0
}

/// Replaces what a layer has drawn, as models do after their layers are made.
pub(crate) fn redraw(parameter: &Tensor, value: &Tensor) {
    let _guard = tch::no_grad_guard();
    parameter.shallow_clone().copy_(value);
}

/// From a normal distribution, in a parameter's shape.
pub(crate) fn normal_as(parameter: &Tensor, deviation: f64) -> Tensor {
    Tensor::empty(parameter.size(), CPU).normal_(0.0, deviation)
}

/// `kaiming_normal_` of a convolution, so that gradients keep their size (`fan_out`).
pub(crate) fn kaiming_fan_out(weight: &Tensor) -> Tensor {
    let size = weight.size();
    let fan_out = size[0] * size[2..].iter().product::<i64>();
    normal_as(weight, 2.0f64.sqrt() / (fan_out as f64).sqrt())
}

/// `xavier_uniform_` in the shape of a matrix.
pub(crate) fn xavier_as(weight: &Tensor) -> Tensor {
    xavier(weight.size()[0], weight.size()[1])
}

pub(super) fn constant(shape: &[i64], value: f64) -> Tensor {
    Tensor::full(shape, value, CPU)
}
