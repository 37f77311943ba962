//! How often a sender may be asked for a keyframe.

use std::time::{Duration, Instant};

/// Least time between two requests for one source, and between two wishes of one receiver.
const INTERVAL: Duration = Duration::from_millis(200);

/// Lets one request through per interval.
#[derive(Debug, Default, Clone, Copy)]
pub struct Throttle {
    last: Option<Instant>,
}

impl Throttle {
    /// Whether a request may pass now.
    pub fn ready(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL)
    }

    /// Notes a request.
    pub fn used(&mut self, now: Instant) {
        self.last = Some(now);
    }
}
