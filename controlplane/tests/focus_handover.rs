//! A focus that another process goes on with (docs/upgrade.md): everything is as it was, and nothing is signalled. With
//! RINGBRIDGE_TEST_HAND_OVER set, all other tests of the focus are such tests too.

mod focus_world;

use std::time::{Duration, Instant};

use focus_world::*;
use ringbridge_controlplane::focus::{Focus, FocusSettings, FocusStateError, Input, RecordingSettings};

const RECORDERS: &str = "jibribrewery@internal.auth.meet.test";
const JIBRI: &str = "http://jitsi.org/protocol/jibri";
const ROOMS: [&str; 6] = ["one", "two", "three", "held", "silent", "empty"];

fn with_recorders() -> FocusSettings {
    let recording = RecordingSettings { brewery: Some(RECORDERS.parse().unwrap()), ..RecordingSettings::default() };
    FocusSettings { recording, ..settings() }
}

fn room(name: &str) -> String {
    format!("{name}@conference.meet.test")
}

/// Rooms in every state: one waits alone, two and three are on a bridge, one is not entered yet, one has a member that answers nothing,
/// one nobody entered; one is recorded, one has sources that are not signalled yet.
fn busy() -> World {
    let mut world = World::with(with_recorders());
    world.add_bridge("jvb1", &[("region", "eu"), ("stress_level", "0.2")]);
    world.add_bridge("jvb2", &[("region", "us"), ("stress_level", "0.4")]);
    let idle = format!(
        "<jibri-status xmlns='{JIBRI}'><busy-status status='idle' xmlns='{JIBRI}'/>\
         <health-status xmlns='http://jitsi.org/protocol/health' status='healthy'/></jibri-status>"
    );
    let recorder = format!("{RECORDERS}/jibri1");
    world.instance(&recorder, "jibri@auth.meet.test/x", &idle).answers =
        vec![("result", format!("<jibri xmlns='{JIBRI}' status='pending'/>"))];
    world.join(&room("one"), "alice", |_| {});
    for nick in ["alice", "bob"] {
        world.join(&room("two"), nick, |_| {});
    }
    for nick in ["alice", "bob", "carol"] {
        world.join(&room("three"), nick, |_| {});
    }
    let record = format!("<jibri xmlns='{JIBRI}' action='start' recording_mode='file' app_data='{{}}'/>");
    world.ask(&format!("{}/alice", room("three")), "set", &record).expect("an answer");
    world.ask(&recorder, "set", &format!("<jibri xmlns='{JIBRI}' status='on'/>")).expect("an answer");
    world.join(&room("silent"), "alice", |client| client.acknowledges = false);
    world.join(&room("silent"), "bob", |client| client.accepts = false);
    world.join(&room("silent"), "carol", |client| client.answers_disco = false);
    world.request_conference(&room("empty"));
    // Nobody begins so many at once.
    world.wait(Duration::from_secs(3));
    world.holds_joins = true;
    world.request_conference(&room("held"));
    world
}

#[test]
fn rooms_in_every_state_are_as_they_were_and_go_on() {
    let mut world = busy();
    let signalled =
        |world: &World| (world.presences.len(), world.clients.values().map(|c| c.jingles.len()).sum::<usize>());
    let (before, rooms) = (signalled(&world), world.focus.debug());
    assert_eq!(rooms.as_object().map(|all| all.len()), Some(ROOMS.len()), "{rooms}");
    for _ in 0..3 {
        world.hand_over();
    }
    world.settle();
    assert_eq!(signalled(&world), before, "nothing is signalled");
    // Who joins one that waits, who makes three of two, who leaves: all as ever.
    world.holds_joins = false;
    world.join(&room("one"), "bob", |_| {});
    assert_eq!(world.client(&room("one"), "alice").offers(), 1);
    world.hand_over();
    world.join(&room("two"), "carol", |_| {});
    assert_eq!(world.client(&room("two"), "carol").offers(), 1);
    assert_eq!(world.client(&room("two"), "alice").actions(), ["session-initiate", "source-add", "source-add"]);
    let sid = world.client(&room("two"), "alice").sid.clone();
    world.hand_over();
    world.leave(&room("two"), "carol");
    assert_eq!(world.focus.debug()[room("two")]["participant_count"], 2);
    assert_eq!((world.client(&room("two"), "alice").offers(), &world.client(&room("two"), "alice").sid), (1, &sid));
    let recorded = world.said(&room("three"), "jibri-recording-status");
    assert_eq!(recorded.first().and_then(|state| state.attr("status")), Some("on"));
    // Time goes on where it was: who never answered is given up when it would have been.
    world.hand_over();
    world.pass(120);
    let rooms = world.focus.debug();
    assert!(rooms.get(room("held")).is_none() && rooms.get(room("empty")).is_none(), "{rooms}");
    let bridges = world.focus.stats(world.now)["bridge_selector"]["bridge_count"].clone();
    assert_eq!(bridges, 2, "they were asked for their health all the time");
}

#[test]
fn a_resumed_session_changes_nothing_and_another_one_begins_anew() {
    for resumed in [true, false] {
        let mut world = busy();
        world.holds_joins = false;
        let offers = |world: &World| world.clients.values().map(Client::offers).sum::<usize>();
        let before = offers(&world);
        world.hand_over();
        world.online(resumed);
        assert_eq!(offers(&world), before);
        assert_eq!(world.focus.debug().as_object().is_some_and(|all| all.len() == ROOMS.len()), resumed);
    }
}

#[test]
fn only_the_same_focus_goes_on() {
    let world = busy();
    let now = world.now;
    let state = world.focus.export(now).expect("it is written");
    let refused = |settings: FocusSettings| match Focus::import(now, settings, &state) {
        Err(FocusStateError::Setting { name, .. }) => Some(name),
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    };
    let brewery = || "other@internal.auth.meet.test".parse().unwrap();
    let mut account = with_recorders();
    account.xmpp.port += 1;
    for (settings, name) in [
        (with_recorders(), None),
        (FocusSettings { max_conferences: 1, sctp: true, ..with_recorders() }, None),
        (FocusSettings { brewery: brewery(), ..with_recorders() }, Some("brewery")),
        (FocusSettings { jigasi_brewery: Some(brewery()), ..with_recorders() }, Some("focus.jigasi.brewery")),
        (settings(), Some("focus.jibri.brewery")),
        (
            FocusSettings { conference_muc: "muc.meet.test".parse().unwrap(), ..with_recorders() },
            Some("focus.conference-muc"),
        ),
        (account, Some("xmpp.host or xmpp.port")),
    ] {
        assert_eq!(refused(settings), name);
    }
}

#[test]
fn what_is_not_sent_is_not_left_behind() {
    let mut focus = Focus::new(settings()).unwrap();
    let now = Instant::now();
    focus.handle(now, Input::Online { resumed: false, jid: FOCUS.to_owned() });
    assert_eq!(focus.export(now).map(|_| ()), Err(FocusStateError::Unsent));
    while focus.poll_output().is_some() {}
    assert!(focus.export(now).is_ok());
}

/// Whatever bytes come, it is refused, or can be gone on with.
#[test]
fn made_up_state_harms_nobody() {
    let world = busy();
    let (now, state) = (world.now, world.focus.export(world.now).expect("it is written"));
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below.max(1) as u64) as usize
    };
    let (mut refused, mut taken) = (0, 0);
    for round in 0..400 {
        let mut bytes = state.to_vec();
        match round % 4 {
            0 => bytes.truncate(next(bytes.len())),
            1 => drop(bytes.remove(next(bytes.len()))),
            _ => {
                for _ in 0..=round % 3 {
                    let at = next(bytes.len());
                    bytes[at] = if round % 2 == 0 { bytes[at] ^ (1 << next(8)) } else { [0, 1, 0x7f, 0xff][next(4)] };
                }
            }
        }
        match Focus::import(now, with_recorders(), &bytes) {
            Err(_) => refused += 1,
            Ok(focus) => {
                taken += 1;
                go_on(focus, now);
            }
        }
    }
    assert!(refused > 100 && taken > 10, "{refused} were refused, {taken} taken");
}

/// Things that happen to any focus.
fn go_on(mut focus: Focus, now: Instant) {
    let presence = |room: &str, nick: &str, kind: &str| {
        format!(
            "<presence xmlns='jabber:client' from='{}/{nick}' to='{FOCUS}'{kind}><x xmlns='http://jabber.org/protocol/muc#user'>\
             <item role='participant' affiliation='none'/></x></presence>",
            room_of(room)
        )
    };
    fn room_of(name: &str) -> String {
        room(name)
    }
    let stanzas = ROOMS.iter().flat_map(|name| {
        [presence(name, "dave", ""), presence(name, "alice", " type='unavailable'"), presence(name, "dave", "")]
    });
    let mut at = now;
    for xml in stanzas {
        at += Duration::from_millis(700);
        focus.handle(at, Input::Stanza(Box::new(stanza_of(&xml))));
        focus.handle_timeout(at);
        while focus.poll_output().is_some() {}
    }
    focus.handle(at, Input::Online { resumed: true, jid: FOCUS.to_owned() });
    focus.handle_timeout(at + Duration::from_secs(60));
    while focus.poll_output().is_some() {}
    let _ = (focus.stats(at), focus.debug(), focus.keep(), focus.export(at));
    focus.handle(at, Input::Shutdown);
}

/// What a site of 100 rooms of three takes; the bound is on bytes, since time is the machine's.
#[test]
fn a_hundred_rooms_of_three_are_small() {
    let mut world = World::new();
    world.add_bridge("jvb1", &[]);
    for number in 0..100 {
        // Nobody begins so many at once.
        world.pass(1);
        for nick in ["alice", "bob", "carol"] {
            let first = 10_000 * (number + 1);
            world.join(&room(&format!("r{number}")), nick, |client| client.ssrc += first);
        }
    }
    let begun = Instant::now();
    let state = world.focus.export(world.now).expect("it is written");
    let written = begun.elapsed();
    let begun = Instant::now();
    let focus = Focus::import(world.now, settings(), &state).expect("it is read");
    let read = begun.elapsed();
    println!("100 rooms of three: {} bytes, written in {written:?}, read in {read:?}", state.len());
    assert_eq!(focus.debug(), world.focus.debug());
    assert!(state.len() < 300 * 8 * 1024, "{} bytes", state.len());
}
