//! Sequence numbers of one received encoding: duplicates, and numbers closed up over packets that go no further.

use serde::{Deserialize, Serialize};

const WINDOW: i64 = 2048;
const WORDS: usize = (WINDOW / 64) as usize;
/// Discarded packets that late arrivals can still be placed around.
const RECENT: usize = 64;

/// Where a packet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The newest so far; `skipped` numbers before it have not been seen.
    Newest {
        /// Missing packets just before this one.
        skipped: u64,
    },
    /// Older than the newest, not seen before.
    Late,
    /// Seen before.
    Duplicate,
    /// Too old to know whether it came before.
    Old,
}

/// Tracks 64-bit extended sequence numbers of one SSRC.
#[derive(Debug, Serialize, Deserialize)]
pub struct SequenceTracker {
    #[serde(with = "crate::carry::checked")]
    newest: Option<i64>,
    seen: [u64; WORDS],
    #[serde(with = "crate::carry::checked")]
    discarded: i64,
    #[serde(with = "crate::carry::array")]
    recent: [i64; RECENT],
    #[serde(with = "crate::carry::checked")]
    recent_at: usize,
    #[serde(with = "crate::carry::checked")]
    recent_len: usize,
}

impl Default for SequenceTracker {
    fn default() -> Self {
        Self { newest: None, seen: [0; WORDS], discarded: 0, recent: [0; RECENT], recent_at: 0, recent_len: 0 }
    }
}

impl SequenceTracker {
    /// Extends a 16-bit number to the one nearest to the newest seen.
    pub fn extend(&self, sequence: u16) -> Option<i64> {
        let newest = self.newest?;
        let step = sequence.wrapping_sub(newest as u16) as i16;
        Some(newest + i64::from(step))
    }

    fn bit(&mut self, sequence: i64) -> (&mut u64, u64) {
        let at = sequence.rem_euclid(WINDOW) as usize;
        (&mut self.seen[at / 64 % WORDS], 1 << (at % 64))
    }

    /// Records a packet.
    pub fn insert(&mut self, sequence: i64) -> Arrival {
        let Some(newest) = self.newest else {
            self.newest = Some(sequence);
            let (word, mask) = self.bit(sequence);
            *word |= mask;
            return Arrival::Newest { skipped: 0 };
        };
        if sequence > newest {
            let step = sequence - newest;
            if step >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                for missing in newest + 1..sequence {
                    let (word, mask) = self.bit(missing);
                    *word &= !mask;
                }
            }
            self.newest = Some(sequence);
            let (word, mask) = self.bit(sequence);
            *word |= mask;
            return Arrival::Newest { skipped: (step - 1).unsigned_abs() };
        }
        if newest - sequence >= WINDOW {
            return Arrival::Old;
        }
        let (word, mask) = self.bit(sequence);
        if *word & mask != 0 {
            return Arrival::Duplicate;
        }
        *word |= mask;
        Arrival::Late
    }

    /// Takes the packet that was just inserted out of the numbering. A late one leaves a hole instead, because packets
    /// after it already went out under their numbers.
    pub fn discard(&mut self, sequence: i64, arrival: Arrival) {
        if !matches!(arrival, Arrival::Newest { .. }) {
            return;
        }
        self.discarded += 1;
        self.recent[self.recent_at % RECENT] = sequence;
        self.recent_at = (self.recent_at + 1) % RECENT;
        self.recent_len = (self.recent_len + 1).min(RECENT);
    }

    /// The number of a packet with discarded ones closed up; `None` when it is too old to place.
    pub fn closed(&self, sequence: i64) -> Option<i64> {
        let recent = self.recent.get(..self.recent_len).unwrap_or(&[]);
        if self.recent_len == RECENT && recent.iter().all(|d| *d > sequence) {
            return None;
        }
        let later = recent.iter().filter(|d| **d > sequence).count() as i64;
        Some(sequence - (self.discarded - later))
    }
}

/// Extends a counter of `BITS` bits by the shortest step.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Unwrapper<const BITS: u32> {
    #[serde(with = "crate::carry::checked")]
    last: Option<i64>,
}

impl<const BITS: u32> Unwrapper<BITS> {
    /// The extended value.
    pub fn unwrap(&mut self, value: u32) -> i64 {
        let modulus = 1i64 << BITS;
        let value = i64::from(value) & (modulus - 1);
        let extended = match self.last {
            None => value,
            Some(last) => {
                let mut step = (value - last).rem_euclid(modulus);
                if step >= modulus / 2 {
                    step -= modulus;
                }
                last + step
            }
        };
        if self.last.is_none_or(|last| extended > last) {
            self.last = Some(extended);
        }
        extended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn duplicates_and_reordering() {
        let mut t = SequenceTracker::default();
        assert_eq!(t.insert(10), Arrival::Newest { skipped: 0 });
        assert_eq!(t.insert(13), Arrival::Newest { skipped: 2 });
        assert_eq!(t.insert(12), Arrival::Late);
        assert_eq!(t.insert(12), Arrival::Duplicate);
        assert_eq!(t.insert(13), Arrival::Duplicate);
        assert_eq!(t.insert(10_000), Arrival::Newest { skipped: 9_986 });
        assert_eq!(t.insert(13), Arrival::Old);
        assert_eq!(t.insert(9_999), Arrival::Late);
        assert_eq!(t.extend(10_001), Some(10_001));
    }

    #[test]
    fn numbers_close_up_over_discarded_packets_also_for_late_ones() {
        let mut t = SequenceTracker::default();
        let first = t.insert(65_530);
        assert_eq!(first, Arrival::Newest { skipped: 0 });
        let a = t.insert(65_533);
        t.discard(65_533, a);
        assert_eq!(t.insert(65_531), Arrival::Late);
        assert_eq!(t.closed(65_531), Some(65_531));
        assert_eq!(t.closed(65_534), Some(65_533));
        let late = t.insert(65_532);
        t.discard(65_532, late);
        assert_eq!(t.closed(65_534), Some(65_533), "a late discard leaves a hole");
    }

    proptest! {
        #[test]
        fn closed_numbers_have_no_holes_and_no_collisions(discard in proptest::collection::vec(any::<bool>(), 1..400)) {
            let mut t = SequenceTracker::default();
            let mut next = None;
            for (i, discard) in discard.into_iter().enumerate() {
                let sequence = 1_000 + i as i64;
                let arrival = t.insert(sequence);
                if discard {
                    t.discard(sequence, arrival);
                    continue;
                }
                let closed = t.closed(sequence).unwrap();
                if let Some(next) = next {
                    prop_assert_eq!(closed, next);
                }
                next = Some(closed + 1);
            }
        }

        #[test]
        fn unwrapping_follows_any_small_step(steps in proptest::collection::vec(-60i64..60, 1..200)) {
            let mut u = Unwrapper::<7>::default();
            let mut value = 1_000i64;
            let offset = u.unwrap((value & 0x7f) as u32) - value;
            let mut highest = value;
            for step in steps {
                value = highest + step;
                prop_assert_eq!(u.unwrap((value & 0x7f) as u32), value + offset);
                highest = highest.max(value);
            }
        }
    }
}
