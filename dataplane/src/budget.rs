//! Rates with bursts, refilled when they are asked: what one peer may cost.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Limits something to `RATE` tokens per second, at least one, with bursts of `BURST` (a token bucket that remembers nothing but
/// when it will be full again). A new one is full.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Budget<const RATE: u32, const BURST: u32> {
    /// When the bucket will be full again.
    #[serde(with = "crate::carry::checked")]
    full_at: Option<Instant>,
}

impl<const RATE: u32, const BURST: u32> Budget<RATE, BURST> {
    const PER_TOKEN: Duration = Duration::from_nanos(1_000_000_000 / RATE as u64);
    /// Time that a full bucket is worth.
    const DEPTH: Duration = Duration::from_nanos(1_000_000_000 / RATE as u64 * BURST as u64);

    /// A full one.
    pub const fn new() -> Self {
        Self { full_at: None }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.take_many(now, 1)
    }

    /// Takes so many tokens, or none when fewer are left.
    pub fn take_many(&mut self, now: Instant, tokens: u32) -> bool {
        let full_at = self.full_at.filter(|at| *at > now).unwrap_or(now) + Self::PER_TOKEN.saturating_mul(tokens);
        let granted = full_at.saturating_duration_since(now) <= Self::DEPTH;
        if granted {
            self.full_at = Some(full_at);
        }
        granted
    }

    /// Whether a token is left.
    pub fn has_any(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at.saturating_duration_since(now) + Self::PER_TOKEN <= Self::DEPTH)
    }

    /// Takes a token, if need be one of the future, and returns when it is due. Never takes more than one in advance: whoever
    /// asks again before that gets the same one.
    pub fn reserve(&mut self, now: Instant) -> Instant {
        let full_at = self.full_at.filter(|at| *at > now).unwrap_or(now);
        let empty_at = now + Self::DEPTH;
        if full_at > empty_at {
            return now + (full_at - empty_at);
        }
        let full_at = full_at + Self::PER_TOKEN;
        self.full_at = Some(full_at);
        now + full_at.saturating_duration_since(empty_at)
    }
}

/// Paces work whose cost varies: a share of the time, with bursts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pace {
    /// When all work so far is paid for.
    #[serde(with = "crate::carry::checked")]
    free_at: Option<Instant>,
}

impl Pace {
    /// Takes work that has to be paid for with `cost` of time; `burst` may be owed, and any one piece of work. When it is too
    /// early, returns when it is not.
    pub fn take(&mut self, now: Instant, cost: Duration, burst: Duration) -> Result<(), Instant> {
        let free_at = self.free_at.filter(|at| *at > now).unwrap_or(now);
        let ready = free_at.checked_sub(burst.saturating_sub(cost)).unwrap_or(now);
        if ready > now {
            return Err(ready);
        }
        self.free_at = Some(free_at + cost);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_then_rate() {
        let start = Instant::now();
        let mut bucket = Budget::<200, 100>::new();
        assert_eq!((0..1000).filter(|_| bucket.take(start)).count(), 100);
        assert!(!bucket.has_any(start) && bucket.has_any(start + Duration::from_millis(5)));
        // 3 seconds of a flood: 200 per second, no more.
        let granted = (1..=3000).filter(|ms| bucket.take(start + Duration::from_millis(*ms))).count();
        assert!((599..=601).contains(&granted), "{granted}");
        // After silence it is full, not fuller.
        let later = start + Duration::from_secs(60);
        assert_eq!((0..1000).filter(|_| bucket.take(later)).count(), 100);
    }

    #[test]
    fn dear_work_takes_its_share_of_the_time_and_cheap_work_comes_in_bursts() {
        let (start, burst) = (Instant::now(), Duration::from_millis(100));
        for (cost, at_once) in [(1, 100), (37, 2), (50, 2), (99, 1), (100, 1), (750, 1)] {
            let (mut pace, cost) = (Pace::default(), Duration::from_millis(cost));
            assert_eq!((0..1_000).take_while(|_| pace.take(start, cost, burst).is_ok()).count(), at_once, "{cost:?}");
            // Whoever comes again at the time that was returned gets its turn.
            let (mut now, mut turns) = (start, 0);
            while now < start + Duration::from_secs(10) {
                match pace.take(now, cost, burst) {
                    Ok(()) => turns += 1,
                    Err(ready) => {
                        assert!(ready > now);
                        now = ready;
                    }
                }
            }
            assert!(cost * turns <= Duration::from_secs(10) + burst.max(cost), "{turns} turns of {cost:?}");
            assert!(cost * turns >= Duration::from_secs(9), "{turns} turns of {cost:?}");
        }
    }

    #[test]
    fn many_at_once_or_none() {
        let start = Instant::now();
        let mut bucket = Budget::<1_000, 500>::new();
        assert!(!bucket.take_many(start, 501) && bucket.take_many(start, 400) && !bucket.take_many(start, 101));
        assert!(bucket.take_many(start, 100));
        assert!(!bucket.take_many(start, u32::MAX));
        assert!(bucket.take_many(start + Duration::from_millis(250), 250));
    }

    #[test]
    fn what_is_reserved_is_due_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Budget::<10, 3>::new();
        assert_eq!([(); 3].map(|()| bucket.reserve(start)), [start; 3]);
        let next = start + Duration::from_millis(100);
        assert_eq!([(); 3].map(|()| bucket.reserve(start)), [next; 3], "the same one");
        assert_eq!(bucket.reserve(start + Duration::from_millis(40)), next);
        assert_eq!(bucket.reserve(next), next + Duration::from_millis(100));
        // A flood of requests over 10 seconds.
        let mut due = std::collections::BTreeSet::new();
        for ms in 0..10_000 {
            due.insert(bucket.reserve(start + Duration::from_secs(1) + Duration::from_millis(ms)));
        }
        assert!((100..=106).contains(&due.len()), "{}", due.len());
    }
}
