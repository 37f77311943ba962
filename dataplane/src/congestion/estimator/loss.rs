//! The part that goes by loss: which bandwidth explains best how much was lost at which sending rate, given that a path
//! may lose packets on its own. After the idea of GoogCC's second loss-based estimator: a likelihood over the last
//! observations, for a few candidates around the present value.

use serde::{Deserialize, Serialize};

use crate::clock::WorkerTime;

/// Least time of one observation, microseconds.
const OBSERVATION: u64 = 250_000;
const OBSERVATIONS: usize = 15;
const LEAST_OBSERVATIONS: usize = 3;
/// How much less an observation counts for each of these microseconds that it is old, and when it counts no more.
const FADE: f64 = 0.9;
const FADE_TIME: f64 = 500_000.0;
const OLDEST: u64 = 8_000_000;
/// Loss that paths have on their own, at first and at most.
const INHERENT: f64 = 0.01;
const INHERENT_MOST: f64 = 0.2;
/// Preference for more bandwidth, which vanishes as loss goes up.
const PREFER: f64 = 0.02;
const PREFER_UNTIL: f64 = 0.15;
/// Above this much loss, what is sent is bounded at once: the rate is `BALANCE / (loss - TOLERATED)` bits per second.
const TOLERATED: f64 = 0.08;
const BALANCE: f64 = 75_000.0;
/// Below this much nothing is limited.
const HARMLESS: f64 = 0.02;
/// Growth per second of a limit without losses.
const GROWTH: f64 = 1.1;
/// Losing more than this share at once is an outage, which says nothing of the rate unless it goes on.
const OUTAGE: f64 = 0.4;

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Observation {
    /// When it was complete.
    #[serde(with = "crate::carry::checked")]
    at: WorkerTime,
    #[serde(with = "crate::carry::checked")]
    packets: f64,
    #[serde(with = "crate::carry::checked")]
    lost: f64,
    /// Bits per second.
    #[serde(with = "crate::carry::checked")]
    rate: f64,
}

/// Estimates from losses.
#[derive(Debug, Serialize, Deserialize)]
pub struct LossBased {
    past: [Observation; OBSERVATIONS],
    #[serde(with = "crate::carry::checked")]
    count: usize,
    #[serde(with = "crate::carry::checked")]
    now: WorkerTime,
    /// Complete, but some of what it counts as lost may only be late.
    pending: Option<Observation>,
    #[serde(with = "crate::carry::checked")]
    since: Option<WorkerTime>,
    packets: u32,
    lost: u32,
    #[serde(with = "crate::carry::checked")]
    bytes: u64,
    #[serde(with = "crate::carry::checked")]
    inherent: f64,
    #[serde(with = "crate::carry::checked")]
    limit: Option<f64>,
    #[serde(with = "crate::carry::checked")]
    average: f64,
    outage: bool,
}

impl Default for LossBased {
    fn default() -> Self {
        Self {
            past: [Observation::default(); OBSERVATIONS],
            count: 0,
            now: WorkerTime::default(),
            pending: None,
            since: None,
            packets: 0,
            lost: 0,
            bytes: 0,
            inherent: INHERENT,
            limit: None,
            average: 0.0,
            outage: false,
        }
    }
}

impl LossBased {
    /// Share of packets lost lately, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.average
    }

    /// Bits per second that losses allow; `None` is no limit.
    pub fn limit(&self) -> Option<f64> {
        self.limit
    }

    /// A packet's fate became known.
    pub fn packet(&mut self, size: u16, received: bool) {
        self.packets += 1;
        self.bytes += u64::from(size);
        self.lost += u32::from(!received);
    }

    /// A packet that was taken for lost was only late.
    pub fn found(&mut self) {
        if let Some(lost) = self.lost.checked_sub(1) {
            self.lost = lost;
        } else if let Some(pending) = &mut self.pending {
            pending.lost = (pending.lost - 1.0).max(0.0);
        }
    }

    /// A probe carried more: the limit is out of date.
    pub fn raise(&mut self, rate: f64) {
        self.limit = self.limit.filter(|limit| *limit >= rate).map(|_| rate).or(None);
    }

    /// Runs after each feedback. `delay_based` is the other part's estimate, `acked` what arrives.
    pub fn update(&mut self, now: WorkerTime, delay_based: f64, acked: Option<f64>) {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.since(since);
        // A handful of packets cannot distinguish 2 % from 20 %.
        if elapsed < OBSERVATION || (self.packets < 20 && elapsed < 4 * OBSERVATION) || self.packets == 0 {
            return;
        }
        let outage = f64::from(self.lost) > f64::from(self.packets) * OUTAGE;
        if outage && !std::mem::replace(&mut self.outage, outage) {
            (self.since, self.packets, self.lost, self.bytes) = (Some(now), 0, 0, 0);
            return;
        }
        self.outage = outage;
        let rate = self.bytes as f64 * 8e6 / elapsed as f64;
        let fresh = Observation { at: now, packets: f64::from(self.packets), lost: f64::from(self.lost), rate };
        (self.since, self.packets, self.lost, self.bytes) = (Some(now), 0, 0, 0);
        let Some(settled) = self.pending.replace(fresh) else { return };
        self.past[self.count % OBSERVATIONS] = settled;
        self.count += 1;
        self.now = now;
        self.average = self.average();
        if self.recent() <= HARMLESS || self.count < LEAST_OBSERVATIONS {
            let growth = GROWTH.powf(elapsed as f64 / 1e6);
            self.limit = self.limit.map(|limit| limit * growth).filter(|limit| *limit < delay_based);
            return;
        }
        self.decide(delay_based, acked);
    }

    fn decide(&mut self, delay_based: f64, acked: Option<f64>) {
        let present = self.limit.unwrap_or(delay_based).min(delay_based);
        let mut candidates = [present * 1.02, present, present * 0.95, f64::NAN, f64::NAN];
        if let Some(acked) = acked.filter(|acked| *acked < present) {
            candidates[3] = acked;
        }
        // Without a limit this is `present` already.
        if self.limit.is_some() {
            candidates[4] = delay_based;
        }
        let mut best = (f64::NEG_INFINITY, present, self.inherent);
        for bandwidth in candidates.into_iter().filter(|c| c.is_finite() && *c > 0.0) {
            let inherent = self.inherent_for(bandwidth);
            let value = self.likelihood(bandwidth, inherent);
            if value > best.0 {
                best = (value, bandwidth, inherent);
            }
        }
        let (_, mut bandwidth, inherent) = best;
        self.inherent = inherent;
        if self.average > TOLERATED {
            bandwidth = bandwidth.min(BALANCE / (self.average - TOLERATED));
        }
        // What gets through, gets through.
        bandwidth = bandwidth.max(acked.unwrap_or(0.0) * 0.7);
        self.limit = (bandwidth < delay_based).then_some(bandwidth);
    }

    /// From the oldest to the newest, with what each counts. By time: where few packets flow observations are long.
    fn weighted(&self) -> impl Iterator<Item = (f64, &Observation)> {
        let kept =
            (0..self.count.min(OBSERVATIONS)).rev().map(|back| &self.past[(self.count - 1 - back) % OBSERVATIONS]);
        let aged = kept.map(|o| (self.now.since(o.at), o)).filter(|(age, _)| *age <= OLDEST);
        aged.map(|(age, o)| (FADE.powf(age as f64 / FADE_TIME), o))
    }

    fn average(&self) -> f64 {
        Self::share(self.weighted())
    }

    /// Of the last few observations alone: what was lost long ago does not hold anything back.
    fn recent(&self) -> f64 {
        Self::share(self.weighted().skip(self.weighted().count().saturating_sub(LEAST_OBSERVATIONS)))
    }

    fn share<'a>(observations: impl Iterator<Item = (f64, &'a Observation)>) -> f64 {
        let sums = observations.fold((0.0, 0.0), |(lost, all), (w, o)| (lost + w * o.lost, all + w * o.packets));
        if sums.1 > 0.0 { sums.0 / sums.1 } else { 0.0 }
    }

    /// One step of Newton's method towards the path's own loss that suits a bandwidth best.
    fn inherent_for(&self, bandwidth: f64) -> f64 {
        let (mut first, mut second) = (0.0, 0.0);
        for (weight, o) in self.weighted() {
            let p = probability(self.inherent, o.rate, bandwidth);
            let (lost, received) = (o.lost, o.packets - o.lost);
            first += weight * (lost / p - received / (1.0 - p));
            second -= weight * (lost / (p * p) + received / ((1.0 - p) * (1.0 - p)));
        }
        let step = if second < 0.0 { 0.75 * first / second } else { 0.0 };
        (self.inherent - step).clamp(1e-4, INHERENT_MOST)
    }

    fn likelihood(&self, bandwidth: f64, inherent: f64) -> f64 {
        let prefer = PREFER * (1.0 - self.average / PREFER_UNTIL).max(0.0);
        let log_bandwidth = (1.0 + bandwidth / 1000.0).ln();
        self.weighted()
            .map(|(weight, o)| {
                let p = probability(inherent, o.rate, bandwidth);
                let fit = o.lost * p.ln() + (o.packets - o.lost) * (1.0 - p).ln();
                weight * (fit + prefer * log_bandwidth * o.packets)
            })
            .sum()
    }
}

/// How likely a packet is lost when more is sent than the path carries.
fn probability(inherent: f64, rate: f64, bandwidth: f64) -> f64 {
    let excess = if rate > bandwidth { (rate - bandwidth) / rate } else { 0.0 };
    (inherent + (1.0 - inherent) * excess).clamp(1e-6, 1.0 - 1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends at the estimate, loses what exceeds `capacity` and a share of the rest; returns the mean estimate after 20 s.
    fn settle(random_loss: f64, capacity: f64, start: f64) -> f64 {
        let mut part = LossBased::default();
        let (mut now, mut owed) = (WorkerTime::default(), 0.0);
        let (mut rate, mut sum) = (start, 0.0);
        for step in 0..300 {
            now = now + 100_000;
            let packets = (rate * 0.1 / 8.0 / 1000.0) as u32;
            let share = (1.0 - capacity / rate).max(0.0);
            for _ in 0..packets {
                owed += share + (1.0 - share) * random_loss;
                part.packet(1000, owed < 1.0);
                owed -= f64::from(u8::from(owed >= 1.0));
            }
            part.update(now, start, Some(rate * (1.0 - share) * (1.0 - random_loss)));
            rate = part.limit().unwrap_or(start);
            sum += if step >= 200 { rate } else { 0.0 };
        }
        sum / 100.0
    }

    #[test]
    fn a_path_that_loses_at_random_is_not_slowed_down() {
        assert_eq!(settle(0.0, 1e9, 2e6), 2e6);
        assert!(settle(0.02, 1e9, 2e6) > 1.9e6, "{}", settle(0.02, 1e9, 2e6));
        assert!(settle(0.05, 1e9, 2e6) > 1.6e6, "{}", settle(0.05, 1e9, 2e6));
        assert!(settle(0.1, 1e9, 2e6) > 1.6e6, "{}", settle(0.1, 1e9, 2e6));
        let heavy = settle(0.2, 1e9, 2e6);
        assert!(heavy < 1.2e6, "{heavy}");
    }

    #[test]
    fn a_policer_is_found() {
        for capacity in [0.4e6, 0.8e6, 1.5e6] {
            let found = settle(0.0, capacity, 2e6);
            assert!((0.6..1.25).contains(&(found / capacity)), "{capacity}: {found}");
        }
    }

    #[test]
    fn late_is_not_lost() {
        let mut part = LossBased::default();
        for step in 1..100u64 {
            for n in 0..50 {
                part.packet(1000, n >= 10);
            }
            (0..10).for_each(|_| part.found());
            part.update(WorkerTime::from_micros(step * 100_000), 4e6, Some(4e6));
            (0..3).for_each(|_| part.found());
        }
        assert_eq!((part.limit(), part.loss()), (None, 0.0));
    }
}
