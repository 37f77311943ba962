//! What a request leads to: transports, commands in order, spilling, expiry.

use super::fixture::*;

#[test]
fn a_create_is_answered_with_a_transport_of_the_owning_worker() {
    let mut fixture = Fixture::new(3);
    let mut workers = Vec::new();
    for meeting in ["m0", "m1", "m2", "m3"] {
        let reply = fixture
            .send(&format!(
                "<conference-modify meeting-id='{meeting}' create='true'>{}</conference-modify>",
                create("a")
            ))
            .unwrap();
        let transport = reply.endpoints[0].transport.clone().unwrap();
        assert!(!transport.ice_controlling);
        let ice = transport.ice.unwrap();
        let outputs = fixture.outputs();
        let [
            Output::Command { worker, command: Command::CreateConference { conference, feedback } },
            Output::Command { worker: second, command: Command::CreateEndpoint(new) },
            Output::EndpointCreated { endpoint: who, password, .. },
        ] = &outputs[..]
        else {
            panic!("{outputs:?}")
        };
        let EndpointIdentity { id: endpoint, conference_hex, label, worker: third, .. } = &**who;
        assert!(worker == second && worker == third);
        assert_eq!((new.conference, new.endpoint, new.controlling), (*conference, *endpoint, true));
        assert_eq!(ice.ufrag.as_ref(), Some(&new.ice.ufrag));
        assert_eq!(ice.pwd.as_ref(), Some(&new.ice.pwd));
        assert!(new.ice.pwd.len() >= 22 && new.ice.ufrag.len() >= 4, "RFC 8445 section 5.3");
        assert!(new.ice.ufrag.starts_with(&worker.to_string()));
        assert_eq!(
            ice.web_sockets[0].address(),
            format!("ws://127.0.0.1:9090/colibri-ws/jvb1/{conference_hex}/{label}?pwd={password}")
        );
        assert_eq!(password.len(), 24);
        assert!(ice.rtcp_mux);
        let ssrcs: Vec<_> =
            reply.sources.unwrap().media_sources.iter().map(|s| (s.id.clone(), s.sources[0].ssrc)).collect();
        assert_eq!(ssrcs, [("jvb-a0".to_owned(), feedback.audio.get()), ("jvb-v0".to_owned(), feedback.video.get())]);
        workers.push(*worker);
    }
    workers.sort_unstable();
    assert_eq!(workers, [0, 0, 1, 2], "conferences go to the least loaded worker");
}

#[test]
fn an_update_reaches_the_worker_in_order_and_once() {
    let mut fixture = Fixture::with_endpoint();
    let update = "<conference-modify meeting-id='m'><endpoint id='a'><transport>\
        <transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='uu' pwd='pppp'>\
        <fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='active'>AA:BB</fingerprint></transport></transport>\
        <sources><media-source type='audio' id='a-a0'><source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='7'/></media-source></sources>\
        <initial-last-n value='20'/></endpoint></conference-modify>";
    let reply = fixture.send(update).unwrap();
    assert_eq!(reply, ConferenceModified { endpoints: vec![Endpoint::new("a")], ..ConferenceModified::default() });
    let outputs = fixture.outputs();
    assert!(
        matches!(&outputs[0], Output::Command { command: Command::SetRemoteIce { credentials: Some(c), .. }, .. } if c.ufrag == "uu")
    );
    assert!(
        matches!(&outputs[1], Output::Command { command: Command::SetSources { sources, .. }, .. } if sources[0].encodings[0].ssrc == Ssrc::new(7))
    );
    assert!(outputs.iter().any(|o| matches!(o, Output::InitialLastN { last_n: 20, .. })));
    assert!(outputs.iter().any(|o| matches!(o, Output::RemoteDtls { setup: Some(Setup::Active), .. })));
    fixture.send(update).unwrap();
    assert_eq!(fixture.commands(), [], "the same again changes nothing for the worker");

    // Established: ICE is left alone, DTLS fields still count.
    fixture.bridge.handle_ice(fixture.now, EndpointId(1), IceState::Connected);
    fixture.send(&update.replace("'uu'", "'vv'")).unwrap();
    let outputs = fixture.outputs();
    assert!(!outputs.iter().any(|o| matches!(o, Output::Command { .. })), "{outputs:?}");
    assert!(outputs.iter().any(|o| matches!(o, Output::RemoteDtls { .. })));

    // An empty element clears the sources.
    fixture
        .send("<conference-modify meeting-id='m'><endpoint id='a'><sources/></endpoint></conference-modify>")
        .unwrap();
    assert!(matches!(&fixture.commands()[..], [Command::SetSources { sources, .. }] if sources.is_empty()));
}

#[test]
fn the_last_endpoint_ends_the_conference() {
    let mut fixture = Fixture::with_endpoint();
    let reply =
        fixture.send("<conference-modify meeting-id='m'><endpoint id='a' expire='true'/></conference-modify>").unwrap();
    assert!(reply.endpoints[0].expire);
    assert!(matches!(fixture.commands()[..], [Command::ExpireEndpoint { .. }, Command::ExpireConference { .. }]));
    let refusal = fixture.refused("<conference-modify meeting-id='m'/>");
    is(&refusal, DefinedCondition::ItemNotFound, Some(Reason::ConferenceNotFound));
}

#[test]
fn expiring_the_conference_ends_its_endpoints() {
    let mut fixture = Fixture::with_endpoint();
    fixture.send("<conference-modify meeting-id='m' expire='true'/>").unwrap();
    let outputs = fixture.outputs();
    assert!(
        matches!(&outputs[..], [Output::Command { command: Command::ExpireConference { .. }, .. }, Output::EndpointExpired { endpoint }] if endpoint.label == "a")
    );
    assert_eq!(fixture.bridge.totals().endpoints, 0);
}

#[test]
fn endpoints_without_activity_expire() {
    let mut fixture = Fixture::with_endpoint();
    assert_eq!(fixture.pass(119), []);
    let expired = fixture.pass(61);
    assert!(matches!(expired[..], [Command::ExpireEndpoint { .. }, Command::ExpireConference { .. }]), "{expired:?}");

    let mut fixture = Fixture::with_endpoint();
    fixture.bridge.handle_activity(fixture.now, EndpointId(1), true);
    assert_eq!(fixture.pass(600), [], "active");
    fixture.bridge.handle_activity(fixture.now, EndpointId(1), false);
    assert_eq!(fixture.pass(59), []);
    fixture.bridge.handle_activity(fixture.now, EndpointId(1), true);
    assert_eq!(fixture.pass(600), [], "active again");
    fixture.bridge.handle_activity(fixture.now, EndpointId(1), false);
    assert!(matches!(fixture.pass(121)[..], [Command::ExpireEndpoint { .. }, Command::ExpireConference { .. }]));
}

#[test]
fn empty_conferences_expire_at_the_check_after_20_s() {
    let mut fixture = Fixture::new(1);
    fixture.now += Duration::from_secs(45);
    fixture.send("<conference-modify meeting-id='m' create='true'/>").unwrap();
    fixture.outputs();
    assert_eq!(fixture.pass(15), [], "the first check finds it 15 s old");
    assert!(matches!(fixture.pass(60)[..], [Command::ExpireConference { .. }]));
}

/// Everything that was asked of Jitsi Videobridge in the recordings is served.
#[test]
fn recorded_requests_are_served_in_order() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures/three-party-vp8/xmpp.xml");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: no fixture at {path}");
        return;
    };
    let mut fixture = Fixture::new(2);
    let mut created = 0;
    for line in
        text.split_inclusive("</x>\n").filter(|l| l.contains("via=\"recv\"") && l.contains("<conference-modify "))
    {
        let (start, end) = (line.find("<conference-modify ").unwrap(), line.find("</conference-modify>"));
        let xml = match end {
            Some(end) => &line[start..end + "</conference-modify>".len()],
            None => &line[start..start + line[start..].find("/>").unwrap() + 2],
        };
        let element: Element = xml.parse().unwrap();
        let request = ConferenceModify::try_from(element).unwrap();
        let reply = fixture.bridge.handle(fixture.now, &request).unwrap_or_else(|e| panic!("{e:?}: {xml}"));
        assert_eq!(reply.endpoints.len(), request.endpoints.len());
        for (asked, answer) in request.endpoints.iter().zip(&reply.endpoints) {
            assert_eq!(asked.id, answer.id);
            assert_eq!(asked.create, answer.transport.is_some());
            created += usize::from(asked.create);
        }
    }
    assert_eq!(created, 3);
    let commands = fixture.commands();
    let formats =
        commands.iter().filter(|c| matches!(c, Command::SetMedia { media, .. } if media.codecs.len() == 10)).count();
    assert_eq!(formats, 3, "eight video and two audio formats each");
    let simulcast = commands
        .iter()
        .filter(|c| {
            matches!(c, Command::SetSources { sources, .. }
        if sources.iter().any(|s| s.encodings.len() == 3 && s.encodings.iter().all(|e| e.rtx.is_some())))
        })
        .count();
    assert_eq!(simulcast, 3);
}

#[test]
fn a_conference_that_outgrows_its_worker_spills() {
    let mut fixture = Fixture::spilling(2, 2);
    fixture.send("<conference-modify meeting-id='m' create='true'/>").unwrap();
    for (id, ssrc) in [("a", 1), ("b", 2)] {
        fixture.send(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", create(id))).unwrap();
        fixture.send(&update(id, &(OPUS.to_owned() + &sources(id, ssrc)))).unwrap();
    }
    assert!(fixture.sent().iter().all(|(worker, _)| *worker == 0), "it fits");

    // The third one lives elsewhere. That worker learns of the others, and worker 0 of it.
    let reply =
        fixture.send(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", create("c"))).unwrap();
    let ufrag = reply.endpoints[0].transport.clone().unwrap().ice.unwrap().ufrag.unwrap();
    assert!(ufrag.starts_with('1'), "{ufrag}");
    let outputs = fixture.outputs();
    assert!(outputs.iter().any(
        |o| matches!(o, Output::EndpointCreated { endpoint, .. } if endpoint.worker == 1 && endpoint.label == "c")
    ));
    let described: Vec<String> = outputs
        .iter()
        .filter_map(|o| if let Output::Command { worker, command } = o { Some((worker, command)) } else { None })
        .map(|(worker, command)| match command {
            Command::CreateConference { .. } => format!("{worker}: conference"),
            Command::CreateEndpoint(new) => format!("{worker}: {}", new.label),
            Command::CreateRemoteEndpoint { endpoint, home, .. } => format!("{worker}: {endpoint} at {home}"),
            Command::SetMedia { endpoint, .. } => format!("{worker}: media of {endpoint}"),
            Command::SetSources { endpoint, .. } => format!("{worker}: sources of {endpoint}"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        described,
        [
            "1: conference",
            "1: endpoint-1 at 0",
            "1: media of endpoint-1",
            "1: sources of endpoint-1",
            "1: endpoint-2 at 0",
            "1: media of endpoint-2",
            "1: sources of endpoint-2",
            "1: c",
            "0: endpoint-3 at 1",
        ]
    );

    // What all must know goes to all, what is its home's own business to its home.
    let transport = "<transport><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='uu' pwd='pppp'/></transport>\
        <force-mute audio='true' video='false'/>";
    fixture.send(&update("c", &(OPUS.to_owned() + &sources("c", 3) + transport))).unwrap();
    let sent = fixture.sent();
    let to = |shared: bool| -> Vec<usize> {
        let mut to: Vec<_> = sent.iter().filter(|(_, c)| c.is_shared() == shared).map(|(worker, _)| *worker).collect();
        to.sort_unstable();
        to
    };
    assert_eq!((to(true), to(false)), (vec![0, 0, 1, 1], vec![1, 1]), "{sent:?}");
    fixture.bridge.set_video_type(EndpointId(3), "c-a0", ringbridge_dataplane::media::VideoType::Desktop);
    assert_eq!(fixture.sent().len(), 2);

    // The last one over there takes the conference along, and the rest goes on.
    fixture.send("<conference-modify meeting-id='m'><endpoint id='c' expire='true'/></conference-modify>").unwrap();
    let sent = fixture.sent();
    assert!(
        matches!(
            sent[..],
            [
                (0, Command::ExpireEndpoint { endpoint: EndpointId(3) }),
                (1, Command::ExpireEndpoint { endpoint: EndpointId(3) }),
                (1, Command::ExpireConference { .. })
            ]
        ),
        "{sent:?}"
    );
    fixture.send(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", create("d"))).unwrap();
    assert!(matches!(fixture.sent()[0], (1, Command::CreateConference { .. })));
    fixture.send("<conference-modify meeting-id='m' expire='true'/>").unwrap();
    let ended: Vec<_> = fixture.sent().into_iter().map(|(worker, _)| worker).collect();
    assert_eq!(ended, [0, 1]);
    // Nothing is left on either: the next two conferences go to one each.
    for (meeting, worker) in [("n", 0), ("o", 1)] {
        let name =
            format!("<conference-modify meeting-id='{meeting}' create='true'>{}</conference-modify>", create("a"));
        fixture.send(&name).unwrap();
        assert!(fixture.sent().iter().all(|(to, _)| *to == worker));
    }
}

#[test]
fn a_busy_worker_spills_before_its_share_is_full() {
    let mut fixture = Fixture::spilling(2, 50);
    fixture.send("<conference-modify meeting-id='m' create='true'/>").unwrap();
    let mut homes = Vec::new();
    for (n, stress) in [(1, [0.1, 0.0]), (2, [0.9, 0.2]), (3, [0.9, 0.95]), (4, [0.3, 0.3])] {
        fixture.bridge.set_stress(stress);
        fixture
            .send(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", create(&format!("e{n}"))))
            .unwrap();
        homes.extend(fixture.outputs().iter().find_map(|o| match o {
            Output::EndpointCreated { endpoint, .. } => Some(endpoint.worker),
            _ => None,
        }));
    }
    assert_eq!(homes, [0, 1, 0, 0]);
}

#[test]
fn ssrc_rewriting_is_for_those_who_ask_for_it() {
    let mut fixture = Fixture::new(1);
    let having = |id: &str, capabilities: &[&str]| {
        let capabilities: String = capabilities.iter().map(|name| format!("<capability name='{name}'/>")).collect();
        create(id).replace("<transport", &format!("{capabilities}<transport"))
    };
    let room = "name='room@conference.x' create='true'";
    for (attributes, endpoint) in [
        (room, create("a")),
        ("", having("b", &["ssrc-rewriting"])),
        ("", having("c", &["ssrc-rewriting", "rtp-mid-demux"])),
        ("", having("d", &["rtp-mid-demux"])),
    ] {
        fixture
            .send(&format!("<conference-modify meeting-id='m' {attributes}>{endpoint}</conference-modify>"))
            .unwrap();
    }
    let commands = fixture.commands();
    let asked: Vec<_> = commands
        .iter()
        .enumerate()
        .filter_map(|(at, command)| match command {
            Command::SetSsrcRewriting { endpoint, rewriting } => {
                Some((at, *endpoint, (rewriting.audio, rewriting.video, rewriting.mids)))
            }
            _ => None,
        })
        .collect();
    let created = |label: &str| {
        let found = commands.iter().enumerate().find_map(|(at, command)| match command {
            Command::CreateEndpoint(new) if new.label == label => Some((at, new.endpoint)),
            _ => None,
        });
        found.unwrap()
    };
    let ((b, b_id), (c, c_id)) = (created("b"), created("c"));
    let expected = [(b + 1, b_id, (50, 50, false)), (c + 1, c_id, (50, 50, true))];
    assert_eq!(asked, expected, "before anything else is known of it; media sections only with SSRC rewriting");
}

/// Our focus names the sources that were not signalled to a client yet.
#[test]
fn media_waits_for_clients_to_be_told_and_not_for_ever() {
    let mut fixture = Fixture::with_endpoint();
    fixture.send(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", create("b"))).unwrap();
    fixture.outputs();
    let unsignalled = |id: &str, names: &[&str]| {
        let sources: String = names.iter().map(|name| format!("<source name='{name}'/>")).collect();
        format!("<endpoint id='{id}'><untold xmlns='urn:ringbridge:colibri:0'>{sources}</untold></endpoint>")
    };
    let said = |fixture: &mut Fixture| -> Vec<(u32, Vec<String>)> {
        let commands = fixture.commands().into_iter();
        commands
            .filter_map(|command| match command {
                Command::SetUnsignalled { endpoint, sources } => Some((endpoint.0, sources)),
                _ => None,
            })
            .collect()
    };
    let both = format!("{}{}", unsignalled("a", &["b-a0"]), unsignalled("b", &["a-a0", "a-v0"]));
    fixture.send(&format!("<conference-modify meeting-id='m'>{both}</conference-modify>")).unwrap();
    let (a, b) = (vec!["b-a0".to_owned()], vec!["a-a0".to_owned(), "a-v0".to_owned()]);
    assert_eq!(said(&mut fixture), [(1, a), (2, b.clone())]);
    // The same again says nothing new; the end of a wait does.
    fixture.send(&format!("<conference-modify meeting-id='m'>{both}</conference-modify>")).unwrap();
    assert_eq!(said(&mut fixture), []);
    fixture.send(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", unsignalled("a", &[]))).unwrap();
    assert_eq!(said(&mut fixture), [(1, vec![])]);
    // A focus that says nothing more does not keep media back for ever.
    let due = fixture.bridge.poll_timeout();
    assert_eq!(due, fixture.now + Duration::from_secs(5));
    fixture.bridge.handle_timeout(due - Duration::from_millis(1));
    assert_eq!(said(&mut fixture), []);
    fixture.bridge.handle_timeout(due);
    assert_eq!(said(&mut fixture), [(2, vec![])]);
    assert!(fixture.bridge.poll_timeout() > due + Duration::from_secs(10), "nothing is waited for");

    // Bounded, as everything else.
    let many: Vec<String> =
        (0..600).map(|n| format!("s{n}")).chain([String::from_utf8(vec![b'x'; 300]).unwrap()]).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    fixture
        .send(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", unsignalled("a", &many)))
        .unwrap();
    assert_eq!(said(&mut fixture)[0].1.len(), 500);
    assert_eq!(fixture.bridge.totals().left_out, 101);
}
