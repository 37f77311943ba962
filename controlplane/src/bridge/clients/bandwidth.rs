//! What is known of the ways to the endpoints: sent to the clients, summed up for statistics, shown to operators.

use std::time::{Duration, Instant};

use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::media::Bitrate;
use ringbridge_dataplane::messages::Bandwidth;

use super::client::Client;
use super::paths::Paths;
use super::table::Clients;
use crate::bridge::messages::ToClient;

/// How often clients are sent the estimate of their path.
const CONNECTION_STATS: Duration = Duration::from_secs(10);

impl Clients {
    /// The way to a receiver changed.
    pub fn handle_bandwidth(&mut self, id: EndpointId, bandwidth: Bandwidth) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        endpoint.bandwidth = Some(bandwidth);
        self.bandwidth_changed = true;
    }

    /// What is known of the ways to all receivers, as served at `/debug/bandwidth`; `None` when that is not news.
    pub fn take_bandwidths(&mut self) -> Option<serde_json::Value> {
        if !std::mem::take(&mut self.bandwidth_changed) {
            return None;
        }
        let mut known: Vec<_> = self.endpoints.iter().filter_map(|(id, e)| Some((id, e, e.bandwidth?))).collect();
        known.sort_by_key(|(id, ..)| **id);
        let rows = known.into_iter().map(|(id, endpoint, b)| {
            serde_json::json!({
                "number": id.0,
                "conference": endpoint.who.conference.to_string(),
                "endpoint": endpoint.who.label,
                "estimate_bps": b.estimate.map(Bitrate::get),
                "target_bps": b.target.get(),
                "ideal_bps": b.ideal.get(),
                "sent_bps": b.sent.get(),
                "rtt_ms": b.rtt.map(|rtt| rtt.as_millis() as u64),
                "loss": f64::from(b.lost_per_mille) / 1000.0,
            })
        });
        Some(rows.collect())
    }

    /// The ways to all endpoints, summed up.
    pub fn paths(&self) -> Paths {
        Paths::of(|| self.endpoints.values().filter_map(|e| e.bandwidth))
    }

    /// Sends every client the estimate of its path, if there is one, every ten seconds.
    pub(super) fn send_estimates(&mut self, now: Instant) {
        if self.estimates_sent.is_some_and(|at| now.saturating_duration_since(at) < CONNECTION_STATS) {
            return;
        }
        self.estimates_sent = Some(now);
        let estimate = |(id, e): (&EndpointId, &Client)| Some((*id, e.bandwidth?.estimate?));
        let mut estimates: Vec<_> = self.endpoints.iter().filter_map(estimate).collect();
        estimates.sort_unstable();
        for (id, estimate) in estimates {
            self.send(id, ToClient::ConnectionStats(estimate.get()));
        }
    }
}
