//! Judging a model outside of a run, and using it.

use super::{Limit, Trainer};
use crate::data::DataModule;
use crate::error::{Error, Kind, Result};
use crate::evaluation::Evaluation;
use crate::fit::Fit;
use crate::looping::Outcome;
use crate::module::LightningModule;
use crate::progress::{Outside, Reporter};
use crate::steps::guarded;
use lightcell_events::run::Stage;
use tch::Tensor;

impl Trainer {
    /// Test batches: `10` or `0.5`; `1.0`.
    #[must_use]
    pub fn limit_test_batches(mut self, limit: impl Into<Limit>) -> Trainer {
        self.limit_test_batches = limit.into();
        self
    }

    /// Batches of predictions: `10` or `0.5`; `1.0`.
    #[must_use]
    pub fn limit_predict_batches(mut self, limit: impl Into<Limit>) -> Trainer {
        self.limit_predict_batches = limit.into();
        self
    }

    /// Runs `validation_step` over the validation data and gives the means of what was logged, weighted by the batches' sizes.
    /// No gradients are tracked, and nothing of the model is changed.
    ///
    /// With a [`ckpt_path`](Trainer::ckpt_path) (a path, or `best` or `last` of the run) the model is judged with the
    /// checkpoint's parameters, and afterwards it has its own again. [`Fit::validate`] is short for a trainer with all
    /// defaults.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// # hparams! { Hp { size: i64 = 2 } }
    /// # struct Net(Linear);
    /// # impl LightningModule for Net {
    /// #     type HParams = Hp;
    /// #     type Batch = (Tensor, Tensor);
    /// #     fn new(p: &Path, hp: &Hp) -> Net { Net(linear(p / "l", 3, hp.size)) }
    /// #     fn forward(&self, x: &Tensor) -> Tensor { self.0.forward(x) }
    /// #     fn training_step(&mut self, (x, y): &Self::Batch, _: &mut Step) -> Result<Tensor> {
    /// #         Ok(self.forward(x).mse_loss(y, lightcell::tch::Reduction::Mean))
    /// #     }
    /// #     fn validation_step(&mut self, (x, y): &Self::Batch, cx: &mut Step) -> Result<()> {
    /// #         cx.log("val_loss", &self.forward(x).mse_loss(y, lightcell::tch::Reduction::Mean));
    /// #         Ok(())
    /// #     }
    /// # }
    /// # let data = || { let zeros = |n| Tensor::zeros([8, n], (Kind::Float, Device::Cpu)); TensorDataset::new(zeros(3), zeros(2)) };
    /// # let data = Data::new(data()?).val(data()?).test(data()?);
    /// # let dir = std::env::temp_dir().join(format!("lightcell-doc-judge-{}", std::process::id()));
    /// let keep = ModelCheckpoint::new().monitor("val_loss").dirpath(&dir);
    /// let mut fit = Trainer::new().max_epochs(2).callback(keep).fit::<Net, _>(&Hp::default(), &data)?;
    /// let now = fit.validate(&data)?;
    /// let best = Trainer::new().ckpt_path("best").validate(&mut fit, &data)?;
    /// assert!(best["val_loss"] <= now["val_loss"]);
    /// println!("{best}");
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// When there are no validation data, the checkpoint is not there or is that of another model, or a step or hook fails.
    pub fn validate<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        fit: &mut Fit<M>,
        data: &D,
    ) -> Result<Evaluation> {
        self.validate_within(fit, data, &mut Reporter::new(Outside::here()))
    }

    /// Runs `test_step` over the test data, as [`validate`](Trainer::validate) does with the validation data. Names that begin
    /// with `val_`, because a model without a test step is tested with its validation step, begin with `test_` in the
    /// results. [`Fit::test`] is short for a trainer with all defaults.
    ///
    /// # Errors
    /// As for [`validate`](Trainer::validate).
    pub fn test<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        fit: &mut Fit<M>,
        data: &D,
    ) -> Result<Evaluation> {
        self.test_within(fit, data, &mut Reporter::new(Outside::here()))
    }

    /// Runs `predict_step` over the data to predict from, in their own order, and joins the results along their first
    /// dimension; a checkpoint may be named as for [`validate`](Trainer::validate). [`Fit::predict`] takes a loader.
    ///
    /// # Errors
    /// When there are no data, the checkpoint is not there or is that of another model, a step or hook fails, or the results
    /// of two batches differ in more than their first dimension.
    pub fn predict<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        fit: &mut Fit<M>,
        data: &D,
    ) -> Result<Tensor> {
        self.predict_within(fit, data, &mut Reporter::new(Outside::here()))
    }

    pub(crate) fn validate_within<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        fit: &mut Fit<M>,
        data: &D,
        reporter: &mut Reporter,
    ) -> Result<Evaluation> {
        let loader = guarded(|| Ok(data.val_dataloader()));
        metrics(fit.judge(self, Stage::Validate, loader, reporter))
    }

    pub(crate) fn test_within<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        fit: &mut Fit<M>,
        data: &D,
        reporter: &mut Reporter,
    ) -> Result<Evaluation> {
        let loader = guarded(|| Ok(data.test_dataloader()));
        metrics(fit.judge(self, Stage::Test, loader, reporter))
    }

    pub(crate) fn predict_within<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        fit: &mut Fit<M>,
        data: &D,
        reporter: &mut Reporter,
    ) -> Result<Tensor> {
        let loader = guarded(|| Ok(data.predict_dataloader()));
        predictions(fit.judge(self, Stage::Predict, loader, reporter))
    }
}

/// What a validation or test gave.
fn metrics(outcome: Result<Outcome>) -> Result<Evaluation> {
    match outcome? {
        Outcome::Metrics(evaluation) => Ok(evaluation),
        Outcome::Predictions(_) => Err(unasked()),
    }
}

/// What was predicted.
pub(crate) fn predictions(outcome: Result<Outcome>) -> Result<Tensor> {
    match outcome? {
        Outcome::Predictions(tensor) => Ok(tensor),
        Outcome::Metrics(_) => Err(unasked()),
    }
}

/// A stage gives what is its own; another answer would be a fault of this library's.
fn unasked() -> Error {
    Error::new(Kind::Model, "the pass gave something else than was asked for")
}

/// What batches predicted, along the first dimension.
///
/// # Errors
/// When they do not fit together.
pub(crate) fn joined(parts: Vec<Tensor>) -> Result<Tensor> {
    Tensor::f_cat(&parts, 0).map_err(|_| {
        let mut shapes: Vec<String> = parts.iter().map(|part| format!("{:?}", part.size())).collect();
        shapes.dedup();
        Error::new(
            Kind::Shape,
            format!("predictions cannot be joined: their shapes are {}", shapes.join(", ")),
        )
        .hint("`predict_step` gives a tensor with one row for each sample, of the same shape for all")
    })
}
