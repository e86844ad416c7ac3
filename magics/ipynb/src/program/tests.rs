use super::*;
use serde_json::json;

fn notebook(cells: &[&str]) -> Notebook {
    let cells: Vec<_> = cells
        .iter()
        .map(|text| {
            let (kind, text) = match text.strip_prefix("md:") {
                Some(text) => ("markdown", text),
                None => ("code", *text),
            };
            let tags = if text.contains("// parameters") {
                vec!["parameters"]
            } else {
                vec![]
            };
            json!({"cell_type": kind, "metadata": {"tags": tags}, "outputs": [], "source": text})
        })
        .collect();
    Notebook::parse(&json!({"cells": cells, "nbformat": 4}).to_string()).unwrap()
}

fn made(cells: &[&str]) -> Program {
    program(&notebook(cells), "net", "net.ipynb").unwrap()
}

#[test]
fn items_stand_beside_and_statements_in_their_order() {
    let out = made(&[
        "md:# Title\ntext",
        "use lightcell::prelude::*;\n// of data\nlet x = csv(\"data/ä.csv\")?; // read\nx.size()",
        "struct Net;\nimpl Net { fn a(&self) -> i32 { 1 } }\nhparams! { Hp { lr: f64 = 1.0 } }\n/// Doc.\nfn f() {}",
        "let text = \"a\n  b\";\nfor i in 0..3 {\n    println!(\"{i}\");\n}",
    ]);
    let (items, body) = out.source.split_once("pub fn cells").unwrap();
    for item in [
        "use lightcell::prelude::*;\n",
        "struct Net;\n",
        "impl Net { fn a(&self) -> i32 { 1 } }\n",
        "hparams! { Hp { lr: f64 = 1.0 } }\n",
        "/// Doc.\nfn f() {}\n",
    ] {
        assert!(items.contains(item), "{item}: {items}");
    }
    assert!(
        body.contains("// of data\nlet x = csv(\"data/ä.csv\")?; // read\nlightcell_program::show!(x.size());\n"),
        "{body}"
    );
    assert!(
        body.contains("// # Title\n// text\n") && body.contains("let text = \"a\n  b\";"),
        "{body}"
    );
    assert!(body.contains("lightcell_program::show!(for i in 0..3 {"), "{body}");
    assert!(out.texts.contains("data/ä.csv"));
    assert!(syn::parse_file(&out.source).is_ok(), "{}", out.source);
}

#[test]
fn what_is_defined_again_takes_the_place_of_the_first() {
    let out = made(&[
        "fn f() -> i32 { 1 }\nstruct A(u8);\nimpl A { fn x(&self) {} }\nimpl Clone for A { fn clone(&self) -> A { A(1) } }",
        "use std::fs;",
        "use std::fs;\nfn f() -> i32 { 2 }\nstruct A(u16);\nimpl A { fn x(&self) { } }\nimpl A { fn y(&self) {} }\nimpl Clone for A { fn clone(&self) -> A { A(2) } }",
    ]);
    for (text, count) in [
        ("fn f() ", 1),
        ("struct A", 1),
        ("fn x(", 1),
        ("fn y(", 1),
        ("for A ", 1),
        ("use std::fs", 1),
    ] {
        assert_eq!(out.source.matches(text).count(), count, "{text}: {}", out.source);
    }
    assert!(out.source.contains("{ 2 }") && out.source.contains("struct A(u16)"));
}

#[test]
fn magics_become_rust_or_are_left_out_by_name() {
    let out = made(&[
        ":dep rand = \"0.9\"\nlet a = 1;\n%gpu",
        "%fit Net data --epochs 3 --seed 1\n%fit Net data\n%fit fit data\n%fit Other data",
        "!ls *.csv\n%cd data",
        "%%bash\necho a",
        "%time f(1);",
        "%dep serde@1 --features derive",
        "%del a",
        "f?",
    ]);
    for part in [
        "let mut fit = program.fit::<Net, _>(&(data), \"{\\\"accelerator\\\":\\\"auto\\\"",
        "\\\"seed\\\":1}\", None)?;",
        "\\\"max_steps\\\":-1}\", Some(fit))?;",
        "let mut fit = program.go_on(fit, &(data), ",
        "program.fit::<Other, _>(&(data), ",
        "lightcell_program::lightcell_cell::magics::shell(\"sh\", \"ls *.csv\", false)?;",
        "magics::cd(\"data\")?;",
        "magics::shell(\"bash\", \"echo a\\n\", true)?;",
        "\nf(1);\n",
        "\ndrop(a);\n",
        "        .model::<Net>()\n        .model::<Other>()\n",
    ] {
        assert!(out.source.contains(part), "{part}: {}", out.source);
    }
    let crates: Vec<_> = out.dependencies.iter().map(|(a, b)| format!("{a} = {b}")).collect();
    assert_eq!(
        crates,
        ["rand = \"0.9\"", "serde = { version = \"1\", features = [\"derive\"] }"]
    );
    assert_eq!(out.notes, ["%gpu in cell 1 is left out", "f? in cell 8 is left out"]);
}

#[test]
fn parameters_become_flags() {
    let out = made(&[
        "// parameters\nlet lr = 1e-3;\nlet epochs: i64 = 10; // short\nlet name = \"a\";\nlet list = vec![1];",
    ]);
    for part in [
        "let lr = program.value(\"lr\", 1e-3);\n",
        "let epochs: i64 = program.value(\"epochs\", 10);\n",
        "let name = program.text(\"name\", \"a\");\n",
        "let list = vec![1];\n",
        "        .parameter(\"lr\", \"1e-3\")\n",
    ] {
        assert!(out.source.contains(part), "{part}: {}", out.source);
    }
}

#[test]
fn a_cell_that_cannot_be_read_is_named() {
    let error = program(&notebook(&["let a = 1;", "let = ;"]), "n", "n.ipynb").unwrap_err();
    assert!(error.starts_with("cell 2: "), "{error}");
    let error = program(&notebook(&["%nonsense"]), "n", "n.ipynb").unwrap_err();
    assert!(error.starts_with("cell 1: "), "{error}");
}
