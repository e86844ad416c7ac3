//! What the user sees: one line a step, with a bar while it runs.

use crate::place::{Place, on_path};
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

/// An error with what to do about it.
#[derive(Debug)]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// What to do, usually a command.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nhint: {}", self.what, self.hint)
    }
}

impl std::error::Error for Problem {}

/// An error with a hint.
pub fn problem(what: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Problem {
        what: what.into(),
        hint: hint.into(),
    }
    .into()
}

/// The last line of a command that failed.
pub fn error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

/// A step that runs.
pub struct Step {
    bar: ProgressBar,
    name: String,
    begun: Instant,
    /// Without a terminal: when a line was last printed, and how numbers are shown.
    told: Cell<Instant>,
    is_bytes: Cell<bool>,
}

/// Without a terminal, as in a log or over ssh, a step says so often how far it is.
const TOLD: Duration = Duration::from_secs(10);

impl Step {
    /// A step of unknown length.
    pub fn new(name: &str) -> Step {
        let bar = ProgressBar::new_spinner().with_message(name.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        if bar.is_hidden() {
            println!("… {name}");
        }
        Step {
            bar,
            name: name.to_owned(),
            begun: Instant::now(),
            told: Cell::new(Instant::now()),
            is_bytes: Cell::new(false),
        }
    }

    /// Gives it a length in bytes.
    pub fn bytes(&self, total: u64) {
        self.is_bytes.set(true);
        self.length(total, "{spinner} {msg} [{bar:24}] {bytes}/{total_bytes} {eta}");
    }

    /// Gives it a length in pieces.
    pub fn pieces(&self, total: u64) {
        self.length(total, "{spinner} {msg} [{bar:24}] {pos}/{len} {elapsed}");
    }

    fn length(&self, total: u64, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("█▌·"));
        }
        self.bar.set_length(total);
    }

    /// How far it is.
    pub fn at(&self, position: u64, what: &str) {
        if position > self.bar.length().unwrap_or(u64::MAX) {
            self.bar.set_length(position);
        }
        self.bar.set_position(position);
        if !what.is_empty() {
            self.bar.set_message(format!("{}: {what}", self.name));
        }
        if self.bar.is_hidden() && self.told.get().elapsed() >= TOLD {
            self.told.set(Instant::now());
            println!("… {}", self.line(position, what));
        }
    }

    /// How far it is, in words.
    fn line(&self, position: u64, what: &str) -> String {
        let far = match (self.bar.length(), self.is_bytes.get()) {
            (Some(total), true) => format!("{} of {}", size(position), size(total)),
            (Some(total), false) => format!("{position} of {total}"),
            (None, _) => String::new(),
        };
        let parts = [far.as_str(), what];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        format!("{}: {}", self.name, parts.join(", "))
    }

    /// It is done; the line that stays.
    pub fn done(self, what: &str) {
        self.bar.finish_and_clear();
        println!("✓ {} {what} ({:.1} s)", self.name, self.begun.elapsed().as_secs_f64());
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A step that had nothing to do.
pub fn already(name: &str, what: &str) {
    println!("✓ {name} {what}");
}

/// Something the user should know.
pub fn note(text: &str) {
    println!("! {text}");
}

/// Asks on the terminal; anything but a `y` is a no.
pub fn confirmed(question: &str) -> std::io::Result<bool> {
    use std::io::{BufRead, Write};
    print!("{question} [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

/// How the user starts this program: by its name where PATH has it, else by where it lies.
pub fn me(place: &Place) -> String {
    let program = place.join("bin/lightcell");
    match on_path("lightcell") {
        Some(found) if found.canonicalize().ok() == program.canonicalize().ok() => "lightcell".to_owned(),
        _ => program.display().to_string(),
    }
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 10_000_000_000 => format!("{:.0} GB", b as f64 / 1e9),
        b if b >= 1_000_000_000 => format!("{:.1} GB", b as f64 / 1e9),
        b => format!("{:.0} MB", b as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(
            [487_000_000, 4_736_000_000, 12_000_000_000].map(size),
            ["487 MB", "4.7 GB", "12 GB"]
        );
    }

    #[test]
    fn a_step_says_how_far_it_is() {
        let step = Step::new("files");
        assert_eq!(step.line(0, "a"), "files: a");
        step.pieces(10);
        assert_eq!(step.line(3, "a"), "files: 3 of 10, a");
        step.bytes(20_000_000);
        assert_eq!(step.line(5_000_000, ""), "files: 5 MB of 20 MB");
    }

    #[test]
    fn a_problem_says_what_to_do() {
        assert_eq!(
            problem("no compiler", "install one").to_string(),
            "no compiler\nhint: install one"
        );
    }
}
