//! Two readings made into what an operator looks at: rates, loads, rows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use serde_json::Value;

use super::reading::{Counters, EndpointReading, Path, Reading, RelayReading};

/// A reading with the rates since the one before; rates are `None` in the first one and where a counter began anew.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Version of the bridge.
    pub version: String,
    /// Whether the health check passes.
    pub healthy: bool,
    /// Reason of the unhealthy state.
    pub reason: Option<String>,
    /// Whether the bridge drains.
    pub drain: bool,
    /// `RUNNING`, or how far a shutdown is.
    pub shutdown_state: String,
    /// The busier of worker and host; 1 is full.
    pub stress: f64,
    /// XMPP connections that are up.
    pub xmpp_connected: u64,
    /// XMPP connections that are configured.
    pub xmpp_configured: u64,
    /// All workers together.
    pub total: Rates,
    /// One row each.
    pub workers: Vec<WorkerRow>,
    /// What was left out, for every reason that ever occurred.
    pub drops: Vec<DropRow>,
    /// One row each.
    pub conferences: Vec<ConferenceRow>,
    /// One row each.
    pub endpoints: Vec<EndpointRow>,
    /// One row each.
    pub relays: Vec<RelayRow>,
}

/// What a worker does per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Datagrams received per second.
    pub packets_in: Option<f64>,
    /// Datagrams sent per second.
    pub packets_out: Option<f64>,
    /// Bits received per second.
    pub bits_in: Option<f64>,
    /// Bits sent per second.
    pub bits_out: Option<f64>,
    /// Datagrams and packets left out per second, for any reason.
    pub drops: Option<f64>,
}

/// One worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct WorkerRow {
    /// Its number.
    pub worker: usize,
    /// Share of time that it works, 0 to 1.
    pub load: Option<f64>,
    /// What it does.
    #[serde(flatten)]
    pub rates: Rates,
    /// Datagrams handed to other workers per second.
    pub handovers: Option<f64>,
    /// System calls per datagram, in and out.
    pub syscalls_per_packet: Option<f64>,
    /// How much video it leaves out, 0 to 18.
    pub shedding_level: f64,
}

/// One reason to leave something out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DropRow {
    /// As in `ringbridge_dropped{reason}`.
    pub reason: String,
    /// Per second, all workers.
    pub per_second: Option<f64>,
    /// Since the bridge started, all workers.
    pub total: f64,
    /// The worker that left out most, and how much of the total.
    pub most: (usize, f64),
}

/// One conference.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ConferenceRow {
    /// Id as in WebSocket addresses and at `/debug`.
    pub id: String,
    /// Its room, or its meeting id when the focus gave none.
    pub name: String,
    /// Endpoints in it.
    pub endpoints: usize,
    /// Those of which something arrives.
    pub active: usize,
    /// Sources of sound.
    pub audio_sources: usize,
    /// Sources of pictures.
    pub video_sources: usize,
    /// The workers that carry it.
    pub workers: Vec<usize>,
    /// Video sent to its receivers, bits per second.
    pub sent_bps: f64,
    /// What its receivers' paths carry together.
    pub estimate_bps: f64,
}

/// One endpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct EndpointRow {
    /// Its name in the conference.
    pub endpoint: String,
    /// The participant's statistics id.
    pub stats_id: Option<String>,
    /// Its conference, as above.
    pub conference: String,
    /// Its worker.
    pub worker: usize,
    /// How far it got: `new`, `ice`, `secure`, `media`; `silent` when nothing arrives any more.
    pub state: &'static str,
    /// The carrier of its bridge channel.
    pub channel: Option<String>,
    /// Its sources of sound and of pictures.
    pub sources: (usize, usize),
    /// Sources of video that it is sent.
    pub forwarded: usize,
    /// What its path carries, bits per second.
    pub estimate_bps: Option<f64>,
    /// What it is granted of that.
    pub target_bps: Option<f64>,
    /// What all that it wants would take.
    pub ideal_bps: Option<f64>,
    /// What it is sent.
    pub sent_bps: Option<f64>,
    /// Round-trip time, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Share of packets that are lost on the way to it.
    pub loss: Option<f64>,
}

/// The link of one conference to another bridge.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RelayRow {
    /// The other bridge's relay id.
    pub relay: String,
    /// Its conference, as above.
    pub conference: String,
    /// The mesh that it belongs to.
    pub mesh: String,
    /// Its worker.
    pub worker: usize,
    /// How far it got: `new`, `ice`, `media`; `dead` when nothing comes over it any more.
    pub state: &'static str,
    /// Whether its channel is open.
    pub channel: bool,
    /// Endpoints behind it.
    pub behind: usize,
    /// Their sources of video that somebody here wants.
    pub wanted: usize,
    /// For how long nothing has come over it, seconds.
    pub dead_for_seconds: Option<f64>,
}

/// All together; the library's sum of nothing is -0.
fn total(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |sum, value| sum + value)
}

/// A counter's sum over workers and reasons.
fn sum(counters: &[Counters], metric: &str) -> f64 {
    total(counters.iter().flatten().filter(|((name, _), _)| name == metric).map(|(_, value)| *value))
}

/// The counters of before and the time since.
#[derive(Clone, Copy)]
struct Since<'a> {
    before: Option<&'a [Counters]>,
    elapsed: Duration,
}

impl<'a> Since<'a> {
    /// Of one worker alone.
    fn worker(self, worker: usize) -> Since<'a> {
        Since { before: self.before.and_then(|all| all.get(worker..=worker)), ..self }
    }

    /// How much it rose; `None` when it is not known or the bridge began anew.
    fn rise(self, now: f64, of: impl Fn(&'a [Counters]) -> f64) -> Option<f64> {
        Some(now - of(self.before?)).filter(|rise| *rise >= 0.0)
    }

    fn per_second(self, now: f64, of: impl Fn(&'a [Counters]) -> f64) -> Option<f64> {
        Some(self.rise(now, of)? / self.elapsed.as_secs_f64()).filter(|rate| rate.is_finite())
    }

    fn rate(self, now: &[Counters], metric: &str) -> Option<f64> {
        self.per_second(sum(now, metric), |before| sum(before, metric))
    }

    fn rates(self, now: &[Counters]) -> Rates {
        Rates {
            packets_in: self.rate(now, "packets_received"),
            packets_out: self.rate(now, "packets_sent"),
            bits_in: self.rate(now, "bytes_received").map(|bytes| bytes * 8.0),
            bits_out: self.rate(now, "bytes_sent").map(|bytes| bytes * 8.0),
            drops: self.rate(now, "dropped"),
        }
    }
}

impl Snapshot {
    /// What `reading` shows, with the rates since `before`.
    pub fn new(before: Option<&(Instant, Reading)>, now: Instant, reading: &Reading) -> Self {
        // Another number of workers is another process.
        let before = before.filter(|(_, before)| before.workers.len() == reading.workers.len());
        let since = Since {
            before: before.map(|(_, before)| before.workers.as_slice()),
            elapsed: before.map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at)),
        };
        let state = &reading.state;
        let endpoints = endpoints(reading);
        Self {
            version: reading.version.clone(),
            healthy: state.health.success,
            reason: state.health.message.clone(),
            drain: state.drain,
            shutdown_state: state.shutdown_state.clone(),
            stress: state.load_management.stress.parse().unwrap_or_default(),
            xmpp_connected: reading.xmpp.0,
            xmpp_configured: reading.xmpp.1,
            total: since.rates(&reading.workers),
            workers: reading.workers.chunks(1).enumerate().map(|(n, one)| worker(since.worker(n), n, one)).collect(),
            drops: drops(since, &reading.workers),
            conferences: conferences(reading, &endpoints),
            endpoints,
            relays: relays(reading),
        }
    }
}

fn worker(since: Since<'_>, worker: usize, now: &[Counters]) -> WorkerRow {
    let packets = |all: &[Counters]| sum(all, "packets_received") + sum(all, "packets_sent");
    let calls = since.rise(sum(now, "syscalls"), |before| sum(before, "syscalls"));
    let moved = since.rise(packets(now), packets).filter(|moved| *moved > 0.0);
    WorkerRow {
        worker,
        load: since.rate(now, "busy_nanoseconds").map(|nanoseconds| (nanoseconds / 1e9).min(1.0)),
        rates: since.rates(now),
        handovers: since.rate(now, "handovers"),
        syscalls_per_packet: calls.zip(moved).map(|(calls, moved)| calls / moved),
        shedding_level: sum(now, "shedding_level"),
    }
}

fn drops(since: Since<'_>, workers: &[Counters]) -> Vec<DropRow> {
    let of = |counters: &Counters, reason: &str| -> f64 {
        counters.get(&("dropped".to_owned(), reason.to_owned())).copied().unwrap_or_default()
    };
    let mut rows: BTreeMap<&str, DropRow> = BTreeMap::new();
    for (worker, counters) in workers.iter().enumerate() {
        for ((metric, reason), &count) in counters {
            if metric != "dropped" || count == 0.0 {
                continue;
            }
            let row = rows.entry(reason).or_default();
            row.total += count;
            if count > row.most.1 {
                row.most = (worker, count);
            }
        }
    }
    let finished = rows.into_iter().map(|(reason, row)| DropRow {
        per_second: since.per_second(row.total, |before| total(before.iter().map(|one| of(one, reason)))),
        reason: reason.to_owned(),
        ..row
    });
    finished.collect()
}

fn conferences(reading: &Reading, endpoints: &[EndpointRow]) -> Vec<ConferenceRow> {
    let rows = reading.state.conferences.iter().map(|(id, conference)| {
        let own = || endpoints.iter().filter(|endpoint| endpoint.conference == *id);
        ConferenceRow {
            id: id.clone(),
            name: conference.name.clone().unwrap_or_else(|| conference.meeting_id.clone()),
            endpoints: conference.endpoints.len(),
            active: own().filter(|endpoint| endpoint.state == "media").count(),
            audio_sources: own().map(|endpoint| endpoint.sources.0).sum(),
            video_sources: own().map(|endpoint| endpoint.sources.1).sum(),
            workers: conference.workers.clone(),
            sent_bps: total(own().filter_map(|endpoint| endpoint.sent_bps)),
            estimate_bps: total(own().filter_map(|endpoint| endpoint.estimate_bps)),
        }
    });
    rows.collect()
}

fn endpoints(reading: &Reading) -> Vec<EndpointRow> {
    let paths: BTreeMap<u64, &Path> = reading.bandwidth.iter().map(|path| (path.number, path)).collect();
    let mut rows = Vec::new();
    for (id, conference) in &reading.state.conferences {
        for (label, value) in &conference.endpoints {
            // Not in full: a statistics id alone.
            let Ok(endpoint) = serde_json::from_value::<EndpointReading>(value.clone()) else { continue };
            let path = paths.get(&endpoint.number);
            let of_kind = |kind: &str| endpoint.sources.iter().filter(|source| source.kind == kind).count();
            rows.push(EndpointRow {
                endpoint: label.clone(),
                stats_id: endpoint.stats_id.clone(),
                conference: id.clone(),
                worker: endpoint.worker,
                state: match (endpoint.dtls_connected, endpoint.ice_connected, endpoint.active) {
                    (true, _, Some(true)) => "media",
                    (true, _, Some(false)) => "silent",
                    (true, _, None) => "secure",
                    (false, true, _) => "ice",
                    (false, false, _) => "new",
                },
                channel: endpoint.channel.used.clone(),
                sources: (of_kind("audio"), of_kind("video")),
                forwarded: endpoint.forwarded_sources.len(),
                estimate_bps: path.and_then(|path| path.estimate_bps),
                target_bps: path.map(|path| path.target_bps),
                ideal_bps: path.map(|path| path.ideal_bps),
                sent_bps: path.map(|path| path.sent_bps),
                rtt_ms: path.and_then(|path| path.rtt_ms),
                loss: path.map(|path| path.loss),
            });
        }
    }
    rows
}

fn relays(reading: &Reading) -> Vec<RelayRow> {
    let row = |id: &String, label: &String, relay: &RelayReading| RelayRow {
        relay: label.clone(),
        conference: id.clone(),
        mesh: relay.mesh_id.clone(),
        worker: relay.worker,
        state: match (relay.dead_for_seconds, relay.dtls_connected, relay.ice_connected) {
            (Some(_), ..) => "dead",
            (None, true, _) => "media",
            (None, false, true) => "ice",
            (None, false, false) => "new",
        },
        channel: relay.channel.as_bool().unwrap_or(!relay.channel["used"].is_null()),
        behind: relay.endpoints.len(),
        wanted: relay.endpoints.values().map(wanted).sum(),
        dead_for_seconds: relay.dead_for_seconds,
    };
    let conferences = reading.state.conferences.iter();
    conferences.flat_map(|(id, one)| one.relays.iter().map(move |(label, relay)| row(id, label, relay))).collect()
}

/// Sources of an endpoint behind a relay that somebody on this side wants.
fn wanted(endpoint: &Value) -> usize {
    let heights = endpoint["connection"]["wanted_of_it"].as_object();
    heights.map_or(0, |heights| heights.values().filter(|height| height.as_i64() != Some(0)).count())
}
