//! Whether the media port lives: when nothing arrives at all, a datagram to ourselves must.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Quiet time before a probe, and between probes.
const INTERVAL: Duration = Duration::from_secs(2);
/// Probes in a row that may get lost.
const TRIES: u32 = 3;
/// What a probe says: nothing that a worker takes for media.
const PROBE: &[u8] = &[0xff];

/// Watches the number of received datagrams, and asks for probes.
#[derive(Debug)]
pub(super) struct PortProbe {
    /// Of both families, made while there are descriptors to be had.
    senders: [Option<UdpSocket>; 2],
    addresses: Vec<SocketAddr>,
    next: usize,
    received: u64,
    /// When something arrived last, or the last probe was sent.
    since: Instant,
    /// Probes that nothing followed, and where the last went.
    unanswered: u32,
    target: Option<SocketAddr>,
}

impl PortProbe {
    /// Watches these addresses, one after the other; none is never wrong.
    pub fn new(now: Instant, addresses: Vec<SocketAddr>) -> Self {
        let sender = |any: IpAddr| {
            let needed = addresses.iter().any(|address| address.is_ipv4() == any.is_ipv4());
            let socket = needed.then(|| UdpSocket::bind((any, 0)).ok()).flatten()?;
            socket.set_nonblocking(true).ok().map(|()| socket)
        };
        let senders = [sender(Ipv4Addr::UNSPECIFIED.into()), sender(Ipv6Addr::UNSPECIFIED.into())];
        Self { senders, addresses, next: 0, received: 0, since: now, unanswered: 0, target: None }
    }

    /// Takes the number of datagrams received so far, and which of the addresses are on the host; where to send a probe now,
    /// if anywhere.
    pub fn handle(&mut self, now: Instant, received: u64, living: &[IpAddr]) -> Option<SocketAddr> {
        if self.target.is_some_and(|target| !living.contains(&target.ip())) {
            (self.target, self.unanswered) = (None, 0);
        }
        if received != self.received {
            (self.received, self.since, self.unanswered) = (received, now, 0);
            self.target = None;
            return None;
        }
        if now.saturating_duration_since(self.since) < INTERVAL {
            return None;
        }
        self.since = now;
        match self.target {
            // The same again until it is clear whether that address lives.
            Some(_) => self.unanswered += 1,
            None => {
                let probed = || self.addresses.iter().filter(|address| living.contains(&address.ip()));
                self.target = probed().nth(self.next % probed().count().max(1)).copied();
                self.next = self.next.wrapping_add(1);
            }
        }
        self.target
    }

    /// Sends a probe. What cannot be sent is one that got lost.
    pub fn send(&self, target: SocketAddr) {
        let [v4, v6] = &self.senders;
        let sent = match if target.is_ipv4() { v4 } else { v6 } {
            Some(socket) => socket.send_to(PROBE, target),
            None => Err(std::io::ErrorKind::NotConnected.into()),
        };
        if let Err(error) = sent {
            tracing::debug!(%target, %error, "media port not probed");
        }
    }

    /// What is wrong with the port, if anything.
    pub fn health(&self) -> Result<(), String> {
        match self.target {
            Some(address) if self.unanswered >= TRIES => Err(format!(
                "no datagram reaches {address}: the address left this host, its socket is dead, or a firewall drops \
                 what the host sends to itself"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn traffic_needs_no_probes() {
        let start = Instant::now();
        let mut probe = PortProbe::new(start, vec!["192.0.2.1:10000".parse().unwrap()]);
        for second in 0..60 {
            assert_eq!(probe.handle(at(start, second), second + 1, &["192.0.2.1".parse().unwrap()]), None);
        }
        assert_eq!(probe.health(), Ok(()));
    }

    #[test]
    fn probes_go_round_and_what_arrives_is_health() {
        let start = Instant::now();
        let addresses: Vec<SocketAddr> =
            vec!["192.0.2.1:10000".parse().unwrap(), "[2001:db8::1]:10000".parse().unwrap()];
        let living: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
        let mut probe = PortProbe::new(start, addresses.clone());
        let mut probed = Vec::new();
        for second in 0..40 {
            // Every probe arrives.
            probed.extend(probe.handle(at(start, second), probed.len() as u64, &living));
            assert_eq!(probe.health(), Ok(()));
        }
        assert!(probed.len() >= 10 && probed[..4] == [addresses[0], addresses[1], addresses[0], addresses[1]]);
    }

    #[test]
    fn a_dead_port_is_noticed_within_ten_seconds_and_so_is_its_return() {
        let start = Instant::now();
        let address: SocketAddr = "192.0.2.1:10000".parse().unwrap();
        let mut probe = PortProbe::new(start, vec![address]);
        let dead = (0..=10).find(|second| {
            probe.handle(at(start, *second), 0, &[address.ip()]);
            probe.health().is_err()
        });
        assert!(dead.is_some_and(|second| second > 2), "{dead:?}: one lost probe says nothing");
        assert!(probe.health().unwrap_err().contains("192.0.2.1:10000"));
        probe.handle(at(start, 11), 1, &[address.ip()]);
        assert_eq!(probe.health(), Ok(()));
    }

    #[test]
    fn an_address_that_left_the_host_is_not_probed() {
        let start = Instant::now();
        let addresses: Vec<SocketAddr> =
            ["192.0.2.1:10000", "192.0.2.2:10000"].map(|text| text.parse().unwrap()).into();
        let living: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
        let mut probe = PortProbe::new(start, addresses.clone());
        // Nothing arrives at the first one.
        for second in 0..=10 {
            probe.handle(at(start, second), 0, &living);
        }
        assert!(probe.health().unwrap_err().contains("192.0.2.1"));
        assert_eq!(probe.handle(at(start, 11), 0, &living[1..]), None);
        assert_eq!(probe.health(), Ok(()));
        assert_eq!(probe.handle(at(start, 12), 0, &living[1..]), Some(addresses[1]));
        assert_eq!(probe.handle(at(start, 14), 0, &living), Some(addresses[1]), "the one under way goes on");
        assert_eq!(probe.handle(at(start, 16), 0, &[]), None, "none is left");
        assert_eq!(probe.health(), Ok(()));
    }

    #[test]
    fn a_probe_arrives() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let target = socket.local_addr().unwrap();
        PortProbe::new(Instant::now(), vec![target]).send(target);
        let mut buffer = [0; 8];
        assert_eq!(socket.recv(&mut buffer).unwrap(), PROBE.len());
    }
}
