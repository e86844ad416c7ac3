//! Magics for models, from their line to what the user is told.

use super::Executor;
use crate::engine::Failure;
use crate::magic;
use crate::models;
use crate::report::{Cell, Report};
use lightcell_magics::{FitCall, ModelCall};

/// Whether the compiler refuses the variable `fit`: its model was defined anew, and the run of the old one went with it.
fn is_about_fit(failure: &Failure) -> bool {
    matches!(failure, Failure::Compile(errors) if errors.iter().any(|error| error.message.contains("`fit`")))
}

impl Executor {
    pub(super) fn fit(&mut self, fit: &FitCall, count: usize, cell: &str) -> Result<(), Report> {
        let mut fit = fit.clone();
        let mut why = None;
        if models::begins_anew(&fit, &self.engine.variables())
            && let Some((device, reason)) = self.shared.devices.choose()
        {
            fit.options.insert("accelerator".to_owned(), device.into());
            why = reason;
        }
        if let Some(why) = why {
            self.say(&why);
        }
        let fit = &fit;
        for go_on in [true, false] {
            let rust = models::fit_code(fit, &self.engine.variables(), &self.engine.items(), go_on)
                .map_err(|error| magic::report(&error, count, cell))?;
            let (result, said, before) = self.evaluate(&rust)?;
            match result {
                Ok(_) => return self.judge(said, &before),
                // The model was defined anew, and the run of the old one went with it: begin anew.
                Err(failure) if go_on && is_about_fit(&failure) => {}
                Err(Failure::Compile(errors)) if !self.shared.now.lock().interrupted => {
                    return Err(models::explain(&fit.subject, &errors, Cell { count, source: cell }));
                }
                Err(failure) => return Err(self.failure(failure, count, cell)),
            }
        }
        Ok(())
    }

    pub(super) fn model(&mut self, call: &ModelCall, count: usize, cell: &str) -> Result<(), Report> {
        for known in [true, false] {
            let rust = models::model_code(call, &self.engine.variables(), &self.engine.items(), known)
                .map_err(|error| magic::report(&error, count, cell))?;
            let (result, mut said, before) = self.evaluate(&rust)?;
            match result {
                Ok(_) => {
                    let suggestion = said.suggestion.take();
                    self.judge(said, &before)?;
                    if let Some(text) = models::how_to_use(call, suggestion) {
                        self.say(&text);
                    }
                    return Ok(());
                }
                Err(failure) if known && call.subject.model != "fit" && is_about_fit(&failure) => {}
                Err(Failure::Compile(errors)) if !self.shared.now.lock().interrupted => {
                    let cell = Cell { count, source: cell };
                    return Err(models::explain(&call.subject, &errors, cell));
                }
                Err(failure) => return Err(self.failure(failure, count, cell)),
            }
        }
        Ok(())
    }
}
