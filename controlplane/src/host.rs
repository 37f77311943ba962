//! What this host suggests where nothing is configured.

use std::net::{IpAddr, Ipv4Addr};

/// Which addresses of this host may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressFilter {
    /// Interfaces; none is all.
    pub allowed_interfaces: Vec<String>,
    /// Interfaces that are left out.
    pub blocked_interfaces: Vec<String>,
    /// Addresses that are left out.
    pub blocked_addresses: Vec<IpAddr>,
    /// Whether IPv6 is left out.
    pub no_ipv6: bool,
}

impl AddressFilter {
    fn takes(&self, interface: &str, address: IpAddr) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == interface);
        (self.allowed_interfaces.is_empty() || named(&self.allowed_interfaces))
            && !named(&self.blocked_interfaces)
            && !self.blocked_addresses.contains(&address)
            && !(self.no_ipv6 && address.is_ipv6())
    }
}

/// One look at this host: all its addresses, and those of them that a filter, if any, lets the bridge choose.
pub fn survey(filter: Option<&AddressFilter>) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let chosen = filter.map(|filter| choose(&interfaces, filter)).unwrap_or_default();
    (interfaces.iter().map(|interface| interface.ip()).collect(), chosen)
}

/// Addresses that others can reach; loopback when there is nothing else.
pub fn addresses(filter: &AddressFilter) -> Vec<IpAddr> {
    survey(Some(filter)).1
}

fn choose(interfaces: &[if_addrs::Interface], filter: &AddressFilter) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    let taken = interfaces.iter().filter(|interface| filter.takes(&interface.name, interface.ip()));
    for address in taken.map(|interface| interface.ip()).filter(|address| is_reachable(*address)) {
        // One address may be on several interfaces.
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { vec![IpAddr::V4(Ipv4Addr::LOCALHOST)] } else { addresses }
}

/// Local addresses as others see them: a wildcard stands for those of its family in `present` that others can reach.
pub fn stand_for(bound: &[IpAddr], present: &[IpAddr]) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in bound {
        let of_wildcard = |other: &&IpAddr| other.is_ipv4() == address.is_ipv4() && is_reachable(**other);
        let meant: Vec<IpAddr> = match address.is_unspecified() {
            true => present.iter().filter(of_wildcard).copied().collect(),
            false => vec![*address],
        };
        for address in meant {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    addresses
}

/// The same on this host as it is now.
pub fn resolve(bound: &[IpAddr]) -> Vec<IpAddr> {
    if bound.iter().any(IpAddr::is_unspecified) { stand_for(bound, &survey(None).0) } else { bound.to_vec() }
}

fn is_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    }
}

/// Media threads: one per core of this list; without a list all cores but one, which the control plane gets.
pub(super) fn workers(cores: &str) -> usize {
    match cores.split(',').filter(|core| !core.trim().is_empty()).count() {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1)),
        listed => listed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_link_local_are_not_advertised() {
        for (address, reachable) in [
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("::1", false),
            ("fe80::1", false),
            ("192.0.2.1", true),
            ("10.0.0.1", true),
            ("2001:db8::1", true),
        ] {
            assert_eq!(is_reachable(address.parse().expect("an address")), reachable, "{address}");
        }
        assert!(!addresses(&AddressFilter::default()).is_empty());
    }

    #[test]
    fn interfaces_and_addresses_are_filtered() {
        let filter = AddressFilter {
            allowed_interfaces: vec!["eth0".to_owned(), "eth1".to_owned()],
            blocked_interfaces: vec!["eth1".to_owned()],
            blocked_addresses: vec!["192.0.2.9".parse().expect("an address")],
            no_ipv6: true,
        };
        let takes = |interface: &str, address: &str| filter.takes(interface, address.parse().expect("an address"));
        assert!(takes("eth0", "192.0.2.1") && !takes("eth1", "192.0.2.1") && !takes("docker0", "192.0.2.1"));
        assert!(!takes("eth0", "192.0.2.9") && !takes("eth0", "2001:db8::1"));
        assert!(AddressFilter::default().takes("any", "2001:db8::1".parse().expect("an address")));
    }

    #[test]
    fn a_wildcard_is_what_the_host_has_of_its_family() {
        let ips =
            |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|text| text.parse().expect("an address")).collect() };
        let present = ips(&["127.0.0.1", "10.0.0.1", "10.0.0.2", "::1", "fe80::1", "2001:db8::1"]);
        for (bound, meant) in [
            (&["0.0.0.0"][..], &["10.0.0.1", "10.0.0.2"][..]),
            (&["::"], &["2001:db8::1"]),
            (&["10.0.0.2", "0.0.0.0", "::"], &["10.0.0.2", "10.0.0.1", "2001:db8::1"]),
            (&["127.0.0.1"], &["127.0.0.1"]),
            (&[], &[]),
        ] {
            assert_eq!(stand_for(&ips(bound), &present), ips(meant), "{bound:?}");
        }
        assert_eq!(stand_for(&ips(&["0.0.0.0"]), &ips(&["127.0.0.1"])), ips(&[]));
    }

    #[test]
    fn listed_cores_decide() {
        assert_eq!((workers("2,3"), workers("7")), (2, 1));
        assert!(workers("") >= 1);
    }
}
