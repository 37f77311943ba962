//! Public addresses that are not advertised, since nothing local stands behind them.

use std::fmt;
use std::net::IpAddr;

use super::address::PublicAddress;

/// One that is not advertised; its text names the reason and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unused {
    public: PublicAddress,
    hosts: Vec<IpAddr>,
}

/// Those of `public` that no address of `hosts` stands behind.
pub(super) fn unused(public: &[PublicAddress], hosts: &[IpAddr]) -> Vec<Unused> {
    let without = public.iter().filter(|public| public.base(hosts).is_none());
    without.map(|public| Unused { public: *public, hosts: hosts.to_vec() }).collect()
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { public, hosts } = self;
        let same_family: Vec<_> = hosts.iter().filter(|host| host.is_ipv4() == public.address.is_ipv4()).collect();
        let list = |hosts: &[&IpAddr]| hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let family = if public.address.is_ipv4() { "IPv4" } else { "IPv6" };
        write!(f, "bridge.public-addresses: {public} is not advertised: ")?;
        match (public.local, same_family.is_empty()) {
            (Some(local), false) => {
                let local_addresses = list(&same_family);
                write!(
                    f,
                    "{local} is none of the local addresses ({local_addresses}); \
                     write one of them before the =, or {} alone",
                    PublicAddress { local: None, ..*public }
                )
            }
            _ => {
                let others = list(&hosts.iter().collect::<Vec<_>>());
                write!(
                    f,
                    "the bridge has no local {family} address ({others}); give this host one (and name it in \
                     bridge.listen-addresses, where that is set), or take the public address out"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(public: &[&str], hosts: &[&str]) -> Vec<String> {
        let public: Vec<PublicAddress> = public.iter().map(|text| text.parse().unwrap()).collect();
        let hosts: Vec<IpAddr> = hosts.iter().map(|text| text.parse().unwrap()).collect();
        unused(&public, &hosts).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_value_the_reason_and_the_remedy_are_named() {
        for (public, hosts, parts) in [
            // The case of the field: public-address-unused.
            (
                "10.9.9.9=198.51.100.7",
                &["192.0.2.2"][..],
                &["10.9.9.9=198.51.100.7 is not", "10.9.9.9 is none", "192.0.2.2", "198.51.100.7 alone"][..],
            ),
            ("2001:db8::7", &["192.0.2.2"], &["2001:db8::7 is not", "no local IPv6 address (192.0.2.2)", "take"]),
            ("198.51.100.7", &["2001:db8::1"], &["198.51.100.7 is not", "no local IPv4 address (2001:db8::1)"]),
            (
                "fd00::9=2001:db8::7#443",
                &["fd00::1", "10.0.0.1"],
                &["#443 is not", "(fd00::1)", "2001:db8::7#443 alone"],
            ),
            ("fd00::9=2001:db8::7", &["10.0.0.1"], &["no local IPv6 address (10.0.0.1)"]),
            ("198.51.100.7", &[], &["no local IPv4 address ()"]),
        ] {
            let texts = texts(&[public], hosts);
            assert_eq!(texts.len(), 1, "{public}");
            for part in parts {
                assert!(texts[0].contains(part), "{part} is not in {texts:?}");
            }
        }
    }

    #[test]
    fn those_with_a_local_address_are_not_named() {
        let hosts = ["10.0.0.1", "10.0.0.2", "fd00::1"];
        let public =
            ["198.51.100.7", "198.51.100.8", "10.0.0.2=198.51.100.9#443", "2001:db8::7", "fd00::1=2001:db8::8"];
        assert_eq!(texts(&public, &hosts), Vec::<String>::new());
    }
}
