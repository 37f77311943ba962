//! Packet indices and the replay window (RFC 3711 sections 3.3.1 and 3.3.2).

use serde::{Deserialize, Serialize};

/// Packets that may arrive late, counted back from the newest.
pub const WINDOW: u64 = 128;

/// Which indices were seen: a bit for each of the last 128.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct ReplayWindow {
    #[serde(with = "crate::carry::checked")]
    newest: u64,
    seen: u128,
}

impl ReplayWindow {
    /// The window of a stream of which only the newest index is remembered: nothing up to that is taken again.
    pub fn after(newest: u64) -> Self {
        Self { newest, seen: u128::MAX }
    }

    /// The newest index that was seen.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether `index` is new and not too old. Changes nothing.
    pub fn is_fresh(&self, index: u64) -> bool {
        if self.seen == 0 || index > self.newest {
            return true;
        }
        let age = self.newest - index;
        age < WINDOW && self.seen >> age & 1 == 0
    }

    /// Marks `index` as seen; only after its tag verified.
    pub fn mark(&mut self, index: u64) {
        if self.seen == 0 || index > self.newest {
            let step = if self.seen == 0 { WINDOW } else { index - self.newest };
            self.seen = if step >= WINDOW { 0 } else { self.seen << step };
            self.seen |= 1;
            self.newest = index;
        } else if self.newest - index < WINDOW {
            self.seen |= 1 << (self.newest - index);
        }
    }

    /// The 48-bit index that a packet with this sequence number most likely has. None where that is before the first one there is: were it
    /// taken for one of the rollover that follows, the stream would go on with a step that no receiver of it can estimate.
    pub fn estimate(&self, sequence: u16) -> Option<u64> {
        if self.seen == 0 {
            return Some(u64::from(sequence));
        }
        let delta = sequence.wrapping_sub(self.newest as u16) as i16;
        self.newest.checked_add_signed(i64::from(delta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rollover_is_followed_in_both_directions() {
        let mut window = ReplayWindow::default();
        for sequence in [65_533u16, 65_535, 0, 65_534, 2, 1] {
            let index = window.estimate(sequence).unwrap();
            assert!(window.is_fresh(index), "{sequence}");
            window.mark(index);
        }
        assert_eq!(window.estimate(3), Some(65_536 + 3));
        assert_eq!(window.estimate(65_530), Some(65_530));
        assert!(!window.is_fresh(65_536), "already seen");
    }

    #[test]
    fn nothing_is_before_the_first_rollover() {
        let mut window = ReplayWindow::default();
        window.mark(1_038);
        assert_eq!(window.estimate(0), Some(0));
        assert_eq!(window.estimate(33_805), Some(33_805), "the largest step ahead");
        for sequence in [33_806, 65_025, u16::MAX] {
            assert_eq!(window.estimate(sequence), None, "{sequence}");
        }
    }

    #[test]
    fn too_old_is_not_fresh() {
        let mut window = ReplayWindow::default();
        window.mark(1_000);
        assert!(window.is_fresh(1_000 - WINDOW + 1));
        assert!(!window.is_fresh(1_000 - WINDOW));
    }

    proptest! {
        #[test]
        fn nothing_is_fresh_twice(indices in proptest::collection::vec(0u64..400, 1..300)) {
            let mut window = ReplayWindow::default();
            let mut taken = std::collections::HashSet::new();
            for index in indices {
                if window.is_fresh(index) {
                    prop_assert!(taken.insert(index), "{index} was taken twice");
                    window.mark(index);
                }
            }
        }
    }
}
