//! Extra packets for a receiver that estimates its path by what arrives (REMB, draft-alvestrand-rmcat-remb). Its estimate stays within
//! about one and a half times of that: one who is sent less than it allows might wait for the next layer for ever. While more is
//! wanted, what is sent is filled up to the estimate; where that does not raise it, with pauses.

use crate::clock::WorkerTime;
use crate::media::Bitrate;

/// Extra packets go out at this distance, in microseconds: in bursts they would look like a queue.
const STEP: u64 = 20_000;
/// An estimate that did not rise by this share within this time, or fell by that one, says that there is no room.
const RISE: f64 = 1.05;
const PATIENCE: u64 = 3_000_000;
const FALL: f64 = 0.95;
/// The first pause then, and the longest.
const PAUSE: u64 = 2_000_000;
const LONGEST_PAUSE: u64 = 30_000_000;
/// An extra packet goes out when so many bytes are missing; what a burst of media was ahead is made good within this time.
const MISSING: i64 = 600;
const AHEAD: u64 = 500_000;

/// One time of filling up.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// The highest estimate in it, and when that came.
    best: Bitrate,
    risen: WorkerTime,
    /// Bytes that the estimate allowed and nothing was sent of; below 0, those that were sent beyond it.
    missing: i64,
    counted: WorkerTime,
}

/// Decides on extra packets for one receiver.
#[derive(Debug, Default, Clone, Copy)]
pub struct Filler {
    run: Option<Run>,
    /// The next one begins then at the earliest; how long the last pause was, and the estimate that it was for.
    next: WorkerTime,
    pause: u64,
    ceiling: Bitrate,
}

impl Filler {
    /// Begins, goes on or ends. `estimate` is the receiver's, unless it is out of date or not to be relied on; `wanted` what the receiver
    /// would be sent if its path carried it.
    pub fn poll(&mut self, now: WorkerTime, estimate: Option<Bitrate>, wanted: Bitrate) {
        let Some(estimate) = estimate.filter(|estimate| *estimate < wanted) else {
            // Nothing to find out.
            (self.run, self.pause) = (None, 0);
            return;
        };
        let Some(run) = &mut self.run else {
            if now >= self.next {
                self.run = Some(Run { best: estimate, risen: now, missing: 0, counted: now });
            }
            return;
        };
        if estimate.as_f64() >= run.best.as_f64() * RISE {
            (run.best, run.risen) = (estimate, now);
            if estimate.as_f64() > self.ceiling.as_f64() * RISE {
                self.pause = 0;
            }
        } else if estimate.as_f64() < run.best.as_f64() * FALL || now.since(run.risen) >= PATIENCE {
            self.back_off(now);
            return;
        }
        let bytes = |micros: u64| i64::try_from(estimate.bytes_in(micros)).unwrap_or(i64::MAX);
        let allowed = bytes(now.since(run.counted));
        run.missing = run.missing.saturating_add(allowed).clamp(-bytes(AHEAD), bytes(2 * STEP).max(MISSING));
        run.counted = now;
    }

    fn back_off(&mut self, now: WorkerTime) {
        self.ceiling = self.run.take().map_or(self.ceiling, |run| run.best);
        self.pause = (self.pause * 2).clamp(PAUSE, LONGEST_PAUSE);
        self.next = now + self.pause;
    }

    /// A packet went to the receiver, whatever it was for.
    #[inline]
    pub fn sent(&mut self, size: usize) {
        if let Some(run) = &mut self.run {
            run.missing = run.missing.saturating_sub(i64::try_from(size).unwrap_or(i64::MAX));
        }
    }

    /// Whether an extra packet is to go out; then call [`Self::sent`], and this again.
    pub fn is_due(&self) -> bool {
        self.run.is_some_and(|run| run.missing >= MISSING)
    }

    /// When [`Self::poll`] wants to be called again, beyond regular times.
    pub fn poll_timeout(&self, now: WorkerTime) -> Option<WorkerTime> {
        self.run.map(|_| now + STEP)
    }

    /// There is nothing to fill up with.
    pub fn abort(&mut self, now: WorkerTime) {
        if self.run.is_some() {
            self.back_off(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A receiver as libwebrtc's: the estimate rises by 8 % a second, up to what the path carries, and to one and a half times what
    /// arrives.
    struct Receiver {
        filler: Filler,
        now: WorkerTime,
        estimate: f64,
        /// Bits per second.
        carries: f64,
        media: f64,
        wanted: f64,
        /// Bytes.
        extra: u64,
        longest_burst: u64,
    }

    impl Receiver {
        fn new(estimate: f64, carries: f64) -> Self {
            let filler = Filler::default();
            Self {
                filler,
                now: WorkerTime::default(),
                estimate,
                carries,
                media: 0.6 * estimate,
                wanted: 1e6,
                extra: 0,
                longest_burst: 0,
            }
        }

        /// Extra bits per second in this time, at steps of 10 ms.
        fn run(&mut self, seconds: u64) -> f64 {
            let mut extra = 0;
            for _ in 0..seconds {
                let mut arrived = 0;
                for _ in 0..100 {
                    self.now = self.now + 10_000;
                    let media = (self.media / 800.0) as usize;
                    self.filler.sent(media);
                    self.filler.poll(self.now, Some(Bitrate::from_f64(self.estimate)), Bitrate::from_f64(self.wanted));
                    let mut burst = 0;
                    while self.filler.is_due() {
                        self.filler.sent(700);
                        burst += 700;
                    }
                    arrived += media as u64 + burst;
                    extra += burst;
                    self.longest_burst = self.longest_burst.max(burst);
                }
                let arrived = arrived as f64 * 8.0;
                let risen = (self.estimate * 1.08).min(1.5 * arrived).min(self.carries);
                self.estimate = risen.max(self.estimate.min(self.carries));
            }
            self.extra += extra;
            extra as f64 * 8.0 / seconds as f64
        }
    }

    #[test]
    fn an_estimate_that_media_alone_would_not_raise_rises() {
        let mut receiver = Receiver::new(190e3, 5e6);
        receiver.media = 125e3;
        let extra = receiver.run(10);
        assert!(receiver.estimate > 380e3, "{}", receiver.estimate);
        assert!((60e3..260e3).contains(&extra), "up to the estimate, no more: {extra}");
        assert!(receiver.longest_burst <= 1_400, "{}", receiver.longest_burst);
        // Enough: nothing more goes out.
        receiver.wanted = 300e3;
        assert_eq!(receiver.run(5), 0.0);
    }

    #[test]
    fn a_full_path_is_tried_less_and_less_often() {
        let mut receiver = Receiver::new(300e3, 300e3);
        let first = receiver.run(10);
        let shares: Vec<f64> = (0..6).map(|_| receiver.run(30)).collect();
        assert!(first > 0.0 && shares[5] < first / 4.0, "{first}: {shares:?}");
        assert!(shares.iter().all(|share| *share > 0.0), "never given up: {shares:?}");
        // Room again: it is found, and after that at once.
        receiver.carries = 5e6;
        receiver.run(60);
        assert!(receiver.estimate > 600e3, "{}", receiver.estimate);
    }

    #[test]
    fn media_counts_and_a_keyframe_is_made_good() {
        let mut filler = Filler::default();
        let (estimate, wanted) = (Some(Bitrate::new(400_000)), Bitrate::new(900_000));
        let mut now = WorkerTime::default();
        filler.poll(now, estimate, wanted);
        // 25 kB at once are half a second.
        filler.sent(25_000);
        let mut waited = 0;
        while !filler.is_due() {
            (now, waited) = (now + STEP, waited + STEP);
            filler.poll(now, estimate, wanted);
        }
        assert!((400_000..600_000).contains(&waited), "{waited}");
        // Time in which nobody asked is not made good.
        filler.poll(now + 1_000_000, estimate, wanted);
        filler.sent(2_000);
        assert!(!filler.is_due());
    }

    #[test]
    fn what_falls_or_is_unknown_is_left_alone() {
        let wanted = Bitrate::new(900_000);
        let mut filler = Filler::default();
        let at = |millis: u64| WorkerTime::default() + millis * 1_000;
        for (millis, estimate) in [(0, 400_000), (20, 400_000), (40, 370_000)] {
            filler.poll(at(millis), Some(Bitrate::new(estimate)), wanted);
        }
        assert!(filler.poll_timeout(at(40)).is_none() && !filler.is_due());
        filler.poll(at(1_000), Some(Bitrate::new(370_000)), wanted);
        assert!(filler.poll_timeout(at(1_000)).is_none(), "a pause of two seconds");
        filler.poll(at(2_100), Some(Bitrate::new(370_000)), wanted);
        assert!(filler.poll_timeout(at(2_100)).is_some());
        filler.poll(at(2_120), None, wanted);
        assert!(filler.poll_timeout(at(2_120)).is_none());
        filler.abort(at(2_120));
        filler.poll(at(2_140), Some(Bitrate::new(370_000)), wanted);
        filler.abort(at(2_140));
        filler.poll(at(2_160), Some(Bitrate::new(370_000)), wanted);
        assert!(filler.poll_timeout(at(2_160)).is_none(), "there was nothing to fill up with");
    }
}
