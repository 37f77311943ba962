//! What a connection carried, and what it left out, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

use super::limits::Unfit;
use crate::metrics::{Family, Kind};

/// Why a stanza was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It came and could not be read.
    Unreadable(Unfit),
    /// It came and is no stanza of a known shape.
    Untyped,
    /// It was to be sent while there was no connection.
    Offline,
    /// It was to be sent while too many others waited.
    QueueFull,
    /// It cannot be written as XML.
    Unwritable,
}

impl Left {
    const ALL: [Self; 8] = [
        Self::Unreadable(Unfit::Bytes),
        Self::Unreadable(Unfit::Depth),
        Self::Unreadable(Unfit::Elements),
        Self::Unreadable(Unfit::Malformed),
        Self::Untyped,
        Self::Offline,
        Self::QueueFull,
        Self::Unwritable,
    ];

    fn reason(self) -> &'static str {
        match self {
            Self::Unreadable(unfit) => unfit.reason(),
            Self::Untyped => "untyped",
            Self::Offline => "offline",
            Self::QueueFull => "queue_full",
            Self::Unwritable => "unwritable",
        }
    }
}

/// Counters of one connection.
#[derive(Debug, Default)]
pub struct XmppCounters {
    left: [AtomicU64; Left::ALL.len()],
    received: AtomicU64,
    sent: AtomicU64,
}

impl XmppCounters {
    pub(super) fn count(&self, left: Left) {
        if let Some(index) = Left::ALL.iter().position(|one| *one == left) {
            self.left[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// What several connections carried, as one metric.
    pub fn carried<'a>(connections: impl Iterator<Item = &'a Self> + Clone) -> Family {
        let sum = |of: fn(&Self) -> &AtomicU64| {
            connections.clone().map(|one| of(one).load(Ordering::Relaxed)).sum::<u64>() as f64
        };
        Family::new("ringbridge_xmpp_stanzas", "Stanzas received from and sent to the server.", Kind::PlainCounter)
            .with(&[("direction", "received")], sum(|one| &one.received))
            .with(&[("direction", "sent")], sum(|one| &one.sent))
    }

    /// The counters of several connections as one metric.
    pub fn family<'a>(connections: impl Iterator<Item = &'a Self> + Clone) -> Family {
        let help = "Stanzas left out: received and not readable, or not sent.";
        let counts = Left::ALL.iter().enumerate().map(|(index, left)| {
            let sum: u64 = connections.clone().map(|one| one.left[index].load(Ordering::Relaxed)).sum();
            (left.reason(), sum as f64)
        });
        Family::new("ringbridge_xmpp_dropped", help, Kind::PlainCounter).by_reason(counts)
    }
}
