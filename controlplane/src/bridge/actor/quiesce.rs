//! What a bridge on its way to another process waits for, and what comes of it.

use std::time::Instant;

use tokio::sync::oneshot;

use crate::bridge::handover::Outlook;

/// What becomes of the bridge after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It goes on.
    GoOn,
    /// Another process has begun.
    End,
}

/// Somebody waits for handshakes to end.
pub(super) struct Quiesce {
    until: Instant,
    reply: oneshot::Sender<Outlook>,
}

impl Quiesce {
    pub fn new(until: Instant, reply: oneshot::Sender<Outlook>) -> Self {
        Self { until, reply }
    }

    pub fn until(&self) -> Instant {
        self.until
    }

    pub fn into_reply(self) -> oneshot::Sender<Outlook> {
        self.reply
    }
}
