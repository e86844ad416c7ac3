//! The outer form of what the worker sends: packets on one `SOCK_SEQPACKET` socket.
//!
//! A packet is one byte of [`Kind`], one byte of flags and a payload. The socket keeps the borders of packets and
//! their order, so several threads and processes can write without a lock, and a writer that is killed leaves no half
//! packet behind. A payload longer than [`MAX_PAYLOAD`] is sent in pieces: every piece but the last carries [`MORE`].

/// Longest payload of one packet: well under the smallest default socket buffer (208 KiB).
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// Flag: the next packet of the same kind goes on with this payload.
pub const MORE: u8 = 1;

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Bytes of the user's standard output.
    Stdout = 1,
    /// Bytes of the user's standard error.
    Stderr = 2,
    /// A rich output, see [`Display`].
    Display = 3,
    /// `clear_output`; payload is one byte, 1 to wait for the next output.
    Clear = 4,
    /// A message of the training library: JSON, see the `run` module.
    Event = 5,
    /// A panic began: fields `message`, `file`, `line`, `column`, `thread`, the library of the cell that
    /// runs and, on a second line, the calls in it (hexadecimal offsets, innermost first, with spaces between), then the names of
    /// the cells' functions, one text each.
    Panic = 6,
    /// The worker begins to run a cell; payload is its process id in decimal.
    CellStart = 7,
    /// The cell's code has returned; payload is [`CellEnd`] in one byte.
    CellEnd = 8,
    /// The process that ran the cell is gone and its copy took over: fields `how` (`signal 11`, `exit 3`), `lost` (what could not be
    /// taken over).
    TakenOver = 9,
    /// User code wants a line of input: fields `prompt`, `password` (`1` or `0`).
    Input = 10,
    /// A `?` ended the cell.
    UserError = 11,
    /// A variable was dropped because its type was defined again: its name.
    TypeChanged = 12,
    /// Written by the kernel itself into its own end, to know that all before it was read.
    Sync = 13,
    /// Answer to a query of the kernel: fields depend on the query.
    Info = 14,
}

impl Kind {
    /// The kind with this number.
    pub fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::*;
        [
            Stdout,
            Stderr,
            Display,
            Clear,
            Event,
            Panic,
            CellStart,
            CellEnd,
            TakenOver,
            Input,
            UserError,
            TypeChanged,
            Sync,
            Info,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// How a cell's code returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CellEnd {
    /// It ran to its end.
    Returned = 0,
    /// It panicked.
    Panicked = 1,
    /// A `?` returned early.
    Error = 2,
}

/// What to do with a [`Display`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum DisplayKind {
    /// A new output (`display_data`).
    Display = 0,
    /// A new state of the output with this id (`update_display_data`).
    Update = 1,
    /// The value of the cell's last expression (`execute_result`).
    Result = 2,
}

/// A rich output in one or more media types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Display {
    /// New output, update or result.
    pub kind: DisplayKind,
    /// The id under which it can be updated; may be empty.
    pub id: String,
    /// Media type and content. Text is UTF-8; binary types (`image/png`) may be raw bytes or base64 text.
    pub media: Vec<(String, Vec<u8>)>,
}

impl Display {
    /// The payload of a [`Kind::Display`] packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.kind as u8];
        put(&mut out, self.id.as_bytes());
        for (mime, content) in &self.media {
            put(&mut out, mime.as_bytes());
            put(&mut out, content);
        }
        out
    }

    /// Reads what [`Display::encode`] wrote; `None` when it is damaged.
    pub fn decode(payload: &[u8]) -> Option<Display> {
        let (kind, rest) = payload.split_first()?;
        let kind = match kind {
            0 => DisplayKind::Display,
            1 => DisplayKind::Update,
            2 => DisplayKind::Result,
            _ => return None,
        };
        let mut fields = decode_fields(rest)?.into_iter();
        let id = String::from_utf8(fields.next()?).ok()?;
        let mut media = Vec::new();
        while let Some(mime) = fields.next() {
            media.push((String::from_utf8(mime).ok()?, fields.next()?));
        }
        Some(Display { kind, id, media })
    }
}

fn put(out: &mut Vec<u8>, field: &[u8]) {
    // A field longer than 4 GiB cannot be shown in a notebook: it is cut rather than misread.
    let len = u32::try_from(field.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&field[..len as usize]);
}

/// Fields in a row, each with its length before it (u32, little endian).
pub fn encode_fields<F: AsRef<[u8]>>(fields: impl IntoIterator<Item = F>) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        put(&mut out, field.as_ref());
    }
    out
}

/// Reads what [`encode_fields`] wrote; `None` when it is damaged.
pub fn decode_fields(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (field, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        fields.push(field.to_vec());
        bytes = rest;
    }
    Some(fields)
}

/// Cuts a payload into the packets that carry it: kind, flags and a piece each.
pub fn pieces(kind: Kind, payload: &[u8]) -> impl Iterator<Item = ([u8; 2], &[u8])> {
    let count = payload.len().div_ceil(MAX_PAYLOAD).max(1);
    (0..count).map(move |i| {
        let end = payload.len().min((i + 1) * MAX_PAYLOAD);
        let flags = if i + 1 < count { MORE } else { 0 };
        ([kind as u8, flags], &payload[i * MAX_PAYLOAD..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_goes_round() {
        let display = Display {
            kind: DisplayKind::Update,
            id: "plot".into(),
            media: vec![
                ("text/plain".into(), b"x".to_vec()),
                ("image/png".into(), vec![0, 255, 10]),
            ],
        };
        assert_eq!(Display::decode(&display.encode()), Some(display));
    }

    #[test]
    fn damaged_payloads_are_refused_not_misread() {
        assert_eq!(Display::decode(&[]), None);
        assert_eq!(Display::decode(&[9, 0, 0, 0, 0]), None);
        assert_eq!(Display::decode(&[0, 5, 0, 0, 0, b'a']), None);
        assert_eq!(decode_fields(&[1, 0]), None);
    }

    #[test]
    fn long_payloads_are_cut_and_only_the_last_piece_ends_it() {
        let payload = vec![7u8; MAX_PAYLOAD * 2 + 1];
        let cut: Vec<_> = pieces(Kind::Stdout, &payload).collect();
        assert_eq!(cut.iter().map(|(head, _)| head[1]).collect::<Vec<_>>(), [MORE, MORE, 0]);
        assert_eq!(cut.iter().map(|(_, p)| p.len()).sum::<usize>(), payload.len());
        assert_eq!(pieces(Kind::Clear, &[]).count(), 1);
    }

    #[test]
    fn every_kind_has_a_number_of_its_own() {
        for byte in 1..=14 {
            assert_eq!(Kind::from_byte(byte).map(|k| k as u8), Some(byte));
        }
        assert_eq!(Kind::from_byte(0), None);
        assert_eq!(Kind::from_byte(15), None);
    }
}
