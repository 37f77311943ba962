//! Scenarios of our own making: what clients ask, with the answers that Jicofo gives (docs/protocol/focus.md 2, 3.5, 5, 7.6 and 8).

use std::collections::BTreeMap;

use ringbridge_controlplane::jingle::{BridgeSession, Jingle};
use tokio_xmpp::minidom::Element;

use super::differences::Differences;
use super::focus_world::*;
use super::report::Report;

/// What is done, what Jicofo answers, what ours answered.
type Step = (String, String, String);

pub struct Scenario {
    pub name: &'static str,
    play: fn(&mut Vec<Step>),
}

pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { name: "composed-requests", play: requests },
        Scenario { name: "composed-mute", play: mute },
        Scenario { name: "composed-jingle", play: jingle_errors },
        Scenario { name: "composed-sources", play: sources },
        Scenario { name: "composed-restarts", play: restarts },
        Scenario { name: "composed-alone", play: alone },
        Scenario { name: "composed-no-bridge", play: no_bridge },
    ]
}

impl Scenario {
    pub fn run(&self, differences: &mut Differences) -> Report {
        let mut steps = Vec::new();
        (self.play)(&mut steps);
        let lines = |side: fn(&Step) -> &String| -> BTreeMap<String, usize> {
            steps.iter().map(|step| (format!("{}: {}", step.0, side(step)), 1)).collect()
        };
        let mut report = Report::new(self.name);
        report.compare(lines(|step| &step.1), lines(|step| &step.2), differences);
        report
    }
}

fn step(steps: &mut Vec<Step>, what: &str, theirs: &str, ours: impl Into<String>) {
    steps.push((what.to_owned(), theirs.to_owned(), ours.into()));
}

/// `result`, or the condition of the error, or `nothing`.
fn outcome(answer: Option<&Element>) -> String {
    match answer {
        Some(answer) => condition(answer).unwrap_or_else(|| "result".to_owned()),
        None => "nothing".to_owned(),
    }
}

fn jingle_outcome(answer: Option<String>) -> String {
    answer.unwrap_or_else(|| "result".to_owned())
}

/// Section 2 and 8.4.
fn requests(steps: &mut Vec<Step>) {
    let mut world = World::call(&["alice", "bob"]);
    let from = "stranger@meet.test/web";
    let conference = |attributes: &str| {
        format!("<conference xmlns='http://jitsi.org/protocol/focus' machine-uid='1' {attributes}/>")
    };
    let occupant = format!("{ROOM}/bob");
    for (what, from, kind, payload, theirs) in [
        ("a conference without a room", from, "set", conference(""), "bad-request"),
        ("a conference that runs", from, "set", conference(&format!("room='{ROOM}'")), "result"),
        ("a new conference", from, "set", conference("room='other@conference.meet.test'"), "result"),
        ("a ping", from, "get", "<ping xmlns='urn:xmpp:ping'/>".to_owned(), "result"),
        ("features", from, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>".to_owned(), "result"),
        ("the version", from, "get", "<query xmlns='jabber:iq:version'/>".to_owned(), "result"),
        ("something unknown", from, "get", "<query xmlns='some:thing'/>".to_owned(), "service-unavailable"),
        (
            "something unknown of a member",
            &occupant,
            "set",
            "<x xmlns='some:thing'/>".to_owned(),
            "service-unavailable",
        ),
    ] {
        let answer = world.ask(from, kind, &payload);
        step(steps, what, theirs, outcome(answer.as_ref()));
    }
}

/// Section 8.1.
fn mute(steps: &mut Vec<Step>) {
    let mut world = World::call(&["alice", "bob", "carol"]);
    let (alice, bob) = (format!("{ROOM}/alice"), format!("{ROOM}/bob"));
    let mute = |kind: &str, jid: &str, text: &str| {
        format!("<mute xmlns='http://jitsi.org/jitmeet/{kind}' {jid}>{text}</mute>")
    };
    let target = |nick: &str| format!("jid='{ROOM}/{nick}'");
    for kind in ["audio", "video", "desktop"] {
        for (what, from, jid, text, theirs) in [
            ("the owner mutes another", &alice, target("bob"), "true", "result"),
            ("the owner unmutes another", &alice, target("bob"), "false", "not-allowed"),
            ("the owner mutes itself", &alice, target("alice"), "true", "result"),
            ("a guest mutes the owner", &bob, target("alice"), "true", "not-allowed"),
            ("a guest unmutes another", &bob, target("carol"), "false", "not-allowed"),
            ("a guest mutes itself", &bob, target("bob"), "true", "result"),
            ("a guest unmutes itself", &bob, target("bob"), "false", "result"),
            ("somebody who is not there is muted", &alice, target("dave"), "true", "internal-server-error"),
            ("nobody is muted", &alice, String::new(), "true", "bad-request"),
            ("a mute that says nothing", &alice, target("bob"), "", "bad-request"),
        ] {
            let answer = world.ask(from, "set", &mute(kind, &jid, text));
            step(steps, &format!("{kind}: {what}"), theirs, outcome(answer.as_ref()));
        }
        let elsewhere = "other@conference.meet.test/bob".to_owned();
        let answer = world.ask(&elsewhere, "set", &mute(kind, &target("bob"), "true"));
        step(
            steps,
            &format!("{kind}: somebody of a room that is not ours mutes"),
            "item-not-found",
            outcome(answer.as_ref()),
        );
    }
    let told = |world: &mut World, nick: &str| {
        let mutes = &world.client(ROOM, nick).mutes;
        let one = |mute: &Element| format!("{} {} {}", mute.ns(), mute.attr("actor").unwrap_or_default(), mute.text());
        mutes.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let expected =
        ["audio", "video", "desktop"].map(|kind| format!("http://jitsi.org/jitmeet/{kind} {alice} true")).join(", ");
    let bob_told = told(&mut world, "bob");
    step(steps, "it is signalled to bob", &expected, bob_told);
    for nick in ["alice", "carol"] {
        let nothing = told(&mut world, nick);
        step(steps, &format!("it is signalled to {nick}"), "", nothing);
    }
}

/// Section 5.1.
fn jingle_errors(steps: &mut Vec<Step>) {
    let mut world = World::call(&["alice", "bob"]);
    let sid = world.client(ROOM, "bob").sid.clone();
    let of = |action: &str, sid: &str| Jingle { action: action.to_owned(), sid: sid.to_owned(), ..Jingle::default() };
    for (what, jingle, theirs) in [
        ("a session that does not exist", of("session-info", "none"), "bad-request"),
        ("an action that nobody knows", of("dance", &sid), "bad-request"),
        ("content-modify", of("content-modify", &sid), "feature-not-implemented"),
        ("content-add", of("content-add", &sid), "feature-not-implemented"),
        ("transport-info without a transport", of("transport-info", &sid), "bad-request"),
        ("session-info that says nothing", of("session-info", &sid), "result"),
    ] {
        let answer = world.jingle(ROOM, "bob", jingle);
        step(steps, what, theirs, jingle_outcome(answer));
    }
    let missing = format!("<jingle xmlns='urn:xmpp:jingle:1' sid='{sid}'/>");
    let answer = world.ask(&format!("{ROOM}/bob"), "set", &missing);
    step(steps, "no action at all", "bad-request", outcome(answer.as_ref()));
    let answer = world.jingle(ROOM, "alice", of("session-info", &sid));
    step(steps, "the session of another", "bad-request", jingle_outcome(answer));
}

/// Section 5.7.
fn sources(steps: &mut Vec<Step>) {
    let mut world = World::call(&["alice", "bob"]);
    let sid = world.client(ROOM, "bob").sid.clone();
    let (bobs, alices) = (world.client(ROOM, "bob").ssrc, world.client(ROOM, "alice").ssrc);
    let change = |action: &str, sources| Jingle {
        action: action.to_owned(),
        sid: sid.clone(),
        contents: vec![content("audio", sources)],
        ..Jingle::default()
    };
    let one = |ssrc: u32| vec![source("bob", ssrc, &format!("audio{ssrc}"), true)];
    let many =
        |from: u32, count: u32| (from..from + count).map(|s| source("bob", s, &format!("audio{s}"), true)).collect();
    for (what, jingle, theirs) in [
        ("a new source", change("source-add", one(50_001)), "result"),
        ("the same once more", change("source-add", one(50_001)), "bad-request"),
        ("a source that it has since its answer", change("source-add", one(bobs)), "bad-request"),
        ("a source of somebody else", change("source-add", one(alices)), "bad-request"),
        ("the source zero", change("source-add", one(0)), "bad-request"),
        ("more than twenty", change("source-add", many(60_000, 21)), "bad-request"),
        ("a removal", change("source-remove", one(50_001)), "result"),
        ("the same removal once more", change("source-remove", one(50_001)), "bad-request"),
        ("a removal of somebody else's", change("source-remove", one(alices)), "bad-request"),
    ] {
        let answer = world.jingle(ROOM, "bob", jingle);
        step(steps, what, theirs, jingle_outcome(answer));
    }
}

/// Section 5.9.
fn restarts(steps: &mut Vec<Step>) {
    let mut world = World::call(&["alice", "bob"]);
    let terminate = |world: &mut World, id: Option<String>, restart: bool| {
        let client = world.client(ROOM, "bob");
        let bridge_session = BridgeSession {
            id: Some(id.unwrap_or(client.bridge_session.clone())),
            restart: Some(restart.to_string()),
            ..Default::default()
        };
        let jingle = Jingle {
            action: "session-terminate".to_owned(),
            sid: client.sid.clone(),
            bridge_session: Some(bridge_session),
            ..Jingle::default()
        };
        jingle_outcome(world.jingle(ROOM, "bob", jingle))
    };
    let invited = |world: &mut World| world.client(ROOM, "bob").offers().to_string();
    let ours = terminate(&mut world, Some("another".to_owned()), true);
    step(steps, "a restart of another bridge session", "item-not-found", ours);
    let ours = terminate(&mut world, None, true);
    step(steps, "a restart", "result", ours);
    let ours = invited(&mut world);
    step(steps, "bob is invited so often", "2", ours);
    world.pass(1);
    let ours = terminate(&mut world, None, true);
    step(steps, "a restart a second later", "resource-constraint", ours);
    let ours = invited(&mut world);
    step(steps, "bob is still invited so often", "2", ours);
    let ours = terminate(&mut world, None, false);
    step(steps, "an end after the end", "gone", ours);
}

/// Section 3.5.
fn alone(steps: &mut Vec<Step>) {
    let mut world = World::call(&["alice"]);
    let actions = |world: &mut World, nick: &str| world.client(ROOM, nick).actions().join(" ");
    let ours = actions(&mut world, "alice");
    step(steps, "alice alone hears", "", ours);
    world.join(ROOM, "bob", |_| {});
    world.leave(ROOM, "bob");
    world.pass(19);
    let before = world.client(ROOM, "alice").actions().contains(&"session-terminate").to_string();
    step(steps, "alice is alone again for 19 s: her session has ended", "false", before);
    world.pass(2);
    let last = world.client(ROOM, "alice").jingles.last().cloned().unwrap_or_default();
    step(steps, "for 21 s", "session-terminate", last.action);
    let gone = world.bridge("jvb1").requests.last().map(|request| request.expire).unwrap_or_default().to_string();
    step(steps, "the bridge's conference ends", "true", gone);
    world.join(ROOM, "bob", |_| {});
    let again = world.client(ROOM, "alice").jingles.last().cloned().unwrap_or_default();
    let told = ["session-initiate", "source-add"].contains(&again.action.as_str()).to_string();
    step(steps, "bob comes back: both are invited", "true", told);
}

/// Section 7.6.
fn no_bridge(steps: &mut Vec<Step>) {
    let mut world = World::new();
    world.join(ROOM, "alice", |_| {});
    let ours = world.says_no_bridge(ROOM).to_string();
    step(steps, "one without a bridge: presence says so", "false", ours);
    world.join(ROOM, "bob", |_| {});
    let ours = world.says_no_bridge(ROOM).to_string();
    step(steps, "two without a bridge: presence says so", "true", ours);
    world.add_bridge("jvb1", &[]);
    let ours = world.says_no_bridge(ROOM).to_string();
    step(steps, "a bridge comes: presence still says so", "false", ours);
    for nick in ["alice", "bob"] {
        let ours = world.client(ROOM, nick).actions().first().copied().unwrap_or_default().to_owned();
        step(steps, &format!("{nick} is sent"), "session-initiate", ours);
    }
}
