//! Whether an encoding still comes, judged by time and by the pictures of the others.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// An encoding or spatial layer is silent after this long, if the others went on in the meantime.
pub const SILENT: Duration = Duration::from_millis(250);
/// Pictures of the others that make sure of it.
pub const SILENT_PICTURES: u32 = 3;

/// Whether an encoding still arrives.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Activity {
    #[serde(with = "crate::carry::checked")]
    last: Option<Instant>,
    missed: u32,
}

impl Activity {
    /// A packet came.
    pub fn packet(&mut self, now: Instant) {
        *self = Self { last: Some(now), missed: 0 };
    }

    /// Whether one ever came.
    pub fn any(&self) -> bool {
        self.last.is_some()
    }

    /// Another encoding's picture came.
    pub fn other(&mut self) {
        self.missed = self.missed.saturating_add(1);
    }

    /// Whether it still comes.
    pub fn active(&self, now: Instant) -> bool {
        self.last.is_some_and(|at| now.saturating_duration_since(at) < SILENT || self.missed < SILENT_PICTURES)
    }
}
