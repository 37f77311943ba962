//! What one request may hold, and what a bridge keeps of it.

use super::fixture::*;

fn first_media(commands: &[Command]) -> Option<&ringbridge_dataplane::media::Media> {
    commands
        .iter()
        .find_map(|command| if let Command::SetMedia { media, .. } = command { Some(&**media) } else { None })
}

#[test]
fn formats_and_extensions_without_end_are_cut() {
    let formats: String = (0..1_100)
        .map(|n| {
            let parameters: String = (0..100).map(|p| format!("<parameter name='p{p}' value='{n}'/>")).collect();
            let feedback = "<rtcp-fb xmlns='urn:xmpp:jingle:apps:rtp:rtcp-fb:0' type='nack'/>".repeat(100);
            let inner = if n == 0 { parameters + &feedback } else { String::new() };
            format!(
                "<payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='{}' name='c{n}'>{inner}</payload-type>",
                n % 128
            )
        })
        .collect();
    let extensions: String = (0..256)
        .map(|n| format!("<rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='{}' uri='u{n}'/>", n % 254 + 1))
        .collect();
    let long = "x".repeat(5_000);
    let long = format!(
        "<payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='5' name='{long}'/>\
         <rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='9' uri='{long}'/>"
    );
    let mut fixture = Fixture::with_endpoint();
    let media = format!("<media type='video'>{long}{formats}{extensions}</media>").repeat(9);
    fixture
        .send(&format!("<conference-modify meeting-id='m'><endpoint id='a'>{media}</endpoint></conference-modify>"))
        .unwrap();
    let commands = fixture.commands();
    let media = first_media(&commands).expect("set");
    assert_eq!((media.codecs.len(), media.header_extensions.len()), (64, 32));
    assert_eq!((media.codecs[0].parameters.len(), media.codecs[0].feedback.len()), (32, 16));
    assert!(fixture.bridge.totals().left_out > 1_000);
    assert_eq!(fixture.bridge.totals().refused, 0, "Jicofo would invite everybody again");
}

#[test]
fn what_cannot_be_on_the_wire_is_left_out_and_counted() {
    let rtp = "xmlns='urn:xmpp:jingle:apps:rtp:1'";
    let format = |id: &str, rest: &str| format!("<payload-type {rtp} id='{id}'{rest}/>");
    let extension =
        |id: &str| format!("<rtp-hdrext xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0' id='{id}' uri='urn:x'/>");
    let named = " name='VP8'";
    let parts = [
        format("128", named) + &format("255", named) + &format("98", "") + &extension("0"),
        format("127", named) + &format("0", " name='PCMU'") + &extension("255"),
    ];
    let mut fixture = Fixture::with_endpoint();
    let media = format!("<media type='video'>{}</media>", parts.concat());
    fixture
        .send(&format!("<conference-modify meeting-id='m'><endpoint id='a'>{media}</endpoint></conference-modify>"))
        .unwrap();
    let commands = fixture.commands();
    let media = first_media(&commands).expect("set");
    assert_eq!(media.codecs.iter().map(|codec| codec.payload_type.get()).collect::<Vec<_>>(), [127, 0]);
    assert_eq!(media.header_extensions.iter().map(|extension| extension.id).collect::<Vec<_>>(), [255]);
    assert_eq!((fixture.bridge.totals().left_out, fixture.bridge.totals().refused), (4, 0));
}

#[test]
fn sources_groups_and_names_without_end_are_cut() {
    let mut fixture = Fixture::with_endpoint();
    let ssrcs: String =
        (1..100).map(|n| format!("<source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='{n}'/>")).collect();
    let one = "<source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='1'/>";
    let group = format!("<ssrc-group xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' semantics='SIM'>{ssrcs}</ssrc-group>");
    let sources: String = (0..1_000)
        .map(|n| {
            let inner = if n == 0 { ssrcs.clone() + &group.repeat(100) } else { one.to_owned() };
            format!("<media-source type='video' id='a-v{n}'>{inner}</media-source>")
        })
        .collect();
    let long = format!("<media-source type='video' id='a-{}'>{}</media-source>", "v".repeat(5_000), one);
    let request =
        format!("<endpoint id='a' stats-id='{}'><sources>{long}{sources}</sources></endpoint>", "s".repeat(5_000));
    fixture.send(&format!("<conference-modify meeting-id='m'>{request}</conference-modify>")).unwrap();
    let commands = fixture.commands();
    let set =
        commands.iter().find_map(|c| if let Command::SetSources { sources, .. } = c { Some(sources) } else { None });
    let set = set.expect("set");
    assert_eq!((set.len(), set[0].encodings.len()), (Capacity::default().sources_per_endpoint, 16));
    assert!(set.iter().all(|source| source.name.len() < 20));
}

#[test]
fn one_bad_part_does_not_fail_an_update() {
    // What a client writes into its transport Jicofo hands on as it is, and a refused update moves the whole conference.
    let ice = "xmlns='urn:xmpp:jingle:transports:ice-udp:1'";
    let good = format!("<candidate {ice} ip='192.0.2.1' port='9' priority='1' protocol='udp'/>");
    let bad = [
        format!("<candidate {ice} ip='192.0.2.1' port='99999999999999999999'/>"),
        format!("<candidate {ice} ip='192.0.2.1' port='-1'/>"),
        format!("<candidate {ice} port='9'/>"),
        format!("<candidate {ice}/>"),
        "<fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0'>AB</fingerprint>".to_owned(),
        "<fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='sideways'>AB</fingerprint>".to_owned(),
        format!("<rtcp-mux {ice}/><rtcp-mux {ice}/>"),
    ];
    for bad in bad.iter().cloned().chain([bad.concat()]) {
        let mut fixture = Fixture::with_endpoint();
        let xml = format!(
            "<conference-modify xmlns='jitsi:colibri2' meeting-id='m'><endpoint id='a'><transport>\
             <transport {ice} ufrag='u' pwd='p'>{bad}{good}</transport></transport></endpoint></conference-modify>"
        );
        let (request, left_out) = ringbridge_controlplane::colibri::limits::read(&xml.parse().unwrap()).expect(&bad);
        assert!(left_out > 0 || bad.starts_with("<rtcp-mux"), "{bad}");
        fixture.bridge.handle(fixture.now, &request).expect(&bad);
        let commands = fixture.commands();
        let remote = commands.iter().find_map(|c| match c {
            Command::SetRemoteIce { credentials, candidates, .. } => Some((credentials.is_some(), candidates.len())),
            _ => None,
        });
        assert_eq!(remote, Some((true, 1)), "{bad}");
    }
    // Others: media, sources, last-n.
    for (bad, inner) in [
        ("format", "<media type='video'><payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='256'/></media>"),
        ("media type", "<media type='smell'/>"),
        (
            "source",
            "<sources><media-source type='video' id='a-v0'><source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='4294967296'/></media-source></sources>",
        ),
        ("two sets of sources", "<sources/><sources/>"),
        ("last-n", "<initial-last-n value='many'/>"),
        ("two transports", "<transport/><transport/>"),
    ] {
        let xml = format!(
            "<conference-modify xmlns='jitsi:colibri2' meeting-id='m'><endpoint id='a'>{inner}</endpoint></conference-modify>"
        );
        let (request, left_out) = ringbridge_controlplane::colibri::limits::read(&xml.parse().unwrap()).expect(bad);
        assert_eq!((left_out, request.endpoints.len()), (1, 1), "{bad}");
    }
    // Where the request itself is wrong it is refused.
    for xml in ["<conference-modify xmlns='jitsi:colibri2'/>", "<other xmlns='jitsi:colibri2' meeting-id='m'/>"] {
        assert!(ringbridge_controlplane::colibri::limits::read(&xml.parse().unwrap()).is_err());
    }
}

#[test]
fn candidates_fingerprints_and_credentials_are_bounded() {
    let mut fixture = Fixture::with_endpoint();
    let ice = "xmlns='urn:xmpp:jingle:transports:ice-udp:1'";
    let candidates: String =
        (1..5_000).map(|port| format!("<candidate {ice} ip='192.0.2.1' port='{port}' protocol='udp'/>")).collect();
    let fingerprints = "<fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256'>AB</fingerprint>".repeat(1_000);
    let long = "u".repeat(5_000);
    fixture
        .send(&format!(
            "<conference-modify meeting-id='m'><endpoint id='a'><transport><transport {ice} ufrag='{long}' pwd='{long}'>\
             {candidates}{fingerprints}</transport></transport></endpoint></conference-modify>"
        ))
        .unwrap();
    for output in fixture.outputs() {
        match output {
            Output::Command { command: Command::SetRemoteIce { credentials, candidates, .. }, .. } => {
                assert_eq!((credentials, candidates.len()), (None, 32));
            }
            Output::RemoteDtls { fingerprints, .. } => assert_eq!(fingerprints.len(), 8),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn sources_keep_to_the_names_of_their_endpoint() {
    let mut fixture = Fixture::with_endpoint();
    fixture.send(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", create("bob"))).unwrap();
    fixture.outputs();
    let source = |name: &str, ssrc: u32, extra: &str| {
        format!(
            "<media-source type='video' id='{name}'{extra}><source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='{ssrc}'/></media-source>"
        )
    };
    let mut names = |id: &str, sources: &str| {
        let endpoint = format!("<endpoint id='{id}'><sources>{sources}</sources></endpoint>");
        fixture.send(&format!("<conference-modify meeting-id='m'>{endpoint}</conference-modify>")).unwrap();
        let commands = fixture.commands();
        let set = commands
            .into_iter()
            .find_map(|c| if let Command::SetSources { sources, .. } = c { Some(sources) } else { None });
        set.expect("set").into_iter().map(|source| source.name).collect::<Vec<_>>()
    };
    assert_eq!(names("a", &(source("bob-v0", 1, "") + &source("a-v0", 2, ""))), ["a-v1", "a-v0"]);
    assert_eq!(names("bob", &source("bob-v0", 3, "")), ["bob-v0"]);
    assert_eq!(
        names("a", &(source("a-v0", 1, "") + &source("a-v0", 2, "") + &source("jvb-v0", 4, ""))),
        ["a-v0", "a-v1", "a-v2"]
    );
    // What Jicofo makes itself has names of another form, and says so.
    assert_eq!(names("a", &source("a-a0-fr", 9, " synthetic='true'")), ["a-a0-fr"]);
    assert_eq!(fixture.bridge.totals().sources_renamed, 3);
}

#[test]
fn ids_are_bounded_and_the_bridges_own_is_nobodys() {
    let long = "x".repeat(1_025);
    for id in ["jvb", "", &long] {
        let refusal = Fixture::with_endpoint()
            .refused(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", create(id)));
        is(&refusal, DefinedCondition::BadRequest, None);
    }
    for attributes in [format!("meeting-id='{long}'"), format!("meeting-id='n' name='r@{long}'")] {
        let refusal = Fixture::with_endpoint().refused(&format!("<conference-modify {attributes} create='true'/>"));
        is(&refusal, DefinedCondition::BadRequest, None);
    }
}

#[test]
fn endpoints_of_a_conference_are_bounded() {
    let mut fixture = Fixture::with_endpoint();
    let most = Capacity::default().endpoints_per_conference;
    for n in 1..most {
        fixture
            .send(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", create(&format!("e{n}"))))
            .unwrap();
    }
    let refusal = fixture.refused(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", create("more")));
    // Another bridge would not take it either: the newcomer alone fails, and nobody moves.
    is(&refusal, DefinedCondition::BadRequest, None);
    assert_eq!(fixture.bridge.totals().beyond.conference_endpoints, 1);
    let other = format!("<conference-modify meeting-id='n' create='true'>{}</conference-modify>", create("more"));
    fixture.send(&other).expect("another conference has room");
}

#[test]
fn a_bridge_without_room_refuses_before_it_gives_a_transport() {
    let capacity = Capacity { endpoints_per_worker: 2, ..Capacity::default() };
    let mut fixture = Fixture::taking(capacity, 2, 50, true);
    fixture.send(&join("m", true, "a")).unwrap();
    for id in ["b", "c", "d"] {
        assert!(fixture.bridge.has_room());
        fixture.send(&join("m", false, id)).expect(id);
    }
    assert!(!fixture.bridge.has_room());
    fixture.outputs();
    // Jicofo and our focus take the conference to another bridge.
    is(&fixture.refused(&join("m", false, "e")), DefinedCondition::ResourceConstraint, None);
    is(&fixture.refused(&join("n", true, "e")), DefinedCondition::ResourceConstraint, None);
    assert!(fixture.outputs().is_empty(), "a refused request changes nothing");
    assert_eq!(fixture.bridge.conference_count(), 1, "no conference that nobody can be in");
    let totals = fixture.bridge.totals();
    assert_eq!((totals.beyond.endpoints, totals.refused, totals.endpoints), (2, 0, 4));
    // Updates are served as before, and whoever leaves makes room.
    fixture
        .send("<conference-modify meeting-id='m'><endpoint id='a'><transport/></endpoint></conference-modify>")
        .unwrap();
    fixture.send("<conference-modify meeting-id='m'><endpoint id='b' expire='true'/></conference-modify>").unwrap();
    fixture.send(&join("n", true, "e")).expect("room");
}

#[test]
fn an_endpoint_that_its_worker_refuses_is_expired_and_its_focus_told() {
    let mut fixture = Fixture::with_endpoint();
    let reply = fixture.send(&join("m", false, "b")).unwrap();
    assert!(reply.endpoints[0].transport.is_some());
    fixture.outputs();
    // The worker knows better than we what it takes.
    fixture.bridge.handle_refused(EndpointId(2), CreateError::WorkerFull);
    let outputs = fixture.outputs();
    let gone = |o: &Output| matches!(o, Output::EndpointExpired { endpoint } if endpoint.label == "b");
    assert!(outputs.iter().any(gone), "its channel and its DTLS session end: {outputs:?}");
    let refusal = fixture.refused(
        "<conference-modify meeting-id='m'><endpoint id='b'><transport/><sources/></endpoint></conference-modify>",
    );
    is(&refusal, DefinedCondition::ItemNotFound, Some(Reason::UnknownEndpoint));
    assert_eq!(refusal.endpoint.as_deref(), Some("b"), "that one is invited again, and nobody else");
    is(&fixture.refused(&join("m", false, "b")), DefinedCondition::ResourceConstraint, None);
    assert_eq!((fixture.bridge.totals().revoked, fixture.bridge.endpoint_count()), (1, 1));
    // The only worker has room again when somebody leaves it.
    fixture.send("<conference-modify meeting-id='m'><endpoint id='a' expire='true'/></conference-modify>").unwrap();
    fixture.send(&join("n", true, "b")).expect("room");
    // Other errors are about that endpoint, and the worker takes others.
    fixture.outputs();
    for (id, error) in [(3, CreateError::Taken), (4, CreateError::ConferenceFull), (5, CreateError::UnknownConference)]
    {
        fixture.bridge.handle_refused(EndpointId(id), error);
        fixture.send(&join("n", false, "b")).expect("room");
    }
    fixture.bridge.handle_refused(EndpointId(3), CreateError::Taken);
    assert_eq!((fixture.bridge.totals().revoked, fixture.bridge.endpoint_count()), (4, 1), "once each");
}

#[test]
fn sources_that_no_worker_would_forward_are_left_out() {
    let mut fixture = Fixture::with_endpoint();
    let most = Capacity::default().sources_per_endpoint;
    let source = |n: usize| {
        format!(
            "<media-source type='audio' id='a-a{n}'><source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='{}'/></media-source>",
            100 + n
        )
    };
    let sources: String = (0..most + 3).map(source).collect();
    let update = format!(
        "<conference-modify meeting-id='m'><endpoint id='a'><sources>{sources}</sources></endpoint></conference-modify>"
    );
    fixture.send(&update).expect("an update is never refused for it");
    let commands = fixture.commands();
    let [Command::SetSources { sources, .. }] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!((sources.len(), fixture.bridge.totals().left_out), (most, 3));
}
