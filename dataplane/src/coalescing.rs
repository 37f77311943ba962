//! When a worker lets datagrams wait for each other: in many small conferences each comes alone, and waking up for it costs
//! more than forwarding it. Like a network card's interrupt coalescing, but only while it pays.

use std::time::{Duration, Instant};

/// How long arrivals are counted before it is decided anew.
const WINDOW: Duration = Duration::from_millis(10);

/// Decides how long a worker pauses between two turns.
#[derive(Debug)]
pub(crate) struct Coalescing {
    /// The longest that a datagram waits for others; zero is off.
    interval: Duration,
    since: Option<Instant>,
    arrived: usize,
    /// At least one other is to be expected while one waits.
    crowded: bool,
}

impl Coalescing {
    /// Turns begin at least `interval` apart while that pays.
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, since: None, arrived: 0, crowded: false }
    }

    /// Records a turn, from when until when it lasted, and how many datagrams it brought; returns how long to pause before the
    /// next one. `pressed` is whether more is waiting already.
    pub(crate) fn turn(&mut self, (start, end): (Instant, Instant), received: usize, pressed: bool) -> Duration {
        if self.interval.is_zero() {
            return Duration::ZERO;
        }
        self.arrived += received;
        let elapsed = end.saturating_duration_since(*self.since.get_or_insert(start));
        if elapsed >= WINDOW {
            let expected = self.arrived as f64 * self.interval.as_secs_f64() / elapsed.as_secs_f64();
            (self.crowded, self.since, self.arrived) = (expected >= 1.0, Some(end), 0);
        }
        if pressed || !self.crowded {
            return Duration::ZERO;
        }
        self.interval.saturating_sub(end.saturating_duration_since(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_micros(100);

    /// Turns that bring one datagram each, `gap` apart and `work` long, for 30 ms; the last pause.
    fn steady(
        coalescing: &mut Coalescing,
        now: &mut Instant,
        gap: Duration,
        work: Duration,
        pressed: bool,
    ) -> Duration {
        let (end, mut pause) = (*now + 3 * WINDOW, Duration::ZERO);
        while *now < end {
            pause = coalescing.turn((*now, *now + work), 1, pressed);
            *now += gap;
        }
        pause
    }

    #[test]
    fn a_turn_waits_only_while_others_are_to_be_expected() {
        let (mut coalescing, mut now) = (Coalescing::new(INTERVAL), Instant::now());
        let micros = Duration::from_micros;
        assert_eq!(steady(&mut coalescing, &mut now, micros(250), micros(10), false), Duration::ZERO, "few");
        assert_eq!(steady(&mut coalescing, &mut now, micros(50), micros(10), false), micros(90), "many");
        assert_eq!(
            steady(&mut coalescing, &mut now, micros(50), micros(10), true),
            Duration::ZERO,
            "more waits already"
        );
        assert_eq!(steady(&mut coalescing, &mut now, micros(150), micros(150), false), Duration::ZERO, "few again");
        let mut coalescing = Coalescing::new(INTERVAL);
        coalescing.turn((now, now + WINDOW), 10_000, false);
        assert_eq!(coalescing.turn((now, now + micros(120)), 5, false), Duration::ZERO, "the turn itself took as long");
    }

    #[test]
    fn an_interval_of_zero_is_off() {
        let (mut coalescing, mut now) = (Coalescing::new(Duration::ZERO), Instant::now());
        let pause = steady(&mut coalescing, &mut now, Duration::from_micros(1), Duration::ZERO, false);
        assert_eq!(pause, Duration::ZERO);
    }
}
