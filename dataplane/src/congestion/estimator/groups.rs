//! Groups of packets that were sent together, and how much the time between two groups grew on the way.

use serde::{Deserialize, Serialize};

/// Packets sent within this many microseconds are one group.
const GROUP: u64 = 5_000;
/// Packets that arrive this close together after a stall are one group, too.
const BURST: u64 = 5_000;
const LONGEST_BURST: u64 = 100_000;

/// How two groups in a row differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delta {
    /// Time between their last packets when sent, microseconds.
    pub send: i64,
    /// The same when they arrived.
    pub arrival: i64,
    /// When the later group arrived, by the receiver's clock.
    pub at: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Group {
    #[serde(with = "crate::carry::checked")]
    first_send: u64,
    #[serde(with = "crate::carry::checked")]
    last_send: u64,
    #[serde(with = "crate::carry::checked")]
    first_arrival: u64,
    #[serde(with = "crate::carry::checked")]
    last_arrival: u64,
}

/// Collects packets into groups.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Groups {
    previous: Option<Group>,
    current: Option<Group>,
}

impl Groups {
    /// Takes a received packet, in the order of sending; returns a difference when that closes a group.
    pub fn packet(&mut self, send: u64, arrival: u64) -> Option<Delta> {
        let fresh = Group { first_send: send, last_send: send, first_arrival: arrival, last_arrival: arrival };
        let Some(current) = &mut self.current else {
            self.current = Some(fresh);
            return None;
        };
        if send < current.first_send {
            // Reported again, or late: its group is closed.
            return None;
        }
        let after_last = arrival as i64 - current.last_arrival as i64;
        let growth = after_last - (send - current.last_send.min(send)) as i64;
        let burst =
            growth < 0 && after_last <= BURST as i64 && arrival.saturating_sub(current.first_arrival) < LONGEST_BURST;
        if send - current.first_send <= GROUP || burst {
            current.last_send = current.last_send.max(send);
            current.last_arrival = current.last_arrival.max(arrival);
            return None;
        }
        let closed = *current;
        self.current = Some(fresh);
        let previous = self.previous.replace(closed)?;
        Some(Delta {
            send: closed.last_send as i64 - previous.last_send as i64,
            arrival: closed.last_arrival as i64 - previous.last_arrival as i64,
            at: closed.last_arrival,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_send_time_and_by_bursts() {
        let mut groups = Groups::default();
        let mut deltas = Vec::new();
        // Three frames of three packets; the third frame takes 4 ms longer.
        for (frame, late) in [(0u64, 0), (1, 0), (2, 4_000), (3, 4_000)] {
            for n in 0..3u64 {
                deltas.extend(groups.packet(frame * 33_000 + n * 100, 900_000 + frame * 33_000 + n * 1_000 + late));
            }
        }
        let growth: Vec<i64> = deltas.iter().map(|d| d.arrival - d.send).collect();
        assert_eq!(growth, [0, 4_000]);
        // What a stalled radio link lets go at once is one group.
        let mut groups = Groups::default();
        let burst: Vec<_> = (0..10u64).filter_map(|n| groups.packet(n * 10_000, 500_000 + n * 100)).collect();
        assert_eq!(burst, []);
    }
}
