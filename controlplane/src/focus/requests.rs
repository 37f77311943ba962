//! IQs of ours: what they are for, how long an answer may take, and what is to be sent.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use jid::{BareJid, Jid};
use rand::RngCore;
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::stanza_error::StanzaError;

use super::cascade::LinkId;
use super::limits::MAX_HOLD;

/// An IQ without an answer for this long failed (docs/protocol/focus.md 11).
const IQ_TIMEOUT: Duration = Duration::from_secs(15);
/// A bridge that lives answers a health check much sooner.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter, so that it is known before the bridges are judged.
const SERVER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// A service that does not tell about its rooms is not waited for: they only lack its meeting id then.
const ROOM_INFO_TIMEOUT: Duration = Duration::from_secs(2);
/// What an outstanding IQ of ours is for.
#[derive(Debug, Clone, PartialEq)]
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
    Server { asked: Instant },
    /// Which components the clients' host has.
    Components,
}

/// What a conference asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Question {
    /// Settings of the room.
    RoomForm,
    /// What the room's service tells about it.
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
    /// Sources that a member was told of in that session, whether they are video, and when.
    SourcesSignaled { nick: String, sid: String, sources: Vec<(String, bool)>, at: Instant },
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
#[derive(Debug)]
pub(super) struct Requests {
    /// By id: when each is late, who was asked, and what for.
    pending: BTreeMap<String, (Instant, Jid, Pending)>,
    outputs: VecDeque<Stanza>,
    next_id: u64,
    token: u64,
}

impl Requests {
    /// None yet.
    pub fn new() -> Self {
        Self {
            pending: BTreeMap::new(),
            outputs: VecDeque::new(),
            next_id: 0,
            // Ids of a former process must not match ours.
            token: rand::rng().next_u64(),
        }
    }

    /// Queues a stanza.
    pub fn send(&mut self, stanza: impl Into<Stanza>) {
        self.outputs.push_back(stanza.into());
    }

    /// The next stanza to send.
    pub fn poll_output(&mut self) -> Option<Stanza> {
        self.outputs.pop_front()
    }

    /// Sends an IQ and remembers what it is for.
    pub fn request(&mut self, now: Instant, to: &str, set: bool, payload: Element, pending: Pending) {
        let Ok(to) = to.parse::<Jid>() else {
            tracing::error!(to, "an IQ has no valid address; it is not sent");
            return;
        };
        let id = self.new_id();
        self.pending.insert(id.clone(), (now + pending.patience(), to.clone(), pending));
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
        format!("rb{:x}-{}", self.token, self.next_id)
    }

    /// What an answer is for, if anything. Ids can be guessed by those who saw others: only who was asked may answer.
    pub fn take(&mut self, id: &str, from: Option<&Jid>) -> Result<Option<Pending>, ForeignAnswer> {
        let Some((_, to, _)) = self.pending.get(id) else { return Ok(None) };
        if from != Some(to) {
            tracing::debug!(id, ?from, asked = %to, "answer dropped: it comes from somebody else");
            return Err(ForeignAnswer);
        }
        Ok(self.pending.remove(id).map(|(.., pending)| pending))
    }

    /// What was not answered in time.
    pub fn take_late(&mut self, now: Instant) -> Vec<Pending> {
        let late: Vec<String> =
            self.pending.iter().filter(|(_, (due, ..))| *due <= now).map(|(id, _)| id.clone()).collect();
        late.iter().filter_map(|id| self.pending.remove(id)).map(|(.., pending)| pending).collect()
    }

    /// Gives every answer its whole time from now on: we were away.
    pub fn wait_anew(&mut self, now: Instant) {
        for (due, _, pending) in self.pending.values_mut() {
            *due = now + pending.patience();
        }
    }

    /// Nothing is answered any more.
    pub fn forget(&mut self) {
        self.pending.clear();
    }

    /// When the next answer is late.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pending.values().map(|(due, ..)| *due).min()
    }
}
