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
}

/// What one log could not write since it was started.
#[derive(Debug, Default)]
pub struct LogCounters {
    lost: [AtomicU64; Lost::ALL.len()],
    /// Lines cut because they were too long.
    cut: AtomicU64,
}

impl LogCounters {
    pub(super) fn lose(&self, reason: Lost) {
        self.lost[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters as metrics.
    pub fn families(&self) -> Vec<Family> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let lost = Lost::ALL.iter().map(|lost| (lost.name(), count(&self.lost[*lost as usize])));
        let help = "Log lines that could not be written.";
        vec![
            Family::new("ringbridge_log_lines_lost", help, Kind::PlainCounter).by_reason(lost),
            Family::single(
                "ringbridge_log_lines_cut",
                "Log lines that were too long.",
                Kind::PlainCounter,
                count(&self.cut),
            ),
        ]
    }
}
