//! ICE restarts in place over colibri2 (docs/protocol/bridge.md 4.6): what a focus asks, and what it and the worker get.

use std::time::{Duration, Instant};

use ringbridge_controlplane::colibri::bridge::{ColibriBridge, ColibriConfig, Output};
use ringbridge_controlplane::colibri::elements::*;
use ringbridge_controlplane::colibri::refusal::Refusal;
use ringbridge_controlplane::colibri::restart::RestartTotals;
use ringbridge_controlplane::colibri::transport::LocalTransport;
use ringbridge_dataplane::ice::{IceState, RestartOutcome};
use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::messages::Command;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::stanza_error::DefinedCondition;

const ID: EndpointId = EndpointId(1);
const ICE: &str = "xmlns='urn:xmpp:jingle:transports:ice-udp:1'";
const RESTART: &str = "<endpoint id='a'><transport ice-restart='true'/></endpoint>";
const CANDIDATE: &str = "<candidate xmlns='urn:xmpp:jingle:transports:ice-udp:1' ip='203.0.113.9' port='4001' protocol='udp' generation='1'/>";

struct Fixture {
    bridge: ColibriBridge,
    now: Instant,
    /// The transport that the endpoint was created with.
    first: IceTransport,
}

impl Fixture {
    /// A conference `m` with the endpoint `a`, which is not connected.
    fn new(ice_restart: bool) -> Self {
        let now = Instant::now();
        let config = ColibriConfig {
            transport: LocalTransport {
                local_addresses: vec!["127.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap()],
                public_addresses: vec![],
                advertise_private: false,
                port: 10_000,
                fingerprint: "AB:CD".to_owned(),
                websocket_base_url: "ws://127.0.0.1:9090".to_owned(),
                relay_websocket_base_url: "ws://127.0.0.1:9090".to_owned(),
                websocket_server_id: "jvb1".to_owned(),
            },
            workers: 3,
            spill_endpoints: 50,
            capacity: Default::default(),
            audio_ssrcs: 50,
            video_ssrcs: 50,
            sctp: true,
            relay: None,
            ice_restart,
            ufrag_prefix: |worker| char::from_digit(worker as u32, 36).unwrap().to_string(),
        };
        let mut fixture = Self { bridge: ColibriBridge::new(now, config), now, first: IceTransport::default() };
        let create = "<endpoint id='a' create='true'><transport ice-controlling='true'/><capability name='source-names'/>\
            <capability name='private-address-connectivity'/></endpoint>";
        let xml = format!(
            "<conference-modify meeting-id='m' name='room@conference.x' create='true'>{create}</conference-modify>"
        );
        fixture.first = fixture.send(&xml).unwrap().endpoints.remove(0).transport.unwrap().ice.unwrap();
        fixture.commands();
        fixture
    }

    fn connected() -> Self {
        let mut fixture = Self::new(true);
        fixture.update("ufrag='old' pwd='old-password'", "");
        fixture.commands();
        fixture.bridge.handle_ice(fixture.now, ID, IceState::Connected);
        fixture
    }

    fn send(&mut self, xml: &str) -> Result<ConferenceModified, Refusal> {
        let xml = xml.replacen("<conference-modify ", "<conference-modify xmlns='jitsi:colibri2' ", 1);
        let request = ConferenceModify::try_from(xml.parse::<Element>().unwrap()).unwrap();
        self.bridge.handle(self.now, &request)
    }

    fn ask(&mut self, endpoint: &str) -> Result<Endpoint, Refusal> {
        let xml = format!("<conference-modify meeting-id='m'>{endpoint}</conference-modify>");
        self.send(&xml).map(|mut reply| reply.endpoints.remove(0))
    }

    /// The transport that a request for a restart is answered with.
    fn restart(&mut self) -> Option<IceTransport> {
        self.ask(RESTART).unwrap().transport.map(|transport| transport.ice.unwrap())
    }

    /// A transport update of the endpoint.
    fn update(&mut self, attributes: &str, children: &str) {
        let xml = format!(
            "<endpoint id='a'><transport><transport {ICE} {attributes}>{children}</transport></transport></endpoint>"
        );
        assert_eq!(self.ask(&xml).unwrap(), Endpoint::new("a"), "an update is not answered with a transport");
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.bridge.poll_output())
            .filter_map(|o| if let Output::Command { command, .. } = o { Some(command) } else { None })
            .collect()
    }

    fn totals(&self) -> RestartTotals {
        self.bridge.totals().ice_restarts
    }

    fn ended(&mut self, generation: u32, outcome: RestartOutcome) {
        self.bridge.handle_ice_restart(self.now, ID, generation, outcome);
    }
}

/// Generation, ufrag and whether there are credentials of the peer.
fn seen(commands: &[Command]) -> Vec<(&'static str, u32, String, usize)> {
    let mut seen = Vec::new();
    for command in commands {
        match command {
            Command::RestartIce { endpoint, generation, local } => {
                assert_eq!(*endpoint, ID);
                seen.push(("restart", *generation, local.ufrag.clone(), 0));
            }
            Command::AnswerIceRestart { endpoint, generation, credentials, candidates } => {
                assert_eq!(*endpoint, ID);
                let ufrag = credentials.as_ref().map(|c| c.ufrag.clone()).unwrap_or_default();
                seen.push(("answer", *generation, ufrag, candidates.len()));
            }
            other => panic!("{other:?}"),
        }
    }
    seen
}

fn answered(generation: u32, ufrag: &str, candidates: usize) -> Vec<(&'static str, u32, String, usize)> {
    vec![("answer", generation, ufrag.to_owned(), candidates)]
}

#[test]
fn a_restart_is_answered_with_new_credentials_and_the_answer_goes_to_the_worker() {
    let mut fixture = Fixture::connected();
    let news = fixture.restart().expect("a transport");
    assert_eq!(news.ice_generation, Some(1));
    assert_eq!(fixture.first.ice_generation, None);
    assert!(news.ufrag != fixture.first.ufrag && news.pwd != fixture.first.pwd);
    assert!(news.pwd.as_ref().unwrap().len() >= 22 && news.rtcp_mux);
    let worker = |ice: &IceTransport| ice.ufrag.as_ref().unwrap().chars().next();
    assert_eq!(worker(&news), worker(&fixture.first), "found at the same worker");
    // Everything else is as it was: addresses, private ones included; certificate; address of the channel.
    let addresses = |ice: &IceTransport| ice.candidates.iter().map(|c| (c.ip.clone(), c.port)).collect::<Vec<_>>();
    assert_eq!(addresses(&news), addresses(&fixture.first));
    assert_eq!(addresses(&news).len(), 2);
    assert_eq!((&news.fingerprints, &news.web_sockets), (&fixture.first.fingerprints, &fixture.first.web_sockets));
    let text = String::from(&Element::from(news.clone()));
    assert!(text.contains("ice-generation='1'") || text.contains("ice-generation=\"1\""), "{text}");
    assert_eq!(seen(&fixture.commands()), [("restart", 1, news.ufrag.clone().unwrap(), 0)]);

    // Trickled candidates come without a number, before or after the answer: they have the ufrag of the answer.
    fixture.update("ufrag='new' pwd='new-password'", CANDIDATE);
    assert_eq!(fixture.commands(), [], "nobody knows yet whose that ufrag is");
    fixture.update("ufrag='new' pwd='new-password' ice-generation='1'", CANDIDATE);
    assert_eq!(seen(&fixture.commands()), answered(1, "new", 1));
    fixture.update("ufrag='new' pwd='new-password'", CANDIDATE);
    assert_eq!(seen(&fixture.commands()), answered(1, "", 1));
    fixture.update("ufrag='old' pwd='old-password'", CANDIDATE);
    assert_eq!(fixture.commands(), [], "of the pair in use, which needs nothing");

    fixture.now += Duration::from_millis(300);
    fixture.ended(1, RestartOutcome::Connected);
    assert_eq!(fixture.totals(), RestartTotals { started: 1, succeeded: 1, ..RestartTotals::default() });
    fixture.update("ufrag='new' pwd='new-password' ice-generation='1'", CANDIDATE);
    assert_eq!((fixture.commands(), fixture.totals().late_answers), (vec![], 1));
    assert_eq!(fixture.restart().unwrap().ice_generation, Some(2));
}

#[test]
fn before_anything_is_connected_the_transport_is_told_as_it_is() {
    let mut fixture = Fixture::new(true);
    let kept = fixture.restart().expect("a transport");
    let credentials = |ice: &IceTransport| (ice.ufrag.clone(), ice.pwd.clone(), ice.ice_generation);
    assert_eq!(credentials(&kept), credentials(&fixture.first));
    assert_eq!(fixture.commands(), []);
    assert_eq!(fixture.totals(), RestartTotals { not_established: 1, ..RestartTotals::default() });
    // The answer to the offer counts whatever number it has, and candidates of other generations do not.
    fixture.update("ufrag='u' pwd='p' ice-generation='1'", CANDIDATE);
    assert!(
        matches!(&fixture.commands()[..], [Command::SetRemoteIce { credentials: Some(c), candidates, .. }] if c.ufrag == "u" && candidates.is_empty())
    );
    // With a create, too.
    let create =
        "<endpoint id='b' create='true'><transport ice-restart='true'/><capability name='source-names'/></endpoint>";
    let created = fixture.ask(create).unwrap().transport.unwrap().ice.unwrap();
    assert_eq!((created.ice_generation, fixture.totals().not_established), (None, 2));
    // Lost again is not the same as never there.
    fixture.bridge.handle_ice(fixture.now, ID, IceState::Connected);
    fixture.bridge.handle_ice(fixture.now, ID, IceState::Disconnected);
    assert_eq!(fixture.restart().unwrap().ice_generation, Some(1));
}

#[test]
fn declined_is_an_answer_without_a_transport() {
    let mut fixture = Fixture::new(false);
    fixture.bridge.handle_ice(fixture.now, ID, IceState::Connected);
    assert_eq!(fixture.ask(RESTART).unwrap(), Endpoint::new("a"));
    assert_eq!(fixture.commands(), []);
    assert_eq!(fixture.totals(), RestartTotals { disabled: 1, ..RestartTotals::default() });
    assert_eq!(fixture.bridge.totals().refused, 0, "no error");
}

#[test]
fn a_repeated_request_has_the_same_answer_until_the_client_has_answered() {
    let mut fixture = Fixture::connected();
    let first = fixture.restart().unwrap();
    let again = fixture.restart().unwrap();
    assert_eq!((&again.ufrag, &again.pwd, again.ice_generation), (&first.ufrag, &first.pwd, Some(1)));
    // The worker may have given it up just now: the command is repeated, and repeating does no harm.
    let ufrag = first.ufrag.clone().unwrap();
    assert_eq!(seen(&fixture.commands()), [("restart", 1, ufrag.clone(), 0), ("restart", 1, ufrag, 0)]);
    fixture.update("ufrag='new' pwd='p' ice-generation='1'", "");
    fixture.commands();
    let second = fixture.restart().unwrap();
    assert_eq!(second.ice_generation, Some(2));
    assert_ne!(second.ufrag, first.ufrag);
    assert_eq!(seen(&fixture.commands()), [("restart", 2, second.ufrag.unwrap(), 0)]);
    // What is said about the first one from now on is late.
    fixture.update("ufrag='new' pwd='p' ice-generation='1'", "");
    fixture.update("ufrag='new' pwd='p'", CANDIDATE);
    fixture.ended(1, RestartOutcome::Connected);
    fixture.ended(1, RestartOutcome::Abandoned);
    assert_eq!(fixture.commands(), []);
    let expected =
        RestartTotals { started: 2, repeated: 1, superseded: 1, late_answers: 1, ..RestartTotals::default() };
    assert_eq!(fixture.totals(), expected);
    fixture.update("ufrag='newer' pwd='p' ice-generation='2'", "");
    assert_eq!(seen(&fixture.commands()), answered(2, "newer", 0));
    fixture.ended(2, RestartOutcome::Abandoned);
    assert_eq!(fixture.totals(), RestartTotals { failed: 1, ..expected });
}

#[test]
fn answers_that_make_no_sense_change_nothing_and_are_counted() {
    let mut fixture = Fixture::connected();
    fixture.update("ufrag='new' pwd='p' ice-generation='1'", "");
    assert_eq!(fixture.totals().late_answers, 1, "there was no restart");
    fixture.restart();
    fixture.commands();
    for number in ["0", "2", "4294967295"] {
        fixture.update(&format!("ufrag='new' pwd='p' ice-generation='{number}'"), CANDIDATE);
    }
    assert_eq!(fixture.totals().late_answers, 4);
    for number in ["-1", "one", "", "4294967296"] {
        fixture.update(&format!("ufrag='new' pwd='p' ice-generation='{number}'"), CANDIDATE);
    }
    for attributes in ["", "ufrag='new'", "pwd='p'", "ufrag='' pwd='p'"] {
        fixture.update(&format!("{attributes} ice-generation='1'"), CANDIDATE);
    }
    assert_eq!(fixture.totals().empty_answers, 4);
    let long = "u".repeat(600);
    fixture.update(&format!("ufrag='{long}' pwd='p' ice-generation='1'"), "");
    assert_eq!((fixture.commands(), fixture.totals().empty_answers), (vec![], 5));
    // The restart is none the worse for it.
    fixture.update("ufrag='new' pwd='p' ice-generation='1'", "");
    assert_eq!(seen(&fixture.commands()), answered(1, "new", 0));
    fixture.update("ufrag='other' pwd='p' ice-generation='1'", CANDIDATE);
    assert_eq!((fixture.commands(), fixture.totals().late_answers), (vec![], 5), "credentials count once");
}

#[test]
fn a_storm_of_restarts_is_declined_after_a_while_and_recovers() {
    let mut fixture = Fixture::connected();
    let mut declined = 0;
    for generation in 1..=50 {
        match fixture.restart() {
            Some(ice) => {
                let number = ice.ice_generation.unwrap();
                fixture.update(&format!("ufrag='u{generation}' pwd='p' ice-generation='{number}'"), "");
            }
            None => declined += 1,
        }
    }
    assert_eq!((declined, fixture.totals().rate, fixture.totals().started), (40, 40, 10));
    assert_eq!(fixture.totals().superseded, 9);
    assert_eq!(fixture.commands().len(), 20);
    fixture.now += Duration::from_secs(6);
    assert_eq!(fixture.restart().unwrap().ice_generation, Some(11));
}

#[test]
fn what_cannot_be_restarted_has_the_errors_of_other_updates() {
    let mut fixture = Fixture::connected();
    let refusal = fixture.ask("<endpoint id='nobody'><transport ice-restart='true'/></endpoint>").unwrap_err();
    assert_eq!((refusal.condition, refusal.reason), (DefinedCondition::ItemNotFound, Some(Reason::UnknownEndpoint)));
    assert_eq!(refusal.endpoint.as_deref(), Some("nobody"));
    let refusal = fixture.send("<conference-modify meeting-id='n'><endpoint id='a'/></conference-modify>").unwrap_err();
    assert_eq!((refusal.condition, refusal.reason), (DefinedCondition::ItemNotFound, Some(Reason::ConferenceNotFound)));
    for several in [format!("{RESTART}<endpoint id='b'/>"), RESTART.repeat(2)] {
        let refusal = fixture.ask(&several).unwrap_err();
        assert_eq!(refusal.reason, Some(Reason::FeatureNotImplemented), "as every transport of several endpoints");
    }
    let relay =
        "<conference-modify meeting-id='m'><relay id='r'><transport ice-restart='true'/></relay></conference-modify>";
    assert_eq!(fixture.send(relay).unwrap_err().condition, DefinedCondition::FeatureNotImplemented);
    let create = "<endpoint id='b' create='true'><capability name='source-names'/></endpoint>";
    assert_eq!(fixture.ask(create).unwrap_err().condition, DefinedCondition::BadRequest, "no transport");
    assert_eq!((fixture.commands(), fixture.totals()), (vec![], RestartTotals::default()));
    // One that ends takes its restart along.
    fixture.restart();
    let expired = fixture.ask("<endpoint id='a' expire='true'><transport ice-restart='true'/></endpoint>").unwrap();
    assert!(expired.expire && expired.transport.is_none());
    fixture.ended(1, RestartOutcome::Connected);
    assert_eq!(fixture.totals().succeeded, 0);
}

#[test]
fn everything_else_in_the_request_counts_for_the_transport_as_it_was() {
    let mut fixture = Fixture::new(true);
    let xml = format!(
        "<endpoint id='a'><transport ice-restart='true'><transport {ICE} ufrag='u' pwd='p'/><sctp/></transport>\
         <force-mute audio='true'/></endpoint>"
    );
    let transport = fixture.ask(&xml).unwrap().transport.unwrap();
    assert_eq!(transport.sctp.unwrap().role, Some(SctpRole::Server));
    let commands = fixture.commands();
    assert!(
        matches!(&commands[..], [Command::SetRemoteIce { credentials: Some(_), .. }, Command::SetForceMute { .. }]),
        "{commands:?}"
    );
    fixture.bridge.handle_ice(fixture.now, ID, IceState::Connected);
    fixture.ask(&xml.replace("'true'/>", "'false'/>")).unwrap();
    let commands = fixture.commands();
    assert!(
        matches!(&commands[..], [Command::SetForceMute { .. }, Command::RestartIce { generation: 1, .. }]),
        "{commands:?}"
    );
}
