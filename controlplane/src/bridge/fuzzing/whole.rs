//! The state of a whole bridge (docs/upgrade.md), without sockets, Prosody and workers.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbridge_dataplane::Capacity;
use ringbridge_dataplane::ice::IceState;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId};
use ringbridge_dataplane::media::Limit;
use ringbridge_dataplane::messages::Command;
use serde_json::json;

use super::super::clients::{Carrier, Clients};
use super::super::handover::{BridgeState, Parts, Takeover};
use super::super::handover_error::HandoverError;
use super::super::lifecycle::Lifecycle;
use super::super::messages;
use super::super::pending::Pending;
use super::super::settings::BridgeSettings;
use super::super::xmpp_connections::XmppConnectionSettings;
use crate::channel::keeper::KeeperNumber;
use crate::channel::{ChannelCounters, ClientMessage, Registry};
use crate::colibri::bridge::{ColibriBridge, RelaySettings};
use crate::colibri::elements::ConferenceModify;
use crate::colibri::refusal::Refusal;
use crate::colibri::transport::LocalTransport;
use crate::transport::Certificate;
use crate::xmpp::{Security, XmppSettings};

/// Workers of the bridge.
const WORKERS: usize = 2;

/// Of the bridge that wrote the state, and of the one that reads it.
fn settings() -> BridgeSettings {
    let loopback = (Ipv4Addr::LOCALHOST, 9).into();
    BridgeSettings {
        connections: vec![XmppConnectionSettings {
            id: "xmpp".to_owned(),
            xmpp: XmppSettings {
                host: "xmpp.example".to_owned(),
                port: 5222,
                jid: "jvb@auth.example".parse().unwrap_or_else(|_| unreachable!("a JID")),
                password: "secret".to_owned(),
                resource: None,
                security: Security::Disabled,
                verify_certificate: true,
                ca_file: None,
                resumption: true,
            },
            breweries: Vec::new(),
            nickname: "jvb1".to_owned(),
            trusted: Vec::new(),
        }],
        local_addresses: vec![Ipv4Addr::LOCALHOST.into()],
        chosen_by: None,
        public_addresses: Vec::new(),
        discovery: Default::default(),
        advertise_private: true,
        port: 10_000,
        workers: WORKERS,
        spill_endpoints: 2,
        audio_ssrcs: 4,
        video_ssrcs: 4,
        congestion_control: true,
        loudest_only: None,
        start_bitrate: 2_500_000,
        cores: Vec::new(),
        io: Default::default(),
        io_options: Default::default(),
        websocket_listen: Some(loopback),
        websocket_base_url: "wss://meet.example".to_owned(),
        relay_websocket_base_url: "wss://meet.example".to_owned(),
        websocket_server_id: "jvb1".to_owned(),
        rest_listen: loopback,
        sctp: true,
        ice_restart: true,
        region: None,
        drain: false,
        shutdown: Default::default(),
        shutdown_over_rest: true,
        shutdown_over_xmpp: false,
        relay: Some(RelaySettings { id: "jvb1".to_owned(), ports: None }),
        disable_rewriting: false,
    }
}

/// What the focus asked for: two conferences with clients, one with a relay and somebody behind it.
const REQUESTS: [&str; 5] = [
    "<conference-modify xmlns='jitsi:colibri2' meeting-id='m' create='true' name='r@c.x'>\
     <endpoint id='a' create='true'><capability name='source-names'/><capability name='ssrc-rewriting'/>\
     <transport><transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='theirs' pwd='password'>\
     <fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='passive'>AB:CD</fingerprint></transport></transport>\
     <media type='audio'><payload-type xmlns='urn:xmpp:jingle:apps:rtp:1' id='111' name='opus' clockrate='48000' channels='2'/></media>\
     <sources><media-source type='audio' id='a-a0'><source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='7'/></media-source>\
     <media-source type='video' id='a-v0'><source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='8'/></media-source></sources>\
     </endpoint></conference-modify>",
    "<conference-modify xmlns='jitsi:colibri2' meeting-id='m'><endpoint id='b' create='true'><transport/>\
     <capability name='source-names'/><force-mute audio='true'/></endpoint></conference-modify>",
    "<conference-modify xmlns='jitsi:colibri2' meeting-id='m'><endpoint id='c' create='true'><transport/>\
     <capability name='source-names'/></endpoint></conference-modify>",
    "<conference-modify xmlns='jitsi:colibri2' meeting-id='m'><relay id='jvb2' mesh-id='0' create='true'><transport>\
     <sctp role='client'/></transport><endpoints><endpoint id='z' create='true'/></endpoints></relay></conference-modify>",
    "<conference-modify xmlns='jitsi:colibri2' meeting-id='n' create='true' name='s@c.x'>\
     <endpoint id='a' create='true'><transport/><capability name='source-names'/></endpoint></conference-modify>",
];

/// What a client said.
const SAID: &str = r#"{"colibriClass":"ReceiverVideoConstraints","lastN":2,"selectedSources":["a-v0"],"defaultConstraints":{"maxHeight":180},
    "constraints":{"a-v0":{"maxHeight":720}}}"#;

/// A bridge's signalling and its clients, as `Actor` has them.
struct Whole {
    colibri: ColibriBridge,
    clients: Clients,
}

impl Whole {
    fn settle(&mut self, now: Instant) {
        while let Some(output) = self.colibri.poll_output() {
            let _ = self.clients.follow(now, output);
        }
        while self.clients.poll_action().is_some() {}
        let found = self.colibri.inconsistency().or_else(|| self.clients.inconsistency());
        assert_eq!(found, None, "the bridge's tables");
    }

    /// Refused where what is there already was made up.
    #[allow(clippy::expect_used)]
    fn ask(&mut self, now: Instant, xml: &str) -> Result<(), Refusal> {
        let element = xml.parse::<tokio_xmpp::minidom::Element>().expect("XML");
        let request = ConferenceModify::try_from(element).expect("a request");
        let answer = self.colibri.handle(now, &request).map(|_| ());
        self.settle(now);
        answer
    }

    /// What the focus, clients and workers do once the bridge goes on.
    fn use_it(&mut self, mut now: Instant) {
        self.settle(now);
        self.clients.begin_handshakes(now);
        let all: Vec<EndpointId> = self.colibri.occupants().iter().map(|occupant| occupant.id()).collect();
        for id in all.iter().copied().take(16) {
            self.clients.handle_ice(now, id, IceState::Connected, false);
            self.clients.handle_dtls(now, id, vec![22; 60]);
            if let Some(said) =
                ClientMessage::receive("x", SAID.as_bytes(), &ChannelCounters::default()).and_then(messages::decode)
            {
                self.clients.handle_message(now, id, Carrier::WebSocket, said);
            }
            self.clients.handle_forwarded(id, vec!["a-v0".to_owned()]);
            self.clients.handle_demand(id, "a-v0".to_owned(), Limit::Unlimited);
            self.clients.handle_activity(now, id, false);
            let _ = self.clients.debug(id);
            self.settle(now);
        }
        for conference in [1, 2].map(ConferenceId) {
            self.clients.handle_speakers(conference, all.clone());
        }
        for request in REQUESTS {
            let _ = self.ask(now, request);
        }
        for _ in 0..8 {
            let due = [Some(self.colibri.poll_timeout()), self.clients.poll_timeout()].into_iter().flatten().min();
            now = due.unwrap_or(now).clamp(now, now + Duration::from_secs(60)) + Duration::from_millis(500);
            self.colibri.handle_timeout(now);
            self.clients.handle_timeout(now);
            self.clients.flush(now);
            let _ = (self.clients.take_bandwidths(), self.clients.paths());
            self.settle(now);
        }
        for meeting in ["m", "n"] {
            let request = format!("<conference-modify xmlns='jitsi:colibri2' meeting-id='{meeting}' expire='true'/>");
            let _ = self.ask(now, &request);
        }
    }
}

/// What a bridge in the middle of two conferences writes for the process that takes its place.
#[allow(clippy::missing_panics_doc, clippy::expect_used)]
pub fn written(now: Instant) -> Vec<u8> {
    let settings = settings();
    let certificate = Certificate::generate().expect("a certificate");
    let transport = LocalTransport {
        local_addresses: settings.local_addresses.clone(),
        public_addresses: Vec::new(),
        advertise_private: true,
        port: settings.port,
        fingerprint: certificate.fingerprint().to_owned(),
        websocket_base_url: settings.websocket_base_url.clone(),
        relay_websocket_base_url: settings.relay_websocket_base_url.clone(),
        websocket_server_id: settings.websocket_server_id.clone(),
    };
    let colibri = ColibriBridge::new(now, settings.colibri(transport, WORKERS, Capacity::default()));
    let clients = Clients::new(certificate, Registry::default(), Arc::default());
    let mut bridge = Whole { colibri, clients };
    for request in REQUESTS {
        bridge.ask(now, request).expect("it is granted");
    }
    let all: Vec<EndpointId> = bridge.colibri.occupants().iter().map(|occupant| occupant.id()).collect();
    assert_eq!(all.len(), 6, "all requests are granted");
    for id in all.iter().copied() {
        bridge.colibri.handle_ice(now, id, IceState::Connected);
        bridge.clients.handle_ice(now, id, IceState::Connected, false);
        let said = ClientMessage::receive("x", SAID.as_bytes(), &ChannelCounters::default());
        let said = said.and_then(messages::decode).expect("a message");
        bridge.clients.handle_message(now, id, Carrier::WebSocket, said);
        bridge.clients.handle_forwarded(id, vec!["a-v0".to_owned()]);
        bridge.clients.handle_demand(id, "a-v0".to_owned(), Limit::Unlimited);
        bridge.settle(now);
    }
    bridge.clients.handle_speakers(ConferenceId(1), all);
    bridge.settle(now);
    let xmpp = json!({
        "disconnects": 1,
        "connections": [{
            "address": { "host": "xmpp.example", "port": 5222, "account": "jvb@auth.example", "resource": null },
            "session": {
                "resume_id": "id", "jid": "jvb@auth.example/r", "received": 9, "acked": 3,
                "unacked": ["<presence xmlns='jabber:client'/>"],
            },
            "breweries": [{
                "room": "brewery@internal.example", "nickname": "jvb1", "joined": true,
                "occupants": [["focus", "focus@auth.example/focus"], ["other", null]],
            }],
        }],
    });
    let Whole { colibri, clients } = &bridge;
    let command = Command::ExpireEndpoint { endpoint: EndpointId(99) };
    let parts = Parts {
        colibri: colibri.export(now).expect("it is written"),
        certificate: clients.certificate(),
        clients: clients.state(KeeperNumber(0)),
        xmpp: serde_json::from_value(xmpp).expect("connections"),
        life: Lifecycle::new(settings.shutdown, true).state(),
        started: Duration::from_secs(1_700_000_000),
        traffic: Default::default(),
        reported: now,
        channel_counters: clients.channel_counts(),
        worker_counters: vec![vec![3; 8]; WORKERS],
        pending: Pending::new([(1, command)].into_iter()),
        keepers: Vec::new(),
    };
    BridgeState::write(now, &parts).expect("it is written").as_bytes().to_vec()
}

/// Takes a state over, as an upgrade does, and goes on with it; an error when it is refused. Panics when it is taken and cannot be used.
#[allow(clippy::missing_panics_doc, clippy::expect_used)]
pub fn take_over(now: Instant, state: Vec<u8>) -> Result<(), HandoverError> {
    let settings = settings();
    let state = BridgeState::from_bytes(state);
    let takeover = Takeover::new(now, &settings, WORKERS, (&state, Vec::new()))?;
    let _ = takeover.sessions(&settings);
    let transport = LocalTransport {
        local_addresses: settings.local_addresses.clone(),
        public_addresses: Vec::new(),
        advertise_private: true,
        port: settings.port,
        fingerprint: takeover.certificate.fingerprint().to_owned(),
        websocket_base_url: settings.websocket_base_url.clone(),
        relay_websocket_base_url: settings.relay_websocket_base_url.clone(),
        websocket_server_id: settings.websocket_server_id.clone(),
    };
    let capacity = Capacity::default();
    let colibri = takeover.colibri(now, &settings, transport, WORKERS, capacity).expect("it was looked through");
    let lines = takeover.keepers().expect("it was looked through").1;
    let clients =
        takeover.clients(now, (Registry::default(), Arc::default()), &colibri, &lines).expect("it was looked through");
    let parts = takeover.parts.clone();
    let again = Parts {
        colibri: colibri.export(now).expect("it is written again"),
        clients: clients.state(KeeperNumber(0)),
        ..parts
    };
    let written = BridgeState::write(now, &again).expect("it is written again");
    let read =
        Takeover::new(now, &settings, WORKERS, (&written, Vec::new())).expect("what was taken over can be again");
    assert!(read.parts.clients == again.clients, "something of the clients was not carried");
    let mut life = Lifecycle::new(settings.shutdown, false);
    life.take_over(again.life);
    let mut whole = Whole { colibri, clients };
    whole.clients.go_on_counting(&again.channel_counters);
    whole.use_it(now);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_taken_over() {
        let now = Instant::now();
        assert_eq!(take_over(now, written(now)), Ok(()));
        assert!(take_over(now, Vec::new()).is_err());
    }
}
