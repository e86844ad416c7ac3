//! What the user's code prints and reads.
//!
//! The program exports `write`, `writev` and `read`: an executable's symbols win over libc's for libstd.so, libtorch
//! and every other library, so what goes to descriptors 1 and 2 of this process becomes packets in the order written.
//! Child processes inherit plain pipes.
//!
//! evcxr's generated code prints its control lines to standard output as well. They are told from user text by when
//! they are due: a panic line after the panic hook ran on the cell's thread, an error line right after a write to
//! standard error, a changed-type line before user code began. `EVCXR_BEGIN_CONTENT` blocks count at the start of a
//! line; one that is not closed when the cell ends was text.

use crate::{fds, link};
use lightcell_events::frame::{Display, DisplayKind, Kind, encode_fields};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

static ARMED: AtomicBool = AtomicBool::new(false);
/// Device and inode of the pipes that were put on 1 and 2: another file there is the user's, and left alone.
static PIPES: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
static CELL_THREAD: AtomicI32 = AtomicI32::new(0);
static STATE: Mutex<State> = Mutex::new(State::new());

/// What evcxr was told by a cell's generated code.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// It panicked.
    pub panicked: bool,
    /// A `?` ended it.
    pub error: bool,
}

struct State {
    /// Nothing of the present line was printed yet.
    line_start: bool,
    /// An open `EVCXR_BEGIN_CONTENT` block: its media type and its raw lines.
    block: Option<(String, Vec<u8>)>,
    panic_due: bool,
    /// The newest write of the cell's thread went to standard error.
    after_stderr: bool,
    /// User code has not begun: only evcxr's own checks ran.
    checking: bool,
    /// What these checks have said on standard error of a line that is not over.
    check_text: Vec<u8>,
    /// Where control lines go; -1 while no cell runs.
    control: c_int,
    prompt: Option<(Vec<u8>, bool)>,
    told: Told,
}

impl State {
    const fn new() -> State {
        State {
            line_start: true,
            block: None,
            panic_due: false,
            after_stderr: false,
            checking: false,
            check_text: Vec::new(),
            control: -1,
            prompt: None,
            told: Told {
                panicked: false,
                error: false,
            },
        }
    }

    fn tell(&self, line: &[u8]) {
        write_all(self.control, line);
    }

    /// Takes one line (or the end of the text, without a newline) of standard output.
    fn line(&mut self, line: &[u8]) {
        if let Some((mime, body)) = &mut self.block {
            if line == b"EVCXR_END_CONTENT\n" {
                let content = body.strip_suffix(b"\n").unwrap_or(body).to_vec();
                // evcxr's own form for the value of the last expression is the one that is plain text.
                let kind = if mime == "text/plain" {
                    DisplayKind::Result
                } else {
                    DisplayKind::Display
                };
                let display = Display {
                    kind,
                    id: String::new(),
                    media: vec![(std::mem::take(mime), content)],
                };
                self.block = None;
                link::send(Kind::Display, &display.encode());
            } else {
                body.extend_from_slice(line);
            }
            return;
        }
        if self.panic_due
            && let Some(text) = line.strip_suffix(b"EVCXR_PANIC_NOTIFICATION\n")
        {
            self.panic_due = false;
            self.told.panicked = true;
            self.text(text);
            self.tell(b"EVCXR_PANIC_NOTIFICATION\n");
            return;
        }
        if self.after_stderr
            && let Some(text) = line.strip_suffix(b"EVCXR_ERROR_OCCURRED\n")
        {
            self.text(text);
            self.told.error = true;
            link::send(Kind::UserError, &[]);
            self.tell(b"EVCXR_ERROR_OCCURRED\n");
            return;
        }
        if self.line_start {
            if self.checking
                && let Some(name) = line.strip_prefix(b"EVCXR_VARIABLE_CHANGED_TYPE:")
            {
                link::send(Kind::TypeChanged, name.trim_ascii());
                self.tell(line);
                return;
            }
            if let Some(mime) = line
                .strip_prefix(b"EVCXR_BEGIN_CONTENT ")
                .and_then(|m| m.strip_suffix(b"\n"))
                && !mime.is_empty()
                && !mime.contains(&b' ')
            {
                self.block = Some((String::from_utf8_lossy(mime).into_owned(), Vec::new()));
                return;
            }
            for (start, password) in [
                (&b"EVCXR_INPUT_REQUEST_PASSWORD:"[..], true),
                (b"EVCXR_INPUT_REQUEST:", false),
            ] {
                if let Some(prompt) = line.strip_prefix(start) {
                    self.prompt = Some((prompt.trim_ascii_end().to_vec(), password));
                    return;
                }
            }
        }
        self.text(line);
    }

    fn text(&mut self, text: &[u8]) {
        if let Some(last) = text.last() {
            self.user_code();
            self.line_start = *last == b'\n';
            link::send(Kind::Stdout, text);
        }
    }

    /// Something was printed that is not evcxr's: its checks are over, and what was held back was the user's.
    fn user_code(&mut self) {
        if self.checking {
            self.checking = false;
            link::send(Kind::Stderr, &std::mem::take(&mut self.check_text));
        }
    }

    /// Standard error. What evcxr says there of a type that was defined again is left to the kernel to say; it comes in
    /// pieces.
    fn stderr(&mut self, text: &[u8]) {
        const LOST: &[u8] = b"The type of the variable ";
        if !self.checking {
            link::send(Kind::Stderr, text);
            return;
        }
        self.check_text.extend_from_slice(text);
        let known = self.check_text.len().min(LOST.len());
        if self.check_text[..known] != LOST[..known] {
            self.user_code();
        } else if self.check_text.ends_with(b" was redefined, so was lost.\n") {
            self.check_text.clear();
        } else if self.check_text.ends_with(b"\n") {
            self.user_code();
        }
    }

    fn stdout(&mut self, text: &[u8]) {
        let marked = self.block.is_some() || contains(text, b"EVCXR_");
        if marked {
            for line in text.split_inclusive(|byte| *byte == b'\n') {
                self.line(line);
            }
        } else {
            self.text(text);
        }
        self.after_stderr = false;
    }

    /// A block that was begun and never ended was the user's text.
    fn unclosed(&mut self) {
        if let Some((mime, body)) = self.block.take() {
            let mut text = format!("EVCXR_BEGIN_CONTENT {mime}\n").into_bytes();
            text.extend_from_slice(&body);
            self.text(&text);
        }
    }
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == what[0]) {
        if rest[at..].starts_with(what) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on what goes to 1 and 2 becomes packets.
pub fn arm() {
    for (slot, fd) in [(0, 1), (2, 2)] {
        if let Some((device, inode)) = fds::identity(fd) {
            PIPES[slot].store(device, Ordering::Relaxed);
            PIPES[slot + 1].store(inode, Ordering::Relaxed);
        }
    }
    ARMED.store(true, Ordering::Release);
}

/// A cell begins on this thread; its control lines go to `control`.
pub fn begin_cell(control: c_int) {
    CELL_THREAD.store(thread_id(), Ordering::Relaxed);
    let mut state = state();
    let line_start = state.line_start;
    *state = State {
        control,
        checking: true,
        line_start,
        ..State::new()
    };
}

/// The cell's function has returned and its buffers are flushed.
pub fn end_cell() -> Told {
    let mut state = state();
    state.unclosed();
    state.user_code();
    state.control = -1;
    state.told
}

/// Whether this is the thread on which the cell's own statements run.
pub fn is_cell_thread() -> bool {
    CELL_THREAD.load(Ordering::Relaxed) == thread_id()
}

/// The panic hook ran on the cell's thread: evcxr's notification may follow.
pub fn expect_panic_line() {
    state().panic_due = true;
}

fn thread_id() -> i32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::gettid() }
}

/// Whether a write to this descriptor is the user's print: 1 or 2, and still the pipe that was put there.
fn is_print(fd: c_int) -> bool {
    if !(fd == 1 || fd == 2) || !ARMED.load(Ordering::Acquire) {
        return false;
    }
    let slot = if fd == 1 { 0 } else { 2 };
    fds::identity(fd)
        == Some((
            PIPES[slot].load(Ordering::Relaxed),
            PIPES[slot + 1].load(Ordering::Relaxed),
        ))
}

fn print(fd: c_int, text: &[u8]) {
    let mut state = state();
    if fd == 1 {
        state.stdout(text);
    } else {
        if is_cell_thread() {
            state.after_stderr = true;
        }
        state.stderr(text);
    }
}

/// Writes all of it with the system call itself.
pub fn write_all(fd: c_int, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: reads from a live slice.
        let written = unsafe { raw(libc::SYS_write, fd, bytes.as_ptr() as usize, bytes.len()) };
        match usize::try_from(written) {
            Ok(written) => bytes = &bytes[written..],
            Err(_) if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// # Safety
/// As for the system call of that number.
unsafe fn raw(call: i64, fd: c_int, pointer: usize, len: usize) -> isize {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(call, fd, pointer, len) as isize }
}

/// libc's `write`, for every library of this process.
///
/// # Safety
/// As for libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, buffer: *const c_void, len: usize) -> isize {
    if len > 0 && is_print(fd) {
        // SAFETY: the caller's promise.
        print(fd, unsafe { std::slice::from_raw_parts(buffer.cast(), len) });
        return len as isize;
    }
    // SAFETY: the caller's promise.
    unsafe { raw(libc::SYS_write, fd, buffer as usize, len) }
}

/// libc's `writev`, for every library of this process.
///
/// # Safety
/// As for libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const libc::iovec, count: c_int) -> isize {
    if count > 0 && is_print(fd) {
        let mut text = Vec::new();
        // SAFETY: the caller's promise.
        for part in unsafe { std::slice::from_raw_parts(parts, count as usize) } {
            if part.iov_len > 0 {
                // SAFETY: the caller's promise.
                text.extend_from_slice(unsafe { std::slice::from_raw_parts(part.iov_base.cast::<u8>(), part.iov_len) });
            }
        }
        print(fd, &text);
        return text.len() as isize;
    }
    // SAFETY: the caller's promise.
    unsafe { raw(libc::SYS_writev, fd, parts as usize, count as usize) }
}

/// libc's `read`: on descriptor 0 it asks the front end for a line.
///
/// # Safety
/// As for libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: c_int, buffer: *mut c_void, len: usize) -> isize {
    if fd == 0 && ARMED.load(Ordering::Acquire) && len > 0 {
        // SAFETY: the caller's promise.
        return input(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), len) });
    }
    // SAFETY: the caller's promise.
    unsafe { raw(libc::SYS_read, fd, buffer as usize, len) }
}

/// What of the last line is still unread.
static LINE: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn input(into: &mut [u8]) -> isize {
    let mut line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
    if line.is_empty() {
        // The question that `print!` asked stands in Rust's buffer until its line ends.
        let _ = std::io::Write::flush(&mut std::io::stdout());
        let (prompt, password) = {
            let mut state = state();
            state.prompt.take().unwrap_or_default()
        };
        link::send(
            Kind::Input,
            &encode_fields([&prompt[..], if password { b"1" } else { b"0" }]),
        );
        match link::receive_line() {
            Some(text) => {
                *line = text;
                line.push(b'\n');
            }
            None => {
                // SAFETY: the address of this thread's errno.
                unsafe { *libc::__errno_location() = libc::EIO };
                return -1;
            }
        }
    }
    let count = line.len().min(into.len());
    into[..count].copy_from_slice(&line[..count]);
    line.drain(..count);
    count as isize
}
