//! ICE restarts as a worker sees them: addresses, ufrags, DTLS and media while an endpoint has two generations.

use super::*;
use crate::ice::RestartOutcome;

const OLD: u16 = 12;
const NEW: u16 = 99;

fn local(ufrag: &str) -> IceCredentials {
    IceCredentials { ufrag: ufrag.into(), pwd: "password".into() }
}

fn remote() -> IceCredentials {
    IceCredentials { ufrag: "x".into(), pwd: "theirs".into() }
}

impl Rig {
    fn command(&mut self, worker: usize, command: Command) {
        self.links[worker].send(command).unwrap();
        self.workers[worker].handle_commands(self.now, &mut self.out);
        self.workers[worker].handle_events();
    }

    /// Lets time pass; the peer answers all checks that go to one of its ports, from there.
    fn run(&mut self, worker: usize, ports: &[u16], span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now += Duration::from_millis(10);
            self.workers[worker].engine.handle_timeout(self.now, &mut self.out);
            let is_check = |data: &[u8]| Protocol::of(data) == Some(Protocol::Stun);
            let checks: Vec<_> = self.out.sent.extract_if(.., |(_, data)| is_check(data)).collect();
            for (path, data) in checks {
                let check = Message::parse(&data).unwrap();
                if check.class() != Class::Request || !ports.contains(&path.remote.port()) {
                    continue;
                }
                let mut buf = vec![0; 200];
                let writer = Writer::new(&mut buf, Class::Success, &check.transaction()).mapped(path.remote);
                let len = writer.finish(&integrity_key("theirs")).unwrap();
                self.receive(worker, path.remote.port(), &buf[..len]);
            }
            self.workers[worker].handle_events();
        }
    }

    fn events(&mut self, worker: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.links[worker].poll_event()).collect()
    }

    /// Where media went since the last time.
    fn ports(&mut self) -> Vec<u16> {
        self.out.sent.drain(..).map(|(path, _)| path.remote.port()).collect()
    }

    fn known(&self, worker: usize) -> Vec<u16> {
        let known = |port: &u16| {
            let path = Path { local: 0, remote: ([198, 51, 100, 1], *port).into() };
            matches!(self.workers[worker].engine.addresses.get(&path), Some(Owner::Endpoint(_)))
        };
        [10, 11, OLD, NEW].into_iter().filter(known).collect()
    }
}

/// A sender (port 10), a receiver (port 11), and endpoint 12, whose ICE is connected at [`OLD`].
fn call(max_addresses: usize) -> (Rig, EndpointId) {
    let mut rig = rig(max_addresses, 16);
    connect(&mut rig, 0, 10, 10, &[77]);
    connect(&mut rig, 0, 11, 11, &[]);
    let endpoint = connect(&mut rig, 0, 12, OLD, &[]);
    rig.command(0, Command::SetRemoteIce { endpoint, credentials: Some(remote()), candidates: Vec::new() });
    rig.receive(0, OLD, &request("0u12"));
    rig.run(0, &[OLD], Duration::from_secs(1));
    let connected = |event: &Event| matches!(event, Event::Ice { state: IceState::Connected, .. });
    assert_eq!(rig.events(0).iter().filter(|event| connected(event)).count(), 1);
    rig.out.sent.clear();
    (rig, endpoint)
}

fn answer(endpoint: EndpointId, generation: u32) -> Command {
    Command::AnswerIceRestart { endpoint, generation, credentials: Some(remote()), candidates: Vec::new() }
}

#[test]
fn media_and_dtls_go_on_and_nobody_else_notices() {
    let (mut rig, endpoint) = call(64);
    rig.command(0, Command::RestartIce { endpoint, generation: 1, local: local("0new") });
    let mut sequence = 0;
    let mut media = |rig: &mut Rig, expected: u16| {
        sequence += 1;
        rig.receive(0, 10, &sealed(10, sequence));
        assert_eq!(rig.ports(), [11, expected], "packet {sequence}");
    };
    media(&mut rig, OLD);
    rig.receive(0, NEW, &request("0new"));
    rig.out.sent.clear();
    // A handshake may be under way: both addresses are the endpoint's, and ours goes where media goes.
    for (port, n) in [(OLD, 1), (NEW, 2)] {
        rig.receive(0, port, &[22, n]);
    }
    rig.command(0, Command::SendDtls { endpoint, datagram: vec![22; 50] });
    assert_eq!(rig.ports(), [OLD]);
    media(&mut rig, OLD);
    rig.command(0, answer(endpoint, 1));
    // Checked, and neither answered nor nominated.
    rig.out.sent.clear();
    media(&mut rig, OLD);
    rig.run(0, &[OLD, NEW], Duration::from_millis(500));
    rig.out.sent.clear();
    media(&mut rig, NEW);
    rig.command(0, Command::SendDtls { endpoint, datagram: vec![22; 50] });
    assert_eq!(rig.ports(), [NEW]);
    // What the client sent before it knew arrives, and what it sends now.
    for (port, n) in [(OLD, 3), (NEW, 4)] {
        rig.receive(0, port, &[22, n]);
    }
    let events = rig.events(0);
    let dtls: Vec<u8> = events
        .iter()
        .filter_map(|e| if let Event::Dtls { datagram, .. } = e { Some(datagram[1]) } else { None })
        .collect();
    assert_eq!(dtls, [1, 2, 3, 4]);
    let restarted = Event::IceRestart { endpoint, generation: 1, outcome: RestartOutcome::Connected };
    let remote = Some(([198, 51, 100, 1], NEW).into());
    let connected = Event::Ice { endpoint, state: IceState::Connected, remote, relayed: false };
    let news: Vec<_> =
        events.iter().filter(|event| !matches!(event, Event::Dtls { .. } | Event::Bandwidth { .. })).collect();
    assert!(news.contains(&&restarted) && news.contains(&&connected), "{news:?}");
    assert!(!news.iter().any(|event| matches!(event, Event::Ice { state: IceState::Disconnected, .. })));
    assert_eq!(rig.known(0), [10, 11, OLD, NEW]);
    rig.run(0, &[NEW], Duration::from_secs(4));
    assert_eq!(rig.known(0), [10, 11, NEW]);
    rig.receive(0, OLD, &[22, 5]);
    assert_eq!(rig.count(0, Counter::DropUnknownAddress), 1);
    rig.receive(0, OLD, &request("0u12"));
    assert_eq!(rig.count(0, Counter::DropStunUnknownUfrag), 1);
    rig.out.sent.clear();
    media(&mut rig, NEW);
}

#[test]
fn another_worker_hands_over_by_the_new_ufrag() {
    let (mut rig, endpoint) = call(64);
    rig.receive(1, NEW, &request("0new"));
    rig.exchange();
    assert_eq!(rig.count(0, Counter::DropStunUnknownUfrag), 1, "before the restart it is nobody's");
    rig.command(0, Command::RestartIce { endpoint, generation: 1, local: local("0new") });
    rig.receive(1, NEW, &request("0new"));
    rig.exchange();
    rig.command(0, answer(endpoint, 1));
    rig.run(0, &[NEW], Duration::from_secs(1));
    rig.receive(1, NEW, &[22, 9]);
    rig.exchange();
    assert!(rig.events(0).iter().any(|event| matches!(event, Event::Dtls { datagram, .. } if datagram[..] == [22, 9])));
}

#[test]
fn an_endpoint_that_ends_amid_a_restart_takes_everything_along() {
    let (mut rig, endpoint) = call(64);
    let (ufrags, addresses) = (rig.workers[0].engine.endpoints.ufrags(), rig.workers[0].engine.addresses.len());
    rig.command(0, Command::RestartIce { endpoint, generation: 1, local: local("0new") });
    rig.receive(0, NEW, &request("0new"));
    assert_eq!(
        (rig.workers[0].engine.endpoints.ufrags(), rig.workers[0].engine.addresses.len()),
        (ufrags + 1, addresses + 1)
    );
    rig.command(0, Command::ExpireEndpoint { endpoint });
    assert_eq!(
        (rig.workers[0].engine.endpoints.ufrags(), rig.workers[0].engine.addresses.len()),
        (ufrags - 1, addresses - 1)
    );
    for ufrag in ["0u12", "0new"] {
        rig.receive(0, NEW, &request(ufrag));
    }
    assert_eq!(rig.count(0, Counter::DropStunUnknownUfrag), 2);
    // And what comes for it afterwards is counted.
    rig.command(0, Command::RestartIce { endpoint, generation: 2, local: local("0newer") });
    rig.command(0, answer(endpoint, 2));
    assert_eq!(rig.count(0, Counter::DropCommandUnknown), 2);
    assert_eq!(rig.workers[0].engine.endpoints.ufrags(), ufrags - 1);
}

#[test]
fn a_full_address_table_keeps_media_where_it_can_come_back_from() {
    // The two that are not under test, endpoint 12, and nothing more.
    let (mut rig, endpoint) = call(3);
    rig.command(0, Command::RestartIce { endpoint, generation: 1, local: local("0new") });
    rig.command(0, answer(endpoint, 1));
    for _ in 0..20 {
        rig.receive(0, NEW, &request("0new"));
        rig.run(0, &[OLD, NEW], Duration::from_millis(100));
    }
    assert!(rig.count(0, Counter::DropTableFull) >= 20);
    rig.out.sent.clear();
    rig.receive(0, 10, &sealed(10, 1));
    assert_eq!(rig.ports(), [11, OLD]);
    rig.run(0, &[OLD], Duration::from_secs(20));
    let abandoned = Event::IceRestart { endpoint, generation: 1, outcome: RestartOutcome::Abandoned };
    assert!(rig.events(0).contains(&abandoned));
    assert_eq!(rig.known(0), [10, 11, OLD]);
}

#[test]
fn a_ufrag_that_is_taken_or_of_another_worker_is_refused() {
    let (mut rig, endpoint) = call(64);
    for ufrag in ["0u10", "1new", ""] {
        rig.command(0, Command::RestartIce { endpoint, generation: 1, local: local(ufrag) });
        let abandoned = Event::IceRestart { endpoint, generation: 1, outcome: RestartOutcome::Abandoned };
        assert!(rig.events(0).contains(&abandoned), "{ufrag}");
    }
    rig.command(0, answer(endpoint, 1));
    assert_eq!((rig.count(0, Counter::DropCommandUnknown), rig.count(0, Counter::DropRestartAnswer)), (3, 1));
    rig.receive(0, 10, &sealed(10, 1));
    assert_eq!(rig.ports(), [11, OLD]);
}
