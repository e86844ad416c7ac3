//! `lightcell-remote queue MARK [SRUN'S ARGUMENTS]`: where Slurm's commands are. It asks for an allocation with `serve` in
//! it, says how the job stands while it waits, and hands frames on between the launcher and the job. Each of the two lines
//! has beats of its own, as nobody reads the job's while it is in the queue.

use crate::frame::{Frame, Problem, Waiting};
use crate::link::{self, Event};
use crate::{kernel, serve};
use anyhow::{Context, Result};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::Receiver;

/// Slurm is asked so often, as long as the job waits.
const LOOK: Duration = Duration::from_secs(1);
/// And so often when it runs.
const GLANCE: Duration = Duration::from_secs(20);
/// Before the end of the job the user is warned.
const WARNING: i64 = 600;
/// The kernel there has so long to end by itself.
const PATIENCE: Duration = Duration::from_secs(4);
const LAST: Duration = Duration::from_millis(500);

/// Serves until the launcher or the job has gone.
pub fn run(mark: &str, args: &[String]) -> Result<ExitCode> {
    // Jupyter kills whole groups of processes; this one has to end the job.
    // SAFETY: a plain call; it fails where this process leads a group already, which is as good.
    unsafe { libc::setsid() };
    let mut stdout = serve::take_stdout()?;
    std::io::Write::write_all(&mut stdout, format!("\n{mark}\n").as_bytes())?;
    let (to, from) = link::open(std::io::stdin(), stdout, None);
    let runtime = crate::runtime()?;
    match runtime.block_on(queue(args, &to, from)) {
        Ok(()) => to.send(Frame::Ended),
        Err(problem) => to.send(Frame::Failed(problem)),
    }
    to.close(LAST);
    std::process::exit(0);
}

/// srun and the line through it.
struct Job {
    srun: Child,
    stderr: Arc<Mutex<String>>,
    /// Its name in Slurm, which nobody else has.
    name: String,
    to: link::Sender,
    from: Receiver<Event>,
}

fn submit(args: &[String]) -> Result<Job, Problem> {
    use std::os::unix::process::CommandExt;
    let trouble = |error: anyhow::Error| Problem::new(format!("{error:#}"), "restart the kernel to try again");
    let random = kernel::random().map_err(trouble)?;
    let (name, mark) = (format!("lightcell-{random}"), format!("lightcell-mark-{random}"));
    let me = std::env::current_exe()
        .context("cannot find this program")
        .map_err(trouble)?;
    let mut command = Command::new("srun");
    command
        // One task; a step that a cell starts shares its processors. Its end is the job's, and nothing is printed between.
        .args([
            "--ntasks=1",
            "--overlap",
            "--input=0",
            "--unbuffered",
            "--kill-on-bad-exit=0",
        ])
        .arg(format!("--job-name={name}"))
        .args(args)
        .arg(me)
        .args(["serve", &mark])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: the closure runs in the new process and makes one system call. Killed with its whole group, srun would leave
    // the job behind.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            Ok(())
        });
    }
    let mut srun = command.spawn().map_err(|error| {
        Problem::new(
            format!("there is no srun on {}: {error}", serve::machine()),
            "name the login host in the address: slurm://HOST",
        )
    })?;
    let stderr = Arc::new(Mutex::new(String::new()));
    if let Some(pipe) = srun.stderr.take() {
        kernel::keep_tail(pipe, stderr.clone());
    }
    let (Some(read), Some(write)) = (srun.stdout.take(), srun.stdin.take()) else {
        return Err(trouble(anyhow::anyhow!("no pipe")));
    };
    let (to, from) = link::open(read, write, Some(mark));
    Ok(Job {
        srun,
        stderr,
        name,
        to,
        from,
    })
}

async fn queue(args: &[String], to: &link::Sender, mut from: Receiver<Event>) -> Result<(), Problem> {
    let Some(Event::Frame(Frame::Hello(hello))) = from.recv().await else {
        return Ok(());
    };
    let trouble = |error: std::io::Error| Problem::new(error.to_string(), "restart the kernel to try again");
    let mut terminated = signal(SignalKind::terminate()).map_err(trouble)?;
    let mut hung_up = signal(SignalKind::hangup()).map_err(trouble)?;
    let mut job = submit(args)?;
    job.to.send(Frame::Hello(hello));
    let mut seen: Option<Seen> = None;
    let (mut runs, mut warned, mut looked) = (false, false, None::<Instant>);
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            event = from.recv() => match event {
                Some(Event::Frame(frame)) => job.to.send(frame),
                // The launcher has gone.
                _ => break,
            },
            event = job.from.recv() => match event {
                Some(Event::Frame(Frame::Ready(mut running))) => {
                    seen = look(&job.name).await.or(seen);
                    if let Some(seen) = &seen {
                        running.text = seen.running(&running.machine);
                    }
                    runs = true;
                    to.send(Frame::Ready(running));
                    if let Some(seen) = seen.as_ref().filter(|seen| seen.ends_soon()) {
                        warned = true;
                        to.send(Frame::Note(seen.warning()));
                    }
                }
                Some(Event::Frame(Frame::Ended)) => {
                    job.end(runs).await;
                    return Ok(());
                }
                // The task was told to end by Slurm: that is the job's end, and Slurm knows why.
                Some(Event::Frame(Frame::Failed(problem))) => {
                    let ended = problem.what.contains(serve::TOLD);
                    let why = job.why(seen.as_ref(), ended).await;
                    job.end(runs).await;
                    return Err(if ended { why } else { problem });
                }
                Some(Event::Frame(frame)) => to.send(frame),
                Some(Event::Silent) => {
                    job.end(runs).await;
                    return Err(Problem::new(
                        format!("nothing is heard of {} any more", seen.map_or("the job".into(), |seen| seen.job())),
                        "restart the kernel for a new job",
                    ));
                }
                Some(Event::Closed(_)) | None => {
                    let why = job.why(seen.as_ref(), true).await;
                    job.end(runs).await;
                    return Err(why);
                }
            },
            _ = tick.tick() => {
                let pause = if runs { GLANCE } else { LOOK };
                if looked.is_some_and(|at| at.elapsed() < pause) {
                    continue;
                }
                let now = look(&job.name).await;
                looked = Some(Instant::now());
                if let Some(now) = now {
                    if !runs && now.state == "PENDING" {
                        to.send(Frame::Waiting(Waiting { text: now.waiting() }));
                    }
                    if runs && !warned && now.ends_soon() {
                        warned = true;
                        to.send(Frame::Note(now.warning()));
                    }
                    seen = Some(now);
                }
            }
            _ = terminated.recv() => break,
            _ = hung_up.recv() => break,
        }
    }
    job.end(runs).await;
    Ok(())
}

/// A job as Slurm shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    id: String,
    state: String,
    partition: String,
    reason: String,
    start: String,
    node: String,
    end: String,
    /// Seconds.
    left: Option<i64>,
}

const FORMAT: &str = "%i|%T|%P|%r|%S|%N|%e|%L";

async fn look(name: &str) -> Option<Seen> {
    let name = name.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let format = format!("--format={FORMAT}");
        Command::new("squeue")
            .args(["--noheader", "--name", &name, &format])
            .stdin(Stdio::null())
            .output()
            .ok()
    });
    let out = asked.await.ok()??;
    Seen::read(String::from_utf8_lossy(&out.stdout).lines().next()?)
}

impl Seen {
    fn read(line: &str) -> Option<Seen> {
        let mut fields = line.split('|').map(|field| field.trim().to_owned());
        let mut next = || fields.next();
        Some(Seen {
            id: next()?,
            state: next()?,
            partition: next()?,
            reason: next()?,
            start: next()?,
            node: next()?,
            end: next()?,
            left: seconds(&next()?),
        })
    }

    fn job(&self) -> String {
        format!("Slurm's job {}", self.id)
    }

    fn waiting(&self) -> String {
        let start = match self.start.as_str() {
            "" | "N/A" => "Slurm does not say when it starts".to_owned(),
            start => format!("expected start {}", start.replace('T', " ")),
        };
        format!(
            "{} waits in the queue {} ({}); {start}",
            self.job(),
            self.partition,
            self.reason
        )
    }

    fn running(&self, machine: &str) -> String {
        let node = match self.node.as_str() {
            "" => machine.to_owned(),
            node if node == machine => node.to_owned(),
            node => format!("{node} ({machine})"),
        };
        let left = match self.left {
            Some(left) => format!(", {} left, until {}", span(left), self.end.replace('T', " ")),
            None => String::new(),
        };
        format!("{} runs on {node}{left}", self.job())
    }

    fn ends_soon(&self) -> bool {
        self.left.is_some_and(|left| left <= WARNING)
    }

    fn warning(&self) -> String {
        format!(
            "{} ends in {}, at {}, and the kernel with it: write what is to be kept",
            self.job(),
            span(self.left.unwrap_or(0)),
            self.end.replace('T', " ")
        )
    }
}

/// Slurm's `days-hours:minutes:seconds`, any front part left out.
fn seconds(text: &str) -> Option<i64> {
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (days.parse().ok()?, rest),
        None => (0, text),
    };
    let mut total: i64 = 0;
    for part in rest.split(':') {
        total = total * 60 + part.parse::<i64>().ok()?;
    }
    Some(total + 86_400 * days)
}

/// For people: the two largest units.
fn span(seconds: i64) -> String {
    match seconds {
        s if s >= 86_400 => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
        s if s >= 3600 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        s if s >= 60 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

impl Job {
    /// Why it ended, or did not begin.
    async fn why(&mut self, seen: Option<&Seen>, wait: bool) -> Problem {
        let begun = Instant::now();
        while wait && begun.elapsed() < PATIENCE && matches!(self.srun.try_wait(), Ok(None)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let text = self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone();
        explain(&text, seen)
    }

    /// Ends it. A kernel that runs ends by its line; a job that waits, or stays, is cancelled.
    async fn end(&mut self, runs: bool) {
        self.to.close(LAST);
        let begun = Instant::now();
        let mut cancelled = false;
        loop {
            if !matches!(self.srun.try_wait(), Ok(None)) {
                break;
            }
            let patience = if runs { PATIENCE } else { Duration::ZERO };
            if !cancelled && begun.elapsed() >= patience {
                cancelled = true;
                self.cancel();
            }
            if begun.elapsed() > PATIENCE + PATIENCE {
                let _ = self.srun.kill();
                let _ = self.srun.wait();
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // srun may have been killed: the job then stays for a while.
        if !cancelled {
            self.cancel();
        }
    }

    fn cancel(&self) {
        let mut scancel = Command::new("scancel");
        let _ = scancel
            .arg("--quiet")
            .args(["--name", &self.name])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// What srun said, in the user's words.
fn explain(text: &str, seen: Option<&Seen>) -> Problem {
    let has = |sign: &str| text.contains(sign);
    let again = "`lightcell remote add` with the same name changes it";
    let job = seen.map_or("the job".to_owned(), Seen::job);
    let last = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no word")
        .trim();
    let last = last.trim_start_matches("srun: ").trim_start_matches("error: ");
    if has("invalid partition") || has("Invalid partition") {
        return Problem::new(
            format!("Slurm knows no such partition: {last}"),
            format!("`sinfo` on the login host shows them; {again}"),
        );
    }
    if has("DUE TO TIME LIMIT") || has("TIME LIMIT") {
        return Problem::new(
            format!("{job} has used up its time; the kernel has ended, its variables are gone"),
            format!("restart the kernel for a new job; for a longer one, {again} (--time)"),
        );
    }
    if has("Requested time limit is invalid") || has("time limit specification") {
        return Problem::new(
            format!("Slurm does not grant so long: {last}"),
            format!("`sinfo` shows each partition's limit; {again} (--time)"),
        );
    }
    if has("node configuration is not available") || has("Invalid generic resource") || has("Invalid feature") {
        return Problem::new(
            format!("no node of Slurm has what is asked for: {last}"),
            format!("`sinfo` shows what there is; {again}"),
        );
    }
    if has("Unable to contact slurm controller") || has("Unable to contact") {
        return Problem::new(
            "Slurm does not answer",
            "`scontrol ping` on the login host asks it; then restart the kernel",
        );
    }
    if has("CANCELLED")
        || has("revoked")
        || has("Force Terminated")
        || has("cancelled")
        || has("Job has been cancelled")
    {
        return Problem::new(
            format!("{job} was cancelled; the kernel has ended, its variables are gone"),
            "restart the kernel for a new job",
        );
    }
    if has("NODE FAIL") || has("Node failure") {
        return Problem::new(
            format!("the node of {job} has failed"),
            "restart the kernel for a new job",
        );
    }
    Problem::new(format!("{job} has ended: {last}"), "restart the kernel for a new job")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_put_into_words() {
        let waits = Seen::read("12|PENDING|gpu|Resources|2026-11-28T14:05:00||N/A|1:00:00").unwrap();
        assert_eq!(
            waits.waiting(),
            "Slurm's job 12 waits in the queue gpu (Resources); expected start 2026-11-28 14:05:00"
        );
        let waits = Seen::read("12|PENDING|gpu|Priority|N/A||N/A|1:00:00").unwrap();
        assert!(
            waits
                .waiting()
                .ends_with("(Priority); Slurm does not say when it starts")
        );
        let runs = Seen::read("12|RUNNING|gpu|None|2026-11-28T14:05:00|n1|2026-11-28T15:05:00|9:59").unwrap();
        assert_eq!(
            runs.running("box"),
            "Slurm's job 12 runs on n1 (box), 9 min left, until 2026-11-28 15:05:00"
        );
        assert!(
            runs.warning()
                .starts_with("Slurm's job 12 ends in 9 min, at 2026-11-28 15:05:00")
        );
        let endless = Seen::read("12|RUNNING|gpu|None|x|box|NONE|UNLIMITED").unwrap();
        assert_eq!(endless.running("box"), "Slurm's job 12 runs on box");
        assert_eq!(Seen::read("12|RUNNING"), None);
    }

    #[test]
    fn slurms_times_are_read() {
        for (text, value) in [
            ("0:05", Some(5)),
            ("1:00:00", Some(3600)),
            ("2-00:00:01", Some(172_801)),
            ("UNLIMITED", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), value, "{text}");
        }
        assert_eq!(
            [30, 90, 3700, 90_000].map(span),
            ["30 s", "1 min", "1 h 1 min", "1 d 1 h"]
        );
    }

    #[test]
    fn what_srun_says_is_put_into_words() {
        let seen = Seen::read("7|RUNNING|p|None|x|n1|NONE|0:10");
        for (text, what) in [
            (
                "srun: error: invalid partition specified: nope\nsrun: error: Unable to allocate resources: Invalid partition name specified",
                "Slurm knows no such partition: ",
            ),
            (
                "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-28T03:00:00 DUE TO TIME LIMIT ***",
                "Slurm's job 7 has used up its time",
            ),
            ("srun: Force Terminated job 7", "Slurm's job 7 was cancelled"),
            (
                "srun: error: Unable to allocate resources: Requested node configuration is not available",
                "no node of Slurm has what is asked for: Unable to allocate",
            ),
            (
                "srun: error: Unable to contact slurm controller (connect failure)",
                "Slurm does not answer",
            ),
            ("srun: odd", "Slurm's job 7 has ended: odd"),
        ] {
            let problem = explain(text, seen.as_ref());
            assert!(problem.what.starts_with(what), "{problem:?}");
        }
        assert_eq!(explain("", None).what, "the job has ended: no word");
    }
}
