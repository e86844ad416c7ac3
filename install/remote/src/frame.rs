//! What the two ends say to each other: frames on one stream of bytes, so that neither ports nor tunnels are needed.
//!
//! A frame is its payload's length (four bytes, little-endian), its kind (one byte) and the payload.

use crate::transfer::Move;
use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::io::Read;

/// A longer frame is none: bytes that do not belong here were read as a length.
const MAX: usize = 1 << 30;

/// One of Jupyter's channels. Heartbeats are answered on the spot and travel on none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Cells and their like.
    Shell,
    /// Interrupt and shutdown.
    Control,
    /// Questions of a cell to the user.
    Stdin,
    /// What all front ends hear.
    Iopub,
}

impl Channel {
    const ALL: [Channel; 4] = [Channel::Shell, Channel::Control, Channel::Stdin, Channel::Iopub];
}

/// What the launcher says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the launcher's program.
    pub version: String,
    /// The connection's key. It travels here and nowhere else.
    pub key: String,
    /// The kept kernel that it was connected to, and wants again.
    #[serde(default)]
    pub attach: Option<String>,
    /// How many of its messages have arrived here: what was on its way when the line was cut is sent again.
    #[serde(default)]
    pub received: u64,
}

/// How far the kernel's start is, as long as it waits for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// For the user.
    pub text: String,
}

/// Where the kernel runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Name of the machine.
    pub machine: String,
    /// For the user: the job and how long it has, empty without one.
    pub text: String,
    /// Under which name it is kept when the front end goes; `None`: it is not.
    #[serde(default)]
    pub kept: Option<String>,
    /// To a launcher that is there again: how many of its messages have arrived. `None`: counting begins anew.
    #[serde(default)]
    pub received: Option<u64>,
}

/// Something is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl Problem {
    /// From two texts.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem {
            what: what.into(),
            hint: hint.into(),
        }
    }
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The launcher's first word.
    Hello(Hello),
    /// Nothing, said to be heard.
    Beat,
    /// A message of Jupyter's, as ZeroMQ had it.
    Message(Channel, Vec<Bytes>),
    /// So many bytes of iopub have reached the front end.
    Credit(u32),
    /// The kernel does not run yet.
    Waiting(Waiting),
    /// It does.
    Ready(Running),
    /// It cannot.
    Failed(Problem),
    /// It has ended.
    Ended,
    /// Something that the user should know while it runs.
    Note(String),
    /// The end is near: a run that goes on writes a checkpoint.
    Leave,
    /// The user wants the kernel's end, also of one that is kept.
    End,
    /// About a file that is carried.
    Move(Move),
    /// A piece of it.
    Piece(u32, Bytes),
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Frame::Hello(_) => 1,
            Frame::Beat => 2,
            Frame::Message(..) => 3,
            Frame::Credit(_) => 4,
            Frame::Waiting(_) => 5,
            Frame::Ready(_) => 6,
            Frame::Failed(_) => 7,
            Frame::Ended => 8,
            Frame::Note(_) => 9,
            Frame::Leave => 10,
            Frame::End => 11,
            Frame::Move(_) => 12,
            Frame::Piece(..) => 13,
        }
    }

    /// The frame's bytes.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u32_le(0);
        bytes.put_u8(self.kind());
        match self {
            Frame::Hello(hello) => put_json(&mut bytes, hello),
            Frame::Beat | Frame::Ended | Frame::Leave | Frame::End => {}
            Frame::Message(channel, parts) => {
                bytes.put_u8(*channel as u8);
                for part in parts {
                    bytes.put_u32_le(part.len() as u32);
                    bytes.put_slice(part);
                }
            }
            Frame::Credit(count) => bytes.put_u32_le(*count),
            Frame::Waiting(waiting) => put_json(&mut bytes, waiting),
            Frame::Ready(running) => put_json(&mut bytes, running),
            Frame::Failed(problem) => put_json(&mut bytes, problem),
            Frame::Note(text) => bytes.put_slice(text.as_bytes()),
            Frame::Move(word) => put_json(&mut bytes, word),
            Frame::Piece(id, piece) => {
                bytes.put_u32_le(*id);
                bytes.put_slice(piece);
            }
        }
        let length = (bytes.len() - 5) as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes.freeze()
    }

    /// Reads one; `None` at the end of the stream.
    ///
    /// # Errors
    /// When the bytes are no frame, or the stream ends within one.
    pub fn read(from: &mut impl Read) -> Result<Option<Frame>> {
        let mut head = [0; 5];
        match from.read(&mut head[..1])? {
            0 => return Ok(None),
            _ => from.read_exact(&mut head[1..])?,
        }
        let [a, b, c, d, kind] = head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > MAX {
            bail!("a frame of {length} bytes");
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload)?;
        Frame::decode(kind, payload.into()).map(Some)
    }

    fn decode(kind: u8, mut payload: Bytes) -> Result<Frame> {
        Ok(match kind {
            1 => Frame::Hello(serde_json::from_slice(&payload)?),
            2 => Frame::Beat,
            3 => {
                let channel = payload.try_get_u8()?;
                let channel = *Channel::ALL.get(usize::from(channel)).context("an unknown channel")?;
                let mut parts = Vec::new();
                while payload.has_remaining() {
                    let length = payload.try_get_u32_le()? as usize;
                    if length > payload.len() {
                        bail!("a part that is longer than its frame");
                    }
                    parts.push(payload.split_to(length));
                }
                Frame::Message(channel, parts)
            }
            4 => Frame::Credit(payload.try_get_u32_le()?),
            5 => Frame::Waiting(serde_json::from_slice(&payload)?),
            6 => Frame::Ready(serde_json::from_slice(&payload)?),
            7 => Frame::Failed(serde_json::from_slice(&payload)?),
            8 => Frame::Ended,
            9 => Frame::Note(String::from_utf8_lossy(&payload).into_owned()),
            10 => Frame::Leave,
            11 => Frame::End,
            12 => Frame::Move(serde_json::from_slice(&payload)?),
            13 => Frame::Piece(payload.try_get_u32_le()?, payload),
            _ => bail!("a frame of unknown kind {kind}"),
        })
    }
}

fn put_json(bytes: &mut BytesMut, value: &impl Serialize) {
    // Strings only: nothing that could fail.
    bytes.put_slice(&serde_json::to_vec(value).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let frames = [
            Frame::Hello(Hello {
                version: "1".into(),
                key: "k".into(),
                attach: None,
                received: 0,
            }),
            Frame::Beat,
            Frame::Message(
                Channel::Iopub,
                vec![Bytes::new(), Bytes::from_static(b"<IDS|MSG>"), vec![7; 70_000].into()],
            ),
            Frame::Credit(70_000),
            Frame::Waiting(Waiting { text: "é".into() }),
            Frame::Ready(Running::default()),
            Frame::Failed(Problem::new("a", "b")),
            Frame::Ended,
            Frame::Note("soon".into()),
            Frame::Leave,
            Frame::End,
            Frame::Move(Move::Size { id: 7, size: 1 << 40 }),
            Frame::Piece(7, Bytes::from_static(b"piece")),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut stream = &bytes[..];
        for frame in frames {
            assert_eq!(Frame::read(&mut stream).unwrap(), Some(frame));
        }
        assert_eq!(Frame::read(&mut stream).unwrap(), None);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [
            &b"Last login: Monday"[..],
            &[1, 0, 0, 0, 200, 0],
            &[2, 0, 0, 0, 3, 9, 0],
            &[5, 0, 0, 0, 3, 0, 9, 0, 0, 0],
            &[9, 0],
        ] {
            assert!(Frame::read(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }
}
