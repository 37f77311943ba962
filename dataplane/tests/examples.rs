//! The examples run, and move packets: against clients with the ICE agent of the crate `is` and the SRTP of `webrtc-srtp`.

#[path = "../examples/two_endpoints.rs"]
#[allow(dead_code)]
mod two_endpoints;
#[path = "../examples/udp_sfu.rs"]
#[allow(dead_code)]
mod udp_sfu;
mod worker_client;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use is::{Candidate, IceAgent, IceCreds, Protocol};
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::srtp::MasterKey;
use udp_sfu::{Sfu, Ticket};
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;
use webrtc_util::marshal::{Marshal, Unmarshal};
use worker_client::Client;

#[test]
fn what_alice_says_bob_hears_under_his_number() {
    let heard = two_endpoints::run().unwrap();
    assert_eq!(heard, [(96, b"Hello Bob".to_vec()), (96, b"can you hear me?".to_vec())]);
}

/// A client with what its ticket says.
struct Participant {
    client: Client,
    ssrc: u32,
    seal: Context,
    open: Context,
    sequence: u16,
    /// SSRC and payload of what came in.
    heard: Vec<(u32, Vec<u8>)>,
}

fn creds(credentials: &IceCredentials) -> IceCreds {
    IceCreds { ufrag: credentials.ufrag.clone(), pass: credentials.pwd.clone() }
}

fn context(key: &MasterKey) -> Context {
    Context::new(&key.key[..16], &key.salt[..12], ProtectionProfile::AeadAes128Gcm, None, None).unwrap()
}

impl Participant {
    fn new(sfu: SocketAddr, ticket: &Ticket) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut agent = IceAgent::new(creds(&ticket.ice[1]));
        agent.set_controlling(false);
        agent.add_local_candidate(Candidate::host(socket.local_addr().unwrap(), Protocol::Udp).unwrap());
        agent.set_remote_credentials(creds(&ticket.ice[0]));
        agent.add_remote_candidate(Candidate::host(sfu, Protocol::Udp).unwrap());
        Self {
            client: Client { endpoint: ticket.endpoint.0, socket, agent, bridge: sfu, inbox: Vec::new() },
            ssrc: ticket.ssrc,
            seal: context(&ticket.keys.inbound),
            open: context(&ticket.keys.outbound),
            sequence: 0,
            heard: Vec::new(),
        }
    }

    fn speak(&mut self) {
        self.sequence += 1;
        let header = rtp::header::Header {
            version: 2,
            payload_type: 111,
            sequence_number: self.sequence,
            timestamp: u32::from(self.sequence) * 960,
            ssrc: self.ssrc,
            ..Default::default()
        };
        let payload = self.ssrc.to_be_bytes().to_vec().into();
        let packet = rtp::packet::Packet { header, payload }.marshal().unwrap();
        self.client.send(&self.seal.encrypt_rtp(&packet).unwrap());
    }

    fn listen(&mut self) {
        self.client.step();
        for datagram in std::mem::take(&mut self.client.inbox) {
            if matches!(datagram[1], 192..=223) {
                continue;
            }
            let mut plain = self.open.decrypt_rtp(&datagram).expect("SRTP opens at the client");
            let packet = rtp::packet::Packet::unmarshal(&mut plain).unwrap();
            self.heard.push((packet.header.ssrc, packet.payload.to_vec()));
        }
    }
}

#[test]
fn the_minimal_sfu_is_short() {
    assert!(include_str!("../examples/udp_sfu.rs").lines().count() < 200);
}

#[test]
fn three_clients_of_the_sfu_hear_each_other() {
    let sfu = Sfu::bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
    let address = sfu.address().unwrap();
    let mut participants: Vec<_> = sfu.tickets.iter().map(|ticket| Participant::new(address, ticket)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let running = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || sfu.run(&stop).map_err(|error| error.to_string())
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    let ssrcs: Vec<u32> = participants.iter().map(|participant| participant.ssrc).collect();
    let hears_all = |participant: &Participant| {
        let others = ssrcs.iter().filter(|ssrc| **ssrc != participant.ssrc);
        others.into_iter().all(|ssrc| participant.heard.contains(&(*ssrc, ssrc.to_be_bytes().to_vec())))
    };
    while !participants.iter().all(hears_all) {
        assert!(Instant::now() < deadline, "{:?}", participants.iter().map(|p| &p.heard).collect::<Vec<_>>());
        for participant in &mut participants {
            participant.speak();
            participant.listen();
        }
    }
    for participant in &participants {
        assert!(participant.heard.iter().all(|(ssrc, _)| *ssrc != participant.ssrc), "nobody hears itself");
    }
    stop.store(true, Ordering::Relaxed);
    let forwarded = running.join().unwrap().unwrap();
    let heard: usize = participants.iter().map(|participant| participant.heard.len()).sum();
    assert!(forwarded >= heard as u64 && heard >= 6, "{forwarded} forwarded, {heard} heard");
}
