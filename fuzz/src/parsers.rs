//! Parsers of RTP and RTCP and the writers that belong to them.
//!
//! Fed: a byte that says which parser, then what came off the wire.
//! Held: nothing panics; what is written or patched is read again as it was meant; where an independent implementation
//! takes the same bytes, it reads the same; what a packet costs is bounded by its length.

use ringbridge_dataplane::ids::{PayloadType, Ssrc};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ringbridge_dataplane::rtcp::{Block, Compound, Feedback, TwccRecorder, build, compound, nack};
use ringbridge_dataplane::rtp::{
    Extension, HeaderFields, Packet, audio_level::AudioLevel, dependency, extension, header, keyframe, red, rtx, sps,
    twcc, vp8, vp9,
};
use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use webrtc_util::marshal::Unmarshal;

use crate::input::Input;

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    match which % 12 {
        0 => rtp(data),
        1 => extensions(data),
        2 => rtcp_compound(data),
        3 => nacks(data),
        4 => feedback(data),
        5 => recorder(data),
        6 => descriptor(data),
        7 => vp8_payload(data),
        8 => vp9_payload(data),
        9 => keyframes(data),
        10 => redundant(data),
        _ => small(data),
    }
}

fn rtp(data: &[u8]) {
    let sealed = Packet::parse_sealed(data);
    let Ok(packet) = Packet::parse(data) else { return };
    assert_eq!(sealed.map(|sealed| sealed.header_len()), Ok(packet.header_len()));
    assert_eq!(packet.header_len() + packet.payload().len() + packet.padding_len(), data.len());
    // The independent reader panics where an extension is cut off: it sees that block as we write it again.
    if data[0] & 0x10 == 0 {
        independent_reader_agrees(&packet);
    }
    let all: Vec<Extension<'_>> = packet.extensions().collect();
    for one in &all {
        assert!(one.id != 0 && one.data.len() <= 255);
    }
    let fields = HeaderFields {
        padding: false,
        marker: packet.marker(),
        payload_type: packet.payload_type(),
        sequence: packet.sequence(),
        timestamp: packet.timestamp(),
        ssrc: packet.ssrc(),
    };
    let mut out = vec![0; data.len() + 4 * all.len() + 64];
    let Ok(len) = header::write(&fields, packet.csrcs(), &all, &mut out) else { return };
    let again = Packet::parse(&out[..len]).expect("a written header is a packet");
    assert_eq!(again.header_len(), len);
    assert_eq!(again.extensions().collect::<Vec<_>>(), all);
    assert_eq!(again.csrcs().collect::<Vec<_>>(), packet.csrcs().collect::<Vec<_>>());
    assert_eq!((again.ssrc(), again.sequence(), again.marker()), (fields.ssrc, fields.sequence, fields.marker));
    independent_reader_agrees(&again);
    for one in &all {
        let expected = again.extension(one.id).map(<[u8]>::to_vec).filter(|data| !data.is_empty());
        let mut header = out[..len].to_vec();
        assert_eq!(extension::find_mut(&mut header, one.id).map(|data| data.to_vec()), expected);
    }
}

fn independent_reader_agrees(packet: &Packet<'_>) {
    let Ok(theirs) = rtp::packet::Packet::unmarshal(&mut packet.bytes()) else { return };
    let h = &theirs.header;
    assert_eq!((h.ssrc, h.sequence_number, h.timestamp), (packet.ssrc().get(), packet.sequence(), packet.timestamp()));
    assert_eq!((h.payload_type, h.marker), (packet.payload_type().get(), packet.marker()));
    assert_eq!(h.csrc, packet.csrcs().map(Ssrc::get).collect::<Vec<_>>());
}

fn extensions(data: &[u8]) {
    let mut input = Input::new(data);
    let mut list = Vec::new();
    while !input.is_empty() && list.len() < 20 {
        let id = input.u8();
        list.push(Extension { id, data: input.bytes() });
    }
    let need = extension::encoded_len(&list);
    let mut out = vec![0xff; need];
    match extension::write(&list, &mut out) {
        Ok(len) => {
            assert_eq!(len, need);
            if len > 0 {
                let profile = u16::from_be_bytes([out[0], out[1]]);
                let read: Vec<_> = extension::Extensions::new(profile, &out[4..]).collect();
                assert_eq!(read, list);
            }
        }
        Err(_) => assert!(list.iter().any(|e| e.id == 0), "a list that fits is written"),
    }
    if need > 0 {
        assert!(extension::write(&list, &mut out[..need - 1]).is_err());
    }
}

fn rtcp_compound(data: &[u8]) {
    let mut blocks = 0;
    for block in Compound::new(data) {
        blocks += 1;
        match block {
            Block::SenderReport { reports, .. } | Block::ReceiverReport { reports, .. } => {
                assert!(compound::report_blocks(reports).count() <= 31);
            }
            Block::Nack { entries, .. } => assert!(nack::sequences(entries).count() <= 17 * entries.len() / 4),
            Block::Fir { entries } => assert!(compound::fir_targets(entries).count() <= entries.len() / 8),
            Block::Twcc { body } => {
                if let Some(feedback) = Feedback::parse(body) {
                    let _ = feedback.packets().count();
                }
            }
            Block::Pli { .. } | Block::Remb { .. } | Block::Other { .. } | Block::Malformed => {}
        }
    }
    assert!(blocks <= data.len() / 4 + 1);
}

fn nacks(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut missing, mut next) = (Vec::new(), input.u16());
    while !input.is_empty() && missing.len() < 200 {
        missing.push(next);
        next = next.wrapping_add(1 + u16::from(input.u8()));
    }
    if missing.is_empty() {
        return;
    }
    let mut out = [0; 1_500];
    let Some(len) = build::nack(Ssrc::new(1), Ssrc::new(2), &missing, &mut out) else { return };
    let Some(Block::Nack { media: _, entries }) = Compound::new(&out[..len]).next() else {
        panic!("a written NACK is read as one");
    };
    let read: Vec<u16> = nack::sequences(entries).collect();
    assert_eq!(read, missing[..read.len()], "in order, and cut at the end at most");
    assert!(read.len() == missing.len() || len > 500, "cut only when there is no room");
    let theirs = rtcp::packet::unmarshal(&mut &out[..len]).expect("an independent reader takes it");
    let theirs = theirs[0]
        .as_any()
        .downcast_ref::<rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack>()
        .expect("a NACK");
    let theirs: Vec<u16> = theirs.nacks.iter().flat_map(|pair| pair.packet_list()).collect();
    assert_eq!(theirs, read);
}

fn feedback(data: &[u8]) {
    let Some(ours) = Feedback::parse(data) else { return };
    let packets: Vec<_> = ours.packets().collect();
    assert_eq!(packets.len(), usize::from(u16::from_be_bytes([data[2], data[3]])));
    for (index, (sequence, status)) in packets.iter().enumerate() {
        assert_eq!(*sequence, u16::from_be_bytes([data[0], data[1]]).wrapping_add(index as u16));
        assert!(status.is_received() || status.arrival().is_none());
    }
}

/// Arrivals in any order; what is reported is read by ours and by an independent reader alike.
fn recorder(data: &[u8]) {
    let mut input = Input::new(data);
    let start = Instant::now();
    let (mut now, mut sequence) = (start, input.u16());
    let mut recorder = TwccRecorder::default();
    let mut out = [0; 1_200];
    let mut steps = 0;
    while !input.is_empty() && steps < 2_000 {
        steps += 1;
        let step = input.u8();
        sequence = match step & 7 {
            0 => input.u16(),
            1 => sequence.wrapping_sub(u16::from(step >> 3)),
            _ => sequence.wrapping_add(u16::from(step >> 3)),
        };
        now += Duration::from_micros(u64::from(input.u16()) * if step & 7 == 2 { 1_000 } else { 10 });
        recorder.record(now, sequence, step & 8 != 0);
        if step & 0x70 == 0 {
            report(&mut recorder, now, &mut out);
        }
    }
    report(&mut recorder, now + Duration::from_secs(1), &mut out);
    assert_eq!(recorder.poll_timeout(), None, "everything was reported");
}

fn report(recorder: &mut TwccRecorder, now: Instant, out: &mut [u8]) {
    let mut turns = 0;
    while let Some(len) = recorder.take_feedback(now, Ssrc::new(1), Ssrc::new(2), out) {
        turns += 1;
        assert!(turns < 600, "feedback ends");
        let Some(Block::Twcc { body }) = Compound::new(&out[..len]).next() else { panic!("feedback is read as such") };
        let ours = Feedback::parse(body).expect("complete");
        let theirs = TransportLayerCc::unmarshal(&mut &out[..len]).expect("an independent reader takes it");
        let received = ours.packets().filter(|(_, status)| status.is_received()).count();
        assert_eq!(received, theirs.recv_deltas.len());
        assert!(received > 0 || ours.packets().count() > 0);
    }
}

fn descriptor(data: &[u8]) {
    let mut input = Input::new(data);
    let mut known = None;
    let mut shift = 0;
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        let value = input.bytes();
        let (number, step) = (input.u16(), input.u8() & 0x3f);
        let before = known.clone();
        let read = dependency::Descriptor::parse(value, &mut known);
        if read.is_err() {
            assert_eq!(before, known, "what cannot be read teaches nothing");
        }
        let Ok(read) = read else { continue };
        let structure = known.as_deref().expect("a descriptor that was read has a structure");
        assert!(structure.templates().contains(&read.frame) || value.len() > 3);
        assert!(structure.targets().len() <= dependency::MAX_TARGETS);
        assert!(read.has_structure || before == known);
        // Moved numbers are read by whoever was given the structure with moved ids.
        if read.has_structure {
            shift = step;
        }
        let mut moved = value.to_vec();
        dependency::patch(&mut moved, number, shift);
        let mut theirs = before.map(|mut structure| {
            structure.offset = structure.offset.wrapping_add(shift) & 0x3f;
            structure
        });
        let again = dependency::Descriptor::parse(&moved, &mut theirs).expect("a patched descriptor is one");
        assert_eq!(again.frame_number, number);
        assert_eq!(
            (again.frame, again.starts, again.ends, again.active),
            (read.frame, read.starts, read.ends, read.active)
        );
    }
}

fn vp8_payload(data: &[u8]) {
    let mut input = Input::new(data);
    let (picture, tl0) = (input.u16(), input.u8());
    let payload = input.rest();
    let Ok(read) = vp8::Descriptor::parse(payload) else { return };
    assert!(read.len <= payload.len());
    let _ = (read.keyframe_size(payload), keyframe::vp8(payload));
    let mut out = vec![0; payload.len() + 1];
    let len = read.rewrite(payload, picture, tl0, &mut out).expect("there is room");
    let again = vp8::Descriptor::parse(&out[..len]).expect("a rewritten descriptor is one");
    assert_eq!(again.picture_id, read.picture_id.map(|_| picture & 0x7fff));
    assert_eq!(again.tl0_pic_idx, read.tl0_pic_idx.map(|_| tl0));
    assert_eq!((again.temporal, again.key_idx), (read.temporal, read.key_idx));
    assert_eq!((again.frame_start(), again.non_reference), (read.frame_start(), read.non_reference));
    assert_eq!(out[again.len..len], payload[read.len..]);
}

fn vp9_payload(data: &[u8]) {
    let mut input = Input::new(data);
    let (picture, tl0) = (input.u16(), input.u8());
    let payload = input.rest();
    let Ok(read) = vp9::Descriptor::parse(payload) else { return };
    let _ = (read.is_keyframe_start(), read.heights.map(|heights| heights.as_slice().len()));
    let mut out = payload.to_vec();
    read.patch(&mut out, picture, tl0);
    let again = vp9::Descriptor::parse(&out).expect("a patched descriptor is one");
    let mask = if read.long_picture_id { 0x7fff } else { 0x7f };
    assert_eq!(again.picture_id, read.picture_id.map(|_| picture & mask));
    assert_eq!(again.tl0_pic_idx, read.tl0_pic_idx.map(|_| tl0));
    assert_eq!((again.layer, again.heights, again.begins), (read.layer, read.heights, read.begins));
}

fn keyframes(data: &[u8]) {
    let _ = (keyframe::vp8(data), keyframe::av1(data));
    if let Some(start) = keyframe::h264(data) {
        assert_ne!(start.height, Some(0));
    }
    assert_ne!(sps::height(data), Some(0));
}

fn redundant(data: &[u8]) {
    let Ok(blocks) = red::blocks(data) else {
        assert!(red::primary(data).is_err());
        return;
    };
    let blocks: Vec<_> = blocks.collect();
    let headers = 4 * (blocks.len() - 1) + 1;
    assert_eq!(headers + blocks.iter().map(|block| block.data.len()).sum::<usize>(), data.len());
    assert_eq!(red::primary(data).ok(), blocks.last().copied());
    assert!(blocks.iter().rev().skip(1).all(|block| !block.primary));
    let numbers: BTreeSet<PayloadType> = blocks.iter().map(|block| block.payload_type).collect();
    let mut moved = data.to_vec();
    red::patch_payload_types(&mut moved, |number| PayloadType::new(number.get() ^ 1)).expect("every number is known");
    red::patch_payload_types(&mut moved, |number| PayloadType::new(number.get() ^ 1)).expect("every number is known");
    assert_eq!(moved, data);
    let unknown = numbers.first().copied();
    assert!(red::patch_payload_types(&mut moved, |number| (Some(number) != unknown).then_some(number)).is_err());
    assert_eq!(moved, data, "left as it was");
}

fn small(data: &[u8]) {
    if let Some((original, rest)) = rtx::parse(data) {
        let mut out = data.to_vec();
        assert!(rtx::write(original, &mut out));
        assert_eq!((&out[..], rest.len()), (data, data.len() - rtx::OSN_LEN));
    }
    if let Some(level) = AudioLevel::parse(data) {
        assert_eq!(AudioLevel::parse(&level.encode()), Some(level));
    }
    if let Some(sequence) = twcc::parse(data) {
        assert_eq!(twcc::encode(sequence), data[..2]);
    }
}
