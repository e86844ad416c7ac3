//! The user's module and data behind the loop's own trait, so that the loop is compiled once, in this crate, and not in
//! each cell. No panic of theirs gets past it.

use crate::batch::Batch;
use crate::data::{Batches, DataLoader, DataModule, Order};
use crate::error::{Error, Kind, Result};
use crate::looping::{Hook, Work};
use crate::module::{LightningModule, Step};
use crate::precision::Precision;
use lightcell_events::run::Stage;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::{Device, Tensor};

pub(crate) struct Steps<'a, M: LightningModule> {
    module: &'a mut M,
    device: Device,
    precision: Precision,
    train: DataLoader<M::Batch>,
    val: Option<DataLoader<M::Batch>>,
    batches: Option<Batches<M::Batch>>,
    batch: Option<M::Batch>,
}

impl<'a, M: LightningModule> Steps<'a, M> {
    /// # Errors
    /// When the data module panics.
    pub fn new<D: DataModule<Batch = M::Batch>>(
        module: &'a mut M,
        device: Device,
        precision: Precision,
        data: &D,
    ) -> Result<Steps<'a, M>> {
        let (train, val) = guarded(|| Ok((data.train_dataloader(), data.val_dataloader())))
            .map_err(|error| error.at("the data cannot be loaded"))?;
        Ok(Steps {
            module,
            device,
            precision,
            train,
            val,
            batches: None,
            batch: None,
        })
    }
}

impl<M: LightningModule> Work for Steps<'_, M> {
    fn batches(&self, stage: Stage) -> u64 {
        match stage {
            Stage::Train => self.train.len() as u64,
            _ => self.val.as_ref().map_or(0, |val| val.len() as u64),
        }
    }

    fn begin(&mut self, stage: Stage, order: Order, skip: u64) -> Result<()> {
        self.batches = match stage {
            Stage::Train => Some(self.train.pass(order)?),
            _ => self.val.as_ref().map(|val| val.pass(order)).transpose()?,
        };
        if let Some(batches) = &mut self.batches {
            batches.skip_batches(skip);
        }
        Ok(())
    }

    fn load(&mut self) -> Option<Result<i64>> {
        self.batch = None;
        let (batches, device, precision) = (self.batches.as_mut()?, self.device, self.precision);
        let loaded = guarded(|| {
            let Some(batch) = batches.next() else { return Ok(None) };
            let batch = precision.input(batch?)?.to_device(device)?;
            Ok(Some((batch.len(), batch)))
        });
        match loaded {
            Ok(Some((len, batch))) => {
                self.batch = Some(batch);
                Some(Ok(len))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }

    fn step(&mut self, cx: &mut Step) -> Result<Option<Tensor>> {
        let Some(batch) = &self.batch else { return Ok(None) };
        guarded(|| match cx.stage {
            Stage::Train => {
                self.module
                    .on_train_batch_start(batch, cx)
                    .map_err(|error| error.at("on_train_batch_start"))?;
                let _autocast = self.precision.enter(self.device)?;
                self.module.training_step(batch, cx).map(Some)
            }
            _ => {
                let _autocast = self.precision.enter(self.device)?;
                self.module.validation_step(batch, cx).map(|()| None)
            }
        })
    }

    fn again(&mut self, cx: &mut Step) -> Result<Option<Tensor>> {
        let Some(batch) = &self.batch else { return Ok(None) };
        guarded(|| {
            let _autocast = self.precision.enter(self.device)?;
            self.module.training_step(batch, cx).map(Some)
        })
    }

    fn shapes(&self) -> String {
        self.batch.as_ref().map(shapes).unwrap_or_default()
    }

    fn hook(&mut self, hook: Hook, cx: &mut Step) -> Result<()> {
        let (module, batch) = (&mut *self.module, &self.batch);
        let called = guarded(|| match (hook, batch) {
            (Hook::FitStart, _) => module.on_fit_start(cx),
            (Hook::FitEnd, _) => module.on_fit_end(cx),
            (Hook::TrainEpochStart, _) => module.on_train_epoch_start(cx),
            (Hook::TrainEpochEnd, _) => module.on_train_epoch_end(cx),
            (Hook::TrainBatchEnd, Some(batch)) => module.on_train_batch_end(batch, cx),
            (Hook::TrainBatchEnd, None) => Ok(()),
            (Hook::ValidationEpochStart, _) => module.on_validation_epoch_start(cx),
            (Hook::ValidationEpochEnd, _) => module.on_validation_epoch_end(cx),
        });
        called.map_err(|error| error.at(hook.name()))
    }
}

/// A batch's shapes for a message, which is no place to fail.
pub(crate) fn shapes<B: Batch>(batch: &B) -> String {
    guarded(|| Ok(format!(" (shapes {})", batch.shapes()))).unwrap_or_default()
}

/// Runs the user's code; a panic in it (tch's own are libtorch's errors) becomes an error.
pub(crate) fn guarded<T>(code: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(code)).unwrap_or_else(|payload| Err(panicked(&*payload)))
}

fn panicked(payload: &(dyn std::any::Any + Send)) -> Error {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic");
    let error = Error::from_torch(text);
    if error.kind() == Kind::Torch && !text.contains("Torch(") {
        Error::new(Kind::Model, format!("panic: {text}"))
    } else {
        error
    }
}
