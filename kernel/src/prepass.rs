//! What evcxr cannot do with a cell's text and a rewrite can. Every rewrite stays on its line, and says by how much it
//! moved the columns, so that errors stand where the user typed.
//!
//! Macros that make items: evcxr takes `hparams! { Hp { … } }` for a statement, and what it defines ends with the cell.
//! Inside a module of its own it is an item, kept and replaced like any other. The same for `impl` blocks, which have no
//! name: evcxr would keep the old one beside the new when the cell is run again.

use std::collections::BTreeSet;
use syn::spanned::Spanned;

/// A rewritten text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewritten {
    /// For evcxr.
    pub text: String,
    inserted: Vec<Insertion>,
    /// The `impl` blocks in it, to be remembered when the cell has compiled.
    impls: Vec<Impl>,
}

/// A text that the user has not typed, before a place: line from 1, column in characters from 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Insertion {
    line: usize,
    column: usize,
    text: String,
}

impl Rewritten {
    /// The column that the user typed; both count from 1.
    pub fn column(&self, line: usize, column: usize) -> usize {
        let mut by = 0;
        for inserted in self.inserted.iter().filter(|inserted| inserted.line == line) {
            let (start, length) = (inserted.column + by + 1, inserted.text.chars().count());
            if column < start {
                break;
            }
            if column < start + length {
                return inserted.column + 1;
            }
            by += length;
        }
        column.saturating_sub(by).max(1)
    }
}

/// The `impl` blocks of a session, each in a module of its own.
#[derive(Debug, Default)]
pub struct Impls {
    known: Vec<Impl>,
    /// The next module's number.
    next: usize,
}

/// An `impl` block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Impl {
    /// What stands between `impl` and the brace.
    head: String,
    /// What it defines.
    names: BTreeSet<String>,
    module: usize,
}

/// Begins the names of modules that hold what a rewrite put into them.
pub const HIDDEN: &str = "lightcell_";

impl Impls {
    /// Remembers the blocks of a cell that has compiled.
    pub fn keep(&mut self, rewritten: Rewritten) {
        for new in rewritten.impls {
            self.next = self.next.max(new.module + 1);
            self.known.retain(|old| old.module != new.module);
            self.known.push(new);
        }
    }

    /// The module of a block: that of the one it replaces, with the same head and a function of the same name, else a new
    /// one. What this cell has used already is not replaced: two such blocks in a cell are the user's error.
    fn place(&self, block: &syn::ItemImpl, used: &[Impl]) -> Impl {
        let text = |tokens: &dyn quote::ToTokens| tokens.to_token_stream().to_string();
        let of = block.trait_.as_ref().map(|(_, path, _)| text(path)).unwrap_or_default();
        let (generics, bounds) = (text(&block.generics), text(&block.generics.where_clause));
        let head = format!("{generics} {of} for {} {bounds}", text(&*block.self_ty));
        let names: BTreeSet<String> = block.items.iter().filter_map(name_of).collect();
        let is_free = |module: usize| !used.iter().any(|used| used.module == module);
        let same = |old: &&Impl| {
            let meets = block.trait_.is_some() || old.names.is_empty() || !old.names.is_disjoint(&names);
            old.head == head && meets && is_free(old.module)
        };
        let old = self.known.iter().find(same).map(|old| old.module);
        let new = || used.iter().map(|used| used.module + 1).fold(self.next, usize::max);
        Impl {
            module: old.unwrap_or_else(new),
            head,
            names,
        }
    }
}

fn name_of(item: &syn::ImplItem) -> Option<String> {
    match item {
        syn::ImplItem::Fn(function) => Some(function.sig.ident.to_string()),
        syn::ImplItem::Const(constant) => Some(constant.ident.to_string()),
        syn::ImplItem::Type(alias) => Some(alias.ident.to_string()),
        _ => None,
    }
}

/// Macros of which it is known that they make items.
const ITEM_MACROS: [&str; 1] = ["hparams"];

/// Rewrites a cell; what cannot be parsed stays as it is, for the compiler to complain about.
pub fn rewrite(cell: &str, impls: &Impls) -> Rewritten {
    let lines: Vec<&str> = cell.lines().collect();
    // evcxr would run it in a shell of its own. What is meant for the shell has been taken out before.
    let negations = (1..).zip(&lines).filter(|(_, line)| line.starts_with('!'));
    let mut inserted: Vec<Insertion> = negations.map(|(line, _)| space(line)).collect();
    let mut found = Vec::new();
    for statement in statements(cell) {
        match &statement {
            syn::Stmt::Macro(call) => inserted.extend(item_macro(call, statement.span()).into_iter().flatten()),
            syn::Stmt::Item(syn::Item::Impl(block)) => {
                let place = impls.place(block, &found);
                inserted.extend(in_module(block, place.module));
                found.push(place);
            }
            _ => {}
        }
    }
    inserted.sort();
    inserted.retain(|inserted| (1..=lines.len()).contains(&inserted.line));
    if inserted.is_empty() {
        return Rewritten {
            text: cell.to_owned(),
            ..Rewritten::default()
        };
    }
    let mut lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
    for inserted in inserted.iter().rev() {
        let line = &mut lines[inserted.line - 1];
        let at = line
            .char_indices()
            .nth(inserted.column)
            .map_or(line.len(), |(at, _)| at);
        line.insert_str(at, &inserted.text);
    }
    let mut text = lines.join("\n");
    if cell.ends_with('\n') {
        text.push('\n');
    }
    Rewritten {
        text,
        inserted,
        impls: found,
    }
}

fn space(line: usize) -> Insertion {
    Insertion {
        line,
        column: 0,
        text: " ".to_owned(),
    }
}

/// The cell's statements, when it holds some that may be rewritten.
fn statements(cell: &str) -> Vec<syn::Stmt> {
    let may_change = cell.contains("impl") || ITEM_MACROS.iter().any(|name| cell.contains(&format!("{name}!")));
    if !may_change {
        return Vec::new();
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
    syn::parse::Parser::parse_str(syn::Block::parse_within, &rust).unwrap_or_default()
}

fn before(place: proc_macro2::LineColumn, text: String) -> Insertion {
    Insertion {
        line: place.line,
        column: place.column,
        text,
    }
}

/// A call of a macro that makes items, in a module named after the first of them.
fn item_macro(call: &syn::StmtMacro, whole: proc_macro2::Span) -> Option<[Insertion; 2]> {
    let name = call.mac.path.segments.last()?.ident.to_string();
    if !ITEM_MACROS.contains(&name.as_str()) {
        return None;
    }
    let module = format!("{HIDDEN}{name}_{}", first_name(&call.mac.tokens));
    Some([
        before(call.mac.path.span().start(), format!("mod {module} {{ use super::*; ")),
        before(whole.end(), format!(" }} use {module}::*;")),
    ])
}

/// An `impl` block in its module. What it defines for a type is made visible outside of it.
fn in_module(block: &syn::ItemImpl, module: usize) -> Vec<Insertion> {
    let mut list = vec![
        before(
            block.span().start(),
            format!("mod {HIDDEN}impl_{module} {{ use super::*; "),
        ),
        before(block.span().end(), " }".to_owned()),
    ];
    if block.trait_.is_none() {
        let private = |vis: &syn::Visibility| matches!(vis, syn::Visibility::Inherited);
        for item in &block.items {
            let start = match item {
                syn::ImplItem::Fn(function) if private(&function.vis) => function.sig.span().start(),
                syn::ImplItem::Const(constant) if private(&constant.vis) => constant.const_token.span.start(),
                _ => continue,
            };
            list.push(before(start, "pub(super) ".to_owned()));
        }
    }
    list
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

    fn rewrite_new(cell: &str) -> Rewritten {
        rewrite(cell, &Impls::default())
    }

    #[test]
    fn an_impl_block_gets_a_module_and_is_replaced_by_its_next_version() {
        let mut impls = Impls::default();
        let first = rewrite("struct P;\nimpl P { fn a(&self) -> i32 { 1 } pub fn b() {} }", &impls);
        assert_eq!(
            first.text,
            "struct P;\nmod lightcell_impl_0 { use super::*; impl P { pub(super) fn a(&self) -> i32 { 1 } pub fn b() {} } }"
        );
        let before = "mod lightcell_impl_0 { use super::*; ".len();
        assert_eq!(first.column(2, before + 1), 1);
        assert_eq!(first.column(2, before + 10 + "pub(super) ".len()), 10);
        assert_eq!(first.column(2, before + 13), 10, "inside of what was put there");
        assert_eq!(first.column(1, 8), 8);
        impls.keep(first);
        let module = |cell: &str| rewrite(cell, &impls).impls[0].module;
        assert_eq!(module("impl P { fn a(&self) -> i32 { 2 } }"), 0);
        assert_eq!(module("impl P { fn c(&self) {} }"), 1);
        assert_eq!(module("impl Q { fn a(&self) {} }"), 1);
        assert_eq!(module("impl Clone for P { fn clone(&self) -> P { P } }"), 1);
        let twice = rewrite("impl P { fn a() {} }\nimpl P { fn a() {} }", &impls);
        assert_eq!((twice.impls[0].module, twice.impls[1].module), (0, 1));
        let of_a_trait = rewrite("impl Clone for P {\n    fn clone(&self) -> P { P }\n}", &impls).text;
        assert_eq!(of_a_trait.lines().nth(1), Some("    fn clone(&self) -> P { P }"));
    }

    #[test]
    fn a_macro_that_makes_items_becomes_an_item() {
        let rewritten = rewrite_new("let a = 1;\n  hparams! { Hp { lr: f64 = 1e-3 } }\nstruct Net;\n");
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
        let rewritten = rewrite_new(cell);
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
    fn a_negation_at_the_beginning_of_a_line_is_no_shell_command() {
        let rewritten = rewrite_new("let a = 1;\n!b");
        assert_eq!(rewritten.text, "let a = 1;\n !b");
        assert_eq!((rewritten.column(2, 3), rewritten.column(1, 3)), (2, 3));
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
            assert_eq!(rewrite_new(cell).text, cell);
        }
    }
}
