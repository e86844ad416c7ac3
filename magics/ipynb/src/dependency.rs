//! Crates that cells ask for.

use lightcell_magics::Call;

/// `%dep` as the `:dep` line that it becomes, in the form of Cargo.toml.
pub fn dependency(call: &Call) -> String {
    let text = call.arguments.first().map(String::as_str).unwrap_or_default();
    // As in Cargo.toml, or `name@1.0` as for `cargo add`.
    let (name, version) = match text.split_once(['=', '@']) {
        Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
        None => (text, None),
    };
    if version.is_some_and(|version| version.starts_with('{')) {
        return format!(":dep {text}\n");
    }
    let mut parts = Vec::new();
    for (flag, key) in [("--path", "path"), ("--git", "git")] {
        if let Some(value) = call.value(flag) {
            parts.push(format!("{key} = {value:?}"));
        }
    }
    if let Some(version) = version.or(parts.is_empty().then_some("*")) {
        parts.push(format!("version = {version:?}"));
    }
    if let Some(features) = call.value("--features") {
        let list: Vec<String> = features
            .split(',')
            .map(|feature| format!("{:?}", feature.trim()))
            .collect();
        parts.push(format!("features = [{}]", list.join(", ")));
    }
    format!(":dep {name} = {{ {} }}\n", parts.join(", "))
}

/// A `:dep` line as name and what stands behind the `=` in Cargo.toml.
pub(crate) fn of_line(line: &str) -> Option<(String, String)> {
    let rest = line.trim_end().strip_prefix(":dep ")?;
    let (name, value) = rest.split_once('=').unwrap_or((rest, "\"*\""));
    Some((name.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_is_written_as_cargo_wants_it() {
        for (cell, dep) in [
            ("%dep rand", ":dep rand = { version = \"*\" }\n"),
            ("%dep rand@0.9", ":dep rand = { version = \"0.9\" }\n"),
            ("%dep rand@=0.9.1", ":dep rand = { version = \"=0.9.1\" }\n"),
            ("%dep rand=0.9", ":dep rand = { version = \"0.9\" }\n"),
            ("%dep rand = \"0.9\"", ":dep rand = { version = \"0.9\" }\n"),
            (
                "%dep rand@0.9 --features small_rng,std",
                ":dep rand = { version = \"0.9\", features = [\"small_rng\", \"std\"] }\n",
            ),
            ("%dep mine --path ../mine", ":dep mine = { path = \"../mine\" }\n"),
            ("%dep x = { version = \"1\" }", ":dep x = { version = \"1\" }\n"),
        ] {
            match lightcell_magics::split(cell).unwrap().remove(0) {
                lightcell_magics::Piece::Magic(call) => assert_eq!(dependency(&call), dep, "{cell}"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(of_line(":dep rand = \"0.9\""), Some(("rand".into(), "\"0.9\"".into())));
        assert_eq!(of_line(":dep rand"), Some(("rand".into(), "\"*\"".into())));
        assert_eq!(of_line("let a = 1;"), None);
    }
}
