//! Media between bridges: what crosses a relay, how often, under which numbers, and what does not.

mod forward_call;
mod relay_call;

use forward_call::*;
use relay_call::*;
use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::media::{Limit, MediaKind};
use ringbridge_dataplane::messages::Command;
use ringbridge_dataplane::stats::Counter;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use webrtc_util::marshal::Unmarshal;

fn sources(name: &str, ssrc: u32) -> Vec<ringbridge_dataplane::media::SourceDescription> {
    vec![audio_source(&format!("{name}-a0"), ssrc), video_source(&format!("{name}-v0"), &[ssrc + 1, ssrc + 2])]
}

fn audio(numbers: &Numbers, ssrc: u32, n: u16) -> RtpPacket {
    with_extension(packet(numbers.opus, n, 960 * u32::from(n), ssrc, &[n as u8; 40]), numbers.level, &[30])
}

/// Whoever is behind a side wants everything of an endpoint.
fn want_all(bridges: &mut Bridges, side: usize, bridge: usize, client: usize, name: &str) {
    let id = bridges.calls[bridge].clients[client].id;
    bridges.want(side, id, &format!("{name}-v0"), Limit::Unlimited);
}

/// A on bridge 0 sends to B and C on bridge 1. Returns the sides, A, its id behind the relay, B and C.
fn pair(bridges: &mut Bridges, table: &Numbers) -> ([usize; 2], usize, EndpointId, [usize; 2]) {
    let sides = bridges.connect(0, 1, 0, &table.media());
    let (a, behind) = bridges.join(0, JICOFO.media(), sources("a", 10), &[sides[1]]);
    let b = bridges.join(1, OTHER.media(), vec![], &[]).0;
    let c = bridges.join(1, PLAIN.media(), vec![], &[]).0;
    want_all(bridges, sides[0], 0, a, "a");
    (sides, a, behind[0], [b, c])
}

/// Everybody has other numbers: the sender, the relay, and both receivers.
#[test]
fn numbers_are_translated_to_the_relays_table_and_back() {
    let mut bridges = Bridges::new(2);
    let table =
        Numbers { opus: 101, red: None, vp8: 102, rtx: Some(103), level: 9, mid: 11, tcc: 12, orientation: Some(2) };
    let (sides, a, _, [b, c]) = pair(&mut bridges, &table);
    let mut camera = Camera::new(JICOFO.vp8, 11, 100, 180);
    for n in 0..3 {
        bridges.send(0, a, &audio(&JICOFO, 10, n));
        for p in camera.frame(n == 0, 2) {
            let p = with_extension(p, JICOFO.orientation.unwrap(), &[1]);
            bridges.send(0, a, &with_extension(p, JICOFO.tcc, &[0, 1]));
        }
    }
    // What goes over the wire: the relay's numbers, and otherwise the sender's.
    let mut opens = context(&keys(100).outbound);
    let wire: Vec<RtpPacket> = bridges
        .take_sent(sides[0])
        .iter()
        .map(|datagram| RtpPacket::unmarshal(&mut opens.decrypt_rtp(datagram).unwrap()).unwrap())
        .collect();
    assert_eq!(wire.len(), 9);
    for p in &wire {
        let (number, id, value) = if p.header.ssrc == 10 { (101, 9, 30) } else { (102, 2, 1) };
        assert_eq!(p.header.payload_type, number);
        assert_eq!(p.header.get_extension(id).as_deref(), Some(&[value][..]));
        assert_eq!(p.header.extensions.len(), 1, "transport-wide numbers are nobody's on a relay");
    }
    let video: Vec<_> = wire.iter().filter(|p| p.header.ssrc == 11).map(|p| p.header.sequence_number).collect();
    assert_eq!(video, [100, 101, 102, 103, 104, 105]);
    assert_eq!(wire.iter().filter(|p| p.header.ssrc == 11).map(|p| vp8_ids(&p.payload).0).max(), Some(503));
    for (client, numbers) in [(b, OTHER), (c, PLAIN)] {
        let got = bridges.calls[1].clients[client].take_rtp();
        assert_eq!(got.len(), 9);
        for p in got {
            let (kind, number) =
                if p.header.ssrc == 10 { (MediaKind::Audio, numbers.opus) } else { (MediaKind::Video, numbers.vp8) };
            assert_eq!(p.header.payload_type, number);
            if kind == MediaKind::Audio {
                assert_eq!(p.header.get_extension(numbers.level).as_deref(), Some(&[30][..]));
            } else if let Some(id) = numbers.orientation {
                assert_eq!(p.header.get_extension(id).as_deref(), Some(&[1][..]));
            }
        }
    }
    assert_eq!((bridges.count(0, Counter::RelayPacketsSent), bridges.count(1, Counter::RelayPacketsReceived)), (9, 9));
    assert_eq!(bridges.count(0, Counter::RelayBytesSent), bridges.count(1, Counter::RelayBytesReceived));
}

/// Three bridges in one mesh, two clients on each: a packet crosses to each other bridge once, and comes to everybody once.
#[test]
fn in_a_full_mesh_each_packet_crosses_each_relay_once() {
    let mut bridges = Bridges::new(3);
    let links: Vec<[usize; 2]> =
        [(0, 1), (0, 2), (1, 2)].into_iter().map(|(a, b)| bridges.connect(a, b, 0, &JICOFO.media())).collect();
    // Where somebody on a bridge is known by: the sides of others towards it.
    let towards = |bridge: usize| -> Vec<usize> {
        let ends = [[0, 1], [0, 2], [1, 2]];
        let far = |(at, end): (usize, [usize; 2])| match end {
            [a, _] if a == bridge => Some(links[at][1]),
            [_, b] if b == bridge => Some(links[at][0]),
            _ => None,
        };
        ends.into_iter().enumerate().filter_map(far).collect()
    };
    for bridge in 0..3 {
        for n in 0..2u32 {
            let ssrc = 100 * (1 + bridge as u32 * 2 + n);
            bridges.join(bridge, JICOFO.media(), vec![audio_source(&format!("p{ssrc}-a0"), ssrc)], &towards(bridge));
        }
    }
    for bridge in 0..3 {
        for client in 0..2 {
            let ssrc = 100 * (1 + bridge as u32 * 2 + client as u32);
            bridges.send(bridge, client, &audio(&JICOFO, ssrc, 1));
        }
    }
    let out: Vec<usize> = (0..6).map(|side| bridges.take_sent(side).len()).collect();
    assert_eq!(out, [2; 6], "each relay is given what its own bridge's two clients sent");
    for bridge in 0..3 {
        assert_eq!(bridges.count(bridge, Counter::RelayPacketsSent), 4);
        for client in 0..2 {
            assert_eq!(bridges.calls[bridge].clients[client].take_rtp().len(), 5, "the five others, once each");
        }
        assert_eq!(
            bridges.count(bridge, Counter::DropRelayLooped) + bridges.count(bridge, Counter::DropUnknownSsrc),
            0
        );
    }
}

/// A - B in one mesh, B - C in another: what A sends comes to C by B, and nothing comes back.
#[test]
fn the_bridge_between_two_meshes_passes_on() {
    let mut bridges = Bridges::new(3);
    let ab = bridges.connect(0, 1, 0, &JICOFO.media());
    let bc = bridges.connect(1, 2, 1, &OTHER.media());
    let (a, ids) = bridges.join(0, JICOFO.media(), sources("a", 10), &[ab[1], bc[1]]);
    let c = bridges.join(2, PLAIN.media(), sources("c", 30), &[bc[0], ab[0]]).0;
    // C's bridge asks B's, and that one asks A's.
    bridges.want(bc[0], ids[0], "a-v0", Limit::Max(180));
    want_all(&mut bridges, ab[0], 0, a, "a");
    let mut camera = Camera::new(JICOFO.vp8, 11, 1, 180);
    bridges.send(0, a, &audio(&JICOFO, 10, 1));
    bridges.send(0, a, &camera.one(true));
    bridges.send(2, c, &audio(&PLAIN, 30, 1));
    assert_eq!(bridges.calls[2].clients[c].take_rtp().len(), 2);
    assert_eq!(bridges.calls[0].clients[a].take_rtp().len(), 1);
    let out: Vec<usize> = (0..4).map(|side| bridges.take_sent(side).len()).collect();
    assert_eq!(out, [2, 1, 2, 1]);
    // C loses a packet and asks: the request goes hop by hop.
    bridges.millis(300);
    bridges.calls[0].clients[a].take_rtcp::<PictureLossIndication>();
    bridges.calls[2].send_rtcp(c, &PictureLossIndication { sender_ssrc: 1, media_ssrc: 11 });
    bridges.carry();
    let expected = PictureLossIndication { sender_ssrc: FEEDBACK.video.get(), media_ssrc: 11 };
    assert_eq!(bridges.calls[0].clients[a].take_rtcp::<PictureLossIndication>(), [expected]);
}

/// Three meshes wired into a ring by a faulty focus, which announces everybody everywhere: each packet comes once, and none for ever.
#[test]
fn a_ring_of_meshes_is_no_storm() {
    let mut bridges = Bridges::new(3);
    bridges.most = 40;
    let [ab, bc, ca] =
        [(0, 1, 0), (1, 2, 1), (2, 0, 2)].map(|(a, b, mesh)| bridges.connect(a, b, mesh, &JICOFO.media()));
    // A is announced to everybody by every relay; those of A's own bridge would bring it back.
    let all = [ab[1], bc[1], ca[1], ca[0], bc[0], ab[0]];
    let (a, ids) = bridges.join(0, JICOFO.media(), sources("a", 10), &all);
    let b = bridges.join(1, JICOFO.media(), vec![], &[]).0;
    let c = bridges.join(2, JICOFO.media(), vec![], &[]).0;
    want_all(&mut bridges, ab[0], 0, a, "a");
    want_all(&mut bridges, ca[1], 0, a, "a");
    bridges.want(bc[0], ids[0], "a-v0", Limit::Unlimited);
    bridges.want(ca[0], ids[1], "a-v0", Limit::Unlimited);
    let mut camera = Camera::new(JICOFO.vp8, 11, 1, 180);
    for n in 0..5 {
        bridges.send(0, a, &audio(&JICOFO, 10, n));
        bridges.send(0, a, &camera.one(n == 0));
    }
    assert!(bridges.calls[0].clients[a].take_rtp().is_empty(), "nobody hears itself");
    for (bridge, client) in [(1, b), (2, c)] {
        assert_eq!(bridges.calls[bridge].clients[client].take_rtp().len(), 10);
    }
    assert!(bridges.count(0, Counter::DropRelayLooped) > 0);
}

/// The layers above what anybody behind a relay wants stay at home, and are counted.
#[test]
fn a_layer_that_nobody_there_wants_does_not_cross() {
    let mut bridges = Bridges::new(2);
    let sides = bridges.connect(0, 1, 0, &JICOFO.media());
    let (a, _) = bridges.join(0, JICOFO.media(), sources("a", 10), &[sides[1]]);
    bridges.join(1, OTHER.media(), vec![], &[]);
    let id = bridges.calls[0].clients[a].id;
    let (mut low, mut high) = (Camera::new(JICOFO.vp8, 11, 1, 180), Camera::new(JICOFO.vp8, 12, 1, 720));
    let mut frames = |bridges: &mut Bridges, count: usize, key: bool| {
        for n in 0..count {
            bridges.millis(30);
            for p in [low.one(key && n == 0), high.one(key && n == 0)] {
                bridges.send(0, a, &p);
            }
        }
        let sent = bridges.take_sent(sides[0]);
        let on = |ssrc: u32| sent.iter().filter(|d| d[8..12] == ssrc.to_be_bytes()).count();
        (on(11), on(12))
    };
    assert_eq!(frames(&mut bridges, 5, true), (0, 0), "nobody has said anything");
    assert_eq!(bridges.count(0, Counter::RelayUnwanted), 10);
    bridges.want(sides[0], id, "a-v0", Limit::Max(180));
    assert_eq!(frames(&mut bridges, 2, false), (0, 0), "not in the middle");
    assert_eq!(bridges.count(0, Counter::RelayAwaitsKeyframe), 2);
    let pli = |bridges: &mut Bridges| -> Vec<u32> {
        bridges.calls[0].clients[a].take_rtcp::<PictureLossIndication>().iter().map(|pli| pli.media_ssrc).collect()
    };
    assert!(pli(&mut bridges).contains(&11));
    assert_eq!(frames(&mut bridges, 10, true), (10, 0));
    let unwanted = bridges.count(0, Counter::RelayUnwanted);
    assert_eq!(unwanted, 22, "all of the high encoding");
    bridges.millis(300);
    bridges.want(sides[0], id, "a-v0", Limit::Max(720));
    assert_eq!(frames(&mut bridges, 2, false), (2, 0));
    assert_eq!(pli(&mut bridges), [12], "asked for at once");
    assert_eq!(frames(&mut bridges, 5, true), (5, 5));
    bridges.want(sides[0], id, "a-v0", Limit::Off);
    assert_eq!(frames(&mut bridges, 3, false), (0, 0));
    // A screen whose lower encodings are off: the lowest that comes crosses, however large.
    bridges.millis(300);
    bridges.want(sides[0], id, "a-v0", Limit::Max(180));
    for n in 0..30 {
        bridges.millis(30);
        let p = high.one(n % 10 == 0);
        bridges.send(0, a, &p);
    }
    assert!(bridges.take_sent(sides[0]).iter().filter(|d| d[8..12] == 12u32.to_be_bytes()).count() >= 10);
}

/// An encoding pauses while its sender counts on over many roll-overs: the other bridge can still open it, and misses nothing.
#[test]
fn an_encoding_may_pause_over_any_number_of_roll_overs() {
    let mut bridges = Bridges::new(2);
    let (sides, a, _, [b, _]) = pair(&mut bridges, &JICOFO);
    let id = bridges.calls[0].clients[a].id;
    let mut camera = Camera::new(JICOFO.vp8, 11, 65_000, 180);
    let mut got = 0;
    for round in 0..4 {
        for n in 0..700 {
            let p = camera.one(n == 0);
            bridges.send(0, a, &p);
        }
        got += bridges.calls[1].clients[b].take_rtp().len();
        assert_eq!(got, 700 * (round + 1));
        bridges.want(sides[0], id, "a-v0", Limit::Off);
        // Enough for a roll-over and a half, as nobody but the bridge sees them.
        for _ in 0..100_000 {
            camera.sequence = camera.sequence.wrapping_add(1);
            if camera.sequence.is_multiple_of(500) {
                let p = camera.one(false);
                bridges.send(0, a, &p);
            }
        }
        bridges.want(sides[0], id, "a-v0", Limit::Unlimited);
        bridges.millis(250);
    }
    assert_eq!(bridges.count(1, Counter::DropSrtpAuth) + bridges.count(1, Counter::DropSrtpReplay), 0);
    assert_eq!(bridges.count(1, Counter::NackSent), 0);
}

/// The sender connects anew and counts from elsewhere; the streams on the relay go on.
#[test]
fn a_sender_that_starts_anew_goes_on_at_the_other_bridge() {
    let mut bridges = Bridges::new(2);
    let (_, a, _, [b, c]) = pair(&mut bridges, &OTHER);
    let mut camera = Camera::new(JICOFO.vp8, 11, 30_000, 180);
    for n in 0..10 {
        bridges.send(0, a, &audio(&JICOFO, 10, 40_000 + n));
        let p = camera.one(n == 0);
        bridges.send(0, a, &p);
    }
    bridges.calls[0].rekey(a, 77);
    let mut camera = Camera::new(JICOFO.vp8, 11, 5, 180);
    for n in 0..10 {
        bridges.send(0, a, &audio(&JICOFO, 10, 3 + n));
        let p = camera.one(n == 0);
        bridges.send(0, a, &p);
    }
    for client in [b, c] {
        let got = bridges.calls[1].clients[client].take_rtp();
        assert_eq!(got.len(), 40);
        for ssrc in [10, 11] {
            let numbers: Vec<u16> =
                got.iter().filter(|p| p.header.ssrc == ssrc).map(|p| p.header.sequence_number).collect();
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{numbers:?}");
        }
    }
    assert_eq!(bridges.count(1, Counter::DropSrtpAuth) + bridges.count(1, Counter::DropSrtpReplay), 0);
}

/// Somebody leaves, and comes back with the same SSRCs and lower numbers; and the relay gets new keys.
#[test]
fn an_ssrc_that_comes_back_and_new_keys_are_no_replay() {
    let mut bridges = Bridges::new(2);
    let (sides, a, behind, [b, _]) = pair(&mut bridges, &JICOFO);
    for n in 0..10 {
        bridges.send(0, a, &audio(&JICOFO, 10, 500 + n));
    }
    assert_eq!(bridges.calls[1].clients[b].take_rtp().len(), 10);
    let gone = bridges.calls[0].clients[a].id;
    bridges.command(0, Command::ExpireEndpoint { endpoint: gone });
    bridges.command(1, Command::ExpireEndpoint { endpoint: behind });
    let (again, _) = bridges.join(0, JICOFO.media(), sources("a", 10), &[sides[1]]);
    for n in 0..10 {
        bridges.send(0, again, &audio(&JICOFO, 10, 3 + n));
    }
    assert_eq!(bridges.calls[1].clients[b].take_rtp().len(), 10);
    // New keys on both sides of the relay.
    let one = keys(90);
    let two = ringbridge_dataplane::srtp::SrtpKeys {
        profile: one.profile,
        inbound: one.outbound.clone(),
        outbound: one.inbound.clone(),
    };
    for (side, keys) in [(sides[0], one), (sides[1], two)] {
        let (bridge, endpoint) = (bridges.sides[side].bridge, bridges.sides[side].relay);
        bridges.command(bridge, Command::SetSrtp { endpoint, keys: Box::new(keys) });
    }
    for n in 10..20 {
        bridges.send(0, again, &audio(&JICOFO, 10, 3 + n));
    }
    let got = bridges.calls[1].clients[b].take_rtp();
    assert_eq!(got.len(), 10);
    assert_eq!(bridges.count(1, Counter::DropSrtpAuth) + bridges.count(1, Counter::DropSrtpReplay), 0);
}

/// Two sources that share an SSRC of a higher encoding: the second one does not cross, or SRTP indices would be used twice.
#[test]
fn of_two_sources_with_one_ssrc_the_first_crosses() {
    let mut bridges = Bridges::new(2);
    let sides = bridges.connect(0, 1, 0, &JICOFO.media());
    let (a, _) = bridges.join(0, JICOFO.media(), vec![video_source("a-v0", &[11, 12])], &[sides[1]]);
    let (b, _) = bridges.join(0, JICOFO.media(), vec![video_source("b-v0", &[21, 12])], &[]);
    want_all(&mut bridges, sides[0], 0, a, "a");
    want_all(&mut bridges, sides[0], 0, b, "b");
    for (client, ssrc) in [(a, 11), (a, 12), (b, 21), (b, 12)] {
        bridges.send(0, client, &Camera::new(JICOFO.vp8, ssrc, 1, 180).one(true));
    }
    let sent = bridges.take_sent(sides[0]);
    let ssrcs: Vec<u32> = sent.iter().map(|d| u32::from_be_bytes(d[8..12].try_into().unwrap())).collect();
    assert_eq!(ssrcs, [11, 12]);
    assert_eq!(bridges.count(0, Counter::RelaySourcesRefused), 1);
}
