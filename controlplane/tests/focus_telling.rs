//! Media waits until its source was signalled to a client, where the bridge is ours: the order in which focus, bridge and clients
//! hear of sources.

mod focus_world;

use std::time::Duration;

use focus_world::*;
use ringbridge_controlplane::colibri::elements::{ConferenceModify, Parameter};
use ringbridge_controlplane::jingle::Jingle;

fn world() -> World {
    let mut world = World::new();
    world.add_bridge("jvb1", &[("ringbridge", "0.1.0")]);
    world
}

/// What an endpoint is held back from, by everything that was sent to the bridge so far.
fn held(world: &mut World, endpoint: &str) -> Vec<String> {
    let latest = |request: &ConferenceModify| {
        let unsignalled = request.endpoints.iter().find(|e| e.id == endpoint)?.unsignalled.clone()?;
        Some(unsignalled.sources.into_iter().map(|source| source.name).collect())
    };
    world.bridge("jvb1").requests.iter().rev().find_map(latest).unwrap_or_default()
}

/// Whether the bridge heard that `receiver` is to wait for `source` before it heard of the source.
fn held_in_time(world: &mut World, receiver: &str, owner: &str, source: &str) -> bool {
    let requests = &world.bridge("jvb1").requests;
    let waits = |request: &ConferenceModify| {
        request.endpoints.iter().any(|e| {
            e.id == receiver && e.unsignalled.as_ref().is_some_and(|u| u.sources.iter().any(|held| held.name == source))
        })
    };
    let has = |request: &ConferenceModify| {
        let of = request.endpoints.iter().filter(|e| e.id == owner).filter_map(|e| e.sources.as_ref());
        of.flat_map(|sources| &sources.media_sources).any(|media| media.id == source)
    };
    let (wait, source) = (requests.iter().position(waits), requests.iter().position(has));
    wait.is_some_and(|wait| source.is_some_and(|source| wait < source))
}

fn accept(world: &mut World, nick: &str) {
    let accept = world.accept_of(ROOM, nick);
    assert_eq!(world.jingle(ROOM, nick, accept), None);
}

fn source_add(world: &mut World, nick: &str, ssrc: u32, name: &str) {
    let mut added = source(nick, ssrc, "audio", true);
    added.name = Some(name.to_owned());
    let sid = world.client(ROOM, nick).sid.clone();
    let jingle = Jingle { contents: vec![content("audio", vec![added])], ..Jingle::new("source-add", &sid) };
    assert_eq!(world.jingle(ROOM, nick, jingle), None);
}

const OF_BOB: [&str; 2] = ["bob-a0", "bob-v0"];

#[test]
fn who_is_in_the_call_is_told_before_a_newcomers_media_comes() {
    let mut world = world();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |bob| bob.accepts = false);
    world.client(ROOM, "alice").acknowledges = false;
    accept(&mut world, "bob");
    assert!(world.client(ROOM, "alice").actions().contains(&"source-add"), "signalled at once");
    assert_eq!(held(&mut world, "alice"), OF_BOB);
    for name in OF_BOB {
        assert!(held_in_time(&mut world, "alice", "bob", name), "{name}");
    }
    // Its acknowledgement took half a second: it is busy, and has another one and a bit before it gets sound. The picture has
    // to begin with a keyframe, and takes a moment of its own.
    world.wait(Duration::from_millis(500));
    world.acknowledge(ROOM, "alice");
    world.wait(Duration::from_millis(1));
    assert_eq!(held(&mut world, "alice"), ["bob-a0"]);
    world.wait(Duration::from_millis(900));
    assert_eq!(held(&mut world, "alice"), ["bob-a0"]);
    world.wait(Duration::from_millis(250));
    assert_eq!(held(&mut world, "alice"), [""; 0]);
}

/// Alice, who accepted her offer as Firefox does, has not acknowledged bob's sources yet.
fn bob_is_signalled_to_a_firefox() -> World {
    let mut world = world();
    world.join(ROOM, "alice", |alice| alice.accepts = false);
    world.join(ROOM, "bob", |bob| bob.accepts = false);
    let mut of_alice = world.accept_of(ROOM, "alice");
    let video = of_alice.contents.iter_mut().filter_map(|content| content.description.as_mut());
    let formats =
        video.filter(|media| media.media.as_deref() == Some("video")).flat_map(|media| &mut media.payload_types);
    for format in formats.filter(|format| format.name.as_deref() == Some("VP8")) {
        format.parameters.push(Parameter { name: Some("max-fs".to_owned()), value: Some("12288".to_owned()) });
    }
    assert_eq!(world.jingle(ROOM, "alice", of_alice), None);
    world.client(ROOM, "alice").acknowledges = false;
    accept(&mut world, "bob");
    world
}

/// With the one place for video of its own camera Firefox takes whatever comes for that; with more it does not guess.
#[test]
fn the_first_picture_waits_for_firefox_as_sound_does() {
    let mut world = bob_is_signalled_to_a_firefox();
    world.wait(Duration::from_millis(500));
    world.acknowledge(ROOM, "alice");
    world.wait(Duration::from_millis(900));
    assert_eq!(held(&mut world, "alice"), OF_BOB);
    world.wait(Duration::from_millis(250));
    assert_eq!(held(&mut world, "alice"), [""; 0]);
    world.join(ROOM, "carol", |_| {});
    world.wait(Duration::from_millis(500));
    world.acknowledge(ROOM, "alice");
    world.wait(Duration::from_millis(1));
    assert_eq!(held(&mut world, "alice"), ["carol-a0"]);
}

/// It has no place for video before it did what the first signalling says.
#[test]
fn a_second_picture_waits_for_firefox_while_the_first_one_does() {
    let mut world = bob_is_signalled_to_a_firefox();
    world.wait(Duration::from_millis(200));
    world.join(ROOM, "carol", |_| {});
    world.wait(Duration::from_millis(300));
    let all = ["bob-a0", "bob-v0", "carol-a0", "carol-v0"];
    assert_eq!(held(&mut world, "alice"), all);
    // Both at once, after 500 and 300 ms.
    world.acknowledge(ROOM, "alice");
    world.wait(Duration::from_millis(600));
    assert_eq!(held(&mut world, "alice"), all);
    world.wait(Duration::from_millis(600));
    assert_eq!(held(&mut world, "alice"), [""; 0]);
}

/// Both get their offers at once, and neither holds the other's sources: to whoever accepts last, the first is signalled afterwards.
#[test]
fn a_newcomer_waits_for_what_its_offer_did_not_say() {
    let mut world = world();
    world.join(ROOM, "alice", |alice| alice.accepts = false);
    world.join(ROOM, "bob", |bob| bob.accepts = false);
    accept(&mut world, "alice");
    assert_eq!(held(&mut world, "bob"), [""; 0], "not before its transport can carry anything");
    let before = world.bridge("jvb1").requests.len();
    accept(&mut world, "bob");
    let after = &world.bridge("jvb1").requests[before..];
    let waits =
        after.iter().position(|request| request.endpoints.iter().any(|e| e.id == "bob" && e.unsignalled.is_some()));
    let connects =
        after.iter().position(|request| request.endpoints.iter().any(|e| e.id == "bob" && e.transport.is_some()));
    assert!(waits < connects && waits.is_some(), "{after:?}");
    assert!(world.client(ROOM, "bob").actions().contains(&"source-add"));
    // Where the client is quick, and says so, nothing is lost: its connection takes longer.
    world.wait(Duration::from_millis(150));
    assert_eq!((held(&mut world, "bob").len(), held(&mut world, "alice").len()), (0, 0));
}

#[test]
fn what_the_offer_said_does_not_wait() {
    let mut world = world();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    world.wait(Duration::from_secs(1));
    let before = world.bridge("jvb1").requests.len();
    world.join(ROOM, "carol", |_| {});
    let requests = &world.bridge("jvb1").requests[before..];
    let of_carol = requests.iter().flat_map(|r| &r.endpoints).filter(|e| e.id == "carol" && e.unsignalled.is_some());
    assert_eq!(of_carol.count(), 0, "its offer named alice and bob");
    assert_eq!(held(&mut world, "bob"), ["carol-a0", "carol-v0"]);
}

#[test]
fn a_source_that_is_added_later_waits_alone() {
    let mut world = world();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    world.wait(Duration::from_secs(1));
    assert_eq!(held(&mut world, "bob"), [""; 0]);
    world.client(ROOM, "bob").acknowledges = false;
    source_add(&mut world, "alice", 77_777, "alice-a1");
    assert_eq!(held(&mut world, "bob"), ["alice-a1"], "what it knows goes on");
    assert!(held_in_time(&mut world, "bob", "alice", "alice-a1"));
    // One that says nothing gets media all the same, after three seconds.
    world.wait(Duration::from_millis(2_900));
    assert_eq!(held(&mut world, "bob"), ["alice-a1"]);
    world.wait(Duration::from_millis(200));
    assert_eq!(held(&mut world, "bob"), [""; 0]);
    // The answer to what was signalled long ago changes nothing.
    world.acknowledge(ROOM, "bob");
    assert_eq!(held(&mut world, "bob"), [""; 0]);
}

#[test]
fn who_left_meanwhile_or_began_anew_is_not_waited_for() {
    let mut world = world();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |bob| bob.acknowledges = false);
    world.join(ROOM, "carol", |_| {});
    assert!(held(&mut world, "bob").contains(&"carol-a0".to_owned()));
    world.leave(ROOM, "bob");
    let before = world.bridge("jvb1").requests.len();
    world.wait(Duration::from_secs(4));
    let about_bob = world.bridge("jvb1").requests[before..].iter().flat_map(|r| &r.endpoints).filter(|e| e.id == "bob");
    assert_eq!(about_bob.count(), 0);
    // A new session knows everything from its offer.
    world.client(ROOM, "alice").acknowledges = false;
    source_add(&mut world, "carol", 88_888, "carol-a1");
    assert_eq!(held(&mut world, "alice"), ["carol-a1"]);
    world.kill_bridge("jvb1");
    world.add_bridge("jvb1", &[("ringbridge", "0.1.0")]);
    world.pass(6);
    assert_eq!(held(&mut world, "alice"), [""; 0]);
}

/// A foreign bridge gets nothing of it, and to clients with SSRC rewriting the bridge announces sources.
#[test]
fn only_our_own_bridge_and_only_clients_that_we_tell() {
    let mut foreign = World::new();
    foreign.add_bridge("jvb1", &[]);
    for nick in ["alice", "bob"] {
        foreign.join(ROOM, nick, |_| {});
    }
    let unsignalled = |world: &mut World| {
        world.bridge("jvb1").requests.iter().flat_map(|r| &r.endpoints).filter(|e| e.unsignalled.is_some()).count()
    };
    assert_eq!(unsignalled(&mut foreign), 0);
    let mut world = world();
    for nick in ["alice", "bob"] {
        world.join(ROOM, nick, |client| {
            client.features.push("http://jitsi.org/ssrc-rewriting-1");
            client.hash = "";
        });
    }
    assert_eq!(unsignalled(&mut world), 0);
}

#[test]
fn forty_members_are_told_and_released_in_few_requests() {
    let mut world = world();
    for number in 0..40 {
        world.join(ROOM, &format!("m{number:02}"), |_| {});
        world.wait(Duration::from_millis(100));
    }
    world.pass(4);
    let before = world.bridge("jvb1").requests.len();
    world.join(ROOM, "zoe", |_| {});
    world.pass(4);
    let requests = &world.bridge("jvb1").requests[before..];
    let waits: Vec<usize> =
        requests.iter().map(|r| r.endpoints.iter().filter(|e| e.unsignalled.is_some()).count()).collect();
    assert_eq!(waits.iter().sum::<usize>(), 120, "each is held, gets the picture, gets sound: {waits:?}");
    assert!(waits.iter().filter(|count| **count > 0).count() <= 6, "{waits:?}");
    // A conference beyond a hundred does without.
    let mut large = World::new();
    large.add_bridge("jvb1", &[("ringbridge", "0.1.0")]);
    for number in 0..101 {
        large.join(ROOM, &format!("m{number:03}"), |client| client.accepts = false);
        large.wait(Duration::from_millis(100));
    }
    accept(&mut large, "m000");
    accept(&mut large, "m001");
    let unsignalled =
        large.bridge("jvb1").requests.iter().flat_map(|r| &r.endpoints).filter(|e| e.unsignalled.is_some());
    assert_eq!(unsignalled.count(), 0);
}
