//! What evcxr cannot do with a cell's text and a rewrite can. Every rewrite stays on its line, and says by how much it
//! moved the columns, so that errors stand where the user typed.
//!
//! `impl` blocks have no name: evcxr would keep the old one beside the new when the cell is run again. Inside a module of
//! their own they are items that are kept and replaced like any other. For macros see [`macros`], for statics [`statics`].

mod closures;
mod macros;
mod statics;
mod types;

pub use closures::Boxed;
use std::collections::BTreeSet;
use syn::spanned::Spanned;
pub use types::{Typed, question};

/// A rewritten text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewritten {
    /// For evcxr.
    pub text: String,
    inserted: Vec<Insertion>,
    // What it defines, to be remembered when the cell has compiled.
    impls: Vec<Impl>,
    makers: macros::Makers,
    statics: statics::Found,
}

/// A text that the user has not typed, before a place: line from 1, column in characters from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
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

    /// Statics that begin anew, as the cell defines a type of theirs again.
    pub fn anew(&self) -> &[String] {
        &self.statics.anew
    }
}

/// How a variable is written so that it can be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// A closure in a box.
    Boxed(Boxed),
    /// With its type.
    Typed(Typed),
}

/// What earlier cells have defined, as far as a rewrite depends on it.
#[derive(Debug, Default)]
pub struct Items {
    impls: Impls,
    makers: macros::Makers,
    statics: statics::Statics,
}

impl Items {
    /// Remembers what a cell defines that has compiled.
    pub fn keep(&mut self, rewritten: Rewritten) {
        self.impls.keep(rewritten.impls);
        self.makers.keep(rewritten.makers);
        self.statics.keep(rewritten.statics);
    }

    /// There is a new worker.
    pub fn worker_is_new(&mut self) {
        self.statics.worker_is_new();
    }
}

/// The `impl` blocks of a session, each in a module of its own.
#[derive(Debug, Default)]
struct Impls {
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
    fn keep(&mut self, found: Vec<Impl>) {
        for new in found {
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

/// Rewrites a cell; what cannot be parsed stays as it is, for the compiler to complain about.
pub fn rewrite(cell: &str, items: &Items, kept: &[Kept]) -> Rewritten {
    let lines: Vec<&str> = cell.lines().collect();
    // evcxr would run it in a shell of its own. What is meant for the shell has been taken out before.
    let negations = (1..).zip(&lines).filter(|(_, line)| line.starts_with('!'));
    let mut inserted: Vec<Insertion> = negations.map(|(line, _)| space(line)).collect();
    let (mut impls, mut makers) = (Vec::new(), items.makers.clone());
    let statements = match kept {
        [] if !may_change(cell, items) => Vec::new(),
        _ => statements(cell),
    };
    for kept in kept {
        match kept {
            Kept::Boxed(boxed) => boxed.insert(&statements, &mut inserted),
            Kept::Typed(typed) => typed.insert(&statements, &mut inserted),
        }
    }
    let statics = items.statics.rewrite(&statements, &mut inserted);
    for statement in &statements {
        match statement {
            syn::Stmt::Item(syn::Item::Macro(rules)) => makers.define(rules, &mut inserted),
            syn::Stmt::Macro(call) => makers.call(call, statement.span(), &mut inserted),
            syn::Stmt::Item(syn::Item::Impl(block)) => {
                let place = items.impls.place(block, &impls);
                inserted.extend(in_module(block, place.module));
                impls.push(place);
            }
            _ => {}
        }
    }
    // Those of one place in the order in which they were found.
    inserted.sort_by_key(|inserted| (inserted.line, inserted.column));
    inserted.retain(|inserted| (1..=lines.len()).contains(&inserted.line));
    let mut text = cell.to_owned();
    if !inserted.is_empty() {
        let mut lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
        for inserted in inserted.iter().rev() {
            let line = &mut lines[inserted.line - 1];
            let at = line
                .char_indices()
                .nth(inserted.column)
                .map_or(line.len(), |(at, _)| at);
            line.insert_str(at, &inserted.text);
        }
        text = lines.join("\n");
        if cell.ends_with('\n') {
            text.push('\n');
        }
    }
    Rewritten {
        text,
        inserted,
        impls,
        makers,
        statics,
    }
}

fn space(line: usize) -> Insertion {
    Insertion {
        line,
        column: 0,
        text: " ".to_owned(),
    }
}

/// Whether a cell may hold what is rewritten; most do not, and need not be parsed.
fn may_change(cell: &str, items: &Items) -> bool {
    let words = ["impl", "macro_rules", "static", "thread_local"];
    words.iter().any(|word| cell.contains(word)) || items.makers.may_be_in(cell) || items.statics.depend_on(cell)
}

/// A cell up to the end of the last `let` of a variable.
pub fn up_to<'a>(variable: &str, cell: &'a str) -> Option<&'a str> {
    let place = closures::end_of(&statements(cell), variable)?;
    let line = cell.split('\n').nth(place.line - 1)?;
    let before: usize = cell.split('\n').take(place.line - 1).map(|line| line.len() + 1).sum();
    let within = line.char_indices().nth(place.column).map_or(line.len(), |(at, _)| at);
    cell.get(..before + within)
}

/// The cell's statements.
fn statements(cell: &str) -> Vec<syn::Stmt> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite_new(cell: &str) -> Rewritten {
        rewrite(cell, &Items::default(), &[])
    }

    #[test]
    fn an_impl_block_gets_a_module_and_is_replaced_by_its_next_version() {
        let mut impls = Items::default();
        let first = rewrite(
            "struct P;\nimpl P { fn a(&self) -> i32 { 1 } pub fn b() {} }",
            &impls,
            &[],
        );
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
        let module = |cell: &str| rewrite(cell, &impls, &[]).impls[0].module;
        assert_eq!(module("impl P { fn a(&self) -> i32 { 2 } }"), 0);
        assert_eq!(module("impl P { fn c(&self) {} }"), 1);
        assert_eq!(module("impl Q { fn a(&self) {} }"), 1);
        assert_eq!(module("impl Clone for P { fn clone(&self) -> P { P } }"), 1);
        let twice = rewrite("impl P { fn a() {} }\nimpl P { fn a() {} }", &impls, &[]);
        assert_eq!((twice.impls[0].module, twice.impls[1].module), (0, 1));
        let of_a_trait = rewrite("impl Clone for P {\n    fn clone(&self) -> P { P }\n}", &impls, &[]).text;
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
    fn a_macro_is_known_everywhere_and_what_it_makes_can_be_used() {
        let rules = rewrite_new("macro_rules! sq { ($e:expr) => { $e * $e } }");
        assert_eq!(
            rules.text,
            "mod lightcell_macro_sq { macro_rules! sq { ($e:expr) => { $e * $e } } pub(crate) use sq; } use lightcell_macro_sq::sq;"
        );
        let mut items = Items::default();
        let maker = "macro_rules! make { ($n:ident $(, $f:ident)*) => { #[derive(Debug)] struct $n { $($f: i32,)* x: u8 } \
                     impl $n { fn hi(&self) {} } impl Clone for $n { fn clone(&self) -> $n { todo!() } } pub fn f() {} }; }";
        let rewritten = rewrite(maker, &items, &[]);
        let expected = "=> { #[derive(Debug)] pub(crate) struct $n { $(pub(crate) $f: i32,)* pub(crate) x: u8 } \
                        impl $n { pub(crate) fn hi(&self) {} } impl Clone for $n { fn clone(&self) -> $n { todo!() } } pub fn f() {} };";
        assert!(rewritten.text.contains(expected), "{}", rewritten.text);
        assert_eq!(rewrite("make!(Foo);", &items, &[]).text, "make!(Foo);");
        items.keep(rewritten);
        assert_eq!(
            rewrite("make!(Foo);", &items, &[]).text,
            "mod lightcell_make_Foo { use super::*; make!(Foo); } use lightcell_make_Foo::*;"
        );
        let flags = rewrite_new("bitflags! { struct Flags: u32 { const A = 1; } }").text;
        assert!(
            flags.contains("bitflags! { pub(crate) struct Flags: u32 { const A = 1; } } }"),
            "{flags}"
        );
    }

    #[test]
    fn a_static_has_a_symbol_and_is_shared() {
        let share = "lightcell_cell::share_statics(&0u8); ";
        let mut items = Items::default();
        let first = rewrite(
            "use x::Y;\npub static A: Foo = Foo(1);\nfn f() { static N: u8 = 0; static M: Own = Own; }\nstruct Own;",
            &items,
            &[],
        );
        let named = |n, name| format!("#[unsafe(export_name = \"lightcell_static_{n}_{name}\")] ");
        assert_eq!(
            first.text,
            format!(
                "{share}use x::Y;\n{}pub static A: Foo = Foo(1);\nfn f() {{ {}static N: u8 = 0; static M: Own = Own; }}\nstruct Own;",
                named(0, "A"),
                named(1, "N")
            )
        );
        assert_eq!(first.column(2, named(0, "A").len() + 5), 5);
        items.keep(first);
        assert_eq!(rewrite("A.0", &items, &[]).text, "A.0");
        // Run again it is another one.
        assert!(
            rewrite("static A: Foo = Foo(1);", &items, &[])
                .text
                .contains("lightcell_static_2_A")
        );
        // Of a type that changes it would be something else in the same place.
        let changed = rewrite("struct Foo(u8);", &items, &[]);
        assert_eq!(changed.anew(), ["A"]);
        assert_eq!(
            changed.text,
            format!("{share}{}pub static A : Foo = Foo (1) ; struct Foo(u8);", named(2, "A"))
        );
        items.keep(changed);
        assert_eq!(rewrite("struct Foo(u8);", &items, &[]).anew(), [""; 0]);
        assert_eq!(rewrite("struct Bar(u8);", &items, &[]).anew(), [""; 0]);
        // Through another type.
        items.keep(rewrite("struct Bar(Foo);\nstatic B: Bar = Bar(Foo(1));", &items, &[]));
        assert_eq!(rewrite("struct Foo(u16);", &items, &[]).anew(), ["A", "B"]);
        items.worker_is_new();
        let next = rewrite("1 + 1", &items, &[]);
        assert_eq!(next.text, format!("{share}1 + 1"));
        items.keep(next);
        assert_eq!(rewrite("1 + 1", &items, &[]).text, "1 + 1");
        for cell in [
            "#[no_mangle] static A: u8 = 0;",
            "{ static A: u8 = 0; }",
            "let s: &'static str = \"\";",
        ] {
            assert_eq!(rewrite_new(cell).text, cell);
        }
    }

    #[test]
    fn a_closure_is_put_into_a_box() {
        let cell = "let ä = 1;\nlet mut f = |a: i32| a;\nf(1)";
        let boxed = Kept::Boxed(Boxed {
            variable: "f".into(),
            of: "Fn(i32) -> i32".into(),
        });
        let rewritten = rewrite(cell, &Items::default(), &[boxed]);
        assert_eq!(
            rewritten.text,
            "let ä = 1;\nlet mut f: Box<dyn Fn(i32) -> i32> = Box::new(|a: i32| a);\nf(1)"
        );
        assert_eq!(
            rewritten.column(2, 50),
            50 - ": Box<dyn Fn(i32) -> i32>".len() - "Box::new(".len()
        );
        assert_eq!(up_to("f", cell), Some("let ä = 1;\nlet mut f = |a: i32| a;"));
        assert_eq!(up_to("g", cell), None);
    }

    #[test]
    fn lazy_and_thread_local_statics_are_statics() {
        let lazy = rewrite_new("lazy_static! {\n    static ref A: Vec<u8> = vec![1];\n}");
        assert_eq!(
            lazy.text,
            "lightcell_cell::share_statics(&0u8); /*lazy_static! {*/\n    #[unsafe(export_name = \"lightcell_static_0_A\")] static /*ref*/ A: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| vec![1]);\n/*}*/"
        );
        let local = rewrite_new("thread_local! { static A: Cell<u8> = Cell::new(1); }");
        assert_eq!(
            local.text,
            "lightcell_cell::share_statics(&0u8); /*thread_local! {*/ #[unsafe(export_name = \"lightcell_static_0_A\")] static A: std::sync::LazyLock<std::thread::LocalKey<Cell < u8 >>> = std::sync::LazyLock::new(|| { thread_local! { static A: Cell<u8> = Cell::new(1); } A }); /*}*/"
        );
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

    /// Cells put together at random from what is rewritten and what is not: the result is Rust again, line by line, and
    /// each character can be found by the column that the compiler would name.
    #[test]
    fn whatever_is_rewritten_is_rust_and_keeps_its_places() {
        const PARTS: [&str; 14] = [
            "impl Größe { fn new() -> Self { Self } const N: u8 = 1; pub fn two(&self) {} }",
            "impl Show for P {\n    fn show(&self) {}\n}",
            "static COUNT: AtomicU32 = AtomicU32::new(0);",
            "static mut LAST: Option<P> = None;",
            "fn counted() -> u32 { static N: AtomicU32 = AtomicU32::new(0); N.fetch_add(1, SeqCst) }",
            "thread_local! { static HERE: Cell<u8> = const { Cell::new(1) }; }",
            "macro_rules! point { ($name:ident) => { struct $name; }; }",
            "point!(Größe);",
            "struct P { x: f64 }",
            "let größe = \"impl { static\"; /* \u{1d54f} */",
            "println!(\"{}\", COUNT.load(SeqCst));",
            "mod inner { pub static DEEP: u8 = 1; impl super::P { pub fn deep() {} } }",
            "if true { fn local() { static L: u8 = 0; } }",
            "// impl X {}\n",
        ];
        let mut seed = 0x5eed_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        let mut items = Items::default();
        for round in 0..2000 {
            if round % 50 == 0 {
                items = Items::default();
            }
            let mut cell = String::new();
            for _ in 0..=random(5) {
                cell += PARTS[random(PARTS.len())];
                cell += ["\n", " ", "\n\n    "][random(3)];
            }
            let rewritten = rewrite(&cell, &items, &[]);
            let parsed = |text: &str| syn::parse::Parser::parse_str(syn::Block::parse_within, text);
            assert!(parsed(&cell).is_ok(), "{cell}");
            if let Err(error) = parsed(&rewritten.text) {
                panic!("{error}: {cell}\n->\n{}", rewritten.text);
            }
            let pairs = cell.lines().zip(rewritten.text.lines());
            assert_eq!(cell.lines().count(), rewritten.text.lines().count(), "{cell}");
            for (line, (typed, new)) in (1..).zip(pairs) {
                let mut found = vec![false; typed.chars().count()];
                for (column, character) in (1..).zip(new.chars()) {
                    let at = rewritten.column(line, column) - 1;
                    if typed.chars().nth(at) == Some(character) {
                        found[at] = true;
                    }
                }
                assert!(!found.contains(&false), "line {line}: {typed}\n->\n{new}");
            }
            items.keep(rewritten);
        }
    }
}
