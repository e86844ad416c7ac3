//! Layers with PyTorch's initialisation and parameter names.
//!
//! tch's own layers draw their weights from a range 2.4 times as wide as PyTorch's and in another order; these draw as
//! `torch.nn` does, so the same seed gives the same weights.

use crate::path::{Mode, Path};
use tch::Tensor;
use tch::nn::Init;

/// A fully connected layer: `x · weightᵀ + bias`.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Tensor,
}

/// Makes a [`Linear`] layer with parameters `weight` and `bias` under `path`; both are drawn from ±1/√`inputs`, the weight
/// first (`torch.nn.Linear`). Shape: `[…, inputs]` to `[…, outputs]`.
pub fn linear(path: Path, inputs: i64, outputs: i64) -> Linear {
    let init = uniform(inputs);
    Linear {
        weight: path.parameter("weight", &[outputs, inputs], init),
        bias: path.parameter("bias", &[outputs], init),
    }
}

fn uniform(fan_in: i64) -> Init {
    let bound = 1.0 / (fan_in as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

impl Linear {
    /// `[…, in]` to `[…, out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

impl tch::nn::Module for Linear {
    fn forward(&self, x: &Tensor) -> Tensor {
        Linear::forward(self, x)
    }
}

/// A two-dimensional convolution.
#[derive(Debug)]
pub struct Conv2d {
    /// `[out, in, kernel, kernel]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Tensor,
    stride: i64,
    padding: i64,
}

/// Makes a [`Conv2d`] layer with a square kernel, stride 1 and no padding (`torch.nn.Conv2d`). Shape: `[n, inputs, h, w]` to
/// `[n, outputs, (h + 2 · padding - kernel) / stride + 1, …]`.
pub fn conv2d(path: Path, inputs: i64, outputs: i64, kernel: i64) -> Conv2d {
    let init = uniform(inputs * kernel * kernel);
    Conv2d {
        weight: path.parameter("weight", &[outputs, inputs, kernel, kernel], init),
        bias: path.parameter("bias", &[outputs], init),
        stride: 1,
        padding: 0,
    }
}

impl Conv2d {
    /// Sets the step of the kernel.
    #[must_use]
    pub fn stride(mut self, stride: i64) -> Conv2d {
        self.stride = stride;
        self
    }

    /// Adds zeros on all sides.
    #[must_use]
    pub fn padding(mut self, padding: i64) -> Conv2d {
        self.padding = padding;
        self
    }

    /// `[batch, in, height, width]` to `[batch, out, …, …]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.conv2d(&self.weight, Some(&self.bias), self.stride, self.padding, 1, 1)
    }
}

impl tch::nn::Module for Conv2d {
    fn forward(&self, x: &Tensor) -> Tensor {
        Conv2d::forward(self, x)
    }
}

/// Sets numbers to zero at random while the model is trained, and scales the others so that the sum stays the same; in
/// validation, test and afterwards it does nothing.
#[derive(Debug)]
pub struct Dropout {
    probability: f64,
    mode: Mode,
}

/// Makes a [`Dropout`] layer that drops a number with this probability, between 0 and 1 (`torch.nn.Dropout`). It has no
/// parameters: `path` is the model's, which knows whether it is trained.
///
/// ```
/// # use lightcell::prelude::*;
/// # struct Net { l1: Linear, drop: Dropout }
/// # fn new(p: &Path) -> Net {
/// Net { l1: linear(p / "l1", 64, 10), drop: dropout(p, 0.5) }
/// # }
/// # fn forward(net: &Net, x: &Tensor) -> Tensor {
/// // in `forward`:
/// net.drop.forward(&net.l1.forward(x).relu())
/// # }
/// ```
pub fn dropout(path: &Path, probability: f64) -> Dropout {
    Dropout {
        probability,
        mode: path.mode(),
    }
}

impl Dropout {
    /// Any shape to the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.dropout(self.probability, self.mode.training())
    }
}

impl tch::nn::Module for Dropout {
    fn forward(&self, x: &Tensor) -> Tensor {
        Dropout::forward(self, x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Store;
    use tch::Device;

    /// `torch.manual_seed(0); torch.nn.Linear(4, 3)` in PyTorch 2.13 on the CPU.
    #[test]
    fn linear_draws_as_pytorch() {
        let _turn = crate::tests::in_turn();
        tch::manual_seed(0);
        let store = Store::new(Device::Cpu);
        let layer = linear(store.root() / "l", 4, 3);
        let weight: Vec<f32> = Vec::try_from(&layer.weight.flatten(0, -1)).unwrap();
        let bias: Vec<f32> = Vec::try_from(&layer.bias).unwrap();
        let expected = [
            -0.0037, 0.2682, -0.4115, -0.3680, -0.1926, 0.1341, -0.0099, 0.3964, -0.0444, 0.1323, -0.1511, -0.0983,
        ];
        for (got, want) in weight.iter().zip(expected) {
            assert!((got - want).abs() < 1e-4, "{weight:?}");
        }
        for (got, want) in bias.iter().zip([-0.4777, -0.3311, -0.2061]) {
            assert!((got - want).abs() < 1e-4, "{bias:?}");
        }
    }

    #[test]
    fn names_are_pytorchs_and_a_clash_is_an_error() {
        let _turn = crate::tests::in_turn();
        let store = Store::new(Device::Cpu);
        let root = store.root();
        let _first = linear(&root / "fc", 2, 2);
        let _conv = conv2d(&root / "conv", 1, 2, 3).padding(1);
        let mut names: Vec<_> = store.vars.variables().into_keys().collect();
        names.sort();
        assert_eq!(names, ["conv.bias", "conv.weight", "fc.bias", "fc.weight"]);
        let _own = root.parameter("l__2", &[1], Init::Const(0.0));
        assert!(store.check().is_ok());
        let _second = linear(&root / "fc", 2, 2);
        assert_eq!(
            store.check().unwrap_err().message(),
            "two parameters have the same name: fc.bias, fc.weight"
        );
    }

    #[test]
    fn convolution_keeps_the_size_with_padding() {
        let _turn = crate::tests::in_turn();
        let store = Store::new(Device::Cpu);
        let conv = conv2d(store.root() / "c", 1, 4, 3).padding(1);
        let x = Tensor::zeros([2, 1, 8, 8], (tch::Kind::Float, Device::Cpu));
        assert_eq!(conv.forward(&x).size(), [2, 4, 8, 8]);
        assert_eq!(conv.stride(2).forward(&x).size(), [2, 4, 4, 4]);
    }

    #[test]
    fn dropout_drops_in_training_only() {
        let _turn = crate::tests::in_turn();
        let store = Store::new(Device::Cpu);
        let layer = dropout(&store.root(), 0.25);
        let x = Tensor::ones([10_000], (tch::Kind::Float, Device::Cpu));
        assert_eq!(layer.forward(&x), x);
        store.mode.set_training(true);
        let out = layer.forward(&x);
        let kept = out
            .gt(0.0)
            .to_kind(tch::Kind::Float)
            .mean(tch::Kind::Float)
            .double_value(&[]);
        assert!((kept - 0.75).abs() < 0.02, "{kept}");
        assert!((out.max().double_value(&[]) - 1.0 / 0.75).abs() < 1e-6);
    }
}
