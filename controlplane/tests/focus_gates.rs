//! Who is let into rooms and put out of them, which Prosody and its modules do: what the focus makes of it, with a clock of its own.

mod focus_world;

use focus_world::{FOCUS, ROOM, World, condition};

fn ready(world: &mut World) -> Option<String> {
    let answer = world.request_conference(ROOM)?;
    assert_eq!(condition(&answer), None);
    answer.children().next().and_then(|conference| conference.attr("ready")).map(str::to_owned)
}

/// Puts a member out, with the statuses that the room gives for it.
fn put_out(world: &mut World, nick: &str, statuses: &[u16]) {
    world.clients.remove(&(ROOM.to_owned(), nick.to_owned())).expect("a client");
    let statuses: String = statuses.iter().map(|status| format!("<status code='{status}'/>")).collect();
    world.feed(&format!(
        "<presence xmlns='jabber:client' type='unavailable' from='{ROOM}/{nick}' to='{FOCUS}'>\
         <x xmlns='http://jabber.org/protocol/muc#user'><item role='none' affiliation='none'><actor nick='alice'/>\
         <reason>out</reason></item>{statuses}</x></presence>"
    ));
}

fn expired(world: &mut World, nick: &str) -> bool {
    world.bridge("jvb1").requests.iter().any(|request| request.endpoints.iter().any(|e| e.id == nick && e.expire))
}

fn owners(world: &World) -> usize {
    world.clients.values().filter(|client| client.affiliation == "owner").count()
}

/// Kicked, banned, no member any more, gone with an error of the server.
#[test]
fn who_is_put_out_is_gone_as_who_leaves() {
    for statuses in [&[307][..], &[301], &[321], &[322], &[332], &[307, 333], &[]] {
        let mut world = World::call(&["alice", "bob", "carol"]);
        let before = world.client(ROOM, "bob").jingles.len();
        put_out(&mut world, "carol", statuses);
        assert!(expired(&mut world, "carol"), "{statuses:?}");
        assert_eq!(world.focus.stats(world.now)["participants"], 2, "{statuses:?}");
        assert_eq!(world.client(ROOM, "bob").jingles.len(), before, "clients drop its sources by themselves");
        // Back again it is somebody new.
        world.join(ROOM, "carol", |_| {});
        assert_eq!(world.client(ROOM, "carol").actions().first(), Some(&"session-initiate"), "{statuses:?}");
    }
}

#[test]
fn when_the_owner_is_put_out_another_is_owner() {
    let mut world = World::call(&["alice", "bob", "carol"]);
    assert_eq!((owners(&world), world.client(ROOM, "alice").affiliation), (1, "owner"));
    put_out(&mut world, "alice", &[301]);
    assert_eq!((owners(&world), world.client(ROOM, "bob").affiliation), (1, "owner"));
}

/// What a module does that ends a meeting for all: the room is destroyed under everybody.
#[test]
fn a_meeting_that_is_ended_for_all_is_forgotten() {
    for reason in ["<destroy><reason>The meeting has been terminated</reason></destroy>", "<destroy/>", ""] {
        let mut world = World::call(&["alice", "bob"]);
        let meeting = world.bridge("jvb1").requests[0].meeting_id.clone();
        world.clients.clear();
        world.rooms.remove(ROOM);
        let presences = world.presences.len();
        world.feed(&format!(
            "<presence xmlns='jabber:client' type='unavailable' from='{ROOM}/focus' to='{FOCUS}'>\
             <x xmlns='http://jabber.org/protocol/muc#user'><item role='none' affiliation='none'/>{reason}\
             <status code='110'/></x></presence>"
        ));
        let last = world.bridge("jvb1").requests.last().cloned().expect("a request");
        assert!(last.expire && last.meeting_id == meeting, "{reason}");
        assert_eq!(world.focus.stats(world.now)["conferences"], 0);
        assert_eq!(world.presences.len(), presences, "a room that is gone is not left");
        // The next meeting under its name is another one.
        for nick in ["carol", "dave"] {
            world.join(ROOM, nick, |_| {});
        }
        for nick in ["carol", "dave"] {
            assert_eq!(world.client(ROOM, nick).actions().first(), Some(&"session-initiate"), "{reason}");
        }
        let created: Vec<_> = world.bridge("jvb1").requests.iter().filter(|request| request.create).collect();
        assert_eq!(created.len(), 2);
        assert_ne!(created[1].meeting_id, meeting);
        assert_eq!(world.client(ROOM, "carol").affiliation, "owner");
    }
}

/// A lobby, a password, a full room: where the focus is no admin it may stand outside too. Clients are asked to try again,
/// and once it is let in all is well.
#[test]
fn a_room_that_does_not_let_the_focus_in() {
    for refusal in ["registration-required", "not-authorized", "service-unavailable", "forbidden", "conflict"] {
        let mut world = World::new();
        world.add_bridge("jvb1", &[]);
        world.holds_joins = true;
        assert_eq!(world.request_conference(ROOM), None, "it waits for the room");
        world.feed(&format!(
            "<presence xmlns='jabber:client' type='error' from='{ROOM}/focus' to='{FOCUS}'><error type='auth'>\
             <{refusal} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>"
        ));
        assert_eq!(world.focus.stats(world.now)["conferences"], 0, "{refusal}");
        let told = world.replies.values().last().cloned().expect("the first request is answered");
        let conference = told.children().next().expect("a conference");
        assert!(conference.attr("ready") != Some("true"), "{refusal}: {told:?}");
        world.holds_joins = false;
        assert_eq!(ready(&mut world).as_deref(), Some("true"), "{refusal}");
        for nick in ["alice", "bob"] {
            world.join(ROOM, nick, |_| {});
        }
        assert_eq!(world.client(ROOM, "bob").actions().first(), Some(&"session-initiate"), "{refusal}");
    }
}

/// Refused later, for a change of its presence, it stays: the call goes on.
#[test]
fn a_refused_presence_ends_no_call() {
    let mut world = World::call(&["alice", "bob"]);
    world.feed(&format!(
        "<presence xmlns='jabber:client' type='error' from='{ROOM}/focus' to='{FOCUS}'><error type='wait'>\
         <resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>"
    ));
    assert_eq!(world.focus.stats(world.now)["participants"], 2);
    assert!(!world.client(ROOM, "alice").actions().contains(&"session-terminate"));
}

/// A room becomes members-only, gets a password, another limit: a status that is no member's leaving.
#[test]
fn changes_of_a_rooms_settings_change_nothing_for_its_call() {
    let mut world = World::call(&["alice", "bob"]);
    for status in [104, 170, 171, 172, 173] {
        world.feed(&format!(
            "<message xmlns='jabber:client' type='groupchat' from='{ROOM}' to='{FOCUS}'>\
             <x xmlns='http://jabber.org/protocol/muc#user'><status code='{status}'/></x></message>"
        ));
    }
    world.join(ROOM, "carol", |client| client.affiliation = "member");
    assert_eq!(world.focus.stats(world.now)["participants"], 3);
    for nick in ["alice", "bob", "carol"] {
        assert_eq!(world.client(ROOM, nick).offers(), 1, "{nick}");
    }
}
