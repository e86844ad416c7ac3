//! Whether a cell is complete, and positions in it as Jupyter counts them.

use jupyter_protocol::messaging::IsCompleteReply;

/// Byte offset of a position in Unicode characters.
pub fn byte_offset(code: &str, characters: usize) -> usize {
    code.char_indices().nth(characters).map_or(code.len(), |(at, _)| at)
}

/// Position in Unicode characters of a byte offset.
pub fn characters(code: &str, offset: usize) -> usize {
    code[..code.floor_char_boundary(offset)].chars().count()
}

/// The identifier (or path, or `%name`) that ends at a byte offset: where it begins, and its text.
pub fn word_before(code: &str, offset: usize) -> (usize, &str) {
    let before = &code[..code.floor_char_boundary(offset)];
    let start = before
        .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    (start, &before[start..])
}

/// Answers `is_complete_request`: can this run, is more to come, or will it never be Rust?
pub fn is_complete(code: &str) -> IsCompleteReply {
    // Magics and evcxr's commands are lines of their own, and complete.
    let rust: String = code
        .lines()
        .map(|line| {
            if line.trim_start().starts_with(['%', ':']) && !line.trim_start().starts_with("::") {
                "\n".to_owned()
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    if code.trim_start().starts_with("%%") {
        return if code.ends_with('\n') {
            IsCompleteReply::complete()
        } else {
            IsCompleteReply::incomplete(String::new())
        };
    }
    match brackets(&rust) {
        Brackets::Open(depth) => return IsCompleteReply::incomplete(" ".repeat(4 * depth)),
        Brackets::Wrong => return IsCompleteReply::invalid(),
        Brackets::Closed => {}
    }
    match syn::parse::Parser::parse_str(syn::Block::parse_within, &rust) {
        Ok(_) => IsCompleteReply::complete(),
        Err(error) if error.to_string().starts_with("unexpected end of input") => {
            IsCompleteReply::incomplete(String::new())
        }
        // `use x;` beside statements, attributes for the whole crate and evcxr's own syntax are no block: a file may be.
        Err(_) if syn::parse_file(&rust).is_ok() => IsCompleteReply::complete(),
        Err(_) => IsCompleteReply::invalid(),
    }
}

enum Brackets {
    Closed,
    Open(usize),
    Wrong,
}

/// Counts brackets outside of texts and comments.
fn brackets(code: &str) -> Brackets {
    let bytes = code.as_bytes();
    let mut stack = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        match rest[0] {
            b'/' if rest.starts_with(b"//") => at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with(b"/*") => {
                let (mut depth, mut i) = (1, 2);
                while depth > 0 && i < rest.len() {
                    if rest[i..].starts_with(b"/*") {
                        depth += 1;
                        i += 1;
                    } else if rest[i..].starts_with(b"*/") {
                        depth -= 1;
                        i += 1;
                    }
                    i += 1;
                }
                if depth > 0 {
                    return Brackets::Open(stack.len());
                }
                at += i;
            }
            b'r' | b'b' | b'c' if raw_text(rest).is_some() => match raw_text(rest) {
                Some(Some(len)) => at += len,
                _ => return Brackets::Open(stack.len()),
            },
            b'"' => match text(rest) {
                Some(len) => at += len,
                None => return Brackets::Open(stack.len()),
            },
            b'\'' => at += character(rest),
            open @ (b'(' | b'[' | b'{') => {
                stack.push(open);
                at += 1;
            }
            close @ (b')' | b']' | b'}') => {
                let fits = match close {
                    b')' => b'(',
                    b']' => b'[',
                    _ => b'{',
                };
                if stack.pop() != Some(fits) {
                    return Brackets::Wrong;
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    if stack.is_empty() {
        Brackets::Closed
    } else {
        Brackets::Open(stack.len())
    }
}

/// Length of a text in quotes, or `None` when it is not closed.
fn text(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// `Some(Some(length))` of a raw text, `Some(None)` when it is not closed, `None` when it is no raw text.
fn raw_text(bytes: &[u8]) -> Option<Option<usize>> {
    let r = bytes.iter().take(2).position(|b| *b == b'r')?;
    let hashes = bytes[r + 1..].iter().take_while(|b| **b == b'#').count();
    let open = r + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let found = bytes[open + 1..].windows(end.len()).position(|window| window == end);
    Some(found.map(|at| open + 1 + at + end.len()))
}

/// Length of a character literal; 1 for a lifetime's quote.
fn character(bytes: &[u8]) -> usize {
    match bytes.get(1) {
        Some(b'\\') => bytes.iter().skip(3).position(|b| *b == b'\'').map_or(1, |at| at + 4),
        Some(first) => {
            let len = match first {
                0x00..=0x7f => 1,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            if bytes.get(1 + len) == Some(&b'\'') { len + 2 } else { 1 }
        }
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jupyter_protocol::messaging::IsCompleteReplyStatus::{self, *};

    fn status(code: &str) -> IsCompleteReplyStatus {
        is_complete(code).status
    }

    #[test]
    fn cells_are_complete_incomplete_or_never() {
        for code in [
            "",
            "let x = 1;",
            "1 + 1",
            "fn f() {}",
            "use std::fs;\nlet a = 1;",
            "%gpu",
            ":dep tch = \"*\"",
            "'a'",
            "\"}\"",
            "r#\"{\"#",
            "// {",
            "%fit M d --epochs 3\nlet y = 2;",
        ] {
            assert!(matches!(status(code), Complete), "{code}");
        }
        for code in [
            "fn f() {",
            "let x = (1,",
            "\"abc",
            "/* a",
            "r#\"a\"",
            "let x =",
            "for i in 0..3 {\n    f(i);",
        ] {
            assert!(matches!(status(code), Incomplete), "{code}");
        }
        for code in ["let )", "fn 3() {}", "]", "let x = ;;1 2"] {
            assert!(matches!(status(code), Invalid), "{code}");
        }
    }

    #[test]
    fn indent_follows_the_depth() {
        assert_eq!(is_complete("fn f() {\n    if x {").indent, "        ");
    }

    #[test]
    fn positions_are_counted_in_characters() {
        let code = "é😀x";
        assert_eq!(byte_offset(code, 2), 6);
        assert_eq!(byte_offset(code, 99), code.len());
        assert_eq!(characters(code, 6), 2);
        assert_eq!(word_before("let größe", "let größe".len()), (4, "größe"));
        assert_eq!(word_before("a.b", 3), (2, "b"));
    }
}
