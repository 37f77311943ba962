//! When packets with a transport-wide sequence number arrived, for feedback to their sender
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::time::{Duration, Instant};

use super::sequence::Unwrapper;

/// Packets that one feedback message can cover.
const WINDOW: usize = 512;
/// Most packets of one feedback message: even with two bytes each it fits a datagram.
pub const MAX_REPORTED: usize = WINDOW;
/// Longest wait before feedback, also for the tail of a burst.
const INTERVAL: Duration = Duration::from_millis(100);
/// Shortest wait after the end of a frame.
const FRAME_INTERVAL: Duration = Duration::from_millis(20);

/// Arrivals that were not reported yet.
#[derive(Debug)]
pub struct Arrivals {
    unwrapper: Unwrapper<16>,
    times: Box<[(i64, Option<Instant>)]>,
    next: Option<i64>,
    newest: i64,
    pending: bool,
    last_sent: Option<Instant>,
    count: u8,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            unwrapper: Unwrapper::default(),
            times: vec![(i64::MIN, None); WINDOW].into_boxed_slice(),
            next: None,
            newest: 0,
            pending: false,
            last_sent: None,
            count: 0,
        }
    }
}

/// What one feedback message says.
#[derive(Debug)]
pub struct Window<'a> {
    /// First sequence number.
    pub base: u16,
    /// Arrival of each packet from `base` on; `None` is lost.
    pub times: &'a [Option<Instant>],
    /// Feedback message counter.
    pub count: u8,
}

impl Arrivals {
    fn cell(&mut self, sequence: i64) -> Option<&mut (i64, Option<Instant>)> {
        self.times.get_mut(sequence.rem_euclid(WINDOW as i64) as usize)
    }

    /// Notes a packet.
    pub fn received(&mut self, now: Instant, sequence: u16) {
        let sequence = self.unwrapper.unwrap(u32::from(sequence));
        let next = match self.next {
            None => {
                self.last_sent = Some(now);
                self.newest = sequence;
                *self.next.insert(sequence)
            }
            Some(next) => next,
        };
        if sequence < next {
            // A late packet rewinds the window, as far as it can still be told apart.
            if self.newest - sequence >= WINDOW as i64 {
                return;
            }
            self.next = Some(sequence);
        }
        self.newest = self.newest.max(sequence);
        if let Some(cell) = self.cell(sequence) {
            *cell = (sequence, Some(now));
        }
        if self.newest - self.next.unwrap_or(sequence) >= WINDOW as i64 {
            self.next = Some(self.newest - WINDOW as i64 + 1);
        }
        self.pending = true;
    }

    /// Whether feedback should go out now that a packet came; `marker`: it ended a frame.
    pub fn ready(&self, now: Instant, marker: bool) -> bool {
        let Some(last) = self.last_sent.filter(|_| self.pending) else { return false };
        let waited = now.saturating_duration_since(last);
        waited >= INTERVAL || (marker && waited >= FRAME_INTERVAL)
    }

    /// When feedback has to go out even if nothing else comes.
    pub fn deadline(&self) -> Option<Instant> {
        self.last_sent.filter(|_| self.pending).map(|last| last + INTERVAL)
    }

    /// Takes the unreported packets, using `times` as scratch space, until nothing is pending.
    pub fn take<'a>(&mut self, now: Instant, times: &'a mut [Option<Instant>]) -> Option<Window<'a>> {
        if !self.pending {
            return None;
        }
        let base = self.next?;
        let len = usize::try_from(self.newest - base + 1).unwrap_or(0).min(times.len());
        let out = times.get_mut(..len)?;
        for (i, slot) in out.iter_mut().enumerate() {
            *slot = self.arrival(base + i as i64);
        }
        let end = base + len as i64;
        self.next = Some(end);
        self.pending = end <= self.newest;
        self.last_sent = Some(now);
        let count = self.count;
        self.count = self.count.wrapping_add(1);
        if out.is_empty() {
            return None;
        }
        Some(Window { base: base as u16, times: out, count })
    }

    fn arrival(&self, sequence: i64) -> Option<Instant> {
        let (have, at) = *self.times.get(sequence.rem_euclid(WINDOW as i64) as usize)?;
        if have == sequence { at } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn reports_losses_late_packets_and_the_tail() {
        let start = Instant::now();
        let mut a = Arrivals::default();
        let mut scratch = [None; 64];
        a.received(start, 65_534);
        assert!(!a.ready(start, true));
        a.received(at(start, 10), 0);
        assert!(!a.ready(at(start, 10), true));
        assert!(a.ready(at(start, 20), true));
        assert_eq!(a.deadline(), Some(at(start, 100)));
        let w = a.take(at(start, 20), &mut scratch).unwrap();
        assert_eq!((w.base, w.count), (65_534, 0));
        assert_eq!(w.times, [Some(start), None, Some(at(start, 10))]);
        assert!(a.take(at(start, 20), &mut scratch).is_none());
        assert_eq!(a.deadline(), None);
        a.received(at(start, 30), 65_535);
        let w = a.take(at(start, 130), &mut scratch).unwrap();
        assert_eq!((w.base, w.count, w.times.len()), (65_535, 1, 2));
    }

    #[test]
    fn a_long_gap_moves_the_window() {
        let start = Instant::now();
        let mut a = Arrivals::default();
        a.received(start, 1);
        a.received(start, 5000);
        let mut scratch = [None; 1024];
        let w = a.take(start, &mut scratch).unwrap();
        assert_eq!((w.base, w.times.len()), (5000 - 511, 512));
        assert_eq!(w.times.iter().flatten().count(), 1);
    }
}
