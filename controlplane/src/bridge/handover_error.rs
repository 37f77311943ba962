//! Why a bridge is not handed over, or not taken over.

use std::time::Duration;

use thiserror::Error;

use crate::carried::CarryError;
use crate::colibri::state::StateError;

/// Why a bridge is not handed over, or not taken over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HandoverError {
    /// The bridge has ended.
    #[error("the bridge has ended")]
    Ended,
    /// It was not asked to freeze before, or is frozen already.
    #[error("the bridge is asked out of turn: {0}")]
    OutOfTurn(&'static str),
    /// An XMPP connection, or the workers, did not come to rest.
    #[error("{what} did not come to rest within {} ms; try again when there is less to do", .within.as_millis())]
    Busy {
        /// What it is.
        what: &'static str,
        /// How long that was waited for.
        within: Duration,
    },
    /// The conferences.
    #[error(transparent)]
    Conferences(#[from] StateError),
    /// The state as a whole.
    #[error(transparent)]
    State(#[from] CarryError),
    /// The sockets of former processes.
    #[error("no socket for data channels: {0}; look at the limit of open files (LimitNOFILE)")]
    Sockets(String),
    /// A part of the state contradicts another.
    #[error("the state contradicts itself: {0}")]
    Contradiction(String),
}
