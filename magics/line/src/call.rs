//! Splits a cell into Rust and magics, and reads a magic's flags.

use crate::scan::Scanner;
use crate::shell;
use crate::table::{Kind, Magic, Side, TABLE, Takes, magic};
use std::fmt;

/// A part of a cell, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Rust. Lines before it are kept as empty ones, so that its line numbers are the cell's.
    Code(String),
    /// A magic.
    Magic(Call),
    /// `!command`: a line for the shell.
    Shell(String),
    /// `name?`, `%name?` or `?name`: help on a magic (with its `%`) or a name of the user's.
    Help(String),
}

/// A magic with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Without the `%`.
    pub name: String,
    /// Line in the cell, from 1.
    pub line: usize,
    /// The line as typed.
    pub text: String,
    /// What is no flag.
    pub arguments: Vec<String>,
    /// For a magic that takes the rest of its line: that, and the column (from 0) where it begins.
    pub rest: (usize, String),
    /// For `%%name`: the cell below it.
    pub body: Option<String>,
    /// Flags by their first name, with their values (empty for a switch).
    pub flags: Vec<(&'static str, String)>,
}

impl Call {
    /// Whether a switch is set.
    pub fn switch(&self, name: &str) -> bool {
        self.flags.iter().any(|(flag, _)| *flag == name)
    }

    /// The value of a flag; the last one counts.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.flags
            .iter()
            .rev()
            .find(|(flag, _)| *flag == name)
            .map(|(_, value)| value.as_str())
    }

    /// Where it runs: the magic's place, but a line whose flag stands alone is answered by the kernel, and what frees the
    /// worker's memory is done there.
    pub fn side(&self) -> Side {
        if self.name == "gpu" && self.rest.1.trim() == "free" {
            return Side::Worker;
        }
        let alone = |name: &str| {
            self.magic()
                .flags
                .iter()
                .any(|flag| flag.name == name && flag.kind == Kind::Alone)
        };
        match self.flags.iter().any(|(name, _)| alone(name)) {
            true => Side::Kernel,
            false => self.magic().side,
        }
    }

    /// The magic.
    pub fn magic(&self) -> &'static Magic {
        magic(&self.name).unwrap_or(&TABLE[0])
    }
}

/// What is wrong with a magic, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MagicError {
    /// Line in the cell, from 1.
    pub line: usize,
    /// First column, from 1.
    pub column: usize,
    /// Number of characters.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for MagicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for MagicError {}

/// Splits a cell.
///
/// A line is a magic when it begins with `%` and a name, where a statement may begin: not inside of brackets, texts or
/// comments, and not where an expression goes on (`a` in one line and `%b` in the next is a remainder).
///
/// # Errors
/// An unknown magic, a wrong flag or value, a missing argument.
pub fn split(cell: &str) -> Result<Vec<Piece>, MagicError> {
    if let Some(help) = help_request(cell) {
        return Ok(vec![Piece::Help(help)]);
    }
    if let Some(call) = cell_magic(cell)? {
        return Ok(vec![Piece::Magic(call)]);
    }
    let mut pieces = Vec::new();
    let mut scanner = Scanner::default();
    let (mut code, mut begun) = (String::new(), 0);
    for (index, line) in cell.lines().enumerate() {
        let start = scanner.line_start();
        let trimmed = line.trim_start();
        let is_magic = !start.inside
            && trimmed.strip_prefix('%').is_some_and(|rest| {
                rest.trim_start_matches('%')
                    .starts_with(|c: char| c.is_alphabetic() || c == '_')
            })
            && (!start.unfinished || is_known(trimmed) && !code_goes_on(&code));
        let command = (!start.inside && !start.unfinished)
            .then(|| shell::command(trimmed))
            .flatten();
        if is_magic || command.is_some() {
            if !code.trim().is_empty() {
                pieces.push(Piece::Code(std::mem::take(&mut code)));
            }
            pieces.push(match command {
                Some(command) => Piece::Shell(command.to_owned()),
                None => Piece::Magic(parse(line, index + 1, false)?),
            });
            code = "\n".repeat(index + 1);
            begun = index + 1;
            scanner = Scanner::default();
        } else {
            scanner.line(line);
            code.push_str(line);
            code.push('\n');
        }
    }
    if begun == 0 {
        // No magic: the cell as it is.
        return Ok(vec![Piece::Code(cell.to_owned())]);
    }
    if !code.trim().is_empty() {
        pieces.push(Piece::Code(code));
    }
    Ok(pieces)
}

/// `%%name` in the first line that is not empty, with all below it.
fn cell_magic(cell: &str) -> Result<Option<Call>, MagicError> {
    let lines: Vec<&str> = cell.lines().collect();
    let Some(index) = lines.iter().position(|line| !line.trim().is_empty()) else {
        return Ok(None);
    };
    let name = lines[index].trim_start().strip_prefix("%%").unwrap_or_default();
    if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return Ok(None);
    }
    let mut call = parse(lines[index], index + 1, true)?;
    match call.magic().takes {
        Takes::Cell | Takes::LineOrCell => {
            // As it is, also where lines end in the way of Windows; only the last one's end may be missing.
            let mut body: String = cell.split_inclusive('\n').skip(index + 1).collect();
            if !body.is_empty() && !body.ends_with('\n') {
                body.push('\n');
            }
            call.body = Some(body);
            Ok(Some(call))
        }
        // As a line among others.
        Takes::Words | Takes::Many | Takes::Line => Ok(None),
    }
}

/// `%fit …` after a line without its semicolon is meant as a magic: no operand is called so and followed by words.
fn is_known(line: &str) -> bool {
    let name: String = line
        .trim_start_matches('%')
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    magic(&name).is_some()
}

/// Whether the code so far ends in an operator or an open statement, so that the next line belongs to it.
fn code_goes_on(code: &str) -> bool {
    let last = code
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .trim_end();
    last.ends_with(['=', '+', '-', '*', '/', '%', '&', '|', ',', '.', '<', '>', '!'])
}

fn help_request(cell: &str) -> Option<String> {
    let text = cell.trim();
    let name = text
        .strip_suffix('?')
        .or_else(|| text.strip_prefix('?'))?
        .trim_end_matches('?')
        .trim();
    let plain = name.strip_prefix('%').unwrap_or(name);
    let valid = !plain.is_empty()
        && plain.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':')
        && !plain.starts_with(|c: char| c.is_numeric());
    valid.then(|| name.to_owned())
}

/// A word of a line: its text and its column.
struct Word {
    text: String,
    column: usize,
}

/// Words of a line; brackets and quotes keep what is in them together.
fn words(line: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let (mut depth, mut quote, mut open) = (0usize, None::<char>, false);
    let mut escaped = false;
    for (index, c) in line.chars().enumerate() {
        if quote.is_none() && depth == 0 && c.is_whitespace() {
            open = false;
            continue;
        }
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(end) if c == end => quote = None,
            Some(_) => {}
            None => match c {
                '"' => quote = Some('"'),
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            },
        }
        if !open {
            words.push(Word {
                text: String::new(),
                column: index + 1,
            });
            open = true;
        }
        if let Some(word) = words.last_mut() {
            word.text.push(c);
        }
    }
    words
}

/// Reads a line; `is_cell` says that it is a cell's first one with two signs.
fn parse(line: &str, number: usize, is_cell: bool) -> Result<Call, MagicError> {
    let words = words(line);
    let wrong = |word: &Word, message: String, hint: Option<String>| MagicError {
        line: number,
        column: word.column,
        width: word.text.chars().count(),
        message,
        hint,
    };
    let Some((first, rest)) = words.split_first() else {
        return Err(MagicError {
            line: number,
            column: 1,
            width: 1,
            message: "an empty magic".into(),
            hint: None,
        });
    };
    let name = first.text.trim_start_matches('%');
    let Some(magic) = magic(name) else {
        let hint = match crate::nearest(name, TABLE.iter().map(|magic| magic.name)) {
            Some(close) => format!("did you mean %{close}? %lsmagic lists all"),
            None => "%lsmagic lists all".to_owned(),
        };
        return Err(wrong(first, format!("unknown magic `%{name}`"), Some(hint)));
    };
    // Elsewhere it would have no text: %%writefile would empty its file.
    if magic.takes == Takes::Cell && !is_cell {
        let hint = format!("write %%{name} in the first line of a cell");
        return Err(wrong(first, format!("%{name} takes a whole cell"), Some(hint)));
    }
    let takes_line = matches!(magic.takes, Takes::Line | Takes::LineOrCell);
    let (mut arguments, mut flags) = (Vec::new(), Vec::new());
    let mut alone = None;
    let mut rest = rest.iter();
    let mut tail = (line.chars().count(), String::new());
    while let Some(word) = rest.next() {
        let is_short = magic
            .flags
            .iter()
            .any(|flag| flag.aliases.contains(&word.text.as_str()));
        if !(word.text.starts_with("--") || is_short) || word.text == "--" {
            if takes_line {
                tail = (word.column - 1, line.chars().skip(word.column - 1).collect());
                break;
            }
            arguments.push(word.text.clone());
            continue;
        }
        let (written, attached) = match word.text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.text.as_str(), None),
        };
        let Some(flag) = magic
            .flags
            .iter()
            .find(|flag| flag.name == written || flag.aliases.contains(&written))
        else {
            let names = magic
                .flags
                .iter()
                .flat_map(|flag| std::iter::once(flag.name).chain(flag.aliases.iter().copied()));
            let hint = match crate::nearest(written, names) {
                Some(close) => format!("did you mean {close}? %{name}? shows all flags"),
                None => format!("%{name}? shows all flags"),
            };
            return Err(wrong(word, format!("%{name} has no flag `{written}`"), Some(hint)));
        };
        if matches!(flag.kind, Kind::Switch | Kind::Alone) {
            if attached.is_some() {
                return Err(wrong(word, format!("`{written}` takes no value"), None));
            }
            if flag.kind == Kind::Alone {
                alone = Some((word, flag));
            }
            flags.push((flag.name, String::new()));
            continue;
        }
        let expected = || Some(format!("{}: {}", flag.kind.expected(), flag.about));
        let value = match attached {
            Some(value) => value,
            None => match rest.next() {
                Some(value) => value.text.clone(),
                None => return Err(wrong(word, format!("`{written}` needs a value"), expected())),
            },
        };
        if !flag.kind.takes(&value) {
            return Err(wrong(
                word,
                format!("`{value}` is no value for `{written}`"),
                expected(),
            ));
        }
        flags.push((flag.name, value));
    }
    if let Some((word, flag)) = alone.filter(|_| arguments.len() + flags.len() > 1) {
        let (stands, hint) = (
            format!("`{}` stands alone", flag.name),
            format!("%{name} {}: {}", flag.name, flag.about),
        );
        return Err(wrong(word, stands, Some(hint)));
    }
    // No flag is silently of no use.
    for (name, _) in &flags {
        let needs = magic
            .flags
            .iter()
            .find(|flag| flag.name == *name)
            .map_or(&[][..], |flag| flag.needs);
        if !needs.is_empty() && !needs.iter().any(|need| flags.iter().any(|(flag, _)| flag == need)) {
            let word = words
                .iter()
                .find(|word| word.text.split('=').next() == Some(name))
                .unwrap_or(first);
            let hint = format!("%{}? shows all flags", magic.name);
            return Err(wrong(
                word,
                format!("`{name}` needs {}", needs.join(" or ")),
                Some(hint),
            ));
        }
    }
    if arguments.len() > magic.arguments.len() && magic.takes != Takes::Many {
        // What is left of an expression with spaces belongs to the last argument.
        if magic.arguments.is_empty() {
            return Err(wrong(
                first,
                format!("%{name} takes no argument, but got `{}`", arguments.join(" ")),
                Some(magic.usage.to_owned()),
            ));
        }
        let tail = arguments.split_off(magic.arguments.len() - 1).join(" ");
        arguments.push(tail);
    }
    if let Some(missing) = magic.arguments.get(arguments.len())
        && alone.is_none()
    {
        return Err(wrong(
            first,
            format!("%{name} needs {missing}"),
            Some(magic.usage.to_owned()),
        ));
    }
    Ok(Call {
        name: name.to_owned(),
        line: number,
        text: line.to_owned(),
        arguments,
        rest: tail,
        body: None,
        flags,
    })
}

#[cfg(test)]
mod tests;
