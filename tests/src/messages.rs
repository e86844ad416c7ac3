//! The messages that docs/remote.md shows for what can be wrong: those of the product, word for word.

use crate::file;

/// A row of the page's table: what is wrong, and the pieces of code that say what the notebook says.
pub fn rows() -> Vec<(String, Vec<String>)> {
    let page = std::fs::read_to_string(file("../docs/remote.md")).expect("the page");
    let (_, table) = page.split_once("| what | the notebook says |\n").expect("the table");
    let lines = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let mut cells = line.trim_matches('|').split(" | ");
        let (what, says) = (cells.next().expect("a cell"), cells.next().expect("another"));
        let pieces = says.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (what.trim().to_owned(), pieces)
    };
    lines.map(row).collect()
}

/// Asserts that the page says of `what` what the notebook has said. `…` on the page stands for anything, and numbers may differ.
pub fn documented(what: &str, said: &str) {
    let rows = rows();
    let (_, pieces) = rows
        .iter()
        .find(|(row, _)| row == what)
        .unwrap_or_else(|| panic!("docs/remote.md has no row `{what}`"));
    assert!(!pieces.is_empty(), "{what}");
    let said = without_numbers(said);
    for piece in pieces {
        assert!(
            matches(&without_numbers(piece), &said),
            "docs/remote.md says of `{what}`:\n{piece}\nbut it is:\n{said}"
        );
    }
}

fn matches(piece: &str, said: &str) -> bool {
    let mut rest = said;
    piece.split('…').map(str::trim).all(|part| match rest.split_once(part) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
}

/// Each number becomes `0`.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c.is_ascii_digit() {
            true if out.ends_with('0') => {}
            true => out.push('0'),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_held_against_what_was_said() {
        assert!(matches("job 0 … ended", "the job 0 has ended now"));
        assert!(!matches("ended … job", "the job 0 has ended now"));
        assert_eq!(without_numbers("12 and 3 in v0.10.0"), "0 and 0 in v0.0.0");
        assert!(rows().len() > 10);
    }
}
