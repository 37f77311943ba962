//! Scripted bridges: which one is chosen, what happens when it fails, and when the XMPP server does (docs/protocol/focus.md 7).

mod focus_world;

use focus_world::*;
use proptest::prelude::*;
use ringbridge_controlplane::focus::Input;

fn call(bridges: &[(&str, &[(&str, &str)])]) -> World {
    let mut world = World::new();
    for (nick, stats) in bridges {
        world.add_bridge(nick, stats);
    }
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    world
}

/// The bridge of a member's last offer.
fn bridge_of(world: &mut World, nick: &str) -> String {
    let offer = world.client(ROOM, nick).last("session-initiate");
    offer.contents[0].transport.as_ref().unwrap().ufrag.as_ref().unwrap().replace(nick, "")
}

#[test]
fn without_a_bridge_the_room_is_told_and_starts_when_one_comes() {
    let mut world = call(&[]);
    assert!(world.says_no_bridge(ROOM));
    assert!(world.focus.health(world.now).is_err());
    assert!(world.client(ROOM, "alice").jingles.is_empty());
    world.pass(100);
    world.add_bridge("jvb1", &[]);
    assert!(!world.says_no_bridge(ROOM));
    assert!(world.client(ROOM, "alice").actions().contains(&"session-initiate"));
    assert!(world.client(ROOM, "bob").actions().contains(&"session-initiate"));
    assert_eq!(world.focus.health(world.now), Ok(()));
    let stats = world.focus.stats(world.now);
    assert_eq!(stats["bridge_selector"]["operational_bridge_count"], 1);
    assert_eq!((&stats["conferences"], &stats["participants"]), (&1.into(), &2.into()));
}

#[test]
fn the_least_loaded_bridge_is_chosen() {
    let mut world = call(&[("busy", &[("stress_level", "0.5")]), ("calm", &[("stress_level", "0.2")])]);
    assert_eq!(bridge_of(&mut world, "alice"), "calm");
    assert_eq!(bridge_of(&mut world, "bob"), "calm", "one bridge per conference");
    // Load that moves does not move conferences.
    world.add_bridge("calm", &[("stress_level", "0.9")]);
    world.join(ROOM, "carol", |_| {});
    assert_eq!(bridge_of(&mut world, "carol"), "calm");
    assert!(world.bridge("busy").requests.is_empty());
}

#[test]
fn a_dead_bridge_is_left_at_once() {
    let mut world = call(&[("jvb1", &[("stress_level", "0")]), ("jvb2", &[])]);
    let first = world.client(ROOM, "alice").clone();
    assert_eq!(bridge_of(&mut world, "alice"), "jvb1");
    world.kill_bridge("jvb1");
    for nick in ["alice", "bob"] {
        let client = world.client(ROOM, nick).clone();
        let end = client.last("session-terminate");
        let reason = &end.reason.as_ref().unwrap().children;
        assert_eq!((reason[0].name(), reason[1].text().as_str()), ("success", "moving"));
        assert_eq!(bridge_of(&mut world, nick), "jvb2");
        assert_eq!(world.client(ROOM, nick).offers(), 2);
        assert!(
            !client.actions().contains(&"source-remove"),
            "nothing is signalled to sessions that end: {:?}",
            client.actions()
        );
    }
    let alice = world.client(ROOM, "alice").clone();
    assert_ne!((&alice.sid, &alice.bridge_session), (&first.sid, &first.bridge_session));
    assert!(owners(alice.last("source-add")).contains_key("bob"), "they hear of each other again");
    assert_eq!(world.focus.stats(world.now)["bridge_failures"]["participants_moved"], 2);
    assert!(!world.says_no_bridge(ROOM));
}

const FULL: Answers = Answers::Error("resource-constraint", None);

#[test]
fn a_conference_leaves_a_bridge_that_is_full() {
    // From the start, and when the third one joins.
    for members in [0, 2] {
        let mut world = World::new();
        world.add_bridge("jvb1", &[("stress_level", "0")]);
        world.add_bridge("jvb2", &[]);
        for nick in ["alice", "bob"].into_iter().take(members) {
            world.join(ROOM, nick, |_| {});
            assert!(world.bridge("jvb2").requests.is_empty());
        }
        world.bridge("jvb1").answers = FULL;
        for nick in ["alice", "bob", "carol"].into_iter().skip(members) {
            world.join(ROOM, nick, |_| {});
        }
        for nick in ["alice", "bob", "carol"] {
            assert_eq!(bridge_of(&mut world, nick), "jvb2", "{nick}");
        }
        assert!(world.bridge("jvb1").meetings.is_empty(), "nothing stays behind");
        assert_eq!(world.focus.stats(world.now)["refused"]["bridge_full"], 1);
        // The next conference does not try it; a later one does.
        let asked = world.bridge("jvb1").requests.len();
        for nick in ["dave", "erin"] {
            world.join("other@conference.meet.test", nick, |_| {});
        }
        assert_eq!(world.bridge("jvb1").requests.len(), asked);
        world.pass(20);
        world.bridge("jvb1").answers = Answers::Well;
        for nick in ["fay", "gus"] {
            world.join("third@conference.meet.test", nick, |_| {});
        }
        assert!(world.bridge("jvb1").requests.len() > asked);
    }
}

#[test]
fn where_no_bridge_has_room_the_others_stay_and_the_newcomer_waits() {
    // The second reports that it has no room either.
    for second in [None, Some(("jvb2", &[("stress_level", "1.0")] as &[(&str, &str)]))] {
        let mut world = World::new();
        world.add_bridge("jvb1", &[]);
        if let Some((nick, stats)) = second {
            world.add_bridge(nick, stats);
        }
        world.join(ROOM, "alice", |_| {});
        world.join(ROOM, "bob", |_| {});
        world.bridge("jvb1").answers = FULL;
        world.join(ROOM, "carol", |_| {});
        for nick in ["alice", "bob"] {
            let client = world.client(ROOM, nick).clone();
            assert!(!client.actions().contains(&"session-terminate"), "{nick}: {:?}", client.actions());
        }
        assert!(world.client(ROOM, "carol").jingles.is_empty() && !world.says_no_bridge(ROOM));
        let asked = world.bridge("jvb1").requests.len();
        world.pass(19);
        assert_eq!(world.bridge("jvb1").requests.len(), asked);
        world.bridge("jvb1").answers = Answers::Well;
        world.pass(2);
        assert_eq!(bridge_of(&mut world, "carol"), "jvb1");
        assert_eq!((world.client(ROOM, "alice").offers(), world.client(ROOM, "carol").offers()), (1, 1));
    }
}

#[test]
fn a_conference_that_finds_the_only_bridge_full_waits_for_room() {
    let mut world = World::new();
    world.add_bridge("jvb1", &[]);
    world.bridge("jvb1").answers = FULL;
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    assert!(world.says_no_bridge(ROOM));
    assert!(world.bridge("jvb1").meetings.is_empty());
    world.bridge("jvb1").answers = Answers::Well;
    world.pass(25);
    assert!(!world.says_no_bridge(ROOM));
    for nick in ["alice", "bob"] {
        assert_eq!((world.client(ROOM, nick).offers(), bridge_of(&mut world, nick).as_str()), (1, "jvb1"));
    }
}

#[test]
fn the_only_bridge_dies_and_comes_back() {
    let mut world = call(&[("jvb1", &[])]);
    let meeting = world.bridge("jvb1").requests[0].meeting_id.clone();
    world.kill_bridge("jvb1");
    assert!(!world.client(ROOM, "alice").actions().contains(&"session-terminate"), "it may come back");
    world.pass(6);
    assert!(world.says_no_bridge(ROOM));
    world.join(ROOM, "carol", |_| {});
    assert!(world.client(ROOM, "carol").jingles.is_empty());
    world.add_bridge("jvb1", &[]);
    assert!(!world.says_no_bridge(ROOM));
    for nick in ["alice", "bob", "carol"] {
        assert_eq!(world.client(ROOM, nick).actions().last().map(|a| *a != "session-terminate"), Some(true));
        assert_eq!(bridge_of(&mut world, nick), "jvb1");
    }
    assert_eq!(world.client(ROOM, "alice").offers(), 2);
    assert_ne!(world.bridge("jvb1").requests[0].meeting_id, meeting, "it may still hold the old one");
}

#[test]
fn a_bridge_that_is_back_at_once_keeps_its_conferences() {
    let mut world = call(&[("jvb1", &[])]);
    let bridge = world.kill_bridge("jvb1");
    world.pass(3);
    let asked = bridge.requests.len();
    world.bridges.insert("jvb1".to_owned(), bridge);
    world.add_bridge("jvb1", &[]);
    let asked_again = world.bridge("jvb1").requests[asked..].to_vec();
    assert_eq!(asked_again.len(), 1, "whether it still has the conference: {asked_again:?}");
    world.join(ROOM, "carol", |_| {});
    world.pass(60);
    for nick in ["alice", "bob", "carol"] {
        assert_eq!(world.client(ROOM, nick).offers(), 1, "{nick}");
        assert!(!world.client(ROOM, nick).actions().contains(&"session-terminate"));
    }
    assert!(!world.says_no_bridge(ROOM));
}

#[test]
fn a_bridge_that_is_back_at_once_without_its_conferences_gets_new_ones() {
    let mut world = call(&[("jvb1", &[])]);
    world.kill_bridge("jvb1");
    world.pass(1);
    world.add_bridge("jvb1", &[]);
    for nick in ["alice", "bob"] {
        assert_eq!((world.client(ROOM, nick).offers(), bridge_of(&mut world, nick).as_str()), (2, "jvb1"));
    }
}

#[test]
fn a_lost_bridge_is_not_waited_for_when_another_comes() {
    let mut world = call(&[("jvb1", &[])]);
    let meeting = world.bridge("jvb1").requests[0].meeting_id.clone();
    let bridge = world.kill_bridge("jvb1");
    world.pass(1);
    world.add_bridge("jvb2", &[]);
    assert_eq!(bridge_of(&mut world, "alice"), "jvb2");
    // It had lost its connection alone.
    world.bridges.insert("jvb1".to_owned(), bridge);
    world.add_bridge("jvb1", &[]);
    world.pass(11);
    let last = world.bridge("jvb1").requests.last().unwrap();
    assert!(last.expire && last.meeting_id == meeting, "nothing stays behind: {last:?}");
}

#[test]
fn a_bridge_that_shuts_down_is_emptied_and_a_draining_one_avoided() {
    let mut world = call(&[("jvb1", &[("stress_level", "0")]), ("jvb2", &[("drain", "true")])]);
    assert_eq!(bridge_of(&mut world, "alice"), "jvb1");
    world.add_bridge("jvb1", &[("stress_level", "0"), ("shutting_down", "true")]);
    assert_eq!(bridge_of(&mut world, "alice"), "jvb2", "better a draining one than none");
    let last = world.bridge("jvb1").requests.last().unwrap();
    assert!(last.expire, "nothing stays behind");
}

#[test]
fn health_checks() {
    let mut world = call(&[("jvb1", &[("stress_level", "0")]), ("jvb2", &[])]);
    world.pass(1);
    assert_eq!(world.bridge("jvb1").checks, 0);
    world.pass(1);
    assert_eq!((world.bridge("jvb1").checks, world.bridge("jvb2").checks), (1, 1));
    world.bridge("jvb1").health = Answers::Error("internal-server-error", None);
    world.pass(10);
    assert_eq!(bridge_of(&mut world, "alice"), "jvb2", "an ill bridge loses its conferences");
    assert_eq!(world.focus.stats(world.now)["bridge_selector"]["operational_bridge_count"], 1);
    world.bridge("jvb1").health = Answers::Well;
    world.pass(30);
    assert_eq!(world.focus.stats(world.now)["bridge_selector"]["operational_bridge_count"], 1, "not for a minute");
    world.pass(45);
    assert_eq!(world.focus.stats(world.now)["bridge_selector"]["operational_bridge_count"], 2);
}

#[test]
fn a_silent_bridge_keeps_its_conferences_but_gets_no_new_ones() {
    let mut world = call(&[("jvb1", &[])]);
    world.bridge("jvb1").health = Answers::Nothing;
    world.pass(60);
    assert_eq!(world.client(ROOM, "alice").offers(), 1, "media may still flow");
    assert!(world.focus.health(world.now).is_err());
    world.join(ROOM, "carol", |_| {});
    assert!(world.says_no_bridge(ROOM));
    assert!(world.client(ROOM, "carol").jingles.is_empty());
    world.bridge("jvb1").health = Answers::Well;
    world.pass(90);
    assert_eq!(bridge_of(&mut world, "carol"), "jvb1", "it recovered by itself");
    assert_eq!(world.client(ROOM, "alice").offers(), 1);
    assert!(!world.says_no_bridge(ROOM));
}

#[test]
fn a_silent_bridge_loses_its_conferences_to_the_next_one() {
    let mut world = call(&[("jvb1", &[])]);
    world.bridge("jvb1").health = Answers::Nothing;
    world.pass(60);
    assert_eq!(world.client(ROOM, "alice").offers(), 1);
    world.add_bridge("jvb2", &[]);
    for nick in ["alice", "bob"] {
        assert_eq!(bridge_of(&mut world, nick), "jvb2");
    }

    let mut world = call(&[("jvb1", &[("stress_level", "0")]), ("jvb2", &[])]);
    world.bridge("jvb1").health = Answers::Nothing;
    world.pass(7);
    assert_eq!(bridge_of(&mut world, "alice"), "jvb2", "two checks and their patience");
}

#[test]
fn allocations_that_fail() {
    // What the bridge says, and whether everybody goes to the other one.
    for (answers, moves) in [
        (Answers::Nothing, true),
        (Answers::Error("service-unavailable", None), true),
        (Answers::Error("internal-server-error", None), true),
        (Answers::Error("service-unavailable", Some("GRACEFUL_SHUTDOWN")), true),
        (Answers::Error("bad-request", None), false),
        (Answers::Error("item-not-found", None), false),
        (Answers::NoTransport, false),
    ] {
        let mut world = World::new();
        world.add_bridge("jvb1", &[("stress_level", "0")]);
        world.add_bridge("jvb2", &[("stress_level", "0.6")]);
        world.bridge("jvb1").answers = answers;
        world.join(ROOM, "alice", |_| {});
        world.join(ROOM, "bob", |_| {});
        world.pass(16);
        for nick in ["alice", "bob"] {
            if moves {
                assert_eq!(bridge_of(&mut world, nick), "jvb2");
            } else {
                assert!(world.client(ROOM, nick).jingles.is_empty());
            }
        }
        assert_eq!(world.bridge("jvb2").requests.is_empty(), !moves);
    }
}

/// The server no longer finds the second one when those of the first one are to go there.
#[test]
fn bridges_that_die_together_leave_nobody_behind() {
    for (others, comes_back) in [(false, "jvb1"), (false, "jvb2"), (true, "jvb1"), (true, "jvb2")] {
        let mut world = call(&[("jvb1", &[("stress_level", "0")]), ("jvb2", &[])]);
        world.bridge("jvb2").answers = Answers::Error("item-not-found", None);
        world.kill_bridge("jvb1");
        if others {
            world.join(ROOM, "carol", |_| {});
        }
        world.kill_bridge("jvb2");
        world.pass(3);
        world.add_bridge(comes_back, &[]);
        for nick in ["alice", "bob", "carol"].into_iter().take(2 + usize::from(others)) {
            assert_eq!(bridge_of(&mut world, nick), comes_back);
        }
        assert!(!world.says_no_bridge(ROOM));
    }
    // One that is there and is not found all the same: again after a while.
    let mut world = World::new();
    world.add_bridge("jvb1", &[]);
    world.bridge("jvb1").answers = Answers::Error("item-not-found", None);
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    assert!(world.client(ROOM, "alice").jingles.is_empty());
    world.bridge("jvb1").answers = Answers::Well;
    world.pass(21);
    assert_eq!((bridge_of(&mut world, "alice"), world.client(ROOM, "bob").offers()), ("jvb1".to_owned(), 1));
}

#[test]
fn a_bridge_that_forgets_conferences_again_and_again_is_left() {
    let mut world = World::new();
    world.add_bridge("jvb1", &[("stress_level", "0")]);
    world.bridge("jvb1").answers = Answers::Error("item-not-found", Some("CONFERENCE_NOT_FOUND"));
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    assert!(world.says_no_bridge(ROOM), "no endless loop");
    assert!(world.bridge("jvb1").requests.len() < 20);
    world.bridge("jvb1").answers = Answers::Well;
    world.pass(90);
    assert_eq!(bridge_of(&mut world, "alice"), "jvb1", "tried again when it had time to recover");
}

#[test]
fn updates_that_fail() {
    // An unknown endpoint concerns one, a request that the bridge cannot read its author, a lost conference all.
    let mut world = call(&[("jvb1", &[])]);
    let info = |world: &mut World, nick: &str| {
        let sid = world.client(ROOM, nick).sid.clone();
        let xml = format!(
            "<jingle xmlns='urn:xmpp:jingle:1' action='transport-info' sid='{sid}'><content name='0'>\
             <transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='a' pwd='b'/></content></jingle>"
        );
        let id = world.bridge("jvb1").ids.len();
        world.bridge("jvb1").answers = Answers::Nothing;
        world.ask(&format!("{ROOM}/{nick}"), "set", &xml);
        world.bridge("jvb1").answers = Answers::Well;
        world.bridge("jvb1").ids[id].clone()
    };
    let refuse = |world: &mut World, id: &str, error: &str| {
        world.feed(&format!(
            "<iq xmlns='jabber:client' type='error' id='{id}' from='{BREWERY}/jvb1' to='{FOCUS}'>\
             <error type='cancel'>{error}</error></iq>"
        ));
    };
    let stanza = |name: &str| format!("<{name} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>");
    let id = info(&mut world, "alice");
    // As the connection hands it over: the endpoint within the error.
    let unknown = "<error xmlns='jitsi:colibri2' reason='UNKNOWN_ENDPOINT'><endpoint id='alice'/></error>";
    refuse(&mut world, &id, &format!("{}{unknown}", stanza("item-not-found")));
    assert_eq!((world.client(ROOM, "alice").offers(), world.client(ROOM, "bob").offers()), (2, 1));

    let id = info(&mut world, "alice");
    refuse(&mut world, &id, &stanza("bad-request"));
    assert_eq!((world.client(ROOM, "alice").offers(), world.client(ROOM, "bob").offers()), (2, 1));
    let end = world.client(ROOM, "alice").last("session-terminate").reason.clone().unwrap();
    assert_eq!(end.children[0].name(), "general-error");

    let id = info(&mut world, "bob");
    let lost = "<error xmlns='jitsi:colibri2' reason='CONFERENCE_NOT_FOUND'/>";
    refuse(&mut world, &id, &format!("{}{lost}", stanza("item-not-found")));
    assert_eq!(world.client(ROOM, "bob").offers(), 2);
}

#[test]
fn media_outlives_the_xmpp_server_for_a_while() {
    let mut world = call(&[("jvb1", &[])]);
    let meeting = world.bridge("jvb1").requests[0].meeting_id.clone();
    let before = world.bridge("jvb1").requests.len();
    world.focus.handle(world.now, Input::Offline);
    world.settle();
    assert!(world.focus.health(world.now).is_err());
    world.pass(300);
    assert_eq!(world.bridge("jvb1").requests.len(), before);
    // Everything is new at the server; nobody is in a room.
    let alice = world.clients.remove(&(ROOM.to_owned(), "alice".to_owned())).unwrap();
    world.clients.clear();
    world.rooms.clear();
    world.online(false);
    assert!(world.rooms.contains_key(BREWERY), "the brewery is joined again");
    assert_eq!(world.focus.health(world.now), Ok(()));
    world.pass(30);
    assert_eq!(world.bridge("jvb1").requests.len(), before, "the old conference stays");
    world.join(ROOM, "alice2", |_| {});
    assert_eq!(world.bridge("jvb1").requests.len(), before);
    world.join(ROOM, "bob2", |_| {});
    let requests = &world.bridge("jvb1").requests[before..];
    assert!(requests.iter().any(|r| r.expire && r.meeting_id == meeting), "the room starts again");
    assert!(requests.iter().any(|r| r.create && r.meeting_id != meeting));
    assert!(!alice.actions().contains(&"session-terminate"));
}

#[test]
fn conferences_of_rooms_that_do_not_return_are_expired_when_their_bridge_is_back() {
    let mut world = call(&[("jvb1", &[])]);
    let meeting = world.bridge("jvb1").requests[0].meeting_id.clone();
    let bridge = world.bridges.remove("jvb1").unwrap();
    world.focus.handle(world.now, Input::Offline);
    world.clients.clear();
    world.rooms.clear();
    world.online(false);
    world.pass(100);
    world.bridges.insert("jvb1".to_owned(), bridge);
    world.add_bridge("jvb1", &[]);
    world.pass(11);
    let last = world.bridge("jvb1").requests.last().unwrap();
    assert!(last.expire && last.meeting_id == meeting);
    let count = world.bridge("jvb1").requests.len();
    world.pass(1_000);
    assert_eq!(world.bridge("jvb1").requests.len(), count, "once");
}

#[test]
fn a_resumed_connection_changes_nothing() {
    let mut world = call(&[("jvb1", &[])]);
    let before = world.client(ROOM, "alice").jingles.len();
    world.bridge("jvb1").health = Answers::Nothing;
    world.pass(10);
    world.focus.handle(world.now, Input::Offline);
    world.pass(40);
    world.bridge("jvb1").health = Answers::Well;
    world.online(true);
    world.pass(60);
    assert_eq!(world.client(ROOM, "alice").jingles.len(), before);
    assert_eq!(world.focus.health(world.now), Ok(()), "silence while away means nothing");
    world.join(ROOM, "carol", |_| {});
    assert_eq!(bridge_of(&mut world, "carol"), "jvb1");
}

#[test]
fn the_end_of_the_focus_is_orderly() {
    let mut world = call(&[("jvb1", &[])]);
    world.focus.handle(world.now, Input::Shutdown);
    world.settle();
    assert!(world.bridge("jvb1").requests.last().unwrap().expire);
    assert!(world.rooms.is_empty(), "{:?}", world.rooms);
}

#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    Leave(usize),
    Restart(usize),
    AddBridge(usize),
    KillBridge(usize),
    BridgeAnswers(usize, usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5usize).prop_map(Step::Join),
        3 => (0..5usize).prop_map(Step::Leave),
        1 => (0..5usize).prop_map(Step::Restart),
        2 => (0..3usize).prop_map(Step::AddBridge),
        1 => (0..3usize).prop_map(Step::KillBridge),
        2 => (0..3usize, 0..5usize).prop_map(|(bridge, how)| Step::BridgeAnswers(bridge, how)),
        3 => (0..40u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever happens in whatever order: whoever is in a room with others and has a working bridge gets media in the
    /// end, and nothing stays on any bridge when all have left.
    #[test]
    fn any_order_of_events_ends_well(steps in proptest::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        let mut joined = 0;
        let mut present: [Option<String>; 5] = Default::default();
        for step in steps {
            match step {
                Step::Join(who) if present[who].is_none() => {
                    joined += 1;
                    let nick = format!("client{joined}");
                    world.join(ROOM, &nick, |_| {});
                    present[who] = Some(nick);
                }
                Step::Leave(who) => if let Some(nick) = present[who].take() {
                    world.leave(ROOM, &nick);
                },
                Step::Restart(who) => if let Some(nick) = &present[who] {
                    let client = world.client(ROOM, nick).clone();
                    let xml = format!(
                        "<jingle xmlns='urn:xmpp:jingle:1' action='session-terminate' sid='{}'>\
                         <bridge-session xmlns='http://jitsi.org/protocol/focus' id='{}' restart='true'/></jingle>",
                        client.sid, client.bridge_session
                    );
                    world.ask(&format!("{ROOM}/{nick}"), "set", &xml);
                },
                Step::AddBridge(which) => world.add_bridge(&format!("jvb{which}"), &[]),
                Step::KillBridge(which) => if world.bridges.contains_key(&format!("jvb{which}")) {
                    world.kill_bridge(&format!("jvb{which}"));
                },
                Step::BridgeAnswers(which, how) => if let Some(bridge) = world.bridges.get_mut(&format!("jvb{which}")) {
                    bridge.answers = match how {
                        0 => Answers::Nothing,
                        1 => Answers::Error("service-unavailable", None),
                        2 => Answers::Error("item-not-found", Some("CONFERENCE_NOT_FOUND")),
                        _ => Answers::Well,
                    };
                },
                Step::Pass(seconds) => world.pass(seconds),
                Step::Join(_) => {}
            }
        }
        // Everything works again, and there has been time to notice it; restarts beyond the limit are not made up for.
        for bridge in world.bridges.values_mut() {
            bridge.answers = Answers::Well;
        }
        world.add_bridge("fresh", &[("stress_level", "0")]);
        world.pass(120);
        let here: Vec<String> = present.iter().flatten().cloned().collect();
        if here.len() >= 2 {
            for nick in &here {
                let client = world.client(ROOM, nick).clone();
                let offered = client.jingles.iter().rposition(|j| j.action == "session-initiate");
                prop_assert!(offered.is_some(), "{nick} was never invited");
                let ended = client.jingles.iter().rposition(|j| j.action == "session-terminate");
                prop_assert!(ended < offered, "{nick} was left without media: {:?}", client.actions());
            }
            prop_assert!(!world.says_no_bridge(ROOM));
        }
        for nick in &here {
            world.leave(ROOM, nick);
        }
        world.pass(60);
        prop_assert_eq!(&world.focus.stats(world.now)["conferences"], &serde_json::json!(0));
        for (nick, bridge) in &world.bridges {
            let mut open = std::collections::BTreeSet::new();
            for request in &bridge.requests {
                if request.create {
                    open.insert(&request.meeting_id);
                } else if request.expire {
                    open.remove(&request.meeting_id);
                }
            }
            prop_assert!(open.is_empty(), "left on {nick}: {open:?}");
        }
    }
}
