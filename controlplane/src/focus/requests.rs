//! IQs of ours: what they are for, how long an answer may take, and what is to be sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use jid::{BareJid, Jid};
use rand::RngCore;
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::stanza_error::StanzaError;

use super::cascade::LinkId;
use super::limits::{IMPLAUSIBLE, MAX_HOLD};
use super::visitors::NodeId;

/// An IQ without an answer for this long failed (docs/protocol/focus.md 11).
pub(super) const IQ_TIMEOUT: Duration = Duration::from_secs(15);
/// A bridge that lives answers a health check much sooner.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter, so that it is known before the bridges are judged.
const SERVER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// A service that does not describe its rooms is not waited for: they only lack its meeting id then.
const ROOM_INFO_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of the beginning of our ids.
const MAX_PREFIX: usize = 32;

/// What an outstanding IQ of ours is for.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) enum Pending {
    /// Something of a conference.
    InConference { room: BareJid, what: Question },
    /// Health of a bridge.
    Health { bridge: String },
    /// A Jibri is to begin a task of a room.
    Jibri { room: BareJid, session: String, attempt: u64 },
    /// A Jigasi is to call somebody.
    Dial { call: u64, attempt: usize },
    /// Whether the server listens.
    Server {
        #[serde(with = "crate::carried")]
        asked: Instant,
    },
    /// Which components the clients' host has.
    Components,
}

/// What a conference asked.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) enum Question {
    /// Settings of the room.
    RoomForm,
    /// What the room's service says of it.
    RoomInfo,
    /// What a member can do.
    Disco { nick: String, ver: Option<String> },
    /// An endpoint on a bridge.
    Allocate { nick: String, session: String, invite: u64 },
    /// A change of an endpoint.
    Update { nick: String, session: String },
    /// Something of the relay `link` of our session on a bridge; its transport, when it `creates` it.
    Relay { session: String, link: LinkId, creates: bool },
    /// An ICE restart of a member's session `sid`.
    IceRestart { nick: String, session: String, sid: String },
    /// A session-initiate, answered or not.
    Initiate { nick: String, sid: String },
    /// Sources that were signalled to a member in that session, whether they are video, and when.
    SourcesSignaled {
        nick: String,
        sid: String,
        sources: Vec<(String, bool)>,
        #[serde(with = "crate::carried")]
        at: Instant,
    },
    /// Settings of the visitors' room on a node.
    VisitorRoomForm { node: NodeId },
    /// Whether the component of visitors heeds what was sent to it about nodes.
    VisitorNodes,
}

impl Pending {
    /// How long its answer may take.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Health { .. } => HEALTH_TIMEOUT,
            Self::Server { .. } => SERVER_TIMEOUT,
            Self::InConference { what: Question::RoomInfo, .. } => ROOM_INFO_TIMEOUT,
            Self::InConference { what: Question::SourcesSignaled { .. }, .. } => MAX_HOLD,
            Self::InConference { .. } | Self::Jibri { .. } | Self::Dial { .. } | Self::Components => IQ_TIMEOUT,
        }
    }
}

/// How an IQ of ours ended.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// With a result.
    Result(Option<Element>),
    /// With an error.
    Error(Box<StanzaError>),
    /// Not at all.
    Timeout,
}
/// An answer came from somebody who was not asked.
#[derive(Debug)]
pub(super) struct ForeignAnswer;

/// Stanzas to send, and IQs that wait for an answer.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Requests {
    /// By number: when each is late, who was asked, and what for.
    #[serde(with = "crate::carried")]
    pending: BTreeMap<u64, (Instant, Jid, Pending)>,
    /// The same in the order in which they are late: a large room has thousands, and this is looked at after every stanza.
    #[serde(skip)]
    due: BTreeSet<(Instant, u64)>,
    /// To which server each goes: a visitor node, or our own.
    #[serde(skip)]
    outputs: VecDeque<(Option<NodeId>, Stanza)>,
    /// MUC services of visitor nodes: what is for them goes there.
    #[serde(skip)]
    services: BTreeMap<String, NodeId>,
    next_id: u64,
    /// How our ids begin. Those of a former process must not match.
    prefix: String,
}

impl Requests {
    /// None yet; what is for one of these services goes to its visitor node.
    pub fn new(services: BTreeMap<String, NodeId>) -> Self {
        Self {
            pending: BTreeMap::new(),
            due: BTreeSet::new(),
            outputs: VecDeque::new(),
            services,
            next_id: 0,
            prefix: format!("rb{:x}-", rand::rng().next_u64()),
        }
    }

    /// Goes on with what another process asked: the answers come to this one.
    pub fn go_on_with(&mut self, other: Self) {
        let Self { pending, due, outputs: _, services: _, next_id, prefix } = self;
        (*pending, *next_id, *prefix) = (other.pending, other.next_id, other.prefix);
        *due = pending.iter().map(|(number, (at, ..))| (*at, *number)).collect();
    }

    /// Whether a focus can have asked all this: its numbers were given out, and its ids are distinguished from those of others.
    pub fn is_sound(&self) -> bool {
        let numbers = self.pending.last_key_value().is_none_or(|(number, _)| *number <= self.next_id);
        numbers && self.next_id < IMPLAUSIBLE && self.prefix.starts_with("rb") && self.prefix.len() <= MAX_PREFIX
    }

    /// Whether something waits to be sent.
    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Queues a stanza.
    pub fn send(&mut self, stanza: impl Into<Stanza>) {
        let stanza = stanza.into();
        let to = match &stanza {
            Stanza::Iq(iq) => iq.to(),
            Stanza::Presence(presence) => presence.to.as_ref(),
            Stanza::Message(message) => message.to.as_ref(),
        };
        let node = to.and_then(|to| self.services.get(to.domain().as_str()).copied());
        self.outputs.push_back((node, stanza));
    }

    /// The next stanza to send, and to which visitor node if not to our own server.
    pub fn poll_output(&mut self) -> Option<(Option<NodeId>, Stanza)> {
        self.outputs.pop_front()
    }

    /// Sends an IQ and remembers what it is for.
    pub fn request(&mut self, now: Instant, to: &str, set: bool, payload: Element, pending: Pending) {
        let Ok(to) = to.parse::<Jid>() else {
            tracing::error!(to, "an IQ has no valid address; it is not sent");
            return;
        };
        let id = self.new_id();
        let due = now + pending.patience();
        self.due.insert((due, self.next_id));
        self.pending.insert(self.next_id, (due, to.clone(), pending));
        let to = Some(to);
        let iq = match set {
            true => Iq::Set { from: None, to, id, payload },
            false => Iq::Get { from: None, to, id, payload },
        };
        self.send(iq);
    }

    /// Sends an IQ whose answer does not matter.
    pub fn notify(&mut self, to: &str, payload: Element) {
        let Ok(to) = to.parse::<Jid>() else { return };
        let id = self.new_id();
        self.send(Iq::Set { from: None, to: Some(to), id, payload });
    }

    fn new_id(&mut self) -> String {
        self.next_id += 1;
        format!("{}{}", self.prefix, self.next_id)
    }

    /// The number in an id of ours.
    fn number(&self, id: &str) -> Option<u64> {
        let digits = id.strip_prefix(&self.prefix)?;
        digits.parse().ok().filter(|number: &u64| number.to_string() == digits)
    }

    /// What an answer is for, if anything. Ids can be guessed by those who saw others: only who was asked may answer.
    pub fn take(&mut self, id: &str, from: Option<&Jid>) -> Result<Option<Pending>, ForeignAnswer> {
        let Some(number) = self.number(id) else { return Ok(None) };
        let Some((due, to, _)) = self.pending.get(&number) else { return Ok(None) };
        if from != Some(to) {
            tracing::debug!(id, ?from, asked = %to, "answer dropped: it comes from somebody else");
            return Err(ForeignAnswer);
        }
        self.due.remove(&(*due, number));
        Ok(self.pending.remove(&number).map(|(.., pending)| pending))
    }

    /// What was not answered in time.
    pub fn take_late(&mut self, now: Instant) -> Vec<Pending> {
        let mut late = Vec::new();
        while let Some((_, number)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.pop_first();
            late.extend(self.pending.remove(&number).map(|(.., pending)| pending));
        }
        late
    }

    /// Gives every answer its whole time from now on: we were away.
    pub fn wait_anew(&mut self, now: Instant) {
        for (due, _, pending) in self.pending.values_mut() {
            *due = now + pending.patience();
        }
        self.due = self.pending.iter().map(|(number, (due, ..))| (*due, *number)).collect();
    }

    /// Nothing is answered any more.
    pub fn forget(&mut self) {
        self.pending.clear();
        self.due.clear();
    }

    /// When the next answer is late.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "room@conference.meet.test/alice";

    fn ask(requests: &mut Requests, now: Instant, bridge: &str) -> String {
        let payload = Element::bare("ping", "urn:xmpp:ping");
        requests.request(now, ASKED, false, payload, Pending::Health { bridge: bridge.to_owned() });
        match requests.poll_output() {
            Some((None, Stanza::Iq(iq))) => iq.id().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_is_answered_once_by_who_was_asked_or_is_late() {
        let (mut requests, now) = (Requests::new(BTreeMap::new()), Instant::now());
        let asked: Option<Jid> = ASKED.parse().ok();
        let (first, second) = (ask(&mut requests, now, "1"), ask(&mut requests, now + Duration::from_secs(1), "2"));
        assert_eq!(requests.poll_timeout(), Some(now + HEALTH_TIMEOUT));
        let other = "room@conference.meet.test/mallory".parse().ok();
        assert!(requests.take(&first, other.as_ref()).is_err() && requests.take(&first, None).is_err());
        let strange =
            [first.replace('-', "-0"), format!("{first}0"), format!("x{first}"), "rb-1".into(), String::new()];
        for id in strange {
            assert!(matches!(requests.take(&id, asked.as_ref()), Ok(None)), "{id}");
        }
        assert_eq!(requests.take(&first, asked.as_ref()).ok().flatten(), Some(Pending::Health { bridge: "1".into() }));
        assert!(matches!(requests.take(&first, asked.as_ref()), Ok(None)), "once");
        assert_eq!(requests.poll_timeout(), Some(now + Duration::from_secs(3)), "{second}");
        requests.wait_anew(now + Duration::from_secs(10));
        assert_eq!(requests.take_late(now + Duration::from_secs(11)), []);
        assert_eq!(requests.take_late(now + Duration::from_secs(12)), [Pending::Health { bridge: "2".into() }]);
        assert_eq!((requests.poll_timeout(), requests.pending.len(), requests.due.len()), (None, 0, 0));
    }
}
