//! A token bucket, refilled when it is asked.

use std::time::{Duration, Instant};

/// Limits something to a rate with bursts.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    per_token: Duration,
    /// When the bucket will be full again.
    full_at: Option<Instant>,
    /// Time that a full bucket is worth.
    depth: Duration,
}

impl Bucket {
    /// A full bucket of `burst` tokens that gains `rate` tokens per second; `rate` is at least 1.
    pub fn new(rate: u32, burst: u32) -> Self {
        let per_token = Duration::from_secs(1) / rate.max(1);
        Self { per_token, full_at: None, depth: per_token * burst }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.filter(|at| *at > now).unwrap_or(now) + self.per_token;
        let granted = full_at.saturating_duration_since(now) <= self.depth;
        if granted {
            self.full_at = Some(full_at);
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_then_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(200, 100);
        assert_eq!((0..1000).filter(|_| bucket.take(start)).count(), 100);
        // 3 seconds of a flood: 200 per second, no more.
        let granted = (1..=3000).filter(|ms| bucket.take(start + Duration::from_millis(*ms))).count();
        assert!((599..=601).contains(&granted), "{granted}");
        // After silence it is full, not fuller.
        let later = start + Duration::from_secs(60);
        assert_eq!((0..1000).filter(|_| bucket.take(later)).count(), 100);
    }
}
