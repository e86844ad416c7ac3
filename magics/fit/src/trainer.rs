//! The settings of a run, under PyTorch Lightning's names.

mod evaluating;
mod files;
mod limits;
mod loggers;
mod named;
mod numbers;
mod switches;
mod validation;

pub(crate) use evaluating::{joined, predictions};
pub(crate) use limits::Duration;
pub(crate) use loggers::Loggers;
pub(crate) use named::Named;

use crate::callbacks::{Callbacks, EarlyStopping, ModelCheckpoint};
use crate::data::DataModule;
use crate::error::{Error, Kind, Result};
use crate::fit::Fit;
use crate::module::LightningModule;
use crate::precision::Precision;
use crate::scaler::GradScaler;
use serde::Deserialize;
use std::path::PathBuf;
use tch::{Cuda, Device};

/// A limit on the batches of a loop: a whole number counts batches, one with a point is a share of them. `1` is one
/// batch, `1.0` is all.
///
/// ```
/// use lightcell::prelude::*;
/// assert_eq!((Limit::from(1).of(40), Limit::from(1.0).of(40), Limit::from(0.25).of(40)), (1, 40, 10));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Limit {
    /// So many batches.
    Batches(u64),
    /// This share of the batches.
    Fraction(f64),
}

impl Limit {
    /// How many of `all` batches that are.
    pub fn of(self, all: u64) -> u64 {
        match self {
            Limit::Batches(count) => count.min(all),
            Limit::Fraction(share) => (all as f64 * share.clamp(0.0, 1.0)) as u64,
        }
    }
}

impl From<u64> for Limit {
    fn from(count: u64) -> Limit {
        Limit::Batches(count)
    }
}

impl From<f64> for Limit {
    fn from(share: f64) -> Limit {
        Limit::Fraction(share)
    }
}

/// How [`Trainer::gradient_clip_val`] limits gradients.
///
/// ```
/// use lightcell::prelude::*;
/// let trainer = Trainer::new().gradient_clip_val(0.5).gradient_clip_algorithm(ClipAlgorithm::Value);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClipAlgorithm {
    /// The norm of all gradients together is at most the value.
    #[default]
    Norm,
    /// Each number of a gradient is at most the value, and at least its negative.
    Value,
}

/// Whether a run draws its random numbers as ours, or as another library does.
///
/// ```
/// use lightcell::prelude::*;
/// let trainer = Trainer::new().seed(42).compat(Compat::Lightning);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compat {
    /// The order of the samples and the dropout of an epoch are functions of seed and epoch alone: validation, a run in two
    /// parts or another loader change nothing.
    #[default]
    None,
    /// As PyTorch's `DataLoader` and Lightning: one stream for initialisation, dropout and order, from which each pass over
    /// a loader draws. A run with the same seed then sees the samples in the same order as there. A left-over window of
    /// `accumulate_grad_batches` counts for less, as there, and optimizers step unfused. Going on is another run than one long
    /// one.
    Lightning,
}

/// Trains models. Settings are set by name, the defaults are written beside them.
///
/// ```
/// use lightcell::prelude::*;
/// let trainer = Trainer::new().max_epochs(3).accelerator("cpu").limit_train_batches(10).seed(42);
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trainer {
    pub(crate) max_epochs: Option<i64>,
    pub(crate) max_steps: i64,
    pub(crate) limit_train_batches: Limit,
    pub(crate) limit_val_batches: Limit,
    pub(crate) accelerator: String,
    pub(crate) seed: Option<u64>,
    pub(crate) fast_dev_run: Option<u64>,
    pub(crate) restart: bool,
    pub(crate) accumulate_grad_batches: u64,
    pub(crate) gradient_clip_val: Option<f64>,
    pub(crate) gradient_clip_algorithm: ClipAlgorithm,
    pub(crate) compat: Compat,
    pub(crate) ckpt_path: Option<String>,
    pub(crate) default_root_dir: Option<PathBuf>,
    pub(crate) min_epochs: u64,
    pub(crate) min_steps: u64,
    pub(crate) max_time: Option<Duration>,
    pub(crate) check_val_every_n_epoch: Option<u64>,
    pub(crate) val_check_interval: Limit,
    pub(crate) num_sanity_val_steps: i64,
    pub(crate) overfit_batches: Limit,
    pub(crate) limit_test_batches: Limit,
    pub(crate) limit_predict_batches: Limit,
    pub(crate) deterministic: bool,
    pub(crate) benchmark: Option<bool>,
    pub(crate) detect_anomaly: bool,
    pub(crate) logger: Loggers,
    pub(crate) log_every_n_steps: u64,
    pub(crate) model_checkpoint: Option<ModelCheckpoint>,
    pub(crate) early_stopping: Option<EarlyStopping>,
    #[serde(rename = "callbacks")]
    pub(crate) named: Named,
    pub(crate) precision: Option<Precision>,
    #[serde(skip)]
    pub(crate) grad_scaler: Option<GradScaler>,
    #[serde(skip)]
    pub(crate) callbacks: Callbacks,
    /// Whether this is a few steps of a run that is yet to come, as the tuner makes them.
    #[serde(skip)]
    pub(crate) trial: bool,
}

impl Default for Trainer {
    fn default() -> Trainer {
        Trainer {
            max_epochs: None,
            max_steps: -1,
            limit_train_batches: Limit::Fraction(1.0),
            limit_val_batches: Limit::Fraction(1.0),
            accelerator: "auto".to_owned(),
            seed: None,
            fast_dev_run: None,
            restart: false,
            accumulate_grad_batches: 1,
            gradient_clip_val: None,
            gradient_clip_algorithm: ClipAlgorithm::Norm,
            compat: Compat::None,
            ckpt_path: None,
            default_root_dir: None,
            min_epochs: 0,
            min_steps: 0,
            max_time: None,
            check_val_every_n_epoch: Some(1),
            val_check_interval: Limit::Fraction(1.0),
            num_sanity_val_steps: 2,
            overfit_batches: Limit::Fraction(0.0),
            limit_test_batches: Limit::Fraction(1.0),
            limit_predict_batches: Limit::Fraction(1.0),
            deterministic: false,
            benchmark: None,
            detect_anomaly: false,
            logger: Loggers::default(),
            log_every_n_steps: 50,
            model_checkpoint: None,
            early_stopping: None,
            named: Named::default(),
            precision: None,
            grad_scaler: None,
            callbacks: Callbacks::default(),
            trial: false,
        }
    }
}

impl Trainer {
    /// All defaults.
    pub fn new() -> Trainer {
        Trainer::default()
    }

    /// From JSON with the names of the settings, as the kernel sends it.
    ///
    /// # Errors
    /// When a name or value is wrong.
    pub fn from_json(json: &str) -> Result<Trainer> {
        let trainer: Trainer = serde_json::from_str(json)
            .map_err(|error| Error::new(Kind::Option, format!("the run's settings cannot be read: {error}")))?;
        let batches = trainer.fast_dev_run.unwrap_or(0);
        Ok(trainer.fast_dev_run(batches))
    }

    /// Training batches in an epoch: `10` or `0.5`; `1.0`.
    #[must_use]
    pub fn limit_train_batches(mut self, limit: impl Into<Limit>) -> Trainer {
        self.limit_train_batches = limit.into();
        self
    }

    /// Validation batches in an epoch: `10` or `0.5`; `1.0`.
    #[must_use]
    pub fn limit_val_batches(mut self, limit: impl Into<Limit>) -> Trainer {
        self.limit_val_batches = limit.into();
        self
    }

    /// `auto`, `cpu`, `cuda` or `cuda:1`; `auto` takes CUDA when it is there.
    #[must_use]
    pub fn accelerator(mut self, name: &str) -> Trainer {
        self.accelerator = name.to_owned();
        self
    }

    /// Seed of initialisation, order and dropout; without one, each run draws its own.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Trainer {
        self.seed = Some(seed);
        self
    }

    /// Runs so many batches of one epoch, to see whether all parts work; 0 for a whole run.
    #[must_use]
    pub fn fast_dev_run(mut self, batches: u64) -> Trainer {
        self.fast_dev_run = Some(batches).filter(|batches| *batches > 0);
        self
    }

    /// Batches whose mean gradient makes one optimizer step; 1. What is left at the end of an epoch makes a step of its own,
    /// of the mean of the batches that it has.
    ///
    /// ```
    /// use lightcell::prelude::*;
    /// let trainer = Trainer::new().accumulate_grad_batches(4).gradient_clip_val(1.0);
    /// ```
    #[must_use]
    pub fn accumulate_grad_batches(mut self, batches: u64) -> Trainer {
        self.accumulate_grad_batches = batches;
        self
    }

    /// Limits the gradients before each optimizer step, as [`gradient_clip_algorithm`](Trainer::gradient_clip_algorithm)
    /// says; 0, and without it, they are not limited.
    #[must_use]
    pub fn gradient_clip_val(mut self, value: f64) -> Trainer {
        self.gradient_clip_val = Some(value);
        self
    }

    /// What the limit is for; the norm.
    #[must_use]
    pub fn gradient_clip_algorithm(mut self, algorithm: ClipAlgorithm) -> Trainer {
        self.gradient_clip_algorithm = algorithm;
        self
    }

    /// Whose order of random draws is followed; our own.
    #[must_use]
    pub fn compat(mut self, compat: Compat) -> Trainer {
        self.compat = compat;
        self
    }

    /// Makes a model with these hyperparameters and trains it.
    ///
    /// # Errors
    /// When the run cannot begin, or a step fails.
    pub fn fit<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        hparams: &M::HParams,
        data: &D,
    ) -> Result<Fit<M>> {
        let mut fit = Fit::build(hparams.clone(), self)?;
        match fit.run(self, data) {
            Some(error) => Err(error),
            None => Ok(fit),
        }
    }

    /// Trains on a model that [`LightningModule::build`] made, or goes on with a run: `max_epochs` more epochs. Whatever
    /// happens, it stays as far as it came.
    ///
    /// # Errors
    /// When the settings do not fit the run, or a step fails.
    pub fn go_on<M: LightningModule, D: DataModule<Batch = M::Batch>>(&self, fit: &mut Fit<M>, data: &D) -> Result<()> {
        fit.adjust(self)?;
        fit.run(self, data).map_or(Ok(()), Err)
    }

    /// Refuses values that mean nothing.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, limit) in [
            ("limit-train-batches", self.limit_train_batches),
            ("limit-val-batches", self.limit_val_batches),
            ("limit-test-batches", self.limit_test_batches),
            ("limit-predict-batches", self.limit_predict_batches),
            ("overfit-batches", self.overfit_batches),
            ("val-check-interval", self.val_check_interval),
        ] {
            if let Limit::Fraction(share) = limit
                && !(0.0..=1.0).contains(&share)
            {
                return Err(Error::new(Kind::Option, format!("{name} cannot be {share}"))
                    .hint("a whole number counts batches, a number between 0.0 and 1.0 is a share of them"));
            }
        }
        for (name, value) in [
            ("max-epochs", self.max_epochs.unwrap_or(0)),
            ("max-steps", self.max_steps),
        ] {
            if value < -1 {
                return Err(Error::new(Kind::Option, format!("{name} cannot be {value}")).hint("-1 is no limit"));
            }
        }
        if self.num_sanity_val_steps < -1 {
            let error = format!("num-sanity-val-steps cannot be {}", self.num_sanity_val_steps);
            return Err(Error::new(Kind::Option, error).hint("-1 checks all validation batches, 0 none"));
        }
        if self.accumulate_grad_batches == 0 {
            return Err(
                Error::new(Kind::Option, "accumulate-grad-batches cannot be 0").hint("1 makes a step of each batch")
            );
        }
        if self.check_val_every_n_epoch == Some(0) {
            return Err(Error::new(Kind::Option, "check-val-every-n-epoch cannot be 0")
                .hint("1 validates after each epoch; `limit-val-batches 0` never does"));
        }
        if let Some(value) = self.gradient_clip_val
            && !(value >= 0.0 && value.is_finite())
        {
            return Err(Error::new(Kind::Option, format!("gradient-clip-val cannot be {value}"))
                .hint("it is above 0, usually near 1; 0 does not clip"));
        }
        self.check_scaler()
    }

    pub(crate) fn device(&self) -> Result<Device> {
        let name = self.accelerator.as_str();
        // Before libtorch is asked. Where it fails, there is no device.
        let loaded = if name == "cpu" {
            Ok(false)
        } else {
            lightcell_torch::load_cuda()
        };
        let missing = || {
            let why = match &loaded {
                Err(error) => error.to_string(),
                Ok(_) => format!("libtorch sees {} CUDA devices", Cuda::device_count()),
            };
            Error::new(Kind::Device, format!("there is no {name} device: {why}"))
                .hint("`%gpu` says what is missing; `--accelerator cpu` trains on the CPU")
        };
        let (kind, index) = name.split_once(':').unwrap_or((name, ""));
        let index = match index {
            "" => 0,
            number => number
                .parse()
                .map_err(|_| Error::new(Kind::Option, format!("`{name}` is no device: write cuda:0, cuda:1, …")))?,
        };
        match kind {
            "auto" if Cuda::is_available() => Ok(Device::Cuda(0)),
            "auto" | "cpu" => Ok(Device::Cpu),
            "cuda" | "gpu" if (index as i64) < Cuda::device_count() && Cuda::is_available() => Ok(Device::Cuda(index)),
            "cuda" | "gpu" => Err(missing()),
            _ => Err(Error::new(Kind::Option, format!("`{name}` is no accelerator")).hint("auto, cpu, cuda or cuda:1")),
        }
    }
}

/// `cpu`, `cuda:0`.
pub(crate) fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_batch_is_not_all_batches() {
        let limit = |json: &str| {
            Trainer::from_json(&format!("{{\"limit_train_batches\": {json}}}"))
                .unwrap()
                .limit_train_batches
                .of(20)
        };
        assert_eq!((limit("1"), limit("1.0"), limit("0.5"), limit("99")), (1, 20, 10, 20));
    }

    #[test]
    fn settings_with_a_wrong_name_are_refused() {
        let error = Trainer::from_json(r#"{"max_epoch": 3}"#).unwrap_err();
        assert!(error.message().contains("max_epoch"), "{error}");
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        let error = |json: &str| Trainer::from_json(json).unwrap().check().unwrap_err().to_string();
        let hint = "\nhint: a whole number counts batches, a number between 0.0 and 1.0 is a share of them";
        assert_eq!(
            error(r#"{"limit_val_batches": 1.5}"#),
            format!("limit-val-batches cannot be 1.5{hint}")
        );
        assert_eq!(
            error(r#"{"limit_train_batches": -3}"#),
            format!("limit-train-batches cannot be -3{hint}")
        );
        assert_eq!(
            error(r#"{"max_epochs": -2}"#),
            "max-epochs cannot be -2\nhint: -1 is no limit"
        );
        assert_eq!(
            error(r#"{"max_steps": -2}"#),
            "max-steps cannot be -2\nhint: -1 is no limit"
        );
        assert_eq!(
            error(r#"{"accumulate_grad_batches": 0}"#),
            "accumulate-grad-batches cannot be 0\nhint: 1 makes a step of each batch"
        );
        assert_eq!(
            error(r#"{"gradient_clip_val": -1, "gradient_clip_algorithm": "value", "compat": "lightning"}"#),
            "gradient-clip-val cannot be -1\nhint: it is above 0, usually near 1; 0 does not clip"
        );
        assert!(
            Trainer::from_json(r#"{"fast_dev_run": 0}"#)
                .unwrap()
                .fast_dev_run
                .is_none()
        );
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_that_says_so() {
        assert_eq!(Trainer::new().accelerator("cpu").device().unwrap(), Device::Cpu);
        let error = Trainer::new().accelerator("tpu").device().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`tpu` is no accelerator\nhint: auto, cpu, cuda or cuda:1"
        );
        let error = Trainer::new().accelerator("cuda:x").device().unwrap_err();
        assert_eq!(error.message(), "`cuda:x` is no device: write cuda:0, cuda:1, …");
        if !Cuda::is_available() {
            let error = Trainer::new().accelerator("cuda").device().unwrap_err();
            assert!(
                error.message().starts_with("there is no cuda device: libtorch sees"),
                "{error}"
            );
        }
    }
}
