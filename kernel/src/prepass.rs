//! What evcxr cannot do with a cell's text and a rewrite can. Every rewrite stays on its line, and says by how much it
//! moved the columns, so that errors stand where the user typed.
//!
//! Macros that make items: evcxr takes `hparams! { Hp { … } }` for a statement, and what it defines ends with the cell.
//! Inside a module of its own it is an item, kept and replaced like any other.

use syn::spanned::Spanned;

/// A rewritten text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// For evcxr.
    pub text: String,
    shifts: Vec<Shift>,
}

/// On this line, columns from `from` on are `by` further right than the user typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shift {
    line: usize,
    from: usize,
    by: usize,
}

impl Rewritten {
    /// The column that the user typed.
    pub fn column(&self, line: usize, column: usize) -> usize {
        let moved: usize = self
            .shifts
            .iter()
            .filter(|shift| shift.line == line && column >= shift.from + shift.by)
            .map(|shift| shift.by)
            .sum();
        column.saturating_sub(moved).max(1)
    }
}

/// Macros of which it is known that they make items.
const ITEM_MACROS: [&str; 1] = ["hparams"];

/// Rewrites a cell; what cannot be parsed stays as it is, for the compiler to complain about.
pub fn rewrite(cell: &str) -> Rewritten {
    let plain = || Rewritten {
        text: cell.to_owned(),
        shifts: Vec::new(),
    };
    if !ITEM_MACROS.iter().any(|name| cell.contains(&format!("{name}!"))) {
        return plain();
    }
    // Lines that are commands of evcxr's are no Rust.
    let rust: String = cell
        .lines()
        .map(|line| {
            if line.starts_with(':') {
                "\n".to_owned()
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    let Ok(statements) = syn::parse::Parser::parse_str(syn::Block::parse_within, &rust) else {
        return plain();
    };
    let mut lines: Vec<String> = cell.lines().map(str::to_owned).collect();
    let mut shifts = Vec::new();
    for statement in statements.iter().rev() {
        let syn::Stmt::Macro(call) = statement else { continue };
        let Some(name) = call
            .mac
            .path
            .segments
            .last()
            .map(|segment| segment.ident.to_string())
            .filter(|name| ITEM_MACROS.contains(&name.as_str()))
        else {
            continue;
        };
        let (start, end) = (call.mac.path.span().start(), statement.span().end());
        let before = format!(
            "mod lightcell_{name}_{} {{ use super::*; ",
            first_name(&call.mac.tokens)
        );
        let after = format!(" }} use lightcell_{name}_{}::*;", first_name(&call.mac.tokens));
        if end.line == 0 || end.line > lines.len() {
            continue;
        }
        insert(&mut lines[end.line - 1], end.column, &after);
        insert(&mut lines[start.line - 1], start.column, &before);
        shifts.push(Shift {
            line: start.line,
            from: start.column + 1,
            by: before.chars().count(),
        });
    }
    let mut text = lines.join("\n");
    if cell.ends_with('\n') {
        text.push('\n');
    }
    Rewritten { text, shifts }
}

/// Inserts at a column counted in characters.
fn insert(line: &mut String, column: usize, text: &str) {
    let at = line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    line.insert_str(at, text);
}

/// What the macro defines first: names its module, so that running the cell again replaces it.
fn first_name(tokens: &proc_macro2::TokenStream) -> String {
    const WORDS: [&str; 8] = ["pub", "static", "const", "struct", "ref", "crate", "mut", "fn"];
    let text = tokens.to_string();
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .find(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_') && !WORDS.contains(word))
        .unwrap_or("items")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_macro_that_makes_items_becomes_an_item() {
        let rewritten = rewrite("let a = 1;\n  hparams! { Hp { lr: f64 = 1e-3 } }\nstruct Net;\n");
        assert_eq!(
            rewritten.text,
            "let a = 1;\n  mod lightcell_hparams_Hp { use super::*; hparams! { Hp { lr: f64 = 1e-3 } } } use lightcell_hparams_Hp::*;\nstruct Net;\n"
        );
        assert_eq!(
            rewritten.column(2, 3 + "mod lightcell_hparams_Hp { use super::*; ".len()),
            3
        );
        assert_eq!((rewritten.column(2, 1), rewritten.column(1, 9)), (1, 9));
    }

    #[test]
    fn several_lines_stay_several() {
        let cell = "hparams! {\n    Hp { lr: f64 = 1e-3 }\n}";
        let rewritten = rewrite(cell);
        assert!(
            rewritten
                .text
                .starts_with("mod lightcell_hparams_Hp { use super::*; hparams! {\n"),
            "{}",
            rewritten.text
        );
        assert!(
            rewritten.text.ends_with("} } use lightcell_hparams_Hp::*;"),
            "{}",
            rewritten.text
        );
        assert_eq!(rewritten.text.lines().count(), 3);
    }

    #[test]
    fn everything_else_stays() {
        for cell in [
            "println!(\"hparams!\");",
            "hparams! {",
            "let x = vec![1];",
            "",
            "f(hparams!{})",
        ] {
            assert_eq!(rewrite(cell).text, cell);
        }
    }
}
