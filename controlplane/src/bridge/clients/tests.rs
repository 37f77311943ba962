use std::collections::BTreeMap;

use ringbridge_dataplane::media::{Bitrate, Encoding, Limit, VideoConstraint, VideoType};
use ringbridge_dataplane::srtp::SrtpKeys;

use axum::extract::ws::Utf8Bytes;
use serde_json::json;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbridge_dataplane::ice::IceState;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, Ssrc};
use ringbridge_dataplane::media::{MediaKind, ReceiverConstraints, SourceDescription};
use ringbridge_dataplane::messages::{Bandwidth, Command};

use super::{Action, Carrier, Clients, Paths};
use crate::bridge::messages::FromClient;
use crate::bridge::messages::ToClient;
use crate::channel::ReceiverVideoConstraints;
use crate::channel::{Counted, Outbox, Registry, outbox};
use crate::colibri::elements::Setup;
use crate::colibri::identity::EndpointIdentity;
use crate::transport::{Certificate, DtlsRole, Fingerprint};
use crate::transport::{DtlsOutput, DtlsSession};

mod data_channel;
mod mappings;
mod relay_websocket;
mod relays;
mod websocket;

const ROOM: ConferenceId = ConferenceId(1);

struct Fixture {
    endpoints: Clients,
    now: Instant,
}

impl Fixture {
    /// Clients `a`, `b`, ... with ids 1, 2, ... and open channels.
    fn new(count: u32) -> Self {
        let mut fixture = Self {
            endpoints: Clients::new(Certificate::generate().unwrap(), Registry::default(), Arc::default()),
            now: Instant::now(),
        };
        for n in 1..=count {
            fixture.insert(n, false);
            fixture.open(EndpointId(n));
        }
        fixture.actions();
        fixture
    }

    fn insert(&mut self, n: u32, visitor: bool) {
        let label = char::from(b'a' + u8::try_from(n).unwrap() - 1).to_string();
        self.endpoints.insert(self.now, who(n, ROOM, label, visitor), "secret", true);
    }

    /// The client's WebSocket opens, in place of one that it may have.
    fn open(&mut self, id: EndpointId) {
        self.open_with(id, 1, outbox().0);
    }

    fn open_with(&mut self, id: EndpointId, connection: u64, sender: Outbox) {
        self.endpoints.handle_websocket_opened(id, connection, sender);
    }

    /// The WebSocket that [`Self::open`] opened ends.
    fn close(&mut self, id: EndpointId) {
        self.endpoints.handle_websocket_closed(id, 1);
    }

    /// A message over the endpoint's WebSocket.
    fn say(&mut self, id: u32, message: FromClient) {
        self.endpoints.handle_message(self.now, EndpointId(id), Carrier::WebSocket, message);
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.endpoints.poll_action()).collect()
    }

    fn messages(&mut self) -> Vec<(u32, ToClient)> {
        let sent =
            |action| if let Action::Send { endpoint, message } = action { Some((endpoint.0, message)) } else { None };
        self.actions().into_iter().filter_map(sent).collect()
    }

    fn constraints(&mut self) -> Vec<(u32, ReceiverConstraints)> {
        self.actions()
            .into_iter()
            .filter_map(|action| match action {
                Action::Command { worker: 3, command: Command::SetConstraints { endpoint, constraints } } => {
                    Some((endpoint.0, *constraints))
                }
                _ => None,
            })
            .collect()
    }
}

fn who(n: u32, conference: ConferenceId, label: String, visitor: bool) -> Arc<EndpointIdentity> {
    let conference_hex = conference.to_string();
    Arc::new(EndpointIdentity { id: EndpointId(n), conference, conference_hex, label, worker: 3, visitor, relay: None })
}

fn video(name: &str, ssrc: u32) -> SourceDescription {
    SourceDescription {
        name: name.to_owned(),
        kind: MediaKind::Video,
        video_type: VideoType::Camera,
        encodings: vec![Encoding { ssrc: Ssrc::new(ssrc), rtx: None }],
    }
}

fn fingerprints(certificate: &Certificate) -> Vec<Fingerprint> {
    vec![Fingerprint { hash: "sha-256".to_owned(), value: certificate.fingerprint().to_string() }]
}

/// Drives a handshake with a peer that plays `role`; the keys of both sides.
fn handshake(fixture: &mut Fixture, peer_role: DtlsRole, early: bool) -> (SrtpKeys, SrtpKeys) {
    let id = EndpointId(1);
    let peer_certificate = Certificate::generate().unwrap();
    let ours = fingerprints(&fixture.endpoints.certificate);
    let mut peer = DtlsSession::new(fixture.now, &peer_certificate, peer_role, ours).unwrap();
    let setup = if peer_role == DtlsRole::Client { Setup::Active } else { Setup::Passive };
    fixture.endpoints.handle_ice(fixture.now, id, IceState::Connected, false);
    assert_eq!(fixture.actions(), [], "nothing before the role is known");
    let (mut mine, mut theirs) = (None, None);
    for round in 0..40 {
        while let Some(output) = peer.poll_output() {
            match output {
                DtlsOutput::Datagram(datagram) => fixture.endpoints.handle_dtls(fixture.now, id, datagram),
                DtlsOutput::Connected(keys) => theirs = Some(keys),
                other => panic!("{other:?}"),
            }
        }
        if round == 0 || (early && round < 2) {
            assert_eq!(fixture.actions(), [], "datagrams wait for the role");
        }
        if round == usize::from(early) {
            fixture.endpoints.set_remote_dtls(fixture.now, id, Some(setup), fingerprints(&peer_certificate));
        }
        for action in fixture.actions() {
            match action {
                Action::Command { worker: 3, command: Command::SendDtls { datagram, .. } } => {
                    peer.handle_datagram(fixture.now, &datagram);
                }
                Action::Command { worker: 3, command: Command::SetSrtp { keys, .. } } => mine = Some(*keys),
                other => panic!("{other:?}"),
            }
        }
        match (mine.take(), theirs.take()) {
            (Some(mine), Some(theirs)) => return (mine, theirs),
            halves => (mine, theirs) = halves,
        }
        fixture.now += Duration::from_millis(100);
        fixture.endpoints.handle_timeout(fixture.now);
        peer.handle_timeout(fixture.now);
    }
    panic!("no keys after 4 s")
}

#[test]
fn dtls_takes_the_role_that_the_peer_leaves() {
    for (role, early) in [(DtlsRole::Client, false), (DtlsRole::Client, true), (DtlsRole::Server, false)] {
        let (mine, theirs) = handshake(&mut Fixture::new(1), role, early);
        assert_eq!(mine.profile, theirs.profile);
        assert!(mine.inbound == theirs.outbound && mine.outbound == theirs.inbound, "{role:?}");
    }
}

#[test]
fn a_wrong_fingerprint_gives_no_keys() {
    let mut fixture = Fixture::new(1);
    let id = EndpointId(1);
    let peer_certificate = Certificate::generate().unwrap();
    let ours = fingerprints(&fixture.endpoints.certificate);
    let mut peer = DtlsSession::new(fixture.now, &peer_certificate, DtlsRole::Client, ours).unwrap();
    let other = Certificate::generate().unwrap();
    fixture.endpoints.handle_ice(fixture.now, id, IceState::Connected, false);
    fixture.endpoints.set_remote_dtls(fixture.now, id, Some(Setup::Active), fingerprints(&other));
    for _ in 0..20 {
        while let Some(output) = peer.poll_output() {
            if let DtlsOutput::Datagram(datagram) = output {
                fixture.endpoints.handle_dtls(fixture.now, id, datagram);
            }
        }
        for action in fixture.actions() {
            match action {
                Action::Command { command: Command::SendDtls { datagram, .. }, .. } => {
                    peer.handle_datagram(fixture.now, &datagram)
                }
                other => panic!("{other:?}"),
            }
        }
        fixture.now += Duration::from_millis(100);
        fixture.endpoints.handle_timeout(fixture.now);
        peer.handle_timeout(fixture.now);
    }
    assert_eq!(fixture.endpoints.counters().dtls_failed, 1);
}

#[test]
fn a_client_is_told_everything_when_it_connects() {
    let mut fixture = Fixture::new(2);
    fixture.insert(3, false);
    let third = EndpointId(3);
    fixture.endpoints.set_sources(third, vec![video("c-v0", 9)]);
    fixture.endpoints.handle_demand(third, "c-v0".to_owned(), Limit::Max(360));
    fixture.endpoints.handle_forwarded(third, vec!["a-v0".to_owned()]);
    fixture.endpoints.handle_activity(fixture.now, EndpointId(2), true);
    fixture.endpoints.handle_activity(fixture.now, EndpointId(2), false);
    fixture.endpoints.handle_speakers(ROOM, vec![EndpointId(2), EndpointId(1)]);
    let for_third = fixture.messages().into_iter().filter(|(id, _)| *id == 3).count();
    assert_eq!(for_third, 0, "nothing is queued without a channel");
    fixture.open(third);
    let sent: Vec<_> = fixture.messages();
    assert_eq!(
        sent,
        [
            ToClient::ServerHello,
            ToClient::SenderSourceConstraints { source: "c-v0".to_owned(), max_height: 360 },
            ToClient::ForwardedSources(vec!["a-v0".to_owned()]),
            ToClient::Connectivity { endpoint: "b".to_owned(), active: false },
            ToClient::DominantSpeaker { endpoint: "b".to_owned(), previous: vec!["a".to_owned()] },
        ]
        .map(|message| (3, message))
    );
    assert_eq!(fixture.endpoints.counters().dominant_speaker_changes, 1);
}

#[test]
fn connectivity_is_told_on_change_only() {
    let mut fixture = Fixture::new(2);
    fixture.endpoints.handle_activity(fixture.now, EndpointId(1), true);
    assert_eq!(fixture.messages(), [], "the first activity is expected");
    fixture.endpoints.handle_activity(fixture.now, EndpointId(1), false);
    fixture.endpoints.handle_activity(fixture.now, EndpointId(1), false);
    fixture.endpoints.handle_activity(fixture.now, EndpointId(1), true);
    let sent = |active| ToClient::Connectivity { endpoint: "a".to_owned(), active };
    assert_eq!(fixture.messages(), [(1, sent(false)), (2, sent(false)), (1, sent(true)), (2, sent(true))]);
    // `b` never showed anything; the worker says so too early.
    fixture.endpoints.handle_activity(fixture.now, EndpointId(2), false);
    fixture.endpoints.check_late(fixture.now + Duration::from_millis(14_999));
    assert_eq!(fixture.messages(), []);
    fixture.endpoints.check_late(fixture.now + Duration::from_secs(15));
    fixture.endpoints.check_late(fixture.now + Duration::from_secs(16));
    let sent = ToClient::Connectivity { endpoint: "b".to_owned(), active: false };
    assert_eq!(fixture.messages(), [(1, sent.clone()), (2, sent)]);
    assert_eq!(fixture.endpoints.silent(), 1);
    // It connects late.
    fixture.endpoints.handle_ice(fixture.now, EndpointId(2), IceState::Connected, false);
    let sent = ToClient::Connectivity { endpoint: "b".to_owned(), active: true };
    assert_eq!(fixture.messages(), [(1, sent.clone()), (2, sent)]);
}

#[test]
fn a_connected_endpoint_counts_as_active() {
    let mut fixture = Fixture::new(1);
    fixture.endpoints.handle_ice(fixture.now, EndpointId(1), IceState::Connected, false);
    fixture.endpoints.check_late(fixture.now + Duration::from_secs(60));
    assert_eq!(fixture.messages(), []);
}

#[test]
fn relayed_paths_count_when_they_are_an_endpoints_first() {
    let mut fixture = Fixture::new(2);
    for (endpoint, relayed, counted) in [(1, false, (1, 0)), (1, true, (1, 0)), (2, true, (2, 1)), (2, true, (2, 1))] {
        fixture.endpoints.handle_ice(fixture.now, EndpointId(endpoint), IceState::Connected, relayed);
        let counters = fixture.endpoints.counters();
        assert_eq!((counters.ice_succeeded, counters.ice_succeeded_relayed), counted);
    }
}

#[test]
fn a_weak_fingerprint_alone_starts_no_handshake() {
    let mut fixture = Fixture::new(1);
    let id = EndpointId(1);
    let mut strong = fingerprints(&Certificate::generate().unwrap());
    let weak: Vec<_> = ["sha-1", "md5", "SHA-1", "sha-224", ""]
        .map(|hash| Fingerprint { hash: hash.to_owned(), value: "00:11".to_owned() })
        .into();
    let datagrams = |fixture: &mut Fixture| {
        let is_dtls = |action: &Action| matches!(action, Action::Command { command: Command::SendDtls { .. }, .. });
        fixture.actions().iter().filter(|action| is_dtls(action)).count()
    };
    fixture.endpoints.handle_ice(fixture.now, id, IceState::Connected, false);
    fixture.endpoints.set_remote_dtls(fixture.now, id, Some(Setup::Passive), weak.clone());
    assert_eq!((fixture.endpoints.counters().dtls_failed, datagrams(&mut fixture)), (1, 0));
    // Signalling may know better later; then weak ones beside it do no harm.
    strong.extend(weak);
    fixture.endpoints.set_remote_dtls(fixture.now, id, Some(Setup::Passive), strong);
    assert_eq!(fixture.endpoints.counters().dtls_failed, 1);
    assert!(datagrams(&mut fixture) > 0, "a ClientHello");
}

#[test]
fn datagrams_of_one_endpoint_have_a_rate() {
    let mut fixture = Fixture::new(2);
    let before = fixture.endpoints.channel_counters.get(Counted::Datagrams);
    for _ in 0..10_000 {
        fixture.endpoints.handle_dtls(fixture.now, EndpointId(1), vec![23; 100]);
    }
    assert!(fixture.endpoints.channel_counters.get(Counted::Datagrams) - before >= 6_000);
    fixture.now += Duration::from_secs(1);
    let before = fixture.endpoints.channel_counters.get(Counted::Datagrams);
    fixture.endpoints.handle_dtls(fixture.now, EndpointId(1), vec![23; 100]);
    assert_eq!(fixture.endpoints.channel_counters.get(Counted::Datagrams), before);
}

fn passed(text: &str) -> Utf8Bytes {
    Utf8Bytes::from(text.to_owned())
}

#[test]
fn messages_go_where_they_are_sent() {
    let mut fixture = Fixture::new(3);
    let text = passed(r#"{"colibriClass":"EndpointMessage","from":"a"}"#);
    let message = |to: &str| FromClient::Message { to: to.to_owned(), text: text.clone() };
    fixture.say(1, message("c"));
    assert_eq!(fixture.messages(), [(3, ToClient::Forwarded(text.clone()))]);
    fixture.say(1, message(""));
    assert_eq!(fixture.messages().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 3]);
    fixture.say(1, message("zz"));
    assert_eq!(fixture.messages(), []);
    fixture.insert(4, true);
    fixture.say(4, message(""));
    assert_eq!(fixture.messages(), [], "visitors are not heard");
}

#[test]
fn what_one_sender_causes_is_bounded_and_shared() {
    let mut fixture = Fixture::new(26);
    let text = passed(&"x".repeat(64 * 1024));
    let mut copies = 0;
    for _ in 0..192 {
        fixture.say(1, FromClient::Message { to: String::new(), text: text.clone() });
        for (_, message) in fixture.messages() {
            let ToClient::Forwarded(copy) = message else { panic!("{message:?}") };
            assert_eq!(copy.as_ptr(), text.as_ptr(), "one text for all");
            copies += 1;
        }
    }
    assert_eq!(copies, 512, "32 MiB at once");
    fixture.now += Duration::from_secs(1);
    fixture.say(1, FromClient::Message { to: String::new(), text: text.clone() });
    assert_eq!(fixture.messages().len(), 25, "and 4 MiB each second");
    fixture.say(2, FromClient::Message { to: String::new(), text });
    assert_eq!(fixture.messages().len(), 25, "others are not concerned");
}

#[test]
fn statistics_of_large_conferences_go_to_the_interested() {
    let mut fixture = Fixture::new(25);
    let stats = || FromClient::Stats(passed(r#"{"colibriClass":"EndpointStats","bitrate":1}"#));
    fixture.endpoints.set_sources(EndpointId(1), vec![video("a-v0", 5)]);
    let constraints = ReceiverVideoConstraints {
        on_stage_sources: Some(vec!["a-v0".to_owned()]),
        ..ReceiverVideoConstraints::default()
    };
    fixture.endpoints.handle_message(
        fixture.now,
        EndpointId(7),
        Carrier::WebSocket,
        FromClient::Video { constraints, legacy: false },
    );
    fixture.actions();
    fixture.endpoints.handle_message(fixture.now, EndpointId(1), Carrier::WebSocket, stats());
    assert_eq!(fixture.messages().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [7]);
    fixture.endpoints.handle_speakers(ROOM, vec![EndpointId(1)]);
    assert!(!fixture.messages().is_empty());
    fixture.endpoints.handle_speakers(ROOM, vec![EndpointId(1)]);
    assert!(fixture.messages().is_empty(), "another worker says the same");
    fixture.endpoints.handle_message(fixture.now, EndpointId(1), Carrier::WebSocket, stats());
    assert_eq!(fixture.messages().len(), 24);
}

#[test]
fn preferences_reach_the_worker_when_they_change_something() {
    let mut fixture = Fixture::new(2);
    let first = EndpointId(1);
    let constraints = ReceiverVideoConstraints { last_n: Some(4), ..ReceiverVideoConstraints::default() };
    fixture.endpoints.handle_message(
        fixture.now,
        first,
        Carrier::WebSocket,
        FromClient::Video { constraints: constraints.clone(), legacy: false },
    );
    let sent = fixture.constraints();
    assert_eq!((sent.len(), sent[0].0, sent[0].1.last_n), (1, 1, Limit::Max(4)));
    fixture.endpoints.handle_message(
        fixture.now,
        first,
        Carrier::WebSocket,
        FromClient::Video { constraints, legacy: false },
    );
    assert_eq!(fixture.constraints(), []);
    fixture.endpoints.set_initial_last_n(first, 9);
    assert_eq!(fixture.constraints(), [], "the client has spoken");
    fixture.endpoints.handle_message(fixture.now, first, Carrier::WebSocket, FromClient::LastN(-1));
    assert_eq!(fixture.constraints()[0].1.last_n, Limit::Unlimited);
}

#[test]
fn the_older_dialect_names_endpoints() {
    let mut fixture = Fixture::new(2);
    let (first, second) = (EndpointId(1), EndpointId(2));
    fixture.endpoints.set_sources(first, vec![video("a-v0", 5)]);
    fixture.endpoints.handle_demand(first, "a-v0".to_owned(), Limit::Unlimited);
    fixture.endpoints.handle_forwarded(first, vec!["b-v0".to_owned()]);
    fixture.actions();
    let height = VideoConstraint { max_height: Limit::Max(720), max_frame_rate: Limit::Unlimited };
    let constraints = ReceiverVideoConstraints {
        selected_endpoints: Some(vec!["b".to_owned()]),
        constraints: Some(BTreeMap::from([("b".to_owned(), height)])),
        ..ReceiverVideoConstraints::default()
    };
    fixture.endpoints.set_sources(second, vec![video("b-v0", 6)]);
    fixture.endpoints.handle_message(
        fixture.now,
        first,
        Carrier::WebSocket,
        FromClient::Video { constraints, legacy: true },
    );
    let actions = fixture.actions();
    let Action::Command { command: Command::SetConstraints { constraints, .. }, .. } = &actions[0] else {
        panic!("{actions:?}")
    };
    assert_eq!(constraints.selected, ["b-v0"]);
    let expected = VideoConstraint { max_height: Limit::Max(720), max_frame_rate: Limit::Unlimited };
    assert_eq!(constraints.per_source, [("b-v0".to_owned(), expected)]);
    let sent: Vec<_> = actions
        .iter()
        .filter_map(|a| if let Action::Send { message, .. } = a { Some(message.clone()) } else { None })
        .collect();
    assert!(sent.contains(&ToClient::SenderVideoConstraints { ideal_height: 2160 }), "{sent:?}");
    assert!(sent.contains(&ToClient::LastNEndpoints(vec!["b".to_owned()])), "{sent:?}");
    // A second source of `b` is meant as well.
    fixture.endpoints.set_sources(second, vec![video("b-v0", 6), video("b-v1", 7)]);
    let sent = fixture.constraints();
    assert_eq!((sent[0].0, sent[0].1.selected.clone()), (1, vec!["b-v0".to_owned(), "b-v1".to_owned()]));
}

#[test]
fn video_types_of_older_clients_mean_the_first_source() {
    let mut fixture = Fixture::new(1);
    let id = EndpointId(1);
    let message = |source: Option<&str>| FromClient::VideoType {
        source: source.map(str::to_owned),
        video_type: VideoType::Desktop,
    };
    fixture.endpoints.handle_message(fixture.now, id, Carrier::WebSocket, message(None));
    fixture.endpoints.set_sources(id, vec![video("cam", 5)]);
    fixture.endpoints.handle_message(fixture.now, id, Carrier::WebSocket, message(None));
    fixture.endpoints.handle_message(fixture.now, id, Carrier::WebSocket, message(Some("x-v1")));
    let named: Vec<_> = fixture
        .actions()
        .into_iter()
        .filter_map(|a| if let Action::VideoType { source, .. } = a { Some(source) } else { None })
        .collect();
    assert_eq!(named, ["a-v0", "cam", "x-v1"]);
}

#[test]
fn those_who_left_are_forgotten() {
    let mut fixture = Fixture::new(2);
    fixture.endpoints.handle_speakers(ROOM, vec![EndpointId(1), EndpointId(2)]);
    fixture.actions();
    fixture.endpoints.remove(EndpointId(1));
    fixture.open(EndpointId(2));
    let sent = ToClient::DominantSpeaker { endpoint: "b".to_owned(), previous: Vec::new() };
    assert!(fixture.messages().contains(&(2, sent)));
    fixture.endpoints.handle_dtls(fixture.now, EndpointId(1), vec![22]);
    fixture.endpoints.handle_ice(fixture.now, EndpointId(1), IceState::Connected, false);
    fixture.endpoints.remove(EndpointId(2));
    assert_eq!(fixture.actions(), []);
    assert!(fixture.endpoints.conferences.is_empty());
}

/// Joins, leaves, channels and handshakes in an order that the seed gives.
#[test]
fn joins_and_leaves_leave_nothing_behind() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    for seed in 0..20 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut fixture = Fixture::new(0);
        let certificate = Certificate::generate().unwrap();
        let (mut present, mut next) = (Vec::new(), 1);
        while next <= 30 || !present.is_empty() {
            if next <= 30 && (present.is_empty() || random.random_bool(0.5)) {
                let id = EndpointId(next);
                let conference = ConferenceId(random.random_range(1..4));
                let who = who(next, conference, format!("e{next}"), false);
                fixture.endpoints.insert(fixture.now, who, "secret", true);
                if random.random_bool(0.7) {
                    fixture.open(id);
                    fixture.endpoints.handle_speakers(conference, vec![id]);
                }
                if random.random_bool(0.7) {
                    // A handshake that never ends has timers of its own.
                    fixture.endpoints.handle_ice(fixture.now, id, IceState::Connected, false);
                    let fingerprints = fingerprints(&certificate);
                    fixture.endpoints.set_remote_dtls(fixture.now, id, Some(Setup::Passive), fingerprints);
                }
                present.push(id);
                next += 1;
            } else {
                let id = present.swap_remove(random.random_range(0..present.len()));
                fixture.endpoints.remove(id);
            }
            fixture.now += Duration::from_millis(random.random_range(0..500));
            fixture.endpoints.handle_timeout(fixture.now);
            fixture.actions();
            assert_eq!(fixture.endpoints.inconsistency(), None, "seed {seed}");
        }
        let left = &fixture.endpoints;
        assert!(left.endpoints.is_empty() && left.conferences.is_empty(), "seed {seed}");
        assert!(left.timers() == 0 && left.written.is_empty(), "seed {seed}");
        assert_eq!(fixture.actions(), [], "seed {seed}");
    }
}

#[test]
fn clients_are_told_what_the_way_to_them_carries() {
    let mut fixture = Fixture::new(3);
    let bandwidth = |estimate: Option<u64>, rtt: Option<u64>, lost_per_mille| Bandwidth {
        estimate: estimate.map(Bitrate::new),
        rtt: rtt.map(Duration::from_millis),
        lost_per_mille,
        ..Bandwidth::default()
    };
    assert_eq!(fixture.endpoints.paths(), Paths::default());
    fixture.endpoints.handle_bandwidth(EndpointId(1), bandwidth(Some(900_000), Some(30), 0));
    fixture.endpoints.handle_bandwidth(EndpointId(2), bandwidth(None, Some(10), 200));
    let expected = Paths { rtt_ms: 20.0, outgoing_loss: 0.1, high_loss: 1, ..Paths::default() };
    assert_eq!(fixture.endpoints.paths(), expected);
    let over = Bandwidth { target: Bitrate::new(901_000), suspended: 2, ..bandwidth(Some(900_000), Some(30), 0) };
    fixture.endpoints.handle_bandwidth(EndpointId(1), over);
    let remb = Bandwidth { target: Bitrate::new(5_000_000), spurious_remb: true, ..bandwidth(None, Some(10), 200) };
    fixture.endpoints.handle_bandwidth(EndpointId(2), remb);
    let expected = Paths { oversending: 1, suspended: 1, spurious_remb: 1, ..expected };
    assert_eq!(fixture.endpoints.paths(), expected, "what is not estimated is not exceeded");
    let sent = |fixture: &mut Fixture, seconds| {
        fixture.endpoints.check_late(fixture.now + Duration::from_secs(seconds));
        fixture.messages().into_iter().filter(|(_, m)| matches!(m, ToClient::ConnectionStats(_))).collect::<Vec<_>>()
    };
    assert_eq!(sent(&mut fixture, 0), [(1, ToClient::ConnectionStats(900_000))]);
    assert_eq!(sent(&mut fixture, 9), []);
    assert_eq!(sent(&mut fixture, 10), [(1, ToClient::ConnectionStats(900_000))]);
}
