//! Magics that run in their turn among a cell's code: what Rust each becomes, or what the executor does for it.

use crate::executor::Executor;
use crate::magic;
use crate::report::Report;
use crate::settings;
use crate::transfer::Wrong;
use crate::words;
use jupyter_protocol::messaging::Payload;
use lightcell_ipynb::dependency;
use lightcell_magics::{Call, nearest};

/// Functions of the cell crate that magics become.
const MAGICS: &str = "lightcell_cell::magics";

impl Executor {
    /// Does what a magic says.
    pub(crate) fn in_turn(
        &mut self,
        call: &Call,
        count: usize,
        cell: &str,
        payload: &mut Vec<Payload>,
    ) -> Result<(), Report> {
        let text = call.rest.1.trim();
        let argument = call.arguments.first().map(String::as_str).unwrap_or_default();
        let body = call.body.as_deref();
        match call.name.as_str() {
            "bash" => self.shell("bash", body.unwrap_or_default(), true, count, cell),
            "cd" => self.code(&format!("{MAGICS}::cd({text:?})?;"), count, cell),
            "env" => self.code(&format!("{MAGICS}::env({text:?})?;"), count, cell),
            "writefile" => {
                let (body, append) = (body.unwrap_or_default(), call.switch("--append"));
                let code = format!("{MAGICS}::write_file({argument:?}, {body:?}, {append})?;");
                self.code(&code, count, cell)
            }
            "del" => {
                self.variable(call, argument, count, cell)?;
                self.code(&drop_all(&[argument.to_owned()]), count, cell)
            }
            "reset" => {
                let names: Vec<String> = self.named().into_iter().map(|(name, _)| name).collect();
                self.code(&drop_all(&names), count, cell)?;
                self.say(&format!(
                    "dropped {}; functions, types and crates stay\n",
                    words::number(names.len(), "variable")
                ));
                Ok(())
            }
            "config" => {
                let said = settings::config(&self.ground.session.path, text)
                    .map_err(|(word, message, hint)| wrong(call, &word, message, &hint, count, cell))?;
                self.say(&said);
                Ok(())
            }
            "dep" => self.code(&dependency(call), count, cell),
            "export" => self.export(call, text, count, cell),
            "gpu" => {
                let tensors: Vec<String> = self
                    .named()
                    .iter()
                    .filter_map(|(name, kind)| on_device(name, kind))
                    .collect();
                self.code(
                    &format!("lightcell::notebook::gpu_free(&[{}]);", tensors.join(", ")),
                    count,
                    cell,
                )
            }
            "history" => {
                let cells = self.cells.iter().filter(|(number, _)| *number < count);
                let list: String = cells
                    .map(|(number, text)| format!("[{number}] {}\n", text.trim_end()))
                    .collect();
                self.say(&list);
                Ok(())
            }
            "load" => {
                let text = self.file(call, text, count, cell)?;
                payload.push(Payload::SetNextInput { text, replace: true });
                Ok(())
            }
            "run" => {
                let mut code = self.file(call, text, count, cell)?;
                if defines_main(&code) {
                    // Whatever it returns.
                    code.push_str("\nlet _ = main();");
                }
                let source = code.clone();
                self.code(&code, count, &source)
            }
            "lock" => {
                if !matches!(text, "" | "clear") {
                    let message = format!("%lock has no action `{text}`");
                    return Err(wrong(call, text, message, call.magic().usage, count, cell));
                }
                self.lock(text == "clear");
                Ok(())
            }
            "opt" => self.opt(call, text, count, cell),
            "time" => self.time(call, count, cell),
            "timeit" => self.timeit(call, count, cell),
            "who" => {
                let list = self.named();
                let width = list.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
                let text: String = list
                    .iter()
                    .map(|(name, kind)| format!("{name:width$}  {kind}\n"))
                    .collect();
                self.say(if text.is_empty() { "no variables\n" } else { &text });
                Ok(())
            }
            "whos" => {
                let rows: Vec<String> = self.named().iter().map(|(name, kind)| row(name, kind)).collect();
                self.code(&format!("{MAGICS}::whos(&[{}]);", rows.join(", ")), count, cell)
            }
            "upload" | "download" => self.transfer(call.name == "upload", text).map_err(|why| match why {
                Wrong::Stopped => Wrong::stopped(),
                Wrong::Usage => {
                    let message = format!("%{} needs one name, or two", call.name);
                    wrong(call, "", message, call.magic().usage, count, cell)
                }
                Wrong::Failed(message) => {
                    let hint =
                        "paths here are relative to the folder of the notebook, there to the current folder, see %cd";
                    wrong(call, text, message, hint, count, cell)
                }
            }),
            other => Err(Report::plain(
                "MagicError",
                &format!("%{other} cannot stand here"),
                None,
            )),
        }
    }

    /// `!command` and `%%bash`.
    pub(crate) fn shell(
        &mut self,
        program: &str,
        text: &str,
        strict: bool,
        count: usize,
        cell: &str,
    ) -> Result<(), Report> {
        let code = format!("{MAGICS}::shell({program:?}, {text:?}, {strict})?;");
        self.code(&code, count, cell)
    }

    /// The user's variables with their types.
    fn named(&self) -> Vec<(String, String)> {
        // One of this type is what `%del` leaves of a copy.
        self.engine
            .variables()
            .into_iter()
            .filter(|(_, kind)| kind != "()")
            .collect()
    }

    pub(crate) fn say(&self, text: &str) {
        self.shared
            .publisher
            .stream(false, text, self.shared.now.parent().as_ref());
    }

    fn variable(&self, call: &Call, name: &str, count: usize, cell: &str) -> Result<(), Report> {
        let all = self.named();
        if all.iter().any(|(known, _)| known == name) {
            return Ok(());
        }
        let hint =
            nearest(name, all.iter().map(|(name, _)| name.as_str())).map(|close| format!("did you mean {close}?"));
        let hint = hint.unwrap_or_else(|| "%who lists the variables".to_owned());
        Err(wrong(
            call,
            name,
            format!("there is no variable `{name}`"),
            &hint,
            count,
            cell,
        ))
    }

    /// The text of a file, relative to the folder in which cells run.
    fn file(&self, call: &Call, name: &str, count: usize, cell: &str) -> Result<String, Report> {
        if name.is_empty() {
            return Err(wrong(
                call,
                "",
                format!("%{} needs FILE", call.name),
                call.magic().usage,
                count,
                cell,
            ));
        }
        let path = self.shared.folder().join(name);
        std::fs::read_to_string(&path).map_err(|error| {
            let message = format!("cannot read {}: {error}", path.display());
            wrong(
                call,
                name,
                message,
                "the path is relative to the current folder, see %cd",
                count,
                cell,
            )
        })
    }

    fn export(&self, call: &Call, folder: &str, count: usize, cell: &str) -> Result<(), Report> {
        if folder.is_empty() {
            let message = "%export needs DIR".to_owned();
            return Err(wrong(call, "", message, call.magic().usage, count, cell));
        }
        let ran: Vec<&str> = self.succeeded.iter().map(|at| self.cells[*at].1.as_str()).collect();
        let to = self.shared.folder().join(folder);
        let said = crate::export::export(&self.ground.home, &self.ground.session.path, &ran, &to)
            .map_err(|(message, hint)| wrong(call, folder, message, &hint, count, cell))?;
        self.say(&said);
        Ok(())
    }

    fn opt(&mut self, call: &Call, level: &str, count: usize, cell: &str) -> Result<(), Report> {
        let session = &self.ground.session.path;
        if level.is_empty() {
            self.say(&format!(
                "cells are compiled with opt-level {}\n",
                settings::opt_level(session)
            ));
            return Ok(());
        }
        settings::set_opt_level(session, level)
            .map_err(|(word, message, hint)| wrong(call, &word, message, &hint, count, cell))?;
        self.say(&format!("cells are compiled with opt-level {level} from now on\n"));
        Ok(())
    }

    fn time(&mut self, call: &Call, count: usize, cell: &str) -> Result<(), Report> {
        let code = to_time(call, count, cell)?;
        let code = match &call.body {
            Some(_) => format!("{}{code}", "\n".repeat(call.line)),
            None => in_place(call, "", code, "").0,
        };
        let begun = std::time::Instant::now();
        let result = self.code(&code, count, cell);
        let (all, ran) = (begun.elapsed(), self.ran);
        if !ran.is_zero() {
            self.say(&format!(
                "Wall time: {} (compiled in {})\n",
                short(ran),
                short(all.saturating_sub(ran))
            ));
        }
        result
    }

    fn timeit(&mut self, call: &Call, count: usize, cell: &str) -> Result<(), Report> {
        let code = to_time(call, count, cell)?;
        let loops = call
            .value("--loops")
            .map_or("None".to_owned(), |loops| format!("Some({loops})"));
        let runs = call.value("--runs").unwrap_or("7");
        let before = format!(
            "{MAGICS}::timeit({loops}, {runs}, || {{ #[allow(unused_braces)] let _ = ::std::hint::black_box({{ "
        );
        let (code, shift) = match &call.body {
            Some(_) => (format!("{}{before}\n{code} }}); }});", "\n".repeat(call.line - 1)), 0),
            None => in_place(call, &before, code, " }); });"),
        };
        let (line, columns) = (call.line, shift);
        self.moved(&code, count, cell, move |at, column| {
            if at == line {
                column.saturating_sub(columns).max(1)
            } else {
                column
            }
        })
    }
}

/// The code in its magic's line, at the column where the user typed it if what stands before is short enough; says by how
/// much it is further right.
fn in_place(call: &Call, before: &str, code: &str, after: &str) -> (String, usize) {
    let lines = "\n".repeat(call.line - 1);
    let (column, length) = (call.rest.0, before.chars().count());
    let pad = " ".repeat(column.saturating_sub(length));
    (
        format!("{lines}{pad}{before}{code}{after}"),
        length.saturating_sub(column),
    )
}

/// Drops variables; a copy stays when it is dropped, so something else takes its name.
fn drop_all(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("drop({name}); let {name} = (); "))
        .collect()
}

fn defines_main(code: &str) -> bool {
    syn::parse_file(code).is_ok_and(|file| {
        file.items
            .iter()
            .any(|item| matches!(item, syn::Item::Fn(function) if function.sig.ident == "main"))
    })
}

/// A row of `%whos` as Rust: name, type, what it holds, bytes.
fn row(name: &str, kind: &str) -> String {
    let short = kind
        .replace("std::", "")
        .replace("alloc::", "")
        .replace("core::", "")
        .replace("tch::", "");
    // Of `collections::HashMap<K, V>`: `HashMap`.
    let head = short.split('<').next().unwrap_or_default();
    let (holds, bytes) = match head.rsplit("::").next().unwrap_or_default() {
        "Tensor" => (
            format!("format!(\"{{:?}} {{:?}} {{:?}}\", {name}.size(), {name}.kind(), {name}.device())"),
            format!("{name}.numel() * {name}.kind().elt_size_in_bytes()"),
        ),
        "Vec" => (
            format!("format!(\"{{}} elements\", {name}.len())"),
            format!("::std::mem::size_of_val(&{name}) + ::std::mem::size_of_val(&{name}[..])"),
        ),
        "String" => (
            format!("format!(\"{{}} bytes of text\", {name}.len())"),
            format!("::std::mem::size_of_val(&{name}) + {name}.capacity()"),
        ),
        "HashMap" | "BTreeMap" | "HashSet" | "BTreeSet" | "VecDeque" => (
            format!("format!(\"{{}} elements\", {name}.len())"),
            format!("::std::mem::size_of_val(&{name})"),
        ),
        _ => ("String::new()".to_owned(), format!("::std::mem::size_of_val(&{name})")),
    };
    format!("({name:?}, {short:?}, {holds}, {bytes})")
}

/// A tensor for `%gpu free`: name, device and bytes.
fn on_device(name: &str, kind: &str) -> Option<String> {
    (kind.rsplit("::").next() == Some("Tensor"))
        .then(|| format!("({name:?}, {name}.device(), {name}.numel() * {name}.kind().elt_size_in_bytes())"))
}

fn wrong(call: &Call, word: &str, message: String, hint: &str, count: usize, cell: &str) -> Report {
    let word = if word.is_empty() { call.text.trim() } else { word };
    let error = magic::wrong_in(call.line, &call.text, word, message, Some(hint.to_owned()));
    magic::report(&error, count, cell)
}

/// The code of `%time` and `%timeit`.
fn to_time<'a>(call: &'a Call, count: usize, cell: &str) -> Result<&'a str, Report> {
    let code = call.body.as_deref().unwrap_or(&call.rest.1);
    if code.trim().is_empty() {
        let message = "there is nothing to time".to_owned();
        return Err(wrong(call, "", message, call.magic().usage, count, cell));
    }
    Ok(code)
}

fn short(time: std::time::Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds if seconds >= 1e-3 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{:.0} µs", seconds * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(cell: &str) -> Call {
        match magic::split(cell).unwrap().remove(0) {
            magic::Piece::InTurn(call) => call,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn timed_code_stands_where_the_user_typed_it() {
        let time = call("\n%time f(1)");
        assert_eq!(in_place(&time, "", &time.rest.1, ""), ("\n      f(1)".to_owned(), 0));
        let many = call("%timeit f(1)");
        let (code, shift) = in_place(&many, "a long beginning ", &many.rest.1, " }");
        assert_eq!((code.as_str(), shift), ("a long beginning f(1) }", 9));
    }

    #[test]
    fn a_variable_is_shown_by_the_head_of_its_type() {
        let asks = |kind: &str, what: &str| row("v", kind).contains(what);
        assert!(asks("tch::Tensor", "v.size()") && asks("Tensor", "v.size()"));
        assert!(asks("std::vec::Vec<tch::Tensor>", "&v[..]"));
        assert!(asks("std::collections::HashMap<String, std::vec::Vec<u8>>", "v.len()"));
        for plain in [
            "std::collections::HashMap<String, std::vec::Vec<u8>>",
            "Option<Vec<u8>>",
            "(Vec<u8>, i32)",
        ] {
            assert!(!asks(plain, "&v[..]"), "{plain}");
        }
        for plain in ["lightcell::TensorDataset", "Option<Tensor>", "StringPool"] {
            assert!(asks(plain, "String::new(), ::std::mem::size_of_val(&v))"), "{plain}");
        }
    }

    #[test]
    fn a_main_is_found_by_the_parser() {
        assert!(defines_main("fn f() {}\nfn main() {}"));
        assert!(!defines_main("// fn main() {}\nfn f() {}"));
    }
}
