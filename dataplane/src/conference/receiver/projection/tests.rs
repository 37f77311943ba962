//! Single steps of the projection.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn project(p: &mut Projection, now: Instant, input: &PacketInfo, desired: u8) -> Option<Output> {
    p.project(now, input, LayerId::whole(desired))
}

fn packet(encoding: u8, sequence: i64, timestamp: u32, keyframe: bool) -> PacketInfo {
    PacketInfo {
        encoding,
        sequence,
        timestamp,
        format: None,
        entry: if keyframe { Entry::Keyframe } else { Entry::Delta },
        frame: Frame::WHOLE,
        begins: keyframe || sequence % 2 == 0,
        first: sequence % 2 == 0,
        newest: true,
        closes_ids: true,
        picture: Picture { id: Some(sequence / 2), tl0: Some((sequence / 2) as u8), templates: None },
        clock_rate: 90_000,
        ahead: None,
    }
}

#[test]
fn waits_for_a_keyframe_and_keeps_the_old_encoding_until_then() {
    let now = Instant::now();
    let mut p = Projection::new(100, 8);
    assert_eq!(project(&mut p, now, &packet(0, 10, 0, false), 0), None);
    assert_eq!(project(&mut p, now, &packet(1, 10, 0, true), 0), None, "higher than desired");
    assert_eq!(project(&mut p, now, &packet(0, 11, 3000, true), 0).unwrap().sequence, 100);
    assert_eq!(project(&mut p, now, &packet(0, 12, 6000, false), 2).unwrap().sequence, 101);
    assert_eq!(project(&mut p, now, &packet(2, 900, 77, false), 2), None);
    let later = now + Duration::from_millis(40);
    let switched = project(&mut p, later, &packet(2, 901, 99, true), 2).unwrap();
    assert_eq!(switched.sequence, 102);
    assert_eq!(switched.timestamp, 6000 + 3600);
    assert_eq!(switched.picture, Picture { id: Some(7), tl0: Some(7), templates: None });
    assert_eq!(project(&mut p, later, &packet(0, 13, 9000, false), 2), None);
    assert_eq!(p.current(), Some(2));
    assert_eq!(p.origin(101), Some((0, 12)));
    assert_eq!(p.origin(102), Some((2, 901)));
    assert_eq!(p.origin(99), None);
}

#[test]
fn a_lost_packet_of_the_old_encoding_fills_its_own_hole_only() {
    let now = Instant::now();
    let mut p = Projection::new(1, 8);
    project(&mut p, now, &packet(0, 1, 0, true), 0).unwrap();
    project(&mut p, now, &packet(0, 3, 0, false), 0).unwrap();
    assert_eq!(project(&mut p, now, &packet(1, 50, 0, true), 1).unwrap().sequence, 4);
    assert_eq!(project(&mut p, now, &packet(0, 2, 0, false), 1).unwrap().sequence, 2);
    assert_eq!(project(&mut p, now, &packet(0, 4, 0, false), 1), None, "its place belongs to the new encoding");
}

#[test]
fn a_late_keyframe_does_not_restart_what_went_out() {
    let now = Instant::now();
    let mut p = Projection::new(1, 8);
    project(&mut p, now, &packet(0, 1, 0, true), 0).unwrap();
    project(&mut p, now, &packet(0, 5, 0, false), 0).unwrap();
    p.stop();
    assert_eq!(project(&mut p, now, &packet(0, 4, 0, true), 0), None);
    assert_eq!(project(&mut p, now, &packet(0, 6, 0, false), 0), None);
    assert_eq!(project(&mut p, now, &packet(0, 7, 0, true), 0).unwrap().sequence, 6);
}

#[test]
fn skipped_packets_close_up() {
    let now = Instant::now();
    let mut p = Projection::new(1, 8);
    let mut audio = packet(0, 1, 0, false);
    audio.entry = Entry::Anywhere;
    assert_eq!(project(&mut p, now, &audio, 0).unwrap().sequence, 1);
    p.skip(3);
    audio.sequence = 4;
    assert_eq!(project(&mut p, now, &audio, 0).unwrap().sequence, 3);
    audio.sequence = 2;
    assert_eq!(project(&mut p, now, &audio, 0).unwrap().sequence, 2);
}

#[test]
fn sender_reports_keep_time_exact_over_any_number_of_switches() {
    let start = Instant::now();
    let mut p = Projection::new(1, 8);
    // The second encoding's clock is 5000 ticks ahead; packets arrive with up to 40 ms of jitter.
    let ahead = [0u32, 5000];
    let mut first = None;
    for i in 0..60u32 {
        let wanted = (i / 6 % 2) as u8;
        for encoding in 0..2u8 {
            let now = start + Duration::from_millis(u64::from(33 * i + i * 7 % 40));
            let timestamp = i * 2970 + ahead[usize::from(encoding)];
            let mut input = packet(encoding, i64::from(i) * 2, timestamp, i % 6 == 0);
            input.ahead = Some(ahead[usize::from(encoding)]);
            if let Some(output) = project(&mut p, now, &input, wanted) {
                let capture = i * 2970;
                let first = *first.get_or_insert(output.timestamp.wrapping_sub(capture));
                let drift = output.timestamp.wrapping_sub(capture).wrapping_sub(first) as i32;
                // A switch within one picture takes the next tick.
                assert!((0..=1).contains(&drift), "{drift} ticks at {i}");
            }
        }
    }
}

/// The higher encoding comes two pictures later: its first pictures after a switch squeeze in behind what went out, then
/// everything is at its own time again.
#[test]
fn what_was_overtaken_returns_to_its_own_time() {
    let start = Instant::now();
    let mut p = Projection::new(1, 8);
    let ahead = [0u32, 5000];
    let late = [0i64, 2];
    let (mut outputs, mut first) = (Vec::new(), None);
    for i in 0..60i64 {
        for encoding in 0..2u8 {
            let at = usize::from(encoding);
            let picture = i - late[at];
            if picture < 0 {
                continue;
            }
            let capture = picture as u32 * 2970;
            let mut input = packet(encoding, picture * 2, capture + ahead[at], picture % 20 == 0);
            input.ahead = Some(ahead[at]);
            let now = start + Duration::from_millis(33 * i as u64);
            if let Some(output) = project(&mut p, now, &input, (i >= 19) as u8) {
                let first = *first.get_or_insert(output.timestamp.wrapping_sub(capture));
                outputs.push((output.timestamp, encoding, output.timestamp.wrapping_sub(capture).wrapping_sub(first)));
            }
        }
    }
    assert!(outputs.windows(2).all(|pair| pair[1].0 > pair[0].0), "time runs backwards: {outputs:?}");
    let late: Vec<u32> = outputs.iter().filter(|(_, encoding, _)| *encoding == 1).map(|(.., late)| *late).collect();
    assert_eq!(late[..4], [2 * 2970 + 1, 2970 + 2, 3, 0], "{outputs:?}");
    assert!(late[3..].iter().all(|late| *late == 0) && late.len() > 30, "{outputs:?}");
    assert_eq!(p.timestamp_shift(1), Some(0u32.wrapping_sub(5000)), "which is what sender reports are given");
}

proptest! {
    /// Three encodings sent without loss, any course of targets: the output has no hole, repeats nothing, its
    /// timestamps never run backwards, and every number leads back to the packet that it came from.
    #[test]
    fn output_is_continuous(
        frames in proptest::collection::vec((proptest::bool::weighted(0.2), 0u8..3, 1usize..4), 1..150),
        start in 0i64..70_000,
    ) {
        let mut now = Instant::now();
        let mut p = Projection::new(start, 8);
        let mut next = [1_000i64, 40_000, 90_000];
        let mut sent: Vec<(Output, u8, i64)> = Vec::new();
        for (i, (keyframe, desired, packets)) in frames.into_iter().enumerate() {
            now += Duration::from_millis(33);
            for encoding in 0..3u8 {
                for n in 0..packets {
                    let sequence = next[usize::from(encoding)];
                    next[usize::from(encoding)] += 1;
                    let timestamp = (i as u32) * 2970 + u32::from(encoding) * 1_000_000;
                    let input = packet(encoding, sequence, timestamp, keyframe && n == 0);
                    if let Some(output) = project(&mut p, now, &input, desired) {
                        if let Some((last, ..)) = sent.last() {
                            prop_assert_eq!(output.sequence, last.sequence + 1);
                            prop_assert!(output.timestamp.wrapping_sub(last.timestamp) < 1 << 31);
                        } else {
                            prop_assert_eq!(output.sequence, start);
                        }
                        prop_assert_eq!(p.origin(output.sequence as u16), Some((encoding, sequence)));
                        prop_assert_eq!(p.replay(output.sequence as u16, input.timestamp, input.picture, &input.frame), Some(output));
                        sent.push((output, encoding, sequence));
                    }
                }
            }
        }
    }

    /// Reordered and duplicated-free input on one encoding: every output number is used at most once.
    #[test]
    fn reordering_never_repeats_a_number(order in Just((1i64..200).collect::<Vec<_>>()).prop_shuffle()) {
        let now = Instant::now();
        let mut p = Projection::new(0, 8);
        let mut seen = std::collections::HashSet::new();
        for sequence in order {
            if let Some(output) = project(&mut p, now, &packet(0, sequence, 0, sequence % 10 == 1), 0) {
                prop_assert!(seen.insert(output.sequence));
            }
        }
    }
}

/// An SSRC of the bridge's own that carried one sender's stream goes on with another's: whatever the codecs, all numbers
/// follow, also across their ends.
#[test]
fn another_senders_stream_follows_on_the_same_ssrc() {
    let mut now = Instant::now();
    let mut vocabulary = crate::negotiation::vocabulary::Vocabulary::default();
    let mut format = |name: &str| {
        let payload_type = crate::ids::PayloadType::new(96).unwrap();
        let vp = crate::media::CodecParameters {
            payload_type,
            kind: crate::media::MediaKind::Video,
            name: name.to_owned(),
            clock_rate: 90_000,
            channels: 1,
            parameters: Vec::new(),
            feedback: Vec::new(),
        };
        let media = crate::media::Media { codecs: vec![vp], ..Default::default() };
        let mut names = crate::negotiation::vocabulary::Names::new(&mut vocabulary);
        let table = crate::negotiation::formats::FormatTable::compile(&media, &mut names);
        table.media(crate::media::MediaKind::Video, payload_type).map(|format| format.id)
    };
    let (av1, vp9) = (format("AV1"), format("VP9"));
    let of = |format, sequence, timestamp, id, tl0, templates| PacketInfo {
        format,
        picture: Picture { id: Some(id), tl0, templates },
        ..packet(0, sequence, timestamp, true)
    };
    let (mut resume, mut next) = (None, 65_535);
    let mut last: Option<Output> = None;
    let senders = [
        of(av1, 7, u32::MAX - 100, 65_535, None, Some((60, 5))),
        of(av1, 40_000, 5, 3, None, Some((0, 9))),
        of(vp9, 1, 77_000_000, 9_000, Some(255), None),
        of(vp9, 90_000, 1_000, 2, Some(7), None),
        of(av1, 65_000, 900, 12, None, Some((63, 4))),
    ];
    let mut templates = None;
    for sender in senders {
        let mut p = Projection::following(resume, next, 4);
        assert_eq!((p.current(), p.origin(next as u16), p.origin((next - 1) as u16)), (None, None, None));
        let delta = PacketInfo { entry: Entry::Delta, sequence: sender.sequence - 1, ..sender };
        assert_eq!(project(&mut p, now, &delta, 0), None, "not without a keyframe");
        let first = project(&mut p, now, &sender, 0).unwrap();
        assert_eq!(first.sequence, next);
        if let Some(last) = last {
            assert_eq!(first.timestamp.wrapping_sub(last.timestamp), 3_600, "40 ms passed");
            assert_eq!(first.picture.id, last.picture.id.map(|id| id + 1));
        }
        if let (Some(tl0), Some(Some(before))) = (first.picture.tl0, last.map(|l| l.picture.tl0)) {
            assert_eq!(tl0, u8::wrapping_add(before, 1));
        }
        if let Some((start, count)) = first.picture.templates {
            // Also when another codec was in between.
            if let Some((before, count)) = templates {
                assert_eq!(start, u8::wrapping_add(before, count) & 0x3f);
            }
            templates = Some((start, count));
        }
        (resume, next, last) = (p.last(), p.next_sequence(), Some(first));
        now += Duration::from_millis(40);
    }
    assert_eq!(next, 65_535 + 5);
}
