//! Relays between bridges, as Jicofo asks for them (docs/protocol/bridge.md 10).

use super::fixture::*;
use ringbridge_controlplane::colibri::identity::RelayIdentity;
use ringbridge_controlplane::colibri::limits::MAX_RELAYS;
use ringbridge_dataplane::ids::{MeshId, WorkerId};
use ringbridge_dataplane::media::VideoType;
use std::sync::Arc;

fn linked() -> Fixture {
    with_local(Fixture::linked(1, 50, Capacity::default()))
}

/// A conference `m` with the local endpoint `a`.
fn with_local(mut fixture: Fixture) -> Fixture {
    fixture.send(&join("m", true, "a")).unwrap();
    fixture.outputs();
    fixture
}

fn relay(id: &str, attributes: &str, content: &str) -> String {
    format!("<conference-modify meeting-id='m'><relay id='{id}' {attributes}>{content}</relay></conference-modify>")
}

fn new(id: &str, mesh: &str, role: &str, content: &str) -> String {
    let transport =
        format!("<transport ice-controlling='true' use-unique-port='false'><sctp role='{role}'/></transport>");
    relay(id, &format!("create='true' mesh-id='{mesh}'"), &format!("{MEDIA}{transport}{content}"))
}

const MEDIA: &str = "<media type='audio'><payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='111' name='opus' \
    clockrate='48000' channels='2'><rtcp-fb xmlns='urn:xmpp:jingle:apps:rtp:rtcp-fb:0' type='transport-cc'/></payload-type>\
    <rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='1' uri='urn:ietf:params:rtp-hdrext:ssrc-audio-level'/>\
    <rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='5' \
    uri='http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01'/>\
    <rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='3' \
    uri='http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time'/></media>";

fn relayed(id: &str, attributes: &str, content: &str) -> String {
    format!("<endpoint id='{id}' {attributes}>{content}</endpoint>")
}

fn behind(id: &str, endpoints: &str) -> String {
    relay(id, "", &format!("<endpoints>{endpoints}</endpoints>"))
}

const THEIRS: &str = "<transport><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='uu' pwd='pp'>\
    <candidate component='1' foundation='1' generation='0' ip='192.0.2.9' port='10000' priority='7' protocol='udp' type='host'/>\
    <fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='SETUP'>AA:BB</fingerprint></transport></transport>";

fn created(outputs: &[Output]) -> Arc<RelayIdentity> {
    let found =
        outputs.iter().find_map(|o| if let Output::RelayCreated { relay, .. } = o { Some(relay) } else { None });
    Arc::clone(found.expect("created"))
}

fn commands_of(outputs: &[Output]) -> Vec<(usize, Command)> {
    let command =
        |o: &Output| if let Output::Command { worker, command } = o { Some((*worker, command.clone())) } else { None };
    outputs.iter().filter_map(command).collect()
}

#[test]
fn a_relay_is_created_and_answered_with_everything_that_jicofo_passes_on() {
    for (asked, ours, theirs) in
        [("client", SctpRole::Client, SctpRole::Server), ("server", SctpRole::Server, SctpRole::Client)]
    {
        let mut fixture = linked();
        let reply = fixture
            .send(&new(
                "jvb2",
                "0",
                asked,
                &format!("<endpoints>{}</endpoints>", relayed("b", "create='true'", &sources("b", 7))),
            ))
            .unwrap();
        assert_eq!((reply.endpoints.len(), reply.relays.len(), reply.sources.is_none()), (0, 1, true));
        let answer = &reply.relays[0];
        assert_eq!((answer.id.as_str(), answer.create, answer.expire), ("jvb2", false, false));
        let transport = answer.transport.as_ref().unwrap();
        assert_eq!(transport.sctp, Some(Sctp { port: Some(5_000), role: Some(theirs) }), "what the other one is");
        let ice = transport.ice.as_ref().unwrap();
        assert!(ice.rtcp_mux && ice.web_sockets.is_empty() && !ice.candidates.is_empty());
        assert_eq!(ice.fingerprints.iter().map(|f| f.setup).collect::<Vec<_>>(), [Some(Setup::ActPass)]);
        let outputs = fixture.outputs();
        let who = created(&outputs);
        let channel = RelayChannel::Sctp(ours);
        assert!(outputs.contains(&Output::RelayCreated { relay: Arc::clone(&who), channel }));
        assert_eq!((who.label.as_str(), who.own.as_str(), who.mesh_name.as_str()), ("jvb2", "own", "0"));
        let commands = commands_of(&outputs);
        let Command::CreateRelay(new) = &commands[0].1 else { panic!("{commands:?}") };
        assert_eq!((new.relay, new.mesh, new.controlling, new.label.as_str()), (who.id, who.mesh, true, "jvb2"));
        assert_eq!((Some(&new.ice.ufrag), Some(&new.ice.pwd)), (ice.ufrag.as_ref(), ice.pwd.as_ref()));
        // Its formats, without what serves bandwidth estimation; then the endpoint behind it.
        let Command::SetMedia { endpoint, media } = &commands[1].1 else { panic!("{commands:?}") };
        assert_eq!((*endpoint, media.codecs[0].payload_type.get()), (who.id, 111));
        assert_eq!(media.header_extensions.iter().map(|e| e.id).collect::<Vec<_>>(), [1]);
        assert!(media.codecs[0].feedback.is_empty(), "{media:?}");
        let Command::CreateRelayedEndpoint { endpoint, relay, .. } = &commands[2].1 else { panic!("{commands:?}") };
        assert_eq!(*relay, who.id);
        assert!(matches!(&commands[3].1, Command::SetMedia { endpoint: e, .. } if e == endpoint));
        assert!(
            matches!(&commands[4].1, Command::SetSources { endpoint: e, sources } if e == endpoint && sources[0].name == "b-a0")
        );
        assert_eq!(commands.len(), 5, "{commands:?}");
        let totals = fixture.bridge.totals();
        assert_eq!(
            (totals.endpoints, totals.relays, totals.endpoints_relayed, totals.conferences_with_relay),
            (1, 1, 1, 1)
        );
        assert_eq!(totals.left_out, 0);
    }
}

#[test]
fn the_other_sides_transport_comes_later_and_may_come_twice() {
    let mut fixture = linked();
    fixture.send(&new("jvb2", "0", "server", "")).unwrap();
    let id = created(&fixture.outputs()).id;
    let reply = fixture.send(&relay("jvb2", "", &THEIRS.replace("SETUP", "passive"))).unwrap();
    assert_eq!(reply.relays, [Relay::new("jvb2")]);
    let outputs = fixture.outputs();
    let Output::Command { command: Command::SetRemoteIce { endpoint, credentials, candidates }, .. } = &outputs[0]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!((*endpoint, candidates.len()), (id, 1));
    assert_eq!(credentials.as_ref().unwrap().ufrag, "uu");
    let Output::RemoteDtls { endpoint, setup, .. } = &outputs[1] else { panic!("{outputs:?}") };
    assert_eq!((*endpoint, *setup), (id, Some(Setup::Passive)));
    // Again, and with other credentials once it is connected: these stay.
    fixture.send(&relay("jvb2", "", &THEIRS.replace("SETUP", "passive"))).unwrap();
    fixture.bridge.handle_ice(fixture.now, id, IceState::Connected);
    fixture.send(&relay("jvb2", "", &THEIRS.replace("'uu'", "'other'").replace("SETUP", "passive"))).unwrap();
    for command in fixture.commands() {
        assert!(matches!(command, Command::SetRemoteIce { credentials: None, .. }), "{command:?}");
    }
}

#[test]
fn those_behind_a_relay_come_change_and_leave() {
    let mut fixture = linked();
    fixture.send(&new("jvb2", "0", "client", "")).unwrap();
    fixture.outputs();
    // Twice, as Jicofo says it: first without sources.
    fixture.send(&behind("jvb2", &relayed("b", "create='true'", "<sources/>"))).unwrap();
    let outputs = fixture.outputs();
    let who =
        outputs.iter().find_map(|o| if let Output::RelayedCreated { endpoint } = o { Some(endpoint) } else { None });
    let who = Arc::clone(who.expect("created"));
    assert!(who.relay.is_some() && !who.visitor);
    fixture.send(&behind("jvb2", &relayed("b", "create='true'", &sources("b", 7)))).unwrap();
    assert!(
        matches!(&fixture.commands()[..], [Command::SetSources { endpoint, sources }] if *endpoint == who.id && sources.len() == 1)
    );
    // The complete set, each time; no sources are none.
    fixture.send(&behind("jvb2", &relayed("b", "", &sources("b", 8)))).unwrap();
    let commands = fixture.commands();
    let [Command::SetSources { sources: changed, .. }] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(changed[0].encodings[0].ssrc, Ssrc::new(8));
    fixture.send(&behind("jvb2", &relayed("b", "", ""))).unwrap();
    assert!(matches!(&fixture.commands()[..], [Command::SetSources { sources, .. }] if sources.is_empty()));
    // What its bridge says of a source stays whatever is signalled.
    fixture.bridge.set_video_type(who.id, "b-v0", VideoType::Desktop);
    let video = sources("b", 9).replace("audio", "video").replace("b-a0", "b-v0");
    fixture.send(&behind("jvb2", &relayed("b", "", &video))).unwrap();
    let commands = fixture.commands();
    let [Command::SetSources { sources: changed, .. }] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(changed[0].video_type, VideoType::Desktop);
    // Unknown ones: nothing, and no error.
    fixture.send(&behind("jvb2", &(relayed("zz", "", "") + &relayed("yy", "expire='true'", "")))).unwrap();
    assert_eq!(fixture.outputs(), []);
    assert_eq!(fixture.bridge.totals().left_out, 1);
    fixture.send(&behind("jvb2", &relayed("b", "expire='true'", ""))).unwrap();
    let outputs = fixture.outputs();
    assert_eq!(commands_of(&outputs), [(0, Command::ExpireEndpoint { endpoint: who.id })]);
    assert_eq!(outputs[1], Output::EndpointExpired { endpoint: who });
    assert_eq!(fixture.bridge.totals().endpoints_relayed, 0);
}

#[test]
fn every_worker_of_the_conference_knows_relays_and_those_behind_them() {
    let mut fixture = with_local(Fixture::linked(2, 1, Capacity::default()));
    fixture
        .send(&new(
            "jvb2",
            "0",
            "client",
            &format!("<endpoints>{}</endpoints>", relayed("b", "create='true'", &sources("b", 7))),
        ))
        .unwrap();
    let outputs = fixture.outputs();
    let who = created(&outputs);
    let first = who.worker;
    assert!(commands_of(&outputs).iter().all(|(worker, _)| *worker == first));
    // The conference grows beyond that worker.
    fixture.send(&join("m", false, "c")).unwrap();
    let sent: Vec<_> =
        fixture.sent().into_iter().filter(|(worker, _)| *worker != first).map(|(_, command)| command).collect();
    let home = WorkerId::from_index(first);
    let announcement = Command::CreateRemoteRelay { conference: who.conference, relay: who.id, home, mesh: who.mesh };
    let at = sent.iter().position(|command| *command == announcement).expect("told");
    assert!(matches!(&sent[at + 1], Command::SetMedia { endpoint, .. } if *endpoint == who.id));
    assert!(matches!(&sent[at + 2], Command::CreateRelayedEndpoint { relay, .. } if *relay == who.id));
    assert!(matches!(&sent[at + 4], Command::SetSources { .. }), "{sent:?}");
    // What comes now goes to both; a second relay is known to both at once.
    fixture.send(&behind("jvb2", &relayed("d", "create='true'", &sources("d", 8)))).unwrap();
    let mut workers: Vec<_> =
        fixture.sent().into_iter().filter(|(_, c)| matches!(c, Command::SetSources { .. })).map(|(w, _)| w).collect();
    workers.sort_unstable();
    assert_eq!(workers, [0, 1]);
    fixture.send(&new("jvb3", "0", "client", "")).unwrap();
    let sent = fixture.sent();
    assert!(sent.iter().any(|(w, c)| *w == first && matches!(c, Command::CreateRelay(_))));
    assert!(sent.iter().any(|(w, c)| *w != first && matches!(c, Command::CreateRemoteRelay { .. })));
    // The last local endpoint of the relays' worker leaves: the conference stays there for their sake.
    fixture.send("<conference-modify meeting-id='m'><endpoint id='a' expire='true'/></conference-modify>").unwrap();
    assert!(!fixture.commands().iter().any(|c| matches!(c, Command::ExpireConference { .. })));
    fixture.send(&relay("jvb3", "expire='true'", "")).unwrap();
    let ended = |sent: &[(usize, Command)]| {
        sent.iter().filter(|(_, c)| matches!(c, Command::ExpireConference { .. })).map(|(w, _)| *w).collect::<Vec<_>>()
    };
    assert_eq!(ended(&fixture.sent()), [0; 0]);
    fixture.send(&relay("jvb2", "expire='true'", "")).unwrap();
    let sent = fixture.sent();
    assert_eq!(sent.iter().filter(|(_, c)| *c == Command::ExpireEndpoint { endpoint: who.id }).count(), 2);
    assert_eq!(ended(&sent), [first]);
}

#[test]
fn errors_are_those_that_jicofo_knows() {
    let none = None;
    let mut fixture = linked();
    fixture.send(&new("jvb2", "0", "client", "")).unwrap();
    fixture.outputs();
    is(&fixture.refused(&new("jvb2", "0", "client", "")), DefinedCondition::Conflict, none);
    is(&fixture.refused(&relay("zz", "", "<endpoints/>")), DefinedCondition::BadRequest, none);
    is(&fixture.refused(&relay("jvb3", "create='true'", "")), DefinedCondition::BadRequest, none);
    let port = "<transport><sctp role='client' port='5001'/></transport>";
    is(&fixture.refused(&relay("jvb3", "create='true'", port)), DefinedCondition::BadRequest, none);
    is(&fixture.refused(&relay("", "create='true'", port)), DefinedCondition::BadRequest, none);
    is(&fixture.refused(&new(&"x".repeat(2_000), "0", "client", "")), DefinedCondition::BadRequest, none);
    let two = "<conference-modify meeting-id='m'><relay id='jvb2'/><relay id='jvb3'/></conference-modify>";
    is(&fixture.refused(two), DefinedCondition::FeatureNotImplemented, Some(Reason::FeatureNotImplemented));
    let both = "<conference-modify meeting-id='m'><relay id='jvb2'/><endpoint id='a'/></conference-modify>";
    is(&fixture.refused(both), DefinedCondition::FeatureNotImplemented, Some(Reason::FeatureNotImplemented));
    assert_eq!(fixture.outputs(), [], "nothing of these has an effect");
    // An unknown one that expires is no error.
    let reply = fixture.send(&relay("zz", "expire='true'", "")).unwrap();
    assert_eq!(reply.relays, [Relay { expire: true, ..Relay::new("zz") }]);
    // Where relays are off, nothing about them is served.
    is(
        &Fixture::with_endpoint().refused(&relay("zz", "expire='true'", "")),
        DefinedCondition::FeatureNotImplemented,
        none,
    );
    let mut fixture = linked();
    for n in 0..MAX_RELAYS {
        fixture.send(&new(&format!("r{n}"), "0", "client", "")).unwrap();
    }
    is(&fixture.refused(&new("more", "0", "client", "")), DefinedCondition::BadRequest, none);
    assert_eq!(fixture.bridge.totals().beyond.relays, 1);
}

#[test]
fn nobody_has_two_places() {
    let mut fixture = linked();
    fixture.send(&new("jvb2", "0", "client", "")).unwrap();
    fixture.send(&new("jvb3", "0", "client", "")).unwrap();
    fixture.send(&behind("jvb2", &relayed("b", "create='true'", ""))).unwrap();
    fixture.outputs();
    // The name of a local endpoint, or of one behind another relay.
    fixture.send(&behind("jvb2", &relayed("a", "create='true'", &sources("a", 1)))).unwrap();
    fixture.send(&behind("jvb3", &relayed("b", "create='true'", &sources("b", 1)))).unwrap();
    assert_eq!(fixture.outputs(), []);
    assert_eq!((fixture.bridge.totals().left_out, fixture.bridge.totals().endpoints_relayed), (2, 1));
    // It moved here.
    fixture.send(&join("m", false, "b")).unwrap();
    let outputs = fixture.outputs();
    assert!(matches!(outputs[0], Output::Command { command: Command::ExpireEndpoint { .. }, .. }), "{outputs:?}");
    assert_eq!((fixture.bridge.totals().endpoints, fixture.bridge.totals().endpoints_relayed), (2, 0));
}

#[test]
fn a_conference_takes_so_many_wherever_they_are() {
    let capacity = Capacity { endpoints_per_conference: 3, ..Capacity::default() };
    let mut fixture = with_local(Fixture::linked(1, 50, capacity));
    let all: String = ["b", "c", "d"].iter().map(|id| relayed(id, "create='true'", "")).collect();
    fixture.send(&new("jvb2", "0", "client", &format!("<endpoints>{all}</endpoints>"))).unwrap();
    assert_eq!((fixture.bridge.totals().endpoints_relayed, fixture.bridge.totals().left_out), (2, 1));
    let refusal = fixture.refused(&join("m", false, "e"));
    is(&refusal, DefinedCondition::BadRequest, None);
    // One who moves here needs no more room.
    fixture.send(&join("m", false, "b")).unwrap();
}

#[test]
fn meshes_are_told_apart_and_forgotten() {
    let mut fixture = linked();
    let mut mesh = |id: &str, mesh: &str| {
        fixture.send(&new(id, mesh, "client", "")).unwrap();
        created(&fixture.outputs()).mesh
    };
    let core: MeshId = mesh("jvb2", "0");
    assert_eq!(mesh("jvb3", "0"), core);
    let other = mesh("jvb4", "1");
    assert_ne!(other, core);
    fixture.send(&relay("jvb4", "expire='true'", "")).unwrap();
    fixture.send(&new("jvb4", "1", "client", "")).unwrap();
    assert!(![core, other].contains(&created(&fixture.outputs()).mesh), "another mesh of the same name");
}

#[test]
fn a_conference_ends_when_nobody_is_left() {
    // The last endpoint leaves, and there is no relay: at once.
    let leave = "<conference-modify meeting-id='m'><endpoint id='a' expire='true'/></conference-modify>";
    let mut fixture = linked();
    fixture.send(leave).unwrap();
    assert_eq!(fixture.bridge.conference_count(), 0);
    // With a relay it stays for those behind it, for however long.
    let mut fixture = linked();
    fixture
        .send(&new("jvb2", "0", "client", &format!("<endpoints>{}</endpoints>", relayed("b", "create='true'", ""))))
        .unwrap();
    fixture.send(leave).unwrap();
    fixture.pass(3_600);
    assert_eq!(fixture.bridge.conference_count(), 1);
    fixture.send(&behind("jvb2", &relayed("b", "expire='true'", ""))).unwrap();
    assert_eq!(fixture.bridge.conference_count(), 1);
    fixture.pass(120);
    assert_eq!((fixture.bridge.conference_count(), fixture.bridge.totals().relays), (0, 0));
    // One that connects two meshes stays without anybody; the last relay ends it at once.
    let mut fixture = linked();
    fixture.send(&new("jvb2", "0", "client", "")).unwrap();
    fixture.send(&new("jvb3", "1", "client", "")).unwrap();
    fixture.send(leave).unwrap();
    fixture.pass(3_600);
    assert_eq!(fixture.bridge.conference_count(), 1);
    fixture.send(&relay("jvb2", "expire='true'", "")).unwrap();
    fixture.send(&relay("jvb3", "expire='true'", "")).unwrap();
    assert_eq!(fixture.bridge.conference_count(), 0);
    // All at once.
    let mut fixture = linked();
    fixture
        .send(&new("jvb2", "0", "client", &format!("<endpoints>{}</endpoints>", relayed("b", "create='true'", ""))))
        .unwrap();
    let id = created(&fixture.outputs()).id;
    fixture.send("<conference-modify meeting-id='m' expire='true'/>").unwrap();
    let outputs = fixture.outputs();
    let gone = |o: &Output| matches!(o, Output::RelayExpired { relay } if relay.id == id);
    let last = outputs.iter().position(gone).expect("expired");
    assert!(matches!(outputs[last - 1], Output::EndpointExpired { .. }), "those behind it first: {outputs:?}");
}

#[test]
fn what_a_worker_refuses_is_taken_back() {
    let mut fixture = linked();
    fixture
        .send(&new("jvb2", "0", "client", &format!("<endpoints>{}</endpoints>", relayed("b", "create='true'", ""))))
        .unwrap();
    let outputs = fixture.outputs();
    let relay_id = created(&outputs).id;
    let endpoint =
        outputs.iter().find_map(|o| if let Output::RelayedCreated { endpoint } = o { Some(endpoint.id) } else { None });
    fixture.bridge.handle_refused(endpoint.unwrap(), CreateError::ConferenceFull);
    fixture.outputs();
    assert_eq!((fixture.bridge.totals().relays, fixture.bridge.totals().endpoints_relayed), (1, 0));
    fixture.bridge.handle_refused(relay_id, CreateError::WorkerFull);
    fixture.outputs();
    assert_eq!((fixture.bridge.totals().relays, fixture.bridge.totals().revoked), (0, 2));
    is(&fixture.refused(&relay("jvb2", "", &THEIRS.replace("SETUP", "active"))), DefinedCondition::BadRequest, None);
}

#[test]
fn the_initiator_has_a_port_of_its_own() {
    let mut fixture = linked();
    let asked = new("jvb2", "0", "client", "").replace("use-unique-port='false'", "use-unique-port='true'");
    let reply = fixture.send(&asked).unwrap();
    let ice = reply.relays[0].transport.as_ref().unwrap().ice.as_ref().unwrap();
    let port = ice.candidates[0].port;
    assert_ne!(port, 10_000);
    assert!(std::net::UdpSocket::bind(("127.0.0.1", port)).is_err(), "it is bound");
    let commands = fixture.commands();
    let [Command::OpenSockets { endpoint, sockets }, Command::CreateRelay(new), ..] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!((new.relay, sockets[0].address().port()), (*endpoint, port));
    // Another one, another port.
    let reply = fixture.send(&asked.replace("jvb2", "jvb3")).unwrap();
    assert_ne!(reply.relays[0].transport.as_ref().unwrap().ice.as_ref().unwrap().candidates[0].port, port);
    // None is free: refused, and nothing is left of it.
    fixture.bridge.set_local_addresses(&["192.0.2.77".parse().unwrap()]);
    fixture.outputs();
    is(&fixture.refused(&asked.replace("jvb2", "jvb4")), DefinedCondition::ResourceConstraint, None);
    assert_eq!(fixture.outputs(), []);
}

#[test]
fn private_addresses_are_given_to_other_bridges() {
    let mut fixture = linked();
    fixture.bridge.set_local_addresses(&["10.0.0.5".parse().unwrap(), "192.0.2.1".parse().unwrap()]);
    let reply = fixture.send(&new("jvb2", "0", "client", "")).unwrap();
    let ice = reply.relays[0].transport.as_ref().unwrap().ice.as_ref().unwrap();
    let found: Vec<_> = ice.candidates.iter().map(|c| (c.ip.as_str(), c.port)).collect();
    assert_eq!(found, [("10.0.0.5", 10_000), ("192.0.2.1", 10_000)]);
}

const WITHOUT_SCTP: &str = "<transport ice-controlling='true' use-unique-port='false'/>";

fn web_sockets(url: &str) -> String {
    format!(
        "<transport><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='uu' pwd='pp'>\
         <web-socket xmlns='http://jitsi.org/protocol/colibri' {url}/></transport></transport>"
    )
}

fn dialled(outputs: &[Output]) -> Vec<(EndpointId, String)> {
    let order = |o: &Output| if let Output::DialRelay { relay, url } = o { Some((*relay, url.clone())) } else { None };
    outputs.iter().filter_map(order).collect()
}

#[test]
fn without_a_data_channel_the_answer_has_the_address_of_a_websocket() {
    let mut fixture = linked();
    let reply = fixture.send(&relay("jvb 2", "create='true' mesh-id='0'", WITHOUT_SCTP)).unwrap();
    let transport = reply.relays[0].transport.as_ref().unwrap();
    assert_eq!(transport.sctp, None);
    let ice = transport.ice.as_ref().unwrap();
    let outputs = fixture.outputs();
    let who = created(&outputs);
    let channel =
        outputs.iter().find_map(|o| if let Output::RelayCreated { channel, .. } = o { Some(channel) } else { None });
    let Some(RelayChannel::WebSocket { password }) = channel else { panic!("{channel:?}") };
    assert!(password.len() >= 20);
    let url = format!("ws://127.0.0.1:9090/colibri-relay-ws/jvb1/{}/jvb%202?pwd={password}", who.conference_hex);
    assert_eq!(ice.web_sockets, [WebSocket::at(url)]);
    assert_eq!(dialled(&outputs), []);
    // The other one's address is the order to open it; an empty element, or the word that it is the one to open ours, is none.
    for (said, order) in [("active='true'", None), ("", None), ("url='wss://b/x?pwd=y'", Some("wss://b/x?pwd=y"))] {
        fixture.send(&relay("jvb 2", "", &web_sockets(said))).unwrap();
        let expected: Vec<_> = order.into_iter().map(|url| (who.id, url.to_owned())).collect();
        assert_eq!(dialled(&fixture.outputs()), expected, "{said}");
    }
    // Each relay has a password of its own.
    let other = fixture.send(&relay("jvb3", "create='true' mesh-id='0'", WITHOUT_SCTP)).unwrap();
    let other = other.relays[0].transport.as_ref().unwrap().ice.as_ref().unwrap().web_sockets[0].address().to_owned();
    assert!(!other.contains(password.as_str()));
}

#[test]
fn who_has_an_address_to_open_says_so_instead_of_giving_one() {
    let mut fixture = linked();
    let reply = fixture.send(&relay("jvb2", "create='true'", &web_sockets("url='ws://b/x?pwd=y'"))).unwrap();
    let ice = reply.relays[0].transport.as_ref().unwrap().ice.as_ref().unwrap();
    assert_eq!(ice.web_sockets, [WebSocket { url: None, active: true }]);
    let outputs = fixture.outputs();
    assert_eq!(dialled(&outputs), [(created(&outputs).id, "ws://b/x?pwd=y".to_owned())]);
    // Beside a data channel an address means nothing.
    fixture.send(&new("jvb3", "0", "server", "")).unwrap();
    fixture.outputs();
    fixture.send(&relay("jvb3", "", &web_sockets("url='ws://b/x?pwd=y'"))).unwrap();
    assert_eq!(dialled(&fixture.outputs()), []);
}

#[test]
fn a_channel_that_is_switched_off_is_refused_with_the_remedy() {
    let over_websocket = relay("jvb2", "create='true' mesh-id='0'", WITHOUT_SCTP);
    let over_sctp = new("jvb2", "0", "client", "");
    for (sctp, websocket, request, remedy) in
        [(true, false, &over_websocket, "bridge.websocket.enabled"), (false, true, &over_sctp, "bridge.sctp.enabled")]
    {
        let mut fixture = with_local(Fixture::with_channels(sctp, websocket));
        let refusal = fixture.refused(request);
        assert_eq!(refusal.condition, DefinedCondition::FeatureNotImplemented);
        assert!(refusal.text.contains(remedy), "{}", refusal.text);
    }
    for (sctp, websocket, request) in [(true, false, &over_sctp), (false, true, &over_websocket)] {
        let mut fixture = with_local(Fixture::with_channels(sctp, websocket));
        assert!(fixture.send(request).is_ok());
    }
}
