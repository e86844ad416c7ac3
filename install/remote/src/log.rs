//! What was sent over a line that may be cut, as long as it is not certain that it has arrived: the same launcher, when it
//! is there again, gets each message once.

use crate::frame::Channel;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A cut is noticed after seven seconds; what is far older has arrived.
const OLD: Duration = Duration::from_secs(120);

/// One message.
pub struct Sent {
    pub channel: Channel,
    pub parts: Vec<Bytes>,
    /// What it counts for at the kernel's side.
    pub size: i64,
    at: Instant,
}

/// The newest of them.
#[derive(Default)]
pub struct Log {
    /// How many were sent before the first of these.
    before: u64,
    sent: VecDeque<Sent>,
}

impl Log {
    /// Notes one that is sent now.
    pub fn push(&mut self, channel: Channel, parts: Vec<Bytes>, size: i64) {
        let at = Instant::now();
        self.sent.push_back(Sent {
            channel,
            parts,
            size,
            at,
        });
    }

    /// A message of iopub has reached the front end, and so has all before it. What it counted for.
    pub fn arrived(&mut self) -> i64 {
        while let Some(sent) = self.sent.pop_front() {
            self.before += 1;
            if sent.channel == Channel::Iopub {
                return sent.size;
            }
        }
        0
    }

    /// Forgets what has surely arrived.
    pub fn forget_old(&mut self) {
        while self.sent.front().is_some_and(|sent| sent.at.elapsed() > OLD) {
            self.sent.pop_front();
            self.before += 1;
        }
    }

    /// Forgets the first `received` of all, which have arrived.
    pub fn drop_first(&mut self, received: u64) {
        while self.before < received && self.sent.pop_front().is_some() {
            self.before += 1;
        }
    }

    /// Those behind the first `received` of all.
    pub fn after(&self, received: u64) -> impl Iterator<Item = &Sent> {
        let skipped = usize::try_from(received.saturating_sub(self.before)).unwrap_or(usize::MAX);
        self.sent.iter().skip(skipped)
    }

    /// What they count for; from now on they count for nothing.
    pub fn take_sizes(&mut self) -> Vec<i64> {
        self.sent
            .iter_mut()
            .map(|sent| std::mem::take(&mut sent.size))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_sent_again_until_it_has_arrived() {
        let mut log = Log::default();
        for (at, channel) in [Channel::Iopub, Channel::Shell, Channel::Iopub, Channel::Iopub]
            .into_iter()
            .enumerate()
        {
            log.push(channel, vec![vec![at as u8].into()], at as i64 + 10);
        }
        let left = |log: &Log, received| -> Vec<u8> { log.after(received).map(|sent| sent.parts[0][0]).collect() };
        assert_eq!(left(&log, 0), [0, 1, 2, 3]);
        assert_eq!(log.arrived(), 10);
        // The reply before it has arrived with the next.
        assert_eq!(log.arrived(), 12);
        assert_eq!(left(&log, 3), [3]);
        assert_eq!(left(&log, 4), [0; 0]);
        assert_eq!(left(&log, 9), [0; 0]);
        assert_eq!(log.take_sizes(), [13]);
        assert_eq!(log.take_sizes(), [0]);
        assert_eq!(left(&log, 3), [3]);
        log.drop_first(4);
        assert_eq!(left(&log, 0), [0; 0]);
    }
}
