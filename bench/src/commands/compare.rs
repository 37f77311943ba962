//! `compare`: ringbridge and others in turn on the same cores, with the same generator and the same packets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringbridge_dataplane::io::{Backend, IoChoice, IoExtras, IoLimits};
use ringbridge_dataplane::media::Limit;
use serde::Serialize;

use crate::arena::{Arena, Contestant, DELIVERED, Spread, alternate, ratios};
use crate::commands::floor::{crypto_on, payload_of};
use crate::commands::rooms::{self, RoomsArgs};
use crate::commands::{memory, saturate};
use crate::cores::{self, CoreArgs};
use crate::scenario::{Scenario, Shape};
use crate::subject::SubjectError;
use crate::subject::bare::Method;
use crate::subject::in_process::Options;
use crate::window::Window;

/// Pairs of windows behind every ratio.
const ROUNDS: usize = 9;

/// Compare ringbridge with the lower bound, and with other forwarders that are installed.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// `rooms`: many small conferences instead of the other scenarios; one line of JSON for each number of rooms.
    #[arg(long, value_enum)]
    scenario: Option<Shape>,
    #[command(flatten)]
    rooms: RoomsArgs,
    /// Seconds to measure ringbridge, over three scenarios, two backends and nine rounds (rooms: over all numbers of rooms). Other
    /// forwarders are measured for as long in each scenario they take part in, so 60 takes about eight minutes in all.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Folder with the other forwarders' programs, made by bench/peers/build.
    #[arg(long, default_value = "target/peers")]
    peers: PathBuf,
    /// Only these forwarders (names as in the JSON); `none` for none.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    cores: CoreArgs,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

/// Names in the JSON, and the peers' programs.
const PEERS: [(&str, &str); 6] = [
    ("tokio_uring", "peer-tokio-uring"),
    ("tokio_webrtc_rs", "peer-webrtc-rs"),
    ("janus", "peer-janus"),
    ("livekit", "peer-livekit"),
    ("pion", "peer-pion"),
    ("str0m", "peer-str0m"),
];

#[derive(Debug, Default, Serialize)]
struct Report {
    /// Ours divided by theirs; null where it could not run.
    ratios: BTreeMap<&'static str, Option<f64>>,
    /// Least and greatest of the pairs behind a ratio.
    spread: BTreeMap<&'static str, Spread>,
    /// Why something could not run.
    missing: BTreeMap<&'static str, String>,
    allocs_per_packet: Option<f64>,
    syscalls_per_packet: BTreeMap<&'static str, Option<f64>>,
    bytes_per_receiver: Option<f64>,
    bytes_per_idle_endpoint: Option<f64>,
    /// The backend that `auto` chose: the one whose cost is compared.
    backend: &'static str,
    /// Nanoseconds of processor time per forwarded packet, by scenario and contestant.
    nanos: BTreeMap<String, Spread>,
    /// SRTP profile that each contestant negotiated in `fanout`.
    profiles: BTreeMap<String, String>,
    /// Share of packets lost.
    loss: BTreeMap<String, f64>,
}

impl Report {
    fn ratio(&mut self, name: &'static str, values: Vec<f64>) {
        let spread = Spread::of(values);
        self.ratios.insert(name, spread.map(|spread| spread.median));
        if let Some(spread) = spread {
            self.spread.insert(name, spread);
        }
    }

    fn note(&mut self, scenario: &str, arenas: &[Arena]) {
        for arena in arenas {
            let name = format!("{scenario}/{}", arena.name);
            if let Some(spread) = Spread::of(arena.windows.iter().map(Window::nanos_per_packet)) {
                self.nanos.insert(name.clone(), spread);
            }
            let loss = Spread::of(arena.windows.iter().map(Window::loss)).map_or(0.0, |loss| loss.median);
            self.loss.insert(name.clone(), loss);
            if let Some(profile) = arena.profile() {
                self.profiles.insert(name, format!("{profile:?}"));
            }
        }
    }
}

/// Runs it; false when a payload that ringbridge forwarded was wrong.
pub fn run(args: &CompareArgs) -> Result<bool, SubjectError> {
    cores::all();
    let backend =
        ringbridge_dataplane::io::probe(IoChoice::Auto, IoExtras { coalesce: Some(0), ..IoExtras::default() })?.backend;
    cores::pin(&[args.cores.generator_core])?;
    match args.scenario {
        None => {}
        Some(Shape::Rooms) => return compare_rooms(args),
        Some(other) => {
            let what = format!("compare takes rooms as --scenario, or none for all others, not {}", other.name());
            return Err(SubjectError::Missing(what));
        }
    }
    let mut report = Report { backend: backend.name(), ..Report::default() };
    let mut right = true;
    let turn = Duration::from_secs_f64(args.seconds / (3 * 2 * ROUNDS) as f64);

    right &= fanout(args, backend, turn, &mut report)?;
    for (name, shape) in [("floor_mesh20", Shape::Mesh), ("floor_audio", Shape::Audio)] {
        let scenario = Scenario::new(shape, 20);
        let mut arenas = ours(args.cores.core, &scenario, 3)?;
        arenas.extend(bare(args.cores.core, &scenario, 10));
        alternate(&mut arenas, ROUNDS, turn, shape.name())?;
        right &= check(&arenas);
        floor_ratio(args.cores.core, name, &scenario, backend, &arenas, &mut report)?;
        report.note(shape.name(), &arenas);
    }
    growth(args, backend, turn, &mut report)?;
    let contestant = Contestant::ringbridge(choice(backend), &[args.cores.core]);
    match saturate::latency_over_echo(&contestant, args.cores.core, ROUNDS, turn) {
        Ok(values) => report.ratio("latency_p99_over_echo", values),
        Err(error) => {
            report.ratios.insert("latency_p99_over_echo", None);
            report.missing.insert("latency_p99_over_echo", error.to_string());
        }
    }
    let memory = memory::measure()?;
    report.bytes_per_receiver = Some(memory.per_receiver);
    report.bytes_per_idle_endpoint = Some(memory.per_idle_endpoint);
    let steps = ringbridge_step::run(50, 5000);
    report.allocs_per_packet = Some(steps.allocations as f64 / steps.forwarded.max(1) as f64);

    print(&report);
    if args.json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    }
    Ok(right)
}

/// Both of ringbridge's backends and the other forwarders beside the bare loops.
fn compare_rooms(args: &CompareArgs) -> Result<bool, SubjectError> {
    let mut contestants = vec![("mmsg", Contestant::ringbridge(IoChoice::Mmsg, &[args.cores.core]))];
    if ringbridge_dataplane::io::probe(IoChoice::Uring, IoExtras::default()).is_ok() {
        contestants.push(("uring", Contestant::ringbridge(IoChoice::Uring, &[args.cores.core])));
    }
    // What every packet costs that is handled as soon as it comes.
    let waiting = IoLimits { extras: IoExtras { coalesce: Some(150), ..IoExtras::default() }, ..IoLimits::default() };
    let options =
        Options { io: IoChoice::Mmsg, cores: vec![args.cores.core], limits: waiting, last_n: Limit::Unlimited };
    contestants.push(("mmsg, coalesce=150", Contestant::Ringbridge(options)));
    contestants.push(("whole", Contestant::Whole(args.cores.core)));
    let points = args.rooms.points() * if args.rooms.saturation() { 4 } else { 1 };
    let each = args.seconds / points.max(1) as f64;
    for (name, program) in PEERS {
        if args.only.is_empty() || args.only.iter().any(|only| only == name) {
            contestants.push((name, Contestant::Peer(args.peers.join(program), args.cores.core)));
        }
    }
    rooms::measure(&args.rooms, args.cores.core, each, &contestants, |line| match args.json {
        true => println!("{}", serde_json::to_string(&line).unwrap_or_default()),
        false => rooms::print(&line),
    })
}

fn choice(backend: Backend) -> IoChoice {
    match backend {
        Backend::Uring => IoChoice::Uring,
        Backend::Mmsg => IoChoice::Mmsg,
    }
}

/// Both of ringbridge's backends, as far as the host allows.
fn ours(core: usize, scenario: &Scenario, samples: usize) -> Result<Vec<Arena>, SubjectError> {
    let mut arenas = Vec::new();
    for (net, name, io) in [(1, "mmsg", IoChoice::Mmsg), (2, "uring", IoChoice::Uring)] {
        match Arena::new(name, &Contestant::ringbridge(io, &[core]), scenario, net, samples, Vec::new()) {
            Ok(arena) => arenas.push(arena),
            Err(SubjectError::Dataplane(error)) if io == IoChoice::Uring => eprintln!("uring: {error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(arenas)
}

/// The bare loops; the best of them is the floor.
fn bare(core: usize, scenario: &Scenario, first_net: u8) -> Vec<Arena> {
    let methods = [Method::Sendmmsg, Method::Gso, Method::GsoConnected];
    let start = |(net, method): (u8, Method)| {
        Arena::new(method.name(), &Contestant::Bare(method, core), scenario, net, 0, Vec::new()).ok()
    };
    (first_net..).zip(methods).filter_map(start).collect()
}

fn named<'a>(arenas: &'a [Arena], name: &str) -> Option<&'a Arena> {
    arenas.iter().find(|arena| arena.name == name)
}

/// Cost per packet against the sum of the best bare loop, copy, seal and the share of opening, round by round.
fn floor_ratio(
    core: usize,
    name: &'static str,
    scenario: &Scenario,
    backend: Backend,
    arenas: &[Arena],
    report: &mut Report,
) -> Result<(), SubjectError> {
    let Some(ours) = named(arenas, backend.name()) else { return Ok(()) };
    let Some(first) = ours.windows.first() else { return Ok(()) };
    let crypto = crypto_on(core, payload_of(first))?;
    let seal = ours.profile().map_or(crypto.seal_aes128_gcm, |profile| crypto.seal(profile));
    let fixed = crypto.copy + seal + crypto.open_aes128_gcm / scenario.fan_out() as f64;
    let best = Method::FORWARD
        .iter()
        .filter_map(|method| named(arenas, method.name()))
        .min_by(|a, b| median(a).total_cmp(&median(b)));
    let Some(best) = best else { return Ok(()) };
    let values = ours.windows.iter().zip(&best.windows);
    report.ratio(name, values.map(|(our, io)| our.nanos_per_packet() / (io.nanos_per_packet() + fixed)).collect());
    Ok(())
}

fn median(arena: &Arena) -> f64 {
    Spread::of(arena.windows.iter().map(Window::nanos_per_packet)).map_or(f64::INFINITY, |spread| spread.median)
}

fn fanout(args: &CompareArgs, backend: Backend, turn: Duration, report: &mut Report) -> Result<bool, SubjectError> {
    let scenario = Scenario::new(Shape::Fanout, 50);
    let mut arenas = ours(args.cores.core, &scenario, 3)?;
    arenas.extend(bare(args.cores.core, &scenario, 10));
    for (net, (name, program)) in (20..).zip(PEERS) {
        report.ratios.insert(name, None);
        if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            report.missing.insert(name, "not asked for (--only)".into());
            continue;
        }
        let contestant = Contestant::Peer(args.peers.join(program), args.cores.core);
        match Arena::beside(&mut arenas, (name, &contestant), &scenario, net, 3, Vec::new()) {
            Ok(arena) => arenas.push(arena),
            Err(error) => {
                report.missing.insert(name, error.to_string());
            }
        }
    }
    alternate(&mut arenas, ROUNDS, turn, "fanout")?;
    let right = check(&arenas);
    floor_ratio(args.cores.core, "floor_fanout50", &scenario, backend, &arenas, report)?;
    for (name, _) in PEERS {
        let (Some(ours), Some(theirs)) = (named(&arenas, backend.name()), named(&arenas, name)) else { continue };
        if let Some(error) = &theirs.failure {
            report.missing.insert(name, error.to_string());
            continue;
        }
        // Who forwards less than was sent costs nothing per packet that it should have forwarded.
        match theirs.windows.iter().map(Window::delivered).reduce(f64::min) {
            Some(least) if least < DELIVERED => {
                let text = format!("delivered only {:.0} % of a round's packets", least * 100.0);
                report.missing.insert(name, text);
            }
            _ => report.ratio(name, ratios(&ours.windows, &theirs.windows)),
        }
    }
    for name in ["uring", "mmsg"] {
        let syscalls = named(&arenas, name).and_then(|arena| {
            Spread::of(arena.windows.iter().filter_map(Window::syscalls_per_packet)).map(|spread| spread.median)
        });
        report.syscalls_per_packet.insert(name, syscalls);
    }
    report.note("fanout", &arenas);
    Ok(right)
}

fn growth(args: &CompareArgs, backend: Backend, turn: Duration, report: &mut Report) -> Result<(), SubjectError> {
    let mut arenas = Vec::new();
    for (net, size, name) in [(1, 10, "10"), (2, 500, "500")] {
        let contestant = Contestant::ringbridge(choice(backend), &[args.cores.core]);
        let mut arena = Arena::new(name, &contestant, &Scenario::new(Shape::Fanout, size), net, 1, Vec::new())?;
        // As many forwarded packets a second, in frames of the same size, or the small one would mostly measure sleeping.
        arena.world.set_speed(500.0 / size as f64);
        arenas.push(arena);
    }
    alternate(&mut arenas, ROUNDS, turn, "growth")?;
    report.ratio("growth_500_over_10", ratios(&arenas[1].windows, &arenas[0].windows));
    report.note("growth", &arenas);
    Ok(())
}

/// Whether ringbridge's sampled receivers found everything as it was sent.
fn check(arenas: &[Arena]) -> bool {
    let mut right = true;
    for arena in arenas.iter().filter(|arena| ["mmsg", "uring"].contains(&arena.name.as_str())) {
        for window in arena.windows.iter().filter(|window| window.measured.counts.wrong > 0) {
            let complaint = window.measured.complaint.as_deref().unwrap_or("");
            eprintln!("{}: {} packets were wrong: {complaint}", arena.name, window.measured.counts.wrong);
            right = false;
        }
    }
    right
}

fn print(report: &Report) {
    println!(
        "processor time per forwarded packet, ns (median, least, greatest), loss; ringbridge is {}",
        report.backend
    );
    for (name, spread) in &report.nanos {
        let loss = report.loss.get(name).copied().unwrap_or(0.0);
        println!("  {name:<36}{:>9.0}{:>9.0}{:>9.0}{:>10.4} %", spread.median, spread.min, spread.max, loss * 100.0);
    }
    println!("ratios, ours / theirs (median, least, greatest)");
    for (name, ratio) in &report.ratios {
        match (ratio, report.spread.get(name)) {
            (Some(ratio), Some(spread)) => println!("  {name:<24}{ratio:>8.3}{:>9.3}{:>9.3}", spread.min, spread.max),
            _ => println!("  {name:<24}    null  {}", report.missing.get(name).map_or("", String::as_str)),
        }
    }
    println!("system calls per forwarded packet: {:?}", report.syscalls_per_packet);
    println!(
        "allocations per forwarded packet: {:?}; bytes per webinar receiver: {:?}; per idle endpoint: {:?}",
        report.allocs_per_packet, report.bytes_per_receiver, report.bytes_per_idle_endpoint
    );
}
