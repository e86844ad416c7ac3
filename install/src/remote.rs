//! `lightcell remote`: kernels on other machines, in Jupyter's list of kernels like any other.
//!
//! A remote is its kernelspec: the command that Jupyter starts stands in it, and beside that the address it was made from.

mod host;
mod target;

use crate::place::{self, Place, output};
use crate::ui::{self, problem};
use crate::{kernel, kernelspec, preflight, sources};
use anyhow::{Context, Result};
use serde_json::json;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use target::{Slurm, Target};

/// What to do.
#[derive(clap::Subcommand)]
pub enum Action {
    /// Check a machine, set Lightcell up there if it is not, and register "Rust on NAME"
    Add(Add),
    /// Show all remotes
    List,
    /// Look at each link from here to the kernel, each ok or with its mend
    Check {
        /// The remote
        name: String,
    },
    /// Show the kernels that are kept there
    Kept {
        /// The remote
        name: String,
    },
    /// End the kernels that are kept there
    End {
        /// The remote
        name: String,
        /// Only this one, as `kept` names it
        id: Option<String>,
    },
    /// Forget a remote and end its kept kernels; what is set up there stays
    Remove {
        /// The remote
        name: String,
    },
}

/// A new remote.
#[derive(clap::Args)]
pub struct Add {
    /// Its name here
    name: String,
    /// ssh://[user@]host[:port], slurm://[user@]host[:port], or slurm:// for a Slurm on this machine
    address: String,
    /// The installation's folder there
    #[arg(long)]
    dir: Option<String>,
    /// A further argument for ssh, as in `--ssh-arg=-F --ssh-arg=FILE`; can be given more than once
    #[arg(long = "ssh-arg", value_name = "ARG", allow_hyphen_values = true)]
    ssh_args: Vec<String>,
    #[command(flatten)]
    slurm: Slurm,
    /// Let a kernel go on for so long when its front end is gone (90m, 8h, 2d), and come back to it
    #[arg(long, value_name = "TIME", value_parser = target::span)]
    keep: Option<u64>,
    /// Set Lightcell up there without asking
    #[arg(long)]
    yes: bool,
}

/// Does it.
pub fn run(action: Action) -> Result<ExitCode> {
    match action {
        Action::Add(add) => self::add(add),
        Action::List => list(),
        Action::Check { name } => {
            let remote = find(&name)?;
            match check(&remote)? == ExitCode::SUCCESS {
                true => parts(&remote),
                false => Ok(ExitCode::FAILURE),
            }
        }
        Action::Kept { name } => ask(&find(&name)?, &["kept", &name]),
        Action::End { name, id } => {
            let words = ["end", &name].into_iter().chain(id.as_deref());
            ask(&find(&name)?, &words.collect::<Vec<_>>())
        }
        Action::Remove { name } => remove(&find(&name)?),
    }
}

/// A remote as it is registered.
struct Remote {
    name: String,
    target: Target,
    spec: PathBuf,
}

const FOLDER: &str = "lightcell-";
/// Where in the kernelspec's metadata the address stands.
const RECORD: &str = "lightcell_remote";

fn kernels() -> Result<PathBuf> {
    Ok(place::jupyter_data()?.join("kernels"))
}

/// All remotes of this user.
fn all() -> Result<Vec<Remote>> {
    let mut remotes = Vec::new();
    for entry in std::fs::read_dir(kernels()?).into_iter().flatten().flatten() {
        let (file, spec) = (entry.file_name(), entry.path());
        if let Some(name) = file.to_string_lossy().strip_prefix(FOLDER)
            && let Some(target) = record(&spec)
        {
            remotes.push(Remote {
                name: name.to_owned(),
                target,
                spec,
            });
        }
    }
    remotes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(remotes)
}

fn record(spec: &Path) -> Option<Target> {
    let text = std::fs::read_to_string(spec.join("kernel.json")).ok()?;
    let mut spec: serde_json::Value = serde_json::from_str(&text).ok()?;
    serde_json::from_value(spec["metadata"][RECORD].take()).ok()
}

/// The kernelspecs of all remotes, for uninstall.
pub fn kernelspecs() -> Vec<PathBuf> {
    all()
        .unwrap_or_default()
        .into_iter()
        .map(|remote| remote.spec)
        .collect()
}

fn find(name: &str) -> Result<Remote> {
    let mut remotes = all()?;
    match remotes.iter().position(|remote| remote.name == name) {
        Some(at) => Ok(remotes.swap_remove(at)),
        None => {
            let known: Vec<&str> = remotes.iter().map(|remote| remote.name.as_str()).collect();
            Err(problem(
                format!("there is no remote `{name}`"),
                if known.is_empty() {
                    "add one: lightcell remote add NAME ssh://HOST".to_owned()
                } else {
                    format!("there are: {}", known.join(", "))
                },
            ))
        }
    }
}

fn list() -> Result<ExitCode> {
    let remotes = all()?;
    if remotes.is_empty() {
        println!("There is no remote. Add one: lightcell remote add NAME ssh://HOST");
    }
    let width = remotes
        .iter()
        .map(|remote| remote.name.chars().count())
        .max()
        .unwrap_or(0);
    for remote in remotes {
        let options = remote.target.options();
        let line = format!("{:<width$}  {}  {options}", remote.name, remote.target.address());
        println!("{}", line.trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `lightcell-remote` at the other end and shows what it says.
fn ask(remote: &Remote, args: &[&str]) -> Result<ExitCode> {
    let words = remote.target.run(&Place::find()?.join("bin/lightcell-remote"), args);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    let out = command.output().with_context(|| format!("cannot run {}", words[0]))?;
    let errors = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        return Err(problem(
            format!(
                "{} does not answer: {}",
                remote.target.shown(),
                errors.lines().last().unwrap_or("no word")
            ),
            format!("`lightcell remote check {}` looks at each link", remote.name),
        ));
    }
    let said = String::from_utf8_lossy(&out.stdout);
    let mark = format!("{}\n", target::ANSWER);
    print!("{}", said.split_once(&mark).map_or(&*said, |(_, answer)| answer));
    Ok(ExitCode::SUCCESS)
}

fn remove(remote: &Remote) -> Result<ExitCode> {
    if remote.target.keep.is_some()
        && let Err(error) = ask(remote, &["end", &remote.name])
    {
        ui::note(&format!(
            "kernels that are kept there could not be ended, and end with their time: {error:#}"
        ));
    }
    std::fs::remove_dir_all(&remote.spec).with_context(|| format!("cannot remove {}", remote.spec.display()))?;
    println!(
        "The remote {} is removed; what is set up on {} stays there.",
        remote.name,
        remote.target.shown()
    );
    Ok(ExitCode::SUCCESS)
}

/// Jupyter's rule for the names of kernels.
fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || !name.chars().all(good) {
        return Err(problem(
            format!("`{name}` cannot be a kernel's name"),
            "use letters, digits, `.`, `_` and `-`",
        ));
    }
    Ok(())
}

fn add(add: Add) -> Result<ExitCode> {
    check_name(&add.name)?;
    let mut target = Target::read(&add.address, add.slurm, add.dir, add.ssh_args)?;
    target.keep = add.keep;
    let place = Place::find()?;
    let program = program(&place)?;
    provide(&place, &target, add.yes)?;
    let remote = Remote {
        spec: kernels()?.join(format!("{FOLDER}{}", add.name)),
        name: add.name,
        target,
    };
    kernelspec::write(&remote.spec, &spec(&place, &program, &remote))?;
    let code = check(&remote)?;
    if code == ExitCode::SUCCESS {
        println!("\nChoose the kernel \"Rust on {}\" in a notebook.", remote.name);
    }
    Ok(code)
}

/// The program that Jupyter starts, built if need be: a machine for the browser only needs nothing else of Lightcell.
fn program(place: &Place) -> Result<PathBuf> {
    let there = place.join("bin/lightcell-remote");
    let wanted = concat!("lightcell-remote ", env!("CARGO_PKG_VERSION"));
    if output(Command::new(&there).arg("--version")).is_ok_and(|version| version == wanted) {
        return Ok(there);
    }
    place.check_free()?;
    let tools = (preflight::cargo()?, preflight::rustc()?.0);
    let _lock = place.lock()?;
    kernel::build_remote(place, &tools.0, &tools.1, &sources::root(place)?)
}

/// Sees to an installation at the other end.
fn provide(place: &Place, target: &Target, yes: bool) -> Result<()> {
    let Some(host) = &target.host else { return Ok(()) };
    let look = || host::look(target);
    match look()? {
        host::Found::Ready => return Ok(()),
        host::Found::Missing(what) => {
            ui::note(&format!("on {}: {what}", host.name));
        }
    }
    let asked = format!("Set Lightcell up on {} (needs Rust there, takes minutes)?", host.name);
    let agreed = yes || std::io::stdin().is_terminal() && ui::confirmed(&asked)?;
    if !agreed {
        return Err(problem(
            format!("Lightcell is not ready on {}", host.name),
            "run the same command with --yes to set it up there, or `lightcell setup` there yourself",
        ));
    }
    host::set_up(place, target)?;
    match look()? {
        host::Found::Ready => Ok(()),
        host::Found::Missing(what) => Err(problem(
            format!("Lightcell is not ready on {}: {what}", host.name),
            format!("run `lightcell doctor` on {}", host.name),
        )),
    }
}

/// `kernel.json`.
fn spec(place: &Place, program: &Path, remote: &Remote) -> serde_json::Value {
    let mut argv = vec![
        program.to_string_lossy().into_owned(),
        "launch".to_owned(),
        remote.name.clone(),
        remote.target.shown().to_owned(),
        "-f".to_owned(),
        "{connection_file}".to_owned(),
        "--".to_owned(),
    ];
    argv.extend(remote.target.launch(program, Some(&remote.name)));
    json!({
        "argv": argv,
        "display_name": format!("Rust on {}", remote.name),
        "language": "rust",
        "interrupt_mode": "message",
        "env": {"LIGHTCELL_HOME": place.root},
        "metadata": {"debugger": false, RECORD: remote.target},
    })
}

/// Goes the whole way once, up to a kernel that runs, and says how far it comes.
fn check(remote: &Remote) -> Result<ExitCode> {
    let ssh = remote.target.host.is_some();
    if ssh && place::on_path("ssh").is_none() {
        return Err(problem(
            "there is no ssh on PATH",
            "install it: apt install openssh-client",
        ));
    }
    if ssh {
        println!("✓ ssh         {}", version_of_ssh());
    }
    let place = Place::find()?;
    let program = place.join("bin/lightcell-remote");
    let mut command = Command::new(&program);
    command
        .args(["probe", &remote.name, remote.target.shown(), "--"])
        .args(remote.target.launch(&program, None))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = place::tied(&mut command).spawn().map_err(|error| {
        problem(
            format!("cannot run {}: {error}", program.display()),
            format!("lightcell remote add {} {}", remote.name, remote.target.address()),
        )
    })?;
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        println!("{}", line?);
    }
    let good = child.wait()?.success();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `doctor` says there. A kernel starts without some parts, and says in its cells what is missing.
fn parts(remote: &Remote) -> Result<ExitCode> {
    match host::look(&remote.target)? {
        host::Found::Ready => {
            println!("✓ {:<11} all parts are there", "doctor");
            Ok(ExitCode::SUCCESS)
        }
        host::Found::Missing(what) => {
            println!(
                "✗ {:<11} {what}\n  {:<11} mend: `lightcell setup` on {}, or `lightcell remote add` here with the same words",
                "doctor",
                "",
                remote.target.shown()
            );
            Ok(ExitCode::FAILURE)
        }
    }
}

fn version_of_ssh() -> String {
    // It says so on standard error.
    let version = output(Command::new("sh").args(["-c", "ssh -V 2>&1"])).unwrap_or_default();
    version.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_is_its_kernelspec() {
        let scratch = crate::place::tests::Scratch::new("remote");
        let remote = Remote {
            name: "gpu".into(),
            target: Target::read("ssh://me@gpu", Slurm::default(), None, Vec::new()).unwrap(),
            spec: scratch.0.join("lightcell-gpu"),
        };
        let place = Place { root: "/lc".into() };
        let json = spec(&place, Path::new("/lc/bin/lightcell-remote"), &remote);
        assert_eq!(
            json["argv"].as_array().unwrap()[..8],
            [
                "/lc/bin/lightcell-remote",
                "launch",
                "gpu",
                "me@gpu",
                "-f",
                "{connection_file}",
                "--",
                "ssh"
            ]
        );
        assert_eq!(json["interrupt_mode"], "message");
        kernelspec::write(&remote.spec, &json).unwrap();
        assert_eq!(record(&remote.spec), Some(remote.target));
        assert_eq!(record(&scratch.0), None);
    }

    #[test]
    fn names_are_jupyters() {
        assert!(check_name("gpu-1.lab_2").is_ok());
        for name in ["", "a b", "ä", "a/b", "$x"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
