//! What a user reads when a cell failed: their own line and words, one to three lines first, the rest after.

use crate::engine::{Diagnostic, Failure, Span};
use jupyter_protocol::messaging::ReplyError;
use std::fmt::Write;

/// An error in Jupyter's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Kind: `CompileError`, `Panic`, `Error`, `Crash`, `Interrupted`, …
    pub ename: String,
    /// One line.
    pub evalue: String,
    /// What is shown, line by line, with ANSI colours.
    pub traceback: Vec<String>,
}

impl From<Report> for ReplyError {
    fn from(report: Report) -> ReplyError {
        ReplyError {
            ename: report.ename,
            evalue: report.evalue,
            traceback: report.traceback,
        }
    }
}

const RED: &str = "\x1b[1;31m";
const BLUE: &str = "\x1b[1;34m";
const GREEN: &str = "\x1b[1;32m";
const BOLD: &str = "\x1b[1m";
const OFF: &str = "\x1b[0m";

/// Where a cell is cited: `cell [3]`.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    /// Its execution count.
    pub count: usize,
    /// Its text as typed.
    pub source: &'a str,
}

impl Report {
    /// `kind: message`, with a hint below.
    pub fn plain(ename: &str, evalue: &str, hint: Option<&str>) -> Report {
        let mut text = format!("{RED}{ename}{OFF}: {evalue}");
        if let Some(hint) = hint {
            let _ = write!(text, "\n{GREEN}hint{OFF}: {hint}");
        }
        Report {
            ename: ename.to_owned(),
            evalue: evalue.lines().next().unwrap_or_default().to_owned(),
            traceback: lines(&text),
        }
    }

    /// What is missing in the installation; `machine` names the one where the kernel runs, when it is not the user's.
    pub fn setup(reason: &str, machine: Option<&str>) -> Report {
        let (what, hint) = reason
            .split_once("\nhint: ")
            .unwrap_or((reason, "`lightcell doctor` says what is missing"));
        let full = ["No space left on device", "Disk quota exceeded"];
        if full.iter().any(|sign| what.contains(sign)) {
            let whose = machine.map_or(String::new(), |machine| format!(" of {machine}"));
            let what = format!("the disk{whose} is full: {what}");
            return Report::plain(
                "SetupError",
                &what,
                Some("free some space there, then restart the kernel"),
            );
        }
        match machine {
            Some(machine) => Report::plain("SetupError", what, Some(&format!("on {machine}: {hint}"))),
            None => Report::plain("SetupError", what, Some(hint)),
        }
    }

    /// An error of the compiler, in the user's lines.
    pub fn compile(said: &[Diagnostic], cell: Cell) -> Report {
        // What rustc warns of beside an error is not why the cell failed. Alone, it is all there is to go by.
        let errors: Vec<&Diagnostic> = said.iter().filter(|said| said.level != "warning").collect();
        let mut text = String::new();
        if errors.is_empty() {
            let _ = write!(
                text,
                "{RED}error{OFF}{BOLD}: the cell does not compile, and the compiler gave no error{OFF}\n\
                 {GREEN}hint{OFF}: nothing was run, and all variables are kept; try the cell in two parts, to see which it is"
            );
        }
        let all: Vec<&Diagnostic> = said.iter().collect();
        for error in if errors.is_empty() { &all } else { &errors } {
            if !text.is_empty() {
                text.push('\n');
            }
            diagnostic(&mut text, error, cell);
        }
        let first = errors.first();
        let evalue = match first {
            Some(error) => {
                let code = error
                    .code
                    .as_deref()
                    .map(|code| format!("{code}: "))
                    .unwrap_or_default();
                let place = primary(error)
                    .map(|span| format!(" (line {})", span.line))
                    .unwrap_or_default();
                format!("{code}{}{place}", error.message.lines().next().unwrap_or_default())
            }
            None => "the cell does not compile".to_owned(),
        };
        Report {
            ename: "CompileError".into(),
            evalue,
            traceback: lines(&text),
        }
    }

    /// A failure of the engine that is no compiler error.
    pub fn engine(failure: &Failure, cell: Cell) -> Report {
        match failure {
            Failure::Compile(errors) => Report::compile(errors, cell),
            Failure::Died(text) => {
                let text = text.trim();
                let why = text.strip_prefix("Subprocess terminated with status: ").unwrap_or(text);
                Report::plain(
                    "Crash",
                    &format!("the process that runs the cells ended ({why}); all variables are lost"),
                    Some("types, functions and imports are kept; run the cells that make the variables again"),
                )
            }
            Failure::Refused(text) => refused(text),
            Failure::Broken(text) => Report::plain(
                "InternalError",
                &format!(
                    "the compiler layer failed on this cell: {}",
                    text.lines().next().unwrap_or_default()
                ),
                Some("the session was started anew; all variables and items are lost; run the cells above again"),
            ),
        }
    }

    /// A panic on the cell's thread.
    pub fn panic(panic: &Panic, place: Option<Place>, lost: &[String]) -> Report {
        let mut text = format!("{RED}panic{OFF}: {BOLD}{}{OFF}", panic.message);
        if let Some(place) = &place {
            let _ = write!(text, "\n {BLUE}-->{OFF} cell [{}], line {}", place.count, place.line);
            let _ = write!(text, "\n{BLUE}{:>4} |{OFF} {}", place.line, place.text.trim_end());
        } else if !panic.file.is_empty() && !panic.file.ends_with("src/lib.rs") {
            let _ = write!(text, "\n {BLUE}-->{OFF} {}:{}", short_path(&panic.file), panic.line);
        }
        let frames: Vec<_> = panic
            .frames
            .iter()
            .filter(|frame| !frame.starts_with("run_user_code_"))
            .collect();
        if !frames.is_empty() {
            let _ = write!(
                text,
                "\n  in {}",
                frames
                    .iter()
                    .map(|f| f.as_str())
                    .collect::<Vec<_>>()
                    .join(", called from ")
            );
        }
        kept(&mut text, lost);
        Report {
            ename: "Panic".into(),
            evalue: panic.message.lines().next().unwrap_or_default().into(),
            traceback: lines(&text),
        }
    }

    /// The process that ran the cell is gone, and its copy took over.
    pub fn taken_over(how: &str, not_kept: &str, interrupted: bool, lost: &[String]) -> Report {
        let (ename, evalue) = if interrupted {
            ("Interrupted", "the cell was stopped".to_owned())
        } else {
            match how.split_once(' ') {
                Some(("exit", code)) => ("Exited", format!("the cell ended its process with exit status {code}")),
                Some(("signal", number)) => ("Crash", format!("the cell crashed: {}", signal(number))),
                None if how == "stack" => (
                    "Crash",
                    "the cell crashed: stack overflow, perhaps an endless recursion".to_owned(),
                ),
                _ => ("Crash", format!("the cell's process ended: {how}")),
            }
        };
        let mut text = format!("{RED}{ename}{OFF}: {evalue}");
        kept(&mut text, lost);
        if !not_kept.is_empty() {
            let _ = write!(text, "\nnot kept (they cannot be copied): {not_kept}");
        }
        Report {
            ename: ename.into(),
            evalue,
            traceback: lines(&text),
        }
    }

    /// A build that was stopped.
    pub fn build_stopped() -> Report {
        Report::plain("Interrupted", "the build was stopped; all variables are kept", None)
    }

    /// A `?` that returned early. The error itself was printed.
    pub fn question_mark(text: &str) -> Report {
        let text = text.trim();
        let evalue = if text.is_empty() {
            "the cell returned early with an error"
        } else {
            text
        };
        let mut shown = format!("{RED}Error{OFF}: {evalue}");
        shown.push_str("\nvariables of earlier cells are kept");
        Report {
            ename: "Error".into(),
            // What is wrong, not what to do about it.
            evalue: evalue
                .lines()
                .rfind(|line| !line.starts_with("hint: "))
                .unwrap_or_default()
                .to_owned(),
            traceback: lines(&shown),
        }
    }
}

fn kept(text: &mut String, lost: &[String]) {
    if lost.is_empty() {
        text.push_str("\nvariables of earlier cells are kept");
    } else {
        let _ = write!(
            text,
            "\nlost, because the cell had moved or replaced them: {}; other variables are kept",
            lost.join(", ")
        );
    }
}

/// evcxr's and cargo's own words, sorted into what users meet.
fn refused(text: &str) -> Report {
    let text = text.trim();
    if let Some((message, hint)) = crate::words::explain(text) {
        return Report::plain("CompileError", &message, hint.as_deref());
    }
    Report::plain("Error", text, None)
}

/// Signals that end a cell, in words.
fn signal(number: &str) -> String {
    let words = match number {
        "4" => "illegal instruction (SIGILL)",
        "6" => "aborted (SIGABRT)",
        "7" => "bus error (SIGBUS)",
        "8" => "arithmetic error (SIGFPE)",
        "9" => "killed (SIGKILL), perhaps because the machine ran out of memory",
        "11" => "segmentation fault (SIGSEGV)",
        "13" => "broken pipe (SIGPIPE)",
        "15" => "terminated (SIGTERM)",
        other => return format!("signal {other}"),
    };
    words.to_owned()
}

fn primary(error: &Diagnostic) -> Option<&Span> {
    error.spans.iter().find(|span| span.primary).or(error.spans.first())
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn short_path(file: &str) -> &str {
    // …/registry/src/index-…/tch-0.26.0/src/x.rs
    match file
        .find("/registry/src/")
        .and_then(|at| file[at + 14..].split_once('/'))
    {
        Some((_, rest)) => rest,
        None => file,
    }
}

fn diagnostic(out: &mut String, error: &Diagnostic, cell: Cell) {
    let code = error
        .code
        .as_deref()
        .map(|code| format!("[{code}]"))
        .unwrap_or_default();
    let level = if error.level.is_empty() { "error" } else { &error.level };
    let _ = write!(out, "{RED}{level}{code}{OFF}{BOLD}: {}{OFF}", error.message);
    if let Some(span) = primary(error) {
        let _ = write!(
            out,
            "\n {BLUE}-->{OFF} cell [{}], line {}, column {}",
            cell.count, span.line, span.column
        );
    }
    let source: Vec<&str> = cell.source.lines().collect();
    let mut spans: Vec<&Span> = error.spans.iter().collect();
    spans.sort_by_key(|span| (span.line, std::cmp::Reverse(span.column)));
    let mut shown = 0;
    for span in spans {
        let Some(text) = span.line.checked_sub(1).and_then(|index| source.get(index)) else {
            continue;
        };
        if span.line != shown {
            let _ = write!(out, "\n{BLUE}{:>4} |{OFF} {text}", span.line);
            shown = span.line;
        }
        // Never beyond the line: a line that was rewritten is longer than the user's.
        let rest = text
            .chars()
            .count()
            .saturating_sub(span.column.saturating_sub(1))
            .max(1);
        let width = if span.end_line == span.line {
            span.end_column.saturating_sub(span.column).clamp(1, rest)
        } else {
            rest
        };
        let (mark, colour) = if span.primary { ("^", RED) } else { ("-", BLUE) };
        let label = if span.label.starts_with("error:") {
            ""
        } else {
            &span.label
        };
        let _ = write!(
            out,
            "\n{BLUE}     |{OFF} {:pad$}{colour}{} {label}{OFF}",
            "",
            mark.repeat(width),
            pad = span.column.saturating_sub(1)
        );
    }
    for help in &error.helps {
        let mut parts = help.lines().filter(|line| !line.trim().is_empty());
        if let Some(first) = parts.next() {
            let _ = write!(out, "\n{GREEN}help{OFF}: {first}");
        }
        for rest in parts {
            let _ = write!(out, "\n      {rest}");
        }
    }
}

/// A panic as the worker reported it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Panic {
    /// Its message.
    pub message: String,
    /// Source file.
    pub file: String,
    /// Line in the file.
    pub line: usize,
    /// Calls in libraries of cells, see [`crate::places`].
    pub calls: String,
    /// The user's functions, innermost first.
    pub frames: Vec<String>,
}

impl Panic {
    /// From the fields of a packet.
    pub fn from_fields(fields: &[Vec<u8>]) -> Panic {
        let text = |index: usize| {
            fields
                .get(index)
                .map(|f| String::from_utf8_lossy(f).into_owned())
                .unwrap_or_default()
        };
        Panic {
            message: text(0),
            file: text(1),
            line: text(2).parse().unwrap_or(0),
            calls: text(5),
            frames: fields
                .iter()
                .skip(6)
                .map(|f| String::from_utf8_lossy(f).into_owned())
                .collect(),
        }
    }
}

/// A line of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The cell.
    pub count: usize,
    /// Line in it, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

/// Finds the user's line for a line of the generated source: the statement stands there as typed.
pub fn place(generated: &str, line: usize, cells: &[(usize, String)]) -> Option<Place> {
    let wanted = line
        .checked_sub(1)
        .and_then(|index| generated.lines().nth(index))?
        .trim();
    if wanted.is_empty() {
        return None;
    }
    // How many equal lines stand before it among the user's: the same number in the cell, counted from its end, since
    // items of earlier cells come first.
    for (count, source) in cells.iter().rev() {
        let found: Vec<_> = source
            .lines()
            .enumerate()
            .filter(|(_, text)| text.trim() == wanted)
            .collect();
        if found.is_empty() {
            continue;
        }
        let after = generated
            .lines()
            .skip(line)
            .filter(|text| text.trim() == wanted)
            .count();
        let index = found.len().saturating_sub(1 + after);
        let (at, text) = found[index];
        return Some(Place {
            count: *count,
            line: at + 1,
            text: text.to_owned(),
        });
    }
    None
}

#[cfg(test)]
mod tests;
