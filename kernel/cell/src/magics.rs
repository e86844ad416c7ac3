//! What some magics become: `!command`, `%cd`, `%env`, `%%writefile`, `%timeit` and `%whos` run in the process that runs
//! the cells, so that they share its folder, its environment and its variables.

use crate::{Rich, display};
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What went wrong, in one line.
pub struct MagicError(String);

impl fmt::Debug for MagicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for MagicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MagicError {}

/// `!command` and `%%bash`: runs a text with a shell; what it prints appears as it comes. Its standard input is empty.
///
/// # Errors
/// When the shell cannot be run, or `strict` and its exit status is not 0.
///
/// ```
/// use lightcell_cell::magics::shell;
/// shell("sh", "exit 3", false)?;
/// assert_eq!(shell("sh", "exit 3", true).unwrap_err().to_string(), "exit status: 3");
/// # Ok::<(), lightcell_cell::magics::MagicError>(())
/// ```
pub fn shell(program: &str, text: &str, strict: bool) -> Result<(), MagicError> {
    let _ = std::io::stdout().flush();
    let status = Command::new(program)
        .args(["-c", text])
        .stdin(Stdio::null())
        .status()
        .map_err(|error| MagicError(format!("cannot run {program}: {error}")))?;
    match (status.success(), strict) {
        (true, _) => Ok(()),
        (false, true) => Err(MagicError(status.to_string())),
        (false, false) => {
            eprintln!("{status}");
            Ok(())
        }
    }
}

/// `%cd`: changes the current folder and prints it.
///
/// # Errors
/// When there is no such folder.
pub fn cd(folder: &str) -> Result<(), MagicError> {
    let path = match folder {
        "" => home("~"),
        folder => home(folder),
    };
    std::env::set_current_dir(&path)
        .map_err(|error| MagicError(format!("cannot change to {}: {error}", path.display())))?;
    println!("{}", std::env::current_dir().unwrap_or(path).display());
    Ok(())
}

fn home(path: &str) -> PathBuf {
    match (path.strip_prefix('~'), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            PathBuf::from(home).join(rest.trim_start_matches('/'))
        }
        _ => path.into(),
    }
}

/// `%env`: shows all variables, shows one, or sets one.
///
/// # Errors
/// When the name is no name, or is not set.
pub fn env(text: &str) -> Result<(), MagicError> {
    if text.is_empty() {
        let mut all: Vec<_> = std::env::vars_os().collect();
        all.sort();
        for (name, value) in all {
            println!("{}={}", name.to_string_lossy(), value.to_string_lossy());
        }
        return Ok(());
    }
    let Some((name, value)) = text.split_once('=') else {
        let value = std::env::var_os(text).ok_or_else(|| MagicError(format!("{text} is not set")))?;
        println!("{}", value.to_string_lossy());
        return Ok(());
    };
    let name = name.trim();
    if name.is_empty() || name.contains(char::is_whitespace) || text.contains('\0') {
        return Err(MagicError(format!("`{name}` is no name of a variable")));
    }
    let value = value.trim();
    // SAFETY: between cells no thread of ours runs; those of the user's that read the environment at this moment race
    // with it as they would with `set_var` in a cell.
    unsafe { std::env::set_var(name, value) };
    println!("{name}={value}");
    Ok(())
}

/// `%%writefile`: writes a text to a file and says what it did.
///
/// # Errors
/// When it cannot be written.
pub fn write_file(path: &str, text: &str, append: bool) -> Result<(), MagicError> {
    let file = home(path);
    let failed = |error: std::io::Error| MagicError(format!("cannot write {}: {error}", file.display()));
    let what = match (append, file.exists()) {
        (true, _) => "Appending to",
        (false, true) => "Overwriting",
        (false, false) => "Writing",
    };
    let mut options = std::fs::File::options();
    options.create(true).append(append).write(true).truncate(!append);
    options
        .open(&file)
        .and_then(|mut open| open.write_all(text.as_bytes()))
        .map_err(failed)?;
    println!("{what} {}", file.display());
    Ok(())
}

/// `%timeit`: runs `code` in `runs` runs of `loops` loops each, or of as many as take a fifth of a second.
///
/// ```
/// lightcell_cell::magics::timeit(Some(10), 2, || { std::hint::black_box(1 + 1); });
/// ```
pub fn timeit(loops: Option<u64>, runs: u64, mut code: impl FnMut()) {
    let mut time = |loops: u64| {
        let begun = Instant::now();
        for _ in 0..loops {
            code();
        }
        begun.elapsed()
    };
    // Also the warm-up.
    let loops = loops.unwrap_or_else(|| {
        let mut loops = 1;
        loop {
            let took = time(loops);
            if took >= Duration::from_millis(200) || loops >= 1_000_000_000 {
                return loops;
            }
            // So that the next run takes long enough, but never ten times as long as is known.
            let factor = 0.25 / took.as_secs_f64().max(1e-9);
            loops = (loops as f64 * factor.clamp(2.0, 10.0)) as u64;
        }
    });
    let (loops, runs) = (loops.max(1), runs.max(1));
    let each: Vec<f64> = (0..runs).map(|_| time(loops).as_secs_f64() / loops as f64).collect();
    let mean = each.iter().sum::<f64>() / runs as f64;
    let spread = (each.iter().map(|each| (each - mean).powi(2)).sum::<f64>() / runs as f64).sqrt();
    let best = each.iter().copied().fold(f64::INFINITY, f64::min);
    let plural = |count: u64, name: &str| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
    println!(
        "{} ± {} per loop (best {}; mean ± std. dev. of {}, {} each)",
        short(mean),
        short(spread),
        short(best),
        plural(runs, "run"),
        plural(loops, "loop")
    );
}

/// A time with three digits and its unit.
fn short(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s if s >= 1e-6 => (s * 1e6, "µs"),
        s => (s * 1e9, "ns"),
    };
    let digits = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {unit}")
}

/// `%whos`: shows rows of name, type, what it holds, and bytes.
pub fn whos(rows: &[(&str, &str, String, usize)]) {
    if rows.is_empty() {
        println!("no variables");
        return;
    }
    use lightcell_events::escape;
    let width = |cell: fn(&(&str, &str, String, usize)) -> usize| rows.iter().map(cell).max().unwrap_or(0);
    let (name, kind) = (
        width(|row| row.0.chars().count()).max(4),
        width(|row| row.1.chars().count()).max(4),
    );
    let holds = width(|row| row.2.chars().count()).max(5);
    let mut text = format!("{:name$}  {:kind$}  {:holds$}  bytes", "name", "type", "holds");
    let mut html =
        "<table><thead><tr><th>name</th><th>type</th><th>holds</th><th>bytes</th></tr></thead><tbody>".to_owned();
    for (variable, of, what, bytes) in rows {
        text.push_str(&format!("\n{variable:name$}  {of:kind$}  {what:holds$}  {bytes}"));
        let cells = [variable, of, what.as_str()].map(|cell| format!("<td>{}</td>", escape(cell)));
        html.push_str(&format!("<tr>{}<td>{bytes}</td></tr>", cells.concat()));
    }
    html.push_str("</tbody></table>");
    display(&Rich::html(html).and_text(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(short(1.5), "1.50 s");
        assert_eq!(short(0.0123), "12.3 ms");
        assert_eq!(short(4.56e-7), "456 ns");
        assert_eq!(short(2e-6), "2.00 µs");
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let error = |result: Result<(), MagicError>| result.unwrap_err().to_string();
        assert_eq!(
            error(shell("lightcell-no-shell", "", true)),
            "cannot run lightcell-no-shell: No such file or directory (os error 2)"
        );
        assert_eq!(
            error(cd("/lightcell/none")),
            "cannot change to /lightcell/none: No such file or directory (os error 2)"
        );
        assert_eq!(error(env("LIGHTCELL_NOT_SET")), "LIGHTCELL_NOT_SET is not set");
        assert_eq!(error(env("a b=1")), "`a b` is no name of a variable");
        assert!(error(write_file("/lightcell/none/x", "", false)).starts_with("cannot write /lightcell/none/x: "));
    }

    #[test]
    fn files_are_written_and_added_to() {
        let file = std::env::temp_dir().join(format!("lightcell-writefile-{}", std::process::id()));
        let path = file.to_string_lossy().into_owned();
        write_file(&path, "a\n", false).unwrap();
        write_file(&path, "b\n", true).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a\nb\n");
        write_file(&path, "c\n", false).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "c\n");
        std::fs::remove_file(file).unwrap();
    }
}
