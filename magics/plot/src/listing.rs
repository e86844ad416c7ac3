//! Several runs as a table: what they were made with, and what came of them.

use crate::record::RunRecord;
use crate::view::{duration, html_table_of, in_columns};
use lightcell_events::escape;
use lightcell_events::run::Status;

/// An order of runs: by the last value of a metric.
#[derive(Debug, Clone, Copy)]
pub struct Sort<'a> {
    /// Its name, such as `val_loss`.
    pub metric: &'a str,
    /// The highest value first; else the lowest.
    pub max: bool,
}

/// A run in a table.
#[derive(Debug)]
pub struct Listed<'a> {
    /// The run.
    pub record: &'a RunRecord,
    /// When it began, in the user's words.
    pub begun: String,
    /// A file of its logger that a notebook can open, as a relative link.
    pub link: Option<String>,
}

/// Runs as a table in words and as HTML, in the order given, or by a metric's last value. Runs have numbers from 1, in the order
/// given.
///
/// # Errors
/// When no run has such a metric; the message names those there are.
///
/// ```
/// use lightcell_plot::{Listed, RunRecord, Sort, listing};
/// let runs = [Listed { record: &RunRecord::default(), begun: "2026-11-28 11:30".into(), link: None }];
/// let (text, html) = listing(&runs, None)?;
/// assert!(text.starts_with("run  status") && html.contains("<table"));
/// assert!(listing(&runs, Some(Sort { metric: "val_loss", max: false })).is_err());
/// # Ok::<(), String>(())
/// ```
pub fn listing(runs: &[Listed], sort: Option<Sort>) -> Result<(String, String), String> {
    let mut names: Vec<&str> = runs.iter().flat_map(|run| run.record.names()).collect();
    names.sort_unstable();
    names.dedup();
    let mut numbered: Vec<(usize, &Listed)> = (1..).zip(runs).collect();
    if let Some(Sort { metric, max }) = sort {
        if !names.contains(&metric) {
            let all: Vec<_> = runs.iter().map(|run| (0, run.record)).collect();
            return Err(crate::overlay::unknown(&all, metric));
        }
        // Runs without it come last.
        let value = |run: &Listed| match run.record.last(metric) {
            Some(value) if max => -value,
            Some(value) => value,
            None => f64::INFINITY,
        };
        numbered.sort_by(|a, b| value(a.1).total_cmp(&value(b.1)));
    }
    // What is wanted most first: a notebook cuts what is too wide.
    let mut head = vec!["run", "status", "model", "epochs", "time", "best"];
    head.extend(&names);
    head.extend(["hyperparameters", "begun", "device", "log"]);
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    let mut links = vec![None];
    for (number, listed) in numbered {
        let run = listed.record;
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
        row.extend([
            hyperparameters(&run.hparams),
            listed.begun.clone(),
            run.device.clone(),
            run.log_dir.clone().unwrap_or_default(),
        ]);
        rows.push(row);
        links.push(listed.link.as_deref());
    }
    let text = in_columns(&rows, |cell, width| format!("{cell:<width$}"));
    let last = rows[0].len() - 1;
    let html = html_table_of(&rows, "text-align:left;white-space:nowrap", |row, column, text| {
        match links[row].filter(|_| column == last) {
            // Quotes and spaces as a link has them; what else a path may hold, browsers take.
            Some(link) => {
                let link = escape(&link.replace('"', "%22").replace(' ', "%20"));
                format!("<a href=\"{link}\">{}</a>", escape(text))
            }
            None => escape(text),
        }
    });
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
        short.log_dir = Some("lightning_logs/version_0".into());
        let listed = |record, link: Option<&str>| Listed {
            record,
            begun: "2026-11-28 11:30".into(),
            link: link.map(str::to_owned),
        };
        let runs = [listed(&short, Some("a b/metrics.csv")), listed(&long, None)];
        let (text, html) = listing(&runs, None).unwrap();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).collect())
            .collect();
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .contains("lr=0.5 name=a<b  2026-11-28 11:30  cpu"),
            "{text}"
        );
        let link = "<a href=\"a%20b/metrics.csv\">lightning_logs/version_0</a>";
        assert!(html.contains(link) && html.matches("<a ").count() == 1, "{html}");
        assert!(lines[1].contains(&"done") && lines[1].contains(&"1:05 min"), "{text}");
        assert!(lines[2].contains(&"running") && lines[2].contains(&"epoch 6"), "{text}");
        assert!(html.contains("a&lt;b") && !html.contains("<script"), "{html}");
        // The longer one has the lower loss.
        let order = |metric, max| {
            let (text, _) = listing(&runs, Some(Sort { metric, max })).unwrap();
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
        let error = listing(&runs[..1], Some(wrong)).unwrap_err();
        assert_eq!(
            error,
            "no run has a metric `val_los`: there are train_loss, val_acc, val_loss"
        );
    }
}
