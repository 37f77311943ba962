//! Requests for a conference over HTTP: bodies of strangers, and what they are answered.
//!
//! Fed: lines, each a body; one that begins with `t` and a number lets seconds pass.
//! Held: nothing panics; every body is answered once, at once or after the focus did what it had to, and in the form that clients
//! read; nobody over HTTP is taken for somebody with an address; what is answered is no larger than a few times what was asked;
//! the number of conferences is bounded.

use ringbridge_controlplane::focus::Input;
use ringbridge_controlplane::focus::fuzzing::OverHttp;
use ringbridge_controlplane::rest::ConferenceReply;
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;

use crate::focus_world::World;

/// Bodies of one input.
const BODIES: usize = 40;
/// An answer says little more than the room's name, which may be escaped.
const MOST_ANSWERED: usize = 2_000;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut world = World::new();
    world.add_bridge("jvb1", &[]);
    let mut http = OverHttp::default();
    let mut waiting = Vec::new();
    let mut bodies = 0;
    for line in data.split(|byte| *byte == b'\n').take(BODIES) {
        if let Some(seconds) =
            line.strip_prefix(b"t").and_then(|rest| std::str::from_utf8(rest).ok()?.trim().parse::<u64>().ok())
        {
            world.pass(seconds.min(600));
            deliver(&mut world, &mut http);
            continue;
        }
        bodies += 1;
        let (stanza, answer) = http.ask(line, "203.0.113.7");
        if let Some(stanza) = stanza {
            if let Stanza::Iq(iq) = &stanza {
                assert!(
                    iq.from().is_some_and(OverHttp::is_client),
                    "a client over HTTP has an address of its own: {iq:?}"
                );
            }
            let now = world.now;
            world.focus.handle(now, Input::Stanza(Box::new(stanza)));
            world.settle();
            deliver(&mut world, &mut http);
        }
        waiting.push((line.len(), answer));
    }
    world.pass(60);
    deliver(&mut world, &mut http);
    for (asked, mut answer) in waiting {
        let reply =
            answer.try_recv().unwrap_or_else(|error| panic!("a body of {asked} bytes was not answered: {error}"));
        let length = match reply {
            ConferenceReply::Conference(conference) => {
                assert!(conference["room"].is_string() && conference["ready"].is_boolean(), "{conference}");
                assert!(conference["properties"].is_object(), "{conference}");
                conference.to_string().len()
            }
            ConferenceReply::Bad(text) => text.len(),
            ConferenceReply::InvalidSession | ConferenceReply::Forbidden | ConferenceReply::TooMany => 0,
        };
        assert!(length <= MOST_ANSWERED + 6 * asked, "{length} bytes for {asked}");
    }
    let conferences = world.focus.stats(world.now)["conferences"].as_u64().unwrap_or_default();
    assert!(conferences <= bodies, "{conferences} conferences of {bodies} bodies");
}

/// Gives those over HTTP what the world took for answers to others.
fn deliver(world: &mut World, http: &mut OverHttp) {
    for (_, reply) in std::mem::take(&mut world.replies) {
        let Ok(iq) = Iq::try_from(Element::clone(&reply)) else { continue };
        let _ = http.deliver(Stanza::Iq(iq));
    }
}
