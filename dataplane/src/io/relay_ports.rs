//! UDP ports of relays to other bridges that have one of their own (colibri2 `use-unique-port`): two bridges that both used their
//! shared port would be one and the same pair of addresses for every conference.
//!
//! Nobody forwards these ports to the bridge. That is enough: its checks go out, and the other bridge learns from them where
//! they come from, behind whatever NAT (RFC 8445 section 7.3.1.3). What can be offered is the local address as a host candidate.

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::str::FromStr;

use super::socket::bind_alone;
use super::{HandedSocket, IoError, SocketOptions};

/// Ports from the first to the last one, both included; as text `20000-20999`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A range that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a port range: give the first and the last port, 1 to 65535, as in 20000-20999")]
pub struct InvalidRange(String);

impl PortRange {
    /// From the first to the last one; `None` for port 0, or where the last one comes before the first.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first > 0 && first <= last).then_some(Self { first, last })
    }

    /// How many ports.
    fn len(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let port = |text: &str| text.trim().parse().ok();
        let range = text.split_once('-').and_then(|(first, last)| Self::new(port(first)?, port(last)?));
        range.ok_or_else(|| InvalidRange(text.to_owned()))
    }
}

/// Binds the sockets of relays.
#[derive(Debug)]
pub struct RelayPorts {
    addresses: Vec<IpAddr>,
    range: Option<PortRange>,
    options: SocketOptions,
    /// Where the next search begins, as a distance from the first port: those before it are most likely taken.
    next: u32,
}

impl RelayPorts {
    /// Ports at these local addresses, from a range, or such as the kernel chooses.
    pub fn new(addresses: Vec<IpAddr>, range: Option<PortRange>, options: SocketOptions) -> Self {
        Self { addresses, range, options, next: 0 }
    }

    /// Binds the sockets of one relay: one at each address, set up like those of the shared port but shared with nobody. Each has a
    /// port of its own. An error, and none stays bound, when one of them cannot be.
    pub fn bind(&mut self) -> Result<Vec<HandedSocket>, IoError> {
        let addresses = std::mem::take(&mut self.addresses);
        let bound = addresses.iter().map(|&ip| self.bind_one(ip)).collect();
        self.addresses = addresses;
        bound
    }

    fn bind_one(&mut self, ip: IpAddr) -> Result<HandedSocket, IoError> {
        let socket = match self.range {
            None => bind_alone(SocketAddr::new(ip, 0), &self.options)?,
            Some(range) => self.search(ip, range)?,
        };
        let failed = |source| IoError::Socket { address: SocketAddr::new(ip, 0), step: "getsockname", source };
        HandedSocket::new(socket).map_err(failed)
    }

    /// The next port of the range that is free.
    fn search(&mut self, ip: IpAddr, range: PortRange) -> Result<UdpSocket, IoError> {
        for _ in 0..range.len() {
            let port = range.first + self.next as u16;
            self.next = (self.next + 1) % range.len();
            match bind_alone(SocketAddr::new(ip, port), &self.options) {
                Err(IoError::PortTaken(_)) => {}
                bound => return bound,
            }
        }
        Err(IoError::PortsTaken { ip, first: range.first, last: range.last })
    }
}

impl HandedSocket {
    /// What to offer as a host candidate: where it is bound, a wildcard replaced as by [`resolve_wildcard`].
    pub fn candidate_address(&self) -> SocketAddr {
        SocketAddr::new(resolve_wildcard(self.address().ip()), self.address().port())
    }
}

/// In place of a wildcard the address that the default route leaves from (nothing is sent to find out), or loopback where there is no
/// route; any other address as it is.
pub fn resolve_wildcard(ip: IpAddr) -> IpAddr {
    if !ip.is_unspecified() {
        return ip;
    }
    // Documentation addresses (RFC 5737, RFC 3849): connecting a UDP socket only asks the routing table.
    let (far, loopback): (SocketAddr, IpAddr) = match ip {
        IpAddr::V4(_) => (([192, 0, 2, 1], 9).into(), std::net::Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => (([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9).into(), std::net::Ipv6Addr::LOCALHOST.into()),
    };
    let route = UdpSocket::bind((ip, 0)).and_then(|socket| {
        socket.connect(far)?;
        socket.local_addr()
    });
    route.map(|address| address.ip()).ok().filter(|ip| !ip.is_unspecified()).unwrap_or(loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const OPTIONS: SocketOptions = SocketOptions { receive_buffer: 65_536, send_buffer: 65_536, check_port_free: true };

    fn ports(sockets: &[HandedSocket]) -> Vec<u16> {
        sockets.iter().map(|socket| socket.address().port()).collect()
    }

    /// So many ports one after the other that are free now.
    fn free_range(count: u16) -> PortRange {
        let is_free = |port| UdpSocket::bind((V4, port)).is_ok();
        let first = (40_000..60_000).step_by(7).find(|&first| (first..first + count).all(is_free)).unwrap();
        PortRange::new(first, first + count - 1).unwrap()
    }

    #[test]
    fn every_relay_gets_ports_of_its_own() {
        let mut relays = RelayPorts::new(vec![V4, "127.0.0.2".parse().unwrap()], None, OPTIONS);
        let all: Vec<_> = (0..5).map(|_| relays.bind().unwrap()).collect();
        for sockets in &all {
            let ips: Vec<_> = sockets.iter().map(|socket| socket.address().ip().to_string()).collect();
            assert_eq!(ips, ["127.0.0.1", "127.0.0.2"]);
            assert_eq!(sockets[0].candidate_address(), sockets[0].address());
        }
        for local in 0..2 {
            let distinct: std::collections::HashSet<_> = all.iter().map(|sockets| sockets[local].address()).collect();
            assert_eq!(distinct.len(), all.len());
        }
    }

    #[test]
    fn a_range_is_searched_from_where_the_last_search_ended() {
        let range = free_range(3);
        let mut relays = RelayPorts::new(vec![V4], Some(range), OPTIONS);
        let first = range.first;
        let taken = UdpSocket::bind((V4, first + 1)).unwrap();
        let (a, b) = (relays.bind().unwrap(), relays.bind().unwrap());
        assert_eq!((ports(&a), ports(&b)), (vec![first], vec![first + 2]), "past the one that is taken");
        let error = relays.bind().unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, IoError::PortsTaken { .. }), "{text}");
        for part in [first.to_string(), (first + 2).to_string(), V4.to_string(), "widen".to_owned()] {
            assert!(text.contains(&part), "{text}");
        }
        drop((a, taken));
        assert_eq!(ports(&relays.bind().unwrap()).len(), 1, "free again");
    }

    #[test]
    fn none_stays_bound_when_one_cannot_be() {
        let range = free_range(1);
        let mut relays = RelayPorts::new(vec![V4, "192.0.2.1".parse().unwrap()], Some(range), OPTIONS);
        assert!(matches!(relays.bind(), Err(IoError::AddressUnknown(ip)) if ip.to_string() == "192.0.2.1"));
        UdpSocket::bind((V4, range.first)).expect("released");
    }

    #[test]
    fn a_port_is_shared_with_nobody_and_ipv6_stands_alone() {
        let shared = super::super::bind_sockets(&[V4], 0, &OPTIONS).unwrap();
        let port = shared[0].local_addr().unwrap().port();
        let mut relays = RelayPorts::new(vec![V4], PortRange::new(port, port), OPTIONS);
        assert!(matches!(relays.bind(), Err(IoError::PortsTaken { .. })), "even of one who would share");
        let mut both = RelayPorts::new(vec!["::".parse().unwrap()], Some(free_range(1)), OPTIONS);
        if let Ok(v6) = both.bind() {
            assert!(v6[0].candidate_address().is_ipv6() && !v6[0].candidate_address().ip().is_unspecified());
            UdpSocket::bind((V4, v6[0].address().port())).expect("IPv4 is not taken along");
        }
        let mut wildcard = RelayPorts::new(vec!["0.0.0.0".parse().unwrap()], None, OPTIONS);
        assert!(!wildcard.bind().unwrap()[0].candidate_address().ip().is_unspecified());
    }

    #[test]
    fn ranges_are_read_and_wrong_ones_named() {
        assert_eq!("20000-20999".parse(), Ok(PortRange::new(20_000, 20_999).unwrap()));
        assert_eq!(" 1 - 65535 ".parse::<PortRange>().map(PortRange::len), Ok(65_535));
        assert_eq!("7-7".parse::<PortRange>().unwrap().to_string(), "7-7");
        for wrong in ["", "-", "20000", "0-9", "9-8", "1-65536", "a-b", "1-2-3", "-5"] {
            let text = wrong.parse::<PortRange>().unwrap_err().to_string();
            assert!(text.contains(wrong) && text.contains("20000-20999"), "{text}");
        }
    }
}
