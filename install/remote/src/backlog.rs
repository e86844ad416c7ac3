//! What a kept kernel says while nobody is connected: kept up to a limit, so that its cell goes on, and told to the front
//! end that comes.

use crate::frame::Channel;
use crate::plug;
use crate::sign::{self, Field};
use bytes::Bytes;
use std::collections::VecDeque;

/// More bytes are not kept; the oldest go first.
const LIMIT: i64 = 8 << 20;

/// Where a message came, and what it says.
pub type Said = (Channel, Vec<Bytes>);

/// The messages.
#[derive(Default)]
pub struct Backlog {
    kept: VecDeque<Said>,
    size: i64,
    dropped: u64,
    dropped_size: i64,
}

impl Backlog {
    /// Keeps a message.
    pub fn push(&mut self, channel: Channel, parts: Vec<Bytes>) {
        // A display is kept as it is now, not all that it was.
        if plug::kind(parts.iter()).as_deref() == Some("update_display_data")
            && let Some(at) = self.kept.iter().rposition(|(_, before)| is_update_of(&parts, before))
            && let Some(content) = sign::raw(&parts, Field::Content).cloned()
        {
            let before = &mut self.kept[at].1;
            self.size -= plug::size(before);
            sign::put(before, Field::Content, content);
            self.size += plug::size(before);
        } else {
            self.size += plug::size(&parts);
            self.kept.push_back((channel, parts));
        }
        while self.size > LIMIT
            && let Some((_, parts)) = self.kept.pop_front()
        {
            let size = plug::size(&parts);
            self.size -= size;
            self.dropped += 1;
            self.dropped_size += size;
        }
    }

    /// What was dropped, in words; `None` for nothing.
    pub fn lost(&self) -> Option<String> {
        (self.dropped > 0).then(|| {
            format!(
                "of what was said while nobody was connected, the first {} messages ({:.1} MB) were dropped: {} MB are kept",
                self.dropped,
                self.dropped_size as f64 / 1e6,
                LIMIT >> 20
            )
        })
    }

    /// All of it, the oldest first; nothing is left.
    pub fn take(&mut self) -> VecDeque<Said> {
        std::mem::take(self).kept
    }
}

/// The display that a message makes or changes.
pub fn display_id(parts: &[Bytes]) -> Option<String> {
    let content = sign::read(parts, Field::Content)?;
    Some(content["transient"]["display_id"].as_str()?.to_owned())
}

fn is_update_of(update: &[Bytes], before: &[Bytes]) -> bool {
    let kind = plug::kind(before.iter());
    matches!(kind.as_deref(), Some("display_data" | "update_display_data"))
        && display_id(before).is_some_and(|id| display_id(update) == Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::tests::message;
    use serde_json::json;

    #[test]
    fn the_oldest_goes_first_and_is_counted() {
        let mut backlog = Backlog::default();
        let text = "x".repeat(1 << 20);
        for at in 0..12 {
            let content = json!({"name": "stdout", "text": format!("{at} {text}")});
            backlog.push(Channel::Iopub, message("stream", &json!({}), &content));
        }
        let lost = backlog.lost().unwrap();
        assert!(
            lost.contains("the first 5 messages (5.2 MB) were dropped: 8 MB are kept"),
            "{lost}"
        );
        let kept = backlog.take();
        assert_eq!(kept.len(), 7);
        let first = sign::read(&kept[0].1, Field::Content).unwrap();
        assert!(first["text"].as_str().unwrap().starts_with("5 "));
        assert_eq!((backlog.lost(), backlog.take().len()), (None, 0));
    }

    #[test]
    fn of_a_display_the_newest_state_is_kept() {
        let display = |kind: &str, id: &str, text: &str| {
            let content = json!({"data": {"text/plain": text}, "metadata": {}, "transient": {"display_id": id}});
            message(kind, &json!({}), &content)
        };
        let mut backlog = Backlog::default();
        backlog.push(Channel::Iopub, display("display_data", "a", "1"));
        backlog.push(Channel::Iopub, display("update_display_data", "b", "1"));
        for at in 2..2000 {
            backlog.push(Channel::Iopub, display("update_display_data", "a", &at.to_string()));
            backlog.push(Channel::Iopub, display("update_display_data", "b", &at.to_string()));
        }
        let kept = backlog.take();
        assert_eq!(kept.len(), 2);
        let found: Vec<_> = kept
            .iter()
            .map(|(_, parts)| {
                (
                    plug::kind(parts.iter()).unwrap(),
                    sign::read(parts, Field::Content).unwrap(),
                )
            })
            .collect();
        assert_eq!(found[0].0, "display_data");
        assert_eq!(found[0].1["data"]["text/plain"], "1999");
        assert_eq!(found[1].0, "update_display_data");
    }
}
