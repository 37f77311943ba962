//! What a connection left out, by reason.

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
}

impl XmppCounters {
    pub(super) fn count(&self, left: Left) {
        if let Some(index) = Left::ALL.iter().position(|one| *one == left) {
            self.left[index].fetch_add(1, Ordering::Relaxed);
        }
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
