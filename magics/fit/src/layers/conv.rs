//! Convolutions over one, two or three dimensions.

use super::{init, module};
use crate::error::{Error, Kind};
use crate::path::Path;
use crate::summarize::{product, ran};
use tch::Tensor;

/// A size for each dimension: a number for all of them, or an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes<const N: usize>(pub [i64; N]);

impl<const N: usize> From<i64> for Sizes<N> {
    fn from(size: i64) -> Sizes<N> {
        Sizes([size; N])
    }
}

impl<const N: usize> From<[i64; N]> for Sizes<N> {
    fn from(sizes: [i64; N]) -> Sizes<N> {
        Sizes(sizes)
    }
}

/// A convolution over N dimensions: [`Conv1d`], [`Conv2d`] or [`Conv3d`].
#[derive(Debug)]
pub struct Conv<const N: usize> {
    /// `[out, in / groups, kernel, …]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
    pub(crate) stride: [i64; N],
    pub(crate) padding: [i64; N],
    pub(crate) dilation: [i64; N],
    pub(crate) groups: i64,
}

/// A one-dimensional convolution.
pub type Conv1d = Conv<1>;
/// A two-dimensional convolution.
pub type Conv2d = Conv<2>;
/// A three-dimensional convolution.
pub type Conv3d = Conv<3>;

/// Makes a [`Conv1d`] layer with stride 1 and no padding (`torch.nn.Conv1d`). Shape: `[n, inputs, l]` to
/// `[n, outputs, (l + 2 · padding - dilation · (kernel - 1) - 1) / stride + 1]`.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = conv1d(store.root() / "c", 2, 4, 3).padding(1).stride(2);
/// let x = Tensor::zeros([5, 2, 8], (Kind::Float, Device::Cpu));
/// assert_eq!(layer.forward(&x).size(), [5, 4, 4]);
/// ```
pub fn conv1d(path: Path, inputs: i64, outputs: i64, kernel: impl Into<Sizes<1>>) -> Conv1d {
    Conv1d::config(inputs, outputs, kernel).build(path)
}

/// Makes a [`Conv2d`] layer with stride 1 and no padding (`torch.nn.Conv2d`). Shape: `[n, inputs, h, w]` to
/// `[n, outputs, (h + 2 · padding - dilation · (kernel - 1) - 1) / stride + 1, …]`.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = conv2d(store.root() / "c", 3, 8, [3, 5]).padding([1, 2]);
/// let x = Tensor::zeros([2, 3, 16, 16], (Kind::Float, Device::Cpu));
/// assert_eq!(layer.forward(&x).size(), [2, 8, 16, 16]);
/// ```
pub fn conv2d(path: Path, inputs: i64, outputs: i64, kernel: impl Into<Sizes<2>>) -> Conv2d {
    Conv2d::config(inputs, outputs, kernel).build(path)
}

/// Makes a [`Conv3d`] layer with stride 1 and no padding (`torch.nn.Conv3d`). Shape: `[n, inputs, d, h, w]` to
/// `[n, outputs, (d + 2 · padding - dilation · (kernel - 1) - 1) / stride + 1, …]`.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = conv3d(store.root() / "c", 1, 2, 3);
/// let x = Tensor::zeros([1, 1, 5, 6, 7], (Kind::Float, Device::Cpu));
/// assert_eq!(layer.forward(&x).size(), [1, 2, 3, 4, 5]);
/// ```
pub fn conv3d(path: Path, inputs: i64, outputs: i64, kernel: impl Into<Sizes<3>>) -> Conv3d {
    Conv3d::config(inputs, outputs, kernel).build(path)
}

/// A convolution that is yet to be made.
#[derive(Debug, Clone, Copy)]
pub struct ConvConfig<const N: usize> {
    inputs: i64,
    outputs: i64,
    kernel: [i64; N],
    groups: i64,
    bias: bool,
}

impl<const N: usize> ConvConfig<N> {
    /// Sets in how many groups inputs and outputs are divided; 1. Both must be multiples of it.
    #[must_use]
    pub fn groups(mut self, groups: i64) -> ConvConfig<N> {
        self.groups = groups;
        self
    }

    /// Whether it adds a bias; it does.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> ConvConfig<N> {
        self.bias = bias;
        self
    }

    /// Makes the layer. Groups that do not fit make the model an error.
    pub fn build(self, path: Path) -> Conv<N> {
        path.module(&format!("Conv{N}d"));
        let groups = groups(&path, self.groups, self.inputs, self.outputs);
        let channels = [self.outputs, self.inputs / groups];
        let (weight, bias) = parameters(&path, channels, &self.kernel, self.bias.then_some(self.outputs));
        Conv {
            weight,
            bias,
            stride: [1; N],
            padding: [0; N],
            dilation: [1; N],
            groups,
        }
    }
}

/// Weight and bias: the weight's first two sizes and its kernel, and how many outputs have a bias. As PyTorch does for
/// transposed convolutions too, the second of the sizes counts as the inputs.
pub(super) fn parameters(
    path: &Path,
    channels: [i64; 2],
    kernel: &[i64],
    biased: Option<i64>,
) -> (Tensor, Option<Tensor>) {
    let shape: Vec<i64> = channels.iter().chain(kernel).copied().collect();
    let fan_in = shape[1..].iter().product();
    let weight = path.trained("weight", &init::weight(&shape, fan_in));
    let bias = biased.map(|outputs| path.trained("bias", &init::bias(outputs, fan_in)));
    (weight, bias)
}

/// The groups, or 1 and a fault when they do not fit.
pub(super) fn groups(path: &Path, groups: i64, inputs: i64, outputs: i64) -> i64 {
    if groups > 0 && inputs % groups == 0 && outputs % groups == 0 {
        return groups;
    }
    let error = format!("a convolution from {inputs} to {outputs} channels cannot have {groups} groups");
    path.fault(Error::new(Kind::Model, error).hint("both numbers of channels must be multiples of the groups"));
    1
}

impl<const N: usize> Conv<N> {
    /// A convolution with this kernel, from so many channels to so many.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let store = Store::new(Device::Cpu);
    /// let layer = Conv2d::config(8, 8, 3).groups(8).bias(false).build(store.root() / "c").padding(1);
    /// assert_eq!(layer.weight.size(), [8, 1, 3, 3]);
    /// ```
    pub fn config(inputs: i64, outputs: i64, kernel: impl Into<Sizes<N>>) -> ConvConfig<N> {
        ConvConfig {
            inputs,
            outputs,
            kernel: kernel.into().0,
            groups: 1,
            bias: true,
        }
    }

    /// Sets the step of the kernel.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Sizes<N>>) -> Conv<N> {
        self.stride = stride.into().0;
        self
    }

    /// Adds zeros on all sides.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Sizes<N>>) -> Conv<N> {
        self.padding = padding.into().0;
        self
    }

    /// Sets the distance between the kernel's points.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Sizes<N>>) -> Conv<N> {
        self.dilation = dilation.into().0;
        self
    }

    /// `[batch, in, …]` to `[batch, out, …]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = (&self.weight, self.bias.as_ref());
        convolve(
            x,
            weight,
            bias,
            &self.stride,
            &self.padding,
            &self.dilation,
            self.groups,
        )
    }
}

// Not generic, so that it is compiled here and not in each cell.
fn convolve(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: &[i64],
    padding: &[i64],
    dilation: &[i64],
    groups: i64,
) -> Tensor {
    let y = match stride.len() {
        1 => x.conv1d(weight, bias, stride, padding, dilation, groups),
        2 => x.conv2d(weight, bias, stride, padding, dilation, groups),
        _ => x.conv3d(weight, bias, stride, padding, dilation, groups),
    };
    ran(weight, &y, || product(weight, &y));
    y
}

module!(Conv1d, Conv2d, Conv3d);
