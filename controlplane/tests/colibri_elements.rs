//! The typed colibri2 elements: recorded requests and answers, round trips, arbitrary XML.

use proptest::prelude::*;
use ringbridge_controlplane::colibri::elements::*;
use ringbridge_controlplane::colibri::limits;
use tokio_xmpp::minidom::{Element, Node};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");

fn collect<'a>(element: &'a Element, name: &str, found: &mut Vec<&'a Element>) {
    if element.is(name, ns::COLIBRI2) {
        found.push(element);
    }
    for child in element.children() {
        collect(child, name, found);
    }
}

/// Order of attributes and of children of different kinds does not matter, nor do attributes with default value.
fn normalise(element: &Element) -> String {
    let mut attributes: Vec<String> = element
        .attrs()
        .iter()
        .map(|((_, name), value)| format!("{name}={value}"))
        .filter(|a| {
            !["create=false", "expire=false", "ice-controlling=false", "rtcstats-enabled=true"].contains(&a.as_str())
        })
        .collect();
    attributes.sort();
    let mut children: Vec<(String, String)> =
        element.children().map(|c| (format!("{}{}", c.ns(), c.name()), normalise(c))).collect();
    children.sort_by(|a, b| a.0.cmp(&b.0));
    let text = element.text();
    format!("<{} {} {attributes:?} {children:?} {}>", element.ns(), element.name(), text.trim())
}

/// The recorded elements; a fixture is a sequence of `<x>` elements, each with one stanza.
fn recorded(name: &str) -> Vec<Element> {
    let Ok(directories) = std::fs::read_dir(FIXTURES) else {
        println!("skipped: no fixtures at {FIXTURES}");
        return Vec::new();
    };
    let mut all = Vec::new();
    for directory in directories.flatten() {
        let Ok(text) = std::fs::read_to_string(directory.path().join("xmpp.xml")) else { continue };
        for line in text.split_inclusive("</x>\n").filter(|l| l.contains("jitsi:colibri2")) {
            let Some(start) = line.find("<x t=") else { continue };
            let line = line[start..].replacen("<x ", "<x xmlns='jabber:client' ", 1);
            let element: Element = line.parse().unwrap_or_else(|e| panic!("{:?}: {e}: {line}", directory.path()));
            let mut found = Vec::new();
            collect(&element, name, &mut found);
            all.extend(found.into_iter().cloned());
        }
    }
    all
}

#[test]
fn recorded_requests_parse_and_are_written_as_they_were() {
    let requests = recorded("conference-modify");
    for element in &requests {
        let request =
            ConferenceModify::try_from(element.clone()).unwrap_or_else(|e| panic!("{e}: {}", String::from(element)));
        assert_eq!(normalise(&Element::from(request)), normalise(element));
    }
    println!("{} requests", requests.len());
}

#[test]
fn recorded_answers_parse_and_are_written_as_they_were() {
    let answers = recorded("conference-modified");
    for element in &answers {
        let answer =
            ConferenceModified::try_from(element.clone()).unwrap_or_else(|e| panic!("{e}: {}", String::from(element)));
        assert_eq!(normalise(&Element::from(answer)), normalise(element));
    }
    println!("{} answers", answers.len());
}

fn modify(xml: &str) -> Result<ConferenceModify, xso::error::FromElementError> {
    ConferenceModify::try_from(xml.parse::<Element>().unwrap())
}

#[test]
fn lenient_where_it_may_be() {
    let request = modify(
        "<conference-modify xmlns='jitsi:colibri2' meeting-id='m' create='TRUE' future='x'>\
         <endpoint id='ab' create='1'><media type='Audio'/><unknown xmlns='urn:x'><deep/></unknown>\
         <transport ice-controlling='true'><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1'>\
         <fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='ACTIVE' required='true'>AB</fingerprint>\
         </transport></transport></endpoint></conference-modify>",
    )
    .unwrap();
    assert!(request.create && request.endpoints[0].create);
    assert_eq!(request.endpoints[0].media[0].media_type, MediaType::Audio);
    let ice = request.endpoints[0].transport.as_ref().unwrap().ice.as_ref().unwrap();
    assert_eq!(ice.fingerprints[0].setup, Some(Setup::Active));
}

#[test]
fn strict_where_it_must_be() {
    for xml in [
        "<conference-modify xmlns='jitsi:colibri2'/>",
        "<conference-modify xmlns='jitsi:colibri2' meeting-id='m'><endpoint/></conference-modify>",
        "<conference-modify xmlns='jitsi:colibri2' meeting-id='m'><endpoint id='a'><media/></endpoint></conference-modify>",
        "<conference-modify xmlns='jitsi:colibri2' meeting-id='m'><endpoint id='a'><media type='smell'/></endpoint></conference-modify>",
        "<conference-modify xmlns='jitsi:colibri2' meeting-id='m'><endpoint id='a'><initial-last-n value='x'/></endpoint></conference-modify>",
        "<conference-modified xmlns='jitsi:colibri2' meeting-id='m'/>",
    ] {
        assert!(modify(xml).is_err(), "{xml}");
    }
}

/// As a real Jicofo asks about its second bridge, with fewer formats.
const NEW_RELAY: &str = "<conference-modify xmlns='jitsi:colibri2' meeting-id='m'>\
    <traceparent xmlns='jitsi:opentelemetry' trace_id='00' parent_id='00' trace_flags='00'/>\
    <relay xmlns='jitsi:colibri2' id='jvb2' create='true' mesh-id='0'><media type='audio'>\
    <payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='111' name='opus' clockrate='48000' channels='2'>\
    <parameter name='minptime' value='10'/></payload-type>\
    <rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='1' uri='urn:ietf:params:rtp-hdrext:ssrc-audio-level'/>\
    <extmap-allow-mixed xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0'/></media>\
    <media type='video'><payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='100' name='VP8' clockrate='90000'>\
    <rtcp-fb xmlns='urn:xmpp:jingle:apps:rtp:rtcp-fb:0' type='nack' subtype='pli'/></payload-type></media>\
    <transport ice-controlling='CONTROLLING' use-unique-port='CONTROLLING'><sctp role='client'/></transport>\
    <endpoints><endpoint id='aa1f52c8' create='true' stats-id='Murphy-DzQ'><sources>\
    <media-source id='aa1f52c8-a0' type='audio'>\
    <source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='7' name='aa1f52c8-a0'/></media-source></sources>\
    <capability name='source-names'/></endpoint><endpoint id='bb' expire='true'/></endpoints></relay></conference-modify>";

#[test]
fn relays_are_read_and_written_as_they_were() {
    for (written, controlling) in [("true", true), ("false", false), ("0", false), ("", false)] {
        let text = NEW_RELAY.replace("CONTROLLING", written);
        let element: Element = text.parse().unwrap();
        let request = ConferenceModify::try_from(element.clone()).unwrap();
        let relay = &request.relays[0];
        assert!(relay.create && !relay.expire);
        assert_eq!((relay.id.as_str(), relay.mesh_id.as_deref()), ("jvb2", Some("0")));
        assert_eq!(relay.media.iter().map(|m| m.media_type).collect::<Vec<_>>(), [MediaType::Audio, MediaType::Video]);
        let transport = relay.transport.as_ref().unwrap();
        assert_eq!((transport.ice_controlling, transport.use_unique_port), (controlling, controlling), "{written:?}");
        assert_eq!(transport.sctp.as_ref().unwrap().role, Some(SctpRole::Client));
        let relayed: Vec<_> = relay.relayed().iter().map(|e| (e.id.as_str(), e.create, e.expire)).collect();
        assert_eq!(relayed, [("aa1f52c8", true, false), ("bb", false, true)]);
        assert_eq!(relay.relayed()[0].sources.as_ref().unwrap().media_sources[0].sources[0].ssrc, 7);
        assert!(relay.relayed()[1].sources.is_none());
        let again = Element::from(request.clone());
        assert_eq!(ConferenceModify::try_from(again.clone()).unwrap(), request);
        if controlling {
            let without = text.replace(
                "<traceparent xmlns='jitsi:opentelemetry' trace_id='00' parent_id='00' trace_flags='00'/>",
                "",
            );
            assert_eq!(normalise(&again), normalise(&without.parse().unwrap()));
        }
    }
}

#[test]
fn the_answer_about_a_relay() {
    let xml = "<conference-modified xmlns='jitsi:colibri2'><relay id='jvb2'><transport>\
        <transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='u' pwd='p'><rtcp-mux/>\
        <web-socket xmlns='http://jitsi.org/protocol/colibri' active='true'/></transport>\
        <sctp port='5000' role='server'/></transport></relay></conference-modified>";
    let answer = ConferenceModified::try_from(xml.parse::<Element>().unwrap()).unwrap();
    let transport = answer.relays[0].transport.as_ref().unwrap();
    let ice = transport.ice.as_ref().unwrap();
    assert_eq!(ice.web_sockets, [WebSocket { url: None, active: true }]);
    assert_eq!(transport.sctp, Some(Sctp { port: Some(5_000), role: Some(SctpRole::Server) }));
    assert_eq!(normalise(&Element::from(answer)), normalise(&xml.parse().unwrap()));
}

#[test]
fn what_cannot_be_read_of_a_relay_is_left_out() {
    let bad = NEW_RELAY
        .replace("CONTROLLING", "true")
        .replace("<endpoints>", "<endpoints><endpoint create='true'/>")
        .replace("ssrc='7' name='aa1f52c8-a0'", "ssrc='seven'")
        .replace("<media type='video'>", "<media type='smell'/><media type='video'>")
        .replace("</relay>", "<endpoints/><transport/></relay>");
    let element: Element = bad.parse().unwrap();
    assert!(ConferenceModify::try_from(element.clone()).is_err());
    let (request, left_out) = limits::read(&element).unwrap();
    let relay = &request.relays[0];
    assert_eq!((relay.media.len(), relay.relayed().len(), left_out), (2, 2, 5));
    assert!(relay.transport.as_ref().unwrap().ice_controlling, "the first counts");
    assert!(
        limits::read(
            &"<conference-modify xmlns='jitsi:colibri2' meeting-id='m'><relay/></conference-modify>".parse().unwrap()
        )
        .is_err()
    );
}

#[test]
fn reasons_are_upper_case_on_the_wire_and_read_in_any_case() {
    let error = ColibriError { reason: Some(Reason::UnknownEndpoint), endpoint: None };
    assert_eq!(Element::from(error).attr("reason"), Some("UNKNOWN_ENDPOINT"));
    let error = "<error xmlns='jitsi:colibri2' reason='graceful_Shutdown'/>".parse::<Element>().unwrap();
    assert_eq!(ColibriError::try_from(error).unwrap().reason, Some(Reason::GracefulShutdown));
}

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9:+/=. -]{0,12}"
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (
        (word(), any::<bool>(), any::<bool>(), proptest::option::of(word())),
        proptest::collection::vec(
            (
                any::<bool>(),
                proptest::collection::vec((any::<u8>(), proptest::option::of(word())), 0..3),
                any::<bool>(),
            ),
            0..3,
        ),
        proptest::option::of((any::<bool>(), proptest::option::of(word()), any::<u16>(), word())),
        proptest::option::of(proptest::collection::vec((word(), proptest::collection::vec(any::<u32>(), 0..4)), 0..3)),
        proptest::option::of((any::<bool>(), any::<bool>())),
        proptest::option::of(any::<i32>()),
        proptest::option::of(proptest::collection::vec(word(), 0..3)),
    )
        .prop_map(|((id, create, expire, stats_id), media, transport, sources, mute, last_n, unsignalled)| {
            Endpoint {
                unsignalled: unsignalled.map(|names| Unsignalled {
                    sources: names.into_iter().map(|name| UnsignalledSource { name }).collect(),
                }),
                id,
                create,
                expire,
                stats_id,
                media: media
                    .into_iter()
                    .map(|(audio, formats, mixed)| Media {
                        media_type: if audio { MediaType::Audio } else { MediaType::Video },
                        payload_types: formats
                            .into_iter()
                            .map(|(id, name)| PayloadType {
                                id,
                                parameters: vec![Parameter { name: name.clone(), value: None }],
                                name,
                                clockrate: Some(90_000),
                                channels: None,
                                ptime: None,
                                maxptime: Some(60),
                                feedback: vec![RtcpFeedback {
                                    feedback_type: "nack".into(),
                                    subtype: Some("pli".into()),
                                }],
                            })
                            .collect(),
                        header_extensions: vec![HeaderExtension { id: 3, uri: "urn:x".into(), senders: None }],
                        extmap_allow_mixed: mixed,
                    })
                    .collect(),
                transport: transport.map(|(controlling, ufrag, port, value)| Transport {
                    ice_controlling: controlling,
                    sctp: Some(Sctp { port: Some(port), role: Some(SctpRole::Server) }),
                    ice: Some(IceTransport {
                        pwd: ufrag.clone(),
                        ufrag,
                        candidates: vec![Candidate {
                            ip: "::1".into(),
                            port,
                            priority: Some(1),
                            ..Candidate::default()
                        }],
                        rtcp_mux: controlling,
                        fingerprints: vec![Fingerprint { hash: "sha-256".into(), setup: Some(Setup::ActPass), value }],
                        web_sockets: vec![WebSocket::at("wss://x?a=1&b=2")],
                        ..IceTransport::default()
                    }),
                    ..Transport::default()
                }),
                sources: sources.map(|list| Sources {
                    media_sources: list
                        .into_iter()
                        .map(|(id, ssrcs)| MediaSource {
                            media_type: MediaType::Video,
                            id,
                            synthetic: false,
                            ssrc_groups: vec![SsrcGroup {
                                semantics: "SIM".into(),
                                sources: ssrcs.iter().map(|&ssrc| Source { ssrc, ..Source::default() }).collect(),
                            }],
                            sources: ssrcs
                                .into_iter()
                                .map(|ssrc| Source { ssrc, name: Some("n".into()), ..Source::default() })
                                .collect(),
                        })
                        .collect(),
                }),
                force_mute: mute.map(|(audio, video)| ForceMute { audio, video }),
                initial_last_n: last_n.map(|value| InitialLastN { value }),
                capabilities: vec![Capability { name: CAP_SOURCE_NAMES.into() }],
                muc_role: None,
            }
        })
}

/// XML made of known and unknown names with arbitrary values.
fn arbitrary_xml() -> impl Strategy<Value = Element> {
    let name = proptest::sample::select(vec![
        "conference-modify",
        "endpoint",
        "media",
        "payload-type",
        "transport",
        "sources",
        "media-source",
        "source",
        "ssrc-group",
        "fingerprint",
        "candidate",
        "error",
        "sctp",
        "force-mute",
        "initial-last-n",
        "capability",
        "relay",
        "endpoints",
        "web-socket",
        "zzz",
    ]);
    let namespace = proptest::sample::select(vec![ns::COLIBRI2, ns::ICE_UDP, ns::SSMA, ns::RTP, ns::DTLS, "urn:x"]);
    let attribute = proptest::sample::select(vec![
        "id",
        "meeting-id",
        "type",
        "create",
        "ssrc",
        "port",
        "ip",
        "value",
        "name",
        "hash",
        "setup",
        "role",
        "reason",
        "semantics",
    ]);
    let value =
        proptest::sample::select(vec!["", "1", "-1", "audio", "true", "99999999999", "\u{1F600}", "server", "x y"]);
    let leaf = (name, namespace, proptest::collection::btree_map(attribute, value, 0..5), "[a-z<&\u{e9}]{0,4}")
        .prop_map(|(name, namespace, attributes, text)| {
            let mut xml = format!("<{name} xmlns='{namespace}'");
            for (key, value) in attributes {
                xml += &format!(" {key}='{value}'");
            }
            let mut element: Element = (xml + "/>").parse().unwrap();
            if !text.is_empty() {
                element.append_text_node(text);
            }
            element
        });
    leaf.clone().prop_recursive(4, 24, 4, move |inner| {
        (leaf.clone(), proptest::collection::vec(inner, 0..4)).prop_map(|(mut element, children)| {
            for child in children {
                element.append_node(Node::Element(child));
            }
            element
        })
    })
}

proptest! {
    #[test]
    fn round_trip(
        endpoint in endpoint(),
        relayed in proptest::option::of((endpoint(), proptest::collection::vec(endpoint(), 0..3), proptest::option::of(word()))),
        meeting in word(), create: bool, expire: bool, rtcstats_disabled: bool,
    ) {
        let relays = relayed.into_iter().map(|(like, endpoints, mesh_id)| Relay {
            id: like.id,
            create: like.create,
            expire: like.expire,
            mesh_id,
            media: like.media,
            transport: like.transport,
            sources: like.sources,
            endpoints: Some(Endpoints { endpoints }),
        });
        let relays = relays.collect();
        let request = ConferenceModify { create, expire, rtcstats_disabled, relays, endpoints: vec![endpoint], ..ConferenceModify::new(meeting) };
        let text = String::from(&Element::from(request.clone()));
        let parsed = ConferenceModify::try_from(text.parse::<Element>().unwrap());
        prop_assert_eq!(parsed.unwrap(), request);
    }

    #[test]
    fn arbitrary_xml_never_panics(element in arbitrary_xml()) {
        if let Ok(request) = ConferenceModify::try_from(element.clone()) {
            let again = ConferenceModify::try_from(Element::from(request.clone()));
            prop_assert_eq!(again.unwrap(), request);
        }
        let _ = ConferenceModified::try_from(element.clone());
        let _ = Endpoint::try_from(element.clone());
        let _ = IceTransport::try_from(element.clone());
        let _ = ColibriError::try_from(element);
    }
}
