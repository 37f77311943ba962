//! How many connections a door takes, from whom, and how patient it is with them.

use std::net::IpAddr;
use std::time::Duration;

/// Which door it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// The bridge channel's.
    Channel,
    /// That of health, statistics and operators.
    Pages,
}

impl Name {
    /// As metrics show it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Pages => "pages",
        }
    }
}

/// How many connections, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections that are no WebSocket (yet); beyond it the oldest of whoever has most is closed.
    pub guests: usize,
    /// The same from one address, or from one /64 of IPv6.
    pub guests_per_address: usize,
    /// Connections in all; beyond it a new one is closed.
    pub connections: usize,
    /// For a request's head to arrive, also the wait for the next request.
    pub head: Duration,
    /// For a request to be answered once its head is there.
    pub answer: Duration,
    /// Longest that a write waits for a client that does not read.
    pub write: Duration,
    /// Age at which a connection that is no WebSocket is closed after its current answer.
    pub age: Duration,
}

impl Bounds {
    /// Of a door, on a process that may have so many descriptors.
    pub fn new(name: Name, descriptors: usize) -> Self {
        let (guests, guests_per_address, connections) = match name {
            Name::Channel => (512.min(descriptors / 4), 256, descriptors / 2),
            Name::Pages => (64.min(descriptors / 8), 32, 64.min(descriptors / 8)),
        };
        Self {
            guests: guests.max(4),
            guests_per_address,
            connections: connections.max(4),
            head: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            write: Duration::from_secs(10),
            age: Duration::from_secs(300),
        }
    }
}

/// Addresses that count as one: a subscriber of IPv6 has a whole /64.
pub(super) fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_ipv6_are_one() {
        let origin_of = |text: &str| origin(text.parse().expect("an address"));
        assert_eq!(origin_of("2001:db8:1:2::1"), origin_of("2001:db8:1:2:ffff::9"));
        assert_ne!(origin_of("2001:db8:1:2::1"), origin_of("2001:db8:1:3::1"));
        assert_ne!(origin_of("192.0.2.1"), origin_of("192.0.2.2"));
        assert_eq!(origin_of("::ffff:192.0.2.1"), origin_of("192.0.2.1"));
    }

    #[test]
    fn the_pages_keep_descriptors_when_the_channel_is_full() {
        for descriptors in [64, 256, 1024, 65_536, usize::MAX] {
            let [channel, pages] = [Name::Channel, Name::Pages].map(|name| Bounds::new(name, descriptors));
            assert!(channel.connections + pages.connections <= descriptors / 8 * 7, "{descriptors}");
            assert!(channel.guests <= 512 && pages.connections <= 64);
        }
    }
}
