//! Visitors: who becomes one, where they go, what they get, and what they cannot do.

mod focus_world;

use focus_world::{FOCUS, ROOM, World, condition, visitors, visitors_room};
use tokio_xmpp::minidom::Element;

const METADATA: &str = "metadata.meet.test";

fn count(world: &World, reason: &str) -> u64 {
    world.focus.stats(world.now)["refused"][reason].as_u64().unwrap()
}

fn vnode(answer: Option<Element>) -> Option<String> {
    let answer = answer.expect("an answer");
    assert_eq!(answer.attr("ready"), Some("true"));
    answer.attr("vnode").map(str::to_owned)
}

fn property(answer: &Element, name: &str) -> Option<String> {
    let property = answer.children().find(|child| child.attr("name") == Some(name))?;
    property.attr("value").map(str::to_owned)
}

/// What the focus's presence in a room says of the conference.
fn said(world: &World, room: &str, key: &str) -> Option<String> {
    let properties = world.said(room, "conference-properties").pop()?;
    let property = properties.children().find(|child| child.attr("key") == Some(key))?;
    property.attr("value").map(str::to_owned)
}

fn node_requests(world: &World) -> Vec<(String, String)> {
    let children = world.component_requests.iter().inspect(|request| assert_eq!(request.attr("room"), Some(ROOM)));
    let children = children.flat_map(Element::children);
    children.map(|child| (child.name().to_owned(), child.attr("vnode").unwrap().to_owned())).collect()
}

fn metadata(world: &mut World, json: &str) {
    let text = focus_world::escape(&format!("{{\"type\":\"room_metadata\",\"metadata\":{json}}}"));
    world.feed(&format!(
        "<message xmlns='jabber:client' from='{METADATA}' to='{FOCUS}'>\
         <json-message xmlns='http://jitsi.org/jitmeet' room='{ROOM}'>{text}</json-message></message>"
    ));
}

/// A call of two with one visitor on v1.
fn visited() -> World {
    let mut world = visitors(&["v1", "v2"], |_| {});
    world.join(ROOM, "aaaa", |_| {});
    world.join(ROOM, "bbbb", |_| {});
    let answer = world.ask_to_visit("x@meet.test/web", ROOM, "", "<property name='visitor' value='true'/>");
    assert_eq!(vnode(answer).as_deref(), Some("v1"));
    world.visit("v1", "cccc", |_| {});
    world
}

#[test]
fn who_asks_to_is_sent_to_a_node_that_has_the_room() {
    let mut world = visitors(&["v1", "v2"], |_| {});
    world.join(ROOM, "aaaa", |_| {});
    let answer = world.ask_to_visit("x@meet.test/web", ROOM, "", "<property name='visitor' value='true'/>");
    let answer = answer.expect("an answer");
    assert_eq!((answer.attr("vnode"), answer.attr("ready")), (Some("v1"), Some("true")));
    assert_eq!(answer.attr("focusjid"), Some("focus@auth.v1.meet.test"));
    assert_eq!(property(&answer, "visitors-supported").as_deref(), Some("true"));
    assert!(world.rooms.contains_key(&visitors_room("v1")), "we are there before the visitor");
    assert_eq!(node_requests(&world), [("connect-vnode".to_owned(), "v1".to_owned())]);
    assert_eq!(said(&world, ROOM, "visitors-enabled").as_deref(), Some("true"));
    assert_eq!(said(&world, &visitors_room("v1"), "visitors-enabled").as_deref(), Some("true"));
    assert_eq!(said(&world, ROOM, "visitor-count"), None, "none came yet");
    assert!(world.said(&visitors_room("v1"), "etherpad").is_empty());
}

/// The visitor gets everybody's sources, participants hear nothing of it, and the bridge knows what it is.
#[test]
fn a_visitor_only_receives() {
    let mut world = visited();
    let room = visitors_room("v1");
    let visitor = world.client(&room, "cccc").clone();
    assert_eq!(visitor.actions(), ["session-initiate"]);
    let owners = focus_world::owners(visitor.last("session-initiate"));
    assert!(owners.contains_key("aaaa") && owners.contains_key("bbbb") && !owners.contains_key("cccc"), "{owners:?}");
    let requests = world.bridge("jvb1").requests.clone();
    let created = |id: &str| {
        requests.iter().flat_map(|r| &r.endpoints).find(|e| e.create && e.id == id).expect("created").muc_role.clone()
    };
    assert_eq!((created("aaaa"), created("cccc").as_deref()), (None, Some("visitor")));
    // Who comes later is signalled to it; it is signalled to nobody.
    world.join(ROOM, "dddd", |_| {});
    let told = world.client(&room, "cccc").last("source-add").clone();
    assert!(focus_world::owners(&told).contains_key("dddd"));
    for nick in ["aaaa", "bbbb", "dddd"] {
        let client = world.client(ROOM, nick).clone();
        let mentions = client.jingles.iter().any(|jingle| focus_world::owners(jingle).contains_key("cccc"));
        assert!(!mentions, "a visitor was signalled to {nick}");
    }
    world.leave(&room, "cccc");
    let requests = &world.bridge("jvb1").requests;
    assert!(requests.iter().flat_map(|r| &r.endpoints).any(|e| e.expire && e.id == "cccc"));
}

#[test]
fn nothing_is_announced_without_visitors_or_without_the_component() {
    let ask = |world: &mut World| {
        let answer =
            world.ask_to_visit("x@meet.test/web", ROOM, "", "<property name='visitor' value='true'/>").unwrap();
        (answer.attr("vnode").map(str::to_owned), property(&answer, "visitors-supported"))
    };
    let mut world = World::call(&["aaaa"]);
    assert_eq!(ask(&mut world), (None, Some("false".to_owned())));
    assert_eq!(said(&world, ROOM, "visitors-enabled"), None);
    let mut world = visitors(&["v1"], |_| {});
    world.components = Some(Vec::new());
    world.pass(61);
    world.join(ROOM, "aaaa", |_| {});
    assert_eq!(ask(&mut world), (None, Some("false".to_owned())));
}

#[test]
fn the_room_full_or_visited_newcomers_become_visitors() {
    let mut world = visitors(&["v1"], |_| {});
    for nick in ["aaaa", "bbbb", "cccc"] {
        assert_eq!(vnode(world.ask_to_visit("x@meet.test/web", ROOM, "", "")), None);
        world.enter(ROOM, nick, |_| {});
    }
    // Old clients, recorders and gateways do not know of nodes.
    world.join(ROOM, "old", |_| {});
    assert_eq!(vnode(world.ask_to_visit("x@meet.test/web", ROOM, "", "")).as_deref(), Some("v1"));
    world.leave(ROOM, "aaaa");
    world.leave(ROOM, "old");
    let again = world.ask_to_visit("y@meet.test/web", ROOM, "", "");
    assert_eq!(vnode(again).as_deref(), Some("v1"), "once there are visitors newcomers are visitors too");
    // The room's metadata may say another number.
    let mut world = visitors(&["v1"], |_| {});
    world.join(ROOM, "aaaa", |_| {});
    metadata(&mut world, r#"{"participantsSoftLimit":1}"#);
    assert_eq!(vnode(world.ask_to_visit("x@meet.test/web", ROOM, "", "")).as_deref(), Some("v1"));
}

#[test]
fn rooms_that_have_none() {
    let wish = "<property name='visitor' value='true'/>";
    for (json, flag, expected) in [
        ("{}", false, Some("v1")),
        (r#"{"lobbyEnabled":true}"#, false, None),
        (r#"{"visitorsEnabled":false}"#, false, None),
        ("{}", true, None),
        (r#"{"visitorsEnabled":true}"#, true, Some("v1")),
    ] {
        let mut world = visitors(&["v1"], |settings| settings.require_room_flag = flag);
        world.join(ROOM, "aaaa", |_| {});
        metadata(&mut world, json);
        let answer = world.ask_to_visit("x@meet.test/web", ROOM, "", wish).expect("an answer");
        assert_eq!(answer.attr("vnode"), expected, "{json} {flag}");
        let supported = if flag { expected.is_some() } else { true };
        assert_eq!(property(&answer, "visitors-supported"), Some(supported.to_string()), "{json} {flag}");
    }
}

/// `{"context":{"user":{"id":"u1"},"group":"g1"}}`, not signed by anybody.
const TOKEN: &str = "e30.eyJjb250ZXh0Ijp7InVzZXIiOnsiaWQiOiJ1MSJ9LCJncm91cCI6ImcxIn19.x";

#[test]
fn those_who_are_listed_take_part_and_others_watch() {
    for (json, token, expected) in [
        (r#"{"participants":["u2"]}"#, "", Some("v1")),
        (r#"{"participants":["u2"]}"#, TOKEN, Some("v1")),
        (r#"{"participants":["u1"]}"#, TOKEN, None),
        (r#"{"participants":[],"moderators":["u1"]}"#, TOKEN, None),
        (r#"{"participants":["g1"]}"#, TOKEN, None),
        (r#"{"participants":["u1"]}"#, "e30.%%%.x", Some("v1")),
        (r#"{"moderators":["u1"]}"#, "", None),
    ] {
        let mut world = visitors(&["v1"], |_| {});
        world.join(ROOM, "aaaa", |_| {});
        metadata(&mut world, json);
        let more = format!(" token='{token}'");
        let answer = world.ask_to_visit("x@meet.test/web", ROOM, &more, "");
        assert_eq!(vnode(answer).as_deref(), expected, "{json} {token}");
    }
    // Who is listed is not redirected because the room is full.
    let mut world = visitors(&["v1"], |settings| settings.max_participants = 1);
    world.join(ROOM, "aaaa", |_| {});
    metadata(&mut world, r#"{"moderators":["u1"]}"#);
    assert_eq!(vnode(world.ask_to_visit("x@meet.test/web", ROOM, &format!(" token='{TOKEN}'"), "")), None);
    assert_eq!(vnode(world.ask_to_visit("x@meet.test/web", ROOM, "", "")).as_deref(), Some("v1"));
}

#[test]
fn a_meeting_that_is_not_live_lets_no_visitor_in() {
    let wish = "<property name='visitor' value='true'/>";
    let mut world = visitors(&["v1"], |settings| settings.live_room = true);
    let answer = world.ask_to_visit("x@meet.test/web", ROOM, "", wish).expect("an answer");
    assert_eq!((answer.attr("ready"), property(&answer, "live").as_deref()), (Some("false"), Some("false")));
    assert!(world.focus.debug().as_object().unwrap().is_empty(), "no conference begins for it");
    world.join(ROOM, "aaaa", |_| {});
    metadata(&mut world, r#"{"participants":["u1"],"visitors":{"live":false}}"#);
    for (more, wish) in [("", wish), ("", "")] {
        let answer = world.ask_to_visit("x@meet.test/web", ROOM, more, wish).expect("an answer");
        assert_eq!(property(&answer, "live").as_deref(), Some("false"));
    }
    let listed = format!(" token='{TOKEN}'");
    assert_eq!(vnode(world.ask_to_visit("x@meet.test/web", ROOM, &listed, "")), None);
    assert_eq!(count(&world, "not_live"), 3);
    metadata(&mut world, r#"{"participants":["u1"],"visitors":{"live":true}}"#);
    assert_eq!(vnode(world.ask_to_visit("x@meet.test/web", ROOM, "", wish)).as_deref(), Some("v1"));
}

#[test]
fn a_full_node_is_followed_by_the_next_and_then_by_the_emptiest() {
    let mut world = visitors(&["v1", "v2"], |settings| settings.max_per_node = 2);
    world.join(ROOM, "aaaa", |_| {});
    world.join(ROOM, "bbbb", |_| {});
    let wish = "<property name='visitor' value='true'/>";
    let mut nodes = Vec::new();
    for n in 0..6 {
        let node = vnode(world.ask_to_visit(&format!("x{n}@meet.test/web"), ROOM, "", wish)).expect("a node");
        // Half of them are on their way only: they count all the same.
        if n % 2 == 0 {
            world.visit(&node, &format!("visit{n}"), |_| {});
        }
        nodes.push(node);
    }
    assert_eq!(nodes, ["v1", "v1", "v2", "v2", "v1", "v2"]);
    // Who never came counts no more after a while.
    world.pass(61);
    let state = world.focus.stats(world.now)["visitor_nodes"].clone();
    assert_eq!((state["v1"]["visitors"].as_u64(), state["v2"]["visitors"].as_u64()), (Some(2), Some(1)));
    assert_eq!(vnode(world.ask_to_visit("y@meet.test/web", ROOM, "", wish)).as_deref(), Some("v2"));
}

#[test]
fn requests_wait_for_a_node_and_go_elsewhere_when_it_does_not_answer() {
    let mut world = visitors(&["v1", "v2"], |_| {});
    world.join(ROOM, "aaaa", |_| {});
    world.holds_joins = true;
    let wish = "<property name='visitor' value='true'/>";
    assert_eq!(world.ask_to_visit("x@meet.test/web", ROOM, "", wish), None);
    assert_eq!(world.ask_to_visit("y@meet.test/web", ROOM, "", wish), None);
    // One question of everybody waits.
    let again = world.ask_to_visit("y@meet.test/web", ROOM, "", wish);
    assert_eq!(again, None, "the older one is answered");
    assert_eq!(count(&world, "waiting"), 1);
    world.holds_joins = false;
    world.pass(6);
    let answered: Vec<Option<String>> = world
        .replies
        .values()
        .flat_map(|reply| reply.children().cloned().collect::<Vec<_>>())
        .filter(|answer| answer.attr("vnode").is_some())
        .map(|answer| answer.attr("vnode").map(str::to_owned))
        .collect();
    assert_eq!(answered, [Some("v2".to_owned()), Some("v2".to_owned())]);
    assert_eq!(count(&world, "node_failed"), 1);
    assert_eq!(node_requests(&world), [("connect-vnode".to_owned(), "v2".to_owned())]);
    // All of them refusing, the main room takes everybody: better than nothing.
    let mut world = visitors(&["v1", "v2"], |_| {});
    world.join(ROOM, "aaaa", |_| {});
    world.refuses_joins = true;
    assert_eq!(vnode(world.ask_to_visit("x@meet.test/web", ROOM, "", wish)), None);
    assert_eq!((count(&world, "node_failed"), count(&world, "no_visitor_node")), (2, 1));
}

#[test]
fn the_rooms_are_told_how_many_there_are_but_not_all_the_time() {
    let mut world = visited();
    let room = visitors_room("v1");
    assert_eq!(said(&world, ROOM, "visitor-count").as_deref(), Some("1"));
    assert_eq!(said(&world, &room, "visitor-count").as_deref(), Some("1"));
    let before = world.presences.len();
    for n in 0..20 {
        world.visit("v1", &format!("visit{n}"), |_| {});
    }
    assert_eq!(world.presences.len(), before, "twenty in a moment are announced together");
    world.pass(16);
    assert_eq!(said(&world, ROOM, "visitor-count").as_deref(), Some("21"));
    assert!(world.presences.len() <= before + 2);
    let stats = world.focus.stats(world.now);
    assert_eq!((stats["visitors"].as_u64(), stats["participants"].as_u64()), (Some(21), Some(23)));
    assert_eq!(stats["conferences_with_visitors"], 1);
    for n in 0..20 {
        world.leave(&room, &format!("visit{n}"));
    }
    world.leave(&room, "cccc");
    world.pass(16);
    assert_eq!(said(&world, ROOM, "visitor-count").as_deref(), Some("0"));
}

#[test]
fn participants_are_told_what_all_visitors_understand() {
    let mut world = visited();
    let room = visitors_room("v1");
    let codecs = |list: &str| format!("<jitsi_participant_codecList>{list}</jitsi_participant_codecList>");
    for (nick, list) in [("dddd", "av1,vp9,vp8,h264"), ("eeee", "vp9,vp8")] {
        world.extras.insert((room.clone(), nick.to_owned()), codecs(list));
        world.visit("v1", nick, |_| {});
    }
    world.pass(2);
    assert_eq!(said(&world, ROOM, "visitor-codecs").as_deref(), Some("vp9,vp8"));
    world.leave(&room, "eeee");
    world.pass(2);
    assert_eq!(said(&world, ROOM, "visitor-codecs").as_deref(), Some("av1,vp9,vp8,h264"));
}

/// A visitor that is let in among the participants leaves its node and enters the main room; the server and the client do that.
#[test]
fn a_visitor_that_is_promoted_takes_part() {
    let mut world = visited();
    let room = visitors_room("v1");
    world.leave(&room, "cccc");
    world.enter(ROOM, "cccc", |_| {});
    assert_eq!(world.client(ROOM, "cccc").actions(), ["session-initiate"]);
    assert!(focus_world::owners(world.client(ROOM, "aaaa").last("source-add")).contains_key("cccc"));
    world.pass(16);
    assert_eq!(said(&world, ROOM, "visitor-count").as_deref(), Some("0"));
    // The other order: it is in the main room before it left the node.
    let mut world = visited();
    world.enter(ROOM, "cccc", |client| client.ssrc = 77_000);
    assert_eq!(world.client(ROOM, "cccc").actions(), ["session-initiate"]);
    world.leave(&room, "cccc");
    world.pass(1);
    assert!(focus_world::owners(world.client(ROOM, "aaaa").last("source-add")).contains_key("cccc"));
    assert_eq!(world.focus.stats(world.now)["visitors"], 0);
}

#[test]
fn a_visitor_sends_nothing_and_asks_for_nothing_else() {
    let mut world = visited();
    let room = visitors_room("v1");
    world.visit("v1", "dddd", |client| client.accepts = false);
    let before = world.bridge("jvb1").requests.len();
    // Sources in the answer.
    world.client(&room, "dddd").watches = false;
    let accept = world.accept_of(&room, "dddd");
    assert_eq!(world.jingle(&room, "dddd", accept.clone()).as_deref(), Some("forbidden"));
    // Sources afterwards, added or taken away.
    let mut change = accept.clone();
    change.sid = world.client(&room, "cccc").sid.clone();
    for action in ["source-add", "addsource", "source-remove", "removesource"] {
        change.action = action.to_owned();
        assert_eq!(world.jingle(&room, "cccc", change.clone()).as_deref(), Some("forbidden"), "{action}");
    }
    assert_eq!(count(&world, "visitor_source"), 5);
    // Muting, recording, calling out, another conference: from where it is.
    let from = format!("{room}/cccc");
    for (payload, expected) in [
        (format!("<mute xmlns='http://jitsi.org/jitmeet/audio' jid='{ROOM}/aaaa'>true</mute>"), "not-allowed"),
        (
            format!("<mute xmlns='http://jitsi.org/jitmeet/audio' jid='{room}/aaaa'>true</mute>"),
            "internal-server-error",
        ),
        (
            "<jibri xmlns='http://jitsi.org/protocol/jibri' action='start' recording_mode='file'/>".to_owned(),
            "service-unavailable",
        ),
        ("<dial xmlns='urn:xmpp:rayo:1' from='a' to='b'/>".to_owned(), "forbidden"),
        ("<dial xmlns='urn:xmpp:rayo:1' from='a' to='jitsi_meet_transcribe'/>".to_owned(), "forbidden"),
        (format!("<conference xmlns='http://jitsi.org/protocol/focus' room='{ROOM}'/>"), "service-unavailable"),
        ("<visitors xmlns='jitsi:visitors' room='x'/>".to_owned(), "service-unavailable"),
    ] {
        let reply = world.ask(&from, "set", &payload).expect("an answer");
        assert_eq!(condition(&reply).as_deref(), Some(expected), "{payload}");
    }
    assert_eq!(world.bridge("jvb1").requests.len(), before, "nothing changed");
    assert!(world.client(ROOM, "aaaa").mutes.is_empty());
    // It may still take what it was offered.
    world.client(&room, "dddd").watches = true;
    let accept = world.accept_of(&room, "dddd");
    assert_eq!(world.jingle(&room, "dddd", accept), None);
}

/// Everything under another's name: of a participant, of a visitor elsewhere, of a server that is not the sender's.
#[test]
fn nobody_speaks_for_somebody_in_another_room() {
    let mut world = visited();
    let room = visitors_room("v1");
    let sid = world.client(&room, "cccc").sid.clone();
    let ends = |from: &str| {
        format!(
            "<iq xmlns='jabber:client' type='set' id='e' from='{from}' to='{FOCUS}'>\
             <jingle xmlns='urn:xmpp:jingle:1' action='session-terminate' sid='{sid}'/></iq>"
        )
    };
    let state = |world: &World| world.focus.debug();
    let before = state(&world);
    let nick_of_the_visitor_in_the_main_room = ends(&format!("{ROOM}/cccc"));
    world.feed_from_home(&nick_of_the_visitor_in_the_main_room);
    assert!(condition(&world.replies["e"]).is_some());
    let in_the_room_of_another_node = ends(&format!("{}/cccc", visitors_room("v2")));
    world.feed_from_node("v2", &in_the_room_of_another_node);
    // From a server that the sender is not of: neither answered nor heeded.
    let there = ends(&format!("{room}/cccc"));
    world.feed_from_home(&there);
    world.feed_from_node("v2", &there);
    world.feed_from_node("v1", &ends(&format!("{ROOM}/aaaa")));
    world.feed_from_node("v1", &ends("focus@auth.meet.test/other"));
    assert_eq!(count(&world, "foreign_node"), 4);
    // Presence of the same kinds.
    let leaves =
        |from: &str| format!("<presence xmlns='jabber:client' type='unavailable' from='{from}' to='{FOCUS}'/>");
    world.feed_from_node("v1", &leaves(&format!("{ROOM}/aaaa")));
    world.feed_from_home(&leaves(&format!("{room}/cccc")));
    world.feed_from_node("v2", &leaves(&format!("{}/cccc", visitors_room("v2"))));
    world.feed_from_home(&leaves(&format!("{ROOM}/cccc")));
    world.feed_from_node("v1", &leaves(&format!("{room}/aaaa")));
    assert_eq!(state(&world), before, "nothing changed");
    // A participant's name on a node, and names that nobody may have.
    for nick in ["aaaa", "jvb", "focus2", &"x".repeat(300)] {
        world.visit("v1", nick, |_| {});
    }
    assert_eq!(count(&world, "visitor"), 3, "all but focus2");
    assert_eq!(world.client(ROOM, "aaaa").actions().iter().filter(|action| **action == "session-terminate").count(), 0);
    assert!(world.client(&room, "aaaa").jingles.is_empty());
}

/// Participants are shown to visitors in their rooms; that makes them no members there.
#[test]
fn the_participants_images_on_a_node_are_nobody() {
    let mut world = visited();
    let room = visitors_room("v1");
    world.enter(&room, "image", |_| {});
    assert!(world.client(&room, "image").jingles.is_empty());
    assert_eq!((world.focus.stats(world.now)["participants"].as_u64(), count(&world, "visitor")), (Some(3), 0));
}

#[test]
fn messages_and_answers_from_nodes_are_not_heeded() {
    let mut world = visited();
    let before = world.focus.debug();
    let text = r#"{"type":"room_metadata","metadata":{"lobbyEnabled":true}}"#;
    for from in [METADATA, "conference.v1.meet.test", &visitors_room("v1")] {
        world.feed_from_node(
            "v1",
            &format!(
                "<message xmlns='jabber:client' from='{from}' to='{FOCUS}'>\
                 <json-message xmlns='http://jitsi.org/jitmeet' room='{ROOM}'>{}</json-message></message>",
                focus_world::escape(text)
            ),
        );
    }
    assert_eq!(world.focus.debug(), before);
}

#[test]
fn the_end_of_a_conference_is_the_end_for_visitors() {
    let mut world = visited();
    world.leave(ROOM, "aaaa");
    world.leave(ROOM, "bbbb");
    assert!(!world.rooms.contains_key(&visitors_room("v1")) && !world.rooms.contains_key(ROOM));
    assert_eq!(node_requests(&world).last().unwrap(), &("disconnect-vnode".to_owned(), "v1".to_owned()));
    assert_eq!(world.focus.stats(world.now)["visitor_nodes"]["v1"]["visitors"], 0);
    assert!(world.bridge("jvb1").meetings.is_empty());
}

#[test]
fn visitors_may_come_before_anybody_else_and_are_not_waited_for() {
    let mut world = visitors(&["v1"], |_| {});
    let wish = "<property name='visitor' value='true'/>";
    let room = visitors_room("v1");
    assert_eq!(vnode(world.ask_to_visit("x@meet.test/web", ROOM, "", wish)).as_deref(), Some("v1"));
    world.visit("v1", "cccc", |_| {});
    world.pass(60);
    assert!(world.rooms.contains_key(ROOM), "it waits for the participants");
    assert!(world.client(&room, "cccc").jingles.is_empty());
    world.join(ROOM, "aaaa", |_| {});
    assert_eq!(world.client(&room, "cccc").actions(), ["session-initiate", "source-add"], "one of each is a call");
    assert_eq!(world.admin.len(), 1, "a visitor is made owner of nothing");
    world.leave(ROOM, "aaaa");
    assert!(!world.rooms.contains_key(&room));
    // The last visitor leaves, and nobody came: as a room that nobody entered.
    world.clients.remove(&(room.clone(), "cccc".to_owned()));
    assert_eq!(vnode(world.ask_to_visit("x@meet.test/web", ROOM, "", wish)).as_deref(), Some("v1"));
    world.visit("v1", "dddd", |_| {});
    world.leave(&room, "dddd");
    world.pass(16);
    assert!(!world.rooms.contains_key(ROOM) && !world.rooms.contains_key(&room));
}

#[test]
fn a_node_that_restarts_gets_its_rooms_and_visitors_back() {
    let mut world = visited();
    let room = visitors_room("v1");
    world.node("v1", None);
    world.pass(5);
    assert_eq!(vnode(world.ask_to_visit("y@meet.test/web", ROOM, "", "")).as_deref(), Some("v2"), "v1 is away");
    world.node("v1", Some(true));
    world.pass(61);
    assert_eq!(world.client(&room, "cccc").actions(), ["session-initiate"], "a stream that is resumed changes nothing");
    world.node("v1", None);
    world.component_requests.clear();
    world.node("v1", Some(false));
    let expected = [("disconnect-vnode", "v1"), ("connect-vnode", "v1")];
    assert_eq!(node_requests(&world), expected.map(|(what, node)| (what.to_owned(), node.to_owned())));
    assert_eq!(world.client(&room, "cccc").actions(), ["session-initiate", "session-initiate"], "it is invited anew");
    assert_eq!(world.focus.stats(world.now)["visitor_nodes"]["v1"]["visitors"], 1);
    // A node without visitors of this conference is left alone until it is needed.
    world.component_requests.clear();
    world.clients.remove(&(room.clone(), "cccc".to_owned()));
    world.feed(&format!("<presence xmlns='jabber:client' type='unavailable' from='{room}/cccc' to='{FOCUS}'/>"));
    world.node("v1", None);
    world.rooms.remove(&room);
    world.node("v1", Some(false));
    assert!(!world.rooms.contains_key(&room));
}

#[test]
fn a_node_that_stays_away_loses_its_visitors() {
    let mut world = visited();
    world.node("v1", None);
    world.pass(59);
    assert_eq!(world.focus.stats(world.now)["visitors"], 1, "media goes on meanwhile");
    world.pass(2);
    assert_eq!(world.focus.stats(world.now)["visitors"], 0);
    assert_eq!(node_requests(&world).last().unwrap(), &("disconnect-vnode".to_owned(), "v1".to_owned()));
    assert!(world.bridge("jvb1").requests.iter().flat_map(|r| &r.endpoints).any(|e| e.expire && e.id == "cccc"));
    assert!(world.rooms.contains_key(ROOM), "the participants go on");
}

#[test]
fn a_visitors_room_that_is_destroyed_is_joined_again_when_needed() {
    let mut world = visited();
    let room = visitors_room("v1");
    world.clients.remove(&(room.clone(), "cccc".to_owned()));
    world.rooms.remove(&room);
    world.feed(&format!(
        "<presence xmlns='jabber:client' type='unavailable' from='{room}/focus' to='{FOCUS}'>\
         <x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='none'/><destroy/><status code='110'/></x></presence>"
    ));
    assert_eq!(world.focus.stats(world.now)["visitors"], 0);
    let wish = "<property name='visitor' value='true'/>";
    assert_eq!(vnode(world.ask_to_visit("x@meet.test/web", ROOM, "", wish)).as_deref(), Some("v1"));
    let expected = ["connect-vnode", "disconnect-vnode", "connect-vnode"];
    assert_eq!(node_requests(&world).iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), expected);
}

#[test]
fn our_own_server_restarting_leaves_no_room_on_a_node() {
    let mut world = visited();
    world.focus.handle(world.now, ringbridge_controlplane::focus::Input::Offline);
    world.online(false);
    assert!(!world.rooms.contains_key(&visitors_room("v1")));
    assert_eq!(node_requests(&world).last().unwrap(), &("disconnect-vnode".to_owned(), "v1".to_owned()));
    assert_eq!(world.focus.stats(world.now)["visitor_nodes"]["v1"]["visitors"], 0);
}

/// Participants are not moved to another bridge because there is no room for a visitor on theirs.
#[test]
fn a_full_bridge_does_not_move_the_participants_for_a_visitor() {
    let mut world = visited();
    world.add_bridge("jvb2", &[]);
    world.bridge("jvb1").answers = focus_world::Answers::Error("resource-constraint", None);
    world.visit("v1", "dddd", |_| {});
    world.pass(1);
    for nick in ["aaaa", "bbbb"] {
        assert_eq!(
            world.client(ROOM, nick).actions().iter().filter(|a| **a == "session-terminate").count(),
            0,
            "{nick}"
        );
    }
    assert!(world.client(&visitors_room("v1"), "dddd").jingles.is_empty());
    world.bridge("jvb1").answers = focus_world::Answers::Well;
    world.pass(120);
    assert_eq!(world.client(&visitors_room("v1"), "dddd").actions(), ["session-initiate"], "later there is room");
}

/// Visitors may be on any bridge of the conference; the others do not learn of them.
#[test]
fn other_bridges_hear_of_no_visitor() {
    use ringbridge_controlplane::focus::{SelectionSettings, Strategy};
    let split = |settings: &mut ringbridge_controlplane::focus::FocusSettings| {
        settings.selection =
            SelectionSettings { strategy: Strategy::Split, relays: true, ..SelectionSettings::default() };
    };
    let mut world = focus_world::visitors_with(&["v1"], |_| {}, split);
    for name in ["jvb1", "jvb2"] {
        world.add_bridge(name, &[("relay_id", name), ("stress_level", "0.1")]);
    }
    world.join(ROOM, "aaaa", |_| {});
    world.join(ROOM, "bbbb", |_| {});
    let wish = "<property name='visitor' value='true'/>";
    assert_eq!(vnode(world.ask_to_visit("x@meet.test/web", ROOM, "", wish)).as_deref(), Some("v1"));
    for nick in ["cccc", "dddd", "eeee"] {
        world.visit("v1", nick, |_| {});
    }
    world.join(ROOM, "late", |_| {});
    let requests = || world.bridges.values().flat_map(|bridge| &bridge.requests);
    let created: std::collections::BTreeSet<&str> =
        requests().flat_map(|request| &request.endpoints).filter(|e| e.create).map(|e| e.id.as_str()).collect();
    assert_eq!(created.len(), 6, "{created:?}");
    assert!(world.bridges.values().all(|bridge| bridge.requests.iter().any(|r| r.endpoints.iter().any(|e| e.create))));
    let relayed: std::collections::BTreeSet<&str> = requests()
        .flat_map(|request| &request.relays)
        .flat_map(|relay| relay.endpoints.iter().flat_map(|all| &all.endpoints))
        .map(|endpoint| endpoint.id.as_str())
        .collect();
    assert!(relayed.contains("aaaa") && relayed.contains("late"), "{relayed:?}");
    assert!(!["cccc", "dddd", "eeee"].iter().any(|nick| relayed.contains(nick)), "{relayed:?}");
    // Everybody who takes part, wherever they are, is signalled to a visitor, and its bridge knows them: those on it and those behind
    // its relay are all of them.
    let takes_part: std::collections::BTreeSet<String> = ["aaaa", "bbbb", "late"].map(str::to_owned).into();
    for nick in ["cccc", "dddd", "eeee"] {
        let visitor = world.client(&visitors_room("v1"), nick).clone();
        let told: std::collections::BTreeSet<String> = visitor
            .jingles
            .iter()
            .filter(|jingle| ["session-initiate", "source-add"].contains(&jingle.action.as_str()))
            .flat_map(|jingle| focus_world::owners(jingle).into_keys())
            .filter(|owner| owner != "jvb")
            .collect();
        assert_eq!(told, takes_part, "{nick}");
    }
    for (name, bridge) in &world.bridges {
        let meeting = &bridge.knows.0[bridge.meetings.first().expect("a conference")];
        let behind = meeting.relays.values().flat_map(|relay| &relay.endpoints);
        let known: std::collections::BTreeSet<String> = meeting
            .local
            .iter()
            .chain(behind)
            .filter(|(_, ssrcs)| !ssrcs.is_empty())
            .map(|(id, _)| id.clone())
            .collect();
        assert_eq!(known, takes_part, "sources that {name} can forward");
    }
}

#[test]
fn a_conferences_visitors_are_bounded() {
    let mut world = visitors(&["v1"], |settings| settings.max_per_node = 100_000);
    world.join(ROOM, "aaaa", |_| {});
    let wish = "<property name='visitor' value='true'/>";
    assert_eq!(vnode(world.ask_to_visit("x@meet.test/web", ROOM, "", wish)).as_deref(), Some("v1"));
    world.leave(ROOM, "aaaa");
    // Without participants nobody is invited, which is what takes time here.
    assert_eq!(vnode(world.ask_to_visit("x@meet.test/web", ROOM, "", wish)).as_deref(), Some("v1"));
    let room = visitors_room("v1");
    for n in 0..5_010 {
        world.feed(&format!(
            "<presence xmlns='jabber:client' from='{room}/n{n}' to='{FOCUS}'>\
             <x xmlns='http://jabber.org/protocol/muc#user'><item role='visitor' affiliation='none'/></x></presence>"
        ));
        if n == 0 {
            world.kill_bridge("jvb1");
        }
    }
    assert_eq!((world.focus.stats(world.now)["visitors"].as_u64(), count(&world, "visitor")), (Some(5_000), 10));
    // They take nobody's place among the participants.
    world.feed_member(ROOM, "late", false);
    assert_eq!((world.focus.stats(world.now)["participants"].as_u64(), count(&world, "member")), (Some(5_001), 0));
}
