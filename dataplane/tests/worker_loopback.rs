//! A real dataplane on loopback, with every backend that the host allows.

mod worker_client;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbridge_dataplane::ids::{ConferenceId, EndpointId, WorkerId};
use ringbridge_dataplane::io::IoChoice;
use ringbridge_dataplane::messages::{Command, CreateError, Event};
use ringbridge_dataplane::stats::{Counter, WorkerStats};
use ringbridge_dataplane::{Dataplane, DataplaneConfig, StartError};
use webrtc_ice::agent::Agent;
use webrtc_ice::agent::agent_config::AgentConfig;
use webrtc_ice::candidate::Candidate;
use webrtc_ice::candidate::candidate_base::CandidateBaseConfig;
use webrtc_ice::candidate::candidate_host::CandidateHostConfig;
use webrtc_ice::network_type::NetworkType;
use webrtc_ice::udp_network::UDPNetwork;
use webrtc_util::Conn;
use worker_client::*;

/// Waits until a counter reaches a value.
#[track_caller]
fn wait_for(stats: &WorkerStats, counter: Counter, value: u64) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while stats.get(counter) < value {
        assert!(Instant::now() < deadline, "{counter:?} is {} and not {value}", stats.get(counter));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(stats.get(counter), value, "{counter:?}");
}

fn dtls(n: u8) -> Vec<u8> {
    vec![22, 254, 253, n]
}

fn dtls_of(events: &[Event], endpoint: u32) -> Vec<Vec<u8>> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Dtls { endpoint: id, datagram } if id.0 == endpoint => Some(datagram.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_client_connects_and_dtls_passes_both_ways() {
    for io in backends() {
        let (dataplane, mut links) = start(io, 1);
        let stats = dataplane.stats(WorkerId::new(0));
        create_conference(&mut links[0], 1);
        create_endpoint(&mut links[0], 1, 7);
        let mut clients = [Client::new(dataplane.local_addresses()[0], 0, 7)];
        let mut events = Vec::new();

        // DTLS before ICE goes nowhere.
        clients[0].send(&dtls(0));
        wait_for(&stats, Counter::DropUnknownAddress, 1);

        until(&mut clients, &mut links, &mut events, |clients, events| {
            is_connected(events, 7) && clients[0].agent.state().is_connected()
        });
        let addr = clients[0].addr();
        assert!(events.iter().any(|e| matches!(e, Event::Ice { remote: Some(remote), .. } if *remote == addr)));

        clients[0].send(&dtls(1));
        until(&mut clients, &mut links, &mut events, |_, events| !dtls_of(events, 7).is_empty());
        assert_eq!(dtls_of(&events, 7), [dtls(1)]);
        links[0].send(Command::SendDtls { endpoint: EndpointId(7), datagram: dtls(2) }).unwrap();
        until(&mut clients, &mut links, &mut events, |clients, _| !clients[0].inbox.is_empty());
        assert_eq!(clients[0].inbox, [dtls(2)]);

        // The endpoint goes, and its address with it.
        links[0].send(Command::ExpireEndpoint { endpoint: EndpointId(7) }).unwrap();
        links[0].send(Command::ExpireEndpoint { endpoint: EndpointId(7) }).unwrap();
        wait_for(&stats, Counter::DropCommandUnknown, 1);
        clients[0].send(&dtls(3));
        wait_for(&stats, Counter::DropUnknownAddress, 2);
        assert_eq!(dataplane.health().dead_worker(), None);
    }
}

#[test]
fn an_expired_conference_takes_its_endpoints_along() {
    let (dataplane, mut links) = start(IoChoice::Mmsg, 1);
    let stats = dataplane.stats(WorkerId::new(0));
    create_conference(&mut links[0], 1);
    create_endpoint(&mut links[0], 1, 7);
    links[0].send(Command::ExpireConference { conference: ConferenceId(1) }).unwrap();
    links[0].send(Command::ExpireConference { conference: ConferenceId(1) }).unwrap();
    create_endpoint(&mut links[0], 1, 8);
    // The second expiry, the endpoint in no conference, and its remote credentials.
    wait_for(&stats, Counter::DropCommandUnknown, 3);
    let mut clients = [Client::new(dataplane.local_addresses()[0], 0, 7)];
    clients[0].step();
    wait_for(&stats, Counter::DropStunUnknownUfrag, 1);
}

#[test]
fn the_number_of_endpoints_is_bounded() {
    let mut dataplane = Dataplane::start(DataplaneConfig {
        local_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        port: 0,
        io: IoChoice::Mmsg,
        max_endpoints: 2,
        ..DataplaneConfig::default()
    })
    .unwrap();
    let mut links = dataplane.take_links();
    let stats = dataplane.stats(WorkerId::new(0));
    create_conference(&mut links[0], 1);
    for endpoint in 1..=3 {
        create_endpoint(&mut links[0], 1, endpoint);
    }
    wait_for(&stats, Counter::DropCommandUnknown, 1);
    assert_eq!(stats.get(Counter::DropTableFull), 1);
    let refused = Event::EndpointRefused { endpoint: EndpointId(3), error: CreateError::WorkerFull };
    assert_eq!(links[0].poll_event(), Some(refused));
    links[0].send(Command::ExpireEndpoint { endpoint: EndpointId(1) }).unwrap();
    create_endpoint(&mut links[0], 1, 3);
    let mut clients = [Client::new(dataplane.local_addresses()[0], 0, 3)];
    until(&mut clients, &mut links, &mut Vec::new(), |_, events| is_connected(events, 3));
}

#[test]
fn junk_is_counted_and_harmless() {
    for io in backends() {
        let (dataplane, mut links) = start(io, 1);
        let stats = dataplane.stats(WorkerId::new(0));
        create_conference(&mut links[0], 1);
        create_endpoint(&mut links[0], 1, 7);
        let mut client = Client::new(dataplane.local_addresses()[0], 0, 7);
        client.agent.handle_timeout(Instant::now());
        let request = loop {
            if let Some(transmit) = client.agent.poll_transmit() {
                break transmit.contents.to_vec();
            }
            client.agent.handle_timeout(Instant::now());
        };
        // A STUN request cut short at every length: the first byte is a zero in each.
        for len in 1..request.len() {
            client.send(&request[..len]);
        }
        wait_for(&stats, Counter::DropStunMalformed, request.len() as u64 - 1);
        for datagram in [&[][..], &[4], &[64; 30], &[255; 1500]] {
            client.send(datagram);
        }
        wait_for(&stats, Counter::DropUnknownProtocol, 4);
        client.send(&[128; 1500]);
        client.send(&[20]);
        client.send(&[128]);
        wait_for(&stats, Counter::DropUnknownAddress, 2);
        // A single byte of RTP is none.
        wait_for(&stats, Counter::DropUnknownProtocol, 5);

        let stranger = Client::new(dataplane.local_addresses()[0], 0, 99);
        let mut clients = [client, stranger];
        let mut events = Vec::new();
        until(&mut clients[1..], &mut links, &mut events, |_, _| stats.get(Counter::DropStunUnknownUfrag) > 2);
        until(&mut clients, &mut links, &mut events, |_, events| is_connected(events, 7));
    }
}

#[test]
fn a_dtls_flood_of_one_endpoint_is_cut() {
    let (dataplane, mut links) = start(IoChoice::Mmsg, 1);
    let stats = dataplane.stats(WorkerId::new(0));
    create_conference(&mut links[0], 1);
    create_endpoint(&mut links[0], 1, 7);
    let mut clients = [Client::new(dataplane.local_addresses()[0], 0, 7)];
    let mut events = Vec::new();
    until(&mut clients, &mut links, &mut events, |_, events| is_connected(events, 7));
    let begin = Instant::now();
    for _ in 0..1000 {
        clients[0].send(&dtls(1));
    }
    until(&mut clients, &mut links, &mut events, |_, events| {
        dtls_of(events, 7).len() as u64 + stats.get(Counter::DropDtlsRate) == 1000
    });
    let most = 100 + begin.elapsed().as_millis() as usize / 5 + 1;
    let passed = dtls_of(&events, 7).len();
    assert!((100..=most).contains(&passed), "{passed} of 1000, at most {most}");
}

#[test]
fn datagrams_on_the_wrong_worker_reach_the_endpoint() {
    for io in backends() {
        let (dataplane, mut links) = start_steered(io, 2, false);
        create_conference(&mut links[0], 1);
        let mut clients: Vec<_> = (0..12)
            .map(|endpoint| {
                create_endpoint(&mut links[0], 1, endpoint);
                Client::new(dataplane.local_addresses()[0], 0, endpoint)
            })
            .collect();
        let mut events = Vec::new();
        until(&mut clients, &mut links, &mut events, |clients, events| {
            clients.iter().all(|c| is_connected(events, c.endpoint) && c.agent.state().is_connected())
        });
        // The kernel spreads twelve ports over two workers; all on one has a chance of 1 in 2,048.
        let handovers = dataplane.stats(WorkerId::new(1)).get(Counter::Handovers);
        assert!(handovers > 0, "no client landed on the other worker");
        for client in &clients {
            client.send(&dtls(client.endpoint as u8));
        }
        until(&mut clients, &mut links, &mut events, |clients, events| {
            clients.iter().all(|c| dtls_of(events, c.endpoint) == [dtls(c.endpoint as u8)])
        });
        assert!(dataplane.stats(WorkerId::new(1)).get(Counter::Handovers) > handovers, "DTLS was steered as well");
        assert_eq!(dataplane.stats(WorkerId::new(0)).get(Counter::Handovers), 0);

        // Gone endpoints are gone on the other worker, too.
        links[0].send(Command::ExpireConference { conference: ConferenceId(1) }).unwrap();
        let unknown = |dataplane: &Dataplane, worker| dataplane.stats(worker).get(Counter::DropUnknownAddress);
        std::thread::sleep(Duration::from_millis(100));
        let before = unknown(&dataplane, WorkerId::new(0)) + unknown(&dataplane, WorkerId::new(1));
        let handovers = dataplane.stats(WorkerId::new(1)).get(Counter::Handovers);
        for client in &clients {
            client.send(&dtls(0));
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while unknown(&dataplane, WorkerId::new(0)) + unknown(&dataplane, WorkerId::new(1))
            < before + clients.len() as u64
        {
            assert!(Instant::now() < deadline);
        }
        assert_eq!(
            dataplane.stats(WorkerId::new(1)).get(Counter::Handovers),
            handovers,
            "nothing is handed over any more"
        );
    }
}

#[test]
fn the_kernel_delivers_to_the_owner_once_it_is_known() {
    for io in backends() {
        let (dataplane, mut links) = start(io, 2);
        if !dataplane.is_steered() {
            return eprintln!("skipped: this process may not load programs");
        }
        create_conference(&mut links[0], 1);
        create_conference(&mut links[1], 2);
        let mut clients: Vec<_> = (0..12)
            .map(|endpoint| {
                let home = endpoint as usize % 2;
                create_endpoint(&mut links[home], home as u32 + 1, endpoint);
                Client::new(dataplane.local_addresses()[0], home, endpoint)
            })
            .collect();
        let mut events = Vec::new();
        until(&mut clients, &mut links, &mut events, |clients, events| {
            clients.iter().all(|c| is_connected(events, c.endpoint) && c.agent.state().is_connected())
        });
        let handovers = || [0, 1].map(|worker| dataplane.stats(WorkerId::new(worker)).get(Counter::Handovers));
        let before = handovers();
        for client in &clients {
            client.send(&dtls(client.endpoint as u8));
        }
        until(&mut clients, &mut links, &mut events, |clients, events| {
            clients.iter().all(|c| dtls_of(events, c.endpoint) == [dtls(c.endpoint as u8)])
        });
        assert_eq!(handovers(), before, "in steady state nothing is handed over");
    }
}

/// webrtc-ice has its own sockets and timers: an independent controlled agent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webrtc_ice_connects() {
    for io in backends() {
        let (dataplane, mut links) = start(io, 2);
        println!("backend: {:?}", dataplane.backend());
        let bridge = dataplane.local_addresses()[0];
        for worker in 0..2u32 {
            let link = &mut links[worker as usize];
            create_conference(link, worker);
            create_endpoint(link, worker, worker);
            let ours = remote_credentials(worker);
            let theirs = credentials(worker as usize, worker);
            let agent = Agent::new(AgentConfig {
                udp_network: UDPNetwork::default(),
                local_ufrag: ours.ufrag,
                local_pwd: ours.pwd,
                network_types: vec![NetworkType::Udp4],
                include_loopback: true,
                ip_filter: Arc::new(Some(Box::new(|ip| ip.is_loopback()))),
                is_controlling: false,
                ..AgentConfig::default()
            })
            .await
            .unwrap();
            // It insists on a listener before it gathers.
            agent.on_candidate(Box::new(|_| Box::pin(async {})));
            agent.gather_candidates().unwrap();
            let candidate: Arc<dyn Candidate + Send + Sync> = Arc::new(
                CandidateHostConfig {
                    base_config: CandidateBaseConfig {
                        network: "udp".into(),
                        address: bridge.ip().to_string(),
                        port: bridge.port(),
                        component: 1,
                        ..CandidateBaseConfig::default()
                    },
                    ..CandidateHostConfig::default()
                }
                .new_candidate_host()
                .unwrap(),
            );
            agent.add_remote_candidate(&candidate).unwrap();
            let (_cancel, cancelled) = tokio::sync::mpsc::channel(1);
            let accept = agent.accept(cancelled, theirs.ufrag, theirs.pwd);
            let conn = tokio::time::timeout(Duration::from_secs(10), accept).await.expect("connects").unwrap();

            conn.send(&dtls(9)).await.unwrap();
            let deadline = Instant::now() + Duration::from_secs(5);
            let mut events = Vec::new();
            while dtls_of(&events, worker).is_empty() {
                assert!(Instant::now() < deadline, "{events:?}");
                events.extend(link.poll_event());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(is_connected(&events, worker));
            link.send(Command::SendDtls { endpoint: EndpointId(worker), datagram: dtls(10) }).unwrap();
            let mut buf = [0; 100];
            let len = tokio::time::timeout(Duration::from_secs(5), conn.recv(&mut buf)).await.unwrap().unwrap();
            assert_eq!(buf[..len], dtls(10));
            agent.close().await.unwrap();
        }
    }
}

#[test]
fn events_wake_the_control_plane_and_commands_wake_the_worker() {
    let (dataplane, mut links) = start(IoChoice::Mmsg, 1);
    let link = &mut links[0];
    let readable = |link: &ringbridge_dataplane::link::WorkerLink| {
        let path = format!("/proc/self/fdinfo/{}", link.event_fd().as_raw_fd());
        let info = std::fs::read_to_string(path).unwrap();
        let count = info.lines().find_map(|line| line.strip_prefix("eventfd-count:")).unwrap();
        u64::from_str_radix(count.trim(), 16).unwrap() > 0
    };
    assert!(!readable(link));
    create_conference(link, 1);
    create_endpoint(link, 1, 7);
    let mut client = Client::new(dataplane.local_addresses()[0], 0, 7);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !readable(link) {
        assert!(Instant::now() < deadline);
        client.step();
    }
    link.clear_wakeup();
    assert!(!readable(link));
    assert!(matches!(link.poll_event(), Some(Event::Ice { .. })));
    assert!(!link.is_closed());
    dataplane.stop();
    assert!(links[0].is_closed());
}

#[test]
fn a_shutdown_command_ends_the_worker_and_the_heartbeat_stops() {
    let (dataplane, mut links) = start(IoChoice::Mmsg, 1);
    let stats = dataplane.stats(WorkerId::new(0));
    let (turns, start) = (stats.get(Counter::LoopTurns), Instant::now());
    while stats.get(Counter::LoopTurns) < turns + 4 {
        assert!(start.elapsed() < Duration::from_secs(5), "an idle worker turns at least every 50 ms");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(start.elapsed() > Duration::from_millis(100), "and sleeps in between: {:?}", start.elapsed());
    links[0].send(Command::Shutdown).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !links[0].is_closed() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(dataplane.health().dead_worker(), None, "it was asked to end");
    let ended = stats.get(Counter::LoopTurns);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(stats.get(Counter::LoopTurns), ended, "the heartbeat stops");
}

#[test]
fn start_errors_say_what_is_wrong() {
    let config = || DataplaneConfig {
        local_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        port: 0,
        io: IoChoice::Mmsg,
        ..DataplaneConfig::default()
    };
    let error = |config: DataplaneConfig| Dataplane::start(config).expect_err("must not start").to_string();

    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = error(DataplaneConfig { port, ..config() });
    assert!(text.contains(&port.to_string()) && text.contains("127.0.0.1") && text.contains("is taken"), "{text}");

    let text = error(DataplaneConfig { cores: vec![100_000], ..config() });
    assert!(text.contains("core 100000") && text.contains("may use cores"), "{text}");
    let text = error(DataplaneConfig { workers: 2, cores: vec![0], ..config() });
    assert!(text.contains("2 workers") && text.contains("only 1 cores"), "{text}");
    assert!(matches!(Dataplane::start(DataplaneConfig { workers: 0, ..config() }), Err(StartError::Workers(0))));
    let text = error(DataplaneConfig { local_addresses: vec!["192.0.2.1".parse().unwrap()], ..config() });
    assert!(text.contains("192.0.2.1"), "{text}");
    // What a program offers against it stands where its flags are.
    assert!(!text.contains("--"), "{text}");
}

#[test]
fn a_wildcard_is_resolved_for_candidates() {
    let dataplane = Dataplane::start(DataplaneConfig {
        local_addresses: vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        port: 0,
        io: IoChoice::Mmsg,
        ..DataplaneConfig::default()
    })
    .unwrap();
    let [candidate] = dataplane.candidate_addresses()[..] else { panic!("one address") };
    assert!(!candidate.ip().is_unspecified());
    assert_eq!(candidate.port(), dataplane.local_addresses()[0].port());
}
