//! The rooms of a conference's visitors, and what is announced to the participants of them.

use std::collections::BTreeMap;
use std::time::Instant;

use jid::BareJid;

use crate::focus::limits::IMPLAUSIBLE;
use crate::focus::visitors::{Codecs, Invited, NodeId};
use crate::focus::xml::escaped;
use crate::xmpp::iq::Request;

/// How far we are with the room on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Progress {
    /// Our join was sent.
    Joining,
    /// Its settings were sent.
    Configuring,
    /// Visitors are let in.
    Ready,
}

/// The room of a conference's visitors on one node.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct VisitorRoom {
    pub(super) room: BareJid,
    pub(super) progress: Progress,
    /// Requests that wait for it.
    pub(super) waiting: Vec<Request>,
    /// Until when it has to be ready, or its node has to be back.
    #[serde(with = "crate::carried")]
    pub(super) due: Option<Instant>,
    /// Visitors in it.
    pub(super) present: usize,
    pub(super) invited: Invited,
}

/// A conference's visitors.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Visitors {
    /// How many there are, wherever.
    pub(super) count: usize,
    pub(super) rooms: BTreeMap<NodeId, VisitorRoom>,
    /// Nodes that did not let us in, and until when they are passed over.
    #[serde(with = "crate::carried")]
    pub(super) avoided: BTreeMap<NodeId, Instant>,
    pub(super) codecs: Codecs,
    /// How many there are and their codecs, as announced to the rooms; nothing where there never was one.
    pub(super) announced: Option<(usize, String)>,
    #[serde(with = "crate::carried")]
    pub(super) announced_at: Option<Instant>,
    /// When what was not announced at once is.
    #[serde(with = "crate::carried")]
    pub(super) tell_due: Option<Instant>,
}

impl Visitors {
    /// Whether a focus can have counted so.
    pub(super) fn is_sound(&self) -> bool {
        let room = |room: &VisitorRoom| room.invited.is_sound() && (room.present as u64) < IMPLAUSIBLE;
        (self.count as u64) < IMPLAUSIBLE && self.rooms.values().all(room) && self.codecs.is_sound()
    }

    /// The room on a node.
    pub(super) fn room(&self, node: NodeId) -> Option<&BareJid> {
        self.rooms.get(&node).map(|room| &room.room)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.rooms.values().filter_map(|room| room.due).chain(self.tell_due).min()
    }

    /// What the presence of a room's focus says of them.
    pub(super) fn properties(&self) -> String {
        let Some((count, codecs)) = &self.announced else { return String::new() };
        let codecs = match codecs.as_str() {
            "" => String::new(),
            codecs => format!("<property key='visitor-codecs' value='{}'/>", escaped(codecs)),
        };
        format!("<property key='visitor-count' value='{count}'/>{codecs}")
    }

    /// Its state, for operators.
    pub(super) fn to_json(&self) -> serde_json::Value {
        let of = |room: &VisitorRoom| {
            let state = format!("{:?}", room.progress);
            (room.room.to_string(), serde_json::json!({ "state": state, "visitors": room.present }))
        };
        self.rooms.values().map(of).collect::<serde_json::Map<_, _>>().into()
    }
}
