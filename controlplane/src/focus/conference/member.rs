//! One member of a conference's room: who it is, what it can do, and where its session with the bridge stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jid::FullJid;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::muc::MucUser;
use xmpp_parsers::muc::user::{Affiliation, Item, Role};
use xmpp_parsers::presence::Presence;

use crate::brewery::Trust;
use crate::colibri::elements::{ForceMute, Media};
use crate::focus::features::Features;
use crate::focus::json_message::Medium;
use crate::focus::limits::{MAX_NAME, MAX_REGION, SOURCE_CHANGES, TRANSPORTS};
use crate::focus::source_info::{Sending, Unreadable};
use crate::focus::visitors::NodeId;
use crate::jingle::SourceSet;
use crate::pace::Bucket;

const CAPS: &str = "http://jabber.org/protocol/caps";

/// Restarts that a client asks for are at least this far apart.
const RESTART_INTERVAL: Duration = Duration::from_secs(5);

/// And at most so many in a minute.
const RESTARTS_PER_MINUTE: usize = 5;

/// So many ended sessions are remembered, to distinguish them from unknown ones.
const PAST_SIDS: usize = 8;

/// Where a member's session with the bridge stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

/// Its session: what was agreed, and what was signalled to it of others.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Session {
    stage: Stage,
    /// Number of its latest invitation: answers to older ones are late.
    invite: u64,
    /// Jingle session id; empty unless it is offered or active.
    sid: String,
    /// Ids of sessions that ended, the latest last.
    past_sids: Vec<String>,
    /// What it was offered.
    offered: Vec<Media>,
    /// The bridge signals the others' sources to it, not we.
    ssrc_rewriting: bool,
    /// Sources of others that were signalled to it, by owner; those of media that it does not support included.
    #[serde(with = "crate::carried::shared_table")]
    known: BTreeMap<String, Arc<SourceSet>>,
    /// It accepted its offer just now, and what changed since that was written is not signalled to it yet.
    behind: bool,
    /// Names of others' sources that are not signalled to it yet, and until when they are held back from it.
    #[serde(with = "crate::carried")]
    unsignalled: BTreeMap<String, Instant>,
    /// Its answer is one of Firefox. Not carried to another process: it counts before a client has seen its first picture.
    #[serde(skip)]
    firefox: bool,
    /// Number of the latest ICE restart that was signalled to it; 0 when there was none in this session.
    ice_generation: u32,
    /// Which of its media the bridge was last asked to drop.
    force_mute: ForceMute,
}

/// A member that is no person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in super::super) enum Helper {
    /// A Jibri.
    Recorder,
    /// A Jigasi.
    Gateway,
    /// A Jigasi that transcribes.
    Transcriber,
}

impl Helper {
    /// What a list of features in presence claims.
    fn named_in(features: &Element) -> Option<Self> {
        let has = |var: &str| features.children().any(|feature| feature.attr("var") == Some(var));
        match () {
            () if has("http://jitsi.org/protocol/transcriber") => Some(Self::Transcriber),
            () if has("http://jitsi.org/protocol/jibri") => Some(Self::Recorder),
            () if has("http://jitsi.org/protocol/jigasi") => Some(Self::Gateway),
            () => None,
        }
    }
}

/// What is known of a member that only watches.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Watching {
    node: Option<NodeId>,
    codecs: Option<Vec<String>>,
}

/// One member of the room.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(in super::super) struct Member {
    real_jid: Option<FullJid>,
    arrival: u64,
    owner: bool,
    moderator: bool,
    stats_id: Option<String>,
    caps: Option<(String, String)>,
    features: Option<Features>,
    region: Option<String>,
    claims: Option<Helper>,
    /// Where it watches, and what it understands; nothing for a participant.
    watches: Option<Watching>,
    /// What it says that it sends.
    sending: Sending,
    /// Whether it was made owner because it is logged in.
    named_owner: bool,
    session: Session,
    /// What others muted of it, until it unmutes.
    muted: BTreeSet<Medium>,
    was_invited: bool,
    restarts: RestartBudget,
    ice_restarts: RestartBudget,
    source_changes: Bucket,
    transports: Bucket,
}

impl Member {
    /// A member without a session, in order of arrival.
    pub fn new(arrival: u64) -> Self {
        Self {
            real_jid: None,
            arrival,
            owner: false,
            moderator: false,
            stats_id: None,
            caps: None,
            features: None,
            region: None,
            claims: None,
            watches: None,
            sending: Sending::default(),
            named_owner: false,
            session: Session {
                stage: Stage::Idle,
                invite: 0,
                sid: String::new(),
                past_sids: Vec::new(),
                offered: Vec::new(),
                ssrc_rewriting: false,
                known: BTreeMap::new(),
                behind: false,
                unsignalled: BTreeMap::new(),
                firefox: false,
                ice_generation: 0,
                force_mute: ForceMute::default(),
            },
            muted: BTreeSet::new(),
            was_invited: false,
            restarts: RestartBudget::default(),
            ice_restarts: RestartBudget::default(),
            source_changes: Bucket::new(SOURCE_CHANGES),
            transports: Bucket::new(TRANSPORTS),
        }
    }

    /// One that only watches: on a node, or in the main room.
    pub fn visitor(arrival: u64, node: Option<NodeId>, codecs: Option<Vec<String>>) -> Self {
        Self { watches: Some(Watching { node, codecs }), ..Self::new(arrival) }
    }

    /// Whether it only watches.
    pub fn is_visitor(&self) -> bool {
        self.watches.is_some()
    }

    /// The visitor node that it is on; none for who is in the main room.
    pub fn node(&self) -> Option<NodeId> {
        self.watches.as_ref()?.node
    }

    /// The video codecs that it understands, as it came: only visitors' are kept.
    pub fn codecs(&self) -> Option<&[String]> {
        self.watches.as_ref()?.codecs.as_deref()
    }

    /// Takes what its presence says; what is not in it stays. Returns how many parts were too long, or not readable.
    pub fn seen(&mut self, presence: &Presence, user: &MucUser) -> u64 {
        if let Some(item) = user.items.first() {
            self.standing(item);
        }
        let mut too_long = 0;
        let mut text = |name: &str, most: usize| {
            let text = presence.payloads.iter().find(|payload| payload.name() == name).map(Element::text)?;
            too_long += u64::from(text.len() > most);
            Some(text).filter(|text| text.len() <= most)
        };
        self.stats_id = text("stats-id", MAX_NAME).or(self.stats_id.take());
        let region = text("jitsi_participant_region", MAX_REGION).filter(|region| !region.is_empty());
        self.region = region.or(self.region.take());
        match Sending::read(presence.payloads.iter()) {
            Ok(sending) => self.sending = sending,
            Err(Unreadable) => too_long += 1,
        }
        self.claims = presence.payloads.iter().find(|payload| payload.name() == "features").and_then(Helper::named_in);
        if let Some(caps) = presence.payloads.iter().find(|payload| payload.is("c", CAPS))
            && let (Some(node), Some(ver)) = (caps.attr("node"), caps.attr("ver"))
        {
            match node.len() + ver.len() <= MAX_NAME {
                true => self.caps = Some((node.to_owned(), ver.to_owned())),
                false => too_long += 1,
            }
        }
        too_long
    }

    fn standing(&mut self, item: &Item) {
        self.real_jid = item.jid.clone().or(self.real_jid.take());
        self.owner = item.affiliation == Affiliation::Owner;
        self.moderator = item.role == Role::Moderator || self.owner || item.affiliation == Affiliation::Admin;
    }

    /// What it says that it sends.
    pub fn sending(&self) -> Sending {
        self.sending
    }

    /// It is to be made owner; true the first time.
    pub fn becomes_owner(&mut self) -> bool {
        !std::mem::replace(&mut self.named_owner, true)
    }

    /// What kind of recorder or gateway it is; a claim is believed of those accounts only.
    pub fn helper(&self, trust: &Trust) -> Option<Helper> {
        let trusted = self.real_jid.as_ref().is_some_and(|jid| trust.includes(&jid.to_bare()));
        self.claims.filter(|_| trusted && !self.is_visitor())
    }

    /// Its real address, as far as the room shows it.
    pub fn real_jid(&self) -> Option<&FullJid> {
        self.real_jid.as_ref()
    }

    /// In order of arrival.
    pub fn arrival(&self) -> u64 {
        self.arrival
    }

    /// Whether the room says that it is an owner.
    pub fn is_owner(&self) -> bool {
        self.owner
    }

    /// Whether it may moderate.
    pub fn is_moderator(&self) -> bool {
        self.moderator
    }

    /// What the bridge gets for its statistics.
    pub fn stats_id(&self) -> Option<String> {
        self.stats_id.clone()
    }

    /// Where it is, for the choice of the bridge.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Node and hash of its capabilities.
    pub fn caps(&self) -> Option<&(String, String)> {
        self.caps.as_ref()
    }

    /// What it can do, once known.
    pub fn features(&self) -> Option<Features> {
        self.features
    }

    /// Where its session stands.
    pub fn stage(&self) -> Stage {
        self.session.stage
    }

    /// Number of its latest invitation.
    pub fn invite(&self) -> u64 {
        self.session.invite
    }

    /// Jingle session id; empty when there is no session.
    pub fn sid(&self) -> &str {
        &self.session.sid
    }

    /// Whether a session of that id ended lately.
    pub fn had_session(&self, sid: &str) -> bool {
        self.session.past_sids.iter().any(|past| past == sid)
    }

    /// What it was offered.
    pub fn offered(&self) -> &[Media] {
        &self.session.offered
    }

    /// Whether the bridge signals the others' sources to it, not we.
    pub fn ssrc_rewriting(&self) -> bool {
        self.session.ssrc_rewriting
    }

    /// Whether the bridge has, or will have, an endpoint for it.
    pub fn has_endpoint(&self) -> bool {
        matches!(self.session.stage, Stage::Allocating | Stage::Offered | Stage::Active)
    }

    /// It is asked what it can do.
    pub fn discovering(&mut self) {
        self.session.stage = Stage::Discovering;
    }

    /// What it can do is known now.
    pub fn discovered(&mut self, features: Features) {
        self.features = Some(features);
        if self.session.stage == Stage::Discovering {
            self.session.stage = Stage::Idle;
        }
    }

    /// The bridge is asked for an endpoint that takes `offered`, for the invitation of that number, and drops what it must not
    /// send.
    pub fn allocating(&mut self, invite: u64, offered: Vec<Media>, force_mute: ForceMute) {
        self.end_session(Stage::Allocating);
        self.session.force_mute = force_mute;
        self.session.invite = invite;
        self.session.offered = offered;
        self.session.ssrc_rewriting = self.features.is_some_and(|features| features.ssrc_rewriting);
    }

    /// It is sent an offer as session `sid`, with the sources of others in it.
    pub fn offer(&mut self, sid: &str, known: BTreeMap<String, Arc<SourceSet>>) {
        self.session.stage = Stage::Offered;
        self.was_invited = true;
        sid.clone_into(&mut self.session.sid);
        self.session.known = known;
    }

    /// It accepted its offer, perhaps as Firefox does.
    pub fn accepted(&mut self, firefox: bool) {
        self.session.firefox = firefox;
        self.session.stage = Stage::Active;
        self.session.behind = true;
    }

    /// Whether what changed since its offer was written is still to be signalled to it.
    pub fn is_behind(&self) -> bool {
        self.session.behind
    }

    /// All that changed is signalled to it.
    pub fn catches_up(&mut self) {
        self.session.behind = false;
    }

    /// Ends its session and returns the id of it, empty when it was never offered one.
    pub fn end_session(&mut self, stage: Stage) -> String {
        let session = &mut self.session;
        session.stage = stage;
        session.known.clear();
        session.behind = false;
        session.ice_generation = 0;
        session.force_mute = ForceMute::default();
        session.unsignalled.clear();
        let sid = std::mem::take(&mut session.sid);
        if !sid.is_empty() {
            if session.past_sids.len() >= PAST_SIDS {
                session.past_sids.remove(0);
            }
            session.past_sids.push(sid.clone());
        }
        sid
    }

    /// It had a session with the process before: it is no newcomer.
    pub fn was_member_before(&mut self) {
        self.was_invited = true;
    }

    /// Whether it was ever sent an offer: newcomers were not.
    pub fn was_invited(&self) -> bool {
        self.was_invited
    }

    /// Whether others muted it.
    pub fn is_muted(&self, medium: Medium) -> bool {
        self.muted.contains(&medium)
    }

    /// Others muted it, or it unmuted itself.
    pub fn set_muted(&mut self, medium: Medium, muted: bool) {
        match muted {
            true => self.muted.insert(medium),
            false => self.muted.remove(&medium),
        };
    }

    /// The bridge is to drop that of it; whether the bridge had something else before.
    pub fn force_mute(&mut self, force_mute: ForceMute) -> bool {
        std::mem::replace(&mut self.session.force_mute, force_mute) != force_mute
    }

    /// Its state, for operators.
    pub fn debug(&self) -> serde_json::Value {
        let ForceMute { audio, video } = self.session.force_mute;
        serde_json::json!({
            "moderator": self.moderator,
            "visitor": self.is_visitor(),
            "stage": format!("{:?}", self.session.stage),
            "force_mute": { "audio": audio, "video": video },
        })
    }

    /// What was last signalled to it of an owner's sources.
    pub fn knows(&self, owner: &str) -> Option<&Arc<SourceSet>> {
        self.session.known.get(owner)
    }

    /// The owners of sources that were signalled to it.
    pub fn knows_owners(&self) -> impl Iterator<Item = &String> {
        self.session.known.keys()
    }

    /// Whether it accepted its offer as Firefox does.
    pub fn is_firefox(&self) -> bool {
        self.session.firefox
    }

    /// Whether it knows video of others that is not held back from it.
    pub fn has_video_of_others(&self) -> bool {
        let mut video = self.session.known.values().flat_map(|set| &set.sources).filter(|source| source.video);
        video.any(|source| source.name.as_ref().is_none_or(|name| !self.session.unsignalled.contains_key(name)))
    }

    /// It is signalled that an owner's sources are these now, or that there are none; returns what was signalled before.
    pub fn tell(&mut self, owner: &str, sources: Option<&Arc<SourceSet>>) -> Option<Arc<SourceSet>> {
        match sources {
            Some(sources) => self.session.known.insert(owner.to_owned(), Arc::clone(sources)),
            None => self.session.known.remove(owner),
        }
    }

    /// Names of others' sources that are held back from it.
    pub fn held(&self) -> impl ExactSizeIterator<Item = &String> {
        self.session.unsignalled.keys()
    }

    /// A source is held back from it, until it is signalled to it, and at most until then.
    pub fn hold_back(&mut self, name: String, until: Instant) {
        self.session.unsignalled.entry(name).or_insert(until);
    }

    /// A source that is held back need not be from `until` on.
    pub fn source_signalled(&mut self, name: &str, until: Instant) {
        if let Some(held) = self.session.unsignalled.get_mut(name) {
            *held = until.min(*held);
        }
    }

    /// Nothing is held back that waits until `until` or less; whether anything was.
    pub fn release(&mut self, until: Instant) -> bool {
        let before = self.session.unsignalled.len();
        self.session.unsignalled.retain(|_, held| *held > until);
        self.session.unsignalled.len() != before
    }

    /// When the first wait for it is over.
    pub fn next_release(&self) -> Option<Instant> {
        self.session.unsignalled.values().min().copied()
    }

    /// Whether an ICE restart of that number is new to it; it counts as signalled from now on.
    pub fn restarts_ice(&mut self, generation: u32) -> bool {
        let news = generation > self.session.ice_generation;
        if news {
            self.session.ice_generation = generation;
        }
        news
    }

    /// Whether it may restart its session now; counts it if so.
    pub fn may_restart(&mut self, now: Instant) -> bool {
        self.restarts.take(now)
    }

    /// The same for ICE restarts in place, which are counted apart: neither uses up the other.
    pub fn may_restart_ice(&mut self, now: Instant) -> bool {
        self.ice_restarts.take(now)
    }

    /// Whether it may change its sources now; counts it if so.
    pub fn may_change_sources(&mut self, now: Instant) -> bool {
        self.source_changes.take(now, 1)
    }

    /// Whether it may trickle its transport now; counts it if so.
    pub fn may_trickle(&mut self, now: Instant) -> bool {
        self.transports.take(now, 1)
    }
}

/// Whether an occupant only watches.
pub(super) fn only_watches(item: &Item) -> bool {
    !matches!(item.affiliation, Affiliation::Owner | Affiliation::Admin)
        && !matches!(item.role, Role::Moderator | Role::Participant)
}

/// When restarts were granted.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct RestartBudget(#[serde(with = "crate::carried")] Vec<Instant>);

impl RestartBudget {
    /// Whether one may be granted now; counts it if so.
    fn take(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.saturating_duration_since(*at) < Duration::from_secs(60));
        let spaced = self.0.last().is_none_or(|last| now.saturating_duration_since(*last) >= RESTART_INTERVAL);
        let free = spaced && self.0.len() < RESTARTS_PER_MINUTE;
        if free {
            self.0.push(now);
        }
        free
    }
}
