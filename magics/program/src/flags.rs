//! The command line: parameters of the notebook, hyperparameters of its models, and the flags of `%fit`.

use lightcell::LightningModule;
use lightcell::serde_json::{self, Map, Value};
use lightcell_magics::{FitCall, Kind, Piece};
use std::fmt::Write;
use std::str::FromStr;

/// A notebook's program, and what it was told on its command line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Program {
    name: String,
    about: String,
    /// Names and defaults, in their order.
    parameters: Vec<(String, String)>,
    models: Vec<(String, Map<String, Value>)>,
    given: Vec<(String, String)>,
    hparams: Map<String, Value>,
    trainer: Map<String, Value>,
}

/// Why a program does not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The user asked for help: this.
    Help(String),
    /// A flag is wrong: why.
    Wrong(String),
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Stop::Help(text) | Stop::Wrong(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Stop {}

/// Names a hyperparameter whose name means something else, too.
const PREFIX: &str = "hparams.";

impl Program {
    /// One without flags of its own.
    pub fn new(name: &str, about: &str) -> Program {
        Program {
            name: name.to_owned(),
            about: about.to_owned(),
            ..Program::default()
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A `let` of the cell with the tag `parameters`: its name, and its default as written.
    #[must_use]
    pub fn parameter(mut self, name: &str, default: &str) -> Program {
        self.parameters.push((name.to_owned(), default.to_owned()));
        self
    }

    /// A model whose hyperparameters become flags.
    #[must_use]
    pub fn model<M: LightningModule>(mut self) -> Program {
        let name = std::any::type_name::<M>().rsplit("::").next().unwrap_or_default();
        if let Ok(Value::Object(fields)) = serde_json::to_value(M::HParams::default()) {
            self.models.push((name.to_owned(), fields));
        }
        self
    }

    /// Reads the words of a command line.
    ///
    /// # Errors
    /// When the user asks for help, or a flag or value is wrong.
    pub fn parse<T: Into<String>>(mut self, words: impl IntoIterator<Item = T>) -> Result<Program, Stop> {
        let mut trainer = Vec::new();
        let mut words = words.into_iter().map(Into::into);
        while let Some(word) = words.next() {
            if word == "--help" || word == "-h" {
                return Err(Stop::Help(self.help()));
            }
            let Some(flag) = word.strip_prefix("--") else {
                return Err(Stop::Wrong(format!("`{word}` is no flag")));
            };
            let (flag, inline) = match flag.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (flag.to_owned(), None),
            };
            let name = flag.replace('-', "_");
            if self.parameters.iter().any(|(known, _)| *known == name) {
                let value = value(&word, inline, &mut words)?;
                self.given.push((name, value));
            } else if let Some(default) = self.hyperparameter(&name) {
                let text = value(&word, inline, &mut words)?;
                let plain = name.strip_prefix(PREFIX).unwrap_or(&name).to_owned();
                let value = as_kind(&default, &text)
                    .ok_or_else(|| Stop::Wrong(format!("--{flag} takes a value such as {default}, not `{text}`")))?;
                self.hparams.insert(plain, value);
            } else {
                let known = of_trainer(&flag).ok_or_else(|| self.unknown(&flag))?;
                trainer.push(format!("--{flag}"));
                if known.kind != Kind::Switch {
                    trainer.push(value(&word, inline, &mut words)?);
                }
            }
        }
        self.trainer = settings(&trainer)?;
        Ok(self)
    }

    /// The default of a hyperparameter; a flag of `%fit` of the same name goes before it.
    fn hyperparameter(&self, name: &str) -> Option<Value> {
        let plain = name.strip_prefix(PREFIX);
        let of_fit = plain.is_none() && of_trainer(&name.replace('_', "-")).is_some();
        let found = self
            .models
            .iter()
            .find_map(|(_, fields)| fields.get(plain.unwrap_or(name)));
        found.filter(|_| !of_fit).cloned()
    }

    fn unknown(&self, flag: &str) -> Stop {
        let own = self.parameters.iter().map(|(name, _)| name.as_str());
        let fields = self
            .models
            .iter()
            .flat_map(|(_, fields)| fields.keys().map(String::as_str));
        let of_fit = fit_flags().map(|flag| flag.name.trim_start_matches("--"));
        let all: Vec<&str> = own.chain(fields).chain(of_fit).collect();
        let close = lightcell_magics::nearest(flag, all);
        Stop::Wrong(match close {
            Some(close) => format!("there is no flag --{flag}; did you mean --{close}?"),
            None => format!("there is no flag --{flag}"),
        })
    }

    /// The value of a parameter: that of the command line, else the notebook's. A value that cannot be read ends the
    /// program with status 2.
    pub fn value<T: FromStr>(&self, name: &str, default: T) -> T {
        let Some((_, text)) = self.given.iter().rev().find(|(given, _)| given == name) else {
            return default;
        };
        text.parse().unwrap_or_else(|_| {
            let kind = std::any::type_name::<T>();
            eprintln!("error: --{name} takes a value of type {kind}, not `{text}`");
            std::process::exit(2)
        })
    }

    /// The text of a parameter that is a `&str`.
    pub fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        let given = self.given.iter().rev().find(|(given, _)| given == name);
        given.map_or(default, |(_, text)| text.as_str())
    }

    pub(crate) fn trainer(&self) -> &Map<String, Value> {
        &self.trainer
    }

    pub(crate) fn given_hparams(&self) -> &Map<String, Value> {
        &self.hparams
    }

    fn help(&self) -> String {
        let mut text = format!("{}\n\nUsage: {} [flags]\n", self.about, self.name);
        if !self.parameters.is_empty() {
            text.push_str("\nParameters of the notebook:\n");
        }
        for (name, default) in &self.parameters {
            let _ = writeln!(text, "  --{name:<26} [{default}]");
        }
        for (model, fields) in &self.models {
            let _ = write!(text, "\nHyperparameters of {model}:\n");
            for (name, default) in fields {
                let hidden = of_trainer(&name.replace('_', "-")).is_some();
                let name = if hidden {
                    format!("{PREFIX}{name}")
                } else {
                    name.clone()
                };
                let _ = writeln!(text, "  --{name:<26} [{default}]");
            }
        }
        text.push_str("\nTraining; without a flag the notebook's own values hold:\n");
        for flag in fit_flags() {
            let names: Vec<&str> = std::iter::once(flag.name).chain(flag.aliases.iter().copied()).collect();
            let _ = writeln!(text, "  {:<28} {}", names.join(", "), flag.about);
        }
        text
    }
}

/// The settings of a run; what stands alone in a notebook is none.
fn fit_flags() -> impl Iterator<Item = &'static lightcell_magics::Flag> {
    let flags = lightcell_magics::magic("fit").map_or(&[][..], |magic| magic.flags);
    flags.iter().filter(|flag| flag.kind != Kind::Alone)
}

/// A flag of `%fit`, by its name without dashes.
fn of_trainer(name: &str) -> Option<&'static lightcell_magics::Flag> {
    let is = |dashed: &str| dashed.trim_start_matches("--") == name;
    fit_flags().find(|flag| is(flag.name) || flag.aliases.iter().any(|alias| is(alias)))
}

fn value(word: &str, inline: Option<String>, words: &mut impl Iterator<Item = String>) -> Result<String, Stop> {
    inline
        .or_else(|| words.next())
        .ok_or_else(|| Stop::Wrong(format!("{word} needs a value")))
}

/// A text as a value of the kind that a default has.
fn as_kind(default: &Value, text: &str) -> Option<Value> {
    match default {
        Value::Number(number) if number.is_f64() => text.parse::<f64>().ok().filter(|x| x.is_finite()).map(Value::from),
        Value::Number(_) => serde_json::from_str(text)
            .ok()
            .filter(|value: &Value| value.is_i64() || value.is_u64()),
        Value::Bool(_) => text.parse::<bool>().ok().map(Value::from),
        Value::String(_) => Some(Value::from(text)),
        _ => serde_json::from_str(text).ok(),
    }
}

/// Flags of `%fit` as its settings, read by the same parser; those that were given, without the defaults of others.
fn settings(words: &[String]) -> Result<Map<String, Value>, Stop> {
    let line = format!("%fit Model data {}", words.join(" "));
    let wrong = |message: String| Stop::Wrong(message);
    let pieces = lightcell_magics::split(&line).map_err(|error| {
        wrong(match &error.hint {
            Some(hint) => format!("{} ({hint})", error.message),
            None => error.message.clone(),
        })
    })?;
    let [Piece::Magic(call)] = &pieces[..] else {
        return Ok(Map::new());
    };
    let mut options = FitCall::from_call(call).map(|fit| fit.options).unwrap_or_default();
    let given: Vec<String> = call
        .flags
        .iter()
        .map(|(name, _)| name.trim_start_matches("--").replace('-', "_"))
        .collect();
    options.retain(|name, _| given.contains(name));
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lightcell::prelude::*;

    hparams! { Hp { hidden: i64 = 32, lr: f64 = 1e-2, seed: i64 = 7, name: String = "adam".to_owned() } }
    struct Net(Linear);
    impl LightningModule for Net {
        type HParams = Hp;
        type Batch = (Tensor, Tensor);
        fn new(p: &lightcell::Path, hp: &Hp) -> Net {
            Net(linear(p / "l", 4, hp.hidden))
        }
        fn forward(&self, x: &Tensor) -> Tensor {
            self.0.forward(x)
        }
        fn training_step(&mut self, (x, _): &Self::Batch, _: &mut Step) -> lightcell::Result<Tensor> {
            Ok(self.forward(x).square().mean(Kind::Float))
        }
        fn configure_optimizers(&self, hp: &Hp) -> Optim {
            adam(hp.lr)
        }
    }
    use lightcell::tch::Kind;

    fn program() -> Program {
        Program::new("net", "Made from net.ipynb.")
            .parameter("size", "8")
            .model::<Net>()
    }

    fn parsed(words: &[&str]) -> Result<Program, Stop> {
        program().parse(words.iter().copied())
    }

    #[test]
    fn flags_go_where_they_belong() {
        let told = parsed(&[
            "--size",
            "9",
            "--lr=0.5",
            "--epochs",
            "3",
            "--seed",
            "1",
            "--hparams.seed",
            "2",
            "--name",
            "sgd",
        ])
        .unwrap();
        assert_eq!(told.value("size", 8), 9);
        let hp = told.hparams::<Net>().unwrap();
        assert_eq!((hp.hidden, hp.lr, hp.seed, hp.name.as_str()), (32, 0.5, 2, "sgd"));
        let options = told.options(r#"{"max_epochs":10,"seed":5,"accelerator":"cpu"}"#);
        assert_eq!(
            Value::Object(options).to_string(),
            r#"{"accelerator":"cpu","max_epochs":3,"seed":1}"#
        );
        assert_eq!(parsed(&[]).unwrap().value("size", 8), 8);
        assert_eq!(parsed(&[]).unwrap().hparams::<Net>().unwrap(), Hp::default());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |words: &[&str]| parsed(words).unwrap_err().to_string();
        assert_eq!(
            said(&["--hiden", "3"]),
            "there is no flag --hiden; did you mean --hidden?"
        );
        assert_eq!(said(&["--lr", "fast"]), "--lr takes a value such as 0.01, not `fast`");
        assert_eq!(
            said(&["--hidden", "1.5"]),
            "--hidden takes a value such as 32, not `1.5`"
        );
        assert_eq!(said(&["--epochs"]), "--epochs needs a value");
        assert_eq!(said(&["more"]), "`more` is no flag");
        assert!(
            said(&["--epochs", "many"]).contains("many"),
            "{}",
            said(&["--epochs", "many"])
        );
    }

    #[test]
    fn help_lists_all_flags_with_the_notebooks_values() {
        let Err(Stop::Help(text)) = parsed(&["--help"]) else {
            panic!("no help")
        };
        for part in [
            "Made from net.ipynb.\n\nUsage: net [flags]\n",
            "Parameters of the notebook:\n  --size                       [8]\n",
            "Hyperparameters of Net:\n",
            "  --lr                         [0.01]\n",
            "  --hparams.seed               [7]\n",
            "  --max-epochs, --epochs ",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_command_lines_values_reach_the_run() {
        let zeros = |n| Tensor::zeros([8, n], (Kind::Float, Device::Cpu));
        let data = Data::new(TensorDataset::new(zeros(4), zeros(1)).unwrap());
        let told = parsed(&["--hidden", "3", "--epochs", "2", "--accelerator", "cpu"]).unwrap();
        let fit = told.fit::<Net, _>(&data, r#"{"max_epochs":5,"seed":1}"#, None).unwrap();
        assert_eq!((fit.history.len(), fit.hparams.hidden), (2, 3));
        // The same model again goes on.
        let fit = told.fit(&data, "{}", Some(fit)).unwrap();
        assert_eq!(fit.history.len(), 4);
        let fit = told.fit(&data, r#"{"restart":true}"#, Some(fit)).unwrap();
        assert_eq!(fit.history.len(), 2);
        let failed = told.fit::<Net, _>(&data, r#"{"no_such":1}"#, None);
        assert!(failed.is_err());
    }
}
