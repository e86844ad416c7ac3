//! Several runs as a table: what they were made with, and what came of them.

use crate::record::RunRecord;
use crate::view::{duration, html_table, in_columns};
use lightcell_events::run::Status;

/// An order of runs: by the last value of a metric.
#[derive(Debug, Clone, Copy)]
pub struct Sort<'a> {
    /// Its name, such as `val_loss`.
    pub metric: &'a str,
    /// The highest value first; else the lowest.
    pub max: bool,
}

/// Runs as a table in words and as HTML, the newest last, or by a metric's last value. Runs have numbers from 1, in the order
/// in which they began.
///
/// # Errors
/// When no run has such a metric; the message names those there are.
///
/// ```
/// use lightcell_plot::{RunRecord, Sort, listing};
/// let (text, html) = listing(&[&RunRecord::default()], None)?;
/// assert!(text.starts_with("run  status") && html.contains("<table"));
/// assert!(listing(&[&RunRecord::default()], Some(Sort { metric: "val_loss", max: false })).is_err());
/// # Ok::<(), String>(())
/// ```
pub fn listing(runs: &[&RunRecord], sort: Option<Sort>) -> Result<(String, String), String> {
    let mut names: Vec<&str> = runs.iter().flat_map(|run| run.names()).collect();
    names.sort_unstable();
    names.dedup();
    let mut numbered: Vec<(usize, &RunRecord)> = (1..).zip(runs.iter().copied()).collect();
    if let Some(Sort { metric, max }) = sort {
        if !names.contains(&metric) {
            let known = match names.is_empty() {
                true => "no run has logged one yet".to_owned(),
                false => format!("there are {}", names.join(", ")),
            };
            return Err(format!("no run has a metric `{metric}`: {known}"));
        }
        // Runs without it come last.
        let value = |run: &RunRecord| match run.last(metric) {
            Some(value) if max => -value,
            Some(value) => value,
            None => f64::INFINITY,
        };
        numbered.sort_by(|a, b| value(a.1).total_cmp(&value(b.1)));
    }
    // What is wanted most first: a notebook cuts what is too wide.
    let mut head = vec!["run", "status", "model", "epochs", "time", "best"];
    head.extend(&names);
    head.extend(["hyperparameters", "device"]);
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for (number, run) in numbered {
        let seconds = match &run.end {
            Some(end) => end.seconds,
            None => run.epochs.iter().map(|epoch| epoch.seconds).sum(),
        };
        let status = match run.end.as_ref().map(|end| end.status) {
            None => "running",
            Some(Status::Completed) => "done",
            Some(Status::Stopped) => "stopped",
            Some(Status::Failed) => "failed",
        };
        let best = run.best().map(|best| format!("epoch {}", run.epochs[best].epoch + 1));
        let mut row = vec![
            number.to_string(),
            status.to_owned(),
            run.model.clone(),
            run.epochs.len().to_string(),
            duration(seconds),
            best.unwrap_or_default(),
        ];
        row.extend(
            names
                .iter()
                .map(|name| run.last(name).map_or(String::new(), |value| format!("{value:.4}"))),
        );
        row.extend([hyperparameters(&run.hparams), run.device.clone()]);
        rows.push(row);
    }
    let text = in_columns(&rows, |cell, width| format!("{cell:<width$}"));
    let html = html_table(&rows, "text-align:left;white-space:nowrap");
    Ok((text, format!("<div style=\"overflow-x:auto\">{html}</div>")))
}

/// `lr=0.001 hidden=512`; values that are no plain ones are left out.
fn hyperparameters(values: &serde_json::Value) -> String {
    let Some(values) = values.as_object() else {
        return String::new();
    };
    let plain = values
        .iter()
        .filter(|(_, value)| !value.is_object() && !value.is_array());
    let words: Vec<String> = plain
        .map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name}={text}"),
            None => format!("{name}={value}"),
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::run;
    use lightcell_events::run::RunEvent;

    #[test]
    fn runs_are_listed_with_what_came_of_them() {
        let (mut short, long) = (run(2, 2), run(8, 10));
        short.hparams = serde_json::json!({"lr": 0.5, "name": "a<b", "list": [1]});
        short.apply(&RunEvent::Finished {
            run: "r".into(),
            status: Status::Completed,
            epochs: 2,
            step: 20,
            seconds: 65.0,
            error: None,
            hint: None,
        });
        let (text, html) = listing(&[&short, &long], None).unwrap();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).collect())
            .collect();
        assert!(text.lines().nth(1).unwrap().contains("lr=0.5 name=a<b"), "{text}");
        assert!(lines[1].contains(&"done") && lines[1].contains(&"1:05 min"), "{text}");
        assert!(lines[2].contains(&"running") && lines[2].contains(&"epoch 6"), "{text}");
        assert!(html.contains("a&lt;b") && !html.contains("<script"), "{html}");
        // The longer one has the lower loss.
        let order = |metric, max| {
            let (text, _) = listing(&[&short, &long], Some(Sort { metric, max })).unwrap();
            text.lines()
                .skip(1)
                .filter_map(|line| line.chars().next())
                .collect::<String>()
        };
        assert_eq!(
            (order("val_loss", false), order("val_loss", true)),
            ("21".into(), "12".into())
        );
        let wrong = Sort {
            metric: "val_los",
            max: false,
        };
        let error = listing(&[&short], Some(wrong)).unwrap_err();
        assert_eq!(
            error,
            "no run has a metric `val_los`: there are train_loss, val_acc, val_loss"
        );
    }
}
