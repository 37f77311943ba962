//! What the focus keeps for anybody, and does for anybody, at most; docs/security.md lists the same.
//!
//! Clients are strangers. Whatever they cause is bounded per client, so that one cannot take what is everybody's, and in all,
//! so that many cannot either.

use std::time::Duration;

use crate::pace::Rate;

/// Requests of any kind of one sender. Beyond it they are dropped: to answer would be work too.
pub const ASKS: Rate = Rate { burst: 100, per_second: 20.0 };
/// Requests to mute: a moderator may silence a large room at once.
pub const MUTES: Rate = Rate { burst: 1_000, per_second: 20.0 };
/// Conferences that one sender may begin.
pub const NEW_ROOMS: Rate = Rate { burst: 5, per_second: 1.0 };
/// Invitations of one address to one conference: each makes an endpoint on a bridge.
pub const INVITES: Rate = Rate { burst: 10, per_second: 0.5 };
/// Changes of one member's sources.
pub const SOURCE_CHANGES: Rate = Rate { burst: 30, per_second: 2.0 };
/// Trickled transports of one member.
pub const TRANSPORTS: Rate = Rate { burst: 40, per_second: 5.0 };
/// Senders of whom any of this is remembered; the others share.
pub const MAX_SENDERS: usize = 20_000;

/// Stanzas by which changed sources are signalled to a conference's members, at once: so many rounds as that makes, but some.
const SIGNAL_BURST: usize = 4_000;
/// What those rounds come to in the long run, in stanzas per second: beyond it changes are signalled together.
const SIGNALS_PER_SECOND: f64 = 400.0;

/// How often changed sources are signalled to all `members` of a conference.
pub fn signal_rate(members: usize) -> Rate {
    let members = members.max(1);
    Rate { burst: (SIGNAL_BURST / members).clamp(4, 100) as u32, per_second: SIGNALS_PER_SECOND / members as f64 }
}

/// Rooms that are being joined and configured at a time. The server does that one after the other, and everything else of
/// the focus waits behind it, health checks of bridges too.
pub const MAX_SETTING_UP: usize = 8;
/// Rooms of the process before that are entered at a time: members have media, and wait for nothing.
pub const RETURNING: usize = 32;
/// A breakout room that its service keeps the focus out of for this long is none.
pub const BREAKOUT_JOIN: Duration = Duration::from_secs(3);
/// Breakout rooms of one main room.
pub const MAX_BREAKOUT_ROOMS: usize = 100;
/// Requests that wait for one room.
pub const MAX_WAITING: usize = 100;
/// Rooms that nobody entered yet. Beyond it the oldest are left.
pub const MAX_EMPTY: usize = 200;
/// But not before they had this long.
pub const EMPTY_GRACE: Duration = Duration::from_secs(5);

/// Members of one conference that are served: what is signalled to all of them at once has to fit the queue to the server.
pub const MAX_MEMBERS: usize = 1_000;
/// Bytes of a name that a client gave: statistics id, source name, msid, node and hash of capabilities.
pub const MAX_NAME: usize = 256;
/// Bytes of a nickname: it is part of every name of a source.
pub const MAX_NICK: usize = 200;
/// Bytes of a region.
pub const MAX_REGION: usize = 64;

/// Bytes of what a member says in JSON of whether it sends.
pub const MAX_SOURCE_INFO: usize = 16 * 1024;

/// Topics of which our presence in a room says something: the recording and SIP calls, those that ended too.
pub const MAX_NOTICES: usize = 40;

/// Media waits so long at most, whatever the client does.
pub const MAX_HOLD: Duration = Duration::from_secs(3);

/// Bytes of a component's message about a room.
pub const MAX_JSON: usize = 256 * 1024;
/// How deep it is nested.
pub const MAX_JSON_DEPTH: usize = 16;
/// Entries of a list in it: who may unmute, who may moderate.
pub const MAX_LISTED: usize = 2_000;

/// Visitors of one conference, on all nodes together. Who is beyond it stays in the visitors' room without media.
pub const MAX_VISITORS: usize = 5_000;
/// A visitor node that does not let us into a room for this long is passed over.
pub const NODE_JOIN: Duration = Duration::from_secs(5);
/// A visitor node that is away for this long is lost, and its visitors with it.
pub const NODE_LOST: Duration = Duration::from_secs(60);
/// Bytes of a client's token.
pub const MAX_TOKEN: usize = 16 * 1024;
/// Bytes of the name of a visitor's codec, and codecs of one.
pub const MAX_CODEC: usize = 16;
pub const MAX_CODECS: usize = 16;

/// Bytes of a meeting id that a room's service gave.
pub const MAX_MEETING_ID: usize = 100;

/// Nobody counts so far: state of another process that says so is made up.
pub const IMPLAUSIBLE: u64 = 1 << 62;

/// Why something that was asked did not happen, or not as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A sender asks too often; not answered.
    Flood,
    /// A conference request is to be sent again: its sender begins too many.
    NewRooms,
    /// The same: too many rooms are being set up.
    SettingUp,
    /// The same: too many wait for that room.
    Waiting,
    /// The same: there are too many conferences, or too many that nobody entered.
    Conferences,
    /// A room was left early that nobody entered.
    EmptyLeft,
    /// A Jingle request was answered with an error.
    Jingle,
    /// Sources changed too often.
    SourceRate,
    /// One more would send than may.
    Senders,
    /// Transports came too often.
    TransportRate,
    /// Restarts came too often.
    RestartRate,
    /// ICE restarts came too often.
    IceRestartRate,
    /// The bridge declined an ICE restart; its client was invited again.
    IceRestartDeclined,
    /// An invitation was put off.
    InviteRate,
    /// A round of signalling to others was put off.
    TellsJoined,
    /// Formats and header extensions of an answer that were not offered.
    AnswerPart,
    /// Sources that had somebody else's name.
    SourceRenamed,
    /// Members beyond the bound, or with a nickname that is too long or not theirs to have.
    Member,
    /// Something in a presence was too long.
    PresencePart,
    /// A request to mute was answered with an error.
    Mute,
    /// A request that is not served.
    Unserved,
    /// Statistics in the brewery of somebody who is no bridge.
    FalseBridge,
    /// A bridge's health check failed while the server answered nothing at all.
    ServerSlow,
    /// An answer came from somebody who was not asked.
    ForeignAnswer,
    /// A room's meeting id was not used: no sound id, or that of another conference.
    MeetingId,
    /// A bridge had no room for an endpoint.
    BridgeFull,
    /// A component's message could not be read, or is about no room of ours.
    Message,
    /// What only a component may say was said by somebody else.
    ForeignMessage,
    /// A request to record, to stream or to call a SIP address was answered with an error.
    Recording,
    /// A request to call out was answered with an error.
    Dial,
    /// A request for a conference, or to log out, was refused because of the login.
    Login,
    /// A status in a brewery of recorders or gateways of somebody who is none.
    FalseInstance,
    /// A request was answered with an error for which no other reason is counted.
    Request,
    /// A request over HTTP was no request for a conference.
    HttpRequest,
    /// A breakout room was not served: its service did not let us in, it names no main room, or that has too many.
    Breakout,
    /// A visitor wanted to send something.
    VisitorSource,
    /// A visitor was not served: too many, or with a nickname that somebody else has.
    Visitor,
    /// A visitor was needed somewhere and no node takes any: it was let into the main room.
    NoVisitorNode,
    /// A visitor node did not let us into a room, or not in time.
    NodeFailed,
    /// A stanza came from a server that its sender is not of.
    ForeignNode,
    /// A request for a conference was answered that it is not live yet.
    NotLive,
}

impl Refused {
    /// All of them.
    pub const ALL: [(Self, &'static str); 41] = [
        (Self::Flood, "flood"),
        (Self::NewRooms, "new_rooms"),
        (Self::SettingUp, "setting_up"),
        (Self::Waiting, "waiting"),
        (Self::Conferences, "conferences"),
        (Self::EmptyLeft, "empty_left"),
        (Self::Jingle, "jingle"),
        (Self::SourceRate, "source_rate"),
        (Self::Senders, "senders"),
        (Self::TransportRate, "transport_rate"),
        (Self::RestartRate, "restart_rate"),
        (Self::IceRestartRate, "ice_restart_rate"),
        (Self::IceRestartDeclined, "ice_restart_declined"),
        (Self::InviteRate, "invite_rate"),
        (Self::TellsJoined, "tells_joined"),
        (Self::AnswerPart, "answer_part"),
        (Self::SourceRenamed, "source_renamed"),
        (Self::Member, "member"),
        (Self::PresencePart, "presence_part"),
        (Self::Mute, "mute"),
        (Self::Unserved, "unserved"),
        (Self::FalseBridge, "false_bridge"),
        (Self::ServerSlow, "server_slow"),
        (Self::ForeignAnswer, "foreign_answer"),
        (Self::MeetingId, "meeting_id"),
        (Self::BridgeFull, "bridge_full"),
        (Self::Message, "message"),
        (Self::ForeignMessage, "foreign_message"),
        (Self::Recording, "recording"),
        (Self::Dial, "dial"),
        (Self::Login, "login"),
        (Self::FalseInstance, "false_instance"),
        (Self::Request, "request"),
        (Self::HttpRequest, "http_request"),
        (Self::Breakout, "breakout"),
        (Self::VisitorSource, "visitor_source"),
        (Self::Visitor, "visitor"),
        (Self::NoVisitorNode, "no_visitor_node"),
        (Self::NodeFailed, "node_failed"),
        (Self::ForeignNode, "foreign_node"),
        (Self::NotLive, "not_live"),
    ];
}

/// How often each [`Refused`] occurred.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
#[serde(into = "Vec<u64>", try_from = "Vec<u64>")]
pub struct Refusals([u64; Refused::ALL.len()]);

impl From<Refusals> for Vec<u64> {
    fn from(Refusals(counts): Refusals) -> Self {
        counts.to_vec()
    }
}

impl TryFrom<Vec<u64>> for Refusals {
    type Error = &'static str;

    fn try_from(counts: Vec<u64>) -> Result<Self, &'static str> {
        counts.try_into().map(Self).map_err(|_| "other reasons are counted there")
    }
}

impl Default for Refusals {
    fn default() -> Self {
        Self([0; Refused::ALL.len()])
    }
}

impl Refusals {
    /// Counts.
    pub fn count(&mut self, reason: Refused, times: u64) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += times;
        }
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// By name.
    pub fn to_json(self) -> serde_json::Value {
        let count = |reason: Refused| serde_json::Value::from(self.0.get(reason as usize).copied());
        Refused::ALL.iter().map(|(reason, name)| ((*name).to_owned(), count(*reason))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_under_its_name() {
        for (index, (reason, _)) in Refused::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index, "{reason:?} is out of order");
        }
        let mut refusals = Refusals::default();
        refusals.count(Refused::ForeignAnswer, 2);
        assert_eq!(refusals.to_json()["foreign_answer"], 2);
        assert_eq!(refusals.to_json()["flood"], 0);
    }
}
