//! Which cells can run before the training library is loaded, in the first seconds of a kernel.

use lightcell_magics::{Piece, split};

/// Whether a cell needs neither the training library nor the types of variables: items and expressions without a `let`
/// outside of their own blocks, lines for the shell, no command of evcxr's.
pub fn is_simple(cell: &str) -> bool {
    // A wrong magic is said at once.
    split(cell).is_ok_and(|pieces| {
        pieces.iter().all(|piece| match piece {
            Piece::Code(rust) => is_simple_rust(rust),
            Piece::Shell(_) => true,
            Piece::Magic(call) => SIMPLE_MAGICS.contains(&call.name.as_str()),
            Piece::Help(_) => false,
        })
    })
}

const SIMPLE_MAGICS: [&str; 9] = [
    "bash",
    "cd",
    "config",
    "env",
    "history",
    "load",
    "opt",
    "who",
    "writefile",
];

fn is_simple_rust(cell: &str) -> bool {
    if ["lightcell", "tch", "hparams"].iter().any(|name| cell.contains(name)) {
        return false;
    }
    let Ok(statements) = syn::parse::Parser::parse_str(syn::Block::parse_within, cell) else {
        // Magics and `:commands`, or an error that is better explained with everything known.
        return false;
    };
    statements.iter().all(|statement| match statement {
        syn::Stmt::Local(_) => false,
        // A macro that is not known may make a variable.
        syn::Stmt::Macro(call) => KNOWN.iter().any(|known| call.mac.path.is_ident(known)),
        syn::Stmt::Item(_) | syn::Stmt::Expr(..) => true,
    })
}

const KNOWN: [&str; 7] = ["println", "print", "eprintln", "eprint", "assert", "assert_eq", "panic"];

#[cfg(test)]
mod tests {
    use super::is_simple;

    #[test]
    fn cells_without_variables_and_library_are_simple() {
        for cell in [
            "1 + 1",
            "",
            "!ls -l",
            "%cd /tmp\n1 + 1",
            "%%writefile x\nlet x = 1;",
            "println!(\"{}\", 1);",
            "fn f() -> i32 { let x = 1; x }\nf()",
            "struct P { x: i32 }\nimpl P { fn new() -> P { P { x: 1 } } }\nP::new().x",
            "use std::collections::HashMap;",
            "for i in 0..3 { let y = i; println!(\"{y}\"); }",
        ] {
            assert!(is_simple(cell), "{cell}");
        }
        for cell in [
            "let x = 1;",
            "1 + 1;\nlet (a, b) = (1, 2);",
            "use lightcell::prelude::*;",
            "%fit net data",
            "%run file.rs",
            "!ls\nlet x = 1;",
            ":dep rand",
            "vec_of_lets! { x }",
            "let x = ",
        ] {
            assert!(!is_simple(cell), "{cell}");
        }
    }
}
