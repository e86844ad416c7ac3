//! Messages to all front ends, in one bounded queue: a cell that prints for ever waits for its readers instead of
//! filling the kernel's memory.

use jupyter_protocol::messaging::{
    DisplayData, ErrorOutput, ExecuteInput, ExecuteResult, ExecutionState, JupyterMessage, JupyterMessageContent,
    Status, StreamContent, Transient, UpdateDisplayData,
};
use jupyter_protocol::{ExecutionCount, Media, MediaType};
use std::sync::Arc;
use tokio::sync::mpsc;

/// How many messages may wait. One stream message holds at most 64 KiB.
const QUEUE: usize = 256;

/// Puts messages into the queue.
#[derive(Clone)]
pub struct Publisher {
    sender: mpsc::Sender<JupyterMessage>,
}

/// The request that outputs belong to.
pub type Parent = Arc<JupyterMessage>;

impl Publisher {
    /// A queue and its other end.
    pub fn new() -> (Publisher, mpsc::Receiver<JupyterMessage>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Publisher { sender }, receiver)
    }

    /// From a thread; waits while the queue is full.
    pub fn send(&self, content: impl Into<JupyterMessageContent>, parent: Option<&Parent>) {
        let _ = self.sender.blocking_send(message(content.into(), parent));
    }

    /// From a task; waits while the queue is full.
    pub async fn send_async(&self, content: impl Into<JupyterMessageContent>, parent: Option<&Parent>) {
        let _ = self.sender.send(message(content.into(), parent)).await;
    }

    /// Busy or idle, from a task.
    pub async fn status_async(&self, state: ExecutionState, parent: &Parent) {
        self.send_async(Status { execution_state: state }, Some(parent)).await;
    }

    /// Text of a stream.
    pub fn stream(&self, stderr: bool, text: &str, parent: Option<&Parent>) {
        if !text.is_empty() {
            self.send(
                if stderr {
                    StreamContent::stderr(text)
                } else {
                    StreamContent::stdout(text)
                },
                parent,
            );
        }
    }

    /// A new output.
    pub fn display(&self, media: Media, id: Option<&str>, parent: Option<&Parent>) {
        self.send(
            DisplayData {
                data: media,
                metadata: Default::default(),
                transient: id.map(transient),
            },
            parent,
        );
    }

    /// A new state of an output.
    pub fn update(&self, media: Media, id: &str, parent: Option<&Parent>) {
        self.send(
            UpdateDisplayData {
                data: media,
                metadata: Default::default(),
                transient: transient(id),
            },
            parent,
        );
    }

    /// The value of a cell.
    pub fn result(&self, media: Media, count: usize, parent: Option<&Parent>) {
        self.send(
            ExecuteResult {
                execution_count: ExecutionCount::new(count),
                data: media,
                metadata: Default::default(),
                // An empty object: null is not valid here.
                transient: Some(Transient { display_id: None }),
            },
            parent,
        );
    }

    /// The cell's text, for front ends that did not send it.
    pub fn input(&self, code: &str, count: usize, parent: &Parent) {
        self.send(
            ExecuteInput {
                code: code.to_owned(),
                execution_count: ExecutionCount::new(count),
            },
            Some(parent),
        );
    }

    /// What went wrong.
    pub fn error(&self, error: &crate::report::Report, parent: &Parent) {
        self.send(
            ErrorOutput {
                ename: error.ename.clone(),
                evalue: error.evalue.clone(),
                traceback: error.traceback.clone(),
            },
            Some(parent),
        );
    }

    /// Busy or idle.
    pub fn status(&self, state: ExecutionState, parent: &Parent) {
        self.send(Status { execution_state: state }, Some(parent));
    }
}

fn transient(id: &str) -> Transient {
    Transient {
        display_id: Some(id.to_owned()),
    }
}

fn message(content: JupyterMessageContent, parent: Option<&Parent>) -> JupyterMessage {
    let mut message = JupyterMessage::new(content, parent.map(|parent| &**parent));
    // Subscribers take everything; identities are for replies.
    message.zmq_identities.clear();
    message
}

/// A media bundle from types and contents as they came from the worker.
pub fn media(parts: &[(String, Vec<u8>)]) -> Media {
    use base64::Engine;
    let mut content = Vec::with_capacity(parts.len());
    for (mime, bytes) in parts {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            // Raw bytes of a picture.
            Err(_) => base64::engine::general_purpose::STANDARD.encode(bytes),
        };
        content.push(media_type(mime, text));
    }
    Media::new(content)
}

fn media_type(mime: &str, text: String) -> MediaType {
    if mime.ends_with("json")
        && let Ok(value) = serde_json::from_str::<serde_json::Value>(&text)
    {
        return MediaType::Other((mime.to_owned(), value));
    }
    match mime {
        "text/plain" => MediaType::Plain(text),
        "text/html" => MediaType::Html(text),
        "text/markdown" => MediaType::Markdown(text),
        "text/latex" => MediaType::Latex(text),
        "image/svg+xml" => MediaType::Svg(text),
        // evcxr's crates send base64 with line breaks now and then.
        "image/png" => MediaType::Png(text.split_whitespace().collect()),
        "image/jpeg" => MediaType::Jpeg(text.split_whitespace().collect()),
        _ => MediaType::Other((mime.to_owned(), serde_json::Value::String(text))),
    }
}

/// Plain text and HTML.
pub fn text_html(text: impl Into<String>, html: impl Into<String>) -> Media {
    Media::new(vec![MediaType::Plain(text.into()), MediaType::Html(html.into())])
}

/// Plain text.
pub fn text(text: impl Into<String>) -> Media {
    Media::new(vec![MediaType::Plain(text.into())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_pictures_are_encoded_and_encoded_ones_kept() {
        let png = |bytes: &[u8]| match &media(&[("image/png".into(), bytes.to_vec())]).content[0] {
            MediaType::Png(text) => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(png(&[0x89, b'P', 0xff]), "iVD/");
        assert_eq!(png(b"iV\nD/\n"), "iVD/");
    }

    #[test]
    fn json_stays_json() {
        let parts = [("application/vnd.x+json".to_owned(), b"{\"a\":1}".to_vec())];
        assert!(matches!(
            &media(&parts).content[0],
            MediaType::Other((_, serde_json::Value::Object(_)))
        ));
    }
}
