//! The brewery room: bridges come, report and go.

use std::time::{Duration, Instant};

use jid::BareJid;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::presence::Presence;
use xmpp_parsers::stanza_error::{DefinedCondition, StanzaError};

use super::bridges::{BridgeChange, DeadLink};
use super::conference::{Conference, Relief};
use super::limits::Refused;
use super::pool::PoolChange;
use super::requests::{Pending, Question};
use super::service::Focus;
use crate::colibri::elements::ConferenceModify;

/// Between two questions to the server.
const SERVER_INTERVAL: Duration = Duration::from_secs(1);

/// A server that takes longer than this to answer us holds up the bridges' answers too.
const SLOW_SERVER: Duration = Duration::from_millis(500);

/// A bridge that left the brewery, with no other there, may come back so long before its conferences are given up.
const LOST_PATIENCE: Duration = Duration::from_secs(5);

const HEALTH: &str = "http://jitsi.org/protocol/healthcheck";

impl Focus {
    pub(super) fn brewery_presence(&mut self, now: Instant, presence: &Presence) {
        let occupant = match self.brewery.presence(&mut self.shared.at(now), presence) {
            Some(PoolChange::Seen(occupant)) => occupant,
            Some(PoolChange::Gone(occupant)) => return self.bridge_left(now, &occupant),
            Some(PoolChange::Closed) | None => return,
        };
        match self.shared.bridges.presence(now, &occupant, &presence.payloads) {
            Some(BridgeChange::Added(bridge)) => {
                tracing::info!(%bridge, "bridge found");
                if self.lost.remove(&bridge).is_some() {
                    self.ask_for_conferences(now, &bridge);
                } else {
                    self.give_up_lost(now, None);
                }
                self.leave_silent(now);
                self.start_waiting(now);
            }
            Some(BridgeChange::ShuttingDown(bridge)) => {
                tracing::info!(%bridge, "bridge shuts down; its conferences move");
                self.move_away(now, &bridge);
            }
            None => self.start_waiting(now),
        }
        self.heal_links(now, &occupant);
    }

    /// Moves who is on the smaller side of links over which nothing comes.
    fn heal_links(&mut self, now: Instant, bridge: &str) {
        for DeadLink { meeting, relay } in self.shared.bridges.dead_links(bridge) {
            let Some(room) = self.shared.meeting_ids.get(&meeting).cloned() else { continue };
            let Some((conference, mut cx)) = self.conference(now, &room) else { continue };
            if conference.link_died(&mut cx, bridge, &relay) {
                self.shared.totals.dead_links += 1;
            }
        }
    }

    /// Moves some participants from bridges that are overloaded to others, if there are any that are not.
    pub(super) fn redistribute(&mut self, now: Instant) {
        let Some(settings) = self.shared.settings.load_redistribution else { return };
        if self.redistribution_due.is_some_and(|due| now < due) {
            return;
        }
        self.redistribution_due = Some(now + settings.interval);
        self.relieved.retain(|_, at| now.saturating_duration_since(*at) < settings.timeout);
        for bridge in self.shared.bridges.stressed(now, settings.stress) {
            if self.relieved.contains_key(&bridge) {
                continue;
            }
            self.relieved.insert(bridge.clone(), now);
            let (moved, _) = self.relieve(now, &bridge, None, (settings.endpoints, Relief::Overload));
            self.shared.totals.redistributed += moved as u64;
            if moved > 0 {
                tracing::info!(%bridge, moved, "bridge is overloaded; some of its participants move");
            }
        }
    }

    /// Takes about so many endpoints off a bridge, of the largest conferences first; how many, and of how many conferences. Where
    /// an operator asks and none fits into the number, the smallest conference goes.
    pub(super) fn relieve(
        &mut self,
        now: Instant,
        bridge: &str,
        only: Option<&BareJid>,
        (most, relief): (usize, Relief),
    ) -> (usize, usize) {
        let on_it = self.conferences.iter().map(|(room, conference)| (conference.count_on(bridge), room.clone()));
        let mut rooms: Vec<(usize, BareJid)> =
            on_it.filter(|(size, room)| *size > 0 && only.is_none_or(|only| only == room)).collect();
        rooms.sort_by(|(a, _), (b, _)| b.cmp(a));
        let (mut endpoints, mut conferences) = (0, 0);
        for (_, room) in &rooms {
            let left = most.saturating_sub(endpoints);
            if left == 0 {
                break;
            }
            let Some((conference, mut cx)) = self.conference(now, room) else { continue };
            let moved = conference.relieve(&mut cx, bridge, left, relief);
            endpoints += moved;
            conferences += usize::from(moved > 0);
        }
        if endpoints == 0
            && most > 0
            && relief == Relief::Asked
            && let Some((size, room)) = rooms.last()
            && let Some((conference, mut cx)) = self.conference(now, room)
        {
            endpoints = conference.relieve(&mut cx, bridge, (*size).max(most), relief);
            conferences = usize::from(endpoints > 0);
        }
        (endpoints, conferences)
    }

    /// A bridge left the brewery. Where another one can take over, it does. Else the media may well go on: a bridge whose
    /// connection to the server broke for a moment is back in a second or two, with all of its conferences.
    fn bridge_left(&mut self, now: Instant, bridge: &str) {
        if !self.shared.bridges.left(bridge) {
            return;
        }
        self.shared.totals.lost_bridges += 1;
        if self.shared.bridges.select(now, None).is_some() {
            tracing::warn!(%bridge, "bridge lost; its conferences move");
            self.move_away(now, bridge);
        } else {
            tracing::warn!(%bridge, patience = ?LOST_PATIENCE, "bridge lost, and there is no other; waiting for it");
            self.lost.insert(bridge.to_owned(), now + LOST_PATIENCE);
        }
    }

    /// Ends the sessions on bridges that were lost by a time, or at all, and did not come back.
    pub(super) fn give_up_lost(&mut self, now: Instant, by: Option<Instant>) {
        let due = self.lost.iter().filter(|(_, until)| by.is_none_or(|by| **until <= by));
        let due: Vec<String> = due.map(|(bridge, _)| bridge.clone()).collect();
        for bridge in due {
            self.lost.remove(&bridge);
            tracing::warn!(%bridge, "the lost bridge did not come back; its conferences move");
            self.move_away(now, &bridge);
        }
    }

    /// Asks a bridge that is back whether it still has the conferences that it had: an error has them start again.
    fn ask_for_conferences(&mut self, now: Instant, bridge: &str) {
        let of_it = |(room, conference): (&BareJid, &Conference)| {
            let (meeting_id, session) = conference.on_bridge(bridge)?;
            Some((room.clone(), meeting_id.to_owned(), session.to_owned()))
        };
        let rooms: Vec<_> = self.conferences.iter().filter_map(of_it).collect();
        for (room, meeting_id, session) in rooms {
            let pending = Pending::InConference { room, what: Question::Update { nick: String::new(), session } };
            self.shared.requests.request(now, bridge, true, ConferenceModify::new(&meeting_id).into(), pending);
        }
    }

    /// Re-invites everybody who is on a bridge.
    pub(super) fn move_away(&mut self, now: Instant, bridge: &str) {
        let on_it = self.conferences.iter().filter(|(_, conference)| conference.uses_bridge(bridge));
        let rooms: Vec<BareJid> = on_it.map(|(room, _)| room.clone()).collect();
        for room in rooms {
            if let Some((conference, mut cx)) = self.conference(now, &room) {
                conference.leave_bridge(&mut cx, bridge);
            }
        }
    }

    /// Starts the conferences that had no bridge, once there is one.
    pub(super) fn start_waiting(&mut self, now: Instant) {
        if self.shared.bridges.select(now, None).is_none() {
            return;
        }
        let waiting = self.conferences.iter().filter(|(_, conference)| conference.lacks_bridge());
        let rooms: Vec<BareJid> = waiting.map(|(room, _)| room.clone()).collect();
        for room in rooms {
            if let Some((conference, mut cx)) = self.conference(now, &room) {
                conference.invite_missing(&mut cx);
            }
        }
    }

    /// Asks every bridge whose turn it is how it is, and the server whether it listens at all.
    pub(super) fn check_bridges(&mut self, now: Instant) {
        let due = self.shared.bridges.due_checks(now);
        if due.is_empty() {
            return;
        }
        if self.server_asked.is_none_or(|at| now.saturating_duration_since(at) >= SERVER_INTERVAL) {
            self.server_asked = Some(now);
            self.ask_server(now);
        }
        for bridge in due {
            self.check_health(now, bridge);
        }
    }

    fn ask_server(&mut self, now: Instant) {
        let server = self.shared.settings.xmpp.jid.domain().to_string();
        self.shared.requests.request(
            now,
            &server,
            false,
            Element::bare("ping", "urn:xmpp:ping"),
            Pending::Server { asked: now },
        );
    }

    /// The server answered, with whatever, or did not.
    pub(super) fn server_answered(&mut self, now: Instant, asked: Instant, answered: bool) {
        let slow = !answered || now.saturating_duration_since(asked) > SLOW_SERVER;
        if slow && !self.shared.server_slow {
            tracing::warn!("the XMPP server is slow; unanswered health checks are not counted against bridges");
        }
        self.shared.server_slow = slow;
        if slow {
            self.shared.server_slow_at = Some(now);
        }
    }

    fn check_health(&mut self, now: Instant, bridge: String) {
        self.shared.requests.request(
            now,
            &bridge.clone(),
            false,
            Element::bare("healthcheck", HEALTH),
            Pending::Health { bridge },
        );
    }

    pub(super) fn health_error(&mut self, now: Instant, bridge: &str, error: &StanzaError) {
        let ill = matches!(
            error.defined_condition,
            DefinedCondition::InternalServerError | DefinedCondition::ServiceUnavailable
        );
        tracing::warn!(%bridge, condition = ?error.defined_condition, moving = ill, "bridge health check failed");
        if ill {
            self.shared.bridges.check_failed(now, bridge);
            self.move_away(now, bridge);
        }
    }

    pub(super) fn health_silence(&mut self, now: Instant, bridge: &str) {
        if self.shared.server_slow {
            // The question or the answer may still be in the server's queue.
            self.shared.refused.count(Refused::ServerSlow, 1);
            return;
        }
        if self.shared.bridges.check_timed_out(now, bridge) {
            tracing::warn!(%bridge, "bridge does not answer; its conferences move as soon as another bridge is available");
            self.leave_silent(now);
        }
    }

    /// Moves conferences away from bridges that do not answer, if there is a better one: a bridge that is only cut off
    /// from us may still forward.
    fn leave_silent(&mut self, now: Instant) {
        if self.shared.bridges.select(now, None).is_none() {
            return;
        }
        for bridge in self.shared.bridges.silent() {
            self.move_away(now, &bridge);
        }
    }
}
