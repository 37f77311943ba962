//! Which packets to ask a sender for again (generic NACK, RFC 4585 section 6.2.1).

use std::time::{Duration, Instant};

/// A gap of this many packets or more is not asked for: a keyframe is cheaper.
const MAX_GAP: u64 = 100;
const MAX_MISSING: usize = 128;
const MAX_REQUESTS: u8 = 10;
const INTERVAL: Duration = Duration::from_millis(150);

#[derive(Debug, Clone, Copy)]
struct Missing {
    sequence: i64,
    due: Instant,
    requests: u8,
}

/// Missing packets of one SSRC.
#[derive(Debug, Default)]
pub struct NackGenerator {
    missing: Vec<Missing>,
}

impl NackGenerator {
    /// Call with each new highest number and how many were skipped before it; missing ones become due at once.
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
        for sequence in sequence - skipped as i64..sequence {
            if self.missing.len() >= MAX_MISSING {
                self.missing.remove(0);
            }
            self.missing.push(Missing { sequence, due: now, requests: 0 });
        }
    }

    /// A missing packet arrived.
    pub fn received(&mut self, sequence: i64) {
        self.missing.retain(|m| m.sequence != sequence);
    }

    /// When something is due next.
    pub fn deadline(&self) -> Option<Instant> {
        self.missing.iter().map(|m| m.due).min()
    }

    /// Writes the numbers that are due into `out` in rising order and returns how many; each is asked for up to ten times.
    pub fn due(&mut self, now: Instant, out: &mut [u16]) -> usize {
        let mut count = 0;
        for m in &mut self.missing {
            if m.due > now {
                continue;
            }
            let Some(slot) = out.get_mut(count) else { break };
            *slot = m.sequence as u16;
            count += 1;
            m.requests += 1;
            m.due = now + INTERVAL;
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
        assert_eq!(n.due(start, &mut out), 3);
        assert_eq!(out[..3], [65_535, 0, 1]);
        assert_eq!(n.due(start + Duration::from_millis(149), &mut out), 0);
        n.received(65_536);
        let mut asked = 0;
        for i in 1..20u32 {
            asked += n.due(start + INTERVAL * i, &mut out);
        }
        assert_eq!(asked, 2 * 9);
        assert_eq!(n.deadline(), None);
    }

    #[test]
    fn a_large_gap_is_not_asked_for() {
        let now = Instant::now();
        let mut n = NackGenerator::default();
        n.advanced(now, 10, 2);
        n.advanced(now, 200, 100);
        assert_eq!(n.due(now, &mut [0; 128]), 0);
        n.advanced(now, 400, 99);
        assert_eq!(n.due(now, &mut [0; 128]), 99);
    }
}
