//! Lines about what strangers can cause as often as they like.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Least time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// Lets one line of its kind through every ten seconds.
#[derive(Debug)]
pub struct Occasional {
    /// When the last one was let through, and how many were not since.
    state: Mutex<(Option<Instant>, u64)>,
}

impl Occasional {
    /// Nothing was said yet.
    pub const fn new() -> Self {
        Self { state: Mutex::new((None, 0)) }
    }

    /// Whether to say it now; then also how many times it was not said since the last time.
    pub fn allow(&self) -> Option<u64> {
        self.allow_at(Instant::now())
    }

    fn allow_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = &mut *state;
        if last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            *unsaid += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(unsaid))
    }
}

impl Default for Occasional {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_ten_seconds_with_the_number_of_the_others() {
        let (occasional, start) = (Occasional::new(), Instant::now());
        let at = |seconds| occasional.allow_at(start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(1), at(9), at(10), at(11), at(30)], [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
