//! What the bridge says of its own transport: credentials, candidates, URLs (sections 4.1, 4.2, 5.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::Rng;
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::io::HandedSocket;

use super::elements::{Candidate, Fingerprint, IceTransport, Setup, WebSocket};
use super::identity::RelayIdentity;
use crate::public_address::PublicAddress;

/// Type of a candidate and its preference (RFC 8445 section 5.1.2.2).
type CandidateType = (&'static str, u32);
const HOST: CandidateType = ("host", 126);
const SERVER_REFLEXIVE: CandidateType = ("srflx", 100);

/// Port of every SCTP association, on both sides.
pub(super) const SCTP_PORT: u16 = 5000;

/// Characters of a WebSocket's password.
pub(super) const PASSWORD: usize = 24;

/// Whether only hosts of the same private network can reach an address (RFC 1918, RFC 4193, and the older fec0::/10).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.segments()[0] & 0xffc0 == 0xfec0,
    }
}

/// The part of the configuration that transports are made of.
#[derive(Debug, Clone)]
pub struct LocalTransport {
    /// Bound addresses, advertised as host candidates.
    pub local_addresses: Vec<IpAddr>,
    /// Addresses of a NAT in front of them, advertised as server-reflexive candidates.
    pub public_addresses: Vec<PublicAddress>,
    /// Whether private addresses are advertised to everybody, and not only to endpoints that say they reach them.
    pub advertise_private: bool,
    /// The media port.
    pub port: u16,
    /// SHA-256 fingerprint of our certificate, upper case with colons.
    pub fingerprint: String,
    /// Base of WebSocket URLs; none are given when empty.
    pub websocket_base_url: String,
    /// Base of WebSocket URLs for other bridges; without one there are no relays over WebSockets.
    pub relay_websocket_base_url: String,
    /// First component of their paths after `colibri-ws` and `colibri-relay-ws`.
    pub websocket_server_id: String,
}

impl LocalTransport {
    /// The Jingle transport of a new endpoint.
    pub fn describe(&self, new: &NewTransport<'_>) -> IceTransport {
        let NewTransport { ufrag, pwd, conference, endpoint, password, private } = *new;
        let base = &self.websocket_base_url;
        let web_socket =
            (!base.is_empty()).then(|| self.web_socket(base, "colibri-ws", (conference, endpoint), password));
        IceTransport {
            ufrag: Some(ufrag.to_owned()),
            pwd: Some(pwd.to_owned()),
            ice_generation: None,
            candidates: self.candidates(private),
            rtcp_mux: true,
            fingerprints: vec![self.own_fingerprint()],
            web_sockets: web_socket.into_iter().collect(),
        }
    }

    /// The Jingle transport of a new relay. Private addresses are given in any case: bridges often reach each other by them
    /// (section 10).
    pub(super) fn describe_relay(&self, new: &NewRelayTransport<'_>) -> IceTransport {
        let NewRelayTransport { local, sockets, who, password, dials } = *new;
        let web_socket = password.map(|password| {
            if dials {
                return WebSocket { url: None, active: true };
            }
            let path = (who.conference_hex.as_str(), who.label.as_str());
            self.web_socket(&self.relay_websocket_base_url, "colibri-relay-ws", path, password)
        });
        let mut candidates = self.candidates(true);
        if !sockets.is_empty() {
            candidates.retain_mut(|candidate| {
                // A port of the outside belongs to the media port; each address has a port of its own.
                let base = candidate.rel_addr.as_ref().unwrap_or(&candidate.ip);
                let bound = sockets.iter().map(HandedSocket::candidate_address).find(|at| at.ip().to_string() == *base);
                let Some(port) = bound.filter(|_| candidate.port == self.port).map(|at| at.port()) else {
                    return false;
                };
                candidate.port = port;
                candidate.rel_port = candidate.rel_port.map(|_| port);
                true
            });
        }
        IceTransport {
            ufrag: Some(local.ufrag.clone()),
            pwd: Some(local.pwd.clone()),
            candidates,
            rtcp_mux: true,
            fingerprints: vec![self.own_fingerprint()],
            web_sockets: web_socket.into_iter().collect(),
            ..IceTransport::default()
        }
    }

    /// Where an endpoint of a conference, or the bridge behind a relay, opens its WebSocket.
    fn web_socket(&self, base: &str, route: &str, (conference, name): (&str, &str), password: &str) -> WebSocket {
        let (base, server, name) = (base.trim_end_matches('/'), &self.websocket_server_id, path_component(name));
        WebSocket::at(format!("{base}/{route}/{server}/{conference}/{name}?pwd={password}"))
    }

    fn own_fingerprint(&self) -> Fingerprint {
        Fingerprint {
            hash: "sha-256".to_owned(),
            // Jicofo writes the role, and for a relay passes on nothing but this.
            setup: Some(Setup::ActPass),
            value: self.fingerprint.clone(),
        }
    }

    /// Host candidates for local addresses, then server-reflexive ones for public addresses of the same family.
    /// `private` says that the endpoint reaches private addresses.
    pub fn candidates(&self, private: bool) -> Vec<Candidate> {
        let mut hosts: Vec<IpAddr> = self.local_addresses.iter().copied().filter(|a| !a.is_unspecified()).collect();
        hosts.sort_by_key(|address| match address {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => 1,
            IpAddr::V6(_) => 0,
            IpAddr::V4(_) => 2,
        });
        let preference = |rank: usize| 65_535u32.saturating_sub(u32::try_from(rank).unwrap_or(u32::MAX));
        let mut candidates = Vec::new();
        let hidden = |address: &IpAddr| !(private || self.advertise_private) && is_private(*address);
        for (index, address) in hosts.iter().enumerate().filter(|(_, address)| !hidden(address)) {
            candidates.push(self.candidate(HOST, preference(index), candidates.len() + 1, *address, None));
        }
        let mapped = self.mapped(&hosts);
        for (at, (index, public, port)) in mapped.iter().enumerate() {
            let Some(base) = hosts.get(*index) else { continue };
            // Unique among those of one local address too (RFC 8445 section 5.1.2).
            let rank = mapped.iter().enumerate().filter(|(other, (base, ..))| (*base, *other) < (*index, at)).count();
            let foundation = candidates.len() + 1;
            let mut candidate = self.candidate(SERVER_REFLEXIVE, preference(rank), foundation, *public, Some(*base));
            candidate.port = *port;
            if hidden(base) {
                // RFC 8839 section 5.1: what stands for an address that is kept back.
                let unspecified: IpAddr =
                    if base.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                candidate.rel_addr = Some(unspecified.to_string());
                candidate.rel_port = Some(9);
            }
            candidates.push(candidate);
        }
        candidates
    }

    /// The public addresses that a local one stands behind, each once: position of that in `hosts`, address, port. One that
    /// is a local address itself needs no second candidate.
    fn mapped(&self, hosts: &[IpAddr]) -> Vec<(usize, IpAddr, u16)> {
        let mut mapped: Vec<(usize, IpAddr, u16)> = Vec::new();
        for public in &self.public_addresses {
            let Some(base) = public.base(hosts) else { continue };
            let (address, port) = (public.address, public.port.unwrap_or(self.port));
            let local = hosts.contains(&address) && port == self.port;
            if !local && !mapped.iter().any(|(_, other, at)| (*other, *at) == (address, port)) {
                mapped.push((base, address, port));
            }
        }
        mapped
    }

    fn candidate(
        &self,
        (kind, type_preference): CandidateType,
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

/// What a transport is described for.
#[derive(Debug, Clone, Copy)]
pub struct NewTransport<'a> {
    /// Our ICE username fragment.
    pub ufrag: &'a str,
    /// Our ICE password.
    pub pwd: &'a str,
    /// Id of the conference in WebSocket URLs.
    pub conference: &'a str,
    /// Name of the endpoint.
    pub endpoint: &'a str,
    /// Password of its WebSocket.
    pub password: &'a str,
    /// Whether it reaches private addresses.
    pub private: bool,
}

/// What the transport of a relay is described for.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewRelayTransport<'a> {
    /// Our ICE credentials.
    pub local: &'a IceCredentials,
    /// The sockets that it has for itself, in place of the media port.
    pub sockets: &'a [HandedSocket],
    /// The relay.
    pub who: &'a RelayIdentity,
    /// Password of our WebSocket, where the two bridges talk over one.
    pub password: Option<&'a str>,
    /// Whether we open the other bridge's instead.
    pub dials: bool,
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
        LocalTransport {
            local_addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            public_addresses: public.iter().map(|a| a.parse().unwrap()).collect(),
            advertise_private: true,
            port: 10_000,
            fingerprint: "AB".to_owned(),
            websocket_base_url: "wss://meet.x/".to_owned(),
            relay_websocket_base_url: "wss://meet.x/".to_owned(),
            websocket_server_id: "jvb1".to_owned(),
        }
    }

    fn shown(candidates: &[Candidate]) -> Vec<String> {
        let related = |c: &Candidate| c.rel_addr.clone().map(|r| format!(" of {r}")).unwrap_or_default();
        let kind = |c: &Candidate| c.candidate_type.clone().unwrap_or_default();
        candidates.iter().map(|c| format!("{} {}#{}{}", kind(c), c.ip, c.port, related(c))).collect()
    }

    #[test]
    fn mappings_have_addresses_and_ports_of_their_own() {
        let public = ["198.51.100.7#443", "10.0.0.2=203.0.113.9", "2001:db8::7", "192.0.2.99=203.0.113.1"];
        let mut transport = local(&["10.0.0.1", "10.0.0.2", "fd00::1"], &public);
        let reflexive = [
            "srflx 198.51.100.7#443 of 10.0.0.1",
            "srflx 203.0.113.9#10000 of 10.0.0.2",
            "srflx 2001:db8::7#10000 of fd00::1",
        ];
        let hosts = ["host fd00::1#10000", "host 10.0.0.1#10000", "host 10.0.0.2#10000"];
        assert_eq!(
            shown(&transport.candidates(false)),
            [hosts, reflexive].concat(),
            "the last has no such local address"
        );
        transport.advertise_private = false;
        let unspecified = |public: &str| if public.contains("::") { "::" } else { "0.0.0.0" };
        let hidden: Vec<String> = reflexive
            .iter()
            .map(|c| c.split(" of ").next().unwrap())
            .map(|c| format!("{c} of {}", unspecified(c)))
            .collect();
        assert_eq!(shown(&transport.candidates(false)), hidden);
        assert_eq!(shown(&transport.candidates(true)).len(), 6, "this endpoint says that it reaches them");
    }

    fn priorities(candidates: &[Candidate]) -> Vec<u32> {
        candidates.iter().map(|c| c.priority.unwrap()).collect()
    }

    /// RFC 8445 section 5.1.2: one priority each, however many public addresses one local address has, or the other way round.
    #[test]
    fn priorities_are_unique() {
        for (hosts, public, reflexive) in [
            // The case of the field: two public addresses of one local address, each family.
            (&["192.0.2.2"][..], &["198.51.100.7", "198.51.100.8"][..], 2),
            (&["fd00::1"], &["2001:db8::7", "2001:db8::8", "fd00::1=2001:db8::9"], 3),
            (&["10.0.0.1", "10.0.0.2"], &["10.0.0.2=198.51.100.7", "198.51.100.8", "10.0.0.2=198.51.100.9#1"], 3),
            // Ports of one address.
            (&["10.0.0.1"], &["198.51.100.7#443", "198.51.100.7", "198.51.100.7#444"], 3),
            // Two local addresses behind one, distinguished by their ports.
            (&["10.0.0.1", "10.0.0.2"], &["10.0.0.1=198.51.100.7#1", "10.0.0.2=198.51.100.7#2"], 2),
            // The same again says nothing new, nor does what is announced already.
            (&["10.0.0.1", "10.0.0.2"], &["198.51.100.7", "10.0.0.1=198.51.100.7", "10.0.0.2=198.51.100.7"], 1),
            (&["10.0.0.1", "203.0.113.1"], &["203.0.113.1", "10.0.0.1=203.0.113.1", "203.0.113.1#443"], 1),
            (&["10.0.0.1", "fd00::1", "fd00::2"], &["198.51.100.7", "2001:db8::7", "fd00::2=2001:db8::8"], 3),
        ] {
            let candidates = local(hosts, public).candidates(false);
            let of_kind = |kind: &str| candidates.iter().filter(|c| c.candidate_type.as_deref() == Some(kind)).count();
            assert_eq!((of_kind("host"), of_kind("srflx")), (hosts.len(), reflexive), "{public:?}");
            let mut unique = priorities(&candidates);
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), candidates.len(), "{hosts:?} {public:?}: {:?}", priorities(&candidates));
        }
        // The better local address counts first, then the order in which they are named.
        let transport = local(&["10.0.0.1", "fd00::1"], &["198.51.100.7", "198.51.100.8", "2001:db8::7"]);
        let priorities = priorities(&transport.candidates(false)[2..]);
        assert!(priorities[2] > priorities[0] && priorities[0] > priorities[1], "{priorities:?}");
        assert_eq!(priorities[2], (100 << 24) + (65_535 << 8) + 255, "the first as if it were the only one");
    }

    #[test]
    fn the_related_address_is_of_the_candidates_family() {
        let public = ["198.51.100.7", "2001:db8::7", "fd00::1=2001:db8::8#443"];
        let mut transport = local(&["10.0.0.1", "fd00::1"], &public);
        for advertise_private in [true, false] {
            transport.advertise_private = advertise_private;
            for candidate in transport.candidates(false).iter().filter(|c| c.rel_addr.is_some()) {
                let related: IpAddr = candidate.rel_addr.as_deref().unwrap().parse().unwrap();
                assert_eq!(related.is_ipv4(), candidate.ip.parse::<IpAddr>().unwrap().is_ipv4(), "{candidate:?}");
                assert_eq!(related.is_unspecified(), !advertise_private, "{candidate:?}");
                assert_eq!(candidate.rel_port, Some(if advertise_private { 10_000 } else { 9 }));
            }
        }
    }

    #[test]
    fn one_address_has_the_reference_priority() {
        let candidates = local(&["127.0.0.1"], &[]).candidates(false);
        assert_eq!(candidates.len(), 1);
        // As recorded from Jitsi Videobridge in fixtures/three-party-vp8.
        assert_eq!(candidates[0].priority, Some(2_130_706_431));
        assert_eq!(candidates[0].candidate_type.as_deref(), Some("host"));
    }

    #[test]
    fn families_and_nat() {
        let candidates = local(&["10.0.0.1", "2001:db8::1"], &["192.0.2.7", "10.0.0.1"]).candidates(false);
        let seen: Vec<_> = candidates.iter().map(|c| (c.ip.as_str(), c.candidate_type.as_deref().unwrap())).collect();
        assert_eq!(seen, [("2001:db8::1", "host"), ("10.0.0.1", "host"), ("192.0.2.7", "srflx")]);
        assert_eq!(candidates[2].rel_addr.as_deref(), Some("10.0.0.1"));
        assert!(candidates[0].priority > candidates[1].priority && candidates[1].priority > candidates[2].priority);
    }

    #[test]
    fn url_escapes_the_endpoint() {
        let transport = local(&["127.0.0.1"], &[]).describe(&NewTransport {
            ufrag: "u",
            pwd: "p",
            conference: "c0ffee",
            endpoint: "a b/c",
            password: "pw",
            private: false,
        });
        let url = "wss://meet.x/colibri-ws/jvb1/c0ffee/a%20b%2Fc?pwd=pw";
        assert_eq!(transport.web_sockets[0].address(), url);
        assert_eq!(transport.fingerprints[0].setup, Some(Setup::ActPass));
    }
}
