//! `%export`: the notebook as a Cargo project.

use crate::home::Home;
use lightcell_ipynb::{CellKind, Notebook, project};
use std::path::{Path, PathBuf};

/// Writes the project, and gives what to tell. `cells` are those that ran without an error, in their order.
///
/// # Errors
/// What is wrong and what to do, as message and hint.
pub fn export(home: &Home, session: &Path, cells: &[&str], to: &Path) -> Result<String, (String, String)> {
    let split = |error: String| match error.split_once("\nhint: ") {
        Some((what, hint)) => (what.to_owned(), hint.to_owned()),
        None => (error, "what runs in the notebook can be exported".to_owned()),
    };
    let (file, notebook) = notebook(cells).map_err(split)?;
    let of = project::Installation {
        src: home.setup.src.clone(),
        libtorch: home.setup.libtorch.path.join("lib"),
        libtch: home.setup.libtch.clone(),
    };
    // What the cells were compiled with; cargo takes out what the project does not need.
    let lock = std::fs::read_to_string(session.join("Cargo.lock")).ok();
    let own = std::fs::read_to_string(of.src.join("Cargo.lock")).unwrap_or_default();
    let lock = lock.map(|lock| lightcell_ipynb::lock::union(&own, &lock));
    let exported = project::export(&notebook, &file, to, &of, lock.as_deref()).map_err(split)?;
    let mut said = format!(
        "{} as a program: cd {} && cargo run --release\n",
        exported.name,
        to.display()
    );
    for note in unsaved(cells, &notebook).into_iter().chain(exported.notes) {
        said += &format!("note: {note}\n");
    }
    Ok(said)
}

/// The notebook's file, as Jupyter's server names it; else what ran.
fn notebook(cells: &[&str]) -> Result<(PathBuf, Notebook), String> {
    if let Some(file) = crate::notebook::file() {
        let text =
            std::fs::read_to_string(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        return Ok((file, Notebook::parse(&text)?));
    }
    let folder = std::env::current_dir().unwrap_or_default();
    Ok((folder.join("notebook.ipynb"), Notebook::of_cells(cells)))
}

/// What ran and is not in the file.
fn unsaved(cells: &[&str], notebook: &Notebook) -> Option<String> {
    let saved = notebook.cells();
    let code: Vec<&str> = saved
        .iter()
        .filter(|cell| cell.kind == CellKind::Code)
        .map(|cell| cell.source.trim())
        .collect();
    let missing = cells
        .iter()
        .filter(|cell| !cell.trim_start().starts_with('%') && !code.contains(&cell.trim()))
        .count();
    (missing > 0).then(|| {
        format!(
            "{} that ran here {} not in the saved notebook, which is what was exported; save it and export again for its newest state",
            crate::words::number(missing, "cell"),
            if missing == 1 { "is" } else { "are" }
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_saved_is_said() {
        let saved = Notebook::of_cells(&["let a = 1;", "a + 1\n"]);
        assert_eq!(unsaved(&["let a = 1;", "a + 1", "%export x"], &saved), None);
        let said = unsaved(&["let a = 2;"], &saved).unwrap();
        assert!(
            said.starts_with("1 cell that ran here is not in the saved notebook"),
            "{said}"
        );
    }
}
