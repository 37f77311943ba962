//! Recordings of Chromium, projected through scripts of layer switches and decoded by ffmpeg: every picture that comes out
//! has to be, to the pixel, the picture that the sender encoded.
//!
//! `RINGBRIDGE_RECORDINGS` names a folder with `vp8.rtpdump`, `vp9.rtpdump`, `av1.rtpdump`, `h264.rtpdump` and what
//! `tools/record` wrote beside them; `tools/test` makes short ones. Without it, or without ffmpeg, nothing is tested.

mod forward_call;
mod recorded;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use forward_call::*;
use recorded::{Codec, Picture, Recording, decode, pictures};
use ringbridge_dataplane::conference::ForwarderConfig;
use ringbridge_dataplane::media::*;

/// One constraint: from when on, milliseconds; height; frames per second.
type Wish = (u64, Limit, Limit);

const ANY: Limit = Limit::Unlimited;

/// What the receiver asks for in turn. Keyframes are about 700 ms apart.
fn scripts(length: u64) -> Vec<(String, Vec<Wish>)> {
    let turns = |name: &str, wishes: &[(u32, Limit)]| {
        let each = length / wishes.len() as u64;
        let list =
            wishes.iter().zip(0..).map(|((height, rate), i)| (i * each, Limit::at_most(*height), *rate)).collect();
        (name.to_owned(), list)
    };
    let mut all = vec![
        turns("top", &[(720, ANY)]),
        turns("down and up", &[(720, ANY), (180, ANY), (90, ANY), (180, ANY), (720, ANY)]),
        turns("ends", &[(1, ANY), (720, ANY), (1, ANY), (720, ANY)]),
        turns(
            "frame rates",
            &[(720, ANY), (720, Limit::Max(15)), (720, Limit::Max(7)), (720, Limit::Max(15)), (720, ANY)],
        ),
        turns("both", &[(90, Limit::Max(7)), (720, Limit::Max(15)), (180, ANY), (720, Limit::Max(7)), (90, ANY)]),
        turns("off and on", &[(720, ANY), (0, ANY), (90, ANY), (0, ANY), (720, ANY)]),
    ];
    for seed in 1..=4u64 {
        let mut state = seed;
        let mut draw = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let wish =
            |_| ([1, 90, 180, 720][draw(4) as usize], [ANY, ANY, Limit::Max(15), Limit::Max(7)][draw(4) as usize]);
        let wishes: Vec<(u32, Limit)> = (0..length / 400).map(wish).collect();
        all.push(turns(&format!("random {seed}"), &wishes));
    }
    all
}

/// Sends the recording through a bridge to one receiver that follows the script; returns what that got.
fn project(recording: &Recording, script: &[Wish]) -> Vec<RtpPacket> {
    // Nothing limits the path: the script alone decides.
    let mut call = Call::with(ForwarderConfig { congestion_control: false, ..ForwarderConfig::default() });
    call.join(recording.media(), vec![video_source("a-v0", &recording.encodings)]);
    call.join(recording.media(), vec![]);
    call.settle();
    let mut script = script.iter().peekable();
    let mut now = 0;
    for (at, packet) in &recording.packets {
        while let Some((_, height, rate)) = script.next_if(|(from, ..)| from <= at) {
            let default = VideoConstraint { max_height: *height, max_frame_rate: *rate };
            call.constrain(1, ReceiverConstraints { default, ..ReceiverConstraints::default() });
            call.settle();
        }
        call.millis(at.saturating_sub(now));
        now = *at.max(&now);
        call.send(0, packet);
    }
    call.clients[1].take_rtp()
}

/// What every picture decodes to, by the bytes of its highest frame.
fn truth(recording: &Recording, folder: &Path) -> HashMap<Vec<u8>, String> {
    let mut truth = HashMap::new();
    for ssrc in &recording.encodings {
        let packets: Vec<RtpPacket> =
            recording.packets.iter().filter(|(_, p)| p.header.ssrc == *ssrc).map(|(_, p)| p.clone()).collect();
        let all = pictures(recording.codec, &packets);
        let layers = all.iter().map(|p| p.frames.len()).max().unwrap_or(1);
        for layer in 0..layers as u8 {
            // In keyframes each layer is predicted from the one below it, else only from itself (L3T3_KEY).
            let own = |p: &Picture| {
                let frames = p.frames.iter().filter(|(l, _)| **l == layer || (p.keyframe && **l < layer));
                let frames: BTreeMap<u8, Vec<u8>> = frames.map(|(l, f)| (*l, f.clone())).collect();
                frames.contains_key(&layer).then(|| Picture { frames, ..p.clone() })
            };
            let list: Vec<Picture> = all.iter().filter_map(own).collect();
            // A layer that comes in later cannot be decoded before a keyframe.
            let list = &list[list.iter().position(|p| p.keyframe).unwrap_or(list.len())..];
            let decoded = decode(recording.codec, list, &folder.join(format!("truth-{ssrc}-{layer}")));
            assert_eq!(decoded.len(), list.len(), "{ssrc} {layer}: the recording itself decodes");
            truth.extend(list.iter().zip(decoded).map(|(p, sum)| (p.frames[&layer].clone(), sum)));
        }
    }
    truth
}

#[test]
fn what_comes_out_decodes_to_what_went_in() {
    let Some(folder) = std::env::var_os("RINGBRIDGE_RECORDINGS") else {
        return println!("skipped: RINGBRIDGE_RECORDINGS names no folder of recordings; tools/record makes them");
    };
    if std::process::Command::new("ffmpeg").arg("-version").output().is_err() {
        return println!("skipped: no ffmpeg; apt-get install ffmpeg");
    }
    let folder = Path::new(&folder);
    let scratch = std::env::temp_dir().join(format!("ringbridge-recorded-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).unwrap();
    let mut any = false;
    for codec in Codec::ALL {
        let file = folder.join(format!("{}.rtpdump", codec.name()));
        if !file.exists() {
            continue;
        }
        any = true;
        let recording = Recording::read(codec, &file);
        let truth = truth(&recording, &scratch);
        let length = recording.packets.last().unwrap().0;
        for (name, script) in scripts(length) {
            let got = project(&recording, &script);
            for pair in got.windows(2) {
                let step = pair[1].header.sequence_number.wrapping_sub(pair[0].header.sequence_number);
                assert_eq!(step, 1, "{codec:?} {name}: a hole");
            }
            let list = pictures(codec, &got);
            let decoded = decode(codec, &list, &scratch.join(format!("{}-{}", codec.name(), name.replace(' ', "-"))));
            assert_eq!(decoded.len(), list.len(), "{codec:?} {name}: pictures that came out of the decoder");
            assert!(list.len() > 10, "{codec:?} {name}: {} pictures", list.len());
            let mut sizes = BTreeMap::<usize, usize>::new();
            for (number, (picture, sum)) in list.iter().zip(&decoded).enumerate() {
                let (layer, top) = picture.frames.last_key_value().unwrap();
                let expected = truth.get(top);
                assert_eq!(Some(sum), expected, "{codec:?} {name}: picture {number} (layer {layer}) is another one");
                *sizes.entry(sum.split(' ').next().unwrap().parse().unwrap()).or_default() += 1;
            }
            println!("{} {name}: {} pictures, bytes by number: {sizes:?}", codec.name(), list.len());
            if name == "down and up" {
                assert!(sizes.len() >= 2, "{codec:?}: it never switched");
            }
        }
    }
    std::fs::remove_dir_all(&scratch).unwrap();
    assert!(any, "{} has none of the recordings", folder.display());
}
