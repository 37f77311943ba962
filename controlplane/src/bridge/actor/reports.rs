//! What the bridge publishes of itself: health, statistics, presence, the debug page.

use std::time::{Instant, SystemTime};

use ringbridge_dataplane::stats::Counter;
use serde_json::{Value, json};

use super::{Actor, REPORT};
use crate::bridge::lifecycle::Stage;
use crate::bridge::load;
use crate::bridge::report::{Flow, Held, RelayTotals, Report, Traffic};
use crate::colibri::debug::{self, View};

/// Dead links that are named in one report; more follow when these are healed.
const MAX_DEAD_LINKS: usize = 100;

impl Actor {
    pub(super) fn debug(&self, view: View<'_>) -> Value {
        let Some(conferences) = debug::conferences(&self.colibri, view, |id| self.clients.debug(id)) else {
            return Value::Null;
        };
        let health = self.publish.health.borrow().clone();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let stress = self.workers.stress().max(self.load.stress());
        json!({
            "shutdown_state": self.life.stage().name(),
            "drain": self.life.drains(),
            "time": since.as_millis() as u64,
            "load_management": {
                "state": if stress >= 1.0 { "OVERLOADED" } else { "NOT_OVERLOADED" },
                "stress": stress.to_string(),
                "reducer_enabled": "false",
            },
            "workers": self.workers.stresses().map(|stress| json!({ "stress": stress })).collect::<Value>(),
            "conferences": conferences,
            "health": {
                "success": health.is_ok(),
                "hardFailure": health.is_err(),
                "responseCode": Value::Null,
                "message": health.err(),
            },
        })
    }

    /// Publishes the last report with what changed of ourselves.
    pub(super) fn announce(&self) {
        let report = self.publish.report.borrow().clone();
        let stage = self.life.stage();
        self.publish(Report {
            drain: self.life.drains(),
            graceful_shutdown: stage != Stage::Running,
            shutting_down: matches!(stage, Stage::ShuttingDown | Stage::Ended),
            ..report
        });
    }

    pub(super) fn publish_health(&mut self, now: Instant) {
        self.workers.sample_heartbeat(now);
        let received = self.workers.total(Counter::PacketsReceived);
        if let Some(target) = self.probe.handle(now, received, self.addresses.living()) {
            self.probe.send(target);
        }
        let health = self
            .workers
            .health(now)
            .and_then(|()| self.addresses.health())
            .and_then(|()| self.probe.health())
            .and_then(|()| self.xmpp.health());
        self.publish.health.send_if_modified(|known| {
            if *known == health {
                return false;
            }
            match &health {
                Ok(()) => tracing::info!("bridge is healthy"),
                Err(reason) => tracing::warn!(%reason, "bridge is unhealthy"),
            }
            *known = health;
            true
        });
    }

    /// Relays over which nothing comes. Presence is not for long lists: a host that is cut off from another says so at a few.
    fn dead_links(&self) -> Vec<(String, String)> {
        let named = |(id, relay): (_, &str)| Some((self.colibri.meeting_of(id)?.to_owned(), relay.to_owned()));
        let mut links: Vec<_> = self.clients.dead_links().filter_map(named).take(MAX_DEAD_LINKS).collect();
        links.sort_unstable();
        links
    }

    /// A link that died or came back is published at once: participants do not see each other meanwhile.
    pub(super) fn publish_dead_links(&self) {
        let dead_links = self.dead_links();
        if self.publish.report.borrow().dead_links != dead_links {
            let report = self.publish.report.borrow().clone();
            let relays = RelayTotals { dead: self.clients.dead_relays(), ..report.relays };
            self.publish(Report { dead_links, relays, ..report });
        }
    }

    pub(super) fn make_report(&self) -> Report {
        let counters = self.clients.counters();
        let stage = self.life.stage();
        let ((connections, connected), (rooms, joined)) = (self.xmpp.connections(), self.xmpp.rooms());
        Report {
            totals: self.colibri.totals(),
            traffic: self.traffic,
            previous: self.traffic,
            elapsed: REPORT,
            // A focus picks the least stressed bridge: a full one comes last.
            worker_stress: if self.colibri.has_room() { self.workers.stress() } else { 1.0 },
            host_stress: self.load.stress(),
            healthy: self.publish.health.borrow().is_ok(),
            drain: self.life.drains(),
            graceful_shutdown: stage != Stage::Running,
            shutting_down: self.leaving || matches!(stage, Stage::ShuttingDown | Stage::Ended),
            region: self.region.clone(),
            relay_id: self.relay_id.clone(),
            relays: RelayTotals {
                ice_succeeded: counters.relays_ice_succeeded,
                ice_failed: counters.relays_ice_failed,
                dtls_failed: counters.relays_dtls_failed,
                without_channel: counters.relays_without_channel,
                messages_received: counters.relay_messages_received,
                websockets_failed: counters.relay_websockets_failed,
                messages_sent: counters.relay_messages_sent,
                lost: counters.relays_lost,
                dead: self.clients.dead_relays(),
            },
            dead_links: self.dead_links(),
            keepers: self.keepers.len(),
            kept: self.clients.kept(),
            connections,
            connected,
            rooms,
            joined,
            xmpp_disconnects: self.xmpp.disconnects(),
            started: Some(self.started),
            threads: load::threads(),
            silent_endpoints: self.clients.silent(),
            endpoints_disconnected: counters.disconnected,
            endpoints_reconnected: counters.reconnected,
            ice_succeeded: counters.ice_succeeded,
            ice_succeeded_relayed: counters.ice_succeeded_relayed,
            ice_failed: counters.ice_failed,
            dtls_failed: counters.dtls_failed,
            dominant_speaker_changes: counters.dominant_speaker_changes,
            endpoints_without_channel: counters.without_channel,
            data_messages_received: counters.data_messages_received,
            data_messages_sent: counters.data_messages_sent,
            paths: self.clients.paths(),
            unmatched_feedback: self.workers.total(Counter::TransportFeedbackUnmatched),
            keyframes: self.workers.total(Counter::KeyframesReceived),
            layering_changes: self.workers.total(Counter::LayeringChanges),
            video_millis: self.workers.total(Counter::VideoMillis),
            held: self.held(),
            public_addresses: self.colibri.advertised_configured(),
            discovered: self.discovery.discovered(),
            messages_received: counters.websocket_messages_received,
            messages_sent: counters.websocket_messages_sent,
        }
    }

    /// How much the control plane keeps for conferences; 0 each when all have ended.
    fn held(&self) -> Held {
        Held {
            conferences: self.colibri.conference_count(),
            endpoints: self.clients.len(),
            relays: self.clients.relay_count(),
            timers: self.clients.timers(),
            websockets: self.clients.websockets(),
            channel_passwords: self.clients.admitted(),
        }
    }

    pub(super) fn report(&mut self, now: Instant) {
        self.workers.sample(now);
        self.load.sample(now);
        self.colibri.set_stress(self.workers.stresses());
        let traffic = Traffic {
            all: Flow {
                packets_in: self.workers.total(Counter::PacketsReceived),
                packets_out: self.workers.total(Counter::PacketsSent),
                bytes_in: self.workers.total(Counter::BytesReceived),
                bytes_out: self.workers.total(Counter::BytesSent),
            },
            relayed: Flow {
                packets_in: self.workers.total(Counter::RelayPacketsReceived),
                packets_out: self.workers.total(Counter::RelayPacketsSent),
                bytes_in: self.workers.total(Counter::RelayBytesReceived),
                bytes_out: self.workers.total(Counter::RelayBytesSent),
            },
            rtp_expected: self.workers.total(Counter::RtpExpected),
            rtp_lost: self.workers.total(Counter::RtpLost),
        };
        let mut report = self.make_report();
        report.previous = std::mem::replace(&mut self.traffic, traffic);
        report.traffic = traffic;
        report.elapsed = now.saturating_duration_since(std::mem::replace(&mut self.reported, now));
        self.publish(report);
    }

    pub(super) fn publish(&self, report: Report) {
        let time = SystemTime::now();
        self.xmpp.publish(&report.to_element(time));
        self.publish.stats.send_replace(Value::Object(report.to_map(time)));
        self.publish.report.send_replace(report);
    }
}
