//! Which tch goes with which libtorch, and how the sources name it.
//!
//! tch's C++ is compiled here, against the headers of the libtorch in use, so what does not fit is an error of the compiler.
//! Version 0.26 is made for libtorch 2.13 and compiles with 2.12 as it is; with 2.11 it does not, as functions it wraps are
//! not there yet. There 0.24 is taken, which is made for it (0.25 was never published). The library's sources compile with
//! both; cargo resolves one tch only, so the installation's copy of the sources names the one that is needed.

use crate::preflight::numbers;

/// A version of the crate, and of torch-sys, which goes with it.
#[derive(Debug, PartialEq, Eq)]
pub struct Tch {
    /// `0.26.0`, of both crates.
    pub version: &'static str,
    /// What manifests ask for.
    asked: &'static str,
    /// Checksums of `tch` and `torch-sys` in crates.io's index.
    sums: [&'static str; 2],
}

/// The one that the sources name as they are.
pub const DEFAULT: &Tch = &Tch {
    version: "0.26.0",
    asked: "0.26",
    sums: [
        "975b1fb3b612ba925f03dd08b56e5c9452bb7102891d5d9f58c19b49a0b2ec1e",
        "5ae60ab95333c42adcc1a9e74057357e4324a1f344c403e48712a144ab731019",
    ],
};

const BEFORE: &Tch = &Tch {
    version: "0.24.0",
    asked: "0.24",
    sums: [
        "0d3f84a069d8ba16dbf720b61e8bf131d90ffb8e958a664eae8e4993c5c2fa6f",
        "f4ba78777379cf09aaa79708c63e477cf0f95e021d04360c6821f1a9f56173f7",
    ],
};

/// The libtorch versions that work, the newest last: patch releases keep the interface.
const WORKING: [((u32, u32), &Tch); 3] = [((2, 11), BEFORE), ((2, 12), DEFAULT), ((2, 13), DEFAULT)];

/// In words, for messages.
pub const WORKING_TEXT: &str = "2.11, 2.12 and 2.13";

/// The tch for a libtorch; `None` when Lightcell does not work with it.
pub fn of(libtorch: &str) -> Option<&'static Tch> {
    let numbers = numbers(libtorch)?;
    WORKING
        .iter()
        .find(|(working, _)| *working == numbers)
        .map(|(_, tch)| *tch)
}

/// Files of the sources that name the version.
pub const FILES: [&str; 3] = ["Cargo.lock", "magics/fit/Cargo.toml", "magics/torch/Cargo.toml"];

impl Tch {
    /// A file of the sources with this version in the place of any other; as it is when it names none.
    pub fn named_in(&self, file: &std::path::Path, content: Vec<u8>) -> Vec<u8> {
        if !FILES.iter().any(|name| file == std::path::Path::new(name)) {
            return content;
        }
        match String::from_utf8(content) {
            Ok(text) => self.put(text).into_bytes(),
            Err(error) => error.into_bytes(),
        }
    }

    fn put(&self, mut text: String) -> String {
        for other in [DEFAULT, BEFORE].into_iter().filter(|other| *other != self) {
            for (at, name) in ["tch", "torch-sys"].iter().enumerate() {
                // In a manifest.
                text = text.replace(
                    &format!("\n{name} = {{ version = \"{}\"", other.asked),
                    &format!("\n{name} = {{ version = \"{}\"", self.asked),
                );
                // In the lock.
                text = text.replace(
                    &format!("\nname = \"{name}\"\nversion = \"{}\"", other.version),
                    &format!("\nname = \"{name}\"\nversion = \"{}\"", self.version),
                );
                text = text.replace(other.sums[at], self.sums[at]);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn each_libtorch_has_its_tch() {
        for (libtorch, tch) in [
            ("2.13.0", Some("0.26.0")),
            ("2.12.1", Some("0.26.0")),
            ("2.11.0+cu130", Some("0.24.0")),
            ("2.10.0", None),
            ("2.14.0", None),
            ("3.0.0", None),
            ("", None),
        ] {
            assert_eq!(of(libtorch).map(|tch| tch.version), tch, "{libtorch}");
        }
    }

    /// The sources as they are name the default, so nothing changes; those of the other name it in all three files, and the
    /// way back gives the same bytes again.
    #[test]
    fn the_sources_can_name_either_and_go_back() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for file in FILES {
            let file = Path::new(file);
            let here = std::fs::read(root.join(file)).unwrap();
            // Where this runs from an installation's copy, it may name the other.
            let now = DEFAULT.named_in(file, here);
            assert_eq!(DEFAULT.named_in(file, now.clone()), now);
            let other = BEFORE.named_in(file, now.clone());
            let count = |text: &[u8], part: &str| String::from_utf8_lossy(text).matches(part).count();
            let (named, sums) = match file.extension().unwrap().to_str().unwrap() {
                "lock" => ("version = \"0.24.0\"", 1),
                _ => ("version = \"0.24\"", 0),
            };
            assert!(
                count(&other, named) >= 1 && count(&now, named) == 0,
                "{}",
                file.display()
            );
            for sum in BEFORE.sums {
                assert_eq!(count(&other, sum), sums);
            }
            for sum in DEFAULT.sums {
                assert_eq!((count(&now, sum), count(&other, sum)), (sums, 0));
            }
            assert_eq!(DEFAULT.named_in(file, other), now);
        }
        // Other files are not looked into.
        let text = b"\ntch = { version = \"0.26\"".to_vec();
        assert_eq!(BEFORE.named_in(Path::new("kernel/Cargo.toml"), text.clone()), text);
    }
}
