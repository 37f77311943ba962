//! The focus as a state machine: stanzas and the time in, stanzas out.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use jid::{BareJid, FullJid, Jid};
use rand::RngCore;
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::presence::Presence;
use xmpp_parsers::stanza_error::StanzaError;

use super::FocusSettings;
use super::bridges::Bridges;
use super::conference::Conference;
use super::offer::Features;
use crate::xmpp::muc::MucRoom;

/// An IQ without an answer for this long failed (focus-protocol 11).
const IQ_TIMEOUT: Duration = Duration::from_secs(15);

/// A brewery that could not be joined is tried again after this.
const BREWERY_RETRY: Duration = Duration::from_secs(5);

/// Conferences of rooms that the server forgot stay on the bridge so long, unless their room starts again.
const ORPHAN_LIFETIME: Duration = Duration::from_secs(60);

/// What the shell tells the focus.
#[derive(Debug)]
pub enum Input {
    /// The connection is up.
    Online {
        /// Whether the session survived, so that rooms are still joined.
        resumed: bool,
        /// Our address.
        jid: String,
    },
    /// The connection is gone.
    Offline,
    /// A stanza arrived.
    Stanza(Box<Stanza>),
}

/// What an outstanding IQ of ours is for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Pending {
    /// Settings of a room.
    RoomForm(BareJid),
    /// What a member can do.
    Disco { room: BareJid, nick: String, ver: Option<String> },
    /// An endpoint on a bridge.
    Allocate { room: BareJid, nick: String, session: String },
    /// A change of an endpoint.
    Update { room: BareJid, session: String },
    /// A session-initiate, answered or not.
    Initiate { room: BareJid, nick: String, sid: String },
    /// Health of a bridge.
    Health { bridge: String },
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

/// A conference on a bridge whose room is gone.
#[derive(Debug)]
pub(super) struct Orphan {
    pub room: BareJid,
    pub meeting_id: String,
    pub bridge: String,
    pub deadline: Instant,
}

/// The focus.
pub struct Focus {
    pub(super) settings: FocusSettings,
    pub(super) jid: String,
    pub(super) online: bool,
    pub(super) brewery: MucRoom,
    pub(super) brewery_retry: Option<Instant>,
    pub(super) bridges: Bridges,
    pub(super) conferences: BTreeMap<BareJid, Conference>,
    pub(super) orphans: Vec<Orphan>,
    pub(super) caps: BTreeMap<String, Features>,
    pub(super) arrivals: u64,
    pub(super) totals: Totals,
    pending: BTreeMap<String, (Instant, Pending)>,
    outputs: VecDeque<Stanza>,
    next_id: u64,
    token: u64,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub conferences: u64,
    pub participants: u64,
    pub moved: u64,
    pub lost_bridges: u64,
    pub restarts: u64,
}

impl Focus {
    /// A focus that is not connected yet.
    pub fn new(settings: FocusSettings) -> Result<Self, jid::Error> {
        let brewery = MucRoom::new(&settings.brewery, "focus")?;
        Ok(Self {
            jid: settings.xmpp.jid.to_string(),
            settings,
            online: false,
            brewery,
            brewery_retry: None,
            bridges: Bridges::default(),
            conferences: BTreeMap::new(),
            orphans: Vec::new(),
            caps: BTreeMap::new(),
            arrivals: 0,
            totals: Totals::default(),
            pending: BTreeMap::new(),
            outputs: VecDeque::new(),
            next_id: 0,
            // Ids of a former process must not match ours.
            token: rand::rng().next_u64(),
        })
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Online { resumed, jid } => {
                self.online = true;
                self.jid = jid;
                if !resumed {
                    self.forget_rooms(now);
                    self.join_brewery();
                }
            }
            Input::Offline => self.online = false,
            Input::Stanza(stanza) => match *stanza {
                Stanza::Presence(presence) => self.handle_presence(now, presence),
                Stanza::Iq(iq) => self.handle_iq(now, iq),
                Stanza::Message(_) => {}
            },
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late: Vec<String> =
            self.pending.iter().filter(|(_, (due, _))| *due <= now).map(|(id, _)| id.clone()).collect();
        for id in late {
            if let Some((_, pending)) = self.pending.remove(&id) {
                self.answered(now, pending, Answer::Timeout);
            }
        }
        if self.online && self.brewery_retry.is_some_and(|due| due <= now) {
            self.join_brewery();
        }
        if self.online {
            for bridge in self.bridges.due_checks(now) {
                self.check_health(now, bridge);
            }
        }
        self.conference_timeouts(now);
        let (due, waiting) = std::mem::take(&mut self.orphans).into_iter().partition(|orphan| orphan.deadline <= now);
        self.orphans = waiting;
        let due: Vec<Orphan> = due;
        for orphan in due {
            self.expire_on_bridge(now, &orphan.bridge, &orphan.meeting_id);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pending = self.pending.values().map(|(due, _)| *due);
        let conferences = self.conferences.values().filter_map(Conference::poll_timeout);
        let orphans = self.orphans.iter().map(|orphan| orphan.deadline);
        let checks = self.bridges.poll_timeout().filter(|_| self.online);
        let retry = self.brewery_retry.filter(|_| self.online);
        pending.chain(conferences).chain(orphans).chain(checks).chain(retry).min()
    }

    /// The next stanza to send.
    pub fn poll_output(&mut self) -> Option<Stanza> {
        self.outputs.pop_front()
    }

    /// Whether conferences can be served, or why not.
    pub fn health(&self, now: Instant) -> Result<(), String> {
        if !self.online {
            return Err("not connected to the XMPP server".to_owned());
        }
        match self.bridges.count(now) {
            (_, 0) => Err("No operational bridges available".to_owned()),
            _ => Ok(()),
        }
    }

    /// Statistics (focus-protocol 9).
    pub fn stats(&self, now: Instant) -> serde_json::Value {
        let sizes: Vec<usize> = self.conferences.values().map(|conference| conference.members.len()).collect();
        let (bridges, operational) = self.bridges.count(now);
        serde_json::json!({
            "conferences": self.conferences.len(),
            "participants": sizes.iter().sum::<usize>(),
            "largest_conference": sizes.iter().max().copied().unwrap_or(0),
            "total_conferences_created": self.totals.conferences,
            "total_participants": self.totals.participants,
            "bridge_failures": { "participants_moved": self.totals.moved, "bridges_removed": self.totals.lost_bridges },
            "participant_notifications": { "request_restart": self.totals.restarts },
            "bridge_selector": {
                "bridge_count": bridges,
                "operational_bridge_count": operational,
                "lost_bridges": self.totals.lost_bridges,
            },
        })
    }

    pub(super) fn send(&mut self, stanza: impl Into<Stanza>) {
        self.outputs.push_back(stanza.into());
    }

    /// Sends an IQ and remembers what it is for.
    pub(super) fn request(&mut self, now: Instant, to: &str, set: bool, payload: Element, pending: Pending) {
        let Ok(to) = to.parse::<Jid>() else {
            tracing::error!(to, "an IQ has no valid address; it is not sent");
            return;
        };
        self.next_id += 1;
        let id = format!("rb{:x}-{}", self.token, self.next_id);
        let to = Some(to);
        let iq = match set {
            true => Iq::Set { from: None, to, id: id.clone(), payload },
            false => Iq::Get { from: None, to, id: id.clone(), payload },
        };
        self.pending.insert(id, (now + IQ_TIMEOUT, pending));
        self.send(iq);
    }

    /// Sends an IQ whose answer does not matter.
    pub(super) fn notify(&mut self, to: &str, payload: Element) {
        let Ok(to) = to.parse::<Jid>() else { return };
        self.next_id += 1;
        let id = format!("rb{:x}-{}", self.token, self.next_id);
        self.send(Iq::Set { from: None, to: Some(to), id, payload });
    }

    /// Random text for ids.
    pub(super) fn random_id(&self) -> String {
        let mut bytes = [0u8; 16];
        rand::rng().fill_bytes(&mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    fn join_brewery(&mut self) {
        self.brewery_retry = None;
        let presence = self.brewery.join(Vec::new());
        self.send(presence);
    }

    /// A fresh session: the server knows us in no room any more. Media goes on until the rooms start again.
    fn forget_rooms(&mut self, now: Instant) {
        self.pending.clear();
        self.bridges.clear();
        self.brewery.reset();
        for (room, conference) in std::mem::take(&mut self.conferences) {
            if let Some(session) = conference.session {
                tracing::info!(%room, "room lost with the connection; its media stays until it starts again");
                self.orphans.push(Orphan {
                    room,
                    meeting_id: conference.meeting_id,
                    bridge: session.bridge,
                    deadline: now + ORPHAN_LIFETIME,
                });
            }
        }
    }

    fn handle_presence(&mut self, now: Instant, presence: Presence) {
        let Some(from) = presence.from.clone() else { return };
        if from.to_bare() == self.settings.brewery {
            self.brewery_presence(now, &presence);
        } else {
            self.room_presence(now, presence);
        }
    }

    fn handle_iq(&mut self, now: Instant, iq: Iq) {
        match iq {
            Iq::Result { id, payload, .. } => {
                if let Some((_, pending)) = self.pending.remove(&id) {
                    self.answered(now, pending, Answer::Result(payload));
                }
            }
            Iq::Error { id, error, .. } => {
                if let Some((_, pending)) = self.pending.remove(&id) {
                    self.answered(now, pending, Answer::Error(Box::new(error)));
                }
            }
            request => {
                if let Ok(request) = crate::xmpp::iq::Request::from_iq(request) {
                    let answer = self.serve(now, &request);
                    if let Some(answer) = answer {
                        self.send(answer);
                    }
                }
            }
        }
    }

    fn answered(&mut self, now: Instant, pending: Pending, answer: Answer) {
        match pending {
            Pending::RoomForm(room) => self.room_configured(now, &room),
            Pending::Disco { room, nick, ver } => self.discovered(now, &room, &nick, ver, answer),
            Pending::Allocate { room, nick, session } => self.allocated(now, &room, &nick, &session, answer),
            Pending::Update { room, session } => self.updated(now, &room, &session, answer),
            Pending::Initiate { room, nick, sid } => self.initiated(now, &room, &nick, &sid, answer),
            Pending::Health { bridge } => match answer {
                Answer::Result(_) => self.bridges.check_passed(&bridge),
                Answer::Timeout => self.bridges.check_timed_out(now, &bridge),
                Answer::Error(error) => self.health_error(now, &bridge, &error),
            },
        }
    }

    /// The real address of a sender, as far as it is an occupant's: room and nickname.
    pub(super) fn occupant(from: &Jid) -> Option<(BareJid, String)> {
        let full: FullJid = from.clone().try_into_full().ok()?;
        Some((full.to_bare(), full.resource().as_str().to_owned()))
    }

    pub(super) fn retry_brewery(&mut self, now: Instant) {
        self.brewery_retry = Some(now + BREWERY_RETRY);
    }
}
