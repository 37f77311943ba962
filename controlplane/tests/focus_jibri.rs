//! Recording, live streams and SIP calls: scripted Jibris, a clock of the test's own.

mod focus_world;

use std::time::Duration;

use focus_world::{FOCUS, Instance, ROOM, World, condition, settings};
use ringbridge_controlplane::focus::{FocusSettings, RecordingSettings};
use tokio_xmpp::minidom::Element;

const RECORDERS: &str = "jibribrewery@internal.auth.meet.test";
const SIP: &str = "sipbrewery@internal.auth.meet.test";
const JIBRI: &str = "http://jitsi.org/protocol/jibri";
const FILE: &str =
    "<jibri xmlns='http://jitsi.org/protocol/jibri' action='start' recording_mode='file' app_data='{}'/>";
const STREAM: &str =
    "<jibri xmlns='http://jitsi.org/protocol/jibri' action='start' recording_mode='stream' streamid='k&apos;y'/>";
const STOP: &str = "<jibri xmlns='http://jitsi.org/protocol/jibri' action='stop' recording_mode='file'/>";
const CALL: &str =
    "<jibri xmlns='http://jitsi.org/protocol/jibri' action='start' sipaddress='sip:a@b' displayname='A'/>";

fn recording() -> FocusSettings {
    let (brewery, sip_brewery) = (Some(RECORDERS.parse().unwrap()), Some(SIP.parse().unwrap()));
    let recording = RecordingSettings { brewery, sip_brewery, retries: 2, ..RecordingSettings::default() };
    FocusSettings { recording, trusted_domains: vec!["hidden.meet.test".parse().unwrap()], ..settings() }
}

fn status(busy: &str) -> String {
    format!(
        "<jibri-status xmlns='{JIBRI}'><busy-status xmlns='{JIBRI}' status='{busy}'/>\
         <health-status xmlns='http://jitsi.org/protocol/health' status='healthy'/></jibri-status>"
    )
}

/// A room with a moderator and a guest.
fn world() -> World {
    let mut world = World::with(recording());
    world.add_bridge("jvb1", &[]);
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    world
}

fn jibri(n: u32) -> String {
    format!("{RECORDERS}/jibri{n}")
}

fn pending() -> (&'static str, String) {
    ("result", format!("<jibri xmlns='{JIBRI}' status='pending'/>"))
}

fn add<'a>(world: &'a mut World, jid: &str, answers: Vec<(&'static str, String)>) -> &'a mut Instance {
    let instance = world.instance(jid, "jibri@auth.meet.test/x", &status("idle"));
    instance.answers = answers;
    instance
}

fn ask(world: &mut World, nick: &str, xml: &str) -> Option<Element> {
    world.ask(&format!("{ROOM}/{nick}"), "set", xml)
}

/// A Jibri reports on its task; returns the answer.
fn report(world: &mut World, jid: &str, attributes: &str) -> Element {
    world.ask(jid, "set", &format!("<jibri xmlns='{JIBRI}' {attributes}/>")).expect("an answer")
}

fn session(answer: &Element) -> String {
    let jibri = answer.get_child("jibri", JIBRI).unwrap_or_else(|| panic!("{}", String::from(answer)));
    jibri.attr("session_id").expect("a session").to_owned()
}

/// Status and failure that the room is shown.
fn shown(world: &World) -> Option<(String, Option<String>)> {
    let all = world.said(ROOM, "jibri-recording-status");
    assert!(all.len() <= 1, "one recording: {all:?}");
    let attr = |name: &str| all.first()?.attr(name).map(str::to_owned);
    Some((attr("status")?, attr("failure_reason")))
}

fn off(failure: Option<&str>) -> Option<(String, Option<String>)> {
    Some(("off".to_owned(), failure.map(str::to_owned)))
}

fn on() -> Option<(String, Option<String>)> {
    Some(("on".to_owned(), None))
}

fn refused(world: &World, reason: &str) -> u64 {
    world.focus.stats(world.now)["refused"][reason].as_u64().unwrap()
}

#[test]
fn a_recording_from_beginning_to_end() {
    let mut world = world();
    add(&mut world, &jibri(1), vec![pending()]);
    let id = session(&ask(&mut world, "alice", FILE).expect("an answer"));
    let start = &world.instances[&jibri(1)].asked[0].1;
    for (name, value) in
        [("action", "start"), ("room", ROOM), ("session_id", &id), ("recording_mode", "file"), ("app_data", "{}")]
    {
        assert_eq!(start.attr(name), Some(value), "{name}");
    }
    assert_eq!(shown(&world), None, "nothing is recorded yet");
    world.instance(&jibri(1), "jibri@auth.meet.test/x", &status("busy"));

    assert_eq!(condition(&report(&mut world, &jibri(1), "status='on'")), None);
    assert_eq!(shown(&world), on());
    let said = world.said(ROOM, "jibri-recording-status").remove(0);
    for (name, value) in
        [("session_id", id.as_str()), ("recording_mode", "file"), ("initiator", &format!("{ROOM}/alice"))]
    {
        assert_eq!(said.attr(name), Some(value), "{name}");
    }
    let again = ask(&mut world, "alice", STREAM).unwrap();
    assert_eq!(condition(&again).as_deref(), Some("unexpected-request"));
    // Other presence of the room does not hide it.
    world.kill_bridge("jvb1");
    world.pass(10);
    assert!(world.says_no_bridge(ROOM));
    assert_eq!(shown(&world), on());

    assert_eq!(condition(&ask(&mut world, "alice", STOP).unwrap()), None);
    assert_eq!(world.instances[&jibri(1)].actions(), ["start", "stop"]);
    assert_eq!(world.instances[&jibri(1)].asked[1].1.attr("session_id"), Some(id.as_str()));
    assert_eq!(shown(&world), off(None));
    let said = world.said(ROOM, "jibri-recording-status").remove(0);
    assert_eq!(said.attr("initiator"), Some(format!("{ROOM}/alice").as_str()), "who ended it");
    assert_eq!(condition(&ask(&mut world, "alice", STOP).unwrap()).as_deref(), Some("item-not-found"));
    // Its last word comes late.
    let late = report(&mut world, &jibri(1), "status='off'");
    assert_eq!(condition(&late).as_deref(), Some("item-not-found"));
    assert_eq!(shown(&world), off(None));
}

#[test]
fn a_jibri_that_ends_by_itself_ends_the_recording() {
    let mut world = world();
    add(&mut world, &jibri(1), vec![pending()]);
    ask(&mut world, "alice", STREAM).unwrap();
    let start = world.instances[&jibri(1)].asked[0].1.clone();
    assert_eq!((start.attr("streamid"), start.attr("recording_mode")), (Some("k'y"), Some("stream")));
    report(&mut world, &jibri(1), "status='on'");
    assert_eq!(world.said(ROOM, "jibri-recording-status")[0].attr("recording_mode"), Some("stream"));
    report(&mut world, &jibri(1), "status='off'");
    assert_eq!(shown(&world), off(None));
    // The next one is possible at once.
    world.instance(&jibri(1), "jibri@auth.meet.test/x", &status("idle"));
    world.pass(1);
    session(&ask(&mut world, "alice", FILE).unwrap());
}

#[test]
fn busy_failing_and_silent_jibris_are_passed_over() {
    let busy = format!("<jibri xmlns='{JIBRI}' status='off' failure_reason='busy' should_retry='true'/>");
    let error = "<error type='cancel'><internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    for (what, answers) in [
        ("busy", vec![("result", busy)]),
        ("error", vec![("error", error.to_owned())]),
        ("nonsense", vec![("result", "<jibri xmlns='http://jitsi.org/protocol/jibri'/>".to_owned())]),
        ("nothing", vec![("result", String::new())]),
        ("silence", Vec::new()),
    ] {
        let mut world = world();
        add(&mut world, &jibri(1), answers);
        add(&mut world, &jibri(2), vec![pending()]);
        let answer = ask(&mut world, "alice", FILE);
        let answer = answer.or_else(|| {
            world.pass(16);
            world.replies.values().find(|reply| reply.get_child("jibri", JIBRI).is_some()).cloned()
        });
        let id = session(&answer.unwrap_or_else(|| panic!("{what}: no answer")));
        assert_eq!(world.instances[&jibri(2)].asked[0].1.attr("session_id"), Some(id.as_str()), "{what}");
        let told = if what == "silence" { vec!["start", "stop"] } else { vec!["start"] };
        assert_eq!(world.instances[&jibri(1)].actions(), told, "{what}");
        report(&mut world, &jibri(2), "status='on'");
        assert_eq!(shown(&world), on(), "{what}");
        // The first may speak up late: nobody listens.
        report(&mut world, &jibri(1), "status='off' failure_reason='error'");
        assert_eq!(shown(&world), on(), "{what}");
    }
}

#[test]
fn why_a_recording_cannot_begin() {
    let mut world = world();
    let why = |world: &mut World, xml: &str| condition(&ask(world, "alice", xml).expect("an answer"));
    assert_eq!(why(&mut world, FILE).as_deref(), Some("service-unavailable"), "no Jibri at all");
    world.instance(&jibri(1), "jibri@auth.meet.test/x", &status("busy"));
    assert_eq!(why(&mut world, FILE).as_deref(), Some("resource-constraint"), "all are busy");
    for wrong in [
        "<jibri xmlns='http://jitsi.org/protocol/jibri' action='start' recording_mode='stream'/>",
        "<jibri xmlns='http://jitsi.org/protocol/jibri' action='start' recording_mode='file' streamid='k'/>",
        "<jibri xmlns='http://jitsi.org/protocol/jibri' action='dance'/>",
        "<jibri xmlns='http://jitsi.org/protocol/jibri' status='on'/>",
    ] {
        assert_eq!(why(&mut world, wrong).as_deref(), Some("bad-request"), "{wrong}");
    }
    // All fail, as often as is tried.
    let error = format!("<jibri xmlns='{JIBRI}' status='off' failure_reason='error' should_retry='true'/>");
    for n in 1..=4 {
        add(&mut world, &jibri(n), vec![("result", error.clone())]);
    }
    assert_eq!(why(&mut world, FILE).as_deref(), Some("internal-server-error"));
    let asked: usize = world.instances.values().map(|instance| instance.asked.len()).sum();
    assert_eq!(asked, 3, "one and two retries");
    // Those that failed are not asked again for a minute; then they are.
    assert_eq!(why(&mut world, FILE).as_deref(), Some("resource-constraint"));
    world.pass(61);
    assert_eq!(why(&mut world, FILE).as_deref(), Some("internal-server-error"));
    assert_eq!(refused(&world, "recording"), 9);
    assert_eq!(shown(&world), None);

    let mut without = World::with(settings());
    without.join(ROOM, "alice", |_| {});
    for xml in [FILE, CALL] {
        let answer = without.ask(&format!("{ROOM}/alice"), "set", xml).unwrap();
        assert_eq!(condition(&answer).as_deref(), Some("service-unavailable"), "no brewery");
    }
}

#[test]
fn a_lost_jibri_is_replaced_and_the_last_one_ends_the_recording() {
    let mut world = world();
    add(&mut world, &jibri(1), vec![pending()]);
    let id = session(&ask(&mut world, "alice", FILE).unwrap());
    report(&mut world, &jibri(1), "status='on'");
    add(&mut world, &jibri(2), vec![pending()]);
    world.lose_instance(&jibri(1));
    assert_eq!(world.instances[&jibri(2)].asked[0].1.attr("session_id"), Some(id.as_str()), "the same session");
    report(&mut world, &jibri(2), "status='on'");
    assert_eq!(shown(&world), on());
    world.lose_instance(&jibri(2));
    assert_eq!(shown(&world), off(Some("error")));
    assert_eq!(world.focus.stats(world.now)["jibri"]["recording_active"], 0);
}

#[test]
fn a_failure_is_retried_only_where_the_jibri_says_so() {
    let mut world = world();
    add(&mut world, &jibri(1), vec![pending()]);
    add(&mut world, &jibri(2), vec![pending()]);
    ask(&mut world, "alice", FILE).unwrap();
    report(&mut world, &jibri(1), "status='on'");
    report(&mut world, &jibri(1), "status='off' failure_reason='error' should_retry='false'");
    assert!(world.instances[&jibri(2)].asked.is_empty());
    assert_eq!(shown(&world), off(Some("error")));
}

#[test]
fn a_jibri_that_never_begins_is_stopped_and_replaced() {
    let mut world = world();
    add(&mut world, &jibri(1), vec![pending()]);
    add(&mut world, &jibri(2), vec![pending()]);
    ask(&mut world, "alice", FILE).unwrap();
    world.pass(89);
    assert_eq!(world.instances[&jibri(1)].actions(), ["start"]);
    world.pass(2);
    assert_eq!(world.instances[&jibri(1)].actions(), ["start", "stop"]);
    assert_eq!(world.instances[&jibri(2)].actions(), ["start"]);
    // The first has had its minute; and then no try is left.
    world.pass(91);
    assert_eq!(world.instances[&jibri(2)].actions(), ["start", "stop"]);
    assert_eq!(world.instances[&jibri(1)].actions(), ["start", "stop", "start"]);
    assert_eq!(shown(&world), None);
    world.pass(91);
    assert_eq!(shown(&world), off(Some("error")));
    assert_eq!(world.focus.stats(world.now)["jibri"]["total_retried"], 2);
}

#[test]
fn a_jibri_that_is_idle_without_a_word_is_given_up() {
    let mut world = world();
    add(&mut world, &jibri(1), vec![pending()]);
    ask(&mut world, "alice", FILE).unwrap();
    world.instance(&jibri(1), "jibri@auth.meet.test/x", &status("busy"));
    report(&mut world, &jibri(1), "status='on'");
    world.instance(&jibri(1), "jibri@auth.meet.test/x", &status("idle"));
    world.wait(Duration::from_secs(4));
    assert_eq!(shown(&world), on(), "its word may be on its way");
    world.wait(Duration::from_secs(2));
    assert_ne!(shown(&world), on());
}

#[test]
fn a_recording_stopped_before_it_began() {
    let mut world = world();
    add(&mut world, &jibri(1), Vec::new());
    assert_eq!(ask(&mut world, "alice", FILE), None, "the Jibri is silent");
    assert_eq!(condition(&ask(&mut world, "alice", STOP).unwrap()), None);
    assert_eq!(world.instances[&jibri(1)].actions(), ["start", "stop"]);
    let conditions: Vec<_> = world.replies.values().filter_map(condition).collect();
    assert_eq!(conditions, ["unexpected-request"], "whoever began it knows");
    assert_eq!(shown(&world), None, "nobody else knew of it");
    // Its late answer changes nothing.
    let (id, _) = world.instances[&jibri(1)].asked[0].clone();
    world.feed(&format!(
        "<iq xmlns='jabber:client' type='result' id='{id}' from='{}' to='{FOCUS}'><jibri xmlns='{JIBRI}' status='pending'/></iq>",
        jibri(1)
    ));
    assert_eq!(world.focus.stats(world.now)["jibri"]["recording_pending"], 0);
}

#[test]
fn sip_calls_are_apart_from_recordings_and_from_each_other() {
    let mut world = world();
    add(&mut world, &jibri(1), vec![pending()]);
    ask(&mut world, "alice", FILE).unwrap();
    report(&mut world, &jibri(1), "status='on'");
    let unavailable = condition(&ask(&mut world, "alice", CALL).unwrap());
    assert_eq!(unavailable.as_deref(), Some("service-unavailable"), "recorders make no calls");
    let sip = |n: u32| format!("{SIP}/sip{n}");
    add(&mut world, &sip(1), vec![pending()]);
    add(&mut world, &sip(2), vec![pending()]);
    session(&ask(&mut world, "alice", CALL).unwrap());
    assert_eq!(world.instances[&sip(1)].asked[0].1.attr("sipaddress"), Some("sip:a@b"));
    assert_eq!(world.instances[&sip(1)].asked[0].1.attr("displayname"), Some("A"));
    session(&ask(&mut world, "alice", &CALL.replace("a@b", "c@d")).unwrap());
    report(&mut world, &sip(1), "status='on' sipaddress='sip:a@b'");
    report(&mut world, &sip(2), "status='on' sipaddress='sip:c@d'");
    let states = |world: &World| -> Vec<(String, String)> {
        let all = world.said(ROOM, "jibri-sip-call-state");
        let attr = |e: &Element, name| e.attr(name).unwrap().to_owned();
        all.iter().map(|e| (attr(e, "sipaddress"), attr(e, "state"))).collect()
    };
    let expected =
        |one: &str, two: &str| vec![("sip:a@b".to_owned(), one.to_owned()), ("sip:c@d".to_owned(), two.to_owned())];
    assert_eq!(states(&world), expected("on", "on"));
    assert_eq!(shown(&world), on());
    ask(&mut world, "alice", "<jibri xmlns='http://jitsi.org/protocol/jibri' action='stop' sipaddress='sip:a@b'/>");
    assert_eq!(states(&world), expected("off", "on"));
    assert_eq!(world.instances[&sip(2)].actions(), ["start"]);
    assert_eq!(shown(&world), on());
}

#[test]
fn the_last_one_to_leave_ends_what_is_recorded() {
    let mut world = world();
    add(&mut world, &jibri(1), vec![pending()]);
    ask(&mut world, "alice", FILE).unwrap();
    report(&mut world, &jibri(1), "status='on'");
    world.leave(ROOM, "alice");
    world.leave(ROOM, "bob");
    assert_eq!(world.instances[&jibri(1)].actions(), ["start", "stop"]);
    assert_eq!(world.focus.stats(world.now)["jibri"]["recording_active"], 0);
    // A new conference in the room begins without it.
    world.join(ROOM, "carol", |_| {});
    assert_eq!(shown(&world), None);
}

#[test]
fn a_stranger_can_do_none_of_it() {
    let mut world = world();
    add(&mut world, &jibri(1), vec![pending()]);
    for (from, expected) in [
        (format!("{ROOM}/bob"), "not-allowed"),
        (format!("{ROOM}/nobody"), "forbidden"),
        ("3f2a@meet.test/web".to_owned(), "item-not-found"),
        ("alice@conference.meet.test/x".to_owned(), "item-not-found"),
        ("other@conference.meet.test/alice".to_owned(), "item-not-found"),
        (format!("{RECORDERS}/jibri2"), "item-not-found"),
        (jibri(1), "item-not-found"),
    ] {
        let before = refused(&world, "recording");
        for xml in [FILE, STREAM, CALL, STOP] {
            let answer = world.ask(&from, "set", xml).unwrap();
            assert_eq!(condition(&answer).as_deref(), Some(expected), "{from}: {xml}");
        }
        assert_eq!(refused(&world, "recording"), before + 4, "{from}");
    }
    let get = world.ask(&format!("{ROOM}/alice"), "get", FILE).unwrap();
    assert_eq!(condition(&get).as_deref(), Some("bad-request"));
    assert!(world.instances[&jibri(1)].asked.is_empty());

    // While one is recorded: nobody but its Jibri reports, nobody but a moderator stops.
    ask(&mut world, "alice", FILE).unwrap();
    report(&mut world, &jibri(1), "status='on'");
    for (from, xml) in [
        (format!("{ROOM}/bob"), STOP),
        (format!("{RECORDERS}/jibri2"), "<jibri xmlns='http://jitsi.org/protocol/jibri' status='off'/>"),
        (format!("{ROOM}/bob"), "<jibri xmlns='http://jitsi.org/protocol/jibri' status='off'/>"),
        (format!("{RECORDERS}/focus"), "<jibri xmlns='http://jitsi.org/protocol/jibri' status='off'/>"),
    ] {
        assert!(condition(&world.ask(&from, "set", xml).unwrap()).is_some(), "{from} {xml}");
        assert_eq!(shown(&world), on(), "{from} {xml}");
    }
    let nonsense = report(&mut world, &jibri(1), "status='maybe'");
    assert_eq!(condition(&nonsense).as_deref(), Some("bad-request"));
    assert_eq!(shown(&world), on());
}

#[test]
fn a_stranger_in_the_brewery_is_given_nothing() {
    let mut world = world();
    world.instance(&format!("{RECORDERS}/false"), "guest@meet.test/x", &status("idle"));
    world.instance(&format!("{RECORDERS}/veiled"), "", "");
    let answer = ask(&mut world, "alice", FILE).unwrap();
    assert_eq!(condition(&answer).as_deref(), Some("service-unavailable"));
    assert_eq!(refused(&world, "false_instance"), 1);
    // Nor is it asked what others sent a task for.
    assert!(world.instances.values().all(|instance| instance.asked.is_empty()));
}

#[test]
fn an_answer_in_a_jibris_name_does_not_begin_a_recording() {
    let mut world = world();
    add(&mut world, &jibri(1), Vec::new());
    assert_eq!(ask(&mut world, "alice", FILE), None);
    let (id, _) = world.instances[&jibri(1)].asked[0].clone();
    for from in [format!("{ROOM}/bob"), format!("{RECORDERS}/jibri2"), "x@meet.test/y".to_owned()] {
        world.feed(&format!(
            "<iq xmlns='jabber:client' type='result' id='{id}' from='{from}' to='{FOCUS}'>\
             <jibri xmlns='{JIBRI}' status='pending'/></iq>"
        ));
    }
    assert_eq!(world.focus.stats(world.now)["jibri"]["recording_pending"], 1);
    assert_eq!(world.focus.stats(world.now)["jibri"]["total_started"], 0);
    assert_eq!(refused(&world, "foreign_answer"), 3);
}

/// The focus starts again while something is recorded.
#[test]
fn a_recording_survives_the_focus() {
    let mut world = world();
    add(&mut world, &jibri(1), vec![pending()]);
    let id = session(&ask(&mut world, "alice", FILE).unwrap());
    report(&mut world, &jibri(1), "status='on'");
    let recorder =
        format!("<features><feature var='{JIBRI}'/></features><session_id>{id}</session_id><mode>FILE</mode>");
    world.extras.insert((ROOM.to_owned(), "recorder".to_owned()), recorder.clone());
    world.join(ROOM, "recorder", |client| client.real = "recorder@hidden.meet.test/x".to_owned());
    assert_eq!(shown(&world), on());
    assert_eq!(world.focus.stats(world.now)["jibri"]["total_found"], 0, "it is known");

    let mut after = World::with(recording());
    (after.clients, after.extras) = (std::mem::take(&mut world.clients), std::mem::take(&mut world.extras));
    after.add_bridge("jvb1", &[]);
    after.request_conference(ROOM).unwrap();
    assert_eq!(shown(&after), on(), "as soon as the focus is in the room");
    assert_eq!(after.said(ROOM, "jibri-recording-status")[0].attr("session_id"), Some(id.as_str()));
    assert_eq!(after.focus.stats(after.now)["jibri"]["recording_active"], 1);
    let again = after.ask(&format!("{ROOM}/alice"), "set", FILE).unwrap();
    assert_eq!(condition(&again).as_deref(), Some("unexpected-request"));
    // Which Jibri it is, is not known: it is asked to leave the room, which ends what it does.
    assert_eq!(condition(&after.ask(&format!("{ROOM}/alice"), "set", STOP).unwrap()), None);
    let kick = after.admin.last().expect("a request to the room");
    let item = kick.children().next().unwrap();
    assert_eq!((item.attr("nick"), item.attr("role")), (Some("recorder"), Some("none")));
    assert_eq!(shown(&after), off(None));
    // Its presence changes once more before it goes.
    after.feed(&format!(
        "<presence xmlns='jabber:client' from='{ROOM}/recorder' to='{FOCUS}'>{recorder}\
         <x xmlns='http://jabber.org/protocol/muc#user'><item role='participant' affiliation='none' \
         jid='recorder@hidden.meet.test/x'/></x></presence>"
    ));
    assert_eq!(shown(&after), off(None));
    after.leave(ROOM, "recorder");
    assert_eq!(shown(&after), off(None));
}

#[test]
fn a_found_recording_ends_with_its_recorder_and_guests_make_none() {
    let mut world = world();
    let said = |id: &str| {
        format!("<features><feature var='{JIBRI}'/></features><session_id>{id}</session_id><mode>STREAM</mode>")
    };
    world.extras.insert((ROOM.to_owned(), "fake".to_owned()), said("s1"));
    world.join(ROOM, "fake", |_| {});
    assert_eq!(shown(&world), None, "its account is nobody's");
    world.extras.insert((ROOM.to_owned(), "recorder".to_owned()), said("s2"));
    world.join(ROOM, "recorder", |client| client.real = "recorder@hidden.meet.test/x".to_owned());
    assert_eq!(shown(&world), on());
    assert_eq!(world.said(ROOM, "jibri-recording-status")[0].attr("recording_mode"), Some("stream"));
    world.leave(ROOM, "recorder");
    assert_eq!(shown(&world), off(None));
}

#[test]
fn a_connection_that_breaks_for_a_moment_changes_nothing() {
    let mut world = world();
    add(&mut world, &jibri(1), vec![pending()]);
    add(&mut world, &jibri(2), vec![pending()]);
    ask(&mut world, "alice", FILE).unwrap();
    world.pass(80);
    world.focus.handle(world.now, ringbridge_controlplane::focus::Input::Offline);
    world.now += Duration::from_secs(60);
    world.online(true);
    world.pass(80);
    assert_eq!(world.instances[&jibri(1)].actions(), ["start"], "the time that we were away does not count");
    report(&mut world, &jibri(1), "status='on'");
    assert_eq!(shown(&world), on());
}

#[test]
fn state_is_bounded() {
    let mut world = world();
    for n in 0..60 {
        add(&mut world, &format!("{SIP}/sip{n:02}"), vec![pending()]);
    }
    let mut begun = 0;
    for n in 0..60 {
        let answer = ask(&mut world, "alice", &CALL.replace("a@b", &format!("a{n}@b"))).unwrap();
        begun += usize::from(condition(&answer).is_none());
        world.pass(1);
    }
    assert_eq!(begun, 20);
    for n in 0..60 {
        let sip = format!("{SIP}/sip{n:02}");
        if !world.instances[&sip].asked.is_empty() {
            report(&mut world, &sip, "status='on'");
            report(&mut world, &sip, "status='off'");
        }
    }
    for n in 60..120 {
        world.pass(2);
        let answer = ask(&mut world, "alice", &CALL.replace("a@b", &format!("a{n}@b"))).unwrap();
        assert_eq!(condition(&answer), None, "{n}");
        let sip = world
            .instances
            .iter()
            .find(|(_, i)| i.asked.iter().any(|(_, p)| p.attr("sipaddress") == Some(&format!("sip:a{n}@b"))))
            .unwrap()
            .0
            .clone();
        report(&mut world, &sip, "status='on'");
        report(&mut world, &sip, "status='off'");
        world.instance(&sip, "jibri@auth.meet.test/x", &status("idle"));
    }
    assert!(world.said(ROOM, "jibri-sip-call-state").len() <= 40);
}

/// The state of the SIP call that the room is shown.
fn call_shown(world: &World) -> Option<String> {
    let all = world.said(ROOM, "jibri-sip-call-state");
    Some(all.first()?.attr("state").expect("a state").to_owned())
}

/// A call and a recording go on while their focus is killed.
fn under_way() -> (World, String) {
    let mut world = world();
    add(&mut world, &jibri(1), vec![pending()]);
    let sip = format!("{SIP}/sip1");
    add(&mut world, &sip, vec![pending()]);
    for (jid, order) in [(jibri(1), FILE), (sip.clone(), CALL)] {
        assert!(ask(&mut world, "alice", order).is_some());
        report(&mut world, &jid, "status='on'");
        world.instance(&jid, "jibri@auth.meet.test/x", &status("busy"));
    }
    assert_eq!((shown(&world), call_shown(&world).as_deref()), (on(), Some("on")));
    (world, sip)
}

#[test]
fn a_call_and_a_recording_of_the_process_before_go_on_and_can_be_ended() {
    for resumed in [true, false] {
        let (mut world, sip) = under_way();
        let secret = world.focus.keep();
        world.next_process(recording(), resumed);
        if !resumed {
            assert!(world.request_conference(ROOM).is_some());
        }
        assert_eq!((shown(&world), call_shown(&world).as_deref()), (on(), Some("on")), "{resumed}");
        world.pass(60);
        assert_eq!((shown(&world), call_shown(&world).as_deref()), (on(), Some("on")), "{resumed}");
        let before = world.instances[&sip].asked.len();
        let stop = "<jibri xmlns='http://jitsi.org/protocol/jibri' action='stop' sipaddress='sip:a@b'/>";
        assert_eq!(condition(&ask(&mut world, "alice", stop).unwrap()), None);
        assert_eq!(world.instances[&sip].actions()[before..], ["stop"], "its Jibri is asked to");
        assert_eq!(condition(&ask(&mut world, "alice", STOP).unwrap()), None);
        assert_eq!(world.instances[&jibri(1)].actions().last(), Some(&"stop"));
        assert_eq!((shown(&world), call_shown(&world).as_deref()), (off(None), Some("off")));
        assert!(!secret.contains("k'y"));
    }
}

#[test]
fn what_a_stream_is_given_is_not_kept() {
    let mut world = world();
    add(&mut world, &jibri(1), vec![pending()]);
    assert!(ask(&mut world, "alice", STREAM).is_some());
    report(&mut world, &jibri(1), "status='on'");
    let kept = world.focus.keep();
    assert!(kept.contains("Stream") && !kept.contains("k'y"), "{kept}");
    world.instance(&jibri(1), "jibri@auth.meet.test/x", &status("busy"));
    world.next_process(recording(), true);
    assert_eq!(shown(&world), on());
    assert_eq!(world.said(ROOM, "jibri-recording-status")[0].attr("recording_mode"), Some("stream"));
}

#[test]
fn a_jibri_that_ended_or_vanished_meanwhile_ends_its_task_and_no_other_one_begins_it_again() {
    for vanished in [true, false] {
        let (mut world, sip) = under_way();
        add(&mut world, &format!("{SIP}/sip2"), vec![pending()]);
        match vanished {
            true => drop(world.instances.remove(&sip)),
            false => world.instances.get_mut(&sip).unwrap().status = status("idle"),
        }
        world.next_process(recording(), true);
        assert_eq!(call_shown(&world).as_deref(), Some("on"));
        world.pass(16);
        assert_eq!(call_shown(&world).as_deref(), Some("off"), "{vanished}");
        assert!(world.instances[&format!("{SIP}/sip2")].asked.is_empty());
        assert_eq!(shown(&world), on(), "the recording goes on");
    }
}
