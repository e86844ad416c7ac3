//! What evcxr writes around a cell's text, changed before rustc reads it.

use std::path::Path;

/// Where evcxr's store of variables begins and ends in the text: it is compiled with each cell.
const BEGIN: &str = "\nmod evcxr_internal_runtime {\n";
const END: &str = "\n}\n#[unsafe(no_mangle)]\n";
/// What stands there instead: the one that is compiled already.
const COMPILED: &str = "\nuse ::lightcell_cell::store as evcxr_internal_runtime;\n";

/// Lets the cell in a session's folder use the store of variables that is compiled already, if the cell links it.
pub fn thin(session: &Path) {
    let manifest = std::fs::read_to_string(session.join("Cargo.toml")).unwrap_or_default();
    if !manifest
        .lines()
        .any(|line| line.starts_with("lightcell_cell") || line.starts_with("lightcell-cell"))
    {
        return;
    }
    let file = session.join("src/lib.rs");
    if let Ok(text) = std::fs::read_to_string(&file)
        && let Some(thin) = without_store(&text)
    {
        // A cell that stays as it was is compiled as well.
        let _ = std::fs::write(file, thin);
    }
}

/// The text with the other store. The lines behind it keep their numbers, by which evcxr finds the user's.
fn without_store(text: &str) -> Option<String> {
    // The user's items stand before it.
    let begin = text.rfind(BEGIN)?;
    let end = begin + text[begin..].find(END)? + "\n}\n".len();
    let lines = text[begin..end].matches('\n').count() - COMPILED.matches('\n').count();
    Some([&text[..begin], COMPILED, &"\n".repeat(lines), &text[end..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_behind_the_store_keep_their_numbers() {
        let text = "use a;\n\nmod evcxr_internal_runtime {\npub fn x() {\n}\n}\n}\n#[unsafe(no_mangle)]\npub extern \"C\" fn run() {\n";
        let thin = without_store(text).unwrap();
        assert!(thin.starts_with("use a;\n\nuse ::lightcell_cell::store as evcxr_internal_runtime;\n"));
        let line = |text: &str| text.lines().position(|line| line.contains("fn run"));
        assert_eq!(line(&thin), line(text));
        assert!(!thin.contains("fn x"));
        assert_eq!(without_store("fn f() {}\n"), None);
    }
}
