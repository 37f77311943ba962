//! The colibri2 state machine: every row of docs/protocol/bridge.md 3.5, ordering, transports, expiry.

use std::time::{Duration, Instant};

use ringbridge_controlplane::colibri::bridge::{ColibriBridge, ColibriConfig, Output, Reply};
use ringbridge_controlplane::colibri::elements::*;
use ringbridge_controlplane::colibri::identity::EndpointIdentity;
use ringbridge_controlplane::colibri::refusal::Refusal;
use ringbridge_controlplane::colibri::transport::LocalTransport;
use ringbridge_dataplane::Capacity;
use ringbridge_dataplane::ice::IceState;
use ringbridge_dataplane::ids::{EndpointId, Ssrc};
use ringbridge_dataplane::messages::{Command, CreateError};
use tokio_xmpp::minidom::Element;
use xmpp_parsers::stanza_error::DefinedCondition;

struct Fixture {
    bridge: ColibriBridge,
    now: Instant,
}

impl Fixture {
    fn new(workers: usize) -> Self {
        Self::spilling(workers, 50)
    }

    fn spilling(workers: usize, spill_endpoints: usize) -> Self {
        Self::with(workers, spill_endpoints, true)
    }

    fn with(workers: usize, spill_endpoints: usize, sctp: bool) -> Self {
        Self::taking(Capacity::default(), workers, spill_endpoints, sctp)
    }

    fn taking(capacity: Capacity, workers: usize, spill_endpoints: usize, sctp: bool) -> Self {
        let now = Instant::now();
        let config = ColibriConfig {
            transport: LocalTransport {
                local_addresses: vec!["127.0.0.1".parse().unwrap()],
                public_addresses: vec![],
                advertise_private: true,
                port: 10_000,
                fingerprint: "AB:CD".to_owned(),
                websocket_base_url: "ws://127.0.0.1:9090".to_owned(),
                websocket_server_id: "jvb1".to_owned(),
            },
            workers,
            spill_endpoints,
            capacity,
            audio_ssrcs: 50,
            video_ssrcs: 50,
            sctp,
            ice_restart: true,
            ufrag_prefix: |worker| char::from_digit(worker as u32, 36).unwrap().to_string(),
        };
        Self { bridge: ColibriBridge::new(now, config), now }
    }

    /// Whatever the answer is, the bridge's tables agree.
    fn send(&mut self, xml: &str) -> Reply {
        let element: Element =
            xml.replacen("<conference-modify ", "<conference-modify xmlns='jitsi:colibri2' ", 1).parse().unwrap();
        let request = ConferenceModify::try_from(element).unwrap();
        let reply = self.bridge.handle(self.now, &request);
        assert_eq!(self.bridge.inconsistency(), None, "after {xml}");
        reply
    }

    fn refused(&mut self, xml: &str) -> Refusal {
        self.send(xml).expect_err(xml)
    }

    fn outputs(&mut self) -> Vec<Output> {
        assert_eq!(self.bridge.inconsistency(), None);
        std::iter::from_fn(|| self.bridge.poll_output()).collect()
    }

    fn commands(&mut self) -> Vec<Command> {
        self.outputs()
            .into_iter()
            .filter_map(|o| if let Output::Command { command, .. } = o { Some(command) } else { None })
            .collect()
    }

    /// A conference `m` with the endpoint `a`.
    fn with_endpoint() -> Self {
        Self::with_endpoint_and(true)
    }

    fn with_endpoint_and(sctp: bool) -> Self {
        let mut fixture = Self::with(1, 50, sctp);
        fixture
            .send(&format!(
                "<conference-modify meeting-id='m' name='room@conference.x' create='true'>{}</conference-modify>",
                create("a")
            ))
            .unwrap();
        fixture.outputs();
        fixture
    }
}

fn create(id: &str) -> String {
    format!(
        "<endpoint id='{id}' create='true'><transport ice-controlling='true'/><capability name='source-names'/></endpoint>"
    )
}

fn is(refusal: &Refusal, condition: DefinedCondition, reason: Option<Reason>) {
    assert_eq!((&refusal.condition, refusal.reason), (&condition, reason), "{refusal:?}");
    // And as an element, as it goes to Jicofo.
    let error = refusal.to_stanza_error();
    assert_eq!(error.defined_condition, condition);
    let found = error.other.map(|e| ColibriError::try_from(e).unwrap());
    assert_eq!(found.as_ref().and_then(|e| e.reason), reason);
    assert_eq!(found.and_then(|e| e.endpoint).map(|e| e.id), refusal.endpoint);
}

#[test]
fn create_of_an_existing_meeting() {
    let refusal = Fixture::with_endpoint().refused("<conference-modify meeting-id='m' create='true'/>");
    is(&refusal, DefinedCondition::Conflict, Some(Reason::ConferenceAlreadyExists));
}

#[test]
fn unknown_meeting() {
    let refusal = Fixture::with_endpoint().refused("<conference-modify meeting-id='n'/>");
    is(&refusal, DefinedCondition::ItemNotFound, Some(Reason::ConferenceNotFound));
}

#[test]
fn create_during_graceful_shutdown() {
    let mut fixture = Fixture::with_endpoint();
    fixture.bridge.set_graceful_shutdown(true);
    let refusal = fixture.refused("<conference-modify meeting-id='n' create='true'/>");
    is(&refusal, DefinedCondition::ServiceUnavailable, Some(Reason::GracefulShutdown));
    // New endpoints of existing conferences are still welcome.
    fixture.send(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", create("b"))).unwrap();
}

#[test]
fn update_of_an_unknown_endpoint() {
    for content in ["<transport/>", "<sources/>", "<media type='audio'/>"] {
        let refusal = Fixture::with_endpoint().refused(&format!(
            "<conference-modify meeting-id='m'><endpoint id='zz'>{content}</endpoint></conference-modify>"
        ));
        is(&refusal, DefinedCondition::ItemNotFound, Some(Reason::UnknownEndpoint));
        assert_eq!(refusal.endpoint.as_deref(), Some("zz"));
    }
}

#[test]
fn light_requests_for_unknown_endpoints_are_answered() {
    let mut fixture = Fixture::with_endpoint();
    let reply = fixture
        .send("<conference-modify meeting-id='m'><endpoint id='a'><force-mute audio='true'/></endpoint>\
               <endpoint id='zz'><force-mute audio='true'/></endpoint><endpoint id='yy' expire='true'/></conference-modify>")
        .unwrap();
    let expired = Endpoint { expire: true, ..Endpoint::new("yy") };
    assert_eq!(reply.endpoints, [Endpoint::new("a"), Endpoint::new("zz"), expired]);
    assert_eq!(reply.sources, None);
    assert!(matches!(fixture.commands()[..], [Command::SetForceMute { audio: true, video: false, .. }]));
}

#[test]
fn combinations_that_are_not_served() {
    let feature = Some(Reason::FeatureNotImplemented);
    for content in [
        "<endpoint id='a'/><relay id='r' create='true'/>".to_owned(),
        format!("<endpoint id='a'/>{}", create("b")),
        "<endpoint id='a'><sources/></endpoint><endpoint id='b'/>".to_owned(),
        "<relay id='r'/><relay id='s'/>".to_owned(),
    ] {
        let refusal = Fixture::with_endpoint()
            .refused(&format!("<conference-modify meeting-id='m'>{content}</conference-modify>"));
        is(&refusal, DefinedCondition::FeatureNotImplemented, feature);
    }
    let refusal = Fixture::with_endpoint()
        .refused("<conference-modify meeting-id='m'><relay id='r' create='true'/></conference-modify>");
    is(&refusal, DefinedCondition::FeatureNotImplemented, None);
}

#[test]
fn endpoint_exists() {
    let mut fixture = Fixture::with_endpoint();
    let refusal = fixture.refused(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", create("a")));
    is(&refusal, DefinedCondition::Conflict, None);
    assert!(fixture.outputs().is_empty(), "a refused request changes nothing");
}

#[test]
fn bad_requests() {
    for endpoint in [
        "<endpoint id='b' create='true'><capability name='source-names'/></endpoint>",
        "<endpoint id='b' create='true'><transport/></endpoint>",
        "<endpoint id='b' create='true'><transport><sctp port='5001'/></transport><capability name='source-names'/></endpoint>",
        "<endpoint id='b' create='true' muc-role='visitor'><transport/><capability name='source-names'/><sources>\
         <media-source type='audio' id='b-a0'/></sources></endpoint>",
    ] {
        let mut fixture = Fixture::with_endpoint();
        let refusal = fixture.refused(&format!("<conference-modify meeting-id='m'>{endpoint}</conference-modify>"));
        is(&refusal, DefinedCondition::BadRequest, None);
        assert!(fixture.outputs().is_empty(), "a refused request changes nothing");
    }
    for name in ["conference.x", "room@conference.x/nick", "@"] {
        let refusal =
            Fixture::new(1).refused(&format!("<conference-modify meeting-id='m' name='{name}' create='true'/>"));
        is(&refusal, DefinedCondition::BadRequest, None);
    }
}

/// A request that creates `b` with this `<sctp/>`.
fn with_sctp(sctp: &str) -> String {
    format!(
        "<conference-modify meeting-id='m'><endpoint id='b' create='true'><transport>{sctp}</transport>\
         <capability name='source-names'/></endpoint></conference-modify>"
    )
}

#[test]
fn a_data_channel_is_answered_with_its_port_when_asked_for() {
    for (asked, served) in [("<sctp/>", true), ("<sctp port='5000' role='server'/>", true), ("", false)] {
        let mut fixture = Fixture::with_endpoint();
        let reply = fixture.send(&with_sctp(asked)).expect("served");
        let sctp = reply.endpoints[0].transport.as_ref().expect("transport").sctp.clone();
        let expected = served.then_some(Sctp { port: Some(5000), role: Some(SctpRole::Server) });
        assert_eq!(sctp, expected, "{asked}");
        let outputs = fixture.outputs();
        let created = outputs.iter().find_map(|o| match o {
            Output::EndpointCreated { sctp, .. } => Some(*sctp),
            _ => None,
        });
        assert_eq!(created, Some(served));
    }
}

#[test]
fn sctp_is_declined_as_by_jitsi_videobridge_when_off_or_reversed() {
    let mut off = Fixture::with_endpoint_and(false);
    for sctp in ["<sctp/>", "<sctp port='5000' role='server'/>", "<sctp role='client'/>"] {
        is(&off.refused(&with_sctp(sctp)), DefinedCondition::FeatureNotImplemented, None);
    }
    let reversed = Fixture::with_endpoint().refused(&with_sctp("<sctp role='client'/>"));
    is(&reversed, DefinedCondition::FeatureNotImplemented, None);
}

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
            ice.web_sockets[0].url,
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

impl Fixture {
    /// Lets time pass with the checks that the bridge asks for; commands of expiry.
    fn pass(&mut self, seconds: u64) -> Vec<Command> {
        let end = self.now + Duration::from_secs(seconds);
        while self.bridge.poll_timeout() <= end {
            self.now = self.bridge.poll_timeout();
            self.bridge.handle_timeout(self.now);
        }
        self.now = end;
        self.commands()
    }
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
    let formats = commands
        .iter()
        .filter(|c| matches!(c, Command::SetMedia { media, .. } if media.payload_types.len() == 10))
        .count();
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

/// An update of one endpoint.
fn update(id: &str, content: &str) -> String {
    format!("<conference-modify meeting-id='m'><endpoint id='{id}'>{content}</endpoint></conference-modify>")
}

const OPUS: &str = "<media type='audio'><payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='111' name='opus' \
    clockrate='48000' channels='2'/></media>";

fn sources(id: &str, ssrc: u32) -> String {
    format!(
        "<sources><media-source type='audio' id='{id}-a0'>\
        <source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='{ssrc}'/></media-source></sources>"
    )
}

impl Fixture {
    /// Commands with their workers.
    fn sent(&mut self) -> Vec<(usize, Command)> {
        let command = |o| if let Output::Command { worker, command } = o { Some((worker, command)) } else { None };
        self.outputs().into_iter().filter_map(command).collect()
    }
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

    // The third one lives elsewhere. That worker is told of the others, and worker 0 of it.
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

// --- bounds ---------------------------------------------------------------------------------------------------------------

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
    assert_eq!((media.payload_types.len(), media.header_extensions.len()), (64, 32));
    assert_eq!((media.payload_types[0].parameters.len(), media.payload_types[0].feedback.len()), (32, 16));
    assert!(fixture.bridge.totals().left_out > 1_000);
    assert_eq!(fixture.bridge.totals().refused, 0, "Jicofo would invite everybody again");
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
        "<web-socket xmlns='http://jitsi.org/protocol/colibri'/>".to_owned(),
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

fn join(meeting: &str, first: bool, id: &str) -> String {
    let first = if first { "create='true'" } else { "" };
    format!("<conference-modify meeting-id='{meeting}' {first}>{}</conference-modify>", create(id))
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

/// Our focus tells which sources a client does not know yet.
#[test]
fn media_waits_for_clients_to_be_told_and_not_for_ever() {
    let mut fixture = Fixture::with_endpoint();
    fixture.send(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", create("b"))).unwrap();
    fixture.outputs();
    let untold = |id: &str, names: &[&str]| {
        let sources: String = names.iter().map(|name| format!("<source name='{name}'/>")).collect();
        format!("<endpoint id='{id}'><untold xmlns='urn:ringbridge:colibri:0'>{sources}</untold></endpoint>")
    };
    let said = |fixture: &mut Fixture| -> Vec<(u32, Vec<String>)> {
        let commands = fixture.commands().into_iter();
        commands
            .filter_map(|command| match command {
                Command::SetUntold { endpoint, sources } => Some((endpoint.0, sources)),
                _ => None,
            })
            .collect()
    };
    let both = format!("{}{}", untold("a", &["b-a0"]), untold("b", &["a-a0", "a-v0"]));
    fixture.send(&format!("<conference-modify meeting-id='m'>{both}</conference-modify>")).unwrap();
    let (a, b) = (vec!["b-a0".to_owned()], vec!["a-a0".to_owned(), "a-v0".to_owned()]);
    assert_eq!(said(&mut fixture), [(1, a), (2, b.clone())]);
    // The same again says nothing new; the end of a wait does.
    fixture.send(&format!("<conference-modify meeting-id='m'>{both}</conference-modify>")).unwrap();
    assert_eq!(said(&mut fixture), []);
    fixture.send(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", untold("a", &[]))).unwrap();
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
    fixture.send(&format!("<conference-modify meeting-id='m'>{}</conference-modify>", untold("a", &many))).unwrap();
    assert_eq!(said(&mut fixture)[0].1.len(), 500);
    assert_eq!(fixture.bridge.totals().left_out, 101);
}
