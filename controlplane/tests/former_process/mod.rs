//! A focus that is killed in calls, and the process that goes on with them.

use std::time::Duration;

use xmpp_parsers::presence::Presence;

use super::focus_world::{BREWERY, FOCUS, ROOM, World, settings};
use super::{BREAKOUT, has_room, world};

const MODERATION: &str = "avmoderation.meet.test";

fn sid(world: &mut World, room: &str, nick: &str) -> String {
    world.client(room, nick).sid.clone()
}

/// What came to a client by Jingle since it had so many elements: action and session.
fn told_since(world: &mut World, room: &str, nick: &str, before: usize) -> Vec<(String, String)> {
    let jingles = &world.client(room, nick).jingles[before..];
    jingles.iter().map(|jingle| (jingle.action.clone(), jingle.sid.clone())).collect()
}

fn moderate(world: &mut World, json: &str) {
    world.feed(&format!(
        "<message xmlns='jabber:client' from='{MODERATION}' to='{FOCUS}'>\
         <json-message xmlns='http://jitsi.org/jitmeet'>{json}</json-message></message>"
    ));
}

/// Two in the main room, two in a breakout room; the first microphones are moderated.
fn meeting() -> World {
    let mut world = world();
    world.components = Some(vec![("breakout_rooms", "breakout.meet.test"), ("av_moderation", MODERATION)]);
    world.pass(61);
    for nick in ["alice", "bob", "carol", "dave"] {
        world.join(ROOM, nick, |_| {});
    }
    for nick in ["carol", "dave"] {
        world.switch(ROOM, BREAKOUT, nick);
    }
    moderate(
        &mut world,
        &format!(
            r#"{{"type":"av_moderation","room":"{ROOM}","mediaType":"audio","enabled":true,"actor":"{ROOM}/alice"}}"#
        ),
    );
    world
}

#[test]
fn nobody_leaves_and_everybody_has_a_session_again_without_asking() {
    let mut world = meeting();
    let everybody = [(ROOM, "alice"), (ROOM, "bob"), (BREAKOUT, "carol"), (BREAKOUT, "dave")];
    let before: Vec<(usize, String)> = everybody
        .iter()
        .map(|(room, nick)| (world.client(room, nick).jingles.len(), sid(&mut world, room, nick)))
        .collect();
    let meetings = world.bridge("jvb1").meetings.clone();
    let (admin, replies) = (world.admin.len(), world.replies.len());
    world.next_process(settings(), true);
    for ((room, nick), (before, old)) in everybody.iter().zip(&before) {
        let now = sid(&mut world, room, nick);
        let told = told_since(&mut world, room, nick, *before);
        let [ended, offered, ..] = &told[..] else { panic!("{nick}: {told:?}") };
        assert_eq!(*ended, ("session-terminate".to_owned(), old.clone()), "{nick}");
        assert_eq!(*offered, ("session-initiate".to_owned(), now.clone()), "{nick}");
        assert_eq!(told.iter().filter(|(action, _)| action.starts_with("session-")).count(), 2, "{nick}: {told:?}");
        assert_ne!(*old, now);
    }
    let stats = world.focus.stats(world.now);
    assert_eq!((stats["conferences"].as_u64(), stats["participants"].as_u64()), (Some(2), Some(4)));
    assert_eq!(
        (world.admin.len(), world.replies.len()),
        (admin, replies + 4),
        "nobody is made owner anew, nobody asked: they accepted"
    );
    // What the process before had on the bridge is gone, and nothing else.
    let now = world.bridge("jvb1").meetings.clone();
    assert_eq!((now.len(), now.intersection(&meetings).count()), (2, 0), "{now:?}");
    // The main room belongs to the breakout room: it stays when its members go there too.
    for nick in ["alice", "bob"] {
        world.switch(ROOM, BREAKOUT, nick);
    }
    world.pass(60);
    assert!(has_room(&world, ROOM) && has_room(&world, BREAKOUT));
}

#[test]
fn what_a_room_was_told_of_moderation_holds() {
    let mut world = meeting();
    world.join(ROOM, "erin", |_| {});
    let mute = format!("<mute xmlns='http://jitsi.org/jitmeet/video' jid='{ROOM}/bob'>true</mute>");
    assert!(super::focus_world::condition(&world.ask(&format!("{ROOM}/alice"), "set", &mute).unwrap()).is_none());
    let dropped = |world: &World, room: &str, nick: &str| {
        let of = &world.focus.debug()[room]["participants"][nick]["force_mute"];
        (of["audio"].as_bool().unwrap(), of["video"].as_bool().unwrap())
    };
    let before = ["alice", "bob", "erin"].map(|nick| dropped(&world, ROOM, nick));
    assert_eq!(before, [(false, false), (true, true), (true, false)]);
    for _ in 0..2 {
        // Twice: what was kept is kept again.
        world.next_process(settings(), true);
        assert_eq!(["alice", "bob", "erin"].map(|nick| dropped(&world, ROOM, nick)), before);
    }
    world.join(ROOM, "frank", |_| {});
    assert!(dropped(&world, ROOM, "frank").0, "newcomers are held to it too");
    assert_eq!(dropped(&world, BREAKOUT, "carol"), (false, false));
    // It ends as it would have.
    moderate(&mut world, &format!(r#"{{"type":"av_moderation","room":"{ROOM}","mediaType":"audio","enabled":false}}"#));
    assert_eq!(dropped(&world, ROOM, "erin"), (false, false));
}

#[test]
fn a_bridge_that_starts_together_with_the_focus_is_waited_for() {
    for comes in [true, false] {
        let mut world = meeting();
        let offers = |world: &mut World| world.client(ROOM, "alice").offers();
        let before = offers(&mut world);
        world.bridges.clear();
        world.next_process(settings(), true);
        world.pass(9);
        assert!(!world.says_no_bridge(ROOM) && offers(&mut world) == before);
        if comes {
            world.add_bridge("jvb1", &[]);
            assert_eq!(offers(&mut world), before + 1);
        }
        world.pass(2);
        assert_eq!(world.says_no_bridge(ROOM), !comes);
    }
}

#[test]
fn who_left_meanwhile_is_forgotten_and_who_came_is_invited() {
    let mut world = meeting();
    let room = |world: &World| world.focus.debug()[ROOM]["participants"].clone();
    let left = world.focus.keep();
    world.focus = ringbridge_controlplane::focus::Focus::new(settings()).unwrap();
    world.clients.remove(&(ROOM.to_owned(), "bob".to_owned()));
    world.focus.restore(&left).unwrap();
    world.enter(ROOM, "gina", |_| {});
    assert!(world.client(ROOM, "gina").jingles.is_empty());
    world.online(true);
    assert_eq!(
        room(&world).as_object().map(|members| members.keys().cloned().collect::<Vec<_>>()),
        Some(vec!["alice".to_owned(), "gina".to_owned()])
    );
    assert_eq!(world.client(ROOM, "gina").actions()[0], "session-initiate");
    assert!(!world.focus.keep().contains("bob"), "{}", world.focus.keep());
}

#[test]
fn where_the_session_is_lost_rooms_begin_anew_when_somebody_asks() {
    let mut world = meeting();
    let meetings = world.bridge("jvb1").meetings.clone();
    let before = world.client(ROOM, "alice").jingles.len();
    world.next_process(settings(), false);
    assert!(world.presences.iter().all(|(room, _)| room == BREWERY), "no room is entered");
    // Clients saw the focus leave, and begin anew under other names.
    world.clients.clear();
    for nick in ["alice2", "bob2"] {
        world.join(ROOM, nick, |_| {});
    }
    assert_eq!(world.client(ROOM, "alice2").actions(), ["session-initiate", "source-add"]);
    assert!(before > 0 && !world.focus.debug()[ROOM]["av_moderation"]["audio"]["enabled"].as_bool().unwrap_or(false));
    let now = world.bridge("jvb1").meetings.clone();
    assert_eq!(now.intersection(&meetings).count(), 1, "that of the breakout room is left");
    world.pass(61);
    let now = world.bridge("jvb1").meetings.clone();
    assert_eq!(now.intersection(&meetings).count(), 0, "until nobody asked for it in time");
    world.pass(300);
    assert!(!world.focus.keep().contains(BREAKOUT));
}

#[test]
fn many_rooms_are_entered_some_at_a_time_and_who_asks_is_first() {
    let mut world = world();
    let room = |n: usize| format!("r{n:03}@conference.meet.test");
    for n in 0..100 {
        world.join(&room(n), "alice", |_| {});
        world.wait(Duration::from_millis(1_100));
    }
    // A service that is not served any more.
    let mut left = world.focus.keep();
    left = left.replace(&room(50), "r050@other.meet.test");
    world.focus = ringbridge_controlplane::focus::Focus::new(settings()).unwrap();
    assert_eq!(world.focus.restore(&left), Ok(100));
    world.presences.clear();
    world.holds_joins = true;
    world.online(true);
    let joined = |world: &World| {
        let joins = |(room, presence): &&(String, Presence)| {
            room != BREWERY && presence.payloads.iter().any(|payload| payload.is("x", "http://jabber.org/protocol/muc"))
        };
        world.presences.iter().filter(joins).count()
    };
    assert_eq!(joined(&world), 32);
    assert!(world.request_conference(&room(99)).is_none(), "it waits for its room");
    assert_eq!(joined(&world), 33);
    world.holds_joins = false;
    // The service does not let us in: the next ones have their turn.
    world.pass(60);
    assert_eq!(joined(&world), 99);
}

#[test]
fn what_cannot_be_read_is_refused_and_changes_nothing() {
    let mut world = meeting();
    let left = world.focus.keep();
    for wrong in ["", "{}", "[]", &left[..left.len() - 1], &left.replace("\"version\":1", "\"version\":2")] {
        world.focus = ringbridge_controlplane::focus::Focus::new(settings()).unwrap();
        assert!(world.focus.restore(wrong).is_err());
        world.online(true);
        assert_eq!(world.focus.stats(world.now)["conferences"], 0);
    }
}
