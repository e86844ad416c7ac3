//! `lightcell-remote`: stands between a front end here and a kernel on another machine.
//!
//! ```text
//! front end ─ZeroMQ─ launch ─frames, over ssh's (and srun's) pipes─ serve ─ZeroMQ, Unix sockets─ lightcell-kernel
//! ```
//!
//! In a cluster `queue` stands between the two, where Slurm's commands are. With `--keep` a `keeper` stands before these two; it
//! stays when ssh goes. Nothing listens on the other machine but the kernel's own sockets in a private folder, and there are no tunnels that
//! could be left over. The pipes are the life line: when they end or fall silent, both sides end.

mod allocation;
mod answer;
mod backlog;
mod files;
mod frame;
mod front;
mod keep;
mod keeper;
mod kept;
mod kernel;
mod launch;
mod link;
mod log;
mod plug;
mod queue;
mod serve;
mod sign;
mod transfer;
mod words;

use anyhow::{Context, Result, bail};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    run(&args).unwrap_or_else(|error| {
        // Whoever reads standard error may be gone: that is no reason to panic.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("error: {error:#}\n").as_bytes());
        ExitCode::FAILURE
    })
}

fn run(args: &[String]) -> Result<ExitCode> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--version"] => {
            let line = format!("lightcell-remote {}\n", env!("CARGO_PKG_VERSION"));
            std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        ["launch", ..] => launch::run(&launch::Options::read(&args[1..])?),
        ["probe", name, host, "--", ..] if args.len() > 4 => launch::probe(name, host, &args[4..]),
        ["queue", mark, ..] => queue::run(mark, &args[2..]),
        ["serve", mark] => serve::run(mark),
        ["keep", mark, name, limit, _, ..] => keep::run(mark, name, limit, &args[4..]),
        ["keeper", name, limit, _, ..] => keeper::run(name, limit, &args[3..]),
        ["kept", name] => keep::show(name),
        ["end", name] => keep::end_all(name, None),
        ["end", name, id] => keep::end_all(name, Some(id)),
        _ => bail!(
            "usage: lightcell-remote launch … | probe … | queue MARK … | serve MARK | keep … | kept NAME | end NAME | --version\n\
             hint: Jupyter starts it; `lightcell remote add` registers a machine"
        ),
    }
}

/// What each of the programs runs its tasks on.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
