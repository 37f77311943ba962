//! A minimal forwarder on str0m in its RTP mode: one `Rtc` per participant, one socket, one thread.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ringbridge_bench_peers::{Reply, Request, reply, start};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc};

type Error = Box<dyn std::error::Error>;

struct Participant {
    id: usize,
    rtc: Rtc,
    pending: Option<SdpPendingOffer>,
    /// What it is sent on, by kind.
    mids: Vec<(MediaKind, Mid)>,
    room: usize,
    /// When it wants to be looked after.
    due: Instant,
}

/// A publisher's media, and who gets it.
#[derive(Default)]
struct Room {
    kinds: HashMap<Mid, MediaKind>,
    subscribers: Vec<usize>,
}

struct Hub {
    socket: UdpSocket,
    participants: Vec<Participant>,
    by_address: HashMap<SocketAddr, usize>,
    rooms: HashMap<usize, Room>,
}

fn main() -> Result<(), Error> {
    let requests = start("str0m 0.25");
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(5)))?;
    let mut hub = Hub { socket, participants: Vec::new(), by_address: HashMap::new(), rooms: HashMap::new() };
    let mut buffer = vec![0; 2048];
    let mut next_tick = Instant::now();
    loop {
        while let Ok(request) = requests.try_recv() {
            match hub.handle(request) {
                Ok(answer) => reply(&answer),
                Err((id, error)) => reply(&Reply::Failed { id, error: error.to_string() }),
            }
        }
        match hub.socket.recv_from(&mut buffer) {
            Ok((len, from)) => hub.receive(from, &buffer[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        let now = Instant::now();
        if now >= next_tick {
            next_tick = now + Duration::from_millis(10);
            let due: Vec<usize> = (0..hub.participants.len()).filter(|at| hub.participants[*at].due <= now).collect();
            for at in due {
                let _ = hub.participants[at].rtc.handle_input(Input::Timeout(now));
                hub.drain(at);
            }
        }
    }
}

impl Hub {
    fn rtc(&self) -> Result<Rtc, Error> {
        let mut rtc = Rtc::builder().set_rtp_mode(true).set_ice_lite(true).build(Instant::now());
        rtc.add_local_candidate(Candidate::host(self.socket.local_addr()?, Protocol::Udp)?);
        Ok(rtc)
    }

    fn handle(&mut self, request: Request) -> Result<Reply, (usize, Error)> {
        let (Request::Publish { id, .. } | Request::Subscribe { id, .. } | Request::Answer { id, .. }) = request;
        self.try_handle(request).map_err(|error| (id, error))
    }

    fn try_handle(&mut self, request: Request) -> Result<Reply, Error> {
        match request {
            Request::Publish { id, room, sdp } => {
                let mut rtc = self.rtc()?;
                let answer = rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(&sdp)?)?;
                self.rooms.entry(room).or_default();
                let due = Instant::now();
                self.participants.push(Participant { id, rtc, pending: None, mids: Vec::new(), room, due });
                self.drain(self.participants.len() - 1);
                Ok(Reply::Answer { id, sdp: answer.to_sdp_string() })
            }
            Request::Subscribe { id, room } => {
                let mut rtc = self.rtc()?;
                let mut changes = rtc.sdp_api();
                let of_room = self.rooms.get_mut(&room).ok_or("nobody publishes in this room")?;
                let mids = of_room
                    .kinds
                    .values()
                    .map(|kind| (*kind, changes.add_media(*kind, Direction::SendOnly, None, None, None)));
                let mids = mids.collect();
                let (offer, pending) = changes.apply().ok_or("nothing is published")?;
                of_room.subscribers.push(self.participants.len());
                let due = Instant::now();
                self.participants.push(Participant { id, rtc, pending: Some(pending), mids, room, due });
                Ok(Reply::Offer { id, sdp: offer.to_sdp_string() })
            }
            Request::Answer { id, sdp } => {
                let participant = self.participants.iter_mut().find(|p| p.id == id).ok_or("nobody subscribed")?;
                let pending = participant.pending.take().ok_or("nothing was offered")?;
                participant.rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&sdp)?)?;
                Ok(Reply::Accepted { id })
            }
        }
    }

    fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        let Ok(destination) = self.socket.local_addr() else { return };
        let Ok(contents) = datagram.try_into() else { return };
        let receive = Receive { proto: Protocol::Udp, source: from, destination, contents };
        let input = Input::Receive(Instant::now(), receive);
        let known = self.by_address.get(&from).copied();
        let Some(at) = known.or_else(|| self.participants.iter().position(|p| p.rtc.accepts(&input))) else { return };
        self.by_address.insert(from, at);
        if self.participants[at].rtc.handle_input(input).is_ok() {
            self.drain(at);
        }
    }

    /// Sends what a participant's `Rtc` has to send, and forwards what it received.
    fn drain(&mut self, at: usize) {
        while let Ok(output) = self.participants[at].rtc.poll_output() {
            match output {
                // A failed send is a lost packet.
                Output::Transmit(transmit) => {
                    let _ = self.socket.send_to(&transmit.contents, transmit.destination);
                }
                Output::Event(Event::MediaAdded(media)) if self.participants[at].mids.is_empty() => {
                    let room = self.participants[at].room;
                    self.rooms.entry(room).or_default().kinds.insert(media.mid, media.kind);
                }
                Output::Event(Event::RtpPacket(packet)) => self.forward(at, &packet),
                Output::Event(_) => {}
                Output::Timeout(due) => {
                    self.participants[at].due = due;
                    return;
                }
            }
        }
    }

    fn forward(&mut self, from: usize, packet: &RtpPacket) {
        let mid = self.participants[from].rtc.direct_api().stream_rx(&packet.header.ssrc).map(|stream| stream.mid());
        let Some(room) = self.rooms.get(&self.participants[from].room) else { return };
        let Some(kind) = mid.and_then(|mid| room.kinds.get(&mid)).copied() else { return };
        for at in room.subscribers.clone() {
            let participant = &mut self.participants[at];
            let Some((_, mid)) = participant.mids.iter().find(|(other, _)| *other == kind).copied() else { continue };
            let wanted = |p: &&str0m::format::PayloadParams| p.spec().codec.is_audio() == (kind == MediaKind::Audio);
            let pt = participant.rtc.codec_config().iter().find(wanted).map(|p| p.pt());
            let Some(pt) = pt else { continue };
            if let Some(stream) = participant.rtc.direct_api().stream_tx_by_mid(mid, None) {
                let write =
                    RtpWrite::new(pt, packet.seq_no, packet.header.timestamp, packet.timestamp, packet.payload.clone());
                stream.write_rtp(write.marker(packet.header.marker));
            }
            let _ = participant.rtc.handle_input(Input::Timeout(Instant::now()));
            self.drain_transmits(at);
        }
    }

    fn drain_transmits(&mut self, at: usize) {
        while let Ok(output) = self.participants[at].rtc.poll_output() {
            match output {
                Output::Transmit(transmit) => {
                    let _ = self.socket.send_to(&transmit.contents, transmit.destination);
                }
                Output::Event(_) => {}
                Output::Timeout(due) => {
                    self.participants[at].due = due;
                    return;
                }
            }
        }
    }
}
