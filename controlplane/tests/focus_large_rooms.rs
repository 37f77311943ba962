//! Large rooms: what a join costs in stanzas, changes of sources that wait for each other, and how many may send.

mod focus_world;

use std::collections::BTreeSet;
use std::time::Duration;

use focus_world::*;
use ringbridge_controlplane::focus::{FocusSettings, SenderLimits, SignalingDelays, SourceLimits, SourceSettings};
use ringbridge_controlplane::jingle::{Content, Jingle};

fn with(sources: SourceSettings) -> World {
    let mut world = World::with(FocusSettings { sources, ..settings() });
    world.add_bridge("jvb1", &[]);
    world
}

fn delayed() -> World {
    let delays = [(3, 500), (5, 1_000)].map(|(size, ms)| (size, Duration::from_millis(ms)));
    with(SourceSettings { delays: SignalingDelays::new(delays), ..SourceSettings::default() })
}

/// Stanzas by which changed sources were signalled to clients.
fn source_stanzas(world: &World) -> usize {
    let jingles = world.clients.values().flat_map(|client| &client.jingles);
    jingles.filter(|jingle| jingle.action.starts_with("source-")).count()
}

/// Owners whose sources were signalled to a client, and not as removed since.
fn known(world: &mut World, nick: &str) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for jingle in &world.client(ROOM, nick).jingles {
        match jingle.action.as_str() {
            "session-initiate" => known = owners(jingle).into_keys().collect(),
            "source-add" => known.extend(owners(jingle).into_keys()),
            "source-remove" => {
                owners(jingle).keys().for_each(|owner| {
                    known.remove(owner);
                });
            }
            _ => {}
        }
    }
    known.remove("jvb");
    known
}

fn video(nick: &str, ssrc: u32) -> Vec<Content> {
    let mut one = source(nick, ssrc, "video", false);
    one.parameters[0].value = Some(format!("{nick}-{ssrc} track"));
    vec![content("video", vec![one])]
}

fn change(world: &mut World, action: &str, nick: &str, contents: Vec<Content>) -> Option<String> {
    let sid = world.client(ROOM, nick).sid.clone();
    world.jingle(ROOM, nick, Jingle { contents, ..Jingle::new(action, &sid) })
}

/// So many join in 20 s, in a room whose changes are signalled at once as far as that is possible; stanzas per join.
fn stanzas_per_join(members: usize, rewriting: bool) -> f64 {
    let mut world = with(SourceSettings::default());
    for n in 0..members {
        world.join(ROOM, &format!("p{n:03}"), |client| {
            if rewriting {
                client.features.push("http://jitsi.org/ssrc-rewriting-1");
                client.hash = "";
            }
        });
        world.wait(Duration::from_secs(20) / members as u32);
    }
    world.pass(10);
    if !rewriting {
        for nick in ["p000", "p001", &format!("p{:03}", members - 1)] {
            assert_eq!(known(&mut world, nick).len(), members - 1, "{nick}");
        }
    }
    let told: usize = world.clients.values().map(|client| client.jingles.len()).sum();
    let asked: usize = world.clients.values().map(|client| client.asked).sum();
    (told + asked + world.bridge("jvb1").requests.len() + world.presences.len()) as f64 / members as f64
}

/// A newcomer has to be signalled to everybody who is there, by a stanza each: that is half of the members, and never more. What
/// changes together is signalled together beyond a rate, which is what makes it less in a large room.
#[test]
fn a_join_costs_no_more_than_the_protocol_needs() {
    let (small, middle, large) =
        (stanzas_per_join(50, false), stanzas_per_join(100, false), stanzas_per_join(200, false));
    println!("stanzas per join: {small:.1} of 50, {middle:.1} of 100, {large:.1} of 200");
    for (members, stanzas) in [(50.0, small), (100.0, middle), (200.0, large)] {
        assert!(stanzas <= members / 2.0 + 6.0, "{stanzas} with {members}");
    }
    assert!(large <= 2.0 * middle && middle <= 2.0 * small + 1.0);
    // Where the bridge announces sources a room's size makes no difference.
    let (small, large) = (stanzas_per_join(50, true), stanzas_per_join(150, true));
    println!("with SSRC rewriting: {small:.2} of 50, {large:.2} of 150");
    assert!(large <= small + 0.1 && large < 5.0, "{small} {large}");
}

#[test]
fn changes_wait_for_each_other_by_the_size_of_the_room() {
    let mut world = delayed();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    assert!(known(&mut world, "alice").contains("bob"), "a small room waits for nothing");
    world.join(ROOM, "carol", |_| {});
    world.wait(Duration::from_millis(499));
    assert!(!known(&mut world, "alice").contains("carol"));
    // The wait begins with the first change, and is not made longer by others.
    assert_eq!(change(&mut world, "source-add", "bob", video("bob", 77_001)), None);
    let before = source_stanzas(&world);
    world.wait(Duration::from_millis(2));
    assert!(known(&mut world, "alice").contains("carol"));
    assert_eq!(
        source_stanzas(&world) - before,
        3,
        "one to each, for both changes: alice of both, bob and carol of one"
    );
    world.join(ROOM, "dave", |_| {});
    world.pass(1);
    // Five and more wait longer.
    world.join(ROOM, "erin", |_| {});
    world.wait(Duration::from_millis(999));
    assert!(!known(&mut world, "alice").contains("erin"));
    world.wait(Duration::from_millis(2));
    assert!(known(&mut world, "alice").contains("erin"));
}

#[test]
fn what_came_and_went_meanwhile_is_not_told() {
    let mut world = delayed();
    for nick in ["alice", "bob", "carol"] {
        world.join(ROOM, nick, |_| {});
    }
    world.pass(2);
    let before = source_stanzas(&world);
    assert_eq!(change(&mut world, "source-add", "bob", video("bob", 77_001)), None);
    assert_eq!(change(&mut world, "source-remove", "bob", video("bob", 77_001)), None);
    world.pass(2);
    assert_eq!(source_stanzas(&world) - before, 0);
    // A removal and an addition in one wait: the removal first.
    assert_eq!(change(&mut world, "source-add", "bob", video("bob", 77_002)), None);
    world.pass(2);
    let alice = world.client(ROOM, "alice").jingles.len();
    assert_eq!(change(&mut world, "source-remove", "bob", video("bob", 77_002)), None);
    assert_eq!(change(&mut world, "source-add", "bob", video("bob", 77_003)), None);
    world.pass(2);
    let actions: Vec<String> = world.client(ROOM, "alice").jingles[alice..].iter().map(|j| j.action.clone()).collect();
    assert_eq!(actions, ["source-remove", "source-add"]);
    // Who leaves before it was signalled to the others is never mentioned.
    let before = source_stanzas(&world);
    world.join(ROOM, "dave", |_| {});
    world.leave(ROOM, "dave");
    world.pass(2);
    assert_eq!(source_stanzas(&world) - before, 0);
    assert!(!known(&mut world, "alice").contains("dave"));
}

/// A newcomer accepts late: what changed since its offer was written is signalled to it at once, whatever the others wait for.
#[test]
fn a_newcomer_is_told_at_once_what_its_offer_did_not_say() {
    let mut world = delayed();
    for nick in ["alice", "bob"] {
        world.join(ROOM, nick, |_| {});
    }
    world.join(ROOM, "carol", |carol| carol.accepts = false);
    assert_eq!(change(&mut world, "source-add", "bob", video("bob", 77_001)), None);
    world.pass(2);
    assert_eq!(change(&mut world, "source-remove", "bob", video("bob", 77_001)), None);
    assert_eq!(change(&mut world, "source-add", "bob", video("bob", 77_002)), None);
    let accept = world.accept_of(ROOM, "carol");
    assert_eq!(world.jingle(ROOM, "carol", accept), None);
    assert_eq!(world.client(ROOM, "carol").actions(), ["session-initiate", "source-add"]);
    let told = owners(world.client(ROOM, "carol").last("source-add"));
    assert_eq!((told.len(), told["bob"][0][0]["s"].as_u64()), (1, Some(77_002)));
    world.pass(2);
    assert_eq!(world.client(ROOM, "carol").actions().len(), 2, "and nothing twice");
    assert!(known(&mut world, "alice").contains("carol"));
}

/// A bridge of ours holds media back until it was signalled to its receivers: as long as they wait, and not shorter.
#[test]
fn media_waits_as_long_as_the_news_does() {
    let delays = SignalingDelays::new([(3, Duration::from_secs(5))]);
    let mut world =
        World::with(FocusSettings { sources: SourceSettings { delays, ..SourceSettings::default() }, ..settings() });
    world.add_bridge("jvb1", &[("ringbridge", "0.1.0")]);
    for nick in ["alice", "bob", "carol"] {
        world.join(ROOM, nick, |_| {});
        world.wait(Duration::from_millis(if nick == "bob" { 1_000 } else { 0 }));
    }
    let held = |world: &mut World| {
        let latest = world.bridge("jvb1").requests.iter().rev().find_map(|request| {
            let unsignalled = request.endpoints.iter().find(|e| e.id == "alice")?.unsignalled.clone()?;
            Some(unsignalled.sources.into_iter().map(|source| source.name).collect::<Vec<_>>())
        });
        latest.unwrap_or_default()
    };
    assert_eq!(held(&mut world), ["carol-a0", "carol-v0"]);
    world.wait(Duration::from_millis(4_900));
    assert_eq!(held(&mut world), ["carol-a0", "carol-v0"]);
    world.wait(Duration::from_secs(1));
    assert_eq!(held(&mut world), [""; 0]);
}

fn limited(audio: usize, video: usize) -> World {
    with(SourceSettings { senders: SenderLimits { audio, video }, ..SourceSettings::default() })
}

fn says(world: &mut World, nick: &str, audio: bool, video: bool) {
    let info = format!(
        "<SourceInfo>{{\"{nick}-a0\":{{\"muted\":{}}},\"{nick}-v0\":{{\"muted\":{}}}}}</SourceInfo>",
        !audio, !video
    );
    world.extras.insert((ROOM.to_owned(), nick.to_owned()), info);
}

/// What our presence says of limits.
fn properties(world: &World) -> Vec<(String, String)> {
    let said = world.said(ROOM, "conference-properties");
    let property = |property: &tokio_xmpp::minidom::Element| {
        Some((property.attr("key")?.to_owned(), property.attr("value")?.to_owned()))
    };
    let all = said.iter().flat_map(|properties| properties.children()).filter_map(property);
    all.filter(|(key, _)| key.ends_with("-limit-reached")).collect()
}

fn full(medium: &str, full: bool) -> (String, String) {
    (format!("{medium}-limit-reached"), full.to_string())
}

#[test]
fn the_room_is_told_when_as_many_send_as_may() {
    let mut world = limited(2, 3);
    for nick in ["alice", "bob", "carol"] {
        says(&mut world, nick, true, true);
    }
    world.join(ROOM, "alice", |_| {});
    assert_eq!(properties(&world), []);
    world.join(ROOM, "bob", |_| {});
    assert_eq!(properties(&world), [full("audio", true)]);
    world.join(ROOM, "carol", |_| {});
    assert_eq!(properties(&world), [full("audio", true), full("video", true)]);
    let offer = |world: &mut World, nick: &str| world.client(ROOM, nick).last("session-initiate").start_muted.clone();
    let muted = offer(&mut world, "carol").expect("the third starts muted");
    assert!(muted.audio && !muted.video, "as one beyond the limit of audio: {muted:?}");
    assert!(offer(&mut world, "bob").is_none());
    // Nobody may add what would be one more, not even a second one of its own.
    let before = world.bridge("jvb1").requests.len();
    for nick in ["alice", "carol"] {
        let refused = change(&mut world, "source-add", nick, video(nick, 77_001));
        assert_eq!(refused.as_deref(), Some("resource-constraint"), "{nick}");
    }
    assert_eq!(world.bridge("jvb1").requests.len(), before, "nothing changed");
    assert_eq!(world.focus.stats(world.now)["refused"]["senders"], 2);
    // Places become free by muting, and by leaving.
    says(&mut world, "carol", false, false);
    let presence = world.presence_of(ROOM, "carol");
    world.feed(&presence);
    assert_eq!(properties(&world), [full("audio", true), full("video", false)]);
    assert_eq!(change(&mut world, "source-add", "carol", video("carol", 77_001)), None);
    world.leave(ROOM, "bob");
    assert_eq!(properties(&world), [full("audio", false), full("video", false)]);
}

#[test]
fn what_cannot_be_read_changes_no_count() {
    let mut world = limited(1, 1);
    world.join(ROOM, "alice", |_| {});
    for nonsense in ["x", "[]", "{&quot;alice-a0&quot;:1}", &"y".repeat(20_000)] {
        world.extras.insert((ROOM.into(), "alice".into()), format!("<SourceInfo>{nonsense}</SourceInfo>"));
        let presence = world.presence_of(ROOM, "alice");
        world.feed(&presence);
        assert_eq!(properties(&world), [], "{nonsense:.20}");
    }
    assert_eq!(world.focus.stats(world.now)["refused"]["presence_part"], 4);
    says(&mut world, "alice", true, false);
    let presence = world.presence_of(ROOM, "alice");
    world.feed(&presence);
    assert_eq!(properties(&world), [full("audio", true)]);
    // The same again, and nonsense after it: still one.
    world.feed(&presence);
    world.extras.insert((ROOM.into(), "alice".into()), "<SourceInfo>x</SourceInfo>".into());
    let presence = world.presence_of(ROOM, "alice");
    world.feed(&presence);
    assert_eq!(properties(&world), [full("audio", true)]);
    world.join(ROOM, "bob", |_| {});
    world.leave(ROOM, "alice");
    assert_eq!(properties(&world), [full("audio", false)]);
}

/// Moderation and the limit are two things: who is allowed by a moderator is still one too many, and who is not forbidden too.
#[test]
fn who_may_unmute_by_moderation_is_bound_by_the_limit_too() {
    let mut world = with(SourceSettings { senders: SenderLimits { audio: 1, video: 9 }, ..SourceSettings::default() });
    says(&mut world, "alice", true, false);
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    assert_eq!(properties(&world), [full("audio", true)]);
    let muted = world.client(ROOM, "bob").last("session-initiate").start_muted.clone().expect("one too many");
    assert!(muted.audio && !muted.video, "{muted:?}");
    let audio = |nick: &str| {
        let mut one = source(nick, 88_001, "audio", false);
        one.parameters[0].value = Some(format!("{nick}-more track"));
        vec![content("audio", vec![one])]
    };
    assert_eq!(change(&mut world, "source-add", "bob", audio("bob")).as_deref(), Some("resource-constraint"));
    // A request to be unmuted is about what a moderator did, as in Jicofo: the limit says nothing of it.
    let answer = world.ask(
        &format!("{ROOM}/bob"),
        "set",
        &format!("<mute xmlns='http://jitsi.org/jitmeet/audio' jid='{ROOM}/bob'>false</mute>"),
    );
    assert_eq!(condition(&answer.expect("an answer")), None);
    assert_eq!(change(&mut world, "source-add", "bob", audio("bob")).as_deref(), Some("resource-constraint"));
}

#[test]
fn sources_of_one_participant_are_bounded_by_the_settings() {
    let limits = SourceLimits { ssrcs: 8, groups: 4 };
    let mut world = with(SourceSettings { limits, ..SourceSettings::default() });
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    // One of audio and six of video are there already, and four groups.
    assert_eq!(change(&mut world, "source-add", "bob", video("bob", 77_001)), None);
    assert_eq!(change(&mut world, "source-add", "bob", video("bob", 77_002)).as_deref(), Some("bad-request"));
}
