//! What the bridge reports of itself: the same statistics in its presence and at `/colibri/stats` (docs/protocol/bridge.md 2.4, 11.2).

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio_xmpp::minidom::Element;

use super::clients::Paths;
use super::discovery::Discovered;
use crate::civil;
use crate::colibri::elements::ns::COLIBRI;
use crate::colibri::totals::Totals;

/// Stress that a participant is expected to add; Jitsi Videobridge's default.
const PARTICIPANT_STRESS: f64 = 0.01;

/// Packets and bytes up to one moment, both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Flow {
    pub packets_in: u64,
    pub packets_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Flow {
    /// Kilobits and packets per second since `before`: in, out.
    fn rates(&self, before: &Self, elapsed: Duration) -> [u64; 4] {
        let seconds = elapsed.as_secs_f64().max(0.001);
        let rate =
            |now: u64, then: u64, factor: f64| (now.saturating_sub(then) as f64 * factor / seconds).round() as u64;
        [
            rate(self.bytes_in, before.bytes_in, 0.008),
            rate(self.bytes_out, before.bytes_out, 0.008),
            rate(self.packets_in, before.packets_in, 1.0),
            rate(self.packets_out, before.packets_out, 1.0),
        ]
    }
}

/// Totals at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Traffic {
    /// Datagrams, those of relays included.
    pub all: Flow,
    /// RTP to and from other bridges.
    pub relayed: Flow,
    /// RTP packets that senders numbered, and those that did not come.
    pub rtp_expected: u64,
    pub rtp_lost: u64,
}

impl Traffic {
    /// Share of the senders' packets since `before` that did not come.
    fn loss(&self, before: &Self) -> f64 {
        let expected = self.rtp_expected.saturating_sub(before.rtp_expected);
        let lost = self.rtp_lost.saturating_sub(before.rtp_lost);
        if expected == 0 { 0.0 } else { (lost as f64 / expected as f64).min(1.0) }
    }
}

/// How much the control plane keeps for conferences; 0 each when all have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub conferences: usize,
    pub endpoints: usize,
    pub relays: usize,
    /// Deadlines of DTLS and SCTP.
    pub timers: usize,
    pub websockets: usize,
    /// Clients that may open a WebSocket.
    pub channel_passwords: usize,
}

/// What happened to relays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RelayTotals {
    pub ice_succeeded: u64,
    pub ice_failed: u64,
    pub dtls_failed: u64,
    /// Had no channel 30 s after DTLS.
    pub without_channel: u64,
    /// Times that the other bridge's WebSocket could not be opened.
    pub websockets_failed: u64,
    pub messages_received: u64,
    pub messages_sent: u64,
    /// Times that a link fell silent.
    pub lost: u64,
    /// Over which nothing comes now.
    pub dead: usize,
}

/// Everything that a report is made of.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub totals: Totals,
    pub traffic: Traffic,
    pub previous: Traffic,
    /// Time between the two.
    pub elapsed: Duration,
    /// Share of time that the busiest worker works; 1 while one leaves video out.
    pub worker_stress: f64,
    /// Processor load of the host.
    pub host_stress: f64,
    pub healthy: bool,
    pub drain: bool,
    pub graceful_shutdown: bool,
    pub shutting_down: bool,
    pub region: Option<String>,
    /// Where relays are served.
    pub relay_id: Option<String>,
    pub relays: RelayTotals,
    /// Relays over which nothing comes: meeting id, and the other bridge's relay id.
    pub dead_links: Vec<(String, String)>,
    /// Former processes that are the end of data channels, and the endpoints and relays that they are it for.
    pub keepers: usize,
    pub kept: usize,
    /// XMPP connections: configured, and up.
    pub connections: usize,
    pub connected: usize,
    /// Brewery rooms: configured, and joined.
    pub rooms: usize,
    pub joined: usize,
    pub xmpp_disconnects: u64,
    pub started: Option<SystemTime>,
    pub threads: u64,
    /// Clients of which nothing arrives.
    pub silent_endpoints: usize,
    pub endpoints_disconnected: u64,
    pub endpoints_reconnected: u64,
    pub ice_succeeded: u64,
    pub ice_succeeded_relayed: u64,
    pub ice_failed: u64,
    pub dtls_failed: u64,
    pub dominant_speaker_changes: u64,
    pub endpoints_without_channel: u64,
    pub data_messages_received: u64,
    pub data_messages_sent: u64,
    pub paths: Paths,
    /// Packets in transport-wide feedback that are not known as sent.
    pub unmatched_feedback: u64,
    pub keyframes: u64,
    pub layering_changes: u64,
    /// Milliseconds of video received, each encoding on its own.
    pub video_millis: u64,
    pub held: Held,
    /// Of the public addresses that the operator named those that are advertised.
    pub public_addresses: usize,
    pub discovered: Discovered,
    pub messages_received: u64,
    pub messages_sent: u64,
}

impl Report {
    /// Load: of the busiest worker, or of the host where that is busier. 1 is as much as they should have to do.
    pub fn stress(&self) -> f64 {
        self.worker_stress.max(self.host_stress)
    }

    /// As served at `/colibri/stats`; the same map goes into the presence.
    pub fn to_map(&self, now: SystemTime) -> Map<String, Value> {
        let t = &self.totals;
        let [rate_in, rate_out, packets_in, packets_out] = self.traffic.all.rates(&self.previous.all, self.elapsed);
        let [relayed_in, relayed_out, relayed_packets_in, relayed_packets_out] =
            self.traffic.relayed.rates(&self.previous.relayed, self.elapsed);
        let incoming_loss = self.traffic.loss(&self.previous);
        // Each direction as much as it carries.
        let weight = |rate: u64| rate as f64 / (packets_in + packets_out).max(1) as f64;
        let overall_loss = incoming_loss * weight(packets_in) + self.paths.outgoing_loss * weight(packets_out);
        let value = json!({
            // Nothing that this bridge does (docs/coverage.md).
            "preemptive_kfr_sent": 0,
            "preemptive_kfr_suppressed": 0,
            "octo_conferences": t.conferences_with_relay,
            "octo_endpoints": t.endpoints_relayed,
            "octo_receive_bitrate": relayed_in,
            "octo_receive_packet_rate": relayed_packets_in,
            "octo_send_bitrate": relayed_out,
            "octo_send_packet_rate": relayed_packets_out,
            "total_relays": t.relays_created,
            "num_relays_no_msg_transport_after_delay": self.relays.without_channel,
            "relays_ice_failed": self.relays.ice_failed,
            "dtls_failed_relays": self.relays.dtls_failed,
            // Jitsi Videobridge has no such figure: links over which nothing comes although both bridges live.
            "relays_dead": self.relays.dead,
            "total_bytes_received_octo": self.traffic.relayed.bytes_in,
            "total_bytes_sent_octo": self.traffic.relayed.bytes_out,
            "total_packets_received_octo": self.traffic.relayed.packets_in,
            "total_packets_sent_octo": self.traffic.relayed.packets_out,

            "version": env!("CARGO_PKG_VERSION"),
            // Our own focus knows by it that answers may be renumbered (docs/decisions.md).
            "ringbridge": env!("CARGO_PKG_VERSION"),
            "current_timestamp": timestamp(now),
            "stress_level": (self.stress() * 1e4).round() / 1e4,
            "average_participant_stress": PARTICIPANT_STRESS,
            "healthy": self.healthy,
            "drain": self.drain,
            "graceful_shutdown": self.graceful_shutdown,
            "shutting_down": self.shutting_down,
            "threads": self.threads,
            "conferences": t.conferences,
            "inactive_conferences": t.inactive_conferences,
            "p2p_conferences": t.p2p_conferences,
            "largest_conference": t.largest_conference,
            "endpoints": t.endpoints + t.endpoints_relayed,
            "participants": t.endpoints + t.endpoints_relayed,
            "local_endpoints": t.endpoints,
            "local_active_endpoints": t.endpoints.saturating_sub(t.inactive_endpoints),
            "inactive_endpoints": t.inactive_endpoints,
            "receive_only_endpoints": t.receive_only_endpoints,
            "visitors": t.visitors,
            "endpoints_sending_audio": t.endpoints_sending_audio,
            "endpoints_sending_video": t.endpoints_sending_video,
            "incoming_loss": incoming_loss,
            "outgoing_loss": self.paths.outgoing_loss,
            "overall_loss": overall_loss,
            "num_eps_oversending": self.paths.oversending,
            "endpoints_with_suspended_sources": self.paths.suspended,
            "endpoints_with_spurious_remb": self.paths.spurious_remb,
            "tcc_unmatched_feedback": self.unmatched_feedback,
            "total_keyframes_received": self.keyframes,
            "total_layering_changes_received": self.layering_changes,
            "total_video_stream_milliseconds_received": self.video_millis,
            "endpoints_with_high_outgoing_loss": self.paths.high_loss,
            "rtt_aggregate": self.paths.rtt_ms,
            "endpoints_disconnected": self.endpoints_disconnected,
            "endpoints_reconnected": self.endpoints_reconnected,
            "total_conferences_created": t.conferences_created,
            "total_conferences_completed": t.conferences_completed,
            "total_conference_seconds": t.conference_time.as_secs(),
            "total_participants": t.endpoints_created,
            "total_visitors": t.visitors_created,
            "bit_rate_download": rate_in,
            "bit_rate_upload": rate_out,
            "packet_rate_download": packets_in,
            "packet_rate_upload": packets_out,
            "total_bytes_received": self.traffic.all.bytes_in,
            "total_bytes_sent": self.traffic.all.bytes_out,
            "total_packets_received": self.traffic.all.packets_in,
            "total_packets_sent": self.traffic.all.packets_out,
            "total_ice_succeeded": self.ice_succeeded,
            "total_ice_succeeded_relayed": self.ice_succeeded_relayed,
            "total_ice_failed": self.ice_failed,
            "endpoints_ice_failed": self.ice_failed,
            "dtls_failed_endpoints": self.dtls_failed,
            "total_dominant_speaker_changes": self.dominant_speaker_changes,
            "total_colibri_web_socket_messages_received": self.messages_received,
            "total_colibri_web_socket_messages_sent": self.messages_sent,
            "total_data_channel_messages_received": self.data_messages_received,
            "total_data_channel_messages_sent": self.data_messages_sent,
            "num_eps_no_msg_transport_after_delay": self.endpoints_without_channel,
            "muc_clients_configured": self.connections,
            "muc_clients_connected": self.connected,
            "mucs_configured": self.rooms,
            "mucs_joined": self.joined,
        });
        let Value::Object(mut map) = value else { return Map::new() };
        if let Some(region) = &self.region {
            map.insert("region".to_owned(), Value::from(region.clone()));
        }
        if let Some(relay_id) = &self.relay_id {
            // Jicofo takes a bridge with it for one that it may link with others.
            map.insert("relay_id".to_owned(), Value::from(relay_id.clone()));
        }
        if !self.dead_links.is_empty() {
            // For our focus, which moves who is on one of both bridges.
            let link = |(meeting, relay): &(String, String)| json!({ "meeting": meeting, "relay": relay });
            map.insert("dead_relays".to_owned(), self.dead_links.iter().map(link).collect());
        }
        map
    }

    /// The presence's `<stats/>`; every value is a string.
    pub fn to_element(&self, now: SystemTime) -> Element {
        let mut stats = Element::bare("stats", COLIBRI);
        for (name, value) in self.to_map(now) {
            let value = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            let stat = StatElement { name, value };
            stats.append_child(Element::from(stat));
        }
        stats
    }
}

#[derive(xso::AsXml, Debug)]
#[xml(namespace = COLIBRI, name = "stat")]
struct StatElement {
    #[xml(attribute)]
    name: String,
    #[xml(attribute)]
    value: String,
}

/// `yyyy-MM-dd HH:mm:ss.SSS` in UTC.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (day, second) = (civil::date(since.as_secs() / 86_400), since.as_secs() % 86_400);
    let (h, m, s, ms) = (second / 3600, second / 60 % 60, second % 60, since.subsec_millis());
    format!("{day} {h:02}:{m:02}:{s:02}.{ms:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_civil() {
        let at = |seconds: u64| timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7));
        assert_eq!(at(0), "1970-01-01 00:00:00.007");
        assert_eq!(at(951_782_400), "2000-02-29 00:00:00.007");
        assert_eq!(at(1795479538), "2026-11-24 00:18:58.007");
        assert_eq!(at(4_107_542_399), "2100-02-28 23:59:59.007");
        assert_eq!(at(4_107_542_400), "2100-03-01 00:00:00.007");
    }

    #[test]
    fn presence_has_what_jicofo_reads() {
        let report = Report { healthy: true, region: Some("eu".to_owned()), worker_stress: 0.25, ..Report::default() };
        let element = report.to_element(SystemTime::now());
        let value = |name: &str| {
            element.children().find(|e| e.attr("name") == Some(name)).and_then(|e| e.attr("value")).map(str::to_owned)
        };
        assert_eq!(value("stress_level").as_deref(), Some("0.25"));
        assert_eq!(value("drain").as_deref(), Some("false"));
        assert_eq!(value("healthy").as_deref(), Some("true"));
        assert_eq!(value("region").as_deref(), Some("eu"));
        assert_eq!(value("average_participant_stress").as_deref(), Some("0.01"));
        assert!(value("version").is_some());
        assert_eq!(value("relay_id"), None, "relays are not served");
        let report = Report { relay_id: Some("jvb-1".to_owned()), ..report };
        assert_eq!(report.to_map(SystemTime::now())["relay_id"], "jvb-1");
        let report = Report { dead_links: vec![("m".to_owned(), "jvb-2".to_owned())], ..report };
        let said = report.to_element(SystemTime::now());
        let dead =
            said.children().find(|stat| stat.attr("name") == Some("dead_relays")).and_then(|stat| stat.attr("value"));
        assert_eq!(dead, Some(r#"[{"meeting":"m","relay":"jvb-2"}]"#));
    }

    /// As the script of side services counts who is left on this bridge, and what the autoscaler reads.
    #[test]
    fn participants_of_this_bridge_alone() {
        let totals =
            Totals { endpoints_relayed: 4, endpoints: 3, conferences: 1, largest_conference: 3, ..Totals::default() };
        let report = Report { totals, unmatched_feedback: 7, connections: 2, connected: 1, ..Report::default() };
        let map = report.to_map(SystemTime::now());
        let number = |name: &str| map[name].as_u64().unwrap_or_else(|| panic!("{name} is no number"));
        assert_eq!(number("participants") - number("octo_endpoints"), 3);
        assert_eq!((number("conferences"), number("largest_conference")), (1, 3));
        assert_eq!((number("muc_clients_configured"), number("muc_clients_connected")), (2, 1));
        assert_eq!(number("tcc_unmatched_feedback"), 7);
        assert!(map["stress_level"].is_f64() && map["graceful_shutdown"].is_boolean());
    }

    fn kind(value: &Value) -> &'static str {
        match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "text",
            Value::Array(_) => "list",
            Value::Object(_) => "object",
        }
    }

    /// Every key that Jitsi Videobridge has is here, with the same type.
    #[test]
    fn the_references_keys_and_types() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures/three-party-vp8");
        let Ok(recorded) = std::fs::read_to_string(format!("{folder}/stats.json")) else {
            println!("skipped: {folder} is not here");
            return;
        };
        let recorded: Value = serde_json::from_str(&recorded).expect("a recording");
        let ours = Report::default().to_map(SystemTime::now());
        let recorded = recorded.as_object().expect("an object");
        assert!(recorded.len() > 70);
        for (name, value) in recorded {
            let own = ours.get(name).unwrap_or_else(|| panic!("{name} is missing"));
            assert_eq!(kind(own), kind(value), "{name}");
        }
    }

    #[test]
    fn the_busier_of_worker_and_host_is_the_stress() {
        let stress = |worker_stress, host_stress| Report { worker_stress, host_stress, ..Report::default() }.stress();
        assert_eq!((stress(0.2, 0.7), stress(1.0, 0.7)), (0.7, 1.0));
    }

    #[test]
    fn losses_are_shares_of_what_each_direction_carries() {
        let previous = Traffic { rtp_expected: 1_000, rtp_lost: 900, ..Traffic::default() };
        let traffic = Traffic {
            rtp_expected: 1_200,
            rtp_lost: 950,
            all: Flow { packets_in: 500, packets_out: 1_500, ..Flow::default() },
            ..Traffic::default()
        };
        let paths = Paths { outgoing_loss: 0.01, oversending: 2, ..Paths::default() };
        let report = Report { traffic, previous, paths, elapsed: Duration::from_secs(5), ..Report::default() };
        let map = report.to_map(SystemTime::now());
        assert_eq!((&map["incoming_loss"], &map["num_eps_oversending"]), (&json!(0.25), &json!(2)));
        let overall = map["overall_loss"].as_f64().expect("a number");
        assert!((overall - (0.25 * 0.25 + 0.75 * 0.01)).abs() < 1e-9, "{overall}");
        assert_eq!(Report::default().to_map(SystemTime::now())["overall_loss"], json!(0.0));
    }

    #[test]
    fn rates_are_per_second() {
        let now = Flow { packets_in: 100, packets_out: 50, bytes_in: 125_000, ..Flow::default() };
        assert_eq!(now.rates(&Flow::default(), Duration::from_secs(5)), [200, 0, 20, 10]);
        let traffic = Traffic { relayed: now, ..Traffic::default() };
        let map = Report { traffic, elapsed: Duration::from_secs(5), ..Report::default() }.to_map(SystemTime::now());
        assert_eq!((&map["octo_receive_bitrate"], &map["octo_send_packet_rate"]), (&json!(200), &json!(10)));
        assert_eq!(map["total_packets_received_octo"], json!(100));
    }
}
