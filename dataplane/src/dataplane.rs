//! The crate's front door: starts the workers, hands out their links, stops them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::demux::MAX_WORKERS;
use crate::io::{IoChoice, IoError};
use crate::ring::{Command, Wakeup, WorkerLink};
use crate::stats::WorkerStats;

/// How to start the dataplane.
#[derive(Debug, Clone)]
pub struct DataplaneConfig {
    /// Local addresses to bind, one socket per worker each; a wildcard is resolved per packet by the kernel.
    pub local_addresses: Vec<IpAddr>,
    /// The public UDP port, shared by all workers; 0 lets the kernel choose one (see [`Dataplane::local_addresses`]).
    pub port: u16,
    /// Number of workers, 1 to [`MAX_WORKERS`].
    pub workers: usize,
    /// Cores to pin the workers to, in order; empty leaves them unpinned.
    pub cores: Vec<usize>,
    /// Which I/O backend.
    pub io: IoChoice,
    /// Whether payload types and header extensions are translated per receiver.
    pub rewrite: bool,
    /// Entries of each command ring.
    pub command_ring: usize,
    /// Entries of each event ring.
    pub event_ring: usize,
    /// Entries of each worker-to-worker ring; 1,536 bytes each.
    pub handover_ring: usize,
}

impl Default for DataplaneConfig {
    fn default() -> Self {
        Self {
            local_addresses: vec![IpAddr::from([0, 0, 0, 0])],
            port: 10_000,
            workers: 1,
            cores: Vec::new(),
            io: IoChoice::Auto,
            rewrite: true,
            command_ring: 4096,
            event_ring: 4096,
            handover_ring: 512,
        }
    }
}

/// Why the dataplane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Sockets, cores, io_uring.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The number of workers is out of range.
    #[error("{0} workers asked for; choose 1 to {MAX_WORKERS} with --workers")]
    Workers(usize),
    /// Fewer cores than workers.
    #[error("{workers} workers but only {cores} cores given; give one core per worker with --cores, or none")]
    Cores {
        /// Workers asked for.
        workers: usize,
        /// Cores given.
        cores: usize,
    },
    /// The thread could not be made.
    #[error("cannot start thread {name}: {source}; raise the process limit (ulimit -u)")]
    Thread {
        /// Its name.
        name: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Tells whether workers have died; cheap to clone and to ask.
#[derive(Debug, Clone)]
pub struct DataplaneHealth {
    dead: Arc<[AtomicBool]>,
}

impl DataplaneHealth {
    pub(crate) fn new(workers: usize) -> Self {
        Self { dead: (0..workers).map(|_| AtomicBool::new(false)).collect() }
    }

    pub(crate) fn report_dead(&self, worker: usize) {
        if let Some(flag) = self.dead.get(worker) {
            flag.store(true, Ordering::Release);
        }
    }

    /// The first worker whose thread ended by a panic or an I/O failure, if any.
    pub fn dead_worker(&self) -> Option<usize> {
        self.dead.iter().position(|flag| flag.load(Ordering::Acquire))
    }
}

/// The running workers. Dropping it stops them.
#[derive(Debug)]
pub struct Dataplane {
    links: Vec<WorkerLink>,
    stats: Vec<Arc<WorkerStats>>,
    wakeups: Vec<Wakeup>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    health: DataplaneHealth,
    backend: (&'static str, String),
    local_addresses: Vec<SocketAddr>,
}

impl Dataplane {
    /// Binds the sockets, starts and pins the workers.
    pub fn start(config: DataplaneConfig) -> Result<Self, StartError> {
        if config.workers == 0 || config.workers > MAX_WORKERS {
            return Err(StartError::Workers(config.workers));
        }
        if !config.cores.is_empty() && config.cores.len() < config.workers {
            return Err(StartError::Cores { workers: config.workers, cores: config.cores.len() });
        }
        Err(StartError::Workers(config.workers))
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.stats.len()
    }

    /// Counters of one worker; `worker` is below [`Self::workers`].
    pub fn stats(&self, worker: usize) -> Arc<WorkerStats> {
        Arc::clone(&self.stats[worker])
    }

    /// Name of the I/O backend and why it was chosen.
    pub fn backend(&self) -> (&'static str, &str) {
        (self.backend.0, &self.backend.1)
    }

    /// The bound addresses, by socket index.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.local_addresses
    }

    /// The rings, one per worker in order; the first call gets them, later ones an empty list.
    pub fn take_links(&mut self) -> Vec<WorkerLink> {
        std::mem::take(&mut self.links)
    }

    /// For the health check: whether a worker has died.
    pub fn health(&self) -> DataplaneHealth {
        self.health.clone()
    }

    /// Stops the workers and waits for their threads.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        for link in &mut self.links {
            let _ = link.send(Command::Shutdown);
        }
        self.stop.store(true, Ordering::Release);
        for wakeup in &self.wakeups {
            wakeup.wake();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.shut_down();
    }
}
