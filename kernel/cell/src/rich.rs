//! Rich output: `display` and its kin, and how the value of a cell's last expression is shown.

use crate::{Kind, RichOutput, emit, emit_display};
use lightcell_events::frame::DisplayKind;
use std::any::Any;
use std::fmt::Debug;

/// An output in one or more media types. Front ends show the richest they know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rich {
    media: Vec<(String, Vec<u8>)>,
}

impl Rich {
    /// An output in this media type, such as `text/latex`. Binary content is given as raw bytes.
    pub fn new(mime: &str, content: impl Into<Vec<u8>>) -> Rich {
        Rich {
            media: vec![(mime.to_owned(), content.into())],
        }
    }

    /// HTML.
    pub fn html(html: impl Into<String>) -> Rich {
        Rich::new("text/html", html.into())
    }

    /// Markdown.
    pub fn markdown(markdown: impl Into<String>) -> Rich {
        Rich::new("text/markdown", markdown.into())
    }

    /// An SVG picture.
    pub fn svg(svg: impl Into<String>) -> Rich {
        Rich::new("image/svg+xml", svg.into())
    }

    /// A PNG file's bytes.
    pub fn png(png: impl Into<Vec<u8>>) -> Rich {
        Rich::new("image/png", png)
    }

    /// Adds another media type.
    #[must_use]
    pub fn and(mut self, mime: &str, content: impl Into<Vec<u8>>) -> Rich {
        self.media.push((mime.to_owned(), content.into()));
        self
    }

    /// Adds a plain form, for front ends that draw nothing else and for programs that are no notebook.
    #[must_use]
    pub fn and_text(self, text: impl Into<String>) -> Rich {
        self.and("text/plain", text.into())
    }

    /// The content in a media type, if it has one.
    pub fn part(&self, mime: &str) -> Option<&[u8]> {
        let found = self.media.iter().find(|(of, _)| of == mime);
        found.map(|(_, content)| content.as_slice())
    }

    /// Shows it as the value of the cell's last expression. evcxr calls this.
    pub fn evcxr_display(&self) {
        self.emit(DisplayKind::Result, "");
    }

    fn emit(&self, kind: DisplayKind, id: &str) {
        emit_display(&RichOutput {
            kind,
            id: id.to_owned(),
            media: self.media.clone(),
        });
    }
}

// Not generic, as `show`.
#[inline(never)]
fn rich(value: &dyn Debug, value_any: &dyn Any) -> Rich {
    if let Some(rich) = value_any.downcast_ref::<Rich>() {
        return rich.clone();
    }
    match value_any.downcast_ref::<crate::Figure>() {
        Some(figure) => figure.rich(),
        None => crate::table::of(value),
    }
}

#[inline(never)]
fn emit_rich(value: &dyn Debug, value_any: &dyn Any, kind: DisplayKind, id: &str) {
    rich(value, value_any).emit(kind, id);
}

/// Shows a value now, in order with what is printed. A [`Rich`] is shown in its media types, a list of structs as a table,
/// anything else as `{:?}`; a long one is cut, and says how long it is.
pub fn display<T: Debug + 'static>(value: &T) {
    emit_rich(value, value, DisplayKind::Display, "");
}

/// Shows a value under a name, so that [`update_display`] can change it in place.
pub fn display_as<T: Debug + 'static>(id: &str, value: &T) {
    emit_rich(value, value, DisplayKind::Display, id);
}

/// Changes the output that [`display_as`] made under this name, wherever it stands in the notebook.
pub fn update_display<T: Debug + 'static>(id: &str, value: &T) {
    emit_rich(value, value, DisplayKind::Update, id);
}

/// Removes what the cell has shown so far; with `wait`, only when the next output comes, so that nothing flickers.
pub fn clear_output(wait: bool) {
    emit(Kind::Clear, &[u8::from(wait)]);
}

/// How the value of a cell's last expression is shown when its type has no `evcxr_display` of its own. In scope of
/// every cell: without it evcxr first compiles each such cell in vain. `()` shows nothing.
pub trait Show {
    /// Shows the value.
    fn evcxr_display(&self);
}

impl<T: Debug + ?Sized> Show for T {
    fn evcxr_display(&self) {
        if std::any::type_name::<T>() != "()" {
            show(&self);
        }
    }
}

// Not generic: compiled once, and not again in each cell.
#[inline(never)]
fn show(value: &dyn Debug) {
    crate::table::of(value).emit(DisplayKind::Result, "");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_of_its_own_display_wins_over_debug() {
        #[derive(Debug)]
        struct Own;
        impl Own {
            fn evcxr_display(&self) -> &'static str {
                "own"
            }
        }
        assert_eq!(Own.evcxr_display(), "own");
        let borrowed = &Own;
        assert_eq!(borrowed.evcxr_display(), "own");
    }

    #[test]
    fn anything_else_is_shown_as_debug_and_rich_as_itself() {
        assert_eq!(rich(&Some(1), &Some(1)), Rich::new("text/plain", "Some(1)"));
        let html = Rich::html("<b>x</b>").and_text("x");
        assert_eq!(rich(&html, &html), html);
    }
}
