//! A door for the fuzz targets and nobody else: the bridge channels of a few endpoints, and the state of a whole bridge, without sockets.

mod whole;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ringbridge_dataplane::ids::{ConferenceId, EndpointId, MeshId};
use ringbridge_dataplane::media::SourceDescription;
use ringbridge_dataplane::messages::Command;

use super::clients::{Action, Carrier, Clients};
use super::messages;
use crate::channel::{ChannelCounters, ChannelEvent, ClientMessage, FromRelay, Registry, outbox};
use crate::colibri::bridge::RelayChannel;
use crate::colibri::identity::{EndpointIdentity, RelayIdentity};
use crate::transport::{Certificate, DtlsError};

pub use whole::{take_over, written};

/// Clients with open WebSockets, and their names.
pub struct Channels(Clients, BTreeMap<u32, String>);

/// What the bridge does about a message.
#[derive(Debug)]
pub enum Said {
    /// Sends a text to an endpoint.
    Text(EndpointId, String),
    /// Sends a worker a command.
    Command(Command),
    /// Records what a source of an endpoint shows.
    VideoType(EndpointId, String),
}

impl Channels {
    /// None yet.
    pub fn new() -> Result<Self, DtlsError> {
        Ok(Self(Clients::new(Certificate::generate()?, Registry::default(), Arc::default()), BTreeMap::new()))
    }

    /// Adds an endpoint with sources whose channel is open.
    pub fn join(&mut self, conference: u32, id: u32, label: &str, visitor: bool, sources: Vec<SourceDescription>) {
        let endpoint = EndpointId(id);
        let who = EndpointIdentity {
            id: endpoint,
            conference: ConferenceId(conference),
            conference_hex: conference.to_string(),
            label: label.to_owned(),
            worker: 0,
            visitor,
            relay: None,
        };
        self.1.insert(id, label.to_owned());
        self.0.insert(Instant::now(), Arc::new(who), "", false);
        self.0.set_sources(endpoint, sources);
        self.0.handle_websocket_opened(endpoint, u64::from(id), outbox().0);
    }

    /// Adds a relay in a mesh with one endpoint behind it.
    pub fn link(&mut self, conference: u32, relay: u32, mesh: u32, endpoint: u32, label: &str) {
        let conference = ConferenceId(conference);
        let who = RelayIdentity {
            id: EndpointId(relay),
            conference,
            conference_hex: conference.to_string(),
            label: format!("relay-{relay}"),
            own: "own".to_owned(),
            worker: 0,
            mesh: MeshId(mesh),
            mesh_name: mesh.to_string(),
        };
        self.0.insert_relay(Arc::new(who), &RelayChannel::WebSocket { password: "password".to_owned() });
        let (id, connection, sender) = (EndpointId(relay), u64::from(relay), outbox().0);
        let opened = ChannelEvent::Opened { endpoint: id, connection, sender };
        self.0.handle_channel_event(Instant::now(), opened);
        self.0.insert_relayed(Arc::new(EndpointIdentity {
            id: EndpointId(endpoint),
            conference,
            conference_hex: conference.to_string(),
            label: label.to_owned(),
            worker: 0,
            visitor: false,
            relay: Some(EndpointId(relay)),
        }));
    }

    /// Takes a text of another bridge.
    pub fn receive_relayed(&mut self, relay: u32, text: &[u8]) {
        if let Some(message) = FromRelay::receive("relay", text, &ChannelCounters::default()) {
            self.0.handle_relay_message(Instant::now(), EndpointId(relay), message);
        }
    }

    /// Takes a text of an endpoint.
    pub fn receive(&mut self, id: u32, text: &[u8]) {
        let label = self.1.get(&id).map_or("", String::as_str);
        if let Some(message) =
            ClientMessage::receive(label, text, &ChannelCounters::default()).and_then(messages::decode)
        {
            self.0.handle_message(Instant::now(), EndpointId(id), Carrier::WebSocket, message);
        }
    }

    /// What comes of it.
    pub fn poll(&mut self) -> Option<Said> {
        Some(match self.0.poll_action()? {
            Action::Command { command, .. } => Said::Command(command),
            Action::Send { endpoint, message } => Said::Text(endpoint, messages::encode(message).to_string()),
            Action::VideoType { endpoint, source, .. } => Said::VideoType(endpoint, source),
            Action::Dial { .. } => return self.poll(),
        })
    }
}
