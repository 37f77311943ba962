//! What signalling and ICE exchange: credentials, candidates, outcomes.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Credentials of one side of an ICE session (RFC 8445).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceCredentials {
    /// Username fragment.
    pub ufrag: String,
    /// Password.
    pub pwd: String,
}

/// A candidate that the endpoint signalled; most browsers behind a focus signal none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteCandidate {
    /// UDP address.
    pub addr: SocketAddr,
    /// Priority as signalled.
    pub priority: u32,
    /// Whether it is a relayed (TURN) candidate, nominated only as a last resort.
    pub relayed: bool,
}

/// State of an endpoint's ICE session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IceState {
    /// A pair is valid: DTLS may start.
    Connected,
    /// Consent was lost (RFC 7675) or no pair became valid; nothing is sent any more. May become connected again.
    Disconnected,
}

/// How an ICE restart ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartOutcome {
    /// Media goes over a pair of the new credentials.
    Connected,
    /// No pair was nominated in time; what was before goes on.
    Abandoned,
}
