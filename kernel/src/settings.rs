//! `%config`: shows and sets what can be set in a kernel.

use crate::cache;
use crate::replay::OPT_LEVEL;
use std::path::Path;

/// The values that `opt-level` can have.
pub const OPT_LEVELS: [&str; 6] = ["0", "1", "2", "3", "s", "z"];

/// What is wrong with a request: the word, what of it, and what to do.
pub type Wrong = (String, String, String);

/// Does what stands behind `%config`, for the session in this folder; gives what to say.
pub fn config(session: &Path, text: &str) -> Result<String, Wrong> {
    let (name, value) = text
        .split_once(|c: char| c == '=' || c.is_whitespace())
        .map_or((text, ""), |(name, value)| {
            (name, value.trim_start_matches(['=', ' ', '\t']).trim())
        });
    if name.is_empty() {
        return Ok(lightcell_magics::SETTINGS
            .iter()
            .map(|(name, about)| row(session, name, about))
            .collect());
    }
    let Some((name, about)) = lightcell_magics::SETTINGS.iter().find(|(known, _)| *known == name) else {
        let names: Vec<&str> = lightcell_magics::SETTINGS.iter().map(|(name, _)| *name).collect();
        let hint = match lightcell_magics::nearest(name, names) {
            Some(close) => format!("did you mean {close}? %config shows all"),
            None => "%config shows all".to_owned(),
        };
        return Err((name.to_owned(), format!("there is no setting `{name}`"), hint));
    };
    match (*name, value) {
        (_, "") => {}
        ("opt-level", level) => set_opt_level(session, level)?,
        ("cache-limit", size) => {
            let bytes = parse(size).ok_or_else(|| {
                let hint = "write it as 4G, 500M or a number of bytes; 0 keeps nothing".to_owned();
                (size.to_owned(), format!("`{size}` is no size"), hint)
            })?;
            cache::set_limit(session, bytes).map_err(|error| {
                let hint = "set LIGHTCELL_CACHE to a folder that can be written".to_owned();
                (size.to_owned(), format!("{error:#}"), hint)
            })?;
        }
        (other, _) => debug_assert!(false, "{other} is in the table and not here"),
    }
    Ok(row(session, name, about))
}

fn row(session: &Path, name: &str, about: &str) -> String {
    let value = match name {
        "opt-level" => opt_level(session),
        _ => size(cache::limit_of(session)),
    };
    let by = match name {
        "cache-limit" if cache::limit_is_set_outside() => " (by LIGHTCELL_CACHE_LIMIT)",
        _ => "",
    };
    format!("{name:<12} {value:<8} {about}{by}\n")
}

/// rustc's opt-level for the cells that follow.
pub fn opt_level(session: &Path) -> String {
    let set = std::fs::read_to_string(session.join(OPT_LEVEL)).unwrap_or_else(|_| "2".to_owned());
    set.trim().to_owned()
}

/// Sets it.
pub fn set_opt_level(session: &Path, level: &str) -> Result<(), Wrong> {
    if !OPT_LEVELS.contains(&level) {
        let message = format!("`{level}` is no opt-level");
        return Err((level.to_owned(), message, "it is 0, 1, 2, 3, s or z".to_owned()));
    }
    let file = session.join(OPT_LEVEL);
    std::fs::write(&file, level).map_err(|error| {
        let message = format!("cannot write {}: {error}", file.display());
        (level.to_owned(), message, "free some space".to_owned())
    })
}

/// Bytes of `4G`, `500M` or `4096`.
fn parse(text: &str) -> Option<u64> {
    let text = text.to_uppercase();
    let digits = text.trim_end_matches('B').trim_end_matches(['K', 'M', 'G', 'T']);
    let power = match text[digits.len()..].trim_end_matches('B') {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return None,
    };
    digits.trim_end().parse::<u64>().ok()?.checked_mul(1000u64.pow(power))
}

fn size(bytes: u64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.1} GB", bytes as f64 / 1e9),
        _ => format!("{:.0} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("4G", 4_000_000_000),
            ("500 mb", 500_000_000),
            ("4096", 4096),
            ("0", 0),
            ("1T", 1_000_000_000_000),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "4X", "4GG", "99999999999T", "ü"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_setting_of_the_table_can_be_set() {
        let session = std::env::temp_dir().join(format!("lightcell-settings-{}", std::process::id()));
        std::fs::create_dir_all(session.join("kept")).unwrap();
        std::os::unix::fs::symlink(session.join("kept/key"), session.join(".cache")).unwrap();
        for (name, _) in lightcell_magics::SETTINGS {
            assert!(
                config(&session, &format!("{name} 1")).unwrap().starts_with(name),
                "{name}"
            );
        }
        assert_eq!(
            config(&session, "opt-level = s").unwrap().split_whitespace().nth(1),
            Some("s")
        );
        assert!(
            config(&session, "cache-limit=5G")
                .unwrap()
                .starts_with("cache-limit  5.0 GB ")
        );
        assert_eq!(
            config(&session, "").unwrap().lines().count(),
            lightcell_magics::SETTINGS.len()
        );
        assert_eq!(config(&session, "opt-level 9").unwrap_err().1, "`9` is no opt-level");
        std::fs::remove_dir_all(session).unwrap();
    }
}
