//! Files between the user's machine and a kernel on another one: what the kernel asks of those who carry them, and what it
//! hears. Each is a line of JSON, on the kernel's standard output and input.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What the kernel asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Carry a file.
    Transfer {
        /// Of this transfer.
        id: u32,
        /// From the user's machine to the kernel's; else the other way.
        upload: bool,
        /// The path on the user's machine, as the user wrote it.
        local: String,
        /// The path on the kernel's machine.
        remote: PathBuf,
    },
    /// Give up.
    Cancel {
        /// Of this transfer.
        id: u32,
    },
}

/// What the kernel hears of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// It goes on.
    Progress {
        /// Of this transfer.
        id: u32,
        /// Bytes that have arrived.
        done: u64,
        /// Bytes in all.
        size: u64,
    },
    /// The file is there.
    There {
        /// Of this transfer.
        id: u32,
        /// Where it lies.
        path: String,
        /// Bytes.
        size: u64,
        /// Its SHA-256, in hexadecimal digits.
        sum: String,
    },
    /// It failed, and nothing is left of it.
    Failed {
        /// Of this transfer.
        id: u32,
        /// Why.
        why: String,
    },
}

impl News {
    /// Which transfer it is about.
    pub fn id(&self) -> u32 {
        match self {
            News::Progress { id, .. } | News::There { id, .. } | News::Failed { id, .. } => *id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_are_lines() {
        let ask = Ask::Transfer {
            id: 1,
            upload: true,
            local: "a\nb".into(),
            remote: "/c".into(),
        };
        let line = serde_json::to_string(&ask).unwrap();
        assert_eq!(
            line,
            r#"{"transfer":{"id":1,"upload":true,"local":"a\nb","remote":"/c"}}"#
        );
        assert_eq!(serde_json::from_str::<Ask>(&line).unwrap(), ask);
        let news = News::Failed { id: 3, why: "x".into() };
        let line = serde_json::to_string(&news).unwrap();
        assert_eq!(line, r#"{"failed":{"id":3,"why":"x"}}"#);
        assert_eq!(serde_json::from_str::<News>(&line).unwrap().id(), 3);
    }
}
