//! The control plane's ends of the workers' rings: commands that wait for room, wake-ups, heartbeats.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ringbridge_dataplane::io::EventFd;
use ringbridge_dataplane::link::WorkerLink;
use ringbridge_dataplane::messages::{Command, Event};
use ringbridge_dataplane::stats::{Counter, WorkerStats};
use tokio::io::unix::AsyncFd;

/// A worker whose loop counter stands still for this long is stalled; with the interval of the check noticed within 10 s.
const STALLED: Duration = Duration::from_secs(8);
/// Events handled in a row, so that requests and messages get their turn between: one may be a step of a handshake, and cost
/// a tenth of a millisecond.
const BATCH: usize = 16;

struct Worker {
    link: WorkerLink,
    wakeup: AsyncFd<EventFd>,
    /// Commands that found the ring full, in order.
    waiting: VecDeque<Command>,
    stats: Arc<WorkerStats>,
    turns: u64,
    moved: Instant,
    busy: u64,
    sampled: Instant,
    stress: f64,
}

/// The safe constructor is deprecated because a type may lie about its descriptor; an [`EventFd`] owns its own.
#[allow(deprecated)]
fn register(wakeup: EventFd) -> std::io::Result<AsyncFd<EventFd>> {
    AsyncFd::new(wakeup)
}

/// All workers.
pub(super) struct Workers {
    workers: Vec<Worker>,
    /// Whose events come first next time.
    first: usize,
    /// They are given nothing.
    held: bool,
}

impl Workers {
    /// Takes over the links; `stats` are in the same order.
    pub fn new(now: Instant, links: Vec<WorkerLink>, stats: Vec<Arc<WorkerStats>>) -> std::io::Result<Self> {
        let workers = links
            .into_iter()
            .zip(stats)
            .map(|(link, stats)| {
                Ok(Worker {
                    wakeup: register(link.event_wakeup())?,
                    link,
                    waiting: VecDeque::new(),
                    turns: stats.get(Counter::LoopTurns),
                    moved: now,
                    busy: stats.get(Counter::BusyNanos),
                    sampled: now,
                    stress: 0.0,
                    stats,
                })
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Self { workers, first: 0, held: false })
    }

    /// Queues a command, behind those that wait.
    pub fn send(&mut self, worker: usize, command: Command) {
        let Some(worker) = self.workers.get_mut(worker) else {
            tracing::error!(worker, "command for a worker that does not exist; please report it");
            return;
        };
        if worker.waiting.is_empty() && !self.held {
            if let Err(command) = worker.link.send(command) {
                worker.waiting.push_back(command);
            }
        } else {
            worker.waiting.push_back(command);
        }
    }

    /// Tries the waiting commands again, in order.
    pub fn retry(&mut self) {
        if self.held {
            return;
        }
        for worker in &mut self.workers {
            while let Some(command) = worker.waiting.pop_front() {
                if let Err(command) = worker.link.send(command) {
                    worker.waiting.push_front(command);
                    break;
                }
            }
        }
    }

    /// Suspended workers are given nothing: commands wait until they go on, here or in another process.
    pub fn hold(&mut self, hold: bool) {
        self.held = hold;
        self.retry();
    }

    /// The commands that wait, each with its worker.
    pub fn waiting(&self) -> impl Iterator<Item = (usize, Command)> {
        let workers = self.workers.iter().enumerate();
        workers.flat_map(|(index, worker)| worker.waiting.iter().map(move |command| (index, command.clone())))
    }

    /// The events that are there now.
    pub fn take_events(&mut self, events: &mut Vec<Event>) {
        for worker in &mut self.workers {
            events.extend(std::iter::from_fn(|| worker.link.poll_event()));
        }
    }

    /// What they count.
    pub fn stats(&self) -> impl Iterator<Item = &WorkerStats> {
        self.workers.iter().map(|worker| &*worker.stats)
    }

    /// Whether commands wait for room.
    pub fn backlog(&self) -> bool {
        self.workers.iter().any(|w| !w.waiting.is_empty())
    }

    /// Collects events of all workers, those of each first in turn; ready with at least one event.
    pub fn poll_events(&mut self, cx: &mut Context<'_>, events: &mut Vec<Event>) -> Poll<std::io::Result<()>> {
        let count = self.workers.len().max(1);
        let first = self.first;
        self.first = (first + 1) % count;
        let (before, from) = self.workers.split_at_mut(first);
        for worker in from.iter_mut().chain(before) {
            loop {
                let before = events.len();
                while events.len() < BATCH {
                    match worker.link.poll_event() {
                        Some(event) => events.push(event),
                        None => break,
                    }
                }
                if events.len() > before || events.len() >= BATCH {
                    break;
                }
                // Empty: take the wake-up back, and look once more before sleeping.
                match worker.wakeup.poll_read_ready(cx) {
                    Poll::Ready(guard) => {
                        let mut guard = guard?;
                        worker.link.clear_wakeup();
                        guard.clear_ready();
                    }
                    Poll::Pending => break,
                }
            }
        }
        if events.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Waits for events.
    pub async fn events(&mut self, events: &mut Vec<Event>) -> std::io::Result<()> {
        std::future::poll_fn(|cx| {
            ready!(self.poll_events(cx, events))?;
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Number of workers.
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Reads heartbeats.
    pub fn sample_heartbeat(&mut self, now: Instant) {
        for worker in &mut self.workers {
            let turns = worker.stats.get(Counter::LoopTurns);
            if turns != worker.turns {
                worker.turns = turns;
                worker.moved = now;
            }
        }
    }

    /// Reads heartbeats and busy times.
    pub fn sample(&mut self, now: Instant) {
        self.sample_heartbeat(now);
        for worker in &mut self.workers {
            let busy = worker.stats.get(Counter::BusyNanos);
            let elapsed = now.saturating_duration_since(worker.sampled).as_nanos();
            if elapsed > 0 {
                let busy_share = (busy.wrapping_sub(worker.busy) as f64 / elapsed as f64).min(1.0);
                // A worker that leaves video out has less to do than it was given: its limit is what counts.
                let shedding = worker.stats.get(Counter::SheddingLevel) > 0;
                worker.stress = if shedding { 1.0 } else { busy_share };
                worker.busy = busy;
                worker.sampled = now;
            }
        }
    }

    /// Share of time that each worker spent working at the last sample, 0 to 1.
    pub fn stresses(&self) -> impl Iterator<Item = f64> {
        self.workers.iter().map(|w| w.stress)
    }

    /// The same of the busiest worker; 1 while one leaves video out.
    pub fn stress(&self) -> f64 {
        self.stresses().fold(0.0, f64::max)
    }

    /// What is wrong with the workers, if anything.
    pub fn health(&self, now: Instant) -> Result<(), String> {
        for (index, worker) in self.workers.iter().enumerate() {
            if worker.link.is_closed() {
                return Err(format!("worker {index} has ended; restart the bridge"));
            }
            if now.saturating_duration_since(worker.moved) >= STALLED {
                return Err(format!("worker {index} has not turned for {} s", STALLED.as_secs()));
            }
        }
        Ok(())
    }

    /// Sum of a counter over all workers.
    pub fn total(&self, counter: Counter) -> u64 {
        self.workers.iter().map(|w| w.stats.get(counter)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringbridge_dataplane::ice::IceState;
    use ringbridge_dataplane::ids::{EndpointId, WorkerId};
    use ringbridge_dataplane::link::{ControlLink, links};

    fn one(commands: usize) -> (Workers, ControlLink, Arc<WorkerStats>, Instant) {
        let (link, control) = links(WorkerId::new(0), commands, 8).unwrap();
        let stats = Arc::new(WorkerStats::default());
        let now = Instant::now();
        (Workers::new(now, vec![link], vec![Arc::clone(&stats)]).unwrap(), control, stats, now)
    }

    fn expire(n: u32) -> Command {
        Command::ExpireEndpoint { endpoint: EndpointId(n) }
    }

    #[tokio::test]
    async fn commands_that_do_not_fit_keep_their_order() {
        let (mut workers, mut control, _stats, _) = one(2);
        for n in 0..5 {
            workers.send(0, expire(n));
        }
        assert!(workers.backlog());
        let mut seen = Vec::new();
        while workers.backlog() {
            seen.extend(control.poll_command());
            workers.retry();
        }
        seen.extend(std::iter::from_fn(|| control.poll_command()));
        assert_eq!(seen, (0..5).map(expire).collect::<Vec<_>>());
        workers.send(7, expire(0)); // no such worker: logged, not a panic
    }

    #[tokio::test]
    async fn events_wake_the_reader_every_time() {
        let (mut workers, mut control, _stats, _) = one(2);
        for round in 0..3 {
            let event =
                Event::Ice { endpoint: EndpointId(round), state: IceState::Connected, remote: None, relayed: false };
            let sent = event.clone();
            let writer = tokio::task::spawn_blocking(move || {
                std::thread::sleep(Duration::from_millis(5));
                control.send(sent).unwrap();
                control
            });
            let mut events = Vec::new();
            tokio::time::timeout(Duration::from_secs(5), workers.events(&mut events)).await.unwrap().unwrap();
            assert_eq!(events, [event]);
            control = writer.await.unwrap();
        }
    }

    #[tokio::test]
    async fn many_events_come_in_turns_and_from_every_worker() {
        let now = Instant::now();
        let (mut ends, mut controls, mut stats) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..3 {
            let (link, control) = links(WorkerId::new(index), 2, 4 * BATCH).unwrap();
            ends.push(link);
            controls.push(control);
            stats.push(Arc::new(WorkerStats::default()));
        }
        let mut workers = Workers::new(now, ends, stats).unwrap();
        // Two have more than fits into one turn, one has a single event.
        for (worker, control) in controls.iter_mut().enumerate() {
            for n in 0..if worker == 2 { 1 } else { 3 * BATCH } {
                let endpoint = EndpointId((worker * 1000 + n) as u32);
                control.send(Event::Activity { endpoint, active: true }).unwrap();
            }
        }
        let (mut seen, mut turns) = (Vec::new(), Vec::new());
        while seen.len() < 6 * BATCH + 1 {
            let mut events = Vec::new();
            tokio::time::timeout(Duration::from_secs(5), workers.events(&mut events)).await.unwrap().unwrap();
            assert!((1..=BATCH).contains(&events.len()), "{}", events.len());
            let from = |event: &Event| match event {
                Event::Activity { endpoint, .. } => endpoint.0,
                other => panic!("{other:?}"),
            };
            let ids: Vec<u32> = events.iter().map(from).collect();
            turns.push(ids[0] / 1000);
            seen.extend(ids);
        }
        assert_eq!(turns[..3], [0, 1, 2], "each is first in turn");
        for worker in 0..3 {
            let of: Vec<u32> = seen.iter().copied().filter(|id| id / 1000 == worker).collect();
            assert!(of.is_sorted(), "the events of one worker keep their order");
        }
    }

    #[tokio::test]
    async fn stalled_and_dead_workers_are_unhealthy() {
        let (mut workers, control, stats, now) = one(2);
        stats.count(Counter::LoopTurns);
        stats.add(Counter::BusyNanos, 500_000_000);
        workers.sample(now + Duration::from_secs(1));
        assert_eq!(workers.health(now + Duration::from_secs(8)), Ok(()));
        assert!((workers.stress() - 0.5).abs() < 1e-9);
        workers.sample(now + Duration::from_secs(11));
        assert!(workers.health(now + Duration::from_secs(11)).unwrap_err().contains("worker 0"));
        stats.count(Counter::LoopTurns);
        workers.sample(now + Duration::from_secs(12));
        assert_eq!(workers.health(now + Duration::from_secs(12)), Ok(()));
        drop(control);
        assert!(workers.health(now + Duration::from_secs(12)).is_err());
    }
}
