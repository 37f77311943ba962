//! Rooms of the process before that this one is not in yet.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jid::BareJid;

use super::kept::KeptRoom;

/// Rooms that nobody asks for within this are forgotten, where we have left them.
const PATIENCE: Duration = Duration::from_secs(300);

/// Rooms that this process is not in yet.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct FormerRooms {
    rooms: BTreeMap<BareJid, KeptRoom>,
    /// Whether we never left them, and know which services the server has.
    enters: bool,
    resumed: bool,
    /// When those that nobody asked for are forgotten.
    #[serde(with = "crate::carried")]
    until: Option<Instant>,
}

impl FormerRooms {
    /// What the process before kept.
    pub fn of(rooms: BTreeMap<BareJid, KeptRoom>) -> Self {
        Self { rooms, ..Self::default() }
    }

    /// All that are left.
    pub fn all(&self) -> &BTreeMap<BareJid, KeptRoom> {
        &self.rooms
    }

    /// The first connection is up; `resumed` says that the rooms saw nobody leave.
    pub fn begin(&mut self, now: Instant, resumed: bool) {
        self.resumed = resumed;
        self.until = (!self.rooms.is_empty()).then(|| now + PATIENCE);
    }

    /// Which services the server has is known as well as it will be.
    pub fn may_enter(&mut self) {
        self.enters = self.resumed;
    }

    /// The next one to be entered without being asked for, if there is any.
    pub fn next(&mut self) -> Option<(BareJid, KeptRoom)> {
        if self.enters { self.rooms.pop_first() } else { None }
    }

    /// Whether there is any that is to be entered.
    pub fn are_due(&self) -> bool {
        self.enters && !self.rooms.is_empty()
    }

    /// What was kept of a room that somebody asks for. Where we have left it, who comes is new, whatever its name, and the
    /// service says how the room is: Jibris alone are as they were.
    pub fn take(&mut self, room: &BareJid) -> Option<KeptRoom> {
        let kept = self.rooms.remove(room)?;
        Some(if self.resumed { kept } else { KeptRoom { tasks: kept.tasks, ..KeptRoom::default() } })
    }

    /// Whether a room is among them and was never left.
    pub fn is_in(&self, room: &BareJid) -> bool {
        self.resumed && self.rooms.contains_key(room)
    }

    /// When they are forgotten.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }
}
