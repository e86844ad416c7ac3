//! Batch normalisation.

use super::{init, module};
use crate::path::{Mode, Path};
use crate::summarize::ran;
use tch::{Device, Kind, Tensor};

/// Normalises each channel over batch and places: with the batch's own mean and variance while the model is trained, with
/// running ones in validation, test and afterwards. [`BatchNorm1d`], [`BatchNorm2d`], [`BatchNorm3d`].
///
/// A layer whose weight is frozen ([`Fit::freeze`](crate::Fit::freeze)) uses its running values in training too, and leaves
/// them as they are: in PyTorch one says `.eval()` of it for that.
#[derive(Debug)]
pub struct BatchNorm<const N: usize> {
    /// `[channels]`
    pub weight: Option<Tensor>,
    /// `[channels]`
    pub bias: Option<Tensor>,
    /// `[channels]`, a buffer.
    pub running_mean: Tensor,
    /// `[channels]`, a buffer.
    pub running_var: Tensor,
    /// One whole number, a buffer.
    pub num_batches_tracked: Tensor,
    pub(crate) eps: f64,
    momentum: f64,
    mode: Mode,
}

/// Batch normalisation of `[n, c]` or `[n, c, l]`.
pub type BatchNorm1d = BatchNorm<1>;
/// Batch normalisation of `[n, c, h, w]`.
pub type BatchNorm2d = BatchNorm<2>;
/// Batch normalisation of `[n, c, d, h, w]`.
pub type BatchNorm3d = BatchNorm<3>;

/// Makes a [`BatchNorm1d`] layer: weight 1, bias 0, momentum 0.1, eps 1e-5 (`torch.nn.BatchNorm1d`). Shape: `[n, channels]` or
/// `[n, channels, l]`, to the same.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = batch_norm1d(store.root() / "bn", 3);
/// store.set_training(true);
/// let y = layer.forward(&Tensor::randn([100, 3], (Kind::Float, Device::Cpu)));
/// assert!(y.mean(Kind::Float).double_value(&[]).abs() < 1e-5);
/// ```
pub fn batch_norm1d(path: Path, channels: i64) -> BatchNorm1d {
    BatchNorm1d::config(channels).build(path)
}

/// Makes a [`BatchNorm2d`] layer: weight 1, bias 0, momentum 0.1, eps 1e-5 (`torch.nn.BatchNorm2d`). Shape:
/// `[n, channels, h, w]` to the same.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = batch_norm2d(store.root() / "bn", 3).momentum(0.05);
/// let x = Tensor::ones([2, 3, 4, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(layer.forward(&x).size(), [2, 3, 4, 4]);
/// ```
pub fn batch_norm2d(path: Path, channels: i64) -> BatchNorm2d {
    BatchNorm2d::config(channels).build(path)
}

/// Makes a [`BatchNorm3d`] layer: weight 1, bias 0, momentum 0.1, eps 1e-5 (`torch.nn.BatchNorm3d`). Shape:
/// `[n, channels, d, h, w]` to the same.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = batch_norm3d(store.root() / "bn", 3);
/// let x = Tensor::ones([2, 3, 4, 4, 4], (Kind::Float, Device::Cpu));
/// assert_eq!(layer.forward(&x).size(), [2, 3, 4, 4, 4]);
/// ```
pub fn batch_norm3d(path: Path, channels: i64) -> BatchNorm3d {
    BatchNorm3d::config(channels).build(path)
}

/// A batch normalisation that is yet to be made.
#[derive(Debug, Clone, Copy)]
pub struct BatchNormConfig<const N: usize> {
    channels: i64,
    affine: bool,
}

impl<const N: usize> BatchNormConfig<N> {
    /// Whether it has a weight and a bias; it has.
    #[must_use]
    pub fn affine(mut self, affine: bool) -> BatchNormConfig<N> {
        self.affine = affine;
        self
    }

    /// Makes the layer.
    pub fn build(self, path: Path) -> BatchNorm<N> {
        path.module(&format!("BatchNorm{N}d"));
        let filled = |value: f64| init::constant(&[self.channels], value);
        BatchNorm {
            weight: self.affine.then(|| path.trained("weight", &filled(1.0))),
            bias: self.affine.then(|| path.trained("bias", &filled(0.0))),
            running_mean: path.buffer("running_mean", &filled(0.0)),
            running_var: path.buffer("running_var", &filled(1.0)),
            num_batches_tracked: path.buffer(
                "num_batches_tracked",
                &Tensor::zeros([0i64; 0], (Kind::Int64, Device::Cpu)),
            ),
            eps: 1e-5,
            momentum: 0.1,
            mode: path.mode(),
        }
    }
}

impl<const N: usize> BatchNorm<N> {
    /// A normalisation of so many channels.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let store = Store::new(Device::Cpu);
    /// let layer = BatchNorm2d::config(3).affine(false).build(store.root() / "bn");
    /// assert!(layer.weight.is_none());
    /// ```
    pub fn config(channels: i64) -> BatchNormConfig<N> {
        BatchNormConfig { channels, affine: true }
    }

    /// Sets what is added to the variance.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> BatchNorm<N> {
        self.eps = eps;
        self
    }

    /// Sets how much a batch moves the running mean and variance.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> BatchNorm<N> {
        self.momentum = momentum;
        self
    }

    /// To the same shape.
    ///
    /// # Panics
    /// In training, when there is only one value of each channel, which has no variance: a batch of one sample without
    /// places. In a step this is an error of the run.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let frozen = self.weight.as_ref().is_some_and(|weight| !weight.requires_grad());
        let training = self.mode.training() && !frozen;
        if training {
            let channels = x.size().get(1).copied().unwrap_or(1).max(1) as usize;
            assert!(
                x.numel() != channels,
                "batch normalisation cannot be trained on one value of each channel (shape {:?}): use another batch size",
                x.size()
            );
            let _guard = tch::no_grad_guard();
            let _ = self.num_batches_tracked.shallow_clone().g_add_scalar_(1);
        }
        let y = x.batch_norm(
            self.weight.as_ref(),
            self.bias.as_ref(),
            Some(&self.running_mean),
            Some(&self.running_var),
            training,
            self.mode.momentum(self.momentum),
            self.eps,
            true,
        );
        ran(&self.running_mean, &y, || 0);
        y
    }
}

module!(BatchNorm1d, BatchNorm2d, BatchNorm3d);
