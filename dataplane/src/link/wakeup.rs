//! How a sleeping reader of rings is woken: once, however much is queued meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::io::{EventFd, IoError};

/// A wake-up that is written at most once until the reader consumed it.
#[derive(Debug, Clone, Default)]
struct Pending(Arc<AtomicBool>);

impl Pending {
    /// Marks as pending; true when the reader must be woken (it was not pending yet).
    fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// The reader calls this before it drains the ring.
    fn clear(&self) {
        // A swap, not a store: a plain store may pass the ring's loads that follow it, and a wake-up would be lost.
        self.0.swap(false, Ordering::AcqRel);
    }
}

/// Wakes the one reader of one or more rings; writes its eventfd only when the reader may be asleep.
#[derive(Debug, Clone)]
pub struct Wakeup {
    fd: EventFd,
    pending: Pending,
}

impl Wakeup {
    /// A new one.
    pub fn new() -> Result<Self, IoError> {
        Ok(Self { fd: EventFd::new()?, pending: Pending::default() })
    }

    /// The writer calls this after it has queued something.
    pub fn wake(&self) {
        if self.pending.raise() {
            self.fd.notify();
        }
    }

    /// The reader calls this when it woke up, before it drains its rings.
    pub fn clear(&self) {
        self.pending.clear();
    }

    /// What the reader sleeps on.
    pub fn event_fd(&self) -> &EventFd {
        &self.fd
    }
}
