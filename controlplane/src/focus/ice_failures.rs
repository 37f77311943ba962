//! A bridge whose clients do not reach it: many of its endpoints ask for another session within a short time
//! (docs/protocol/focus.md 7.6).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jid::BareJid;

/// Requests that are remembered of one bridge; older ones are forgotten before their time.
const MAX_REQUESTS: usize = 2_000;

/// When a bridge counts as not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IceFailureSettings {
    /// How long a request counts.
    pub interval: Duration,
    /// Endpoints on the bridge before it is judged at all.
    pub min_endpoints: u64,
    /// Endpoints that asked, in percent of all, from which it counts as not reached.
    pub percent: u64,
    /// How long it counts as such, from the last request that says so.
    pub timeout: Duration,
}

/// The requests for another session of one bridge's endpoints.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct IceFailures {
    #[serde(with = "crate::carried")]
    requests: VecDeque<(Instant, BareJid, String)>,
    #[serde(with = "crate::carried")]
    failing_until: Option<Instant>,
    total: u64,
}

impl IceFailures {
    /// An endpoint asked while the bridge had so many; true when this makes it one that is not reached.
    pub fn asked(
        &mut self,
        now: Instant,
        (room, nick): (&BareJid, &str),
        endpoints: u64,
        settings: Option<&IceFailureSettings>,
    ) -> bool {
        self.total += 1;
        let Some(settings) = settings else { return false };
        let old = |(at, ..): &(Instant, BareJid, String)| now.saturating_duration_since(*at) >= settings.interval;
        while self.requests.front().is_some_and(old) || self.requests.len() >= MAX_REQUESTS {
            self.requests.pop_front();
        }
        // Whoever asks often counts once.
        self.requests.retain(|(_, other, name)| other != room || name != nick);
        self.requests.push_back((now, room.clone(), nick.to_owned()));
        let asked = self.requests.len() as u64;
        if endpoints < settings.min_endpoints || asked.saturating_mul(100) < endpoints.saturating_mul(settings.percent)
        {
            return false;
        }
        let before = self.is_failing(now);
        self.failing_until = Some(now + settings.timeout);
        !before
    }

    /// Whether clients do not reach the bridge.
    pub fn is_failing(&self, now: Instant) -> bool {
        self.failing_until.is_some_and(|until| now < until)
    }

    /// All requests so far.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: IceFailureSettings = IceFailureSettings {
        interval: Duration::from_secs(120),
        min_endpoints: 30,
        percent: 10,
        timeout: Duration::from_secs(600),
    };

    fn ask(failures: &mut IceFailures, now: Instant, nick: &str, endpoints: u64) -> bool {
        let room = "room@conference.meet.test".parse().expect("a room");
        failures.asked(now, (&room, nick), endpoints, Some(&SETTINGS))
    }

    #[test]
    fn a_tenth_of_many_endpoints_within_two_minutes() {
        let now = Instant::now();
        let mut failures = IceFailures::default();
        assert!(!ask(&mut failures, now, "a", 30) && !ask(&mut failures, now, "b", 30));
        assert!(!ask(&mut failures, now, "b", 30), "the same one again");
        assert!(ask(&mut failures, now, "c", 30) && failures.is_failing(now));
        assert!(!ask(&mut failures, now, "d", 30), "said once");
        let later = now + SETTINGS.timeout;
        assert!(failures.is_failing(later - Duration::from_millis(1)) && !failures.is_failing(later));
        assert_eq!(failures.total(), 5);
    }

    #[test]
    fn few_endpoints_old_requests_and_no_settings() {
        let now = Instant::now();
        let mut failures = IceFailures::default();
        for nick in ["a", "b", "c", "d", "e"] {
            assert!(!ask(&mut failures, now, nick, 29), "too few endpoints to judge");
        }
        let mut failures = IceFailures::default();
        assert!(!ask(&mut failures, now, "a", 30) && !ask(&mut failures, now, "b", 30));
        assert!(!ask(&mut failures, now + SETTINGS.interval, "c", 30), "the others are too long ago");
        let room = "room@conference.meet.test".parse().expect("a room");
        let mut off = IceFailures::default();
        for nick in 0..1_000 {
            assert!(!off.asked(now, (&room, &nick.to_string()), 1_000, None));
        }
        assert!(!off.is_failing(now) && off.requests.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let mut failures = IceFailures::default();
        for nick in 0..MAX_REQUESTS * 2 {
            ask(&mut failures, now, &nick.to_string(), 1_000_000);
        }
        assert!(failures.requests.len() <= MAX_REQUESTS);
    }
}
