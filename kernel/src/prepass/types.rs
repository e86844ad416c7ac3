//! Types that the analyser does not know and the compiler does, such as that of `let m: HashMap<_, _> = ….collect();`: the
//! compiler is asked, and what it says stands for each `_`, or behind the variable's name.

use super::closures::last_let;
use super::{Insertion, before};
use crate::engine::Diagnostic;
use syn::spanned::Spanned;

/// The type of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    pub variable: String,
    pub of: String,
}

/// A text that cannot be compiled, in whose errors the type of a variable stands that the text before makes.
pub fn question(up_to_let: &str, variable: &str) -> String {
    format!("{up_to_let}\n{{ struct LightcellAsks; let LightcellAsks = {variable}; }}")
}

impl Typed {
    /// From the compiler's answer to [`question`].
    pub fn new(variable: &str, errors: &[Diagnostic]) -> Option<Typed> {
        let label = errors
            .iter()
            .flat_map(|error| &error.spans)
            .find_map(|span| span.label.strip_prefix("this expression has type `"))?;
        // Of a literal that nothing else decides about.
        let of = label
            .strip_suffix('`')?
            .replace("{integer}", "i32")
            .replace("{float}", "f64");
        // What cannot be written: closures, `impl Trait`, what is still open, and a type that is too long to be said.
        let writable = !["{", "impl ", "…", "...", "_"].iter().any(|sign| match *sign {
            "_" => of
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == "_"),
            sign => of.contains(sign),
        });
        writable.then(|| Typed {
            variable: variable.to_owned(),
            of,
        })
    }

    /// The type, at the last `let` of that name.
    pub(super) fn insert(&self, statements: &[syn::Stmt], inserted: &mut Vec<Insertion>) {
        for statement in statements.iter().rev() {
            if let syn::Stmt::Local(local) = statement
                && let syn::Pat::Type(typed) = &local.pat
                && let syn::Pat::Ident(pattern) = &*typed.pat
                && pattern.ident == self.variable
            {
                if let Ok(of) = syn::parse_str(&self.of) {
                    fill(&typed.ty, &of, inserted);
                }
                return;
            }
        }
        if let Some((_, pattern, _)) = last_let(statements, &self.variable) {
            inserted.push(before(pattern.span().end(), format!(": {}", self.of)));
        }
    }
}

/// Puts what stands in `of` at the place of each `_` before it, and the `_` into a comment.
fn fill(asked: &syn::Type, of: &syn::Type, inserted: &mut Vec<Insertion>) {
    use syn::{GenericArgument, Type};
    match (asked, of) {
        (Type::Infer(open), _) => {
            let text = quote::ToTokens::to_token_stream(of).to_string();
            inserted.push(before(open.span().start(), format!("{text} /*")));
            inserted.push(before(open.span().end(), "*/".to_owned()));
        }
        (Type::Path(asked), Type::Path(of)) => {
            for pair in arguments(asked).zip(arguments(of)) {
                if let (GenericArgument::Type(asked), GenericArgument::Type(of)) = pair {
                    fill(asked, of, inserted);
                }
            }
        }
        (Type::Tuple(asked), Type::Tuple(of)) => {
            for (asked, of) in asked.elems.iter().zip(&of.elems) {
                fill(asked, of, inserted);
            }
        }
        (Type::Array(asked), Type::Array(of)) => fill(&asked.elem, &of.elem, inserted),
        (Type::Reference(asked), Type::Reference(of)) => fill(&asked.elem, &of.elem, inserted),
        _ => {}
    }
}

fn arguments(path: &syn::TypePath) -> impl Iterator<Item = &syn::GenericArgument> {
    let last = path.path.segments.last();
    let list = last.and_then(|segment| match &segment.arguments {
        syn::PathArguments::AngleBracketed(list) => Some(&list.args),
        _ => None,
    });
    list.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::super::{Items, Kept, rewrite};
    use super::*;
    use crate::engine::Span;

    fn typed(of: &str) -> Option<Typed> {
        let span = Span {
            label: format!("this expression has type `{of}`"),
            ..Span::default()
        };
        let error = Diagnostic {
            spans: vec![Span::default(), span],
            ..Diagnostic::default()
        };
        Typed::new("m", &[error])
    }

    #[test]
    fn a_type_that_can_be_written_is_taken() {
        let of = |text: &str| typed(text).map(|typed| typed.of);
        assert_eq!(of("HashMap<&str, {integer}>"), Some("HashMap<&str, i32>".to_owned()));
        assert_eq!(of("Vec<{float}>"), Some("Vec<f64>".to_owned()));
        assert_eq!(of("My_Type"), Some("My_Type".to_owned()));
        for no in [
            "Vec<_>",
            "{closure@src/lib.rs:1:2: 1:4}",
            "impl Iterator<Item = i32>",
            "Map<..., ...>",
        ] {
            assert_eq!(of(no), None, "{no}");
        }
    }

    #[test]
    fn the_type_stands_for_what_was_left_open() {
        let with = |cell: &str, of: &str| {
            let typed = Kept::Typed(typed(of).unwrap());
            rewrite(cell, &Items::default(), &[typed]).text
        };
        assert_eq!(
            with(
                "let m: std::collections::HashMap<_, Vec<_>> = x;",
                "HashMap<i32, Vec<u8>>"
            ),
            "let m: std::collections::HashMap<i32 /*_*/, Vec<u8 /*_*/>> = x;"
        );
        assert_eq!(
            with("let m: (_, u8) = x;", "(Vec < i32 >, u8)"),
            "let m: (Vec < i32 > /*_*/, u8) = x;"
        );
        assert_eq!(with("let m = x;", "HashSet<i32>"), "let m: HashSet<i32> = x;");
        assert_eq!(with("let other = x;", "u8"), "let other = x;");
    }

    #[test]
    fn the_question_fails_for_every_type() {
        assert_eq!(
            question("let m = 1;", "m"),
            "let m = 1;\n{ struct LightcellAsks; let LightcellAsks = m; }"
        );
    }
}
