//! What the bridge says of its own transport: credentials, candidates, URLs (sections 4.1, 4.2, 5.2).

use std::net::IpAddr;

use rand::Rng;

use super::elements::{Candidate, Fingerprint, IceTransport, Setup, WebSocket};

/// The part of the configuration that transports are made of.
#[derive(Debug, Clone)]
pub struct LocalTransport {
    /// Bound addresses, advertised as host candidates.
    pub local_addresses: Vec<IpAddr>,
    /// Addresses of a 1:1 NAT in front of them, advertised as server-reflexive candidates.
    pub public_addresses: Vec<IpAddr>,
    /// The media port.
    pub port: u16,
    /// SHA-256 fingerprint of our certificate, upper case with colons.
    pub fingerprint: String,
    /// Base of web-socket URLs; none are given when empty.
    pub websocket_base_url: String,
    /// First component of their path after `colibri-ws`.
    pub websocket_server_id: String,
}

impl LocalTransport {
    /// The Jingle transport of a new endpoint.
    pub fn describe(&self, ufrag: &str, pwd: &str, conference: &str, endpoint: &str, password: &str) -> IceTransport {
        let url = (!self.websocket_base_url.is_empty()).then(|| {
            let base = self.websocket_base_url.trim_end_matches('/');
            let server = &self.websocket_server_id;
            WebSocket {
                url: format!("{base}/colibri-ws/{server}/{conference}/{}?pwd={password}", path_component(endpoint)),
            }
        });
        IceTransport {
            ufrag: Some(ufrag.to_owned()),
            pwd: Some(pwd.to_owned()),
            ice_generation: None,
            candidates: self.candidates(),
            rtcp_mux: true,
            fingerprints: vec![Fingerprint {
                hash: "sha-256".to_owned(),
                setup: Some(Setup::ActPass),
                value: self.fingerprint.clone(),
            }],
            web_sockets: url.into_iter().collect(),
        }
    }

    /// Host candidates for local addresses, then server-reflexive ones for public addresses of the same family.
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut hosts: Vec<IpAddr> = self.local_addresses.iter().copied().filter(|a| !a.is_unspecified()).collect();
        hosts.sort_by_key(|address| match address {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => 1,
            IpAddr::V6(_) => 0,
            IpAddr::V4(_) => 2,
        });
        let preference = |index: usize| 65_535u32.saturating_sub(u32::try_from(index).unwrap_or(u32::MAX));
        let mut candidates = Vec::new();
        for (index, address) in hosts.iter().enumerate() {
            candidates.push(self.candidate("host", 126, preference(index), candidates.len() + 1, *address, None));
        }
        for public in &self.public_addresses {
            let base = hosts.iter().enumerate().find(|(_, a)| a.is_ipv4() == public.is_ipv4());
            let Some((index, base)) = base else { continue };
            if base == public {
                continue;
            }
            candidates.push(self.candidate(
                "srflx",
                100,
                preference(index),
                candidates.len() + 1,
                *public,
                Some(*base),
            ));
        }
        candidates
    }

    fn candidate(
        &self,
        kind: &str,
        type_preference: u32,
        local_preference: u32,
        foundation: usize,
        address: IpAddr,
        base: Option<IpAddr>,
    ) -> Candidate {
        // RFC 8445 section 5.1.2.1, component 1.
        let priority = (type_preference << 24) + (local_preference << 8) + 255;
        Candidate {
            component: Some(1),
            foundation: Some(foundation.to_string()),
            generation: Some(0),
            id: Some(format!("{:016x}", rand::rng().random::<u64>())),
            ip: address.to_string(),
            network: Some(0),
            port: self.port,
            priority: Some(priority),
            protocol: Some("udp".to_owned()),
            candidate_type: Some(kind.to_owned()),
            rel_addr: base.map(|b| b.to_string()),
            rel_port: base.map(|_| self.port),
            tcptype: None,
        }
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986: endpoint ids are opaque.
fn path_component(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// Random characters of `[a-z0-9]`, for ICE credentials and passwords.
pub(super) fn random_token(length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(addresses: &[&str], public: &[&str]) -> LocalTransport {
        let parse = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect();
        LocalTransport {
            local_addresses: parse(addresses),
            public_addresses: parse(public),
            port: 10_000,
            fingerprint: "AB".to_owned(),
            websocket_base_url: "wss://meet.x/".to_owned(),
            websocket_server_id: "jvb1".to_owned(),
        }
    }

    #[test]
    fn one_address_has_the_reference_priority() {
        let candidates = local(&["127.0.0.1"], &[]).candidates();
        assert_eq!(candidates.len(), 1);
        // As recorded from the reference in fixtures/three-party-vp8.
        assert_eq!(candidates[0].priority, Some(2_130_706_431));
        assert_eq!(candidates[0].candidate_type.as_deref(), Some("host"));
    }

    #[test]
    fn families_and_nat() {
        let candidates = local(&["10.0.0.1", "2001:db8::1"], &["192.0.2.7", "10.0.0.1"]).candidates();
        let seen: Vec<_> = candidates.iter().map(|c| (c.ip.as_str(), c.candidate_type.as_deref().unwrap())).collect();
        assert_eq!(seen, [("2001:db8::1", "host"), ("10.0.0.1", "host"), ("192.0.2.7", "srflx")]);
        assert_eq!(candidates[2].rel_addr.as_deref(), Some("10.0.0.1"));
        assert!(candidates[0].priority > candidates[1].priority && candidates[1].priority > candidates[2].priority);
    }

    #[test]
    fn url_escapes_the_endpoint() {
        let transport = local(&["127.0.0.1"], &[]).describe("u", "p", "c0ffee", "a b/c", "pw");
        assert_eq!(transport.web_sockets[0].url, "wss://meet.x/colibri-ws/jvb1/c0ffee/a%20b%2Fc?pwd=pw");
        assert_eq!(transport.fingerprints[0].setup, Some(Setup::ActPass));
    }
}
