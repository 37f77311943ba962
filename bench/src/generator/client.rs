//! One participant: ICE by the crate `is`, DTLS, SRTP. Datagrams and the time in, datagrams out; no I/O.

use std::collections::VecDeque;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Instant;

use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceCreds, Protocol};
use ringbridge_controlplane::transport::{Certificate, DtlsError, DtlsOutput, DtlsSession};
use ringbridge_dataplane::srtp::Sealer;
use ringbridge_dataplane::srtp::SrtpKeys;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

use super::GeneratorError;
use super::sdp::Remote;

/// SRTP of one client. Sealing is ringbridge's own; opening is the crate webrtc-srtp's, so that the check of what a
/// bridge sends is not ringbridge checking itself.
pub struct Srtp {
    /// Seals what the client sends.
    pub seal: Sealer,
    /// Opens what the client receives.
    pub open: Context,
}

impl Srtp {
    /// From the client's point of view: `outbound` seals.
    pub fn new(keys: &SrtpKeys) -> Result<Self, GeneratorError> {
        use ringbridge_dataplane::srtp::SrtpProfile as Ours;
        let profile = match keys.profile {
            Ours::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
            Ours::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            Ours::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let (key, salt) = (keys.profile.key_len(), keys.profile.salt_len());
        let open = Context::new(&keys.inbound.key[..key], &keys.inbound.salt[..salt], profile, None, None)
            .map_err(|error| GeneratorError::Oracle(error.to_string()))?;
        Ok(Self { seal: Sealer::new(&keys.outbound, keys.profile), open })
    }
}

/// One participant.
pub struct Client {
    /// Its own address.
    pub address: SocketAddrV4,
    /// Where the bridge is; known once ICE has chosen.
    pub bridge: Option<SocketAddrV4>,
    /// Present once DTLS is done.
    pub srtp: Option<Srtp>,
    /// Why it can never be connected.
    pub failure: Option<DtlsError>,
    /// Keys and SRTP profile that DTLS negotiated.
    pub keys: Option<SrtpKeys>,
    /// When checks began, and when there were keys.
    pub began: Option<Instant>,
    /// See `began`.
    pub connected: Option<Instant>,
    agent: IceAgent,
    dtls: Option<DtlsSession>,
    remote: Option<Remote>,
    outgoing: VecDeque<(SocketAddrV4, Vec<u8>)>,
    sent: u64,
    came: u64,
}

impl Client {
    /// A client that knows only itself.
    pub fn new(address: SocketAddrV4) -> Self {
        let mut agent = IceAgent::new(IceCreds::new());
        if let Ok(candidate) = Candidate::host(SocketAddr::V4(address), Protocol::Udp) {
            agent.add_local_candidate(candidate);
        }
        Self {
            address,
            bridge: None,
            srtp: None,
            failure: None,
            keys: None,
            began: None,
            connected: None,
            agent,
            dtls: None,
            remote: None,
            outgoing: VecDeque::new(),
            sent: 0,
            came: 0,
        }
    }

    /// Whether it knows the bridge's transport.
    pub fn is_signalled(&self) -> bool {
        self.remote.is_some()
    }

    /// Its ICE credentials: (ufrag, password).
    pub fn credentials(&self) -> (String, String) {
        let credentials = self.agent.local_credentials();
        (credentials.ufrag.clone(), credentials.pass.clone())
    }

    /// Learns the bridge's transport; checks begin.
    pub fn set_remote(&mut self, remote: Remote, controlling: bool) {
        self.agent.set_controlling(controlling || remote.lite);
        self.agent.set_remote_credentials(IceCreds { ufrag: remote.ufrag.clone(), pass: remote.pwd.clone() });
        for candidate in &remote.candidates {
            if let Ok(candidate) = Candidate::host(SocketAddr::V4(*candidate), Protocol::Udp) {
                self.agent.add_remote_candidate(candidate);
            }
        }
        self.remote = Some(remote);
        self.began = Some(Instant::now());
    }

    /// Skips ICE and DTLS: for forwarders that have none (the floor).
    pub fn set_plain(&mut self, bridge: SocketAddrV4, keys: &SrtpKeys) -> Result<(), GeneratorError> {
        self.bridge = Some(bridge);
        self.keys = Some(keys.clone());
        self.srtp = Some(Srtp::new(keys)?);
        Ok(())
    }

    /// Takes a datagram that is not SRTP.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddrV4, datagram: &[u8]) {
        self.came += 1;
        if datagram.first().is_some_and(|first| *first < 4) {
            if let Ok(message) = StunMessage::parse(datagram) {
                let (source, destination) = (SocketAddr::V4(from), SocketAddr::V4(self.address));
                self.agent.handle_packet(now, StunPacket { proto: Protocol::Udp, source, destination, message });
            }
        } else if let Some(dtls) = &mut self.dtls {
            dtls.handle_datagram(now, datagram);
        }
    }

    /// Lets time pass and starts what has become possible.
    pub fn handle_timeout(&mut self, now: Instant, certificate: &Certificate) {
        if self.remote.is_none() {
            return;
        }
        self.agent.handle_timeout(now);
        while self.agent.poll_timeout().is_none() {
            // Checks that came before the credentials did are answered one at a time, and none of its own begun meanwhile (is 0.12).
            self.agent.handle_timeout(now);
        }
        while let Some(transmit) = self.agent.poll_transmit() {
            if let SocketAddr::V4(to) = transmit.destination {
                self.outgoing.push_back((to, transmit.contents.to_vec()));
            }
        }
        while let Some(event) = self.agent.poll_event() {
            if let is::IceAgentEvent::NominatedSend { destination: SocketAddr::V4(to), .. } = event {
                self.bridge = Some(to);
            }
        }
        if let (None, Some(_), Some(remote)) = (&self.dtls, self.bridge, &self.remote) {
            match DtlsSession::new(now, certificate, remote.role, remote.fingerprints.clone()) {
                Ok(session) => self.dtls = Some(session),
                Err(error) => self.failure = Some(error),
            }
        }
        if let Some(dtls) = &mut self.dtls {
            if dtls.poll_timeout().is_some_and(|at| at <= now) {
                dtls.handle_timeout(now);
            }
            while let Some(output) = dtls.poll_output() {
                match output {
                    DtlsOutput::Datagram(datagram) => {
                        self.outgoing.extend(self.bridge.map(|bridge| (bridge, datagram)));
                    }
                    DtlsOutput::Connected(keys) => {
                        self.srtp = Srtp::new(&keys).ok();
                        self.keys = Some(keys);
                        self.connected = Some(Instant::now());
                    }
                    DtlsOutput::ApplicationData(_) => {}
                    DtlsOutput::Failed(error) => self.failure = Some(error),
                }
            }
        }
    }

    /// When [`Client::handle_timeout`] wants to be called; `None` when only datagrams change anything.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.remote.as_ref()?;
        let dtls = self.dtls.as_ref().and_then(DtlsSession::poll_timeout);
        [self.agent.poll_timeout(), dtls].into_iter().flatten().min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddrV4, Vec<u8>)> {
        let next = self.outgoing.pop_front();
        self.sent += u64::from(next.is_some());
        next
    }

    /// Datagrams of ICE and DTLS that it sent, and that came.
    pub fn datagrams(&self) -> (u64, u64) {
        (self.sent, self.came)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringbridge_controlplane::transport::DtlsRole;

    /// Everything that `client` has to send, to the one that it is for.
    fn carry(now: Instant, from: &mut Client, to: &mut Client) -> usize {
        let source = from.address;
        std::iter::from_fn(|| from.poll_transmit())
            .map(|(_, datagram)| to.handle_datagram(now, source, &datagram))
            .count()
    }

    #[test]
    fn checks_that_come_before_the_other_sides_credentials_do_not_stop_ours() {
        (1..=3).for_each(early_checks_do_not_stop_ours);
    }

    fn early_checks_do_not_stop_ours(checks: usize) {
        let certificate = Certificate::generate().unwrap();
        let address = |last| SocketAddrV4::new(std::net::Ipv4Addr::new(127, 0, 0, last), 5000);
        let (mut ours, mut other) = (Client::new(address(1)), Client::new(address(2)));
        let remote = |client: &Client| {
            let (ufrag, pwd) = client.credentials();
            let (candidates, fingerprints, sections) = (vec![client.address], Vec::new(), Vec::new());
            Remote { ufrag, pwd, lite: false, candidates, fingerprints, role: DtlsRole::Client, sections }
        };
        let (of_ours, of_other) = (remote(&ours), remote(&other));
        let mut now = Instant::now();
        other.set_remote(of_ours, false);
        for _ in 0..checks {
            other.handle_timeout(now, &certificate);
            assert_eq!(carry(now, &mut other, &mut ours), 1, "a check");
            now = other.poll_timeout().expect("it checks again");
        }
        ours.set_remote(of_other, true);
        ours.handle_timeout(now, &certificate);
        assert!(ours.poll_timeout().is_some(), "nothing would ever wake it up");
        assert_eq!(carry(now, &mut ours, &mut other), checks + 1, "answers, and a check of its own");
    }
}
