//! A run on the terminal: a bar for the loop at hand, and a line for each epoch. Where standard error is no terminal, the
//! lines alone.

use lightcell_events::run::{Metrics, RunEvent, Stage, Task};
use std::io::{IsTerminal, Write};

/// Signs of a bar.
const BAR: usize = 20;

/// What stands on the terminal.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    /// Signs of the bar's line, to be written over.
    width: usize,
    /// Index after the last epoch.
    epochs: u64,
    /// What is done outside of a run.
    task: Option<Task>,
}

impl Terminal {
    pub fn show(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Started { max_epochs, .. } => self.epochs = *max_epochs,
            RunEvent::TaskStarted { task, .. } => self.task = Some(*task),
            RunEvent::Step { .. } if std::io::stderr().is_terminal() => {
                let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
                let line: String = self.bar(event).chars().take(columns.unwrap_or(80) - 1).collect();
                eprint!("\r{line:<width$}", width = self.width);
                self.width = line.chars().count();
                let _ = std::io::stderr().flush();
            }
            RunEvent::Epoch {
                epoch,
                metrics,
                seconds,
                ..
            } => {
                self.line(&format!("epoch {} · {} · {seconds:.2} s", epoch + 1, text(metrics)));
            }
            RunEvent::Note { text, .. } => self.line(text),
            RunEvent::Finished { .. } if self.width > 0 => self.line(""),
            _ => {}
        }
    }

    /// `epoch 1/3 ━━━━━╺──────────────  26% 250/938 · 1650 it/s · train_loss 0.4312`.
    fn bar(&self, event: &RunEvent) -> String {
        let RunEvent::Step {
            stage,
            epoch,
            batch,
            batches,
            rate,
            metrics,
            ..
        } = event
        else {
            return String::new();
        };
        let of = match self.epochs {
            0 | u64::MAX => String::new(),
            all => format!("/{all}"),
        };
        let name = match stage {
            Stage::Train => "",
            _ => " validation",
        };
        let share = *batch as f64 / (*batches).max(1) as f64;
        let full = ((share * BAR as f64) as usize).min(BAR);
        let bar = "━".repeat(full) + &"─".repeat(BAR - full);
        let head = match self.task {
            None => format!("epoch {}{of}{name}", epoch + 1),
            Some(Task::Validate) => "validation".to_owned(),
            Some(Task::Test) => "test".to_owned(),
            Some(Task::Predict) => "prediction".to_owned(),
            Some(Task::LrFind) => "lr_find".to_owned(),
            Some(Task::ScaleBatchSize) => "scale_batch_size".to_owned(),
        };
        let mut line = format!(
            "{head} {bar} {:>3.0}% {batch}/{batches} · {rate:.0} it/s",
            100.0 * share
        );
        if !metrics.is_empty() {
            line = format!("{line} · {}", text(metrics));
        }
        line
    }

    /// A line of its own, over the bar if there is one.
    fn line(&mut self, line: &str) {
        let back = if self.width > 0 { "\r" } else { "" };
        eprintln!("{back}{line:<width$}", width = self.width);
        self.width = 0;
    }
}

fn text(metrics: &Metrics) -> String {
    let parts: Vec<String> = metrics
        .iter()
        .map(|(name, value)| format!("{name} {value:.4}"))
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_epoch_share_rate_and_metrics() {
        let mut event = RunEvent::Step {
            run: String::new(),
            stage: Stage::Train,
            epoch: 0,
            batch: 250,
            batches: 1000,
            step: 250,
            metrics: Metrics::from([("train_loss".to_owned(), 0.43125)]),
            rate: 1650.4,
        };
        let mut terminal = Terminal {
            epochs: 3,
            ..Terminal::default()
        };
        assert_eq!(
            terminal.bar(&event),
            "epoch 1/3 ━━━━━───────────────  25% 250/1000 · 1650 it/s · train_loss 0.4313"
        );
        // A run that only time or steps end.
        terminal.epochs = u64::MAX;
        if let RunEvent::Step {
            stage, batch, metrics, ..
        } = &mut event
        {
            (*stage, *batch) = (Stage::Validate, 1000);
            metrics.clear();
        }
        assert_eq!(
            terminal.bar(&event),
            "epoch 1 validation ━━━━━━━━━━━━━━━━━━━━ 100% 1000/1000 · 1650 it/s"
        );
        // Outside of a run there is no epoch.
        terminal.task = Some(Task::Test);
        let bar = terminal.bar(&event);
        assert!(bar.starts_with("test ━") && bar.ends_with(" it/s"), "{bar}");
    }
}
