//! Why a bridge does not start, or stops.

use std::net::SocketAddr;

use ringbridge_dataplane::StartError;
use thiserror::Error;

use super::handover_error::HandoverError;
use super::remedies;
use crate::rest::RestError;
use crate::transport::DtlsError;
use crate::upgrade::Failure;

/// Why the bridge does not start, or stops.
#[derive(Debug, Error)]
pub enum BridgeError {
    /// Sockets, threads, I/O backends.
    #[error("media workers do not start: {0}{remedy}", remedy = remedies::of_start(.0))]
    Dataplane(#[from] StartError),
    /// No certificate for DTLS.
    #[error("no DTLS certificate: {0}")]
    Certificate(DtlsError),
    /// A listening socket.
    #[error("cannot listen on {address} for {purpose}: {source}; choose another address or stop what uses it")]
    Listen {
        /// The address that cannot be bound.
        address: SocketAddr,
        /// What was to be served there.
        purpose: &'static str,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The pages for operators.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// The nickname cannot be part of an address.
    #[error("nickname {nickname:?} cannot be used in a room: {source}; choose another one")]
    Nickname {
        /// As configured.
        nickname: String,
        /// What is wrong with it.
        source: jid::Error,
    },
    /// The workers' wake-ups cannot be waited for.
    #[error("cannot wait for the media workers: {0}")]
    Wakeup(std::io::Error),
    /// Nothing that is bound can be reached any more.
    #[error(
        "the addresses of this host changed from {before} to {now}; ending, so that the next start serves those \
         (systemd does that by itself)"
    )]
    AddressesMoved {
        /// The addresses that are bound.
        before: String,
        /// What could be bound now.
        now: String,
    },
    /// What another process left cannot be gone on with.
    #[error("the conferences of the former process are lost: {0}")]
    Takeover(HandoverError),
    /// The process that this one was to take over from goes on itself, or has ended.
    #[error("not taken over: {0}")]
    NotTakenOver(String),
    /// The process that took over does not serve.
    #[error("the calls were handed over, and the new process does not serve them: {0}")]
    LostInUpgrade(Failure),
    /// Further descriptors of the listening sockets.
    #[error("cannot duplicate a listening socket: {0}; look at the limit of open files (LimitNOFILE)")]
    Descriptors(std::io::Error),
    /// The connection task is gone.
    #[error("the XMPP connection task ended; this is a defect, please report it with the log before this line")]
    XmppEnded,
}
