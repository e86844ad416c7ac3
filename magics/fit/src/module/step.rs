//! What a step sees of the run, and its logbook.

use crate::error::{Error, Kind, Result};
use crate::metrics::Metric;
use lightcell_events::run::Stage;
use std::rc::Rc;
use tch::{Device, Tensor};

/// Where in the run a step is, and its logbook.
#[derive(Debug)]
pub struct Step {
    pub(crate) stage: Stage,
    pub(crate) epoch: u64,
    pub(crate) batch: u64,
    pub(crate) step: u64,
    pub(crate) lr: f64,
    pub(crate) logged: Vec<(String, Value)>,
    /// Whether it is a batch of the check before the first epoch.
    pub(crate) sanity: bool,
    /// Whether the rest of the epoch is to be left out.
    pub(crate) skip: bool,
    /// The first thing that could not be logged.
    pub(crate) fault: Option<Error>,
}

/// A logged value. A tensor is not read here: reading waits for the device.
#[derive(Debug)]
pub(crate) enum Value {
    Tensor(Tensor),
    Number(f64),
    /// Its value is that of the epoch, not of the step.
    Metric(Rc<dyn Metric>),
}

impl Value {
    pub(crate) fn copy(&self) -> Value {
        match self {
            Value::Number(number) => Value::Number(*number),
            Value::Tensor(tensor) => Value::Tensor(tensor.shallow_clone()),
            Value::Metric(metric) => Value::Metric(metric.clone()),
        }
    }

    pub(crate) fn read(&self) -> f64 {
        match self {
            Value::Number(number) => *number,
            // Its size was checked when it was logged.
            Value::Tensor(tensor) => number(tensor).unwrap_or(f64::NAN),
            // Logged at an epoch's end: all that it has seen, and then it begins anew.
            Value::Metric(metric) => {
                let value = metric.compute().unwrap_or(f64::NAN);
                metric.reset();
                value
            }
        }
    }
}

/// What [`Step::log`] takes: a tensor with one element, a number, or a metric of [`metrics`](crate::metrics).
///
/// ```
/// use lightcell::prelude::*;
/// fn note(cx: &mut Step, loss: &Tensor) {
///     cx.log("train_loss", loss);
///     cx.log("seen", &64);
/// }
/// ```
pub trait Loggable {
    #[doc(hidden)]
    fn value(&self) -> ValueBox;
}

#[doc(hidden)]
#[derive(Debug)]
pub struct ValueBox(pub(crate) Value);

impl Loggable for Tensor {
    fn value(&self) -> ValueBox {
        ValueBox(logged(self))
    }
}

/// On the CPU a value is there when the step computed it, and reading it costs less than keeping it.
fn logged(tensor: &Tensor) -> Value {
    if tensor.defined() && tensor.device() == Device::Cpu && tensor.numel() == 1 {
        Value::Number(number(tensor).unwrap_or(f64::NAN))
    } else {
        Value::Tensor(tensor.detach())
    }
}

/// The number in a tensor with one element.
///
/// # Errors
/// libtorch's own; a device that failed says so here.
pub(crate) fn number(tensor: &Tensor) -> Result<f64> {
    match tensor.dim() {
        0 => Ok(tensor.f_double_value(&[])?),
        1 => Ok(tensor.f_double_value(&[0])?),
        _ => Ok(tensor.f_reshape([1])?.f_double_value(&[0])?),
    }
}

macro_rules! loggable_numbers {
    ($($number:ty),*) => {
        $(impl Loggable for $number {
            fn value(&self) -> ValueBox {
                ValueBox(Value::Number(*self as f64))
            }
        })*
    };
}

loggable_numbers!(f64, f32, i64, u64, i32, usize);

impl Step {
    pub(crate) fn new(stage: Stage, epoch: u64, batch: u64, step: u64) -> Step {
        Step {
            stage,
            epoch,
            batch,
            step,
            lr: f64::NAN,
            logged: Vec::new(),
            sanity: false,
            skip: false,
            fault: None,
        }
    }

    /// With the learning rate of the next optimizer step.
    pub(crate) fn with_lr(mut self, lr: f64) -> Step {
        self.lr = lr;
        self
    }

    /// Logs a value under a name. Over an epoch its mean is taken, weighted by the batches' sizes. A tensor is read later,
    /// so that the device need not be waited for; one with several elements ends the run with an error. The value of a metric
    /// is computed at the end of the epoch, from all that it was given, and the metric begins anew.
    pub fn log(&mut self, name: &str, value: &impl Loggable) {
        self.take(name, value.value());
    }

    // Not generic, so that it is compiled here and not in each cell.
    fn take(&mut self, name: &str, ValueBox(value): ValueBox) {
        if let Value::Tensor(tensor) = &value
            && (!tensor.defined() || tensor.numel() != 1)
        {
            let size = if tensor.defined() { tensor.size() } else { vec![0] };
            self.fault.get_or_insert_with(|| {
                Error::new(
                    Kind::Shape,
                    format!("`{name}` cannot be logged: it must have one element, not the shape {size:?}"),
                )
                .hint(format!("log its mean: `cx.log(\"{name}\", &value.mean(Kind::Float))`"))
            });
            return;
        }
        self.logged.push((name.to_owned(), value));
    }

    /// What could not be logged, as an error.
    pub(crate) fn checked(&mut self) -> Result<()> {
        self.fault.take().map_or(Ok(()), Err)
    }

    /// 0-based epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// 0-based batch in this loop.
    pub fn batch_idx(&self) -> u64 {
        self.batch
    }

    /// Learning rate of the next optimizer step, of the parameters that are in no group. `cx.log("lr", &cx.lr())` puts it
    /// into the history.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// Optimizer steps since the beginning.
    pub fn global_step(&self) -> u64 {
        self.step
    }

    /// In [`on_train_batch_start`](crate::LightningModule::on_train_batch_start): leaves out this batch and the rest of the
    /// epoch, as -1 does in Lightning. The epoch then ends like any other, with its validation (which Lightning leaves out as
    /// well); gradients of a window of accumulation that is not full are dropped. Elsewhere it does nothing.
    pub fn skip_epoch(&mut self) {
        self.skip = true;
    }

    /// Whether this is the check of the validation step before the first epoch, whose log is thrown away.
    pub fn sanity_checking(&self) -> bool {
        self.sanity
    }

    /// The loop.
    pub fn stage(&self) -> Stage {
        self.stage
    }
}
