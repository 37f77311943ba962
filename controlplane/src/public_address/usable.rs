//! Which addresses a public one can be: what a server of others says is not believed blindly.

use std::net::IpAddr;

/// Whether others may reach `local` under `public`: one host's address, of the same family. Private ones are: a network may have
/// a NAT inside.
pub fn is_usable(local: IpAddr, public: IpAddr) -> bool {
    let one_host = match public {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            // 0/8, and the reserved 240/4 with the broadcast address.
            first != 0 && first < 240 && !v4.is_multicast() && !v4.is_link_local()
        }
        IpAddr::V6(v6) => {
            !v6.is_unspecified() && !v6.is_multicast() && !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none()
        }
    };
    one_host && local.is_ipv4() == public.is_ipv4() && (local.is_loopback() || !public.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_host_of_the_same_family_alone() {
        for (local, public, usable) in [
            ("10.0.0.1", "198.51.100.7", true),
            ("10.0.0.1", "10.9.9.9", true),
            ("10.0.0.1", "100.64.0.1", true),
            ("10.0.0.1", "0.0.0.0", false),
            ("10.0.0.1", "0.1.2.3", false),
            ("10.0.0.1", "224.0.0.1", false),
            ("10.0.0.1", "239.255.255.255", false),
            ("10.0.0.1", "255.255.255.255", false),
            ("10.0.0.1", "240.0.0.1", false),
            ("10.0.0.1", "169.254.1.1", false),
            ("10.0.0.1", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("10.0.0.1", "2001:db8::7", false),
            ("fd00::1", "2001:db8::7", true),
            ("fd00::1", "198.51.100.7", false),
            ("fd00::1", "::", false),
            ("fd00::1", "::1", false),
            ("fd00::1", "ff02::1", false),
            ("fd00::1", "fe80::1", false),
            ("fd00::1", "::ffff:198.51.100.7", false),
        ] {
            assert_eq!(is_usable(local.parse().unwrap(), public.parse().unwrap()), usable, "{local} {public}");
        }
    }
}
