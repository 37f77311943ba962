//! Seeds of the target `relay`: bytes as `dataplane/tests/faulty_relay` reads them.

use super::Seeds;

/// Places in its table of SSRCs: of this bridge, audio and video of one behind the relay, and of nobody.
const LOCAL: [u8; 6] = [0, 1, 2, 4, 5, 6];
const BEHIND: [u8; 3] = [7, 8, 9];
const NOBODY: u8 = 15;

/// A packet of sound, or of VP8 (`key`: a keyframe begins).
fn sound(ssrc: u8, sequence: u16) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    vec![ssrc, 0, 0, 1, 3, 1, 2, 3, high, low, high, low]
}

fn picture(ssrc: u8, sequence: u16, key: bool) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    vec![ssrc, 0, 1, if key { 0x1c } else { 0x10 }, high & 0x7f, low, low, high, low, high, low]
}

/// The honest client of this number sends.
fn honest(client: u8, what: u8) -> Vec<u8> {
    vec![0, 14, client, what]
}

pub(super) fn relays(seeds: &Seeds) {
    let mut plays = Vec::new();
    for n in 0..20u16 {
        plays.extend(sound(BEHIND[0], 100 + n));
        plays.extend(picture(BEHIND[1], 200 + n, n % 8 == 0));
        plays.extend(honest(n as u8 & 1, 0x81));
    }
    seeds.write("relay", "plays", &plays);
    let mut loops = Vec::new();
    for n in 0..10u16 {
        LOCAL.iter().for_each(|ssrc| loops.extend(picture(*ssrc, 65_000 + n, n == 0)));
        loops.extend(sound(LOCAL[0], 65_000 + n));
        loops.extend(sound(NOBODY, n));
        loops.extend(honest(0, 0x81));
    }
    seeds.write("relay", "loops", &loops);
    let jumps = [0, 1, 0x7fff, 0x8000, 0xffff, 2, 0x4000, 0xc000, 0, 0x8001];
    let jumps = jumps.iter().flat_map(|n| [sound(BEHIND[0], *n), picture(BEHIND[1], *n, n % 2 == 0)].concat());
    seeds.write("relay", "jumps", jumps.collect::<Vec<u8>>());
    let mut asks = plays[..60].to_vec();
    for ssrc in LOCAL.iter().chain(&BEHIND).chain(&[NOBODY]) {
        asks.extend([*ssrc, 5, 3, 0, 0xff, 0xff, 17, 0, 0, 40, 0xff, 0xff, *ssrc, 7, 1, 0, 1, 0, 1]);
        asks.extend([*ssrc, 8, 1, *ssrc, 7, 8, 0, 0, 0, 1, 0, 0, 0, 2]);
        asks.extend(honest(1, 1));
    }
    seeds.write("relay", "asks", &asks);
    let mut signals = Vec::new();
    for n in 0..8u8 {
        // Sources that come and go, what is wanted, other keys, other numbers, time, somebody who connects anew.
        signals.extend([0, 10, 1, 1 << n, n & 1, 0, 11, n, n & 1, n % 3, 0, 12, 0, 0, 12, 1, n & 1]);
        signals.extend([0, 13, 0, n & 1, n, n, 0, 13, 1, 50]);
        signals.extend(picture(BEHIND[1], u16::from(n), n == 0));
        signals.extend(honest(n & 1, 0x80 | n));
    }
    seeds.write("relay", "signals", &signals);
}
