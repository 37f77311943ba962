//! Scripted calls: who is invited when, what is sent to clients and bridges (docs/protocol/focus.md 2 to 6, 8, 11).

mod focus_world;

use focus_world::*;
use ringbridge_controlplane::colibri::elements::MediaType;
use ringbridge_controlplane::jingle::{BridgeSession, IceState, Jingle, Reason};

const OTHER_ROOM: &str = "second@conference.meet.test";

fn world_with_bridge() -> World {
    let mut world = World::new();
    world.add_bridge("jvb1", &[]);
    world
}

#[test]
fn one_participant_allocates_nothing_and_two_get_offers() {
    let mut world = world_with_bridge();
    world.join(ROOM, "alice", |_| {});
    world.pass(60);
    assert!(world.bridge("jvb1").requests.is_empty(), "nothing for one");
    assert_eq!(world.client(ROOM, "alice").asked, 0, "one participant: nothing else");
    assert_eq!(world.client(ROOM, "alice").affiliation, "owner");

    world.join(ROOM, "bob", |_| {});
    let requests = &world.bridge("jvb1").requests;
    let (first, second) = (&requests[0], &requests[1..]);
    assert!(first.create);
    assert_eq!(first.name.as_deref(), Some(ROOM));
    let endpoint = &first.endpoints[0];
    assert_eq!((endpoint.id.as_str(), endpoint.stats_id.as_deref()), ("alice", Some("stats-alice")));
    assert!(endpoint.create && endpoint.has_capability("source-names"));
    assert!(endpoint.transport.as_ref().unwrap().ice_controlling);
    assert!(endpoint.transport.as_ref().unwrap().sctp.is_none(), "our bridge has no SCTP");
    assert!(second.iter().all(|request| !request.create && request.name.is_none()), "created once");
    assert!(requests.iter().all(|request| request.meeting_id == first.meeting_id));

    let alice = world.client(ROOM, "alice").clone();
    let offer = alice.last("session-initiate");
    let names: Vec<_> = offer.contents.iter().map(|content| content.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["audio", "video"]);
    let transport = offer.contents[1].transport.as_ref().unwrap();
    assert_eq!(transport.ufrag.as_deref(), Some("jvb1alice"));
    assert_eq!(transport.web_sockets[0].address(), "wss://meet.test/colibri-ws/jvb1/x/alice");
    let feedback = &owners(offer)["jvb"];
    assert_eq!(feedback[0][0]["m"], "mixedmslabel mixedlabelvideo0");
    assert_eq!(feedback[2][0]["s"], 7);

    // Each was signalled to the other: to alice by source-add, as bob accepted later; bob in his offer or after it.
    let told = &owners(alice.last("source-add"))["bob"];
    assert_eq!(told[0].as_array().unwrap().len(), 2, "one encoding and its retransmission: {told}");
    assert_eq!(told[1].as_array().unwrap().len(), 1, "no SIM group");
    let bob = world.client(ROOM, "bob").clone();
    let in_offer = owners(bob.last("session-initiate")).contains_key("alice");
    assert!(in_offer ^ bob.actions().contains(&"source-add"), "once: {:?}", bob.actions());

    // The bridge has everything of alice: transport, all layers.
    let accept = world.bridge("jvb1").requests.iter().rev().find(|r| r.endpoints[0].id == "alice").unwrap().clone();
    let endpoint = &accept.endpoints[0];
    assert!(!endpoint.create);
    assert_eq!(endpoint.transport.as_ref().unwrap().ice.as_ref().unwrap().ufrag.as_deref(), Some("ualice"));
    let sources = endpoint.sources.as_ref().unwrap();
    let video = sources.media_sources.iter().find(|m| m.media_type == MediaType::Video).unwrap();
    assert_eq!((video.id.as_str(), video.sources.len(), video.ssrc_groups.len()), ("alice-v0", 6, 4));
    assert!(endpoint.media.is_empty(), "the answer has the numbers of the offer");
}

#[test]
fn the_owner_moves_when_it_leaves() {
    let mut world = world_with_bridge();
    for nick in ["zoe", "alice", "bob"] {
        world.join(ROOM, nick, |_| {});
    }
    assert_eq!(world.client(ROOM, "zoe").affiliation, "owner", "who came first, not who sorts first");
    assert_eq!(world.client(ROOM, "alice").affiliation, "none");
    let real = world.client(ROOM, "zoe").real.clone();
    assert_eq!(world.admin[0].children().next().unwrap().attr("jid"), real.split('/').next(), "the bare real JID");
    world.leave(ROOM, "zoe");
    assert_eq!(world.client(ROOM, "alice").affiliation, "owner");
    assert_eq!(world.client(ROOM, "bob").affiliation, "none");
    assert_eq!(world.admin.len(), 2);
}

#[test]
fn a_third_gets_the_sources_of_the_others_in_its_offer() {
    let mut world = world_with_bridge();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    world.join(ROOM, "carol", |carol| carol.accepts = false);
    let offer = world.client(ROOM, "carol").last("session-initiate").clone();
    assert_eq!(owners(&offer).keys().map(String::as_str).collect::<Vec<_>>(), ["alice", "bob", "jvb"]);
    let start_muted = offer.start_muted.as_ref().expect("startAudioMuted was 2");
    assert!(start_muted.audio && !start_muted.video);

    // What changes until the answer is signalled after it, as one difference.
    let remove = source("alice", world.client(ROOM, "alice").ssrc, "audio", true);
    let sid = world.client(ROOM, "alice").sid.clone();
    let jingle = Jingle { contents: vec![content("audio", vec![remove])], ..Jingle::new("source-remove", &sid) };
    assert_eq!(world.jingle(ROOM, "alice", jingle), None);
    let bob = world.client(ROOM, "bob");
    assert_eq!(bob.last("source-remove").sid, bob.sid);
    assert_eq!(world.client(ROOM, "carol").actions(), ["session-initiate"], "not before it accepts");
    let accept = world.accept_of(ROOM, "carol");
    assert_eq!(world.jingle(ROOM, "carol", accept), None);
    assert_eq!(world.client(ROOM, "carol").actions(), ["session-initiate", "source-remove"]);
    let gone = owners(world.client(ROOM, "carol").last("source-remove"));
    assert_eq!(gone["alice"][2].as_array().unwrap().len(), 1);
    assert!(owners(world.client(ROOM, "alice").last("source-add")).contains_key("carol"));
    assert!(owners(world.client(ROOM, "bob").last("source-add")).contains_key("carol"));
}

#[test]
fn leaving_and_coming_back() {
    let mut world = world_with_bridge();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    let meeting = world.bridge("jvb1").requests[0].meeting_id.clone();
    let before = world.client(ROOM, "alice").actions().len();
    world.leave(ROOM, "bob");
    let expired = world.bridge("jvb1").requests.last().unwrap();
    assert!(expired.endpoints[0].expire && expired.endpoints[0].id == "bob" && !expired.expire);
    assert_eq!(world.client(ROOM, "alice").actions().len(), before, "clients drop the sources by themselves");

    world.pass(19);
    world.join(ROOM, "bob2", |_| {});
    world.pass(30);
    assert_eq!(world.client(ROOM, "alice").actions().len(), before + 1, "only a source-add");
    world.leave(ROOM, "bob2");
    world.pass(21);
    let end = world.client(ROOM, "alice").last("session-terminate").reason.clone().unwrap();
    assert_eq!((end.children[0].name(), end.children[1].text().as_str()), ("expired", "Idle session timeout"));
    assert!(world.bridge("jvb1").requests.last().unwrap().expire, "the conference leaves the bridge");

    world.join(ROOM, "bob3", |_| {});
    let created = world.bridge("jvb1").requests.iter().rfind(|request| request.create).unwrap();
    assert_ne!(created.meeting_id, meeting);
    let alice = world.client(ROOM, "alice");
    let offers: Vec<_> = alice.jingles.iter().filter(|j| j.action == "session-initiate").collect();
    assert_eq!(offers.len(), 2);
    assert_ne!(offers[0].sid, offers[1].sid);

    world.leave(ROOM, "alice");
    world.leave(ROOM, "bob3");
    assert!(world.bridge("jvb1").requests.last().unwrap().expire);
    assert!(!world.rooms.contains_key(ROOM), "an empty room is left");
    assert_eq!(world.focus.stats(world.now)["conferences"], 0);
}

#[test]
fn conference_requests() {
    let mut world = World::new();
    let bad = |world: &mut World, attributes: &str| {
        let payload = format!("<conference xmlns='http://jitsi.org/protocol/focus' {attributes}/>");
        condition(&world.ask("3f2a@meet.test/web", "set", &payload).expect("an answer"))
    };
    assert_eq!(bad(&mut world, "").as_deref(), Some("bad-request"));
    assert_eq!(bad(&mut world, "room='a@b@c'").as_deref(), Some("bad-request"));
    assert_eq!(bad(&mut world, "room='room@muc.elsewhere.test'").as_deref(), Some("not-allowed"));
    assert!(!world.rooms.contains_key("room@muc.elsewhere.test"));

    world.refuses_joins = true;
    let answer = world.request_conference(ROOM).expect("an answer");
    assert_eq!(answer.children().next().unwrap().attr("ready"), Some("false"), "so that the client asks again");
    world.refuses_joins = false;
    let answer = world.request_conference(ROOM).expect("an answer");
    assert_eq!(answer.children().next().unwrap().attr("ready"), Some("true"));
    let (_, presence) = world.presences.last().unwrap();
    let xml: String = presence.payloads.iter().map(String::from).collect();
    assert!(xml.contains("support-terminate-restart") && xml.contains("<versions"), "{xml}");
    world.pass(14);
    assert!(world.rooms.contains_key(ROOM));
    world.pass(2);
    assert!(!world.rooms.contains_key(ROOM), "nobody came");
}

#[test]
fn other_requests() {
    let mut world = world_with_bridge();
    let user = "3f2a@meet.test/web";
    assert_eq!(condition(&world.ask(user, "get", "<ping xmlns='urn:xmpp:ping'/>").unwrap()), None);
    let version = world.ask(user, "get", "<query xmlns='jabber:iq:version'/>").unwrap();
    assert!(String::from(&version).contains("ringbridge"));
    let disco = world.ask(user, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>").unwrap();
    assert!(String::from(&disco).contains("urn:xmpp:ping"));
    let dial = world.ask(user, "set", "<dial xmlns='urn:xmpp:rayo:1'/>").unwrap();
    assert_eq!(condition(&dial).as_deref(), Some("item-not-found"));
    let jibri = world.ask(user, "set", "<jibri xmlns='http://jitsi.org/protocol/jibri' action='start'/>").unwrap();
    assert_eq!(condition(&jibri).as_deref(), Some("item-not-found"));
    let unknown = world.ask(user, "get", "<login-url xmlns='http://jitsi.org/protocol/focus' room='x@y'/>").unwrap();
    assert_eq!(condition(&unknown).as_deref(), Some("service-unavailable"));
}

#[test]
fn features_are_asked_once_and_believed_only_when_proven() {
    let mut world = world_with_bridge();
    // Somebody claims the hash of today's client without its features.
    world.join(ROOM, "eve", |eve| eve.features = vec!["urn:xmpp:jingle:apps:rtp:audio"]);
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    assert_eq!(world.client(ROOM, "eve").last("session-initiate").contents.len(), 1, "audio only, as it says");
    assert_eq!(world.client(ROOM, "alice").asked, 1, "the claim was not believed");
    assert_eq!(world.client(ROOM, "bob").asked, 0, "but alice's was");
    assert_eq!(world.client(ROOM, "bob").last("session-initiate").contents.len(), 2);
}

#[test]
fn a_client_without_answer_gets_xml_sources_after_a_while() {
    let mut world = world_with_bridge();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "mute", |client| (client.answers_disco, client.hash) = (false, "unheardof="));
    assert!(world.client(ROOM, "mute").jingles.is_empty());
    assert!(!world.client(ROOM, "alice").jingles.is_empty(), "nobody waits for it");
    world.pass(16);
    let client = world.client(ROOM, "mute").clone();
    let offer = client.last("session-initiate");
    assert!(offer.json_message.is_none());
    let video = offer.contents[1].description.as_ref().unwrap();
    let owners: Vec<_> =
        video.sources.iter().map(|s| (s.info.as_ref().unwrap().owner.as_str(), s.name.as_deref().unwrap())).collect();
    assert_eq!(owners, [("alice", "alice-v0"), ("alice", "alice-v0"), ("jvb", "jvb-v0")]);
    assert!(video.payload_types.iter().all(|format| format.name.as_deref() != Some("rtx")), "not known to want it");
    assert_eq!(video.ssrc_groups.len(), 1);
}

#[test]
fn missing_names_are_filled_in() {
    let mut world = world_with_bridge();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "lyno", |client| client.named = false);
    let told = &owners(world.client(ROOM, "alice").last("source-add"))["lyno"];
    assert_eq!(
        (&told[0][0]["n"], &told[0][1]["n"], &told[2][0]["n"]),
        (&"lyno-v0".into(), &"lyno-v0".into(), &"lyno-a0".into())
    );
    let request = world.bridge("jvb1").requests.iter().rfind(|r| r.endpoints[0].id == "lyno").unwrap();
    let names: Vec<_> =
        request.endpoints[0].sources.as_ref().unwrap().media_sources.iter().map(|m| m.id.as_str()).collect();
    assert_eq!(names, ["lyno-a0", "lyno-v0"]);
}

#[test]
fn a_renumbered_answer_reaches_our_own_bridge_only() {
    for ours in [true, false] {
        let mut world = World::new();
        world.add_bridge("jvb1", if ours { &[("ringbridge", "0.1.0")] } else { &[] });
        world.join(ROOM, "alice", |_| {});
        world.join(ROOM, "bob", |bob| bob.accepts = false);
        let mut accept = world.accept_of(ROOM, "bob");
        let video = accept.contents[1].description.as_mut().unwrap();
        video.payload_types.retain(|format| [100, 96].contains(&format.id));
        (video.payload_types[0].id, video.payload_types[1].id) = (96, 97);
        video.payload_types[1].parameters[0].value = Some("96".into());
        video.header_extensions[1].id = 4;
        assert_eq!(world.jingle(ROOM, "bob", accept), None);
        let update = world.bridge("jvb1").requests.last().unwrap();
        assert_eq!(update.endpoints[0].id, "bob");
        let media = &update.endpoints[0].media;
        if !ours {
            assert!(media.is_empty(), "nothing that another bridge does not expect");
            continue;
        }
        let video = media.iter().find(|media| media.media_type == MediaType::Video).unwrap();
        let formats: Vec<_> = video.payload_types.iter().map(|f| (f.id, f.name.as_deref().unwrap())).collect();
        assert_eq!(formats, [(96, "VP8"), (97, "rtx")]);
        assert_eq!(video.header_extensions[1].id, 4);
        assert!(media.iter().any(|media| media.media_type == MediaType::Audio), "the table is replaced whole");
    }
}

#[test]
fn bad_sources_are_refused() {
    let mut world = world_with_bridge();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |bob| bob.accepts = false);
    let alice = world.client(ROOM, "alice").clone();
    let requests = world.bridge("jvb1").requests.len();
    let add = |ssrc: &str, msid: &str| {
        let mut bad = source("alice", 1, "video", true);
        (bad.ssrc, bad.name) = (Some(ssrc.to_owned()), Some("alice-v1".to_owned()));
        bad.parameters[0].value = Some(msid.to_owned());
        Jingle { contents: vec![content("video", vec![bad])], ..Jingle::new("source-add", &alice.sid) }
    };
    for bad in [
        add("0", "x y"),
        add("4294967296", "x y"),
        add("-3", "x y"),
        add(&alice.ssrc.to_string(), "x y"),
        add("7", "x y"),
    ] {
        assert_eq!(world.jingle(ROOM, "alice", bad).as_deref(), Some("bad-request"));
    }
    assert_eq!(world.bridge("jvb1").requests.len(), requests, "the bridge hears nothing of it");
    assert_eq!(world.jingle(ROOM, "alice", add("99", "screen s")), None);
    let video = world.bridge("jvb1").requests.last().unwrap().endpoints[0].sources.clone().unwrap();
    assert_eq!(video.media_sources.len(), 3, "always the complete set");

    // An answer with sources of somebody else ends the session.
    world.client(ROOM, "bob").ssrc = alice.ssrc;
    let accept = world.accept_of(ROOM, "bob");
    assert_eq!(world.jingle(ROOM, "bob", accept.clone()).as_deref(), Some("bad-request"));
    assert!(world.bridge("jvb1").requests.last().unwrap().endpoints[0].expire);
    assert_eq!(world.jingle(ROOM, "bob", accept).as_deref(), Some("gone"));
    assert!(!world.client(ROOM, "alice").actions().contains(&"source-add"));
}

#[test]
fn jingle_that_makes_no_sense_has_its_errors() {
    let mut world = world_with_bridge();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    let sid = world.client(ROOM, "alice").sid.clone();
    let mut ask = |jingle: Jingle| world.jingle(ROOM, "alice", jingle);
    assert_eq!(ask(Jingle::new("session-accept", "unheardof")).as_deref(), Some("bad-request"));
    assert_eq!(ask(Jingle::new("", &sid)).as_deref(), Some("bad-request"));
    assert_eq!(ask(Jingle::new("content-modify", &sid)).as_deref(), Some("feature-not-implemented"));
    assert_eq!(ask(Jingle::new("transport-info", &sid)).as_deref(), Some("bad-request"));
    assert_eq!(ask(Jingle::new("session-info", &sid)), None);
    let remove = vec![content("audio", vec![source("alice", 4_000_000, "audio", true)])];
    let remove = Jingle { contents: remove, ..Jingle::new("source-remove", &sid) };
    assert_eq!(ask(remove).as_deref(), Some("bad-request"));
    let again = world.accept_of(ROOM, "alice");
    assert_eq!(world.jingle(ROOM, "alice", again).as_deref(), Some("bad-request"), "accepted already");
    let stranger = world.ask(
        "3f2a@meet.test/web",
        "set",
        &format!("<jingle xmlns='urn:xmpp:jingle:1' action='session-info' sid='{sid}'/>"),
    );
    assert_eq!(condition(&stranger.unwrap()).as_deref(), Some("item-not-found"));
    let odd = format!(
        "<jingle xmlns='urn:xmpp:jingle:1' action='transport-info' sid='{sid}'><content name='a'><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1'><candidate ip='1.2.3.4' port='huge'/></transport></content></jingle>"
    );
    let odd = world.ask(&format!("{ROOM}/alice"), "set", &odd);
    assert_eq!(condition(&odd.unwrap()).as_deref(), Some("bad-request"));
}

#[test]
fn transport_info_goes_to_the_bridge() {
    let mut world = world_with_bridge();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    let sid = world.client(ROOM, "alice").sid.clone();
    let info = format!(
        "<jingle xmlns='urn:xmpp:jingle:1' action='transport-info' sid='{sid}'><content name='0'>\
         <transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='abc' pwd='d'>\
         <candidate ip='192.0.2.2' port='5000' protocol='udp' type='host' component='1' foundation='1' priority='1' generation='0'/>\
         <web-socket xmlns='http://jitsi.org/protocol/colibri' url='wss://evil.test/'/></transport></content></jingle>"
    );
    assert_eq!(condition(&world.ask(&format!("{ROOM}/alice"), "set", &info).unwrap()), None);
    let update = world.bridge("jvb1").requests.last().unwrap().endpoints[0].clone();
    assert!(update.sources.is_none(), "only the transport");
    let ice = update.transport.unwrap().ice.unwrap();
    assert_eq!((ice.ufrag.as_deref(), ice.candidates.len()), (Some("abc"), 1));
    assert!(ice.web_sockets.is_empty(), "clients give bridges no URLs");
}

fn restart(world: &mut World, nick: &str) -> Option<String> {
    let client = world.client(ROOM, nick).clone();
    let session = BridgeSession { id: Some(client.bridge_session), restart: Some("true".into()), ..Default::default() };
    let jingle = Jingle {
        bridge_session: Some(session),
        reason: Some(Reason::new("connectivity-error", "ICE FAILED")),
        ..Jingle::new("session-terminate", &client.sid)
    };
    world.jingle(ROOM, nick, jingle)
}

#[test]
fn restarts_are_granted_and_limited() {
    let mut world = world_with_bridge();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    let first = world.client(ROOM, "alice").clone();
    let before = world.client(ROOM, "bob").jingles.len();
    assert_eq!(restart(&mut world, "alice"), None);
    let alice = world.client(ROOM, "alice").clone();
    assert_ne!(alice.sid, first.sid, "a new offer");
    assert!(!alice.actions().contains(&"session-terminate"), "the client ended it itself");
    let bob = world.client(ROOM, "bob");
    assert_eq!(bob.actions()[before..], ["source-remove", "source-add"]);
    assert!(world.bridge("jvb1").requests.iter().any(|r| r.endpoints.iter().any(|e| e.id == "alice" && e.expire)));

    // Late requests about the replaced session.
    let late = Jingle::new("session-info", &first.sid);
    assert_eq!(world.jingle(ROOM, "alice", late).as_deref(), Some("item-not-found"));
    let wrong = BridgeSession { id: Some("another".into()), restart: Some("true".into()), ..Default::default() };
    let wrong = Jingle { bridge_session: Some(wrong), ..Jingle::new("session-terminate", &alice.sid) };
    assert_eq!(world.jingle(ROOM, "alice", wrong).as_deref(), Some("item-not-found"));

    for _ in 0..4 {
        world.pass(6);
        assert_eq!(restart(&mut world, "alice"), None);
    }
    world.pass(6);
    assert_eq!(restart(&mut world, "alice").as_deref(), Some("resource-constraint"), "the sixth in a minute");
    let offers = world.client(ROOM, "alice").offers();
    assert_eq!(offers, 6, "five restarts");
    world.join(ROOM, "carol", |_| {});
    assert!(world.client(ROOM, "carol").actions().contains(&"session-initiate"));
    let offers = world.client(ROOM, "alice").offers();
    assert_eq!(offers, 6, "not invited again unasked");
}

#[test]
fn restarts_at_once_after_each_other_are_refused() {
    let mut world = world_with_bridge();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    assert_eq!(restart(&mut world, "alice"), None);
    world.pass(4);
    assert_eq!(restart(&mut world, "alice").as_deref(), Some("resource-constraint"));
}

#[test]
fn ice_failed_brings_a_new_offer() {
    let mut world = world_with_bridge();
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    let first = world.client(ROOM, "alice").clone();
    let session = BridgeSession { id: Some(first.bridge_session.clone()), ..Default::default() };
    let failed = Jingle {
        bridge_session: Some(session),
        ice_state: Some(IceState { state: "failed".into() }),
        ..Jingle::new("session-info", &first.sid)
    };
    assert_eq!(world.jingle(ROOM, "alice", failed), None);
    let alice = world.client(ROOM, "alice");
    let end = alice.last("session-terminate");
    assert_eq!((end.sid.as_str(), end.reason.as_ref().unwrap().children[0].name()), (first.sid.as_str(), "success"));
    assert_ne!(alice.sid, first.sid);
}

#[test]
fn muting() {
    let mut world = world_with_bridge();
    let odd = "o'b<&b";
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    world.join(ROOM, odd, |_| {});
    let mute = |world: &mut World, by: &str, whom: &str, on: &str| {
        let payload = format!("<mute xmlns='http://jitsi.org/jitmeet/video' jid='{ROOM}/{whom}'>{on}</mute>");
        condition(&world.ask(&format!("{ROOM}/{by}"), "set", &payload).unwrap())
    };
    assert_eq!(mute(&mut world, "bob", "alice", "true").as_deref(), Some("not-allowed"), "bob is no moderator");
    assert_eq!(mute(&mut world, "alice", "bob", "true"), None);
    assert_eq!(world.client(ROOM, "bob").mutes.len(), 1);
    let order = &world.client(ROOM, "bob").mutes[0];
    assert_eq!((order.ns().as_str(), order.text().as_str()), ("http://jitsi.org/jitmeet/video", "true"));
    assert_eq!(order.attr("actor"), Some("room@conference.meet.test/alice"));
    assert_eq!(mute(&mut world, "alice", "bob", "false").as_deref(), Some("not-allowed"), "nobody unmutes others");
    assert_eq!(mute(&mut world, "bob", "bob", "false"), None);
    assert_eq!(mute(&mut world, "alice", "nobody", "true").as_deref(), Some("internal-server-error"));
    assert_eq!(mute(&mut world, "alice", "bob", "perhaps").as_deref(), Some("bad-request"));
    let missing = "<mute xmlns='http://jitsi.org/jitmeet/audio'>true</mute>";
    assert_eq!(
        condition(&world.ask(&format!("{ROOM}/alice"), "set", missing).unwrap()).as_deref(),
        Some("bad-request")
    );
    assert_eq!(mute(&mut world, "alice", &escape(odd), "true"), None);
    let order = &world.client(ROOM, odd).mutes[0];
    assert_eq!(order.attr("jid"), Some("room@conference.meet.test/o'b<&b"), "any nickname survives");
}

#[test]
fn two_conferences_do_not_wait_for_each_other() {
    let mut world = world_with_bridge();
    world.bridge("jvb1").answers = Answers::Nothing;
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    assert!(world.client(ROOM, "alice").jingles.is_empty());
    world.bridge("jvb1").answers = Answers::Well;
    world.join(OTHER_ROOM, "alice", |_| {});
    world.join(OTHER_ROOM, "bob", |_| {});
    assert!(world.client(OTHER_ROOM, "alice").actions().contains(&"source-add"), "the second runs");
    assert!(world.client(ROOM, "alice").jingles.is_empty(), "the first waits");
    let create: Vec<_> = world
        .bridge("jvb1")
        .requests
        .iter()
        .filter(|r| r.create)
        .map(|r| (r.name.clone(), r.meeting_id.clone()))
        .collect();
    assert_eq!(create.len(), 2);
    assert_ne!(create[0], create[1]);
    let owners = owners(world.client(OTHER_ROOM, "alice").last("source-add"));
    assert_eq!(owners.keys().collect::<Vec<_>>(), ["bob"]);
}

#[test]
fn only_who_was_asked_may_answer() {
    let mut world = world_with_bridge();
    world.bridge("jvb1").answers = Answers::Nothing;
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    let id = world.bridge("jvb1").ids[0].clone();
    let forged = |from: &str| {
        format!(
            "<iq xmlns='jabber:client' type='result' id='{id}' from='{from}' to='{FOCUS}'>\
             <conference-modified xmlns='jitsi:colibri2'><endpoint id='alice'><transport>\
             <transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='u' pwd='x'/></transport></endpoint>\
             </conference-modified></iq>"
        )
    };
    world.feed(&forged(&format!("{ROOM}/eve")));
    assert!(world.client(ROOM, "alice").jingles.is_empty(), "no offer made of a forged answer");
    world.feed(&forged(&format!("{BREWERY}/jvb1")));
    assert!(!world.client(ROOM, "alice").jingles.is_empty());
}

#[test]
fn data_channels_are_offered_when_asked_for() {
    let mut world = World::with(ringbridge_controlplane::focus::FocusSettings { sctp: true, ..settings() });
    world.add_bridge("jvb1", &[]);
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    assert!(world.bridge("jvb1").requests[0].endpoints[0].transport.as_ref().unwrap().sctp.is_some());
    let offer = world.client(ROOM, "alice").last("session-initiate").clone();
    let data = &offer.contents[2];
    assert_eq!(data.name.as_deref(), Some("data"));
    let sctpmap = data.transport.as_ref().unwrap().sctpmap.as_ref().unwrap();
    assert_eq!((sctpmap.number.as_deref(), sctpmap.streams.as_deref()), (Some("5000"), Some("1024")));
    let group: Vec<_> = offer.group.as_ref().unwrap().contents.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(group, ["audio", "video", "data"]);
}

/// A client that expects SSRC rewriting hears of the others from the bridge, not from the focus.
#[test]
fn with_ssrc_rewriting_the_bridge_tells_of_the_sources() {
    let mut world = world_with_bridge();
    for (nick, rewriting) in [("alice", true), ("bob", false), ("carol", true)] {
        world.join(ROOM, nick, |client| {
            if rewriting {
                client.features.push("http://jitsi.org/ssrc-rewriting-1");
                client.hash = "rewriting";
            }
            if nick != "alice" {
                // It counts with the other alone.
                client.features.push("http://jitsi.org/rtp-mid-demux");
                client.hash = if rewriting { "by-mid" } else { "by-ssrc" };
            }
        });
    }
    for (nick, rewriting) in [("alice", true), ("bob", false), ("carol", true)] {
        let requests = &world.bridge("jvb1").requests;
        let created = requests.iter().flat_map(|r| &r.endpoints).find(|e| e.id == nick && e.create).unwrap();
        assert_eq!(created.has_capability("ssrc-rewriting"), rewriting, "{nick}");
        assert_eq!(created.has_capability("rtp-mid-demux"), nick == "carol", "{nick}");
        assert!(created.has_capability("source-names"));
        let client = world.client(ROOM, nick);
        let offered = owners(client.last("session-initiate"));
        let told: Vec<&str> = client.actions().into_iter().filter(|action| action.starts_with("source")).collect();
        assert!(offered.contains_key("jvb"), "{nick}");
        if rewriting {
            assert_eq!((offered.len(), told), (1, vec![]), "{nick}");
        } else {
            assert!(offered.len() > 1 || !told.is_empty(), "{nick}");
        }
    }
    // What one of them has itself goes to the bridge, and to those without.
    let remove = source("alice", world.client(ROOM, "alice").ssrc, "audio", true);
    let sid = world.client(ROOM, "alice").sid.clone();
    let jingle = Jingle { contents: vec![content("audio", vec![remove])], ..Jingle::new("source-remove", &sid) };
    assert_eq!(world.jingle(ROOM, "alice", jingle), None);
    assert_eq!(world.client(ROOM, "bob").actions().last(), Some(&"source-remove"));
    assert_eq!(world.client(ROOM, "carol").actions(), ["session-initiate"]);
}

/// The room's meeting id, as Jitsi's modules for Prosody publish it.
fn with_meeting_id(world: &mut World, room: &str, id: &str) {
    let field = format!("<field var='muc#roominfo_meetingId'><value>{}</value></field>", escape(id));
    world.room_info.as_mut().expect("a service that answers").insert(room.to_owned(), field);
}

/// Under which ids the bridge was asked to create conferences.
fn meetings(world: &mut World, bridge: &str) -> Vec<String> {
    world.bridge(bridge).requests.iter().filter(|r| r.create).map(|r| r.meeting_id.clone()).collect()
}

const MEETING: &str = "6f0d1c5e-0b1a-4c7e-9d57-b6a1a3ce9f00";

#[test]
fn a_rooms_own_meeting_id_goes_to_the_bridge() {
    for open in [false, true] {
        let mut world = world_with_bridge();
        world.open_rooms = open;
        with_meeting_id(&mut world, ROOM, MEETING);
        world.join(ROOM, "alice", |_| {});
        world.join(ROOM, "bob", |_| {});
        world.join(OTHER_ROOM, "carol", |_| {});
        world.join(OTHER_ROOM, "dave", |_| {});
        let created = meetings(&mut world, "jvb1");
        assert_eq!(created.len(), 2);
        assert_eq!(created[0], MEETING);
        assert_ne!(created[1], MEETING, "a room without one has one of ours");
        assert_eq!(world.configured, if open { 0 } else { 2 });
        let all = &world.bridge("jvb1").requests;
        assert!(all.iter().all(|request| created.contains(&request.meeting_id)), "updates too");
    }
}

#[test]
fn members_who_are_there_before_the_answer_wait_for_it() {
    let mut world = world_with_bridge();
    world.open_rooms = true;
    world.room_info = None;
    assert!(world.request_conference(ROOM).is_none(), "the room is not ready yet");
    for nick in ["alice", "bob"] {
        world.feed_member(ROOM, nick, false);
    }
    assert!(world.bridge("jvb1").requests.is_empty());
    // A service that does not answer costs two seconds, not the conference.
    world.pass(1);
    assert!(world.replies.is_empty());
    world.pass(2);
    assert_eq!(world.replies.len(), 1);
}

#[test]
fn meeting_ids_that_cannot_be_used_are_replaced() {
    let long = "x".repeat(101);
    for id in ["", " ", "two words", "a/b", "\u{202e}x", "<x/>", long.as_str()] {
        let mut world = world_with_bridge();
        with_meeting_id(&mut world, ROOM, id);
        world.join(ROOM, "alice", |_| {});
        world.join(ROOM, "bob", |_| {});
        let created = meetings(&mut world, "jvb1");
        assert!(created.len() == 1 && created[0] != id && created[0].len() == 36, "{id:?}: {created:?}");
        let refused = u64::from(!id.trim().is_empty());
        assert_eq!(world.focus.stats(world.now)["refused"]["meeting_id"], refused, "{id:?}");
    }
}

#[test]
fn two_rooms_cannot_have_one_meeting() {
    let mut world = world_with_bridge();
    for (room, nicks) in [(ROOM, ["alice", "bob"]), (OTHER_ROOM, ["carol", "dave"])] {
        with_meeting_id(&mut world, room, MEETING);
        for nick in nicks {
            world.join(room, nick, |_| {});
        }
    }
    let created = meetings(&mut world, "jvb1");
    assert!(created.len() == 2 && created[0] == MEETING && created[1] != MEETING, "{created:?}");
    assert_eq!(world.focus.stats(world.now)["refused"]["meeting_id"], 1);
    assert!(world.client(OTHER_ROOM, "dave").actions().contains(&"session-initiate"));
}

#[test]
fn a_meeting_id_is_used_again_once_its_bridge_has_forgotten_it() {
    let mut world = world_with_bridge();
    with_meeting_id(&mut world, ROOM, MEETING);
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    // The bridge starts again: what it may still have is not mixed up with the new.
    world.kill_bridge("jvb1");
    world.pass(1);
    world.add_bridge("jvb1", &[]);
    world.pass(2);
    let created = meetings(&mut world, "jvb1");
    assert!(created.len() == 1 && created[0] != MEETING, "{created:?}");
    // Another bridge knows nothing of it.
    world.add_bridge("jvb2", &[]);
    world.kill_bridge("jvb1");
    world.pass(2);
    assert_eq!(meetings(&mut world, "jvb2"), [MEETING]);
    // One who is alone for long ends it; whoever comes then finds the room's id again, on the same bridge.
    world.leave(ROOM, "bob");
    world.pass(60);
    world.join(ROOM, "bob", |_| {});
    assert_eq!(meetings(&mut world, "jvb2"), [MEETING, MEETING]);
}

#[test]
fn a_bridge_that_has_such_a_meeting_is_given_another_id() {
    let mut world = world_with_bridge();
    with_meeting_id(&mut world, ROOM, MEETING);
    world.bridge("jvb1").answers = Answers::Error("conflict", Some("CONFERENCE_ALREADY_EXISTS"));
    world.join(ROOM, "alice", |alice| alice.answers_disco = false);
    world.join(ROOM, "bob", |_| {});
    world.bridge("jvb1").answers = Answers::Well;
    let created = meetings(&mut world, "jvb1");
    assert!(created.len() > 1 && created[0] == MEETING, "{created:?}");
    assert!(created[1..].iter().all(|id| id != MEETING), "{created:?}");
    world.pass(20);
    assert!(meetings(&mut world, "jvb1").last().is_some_and(|id| id != MEETING));
}
