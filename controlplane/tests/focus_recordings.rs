//! The focus against what Jicofo did with the same clients: offers, bridge requests, source-adds of the recordings.

mod focus_world;

use std::collections::BTreeMap;

use focus_world::*;
use ringbridge_controlplane::colibri::elements::{ConferenceModify, Media};
use ringbridge_controlplane::jingle::Jingle;
use tokio_xmpp::minidom::Element;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");

/// One stanza at the focus: whether the focus sent it, and the stanza.
fn recorded(scenario: &str) -> Vec<(bool, Element)> {
    let Ok(text) = std::fs::read_to_string(format!("{FIXTURES}/{scenario}/xmpp.xml")) else {
        println!("skipped: no recording {scenario} at {FIXTURES}");
        return Vec::new();
    };
    text.split_inclusive("</x>\n")
        .filter_map(|chunk| chunk.find("<x t=").map(|start| &chunk[start..]))
        .filter(|chunk| chunk.contains("peer=\"focus\""))
        .map(|chunk| {
            let xml = chunk.replacen("<x ", "<x xmlns='jabber:client' ", 1);
            let element: Element = xml.trim().parse().unwrap_or_else(|error| panic!("{error}: {xml}"));
            let sent = element.attr("via") == Some("recv");
            (sent, element.children().next().expect("a stanza").clone())
        })
        .collect()
}

fn nick(address: Option<&str>) -> String {
    address.and_then(|address| address.split_once('/')).map(|(_, nick)| nick.to_owned()).unwrap_or_default()
}

/// First Jingle element of that action by client nickname, and whom it was with.
fn jingles(recording: &[(bool, Element)], action: &str, by_focus: bool) -> Vec<(String, Jingle)> {
    let of = |(sent, stanza): &(bool, Element)| {
        let jingle = stanza.children().find(|child| child.name() == "jingle")?;
        let jingle = Jingle::try_from(jingle.clone()).unwrap_or_else(|error| panic!("{error}"));
        let with = nick(stanza.attr(if by_focus { "to" } else { "from" }));
        (*sent == by_focus && jingle.action == action).then_some((with, jingle))
    };
    recording.iter().filter_map(of).collect()
}

fn modifies(recording: &[(bool, Element)]) -> Vec<ConferenceModify> {
    let requests = recording.iter().filter(|(sent, _)| *sent);
    requests
        .filter_map(|(_, stanza)| stanza.children().find(|child| child.name() == "conference-modify"))
        .map(|request| ConferenceModify::try_from(request.clone()).expect("a request"))
        .collect()
}

/// The order of sources and groups does not matter.
fn normal(jingle: &Jingle) -> BTreeMap<String, Vec<Vec<String>>> {
    let lists = |value: &serde_json::Value| {
        let list = |list: &serde_json::Value| {
            let mut items: Vec<String> = list.as_array().unwrap().iter().map(ToString::to_string).collect();
            items.sort();
            items
        };
        value.as_array().unwrap().iter().map(list).collect()
    };
    owners(jingle).iter().map(|(owner, value)| (owner.clone(), lists(value))).collect()
}

#[test]
fn offers_and_bridge_requests_are_those_of_the_reference() {
    for scenario in ["three-party-vp8", "three-party-vp9", "three-party-av1", "one-then-two-p2p"] {
        let recording = recorded(scenario);
        if recording.is_empty() {
            return;
        }
        let mut world = World::new();
        world.add_bridge("jvb1", &[]);
        world.join(ROOM, "alice", |_| {});
        world.join(ROOM, "bob", |_| {});
        let (_, theirs) = &jingles(&recording, "session-initiate", true)[0];
        let ours = world.client(ROOM, "alice").last("session-initiate").clone();
        assert_eq!(ours.contents.len(), theirs.contents.len());
        for (ours, theirs) in ours.contents.iter().zip(&theirs.contents) {
            assert_eq!(ours.description, theirs.description, "{scenario}");
            assert_eq!((&ours.name, &ours.senders, &ours.creator), (&theirs.name, &theirs.senders, &theirs.creator));
        }
        assert_eq!(ours.group, theirs.group);
        let theirs = &modifies(&recording)[0];
        let ours = &world.bridge("jvb1").requests[0];
        let sorted = |request: &ConferenceModify| {
            let mut media: Vec<Media> = request.endpoints[0].media.clone();
            media.sort_by_key(|media| media.media_type.as_str());
            media
        };
        assert_eq!(sorted(ours), sorted(theirs));
        assert_eq!(ours.endpoints[0].transport, theirs.endpoints[0].transport);
        assert_eq!(ours.endpoints[0].sources, theirs.endpoints[0].sources);
        assert_eq!(ours.endpoints[0].capabilities, theirs.endpoints[0].capabilities);
    }
}

#[test]
fn recorded_answers_are_passed_on_as_the_reference_did() {
    for scenario in ["three-party-vp8", "three-party-vp9", "three-party-av1", "join-leave-rejoin"] {
        let recording = recorded(scenario);
        let accepts = jingles(&recording, "session-accept", false);
        let Some(((first, accept), (second, other))) = accepts.first().zip(accepts.get(1)) else { continue };
        let mut world = World::new();
        world.add_bridge("jvb1", &[]);
        world.join(ROOM, first, |client| client.accepts = false);
        world.join(ROOM, second, |client| client.accepts = false);
        for (nick, accept) in [(first, accept), (second, other)] {
            let sid = world.client(ROOM, nick).sid.clone();
            assert_eq!(world.jingle(ROOM, nick, Jingle { sid, ..accept.clone() }), None, "{scenario}");
            // What the bridge is sent.
            let ours = world.bridge("jvb1").requests.last().unwrap().endpoints[0].clone();
            let all = modifies(&recording);
            let theirs = all.iter().flat_map(|request| &request.endpoints);
            let theirs = theirs.filter(|e| e.id == *nick && !e.create).find(|e| e.sources.is_some()).unwrap();
            let parts = |endpoint: &ringbridge_controlplane::colibri::elements::Endpoint| {
                let mut sources: Vec<String> = Vec::new();
                for media in &endpoint.sources.as_ref().unwrap().media_sources {
                    sources
                        .extend(media.sources.iter().map(|s| format!("{} {:?} {:?}", media.id, s.ssrc, s.video_type)));
                    sources.extend(media.ssrc_groups.iter().map(|g| {
                        format!(
                            "{} {} {:?}",
                            media.id,
                            g.semantics,
                            g.sources.iter().map(|s| s.ssrc).collect::<Vec<_>>()
                        )
                    }));
                }
                sources.sort();
                sources
            };
            assert_eq!(parts(&ours), parts(theirs), "{scenario} {nick}");
            let ice = |e: &ringbridge_controlplane::colibri::elements::Endpoint| {
                let ice = e.transport.as_ref().unwrap().ice.clone().unwrap();
                (ice.ufrag, ice.pwd, ice.fingerprints)
            };
            assert_eq!(ice(&ours), ice(theirs));
        }
        // What the other client is sent.
        let ours = world.client(ROOM, first).last("source-add").clone();
        let theirs = jingles(&recording, "source-add", true);
        let about = |jingle: &Jingle| jingle.json_message.is_some() && owners(jingle).contains_key(second);
        let (_, theirs) = theirs.iter().find(|(to, jingle)| to == first && about(jingle)).expect("recorded");
        assert_eq!(normal(&ours)[second], normal(theirs)[second], "{scenario}");
    }
}
