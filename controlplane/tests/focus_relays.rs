//! One conference on several scripted bridges: who goes where, what each bridge is sent, what happens when one fails
//! (docs/protocol/focus.md 7 and 11.6).

mod focus_world;

use std::collections::BTreeMap;
use std::time::Duration;

use focus_world::*;
use ringbridge_controlplane::colibri::elements::{SctpRole, Setup};
use ringbridge_controlplane::focus::{LoadRedistribution, SelectionSettings, Strategy};
use ringbridge_controlplane::rest::{FocusAnswer, FocusAsk};

fn with(strategy: Strategy) -> World {
    let selection = SelectionSettings { strategy, relays: true, ..SelectionSettings::default() };
    World::with(ringbridge_controlplane::focus::FocusSettings { selection, ..settings() })
}

/// A bridge that can be linked, named like its relay.
fn add(world: &mut World, nick: &str, stats: &[(&str, &str)]) {
    world.add_bridge(nick, &[&[("relay_id", nick), ("stress_level", "0.1")], stats].concat());
}

/// Of so many bridges, and each next member on the next of them.
fn split(bridges: &[&str], members: &[&str]) -> World {
    let mut world = with(Strategy::Split);
    for nick in bridges {
        add(&mut world, nick, &[]);
    }
    for nick in members {
        world.join(ROOM, nick, |_| {});
    }
    world
}

/// The bridge of a member's last offer.
fn bridge_of(world: &mut World, nick: &str) -> String {
    let offer = world.client(ROOM, nick).last("session-initiate");
    let ufrag = offer.contents[0].transport.as_ref().unwrap().ufrag.as_ref().unwrap().clone();
    ufrag.strip_suffix(nick).unwrap().to_owned()
}

/// Every bridge knows of whom the others have, with their sources, and of nobody else; each pair is linked, with each other's
/// transport and in opposite roles. Returns who is where.
fn check(world: &World) -> BTreeMap<String, Vec<String>> {
    let used: BTreeMap<&String, &relays::Meeting> = world
        .bridges
        .iter()
        .filter(|(_, bridge)| !bridge.meetings.is_empty())
        .map(|(nick, bridge)| {
            assert_eq!(bridge.meetings.len(), 1, "{nick} has one conference");
            (nick, &bridge.knows.0[bridge.meetings.first().unwrap()])
        })
        .collect();
    let ids: std::collections::BTreeSet<_> = used.keys().map(|nick| world.bridges[*nick].meetings.clone()).collect();
    assert!(ids.len() <= 1, "one meeting has one id");
    for (nick, meeting) in &used {
        assert!(!meeting.local.is_empty(), "{nick} is used");
        let peers: Vec<_> = used.keys().filter(|peer| *peer != nick).copied().collect();
        assert_eq!(meeting.relays.keys().collect::<Vec<_>>(), peers, "relays of {nick}");
        for peer in peers {
            let (relay, back) = (&meeting.relays[peer], &used[peer].relays[*nick]);
            assert_eq!(relay.endpoints, used[peer].local, "{nick} knows whom {peer} has");
            assert_eq!((relay.mesh.as_str(), relay.initiator), ("0", !back.initiator));
            let transport = relay.transport.as_ref().expect("the other side's transport");
            assert_eq!(transport.ufrag, Some(format!("{peer}-to-{nick}")));
            let setup = if relay.initiator { Setup::Active } else { Setup::Passive };
            assert_eq!(transport.fingerprints[0].setup, Some(setup));
            let role = if relay.initiator { SctpRole::Client } else { SctpRole::Server };
            assert!(relay.sctp == Some(role) && transport.web_sockets.is_empty());
        }
    }
    used.into_iter().map(|(nick, meeting)| (nick.clone(), meeting.local.keys().cloned().collect())).collect()
}

fn places(expected: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    let of =
        |(bridge, members): &(&str, &[&str])| ((*bridge).to_owned(), members.iter().map(ToString::to_string).collect());
    expected.iter().map(of).collect()
}

fn bridge_count(world: &World) -> String {
    let properties = world.said(ROOM, "conference-properties").remove(0);
    let count = properties.children().find(|child| child.attr("key") == Some("bridge-count")).unwrap();
    count.attr("value").unwrap().to_owned()
}

#[test]
fn everybody_is_known_everywhere() {
    let mut world = split(&["a", "b", "c"], &["alice", "bob", "carol", "dave"]);
    assert_eq!(check(&world), places(&[("a", &["alice", "dave"]), ("b", &["bob"]), ("c", &["carol"])]));
    assert_eq!(bridge_count(&world), "3");
    // Each offer names a session and the region of its own bridge.
    let sessions: std::collections::BTreeSet<String> =
        ["alice", "bob", "carol"].iter().map(|nick| world.client(ROOM, nick).bridge_session.clone()).collect();
    assert_eq!(sessions.len(), 3);
    let of_alice = world.client(ROOM, "alice").bridge_session.clone();
    assert_eq!(world.client(ROOM, "dave").bridge_session, of_alice);
    // Sources that come and go are announced to all bridges.
    let screen = {
        let sid = world.client(ROOM, "bob").sid.clone();
        let mut add = ringbridge_controlplane::jingle::Jingle::new("source-add", &sid);
        let mut screen = source("bob", 77_777, "video", false);
        screen.name = Some("bob-v1".into());
        screen.parameters[0].value = Some("bob-screen track".into());
        add.contents.push(content("video", vec![screen]));
        add
    };
    assert_eq!(world.jingle(ROOM, "bob", screen.clone()), None);
    check(&world);
    assert!(world.bridge("a").knows.0.values().next().unwrap().relays["b"].endpoints["bob"].contains(&77_777));
    assert_eq!(
        world.jingle(ROOM, "bob", ringbridge_controlplane::jingle::Jingle { action: "source-remove".into(), ..screen }),
        None
    );
    check(&world);
    assert!(owners(world.client(ROOM, "alice").last("source-add")).contains_key("bob"));
}

#[test]
fn who_leaves_is_forgotten_and_the_last_one_takes_the_bridge_along() {
    let mut world = split(&["a", "b", "c"], &["alice", "bob", "carol", "dave"]);
    world.leave(ROOM, "dave");
    assert_eq!(check(&world), places(&[("a", &["alice"]), ("b", &["bob"]), ("c", &["carol"])]));
    world.leave(ROOM, "bob");
    assert_eq!(check(&world), places(&[("a", &["alice"]), ("c", &["carol"])]));
    assert!(world.bridge("b").requests.last().unwrap().expire && bridge_count(&world) == "2");
    world.join(ROOM, "erin", |_| {});
    assert_eq!(check(&world), places(&[("a", &["alice"]), ("b", &["erin"]), ("c", &["carol"])]));
    for nick in ["alice", "carol"] {
        assert_eq!(world.client(ROOM, nick).offers(), 1, "{nick} is not disturbed");
    }
    for nick in ["alice", "carol", "erin"] {
        world.leave(ROOM, nick);
    }
    assert!(world.bridges.values().all(|bridge| bridge.meetings.is_empty()));
}

#[test]
fn a_bridge_that_dies_is_left_by_its_own_alone() {
    let mut world = split(&["a", "b", "c"], &["alice", "bob", "carol", "dave", "erin"]);
    assert_eq!(bridge_of(&mut world, "erin"), "b");
    world.kill_bridge("b");
    for (nick, times) in [("alice", 1), ("carol", 1), ("dave", 1), ("bob", 2), ("erin", 2)] {
        assert_eq!(world.client(ROOM, nick).offers(), times, "{nick}");
    }
    assert_eq!(check(&world), places(&[("a", &["alice", "dave", "erin"]), ("c", &["bob", "carol"])]));
    assert_eq!(world.focus.stats(world.now)["bridge_failures"]["participants_moved"], 2);
    // It comes back, and has forgotten nothing: what it had of the conference is ended before it takes part again.
    add(&mut world, "b", &[]);
    world.join(ROOM, "frank", |_| {});
    assert_eq!(bridge_of(&mut world, "frank"), "b");
    let requests = &world.bridge("b").requests;
    assert!(requests[0].expire && requests[1].create, "{requests:?}");
    check(&world);
    world.pass(60);
    check(&world);
    // All of them, one after the other.
    for nick in ["a", "b"] {
        world.kill_bridge(nick);
        check(&world);
    }
    assert_eq!(check(&world).len(), 1);
}

#[test]
fn a_bridge_that_shuts_down_or_falls_ill_is_left() {
    for ill in [false, true] {
        let mut world = split(&["a", "b"], &["alice", "bob", "carol"]);
        match ill {
            true => {
                world.bridge("a").health = Answers::Error("internal-server-error", None);
                world.pass(5);
            }
            false => add(&mut world, "a", &[("shutting_down", "true")]),
        }
        assert_eq!(check(&world), places(&[("b", &["alice", "bob", "carol"])]));
        assert_eq!(world.client(ROOM, "bob").offers(), 1);
    }
    // One that is about to go gets nobody new, but keeps those that it has.
    let mut world = split(&["a", "b"], &["alice", "bob"]);
    add(&mut world, "a", &[("graceful_shutdown", "true")]);
    for nick in ["carol", "dave"] {
        world.join(ROOM, nick, |_| {});
    }
    assert_eq!(check(&world), places(&[("a", &["alice"]), ("b", &["bob", "carol", "dave"])]));
}

#[test]
fn a_bridge_that_refuses_relays_is_left() {
    for answers in [
        Answers::Error("feature-not-implemented", None),
        Answers::Error("conflict", None),
        Answers::NoTransport,
        Answers::Nothing,
    ] {
        let mut world = with(Strategy::Split);
        add(&mut world, "a", &[]);
        add(&mut world, "b", &[]);
        world.bridge("b").relays = answers;
        for nick in ["alice", "bob", "carol"] {
            world.join(ROOM, nick, |_| {});
        }
        world.pass(40);
        assert_eq!(check(&world), places(&[("a", &["alice", "bob", "carol"])]));
        assert_eq!(world.client(ROOM, "alice").offers(), 1, "who was on the other one is not disturbed");
        assert!(
            world.client(ROOM, "bob").offers() <= 5,
            "it is not tried for ever: {}",
            world.client(ROOM, "bob").offers()
        );
    }
}

#[test]
fn a_relay_that_a_slow_server_held_up_condemns_no_bridge() {
    for slow in [true, false] {
        let mut world = with(Strategy::Split);
        add(&mut world, "a", &[]);
        add(&mut world, "b", &[]);
        world.join(ROOM, "alice", |_| {});
        world.slow_server = slow;
        world.pass(5);
        world.bridge("b").relays = Answers::Nothing;
        world.join(ROOM, "bob", |_| {});
        world.pass(8);
        // What was asked meanwhile is lost with the queue.
        world.slow_server = false;
        world.bridge("b").relays = Answers::Well;
        world.pass(9);
        let stats = world.focus.stats(world.now);
        let operational = stats["bridge_selector"]["operational_bridge_count"].as_u64();
        assert_eq!(operational, Some(if slow { 2 } else { 1 }), "{slow}");
        assert_eq!(stats["refused"]["server_slow"].as_u64() > Some(0), slow);
        let expected =
            if slow { places(&[("a", &["alice"]), ("b", &["bob"])]) } else { places(&[("a", &["alice", "bob"])]) };
        assert_eq!(check(&world), expected);
        assert_eq!(
            (world.client(ROOM, "alice").offers(), world.client(ROOM, "bob").offers()),
            (1, 2),
            "only who is on that bridge begins anew"
        );
    }
}

#[test]
fn updates_that_fail() {
    for (condition, reason, moves) in
        [("bad-request", None, true), ("item-not-found", Some("CONFERENCE_NOT_FOUND"), true)]
    {
        let mut world = split(&["a", "b"], &["alice", "bob"]);
        world.bridge("b").relays = Answers::Error(condition, reason);
        world.join(ROOM, "carol", |_| {});
        assert_eq!(bridge_of(&mut world, "carol"), "a");
        world.bridge("b").relays = Answers::Well;
        world.pass(1);
        assert_eq!(world.client(ROOM, "bob").offers() > 1, moves, "{condition}");
        world.pass(60);
        check(&world);
    }
    // Silence about an update is only noted.
    let mut world = split(&["a", "b"], &["alice", "bob"]);
    world.bridge("b").relays = Answers::Nothing;
    world.join(ROOM, "carol", |_| {});
    world.pass(20);
    assert_eq!((world.client(ROOM, "bob").offers(), world.client(ROOM, "carol").offers()), (1, 1));
}

#[test]
fn allocations_that_fail_move_those_of_that_bridge() {
    for answers in [Answers::Nothing, Answers::Error("internal-server-error", None), Answers::Error("conflict", None)] {
        let mut world = split(&["a", "b"], &["alice", "bob"]);
        world.bridge("b").answers = answers;
        world.join(ROOM, "carol", |_| {});
        world.join(ROOM, "dave", |_| {});
        world.pass(40);
        world.bridge("b").answers = Answers::Well;
        world.pass(120);
        assert_eq!(world.client(ROOM, "alice").offers(), 1);
        check(&world);
        for nick in ["bob", "carol", "dave"] {
            assert_eq!(
                world.client(ROOM, nick).actions().last().map(|action| *action != "session-terminate"),
                Some(true)
            );
        }
    }
    // One that is full is passed over.
    let mut world = split(&["a", "b", "c"], &["alice", "bob"]);
    world.bridge("c").answers = Answers::Error("resource-constraint", None);
    world.join(ROOM, "carol", |_| {});
    assert_eq!(check(&world), places(&[("a", &["alice", "carol"]), ("b", &["bob"])]));
    assert_eq!((world.client(ROOM, "alice").offers(), world.client(ROOM, "bob").offers()), (1, 1));
}

/// The server no longer finds the second one when those of the first one are to go there; it had somebody of its own.
#[test]
fn linked_bridges_that_die_together_leave_nobody_behind() {
    for back in [["one", "two"], ["two", "one"]] {
        let mut world = split(&["one", "two"], &["alice", "bob", "carol"]);
        world.bridge("two").answers = Answers::Error("item-not-found", None);
        world.kill_bridge("one");
        world.kill_bridge("two");
        world.pass(2);
        for nick in back {
            add(&mut world, nick, &[]);
        }
        world.pass(1);
        let everybody: usize = check(&world).values().map(Vec::len).sum();
        assert_eq!(everybody, 3);
        for nick in ["alice", "bob", "carol"] {
            assert_eq!(world.client(ROOM, nick).offers(), 2, "{nick}");
        }
    }
}

#[test]
fn an_endpoint_that_its_bridge_does_not_know_is_invited_again() {
    let mut world = split(&["a", "b"], &["alice", "bob", "carol"]);
    world.bridge("b").answers = Answers::Error("item-not-found", Some("UNKNOWN_ENDPOINT"));
    let sid = world.client(ROOM, "bob").sid.clone();
    let mut info = ringbridge_controlplane::jingle::Jingle::new("transport-info", &sid);
    info.contents = world.client(ROOM, "bob").last("session-initiate").contents.clone();
    world.jingle(ROOM, "bob", info);
    world.bridge("b").answers = Answers::Well;
    world.pass(60);
    check(&world);
}

#[test]
fn a_client_that_asks_again_stays_known_once() {
    let mut world = split(&["a", "b"], &["alice", "bob", "carol", "dave"]);
    let session = |world: &mut World, nick: &str| world.client(ROOM, nick).bridge_session.clone();
    let (own, others) = (session(&mut world, "bob"), session(&mut world, "alice"));
    let failed = |world: &mut World, id: &str| {
        let sid = world.client(ROOM, "bob").sid.clone();
        let xml = format!(
            "<jingle xmlns='urn:xmpp:jingle:1' action='session-info' sid='{sid}'><ice-state xmlns='http://jitsi.org/protocol/focus'>failed</ice-state>\
             <bridge-session xmlns='http://jitsi.org/protocol/focus' id='{id}'/></jingle>"
        );
        let jingle =
            ringbridge_controlplane::jingle::Jingle::try_from(xml.parse::<tokio_xmpp::minidom::Element>().unwrap())
                .unwrap();
        world.jingle(ROOM, "bob", jingle)
    };
    assert_eq!(failed(&mut world, &others).as_deref(), Some("item-not-found"), "that is not its session");
    assert_eq!(failed(&mut world, &own), None);
    assert_eq!(world.client(ROOM, "bob").offers(), 2);
    check(&world);
    let stats = world.focus.stats(world.now);
    let asked = |bridge: &str| {
        stats["bridge_selector"]["bridges"][format!("{BREWERY}/{bridge}")]["endpoint-restart-requests"].clone()
    };
    assert_eq!((asked("a"), asked("b")), (0.into(), 1.into()), "it was on b");
}

#[test]
fn by_region() {
    let mut world = with(Strategy::RegionBased);
    add(&mut world, "eu", &[("region", "eu")]);
    add(&mut world, "us", &[("region", "us"), ("stress_level", "0.5")]);
    for (nick, region) in [("alice", "eu"), ("bob", "us"), ("carol", "eu"), ("dave", "mars"), ("erin", "us")] {
        let extra = format!("<jitsi_participant_region>{region}</jitsi_participant_region>");
        world.extras.insert((ROOM.to_owned(), nick.to_owned()), extra);
        world.join(ROOM, nick, |_| {});
    }
    assert_eq!(check(&world), places(&[("eu", &["alice", "carol", "dave"]), ("us", &["bob", "erin"])]));
    let region = |world: &mut World, nick: &str| {
        world.client(ROOM, nick).last("session-initiate").bridge_session.clone().unwrap().region
    };
    assert_eq!([region(&mut world, "alice"), region(&mut world, "erin")], [Some("eu".into()), Some("us".into())]);
}

#[test]
fn without_relays_everybody_stays_on_one() {
    for (relays, ids) in [(false, true), (true, false)] {
        let mut world = World::with(ringbridge_controlplane::focus::FocusSettings {
            selection: SelectionSettings { strategy: Strategy::Split, relays, ..SelectionSettings::default() },
            ..settings()
        });
        for nick in ["a", "b"] {
            match ids {
                true => add(&mut world, nick, &[]),
                false => world.add_bridge(nick, &[]),
            }
        }
        for nick in ["alice", "bob", "carol"] {
            world.join(ROOM, nick, |_| {});
        }
        assert_eq!(check(&world), places(&[("a", &["alice", "bob", "carol"])]));
        world.kill_bridge("a");
        assert_eq!(check(&world), places(&[("b", &["alice", "bob", "carol"])]));
    }
}

#[test]
fn muting_and_releasing_reach_the_bridge_of_each() {
    let mut world = split(&["a", "b"], &["alice", "bob", "carol"]);
    world.pass(1);
    let muted = |world: &mut World, bridge: &str| -> Vec<String> {
        let requests = world.bridge(bridge).requests.iter().flat_map(|request| &request.endpoints);
        requests.filter(|endpoint| endpoint.force_mute.is_some()).map(|endpoint| endpoint.id.clone()).collect()
    };
    for target in ["bob", "carol"] {
        let payload = format!("<mute xmlns='http://jitsi.org/jitmeet/audio' jid='{ROOM}/{target}'>true</mute>");
        world.ask(&format!("{ROOM}/alice"), "set", &payload);
    }
    assert_eq!(muted(&mut world, "b"), ["bob"]);
    assert_eq!(muted(&mut world, "a"), ["carol"]);
}

#[test]
fn the_end_of_a_room_or_of_its_last_session_ends_it_everywhere() {
    let mut world = split(&["a", "b"], &["alice", "bob"]);
    world.leave(ROOM, "bob");
    world.pass(30);
    assert!(world.bridges.values().all(|bridge| bridge.meetings.is_empty()));
    let mut world = split(&["a", "b"], &["alice", "bob"]);
    world.focus.handle(world.now, ringbridge_controlplane::focus::Input::Shutdown);
    world.settle();
    assert!(world.bridges.values().all(|bridge| bridge.meetings.is_empty()));
    // Lost with the connection.
    let mut world = split(&["a", "b"], &["alice", "bob"]);
    world.clients.clear();
    world.online(false);
    world.wait(Duration::from_secs(61));
    assert!(world.bridges.values().all(|bridge| bridge.meetings.is_empty()));
}

/// What a bridge says of relays over which nothing comes.
fn reports_dead(world: &mut World, bridge: &str, peer: &str) {
    let meeting = world.bridge(bridge).meetings.first().unwrap().clone();
    let text = format!(r#"[{{"meeting":"{meeting}","relay":"{peer}"}}]"#).replace('"', "&quot;");
    add(world, bridge, &[("dead_relays", &text)]);
}

#[test]
fn a_dead_link_between_living_bridges_is_healed() {
    for reporter in ["a", "b"] {
        let mut world = split(&["a", "b", "c"], &["alice", "bob", "carol", "dave"]);
        let peer = if reporter == "a" { "b" } else { "a" };
        reports_dead(&mut world, reporter, peer);
        // The smaller side leaves, and is not chosen again for a while.
        let now = check(&world);
        assert!(now.len() == 2 && !now.contains_key("b"), "{now:?}");
        assert_eq!(
            (
                world.client(ROOM, "alice").offers(),
                world.client(ROOM, "bob").offers(),
                world.client(ROOM, "carol").offers()
            ),
            (1, 2, 1)
        );
        assert_eq!(world.focus.stats(world.now)["bridge_failures"]["dead_links"], 1);
        add(&mut world, reporter, &[]);
        world.join(ROOM, "erin", |_| {});
        assert!(!check(&world).contains_key("b"));
        world.pass(301);
        world.join(ROOM, "frank", |_| {});
        assert_eq!(bridge_of(&mut world, "frank"), "b");
    }
    // Of two alike the later one; and what is not so changes nothing.
    let mut world = split(&["a", "b"], &["alice", "bob"]);
    for (bridge, peer) in [("a", "c"), ("a", "a"), ("b", "")] {
        reports_dead(&mut world, bridge, peer);
    }
    for text in
        ["[]", "nonsense", "[{&quot;meeting&quot;:&quot;other&quot;,&quot;relay&quot;:&quot;b&quot;}]", "{}", "[1]"]
    {
        add(&mut world, "a", &[("dead_relays", text)]);
    }
    assert_eq!(check(&world), places(&[("a", &["alice"]), ("b", &["bob"])]));
    reports_dead(&mut world, "a", "b");
    reports_dead(&mut world, "a", "b");
    assert_eq!(check(&world), places(&[("a", &["alice", "bob"])]));
}

#[test]
fn overloaded_bridges_are_relieved() {
    let load_redistribution = Some(LoadRedistribution {
        interval: Duration::from_secs(60),
        stress: 0.9,
        timeout: Duration::from_secs(180),
        endpoints: 2,
    });
    let relieved = |relays, second| {
        let selection = SelectionSettings { strategy: Strategy::RegionBased, relays, ..SelectionSettings::default() };
        let mut world =
            World::with(ringbridge_controlplane::focus::FocusSettings { selection, load_redistribution, ..settings() });
        add(&mut world, "a", &[]);
        for nick in ["alice", "bob", "carol", "dave"] {
            world.join(ROOM, nick, |_| {});
        }
        add(&mut world, "b", &[("stress_level", second)]);
        world.pass(61);
        assert_eq!(check(&world).len(), 1, "nobody is overloaded");
        add(&mut world, "a", &[("stress_level", "0.95")]);
        world.pass(60);
        world
    };
    let mut world = relieved(true, "0.2");
    assert_eq!(check(&world), places(&[("a", &["carol", "dave"]), ("b", &["alice", "bob"])]));
    assert_eq!(world.focus.stats(world.now)["load_redistributor"]["endpoints_moved"], 2);
    world.pass(110);
    assert_eq!(check(&world)["a"].len(), 2, "it is left alone for a while");
    world.pass(120);
    assert_eq!(check(&world), places(&[("b", &["alice", "bob", "carol", "dave"])]));
    for nick in ["alice", "bob", "carol", "dave"] {
        assert_eq!(world.client(ROOM, nick).offers(), 2, "{nick}");
    }
    // A conference that cannot be on several is not disturbed.
    let world = relieved(false, "0.2");
    assert_eq!(check(&world), places(&[("a", &["alice", "bob", "carol", "dave"])]));
    // Nor is anybody where all bridges are overloaded, this one the least.
    let world = relieved(true, "0.97");
    assert_eq!(check(&world), places(&[("a", &["alice", "bob", "carol", "dave"])]));
}

/// How many were moved, of how many conferences.
fn moved(world: &mut World, ask: FocusAsk) -> (u64, u64) {
    let answer = world.operate(ask);
    let FocusAnswer::Done(done) = answer else { panic!("{answer:?}") };
    (done["movedEndpoints"].as_u64().unwrap_or(0), done["conferences"].as_u64().unwrap_or(0))
}

fn take_off(world: &mut World, bridge: &str, count: usize) -> (u64, u64) {
    moved(world, FocusAsk::MoveEndpoints { bridge: bridge.to_owned(), room: None, count })
}

#[test]
fn who_is_moved_by_an_operator_stays_away_and_so_do_newcomers() {
    let mut world = with(Strategy::RegionBased);
    add(&mut world, "a", &[]);
    for nick in ["alice", "bob", "carol"] {
        world.join(ROOM, nick, |_| {});
    }
    assert_eq!(take_off(&mut world, "a", 2), (0, 0), "there is nowhere to go");
    add(&mut world, "b", &[("stress_level", "0.5")]);
    assert_eq!(take_off(&mut world, "a", 2), (2, 1));
    assert_eq!(check(&world), places(&[("a", &["carol"]), ("b", &["alice", "bob"])]));
    assert_eq!(
        (world.client(ROOM, "alice").offers(), world.client(ROOM, "carol").offers()),
        (2, 1),
        "who stays is not disturbed"
    );
    // The other one has less to do, and nobody is sent back to it for that.
    world.join(ROOM, "dave", |_| {});
    world.pass(200);
    world.join(ROOM, "erin", |_| {});
    assert_eq!(check(&world), places(&[("a", &["carol"]), ("b", &["alice", "bob", "dave", "erin"])]));
    // The rest of it; the last one takes the session with it.
    assert_eq!(take_off(&mut world, "a", 5), (1, 1));
    assert_eq!(check(&world), places(&[("b", &["alice", "bob", "carol", "dave", "erin"])]));
    // Where all was left, the earlier one serves again.
    assert_eq!(take_off(&mut world, "b", 1), (1, 1));
    assert_eq!(check(&world)["a"], ["alice"]);
    // And after a while all are alike.
    world.pass(301);
    world.join(ROOM, "frank", |_| {});
    assert_eq!(bridge_of(&mut world, "frank"), "a");
    check(&world);
    assert_eq!(world.focus.stats(world.now)["bridge_failures"]["participants_moved"], 4);
}

#[test]
fn one_endpoint_goes_to_another_bridge_and_newcomers_are_not_kept_away() {
    let mut world = with(Strategy::RegionBased);
    add(&mut world, "a", &[]);
    for nick in ["alice", "bob"] {
        world.join(ROOM, nick, |_| {});
    }
    add(&mut world, "b", &[("stress_level", "0.5")]);
    let one = |endpoint: &str| FocusAsk::MoveEndpoint { room: ROOM.into(), endpoint: endpoint.into(), bridge: None };
    assert_eq!(moved(&mut world, one("alice")), (1, 1));
    assert_eq!(moved(&mut world, one("nobody")), (0, 0));
    assert_eq!(check(&world), places(&[("a", &["bob"]), ("b", &["alice"])]));
    world.join(ROOM, "carol", |_| {});
    assert_eq!(check(&world), places(&[("a", &["bob", "carol"]), ("b", &["alice"])]));
}

#[test]
fn a_share_of_two_conferences_moves_the_larger_one_first() {
    let mut world = with(Strategy::RegionBased);
    add(&mut world, "a", &[]);
    for (room, members) in [(ROOM, 4), ("small@conference.meet.test", 2)] {
        for n in 0..members {
            world.join(room, &format!("p{n}"), |_| {});
        }
    }
    add(&mut world, "b", &[("stress_level", "0.5")]);
    assert_eq!(moved(&mut world, FocusAsk::MoveFraction { bridge: "a".into(), fraction: 0.5 }), (3, 1));
    assert_eq!(take_off(&mut world, "a", 2), (2, 1), "the other one is larger there now");
    // To a bridge without relays a conference goes as a whole.
    let mut world = with(Strategy::RegionBased);
    add(&mut world, "a", &[]);
    for nick in ["alice", "bob"] {
        world.join(ROOM, nick, |_| {});
    }
    world.add_bridge("plain", &[("stress_level", "0.1")]);
    assert_eq!(take_off(&mut world, "a", 1), (2, 1), "the smallest conference");
    assert_eq!(check(&world), places(&[("plain", &["alice", "bob"])]));
}

#[test]
fn a_pinned_conference_is_on_all_bridges_of_its_version_alone() {
    let mut world = with(Strategy::Split);
    let pin = FocusAsk::Pin { room: ROOM.into(), version: "2.4".into(), minutes: 10 };
    world.operate(pin);
    for (nick, version) in [("a", "2.3"), ("b", "2.4"), ("c", "2.3"), ("d", "2.4")] {
        add(&mut world, nick, &[("version", version)]);
    }
    for nick in ["alice", "bob", "carol", "dave"] {
        world.join(ROOM, nick, |_| {});
    }
    assert_eq!(check(&world), places(&[("b", &["alice", "carol"]), ("d", &["bob", "dave"])]));
    // Nor does it leave them when it is moved, or when one of them fails.
    assert_eq!(take_off(&mut world, "b", 1), (1, 1));
    assert_eq!(check(&world)["d"].len(), 3);
    assert_eq!(take_off(&mut world, "b", 9), (1, 1));
    assert_eq!(check(&world).keys().collect::<Vec<_>>(), ["d"]);
    world.kill_bridge("d");
    assert_eq!(check(&world).keys().collect::<Vec<_>>(), ["b"], "rather back than to another version");
}
