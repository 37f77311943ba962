//! One conference of the focus: its room, its members, and their sessions on a bridge.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jid::{BareJid, FullJid};

use super::meeting_id::MeetingId;
use super::sources::ConferenceSources;
use crate::colibri::elements::Media;
use crate::focus::context::Context;
use crate::focus::features::Features;
use crate::focus::limits::{self, SOURCE_CHANGES, TRANSPORTS};
use crate::jingle::SourceSet;
use crate::pace::Bucket;
use crate::xmpp::iq::Request;

/// Restarts that a client asks for are at least this far apart.
const RESTART_INTERVAL: Duration = Duration::from_secs(5);

/// And at most so many in a minute.
const RESTARTS_PER_MINUTE: usize = 5;

/// So many ended sessions are told from unknown ones.
const PAST_SIDS: usize = 8;

/// Sessions on one bridge that fail this often within [`FAILURE_WINDOW`] condemn the bridge.
const FAILURES: usize = 3;
const FAILURE_WINDOW: Duration = Duration::from_secs(30);

/// Where a member's session with the bridge stands.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Stage {
    /// No session.
    Idle,
    /// What the client can do is being asked.
    Discovering,
    /// The bridge was asked for an endpoint.
    Allocating,
    /// The client was sent an offer.
    Offered,
    /// The client accepted.
    Active,
    /// The session failed, or the client ended it: not invited again unless something else happens.
    Ended,
}

/// One member of the room.
#[derive(Debug)]
pub(in super::super) struct Member {
    /// Real address, as far as the room shows it.
    pub real_jid: Option<FullJid>,
    /// In order of arrival.
    pub arrival: u64,
    /// Whether the room says that it is an owner.
    pub owner: bool,
    /// Whether it may moderate.
    pub moderator: bool,
    /// Passed to the bridge.
    pub stats_id: Option<String>,
    /// Node and hash of its capabilities.
    pub caps: Option<(String, String)>,
    /// What it can do, once known.
    pub features: Option<Features>,
    /// Where its session stands.
    pub stage: Stage,
    /// Number of its latest invitation: answers to older ones are late.
    pub invite: u64,
    /// Where it is, for the choice of the bridge.
    pub region: Option<String>,
    /// Jingle session id; empty when there is no session.
    pub sid: String,
    /// Ids of sessions that ended, the latest last.
    pub past_sids: Vec<String>,
    /// What it was offered.
    pub offered: Vec<Media>,
    /// The bridge tells it of the others' sources, not we.
    pub ssrc_rewriting: bool,
    /// Sources of others that it was told of, by owner; those of media that it does not support included.
    pub known: BTreeMap<String, Arc<SourceSet>>,
    /// Restarts of its session that it may ask for.
    pub restarts: RestartBudget,
    /// ICE restarts in place, which are counted apart: neither uses up the other.
    pub ice_restarts: RestartBudget,
    /// Number of the latest ICE restart that it was told of; 0 when there was none in this session.
    pub ice_generation: u32,
    /// Names of others' sources that it was not told of yet, and until when they are held back from it.
    pub untold: BTreeMap<String, Instant>,
    /// How often it may change its sources.
    pub source_changes: Bucket,
    /// And trickle its transport.
    pub transports: Bucket,
}

impl Member {
    /// A member without a session.
    pub fn new(arrival: u64) -> Self {
        Self {
            real_jid: None,
            arrival,
            owner: false,
            moderator: false,
            stats_id: None,
            caps: None,
            features: None,
            stage: Stage::Idle,
            invite: 0,
            region: None,
            sid: String::new(),
            past_sids: Vec::new(),
            offered: Vec::new(),
            ssrc_rewriting: false,
            known: BTreeMap::new(),
            restarts: RestartBudget::default(),
            ice_restarts: RestartBudget::default(),
            ice_generation: 0,
            untold: BTreeMap::new(),
            source_changes: Bucket::new(SOURCE_CHANGES),
            transports: Bucket::new(TRANSPORTS),
        }
    }

    /// Whether the bridge has, or will have, an endpoint for it.
    pub fn has_endpoint(&self) -> bool {
        matches!(self.stage, Stage::Allocating | Stage::Offered | Stage::Active)
    }

    /// Ends its session and returns the id of it, empty when it was never offered one.
    pub fn end_session(&mut self, stage: Stage) -> String {
        self.stage = stage;
        self.known.clear();
        self.ice_generation = 0;
        self.untold.clear();
        let sid = std::mem::take(&mut self.sid);
        if !sid.is_empty() {
            if self.past_sids.len() >= PAST_SIDS {
                self.past_sids.remove(0);
            }
            self.past_sids.push(sid.clone());
        }
        sid
    }
}

/// When restarts were granted.
#[derive(Debug, Default)]
pub(in super::super) struct RestartBudget(Vec<Instant>);

impl RestartBudget {
    /// Whether one may be granted now; notes that it was.
    pub fn take(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.saturating_duration_since(*at) < Duration::from_secs(60));
        let spaced = self.0.last().is_none_or(|last| now.saturating_duration_since(*last) >= RESTART_INTERVAL);
        let free = spaced && self.0.len() < RESTARTS_PER_MINUTE;
        if free {
            self.0.push(now);
        }
        free
    }
}

/// The conference on its bridge.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct BridgeSession {
    /// Our id, told to clients.
    pub id: String,
    /// Occupant JID of the bridge.
    pub bridge: String,
    /// Whether the creating request was sent.
    pub created: bool,
    /// The bridge's own sources, from its first answer.
    pub feedback: Option<SourceSet>,
}

/// How far the room is.
#[derive(Debug)]
pub(in super::super) enum RoomState {
    /// Our join was sent; these requests wait for it.
    Joining(Vec<Request>),
    /// Our settings and a question about it were sent; these requests wait for the answers.
    Configuring(Vec<Request>),
    /// Everything stands.
    Ready,
}

/// Owner of the bridge's own sources.
pub(super) const BRIDGE_OWNER: &str = "jvb";

/// One conference.
#[derive(Debug)]
pub(in super::super) struct Conference {
    /// Its room.
    pub room: BareJid,
    /// Id towards the bridge.
    pub meeting_id: String,
    /// The room's own one.
    pub meeting: MeetingId,
    /// How far the room is.
    pub state: RoomState,
    /// Answers of its service that are awaited before it is ready.
    pub awaited: u8,
    /// Members by nickname, which is the endpoint id.
    pub members: BTreeMap<String, Member>,
    /// Who was made owner.
    pub owner: Option<String>,
    /// Session on a bridge.
    pub session: Option<BridgeSession>,
    /// Everybody's sources.
    pub sources: ConferenceSources,
    /// Whether the room is told that there is no bridge.
    pub no_bridge: bool,
    /// Participants after the n-th start muted: audio, video.
    pub start_muted: (Option<usize>, Option<usize>),
    /// When an empty room is given up.
    pub initial_deadline: Option<Instant>,
    /// When the session of the last one left ends.
    pub single_deadline: Option<Instant>,
    /// When sessions on bridges failed.
    pub failures: Vec<Instant>,
    /// How often its members are told of changed sources.
    pub signal_rate: Bucket,
    /// When they are told what they were not told at once.
    pub signal_due: Option<Instant>,
    /// When the first wait for a member to be told of a source is over.
    pub hold_due: Option<Instant>,
    /// When invitations that were put off are due.
    pub invite_due: Option<Instant>,
    /// When it began.
    pub created: Instant,
}

impl Conference {
    /// Of a room that is being joined for `request`.
    pub fn new(room: BareJid, request: Request, start_muted: (Option<usize>, Option<usize>), cx: &Context<'_>) -> Self {
        Self {
            room,
            meeting_id: cx.random_id(),
            meeting: MeetingId::default(),
            awaited: 0,
            state: RoomState::Joining(vec![request]),
            members: BTreeMap::new(),
            owner: None,
            session: None,
            sources: ConferenceSources::default(),
            no_bridge: false,
            start_muted,
            initial_deadline: Some(cx.now + cx.settings.initial_timeout),
            single_deadline: None,
            failures: Vec::new(),
            signal_rate: Bucket::new(limits::signal_rate(1)),
            signal_due: None,
            hold_due: None,
            invite_due: None,
            created: cx.now,
        }
    }

    /// Address of a member in the room.
    pub fn occupant(&self, nick: &str) -> String {
        format!("{}/{nick}", self.room)
    }

    /// Members in order of arrival.
    pub fn by_arrival(&self) -> Vec<String> {
        let mut nicks: Vec<(&u64, &String)> =
            self.members.iter().map(|(nick, member)| (&member.arrival, nick)).collect();
        nicks.sort();
        nicks.into_iter().map(|(_, nick)| nick.clone()).collect()
    }

    /// Whether all may be told of changed sources now; if not, when.
    pub fn may_signal_sources(&mut self, now: Instant) -> bool {
        self.signal_rate.set_rate(now, limits::signal_rate(self.members.len()));
        let free = self.signal_rate.take(now, 1);
        self.signal_due = if free { None } else { Some(self.signal_rate.next(now)) };
        free
    }

    /// How many members have a session or are about to.
    pub fn sessions(&self) -> usize {
        self.members.values().filter(|member| member.has_endpoint()).count()
    }

    /// Notes that the session on the bridge failed; true when that happens so often that the bridge must be at fault.
    pub fn note_failure(&mut self, now: Instant) -> bool {
        self.failures.retain(|at| now.saturating_duration_since(*at) < FAILURE_WINDOW);
        self.failures.push(now);
        self.failures.len() >= FAILURES
    }

    /// When something is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.initial_deadline, self.single_deadline, self.signal_due, self.hold_due, self.invite_due]
            .into_iter()
            .flatten()
            .min()
    }
}
