//! What strangers can do to the focus, which is little: conference requests, names, sources, codecs, presence and IQs without
//! end, false bridges. Every bound is in `focus/limits.rs`.

mod focus_world;

use std::time::Duration;

use focus_world::*;
use ringbridge_controlplane::colibri::elements::{Candidate, HeaderExtension, PayloadType};
use ringbridge_controlplane::focus::FocusSettings;
use ringbridge_controlplane::jingle::{self, Content, Jingle};
use tokio_xmpp::minidom::Element;

const GUEST: &str = "guest@meet.test/web";

fn world() -> World {
    let mut world = World::new();
    world.add_bridge("jvb1", &[("ringbridge", "1")]);
    world
}

fn call() -> World {
    let mut world = world();
    for nick in ["alice", "bob", "mallory"] {
        world.join(ROOM, nick, |_| {});
    }
    world.pass(60);
    world
}

fn ask_for(world: &mut World, from: &str, room: &str) -> Option<Element> {
    let payload = format!("<conference xmlns='http://jitsi.org/protocol/focus' room='{room}' machine-uid='1'/>");
    world.ask(from, "set", &payload)
}

fn ready(answer: &Option<Element>) -> Option<bool> {
    let answer = answer.as_ref()?;
    assert_eq!(answer.attr("type"), Some("result"), "today's client takes an error for the end");
    Some(answer.children().next()?.attr("ready") == Some("true"))
}

fn refused(world: &World, reason: &str) -> u64 {
    world.focus.stats(world.now)["refused"][reason].as_u64().unwrap_or_else(|| panic!("{reason} is not counted"))
}

fn conferences(world: &World) -> u64 {
    world.focus.stats(world.now)["conferences"].as_u64().expect("a number")
}

fn add(world: &mut World, nick: &str, contents: Vec<Content>) -> Option<String> {
    let sid = world.client(ROOM, nick).sid.clone();
    world.jingle(ROOM, nick, Jingle { contents, ..Jingle::new("source-add", &sid) })
}

fn remove(world: &mut World, nick: &str, contents: Vec<Content>) -> Option<String> {
    let sid = world.client(ROOM, nick).sid.clone();
    world.jingle(ROOM, nick, Jingle { contents, ..Jingle::new("source-remove", &sid) })
}

// --- conference requests --------------------------------------------------------------------------------------------------

#[test]
fn one_guest_begins_few_rooms_and_others_do_not_wait() {
    let mut world = world();
    let answers: Vec<_> = (0..300).map(|n| ask_for(&mut world, GUEST, &format!("r{n}@conference.meet.test"))).collect();
    let begun = answers.iter().filter(|answer| ready(answer) == Some(true)).count();
    assert_eq!(begun, 5);
    assert_eq!(conferences(&world), 5);
    // Beyond a hundred questions at once there is no answer at all.
    assert_eq!(answers.iter().filter(|answer| answer.is_none()).count(), 200);
    assert_eq!((refused(&world, "new_rooms"), refused(&world, "flood")), (95, 200));
    // Somebody else, at the same moment, and then a call of three.
    assert_eq!(ready(&ask_for(&mut world, "other@meet.test/web", ROOM)), Some(true));
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    assert!(world.client(ROOM, "bob").actions().contains(&"session-initiate"));
    // The guest gets on slowly, and rooms that nobody enters are left.
    world.pass(16);
    assert_eq!(conferences(&world), 1);
    assert_eq!(ready(&ask_for(&mut world, GUEST, "again@conference.meet.test")), Some(true));
}

#[test]
fn rooms_that_show_addresses_are_not_configured() {
    for (open, configured) in [(true, 0), (false, 1)] {
        let mut world = world();
        world.open_rooms = open;
        world.join(ROOM, "alice", |_| {});
        world.join(ROOM, "bob", |_| {});
        assert!(world.client(ROOM, "bob").actions().contains(&"session-initiate"));
        assert_eq!((world.configured, world.client(ROOM, "alice").affiliation), (configured, "owner"));
    }
}

#[test]
fn many_guests_share_the_places_for_rooms_that_are_set_up() {
    let mut world = world();
    world.holds_joins = true;
    let answers: Vec<_> = (0..300)
        .map(|n| ask_for(&mut world, &format!("g{n}@meet.test/web"), &format!("r{n}@conference.meet.test")))
        .collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_none()).count(), 8, "waiting for their room");
    assert_eq!(answers.iter().filter(|answer| ready(answer) == Some(false)).count(), 292);
    assert_eq!(refused(&world, "setting_up"), 292);
    // A service that never answers keeps nothing for ever.
    world.pass(16);
    assert_eq!(conferences(&world), 0);
    world.holds_joins = false;
    assert_eq!(ready(&ask_for(&mut world, GUEST, ROOM)), Some(true));
}

#[test]
fn one_question_of_everybody_waits_for_a_room() {
    let mut world = world();
    world.holds_joins = true;
    let mut first = None;
    for _ in 0..50 {
        let answer = ask_for(&mut world, GUEST, ROOM);
        first = first.or(answer);
    }
    // Each new question is answered by "ask again" to the one before it.
    assert_eq!(world.replies.len(), 49);
    for n in 0..150 {
        ask_for(&mut world, &format!("g{n}@meet.test/web"), ROOM);
    }
    assert_eq!(world.replies.len(), 49 + 51, "99 others wait");
    assert_eq!(refused(&world, "waiting"), 49 + 51);
    world.pass(61);
    assert_eq!(world.replies.len(), 200, "everybody is answered");
}

#[test]
fn conferences_are_bounded_and_empty_rooms_make_room() {
    let mut world = World::with(FocusSettings { max_conferences: 3, ..settings() });
    world.add_bridge("jvb1", &[]);
    world.join(ROOM, "alice", |_| {});
    for n in 0..2 {
        assert_eq!(
            ready(&ask_for(&mut world, &format!("g{n}@meet.test/w"), &format!("r{n}@conference.meet.test"))),
            Some(true)
        );
    }
    let one_more = |world: &mut World, n: u32| {
        ready(&ask_for(world, &format!("h{n}@meet.test/w"), &format!("s{n}@conference.meet.test")))
    };
    assert_eq!(one_more(&mut world, 0), Some(false), "the empty ones are too young");
    assert_eq!(refused(&world, "conferences"), 1);
    world.pass(6);
    assert_eq!(one_more(&mut world, 1), Some(true));
    assert_eq!((conferences(&world), refused(&world, "empty_left")), (3, 1));
    assert!(!world.rooms.contains_key("r0@conference.meet.test"), "the oldest");
    assert!(world.rooms.contains_key(ROOM), "who is in a room keeps it");
}

#[test]
fn accounts_of_the_operator_begin_as_many_as_they_like() {
    let mut world = world();
    for n in 0..150 {
        let answer = ask_for(&mut world, "jigasi@auth.meet.test/one", &format!("r{n}@conference.meet.test"));
        assert_eq!(ready(&answer), Some(true), "{n}");
    }
}

#[test]
fn requests_without_end_are_dropped() {
    let mut world = call();
    for payload in [
        "<what xmlns='urn:x'/>",
        "<jibri xmlns='http://jitsi.org/protocol/jibri' action='start'/>",
        "<dial xmlns='urn:xmpp:rayo:1'/>",
        "<mute xmlns='http://jitsi.org/jitmeet/audio' jid='room@conference.meet.test/bob'>true</mute>",
        "<jingle xmlns='urn:xmpp:jingle:1' action='session-info' sid='none'/>",
    ] {
        let mallory = format!("{ROOM}/mallory");
        let answered = (0..3_000).filter(|_| world.ask(&mallory, "set", payload).is_some()).count();
        let most = if payload.starts_with("<mute") { 1_000 } else { 100 };
        assert_eq!(answered, most, "{payload}");
        world.pass(120);
    }
    assert_eq!(refused(&world, "flood"), 5 * 3_000 - 4 * 100 - 1_000);
    assert_eq!(refused(&world, "mute"), 1_000, "who does not moderate mutes nobody");
    assert!(world.client(ROOM, "bob").mutes.is_empty());
    // Who is next is heard.
    assert!(world.ask(&format!("{ROOM}/bob"), "get", "<ping xmlns='urn:xmpp:ping'/>").is_some());
}

// --- brewery --------------------------------------------------------------------------------------------------------------

fn announce(world: &mut World, nick: &str, item: &str) {
    world.feed(&format!(
        "<presence xmlns='jabber:client' from='{BREWERY}/{nick}' to='{FOCUS}'><stats xmlns='http://jitsi.org/protocol/colibri'>\
         <stat name='stress_level' value='0'/><stat name='drain' value='false'/></stats>\
         <x xmlns='http://jabber.org/protocol/muc#user'><item role='participant' {item}/></x></presence>"
    ));
}

#[test]
fn a_guest_in_the_brewery_is_no_bridge() {
    let mut world = World::new();
    announce(&mut world, "thief", "affiliation='none' jid='3f2a@meet.test/web'");
    announce(&mut world, "owner", "affiliation='owner' jid='3f2b@meet.test/web'");
    announce(&mut world, "veiled", "affiliation='owner'");
    let stats = world.focus.stats(world.now);
    assert_eq!(stats["bridge_selector"]["bridge_count"], 0);
    assert_eq!(refused(&world, "false_bridge"), 3);
    assert!(world.focus.health(world.now).is_err());
    // A true one beside it, and more stressed, gets the conference.
    world.add_bridge("jvb1", &[("stress_level", "0.9")]);
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    assert!(!world.bridge("jvb1").requests.is_empty());
    // Nor does a nickname help that a bridge has left.
    world.kill_bridge("jvb1");
    announce(&mut world, "jvb1", "affiliation='none' jid='3f2a@meet.test/web'");
    assert_eq!(world.focus.stats(world.now)["bridge_selector"]["bridge_count"], 0);
}

#[test]
fn bridges_of_other_domains_count_when_they_are_listed() {
    let trusted = vec!["auth.jvb.test".parse().unwrap(), "one@third.test".parse().unwrap()];
    let mut world = World::with(FocusSettings { brewery_trusted: trusted, ..settings() });
    announce(&mut world, "a", "affiliation='none' jid='jvb@auth.jvb.test/a'");
    announce(&mut world, "b", "affiliation='none' jid='one@third.test/b'");
    announce(&mut world, "c", "affiliation='none' jid='two@third.test/c'");
    announce(&mut world, "d", "affiliation='none' jid='jvb@auth.meet.test/d'");
    assert_eq!(world.focus.stats(world.now)["bridge_selector"]["bridge_count"], 2);
}

#[test]
fn a_slow_server_is_not_a_dead_bridge() {
    let mut world = call();
    world.add_bridge("jvb2", &[]);
    world.slow_server = true;
    world.bridge("jvb1").health = Answers::Nothing;
    world.bridge("jvb2").health = Answers::Nothing;
    world.pass(30);
    let operational =
        |world: &World| world.focus.stats(world.now)["bridge_selector"]["operational_bridge_count"].clone();
    assert_eq!(operational(&world), 2, "nobody is blamed");
    assert!(refused(&world, "server_slow") > 5);
    assert!(world.bridge("jvb2").requests.is_empty(), "nothing moves");
    // The server is back and one bridge is not.
    world.slow_server = false;
    world.bridge("jvb2").health = Answers::Well;
    world.pass(10);
    assert_eq!(operational(&world), 1);
    assert!(!world.bridge("jvb2").requests.is_empty(), "the conference moved");
}

#[test]
fn an_endpoint_that_a_slow_server_held_up_condemns_no_bridge() {
    let mut world = call();
    world.add_bridge("jvb2", &[]);
    world.slow_server = true;
    world.pass(5);
    world.bridge("jvb1").answers = Answers::Nothing;
    world.join(ROOM, "late", |_| {});
    world.pass(16);
    let offers = |world: &mut World, nick: &str| world.client(ROOM, nick).offers();
    let counted = refused(&world, "server_slow");
    assert!(counted >= 1);
    // What was asked meanwhile is lost with the queue: it is late when the server answers again, and no more is made of it.
    (world.slow_server, world.bridge("jvb1").answers) = (false, Answers::Well);
    world.pass(16);
    assert_eq!((offers(&mut world, "late"), offers(&mut world, "alice")), (1, 1), "nobody else is disturbed");
    assert!(world.bridge("jvb2").requests.is_empty(), "nothing moves");
    assert!(refused(&world, "server_slow") > counted);
    // A bridge that is silent by itself is left as ever.
    world.bridge("jvb1").answers = Answers::Nothing;
    world.pass(30);
    world.join(ROOM, "later", |_| {});
    world.pass(16);
    assert!(!world.bridge("jvb2").requests.is_empty(), "the conference moves");
}

// --- sources --------------------------------------------------------------------------------------------------------------

#[test]
fn a_source_with_anothers_name_is_known_by_a_name_of_its_owner() {
    let mut world = call();
    let mut stolen = source("mallory", 77, "video", true);
    stolen.name = Some("bob-v0".into());
    assert_eq!(add(&mut world, "mallory", vec![content("video", vec![stolen])]), None);
    let told = owners(world.client(ROOM, "alice").last("source-add"));
    assert_eq!(told["mallory"][0][0]["n"], "mallory-v1", "v0 is the camera");
    let update = world.bridge("jvb1").requests.last().unwrap().endpoints[0].clone();
    let names: Vec<String> = update.sources.unwrap().media_sources.into_iter().map(|source| source.id).collect();
    assert_eq!(
        (update.id.as_str(), names),
        ("mallory", ["mallory-a0", "mallory-v0", "mallory-v1"].map(String::from).into())
    );
    assert_eq!(refused(&world, "source_renamed"), 1);
}

#[test]
fn names_in_an_answer_are_checked_too() {
    let mut world = world();
    world.join(ROOM, "bob", |_| {});
    world.join(ROOM, "mallory", |mallory| mallory.accepts = false);
    let mut accept = world.accept_of(ROOM, "mallory");
    for content in &mut accept.contents {
        for source in &mut content.description.as_mut().unwrap().sources {
            source.name = source.name.as_ref().map(|name| name.replace("mallory", "bob"));
        }
    }
    assert_eq!(world.jingle(ROOM, "mallory", accept), None);
    let told = owners(world.client(ROOM, "bob").last("source-add"));
    assert_eq!(
        (&told["mallory"][0][0]["n"], &told["mallory"][2][0]["n"]),
        (&"mallory-v0".into(), &"mallory-a0".into())
    );
}

#[test]
fn sources_change_at_a_bounded_rate() {
    let mut world = call();
    let one = || vec![content("video", vec![source("mallory", 99, "video", true)])];
    let before = world.client(ROOM, "alice").jingles.len();
    let sid = world.client(ROOM, "mallory").sid.clone();
    let mut taken = 0;
    for n in 0..1_000 {
        let action = if n % 2 == 0 { "source-add" } else { "source-remove" };
        let jingle = Jingle { contents: one(), ..Jingle::new(action, &sid) };
        taken += usize::from(world.jingle_unless_dropped(ROOM, "mallory", jingle) == Some(None));
    }
    assert!(taken <= 30, "{taken} changes at once");
    let told = world.client(ROOM, "alice").jingles.len() - before;
    assert!(told <= 30, "{told} stanzas to each");
    assert!(refused(&world, "source_rate") > 0 && refused(&world, "flood") > 0);
    world.pass(60);
    // Afterwards everybody knows what there is.
    let mut others = one();
    others[0].description.as_mut().unwrap().sources[0].ssrc = Some("98".into());
    others[0].description.as_mut().unwrap().sources[0].parameters[0].value = Some("mallory-late track".into());
    assert_eq!(add(&mut world, "mallory", others), None);
    assert!(owners(world.client(ROOM, "alice").last("source-add")).contains_key("mallory"));
}

#[test]
fn a_room_that_changes_all_the_time_is_told_together() {
    let mut world = world();
    let nicks: Vec<String> = (0..40).map(|n| format!("p{n}")).collect();
    for nick in &nicks {
        world.join(ROOM, nick, |_| {});
    }
    world.pass(60);
    let before: usize = nicks.iter().map(|nick| world.client(ROOM, nick).jingles.len()).sum();
    // Ten seconds in which everybody changes twice a second.
    for round in 0..20u32 {
        for (n, nick) in nicks.iter().enumerate() {
            let ssrc = 900_000 + n as u32;
            let mut one = source(nick, ssrc, "video", true);
            one.parameters[0].value = Some(format!("{nick}-screen track"));
            let contents = vec![content("video", vec![one])];
            let changed =
                if round % 2 == 0 { add(&mut world, nick, contents) } else { remove(&mut world, nick, contents) };
            assert_eq!(changed, None, "{nick} in round {round}");
        }
        world.wait(Duration::from_millis(500));
    }
    world.pass(5);
    let after: usize = nicks.iter().map(|nick| world.client(ROOM, nick).jingles.len()).sum();
    // Without a bound 800 changes are 31,200 stanzas. 100 rounds at once and 10 a second of two stanzas to 40 are 16,000.
    assert!(after - before <= 16_000, "{} stanzas", after - before);
    assert!(refused(&world, "tells_joined") > 400, "{}", refused(&world, "tells_joined"));
    // And the end is the truth: everybody heard of everybody's last removal.
    for nick in &nicks {
        let screens =
            world.client(ROOM, nick).jingles.iter().fold(std::collections::BTreeSet::new(), |mut known, jingle| {
                if jingle.action.starts_with("source-") {
                    for (owner, lists) in owners(jingle) {
                        let screen = lists[0]
                            .as_array()
                            .is_some_and(|list| list.iter().any(|s| s["s"].as_u64() >= Some(900_000)));
                        match (screen, jingle.action.as_str()) {
                            (true, "source-add") => drop(known.insert(owner)),
                            (true, _) => drop(known.remove(&owner)),
                            _ => {}
                        }
                    }
                }
                known
            });
        assert!(screens.is_empty(), "{nick} still knows {screens:?}");
    }
}

#[test]
fn sources_without_end_are_refused_and_nothing_changes() {
    let mut world = call();
    let updates = world.bridge("jvb1").requests.len();
    let told = world.client(ROOM, "alice").jingles.len();
    let many = (0..5_000).map(|n| source("mallory", 10_000 + n, "video", true)).collect();
    assert_eq!(add(&mut world, "mallory", vec![content("video", many)]).as_deref(), Some("bad-request"));
    let mut groups = content("video", vec![source("mallory", 10_000, "video", true)]);
    let group = |n: u32| jingle::JingleGroup {
        semantics: Some("SIM".into()),
        sources: (0..20).map(|m| source("mallory", 10_000 + n * m, "video", true)).collect(),
    };
    groups.description.as_mut().unwrap().ssrc_groups = (0..300).map(group).collect();
    assert_eq!(add(&mut world, "mallory", vec![groups]).as_deref(), Some("bad-request"));
    for (name, msid) in [
        ("x".repeat(4_000), "m"),
        ("mallory-v7".to_owned(), &*"y".repeat(4_000)),
        ("mallory-v8".to_owned(), "mixedmslabel a"),
    ] {
        let mut long = source("mallory", 10_000, "video", true);
        (long.name, long.parameters[0].value) = (Some(name), Some(msid.to_owned()));
        assert_eq!(add(&mut world, "mallory", vec![content("video", vec![long])]).as_deref(), Some("bad-request"));
    }
    assert_eq!((world.bridge("jvb1").requests.len(), world.client(ROOM, "alice").jingles.len()), (updates, told));
}

// --- answers --------------------------------------------------------------------------------------------------------------

#[test]
fn made_up_codecs_and_extensions_do_not_reach_the_bridge() {
    let mut world = world();
    world.join(ROOM, "bob", |_| {});
    world.join(ROOM, "mallory", |mallory| mallory.accepts = false);
    let mut accept = world.accept_of(ROOM, "mallory");
    let video = accept.contents[1].description.as_mut().unwrap();
    let template = video.payload_types[0].clone();
    video.payload_types.extend((0..1_100).map(|n| PayloadType {
        id: n as u8 % 128,
        name: Some(format!("codec{n}")),
        ..template.clone()
    }));
    video.header_extensions.extend((0..256).map(|n| HeaderExtension {
        id: (n % 255) as u8,
        uri: format!("urn:made:up:{n}"),
        senders: None,
    }));
    // And one number of its own, so that the bridge must hear of it.
    video.payload_types[1].id = 120;
    assert_eq!(world.jingle(ROOM, "mallory", accept), None);
    let update = world.bridge("jvb1").requests.last().unwrap().endpoints[0].clone();
    assert_eq!(update.id, "mallory");
    assert_eq!(update.media.len(), 2);
    for media in &update.media {
        assert!(media.payload_types.len() <= 8 && media.header_extensions.len() <= 4);
        let known = ["opus", "telephone-event", "AV1", "VP8", "H264", "VP9", "rtx"];
        assert!(media.payload_types.iter().all(|format| known.contains(&format.name.as_deref().unwrap())), "{media:?}");
        assert!(media.header_extensions.iter().all(|extension| !extension.uri.starts_with("urn:made")));
    }
    assert!(update.media[1].payload_types.iter().any(|format| format.id == 120));
    assert!(refused(&world, "answer_part") >= 1_100 + 256, "{}", refused(&world, "answer_part"));
}

#[test]
fn transports_are_short_and_rare() {
    let mut world = call();
    let sid = world.client(ROOM, "mallory").sid.clone();
    let candidate = |n: usize| Candidate { ip: format!("192.0.2.{}", n % 256), port: n as u16, ..Candidate::default() };
    let transport = |n: usize| jingle::Transport {
        ufrag: Some("u".repeat(n)),
        candidates: (0..n).map(candidate).collect(),
        ..Default::default()
    };
    let before = world.bridge("jvb1").requests.len();
    let mut info = |n: usize| {
        let contents = vec![Content { transport: Some(transport(n)), ..Content::default() }; 3];
        world.jingle(ROOM, "mallory", Jingle { contents, ..Jingle::new("transport-info", &sid) })
    };
    assert_eq!(info(2_500), None);
    let refusals = (0..60).filter(|_| info(1).as_deref() == Some("resource-constraint")).count();
    assert_eq!(refusals, 60 - 39);
    let requests = world.bridge("jvb1").requests[before..].to_vec();
    assert_eq!(requests.len(), 40);
    let ice = requests[0].endpoints[0].transport.as_ref().unwrap().ice.as_ref().unwrap();
    assert_eq!((ice.candidates.len(), &ice.ufrag), (32, &None));
    assert_eq!(refused(&world, "transport_rate"), 21);
}

// --- members --------------------------------------------------------------------------------------------------------------

#[test]
fn who_comes_and_goes_is_invited_slower() {
    let mut world = call();
    let before =
        world.bridge("jvb1").requests.iter().filter(|request| request.endpoints.iter().any(|e| e.create)).count();
    for n in 0..60 {
        let nick = format!("m{n}");
        world.join(ROOM, &nick, |client| client.real = "mallory@meet.test/web".into());
        world.leave(ROOM, &nick);
    }
    let invited = |world: &mut World| {
        let all = &world.bridge("jvb1").requests;
        all.iter().filter(|request| request.endpoints.iter().any(|e| e.create)).count() - before
    };
    assert_eq!(invited(&mut world), 10);
    assert!(refused(&world, "invite_rate") > 0);
    // Somebody else is invited at once, and mallory as soon as it may.
    world.join(ROOM, "carol", |_| {});
    assert!(world.client(ROOM, "carol").actions().contains(&"session-initiate"));
    world.join(ROOM, "late", |client| client.real = "mallory@meet.test/web".into());
    assert!(world.client(ROOM, "late").actions().is_empty());
    world.pass(5);
    assert!(world.client(ROOM, "late").actions().contains(&"session-initiate"));
}

#[test]
fn presence_is_read_in_part() {
    let mut world = world();
    world.join(ROOM, "alice", |_| {});
    let long = "x".repeat(5_000);
    world.join(ROOM, "mallory", |_| {});
    world.feed(&format!(
        "<presence xmlns='jabber:client' from='{ROOM}/mallory' to='{FOCUS}'><stats-id>{long}</stats-id>\
         <jitsi_participant_region>{long}</jitsi_participant_region>\
         <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='{long}' ver='{long}'/>\
         <SourceInfo>{{\"bob-v0\":{{\"muted\":false}}}}</SourceInfo>\
         <x xmlns='http://jabber.org/protocol/muc#user'><item role='participant' affiliation='none'/></x></presence>"
    ));
    assert_eq!(refused(&world, "presence_part"), 3);
    // Nicknames that are parts of everybody's messages, and that of the bridge's own sources.
    for nick in ["n".repeat(300), "jvb".to_owned()] {
        world.join(ROOM, &nick, |_| {});
        assert!(world.client(ROOM, &nick).actions().is_empty());
        world.leave(ROOM, &nick);
    }
    assert_eq!(refused(&world, "member"), 2);
    assert_eq!(world.focus.stats(world.now)["participants"], 2);
}

#[test]
fn a_member_beyond_the_bound_is_not_served() {
    let mut world = World::with(FocusSettings { min_participants: 100_000, ..settings() });
    for n in 0..1_010 {
        world.feed_member(ROOM, &format!("p{n}"), n == 0);
    }
    assert_eq!(world.focus.stats(world.now)["participants"], 1_000);
    assert_eq!(refused(&world, "member"), 10);
}
