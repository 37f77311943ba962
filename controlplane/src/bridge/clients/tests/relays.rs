//! Two bridges with a relay between them, and further relays: what is said over their channels.

use super::*;
use crate::channel::Relayed as Passed;
use crate::channel::{FromRelay, ToRelay};
use crate::colibri::bridge::RelayChannel;
use crate::colibri::elements::SctpRole;
use crate::colibri::identity::RelayIdentity;
use ringbridge_dataplane::ids::MeshId;

const STEP: Duration = Duration::from_millis(20);
const RELAY: EndpointId = EndpointId(100);
const THEIRS: EndpointId = EndpointId(50);

fn relay(id: EndpointId, label: &str, own: &str, mesh: u32) -> Arc<RelayIdentity> {
    let (label, own, mesh_name) = (label.to_owned(), own.to_owned(), mesh.to_string());
    let (conference, conference_hex) = (ROOM, ROOM.to_string());
    Arc::new(RelayIdentity { id, conference, conference_hex, label, own, worker: 3, mesh: MeshId(mesh), mesh_name })
}

fn behind(fixture: &mut Fixture, id: EndpointId, label: &str, relay: EndpointId) {
    let who = EndpointIdentity { relay: Some(relay), ..(*who(id.0, ROOM, label.to_owned(), false)).clone() };
    fixture.endpoints.insert_relayed(Arc::new(who));
}

/// Bridge 0 with the client `a`, bridge 1 with the client `b`; each knows the other's.
struct Pair {
    bridges: [Fixture; 2],
    /// Commands, and messages to clients.
    done: [Vec<Action>; 2],
    /// Packets between them are lost.
    cut: bool,
}

impl Pair {
    fn new() -> Self {
        Self::with(RelayChannel::Sctp(SctpRole::Server))
    }

    /// The second bridge was asked for this side of a channel.
    fn with(second: RelayChannel) -> Self {
        let mut bridges = [Fixture::new(1), Fixture::new(1)];
        // The second one's client is called b.
        bridges[1].endpoints.remove(EndpointId(1));
        bridges[1].insert(2, false);
        bridges[1].open(EndpointId(2));
        let pairs = [
            ("jvb2", "jvb1", RelayChannel::Sctp(SctpRole::Client), "b", Setup::Active),
            ("jvb1", "jvb2", second, "a", Setup::Passive),
        ];
        let prints = [fingerprints(&bridges[0].endpoints.certificate), fingerprints(&bridges[1].endpoints.certificate)];
        for (at, (label, own, role, far, setup)) in pairs.into_iter().enumerate() {
            let fixture = &mut bridges[at];
            fixture.endpoints.insert_relay(relay(RELAY, label, own, 0), &role);
            behind(fixture, THEIRS, far, RELAY);
            fixture.endpoints.set_remote_dtls(fixture.now, RELAY, Some(setup), prints[1 - at].clone());
        }
        let mut pair = Self { bridges, done: Default::default(), cut: false };
        pair.each(|fixture| fixture.endpoints.handle_ice(fixture.now, RELAY, IceState::Connected, false));
        pair
    }

    fn each(&mut self, mut f: impl FnMut(&mut Fixture)) {
        self.bridges.iter_mut().for_each(&mut f);
    }

    /// Lets time pass.
    fn run(&mut self, seconds: u64) {
        let steps = seconds * 1_000 / STEP.as_millis() as u64;
        for _ in 0..steps {
            for at in 0..2 {
                let now = self.bridges[at].now;
                self.bridges[at].endpoints.flush(now);
                for action in self.bridges[at].actions() {
                    match action {
                        Action::Command { command: Command::SendDtls { endpoint: RELAY, datagram }, .. }
                            if !self.cut =>
                        {
                            let other = &mut self.bridges[1 - at];
                            other.endpoints.handle_dtls(other.now, RELAY, datagram);
                        }
                        Action::Command { command: Command::SendDtls { .. }, .. } => {}
                        other => self.done[at].push(other),
                    }
                }
            }
            self.each(|fixture| {
                fixture.now += STEP;
                fixture.endpoints.handle_timeout(fixture.now);
                assert_eq!(fixture.endpoints.inconsistency(), None);
            });
        }
    }

    fn open(&self) -> bool {
        self.bridges.iter().all(|fixture| fixture.endpoints.relays[&RELAY].carriers.current().is_some())
    }

    /// What clients were sent, and the demands of the other bridge, since the last call.
    fn take(&mut self, at: usize) -> Vec<Action> {
        std::mem::take(&mut self.done[at])
    }

    fn demands(&mut self, at: usize) -> Vec<(EndpointId, String, Limit)> {
        let demand = |action| match action {
            Action::Command { command: Command::SetRelayDemand { endpoint, source, max_height, relay }, worker: 3 } => {
                assert_eq!(relay, RELAY);
                Some((endpoint, source, max_height))
            }
            _ => None,
        };
        self.take(at).into_iter().filter_map(demand).collect()
    }

    fn publish(&mut self, at: usize, sources: Vec<SourceDescription>) {
        let own = EndpointId(if at == 0 { 1 } else { 2 });
        self.bridges[at].endpoints.set_sources(own, sources.clone());
        self.bridges[1 - at].endpoints.set_sources(THEIRS, sources);
    }
}

#[test]
fn keys_and_a_channel_come_of_either_role() {
    let mut pair = Pair::new();
    pair.run(2);
    assert!(pair.open());
    let keys = |actions: Vec<Action>| {
        actions.into_iter().find_map(|action| match action {
            Action::Command { command: Command::SetSrtp { endpoint: RELAY, keys }, .. } => Some(*keys),
            _ => None,
        })
    };
    let (one, other) = (keys(pair.take(0)).expect("keys"), keys(pair.take(1)).expect("keys"));
    assert!(one.inbound == other.outbound && one.outbound == other.inbound);
    assert_eq!(pair.bridges[0].endpoints.relays[&RELAY].who.label, "jvb2");
}

#[test]
fn a_bridge_with_another_certificate_gets_no_keys() {
    let mut pair = Pair::new();
    let stranger = fingerprints(&Certificate::generate().unwrap());
    let fixture = &mut pair.bridges[0];
    fixture.endpoints.remove(THEIRS);
    fixture.endpoints.remove_relay(RELAY);
    fixture.endpoints.insert_relay(relay(RELAY, "jvb2", "jvb1", 0), &RelayChannel::Sctp(SctpRole::Client));
    fixture.endpoints.set_remote_dtls(fixture.now, RELAY, Some(Setup::Active), stranger);
    fixture.endpoints.handle_ice(fixture.now, RELAY, IceState::Connected, false);
    pair.run(40);
    assert!(!pair.open());
    let keys = |action: &Action| matches!(action, Action::Command { command: Command::SetSrtp { .. }, .. });
    assert!(!pair.take(0).iter().any(keys));
    assert_eq!(pair.bridges[0].endpoints.counters().relays_dtls_failed, 1);
}

#[test]
fn what_is_wanted_there_is_known_here() {
    let mut pair = Pair::new();
    pair.publish(0, vec![video("a-v0", 1)]);
    // Said before there is a channel: kept.
    pair.bridges[1].endpoints.handle_demand(THEIRS, "a-v0".to_owned(), Limit::Max(180));
    pair.run(2);
    let a = EndpointId(1);
    assert_eq!(pair.demands(0), [(a, "a-v0".to_owned(), Limit::Max(180))]);
    for most in [Limit::Max(720), Limit::Off, Limit::Unlimited] {
        pair.bridges[1].endpoints.handle_demand(THEIRS, "a-v0".to_owned(), most);
        pair.run(1);
        assert_eq!(pair.demands(0), [(a, "a-v0".to_owned(), most)]);
    }
    // The channel is cut for a while, under changes: the last one counts.
    pair.cut = true;
    for most in [Limit::Max(90), Limit::Max(360)] {
        pair.bridges[1].endpoints.handle_demand(THEIRS, "a-v0".to_owned(), most);
        pair.run(5);
    }
    pair.cut = false;
    pair.run(5);
    assert_eq!(pair.demands(0).last(), Some(&(a, "a-v0".to_owned(), Limit::Max(360))));
    // The channel is closed: it opens again, and everything is said again.
    let fixture = &mut pair.bridges[0];
    fixture.endpoints.relays.get_mut(&RELAY).expect("there").dtls.close_channel();
    fixture.endpoints.written.insert(RELAY);
    pair.run(5);
    assert!(pair.open());
    assert_eq!(pair.demands(0), [(a, "a-v0".to_owned(), Limit::Max(360))]);
}

#[test]
fn sources_that_are_not_signalled_yet_are_found_by_their_name() {
    let mut pair = Pair::new();
    pair.run(2);
    pair.take(0);
    let want = |pair: &mut Pair, source: &str| {
        pair.bridges[1].endpoints.handle_demand(THEIRS, source.to_owned(), Limit::Max(360));
        pair.run(1);
        pair.demands(0)
    };
    assert_eq!(want(&mut pair, "a-v0"), [(EndpointId(1), "a-v0".to_owned(), Limit::Max(360))]);
    assert_eq!(want(&mut pair, "nobody-v0"), []);
    assert_eq!(pair.bridges[0].endpoints.channel_counters.get(Counted::NotBehind), 1);
}

#[test]
fn what_a_source_shows_is_known_on_the_other_bridge() {
    let screen = || SourceDescription { video_type: VideoType::Desktop, ..video("a-v1", 2) };
    let mut pair = Pair::new();
    // Before there is a channel.
    pair.bridges[0].endpoints.set_sources(EndpointId(1), vec![video("a-v0", 1), screen()]);
    pair.run(2);
    let types = |pair: &mut Pair| -> Vec<(EndpointId, String, VideoType)> {
        let shown = |action| match action {
            Action::VideoType { endpoint, source, video_type } => Some((endpoint, source, video_type)),
            _ => None,
        };
        pair.take(1).into_iter().filter_map(shown).collect()
    };
    assert_eq!(types(&mut pair), [(THEIRS, "a-v1".to_owned(), VideoType::Desktop)], "cameras need no mention");
    pair.bridges[0].endpoints.set_sources(EndpointId(1), vec![video("a-v0", 1), video("a-v1", 2)]);
    pair.run(1);
    assert_eq!(types(&mut pair), [(THEIRS, "a-v1".to_owned(), VideoType::Camera)]);
    pair.bridges[0].endpoints.set_sources(EndpointId(1), vec![video("a-v0", 1)]);
    pair.run(1);
    assert_eq!(types(&mut pair), []);
}

fn texts(actions: Vec<Action>) -> Vec<(u32, String)> {
    let text = |action| match action {
        Action::Send { endpoint, message: ToClient::Forwarded(text) } => Some((endpoint.0, text.to_string())),
        _ => None,
    };
    actions.into_iter().filter_map(text).collect()
}

#[test]
fn clients_write_to_each_other_across() {
    let mut pair = Pair::new();
    pair.run(2);
    pair.take(1);
    let say = |pair: &mut Pair, to: &str, text: &str| {
        let text =
            Utf8Bytes::from(format!(r#"{{"colibriClass":"EndpointMessage","from":"a","to":"{to}","x":"{text}"}}"#));
        pair.bridges[0].say(1, FromClient::Message { to: to.to_owned(), text });
        pair.run(1);
        (texts(pair.take(0)), texts(pair.take(1)))
    };
    let (here, there) = say(&mut pair, "", "to all");
    assert_eq!((here.len(), there.len()), (0, 1));
    assert!(there[0].0 == 2 && there[0].1.contains("to all"), "{there:?}");
    assert_eq!(say(&mut pair, "b", "to b").1.len(), 1);
    assert_eq!(say(&mut pair, "nobody", "to nobody"), (vec![], vec![]));
    let stats = Utf8Bytes::from_static(r#"{"colibriClass":"EndpointStats","from":"a"}"#);
    pair.bridges[0].say(1, FromClient::Stats(stats));
    pair.run(1);
    assert_eq!(texts(pair.take(1)).len(), 1);
    // A visitor's go nowhere.
    pair.bridges[0].insert(3, true);
    pair.bridges[0].open(EndpointId(3));
    pair.bridges[0].say(3, FromClient::Message { to: String::new(), text: Utf8Bytes::from_static(r#"{"from":"c"}"#) });
    pair.run(1);
    assert_eq!(texts(pair.take(1)), []);
}

#[test]
fn who_falls_silent_is_known_on_the_other_bridge() {
    let mut pair = Pair::new();
    pair.run(2);
    let told = |actions: Vec<Action>| -> Vec<bool> {
        let active = |action| match action {
            Action::Send { message: ToClient::Connectivity { endpoint, active }, .. } if endpoint == "a" => {
                Some(active)
            }
            _ => None,
        };
        actions.into_iter().filter_map(active).collect()
    };
    pair.take(1);
    for active in [true, false, true] {
        let fixture = &mut pair.bridges[0];
        fixture.endpoints.handle_activity(fixture.now, EndpointId(1), active);
        pair.run(1);
    }
    assert_eq!(told(pair.take(1)), [false, true]);
    // Somebody who connects later hears it, too.
    let fixture = &mut pair.bridges[0];
    fixture.endpoints.handle_activity(fixture.now, EndpointId(1), false);
    pair.run(1);
    pair.take(1);
    pair.bridges[1].insert(3, false);
    pair.bridges[1].open(EndpointId(3));
    pair.run(1);
    assert_eq!(told(pair.take(1)), [false]);
}

/// One bridge in the meshes 0 (two relays) and 1 (one relay), with open channels whose far sides nobody plays.
fn hub() -> Fixture {
    let mut fixture = Fixture::new(1);
    for (n, mesh) in [(100, 0), (101, 0), (102, 1)] {
        let channel = RelayChannel::Sctp(SctpRole::Server);
        fixture.endpoints.insert_relay(relay(EndpointId(n), &format!("r{n}"), "hub", mesh), &channel);
        behind(&mut fixture, EndpointId(n + 100), &format!("e{n}"), EndpointId(n));
    }
    fixture.actions();
    fixture
}

#[test]
fn what_came_by_one_mesh_goes_to_the_others() {
    let fixture = hub();
    let relays = |of: u32| -> Vec<u32> {
        let mesh = fixture.endpoints.mesh_of(EndpointId(of));
        fixture.endpoints.relays_of(ROOM, mesh).iter().map(|id| id.0).collect()
    };
    assert_eq!((relays(200), relays(201), relays(202)), (vec![102], vec![102], vec![100, 101]));
    assert_eq!(fixture.endpoints.relays_of(ROOM, None).len(), 3, "what is of this bridge goes everywhere");
}

#[test]
fn another_bridge_speaks_for_those_behind_it_alone() {
    let mut fixture = hub();
    let r100 = EndpointId(100);
    let passed =
        |from: &str, to: &str| Passed { to: to.to_owned(), from: from.to_owned(), text: Utf8Bytes::from_static("{}") };
    let foreign = [
        FromRelay::EndpointMessage(passed("e101", "")),
        FromRelay::EndpointMessage(passed("a", "")),
        FromRelay::EndpointMessage(passed("", "a")),
        FromRelay::EndpointStats(passed("e102", "")),
        FromRelay::EndpointConnectivityStatusChangeEvent { endpoint: "a".to_owned(), active: "false".to_owned() },
        FromRelay::SourceVideoTypeMessage {
            source_name: "a-v0".to_owned(),
            video_type: "desktop".to_owned(),
            endpoint_id: "a".to_owned(),
        },
    ];
    for (n, message) in foreign.into_iter().enumerate() {
        fixture.endpoints.handle_relay_message(fixture.now, r100, message);
        assert_eq!(fixture.actions(), []);
        assert_eq!(fixture.endpoints.channel_counters.get(Counted::NotBehind), n as u64 + 1);
    }
    // Sources of its own mesh it is not given; those of the other mesh it is.
    let want = |fixture: &mut Fixture, source: &str| {
        let wanted = format!(
            r#"{{"colibriClass":"AddReceiver","sourceName":"{source}","videoConstraints":{{"maxHeight":180}}}}"#
        );
        let message = FromRelay::parse(wanted.as_bytes()).expect("valid");
        fixture.endpoints.handle_relay_message(fixture.now, r100, message);
        fixture.actions().len()
    };
    let asked = ["e100-v0", "e101-v0", "e102-v0", "a-v0"].map(|source| want(&mut fixture, source));
    assert_eq!(asked, [0, 0, 1, 1]);
    // To one of this bridge alone, or to all of it.
    let heard = |fixture: &mut Fixture, to: &str| {
        fixture.endpoints.handle_relay_message(fixture.now, r100, FromRelay::EndpointMessage(passed("e100", to)));
        texts(fixture.actions()).len()
    };
    assert_eq!(["", "a", "e102", "zz"].map(|to| heard(&mut fixture, to)), [1, 1, 0, 0]);
}

#[test]
fn a_bridge_that_says_too_much_is_not_heard() {
    let mut pair = Pair::new();
    pair.run(2);
    pair.take(0);
    let relay = pair.bridges[0].endpoints.relays.get_mut(&RELAY).expect("there");
    let now = pair.bridges[0].now;
    while relay.intake.take(now, 1_000) {}
    pair.bridges[1].endpoints.handle_demand(THEIRS, "a-v0".to_owned(), Limit::Max(180));
    let other = &mut pair.bridges[1];
    other.endpoints.flush(other.now);
    for action in other.actions() {
        if let Action::Command { command: Command::SendDtls { datagram, .. }, .. } = action {
            pair.bridges[0].endpoints.handle_dtls(now, RELAY, datagram);
        }
    }
    assert_eq!(pair.bridges[0].endpoints.channel_counters.get(Counted::TooFast), 1);
}

#[test]
fn a_dead_link_is_noticed_and_its_end_too() {
    let mut pair = Pair::new();
    let fixture = &mut pair.bridges[0];
    let mut active = |active| {
        fixture.endpoints.handle_activity(fixture.now, RELAY, active);
        (fixture.endpoints.dead_relays(), fixture.endpoints.counters().relays_lost)
    };
    assert_eq!([true, false, false, true, false].map(&mut active), [(0, 0), (1, 1), (1, 1), (0, 1), (1, 2)]);
    let fixture = &mut pair.bridges[0];
    fixture.endpoints.handle_ice(fixture.now, RELAY, IceState::Connected, false);
    assert_eq!(fixture.endpoints.dead_relays(), 0);
    // Without a first connection there is nothing to lose.
    let mut fixture = Fixture::new(1);
    fixture.endpoints.insert_relay(relay(RELAY, "jvb2", "jvb1", 0), &RelayChannel::Sctp(SctpRole::Server));
    fixture.endpoints.handle_activity(fixture.now, RELAY, false);
    fixture.endpoints.handle_ice(fixture.now, RELAY, IceState::Disconnected, false);
    assert_eq!((fixture.endpoints.dead_relays(), fixture.endpoints.counters().relays_ice_failed), (0, 1));
}

#[test]
fn a_relay_without_a_channel_is_counted_once() {
    let mut pair = Pair::with(RelayChannel::WebSocket { password: "p".to_owned() });
    pair.run(2);
    for seconds in [10, 25, 60] {
        pair.run(seconds);
        pair.each(|fixture| fixture.endpoints.check_late(fixture.now));
    }
    let without = pair.bridges.each_ref().map(|fixture| fixture.endpoints.counters().relays_without_channel);
    assert_eq!(without, [1, 1]);
    assert!(!pair.open());
}

#[test]
fn those_of_other_bridges_speak_and_are_named() {
    let mut fixture = hub();
    fixture.endpoints.handle_speakers(ROOM, vec![EndpointId(200), EndpointId(1)]);
    let speaker = ToClient::DominantSpeaker { endpoint: "e100".to_owned(), previous: vec!["a".to_owned()] };
    assert_eq!(fixture.messages(), [(1, speaker)]);
    // Gone with their relay.
    fixture.endpoints.remove(EndpointId(200));
    fixture.endpoints.remove_relay(EndpointId(100));
    assert_eq!(fixture.endpoints.inconsistency(), None);
    assert_eq!(
        fixture.endpoints.speaker_message(ROOM),
        Some(ToClient::DominantSpeaker { endpoint: "a".to_owned(), previous: vec![] })
    );
}

#[test]
fn nothing_is_written_without_a_channel_and_what_is_not_repeated_is_counted() {
    let mut fixture = hub();
    fixture.endpoints.send_to_relay(EndpointId(100), ToRelay::ServerHello {});
    assert_eq!(fixture.endpoints.channel_counters.get(Counted::NoChannel), 0);
    fixture.endpoints.send_to_relay(EndpointId(100), ToRelay::Forwarded(Utf8Bytes::from_static("{}")));
    assert_eq!(fixture.endpoints.channel_counters.get(Counted::NoChannel), 1);
    assert!(fixture.endpoints.written.is_empty());
}
