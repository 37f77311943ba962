//! Those who were sent to a visitor node and are not there yet: they count, or a node would be flooded before it shows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::focus::limits::IMPLAUSIBLE;

/// How long at a time these are counted together.
const TOGETHER: Duration = Duration::from_millis(500);

/// How many are on their way to one room.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(in super::super) struct Invited {
    /// How many were sent until when, the oldest first.
    #[serde(with = "crate::carried")]
    sent: VecDeque<(Instant, usize)>,
}

impl Invited {
    /// Whether each entry stands for somebody.
    pub fn is_sound(&self) -> bool {
        self.sent.iter().all(|(_, count)| (1..IMPLAUSIBLE as usize).contains(count))
    }

    /// One more is on its way, for `latency` at most.
    pub fn add(&mut self, now: Instant, latency: Duration) {
        self.forget(now);
        match self.sent.back_mut() {
            Some((until, count)) if now + latency < *until + TOGETHER => *count += 1,
            _ => self.sent.push_back((now + latency, 1)),
        }
    }

    /// One arrived: the one that was sent first.
    pub fn arrived(&mut self, now: Instant) {
        self.forget(now);
        if let Some((_, count)) = self.sent.front_mut() {
            *count -= 1;
            if *count == 0 {
                self.sent.pop_front();
            }
        }
    }

    /// How many are on their way.
    pub fn count(&self, now: Instant) -> usize {
        self.sent.iter().filter(|(until, _)| *until > now).map(|(_, count)| count).sum()
    }

    fn forget(&mut self, now: Instant) {
        while self.sent.front().is_some_and(|(until, _)| *until <= now) {
            self.sent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_count_until_they_arrive_or_do_not() {
        let (now, latency) = (Instant::now(), Duration::from_secs(60));
        let mut invited = Invited::default();
        invited.arrived(now);
        for step in 0..1_000u32 {
            invited.add(now + Duration::from_millis(10) * step, latency);
        }
        assert!(invited.sent.len() <= 21, "they are kept together: {}", invited.sent.len());
        let after = now + Duration::from_secs(10);
        assert_eq!(invited.count(after), 1_000);
        for _ in 0..400 {
            invited.arrived(after);
        }
        assert_eq!(invited.count(after), 600);
        assert_eq!(invited.count(now + Duration::from_secs(71)), 0);
        invited.arrived(now + Duration::from_secs(71));
        assert!(invited.sent.is_empty());
    }
}
