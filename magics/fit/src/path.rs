//! Where a model's parameters are registered while it is made.

use std::borrow::Borrow;
use std::ops::Div;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tch::nn::{self, Init, VarStore};
use tch::{Device, Kind, Tensor};

/// Whether a model is being trained. Its layers share it with the trainer: dropout works in training only. On the heap,
/// because a static would exist once in each cell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mode(Arc<AtomicBool>);

impl Mode {
    pub fn set_training(&self, training: bool) {
        self.0.store(training, Ordering::Relaxed);
    }

    pub fn training(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// All parameters of one model, on one device.
#[derive(Debug)]
pub(crate) struct Store {
    pub vars: VarStore,
    pub mode: Mode,
}

impl Store {
    pub fn new(device: Device) -> Store {
        Store {
            vars: VarStore::new(device),
            mode: Mode::default(),
        }
    }

    /// Number of parameters that are trained.
    pub fn trained(&self) -> u64 {
        self.vars.trainable_variables().iter().map(|t| t.numel() as u64).sum()
    }

    pub fn root(&self) -> Path<'_> {
        Path {
            inner: self.vars.root(),
            mode: &self.mode,
        }
    }
}

/// A place in a model's tree of parameters: `p / "encoder" / "l1"` holds `encoder.l1.weight`, as in PyTorch's
/// `state_dict`. [`LightningModule::new`](crate::LightningModule::new) gets the root.
///
/// tch's own layers take it as well:
///
/// ```
/// use lightcell::prelude::*;
/// use lightcell::tch::nn;
///
/// struct Net { read: nn::LSTM, scale: Tensor }
/// # hparams! { Hp { size: i64 = 3 } }
/// # impl LightningModule for Net {
/// #     type HParams = Hp;
/// #     type Batch = (Tensor, Tensor);
/// fn new(p: &Path, hp: &Hp) -> Self {
///     Net { read: nn::lstm(p / "read", 4, hp.size, Default::default()), scale: p.parameter("scale", &[1], nn::Init::Const(1.0)) }
/// }
/// #     fn forward(&self, x: &Tensor) -> Tensor { nn::RNN::seq(&self.read, x).0 * &self.scale }
/// #     fn training_step(&mut self, (x, _): &Self::Batch, _: &mut Step) -> Result<Tensor> { Ok(self.forward(x).mean(Kind::Float)) }
/// # }
/// # assert_eq!(Net::build(Hp::default())?.parameters().last().unwrap().0, "scale");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Path<'a> {
    inner: nn::Path<'a>,
    mode: &'a Mode,
}

impl<'a> Path<'a> {
    /// Registers a tensor of this shape that is trained.
    pub fn parameter(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        self.inner.var(name, shape, init)
    }

    /// Registers a tensor that belongs to the model but is not trained, such as a running mean.
    pub fn buffer(&self, name: &str, value: &Tensor) -> Tensor {
        self.inner.add(name, value.to_device(self.device()), false)
    }

    /// The device on which the model is made.
    pub fn device(&self) -> Device {
        self.inner.device()
    }

    /// The kind of number that its parameters are.
    pub fn kind(&self) -> Kind {
        self.inner.kind()
    }

    // Not generic, so that it is compiled here.
    fn child(&self, name: &str) -> Path<'a> {
        Path {
            inner: self.inner.sub(name),
            mode: self.mode,
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode.clone()
    }
}

impl<'a, T: ToString> Div<T> for &Path<'a> {
    type Output = Path<'a>;

    fn div(self, name: T) -> Path<'a> {
        self.child(&name.to_string())
    }
}

impl<'a, T: ToString> Div<T> for Path<'a> {
    type Output = Path<'a>;

    fn div(self, name: T) -> Path<'a> {
        &self / name
    }
}

impl<'a> Borrow<nn::Path<'a>> for Path<'a> {
    fn borrow(&self) -> &nn::Path<'a> {
        &self.inner
    }
}

impl<'a> Borrow<nn::Path<'a>> for &Path<'a> {
    fn borrow(&self) -> &nn::Path<'a> {
        &self.inner
    }
}
