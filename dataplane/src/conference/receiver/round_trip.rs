//! Round-trip time to an endpoint, from its report blocks and the sender reports that it was given (RFC 3550 section
//! 6.4.1). The bridge passes senders' NTP times on, so it has to remember when.

use serde::{Deserialize, Serialize};

use crate::clock::WorkerTime;

/// Sender reports that are remembered; receivers answer within seconds.
const REMEMBERED: usize = 32;
/// Anything longer is a mistake.
const LONGEST: u64 = 7_000_000;

/// Measures one endpoint's round-trip time, in microseconds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct RoundTrip {
    /// Middle of the NTP time, and when it was sent. Empty before the first.
    sent: Vec<(u32, WorkerTime)>,
    #[serde(with = "crate::carry::checked")]
    next: usize,
    #[serde(with = "crate::carry::checked")]
    value: Option<u64>,
}

impl RoundTrip {
    /// Records a sender report with an NTP time that was sent to the endpoint.
    pub fn sent(&mut self, now: WorkerTime, ntp: u64) {
        let entry = ((ntp >> 16) as u32, now);
        if self.sent.len() < REMEMBERED {
            if self.sent.capacity() == 0 {
                self.sent.reserve_exact(REMEMBERED);
            }
            self.sent.push(entry);
        } else if let Some(slot) = self.sent.get_mut(self.next % REMEMBERED) {
            *slot = entry;
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// Takes what a report block says of the last sender report: its NTP time, and the delay since in 1/65536 s.
    pub fn reported(&mut self, now: WorkerTime, last_sr: u32, delay: u32) {
        if last_sr == 0 {
            return;
        }
        let delay = (u64::from(delay) * 1_000_000) >> 16;
        let Some((_, at)) = self.sent.iter().find(|(ntp, _)| *ntp == last_sr) else { return };
        let Some(sample) = now.since(*at).checked_sub(delay).filter(|rtt| *rtt <= LONGEST) else { return };
        self.value = Some(self.value.map_or(sample, |value| (value * 7 + sample) / 8));
    }

    /// The smoothed value.
    pub fn value(&self) -> Option<u64> {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_that_is_meant_is_found() {
        let at = WorkerTime::from_micros;
        let mut rtt = RoundTrip::default();
        for i in 0..100u64 {
            rtt.sent(at(1_000_000 * i), (i + 1) << 16 | 0x7 << 48);
        }
        rtt.reported(at(98_600_000), 99, 0x8000);
        assert_eq!(rtt.value(), Some(100_000));
        rtt.reported(at(98_680_000), 99, 0x8000);
        assert_eq!(rtt.value(), Some(110_000));
        rtt.reported(at(99_000_000), 5, 0);
        rtt.reported(at(99_000_000), 0, 0);
        rtt.reported(at(98_400_000), 99, 0x8000);
        assert_eq!(rtt.value(), Some(110_000), "forgotten, absent, negative");
    }
}
