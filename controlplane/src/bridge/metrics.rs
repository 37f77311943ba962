//! The bridge's metrics: Jitsi Videobridge's names where the meaning is the same, made from the same statistics, then our own.

use std::sync::Arc;
use std::time::SystemTime;

use ringbridge_dataplane::stats::{Counter, WorkerStats};
use serde_json::Value;

use super::report::{Held, Report};
use crate::metrics::{Family, Kind};

/// Names after `jitsi_jvb_`, the statistic that each shows, its unit's factor, and what it means.
const GAUGES: &[(&str, &str, f64, &str)] = &[
    ("graceful_shutdown", "graceful_shutdown", 1.0, "Whether the bridge takes no new conferences."),
    ("shutting_down", "shutting_down", 1.0, "Whether the bridge is shutting down."),
    ("drain_mode", "drain", 1.0, "Whether the bridge drains."),
    ("healthy", "healthy", 1.0, "Whether the health check passes."),
    ("stress", "stress_level", 1.0, "Load; 1 is as much as the host should carry."),
    ("local_endpoints", "local_endpoints", 1.0, "Endpoints now."),
    ("current_endpoints", "endpoints", 1.0, "Endpoints now, those of other bridges included."),
    ("current_visitors", "visitors", 1.0, "Visitors now."),
    ("conferences", "conferences", 1.0, "Conferences now."),
    ("conferences_inactive", "inactive_conferences", 1.0, "Conferences in which nobody sends."),
    ("conferences_p2p", "p2p_conferences", 1.0, "Inactive conferences of two."),
    ("largest_conference", "largest_conference", 1.0, "Endpoints of the largest conference."),
    ("active_endpoints", "local_active_endpoints", 1.0, "Endpoints in conferences in which somebody sends."),
    ("endpoints_inactive", "inactive_endpoints", 1.0, "Endpoints in conferences in which nobody sends."),
    ("endpoints_recvonly", "receive_only_endpoints", 1.0, "Endpoints that send nothing."),
    ("endpoints_sending_audio", "endpoints_sending_audio", 1.0, "Endpoints that publish audio."),
    ("endpoints_sending_video", "endpoints_sending_video", 1.0, "Endpoints that publish video."),
    ("incoming_bitrate", "bit_rate_download", 1_000.0, "Bits received per second."),
    ("outgoing_bitrate", "bit_rate_upload", 1_000.0, "Bits sent per second."),
    ("incoming_packet_rate", "packet_rate_download", 1.0, "Packets received per second."),
    ("outgoing_packet_rate", "packet_rate_upload", 1.0, "Packets sent per second."),
    ("average_rtt", "rtt_aggregate", 1.0, "Mean round-trip time to the endpoints, milliseconds."),
    ("incoming_loss_fraction", "incoming_loss", 1.0, "Share of packets of the endpoints that are lost."),
    ("loss_fraction", "overall_loss", 1.0, "Share of packets that are lost, both ways."),
    (
        "endpoints_oversending",
        "num_eps_oversending",
        1.0,
        "Endpoints that are sent more than the estimated bandwidth of their path.",
    ),
    (
        "endpoints_with_suspended_sources",
        "endpoints_with_suspended_sources",
        1.0,
        "Endpoints whose bandwidth does not suffice for all video that they want.",
    ),
    (
        "endpoints_with_spurious_remb",
        "endpoints_with_spurious_remb",
        1.0,
        "Endpoints that send REMB although they negotiated transport-wide feedback.",
    ),
    (
        "tcc_unmatched_feedback",
        "tcc_unmatched_feedback",
        1.0,
        "Packets in feedback that are not, or no longer, known as sent.",
    ),
    ("outgoing_loss_fraction", "outgoing_loss", 1.0, "Mean share of packets to the endpoints that are lost."),
    (
        "endpoints_with_high_outgoing_loss",
        "endpoints_with_high_outgoing_loss",
        1.0,
        "Endpoints that lose more than a tenth.",
    ),
    ("muc_clients_configured", "muc_clients_configured", 1.0, "XMPP connections that are configured."),
    ("muc_clients_connected", "muc_clients_connected", 1.0, "XMPP connections that are up."),
    (
        "mucs_connected",
        "mucs_configured",
        1.0,
        "Brewery rooms that are configured; Jitsi Videobridge's name is misleading.",
    ),
    ("mucs_joined", "mucs_joined", 1.0, "Brewery rooms that are joined."),
    ("endpoints_relayed", "octo_endpoints", 1.0, "Endpoints of other bridges now."),
    ("conferences_with_relay", "octo_conferences", 1.0, "Conferences now that are on other bridges, too."),
    ("relay_incoming_bitrate", "octo_receive_bitrate", 1_000.0, "Bits per second from other bridges."),
    ("relay_outgoing_bitrate", "octo_send_bitrate", 1_000.0, "Bits per second to other bridges."),
    ("relay_incoming_packet_rate", "octo_receive_packet_rate", 1.0, "Packets per second from other bridges."),
    ("relay_outgoing_packet_rate", "octo_send_packet_rate", 1.0, "Packets per second to other bridges."),
    ("thread_count", "threads", 1.0, "Threads of the process."),
];

/// The same for counters.
const COUNTERS: &[(&str, &str, &str)] = &[
    ("conferences_created", "total_conferences_created", "Conferences created."),
    ("conferences_completed", "total_conferences_completed", "Conferences that ended."),
    ("conference_seconds", "total_conference_seconds", "Duration of those that ended, seconds."),
    ("endpoints", "total_participants", "Endpoints created."),
    ("visitors", "total_visitors", "Visitors created."),
    (
        "endpoints_no_message_transport_after_delay",
        "num_eps_no_msg_transport_after_delay",
        "Endpoints without a bridge channel 30 s after DTLS.",
    ),
    ("data_channel_messages_received", "total_data_channel_messages_received", "Messages received over data channels."),
    ("data_channel_messages_sent", "total_data_channel_messages_sent", "Messages sent over data channels."),
    (
        "colibri_web_socket_messages_received",
        "total_colibri_web_socket_messages_received",
        "Messages received over WebSockets.",
    ),
    ("colibri_web_socket_messages_sent", "total_colibri_web_socket_messages_sent", "Messages sent over WebSockets."),
    ("packets_received", "total_packets_received", "Datagrams received."),
    ("packets_sent", "total_packets_sent", "Datagrams sent."),
    ("bytes_received", "total_bytes_received", "Bytes received."),
    ("bytes_sent", "total_bytes_sent", "Bytes sent."),
    ("keyframes_received", "total_keyframes_received", "Keyframes received."),
    ("layering_changes_received", "total_layering_changes_received", "Layers of video that came or went."),
    (
        "video_milliseconds_received",
        "total_video_stream_milliseconds_received",
        "Milliseconds of video received, each encoding on its own.",
    ),
    ("dominant_speaker_changes", "total_dominant_speaker_changes", "Changes of the dominant speaker."),
    ("endpoints_ice_failed", "endpoints_ice_failed", "Endpoints whose ICE never connected."),
    ("endpoints_dtls_failed", "dtls_failed_endpoints", "Endpoints whose DTLS failed."),
    ("ice_failed", "total_ice_failed", "ICE agents that failed."),
    ("ice_succeeded", "total_ice_succeeded", "ICE agents that connected."),
    ("ice_succeeded_relayed", "total_ice_succeeded_relayed", "Of those the ones over a client's relayed candidate."),
    ("preemptive_keyframe_requests_sent", "preemptive_kfr_sent", "Always 0, see docs/coverage.md."),
    ("preemptive_keyframe_requests_suppressed", "preemptive_kfr_suppressed", "Always 0, see docs/coverage.md."),
    ("relays", "total_relays", "Relays to other bridges created."),
    ("relays_ice_failed", "relays_ice_failed", "Relays whose ICE never connected."),
    ("relays_dtls_failed", "dtls_failed_relays", "Relays whose DTLS failed."),
    (
        "relays_no_message_transport_after_delay",
        "num_relays_no_msg_transport_after_delay",
        "Relays without a channel 30 s after DTLS.",
    ),
    ("relay_packets_received", "total_packets_received_octo", "RTP packets received from other bridges."),
    ("relay_packets_sent", "total_packets_sent_octo", "RTP packets sent to other bridges."),
    ("relay_bytes_received", "total_bytes_received_octo", "Bytes of RTP received from other bridges."),
    ("relay_bytes_sent", "total_bytes_sent_octo", "Bytes of RTP sent to other bridges."),
    ("endpoints_disconnected", "endpoints_disconnected", "Times that an endpoint fell silent."),
    ("endpoints_reconnected", "endpoints_reconnected", "Times that a silent endpoint came back."),
];

impl Report {
    /// Everything at `/metrics`.
    pub fn metrics(&self, now: SystemTime, workers: &[Arc<WorkerStats>]) -> Vec<Family> {
        let stats = self.to_map(now);
        let value = |stat: &str| match stats.get(stat) {
            Some(Value::Bool(on)) => Some(f64::from(u8::from(*on))),
            other => other.and_then(Value::as_f64),
        };
        let mut families = Vec::new();
        for (name, stat, factor, help) in GAUGES {
            if let Some(value) = value(stat) {
                families.push(Family::single(format!("jitsi_jvb_{name}"), *help, Kind::Gauge, value * factor));
            }
        }
        for (name, stat, help) in COUNTERS {
            if let Some(value) = value(stat) {
                families.push(Family::single(format!("jitsi_jvb_{name}"), *help, Kind::Counter, value));
            }
        }
        let disconnects = self.xmpp_disconnects as f64;
        let help = "Times that an XMPP connection was lost.";
        families.push(Family::single("jitsi_jvb_xmpp_disconnects", help, Kind::Counter, disconnects));
        let since_epoch = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let started = self.started.map_or(0, since_epoch) as f64;
        families.push(Family::single(
            "jitsi_jvb_startup_time",
            "When the bridge started, ms since 1970.",
            Kind::Gauge,
            started,
        ));
        for (name, help, value) in [
            ("conferences", "Conferences now.", self.totals.conferences as f64),
            ("endpoints", "Endpoints now.", self.totals.endpoints as f64),
            ("visitors", "Visitors among the endpoints.", self.totals.visitors as f64),
            ("largest_conference", "Endpoints of the largest conference.", self.totals.largest_conference as f64),
            ("endpoints_silent", "Endpoints of which nothing arrives.", self.silent_endpoints as f64),
            ("stress_level", "The busier of the busiest worker and the host.", self.stress()),
            ("worker_stress", "Share of time that the busiest worker works.", self.worker_stress),
            ("host_stress", "Processor load of the host, or of its share; 1 at 90 %.", self.host_stress),
            ("healthy", "1 when the health check passes.", f64::from(u8::from(self.healthy))),
            ("xmpp_connected", "XMPP connections that are up.", self.connected as f64),
            ("relays", "Relays to other bridges now.", self.totals.relays as f64),
            ("relays_dead", "Relays over which nothing comes although they were connected.", self.relays.dead as f64),
            ("keepers", "Former processes that stay as the end of data channels after upgrades.", self.keepers as f64),
            ("kept_channels", "Endpoints and relays whose data channel a former process has.", self.kept as f64),
        ] {
            families.push(Family::single(format!("ringbridge_{name}"), help, Kind::Gauge, value));
        }
        let relays = &self.relays;
        for (name, help, value) in [
            ("relays_lost", "Times that a link to another bridge fell silent.", relays.lost),
            ("relays_ice_succeeded", "Relays whose ICE connected.", relays.ice_succeeded),
            (
                "relay_websockets_failed",
                "Times that the WebSocket of another bridge could not be opened.",
                relays.websockets_failed,
            ),
            ("relay_messages_received", "Messages received from other bridges.", relays.messages_received),
            ("relay_messages_sent", "Messages sent to other bridges.", relays.messages_sent),
        ] {
            families.push(Family::single(format!("ringbridge_{name}"), help, Kind::PlainCounter, value as f64));
        }
        families.push(self.held.family());
        families.push(self.refused());
        families.extend(self.discovered.families(self.public_addresses));
        families.extend(self.ice_restarts());
        families.extend(worker_counters(workers));
        families
    }
}

impl Report {
    /// ICE restarts in place: under Jitsi Videobridge's names, and what else became of them and of what was said about them.
    fn ice_restarts(&self) -> Vec<Family> {
        let counts = self.totals.ice_restarts;
        let mut families: Vec<Family> = [
            ("started", "ICE restarts for which new credentials were given out.", counts.started),
            ("rejected", "Requests for an ICE restart that were declined.", counts.disabled + counts.rate),
            ("not_established", "Requests for an ICE restart before ICE was connected.", counts.not_established),
            ("agent_creation_failed", "Always 0, see docs/coverage.md.", 0),
            ("succeeded", "ICE restarts after which media moved.", counts.succeeded),
            ("superseded", "ICE restarts that gave way to a later one.", counts.superseded),
            ("failed", "ICE restarts that failed; media stayed on the previous pair.", counts.failed),
        ]
        .into_iter()
        .map(|(name, help, count)| {
            Family::single(format!("jitsi_jvb_ice_restarts_{name}"), help, Kind::Counter, count as f64)
        })
        .collect();
        let help = "Requests for an ICE restart and answers to one that did not count as such.";
        let refused = [
            ("disabled", counts.disabled),
            ("rate", counts.rate),
            ("not_established", counts.not_established),
            ("repeated", counts.repeated),
            ("late_answer", counts.late_answers),
            ("empty_answer", counts.empty_answers),
        ]
        .map(|(reason, count)| (reason, count as f64));
        families.push(Family::new("ringbridge_ice_restarts_refused", help, Kind::PlainCounter).by_reason(refused));
        families
    }

    /// What was refused or left out of requests, by reason.
    fn refused(&self) -> Family {
        let help = "Requests to the bridge that were refused, and parts of requests that were left out or changed.";
        let counts = [
            ("stranger", self.totals.strangers),
            ("request", self.totals.refused),
            ("conferences", self.totals.beyond.conferences),
            ("endpoints", self.totals.beyond.endpoints),
            ("conference_endpoints", self.totals.beyond.conference_endpoints),
            ("conference_relays", self.totals.beyond.relays),
            ("revoked", self.totals.revoked),
            ("part_left_out", self.totals.left_out),
            ("source_renamed", self.totals.sources_renamed),
        ]
        .map(|(reason, count)| (reason, count as f64));
        Family::new("ringbridge_colibri_refused", help, Kind::PlainCounter).by_reason(counts)
    }
}

impl Held {
    /// One sample for each kind of thing.
    fn family(self) -> Family {
        let help = "What the control plane keeps for conferences; 0 when all have ended.";
        let held = [
            ("conferences", self.conferences),
            ("endpoints", self.endpoints),
            ("relays", self.relays),
            ("timers", self.timers),
            ("websockets", self.websockets),
            ("channel_passwords", self.channel_passwords),
        ]
        .map(|(reason, held)| (reason, held as f64));
        Family::new("ringbridge_control_held", help, Kind::Gauge).by_reason(held)
    }
}

/// The workers' counters, by worker and reason.
fn worker_counters(workers: &[Arc<WorkerStats>]) -> Vec<Family> {
    let mut families: Vec<(&str, Family)> = Vec::new();
    for counter in Counter::ALL {
        let metric = counter.metric();
        let index = families.iter().position(|(name, _)| *name == metric).unwrap_or_else(|| {
            let kind = if counter.is_gauge() { Kind::Gauge } else { Kind::PlainCounter };
            let help = format!("The workers' {}, see dataplane/src/stats.rs.", metric.replace('_', " "));
            families.push((metric, Family::new(format!("ringbridge_{metric}"), help, kind)));
            families.len() - 1
        });
        for (worker, stats) in workers.iter().enumerate() {
            let labels = [("worker", worker.to_string()), ("reason", counter.reason().to_owned())];
            families[index].1.samples.push((labels.into(), stats.get(*counter) as f64));
        }
    }
    families.into_iter().map(|(_, family)| family).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Format;

    #[test]
    fn workers_and_reasons_are_labels() {
        let stats = Arc::new(WorkerStats::default());
        stats.add(Counter::DropNoKeys, 3);
        let text = Format::Text.write(&Report::default().metrics(SystemTime::now(), &[stats]));
        assert!(text.contains("ringbridge_dropped{worker=\"0\",reason=\"no_keys\"} 3\n"), "{text}");
        assert_eq!(text.matches("# TYPE ringbridge_dropped counter").count(), 1);
    }

    #[test]
    fn every_statistic_that_is_named_exists() {
        let stats = Report::default().to_map(SystemTime::now());
        for stat in GAUGES.iter().map(|row| row.1).chain(COUNTERS.iter().map(|row| row.1)) {
            assert!(stats.contains_key(stat), "{stat}");
        }
    }

    /// The names and kinds that Jitsi Videobridge uses, in its own recording.
    #[test]
    fn jitsi_videobridges_names_are_spelt_as_it_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures/three-party-vp8/metrics.txt");
        let Ok(recorded) = std::fs::read_to_string(path) else {
            println!("skipped: {path} is not here");
            return;
        };
        let text = Format::Text.write(&Report::default().metrics(SystemTime::now(), &[]));
        let types = text.lines().filter(|line| line.starts_with("# TYPE jitsi_jvb_"));
        // Newer than the recording.
        let newer = ["# TYPE jitsi_jvb_tcc_unmatched_feedback gauge"];
        let mut compared = 0;
        let newer = |line: &str| newer.contains(&line) || line.starts_with("# TYPE jitsi_jvb_ice_restarts_");
        for line in types.filter(|line| !newer(line)) {
            assert!(recorded.lines().any(|known| known == line), "{line}");
            compared += 1;
        }
        assert!(compared > 40, "{compared}");
    }
}
