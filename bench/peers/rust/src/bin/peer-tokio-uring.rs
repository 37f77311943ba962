//! The obvious forwarder on tokio-uring and webrtc-srtp: one socket, one thread; each packet is decrypted once, encrypted
//! for each receiver by its own context, and all its copies are sent at once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringbridge_bench::generator::client::Client;
use ringbridge_bench::generator::media_numbers::Numbers;
use ringbridge_bench::generator::sdp::{self, Local};
use ringbridge_bench::media::Codec;
use ringbridge_bench_peers::{Reply, Request, reply, start};
use ringbridge_controlplane::transport::Certificate;
use ringbridge_dataplane::srtp::{MasterKey, SrtpProfile};
use tokio_uring::net::UdpSocket;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

type Error = Box<dyn std::error::Error>;

struct Participant {
    client: Client,
    encrypt: Option<Context>,
    room: usize,
}

struct Hub {
    address: SocketAddrV4,
    certificate: Certificate,
    participants: HashMap<usize, Participant>,
    /// Who was seen where.
    by_address: HashMap<SocketAddrV4, usize>,
    by_ufrag: HashMap<String, usize>,
    rooms: HashMap<usize, Room>,
}

/// What is published in a room, and who is in it.
#[derive(Default)]
struct Room {
    streams: Vec<(Codec, u32)>,
    members: Vec<usize>,
}

fn context(key: &MasterKey, profile: SrtpProfile) -> Option<Context> {
    let theirs = match profile {
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    Context::new(&key.key[..profile.key_len()], &key.salt[..profile.salt_len()], theirs, None, None).ok()
}

impl Hub {
    fn add(&mut self, id: usize, room: usize) -> &mut Participant {
        let client = Client::new(self.address);
        self.by_ufrag.insert(client.credentials().0, id);
        self.rooms.entry(room).or_default().members.push(id);
        self.participants.entry(id).or_insert(Participant { client, encrypt: None, room })
    }

    fn describe<T>(&self, id: usize, describe: impl FnOnce(&Local<'_>) -> T) -> Option<T> {
        let (ufrag, pwd) = self.participants.get(&id)?.client.credentials();
        let fingerprint = self.certificate.fingerprint();
        Some(describe(&Local { ufrag: &ufrag, pwd: &pwd, address: self.address, fingerprint }))
    }

    fn handle(&mut self, request: Request) -> Result<Reply, (usize, Error)> {
        match request {
            Request::Publish { id, room, sdp } => {
                let remote = sdp::parse(&sdp).map_err(|error| (id, error.into()))?;
                for section in sdp.split("m=").skip(1) {
                    let ssrc = section.split("a=ssrc:").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
                    let codec = if section.starts_with("audio") { Codec::Opus } else { Codec::Vp8 };
                    self.rooms.entry(room).or_default().streams.extend(ssrc.map(|ssrc| (codec, ssrc)));
                }
                self.add(id, room);
                let answer = self.describe(id, |local| sdp::answer(local, &remote)).unwrap_or_default();
                if let Some(participant) = self.participants.get_mut(&id) {
                    participant.client.set_remote(remote, false);
                }
                Ok(Reply::Answer { id, sdp: answer })
            }
            Request::Subscribe { id, room } => {
                self.add(id, room);
                let streams = self.rooms.get(&room).map(|room| &room.streams[..]).unwrap_or_default();
                let offer = self.describe(id, |local| sdp::offer(local, &Numbers::USUAL, streams));
                Ok(Reply::Offer { id, sdp: offer.unwrap_or_default() })
            }
            Request::Answer { id, sdp } => {
                let remote = sdp::parse(&sdp).map_err(|error| (id, error.into()))?;
                if let Some(participant) = self.participants.get_mut(&id) {
                    participant.client.set_remote(remote, true);
                }
                Ok(Reply::Accepted { id })
            }
        }
    }

    /// Takes a datagram; what is to be sent is added to `out`.
    fn receive(&mut self, from: SocketAddrV4, datagram: &[u8], out: &mut Vec<(SocketAddr, Bytes)>) {
        let now = Instant::now();
        if matches!(datagram, [128..=191, ..]) {
            let Some(id) = self.by_address.get(&from) else { return };
            let Some(room) = self.participants.get(id).and_then(|p| self.rooms.get(&p.room)) else { return };
            let plain = match self.participants.get_mut(id).and_then(|p| p.client.srtp.as_mut()) {
                Some(srtp) if !matches!(datagram[1], 192..=223) => srtp.open.decrypt_rtp(datagram).ok(),
                _ => None,
            };
            let Some(plain) = plain else { return };
            for other in room.members.iter().filter(|other| *other != id) {
                let Some(participant) = self.participants.get_mut(other) else { continue };
                if let (Some(to), Some(encrypt)) = (participant.client.bridge, participant.encrypt.as_mut())
                    && let Ok(sealed) = encrypt.encrypt_rtp(&plain)
                {
                    out.push((SocketAddr::V4(to), sealed));
                }
            }
            return;
        }
        let id = match ufrag_of(datagram).and_then(|ufrag| self.by_ufrag.get(ufrag)) {
            Some(id) => Some(*id),
            None => self.by_address.get(&from).copied(),
        };
        let Some(participant) = id.and_then(|id| self.participants.get_mut(&id)) else { return };
        self.by_address.extend(id.map(|id| (from, id)));
        participant.client.handle_datagram(now, from, datagram);
        self.tick(now, id, out);
    }

    /// Looks after one participant, or after all.
    fn tick(&mut self, now: Instant, only: Option<usize>, out: &mut Vec<(SocketAddr, Bytes)>) {
        let Self { participants, certificate, by_address, .. } = self;
        let (one, all) = match only {
            Some(id) => (participants.get_mut(&id).map(|participant| (id, participant)), None),
            None => (None, Some(participants)),
        };
        let all = all.into_iter().flatten().map(|(id, participant)| (*id, participant));
        for (id, participant) in one.into_iter().chain(all) {
            participant.client.handle_timeout(now, certificate);
            while let Some((to, datagram)) = participant.client.poll_transmit() {
                // Responses to our own checks bear no user name.
                by_address.insert(to, id);
                out.push((SocketAddr::V4(to), datagram.into()));
            }
            if participant.encrypt.is_none() {
                participant.encrypt =
                    participant.client.keys.as_ref().and_then(|keys| context(&keys.outbound, keys.profile));
            }
        }
    }
}

/// The receiver's part of a STUN request's user name (RFC 8489 section 14.3).
fn ufrag_of(datagram: &[u8]) -> Option<&str> {
    let mut rest = datagram.get(20..).filter(|_| datagram[0] < 4)?;
    while let [t0, t1, l0, l1, value @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        if (*t0, *t1) == (0, 6) {
            return std::str::from_utf8(value.get(..len)?).ok()?.split(':').next();
        }
        rest = value.get(len.next_multiple_of(4)..)?;
    }
    None
}

async fn send_all(socket: &UdpSocket, out: Vec<(SocketAddr, Bytes)>) {
    // A failed send is a lost packet.
    futures::future::join_all(out.into_iter().map(|(to, bytes)| socket.send_to(bytes, to))).await;
}

fn main() -> Result<(), Error> {
    let requests = start("tokio-uring 0.5, webrtc-srtp 0.17");
    tokio_uring::start(async move {
        let socket = Rc::new(UdpSocket::bind("127.0.0.1:0".parse()?).await?);
        let SocketAddr::V4(address) = socket.local_addr()? else { return Err("no IPv4".into()) };
        let hub = Rc::new(RefCell::new(Hub {
            address,
            certificate: Certificate::generate()?,
            participants: HashMap::new(),
            by_address: HashMap::new(),
            by_ufrag: HashMap::new(),
            rooms: HashMap::new(),
        }));
        let (timer_hub, timer_socket) = (Rc::clone(&hub), Rc::clone(&socket));
        tokio_uring::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let mut out = Vec::new();
                while let Ok(request) = requests.try_recv() {
                    match timer_hub.borrow_mut().handle(request) {
                        Ok(answer) => reply(&answer),
                        Err((id, error)) => reply(&Reply::Failed { id, error: error.to_string() }),
                    }
                }
                timer_hub.borrow_mut().tick(Instant::now(), None, &mut out);
                send_all(&timer_socket, out).await;
            }
        });
        let mut buffer = vec![0; 2048];
        loop {
            let (received, returned) = socket.recv_from(buffer).await;
            buffer = returned;
            if let Ok((len, SocketAddr::V4(from))) = received {
                let mut out = Vec::new();
                hub.borrow_mut().receive(from, &buffer[..len], &mut out);
                send_all(&socket, out).await;
            }
        }
    })
}
