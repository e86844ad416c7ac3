//! The value of a cell in a form that a notebook can hold: a long one is cut, and says how long it is; a list of structs is
//! a table, and so is a data frame.
//!
//! Both work on what `{:?}` writes, so that they hold for any type, without a trait to derive.

use crate::Rich;
use lightcell_events::escape;
use std::fmt::{Debug, Write};

/// How much of a value is shown, in bytes.
const SHOWN: usize = 100_000;
/// How much is looked at to count what there is.
const COUNTED: usize = 200_000_000;
/// How many rows of a table are shown.
const ROWS: usize = 50;

/// A value as text, and as a table when it is one. Not generic: it is compiled once, and not again in each cell.
#[inline(never)]
pub fn of(value: &dyn Debug) -> Rich {
    let mut cut = Cut::default();
    // It fails when enough is known.
    let whole = write!(cut, "{value:?}").is_ok();
    let count = cut.splitter.count + usize::from(cut.splitter.any);
    let mut text = cut.text;
    let all = whole && cut.bytes <= SHOWN;
    let table = table(&text, all, count.max(1), whole).or_else(|| all.then(|| crate::data_frame::table(&text))?);
    if !all {
        let elements = match (text.starts_with(['[', '{']), whole) {
            (true, true) => format!("{} elements", grouped(count)),
            (true, false) => format!("more than {} elements", grouped(count)),
            (false, _) => format!("{} bytes", grouped(cut.bytes)),
        };
        text.push_str(&format!(
            "…\n({elements}; the rest is not shown, `println!(\"{{:?}}\", …)` prints all)"
        ));
    }
    let rich = Rich::default();
    match table {
        Some(html) => rich.and("text/html", html).and_text(text),
        None => rich.and_text(text),
    }
}

/// Takes a text in, keeps its beginning, and counts the elements of the outermost list.
#[derive(Default)]
struct Cut {
    text: String,
    bytes: usize,
    splitter: Splitter,
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = SHOWN.saturating_sub(self.text.len());
        if self.bytes == self.text.len() && room > 0 {
            let mut end = text.len().min(room);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            self.text.push_str(&text[..end]);
        }
        self.bytes += text.len();
        for c in text.chars() {
            self.splitter.next(c, 1);
        }
        if self.bytes > COUNTED {
            return Err(std::fmt::Error);
        }
        Ok(())
    }
}

/// Follows brackets and quotes of `{:?}`, and says where a comma separates.
#[derive(Default)]
struct Splitter {
    depth: usize,
    quote: Option<char>,
    escaped: bool,
    /// Commas at the depth that was asked for.
    count: usize,
    /// Something stands behind the last of them.
    any: bool,
}

impl Splitter {
    /// Whether this character is a comma at that depth.
    fn next(&mut self, c: char, depth: usize) -> bool {
        if let Some(quote) = self.quote {
            if self.escaped {
                self.escaped = false;
            } else if c == '\\' {
                self.escaped = true;
            } else if c == quote {
                self.quote = None;
            }
            return false;
        }
        match c {
            '"' => self.quote = Some(c),
            '[' | '{' | '(' => self.depth += 1,
            ']' | '}' | ')' => self.depth = self.depth.saturating_sub(1),
            ',' if self.depth == depth => {
                self.count += 1;
                self.any = false;
                return true;
            }
            _ => {}
        }
        self.any |= self.depth >= depth && !c.is_whitespace() && !(self.depth == depth && matches!(c, '[' | '{' | '('));
        false
    }
}

/// The parts between commas of what stands inside of brackets.
fn parts(inner: &str) -> Vec<&str> {
    let (mut list, mut start, mut splitter) = (Vec::new(), 0, Splitter::default());
    for (at, c) in inner.char_indices() {
        if splitter.next(c, 0) {
            list.push(inner[start..at].trim());
            start = at + 1;
        }
    }
    let last = inner[start..].trim();
    if !last.is_empty() {
        list.push(last);
    }
    list
}

/// The name of a struct and its fields: `Row { a: 1, b: "x" }`.
fn fields(text: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let (name, rest) = text.split_once(" { ")?;
    let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_');
    let inner = rest.strip_suffix(" }").filter(|_| is_name(name))?;
    let pair = |part: &'_ str| -> Option<(usize, usize)> {
        let at = part.find(": ")?;
        is_name(&part[..at]).then_some((at, at + 2))
    };
    let list = parts(inner).into_iter();
    let list: Option<Vec<_>> = list
        .map(|part| pair(part).map(|(end, start)| (&part[..end], &part[start..])))
        .collect();
    Some((name, list?))
}

/// A list of structs with the same fields, as HTML.
fn table(text: &str, all: bool, count: usize, counted: bool) -> Option<String> {
    let inner = text.strip_prefix('[')?;
    let mut rows = parts(if all { inner.strip_suffix(']')? } else { inner });
    if !all {
        // It may be half a one.
        rows.pop();
    }
    let (name, first) = fields(rows.first()?)?;
    let header: Vec<&str> = first.iter().map(|(name, _)| *name).collect();
    let mut body = String::new();
    for row in rows.iter().take(ROWS) {
        let (of, values) = fields(row)?;
        if of != name || !values.iter().map(|(name, _)| name).eq(&header) {
            return None;
        }
        body.push_str("<tr>");
        for (_, value) in values {
            let plain = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            body.push_str(&format!("<td>{}</td>", escape(plain.unwrap_or(value))));
        }
        body.push_str("</tr>\n");
    }
    // Those that are not shown may be something else.
    if rows
        .iter()
        .skip(ROWS)
        .any(|row| fields(row).is_none_or(|(of, _)| of != name))
    {
        return None;
    }
    let head: String = header.iter().map(|name| format!("<th>{}</th>", escape(name))).collect();
    let more = if counted { "" } else { "more than " };
    let note = if count > ROWS {
        format!(", the first {ROWS} are shown")
    } else {
        String::new()
    };
    let (rows, columns) = (grouped(count), header.len());
    Some(format!(
        "<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n<p>{}: {more}{rows} row{}, {columns} column{}{note}</p>",
        escape(name),
        if count == 1 { "" } else { "s" },
        if columns == 1 { "" } else { "s" },
    ))
}

/// A count with commas between thousands.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone)]
    #[expect(dead_code, reason = "read by Debug")]
    struct Row {
        name: &'static str,
        size: Option<f64>,
        tags: Vec<u8>,
    }

    fn media(rich: &Rich, mime: &str) -> Option<String> {
        let text = format!("{rich:?}");
        assert!(text.contains("text/plain"));
        rich.part(mime).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn a_list_of_structs_is_a_table() {
        let rows = vec![
            Row {
                name: "a, <b>",
                size: Some(1.5),
                tags: vec![1, 2],
            },
            Row {
                name: "\"}",
                size: None,
                tags: vec![],
            },
        ];
        let rich = of(&rows);
        assert_eq!(media(&rich, "text/plain").unwrap(), format!("{rows:?}"));
        let html = media(&rich, "text/html").unwrap();
        assert!(html.contains("<th>name</th><th>size</th><th>tags</th>"), "{html}");
        assert!(
            html.contains("<td>a, &lt;b&gt;</td><td>Some(1.5)</td><td>[1, 2]</td>"),
            "{html}"
        );
        assert!(html.contains("<td>\\&quot;}</td><td>None</td><td>[]</td>"), "{html}");
        assert!(html.contains("2 rows, 3 columns"), "{html}");
    }

    #[test]
    fn what_is_no_table_is_text() {
        assert_eq!(media(&of(&vec![1, 2]), "text/html"), None);
        assert_eq!(media(&of(&Vec::<Row>::new()), "text/html"), None);
        assert_eq!(media(&of(&[Some(1), None]), "text/html"), None);
        let text = "[A { a: 1 }, B { b: 2 }]";
        assert_eq!(table(text, true, 2, true), None);
        assert_eq!(media(&of(&"x"), "text/plain").unwrap(), "\"x\"");
    }

    #[test]
    fn a_long_value_is_cut_and_says_how_long_it_is() {
        let text = media(&of(&vec![7u8; 1_000_000]), "text/plain").unwrap();
        assert!(text.len() < SHOWN + 200);
        assert!(
            text.ends_with("…\n(1,000,000 elements; the rest is not shown, `println!(\"{:?}\", …)` prints all)"),
            "{}",
            &text[SHOWN..]
        );
        let text = media(&of(&"ä".repeat(SHOWN)), "text/plain").unwrap();
        assert!(text.contains("(200,002 bytes; "), "{}", &text[SHOWN - 10..]);
        let row = Row {
            name: "n",
            size: Some(0.0),
            tags: vec![],
        };
        let html = media(&of(&vec![row; 20_000]), "text/html").unwrap();
        assert!(
            html.contains("20,000 rows, 3 columns, the first 50 are shown"),
            "{html}"
        );
        assert_eq!(html.matches("<tr><td>").count(), 50);
        assert!(html.len() < 10_000);
    }
}
