//! What conferences bound of their members' sources, and how long changes of them wait for each other.

use std::collections::BTreeMap;
use std::time::Duration;

/// What one participant may publish at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLimits {
    /// SSRCs.
    pub ssrcs: usize,
    /// Groups of them.
    pub groups: usize,
}

impl SourceLimits {
    /// The larger of both: what is read of a request.
    pub(in crate::focus) fn most(self) -> usize {
        self.ssrcs.max(self.groups)
    }
}

impl Default for SourceLimits {
    /// As in Jicofo.
    fn default() -> Self {
        Self { ssrcs: 20, groups: 20 }
    }
}

/// How many participants of one conference may send each medium at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderLimits {
    /// Audio.
    pub audio: usize,
    /// Video.
    pub video: usize,
}

impl Default for SenderLimits {
    /// As in Jicofo: all.
    fn default() -> Self {
        Self { audio: 999_999, video: 999_999 }
    }
}

/// By the size of a conference, how long changes of its members' sources wait for each other before they are signalled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignalingDelays(BTreeMap<usize, Duration>);

impl SignalingDelays {
    /// Each from a number of participants on.
    pub fn new(delays: impl IntoIterator<Item = (usize, Duration)>) -> Self {
        Self(delays.into_iter().collect())
    }

    /// In a conference of that many.
    pub(in crate::focus) fn of(&self, participants: usize) -> Duration {
        self.0.range(..=participants).next_back().map_or(Duration::ZERO, |(_, delay)| *delay)
    }
}

/// What conferences bound of their members' sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceSettings {
    /// Of one participant.
    pub limits: SourceLimits,
    /// Of one conference.
    pub senders: SenderLimits,
    /// How long changes wait for each other; none by default, as in Jicofo.
    pub delays: SignalingDelays,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_of_the_largest_size_that_is_reached() {
        let milliseconds = |table: &[(usize, u64)], size| {
            let delays = SignalingDelays::new(table.iter().map(|(size, ms)| (*size, Duration::from_millis(*ms))));
            delays.of(size).as_millis()
        };
        let jicofos = [(50, 500), (100, 1_000)];
        for (size, expected) in [(0, 0), (49, 0), (50, 500), (99, 500), (100, 1_000), (5_000, 1_000)] {
            assert_eq!(milliseconds(&jicofos, size), expected, "{size}");
        }
        assert_eq!((milliseconds(&[], 500), milliseconds(&[(0, 20)], 0)), (0, 20));
    }
}
