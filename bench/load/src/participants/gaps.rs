//! How long nothing came: the longest pause of a stream, without the time in which this process itself stood still.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Later than this is a pause of ours; timers of a busy process are late by a few milliseconds anyway.
const LATE: Duration = Duration::from_millis(20);

/// Pauses that are kept; older ones are in no gap that still lasts.
const KEPT: usize = 4_096;

/// When the participants of this process did not get a processor in time. All share it: a sender that was late makes a
/// gap at every receiver.
#[derive(Debug, Clone, Default)]
pub struct Stalls {
    spans: Arc<Mutex<VecDeque<(Instant, Instant)>>>,
}

impl Stalls {
    /// Something was due, and is done only now.
    pub fn note(&self, due: Instant, now: Instant) {
        if now.saturating_duration_since(due) < LATE {
            return;
        }
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        if spans.len() == KEPT {
            spans.pop_front();
        }
        spans.push_back((due, now));
    }

    /// How much of a time this process stood still.
    pub fn within(&self, from: Instant, to: Instant) -> Duration {
        let mut spans: Vec<_> = {
            let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
            spans.iter().copied().filter(|(start, end)| *end > from && *start < to).collect()
        };
        spans.sort();
        let (mut total, mut counted) = (Duration::ZERO, from);
        for (start, end) in spans {
            let (start, end) = (start.max(counted), end.min(to));
            total += end.saturating_duration_since(start);
            counted = counted.max(end);
        }
        total
    }
}

/// The pauses of one stream.
#[derive(Debug, Default)]
pub struct Gaps {
    last: Option<Instant>,
    longest: Duration,
}

impl Gaps {
    /// A packet or frame arrived.
    pub fn arrived(&mut self, now: Instant, stalls: &Stalls) {
        self.longest = self.longest(now, stalls);
        self.last = Some(now);
    }

    /// The longest pause so far, the one that still lasts included; zero before the first arrival.
    pub fn longest(&self, now: Instant, stalls: &Stalls) -> Duration {
        let Some(last) = self.last else { return Duration::ZERO };
        let gap = now.saturating_duration_since(last);
        // Most gaps are an ordinary interval.
        if gap <= self.longest { self.longest } else { self.longest.max(gap.saturating_sub(stalls.within(last, now))) }
    }

    /// Forgets what was; a pause that still lasts begins now.
    pub fn restart(&mut self, now: Instant) {
        *self = Self { last: self.last.map(|_| now), longest: Duration::ZERO };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_without_our_own() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let stalls = Stalls::default();
        let mut gaps = Gaps::default();
        assert_eq!(gaps.longest(at(500), &stalls), Duration::ZERO, "nothing came yet");
        gaps.arrived(at(500), &stalls);
        gaps.arrived(at(520), &stalls);
        assert_eq!(gaps.longest(at(530), &stalls), Duration::from_millis(20));
        // 300 ms of silence of which this process slept 180, reported twice.
        stalls.note(at(600), at(700));
        stalls.note(at(650), at(780));
        stalls.note(at(790), at(795));
        gaps.arrived(at(820), &stalls);
        assert_eq!(gaps.longest(at(830), &stalls), Duration::from_millis(120));
        assert_eq!(gaps.longest(at(1_820), &stalls), Duration::from_secs(1), "a pause that lasts");
        gaps.restart(at(1_820));
        assert_eq!(gaps.longest(at(1_830), &stalls), Duration::from_millis(10));
    }

    #[test]
    fn a_stall_counts_for_the_part_in_the_gap() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let stalls = Stalls::default();
        stalls.note(at(0), at(1_000));
        assert_eq!(stalls.within(at(900), at(1_100)), Duration::from_millis(100));
        assert_eq!(stalls.within(at(1_000), at(1_100)), Duration::ZERO);
    }
}
