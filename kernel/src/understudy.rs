//! Completion and inspection while a cell runs.
//!
//! evcxr's analyser is busy with the cell until the cell ends. So while nothing runs this process makes a copy of itself,
//! which shares its memory and answers from the analyser that it has. Of the cells that ran since it was made, it is given
//! the text.

use crate::engine::{Completion, Engine};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Cells that a copy is told of before a new one is made: it reads all their text for each answer.
const CELLS: usize = 20;

/// A copy that has not answered by now will not. Its first answer can take seconds: it may have to read the standard library.
const PATIENCE: Duration = Duration::from_secs(120);

/// The process id of the copy, 0 when there is none: stopping a build must not end it.
static PID: AtomicI32 = AtomicI32::new(0);

/// What is asked: of what ends at a byte offset of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum About {
    /// What can stand there.
    Completions,
    /// What it is.
    Documentation,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Question {
    about: About,
    code: String,
    offset: usize,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The byte range they replace, and the completions.
    Completions(usize, usize, Vec<Completion>),
    /// Plain text and HTML.
    Documentation(Option<(String, String)>),
}

/// Who answers while the executor is busy.
#[derive(Default)]
pub struct Understudy {
    copy: Mutex<Option<Copy>>,
    since: Mutex<Since>,
    /// The newest answer: one that came too late for whoever asked is there when they ask again.
    last: Mutex<Option<(Question, Answer)>>,
}

/// What happened since the copy was made.
#[derive(Default)]
struct Since {
    cells: Vec<String>,
    /// Something that a text does not tell, such as a crate that was added.
    outdated: bool,
}

struct Copy {
    pid: i32,
    stream: BufReader<UnixStream>,
}

/// Whether a process is the copy.
pub fn is(pid: i32) -> bool {
    PID.load(Ordering::SeqCst) == pid
}

impl Understudy {
    /// A cell was kept.
    pub fn after(&self, cell: &str) {
        let (commands, rust): (Vec<&str>, Vec<&str>) = cell.lines().partition(|line| is_command(line));
        let mut since = lock(&self.since);
        since.outdated |= !commands.is_empty();
        since.cells.push(rust.join("\n"));
    }

    /// The engine is another one.
    pub fn forget(&self) {
        lock(&self.since).outdated = true;
    }

    /// Makes a copy where there is none or it knows too little. To be called by the executor's thread between two cells.
    pub fn renew(&self, engine: &mut Engine) {
        // While it is being asked it is good enough.
        let Ok(mut copy) = self.copy.try_lock() else { return };
        let mut since = lock(&self.since);
        if copy.is_some() && !since.outdated && since.cells.len() <= CELLS {
            return;
        }
        *copy = None;
        let begun = std::time::Instant::now();
        match Copy::new(engine) {
            Ok(made) => {
                tracing::info!(
                    "a copy that completes while cells run was made in {:?}",
                    begun.elapsed()
                );
                *copy = Some(made);
                *since = Since::default();
                *lock(&self.last) = None;
            }
            Err(error) => tracing::warn!("no completion while cells run: {error}"),
        }
    }

    /// Asks the copy; waits for its answer. Nothing while it answers someone else.
    pub fn ask(&self, about: About, code: &str, offset: usize) -> Option<Answer> {
        let before: String = lock(&self.since).cells.iter().map(|cell| ended(cell)).collect();
        let question = Question {
            about,
            code: format!("{before}{code}"),
            offset: before.len() + offset,
        };
        if let Some((_, answer)) = lock(&self.last).as_ref().filter(|(of, _)| *of == question) {
            return Some(answer.clone());
        }
        let mut place = self.copy.try_lock().ok()?;
        let answer = match place.as_mut()?.answer(&question) {
            Ok(Answer::Completions(start, end, list)) if start >= before.len() => {
                Some(Answer::Completions(start - before.len(), end - before.len(), list))
            }
            Ok(Answer::Completions(..)) => None,
            Ok(other) => Some(other),
            Err(error) => {
                tracing::warn!("the copy that completes does not answer: {error}");
                *place = None;
                None
            }
        };
        *lock(&self.last) = answer.clone().map(|answer| (question, answer));
        answer
    }
}

/// A command of evcxr's, as opposed to a path from the root.
fn is_command(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with(':') && !line.starts_with("::")
}

/// A cell's text, so that another cell's can follow.
fn ended(cell: &str) -> String {
    match cell.trim_end().chars().next_back() {
        None => String::new(),
        Some(';' | '}') => format!("{cell}\n"),
        Some(_) => format!("{cell}\n;\n"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Copy {
    fn new(engine: &mut Engine) -> std::io::Result<Copy> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        ours.set_write_timeout(Some(PATIENCE))?;
        let parent = std::process::id();
        // SAFETY: the child runs on this thread alone. It uses the engine, which is this thread's, and nothing that another
        // thread may have locked: no log, no socket. libc's allocator is made for this.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error()),
            0 => {
                if alone(&theirs, parent).is_ok() {
                    let _ = serve(&theirs, engine);
                }
                // SAFETY: ends the child without the parent's destructors.
                unsafe { libc::_exit(0) }
            }
            pid => {
                PID.store(pid, Ordering::SeqCst);
                Ok(Copy {
                    pid,
                    stream: BufReader::new(ours),
                })
            }
        }
    }

    fn answer(&mut self, question: &Question) -> std::io::Result<Answer> {
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        let mut answer = String::new();
        if self.stream.read_line(&mut answer)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        PID.store(0, Ordering::SeqCst);
        // SAFETY: the pid is our own child's, which nobody else waits for.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

/// In the copy: lets go of all that is the kernel's but the connection, and makes it end with the kernel.
fn alone(connection: &UnixStream, parent: u32) -> std::io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let ours = connection.as_raw_fd();
    // SAFETY: descriptor and process calls in a process of one thread. What is closed is owned by objects that are never
    // dropped here.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() as u32 != parent {
            libc::_exit(0);
        }
        for stdio in 0..3 {
            libc::dup2(null.as_raw_fd(), stdio);
        }
    }
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd > 2 && *fd != ours) {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
    std::mem::forget(null);
    Ok(())
}

/// In the copy: answers until the kernel ends.
fn serve(connection: &UnixStream, engine: &mut Engine) -> std::io::Result<()> {
    let mut writer = connection;
    for line in BufReader::new(connection).lines() {
        let Question { about, code, offset } = serde_json::from_str(&line?)?;
        let answer = match about {
            About::Completions => {
                let (start, end, list) = engine.complete(&code, offset).unwrap_or((offset, offset, Vec::new()));
                Answer::Completions(start, end, list)
            }
            About::Documentation => Answer::Documentation(engine.inspect(&code, offset).ok().flatten()),
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        writer.write_all(&line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_cell_can_follow_a_cell() {
        assert_eq!(ended("let a = 1;"), "let a = 1;\n");
        assert_eq!(ended("fn f() {}\n"), "fn f() {}\n\n");
        assert_eq!(ended("a + 1 // sum"), "a + 1 // sum\n;\n");
        assert_eq!(ended("  "), "");
    }

    #[test]
    fn an_added_crate_needs_a_new_copy_and_its_line_is_left_out() {
        let understudy = Understudy::default();
        understudy.after("::std::mem::drop(1);");
        assert!(!lock(&understudy.since).outdated);
        understudy.after(":dep rand\nlet a = 1;");
        let since = lock(&understudy.since);
        assert!(since.outdated);
        assert_eq!(since.cells, ["::std::mem::drop(1);", "let a = 1;"]);
    }

    #[test]
    fn without_a_copy_there_is_no_answer() {
        assert_eq!(Understudy::default().ask(About::Completions, "a.", 2), None);
    }
}
