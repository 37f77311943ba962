//! Relays between two bridges, in virtual time: several between the same two, where each has one public port, and ports of their own
//! on either side or on both. Whole engines, without sockets.

mod bridge_pair;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bridge_pair::{Bridges, Mapping, Ports, credentials};
use ringbridge_dataplane::CommandError;
use ringbridge_dataplane::ice::stun::{Class, Message, Writer, integrity_key};
use ringbridge_dataplane::ice::{IceState, transaction_owner};
use ringbridge_dataplane::ids::{ConferenceId, EndpointId};
use ringbridge_dataplane::io::Path;
use ringbridge_dataplane::messages::{Command, CreateError, Event};
use ringbridge_dataplane::stats::Counter;

/// Enough to show that they are distinguished.
const RELAYS: u32 = 4;

/// Connects relays, and sends something over each in both directions; the pairs of relays that heard each other.
fn heard(bridges: &mut Bridges, seconds: u64) -> HashSet<(EndpointId, EndpointId)> {
    bridges.run(Duration::from_secs(seconds));
    let mut heard = HashSet::new();
    for side in 0..2 {
        for relay in 1..=RELAYS {
            let relay = EndpointId(relay);
            bridges.sides[side].events.clear();
            bridges.sides[1 - side].events.clear();
            bridges.send_dtls(side, relay, b"hello");
            for event in &bridges.sides[1 - side].events {
                if let Event::Dtls { endpoint, datagram } = event {
                    assert_eq!(datagram[1..], *b"hello");
                    heard.insert((relay, *endpoint));
                }
            }
        }
    }
    heard
}

fn each_its_own() -> HashSet<(EndpointId, EndpointId)> {
    (1..=RELAYS).map(|relay| (EndpointId(relay), EndpointId(relay))).collect()
}

#[test]
fn relays_between_two_bridges_are_told_apart_by_a_port_on_either_side() {
    for ports in [[Ports::Own, Ports::Shared], [Ports::Shared, Ports::Own], [Ports::Own, Ports::Own]] {
        for controlling in [0, 1] {
            let mut bridges = Bridges::new(Mapping::None);
            for relay in 1..=RELAYS {
                bridges.connect(EndpointId(relay), ports, controlling);
            }
            assert_eq!(heard(&mut bridges, 2), each_its_own(), "{ports:?}, controlling: {controlling}");
            for side in &bridges.sides {
                assert_eq!(side.count(Counter::DropForeignSocket), 0);
                assert_eq!(side.count(Counter::DropUnknownAddress), 0);
                assert_eq!(side.count(Counter::DropStunIntegrity), 0);
            }
        }
    }
}

#[test]
fn without_ports_of_their_own_they_are_not() {
    let mut bridges = Bridges::new(Mapping::None);
    for relay in 1..=RELAYS {
        bridges.connect(EndpointId(relay), [Ports::Shared, Ports::Shared], 0);
    }
    assert_ne!(heard(&mut bridges, 2), each_its_own(), "what the other tests are there for");
}

#[test]
fn only_outgoing_packets_need_to_pass_for_a_relay_of_its_own_port() {
    for controlling in [0, 1] {
        // Side 0 is behind a NAT that forwards the shared port alone: what it offers of its own ports is an address that nobody reaches.
        let mut bridges = Bridges::new(Mapping::OwnPorts);
        for relay in 1..=RELAYS {
            bridges.connect(EndpointId(relay), [Ports::Own, Ports::Shared], controlling);
        }
        assert_eq!(heard(&mut bridges, 3), each_its_own(), "controlling: {controlling}");
    }
}

#[test]
fn a_relay_that_ends_gives_its_port_back_and_the_others_go_on() {
    let mut bridges = Bridges::new(Mapping::None);
    for relay in 1..=RELAYS {
        bridges.connect(EndpointId(relay), [Ports::Own, Ports::Shared], 0);
    }
    assert_eq!(heard(&mut bridges, 2), each_its_own());
    bridges.command(0, Command::ExpireEndpoint { endpoint: EndpointId(2) });
    assert_eq!(bridges.sides[0].closed.len(), 1);
    let others: HashSet<_> = each_its_own().into_iter().filter(|(relay, _)| relay.0 != 2).collect();
    assert_eq!(heard(&mut bridges, 40), others, "its other side has lost its consent by then");
    assert!(bridges.sides[1].lost(EndpointId(2)), "{:?}", bridges.sides[1].states);
}

#[test]
fn a_dead_link_between_living_bridges_is_noticed_within_ten_seconds_and_heals() {
    let relay = EndpointId(1);
    for controlling in [0, 1] {
        for ports in [[Ports::Own, Ports::Shared], [Ports::Own, Ports::Own]] {
            let mut bridges = Bridges::new(Mapping::None);
            bridges.connect(relay, ports, controlling);
            bridges.run(Duration::from_secs(2));
            for side in &bridges.sides {
                assert_eq!(side.state(relay), Some(IceState::Connected));
            }
            // Nobody says anything for long: consent is asked for often enough that this is no silence.
            bridges.clear();
            bridges.run(Duration::from_secs(120));
            for side in &bridges.sides {
                assert_eq!(side.events, [], "a link that lives is never reported");
            }
            for direction in [[true, true], [true, false], [false, true]] {
                // One way is as good as none: nobody's consent is confirmed any more, but the other side's checks still come.
                bridges.cut = direction;
                bridges.clear();
                bridges.run(Duration::from_secs(10));
                for (n, side) in bridges.sides.iter().enumerate() {
                    let hears = !direction[1 - n];
                    let noticed = side.events.contains(&Event::Activity { endpoint: relay, active: false });
                    assert!(noticed || hears, "side {n} of {direction:?}: {:?}", side.events);
                }
                assert!(bridges.sides.iter().any(|side| !side.events.is_empty()), "one of them knows: {direction:?}");
                bridges.run(Duration::from_secs(31));
                for (n, side) in bridges.sides.iter().enumerate() {
                    assert_eq!(side.state(relay), Some(IceState::Disconnected), "side {n} of {direction:?}");
                }
                bridges.cut = [false, false];
                bridges.run(Duration::from_secs(10));
                for (n, side) in bridges.sides.iter().enumerate() {
                    assert_eq!(side.state(relay), Some(IceState::Connected), "side {n} of {direction:?}");
                    assert!(side.active(relay) != Some(false), "side {n} of {direction:?}");
                }
            }
        }
    }
}

/// A Binding request as a peer of that relay of side 0 sends it, under any user name.
fn request(ufrag: &str, password: &str) -> Vec<u8> {
    let mut buffer = vec![0; 200];
    let writer = Writer::new(&mut buffer, Class::Request, &[3; 12]).username(format!("{ufrag}:x").as_bytes());
    let len = writer.role(false, 1).priority(1).finish(&integrity_key(password)).unwrap();
    buffer.truncate(len);
    buffer
}

#[test]
fn a_relays_socket_answers_nobody_else_and_a_shared_one_not_for_it() {
    let mut bridges = Bridges::new(Mapping::None);
    let (one, two, shared) = (EndpointId(1), EndpointId(2), EndpointId(3));
    for (relay, port) in [(one, Ports::Own), (two, Ports::Own), (shared, Ports::Shared)] {
        bridges.connect(relay, [port, Ports::Shared], 0);
    }
    bridges.run(Duration::from_secs(2));
    bridges.clear();
    let socket = |relay| bridges.sides[0].socket_of(relay);
    let (first, second) = (socket(one), socket(two));
    let stranger = |local| Path { local, remote: ([198, 51, 100, 9], 4444).into() };
    let valid = |relay| {
        let ours = credentials(0, relay);
        request(&ours.ufrag, &ours.pwd)
    };
    // Its own peer, from a new address: answered.
    assert_eq!(bridges.receive(0, stranger(first), &valid(one)).len(), 2, "an answer, and a check");
    let before = |bridges: &Bridges, counter| bridges.sides[0].count(counter);
    let foreign = [
        (first, valid(two), "another relay's"),
        (second, valid(one), "the same the other way round"),
        (first, valid(shared), "one that has no socket of its own"),
        (0, valid(one), "its own, at the shared port"),
        (first, request("0nobody", "x"), "nobody's"),
        (first, request("1worker", "x"), "another worker's"),
        (first, question_answer(), "an answer to no question"),
        (999, valid(one), "a socket that there is not"),
    ];
    for (n, (local, datagram, what)) in foreign.into_iter().enumerate() {
        let sent = bridges.receive(0, stranger(local), &datagram);
        assert_eq!(sent, [], "{what}");
        assert_eq!(before(&bridges, Counter::DropForeignSocket), n as u64 + 1, "{what}");
    }
    // Forged, junk, and what is no STUN: the reasons are the usual ones.
    let ours = credentials(0, one);
    for (datagram, counter) in [
        (request(&ours.ufrag, "guessed"), Counter::DropStunIntegrity),
        (vec![0; 30], Counter::DropStunMalformed),
        (vec![22; 60], Counter::DropUnknownAddress),
        (vec![0x80; 60], Counter::DropUnknownAddress),
        (vec![], Counter::DropUnknownProtocol),
    ] {
        let count = before(&bridges, counter);
        let elsewhere = Path { local: first, remote: ([198, 51, 100, 10], 5555).into() };
        assert_eq!(bridges.receive(0, elsewhere, &datagram), []);
        assert_eq!(before(&bridges, counter), count + 1, "{counter:?}");
    }
    assert!(!bridges.sides[0].events.iter().any(|event| matches!(event, Event::Dtls { .. })));
    // What the peer of one relay sends to the port of another is no more welcome than a stranger's.
    let peer = bridges.sides[1].address(0);
    let unknown = before(&bridges, Counter::DropUnknownAddress);
    bridges.receive(0, Path { local: second, remote: peer }, &[22, 1]);
    assert_eq!(bridges.sides[0].events, [Event::Dtls { endpoint: two, datagram: vec![22, 1] }], "each by its socket");
    bridges.receive(0, Path { local: 0, remote: ([192, 0, 2, 2], 9).into() }, &[22, 1]);
    assert_eq!(before(&bridges, Counter::DropUnknownAddress), unknown + 1);
}

fn question_answer() -> Vec<u8> {
    let mut buffer = vec![0; 200];
    let len = Writer::new(&mut buffer, Class::Success, &[9; 12]).finish_unsigned().unwrap();
    buffer.truncate(len);
    buffer
}

#[test]
fn no_check_of_others_goes_through_a_relays_socket_and_none_of_it_through_theirs() {
    let mut bridges = Bridges::new(Mapping::None);
    for (relay, port) in [(1, Ports::Own), (2, Ports::Shared), (3, Ports::Own)] {
        bridges.connect(EndpointId(relay), [port, port], 0);
    }
    bridges.cut = [true, true];
    bridges.run(Duration::from_secs(120));
    let mut sockets: HashMap<u32, HashSet<u16>> = HashMap::new();
    for (side, path, data) in &bridges.sent {
        if let (0, Ok(message)) = (side, Message::read_unchecked(data)) {
            let (_, endpoint) = transaction_owner(&message.transaction());
            if message.class() == Class::Request {
                sockets.entry(endpoint.0).or_default().insert(path.local);
            }
        }
    }
    let own = |relay| HashSet::from([bridges.sides[0].socket_of(EndpointId(relay))]);
    assert_eq!(sockets, [(1, own(1)), (2, HashSet::from([0])), (3, own(3))].into());
}

#[test]
fn sockets_that_nobody_needs_are_given_back() {
    let mut bridges = Bridges::new(Mapping::None);
    let create =
        |bridges: &mut Bridges, relay, conference| bridges.create(0, EndpointId(relay), ConferenceId(conference));
    let give = |bridges: &mut Bridges, relay| bridges.sides[0].give_sockets(EndpointId(relay), 2);
    let refused = |bridges: &mut Bridges| {
        let events = std::mem::take(&mut bridges.sides[0].events);
        events.into_iter().find_map(|event| match event {
            Event::EndpointRefused { endpoint, error } => Some((endpoint.0, error)),
            _ => None,
        })
    };
    let closed = |bridges: &mut Bridges| std::mem::take(&mut bridges.sides[0].closed).len();
    bridges.create_conference(0, ConferenceId(1));

    // The relay is refused.
    give(&mut bridges, 1).unwrap();
    assert!(create(&mut bridges, 1, 77).is_err());
    assert_eq!((refused(&mut bridges), closed(&mut bridges)), (Some((1, CreateError::UnknownConference)), 2));

    // It ends before it began.
    give(&mut bridges, 2).unwrap();
    bridges.command(0, Command::ExpireEndpoint { endpoint: EndpointId(2) });
    assert_eq!(closed(&mut bridges), 2);

    // It has some already, or exists without.
    give(&mut bridges, 3).unwrap();
    assert_eq!(give(&mut bridges, 3), Err(CommandError::TooLate));
    assert_eq!(closed(&mut bridges), 2);
    create(&mut bridges, 3, 1).unwrap();
    assert_eq!(give(&mut bridges, 3), Err(CommandError::TooLate));
    create(&mut bridges, 4, 1).unwrap();
    assert_eq!(give(&mut bridges, 4), Err(CommandError::TooLate));
    assert_eq!(closed(&mut bridges), 4);

    // The id is taken: that does not take away what its owner has.
    assert!(create(&mut bridges, 3, 1).is_err());
    assert_eq!((refused(&mut bridges), closed(&mut bridges)), (Some((3, CreateError::Taken)), 0));

    // They could not be opened.
    let before = bridges.sides[0].count(Counter::HandedSocketsRefused);
    bridges.sides[0].give_sockets(EndpointId(5), 0).unwrap();
    assert!(create(&mut bridges, 5, 1).is_err());
    assert_eq!((refused(&mut bridges), closed(&mut bridges)), (Some((5, CreateError::NoSockets)), 0));
    assert_eq!(bridges.sides[0].count(Counter::HandedSocketsRefused), before + 2);
    create(&mut bridges, 5, 1).expect("asked again without sockets of its own");

    // The conference ends.
    bridges.command(0, Command::ExpireConference { conference: ConferenceId(1) });
    assert_eq!(closed(&mut bridges), 2);
}

#[test]
fn a_socket_serves_one_relay_after_the_other() {
    let mut bridges = Bridges::new(Mapping::None);
    for relay in 1..=50 {
        let relay = EndpointId(relay);
        bridges.connect(relay, [Ports::Own, Ports::Shared], relay.0 as usize % 2);
        bridges.run(Duration::from_secs(1));
        assert_eq!(bridges.sides[0].state(relay), Some(IceState::Connected), "{relay:?}");
        for side in 0..2 {
            bridges.command(side, Command::ExpireEndpoint { endpoint: relay });
        }
        assert_eq!(bridges.sides[0].closed.pop(), Some(bridge_pair::HANDED + 1), "the index of all");
    }
}
