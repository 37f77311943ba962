//! The load generator: clients with real ICE and DTLS-SRTP, streams that are due at their times, and the check of what
//! comes back.

pub mod client;
pub mod ledger;
pub mod media_numbers;
pub mod receiver;
pub mod sdp;
pub mod socket;
pub mod world;

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum GeneratorError {
    /// A socket could not be opened or used.
    #[error("the generator's socket failed: {0}; check `ulimit -n` and net.core.rmem_max")]
    Socket(#[from] std::io::Error),
    /// The second implementation of SRTP refused its keys.
    #[error("webrtc-srtp refused the negotiated keys: {0}")]
    Oracle(String),
    /// A DTLS handshake of the generator failed.
    #[error("client {client}: {error}")]
    Dtls {
        /// Number of the client.
        client: usize,
        /// Why the handshake failed.
        error: ringbridge_controlplane::transport::DtlsError,
    },
    /// A client did not get through.
    #[error(
        "client {client} has no {what} after {seconds} s: it sent {sent} datagrams and got {came}; the bridge's log says more"
    )]
    Timeout {
        /// Number of the client.
        client: usize,
        /// What it waited for: ICE, keys or media.
        what: &'static str,
        /// Time that it waited, seconds.
        seconds: u64,
        /// Datagrams of ICE and DTLS that it sent.
        sent: u64,
        /// The same that came.
        came: u64,
    },
    /// A packet could not be sealed; the number is that of the client.
    #[error("a packet of client {0} could not be sealed")]
    Seal(usize),
}
