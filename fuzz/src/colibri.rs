//! colibri2: requests to the bridge's state machine, and its commands to two forwarders.
//!
//! Fed: lines. `c` and a `<conference-modify/>`; `t` and seconds; `a`, `q`, `i` and the number of an endpoint (active,
//! silent, ICE connected); `v`, such a number and a source name; `g` and `G` for graceful shutdown off and on; `l` and the load
//! of the first worker in percent.
//! Held: nothing panics; an answer is XML that is read again; endpoints and conferences are counted as they come and go;
//! workers get commands only about what they know; other conferences' endpoints are never touched; in the end everything expires.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbridge_controlplane::colibri::bridge::{ColibriBridge, ColibriConfig, Output, RelaySettings};
use ringbridge_controlplane::colibri::elements::{ConferenceModified, ConferenceModify};
use ringbridge_controlplane::colibri::limits::MAX_RELAYED_PER_REQUEST;
use ringbridge_controlplane::colibri::transport::LocalTransport;
use ringbridge_dataplane::conference::{Forwarder, ForwarderConfig};
use ringbridge_dataplane::ice::IceState;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId};
use ringbridge_dataplane::media::VideoType;
use ringbridge_dataplane::messages::Command;
use ringbridge_dataplane::stats::{Counter, WorkerStats};
use tokio_xmpp::minidom::Element;

use crate::sink::ListSink;
use crate::xml;

const WORKERS: usize = 2;
/// What one endpoint element may lead to: commands to each worker, and as many for each of those behind a relay.
const MOST_OUTPUTS: usize = 400 + 10 * MAX_RELAYED_PER_REQUEST;

struct World {
    bridge: ColibriBridge,
    forwarders: Vec<Forwarder>,
    stats: Vec<Arc<WorkerStats>>,
    sink: ListSink,
    now: Instant,
    /// Endpoints by identity, with their conference.
    endpoints: BTreeMap<EndpointId, ConferenceId>,
    /// Relays and endpoints behind them, with their conference.
    beyond: BTreeMap<EndpointId, ConferenceId>,
    all: Vec<EndpointId>,
    meetings: BTreeSet<String>,
}

/// A bridge with everything that requests may ask for.
pub fn config() -> ColibriConfig {
    ColibriConfig {
        transport: LocalTransport {
            local_addresses: vec![[192, 0, 2, 1].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()],
            public_addresses: Vec::new(),
            advertise_private: true,
            port: 10_000,
            fingerprint: "AB:CD".to_owned(),
            websocket_base_url: "wss://meet.example".to_owned(),
            relay_websocket_base_url: "wss://meet.example".to_owned(),
            websocket_server_id: "jvb1".to_owned(),
        },
        workers: WORKERS,
        spill_endpoints: 3,
        capacity: Default::default(),
        sctp: true,
        audio_ssrcs: 4,
        video_ssrcs: 4,
        relay: Some(RelaySettings { id: "jvb1".to_owned(), ports: None }),
        ice_restart: true,
        ufrag_prefix: |worker| worker.to_string(),
    }
}

/// Whom a command is about.
fn subject(command: &Command) -> Option<EndpointId> {
    match command {
        Command::CreateEndpoint(new) => Some(new.endpoint),
        Command::CreateRemoteEndpoint { endpoint, .. }
        | Command::ExpireEndpoint { endpoint }
        | Command::SetRemoteIce { endpoint, .. }
        | Command::RestartIce { endpoint, .. }
        | Command::AnswerIceRestart { endpoint, .. }
        | Command::SetSrtp { endpoint, .. }
        | Command::SetMedia { endpoint, .. }
        | Command::SetSources { endpoint, .. }
        | Command::SetConstraints { endpoint, .. }
        | Command::SetUnsignalled { endpoint, .. }
        | Command::SetSsrcRewriting { endpoint, .. }
        | Command::CreateRelayedEndpoint { endpoint, .. }
        | Command::SetForceMute { endpoint, .. } => Some(*endpoint),
        _ => None,
    }
}

impl World {
    fn settle(&mut self) -> BTreeSet<EndpointId> {
        let (mut touched, mut outputs) = (BTreeSet::new(), 0);
        while let Some(output) = self.bridge.poll_output() {
            outputs += 1;
            assert!(outputs < MOST_OUTPUTS, "outputs without end");
            match output {
                Output::Command { worker, command } => {
                    // A conference that spills gets all of it.
                    let spilt =
                        matches!(command, Command::CreateRemoteEndpoint { .. } | Command::CreateRemoteRelay { .. });
                    if !spilt {
                        touched.extend(subject(&command));
                    }
                    let now = self.now;
                    self.forwarders[worker].handle_command(now, command);
                }
                Output::EndpointCreated { endpoint, .. } => {
                    self.all.push(endpoint.id);
                    assert!(self.endpoints.insert(endpoint.id, endpoint.conference).is_none(), "created twice");
                }
                Output::EndpointExpired { endpoint } => {
                    let table = if endpoint.relay.is_some() { &mut self.beyond } else { &mut self.endpoints };
                    let known = table.remove(&endpoint.id);
                    assert_eq!(known, Some(endpoint.conference), "expired what was not there");
                }
                Output::RelayCreated { relay, .. } => {
                    self.all.push(relay.id);
                    assert!(self.beyond.insert(relay.id, relay.conference).is_none(), "created twice");
                }
                Output::RelayedCreated { endpoint } => {
                    self.all.push(endpoint.id);
                    assert!(self.beyond.contains_key(&endpoint.relay.expect("behind a relay")), "behind nothing");
                    assert!(self.beyond.insert(endpoint.id, endpoint.conference).is_none(), "created twice");
                }
                Output::RelayExpired { relay } => {
                    assert_eq!(self.beyond.remove(&relay.id), Some(relay.conference), "expired what was not there");
                }
                Output::DialRelay { relay, .. } => {
                    assert!(self.beyond.contains_key(&relay), "an address of nothing");
                }
                Output::RemoteDtls { endpoint, fingerprints, .. } => {
                    assert!(!fingerprints.is_empty());
                    touched.insert(endpoint);
                }
                Output::InitialLastN { endpoint, .. } | Output::SourcesChanged { endpoint, .. } => {
                    touched.insert(endpoint);
                }
            }
        }
        for forwarder in &mut self.forwarders {
            forwarder.handle_timeout(self.now, &mut self.sink);
            forwarder.handle_peers(self.now, &mut self.sink);
            while forwarder.poll_event().is_some() {}
        }
        for stats in &self.stats {
            assert_eq!(stats.get(Counter::DropCommandUnknown), 0, "a worker got a command about what it does not know");
        }
        assert_eq!(self.bridge.endpoint_count(), self.endpoints.len());
        assert_eq!(self.bridge.inconsistency(), None);
        touched
    }

    fn request(&mut self, element: &Element) {
        let Ok(request) = ConferenceModify::try_from(element.clone()) else { return };
        self.meetings.insert(request.meeting_id.clone());
        let before = (self.endpoints.clone(), self.beyond.clone());
        let conferences = self.bridge.conference_count();
        let reply = self.bridge.handle(self.now, &request);
        let refused = reply.is_err();
        if let Ok(reply) = reply {
            let xml = String::from(&Element::from(reply));
            let read = xml.parse::<Element>().expect("an answer is XML");
            ConferenceModified::try_from(read).expect("an answer is an answer");
        } else if let Err(refusal) = reply {
            let _ = String::from(&Element::from(refusal.to_stanza_error()));
        }
        let touched = self.settle();
        let tables = [&self.endpoints, &before.0, &self.beyond, &before.1];
        let of: BTreeSet<ConferenceId> =
            touched.iter().filter_map(|e| tables.iter().find_map(|table| table.get(e))).copied().collect();
        assert!(of.len() <= 1, "one request, {of:?}");
        if refused {
            assert!(
                touched.is_empty() && (&self.endpoints, &self.beyond) == (&before.0, &before.1),
                "a refused request changes nothing"
            );
        }
        assert!(self.bridge.conference_count() <= conferences + 1);
    }

    fn endpoint(&self, text: &str) -> Option<EndpointId> {
        let number: usize = text.trim().parse().ok()?;
        self.all.get(number).copied()
    }

    fn line(&mut self, line: &str) {
        let Some(rest) = line.get(1..) else { return };
        match line.as_bytes()[0] {
            b'c' => {
                if let Some(element) = xml::parse(rest) {
                    self.request(&element);
                }
            }
            b't' => {
                self.now += Duration::from_secs(rest.trim().parse::<u64>().unwrap_or(1).min(100_000));
                self.bridge.handle_timeout(self.now);
                assert!(self.bridge.poll_timeout() > self.now);
            }
            what @ (b'a' | b'q' | b'i') => {
                let Some(endpoint) = self.endpoint(rest) else { return };
                match what {
                    b'a' => self.bridge.handle_activity(self.now, endpoint, true),
                    b'q' => self.bridge.handle_activity(self.now, endpoint, false),
                    _ => self.bridge.handle_ice(self.now, endpoint, IceState::Connected),
                }
            }
            b'v' => {
                let (number, source) = rest.split_once(' ').unwrap_or((rest, ""));
                if let Some(endpoint) = self.endpoint(number) {
                    self.bridge.set_video_type(endpoint, source, VideoType::Desktop);
                }
            }
            b'g' => self.bridge.set_graceful_shutdown(false),
            b'G' => self.bridge.set_graceful_shutdown(true),
            b'l' => self.bridge.set_stress([rest.trim().parse::<f64>().unwrap_or(0.0) / 100.0, 0.1]),
            _ => {}
        }
        self.settle();
    }
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let now = Instant::now();
    let stats: Vec<Arc<WorkerStats>> = (0..WORKERS).map(|_| Arc::default()).collect();
    let mut world = World {
        bridge: ColibriBridge::new(now, config()),
        forwarders: Forwarder::connected(&ForwarderConfig::default(), &stats, 64).expect("eventfds"),
        stats,
        sink: ListSink::default(),
        now,
        endpoints: BTreeMap::new(),
        beyond: BTreeMap::new(),
        all: Vec::new(),
        meetings: BTreeSet::new(),
    };
    for line in text.lines().take(100) {
        world.line(line);
    }
    for endpoint in world.all.clone() {
        world.bridge.handle_activity(world.now, endpoint, false);
    }
    for _ in 0..3 {
        world.now += Duration::from_secs(200);
        world.bridge.handle_timeout(world.now);
        world.settle();
    }
    assert_eq!(world.bridge.endpoint_count(), 0, "every endpoint expires");
    // Those behind a relay stay for as long as their focus says.
    for meeting_id in world.meetings.clone() {
        let _ = world.bridge.handle(world.now, &ConferenceModify { expire: true, ..ConferenceModify::new(meeting_id) });
        world.settle();
    }
    assert_eq!((world.beyond.len(), world.bridge.conference_count()), (0, 0), "everything ends");
    for endpoint in &world.all {
        assert!(world.forwarders.iter().all(|forwarder| forwarder.slot(*endpoint).is_none()), "workers forget it, too");
    }
}
