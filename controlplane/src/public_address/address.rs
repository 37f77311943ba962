//! An address under which a NAT shows this host.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address under which a NAT shows this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PublicAddress {
    /// The local address behind it; without one the first of the same family.
    pub local: Option<IpAddr>,
    /// As others see it.
    pub address: IpAddr,
    /// The media port as others see it, where it differs.
    pub port: Option<u16>,
}

impl FromStr for PublicAddress {
    type Err = String;

    /// `198.51.100.7`, `198.51.100.7#443`, or with the local address `10.0.0.5=198.51.100.7#443`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ip = |text: &str| {
            let address = text.trim().parse::<IpAddr>().map_err(|_| format!("{text:?} is not an IP address"))?;
            // `::ffff:198.51.100.7` is an IPv4 address in disguise.
            Ok::<_, String>(address.to_canonical())
        };
        let (local, public) = match text.split_once('=') {
            Some((local, public)) => (Some(ip(local)?), public),
            None => (None, text),
        };
        let (address, port) = match public.split_once('#') {
            Some((address, port)) => {
                let number = port.trim().parse::<u16>().ok().filter(|port| *port > 0);
                (address, Some(number.ok_or_else(|| format!("{port:?} is not a port"))?))
            }
            None => (public, None),
        };
        let address = ip(address)?;
        if address.is_unspecified() || address.is_multicast() || address == IpAddr::from([255; 4]) {
            return Err(format!("{text:?} is not an address by which others reach this host"));
        }
        if local.is_some_and(|local| local.is_ipv4() != address.is_ipv4()) {
            return Err(format!("{text:?} maps an address of one family to one of the other"));
        }
        Ok(Self { local, address, port })
    }
}

impl fmt::Display for PublicAddress {
    /// As it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(local) = self.local {
            write!(f, "{local}=")?;
        }
        write!(f, "{}", self.address)?;
        self.port.map_or(Ok(()), |port| write!(f, "#{port}"))
    }
}

impl PublicAddress {
    /// Position in `hosts` of the local address that it stands for.
    pub fn base(&self, hosts: &[IpAddr]) -> Option<usize> {
        hosts.iter().position(|host| match self.local {
            Some(local) => *host == local,
            None => host.is_ipv4() == self.address.is_ipv4(),
        })
    }
}

/// What the operator named, then what was found beyond that: a name may have a port of its own.
pub fn merge(configured: &[PublicAddress], found: &[PublicAddress]) -> Vec<PublicAddress> {
    let named = |public: &&PublicAddress| configured.iter().any(|other| other.address == public.address);
    configured.iter().chain(found.iter().filter(|public| !named(public))).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["198.51.100.7", "198.51.100.7#443", "10.0.0.5=198.51.100.7#443", "fd00::1=2001:db8::7#1"] {
            assert_eq!(text.parse::<PublicAddress>().map(|public| public.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_named_stands_for_what_is_found() {
        let of = |texts: &[&str]| -> Vec<PublicAddress> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let found = of(&["10.0.0.1=198.51.100.7", "10.0.0.2=198.51.100.8"]);
        assert_eq!(merge(&[], &found), found);
        let merged = merge(&of(&["198.51.100.7#443"]), &found);
        assert_eq!(merged, of(&["198.51.100.7#443", "10.0.0.2=198.51.100.8"]));
    }

    #[test]
    fn public_addresses_that_make_no_sense() {
        for text in ["", "meet.example.net", "198.51.100.7#0", "198.51.100.7#x", "10.0.0.1=2001:db8::1", "=1.2.3.4"] {
            assert!(text.parse::<PublicAddress>().is_err(), "{text}");
        }
        for text in ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1#1", "10.0.0.1=255.255.255.255"] {
            let error = text.parse::<PublicAddress>().expect_err(text);
            assert!(error.contains("not an address by which others reach"), "{error}");
        }
        let mapped = "::ffff:10.0.0.1=::ffff:198.51.100.7#443".parse::<PublicAddress>();
        assert_eq!(mapped.map(|public| public.to_string()).as_deref(), Ok("10.0.0.1=198.51.100.7#443"));
    }
}
