//! How often something may happen: token buckets, and log lines that a stranger causes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// So many at once, and so many per second in the long run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// Per second.
    pub per_second: f64,
}

/// What is left of a [`Rate`].
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(now: Instant, rate: Rate) -> Self {
        Self { tokens: f64::from(rate.burst), at: now }
    }

    fn fill(&mut self, now: Instant, rate: Rate) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * rate.per_second).min(f64::from(rate.burst));
        self.at = self.at.max(now);
    }

    /// Whether it may happen now; notes that it does.
    pub fn take(&mut self, now: Instant, rate: Rate) -> bool {
        self.fill(now, rate);
        let free = self.tokens >= 1.0;
        if free {
            self.tokens -= 1.0;
        }
        free
    }

    /// When it may happen again: not before `now`.
    pub fn next(&mut self, now: Instant, rate: Rate) -> Instant {
        self.fill(now, rate);
        let missing = (1.0 - self.tokens).max(0.0);
        // Rounded up, so that a timer does not fire just before.
        let wait = Duration::try_from_secs_f64(missing / rate.per_second).unwrap_or(Duration::from_secs(3_600));
        now + wait + Duration::from_millis(1)
    }

    /// Whether nobody would notice if it were made anew.
    fn is_full(&mut self, now: Instant, rate: Rate) -> bool {
        self.fill(now, rate);
        self.tokens >= f64::from(rate.burst)
    }
}

/// Those who are full again are forgotten this often at most.
const CLEAR: Duration = Duration::from_secs(1);

/// One bucket for each of many, most of whom come once. Of those for whom there is no room all share one.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    most: usize,
    buckets: BTreeMap<K, Bucket>,
    rest: Option<Bucket>,
    cleared: Option<Instant>,
}

impl<K: Ord + Clone> Buckets<K> {
    /// None yet; remembers `most`.
    pub fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most, buckets: BTreeMap::new(), rest: None, cleared: None }
    }

    /// Whether it may happen now because of `key`; notes that it does.
    pub fn take(&mut self, now: Instant, key: &K) -> bool {
        let rate = self.rate;
        self.bucket(now, key).take(now, rate)
    }

    /// When it may happen again because of `key`.
    pub fn next(&mut self, now: Instant, key: &K) -> Instant {
        let rate = self.rate;
        self.bucket(now, key).next(now, rate)
    }

    /// Forgets those who are full again: nobody notices.
    pub fn clear(&mut self, now: Instant) {
        let rate = self.rate;
        self.buckets.retain(|_, bucket| !bucket.is_full(now, rate));
        self.rest.take_if(|bucket| bucket.is_full(now, rate));
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    fn bucket(&mut self, now: Instant, key: &K) -> &mut Bucket {
        let rate = self.rate;
        if !self.buckets.contains_key(key) && self.buckets.len() >= self.most {
            // A search for room costs as much as there are: strangers may not have one each.
            if self.cleared.is_none_or(|at| now.saturating_duration_since(at) >= CLEAR) {
                self.cleared = Some(now);
                self.clear(now);
            }
            if self.buckets.len() >= self.most {
                return self.rest.get_or_insert_with(|| Bucket::new(now, rate));
            }
        }
        self.buckets.entry(key.clone()).or_insert_with(|| Bucket::new(now, rate))
    }
}

/// At most one log line in a while, with the number of those that were left out.
#[derive(Debug, Default)]
pub struct Quiet {
    last: Option<Instant>,
    silenced: u64,
}

impl Quiet {
    /// Between two lines.
    pub const INTERVAL: Duration = Duration::from_secs(60);

    /// `Some` with the number of silenced ones before when a line may be written now.
    pub fn speak(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < Self::INTERVAL) {
            self.silenced += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.silenced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, per_second: 2.0 };

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, RATE);
        let taken = |bucket: &mut Bucket, at: Instant| (0..10).filter(|_| bucket.take(at, RATE)).count();
        assert_eq!(taken(&mut bucket, start), 3);
        let next = bucket.next(start, RATE);
        assert_eq!(taken(&mut bucket, next - Duration::from_millis(2)), 0);
        assert_eq!(taken(&mut bucket, next), 1);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(1)), 1);
        assert_eq!(taken(&mut bucket, start), 0, "time that goes back fills nothing");
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(3_600)), 3);
    }

    #[test]
    fn many_are_remembered_and_the_rest_shares() {
        let now = Instant::now();
        let mut buckets = Buckets::new(RATE, 2);
        for key in [1, 2, 3, 4] {
            let allowed = (0..10).filter(|_| buckets.take(now, &key)).count();
            assert_eq!(allowed, if key < 4 { 3 } else { 0 }, "{key}: 3 and 4 share one");
        }
        assert_eq!(buckets.len(), 2);
        let later = now + Duration::from_secs(10);
        assert!(buckets.take(later, &5), "who is full again is forgotten");
        assert_eq!(buckets.len(), 1);
    }

    #[test]
    fn a_line_a_minute() {
        let now = Instant::now();
        let mut quiet = Quiet::default();
        assert_eq!(quiet.speak(now), Some(0));
        assert_eq!(quiet.speak(now), None);
        assert_eq!(quiet.speak(now + Duration::from_secs(59)), None);
        assert_eq!(quiet.speak(now + Quiet::INTERVAL), Some(2));
    }
}
