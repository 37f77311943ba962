//! Finds the holes in what a sender sends and says when to ask again (bridge-protocol 7, NACK out).

use std::time::{Duration, Instant};

/// Holes remembered per encoding.
const MAX_MISSING: usize = 128;

/// A jump this long is a restart, not a loss.
const MAX_GAP: u64 = 100;

/// Times that a packet is asked for.
const MAX_TRIES: u8 = 10;

/// Between two requests for the same packet.
const RETRY: Duration = Duration::from_millis(150);

#[derive(Debug, Clone, Copy)]
struct Missing {
    index: u64,
    tries: u8,
    due: Instant,
}

/// Missing packets of one encoding.
#[derive(Debug)]
pub struct LossDetector {
    newest: Option<u64>,
    missing: Vec<Missing>,
}

impl Default for LossDetector {
    fn default() -> Self {
        Self { newest: None, missing: Vec::with_capacity(MAX_MISSING) }
    }
}

impl LossDetector {
    /// Notes a packet, original or retransmitted.
    pub fn received(&mut self, now: Instant, index: u64) {
        let Some(newest) = self.newest else {
            self.newest = Some(index);
            return;
        };
        if index <= newest {
            self.missing.retain(|missing| missing.index != index);
            return;
        }
        self.newest = Some(index);
        if index - newest > MAX_GAP {
            self.missing.clear();
            return;
        }
        for hole in newest + 1..index {
            if self.missing.len() == MAX_MISSING {
                self.missing.remove(0);
            }
            self.missing.push(Missing { index: hole, tries: 0, due: now });
        }
    }

    /// Whether anything is to be asked for at some time, and when.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.missing.iter().map(|missing| missing.due).min()
    }

    /// Fills `out` with the sequence numbers that are due, ascending; returns how many.
    pub fn take_due(&mut self, now: Instant, out: &mut [u16]) -> usize {
        let mut count = 0;
        for missing in &mut self.missing {
            if missing.due <= now && count < out.len() {
                out[count] = missing.index as u16;
                count += 1;
                missing.tries += 1;
                missing.due = now + RETRY;
            }
        }
        self.missing.retain(|missing| missing.tries < MAX_TRIES);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_asked_for_at_once_and_then_every_150_ms() {
        let start = Instant::now();
        let mut loss = LossDetector::default();
        let mut out = [0; 16];
        loss.received(start, 65_535);
        loss.received(start, 65_538);
        assert_eq!(loss.take_due(start, &mut out), 2);
        assert_eq!(out[..2], [0, 1]);
        assert_eq!(loss.take_due(start + Duration::from_millis(149), &mut out), 0);
        loss.received(start + Duration::from_millis(149), 65_536);
        assert_eq!(loss.take_due(start + RETRY, &mut out), 1);
        assert_eq!(out[0], 1);
        for turn in 2..MAX_TRIES {
            assert_eq!(loss.take_due(start + RETRY * turn.into(), &mut out), 1, "{turn}");
        }
        assert_eq!(loss.poll_timeout(), None, "given up after ten requests");
    }

    #[test]
    fn a_jump_is_no_loss() {
        let start = Instant::now();
        let mut loss = LossDetector::default();
        loss.received(start, 1);
        loss.received(start, 102 + 1);
        assert_eq!(loss.poll_timeout(), None);
    }
}
