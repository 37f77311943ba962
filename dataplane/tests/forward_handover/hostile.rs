//! States as somebody may have made them up: refused, or gone on with, but never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ringbridge_dataplane::carry::State;
use ringbridge_dataplane::conference::{Forwarder, ForwarderConfig, LoudestOnly};
use ringbridge_dataplane::ids::EndpointId;
use ringbridge_dataplane::media::MediaKind::{Audio, Video};
use ringbridge_dataplane::media::{CodecParameters, Media};
use ringbridge_dataplane::messages::Command;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};

use crate::forward_call::*;

/// States with changed bytes.
const ATTEMPTS: u64 = 300;

/// SSRC of a client's audio, and of the lowest encoding of its video.
fn ssrcs(client: usize) -> (u32, u32) {
    (100 * client as u32 + 1, 100 * client as u32 + 11)
}

/// Three clients that differ in all that they can differ in, and send.
struct Meeting {
    call: Call,
    cameras: Vec<Vec<Camera>>,
    sequence: u16,
}

impl Meeting {
    fn new() -> Self {
        let config = ForwarderConfig { loudest_only: Some(LoudestOnly::default()), ..ForwarderConfig::default() };
        let mut call = Call::with(config);
        let sources = |n| {
            let (audio, video) = ssrcs(n);
            vec![
                audio_source(&format!("{n}-a0"), audio),
                video_source(&format!("{n}-v0"), &[video, video + 1, video + 2]),
            ]
        };
        let mut uncommon = OTHER.media();
        uncommon.codecs.push(CodecParameters { name: "X-own".to_owned(), ..pt(50, Audio, "x", &[("a", "b")]) });
        uncommon.header_extensions.push(extension(9, Audio, "urn:example:own"));
        let media: [Media; 3] = [JICOFO.media(), uncommon, PLAIN.media()];
        let vp8 = [JICOFO.vp8, OTHER.vp8, PLAIN.vp8];
        let [one, two, three] = media;
        call.join(one, sources(0));
        call.join(two, sources(1));
        call.join_rewriting(1, 2, three, sources(2));
        (0..3).for_each(|client| call.want(client, [720, 180, 360][client]));
        let camera =
            |n: usize, encoding: u32| Camera::new(vp8[n], ssrcs(n).1 + encoding, 65_500 + n as u16, 180 << encoding);
        let cameras = (0..3).map(|n| (0..3).map(|encoding| camera(n, encoding)).collect()).collect();
        Self { call, cameras, sequence: 65_530 }
    }

    /// The next datagrams of a client, sealed: sound, and a frame of each encoding.
    fn media(&mut self, client: usize, key: bool) -> Vec<Vec<u8>> {
        let opus = [JICOFO.opus, OTHER.opus, PLAIN.opus][client];
        self.sequence = self.sequence.wrapping_add(1);
        let level = self.call.clients[client].extension(Audio, LEVEL);
        let tcc = self.call.clients[client].extension(Video, TCC);
        let sound = packet(opus, self.sequence, u32::from(self.sequence) * 960, ssrcs(client).0, &[7; 40]);
        let mut packets = vec![with_extension(sound, level, &[0x94 + client as u8])];
        for camera in &mut self.cameras[client] {
            packets.extend(camera.frame(key, 2));
        }
        let number = self.sequence.to_be_bytes();
        let numbered = packets.into_iter().map(|packet| match packet.header.payload_type == opus {
            true => packet,
            false => with_extension(packet, tcc, &number),
        });
        let numbered: Vec<_> = numbered.collect();
        numbered.iter().map(|packet| self.call.seal(client, packet)).collect()
    }

    fn round(&mut self, n: u32) {
        for client in 0..3 {
            for mut datagram in self.media(client, n.is_multiple_of(20)) {
                // Some are lost, so that there are gaps.
                if !(n + u32::from(datagram[3])).is_multiple_of(17) {
                    self.call.send_raw(client, &mut datagram);
                }
            }
        }
        if n.is_multiple_of(5) {
            let from = |client: usize| ssrcs((client + 1) % 3).1;
            for client in 0..3 {
                let nacks = vec![NackPair { packet_id: 65_520, lost_packets: 5 }];
                self.call.send_rtcp(client, &TransportLayerNack { sender_ssrc: 1, media_ssrc: from(client), nacks });
                self.call.send_rtcp(client, &PictureLossIndication { sender_ssrc: 1, media_ssrc: from(client) });
                let report = ReceptionReport { ssrc: from(client), fraction_lost: 20, jitter: 9, ..Default::default() };
                self.call.send_rtcp(client, &ReceiverReport { ssrc: 1, reports: vec![report], ..Default::default() });
                let remb = ReceiverEstimatedMaximumBitrate { bitrate: 2e6, sender_ssrc: 1, ssrcs: vec![from(client)] };
                self.call.send_rtcp(client, &remb);
            }
        }
        self.call.millis(33);
    }
}

/// What a forwarder is put through after it took over a state: whatever comes out goes nowhere.
fn use_it(mut forwarder: Forwarder, mut now: Instant, later: &[(usize, Vec<u8>)]) {
    let mut call = Call::new();
    let sink = &mut call.sink;
    let endpoints = [100, 101, 102].map(EndpointId);
    for (n, (client, datagram)) in later.iter().enumerate() {
        if let Some(slot) = forwarder.slot(endpoints[*client]) {
            let mut datagram = datagram.clone();
            match datagram[1] {
                192..=223 => forwarder.handle_rtcp(now, slot, &mut datagram, sink),
                _ => forwarder.gather_rtp(now, slot, &mut datagram, sink),
            }
        }
        if n % 4 == 3 {
            forwarder.release(now, sink);
            now = forwarder.poll_timeout().unwrap_or(now).clamp(now, now + Duration::from_millis(50));
            forwarder.handle_timeout(now, sink);
        }
        sink.datagrams.clear();
    }
    forwarder.release(now, sink);
    for endpoint in endpoints {
        let media = Media::default();
        forwarder.handle_command(now, Command::SetMedia { endpoint, media: Box::new(media) });
        let sources = vec![audio_source("new", 77), video_source("newer", &[78, 79])];
        forwarder.handle_command(now, Command::SetSources { endpoint, sources });
        forwarder.handle_command(now, Command::SetUnsignalled { endpoint, sources: vec!["0-v0".to_owned()] });
        forwarder.handle_timeout(now, sink);
        while forwarder.poll_event().is_some() {}
    }
    // It may be written again, and is the same then.
    let written = forwarder.export().expect("what was read can be written");
    let stats = Arc::default();
    let again = Forwarder::import(ForwarderConfig::default(), stats, &written).expect("and read");
    assert!(again.export().expect("and written") == written, "something was not carried");
    for endpoint in endpoints {
        forwarder.handle_command(now, Command::ExpireEndpoint { endpoint });
        now += Duration::from_millis(100);
        forwarder.handle_timeout(now, sink);
        sink.datagrams.clear();
    }
    forwarder.handle_command(now, Command::ExpireConference { conference: CONFERENCE });
    forwarder.handle_timeout(now + Duration::from_secs(30), sink);
}

/// A state, the time, and what clients send next.
fn recorded() -> (State, Instant, Vec<(usize, Vec<u8>)>) {
    let mut meeting = Meeting::new();
    (0..45).for_each(|n| meeting.round(n));
    let state = meeting.call.forwarders[0].export().unwrap();
    let mut later = Vec::new();
    for n in 0..6 {
        for client in 0..3 {
            later.extend(meeting.media(client, n == 3).into_iter().map(|datagram| (client, datagram)));
        }
    }
    (state, meeting.call.now, later)
}

fn import(state: &State) -> Option<Forwarder> {
    Forwarder::import(ForwarderConfig::default(), Arc::default(), state).ok()
}

#[test]
fn no_change_of_a_states_bytes_makes_a_forwarder_panic() {
    let (state, now, later) = recorded();
    use_it(import(&state).expect("what was written is read"), now, &later);
    let mut taken = 0;
    for seed in 0..ATTEMPTS {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = state.as_bytes().to_vec();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            bytes[at] = match random.random_range(0..4) {
                0 => random.random(),
                1 => bytes[at].wrapping_add(1),
                2 => bytes[at] ^ 1 << random.random_range(0..8),
                _ => [0, 0x7f, 0x80, 0xff][random.random_range(0..4)],
            };
        }
        let state = State::from_bytes(bytes);
        let outcome =
            catch_unwind(AssertUnwindSafe(|| import(&state).map(|forwarder| use_it(forwarder, now, &later)).is_some()));
        match outcome {
            Ok(went_on) => taken += u32::from(went_on),
            Err(panic) => {
                eprintln!("seed {seed}");
                resume_unwind(panic)
            }
        }
    }
    assert!((ATTEMPTS as u32 / 10..ATTEMPTS as u32).contains(&taken), "{taken} of {ATTEMPTS} were gone on with");
}

#[test]
fn no_part_of_a_state_is_taken_for_one() {
    let (state, ..) = recorded();
    let bytes = state.as_bytes();
    for len in (0..bytes.len()).step_by(23).chain([bytes.len() - 1]) {
        assert!(import(&State::from_bytes(bytes[..len].to_vec())).is_none(), "{len} of {} bytes", bytes.len());
    }
    assert!(import(&State::from_bytes([bytes, &[0]].concat())).is_none(), "a byte too many");
}

/// A number of entries that is not followed by as many must not take memory for them.
#[test]
fn lengths_are_not_believed() {
    let (state, ..) = recorded();
    for at in (0..state.as_bytes().len()).step_by(211) {
        let mut bytes = state.as_bytes().to_vec();
        bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x7f]);
        let _ = import(&State::from_bytes(bytes));
    }
}
