//! How often a sender may be asked for a keyframe.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Least time between two requests for one source, and between two of one receiver.
const INTERVAL: Duration = Duration::from_millis(200);

/// Requests that one receiver may make in a row, and how long it takes until it may make one more.
const IN_A_ROW: u32 = 3;
const ONE_MORE: Duration = Duration::from_millis(1_500);

/// Lets one request through per interval.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct Throttle {
    #[serde(with = "crate::carry::checked")]
    last: Option<Instant>,
}

impl Throttle {
    /// Whether a request may pass now.
    pub fn ready(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL)
    }

    /// Records a request.
    pub fn used(&mut self, now: Instant) {
        self.last = Some(now);
    }
}

/// How many keyframes one receiver may still ask for: a bad link must not cost the other receivers their picture. Jitsi
/// Videobridge passes three in ten seconds, and nothing more until then.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Allowance {
    left: u32,
    #[serde(with = "crate::carry::checked")]
    since: Option<Instant>,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { left: IN_A_ROW, since: None }
    }
}

impl Allowance {
    /// Takes one, if one is left.
    pub fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let gained =
            (now.saturating_duration_since(since).as_millis() / ONE_MORE.as_millis()).min(IN_A_ROW.into()) as u32;
        if gained > 0 {
            self.left = (self.left + gained).min(IN_A_ROW);
            self.since = Some(if self.left == IN_A_ROW { now } else { since + ONE_MORE * gained });
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_then_one_every_second_and_a_half() {
        let (start, mut allowance) = (Instant::now(), Allowance::default());
        let mut granted = |ms: u64| allowance.take(start + Duration::from_millis(ms));
        assert_eq!([0, 200, 400, 600].map(&mut granted), [true, true, true, false]);
        assert_eq!([1_500, 1_600, 3_000].map(&mut granted), [true, false, true]);
        let minute = (3_200..63_200).step_by(200).filter(|ms| granted(*ms)).count();
        assert_eq!(minute, 40);
        assert_eq!([100_000, 100_200, 100_400, 100_600].map(&mut granted), [true, true, true, false]);
    }
}
