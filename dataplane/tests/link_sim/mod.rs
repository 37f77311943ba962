//! A link in virtual time: rate, propagation delay, a queue with a tail, jitter, loss; and a bridge that sends a stream
//! over it as large as its estimator allows. Feedback is written and read as on the wire.
#![allow(dead_code)]

use ringbridge_dataplane::ids::Ssrc;
use ringbridge_dataplane::media::Bitrate;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ringbridge_dataplane::clock::WorkerTime;
use ringbridge_dataplane::congestion::estimator::{Bounds, Estimator};
use ringbridge_dataplane::congestion::prober::Prober;
use ringbridge_dataplane::rtcp::{Block, Compound, Feedback, TwccRecorder};

/// Numbers that look random and are the same every time.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n.max(1)
    }

    pub fn unit(&mut self) -> f64 {
        self.below(1 << 30) as f64 / (1u64 << 30) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
}

/// Times are microseconds, rates bits per second.
#[derive(Debug, Clone)]
pub struct Link {
    /// From when on, how much; the first starts at 0.
    pub rate: Vec<(u64, f64)>,
    pub delay: u64,
    /// How long a packet may wait before it is dropped instead.
    pub queue: u64,
    /// Each packet is late by up to this much.
    pub jitter: u64,
    /// When that begins.
    pub jitter_from: u64,
    /// Whether packets of different lateness stay in order: they wait for each other.
    pub in_order: bool,
    /// Share of packets that are held back behind later ones.
    pub reordered: f64,
    pub loss: f64,
    /// Everything is lost in between.
    pub outage: Option<(u64, u64)>,
}

impl Link {
    pub fn constant(rate: f64) -> Self {
        Self {
            rate: vec![(0, rate)],
            delay: 20_000,
            queue: 400_000,
            jitter: 0,
            jitter_from: 0,
            in_order: false,
            reordered: 0.0,
            loss: 0.0,
            outage: None,
        }
    }

    pub fn rate_at(&self, now: u64) -> f64 {
        self.rate.iter().rev().find(|(from, _)| *from <= now).map_or(self.rate[0].1, |(_, rate)| *rate)
    }
}

/// What the bridge would send if it could.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    pub wanted: u64,
    pub frame_rate: u64,
    /// A keyframe every so many frames, five times as large.
    pub keyframes: Option<u64>,
    /// So many streams of audio go beside it.
    pub audio: u64,
    /// Rates that it can be had at, rising; the lowest is sent whatever there is. Empty: any rate.
    pub steps: &'static [u64],
    /// Video leaves at this multiple of the estimate at most; `None` sends frames whole.
    pub pace: Option<f64>,
    /// It sends at most this much; what is missing to `wanted` is not there to be sent.
    pub available: u64,
}

impl Demand {
    pub const GREEDY: Self = Self {
        wanted: 20_000_000,
        frame_rate: 30,
        keyframes: None,
        audio: 0,
        steps: &[],
        pace: None,
        available: u64::MAX,
    };
}

/// What could be seen at a time.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub at: u64,
    pub estimate: u64,
    pub budget: u64,
    /// What the first packet of the last frame had to wait, in truth: the queue that was there before it.
    pub queue: u64,
    /// What the estimator believes of it.
    pub believed: u64,
    pub loss: f64,
    pub lost: u64,
    pub sent: u64,
}

pub struct Simulation {
    pub link: Link,
    pub demand: Demand,
    pub random: Random,
    pub now: u64,
    pub estimator: Estimator,
    pub prober: Prober,
    pub probing: bool,
    start: Instant,
    receiver: TwccRecorder,
    /// When the link has sent what is in its queue.
    busy_until: u64,
    /// When the last packet that was not held back arrives.
    horizon: u64,
    arrivals: Vec<(u64, u16, bool)>,
    feedback: VecDeque<(u64, Vec<u8>)>,
    next_frame: u64,
    frames: u64,
    next_poll: u64,
    debt: f64,
    queue: u64,
    pub lost: u64,
    pub sent: u64,
    pub sent_bytes: u64,
    pub decreases: Vec<u64>,
    /// Video that waits to be paced out: size, end of frame, when its frame was made.
    waiting: VecDeque<(u64, bool, u64)>,
    next_release: u64,
    next_audio: u64,
    /// What each audio packet had to wait in the link's queue.
    pub audio_waits: Vec<u64>,
    /// How long each frame took from the bridge to the end of the link.
    pub frame_times: Vec<u64>,
}

/// What lies between the two clocks; feedback knows only the receiver's.
const CLOCK_OFFSET: u64 = 777_000_123;

impl Simulation {
    pub fn new(seed: u64, link: Link, demand: Demand) -> Self {
        Self {
            link,
            demand,
            random: Random::new(seed),
            now: 1_000_000,
            estimator: Estimator::new(Bounds::default()),
            prober: Prober::default(),
            probing: true,
            start: Instant::now(),
            receiver: TwccRecorder::default(),
            busy_until: 0,
            horizon: 0,
            arrivals: Vec::new(),
            feedback: VecDeque::new(),
            next_frame: 1_000_000,
            frames: 0,
            next_poll: 1_000_000,
            debt: 0.0,
            queue: 0,
            lost: 0,
            sent: 0,
            sent_bytes: 0,
            decreases: Vec::new(),
            waiting: VecDeque::new(),
            next_release: u64::MAX,
            next_audio: if demand.audio > 0 { 1_000_000 } else { u64::MAX },
            audio_waits: Vec::new(),
            frame_times: Vec::new(),
        }
    }

    fn instant(&self, micros: u64) -> Instant {
        self.start + Duration::from_micros(micros + CLOCK_OFFSET)
    }

    fn worker_time(&self) -> WorkerTime {
        WorkerTime::from_micros(self.now)
    }

    fn send(&mut self, size: u64, marker: bool) {
        let sequence = self.estimator.next_sequence();
        self.estimator.note_sent(self.worker_time(), size as u16, self.prober.cluster());
        self.prober.sent(size);
        self.sent += 1;
        self.sent_bytes += size;
        let outage = self.link.outage.is_some_and(|(from, to)| (from..to).contains(&self.now));
        let waits = self.busy_until.saturating_sub(self.now);
        if outage || waits > self.link.queue || self.random.unit() < self.link.loss {
            self.lost += 1;
            return;
        }
        // The rate may change while the packet waits.
        let from = self.now + waits;
        self.busy_until = from + (size as f64 * 8e6 / self.link.rate_at(from)) as u64;
        let jitter = if self.now >= self.link.jitter_from { self.link.jitter } else { 0 };
        let mut at = self.busy_until + self.link.delay + self.random.below(jitter + 1);
        if self.link.in_order {
            at = at.max(self.horizon);
        }
        if self.random.unit() < self.link.reordered {
            at += 15_000;
        } else {
            self.horizon = at;
        }
        self.arrivals.push((at, sequence, marker));
    }

    fn frame(&mut self) {
        let budget = self.estimator.budget().get().min(self.demand.available);
        let steps = self.demand.steps;
        let rate = steps.iter().rev().find(|step| **step <= budget).or(steps.first()).copied().unwrap_or(budget) as f64;
        let mut size = rate / 8.0 / self.demand.frame_rate as f64 * self.random.between(0.8, 1.2);
        if self.demand.keyframes.is_some_and(|every| self.frames.is_multiple_of(every)) {
            // The encoder takes it out of the frames that follow.
            self.debt += size * 4.0;
            size *= 5.0;
        } else {
            let paid = (size * 0.3).min(self.debt);
            self.debt -= paid;
            size -= paid;
        }
        self.frames += 1;
        self.queue = self.busy_until.saturating_sub(self.now);
        let packets = ((size / 1_200.0).ceil() as u64).max(1);
        for i in 0..packets {
            let packet = ((size / packets as f64).max(60.0) as u64, i + 1 == packets, self.now);
            self.waiting.push_back(packet);
        }
        self.release();
        self.next_frame += 1_000_000 / self.demand.frame_rate;
    }

    /// Sends what the pacer lets go; without one, everything.
    fn release(&mut self) {
        let step = 5_000;
        let rate = self.demand.pace.map(|factor| self.estimator.estimate().as_f64() * factor);
        let mut budget = rate.map_or(f64::INFINITY, |rate| rate * step as f64 / 8e6);
        if self.next_release != u64::MAX && self.next_release > self.now {
            return;
        }
        while let Some((size, marker, made)) = self.waiting.front().copied() {
            if budget <= 0.0 {
                break;
            }
            budget -= size as f64;
            self.waiting.pop_front();
            self.send(size, marker);
            if marker {
                self.frame_times.push(self.busy_until.saturating_sub(made));
            }
        }
        self.next_release = if self.waiting.is_empty() { u64::MAX } else { self.now + step };
    }

    /// 32 kbit/s of audio for each stream, which is neither numbered nor paced.
    fn audio(&mut self) {
        self.next_audio += 20_000;
        self.audio_waits.push(self.busy_until.saturating_sub(self.now));
        let size = 80.0 * self.demand.audio as f64;
        self.busy_until = self.busy_until.max(self.now) + (size * 8e6 / self.link.rate_at(self.now)) as u64;
    }

    fn poll(&mut self) {
        let now = self.worker_time();
        if self.estimator.check(now) {
            self.decreases.push(self.now);
        }
        if self.probing {
            self.prober.poll(now, &mut self.estimator, Bitrate::new(self.demand.wanted));
            while let Some(size) = self.prober.due(now) {
                self.send(size, false);
            }
        }
        let tick = self.prober.poll_timeout(now).map_or(u64::MAX, |at| at.as_micros().max(self.now + 1_000));
        self.next_poll = tick.min(self.now + 25_000);
    }

    fn receive(&mut self) {
        let Some(i) = (0..self.arrivals.len()).min_by_key(|i| self.arrivals[*i].0) else { return };
        let (at, sequence, marker) = self.arrivals.swap_remove(i);
        let at = self.instant(at);
        self.receiver.record(at, sequence, marker);
        self.report();
    }

    fn report(&mut self) {
        let now = self.instant(self.now);
        let mut out = [0; 1_200];
        while let Some(len) = self.receiver.take_feedback(now, Ssrc::new(1), Ssrc::new(2), &mut out) {
            let at = self.now + self.link.delay;
            self.feedback.push_back((at, out[..len].to_vec()));
        }
    }

    fn take_feedback(&mut self) {
        let Some((_, packet)) = self.feedback.pop_front() else { return };
        let Some(Block::Twcc { body }) = Compound::new(&packet).next() else { panic!("no feedback") };
        let now = self.worker_time();
        let outcome = self.estimator.feedback(now, &Feedback::parse(body).expect("it is whole"));
        if outcome.decreased {
            self.decreases.push(self.now);
        }
        if let Some(rate) = outcome.probed {
            self.prober.result(now, rate);
        }
    }

    /// Lets time pass; returns what could be seen, every 100 ms.
    pub fn run(&mut self, duration: u64) -> Vec<Sample> {
        let end = self.now + duration;
        let mut samples = Vec::new();
        let mut next_sample = self.now + 100_000;
        loop {
            let arrival = self.arrivals.iter().map(|a| a.0).min().unwrap_or(u64::MAX);
            let report = self.receiver.poll_timeout().map_or(u64::MAX, |at| {
                (at.saturating_duration_since(self.start).as_micros() as u64).saturating_sub(CLOCK_OFFSET)
            });
            let feedback = self.feedback.front().map_or(u64::MAX, |f| f.0);
            let video = self.next_frame.min(self.next_release);
            let times = [arrival, report, feedback, video, self.next_audio, self.next_poll, next_sample];
            let next = times.into_iter().min().unwrap_or(end);
            if next >= end {
                self.now = end;
                return samples;
            }
            self.now = self.now.max(next);
            if next == arrival {
                self.receive();
            } else if next == report {
                self.report();
            } else if next == feedback {
                self.take_feedback();
            } else if next == self.next_release {
                self.release();
            } else if next == self.next_frame {
                self.frame();
            } else if next == self.next_audio {
                self.audio();
            } else if next == self.next_poll {
                self.poll();
            } else {
                next_sample += 100_000;
                samples.push(Sample {
                    at: self.now,
                    estimate: self.estimator.estimate().get(),
                    budget: self.estimator.budget().get(),
                    queue: self.queue,
                    believed: self.estimator.queue_delay(),
                    loss: self.estimator.loss(),
                    lost: self.lost,
                    sent: self.sent,
                });
            }
        }
    }
}
