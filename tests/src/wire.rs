//! A network with delay, loss and a cut, between this machine and a namespace of the test's own. `clients/wire.py` is the
//! network; it takes all away when its input ends, so also when the test dies.

use crate::file;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Two addresses, and what is between them.
pub struct Wire {
    namespace: String,
    address: String,
    between: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Wire {
    /// Lays one that neither delays nor loses.
    pub fn lay() -> Wire {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Tests run beside each other, in several processes; 198.18.0.0/15 is kept for tests of networks.
        let number = std::process::id() * 8 + COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("lct{number}");
        let (net, host) = (number / 127 % 256, number % 127 * 2);
        let [here, address] = [0, 1].map(|end| format!("198.18.{net}.{}", host + end));
        let mut between = Command::new("python3")
            .arg(file("clients/wire.py"))
            .args([&namespace, &here, &address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the wire starts");
        let mut wire = Wire {
            namespace,
            address,
            to: between.stdin.take(),
            from: BufReader::new(between.stdout.take().expect("piped")),
            between,
        };
        wire.hear_ok();
        wire
    }

    /// From now on each packet takes so many seconds one way, and this part of them is lost.
    pub fn set(&mut self, delay: f64, loss: f64) {
        let to = self.to.as_mut().expect("it is there until it is dropped");
        writeln!(to, "{}", json!({"delay": delay, "loss": loss})).expect("the wire listens");
        self.hear_ok();
    }

    /// Swallows everything from now on; nobody is told.
    pub fn cut(&mut self) {
        self.set(0.0, 1.0);
    }

    /// Of the other end.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A command at the other end.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    fn hear_ok(&mut self) {
        let mut line = String::new();
        self.from.read_line(&mut line).expect("the wire answers");
        assert_eq!(line, "ok\n", "the wire: its error is above");
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.to = None;
        let _ = self.between.wait();
    }
}
