//! What operators ask of the focus: what it knows, pins to a version of bridges, moves away from a bridge.

mod focus_world;

use std::time::Duration;

use focus_world::*;
use ringbridge_controlplane::rest::{FocusAnswer, FocusAsk};
use serde_json::{Value, json};

const OTHER: &str = "other@conference.meet.test";

fn version(version: &str) -> [(&str, &str); 3] {
    [("version", version), ("drain", "false"), ("stress_level", "0.1")]
}

fn done(world: &mut World, what: FocusAsk) -> Value {
    match world.operate(what.clone()) {
        FocusAnswer::Done(value) => value,
        other => panic!("{what:?}: {other:?}"),
    }
}

fn pin(world: &mut World, room: &str, version: &str, minutes: u64) -> FocusAnswer {
    world.operate(FocusAsk::Pin { room: room.to_owned(), version: version.to_owned(), minutes })
}

fn moves(bridge: &str, room: Option<&str>, count: usize) -> FocusAsk {
    FocusAsk::MoveEndpoints { bridge: bridge.to_owned(), room: room.map(str::to_owned), count }
}

fn moved(endpoints: usize, conferences: usize) -> Value {
    json!({ "movedEndpoints": endpoints, "conferences": conferences })
}

/// Bridges by the number of endpoints that they have.
fn endpoints(world: &World) -> Vec<(String, u64)> {
    let stats = world.focus.debug();
    let mut by_bridge = std::collections::BTreeMap::new();
    for conference in stats.as_object().expect("rooms").values() {
        if let Some(bridge) = conference["bridge"].as_str() {
            *by_bridge.entry(bridge.rsplit('/').next().unwrap_or_default().to_owned()).or_insert(0) +=
                conference["participant_count"].as_u64().unwrap_or_default();
        }
    }
    by_bridge.into_iter().collect()
}

#[test]
fn a_pinned_rooms_next_conference_is_on_that_version_alone() {
    let mut world = World::new();
    world.add_bridge("old", &version("2.3"));
    world.add_bridge("new", &version("2.4"));
    assert_eq!(pin(&mut world, ROOM, "2.4", 10), FocusAnswer::Done(Value::Null));
    assert_eq!(pin(&mut world, OTHER, "2.3", 10), FocusAnswer::Done(Value::Null));
    let listed = done(&mut world, FocusAsk::Pins);
    assert_eq!(listed[1], json!({ "conferenceId": ROOM, "jvbVersion": "2.4", "expiresAt": "1970-01-01T00:10:00Z" }));
    for room in [ROOM, OTHER] {
        for nick in ["alice", "bob", "carol"] {
            world.join(room, nick, |_| {});
        }
    }
    assert_eq!(endpoints(&world), [("new".to_owned(), 3), ("old".to_owned(), 3)]);
    // A conference that runs stays where it is, and so does one whose bridge is lost with the last of its version.
    assert_eq!(pin(&mut world, ROOM, "2.3", 10), FocusAnswer::Done(Value::Null));
    world.join(ROOM, "dave", |_| {});
    assert_eq!(endpoints(&world), [("new".to_owned(), 4), ("old".to_owned(), 3)]);
    world.kill_bridge("new");
    assert!(world.says_no_bridge(ROOM), "it was pinned when it began");
    world.add_bridge("newer", &version("2.4"));
    assert_eq!(endpoints(&world), [("newer".to_owned(), 4), ("old".to_owned(), 3)]);
    // Its next one is on the version of the latest pin, if that still holds.
    for nick in ["alice", "bob", "carol", "dave"] {
        world.leave(ROOM, nick);
    }
    for nick in ["alice", "bob"] {
        world.join(ROOM, nick, |_| {});
    }
    assert_eq!(endpoints(&world), [("old".to_owned(), 5)]);
}

#[test]
fn pins_end_and_are_removed() {
    let mut world = World::new();
    world.add_bridge("old", &version("2.3"));
    for (room, version, minutes) in
        [("nonsense", "2.3", 1), ("", "2.3", 1), ("@c", "2.3", 1), (ROOM, "", 1), (ROOM, "2.3", u64::MAX)]
    {
        assert!(matches!(pin(&mut world, room, version, minutes), FocusAnswer::Bad(_)), "{room} {version} {minutes}");
    }
    assert_eq!(done(&mut world, FocusAsk::Pins), json!([]));
    pin(&mut world, ROOM, "2.4", 1);
    pin(&mut world, OTHER, "2.4", 1);
    done(&mut world, FocusAsk::Unpin { room: OTHER.to_owned() });
    done(&mut world, FocusAsk::Unpin { room: OTHER.to_owned() });
    assert!(matches!(world.operate(FocusAsk::Unpin { room: "x".into() }), FocusAnswer::Bad(_)));
    for room in [ROOM, OTHER] {
        for nick in ["alice", "bob"] {
            world.join(room, nick, |_| {});
        }
    }
    assert_eq!((world.says_no_bridge(ROOM), world.says_no_bridge(OTHER)), (true, false), "no bridge of version 2.4");
    for nick in ["alice", "bob"] {
        world.leave(ROOM, nick);
    }
    world.pass(60);
    assert_eq!(done(&mut world, FocusAsk::Pins), json!([]));
    for nick in ["alice", "bob"] {
        world.join(ROOM, nick, |_| {});
    }
    assert_eq!(endpoints(&world), [("old".to_owned(), 4)]);
}

/// Two bridges; the one called `full` has conferences of 4, 3 and 2.
fn loaded() -> World {
    let mut world = World::new();
    world.add_bridge("full", &version("2.3"));
    for (room, members) in [("r4", 4), ("r3", 3), ("r2", 2)] {
        for n in 0..members {
            world.join(&format!("{room}@conference.meet.test"), &format!("p{n}"), |_| {});
        }
        world.pass(30);
    }
    world.add_bridge("free", &version("2.3"));
    assert_eq!(endpoints(&world), [("full".to_owned(), 9)]);
    world
}

#[test]
fn endpoints_move_with_their_conferences() {
    let mut world = loaded();
    assert_eq!(done(&mut world, moves("full", None, 7)), moved(7, 2));
    assert_eq!(endpoints(&world), [("free".to_owned(), 7), ("full".to_owned(), 2)]);
    let client = world.client("r4@conference.meet.test", "p0");
    assert!(client.actions().contains(&"session-terminate") && client.last("session-initiate").sid == client.sid);
    // One endpoint is less than any conference: the smallest goes.
    assert_eq!(done(&mut world, moves("full", None, 1)), moved(2, 1));
    assert_eq!(endpoints(&world), [("free".to_owned(), 9)]);
    assert_eq!(done(&mut world, moves("full", None, 1)), moved(0, 0), "it is empty");
    // Back: a share, by the address in the brewery.
    world.pass(60);
    let fraction = FocusAsk::MoveFraction { bridge: format!("{BREWERY}/free"), fraction: 0.34 };
    assert_eq!(done(&mut world, fraction), moved(3, 1));
    let only = moves("free", Some("r2@conference.meet.test"), 100);
    assert_eq!(done(&mut world, only), moved(2, 1));
    assert_eq!(endpoints(&world), [("free".to_owned(), 4), ("full".to_owned(), 5)]);
    assert_eq!(done(&mut world, moves("free", None, 0)), moved(0, 0));
    assert_eq!(world.focus.stats(world.now)["bridge_failures"]["participants_moved"], 14);
}

#[test]
fn nobody_is_moved_where_there_is_nowhere_to_go() {
    let mut world = loaded();
    let before = world.client("r2@conference.meet.test", "p0").jingles.len();
    world.kill_bridge("free");
    assert_eq!(done(&mut world, moves("full", None, 9)), moved(0, 0));
    // One of another version does not suit a pinned conference.
    pin(&mut world, ROOM, "2.3", 10);
    for nick in ["alice", "bob"] {
        world.join(ROOM, nick, |_| {});
    }
    world.add_bridge("new", &version("2.4"));
    assert_eq!(done(&mut world, moves("full", Some(ROOM), 9)), moved(0, 0));
    assert_eq!(world.client("r2@conference.meet.test", "p0").jingles.len(), before, "not disturbed");
    assert_eq!(done(&mut world, moves("full", None, 9)), moved(9, 3));
    for (what, missing) in [
        (moves("nobody", None, 1), "Bridge"),
        (moves("full", Some(OTHER), 1), "Conference"),
        (FocusAsk::MoveFraction { bridge: String::new(), fraction: 1.0 }, "Bridge"),
        (FocusAsk::MoveEndpoint { room: OTHER.into(), endpoint: "p0".into(), bridge: None }, "Conference"),
        (FocusAsk::MoveEndpoint { room: ROOM.into(), endpoint: "alice".into(), bridge: Some("x".into()) }, "Bridge"),
    ] {
        assert_eq!(world.operate(what.clone()), FocusAnswer::NotFound(format!("{missing} not found")), "{what:?}");
    }
    assert!(matches!(world.operate(moves("full", Some("x"), 1)), FocusAnswer::Bad(_)));
}

#[test]
fn one_endpoint_gets_another_session() {
    let mut world = World::call(&["alice", "bob"]);
    let one = |endpoint: &str, bridge: Option<&str>| FocusAsk::MoveEndpoint {
        room: ROOM.to_owned(),
        endpoint: endpoint.to_owned(),
        bridge: bridge.map(str::to_owned),
    };
    let before = world.client(ROOM, "bob").sid.clone();
    assert_eq!(done(&mut world, one("bob", Some("jvb1"))), moved(1, 1));
    assert_ne!(world.client(ROOM, "bob").sid, before);
    assert_eq!(world.client(ROOM, "alice").offers(), 1);
    assert_eq!(done(&mut world, one("nobody", None)), moved(0, 0));
    world.add_bridge("jvb2", &version("2.3"));
    assert_eq!(done(&mut world, one("bob", Some("jvb2"))), moved(0, 0), "it is not there");
}

#[test]
fn what_the_focus_knows() {
    let mut world = World::call(&["alice", "bob"]);
    let answer = world.ask(
        "3f2a@meet.test/web",
        "set",
        &format!(
            "<conference xmlns='http://jitsi.org/protocol/focus' room='{OTHER}' machine-uid='1'>\
         <property name='rtcstatsEnabled' value='false'/></conference>"
        ),
    );
    assert!(answer.is_some());
    for nick in ["carol", "dave", "erin"] {
        world.join(OTHER, nick, |_| {});
    }
    assert_eq!(done(&mut world, FocusAsk::Conferences), json!([OTHER, ROOM]));
    let short = done(&mut world, FocusAsk::Debug { full: false });
    assert_eq!(short["focus_manager"], json!({ OTHER: 3, ROOM: 2 }));
    assert_eq!(short["bridge_selector"]["bridge"][format!("{BREWERY}/jvb1")]["operational"], true);
    let full = done(&mut world, FocusAsk::Debug { full: true });
    assert_eq!(full["focus_manager"], done(&mut world, FocusAsk::ConferencesInFull));
    let one = done(&mut world, FocusAsk::Conference(ROOM.to_owned()));
    assert_eq!((&one["name"], &one["participant_count"]), (&json!(ROOM), &json!(2)));
    assert_eq!(one["participants"]["alice"]["stage"], "Active");
    assert_eq!(done(&mut world, FocusAsk::Conference("none@conference.meet.test".into())), json!({}));
    assert!(matches!(world.operate(FocusAsk::Conference("none".into())), FocusAnswer::Bad(_)));
    // By meeting id, of those alone whose clients allow it.
    let collected = done(&mut world, FocusAsk::Rtcstats);
    let collected = collected.as_object().expect("an object");
    assert_eq!(collected.len(), 1);
    let id = one["meeting_id"].as_str().expect("an id");
    assert_eq!(collected[id]["name"], ROOM);
    world.leave(ROOM, "alice");
    world.leave(ROOM, "bob");
    world.wait(Duration::from_secs(1));
    assert_eq!(done(&mut world, FocusAsk::Rtcstats), json!({}));
}

#[test]
fn clients_are_counted_by_what_they_can_do() {
    let mut world = World::call(&["alice", "bob"]);
    let caps = |world: &mut World| done(world, FocusAsk::Caps);
    let node = format!("https://jitsi.org/jitsi-meet#{HASH}");
    let features = ["AUDIO", "VIDEO", "SCTP", "RTX", "REMB", "TCC", "JSON_SOURCES"];
    assert_eq!(caps(&mut world), json!({ (node.clone()): { "count": 2, "features": features } }));
    // Who claims that hash and has other features proves nothing.
    world.join("other@conference.meet.test", "mallory", |client| {
        client.hash = "made+up";
        client.features = vec!["urn:xmpp:jingle:apps:rtp:audio"];
    });
    world.join("other@conference.meet.test", "carol", |_| {});
    assert_eq!(caps(&mut world), json!({ (node): { "count": 3, "features": features } }));
}
