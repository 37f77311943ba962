//! The bridges that a conference is on, and which member is on which.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::focus::bridges::Bridges;
use crate::focus::cascade::{Cascade, NodeId};
use crate::focus::selection::Present;
use crate::jingle::SourceSet;

/// The conference on one bridge.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct BridgeSession {
    /// Our id of it, signalled to clients.
    pub(super) id: String,
    /// Occupant JID of the bridge.
    pub(super) bridge: String,
    /// Its index among the bridges.
    pub(super) node: NodeId,
    /// The bridge's own sources, from its first answer.
    pub(super) feedback: Option<SourceSet>,
    /// When endpoints were added to it, the latest last.
    #[serde(with = "crate::carried")]
    added: VecDeque<Instant>,
}

impl BridgeSession {
    /// A session that begins.
    pub fn new(id: String, bridge: String, node: NodeId) -> Self {
        Self { id, bridge, node, feedback: None, added: VecDeque::new() }
    }
}

/// A bridge that the conference left gets nobody of it for this long.
const AVOIDED: Duration = Duration::from_secs(300);

/// Why a bridge was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Left {
    /// It did not reach others of the conference.
    DeadLink,
    /// It was relieved.
    Relieved,
}

/// All of them.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Nodes {
    /// The first one first.
    sessions: Vec<BridgeSession>,
    /// The session of each member that has, or will have, an endpoint: by nickname, the session's id.
    homes: BTreeMap<String, String>,
    /// How the bridges are linked.
    pub(super) cascade: Cascade,
    /// Bridges that were left, the latest last, and when.
    #[serde(with = "crate::carried")]
    left: Vec<(Instant, String, Left)>,
}

impl Nodes {
    /// Whether members are where the conference is, and no two sessions are taken for each other.
    pub fn is_sound(&self) -> bool {
        let distinct = |all: BTreeSet<&str>| all.len() == self.sessions.len();
        let nodes: BTreeSet<NodeId> = self.sessions.iter().map(|session| session.node).collect();
        distinct(self.sessions.iter().map(|session| session.id.as_str()).collect())
            && distinct(self.sessions.iter().map(|session| session.bridge.as_str()).collect())
            && nodes.len() == self.sessions.len()
            && self.homes.values().all(|home| self.by_id(home).is_some())
    }

    /// How many bridges.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether it is on no bridge.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The sessions, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = &BridgeSession> {
        self.sessions.iter()
    }

    /// The session of an id.
    pub fn by_id(&self, id: &str) -> Option<&BridgeSession> {
        self.sessions.iter().find(|session| session.id == id)
    }

    /// The same, to be changed.
    pub fn by_id_mut(&mut self, id: &str) -> Option<&mut BridgeSession> {
        self.sessions.iter_mut().find(|session| session.id == id)
    }

    /// The session on a bridge.
    pub fn on(&self, bridge: &str) -> Option<&BridgeSession> {
        self.sessions.iter().find(|session| session.bridge == bridge)
    }

    /// The session of a node.
    pub fn of_node(&self, node: NodeId) -> Option<&BridgeSession> {
        self.sessions.iter().find(|session| session.node == node)
    }

    /// The session that a member has an endpoint in.
    pub fn home(&self, nick: &str) -> Option<&BridgeSession> {
        self.by_id(self.homes.get(nick)?)
    }

    /// Whether a member has its endpoint on a bridge of ours.
    pub fn on_own_bridge(&self, bridges: &Bridges, nick: &str) -> bool {
        let bridge = self.home(nick).and_then(|session| bridges.get(&session.bridge));
        bridge.is_some_and(|bridge| bridge.ringbridge.is_some())
    }

    /// Whether a member has its endpoint in the session of that id.
    pub fn is_home(&self, nick: &str, session: &str) -> bool {
        self.homes.get(nick).is_some_and(|home| home == session)
    }

    /// The members in a session.
    pub fn members<'a>(&'a self, session: &'a str) -> impl Iterator<Item = &'a String> {
        self.homes.iter().filter(move |(_, home)| *home == session).map(|(nick, _)| nick)
    }

    /// A session begins.
    pub fn insert(&mut self, session: BridgeSession) {
        self.sessions.push(session);
    }

    /// A session is over, for all who are in it.
    pub fn remove(&mut self, id: &str) -> Option<BridgeSession> {
        let at = self.sessions.iter().position(|session| session.id == id)?;
        self.homes.retain(|_, home| home != id);
        Some(self.sessions.remove(at))
    }

    /// A member gets an endpoint in a session; additions are remembered for `interval`.
    pub fn place(&mut self, now: Instant, nick: &str, session: &str, interval: Option<Duration>) {
        self.homes.insert(nick.to_owned(), session.to_owned());
        if let (Some(interval), Some(session)) = (interval, self.by_id_mut(session)) {
            let old = |at: &Instant| now.saturating_duration_since(*at) >= interval;
            while session.added.front().is_some_and(old) {
                session.added.pop_front();
            }
            session.added.push_back(now);
        }
    }

    /// A member has no endpoint any more; the id of its session.
    pub fn take(&mut self, nick: &str) -> Option<String> {
        self.homes.remove(nick)
    }

    /// Its state, for operators.
    pub fn debug(&self) -> serde_json::Value {
        let one = |session: &BridgeSession| {
            let linked = self.cascade.neighbours(session.node);
            let linked = linked.iter().filter_map(|node| self.of_node(*node)).map(|peer| peer.bridge.as_str());
            let view = serde_json::json!({
                "session": session.id,
                "participants": self.members(&session.id).count(),
                "linked_to": linked.collect::<Vec<_>>(),
            });
            (session.bridge.clone(), view)
        };
        self.sessions.iter().map(one).collect()
    }

    /// A bridge is left, by all or by some.
    pub fn note_left(&mut self, now: Instant, bridge: &str, why: Left) {
        self.left.retain(|(at, known, for_what)| {
            now.saturating_duration_since(*at) < AVOIDED && (known != bridge || *for_what != why)
        });
        self.left.push((now, bridge.to_owned(), why));
    }

    /// A bridge that was relieved may get members again.
    pub fn forgive(&mut self, bridge: &str) {
        self.left.retain(|(_, known, why)| known != bridge || *why != Left::Relieved);
    }

    /// Bridges that were left lately for that reason, the latest last. Where the conference is on no other bridge any more, links
    /// do not matter.
    pub fn left(&self, now: Instant, why: Left) -> Vec<String> {
        let matters = why == Left::Relieved || !self.is_empty();
        let lately = |at: Instant| now.saturating_duration_since(at) < AVOIDED && matters;
        let left = self.left.iter().filter(|(at, _, for_what)| lately(*at) && *for_what == why);
        left.map(|(_, bridge, _)| bridge.clone()).collect()
    }

    /// What the choice of the next bridge depends on.
    pub fn present(&self, now: Instant, interval: Option<Duration>) -> Vec<Present<'_>> {
        let recent = |session: &BridgeSession| {
            let within = |at: &&Instant| interval.is_some_and(|most| now.saturating_duration_since(**at) < most);
            session.added.iter().filter(within).count()
        };
        let one = |session: &'_ BridgeSession| (self.members(&session.id).count(), recent(session));
        self.sessions
            .iter()
            .map(|session| (session, one(session)))
            .map(|(session, (participants, recent))| Present { bridge: &session.bridge, participants, recent })
            .collect()
    }
}
