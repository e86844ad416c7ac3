//! The code of docs/*.md, run: a kernel for each page, its blocks one after the other. ```` ```rust,fails ```` is a cell that
//! fails, and the lines of a ```` ```text ```` block below it must be in what it says.

use lightcell_tests::{Kernel, file, python};
use std::process::Command;

/// Language and text of a page's blocks.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => all.extend(open.take()),
            (Some((_, text)), None) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    all
}

fn run(name: &str) {
    let page = std::fs::read_to_string(file(&format!("../docs/{name}.md"))).unwrap();
    let mut kernel = Kernel::start();
    let mut failed = None;
    let mut ran = 0;
    for (language, text) in blocks(&page) {
        match language.as_str() {
            "rust" => {
                kernel.ok(&text);
                ran += 1;
            }
            "rust,fails" => failed = Some(kernel.err(&text).traceback()),
            "text" => {
                let said = failed.as_ref().expect("a cell that fails stands before it");
                for line in text.lines() {
                    assert!(said.contains(line), "{line}\n{said}");
                }
            }
            "python" => parse_python(&text),
            "sh" => text.lines().for_each(check_command),
            other => panic!("a block in {other:?}"),
        }
    }
    assert!(ran > 0, "{name} has no code");
}

fn parse_python(text: &str) {
    let out = Command::new(python())
        .args(["-c", "import ast, sys; ast.parse(sys.argv[1])", text])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// That a command exists, with this subcommand and these flags.
fn check_command(line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    if words[0] == "git" {
        assert!(line.ends_with("'lightcell clean'"), "{line}");
        return;
    }
    if words[0] == "ssh" {
        return;
    }
    assert_eq!(words[0], "lightcell", "{line}");
    let program = lightcell_tests::home().join("bin/lightcell");
    let of = if words[1] == "remote" {
        &words[1..3]
    } else {
        &words[1..2]
    };
    let out = Command::new(program).args(of).arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{line}");
    // What follows `lab` is JupyterLab's.
    let own = words[2..]
        .iter()
        .filter(|word| word.starts_with('-') && words[1] != "lab");
    for flag in own.filter_map(|word| word.split('=').next()) {
        assert!(help.contains(flag), "{flag}: {help}");
    }
}

#[test]
fn coming_from_colab() {
    run("coming-from-colab");
}

#[test]
fn coming_from_lightning() {
    run("coming-from-lightning");
}

#[test]
fn coming_from_evcxr() {
    run("coming-from-evcxr");
}

#[test]
fn sharing_and_troubleshooting() {
    run("sharing");
    run("troubleshooting");
}

/// No page has a block that nothing runs: those of the magics are made from what the magics show, which is a test beside
/// their table; those of `remote.md` are commands.
#[test]
fn every_page_with_code_is_run() {
    let source = std::fs::read_to_string(file("tests/docs.rs")).unwrap();
    for entry in std::fs::read_dir(file("../docs")).unwrap().flatten() {
        let Some(name) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_suffix(".md"))
            .map(str::to_owned)
        else {
            continue;
        };
        let blocks = blocks(&std::fs::read_to_string(entry.path()).unwrap());
        let code = blocks
            .iter()
            .any(|(language, _)| language.starts_with("rust") || language == "python");
        assert!(!code || source.contains(&format!("run(\"{name}\")")), "{name}");
        if !code {
            let commands = blocks.iter().filter(|(language, _)| language == "sh");
            commands.for_each(|(_, text)| text.lines().for_each(check_command));
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let folder = file("../docs");
    let mut pages: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    pages.extend(
        std::fs::read_dir(folder.join("magics"))
            .unwrap()
            .flatten()
            .map(|entry| entry.path()),
    );
    pages.push(file("../README.md"));
    for page in pages
        .iter()
        .filter(|page| page.extension().is_some_and(|kind| kind == "md"))
    {
        let text = std::fs::read_to_string(page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if !path.is_empty() && !path.contains("://") {
                assert!(page.parent().unwrap().join(path).exists(), "{}: {link}", page.display());
            }
        }
    }
}

/// Each message in docs/remote.md's table is held against the product's own by some test.
#[test]
fn what_remote_says_is_tested() {
    let mut rows: Vec<String> = lightcell_tests::messages::rows()
        .into_iter()
        .map(|(what, _)| what)
        .collect();
    let mut tested = Vec::new();
    for name in ["keep", "remote", "slurm"] {
        let text = std::fs::read_to_string(file(&format!("tests/{name}.rs"))).unwrap();
        let calls = text.split("documented(").skip(1);
        let heads = calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next());
        tested.extend(heads.map(str::to_owned));
    }
    tested.sort();
    rows.sort();
    assert_eq!(tested, rows);
}
