//! How long packets wait on the way: one-way delay above the least of the last seconds. Clocks need not agree.

use serde::{Deserialize, Serialize};

use crate::clock::WorkerTime;

/// The least delay is taken over one to two of these, so that a new route or a drifting clock is believed in the end.
const PERIOD: u64 = 10_000_000;
const IDLE: u64 = 3 * PERIOD;
/// A queue is what even the luckiest packet of this time had to wait for: jitter is not.
const LOOK_BACK: u64 = 200_000;
/// The same where jitter must not pass for one at all: seven pictures at 15 frames a second.
const LONG_LOOK_BACK: u64 = 500_000;
const FEEDBACKS: usize = 12;

/// Tracks the queueing delay.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct QueueDelay {
    #[serde(with = "crate::carry::checked")]
    base: Option<[i64; 2]>,
    #[serde(with = "crate::carry::checked")]
    base_since: WorkerTime,
    #[serde(with = "crate::carry::checked")]
    recent: [(WorkerTime, i64); FEEDBACKS],
    #[serde(with = "crate::carry::checked")]
    at: usize,
    #[serde(with = "crate::carry::checked")]
    delay: u64,
    #[serde(with = "crate::carry::checked")]
    latest: u64,
    #[serde(with = "crate::carry::checked")]
    lasting: u64,
}

impl QueueDelay {
    /// Takes the least one-way delay of the packets of one feedback: microseconds, with any constant offset. `waited` is the
    /// same without the packets' own time on the link, `least` what the delay of an empty path is distinguished from: it does not
    /// depend on how well that time is known.
    pub fn feedback(&mut self, now: WorkerTime, least: i64, waited: i64) {
        if now.since(self.base_since) > IDLE {
            // After a pause the clocks may have drifted apart.
            (self.base, self.base_since) = (None, now);
        }
        let base = self.base.get_or_insert([least; 2]);
        if now.since(self.base_since) > PERIOD {
            *base = [base[1], least];
            self.base_since = now;
        }
        base[1] = base[1].min(least);
        let base = base[0].min(base[1]);
        self.latest = (waited - base).max(0) as u64;
        self.recent[self.at % FEEDBACKS] = (now, waited);
        self.at += 1;
        let known = self.recent.get(..self.at.min(FEEDBACKS)).unwrap_or(&[]);
        let within = |time: u64| {
            let recent = known.iter().filter(|(at, _)| now.since(*at) <= time).map(|(_, least)| *least);
            recent.min().map_or(0, |least| (least - base).max(0) as u64)
        };
        (self.delay, self.lasting) = (within(LOOK_BACK), within(LONG_LOOK_BACK));
    }

    /// Believes that the present delay is the path's own.
    pub fn rebase(&mut self) {
        if let Some(base) = &mut self.base {
            let now = base[0].min(base[1]).saturating_add_unsigned(self.delay);
            *base = [now; 2];
            (self.delay, self.lasting) = (0, 0);
        }
    }

    /// The same by the last feedback alone: earlier to grow, but jitter passes for a queue.
    pub fn latest(&self) -> u64 {
        self.latest
    }

    /// The same over a longer time: later to grow, but no jitter passes for a queue.
    pub fn lasting(&self) -> u64 {
        self.lasting
    }

    /// Microseconds that packets wait at present.
    pub fn delay(&self) -> u64 {
        self.delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_no_queue_a_shift_is_one_until_it_is_believed() {
        let mut queue = QueueDelay::default();
        let mut now = WorkerTime::default();
        let mut feed = |queue: &mut QueueDelay, least: i64| {
            now = now + 50_000;
            queue.feedback(now, least, least);
            queue.delay()
        };
        for i in 0..100i64 {
            assert!(feed(&mut queue, -3_000_000 + i % 3 * 20_000) <= 20_000);
        }
        let grown = (0..8).map(|_| feed(&mut queue, -2_900_000)).last();
        assert_eq!(grown, Some(100_000));
        queue.rebase();
        assert_eq!(feed(&mut queue, -2_900_000), 0);
        assert_eq!((0..800).map(|_| feed(&mut queue, -2_500_000)).last(), Some(0), "ten to twenty seconds later");
    }
}
