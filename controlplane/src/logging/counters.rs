//! Log lines that nobody will read, by reason.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::{Family, Kind};

/// Why a line was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// Whoever reads the log is slower than what is logged.
    QueueFull,
    /// No room: a full disk, a quota, a limit of the file's size.
    NoSpace,
    /// Nobody reads any more.
    Closed,
    /// Another failure.
    Failed,
    /// The thread that writes could not be started.
    NoThread,
}

impl Lost {
    const ALL: [Self; 5] = [Self::QueueFull, Self::NoSpace, Self::Closed, Self::Failed, Self::NoThread];

    pub fn by(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::NoSpace,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Failed,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::NoSpace => "no_space",
            Self::Closed => "closed",
            Self::Failed => "failed",
            Self::NoThread => "no_thread",
        }
    }

    pub fn count(self) {
        LOST[self as usize].fetch_add(1, Ordering::Relaxed);
    }
}

static LOST: [AtomicU64; Lost::ALL.len()] = [const { AtomicU64::new(0) }; Lost::ALL.len()];

/// Lines cut because they were too long.
pub(super) static CUT: AtomicU64 = AtomicU64::new(0);

/// The counters as metrics.
pub fn families() -> Vec<Family> {
    let lost = Lost::ALL.iter().fold(
        Family::new("ringbridge_log_lines_lost", "Log lines that could not be written.", Kind::PlainCounter),
        |family, lost| family.with(&[("reason", lost.name())], LOST[*lost as usize].load(Ordering::Relaxed) as f64),
    );
    let cut = CUT.load(Ordering::Relaxed) as f64;
    vec![lost, Family::single("ringbridge_log_lines_cut", "Log lines that were too long.", Kind::PlainCounter, cut)]
}
