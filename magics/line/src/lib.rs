//! The `%` language of Lightcell's notebooks: which lines are magics, what their flags mean, help and completion.
//!
//! One [`TABLE`] of magics and flags feeds parsing, help, completion and the documentation. This crate knows neither
//! Jupyter nor evcxr.
//!
//! ```
//! use lightcell_magics::{Piece, split};
//! let pieces = split("let a = 1;\n%gpu --json\na").unwrap();
//! assert!(matches!(&pieces[1], Piece::Magic(call) if call.name == "gpu" && call.switch("--json")));
//! ```

mod call;
mod fit;
mod help;
mod models;
mod scan;
mod shell;
mod table;

pub use call::{Call, MagicError, Piece, split};
pub use fit::{FitCall, FitOptions, Subject};
pub use help::{Completion, complete, help, lsmagic, markdown};
pub use models::{ModelCall, Work};
pub use table::{Flag, Kind, Magic, SETTINGS, Side, TABLE, Takes, magic};

/// The name in `names` that is closest to `wrong`, if any is close.
///
/// ```
/// assert_eq!(lightcell_magics::nearest("epocs", ["epochs", "seed"]), Some("epochs"));
/// assert_eq!(lightcell_magics::nearest("Mpl", ["Mlp"]), Some("Mlp"));
/// assert_eq!(lightcell_magics::nearest("zzz", ["epochs", "seed"]), None);
/// ```
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let score = |name: &str| {
        let name = name.to_lowercase();
        // A slip of one key, also in a short name, where the other measure sees little that is alike.
        let slip = wrong.chars().count() > 2 && strsim::osa_distance(&wrong, &name) <= 1;
        strsim::jaro_winkler(&wrong, &name).max(if slip { 0.9 } else { 0.0 })
    };
    names
        .into_iter()
        .map(|name| (score(name), name))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
