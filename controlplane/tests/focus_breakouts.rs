//! Breakout rooms: which are served, what keeps the main room, and who owns what, with a clock of its own.

mod focus_world;
mod former_process;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use focus_world::{FOCUS, HEAD, ROOM, World, owners, settings};

const BREAKOUT: &str = "6b1f@breakout.meet.test";
const OTHER: &str = "7c2e@breakout.meet.test";
const WAIT: Duration = Duration::from_secs(16);

/// What the service says of a breakout room of that main room.
fn belongs_to(main: &str) -> String {
    format!(
        "<field var='muc#roominfo_isbreakout' type='boolean'><value>1</value></field>\
         <field var='muc#roominfo_breakout_main_room'><value>{main}</value></field>"
    )
}

/// A world whose server has breakout rooms, with a bridge.
fn world() -> World {
    let mut world = World::new();
    world.components = Some(vec![("breakout_rooms", "breakout.meet.test")]);
    world.room_info =
        Some(BTreeMap::from([(BREAKOUT.to_owned(), belongs_to(ROOM)), (OTHER.to_owned(), belongs_to(ROOM))]));
    world.online(false);
    world.add_bridge("jvb1", &[]);
    world
}

fn refused(world: &World, reason: &str) -> u64 {
    world.focus.stats(world.now)["refused"][reason].as_u64().expect("a count")
}

fn is_error(world: &mut World, room: &str) -> Option<String> {
    focus_world::condition(&world.request_conference(room).expect("an answer"))
}

/// A client was invited once to a room, and knows that other's sources, or nobody's.
fn has_media(world: &mut World, room: &str, nick: &str, other: Option<&str>) {
    let client = world.client(room, nick).clone();
    assert_eq!(client.offers(), 1, "{nick}");
    let sources = client.jingles.iter().filter(|jingle| jingle.json_message.is_some());
    let known: BTreeSet<String> =
        sources.flat_map(|jingle| owners(jingle).into_keys()).filter(|o| o != "jvb").collect();
    assert_eq!(known, other.map(str::to_owned).into_iter().collect(), "{nick} in {room}");
}

fn has_room(world: &World, room: &str) -> bool {
    world.rooms.contains_key(room)
}

#[test]
fn rooms_of_the_service_that_announces_itself_are_served() {
    let mut world = World::new();
    assert_eq!(is_error(&mut world, BREAKOUT).as_deref(), Some("not-allowed"));
    world.components = Some(vec![("breakout_rooms", "breakout.meet.test"), ("speakerstats", "speakers.meet.test")]);
    let before = world.components_asked;
    world.pass(61);
    assert_eq!(world.components_asked, before + 1, "modules may be loaded later");
    world.add_bridge("jvb1", &[]);
    assert_eq!(is_error(&mut world, BREAKOUT), None);
    for foreign in ["x@speakers.meet.test", "x@meet.test", "breakout.meet.test", "x@evil.breakout.meet.test"] {
        assert_eq!(is_error(&mut world, foreign).as_deref(), Some("not-allowed"), "{foreign}");
    }
}

#[test]
fn the_setting_names_the_service_where_nothing_announces_it() {
    let breakout_muc = Some("breakout.meet.test".parse().unwrap());
    let mut world = World::with(focus_world_settings(breakout_muc));
    assert_eq!(is_error(&mut world, BREAKOUT), None);
}

fn focus_world_settings(
    breakout_muc: Option<tokio_xmpp::jid::BareJid>,
) -> ringbridge_controlplane::focus::FocusSettings {
    ringbridge_controlplane::focus::FocusSettings { breakout_muc, ..settings() }
}

#[test]
fn a_host_that_does_not_answer_is_asked_again_and_what_was_known_stays() {
    let mut world = world();
    let before = world.components_asked;
    world.components = None;
    world.pass(61);
    assert_eq!(world.components_asked, before + 1);
    // 15 s without an answer, 15 s until the next question.
    world.pass(31);
    assert_eq!(world.components_asked, before + 2);
    assert_eq!(is_error(&mut world, BREAKOUT), None, "it is known from before");
    world.components = Some(Vec::new());
    world.pass(100);
    assert_eq!(is_error(&mut world, OTHER).as_deref(), Some("not-allowed"), "the module was unloaded");
}

#[test]
fn strangers_cannot_announce_components() {
    let mut world = World::new();
    world.components = None;
    world.online(false);
    for from in ["evil@meet.test/x", "breakout.meet.test", "room@conference.meet.test/evil"] {
        for id in 0..40 {
            world.feed(&format!(
                "<iq xmlns='jabber:client' type='result' id='rb-{id}' from='{from}' to='{FOCUS}'>\
                 <query xmlns='http://jabber.org/protocol/disco#info'>\
                 <identity category='component' type='breakout_rooms' name='breakout.meet.test'/></query></iq>"
            ));
        }
    }
    assert_eq!(is_error(&mut world, BREAKOUT).as_deref(), Some("not-allowed"));
}

#[test]
fn nobody_is_made_owner_in_a_breakout_room() {
    let mut world = world();
    world.join(ROOM, "aaaa", |_| {});
    assert_eq!(world.admin.len(), 1, "the main room has an owner");
    world.join(ROOM, "bbbb", |_| {});
    world.switch(ROOM, BREAKOUT, "bbbb");
    world.join(BREAKOUT, "cccc", |_| {});
    assert_eq!(world.admin.len(), 1, "{:?}", world.admin);
    has_media(&mut world, BREAKOUT, "cccc", Some("bbbb"));
    has_media(&mut world, BREAKOUT, "bbbb", Some("cccc"));
}

#[test]
fn the_main_room_stays_while_its_members_are_away_and_they_have_media_again_when_they_return() {
    let mut world = world();
    for nick in ["aaaa", "bbbb", "cccc"] {
        world.join(ROOM, nick, |_| {});
    }
    world.switch(ROOM, BREAKOUT, "aaaa");
    world.switch(ROOM, BREAKOUT, "bbbb");
    has_media(&mut world, BREAKOUT, "aaaa", Some("bbbb"));
    has_media(&mut world, BREAKOUT, "bbbb", Some("aaaa"));
    world.switch(ROOM, OTHER, "cccc");
    assert!(has_room(&world, ROOM), "nobody is in it, but it has breakout rooms");
    let in_main = |world: &World| world.focus.stats(world.now)["conferences"].as_u64().expect("a number");
    assert_eq!(in_main(&world), 3);
    // Long after the time that an empty room has.
    world.pass(600);
    assert!(has_room(&world, ROOM) && has_room(&world, BREAKOUT) && has_room(&world, OTHER));
    let requests = world.bridge("jvb1").requests.clone();
    let main = requests
        .iter()
        .find(|request| request.name.as_deref() == Some(ROOM))
        .expect("the main room's")
        .meeting_id
        .clone();
    let over = requests.iter().any(|request| request.expire && request.meeting_id == main);
    assert!(over, "the bridge has no conference for an empty room");
    for nick in ["aaaa", "bbbb"] {
        world.switch(BREAKOUT, ROOM, nick);
    }
    has_media(&mut world, ROOM, "aaaa", Some("bbbb"));
    has_media(&mut world, ROOM, "bbbb", Some("aaaa"));
    assert!(world.bridge("jvb1").meetings.len() <= 2, "{:?}", world.bridge("jvb1").meetings);
    // The breakout room is left for good; it goes after a while, the main room with people in it stays.
    world.wait(WAIT);
    assert!(!has_room(&world, BREAKOUT) && has_room(&world, ROOM) && has_room(&world, OTHER));
    has_media(&mut world, ROOM, "aaaa", Some("bbbb"));
}

#[test]
fn others_in_the_main_room_keep_their_sessions() {
    let mut world = world();
    for nick in ["aaaa", "bbbb", "cccc"] {
        world.join(ROOM, nick, |_| {});
    }
    let sid = world.client(ROOM, "aaaa").sid.clone();
    for _ in 0..5 {
        world.switch(ROOM, BREAKOUT, "cccc");
        world.switch(BREAKOUT, ROOM, "cccc");
    }
    let anna = world.client(ROOM, "aaaa").clone();
    assert_eq!(anna.sid, sid);
    assert_eq!(anna.offers(), 1);
    assert_eq!(anna.actions().last(), Some(&"source-add"), "and learnt of the one who came back");
}

#[test]
fn everything_ends_when_the_last_one_leaves_for_good() {
    let mut world = world();
    world.join(ROOM, "aaaa", |_| {});
    world.join(ROOM, "bbbb", |_| {});
    world.switch(ROOM, BREAKOUT, "aaaa");
    world.switch(ROOM, BREAKOUT, "bbbb");
    assert!(has_room(&world, ROOM));
    world.leave(BREAKOUT, "aaaa");
    world.leave(BREAKOUT, "bbbb");
    assert!(!has_room(&world, BREAKOUT));
    assert!(has_room(&world, ROOM), "they may be on their way to it");
    world.wait(WAIT);
    assert!(!has_room(&world, ROOM));
    assert!(world.bridge("jvb1").meetings.is_empty(), "{:?}", world.bridge("jvb1").meetings);
}

#[test]
fn who_says_that_it_switches_and_does_not_keeps_the_room_for_a_moment_only() {
    let mut world = world();
    world.join(ROOM, "aaaa", |_| {});
    world.leave_with(ROOM, "aaaa", "<status>switch_room</status>");
    assert!(has_room(&world, ROOM));
    world.wait(WAIT);
    assert!(!has_room(&world, ROOM));
    // Any other status is none.
    world.join(ROOM, "aaaa", |_| {});
    world.leave_with(ROOM, "aaaa", "<status>switch_rooms</status>");
    assert!(!has_room(&world, ROOM));
}

#[test]
fn a_breakout_room_that_its_service_destroys_takes_nothing_else_with_it() {
    let mut world = world();
    world.join(ROOM, "aaaa", |_| {});
    world.switch(ROOM, BREAKOUT, "aaaa");
    world.clients.clear();
    world.feed(&format!(
        "<presence xmlns='jabber:client' type='unavailable' from='{BREAKOUT}/focus' to='{FOCUS}'>\
         <x xmlns='http://jabber.org/protocol/muc#user'><item role='none' affiliation='none'/>\
         <destroy jid='{ROOM}'/><status code='110'/></x></presence>"
    ));
    assert!(has_room(&world, ROOM), "who was in it may come back");
    world.join(ROOM, "aaaa", |_| {});
    world.wait(WAIT);
    assert!(has_room(&world, ROOM));
}

#[test]
fn a_main_room_that_is_none_is_kept_for_nobody() {
    for fields in [
        belongs_to("main@internal.auth.meet.test"),
        belongs_to("conference.meet.test"),
        belongs_to(BREAKOUT),
        belongs_to(""),
        "<field var='muc#roominfo_breakout_main_room'><value>room@conference.meet.test</value></field>".to_owned(),
        String::new(),
    ] {
        let mut world = world();
        world.room_info = Some(BTreeMap::from([(BREAKOUT.to_owned(), fields.clone())]));
        world.join(ROOM, "aaaa", |_| {});
        world.switch(ROOM, BREAKOUT, "aaaa");
        assert_eq!(refused(&world, "breakout"), 1, "{fields}");
        world.wait(WAIT);
        assert!(!has_room(&world, ROOM), "{fields}");
        assert!(has_room(&world, BREAKOUT), "it is served all the same");
        world.leave(BREAKOUT, "aaaa");
        assert!(!has_room(&world, BREAKOUT));
    }
}

#[test]
fn a_room_of_the_main_service_is_no_breakout_room_whatever_is_said_of_it() {
    let mut world = world();
    let other = "other@conference.meet.test";
    world.room_info = Some(BTreeMap::from([(other.to_owned(), belongs_to(ROOM))]));
    world.join(ROOM, "aaaa", |_| {});
    world.join(other, "bbbb", |_| {});
    assert_eq!(world.admin.len(), 2, "it has an owner");
    world.leave(ROOM, "aaaa");
    assert!(!has_room(&world, ROOM));
}

#[test]
fn a_main_room_has_a_bounded_number_of_breakout_rooms() {
    let mut world = world();
    world.join(ROOM, "aaaa", |_| {});
    for number in 0..101 {
        let room = format!("b{number}@breakout.meet.test");
        world.room_info.as_mut().unwrap().insert(room.clone(), belongs_to(ROOM));
        world.join(&room, "bbbb", |_| {});
        world.wait(Duration::from_secs(2));
    }
    assert_eq!(refused(&world, "breakout"), 1);
    assert!(has_room(&world, "b100@breakout.meet.test"), "it is served, but keeps nothing");
}

#[test]
fn rooms_that_are_none_do_not_keep_others_waiting() {
    let mut world = world();
    world.holds_joins = true;
    // A stranger asks for rooms that the service knows nothing of, and gets no answer; from as many addresses as it likes.
    for number in 0..40 {
        let payload = format!(
            "<conference xmlns='http://jitsi.org/protocol/focus' room='x{number}@breakout.meet.test' machine-uid='1'/>"
        );
        world.ask(&format!("evil{number}@meet.test/x"), "set", &payload);
    }
    assert!(refused(&world, "setting_up") >= 36, "{}", refused(&world, "setting_up"));
    world.holds_joins = false;
    world.join(ROOM, "aaaa", |_| {});
    assert!(has_room(&world, ROOM), "main rooms have their own places");
    world.wait(Duration::from_millis(3_500));
    assert_eq!(refused(&world, "breakout"), 4);
    assert_eq!(is_error(&mut world, BREAKOUT), None);
    assert!(has_room(&world, BREAKOUT));
}

#[test]
fn one_sender_waits_for_one_breakout_room_at_a_time() {
    let mut world = world();
    world.holds_joins = true;
    for number in 0..5 {
        let payload = format!(
            "<conference xmlns='http://jitsi.org/protocol/focus' room='x{number}@breakout.meet.test' machine-uid='1'/>"
        );
        world.ask("evil@meet.test/x", "set", &payload);
    }
    assert_eq!(refused(&world, "setting_up"), 4);
}

#[test]
fn a_refused_breakout_room_is_no_error_of_the_operators() {
    let mut world = world();
    world.refuses_joins = true;
    let answer = world.request_conference(BREAKOUT).expect("an answer");
    assert_eq!(answer.children().next().and_then(|child| child.attr("ready")), Some("false"));
    assert_eq!(refused(&world, "breakout"), 1);
}

#[test]
fn an_empty_main_room_with_breakout_rooms_is_not_the_one_that_makes_way() {
    let settings = ringbridge_controlplane::focus::FocusSettings { max_conferences: 2, ..settings() };
    let mut world = World::with(settings);
    world.components = Some(vec![("breakout_rooms", "breakout.meet.test")]);
    world.room_info = Some(BTreeMap::from([(BREAKOUT.to_owned(), belongs_to(ROOM))]));
    world.online(false);
    world.join(ROOM, "aaaa", |_| {});
    world.switch(ROOM, BREAKOUT, "aaaa");
    world.wait(Duration::from_secs(20));
    let answer = world.request_conference("new@conference.meet.test").expect("an answer");
    assert_eq!(answer.children().next().and_then(|child| child.attr("ready")), Some("false"));
    assert!(has_room(&world, ROOM));
}

#[test]
fn a_new_process_finds_breakout_rooms_and_their_main_room_again() {
    let mut before = world();
    before.join(ROOM, "aaaa", |_| {});
    before.join(ROOM, "bbbb", |_| {});
    before.switch(ROOM, BREAKOUT, "aaaa");
    // Another process knows nothing; clients ask again, as they do when the focus leaves their room.
    let mut world = world();
    world.join(BREAKOUT, "aaaa", |_| {});
    world.join(ROOM, "bbbb", |client| client.features = HEAD.to_vec());
    world.leave_with(ROOM, "bbbb", "");
    assert!(has_room(&world, ROOM), "it is kept for who is in the breakout room");
    world.join(ROOM, "bbbb", |_| {});
    world.switch(BREAKOUT, ROOM, "aaaa");
    has_media(&mut world, ROOM, "bbbb", Some("aaaa"));
}
