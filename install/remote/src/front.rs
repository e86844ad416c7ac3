//! The sockets that the front end knows: those of its connection file. They are the launcher's, so a front end has
//! somebody to talk to before the kernel runs, and when it never will.

use crate::frame::Channel;
use crate::plug;
use anyhow::{Context, Result};
use bytes::Bytes;
use jupyter_protocol::connection_info::ConnectionInfo;
use jupyter_protocol::messaging::{IoPubWelcome, JupyterMessage, JupyterMessageContent as Content};
use jupyter_zmq_client::{
    self as zmq, KernelHeartbeatConnection, KernelIoPubXPubConnection, RawMessage, RouterRecvConnection,
    RouterSendConnection, SubscriptionEvent,
};
use std::time::Duration;
use tokio::sync::mpsc;
use zeromq::{SocketRecv, SocketSend, ZmqMessage};

/// How many messages to iopub may wait here.
const QUEUE: usize = 256;

/// What a front end sent.
pub struct Request {
    /// Where.
    pub channel: Channel,
    /// As it came.
    pub parts: Vec<Bytes>,
    /// What it says.
    pub message: JupyterMessage,
}

/// Something for all front ends.
enum ToAll {
    /// The kernel's, as it came; the number of bytes it counts for.
    Kernels(Vec<Bytes>),
    /// The launcher's own.
    Own(Box<JupyterMessage>),
}

/// The sending ends.
pub struct Front {
    shell: RouterSendConnection,
    control: RouterSendConnection,
    stdin: RouterSendConnection,
    iopub: mpsc::Sender<ToAll>,
}

impl Front {
    /// Binds all addresses of the connection. Requests arrive at the receiver; `credit` is told what has been published.
    pub async fn bind(
        info: &ConnectionInfo,
        credit: impl Fn(u32) + Send + 'static,
    ) -> Result<(Front, mpsc::Receiver<Request>)> {
        let session = crate::kernel::random()?;
        let bind = |what: &'static str| move || format!("cannot bind the {what} address of the connection");
        let iopub = zmq::create_kernel_iopub_xpub_connection(info, &session)
            .await
            .with_context(bind("iopub"))?;
        let shell = zmq::create_kernel_shell_connection(info, &session)
            .await
            .with_context(bind("shell"))?;
        let control = zmq::create_kernel_control_connection(info, &session)
            .await
            .with_context(bind("control"))?;
        let stdin = zmq::create_kernel_stdin_connection(info, &session)
            .await
            .with_context(bind("stdin"))?;
        let heartbeat = zmq::create_kernel_heartbeat_connection(info)
            .await
            .with_context(bind("heartbeat"))?;
        let (to_all, queue) = mpsc::channel(QUEUE);
        let (requests, received) = mpsc::channel(QUEUE);
        tokio::spawn(publish(iopub, queue, credit));
        tokio::spawn(beat(heartbeat));
        let (shell, from) = shell.split();
        tokio::spawn(receive(from, Channel::Shell, requests.clone()));
        let (control, from) = control.split();
        tokio::spawn(receive(from, Channel::Control, requests.clone()));
        let (stdin, from) = stdin.split();
        tokio::spawn(receive(from, Channel::Stdin, requests));
        let front = Front {
            shell,
            control,
            stdin,
            iopub: to_all,
        };
        Ok((front, received))
    }

    fn socket(&mut self, channel: Channel) -> &mut RouterSendConnection {
        match channel {
            Channel::Control => &mut self.control,
            Channel::Stdin => &mut self.stdin,
            Channel::Shell | Channel::Iopub => &mut self.shell,
        }
    }

    /// Hands on what the kernel said.
    pub async fn hand_on(&mut self, channel: Channel, parts: Vec<Bytes>) {
        if channel == Channel::Iopub {
            let _ = self.iopub.send(ToAll::Kernels(parts)).await;
        } else if let Ok(message) = ZmqMessage::try_from(parts) {
            // A front end that has left needs no reply.
            let _ = self.socket(channel).socket.send(message).await;
        }
    }

    /// A reply of the launcher's own.
    pub async fn reply(&mut self, channel: Channel, content: impl Into<Content>, to: &JupyterMessage) {
        let _ = self.socket(channel).send(JupyterMessage::new(content, Some(to))).await;
    }

    /// Something of the launcher's own for all.
    pub async fn publish(&mut self, content: impl Into<Content>, about: Option<&JupyterMessage>) {
        let mut message = JupyterMessage::new(content, about);
        message.zmq_identities.clear();
        let _ = self.iopub.send(ToAll::Own(Box::new(message))).await;
    }
}

async fn publish(
    mut socket: KernelIoPubXPubConnection,
    mut queue: mpsc::Receiver<ToAll>,
    credit: impl Fn(u32) + Send + 'static,
) {
    loop {
        tokio::select! {
            biased;
            event = socket.recv_subscription() => match event {
                Ok(SubscriptionEvent::Subscribe(topic)) => {
                    // The kernel's own welcome went to the other end of the line.
                    let mut welcome = JupyterMessage::new(IoPubWelcome::new(topic.clone()), None);
                    if !topic.is_empty() {
                        welcome.zmq_identities = vec![topic.into_bytes().into()];
                    }
                    let _ = socket.send(welcome).await;
                }
                Ok(SubscriptionEvent::Unsubscribe(_)) => {}
                // A client that left. The pause keeps a socket without peers from turning this into a busy loop.
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            },
            message = queue.recv() => {
                let sent = match message {
                    None => return,
                    Some(ToAll::Own(message)) => {
                        let _ = socket.send(*message).await;
                        continue;
                    }
                    Some(ToAll::Kernels(parts)) => parts,
                };
                let size = plug::size(&sent);
                if let Ok(message) = ZmqMessage::try_from(sent) {
                    // A front end that stopped reading must not stop the others for good.
                    let _ = tokio::time::timeout(Duration::from_secs(30), socket.socket.send(message)).await;
                }
                credit(u32::try_from(size).unwrap_or(u32::MAX));
            }
        }
    }
}

async fn beat(mut socket: KernelHeartbeatConnection) {
    loop {
        if socket.single_heartbeat().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn receive(mut from: RouterRecvConnection, channel: Channel, requests: mpsc::Sender<Request>) {
    loop {
        let Ok(message) = from.socket.recv().await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let parts = message.clone().into_vec();
        // What has a wrong signature is nobody's request.
        let Ok(raw) = RawMessage::from_multipart(message, &from.mac) else {
            continue;
        };
        if let Ok(message) = read(raw) {
            let request = Request {
                channel,
                parts,
                message,
            };
            if requests.send(request).await.is_err() {
                return;
            }
        }
    }
}

/// A typed message. Only what the launcher answers itself needs its content; the rest is taken as a type without one.
fn read(raw: RawMessage) -> Result<JupyterMessage> {
    let part = |index: usize| -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(raw.jparts.get(index).context("too few parts")?)?)
    };
    let (header, content) = (part(0)?, part(3)?);
    let value = |content: serde_json::Value| {
        serde_json::json!({
            "header": header, "parent_header": {}, "metadata": {}, "content": content, "buffers": [],
        })
    };
    let mut message = match JupyterMessage::from_value(value(content)) {
        Ok(message) => message,
        // The typed history request knows no optional field, and clients leave most of them out.
        Err(_) => {
            let mut header = header.clone();
            let kind = header["msg_type"].clone();
            header["msg_type"] = "comm_info_request".into();
            let mut message = JupyterMessage::from_value(serde_json::json!({
                "header": header, "parent_header": {}, "metadata": {}, "content": {}, "buffers": [],
            }))?;
            message.header.msg_type = kind.as_str().unwrap_or_default().to_owned();
            message
        }
    };
    message.zmq_identities = raw.zmq_identities;
    Ok(message)
}
