//! The crate's front door: starts the workers, hands out their links, stops them.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::conference::{ForwarderConfig, LoudestOnly};
use crate::congestion::estimator::Bounds;
use crate::datagram::HandedSocket;
use crate::demux::MAX_WORKERS;
use crate::engine::{ADDRESSES_PER_ENDPOINT, Engine, EngineConfig, EngineState, ImportError};
use crate::ids::WorkerId;
use crate::io::{
    Backend, IoChoice, IoError, IoLimits, Mmsg, PacketIo, Probed, SocketOptions, SocketPool, Steering, Uring,
    bind_sockets, pin_to_core, probe, resolve_wildcard, sleep_precisely, wake_promptly,
};
use crate::link::{self, ControlLink, Wakeup, WorkerLink};
use crate::messages::Command;
use crate::peers::{Peers, mesh};
use crate::stats::WorkerStats;
use crate::worker::{Answer, Order, Suspension, Worker};

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
    /// What [`Dataplane::choose_backend`] made of that on this host; without it, the start finds out.
    pub chosen: Option<Probed>,
    /// Whether the kernel steers packets to the worker that their sender belongs to, where there are several workers and it can.
    pub steer: bool,
    /// Whether payload types and header extensions are translated per receiver.
    pub rewrite: bool,
    /// Sends no receiver more than its path is estimated to carry.
    pub congestion_control: bool,
    /// Bounds of those estimates.
    pub bandwidth: Bounds,
    /// Forwards the audio of the loudest of a conference alone; `None` forwards everybody's.
    pub loudest_only: Option<LoudestOnly>,
    /// Most endpoints of one worker.
    pub max_endpoints: usize,
    /// Kernel buffers of the sockets.
    pub sockets: SocketOptions,
    /// Buffers of each worker.
    pub limits: IoLimits,
    /// Entries of each command ring.
    pub command_ring: usize,
    /// Entries of each event ring.
    pub event_ring: usize,
    /// Entries of each worker-to-worker ring, for handovers and for media of shared conferences; 1,536 bytes each.
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
            chosen: None,
            steer: true,
            rewrite: true,
            congestion_control: true,
            bandwidth: Bounds::default(),
            loudest_only: None,
            max_endpoints: 4096,
            sockets: SocketOptions::default(),
            limits: IoLimits::default(),
            command_ring: 4096,
            event_ring: 4096,
            handover_ring: 1024,
        }
    }
}

/// What a dataplane takes at most. Whoever asks for more is refused by [`crate::messages::Event::EndpointRefused`], or, of sources, not at
/// all: what is beyond the bound is left out and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Endpoints that live on one worker.
    pub endpoints_per_worker: usize,
    /// Endpoints of one conference, on all of its workers together.
    pub endpoints_per_conference: usize,
    /// Sources that one endpoint publishes at a time.
    pub sources_per_endpoint: usize,
}

impl DataplaneConfig {
    /// What it takes at most.
    pub fn capacity(&self) -> Capacity {
        let forwarder = self.forwarder();
        Capacity {
            endpoints_per_worker: self.max_endpoints,
            endpoints_per_conference: forwarder.max_endpoints_per_conference,
            sources_per_endpoint: forwarder.max_sources_per_endpoint,
        }
    }

    fn forwarder(&self) -> ForwarderConfig {
        ForwarderConfig {
            rewrite: self.rewrite,
            congestion_control: self.congestion_control,
            bandwidth: self.bandwidth,
            loudest_only: self.loudest_only,
            ..ForwarderConfig::default()
        }
    }
}

impl Default for Capacity {
    fn default() -> Self {
        DataplaneConfig::default().capacity()
    }
}

/// Why the dataplane does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Sockets, cores, io_uring.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The number of workers is out of range.
    #[error("{0} workers asked for; there can be 1 to {MAX_WORKERS}")]
    Workers(usize),
    /// Fewer cores than workers.
    #[error("{workers} workers but only {cores} cores given; each worker takes a core of its own, or none is pinned")]
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
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The state of another process cannot be gone on with.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The state of another process does not fit its descriptors, or this configuration.
    #[error("the state of {found} does not fit {expected}: keep the number of workers and the local addresses")]
    Parts {
        /// What the state is of.
        found: String,
        /// What is there.
        expected: String,
    },
    /// A socket of another process that is no such socket.
    #[error(
        "a socket that was handed over is {found}, not one of UDP at {expected}: keep the local addresses and the port"
    )]
    Socket {
        /// What it is.
        found: String,
        /// What it should be.
        expected: SocketAddr,
    },
    /// A worker ended while it started.
    #[error("a worker thread ended while it started; its log line says why")]
    Died,
}

/// Whether workers have died; cheap to clone and to ask.
#[derive(Debug, Clone)]
pub struct DataplaneHealth {
    dead: Arc<[AtomicBool]>,
}

impl DataplaneHealth {
    pub(crate) fn new(workers: usize) -> Self {
        Self { dead: (0..workers).map(|_| AtomicBool::new(false)).collect() }
    }

    pub(crate) fn report_dead(&self, worker: WorkerId) {
        if let Some(flag) = self.dead.get(worker.index()) {
            flag.store(true, Ordering::Release);
        }
    }

    /// The first worker whose thread ended by a panic or an I/O failure, if any.
    pub fn dead_worker(&self) -> Option<WorkerId> {
        self.dead.iter().position(|flag| flag.load(Ordering::Acquire)).map(WorkerId::from_index)
    }
}

/// The running workers. Dropping it stops them.
#[derive(Debug)]
pub struct Dataplane {
    /// To suspended workers, and what they answer; dropped first, so that none waits for more.
    orders: Vec<mpsc::Sender<(u64, Order)>>,
    answers: Vec<Mutex<mpsc::Receiver<(u64, Answer)>>>,
    asked: Arc<AtomicU64>,
    /// Attempts to suspend them so far.
    attempt: u64,
    links: Vec<WorkerLink>,
    stats: Vec<Arc<WorkerStats>>,
    wakeups: Vec<Wakeup>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    health: DataplaneHealth,
    backend: (&'static str, String),
    steering: Option<Steering>,
    local_addresses: Vec<SocketAddr>,
}

impl Dataplane {
    /// Binds the sockets, starts and pins the workers.
    pub fn start(config: DataplaneConfig) -> Result<Self, StartError> {
        let probed = Self::probe(&config)?;
        let mut sockets = Vec::with_capacity(config.workers);
        let mut port = config.port;
        for worker in 0..config.workers {
            let options = SocketOptions { check_port_free: worker == 0, ..config.sockets };
            let set = bind_sockets(&config.local_addresses, port, &options)?;
            port = set.first().and_then(|socket| socket.local_addr().ok()).map_or(port, |address| address.port());
            sockets.push(set);
        }
        let steering = steer(&config, &sockets);
        let coalesce = probed.coalesce;
        let dataplane = Self::build(&config, probed, sockets, port, steering, Vec::new())?;
        tracing::info!(
            workers = config.workers,
            cores = ?config.cores,
            addresses = ?dataplane.local_addresses,
            backend = dataplane.backend.0,
            reason = %dataplane.backend.1,
            coalesce_micros = coalesce,
            steering = dataplane.is_steered(),
            "dataplane started"
        );
        Ok(dataplane)
    }

    /// Starts workers on these sockets: at once, or, where there are states, suspended and with what is in those.
    pub(crate) fn build(
        config: &DataplaneConfig,
        probed: Probed,
        sockets: Vec<Vec<UdpSocket>>,
        port: u16,
        steering: Option<Steering>,
        states: Vec<(EngineState, TakenSockets)>,
    ) -> Result<Self, StartError> {
        let local_addresses: Vec<SocketAddr> =
            config.local_addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();

        let mut links = Vec::new();
        let mut controls = Vec::new();
        for worker in 0..config.workers {
            let (link, control) = link::links(WorkerId::from_index(worker), config.command_ring, config.event_ring)?;
            links.push(link);
            controls.push(control);
        }
        let wakeups: Vec<Wakeup> = controls.iter().map(|control| control.wakeup().clone()).collect();
        let peers = mesh(&wakeups, config.handover_ring);
        let mut states = states.into_iter();
        let mut dataplane = Self {
            orders: Vec::new(),
            answers: Vec::new(),
            asked: Arc::default(),
            attempt: 0,
            links,
            stats: (0..config.workers).map(|_| Arc::default()).collect(),
            wakeups,
            threads: Vec::new(),
            stop: Arc::default(),
            health: DataplaneHealth::new(config.workers),
            backend: (probed.backend.name(), probed.reason),
            steering: steering.clone(),
            local_addresses,
        };

        let (ready_tx, ready_rx) = mpsc::channel();
        let parts = sockets.into_iter().zip(controls).zip(peers).zip(dataplane.stats.clone());
        for (index, (((sockets, control), peers), stats)) in parts.enumerate() {
            let engine = EngineConfig {
                worker: WorkerId::from_index(index),
                sockets: dataplane.local_addresses.clone().into(),
                max_endpoints: config.max_endpoints,
                max_addresses: config.max_endpoints.saturating_mul(ADDRESSES_PER_ENDPOINT),
                forwarder: config.forwarder(),
            };
            let (orders, obeyed) = mpsc::channel();
            let (answering, answers) = mpsc::channel();
            dataplane.orders.push(orders);
            dataplane.answers.push(Mutex::new(answers));
            let asked = Arc::clone(&dataplane.asked);
            let start = WorkerStart {
                suspension: Suspension { asked, orders: obeyed, answers: answering },
                state: states.next(),
                config: engine,
                steering: steering.clone(),
                core: config.cores.get(index).copied(),
                backend: probed.backend,
                limits: config.limits,
                coalesce: Duration::from_micros(probed.coalesce.into()),
                sockets,
                control,
                peers,
                stats,
                stop: Arc::clone(&dataplane.stop),
                health: dataplane.health.clone(),
                ready: ready_tx.clone(),
            };
            let name = format!("rb-worker-{index}");
            let thread = std::thread::Builder::new().name(name.clone()).spawn(move || start.run());
            // An error drops `dataplane`, which stops the workers that run already.
            dataplane.threads.push(thread.map_err(|source| StartError::Thread { name, source })?);
        }
        drop(ready_tx);
        for _ in 0..config.workers {
            match ready_rx.recv() {
                Ok(result) => result?,
                Err(_) => return Err(StartError::Died),
            }
        }
        Ok(dataplane)
    }

    /// Checks what can be checked of a configuration, and finds the backend.
    pub(crate) fn probe(config: &DataplaneConfig) -> Result<Probed, StartError> {
        if config.workers == 0 || config.workers > MAX_WORKERS {
            return Err(StartError::Workers(config.workers));
        }
        if !config.cores.is_empty() && config.cores.len() < config.workers {
            return Err(StartError::Cores { workers: config.workers, cores: config.cores.len() });
        }
        if let Some(probed) = &config.chosen {
            return Ok(probed.clone());
        }
        // Whoever asks for an option of io_uring asks for io_uring.
        let io = match (config.io, config.limits.extras.of_uring()) {
            (IoChoice::Auto, Some(_)) => IoChoice::Uring,
            (io, _) => io,
        };
        Ok(probe(io, config.limits.extras)?)
    }

    /// Asks every worker to suspend itself.
    pub(crate) fn ask_to_suspend(&mut self) {
        self.attempt += 1;
        self.asked.store(self.attempt, Ordering::Release);
        self.wakeups.iter().for_each(Wakeup::wake);
    }

    /// Does not ask any more: whoever has suspended itself waits for orders, whoever has not does not.
    pub(crate) fn stop_asking(&self) {
        self.asked.store(0, Ordering::Release);
    }

    /// Gives a suspended worker an order.
    pub(crate) fn order(&self, worker: usize, order: Order) {
        if let Some(orders) = self.orders.get(worker) {
            // One that has ended does not answer either.
            let _ = orders.send((self.attempt, order));
        }
    }

    /// What a worker answers; `None` when it does not in time.
    pub(crate) fn answer(&self, worker: usize, within: Duration) -> Option<Answer> {
        let answers = self.answers.get(worker)?.lock().ok()?;
        let next = || answers.recv_timeout(within).ok();
        std::iter::from_fn(next).find(|(of, _)| *of == self.attempt).map(|(_, answer)| answer)
    }

    /// What steers paths to workers.
    pub(crate) fn steering(&self) -> Option<&Steering> {
        self.steering.as_ref()
    }

    /// Takes what steers paths to workers from now on.
    pub(crate) fn note_steering(&mut self, steering: Steering) {
        self.steering = Some(steering);
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.stats.len()
    }

    /// Counters of one worker, which is one of [`Self::workers`].
    pub fn stats(&self, worker: WorkerId) -> Arc<WorkerStats> {
        Arc::clone(&self.stats[worker.index()])
    }

    /// Name of the I/O backend and why it was chosen.
    pub fn backend(&self) -> (&'static str, &str) {
        (self.backend.0, &self.backend.1)
    }

    /// Whether the kernel steers packets to the worker that their sender belongs to.
    pub fn is_steered(&self) -> bool {
        self.steering.is_some()
    }

    /// The bound addresses, by socket index.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.local_addresses
    }

    /// The addresses to offer as host candidates: the bound ones, each wildcard replaced by the address that the
    /// default route leaves from (nothing is sent to find out), or by loopback where there is no route.
    pub fn candidate_addresses(&self) -> Vec<SocketAddr> {
        self.local_addresses
            .iter()
            .map(|address| SocketAddr::new(resolve_wildcard(address.ip()), address.port()))
            .collect()
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
        self.orders.clear();
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

/// Steering, where it is of use and allowed.
pub(crate) fn steer(config: &DataplaneConfig, sockets: &[Vec<UdpSocket>]) -> Option<Steering> {
    // A single worker gets everything anyway.
    if config.workers < 2 || !config.steer {
        return None;
    }
    let paths = config.max_endpoints.saturating_mul(config.workers);
    Steering::attach(sockets, paths)
        .inspect_err(|error| tracing::warn!(%error, "the kernel cannot steer packets to their workers; workers hand them to each other, which costs more per packet"))
        .ok()
}

/// What a worker's thread takes along.
struct WorkerStart {
    suspension: Suspension,
    /// What it goes on with.
    state: Option<(EngineState, TakenSockets)>,
    config: EngineConfig,
    steering: Option<Steering>,
    core: Option<usize>,
    backend: Backend,
    limits: IoLimits,
    coalesce: Duration,
    sockets: Vec<UdpSocket>,
    control: ControlLink,
    peers: Peers,
    stats: Arc<WorkerStats>,
    stop: Arc<AtomicBool>,
    health: DataplaneHealth,
    ready: mpsc::Sender<Result<(), StartError>>,
}

impl WorkerStart {
    fn run(self) {
        let (index, health) = (self.config.worker, self.health.clone());
        supervise(index, &health, || self.work());
    }

    fn work(self) -> std::io::Result<()> {
        if let Some(Err(error)) = self.core.map(pin_to_core) {
            let _ = self.ready.send(Err(error.into()));
            return Ok(());
        }
        sleep_precisely();
        if let Err(error) = wake_promptly() {
            let worker = self.config.worker;
            tracing::info!(%worker, %error, "cannot give the worker a short scheduler slice: other threads on its core delay it longer");
        }
        let wake = self.control.wakeup().event_fd().clone();
        let stats = Arc::clone(&self.stats);
        let (engine, taken) = match self.state {
            None => (Engine::with_peers(self.config, stats, self.peers, self.steering), None),
            Some((state, taken)) => {
                let parts = (self.peers, self.steering);
                match Engine::import_with_peers(self.config, &state, stats, Instant::now(), parts) {
                    Ok(engine) => (engine, Some(taken)),
                    Err(error) => {
                        let _ = self.ready.send(Err(error.into()));
                        return Ok(());
                    }
                }
            }
        };
        let worker = Worker::new(engine, self.control, self.limits.batch, self.coalesce);
        let (sockets, limits, stats) = (self.sockets, self.limits, self.stats);
        let gro = taken.as_ref().map(|taken| taken.gro);
        let serving = Serving { worker, taken, ready: self.ready, stop: self.stop, suspension: self.suspension };
        match (self.backend, gro) {
            (Backend::Uring, None) => serving.serve(Uring::new(sockets, wake, limits, stats)),
            (Backend::Uring, Some(gro)) => serving.serve(Uring::taking_over(sockets, wake, limits, stats, gro)),
            (Backend::Mmsg, None) => serving.serve(Mmsg::new(sockets, wake, limits, stats)),
            (Backend::Mmsg, Some(gro)) => serving.serve(Mmsg::taking_over(sockets, wake, limits, stats, gro)),
        }
    }
}

/// What is known of sockets that were another process', beside the shared ones themselves.
pub(crate) struct TakenSockets {
    /// Those that belong to endpoints, by their indices.
    pub(crate) handed: Vec<(u16, HandedSocket)>,
    /// What each had dropped, as far as that was counted, by index.
    pub(crate) drops: Vec<(u16, u32)>,
    /// Whether runs of datagrams come as one.
    pub(crate) gro: bool,
}

/// A worker that waits for its backend.
struct Serving {
    worker: Worker,
    /// Where the sockets were another process': then it begins suspended.
    taken: Option<TakenSockets>,
    ready: mpsc::Sender<Result<(), StartError>>,
    stop: Arc<AtomicBool>,
    suspension: Suspension,
}

impl Serving {
    /// Says whether the backend is there, and runs the worker on it.
    fn serve<I: PacketIo>(self, io: Result<I, IoError>) -> std::io::Result<()> {
        let Self { worker, taken, ready, stop, suspension } = self;
        let suspended = taken.is_some();
        let with_sockets = io.and_then(|mut io| {
            let Some(TakenSockets { handed, drops, gro: _ }) = taken else { return Ok(io) };
            let (_, pool) = io.parts();
            for (local, socket) in handed {
                pool.open_at(local, socket)?;
            }
            drops.into_iter().for_each(|(local, drops)| io.count_drops_from(local, drops));
            Ok(io)
        });
        match with_sockets {
            Ok(io) => {
                let _ = ready.send(Ok(()));
                worker.run(io, &stop, &suspension, suspended)
            }
            Err(error) => {
                let _ = ready.send(Err(error.into()));
                Ok(())
            }
        }
    }
}

/// The body of a worker's thread: whatever ends it but a shutdown makes the bridge unhealthy.
fn supervise(worker: WorkerId, health: &DataplaneHealth, work: impl FnOnce() -> std::io::Result<()>) {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(%worker, %error, "worker died: its I/O failed");
            health.report_dead(worker);
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
            tracing::error!(%worker, panic = text, "worker died: this is a bug, please report it");
            health.report_dead(worker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_worker_is_reported() {
        let health = DataplaneHealth::new(3);
        supervise(WorkerId::new(0), &health, || Ok(()));
        assert_eq!(health.dead_worker(), None);
        supervise(WorkerId::new(2), &health, || Err(std::io::Error::other("no more sockets")));
        assert_eq!(health.dead_worker(), Some(WorkerId::new(2)));
        supervise(WorkerId::new(1), &health, || panic!("a bug"));
        assert_eq!(health.clone().dead_worker(), Some(WorkerId::new(1)), "clones see the same");
    }
}
