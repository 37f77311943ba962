//! Relays and those behind them as members of a conference: who is created, refused, reported, and removed with whom.

mod forward_call;
mod relay_call;

use forward_call::*;
use relay_call::*;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, MeshId, WorkerId};
use ringbridge_dataplane::media::Limit;
use ringbridge_dataplane::messages::{Command, CreateError, Event};
use ringbridge_dataplane::stats::Counter;

fn source() -> Vec<ringbridge_dataplane::media::SourceDescription> {
    vec![audio_source("p-a0", 10), video_source("p-v0", &[11, 12])]
}

/// What a client sends comes out of the other bridge's relay, and a receiver there gets it.
#[test]
fn what_comes_by_a_relay_goes_to_the_receivers_here() {
    let mut bridges = Bridges::new(1);
    let [side, _] = bridges.connect(0, 0, 0, &OTHER.media());
    bridges.announce(side, source());
    let listener = bridges.calls[0].join(JICOFO.media(), vec![]);
    bridges.settle();
    let key = keys(100).inbound;
    let mut camera = Camera::new(OTHER.vp8, 11, 1, 180);
    let mut packets = vec![with_extension(packet(OTHER.opus, 1, 1, 10, &[5; 20]), OTHER.level, &[30])];
    packets.extend(camera.frame(true, 2));
    for p in &packets {
        bridges.arrive(side, &mut sealed(&key, p));
    }
    let got = bridges.calls[0].clients[listener].take_rtp();
    let numbers: Vec<_> = got.iter().map(|p| (p.header.ssrc, p.header.payload_type)).collect();
    assert_eq!(numbers, [(10, JICOFO.opus), (11, JICOFO.vp8), (11, JICOFO.vp8)]);
    assert_eq!(got[0].header.get_extension(JICOFO.level).as_deref(), Some(&[30][..]));
    assert_eq!(bridges.count(0, Counter::RelayPacketsReceived), 3);
    let bytes: usize = packets.iter().map(|p| sealed(&key, p).len()).sum();
    assert_eq!(bridges.count(0, Counter::RelayBytesReceived), bytes as u64);
}

#[test]
fn the_relay_takes_those_behind_it_along() {
    let mut bridges = Bridges::with(Default::default(), &[2]);
    let [side, other] = bridges.connect(0, 0, 0, &JICOFO.media());
    let behind = bridges.announce(side, source());
    let elsewhere = bridges.announce(other, vec![audio_source("q-a0", 20)]);
    let relay = bridges.sides[side].relay;
    bridges.command(0, Command::ExpireEndpoint { endpoint: relay });
    for forwarder in &bridges.calls[0].forwarders {
        assert!([relay, behind].iter().all(|gone| forwarder.slot(*gone).is_none()));
        assert!(forwarder.slot(elsewhere).is_some());
    }
    // Their SSRCs are free again.
    bridges.announce(other, source());
    assert_eq!(bridges.count(0, Counter::DropTableFull), 0);
}

#[test]
fn refusals_say_why_and_are_counted() {
    let mut bridges = Bridges::with(Default::default(), &[2]);
    let [side, _] = bridges.connect(0, 0, 0, &JICOFO.media());
    let relay = bridges.sides[side].relay;
    let known = bridges.announce(side, vec![]);
    let client = bridges.calls[0].join(JICOFO.media(), vec![]);
    let client = bridges.calls[0].clients[client].id;
    let home = WorkerId::new(1);
    let (conference, mesh, new) = (CONFERENCE, MeshId(0), EndpointId(7));
    for (command, refused, error) in [
        (Command::CreateRelayedEndpoint { conference, endpoint: new, relay: new }, new, CreateError::UnknownRelay),
        (Command::CreateRelayedEndpoint { conference, endpoint: new, relay: client }, new, CreateError::UnknownRelay),
        (Command::CreateRelayedEndpoint { conference, endpoint: new, relay: known }, new, CreateError::UnknownRelay),
        (
            Command::CreateRelayedEndpoint { conference: ConferenceId(9), endpoint: new, relay },
            new,
            CreateError::UnknownRelay,
        ),
        (Command::CreateRelayedEndpoint { conference, endpoint: known, relay }, known, CreateError::Taken),
        (Command::CreateRelayedEndpoint { conference, endpoint: relay, relay }, relay, CreateError::Taken),
        (Command::CreateRemoteRelay { conference, relay, home, mesh }, relay, CreateError::Taken),
        (
            Command::CreateRemoteRelay { conference, relay: new, home: WorkerId::new(2), mesh },
            new,
            CreateError::UnknownWorker,
        ),
        (
            Command::CreateRemoteRelay { conference: ConferenceId(9), relay: new, home, mesh },
            new,
            CreateError::UnknownConference,
        ),
    ] {
        let call = &mut bridges.calls[0];
        call.take_events();
        let before = call.count(Counter::DropCommandUnknown);
        call.forwarders[0].handle_command(call.now, command.clone());
        call.settle();
        let refusals: Vec<_> = call.take_events();
        assert_eq!(refusals, [Event::EndpointRefused { endpoint: refused, error }], "{command:?}");
        assert_eq!(call.count(Counter::DropCommandUnknown), before + 1, "{command:?}");
    }
    // What says nothing of a relay, or by one, changes nothing.
    let before = bridges.count(0, Counter::DropCommandUnknown);
    let source = "x".to_owned();
    let wrong = Command::SetRelayDemand { relay: known, endpoint: client, source, max_height: Limit::Unlimited };
    let call = &mut bridges.calls[0];
    call.forwarders[0].handle_command(call.now, wrong);
    let sources = Command::SetSources { endpoint: relay, sources: vec![audio_source("r-a0", 50)] };
    call.forwarders[0].handle_command(call.now, sources);
    assert_eq!(bridges.count(0, Counter::DropCommandUnknown), before + 2);
}

#[test]
fn an_ssrc_of_somebody_else_is_dropped_and_counted_apart() {
    let mut bridges = Bridges::new(1);
    let [side, other] = bridges.connect(0, 0, 0, &JICOFO.media());
    let client = bridges.calls[0].join(JICOFO.media(), vec![audio_source("c-a0", 50), video_source("c-v0", &[51, 52])]);
    let listener = bridges.calls[0].join(JICOFO.media(), vec![]);
    bridges.announce(side, source());
    bridges.announce(other, vec![audio_source("q-a0", 20), video_source("q-v0", &[21, 22])]);
    let key = keys(100).inbound;
    // Of a client here, of one behind the other relay: media and retransmission, first encoding and second.
    let foreign = [50, 51, 52, 1051, 1052, 20, 21, 22, 1021, 1022];
    for ssrc in foreign {
        bridges.arrive(side, &mut sealed(&key, &packet(JICOFO.opus, 1, 1, ssrc, &[5; 20])));
    }
    assert_eq!(bridges.count(0, Counter::DropRelayLooped), foreign.len() as u64);
    bridges.arrive(side, &mut sealed(&key, &packet(JICOFO.opus, 1, 1, 99, &[5; 20])));
    assert_eq!(bridges.count(0, Counter::DropUnknownSsrc), 1);
    assert!(bridges.calls[0].clients[listener].take_rtp().is_empty());
    assert!(bridges.calls[0].clients[client].take_rtp().is_empty());
    // Who is behind it is heard.
    bridges.arrive(side, &mut sealed(&key, &packet(JICOFO.opus, 1, 1, 10, &[5; 20])));
    assert_eq!(bridges.calls[0].clients[listener].take_rtp().len(), 1);
}

/// The largest height that anybody wants, here or behind relays of other meshes, is reported; nobody is asked by those of its own.
#[test]
fn demands_of_receivers_and_relays_are_one() {
    let mut bridges = Bridges::new(1);
    let [one, other] = bridges.connect(0, 0, 0, &JICOFO.media());
    let [third, _] = bridges.connect(0, 0, 1, &JICOFO.media());
    let client = bridges.calls[0].join(JICOFO.media(), vec![video_source("c-v0", &[51, 52])]);
    let client = bridges.calls[0].clients[client].id;
    let behind = bridges.announce(one, vec![video_source("p-v0", &[11])]);
    let demands = |bridges: &mut Bridges| -> Vec<(EndpointId, Limit)> {
        bridges.millis(200);
        let demand = |event| match event {
            Event::SourceDemand { endpoint, max_height, .. } => Some((endpoint, max_height)),
            _ => None,
        };
        bridges.take_events(0).into_iter().filter_map(demand).collect()
    };
    demands(&mut bridges);
    bridges.want(other, client, "c-v0", Limit::Max(360));
    assert_eq!(demands(&mut bridges), [(client, Limit::Max(360))]);
    bridges.want(third, client, "c-v0", Limit::Max(720));
    assert_eq!(demands(&mut bridges), [(client, Limit::Max(720))]);
    // Of its own mesh nobody is asked; by another mesh the relay is.
    bridges.want(other, behind, "p-v0", Limit::Max(1080));
    assert_eq!(demands(&mut bridges), []);
    bridges.want(third, behind, "p-v0", Limit::Max(720));
    assert_eq!(demands(&mut bridges), [(behind, Limit::Max(720))]);
    bridges.command(0, Command::ExpireEndpoint { endpoint: bridges.sides[third].relay });
    let mut lower = demands(&mut bridges);
    lower.sort();
    assert_eq!(lower, [(client, Limit::Max(360)), (behind, Limit::Max(180))]);
}

/// A relay and who is behind it say who speaks as a bridge with endpoints alone does; the relay itself never speaks.
#[test]
fn speakers_are_endpoints_wherever_they_are() {
    let mut bridges = Bridges::new(1);
    let [side, _] = bridges.connect(0, 0, 0, &JICOFO.media());
    let behind = bridges.announce(side, source());
    let key = keys(100).inbound;
    for n in 0..150u16 {
        let loud = with_extension(packet(JICOFO.opus, n, 960 * u32::from(n), 10, &[5; 20]), JICOFO.level, &[10]);
        bridges.arrive(side, &mut sealed(&key, &loud));
        bridges.millis(20);
    }
    let events = bridges.take_events(0);
    let mut spoke = events.into_iter().filter_map(|event| match event {
        Event::DominantSpeaker { recent, .. } => Some(recent),
        _ => None,
    });
    assert_eq!(spoke.next_back(), Some(vec![behind]));
}

/// A relay that falls silent is reported after 8 s; those behind it are the other bridge's affair.
#[test]
fn silence_of_a_relay_is_told() {
    let mut bridges = Bridges::new(1);
    let [side, other] = bridges.connect(0, 0, 0, &JICOFO.media());
    bridges.announce(side, source());
    bridges.take_events(0);
    bridges.millis(7_900);
    let activity = |bridges: &mut Bridges| -> Vec<(EndpointId, bool)> {
        let activity = |event| match event {
            Event::Activity { endpoint, active } => Some((endpoint, active)),
            _ => None,
        };
        bridges.take_events(0).into_iter().filter_map(activity).collect()
    };
    assert_eq!(activity(&mut bridges), []);
    bridges.millis(200);
    let mut silent = activity(&mut bridges);
    silent.sort();
    assert_eq!(silent, [side, other].map(|side| (bridges.sides[side].relay, false)));
    bridges.arrive(side, &mut sealed(&keys(100).inbound, &packet(JICOFO.opus, 1, 1, 10, &[5; 20])));
    assert_eq!(activity(&mut bridges), [(bridges.sides[side].relay, true)]);
}
