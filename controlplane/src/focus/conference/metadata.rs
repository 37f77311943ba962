//! A room's metadata (docs/protocol/focus.md 8.3), and whether the room waits for it.

use std::time::{Duration, Instant};

use crate::focus::json_message::RoomMetadata;

/// A room whose service says that metadata will come waits for it so long at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of a room.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    current: Option<RoomMetadata>,
    /// Until when the room waits for it.
    due: Option<Instant>,
}

impl Metadata {
    /// Whether newcomers start muted: audio, video.
    pub fn start_muted(&self) -> (bool, bool) {
        self.current.as_ref().and_then(|metadata| metadata.start_muted).unwrap_or_default()
    }

    /// When the room waits no longer.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Waits for the first metadata, unless it is here; whether it does.
    pub fn wait(&mut self, now: Instant) -> bool {
        if self.current.is_none() {
            self.due = Some(now + PATIENCE);
        }
        self.due.is_some()
    }

    /// Takes what the component tells. What is not said of some parts stays as it was.
    pub fn update(&mut self, mut metadata: RoomMetadata) {
        if let Some(old) = &self.current {
            metadata.start_muted = metadata.start_muted.or(old.start_muted);
            metadata.visitors_enabled = metadata.visitors_enabled.or(old.visitors_enabled);
            metadata.participants_soft_limit = metadata.participants_soft_limit.or(old.participants_soft_limit);
        }
        self.current = Some(metadata);
    }

    /// Waits no longer; whether it did.
    pub fn settle(&mut self) -> bool {
        self.due.take().is_some()
    }

    /// For operators.
    pub fn current(&self) -> Option<&RoomMetadata> {
        self.current.as_ref()
    }
}
