//! Closures that outlive their cell: evcxr cannot write their type, so they are put into a box whose type can be written.

use super::{Insertion, before};
use crate::engine::Diagnostic;
use syn::spanned::Spanned;

/// A closure to put into a box: the variable and the trait, such as `Fn(i32) -> i32`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boxed {
    pub variable: String,
    pub of: String,
}

impl Boxed {
    /// From what the analyser or evcxr says of the variable.
    pub fn new(variable: &str, hover: &str) -> Option<Boxed> {
        let (_, rest) = hover
            .split_once(&format!("{variable}: impl "))
            .or_else(|| hover.split_once("has type `impl "))?;
        let of = rest.lines().next()?.split('`').next()?.trim();
        // What has no name in a type cannot be written, and `…` is what the analyser leaves out.
        let writable = of.starts_with("Fn") && !["impl ", "{", "?", "…", "_"].iter().any(|sign| of.contains(sign));
        writable.then(|| Boxed {
            variable: variable.to_owned(),
            of: of.to_owned(),
        })
    }

    /// Puts errors about the box's type, which the user has not written, in other words: the analyser leaves out where a
    /// type comes from.
    pub fn explain(&self, errors: &mut [Diagnostic]) {
        for error in errors {
            let name = error.message.strip_prefix("cannot find type `");
            let Some(name) = name.and_then(|rest| rest.split('`').next()) else {
                continue;
            };
            if self
                .of
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == name)
            {
                error.message = format!(
                    "the closure `{}` takes or gives a `{name}`, which is not known by that name here",
                    self.variable
                );
                error.code = None;
                error.spans.iter_mut().for_each(|span| span.label.clear());
            }
        }
    }

    /// The texts around the closure, at the last `let` of that name.
    pub(super) fn insert(&self, statements: &[syn::Stmt], inserted: &mut Vec<Insertion>) {
        let Some((_, pattern, value)) = last_let(statements, &self.variable) else {
            return;
        };
        inserted.push(before(pattern.span().end(), format!(": Box<dyn {}>", self.of)));
        inserted.push(before(value.span().start(), "Box::new(".to_owned()));
        inserted.push(before(value.span().end(), ")".to_owned()));
    }
}

/// Where the last `let` of a variable ends: line from 1 and column from 0.
pub fn end_of(statements: &[syn::Stmt], variable: &str) -> Option<proc_macro2::LineColumn> {
    statements.iter().rev().find_map(|statement| {
        let syn::Stmt::Local(local) = statement else {
            return None;
        };
        let pattern = match &local.pat {
            syn::Pat::Type(typed) => &*typed.pat,
            pattern => pattern,
        };
        let is_it = matches!(pattern, syn::Pat::Ident(pattern) if pattern.ident == variable);
        is_it.then(|| local.semi_token.span.end())
    })
}

pub(super) fn last_let<'a>(
    statements: &'a [syn::Stmt],
    variable: &str,
) -> Option<(&'a syn::Local, &'a syn::PatIdent, &'a syn::Expr)> {
    statements.iter().rev().find_map(|statement| match statement {
        syn::Stmt::Local(local) => match (&local.pat, &local.init) {
            (syn::Pat::Ident(pattern), Some(init)) if pattern.ident == variable => Some((local, pattern, &*init.expr)),
            _ => None,
        },
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_is_not_known_is_said_of_the_closure() {
        let boxed = Boxed::new("f", "let f: impl Fn() -> Child").unwrap();
        let error = |name: &str| Diagnostic {
            message: format!("cannot find type `{name}` in this scope"),
            code: Some("E0425".into()),
            ..Diagnostic::default()
        };
        let mut errors = [error("Child"), error("Other")];
        boxed.explain(&mut errors);
        assert_eq!(
            errors[0].message,
            "the closure `f` takes or gives a `Child`, which is not known by that name here"
        );
        assert_eq!(errors[1], error("Other"));
    }

    #[test]
    fn a_trait_that_can_be_written_is_taken() {
        let of = |hover: &str| Boxed::new("f", hover).map(|boxed| boxed.of);
        assert_eq!(
            of("let f: impl Fn(i32) -> i32\nsize = 0"),
            Some("Fn(i32) -> i32".to_owned())
        );
        assert_eq!(of("let mut f: impl FnMut()"), Some("FnMut()".to_owned()));
        assert_eq!(of("let f: impl Fn({unknown}) -> i32"), None);
        assert_eq!(of("let f: impl Iterator<Item = i32>"), None);
        assert_eq!(of("let f: i32"), None);
        let said = "The variable `f` has type `impl Fn(i32) -> i32` which cannot be persisted.";
        assert_eq!(of(said), Some("Fn(i32) -> i32".to_owned()));
    }
}
