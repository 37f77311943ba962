//! Sockets of an endpoint's own, as a worker is handed them.

use std::net::UdpSocket;

use super::*;
use crate::messages::NewRelay;

fn handed() -> HandedSocket {
    HandedSocket::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap()
}

/// Has worker 0 open so many sockets and create a relay then.
fn open(rig: &mut Rig, relay: u32, sockets: usize) {
    let endpoint = EndpointId(relay);
    let open = Command::OpenSockets { endpoint, sockets: (0..sockets).map(|_| handed()).collect() };
    let new = NewRelay {
        conference: ConferenceId(1),
        relay: endpoint,
        mesh: MeshId(0),
        label: format!("relay{relay}"),
        ice: IceCredentials { ufrag: format!("0relay{relay}"), pwd: "password".into() },
        controlling: true,
    };
    for command in [open, Command::CreateRelay(Box::new(new))] {
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
