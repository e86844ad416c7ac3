//! Pooling: neighbouring places made one.

use super::module;
use tch::Tensor;

macro_rules! max_pool {
    ($layer:ident, $make:ident, $n:literal, $about:literal, $shape:literal, $input:expr, $output:expr) => {
        #[doc = concat!("Takes the largest of neighbouring places, over ", $n, " dimensions.")]
        #[derive(Debug, Clone, Copy)]
        pub struct $layer {
            pub(crate) kernel: i64,
            pub(crate) stride: i64,
            pub(crate) padding: i64,
        }

        #[doc = $about]
        #[doc = concat!("Shape: ", $shape)]
        ///
        /// ```
        /// use lightcell::prelude::*;
        #[doc = concat!("let layer = ", stringify!($make), "(2);")]
        #[doc = concat!("let x = Tensor::ones(", stringify!($input), ", (Kind::Float, Device::Cpu));")]
        #[doc = concat!("assert_eq!(layer.forward(&x).size(), ", stringify!($output), ");")]
        /// ```
        pub fn $make(kernel: i64) -> $layer {
            $layer {
                kernel,
                stride: kernel,
                padding: 0,
            }
        }

        impl $layer {
            /// Sets the step of the kernel.
            #[must_use]
            pub fn stride(mut self, stride: i64) -> $layer {
                self.stride = stride;
                self
            }

            /// Adds places on all sides that are never the largest; at most half the kernel.
            #[must_use]
            pub fn padding(mut self, padding: i64) -> $layer {
                self.padding = padding;
                self
            }

            #[doc = $shape]
            pub fn forward(&self, x: &Tensor) -> Tensor {
                x.$make(
                    [self.kernel; $n],
                    [self.stride; $n],
                    [self.padding; $n],
                    [1i64; $n],
                    false,
                )
            }
        }

        module!($layer);
    };
}

max_pool!(
    MaxPool1d,
    max_pool1d,
    1,
    "Makes a [`MaxPool1d`] with this kernel, which is also its step (`torch.nn.MaxPool1d`).",
    "`[n, c, l]` to `[n, c, (l + 2 · padding - kernel) / stride + 1]`.",
    [1, 2, 8],
    [1, 2, 4]
);
max_pool!(
    MaxPool2d,
    max_pool2d,
    2,
    "Makes a [`MaxPool2d`] with this kernel, which is also its step (`torch.nn.MaxPool2d`).",
    "`[n, c, h, w]` to `[n, c, (h + 2 · padding - kernel) / stride + 1, …]`.",
    [1, 2, 8, 6],
    [1, 2, 4, 3]
);

/// Takes the mean of neighbouring places, over one dimension.
#[derive(Debug, Clone, Copy)]
pub struct AvgPool1d {
    kernel: i64,
    stride: i64,
    padding: i64,
}

/// Makes an [`AvgPool1d`] with this kernel, which is also its step (`torch.nn.AvgPool1d`). Shape: `[n, c, l]` to
/// `[n, c, (l + 2 · padding - kernel) / stride + 1]`.
///
/// ```
/// use lightcell::prelude::*;
/// let x = Tensor::ones([1, 2, 8], (Kind::Float, Device::Cpu));
/// assert_eq!(avg_pool1d(2).forward(&x).size(), [1, 2, 4]);
/// ```
pub fn avg_pool1d(kernel: i64) -> AvgPool1d {
    AvgPool1d {
        kernel,
        stride: kernel,
        padding: 0,
    }
}

impl AvgPool1d {
    /// Sets the step of the kernel.
    #[must_use]
    pub fn stride(mut self, stride: i64) -> AvgPool1d {
        self.stride = stride;
        self
    }

    /// Adds zeros on both sides, which count in the mean; at most half the kernel.
    #[must_use]
    pub fn padding(mut self, padding: i64) -> AvgPool1d {
        self.padding = padding;
        self
    }

    /// `[n, c, l]` to `[n, c, …]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.avg_pool1d(self.kernel, self.stride, self.padding, false, true)
    }
}

/// Takes the mean of neighbouring places, over two dimensions.
#[derive(Debug, Clone, Copy)]
pub struct AvgPool2d {
    kernel: i64,
    stride: i64,
    padding: i64,
}

/// Makes an [`AvgPool2d`] with this kernel, which is also its step (`torch.nn.AvgPool2d`). Shape: `[n, c, h, w]` to
/// `[n, c, (h + 2 · padding - kernel) / stride + 1, …]`.
///
/// ```
/// use lightcell::prelude::*;
/// let x = Tensor::ones([1, 2, 8, 6], (Kind::Float, Device::Cpu));
/// assert_eq!(avg_pool2d(2).forward(&x).size(), [1, 2, 4, 3]);
/// ```
pub fn avg_pool2d(kernel: i64) -> AvgPool2d {
    AvgPool2d {
        kernel,
        stride: kernel,
        padding: 0,
    }
}

impl AvgPool2d {
    /// Sets the step of the kernel.
    #[must_use]
    pub fn stride(mut self, stride: i64) -> AvgPool2d {
        self.stride = stride;
        self
    }

    /// Adds zeros on all sides, which count in the mean; at most half the kernel.
    #[must_use]
    pub fn padding(mut self, padding: i64) -> AvgPool2d {
        self.padding = padding;
        self
    }

    /// `[n, c, h, w]` to `[n, c, …, …]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.avg_pool2d(self.kernel, self.stride, self.padding, false, true, None)
    }
}

/// Takes means over one dimension, so that so many are left.
#[derive(Debug, Clone, Copy)]
pub struct AdaptiveAvgPool1d {
    size: i64,
}

/// Makes an [`AdaptiveAvgPool1d`] (`torch.nn.AdaptiveAvgPool1d`). Shape: `[n, c, l]` to `[n, c, size]`.
///
/// ```
/// use lightcell::prelude::*;
/// let x = Tensor::ones([1, 2, 9], (Kind::Float, Device::Cpu));
/// assert_eq!(adaptive_avg_pool1d(4).forward(&x).size(), [1, 2, 4]);
/// ```
pub fn adaptive_avg_pool1d(size: i64) -> AdaptiveAvgPool1d {
    AdaptiveAvgPool1d { size }
}

impl AdaptiveAvgPool1d {
    /// `[n, c, l]` to `[n, c, size]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.adaptive_avg_pool1d(self.size)
    }
}

/// Takes means over two dimensions, so that so many are left in each.
#[derive(Debug, Clone, Copy)]
pub struct AdaptiveAvgPool2d {
    size: i64,
}

/// Makes an [`AdaptiveAvgPool2d`] (`torch.nn.AdaptiveAvgPool2d`). Shape: `[n, c, h, w]` to `[n, c, size, size]`.
///
/// ```
/// use lightcell::prelude::*;
/// let x = Tensor::ones([1, 2, 9, 7], (Kind::Float, Device::Cpu));
/// assert_eq!(adaptive_avg_pool2d(1).forward(&x).size(), [1, 2, 1, 1]);
/// ```
pub fn adaptive_avg_pool2d(size: i64) -> AdaptiveAvgPool2d {
    AdaptiveAvgPool2d { size }
}

impl AdaptiveAvgPool2d {
    /// `[n, c, h, w]` to `[n, c, size, size]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.adaptive_avg_pool2d([self.size, self.size])
    }
}

module!(AvgPool1d, AvgPool2d, AdaptiveAvgPool1d, AdaptiveAvgPool2d);
