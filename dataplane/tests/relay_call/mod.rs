//! Several bridges in memory, each a `Call`, joined by their relays: what one sends to a relay arrives at the other's.
#![allow(dead_code)]

use std::time::Duration;

use ringbridge_dataplane::conference::{EndpointSlot, ForwarderConfig};
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::{EndpointId, MeshId, WorkerId};
use ringbridge_dataplane::io::{MAX_DATAGRAM, Path};
use ringbridge_dataplane::media::{Limit, Media, SourceDescription};
use ringbridge_dataplane::messages::{Command, Event, NewEndpoint};
use ringbridge_dataplane::srtp::{MasterKey, SrtpKeys};
use ringbridge_dataplane::stats::Counter;

use crate::forward_call::{CONFERENCE, Call, RELAY_PORTS, keys};

/// One side of a connection between two bridges.
pub struct Side {
    pub bridge: usize,
    pub relay: EndpointId,
    /// The worker that it lives on.
    pub home: usize,
    pub slot: EndpointSlot,
    pub mesh: MeshId,
    /// The number of the other side.
    pub other: usize,
    /// Datagrams that went out here, RTP and RTCP, before anything was lost.
    pub sent: Vec<Vec<u8>>,
}

/// Whether a datagram is RTCP.
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram.get(1), Some(192..=223))
}

type Impairment = Box<dyn FnMut(usize, &mut Vec<u8>) -> bool>;

/// Bridges and what connects them. All share one time.
pub struct Bridges {
    pub calls: Vec<Call>,
    pub sides: Vec<Side>,
    /// Says, for each datagram out of a side, whether it arrives; may change it.
    pub passes: Impairment,
    /// Datagrams between bridges in one go; more are a storm.
    pub most: usize,
    next_id: u32,
}

/// What a relay negotiates: Jicofo's full set, without what is not used between bridges.
pub fn relay_media(media: &Media) -> Media {
    let unused = [crate::forward_call::TCC, crate::forward_call::AST];
    let mut media = media.clone();
    media.header_extensions.retain(|extension| !unused.contains(&extension.uri.as_str()));
    for codec in &mut media.codecs {
        codec.feedback.retain(|(name, _)| name != "transport-cc");
    }
    media
}

fn path(side: usize) -> Path {
    Path { local: 0, remote: ([127, 0, 0, 1], RELAY_PORTS + side as u16).into() }
}

impl Bridges {
    /// So many bridges with a worker each, none of them connected.
    pub fn new(bridges: usize) -> Self {
        Self::with(ForwarderConfig::default(), &vec![1; bridges])
    }

    /// Bridges with so many workers each.
    pub fn with(config: ForwarderConfig, workers: &[usize]) -> Self {
        let mut calls: Vec<Call> = workers.iter().map(|workers| Call::spread(config.clone(), *workers, 256)).collect();
        let now = calls[0].now;
        calls.iter_mut().for_each(|call| call.now = now);
        Self { calls, sides: Vec::new(), passes: Box::new(|_, _| true), most: 100_000, next_id: 1000 }
    }

    pub fn new_id(&mut self) -> EndpointId {
        self.next_id += 1;
        EndpointId(self.next_id)
    }

    /// Connects two bridges by relays of a mesh, which live on the first workers; returns the numbers of the two sides.
    pub fn connect(&mut self, a: usize, b: usize, mesh: u32, media: &Media) -> [usize; 2] {
        self.connect_on([(a, 0), (b, 0)], mesh, media)
    }

    /// The same on workers of choice.
    pub fn connect_on(&mut self, ends: [(usize, usize); 2], mesh: u32, media: &Media) -> [usize; 2] {
        let first = self.sides.len();
        let mesh = MeshId(mesh);
        let one = keys((100 + first) as u8);
        let two = SrtpKeys { profile: one.profile, inbound: one.outbound.clone(), outbound: one.inbound.clone() };
        for (n, ((bridge, home), keys)) in ends.into_iter().zip([one, two]).enumerate() {
            let relay = self.new_id();
            let call = &mut self.calls[bridge];
            for (worker, forwarder) in call.forwarders.iter_mut().enumerate() {
                let command = if worker == home {
                    let new = Box::new(NewEndpoint {
                        conference: CONFERENCE,
                        endpoint: relay,
                        label: format!("side{}", first + n),
                        ice: IceCredentials { ufrag: "u".to_owned(), pwd: "p".to_owned() },
                        controlling: n == 0,
                    });
                    Command::CreateRelay { new, mesh }
                } else {
                    let home = WorkerId::from_index(home);
                    Command::CreateRemoteRelay { conference: CONFERENCE, relay, home, mesh }
                };
                forwarder.handle_command(call.now, command);
            }
            let slot = call.forwarders[home].slot(relay).expect("the relay is there");
            let forwarder = &mut call.forwarders[home];
            forwarder.handle_command(call.now, Command::SetSrtp { endpoint: relay, keys: Box::new(keys) });
            call.relay_media = relay_media(media);
            let media = Box::new(call.relay_media.clone());
            call.forwarders.iter_mut().for_each(|forwarder| {
                forwarder.handle_command(call.now, Command::SetMedia { endpoint: relay, media: media.clone() });
            });
            call.forwarders[home].set_path(relay, Some(path(first + n)));
            self.sides.push(Side { bridge, relay, home, slot, mesh, other: first + 1 - n, sent: Vec::new() });
        }
        self.settle();
        [first, first + 1]
    }

    /// A client on a bridge; on the other bridges it is behind the relays of these sides. Returns its number on its bridge, and
    /// its ids behind the sides.
    pub fn join(
        &mut self,
        bridge: usize,
        media: Media,
        sources: Vec<SourceDescription>,
        behind: &[usize],
    ) -> (usize, Vec<EndpointId>) {
        let client = self.calls[bridge].join(media, sources.clone());
        let ids = behind.iter().map(|side| self.announce(*side, sources.clone())).collect();
        self.settle();
        (client, ids)
    }

    /// Announces to a bridge an endpoint behind the relay of one of its sides.
    pub fn announce(&mut self, side: usize, sources: Vec<SourceDescription>) -> EndpointId {
        let endpoint = self.new_id();
        let Side { bridge, relay, .. } = self.sides[side];
        self.command(bridge, Command::CreateRelayedEndpoint { conference: CONFERENCE, endpoint, relay });
        let media = self.calls[bridge].relay_media.clone();
        self.command(bridge, Command::SetMedia { endpoint, media: Box::new(media) });
        self.command(bridge, Command::SetSources { endpoint, sources });
        endpoint
    }

    /// Gives a command to all workers of a bridge.
    pub fn command(&mut self, bridge: usize, command: Command) {
        let call = &mut self.calls[bridge];
        let home = command.endpoint().filter(|_| !command.is_shared());
        let home =
            home.and_then(|endpoint| self.sides.iter().find(|side| side.relay == endpoint)).map(|side| side.home);
        for (worker, forwarder) in call.forwarders.iter_mut().enumerate() {
            if home.is_none_or(|home| home == worker) {
                forwarder.handle_command(call.now, command.clone());
            }
        }
        self.settle();
    }

    /// Runs what is due everywhere, and carries datagrams between the bridges until none is left.
    pub fn settle(&mut self) {
        self.calls.iter_mut().for_each(Call::settle);
        self.carry();
    }

    /// Carries datagrams between the bridges until none is left.
    pub fn carry(&mut self) {
        let mut carried = 0;
        loop {
            let mut waiting = Vec::new();
            for call in &mut self.calls {
                waiting.append(&mut call.to_relays);
            }
            if waiting.is_empty() {
                return;
            }
            for (to, mut datagram) in waiting {
                carried += 1;
                assert!(carried <= self.most, "a storm between bridges");
                let from = usize::from(to.remote.port() - RELAY_PORTS);
                self.sides[from].sent.push(datagram.clone());
                if (self.passes)(from, &mut datagram) {
                    self.arrive(self.sides[from].other, &mut datagram);
                }
            }
        }
    }

    /// A datagram arrives at a side.
    pub fn arrive(&mut self, side: usize, datagram: &mut [u8]) {
        let Side { bridge, home, slot, .. } = self.sides[side];
        let call = &mut self.calls[bridge];
        if is_rtcp(datagram) {
            call.forwarders[home].handle_rtcp(call.now, slot, datagram, &mut call.sink);
        } else {
            call.forwarders[home].handle_rtp(call.now, slot, datagram, &mut call.sink);
        }
        call.deliver();
    }

    /// A client of a bridge sends a packet, which goes all the way.
    pub fn send(&mut self, bridge: usize, client: usize, packet: &crate::forward_call::RtpPacket) {
        self.calls[bridge].send(client, packet);
        self.carry();
    }

    /// Lets time pass everywhere in steps of 5 ms.
    pub fn millis(&mut self, millis: u64) {
        for step in (0..millis).step_by(5) {
            let passed = Duration::from_millis(5.min(millis - step));
            self.calls.iter_mut().for_each(|call| call.advance(passed));
            self.carry();
        }
    }

    /// What those behind a side want of a source, as the other bridge says it.
    pub fn want(&mut self, side: usize, endpoint: EndpointId, source: &str, max_height: Limit) {
        let Side { bridge, relay, .. } = self.sides[side];
        self.command(bridge, Command::SetRelayDemand { relay, endpoint, source: source.to_owned(), max_height });
    }

    /// RTP datagrams that a side sent, forgotten afterwards with its RTCP.
    pub fn take_sent(&mut self, side: usize) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sides[side].sent).into_iter().filter(|datagram| !is_rtcp(datagram)).collect()
    }

    pub fn count(&self, bridge: usize, counter: Counter) -> u64 {
        self.calls[bridge].count(counter)
    }

    pub fn take_events(&mut self, bridge: usize) -> Vec<Event> {
        self.calls[bridge].take_events()
    }
}

/// Room for a datagram that is made up.
pub fn sealed(key: &MasterKey, packet: &crate::forward_call::RtpPacket) -> Vec<u8> {
    use webrtc_util::marshal::Marshal;
    let datagram = crate::forward_call::context(key).encrypt_rtp(&packet.marshal().unwrap()).unwrap().to_vec();
    assert!(datagram.len() <= MAX_DATAGRAM);
    datagram
}
