//! Calls out, transcribers and callers: scripted Jigasis, a clock of the test's own.

mod focus_world;

use focus_world::{FOCUS, HEAD, ROOM, World, condition, settings};
use ringbridge_controlplane::focus::FocusSettings;
use tokio_xmpp::minidom::Element;

const GATEWAYS: &str = "jigasibrewery@internal.auth.meet.test";
const RAYO: &str = "urn:xmpp:rayo:1";
const REAL: &str = "jigasi@auth.meet.test/x";

fn dialing() -> FocusSettings {
    FocusSettings {
        jigasi_brewery: Some(GATEWAYS.parse().unwrap()),
        trusted_domains: vec!["hidden.meet.test".parse().unwrap()],
        ..settings()
    }
}

/// A room with a moderator and a guest, on a bridge in Europe.
fn world() -> World {
    let mut world = World::with(dialing());
    world.add_bridge("jvb1", &[("region", "eu")]);
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    world
}

fn gateway(n: u32) -> String {
    format!("{GATEWAYS}/jigasi{n}")
}

fn stats(all: &[(&str, &str)]) -> String {
    let stats: String = all.iter().map(|(name, value)| format!("<stat name='{name}' value='{value}'/>")).collect();
    format!("<stats xmlns='http://jitsi.org/protocol/colibri'>{stats}</stats>")
}

fn add(world: &mut World, n: u32, all: &[(&str, &str)], answers: Vec<(&'static str, String)>) {
    world.instance(&gateway(n), REAL, &stats(all)).answers = answers;
}

const SIP: &[(&str, &str)] = &[("supports_sip", "true")];

fn called(uri: &str) -> Vec<(&'static str, String)> {
    vec![("result", format!("<ref xmlns='{RAYO}' uri='xmpp:{uri}'/>"))]
}

fn error() -> Vec<(&'static str, String)> {
    let xml = "<error type='wait'><internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    vec![("error", xml.to_owned())]
}

fn dial(to: &str) -> String {
    format!("<dial xmlns='{RAYO}' from='fromnumber' to='{to}'><header name='JvbRoomName' value='{ROOM}'/></dial>")
}

fn ask(world: &mut World, nick: &str, xml: &str) -> Option<Element> {
    world.ask(&format!("{ROOM}/{nick}"), "set", xml)
}

fn uri(answer: &Element) -> Option<String> {
    answer.get_child("ref", RAYO)?.attr("uri").map(str::to_owned)
}

fn refused(world: &World) -> u64 {
    world.focus.stats(world.now)["refused"]["dial"].as_u64().unwrap()
}

fn asked(world: &World, n: u32) -> usize {
    world.instances[&gateway(n)].asked.len()
}

#[test]
fn a_call_goes_to_a_gateway_and_its_answer_comes_back() {
    let mut world = world();
    add(&mut world, 1, SIP, called("call1@gw"));
    let answer = ask(&mut world, "alice", &dial("+4930")).expect("an answer");
    assert_eq!(uri(&answer).as_deref(), Some("xmpp:call1@gw"));
    assert_eq!(answer.attr("to"), Some(format!("{ROOM}/alice").as_str()));
    let (_, passed) = &world.instances[&gateway(1)].asked[0];
    assert_eq!((passed.attr("to"), passed.attr("from")), (Some("+4930"), Some("fromnumber")));
    assert_eq!(passed.children().next().unwrap().attr("value"), Some(ROOM));
}

#[test]
fn the_gateway_that_fits_best_is_asked() {
    let mut world = world();
    add(&mut world, 1, &[("supports_sip", "true"), ("participants", "3")], called("a"));
    add(&mut world, 2, &[("supports_sip", "true"), ("participants", "2")], called("a"));
    add(&mut world, 3, &[("supports_sip", "true"), ("graceful_shutdown", "true")], called("a"));
    add(&mut world, 4, &[("supports_transcription", "true")], called("a"));
    ask(&mut world, "alice", &dial("1")).unwrap();
    assert_eq!([1, 2, 3, 4].map(|n| asked(&world, n)), [0, 1, 0, 0], "the least loaded that can");
    add(&mut world, 5, &[("supports_sip", "true"), ("participants", "90"), ("region", "eu")], called("a"));
    ask(&mut world, "alice", &dial("1")).unwrap();
    assert_eq!(asked(&world, 5), 1, "in the bridge's region");
    ask(&mut world, "alice", &dial("jitsi_meet_transcribe")).unwrap();
    assert_eq!(asked(&world, 4), 1, "one that transcribes");
}

#[test]
fn failing_silent_and_lost_gateways_are_passed_over() {
    let mut world = world();
    add(&mut world, 1, SIP, error());
    add(&mut world, 2, SIP, called("call2"));
    let answer = ask(&mut world, "alice", &dial("1")).unwrap();
    assert_eq!(uri(&answer).as_deref(), Some("xmpp:call2"));

    add(&mut world, 1, SIP, Vec::new());
    assert_eq!(ask(&mut world, "alice", &dial("2")), None, "the first is silent");
    let (late, _) = world.instances[&gateway(1)].asked.last().unwrap().clone();
    world.pass(16);
    assert_eq!(world.replies.values().filter_map(uri).count(), 2, "the second is asked");
    // The first answers after all: the client has its answer.
    let before = world.replies.len();
    world.feed(&format!("<iq xmlns='jabber:client' type='result' id='{late}' from='{}' to='{FOCUS}'/>", gateway(1)));
    assert_eq!(world.replies.len(), before);

    assert_eq!(ask(&mut world, "alice", &dial("3")), None);
    world.lose_instance(&gateway(1));
    assert_eq!(world.replies.values().filter_map(uri).count(), 3, "at once");
    assert_eq!(world.focus.stats(world.now)["jigasi"]["retries"], 3);
    assert_eq!(refused(&world), 0);
}

#[test]
fn why_a_call_fails() {
    let mut world = world();
    let why = |world: &mut World, xml: &str| condition(&ask(world, "alice", xml).expect("an answer"));
    assert_eq!(why(&mut world, &dial("1")).as_deref(), Some("service-unavailable"), "no gateway");
    for n in 1..=4 {
        add(&mut world, n, SIP, error());
    }
    assert_eq!(why(&mut world, &dial("1")).as_deref(), Some("undefined-condition"));
    assert_eq!((1..=4).map(|n| asked(&world, n)).sum::<usize>(), 3, "one and two others");
    for n in 1..=4 {
        add(&mut world, n, SIP, Vec::new());
    }
    assert_eq!(ask(&mut world, "alice", &dial("1")), None);
    world.pass(46);
    let conditions: Vec<_> = world.replies.values().filter_map(condition).collect();
    assert!(conditions.contains(&"remote-server-timeout".to_owned()), "{conditions:?}");
    for n in 2..=4 {
        world.lose_instance(&gateway(n));
    }
    add(&mut world, 1, SIP, error());
    assert_eq!(why(&mut world, &dial("1")).as_deref(), Some("service-unavailable"), "no other");
    let other = dial("1").replace(ROOM, "other@conference.meet.test");
    assert_eq!(why(&mut world, &other).as_deref(), Some("forbidden"), "another's room");
    let nobody = format!("<dial xmlns='{RAYO}'/>");
    assert_eq!(why(&mut world, &nobody).as_deref(), Some("bad-request"));
    assert_eq!(refused(&world), 6);
    assert_eq!(world.focus.stats(world.now)["jigasi"]["waiting"], 0);
}

#[test]
fn a_stranger_can_call_nobody() {
    let mut world = world();
    add(&mut world, 1, SIP, called("a"));
    for (from, expected) in [
        (format!("{ROOM}/bob"), "forbidden"),
        (format!("{ROOM}/nobody"), "forbidden"),
        ("3f2a@meet.test/web".to_owned(), "item-not-found"),
        ("other@conference.meet.test/alice".to_owned(), "item-not-found"),
        (gateway(1), "item-not-found"),
    ] {
        let before = refused(&world);
        let answer = world.ask(&from, "set", &dial("1")).unwrap();
        assert_eq!(condition(&answer).as_deref(), Some(expected), "{from}");
        assert_eq!(refused(&world), before + 1, "{from}");
    }
    assert!(condition(&world.ask(&format!("{ROOM}/alice"), "get", &dial("1")).unwrap()).is_some());
    assert_eq!(asked(&world, 1), 0);
    // Who announces itself without an account is never asked.
    world.lose_instance(&gateway(1));
    world.instance(&gateway(2), "guest@meet.test/x", &stats(SIP));
    let answer = ask(&mut world, "alice", &dial("1")).unwrap();
    assert_eq!(condition(&answer).as_deref(), Some("service-unavailable"));
    assert_eq!(world.focus.stats(world.now)["refused"]["false_instance"], 1);
    // Nor does anybody answer in a gateway's place.
    add(&mut world, 3, SIP, Vec::new());
    assert_eq!(ask(&mut world, "alice", &dial("1")), None);
    let (id, _) = world.instances[&gateway(3)].asked[0].clone();
    world.feed(&format!("<iq xmlns='jabber:client' type='result' id='{id}' from='{ROOM}/bob' to='{FOCUS}'/>"));
    assert_eq!(world.focus.stats(world.now)["jigasi"]["waiting"], 1);
}

#[test]
fn where_there_is_no_brewery_nobody_is_told_of_calls() {
    let says = |world: &mut World| {
        let answer = world.request_conference(ROOM).unwrap();
        let conference = answer.children().next().unwrap().clone();
        conference.children().any(|property| property.attr("name") == Some("sipGatewayEnabled"))
    };
    assert!(says(&mut world()));
    let mut without = World::with(settings());
    without.join(ROOM, "alice", |_| {});
    assert!(!says(&mut without));
    let answer = ask(&mut without, "alice", &dial("1")).unwrap();
    assert_eq!(condition(&answer).as_deref(), Some("service-unavailable"));
}

#[test]
fn who_calls_in_is_let_in_and_offered_no_video() {
    let mut world = World::with(dialing());
    world.add_bridge("jvb1", &[]);
    let jigasi = (ROOM.to_owned(), "caller".to_owned());
    let features = "<features><feature var='http://jitsi.org/protocol/jigasi'/></features>";
    world.extras.insert(jigasi, features.to_owned());
    world.join(ROOM, "caller", |client| {
        client.real = "jigasi@hidden.meet.test/x".to_owned();
        client.hash = "another";
        client.features = HEAD.iter().copied().filter(|feature| !feature.ends_with(":video")).collect();
    });
    assert!(world.admin.is_empty(), "a telephone owns no room");
    world.join(ROOM, "alice", |_| {});
    assert_eq!(world.admin.len(), 1);
    let of_alice = world.client(ROOM, "alice").real.split('/').next().unwrap().to_owned();
    assert_eq!(world.admin[0].children().next().unwrap().attr("jid"), Some(of_alice.as_str()));
    let contents = |world: &mut World, nick: &str| -> Vec<String> {
        let offer = world.client(ROOM, nick).last("session-initiate").clone();
        offer.contents.iter().filter_map(|content| content.name.clone()).collect()
    };
    assert_eq!(contents(&mut world, "caller"), ["audio"]);
    assert_eq!(contents(&mut world, "alice"), ["audio", "video"]);
    assert_eq!(world.client(ROOM, "caller").actions(), ["session-initiate", "source-add"]);
    let told = focus_world::owners(world.client(ROOM, "caller").last("source-add"));
    assert_eq!(told["alice"][0], serde_json::json!([]), "no video of others: {told:?}");
    // One who only says that it is a gateway is a person.
    let mut world = World::with(dialing());
    world.extras.insert((ROOM.to_owned(), "mallory".to_owned()), features.to_owned());
    world.join(ROOM, "mallory", |_| {});
    assert_eq!(world.admin.len(), 1);
}

#[test]
fn one_transcriber_is_enough() {
    let mut world = world();
    add(&mut world, 1, &[("supports_transcription", "true")], called("t"));
    let features = "<features><feature var='http://jitsi.org/protocol/transcriber'/></features>";
    let (fake, real) = ("fake".to_owned(), "transcriber".to_owned());
    world.extras.insert((ROOM.to_owned(), fake), features.to_owned());
    world.extras.insert((ROOM.to_owned(), real), features.to_owned());
    world.join(ROOM, "fake", |_| {});
    let answer = ask(&mut world, "alice", &dial("jitsi_meet_transcribe")).unwrap();
    assert_eq!(uri(&answer).as_deref(), Some("xmpp:t"), "a guest who says so transcribes nothing");
    world.join(ROOM, "transcriber", |client| client.real = "transcriber@hidden.meet.test/x".to_owned());
    let answer = ask(&mut world, "alice", &dial("jitsi_meet_transcribe")).unwrap();
    assert_eq!(condition(&answer).as_deref(), Some("conflict"));
}

#[test]
fn calls_that_wait_are_bounded() {
    let mut world = world();
    add(&mut world, 1, SIP, Vec::new());
    let answers: Vec<_> = (0..30).filter_map(|_| ask(&mut world, "alice", &dial("1"))).collect();
    assert_eq!(answers.len(), 10);
    assert!(answers.iter().all(|answer| condition(answer).as_deref() == Some("resource-constraint")));
}
