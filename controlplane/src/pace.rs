//! How often something may happen: token buckets, and log lines that a stranger causes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// So many at once, and so many per second in the long run.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Rate {
    /// At once, after a while of quiet.
    pub burst: u32,
    /// Per second.
    pub per_second: f64,
}

/// What is left of a [`Rate`].
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct Bucket {
    rate: Rate,
    /// Below zero after a charge that was more than there was.
    left: f64,
    #[serde(with = "crate::carried")]
    at: Option<Instant>,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate) -> Self {
        Self { rate, left: f64::from(rate.burst), at: None }
    }

    fn fill(&mut self, now: Instant) {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at)).as_secs_f64();
        self.left = (self.left + passed * self.rate.per_second).min(f64::from(self.rate.burst));
        // A clock that goes back gives nothing twice.
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }

    /// Goes on at another rate.
    pub fn set_rate(&mut self, now: Instant, rate: Rate) {
        self.fill(now);
        self.rate = rate;
    }

    /// Takes so much if it is there.
    pub fn take(&mut self, now: Instant, cost: usize) -> bool {
        self.fill(now);
        let enough = self.left >= cost as f64;
        if enough {
            self.left -= cost as f64;
        }
        enough
    }

    /// Takes so much in any case; how long until nothing is owed.
    pub fn charge(&mut self, now: Instant, cost: usize) -> Duration {
        self.fill(now);
        self.left -= cost as f64;
        self.wait(-self.left)
    }

    /// When one can be taken again: not before `now`.
    pub fn next(&mut self, now: Instant) -> Instant {
        self.fill(now);
        // Rounded up, so that a timer does not fire just before.
        now + self.wait(1.0 - self.left) + Duration::from_millis(1)
    }

    fn wait(&self, missing: f64) -> Duration {
        Duration::try_from_secs_f64(missing.max(0.0) / self.rate.per_second).unwrap_or(Duration::from_secs(3_600))
    }

    /// Whether nobody would notice if it were made anew.
    fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left >= f64::from(self.rate.burst)
    }
}

/// Those who are full again are forgotten this often at most.
const CLEAR: Duration = Duration::from_secs(1);

/// One bucket for each of many, most of whom come once. Of those for whom there is no room all share one.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(bound(deserialize = "K: Ord + serde::Deserialize<'de>"))]
pub struct Buckets<K> {
    rate: Rate,
    most: usize,
    buckets: BTreeMap<K, Bucket>,
    rest: Option<Bucket>,
    #[serde(with = "crate::carried")]
    cleared: Option<Instant>,
}

impl<K: Ord + Clone> Buckets<K> {
    /// None yet; remembers `most`.
    pub fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most, buckets: BTreeMap::new(), rest: None, cleared: None }
    }

    /// Goes on with those of another process, at the own rate.
    pub fn go_on_with(&mut self, others: Self) {
        let Self { rate, most: _, buckets, rest, cleared } = self;
        (*buckets, *rest, *cleared) = (others.buckets, others.rest, others.cleared);
        for bucket in buckets.values_mut().chain(rest) {
            bucket.rate = *rate;
        }
    }

    /// Whether it may happen now because of `key`; counts it if so.
    pub fn take(&mut self, now: Instant, key: &K) -> bool {
        self.bucket(now, key).take(now, 1)
    }

    /// When it may happen again because of `key`.
    pub fn next(&mut self, now: Instant, key: &K) -> Instant {
        self.bucket(now, key).next(now)
    }

    /// Forgets those who are full again: nobody notices.
    pub fn clear(&mut self, now: Instant) {
        self.buckets.retain(|_, bucket| !bucket.is_full(now));
        self.rest.take_if(|bucket| bucket.is_full(now));
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
                return self.rest.get_or_insert_with(|| Bucket::new(rate));
            }
        }
        self.buckets.entry(key.clone()).or_insert_with(|| Bucket::new(rate))
    }
}

/// At most one log line in a while, with the number of those that were left out.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Quiet {
    interval: Duration,
    #[serde(with = "crate::carried")]
    last: Option<Instant>,
    silenced: u64,
}

impl Quiet {
    /// Lets one through every `interval`.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, last: None, silenced: 0 }
    }

    /// `Some` with the number of silenced ones before when a line may be written now.
    pub fn speak(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            self.silenced += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.silenced))
    }
}

/// Once a minute.
impl Default for Quiet {
    fn default() -> Self {
        Self::new(Duration::from_secs(60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, per_second: 2.0 };

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RATE);
        let taken = |bucket: &mut Bucket, at: Instant| (0..10).filter(|_| bucket.take(at, 1)).count();
        assert_eq!(taken(&mut bucket, start), 3);
        let next = bucket.next(start);
        assert_eq!(taken(&mut bucket, next - Duration::from_millis(2)), 0);
        assert_eq!(taken(&mut bucket, next), 1);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(1)), 1);
        assert_eq!(taken(&mut bucket, start), 0, "time that goes back fills nothing");
        let later = start + Duration::from_secs(3_600);
        assert_eq!(taken(&mut bucket, later), 3, "no more than the burst");
        assert_eq!(bucket.charge(later, 6), Duration::from_secs(3), "what is owed");
        bucket.set_rate(later, Rate { burst: 1, per_second: 6.0 });
        assert_eq!(bucket.charge(later, 0), Duration::from_secs(1));
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
        assert_eq!(quiet.speak(now + Duration::from_secs(60)), Some(2));
    }
}
