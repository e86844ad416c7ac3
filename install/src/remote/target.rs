//! Where a remote kernel runs: read from an address, and turned into the command that reaches it.

use crate::ui::problem;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Stands for the mark that `lightcell-remote launch` waits for.
const MARK: &str = "@MARK@";

/// What is said there before it comes from the host's shell.
pub const ANSWER: &str = "LIGHTCELL-ANSWER";

/// A machine, or a queue of machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Reached by ssh; `None` for a Slurm whose commands are on this machine.
    pub host: Option<Host>,
    /// Asks Slurm for an allocation there.
    pub slurm: Option<Slurm>,
    /// The installation's folder there, when it is not the usual one.
    pub dir: Option<String>,
    /// Further arguments for ssh.
    pub ssh_args: Vec<String>,
    /// A kernel whose front end is gone goes on for so many seconds.
    #[serde(default)]
    pub keep: Option<u64>,
}

/// As the user named it to ssh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// `host` or `user@host`; ssh's configuration may know more about it.
    pub name: String,
    /// Its port, when it is not the configured one.
    pub port: Option<u16>,
}

/// What to ask Slurm for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
pub struct Slurm {
    /// Slurm: the partition
    #[arg(long)]
    pub partition: Option<String>,
    /// Slurm: how many GPUs
    #[arg(long)]
    pub gpus: Option<u32>,
    /// Slurm: how many processors
    #[arg(long)]
    pub cpus: Option<u32>,
    /// Slurm: for how long, as Slurm writes it (`2:00:00`, `1-0`)
    #[arg(long, value_name = "TIME")]
    pub time: Option<String>,
    /// Slurm: a further argument for srun, as in `--srun-arg=--mem=8G`; can be given more than once
    #[arg(long = "srun-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub srun_args: Vec<String>,
}

impl Slurm {
    /// srun's arguments.
    fn args(&self) -> Vec<String> {
        // Before the job's end `serve` is told, so that a run writes a checkpoint; SIGURG does nothing to other processes. An
        // argument of the user's comes later and counts.
        let mut args = vec!["--signal=URG@90".to_owned()];
        let mut push = |flag: &str, value: Option<String>| args.extend(value.map(|value| format!("{flag}={value}")));
        push("--partition", self.partition.clone());
        push("--gpus", self.gpus.map(|count| count.to_string()));
        push("--cpus-per-task", self.cpus.map(|count| count.to_string()));
        push("--time", self.time.clone());
        args.extend(self.srun_args.iter().cloned());
        args
    }
}

impl Target {
    /// From `ssh://[user@]host[:port]` or `slurm://[[user@]host[:port]]`.
    pub fn read(address: &str, slurm: Slurm, dir: Option<String>, ssh_args: Vec<String>) -> Result<Target> {
        let wrong = |what: &str| {
            problem(
                format!("`{address}` is no address: {what}"),
                "write ssh://[user@]host[:port], slurm://[user@]host[:port], or slurm:// for a Slurm on this machine",
            )
        };
        let (scheme, rest) = address
            .split_once("://")
            .ok_or_else(|| wrong("it does not begin with ssh:// or slurm://"))?;
        let host = Host::read(rest.trim_end_matches('/')).map_err(wrong)?;
        let slurm = match scheme {
            "slurm" => Some(slurm),
            "ssh" if host.is_none() => return Err(wrong("it names no host")),
            "ssh" if slurm != Slurm::default() => {
                return Err(problem(
                    "partition, gpus, cpus, time and srun-arg are for Slurm, and the address is ssh://",
                    format!("write slurm://{rest}, or leave them out"),
                ));
            }
            "ssh" => None,
            _ => return Err(wrong("it does not begin with ssh:// or slurm://")),
        };
        Ok(Target {
            host,
            slurm,
            dir,
            ssh_args,
            keep: None,
        })
    }

    /// For messages: what the user calls it.
    pub fn shown(&self) -> &str {
        match &self.host {
            Some(host) => &host.name,
            None => "Slurm",
        }
    }

    /// The address, as it can be given again.
    pub fn address(&self) -> String {
        let scheme = if self.slurm.is_some() { "slurm" } else { "ssh" };
        let host = self.host.as_ref().map_or_else(String::new, |host| match host.port {
            Some(port) => format!("{}:{port}", host.name),
            None => host.name.clone(),
        });
        format!("{scheme}://{host}")
    }

    /// The command with the kernel at its other end; with a name, the kernel is kept under it, if it is to be kept.
    pub fn launch(&self, program: &Path, name: Option<&str>) -> Vec<String> {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut role = match (self.keep, name) {
            // The keeper gives the mark to the role that it starts.
            (Some(seconds), Some(name)) => own(&["keep", MARK, name, &seconds.to_string(), self.role()]),
            _ => own(&[self.role(), MARK]),
        };
        role.extend(self.slurm.iter().flat_map(Slurm::args));
        if self.host.is_some() {
            return self.ssh(&self.installed("lightcell-remote", &role));
        }
        role.insert(0, program.to_string_lossy().into_owned());
        role
    }

    fn role(&self) -> &'static str {
        if self.slurm.is_some() { "queue" } else { "serve" }
    }

    /// The command that runs `lightcell-remote` there, where [`launch`](Target::launch) runs it.
    pub fn run(&self, program: &Path, args: &[&str]) -> Vec<String> {
        let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        if self.host.is_some() {
            return self.ssh(&format!("echo {ANSWER}; {}", self.installed("lightcell-remote", &args)));
        }
        args.insert(0, program.to_string_lossy().into_owned());
        args
    }

    /// Its options, as they can be given again.
    pub fn options(&self) -> String {
        let mut options = Vec::new();
        let mut push = |flag: &str, value: Option<String>| {
            options.extend(value.map(|value| format!("--{flag} {}", quote(&value))));
        };
        if let Some(slurm) = &self.slurm {
            push("partition", slurm.partition.clone());
            push("gpus", slurm.gpus.map(|count| count.to_string()));
            push("cpus", slurm.cpus.map(|count| count.to_string()));
            push("time", slurm.time.clone());
            for arg in &slurm.srun_args {
                push("srun-arg", Some(arg.clone()));
            }
        }
        push("keep", self.keep.map(written));
        push("dir", self.dir.clone());
        options.join(" ").replace("--srun-arg ", "--srun-arg=")
    }

    /// Shell words that run one of the installation's programs there, or say that there is none.
    pub fn installed(&self, program: &str, args: &[String]) -> String {
        let args: Vec<String> = args.iter().map(|arg| quote(arg)).collect();
        format!(
            "d={}; p=\"$d/bin/{program}\"; if [ -x \"$p\" ]; then LIGHTCELL_HOME=\"$d\" exec \"$p\" {}; fi; \
             echo \"lightcell: not set up in $d\" >&2; exit 127",
            self.folder(),
            args.join(" ")
        )
    }

    /// The installation's folder there, as a shell word.
    pub fn folder(&self) -> String {
        match &self.dir {
            None => "\"${LIGHTCELL_HOME:-${XDG_DATA_HOME:-$HOME/.local/share}/lightcell}\"".to_owned(),
            Some(dir) => match dir.strip_prefix("~/") {
                Some(rest) => format!("\"$HOME\"/{}", quote(rest)),
                None => quote(dir),
            },
        }
    }

    /// Runs a script of `sh` there: by the user's own ssh with its configuration, but for what would be in the way.
    pub fn ssh(&self, script: &str) -> Vec<String> {
        let Some(host) = &self.host else {
            return vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
        };
        let mut words = vec!["ssh".to_owned()];
        words.extend(self.ssh_args.iter().cloned());
        words.push("-T".to_owned());
        for option in [
            // Nobody is there to answer.
            "BatchMode=yes",
            "ConnectTimeout=15",
            "LogLevel=ERROR",
            // A connection of its own: in one that is shared, what ends here would not end there.
            "ControlMaster=no",
            "ControlPath=none",
            "ClearAllForwardings=yes",
            "RemoteCommand=none",
        ] {
            words.extend(["-o".to_owned(), option.to_owned()]);
        }
        if let Some(port) = host.port {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        words.push(host.name.clone());
        // Whatever the login shell is.
        words.push(format!("exec sh -c {}", quote(script)));
        words
    }
}

impl Host {
    /// `None` for an empty text.
    fn read(text: &str) -> Result<Option<Host>, &'static str> {
        if text.is_empty() {
            return Ok(None);
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !text.ends_with(']') => {
                (name, Some(port.parse().map_err(|_| "its port is no number")?))
            }
            _ => (text, None),
        };
        // An IPv6 address stands in brackets in an address and without for ssh.
        let name = name.replace(['[', ']'], "");
        let odd = |c: char| c.is_whitespace() || c.is_control() || "/\\'\"`$;&|<>(){}*?#".contains(c);
        // What begins with a dash would be an option of ssh.
        if name.contains(odd) || name.starts_with('-') || name.ends_with('@') || name.is_empty() {
            return Err("its host is none");
        }
        Ok(Some(Host { name, port }))
    }
}

/// Seconds from `90m`, `8h`, `2d` or `30s`.
pub fn span(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no time: write 90m, 8h or 2d");
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    count
        .checked_mul(unit)
        .filter(|seconds| (1..=366 * 86_400).contains(seconds))
        .ok_or_else(wrong)
}

/// The same in writing.
fn written(seconds: u64) -> String {
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let (size, unit) = units
        .into_iter()
        .find(|(size, _)| seconds.is_multiple_of(*size))
        .unwrap_or((1, 's'));
    format!("{}{unit}", seconds / size)
}

/// A word for `sh`.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(address: &str) -> Result<Target> {
        Target::read(address, Slurm::default(), None, Vec::new())
    }

    #[test]
    fn addresses_are_read() {
        for (address, name, port) in [
            ("ssh://gpu", "gpu", None),
            ("ssh://me@gpu.example.org:2222/", "me@gpu.example.org", Some(2222)),
            ("ssh://me@[::1]:22", "me@::1", Some(22)),
            ("slurm://login", "login", None),
        ] {
            let target = read(address).unwrap();
            let host = target.host.clone().unwrap();
            assert_eq!((host.name.as_str(), host.port), (name, port), "{address}");
            assert_eq!(target.slurm.is_some(), address.starts_with("slurm"));
        }
        assert_eq!(read("slurm://").unwrap().host, None);
        for (address, what) in [
            ("gpu", "it does not begin with ssh:// or slurm://"),
            ("http://gpu", "it does not begin with ssh:// or slurm://"),
            ("ssh://", "it names no host"),
            ("ssh://gpu:x", "its port is no number"),
            ("ssh://-oProxyCommand=x", "its host is none"),
            ("ssh://a b", "its host is none"),
        ] {
            let error = read(address).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{address}` is no address: {what}\nhint: ")),
                "{error}"
            );
        }
        let slurm = Slurm {
            cpus: Some(2),
            ..Slurm::default()
        };
        let error = Target::read("ssh://gpu", slurm, None, Vec::new())
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("hint: write slurm://gpu, or leave them out"), "{error}");
    }

    #[test]
    fn the_command_is_the_users_ssh_with_one_script() {
        let mut target = read("ssh://me@gpu:2222").unwrap();
        target.ssh_args = vec!["-F".into(), "/my config".into()];
        let words = target.launch(Path::new("/here/lightcell-remote"), Some("gpu"));
        assert_eq!(words[..4], ["ssh", "-F", "/my config", "-T"]);
        assert_eq!(words[words.len() - 4..words.len() - 1], ["-p", "2222", "me@gpu"]);
        assert!(words.iter().any(|word| word == "ControlPath=none"));
        let last = words.last().unwrap();
        assert!(last.starts_with("exec sh -c 'd=\"${LIGHTCELL_HOME:-"), "{last}");
        assert!(last.contains("serve @MARK@"), "{last}");
        assert_eq!(target.address(), "ssh://me@gpu:2222");

        let slurm = Slurm {
            partition: Some("gpu".into()),
            gpus: Some(1),
            cpus: Some(4),
            time: Some("1:00:00".into()),
            srun_args: vec!["--mem=8G".into()],
        };
        let mut target = Target::read("slurm://", slurm, Some("~/my lc".into()), Vec::new()).unwrap();
        assert_eq!(
            target.launch(Path::new("/lc/bin/lightcell-remote"), None),
            [
                "/lc/bin/lightcell-remote",
                "queue",
                "@MARK@",
                "--signal=URG@90",
                "--partition=gpu",
                "--gpus=1",
                "--cpus-per-task=4",
                "--time=1:00:00",
                "--mem=8G"
            ]
        );
        assert_eq!(target.folder(), "\"$HOME\"/'my lc'");
        target.keep = Some(8 * 3600);
        let kept = target.launch(Path::new("/lc/bin/lightcell-remote"), Some("a100"));
        assert_eq!(
            kept[..7],
            [
                "/lc/bin/lightcell-remote",
                "keep",
                "@MARK@",
                "a100",
                "28800",
                "queue",
                "--signal=URG@90"
            ]
        );
        // A check keeps nothing.
        assert_eq!(target.launch(Path::new("/p"), None)[1], "queue");
        assert_eq!(
            target.options(),
            "--partition gpu --gpus 1 --cpus 4 --time 1:00:00 --srun-arg=--mem=8G --keep 8h --dir '~/my lc'"
        );
        assert_eq!(target.run(Path::new("/p"), &["kept", "a100"]), ["/p", "kept", "a100"]);
    }

    #[test]
    fn times_are_read_and_written() {
        for (text, seconds) in [("30s", 30), ("90m", 5400), ("8h", 28_800), ("2d", 172_800)] {
            assert_eq!(span(text), Ok(seconds));
            assert_eq!(written(seconds), text);
        }
        for text in ["", "8", "h", "-1h", "0s", "8 h", "9999d", "8é"] {
            assert_eq!(span(text), Err(format!("`{text}` is no time: write 90m, 8h or 2d")));
        }
    }

    #[test]
    fn words_survive_a_shell() {
        for word in ["plain", "", "two words", "it's", "$HOME `x` \"y\"", "~/a"] {
            let out = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quote(word))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&out.stdout), word);
        }
    }
}
