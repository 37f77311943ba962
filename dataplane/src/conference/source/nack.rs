//! Which packets to ask a sender for again (generic NACK, RFC 4585 section 6.2.1).

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A gap of this many packets or more is not asked for: a keyframe is cheaper.
const MAX_GAP: u64 = 100;
const MAX_MISSING: usize = 128;
const MAX_REQUESTS: u8 = 10;
/// Time between two requests for a packet while the round-trip time is not known, and its bounds when it is.
const INTERVAL: Duration = Duration::from_millis(150);
const SHORTEST: Duration = Duration::from_millis(30);
const LONGEST: Duration = Duration::from_millis(500);
/// What a repeated packet needs beyond the round trip: the sender's pace, and jitter.
const MARGIN: Duration = Duration::from_millis(10);
/// A packet older than this is of no use to anybody.
const TOO_LATE: Duration = Duration::from_millis(2_000);
/// Packets that overtake each other are waited for, at most this long.
const MAX_PATIENCE: Duration = Duration::from_millis(60);

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Missing {
    #[serde(with = "crate::carry::checked")]
    sequence: i64,
    #[serde(with = "crate::carry::checked")]
    since: Instant,
    #[serde(with = "crate::carry::checked")]
    due: Instant,
    requests: u8,
}

/// Missing packets of one SSRC.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct NackGenerator {
    missing: Vec<Missing>,
    /// How late packets come that were overtaken, lately.
    #[serde(with = "crate::carry::checked")]
    lateness: Duration,
}

impl NackGenerator {
    /// Call with each new highest number and how many were skipped before it. Missing ones become due at once, or, where
    /// packets overtake each other, when such a packet would have come.
    pub fn advanced(&mut self, now: Instant, sequence: i64, skipped: u64) {
        if skipped == 0 {
            return;
        }
        if skipped >= MAX_GAP {
            self.missing.clear();
            return;
        }
        if self.missing.capacity() == 0 {
            self.missing.reserve_exact(MAX_MISSING);
        }
        let due = now + self.lateness.min(MAX_PATIENCE);
        for sequence in sequence - skipped as i64..sequence {
            if self.missing.len() >= MAX_MISSING {
                self.missing.remove(0);
            }
            self.missing.push(Missing { sequence, since: now, due, requests: 0 });
        }
    }

    /// A missing packet arrived; `repeated` when it came as a retransmission.
    pub fn received(&mut self, now: Instant, sequence: i64, repeated: bool) {
        let Some(at) = self.missing.iter().position(|m| m.sequence == sequence) else { return };
        let missing = self.missing.remove(at);
        if repeated {
            // It was lost, not late.
            self.lateness = self.lateness * 15 / 16;
        } else {
            let late = now.saturating_duration_since(missing.since);
            self.lateness = if late > self.lateness { late } else { (self.lateness * 7 + late) / 8 };
        }
    }

    /// When something is due next.
    pub fn deadline(&self) -> Option<Instant> {
        self.missing.iter().map(|m| m.due).min()
    }

    /// Writes the numbers that are due into `out` in rising order and returns how many; each is asked for up to ten times,
    /// and not again before the sender can have answered.
    pub fn due(&mut self, now: Instant, round_trip: Option<Duration>, out: &mut [u16]) -> usize {
        let interval = round_trip.map_or(INTERVAL, |rtt| (rtt * 5 / 4 + MARGIN).clamp(SHORTEST, LONGEST));
        let mut count = 0;
        self.missing.retain(|m| m.requests == 0 || now.saturating_duration_since(m.since) < TOO_LATE);
        for m in &mut self.missing {
            if m.due > now {
                continue;
            }
            let Some(slot) = out.get_mut(count) else { break };
            *slot = m.sequence as u16;
            count += 1;
            m.requests += 1;
            m.due = now + interval;
        }
        self.missing.retain(|m| m.requests < MAX_REQUESTS);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_at_once_then_every_150_ms_ten_times() {
        let start = Instant::now();
        let mut n = NackGenerator::default();
        let mut out = [0u16; 32];
        n.advanced(start, 65_538, 3);
        assert_eq!(n.due(start, None, &mut out), 3);
        assert_eq!(out[..3], [65_535, 0, 1]);
        assert_eq!(n.due(start + Duration::from_millis(149), None, &mut out), 0);
        n.received(start + Duration::from_millis(149), 65_536, true);
        let mut asked = 0;
        for i in 1..20u32 {
            asked += n.due(start + INTERVAL * i, None, &mut out);
        }
        assert_eq!(asked, 2 * 9);
        assert_eq!(n.deadline(), None);
    }

    #[test]
    fn asks_again_when_the_sender_can_have_answered() {
        for (rtt, interval) in [(4, 30), (40, 60), (160, 210), (2_000, 500)] {
            let start = Instant::now();
            let mut n = NackGenerator::default();
            n.advanced(start, 10, 1);
            let mut asked = Vec::new();
            for ms in 0..3_000u64 {
                let round_trip = Some(Duration::from_millis(rtt));
                if n.due(start + Duration::from_millis(ms), round_trip, &mut [0; 4]) > 0 {
                    asked.push(ms);
                }
            }
            assert_eq!(asked[..3], [0, interval, 2 * interval], "at {rtt} ms");
            assert!(asked.len() <= 10 && asked.last() < Some(&2_000), "at {rtt} ms: {asked:?}");
        }
    }

    #[test]
    fn where_packets_overtake_each_other_it_waits_for_them() {
        let mut now = Instant::now();
        let mut n = NackGenerator::default();
        let mut asked = 0;
        for i in 1..=50i64 {
            // Every other packet comes 20 ms after its successor.
            n.advanced(now, 2 * i + 1, 1);
            asked += n.due(now, None, &mut [0; 4]);
            now += Duration::from_millis(20);
            n.received(now, 2 * i, false);
            asked += n.due(now, None, &mut [0; 4]);
        }
        assert_eq!(asked, 1, "the first one");
        // Then packets are lost instead: it learns to ask earlier again.
        for i in 100..200i64 {
            n.advanced(now, 2 * i + 1, 1);
            n.received(now + Duration::from_millis(60), 2 * i, true);
        }
        n.advanced(now, 1_000, 1);
        assert!(n.deadline().is_some_and(|at| at <= now + Duration::from_millis(1)));
    }

    #[test]
    fn a_large_gap_is_not_asked_for() {
        let now = Instant::now();
        let mut n = NackGenerator::default();
        n.advanced(now, 10, 2);
        n.advanced(now, 200, 100);
        assert_eq!(n.due(now, None, &mut [0; 128]), 0);
        n.advanced(now, 400, 99);
        assert_eq!(n.due(now, None, &mut [0; 128]), 99);
    }
}
