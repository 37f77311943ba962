//! Sockets of an endpoint's own, as a worker is handed them.

use std::net::UdpSocket;

use super::*;

fn handed() -> HandedSocket {
    HandedSocket::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap()
}

/// Has worker 0 open so many sockets and create a relay then.
fn open(rig: &mut Rig, relay: u32, sockets: usize) {
    let endpoint = EndpointId(relay);
    let open = Command::OpenSockets { endpoint, sockets: (0..sockets).map(|_| handed()).collect() };
    let new = Box::new(NewEndpoint {
        conference: ConferenceId(1),
        endpoint,
        label: format!("relay{relay}"),
        ice: IceCredentials { ufrag: format!("0relay{relay}"), pwd: "password".into() },
        controlling: true,
    });
    for command in [open, Command::CreateRelay { new, mesh: MeshId(0) }] {
        rig.links[0].send(command).unwrap();
    }
    rig.workers[0].handle_commands(rig.now, &mut rig.out);
    rig.workers[0].handle_events();
}

fn hear(rig: &mut Rig, local: u16, datagram: &[u8]) -> usize {
    let path = Path { local, remote: ([198, 51, 100, 1], 5).into() };
    rig.out.sent.clear();
    rig.workers[0].engine.handle_datagram(rig.now, path, &mut datagram.to_vec(), &mut rig.out);
    rig.exchange();
    rig.out.sent.len()
}

fn closed(rig: &mut Rig) -> Vec<u16> {
    let mut closed: Vec<_> = std::iter::from_fn(|| rig.workers[0].engine.poll_closed_socket()).collect();
    closed.append(&mut rig.out.closed);
    closed.sort_unstable();
    closed
}

#[test]
fn what_comes_to_them_is_handed_to_no_other_worker() {
    let mut rig = rig(16, 16);
    open(&mut rig, 7, 1);
    assert_eq!(hear(&mut rig, 100, &request("0relay7")), 1, "its own");
    // Endpoints of this worker, of the other one, and what a transaction id says of it.
    let answer = {
        let mut buf = vec![0; 100];
        let len = Writer::new(&mut buf, Class::Success, &[1; 12]).finish_unsigned().unwrap();
        buf[..len].to_vec()
    };
    for (n, datagram) in [request("0one"), request("1other"), answer.clone()].into_iter().enumerate() {
        assert_eq!(hear(&mut rig, 100, &datagram), 0);
        assert_eq!(rig.count(0, Counter::DropForeignSocket), n as u64 + 1);
        assert_eq!(rig.count(0, Counter::Handovers), 0);
    }
    // At the shared port both are handed over; what belongs to the relay is not taken there, whoever hears it.
    for datagram in [request("1other"), answer] {
        hear(&mut rig, 0, &datagram);
    }
    assert_eq!(rig.count(0, Counter::Handovers), 2);
    rig.receive(1, 5, &request("0relay7"));
    rig.exchange();
    assert_eq!((rig.count(1, Counter::Handovers), rig.count(0, Counter::DropForeignSocket)), (1, 4));
}

#[test]
fn all_of_them_are_opened_or_none_and_the_relay_is_refused() {
    let mut rig = rig(16, 16);
    rig.out.room = 3;
    open(&mut rig, 7, 2);
    open(&mut rig, 8, 2);
    let refused = Event::EndpointRefused { endpoint: EndpointId(8), error: CreateError::NoSockets };
    assert_eq!(rig.links[0].poll_event(), Some(refused));
    assert_eq!(closed(&mut rig), [102], "the one that was opened before the limit");
    assert_eq!(rig.count(0, Counter::HandedSocketsRefused), 2, "by the sockets, and as an endpoint");
    rig.workers[0].engine.note_held();
    assert_eq!((rig.count(0, Counter::HeldSockets), rig.count(0, Counter::HeldEndpoints)), (2, 2));
    // The first one is none the worse for it; nor is one that has none of its own.
    assert_eq!(hear(&mut rig, 101, &request("0relay7")), 1);
    open(&mut rig, 9, 0);
    assert_eq!(rig.links[0].poll_event(), None);
    assert_eq!(hear(&mut rig, 0, &request("0relay9")), 1);
    for relay in [7, 8, 9] {
        rig.links[0].send(Command::ExpireEndpoint { endpoint: EndpointId(relay) }).unwrap();
    }
    rig.workers[0].handle_commands(rig.now, &mut rig.out);
    assert_eq!(closed(&mut rig), [100, 101]);
    rig.workers[0].engine.note_held();
    assert_eq!((rig.count(0, Counter::HeldSockets), rig.count(0, Counter::HeldAddresses)), (0, 0));
}

proptest! {
    /// Whatever the order of commands: each socket is closed once, and not while its owner lives.
    #[test]
    fn every_socket_is_closed_once(steps in prop::collection::vec((0..6u8, 1..5u32, 0..3usize, 1..3u32), 0..80)) {
        let mut rig = rig(64, 16);
        rig.out.room = u16::MAX;
        let engine = &mut rig.workers[0].engine;
        let (out, now) = (&mut rig.out, rig.now);
        let mut next = 100;
        let mut open: std::collections::HashMap<u16, u32> = Default::default();
        let mut alive: std::collections::HashMap<u32, u32> = Default::default();
        for (step, id, count, conference) in steps.into_iter().chain([(5, 0, 0, 1), (5, 0, 0, 2)]).chain((1..5).map(|id| (3, id, 0, 0))) {
            let (endpoint, conference_id) = (EndpointId(100 + id), ConferenceId(conference));
            match step {
                0 | 1 => {
                    let address = "192.0.2.1:5".parse().unwrap();
                    let sockets: Vec<_> = (next..next + count as u16).map(|local| LocalSocket { local, address }).collect();
                    next += count as u16;
                    open.extend(sockets.iter().map(|socket| (socket.local, id)));
                    let _ = engine.give_sockets(endpoint, &sockets);
                }
                2 => {
                    let ice = IceCredentials { ufrag: format!("0p{id}"), pwd: "password".into() };
                    let new = NewEndpoint { conference: conference_id, endpoint, label: String::new(), ice, controlling: true };
                    if engine.handle_command(now, Command::CreateEndpoint(Box::new(new)), out).is_ok() {
                        alive.insert(id, conference);
                    }
                }
                3 => {
                    let _ = engine.handle_command(now, Command::ExpireEndpoint { endpoint }, out);
                    alive.remove(&id);
                }
                4 => {
                    let feedback = FeedbackSsrcs { audio: Ssrc::new(1), video: Ssrc::new(2) };
                    let _ = engine.handle_command(now, Command::CreateConference { conference: conference_id, feedback }, out);
                }
                _ => {
                    let _ = engine.handle_command(now, Command::ExpireConference { conference: conference_id }, out);
                    alive.retain(|_, lives_in| *lives_in != conference);
                }
            }
            while let Some(local) = engine.poll_closed_socket() {
                prop_assert!(open.remove(&local).is_some(), "{local} is closed twice");
            }
            // What lives is heard at its own socket, or at the shared one, and never at both.
            for &id in alive.keys() {
                let own: Vec<u16> = open.iter().filter(|(_, owner)| **owner == id).map(|(local, _)| *local).collect();
                for local in [0].into_iter().chain(own.iter().copied()) {
                    out.sent.clear();
                    let path = Path { local, remote: ([198, 51, 100, 1], 5).into() };
                    engine.handle_datagram(now, path, &mut request(&format!("0p{id}")), out);
                    prop_assert_eq!(out.sent.len(), usize::from((local == 0) == own.is_empty()));
                }
            }
        }
        prop_assert!(open.is_empty(), "{open:?} are never closed");
        engine.note_held();
        prop_assert_eq!(engine.stats.get(Counter::HeldSockets), 0);
        prop_assert_eq!(engine.sockets.refused(), 0);
    }
}
