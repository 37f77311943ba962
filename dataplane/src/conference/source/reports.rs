//! Reception statistics of one received SSRC (RFC 3550 sections 6.4 and A.8).

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// The values of one report block about a sender's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reception {
    /// Share of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets numbered since the last report.
    pub expected: u64,
    /// Those of them that were lost.
    pub lost: u64,
    /// Packets lost since the start; 24 bits, signed.
    pub cumulative_lost: i32,
    /// Extended highest sequence number.
    pub highest: u32,
    /// Interarrival jitter in units of the RTP clock.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time; zero for none.
    pub last_sr: u32,
    /// Time since that report arrived, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

/// The last sender report of an SSRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderClock {
    /// NTP time of the report.
    pub ntp: u64,
    /// RTP time of the same moment.
    pub rtp: u32,
    /// When it arrived.
    #[serde(with = "crate::carry::checked")]
    pub at: Instant,
}

impl SenderClock {
    /// RTP time of a video stream at another NTP time (32.32 fixed point).
    pub fn rtp_at(&self, ntp: u64) -> u32 {
        const RATE: i128 = 90_000;
        let step = (i128::from(ntp.wrapping_sub(self.ntp) as i64) * RATE) >> 32;
        self.rtp.wrapping_add(step as u32)
    }
}

/// Counts what arrives on one SSRC.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ReceptionStats {
    #[serde(with = "crate::carry::checked")]
    first: Option<i64>,
    #[serde(with = "crate::carry::checked")]
    highest: i64,
    #[serde(with = "crate::carry::checked")]
    received: i64,
    #[serde(with = "crate::carry::checked")]
    expected_before: i64,
    #[serde(with = "crate::carry::checked")]
    received_before: i64,
    /// Jitter times 16.
    #[serde(with = "crate::carry::checked")]
    jitter: i64,
    #[serde(with = "crate::carry::checked")]
    last_transit: Option<i64>,
    last_timestamp: u32,
    clock: Option<SenderClock>,
}

impl ReceptionStats {
    /// A packet arrived; `since_epoch` is its arrival in units of the RTP clock.
    pub fn received(&mut self, sequence: i64, timestamp: u32, since_epoch: i64) {
        if self.first.is_none() {
            self.first = Some(sequence);
            self.highest = sequence;
        }
        self.highest = self.highest.max(sequence);
        self.received += 1;
        // Packets of one frame share a timestamp and leave in a batch: only the first one shows the transit time.
        if self.last_transit.is_some() && timestamp == self.last_timestamp {
            return;
        }
        let transit = i64::from((since_epoch as u32).wrapping_sub(timestamp));
        if let Some(last) = self.last_transit {
            let step = i64::from((transit as u32).wrapping_sub(last as u32) as i32).abs();
            self.jitter += step - ((self.jitter + 8) >> 4);
        }
        self.last_transit = Some(transit);
        self.last_timestamp = timestamp;
    }

    /// A sender report arrived.
    pub fn sender_report(&mut self, clock: SenderClock) {
        self.clock = Some(clock);
    }

    /// The next report; `None` when nothing arrived since the last one.
    pub fn report(&mut self, now: Instant) -> Option<Reception> {
        let first = self.first?;
        if self.received == self.received_before {
            return None;
        }
        let expected = self.highest - first + 1;
        // Saturating, since another process may have handed over counts that do not go together.
        let expected_now = expected.saturating_sub(self.expected_before);
        let lost_now = expected_now.saturating_sub(self.received.saturating_sub(self.received_before));
        self.expected_before = expected;
        self.received_before = self.received;
        let fraction_lost =
            if expected_now <= 0 || lost_now <= 0 { 0 } else { (lost_now.saturating_mul(256) / expected_now).min(255) };
        let lost = expected.saturating_sub(self.received).clamp(-0x80_0000, 0x7f_ffff);
        let (last_sr, delay_since_last_sr) = match self.clock {
            Some(clock) => {
                let delay = now.saturating_duration_since(clock.at).as_micros() * 65_536 / 1_000_000;
                ((clock.ntp >> 16) as u32, u32::try_from(delay).unwrap_or(u32::MAX))
            }
            None => (0, 0),
        };
        Some(Reception {
            expected: expected_now.max(0) as u64,
            lost: lost_now.max(0) as u64,
            fraction_lost: fraction_lost as u8,
            cumulative_lost: lost as i32,
            highest: self.highest as u32,
            jitter: u32::try_from(self.jitter >> 4).unwrap_or(u32::MAX),
            last_sr,
            delay_since_last_sr,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn loss_is_per_interval_and_cumulative() {
        let now = Instant::now();
        let mut stats = ReceptionStats::default();
        assert_eq!(stats.report(now), None);
        for s in 1..=10 {
            stats.received(s, s as u32 * 3000, s * 3000);
        }
        stats.sender_report(SenderClock { ntp: 0x1111_2222_3333_4444, rtp: 0, at: now });
        let first = stats.report(now + Duration::from_millis(500)).unwrap();
        assert_eq!((first.fraction_lost, first.cumulative_lost, first.highest, first.jitter), (0, 0, 10, 0));
        assert_eq!((first.expected, first.lost), (10, 0));
        assert_eq!((first.last_sr, first.delay_since_last_sr), (0x2222_3333, 32_768));
        for s in [12, 14, 15, 16] {
            stats.received(s, s as u32 * 3000, s * 3000);
        }
        let second = stats.report(now).unwrap();
        assert_eq!((second.fraction_lost, second.cumulative_lost), (85, 2));
        assert_eq!((second.expected, second.lost), (6, 2));
        assert_eq!(stats.report(now), None);
    }

    #[test]
    fn rtp_time_at_another_moment() {
        let clock = SenderClock { ntp: 5 << 32, rtp: 1000, at: Instant::now() };
        assert_eq!(clock.rtp_at(6 << 32), 91_000);
        assert_eq!(clock.rtp_at((5 << 32) - (1 << 31)), 1000u32.wrapping_sub(45_000));
    }

    #[test]
    fn jitter_follows_rfc_3550() {
        let mut stats = ReceptionStats::default();
        stats.received(1, 0, 0);
        stats.received(2, 3000, 3160);
        assert_eq!(stats.report(Instant::now()).unwrap().jitter, 10);
    }
}
