//! Transposed convolutions, which make the picture larger.

use super::conv::{Sizes, groups, parameters};
use super::module;
use crate::path::Path;
use crate::summarize::{product, ran};
use tch::Tensor;

/// A transposed convolution over N dimensions: [`ConvTranspose1d`] or [`ConvTranspose2d`].
#[derive(Debug)]
pub struct ConvTranspose<const N: usize> {
    /// `[in, out / groups, kernel, …]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
    pub(crate) stride: [i64; N],
    pub(crate) padding: [i64; N],
    pub(crate) output_padding: [i64; N],
    pub(crate) dilation: [i64; N],
    pub(crate) groups: i64,
}

/// A one-dimensional transposed convolution.
pub type ConvTranspose1d = ConvTranspose<1>;
/// A two-dimensional transposed convolution.
pub type ConvTranspose2d = ConvTranspose<2>;

/// Makes a [`ConvTranspose1d`] layer with stride 1 and no padding (`torch.nn.ConvTranspose1d`). Shape: `[n, inputs, l]` to
/// `[n, outputs, (l - 1) · stride - 2 · padding + dilation · (kernel - 1) + output_padding + 1]`.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = conv_transpose1d(store.root() / "c", 4, 2, 4).stride(2).padding(1);
/// let x = Tensor::zeros([5, 4, 8], (Kind::Float, Device::Cpu));
/// assert_eq!(layer.forward(&x).size(), [5, 2, 16]);
/// ```
pub fn conv_transpose1d(path: Path, inputs: i64, outputs: i64, kernel: impl Into<Sizes<1>>) -> ConvTranspose1d {
    ConvTranspose1d::config(inputs, outputs, kernel).build(path)
}

/// Makes a [`ConvTranspose2d`] layer with stride 1 and no padding (`torch.nn.ConvTranspose2d`). Shape: `[n, inputs, h, w]` to
/// `[n, outputs, (h - 1) · stride - 2 · padding + dilation · (kernel - 1) + output_padding + 1, …]`.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = conv_transpose2d(store.root() / "c", 8, 3, 4).stride(2).padding(1);
/// let x = Tensor::zeros([2, 8, 7, 7], (Kind::Float, Device::Cpu));
/// assert_eq!(layer.forward(&x).size(), [2, 3, 14, 14]);
/// ```
pub fn conv_transpose2d(path: Path, inputs: i64, outputs: i64, kernel: impl Into<Sizes<2>>) -> ConvTranspose2d {
    ConvTranspose2d::config(inputs, outputs, kernel).build(path)
}

/// A transposed convolution that is yet to be made.
#[derive(Debug, Clone, Copy)]
pub struct ConvTransposeConfig<const N: usize> {
    inputs: i64,
    outputs: i64,
    kernel: [i64; N],
    groups: i64,
    bias: bool,
}

impl<const N: usize> ConvTransposeConfig<N> {
    /// Sets in how many groups inputs and outputs are divided; 1. Both must be multiples of it.
    #[must_use]
    pub fn groups(mut self, groups: i64) -> ConvTransposeConfig<N> {
        self.groups = groups;
        self
    }

    /// Whether it adds a bias; it does.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> ConvTransposeConfig<N> {
        self.bias = bias;
        self
    }

    /// Makes the layer. Groups that do not fit make the model an error.
    pub fn build(self, path: Path) -> ConvTranspose<N> {
        path.module(&format!("ConvTranspose{N}d"));
        let groups = groups(&path, self.groups, self.inputs, self.outputs);
        let channels = [self.inputs, self.outputs / groups];
        let (weight, bias) = parameters(&path, channels, &self.kernel, self.bias.then_some(self.outputs));
        ConvTranspose {
            weight,
            bias,
            stride: [1; N],
            padding: [0; N],
            output_padding: [0; N],
            dilation: [1; N],
            groups,
        }
    }
}

impl<const N: usize> ConvTranspose<N> {
    /// A transposed convolution with this kernel, from so many channels to so many.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let store = Store::new(Device::Cpu);
    /// let layer = ConvTranspose2d::config(8, 4, 3).groups(2).build(store.root() / "c");
    /// assert_eq!(layer.weight.size(), [8, 2, 3, 3]);
    /// ```
    pub fn config(inputs: i64, outputs: i64, kernel: impl Into<Sizes<N>>) -> ConvTransposeConfig<N> {
        ConvTransposeConfig {
            inputs,
            outputs,
            kernel: kernel.into().0,
            groups: 1,
            bias: true,
        }
    }

    /// Sets the distance between the kernel's places in the output.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Sizes<N>>) -> ConvTranspose<N> {
        self.stride = stride.into().0;
        self
    }

    /// Takes away from all sides of the output.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Sizes<N>>) -> ConvTranspose<N> {
        self.padding = padding.into().0;
        self
    }

    /// Adds to one side of the output; less than the stride.
    #[must_use]
    pub fn output_padding(mut self, padding: impl Into<Sizes<N>>) -> ConvTranspose<N> {
        self.output_padding = padding.into().0;
        self
    }

    /// Sets the distance between the kernel's points.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Sizes<N>>) -> ConvTranspose<N> {
        self.dilation = dilation.into().0;
        self
    }

    /// `[batch, in, …]` to `[batch, out, …]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let sizes = [&self.stride[..], &self.padding, &self.output_padding, &self.dilation];
        convolve(x, &self.weight, self.bias.as_ref(), sizes, self.groups)
    }
}

// Not generic, so that it is compiled here and not in each cell.
fn convolve(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, sizes: [&[i64]; 4], groups: i64) -> Tensor {
    let [stride, padding, output_padding, dilation] = sizes;
    let y = match stride.len() {
        1 => x.conv_transpose1d(weight, bias, stride, padding, output_padding, groups, dilation),
        _ => x.conv_transpose2d(weight, bias, stride, padding, output_padding, groups, dilation),
    };
    // The weight is [in, out / groups, …]: each of the input's numbers meets it.
    ran(weight, &y, || product(weight, x));
    y
}

module!(ConvTranspose1d, ConvTranspose2d);
