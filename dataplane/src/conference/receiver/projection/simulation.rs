//! Thousands of seeded senders, links and receivers' targets, for every codec's way of layering. The sender knows what its frames
//! truly refer to; the projection only sees what the codec reveals of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::*;
use crate::congestion::layer::LayerId;

const PICTURES: usize = 240;
/// From here on nothing changes any more and nothing is lost: the target has to be reached at the end.
const CALM: usize = 150;
const SEEDS: u64 = 150;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Vp8,
    Vp9,
    Av1,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    codec: Codec,
    encodings: u8,
    spatial: u8,
    temporal: u8,
    /// Deltas do not refer to lower spatial layers.
    k_svc: bool,
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Debug, Clone)]
struct Made {
    refs: Vec<usize>,
    packets: Vec<usize>,
}

#[derive(Default, Clone)]
struct Encoder {
    position: usize,
    picture: i64,
    tl0: u8,
    sequence: i64,
    /// Last frame of each spatial and temporal layer.
    last: HashMap<(u8, u8), usize>,
    top: u8,
    keyframe_due: Option<usize>,
}

#[derive(Debug)]
struct Sent {
    input: PacketInfo,
    frame: usize,
}

struct Sender {
    shape: Shape,
    encoders: Vec<Encoder>,
    frames: Vec<Made>,
    packets: Vec<Sent>,
}

impl Sender {
    fn new(shape: Shape, random: &mut Random) -> Self {
        let encoder = |random: &mut Random| Encoder {
            sequence: random.below(100_000) as i64,
            picture: random.below(30_000) as i64,
            tl0: random.below(256) as u8,
            top: shape.spatial - 1,
            keyframe_due: Some(0),
            ..Encoder::default()
        };
        let encoders = (0..shape.encodings).map(|_| encoder(random)).collect();
        Self { shape, encoders, frames: Vec::new(), packets: Vec::new() }
    }

    /// One picture of one encoding; `top` is its highest spatial layer.
    fn picture(&mut self, encoding: u8, number: usize, top: u8, random: &mut Random) {
        let shape = self.shape;
        let encoder = &mut self.encoders[usize::from(encoding)];
        let patterns: [&[u8]; 3] = [&[0], &[0, 1], &[0, 2, 1, 2]];
        let pattern = patterns[usize::from(shape.temporal) - 1];
        let mut begins_upper = false;
        if top != encoder.top {
            // Layers come at base pictures, with a keyframe where there is no prediction between layers otherwise.
            if top < encoder.top {
                encoder.top = top;
            } else if shape.codec == Codec::Vp9 && !shape.k_svc {
                begins_upper = pattern[encoder.position % pattern.len()] == 0;
            } else {
                encoder.keyframe_due.get_or_insert(number);
            }
        }
        let key = encoder.keyframe_due.is_some_and(|at| at <= number);
        if key {
            encoder.keyframe_due = None;
            encoder.position = 0;
            encoder.last.clear();
            encoder.top = top;
        }
        let before = encoder.top;
        if begins_upper && !key {
            encoder.top = top;
        }
        let temporal = pattern[encoder.position % pattern.len()];
        // The second half of VP8's pattern refers to upper layers of the first half.
        let half = encoder.position / pattern.len() % 2 == 1;
        encoder.picture += 1;
        if temporal == 0 {
            encoder.tl0 = encoder.tl0.wrapping_add(1);
        }
        for spatial in 0..=encoder.top {
            let id = self.frames.len();
            let alone = key || spatial > before;
            let last = |t: u8| encoder.last.get(&(spatial, t)).copied();
            let mut refs: Vec<(u8, usize)> = Vec::new();
            if !alone {
                let second = encoder.position % pattern.len() == 3;
                let layers: &[u8] = match (temporal, second, half && shape.codec == Codec::Vp8) {
                    (0, ..) => &[0],
                    (1, _, false) => &[0],
                    (1, _, true) => &[0, 1],
                    (_, false, false) => &[0],
                    (_, true, false) => &[0, 1],
                    (_, _, true) => &[0, 1, 2],
                };
                refs.extend(layers.iter().filter_map(|t| Some((*t, last(*t)?))));
            }
            let sync = refs.iter().all(|(t, _)| *t < temporal);
            let mut refs: Vec<usize> = refs.into_iter().map(|(_, id)| id).collect();
            let inter_layer = spatial > 0 && (alone || !shape.k_svc);
            if inter_layer {
                refs.push(id - 1);
            }
            encoder.last.insert((spatial, temporal), id);
            let referenced_above = key || !shape.k_svc;
            let needed = Points::from(spatial, temporal, referenced_above && shape.spatial > 1);
            let (needed, opens) = match shape.codec {
                Codec::Vp8 => {
                    let opens = if temporal > 0 && sync { Opens::Temporal } else { Opens::Nothing };
                    (Points::from(0, temporal, true), opens)
                }
                Codec::Vp9 => {
                    let opens = match (sync && temporal > 0, alone && spatial > 0) {
                        (true, _) => Opens::Temporal,
                        (false, true) => Opens::Spatial,
                        (false, false) => Opens::Nothing,
                    };
                    (needed, opens)
                }
                Codec::Av1 => {
                    let needed = if shape.spatial == 1 { Points::from(0, temporal, true) } else { needed };
                    let opens = match temporal {
                        0 => Points::at_spatial(spatial),
                        1 => Points::from(spatial, 2, false),
                        _ => Points::NONE,
                    };
                    (needed, Opens::Points(opens))
                }
            };
            let count = 1 + random.below(3) as usize;
            let mut packets = Vec::new();
            for n in 0..count {
                packets.push(self.packets.len());
                encoder.sequence += 1;
                let layered = shape.spatial > 1;
                let frame = Frame { spatial, temporal, needed, opens, ends: layered && n + 1 == count };
                let tl0 = (shape.codec != Codec::Av1).then_some(encoder.tl0);
                let input = PacketInfo {
                    encoding,
                    sequence: encoder.sequence,
                    timestamp: (number as u32 * 3000).wrapping_add(u32::from(encoding) * 0x5555_5555),
                    format: None,
                    entry: if key && spatial == 0 && n == 0 { Entry::Keyframe } else { Entry::Delta },
                    frame,
                    begins: n == 0,
                    first: false,
                    newest: false,
                    closes_ids: shape.codec == Codec::Vp8,
                    picture: Picture { id: Some(encoder.picture), tl0, templates: None },
                    clock_rate: 90_000,
                    ahead: None,
                };
                self.packets.push(Sent { input, frame: id });
            }
            self.frames.push(Made { refs, packets });
        }
        encoder.position += 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Perfect,
    Lossy,
}

fn simulate(shape: Shape, link: Link, seed: u64) {
    let context = format!("{shape:?} {link:?} seed {seed}");
    let mut random = Random(seed ^ 0x5eed);
    let mut sender = Sender::new(shape, &mut random);
    let start = Instant::now();
    let mut projection = Projection::new(random.below(1 << 15) as i64, 48);
    let top = LayerId { encoding: shape.encodings - 1, spatial: shape.spatial - 1, temporal: shape.temporal - 1 };
    let (mut target, mut top_encoding, mut top_spatial) = (top, top.encoding, top.spatial);
    let mut newest: HashMap<u8, u32> = HashMap::new();
    let mut out: BTreeMap<i64, (Output, usize)> = BTreeMap::new();
    let mut delayed: Vec<(usize, usize)> = Vec::new();
    // Packets that came in their turn; all that came, by encoding and number.
    let mut prompt = HashSet::new();
    let mut cache: HashMap<(u8, i64), usize> = HashMap::new();
    let mut desired = target;
    for number in 0..PICTURES {
        let now = start + Duration::from_micros(33_333 * number as u64);
        let calm = number >= CALM;
        if !calm && random.one_in(8) {
            target = LayerId {
                encoding: random.below(u64::from(shape.encodings)) as u8,
                spatial: random.below(u64::from(shape.spatial)) as u8,
                temporal: random.below(u64::from(shape.temporal)) as u8,
            };
        }
        if !calm && random.one_in(25) {
            projection.stop();
        }
        if calm || random.one_in(12) {
            top_encoding = if calm { top.encoding } else { random.below(u64::from(shape.encodings)) as u8 };
            top_spatial = if calm { top.spatial } else { random.below(u64::from(shape.spatial)) as u8 };
        }
        let before = sender.packets.len();
        for encoding in 0..=top_encoding {
            sender.picture(encoding, number, top_spatial, &mut random);
        }
        let mut order: Vec<(usize, usize)> = Vec::new();
        for i in before..sender.packets.len() {
            match link {
                Link::Lossy if !calm && random.one_in(30) => {}
                Link::Lossy if !calm && random.one_in(30) => delayed.push((i, i + 3 + random.below(30) as usize)),
                Link::Lossy if !calm && random.one_in(20) => order.push((i + 3, i)),
                _ => {
                    prompt.insert(i);
                    order.push((i, i));
                }
            }
        }
        let newest_packet = sender.packets.len();
        delayed.retain(|(i, at)| {
            let due = *at <= newest_packet;
            if due {
                order.push((*at, *i));
            }
            !due
        });
        order.sort_unstable();
        for (_, i) in order {
            let sent = &sender.packets[i];
            cache.insert((sent.input.encoding, sent.input.sequence), i);
            let mut input = sent.input;
            let step = newest.get(&input.encoding).map(|n| input.timestamp.wrapping_sub(*n));
            input.first = step.is_none_or(|step| (1..1 << 31).contains(&step));
            input.newest = input.first || step == Some(0);
            if input.first {
                newest.insert(input.encoding, input.timestamp);
            }
            let sent_top = sender.encoders[usize::from(top_encoding.min(target.encoding))].top;
            desired = LayerId {
                encoding: target.encoding.min(top_encoding),
                spatial: if target.encoding > top_encoding { sent_top } else { target.spatial.min(sent_top) },
                ..target
            };
            if let Some(output) = projection.project(now, &input, desired) {
                let twice = out.insert(output.sequence, (output, i));
                assert!(twice.is_none(), "{context}: number {} twice", output.sequence);
                let number = output.sequence as u16;
                assert_eq!(projection.origin(number), Some((input.encoding, input.sequence)), "{context}");
                let again = projection.replay(number, input.timestamp, input.picture, &input.frame);
                assert_eq!(again, Some(output), "{context}");
            }
            if projection.awaits_keyframe(desired) {
                let delay = random.below(6) as usize;
                sender.encoders[usize::from(desired.encoding)].keyframe_due.get_or_insert(number + 1 + delay);
            }
        }
        // The receiver asks for what it misses.
        let newest = out.keys().last().copied().unwrap_or(0);
        let first = out.keys().next().copied().unwrap_or(0);
        for missing in first.max(newest - 60)..newest {
            if !out.contains_key(&missing)
                && let Some(i) = projection.origin(missing as u16).and_then(|origin| cache.get(&origin).copied())
                && let input = sender.packets[i].input
                && let Some(output) = projection.replay(missing as u16, input.timestamp, input.picture, &input.frame)
            {
                assert_eq!(output.sequence, missing, "{context}");
                out.insert(missing, (output, i));
            }
        }
    }
    // The target is reached.
    assert_eq!(projection.current(), Some(desired.encoding), "{context}");
    assert_eq!(projection.run.point, desired.point(), "{context}: {desired:?}");
    check(shape, link, &sender, &out, &prompt, &context);
}

fn check(
    shape: Shape,
    link: Link,
    sender: &Sender,
    out: &BTreeMap<i64, (Output, usize)>,
    prompt: &HashSet<usize>,
    context: &str,
) {
    let forwarded: HashSet<usize> = out.values().map(|(_, i)| *i).collect();
    let list: Vec<&(Output, usize)> = out.values().collect();
    let (first, last) = (out.keys().next().unwrap(), out.keys().last().unwrap());
    let missing = (last - first + 1) as usize - out.len();
    match link {
        Link::Perfect => assert_eq!(missing, 0, "{context}: holes"),
        // Every packet that was not there in its time may leave one hole.
        Link::Lossy => assert!(missing <= sender.packets.len() - prompt.len(), "{context}: {missing} holes"),
    }
    for pair in list.windows(2) {
        let ((a, i), (b, j)) = (pair[0], pair[1]);
        let step = b.timestamp.wrapping_sub(a.timestamp);
        assert!(step < 1 << 31, "{context}: timestamps run backwards");
        let ids = b.picture.id.unwrap() - a.picture.id.unwrap();
        let same = sender.packets[*i].input.picture == sender.packets[*j].input.picture
            && sender.packets[*i].input.encoding == sender.packets[*j].input.encoding;
        assert!(if same { ids == 0 } else { ids > 0 }, "{context}: picture ids step by {ids}");
        if link == Link::Perfect && shape.codec == Codec::Vp8 && !same {
            assert_eq!(ids, 1, "{context}: picture ids leave holes");
        }
        if link == Link::Perfect && shape.spatial > 1 {
            let leaves = i64::from(step != 0);
            let top = sender.packets[*i].input.frame;
            let marked = a.ends_picture || (top.ends && is_last(sender, *i));
            // A layer that starts in the middle of a picture may follow a marker.
            assert!(leaves == 0 || marked, "{context}: picture without an end");
        }
    }
    for i in &forwarded {
        let frame = &sender.frames[sender.packets[*i].frame];
        if link == Link::Perfect {
            assert!(frame.packets.iter().all(|p| forwarded.contains(p)), "{context}: part of a frame");
        }
        for reference in &frame.refs {
            let parts = &sender.frames[*reference].packets;
            let there = match link {
                Link::Perfect => parts.iter().all(|p| forwarded.contains(p)),
                // Some of it went out, or nothing of it was there to go out in time.
                Link::Lossy => parts.iter().any(|p| forwarded.contains(p) || !prompt.contains(p)),
            };
            assert!(there, "{context}: undecodable");
        }
    }
}

/// Whether a packet is the last one of its picture as sent.
fn is_last(sender: &Sender, i: usize) -> bool {
    let this = &sender.packets[i].input;
    sender
        .packets
        .get(i + 1)
        .is_none_or(|next| next.input.encoding != this.encoding || next.input.picture.id != this.picture.id)
}

fn run(shape: Shape) {
    for seed in 0..SEEDS {
        simulate(shape, Link::Perfect, seed);
        simulate(shape, Link::Lossy, seed);
    }
}

#[test]
fn vp8_simulcast_with_temporal_layers() {
    for temporal in 1..=3 {
        run(Shape { codec: Codec::Vp8, encodings: 3, spatial: 1, temporal, k_svc: false });
    }
}

#[test]
fn vp9_svc() {
    for k_svc in [false, true] {
        run(Shape { codec: Codec::Vp9, encodings: 1, spatial: 3, temporal: 3, k_svc });
    }
}

#[test]
fn vp9_simulcast() {
    run(Shape { codec: Codec::Vp9, encodings: 3, spatial: 1, temporal: 3, k_svc: false });
}

#[test]
fn av1_svc() {
    run(Shape { codec: Codec::Av1, encodings: 1, spatial: 1, temporal: 3, k_svc: false });
    run(Shape { codec: Codec::Av1, encodings: 1, spatial: 3, temporal: 3, k_svc: true });
}

#[test]
fn av1_simulcast() {
    run(Shape { codec: Codec::Av1, encodings: 3, spatial: 1, temporal: 3, k_svc: false });
}
