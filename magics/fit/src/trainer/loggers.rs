//! Loggers that settings can name: `"csv"`, `"csv,tensorboard"` or a list.

use crate::callbacks::Callbacks;
use crate::csv_logger::CsvLogger;
use crate::tensorboard::TensorBoardLogger;
use serde::{Deserialize, Deserializer};
use std::path::Path;

/// The loggers of a run, in the order in which they were named.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Loggers(Vec<Name>);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Name {
    Csv,
    TensorBoard,
}

impl Loggers {
    fn parse(names: &[&str]) -> Option<Loggers> {
        let mut all = Vec::new();
        for name in names {
            let name = match *name {
                "csv" => Name::Csv,
                "tensorboard" => Name::TensorBoard,
                _ => return None,
            };
            if !all.contains(&name) {
                all.push(name);
            }
        }
        Some(Loggers(all))
    }

    /// Adds them to a run's callbacks.
    pub fn add_to(&self, callbacks: &mut Callbacks, dir: &Path) {
        for name in &self.0 {
            match name {
                Name::Csv => callbacks.push_logger(CsvLogger::new(dir)),
                Name::TensorBoard => callbacks.push_logger(TensorBoardLogger::new(dir)),
            }
        }
    }
}

impl<'de> Deserialize<'de> for Loggers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Loggers, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            None(()),
            One(String),
            Several(Vec<String>),
        }
        let names = match Form::deserialize(deserializer)? {
            Form::None(()) => Vec::new(),
            Form::One(names) => names.split(',').map(|name| name.trim().to_owned()).collect(),
            Form::Several(names) => names,
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Loggers::parse(&names).ok_or_else(|| {
            let names = names.join(", ");
            serde::de::Error::custom(format!("logger is csv, tensorboard or a list of both, not `{names}`"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_or_several_may_be_named() {
        let read = |json: &str| serde_json::from_str::<Loggers>(json);
        assert_eq!(read("null").unwrap(), Loggers::default());
        assert_eq!(read(r#""csv""#).unwrap().0, [Name::Csv]);
        let both = [Name::TensorBoard, Name::Csv];
        assert_eq!(read(r#""tensorboard, csv""#).unwrap().0, both);
        assert_eq!(read(r#"["tensorboard", "csv", "csv"]"#).unwrap().0, both);
        let error = read(r#"["csv", "wandb"]"#).unwrap_err().to_string();
        assert_eq!(error, "logger is csv, tensorboard or a list of both, not `csv, wandb`");
    }
}
