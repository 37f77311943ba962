//! What the colibri2 state machine wants done.

use ringbridge_dataplane::ids::{ConferenceId, EndpointId};
use ringbridge_dataplane::media::SourceDescription;
use ringbridge_dataplane::messages::Command;

use super::elements::{Fingerprint, Setup};

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
        /// Its identity.
        endpoint: EndpointId,
        /// Its conference.
        conference: ConferenceId,
        /// Id of the conference in web-socket URLs.
        conference_hex: String,
        /// Its name in the conference.
        label: String,
        /// Password of its channel.
        password: String,
        /// The worker that owns it.
        worker: usize,
        /// Visitors' messages are not forwarded.
        visitor: bool,
        /// Whether a data channel was asked for.
        sctp: bool,
    },
    /// An endpoint is gone: close its channel, forget its DTLS session.
    EndpointExpired {
        /// Its identity.
        endpoint: EndpointId,
        /// Its conference.
        conference: ConferenceId,
        /// Id of the conference in web-socket URLs.
        conference_hex: String,
        /// Its name in the conference.
        label: String,
    },
    /// The remote side of DTLS became known or changed.
    RemoteDtls {
        /// The endpoint.
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
