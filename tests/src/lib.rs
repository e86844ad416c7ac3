//! A real client for the end-to-end tests: `jupyter_client` in a Python process, driven by lines of JSON.
//!
//! The tests run against an installation (`lightcell selftest` makes it and names it in the environment). Without one
//! they fail, saying so: a test that passes by doing nothing is none.

pub mod messages;
pub mod remote;
pub mod slurm;
pub mod traces;
pub mod wire;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The Python with the clients.
pub fn python() -> PathBuf {
    required("LIGHTCELL_TEST_PYTHON")
}

/// The installation's folder.
pub fn home() -> PathBuf {
    required("LIGHTCELL_HOME")
}

/// A folder that `lightcell selftest` names in the environment.
pub fn required(name: &str) -> PathBuf {
    match std::env::var_os(name) {
        Some(value) => value.into(),
        None => panic!("{name} is not set: run these tests with `cargo selftest`"),
    }
}

/// A file of this crate.
pub fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A folder that goes with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// A new one.
    pub fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("lightcell-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a scratch folder");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process's parent, while it runs: one that waits to be reaped is gone for every purpose.
fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: state and parent.
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    let state = rest.next()?;
    (state != "Z").then(|| rest.next()?.parse().ok()).flatten()
}

/// Whether a process runs.
pub fn alive(pid: i32) -> bool {
    parent(pid).is_some()
}

/// How many processes run below one.
pub fn below(root: i32) -> usize {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pairs: Vec<(i32, i32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let (mut found, mut next) = (0, vec![root]);
    while let Some(of) = next.pop() {
        for (pid, _) in pairs.iter().filter(|(_, parent)| *parent == of) {
            found += 1;
            next.push(*pid);
        }
    }
    found
}

/// A kernel and its client.
pub struct Kernel {
    driver: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    /// Seconds from its start to ready.
    pub start: f64,
}

/// What a cell gave.
#[derive(Debug, Clone)]
pub struct Cell {
    /// The content of the reply.
    pub reply: Value,
    /// All messages on iopub, in order: type and content.
    pub messages: Vec<(String, Value)>,
}

impl Kernel {
    /// Starts one.
    pub fn start() -> Kernel {
        Kernel::start_with(&[])
    }

    /// Starts one with these environment variables.
    pub fn start_with(env: &[(&str, &str)]) -> Kernel {
        Kernel::start_in(Path::new("."), env)
    }

    /// Starts one for a notebook in a folder.
    pub fn start_in(folder: &Path, env: &[(&str, &str)]) -> Kernel {
        let mut command = Command::new(python());
        command
            .arg(file("clients/driver.py"))
            .current_dir(folder)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut driver = command.spawn().expect("the driver starts");
        let to = driver.stdin.take().expect("piped");
        let from = BufReader::new(driver.stdout.take().expect("piped"));
        let mut kernel = Kernel {
            driver,
            to,
            from,
            start: 0.0,
        };
        let hello = kernel.read();
        assert_eq!(hello["ready"], true, "the kernel starts: {hello}");
        kernel.start = hello["seconds"].as_f64().unwrap_or_default();
        kernel
    }

    /// Sends an operation to the driver and waits for its answer.
    pub fn call(&mut self, operation: Value) -> Value {
        self.send(operation);
        self.read()
    }

    /// Sends an operation; its answer comes with [`Kernel::read`].
    pub fn send(&mut self, operation: Value) {
        writeln!(self.to, "{operation}").expect("the driver listens");
    }

    /// Waits for an answer of the driver.
    pub fn read(&mut self) -> Value {
        let mut line = String::new();
        self.from.read_line(&mut line).expect("the driver answers");
        let value: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("the driver said {line:?}: {error}"));
        assert!(
            value.get("driver_error").is_none(),
            "{}",
            value["driver_error"].as_str().unwrap_or_default()
        );
        value
    }

    /// The driver's process: the front end.
    pub fn front_end(&self) -> i32 {
        self.driver.id() as i32
    }

    /// Runs a cell.
    pub fn run(&mut self, code: &str) -> Cell {
        Cell::from(self.call(json!({"op": "execute", "code": code})))
    }

    /// Runs a cell that must succeed.
    pub fn ok(&mut self, code: &str) -> Cell {
        let cell = self.run(code);
        assert_eq!(cell.reply["status"], "ok", "{code}\n{}", cell.traceback());
        cell
    }

    /// Runs a cell that must fail.
    pub fn err(&mut self, code: &str) -> Cell {
        let cell = self.run(code);
        assert_eq!(cell.reply["status"], "error", "{code}");
        cell
    }

    /// Runs a cell, presses stop once a text has appeared on its outputs (at once for an empty one), and gives the cell
    /// and the seconds from stop to idle.
    pub fn stopped(&mut self, code: &str, when: &str) -> (Cell, f64) {
        let answer = self.call(json!({"op": "execute", "code": code, "interrupt_when": when}));
        let seconds = answer["stopped_after"].as_f64().expect("it was stopped");
        (Cell::from(answer), seconds)
    }

    /// The number of the kernel's process.
    pub fn pid(&mut self) -> i32 {
        self.call(json!({"op": "pid"}))["pid"].as_i64().expect("a pid") as i32
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let _ = writeln!(self.to, "{}", json!({"op": "shutdown"}));
        let _ = self.driver.wait();
    }
}

impl Cell {
    /// From the driver's answer to `execute`.
    pub fn from(answer: Value) -> Cell {
        let messages = answer["messages"].as_array().expect("messages").iter();
        Cell {
            reply: answer["reply"].clone(),
            messages: messages
                .map(|m| (m[0].as_str().unwrap_or_default().to_owned(), m[1].clone()))
                .collect(),
        }
    }

    /// All text of a stream.
    pub fn stream(&self, name: &str) -> String {
        let texts = self
            .messages
            .iter()
            .filter(|(kind, content)| kind == "stream" && content["name"] == name);
        texts.filter_map(|(_, content)| content["text"].as_str()).collect()
    }

    /// Standard output.
    pub fn stdout(&self) -> String {
        self.stream("stdout")
    }

    /// Plain text of the value.
    pub fn value(&self) -> String {
        let result = self.messages.iter().find(|(kind, _)| kind == "execute_result");
        result
            .and_then(|(_, content)| content["data"]["text/plain"].as_str())
            .unwrap_or_default()
            .to_owned()
    }

    /// Contents of all messages of a type.
    pub fn all(&self, kind: &str) -> Vec<&Value> {
        self.messages
            .iter()
            .filter(|(found, _)| found == kind)
            .map(|(_, content)| content)
            .collect()
    }

    /// Kind of the error.
    pub fn ename(&self) -> &str {
        self.reply["ename"].as_str().unwrap_or_default()
    }

    /// Its line.
    pub fn evalue(&self) -> &str {
        self.reply["evalue"].as_str().unwrap_or_default()
    }

    /// What the user reads, without colours.
    pub fn traceback(&self) -> String {
        let lines: Vec<&str> = self.reply["traceback"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let text = lines.join("\n");
        let (mut out, mut rest) = (String::new(), text.as_str());
        while let Some(at) = rest.find('\x1b') {
            out.push_str(&rest[..at]);
            rest = rest[at..].split_once('m').map_or("", |(_, rest)| rest);
        }
        out + rest
    }
}
