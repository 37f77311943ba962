//! Who may send what: moderation of rooms, members who are muted, and metadata; and who may say so. With a clock of its own.

mod focus_world;

use std::collections::BTreeMap;
use std::time::Duration;

use focus_world::{Answers, FOCUS, ROOM, World, content, source};
use ringbridge_controlplane::colibri::elements::ForceMute;
use ringbridge_controlplane::jingle::{Jingle, StartMuted};
use serde_json::{Value, json};

const MODERATION: &str = "avmoderation.meet.test";
const METADATA: &str = "metadata.meet.test";

/// A world whose server has both components, with a bridge.
fn world() -> World {
    let mut world = World::new();
    world.components = Some(vec![("av_moderation", MODERATION), ("room_metadata", METADATA)]);
    world.online(false);
    world.add_bridge("jvb1", &[]);
    world
}

/// The same with three members, of whom `aaaa` is the owner.
fn call() -> World {
    let mut world = world();
    for nick in ["aaaa", "bbbb", "cccc"] {
        world.join(ROOM, nick, |_| {});
    }
    assert_eq!(world.client(ROOM, "aaaa").affiliation, "owner");
    world
}

fn message(from: &str, room: Option<&str>, json: &str) -> String {
    let room = room.map(|room| format!(" room='{room}'")).unwrap_or_default();
    format!(
        "<message xmlns='jabber:client' from='{from}' to='{FOCUS}'>\
         <json-message xmlns='http://jitsi.org/jitmeet'{room}>{}</json-message></message>",
        focus_world::escape(json)
    )
}

/// The component of moderation says something of the room.
fn say(world: &mut World, mut what: Value) {
    what["type"] = json!("av_moderation");
    what["room"] = json!(ROOM);
    world.feed(&message(MODERATION, None, &what.to_string()));
}

fn moderate(world: &mut World, medium: &str, on: bool) {
    say(world, json!({ "mediaType": medium, "enabled": on, "actor": format!("{ROOM}/aaaa") }));
}

fn allow(world: &mut World, medium: &str, nicks: &[&str]) {
    let list: Vec<String> = nicks.iter().map(|nick| format!("{ROOM}/{nick}")).collect();
    say(world, json!({ "mediaType": medium, "whitelists": { medium: list } }));
}

fn tell(world: &mut World, metadata: Value) {
    let text = json!({ "type": "room_metadata", "metadata": metadata }).to_string();
    world.feed(&message(METADATA, Some(ROOM), &text));
}

/// What the bridge was last asked to drop of a member in its present session; nothing when it was not asked.
fn dropped(world: &mut World, nick: &str) -> Option<(bool, bool)> {
    let requests = world.bridge("jvb1").requests.clone();
    let mut state = None;
    for endpoint in requests.iter().flat_map(|request| &request.endpoints).filter(|endpoint| endpoint.id == nick) {
        if endpoint.create {
            state = None;
        }
        state = endpoint.force_mute.map(|ForceMute { audio, video }| (audio, video)).or(state);
    }
    state
}

/// How often the bridge was asked to drop anything.
fn drop_requests(world: &mut World) -> usize {
    let requests = world.bridge("jvb1").requests.clone();
    requests.iter().flat_map(|request| &request.endpoints).filter(|endpoint| endpoint.force_mute.is_some()).count()
}

fn mutes(world: &mut World, nick: &str) -> Vec<String> {
    let mutes = world.client(ROOM, nick).mutes.clone();
    mutes.iter().map(|mute| format!("{} {}", mute.ns().rsplit('/').next().unwrap(), mute.text())).collect()
}

fn refused(world: &World, reason: &str) -> u64 {
    world.focus.stats(world.now)["refused"][reason].as_u64().expect("a count")
}

/// A member asks for a target to be muted or unmuted; the condition of the error.
fn ask(world: &mut World, by: &str, target: &str, medium: &str, on: &str) -> Option<String> {
    let payload = format!("<mute xmlns='http://jitsi.org/jitmeet/{medium}' jid='{target}'>{on}</mute>");
    focus_world::condition(&world.ask(by, "set", &payload).expect("an answer"))
}

fn occupant(nick: &str) -> String {
    format!("{ROOM}/{nick}")
}

fn start_muted(world: &mut World, nick: &str) -> (bool, bool) {
    let offer = world.client(ROOM, nick).last("session-initiate").clone();
    offer.start_muted.map_or((false, false), |StartMuted { audio, video }| (audio, video))
}

#[test]
fn who_may_not_speak_is_told_so_and_dropped_by_the_bridge() {
    let mut world = call();
    moderate(&mut world, "audio", true);
    assert_eq!(dropped(&mut world, "aaaa"), None, "moderators may always");
    assert_eq!(dropped(&mut world, "bbbb"), Some((true, false)));
    assert_eq!(dropped(&mut world, "cccc"), Some((true, false)));
    assert_eq!((mutes(&mut world, "aaaa"), mutes(&mut world, "bbbb")), (vec![], vec!["audio true".to_owned()]));
    // Again, it is no news.
    let before = drop_requests(&mut world);
    moderate(&mut world, "audio", true);
    assert_eq!((drop_requests(&mut world), mutes(&mut world, "bbbb").len()), (before, 1));
    allow(&mut world, "audio", &["bbbb"]);
    assert_eq!((dropped(&mut world, "bbbb"), dropped(&mut world, "cccc")), (Some((false, false)), Some((true, false))));
    allow(&mut world, "audio", &[]);
    assert_eq!(dropped(&mut world, "bbbb"), Some((true, false)), "and not any more");
    moderate(&mut world, "audio", false);
    assert_eq!(
        (dropped(&mut world, "bbbb"), dropped(&mut world, "cccc")),
        (Some((false, false)), Some((false, false)))
    );
}

#[test]
fn newcomers_to_a_moderated_room_start_muted_and_are_dropped_from_the_start() {
    let mut world = call();
    moderate(&mut world, "audio", true);
    moderate(&mut world, "video", true);
    allow(&mut world, "audio", &["eeee"]);
    world.join(ROOM, "dddd", |_| {});
    world.join(ROOM, "eeee", |_| {});
    let created = |world: &mut World, nick: &str| {
        let requests = world.bridge("jvb1").requests.clone();
        let endpoint = requests.iter().flat_map(|r| &r.endpoints).find(|e| e.id == nick && e.create).cloned();
        endpoint.expect("an endpoint").force_mute
    };
    assert_eq!(created(&mut world, "dddd"), Some(ForceMute { audio: true, video: true }));
    assert_eq!(created(&mut world, "eeee"), Some(ForceMute { audio: false, video: true }));
    // `startAudioMuted` of the request is 2, and there are more.
    assert_eq!((start_muted(&mut world, "dddd"), start_muted(&mut world, "eeee")), ((true, true), (true, true)));
    assert!(mutes(&mut world, "dddd").is_empty(), "the offer says it");
}

#[test]
fn a_moderator_may_speak_from_when_on_it_is_one() {
    let mut world = call();
    moderate(&mut world, "audio", true);
    let presence = |affiliation: &str, role: &str| {
        format!(
            "<presence xmlns='jabber:client' from='{ROOM}/bbbb' to='{FOCUS}'><x xmlns='http://jabber.org/protocol/muc#user'>\
             <item role='{role}' affiliation='{affiliation}' jid='u300@meet.test/web'/></x></presence>"
        )
    };
    world.feed(&presence("owner", "moderator"));
    assert_eq!(dropped(&mut world, "bbbb"), Some((false, false)));
    world.feed(&presence("none", "participant"));
    assert_eq!(dropped(&mut world, "bbbb"), Some((true, false)));
}

#[test]
fn camera_and_screen_are_one_kind_to_the_bridge() {
    let mut world = call();
    moderate(&mut world, "desktop", true);
    assert_eq!(dropped(&mut world, "bbbb"), None, "the camera may be sent");
    moderate(&mut world, "video", true);
    assert_eq!(dropped(&mut world, "bbbb"), Some((false, true)));
    allow(&mut world, "desktop", &["bbbb"]);
    assert_eq!(dropped(&mut world, "bbbb"), Some((false, true)), "it shares no screen");
    let sid = world.client(ROOM, "bbbb").sid.clone();
    let mut screen = source("bbbb", 77, "video", true);
    (screen.name, screen.video_type) = (Some("bbbb-v1".into()), Some("desktop".into()));
    let change =
        |action: &str| Jingle { contents: vec![content("video", vec![screen.clone()])], ..Jingle::new(action, &sid) };
    assert_eq!(world.jingle(ROOM, "bbbb", change("source-add")), None);
    assert_eq!(dropped(&mut world, "bbbb"), Some((false, false)), "it does now");
    assert_eq!(world.jingle(ROOM, "bbbb", change("source-remove")), None);
    assert_eq!(dropped(&mut world, "bbbb"), Some((false, true)));
    assert_eq!(mutes(&mut world, "bbbb"), ["desktop true", "video true"]);
}

#[test]
fn who_is_invited_again_is_dropped_again() {
    let mut world = call();
    moderate(&mut world, "audio", true);
    assert_eq!(ask(&mut world, &occupant("aaaa"), &occupant("bbbb"), "video", "true"), None);
    world.add_bridge("jvb2", &[]);
    world.kill_bridge("jvb1");
    let requests = world.bridge("jvb2").requests.clone();
    let of = |nick: &str| {
        let endpoint = requests.iter().flat_map(|request| &request.endpoints).find(|e| e.id == nick && e.create);
        endpoint.unwrap_or_else(|| panic!("no endpoint {nick}")).force_mute
    };
    assert_eq!(of("aaaa"), None);
    assert_eq!(of("bbbb"), Some(ForceMute { audio: true, video: true }));
    assert_eq!(of("cccc"), Some(ForceMute { audio: true, video: false }));
}

#[test]
fn a_muted_member_is_dropped_until_it_unmutes() {
    let mut world = call();
    for (medium, state) in [("audio", (true, false)), ("video", (false, true))] {
        assert_eq!(ask(&mut world, &occupant("aaaa"), &occupant("bbbb"), medium, "true"), None);
        assert_eq!(dropped(&mut world, "bbbb"), Some(state), "{medium}");
        // Nobody else unmutes it, it does.
        for by in ["aaaa", "cccc"] {
            let answer = ask(&mut world, &occupant(by), &occupant("bbbb"), medium, "false");
            assert_eq!(answer.as_deref(), Some("not-allowed"), "{by}");
        }
        assert_eq!(dropped(&mut world, "bbbb"), Some(state));
        assert_eq!(ask(&mut world, &occupant("bbbb"), &occupant("bbbb"), medium, "false"), None);
        assert_eq!(dropped(&mut world, "bbbb"), Some((false, false)));
    }
    assert_eq!(mutes(&mut world, "bbbb"), ["audio true", "video true"]);
    // A screen alone leaves the camera on the bridge.
    assert_eq!(ask(&mut world, &occupant("aaaa"), &occupant("bbbb"), "desktop", "true"), None);
    assert_eq!(dropped(&mut world, "bbbb"), Some((false, false)));
    // Who mutes itself is believed.
    assert_eq!(ask(&mut world, &occupant("cccc"), &occupant("cccc"), "audio", "true"), None);
    assert_eq!(dropped(&mut world, "cccc"), None);
}

#[test]
fn in_a_moderated_room_nobody_unmutes_without_leave() {
    let mut world = call();
    moderate(&mut world, "audio", true);
    let unmute =
        |world: &mut World, nick: &str, medium: &str| ask(world, &occupant(nick), &occupant(nick), medium, "false");
    assert_eq!(unmute(&mut world, "bbbb", "audio").as_deref(), Some("not-allowed"));
    assert_eq!(dropped(&mut world, "bbbb"), Some((true, false)));
    assert_eq!(unmute(&mut world, "bbbb", "video"), None, "that is not moderated");
    assert_eq!(unmute(&mut world, "aaaa", "audio"), None, "a moderator may");
    allow(&mut world, "audio", &["bbbb"]);
    assert_eq!(unmute(&mut world, "bbbb", "audio"), None);
    assert_eq!((dropped(&mut world, "bbbb"), refused(&world, "mute")), (Some((false, false)), 1));
    // Muted one by one as well: both have to be gone.
    assert_eq!(ask(&mut world, &occupant("aaaa"), &occupant("bbbb"), "audio", "true"), None);
    moderate(&mut world, "audio", false);
    assert_eq!(dropped(&mut world, "bbbb"), Some((true, false)));
    assert_eq!(unmute(&mut world, "bbbb", "audio"), None);
    assert_eq!(dropped(&mut world, "bbbb"), Some((false, false)));
}

#[test]
fn nobody_but_moderators_of_the_room_mutes_anybody() {
    let mut world = call();
    world.join("other@conference.meet.test", "aaaa", |_| {});
    let bbbb = occupant("bbbb");
    let before = drop_requests(&mut world);
    let tries = [
        (occupant("cccc"), bbbb.clone(), "audio", "true", "not-allowed"),
        (occupant("cccc"), bbbb.clone(), "video", "true", "not-allowed"),
        (occupant("cccc"), bbbb.clone(), "desktop", "true", "not-allowed"),
        // An owner, but of another room.
        ("other@conference.meet.test/aaaa".to_owned(), bbbb.clone(), "audio", "true", "internal-server-error"),
        // From outside, and from a room that is none.
        ("u300@meet.test/web".to_owned(), bbbb.clone(), "audio", "true", "item-not-found"),
        ("none@conference.meet.test/aaaa".to_owned(), bbbb.clone(), "audio", "true", "item-not-found"),
        // Names that are nobody's.
        (occupant("zzzz"), bbbb.clone(), "audio", "true", "internal-server-error"),
        (occupant("aaaa"), occupant("zzzz"), "audio", "true", "internal-server-error"),
        (occupant("aaaa"), "u300@meet.test/web".to_owned(), "audio", "true", "internal-server-error"),
        (occupant("aaaa"), ROOM.to_owned(), "audio", "true", "internal-server-error"),
        // Malformed.
        (occupant("aaaa"), bbbb.clone(), "audio", "", "bad-request"),
        (occupant("aaaa"), bbbb.clone(), "audio", "yes", "bad-request"),
        (occupant("aaaa"), String::new(), "audio", "true", "bad-request"),
        (occupant("aaaa"), "@/".to_owned(), "audio", "true", "bad-request"),
        (occupant("aaaa"), bbbb.clone(), "smell", "true", "service-unavailable"),
    ];
    let count = tries.len() as u64;
    for (by, target, medium, on, expected) in tries {
        let answer = ask(&mut world, &by, &target, medium, on);
        assert_eq!(answer.as_deref(), Some(expected), "{by} {target} {medium} {on}");
    }
    assert_eq!((drop_requests(&mut world), mutes(&mut world, "bbbb").len()), (before, 0));
    assert_eq!(refused(&world, "mute") + refused(&world, "unserved"), count);
}

#[test]
fn only_the_component_says_what_is_moderated() {
    let mut world = call();
    let text = json!({ "type": "av_moderation", "room": ROOM, "mediaType": "audio", "enabled": true }).to_string();
    let foreign = [
        "meet.test",
        "evil.meet.test",
        "evil@meet.test/x",
        "room@conference.meet.test/aaaa",
        "room@conference.meet.test",
        "avmoderation.meet.test/x",
        "x@avmoderation.meet.test",
        "focus@auth.meet.test/focus",
    ];
    for from in foreign {
        world.feed(&message(from, None, &text));
    }
    assert_eq!(refused(&world, "foreign_message"), foreign.len() as u64);
    // What is said in a room, or by a component of another kind, or as an error, is no such message either.
    for kind in ["groupchat", "chat", "error", "headline"] {
        world.feed(&message(MODERATION, None, &text).replace("<message ", &format!("<message type='{kind}' ")));
    }
    assert_eq!((refused(&world, "foreign_message"), refused(&world, "message")), (foreign.len() as u64, 0));
    world.feed(&message(METADATA, Some(ROOM), &text));
    assert_eq!(refused(&world, "message"), 1);
    assert_eq!((drop_requests(&mut world), mutes(&mut world, "bbbb").len()), (0, 0));
}

#[test]
fn without_components_nobody_is_listened_to() {
    let mut world = World::new();
    world.add_bridge("jvb1", &[]);
    for nick in ["aaaa", "bbbb"] {
        world.join(ROOM, nick, |_| {});
    }
    moderate(&mut world, "audio", true);
    tell(&mut world, json!({ "startMuted": { "audio": true } }));
    assert_eq!((drop_requests(&mut world), refused(&world, "foreign_message")), (0, 2));
    // And not any more, when the module is gone.
    world.components = Some(vec![("av_moderation", MODERATION)]);
    world.pass(61);
    moderate(&mut world, "audio", true);
    assert_eq!(dropped(&mut world, "bbbb"), Some((true, false)));
    world.components = Some(Vec::new());
    world.pass(61);
    moderate(&mut world, "audio", false);
    assert_eq!(dropped(&mut world, "bbbb"), Some((true, false)));
}

#[test]
fn what_a_component_says_amiss_changes_nothing_and_is_counted() {
    let mut world = call();
    moderate(&mut world, "audio", true);
    let before = (drop_requests(&mut world), world.focus.debug());
    let mut amiss = vec![
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        json!({ "type": "av_moderation" }).to_string(),
        json!({ "type": "av_moderation", "room": "no room", "mediaType": "audio", "enabled": false }).to_string(),
        json!({ "type": "av_moderation", "room": "none@conference.meet.test", "mediaType": "audio", "enabled": false })
            .to_string(),
        json!({ "type": "av_moderation", "room": ROOM, "mediaType": "smell", "enabled": false }).to_string(),
        json!({ "type": "av_moderation", "room": ROOM, "whitelists": { "audio": [7] } }).to_string(),
        json!({ "type": "room_metadata", "metadata": {} }).to_string(),
        json!({ "type": "av_moderation", "room": ROOM, "x": "x".repeat(300_000) }).to_string(),
    ];
    amiss.push(format!(
        "{{\"type\":\"av_moderation\",\"room\":\"{ROOM}\",\"x\":{}1{}}}",
        "[".repeat(500),
        "]".repeat(500)
    ));
    for text in &amiss {
        world.feed(&message(MODERATION, Some(ROOM), text));
    }
    assert_eq!(refused(&world, "message"), amiss.len() as u64);
    assert_eq!((drop_requests(&mut world), world.focus.debug()), before);
}

#[test]
fn lists_of_other_rooms_occupants_allow_nobody() {
    let mut world = call();
    moderate(&mut world, "audio", true);
    let others = ["other@conference.meet.test/bbbb", "bbbb", "room@conference.meet.testing/bbbb", ROOM];
    say(&mut world, json!({ "whitelists": { "audio": others } }));
    assert_eq!(dropped(&mut world, "bbbb"), Some((true, false)));
}

#[test]
fn a_bridge_that_refuses_to_mute_does_not_end_anybodys_session() {
    let mut world = call();
    world.bridge("jvb1").answers = Answers::Error("bad-request", None);
    moderate(&mut world, "audio", true);
    world.bridge("jvb1").answers = Answers::Well;
    for nick in ["aaaa", "bbbb", "cccc"] {
        assert!(!world.client(ROOM, nick).actions().contains(&"session-terminate"), "{nick}");
    }
}

#[test]
fn newcomers_start_muted_where_the_metadata_says_so() {
    let mut world = world();
    world.join(ROOM, "aaaa", |_| {});
    tell(&mut world, json!({ "startMuted": { "audio": true, "video": true } }));
    world.join(ROOM, "bbbb", |_| {});
    assert_eq!((start_muted(&mut world, "aaaa"), start_muted(&mut world, "bbbb")), ((true, true), (true, true)));
    assert_eq!(dropped(&mut world, "bbbb"), None, "they may unmute");
    // Who is invited again is no newcomer.
    world.add_bridge("jvb2", &[]);
    world.kill_bridge("jvb1");
    assert_eq!(start_muted(&mut world, "bbbb"), (false, false));
    // Not said is as before; no is no.
    tell(&mut world, json!({ "lobbyEnabled": true }));
    world.join(ROOM, "cccc", |_| {});
    assert_eq!(start_muted(&mut world, "cccc"), (true, true));
    tell(&mut world, json!({ "startMuted": {} }));
    world.leave(ROOM, "bbbb");
    world.join(ROOM, "dddd", |_| {});
    // `startAudioMuted` of the request is 2.
    assert_eq!(start_muted(&mut world, "dddd"), (true, false));
}

#[test]
fn metadata_is_kept_for_who_asks() {
    let mut world = call();
    tell(
        &mut world,
        json!({
            "moderators": ["u1"], "participants": ["u2"], "participantsSoftLimit": 3, "visitorsEnabled": true,
            "visitors": { "live": true }, "recording": { "isTranscribingEnabled": true }, "asyncTranscription": true
        }),
    );
    let expected = json!({
        "start_muted": null, "moderators": ["u1"], "participants": ["u2"], "participants_soft_limit": 3,
        "visitors_enabled": true, "visitors_live": true, "lobby_enabled": false, "transcribing": true
    });
    assert_eq!(world.focus.debug()[ROOM]["metadata"], expected);
    tell(&mut world, json!({}));
    let metadata = world.focus.debug()[ROOM]["metadata"].clone();
    assert_eq!((&metadata["participants_soft_limit"], &metadata["transcribing"]), (&json!(3), &json!(false)));
    // Of strangers, and of other rooms.
    let text = json!({ "type": "room_metadata", "metadata": { "lobbyEnabled": true } }).to_string();
    for (from, room) in
        [("evil@meet.test/x", Some(ROOM)), (METADATA, None), (METADATA, Some("none@conference.meet.test"))]
    {
        world.feed(&message(from, room, &text));
    }
    assert_eq!(world.focus.debug()[ROOM]["metadata"], metadata);
    assert_eq!((refused(&world, "foreign_message"), refused(&world, "message")), (1, 2));
}

#[test]
fn a_room_that_promises_metadata_waits_for_it() {
    let promise = "<field var='muc#roominfo_conference_presets_service_enabled'><value>true</value></field>";
    let ready = |world: &mut World| {
        let payload = format!("<conference xmlns='http://jitsi.org/protocol/focus' room='{ROOM}' machine-uid='1'/>");
        let answer = world.ask("3f2b@meet.test/web", "set", &payload);
        answer.map(|answer| answer.children().next().unwrap().attr("ready").unwrap().to_owned())
    };
    let mut world = world();
    world.room_info = Some(BTreeMap::from([(ROOM.to_owned(), promise.to_owned())]));
    assert_eq!(ready(&mut world), None);
    tell(&mut world, json!({ "startMuted": { "audio": true } }));
    assert_eq!(ready(&mut world).as_deref(), Some("true"));
    // Ten seconds at most.
    let other = "other@conference.meet.test";
    world.room_info = Some(BTreeMap::from([(other.to_owned(), promise.to_owned())]));
    assert!(world.request_conference(other).is_none());
    world.wait(Duration::from_millis(9_900));
    assert_eq!(world.replies.len(), 2);
    world.wait(Duration::from_millis(200));
    assert_eq!(world.replies.len(), 3);
}

#[test]
fn what_is_said_before_the_room_is_entered_counts() {
    // So it is after a restart: the component describes a room as soon as the focus asks to be let in.
    let mut world = world();
    world.holds_joins = true;
    world.request_conference(ROOM);
    moderate(&mut world, "audio", true);
    allow(&mut world, "audio", &["cccc"]);
    tell(&mut world, json!({ "startMuted": { "video": true } }));
    world.holds_joins = false;
    world.feed(&format!(
        "<presence xmlns='jabber:client' from='{ROOM}/focus' to='{FOCUS}'><x xmlns='http://jabber.org/protocol/muc#user'>\
         <item role='moderator' affiliation='owner' jid='{FOCUS}'/><status code='110'/></x></presence>"
    ));
    for nick in ["aaaa", "bbbb", "cccc"] {
        world.join(ROOM, nick, |_| {});
    }
    assert_eq!(dropped(&mut world, "bbbb"), Some((true, false)));
    assert_eq!(dropped(&mut world, "cccc"), None);
    assert_eq!(start_muted(&mut world, "bbbb"), (true, true));
    assert!(mutes(&mut world, "bbbb").is_empty());
}

#[test]
fn recorders_and_gateways_are_muted_only_where_they_can_unmute() {
    let mut world = call();
    let claims = |nick: &str, real: &str, feature: &str| {
        format!(
            "<presence xmlns='jabber:client' from='{ROOM}/{nick}' to='{FOCUS}'><features><feature var='{feature}'/></features>\
             <x xmlns='http://jabber.org/protocol/muc#user'><item role='participant' affiliation='none' jid='{real}'/></x></presence>"
        )
    };
    let (jibri, jigasi) = ("http://jitsi.org/protocol/jibri", "http://jitsi.org/protocol/jigasi");
    for (nick, real, feature) in [
        ("jibri", "jibri@auth.meet.test/1", jibri),
        ("phone", "jigasi@auth.meet.test/1", jigasi),
        // Strangers may claim what they like.
        ("liar", "liar@meet.test/1", jibri),
    ] {
        world.join(ROOM, nick, |client| client.real = real.to_owned());
        world.feed(&claims(nick, real, feature));
    }
    world.join(ROOM, "mutable", |client| {
        client.real = "jigasi@auth.meet.test/2".to_owned();
        client.features.push("http://jitsi.org/protocol/audio-mute");
        client.hash = "of-others";
    });
    world.feed(&claims("mutable", "jigasi@auth.meet.test/2", jigasi));
    for (nick, expected) in
        [("jibri", Some("not-allowed")), ("phone", Some("not-allowed")), ("liar", None), ("mutable", None)]
    {
        let answer = ask(&mut world, &occupant("aaaa"), &occupant(nick), "audio", "true");
        assert_eq!(answer.as_deref(), expected, "{nick}");
        let state = expected.is_none().then_some((true, false));
        assert_eq!(dropped(&mut world, nick), state, "{nick}");
    }
    moderate(&mut world, "video", true);
    for (nick, muted) in [("jibri", false), ("phone", false), ("liar", true), ("mutable", true)] {
        assert_eq!(mutes(&mut world, nick).contains(&"video true".to_owned()), muted, "{nick}");
        assert_eq!(dropped(&mut world, nick), muted.then_some((true, true)), "{nick}");
    }
}
