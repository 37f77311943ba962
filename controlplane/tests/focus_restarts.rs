//! ICE restarts in place as clients ask for them (docs/protocol/focus.md 5.10 and 11.5).

mod focus_world;

use focus_world::*;
use ringbridge_controlplane::colibri::elements::ConferenceModify;
use ringbridge_controlplane::focus::FocusSettings;
use ringbridge_controlplane::jingle::{BridgeSession, Jingle, Reason};

/// A session-info as the newest client sends it; the condition of the error.
fn ask_with(world: &mut World, nick: &str, id: Option<&str>, flag: &str) -> Option<String> {
    let sid = world.client(ROOM, nick).sid.clone();
    let id = id.map(|id| format!("id='{id}' ")).unwrap_or_default();
    let info = format!(
        "<jingle xmlns='urn:xmpp:jingle:1' action='session-info' initiator='{FOCUS}' sid='{sid}'>\
         <bridge-session xmlns='http://jitsi.org/protocol/focus' {id}ice-restart='{flag}'/></jingle>"
    );
    condition(&world.ask(&format!("{ROOM}/{nick}"), "set", &info).expect("an answer"))
}

fn ask(world: &mut World, nick: &str) -> Option<String> {
    let id = world.client(ROOM, nick).bridge_session.clone();
    ask_with(world, nick, Some(&id), "true")
}

fn asked(world: &mut World) -> Vec<ConferenceModify> {
    let restarts =
        |r: &&ConferenceModify| r.endpoints.iter().any(|e| e.transport.as_ref().is_some_and(|t| t.ice_restart));
    world.bridge("jvb1").requests.iter().filter(restarts).cloned().collect()
}

/// Requested, relayed, not needed, failed.
fn counts(world: &World) -> [u64; 4] {
    let stats = world.focus.stats(world.now);
    ["requested", "relayed", "not_needed", "failed"].map(|name| stats["ice_restarts"][name].as_u64().unwrap())
}

fn refused(world: &World, reason: &str) -> u64 {
    world.focus.stats(world.now)["refused"][reason].as_u64().unwrap()
}

#[test]
fn a_client_is_told_the_bridges_new_credentials_and_gives_its_own() {
    let mut world = World::call(&["alice", "bob"]);
    world.bridge("jvb1").restart = Restart::Begun(1);
    let others = world.client(ROOM, "bob").jingles.len();
    assert_eq!(ask(&mut world, "alice"), None, "answered at once");
    let [request] = &asked(&mut world)[..] else { panic!("one request") };
    let endpoint = &request.endpoints[0];
    assert_eq!((endpoint.id.as_str(), endpoint.stats_id.as_deref()), ("alice", Some("stats-alice")));
    assert!(!request.create && request.endpoints.len() == 1 && endpoint.sources.is_none() && endpoint.media.is_empty());
    assert!(endpoint.transport.as_ref().unwrap().ice.is_none());
    let alice = world.client(ROOM, "alice").clone();
    let told = alice.jingles.last().unwrap();
    assert_eq!((told.action.as_str(), &told.sid), ("transport-info", &alice.sid));
    let [content] = &told.contents[..] else { panic!("one content") };
    assert_eq!((content.name.as_deref(), content.creator.as_deref()), (Some("audio"), Some("initiator")));
    let transport = content.transport.as_ref().unwrap();
    assert_eq!(transport.ice_generation.as_deref(), Some("1"));
    assert_eq!((transport.ufrag.as_deref(), transport.pwd.as_deref()), (Some("jvb1alice-1"), Some("pwd")));
    assert_eq!((transport.candidates.len(), transport.web_sockets.len()), (1, 0));

    // Its own: one transport for each content, tagged, as the newest client sends them.
    let transport = "<transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='new' pwd='p' ice-generation='1'>\
        <fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='active'>AA</fingerprint></transport>";
    let contents: String = ["audio", "video", "application"]
        .map(|n| format!("<content creator='responder' name='{n}'>{transport}</content>"))
        .concat();
    let info =
        format!("<jingle xmlns='urn:xmpp:jingle:1' action='transport-info' sid='{}'>{contents}</jingle>", alice.sid);
    assert_eq!(condition(&world.ask(&format!("{ROOM}/alice"), "set", &info).unwrap()), None);
    let update = world.bridge("jvb1").requests.last().unwrap().endpoints[0].clone();
    let transport = update.transport.unwrap();
    assert!(!transport.ice_restart);
    let ice = transport.ice.unwrap();
    assert_eq!((ice.ufrag.as_deref(), ice.ice_generation), (Some("new"), Some(1)));
    assert_eq!(world.client(ROOM, "bob").jingles.len(), others, "nobody else notices");
    assert_eq!(counts(&world), [1, 1, 0, 0]);
    // A second one, later.
    world.pass(6);
    world.bridge("jvb1").restart = Restart::Begun(2);
    assert_eq!(ask(&mut world, "alice"), None);
    assert_eq!(counts(&world), [2, 2, 0, 0]);
}

#[test]
fn what_a_client_knows_is_not_told_again_and_what_is_not_needed_neither() {
    let mut world = World::call(&["alice", "bob"]);
    let before = world.client(ROOM, "alice").jingles.len();
    for (restart, expected) in [
        (Restart::Kept, [1, 0, 1, 0]),
        (Restart::Begun(3), [2, 1, 1, 0]),
        (Restart::Begun(3), [3, 1, 1, 1]),
        (Restart::Begun(2), [4, 1, 1, 2]),
    ] {
        world.bridge("jvb1").restart = restart;
        assert_eq!(ask(&mut world, "alice"), None);
        assert_eq!(counts(&world), expected);
        world.pass(6);
    }
    assert_eq!(world.client(ROOM, "alice").jingles.len(), before + 1);
    // Of another member nothing was signalled.
    world.bridge("jvb1").restart = Restart::Begun(1);
    assert_eq!(ask(&mut world, "bob"), None);
    assert_eq!(world.client(ROOM, "bob").last("transport-info").contents.len(), 1);
    // In a new session numbers start again.
    let client = world.client(ROOM, "alice").clone();
    let session = BridgeSession { id: Some(client.bridge_session), restart: Some("true".into()), ..Default::default() };
    let reason = Some(Reason::new("success", "restart required"));
    let end = Jingle { bridge_session: Some(session), reason, ..Jingle::new("session-terminate", &client.sid) };
    assert_eq!(world.jingle(ROOM, "alice", end), None);
    world.pass(6);
    assert_eq!(ask(&mut world, "alice"), None);
    assert_eq!(world.client(ROOM, "alice").jingles.last().unwrap().action, "transport-info");
}

#[test]
fn what_the_bridge_cannot_restart_is_invited_again() {
    for (answers, restart) in [
        (Answers::Well, Restart::Declined),
        (Answers::Error("bad-request", None), Restart::Declined),
        (Answers::Error("feature-not-implemented", Some("FEATURE_NOT_IMPLEMENTED")), Restart::Declined),
        (Answers::Error("resource-constraint", None), Restart::Declined),
    ] {
        let mut world = World::call(&["alice", "bob"]);
        let (sid, others) = (world.client(ROOM, "alice").sid.clone(), world.client(ROOM, "bob").sid.clone());
        world.bridge("jvb1").restart = restart;
        let well = matches!(answers, Answers::Well);
        world.bridge("jvb1").answers = answers;
        assert_eq!(ask(&mut world, "alice"), None);
        let actions = world.client(ROOM, "alice").clone();
        let end = actions.last("session-terminate");
        assert_eq!((end.sid.as_str(), end.reason.clone().unwrap().children[1].text()), (sid.as_str(), "moving".into()));
        let ended =
            world.bridge("jvb1").requests.iter().any(|r| r.endpoints.iter().any(|e| e.expire && e.id == "alice"));
        assert!(ended, "its endpoint is let go");
        if well {
            assert_eq!(world.client(ROOM, "alice").jingles.last().unwrap().action, "session-initiate");
            assert_ne!(world.client(ROOM, "alice").sid, sid);
            assert_eq!(world.client(ROOM, "bob").sid, others, "only the one who asked");
        }
        assert_eq!((counts(&world), refused(&world, "ice_restart_declined")), ([1, 0, 0, 1], 1));
    }
}

#[test]
fn errors_of_the_bridge_about_more_than_the_restart_are_handled_as_of_any_update() {
    let mut world = World::call(&["alice", "bob"]);
    let sid = world.client(ROOM, "bob").sid.clone();
    world.bridge("jvb1").meetings.clear();
    assert_eq!(ask(&mut world, "alice"), None);
    assert_ne!(world.client(ROOM, "bob").sid, sid, "the conference is gone there: everybody is invited again");
    assert_eq!(counts(&world), [1, 0, 0, 1]);
    // Silence: nobody is disturbed, the client gives up by itself.
    let mut world = World::call(&["alice", "bob"]);
    let sid = world.client(ROOM, "alice").sid.clone();
    world.bridge("jvb1").answers = Answers::Nothing;
    assert_eq!(ask(&mut world, "alice"), None);
    world.pass(20);
    assert_eq!((world.client(ROOM, "alice").sid.clone(), counts(&world)), (sid, [1, 0, 0, 1]));
}

#[test]
fn requests_that_are_not_granted_have_the_references_errors() {
    let mut world = World::call(&["alice", "bob"]);
    world.bridge("jvb1").restart = Restart::Begun(1);
    let id = world.client(ROOM, "alice").bridge_session.clone();
    assert_eq!(ask_with(&mut world, "alice", Some("another"), "true").as_deref(), Some("item-not-found"));
    world.pass(6);
    assert_eq!(ask_with(&mut world, "alice", None, "true").as_deref(), Some("item-not-found"));
    world.pass(6);
    for flag in ["false", "", "1"] {
        assert_eq!(ask_with(&mut world, "alice", Some(&id), flag), None, "not a restart: {flag}");
    }
    assert!(asked(&mut world).is_empty());
    assert_eq!(ask_with(&mut world, "alice", Some(&id), "TRUE"), None);
    // While it runs, and too soon: what is under way is not disturbed.
    assert_eq!(ask(&mut world, "alice").as_deref(), Some("resource-constraint"));
    assert_eq!((asked(&mut world).len(), refused(&world, "ice_restart_rate")), (1, 1));
    assert_eq!(ask(&mut world, "bob"), None, "others have budgets of their own");
    // A storm.
    let mut granted = 0;
    for _ in 0..60 {
        world.pass(1);
        granted += usize::from(ask(&mut world, "alice").is_none());
    }
    assert!((1..=5).contains(&granted), "{granted}");
    // It has not used up what full restarts have, and the other way round.
    let client = world.client(ROOM, "alice").clone();
    let session = BridgeSession { id: Some(client.bridge_session), restart: Some("true".into()), ..Default::default() };
    let reason = Some(Reason::new("connectivity-error", "ICE FAILED"));
    let end = Jingle { bridge_session: Some(session), reason, ..Jingle::new("session-terminate", &client.sid) };
    assert_eq!(world.jingle(ROOM, "alice", end), None);
    assert_eq!(world.client(ROOM, "alice").jingles.last().unwrap().action, "session-initiate");
}

#[test]
fn switched_off_the_client_is_told_to_ask_for_a_new_session() {
    let mut world = World::with(FocusSettings { ice_restart: false, ..settings() });
    world.add_bridge("jvb1", &[]);
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    assert_eq!(ask(&mut world, "alice").as_deref(), Some("feature-not-implemented"));
    assert!(asked(&mut world).is_empty());
    assert_eq!(counts(&world), [1, 0, 0, 1]);
}

#[test]
fn answers_for_a_session_that_is_over_are_dropped() {
    let mut world = World::call(&["alice", "bob"]);
    world.bridge("jvb1").answers = Answers::Nothing;
    assert_eq!(ask(&mut world, "alice"), None);
    let id = world.bridge("jvb1").ids.last().unwrap().clone();
    world.bridge("jvb1").answers = Answers::Well;
    let client = world.client(ROOM, "alice").clone();
    let session = BridgeSession { id: Some(client.bridge_session), restart: Some("true".into()), ..Default::default() };
    let end = Jingle { bridge_session: Some(session), ..Jingle::new("session-terminate", &client.sid) };
    assert_eq!(world.jingle(ROOM, "alice", end), None);
    let before = world.client(ROOM, "alice").jingles.len();
    world.feed(&format!(
        "<iq xmlns='jabber:client' type='result' id='{id}' from='{BREWERY}/jvb1' to='{FOCUS}'>\
         <conference-modified xmlns='jitsi:colibri2'><endpoint id='alice'><transport>\
         <transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='x' pwd='y' ice-generation='9'/>\
         </transport></endpoint></conference-modified></iq>"
    ));
    assert_eq!(world.client(ROOM, "alice").jingles.len(), before, "credentials of another endpoint");
    assert_eq!(counts(&world), [1, 0, 0, 1]);
    // Who left meanwhile is no panic.
    world.bridge("jvb1").answers = Answers::Nothing;
    world.pass(6);
    assert_eq!(ask(&mut world, "bob"), None);
    world.leave(ROOM, "bob");
    world.pass(20);
    assert_eq!(counts(&world), [2, 0, 0, 2]);
}
