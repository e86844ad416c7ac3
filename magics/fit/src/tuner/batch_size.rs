//! The search for the largest batch that fits into the device's memory (Lightning's `scale_batch_size`).

use super::{Listener, Snapshot, Tuner, as_json, set_field};
use crate::data::DataModule;
use crate::error::{Error, Kind, Result};
use crate::fit::{Fit, type_name};
use crate::module::LightningModule;
use crate::progress::{Outside, Reporter};
use crate::steps::guarded;
use crate::trainer::{Compat, device_name};
use lightcell_events::run::Task;
use serde::Deserialize;
use std::cell::RefCell;
use std::rc::Rc;

/// How batch sizes are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchSizeMode {
    /// Twice the size as long as it fits.
    #[default]
    Power,
    /// As `Power`, then the largest between the last that fitted and the first that did not.
    Binsearch,
}

/// Settings of [`Tuner::scale_batch_size`], under Lightning's names and with its defaults.
///
/// ```
/// use lightcell::prelude::*;
/// let search = ScaleBatchSize::new().mode(BatchSizeMode::Binsearch).init_val(16).max_val(1024);
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScaleBatchSize {
    mode: BatchSizeMode,
    steps_per_trial: u64,
    init_val: usize,
    max_trials: u64,
    batch_arg_name: String,
    margin: f64,
    max_val: usize,
}

impl Default for ScaleBatchSize {
    fn default() -> ScaleBatchSize {
        ScaleBatchSize {
            mode: BatchSizeMode::Power,
            steps_per_trial: 3,
            init_val: 2,
            max_trials: 25,
            batch_arg_name: "batch_size".to_owned(),
            margin: 0.05,
            max_val: 8192,
        }
    }
}

impl ScaleBatchSize {
    /// All defaults.
    pub fn new() -> ScaleBatchSize {
        ScaleBatchSize::default()
    }

    /// How sizes are tried; by doubling.
    #[must_use]
    pub fn mode(mut self, mode: BatchSizeMode) -> ScaleBatchSize {
        self.mode = mode;
        self
    }

    /// Optimizer steps with each size, and one validation batch after them; 3.
    #[must_use]
    pub fn steps_per_trial(mut self, steps: u64) -> ScaleBatchSize {
        self.steps_per_trial = steps;
        self
    }

    /// The size to begin with; 2.
    #[must_use]
    pub fn init_val(mut self, size: usize) -> ScaleBatchSize {
        self.init_val = size;
        self
    }

    /// Sizes that are tried at most; 25.
    #[must_use]
    pub fn max_trials(mut self, trials: u64) -> ScaleBatchSize {
        self.max_trials = trials;
        self
    }

    /// The hyperparameter that is set to the size, if there is one of this name; `batch_size`.
    #[must_use]
    pub fn batch_arg_name(mut self, name: &str) -> ScaleBatchSize {
        self.batch_arg_name = name.to_owned();
        self
    }

    /// By which share the size is made smaller when a larger one did not fit: a run needs more than three steps do; 0.05. (In
    /// Lightning only `Binsearch` has it.)
    #[must_use]
    pub fn margin(mut self, share: f64) -> ScaleBatchSize {
        self.margin = share;
        self
    }

    /// The largest size to try; 8192.
    #[must_use]
    pub fn max_val(mut self, size: usize) -> ScaleBatchSize {
        self.max_val = size;
        self
    }

    fn check(&self) -> Result<()> {
        let fault = |text: String, hint: &str| Err(Error::new(Kind::Option, text).hint(hint));
        if !(0.0..1.0).contains(&self.margin) {
            return fault(format!("margin cannot be {}", self.margin), "it is a share: 0.05");
        }
        let counts = [
            ("steps-per-trial", self.steps_per_trial),
            ("init-val", self.init_val as u64),
            ("max-trials", self.max_trials),
            ("max-val", self.max_val as u64),
        ];
        match counts.into_iter().find(|(_, count)| *count == 0) {
            Some((name, _)) => fault(format!("{name} cannot be 0"), "it counts from 1"),
            None => Ok(()),
        }
    }

    /// The largest size that fits, and whether one did not. `limit` is the number of samples.
    fn search(&self, limit: usize, mut fits: impl FnMut(usize) -> Result<bool>) -> Result<(usize, bool)> {
        let most = self.max_val.min(limit);
        let (mut size, mut good, mut bad) = (self.init_val.min(most), 0, None);
        for _ in 0..self.max_trials {
            if fits(size)? {
                good = size;
            } else {
                bad = Some(size);
            }
            size = match bad {
                None if good == most => break,
                None => good.saturating_mul(2).min(most),
                // None has fitted so far: on down.
                Some(bad) if good == 0 => bad / 2,
                Some(bad) if self.mode == BatchSizeMode::Binsearch && bad - good > 1 => good + (bad - good) / 2,
                Some(_) => break,
            };
            if size == 0 {
                break;
            }
        }
        match good {
            0 => Err(Error::new(
                Kind::Memory,
                "no batch size that was tried fits into the device's memory",
            )
            .hint("use a smaller model, or another device")),
            good => Ok((good, bad.is_some())),
        }
    }
}

/// Sizes and whether they fit, as they are tried.
#[derive(Default)]
struct Tried(Vec<(usize, &'static str)>);

impl Tried {
    fn add(&mut self, size: usize, fits: bool, reporter: &mut Reporter) {
        self.0.push((size, if fits { "fits" } else { "too large" }));
        reporter.table(self.rows());
    }

    /// The size that is to be used, the last row.
    fn found(&self, size: usize, reporter: &mut Reporter) {
        let mut rows = self.rows();
        rows.push(vec![size.to_string(), "to be used".to_owned()]);
        reporter.table(rows);
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |(size, what): &(usize, &str)| vec![size.to_string(), (*what).to_owned()];
        let head = vec!["batch size".to_owned(), "memory".to_owned()];
        std::iter::once(head).chain(self.0.iter().map(row)).collect()
    }
}

impl Tuner {
    /// The largest batch size that fits into the device's memory, up to the number of training samples. `data` makes the
    /// data with a batch size. Each size is tried with optimizer steps and a validation batch.
    ///
    /// The hyperparameter `batch_size` is set to it, if there is one.
    ///
    /// # Errors
    /// When a setting means nothing, no size fits, or a step fails for another reason than memory. Nothing has changed then.
    pub fn scale_batch_size<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        fit: &mut Fit<M>,
        data: impl Fn(usize) -> D,
        settings: &ScaleBatchSize,
    ) -> Result<usize> {
        self.scale_batch_size_within(fit, data, settings, Reporter::new(Outside::here()))
    }

    pub(crate) fn scale_batch_size_within<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        fit: &mut Fit<M>,
        data: impl Fn(usize) -> D,
        settings: &ScaleBatchSize,
        reporter: Reporter,
    ) -> Result<usize> {
        settings.check()?;
        fit.adjust(&self.trainer)?;
        let snapshot = Snapshot::take(fit)?;
        let listener = Rc::new(RefCell::new(reporter));
        let device = device_name(fit.progress.device);
        listener
            .borrow_mut()
            .task(Task::ScaleBatchSize, type_name::<M>(), device, 0);
        let mut tried = Tried::default();
        let found = self.scaled(fit, data, settings, &snapshot, &listener, &mut tried);
        let mut reporter = listener.borrow_mut();
        if let Ok(size) = &found {
            tried.found(*size, &mut reporter);
        }
        reporter.task_over(tried.0.len() as u64, found.as_ref().err());
        found
    }

    fn scaled<M: LightningModule, D: DataModule<Batch = M::Batch>>(
        &self,
        fit: &mut Fit<M>,
        data: impl Fn(usize) -> D,
        settings: &ScaleBatchSize,
        snapshot: &Snapshot,
        listener: &Listener,
        rows: &mut Tried,
    ) -> Result<usize> {
        let found = guarded(|| Ok(data(settings.init_val).train_dataloader().samples()))
            .map_err(|error| error.at("the data cannot be loaded"))
            .and_then(|samples| {
                if samples == 0 {
                    return Err(Error::new(
                        Kind::Data,
                        "there are no training data: the data set is empty",
                    ));
                }
                settings.search(samples, |size| {
                    let tried = guarded(|| Ok(data(size))).and_then(|data| {
                        self.run(fit, &self.trial(settings.steps_per_trial, 1), &data, listener, None)
                    });
                    // Before the next size: what did not fit is gone, and each begins with the same model.
                    snapshot.restore(fit)?;
                    if fit.progress.device != tch::Device::Cpu {
                        let _ = lightcell_torch::empty_cache(fit.progress.device);
                    }
                    if listener.borrow_mut().stopped() {
                        return Err(super::stopped());
                    }
                    match tried {
                        Ok(()) => {
                            rows.add(size, true, &mut listener.borrow_mut());
                            Ok(true)
                        }
                        Err(error) if error.kind() == Kind::Memory => {
                            rows.add(size, false, &mut listener.borrow_mut());
                            Ok(false)
                        }
                        Err(error) if error.kind() == Kind::Stopped => Err(error),
                        Err(error) => Err(error.at(&format!("batch size {size}"))),
                    }
                })
            });
        let restored = snapshot.restore(fit);
        let (size, tight) = found.map_err(|error| error.at("scale_batch_size"))?;
        restored?;
        let lightning = self.trainer.compat == Compat::Lightning && settings.mode == BatchSizeMode::Power;
        let size = match tight && !lightning {
            true => ((size as f64 * (1.0 - settings.margin)) as usize).max(1),
            false => size,
        };
        if as_json::<M>(&fit.hparams).get(&settings.batch_arg_name).is_some() {
            set_field(fit, &settings.batch_arg_name, serde_json::json!(size))?;
        }
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes that are tried, and the result, when so much fits.
    fn tried(settings: ScaleBatchSize, samples: usize, fit: usize) -> (Vec<usize>, Result<(usize, bool)>) {
        let mut sizes = Vec::new();
        let found = settings.search(samples, |size| {
            sizes.push(size);
            Ok(size <= fit)
        });
        (sizes, found)
    }

    #[test]
    fn sizes_are_doubled_then_halved_between() {
        let power = ScaleBatchSize::new();
        let search = power.clone().mode(BatchSizeMode::Binsearch);
        assert_eq!(
            tried(power.clone(), 1000, 37),
            (vec![2, 4, 8, 16, 32, 64], Ok((32, true)))
        );
        let (sizes, found) = tried(search.clone(), 1000, 37);
        assert_eq!(
            (sizes, found),
            (vec![2, 4, 8, 16, 32, 64, 48, 40, 36, 38, 37], Ok((37, true)))
        );
        // The data set, and the largest that is wanted.
        assert_eq!(tried(power.clone(), 20, 99), (vec![2, 4, 8, 16, 20], Ok((20, false))));
        assert_eq!(
            tried(power.clone().max_val(10), 99, 99),
            (vec![2, 4, 8, 10], Ok((10, false)))
        );
        // The first is too large already.
        assert_eq!(
            tried(power.clone().init_val(64), 99, 9),
            (vec![64, 32, 16, 8], Ok((8, true)))
        );
        assert_eq!(tried(search.init_val(64), 99, 9).1, Ok((9, true)));
        assert_eq!(
            tried(power.clone().max_trials(3), 99, 99),
            (vec![2, 4, 8], Ok((8, false)))
        );
        let (sizes, found) = tried(power, 99, 0);
        assert_eq!(sizes, [2, 1]);
        assert_eq!(
            found.unwrap_err().to_string(),
            "no batch size that was tried fits into the device's memory\nhint: use a smaller model, or another device"
        );
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        let error = |settings: ScaleBatchSize| settings.check().unwrap_err().to_string();
        assert_eq!(
            error(ScaleBatchSize::new().margin(1.0)),
            "margin cannot be 1\nhint: it is a share: 0.05"
        );
        assert_eq!(
            error(ScaleBatchSize::new().init_val(0)),
            "init-val cannot be 0\nhint: it counts from 1"
        );
    }
}
