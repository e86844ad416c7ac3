//! Messages as parts: where their fields are, and their signature. A kept kernel has another key than the front end that
//! comes back to it, so what goes between the two is signed anew.

use bytes::Bytes;
use ring::{digest, hmac};
use serde_json::Value;

/// Between the identities and the fields.
const DELIMITER: &[u8] = b"<IDS|MSG>";

/// Which field is how far behind the delimiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Who sent it, and what it is.
    Header = 2,
    /// What it answers.
    Parent = 3,
    /// What it says.
    Content = 5,
}

fn delimiter(parts: &[Bytes]) -> Option<usize> {
    parts.iter().position(|part| part[..] == *DELIMITER)
}

/// A field, as it came.
pub fn raw(parts: &[Bytes], field: Field) -> Option<&Bytes> {
    parts.get(delimiter(parts)? + field as usize)
}

/// A field, read.
pub fn read(parts: &[Bytes], field: Field) -> Option<Value> {
    serde_json::from_slice(raw(parts, field)?).ok()
}

/// Puts another in its place; the signature is then wrong.
pub fn put(parts: &mut [Bytes], field: Field, value: Bytes) {
    if let Some(at) = delimiter(parts)
        && let Some(part) = parts.get_mut(at + field as usize)
    {
        *part = value;
    }
}

/// Signs with a key of Jupyter's; an empty one means: no signatures.
pub fn sign(parts: &mut [Bytes], key: &str) {
    let Some(at) = delimiter(parts).filter(|at| parts.len() > at + Field::Content as usize) else {
        return;
    };
    let signature = if key.is_empty() {
        String::new()
    } else {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()));
        for part in &parts[at + Field::Header as usize..=at + Field::Content as usize] {
            context.update(part);
        }
        hex(context.sign().as_ref())
    };
    parts[at + 1] = signature.into();
}

/// Tells a key without giving it away.
pub fn fingerprint(key: &str) -> String {
    hex(digest::digest(&digest::SHA256, key.as_bytes()).as_ref())
}

/// Two digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A message without a signature.
    pub fn message(kind: &str, parent: &Value, content: &Value) -> Vec<Bytes> {
        let json = |value: &Value| Bytes::from(value.to_string());
        let header = serde_json::json!({"msg_id": format!("{kind}-id"), "session": "s", "msg_type": kind});
        vec![
            Bytes::from_static(b"who"),
            Bytes::from_static(DELIMITER),
            Bytes::new(),
            json(&header),
            json(parent),
            Bytes::from_static(b"{}"),
            json(content),
            Bytes::from_static(b"a buffer"),
        ]
    }

    #[test]
    fn a_message_is_signed_as_jupyter_does() {
        let mut parts = message("stream", &serde_json::json!({}), &serde_json::json!({"text": "x"}));
        sign(&mut parts, "key");
        let raw = jupyter_zmq_client::RawMessage::from_multipart(
            zeromq::ZmqMessage::try_from(parts.clone()).unwrap(),
            &Some(hmac::Key::new(hmac::HMAC_SHA256, b"key")),
        );
        assert!(raw.is_ok(), "{parts:?}");
        put(&mut parts, Field::Content, Bytes::from_static(b"{\"text\": \"y\"}"));
        assert_eq!(read(&parts, Field::Content).unwrap()["text"], "y");
        sign(&mut parts, "");
        assert!(parts[2].is_empty());
        // What is no message stays as it is.
        let mut odd = vec![Bytes::from_static(DELIMITER), Bytes::from_static(b"x")];
        sign(&mut odd, "key");
        assert_eq!(odd[1], "x");
        assert_ne!(fingerprint("a"), fingerprint("b"));
    }
}
