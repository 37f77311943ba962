//! What the doors refused since they were opened.

use std::sync::atomic::{AtomicU64, Ordering};

use super::bounds::Name;
use crate::metrics::{Family, Kind};

/// Why a connection was refused or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It could not be accepted: no descriptors, no memory.
    NotAccepted,
    /// As many as there may be are open.
    Full,
    /// It had to give way to a newer one.
    Evicted,
    /// The head of a request did not arrive in time, or no further request came.
    HeadTimeout,
    /// The rest of a request did not arrive, or was not answered, in time.
    AnswerTimeout,
    /// What came is no HTTP, or too large.
    Malformed,
    /// It broke, or the client did not read.
    Broken,
    /// It was open for too long.
    Aged,
}

impl Refused {
    const ALL: [(Self, &str); 8] = [
        (Self::NotAccepted, "not_accepted"),
        (Self::Full, "full"),
        (Self::Evicted, "evicted"),
        (Self::HeadTimeout, "head_timeout"),
        (Self::AnswerTimeout, "answer_timeout"),
        (Self::Malformed, "malformed"),
        (Self::Broken, "broken"),
        (Self::Aged, "aged"),
    ];
}

/// What one door counted since it was opened.
#[derive(Debug)]
pub struct DoorCounters {
    name: Name,
    refused: [AtomicU64; Refused::ALL.len()],
    open: AtomicU64,
}

impl DoorCounters {
    /// Nothing yet.
    pub fn new(name: Name) -> Self {
        Self { name, refused: Default::default(), open: AtomicU64::new(0) }
    }

    pub(super) fn refuse(&self, reason: Refused) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A connection came in.
    pub(super) fn enter(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection has ended.
    pub(super) fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// The counters of several doors as metrics.
    pub fn families<'a>(doors: impl IntoIterator<Item = &'a Self>) -> Vec<Family> {
        let help = "HTTP connections refused or closed by the server.";
        let mut refused = Family::new("ringbridge_http_refused", help, Kind::PlainCounter);
        let mut open = Family::new("ringbridge_http_connections", "HTTP connections open now.", Kind::Gauge);
        for door in doors {
            let name = door.name.label();
            for (reason, label) in Refused::ALL {
                let count = door.refused[reason as usize].load(Ordering::Relaxed) as f64;
                refused = refused.with(&[("door", name), ("reason", label)], count);
            }
            open = open.with(&[("door", name)], door.open.load(Ordering::Relaxed) as f64);
        }
        vec![refused, open]
    }
}
