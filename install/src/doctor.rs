//! `lightcell doctor`: everything the product needs, each ok or with its mend.

use crate::place::{Libtorch, Place, output};
use crate::{jupyter, libtorch, preflight, tch, ui};
use anyhow::Result;
use serde::Serialize;
use std::path::Path;
use std::process::{Command, ExitCode};

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    part: &'static str,
    state: State,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    /// Not there, and not needed on this machine.
    None,
    Missing,
}

const SETUP: &str = "lightcell setup";

/// Prints the table; status 1 when something needed is missing.
pub fn run(json: bool) -> Result<ExitCode> {
    let rows = look();
    if json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", table(&rows));
        if let Ok(place) = Place::find()
            && rows
                .iter()
                .any(|row| row.mend.as_deref().is_some_and(|mend| mend.starts_with(SETUP)))
            && ui::me(&place) != "lightcell"
        {
            println!(
                "\n`lightcell` is not on your PATH; here it is {}",
                std::env::current_exe()?.display()
            );
        }
    }
    let missing = rows.iter().any(|row| row.state == State::Missing);
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let mark = match row.state {
            State::Ok => "✓",
            State::None => "–",
            State::Missing => "✗",
        };
        text.push_str(&format!("{mark} {:<13} {}\n", row.part, row.what));
        if let Some(mend) = &row.mend {
            text.push_str(&format!("  {:<13} mend: {mend}\n", ""));
        }
    }
    text
}

fn ok(part: &'static str, what: impl Into<String>) -> Row {
    Row {
        part,
        state: State::Ok,
        what: what.into(),
        mend: None,
    }
}

fn missing(part: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Row {
    Row {
        part,
        state: State::Missing,
        what: what.into(),
        mend: Some(mend.into()),
    }
}

/// From a finding whose error has its hint on a second line.
fn row<T>(part: &'static str, found: Result<T>, show: impl Fn(&T) -> String) -> Row {
    match found {
        Ok(value) => ok(part, show(&value)),
        Err(error) => {
            let text = format!("{error:#}");
            let (what, mend) = text.split_once("\nhint: ").unwrap_or((&text, SETUP));
            missing(part, what, mend)
        }
    }
}

fn look() -> Vec<Row> {
    let rustc = preflight::rustc();
    let sources = rustc.as_ref().is_ok_and(|(program, _)| preflight::rust_src(program));
    let mut rows = vec![
        row("rustc", rustc, |(_, version)| {
            version.lines().next().unwrap_or_default().to_owned()
        }),
        row(
            "cargo",
            preflight::cargo().and_then(|cargo| output(Command::new(cargo).arg("--version"))),
            Clone::clone,
        ),
    ];
    rows.push(if sources {
        ok("rust-src", "sources of the standard library")
    } else {
        missing(
            "rust-src",
            "missing: types of variables and completions need it",
            "rustup component add rust-src",
        )
    });
    rows.push(row("C++ compiler", preflight::cxx(), |path| path.display().to_string()));
    rows.push(row("Python", preflight::python(), |path| path.display().to_string()));
    rows.push(driver());
    rows.push(nvml());
    match Place::find() {
        Ok(place) => installation(&place, &mut rows),
        Err(error) => rows.push(missing("installation", error.to_string(), "set HOME or LIGHTCELL_HOME")),
    }
    rows
}

fn driver() -> Row {
    match std::fs::read_to_string("/proc/driver/nvidia/version") {
        Ok(text) => ok("NVIDIA driver", text.lines().next().unwrap_or_default().to_owned()),
        Err(_) => Row {
            part: "NVIDIA driver",
            state: State::None,
            what: "none: the CPU is used".into(),
            mend: None,
        },
    }
}

fn nvml() -> Row {
    let loaded = ["libnvidia-ml.so.1", "libnvidia-ml.so"].iter().any(|name| {
        let Ok(name) = std::ffi::CString::new(*name) else {
            return false;
        };
        // SAFETY: loads a library of the driver by its name, or fails.
        unsafe { !libc::dlopen(name.as_ptr(), libc::RTLD_LAZY).is_null() }
    });
    match (loaded, Path::new("/proc/driver/nvidia/version").exists()) {
        (true, _) => ok("NVML", "loadable"),
        (false, true) => missing(
            "NVML",
            "the driver is there but its library is not",
            "install the driver's user libraries (libnvidia-ml.so.1)",
        ),
        (false, false) => Row {
            part: "NVML",
            state: State::None,
            what: "none, as there is no driver".into(),
            mend: None,
        },
    }
}

fn torch(place: &Place, recorded: &Libtorch) -> Row {
    let Some(found) = libtorch::inspect(&recorded.path) else {
        return missing("libtorch", format!("not in {}", recorded.path.display()), SETUP);
    };
    let Some(tch) = tch::of(&found.version) else {
        let what = format!("{} does not work: {} do", found.version, tch::WORKING_TEXT);
        return missing(
            "libtorch",
            format!("{what} ({})", found.path.display()),
            "lightcell setup --torch fetch",
        );
    };
    if found.version != recorded.version {
        let what = format!("{} now, it was {} when set up", found.version, recorded.version);
        return missing("libtorch", format!("{what} ({})", found.path.display()), SETUP);
    }
    if !libtorch::is_whole_in(place, &found) {
        return missing("libtorch", format!("{} lacks files", found.path.display()), SETUP);
    }
    let origin = libtorch::origin(place, &found);
    ok(
        "libtorch",
        format!("{} ({}), {origin}; tch {}", found.version, found.variant, tch.version),
    )
}

fn installation(place: &Place, rows: &mut Vec<Row>) {
    let Some(setup) = place.setup() else {
        rows.push(missing(
            "installation",
            format!("not set up in {}", place.root.display()),
            SETUP,
        ));
        for part in ["libtorch", "libtch", "kernel", "worker, store", "Jupyter", "kernelspec"] {
            rows.push(missing(part, "comes with the installation", SETUP));
        }
        return;
    };
    rows.push(ok(
        "installation",
        format!("{} in {}", setup.version, place.root.display()),
    ));
    rows.push(torch(place, &setup.libtorch));
    let library = setup.libtch.join("libtch.so");
    rows.push(if crate::libtch::is_whole(&library) {
        ok("libtch", library.display().to_string())
    } else {
        missing(
            "libtch",
            format!("{} is not there or damaged", library.display()),
            SETUP,
        )
    });
    let file = |part: &'static str, path: std::path::PathBuf| {
        if path.is_file() {
            ok(part, path.display().to_string())
        } else {
            missing(part, format!("{} is not there", path.display()), SETUP)
        }
    };
    let kernel = place.join("bin/lightcell-kernel");
    rows.push(match output(Command::new(&kernel).arg("--version")) {
        Ok(_) => ok("kernel", kernel.display().to_string()),
        Err(_) => missing(
            "kernel",
            format!("{} is not there or does not run", kernel.display()),
            SETUP,
        ),
    });
    let prepared = Command::new(&kernel)
        .args(["prepare", "--check"])
        .env("LIGHTCELL_HOME", &place.root)
        .output();
    rows.push(match prepared {
        Ok(out) if out.status.success() => ok(
            "worker, store",
            format!(
                "for {}, {}",
                setup.rustc_version.lines().next().unwrap_or_default(),
                crate::demo::store_size(place)
            ),
        ),
        Ok(out) => {
            let text = format!(
                "{}{}",
                String::from_utf8_lossy(&out.stdout),
                String::from_utf8_lossy(&out.stderr)
            );
            match text.trim() {
                "" => missing("worker, store", "the kernel's program does not run", SETUP),
                text => missing("worker, store", text, SETUP),
            }
        }
        Err(_) => missing("worker, store", "the kernel's program does not run", SETUP),
    });
    rows.push(ok("crate cache", crate::cache::summary(place)));
    rows.push(if jupyter::works(&setup.python) {
        ok("Jupyter", setup.python.display().to_string())
    } else {
        missing(
            "Jupyter",
            format!("{} has no JupyterLab, nbclient and nbconvert", setup.python.display()),
            SETUP,
        )
    });
    for spec in &setup.kernelspecs {
        rows.push(file("kernelspec", spec.join("kernel.json")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_to_do() {
        let rows = [
            ok("rustc", "1.95"),
            missing("libtch", "gone", SETUP),
            Row {
                part: "NVML",
                state: State::None,
                what: "none".into(),
                mend: None,
            },
        ];
        assert_eq!(
            table(&rows),
            "✓ rustc         1.95\n✗ libtch        gone\n                mend: lightcell setup\n– NVML          none\n"
        );
    }

    #[test]
    fn the_libtorch_is_named_with_its_version_and_origin() {
        let scratch = crate::place::tests::Scratch::new("doctor-torch");
        let folder = scratch.0.join("torch");
        let put = |version: &str| {
            crate::place::write(&folder.join("lib/libtorch_cpu.so"), b"").unwrap();
            crate::place::write(&folder.join("include/x.h"), b"").unwrap();
            crate::place::write(&folder.join("build-version"), version.as_bytes()).unwrap();
        };
        let recorded = Libtorch {
            path: folder.clone(),
            version: "2.11.0".into(),
            variant: "cpu".into(),
        };
        let place = Place {
            root: scratch.0.join("lc"),
        };
        let what = || {
            let row = torch(&place, &recorded);
            let text = row.what.replace(&*folder.to_string_lossy(), "/t");
            (text, row.mend.unwrap_or_default())
        };
        let texts = |what: &str, mend: &str| (what.to_owned(), mend.to_owned());
        assert_eq!(what(), texts("not in /t", SETUP));
        put("2.11.0");
        assert_eq!(what(), texts("2.11.0 (cpu), in /t; tch 0.24.0", ""));
        put("2.12.1");
        assert_eq!(what(), texts("2.12.1 now, it was 2.11.0 when set up (/t)", SETUP));
        put("2.15.0");
        assert_eq!(
            what(),
            texts(
                "2.15.0 does not work: 2.11, 2.12 and 2.13 do (/t)",
                "lightcell setup --torch fetch"
            )
        );
    }

    #[test]
    fn an_errors_hint_is_its_mend() {
        let found: Result<()> = Err(ui::problem("no compiler", "install one"));
        assert_eq!(
            row("C++ compiler", found, |()| String::new()),
            missing("C++ compiler", "no compiler", "install one")
        );
    }
}
