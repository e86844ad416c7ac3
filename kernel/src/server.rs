//! The five sockets: each reads in a task of its own, nothing waits for a cell but cells.

use crate::complete;
use crate::executor::{Job, Shared};
use crate::magic;
use crate::understudy::{About, Answer};
use anyhow::{Context, Result};
use jupyter_protocol::connection_info::ConnectionInfo;
use jupyter_protocol::messaging::{
    CommClose, CommInfoReply, CompleteReply, CompleteRequest, ExecuteReply, ExecuteRequest, ExecutionState,
    InspectReply, InspectRequest, InterruptReply, IoPubWelcome, JupyterMessage, JupyterMessageContent as Content,
    KernelInfoReply, LanguageInfo, ReplyStatus, ShutdownReply, Status,
};
use jupyter_protocol::{CodeMirrorMode, ExecutionCount, Media};
use jupyter_zmq_client::{
    self as zmq, KernelHeartbeatConnection, KernelIoPubXPubConnection, RouterRecvConnection, RouterSendConnection,
    SubscriptionEvent,
};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::{mpsc as channel, oneshot};
use zeromq::SocketRecv;

/// Completion and inspection wait this long for the analyser before they answer with what is known anyway.
const PATIENCE: Duration = Duration::from_secs(10);
/// A front end that reads nothing for so long is not waited for again until it reads.
const PATIENCE_WITH_READERS: Duration = Duration::from_secs(30);
/// The same as [`PATIENCE`] while a cell runs.
const PATIENCE_WHILE_BUSY: Duration = Duration::from_millis(450);

/// Receiving ends of what others put into queues.
pub struct Queues {
    /// For all front ends.
    pub iopub: channel::Receiver<JupyterMessage>,
    /// Replies on the shell channel.
    pub replies: channel::UnboundedReceiver<JupyterMessage>,
    /// Questions on the stdin channel.
    pub questions: channel::UnboundedReceiver<JupyterMessage>,
}

/// Serves until a front end asks for shutdown.
///
/// # Errors
/// When an address cannot be bound.
pub async fn serve(info: &ConnectionInfo, shared: Arc<Shared>, queues: Queues, jobs: mpsc::Sender<Job>) -> Result<()> {
    let session = format!("{:016x}", std::process::id());
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

    tokio::spawn(publish(iopub, queues.iopub));
    tokio::spawn(beat(heartbeat));
    let (send, receive) = shell.split();
    tokio::spawn(reply(send, queues.replies));
    tokio::spawn(shell_requests(receive, shared.clone(), jobs));
    let (send, receive) = stdin.split();
    tokio::spawn(reply(send, queues.questions));
    tokio::spawn(answers(receive, shared.clone()));
    control_requests(control.split(), shared).await;
    Ok(())
}

async fn publish(mut socket: KernelIoPubXPubConnection, mut queue: channel::Receiver<JupyterMessage>) {
    let starting = Status {
        execution_state: ExecutionState::Starting,
    };
    let _ = socket.send(JupyterMessage::new(starting, None)).await;
    let mut patience = PATIENCE_WITH_READERS;
    loop {
        tokio::select! {
            biased;
            event = socket.recv_subscription() => match event {
                Ok(SubscriptionEvent::Subscribe(topic)) => {
                    // JEP 65: the new subscriber knows that from here on it hears everything.
                    let mut welcome = JupyterMessage::new(IoPubWelcome::new(topic.clone()), None);
                    if !topic.is_empty() {
                        welcome.zmq_identities = vec![topic.into_bytes().into()];
                    }
                    let _ = socket.send(welcome).await;
                }
                Ok(SubscriptionEvent::Unsubscribe(_)) => {}
                Err(error) => {
                    // A client that left. The pause keeps a socket without peers from turning this into a busy loop.
                    tracing::debug!("iopub: {error}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            },
            message = queue.recv() => {
                let Some(message) = message else { return };
                // A front end that stopped reading must not stop the others for good.
                match tokio::time::timeout(patience, socket.send(message)).await {
                    Ok(Ok(())) => patience = PATIENCE_WITH_READERS,
                    Ok(Err(error)) => tracing::warn!("iopub: {error}"),
                    Err(_) => {
                        tracing::warn!("iopub: a front end does not read; a message was dropped");
                        patience = Duration::from_millis(10);
                    }
                }
            }
        }
    }
}

async fn beat(mut socket: KernelHeartbeatConnection) {
    loop {
        if let Err(error) = socket.single_heartbeat().await {
            tracing::debug!("heartbeat: {error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn reply(mut socket: RouterSendConnection, mut queue: channel::UnboundedReceiver<JupyterMessage>) {
    while let Some(message) = queue.recv().await {
        if let Err(error) = socket.send(message).await {
            tracing::warn!("a reply could not be sent: {error}");
        }
    }
}

/// The next message; what cannot be read (a wrong signature, a damaged message) is logged and passed over.
async fn next(socket: &mut RouterRecvConnection, channel: &str) -> JupyterMessage {
    loop {
        let read = match socket.socket.recv().await {
            Ok(parts) => zmq::RawMessage::from_multipart(parts, &socket.mac)
                .map_err(anyhow::Error::from)
                .and_then(message),
            Err(error) => Err(error.into()),
        };
        match read {
            Ok(message) => return message,
            Err(error) => {
                tracing::warn!("{channel}: a message was passed over: {error}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// A typed message from a verified one. The typed history request knows no optional field; clients leave most of them out.
fn message(raw: zmq::RawMessage) -> Result<JupyterMessage> {
    let part = |index: usize| -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(raw.jparts.get(index).context("too few parts")?)?)
    };
    let (header, mut content) = (part(0)?, part(3)?);
    if header["msg_type"] == "history_request"
        && let Some(fields) = content.as_object_mut()
    {
        let defaults = serde_json::json!({
            "output": false, "raw": true, "n": 1000, "unique": false, "pattern": "*", "session": 0, "start": 0, "stop": 0,
        });
        for (name, value) in defaults.as_object().into_iter().flatten() {
            let field = fields.entry(name.clone()).or_insert(serde_json::Value::Null);
            if field.is_null() {
                *field = value.clone();
            }
        }
    }
    let value = serde_json::json!({
        "header": header, "parent_header": part(1)?, "metadata": part(2)?, "content": content, "buffers": [],
    });
    let mut message = JupyterMessage::from_value(value)?;
    message.zmq_identities = raw.zmq_identities;
    Ok(message)
}

async fn answers(mut socket: RouterRecvConnection, shared: Arc<Shared>) {
    loop {
        let message = next(&mut socket, "stdin").await;
        if let Content::InputReply(reply) = message.content {
            shared.stdin.answered(&reply.value);
        }
    }
}

async fn control_requests((mut send, mut receive): (RouterSendConnection, RouterRecvConnection), shared: Arc<Shared>) {
    loop {
        let message = Arc::new(next(&mut receive, "control").await);
        shared.publisher.status_async(ExecutionState::Busy, &message).await;
        let (content, end): (Content, bool) = match &message.content {
            Content::InterruptRequest(_) => {
                tracing::info!(
                    "interrupt: {}",
                    shared.now.interrupt(shared.received.load(Ordering::SeqCst))
                );
                (InterruptReply::new().into(), false)
            }
            Content::ShutdownRequest(request) => (
                ShutdownReply {
                    restart: request.restart,
                    status: ReplyStatus::Ok,
                    error: None,
                }
                .into(),
                true,
            ),
            Content::KernelInfoRequest(_) => (kernel_info().into(), false),
            other => {
                tracing::info!("control: no answer to {}", other.message_type());
                shared.publisher.status_async(ExecutionState::Idle, &message).await;
                continue;
            }
        };
        let reply = JupyterMessage::new(content.clone(), Some(&message));
        if let Err(error) = send.send(reply).await {
            tracing::warn!("control: {error}");
        }
        if end {
            shared.publisher.send_async(content, Some(&message)).await;
        }
        shared.publisher.status_async(ExecutionState::Idle, &message).await;
        if end {
            // The replies are with the sockets; give them the time to leave.
            tokio::time::sleep(Duration::from_millis(100)).await;
            return;
        }
        still_busy_async(&shared).await;
    }
}

async fn shell_requests(mut socket: RouterRecvConnection, shared: Arc<Shared>, jobs: mpsc::Sender<Job>) {
    loop {
        let message = Arc::new(next(&mut socket, "shell").await);
        match &message.content {
            Content::ExecuteRequest(request) => {
                // What only the kernel answers does not wait for a cell that runs.
                let received = shared.received.load(Ordering::SeqCst);
                if shared.now.answers_at_once(received) && magic::is_kernel_only(&request.code) {
                    let (shared, message, request) = (shared.clone(), message.clone(), request.clone());
                    tokio::task::spawn_blocking(move || out_of_turn(&shared, &message, &request));
                } else {
                    let number = shared.received.fetch_add(1, Ordering::SeqCst) + 1;
                    let _ = jobs.send(Job::Execute {
                        parent: message.clone(),
                        request: request.clone(),
                        number,
                    });
                }
            }
            _ => {
                let (shared, jobs) = (shared.clone(), jobs.clone());
                tokio::spawn(async move { other_request(message, shared, jobs).await });
            }
        }
    }
}

/// A cell of kernel-side magics while another cell runs: its own busy, reply, idle and count.
fn out_of_turn(shared: &Arc<Shared>, parent: &Arc<JupyterMessage>, request: &ExecuteRequest) {
    let count = shared.count_cell(request);
    shared.publisher.status(ExecutionState::Busy, parent);
    if !request.silent {
        shared.publisher.input(&request.code, count, parent);
    }
    let result = magic::run_kernel_only(&request.code, shared, parent);
    let mut reply = ExecuteReply {
        execution_count: ExecutionCount::new(count),
        user_expressions: Some(Default::default()),
        ..Default::default()
    };
    if let Err(report) = result {
        shared.publisher.error(&report, parent);
        reply.status = ReplyStatus::Error;
        reply.error = Some(Box::new(report.into()));
    }
    shared.reply(reply, parent);
    shared.publisher.status(ExecutionState::Idle, parent);
    still_busy(shared);
}

/// Front ends take the newest status for the kernel's: while a cell runs it is busy, whatever else was answered.
fn still_busy(shared: &Shared) {
    // Under the lock: the cell's own idle comes after it.
    let state = shared.now.lock();
    if let Some(running) = state.parent.as_ref().filter(|_| state.executing) {
        shared.publisher.status(ExecutionState::Busy, running);
    }
}

/// The same from a task, which must not wait for the lock.
async fn still_busy_async(shared: &Arc<Shared>) {
    let shared = shared.clone();
    let _ = tokio::task::spawn_blocking(move || still_busy(&shared)).await;
}

async fn other_request(message: Arc<JupyterMessage>, shared: Arc<Shared>, jobs: mpsc::Sender<Job>) {
    shared.publisher.status_async(ExecutionState::Busy, &message).await;
    let content: Option<Content> = match &message.content {
        Content::KernelInfoRequest(_) => Some(kernel_info().into()),
        Content::IsCompleteRequest(request) => Some(complete::is_complete(&request.code).into()),
        Content::CompleteRequest(request) => Some(completion(request, &shared, &jobs).await.into()),
        Content::InspectRequest(request) => Some(inspection(request, &shared, &jobs).await.into()),
        Content::HistoryRequest(request) => {
            let history = shared.history.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Some(history.reply(request).into())
        }
        Content::CommInfoRequest(_) => Some(
            CommInfoReply {
                status: ReplyStatus::Ok,
                comms: Default::default(),
                error: None,
            }
            .into(),
        ),
        Content::CommOpen(open) => {
            // The protocol asks a side that does not know the target to close the comm again.
            let close = CommClose {
                comm_id: open.comm_id.clone(),
                data: Default::default(),
            };
            shared.publisher.send_async(close, Some(&message)).await;
            None
        }
        Content::ShutdownRequest(request) => {
            // Old clients ask on this channel.
            Some(
                ShutdownReply {
                    restart: request.restart,
                    status: ReplyStatus::Ok,
                    error: None,
                }
                .into(),
            )
        }
        Content::CommMsg(_) | Content::CommClose(_) => None,
        other => {
            tracing::info!("shell: no answer to {}", other.message_type());
            None
        }
    };
    if let Some(content) = content {
        shared.reply(content, &message);
    }
    shared.publisher.status_async(ExecutionState::Idle, &message).await;
    still_busy_async(&shared).await;
}

fn kernel_info() -> KernelInfoReply {
    KernelInfoReply {
        status: ReplyStatus::Ok,
        protocol_version: "5.3".to_owned(),
        implementation: "lightcell".to_owned(),
        implementation_version: env!("CARGO_PKG_VERSION").to_owned(),
        language_info: LanguageInfo {
            name: "rust".to_owned(),
            version: rustc_version(),
            mimetype: Some("text/rust".to_owned()),
            file_extension: Some(".rs".to_owned()),
            pygments_lexer: Some("rust".to_owned()),
            codemirror_mode: Some(CodeMirrorMode::Simple("rust".to_owned())),
            nbconvert_exporter: Some("script".to_owned()),
        },
        banner: format!(
            "Lightcell {}: Rust notebooks that train neural networks",
            env!("CARGO_PKG_VERSION")
        ),
        help_links: Vec::new(),
        debugger: false,
        error: None,
    }
}

/// Version of the compiler, as `main` found it.
fn rustc_version() -> String {
    crate::RUSTC_VERSION
        .get()
        .cloned()
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Asks the copy that answers while a cell runs. It goes on when its answer comes too late: the next one is quicker.
async fn ask(shared: &Arc<Shared>, about: About, code: &str, offset: usize) -> Option<Answer> {
    let (shared, code) = (shared.clone(), code.to_owned());
    let asked = tokio::task::spawn_blocking(move || shared.understudy.ask(about, &code, offset));
    tokio::time::timeout(PATIENCE_WHILE_BUSY, asked).await.ok()?.ok()?
}

async fn completion(request: &CompleteRequest, shared: &Arc<Shared>, jobs: &mpsc::Sender<Job>) -> CompleteReply {
    let code = &request.code;
    let offset = complete::byte_offset(code, request.cursor_pos);
    let in_characters = |start, end, matches| CompleteReply {
        matches,
        cursor_start: complete::characters(code, start),
        cursor_end: complete::characters(code, end),
        metadata: Default::default(),
        status: ReplyStatus::Ok,
        error: None,
    };
    if let Some((start, end, matches)) = magic::complete(code, offset) {
        return in_characters(start, end, matches);
    }
    let (executing, names) = {
        let state = shared.now.lock();
        (state.executing, state.names.clone())
    };
    let found = if executing {
        match ask(shared, About::Completions, code, offset).await {
            Some(Answer::Completions(start, end, list)) => Some((start, end, list)),
            _ => None,
        }
    } else {
        let (answer, found) = oneshot::channel();
        let _ = jobs.send(Job::Complete {
            code: code.clone(),
            offset,
            answer,
        });
        tokio::time::timeout(PATIENCE, found).await.ok().and_then(Result::ok)
    };
    if let Some((start, end, list)) = found {
        let types: Vec<_> = list
            .iter()
            .map(|c| serde_json::json!({"text": c.text, "type": c.kind, "start": complete::characters(code, start), "end": complete::characters(code, end), "signature": c.label}))
            .collect();
        let mut matches: Vec<String> = Vec::new();
        for completion in list {
            if !matches.contains(&completion.text) {
                matches.push(completion.text);
            }
        }
        let mut reply = in_characters(start, end, matches);
        reply.metadata.insert(
            "_jupyter_types_experimental".to_owned(),
            serde_json::Value::Array(types),
        );
        return reply;
    }
    // What is known beats waiting.
    let (start, word) = complete::word_before(code, offset);
    let mut matches: Vec<String> = if code[..start].ends_with('.') {
        Vec::new()
    } else {
        names.into_iter().filter(|name| name.starts_with(word)).collect()
    };
    matches.sort();
    matches.dedup();
    in_characters(start, offset, matches)
}

async fn inspection(request: &InspectRequest, shared: &Arc<Shared>, jobs: &mpsc::Sender<Job>) -> InspectReply {
    let code = &request.code;
    // The whole word under the cursor, not only what is before it.
    let mut offset = complete::byte_offset(code, request.cursor_pos);
    while let Some(next) = code[offset..]
        .chars()
        .next()
        .filter(|c| c.is_alphanumeric() || *c == '_')
    {
        offset += next.len_utf8();
    }
    let mut reply = InspectReply {
        found: false,
        data: Media::default(),
        metadata: Default::default(),
        status: ReplyStatus::Ok,
        error: None,
    };
    let (_, word) = complete::word_before(code, offset);
    if let Some(text) = magic::help_at(code, offset) {
        reply.found = true;
        reply.data = crate::publish::text(text);
        return reply;
    }
    if word.is_empty() {
        return reply;
    }
    let executing = shared.now.lock().executing;
    let found = if executing {
        match ask(shared, About::Documentation, code, offset).await {
            Some(Answer::Documentation(found)) => found,
            _ => None,
        }
    } else {
        let (answer, found) = oneshot::channel();
        let _ = jobs.send(Job::Inspect {
            code: code.clone(),
            offset,
            answer,
        });
        tokio::time::timeout(PATIENCE, found)
            .await
            .ok()
            .and_then(|found| found.ok().flatten())
    };
    if let Some((text, html)) = found {
        reply.found = true;
        reply.data = crate::publish::text_html(text, html);
    }
    reply
}
