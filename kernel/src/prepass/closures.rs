//! Closures that outlive their cell: evcxr cannot write their type, so they are put into a box whose type can be written.

use super::{Insertion, before};
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
    last_let(statements, variable).map(|(local, ..)| local.semi_token.span.end())
}

fn last_let<'a>(
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
