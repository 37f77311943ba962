//! A batch that goes to its receivers together is, to each of them, the same as its packets one by one.

mod forward_call;

use forward_call::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ringbridge_dataplane::conference::ForwarderConfig;
use ringbridge_dataplane::congestion::shedding::Shedding;
use ringbridge_dataplane::ice::IceCredentials;
use ringbridge_dataplane::ids::{ConferenceId, EndpointId, WorkerId};
use ringbridge_dataplane::media::MediaKind;
use ringbridge_dataplane::messages::{Command, CreateError, Event, NewEndpoint};
use ringbridge_dataplane::stats::Counter;

const CLIENTS: usize = 5;

/// Everybody publishes sound and a camera in two layers; numbers differ, and one cannot decode VP8 at all.
fn call(workers: usize) -> Call {
    let mut call = Call::spread(ForwarderConfig::default(), workers, 256);
    for n in 0..CLIENTS {
        let mut media = [JICOFO, OTHER, PLAIN][n % 3].media();
        if n == 4 {
            media.codecs.retain(|pt| pt.kind == MediaKind::Audio);
        }
        let first = 100 * (n as u32 + 1);
        let sources =
            vec![audio_source(&format!("{n}-a0"), first), video_source(&format!("{n}-v0"), &[first + 1, first + 2])];
        call.join(media, sources);
    }
    call.settle();
    call
}

fn opus_of(n: usize) -> u8 {
    [JICOFO, OTHER, PLAIN][n % 3].opus
}

fn vp8_of(n: usize) -> u8 {
    [JICOFO, OTHER, PLAIN][n % 3].vp8
}

/// SSRC, sequence number, timestamp, payload.
type Got = (u32, u16, u32, Vec<u8>);

/// What every client got, in order.
fn received(call: &mut Call) -> Vec<Vec<Got>> {
    let of = |p: RtpPacket| (p.header.ssrc, p.header.sequence_number, p.header.timestamp, p.payload.to_vec());
    call.clients.iter_mut().map(|client| client.take_rtp().into_iter().map(of).collect()).collect()
}

fn play(seed: u64, workers: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut single, mut batched) = (call(workers), call(workers));
    batched.now = single.now;
    let mut cameras: Vec<[Camera; 2]> = (0..CLIENTS)
        .map(|n| {
            let ssrc = 100 * (n as u32 + 1);
            [Camera::new(vp8_of(n), ssrc + 1, 1, 180), Camera::new(vp8_of(n), ssrc + 2, 1, 360)]
        })
        .collect();
    let mut sound = [0u16; CLIENTS];
    let mut total = 0;
    for round in 0..60 {
        let mut batch = Vec::new();
        for _ in 0..random.random_range(1..12) {
            let n = random.random_range(0..CLIENTS);
            if random.random_bool(0.3) {
                sound[n] += 1;
                let sequence = sound[n];
                batch.push((
                    n,
                    packet(opus_of(n), sequence, u32::from(sequence) * 960, 100 * (n as u32 + 1), &[n as u8; 40]),
                ));
            } else {
                let layer = random.random_range(0..2);
                let (key, packets) = (round == 0 || random.random_bool(0.4), random.random_range(1..9));
                let frame = cameras[n][layer].frame(key, packets);
                batch.extend(frame.into_iter().filter(|_| !random.random_bool(0.02)).map(|p| (n, p)));
            }
        }
        total += batch.len();
        let mut sealed: Vec<_> = batch.iter().map(|(n, p)| (*n, batched.seal(*n, p))).collect();
        batched.send_batch(&mut sealed);
        for (n, p) in &batch {
            single.send(*n, p);
        }
        if round % 7 == 3 {
            let (client, height) = (random.random_range(0..CLIENTS), [180, 360][random.random_range(0..2)]);
            single.want(client, height);
            batched.want(client, height);
        }
        if workers == 1 {
            assert_eq!(received(&mut batched), received(&mut single), "seed {seed}, round {round}");
        }
        let step = random.random_range(1..40);
        single.millis(step);
        batched.millis(step);
    }
    assert!(total > 500, "{total} packets");
    for counter in [Counter::PacketsForwarded, Counter::DropReceiverLacksCodec, Counter::CrossWorkerPackets] {
        assert_eq!(batched.count(counter), single.count(counter), "{counter:?}, seed {seed}");
    }
    assert_eq!(accounted(&single), (total * (CLIENTS - 1)) as u64, "seed {seed}");
    let forwarded = batched.count(Counter::PacketsForwarded);
    assert!(forwarded > total as u64, "{forwarded} of {total} sent");
    assert!(batched.count(Counter::DropReceiverLacksCodec) > 0);
    assert_eq!(batched.count(Counter::DropOutputFull), 0);
    if workers > 1 {
        // Who crosses first differs; what comes of each stream does not.
        let by_stream = |call: &mut Call| {
            let mut all = received(call);
            all.iter_mut().for_each(|packets| packets.sort());
            all
        };
        assert_eq!(by_stream(&mut batched), by_stream(&mut single), "seed {seed}");
    }
}

/// What became of the packets, once per receiver.
fn accounted(call: &Call) -> u64 {
    let per_receiver = [
        Counter::PacketsForwarded,
        Counter::LeftOutUnwanted,
        Counter::LeftOutAwaitsKeyframe,
        Counter::LeftOutNotConnected,
        Counter::DropShed,
        Counter::DropReceiverLacksCodec,
        Counter::DropUnsignalled,
    ];
    let for_all = [Counter::DropForceMuted, Counter::DropUnknownPayloadType];
    let sum = |counters: &[Counter]| counters.iter().map(|counter| call.count(*counter)).sum::<u64>();
    sum(&per_receiver) + sum(&for_all) * (CLIENTS as u64 - 1)
}

#[test]
fn every_packet_goes_to_every_receiver_or_is_counted_with_the_reason() {
    let (mut call, mut random) = (call(1), StdRng::seed_from_u64(7));
    let mut cameras: Vec<_> = (0..CLIENTS).map(|n| Camera::new(vp8_of(n), 100 * (n as u32 + 1) + 1, 1, 180)).collect();
    let (mut sound, mut total) = (0u16, 0);
    for round in 0..300 {
        let n = random.random_range(0..CLIENTS);
        let endpoint = call.clients[n].id;
        match round % 6 {
            0 => call.forwarders[0].set_shedding(Shedding::at(random.random_range(0..19))),
            1 => call.forwarders[0].set_path(endpoint, None),
            2 => call.forwarders[0].set_path(endpoint, Some(path(n))),
            3 => call.want(n, [0, 180][random.random_range(0..2)]),
            4 => {
                let video = random.random_bool(0.3);
                call.command(Command::SetForceMute { endpoint, audio: false, video });
            }
            _ => call.millis(30),
        }
        sound += 1;
        call.send(n, &packet(opus_of(n), sound, u32::from(sound) * 960, 100 * (n as u32 + 1), &[1; 40]));
        let frame = cameras[n].frame(random.random_bool(0.3), random.random_range(1..4));
        frame.iter().for_each(|packet| call.send(n, packet));
        total += 1 + frame.len();
        assert_eq!(accounted(&call), (total * (CLIENTS - 1)) as u64, "round {round}");
    }
    let none = |counter: &Counter| call.count(*counter) == 0;
    let reasons = [
        Counter::LeftOutUnwanted,
        Counter::LeftOutAwaitsKeyframe,
        Counter::LeftOutNotConnected,
        Counter::DropShed,
        Counter::DropForceMuted,
    ];
    assert_eq!(reasons.iter().find(|counter| none(counter)), None, "each of them occurs");
}

#[test]
fn to_each_receiver_it_is_the_same() {
    (1..=6).for_each(|seed| play(seed, 1));
}

#[test]
fn over_several_workers_too() {
    (1..=3).for_each(|seed| play(seed, 2));
}

#[test]
fn a_receiver_is_given_a_batch_in_one_piece() {
    let mut call = call(1);
    let frame = Camera::new(vp8_of(0), 101, 1, 180).frame(true, 8);
    for (n, p) in frame.iter().enumerate() {
        let mut datagram = call.seal(0, p);
        let slot = call.clients[0].slot;
        call.forwarders[0].gather_rtp(call.now, slot, &mut datagram, &mut call.sink);
        assert!(call.sink.datagrams.is_empty(), "packet {n} waits");
    }
    call.forwarders[0].release(call.now, &mut call.sink);
    let ports: Vec<_> = call.sink.datagrams.iter().map(|(to, _)| to.remote.port()).collect();
    // Client 4 has no VP8.
    let expected: Vec<_> = (1..4).flat_map(|n| [5000 + n; 8]).collect();
    assert_eq!(ports, expected);
}

#[test]
fn a_batch_of_any_length_fits() {
    let mut call = call(1);
    let mut camera = Camera::new(vp8_of(0), 101, 1, 180);
    let mut batch: Vec<_> = camera.frame(true, 200).iter().map(|p| (0, call.seal(0, p))).collect();
    call.send_batch(&mut batch);
    assert_eq!(received(&mut call).iter().map(Vec::len).collect::<Vec<_>>(), [0, 200, 200, 200, 0]);
    assert_eq!(call.count(Counter::DropOutputFull), 0);
}

#[test]
fn a_creation_that_waits_behind_packets_and_is_refused_then_says_so() {
    let mut call = call(1);
    let speak = |call: &mut Call, sequence: u16| {
        let packet = packet(opus_of(0), sequence, 960 * u32::from(sequence), 100, b"sound");
        let (mut datagram, slot) = (call.seal(0, &packet), call.clients[0].slot);
        call.forwarders[0].gather_rtp(call.now, slot, &mut datagram, &mut call.sink);
    };
    let refusals = |call: &mut Call| {
        let of = |event| match event {
            Event::EndpointRefused { endpoint, error } => Some((endpoint, error)),
            _ => None,
        };
        std::iter::from_fn(|| call.forwarders[0].poll_event()).filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(refusals(&mut call), []);
    let create = |conference, endpoint| {
        let ice = IceCredentials { ufrag: "0x".into(), pwd: "password".into() };
        let new = NewEndpoint { conference, endpoint, label: "x".into(), ice, controlling: true };
        Command::CreateEndpoint(Box::new(new))
    };
    let (taken, nobody, elsewhere) = (call.clients[1].id, EndpointId(900), ConferenceId(77));
    speak(&mut call, 1);
    for command in [
        create(CONFERENCE, taken),
        create(elsewhere, nobody),
        Command::CreateRemoteEndpoint { conference: CONFERENCE, endpoint: nobody, home: WorkerId::new(9) },
    ] {
        call.forwarders[0].handle_command(call.now, command);
    }
    assert_eq!(refusals(&mut call), [], "they wait, as the packet does");
    call.forwarders[0].release(call.now, &mut call.sink);
    let expected =
        [(taken, CreateError::Taken), (nobody, CreateError::UnknownConference), (nobody, CreateError::UnknownWorker)];
    assert_eq!(refusals(&mut call), expected);
    assert_eq!(call.count(Counter::DropCommandUnknown), 3);
    // Whose id was asked for again is there as before, and the packet arrived.
    call.deliver();
    assert_eq!(received(&mut call).iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 1, 1, 1]);
    assert!(call.forwarders[0].slot(nobody).is_none());
}

#[test]
fn a_command_comes_after_the_packets_that_were_gathered_before_it() {
    let mut call = call(1);
    let send = |call: &mut Call, sequence: u16| {
        let packet = packet(opus_of(0), sequence, 960 * u32::from(sequence), 100, b"sound");
        let (mut datagram, slot) = (call.seal(0, &packet), call.clients[0].slot);
        call.forwarders[0].gather_rtp(call.now, slot, &mut datagram, &mut call.sink);
    };
    send(&mut call, 1);
    let endpoint = call.clients[1].id;
    call.forwarders[0].handle_command(call.now, Command::ExpireEndpoint { endpoint });
    send(&mut call, 2);
    call.forwarders[0].release(call.now, &mut call.sink);
    send(&mut call, 3);
    // Timers, too, find nothing waiting.
    call.forwarders[0].handle_timeout(call.now, &mut call.sink);
    call.deliver();
    assert_eq!(received(&mut call).iter().map(Vec::len).collect::<Vec<_>>(), [0, 2, 3, 3, 3]);
    assert_eq!((call.count(Counter::DropOutputFull), call.count(Counter::DropCommandUnknown)), (0, 0));
}
