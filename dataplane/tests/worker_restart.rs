//! An ICE restart over real sockets: one port, both I/O backends, workers with and without help of the kernel.

mod worker_client;

use std::time::{Duration, Instant};

use is::{Candidate, IceAgent, IceCreds, Protocol};
use ringbridge_dataplane::ice::{IceCredentials, RestartOutcome};
use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::io::IoChoice;
use ringbridge_dataplane::link::WorkerLink;
use ringbridge_dataplane::messages::{Command, Event};
use worker_client::*;

fn dtls(n: u8) -> Vec<u8> {
    vec![22, n]
}

fn arrived(events: &[Event], n: u8) -> bool {
    events.iter().any(|event| matches!(event, Event::Dtls { datagram, .. } if *datagram == dtls(n)))
}

fn renewed(credentials: IceCredentials) -> IceCredentials {
    IceCredentials { ufrag: credentials.ufrag + "new", pwd: credentials.pwd + "new" }
}

/// The client on another port with the credentials of the restart.
fn elsewhere(client: &Client, worker: usize) -> Client {
    let mut moved = Client::new(client.bridge, worker, client.endpoint);
    let (ours, theirs) = (renewed(remote_credentials(client.endpoint)), renewed(credentials(worker, client.endpoint)));
    moved.agent = IceAgent::new(IceCreds { ufrag: ours.ufrag, pass: ours.pwd });
    moved.agent.set_controlling(false);
    moved.agent.add_local_candidate(Candidate::host(moved.addr(), Protocol::Udp).unwrap());
    moved.agent.set_remote_credentials(IceCreds { ufrag: theirs.ufrag, pass: theirs.pwd });
    moved.agent.add_remote_candidate(Candidate::host(client.bridge, Protocol::Udp).unwrap());
    moved
}

/// Restarts endpoint 7; how long it took from the request until it was connected.
fn restart(clients: &mut Vec<Client>, links: &mut [WorkerLink], worker: usize) -> Duration {
    let (endpoint, mut events) = (EndpointId(7), Vec::new());
    let asked = Instant::now();
    links[worker]
        .send(Command::RestartIce { endpoint, generation: 1, local: renewed(credentials(worker, 7)) })
        .unwrap();
    clients.push(elsewhere(&clients[0], worker));
    let credentials = Some(renewed(remote_credentials(7)));
    let answer = Command::AnswerIceRestart { endpoint, generation: 1, credentials, candidates: Vec::new() };
    links[worker].send(answer).unwrap();
    // Meanwhile both ways of the old address are open.
    clients[0].send(&dtls(1));
    links[worker].send(Command::SendDtls { endpoint, datagram: dtls(2) }).unwrap();
    let done = Event::IceRestart { endpoint, generation: 1, outcome: RestartOutcome::Connected };
    until(clients, links, &mut events, |_, events| events.contains(&done) && arrived(events, 1));
    let took = asked.elapsed();
    let moved = clients[1].addr();
    assert!(events.iter().any(|event| matches!(event, Event::Ice { remote: Some(remote), .. } if *remote == moved)));
    assert!(clients[0].inbox.contains(&dtls(2)) || clients[1].inbox.contains(&dtls(2)));
    // And from now on the new one.
    links[worker].send(Command::SendDtls { endpoint, datagram: dtls(3) }).unwrap();
    clients[1].send(&dtls(4));
    until(clients, links, &mut events, |clients, events| clients[1].inbox.contains(&dtls(3)) && arrived(events, 4));
    assert!(!clients[0].inbox.contains(&dtls(3)));
    took
}

#[test]
fn a_client_moves_to_another_port_within_a_fraction_of_a_second() {
    let mut took = Vec::new();
    for io in backends() {
        for (workers, steer, home) in [(1, false, 0), (2, false, 0), (2, false, 1), (2, true, 1)] {
            let (dataplane, mut links) = start_steered(io, workers, steer);
            create_conference(&mut links[home], 1);
            create_endpoint(&mut links[home], 1, 7);
            let mut clients = vec![Client::new(dataplane.local_addresses()[0], home, 7)];
            until(&mut clients, &mut links, &mut Vec::new(), |clients, events| {
                is_connected(events, 7) || clients[0].agent.state().is_connected()
            });
            took.push(restart(&mut clients, &mut links, home));
            assert!(
                took.last().is_some_and(|took| *took < Duration::from_secs(1)),
                "{io:?} {workers} {steer}: {took:?}"
            );
            assert_eq!(dataplane.health().dead_worker(), None);
        }
    }
    let name = |io: &IoChoice| format!("{io:?}");
    println!("{:?}: {took:?}", backends().iter().map(name).collect::<Vec<_>>());
}
