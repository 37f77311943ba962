//! Additive increase, multiplicative decrease over what the delay says (draft-ietf-rmcat-gcc-02 section 5.5), and the two
//! rules of a bridge that cannot thin out a stream at will: no increase on a queue, and room for a queue to drain.

use serde::{Deserialize, Serialize};

use super::trendline::Usage;
use crate::clock::WorkerTime;
use crate::media::Bitrate;

const BACK_OFF: f64 = 0.85;
/// Growth per second while the path's capacity is not known.
const GROWTH: f64 = 1.08;
/// Near a known capacity: a packet per response time.
const PACKET_BITS: f64 = 9_600.0;
const LEAST_STEP: f64 = 4_000.0;
/// A queue that stops the increase, and one that is overuse although it does not grow; microseconds.
const HOLD: u64 = 20_000;
const STANDING: u64 = 50_000;
/// A gradient without at least this much of a queue is none to act upon; with little of it, only when it lasts.
const NOTICEABLE: u64 = 15_000;
const LASTING: u64 = 32_000;
const OBVIOUS: u64 = 70_000;
/// A queue that got this much shorter since the last feedback is being taken care of already.
const SHRINKS: u64 = 3_000;
/// A queue this long that grows this fast from one feedback to the next is a collapse: the gradient's filter is too slow.
const SURGE: u64 = 100_000;
const SURGE_STEP: u64 = 20_000;
/// What is sent at most while a short queue drains, as a share of the capacity.
const RELIEF: f64 = 0.97;
/// Packets of a stream below its estimate do not cause queues: such overuse is somebody else's.
const QUIET: f64 = 0.6;
/// Decreases over a standing queue that does not shrink before it is believed to be the path's.
const STUBBORN: u8 = 4;
/// A decrease to less than this share gives up the rate that was sent at, and with it what that rate lost.
const CUT: f64 = 0.8;
/// Above this share of the known capacity, growth is additive; a rate beyond `OUTGROWN` of it refutes it.
const NEAR: f64 = 0.95;
const OUTGROWN: f64 = 1.15;
/// For this long, the estimate stays within this share of it.
const CAPACITY_FRESH: u64 = 10_000_000;
const BEYOND: f64 = 1.03;
/// How far the estimate grows beyond what arrives: a step from one temporal layer to the next is up to two thirds.
const UNUSED: f64 = 1.9;
/// A capacity is forgotten after this long.
const CAPACITY_AGE: u64 = 30_000_000;

/// What the rate control goes by at one feedback.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// When the feedback came.
    pub now: WorkerTime,
    /// What the delay gradient says.
    pub usage: Usage,
    /// Microseconds that packets wait at present.
    pub queue: u64,
    /// The same by the last feedback alone.
    pub latest_queue: u64,
    /// The same over a longer time than `queue`.
    pub lasting_queue: u64,
    /// Losses limit what is sent below the target.
    pub limited: bool,
    /// Bits per second that arrived in the last 150 ms.
    pub acked_short: Option<f64>,
    /// The same in the last half second.
    pub acked: Option<f64>,
    /// Bits per second at which what arrived in the last half second had been sent.
    pub sent: Option<f64>,
    /// Round-trip time, microseconds.
    pub round_trip: u64,
}

/// The delay-based estimate.
#[derive(Debug, Serialize, Deserialize)]
pub struct RateControl {
    #[serde(with = "crate::carry::checked")]
    target: f64,
    /// The configuration's, also of whoever takes over.
    #[serde(skip)]
    bounds: (f64, f64),
    #[serde(with = "crate::carry::checked")]
    last: Option<WorkerTime>,
    #[serde(with = "crate::carry::checked")]
    decreased: Option<WorkerTime>,
    #[serde(with = "crate::carry::checked")]
    cut: Option<WorkerTime>,
    #[serde(with = "crate::carry::checked")]
    capacity: Option<(WorkerTime, f64)>,
    holding: bool,
    #[serde(with = "crate::carry::checked")]
    standing_since: Option<WorkerTime>,
    #[serde(with = "crate::carry::checked")]
    queue_at_decrease: u64,
    #[serde(with = "crate::carry::checked")]
    previous_queue: u64,
    stubborn: u8,
}

/// What to do besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing besides.
    Go,
    /// The rate went down.
    Decreased,
    /// The standing queue is not ours: take it for the path's own delay.
    Rebase,
}

impl RateControl {
    /// Starts at a rate, between bounds.
    pub fn new(start: Bitrate, min: Bitrate, max: Bitrate) -> Self {
        let [start, min, max] = [start, min, max].map(Bitrate::as_f64);
        Self {
            target: start.clamp(min, max),
            bounds: (min, max),
            last: None,
            decreased: None,
            cut: None,
            capacity: None,
            holding: false,
            standing_since: None,
            queue_at_decrease: 0,
            previous_queue: 0,
            stubborn: 0,
        }
    }

    /// Other bounds apply from now on.
    pub fn set_bounds(&mut self, min: Bitrate, max: Bitrate) {
        self.bounds = (min.as_f64(), max.as_f64().max(min.as_f64()));
        self.target = self.target.clamp(self.bounds.0, self.bounds.1);
    }

    /// The estimate, bits per second.
    pub fn target(&self) -> f64 {
        self.target
    }

    /// When it went down last.
    pub fn decreased(&self) -> Option<WorkerTime> {
        self.decreased
    }

    /// When a queue made it go down by much: what was sent before that was too much.
    pub fn cut(&self) -> Option<WorkerTime> {
        self.cut
    }

    /// The path was seen to carry this much.
    pub fn raise(&mut self, rate: f64) {
        if rate > self.target {
            self.target = rate.clamp(self.bounds.0, self.bounds.1);
            self.capacity = self.capacity.filter(|(_, capacity)| rate < capacity * OUTGROWN);
        }
    }

    /// What the path was seen to carry when it was full, bits per second.
    pub fn capacity(&self) -> Option<f64> {
        self.capacity.map(|(_, capacity)| capacity)
    }

    /// Lowers the estimate for want of feedback.
    pub fn scale(&mut self, now: WorkerTime, factor: f64) {
        self.target = (self.target * factor).clamp(self.bounds.0, self.bounds.1);
        self.decreased = Some(now);
    }

    /// Takes one feedback.
    pub fn update(&mut self, input: Input) -> Verdict {
        let Input { now, usage, queue, .. } = input;
        let elapsed = self.last.map_or(0, |last| now.since(last)).min(1_000_000);
        self.last = Some(now);
        let standing = queue > STANDING;
        let since = if standing { Some(*self.standing_since.get_or_insert(now)) } else { None };
        self.standing_since = since;
        // A queue that is there since before the last decrease gets the time to drain.
        let response = input.round_trip.clamp(50_000, 500_000);
        let patience = response + 2 * queue.min(1_000_000);
        let waited = |at: WorkerTime, time: u64| now.since(at) >= time;
        let still_standing = since.is_some_and(|at| waited(at, 200_000))
            && self.decreased.is_none_or(|at| waited(at, patience + 200_000));
        let quiet = input.acked.is_some_and(|acked| acked < self.target * QUIET) && !standing;
        let previous = std::mem::replace(&mut self.previous_queue, input.latest_queue);
        let surge = input.latest_queue > SURGE.max(previous + SURGE_STEP);
        let shrinks = input.latest_queue + SHRINKS < previous;
        // When jitter begins, delays grow from one picture to the next as they do over a queue, but not those of all packets.
        let real = input.latest_queue > NOTICEABLE && (input.lasting_queue > LASTING || input.latest_queue > OBVIOUS);
        let over = (usage == Usage::Over && !quiet && !shrinks && real) || surge;
        if over || still_standing {
            if self.decreased.is_some_and(|at| !waited(at, response)) {
                // Too soon after the last one, unless that was far from enough.
                let far = input.acked_short.is_some_and(|acked| acked < self.target * 0.5);
                if !far || self.decreased.is_some_and(|at| !waited(at, 50_000)) {
                    return Verdict::Go;
                }
            }
            if !over && queue + 10_000 >= self.queue_at_decrease {
                self.stubborn += 1;
                if self.stubborn >= STUBBORN {
                    (self.stubborn, self.standing_since) = (0, None);
                    return Verdict::Rebase;
                }
            } else {
                self.stubborn = 0;
            }
            self.queue_at_decrease = queue;
            let little = |rate: Option<f64>| rate.is_some_and(|rate| rate < self.target * QUIET);
            if !surge && little(input.sent) && little(input.acked) {
                // What waits is from before: so little is sent that what arrives of it says nothing of the path.
                self.decreased = Some(now);
                return Verdict::Go;
            }
            return self.decrease(input);
        }
        match usage {
            Usage::Under => self.holding = true,
            Usage::Over => {}
            Usage::Normal if queue > HOLD => {
                self.holding = true;
                if let Some((_, capacity)) = self.capacity {
                    self.target = self.target.min((capacity * RELIEF).max(self.bounds.0));
                }
            }
            Usage::Normal => {
                self.holding = false;
                if !input.limited {
                    self.increase(input, elapsed);
                }
            }
        }
        Verdict::Go
    }

    fn decrease(&mut self, input: Input) -> Verdict {
        let Some(acked) = input.acked_short.or(input.acked) else {
            self.scale(input.now, 0.5);
            return Verdict::Decreased;
        };
        // While a queue stands, what arrives is what the path carries. The longer window helps against clumps.
        let acked = input.acked.map_or(acked, |long| long.min(acked));
        let known = match self.capacity {
            Some((_, c)) if acked > c * 0.8 && acked < c * 1.2 => 0.7 * c + 0.3 * acked,
            _ => acked,
        };
        self.capacity = Some((input.now, known));
        let next = known * BACK_OFF;
        self.decreased = Some(input.now);
        if next < self.target * CUT {
            self.cut = Some(input.now);
        }
        if next < self.target {
            self.target = next.clamp(self.bounds.0, self.bounds.1);
        }
        Verdict::Decreased
    }

    fn increase(&mut self, input: Input, elapsed: u64) {
        let seconds = elapsed as f64 / 1e6;
        self.capacity =
            self.capacity.filter(|(at, c)| input.now.since(*at) < CAPACITY_AGE && self.target < c * OUTGROWN);
        let next = match self.capacity {
            Some((at, capacity)) if self.target >= capacity * NEAR => {
                let response = (input.round_trip as f64 / 1e6 + 0.1).max(0.1);
                let most = if self.target < capacity { 0.04 } else { 0.005 };
                let step = (PACKET_BITS / response).clamp(LEAST_STEP.min(capacity * most), capacity * most) * seconds;
                // Beyond what it was seen to carry, only when that was a while ago.
                let fresh = input.now.since(at) < CAPACITY_FRESH;
                let most = if fresh { capacity * BEYOND } else { f64::INFINITY };
                (self.target + step).min(most.max(self.target))
            }
            // What it carried a moment ago it carries again.
            Some((_, capacity)) => (self.target * 1.15f64.powf(seconds)).min(capacity * NEAR),
            None => self.target * GROWTH.powf(seconds),
        };
        let limit = input.acked.map_or(self.target, |acked| acked * UNUSED + 10_000.0);
        // What is not used cannot be trusted to grow.
        self.target = next.min(limit.max(self.target)).clamp(self.bounds.0, self.bounds.1);
    }

    /// Whether the estimate waits for a queue to drain.
    pub fn holding(&self) -> bool {
        self.holding
    }
}
