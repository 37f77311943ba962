//! What a probe showed: packets sent at a known rate, and how fast they arrived.

use serde::{Deserialize, Serialize};

use crate::media::Bitrate;

/// A probe counts when at least this share of it arrived.
const ARRIVED: f64 = 0.8;
/// Slower arrival than this share of the sending rate shows the path's capacity.
const SATURATED: f64 = 0.9;
/// Just below what was seen, so that its queue drains.
const BELOW: f64 = 0.95;
const LEAST_PACKETS: u32 = 4;

/// One group of packets sent to learn how much the path carries. One is under way at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// 1 to 255.
    pub id: u8,
    /// Bytes that make it complete.
    pub bytes: u32,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Seen {
    packets: u32,
    #[serde(with = "crate::carry::checked")]
    bytes: u64,
    #[serde(with = "crate::carry::checked")]
    first_send: u64,
    #[serde(with = "crate::carry::checked")]
    last_send: u64,
    #[serde(with = "crate::carry::checked")]
    size_of_last_sent: u64,
    #[serde(with = "crate::carry::checked")]
    first_arrival: u64,
    #[serde(with = "crate::carry::checked")]
    last_arrival: u64,
    #[serde(with = "crate::carry::checked")]
    size_of_first: u64,
}

/// Measures the probe that is under way.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ProbeMeter {
    cluster: Option<Cluster>,
    seen: Seen,
}

impl ProbeMeter {
    /// Waits for the packets of a new probe.
    pub fn start(&mut self, cluster: Cluster) {
        *self = Self { cluster: Some(cluster), seen: Seen::default() };
    }

    /// Whether one is under way.
    pub fn pending(&self) -> bool {
        self.cluster.is_some()
    }

    /// Abandons the probe.
    pub fn cancel(&mut self) {
        self.cluster = None;
    }

    /// Takes a received packet that was part of a probe.
    pub fn packet(&mut self, id: u8, send: u64, arrival: u64, size: u16) {
        if self.cluster.is_none_or(|c| c.id != id) {
            return;
        }
        let (seen, size) = (&mut self.seen, u64::from(size));
        if seen.packets == 0 || send < seen.first_send {
            seen.first_send = send;
        }
        if seen.packets == 0 || send >= seen.last_send {
            (seen.last_send, seen.size_of_last_sent) = (send, size);
        }
        if seen.packets == 0 || arrival < seen.first_arrival {
            (seen.first_arrival, seen.size_of_first) = (arrival, size);
        }
        seen.last_arrival = seen.last_arrival.max(arrival);
        seen.packets += 1;
        seen.bytes += size;
    }

    /// What the path was seen to carry, once enough arrived.
    pub fn take(&mut self) -> Option<Bitrate> {
        let (cluster, seen) = (self.cluster?, self.seen);
        if seen.packets < LEAST_PACKETS || (seen.bytes as f64) < f64::from(cluster.bytes) * ARRIVED {
            return None;
        }
        self.cluster = None;
        let (send, arrival) = (seen.last_send - seen.first_send, seen.last_arrival - seen.first_arrival);
        if send == 0 || arrival == 0 || arrival > 1_000_000 {
            return None;
        }
        let rate = |bytes: u64, micros: u64| bytes as f64 * 8e6 / micros as f64;
        let sent = rate(seen.bytes - seen.size_of_last_sent, send);
        let received = rate(seen.bytes - seen.size_of_first, arrival);
        // Much faster than it was sent: it was held up and let go, which says nothing of the path.
        if received > sent * 2.0 {
            return None;
        }
        Some(Bitrate::from_f64(if received < sent * SATURATED { received * BELOW } else { sent.min(received) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(gap_out: u64, gap_in: u64, arrived: u64) -> Option<u64> {
        let mut meter = ProbeMeter::default();
        meter.start(Cluster { id: 9, bytes: 10_000 });
        meter.packet(8, 0, 0, 1000);
        for i in 0..arrived {
            meter.packet(9, 77 + i * gap_out, 5_000 + i * gap_in, 1000);
        }
        let rate = meter.take().map(Bitrate::get);
        assert!(!meter.pending() || rate.is_none());
        rate
    }

    #[test]
    fn a_free_path_shows_the_rate_sent_a_full_one_its_capacity() {
        assert_eq!(probe(4_000, 4_000, 10), Some(2_000_000));
        assert_eq!(probe(4_000, 8_000, 10), Some(950_000));
        assert_eq!(probe(4_000, 8_000, 7), None, "too much is missing");
        assert_eq!(probe(4_000, 1_000, 10), None, "let go at once");
        assert_eq!(probe(0, 0, 10), None);
    }
}
