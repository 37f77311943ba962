//! Media from participant to participant over relays: through whole engines, with ICE and SRTP, in virtual time.

mod bridge_pair;
mod forward_call;

use std::time::Duration;

use bridge_pair::{Bridges, Mapping, Ports};
use forward_call::{AST, JICOFO, OTHER, TCC, audio_source, context, keys, packet};
use ringbridge_dataplane::ids::{ConferenceId, EndpointId};
use ringbridge_dataplane::media::Media;
use ringbridge_dataplane::messages::Command;
use ringbridge_dataplane::srtp::SrtpKeys;
use ringbridge_dataplane::stats::Counter;
use rtp::packet::Packet;
use webrtc_util::marshal::{Marshal, Unmarshal};

const CONFERENCES: u32 = 3;

/// What a relay negotiates: nothing that is not used between bridges.
fn table() -> Media {
    let mut media = OTHER.media();
    media.header_extensions.retain(|extension| ![TCC, AST].contains(&extension.uri.as_str()));
    media
}

fn client_id(conference: u32, side: usize) -> EndpointId {
    EndpointId(conference * 10 + side as u32)
}

/// The same in all conferences: nothing but the path distinguishes them.
fn ssrc(side: usize) -> u32 {
    1000 + side as u32
}

/// Conferences over two bridges each, a participant on either, each with its own keys; the clients by conference and side.
fn conferences(bridges: &mut Bridges, ports: [Ports; 2]) -> Vec<[usize; 2]> {
    for conference in 1..=CONFERENCES {
        let relay = EndpointId(conference);
        bridges.connect(relay, ports, conference as usize % 2);
        let one = keys(100 + conference as u8);
        let two = SrtpKeys { profile: one.profile, inbound: one.outbound.clone(), outbound: one.inbound.clone() };
        for (side, keys) in [one, two].into_iter().enumerate() {
            bridges.command(side, Command::SetMedia { endpoint: relay, media: Box::new(table()) });
            bridges.command(side, Command::SetSrtp { endpoint: relay, keys: Box::new(keys) });
        }
    }
    bridges.run(Duration::from_secs(2));
    let mut clients = Vec::new();
    for conference in 1..=CONFERENCES {
        let id = ConferenceId(conference);
        clients.push([0, 1].map(|side| {
            let endpoint = client_id(conference, side);
            let client = bridges.join(side, id, endpoint);
            bridges.command(side, Command::SetMedia { endpoint, media: Box::new(JICOFO.media()) });
            bridges.command(side, Command::SetSrtp { endpoint, keys: Box::new(keys(endpoint.0 as u8)) });
            let relay = EndpointId(conference);
            bridges.command(1 - side, Command::CreateRelayedEndpoint { conference: id, endpoint, relay });
            bridges.command(1 - side, Command::SetMedia { endpoint, media: Box::new(table()) });
            for side in 0..2 {
                let sources = vec![audio_source("a0", ssrc(client_side(bridges, client)))];
                bridges.command(side, Command::SetSources { endpoint, sources });
            }
            client
        }));
    }
    clients
}

fn client_side(bridges: &Bridges, client: usize) -> usize {
    bridges.clients[client].side
}

/// Every client says something in its turn, named by conference and side; what the other one of its conference hears.
fn talk(bridges: &mut Bridges, clients: &[[usize; 2]], n: u16) -> Vec<[Vec<Vec<u8>>; 2]> {
    for (conference, pair) in (1..).zip(clients) {
        for (side, &client) in pair.iter().enumerate() {
            let payload = [conference as u8, side as u8, n as u8, 9];
            let packet = packet(JICOFO.opus, n, 960 * u32::from(n), ssrc(side), &payload);
            let mut sends = context(&keys(client_id(conference, side).0 as u8).inbound);
            let datagram = sends.encrypt_rtp(&packet.marshal().unwrap()).unwrap();
            bridges.send_from(client, &datagram);
        }
    }
    let mut heard = Vec::new();
    for (conference, pair) in (1..).zip(clients) {
        heard.push([0, 1].map(|side| {
            let mut opens = context(&keys(client_id(conference, side).0 as u8).outbound);
            let inbox = std::mem::take(&mut bridges.clients[pair[side]].inbox);
            let rtp = inbox.iter().filter(|datagram| !matches!(datagram[1], 192..=223));
            let packets = rtp.map(|datagram| Packet::unmarshal(&mut opens.decrypt_rtp(datagram).unwrap()).unwrap());
            packets.map(|packet| packet.payload.to_vec()).collect()
        }));
    }
    heard
}

#[test]
fn each_conference_hears_its_own_over_its_own_relay() {
    for ports in [[Ports::Own, Ports::Shared], [Ports::Shared, Ports::Own], [Ports::Own, Ports::Own]] {
        let mut bridges = Bridges::new(Mapping::None);
        let clients = conferences(&mut bridges, ports);
        for n in 1..20 {
            let expect: Vec<[Vec<Vec<u8>>; 2]> = (1..=CONFERENCES as u8)
                .map(|conference| [1, 0].map(|other| vec![vec![conference, other, n as u8, 9]]))
                .collect();
            assert_eq!(talk(&mut bridges, &clients, n), expect, "{ports:?}");
            bridges.run(Duration::from_millis(20));
        }
        for side in &bridges.sides {
            assert_eq!(side.count(Counter::RelayPacketsSent), u64::from(CONFERENCES) * 19);
            assert_eq!(side.count(Counter::RelayPacketsReceived), u64::from(CONFERENCES) * 19);
            for counter in [Counter::DropSrtpAuth, Counter::DropUnknownSsrc, Counter::DropUnknownAddress] {
                assert_eq!(side.count(counter), 0, "{counter:?}");
            }
        }
    }
}

#[test]
fn a_link_that_was_cut_carries_media_again_when_it_heals() {
    let mut bridges = Bridges::new(Mapping::None);
    let clients = conferences(&mut bridges, [Ports::Own, Ports::Shared]);
    let all = |heard: &[[Vec<Vec<u8>>; 2]]| heard.iter().flatten().map(Vec::len).sum::<usize>();
    assert_eq!(all(&talk(&mut bridges, &clients, 1)), 2 * CONFERENCES as usize);
    bridges.cut = [true, true];
    assert_eq!(all(&talk(&mut bridges, &clients, 2)), 0);
    // Consent is lost: nothing is sent to where nobody asks for it.
    bridges.run(Duration::from_secs(40));
    let before = bridges.sides.each_ref().map(|side| side.count(Counter::RelayPacketsSent));
    assert_eq!(all(&talk(&mut bridges, &clients, 3)), 0);
    assert_eq!(bridges.sides.each_ref().map(|side| side.count(Counter::RelayPacketsSent)), before);
    bridges.cut = [false, false];
    bridges.run(Duration::from_secs(10));
    assert_eq!(all(&talk(&mut bridges, &clients, 4)), 2 * CONFERENCES as usize);
}
