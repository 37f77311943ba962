//! A meeting whose forwarder's state is written, and what a forwarder is put through that took over such a state.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
pub fn use_it(mut forwarder: Forwarder, mut now: Instant, later: &[(usize, Vec<u8>)]) {
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
pub fn recorded() -> (State, Instant, Vec<(usize, Vec<u8>)>) {
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

/// The forwarder that takes a state over, if it is one.
pub fn import(state: &State) -> Option<Forwarder> {
    Forwarder::import(ForwarderConfig::default(), Arc::default(), state).ok()
}
