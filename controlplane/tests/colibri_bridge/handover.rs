//! The state machine in another process: what it goes on with, and what it does not believe.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ringbridge_controlplane::colibri::state::StateError;
use ringbridge_dataplane::media::VideoType;

use super::fixture::*;

impl Fixture {
    /// The same bridge in another process, `later`.
    fn handed_over(&self, later: Duration) -> Self {
        let bytes = self.bridge.export(self.now).expect("it is written");
        let now = self.now + later;
        let bridge = ColibriBridge::import(now, self.config.clone(), &bytes).expect("it is read");
        Self { bridge, config: self.config.clone(), now }
    }
}

/// Two endpoints, one of them with all that can be signalled.
fn busy() -> Fixture {
    let mut fixture = Fixture::with_endpoint();
    fixture.send(&join("m", false, "b")).unwrap();
    let rich = format!(
        "{OPUS}{}<force-mute audio='true'/><transport><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='theirs' \
         pwd='their-password'><fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='active'>AA:BB</fingerprint>\
         </transport></transport>",
        sources("a", 7)
    );
    fixture.send(&update("a", &rich)).unwrap();
    fixture.bridge.set_video_type(EndpointId(1), "a-v0", VideoType::Desktop);
    fixture.bridge.handle_ice(fixture.now, EndpointId(1), IceState::Connected);
    fixture.outputs();
    fixture
}

fn created(commands: &[Command]) -> Vec<EndpointId> {
    commands
        .iter()
        .filter_map(|c| if let Command::CreateEndpoint(new) = c { Some(new.endpoint) } else { None })
        .collect()
}

#[test]
fn later_requests_find_what_was_signalled_before() {
    let mut fixture = busy().handed_over(Duration::from_secs(3));
    assert_eq!((fixture.bridge.endpoint_count(), fixture.bridge.meeting_of(EndpointId(1))), (2, Some("m")));
    assert_eq!(fixture.commands(), [], "the workers know all of it");
    // What is said again changes nothing; what is new does.
    fixture.send(&update("a", &format!("{OPUS}{}<force-mute audio='true'/>", sources("a", 7)))).unwrap();
    assert_eq!(fixture.commands(), []);
    fixture.send(&update("a", &sources("a", 8))).unwrap();
    assert!(matches!(&fixture.commands()[..], [Command::SetSources { endpoint: EndpointId(1), .. }]));
    // Ids go on counting, also those of endpoints that had left.
    fixture.send("<conference-modify meeting-id='m'><endpoint id='b' expire='true'/></conference-modify>").unwrap();
    fixture.commands();
    let mut fixture = fixture.handed_over(Duration::ZERO);
    fixture.send(&join("m", false, "c")).unwrap();
    assert_eq!(created(&fixture.commands()), [EndpointId(3)]);
    let totals = fixture.bridge.totals();
    assert_eq!((totals.endpoints, totals.endpoints_created, totals.conferences_created), (2, 3, 1));
    // The end of the conference is one for the workers.
    fixture.send("<conference-modify meeting-id='m' expire='true'/>").unwrap();
    assert!(matches!(&fixture.commands()[..], [Command::ExpireConference { .. }]));
    assert_eq!(fixture.bridge.totals().conferences_completed, 1);
}

#[test]
fn a_restart_of_ice_under_way_ends_where_it_was_handed_over() {
    let mut fixture = busy();
    let restart = "<transport ice-restart='true'/>";
    let asked = |fixture: &mut Fixture| {
        let reply = fixture.send(&update("a", restart)).unwrap();
        reply.endpoints[0].transport.as_ref().and_then(|t| t.ice.as_ref()).and_then(|ice| ice.ufrag.clone())
    };
    let ufrag = asked(&mut fixture);
    fixture.outputs();
    let mut fixture = fixture.handed_over(Duration::from_millis(80));
    assert!(ufrag.is_some() && asked(&mut fixture) == ufrag, "not answered yet: the same again");
    fixture.outputs();
    let outcome = ringbridge_dataplane::ice::RestartOutcome::Connected;
    fixture.bridge.handle_ice_restart(fixture.now, EndpointId(1), 1, outcome);
    assert_eq!(fixture.bridge.totals().ice_restarts.succeeded, 1);
    assert!(asked(&mut fixture) != ufrag, "the next one is another");
}

#[test]
fn who_is_silent_expires_when_it_would_have() {
    let mut fixture = busy();
    fixture.bridge.handle_activity(fixture.now, EndpointId(1), false);
    fixture.pass(30);
    let mut fixture = fixture.handed_over(Duration::from_millis(50));
    assert_eq!(created(&fixture.pass(29)), []);
    assert_eq!(fixture.bridge.endpoint_count(), 2);
    fixture.pass(61);
    assert_eq!(fixture.bridge.meeting_of(EndpointId(1)), None, "silent for more than a minute");
}

#[test]
fn relays_and_those_behind_them_are_carried() {
    let mut fixture = Fixture::linked(2, 1, Capacity::default());
    fixture.send(&join("m", true, "a")).unwrap();
    fixture.send(&join("m", false, "b")).unwrap();
    let behind = "<endpoints><endpoint id='z' create='true'/></endpoints>";
    let relay = format!(
        "<conference-modify meeting-id='m'><relay id='other' mesh-id='0' create='true'><transport/>{behind}</relay></conference-modify>"
    );
    fixture.send(&relay).unwrap();
    fixture.outputs();
    let mut fixture = fixture.handed_over(Duration::ZERO);
    let totals = fixture.bridge.totals();
    assert_eq!((totals.endpoints, totals.relays, totals.endpoints_relayed), (2, 1, 1));
    // Somebody who moves here leaves there, under a number that nobody had.
    fixture.send(&join("m", false, "z")).unwrap();
    let commands = fixture.commands();
    assert!(commands.contains(&Command::ExpireEndpoint { endpoint: EndpointId(4) }), "{commands:?}");
    assert_eq!(created(&commands), [EndpointId(5)]);
    fixture.send("<conference-modify meeting-id='m'><relay id='other' expire='true'/></conference-modify>").unwrap();
    assert_eq!(fixture.bridge.totals().relays, 0);
    // Under another name the other bridges would not know it.
    let mut fixture = Fixture::linked(2, 1, Capacity::default());
    fixture.send(&join("m", true, "a")).unwrap();
    fixture.send(&relay).unwrap();
    fixture.outputs();
    let bytes = fixture.bridge.export(fixture.now).unwrap();
    let renamed = ColibriConfig { relay: Some(RelaySettings { id: "new".to_owned(), ports: None }), ..fixture.config };
    let refused = ColibriBridge::import(fixture.now, renamed, &bytes).unwrap_err();
    assert!(
        matches!(&refused, StateError::RelayId { .. }) && refused.to_string().contains("keep the relay id"),
        "{refused}"
    );
}

#[test]
fn other_workers_are_refused_and_other_limits_are_not() {
    let fixture = busy();
    let bytes = fixture.bridge.export(fixture.now).unwrap();
    let refused = ColibriBridge::import(fixture.now, ColibriConfig { workers: 2, ..fixture.config.clone() }, &bytes);
    assert_eq!(refused.unwrap_err(), StateError::Workers { carried: 1, here: 2 });
    let small = Capacity { endpoints_per_worker: 1, endpoints_per_conference: 1, ..Capacity::default() };
    let config = ColibriConfig { capacity: small, spill_endpoints: 1, ..fixture.config.clone() };
    let bridge = ColibriBridge::import(fixture.now, config, &bytes).expect("those who are there stay");
    assert!(!bridge.has_room() && bridge.endpoint_count() == 2);
}

/// Bytes that somebody changed: refused, or as consistent as any other state.
#[test]
fn changed_bytes_are_refused_or_taken_for_what_they_say() {
    let mut linked = Fixture::linked(1, 50, Capacity::default());
    linked.send(&join("m", true, "a")).unwrap();
    linked
        .send("<conference-modify meeting-id='m'><relay id='r' mesh-id='0' create='true'><transport/><endpoints><endpoint id='z' \
               create='true'/></endpoints></relay></conference-modify>")
        .unwrap();
    linked.outputs();
    let (mut taken, mut refused) = (0, 0);
    let mut random = StdRng::seed_from_u64(21);
    for fixture in [busy(), linked] {
        let bytes = fixture.bridge.export(fixture.now).unwrap();
        for _ in 0..3_000 {
            let mut changed = bytes.to_vec();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..changed.len());
                match random.random_range(0..4) {
                    0 => changed.truncate(at.max(1)),
                    1 => changed.insert(at, random.random()),
                    _ => changed[at] ^= 1 << random.random_range(0..8),
                }
            }
            let Ok(bridge) = ColibriBridge::import(fixture.now, fixture.config.clone(), &changed) else {
                refused += 1;
                continue;
            };
            taken += 1;
            let mut other = Fixture { bridge, config: fixture.config.clone(), now: fixture.now };
            assert_eq!(other.bridge.inconsistency(), None);
            let _ = other.send(&join("m", false, "new"));
            let _ = other.send(&join("n", true, "new"));
            other.outputs();
            other.pass(200);
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
}
