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
//! What arrives meanwhile waits in the sockets, which both have.
//!
//! **No SRTP index is used twice, whoever dies at whatever step.** An index is used when a packet is sealed, and packets are sealed in a
//! worker's turns and when it takes what waits in its rings, nowhere else.
//! - Until [`Dataplane::suspend`] returns, only the old process has the state.
//! - After that its workers wait for orders. [`Suspended::export`] is answered between turns, when the rings are empty: the state has the
//!   number after each that was used, of a packet that the kernel took as of one that it refused, and nothing is sealed until
//!   [`Suspended::resume`]. If the old process dies here, nobody goes on.
//! - The new process' workers begin in the same place, waiting: [`Prepared`] has sealed nothing. If that process dies, the old one resumes with
//!   its own memory, which is where it was.
//! - [`Prepared::go`] comes after the point from where on [`Suspended::resume`] is never called (docs/upgrade.md: the commit). Each takes its value,
//!   so that neither happens twice. If the new process dies here, the old one does not go on: the calls end, as in a crash.
//!
//! So no gap has to be left in the numbers. Reception is the same: an index that was seen is marked in the window before the packet
//! is forwarded, and windows are carried whole.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::carry::STATE_VERSION;
use crate::datagram::HandedSocket;
use crate::dataplane::{Dataplane, DataplaneConfig, StartError, TakenSockets, steer};
use crate::engine::{EngineState, ImportError};
use crate::io::{IoError, Steering};
use crate::link::WorkerLink;
use crate::worker::{Answer, Exported, Order};

/// What all workers know, without the sockets. Whoever passes it on need not know what is in it; it holds keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataplaneState {
    version: u16,
    /// Sockets of the shared port that each worker has.
    #[serde(with = "crate::carry::checked")]
    shared: usize,
    /// Whether a map of senders comes after the sockets.
    steered: bool,
    workers: Vec<WorkerPart>,
}

/// One worker's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WorkerPart {
    state: EngineState,
    /// Indices of the sockets that belong to one endpoint each.
    handed: Vec<u16>,
    /// What each of its sockets had dropped, as far as that was counted.
    drops: Vec<u32>,
    /// Whether runs of datagrams come as one.
    gro: bool,
}

impl DataplaneState {
    /// How many workers there are; the new process has as many.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.workers.iter().map(|part| part.state.size()).sum()
    }

    /// Descriptors that come with it.
    pub fn descriptors(&self) -> usize {
        let handed: usize = self.workers.iter().map(|part| part.handed.len()).sum();
        self.shared.saturating_mul(self.workers.len()).saturating_add(handed).saturating_add(self.steered.into())
    }
}

/// Why workers cannot be suspended, or written down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuspendError {
    /// A worker has ended, or does not answer.
    #[error("worker {0} does not answer: the bridge is unhealthy, restart it instead")]
    NoAnswer(usize),
    /// Its sockets or its state cannot be had.
    #[error("worker {worker} cannot be suspended: {error}")]
    Failed {
        /// Which one.
        worker: usize,
        /// Why.
        error: String,
    },
    /// The rings between workers do not become empty.
    #[error("the workers queue more for each other than ends: try again when there is less load")]
    Busy,
    /// The map of senders cannot be had.
    #[error("what steers paths to workers cannot be handed over: {0}; raise ulimit -n")]
    Steering(String),
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
    pub fn suspend(self) -> Result<Suspended, (Box<Self>, SuspendError)> {
        let mut suspended = Suspended { dataplane: self };
        match suspended.settle() {
            Ok(()) => Ok(suspended),
            Err(error) => Err((Box::new(suspended.resume()), error)),
        }
    }

    /// Decides which I/O backend [`Self::start_from`] takes, and whether datagrams wait for each other. What measures takes two tenths of
    /// a second, and so belongs before the moment at which the other process stops.
    pub fn choose_backend(config: &mut DataplaneConfig) -> Result<(), StartError> {
        config.chosen = Some(Self::probe(config)?);
        Ok(())
    }

    /// Builds workers from what [`Suspended::export`] gave: with as many workers as that, at the same addresses. The I/O backend,
    /// the cores and all bounds may differ. Nothing is received or sent before [`Prepared::go`].
    pub fn start_from(
        config: DataplaneConfig,
        state: DataplaneState,
        mut descriptors: Vec<OwnedFd>,
    ) -> Result<Prepared, StartError> {
        let probed = Self::probe(&config)?;
        if state.version != STATE_VERSION {
            return Err(ImportError::Version { found: state.version }.into());
        }
        let needed = (state.workers(), state.shared, state.descriptors());
        let there = (config.workers, config.local_addresses.len(), descriptors.len());
        if needed != there {
            let text = |(workers, addresses, descriptors)| {
                format!("{workers} workers with {addresses} addresses each, and {descriptors} descriptors")
            };
            return Err(StartError::Parts { found: text(needed), expected: text(there) });
        }
        let DataplaneState { version: _, shared, steered, workers } = state;
        let steering = descriptors.pop_if(|_| steered).map(Steering::taken_over).transpose()?;
        let unusable = |source| IoError::Allocate { what: "a socket that was handed over", source };
        let mut descriptors = descriptors.into_iter().map(UdpSocket::from);
        let (mut sockets, mut states) = (Vec::new(), Vec::new());
        for WorkerPart { state, handed, drops, gro } in workers {
            let drops = (0..).take(shared).chain(handed.iter().copied()).zip(drops).collect();
            sockets.push(descriptors.by_ref().take(shared).collect::<Vec<_>>());
            let handed: Result<Vec<_>, _> = handed
                .into_iter()
                .zip(descriptors.by_ref())
                .map(|(local, socket)| Ok((local, HandedSocket::new(socket)?)))
                .collect();
            states.push((state, TakenSockets { handed: handed.map_err(unusable)?, drops, gro }));
        }
        let first = sockets.first().and_then(|set| set.first());
        let port = first.map(UdpSocket::local_addr).transpose().map_err(unusable)?.map_or(0, |address| address.port());
        let port = if config.port == 0 { port } else { config.port };
        for (socket, ip) in sockets.iter().flat_map(|set| set.iter().zip(&config.local_addresses)) {
            check(socket, SocketAddr::new(*ip, port))?;
        }
        let clones = sockets.iter().map(|set| set.iter().map(UdpSocket::try_clone).collect()).collect();
        let clones: Vec<Vec<UdpSocket>> = Result::map_err(clones, unusable)?;
        let dataplane = Self::build(&config, probed, sockets, port, steering, states)?;
        Ok(Prepared { dataplane, config, sockets: clones })
    }
}

/// Whether a socket is one of UDP that is bound to this address: it came from another process.
fn check(socket: &UdpSocket, expected: SocketAddr) -> Result<(), StartError> {
    let refused = |found: String| StartError::Socket { found, expected };
    let kind = socket2::SockRef::from(socket).r#type().map_err(|error| refused(error.to_string()))?;
    match socket.local_addr() {
        Ok(found) if found == expected && kind == socket2::Type::DGRAM => Ok(()),
        Ok(found) => Err(refused(format!("one of {kind:?} at {found}"))),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// How long a worker may take for an answer. It takes milliseconds, where it gets the processor.
const PATIENCE: Duration = Duration::from_millis(500);
/// Rounds in which workers take what others queued for them; each may make them queue something again.
const ROUNDS: usize = 64;

impl Suspended {
    fn workers(&self) -> usize {
        self.dataplane.workers()
    }

    /// The answers of all workers to what they were asked.
    fn answers(&self) -> Result<Vec<Answer>, SuspendError> {
        (0..self.workers())
            .map(|worker| match self.dataplane.answer(worker, PATIENCE) {
                None => Err(SuspendError::NoAnswer(worker)),
                Some(Answer::Failed(error)) => Err(SuspendError::Failed { worker, error }),
                Some(answer) => Ok(answer),
            })
            .collect()
    }

    /// Waits until all workers have stopped receiving, and nothing waits between them.
    fn settle(&mut self) -> Result<(), SuspendError> {
        self.dataplane.ask_to_suspend();
        let suspended = self.answers();
        self.dataplane.stop_asking();
        suspended?;
        for _ in 0..ROUNDS {
            (0..self.workers()).for_each(|worker| self.dataplane.order(worker, Order::Drain));
            let busy = self.answers()?.iter().any(|answer| matches!(answer, Answer::Drained(true)));
            if !busy {
                return Ok(());
            }
        }
        Err(SuspendError::Busy)
    }

    /// What the workers know, and duplicates of their sockets' descriptors in the order that [`Dataplane::start_from`] expects.
    /// May be asked more than once.
    pub fn export(&mut self) -> Result<(DataplaneState, Vec<OwnedFd>), SuspendError> {
        (0..self.workers()).for_each(|worker| self.dataplane.order(worker, Order::Export));
        let shared = self.dataplane.local_addresses().len();
        let (mut workers, mut descriptors) = (Vec::new(), Vec::new());
        for answer in self.answers()? {
            let Answer::Exported(Exported { state, sockets, gro }) = answer else { continue };
            let locals = sockets.iter().map(|socket| socket.local);
            let handed = locals.filter(|local| usize::from(*local) >= shared).collect();
            let drops = sockets.iter().map(|socket| socket.drops).collect();
            workers.push(WorkerPart { state, handed, drops, gro });
            descriptors.extend(sockets.into_iter().map(|socket| socket.descriptor));
        }
        let steering = self.dataplane.steering().map(Steering::duplicate).transpose();
        let steering = steering.map_err(|error| SuspendError::Steering(error.to_string()))?;
        let steered = steering.is_some();
        descriptors.extend(steering);
        Ok((DataplaneState { version: STATE_VERSION, shared, steered, workers }, descriptors))
    }

    /// All goes on as if nothing had been. Never after another process has begun to send.
    pub fn resume(self) -> Dataplane {
        (0..self.workers()).for_each(|worker| self.dataplane.order(worker, Order::Resume(None)));
        self.dataplane
    }
}

/// Workers that have the state of others, and wait for their turn. Dropping it ends them, and the sockets stay as they were.
#[derive(Debug)]
pub struct Prepared {
    dataplane: Dataplane,
    config: DataplaneConfig,
    /// Further descriptors of the sockets of the shared port.
    sockets: Vec<Vec<UdpSocket>>,
}

impl Prepared {
    /// The rings, see [`Dataplane::take_links`]. Commands that are queued now are carried out once it goes.
    pub fn take_links(&mut self) -> Vec<WorkerLink> {
        self.dataplane.take_links()
    }

    /// Receives and sends from now on. Only once the other process never will again.
    pub fn go(self) -> Dataplane {
        let Self { mut dataplane, config, sockets } = self;
        // What the other process steered by goes on. Where there was nothing, something may be attached only now: that process would
        // have gone on without.
        let steering = if dataplane.is_steered() { None } else { steer(&config, &sockets) };
        steering.iter().for_each(|steering| dataplane.note_steering(steering.clone()));
        for worker in 0..dataplane.workers() {
            dataplane.order(worker, Order::Resume(steering.clone()));
        }
        tracing::info!(
            workers = dataplane.workers(),
            addresses = ?dataplane.local_addresses(),
            backend = dataplane.backend().0,
            reason = dataplane.backend().1,
            steering = dataplane.is_steered(),
            "dataplane goes on where another process stopped"
        );
        dataplane
    }
}
