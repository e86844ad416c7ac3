//! What the analyser is told of a session's crates: those that a cell can name, and what their interfaces are made of.
//!
//! evcxr's analyser checks all it has read, again for every cell, whether it is still valid; what no type of a variable
//! depends on only costs time. Left out are build scripts' crates, macros (which it does not run), and what the training
//! library and tch use inside.

use lightcell_ipynb::project::EXTRAS;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// Crates of which only these dependencies show in their interfaces.
const INTERFACES: [(&str, &[&str]); 5] = [
    (
        "lightcell",
        &["lightcell-cell", "lightcell-events", "lightcell-torch", "tch"],
    ),
    ("lightcell-torch", &["tch"]),
    ("lightcell-cell", &["lightcell-events"]),
    ("lightcell-events", &[]),
    ("tch", &[]),
];

/// Takes out of `cargo metadata`'s answer what no cell can name; `None` when it is not as expected.
pub fn thin(mut metadata: Value) -> Option<Value> {
    let packages = metadata["packages"].as_array()?;
    let mut names: HashMap<String, String> = HashMap::new();
    let mut macros: BTreeSet<String> = BTreeSet::new();
    for package in packages {
        let id = package["id"].as_str()?.to_owned();
        names.insert(id.clone(), package["name"].as_str()?.to_owned());
        let is_macro = |target: &Value| {
            let kinds = target["kind"].as_array();
            kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "proc-macro"))
        };
        if package["targets"].as_array()?.iter().any(is_macro) {
            macros.insert(id);
        }
    }
    let shows = |from: &str, to: &Value| -> bool {
        let Some(id) = to["pkg"].as_str() else { return false };
        let kinds = to["dep_kinds"].as_array();
        let is_used = kinds.is_none_or(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()));
        let from = names.get(from).map(String::as_str).unwrap_or_default();
        let name = names.get(id).map(String::as_str).unwrap_or_default();
        let inside = match INTERFACES.iter().find(|(of, _)| *of == from) {
            Some((_, shown)) => shown.contains(&name),
            // What they are made of takes long to read, as it takes long to compile.
            None => name == "lightcell" || EXTRAS.iter().all(|(extra, _)| *extra != from),
        };
        is_used && !macros.contains(id) && inside
    };
    let root = metadata["resolve"]["root"].as_str()?.to_owned();
    let nodes: HashMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()?
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let (mut kept, mut next) = (BTreeSet::from([root.clone()]), vec![root]);
    while let Some(id) = next.pop() {
        for dep in nodes.get(id.as_str())?["deps"].as_array()? {
            if shows(&id, dep)
                && let Some(pkg) = dep["pkg"].as_str()
                && kept.insert(pkg.to_owned())
            {
                next.push(pkg.to_owned());
            }
        }
    }
    let is_kept = |id: &Value| id.as_str().is_some_and(|id| kept.contains(id));
    let mut thinned: Vec<Value> = nodes.values().map(|node| (*node).clone()).collect();
    thinned.retain(|node| is_kept(&node["id"]));
    for node in &mut thinned {
        let id = node["id"].as_str().unwrap_or_default().to_owned();
        let list = node["deps"].as_array_mut()?;
        list.retain(|dep| shows(&id, dep));
        let left: Vec<Value> = list.iter().map(|dep| dep["pkg"].clone()).collect();
        node["dependencies"] = Value::Array(left);
    }
    metadata["resolve"]["nodes"] = Value::Array(thinned);
    metadata["packages"]
        .as_array_mut()?
        .retain(|package| is_kept(&package["id"]));
    Some(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_cell_can_name_is_kept() {
        let package = |name: &str, kind: &str| json!({"id": name, "name": name, "targets": [{"kind": [kind]}]});
        let dep = |name: &str, kind: Value| json!({"name": name, "pkg": name, "dep_kinds": [{"kind": kind}]});
        let node = |name: &str, deps: Vec<Value>| {
            let ids: Vec<Value> = deps.iter().map(|dep| dep["pkg"].clone()).collect();
            json!({"id": name, "deps": deps, "dependencies": ids})
        };
        let used = |name: &str| dep(name, Value::Null);
        let metadata = json!({
            "packages": [package("ctx", "cdylib"), package("lightcell", "lib"), package("tch", "lib"), package("zip", "lib"),
                         package("mine", "lib"), package("cc", "lib"), package("derive", "proc-macro"), package("libc", "lib"),
                         package("lightcell-image", "lib"), package("png", "lib")],
            "resolve": {"root": "ctx", "nodes": [
                node("ctx", vec![used("lightcell"), used("mine"), used("lightcell-image")]),
                node("lightcell-image", vec![used("lightcell"), used("png")]),
                node("lightcell", vec![used("tch"), used("zip")]),
                node("tch", vec![used("zip")]),
                node("zip", vec![]),
                node("mine", vec![used("libc"), used("derive"), dep("cc", json!("build"))]),
                node("cc", vec![]), node("derive", vec![]), node("libc", vec![]), node("png", vec![]),
            ]},
        });
        let thinned = thin(metadata).unwrap();
        let names: BTreeSet<&str> = thinned["packages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            BTreeSet::from(["ctx", "lightcell", "lightcell-image", "libc", "mine", "tch"])
        );
        let nodes = thinned["resolve"]["nodes"].as_array().unwrap();
        let mine = nodes.iter().find(|node| node["id"] == "mine").unwrap();
        assert_eq!(mine["dependencies"], json!(["libc"]));
        assert_eq!(nodes.len(), 6);
        assert_eq!(thin(json!({"packages": 3})), None);
    }
}
