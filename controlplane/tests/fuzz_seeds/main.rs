//! The fuzz targets (docs/fuzzing.md) over their seeds, and over as many changed ones as fit a short time: what CI runs, since
//! an instrumented build takes longer than all of its tests. `RINGBRIDGE_FUZZ_SECONDS` is the time of each target (1).

// Each of them is a module of the crate `fuzz/`, which is no member of this workspace.
#[path = "../../../bench/src/media/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
mod bench_media;
#[path = "../../../fuzz/src/capture.rs"]
mod capture;
#[path = "../../../fuzz/src/channel.rs"]
mod channel;
#[path = "../../../fuzz/src/colibri.rs"]
mod colibri;
#[path = "../../../fuzz/src/conference_request.rs"]
mod conference_request;
#[path = "../../../fuzz/src/config.rs"]
mod config;
#[path = "../../../fuzz/src/dtls.rs"]
mod dtls;
#[path = "../../../fuzz/src/edits.rs"]
mod edits;
#[path = "../../../dataplane/tests/faulty_relay/mod.rs"]
mod faulty_relay;
#[path = "../../../fuzz/src/focus.rs"]
mod focus;
#[path = "../focus_world/mod.rs"]
mod focus_world;
#[path = "../../../dataplane/tests/forward_call/mod.rs"]
mod forward_call;
#[path = "../../../fuzz/src/forwarder.rs"]
mod forwarder;
#[path = "../../../fuzz/src/handover.rs"]
mod handover;
#[path = "../../../fuzz/src/handover_bridge.rs"]
mod handover_bridge;
#[path = "../../../fuzz/src/handover_media.rs"]
mod handover_media;
mod handover_seeds;
#[path = "../../../fuzz/src/ice.rs"]
mod ice;
#[path = "../../../fuzz/src/input.rs"]
#[allow(dead_code)]
mod input;
mod make;
#[path = "../../../dataplane/tests/forward_handover/meeting.rs"]
mod meeting;
#[path = "../../../fuzz/src/parsers.rs"]
mod parsers;
#[path = "../../../fuzz/src/public_address.rs"]
mod public_address;
#[path = "../../../fuzz/src/relay.rs"]
mod relay;
#[path = "../../../dataplane/tests/relay_call/mod.rs"]
mod relay_call;
#[path = "../../../fuzz/src/scratch.rs"]
mod scratch;
#[path = "../../../fuzz/src/sctp.rs"]
mod sctp;
#[path = "../../../fuzz/src/services.rs"]
mod services;
#[path = "../../../fuzz/src/sink.rs"]
mod sink;
#[path = "../../../fuzz/src/stun.rs"]
mod stun;
#[path = "../../../fuzz/src/visitors.rs"]
mod visitors;
#[path = "../../../fuzz/src/xml.rs"]
mod xml;
#[path = "../../../fuzz/src/xmpp.rs"]
mod xmpp;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Longest changed input, bytes.
const LONGEST: usize = 16 * 1024;
/// A state machine may recurse as deep as in the bridge: the stack of its main thread.
const STACK: usize = 8 * 1024 * 1024;

const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds");

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(SEEDS).join(target);
    let mut seeds: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .flatten()
        .map(|entry| (entry.path().display().to_string(), std::fs::read(entry.path()).expect("a seed")))
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{target} has no seeds");
    seeds
}

fn changed(random: &mut StdRng, seeds: &[(String, Vec<u8>)]) -> Vec<u8> {
    let pick = |random: &mut StdRng| seeds.choose(random).map(|(_, seed)| seed.clone()).unwrap_or_default();
    let mut input = pick(random);
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..=input.len());
        match random.random_range(0..7) {
            0 if at < input.len() => input[at] = random.random(),
            1 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            2 => input.insert(at, *[0, 1, 0x7f, 0x80, 0xff, b'<', b'"'].choose(random).expect("some")),
            3 => drop(input.drain(at..(at + random.random_range(0..16)).min(input.len()))),
            4 => input.truncate(at),
            5 => {
                let other = pick(random);
                let from = random.random_range(0..=other.len());
                input.truncate(at);
                input.extend(&other[from..]);
            }
            _ => {
                let until = (at + random.random_range(0..64)).min(input.len());
                let part = input[at..until].to_vec();
                let to = random.random_range(0..=input.len());
                input.splice(to..to, part);
            }
        }
    }
    input.truncate(LONGEST);
    input
}

fn drive(name: &str, run: fn(&[u8])) {
    let seconds = std::env::var("RINGBRIDGE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let seeds = seeds(name);
    for (path, seed) in &seeds {
        assert!(catch_unwind(AssertUnwindSafe(|| run(seed))).is_ok(), "seed {path}");
    }
    let mut random = StdRng::seed_from_u64(7);
    let (start, mut inputs) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(seconds) {
        let input = changed(&mut random, &seeds);
        inputs += 1;
        if catch_unwind(AssertUnwindSafe(|| run(&input))).is_err() {
            let path = std::env::temp_dir().join(format!("ringbridge-found-{name}"));
            std::fs::write(&path, &input).expect("written");
            panic!("input {inputs}, kept as {}", path.display());
        }
    }
    println!("{name}: {} seeds, {inputs} changed ones in {seconds} s", seeds.len());
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                let thread = std::thread::Builder::new().stack_size(STACK);
                thread.spawn(|| drive(stringify!($name), $name::run)).expect("a thread").join().expect("a finding");
            }
        )*

        #[test]
        fn every_target_is_here() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/fuzz_targets");
            let files = std::fs::read_dir(folder).expect("targets").flatten();
            let mut there: Vec<_> = files.map(|file| file.file_name().into_string().expect("a name")).collect();
            let mut here = vec![$(concat!(stringify!($name), ".rs")),*];
            there.sort();
            here.sort();
            assert_eq!(there, here);
        }
    };
}

targets!(
    parsers,
    stun,
    forwarder,
    ice,
    dtls,
    sctp,
    channel,
    colibri,
    handover,
    handover_bridge,
    handover_media,
    focus,
    services,
    conference_request,
    config,
    capture,
    public_address,
    relay,
    visitors,
    xmpp
);
