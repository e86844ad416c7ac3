//! Magics in a cell: which of them the kernel answers itself, and what Rust the others become.

use crate::devices;
use crate::engine::Diagnostic;
use crate::executor::Shared;
use crate::publish::{self, Parent};
use crate::report::{Cell, Report};
use crate::runs::Wanted;
use crate::tensorboard;
use lightcell_magics::{Call, FitCall, MagicError, ModelCall, Side};
use lightcell_plot::Sort;
use std::sync::Arc;

/// A part of a cell, by who has to do with it.
#[derive(Debug)]
pub enum Piece {
    /// Rust.
    Code(String),
    /// A magic that the kernel answers.
    Kernel(Call),
    /// `%fit`.
    Fit(FitCall),
    /// Another magic for a model.
    Model(ModelCall),
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
            lightcell_magics::Piece::Magic(call) => match call.side() {
                Side::Kernel => Piece::Kernel(call),
                Side::Worker => match (FitCall::from_call(&call), ModelCall::from_call(&call)) {
                    (Some(fit), _) => Piece::Fit(fit),
                    (None, Some(model)) => Piece::Model(model),
                    (None, None) => Piece::InTurn(call),
                },
            },
        })
        .collect())
}

/// Whether a cell holds only magics that the kernel answers, so that it need not wait for a cell that runs.
pub fn is_kernel_only(code: &str) -> bool {
    match lightcell_magics::split(code) {
        Ok(pieces) => pieces.iter().all(|piece| match piece {
            lightcell_magics::Piece::Magic(call) => call.side() == Side::Kernel,
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
        "gpu" => devices::answer(call, shared, parent),
        "lsmagic" => {
            shared
                .publisher
                .display(publish::text(lightcell_magics::lsmagic()), None, Some(parent));
            Ok(())
        }
        "fit" => {
            shared.board.attach(&shared.publisher, parent);
            Ok(())
        }
        "tensorboard" => tensorboard::answer(call, shared, parent),
        "plot" | "compare" => {
            let wanted = Wanted {
                runs: call.value("--runs"),
                newest: if call.name == "plot" { 1 } else { 6 },
                metrics: call.arguments.clone(),
                save: call.value("--save").map(|name| shared.folder().join(name)),
            };
            let shown = shared.board.plot(&wanted, &shared.publisher, parent);
            shown.map_err(|(message, hint)| Report::plain("MagicError", &message, Some(&hint)))
        }
        "runs" => {
            let max = call.value("--mode") == Some("max");
            let sort = call.value("--sort").map(|metric| Sort { metric, max });
            let shown = shared.board.show(sort, &shared.publisher, parent);
            shown.map_err(|error| Report::plain("MagicError", &error, None))
        }
        other => Err(Report::plain(
            "MagicError",
            &format!("%{other} is not answered by the kernel"),
            None,
        )),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_side_cells_are_known() {
        assert!(is_kernel_only("%gpu\n%lsmagic"));
        for code in ["%gpu --json", "%gpu watch", "%gpu select 1", "%fit --attach"] {
            assert!(is_kernel_only(code), "{code}");
        }
        for code in ["%gpu\n1", "%gpu free", "%fit Mlp data", "1 + 1", "%nonsense", "v?"] {
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
