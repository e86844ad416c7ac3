//! The only file that names evcxr: turns cells into results, and evcxr's words into ours.

use crate::home::Home;
use crate::session::Session;
use anyhow::{Context, Result, anyhow};
use std::path::{Path, PathBuf};
use std::process::Command;

/// An evaluation context with its worker.
pub struct Engine {
    context: evcxr::CommandContext,
    /// What the worker said before it had its socket, such as a library that the loader missed.
    early: crossbeam_receiver::Receiver,
}

/// evcxr's channel type, without naming its crate in our manifest.
mod crossbeam_receiver {
    /// Lines of the worker's original standard error.
    pub struct Receiver(pub evcxr::EvalContextOutputs);

    impl Receiver {
        /// All lines that are there.
        pub fn drain(&self) -> String {
            let mut text = String::new();
            while let Ok(line) = self.0.stderr.try_recv() {
                text.push_str(&line);
                text.push('\n');
            }
            // Nothing of the user's comes this way; an unread queue would only grow.
            while self.0.stdout.try_recv().is_ok() {}
            text
        }
    }
}

/// Why a cell has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It does not compile.
    Compile(Vec<Diagnostic>),
    /// The worker died and nobody took over; evcxr has started a new one, without variables.
    Died(String),
    /// evcxr or cargo refused, in its words.
    Refused(String),
    /// evcxr itself panicked; this engine is not to be used again.
    Broken(String),
}

/// An error of the compiler.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostic {
    /// `error`, `warning`.
    pub level: String,
    /// Such as `E0308`.
    pub code: Option<String>,
    /// What is wrong.
    pub message: String,
    /// Where, in the user's lines.
    pub spans: Vec<Span>,
    /// What to do.
    pub helps: Vec<String>,
}

/// A place in the user's text. Lines and columns count from 1; columns are characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Span {
    /// First line.
    pub line: usize,
    /// First column.
    pub column: usize,
    /// Last line.
    pub end_line: usize,
    /// Column after the last.
    pub end_column: usize,
    /// What the compiler says of it.
    pub label: String,
    /// The place of the error itself.
    pub primary: bool,
}

/// What can stand at a position.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Completion {
    /// Text to put in.
    pub text: String,
    /// `method`, `field`, …
    pub kind: String,
    /// How to show it.
    pub label: String,
}

/// What every cell uses, and what trains: name and folder below the sources.
const CELL: (&str, &str) = ("lightcell-cell", "kernel/cell");
const LIBRARY: (&str, &str) = ("lightcell", "magics/fit");
/// Both as one shared library, which a cell links in their place.
const LINKED: (&str, &str) = ("lightcell-session", "kernel/session");

/// In scope of every cell; without it evcxr compiles each cell that ends in an expression twice. The `?` tells
/// evcxr for good that cells may use it, which otherwise costs the first one that does a compilation in vain; the `let`
/// behind it keeps evcxr from showing its value.
pub const PRELUDE: &str = "use lightcell_cell::Show as _;\nuse lightcell_cell::{Rich, clear_output, display, display_as, update_display};\nOk::<(), String>(())?;\nlet _ = ();\n";

/// Text whose completion makes the analyser read what first cells use; a cell with a `let` would do the same and leave a
/// variable.
const WARM_UP: &str =
    "let lightcell_warm = vec![String::new()]; lightcell_warm.iter().map(|s| s.len()).collect::<Vec<usize>>().";

impl Engine {
    /// Starts evcxr in the session folder; takes seconds. The folder is named to evcxr by `EVCXR_TMPDIR`, which `main`
    /// has set.
    ///
    /// # Errors
    /// When cargo, rustc or the worker do not start.
    pub fn start(command: Command) -> Result<Engine> {
        let (context, outputs) =
            evcxr::EvalContext::with_subprocess_command(command).map_err(|error| anyhow!("{error}"))?;
        Ok(Engine {
            context: evcxr::CommandContext::with_eval_context(context),
            early: crossbeam_receiver::Receiver(outputs),
        })
    }

    /// Gives the session what every cell uses. Takes half a second: the analyser has neither the standard library's
    /// sources (see [`Session::std_sources`]) nor the training library to read.
    pub fn begin(&mut self, home: &Home, session: &Session, store: Option<&Path>) -> Result<()> {
        let (name, folder) = CELL;
        self.add(session, store, &[(name, home.setup.src.join(folder))], PRELUDE)
            .context("cannot start the first cell")
    }

    /// Gives the session the training library, from the warm store by its stubs; takes seconds, since the analyser reads it
    /// and the standard library.
    pub fn furnish(&mut self, session: &Session, store: Option<&Path>, stubs: &Path) -> Result<()> {
        let crates = crate::stubs::CRATES.map(|(name, ..)| (name, stubs.join(name)));
        self.add(session, store, &crates, "let _ = ();\n")
            .context("cannot load the training library")
    }

    /// Compiles the training library itself, for a new store.
    pub fn build(&mut self, home: &Home, session: &Session) -> Result<()> {
        let crates = [LIBRARY, LINKED].map(|(name, folder)| (name, home.setup.src.join(folder)));
        self.add(session, None, &crates, "use lightcell_session as _;\n")
            .context("cannot compile the training library")
    }

    fn add(&mut self, session: &Session, store: Option<&Path>, crates: &[(&str, PathBuf)], code: &str) -> Result<()> {
        if let Some(store) = store {
            session.restore_lock(store)?;
        }
        let mut cell = String::new();
        for (name, folder) in crates {
            let path = toml_text(folder);
            cell.push_str(&format!(":dep {name} = {{ path = {path} }}\n"));
        }
        self.eval(&(cell + code)).map_err(|failure| anyhow!("{failure}"))?;
        Ok(())
    }

    /// Makes the analyser read the standard library, which would otherwise take seconds of the first cell.
    pub fn warm_up(&mut self) {
        if let Err(error) = self.complete(WARM_UP, WARM_UP.len()) {
            tracing::debug!("warm-up: {error}");
        }
    }

    /// Runs a cell. All it prints and shows goes another way; what is returned here is text that evcxr's own commands
    /// (`:dep`, `:vars`, …) gave, by media type.
    pub fn eval(&mut self, code: &str) -> Result<Vec<(String, String)>, Failure> {
        let context = &mut self.context;
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| context.execute(code)));
        match result {
            Ok(Ok(outputs)) => Ok(outputs.content_by_mime_type.into_iter().collect()),
            Ok(Err(error)) => Err(self.failure(error)),
            Err(payload) => Err(Failure::Broken(panic_text(&*payload))),
        }
    }

    fn failure(&self, error: evcxr::Error) -> Failure {
        match error {
            evcxr::Error::CompilationErrors(errors) => Failure::Compile(errors.iter().map(diagnostic).collect()),
            evcxr::Error::SubprocessTerminated(text) => Failure::Died(format!("{}{text}", self.early.drain())),
            other => Failure::Refused(other.to_string()),
        }
    }

    /// Variables with their types.
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut list: Vec<_> = self
            .context
            .variables_and_types()
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .collect();
        list.sort();
        list
    }

    /// Names of functions, types and imports.
    pub fn items(&self) -> Vec<String> {
        self.context.defined_item_names().map(str::to_owned).collect()
    }

    /// Takes back into evcxr's books variables that it believes gone, though the worker's store holds them: a cell that
    /// moved them was stopped, and the process that took over is from before it.
    pub fn reclaim(&mut self, variables: &[(String, String)]) -> Result<(), Failure> {
        let cell: String = variables
            .iter()
            .map(|(name, kind)| {
                format!("let mut {name}: {kind} = evcxr_variable_store.take_variable::<{kind}>(\"{name}\");\n")
            })
            .collect();
        self.eval(&cell).map(drop)
    }

    /// Completions at a byte offset, with the byte range they replace.
    pub fn complete(&mut self, code: &str, offset: usize) -> Result<(usize, usize, Vec<Completion>)> {
        let context = &mut self.context;
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| context.completions(code, offset)))
            .map_err(|payload| anyhow!("{}", panic_text(&*payload)))??;
        let list = found
            .completions
            .into_iter()
            .map(|c| Completion {
                text: c.code,
                kind: c.kind.to_owned(),
                label: c.label,
            })
            .collect();
        Ok((found.start_offset, found.end_offset, list))
    }

    /// Documentation of what ends at a byte offset: plain text and HTML.
    pub fn inspect(&mut self, code: &str, offset: usize) -> Result<Option<(String, String)>> {
        let context = &mut self.context;
        let (text, html) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| context.hover_at(code, offset)))
            .map_err(|payload| anyhow!("{}", panic_text(&*payload)))??;
        Ok((text != "No documentation found").then_some((text, html)))
    }

    /// The source that was compiled last, for places in it.
    pub fn last_source(&self) -> String {
        self.context.last_source().unwrap_or_default()
    }
}

/// Calls that evcxr makes of this program in other roles; returns when this is the kernel itself.
pub fn other_roles() {
    evcxr::runtime_hook();
}

impl Failure {
    /// Maps the columns of all places: by line and column.
    pub fn map_columns(&mut self, map: impl Fn(usize, usize) -> usize) {
        if let Failure::Compile(errors) = self {
            for span in errors.iter_mut().flat_map(|error| &mut error.spans) {
                span.column = map(span.line, span.column);
                span.end_column = map(span.end_line, span.end_column);
            }
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Compile(list) => {
                let texts: Vec<_> = list.iter().map(|d| d.message.as_str()).collect();
                f.write_str(&texts.join("; "))
            }
            Failure::Died(text) | Failure::Refused(text) | Failure::Broken(text) => f.write_str(text.trim_end()),
        }
    }
}

fn diagnostic(error: &evcxr::CompilationError) -> Diagnostic {
    let spans = error
        .spanned_messages()
        .iter()
        .filter_map(|message| {
            let span = message.span.as_ref()?;
            Some(Span {
                line: span.start_line,
                column: span.start_column,
                end_line: span.end_line,
                end_column: span.end_column,
                label: message.label.clone(),
                primary: message.is_primary,
            })
        })
        .collect();
    let mut helps = error.help();
    helps.extend(error.evcxr_extra_hint().map(str::to_owned));
    Diagnostic {
        level: error.level().to_owned(),
        code: error.code().map(str::to_owned),
        message: error.message(),
        spans,
        helps,
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown panic".to_owned())
}

/// A path as a TOML string on one line.
fn toml_text(path: &Path) -> String {
    let path: PathBuf = path.into();
    format!(
        "\"{}\"",
        path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_toml_strings() {
        assert_eq!(toml_text(Path::new("/a b/\"c\"/ü")), "\"/a b/\\\"c\\\"/ü\"");
    }
}
