//! Help, completion and the documentation, from the table.

use crate::table::{Kind, Magic, SETTINGS, TABLE, magic};
use std::fmt::Write;

/// The help page of a magic; the name may have its `%`.
pub fn help(name: &str) -> Option<String> {
    magic(name.trim_start_matches('%')).map(page)
}

fn page(magic: &Magic) -> String {
    let mut text = format!("{}: {}\n\n{}\n", magic.usage, magic.summary, magic.about);
    if !magic.flags.is_empty() {
        text.push_str("\nFlags:\n");
    }
    for flag in magic.flags {
        let mut names = flag.name.to_owned();
        for alias in flag.aliases {
            let _ = write!(names, ", {alias}");
        }
        let default = if flag.default.is_empty() {
            String::new()
        } else {
            format!(" [{}]", flag.default)
        };
        let words = match flag.kind {
            Kind::OneOf(_) => format!("{}: ", flag.kind.expected()),
            _ => String::new(),
        };
        let _ = writeln!(text, "  {names:<28} {words}{}{default}", flag.about);
    }
    text
}

/// The list of magics.
pub fn lsmagic() -> String {
    let mut text = String::new();
    for magic in TABLE {
        let _ = writeln!(text, "%{:<16} {}", magic.name, magic.summary);
    }
    text.push_str("%name? shows the help of one.\n");
    text
}

/// The documentation's page of a magic: what `%name?` shows, and the flags as a table.
pub fn page_of(magic: &Magic) -> String {
    let text = page(magic);
    let (head, _) = text.split_once("\nFlags:\n").unwrap_or((&text, ""));
    let percent = if magic.takes == crate::table::Takes::Cell {
        "%%"
    } else {
        "%"
    };
    let mut out = format!(
        "# {percent}{}\n\n<!-- Made from the text of `{percent}{}?`. -->\n\n```text\n{}\n```\n",
        magic.name,
        magic.name,
        head.trim_end()
    );
    if !magic.flags.is_empty() {
        out.push_str("\n| flag | default | meaning |\n|---|---|---|\n");
    }
    for flag in magic.flags {
        let names: Vec<_> = std::iter::once(flag.name)
            .chain(flag.aliases.iter().copied())
            .map(|name| format!("`{name}`"))
            .collect();
        let _ = writeln!(out, "| {} | {} | {} |", names.join(", "), flag.default, flag.about);
    }
    out
}

/// The table as Markdown, for the documentation.
pub fn markdown() -> String {
    let mut text = String::new();
    for magic in TABLE {
        let _ = writeln!(
            text,
            "### `{}`\n\n{}. {}\n",
            magic.usage,
            capital(magic.summary),
            magic.about
        );
        if !magic.flags.is_empty() {
            text.push_str("| flag | default | meaning |\n|---|---|---|\n");
            for flag in magic.flags {
                let names: Vec<_> = std::iter::once(flag.name)
                    .chain(flag.aliases.iter().copied())
                    .map(|name| format!("`{name}`"))
                    .collect();
                let _ = writeln!(text, "| {} | {} | {} |", names.join(", "), flag.default, flag.about);
            }
            text.push('\n');
        }
    }
    text
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().collect::<String>() + chars.as_str())
        .unwrap_or_default()
}

/// What can stand at a place in a magic's line: a byte range to replace, and texts for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// Texts.
    pub matches: Vec<String>,
}

/// Completes names of magics, flags and values; `None` where the line is no magic, or an argument is wanted that only
/// Rust knows.
pub fn complete(line: &str, cursor: usize) -> Option<Completion> {
    let before = line.get(..cursor)?;
    let text = before.trim_start();
    if !text.starts_with('%') {
        return None;
    }
    // A space can be longer than a byte, such as the no-break space that some keyboards type.
    let space = before.char_indices().rfind(|(_, c)| c.is_whitespace());
    let start = space
        .map_or(0, |(at, c)| at + c.len_utf8())
        .max(before.len() - text.len());
    let word = &before[start..];
    let found = |matches: Vec<String>| {
        Some(Completion {
            start,
            end: cursor,
            matches,
        })
    };
    let mut words = text.split_whitespace();
    let name = words.next().unwrap_or_default().trim_start_matches('%');
    if start == before.len() - text.len() {
        return found(
            TABLE
                .iter()
                .map(|magic| format!("{}{}", if word.starts_with("%%") { "%%" } else { "%" }, magic.name))
                .filter(|name| name.starts_with(word))
                .collect(),
        );
    }
    let magic = magic(name)?;
    if word.starts_with('-') {
        let names = magic
            .flags
            .iter()
            .flat_map(|flag| std::iter::once(flag.name).chain(flag.aliases.iter().copied()));
        return found(names.filter(|name| name.starts_with(word)).map(str::to_owned).collect());
    }
    let previous = before[..start].split_whitespace().next_back()?;
    if magic.name == "config" && previous.trim_start_matches('%') == magic.name {
        let names = SETTINGS.iter().map(|(name, _)| *name);
        return found(names.filter(|name| name.starts_with(word)).map(str::to_owned).collect());
    }
    let flag = magic
        .flags
        .iter()
        .find(|flag| flag.name == previous || flag.aliases.contains(&previous))?;
    if flag.name == "--accelerator" {
        return found(
            ["auto", "cpu", "cuda"]
                .into_iter()
                .filter(|value| value.starts_with(word))
                .map(str::to_owned)
                .collect(),
        );
    }
    let words = flag.kind.words();
    if !words.is_empty() {
        return found(
            words
                .iter()
                .filter(|value| value.starts_with(word))
                .map(|value| (*value).to_owned())
                .collect(),
        );
    }
    (!matches!(flag.kind, Kind::Switch | Kind::Alone) && !flag.default.is_empty() && word.is_empty()).then(|| {
        Completion {
            start,
            end: cursor,
            matches: vec![flag.default.to_owned()],
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(line: &str) -> Vec<String> {
        complete(line, line.len()).map(|c| c.matches).unwrap_or_default()
    }

    #[test]
    fn names_flags_and_values_are_completed() {
        assert_eq!(matches("%l"), ["%load", "%lock", "%lr_find", "%lsmagic"]);
        assert_eq!(
            matches("%fit Net data --early-stopping val_acc --mode m"),
            ["min", "max"]
        );
        assert_eq!(matches("%lr_find Net data --compat "), ["none", "lightning"]);
        assert_eq!(matches("%test fit data --ck"), ["--ckpt-path"]);
        assert_eq!(
            matches("%fit Net data --precision b"),
            ["bf16-mixed", "bf16-true", "bf16"]
        );
        assert_eq!(matches("%").len(), TABLE.len());
        assert_eq!(matches("%%ti"), ["%%time", "%%timeit"]);
        assert_eq!(matches("  %g"), ["%gpu"]);
        assert_eq!(matches("%fit Net data --max-e"), ["--max-epochs"]);
        assert_eq!(matches("%fit --at"), ["--attach"]);
        assert_eq!(matches("%comp"), ["%compare"]);
        assert_eq!(matches("%fit Net data --device c"), ["cpu", "cuda"]);
        assert_eq!(matches("%fit Net data --epochs "), ["10"]);
        assert_eq!(matches("%fit\u{a0}Net data\u{a0}--max-e"), ["--max-epochs"]);
        assert_eq!(matches("%config o"), ["opt-level"]);
        assert_eq!(matches("%config ").len(), SETTINGS.len());
        assert_eq!(complete("%fit N", 6), None);
        assert_eq!(complete("let a", 5), None);
        assert_eq!(complete("%é", 2), None);
    }

    #[test]
    fn help_and_list_come_from_the_table() {
        let page = help("%fit").unwrap();
        assert!(page.starts_with("%fit MODEL DATA [flags]: train a model"), "{page}");
        assert!(
            page.contains("--max-epochs, --epochs       epochs to train; -1: no limit, and so with --max-steps or --max-time alone [10]"),
            "{page}"
        );
        assert_eq!(help("nothing"), None);
        assert!(lsmagic().contains("%gpu              show devices"));
        assert!(markdown().contains("| `--max-epochs`, `--epochs` | 10 | epochs to train; -1: no limit"));
    }
}
