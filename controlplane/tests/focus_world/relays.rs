//! What a scripted bridge knows of the conferences on it, as a bridge takes requests about relays (docs/protocol/bridge.md 10).

use std::collections::{BTreeMap, BTreeSet};

use ringbridge_controlplane::colibri::elements::{
    ConferenceModify, Endpoint, IceTransport, Relay, Sctp, SctpRole, Setup, Sources, Transport, WebSocket,
};

use super::fingerprint;

/// SSRCs of each endpoint.
pub type Endpoints = BTreeMap<String, BTreeSet<u32>>;

/// One relay of a bridge.
#[derive(Debug, Clone, Default)]
pub struct KnownRelay {
    pub mesh: String,
    pub initiator: bool,
    pub sctp: Option<SctpRole>,
    /// The other side's.
    pub transport: Option<IceTransport>,
    pub endpoints: Endpoints,
}

/// What it knows of one conference.
#[derive(Debug, Clone, Default)]
pub struct Meeting {
    pub local: Endpoints,
    /// By the other bridge's relay id.
    pub relays: BTreeMap<String, KnownRelay>,
}

/// What it knows, by meeting id.
#[derive(Debug, Clone, Default)]
pub struct Knowledge(pub BTreeMap<String, Meeting>);

fn ssrcs(sources: Option<&Sources>) -> BTreeSet<u32> {
    let all = sources.into_iter().flat_map(|sources| &sources.media_sources);
    all.flat_map(|media| &media.sources).map(|source| source.ssrc).collect()
}

fn change(endpoints: &mut Endpoints, endpoint: &Endpoint) {
    match endpoint.expire {
        true => drop(endpoints.remove(&endpoint.id)),
        false if endpoint.create || endpoint.sources.is_some() => {
            endpoints.insert(endpoint.id.clone(), ssrcs(endpoint.sources.as_ref()));
        }
        false => {}
    }
}

impl Knowledge {
    /// Takes a request; the error is the condition of the refusal.
    pub fn apply(&mut self, request: &ConferenceModify) -> Result<(), &'static str> {
        if request.expire {
            self.0.remove(&request.meeting_id);
            return Ok(());
        }
        assert!(request.relays.len() <= 1 && (request.relays.is_empty() || request.endpoints.is_empty()));
        let meeting = self.0.entry(request.meeting_id.clone()).or_default();
        for endpoint in &request.endpoints {
            change(&mut meeting.local, endpoint);
        }
        request.relays.iter().try_for_each(|relay| meeting.relay(relay))
    }
}

impl Meeting {
    fn relay(&mut self, relay: &Relay) -> Result<(), &'static str> {
        if relay.expire {
            self.relays.remove(&relay.id);
            return Ok(());
        }
        let transport = relay.transport.as_ref();
        if relay.create {
            let transport = transport.ok_or("bad-request")?;
            assert_eq!(transport.ice_controlling, transport.use_unique_port);
            assert!(relay.media.len() == 2 && transport.ice.is_none());
            let new = KnownRelay {
                mesh: relay.mesh_id.clone().expect("a mesh"),
                initiator: transport.ice_controlling,
                sctp: transport.sctp.as_ref().and_then(|sctp| sctp.role),
                ..KnownRelay::default()
            };
            if self.relays.insert(relay.id.clone(), new).is_some() {
                return Err("conflict");
            }
        }
        let known = self.relays.get_mut(&relay.id).ok_or("bad-request")?;
        if let Some(ice) = transport.and_then(|transport| transport.ice.clone()) {
            known.transport = Some(ice);
        }
        for endpoint in relay.relayed() {
            let there = known.endpoints.contains_key(&endpoint.id);
            assert_eq!(there, !endpoint.create, "{endpoint:?}");
            change(&mut known.endpoints, endpoint);
        }
        Ok(())
    }
}

/// What a bridge answers about its relays.
pub(super) fn answer(request: &ConferenceModify, nick: &str, transports: bool) -> Vec<Relay> {
    let one = |relay: &Relay| {
        let asked = relay.transport.as_ref().filter(|_| relay.create && transports);
        let transport = asked.map(|asked| Transport {
            ice: Some(IceTransport {
                ufrag: Some(format!("{nick}-to-{}", relay.id)),
                pwd: Some("pwd".into()),
                rtcp_mux: true,
                fingerprints: vec![fingerprint(Setup::ActPass)],
                web_sockets: vec![WebSocket { url: Some(format!("wss://{nick}/colibri-relay-ws/x")), active: false }],
                ..IceTransport::default()
            }),
            sctp: asked.sctp.as_ref().map(|_| Sctp { port: Some(5000), role: None }),
            ..Transport::default()
        });
        Relay { transport, expire: relay.expire, ..Relay::new(relay.id.clone()) }
    };
    request.relays.iter().map(one).collect()
}
