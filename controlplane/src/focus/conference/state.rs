//! One conference of the focus: its room, its members, and their sessions on a bridge.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jid::{BareJid, Jid};
use tokio_xmpp::minidom::Element;

use super::former::Former;
use super::meeting_id::MeetingId;
use super::member::Member;
use super::metadata::Metadata;
use super::moderation::Moderation;
use super::nodes::Nodes;
use super::senders::Senders;
use super::sources::ConferenceSources;
use super::visitor_rooms::Visitors;
use crate::focus::context::{Context, ORPHAN_LIFETIME, Orphan};
use crate::focus::limits::{self, BREAKOUT_JOIN, MAX_WAITING};
use crate::focus::settings::SourceLimits;
use crate::pace::Bucket;
use crate::xmpp::iq::Request;

/// Sessions on one bridge that fail this often within [`FAILURE_WINDOW`] condemn the bridge.
const FAILURES: usize = 3;
const FAILURE_WINDOW: Duration = Duration::from_secs(30);

/// How far the room is.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) enum RoomState {
    /// Our join was sent; these requests wait for it.
    Joining(Vec<Request>),
    /// Our settings and a question about it were sent; these requests wait for the answers.
    Configuring(Vec<Request>),
    /// Everything stands.
    Ready,
}

/// Why a request for a conference is answered although its room is not ready, if so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Waits {
    /// It is ready.
    No,
    /// Its sender asked again, or too many wait already.
    TooMany,
}

/// What the request that begins a conference says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Options {
    /// Participants after the n-th start muted: audio, video.
    pub start_muted: (Option<usize>, Option<usize>),
    /// Whether others may collect statistics.
    pub rtcstats: bool,
}

impl Options {
    /// As the properties of a request say.
    pub fn read(request: &Element) -> Self {
        let value = |name: &str| {
            request.children().find(|child| child.attr("name") == Some(name)).and_then(|child| child.attr("value"))
        };
        let limit = |name| value(name).and_then(|value| value.parse().ok());
        Self {
            start_muted: (limit("startAudioMuted"), limit("startVideoMuted")),
            rtcstats: value("rtcstatsEnabled").is_none_or(|value| !value.eq_ignore_ascii_case("false")),
        }
    }
}

/// Owner of the bridge's own sources.
pub(super) const BRIDGE_OWNER: &str = "jvb";

/// One conference.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(in super::super) struct Conference {
    /// Its room.
    pub(super) room: BareJid,
    /// Id towards the bridge.
    pub(super) meeting_id: String,
    /// The room that it belongs to, if it is a breakout room.
    pub(super) main: Option<BareJid>,
    /// What its service says of it.
    pub(super) metadata: Metadata,
    /// Who may send what.
    pub(super) moderation: Moderation,
    /// The room's own one.
    pub(super) meeting: MeetingId,
    /// How far the room is.
    pub(super) state: RoomState,
    /// Answers of its service that are awaited before it is ready.
    pub(super) awaited: u8,
    /// Members by nickname, which is the endpoint id.
    pub(super) members: BTreeMap<String, Member>,
    /// Who only watches, and where.
    pub(super) visitors: Visitors,
    /// Who was made owner.
    pub(super) owner: Option<String>,
    /// Its sessions on bridges.
    pub(super) nodes: Nodes,
    /// Everybody's sources.
    pub(super) sources: ConferenceSources,
    /// The only version of bridges that it may be on.
    pub(super) pinned: Option<String>,
    /// Whether its clients let others collect statistics.
    pub(super) rtcstats: bool,
    /// How many send.
    pub(super) senders: Senders,
    /// What else our presence says, by topic.
    #[serde(with = "crate::xmpp::element_text")]
    pub(super) notices: BTreeMap<String, Element>,
    /// Whether presence says that there is no bridge.
    pub(super) no_bridge: bool,
    /// Participants after the n-th start muted: audio, video.
    pub(super) start_muted: (Option<usize>, Option<usize>),
    /// When an empty room is given up.
    #[serde(with = "crate::carried")]
    pub(super) initial_deadline: Option<Instant>,
    /// When the session of the last one left ends.
    #[serde(with = "crate::carried")]
    pub(super) single_deadline: Option<Instant>,
    /// When sessions on bridges failed.
    #[serde(with = "crate::carried")]
    pub(super) failures: Vec<(Instant, String)>,
    /// How often changed sources are signalled to its members.
    pub(super) signal_rate: Bucket,
    /// When what was not signalled at once is.
    #[serde(with = "crate::carried")]
    pub(super) signal_due: Option<Instant>,
    /// When the first wait for a source to be signalled to a member is over.
    #[serde(with = "crate::carried")]
    pub(super) hold_due: Option<Instant>,
    /// When invitations that were put off are due.
    #[serde(with = "crate::carried")]
    pub(super) invite_due: Option<Instant>,
    /// When it began.
    #[serde(with = "crate::carried")]
    pub(super) created: Instant,
    /// What the process before left of its members.
    pub(super) former: Former,
}

impl Conference {
    /// Of a room that is being joined, for these requests.
    pub fn new(room: BareJid, waiting: Vec<Request>, options: Options, cx: &Context<'_>) -> Self {
        let initial_deadline = Some(cx.now + join_patience(cx, &room));
        Self {
            meeting_id: cx.random_id(),
            main: None,
            metadata: Metadata::default(),
            moderation: Moderation::default(),
            meeting: MeetingId::default(),
            awaited: 0,
            state: RoomState::Joining(waiting),
            members: BTreeMap::new(),
            visitors: Visitors::default(),
            owner: None,
            nodes: Nodes::default(),
            sources: ConferenceSources::new(cx.settings.sources.limits),
            pinned: cx.pins.version(&room, cx.now).map(str::to_owned),
            rtcstats: options.rtcstats,
            senders: Senders::default(),
            notices: BTreeMap::new(),
            no_bridge: false,
            start_muted: options.start_muted,
            initial_deadline,
            single_deadline: None,
            failures: Vec::new(),
            signal_rate: Bucket::new(limits::signal_rate(1)),
            signal_due: None,
            hold_due: None,
            invite_due: None,
            created: cx.now,
            former: Former::default(),
            room,
        }
    }

    /// It was of another process, and its participants may publish as many sources here.
    pub fn adopt(&mut self, limits: SourceLimits) {
        self.sources.set_limits(limits);
    }

    /// Its room.
    pub fn room(&self) -> &BareJid {
        &self.room
    }

    /// Whether somebody of that real address is in it.
    pub fn has_real(&self, real: &Jid) -> bool {
        self.members.values().any(|member| !member.is_visitor() && member.real_jid().is_some_and(|own| own == real))
    }

    /// Whether a request of that sender waits for it.
    pub fn is_awaited_by(&self, sender: Option<&Jid>) -> bool {
        let (RoomState::Joining(waiting) | RoomState::Configuring(waiting)) = &self.state else { return false };
        waiting.iter().any(|request| request.from.as_ref() == sender)
    }

    /// Whether nobody is in its main room: visitors alone are no conference.
    pub fn is_empty(&self) -> bool {
        self.in_main_room() == 0
    }

    /// How many are in it.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether we are in the room, and it is as it has to be.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, RoomState::Ready)
    }

    /// Whether our join is not answered yet.
    pub fn is_joining(&self) -> bool {
        matches!(self.state, RoomState::Joining(_))
    }

    /// When it began.
    pub fn created(&self) -> Instant {
        self.created
    }

    /// Whether nobody came in time.
    pub fn is_given_up(&self, now: Instant) -> bool {
        self.initial_deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Whether its members wait for a bridge.
    pub fn lacks_bridge(&self) -> bool {
        self.no_bridge
    }

    /// Its meeting id and its session on that bridge, if it is there.
    pub fn on_bridge(&self, bridge: &str) -> Option<(&str, &str)> {
        let session = self.nodes.on(bridge)?;
        Some((&self.meeting_id, &session.id))
    }

    /// How many of its members are on that bridge.
    pub fn count_on(&self, bridge: &str) -> usize {
        self.nodes.on(bridge).map_or(0, |session| self.nodes.members(&session.id).count())
    }

    /// Whether a member is on that bridge.
    pub fn is_on(&self, nick: &str, bridge: &str) -> bool {
        self.nodes.home(nick).is_some_and(|home| home.bridge == bridge)
    }

    /// Whether it has a session on that bridge.
    pub fn uses_bridge(&self, bridge: &str) -> bool {
        self.nodes.on(bridge).is_some()
    }

    /// What is left of it on bridges when its room was lost.
    pub fn into_orphans(self, now: Instant) -> Vec<Orphan> {
        let orphan = |bridge: &str| {
            Orphan::new(now, ORPHAN_LIFETIME, self.room.clone(), self.meeting_id.clone(), bridge.to_owned())
        };
        self.nodes.iter().map(|session| orphan(&session.bridge)).collect()
    }

    /// Somebody asks for it again; what is to be answered at once, if anything, and whether it is ready.
    pub fn asked_again(&mut self, cx: &Context<'_>, request: &Request) -> Option<(Request, Waits)> {
        if self.members.is_empty() {
            let patience = if self.is_joining() { join_patience(cx, &self.room) } else { cx.settings.initial_timeout };
            // A room that does not let us in gets no longer for being asked for again.
            let late = self.initial_deadline.filter(|_| self.is_joining());
            self.initial_deadline = late.or(Some(cx.now + patience));
        }
        let (RoomState::Joining(waiting) | RoomState::Configuring(waiting)) = &mut self.state else {
            return Some((request.clone(), Waits::No));
        };
        wait(waiting, request).map(|answered| (answered, Waits::TooMany))
    }

    /// Our join was refused: it ends before it began.
    pub fn refused(mut self, cx: &mut Context<'_>) {
        let state = std::mem::replace(&mut self.state, RoomState::Ready);
        self.answer_waiting(cx, state, false);
    }

    /// Its id towards the bridge, if it is on one and others may collect statistics of it.
    pub fn rtcstats_id(&self) -> Option<&str> {
        (self.rtcstats && !self.nodes.is_empty()).then_some(self.meeting_id.as_str())
    }

    /// What is known of it, for operators.
    pub fn debug(&self) -> serde_json::Value {
        let member = |(nick, member): (&String, &Member)| (nick.clone(), member.debug());
        serde_json::json!({
            "name": self.room.to_string(),
            "meeting_id": self.meeting_id,
            "main_room": self.main.as_ref().map(ToString::to_string),
            "bridge": self.bridge(),
            "bridges": self.nodes.debug(),
            "pinned": self.pinned,
            "rtcstats_enabled": self.rtcstats,
            "participant_count": self.members.len(),
            "visitor_count": self.visitors(),
            "visitor_rooms": self.visitors.to_json(),
            "participants": self.members.iter().map(member).collect::<serde_json::Map<_, _>>(),
            "senders": self.senders.to_json(),
            "conference_properties": self.senders.properties().collect::<std::collections::BTreeMap<_, _>>(),
            "av_moderation": self.moderation.to_json(),
            "metadata": self.metadata.current(),
        })
    }

    /// Address of a member in the room.
    pub fn occupant(&self, nick: &str) -> String {
        let node = self.members.get(nick).and_then(Member::node);
        format!("{}/{nick}", node.and_then(|node| self.visitors.room(node)).unwrap_or(&self.room))
    }

    /// Some members in order of arrival.
    pub fn in_order(&self, which: impl Fn(&Member) -> bool) -> Vec<String> {
        let chosen = self.members.iter().filter(|(_, member)| which(member));
        let mut nicks: Vec<(u64, &String)> = chosen.map(|(nick, member)| (member.arrival(), nick)).collect();
        nicks.sort();
        nicks.into_iter().map(|(_, nick)| nick.clone()).collect()
    }

    /// Whether changed sources may be signalled to all now; if not, when.
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

    /// Records that the session on a bridge failed; true when that happens so often that the bridge must be at fault.
    pub fn note_failure(&mut self, now: Instant, bridge: &str) -> bool {
        self.failures.retain(|(at, _)| now.saturating_duration_since(*at) < FAILURE_WINDOW);
        self.failures.push((now, bridge.to_owned()));
        self.failures.iter().filter(|(_, failed)| failed == bridge).count() >= FAILURES
    }

    /// When something is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.initial_deadline,
            self.single_deadline,
            self.signal_due,
            self.hold_due,
            self.invite_due,
            self.former.poll_timeout(),
            self.metadata.poll_timeout(),
            self.visitors.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// Has a request wait with others for a room; what is to be answered at once instead. One question of everybody waits: an older
/// one of the same sender is answered.
pub(super) fn wait(waiting: &mut Vec<Request>, request: &Request) -> Option<Request> {
    let full = waiting.len() >= MAX_WAITING;
    match waiting.iter_mut().find(|waiting| waiting.from == request.from) {
        Some(older) => Some(std::mem::replace(older, request.clone())),
        None if full => Some(request.clone()),
        None => {
            waiting.push(request.clone());
            None
        }
    }
}

/// How long a room's service may take to let us in.
fn join_patience(cx: &Context<'_>, room: &BareJid) -> Duration {
    if cx.is_breakout(room) { BREAKOUT_JOIN } else { cx.settings.initial_timeout }
}
