//! A bridge that is asked in XML.

pub use std::time::{Duration, Instant};

pub use ringbridge_controlplane::colibri::bridge::{
    ColibriBridge, ColibriConfig, Output, RelayChannel, RelaySettings, Reply,
};
pub use ringbridge_controlplane::colibri::elements::*;
pub use ringbridge_controlplane::colibri::identity::EndpointIdentity;
pub use ringbridge_controlplane::colibri::refusal::Refusal;
pub use ringbridge_controlplane::colibri::transport::LocalTransport;
pub use ringbridge_dataplane::Capacity;
pub use ringbridge_dataplane::ice::IceState;
pub use ringbridge_dataplane::ids::{EndpointId, Ssrc};
pub use ringbridge_dataplane::messages::{Command, CreateError};
pub use tokio_xmpp::minidom::Element;
pub use xmpp_parsers::stanza_error::DefinedCondition;

pub struct Fixture {
    pub bridge: ColibriBridge,
    pub config: ColibriConfig,
    pub now: Instant,
}

impl Fixture {
    pub fn new(workers: usize) -> Self {
        Self::spilling(workers, 50)
    }

    pub fn spilling(workers: usize, spill_endpoints: usize) -> Self {
        Self::with(workers, spill_endpoints, true)
    }

    pub fn with(workers: usize, spill_endpoints: usize, sctp: bool) -> Self {
        Self::taking(Capacity::default(), workers, spill_endpoints, sctp)
    }

    /// One that may be linked with others.
    pub fn linked(workers: usize, spill_endpoints: usize, capacity: Capacity) -> Self {
        Self::of(capacity, (workers, spill_endpoints), (true, true), Some(own()))
    }

    /// The same with one worker, and these channels: data channels, and WebSockets between bridges.
    pub fn with_channels(sctp: bool, websocket: bool) -> Self {
        Self::of(Capacity::default(), (1, 50), (sctp, websocket), Some(own()))
    }

    pub fn taking(capacity: Capacity, workers: usize, spill_endpoints: usize, sctp: bool) -> Self {
        Self::of(capacity, (workers, spill_endpoints), (sctp, true), None)
    }

    fn of(
        capacity: Capacity,
        (workers, spill_endpoints): (usize, usize),
        (sctp, relay_websocket): (bool, bool),
        relay: Option<RelaySettings>,
    ) -> Self {
        let now = Instant::now();
        let config = ColibriConfig {
            transport: LocalTransport {
                local_addresses: vec!["127.0.0.1".parse().unwrap()],
                public_addresses: vec![],
                advertise_private: true,
                port: 10_000,
                fingerprint: "AB:CD".to_owned(),
                websocket_base_url: "ws://127.0.0.1:9090".to_owned(),
                relay_websocket_base_url: if relay_websocket { "ws://127.0.0.1:9090" } else { "" }.to_owned(),
                websocket_server_id: "jvb1".to_owned(),
            },
            workers,
            spill_endpoints,
            capacity,
            audio_ssrcs: 50,
            video_ssrcs: 50,
            sctp,
            relay,
            ice_restart: true,
            ufrag_prefix: |worker| char::from_digit(worker as u32, 36).unwrap().to_string(),
        };
        Self { bridge: ColibriBridge::new(now, config.clone()), config, now }
    }

    /// Whatever the answer is, the bridge's tables agree.
    pub fn send(&mut self, xml: &str) -> Reply {
        let element: Element =
            xml.replacen("<conference-modify ", "<conference-modify xmlns='jitsi:colibri2' ", 1).parse().unwrap();
        let request = ConferenceModify::try_from(element).unwrap();
        let reply = self.bridge.handle(self.now, &request);
        assert_eq!(self.bridge.inconsistency(), None, "after {xml}");
        reply
    }

    pub fn refused(&mut self, xml: &str) -> Refusal {
        self.send(xml).expect_err(xml)
    }

    /// Whatever was asked, another process could go on from there.
    pub fn outputs(&mut self) -> Vec<Output> {
        assert_eq!(self.bridge.inconsistency(), None);
        let outputs = std::iter::from_fn(|| self.bridge.poll_output()).collect();
        let bytes = self.bridge.export(self.now).expect("it can be written");
        let other = ColibriBridge::import(self.now, self.config.clone(), &bytes).expect("and read");
        assert!(other.export(self.now).expect("and written again") == bytes, "something was not carried");
        assert_eq!(other.totals(), self.bridge.totals());
        outputs
    }

    pub fn commands(&mut self) -> Vec<Command> {
        self.outputs()
            .into_iter()
            .filter_map(|o| if let Output::Command { command, .. } = o { Some(command) } else { None })
            .collect()
    }

    /// A conference `m` with the endpoint `a`.
    pub fn with_endpoint() -> Self {
        Self::with_endpoint_and(true)
    }

    pub fn with_endpoint_and(sctp: bool) -> Self {
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

fn own() -> RelaySettings {
    RelaySettings { id: "own".to_owned(), ports: None }
}

pub fn create(id: &str) -> String {
    format!(
        "<endpoint id='{id}' create='true'><transport ice-controlling='true'/><capability name='source-names'/></endpoint>"
    )
}

pub fn is(refusal: &Refusal, condition: DefinedCondition, reason: Option<Reason>) {
    assert_eq!((&refusal.condition, refusal.reason), (&condition, reason), "{refusal:?}");
    // And as an element, as it goes to Jicofo.
    let error = refusal.to_stanza_error();
    assert_eq!(error.defined_condition, condition);
    let found = error.other.map(|e| ColibriError::try_from(e).unwrap());
    assert_eq!(found.as_ref().and_then(|e| e.reason), reason);
    assert_eq!(found.and_then(|e| e.endpoint).map(|e| e.id), refusal.endpoint);
}

/// A request that creates `b` with this `<sctp/>`.
pub fn with_sctp(sctp: &str) -> String {
    format!(
        "<conference-modify meeting-id='m'><endpoint id='b' create='true'><transport>{sctp}</transport>\
         <capability name='source-names'/></endpoint></conference-modify>"
    )
}

impl Fixture {
    /// Lets time pass with the checks that the bridge asks for; commands of expiry.
    pub fn pass(&mut self, seconds: u64) -> Vec<Command> {
        let end = self.now + Duration::from_secs(seconds);
        while self.bridge.poll_timeout() <= end {
            self.now = self.bridge.poll_timeout();
            self.bridge.handle_timeout(self.now);
        }
        self.now = end;
        self.commands()
    }
}

/// An update of one endpoint.
pub fn update(id: &str, content: &str) -> String {
    format!("<conference-modify meeting-id='m'><endpoint id='{id}'>{content}</endpoint></conference-modify>")
}

pub const OPUS: &str = "<media type='audio'><payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='111' name='opus' \
    clockrate='48000' channels='2'/></media>";

pub fn sources(id: &str, ssrc: u32) -> String {
    format!(
        "<sources><media-source type='audio' id='{id}-a0'>\
        <source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='{ssrc}'/></media-source></sources>"
    )
}

impl Fixture {
    /// Commands with their workers.
    pub fn sent(&mut self) -> Vec<(usize, Command)> {
        let command = |o| if let Output::Command { worker, command } = o { Some((worker, command)) } else { None };
        self.outputs().into_iter().filter_map(command).collect()
    }
}

pub fn join(meeting: &str, first: bool, id: &str) -> String {
    let first = if first { "create='true'" } else { "" };
    format!("<conference-modify meeting-id='{meeting}' {first}>{}</conference-modify>", create(id))
}
