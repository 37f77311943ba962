//! What the doors refused since the process started.

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

/// The counters of one door.
#[derive(Debug)]
pub(super) struct Door {
    name: &'static str,
    refused: [AtomicU64; Refused::ALL.len()],
    /// Connections open now.
    pub open: AtomicU64,
}

impl Door {
    const fn new(name: &'static str) -> Self {
        Self { name, refused: [const { AtomicU64::new(0) }; Refused::ALL.len()], open: AtomicU64::new(0) }
    }

    pub fn of(name: Name) -> &'static Self {
        match name {
            Name::Channel => &DOORS[0],
            Name::Pages => &DOORS[1],
        }
    }

    pub fn refuse(&self, reason: Refused) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

static DOORS: [Door; 2] = [Door::new("channel"), Door::new("pages")];

/// The counters as metrics.
pub fn families() -> Vec<Family> {
    let help = "HTTP connections refused or ended by us.";
    let mut refused = Family::new("ringbridge_http_refused", help, Kind::PlainCounter);
    let mut open = Family::new("ringbridge_http_connections", "HTTP connections open now.", Kind::Gauge);
    for door in &DOORS {
        for (reason, name) in Refused::ALL {
            let count = door.refused[reason as usize].load(Ordering::Relaxed) as f64;
            refused = refused.with(&[("door", door.name), ("reason", name)], count);
        }
        open = open.with(&[("door", door.name)], door.open.load(Ordering::Relaxed) as f64);
    }
    vec![refused, open]
}
