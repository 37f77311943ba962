//! The focus as a state machine: stanzas and the time in, stanzas out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jid::{BareJid, FullJid, Jid};
use tokio_xmpp::Stanza;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::muc::MucUser;
use xmpp_parsers::presence::Presence;

use super::conference::Conference;
use super::context::{Context, Orphan, Shared};
use super::dial::Dial;
use super::former_rooms::FormerRooms;
use super::limits::{ASKS, MAX_SENDERS, MUTES, NEW_ROOMS, Refused};
use super::pool::{Announcement, Pool};
use super::recording::Recording;
use super::requests::{Answer, Pending, Question};
use super::settings::FocusSettings;
use super::statistics;
use super::visitors::NodeId;
use crate::brewery::Trust;
use crate::pace::{Buckets, Quiet};
use crate::xmpp::iq::Request;

/// What a room says of its occupants (XEP-0045).
const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// Senders who asked nothing lately are forgotten this often, at the next timer.
const FORGET_SENDERS: Duration = Duration::from_secs(10);

/// How bridges announce themselves: who does gets conferences.
const BRIDGES: Announcement = Announcement {
    element: "stats",
    refused: Refused::FalseBridge,
    refusal: "not accepted as a bridge: its account is not trusted in the brewery",
};

/// What happens to the focus.
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
    /// Something happened to the connection with a visitor node.
    Node(NodeId, NodeEvent),
    /// The focus is to end: conferences are expired on bridges, rooms are left.
    Shutdown,
}

/// What happens to the connection with a visitor node.
#[derive(Debug)]
pub enum NodeEvent {
    /// It is up.
    Online {
        /// Whether the session survived, so that rooms are still joined.
        resumed: bool,
    },
    /// It is gone.
    Offline,
    /// A stanza arrived.
    Stanza(Box<Stanza>),
}

/// The focus.
#[derive(Debug, serde::Serialize)]
pub struct Focus {
    pub(super) shared: Shared,
    pub(super) conferences: BTreeMap<BareJid, Conference>,
    /// The brewery of bridges.
    pub(super) brewery: Pool,
    /// Bridges that left while there was no other, and until when they may come back.
    #[serde(serialize_with = "crate::carried::serialize")]
    pub(super) lost: BTreeMap<String, Instant>,
    /// When overloaded bridges are looked for next, and which were relieved lately.
    #[serde(serialize_with = "crate::carried::serialize")]
    pub(super) redistribution_due: Option<Instant>,
    #[serde(serialize_with = "crate::carried::serialize")]
    pub(super) relieved: BTreeMap<String, Instant>,
    /// What is recorded, and by whom.
    pub(super) recording: Recording,
    /// Who is called, and by which gateway.
    pub(super) dial: Dial,
    /// Log lines about conferences that were not created.
    pub(super) refused_lines: Quiet,
    /// Log lines about messages of components that are not heeded.
    pub(super) message_lines: Quiet,
    #[serde(serialize_with = "crate::carried::serialize")]
    pub(super) server_asked: Option<Instant>,
    /// Rooms of the process before.
    pub(super) returning: FormerRooms,
    pub(super) was_online: bool,
    pub(super) new_rooms: Buckets<Jid>,
    #[serde(serialize_with = "crate::carried::serialize")]
    pub(super) forget_at: Option<Instant>,
    pub(super) asks: Buckets<Jid>,
    pub(super) mutes: Buckets<Jid>,
    #[serde(skip)]
    pub(super) trust: Trust,
}

impl Focus {
    /// A focus that is not connected yet.
    pub fn new(settings: FocusSettings) -> Result<Self, jid::Error> {
        let trust = Trust::new(&settings.xmpp.jid, &settings.brewery_trusted);
        let brewery = Pool::new(&settings.brewery, trust.clone(), &BRIDGES)?;
        let recording = Recording::new(&settings.recording, &trust)?;
        let dial = Dial::new(settings.jigasi_brewery.as_ref(), &trust)?;
        Ok(Self {
            recording,
            dial,
            shared: Shared::new(settings),
            conferences: BTreeMap::new(),
            brewery,
            lost: BTreeMap::new(),
            redistribution_due: None,
            relieved: BTreeMap::new(),
            refused_lines: Quiet::default(),
            message_lines: Quiet::default(),
            server_asked: None,
            returning: FormerRooms::default(),
            was_online: false,
            new_rooms: Buckets::new(NEW_ROOMS, MAX_SENDERS),
            forget_at: None,
            asks: Buckets::new(ASKS, MAX_SENDERS),
            mutes: Buckets::new(MUTES, MAX_SENDERS),
            trust,
        })
    }

    /// A conference, and what it works with at that time.
    pub(super) fn conference(&mut self, now: Instant, room: &BareJid) -> Option<(&mut Conference, Context<'_>)> {
        let conference = self.conferences.get_mut(room)?;
        Some((conference, self.shared.at(now)))
    }

    /// How many conferences there are.
    pub(super) fn conference_count(&self) -> usize {
        self.conferences.len()
    }

    /// Whether we are connected to a visitor node.
    pub(super) fn is_node_online(&self, node: NodeId) -> bool {
        self.shared.visitor_nodes.is_online(node)
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Online { resumed, jid } => {
                self.shared.online = true;
                self.shared.jid = jid;
                let first = !std::mem::replace(&mut self.was_online, true);
                if first {
                    self.begin_returning(now, resumed);
                }
                // Nothing is known to a process that has just begun, whatever the server kept.
                let resumed = resumed && !first;
                if resumed {
                    // Answers may still come: the time that we were away does not count.
                    self.shared.requests.wait_anew(now);
                } else {
                    if !first {
                        self.forget_returning();
                        self.forget_rooms(now);
                    }
                    self.brewery.join(&mut self.shared.at(now));
                    self.ask_for_components(now);
                }
                self.recording.online(&mut self.shared.at(now), resumed);
                self.dial.online(&mut self.shared.at(now), resumed);
            }
            Input::Shutdown => self.shut_down(now),
            Input::Offline => self.shared.online = false,
            Input::Node(node, event) => self.node_event(now, node, event),
            Input::Stanza(stanza) if !self.is_at_home(&stanza, None) => {
                self.shared.refused.count(Refused::ForeignNode, 1);
            }
            Input::Stanza(stanza) => match *stanza {
                Stanza::Presence(presence) => self.handle_presence(now, presence),
                Stanza::Iq(iq) => self.handle_iq(now, iq),
                Stanza::Message(message) => self.handle_message(now, &message),
            },
        }
        self.enter_returning(now);
        self.tell_notices(now);
    }

    /// Lets time pass. While the connection is away nothing is due: what we would say is lost, and silence means nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.shared.online {
            return;
        }
        for pending in self.shared.requests.take_late(now) {
            self.answered(now, pending, Answer::Timeout);
        }
        self.brewery.handle_timeout(&mut self.shared.at(now));
        self.look_at_components(now);
        self.give_up_lost(now, Some(now));
        self.check_bridges(now);
        self.redistribute(now);
        self.forget_senders(now);
        self.conference_timeouts(now);
        self.recording.handle_timeout(&mut self.shared.at(now));
        self.dial.handle_timeout(&mut self.shared.at(now));
        self.shared.logins.handle_timeout(now);
        self.returning_timeout(now);
        self.enter_returning(now);
        self.tell_notices(now);
        let (due, waiting) =
            std::mem::take(&mut self.shared.orphans).into_iter().partition(|orphan| orphan.deadline <= now);
        self.shared.orphans = waiting;
        let due: Vec<Orphan> = due;
        for orphan in due {
            self.shared.at(now).expire_orphan(orphan);
        }
    }

    fn shut_down(&mut self, now: Instant) {
        for room in self.conferences.keys().cloned().collect::<Vec<_>>() {
            self.end_conference(now, &room, true);
        }
        for orphan in std::mem::take(&mut self.shared.orphans) {
            self.shared.at(now).expire_on_bridge(&orphan.bridge, &orphan.meeting_id);
        }
        self.brewery.leave(&mut self.shared.at(now));
        self.recording.shut_down(&mut self.shared.at(now));
        self.dial.shut_down(&mut self.shared.at(now));
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.shared.online {
            return None;
        }
        let pending = self.shared.requests.poll_timeout();
        let conferences = self.conferences.values().filter_map(Conference::poll_timeout);
        let orphans = self.shared.orphans.iter().map(|orphan| orphan.deadline);
        let others = [
            self.shared.bridges.poll_timeout(),
            self.brewery.poll_timeout(),
            self.recording.poll_timeout(),
            self.dial.poll_timeout(),
            self.shared.logins.poll_timeout(),
            self.shared.components.poll_timeout(),
            self.redistribution_due,
            self.returning.poll_timeout(),
        ]
        .into_iter()
        .flatten();
        pending.into_iter().chain(conferences).chain(orphans).chain(others).chain(self.lost.values().copied()).min()
    }

    /// The next stanza to send, and to which visitor node if not to our own server.
    pub fn poll_output(&mut self) -> Option<(Option<NodeId>, Stanza)> {
        self.shared.requests.poll_output()
    }

    /// Whether conferences can be served, or why not.
    pub fn health(&self, now: Instant) -> Result<(), String> {
        if !self.shared.online {
            return Err("not connected to the XMPP server".to_owned());
        }
        if self.shared.bridges.has_usable(now) { Ok(()) } else { Err("No operational bridges available".to_owned()) }
    }

    /// Statistics (docs/protocol/focus.md 9).
    pub fn stats(&self, now: Instant) -> serde_json::Value {
        let sizes: Vec<usize> = self.conferences.values().map(Conference::len).collect();
        let visitors: Vec<usize> = self.conferences.values().map(Conference::visitors).collect();
        let (bridges, operational) = self.shared.bridges.count(now);
        serde_json::json!({
            "conferences": self.conferences.len(),
            "participants": sizes.iter().sum::<usize>(),
            "visitors": visitors.iter().sum::<usize>(),
            "conferences_with_visitors": visitors.iter().filter(|count| **count > 0).count(),
            "largest_conference": sizes.iter().max().copied().unwrap_or(0),
            "total_conferences_created": self.shared.totals.conferences,
            "total_participants": self.shared.totals.participants,
            "conference_sizes": statistics::conference_sizes(&sizes),
            "endpoint_pairs": statistics::endpoint_pairs(&sizes),
            "bridge_failures": { "participants_moved": self.shared.totals.moved, "bridges_removed": self.shared.totals.lost_bridges,
                "dead_links": self.shared.totals.dead_links },
            "load_redistributor": { "endpoints_moved": self.shared.totals.redistributed },
            "refused": self.shared.refused.to_json(),
            "jibri": self.recording.stats(),
            "jigasi": self.dial.stats(),
            "login": self.shared.logins.stats(),
            "visitor_nodes": self.shared.visitor_nodes.to_json(),
            "ice_restarts": self.shared.ice_restarts.to_json(),
            "participant_notifications": { "request_restart": self.shared.totals.restarts },
            "bridge_selector": {
                "bridge_count": bridges,
                "operational_bridge_count": operational,
                "in_shutdown_bridge_count": self.shared.bridges.count_in_shutdown(),
                "lost_bridges": self.shared.totals.lost_bridges,
                "bridge_version_count": self.shared.bridges.count_versions(),
                "bridges": self.shared.bridges.debug(now),
            },
        })
    }

    /// What the focus knows of each room, for operators.
    pub fn debug(&self) -> serde_json::Value {
        self.conferences.iter().map(|(room, conference)| (room.to_string(), conference.debug())).collect()
    }

    /// A fresh session: the server knows us in no room any more. Media goes on until the rooms start again.
    fn forget_rooms(&mut self, now: Instant) {
        self.shared.requests.forget();
        self.shared.meeting_ids.clear();
        self.shared.breakouts.clear();
        self.shared.bridges.clear();
        self.lost.clear();
        (self.shared.server_slow, self.shared.server_slow_at) = (false, None);
        for (room, mut conference) in std::mem::take(&mut self.conferences) {
            conference.leave_nodes(&mut self.shared.at(now));
            let orphans = conference.into_orphans(now);
            if !orphans.is_empty() {
                tracing::info!(%room, "room lost with the connection; its media stays until it starts again");
            }
            self.shared.orphans.extend(orphans);
        }
    }

    fn handle_presence(&mut self, now: Instant, presence: Presence) {
        let Some(from) = presence.from.clone() else { return };
        if from.to_bare() == self.shared.settings.brewery {
            self.brewery_presence(now, &presence);
        } else if !self.gateway_presence(now, &presence) {
            self.room_presence(now, presence);
        }
    }

    pub(super) fn handle_iq(&mut self, now: Instant, iq: Iq) {
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
                if let Ok(request) = Request::from_iq(request) {
                    if !self.may_ask(now, &request) {
                        self.shared.refused.count(Refused::Flood, 1);
                        return;
                    }
                    let counted = self.shared.refused.total();
                    let answer = self.serve(now, &request);
                    if let Some(answer) = answer {
                        if matches!(answer, Iq::Error { .. }) && self.shared.refused.total() == counted {
                            self.shared.refused.count(Refused::Request, 1);
                        }
                        self.shared.requests.send(answer);
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
            self.shared.invite_rate.clear(now);
        }
    }

    /// Whether a request is looked at at all. The server and our own domain's accounts may ask as they like.
    fn may_ask(&mut self, now: Instant, request: &Request) -> bool {
        let Some(from) = &request.from else { return true };
        let mute = request.payload.name() == "mute";
        self.is_trusted(from) || if mute { self.mutes.take(now, from) } else { self.asks.take(now, from) }
    }

    /// Whether an address is that of an account of the operator's.
    pub(super) fn is_trusted(&self, from: &Jid) -> bool {
        self.trust.includes(&from.to_bare())
    }

    /// Counts what was refused before it became a request.
    pub(super) fn count(&mut self, refused: Refused) {
        self.shared.refused.count(refused, 1);
    }

    /// What an answer is for, if it is one.
    fn take_pending(&mut self, id: &str, from: Option<&Jid>) -> Option<Pending> {
        let pending = self.shared.requests.take(id, from);
        self.shared.refused.count(Refused::ForeignAnswer, u64::from(pending.is_err()));
        pending.unwrap_or_default()
    }

    /// An IQ of ours was answered, or not in time.
    fn answered(&mut self, now: Instant, pending: Pending, answer: Answer) {
        let (room, what) = match pending {
            Pending::Server { asked } => {
                return self.server_answered(now, asked, !matches!(answer, Answer::Timeout));
            }
            Pending::Health { bridge } => {
                return match answer {
                    Answer::Result(_) => {
                        self.shared.bridges.check_passed(&bridge);
                        self.start_waiting(now);
                    }
                    Answer::Timeout => self.health_silence(now, &bridge),
                    Answer::Error(error) => self.health_error(now, &bridge, &error),
                };
            }
            Pending::Dial { call, attempt } => {
                return self.dial.answered(&mut self.shared.at(now), call, attempt, answer);
            }
            Pending::Jibri { room, session, attempt } => {
                return self.recording.answered(&mut self.shared.at(now), &room, &session, attempt, answer);
            }
            Pending::Components => return self.components_answered(now, &answer),
            Pending::InConference { room, what } => (room, what),
        };
        match self.conference(now, &room) {
            Some((conference, mut cx)) => conference.answered(&mut cx, what, answer),
            // The conference has ended meanwhile.
            None => self.shared.ice_restarts.failed += u64::from(matches!(what, Question::IceRestart { .. })),
        }
    }
}

/// What a room says of the occupant whose presence this is.
pub(super) fn muc_user(presence: &Presence) -> MucUser {
    let user = presence.payloads.iter().find(|payload| payload.is("x", MUC_USER));
    user.and_then(|user| MucUser::try_from(user.clone()).ok()).unwrap_or_default()
}

/// Room and nickname of a sender, as far as it is an occupant's address.
pub(super) fn occupant(from: &Jid) -> Option<(BareJid, String)> {
    let full: FullJid = from.clone().try_into_full().ok()?;
    Some((full.to_bare(), full.resource().as_str().to_owned()))
}
