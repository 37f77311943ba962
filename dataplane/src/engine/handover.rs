//! What an engine knows, as another one goes on with it: that of a new process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::endpoints::Endpoints;
use super::events::EventQueue;
use super::questions::Questions;
use super::sockets::LocalSockets;
use super::{Engine, EngineConfig, Steering};
use crate::carry::{CarryError, STATE_VERSION, State};
use crate::conference::{Arriving, Forwarder};
use crate::demux::AddressTable;
use crate::ids::{ConferenceId, WorkerId};
use crate::io::read_clock;
use crate::peers::Peers;
use crate::stats::WorkerStats;

use hashbrown::HashSet;

/// State that is older than this was not written by a process that is being replaced: its SRTP indices were used since.
const OLDEST: Duration = Duration::from_secs(60);

/// All that an engine knows, as [`Engine::export`] writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineState(State);

impl EngineState {
    /// Bytes.
    pub fn size(&self) -> usize {
        self.0.as_bytes().len()
    }

    /// Its bytes; they hold keys.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// What came as bytes. Whether they are a state is seen by [`Engine::import`].
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(State::from_bytes(bytes))
    }
}

/// Why an engine does not go on with a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// It cannot be read, or contradicts itself.
    #[error(transparent)]
    Carry(#[from] CarryError),
    /// It is of another version.
    #[error("the state has version {found}, and this release reads {STATE_VERSION}: restart instead")]
    Version {
        /// Its version.
        found: u16,
    },
    /// It is another worker's.
    #[error("the state is that of worker {found}, not of {expected}: use as many workers as before")]
    Worker {
        /// Whose it is.
        found: WorkerId,
        /// Whose it should be.
        expected: WorkerId,
    },
    /// The sockets are others.
    #[error("the state belongs to the addresses {found:?}, not to {expected:?}: keep the local addresses and the port")]
    Sockets {
        /// Its addresses.
        found: Vec<SocketAddr>,
        /// The configured ones.
        expected: Vec<SocketAddr>,
    },
    /// It has more of something than this configuration takes.
    #[error("the state has {found} {what}, more than the {limit} that are configured: raise the limit")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// It was written too long ago, or has yet to be.
    #[error("the state was not written just now: its calls have gone on or ended since")]
    Stale,
}

/// As it is written.
#[derive(Serialize)]
struct Leaving<'a> {
    version: u16,
    worker: WorkerId,
    at: Moment,
    shared: &'a [SocketAddr],
    counted: Vec<(&'static str, &'static str, u64)>,
    endpoints: &'a Endpoints,
    #[serde(with = "conferences")]
    conferences: &'a HashSet<ConferenceId, foldhash::fast::RandomState>,
    addresses: &'a AddressTable,
    sockets: &'a LocalSockets,
    forwarder: &'a Forwarder,
    events: &'a EventQueue,
    questions: &'a Questions,
}

/// What comes first, whatever the version.
#[derive(Deserialize)]
struct Head {
    version: u16,
}

/// As it is read.
#[derive(Deserialize)]
struct Whole {
    _version: u16,
    worker: WorkerId,
    at: Moment,
    shared: Vec<SocketAddr>,
    counted: Vec<(String, String, u64)>,
    endpoints: Endpoints,
    #[serde(with = "crate::carry::set")]
    conferences: HashSet<ConferenceId, foldhash::fast::RandomState>,
    addresses: AddressTable,
    sockets: LocalSockets,
    forwarder: Arriving,
    events: EventQueue,
    questions: Questions,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Moment(#[serde(with = "crate::carry::checked")] Instant);

/// A borrowed set.
mod conferences {
    use super::{ConferenceId, HashSet};
    use serde::Serializer;

    type Set = HashSet<ConferenceId, foldhash::fast::RandomState>;

    pub fn serialize<S: Serializer>(set: &&Set, serializer: S) -> Result<S::Ok, S::Error> {
        crate::carry::set::serialize(*set, serializer)
    }
}

impl Engine {
    /// All that it knows, for another engine to go on with. It may go on itself as long as that one has not begun.
    ///
    /// Packets that were gathered have to be released before; what was cached for retransmission is left behind.
    pub fn export(&self, now: Instant) -> Result<EngineState, CarryError> {
        crate::carry::set_clock(read_clock);
        // All of them by name, so that a new one is thought of here.
        let Self {
            config,
            stats,
            random: _,
            endpoints,
            conferences,
            addresses,
            sockets,
            forwarder,
            steering: _,
            events,
            questions,
        } = self;
        let (version, worker, shared, counted) = (STATE_VERSION, config.worker, &*config.sockets, stats.counted());
        let state = Leaving {
            version,
            worker,
            at: Moment(now),
            shared,
            counted,
            endpoints,
            conferences,
            addresses,
            sockets,
            forwarder,
            events,
            questions,
        };
        State::write(&state).map(EngineState)
    }

    /// An engine that goes on where another one stopped, and counts on in `stats`. The configuration may differ in all but the worker
    /// and the addresses of the shared sockets.
    ///
    /// The state is not trusted: an error, and nothing has happened, when it is none or contradicts itself.
    pub fn import(
        config: EngineConfig,
        state: &EngineState,
        stats: Arc<WorkerStats>,
        now: Instant,
    ) -> Result<Self, ImportError> {
        Self::import_with_peers(config, state, stats, now, (Peers::none(), None))
    }

    /// The same for one of several that share conferences.
    pub(crate) fn import_with_peers(
        config: EngineConfig,
        EngineState(state): &EngineState,
        stats: Arc<WorkerStats>,
        now: Instant,
        (peers, steering): (Peers, Option<Steering>),
    ) -> Result<Self, ImportError> {
        crate::carry::set_clock(read_clock);
        let Head { version } = state.read_head()?;
        if version != STATE_VERSION {
            return Err(ImportError::Version { found: version });
        }
        let whole: Whole = state.read()?;
        if whole.worker != config.worker {
            return Err(ImportError::Worker { found: whole.worker, expected: config.worker });
        }
        let expected = config.sockets.to_vec();
        if whole.shared != expected || !whole.sockets.shares(&expected) {
            return Err(ImportError::Sockets { found: whole.shared, expected });
        }
        if whole.at.0 > now || now.saturating_duration_since(whole.at.0) > OLDEST {
            return Err(ImportError::Stale);
        }
        let (found, limit) = (whole.endpoints.len(), config.max_endpoints);
        if found > limit {
            return Err(ImportError::TooMany { what: "endpoints", found, limit });
        }
        let contradiction = |what: &str| CarryError::Invalid(what.to_owned());
        let mut engine = Self::with_peers(config, stats, peers, steering);
        engine.forwarder.take_over(whole.forwarder).map_err(contradiction)?;
        engine.endpoints = whole.endpoints;
        let forwarder = &engine.forwarder;
        engine.endpoints.index(|endpoint| forwarder.slot(endpoint)).map_err(contradiction)?;
        engine.conferences = whole.conferences;
        engine.addresses = whole.addresses;
        let (found, limit) = (engine.addresses.len(), engine.config.max_addresses);
        if !engine.addresses.set_capacity(limit) {
            return Err(ImportError::TooMany { what: "addresses", found, limit });
        }
        engine.sockets = whole.sockets;
        engine.events = whole.events;
        engine.questions = whole.questions;
        engine.stats.count_on(&whole.counted);
        Ok(engine)
    }
}
