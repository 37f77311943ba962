//! Visitors: requests for a conference with any token, and what comes from visitor nodes, while two participants have their call.
//!
//! Fed: lines. The first character says what: `q` a request for the conference with that token, `Q` one with that XML in it;
//! `v` and `V` the presence of the visitor mallory on v1, or of somebody whose nickname comes first; `l` mallory leaves; `i` an IQ
//! of mallory's, in which `{sid}` is its session; `a` it answers its offer; `x` and `X` any stanza from v1, or from our own server;
//! `m` the room's metadata; `o`, `r` and `f` v1 is gone, back with its stream, back without; `t` seconds pass.
//! Held: nothing panics; the focus becomes silent and its timers advance; participants get nobody's sources but their own,
//! and the bridge of no source of a visitor; visitors are counted as they are, and none is left when the call is over.

use ringbridge_controlplane::focus::{Input, NodeEvent};
use tokio_xmpp::minidom::Element;

use crate::focus_world::{FOCUS, ROOM, World, escape, owners, visitors, visitors_room};
use crate::xml;

const MALLORY: &str = "mallory";
/// Steps of one input.
const STEPS: usize = 60;
/// Stanzas with which the world answers in the name of a bridge would be a bridge's.
const BREWERY_HOST: &str = "internal.auth.meet.test";

/// Gives the focus a stanza from v1, or from our own server.
fn give(world: &mut World, xml: &str, from_node: bool) {
    let Some(stanza) = xml::stanza(xml) else { return };
    let (node, _) = world.focus.visitor_nodes().next().expect("v1");
    let now = world.now;
    let stanza = Box::new(stanza);
    let input = if from_node { Input::Node(node, NodeEvent::Stanza(stanza)) } else { Input::Stanza(stanza) };
    world.focus.handle(now, input);
    world.settle();
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut world = visitors(&["v1", "v2"], |settings| settings.max_per_node = 3);
    world.join(ROOM, "alice", |_| {});
    world.join(ROOM, "bob", |_| {});
    let there = visitors_room("v1");
    let key = (there.clone(), MALLORY.to_owned());
    for line in text.lines().take(STEPS) {
        let Some(rest) = line.get(1..) else { continue };
        let present = world.clients.contains_key(&key);
        let sid = world.clients.get(&key).map(|client| client.sid.clone()).unwrap_or_default();
        let rest = rest.replace("{sid}", &sid);
        let from = format!("{there}/{MALLORY}");
        match line.as_bytes()[0] {
            b'q' => {
                drop(world.ask_to_visit("guest@meet.test/g", ROOM, &format!(" token='{}'", escape(&clean(&rest))), ""))
            }
            b'Q' => give(
                &mut world,
                &format!(
                    "<iq xmlns='jabber:client' type='set' id='q' from='guest@meet.test/g' to='{FOCUS}'>\
                     <conference xmlns='http://jitsi.org/protocol/focus' room='{ROOM}'>{rest}</conference></iq>"
                ),
                false,
            ),
            b'v' if rest.is_empty() && !present => world.visit("v1", MALLORY, |client| client.accepts = false),
            b'v' => give(
                &mut world,
                &format!("<presence xmlns='jabber:client' from='{from}' to='{FOCUS}'>{rest}</presence>"),
                true,
            ),
            b'V' => {
                let (nick, content) = rest.split_once(' ').unwrap_or((&rest, ""));
                let nick = escape(&clean(nick));
                let xml =
                    format!("<presence xmlns='jabber:client' from='{there}/{nick}' to='{FOCUS}'>{content}</presence>");
                give(&mut world, &xml, true);
            }
            b'l' if present => drop(world.leave(&there, MALLORY)),
            b'i' => {
                let xml = format!("<iq xmlns='jabber:client' type='set' id='i' from='{from}' to='{FOCUS}'>{rest}</iq>");
                give(&mut world, &xml, true);
            }
            b'a' if present && world.client(&there, MALLORY).jingles.iter().any(|j| j.action == "session-initiate") => {
                let accept = String::from(&Element::from(world.accept_of(&there, MALLORY)));
                let xml =
                    format!("<iq xmlns='jabber:client' type='set' id='a' from='{from}' to='{FOCUS}'>{accept}</iq>");
                give(&mut world, &xml, true);
            }
            b'x' => give(&mut world, &rest, true),
            // What participants and bridges do is another target's.
            b'X' if !rest.contains(ROOM) && !rest.contains(BREWERY_HOST) => give(&mut world, &rest, false),
            b'm' => {
                let json = escape(&clean(&format!("{{\"type\":\"room_metadata\",\"metadata\":{rest}}}")));
                let xml = format!(
                    "<message xmlns='jabber:client' from='metadata.meet.test' to='{FOCUS}'>\
                     <json-message xmlns='http://jitsi.org/jitmeet' room='{ROOM}'>{json}</json-message></message>"
                );
                give(&mut world, &xml, false);
            }
            b'o' => world.node("v1", None),
            b'r' => world.node("v1", Some(true)),
            b'f' => world.node("v1", Some(false)),
            b't' => world.pass(rest.trim().parse::<u64>().unwrap_or(1).min(600)),
            _ => {}
        }
        let stats = world.focus.stats(world.now);
        let count = |value: &serde_json::Value| value.as_u64().expect("a number");
        let on_nodes: u64 = ["v1", "v2"].iter().map(|node| count(&stats["visitor_nodes"][node]["visitors"])).sum();
        assert_eq!(count(&stats["visitors"]), on_nodes, "after {line:?}");
        assert_eq!(count(&stats["participants"]), 2 + on_nodes, "after {line:?}");
    }
    for nick in ["alice", "bob"] {
        let client = world.client(ROOM, nick).clone();
        let signalled = client.jingles.iter().flat_map(|jingle| owners(jingle).into_keys());
        for owner in signalled {
            assert!(["alice", "bob", "jvb"].contains(&owner.as_str()), "{owner} was signalled to {nick}");
        }
        assert!(client.actions().iter().all(|action| *action != "session-terminate"), "{nick} lost its session");
    }
    for endpoint in world.bridge("jvb1").requests.iter().flat_map(|request| &request.endpoints) {
        let published = endpoint.sources.as_ref().is_some_and(|sources| !sources.media_sources.is_empty());
        assert!(!published || ["alice", "bob"].contains(&endpoint.id.as_str()), "{} has sources", endpoint.id);
    }
    world.leave(ROOM, "alice");
    world.leave(ROOM, "bob");
    let stats = world.focus.stats(world.now);
    assert_eq!((&stats["conferences"], &stats["visitors"]), (&0.into(), &0.into()));
    assert!(world.bridge("jvb1").meetings.is_empty(), "the bridge keeps a conference");
}

/// Without what XML cannot have.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')).collect()
}
