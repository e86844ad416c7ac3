//! Front ends as a user has them: JupyterLab and Notebook 7 in Chromium, the console, nbconvert's page.
//!
//! The browser is driven by `tests/browser/*.mjs`; what it saw lies in the folder that `cargo selftest` names at its end.

use lightcell_tests::remote::Sshd;
use lightcell_tests::traces::{processes, said, until};
use lightcell_tests::{Scratch, file, python, required};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const TOKEN: &str = "lightcell-tests";
/// Only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(300);

/// A Jupyter server with the quickstart in its folder.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(app: &str, folder: &Path) -> Server {
        Server::start_with(app, folder, &[])
    }

    fn start_with(app: &str, folder: &Path, env: &[(&str, &Path)]) -> Server {
        let mut command = Command::new(python());
        command.envs(env.iter().copied());
        command
            .args(["-m", app, "--no-browser", "--allow-root"])
            .arg(format!("--IdentityProvider.token={TOKEN}"))
            .arg("--ServerApp.port=0")
            .arg(format!("--ServerApp.root_dir={}", folder.join("work").display()));
        // No question about news; the page tells the test its state.
        let news = folder.join("settings/@jupyterlab/apputils-extension");
        std::fs::create_dir_all(&news).unwrap();
        let no = r#"{"fetchNews": "false", "checkForUpdates": false}"#;
        std::fs::write(news.join("notification.jupyterlab-settings"), no).unwrap();
        let app = serde_json::json!({"expose_app_in_browser": true});
        let config = serde_json::json!({"LabApp": app, "JupyterNotebookApp": app});
        std::fs::create_dir_all(folder.join("config")).unwrap();
        for name in ["lab", "notebook"] {
            let file = folder.join(format!("config/jupyter_{name}_config.json"));
            std::fs::write(file, config.to_string()).unwrap();
        }
        // Nothing of the user's: settings, recent files, extensions.
        for (name, sub) in [
            ("JUPYTER_CONFIG_DIR", "config"),
            ("JUPYTER_RUNTIME_DIR", "runtime"),
            ("JUPYTERLAB_SETTINGS_DIR", "settings"),
            ("JUPYTERLAB_WORKSPACES_DIR", "workspaces"),
        ] {
            command.env(name, folder.join(sub));
        }
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = mpsc::channel();
        // Reads to the end: a server whose log nobody reads would come to a stop.
        std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| drop(send.send(line))));
        let mut seen = String::new();
        let address = loop {
            let line = lines
                .recv_timeout(LIMIT)
                .unwrap_or_else(|_| panic!("no server:\n{seen}"));
            if let Some((_, rest)) = line.split_once("http://")
                && let Some((address, _)) = rest.split_once('/')
            {
                break format!("http://{address}");
            }
            seen += &format!("{line}\n");
        };
        Server { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends its kernels then.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// The quickstart without outputs, and with a run that is long enough to be seen on any machine.
fn work(folder: &Path) -> PathBuf {
    let text = std::fs::read_to_string(file("../notebooks/quickstart.ipynb")).unwrap();
    let mut notebook: serde_json::Value = serde_json::from_str(&text).unwrap();
    for cell in notebook["cells"].as_array_mut().unwrap() {
        if cell["cell_type"] == "code" {
            cell["outputs"] = serde_json::json!([]);
            cell["execution_count"] = serde_json::Value::Null;
        }
    }
    let more = notebook.to_string().replace("--epochs 60 ", "--max-time 00:00:00:08 ");
    assert_ne!(more, notebook.to_string());
    std::fs::create_dir_all(folder.join("work/data")).unwrap();
    std::fs::write(folder.join("work/quickstart.ipynb"), more).unwrap();
    let digits = "data/digits.csv.gz";
    std::fs::copy(file("../notebooks").join(digits), folder.join("work").join(digits)).unwrap();
    folder.join("work/quickstart.ipynb")
}

fn screenshots() -> PathBuf {
    let folder = required("LIGHTCELL_TEST_SCREENSHOTS");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn tour(name: &str, app: &str, path: &str) {
    let scratch = Scratch::new(&format!("browser-{name}"));
    work(&scratch.0);
    let server = Server::start(app, &scratch.0);
    drive("tour", name, path, &server, &scratch.0);
}

/// Goes through a front end as a script of `tests/browser` does.
fn drive(script: &str, name: &str, path: &str, server: &Server, folder: &Path) {
    let mut node = Command::new("node");
    node.arg(file(&format!("browser/{script}.mjs")))
        .env("LIGHTCELL_TEST_FRONT_END", name)
        .env("LIGHTCELL_TEST_PATH", path)
        .env("LIGHTCELL_TEST_SERVER", &server.address)
        .env("LIGHTCELL_TEST_TOKEN", TOKEN)
        .env("LIGHTCELL_TEST_FOLDER", folder)
        .env("LIGHTCELL_TEST_BROWSER", required("LIGHTCELL_TEST_BROWSER"))
        .env("LIGHTCELL_TEST_CHROMIUM", required("LIGHTCELL_TEST_CHROMIUM"))
        .env("LIGHTCELL_TEST_SCREENSHOTS", screenshots());
    let out = node.output().unwrap();
    assert!(
        out.status.success(),
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
fn jupyterlab_in_a_browser() {
    tour("lab", "jupyterlab", "lab/tree");
}

#[test]
fn notebook_7_in_a_browser() {
    tour("notebook", "notebook", "notebooks");
}

#[test]
fn jupyterlab_starts_a_kernel_elsewhere() {
    let sshd = Sshd::start("browser-far");
    let out = sshd.add("gpu", "ssh://gpu");
    assert!(out.status.success(), "{}", said(&out));
    let notebook = work(sshd.dir());
    // The file that the quickstart reads comes along by a cell of its own; three seconds of training are enough here.
    let text = std::fs::read_to_string(&notebook)
        .unwrap()
        .replace("00:00:00:08", "00:00:00:03");
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["metadata"]["kernelspec"] =
        serde_json::json!({"name": "lightcell-gpu", "display_name": "Rust on gpu", "language": "rust"});
    let mut cell = value["cells"][1].clone();
    assert_eq!(cell["cell_type"], "code");
    cell["id"] = "upload".into();
    cell["source"] = "%%bash\nmkdir -p data".into();
    let mut upload = cell.clone();
    upload["id"] = "upload-2".into();
    upload["source"] = "%upload data/digits.csv.gz data".into();
    let cells = value["cells"].as_array_mut().unwrap();
    cells.splice(1..1, [cell, upload]);
    std::fs::write(&notebook, value.to_string()).unwrap();
    let server = Server::start_with(
        "jupyterlab",
        sshd.dir(),
        &[
            ("JUPYTER_PATH", &sshd.jupyter()),
            ("JUPYTER_DATA_DIR", &sshd.dir().join("data")),
        ],
    );
    drive("elsewhere", "elsewhere", "lab/tree", &server, sshd.dir());
    drop(server);
    let dir = sshd.dir().display().to_string();
    let left = || {
        let mine =
            |words: &str| words.contains(&format!("ssh -F {dir}")) || words.contains("lightcell-remote launch gpu ");
        processes().into_iter().any(|(_, _, words)| mine(&words))
    };
    until("nothing is left of the kernel", 60, || !left());
}

#[test]
fn jupyter_console_runs_cells_and_trains() {
    let scratch = Scratch::new("console");
    let mut console = Command::new(python())
        .args(["-m", "jupyter_console", "--simple-prompt", "--kernel", "lightcell"])
        .current_dir(&scratch.0)
        .env("JUPYTER_CONFIG_DIR", &scratch.0)
        .env("JUPYTER_RUNTIME_DIR", scratch.0.join("runtime"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let readme = std::fs::read_to_string(file("../README.md")).unwrap();
    let blocks = readme.split("```rust\n").skip(1);
    let cells = blocks.filter_map(|rest| rest.split_once("```").map(|(code, _)| code));
    let mut typed: String = cells.map(console_cell).collect();
    typed += "println!(\"{}{}\", \"all \", \"seen\")\n";
    console.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let mut text = String::new();
    console.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    console.wait().unwrap();
    for part in ["[████████████████████████] done: 5 epochs", "(5, true)", "all seen"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The loss in text: its first value, its course, its last value.
    let course = text
        .lines()
        .find(|line| line.starts_with("train_loss ") && line.contains('▁'));
    let numbers: Vec<f64> = course
        .into_iter()
        .flat_map(str::split_whitespace)
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(numbers.len() == 2 && numbers[1] < numbers[0], "{text}");
}

/// The simple prompt takes cells of one line.
fn console_cell(code: &str) -> String {
    code.lines().map(str::trim).collect::<Vec<_>>().join(" ") + "\n"
}

/// The quickstart as nbconvert's page, `quickstart.html`.
fn nbconvert(scratch: &Scratch) -> String {
    let out = Command::new(python())
        .args(["-m", "nbconvert", "--to", "html", "--output-dir"])
        .arg(&scratch.0)
        .arg(file("../notebooks/quickstart.ipynb"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    std::fs::read_to_string(scratch.0.join("quickstart.html")).unwrap()
}

#[test]
fn nbconvert_shows_rust_in_colour_and_the_run() {
    let scratch = Scratch::new("html");
    let page = nbconvert(&scratch);
    // Classes of pygments' lexer for Rust: a keyword, a string, a number, a type.
    for part in [
        "<span class=\"kd\">let</span>",
        "<span class=\"s\">",
        "<span class=\"mf\">16.0</span>",
        "role=\"progressbar\"",
        "<svg",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn a_page_of_nbconvert_is_printed_as_pdf() {
    let scratch = Scratch::new("pdf");
    let page = nbconvert(&scratch);
    let print = |page: &str, pdf: &str| {
        let out = Command::new(required("LIGHTCELL_TEST_CHROMIUM"))
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"])
            // What the page would like to fetch is not there.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND")
            .arg(format!("--user-data-dir={}", scratch.0.join("profile").display()))
            .arg(format!("--print-to-pdf={}", scratch.0.join(pdf).display()))
            .arg(scratch.0.join(page))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        std::fs::read(scratch.0.join(pdf)).unwrap_or_else(|error| panic!("{error}: {said}"))
    };
    let pdf = print("quickstart.html", "quickstart.pdf");
    std::fs::copy(scratch.0.join("quickstart.pdf"), screenshots().join("quickstart.pdf")).unwrap();
    // The same page without its pictures: they are what makes the difference.
    let plain: String = page
        .split("<svg")
        .enumerate()
        .map(|(at, part)| {
            if at == 0 {
                part
            } else {
                part.split_once("</svg>").map_or("", |(_, rest)| rest)
            }
        })
        .collect();
    assert_ne!(plain, page);
    std::fs::write(scratch.0.join("plain.html"), plain).unwrap();
    let plain = print("plain.html", "plain.pdf");
    assert!(pdf.starts_with(b"%PDF-") && plain.starts_with(b"%PDF-"));
    assert!(pdf.len() > plain.len() + 3_000, "{} {}", pdf.len(), plain.len());
}
