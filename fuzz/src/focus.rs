//! The focus: stanzas of guests and of a room's members, while another room has its call.
//!
//! Fed: lines. The first character says whose and what: `g`, `G` an IQ of a guest in no room (set, get); `m`, `M` one of the
//! attacker in its own room; `n` one of its companion there; `p` and `P` what is in a presence of the attacker, or of somebody
//! new whose nickname comes first; `u` the attacker leaves; `r` and `e` a result or error with an id and
//! some content; `a` answers its offer as a client does; `t` seconds pass; `b`, `B`, `x` the bridge answers nothing,
//! answers errors, is gone; `w` it is well. In the text `{sid}` and `{bs}` are the attacker's present session ids.
//! Held: nothing panics; the focus becomes silent and its timers advance; nobody in the other room hears of it, and its
//! conference on the bridge is not touched; every request is answered or counted; state is bounded.

use tokio_xmpp::minidom::Element;

use crate::focus_world::{Answers, FOCUS, ROOM, World, escape};
use crate::xml;

/// The attacker's room.
const OWN: &str = "own@conference.meet.test";
const ATTACKER: &str = "mallory";
const COMPANION: &str = "malvina";
/// Steps of one input.
const STEPS: usize = 60;

/// What the other room's people have seen so far.
#[derive(Debug, PartialEq)]
struct Seen {
    jingles: Vec<usize>,
    mutes: Vec<usize>,
    requests: usize,
    presences: usize,
}

fn seen(world: &World, meeting: &str) -> Seen {
    let others = || world.clients.iter().filter(|((room, _), _)| room == ROOM).map(|(_, client)| client);
    Seen {
        jingles: others().map(|client| client.jingles.len()).collect(),
        mutes: others().map(|client| client.mutes.len()).collect(),
        requests: world
            .bridges
            .values()
            .map(|bridge| bridge.requests.iter().filter(|request| request.meeting_id == meeting).count())
            .sum(),
        presences: world.presences.iter().filter(|(room, _)| room == ROOM).count(),
    }
}

fn give(world: &mut World, xml: &str) -> bool {
    xml::stanza(xml).map(|stanza| world.take(stanza)).is_some()
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut world = World::new();
    world.add_bridge("jvb1", &[]);
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    let meeting = world.bridge("jvb1").requests[0].meeting_id.clone();
    world.join(OWN, ATTACKER, |client| client.accepts = false);
    world.join(OWN, COMPANION, |_| {});
    let before = seen(&world, &meeting);
    // Bridges that fail are everybody's misfortune.
    let mut fair = true;
    let mut asked = 0;
    for line in text.lines().take(STEPS) {
        let Some(rest) = line.get(1..) else { continue };
        let present = world.clients.contains_key(&(OWN.to_owned(), ATTACKER.to_owned()));
        let (sid, bridge_session) = match present {
            true => {
                let client = world.client(OWN, ATTACKER);
                (client.sid.clone(), client.bridge_session.clone())
            }
            false => Default::default(),
        };
        let rest = rest.replace("{sid}", &sid).replace("{bs}", &bridge_session);
        let what = line.as_bytes()[0];
        asked += 1;
        let id = format!("f{asked}");
        let iq = |from: &str, kind: &str| {
            format!("<iq xmlns='jabber:client' type='{kind}' id='{id}' from='{from}' to='{FOCUS}'>{rest}</iq>")
        };
        let member = format!("{OWN}/{ATTACKER}");
        match what {
            b'g' | b'G' | b'm' | b'M' | b'n' => {
                let from = match what {
                    b'g' | b'G' => "guest@meet.test/g".to_owned(),
                    b'n' => format!("{OWN}/{COMPANION}"),
                    _ => member,
                };
                let kind = if what.is_ascii_lowercase() { "set" } else { "get" };
                let refused = world.refusals();
                if give(&mut world, &iq(&from, kind)) && !world.replies.contains_key(&id) {
                    assert!(world.refusals() > refused, "{line:?} is neither answered nor counted");
                }
            }
            b'r' | b'e' => {
                let (id, content) = rest.split_once(' ').unwrap_or((&rest, ""));
                let (id, kind) = (escape(id), if what == b'r' { "result" } else { "error" });
                give(
                    &mut world,
                    &format!(
                        "<iq xmlns='jabber:client' type='{kind}' id='{id}' from='{member}' to='{FOCUS}'>{content}</iq>"
                    ),
                );
            }
            b'p' => {
                let xml = format!("<presence xmlns='jabber:client' from='{member}' to='{FOCUS}'>{rest}</presence>");
                give(&mut world, &xml);
            }
            b'P' => {
                let (nick, content) = rest.split_once(' ').unwrap_or((&rest, ""));
                let nick = escape(nick);
                give(
                    &mut world,
                    &format!("<presence xmlns='jabber:client' from='{OWN}/{nick}' to='{FOCUS}'>{content}</presence>"),
                );
            }
            b'd' => drop(give(
                &mut world,
                &format!("<message xmlns='jabber:client' from='{member}' to='{FOCUS}'>{rest}</message>"),
            )),
            b'u' if present => drop(world.leave(OWN, ATTACKER)),
            b'a' if present && world.client(OWN, ATTACKER).jingles.iter().any(|j| j.action == "session-initiate") => {
                let accept = world.accept_of(OWN, ATTACKER);
                let xml = String::from(&Element::from(accept));
                give(
                    &mut world,
                    &format!("<iq xmlns='jabber:client' type='set' id='{id}' from='{member}' to='{FOCUS}'>{xml}</iq>"),
                );
            }
            b't' => world.pass(rest.trim().parse::<u64>().unwrap_or(1).min(600)),
            b'b' | b'B' | b'w' if world.bridges.contains_key("jvb1") => {
                fair = false;
                world.bridge("jvb1").answers = match what {
                    b'b' => Answers::Nothing,
                    b'B' => Answers::Error("internal-server-error", None),
                    _ => Answers::Well,
                };
            }
            b'x' if world.bridges.contains_key("jvb1") => {
                fair = false;
                world.kill_bridge("jvb1");
            }
            _ => {}
        }
        if fair {
            assert_eq!(seen(&world, &meeting), before, "another room heard of {line:?}");
        }
        world.presences.retain(|(room, _)| room == ROOM);
    }
    let stats = world.focus.stats(world.now);
    assert!(stats["conferences"].as_u64().is_some_and(|count| count <= 2 + STEPS as u64));
    let jingles = |world: &mut World| world.client(ROOM, "alice").jingles.len();
    if fair {
        // The other room goes on as if nothing had been.
        let sources = jingles(&mut world);
        world.join(ROOM, "carol", |_| {});
        assert!(jingles(&mut world) > sources, "alice hears of carol");
        world.pass(30);
    }
}
