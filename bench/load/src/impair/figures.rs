//! What a link counts.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Why a packet was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// By chance.
    Random,
    /// In a burst.
    Burst,
    /// The bottleneck's queue was full.
    Queue,
    /// The link was down.
    Outage,
}

/// Counters since the start, and queueing delays and bytes since the last report.
#[derive(Debug)]
pub struct Figures {
    total: Report,
    /// Queueing delays of this window, microseconds.
    delays: Vec<u32>,
    window_bytes: u64,
    window_start: Instant,
}

/// What one direction reports. Counters are totals; delays and the rate are those since the last report.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Packets that came to the link.
    pub entered: u64,
    /// Packets that arrived, duplicates included.
    pub passed: u64,
    /// Bytes that arrived, IP and UDP headers included.
    pub bytes: u64,
    /// Packets lost at random.
    pub lost: u64,
    /// Packets lost in bursts.
    pub burst_lost: u64,
    /// Packets that found the queue full.
    pub queue_dropped: u64,
    /// Packets lost while the link was down.
    pub outage_dropped: u64,
    /// Packets that arrive twice.
    pub duplicated: u64,
    /// Packets that others overtake.
    pub reordered: u64,
    /// Kilobits per second that arrived.
    pub kbps: f64,
    /// Median of the time in the bottleneck's queue, milliseconds.
    pub queue_p50_ms: f64,
    /// Its 99th percentile, milliseconds.
    pub queue_p99_ms: f64,
}

/// Delays kept per window; of more the later ones do not count.
const MOST_DELAYS: usize = 1 << 20;

impl Figures {
    pub(super) fn new(now: Instant) -> Self {
        Self { total: Report::default(), delays: Vec::new(), window_bytes: 0, window_start: now }
    }

    pub(super) fn entered(&mut self) {
        self.total.entered += 1;
    }

    pub(super) fn passed(&mut self, bytes: usize) {
        self.total.passed += 1;
        self.total.bytes += bytes as u64;
        self.window_bytes += bytes as u64;
    }

    pub(super) fn lost(&mut self, loss: Loss) {
        *match loss {
            Loss::Random => &mut self.total.lost,
            Loss::Burst => &mut self.total.burst_lost,
            Loss::Queue => &mut self.total.queue_dropped,
            Loss::Outage => &mut self.total.outage_dropped,
        } += 1;
    }

    pub(super) fn duplicated(&mut self) {
        self.total.duplicated += 1;
    }

    pub(super) fn reordered(&mut self) {
        self.total.reordered += 1;
    }

    pub(super) fn waited(&mut self, delay: Duration) {
        if self.delays.len() < MOST_DELAYS {
            self.delays.push(u32::try_from(delay.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// Everything up to `now`; the next window starts.
    pub fn report(&mut self, now: Instant) -> Report {
        let seconds = now.saturating_duration_since(self.window_start).as_secs_f64();
        self.delays.sort_unstable();
        let quantile = |share: f64| {
            let rank = (self.delays.len() as f64 * share).ceil() as usize;
            self.delays.get(rank.saturating_sub(1)).map_or(0.0, |delay| f64::from(*delay) / 1_000.0)
        };
        let report = Report {
            kbps: if seconds > 0.0 { (self.window_bytes as f64 * 8.0 / seconds / 1_000.0).round() } else { 0.0 },
            queue_p50_ms: quantile(0.5),
            queue_p99_ms: quantile(0.99),
            ..self.total.clone()
        };
        self.delays.clear();
        self.window_bytes = 0;
        self.window_start = now;
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_starts_over_and_totals_stay() {
        let start = Instant::now();
        let mut figures = Figures::new(start);
        for delay in 1..=100 {
            figures.passed(1_250);
            figures.waited(Duration::from_millis(delay));
        }
        figures.lost(Loss::Queue);
        let report = figures.report(start + Duration::from_secs(1));
        assert_eq!((report.passed, report.queue_dropped, report.kbps), (100, 1, 1_000.0));
        assert!((report.queue_p50_ms - 50.0).abs() < 1.0 && (report.queue_p99_ms - 99.0).abs() < 1.0, "{report:?}");
        let report = figures.report(start + Duration::from_secs(2));
        assert_eq!((report.passed, report.kbps, report.queue_p99_ms), (100, 0.0, 0.0));
    }
}
