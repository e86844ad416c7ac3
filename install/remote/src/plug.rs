//! The kernel's sockets, from a client's side: messages go through as they are, signatures and all.

use crate::frame::{Channel, Frame};
use crate::link;
use anyhow::{Context, Result};
use bytes::Bytes;
use jupyter_protocol::connection_info::ConnectionInfo;
use jupyter_zmq_client as zmq;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use zeromq::{DealerSendHalf, SocketRecv, SocketSend, SubSocket, ZmqMessage};

/// So much of iopub may be under way. A cell that prints faster than its front end reads then waits, as at home.
const WINDOW: i64 = 4 << 20;

/// The connected sockets.
pub struct Plug {
    shell: DealerSendHalf,
    control: DealerSendHalf,
    stdin: DealerSendHalf,
    window: Arc<Window>,
}

/// What of iopub has not yet reached the front end.
#[derive(Default)]
struct Window {
    under_way: AtomicI64,
    moved: Notify,
}

impl Plug {
    /// Connects; messages of the kernel go to `to` from now on.
    pub async fn connect(connection: &ConnectionInfo, to: &link::Sender) -> Result<Plug> {
        let session = crate::kernel::random()?;
        // Shell and stdin are one client for the kernel: its questions go where the cell came from.
        let identity = zmq::peer_identity_for_session(&session)?;
        let mut iopub = zmq::create_client_iopub_connection(connection, "", &session)
            .await?
            .socket;
        let shell = zmq::create_client_shell_connection_with_identity(connection, &session, identity.clone()).await?;
        let stdin = zmq::create_client_stdin_connection_with_identity(connection, &session, identity).await?;
        let control = zmq::create_client_control_connection(connection, &session).await?;
        // The kernel welcomes each subscriber: from then on nothing is missed.
        tokio::time::timeout(Duration::from_secs(10), welcome(&mut iopub))
            .await
            .context("the kernel does not answer")??;
        let window = Arc::new(Window::default());
        let (shell, from_shell) = shell.socket.split();
        let (control, from_control) = control.socket.split();
        let (stdin, from_stdin) = stdin.socket.split();
        tokio::spawn(carry(from_shell, Channel::Shell, to.clone()));
        tokio::spawn(carry(from_control, Channel::Control, to.clone()));
        tokio::spawn(carry(from_stdin, Channel::Stdin, to.clone()));
        tokio::spawn(publish(iopub, to.clone(), window.clone()));
        Ok(Plug {
            shell,
            control,
            stdin,
            window,
        })
    }

    /// Gives a message to the kernel.
    pub async fn give(&mut self, channel: Channel, parts: Vec<Bytes>) {
        let socket = match channel {
            Channel::Shell => &mut self.shell,
            Channel::Control => &mut self.control,
            Channel::Stdin => &mut self.stdin,
            Channel::Iopub => return,
        };
        if let Ok(message) = ZmqMessage::try_from(parts) {
            // A kernel that has ended is noticed by its process.
            let _ = socket.send(message).await;
        }
    }

    /// So many bytes of iopub have arrived.
    pub fn credit(&self, bytes: u32) {
        self.window.under_way.fetch_sub(bytes.into(), Ordering::SeqCst);
        self.window.moved.notify_one();
    }
}

async fn welcome(iopub: &mut SubSocket) -> Result<()> {
    loop {
        let message = iopub.recv().await?;
        if kind(message.iter()).as_deref() == Some("iopub_welcome") {
            return Ok(());
        }
    }
}

/// The type of a message that is not verified.
pub fn kind<'a>(parts: impl Iterator<Item = &'a Bytes>) -> Option<String> {
    let header = parts.skip_while(|part| part[..] != *b"<IDS|MSG>").nth(2)?;
    let header: serde_json::Value = serde_json::from_slice(header).ok()?;
    Some(header["msg_type"].as_str()?.to_owned())
}

async fn carry(mut from: impl SocketRecv, channel: Channel, to: link::Sender) {
    // An error is the kernel's end.
    while let Ok(message) = from.recv().await {
        to.send(Frame::Message(channel, message.into_vec()));
    }
}

async fn publish(mut from: SubSocket, to: link::Sender, window: Arc<Window>) {
    while let Ok(message) = from.recv().await {
        let parts = message.into_vec();
        window.under_way.fetch_add(size(&parts), Ordering::SeqCst);
        to.send(Frame::Message(Channel::Iopub, parts));
        while window.under_way.load(Ordering::SeqCst) > WINDOW {
            window.moved.notified().await;
        }
    }
}

/// What a message counts for in the window.
pub fn size(parts: &[Bytes]) -> i64 {
    parts.iter().map(|part| part.len() as i64 + 4).sum()
}
