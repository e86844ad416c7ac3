//! Who may know whom: ARCHITECTURE.md's table, asked of cargo.

use std::process::Command;

/// Names of all crates that a crate is built from.
fn dependencies(of: &str) -> Vec<String> {
    let out = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "-p", of])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let jupyter = ["jupyter-protocol", "jupyter-zmq-client", "zeromq"];
    let torch = ["tch", "torch-sys"];
    for (of, forbidden) in [
        ("lightcell-kernel", [&torch[..], &["lightcell"]].concat()),
        (
            "lightcell-worker",
            [&jupyter[..], &torch[..], &["evcxr", "serde"]].concat(),
        ),
        (
            "lightcell-cell",
            [&jupyter[..], &torch[..], &["evcxr", "serde"]].concat(),
        ),
        ("lightcell-events", [&jupyter[..], &torch[..], &["evcxr"]].concat()),
        ("lightcell-magics", [&jupyter[..], &torch[..], &["evcxr"]].concat()),
        (
            "lightcell-pickle",
            [&jupyter[..], &torch[..], &["evcxr", "serde", "lightcell"]].concat(),
        ),
        (
            "lightcell-ipynb",
            [&jupyter[..], &torch[..], &["evcxr", "lightcell"]].concat(),
        ),
        ("lightcell-program", [&jupyter[..], &["evcxr", "plotters"]].concat()),
        ("lightcell-gpu", [&jupyter[..], &torch[..], &["evcxr"]].concat()),
        ("lightcell-plot", [&jupyter[..], &torch[..], &["evcxr"]].concat()),
        (
            "lightcell",
            [&jupyter[..], &["evcxr", "plotters", "parquet", "png", "tokenizers"]].concat(),
        ),
        ("lightcell-image", [&jupyter[..], &["evcxr", "plotters"]].concat()),
        ("lightcell-parquet", [&jupyter[..], &["evcxr", "plotters"]].concat()),
        (
            "lightcell-tokenizers",
            [&jupyter[..], &["evcxr", "plotters", "onig"]].concat(),
        ),
        (
            "lightcell-torch",
            [
                &jupyter[..],
                &["evcxr", "lightcell", "lightcell-cell", "lightcell-events"],
            ]
            .concat(),
        ),
        (
            "lightcell-remote",
            [&torch[..], &["evcxr", "lightcell", "lightcell-kernel"]].concat(),
        ),
        ("lightcell-install", [&jupyter[..], &torch[..], &["evcxr"]].concat()),
    ] {
        let all = dependencies(of);
        assert!(all.len() > 1 || of == "lightcell-events", "{of}: {all:?}");
        for name in forbidden {
            assert!(!all.iter().any(|found| found == name), "{of} must not know {name}");
        }
    }
}

#[test]
fn one_file_names_evcxr() {
    let folder = lightcell_tests::file("../kernel/src");
    let naming: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter(|entry| std::fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("evcxr::")))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(naming, ["engine.rs"]);
}
