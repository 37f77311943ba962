//! Rates with bursts, refilled when they are asked: what one peer may cost.

use std::time::{Duration, Instant};

/// Limits something to a rate with bursts (a token bucket that remembers nothing but when it will be full again).
#[derive(Debug, Clone)]
pub struct Budget {
    per_token: Duration,
    /// When the bucket will be full again.
    full_at: Option<Instant>,
    /// Time that a full bucket is worth.
    depth: Duration,
}

impl Budget {
    /// A full bucket of `burst` tokens that gains `rate` tokens per second; `rate` is at least 1.
    pub fn new(rate: u32, burst: u32) -> Self {
        let per_token = Duration::from_secs(1) / rate.max(1);
        Self { per_token, full_at: None, depth: per_token.saturating_mul(burst) }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.take_many(now, 1)
    }

    /// Takes so many tokens, or none when fewer are left.
    pub fn take_many(&mut self, now: Instant, tokens: u32) -> bool {
        let full_at = self.full_at.filter(|at| *at > now).unwrap_or(now) + self.per_token.saturating_mul(tokens);
        let granted = full_at.saturating_duration_since(now) <= self.depth;
        if granted {
            self.full_at = Some(full_at);
        }
        granted
    }

    /// Whether a token is left.
    pub fn has_any(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at.saturating_duration_since(now) + self.per_token <= self.depth)
    }

    /// Takes a token, if need be one of the future, and returns when it is due. Never takes more than one in advance: whoever
    /// asks again before that gets the same one.
    pub fn reserve(&mut self, now: Instant) -> Instant {
        let full_at = self.full_at.filter(|at| *at > now).unwrap_or(now);
        let empty_at = now + self.depth;
        if full_at > empty_at {
            return now + (full_at - empty_at);
        }
        let full_at = full_at + self.per_token;
        self.full_at = Some(full_at);
        now + full_at.saturating_duration_since(empty_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_then_rate() {
        let start = Instant::now();
        let mut bucket = Budget::new(200, 100);
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
    fn many_at_once_or_none() {
        let start = Instant::now();
        let mut bucket = Budget::new(1_000, 500);
        assert!(!bucket.take_many(start, 501) && bucket.take_many(start, 400) && !bucket.take_many(start, 101));
        assert!(bucket.take_many(start, 100));
        assert!(!bucket.take_many(start, u32::MAX));
        assert!(bucket.take_many(start + Duration::from_millis(250), 250));
    }

    #[test]
    fn what_is_reserved_is_due_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Budget::new(10, 3);
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
