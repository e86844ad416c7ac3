//! What is done with a model outside of a run, in words and as HTML: validation, test, prediction, the searches of the tuner.

use crate::chart::{Chart, Curve, Tone};
use crate::view::{duration, in_columns, thousands};
use lightcell_events::escape;
use lightcell_events::run::{Metrics, RunEvent, Status, Task};
use std::fmt::Write;

/// A task, from its events.
#[derive(Debug, Clone, Default)]
pub struct TaskRecord {
    task: Option<Task>,
    model: String,
    device: String,
    batches: u64,
    now: Option<Now>,
    rows: Vec<Vec<String>>,
    curve: Vec<(f64, f64)>,
    suggestion: Option<(f64, f64)>,
    end: Option<(Status, f64)>,
}

/// Where it is.
#[derive(Debug, Clone)]
struct Now {
    batch: u64,
    batches: u64,
    metrics: Metrics,
    rate: f64,
}

impl TaskRecord {
    /// Takes an event; those of runs are passed over.
    pub fn apply(&mut self, event: &RunEvent) {
        match event {
            RunEvent::TaskStarted {
                task,
                model,
                device,
                batches,
                ..
            } => {
                *self = TaskRecord {
                    task: Some(*task),
                    model: model.clone(),
                    device: device.clone(),
                    batches: *batches,
                    ..TaskRecord::default()
                };
            }
            RunEvent::Step {
                batch,
                batches,
                metrics,
                rate,
                ..
            } => {
                self.now = Some(Now {
                    batch: *batch,
                    batches: *batches,
                    metrics: metrics.clone(),
                    rate: *rate,
                });
            }
            RunEvent::Table { rows, .. } => self.rows = rows.clone(),
            RunEvent::LrCurve { points, suggestion, .. } => {
                (self.curve, self.suggestion) = (points.clone(), *suggestion);
            }
            RunEvent::Finished { status, seconds, .. } => self.end = Some((*status, *seconds)),
            RunEvent::Started { .. } | RunEvent::Epoch { .. } | RunEvent::Checkpoint { .. } | RunEvent::Note { .. } => {
            }
        }
    }

    /// In words: what it is, how far it is, and what came of it.
    pub fn text(&self) -> String {
        const WIDTH: usize = 24;
        let full = (self.share() * WIDTH as f64).round() as usize;
        let bar = format!("[{}{}] ", "█".repeat(full), "·".repeat(WIDTH - full));
        let bar = if self.end.is_none() { bar } else { String::new() };
        let mut text = format!("{}\n{bar}{}\n", self.headline(), self.words());
        text.push_str(&in_columns(&self.rows, |cell, width| format!("{cell:<width$}")));
        text
    }

    /// As HTML; no script, colours of the page.
    pub fn html(&self) -> String {
        let mut html = String::from("<div style=\"max-width:660px;font-size:13px;line-height:1.5\">");
        let _ = write!(html, "<div><b>{}</b></div>", escape(&self.headline()));
        if self.end.is_none() {
            let share = self.share() * 100.0;
            let _ = write!(
                html,
                "<div style=\"height:5px;background:rgba(136,136,136,.25);border-radius:3px;margin:4px 0\" role=\"progressbar\" aria-valuenow=\"{share:.0}\">\
                 <div style=\"height:5px;width:{share:.1}%;background:#3480ce;border-radius:3px\"></div></div>"
            );
        }
        let _ = write!(html, "<div>{}</div>", escape(&self.words()));
        if let Some(chart) = self.chart() {
            html.push_str(&chart.svg((640, 320)));
        }
        if !self.rows.is_empty() {
            html.push_str("<table style=\"border-collapse:collapse;font-variant-numeric:tabular-nums\">");
            for (index, row) in self.rows.iter().enumerate() {
                html.push_str("<tr>");
                let tag = if index == 0 { "th" } else { "td" };
                for cell in row {
                    let _ = write!(
                        html,
                        "<{tag} style=\"text-align:left;padding:1px 10px;background:none\">{}</{tag}>",
                        escape(cell)
                    );
                }
                html.push_str("</tr>");
            }
            html.push_str("</table>");
        }
        html.push_str("</div>");
        html
    }

    /// The losses over the learning rates, when there are any, with the suggestion marked.
    pub fn chart(&self) -> Option<Chart> {
        let loss = Curve {
            name: "loss".to_owned(),
            tone: Tone::Train,
            points: self.curve.clone(),
        };
        let suggested = self.suggestion.map(|point| Curve {
            name: format!("suggestion {:.2e}", point.0),
            tone: Tone::Validation,
            points: vec![point],
        });
        (!self.curve.is_empty()).then(|| Chart {
            x: "learning rate".to_owned(),
            y: "loss".to_owned(),
            curves: std::iter::once(loss).chain(suggested).collect(),
            mark: self.suggestion,
            log_x: true,
            ..Chart::default()
        })
    }

    fn headline(&self) -> String {
        let what = match self.task {
            Some(Task::Validate) | None => "validation",
            Some(Task::Test) => "test",
            Some(Task::Predict) => "prediction",
            Some(Task::LrFind) => "lr_find",
            Some(Task::ScaleBatchSize) => "scale_batch_size",
        };
        format!("{what} · {} on {}", self.model, self.device)
    }

    fn share(&self) -> f64 {
        match &self.now {
            Some(now) => (now.batch as f64 / now.batches.max(1) as f64).clamp(0.0, 1.0),
            None => 0.0,
        }
    }

    /// What is counted.
    fn unit(&self) -> &'static str {
        match self.task {
            Some(Task::LrFind) => "step",
            _ => "batch",
        }
    }

    fn words(&self) -> String {
        let done = self.now.as_ref().map(|now| now.batch);
        if let Some((status, seconds)) = self.end {
            let what = match status {
                Status::Completed => "done",
                Status::Stopped => "stopped",
                Status::Failed => "failed",
            };
            let plural = if self.unit() == "step" { "steps" } else { "batches" };
            let count = done.map_or(String::new(), |done| format!("{} {plural}, ", thousands(done)));
            let mut words = format!("{what}: {count}{}", duration(seconds));
            if let Some((lr, _)) = self.suggestion {
                let _ = write!(words, " · suggested learning rate {lr:.2e}");
            }
            return words;
        }
        let Some(now) = &self.now else {
            return match self.batches {
                0 => "begins".to_owned(),
                all => format!("{} 0/{all}", self.unit()),
            };
        };
        let mut words = format!("{} {}/{} · {:.0} it/s", self.unit(), now.batch, now.batches, now.rate);
        for (name, value) in &now.metrics {
            let _ = write!(words, " · {name} {value:.4}");
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lightcell_events::run::{Stage, VERSION};

    fn begun(task: Task, batches: u64) -> TaskRecord {
        let mut record = TaskRecord::default();
        record.apply(&RunEvent::TaskStarted {
            version: VERSION,
            run: "t".into(),
            task,
            shown: true,
            model: "A<B>".into(),
            device: "cpu".into(),
            batches,
        });
        record
    }

    fn step(record: &mut TaskRecord, batch: u64, batches: u64) {
        record.apply(&RunEvent::Step {
            run: "t".into(),
            stage: Stage::Test,
            epoch: 0,
            batch,
            batches,
            step: 7,
            metrics: [("test_loss".to_owned(), 0.5)].into(),
            rate: 123.4,
        });
    }

    fn finish(record: &mut TaskRecord, status: Status) {
        record.apply(&RunEvent::Finished {
            run: "t".into(),
            status,
            epochs: 0,
            step: 0,
            seconds: 1.25,
            error: None,
            hint: None,
        });
    }

    #[test]
    fn a_test_shows_how_far_it_is_and_then_its_table() {
        let mut record = begun(Task::Test, 4);
        assert_eq!(
            record.text(),
            "test · A<B> on cpu\n[························] batch 0/4\n"
        );
        step(&mut record, 2, 4);
        assert_eq!(
            record.text(),
            "test · A<B> on cpu\n[████████████············] batch 2/4 · 123 it/s · test_loss 0.5000\n"
        );
        step(&mut record, 4, 4);
        let row = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
        record.apply(&RunEvent::Table {
            run: "t".into(),
            rows: vec![
                row("Test metric", "DataLoader 0"),
                row("test_loss", "0.5"),
                row("a<b", "NaN"),
            ],
        });
        finish(&mut record, Status::Completed);
        assert_eq!(
            record.text(),
            "test · A<B> on cpu\ndone: 4 batches, 1.2 s\nTest metric  DataLoader 0\ntest_loss    0.5\na<b          NaN\n"
        );
        let html = record.html();
        assert!(
            html.contains("A&lt;B&gt; on cpu") && html.contains(">a&lt;b</td>"),
            "{html}"
        );
        assert!(!html.contains("progressbar") && !html.contains("<script"), "{html}");
        assert!(record.chart().is_none());
    }

    #[test]
    fn a_search_is_drawn_with_its_suggestion() {
        let mut record = begun(Task::LrFind, 100);
        step(&mut record, 100, 100);
        record.apply(&RunEvent::LrCurve {
            run: "t".into(),
            points: (0..100)
                .map(|i| (1e-8 * 1.2f64.powi(i), 2.0 - 0.01 * f64::from(i)))
                .collect(),
            suggestion: Some((2.14e-4, 1.4)),
            attr_name: Some("lr".into()),
        });
        finish(&mut record, Status::Completed);
        let text = record.text();
        assert!(
            text.ends_with("done: 100 steps, 1.2 s · suggested learning rate 2.14e-4\n"),
            "{text}"
        );
        let chart = record.chart().unwrap();
        assert_eq!((chart.mark, chart.log_x), (Some((2.14e-4, 1.4)), true));
        let svg = chart.svg((640, 320));
        assert!(
            svg.contains("suggestion 2.14e-4") && svg.contains("learning rate"),
            "{svg}"
        );
        assert!(record.html().contains("<svg"));
    }

    #[test]
    fn a_stopped_search_has_no_curve() {
        let mut record = begun(Task::ScaleBatchSize, 0);
        assert!(record.text().ends_with("] begins\n"));
        finish(&mut record, Status::Stopped);
        assert_eq!(record.text(), "scale_batch_size · A<B> on cpu\nstopped: 1.2 s\n");
    }
}
