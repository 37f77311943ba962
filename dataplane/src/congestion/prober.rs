//! When to find out whether a path carries more: short bursts of extra packets, at most twice what is known, while more is
//! wanted than the estimate allows. What they showed is for the estimator to decide.

use serde::{Deserialize, Serialize};

use super::estimator::Estimator;
use super::estimator::probe::Cluster;
use crate::clock::WorkerTime;
use crate::media::Bitrate;

/// A probe lasts this long, in microseconds.
const DURATION: u64 = 20_000;
/// It has at least this many packets, and bytes.
const LEAST_PACKETS: u32 = 5;
const LEAST_BYTES: u64 = 1_000;
/// Sent in steps, so that the rate is a rate.
const STEP: u64 = 5_000;
/// How much more than the estimate is tried.
const FACTOR: f64 = 2.0;
/// The same before anything is known of the path.
const FIRST_FACTOR: f64 = 3.0;
/// A little more than wanted, since a probe's result is a little less than its rate.
const MARGIN: f64 = 1.2;
/// Between a probe that showed room and the next.
const AGAIN: u64 = 200_000;
/// Between probes that showed none: the first pause, and the longest.
const PAUSE: u64 = 1_000_000;
const LONGEST_PAUSE: u64 = 4_000_000;
/// Feedback takes this long at most, beyond the round trip.
const PATIENCE: u64 = 500_000;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Running {
    rate: Bitrate,
    #[serde(with = "crate::carry::checked")]
    started: WorkerTime,
    packets: u32,
    #[serde(with = "crate::carry::checked")]
    bytes: u64,
}

/// Decides on probes for one receiver.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Prober {
    running: Option<Running>,
    cluster: Option<Cluster>,
    rate: Bitrate,
    #[serde(with = "crate::carry::checked")]
    expires: WorkerTime,
    #[serde(with = "crate::carry::checked")]
    next: WorkerTime,
    #[serde(with = "crate::carry::checked")]
    pause: u64,
    last_id: u8,
    any: bool,
}

impl Prober {
    /// Starts a probe if it is time; `wanted` is what the receiver would be sent if its path carried it.
    pub fn poll(&mut self, now: WorkerTime, estimator: &mut Estimator, wanted: Bitrate) {
        if self.running.is_some() {
            return;
        }
        if self.cluster.is_some() {
            if estimator.probing() && now < self.expires {
                return;
            }
            // No result is no room.
            estimator.cancel_probe();
            self.cluster = None;
            self.back_off(now);
        }
        let estimate = estimator.estimate();
        if wanted <= estimate || now < self.next || !estimator.is_calm(now) {
            return;
        }
        let factor = if self.any { FACTOR } else { FIRST_FACTOR };
        let rate = Bitrate::from_f64((estimate.as_f64() * factor).min(wanted.as_f64() * MARGIN));
        self.any = true;
        // 0 is no probe.
        self.last_id = self.last_id % u8::MAX + 1;
        let bytes = rate.bytes_in(DURATION).max(LEAST_BYTES);
        let cluster = Cluster { id: self.last_id, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) };
        estimator.start_probe(cluster);
        self.cluster = Some(cluster);
        self.rate = rate;
        self.expires = now + PATIENCE + 2 * estimator.round_trip().unwrap_or(0);
        self.running = Some(Running { rate, started: now, packets: 0, bytes: 0 });
    }

    fn back_off(&mut self, now: WorkerTime) {
        self.pause = (self.pause * 2).clamp(PAUSE, LONGEST_PAUSE);
        self.next = now + self.pause;
    }

    /// The cluster that packets sent now belong to; 0 is none.
    #[inline]
    pub fn cluster(&self) -> u8 {
        if self.running.is_some() { self.last_id } else { 0 }
    }

    /// Size of the extra packet to send now, if one is due. After it was sent, call [`Self::sent`], then this again.
    pub fn due(&self, now: WorkerTime) -> Option<u64> {
        let (running, cluster) = (self.running?, self.cluster?);
        let step = (now.since(running.started) / STEP + 1) * STEP;
        let by_now = running.rate.bytes_in(step);
        let size = (u64::from(cluster.bytes) / u64::from(LEAST_PACKETS)).clamp(200, 1_100);
        (running.bytes < by_now).then_some(size)
    }

    /// A packet went out while the probe ran.
    #[inline]
    pub fn sent(&mut self, size: u64) {
        let (Some(running), Some(cluster)) = (&mut self.running, self.cluster) else { return };
        running.packets += 1;
        running.bytes += size;
        if running.packets >= LEAST_PACKETS && running.bytes >= u64::from(cluster.bytes) {
            self.running = None;
        }
    }

    /// When [`Self::due`] or [`Self::poll`] want to be asked again; `None` when nothing goes on.
    pub fn poll_timeout(&self, now: WorkerTime) -> Option<WorkerTime> {
        match (self.running, self.cluster) {
            (Some(_), _) => Some(now + STEP),
            (None, Some(_)) => Some(self.expires),
            (None, None) => None,
        }
    }

    /// Something could not be sent: the probe would show nothing.
    pub fn abort(&mut self, now: WorkerTime, estimator: &mut Estimator) {
        if self.cluster.take().is_some() {
            estimator.cancel_probe();
            self.running = None;
            self.back_off(now);
        }
    }

    /// Takes what a probe showed.
    pub fn result(&mut self, now: WorkerTime, shown: Bitrate) {
        if self.cluster.take().is_none() {
            return;
        }
        self.running = None;
        if shown.as_f64() >= self.rate.as_f64() * 0.7 {
            self.pause = 0;
            self.next = now + AGAIN;
        } else {
            self.back_off(now);
        }
    }
}
