//! What the colibri2 state machine wants done.

use std::sync::Arc;

use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::media::SourceDescription;
use ringbridge_dataplane::messages::Command;

use super::elements::{Fingerprint, SctpRole, Setup};
use super::identity::{EndpointIdentity, RelayIdentity};

/// Something that the caller must do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a command to a worker.
    Command {
        /// Index of the worker.
        worker: usize,
        /// What to send.
        command: Command,
    },
    /// An endpoint came into being: its channel may be opened.
    EndpointCreated {
        /// Who it is.
        endpoint: Arc<EndpointIdentity>,
        /// Password of its channel.
        password: String,
        /// Whether a data channel was asked for.
        sctp: bool,
    },
    /// A relay came into being.
    RelayCreated {
        /// The relay.
        relay: Arc<RelayIdentity>,
        /// What carries what the two bridges say to each other.
        channel: RelayChannel,
    },
    /// The other bridge waits for us at this address of a WebSocket.
    DialRelay {
        /// The relay.
        relay: EndpointId,
        /// The address, with the password.
        url: String,
    },
    /// A relay is gone; those behind it went before.
    RelayExpired {
        /// Which one it was.
        relay: Arc<RelayIdentity>,
    },
    /// An endpoint of another bridge came into being behind a relay.
    RelayedCreated {
        /// Who it is.
        endpoint: Arc<EndpointIdentity>,
    },
    /// An endpoint, of this bridge or behind a relay, is gone: close its channel, forget its DTLS session.
    EndpointExpired {
        /// Who it was.
        endpoint: Arc<EndpointIdentity>,
    },
    /// The remote side of DTLS became known or changed.
    RemoteDtls {
        /// The endpoint, or the relay.
        endpoint: EndpointId,
        /// Its role, when it said one.
        setup: Option<Setup>,
        /// Fingerprints of its certificate, never empty.
        fingerprints: Vec<Fingerprint>,
    },
    /// Last-n to use until the endpoint says what it wants.
    InitialLastN {
        /// The endpoint.
        endpoint: EndpointId,
        /// -1 is unlimited.
        last_n: i32,
    },
    /// The endpoint's set of sources changed.
    SourcesChanged {
        /// The endpoint.
        endpoint: EndpointId,
        /// The complete new set.
        sources: Vec<SourceDescription>,
    },
}

/// What carries what two bridges say to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayChannel {
    /// A data channel; our side of its association.
    Sctp(SctpRole),
    /// A WebSocket, which one of both opens.
    WebSocket {
        /// Password by which the other one may open ours.
        password: String,
    },
}
