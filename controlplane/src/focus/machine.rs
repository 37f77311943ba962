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
use super::limits::{ASKS, INVITES, MAX_SENDERS, MUTES, NEW_ROOMS, Refusals, Refused};
use super::offer::Features;
use super::restarts::IceRestarts;
use super::telling;
use crate::brewery::{Brewery, Trust};
use crate::pace::{Buckets, Quiet};
use crate::xmpp::muc::MucRoom;

/// An IQ without an answer for this long failed (docs/protocol/focus.md 11).
const IQ_TIMEOUT: Duration = Duration::from_secs(15);

/// A bridge that lives answers a health check much sooner.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// Shorter, so that it is known before the bridges are judged.
const SERVER_TIMEOUT: Duration = Duration::from_millis(1_500);

/// A service that does not tell about its rooms is not waited for: they only lack its meeting id then.
const ROOM_INFO_TIMEOUT: Duration = Duration::from_secs(2);

/// Senders who asked nothing lately are forgotten this often, at the next timer.
const FORGET_SENDERS: Duration = Duration::from_secs(10);

/// A brewery that could not be joined is tried again after this.
const BREWERY_RETRY: Duration = Duration::from_secs(5);

/// A join of the brewery that is not answered at all is sent again after this.
const BREWERY_TIMEOUT: Duration = Duration::from_secs(15);

/// Conferences of rooms that the server forgot stay on the bridge so long, unless their room starts again.
const ORPHAN_LIFETIME: Duration = Duration::from_secs(60);

/// Their bridge may come back later than we do: asked again this often, and not for ever.
pub(super) const ORPHAN_RETRY: Duration = Duration::from_secs(10);
const ORPHAN_FORGOTTEN: Duration = Duration::from_secs(600);

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
    /// The focus is to end: bridges are told, rooms are left.
    Shutdown,
}

/// What an outstanding IQ of ours is for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Pending {
    /// Settings of a room.
    RoomForm(BareJid),
    /// What the room's service tells about it.
    RoomInfo(BareJid),
    /// What a member can do.
    Disco { room: BareJid, nick: String, ver: Option<String> },
    /// An endpoint on a bridge.
    Allocate { room: BareJid, nick: String, session: String, invite: u64 },
    /// A change of an endpoint.
    Update { room: BareJid, nick: String, session: String },
    /// An ICE restart of a member's session `sid`.
    IceRestart { room: BareJid, nick: String, session: String, sid: String },
    /// A session-initiate, answered or not.
    Initiate { room: BareJid, nick: String, sid: String },
    /// Sources that a member was told of in that session, whether they are video, and when.
    Told { room: BareJid, nick: String, sid: String, told: Vec<(String, bool)>, at: Instant },
    /// Health of a bridge.
    Health { bridge: String },
    /// Whether the server listens.
    Server { asked: Instant },
}

/// How long an answer may take.
fn patience(pending: &Pending) -> Duration {
    match pending {
        Pending::Health { .. } => HEALTH_TIMEOUT,
        Pending::RoomInfo(_) => ROOM_INFO_TIMEOUT,
        Pending::Told { .. } => telling::LONGEST,
        Pending::Server { .. } => SERVER_TIMEOUT,
        _ => IQ_TIMEOUT,
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

/// A conference on a bridge whose room is gone.
#[derive(Debug)]
pub(super) struct Orphan {
    pub room: BareJid,
    pub meeting_id: String,
    pub bridge: String,
    pub deadline: Instant,
    pub forgotten: Instant,
}

impl Orphan {
    /// To be expired after `lifetime`, or once its bridge is back.
    pub(super) fn new(now: Instant, lifetime: Duration, room: BareJid, meeting_id: String, bridge: String) -> Self {
        Self { room, meeting_id, bridge, deadline: now + lifetime, forgotten: now + ORPHAN_FORGOTTEN }
    }
}

/// The focus.
#[derive(Debug)]
pub struct Focus {
    pub(super) settings: FocusSettings,
    pub(super) jid: String,
    pub(super) online: bool,
    pub(super) brewery: Brewery,
    pub(super) brewery_retry: Option<Instant>,
    pub(super) bridges: Bridges,
    /// Bridges that left while there was no other, and until when they may come back.
    pub(super) lost: BTreeMap<String, Instant>,
    pub(super) conferences: BTreeMap<BareJid, Conference>,
    pub(super) orphans: Vec<Orphan>,
    pub(super) caps: BTreeMap<String, Features>,
    pub(super) arrivals: u64,
    pub(super) invites: u64,
    pub(super) totals: Totals,
    pub(super) ice_restarts: IceRestarts,
    pub(super) refused: Refusals,
    /// Lines about those who are no bridges.
    pub(super) strangers: Quiet,
    /// Lines about conferences that did not begin.
    pub(super) put_off: Quiet,
    /// Lines about meeting ids that are not used.
    pub(super) meeting_lines: Quiet,
    /// Lines about refused Jingle requests.
    pub(super) jingle_lines: Quiet,
    /// Whether the server lately took long to answer.
    pub(super) server_slow: bool,
    pub(super) server_asked: Option<Instant>,
    pub(super) new_rooms: Buckets<Jid>,
    pub(super) invite_rate: Buckets<(BareJid, String)>,
    forget_at: Option<Instant>,
    asks: Buckets<Jid>,
    mutes: Buckets<Jid>,
    trust: Trust,
    pending: BTreeMap<String, (Instant, Jid, Pending)>,
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
        let trust = Trust::new(&settings.xmpp.jid, &settings.brewery_trusted);
        let brewery = Brewery::new(MucRoom::new(&settings.brewery, "focus")?, trust.clone());
        Ok(Self {
            jid: settings.xmpp.jid.to_string(),
            settings,
            online: false,
            brewery,
            brewery_retry: None,
            bridges: Bridges::default(),
            lost: BTreeMap::new(),
            conferences: BTreeMap::new(),
            orphans: Vec::new(),
            caps: BTreeMap::new(),
            arrivals: 0,
            invites: 0,
            totals: Totals::default(),
            ice_restarts: IceRestarts::default(),
            refused: Refusals::default(),
            strangers: Quiet::default(),
            put_off: Quiet::default(),
            meeting_lines: Quiet::default(),
            jingle_lines: Quiet::default(),
            server_slow: false,
            server_asked: None,
            new_rooms: Buckets::new(NEW_ROOMS, MAX_SENDERS),
            invite_rate: Buckets::new(INVITES, MAX_SENDERS),
            forget_at: None,
            asks: Buckets::new(ASKS, MAX_SENDERS),
            mutes: Buckets::new(MUTES, MAX_SENDERS),
            trust,
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
                if resumed {
                    // Answers may still come: the time that we were away does not count.
                    for (due, _, pending) in self.pending.values_mut() {
                        *due = now + patience(pending);
                    }
                } else {
                    self.forget_rooms(now);
                    self.join_brewery(now);
                }
            }
            Input::Shutdown => self.shut_down(now),
            Input::Offline => self.online = false,
            Input::Stanza(stanza) => match *stanza {
                Stanza::Presence(presence) => self.handle_presence(now, presence),
                Stanza::Iq(iq) => self.handle_iq(now, iq),
                Stanza::Message(_) => {}
            },
        }
    }

    /// Lets time pass. While the connection is away nothing is due: what we would say is lost, and silence means nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.online {
            return;
        }
        let late: Vec<String> =
            self.pending.iter().filter(|(_, (due, ..))| *due <= now).map(|(id, _)| id.clone()).collect();
        for id in late {
            if let Some((.., pending)) = self.pending.remove(&id) {
                self.answered(now, pending, Answer::Timeout);
            }
        }
        if self.brewery_retry.is_some_and(|due| due <= now) {
            self.join_brewery(now);
        }
        self.look_at_brewery(now);
        self.give_up_lost(now, Some(now));
        self.check_bridges(now);
        self.forget_senders(now);
        self.conference_timeouts(now);
        let (due, waiting) = std::mem::take(&mut self.orphans).into_iter().partition(|orphan| orphan.deadline <= now);
        self.orphans = waiting;
        let due: Vec<Orphan> = due;
        for orphan in due {
            self.expire_orphan(now, orphan);
        }
    }

    /// Ends what is left of a conference on its bridge; while the bridge is away this waits.
    pub(super) fn expire_orphan(&mut self, now: Instant, orphan: Orphan) {
        if self.online && self.bridges.get(&orphan.bridge).is_some() {
            tracing::info!(room = %orphan.room, bridge = %orphan.bridge, "conference that nobody is in any more expired");
            self.expire_on_bridge(&orphan.bridge, &orphan.meeting_id);
        } else if now < orphan.forgotten {
            self.orphans.push(Orphan { deadline: now + ORPHAN_RETRY, ..orphan });
        }
    }

    fn shut_down(&mut self, now: Instant) {
        for room in self.conferences.keys().cloned().collect::<Vec<_>>() {
            self.end_conference(now, &room, true);
        }
        for orphan in std::mem::take(&mut self.orphans) {
            self.expire_on_bridge(&orphan.bridge, &orphan.meeting_id);
        }
        let presence = self.brewery.room.leave();
        self.send(presence);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.online {
            return None;
        }
        let pending = self.pending.values().map(|(due, ..)| *due);
        let conferences = self.conferences.values().filter_map(Conference::poll_timeout);
        let orphans = self.orphans.iter().map(|orphan| orphan.deadline);
        let others = [self.bridges.poll_timeout(), self.brewery_retry, self.brewery.poll_look()].into_iter().flatten();
        pending.chain(conferences).chain(orphans).chain(others).chain(self.lost.values().copied()).min()
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
        if self.bridges.has_usable(now) { Ok(()) } else { Err("No operational bridges available".to_owned()) }
    }

    /// Statistics (docs/protocol/focus.md 9).
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
            "refused": self.refused.to_json(),
            "ice_restarts": self.ice_restarts.to_json(),
            "participant_notifications": { "request_restart": self.totals.restarts },
            "bridge_selector": {
                "bridge_count": bridges,
                "operational_bridge_count": operational,
                "in_shutdown_bridge_count": self.bridges.count_in_shutdown(),
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
        self.pending.insert(id.clone(), (now + patience(&pending), to.clone(), pending));
        let to = Some(to);
        let iq = match set {
            true => Iq::Set { from: None, to, id, payload },
            false => Iq::Get { from: None, to, id, payload },
        };
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

    fn join_brewery(&mut self, now: Instant) {
        self.brewery_retry = Some(now + BREWERY_TIMEOUT);
        let presence = self.brewery.room.join(Vec::new());
        self.send(presence);
    }

    /// A fresh session: the server knows us in no room any more. Media goes on until the rooms start again.
    fn forget_rooms(&mut self, now: Instant) {
        self.pending.clear();
        self.bridges.clear();
        self.lost.clear();
        self.brewery.room.reset();
        self.server_slow = false;
        for (room, conference) in std::mem::take(&mut self.conferences) {
            if let Some(session) = conference.session {
                tracing::info!(%room, "room lost with the connection; its media stays until it starts again");
                self.orphans.push(Orphan::new(now, ORPHAN_LIFETIME, room, conference.meeting_id, session.bridge));
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
            Iq::Result { from, id, payload, .. } => {
                if let Some(pending) = self.take_pending(&id, from.as_ref()) {
                    self.answered(now, pending, Answer::Result(payload));
                }
            }
            Iq::Error { from, id, error, .. } => {
                if let Some(pending) = self.take_pending(&id, from.as_ref()) {
                    self.answered(now, pending, Answer::Error(Box::new(error)));
                }
            }
            request => {
                if let Ok(request) = crate::xmpp::iq::Request::from_iq(request) {
                    if !self.may_ask(now, &request) {
                        self.refused.count(Refused::Flood, 1);
                        return;
                    }
                    let answer = self.serve(now, &request);
                    if let Some(answer) = answer {
                        self.send(answer);
                    }
                }
            }
        }
    }

    /// Who asked nothing for a while is a stranger again.
    fn forget_senders(&mut self, now: Instant) {
        if self.forget_at.is_none_or(|at| at <= now) {
            self.forget_at = Some(now + FORGET_SENDERS);
            self.asks.clear(now);
            self.mutes.clear(now);
            self.new_rooms.clear(now);
            self.invite_rate.clear(now);
        }
    }

    /// Whether a request is looked at at all. The server and our own domain's accounts may ask as they like.
    fn may_ask(&mut self, now: Instant, request: &crate::xmpp::iq::Request) -> bool {
        let Some(from) = &request.from else { return true };
        let mute = request.payload.name() == "mute";
        self.is_trusted(from) || if mute { self.mutes.take(now, from) } else { self.asks.take(now, from) }
    }

    /// Whether an address is that of an account of the operator's.
    pub(super) fn is_trusted(&self, from: &Jid) -> bool {
        self.trust.includes(&from.to_bare())
    }

    /// What an answer is for. Ids can be guessed by those who saw others: only who was asked may answer.
    fn take_pending(&mut self, id: &str, from: Option<&Jid>) -> Option<Pending> {
        let (_, to, _) = self.pending.get(id)?;
        if from != Some(to) {
            tracing::debug!(id, ?from, asked = %to, "answer dropped: it comes from somebody else");
            self.refused.count(Refused::ForeignAnswer, 1);
            return None;
        }
        self.pending.remove(id).map(|(.., pending)| pending)
    }

    fn answered(&mut self, now: Instant, pending: Pending, answer: Answer) {
        match pending {
            // Refused settings leave the room as its service made it.
            Pending::RoomForm(room) => self.setup_answered(now, &room),
            Pending::RoomInfo(room) => self.room_informed(now, &room, answer),
            Pending::Disco { room, nick, ver } => self.discovered(now, &room, &nick, ver, answer),
            Pending::Allocate { room, nick, session, invite } => {
                self.allocated(now, &room, &nick, (&session, invite), answer);
            }
            Pending::Update { room, nick, session } => self.updated(now, &room, &nick, &session, answer),
            Pending::IceRestart { room, nick, session, sid } => {
                self.ice_restarted(now, &room, &nick, (&session, &sid), answer);
            }
            Pending::Initiate { room, nick, sid } => self.initiated(now, &room, &nick, &sid, answer),
            // Whatever it answered, it was told; without an answer the wait ends by itself.
            Pending::Told { .. } if matches!(answer, Answer::Timeout) => {}
            Pending::Told { room, nick, sid, told, at } => self.told(now, &room, &nick, &sid, (told, at)),
            Pending::Server { asked } => self.server_answered(now, asked, !matches!(answer, Answer::Timeout)),
            Pending::Health { bridge } => match answer {
                Answer::Result(_) => {
                    self.bridges.check_passed(&bridge);
                    self.start_waiting(now);
                }
                Answer::Timeout => self.health_silence(now, &bridge),
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
