//! Other dataplanes take over in the middle of calls, with real sockets: what the participants get.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ringbridge_dataplane::stats::WorkerStats;

use super::*;

const CAROL: Numbers = Numbers { opus: 111, vp8: 100, audio_ssrc: 0xca40_0001, video_ssrc: 0xca40_0002 };
const DAVE: Numbers = Numbers { opus: 96, vp8: 97, audio_ssrc: 0xda4e_0001, video_ssrc: 0xda4e_0002 };

/// Longest that anything takes on a loaded host.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two calls, of which each participant has its home on one of two workers.
struct Calls {
    dataplane: Option<Dataplane>,
    links: Vec<WorkerLink>,
    /// Alice and Bob, Carol and Dave.
    participants: Vec<Participant>,
}

impl Calls {
    fn start(io: IoChoice, homes: [[usize; 2]; 2], profile: SrtpProfile) -> Self {
        let (dataplane, mut links) = start(io, 2);
        let bridge = dataplane.local_addresses()[0];
        let mut participants = Vec::new();
        for (conference, homes) in (1..).zip(homes) {
            let spread = homes[0] != homes[1];
            for worker in (0..2).filter(|worker| homes.contains(worker)) {
                create_conference(&mut links[worker], conference);
            }
            for (n, home) in (0..).zip(homes) {
                let endpoint = 2 * conference - 1 + n;
                create_endpoint(&mut links[home], conference, endpoint);
                if spread {
                    let remote = Command::CreateRemoteEndpoint {
                        conference: ConferenceId(conference),
                        endpoint: EndpointId(endpoint),
                        home: WorkerId::from_index(home),
                    };
                    links[1 - home].send(remote).unwrap();
                }
            }
            for (n, home) in (0..).zip(homes) {
                let endpoint = 2 * conference - 1 + n;
                let numbers = [&ALICE, &BOB, &CAROL, &DAVE][endpoint as usize - 1];
                let client = Client::new(bridge, home, endpoint);
                participants.push(join(&mut links, home, spread, client, numbers, profile));
            }
        }
        let mut calls = Self { dataplane: Some(dataplane), links, participants };
        let (mut events, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        // On a busy host a check may come before the worker has looked at its commands, and is rightly refused.
        let held = |calls: &Self| calls.stats().iter().map(|stats| stats.get(Counter::HeldEndpoints)).sum::<u64>();
        while held(&calls) < 4 {
            assert!(Instant::now() < deadline, "{:?}", calls.counted());
            std::thread::sleep(Duration::from_millis(1));
        }
        while !(1..=4).all(|endpoint| is_connected(&events, endpoint)) {
            assert!(Instant::now() < deadline, "{events:?}");
            calls.step();
            calls.links.iter_mut().for_each(|link| events.extend(std::iter::from_fn(|| link.poll_event())));
        }
        calls
    }

    fn step(&mut self) {
        for participant in &mut self.participants {
            participant.client.step();
            participant.collect();
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&[Participant]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Also if it is done: else their sockets fill while others take over time and again.
            self.step();
            if done(&self.participants) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {:?}", self.counted());
        }
    }

    fn stats(&self) -> [std::sync::Arc<WorkerStats>; 2] {
        let dataplane = self.dataplane.as_ref().expect("it runs");
        [0, 1].map(|worker| dataplane.stats(WorkerId::new(worker)))
    }

    fn counted(&self) -> Vec<(Counter, u64)> {
        let stats = self.stats();
        let sum = |counter: &Counter| (*counter, stats.iter().map(|stats| stats.get(*counter)).sum());
        Counter::ALL.iter().map(sum).filter(|(_, count)| *count > 0).collect()
    }

    /// What was dropped; of two answers to a check that was repeated, since the host is slow, the second one is.
    fn dropped(&self) -> Vec<(Counter, u64)> {
        let dropped = |(counter, _): &(Counter, u64)| {
            counter.metric() == "dropped" && *counter != Counter::DropStunUnknownTransaction
        };
        self.counted().into_iter().filter(dropped).collect()
    }

    fn take_over(&mut self, io: IoChoice, meanwhile: impl FnOnce()) {
        let dataplane = self.dataplane.take().expect("it runs");
        let (dataplane, links) = take_over(dataplane, io, meanwhile);
        (self.dataplane, self.links) = (Some(dataplane), links);
    }

    /// Sends the next packet of a participant's audio.
    fn say(&mut self, participant: usize, payload: &[u8]) {
        let Participant { numbers, .. } = self.participants[participant];
        self.participants[participant].send(numbers.opus, numbers.audio_ssrc, 0, payload.to_vec());
    }
}

/// Numbers that a participant heard, and that their packet indices are in a row.
fn heard(to: &Participant, from: &Numbers) -> Vec<u32> {
    let packets: Vec<_> = to.heard.iter().filter(|packet| packet.header.ssrc == from.audio_ssrc).collect();
    for pair in packets.windows(2) {
        let [before, after] = [pair[0], pair[1]].map(|packet| packet.header.sequence_number);
        assert_eq!(after, before.wrapping_add(1), "each packet index once, and none left out");
    }
    packets.iter().map(|packet| u32::from_be_bytes(packet.payload[..4].try_into().unwrap())).collect()
}

/// All participants talk without a pause while others take over so often, from one backend to the next.
fn talk_on(homes: [[usize; 2]; 2], take_overs: usize, profile: SrtpProfile) {
    let backends = backends();
    let mut calls = Calls::start(backends[0], homes, profile);
    let stop = AtomicBool::new(false);
    let sent = [const { AtomicU32::new(0) }; 4];
    std::thread::scope(|scope| {
        for (participant, sent) in calls.participants.iter_mut().zip(&sent) {
            let socket = participant.client.socket.try_clone().unwrap();
            let (bridge, numbers, stop) = (participant.client.bridge, participant.numbers, &stop);
            let seed = participant.client.endpoint as u8 * 16;
            let mut seal = context(key(seed + 1, profile), profile);
            scope.spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    let number = sent.load(Ordering::Acquire);
                    let header = rtp::header::Header {
                        version: 2,
                        payload_type: numbers.opus,
                        // It rolls over in the midst of it.
                        sequence_number: 65_400u16.wrapping_add(number as u16),
                        ssrc: numbers.audio_ssrc,
                        timestamp: number.wrapping_mul(240),
                        ..Default::default()
                    };
                    let payload = Bytes::copy_from_slice(&number.to_be_bytes());
                    let packet = rtp::packet::Packet { header, payload };
                    socket.send_to(&seal.encrypt_rtp(&packet.marshal().unwrap()).unwrap(), bridge).unwrap();
                    sent.store(number + 1, Ordering::Release);
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
        let mut longest = Duration::ZERO;
        for n in 1..=take_overs {
            let before = sent[0].load(Ordering::Acquire);
            let began = Instant::now();
            calls.take_over(backends[n % backends.len()], || {});
            longest = longest.max(began.elapsed());
            // Something is on its way at every hand-over.
            calls.until("media goes on", |_| sent[0].load(Ordering::Acquire) > before + 5);
        }
        stop.store(true, Ordering::Release);
        eprintln!("{take_overs} times in a row, {profile:?}: {longest:?} at most from suspend to go");
    });
    let sent: Vec<u32> = sent.iter().map(|sent| sent.load(Ordering::Acquire)).collect();
    let partner = |n: usize| n ^ 1;
    calls.until("all is heard", |participants| {
        (0..4).all(|n| heard(&participants[n], participants[partner(n)].numbers).len() >= sent[partner(n)] as usize)
    });
    calls.step();
    for n in 0..4 {
        let (to, from) = (&calls.participants[n], &calls.participants[partner(n)]);
        assert!(heard(to, from.numbers).into_iter().eq(0..sent[partner(n)]), "participant {n}: each once, in order");
        assert!(take_overs < 20 || to.rtcp_indices.len() > 1, "reports came all the while");
        assert!(to.rtcp_indices.is_sorted_by(|a, b| a < b), "{:?}", to.rtcp_indices);
    }
    assert_eq!(calls.dropped(), [], "nothing was refused, at any time");
}

#[test]
fn of_twenty_hand_overs_in_a_row_nobody_hears_anything() {
    talk_on([[0, 0], [1, 1]], 20, SrtpProfile::AeadAes128Gcm);
}

#[test]
fn nor_do_those_whose_call_is_spread_over_workers() {
    talk_on([[0, 1], [1, 0]], 8, SrtpProfile::Aes128CmHmacSha1_80);
}

/// A number of both sides rolls over between what is exported and what is received next, and each side's window is carried along.
#[test]
fn sequence_numbers_roll_over_at_the_moment_of_the_hand_over() {
    for (n, profile) in (0..).zip([SrtpProfile::AeadAes256Gcm, SrtpProfile::Aes128CmHmacSha1_80]) {
        let backends = backends();
        let mut calls = Calls::start(backends[n % backends.len()], [[1, 1], [0, 0]], profile);
        calls.participants[0].sequence[0] = 65_531;
        let sealed = |calls: &mut Calls, number: u32| {
            calls.participants[0].sealed(ALICE.opus, ALICE.audio_ssrc, 0, number.to_be_bytes().to_vec())
        };
        // 65,532, 65,534 and 65,535 come before; 0 and 1 wait in the socket; 2 comes after, and then 65,533, which is late.
        let datagrams: Vec<Vec<u8>> = (0..7).map(|number| sealed(&mut calls, number)).collect();
        let send = |calls: &Calls, number: usize| calls.participants[0].client.send(&datagrams[number]);
        [0, 2, 3].into_iter().for_each(|number| send(&calls, number));
        calls.until("before", |all| all[1].heard.len() == 3);
        let socket = calls.participants[0].client.socket.try_clone().unwrap();
        let bridge = calls.participants[0].client.bridge;
        let waiting = [4, 5, 3].map(|number| datagrams[number].clone());
        calls.take_over(backends[(n + 1) % backends.len()], || {
            for datagram in &waiting {
                socket.send_to(datagram, bridge).unwrap();
            }
        });
        for number in [6, 1, 2, 1, 5] {
            send(&calls, number);
        }
        calls.until("after", |all| all[1].heard.len() >= 7);
        let replays = |calls: &Calls| calls.stats().iter().map(|s| s.get(Counter::DropSrtpReplay)).sum::<u64>();
        let deadline = Instant::now() + PATIENCE;
        while replays(&calls) < 4 {
            assert!(Instant::now() < deadline, "{:?}", calls.counted());
        }
        calls.step();
        let payloads: Vec<u8> = calls.participants[1].heard.iter().map(|packet| packet.payload[3]).collect();
        assert_eq!(payloads, [0, 2, 3, 4, 5, 6, 1], "each once, what was late too");
        let indices: Vec<u16> =
            calls.participants[1].heard.iter().map(|packet| packet.header.sequence_number).collect();
        let first = indices[0];
        let expected = [0u16, 2, 3, 4, 5, 6, 1].map(|step| first.wrapping_add(step));
        assert_eq!(indices, expected, "and under the numbers of a stream without a break");
    }
}

/// The new process is refused, at any point before it goes: the old one has lost nothing.
#[test]
fn who_is_not_succeeded_goes_on_as_if_nothing_had_been() {
    for io in backends() {
        for other in backends() {
            let mut calls = Calls::start(io, [[0, 0], [1, 1]], SrtpProfile::AeadAes128Gcm);
            let mut number = 0u32;
            let mut say = |calls: &mut Calls| {
                calls.say(0, &number.to_be_bytes());
                calls.say(2, &number.to_be_bytes());
                number += 1;
            };
            for attempt in 0..6 {
                // A burst, of which some are on their way through io_uring now.
                (0..20).for_each(|_| say(&mut calls));
                let mut suspended = calls.dataplane.take().unwrap().suspend().map_err(|(_, error)| error).unwrap();
                let mut stats = Vec::new();
                if attempt % 3 > 0 {
                    let (state, sockets) = suspended.export().unwrap();
                    let again = suspended.export().unwrap().0;
                    assert_eq!((again.workers(), again.descriptors()), (2, sockets.len()));
                    if attempt % 3 > 1 {
                        let config = config_of(&[calls.participants[0].client.bridge], 2, other);
                        let prepared = Dataplane::start_from(config, state, sockets).unwrap();
                        // It dies.
                        drop(prepared);
                    }
                }
                (0..10).for_each(|_| say(&mut calls));
                let dataplane = suspended.resume();
                stats.extend([0, 1].map(|worker| dataplane.stats(WorkerId::new(worker))));
                calls.dataplane = Some(dataplane);
                let expected = 30 * (attempt + 1);
                calls.until("all arrives", |all| [1, 3].iter().all(|to| all[*to].heard.len() >= expected));
            }
            for (to, from) in [(1, &ALICE), (3, &CAROL)] {
                assert!(heard(&calls.participants[to], from).into_iter().eq(0..180), "{io:?} {other:?}: {to}");
            }
            assert_eq!(calls.dropped(), [], "{io:?} {other:?}");
        }
    }
}

/// While nobody receives, nothing is counted and nothing sent.
#[test]
fn suspended_workers_do_nothing() {
    for io in backends() {
        let mut calls = Calls::start(io, [[0, 0], [1, 1]], SrtpProfile::AeadAes128Gcm);
        let stats = calls.stats();
        let suspended = calls.dataplane.take().unwrap().suspend().map_err(|(_, error)| error).unwrap();
        let values = || Counter::ALL.iter().map(|c| stats.iter().map(|s| s.get(*c)).sum::<u64>()).collect::<Vec<_>>();
        let before = values();
        let deadline = Instant::now() + Duration::from_millis(100);
        while Instant::now() < deadline {
            calls.say(0, &0u32.to_be_bytes());
            calls.step();
        }
        assert_eq!(calls.participants[1].heard.len(), 0);
        assert_eq!(values(), before);
        calls.dataplane = Some(suspended.resume());
        calls.until("it goes on", |all| !all[1].heard.is_empty());
    }
}

/// What was measured before the hand-over is what the successor does, and what it says.
#[test]
fn a_successor_says_why_it_has_its_backend() {
    let (dataplane, _links) = start(IoChoice::Mmsg, 1);
    let mut config = config_of(dataplane.local_addresses(), 1, IoChoice::Auto);
    Dataplane::choose_backend(&mut config).unwrap();
    let chosen = config.chosen.clone().expect("chosen");
    let mut suspended = dataplane.suspend().map_err(|(_, error)| error).unwrap();
    let (state, sockets) = suspended.export().unwrap();
    let prepared = Dataplane::start_from(config, state, sockets).unwrap();
    drop(suspended);
    let dataplane = prepared.go();
    assert_eq!(dataplane.backend(), (chosen.backend.name(), chosen.reason.as_str()));
    assert!(!chosen.reason.starts_with("asked for"), "{}", chosen.reason);
}

/// What does not fit is refused, with what to do about it, and the sockets are as they were.
#[test]
fn what_does_not_fit_is_refused_and_the_old_one_goes_on() {
    use ringbridge_dataplane::StartError;
    let mut calls = Calls::start(IoChoice::Mmsg, [[0, 0], [1, 1]], SrtpProfile::AeadAes128Gcm);
    let bridge = calls.participants[0].client.bridge;
    let mut suspended = calls.dataplane.take().unwrap().suspend().map_err(|(_, error)| error).unwrap();
    let fits = config_of(&[bridge], 2, IoChoice::Mmsg);
    let elsewhere = SocketAddr::new([127, 0, 0, 2].into(), bridge.port());
    let configs = [
        ("fewer workers", DataplaneConfig { workers: 1, ..fits.clone() }),
        ("more workers", DataplaneConfig { workers: 3, ..fits.clone() }),
        ("another address", config_of(&[elsewhere], 2, IoChoice::Mmsg)),
        ("more addresses", config_of(&[bridge, elsewhere], 2, IoChoice::Mmsg)),
        ("another port", DataplaneConfig { port: bridge.port() ^ 1, ..fits.clone() }),
        ("fewer endpoints", DataplaneConfig { max_endpoints: 1, ..fits.clone() }),
    ];
    for (what, config) in configs {
        let (state, sockets) = suspended.export().unwrap();
        let error = Dataplane::start_from(config, state, sockets).expect_err(what).to_string();
        assert!(error.contains("keep") || error.contains("raise") || error.contains("as many"), "{what}: {error}");
    }
    let (state, mut sockets) = suspended.export().unwrap();
    sockets.truncate(1);
    assert!(matches!(Dataplane::start_from(fits.clone(), state, sockets), Err(StartError::Parts { .. })));
    // A descriptor that is no socket at all, and one of another sort.
    for wrong in [
        std::os::fd::OwnedFd::from(std::fs::File::open("/dev/null").unwrap()),
        std::net::TcpListener::bind(bridge).unwrap().into(),
    ] {
        let (state, mut sockets) = suspended.export().unwrap();
        sockets[1] = wrong;
        assert!(matches!(Dataplane::start_from(fits.clone(), state, sockets), Err(StartError::Socket { .. })));
    }
    calls.dataplane = Some(suspended.resume());
    calls.say(0, &0u32.to_be_bytes());
    calls.until("it goes on", |all| all[1].heard.len() == 1);
}
