//! The way to one receiver: what is sent to it, what its path carries, what it would like to have.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::WorkerTime;
use crate::congestion::division::Division;
use crate::congestion::estimator::{Bounds, Estimator, Outcome};
use crate::congestion::filler::Filler;
use crate::congestion::prober::Prober;
use crate::limits::{MAX_BITRATE, REALLOCATION, REALLOCATION_BURST};
use crate::media::Bitrate;
use crate::messages::Bandwidth;
use crate::rtcp::Feedback;

/// How often the estimate is looked after between feedbacks; at multiples of this, so that receivers share a wake-up.
pub const TICK: u64 = 100_000;
/// A receiver that negotiated feedback and sends none is believed to be unlimited after this long.
const UNHEARD: u64 = 2_000_000;
/// A change of the budget that the allocation follows: up, as a share; down, any that what is granted exceeds.
const RISE: f64 = 1.03;
/// Least time between two allocations for one receiver; most while it gets less than it wants, and at all.
const SPACING: u64 = 100_000;
const REVIEW: u64 = 500_000;
const LONGEST: u64 = 1_000_000;
/// A little above what is wanted, so that a path that carries just that is found to do so.
const WANTED: f64 = 1.1;
/// Time between two reports to the control plane.
const REPORT: u64 = 1_000_000;
/// Share of the budget that repeated packets may take, and how much of that at once.
const REPAIR_SHARE: f64 = 0.25;
const REPAIR_LEAST: f64 = 20_000.0;
/// A queue this long makes repeated packets come too late, and gets the less of them; microseconds.
const LONG_QUEUE: u64 = 150_000;
const REPAIR_QUEUED: f64 = 0.5;
/// With a queue this long, and more sent than the path carries although only the least is, video pauses until it drained.
const PAUSE_QUEUE: u64 = 250_000;
const SHORT_PAUSE: u64 = 450_000;
const LONGEST_PAUSE: u64 = 2_000_000;
/// A queue that grew this long where a lower encoding is to begin is a link that shrank: soon it will be full.
const SHRUNK_QUEUE: u64 = 100_000;
/// With what it takes the sender to make a keyframe, enough for that to find room in the queue; longer would be a freeze of
/// its own.
const KEYFRAME_PAUSE: u64 = 300_000;
/// Time between two pauses.
const BETWEEN_PAUSES: u64 = 1_500_000;
const REPAIR_BURST: f64 = 0.5;
/// Share of packets lost above which repetitions are sent twice.
const LOSSY: f64 = 0.03;
/// REMB that was not repeated for this long is out of date.
const REMB_AGE: u64 = 5_000_000;

/// State of the way to one receiver. Spans of time are microseconds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Downlink {
    /// What the path carries.
    estimator: Estimator,
    /// Whether it carries more.
    prober: Prober,
    /// The same where the receiver estimates. Not carried to another process: it begins anew.
    #[serde(skip)]
    filler: Filler,
    /// What the allocation granted.
    granted: Bitrate,
    /// What it would be given if the path carried it.
    ideal: Bitrate,
    /// Wanted sources that it left out.
    suspended: u16,
    spurious_remb: bool,
    #[serde(with = "crate::carry::checked")]
    bytes: u64,
    #[serde(with = "crate::carry::checked")]
    since: Option<WorkerTime>,
    #[serde(with = "crate::carry::checked")]
    allocated_at: WorkerTime,
    allocated_for: Option<Bitrate>,
    #[serde(with = "crate::carry::checked")]
    remb: Option<(WorkerTime, Bitrate)>,
    #[serde(with = "crate::carry::checked")]
    repair: f64,
    #[serde(with = "crate::carry::checked")]
    repair_at: WorkerTime,
    #[serde(with = "crate::carry::checked")]
    reported_at: WorkerTime,
    reported: Bandwidth,
    #[serde(with = "crate::carry::checked")]
    reported_bytes: u64,
    #[serde(with = "crate::carry::checked")]
    repeated: u64,
    repeated_rate: Bitrate,
    #[serde(with = "crate::carry::checked")]
    ticked_at: WorkerTime,
    #[serde(with = "crate::carry::checked")]
    next_tick: Option<WorkerTime>,
    #[serde(with = "crate::carry::checked")]
    paused: Option<WorkerTime>,
    #[serde(with = "crate::carry::checked")]
    resumed: WorkerTime,
    /// When its allocations are paid for.
    #[serde(with = "crate::carry::checked")]
    reallocated: WorkerTime,
}

impl Downlink {
    /// Nothing sent, nothing known.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            estimator: Estimator::new(bounds),
            prober: Prober::default(),
            filler: Filler::default(),
            granted: Bitrate::default(),
            ideal: Bitrate::default(),
            suspended: 0,
            spurious_remb: false,
            bytes: 0,
            since: None,
            allocated_at: WorkerTime::default(),
            allocated_for: None,
            remb: None,
            repair: 0.0,
            repair_at: WorkerTime::default(),
            reported_at: WorkerTime::default(),
            reported: Bandwidth::default(),
            reported_bytes: 0,
            repeated: 0,
            repeated_rate: Bitrate::default(),
            ticked_at: WorkerTime::default(),
            next_tick: None,
            paused: None,
            resumed: WorkerTime::default(),
            reallocated: WorkerTime::default(),
        }
    }

    /// Other bounds apply from now on.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.estimator.set_bounds(bounds);
    }

    /// Records an RTP packet that went out; `numbered` is whether it carries [`Self::next_sequence`].
    #[inline]
    pub fn sent(&mut self, now: WorkerTime, size: usize, numbered: bool) {
        self.bytes += size as u64;
        self.filler.sent(size);
        if numbered {
            self.estimator.note_sent(now, size as u16, self.prober.cluster());
            self.prober.sent(size as u64);
        }
    }

    /// The transport-wide sequence number of the next packet.
    #[inline]
    pub fn next_sequence(&self) -> u16 {
        self.estimator.next_sequence()
    }

    /// Takes transport-wide feedback.
    pub fn feedback(&mut self, now: WorkerTime, feedback: &Feedback<'_>) -> Outcome {
        let outcome = self.estimator.feedback(now, feedback);
        if let Some(rate) = outcome.probed {
            self.prober.result(now, rate);
        }
        outcome
    }

    /// Round-trip time by transport-wide feedback, in microseconds.
    pub fn round_trip(&self) -> Option<u64> {
        self.estimator.round_trip()
    }

    /// Whether the next packet of a probe is to go out.
    pub fn is_probe_due(&self, now: WorkerTime) -> bool {
        self.prober.due(now).is_some() || self.filler.is_due()
    }

    /// There is nothing to probe with.
    pub fn abort_probe(&mut self, now: WorkerTime) {
        self.prober.abort(now, &mut self.estimator);
        self.filler.abort(now);
    }

    /// Takes a receiver's own estimate (REMB); heeded as long as it sends no transport-wide feedback;
    /// `spurious` is whether it negotiated to send that instead.
    pub fn remb(&mut self, now: WorkerTime, bitrate: Bitrate, spurious: bool) {
        self.spurious_remb |= spurious;
        self.remb = Some((now, bitrate.min(MAX_BITRATE)));
    }

    /// The receiver's own estimate, unless it is out of date.
    fn fresh_remb(&self, now: WorkerTime) -> Option<Bitrate> {
        self.remb.filter(|(at, _)| now.since(*at) < REMB_AGE).map(|(_, bitrate)| bitrate)
    }

    /// What may be sent; `None` is no known limit.
    pub fn budget(&self, now: WorkerTime) -> Option<Bitrate> {
        if self.estimator.heard() {
            return Some(self.estimator.budget());
        }
        if self.remb.is_some() {
            return self.fresh_remb(now);
        }
        let since = self.since?;
        (now.since(since) < UNHEARD && self.estimator.any_sent()).then(|| self.estimator.estimate())
    }

    /// What the allocation may divide: repeated packets come first.
    pub fn available(&self, now: WorkerTime) -> Option<Bitrate> {
        self.budget(now).map(|budget| budget.saturating_sub(self.repeated_rate))
    }

    /// Records what the allocation made of `available`.
    pub fn allocated(&mut self, now: WorkerTime, available: Option<Bitrate>, division: &Division) {
        let suspended = division.granted.iter().filter(|granted| granted.is_none()).count();
        self.suspended = u16::try_from(suspended).unwrap_or(u16::MAX);
        let owed = self.reallocated.clamp(now, now + REALLOCATION * REALLOCATION_BURST);
        self.reallocated = owed + REALLOCATION;
        (self.allocated_at, self.allocated_for) = (now, available);
        (self.granted, self.ideal) = (division.bitrate, division.ideal);
    }

    /// Whether the allocation should run again for this receiver.
    pub fn needs_allocation(&self, now: WorkerTime) -> bool {
        if self.reallocated > now + REALLOCATION * REALLOCATION_BURST {
            return false;
        }
        if let Some(until) = self.paused {
            return now >= until;
        }
        let available = self.available(now);
        let elapsed = now.since(self.allocated_at);
        match (self.allocated_for, available) {
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => true,
            // Too much is sent: at once, but for what the allocation knew already.
            (Some(before), Some(available)) if available < self.granted && available < before => {
                elapsed >= SPACING / 4 || available.get() * 10 < before.get() * 9
            }
            (Some(before), Some(available)) => {
                let limited = self.granted < self.ideal || self.granted.get() * 10 > available.get() * 8;
                let rise = available.as_f64() > before.as_f64() * RISE && self.granted < self.ideal;
                (rise && elapsed >= SPACING) || (limited && elapsed >= REVIEW) || elapsed >= LONGEST
            }
        }
    }

    /// Whether so much is lost on a way without a long queue that repetitions are worth having twice.
    pub fn is_lossy(&self) -> bool {
        self.estimator.loss() > LOSSY && !self.is_queued()
    }

    /// Whether so much waits on the way that nothing undecodable should be added to it.
    pub fn is_queued(&self) -> bool {
        self.estimator.heard() && self.estimator.queue_delay() > LONG_QUEUE
    }

    /// Whether video pauses. Where a lower encoding is to begin (`lower`), until there is room in the queue: a full one would
    /// drop the keyframe that everything waits for. Where even the least that was granted is more than the path carries, for as
    /// long as the queue takes to drain.
    pub fn pauses(&mut self, now: WorkerTime, oversent: bool, lower: bool) -> bool {
        if let Some(until) = self.paused {
            if now < until {
                return true;
            }
            (self.paused, self.resumed) = (None, now);
        }
        let due = now.since(self.resumed) >= BETWEEN_PAUSES && self.estimator.heard();
        let queue = self.estimator.queue_delay();
        // What is given up anyway need not wait until jitter is distinguished from a queue.
        if lower && due && queue.max(self.estimator.latest_queue()) > SHRUNK_QUEUE {
            self.paused = Some(now + KEYFRAME_PAUSE);
        } else if oversent && due && queue > PAUSE_QUEUE {
            // What was sent since the feedback waits behind it, too.
            self.paused = Some(now + (queue * 5 / 2).clamp(SHORT_PAUSE, LONGEST_PAUSE));
        }
        self.paused.is_some()
    }

    /// Ends a pause for which there is no reason any more.
    pub fn end_pause(&mut self) {
        self.paused = None;
    }

    /// Whether a packet of this size may be sent again, now that so much of the path is taken by such packets.
    pub fn may_repeat(&mut self, now: WorkerTime, size: usize) -> bool {
        let Some(budget) = self.budget(now) else { return true };
        let queued = self.is_queued();
        let carried = if self.estimator.heard() { self.estimator.estimate() } else { budget };
        let share = if queued { REPAIR_SHARE * REPAIR_QUEUED } else { REPAIR_SHARE };
        let rate = (carried.as_f64() * share).max(REPAIR_LEAST);
        let elapsed = now.since(self.repair_at) as f64 / 1e6;
        self.repair_at = now;
        self.repair = (self.repair + rate * elapsed).min(rate * REPAIR_BURST);
        let bits = size as f64 * 8.0;
        if self.repair < bits {
            return false;
        }
        self.repair -= bits;
        self.repeated += size as u64;
        true
    }

    /// Looks after the estimate.
    pub fn tick(&mut self, now: WorkerTime) {
        self.since.get_or_insert(now);
        let elapsed = now.since(self.ticked_at);
        if elapsed >= TICK {
            let rate = Bitrate::of(self.repeated, elapsed);
            self.repeated_rate = Bitrate::new((self.repeated_rate.get() * 7 + rate.get()) / 8);
            (self.repeated, self.ticked_at) = (0, now);
        }
        self.estimator.check(now);
    }

    /// Finds out whether the path carries more when that is wanted. `reported` is whether the receiver is to report numbered packets;
    /// `spare` whether the worker has the time for many extra ones.
    pub fn probe(&mut self, now: WorkerTime, reported: bool, spare: bool) {
        let wanted = Bitrate::from_f64(self.ideal.as_f64() * WANTED);
        let theirs = self.fresh_remb(now).filter(|_| !self.estimator.heard());
        if theirs.is_some() {
            // It reports none: nothing waits for that.
            self.prober.abort(now, &mut self.estimator);
        } else if reported {
            self.prober.poll(now, &mut self.estimator, wanted);
        }
        let fills = spare && self.paused.is_none();
        self.filler.poll(now, theirs.filter(|_| fills), wanted);
    }

    /// Whether something was sent, and nobody looks after it yet.
    #[inline]
    pub fn is_unattended(&self) -> bool {
        self.next_tick.is_none() && self.bytes > 0
    }

    /// When [`Self::tick`] is due; `None` while nothing is known and nothing was sent.
    pub fn due(&self, now: WorkerTime) -> Option<WorkerTime> {
        let idle = !self.estimator.any_sent() && self.remb.is_none();
        let next = self.next_tick.unwrap_or(now);
        (!idle).then(|| self.paused.map_or(next, |until| next.min(until)))
    }

    /// Sets the next tick, and returns it.
    pub fn schedule(&mut self, now: WorkerTime) -> Option<WorkerTime> {
        let regular = WorkerTime::from_micros((now.as_micros() / TICK + 1) * TICK);
        let probes = self.prober.poll_timeout(now).into_iter().chain(self.filler.poll_timeout(now));
        self.next_tick = Some(probes.fold(regular, WorkerTime::min));
        self.due(now)
    }

    /// What to report to the control plane: at most once a second, and only what has changed.
    pub fn report(&mut self, now: WorkerTime, round_trip: Option<u64>) -> Option<Bandwidth> {
        let elapsed = now.since(self.reported_at);
        if elapsed < REPORT {
            return None;
        }
        let bytes = self.bytes - self.reported_bytes;
        (self.reported_at, self.reported_bytes) = (now, self.bytes);
        let round_trip = round_trip.or(self.estimator.round_trip());
        let report = Bandwidth {
            estimate: self.budget(now).map(|_| match (self.estimator.heard(), self.remb) {
                (true, _) => self.estimator.estimate(),
                (false, remb) => remb.map_or(Bitrate::default(), |(_, bitrate)| bitrate),
            }),
            target: self.granted,
            ideal: self.ideal,
            sent: Bitrate::of(bytes, elapsed),
            rtt: round_trip.map(Duration::from_micros),
            lost_per_mille: (self.estimator.loss() * 1000.0) as u16,
            suspended: self.suspended,
            spurious_remb: self.spurious_remb,
        };
        (report != self.reported).then(|| {
            self.reported = report;
            report
        })
    }
}
