//! Asks the front end for input on behalf of the user's code.

use crate::publish::Parent;
use crate::worker::Link;
use jupyter_protocol::messaging::{InputRequest, JupyterMessage};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// What a cell's author reads when its front end cannot be asked.
pub const REFUSED: &str =
    "this front end does not allow input requests (allow_stdin is false): read_line ends with an error\n";

/// Questions on their way to the front end, and who waits for the answer.
#[derive(Clone)]
pub struct Stdin {
    questions: mpsc::UnboundedSender<JupyterMessage>,
    waiting: Arc<Mutex<Option<Arc<Link>>>>,
}

impl Stdin {
    /// The sender of questions, and the queue that the stdin socket empties.
    pub fn new() -> (Stdin, mpsc::UnboundedReceiver<JupyterMessage>) {
        let (questions, receiver) = mpsc::unbounded_channel();
        (
            Stdin {
                questions,
                waiting: Default::default(),
            },
            receiver,
        )
    }

    /// Sends a question; the answer goes to the worker.
    pub fn ask(&self, prompt: String, password: bool, parent: Parent, link: Arc<Link>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(link);
        let _ = self
            .questions
            .send(JupyterMessage::new(InputRequest { prompt, password }, Some(&parent)));
    }

    /// An answer came.
    pub fn answered(&self, line: &str) {
        if let Some(link) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            link.answer(Some(line));
        }
    }

    /// The cell is over; an answer that comes now is for nobody.
    pub fn forget(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
