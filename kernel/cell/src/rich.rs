//! Rich output: `display` and its kin, and how the value of a cell's last expression is shown.

use crate::{Kind, RichOutput, emit, emit_display};
use lightcell_events::frame::DisplayKind;
use std::any::Any;
use std::fmt::Debug;
use std::sync::Mutex;

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

/// A value and what is known of its type, which need not be `'static`.
struct Of {
    name: &'static str,
    size: usize,
    at: *const (),
}

impl Of {
    fn value<T: ?Sized>(value: &T) -> Of {
        Of {
            name: std::any::type_name::<T>(),
            size: std::mem::size_of_val(value),
            at: std::ptr::from_ref(value).cast(),
        }
    }

    /// As [`show_as`] said.
    fn shown(&self) -> Option<Rich> {
        let known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = known
            .iter()
            .find(|known| known.name == self.name && known.size == self.size)?;
        // SAFETY: the value lives as long as the borrow that this was made of, and is of the type that the function takes:
        // their types have one path, crate and size. The name of a crate is one crate's in a session.
        Some(unsafe { (known.call)(known.how, self.at) })
    }
}

/// A type that is shown in a way of its own.
struct Known {
    name: &'static str,
    size: usize,
    /// A `fn(&T) -> Rich`, which `call` takes.
    how: *const (),
    call: unsafe fn(*const (), *const ()) -> Rich,
}

// SAFETY: `how` is the address of a function.
unsafe impl Send for Known {}

static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());

/// Says how values of a type are shown that has no `evcxr_display` of its own, because it is another crate's, instead of by
/// `{:?}`.
///
/// ```
/// use lightcell_cell::{Rich, show_as};
/// #[derive(Debug)]
/// struct Celsius(f64);
/// show_as::<Celsius>(|value| Rich::html(format!("{} °C", value.0)));
/// ```
pub fn show_as<T: Debug + 'static>(how: fn(&T) -> Rich) {
    // SAFETY: only for pointers that `Known` pairs with it: a function of this type, and a live value of this type.
    unsafe fn call<T>(how: *const (), value: *const ()) -> Rich {
        let how = unsafe { std::mem::transmute::<*const (), fn(&T) -> Rich>(how) };
        how(unsafe { &*value.cast::<T>() })
    }
    let known = Known {
        name: std::any::type_name::<T>(),
        size: std::mem::size_of::<T>(),
        how: how as *const (),
        call: call::<T>,
    };
    let mut all = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    all.retain(|other| other.name != known.name);
    all.push(known);
}

// Not generic, as `show`.
#[inline(never)]
fn rich(value: &dyn Debug, value_any: &dyn Any, of: Of) -> Rich {
    if let Some(rich) = value_any.downcast_ref::<Rich>() {
        return rich.clone();
    }
    match value_any.downcast_ref::<crate::Figure>() {
        Some(figure) => figure.rich(),
        None => of.shown().unwrap_or_else(|| crate::table::of(value)),
    }
}

#[inline(never)]
fn emit_rich(value: &dyn Debug, value_any: &dyn Any, of: Of, kind: DisplayKind, id: &str) {
    rich(value, value_any, of).emit(kind, id);
}

/// Shows a value now, in order with what is printed. A [`Rich`] is shown in its media types, a list of structs as a table,
/// anything else as `{:?}`; a long one is cut, and says how long it is.
pub fn display<T: Debug + 'static>(value: &T) {
    emit_rich(value, value, Of::value(value), DisplayKind::Display, "");
}

/// Shows a value under a name, so that [`update_display`] can change it in place.
pub fn display_as<T: Debug + 'static>(id: &str, value: &T) {
    emit_rich(value, value, Of::value(value), DisplayKind::Display, id);
}

/// Changes the output that [`display_as`] made under this name, wherever it stands in the notebook.
pub fn update_display<T: Debug + 'static>(id: &str, value: &T) {
    emit_rich(value, value, Of::value(value), DisplayKind::Update, id);
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
        let of = Of::value(self);
        if of.name != "()" {
            show(&self, of);
        }
    }
}

// Not generic: compiled once, and not again in each cell.
#[inline(never)]
fn show(value: &dyn Debug, of: Of) {
    of.shown()
        .unwrap_or_else(|| crate::table::of(value))
        .emit(DisplayKind::Result, "");
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
    fn a_type_of_another_crate_is_shown_as_was_said() {
        #[derive(Debug)]
        struct Other(u8);
        let shown = |value: &Other| Of::value(value).shown();
        assert_eq!(shown(&Other(1)), None);
        show_as::<Other>(|other| Rich::html(other.0.to_string()));
        assert_eq!(shown(&Other(2)), Some(Rich::html("2")));
        show_as::<Other>(|other| Rich::html(format!("again {}", other.0)));
        assert_eq!(rich(&Other(3), &Other(3), Of::value(&Other(3))), Rich::html("again 3"));
        assert_eq!(Of::value("text").shown(), None);
    }

    #[test]
    fn anything_else_is_shown_as_debug_and_rich_as_itself() {
        assert_eq!(
            rich(&Some(1), &Some(1), Of::value(&Some(1))),
            Rich::new("text/plain", "Some(1)")
        );
        let html = Rich::html("<b>x</b>").and_text("x");
        assert_eq!(rich(&html, &html, Of::value(&html)), html);
    }
}
