//! Visitors: who is beyond the participants of a room, and only watches.

use std::time::Duration;

use jid::BareJid;

use crate::xmpp::XmppSettings;

/// When those who ask for a conference become visitors, and where they go.
#[derive(Debug, Clone)]
pub struct VisitorSettings {
    /// Participants of a room, from which on others become visitors; the room's metadata may say another number.
    pub max_participants: usize,
    /// Visitors of one room on one node, from which on another node is taken. All nodes being full, the emptiest one takes more.
    pub max_per_node: usize,
    /// How often a room is sent the number of its visitors.
    pub notification_interval: Duration,
    /// How long somebody who was sent to a node counts as being there already.
    pub join_latency: Duration,
    /// Whether the node of a room's visitors is connected with the room, so that they see who is in it.
    pub broadcast: bool,
    /// Only in rooms whose configuration or metadata allows visitors.
    pub require_room_flag: bool,
    /// Visitors wait until the room's metadata says that the meeting is live.
    pub live_room: bool,
    /// The servers that visitors are sent to.
    pub nodes: Vec<VisitorNode>,
}

/// A server that visitors are sent to.
#[derive(Debug, Clone)]
pub struct VisitorNode {
    /// Its name, by which clients find it.
    pub name: String,
    /// Our account there.
    pub xmpp: XmppSettings,
    /// Its MUC service, e.g. `conference.v1.meet.example`.
    pub service: BareJid,
}
