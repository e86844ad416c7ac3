//! A run in words and as HTML.

use crate::record::{Current, Epoch, RunRecord};
use lightcell_events::escape;
use lightcell_events::run::{Level, Stage, Status};
use std::fmt::Write;

/// So many epochs are listed; of a longer run the first, the best and the last.
const ROWS: usize = 12;

impl RunRecord {
    /// The run in words: what it is, how far it is, its epochs.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n", self.headline(), self.progress_line());
        if let Some(load) = self.load() {
            let _ = writeln!(text, "{load}");
        }
        if let Some(line) = self.sparkline() {
            let _ = writeln!(text, "{line}");
        }
        if let Some(table) = self.table() {
            text.push_str(&in_columns(&table, |cell, width| format!("{cell:>width$}")));
        }
        for (level, note) in &self.notes {
            let _ = writeln!(
                text,
                "{}{note}",
                if *level == Level::Warning { "warning: " } else { "" }
            );
        }
        text
    }

    /// The run as HTML, with its chart; no script, colours of the page.
    pub fn html(&self) -> String {
        let mut html = String::from("<div style=\"max-width:660px;font-size:13px;line-height:1.5\">");
        let _ = write!(html, "<div><b>{}</b></div>", escape(&self.headline()));
        let share = (self.share() * 100.0).clamp(0.0, 100.0);
        let _ = write!(
            html,
            "<div style=\"height:5px;background:rgba(136,136,136,.25);border-radius:3px;margin:4px 0\" role=\"progressbar\" aria-valuenow=\"{share:.0}\">\
             <div style=\"height:5px;width:{share:.1}%;background:#3480ce;border-radius:3px\"></div></div>\
             <div>{}</div>",
            escape(&self.words())
        );
        if let Some(load) = self.load() {
            let _ = write!(html, "<div style=\"opacity:.75\">{}</div>", escape(load));
        }
        html.push_str(&self.svg());
        if let Some(table) = self.table() {
            html.push_str(&html_table(&table, "text-align:right"));
        }
        for (level, note) in &self.notes {
            let head = if *level == Level::Warning {
                "<b>warning:</b> "
            } else {
                ""
            };
            let _ = write!(html, "<div>{head}{}</div>", escape(note));
        }
        html.push_str("</div>");
        html
    }

    /// The device's load, of a run that goes on.
    fn load(&self) -> Option<&str> {
        self.load.as_deref().filter(|_| self.end.is_none())
    }

    fn headline(&self) -> String {
        format!(
            "{} on {} · {} parameters",
            self.model,
            self.device,
            thousands(self.parameters)
        )
    }

    fn progress_line(&self) -> String {
        const WIDTH: usize = 24;
        let full = (self.share() * WIDTH as f64).round().clamp(0.0, WIDTH as f64) as usize;
        format!("[{}{}] {}", "█".repeat(full), "·".repeat(WIDTH - full), self.words())
    }

    /// Share of the run that is done.
    fn share(&self) -> f64 {
        // A run whose length nobody knows: the share of its epoch.
        let first = if self.max_epochs == u64::MAX {
            self.current.as_ref().map_or(self.first_epoch, |now| now.epoch)
        } else {
            self.first_epoch
        };
        let all = if self.max_epochs == u64::MAX {
            1.0
        } else {
            (self.max_epochs - first.min(self.max_epochs)).max(1) as f64
        };
        match (&self.end, &self.current) {
            (Some(end), _) if end.status == Status::Completed => 1.0,
            (_, Some(now)) if now.stage == Stage::Train => {
                ((now.epoch - first.min(now.epoch)) as f64 + now.batch as f64 / now.batches.max(1) as f64) / all
            }
            (_, Some(now)) => ((now.epoch + 1 - first.min(now.epoch)) as f64) / all,
            _ => 0.0,
        }
    }

    fn words(&self) -> String {
        if let Some(end) = &self.end {
            let what = match end.status {
                Status::Completed => "done",
                Status::Stopped => "stopped",
                Status::Failed => "failed",
            };
            let counted =
                |count: u64, of: &str| format!("{} {of}{}", thousands(count), if count == 1 { "" } else { "s" });
            return format!(
                "{what}: {}, {}, {}",
                counted(end.epochs, "epoch"),
                counted(end.step, "step"),
                duration(end.seconds)
            );
        }
        let Some(now) = &self.current else {
            return format!("epoch {}", self.of_all(self.first_epoch));
        };
        let loop_name = if now.stage == Stage::Train {
            "batch"
        } else {
            "validation batch"
        };
        let mut words = format!(
            "epoch {} · {loop_name} {}/{} · {:.0} it/s",
            self.of_all(now.epoch),
            now.batch,
            now.batches,
            now.rate
        );
        if let Some(left) = self.time_left(now) {
            let _ = write!(words, " · {} left", duration(left));
        }
        for (name, value) in &now.metrics {
            let _ = write!(words, " · {name} {value:.4}");
        }
        words
    }

    /// `3/10`, or `3` when nobody knows how many there are.
    fn of_all(&self, epoch: u64) -> String {
        match self.max_epochs {
            u64::MAX => (epoch + 1).to_string(),
            all => format!("{}/{all}", epoch + 1),
        }
    }

    /// From the epochs that are done, else from the rate.
    fn time_left(&self, now: &Current) -> Option<f64> {
        if self.max_epochs == u64::MAX {
            return None;
        }
        let left = (1.0 - self.share()) * (self.max_epochs - self.first_epoch.min(self.max_epochs)) as f64;
        match self.epochs.last() {
            Some(_) => {
                Some(self.epochs.iter().map(|epoch| epoch.seconds).sum::<f64>() / self.epochs.len() as f64 * left)
            }
            None if now.rate > 0.0 && now.stage == Stage::Train => Some(left * now.batches as f64 / now.rate),
            None => None,
        }
    }

    /// Head and rows.
    fn table(&self) -> Option<Vec<Vec<String>>> {
        if self.epochs.is_empty() {
            return None;
        }
        let names = self.names();
        let mut head = vec!["epoch".to_owned()];
        head.extend(names.iter().map(|name| (*name).to_owned()));
        head.push("time".to_owned());
        let best = self.best();
        let row = |index: usize, epoch: &Epoch| {
            let mark = if best == Some(index) && self.epochs.len() > 1 {
                "★ "
            } else {
                ""
            };
            let mut row = vec![format!("{mark}{}", epoch.epoch + 1)];
            row.extend(names.iter().map(|name| {
                epoch
                    .metrics
                    .get(*name)
                    .map(|value| format!("{value:.4}"))
                    .unwrap_or_default()
            }));
            row.push(duration(epoch.seconds));
            row
        };
        let count = self.epochs.len();
        let tail = count.saturating_sub(ROWS - 3);
        let shown = |index: usize| count <= ROWS || index == 0 || Some(index) == best || index >= tail;
        let mut rows = vec![head];
        let mut left_out = false;
        for (index, epoch) in self.epochs.iter().enumerate() {
            if shown(index) {
                rows.push(row(index, epoch));
                left_out = false;
            } else if !left_out {
                let mut dots = vec![String::new(); names.len() + 2];
                dots[0] = "…".to_owned();
                rows.push(dots);
                left_out = true;
            }
        }
        Some(rows)
    }
}

/// Rows as a table of HTML, the first of them its head; `style` is each cell's.
pub(crate) fn html_table(rows: &[Vec<String>], style: &str) -> String {
    html_table_of(rows, style, |_, _, text| escape(text))
}

/// As [`html_table`], with the HTML of a cell from its row, column and text.
pub(crate) fn html_table_of(
    rows: &[Vec<String>],
    style: &str,
    content: impl Fn(usize, usize, &str) -> String,
) -> String {
    let mut html = String::from("<table style=\"border-collapse:collapse;font-variant-numeric:tabular-nums\">");
    for (index, row) in rows.iter().enumerate() {
        html.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let tag = if index == 0 { "th" } else { "td" };
            let text = content(index, column, cell);
            let _ = write!(
                html,
                "<{tag} style=\"{style};padding:1px 10px;background:none\">{text}</{tag}>"
            );
        }
        html.push_str("</tr>");
    }
    html + "</table>"
}

/// Rows as lines of text whose columns stand below each other; `pad` makes a cell as wide as its column.
pub(crate) fn in_columns(rows: &[Vec<String>], pad: impl Fn(&str, usize) -> String) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| pad(cell, *width)).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 60.0 => format!("{s:.0} s"),
        s if s < 3600.0 => format!("{}:{:02} min", s as u64 / 60, s as u64 % 60),
        s => format!("{}:{:02} h", s as u64 / 3600, s as u64 % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::run;
    use lightcell_events::run::RunEvent;

    fn finish(record: &mut RunRecord, status: Status) {
        record.apply(&RunEvent::Finished {
            run: "r".into(),
            status,
            epochs: 2,
            step: 20,
            seconds: 75.0,
            error: None,
            hint: None,
        });
    }

    #[test]
    fn a_run_in_words() {
        let mut record = run(2, 4);
        assert_eq!(
            record.text(),
            "Mlp on cpu · 9,610 parameters\n\
             [████████████············] epoch 2/4 · batch 10/10 · 123 it/s · 1.0 s left · train_loss 0.6667\n\
             train_loss 1.8182 █▇▆▆▅▅▄▄▃▃▃▂▂▂▂▂▁▁▁▁ 0.6667\n\
             epoch  train_loss  val_acc  val_loss   time\n    1      1.0000   0.6333    1.1000  0.5 s\n  ★ 2      0.6667   0.7556    0.7333  0.5 s\n"
        );
        record.set_load(Some("CPU 50 % · memory 1 GiB / 2 GiB".into()));
        assert_eq!(record.text().lines().nth(2), Some("CPU 50 % · memory 1 GiB / 2 GiB"));
        assert!(record.html().contains(">CPU 50 % · memory 1 GiB / 2 GiB</div>"));
        finish(&mut record, Status::Stopped);
        assert!(!record.text().contains("CPU") && !record.html().contains("CPU"));
        assert!(
            record.text().contains("] stopped: 2 epochs, 20 steps, 1:15 min\n"),
            "{}",
            record.text()
        );
    }

    #[test]
    fn a_run_whose_process_ended_says_how_far_it_was() {
        let mut record = run(1, 4);
        record.apply(&RunEvent::Finished {
            run: String::new(),
            status: Status::Failed,
            epochs: 0,
            step: 0,
            seconds: 3.0,
            error: None,
            hint: None,
        });
        assert!(
            record.text().contains("] failed: 1 epoch, 10 steps, 3.0 s\n"),
            "{}",
            record.text()
        );
    }

    #[test]
    fn a_run_of_unknown_length_shows_its_epochs_share() {
        let mut record = run(3, u64::MAX);
        if let Some(now) = &mut record.current {
            now.batch = 5;
        }
        let text = record.text();
        let line = "[████████████············] epoch 3 · batch 5/10 · 123 it/s · train_loss 0.5000";
        assert_eq!(text.lines().nth(1), Some(line));
        let begun = run(0, u64::MAX).text();
        assert_eq!(begun.lines().nth(1), Some("[························] epoch 1"));
    }

    #[test]
    fn a_long_run_lists_first_best_and_last() {
        let text = run(300, 300).text();
        let rows: Vec<_> = text.lines().skip(4).collect();
        assert!(rows.len() <= ROWS + 2, "{text}");
        assert!(
            rows[0].trim().starts_with("1 ")
                && rows.iter().any(|row| row.trim().starts_with("★ 6"))
                && rows[rows.len() - 1].trim().starts_with("300"),
            "{text}"
        );
    }

    #[test]
    fn html_holds_the_same_and_no_script_and_is_small() {
        let mut record = run(40, 40);
        record.model = "A<B>".into();
        finish(&mut record, Status::Completed);
        let html = record.html();
        assert!(
            html.contains("A&lt;B&gt; on cpu")
                && html.contains("<svg")
                && html.contains("width:100.0%")
                && !html.contains("<script")
        );
        let all = html.len() + record.svg().len() + record.png().len() * 4 / 3 + record.text().len();
        assert!(all < 100_000, "{all}");
    }

    #[test]
    fn times_and_numbers_are_readable() {
        assert_eq!(
            [0.04, 12.3, 75.0, 7322.0].map(duration),
            ["0.0 s", "12 s", "1:15 min", "2:02 h"]
        );
        assert_eq!([7, 1234, 1234567].map(thousands), ["7", "1,234", "1,234,567"]);
    }
}
