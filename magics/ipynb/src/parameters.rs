//! Parameters of a notebook: the `let`s of the cell with the tag `parameters`, and values for them from outside.
//!
//! The conventions are papermill's: a cell with the values is put behind that cell, so that they hold from there on.

use crate::notebook::{CellKind, Notebook};
use std::fmt;

/// The tag of the cell with the defaults.
pub const TAG: &str = "parameters";
/// The tag of the cell with the values.
pub const INJECTED: &str = "injected-parameters";

/// A `let` of the cell with the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// The type as written, if it is.
    pub written: Option<String>,
    /// What a value for it must be.
    pub kind: Kind,
    /// Its default, as written.
    pub default: String,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Whole,
    /// A whole number from 0 on.
    Count,
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// A `&str`.
    Text,
    /// A `String`.
    Owned,
    /// Anything else: a Rust expression.
    Rust,
}

impl Kind {
    /// In words.
    pub fn expected(self) -> &'static str {
        match self {
            Kind::Whole => "a whole number",
            Kind::Count => "a whole number from 0 on",
            Kind::Number => "a number",
            Kind::Bool => "true or false",
            Kind::Text | Kind::Owned => "a text",
            Kind::Rust => "a Rust expression",
        }
    }
}

/// A value that a parameter cannot take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nhint: {}", self.message, self.hint)
    }
}

/// The parameters of a cell: its plain `let`s.
///
/// ```
/// let list = lightcell_ipynb::parameters::declared("let lr = 1e-3;\nlet epochs: i64 = 10; // short");
/// assert_eq!((list[0].name.as_str(), list[1].default.as_str()), ("lr", "10"));
/// ```
pub fn declared(cell: &str) -> Vec<Parameter> {
    let Ok(statements) = syn::parse::Parser::parse_str(syn::Block::parse_within, cell) else {
        return Vec::new();
    };
    statements.iter().filter_map(parameter).collect()
}

fn parameter(statement: &syn::Stmt) -> Option<Parameter> {
    let syn::Stmt::Local(local) = statement else {
        return None;
    };
    let (pattern, kind) = match &local.pat {
        syn::Pat::Type(typed) => (&*typed.pat, Some(&*typed.ty)),
        other => (other, None),
    };
    let syn::Pat::Ident(name) = pattern else { return None };
    let init = &local.init.as_ref()?.expr;
    let source = |span: proc_macro2::Span| span.source_text().unwrap_or_default();
    use syn::spanned::Spanned;
    let written = kind.map(|kind| source(kind.span()));
    Some(Parameter {
        name: name.ident.to_string(),
        kind: match &written {
            Some(written) => of_type(written),
            None => of_expression(init),
        },
        written,
        default: source(init.span()),
    })
}

fn of_type(written: &str) -> Kind {
    match written {
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => Kind::Whole,
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => Kind::Count,
        "f32" | "f64" => Kind::Number,
        "bool" => Kind::Bool,
        "&str" | "&'static str" => Kind::Text,
        "String" => Kind::Owned,
        _ => Kind::Rust,
    }
}

fn of_expression(init: &syn::Expr) -> Kind {
    match init {
        syn::Expr::Lit(literal) => match &literal.lit {
            syn::Lit::Int(number) if !number.suffix().is_empty() => of_type(number.suffix()),
            syn::Lit::Int(_) => Kind::Whole,
            syn::Lit::Float(_) => Kind::Number,
            syn::Lit::Bool(_) => Kind::Bool,
            syn::Lit::Str(_) => Kind::Text,
            _ => Kind::Rust,
        },
        syn::Expr::Unary(unary) => of_expression(&unary.expr),
        syn::Expr::MethodCall(call)
            if ["to_owned", "to_string", "into"].iter().any(|name| call.method == name)
                && of_expression(&call.receiver) == Kind::Text =>
        {
            Kind::Owned
        }
        syn::Expr::Call(call)
            if call.args.len() == 1
                && call
                    .args
                    .first()
                    .is_some_and(|first| of_expression(first) == Kind::Text)
                && matches!(&*call.func, syn::Expr::Path(path) if path.path.segments.first().is_some_and(|first| first.ident == "String")) =>
        {
            Kind::Owned
        }
        _ => Kind::Rust,
    }
}

/// The suffix of a default's number, which its value keeps.
fn suffix(default: &str) -> &str {
    match syn::parse_str::<syn::Lit>(default.trim_start_matches('-')) {
        Ok(syn::Lit::Int(number)) => &default[default.len() - number.suffix().len()..],
        Ok(syn::Lit::Float(number)) => &default[default.len() - number.suffix().len()..],
        _ => "",
    }
}

/// A value in Rust, for the parameter, or for a name that nothing is known of.
///
/// # Errors
/// When the parameter cannot take it.
pub fn literal(parameter: Option<&Parameter>, name: &str, value: &str) -> Result<String, Wrong> {
    let kind = parameter.map_or_else(|| guess(value), |parameter| parameter.kind);
    let suffix = parameter.map_or("", |parameter| suffix(&parameter.default));
    let number = value.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    let text = match kind {
        Kind::Whole => value
            .trim()
            .parse::<i128>()
            .ok()
            .map(|whole| format!("{whole}{suffix}")),
        Kind::Count => value
            .trim()
            .parse::<u128>()
            .ok()
            .map(|whole| format!("{whole}{suffix}")),
        // `{:?}` keeps all digits and writes a point or an exponent, as a number in Rust needs.
        Kind::Number => number.map(|number| format!("{number:?}{suffix}")),
        Kind::Bool => ["true", "false"].contains(&value).then(|| value.to_owned()),
        Kind::Text => Some(format!("{value:?}")),
        Kind::Owned => Some(format!("{value:?}.to_owned()")),
        Kind::Rust => syn::parse_str::<syn::Expr>(value).is_ok().then(|| value.to_owned()),
    };
    text.ok_or_else(|| {
        let is = parameter.map(|parameter| format!(" (its default is `{}`)", parameter.default));
        Wrong {
            message: format!(
                "`{name}` takes {}{}, not `{value}`",
                kind.expected(),
                is.unwrap_or_default()
            ),
            hint: "nothing has run; give another value with -p NAME=VALUE".to_owned(),
        }
    })
}

/// What a value is by its looks, as papermill takes it.
fn guess(value: &str) -> Kind {
    if value.parse::<i128>().is_ok() {
        Kind::Whole
    } else if value.parse::<f64>().is_ok_and(f64::is_finite) {
        Kind::Number
    } else if ["true", "false"].contains(&value) {
        Kind::Bool
    } else {
        Kind::Text
    }
}

/// What came of giving values to a notebook.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Given {
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Puts values into a notebook.
///
/// # Errors
/// When a name is no name, or a parameter cannot take its value; the notebook is as it was then.
pub fn give(notebook: &mut Notebook, values: &[(String, String)]) -> Result<Given, Wrong> {
    let mut given = Given::default();
    if values.is_empty() {
        return Ok(given);
    }
    let cells = notebook.cells();
    let at = cells
        .iter()
        .position(|cell| cell.kind == CellKind::Code && cell.tags.iter().any(|tag| tag == TAG));
    let known = at.map(|at| declared(&cells[at].source)).unwrap_or_default();
    if at.is_none() {
        given.notes.push(format!(
            "no cell has the tag `{TAG}`; the values stand before the first cell, where a later `let` replaces them"
        ));
    }
    let mut code = String::from("// Parameters\n");
    for (name, value) in values {
        if syn::parse_str::<syn::Ident>(name).is_err() {
            return Err(Wrong {
                message: format!("`{name}` is no name of a variable"),
                hint: "write -p NAME=VALUE, such as -p lr=0.01".to_owned(),
            });
        }
        let parameter = known.iter().find(|parameter| parameter.name == *name);
        if at.is_some() && parameter.is_none() {
            let close = lightcell_magics::nearest(name, known.iter().map(|parameter| parameter.name.as_str()));
            let hint = close
                .map(|close| format!("; did you mean {close}?"))
                .unwrap_or_default();
            given
                .notes
                .push(format!("the notebook has no parameter `{name}`{hint}"));
        }
        let written = parameter.and_then(|parameter| parameter.written.as_deref());
        let written = written.map(|written| format!(": {written}")).unwrap_or_default();
        code += &format!("let {name}{written} = {};\n", literal(parameter, name, value)?);
    }
    notebook.inject(code.trim_end(), INJECTED, at);
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CELL: &str = "// hyperparameters\nlet lr = 1e-3;\nlet epochs: i64 = 10;\nlet size = 32u8;\nlet name = \"adam\";\n\
                        let folder = \"data\".to_owned();\nlet sizes = vec![1, 2];\nlet quick = false;\nlet low = -1.5f32;\nlet (a, b) = (1, 2);";

    fn notebook(tags: &[&str]) -> Notebook {
        let cell = json!({"cell_type": "code", "metadata": {"tags": tags}, "outputs": [], "source": CELL});
        let other = json!({"cell_type": "code", "metadata": {}, "outputs": [], "source": "lr"});
        Notebook::parse(&json!({"cells": [cell, other], "nbformat": 4, "nbformat_minor": 5}).to_string()).unwrap()
    }

    fn values(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn values_are_written_as_their_parameters_are() {
        let mut book = notebook(&["parameters"]);
        let list = values(&[
            ("lr", "1"),
            ("epochs", "3"),
            ("size", "64"),
            ("name", "a \"b\""),
            ("folder", "x"),
            ("sizes", "vec![3]"),
            ("quick", "true"),
            ("low", "2"),
        ]);
        assert_eq!(give(&mut book, &list).unwrap(), Given::default());
        let cells = book.cells();
        assert_eq!(
            cells[1].source,
            "// Parameters\nlet lr = 1.0;\nlet epochs: i64 = 3;\nlet size = 64u8;\nlet name = \"a \\\"b\\\"\";\n\
             let folder = \"x\".to_owned();\nlet sizes = vec![3];\nlet quick = true;\nlet low = 2.0f32;"
        );
        assert_eq!(cells[1].tags, ["injected-parameters"]);
        assert_eq!(cells[2].source, "lr");
    }

    #[test]
    fn small_numbers_keep_their_value() {
        for text in ["1e-7", "0.1", "123456789.25", "1e300"] {
            let written = literal(None, "x", text).unwrap();
            assert_eq!(written.parse::<f64>(), text.parse::<f64>());
            assert!(matches!(syn::parse_str(&written), Ok(syn::Lit::Float(_))), "{written}");
        }
        assert_eq!(literal(None, "x", "7").unwrap(), "7");
        assert_eq!(literal(None, "x", "word").unwrap(), "\"word\"");
    }

    #[test]
    fn a_value_of_another_kind_is_refused_before_anything_runs() {
        let mut book = notebook(&["parameters"]);
        let before = book.clone();
        let error = give(&mut book, &values(&[("epochs", "many")])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`epochs` takes a whole number (its default is `10`), not `many`\nhint: nothing has run; give another value with -p NAME=VALUE"
        );
        assert_eq!(book, before);
        for (name, value) in [
            ("size", "-1"),
            ("lr", "fast"),
            ("quick", "1"),
            ("sizes", "vec!["),
            ("2x", "1"),
        ] {
            assert!(give(&mut book, &values(&[(name, value)])).is_err(), "{name}");
        }
    }

    #[test]
    fn a_name_or_a_cell_that_is_not_there_is_said() {
        let notes = |tags: &[&str], name: &str| {
            let mut book = notebook(tags);
            let notes = give(&mut book, &values(&[(name, "1")])).unwrap().notes;
            (
                notes,
                book.cells()
                    .iter()
                    .position(|cell| cell.source.starts_with("// Parameters")),
            )
        };
        assert_eq!(
            notes(&["parameters"], "epoch"),
            (
                vec!["the notebook has no parameter `epoch`; did you mean epochs?".to_owned()],
                Some(1)
            )
        );
        let (said, at) = notes(&[], "lr");
        assert!(said[0].starts_with("no cell has the tag `parameters`"), "{said:?}");
        assert_eq!(at, Some(0));
    }
}
