//! Metrics of one run or of several in one chart.

use crate::chart::{Chart, Curve, Tone};
use crate::record::{RunRecord, is_loss, thin};
use crate::view::{html_table, in_columns};
use std::collections::BTreeSet;

/// A run with the number that tables give it.
pub type Numbered<'a> = (usize, &'a RunRecord);

/// What `%plot` and `%compare` show: a chart, and the same in words.
#[derive(Debug)]
pub struct Overlay {
    /// The curves.
    pub chart: Chart,
    /// A line for each curve: best and last value.
    pub text: String,
    /// Chart and lines as HTML.
    pub html: String,
}

/// The metric by which runs are compared when nobody names one: the validation loss, else a loss, else whatever there is.
pub fn main_metric(runs: &[Numbered]) -> Option<String> {
    let names: BTreeSet<&str> = runs.iter().flat_map(|(_, run)| run.names()).collect();
    let rank = |name: &&&str| (is_loss(name), name.starts_with("val"));
    // Of several that are as good, the first.
    names.iter().rev().max_by_key(rank).map(|name| (*name).to_owned())
}

/// The curves of these metrics over the epochs, of all runs that have them. A run is told by its number and by the
/// hyperparameters that differ.
///
/// # Errors
/// When a metric is of none of the runs; the message names those there are.
///
/// ```
/// let error = lightcell_plot::overlay(&[(1, &lightcell_plot::RunRecord::default())], &["val_loss"]).unwrap_err();
/// assert_eq!(error, "no run has a metric `val_loss`: no run has logged one yet");
/// ```
pub fn overlay(runs: &[Numbered], metrics: &[&str]) -> Result<Overlay, String> {
    let mut curves = Vec::new();
    let mut rows = vec![["", "best", "epoch", "last"].map(str::to_owned).to_vec()];
    let differing = differing(runs);
    for metric in metrics {
        let mut found = false;
        for (number, run) in runs {
            let points = run.points(metric);
            let Some((_, last)) = points.last() else { continue };
            found = true;
            let of_run = match run.labels(&differing) {
                labels if labels.is_empty() => format!("run {number}"),
                labels => format!("run {number} {labels}"),
            };
            let name = match (runs.len(), metrics.len()) {
                (1, _) => (*metric).to_owned(),
                (_, 1) => of_run,
                _ => format!("{metric} {of_run}"),
            };
            // Lower is better of a loss or an error, higher of anything else.
            let sign = if lower_is_better(metric) { 1.0 } else { -1.0 };
            let best = points.iter().min_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1)));
            let (epoch, value) = best.copied().unwrap_or_default();
            rows.push(vec![
                name.clone(),
                format!("{value:.4}"),
                format!("{epoch}"),
                format!("{last:.4}"),
            ]);
            curves.push(Curve {
                name,
                tone: Tone::Nth(curves.len()),
                points: thin(&points),
            });
        }
        if !found {
            return Err(unknown(runs, metric));
        }
    }
    let y = match metrics {
        [only] => (*only).to_owned(),
        _ => "metric".to_owned(),
    };
    let chart = Chart {
        x: "epoch".to_owned(),
        y,
        curves,
        ..Chart::default()
    };
    let table = html_table(&rows, "text-align:left;white-space:nowrap");
    let html = format!(
        "<div style=\"max-width:660px;font-size:13px\">{}{table}</div>",
        chart.svg((640, 320))
    );
    Ok(Overlay {
        chart,
        text: in_columns(&rows, |cell, width| format!("{cell:<width$}")),
        html,
    })
}

/// What is said of a metric that no run has.
pub(crate) fn unknown(runs: &[Numbered], metric: &str) -> String {
    let names: BTreeSet<&str> = runs.iter().flat_map(|(_, run)| run.names()).collect();
    let known = match names.is_empty() {
        true => "no run has logged one yet".to_owned(),
        false => format!("there are {}", names.into_iter().collect::<Vec<_>>().join(", ")),
    };
    format!("no run has a metric `{metric}`: {known}")
}

fn lower_is_better(metric: &str) -> bool {
    let words = ["loss", "err", "mse", "mae", "rmse", "perplexity", "lr"];
    words.iter().any(|word| metric.contains(word))
}

/// Hyperparameters that are not the same in all runs.
fn differing(runs: &[Numbered]) -> Vec<String> {
    let Some((_, first)) = runs.first() else {
        return Vec::new();
    };
    let names: BTreeSet<&String> = runs
        .iter()
        .filter_map(|(_, run)| run.hparams.as_object())
        .flat_map(|values| values.keys())
        .collect();
    names
        .into_iter()
        .filter(|name| {
            runs.iter()
                .any(|(_, run)| run.hparams.get(*name) != first.hparams.get(*name))
        })
        .cloned()
        .collect()
}

impl RunRecord {
    /// `lr=0.1 hidden=64` of these hyperparameters.
    fn labels(&self, names: &[String]) -> String {
        let labels: Vec<String> = names
            .iter()
            .filter_map(|name| {
                let value = self.hparams.get(name)?;
                Some(format!(
                    "{name}={}",
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                ))
            })
            .collect();
        labels.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::run;

    #[test]
    fn runs_are_told_by_what_differs() {
        let (mut a, mut b) = (run(8, 8), run(3, 3));
        a.hparams = serde_json::json!({"lr": 0.1, "hidden": 64, "act": "relu"});
        b.hparams = serde_json::json!({"lr": 0.01, "hidden": 64, "act": "tanh"});
        let runs = [(2, &a), (5, &b)];
        let shown = overlay(&runs, &["val_loss"]).unwrap();
        assert_eq!(
            shown.text,
            "                       best    epoch  last\n\
             run 2 act=relu lr=0.1  0.3143  6      0.4700\n\
             run 5 act=tanh lr=0.01  0.5500  3      0.5500\n"
                .replace("run 2 act=relu lr=0.1  ", "run 2 act=relu lr=0.1   ")
                .replace("                       best", "                        best")
        );
        assert_eq!((shown.chart.y.as_str(), shown.chart.curves.len()), ("val_loss", 2));
        assert_ne!(shown.chart.curves[0].tone, shown.chart.curves[1].tone);
        assert_eq!(main_metric(&runs).as_deref(), Some("val_loss"));
        let one = overlay(&runs[..1], &["train_loss", "val_acc"]).unwrap();
        let names: Vec<&str> = one.chart.curves.iter().map(|curve| curve.name.as_str()).collect();
        assert_eq!(names, ["train_loss", "val_acc"]);
        // The highest accuracy is the best.
        assert!(one.text.contains("val_acc     0.8952  6      0.8433"), "{}", one.text);
        assert_eq!(
            overlay(&runs, &["val_los"]).unwrap_err(),
            "no run has a metric `val_los`: there are train_loss, val_acc, val_loss"
        );
        assert!(shown.chart.svg((640, 320)).contains("run 5 act=tanh lr=0.01"));
    }
}
