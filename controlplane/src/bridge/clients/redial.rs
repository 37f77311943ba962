//! When the WebSocket of another bridge is opened: at once, and again after it was lost, ever more seldom while that fails.
//! A state machine: what became of an attempt, and the time in; when to try next out.

use std::time::{Duration, Instant};

use crate::channel::{Address, Dial};

/// Wait after the first failure; it doubles with each further one. Jitter takes away up to half.
const FIRST: Duration = Duration::from_millis(250);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(5);
/// A connection that lasted so long was none that failed.
const LASTED: Duration = Duration::from_secs(10);

/// The WebSocket that we open to another bridge.
#[derive(Debug)]
pub(super) struct Redial {
    address: Address,
    /// In a row.
    failures: u32,
    next: Option<Instant>,
    attempt: Option<Attempt>,
    /// The other bridge wants no further one.
    over: bool,
}

/// The latest connection.
#[derive(Debug)]
enum Attempt {
    UnderWay(Dial),
    Open { connection: u64, since: Instant },
}

impl Redial {
    /// To be opened at once.
    pub fn new(now: Instant, address: Address) -> Self {
        Self { address, failures: 0, next: Some(now), attempt: None, over: false }
    }

    /// The address to dial.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// When [`Self::take_due`] has something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// The address, when it is time to open it; [`Self::set_under_way`] follows.
    pub fn take_due(&mut self, now: Instant) -> Option<Address> {
        self.next.take_if(|at| *at <= now).map(|_| self.address.clone())
    }

    /// An attempt began; a former one is given up.
    pub fn set_under_way(&mut self, dial: Dial) {
        self.attempt = Some(Attempt::UnderWay(dial));
    }

    /// A connection stands; whether it is ours.
    pub fn handle_opened(&mut self, now: Instant, connection: u64) -> bool {
        match self.attempt.take() {
            Some(Attempt::UnderWay(dial)) if dial.connection() == connection => {
                dial.release();
                self.attempt = Some(Attempt::Open { connection, since: now });
                true
            }
            other => {
                self.attempt = other;
                false
            }
        }
    }

    /// There is no connection at all, perhaps since one that the other bridge opened ended.
    pub fn resume(&mut self, now: Instant) {
        if self.attempt.is_none() && !self.over {
            self.next.get_or_insert(now + FIRST);
        }
    }

    /// A connection, or an attempt, ended. When it was ours, another one follows, unless the other bridge wants none (`for_good`);
    /// how many failed in a row then. `jitter` is from 0 to 1.
    pub fn handle_ended(&mut self, now: Instant, connection: u64, for_good: bool, jitter: f64) -> Option<u32> {
        let lasted = match &self.attempt {
            Some(Attempt::UnderWay(dial)) if dial.connection() == connection => false,
            Some(Attempt::Open { connection: open, since }) if *open == connection => {
                now.saturating_duration_since(*since) >= LASTED
            }
            _ => return None,
        };
        self.attempt = None;
        if for_good {
            self.over = true;
            return None;
        }
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = if lasted { 0 } else { self.failures.saturating_add(1) };
        let wait = if lasted { FIRST } else { wait };
        self.next = Some(now + wait.mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0)));
        Some(self.failures)
    }
}
