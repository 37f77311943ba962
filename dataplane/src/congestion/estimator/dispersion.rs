//! How long the path's narrowest link takes to send a byte, from packets that left together: each arrives later than the one
//! before it by its own time on that link. On a slow link that is no queue, although it is as long as one.

use serde::{Deserialize, Serialize};

/// Pairs that are remembered; the least of them counts, since other traffic gets in between.
const PAIRS: usize = 8;
/// Packets left together when that was within this time, microseconds.
const TOGETHER: u64 = 1_000;
/// Nanoseconds per byte that are believed at most: 80 kbit/s; and the share of them, so that no queue is hidden by much.
const MOST: u64 = 100_000;
const SHARE: u64 = 60;

/// Measures pairs of packets.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Dispersion {
    #[serde(with = "crate::carry::checked")]
    pairs: [u64; PAIRS],
    #[serde(with = "crate::carry::checked")]
    count: usize,
    #[serde(with = "crate::carry::checked")]
    last: Option<(u16, u64, u64)>,
    #[serde(with = "crate::carry::checked")]
    least: u64,
}

impl Dispersion {
    /// Takes a received packet; `sent` and `arrival` in microseconds of either clock.
    pub fn packet(&mut self, sequence: u16, sent: u64, arrival: u64, size: u16) {
        let before = self.last.replace((sequence, sent, arrival));
        let Some((number, left, came)) = before else { return };
        let neighbours = number.wrapping_add(1) == sequence && sent.saturating_sub(left) <= TOGETHER && sent >= left;
        if !neighbours || size == 0 {
            return;
        }
        // What overtook its neighbour says that nothing held it up.
        let apart = arrival.saturating_sub(came).saturating_mul(1_000) / u64::from(size);
        self.pairs[self.count % PAIRS] = apart.min(MOST);
        self.count += 1;
        let known = self.pairs.get(..self.count.min(PAIRS)).unwrap_or(&[]);
        self.least = known.iter().copied().min().unwrap_or(0);
    }

    /// Microseconds that a packet of this size is on the link, a little less rather than more; zero before anything is known.
    pub fn of(&self, size: u16) -> u64 {
        // A single pair may have been torn apart by anything.
        if self.count < 2 { 0 } else { self.least * u64::from(size) * SHARE / 100_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of three packets over a link of 400 kbit/s; before the last packet of each, what else is on the link.
    fn frames(dispersion: &mut Dispersion, others: impl Fn(u16) -> u64) {
        for frame in 0..20u16 {
            let at = 1_000_000 + u64::from(frame) * 66_000;
            let mut arrival = at + 20_000;
            for n in 0..3u16 {
                arrival += 20 * 1_000 + if n == 2 { others(frame) } else { 0 };
                dispersion.packet(frame * 3 + n, at + u64::from(n) * 50, arrival, 1_000);
            }
        }
    }

    #[test]
    fn packets_that_left_together_tell_the_link() {
        let mut dispersion = Dispersion::default();
        assert_eq!(dispersion.of(1_200), 0);
        frames(&mut dispersion, |_| 0);
        assert_eq!((dispersion.of(1_000), dispersion.of(100)), (12_000, 1_200));
        frames(&mut dispersion, |frame| u64::from(frame) * 3_000);
        assert_eq!(dispersion.of(1_000), 12_000, "other traffic comes in between");
    }

    #[test]
    fn what_waited_for_each_other_tells_nothing() {
        let mut dispersion = Dispersion::default();
        frames(&mut dispersion, |_| 0);
        for n in 0..8u16 {
            dispersion.packet(100 + n, 9_000_000 + u64::from(n), 9_050_000, 1_000);
        }
        assert_eq!(dispersion.of(1_000), 0, "they arrive at once");
        dispersion.packet(300, 10_000_000, 10_020_000, 1_000);
        dispersion.packet(301, 10_033_000, 10_099_000, 1_000);
        dispersion.packet(303, 10_033_100, 10_199_000, 1_000);
        assert_eq!(dispersion.of(1_000), 0, "not together, not neighbours");
    }
}
