//! Users who have to log in before conferences begin, and guests who wait for them.

mod focus_world;

use std::time::Duration;

use focus_world::{FOCUS, ROOM, World, condition, settings};
use ringbridge_controlplane::focus::{FocusSettings, LoginSettings, LoginType};
use tokio_xmpp::minidom::Element;

const FOCUS_NS: &str = "http://jitsi.org/protocol/focus";
const HOST: &str = "host@meet.test/web";
const GUEST: &str = "g1@guest.meet.test/web";
const OTHER: &str = "g2@guest.meet.test/web";

fn login(kind: LoginType) -> FocusSettings {
    let lifetime = Duration::from_secs(24 * 3_600);
    let login = LoginSettings { kind, domain: "meet.test".parse().unwrap(), lifetime, auto_login: true };
    FocusSettings { login: Some(login), ..settings() }
}

fn conference(world: &mut World, from: &str, attributes: &str) -> Element {
    let xml = format!("<conference xmlns='{FOCUS_NS}' room='{ROOM}' {attributes}/>");
    world.ask(from, "set", &xml).expect("an answer")
}

fn attr(answer: &Element, name: &str) -> Option<String> {
    answer.get_child("conference", FOCUS_NS)?.attr(name).map(str::to_owned)
}

fn property(answer: &Element, name: &str) -> Option<String> {
    let conference = answer.get_child("conference", FOCUS_NS)?;
    let property = conference.children().find(|property| property.attr("name") == Some(name))?;
    property.attr("value").map(str::to_owned)
}

fn says_session_invalid(answer: &Element) -> bool {
    let error = answer.children().find(|child| child.name() == "error");
    error.is_some_and(|error| error.get_child("session-invalid", FOCUS_NS).is_some())
}

/// Somebody enters the room; what the focus asked of the room's service since, by account.
fn enter(world: &mut World, nick: &str, real: &str) {
    world.feed(&format!(
        "<presence xmlns='jabber:client' from='{ROOM}/{nick}' to='{FOCUS}'><x xmlns='http://jabber.org/protocol/muc#user'>\
         <item role='participant' affiliation='none' jid='{real}'/></x></presence>"
    ));
}

fn owners(world: &World) -> Vec<String> {
    let jid = |query: &Element| query.children().next()?.attr("jid").map(str::to_owned);
    world.admin.iter().filter_map(jid).collect()
}

fn stat(world: &World, group: &str, name: &str) -> u64 {
    world.focus.stats(world.now)[group][name].as_u64().unwrap()
}

#[test]
fn guests_wait_until_a_host_has_begun() {
    let mut world = World::with(login(LoginType::Xmpp));
    let waits = conference(&mut world, GUEST, "machine-uid='m1'");
    assert_eq!(condition(&waits).as_deref(), Some("not-authorized"));
    assert!(!world.rooms.contains_key(ROOM), "no room is made for a guest");
    let begun = conference(&mut world, HOST, "machine-uid='m2'");
    assert_eq!(attr(&begun, "ready").as_deref(), Some("true"));
    assert_eq!(attr(&begun, "identity").as_deref(), Some("host@meet.test"));
    let session = attr(&begun, "session-id").expect("a session");
    assert_eq!(property(&begun, "authentication").as_deref(), Some("true"));
    assert_eq!(property(&begun, "externalAuth").as_deref(), Some("false"));
    let let_in = conference(&mut world, GUEST, "machine-uid='m1'");
    assert_eq!(attr(&let_in, "ready").as_deref(), Some("true"));
    assert_eq!((attr(&let_in, "identity"), attr(&let_in, "session-id")), (None, None), "a guest learns nothing");
    // The guest is there first, and owns nothing all the same.
    enter(&mut world, "guest", GUEST);
    assert_eq!(owners(&world), [""; 0]);
    enter(&mut world, "host", HOST);
    assert_eq!(owners(&world), ["host@meet.test"]);
    enter(&mut world, "host", HOST);
    assert_eq!(owners(&world).len(), 1, "once");
    // The same account in the same browser has the same session.
    let again = conference(&mut world, "host@meet.test/other", "machine-uid='m2'");
    assert_eq!(attr(&again, "session-id"), Some(session));
}

/// What `authenticateAndUpgradeRole` does: a second connection logs in, the first one shows the session.
#[test]
fn a_guest_in_a_call_becomes_host_by_a_login() {
    let mut world = World::with(login(LoginType::Xmpp));
    conference(&mut world, HOST, "machine-uid='m2'");
    conference(&mut world, GUEST, "machine-uid='m1'");
    enter(&mut world, "guest", GUEST);
    let second = conference(&mut world, "boss@meet.test/popup", "machine-uid='m1'");
    let session = attr(&second, "session-id").expect("a session");
    assert_eq!(owners(&world), [""; 0]);
    let upgraded = conference(&mut world, GUEST, &format!("machine-uid='m1' session-id='{session}'"));
    assert_eq!(attr(&upgraded, "identity").as_deref(), Some("boss@meet.test"));
    assert_eq!(owners(&world), ["g1@guest.meet.test"]);
}

#[test]
fn a_session_is_of_one_browser() {
    let mut world = World::with(login(LoginType::Xmpp));
    let session = attr(&conference(&mut world, HOST, "machine-uid='m2'"), "session-id").unwrap();
    enter(&mut world, "guest", GUEST);
    for (what, attributes, invalid) in [
        ("another's browser", format!("machine-uid='m1' session-id='{session}'"), false),
        ("no browser", format!("session-id='{session}'"), false),
        ("a made-up session", "machine-uid='m2' session-id='00000000-0000'".to_owned(), true),
        ("too long a browser", format!("machine-uid='{}' session-id='{session}'", "m".repeat(500)), false),
    ] {
        let before = stat(&world, "refused", "login");
        let answer = conference(&mut world, GUEST, &attributes);
        assert_eq!(condition(&answer).as_deref(), Some("not-acceptable"), "{what}");
        assert_eq!(says_session_invalid(&answer), invalid, "{what}");
        assert_eq!(stat(&world, "refused", "login"), before + 1, "{what}");
    }
    assert_eq!(owners(&world), [""; 0]);
    // Without a browser's id nobody logs in.
    let answer = conference(&mut world, "second@meet.test/web", "");
    assert_eq!(condition(&answer).as_deref(), Some("not-acceptable"));
}

#[test]
fn only_the_domain_of_accounts_counts() {
    let mut world = World::with(login(LoginType::Xmpp));
    for from in [
        "meet.test@evil.test/meet.test",
        "host@guest.meet.test/web",
        "host@meet.test.evil/web",
        "meet.test",
        "guest.meet.test/host@meet.test",
        // No component of clients is configured: nobody asks for others.
        "focus.meet.test/host@meet.test/web",
    ] {
        let answer = conference(&mut world, from, "machine-uid='m1'");
        assert_eq!(condition(&answer).as_deref(), Some("not-authorized"), "{from}");
    }
    assert_eq!(stat(&world, "login", "sessions"), 0);
}

#[test]
fn who_is_behind_the_component_of_clients_counts() {
    let proxy = Some("focus.meet.test".parse().unwrap());
    let mut world = World::with(FocusSettings { client_proxy: proxy, ..login(LoginType::Xmpp) });
    let behind = |who: &str| format!("focus.meet.test/{who}");
    let guest = conference(&mut world, &behind(GUEST), "machine-uid='m1'");
    assert_eq!(condition(&guest).as_deref(), Some("not-authorized"));
    let host = conference(&mut world, &behind(HOST), "machine-uid='m2'");
    assert_eq!(attr(&host, "identity").as_deref(), Some("host@meet.test"));
    assert_eq!(host.attr("to"), Some(behind(HOST).as_str()), "the answer goes the same way");
    enter(&mut world, "host", HOST);
    assert_eq!(owners(&world), ["host@meet.test"]);
}

#[test]
fn logins_end() {
    let mut world = World::with(login(LoginType::Xmpp));
    let session = attr(&conference(&mut world, HOST, "machine-uid='m2'"), "session-id").unwrap();
    let logout = |world: &mut World, id: &str| {
        let xml = format!("<logout xmlns='{FOCUS_NS}' session-id='{id}'/>");
        world.ask(HOST, "set", &xml).unwrap()
    };
    assert!(says_session_invalid(&logout(&mut world, "made-up")));
    assert_eq!(condition(&logout(&mut world, &session)), None);
    assert!(says_session_invalid(&logout(&mut world, &session)), "once");
    let answer = conference(&mut world, GUEST, &format!("machine-uid='m2' session-id='{session}'"));
    assert!(says_session_invalid(&answer));

    // Unused, after a day.
    let session = attr(&conference(&mut world, HOST, "machine-uid='m2'"), "session-id").unwrap();
    let used = |world: &mut World| conference(world, HOST, &format!("machine-uid='m2' session-id='{session}'"));
    world.pass(23 * 3_600);
    assert_eq!(condition(&used(&mut world)), None);
    world.pass(23 * 3_600);
    assert_eq!(condition(&used(&mut world)), None, "it was used meanwhile");
    world.pass(25 * 3_600);
    assert!(says_session_invalid(&used(&mut world)));
    assert_eq!(stat(&world, "login", "sessions"), 0);
}

#[test]
fn logins_that_do_not_outlast_their_conference() {
    let mut settings = login(LoginType::Xmpp);
    settings.login.as_mut().unwrap().auto_login = false;
    let mut world = World::with(settings);
    conference(&mut world, HOST, "machine-uid='m2'");
    assert_eq!(stat(&world, "login", "sessions"), 1);
    world.pass(16);
    assert!(!world.rooms.contains_key(ROOM), "nobody came");
    assert_eq!(stat(&world, "login", "sessions"), 0);
}

#[test]
fn with_tokens_the_login_is_elsewhere_and_short() {
    let mut world = World::with(login(LoginType::Jwt));
    let begun = conference(&mut world, HOST, "machine-uid='m2' token='x.y.z'");
    assert_eq!(property(&begun, "externalAuth").as_deref(), Some("true"));
    let session = attr(&begun, "session-id").unwrap();
    enter(&mut world, "host", HOST);
    assert_eq!(owners(&world), ["host@meet.test"]);
    let url = format!("<login-url xmlns='{FOCUS_NS}' room='{ROOM}' machine-uid='m2'/>");
    let answer = world.ask(GUEST, "get", &url).unwrap();
    assert_eq!(answer.get_child("login-url", FOCUS_NS).unwrap().attr("url"), None, "the client knows where");
    world.pass(75);
    let late = conference(&mut world, OTHER, &format!("machine-uid='m2' session-id='{session}'"));
    assert!(says_session_invalid(&late), "a minute");
}

#[test]
fn where_to_log_in() {
    let mut world = World::with(login(LoginType::Xmpp));
    let ask = |world: &mut World, kind: &str, attributes: &str| {
        world.ask(GUEST, kind, &format!("<login-url xmlns='{FOCUS_NS}' {attributes}/>")).unwrap()
    };
    let answer = ask(&mut world, "get", &format!("room='{ROOM}' machine-uid='m1'"));
    assert_eq!(answer.get_child("login-url", FOCUS_NS).unwrap().attr("url"), Some(".%2Froom%3Flogin%3Dtrue"));
    for (kind, attributes, expected) in [
        ("get", "machine-uid='m1'".to_owned(), "not-acceptable"),
        ("get", "room='conference.meet.test' machine-uid='m1'".to_owned(), "not-acceptable"),
        ("get", format!("room='{ROOM}'"), "bad-request"),
        ("set", format!("room='{ROOM}' machine-uid='m1'"), "bad-request"),
    ] {
        assert_eq!(condition(&ask(&mut world, kind, &attributes)).as_deref(), Some(expected), "{kind} {attributes}");
    }
    // Where nobody logs in, nobody asks.
    let mut without = World::with(settings());
    let answer = ask(&mut without, "get", &format!("room='{ROOM}' machine-uid='m1'"));
    assert_eq!(condition(&answer).as_deref(), Some("service-unavailable"));
    assert_eq!(property(&conference(&mut without, GUEST, ""), "authentication").as_deref(), Some("false"));
}

#[test]
fn without_auto_owner_the_server_names_the_owners() {
    let mut world = World::with(FocusSettings { auto_owner: false, ..settings() });
    conference(&mut world, GUEST, "");
    enter(&mut world, "guest", GUEST);
    enter(&mut world, "other", OTHER);
    assert_eq!(owners(&world), [""; 0]);
}
