//! What the launcher answers in the kernel's place: while it waits, and when there is none.

use crate::frame::{Channel, Problem};
use crate::front::{Front, Request};
use jupyter_protocol::messaging::{
    CommInfoReply, CompleteReply, DisplayData, ErrorOutput, ExecuteReply, ExecutionState, InspectReply, InterruptReply,
    IsCompleteReply, IsCompleteReplyStatus, JupyterMessage, JupyterMessageContent as Content, KernelInfoReply,
    LanguageInfo, ReplyError, ReplyStatus, ShutdownReply, Status, StreamContent, Transient, UpdateDisplayData,
};
use jupyter_protocol::{CodeMirrorMode, ExecutionCount, Media, MediaType};

/// An error as the notebook shows it.
#[derive(Debug, Clone)]
pub struct Report {
    ename: &'static str,
    evalue: String,
    traceback: Vec<String>,
}

impl Report {
    /// From a problem; the first line in red, as all errors.
    pub fn new(ename: &'static str, problem: &Problem) -> Report {
        let mut traceback = vec![format!("\x1b[1;31m{ename}\x1b[0m: {}", problem.what)];
        if !problem.hint.is_empty() {
            traceback.push(format!("\x1b[1;36mhint\x1b[0m: {}", problem.hint));
        }
        Report {
            ename,
            evalue: problem.what.clone(),
            traceback,
        }
    }
}

/// Answers a request for which there is no kernel.
pub async fn without_kernel(front: &mut Front, request: &Request, report: &Report) {
    let (channel, to) = (request.channel, &request.message);
    state(front, ExecutionState::Busy, to).await;
    match &to.content {
        Content::ExecuteRequest(cell) => {
            return failed(front, to, report, cell.silent).await;
        }
        Content::KernelInfoRequest(_) => front.reply(channel, kernel_info(), to).await,
        Content::InterruptRequest(_) => front.reply(channel, InterruptReply::new(), to).await,
        Content::ShutdownRequest(_) => {}
        Content::IsCompleteRequest(_) => {
            let reply = IsCompleteReply {
                status: IsCompleteReplyStatus::Complete,
                indent: String::new(),
            };
            front.reply(channel, reply, to).await;
        }
        Content::CompleteRequest(request) => {
            let reply = CompleteReply {
                matches: Vec::new(),
                cursor_start: request.cursor_pos,
                cursor_end: request.cursor_pos,
                metadata: Default::default(),
                status: ReplyStatus::Ok,
                error: None,
            };
            front.reply(channel, reply, to).await;
        }
        Content::InspectRequest(_) => {
            let reply = InspectReply {
                found: false,
                data: Media::default(),
                metadata: Default::default(),
                status: ReplyStatus::Ok,
                error: None,
            };
            front.reply(channel, reply, to).await;
        }
        Content::CommInfoRequest(_) if to.header.msg_type == "comm_info_request" => {
            let reply = CommInfoReply {
                status: ReplyStatus::Ok,
                comms: Default::default(),
                error: None,
            };
            front.reply(channel, reply, to).await;
        }
        _ => {}
    }
    state(front, ExecutionState::Idle, to).await;
}

/// Ends a cell with an error, after its busy.
pub async fn failed(front: &mut Front, cell: &JupyterMessage, report: &Report, silent: bool) {
    if !silent {
        let output = ErrorOutput {
            ename: report.ename.into(),
            evalue: report.evalue.clone(),
            traceback: report.traceback.clone(),
        };
        front.publish(output, Some(cell)).await;
    }
    let reply = ExecuteReply {
        status: ReplyStatus::Error,
        execution_count: ExecutionCount::new(0),
        error: Some(Box::new(ReplyError {
            ename: report.ename.into(),
            evalue: report.evalue.clone(),
            traceback: report.traceback.clone(),
        })),
        ..Default::default()
    };
    front.reply(Channel::Shell, reply, cell).await;
    state(front, ExecutionState::Idle, cell).await;
}

/// Agrees to a shutdown.
pub async fn shutdown(front: &mut Front, request: &Request) {
    let restart = matches!(&request.message.content, Content::ShutdownRequest(asked) if asked.restart);
    let reply = ShutdownReply {
        restart,
        status: ReplyStatus::Ok,
        error: None,
    };
    state(front, ExecutionState::Busy, &request.message).await;
    front.reply(request.channel, reply.clone(), &request.message).await;
    front.publish(reply, Some(&request.message)).await;
    state(front, ExecutionState::Idle, &request.message).await;
}

/// Busy or idle.
pub async fn state(front: &mut Front, execution_state: ExecutionState, about: &JupyterMessage) {
    front.publish(Status { execution_state }, Some(about)).await;
}

/// A line below the cell that ran last.
pub async fn note(front: &mut Front, text: &str, about: Option<&JupyterMessage>) {
    front.publish(StreamContent::stderr(&format!("{text}\n")), about).await;
}

/// How far the start is, in the output of the cell that waits for it; `first` makes the output, then it changes.
pub async fn progress(front: &mut Front, text: &str, id: &str, first: bool, about: &JupyterMessage) {
    let data = Media::new(vec![MediaType::Plain(text.to_owned())]);
    let transient = Transient {
        display_id: Some(id.to_owned()),
    };
    if first {
        let output = DisplayData {
            data,
            metadata: Default::default(),
            transient: Some(transient),
        };
        front.publish(output, Some(about)).await;
    } else {
        let output = UpdateDisplayData {
            data,
            metadata: Default::default(),
            transient,
        };
        front.publish(output, Some(about)).await;
    }
}

/// The front end takes the kernel for alive; the rest it learns from its cells.
fn kernel_info() -> KernelInfoReply {
    KernelInfoReply {
        status: ReplyStatus::Ok,
        protocol_version: "5.3".to_owned(),
        implementation: "lightcell".to_owned(),
        implementation_version: env!("CARGO_PKG_VERSION").to_owned(),
        language_info: LanguageInfo {
            name: "rust".to_owned(),
            version: "unknown".to_owned(),
            mimetype: Some("text/rust".to_owned()),
            file_extension: Some(".rs".to_owned()),
            pygments_lexer: Some("rust".to_owned()),
            codemirror_mode: Some(CodeMirrorMode::Simple("rust".to_owned())),
            nbconvert_exporter: Some("script".to_owned()),
        },
        banner: format!("Lightcell {}", env!("CARGO_PKG_VERSION")),
        help_links: Vec::new(),
        debugger: false,
        error: None,
    }
}
