//! Acknowledged bitrate: what arrived at the receiver, by its own clock.

use serde::{Deserialize, Serialize};

use crate::media::Bitrate;

/// Microseconds of one slot.
const SLOT: u64 = 10_000;
const SLOTS: usize = 64;

/// Bytes that arrived, by slots of 10 ms, for the last 640 ms.
#[derive(Debug, Serialize, Deserialize)]
pub struct Throughput {
    #[serde(with = "crate::carry::array")]
    slots: [u32; SLOTS],
    #[serde(with = "crate::carry::checked")]
    newest: u64,
    #[serde(with = "crate::carry::checked")]
    first: Option<u64>,
}

impl Default for Throughput {
    fn default() -> Self {
        Self { slots: [0; SLOTS], newest: 0, first: None }
    }
}

impl Throughput {
    /// Records an arrival, in microseconds of the receiver's clock.
    pub fn received(&mut self, arrival: u64, size: u16) {
        let slot = arrival / SLOT;
        if self.first.is_none() || slot >= self.newest + SLOTS as u64 {
            // Nothing for a long while: what was before says nothing about now.
            *self = Self { slots: [0; SLOTS], newest: slot, first: Some(slot) };
        }
        while self.newest < slot {
            self.newest += 1;
            self.slots[self.newest as usize % SLOTS] = 0;
        }
        if self.newest - slot < SLOTS as u64 {
            let bytes = &mut self.slots[slot as usize % SLOTS];
            *bytes = bytes.saturating_add(u32::from(size));
        }
    }

    /// The rate over the last `window` microseconds before the newest arrival; `None` before there is enough.
    pub fn rate(&self, window: u64) -> Option<Bitrate> {
        let wanted = (window / SLOT).clamp(1, SLOTS as u64 - 1);
        let known = self.newest.checked_sub(self.first?)? + 1;
        // A short beginning says little.
        let slots = if known >= wanted { wanted } else { known };
        if slots < 10.min(wanted) {
            return None;
        }
        let from = self.newest + 1 - slots;
        let bytes: u64 = (from..=self.newest).map(|slot| u64::from(self.slots[slot as usize % SLOTS])).sum();
        Some(Bitrate::of(bytes, slots * SLOT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_and_a_change() {
        let mut t = Throughput::default();
        assert_eq!(t.rate(500_000), None);
        // 1,000 bytes every 8 ms: a megabit per second.
        for i in 0..200u64 {
            t.received(5_000_000 + i * 8_000, 1000);
        }
        let rate = t.rate(500_000).unwrap().get();
        assert!((950_000..1_050_000).contains(&rate), "{rate}");
        for i in 0..10u64 {
            t.received(6_600_000 + i * 20_000, 1000);
        }
        let (short, long) = (t.rate(150_000).unwrap().get(), t.rate(600_000).unwrap().get());
        assert!((350_000..450_000).contains(&short) && long > 700_000, "{short} {long}");
        t.received(9_000_000, 1000);
        assert_eq!(t.rate(150_000), None, "after a pause it starts anew");
        t.received(1_000_000, 1000);
        assert_eq!(t.rate(150_000), None, "far too late: not counted");
    }
}
