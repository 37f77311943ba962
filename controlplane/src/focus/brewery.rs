//! The brewery room: bridges come, report and go.

use std::time::Instant;

use jid::BareJid;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::presence::{Presence, Type};
use xmpp_parsers::stanza_error::{DefinedCondition, StanzaError};

use super::bridges::BridgeChange;
use super::machine::{Focus, Pending};
use crate::colibri::elements::ConferenceModify;
use crate::xmpp::muc::{MucChange, whois_anyone};

const HEALTH: &str = "http://jitsi.org/protocol/healthcheck";

impl Focus {
    pub(super) fn brewery_presence(&mut self, now: Instant, presence: &Presence) {
        match self.brewery.handle(presence) {
            Some(MucChange::Entered { created }) => {
                tracing::info!(brewery = %self.settings.brewery, "brewery joined");
                self.brewery_retry = None;
                if created {
                    self.send(whois_anyone(&self.settings.brewery, "brewery-form"));
                }
                return;
            }
            Some(MucChange::Left | MucChange::Refused { .. }) => {
                tracing::warn!(brewery = %self.settings.brewery, "not in the brewery; joining again");
                self.retry_brewery(now);
                return;
            }
            Some(MucChange::OccupantLeft(_)) => {
                if let Some(occupant) = &presence.from {
                    self.bridge_left(now, &occupant.to_string());
                }
                return;
            }
            _ => {}
        }
        if presence.type_ != Type::None {
            return;
        }
        let Some(occupant) = presence.from.as_ref().map(ToString::to_string) else { return };
        match self.bridges.presence(now, &occupant, &presence.payloads) {
            Some(BridgeChange::Added(bridge)) => {
                tracing::info!(%bridge, "bridge found");
                self.leave_silent(now);
                self.start_waiting(now);
            }
            Some(BridgeChange::ShuttingDown(bridge)) => {
                tracing::info!(%bridge, "bridge shuts down; its conferences move");
                self.move_away(now, &bridge);
            }
            None => self.start_waiting(now),
        }
    }

    fn bridge_left(&mut self, now: Instant, bridge: &str) {
        if self.bridges.left(bridge) {
            self.totals.lost_bridges += 1;
            tracing::warn!(%bridge, "bridge lost; its conferences move");
            self.move_away(now, bridge);
        }
    }

    /// Re-invites everybody who is on a bridge.
    pub(super) fn move_away(&mut self, now: Instant, bridge: &str) {
        let on_it = |room: &BareJid, focus: &Self| {
            let session = focus.conferences.get(room).and_then(|conference| conference.session.as_ref());
            session.is_some_and(|session| session.bridge == bridge)
        };
        let rooms: Vec<BareJid> = self.conferences.keys().filter(|room| on_it(room, self)).cloned().collect();
        for room in rooms {
            self.reinvite_all(now, &room, None);
        }
    }

    /// Starts the conferences that had no bridge, once there is one.
    pub(super) fn start_waiting(&mut self, now: Instant) {
        if self.bridges.select(now, None).is_none() {
            return;
        }
        let waiting = self.conferences.iter().filter(|(_, conference)| conference.no_bridge);
        let rooms: Vec<BareJid> = waiting.map(|(room, _)| room.clone()).collect();
        for room in rooms {
            self.invite_missing(now, &room);
        }
    }

    pub(super) fn check_health(&mut self, now: Instant, bridge: String) {
        self.request(now, &bridge.clone(), false, Element::bare("healthcheck", HEALTH), Pending::Health { bridge });
    }

    pub(super) fn health_error(&mut self, now: Instant, bridge: &str, error: &StanzaError) {
        let ill = matches!(
            error.defined_condition,
            DefinedCondition::InternalServerError | DefinedCondition::ServiceUnavailable
        );
        tracing::warn!(%bridge, condition = ?error.defined_condition, moving = ill, "bridge health check failed");
        if ill {
            self.bridges.check_failed(now, bridge);
            self.move_away(now, bridge);
        }
    }

    pub(super) fn health_silence(&mut self, now: Instant, bridge: &str) {
        if self.bridges.check_timed_out(now, bridge) {
            tracing::warn!(%bridge, "bridge does not answer; its conferences move as soon as there is another one");
            self.leave_silent(now);
        }
    }

    /// Moves conferences away from bridges that do not answer, if there is a better one: a bridge that is only cut off
    /// from us may still forward.
    fn leave_silent(&mut self, now: Instant) {
        if self.bridges.select(now, None).is_none() {
            return;
        }
        for bridge in self.bridges.silent() {
            self.move_away(now, &bridge);
        }
    }

    /// Tells a bridge that a conference is over.
    pub(super) fn expire_on_bridge(&mut self, bridge: &str, meeting_id: &str) {
        let expire = ConferenceModify { expire: true, ..ConferenceModify::new(meeting_id) };
        self.notify(bridge, expire.into());
    }
}
