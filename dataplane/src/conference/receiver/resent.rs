//! What was sent again lately: nobody is given the same twice before a repetition can have arrived.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A packet is not sent again to the same receiver before this has passed, or, where the round-trip time is known, before
/// the receiver can have missed the repetition.
const INTERVAL: Duration = Duration::from_millis(20);
const SHORTEST: Duration = Duration::from_millis(5);
const KEPT: usize = 64;

/// A ring of encodings and sequence numbers. Apart from those who send, whose neighbours every packet walks over; few ever need it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Resent {
    #[serde(with = "crate::carry::checked")]
    list: [Option<(u8, u16, Instant)>; KEPT],
    #[serde(with = "crate::carry::checked")]
    at: usize,
}

impl Default for Resent {
    fn default() -> Self {
        Self { list: [None; KEPT], at: 0 }
    }
}

impl Resent {
    /// Whether a packet may be sent again now; records it if so.
    pub fn may(&mut self, now: Instant, (encoding, sequence): (u8, u16), round_trip: Option<Duration>) -> bool {
        let interval = round_trip.map_or(INTERVAL, |rtt| (rtt * 9 / 10).max(SHORTEST));
        let recent = |r: &(u8, u16, Instant)| {
            (r.0, r.1) == (encoding, sequence) && now.saturating_duration_since(r.2) < interval
        };
        if self.list.iter().flatten().any(recent) {
            return false;
        }
        if let Some(slot) = self.list.get_mut(self.at) {
            *slot = Some((encoding, sequence, now));
        }
        self.at = (self.at + 1) % KEPT;
        true
    }
}
