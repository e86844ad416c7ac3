use super::*;

#[test]
fn what_is_missing_is_said_with_the_machine() {
    let text = |reason, machine| strip(&Report::setup(reason, machine));
    assert_eq!(text("no x\nhint: make it", None), "SetupError: no x\nhint: make it");
    assert_eq!(
        text("no x", Some("gpu")),
        "SetupError: no x\nhint: on gpu: `lightcell doctor` says what is missing"
    );
    let full = "cannot make /x: No space left on device (os error 28)";
    assert_eq!(
        text(full, Some("gpu")),
        format!("SetupError: the disk of gpu is full: {full}\nhint: free some space there, then restart the kernel")
    );
    assert!(text(full, None).starts_with("SetupError: the disk is full: "));
}

#[test]
fn an_error_that_a_cell_returns_is_named_without_its_hint() {
    for (said, evalue) in [
        (
            "cannot read x: no such file\nhint: relative paths start at /a\n",
            "cannot read x: no such file",
        ),
        ("first\nlast", "last"),
        ("", "the cell returned early with an error"),
    ] {
        let report = Report::question_mark(said);
        assert_eq!(report.evalue, evalue);
        assert!(strip(&report).contains(said.trim()), "{}", strip(&report));
    }
}

fn strip(report: &Report) -> String {
    let mut out = String::new();
    let text = report.traceback.join("\n");
    let mut rest = text.as_str();
    while let Some(at) = rest.find('\x1b') {
        out.push_str(&rest[..at]);
        rest = rest[at..].split_once('m').map(|(_, rest)| rest).unwrap_or_default();
    }
    out + rest
}

#[test]
fn a_warning_is_not_why_a_cell_failed() {
    let said = |level: &str, message: &str| Diagnostic {
        level: level.into(),
        message: message.into(),
        ..Diagnostic::default()
    };
    let cell = Cell { count: 1, source: "" };
    let both = [said("warning", "unused variable"), said("error", "no such thing")];
    let report = Report::compile(&both, cell);
    assert_eq!(strip(&report), "error: no such thing");
    assert_eq!(report.evalue, "no such thing");
    let report = Report::compile(&both[..1], cell);
    let text = strip(&report);
    assert!(text.starts_with("error: the cell does not compile"), "{text}");
    assert!(
        text.contains("hint: nothing was run") && text.ends_with("warning: unused variable"),
        "{text}"
    );
    assert_eq!(report.evalue, "the cell does not compile");
}

#[test]
fn a_compiler_error_shows_the_users_line_with_a_caret() {
    let error = Diagnostic {
        level: "error".into(),
        code: Some("E0308".into()),
        message: "mismatched types".into(),
        spans: vec![
            Span {
                line: 2,
                column: 14,
                end_line: 2,
                end_column: 18,
                label: "expected `i32`, found `&str`".into(),
                primary: true,
            },
            Span {
                line: 2,
                column: 8,
                end_line: 2,
                end_column: 11,
                label: "expected due to this".into(),
                primary: false,
            },
        ],
        helps: vec!["try this".into()],
    };
    let report = Report::compile(
        &[error],
        Cell {
            count: 3,
            source: "\nlet x: i32 = \"no\";",
        },
    );
    assert_eq!(report.ename, "CompileError");
    assert_eq!(report.evalue, "E0308: mismatched types (line 2)");
    assert_eq!(
        strip(&report),
        "error[E0308]: mismatched types\n --> cell [3], line 2, column 14\n   2 | let x: i32 = \"no\";\n     |              ^^^^ expected `i32`, found `&str`\n     |        --- expected due to this\nhelp: try this"
    );
}

#[test]
fn a_panic_shows_the_line_and_what_is_kept() {
    let panic = Panic {
        message: "index out of bounds".into(),
        file: "src/lib.rs".into(),
        line: 9,
        calls: String::new(),
        frames: vec!["pick".into(), "run_user_code_3".into()],
    };
    let place = Place {
        count: 4,
        line: 1,
        text: "v[9]".into(),
    };
    let report = Report::panic(&panic, Some(place), &[]);
    assert_eq!(
        strip(&report),
        "panic: index out of bounds\n --> cell [4], line 1\n   1 | v[9]\n  in pick\nvariables of earlier cells are kept"
    );
    let report = Report::panic(&panic, None, &["v".into()]);
    assert!(strip(&report).ends_with("lost, because the cell had moved or replaced them: v; other variables are kept"));
}

#[test]
fn how_a_process_ended_is_said_in_words() {
    let text = |how| Report::taken_over(how, "", false, &[]).evalue;
    assert_eq!(text("signal 11"), "the cell crashed: segmentation fault (SIGSEGV)");
    assert_eq!(text("exit 3"), "the cell ended its process with exit status 3");
    assert_eq!(
        text("stack"),
        "the cell crashed: stack overflow, perhaps an endless recursion"
    );
    let stopped = Report::taken_over("signal 9", "1 socket", true, &[]);
    assert_eq!(
        strip(&stopped),
        "Interrupted: the cell was stopped\nvariables of earlier cells are kept\nnot kept (they cannot be copied): 1 socket"
    );
}

#[test]
fn evcxrs_refusals_say_what_to_write_instead() {
    let report = Report::engine(
        &Failure::Refused("The variable `f` is a closure, which cannot be persisted.\nYou can however".into()),
        Cell { count: 1, source: "" },
    );
    assert!(strip(&report).contains("hint: write `fn f(…)`"), "{}", strip(&report));
    let report = Report::engine(
        &Failure::Refused("Couldn't automatically determine type of variable `x`.\nPlease".into()),
        Cell { count: 1, source: "" },
    );
    assert_eq!(
        strip(&report),
        "CompileError: the type of `x` is not known\nhint: write it: `let x: TYPE = …;`"
    );
}

#[test]
fn lost_variables_are_said_to_be_lost() {
    let report = Report::engine(
        &Failure::Died("Subprocess terminated with status: signal: 9 (SIGKILL)".into()),
        Cell { count: 1, source: "" },
    );
    assert!(
        report.evalue.contains("(signal: 9 (SIGKILL)); all variables are lost"),
        "{}",
        report.evalue
    );
    let report = Report::engine(&Failure::Broken("boom\nmore".into()), Cell { count: 1, source: "" });
    assert_eq!(report.evalue, "the compiler layer failed on this cell: boom");
}

#[test]
fn a_generated_line_is_found_in_the_users_cells() {
    let generated = "fn f() {}\nmod x {}\nlet a = 1;\nboom();\nlet b = 2;\nboom();\n";
    let cells = [
        (1, "fn f() {}".to_owned()),
        (2, "let a = 1;\nboom();\n\nlet b = 2;\n  boom();".to_owned()),
    ];
    assert_eq!(place(generated, 4, &cells).map(|p| (p.count, p.line)), Some((2, 2)));
    assert_eq!(place(generated, 6, &cells).map(|p| (p.count, p.line)), Some((2, 5)));
    assert_eq!(place(generated, 1, &cells).map(|p| (p.count, p.line)), Some((1, 1)));
    assert_eq!(place(generated, 2, &cells), None);
    assert_eq!(place(generated, 99, &cells), None);
}
