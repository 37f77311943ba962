//! SSRC rewriting: a receiver with a bounded set of SSRCs, next to one without. The clients decrypt with webrtc-srtp, so
//! an index that is used twice or runs backwards shows, too.

mod forward_call;

use forward_call::*;
use ringbridge_dataplane::ids::Ssrc;
use ringbridge_dataplane::media::MediaKind::{Audio, Video};
use ringbridge_dataplane::media::*;
use ringbridge_dataplane::messages::{Command, Event, MappedSource, SsrcRewriting};
use ringbridge_dataplane::stats::Counter;
use rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::sender_report::SenderReport;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};

/// Camera SSRCs of sender `n`; their RTX SSRCs are 1000 higher.
fn camera_ssrc(n: usize) -> u32 {
    10_000 + 10 * n as u32
}

fn microphone_ssrc(n: usize) -> u32 {
    20_000 + n as u32
}

fn sources(n: usize) -> Vec<SourceDescription> {
    vec![audio_source(&format!("{n}-a0"), microphone_ssrc(n)), video_source(&format!("{n}-v0"), &[camera_ssrc(n)])]
}

/// Senders 0.., then a receiver with so many SSRCs of each kind.
struct Meeting {
    call: Call,
    receiver: usize,
    cameras: Vec<Camera>,
    sound: Vec<u16>,
    /// What was signalled to the receiver last.
    map: Vec<MappedSource>,
    announcement: u64,
}

impl Meeting {
    fn new(senders: usize, audio: usize, video: usize) -> Self {
        Self::of(senders, |call| call.join_rewriting(audio, video, OTHER.media(), sources(90)))
    }

    fn of(senders: usize, join: impl FnOnce(&mut Call) -> usize) -> Self {
        let mut call = Call::new();
        for n in 0..senders {
            call.join(JICOFO.media(), sources(n));
        }
        let receiver = join(&mut call);
        let cameras = (0..senders).map(|n| Camera::new(100, camera_ssrc(n), 65_500 + n as u16, 180)).collect();
        let mut meeting =
            Self { call, receiver, cameras, sound: vec![65_530; senders], map: Vec::new(), announcement: 0 };
        meeting.call.settle();
        meeting
    }

    /// Reads what is to be signalled to the receiver, without signalling it.
    fn read(&mut self) -> bool {
        let id = self.call.clients[self.receiver].id;
        let mut news = false;
        for event in self.call.take_events() {
            if let Event::SourcesMapped { endpoint, announcement, sources } = event {
                assert_eq!(endpoint, id);
                assert!(announcement > self.announcement);
                (self.map, self.announcement, news) = (sources, announcement, true);
            }
        }
        news
    }

    /// Signals it to the receiver.
    fn tell(&mut self) {
        self.call.settle();
        self.read();
        let endpoint = self.call.clients[self.receiver].id;
        self.call.command(Command::MappingsSignalled { endpoint, announcement: self.announcement });
        self.call.settle();
    }

    fn mapped(&self, name: &str) -> Option<Encoding> {
        self.map.iter().find(|m| m.name == name).map(|m| m.ssrcs)
    }

    fn video_of(&self, n: usize) -> Option<Encoding> {
        self.mapped(&format!("{n}-v0"))
    }

    fn names(&self, kind: MediaKind) -> Vec<&str> {
        self.map.iter().filter(|m| m.kind == kind).map(|m| m.name.as_str()).collect()
    }

    fn picture(&mut self, n: usize, key: bool) {
        for p in self.cameras[n].frame(key, 2) {
            self.call.send(n, &p);
        }
    }

    fn say(&mut self, n: usize) {
        self.sound[n] = self.sound[n].wrapping_add(1);
        let timestamp = 1_000_000 * n as u32 + 960 * u32::from(self.sound[n]);
        let packet = packet(111, self.sound[n], timestamp, microphone_ssrc(n), &[n as u8; 40]);
        self.call.send(n, &with_extension(packet, JICOFO.level, &[30]));
        self.call.settle();
    }

    fn got(&mut self) -> Vec<RtpPacket> {
        self.call.clients[self.receiver].take_rtp()
    }

    /// Only these cameras, all else off.
    fn watch(&mut self, names: &[&str]) {
        let on = VideoConstraint { max_height: Limit::Max(720), max_frame_rate: Limit::Unlimited };
        let off = VideoConstraint { max_height: Limit::Off, max_frame_rate: Limit::Unlimited };
        let per_source = names.iter().map(|name| ((*name).to_owned(), on)).collect();
        self.call.constrain(self.receiver, ReceiverConstraints { default: off, per_source, ..Default::default() });
    }
}

#[test]
fn nothing_goes_before_the_client_was_told_and_then_a_keyframe_is_asked_for() {
    let mut m = Meeting::new(1, 50, 50);
    assert!(m.read(), "video is mapped before it flows");
    assert_eq!(m.names(Video), ["0-v0"]);
    assert_eq!(m.map[0].owner, m.call.clients[0].id);
    m.picture(0, true);
    m.say(0);
    m.call.millis(10);
    assert!(m.got().is_empty(), "not signalled yet");
    assert!(m.read());
    assert_eq!(m.names(Audio), ["0-a0"], "audio gets its SSRC with its first packet");
    assert_eq!(m.call.count(Counter::DropUnmapped), 1);
    m.call.clients[0].take_rtcp::<PictureLossIndication>();
    m.tell();
    m.picture(0, false);
    assert!(m.got().is_empty(), "starts with a keyframe");
    assert_eq!(m.call.clients[0].take_rtcp::<PictureLossIndication>()[0].media_ssrc, camera_ssrc(0));
    m.picture(0, true);
    m.say(0);
    let got = m.got();
    let (video, audio) = (m.video_of(0).unwrap(), m.mapped("0-a0").unwrap());
    assert_eq!(
        got.iter().map(|p| p.header.ssrc).collect::<Vec<_>>(),
        [video.ssrc, video.ssrc, audio.ssrc].map(Ssrc::get)
    );
    assert_eq!(got[0].header.payload_type, OTHER.vp8);
    let senders = [camera_ssrc(0), camera_ssrc(0) + 1000, microphone_ssrc(0)];
    assert!([video.ssrc, video.rtx.unwrap(), audio.ssrc].iter().all(|ssrc| !senders.contains(&ssrc.get())));
}

#[test]
fn a_client_without_the_capability_sees_the_senders_own_ssrcs() {
    let mut m = Meeting::new(2, 50, 50);
    m.tell();
    m.picture(0, true);
    m.say(0);
    let plain = m.call.clients[1].take_rtp();
    let ssrcs: Vec<u32> = plain.iter().map(|p| p.header.ssrc).collect();
    assert_eq!(ssrcs, [camera_ssrc(0), camera_ssrc(0), microphone_ssrc(0)]);
}

#[test]
fn a_remapped_video_ssrc_goes_on_seamlessly() {
    let mut m = Meeting::new(3, 1, 1);
    m.watch(&["0-v0"]);
    m.tell();
    assert_eq!(m.names(Video), ["0-v0"]);
    let ssrcs = m.video_of(0).unwrap();
    for i in 0..40 {
        m.picture(0, i == 0);
        m.call.millis(30);
    }
    let before = m.got();
    assert_eq!(before.len(), 80);
    assert!(before.windows(2).all(|w| w[1].header.sequence_number == w[0].header.sequence_number.wrapping_add(1)));
    m.watch(&["2-v0"]);
    m.tell();
    assert_eq!((m.names(Video), m.video_of(2)), (vec!["2-v0"], Some(ssrcs)), "the same SSRCs carry another source");
    assert_eq!(m.call.count(Counter::SsrcRemaps), 1);
    m.picture(0, true);
    assert!(m.got().is_empty(), "the former source has no SSRC any more");
    m.picture(2, true);
    m.call.millis(30);
    m.picture(2, false);
    let after = m.got();
    assert_eq!(after.len(), 4);
    let (last, first) = (before.last().unwrap(), &after[0]);
    assert_eq!((first.header.ssrc, first.header.sequence_number), (ssrcs.ssrc.get(), last.header.sequence_number + 1));
    let step = first.header.timestamp.wrapping_sub(last.header.timestamp);
    assert!((2_600..2_800).contains(&step), "30 ms in between: {step}");
    let ((last_id, last_tl0), (id, tl0)) = (vp8_ids(&last.payload), vp8_ids(&first.payload));
    assert_eq!((id, tl0), ((last_id + 1) & 0x7fff, last_tl0.wrapping_add(1)));
    assert_eq!(after[2].header.timestamp.wrapping_sub(first.header.timestamp), 2_700);
    assert_eq!(vp8_ids(&after[2].payload).0, (id + 1) & 0x7fff);
}

/// A receiver that finds the media section of a packet by its id.
fn by_mid(audio: usize, video: usize) -> Option<SsrcRewriting> {
    Some(SsrcRewriting { audio, video, seed: 7, mids: true })
}

/// Text of the media section id that a packet carries under an id.
fn mid_of(packet: &RtpPacket, id: u8) -> Option<String> {
    packet.header.get_extension(id).map(|data| String::from_utf8(data.to_vec()).unwrap())
}

#[test]
fn every_packet_names_the_media_section_that_the_client_was_told() {
    let mut m = Meeting::of(3, |call| call.join_with(0, by_mid(2, 1), OTHER.media(), sources(90)));
    m.watch(&["0-v0"]);
    for n in [0, 1] {
        m.say(n);
    }
    m.tell();
    let mid = |m: &Meeting, name: &str| m.map.iter().find(|s| s.name == name).unwrap().mid.unwrap().to_string();
    assert_eq!([mid(&m, "0-a0"), mid(&m, "1-a0"), mid(&m, "0-v0")], ["a0", "a1", "v0"]);
    for p in m.cameras[0].frame(true, 2) {
        // The sender's own media section means nothing to the receiver.
        m.call.send(0, &with_extension(p, JICOFO.mid, b"7"));
    }
    m.say(0);
    m.say(1);
    let got = m.got();
    let named: Vec<_> = got.iter().map(|p| (mid_of(p, OTHER.mid), p.header.extensions.len())).collect();
    let expect = |mid: &str, extensions| (Some(mid.to_owned()), extensions);
    // Beside it: the transport-wide number of video, the level of audio.
    assert_eq!(named, [expect("v0", 2), expect("v0", 2), expect("a0", 2), expect("a1", 2)]);
    // A repetition names what it repeats.
    m.call.stay();
    let ssrcs = m.video_of(0).unwrap();
    for _ in 0..20 {
        m.call.millis(30);
        m.picture(0, false);
    }
    let got = m.got();
    let nacks = vec![NackPair { packet_id: got[0].header.sequence_number, lost_packets: 0 }];
    m.call.send_rtcp(m.receiver, &TransportLayerNack { sender_ssrc: 1, media_ssrc: ssrcs.ssrc.get(), nacks });
    let again = m.got();
    assert_eq!((again.len(), again[0].header.ssrc), (1, ssrcs.rtx.unwrap().get()));
    assert_eq!(mid_of(&again[0], OTHER.mid).as_deref(), Some("v0"));
    // The section belongs to the SSRCs, whatever they carry: after a remap, after new keys, when the sender starts anew.
    m.call.millis(1_100);
    m.watch(&["2-v0"]);
    m.tell();
    assert_eq!((mid(&m, "2-v0"), m.video_of(2)), ("v0".to_owned(), Some(ssrcs)));
    m.picture(2, true);
    m.call.rekey(m.receiver, 40);
    m.call.rekey(2, 41);
    m.call.millis(300);
    m.picture(2, true);
    m.say(0);
    let got = m.got();
    let named: Vec<_> = got.iter().map(|p| mid_of(p, OTHER.mid).unwrap()).collect();
    assert_eq!(named, ["v0", "v0", "v0", "v0", "a0"]);
    let others = m.call.clients[1].take_rtp();
    assert!(!others.is_empty() && others.iter().all(|p| mid_of(p, JICOFO.mid).is_none()), "who goes by SSRCs");
}

#[test]
fn no_media_section_is_named_to_who_did_not_negotiate_it() {
    for negotiated in [None, Some(Audio), Some(Video)] {
        let mut media = OTHER.media();
        media.header_extensions.retain(|e| e.uri != MID || Some(e.kind) == negotiated);
        let mut m = Meeting::of(1, |call| call.join_with(0, by_mid(2, 2), media, vec![]));
        m.say(0);
        m.tell();
        assert!(m.map.iter().all(|mapped| mapped.mid.is_some() == (Some(mapped.kind) == negotiated)));
        m.picture(0, true);
        m.say(0);
        let got = m.got();
        let named: Vec<bool> = got.iter().map(|p| mid_of(p, OTHER.mid).is_some()).collect();
        assert_eq!(named, [negotiated == Some(Video), negotiated == Some(Video), negotiated == Some(Audio)]);
    }
}

#[test]
fn audio_takes_the_slot_that_was_silent_longest_and_its_clock_goes_on() {
    let mut m = Meeting::new(4, 2, 2);
    for n in [0, 1] {
        m.say(n);
        m.tell();
    }
    m.call.millis(5_000);
    for _ in 0..3 {
        for n in [0, 1] {
            m.say(n);
        }
        m.call.millis(20);
    }
    let zero = m.mapped("0-a0").unwrap();
    m.call.millis(300);
    m.say(1);
    m.got();
    m.call.millis(250);
    // 0 was silent for 570 ms, 1 for 250.
    m.say(2);
    m.tell();
    assert_eq!((m.mapped("2-a0"), m.names(Audio)), (Some(zero), vec!["2-a0", "1-a0"]));
    m.say(2);
    m.call.millis(20);
    m.say(2);
    let got = m.got();
    assert_eq!(got.len(), 2);
    assert!(got.iter().all(|p| p.header.ssrc == zero.ssrc.get() && p.payload[0] == 2));
    assert_eq!(got[1].header.sequence_number, got[0].header.sequence_number.wrapping_add(1));
    assert_eq!(got[1].header.timestamp.wrapping_sub(got[0].header.timestamp), 960);
    // Both slots are in use: 3 has to wait, and is not asked about with every packet.
    m.say(1);
    m.say(3);
    m.say(3);
    assert!(!m.read());
    assert!(m.got().iter().all(|p| p.payload[0] != 3));
    m.call.millis(520);
    m.say(2);
    m.say(3);
    m.tell();
    assert_eq!(m.names(Audio), ["2-a0", "3-a0"]);
    m.say(3);
    let got = m.got();
    let own = got.iter().filter(|p| p.payload[0] == 3).count();
    assert_eq!(own, 1);
}

#[test]
fn more_sources_than_ssrcs_leave_the_least_important_out() {
    let mut m = Meeting::new(5, 50, 2);
    m.call.want(m.receiver, 180);
    m.tell();
    assert_eq!(m.names(Video), ["0-v0", "1-v0"]);
    let on = VideoConstraint { max_height: Limit::Max(180), max_frame_rate: Limit::Unlimited };
    let on_stage = vec!["4-v0".to_owned()];
    m.call.constrain(m.receiver, ReceiverConstraints { default: on, on_stage, ..Default::default() });
    m.tell();
    assert_eq!(m.names(Video), ["0-v0", "1-v0"], "the client has made no tracks yet");
    m.call.millis(1_000);
    m.tell();
    let mut names = m.names(Video);
    names.sort_unstable();
    assert_eq!(names, ["0-v0", "4-v0"]);
    for n in 0..5 {
        m.picture(n, true);
    }
    let ssrcs: std::collections::BTreeSet<u32> = m.got().iter().map(|p| p.header.ssrc).collect();
    assert_eq!(ssrcs.len(), 2);
    // Last-n switches off what stays mapped, since nobody else needs the SSRCs.
    m.call.constrain(m.receiver, ReceiverConstraints { last_n: Limit::Off, default: on, ..Default::default() });
    m.call.settle();
    assert!(!m.read(), "nothing to signal");
    m.picture(4, true);
    assert!(m.got().is_empty());
}

#[test]
fn nack_pli_and_fir_find_the_source_behind_the_ssrc() {
    let mut m = Meeting::new(2, 50, 50);
    m.call.stay();
    m.call.want(m.receiver, 180);
    m.tell();
    for i in 0..4 {
        for n in 0..2 {
            m.picture(n, i == 0);
        }
        m.call.millis(30);
    }
    let got = m.got();
    let ssrcs = m.video_of(1).unwrap();
    let lost = got.iter().filter(|p| p.header.ssrc == ssrcs.ssrc.get()).nth(5).unwrap().clone();
    let nack = |media_ssrc, packet_id| TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc,
        nacks: vec![NackPair { packet_id, lost_packets: 0 }],
    };
    m.call.send_rtcp(m.receiver, &nack(ssrcs.ssrc.get(), lost.header.sequence_number));
    let repeated = m.got();
    assert_eq!(repeated.len(), 1);
    assert_eq!(
        (repeated[0].header.ssrc, repeated[0].header.payload_type),
        (ssrcs.rtx.unwrap().get(), OTHER.rtx.unwrap())
    );
    assert_eq!(repeated[0].payload[..2], lost.header.sequence_number.to_be_bytes());
    assert_eq!(repeated[0].payload[2..], lost.payload[..]);
    // The sender's own SSRC means nothing to this receiver.
    m.call.send_rtcp(m.receiver, &nack(camera_ssrc(1), lost.header.sequence_number));
    assert!(m.got().is_empty());
    m.call.millis(1_000);
    for client in &mut m.call.clients {
        client.rtcp.clear();
    }
    m.call.send_rtcp(m.receiver, &PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrcs.ssrc.get() });
    assert_eq!(m.call.clients[1].take_rtcp::<PictureLossIndication>()[0].media_ssrc, camera_ssrc(1));
    assert!(m.call.clients[0].take_rtcp::<PictureLossIndication>().is_empty());
    m.call.millis(1_000);
    let ssrc = m.video_of(0).unwrap().ssrc;
    let fir = FullIntraRequest {
        sender_ssrc: 1,
        media_ssrc: 0,
        fir: vec![FirEntry { ssrc: ssrc.get(), sequence_number: 1 }],
    };
    m.call.send_rtcp(m.receiver, &fir);
    assert_eq!(m.call.clients[0].take_rtcp::<PictureLossIndication>()[0].media_ssrc, camera_ssrc(0));
}

#[test]
fn what_was_sent_before_a_remap_is_not_repeated_as_something_else() {
    let mut m = Meeting::new(2, 1, 1);
    m.call.stay();
    m.watch(&["0-v0"]);
    m.tell();
    for i in 0..6 {
        m.picture(0, i == 0);
        m.call.millis(30);
    }
    let before = m.got();
    let ssrcs = m.video_of(0).unwrap();
    m.call.millis(1_000);
    m.watch(&["1-v0"]);
    m.tell();
    m.picture(1, true);
    let after = m.got();
    for (lost, repeats) in [(&before[9], 0), (&after[1], 1)] {
        let nack = TransportLayerNack {
            sender_ssrc: 1,
            media_ssrc: ssrcs.ssrc.get(),
            nacks: vec![NackPair { packet_id: lost.header.sequence_number, lost_packets: 0 }],
        };
        m.call.send_rtcp(m.receiver, &nack);
        let repeated = m.got();
        assert_eq!(repeated.len(), repeats);
        assert!(repeated.iter().all(|p| p.payload[2..] == lost.payload[..]));
    }
}

#[test]
fn sender_reports_tell_the_time_of_the_rewritten_stream() {
    let mut m = Meeting::new(2, 1, 1);
    let report = |ssrc, rtp_time| SenderReport { ssrc, ntp_time: 7 << 32, rtp_time, ..Default::default() };
    m.watch(&["0-v0"]);
    m.tell();
    m.picture(0, true);
    m.call.millis(1_000);
    m.watch(&["1-v0"]);
    m.tell();
    m.picture(1, true);
    let got = m.got();
    let ssrcs = m.video_of(1).unwrap();
    m.call.clients[m.receiver].rtcp.clear();
    m.call.send_rtcp(0, &report(camera_ssrc(0), m.cameras[0].timestamp));
    assert!(m.call.clients[m.receiver].take_rtcp::<SenderReport>().is_empty(), "not mapped any more");
    m.call.send_rtcp(1, &report(camera_ssrc(1), m.cameras[1].timestamp + 9_000));
    let reports = m.call.clients[m.receiver].take_rtcp::<SenderReport>();
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!((report.ssrc, report.ntp_time), (ssrcs.ssrc.get(), 7 << 32));
    assert_eq!(report.rtp_time, got.last().unwrap().header.timestamp.wrapping_add(9_000));
    assert_eq!(report.packet_count, 4, "of the SSRC, whatever it carried");
}

#[test]
fn sources_come_and_go_and_come_back() {
    let mut m = Meeting::new(2, 50, 50);
    m.call.want(m.receiver, 180);
    m.tell();
    m.picture(0, true);
    let before = m.got();
    let ssrcs = m.video_of(0).unwrap();
    let endpoint = m.call.clients[0].id;
    m.call.command(Command::SetSources { endpoint, sources: vec![audio_source("0-a0", microphone_ssrc(0))] });
    assert!(m.read());
    assert_eq!(m.names(Video), ["1-v0"]);
    // The camera is back, under an SSRC of its own choice, or under the old one: the receiver sees the old stream go on.
    for (round, ssrc, sequence) in [(1, 31_000, 40_000), (2, camera_ssrc(0), 65_510)] {
        m.call.command(Command::SetSources { endpoint, sources: vec![video_source("0-v0", &[ssrc])] });
        m.tell();
        assert_eq!(m.video_of(0), Some(ssrcs));
        m.call.millis(30);
        m.cameras[0] = Camera::new(100, ssrc, sequence, 180);
        m.picture(0, true);
        let got = m.got();
        assert_eq!(got[0].header.sequence_number, before[1].header.sequence_number.wrapping_add(2 * round - 1));
        m.call.command(Command::SetSources { endpoint, sources: Vec::new() });
    }
    // Somebody leaves; half a minute later a newcomer gets the SSRCs that are free.
    m.call.command(Command::ExpireEndpoint { endpoint });
    m.call.millis(30_000);
    m.call.join(JICOFO.media(), vec![video_source("9-v0", &[50_000])]);
    m.tell();
    assert_eq!(m.video_of(9), Some(ssrcs));
}

#[test]
fn new_keys_of_the_receiver_or_of_a_sender_do_not_stop_it() {
    let mut m = Meeting::new(1, 50, 50);
    m.call.want(m.receiver, 180);
    m.tell();
    m.picture(0, true);
    assert_eq!(m.got().len(), 2);
    m.call.rekey(m.receiver, 60);
    m.picture(0, true);
    let got = m.got();
    assert_eq!((got.len(), got[0].header.ssrc), (2, m.video_of(0).unwrap().ssrc.get()));
    m.call.rekey(0, 70);
    m.cameras[0].sequence = 5;
    m.picture(0, true);
    let after = m.got();
    assert_eq!(after.len(), 2);
    assert_eq!(after[0].header.sequence_number, got[1].header.sequence_number.wrapping_add(1));
}

#[test]
fn numbers_wrap_around() {
    let mut m = Meeting::new(2, 1, 1);
    let mut last: Option<u16> = None;
    m.watch(&["0-v0"]);
    m.tell();
    m.call.millis(1_000);
    // Turn and turn about, across the ends of both senders' numbers and of the receiver's.
    for turn in 0..120 {
        let n = turn % 2;
        m.watch(&[&format!("{n}-v0")]);
        m.tell();
        for i in 0..300 {
            m.picture(n, i == 0);
            if i % 20 == 0 {
                m.call.millis(30);
            }
        }
        for p in m.got() {
            let next = last.map(|last| last.wrapping_add(1));
            assert!(next.is_none_or(|next| next == p.header.sequence_number), "turn {turn}");
            last = Some(p.header.sequence_number);
        }
    }
    assert_eq!(m.call.count(Counter::SsrcRemaps), 119);
}

#[test]
fn audio_that_is_not_wanted_takes_no_ssrc() {
    let mut m = Meeting::new(2, 1, 1);
    let subscribe = |m: &mut Meeting, exclude: &str| {
        let audio = AudioSubscription { exclude: vec![exclude.to_owned()], ..AudioSubscription::default() };
        m.call.constrain(m.receiver, ReceiverConstraints { audio, ..Default::default() });
    };
    subscribe(&mut m, "0-a0");
    m.say(0);
    m.say(1);
    m.tell();
    assert_eq!(m.names(Audio), ["1-a0"]);
    m.say(1);
    assert_eq!(m.got().len(), 1);
    subscribe(&mut m, "1-a0");
    m.call.millis(1_000);
    m.say(1);
    m.say(0);
    m.tell();
    assert_eq!(m.names(Audio), ["0-a0"], "the SSRC of what is not wanted any more");
    m.say(1);
    m.say(0);
    let got = m.got();
    assert_eq!(got.iter().map(|p| p.payload[0]).collect::<Vec<_>>(), [0]);
}
