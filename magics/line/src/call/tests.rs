use super::*;

fn only(line: &str) -> Call {
    match &split(line).unwrap()[..] {
        [Piece::Magic(call)] => call.clone(),
        other => panic!("{other:?}"),
    }
}

fn error(line: &str) -> String {
    split(line).unwrap_err().to_string()
}

#[test]
fn a_cell_without_magics_stays_as_it_is() {
    for cell in [
        "",
        "let a = 1;",
        "a\n% b",
        "a\n    %b",
        "let x = 7\n    % 3;",
        "let y = f(\n%gpu\n);",
        "let s = \"\n%gpu\n\";",
        "let s = r#\"\n%gpu\n\"#;",
        "/*\n%gpu\n*/",
        "let c = '\"';\nlet a = b\n%c;",
        "let a =\n%gpu",
    ] {
        assert_eq!(split(cell).unwrap(), [Piece::Code(cell.to_owned())], "{cell}");
    }
}

#[test]
fn code_keeps_its_line_numbers() {
    let pieces = split("let a = 1;\n%gpu\na\n").unwrap();
    assert_eq!(pieces[0], Piece::Code("let a = 1;\n".into()));
    assert!(matches!(&pieces[1], Piece::Magic(call) if call.line == 2));
    assert_eq!(pieces[2], Piece::Code("\n\na\n".into()));
    // A missing semicolon before a known magic does not make it a remainder.
    assert_eq!(split("a\n%gpu").unwrap().len(), 2);
    assert_eq!(split("// it's \"open\n%gpu").unwrap().len(), 2);
}

#[test]
fn flags_and_arguments_are_read() {
    let call = only("%fit --epochs 3 models::Net<f32> Digits::new(\"a b\", 3) --restart --limit-train-batches=0.5");
    assert_eq!(call.arguments, ["models::Net<f32>", "Digits::new(\"a b\", 3)"]);
    assert_eq!(call.value("--max-epochs"), Some("3"));
    assert_eq!(call.value("--limit-train-batches"), Some("0.5"));
    assert!(call.switch("--restart"));
    let call = only("%plot val_loss --runs 1,2 val_acc");
    assert_eq!(
        (call.arguments.as_slice(), call.value("--runs")),
        (&["val_loss".to_owned(), "val_acc".to_owned()][..], Some("1,2"))
    );
    assert!(only("%compare").arguments.is_empty());
    assert_eq!(only("%fit Net data . clone()").arguments, ["Net", "data . clone()"]);
    // What the kernel answers does not wait for the cell that trains.
    assert_eq!(only("%fit Net data").side(), Side::Worker);
    assert_eq!(only("%fit --attach").side(), Side::Kernel);
}

#[test]
fn what_is_wrong_is_said_with_the_closest_name() {
    assert_eq!(
        error("%gpuu"),
        "unknown magic `%gpuu`\nhint: did you mean %gpu? %lsmagic lists all"
    );
    assert_eq!(error("%xyzzy"), "unknown magic `%xyzzy`\nhint: %lsmagic lists all");
    assert_eq!(
        error("%fit Net data --epoch 3"),
        "%fit has no flag `--epoch`\nhint: did you mean --epochs? %fit? shows all flags"
    );
    assert_eq!(
        error("%fit Net data --epochs three"),
        "`three` is no value for `--epochs`\nhint: a whole number, or -1: epochs to train; -1: no limit, and so with --max-steps or --max-time alone"
    );
    assert_eq!(
        error("%fit Net data --epochs"),
        "`--epochs` needs a value\nhint: a whole number, or -1: epochs to train; -1: no limit, and so with --max-steps or --max-time alone"
    );
    assert_eq!(error("%fit Net data --restart=1"), "`--restart` takes no value");
    for line in ["%fit Net data --attach", "%fit --attach --restart", "%fit --attach Net"] {
        assert_eq!(
            error(line),
            "`--attach` stands alone\nhint: %fit --attach: show the run that goes on from its beginning and then live, else the last one"
        );
    }
    assert_eq!(error("%fit"), "%fit needs MODEL\nhint: %fit MODEL DATA [flags]");
    assert_eq!(error("%fit Net"), "%fit needs DATA\nhint: %fit MODEL DATA [flags]");
    assert_eq!(
        error("%lsmagic all"),
        "%lsmagic takes no argument, but got `all`\nhint: %lsmagic"
    );
    assert_eq!(
        error("%fit Net data --mode maximum --early-stopping val_acc"),
        "`maximum` is no value for `--mode`\nhint: min or max: whether the smallest (min, the default) or the largest (max) of the metrics is best"
    );
    assert_eq!(
        error("%fit Net data --patience=5"),
        "`--patience` needs --early-stopping\nhint: %fit? shows all flags"
    );
    assert_eq!(
        error("%fit Net data --mode max"),
        "`--mode` needs --early-stopping or --model-checkpoint\nhint: %fit? shows all flags"
    );
    assert_eq!(error("%test fit"), "%test needs DATA\nhint: %test MODEL DATA [flags]");
    assert!(error("%fit Net data --limit-val-batches 1.5").starts_with("`1.5` is no value"));
}

#[test]
fn places_of_errors_are_the_users() {
    let error = split("let a = 1;\n  %fit Net data --epoch 3").unwrap_err();
    assert_eq!((error.line, error.column, error.width), (2, 17, 7));
}

#[test]
fn a_cell_magic_takes_all_below_it() {
    let call = only("\n%%timeit -n 10\nlet a = 1;\n%gpu");
    assert_eq!(call.body.as_deref(), Some("let a = 1;\n%gpu\n"));
    assert_eq!((call.value("--loops"), call.line), (Some("10"), 2));
    assert_eq!(only("%%writefile -a a b.txt\nx").arguments, ["a b.txt"]);
    assert_eq!(only("%%writefile a\r\nx\r\n\ty").body.as_deref(), Some("x\r\n\ty\n"));
    assert_eq!(
        error("%bash ls"),
        "%bash takes a whole cell\nhint: write %%bash in the first line of a cell"
    );
    assert_eq!(
        error("let a = 1;\n%%writefile a\nx"),
        "%writefile takes a whole cell\nhint: write %%writefile in the first line of a cell"
    );
    assert_eq!(
        error("%%writefile\nx"),
        "%writefile needs FILE\nhint: %%writefile [--append] FILE"
    );
    // Twice the sign does no harm where there is no cell to take.
    assert_eq!(only("%%gpu").body, None);
}

#[test]
fn the_rest_of_a_line_is_left_as_it_is() {
    assert_eq!(
        only("  %time f( 1,  \"--x\" )").rest,
        (8, "f( 1,  \"--x\" )".to_owned())
    );
    assert_eq!(only("%timeit -r 3 -n 2 x --y").rest, (18, "x --y".to_owned()));
    assert_eq!(only("%cd").rest.1, "");
}

#[test]
fn lines_for_the_shell_are_told_from_negations() {
    assert_eq!(split("!ls -l | head").unwrap(), [Piece::Shell("ls -l | head".into())]);
    let pieces = split("let a = 1;\n!echo {a}\na").unwrap();
    assert_eq!(pieces[1], Piece::Shell("echo {a}".into()));
    assert_eq!(pieces[2], Piece::Code("\n\na\n".into()));
    for cell in [
        "!true",
        "!v.is_empty()",
        "!(a && b)",
        "!!ls_is_no_program_x",
        "let a =\n!ls",
    ] {
        assert!(matches!(&split(cell).unwrap()[..], [Piece::Code(_)]), "{cell}");
    }
}

#[test]
fn help_is_asked_for_in_three_ways() {
    for (cell, name) in [("%fit?", "%fit"), ("v?", "v"), ("?v", "v"), (" std::fs ?? ", "std::fs")] {
        assert_eq!(split(cell).unwrap(), [Piece::Help(name.into())], "{cell}");
    }
    for cell in ["f()?", "let a = b?", "?", "3?"] {
        assert!(matches!(&split(cell).unwrap()[..], [Piece::Code(_)]), "{cell}");
    }
}

#[test]
fn no_text_makes_it_panic() {
    // Cheap stand-in for a fuzzer: every prefix of a nasty text, and every rotation of it.
    let nasty = "%fit Net \"a\\\" b( --epochs= 3\n%%x\nr##\"%gpu\"# 'é' /* /* */ % ( ] } ?\n%gpu --json=\n\\";
    let chars: Vec<char> = nasty.chars().collect();
    for i in 0..chars.len() {
        let _ = split(&chars[..i].iter().collect::<String>());
        let _ = split(&chars[i..].iter().chain(&chars[..i]).collect::<String>());
    }
}
