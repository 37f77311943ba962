//! Statistics of one received SSRC, for receiver reports (RFC 3550 appendix A.3 and A.8).

use std::time::Instant;

use crate::rtcp::{ReportBlock, SenderInfo};

/// What a receiver report says of one SSRC.
#[derive(Debug, Default)]
pub struct Reception {
    first: Option<u64>,
    highest: u64,
    received: u64,
    expected_before: u64,
    received_before: u64,
    jitter: f64,
    transit: Option<f64>,
    last_sr: Option<(SenderInfo, Instant)>,
}

impl Reception {
    /// Notes a packet; `clock_rate` in Hz, `epoch` any fixed instant.
    pub fn received(&mut self, now: Instant, epoch: Instant, index: u64, timestamp: u32, clock_rate: u32) {
        self.received += 1;
        let first = *self.first.get_or_insert(index);
        self.first = Some(first.min(index));
        self.highest = self.highest.max(index);
        let arrival = now.saturating_duration_since(epoch).as_secs_f64() * f64::from(clock_rate);
        let transit = arrival - f64::from(timestamp);
        if let Some(before) = self.transit {
            let change = (transit - before).abs();
            // A timestamp that wrapped or jumped is no jitter.
            if change < f64::from(clock_rate) * 5.0 {
                self.jitter += (change - self.jitter) / 16.0;
            }
        }
        self.transit = Some(transit);
    }

    /// Notes a sender report.
    pub fn sender_report(&mut self, now: Instant, info: SenderInfo) {
        self.last_sr = Some((info, now));
    }

    /// The block for the next receiver report; `None` when nothing came since the last one.
    pub fn report(&mut self, now: Instant, ssrc: u32) -> Option<ReportBlock> {
        let first = self.first.filter(|_| self.received > self.received_before)?;
        let expected = self.highest - first + 1;
        let (expected_now, received_now) = (expected - self.expected_before, self.received - self.received_before);
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction_lost = if expected_now == 0 { 0 } else { ((lost_now << 8) / expected_now).min(255) as u8 };
        (self.expected_before, self.received_before) = (expected, self.received);
        let (last_sr, delay) = match self.last_sr {
            Some((info, at)) => {
                let delay = now.saturating_duration_since(at).as_secs_f64() * 65_536.0;
                ((info.ntp >> 16) as u32, delay as u32)
            }
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc,
            fraction_lost,
            lost: expected.saturating_sub(self.received).min(0x7f_ffff) as u32,
            highest: self.highest as u32,
            jitter: self.jitter as u32,
            last_sr,
            delay,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn loss_is_reported_per_interval_and_in_all() {
        let epoch = Instant::now();
        let mut reception = Reception::default();
        assert_eq!(reception.report(epoch, 7), None);
        for index in [65_534u64, 65_535, 65_537] {
            reception.received(epoch, epoch, index, 0, 90_000);
        }
        let info = SenderInfo { ntp: 0x1234_5678_9abc_def0, rtp: 0, packets: 0, octets: 0 };
        reception.sender_report(epoch, info);
        let report = reception.report(epoch + Duration::from_secs(1), 7).expect("packets came");
        assert_eq!((report.fraction_lost, report.lost, report.highest), (64, 1, 65_537));
        assert_eq!((report.last_sr, report.delay), (0x5678_9abc, 65_536));
        assert_eq!(reception.report(epoch, 7), None, "nothing new");
    }
}
