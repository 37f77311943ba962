//! The focus's services: requests to record and to call out, what recorders, gateways and components say, while another room has
//! its call and its recording.
//!
//! Fed: lines. The first character says whose and what: `m` an IQ of the attacker, who owns its own room; `n` one of a guest in
//! that room; `g` one of somebody in no room; `j`, `k` an IQ of the first recorder, or of the one of the other room; `J` what is
//! in the presence of the first recorder, `G` of the gateway; `a`, `A` what both answer from now on: `result` or `error` with that
//! inside; `c`, `d` JSON that the component of moderation, or of metadata, says of the attacker's room; `s` the same JSON said
//! by the attacker itself; `p` what is in a presence of the attacker; `t` seconds pass. In the text `{id}` is the session of the
//! last recording that was granted.
//! Held: nothing panics; the focus becomes silent and its timers advance; the other room hears of nothing, and its recording goes
//! on; who may not ask has nobody asked and is counted; what is refused or said by a stranger changes no room; every request is
//! answered in the end; state is bounded.

use ringbridge_controlplane::focus::{FocusSettings, RecordingSettings};
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;

use crate::focus_world::{FOCUS, ROOM, World, escape, settings};
use crate::xml;

const OWN: &str = "own@conference.meet.test";
const RECORDERS: &str = "jibribrewery@internal.auth.meet.test";
const GATEWAYS: &str = "jigasibrewery@internal.auth.meet.test";
const MODERATION: &str = "avmoderation.meet.test";
const METADATA: &str = "metadata.meet.test";
const JIBRI: &str = "http://jitsi.org/protocol/jibri";
const GUEST: &str = "guest@meet.test/g";
/// Steps of one input.
const STEPS: usize = 60;
/// Longer than a recorder or a gateway may take, with all others that are tried after it.
const PATIENCE: u64 = 900;

fn status(busy: &str) -> String {
    format!(
        "<jibri-status xmlns='{JIBRI}'><busy-status xmlns='{JIBRI}' status='{busy}'/>\
         <health-status xmlns='http://jitsi.org/protocol/health' status='healthy'/></jibri-status>"
    )
}

fn recorder(n: usize) -> String {
    format!("{RECORDERS}/r{n}")
}

fn gateway() -> String {
    format!("{GATEWAYS}/g1")
}

/// A site with two recorders, one of which works for the room that is not attacked, and a gateway.
fn site() -> World {
    let recording = RecordingSettings {
        brewery: RECORDERS.parse().ok(),
        sip_brewery: RECORDERS.parse().ok(),
        ..RecordingSettings::default()
    };
    let mut world = World::with(FocusSettings { recording, jigasi_brewery: GATEWAYS.parse().ok(), ..settings() });
    world.components = Some(vec![("av_moderation", MODERATION), ("room_metadata", METADATA)]);
    world.online(false);
    world.add_bridge("jvb1", &[]);
    for (room, nick) in [(ROOM, "alice"), (ROOM, "bob"), (OWN, "mallory"), (OWN, "malvina")] {
        world.join(room, nick, |_| {});
    }
    let pending = vec![("result", format!("<jibri xmlns='{JIBRI}' status='pending'/>"))];
    world.instance(&recorder(2), "jibri@auth.meet.test/x", &status("idle")).answers = pending;
    world.ask(
        &format!("{ROOM}/alice"),
        "set",
        &format!("<jibri xmlns='{JIBRI}' action='start' recording_mode='file'/>"),
    );
    world.ask(&recorder(2), "set", &format!("<jibri xmlns='{JIBRI}' status='on'/>"));
    world.instance(&recorder(2), "jibri@auth.meet.test/x", &status("busy"));
    world.instance(&recorder(1), "jibri@auth.meet.test/x", &status("idle"));
    let sip = "<stats xmlns='http://jitsi.org/protocol/colibri'><stat name='supports_sip' value='true'/></stats>";
    world.instance(&gateway(), "jigasi@auth.meet.test/x", sip);
    world.pass(10);
    world
}

/// What the other room sees and has.
fn of_the_others(world: &World) -> (String, usize, usize, usize) {
    let others = || world.clients.iter().filter(|((room, _), _)| room == ROOM).map(|(_, client)| client);
    (
        world.focus.debug()[ROOM].to_string(),
        others().map(|client| client.jingles.len() + client.mutes.len()).sum(),
        world.presences.iter().filter(|(room, _)| room == ROOM).count(),
        world.instances[&recorder(2)].asked.len(),
    )
}

/// How often anybody was asked for a recording or a call.
fn asked(world: &World) -> usize {
    world.instances.values().map(|instance| instance.asked.len()).sum()
}

fn give(world: &mut World, xml: &str) -> bool {
    xml::stanza(xml).map(|stanza| world.take(stanza)).is_some()
}

fn is_error(reply: &Element) -> bool {
    reply.attr("type") == Some("error")
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut world = site();
    let before = of_the_others(&world);
    let (mut number, mut session) = (0, String::new());
    let mut unanswered = Vec::new();
    // The other room's recorder may end its own recording.
    let mut fair = true;
    for line in text.lines().take(STEPS) {
        let Some(rest) = line.get(1..) else { continue };
        let rest = rest.replace("{id}", &session);
        number += 1;
        let id = format!("f{number}");
        let iq = |from: &str| {
            format!("<iq xmlns='jabber:client' type='set' id='{id}' from='{from}' to='{FOCUS}'>{rest}</iq>")
        };
        let (counted, were_asked, own) = (world.refusals(), asked(&world), world.focus.debug());
        let what = line.as_bytes()[0];
        match what {
            b'm' | b'n' | b'g' | b'j' | b'k' => {
                fair &= what != b'k';
                let from = match what {
                    b'm' => format!("{OWN}/mallory"),
                    b'n' => format!("{OWN}/malvina"),
                    b'g' => GUEST.to_owned(),
                    b'j' => recorder(1),
                    _ => recorder(2),
                };
                if !give(&mut world, &iq(&from)) {
                    continue;
                }
                let reply = world.replies.get(&id).cloned();
                match &reply {
                    Some(reply) if is_error(reply) => {
                        assert!(world.refusals() > counted, "{line:?} was refused and not counted");
                    }
                    Some(reply) => {
                        let granted = reply.children().find_map(|child| child.attr("session_id"));
                        session = granted.map_or(session, str::to_owned);
                    }
                    None if world.refusals() > counted => {}
                    None => unanswered.push(id),
                }
                if matches!(what, b'n' | b'g') {
                    assert_eq!(asked(&world), were_asked, "somebody was asked because of {line:?}");
                    if reply.as_ref().is_some_and(is_error) {
                        assert_eq!(world.focus.debug(), own, "{line:?} was refused and changed something");
                    }
                }
            }
            b'J' | b'G' => {
                let jid = if what == b'J' { recorder(1) } else { gateway() };
                let item = "<x xmlns='http://jabber.org/protocol/muc#user'><item role='participant' affiliation='none' jid='jibri@auth.meet.test/x'/></x>";
                give(
                    &mut world,
                    &format!("<presence xmlns='jabber:client' from='{jid}' to='{FOCUS}'>{rest}{item}</presence>"),
                );
            }
            b'a' | b'A' => {
                let jid = if what == b'a' { recorder(1) } else { gateway() };
                let (kind, inside) = rest.split_once(' ').unwrap_or((&rest, ""));
                let kind = if kind == "error" { "error" } else { "result" };
                // Of a server nothing comes that is no XML, and no error without a condition.
                let error =
                    "<error type='wait'><internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
                let inside = if kind == "error" { error.to_owned() } else { inside.to_owned() };
                // Of a server nothing comes that is no IQ (RFC 6120 section 8.2.3).
                let whole =
                    format!("<iq xmlns='jabber:client' type='{kind}' id='x' from='{jid}' to='{FOCUS}'>{inside}</iq>");
                if whole.parse::<Element>().is_ok_and(|element| Iq::try_from(element).is_ok()) {
                    let instance = world.instances.get_mut(&jid).expect("one of the site's");
                    instance.answers = vec![(kind, inside)];
                }
            }
            b'c' | b'd' | b's' => {
                let from = match what {
                    b'c' => MODERATION.to_owned(),
                    b'd' => METADATA.to_owned(),
                    _ => format!("{OWN}/mallory"),
                };
                // A component says of a room what it likes; of which one is in its message.
                fair &= what == b's' || !rest.to_lowercase().contains(ROOM);
                let json = escape(&rest);
                let xml = format!(
                    "<message xmlns='jabber:client' from='{from}' to='{FOCUS}'>\
                     <json-message xmlns='http://jitsi.org/jitmeet' room='{OWN}'>{json}</json-message></message>"
                );
                if give(&mut world, &xml) && what == b's' {
                    assert!(world.refusals() > counted, "{line:?} of a stranger was not counted");
                    assert_eq!(world.focus.debug(), own, "{line:?} of a stranger was heeded");
                }
            }
            b'p' => {
                let member = format!("{OWN}/mallory");
                give(
                    &mut world,
                    &format!("<presence xmlns='jabber:client' from='{member}' to='{FOCUS}'>{rest}</presence>"),
                );
            }
            b't' => world.pass(rest.trim().parse::<u64>().unwrap_or(1).min(600)),
            _ => {}
        }
        if fair {
            assert_eq!(of_the_others(&world), before, "another room heard of {line:?}");
        }
        world.presences.retain(|(room, _)| room == ROOM);
    }
    world.pass(PATIENCE);
    for id in unanswered {
        assert!(world.replies.contains_key(&id), "{id} was never answered");
    }
    if fair {
        assert_eq!(of_the_others(&world), before, "another room heard of it later");
    }
}
