//! A worker: the loop of one thread that drives an engine between its sockets and its rings.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::coalescing::Coalescing;
use crate::congestion::shedding::LoadMeter;
use crate::datagram::{HandedSocket, LocalSocket, PacketSink};
use crate::engine::{Engine, EngineState};
use crate::ids::EndpointId;
use crate::io::{Flush, PacketIo, SocketDuplicate, SocketPool, Steering, processor_time};
use crate::link::ControlLink;
use crate::messages::Command;
use crate::stats::{Counter, WorkerStats};

/// The longest that a worker sleeps: whatever it has to do wakes it, so this only keeps its heartbeat going.
const MAX_SLEEP: Duration = Duration::from_millis(50);
/// The longest while something waits for room in a ring, which wakes nobody when it has room again.
const HELD_UP_SLEEP: Duration = Duration::from_millis(1);
/// Commands that are handled before media gets its turn again.
const STEP: usize = 256;

/// What a suspended worker is to do.
pub(crate) enum Order {
    /// To take what waits in the rings.
    Drain,
    /// To write down what it knows.
    Export,
    /// To go on; with what steers paths to it from now on, where that is new.
    Resume(Option<Steering>),
}

/// What it answers.
pub(crate) enum Answer {
    /// It receives no more.
    Suspended,
    /// Whether anything was in the rings.
    Drained(bool),
    /// What it knows, and its sockets.
    Exported(Exported),
    /// It cannot do that.
    Failed(String),
}

/// All that another process needs to go on as a worker.
pub(crate) struct Exported {
    pub(crate) state: EngineState,
    /// In the order of their indices.
    pub(crate) sockets: Vec<SocketDuplicate>,
    /// Whether runs of datagrams come as one.
    pub(crate) gro: bool,
}

/// A worker's end of the orders that it is given while it is suspended.
pub(crate) struct Suspension {
    /// The number of the attempt that is under way; zero is none.
    pub(crate) asked: Arc<AtomicU64>,
    /// With the attempt that each belongs to: what a former one left behind is not obeyed.
    pub(crate) orders: mpsc::Receiver<(u64, Order)>,
    pub(crate) answers: mpsc::Sender<(u64, Answer)>,
}

impl Suspension {
    fn asked_for(&self) -> Option<u64> {
        Some(self.asked.load(Ordering::Acquire)).filter(|attempt| *attempt != 0)
    }

    /// The next order; `None` when nobody will give one.
    fn next_order(&self, attempt: u64) -> Option<Order> {
        std::iter::from_fn(|| self.orders.recv().ok()).find(|(of, _)| *of == attempt).map(|(_, order)| order)
    }

    fn answer(&self, attempt: u64, answer: Answer) {
        // Whoever does not listen any more gives no orders either.
        let _ = self.answers.send((attempt, answer));
    }
}

/// One worker: its engine and its end of the rings.
pub(crate) struct Worker {
    pub(crate) engine: Engine,
    /// Messages per received batch: a full one says that more is waiting.
    batch: usize,
    link: ControlLink,
    load: LoadMeter,
    coalescing: Coalescing,
}

/// Whether the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// All that was queued is done.
    Idle,
    /// More is queued: do not sleep.
    More,
    /// A shutdown was asked for.
    Stop,
}

impl Worker {
    /// A worker; `batch` is how many messages its I/O receives at once, `coalesce` the time between two turns while many come.
    pub(crate) fn new(engine: Engine, link: ControlLink, batch: usize, coalesce: Duration) -> Self {
        let (shedding, lost) = (engine.shedding(), engine.stats().get(Counter::DropSocketOverflow));
        engine.stats().set(Counter::SheddingLevel, u64::from(shedding.level()));
        let load = LoadMeter::starting_at(shedding, lost);
        Self { engine, batch, link, load, coalescing: Coalescing::new(coalesce) }
    }

    /// The loop: receive, step, flush, events. Ends by [`Command::Shutdown`], by `stop`, or by an I/O failure. Where it is to begin
    /// suspended, it waits for orders first.
    pub(crate) fn run<I: PacketIo>(
        mut self,
        mut io: I,
        stop: &AtomicBool,
        suspension: &Suspension,
        suspended: bool,
    ) -> std::io::Result<()> {
        if suspended && !self.obey(&mut io, suspension, 0)? {
            return Ok(());
        }
        let mut timeout = Duration::ZERO;
        let mut pause = Duration::ZERO;
        loop {
            if !pause.is_zero() {
                io.coalesce(pause)?;
            }
            let received = io.receive(timeout)?;
            let now = Instant::now();
            // `receive` has drained the eventfd; from here on, new wake-ups write it again.
            self.link.wakeup().clear();
            self.gather(&mut io, received, now);
            let (_, tx) = io.parts();
            let more_from_peers = self.engine.handle_peers(now, tx);
            self.engine.release(now, tx);
            let commands = self.handle_commands(now, tx);
            self.engine.handle_timeout(now, tx);
            self.engine.wake_peers();
            // Nothing stays queued while the loop sleeps.
            tx.flush()?;
            while let Some(local) = self.engine.poll_closed_socket() {
                tx.close(local)?;
            }
            self.handle_events();
            self.engine.note_held();
            self.stats().count(Counter::LoopTurns);
            if commands == Step::Stop || stop.load(Ordering::Acquire) {
                return Ok(());
            }
            if let Some(attempt) = suspension.asked_for() {
                self.suspend(&mut io, suspension, attempt)?;
                if !self.obey(&mut io, suspension, attempt)? {
                    return Ok(());
                }
                (timeout, pause) = (Duration::ZERO, Duration::ZERO);
                continue;
            }
            let end = Instant::now();
            timeout = if commands == Step::More || more_from_peers { Duration::ZERO } else { self.sleep(end) };
            let pressed = received >= self.batch || timeout.is_zero();
            pause = self.coalescing.turn((now, end), received, pressed);
            let work = end.saturating_duration_since(now);
            self.stats().add(Counter::BusyNanos, work.as_nanos() as u64);
            self.note_load(end, work, received >= self.batch);
        }
    }

    /// Takes what was received into the engine's batch.
    #[inline]
    fn gather<I: PacketIo>(&mut self, io: &mut I, received: usize, now: Instant) {
        let (batch, tx) = io.parts();
        let mut bytes = 0;
        for i in 0..received {
            let Some(datagram) = batch.get(i) else { continue };
            bytes += datagram.data.len() as u64;
            self.engine.gather(now, datagram.path, datagram.data, None, tx);
        }
        self.stats().add(Counter::PacketsReceived, received as u64);
        self.stats().add(Counter::BytesReceived, bytes);
    }

    /// Stops receiving, and forwards what was received.
    fn suspend<I: PacketIo>(&mut self, io: &mut I, suspension: &Suspension, attempt: u64) -> std::io::Result<()> {
        if let Err(error) = io.pause() {
            suspension.answer(attempt, Answer::Failed(error.to_string()));
            return Ok(());
        }
        loop {
            let received = io.take_completed()?;
            if received == 0 {
                break;
            }
            let now = Instant::now();
            self.gather(io, received, now);
            let (_, tx) = io.parts();
            self.engine.release(now, tx);
            tx.flush()?;
        }
        suspension.answer(attempt, Answer::Suspended);
        Ok(())
    }

    /// Does what is ordered until it may go on; false when it never will.
    fn obey<I: PacketIo>(&mut self, io: &mut I, suspension: &Suspension, attempt: u64) -> std::io::Result<bool> {
        while let Some(order) = suspension.next_order(attempt) {
            match order {
                Order::Drain => {
                    let Some(busy) = self.drain(io)? else { return Ok(false) };
                    suspension.answer(attempt, Answer::Drained(busy));
                }
                Order::Export => suspension.answer(attempt, self.export(io)),
                Order::Resume(steering) => {
                    io.resume()?;
                    if let Some(steering) = steering {
                        self.engine.steer_by(steering);
                    }
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Takes what waits in the rings; whether there was anything, `None` where that was a shutdown.
    fn drain<I: PacketIo>(&mut self, io: &mut I) -> std::io::Result<Option<bool>> {
        let now = Instant::now();
        let (_, tx) = io.parts();
        let waiting = self.engine.has_messages() || self.link.has_commands();
        self.engine.handle_peers(now, tx);
        self.engine.release(now, tx);
        let commands = self.handle_commands(now, tx);
        self.engine.wake_peers();
        tx.flush()?;
        while let Some(local) = self.engine.poll_closed_socket() {
            tx.close(local)?;
        }
        self.handle_events();
        if commands == Step::Stop {
            return Ok(None);
        }
        Ok(Some(waiting || self.engine.has_backlog()))
    }

    fn export<I: PacketIo>(&self, io: &I) -> Answer {
        match (self.engine.export(Instant::now()), io.duplicates()) {
            (Ok(state), Ok(sockets)) => Answer::Exported(Exported { state, sockets, gro: io.offloads().gro }),
            (Err(error), _) => Answer::Failed(error.to_string()),
            (_, Err(error)) => Answer::Failed(format!("its sockets cannot be duplicated: {error}; raise ulimit -n")),
        }
    }

    fn stats(&self) -> &WorkerStats {
        self.engine.stats()
    }

    /// Takes what the control plane queued, within bounds.
    pub(crate) fn handle_commands(&mut self, now: Instant, sink: &mut (impl PacketSink + SocketPool)) -> Step {
        for _ in 0..STEP {
            match self.link.poll_command() {
                None => return Step::Idle,
                Some(Command::Shutdown) => return Step::Stop,
                Some(Command::OpenSockets { endpoint, sockets }) => self.open_sockets(endpoint, sockets, sink),
                // Counted, and reported by an event where the control plane acts on it.
                Some(command) => drop(self.engine.handle_command(now, command, sink)),
            }
        }
        Step::More
    }

    /// Opens all of an endpoint's own sockets, or none.
    fn open_sockets(&mut self, endpoint: EndpointId, sockets: Vec<HandedSocket>, pool: &mut impl SocketPool) {
        // Without any it uses those of all, as it would without this command.
        if sockets.is_empty() {
            return;
        }
        let mut opened = Vec::with_capacity(sockets.len());
        for socket in sockets {
            let address = socket.address();
            match pool.open(socket) {
                Ok(local) => opened.push(LocalSocket { local, address }),
                Err(error) => {
                    tracing::error!(worker = %self.engine.worker(), %address, %error, "a relay's own socket is refused");
                    // An error ends the worker at its next turn.
                    opened.drain(..).for_each(|socket| drop(pool.close(socket.local)));
                    break;
                }
            }
        }
        // Counted; the endpoint that is created next is refused.
        let _ = self.engine.give_sockets(endpoint, &opened);
    }

    /// Hands events to the control plane, as far as its ring has room.
    pub(crate) fn handle_events(&mut self) {
        while self.link.event_slots() > 0 {
            let Some(event) = self.engine.poll_event() else { return };
            // There is room, and nobody else adds to the ring.
            let _ = self.link.send(event);
        }
    }

    /// How long the loop may sleep.
    fn sleep(&mut self, now: Instant) -> Duration {
        let next = self.engine.poll_timeout();
        let sleep = next.map_or(MAX_SLEEP, |at| at.saturating_duration_since(now).min(MAX_SLEEP));
        if self.engine.is_held_up() { sleep.min(HELD_UP_SLEEP) } else { sleep }
    }

    fn note_load(&mut self, now: Instant, work: Duration, full: bool) {
        let lost = self.stats().get(Counter::DropSocketOverflow);
        let Some(window) = self.load.turn(now, work, full, lost, processor_time) else { return };
        self.stats().add(Counter::ProcessorNanos, window.used.as_nanos() as u64);
        let Some(shedding) = window.changed else { return };
        let worker = self.engine.worker();
        if self.stats().get(Counter::SheddingLevel) == 0 {
            if window.kept_waiting {
                tracing::warn!(%worker, "worker gets too little processor time from this host and leaves out video; free some, or add hosts");
            } else {
                tracing::warn!(%worker, "worker is at its limit and leaves out video; add workers or bridges");
            }
        } else if shedding.level() == 0 {
            tracing::info!(%worker, "load shedding ended");
        }
        self.stats().set(Counter::SheddingLevel, u64::from(shedding.level()));
        self.engine.set_shedding(shedding);
    }
}
