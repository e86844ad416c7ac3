//! Where a model's parameters are registered while it is made.

use crate::error::{Error, Kind as ErrorKind, Result};
use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Div;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tch::nn::{self, Init, VarStore};
use tch::{Device, Kind, Tensor};

/// Whether a model is being trained. Its layers share it with the trainer: dropout works in training only. On the heap,
/// because a static would exist once in each cell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mode(Arc<State>);

#[derive(Debug, Default)]
struct State {
    training: AtomicBool,
    /// Of how many batches running statistics are the mean, the one at hand included; 0: they move by their momentum.
    averaged: AtomicU64,
}

impl Mode {
    pub fn set_training(&self, training: bool) {
        self.0.training.store(training, Ordering::Relaxed);
    }

    pub fn training(&self) -> bool {
        self.0.training.load(Ordering::Relaxed)
    }

    /// From the batch of this number on, counted from 1, running statistics are means of all batches; 0 ends that.
    pub fn average(&self, batch: u64) {
        self.0.averaged.store(batch, Ordering::Relaxed);
    }

    /// How much the batch at hand moves running statistics whose layer says `momentum`.
    pub fn momentum(&self, momentum: f64) -> f64 {
        match self.0.averaged.load(Ordering::Relaxed) {
            0 => momentum,
            batch => 1.0 / batch as f64,
        }
    }
}

/// All parameters of one model, on one device. A [`LightningModule`](crate::LightningModule) has one of its own; another is
/// for layers outside of a model.
///
/// ```
/// use lightcell::prelude::*;
/// let store = Store::new(Device::Cpu);
/// let layer = linear(store.root() / "l1", 4, 3);
/// assert_eq!(store.parameters().len(), 2);
/// ```
#[derive(Debug)]
pub struct Store {
    pub(crate) vars: VarStore,
    pub(crate) mode: Mode,
    /// What layers could not be made of. Said when all of the model is made: making a layer gives no error.
    faults: RefCell<Vec<Error>>,
    /// Names and PyTorch's classes of the layers, in the order in which they were made.
    pub(crate) modules: RefCell<Vec<(String, String)>>,
}

impl Store {
    /// For layers on this device; not being trained.
    pub fn new(device: Device) -> Store {
        Store {
            vars: VarStore::new(device),
            mode: Mode::default(),
            faults: RefCell::default(),
            modules: RefCell::default(),
        }
    }

    /// Number of parameters that are trained.
    pub(crate) fn trained(&self) -> u64 {
        let trained = self
            .parameters()
            .into_iter()
            .filter(|(_, tensor)| tensor.requires_grad());
        trained.map(|(_, tensor)| tensor.numel() as u64).sum()
    }

    /// The root of the tree of parameters.
    pub fn root(&self) -> Path<'_> {
        Path {
            inner: self.vars.root(),
            store: self,
            name: String::new(),
        }
    }

    /// Whether the layers behave as in training: dropout drops, batch normalisation uses the batch.
    pub fn set_training(&self, training: bool) {
        self.mode.set_training(training);
    }

    /// Freezes parameters whose names fit a pattern: see [`Fit::freeze`](crate::Fit::freeze). How many it were.
    ///
    /// # Errors
    /// When the pattern fits nothing.
    pub fn freeze(&self, pattern: &str) -> Result<usize> {
        self.set_trained("", pattern, false)
    }

    /// Lets parameters whose names fit a pattern be trained again. How many it were.
    ///
    /// # Errors
    /// When the pattern fits nothing.
    pub fn unfreeze(&self, pattern: &str) -> Result<usize> {
        self.set_trained("", pattern, true)
    }

    fn set_trained(&self, prefix: &str, pattern: &str, trained: bool) -> Result<usize> {
        let all = self.parameters();
        let below = all
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
        let chosen: Vec<&Tensor> = below
            .clone()
            .filter(|(name, _)| crate::optim::name_fits(pattern, name))
            .map(|(_, tensor)| tensor)
            .collect();
        if chosen.is_empty() {
            let names: Vec<&str> = below.map(|(name, _)| name).collect();
            let error = Error::new(ErrorKind::Option, format!("no parameter fits `{pattern}`"));
            return Err(error.hint(format!("the parameters are {}", names.join(", "))));
        }
        for tensor in &chosen {
            let _ = tensor.set_requires_grad(trained);
        }
        Ok(chosen.len())
    }

    /// The running statistics of batch normalisations, by their names.
    pub(crate) fn batch_statistics(&self) -> Vec<(String, Tensor)> {
        let names = ["running_mean", "running_var", "num_batches_tracked"];
        let mut all = self.state_dict();
        all.retain(|(name, _)| names.contains(&name.rsplit('.').next().unwrap_or(name)));
        all
    }

    /// Parameters and buffers, sorted by name.
    pub fn state_dict(&self) -> Vec<(String, Tensor)> {
        let mut all: Vec<(String, Tensor)> = self.vars.variables().into_iter().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The parameters that are trained, with their names, in the order in which they were made: that of PyTorch's
    /// `parameters()`, on which the sum of their norms depends.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        let mut names: HashMap<usize, String> = HashMap::new();
        for (name, tensor) in self.vars.variables() {
            let place = names.entry(tensor.data_ptr() as usize).or_default();
            if place.is_empty() || name < *place {
                *place = name;
            }
        }
        // A tensor that was registered twice is one parameter.
        let trained = self.vars.trainable_variables().into_iter();
        trained
            .filter_map(|tensor| Some((names.remove(&(tensor.data_ptr() as usize))?, tensor)))
            .collect()
    }

    /// Refuses layers that could not be made, and two parameters of one name: tch adds `__` and a number to the
    /// second one in silence, and no checkpoint finds it again.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<()> {
        if let Some(fault) = self.faults.borrow().first() {
            return Err(fault.clone());
        }
        let all = self.vars.variables();
        let taken = |name: &String| {
            let (first, number) = name.rsplit_once("__")?;
            (number.parse::<u64>().is_ok() && all.contains_key(first)).then(|| first.to_owned())
        };
        let mut clashes: Vec<String> = all.keys().filter_map(taken).collect();
        clashes.sort();
        clashes.dedup();
        if clashes.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Model,
            format!("two parameters have the same name: {}", clashes.join(", ")),
        )
        .hint("give each layer a path of its own: `linear(p / \"l1\", …)`, `linear(p / \"l2\", …)`"))
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
    store: &'a Store,
    /// `encoder.l1`; empty at the root.
    name: String,
}

impl<'a> Path<'a> {
    /// Registers a tensor of this shape that is trained.
    pub fn parameter(&self, name: &str, shape: &[i64], init: Init) -> Tensor {
        self.inner.var(name, shape, init)
    }

    /// Registers a tensor that a layer has drawn, on the CPU, to be trained.
    pub(crate) fn trained(&self, name: &str, value: &Tensor) -> Tensor {
        self.inner.add(name, value.to_device(self.device()).detach(), true)
    }

    /// Registers the values of another parameter as one of its own.
    pub(crate) fn copied(&self, name: &str, value: &Tensor) -> Tensor {
        self.trained(name, &value.detach().copy())
    }

    /// Notes PyTorch's class of what is made here, for [`Fit::summary`](crate::Fit::summary). What was said first holds: a
    /// layer knows its class better than what it is part of.
    pub(crate) fn module(&self, class: &str) {
        let mut modules = self.store.modules.borrow_mut();
        if !self.name.is_empty() && modules.iter().all(|(name, _)| *name != self.name) {
            modules.push((self.name.clone(), class.to_owned()));
        }
    }

    /// Notes what a layer cannot be made of. It then makes something of the right kind all the same.
    pub(crate) fn fault(&self, error: Error) {
        self.store.faults.borrow_mut().push(error);
    }

    /// Copies what is given, by names below this path, to all that is registered there but what fits a pattern.
    pub(crate) fn load_within(&self, given: &[(String, Tensor)], except: Option<&str>) -> Result<()> {
        crate::state_dict::load(self.store, &self.prefix(), given, except)
    }

    fn prefix(&self) -> String {
        match self.name.as_str() {
            "" => String::new(),
            name => format!("{name}."),
        }
    }

    /// Freezes parameters below this path whose names fit a pattern: see [`Fit::freeze`](crate::Fit::freeze). For use at
    /// the end of [`LightningModule::new`](crate::LightningModule::new); a pattern that fits nothing makes the model an
    /// error.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let store = Store::new(Device::Cpu);
    /// let p = store.root();
    /// let (l1, l2) = (linear(&p / "l1", 4, 3), linear(&p / "l2", 3, 2));
    /// p.freeze("l1.*");
    /// assert!(!l1.weight.requires_grad() && l2.weight.requires_grad());
    /// ```
    pub fn freeze(&self, pattern: &str) {
        if let Err(error) = self.store.set_trained(&self.prefix(), pattern, false) {
            self.fault(error);
        }
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
        let parent = &self.name;
        Path {
            inner: self.inner.sub(name),
            store: self.store,
            name: if parent.is_empty() {
                name.to_owned()
            } else {
                format!("{parent}.{name}")
            },
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.store.mode.clone()
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
