//! A stranger can do none of it: every kind of request, by one who does not own the room, from outside of it, in another's name,
//! malformed. Each is refused, counted, and changes nothing.

mod focus_world;

use std::time::Duration;

use focus_world::*;
use ringbridge_controlplane::focus::{FocusSettings, LoginSettings, LoginType, RecordingSettings};
use serde_json::Value;

const OTHER: &str = "other@conference.meet.test";
const RECORDERS: &str = "jibribrewery@internal.auth.meet.test";
const SIP: &str = "sipbrewery@internal.auth.meet.test";
const GATEWAYS: &str = "jigasibrewery@internal.auth.meet.test";
const JIBRI: &str = "http://jitsi.org/protocol/jibri";
const RAYO: &str = "urn:xmpp:rayo:1";
const FOCUS_NS: &str = "http://jitsi.org/protocol/focus";
const JINGLE: &str = "urn:xmpp:jingle:1";
const GUEST: &str = "guest@meet.test/web";

fn settings_of_a_site(login: bool) -> FocusSettings {
    let lifetime = Duration::from_secs(24 * 3_600);
    let login_settings =
        LoginSettings { kind: LoginType::Xmpp, domain: "meet.test".parse().unwrap(), lifetime, auto_login: true };
    FocusSettings {
        recording: RecordingSettings {
            brewery: RECORDERS.parse().ok(),
            sip_brewery: SIP.parse().ok(),
            ..RecordingSettings::default()
        },
        jigasi_brewery: GATEWAYS.parse().ok(),
        login: login.then_some(login_settings),
        ..settings()
    }
}

/// Two calls: `alice` owns the one that is attacked and has a recording made, `bob` is in it; `carol` and `dave` are elsewhere.
fn site() -> World {
    let mut world = World::with(settings_of_a_site(false));
    world.components = Some(vec![("av_moderation", "avmoderation.meet.test"), ("room_metadata", "metadata.meet.test")]);
    world.online(false);
    world.add_bridge("jvb1", &[]);
    for (room, nick) in [(ROOM, "alice"), (ROOM, "bob"), (OTHER, "carol"), (OTHER, "dave")] {
        world.join(room, nick, |_| {});
    }
    let idle = format!(
        "<jibri-status xmlns='{JIBRI}'><busy-status xmlns='{JIBRI}' status='idle'/>\
         <health-status xmlns='http://jitsi.org/protocol/health' status='healthy'/></jibri-status>"
    );
    let pending = || vec![("result", format!("<jibri xmlns='{JIBRI}' status='pending'/>"))];
    for jid in [format!("{RECORDERS}/r1"), format!("{RECORDERS}/r2"), format!("{SIP}/s1"), format!("{SIP}/s2")] {
        world.instance(&jid, "jibri@auth.meet.test/x", &idle).answers = pending();
    }
    let sip = "<stats xmlns='http://jitsi.org/protocol/colibri'><stat name='supports_sip' value='true'/></stats>";
    world.instance(&format!("{GATEWAYS}/g1"), "jigasi@auth.meet.test/x", sip);
    for task in ["recording_mode='file'", "sipaddress='sip:a@b'"] {
        let begun =
            world.ask(&format!("{ROOM}/alice"), "set", &format!("<jibri xmlns='{JIBRI}' action='start' {task}/>"));
        assert_eq!(condition(&begun.expect("begun")), None);
    }
    world.pass(30);
    world
}

/// Everything that a request may change, without what counts.
fn everything(world: &World) -> Value {
    let clients: Vec<_> = world
        .clients
        .iter()
        .map(|((room, nick), client)| {
            serde_json::json!([room, nick, client.jingles.len(), client.mutes.len(), client.asked])
        })
        .collect();
    let mut stats = world.focus.stats(world.now);
    stats.as_object_mut().expect("an object").remove("refused");
    stats["jibri"].as_object_mut().expect("an object").retain(|name, _| !name.starts_with("total_"));
    serde_json::json!({
        "focus": world.focus.debug(),
        "stats": stats,
        "clients": clients,
        "bridges": world.bridges.iter().map(|(nick, bridge)| (nick, bridge.requests.len())).collect::<Vec<_>>(),
        "instances": world.instances.iter().map(|(jid, instance)| (jid, instance.asked.len())).collect::<Vec<_>>(),
        "rooms": world.rooms,
        "said": world.presences.len(),
        "owners": world.admin.len(),
    })
}

/// Asks; the condition of the refusal.
fn refused(world: &mut World, from: &str, kind: &str, payload: &str) -> String {
    let (before, counted) = (everything(world), world.refusals());
    let answer = world.ask(from, kind, payload);
    let what = format!("{kind} {payload} from {from}");
    let answer = answer.unwrap_or_else(|| panic!("{what}: no answer"));
    let condition = condition(&answer).unwrap_or_else(|| panic!("{what} was granted: {}", String::from(&answer)));
    assert!(world.refusals() > counted, "{what} was refused with {condition} and not counted");
    assert_eq!(everything(world), before, "{what} was refused with {condition} and changed something");
    condition
}

/// What a request of a room's member looks like: sound, from one who may not; in another's name; malformed in several ways.
struct Kind {
    name: &'static str,
    /// By one in the room who does not own it.
    by_member: Vec<String>,
    /// By one in the room, about or in the name of another.
    as_another: Vec<String>,
    malformed: Vec<String>,
}

fn jingle(action: &str, sid: &str, rest: &str) -> String {
    format!("<jingle xmlns='{JINGLE}' action='{action}' sid='{sid}'>{rest}</jingle>")
}

fn source(ssrc: &str, msid: &str) -> String {
    format!(
        "<content name='video'><description xmlns='urn:xmpp:jingle:apps:rtp:1' media='video'>\
         <source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='{ssrc}'><parameter name='msid' value='{msid}'/></source>\
         </description></content>"
    )
}

/// The kinds, for a room where `alice` owns the session `sid` and `bob` has `own`.
fn kinds(world: &mut World) -> Vec<Kind> {
    let (sid, own) = (world.client(ROOM, "alice").sid.clone(), world.client(ROOM, "bob").sid.clone());
    let bridge = world.client(ROOM, "alice").bridge_session.clone();
    let accept = world.accept_of(ROOM, "alice");
    let description = accept.contents[1].description.as_ref().expect("video");
    let (taken, msid) =
        (world.client(ROOM, "alice").ssrc.to_string(), description.sources[0].parameters[0].value.clone());
    let msid = msid.as_deref().expect("an msid");
    let bridge_session = |id: &str, more: &str| format!("<bridge-session xmlns='{FOCUS_NS}' id='{id}' {more}/>");
    let mute = |medium: &str, jid: &str, text: &str| {
        format!("<mute xmlns='http://jitsi.org/jitmeet/{medium}' jid='{jid}'>{text}</mute>")
    };
    let (alice, bob) = (format!("{ROOM}/alice"), format!("{ROOM}/bob"));
    let jibri = |rest: &str| format!("<jibri xmlns='{JIBRI}' {rest}/>");
    let dial = |to: &str| {
        format!("<dial xmlns='{RAYO}' from='x' to='{to}'><header name='JvbRoomName' value='{ROOM}'/></dial>")
    };
    let all = |kind: &dyn Fn(&str) -> String| ["audio", "video", "desktop"].map(kind).to_vec();
    let mut kinds = vec![
        Kind {
            name: "mute",
            by_member: all(&|medium| mute(medium, &alice, "true")),
            as_another: [
                all(&|medium| mute(medium, &alice, "false")),
                all(&|medium| mute(medium, &format!("{OTHER}/carol"), "true")),
            ]
            .concat(),
            malformed: vec![
                mute("audio", &bob, "perhaps"),
                mute("audio", "", "true"),
                mute("audio", "@@", "true"),
                mute("smell", &bob, "true"),
                "<mute xmlns='http://jitsi.org/jitmeet/audio'>true</mute>".to_owned(),
                mute("audio", ROOM, "true"),
                mute("audio", &format!("{ROOM}/nobody"), "true"),
            ],
        },
        Kind {
            name: "recording",
            by_member: vec![
                jibri("action='start' recording_mode='file'"),
                jibri("action='start' recording_mode='stream' streamid='k'"),
                jibri("action='start' sipaddress='sip:c@d'"),
                jibri("action='stop' recording_mode='file'"),
                jibri("action='stop' sipaddress='sip:a@b'"),
            ],
            // As the Jibri that is at work.
            as_another: vec![
                jibri("status='off'"),
                jibri("status='on'"),
                jibri("status='off' failure_reason='error' should_retry='true'"),
            ],
            malformed: vec![
                jibri(""),
                jibri("action='pause'"),
                jibri("action='start'"),
                jibri(&format!("action='start' sipaddress='{}'", "x".repeat(2_000))),
            ],
        },
        Kind {
            name: "call out",
            by_member: vec![dial("+4930"), dial("jitsi_meet_transcribe")],
            as_another: vec![format!("<dial xmlns='{RAYO}' from='{alice}' to='+4930'/>")],
            malformed: vec![
                format!("<dial xmlns='{RAYO}'/>"),
                dial(""),
                dial(&"9".repeat(5_000)),
                format!("<dial xmlns='{RAYO}' to='1'><header/></dial>"),
            ],
        },
        Kind {
            name: "login",
            by_member: vec![
                format!("<logout xmlns='{FOCUS_NS}' session-id='x'/>"),
                format!("<login-url xmlns='{FOCUS_NS}' room='{ROOM}'/>"),
            ],
            as_another: vec![format!("<logout xmlns='{FOCUS_NS}' session-id='{sid}'/>")],
            malformed: vec![format!("<logout xmlns='{FOCUS_NS}'/>")],
        },
        Kind {
            name: "what is not served",
            by_member: vec![
                "<query xmlns='jabber:iq:roster'/>".to_owned(),
                "<shutdown xmlns='http://jitsi.org/protocol/colibri'/>".to_owned(),
            ],
            as_another: vec![
                "<conference-modify xmlns='jitsi:colibri2' meeting-id='x' expire='true'/>".to_owned(),
                format!("<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='alice' role='none'/></query>"),
            ],
            malformed: vec!["<x xmlns=''/>".to_owned()],
        },
    ];
    // A member's own session is its own business: what it may not is another's.
    let actions =
        ["session-accept", "source-add", "source-remove", "transport-info", "session-terminate", "session-info"];
    let malformed = |action: &str| match action {
        "source-add" => vec![
            jingle(action, &own, &source("0", "bob-x y")),
            jingle(action, &own, &source("none", "bob-x y")),
            jingle(action, &own, &source("4294967296", "bob-x y")),
            jingle(action, &own, &source(&taken, "bob-x y")),
            jingle(action, &own, &source("77", msid)),
            jingle(action, &own, &source("77", &"m".repeat(300))),
        ],
        "source-remove" => vec![jingle(action, &own, &source(&taken, msid)), jingle(action, &own, &source("x", "y"))],
        "session-info" => vec![jingle(action, "", ""), jingle(action, "unknown", "")],
        "session-terminate" => {
            vec![jingle(action, &own, ""), jingle(action, &own, &bridge_session("x", "restart='true'"))]
        }
        _ => vec![jingle(action, &own, ""), jingle(action, "", ""), jingle(action, "unknown", "")],
    };
    for action in actions {
        let rest = if action.starts_with("source") {
            source("77", "bob-x y")
        } else {
            bridge_session(&bridge, "restart='true'")
        };
        kinds.push(Kind {
            name: "jingle",
            by_member: Vec::new(),
            as_another: vec![jingle(action, &sid, &rest)],
            malformed: malformed(action),
        });
    }
    kinds.push(Kind {
        name: "jingle",
        by_member: ["session-initiate", "transport-replace", "content-modify", "security-info"]
            .map(|action| jingle(action, &own, ""))
            .to_vec(),
        as_another: Vec::new(),
        malformed: vec![
            format!("<jingle xmlns='{JINGLE}'/>"),
            jingle("", &own, ""),
            format!("<jingle xmlns='{JINGLE}' sid='{own}'/>"),
        ],
    });
    kinds
}

#[test]
fn a_stranger_can_do_none_of_it() {
    let mut world = site();
    let mut tried = 0;
    for kind in kinds(&mut world) {
        let bob = format!("{ROOM}/bob");
        let sound = [&kind.by_member[..], &kind.as_another].concat();
        // Outsiders: no occupant; an occupant of no room of ours; one who is not in the room that its address names; an occupant
        // of another room, about this one.
        let outsiders = [
            GUEST.to_owned(),
            "none@conference.meet.test/x".to_owned(),
            format!("{ROOM}/ghost"),
            format!("{ROOM}/focus"),
        ];
        for payload in &sound {
            for from in outsiders.iter().chain([&bob]) {
                refused(&mut world, from, "set", payload);
                tried += 1;
            }
        }
        // In another room one may do with one's own what one may: nothing here is about that room.
        for payload in kind.as_another.iter().filter(|payload| !payload.contains("'false'") || kind.name == "mute") {
            refused(&mut world, &format!("{OTHER}/dave"), "set", payload);
            tried += 1;
        }
        for payload in &kind.malformed {
            // Not even by the owner, where it is no sound request of hers.
            for from in outsiders.iter().chain([&bob]) {
                refused(&mut world, from, "set", payload);
                tried += 1;
            }
        }
        // A question is no request.
        for payload in
            sound.iter().chain(&kind.malformed).take(3).filter(|_| kind.name != "jingle" && kind.name != "mute")
        {
            refused(&mut world, &bob, "get", payload);
            tried += 1;
        }
        // Their rates are not what is tried here.
        world.pass(60);
    }
    println!("{tried} requests refused");
    assert!(tried > 300, "{tried}");
}

#[test]
fn conferences_are_not_begun_for_whoever_has_no_right_to() {
    let mut world = World::with(settings_of_a_site(true));
    world.add_bridge("jvb1", &[]);
    let conference = |rest: &str| format!("<conference xmlns='{FOCUS_NS}' {rest}/>");
    for (from, payload) in [
        // A guest, and one in the name of a session that is not there.
        ("g@guest.meet.test/web", conference(&format!("room='{ROOM}' machine-uid='1'"))),
        ("g@guest.meet.test/web", conference(&format!("room='{ROOM}' machine-uid='1' session-id='stolen'"))),
        // Rooms that are none of ours.
        (GUEST, conference("room='r@elsewhere.example' machine-uid='1'")),
        (GUEST, conference("room='r@internal.auth.meet.test' machine-uid='1'")),
        (GUEST, conference("room='conference.meet.test' machine-uid='1'")),
        (GUEST, conference(&format!("room='{ROOM}/nick' machine-uid='1'"))),
        (GUEST, conference("room='@@' machine-uid='1'")),
        (GUEST, conference("machine-uid='1'")),
        (GUEST, conference("")),
    ] {
        refused(&mut world, from, "set", &payload);
    }
    assert!(world.rooms.keys().all(|room| !room.contains("@conference.")), "{:?}", world.rooms);
    // Who is logged in is; nobody logs out in another's name.
    let begun =
        world.ask("host@meet.test/web", "set", &conference(&format!("room='{ROOM}' machine-uid='1'"))).expect("begun");
    assert_eq!(condition(&begun), None);
    let session =
        begun.children().next().and_then(|conference| conference.attr("session-id")).expect("a session").to_owned();
    for payload in [
        format!("<logout xmlns='{FOCUS_NS}' session-id='{session}x'/>"),
        format!("<logout xmlns='{FOCUS_NS}'/>"),
        format!("<login-url xmlns='{FOCUS_NS}'/>"),
        format!("<login-url xmlns='{FOCUS_NS}' room='@@' machine-uid='1'/>"),
    ] {
        refused(&mut world, "g@guest.meet.test/web", "set", &payload);
    }
    let stolen = conference(&format!("room='{ROOM}' machine-uid='2' session-id='{session}'"));
    refused(&mut world, "g@guest.meet.test/web", "set", &stolen);
}

/// What is not asked but said: by who is no component, no bridge, no recorder, no gateway, and was not asked.
#[test]
fn what_strangers_say_is_not_believed() {
    let mut world = site();
    let json = |room: &str, json: &str| {
        format!("<json-message xmlns='http://jitsi.org/jitmeet' room='{room}'>{}</json-message>", escape(json))
    };
    let moderation = format!(r#"{{"type":"av_moderation","room":"{ROOM}","mediaType":"audio","enabled":true}}"#);
    let metadata = r#"{"type":"room_metadata","metadata":{"startMuted":{"audio":true}}}"#;
    let mut stanzas = Vec::new();
    let speakers = [
        GUEST.to_owned(),
        format!("{ROOM}/alice"),
        format!("{ROOM}/bob"),
        "evil.example".into(),
        "x@avmoderation.meet.test".into(),
        "avmoderation.meet.test/x".into(),
    ];
    for from in &speakers {
        for text in [moderation.as_str(), metadata, "{}", "[", ""] {
            stanzas.push(format!(
                "<message xmlns='jabber:client' from='{from}' to='{FOCUS}'>{}</message>",
                json(ROOM, text)
            ));
        }
    }
    // The right component, of the wrong kind, about no room, malformed.
    for (from, room, text) in [
        ("avmoderation.meet.test", ROOM, metadata),
        ("metadata.meet.test", ROOM, moderation.as_str()),
        ("metadata.meet.test", "none@conference.meet.test", metadata),
        ("metadata.meet.test", "@@", metadata),
        ("avmoderation.meet.test", ROOM, r#"{"type":"av_moderation","room":"@@","mediaType":"audio","enabled":true}"#),
        ("avmoderation.meet.test", ROOM, r#"{"type":"av_moderation"}"#),
        ("avmoderation.meet.test", ROOM, "[["),
        ("metadata.meet.test", ROOM, "null"),
    ] {
        stanzas
            .push(format!("<message xmlns='jabber:client' from='{from}' to='{FOCUS}'>{}</message>", json(room, text)));
    }
    let item = |real: &str| {
        format!(
            "<x xmlns='http://jabber.org/protocol/muc#user'><item role='participant' affiliation='none' jid='{real}'/></x>"
        )
    };
    let bridge = "<stats xmlns='http://jitsi.org/protocol/colibri'><stat name='stress_level' value='0'/><stat name='drain' value='false'/></stats>";
    let idle = format!(
        "<jibri-status xmlns='{JIBRI}'><busy-status xmlns='{JIBRI}' status='idle'/><health-status xmlns='http://jitsi.org/protocol/health' status='healthy'/></jibri-status>"
    );
    for (room, announcement) in [(BREWERY, bridge), (RECORDERS, &idle), (SIP, &idle), (GATEWAYS, bridge)] {
        for real in [GUEST, "jibri@evil.example/x"] {
            stanzas.push(format!(
                "<presence xmlns='jabber:client' from='{room}/false' to='{FOCUS}'>{announcement}{}</presence>",
                item(real)
            ));
        }
    }
    for stanza in stanzas {
        let (before, counted) = (everything(&world), world.refusals());
        world.feed(&stanza);
        assert!(world.refusals() > counted, "{stanza} was not counted");
        assert_eq!(everything(&world), before, "{stanza} changed something");
    }
    // An answer in the name of who was asked.
    let asked = world.bridge("jvb1").ids.last().expect("asked").clone();
    let (before, id) = (everything(&world), escape(&asked));
    for from in [GUEST.to_owned(), format!("{ROOM}/bob"), format!("{BREWERY}/other")] {
        for kind in ["result", "error"] {
            world.feed(&format!("<iq xmlns='jabber:client' type='{kind}' id='{id}' from='{from}' to='{FOCUS}'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"));
        }
    }
    assert_eq!(everything(&world), before);
}
