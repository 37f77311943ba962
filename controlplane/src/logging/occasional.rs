//! Lines about what strangers can cause as often as they like.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::pace::Quiet;

/// Least time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// Lets one line of its kind through every ten seconds.
#[derive(Debug)]
pub struct Occasional {
    quiet: Mutex<Quiet>,
}

impl Occasional {
    /// Nothing was said yet.
    pub const fn new() -> Self {
        Self { quiet: Mutex::new(Quiet::new(INTERVAL)) }
    }

    /// Whether to say it now; then also how many times it was not said since the last time.
    pub fn allow(&self) -> Option<u64> {
        self.allow_at(Instant::now())
    }

    fn allow_at(&self, now: Instant) -> Option<u64> {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner).speak(now)
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
