//! The user's module and data behind the loop's own trait, so that the loop is compiled once, in this crate, and not in
//! each cell. No panic of theirs gets past it.

use crate::batch::Batch;
use crate::data::{Batches, DataLoader, DataModule, Order};
use crate::error::{Error, Kind, Result};
use crate::looping::{Hook, Work, word};
use crate::module::{LightningModule, Step};
use crate::precision::Precision;
use lightcell_events::run::Stage;
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::{Device, Tensor};

/// A loader, and its pass that is under way.
struct Source<B: Batch> {
    loader: Option<DataLoader<B>>,
    pass: Option<Batches<B>>,
}

impl<B: Batch> Source<B> {
    fn new(loader: Option<DataLoader<B>>) -> Source<B> {
        Source { loader, pass: None }
    }
}

pub(crate) struct Steps<'a, M: LightningModule> {
    module: &'a mut M,
    device: Device,
    precision: Precision,
    train: Source<M::Batch>,
    /// Of the other stage, whichever that is.
    other: Source<M::Batch>,
    batch: Option<M::Batch>,
}

impl<'a, M: LightningModule> Steps<'a, M> {
    /// For training and validation.
    ///
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
        let mut steps = Steps::over(module, device, precision, val);
        steps.train = Source::new(Some(train));
        Ok(steps)
    }

    /// For one stage that is no training.
    pub fn over(
        module: &'a mut M,
        device: Device,
        precision: Precision,
        loader: Option<DataLoader<M::Batch>>,
    ) -> Steps<'a, M> {
        Steps {
            module,
            device,
            precision,
            train: Source::new(None),
            other: Source::new(loader),
            batch: None,
        }
    }

    fn source(&mut self, stage: Stage) -> &mut Source<M::Batch> {
        match stage {
            Stage::Train => &mut self.train,
            _ => &mut self.other,
        }
    }
}

impl<M: LightningModule> Work for Steps<'_, M> {
    fn batches(&self, stage: Stage) -> u64 {
        let source = match stage {
            Stage::Train => &self.train,
            _ => &self.other,
        };
        source.loader.as_ref().map_or(0, |loader| loader.len() as u64)
    }

    fn begin(&mut self, stage: Stage, order: Order, skip: u64) -> Result<()> {
        let source = self.source(stage);
        let mut pass = source.loader.as_ref().map(|loader| loader.pass(order)).transpose()?;
        if let Some(pass) = &mut pass {
            pass.skip_batches(skip);
        }
        source.pass = pass;
        Ok(())
    }

    fn load(&mut self, stage: Stage) -> Option<Result<i64>> {
        self.batch = None;
        let (device, precision) = (self.device, self.precision);
        let Some(pass) = &mut self.source(stage).pass else {
            return None;
        };
        let loaded = guarded(|| pass.next().transpose());
        let module = &mut *self.module;
        let loaded = loaded.and_then(|batch| {
            let Some(batch) = batch else { return Ok(None) };
            let batch = hooked("on_before_batch_transfer", || {
                module.on_before_batch_transfer(batch, stage)
            })?;
            let batch = guarded(|| precision.input(batch)?.to_device(device))?;
            let batch = hooked("on_after_batch_transfer", || {
                module.on_after_batch_transfer(batch, stage)
            })?;
            guarded(|| Ok(Some((batch.len(), batch))))
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
        let module = &mut *self.module;
        let (stage, device, precision) = (cx.stage, self.device, self.precision);
        let within = |edge: &'static str| move |error: Error| error.at(&format!("on_{}_batch_{edge}", word(stage)));
        guarded(|| match stage {
            Stage::Train => {
                module.on_train_batch_start(batch, cx).map_err(within("start"))?;
                if cx.skip {
                    return Ok(None);
                }
                precision.within(device, || module.training_step(batch, cx)).map(Some)
            }
            Stage::Validate => {
                module.on_validation_batch_start(batch, cx).map_err(within("start"))?;
                precision.within(device, || module.validation_step(batch, cx))?;
                module.on_validation_batch_end(batch, cx).map_err(within("end"))?;
                Ok(None)
            }
            Stage::Test => {
                module.on_test_batch_start(batch, cx).map_err(within("start"))?;
                precision.within(device, || module.test_step(batch, cx))?;
                module.on_test_batch_end(batch, cx).map_err(within("end"))?;
                Ok(None)
            }
            Stage::Predict => {
                module.on_predict_batch_start(batch, cx).map_err(within("start"))?;
                let predicted = precision.within(device, || module.predict_step(batch, cx))?;
                module.on_predict_batch_end(batch, cx).map_err(within("end"))?;
                Ok(Some(predicted))
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

    fn is_finite(&self) -> bool {
        let batch = self.batch.as_ref();
        batch.is_none_or(|batch| guarded(|| Ok(batch.is_finite())).unwrap_or(true))
    }

    fn hook(&mut self, hook: Hook, cx: &mut Step) -> Result<()> {
        use Stage::{Predict, Test, Train, Validate};
        let (module, batch) = (&mut *self.module, &self.batch);
        let called = guarded(|| match hook {
            Hook::FitStart => module.on_fit_start(cx),
            Hook::FitEnd => module.on_fit_end(cx),
            Hook::Start(Train) => module.on_train_start(cx),
            Hook::Start(Validate) => module.on_validation_start(cx),
            Hook::Start(Test) => module.on_test_start(cx),
            Hook::Start(Predict) => module.on_predict_start(cx),
            Hook::End(Train) => module.on_train_end(cx),
            Hook::End(Validate) => module.on_validation_end(cx),
            Hook::End(Test) => module.on_test_end(cx),
            Hook::End(Predict) => module.on_predict_end(cx),
            Hook::EpochStart(Train) => module.on_train_epoch_start(cx),
            Hook::EpochStart(Validate) => module.on_validation_epoch_start(cx),
            Hook::EpochStart(Test) => module.on_test_epoch_start(cx),
            Hook::EpochStart(Predict) => module.on_predict_epoch_start(cx),
            Hook::EpochEnd(Train) => module.on_train_epoch_end(cx),
            Hook::EpochEnd(Validate) => module.on_validation_epoch_end(cx),
            Hook::EpochEnd(Test) => module.on_test_epoch_end(cx),
            Hook::EpochEnd(Predict) => module.on_predict_epoch_end(cx),
            Hook::TrainBatchEnd => batch
                .as_ref()
                .map_or(Ok(()), |batch| module.on_train_batch_end(batch, cx)),
            Hook::BeforeZeroGrad => module.on_before_zero_grad(cx),
            Hook::BeforeBackward(loss) => module.on_before_backward(loss, cx),
            Hook::AfterBackward => module.on_after_backward(cx),
            Hook::BeforeOptimizerStep => module.on_before_optimizer_step(cx),
        });
        called.map_err(|error| error.at(&hook.name()))
    }

    fn save(&self) -> Result<Value> {
        saved(self.module)
    }

    fn load_saved(&mut self, state: &Value) -> Result<()> {
        load_saved(self.module, state)
    }
}

/// What a checkpoint is to keep of a module beside its parameters.
///
/// # Errors
/// The hook's own.
pub(crate) fn saved<M: LightningModule>(module: &M) -> Result<Value> {
    let mut state = Value::Object(serde_json::Map::new());
    hooked("on_save_checkpoint", || module.on_save_checkpoint(&mut state))?;
    Ok(state)
}

/// Gives a module back what a checkpoint kept of it.
///
/// # Errors
/// The hook's own.
pub(crate) fn load_saved<M: LightningModule>(module: &mut M, state: &Value) -> Result<()> {
    hooked("on_load_checkpoint", || module.on_load_checkpoint(state))
}

/// A batch's shapes for a message, which is no place to fail.
pub(crate) fn shapes<B: Batch>(batch: &B) -> String {
    guarded(|| Ok(format!("shapes {}", batch.shapes()))).unwrap_or_default()
}

fn hooked<T>(name: &str, code: impl FnOnce() -> Result<T>) -> Result<T> {
    guarded(code).map_err(|error| error.at(name))
}

/// Runs the user's code; a panic in it (tch's own are libtorch's errors) becomes an error.
pub(crate) fn guarded<T>(code: impl FnOnce() -> Result<T>) -> Result<T> {
    let (mut code, mut result) = (Some(code), None);
    caught(&mut || result = code.take().map(|code| code()))?;
    result.unwrap_or_else(|| Err(Error::new(Kind::Model, "the code was not run")))
}

/// For code of any type, so that what catches a panic is compiled once.
fn caught(code: &mut dyn FnMut()) -> Result<()> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| panicked(&*payload))
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
