//! A piece of Rust, from its text to what the user is told: rewritten, compiled, run, judged.

use super::{Evaluated, Executor};
use crate::engine::Failure;
use crate::libraries;
use crate::now::{Phase, Said};
use crate::prepass::{self, Kept};
use crate::publish;
use crate::report::{self, Cell, Report};
use crate::words::Gone;
use lightcell_events::frame::CellEnd;

impl Executor {
    /// Evaluates Rust; everything the cell prints and shows is on its way when this returns.
    pub(crate) fn code(&mut self, rust: &str, count: usize, cell: &str) -> Result<(), Report> {
        self.ran = std::time::Duration::ZERO;
        if rust.trim().is_empty() {
            return Ok(());
        }
        let located = crate::stubs::located(&self.ground.home, &self.ground.rustc, rust).map_err(|error| {
            let hint = "`lightcell setup` repairs the installation";
            Report::plain("SetupError", &format!("{error:#}"), Some(hint))
        })?;
        let rust = located.as_deref().unwrap_or(rust);
        if let Some(asked) = libraries::asked(rust) {
            self.share(&asked)?;
        }
        let mut kept = Vec::new();
        let (rewritten, result) = loop {
            let rewritten = prepass::rewrite(rust, &self.items, &kept);
            self.compiled = false;
            let (mut result, said, before) = self.evaluate(&rewritten.text)?;
            if let Err(Failure::Compile(errors)) = &mut result {
                for kept in &kept {
                    if let Kept::Boxed(boxed) = kept {
                        boxed.explain(errors);
                    }
                }
            }
            match result
                .as_ref()
                .err()
                .and_then(|failure| self.keeping(failure, &rewritten.text))
            {
                // Once a variable: a second time it did not help.
                Some(way) if !kept.contains(&way) => kept.push(way),
                _ => {
                    let typed = |line, column| rewritten.column(line, column);
                    let result = self.conclude((result, said, before), count, cell, typed);
                    break (rewritten, result);
                }
            }
        };
        // Also when it failed as it ran: evcxr keeps the items.
        if self.compiled {
            if !rewritten.anew().is_empty() {
                self.note(&format!(
                    "begin anew, because a type of theirs was defined again: {}\n",
                    rewritten.anew().join(", ")
                ));
            }
            self.items.keep(rewritten);
        }
        result
    }

    /// Builds the crates that a cell asks for as a shared library. Where that fails the cell itself says what is wrong.
    fn share(&mut self, asked: &[libraries::Asked]) -> Result<(), Report> {
        if !self.libraries.lack(asked) {
            return Ok(());
        }
        let session = self.ground.session.path.clone();
        let native = libraries::native(&session);
        let log = |error: anyhow::Error| tracing::warn!("crates are not shared: {error:#}");
        let mut code = self.libraries.add(asked);
        for _ in 0..2 {
            let text = match code {
                Ok(text) => text,
                Err(error) => {
                    log(error);
                    return Ok(());
                }
            };
            let (result, ..) = self.evaluate(&text)?;
            if let Err(failure) = &result {
                log(anyhow::anyhow!("{failure}"));
                self.libraries.give_up().unwrap_or_else(log);
                return Ok(());
            }
            if libraries::native(&session) != native {
                self.libraries.decline().unwrap_or_else(log);
                return self.evaluate(&text).map(drop);
            }
            if !self.libraries.have_changed() {
                return Ok(());
            }
            code = self.libraries.renew();
        }
        Ok(())
    }

    /// How the variable can be kept that a cell failed to keep.
    fn keeping(&mut self, failure: &Failure, rust: &str) -> Option<Kept> {
        let text = failure.to_string();
        let variable = crate::words::without_type(&text)?;
        if let Some(boxed) = prepass::Boxed::new(variable, &text) {
            return Some(Kept::Boxed(boxed));
        }
        // The analyser tells of what ends a text.
        let before = prepass::up_to(variable, rust)?;
        let ends = format!("{before}\n{variable}");
        let hover = self.engine.inspect(&ends, ends.len()).ok().flatten();
        if let Some(boxed) = hover.and_then(|(hover, _)| prepass::Boxed::new(variable, &hover)) {
            return Some(Kept::Boxed(boxed));
        }
        match self.engine.eval(&prepass::question(before, variable)) {
            Err(Failure::Compile(errors)) => prepass::Typed::new(variable, &errors).map(Kept::Typed),
            _ => None,
        }
    }

    /// Evaluates Rust whose columns are not those that the user typed.
    pub(crate) fn moved(
        &mut self,
        rust: &str,
        count: usize,
        cell: &str,
        typed: impl Fn(usize, usize) -> usize,
    ) -> Result<(), Report> {
        let evaluated = self.evaluate(rust)?;
        self.conclude(evaluated, count, cell, typed)
    }

    fn conclude(
        &mut self,
        (result, said, before): Evaluated,
        count: usize,
        cell: &str,
        typed: impl Fn(usize, usize) -> usize,
    ) -> Result<(), Report> {
        match result {
            Ok(outputs) => self.outputs(outputs),
            Err(mut failure) => {
                failure.map_columns(typed);
                return Err(self.failure(failure, count, cell));
            }
        }
        self.judge(said, &before)
    }

    /// Runs evcxr on a text, and says which variables there were before.
    pub(super) fn evaluate(&mut self, rust: &str) -> Result<Evaluated, Report> {
        let before = self.engine.variables();
        {
            let mut state = self.shared.now.lock();
            if state.interrupted {
                return Err(Report::build_stopped());
            }
            state.phase = Phase::Building;
            state.said = Said::default();
        }
        let result = self.engine.eval(rust);
        self.listener.sync();
        // Nobody took over, so nobody has said how a run of that process ended.
        if matches!(result, Err(Failure::Died(_) | Failure::Broken(_))) {
            self.shared.board.lost(&self.shared.publisher);
            self.shared.now.lock().fitting = false;
        }
        let said = {
            let mut state = self.shared.now.lock();
            state.phase = Phase::Idle;
            std::mem::take(&mut state.said)
        };
        self.ran = said.ran.unwrap_or_default();
        self.compiled = result.is_ok();
        if self.compiled {
            self.shared.understudy.after(rust);
        }
        self.shared.adding().end(&self.shared, self.compiled);
        self.note_gone(&before, &said.redefined);
        if !said.redefined.is_empty() {
            let text = format!(
                "dropped, because their types were defined again: {}\n",
                said.redefined.join(", ")
            );
            self.note(&text);
        }
        Ok((result, said, before))
    }

    /// Says something beside a cell's own output.
    fn note(&self, text: &str) {
        let parent = self.shared.now.parent();
        self.shared.publisher.stream(true, text, parent.as_ref());
    }

    /// Remembers which variables are no more since the cell, and why.
    fn note_gone(&mut self, before: &[(String, String)], redefined: &[String]) {
        let count = self.shared.now.lock().count;
        for name in self.gone(before) {
            let why = match redefined.contains(&name) {
                true => Gone::Redefined,
                false => Gone::Moved(count),
            };
            self.gone.insert(name, why);
        }
        for (name, _) in self.engine.variables() {
            self.gone.remove(&name);
        }
    }

    /// Text that evcxr's own commands gave.
    fn outputs(&self, outputs: Vec<(String, String)>) {
        if outputs.is_empty() {
            return;
        }
        let parts: Vec<_> = outputs
            .into_iter()
            .map(|(mime, text)| (mime, text.into_bytes()))
            .collect();
        let (parent, count) = {
            let state = self.shared.now.lock();
            (state.parent.clone(), state.count)
        };
        self.shared
            .publisher
            .result(publish::media(&parts), count, parent.as_ref());
    }

    /// Whether a cell that compiled and ran also succeeded.
    pub(super) fn judge(&mut self, said: Said, before: &[(String, String)]) -> Result<(), Report> {
        if let Some((how, not_kept)) = said.taken_over {
            // The stop is done; the cell that takes variables back is not to be stopped by it.
            let interrupted = std::mem::take(&mut self.shared.now.lock().interrupted);
            let lost = self.reclaim(before);
            let how = if said.stderr_tail.contains("has overflowed its stack") {
                "stack"
            } else {
                &how
            };
            return Err(Report::taken_over(how, &not_kept, interrupted, &lost));
        }
        if let Some((error, hint)) = said.run_failed {
            return Err(Report::plain("FitError", &error, hint.as_deref()));
        }
        match said.ended {
            Some(CellEnd::Panicked) => {
                let panic = said.panic.unwrap_or_default();
                let source = self.engine.last_source();
                let at = |line| report::place(&source, line, &self.cells);
                let place = if panic.file.ends_with("src/lib.rs") {
                    at(panic.line)
                } else {
                    let session = &self.ground.session.path;
                    crate::places::lines(session, &panic.calls).into_iter().find_map(at)
                };
                Err(Report::panic(&panic, place, &self.gone(before)))
            }
            Some(CellEnd::Error) => Err(Report::question_mark(&said.stderr_tail)),
            _ => Ok(()),
        }
    }

    /// Variables that were there before and are not now.
    fn gone(&self, before: &[(String, String)]) -> Vec<String> {
        let now = self.engine.variables();
        before
            .iter()
            .filter(|(name, _)| !now.iter().any(|(other, _)| other == name))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// After a takeover the worker holds all variables of before; evcxr may believe that the cell took some of them.
    fn reclaim(&mut self, before: &[(String, String)]) -> Vec<String> {
        let gone = self.gone(before);
        if gone.is_empty() {
            return gone;
        }
        let wanted: Vec<_> = before.iter().filter(|(name, _)| gone.contains(name)).cloned().collect();
        let result = self.engine.reclaim(&wanted);
        self.listener.sync();
        self.shared.now.lock().said = Said::default();
        if let Err(failure) = result {
            tracing::warn!("cannot take variables back: {failure}");
        }
        self.gone(before)
    }

    pub(super) fn failure(&mut self, mut failure: Failure, count: usize, cell: &str) -> Report {
        if let Failure::Compile(errors) = &mut failure {
            crate::words::sort_out(errors, &self.gone);
        }
        let interrupted = self.shared.now.lock().interrupted;
        if interrupted && !matches!(failure, Failure::Died(_) | Failure::Broken(_)) {
            return Report::build_stopped();
        }
        if let Failure::Died(_) = failure {
            self.items.worker_is_new();
        }
        if let Failure::Broken(_) = failure
            && let Err(error) = self.renew()
        {
            tracing::error!("cannot start evcxr anew: {error:#}");
        }
        Report::engine(&failure, Cell { count, source: cell })
    }
}
