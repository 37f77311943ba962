//! Socket addresses as the kernel writes them, built and read as bytes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for a `sockaddr_in6`, the larger of the two.
pub(super) const NAME_LEN: usize = size_of::<libc::sockaddr_in6>();

/// A `sockaddr_in` or `sockaddr_in6` in its first bytes.
#[derive(Clone, Copy)]
#[repr(C, align(4))]
pub(super) struct Name(pub [u8; NAME_LEN]);

/// Writes `address` and returns how many bytes of `name` count.
pub(super) fn encode(address: SocketAddr, name: &mut Name) -> u32 {
    let bytes = &mut name.0;
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            bytes[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            bytes[4..8].copy_from_slice(&v4.ip().octets());
            bytes[8..16].fill(0);
            size_of::<libc::sockaddr_in>() as u32
        }
        SocketAddr::V6(v6) => {
            bytes[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
            bytes[8..24].copy_from_slice(&v6.ip().octets());
            bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            NAME_LEN as u32
        }
    }
}

/// Reads what the kernel wrote; `None` when it is no IP address. The flow label is left out: it is no part of
/// the identity of a path.
pub(super) fn decode(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(name.get(0..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(name.get(2..4)?.try_into().ok()?);
    match i32::from(family) {
        libc::AF_INET => {
            let octets: [u8; 4] = name.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(octets), port)))
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = name.get(8..24)?.try_into().ok()?;
            let scope = u32::from_ne_bytes(name.get(24..28)?.try_into().ok()?);
            Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(octets), port, 0, scope)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_survive_the_round_trip() {
        let mut name = Name([0xff; NAME_LEN]);
        for (text, len) in [("192.0.2.7:10000", 16), ("[2001:db8::7]:10000", 28), ("[fe80::1%3]:9", 28)] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(encode(address, &mut name), len);
            assert_eq!(decode(&name.0[..len as usize]), Some(address));
            assert_eq!(decode(&name.0[..len as usize - 9]), None, "cut short");
        }
        assert_eq!(decode(&[0; 28]), None);
        assert_eq!(decode(&[]), None);
    }
}
