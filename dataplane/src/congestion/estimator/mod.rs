//! How much one receiver's path carries, from its transport-wide feedback: send-side estimation after GoogCC
//! (draft-ietf-rmcat-gcc-02; docs/protocol/bridge.md 8.1), without I/O. Spans of time are microseconds, and so are times of
//! the receiver's clock, which has nothing to do with ours.
//!
//! [`history`] keeps what was sent. Feedback goes to [`groups`] and [`trendline`] (does a queue grow?), [`queue`] (how long
//! is it?), [`dispersion`] (what of that is the link itself?), [`throughput`] (what arrives?), [`loss`] and [`probe`]; [`rate_control`] makes a rate of it.

use serde::{Deserialize, Serialize};

pub mod dispersion;
pub mod groups;
pub mod history;
pub mod loss;
pub mod probe;
pub mod queue;
pub mod rate_control;
pub mod throughput;
pub mod trendline;

use dispersion::Dispersion;
use groups::Groups;
use history::{Fate, SentHistory};
use loss::LossBased;
use probe::{Cluster, ProbeMeter};
use queue::QueueDelay;
use rate_control::{Input, RateControl, Verdict};
use throughput::Throughput;
use trendline::Trendline;

use crate::clock::WorkerTime;
use crate::media::Bitrate;
use crate::rtcp::Feedback;

/// Silence of the feedback, while packets are under way, that means the path is stuck: microseconds.
const STUCK: u64 = 600_000;
/// Two probes confirm each other within this time.
const CONFIRMED_WITHIN: u64 = 2_000_000;
/// A probe needs a queue shorter than this.
const CALM: u64 = 15_000;
/// Queueing delay above which what is sent is cut further, so that the queue drains within a second.
const DRAIN: u64 = 80_000;
const DRAIN_TIME: f64 = 700_000.0;
/// Never below this share of the capacity while draining.
const DRAIN_LEAST: f64 = 0.1;

/// Bounds of an estimate, and where it starts between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    start: Bitrate,
    min: Bitrate,
    max: Bitrate,
}

impl Bounds {
    /// `max` counts as `min` where it is less.
    pub fn new(min: Bitrate, max: Bitrate) -> Self {
        let max = max.max(min);
        Self { start: Self::START.clamp(min, max), min, max }
    }

    /// The same with another estimate before the first feedback; the nearest bound where it is beyond one.
    #[must_use]
    pub fn starting_at(self, start: Bitrate) -> Self {
        Self { start: start.clamp(self.min, self.max), ..self }
    }

    /// The lowest estimate.
    pub fn min(&self) -> Bitrate {
        self.min
    }

    /// The highest estimate.
    pub fn max(&self) -> Bitrate {
        self.max
    }

    const START: Bitrate = Bitrate::new(2_500_000);
}

impl Default for Bounds {
    /// Jitsi Videobridge's: 2,500 kbit/s at first, 30 kbit/s to 20 Mbit/s.
    fn default() -> Self {
        Self::new(Bitrate::new(30_000), Bitrate::new(20_000_000))
    }
}

/// What feedback made of the path's picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The rate went down.
    pub decreased: bool,
    /// What a probe was seen to carry.
    pub probed: Option<Bitrate>,
    /// Packets that were reported missing for the first time.
    pub lost: u32,
    /// Reported packets that are not among those remembered as sent.
    pub unmatched: u32,
}

/// The estimator of one receiver.
#[derive(Debug, Serialize, Deserialize)]
pub struct Estimator {
    history: SentHistory,
    groups: Groups,
    trendline: Trendline,
    queue: QueueDelay,
    dispersion: Dispersion,
    throughput: Throughput,
    /// What of the same packets was sent when.
    sending: Throughput,
    loss: LossBased,
    probe: ProbeMeter,
    rate: RateControl,
    #[serde(with = "crate::carry::checked")]
    reference: Option<i64>,
    #[serde(with = "crate::carry::checked")]
    round_trip: Option<u64>,
    #[serde(with = "crate::carry::checked")]
    last_feedback: Option<WorkerTime>,
    #[serde(with = "crate::carry::checked")]
    sent_at_feedback: u64,
    #[serde(with = "crate::carry::checked")]
    acked: Option<f64>,
    #[serde(with = "crate::carry::checked")]
    shown: Option<(WorkerTime, f64)>,
}

impl Estimator {
    /// An estimator without feedback.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            history: SentHistory::default(),
            groups: Groups::default(),
            trendline: Trendline::default(),
            queue: QueueDelay::default(),
            dispersion: Dispersion::default(),
            throughput: Throughput::default(),
            sending: Throughput::default(),
            loss: LossBased::default(),
            probe: ProbeMeter::default(),
            rate: RateControl::new(bounds.start, bounds.min, bounds.max),
            reference: None,
            round_trip: None,
            last_feedback: None,
            sent_at_feedback: 0,
            acked: None,
            shown: None,
        }
    }

    /// Other bounds apply from now on, those of the configuration of whoever takes over.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.rate.set_bounds(bounds.min, bounds.max);
    }

    /// Records a packet that goes out under [`Self::next_sequence`]: bytes of UDP payload, and the probe that it is part of
    /// (0: none).
    #[inline]
    pub fn note_sent(&mut self, now: WorkerTime, size: u16, cluster: u8) {
        self.history.push(now, size, cluster);
    }

    /// The transport-wide sequence number that the next packet has to carry; the first is 1.
    #[inline]
    pub fn next_sequence(&self) -> u16 {
        self.history.next_sequence()
    }

    /// Whether anything was sent that feedback may speak of.
    pub fn any_sent(&self) -> bool {
        self.history.sent() > 0
    }

    /// What the path carries.
    pub fn estimate(&self) -> Bitrate {
        let target = self.rate.target();
        Bitrate::from_f64(self.loss.limit().map_or(target, |limit| limit.min(target)))
    }

    /// What may be sent at present: less than the estimate while a queue has to drain.
    pub fn budget(&self) -> Bitrate {
        let (estimate, queue) = (self.estimate(), self.queue.delay());
        if queue <= DRAIN {
            return estimate;
        }
        let capacity = self.acked.unwrap_or(estimate.as_f64()).min(estimate.as_f64() / 0.85);
        let share = (1.0 - (queue - DRAIN / 2) as f64 / DRAIN_TIME).max(DRAIN_LEAST);
        Bitrate::from_f64(capacity * share).min(estimate)
    }

    /// Microseconds that packets wait at present.
    pub fn queue_delay(&self) -> u64 {
        self.queue.delay()
    }

    /// The same by the last feedback alone: earlier to grow, but jitter passes for a queue.
    pub fn latest_queue(&self) -> u64 {
        self.queue.latest()
    }

    /// Share of packets lost lately, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.loss.loss()
    }

    /// Round-trip time in microseconds, with the time that the receiver held its feedback back.
    pub fn round_trip(&self) -> Option<u64> {
        self.round_trip
    }

    /// Whether the path was ever heard of.
    pub fn heard(&self) -> bool {
        self.last_feedback.is_some()
    }

    /// Whether the queue is short and nothing was lowered just before: a probe would show something.
    pub fn is_calm(&self, now: WorkerTime) -> bool {
        let settled = self.rate.decreased().is_none_or(|at| now.since(at) > 500_000);
        self.heard() && settled && self.queue.delay() < CALM && self.trendline.usage() != trendline::Usage::Over
    }

    /// The next packets of this cluster are a probe.
    pub fn start_probe(&mut self, cluster: Cluster) {
        self.probe.start(cluster);
    }

    /// Whether the outcome of a probe is awaited.
    pub fn probing(&self) -> bool {
        self.probe.pending()
    }

    /// Gives up waiting for a probe's outcome.
    pub fn cancel_probe(&mut self) {
        self.probe.cancel();
    }

    /// Takes a feedback packet.
    pub fn feedback(&mut self, now: WorkerTime, feedback: &Feedback<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        let reference = self.unwrap_reference(feedback.reference());
        let (mut least_delay, mut newest_sent): (Option<(i64, i64)>, _) = (None, None);
        for (sequence, status) in feedback.packets() {
            let Some(sent) = self.history.settle(now, sequence, status.is_received()) else {
                outcome.unmatched += 1;
                continue;
            };
            // What was lost at a rate that was too much for the queue is accounted for by the decrease.
            let given_up = self.rate.cut().is_some_and(|at| sent.at <= at);
            match (sent.before, status.is_received()) {
                (Fate::Unknown, received) => {
                    self.loss.packet(sent.size, received || given_up);
                    outcome.lost += u32::from(!received);
                }
                (Fate::Missing, true) => self.loss.found(),
                (Fate::Received, _) | (Fate::Missing, false) => continue,
            }
            let Some(arrival) = status.arrival().and_then(|at| u64::try_from(reference + at).ok()) else { continue };
            newest_sent = newest_sent.max(Some(sent.at));
            let sent_at = sent.at.as_micros();
            self.dispersion.packet(sequence, sent_at, arrival, sent.size);
            let delay = arrival as i64 - sent_at as i64;
            let waited = delay - self.dispersion.of(sent.size) as i64;
            least_delay = Some(least_delay.map_or((delay, waited), |(d, w)| (d.min(delay), w.min(waited))));
            self.throughput.received(arrival, sent.size);
            self.sending.received(sent_at, sent.size);
            if sent.cluster != 0 {
                self.probe.packet(sent.cluster, sent_at, arrival, sent.size);
            }
            if let Some(delta) = self.groups.packet(sent_at, arrival) {
                self.trendline.update(delta);
            }
        }
        self.last_feedback = Some(now);
        self.sent_at_feedback = self.history.sent();
        let Some(newest_sent) = newest_sent else {
            self.loss.update(now, self.rate.target(), self.acked);
            return outcome;
        };
        let sample = now.since(newest_sent);
        self.round_trip = Some(self.round_trip.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        if let Some((least, waited)) = least_delay {
            self.queue.feedback(now, least, waited);
        }
        let short = self.throughput.rate(150_000).map(Bitrate::as_f64);
        self.acked = self.throughput.rate(500_000).map(Bitrate::as_f64);
        let input = Input {
            now,
            usage: self.trendline.usage(),
            queue: self.queue.delay(),
            latest_queue: self.queue.latest(),
            lasting_queue: self.queue.lasting(),
            limited: self.loss.limit().is_some_and(|limit| limit < self.rate.target()),
            acked_short: short,
            acked: self.acked,
            sent: self.sending.rate(500_000).map(Bitrate::as_f64),
            round_trip: sample,
        };
        match self.rate.update(input) {
            Verdict::Go => {}
            Verdict::Decreased => outcome.decreased = true,
            Verdict::Rebase => self.queue.rebase(),
        }
        outcome.probed = self.probe.take();
        if let Some(rate) = outcome.probed.filter(|_| !outcome.decreased && self.queue.delay() < STUCK) {
            self.raise(now, rate.as_f64());
        }
        self.loss.update(now, self.rate.target(), self.acked);
        outcome
    }

    /// Takes what a probe showed. Jitter can make one look better than the path is: where the capacity seemed known, two
    /// have to agree.
    fn raise(&mut self, now: WorkerTime, rate: f64) {
        let refutes = self.rate.capacity().is_some_and(|capacity| rate > capacity * 1.02);
        let before = self.shown.take().filter(|(at, _)| now.since(*at) < CONFIRMED_WITHIN);
        match before {
            None if refutes => self.shown = Some((now, rate)),
            before => {
                let rate = before.map_or(rate, |(_, first)| first.min(rate));
                self.rate.raise(rate);
                self.loss.raise(rate);
            }
        }
    }

    /// Looks whether feedback is overdue; true when the estimate went down for it.
    pub fn check(&mut self, now: WorkerTime) -> bool {
        let Some(last) = self.last_feedback else { return false };
        let patience = STUCK + self.round_trip.unwrap_or(0);
        // A few packets under way are nothing to conclude from.
        if self.history.sent() < self.sent_at_feedback + 5 || now.since(last) < patience {
            return false;
        }
        self.last_feedback = Some(now);
        self.rate.scale(now, 0.7);
        true
    }

    /// Reference times have 24 bits of 64 ms; returns microseconds that go on growing.
    fn unwrap_reference(&mut self, reference: u32) -> i64 {
        const TICK: i64 = 64_000;
        // Times beyond are made up: a thousand years of the greatest steps.
        const LATEST: i64 = 1 << 44;
        let last = *self.reference.get_or_insert(i64::from(reference) + (1 << 24));
        let step = (reference.wrapping_sub(last as u32) << 8) as i32 >> 8;
        let unwrapped = (last + i64::from(step)).min(LATEST);
        self.reference = Some(last.max(unwrapped));
        unwrapped * TICK
    }
}
