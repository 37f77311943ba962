//! The addresses of the media port as the host loses and gains them while the bridge runs.
//!
//! Sockets are bound once, at the start. An address that leaves the host is no longer offered to new endpoints, and is served
//! again when it returns. An address that comes later is not served. When all have left, and the bridge chose them itself,
//! and the host has others, only a new start helps: the bridge ends, and its supervisor starts it with those.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::host;

/// Time between two looks at the host.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long the host may be without all of them: a lease that is renewed, a cable that is plugged in again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It left the host.
    Lost(IpAddr),
    /// It is there again.
    Back(IpAddr),
    /// It could be served, and is not before the next start.
    Unserved(IpAddr),
}

/// Follows the addresses that the media port is bound to.
#[derive(Debug)]
pub(super) struct Addresses {
    bound: Vec<IpAddr>,
    living: Vec<IpAddr>,
    /// What new endpoints are offered.
    advertised: Vec<IpAddr>,
    /// Addresses that are known not to be served.
    unserved: Vec<IpAddr>,
    looked: Instant,
    /// Since when none is left of those bound, with others to take their place.
    moved: Option<Instant>,
}

impl Addresses {
    /// All of `bound` are there; without any, nothing is ever wrong.
    pub fn new(now: Instant, bound: Vec<IpAddr>) -> Self {
        let advertised = host::resolve(&bound);
        Self { living: bound.clone(), bound, advertised, unserved: Vec::new(), looked: now, moved: None }
    }

    /// Whether it is time to look at the host again.
    pub fn due(&self, now: Instant) -> bool {
        !self.bound.is_empty() && now.saturating_duration_since(self.looked) >= INTERVAL
    }

    /// Takes the addresses that the host has, and those of them that the bridge would choose today (none when it was given
    /// which to use).
    pub fn handle(&mut self, now: Instant, present: &[IpAddr], choice: &[IpAddr]) -> Vec<Change> {
        self.looked = now;
        let mut changes = Vec::new();
        for address in &self.bound {
            let (was, is) = (self.living.contains(address), address.is_unspecified() || present.contains(address));
            match (was, is) {
                (true, false) => changes.push(Change::Lost(*address)),
                (false, true) => changes.push(Change::Back(*address)),
                _ => {}
            }
        }
        self.living.retain(|address| !changes.contains(&Change::Lost(*address)));
        self.living.extend(changes.iter().filter_map(|change| match change {
            Change::Back(address) => Some(*address),
            _ => None,
        }));
        let served = |address: &IpAddr| self.bound.contains(address) || self.bound.iter().any(IpAddr::is_unspecified);
        let unserved: Vec<IpAddr> = choice.iter().copied().filter(|a| !a.is_loopback() && !served(a)).collect();
        changes.extend(unserved.iter().filter(|a| !self.unserved.contains(a)).map(|a| Change::Unserved(*a)));
        // Loopback alone is what the bridge takes where a host has nothing yet.
        let useless = self.living.iter().all(IpAddr::is_loopback) && !choice.iter().any(|a| self.bound.contains(a));
        self.moved = match self.moved {
            _ if !useless || unserved.is_empty() => None,
            None => Some(now),
            since => since,
        };
        self.unserved = unserved;
        self.advertised = host::stand_for(self.living(), present);
        changes
    }

    /// Those of the bound ones that are on the host; all when none is, since one may return.
    pub fn living(&self) -> &[IpAddr] {
        if self.living.is_empty() { &self.bound } else { &self.living }
    }

    /// The same as others see them: what a wildcard stands for in its place.
    pub fn advertised(&self) -> &[IpAddr] {
        &self.advertised
    }

    /// What is wrong, if anything.
    pub fn health(&self) -> Result<(), String> {
        if self.living.is_empty() && !self.bound.is_empty() {
            let list = list(&self.bound);
            return Err(format!("no address of the media port is on this host any more ({list})"));
        }
        Ok(())
    }

    /// Addresses before and now, when only a new start helps.
    pub fn moved(&self, now: Instant) -> Option<(String, String)> {
        let since = self.moved?;
        (now.saturating_duration_since(since) >= PATIENCE).then(|| (list(&self.bound), list(&self.unserved)))
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn one_of_two_leaves_and_returns() {
        let start = Instant::now();
        let (one, two) = (ip("192.0.2.1"), ip("2001:db8::1"));
        let mut addresses = Addresses::new(start, vec![one, two]);
        assert!(!addresses.due(at(start, 1)) && addresses.due(at(start, 2)));
        assert_eq!(addresses.handle(at(start, 2), &[one, two], &[one, two]), []);
        assert_eq!(addresses.handle(at(start, 4), &[two], &[two]), [Change::Lost(one)]);
        assert_eq!((addresses.advertised(), addresses.health()), (&[two][..], Ok(())));
        assert_eq!(addresses.handle(at(start, 6), &[two], &[two]), [], "reported once");
        assert_eq!(addresses.moved(at(start, 600)), None);
        assert_eq!(addresses.handle(at(start, 8), &[one, two], &[one, two]), [Change::Back(one)]);
        assert_eq!(addresses.advertised().len(), 2);
    }

    #[test]
    fn a_new_address_is_not_served_and_is_told_once() {
        let start = Instant::now();
        let (one, new) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let mut addresses = Addresses::new(start, vec![one]);
        assert_eq!(addresses.handle(at(start, 2), &[one, new], &[one, new]), [Change::Unserved(new)]);
        assert_eq!(addresses.handle(at(start, 4), &[one, new], &[one, new]), []);
        assert_eq!((addresses.advertised(), addresses.moved(at(start, 600))), (&[one][..], None));
        // Not for one that was bound to everything: that is served, and advertised.
        let any = ip("0.0.0.0");
        let mut addresses = Addresses::new(start, vec![any]);
        assert_eq!(addresses.handle(at(start, 2), &[one], &[one]), []);
        assert_eq!(addresses.advertised(), [one]);
        assert_eq!(addresses.handle(at(start, 4), &[one, new], &[one, new]), []);
        assert_eq!((addresses.health(), addresses.living()), (Ok(()), &[any][..]));
        assert_eq!(addresses.advertised(), [one, new]);
    }

    #[test]
    fn when_all_have_left_and_others_came_a_new_start_is_asked_for_after_a_while() {
        let start = Instant::now();
        let (one, new) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let mut addresses = Addresses::new(start, vec![one]);
        // Nothing to take its place: it may come back.
        addresses.handle(at(start, 2), &[ip("127.0.0.1")], &[ip("127.0.0.1")]);
        assert!(addresses.health().unwrap_err().contains("192.0.2.1"));
        assert_eq!((addresses.advertised(), addresses.moved(at(start, 600))), (&[one][..], None));
        addresses.handle(at(start, 10), &[new], &[new]);
        assert_eq!(addresses.moved(at(start, 19)), None);
        assert_eq!(addresses.moved(at(start, 20)), Some(("192.0.2.1".to_owned(), "192.0.2.2".to_owned())));
        // Back in time.
        addresses.handle(at(start, 21), &[one, new], &[one, new]);
        assert_eq!((addresses.moved(at(start, 600)), addresses.health()), (None, Ok(())));
    }

    #[test]
    fn who_was_told_its_addresses_waits_for_them() {
        let start = Instant::now();
        let mut addresses = Addresses::new(start, vec![ip("192.0.2.1")]);
        addresses.handle(at(start, 2), &[ip("192.0.2.2")], &[]);
        assert!(addresses.health().is_err());
        assert_eq!(addresses.moved(at(start, 600)), None);
    }

    #[test]
    fn who_started_before_the_network_starts_again_with_it() {
        let start = Instant::now();
        let (loopback, new) = (ip("127.0.0.1"), ip("192.0.2.2"));
        let mut addresses = Addresses::new(start, vec![loopback]);
        assert_eq!(addresses.handle(at(start, 2), &[loopback], &[loopback]), []);
        addresses.handle(at(start, 4), &[loopback, new], &[new]);
        assert_eq!((addresses.moved(at(start, 13)), addresses.health()), (None, Ok(())));
        assert!(addresses.moved(at(start, 14)).is_some());
        // Loopback on purpose.
        let mut addresses = Addresses::new(start, vec![loopback]);
        addresses.handle(at(start, 4), &[loopback, new], &[]);
        assert_eq!(addresses.moved(at(start, 600)), None);
    }

    #[test]
    fn nothing_to_watch_is_never_wrong() {
        let start = Instant::now();
        let mut addresses = Addresses::new(start, Vec::new());
        assert!(!addresses.due(at(start, 600)));
        addresses.handle(at(start, 2), &[], &[ip("192.0.2.1")]);
        assert_eq!(addresses.health(), Ok(()));
    }
}
