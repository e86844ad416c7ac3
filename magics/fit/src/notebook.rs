//! What the two lines call that `%fit` becomes.

use crate::data::DataModule;
use crate::error::Result;
use crate::fit::Fit;
use crate::module::LightningModule;
use crate::progress;
use crate::trainer::Trainer;

/// Trains a model of this type on the data. `options` is JSON with [`Trainer`]'s settings; `previous`, a run of the same
/// type, goes on (unless `restart` is set).
///
/// Once a model exists it is returned, whatever happened to the run: the kernel has heard of the failure by an event. A
/// run that failed before leaves `previous` as it was.
///
/// # Errors
/// When there is nothing to return.
pub fn fit<M: LightningModule, D: DataModule<Batch = M::Batch>>(
    data: &D,
    options: &str,
    previous: Option<Fit<M>>,
) -> Result<Fit<M>> {
    let begun = Trainer::from_json(options).and_then(|trainer| {
        let fresh = match &previous {
            Some(_) if !trainer.restart => None,
            _ => Some(Fit::build(M::HParams::default(), &trainer)?),
        };
        Ok((trainer, fresh))
    });
    match (begun, previous) {
        (Ok((trainer, Some(fresh))), previous) => {
            let fresh = train(fresh, &trainer, data);
            // A run that failed before its first step is worth less than the one before it.
            Ok(match previous {
                Some(previous) if fresh.progress.step == 0 => previous,
                _ => fresh,
            })
        }
        (Ok((trainer, None)), Some(previous)) => Ok(train(previous, &trainer, data)),
        (Ok((trainer, None)), None) => Ok(train(Fit::build(M::HParams::default(), &trainer)?, &trainer, data)),
        (Err(error), Some(previous)) => {
            progress::failed_before(&error);
            Ok(previous)
        }
        (Err(error), None) => {
            progress::failed_before(&error);
            Err(error)
        }
    }
}

/// Goes on with a run that a variable holds.
///
/// # Errors
/// None now; the form is [`fit`]'s.
pub fn go_on<M: LightningModule, D: DataModule<Batch = M::Batch>>(
    run: Fit<M>,
    data: &D,
    options: &str,
) -> Result<Fit<M>> {
    fit(data, options, Some(run))
}

fn train<M: LightningModule, D: DataModule<Batch = M::Batch>>(mut fit: Fit<M>, trainer: &Trainer, data: &D) -> Fit<M> {
    // The error, if any, went out with the run's last event.
    let _ = fit.run(trainer, data);
    fit
}
