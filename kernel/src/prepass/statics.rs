//! Statics that are the same in every cell. evcxr compiles all items anew for each cell, so a static would begin anew each
//! time. Here each gets a symbol of its own, exported by the cells' libraries; the first library that has it is made global
//! for the loader (`lightcell_cell::share_statics`), and the loader then binds all later ones to it.

use super::{Insertion, before};
use quote::ToTokens;
use std::collections::{BTreeMap, BTreeSet};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// The statics of a session, and the types they may be made of.
#[derive(Debug, Default)]
pub struct Statics {
    /// By name.
    known: BTreeMap<String, Static>,
    /// Texts of the user's types by name.
    types: BTreeMap<String, String>,
    /// The next symbol's number.
    next: usize,
    /// The worker has been replaced by a new one: the next cell's library is the first again.
    first_again: bool,
}

/// A static outside of all functions.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Static {
    /// Its definition on one line, without the symbol.
    text: String,
    words: BTreeSet<String>,
}

/// What a cell defines, to be remembered when it has compiled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    statics: BTreeMap<String, Static>,
    types: BTreeMap<String, String>,
    numbers: usize,
    /// Statics that begin anew, as the cell defines a type of theirs again.
    pub anew: Vec<String>,
    shares: bool,
}

impl Statics {
    /// Remembers what a cell that has compiled defines.
    pub fn keep(&mut self, found: Found) {
        self.known.extend(found.statics);
        self.types.extend(found.types);
        self.next += found.numbers;
        self.first_again &= !found.shares;
    }

    /// There is a new worker, in which no cell's library is loaded.
    pub fn worker_is_new(&mut self) {
        self.first_again = !self.known.is_empty() || self.next > 0;
    }

    /// Whether a cell without statics of its own may have to be rewritten: it may define a type of theirs, or meet a new
    /// worker.
    pub fn depend_on(&self, cell: &str) -> bool {
        let types = ["struct", "enum", "union", "type"];
        self.first_again || !self.known.is_empty() && types.iter().any(|word| cell.contains(word))
    }

    /// What the statements of a cell need.
    pub fn rewrite(&self, statements: &[syn::Stmt], inserted: &mut Vec<Insertion>) -> Found {
        let mut scan = Scan {
            known: self,
            found: Found::default(),
            inserted: Vec::new(),
            inside: false,
        };
        for statement in statements {
            scan.types_of(statement);
        }
        for statement in statements {
            match statement {
                syn::Stmt::Macro(call) => scan.macro_call(call, statement.span()),
                other => scan.visit_stmt(other),
            }
        }
        let again = scan.anew();
        let Scan {
            mut found,
            inserted: list,
            ..
        } = scan;
        found.shares = found.numbers > 0 || self.first_again;
        if let Some(first) = statements.first().filter(|_| found.shares) {
            // Before the first of the user's own text, so before what a macro's call is put into.
            let text = format!("lightcell_cell::share_statics(&0u8); {again}");
            inserted.push(before(first.span().start(), text));
        }
        inserted.extend(list);
        found
    }
}

/// The attribute that names a static's symbol.
fn symbol(number: usize, name: &str) -> String {
    format!("#[unsafe(export_name = \"lightcell_static_{number}_{name}\")] ")
}

struct Scan<'a> {
    known: &'a Statics,
    found: Found,
    inserted: Vec<Insertion>,
    /// Inside of a function, a module or a block.
    inside: bool,
}

impl Scan<'_> {
    fn number(&mut self) -> usize {
        self.found.numbers += 1;
        self.known.next + self.found.numbers - 1
    }

    fn types_of(&mut self, statement: &syn::Stmt) {
        let syn::Stmt::Item(item) = statement else { return };
        let name = match item {
            syn::Item::Struct(item) => &item.ident,
            syn::Item::Enum(item) => &item.ident,
            syn::Item::Union(item) => &item.ident,
            syn::Item::Type(item) => &item.ident,
            _ => return,
        };
        self.found
            .types
            .insert(name.to_string(), item.to_token_stream().to_string());
    }

    /// Definitions of the statics that the cell does not define itself, though it changes a type of theirs.
    fn anew(&mut self) -> String {
        let changed = self.found.types.iter().filter(|(name, text)| {
            let before = self.known.types.get(*name);
            before.is_none_or(|before| before != *text)
        });
        let mut reached: BTreeSet<String> = changed.map(|(name, _)| name.clone()).collect();
        loop {
            let through = |text: &str| words(text).iter().any(|word| reached.contains(word));
            let more: Vec<String> = self
                .known
                .types
                .iter()
                .filter(|(name, text)| !reached.contains(*name) && through(text))
                .map(|(name, _)| name.clone())
                .collect();
            if more.is_empty() {
                break;
            }
            reached.extend(more);
        }
        let mut text = String::new();
        for (name, of) in &self.known.known {
            if !self.found.statics.contains_key(name) && !of.words.is_disjoint(&reached) {
                let number = self.number();
                text.push_str(&symbol(number, name));
                text.push_str(&of.text);
                text.push(' ');
                self.found.anew.push(name.clone());
            }
        }
        text
    }

    /// A type of the user's, now or before: such a static inside of a function could not be told when it changes.
    fn is_users(&self, ty: &syn::Type) -> bool {
        let words = words(&ty.to_token_stream().to_string());
        words
            .iter()
            .any(|word| self.known.types.contains_key(word) || self.found.types.contains_key(word))
    }

    fn remember(&mut self, name: &syn::Ident, text: String) {
        let words = words(&text);
        self.found.statics.insert(name.to_string(), Static { text, words });
    }

    /// `lazy_static!` and `thread_local!` outside of functions become the statics that they stand for.
    fn macro_call(&mut self, call: &syn::StmtMacro, whole: proc_macro2::Span) {
        let Some(name) = call.mac.path.segments.last().map(|last| last.ident.to_string()) else {
            return;
        };
        let lazy = name == "lazy_static";
        if !lazy && name != "thread_local" {
            return;
        }
        let Ok(entries) = syn::parse::Parser::parse2(entries, call.mac.tokens.clone()) else {
            return;
        };
        let hide = |from, to| [before(from, "/*".to_owned()), before(to, "*/".to_owned())];
        let open = match &call.mac.delimiter {
            syn::MacroDelimiter::Brace(brace) => brace.span,
            syn::MacroDelimiter::Paren(paren) => paren.span,
            syn::MacroDelimiter::Bracket(bracket) => bracket.span,
        };
        self.inserted
            .extend(hide(call.mac.path.span().start(), open.open().end()));
        for entry in &entries {
            let symbol = symbol(self.number(), &entry.name.to_string());
            let (ty, text) = (entry.ty.to_token_stream(), entry.tokens());
            let plain = if lazy {
                self.inserted.push(before(entry.start, symbol));
                if let Some(by_ref) = entry.by_ref {
                    self.inserted.extend(hide(by_ref.start(), by_ref.end()));
                }
                self.inserted
                    .push(before(entry.ty.span().start(), "std::sync::LazyLock<".to_owned()));
                self.inserted.push(before(entry.ty.span().end(), ">".to_owned()));
                let value = entry.value.span();
                self.inserted
                    .push(before(value.start(), "std::sync::LazyLock::new(|| ".to_owned()));
                self.inserted.push(before(value.end(), ")".to_owned()));
                let value = entry.value.to_token_stream();
                format!(
                    "static {}: std::sync::LazyLock<{ty}> = std::sync::LazyLock::new(|| {value});",
                    entry.name
                )
            } else {
                // The key is a constant for the compiler, which would take the value from the cell's own text: lazy, it
                // is looked up.
                let head = format!(
                    "static {}: std::sync::LazyLock<std::thread::LocalKey<{ty}>> = std::sync::LazyLock::new(|| {{ thread_local! {{ ",
                    entry.name
                );
                let tail = format!(" }} {} }});", entry.name);
                self.inserted.push(before(entry.start, format!("{symbol}{head}")));
                self.inserted.push(before(entry.end, tail.clone()));
                format!("{head}{text}{tail}")
            };
            self.remember(&entry.name, plain);
        }
        self.inserted.extend(hide(open.close().start(), whole.end()));
    }
}

impl<'ast> Visit<'ast> for Scan<'_> {
    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        let named = ["export_name", "no_mangle", "thread_local"];
        let attributes: Vec<String> = item
            .attrs
            .iter()
            .map(|attribute| attribute.to_token_stream().to_string())
            .collect();
        if attributes
            .iter()
            .any(|text| named.iter().any(|name| text.contains(name)))
            || self.inside && self.is_users(&item.ty)
        {
            return;
        }
        let start = match &item.vis {
            syn::Visibility::Inherited => item.static_token.span.start(),
            vis => vis.span().start(),
        };
        let number = self.number();
        self.inserted
            .push(before(start, symbol(number, &item.ident.to_string())));
        if !self.inside {
            self.remember(&item.ident, item.to_token_stream().to_string());
        }
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        let inside = self.inside;
        self.inside |= !matches!(item, syn::Item::Static(_));
        visit::visit_item(self, item);
        self.inside = inside;
    }

    fn visit_expr(&mut self, expr: &'ast syn::Expr) {
        // In a block that runs with the cell: such a static is of this cell alone.
        let _ = expr;
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        for statement in &block.stmts {
            if let syn::Stmt::Item(item) = statement {
                self.visit_item(item);
            }
        }
    }
}

/// An entry of `lazy_static!` or `thread_local!`.
struct Entry {
    attributes: Vec<syn::Attribute>,
    vis: syn::Visibility,
    start: proc_macro2::LineColumn,
    by_ref: Option<proc_macro2::Span>,
    name: syn::Ident,
    ty: syn::Type,
    value: syn::Expr,
    end: proc_macro2::LineColumn,
}

impl Entry {
    fn tokens(&self) -> String {
        let (attributes, vis) = (&self.attributes, self.vis.to_token_stream());
        let attributes: String = attributes.iter().map(|a| a.to_token_stream().to_string()).collect();
        let (ty, value) = (self.ty.to_token_stream(), self.value.to_token_stream());
        format!("{attributes} {vis} static {}: {ty} = {value};", self.name)
    }
}

fn entries(input: syn::parse::ParseStream) -> syn::Result<Vec<Entry>> {
    let mut list = Vec::new();
    while !input.is_empty() {
        let attributes = syn::Attribute::parse_outer(input)?;
        let start = input.span().start();
        let vis: syn::Visibility = input.parse()?;
        input.parse::<syn::Token![static]>()?;
        let by_ref: Option<syn::Token![ref]> = input.parse()?;
        let name = input.parse()?;
        input.parse::<syn::Token![:]>()?;
        let ty = input.parse()?;
        input.parse::<syn::Token![=]>()?;
        let value: syn::Expr = input.parse()?;
        // The last one may lack it; a static does not.
        let end = match input.parse::<Option<syn::Token![;]>>()? {
            Some(semicolon) => semicolon.span.end(),
            None => return Err(input.error("a semicolon is missing")),
        };
        list.push(Entry {
            attributes,
            vis,
            start,
            by_ref: by_ref.map(|token| token.span),
            name,
            ty,
            value,
            end,
        });
    }
    Ok(list)
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}
