//! The cells of a notebook as one Rust module: items by themselves, statements in their order in one function.

use crate::notebook::{CellKind, Notebook};
use crate::{dependency, parameters};
use lightcell_magics::{Call, FitCall, Piece};
use quote::ToTokens;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use syn::spanned::Spanned;

/// What a notebook's cells are as a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// The module's text.
    pub source: String,
    /// Crates that cells ask for, with what stands behind the `=` in Cargo.toml.
    pub dependencies: BTreeMap<String, String>,
    /// Texts among the cells that may be names of files.
    pub texts: BTreeSet<String>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Functions of the cell crate that magics become.
const MAGICS: &str = "lightcell_program::lightcell_cell::magics";
/// Macros whose call, as a statement, makes items.
const MAKES_ITEMS: [&str; 4] = ["hparams", "bitflags", "lazy_static", "thread_local"];

/// Makes the program.
///
/// # Errors
/// When a cell cannot be read; the message names it.
pub fn program(notebook: &Notebook, name: &str, file: &str) -> Result<Program, String> {
    let mut maker = Maker::default();
    for (index, cell) in notebook.cells().iter().enumerate() {
        match cell.kind {
            CellKind::Code => {
                maker.number = index + 1;
                let _ = write!(maker.body, "\n// ── cell {} ──\n", maker.number);
                let is = |tag: &str| cell.tags.iter().any(|found| found == tag);
                let declared = if is(parameters::TAG) {
                    parameters::declared(&cell.source)
                } else {
                    Vec::new()
                };
                // Values of an earlier `lightcell run` are not the notebook's own.
                if !is(parameters::INJECTED) {
                    maker.cell(&cell.source, &declared)?;
                }
            }
            CellKind::Markdown => {
                maker.body.push('\n');
                for line in cell.source.lines() {
                    let _ = writeln!(maker.body, "// {line}");
                }
            }
            CellKind::Raw => {}
        }
    }
    Ok(maker.done(name, file))
}

#[derive(Default)]
struct Maker {
    /// The cell, from 1.
    number: usize,
    /// Keys of items, and their texts; a later one of the same key takes the place of the earlier.
    items: Vec<(String, String)>,
    body: String,
    parameters: Vec<parameters::Parameter>,
    models: Vec<String>,
    /// The model of the run in the variable `fit`.
    fit: Option<String>,
    out: Program,
}

impl Maker {
    fn cell(&mut self, source: &str, declared: &[parameters::Parameter]) -> Result<(), String> {
        let number = self.number;
        let pieces = lightcell_magics::split(source).map_err(|error| format!("cell {number}: {error}"))?;
        for piece in pieces {
            match piece {
                Piece::Code(text) => self.code(&text, declared)?,
                Piece::Magic(call) => self.magic(&call)?,
                Piece::Shell(command) => self.line(&format!("{MAGICS}::shell(\"sh\", {command:?}, false)?;")),
                Piece::Help(name) => self.left_out(&format!("{name}?")),
            }
        }
        Ok(())
    }

    fn line(&mut self, text: &str) {
        self.body.push_str(text);
        self.body.push('\n');
    }

    fn left_out(&mut self, what: &str) {
        let first = what.lines().next().unwrap_or_default();
        self.line(&format!("// {first}"));
        let name = first.split_whitespace().next().unwrap_or(first);
        self.out
            .notes
            .push(format!("{name} in cell {} is left out", self.number));
    }

    fn magic(&mut self, call: &Call) -> Result<(), String> {
        if let Some(fit) = FitCall::from_call(call) {
            self.fit(&fit);
            return Ok(());
        }
        let (text, body) = (call.rest.1.trim(), call.body.as_deref());
        let first = call.arguments.first().map(String::as_str).unwrap_or_default();
        match call.name.as_str() {
            "bash" => self.line(&format!(
                "{MAGICS}::shell(\"bash\", {:?}, true)?;",
                body.unwrap_or_default()
            )),
            "cd" => self.line(&format!("{MAGICS}::cd({text:?})?;")),
            "env" => self.line(&format!("{MAGICS}::env({text:?})?;")),
            "writefile" => {
                let (body, append) = (body.unwrap_or_default(), call.switch("--append"));
                self.line(&format!("{MAGICS}::write_file({first:?}, {body:?}, {append})?;"));
            }
            "del" => self.line(&format!("drop({first});")),
            "dep" => self.depend(&dependency::dependency(call)),
            "time" => self.code(body.unwrap_or(text), &[])?,
            // The rest shows something of the kernel, or belongs to working in a notebook.
            _ => self.left_out(&call.text),
        }
        Ok(())
    }

    fn depend(&mut self, line: &str) {
        let Some((name, value)) = dependency::of_line(line) else {
            return;
        };
        if value.contains("path") {
            self.out.notes.push(format!(
                "the crate `{name}` is in a folder of yours: look at its path in Cargo.toml"
            ));
        }
        self.out.dependencies.insert(name, value);
    }

    fn fit(&mut self, fit: &FitCall) {
        let options = serde_json::to_string(&fit.options).unwrap_or_default();
        let (model, data) = (&fit.subject.model, &fit.subject.data);
        // Types begin with a capital letter, variables do not.
        let last = model.rsplit("::").next().unwrap_or(model);
        if last.starts_with(|c: char| c.is_lowercase() || c == '_') && !model.contains('<') {
            self.line(&format!(
                "let mut fit = program.go_on({model}, &({data}), {options:?})?;"
            ));
            self.fit = None;
            return;
        }
        let previous = if self.fit.as_ref() == Some(model) {
            "Some(fit)"
        } else {
            "None"
        };
        self.line(&format!(
            "let mut fit = program.fit::<{model}, _>(&({data}), {options:?}, {previous})?;"
        ));
        self.fit = Some(model.clone());
        if !self.models.contains(model) {
            self.models.push(model.clone());
        }
    }

    /// Rust: its items beside, the rest in place, its last value shown.
    fn code(&mut self, text: &str, declared: &[parameters::Parameter]) -> Result<(), String> {
        let mut rust = String::new();
        for line in text.lines() {
            if line.starts_with(":dep ") {
                self.depend(line);
            } else if line.starts_with(':') {
                self.left_out(line);
            } else {
                rust.push_str(line);
            }
            rust.push('\n');
        }
        let statements = syn::parse::Parser::parse_str(syn::Block::parse_within, &rust)
            .map_err(|error| format!("cell {}: {error}", self.number))?;
        self.out.texts.extend(texts(&statements));
        let places = Places::new(&rust);
        let mut from = 0;
        let last = statements.len().saturating_sub(1);
        for (index, statement) in statements.iter().enumerate() {
            let to = places.byte(statement.span().end());
            let to = to
                + rust[to..]
                    .find('\n')
                    .filter(|at| is_comment(&rust[to..to + at]))
                    .unwrap_or(0);
            let (start, piece) = (from, rust[from..to].trim());
            from = to;
            if let Some(key) = key(statement) {
                self.items.retain(|(known, _)| *known != key);
                self.items.push((key, piece.to_owned()));
                continue;
            }
            let parameter = match statement {
                syn::Stmt::Local(local) => declared.iter().find(|known| is_named(&local.pat, &known.name)),
                _ => None,
            };
            match (parameter, statement) {
                (Some(parameter), _) if parameter.kind != parameters::Kind::Rust => self.parameter(parameter),
                (_, syn::Stmt::Expr(value, None)) if index == last => {
                    let begin = places.byte(value.span().start());
                    let end = places.byte(value.span().end());
                    let comments = rust[start..begin].trim();
                    if !comments.is_empty() {
                        self.line(comments);
                    }
                    self.line(&format!("lightcell_program::show!({});", &rust[begin..end]));
                }
                _ => self.line(piece),
            }
        }
        let rest = rust[from..].trim();
        if !rest.is_empty() {
            self.line(rest);
        }
        Ok(())
    }

    fn parameter(&mut self, parameter: &parameters::Parameter) {
        let written = parameter
            .written
            .as_ref()
            .map(|kind| format!(": {kind}"))
            .unwrap_or_default();
        let (name, default) = (&parameter.name, &parameter.default);
        let function = if parameter.kind == parameters::Kind::Text {
            "text"
        } else {
            "value"
        };
        self.line(&format!(
            "let {name}{written} = program.{function}({name:?}, {default});"
        ));
        self.parameters.push(parameter.clone());
    }

    fn done(mut self, name: &str, file: &str) -> Program {
        let mut source = format!(
            "//! The cells of {file}, made by `lightcell export`: what they define, and in `cells` what they do, in their order.\n\n\
             #![allow(unused, dead_code, clippy::all, missing_docs)]\n\n"
        );
        for (_, item) in &self.items {
            let _ = writeln!(source, "{item}\n");
        }
        let _ = write!(
            source,
            "/// The flags: parameters of the notebook, hyperparameters of its models.\n\
             pub fn program() -> lightcell_program::Program {{\n    lightcell_program::Program::new({name:?}, {:?})\n",
            format!("The notebook {file} as a program.")
        );
        for parameter in &self.parameters {
            let _ = writeln!(
                source,
                "        .parameter({:?}, {:?})",
                parameter.name, parameter.default
            );
        }
        for model in &self.models {
            let _ = writeln!(source, "        .model::<{model}>()");
        }
        let _ = write!(
            source,
            "}}\n\n/// What the cells do.\n#[rustfmt::skip]\npub fn cells(program: &lightcell_program::Program) -> lightcell_program::Outcome {{\n{}\n\
             ::std::result::Result::Ok(())\n}}\n",
            self.body.trim_end()
        );
        self.out.source = source;
        self.out
    }
}

fn is_comment(rest_of_line: &str) -> bool {
    rest_of_line.trim_start().starts_with("//")
}

fn is_named(pattern: &syn::Pat, name: &str) -> bool {
    match pattern {
        syn::Pat::Ident(ident) => ident.ident == name,
        syn::Pat::Type(typed) => is_named(&typed.pat, name),
        _ => false,
    }
}

/// What an item is called; the next of the same key takes its place, as in the notebook. `None`: no item.
fn key(statement: &syn::Stmt) -> Option<String> {
    let named = |kind: &str, name: &syn::Ident| Some(format!("{kind} {name}"));
    match statement {
        syn::Stmt::Macro(call) => {
            let name = call.mac.path.segments.last()?.ident.to_string();
            let first = call.mac.tokens.clone().into_iter().find_map(|token| match token {
                proc_macro2::TokenTree::Ident(ident) => Some(ident.to_string()),
                _ => None,
            });
            MAKES_ITEMS
                .contains(&name.as_str())
                .then(|| format!("{name}! {}", first.unwrap_or_default()))
        }
        syn::Stmt::Item(item) => match item {
            syn::Item::Struct(item) => named("type", &item.ident),
            syn::Item::Enum(item) => named("type", &item.ident),
            syn::Item::Union(item) => named("type", &item.ident),
            syn::Item::Type(item) => named("type", &item.ident),
            syn::Item::Trait(item) => named("type", &item.ident),
            syn::Item::Fn(item) => named("fn", &item.sig.ident),
            syn::Item::Const(item) => named("value", &item.ident),
            syn::Item::Static(item) => named("value", &item.ident),
            syn::Item::Mod(item) => named("mod", &item.ident),
            syn::Item::Macro(item) => match &item.ident {
                Some(ident) => named("macro", ident),
                None => Some(item.to_token_stream().to_string()),
            },
            syn::Item::Impl(item) => {
                let of = item
                    .trait_
                    .as_ref()
                    .map(|(_, path, _)| path.to_token_stream().to_string());
                let on = item.self_ty.to_token_stream();
                let names: Vec<String> = match of {
                    Some(_) => Vec::new(),
                    // Blocks without a trait are many for a type; the same functions are the same block.
                    None => item.items.iter().filter_map(function).collect(),
                };
                Some(format!("impl {} for {on} {}", of.unwrap_or_default(), names.join(" ")))
            }
            other => Some(other.to_token_stream().to_string()),
        },
        _ => None,
    }
}

fn function(item: &syn::ImplItem) -> Option<String> {
    match item {
        syn::ImplItem::Fn(function) => Some(function.sig.ident.to_string()),
        _ => None,
    }
}

/// All string literals.
fn texts(statements: &[syn::Stmt]) -> Vec<String> {
    #[derive(Default)]
    struct Texts(Vec<String>);
    impl<'a> syn::visit::Visit<'a> for Texts {
        fn visit_lit_str(&mut self, literal: &'a syn::LitStr) {
            self.0.push(literal.value());
        }
    }
    let mut found = Texts::default();
    statements
        .iter()
        .for_each(|statement| syn::visit::Visit::visit_stmt(&mut found, statement));
    found.0
}

/// Byte offsets of a parser's places.
struct Places<'a> {
    text: &'a str,
    lines: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Places<'a> {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        Places {
            text,
            lines: std::iter::once(0).chain(starts).collect(),
        }
    }

    fn byte(&self, place: proc_macro2::LineColumn) -> usize {
        let start = self.lines.get(place.line - 1).copied().unwrap_or(self.text.len());
        let line = &self.text[start..];
        start + line.char_indices().nth(place.column).map_or(line.len(), |(at, _)| at)
    }
}

#[cfg(test)]
mod tests;
