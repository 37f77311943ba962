//! The delay gradient: a line fitted through the smoothed queueing delay of the last groups, against a threshold that
//! adapts to the path (draft-ietf-rmcat-gcc-02 section 5, with the trendline filter in place of the Kalman filter).

use serde::{Deserialize, Serialize};

use super::groups::Delta;

const WINDOW: usize = 20;
const SMOOTHING: f64 = 0.9;
const GAIN: f64 = 4.0;
const MAX_DELTAS: f64 = 60.0;
/// Milliseconds.
const FIRST_THRESHOLD: f64 = 12.5;
const THRESHOLD_RISE: f64 = 0.0087;
const THRESHOLD_FALL: f64 = 0.039;
/// Values this far above the threshold are spikes, which it does not follow.
const SPIKE: f64 = 15.0;
const OVERUSE_TIME: f64 = 10.0;

/// What the delay says about the path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Usage {
    /// Delay is steady.
    #[default]
    Normal,
    /// A queue grows.
    Over,
    /// A queue shrinks.
    Under,
}

/// The filter and the detector.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trendline {
    #[serde(with = "crate::carry::checked")]
    samples: [(f64, f64); WINDOW],
    #[serde(with = "crate::carry::checked")]
    count: usize,
    #[serde(with = "crate::carry::checked")]
    first_arrival: Option<u64>,
    #[serde(with = "crate::carry::checked")]
    last_arrival: u64,
    #[serde(with = "crate::carry::checked")]
    accumulated: f64,
    #[serde(with = "crate::carry::checked")]
    smoothed: f64,
    #[serde(with = "crate::carry::checked")]
    threshold: f64,
    #[serde(with = "crate::carry::checked")]
    previous: f64,
    #[serde(with = "crate::carry::checked")]
    over_for: Option<f64>,
    over_count: u32,
    usage: Usage,
}

impl Default for Trendline {
    fn default() -> Self {
        Self {
            samples: [(0.0, 0.0); WINDOW],
            count: 0,
            first_arrival: None,
            last_arrival: 0,
            accumulated: 0.0,
            smoothed: 0.0,
            threshold: FIRST_THRESHOLD,
            previous: 0.0,
            over_for: None,
            over_count: 0,
            usage: Usage::Normal,
        }
    }
}

impl Trendline {
    /// What the delay said last.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Takes the difference between two groups.
    pub fn update(&mut self, delta: Delta) {
        let first = *self.first_arrival.get_or_insert(delta.at);
        let growth = (delta.arrival - delta.send) as f64 / 1000.0;
        self.accumulated += growth;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.accumulated;
        let at = delta.at.saturating_sub(first) as f64 / 1000.0;
        self.samples[self.count % WINDOW] = (at, self.smoothed);
        self.count += 1;
        let trend = if self.count >= WINDOW { self.slope().unwrap_or(self.previous) } else { self.previous };
        let since_last = delta.at.saturating_sub(self.last_arrival) as f64 / 1000.0;
        self.last_arrival = delta.at;
        self.detect(trend, delta.send as f64 / 1000.0, since_last);
    }

    /// Least squares.
    fn slope(&self) -> Option<f64> {
        let n = WINDOW as f64;
        let mean = |f: fn(&(f64, f64)) -> f64| self.samples.iter().map(f).sum::<f64>() / n;
        let (x, y) = (mean(|s| s.0), mean(|s| s.1));
        let (mut up, mut down) = (0.0, 0.0);
        for (sx, sy) in &self.samples {
            up += (sx - x) * (sy - y);
            down += (sx - x) * (sx - x);
        }
        (down > 0.0).then(|| up / down)
    }

    fn detect(&mut self, trend: f64, send_delta: f64, since_last: f64) {
        if self.count < 2 {
            return;
        }
        let value = trend * MAX_DELTAS.min(self.count as f64) * GAIN;
        if value > self.threshold {
            let over_for = self.over_for.map_or(send_delta / 2.0, |t| t + send_delta);
            self.over_for = Some(over_for);
            self.over_count += 1;
            if over_for > OVERUSE_TIME && self.over_count > 1 && trend >= self.previous {
                (self.over_for, self.over_count) = (Some(0.0), 0);
                self.usage = Usage::Over;
            }
        } else {
            (self.over_for, self.over_count) = (None, 0);
            self.usage = if value < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        self.previous = trend;
        if value.abs() <= self.threshold + SPIKE {
            let rate = if value.abs() < self.threshold { THRESHOLD_FALL } else { THRESHOLD_RISE };
            self.threshold += rate * (value.abs() - self.threshold) * since_last.min(100.0);
            self.threshold = self.threshold.clamp(6.0, 600.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(trendline: &mut Trendline, at: &mut u64, growth: i64, groups: usize) -> Vec<Usage> {
        let step = |_| {
            *at += (33_000 + growth) as u64;
            trendline.update(Delta { send: 33_000, arrival: 33_000 + growth, at: *at });
            trendline.usage()
        };
        (0..groups).map(step).collect()
    }

    #[test]
    fn a_growing_queue_is_overuse_a_shrinking_one_underuse() {
        let (mut trendline, mut at) = (Trendline::default(), 1_000_000);
        assert!(feed(&mut trendline, &mut at, 0, 60).iter().all(|u| *u == Usage::Normal));
        let growing = feed(&mut trendline, &mut at, 10_000, 20);
        let noticed = growing.iter().position(|u| *u == Usage::Over).unwrap();
        assert!(noticed < 8, "after {noticed} groups");
        let shrinking = feed(&mut trendline, &mut at, -10_000, 30);
        assert_eq!(shrinking.last(), Some(&Usage::Under));
        assert_eq!(feed(&mut trendline, &mut at, 0, 60).last(), Some(&Usage::Normal));
    }

    #[test]
    fn jitter_is_no_overuse() {
        let (mut trendline, mut at) = (Trendline::default(), 1_000_000);
        let mut random = 7u64;
        let mut last = 0;
        for _ in 0..2_000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let delay = (random >> 40) as i64 % 50_000;
            at += 33_000;
            let arrival = 33_000 + delay - last;
            last = delay;
            trendline.update(Delta { send: 33_000, arrival, at: (at + delay) as u64 });
            assert_ne!(trendline.usage(), Usage::Over);
        }
    }
}
