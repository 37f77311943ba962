//! What one sender may send a worker that is at its limit: no more than twice what the others send on average, or else everybody
//! gives up video for one. A worker that is not at its limit takes what comes.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Packets are counted for this long.
const WINDOW: Duration = Duration::from_millis(50);
/// What everybody may send in a window: 1,280 a second, of which a camera in three encodings takes a third.
const LEAST: u32 = 64;
/// How many times the average of the others one may send.
const TIMES: u32 = 2;

/// One sender's part of the present window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    window: u32,
    packets: u32,
}

/// What was taken of all senders of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub struct FairShare {
    window: u32,
    #[serde(with = "crate::carry::checked")]
    ends: Option<Instant>,
    senders: u32,
    packets: u32,
    /// The most that was taken of one sender.
    most: u32,
    /// What may be taken of one sender in the present window.
    limit: u32,
}

impl Default for FairShare {
    fn default() -> Self {
        Self { window: 1, ends: None, senders: 0, packets: 0, most: 0, limit: u32::MAX }
    }
}

impl FairShare {
    /// Begins a new window when the present one is over.
    #[inline]
    pub fn roll(&mut self, now: Instant) {
        if self.ends.is_none_or(|ends| now >= ends) {
            let others = self.senders.saturating_sub(1);
            let average = self.packets.saturating_sub(self.most).checked_div(others);
            let limit = average.map_or(u32::MAX, |average| average.saturating_mul(TIMES).max(LEAST));
            *self = Self {
                window: self.window.wrapping_add(1),
                ends: Some(now + WINDOW),
                limit,
                ..Self { senders: 0, packets: 0, most: 0, ..*self }
            };
        }
    }

    /// Whether a packet of a sender may be taken by a worker at its limit.
    #[inline]
    pub fn allows(&self, sent: &Sent) -> bool {
        sent.window != self.window || sent.packets < self.limit
    }

    /// Counts an authentic packet that was taken.
    #[inline]
    pub fn count(&mut self, sent: &mut Sent) {
        if sent.window != self.window {
            *sent = Sent { window: self.window, packets: 0 };
            self.senders += 1;
        }
        sent.packets += 1;
        self.packets += 1;
        self.most = self.most.max(sent.packets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a second of senders with so many packets per second each; what was taken of each in the second half.
    fn second(rates: &[u32]) -> Vec<u32> {
        let (start, mut share) = (Instant::now(), FairShare::default());
        let mut sent = vec![Sent::default(); rates.len()];
        let mut taken = vec![0; rates.len()];
        for tick in 0..10_000u32 {
            share.roll(start + Duration::from_micros(u64::from(tick) * 100));
            for (i, rate) in rates.iter().enumerate() {
                for _ in (tick * rate / 10_000)..((tick + 1) * rate / 10_000) {
                    if share.allows(&sent[i]) {
                        share.count(&mut sent[i]);
                        taken[i] += u32::from(tick >= 5_000);
                    }
                }
            }
        }
        taken
    }

    #[test]
    fn who_sends_ten_times_as_much_as_others_is_cut_and_nobody_else_is() {
        for honest in [1, 3, 10, 100] {
            let mut rates = vec![400; honest];
            rates.push(4_000);
            let taken = second(&rates);
            assert!(taken[..honest].iter().all(|taken| *taken == 200), "{taken:?}");
            assert!((600..700).contains(&taken[honest]), "{honest}: {}", taken[honest]);
        }
        // A fifth of them.
        let taken = second(&[400, 400, 400, 400, 400, 400, 400, 400, 10_000, 10_000]);
        assert!(taken[..8].iter().all(|taken| *taken == 200) && taken[8..].iter().all(|t| *t < 2_500), "{taken:?}");
    }

    #[test]
    fn equals_and_one_alone_are_not_cut() {
        assert_eq!(second(&[100_000]), [50_000]);
        assert_eq!(second(&[20_000; 5]), [10_000; 5]);
        assert_eq!(second(&[1_000, 50, 50]), [500, 25, 25], "a screen beside thumbnails");
    }
}
