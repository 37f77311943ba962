//! A room's metadata (docs/protocol/focus.md 8.3), and whether the room waits for it.

use std::time::{Duration, Instant};

use crate::focus::json_message::RoomMetadata;
use crate::focus::visitors::Bearer;

/// A room whose service says that metadata will come waits for it so long at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of a room.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Metadata {
    current: Option<RoomMetadata>,
    /// Until when the room waits for it.
    #[serde(with = "crate::carried")]
    due: Option<Instant>,
}

impl Metadata {
    /// Whether newcomers start muted: audio, video.
    pub fn start_muted(&self) -> (bool, bool) {
        self.current.as_ref().and_then(|metadata| metadata.start_muted).unwrap_or_default()
    }

    /// Whether visitors are allowed; nothing where it is not said.
    pub fn visitors_enabled(&self) -> Option<bool> {
        self.current.as_ref()?.visitors_enabled
    }

    /// From how many participants on others become visitors; nothing where it is not said.
    pub fn participants_soft_limit(&self) -> Option<usize> {
        let limit = self.current.as_ref()?.participants_soft_limit?;
        usize::try_from(limit).ok().filter(|limit| *limit > 0)
    }

    /// Whether the meeting is live.
    pub fn is_live(&self) -> bool {
        self.current.as_ref().is_some_and(|metadata| metadata.visitors_live)
    }

    /// Whether newcomers wait in a lobby.
    pub fn has_lobby(&self) -> bool {
        self.current.as_ref().is_some_and(|metadata| metadata.lobby_enabled)
    }

    /// Whether only those who are listed may take part.
    pub fn lists_participants(&self) -> bool {
        self.current.as_ref().is_some_and(|metadata| metadata.participants.is_some())
    }

    /// Whether who bears a token is listed as one who takes part, alone or by its group.
    pub fn prefers(&self, bearer: &Bearer) -> bool {
        let Some(metadata) = &self.current else { return false };
        let listed = |id: &String| {
            metadata.moderators.contains(id) || metadata.participants.as_ref().is_some_and(|all| all.contains(id))
        };
        bearer.user.as_ref().is_some_and(listed) || bearer.group.as_ref().is_some_and(listed)
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

    /// Takes what the component sends. What is not said of some parts stays as it was.
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

    /// The metadata as received, for operators.
    pub fn current(&self) -> Option<&RoomMetadata> {
        self.current.as_ref()
    }
}
