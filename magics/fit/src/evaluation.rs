//! What a test or a validation gave, as a map and as a table.

use crate::error::{Error, Kind, Result};
use lightcell_events::run::{Metrics, Stage};
use std::fmt;
use std::ops::Deref;

/// What a validation or test logged, as means over its data, weighted by the batches' sizes: a map from name to value,
/// which prints as a table.
///
/// ```
/// # use lightcell::{Evaluation, prelude::*};
/// fn accuracy(result: &Evaluation) -> f64 {
///     println!("{result}");
///     result["test_acc"]
/// }
/// ```
#[derive(Clone, PartialEq)]
pub struct Evaluation {
    stage: Stage,
    metrics: Metrics,
}

impl Evaluation {
    /// # Errors
    /// When nothing was logged.
    pub(crate) fn new(stage: Stage, metrics: Metrics) -> Result<Evaluation> {
        let (name, step) = match stage {
            Stage::Test => ("test", "`test_step` or `validation_step`"),
            _ => ("val", "`validation_step`"),
        };
        if metrics.is_empty() {
            let what = if stage == Stage::Test { "test" } else { "validation" };
            return Err(
                Error::new(Kind::Model, format!("the model logs nothing about {what} data"))
                    .hint(format!("write a {step} that calls `cx.log(\"{name}_loss\", &loss)`")),
            );
        }
        // A model without a test step is tested with its validation step.
        let renamed = |name: String| match name.strip_prefix("val_") {
            Some(rest) if stage == Stage::Test => format!("test_{rest}"),
            _ => name,
        };
        let metrics = metrics
            .into_iter()
            .map(|(name, value)| (renamed(name), value))
            .collect();
        Ok(Evaluation { stage, metrics })
    }

    /// Name and value of each, as text; the head first.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let head = match self.stage {
            Stage::Test => "Test metric",
            _ => "Validate metric",
        };
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        std::iter::once(row(head, "DataLoader 0".to_owned()))
            .chain(self.metrics.iter().map(|(name, value)| row(name, value.to_string())))
            .collect()
    }

    /// The values by name.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

impl Deref for Evaluation {
    type Target = Metrics;
    fn deref(&self) -> &Metrics {
        &self.metrics
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (first, second) = (width(0), width(1));
        let line = "─".repeat(first + second + 9);
        writeln!(f, "{line}")?;
        for (index, row) in rows.iter().enumerate() {
            writeln!(f, "   {:^first$}   {:^second$}", row[0], row[1])?;
            if index == 0 {
                writeln!(f, "{line}")?;
            }
        }
        f.write_str(&line)
    }
}

impl fmt::Debug for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_print_as_lightnings_table() {
        let metrics = Metrics::from([("val_acc".to_owned(), 0.93), ("val_loss".to_owned(), 0.25)]);
        let lines = [
            "────────────────────────────────",
            "   Test metric   DataLoader 0",
            "────────────────────────────────",
            "    test_acc         0.93",
            "    test_loss        0.25",
            "────────────────────────────────",
        ];
        let test = Evaluation::new(Stage::Test, metrics.clone()).unwrap();
        let shown: Vec<String> = test
            .to_string()
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        assert_eq!(shown, lines);
        let validation = Evaluation::new(Stage::Validate, metrics).unwrap();
        assert_eq!((validation["val_acc"], validation.len()), (0.93, 2));
        assert!(format!("{validation:?}").contains("Validate metric"));
        let error = Evaluation::new(Stage::Validate, Metrics::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the model logs nothing about validation data\nhint: write a `validation_step` that calls `cx.log(\"val_loss\", &loss)`"
        );
    }
}
