//! Magics in a cell: which of them the kernel answers itself, and what Rust the others become.

use crate::engine::Diagnostic;
use crate::executor::Shared;
use crate::publish::{self, Parent};
use crate::report::{Cell, Report};
use lightcell_gpu::Torch;
use lightcell_magics::{Call, FitCall, MagicError, Side, nearest};
use std::sync::{Arc, Mutex, PoisonError};

/// A part of a cell, by who has to do with it.
#[derive(Debug)]
pub enum Piece {
    /// Rust.
    Code(String),
    /// A magic that the kernel answers.
    Kernel(Call),
    /// `%fit`.
    Fit(FitCall),
    /// A magic that runs in its turn (see [`crate::turn`]).
    InTurn(Call),
    /// `!command`.
    Shell(String),
    /// Help on a name.
    Help(String),
}

/// Splits a cell.
///
/// # Errors
/// When a magic is wrong; then nothing of the cell runs.
pub fn split(code: &str) -> Result<Vec<Piece>, MagicError> {
    let pieces = lightcell_magics::split(code)?;
    Ok(pieces
        .into_iter()
        .map(|piece| match piece {
            lightcell_magics::Piece::Code(text) => Piece::Code(text),
            lightcell_magics::Piece::Help(name) => Piece::Help(name),
            lightcell_magics::Piece::Shell(command) => Piece::Shell(command),
            lightcell_magics::Piece::Magic(call) => match (FitCall::from_call(&call), call.magic().side) {
                (Some(fit), _) => Piece::Fit(fit),
                (None, Side::Kernel) => Piece::Kernel(call),
                (None, Side::Worker) => Piece::InTurn(call),
            },
        })
        .collect())
}

/// Whether a cell holds only magics that the kernel answers, so that it need not wait for a cell that runs.
pub fn is_kernel_only(code: &str) -> bool {
    match lightcell_magics::split(code) {
        Ok(pieces) => pieces.iter().all(|piece| match piece {
            lightcell_magics::Piece::Magic(call) => call.magic().side == Side::Kernel,
            _ => false,
        }),
        Err(_) => false,
    }
}

/// Runs such a cell.
pub fn run_kernel_only(code: &str, shared: &Arc<Shared>, parent: &Parent) -> Result<(), Report> {
    for piece in split(code).map_err(|error| report(&error, 0, code))? {
        if let Piece::Kernel(call) = piece {
            kernel_side(&call, shared, parent)?;
        }
    }
    Ok(())
}

/// Answers one magic.
pub fn kernel_side(call: &Call, shared: &Arc<Shared>, parent: &Parent) -> Result<(), Report> {
    match call.name.as_str() {
        "gpu" => {
            let ours: Vec<u32> = crate::now::descendants(std::process::id() as i32, |_| false)
                .into_iter()
                .filter_map(|pid| pid.try_into().ok())
                .collect();
            let seen = lightcell_gpu::snapshot(&ours);
            let torch = torch();
            let media = if call.switch("--json") {
                publish::text(lightcell_gpu::to_json(&seen, &torch))
            } else {
                publish::text_html(
                    lightcell_gpu::to_text(&seen, &torch),
                    lightcell_gpu::to_html(&seen, &torch),
                )
            };
            shared.publisher.display(media, None, Some(parent));
            Ok(())
        }
        "lsmagic" => {
            shared
                .publisher
                .display(publish::text(lightcell_magics::lsmagic()), None, Some(parent));
            Ok(())
        }
        other => Err(Report::plain(
            "MagicError",
            &format!("%{other} is not answered by the kernel"),
            None,
        )),
    }
}

static LOAD_ERROR: Mutex<Option<String>> = Mutex::new(None);

/// The worker could not load a library that it was told to.
pub fn preload_failed(problem: &str) {
    if problem.contains("cuda") {
        *LOAD_ERROR.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem.to_owned());
    }
}

/// What is known of libtorch, without loading it.
fn torch() -> Torch {
    let Ok(home) = crate::home::Home::open() else {
        return Torch::default();
    };
    let libtorch = home.setup.libtorch;
    // The wheels of 2.13 are built for CUDA 13.0; the folder of its libraries is named after it.
    let cuda = libtorch
        .path
        .parent()
        .map(|folder| folder.join("nvidia/cu13").is_dir())
        .unwrap_or(false)
        .then(|| "13.0".to_owned());
    Torch {
        version: libtorch.version,
        cuda_library: libtorch.path.join("lib/libtorch_cuda.so").exists(),
        cuda,
        load_error: LOAD_ERROR.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    }
}

/// A wrong magic, with its line and a caret.
pub fn report(error: &MagicError, count: usize, code: &str) -> Report {
    let span = crate::engine::Span {
        line: error.line,
        column: error.column,
        end_line: error.line,
        end_column: error.column + error.width,
        label: String::new(),
        primary: true,
    };
    let diagnostic = Diagnostic {
        level: "error".into(),
        code: None,
        message: error.message.clone(),
        spans: vec![span],
        helps: error.hint.iter().cloned().collect(),
    };
    let mut report = Report::compile(&[diagnostic], Cell { count, source: code });
    report.ename = "MagicError".to_owned();
    report.evalue = error.message.lines().next().unwrap_or_default().to_owned();
    report
}

/// The help of a magic (with or without its `%`).
pub fn help(name: &str) -> Option<String> {
    lightcell_magics::help(name)
}

/// The help of the magic at a byte offset: the cursor is in its name.
pub fn help_at(code: &str, offset: usize) -> Option<String> {
    let start = code[..offset].rfind('\n').map_or(0, |at| at + 1);
    let word = code[start..offset].trim_start();
    (word.starts_with('%') && !word.contains(char::is_whitespace))
        .then(|| help(word))
        .flatten()
}

/// Completes in a magic's line.
pub fn complete(code: &str, offset: usize) -> Option<(usize, usize, Vec<String>)> {
    let start = code[..offset].rfind('\n').map_or(0, |at| at + 1);
    let end = code[offset..].find('\n').map_or(code.len(), |at| offset + at);
    let found = lightcell_magics::complete(&code[start..end], offset - start)?;
    Some((start + found.start, start + found.end, found.matches))
}

/// What `%fit` is about, found among the session's names.
#[derive(Debug, PartialEq, Eq)]
enum Model<'a> {
    /// A type.
    Type,
    /// A variable that holds a run of this type.
    Run(&'a str),
}

/// The Rust that `%fit` becomes.
///
/// # Errors
/// When there is no such model or variable.
pub fn fit_code(
    fit: &FitCall,
    variables: &[(String, String)],
    items: &[String],
    go_on: bool,
) -> Result<String, MagicError> {
    let model = find_model(fit, variables, items)?;
    check_data(fit, variables)?;
    let options = serde_json::to_string(&fit.options).unwrap_or_default();
    let (data, options) = (&fit.data, format!("{options:?}"));
    Ok(match model {
        Model::Run(name) => format!("let mut fit = lightcell::notebook::go_on({name}, &({data}), {options})?;"),
        Model::Type => {
            let model = &fit.model;
            let previous = variables
                .iter()
                .find(|(name, _)| name == "fit")
                .filter(|(_, kind)| go_on && holds(kind, model));
            let previous = if previous.is_some() { "Some(fit)" } else { "None" };
            format!("let mut fit = lightcell::notebook::fit::<{model}, _>(&({data}), {options}, {previous})?;")
        }
    })
}

/// Whether a type as evcxr names it is a run of this model.
fn holds(kind: &str, model: &str) -> bool {
    let plain = |text: &str| text.rsplit("::").next().unwrap_or(text).trim().to_owned();
    kind.split_once("Fit<")
        .and_then(|(_, rest)| rest.strip_suffix('>'))
        .is_some_and(|inner| plain(inner) == plain(model))
}

fn find_model<'a>(fit: &'a FitCall, variables: &[(String, String)], items: &[String]) -> Result<Model<'a>, MagicError> {
    let name = fit.model.as_str();
    // A path or a type with parameters: the compiler knows.
    if !name.chars().all(|c| c.is_alphanumeric() || c == '_') || items.iter().any(|item| item == name) {
        return Ok(Model::Type);
    }
    if let Some((_, kind)) = variables.iter().find(|(variable, _)| variable == name) {
        if kind.contains("Fit<") {
            return Ok(Model::Run(name));
        }
        return Err(wrong(
            fit,
            name,
            format!("`{name}` is a {kind}, no model"),
            Some("MODEL is a type that implements LightningModule, or a run that %fit left".into()),
        ));
    }
    let types = items
        .iter()
        .map(String::as_str)
        .filter(|item| item.starts_with(char::is_uppercase));
    let known = types.chain(
        variables
            .iter()
            .filter(|(_, kind)| kind.contains("Fit<"))
            .map(|(name, _)| name.as_str()),
    );
    let hint = match nearest(name, known) {
        Some(close) => format!("did you mean {close}?"),
        None => "define it in a cell: `struct Net { … }` and `impl LightningModule for Net { … }`".to_owned(),
    };
    Err(wrong(fit, name, format!("there is no model `{name}`"), Some(hint)))
}

fn check_data(fit: &FitCall, variables: &[(String, String)]) -> Result<(), MagicError> {
    let name = fit.data.as_str();
    let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && name.starts_with(|c: char| c.is_lowercase() || c == '_');
    if !is_name || variables.iter().any(|(variable, _)| variable == name) {
        return Ok(());
    }
    let hint =
        nearest(name, variables.iter().map(|(name, _)| name.as_str())).map(|close| format!("did you mean {close}?"));
    Err(wrong(
        fit,
        name,
        format!("there is no variable `{name}`"),
        hint.or_else(|| Some("make it in a cell: `let data = Data::new(…);`".into())),
    ))
}

fn wrong(fit: &FitCall, word: &str, message: String, hint: Option<String>) -> MagicError {
    wrong_in(fit.line, &fit.text, word, message, hint)
}

/// What is wrong with a word of a magic's line.
pub fn wrong_in(line: usize, text: &str, word: &str, message: String, hint: Option<String>) -> MagicError {
    let column = text.find(word).map_or(1, |at| text[..at].chars().count() + 1);
    MagicError {
        line,
        column,
        width: word.chars().count(),
        message,
        hint,
    }
}

/// Errors of the compiler in the generated line, in the user's words.
pub fn explain_fit(fit: &FitCall, errors: &[Diagnostic], cell: Cell) -> Report {
    let all: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    let about = |text: &str| all.iter().any(|message| message.contains(text));
    let (word, message, hint) =
        if about(": LightningModule` is not satisfied") || about("LightningModule` is not implemented") {
            let hint = format!("write `impl LightningModule for {} {{ … }}` in a cell", fit.model);
            (
                fit.model.as_str(),
                format!("`{}` is no LightningModule", fit.model),
                hint,
            )
        } else if about(": DataModule` is not satisfied") || about("DataModule` is not implemented") {
            (
                fit.data.as_str(),
                format!("`{}` is nothing to train on: it is no DataModule", fit.data),
                "make it with `Data::new(TensorDataset::new(x, y)?)`".to_owned(),
            )
        } else if about("type mismatch resolving") {
            (
                fit.data.as_str(),
                format!("`{}` gives other batches than `{}` takes", fit.data, fit.model),
                "the model's `type Batch` and the data's must be the same".to_owned(),
            )
        } else {
            let first = errors.first().map(|error| error.message.clone()).unwrap_or_default();
            let hint = errors
                .first()
                .and_then(|error| error.helps.first().cloned())
                .unwrap_or_else(|| "%fit? shows its help".to_owned());
            (fit.data.as_str(), first, hint)
        };
    let error = wrong(fit, word, message, Some(hint));
    report(&error, cell.count, cell.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(line: &str) -> FitCall {
        match split(line).unwrap().remove(0) {
            Piece::Fit(fit) => fit,
            other => panic!("{other:?}"),
        }
    }

    fn names(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn fit_becomes_a_line_of_rust() {
        let items = ["Mlp".to_owned()];
        let data = names(&[("data", "lightcell::Data")]);
        let code = fit_code(&fit("%fit Mlp data --epochs 3"), &data, &items, true).unwrap();
        assert!(
            code.starts_with("let mut fit = lightcell::notebook::fit::<Mlp, _>(&(data), \"{\\\"accelerator"),
            "{code}"
        );
        assert!(code.contains("\\\"max_epochs\\\":3,"), "{code}");
        assert!(code.ends_with(", None)?;"), "{code}");
        let again = names(&[("data", "lightcell::Data"), ("fit", "lightcell::Fit<Mlp>")]);
        assert!(
            fit_code(&fit("%fit Mlp data"), &again, &items, true)
                .unwrap()
                .ends_with(", Some(fit))?;")
        );
        assert!(
            fit_code(&fit("%fit Mlp data"), &again, &items, false)
                .unwrap()
                .ends_with(", None)?;")
        );
        let other = names(&[("data", "D"), ("fit", "lightcell::Fit<Other>")]);
        assert!(
            fit_code(&fit("%fit Mlp data"), &other, &items, true)
                .unwrap()
                .ends_with(", None)?;")
        );
        assert!(
            fit_code(&fit("%fit fit data"), &again, &items, true)
                .unwrap()
                .contains("go_on(fit, &(data), ")
        );
        assert!(
            fit_code(&fit("%fit a::Net<f32> Data::new(x, 1)"), &[], &[], true)
                .unwrap()
                .contains("fit::<a::Net<f32>, _>(&(Data::new(x, 1))")
        );
    }

    #[test]
    fn what_is_not_there_is_said_with_the_closest_name() {
        let items = ["Mlp".to_owned()];
        let variables = names(&[("data", "D"), ("x", "i32")]);
        let error = |line: &str| fit_code(&fit(line), &variables, &items, true).unwrap_err();
        assert_eq!(
            error("%fit Mpl data").to_string(),
            "there is no model `Mpl`\nhint: did you mean Mlp?"
        );
        assert_eq!(
            error("%fit Mlp dta").to_string(),
            "there is no variable `dta`\nhint: did you mean data?"
        );
        assert_eq!(error("%fit x data").message, "`x` is a i32, no model");
        assert!(error("%fit Zzz data").hint.unwrap().starts_with("define it in a cell"));
        assert_eq!((error("%fit Mlp dta").column, error("%fit Mlp dta").width), (10, 3));
    }

    #[test]
    fn the_compilers_words_become_the_users() {
        let explained = |message: &str| {
            let error = Diagnostic {
                message: message.into(),
                ..Diagnostic::default()
            };
            explain_fit(
                &fit("%fit Mlp data"),
                &[error],
                Cell {
                    count: 2,
                    source: "%fit Mlp data",
                },
            )
            .evalue
        };
        assert_eq!(
            explained("the trait bound `Mlp: LightningModule` is not satisfied"),
            "`Mlp` is no LightningModule"
        );
        assert_eq!(
            explained("the trait bound `Vec<i32>: DataModule` is not satisfied"),
            "`data` is nothing to train on: it is no DataModule"
        );
        assert_eq!(
            explained("type mismatch resolving `<X as DataModule>::Batch == Y`"),
            "`data` gives other batches than `Mlp` takes"
        );
        assert_eq!(explained("something else"), "something else");
    }

    #[test]
    fn kernel_side_cells_are_known() {
        assert!(is_kernel_only("%gpu\n%lsmagic"));
        assert!(is_kernel_only("%gpu --json"));
        for code in ["%gpu\n1", "%fit Mlp data", "1 + 1", "%nonsense", "v?"] {
            assert!(!is_kernel_only(code), "{code}");
        }
    }

    #[test]
    fn help_and_completion_work_within_a_cell() {
        assert!(help_at("let a = 1;\n%gp", 14).is_none());
        assert!(help_at("let a = 1;\n%gpu", 15).is_some());
        assert_eq!(
            complete("let a = 1;\n%gp\nb", 14),
            Some((11, 14, vec!["%gpu".to_owned()]))
        );
        assert_eq!(complete("let a", 5), None);
    }
}
