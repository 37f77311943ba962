//! How often something may happen: a token bucket.

use std::time::{Duration, Instant};

/// So many per second, and so many at once.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// In the long run.
    pub per_second: u32,
    /// After a while of quiet.
    pub burst: u32,
}

/// What is left of a rate.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    rate: Rate,
    /// Below zero after a charge that was more than there was.
    left: f64,
    at: Option<Instant>,
}

impl Bucket {
    /// With all of the burst.
    pub const fn new(rate: Rate) -> Self {
        Self { rate, left: rate.burst as f64, at: None }
    }

    fn refill(&mut self, now: Instant) {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.left = f64::from(self.rate.burst).min(self.left + passed.as_secs_f64() * f64::from(self.rate.per_second));
        // A clock that goes back gives nothing twice.
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }

    /// Takes so much if it is there.
    pub fn take(&mut self, now: Instant, cost: usize) -> bool {
        self.refill(now);
        let enough = self.left >= cost as f64;
        if enough {
            self.left -= cost as f64;
        }
        enough
    }

    /// Takes so much in any case; how long until nothing is owed.
    pub fn charge(&mut self, now: Instant, cost: usize) -> Duration {
        self.refill(now);
        self.left -= cost as f64;
        Duration::from_secs_f64((-self.left).max(0.0) / f64::from(self.rate.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let seconds = Duration::from_secs_f64;
        let mut bucket = Bucket::new(Rate { per_second: 10, burst: 5 });
        let taken = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take(start + seconds(at), 1)).count();
        assert_eq!(taken(&mut bucket, 0.0), 5);
        assert_eq!(taken(&mut bucket, 0.25), 2);
        assert_eq!(taken(&mut bucket, 0.1), 0, "a clock that goes back");
        assert_eq!(taken(&mut bucket, 3600.0), 5, "no more than the burst");
        assert_eq!(bucket.charge(start + seconds(3600.0), 20), seconds(2.0));
    }
}
