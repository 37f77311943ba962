//! What the conferences of a focus share: bridges, requests, counts.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use jid::{BareJid, Jid};
use rand::RngCore;
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;

use super::breakouts::Breakouts;
use super::bridges::Bridges;
use super::caps::Caps;
use super::components::Components;
use super::http;
use super::ice_restart_totals::IceRestarts;
use super::limits::{IMPLAUSIBLE, INVITES, MAX_SENDERS, Refusals};
use super::logins::Logins;
use super::pins::Pins;
use super::requests::{IQ_TIMEOUT, Pending, Requests};
use super::settings::FocusSettings;
use super::visitors::Nodes;
use crate::brewery::Trust;
use crate::colibri::elements::ConferenceModify;
use crate::pace::{Buckets, Quiet};
use crate::xmpp::iq::Request;

/// Conferences of rooms that the server forgot stay on the bridge so long, unless their room starts again.
pub(super) const ORPHAN_LIFETIME: Duration = Duration::from_secs(60);
/// Their bridge may come back later than we do: asked again this often, and not for ever.
pub(super) const ORPHAN_RETRY: Duration = Duration::from_secs(10);
const ORPHAN_FORGOTTEN: Duration = Duration::from_secs(600);

/// A conference on a bridge whose room is gone.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Orphan {
    pub room: BareJid,
    pub meeting_id: String,
    pub bridge: String,
    #[serde(with = "crate::carried")]
    pub deadline: Instant,
    #[serde(with = "crate::carried")]
    forgotten: Instant,
}

impl Orphan {
    /// To be expired after `lifetime`, or once its bridge is back.
    pub fn new(now: Instant, lifetime: Duration, room: BareJid, meeting_id: String, bridge: String) -> Self {
        Self { room, meeting_id, bridge, deadline: now + lifetime, forgotten: now + ORPHAN_FORGOTTEN }
    }
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Totals {
    pub conferences: u64,
    pub participants: u64,
    pub moved: u64,
    pub lost_bridges: u64,
    /// Links between living bridges over which nothing came.
    pub dead_links: u64,
    /// Participants that left overloaded bridges.
    pub redistributed: u64,
    pub restarts: u64,
}

impl Totals {
    /// Whether a focus can have counted so far.
    pub fn are_plausible(&self) -> bool {
        let Self { conferences, participants, moved, lost_bridges, dead_links, redistributed, restarts } = self;
        let all = [conferences, participants, moved, lost_bridges, dead_links, redistributed, restarts];
        all.into_iter().all(|count| *count < IMPLAUSIBLE)
    }
}

/// What the conferences share.
#[derive(Debug, serde::Serialize)]
pub(super) struct Shared {
    #[serde(skip)]
    pub settings: FocusSettings,
    /// Who is logged in.
    pub logins: Logins,
    /// Whose members of a room are believed to be recorders or gateways.
    #[serde(skip)]
    pub helpers: Trust,
    /// Our own address.
    pub jid: String,
    /// Whether we are connected.
    pub online: bool,
    /// Whether the server answers late, so that silence of others means little; and when it last did.
    pub server_slow: bool,
    #[serde(serialize_with = "crate::carried::serialize")]
    pub server_slow_at: Option<Instant>,
    pub bridges: Bridges,
    pub orphans: Vec<Orphan>,
    /// What clients can do, by the hash of their capabilities (XEP-0115).
    pub caps: Caps,
    /// Members that were seen so far.
    pub arrivals: u64,
    /// Invitations so far.
    pub invites: u64,
    pub totals: Totals,
    pub ice_restarts: IceRestarts,
    pub refused: Refusals,
    /// Lines about meeting ids that are not used.
    pub meeting_lines: Quiet,
    /// Lines about refused Jingle requests.
    pub jingle_lines: Quiet,
    pub invite_rate: Buckets<(BareJid, String)>,
    /// The room of each meeting id that is in use on a bridge.
    pub meeting_ids: BTreeMap<String, BareJid>,
    /// Breakout rooms by their main room.
    pub breakouts: Breakouts,
    pub components: Components,
    /// Rooms that may be on one version of bridges alone.
    pub pins: Pins,
    /// The servers that visitors are sent to.
    pub visitor_nodes: Nodes,
    pub requests: Requests,
}

impl Shared {
    pub fn new(settings: FocusSettings) -> Self {
        let own = BareJid::from_parts(None, settings.xmpp.jid.domain());
        let helpers: Vec<BareJid> = std::iter::once(own.clone()).chain(settings.trusted_domains.clone()).collect();
        let visitor_nodes = Nodes::new(settings.visitors.clone());
        let services = visitor_nodes.all().map(|(id, node)| (node.service.domain().as_str().to_owned(), id)).collect();
        Self {
            jid: settings.xmpp.jid.to_string(),
            logins: Logins::new(settings.login.clone()),
            bridges: Bridges::new(settings.ice_failure, settings.selection.clone()),
            settings,
            helpers: Trust::new(&own, &helpers),
            online: false,
            server_slow: false,
            server_slow_at: None,
            orphans: Vec::new(),
            caps: Caps::default(),
            arrivals: 0,
            invites: 0,
            totals: Totals::default(),
            ice_restarts: IceRestarts::default(),
            refused: Refusals::default(),
            meeting_lines: Quiet::default(),
            jingle_lines: Quiet::default(),
            invite_rate: Buckets::new(INVITES, MAX_SENDERS),
            meeting_ids: BTreeMap::new(),
            breakouts: Breakouts::default(),
            components: Components::default(),
            pins: Pins::default(),
            visitor_nodes,
            requests: Requests::new(services),
        }
    }

    /// Whether the server was slow while an answer was awaited that is late now: it may have been in the server's queue.
    pub fn server_was_slow(&self, now: Instant) -> bool {
        self.server_slow || self.server_slow_at.is_some_and(|at| now.saturating_duration_since(at) <= IQ_TIMEOUT)
    }

    /// Whether a room is a breakout room.
    pub fn is_breakout(&self, room: &BareJid) -> bool {
        let service = self.settings.breakout_muc.as_ref().or(self.components.breakout());
        service.is_some_and(|service| service.domain() == room.domain())
    }

    /// Whether rooms can have visitors: the server has to know of them too.
    pub fn has_visitors(&self) -> bool {
        self.visitor_nodes.settings().is_some() && self.components.visitors().is_some()
    }

    /// Who sent a request: the component of clients says in its resource for whom it asks.
    pub fn sender(&self, request: &Request) -> Option<Jid> {
        // Over HTTP nobody can show who he is.
        let from = request.from.clone().filter(|from| from.domain().as_str() != http::HOST)?;
        if self.settings.client_proxy.as_ref().is_some_and(|proxy| from.to_bare() == *proxy) {
            return from.resource().and_then(|behind| behind.as_str().parse().ok());
        }
        Some(from)
    }

    /// The same at a time.
    pub fn at(&mut self, now: Instant) -> Context<'_> {
        Context { now, shared: self }
    }
}

/// What conferences share, at a time: what a method of one works with.
pub(super) struct Context<'a> {
    pub now: Instant,
    shared: &'a mut Shared,
}

impl Deref for Context<'_> {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        self.shared
    }
}

impl DerefMut for Context<'_> {
    fn deref_mut(&mut self) -> &mut Shared {
        self.shared
    }
}

impl Context<'_> {
    /// Queues a stanza.
    pub fn send(&mut self, stanza: impl Into<Stanza>) {
        self.shared.requests.send(stanza);
    }

    /// Sends an IQ and remembers what it is for.
    pub fn request(&mut self, to: &str, set: bool, payload: Element, pending: Pending) {
        self.shared.requests.request(self.now, to, set, payload, pending);
    }

    /// Sends an IQ whose answer does not matter.
    pub fn notify(&mut self, to: &str, payload: Element) {
        self.shared.requests.notify(to, payload);
    }

    /// Signals to a bridge that a conference is over.
    pub fn expire_on_bridge(&mut self, bridge: &str, meeting_id: &str) {
        let expire = ConferenceModify { expire: true, ..ConferenceModify::new(meeting_id) };
        self.notify(bridge, expire.into());
    }

    /// Ends what is left of a conference on a bridge that is to get it again.
    pub fn expire_orphans_of(&mut self, bridge: &str, meeting_id: &str) {
        let before = self.orphans.len();
        self.orphans.retain(|orphan| orphan.bridge != bridge || orphan.meeting_id != meeting_id);
        if self.orphans.len() != before {
            self.expire_on_bridge(bridge, meeting_id);
        }
    }

    /// Ends what is left of a conference on its bridge; while the bridge is away this waits.
    pub fn expire_orphan(&mut self, orphan: Orphan) {
        if self.online && self.bridges.get(&orphan.bridge).is_some() {
            tracing::info!(room = %orphan.room, bridge = %orphan.bridge, "conference that nobody is in any more expired");
            self.expire_on_bridge(&orphan.bridge, &orphan.meeting_id);
        } else if self.now < orphan.forgotten {
            let deadline = self.now + ORPHAN_RETRY;
            self.orphans.push(Orphan { deadline, ..orphan });
        }
    }

    /// Random text for ids.
    pub fn random_id(&self) -> String {
        let mut bytes = [0u8; 16];
        rand::rng().fill_bytes(&mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}
