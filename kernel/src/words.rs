//! Messages of evcxr, cargo and rustc in the words of somebody who wrote a cell: what is wrong and what to do.

use crate::engine::Diagnostic;
use std::collections::HashMap;

/// Why a variable is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// A cell moved it away.
    Moved(usize),
    /// Its type was defined again.
    Redefined,
}

/// Sorts out the errors of a cell. `gone` says why variables are no more.
pub fn sort_out(errors: &mut Vec<Diagnostic>, gone: &HashMap<String, Gone>) {
    // A warning beside errors is not why the cell failed.
    if errors.iter().any(|error| error.level == "error") {
        errors.retain(|error| error.level == "error" || error.level.is_empty());
    }
    for error in errors {
        if error.code.as_deref() == Some("E0425")
            && let Some(name) = between(&error.message, "cannot find value `", "`")
            && let Some(why) = gone.get(name)
        {
            let (message, help) = match why {
                Gone::Moved(cell) => (
                    format!("`{name}` was moved in cell [{cell}]"),
                    format!(
                        "assign `{name}` again, or use `&{name}` or `{name}.clone()` in cell [{cell}] and run it again"
                    ),
                ),
                Gone::Redefined => (
                    format!("`{name}` was dropped, because its type was defined again"),
                    format!("run the cell that makes `{name}` again"),
                ),
            };
            error.helps = vec![help];
            error.message = message;
            error.code = None;
        } else if let Some((message, help)) = explain(&error.message) {
            error.message = message;
            error.helps = help.into_iter().collect();
            for span in &mut error.spans {
                span.label.clear();
            }
        }
    }
}

/// A count with its noun.
pub fn number(count: usize, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// A message of evcxr's or cargo's in other words, and what to do; `None` when it is neither's, or not known.
pub fn explain(text: &str) -> Option<(String, Option<String>)> {
    of_evcxr(text).or_else(|| of_cargo(text))
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(name, _)| name)
}

/// What cargo says of a crate that cannot be added.
fn of_cargo(text: &str) -> Option<(String, Option<String>)> {
    // At the beginning of a line: a user's own `compile_error!` may hold the word.
    let rest = text
        .strip_prefix("error: ")
        .or_else(|| Some(text.split_once("\nerror: ")?.1))?;
    let first = rest.lines().next().unwrap_or_default();
    let unreachable = [
        "Could not resolve host",
        "failed to download",
        "Could not connect",
        "network failure",
        "--offline",
    ];
    if let Some(name) = between(rest, "no matching package named `", "` found") {
        return Some((
            format!("there is no crate `{name}`"),
            Some("crates.io lists all; a crate of your own: `%dep NAME --path FOLDER`".to_owned()),
        ));
    }
    if let Some(wanted) = between(rest, "failed to select a version for the requirement `", "`") {
        let (name, version) = wanted.split_once(" = ").unwrap_or((wanted, ""));
        let version = version.trim_matches('"').trim_start_matches('^');
        let there = between(rest, "didn't match: ", "\n").map(|list| format!("there are {list}"));
        return Some((format!("there is no version {version} of `{name}`"), there));
    }
    if rest.contains("does not have feature") || rest.contains("does not have that feature") {
        return Some((
            first.to_owned(),
            Some("the crate's page on docs.rs lists its features".to_owned()),
        ));
    }
    if unreachable.iter().any(|sign| rest.contains(sign)) {
        return Some((
            "cargo cannot reach the registry".to_owned(),
            Some("connect to the network and run the cell again; crates of earlier cells can still be used".to_owned()),
        ));
    }
    if let Some(path) = between(rest, "failed to read `", "`") {
        return Some((
            format!("there is no crate in {}", path.trim_end_matches("/Cargo.toml")),
            None,
        ));
    }
    Some((first.to_owned(), None))
}

/// A variable whose type evcxr cannot write, though it may be a closure's.
pub fn without_type(text: &str) -> Option<&str> {
    closure(text)
        .or_else(|| opaque(text).map(|(name, _)| name))
        .or_else(|| between(text, "Couldn't automatically determine type of variable `", "`"))
}

/// A variable of a type `impl Trait`, and the type.
fn opaque(text: &str) -> Option<(&str, &str)> {
    let name = between(text, "The variable `", "` has type `")?;
    Some((name, between(text, "has type `", "` which cannot be persisted")?))
}

fn closure(text: &str) -> Option<&str> {
    between(text, "The variable `", "` is a closure")
}

/// What evcxr says of a variable that it cannot keep.
fn of_evcxr(text: &str) -> Option<(String, Option<String>)> {
    if let Some(name) = closure(text) {
        return Some((
            format!("the closure `{name}` cannot be kept for the next cell"),
            Some(format!(
                "write `fn {name}(…)`, or `let {name}: Box<dyn Fn(i64) -> f64> = Box::new(|x| …);` with its own types"
            )),
        ));
    }
    if let Some((name, of)) = opaque(text) {
        let of_box = of.replacen("impl ", "Box<dyn ", 1);
        return Some((
            format!("`{name}` has the type `{of}`, which cannot be kept for the next cell"),
            Some(format!(
                "`let {name}: {of_box}> = Box::new(…);`, or put what uses `{name}` into braces: `{{ let {name} = …; … }}`"
            )),
        ));
    }
    if let Some(name) = between(text, "Couldn't automatically determine type of variable `", "`") {
        return Some((
            format!("the type of `{name}` is not known"),
            Some(format!("write it: `let {name}: TYPE = …;`")),
        ));
    }
    let name = between(text, "The variable `", "` contains a reference")?;
    Some((
        format!("`{name}` borrows from another variable and cannot be kept for the next cell"),
        Some(format!(
            "keep a copy: `let {name} = ….clone();` or `.to_owned()`; or put what uses `{name}` into braces: `{{ let {name} = …; … }}`"
        )),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(code: Option<&str>, message: &str) -> Diagnostic {
        let error = Diagnostic {
            level: "error".into(),
            code: code.map(str::to_owned),
            message: message.into(),
            ..Diagnostic::default()
        };
        let warning = Diagnostic {
            level: "warning".into(),
            message: "unused".into(),
            ..Diagnostic::default()
        };
        let mut errors = vec![warning, error];
        let gone = [("s".to_owned(), Gone::Moved(3)), ("p".to_owned(), Gone::Redefined)];
        sort_out(&mut errors, &HashMap::from(gone));
        assert_eq!(errors.len(), 1);
        errors.remove(0)
    }

    #[test]
    fn a_moved_variable_is_named_with_its_cell() {
        let error = sorted(Some("E0425"), "cannot find value `s` in this scope");
        assert_eq!(error.message, "`s` was moved in cell [3]");
        assert!(error.helps[0].contains("`s.clone()` in cell [3]"), "{:?}", error.helps);
        let other = sorted(Some("E0425"), "cannot find value `t` in this scope");
        assert_eq!(other.message, "cannot find value `t` in this scope");
    }

    #[test]
    fn a_variable_whose_type_was_defined_again_is_said_to_be_dropped() {
        let error = sorted(Some("E0425"), "cannot find value `p` in this scope");
        assert_eq!(error.message, "`p` was dropped, because its type was defined again");
        assert_eq!(error.helps, ["run the cell that makes `p` again"]);
    }

    #[test]
    fn cargos_errors_are_in_one_line() {
        let message = |text: &str| {
            let error = sorted(None, text);
            format!("{}|{}", error.message, error.helps.join("|"))
        };
        assert_eq!(
            message(
                "    Updating crates.io index\nerror: no matching package named `nosuch` found\nlocation searched: crates.io index"
            ),
            "there is no crate `nosuch`|crates.io lists all; a crate of your own: `%dep NAME --path FOLDER`"
        );
        assert_eq!(
            message(
                "    Updating crates.io index\nerror: failed to select a version for the requirement `itoa = \"^99\"`\ncandidate versions found which didn't match: 1.0.19, 1.0.18, ...\nlocation searched: x"
            ),
            "there is no version 99 of `itoa`|there are 1.0.19, 1.0.18, ..."
        );
        assert!(
            message("error: failed to download from `https://x`\n\nCaused by:\n  [6] Could not resolve host")
                .starts_with("cargo cannot reach the registry|connect")
        );
        assert_eq!(
            message("error: failed to read `/a/b/Cargo.toml`"),
            "there is no crate in /a/b|"
        );
    }

    #[test]
    fn a_type_without_a_name_says_what_to_write() {
        let error = sorted(
            None,
            "The variable `i` has type `impl Iterator<Item = u8>` which cannot be persisted.\nYou might",
        );
        assert_eq!(
            error.message,
            "`i` has the type `impl Iterator<Item = u8>`, which cannot be kept for the next cell"
        );
        assert!(
            error.helps[0].starts_with("`let i: Box<dyn Iterator<Item = u8>> = Box::new(…);`"),
            "{:?}",
            error.helps
        );
        let closure = "The variable `f` is a closure, which cannot be persisted.\nYou can";
        assert_eq!(without_type(closure), Some("f"));
    }

    #[test]
    fn a_users_own_words_stay() {
        assert_eq!(sorted(None, "my error: 3 is odd").message, "my error: 3 is odd");
    }

    #[test]
    fn a_borrow_that_cannot_be_kept_says_what_to_write() {
        let error = sorted(
            None,
            "The variable `r` contains a reference with a non-static lifetime so\ncan't be persisted.",
        );
        assert_eq!(
            error.message,
            "`r` borrows from another variable and cannot be kept for the next cell"
        );
        assert!(
            error.helps[0].starts_with("keep a copy: `let r = "),
            "{:?}",
            error.helps
        );
    }
}
