//! Macros of a cell that evcxr would lose. What a macro's call defines ends with the cell, since evcxr takes the call for a
//! statement; and a `macro_rules!` is put among the other items in no order, though it counts only below its place. Both get
//! a module of their own, which is an item like any other and known everywhere.

use super::{HIDDEN, Insertion, before};
use proc_macro2::{Delimiter, LineColumn, Span, TokenStream, TokenTree};
use std::collections::BTreeSet;
use syn::spanned::Spanned;

/// Macros of which it is known that they make items.
const KNOWN: [&str; 2] = ["hparams", "bitflags"];

/// The user's own macros that make items.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Makers(BTreeSet<String>);

impl Makers {
    /// Remembers those of a cell that has compiled.
    pub fn keep(&mut self, found: Makers) {
        self.0.extend(found.0);
    }

    /// A name that may stand in a cell with something to rewrite.
    pub fn may_be_in(&self, cell: &str) -> bool {
        let known = KNOWN.iter().copied().chain(self.0.iter().map(String::as_str));
        known.into_iter().any(|name| cell.contains(name))
    }

    /// A `macro_rules!` in its module. Items that it makes are made visible outside of theirs.
    pub fn define(&mut self, rules: &syn::ItemMacro, inserted: &mut Vec<Insertion>) {
        let Some(name) = rules.ident.as_ref().filter(|_| rules.mac.path.is_ident("macro_rules")) else {
            return;
        };
        // It would put the macro into the crate's root a second time.
        for attribute in rules.attrs.iter().filter(|a| a.path().is_ident("macro_export")) {
            inserted.push(before(attribute.span().start(), "/*".to_owned()));
            inserted.push(before(attribute.span().end(), "*/".to_owned()));
        }
        let bodies = transcribers(&rules.mac.tokens);
        let places: Vec<LineColumn> = bodies.iter().flat_map(|body| items(body, true)).collect();
        if bodies.iter().any(makes_items) {
            self.0.insert(name.to_string());
            inserted.extend(places.into_iter().map(|place| before(place, "pub(crate) ".to_owned())));
        }
        let module = format!("{HIDDEN}macro_{name}");
        inserted.push(before(rules.span().start(), format!("mod {module} {{ ")));
        let exported = format!(" pub(crate) use {name}; }} use {module}::{name};");
        inserted.push(before(rules.span().end(), exported));
    }

    /// A call of a macro that makes items, in a module named after the first of them.
    pub fn call(&self, call: &syn::StmtMacro, whole: Span, inserted: &mut Vec<Insertion>) {
        let Some(name) = call.mac.path.segments.last().map(|last| last.ident.to_string()) else {
            return;
        };
        if !KNOWN.contains(&name.as_str()) && !self.0.contains(&name) {
            return;
        }
        let module = format!("{HIDDEN}{name}_{}", first_name(&call.mac.tokens));
        inserted.push(before(
            call.mac.path.span().start(),
            format!("mod {module} {{ use super::*; "),
        ));
        if name == "bitflags" {
            let places = items(&call.mac.tokens, false).into_iter();
            inserted.extend(places.map(|place| before(place, "pub(crate) ".to_owned())));
        }
        inserted.push(before(whole.end(), format!(" }} use {module}::*;")));
    }
}

const ITEMS: [&str; 9] = [
    "struct", "enum", "union", "static", "const", "type", "trait", "fn", "mod",
];

/// What a macro's rules turn calls into: the group behind each `=>`.
fn transcribers(rules: &TokenStream) -> Vec<TokenStream> {
    let tokens: Vec<TokenTree> = rules.clone().into_iter().collect();
    let arrow = |at: usize| matches!(&tokens[at..at + 2], [TokenTree::Punct(a), TokenTree::Punct(b)] if a.as_char() == '=' && b.as_char() == '>');
    (2..tokens.len())
        .filter(|at| arrow(at - 2))
        .filter_map(|at| match &tokens[at] {
            TokenTree::Group(group) => Some(group.stream()),
            _ => None,
        })
        .collect()
}

/// Whether a text begins with an item, attributes and visibility aside.
fn makes_items(body: &TokenStream) -> bool {
    let mut tokens = body.clone().into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => drop(tokens.next()),
            TokenTree::Ident(word) if word == "pub" => {
                tokens.next_if(|next| matches!(next, TokenTree::Group(_)));
            }
            TokenTree::Ident(word) if word == "unsafe" || word == "async" || word == "extern" => {}
            TokenTree::Ident(word) => return word == "impl" || word == "use" || ITEMS.iter().any(|item| word == item),
            // A repetition.
            TokenTree::Punct(punct) if punct.as_char() == '$' => {
                return matches!(tokens.next(), Some(TokenTree::Group(group)) if makes_items(&group.stream()));
            }
            _ => return false,
        }
    }
    false
}

/// What is private unless something is written before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Private {
    /// Items, at the beginning, behind a semicolon, a body or an attribute.
    Items,
    /// Fields, at the beginning and behind a comma.
    Fields,
}

/// Where a visibility is to be put, so that what a macro makes can be used outside of its module. `transcribed`: in a
/// macro's rules, where it is Rust also inside of bodies and of `$( … )`; what stands in a call is the macro's own language.
fn items(body: &TokenStream, transcribed: bool) -> Vec<LineColumn> {
    let mut found = Vec::new();
    private(body, transcribed, Private::Items, &mut found);
    found
}

fn private(body: &TokenStream, transcribed: bool, what: Private, found: &mut Vec<LineColumn>) {
    let (mut fresh, mut dollar) = (true, None);
    // The item that is being read: its keyword, and whether `for` stands in it.
    let (mut item, mut of_trait) = (String::new(), false);
    for token in body.clone() {
        let (was_dollar, was_fresh) = (dollar.take(), fresh);
        fresh = false;
        match token {
            TokenTree::Ident(word) => {
                let text = word.to_string();
                match what {
                    Private::Fields if was_fresh && text != "pub" => {
                        found.push(was_dollar.unwrap_or_else(|| word.span().start()));
                    }
                    Private::Items if was_fresh && was_dollar.is_none() => {
                        if ITEMS.contains(&text.as_str()) {
                            found.push(word.span().start());
                        }
                        (item, of_trait) = (text, false);
                    }
                    // Behind its visibility.
                    Private::Items if item == "pub" => item = text,
                    _ => of_trait |= text == "for",
                }
            }
            TokenTree::Punct(punct) => match (punct.as_char(), what) {
                (';', Private::Items) | (',', Private::Fields) => fresh = true,
                ('$', _) => (dollar, fresh) = (Some(punct.span().start()), was_fresh),
                ('#' | '*' | '+' | '?', _) => fresh = was_fresh,
                _ => {}
            },
            TokenTree::Group(group) if was_dollar.is_some() => {
                if transcribed {
                    private(&group.stream(), true, what, found);
                }
                fresh = true;
            }
            TokenTree::Group(group) => {
                let inner = group.stream();
                match (group.delimiter(), item.as_str(), what) {
                    (Delimiter::Bracket, ..) if was_fresh => fresh = true,
                    (Delimiter::Brace, "impl", Private::Items) if transcribed && !of_trait => {
                        private(&inner, true, Private::Items, found);
                    }
                    (Delimiter::Brace | Delimiter::Parenthesis, "struct" | "union", Private::Items) if transcribed => {
                        private(&inner, true, Private::Fields, found);
                    }
                    _ => {}
                }
                fresh |= group.delimiter() == Delimiter::Brace && what == Private::Items;
            }
            _ => {}
        }
    }
}

/// What the macro defines first: names its module, so that running the cell again replaces it.
fn first_name(tokens: &TokenStream) -> String {
    const WORDS: [&str; 8] = ["pub", "static", "const", "struct", "ref", "crate", "mut", "fn"];
    let text = tokens.to_string();
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .find(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_') && !WORDS.contains(word))
        .unwrap_or("items")
        .to_owned()
}
