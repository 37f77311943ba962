//! How many conferences and endpoints there are, and were.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::refusal::Bound;
use super::restart::RestartTotals;

/// Creations that were refused because of a bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeyondBounds {
    /// The bridge had as many conferences as it takes.
    pub conferences: u64,
    /// No worker had room for one more endpoint.
    pub endpoints: u64,
    /// The conference was full.
    pub conference_endpoints: u64,
    /// The conference had as many relays as one takes.
    pub relays: u64,
}

impl BeyondBounds {
    pub(super) fn count(&mut self, bound: Bound) {
        let count = match bound {
            Bound::Conferences => &mut self.conferences,
            Bound::Endpoints => &mut self.endpoints,
            Bound::ConferenceEndpoints => &mut self.conference_endpoints,
            Bound::Relays => &mut self.relays,
        };
        *count += 1;
    }
}

/// Totals for statistics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Conferences now.
    pub conferences: usize,
    /// Endpoints now.
    pub endpoints: usize,
    /// Relays to other bridges now.
    pub relays: usize,
    /// Endpoints of other bridges now.
    pub endpoints_relayed: usize,
    /// Conferences that have relays.
    pub conferences_with_relay: usize,
    /// Relays ever created.
    pub relays_created: u64,
    /// Visitors among them.
    pub visitors: usize,
    /// Endpoints of the largest conference.
    pub largest_conference: usize,
    /// Conferences ever created.
    pub conferences_created: u64,
    /// Conferences that ended.
    pub conferences_completed: u64,
    /// Endpoints ever created.
    pub endpoints_created: u64,
    /// Endpoints that publish audio.
    pub endpoints_sending_audio: usize,
    /// Endpoints that publish video.
    pub endpoints_sending_video: usize,
    /// Endpoints that publish nothing.
    pub receive_only_endpoints: usize,
    /// Conferences in which nobody publishes anything.
    pub inactive_conferences: usize,
    /// Those of two endpoints among them: most likely they are peer to peer.
    pub p2p_conferences: usize,
    /// Endpoints of inactive conferences.
    pub inactive_endpoints: usize,
    /// Visitors ever created.
    pub visitors_created: u64,
    /// Requests of those who may not ask.
    pub strangers: u64,
    /// Requests refused, those beyond a bound apart.
    pub refused: u64,
    /// Creations beyond a bound.
    pub beyond: BeyondBounds,
    /// Endpoints that a worker did not create after the focus had been given a transport.
    pub revoked: u64,
    /// Parts of requests that were too many, too long or unreadable, and were left out.
    pub left_out: u64,
    /// Sources that had another endpoint's name, or one name twice.
    pub sources_renamed: u64,
    /// ICE restarts in place.
    pub ice_restarts: RestartTotals,
    /// Duration of the conferences that ended.
    pub conference_time: Duration,
}

/// No bridge counts so far; what does is made up.
const IMPLAUSIBLE: u64 = 1 << 62;

impl Totals {
    /// Whether a bridge can have counted this.
    pub(super) fn is_plausible(&self) -> bool {
        let Self {
            // Of the moment, and found out anew.
            conferences: _,
            endpoints: _,
            relays: _,
            endpoints_relayed: _,
            conferences_with_relay: _,
            visitors: _,
            largest_conference: _,
            endpoints_sending_audio: _,
            endpoints_sending_video: _,
            receive_only_endpoints: _,
            inactive_conferences: _,
            p2p_conferences: _,
            inactive_endpoints: _,
            relays_created,
            conferences_created,
            conferences_completed,
            endpoints_created,
            visitors_created,
            strangers,
            refused,
            beyond,
            revoked,
            left_out,
            sources_renamed,
            ice_restarts,
            conference_time,
        } = *self;
        let BeyondBounds { conferences, endpoints, conference_endpoints, relays } = beyond;
        let counts = [
            [relays_created, conferences_created, conferences_completed, endpoints_created],
            [visitors_created, strangers, refused, revoked],
            [left_out, sources_renamed, conference_time.as_secs(), conferences],
            [endpoints, conference_endpoints, relays, 0],
        ];
        counts.as_flattened().iter().all(|count| *count < IMPLAUSIBLE) && ice_restarts.is_plausible(IMPLAUSIBLE)
    }
}
