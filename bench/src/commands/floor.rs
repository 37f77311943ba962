//! `floor`: what this host allows. A perfect bridge would pay, for each forwarded packet, one copy, one seal, its share
//! of opening what came in, and the kernel's price of receiving and sending with the same arrivals and fan-out.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::arena::{Arena, Contestant, Spread, alternate};
use crate::commands::rooms::{self, RoomsArgs};
use crate::cores::{self, CoreArgs};
use crate::crypto::{self, CryptoCost};
use crate::scenario::{Scenario, Shape};
use crate::subject::SubjectError;
use crate::subject::bare::Method;
use crate::window::Window;

/// Measure the lower bound on this host: copying, sealing, opening, and the kernel's cost per packet for every way to send it.
#[derive(Debug, Args)]
pub struct FloorArgs {
    /// Only this scenario; without it fanout, mesh and audio. `rooms` measures bare loops that open and seal, and prints one line of JSON for each number of rooms.
    #[arg(long, value_enum)]
    scenario: Option<Shape>,
    #[command(flatten)]
    rooms: RoomsArgs,
    /// Seconds to measure each way of sending, in each scenario.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[command(flatten)]
    cores: CoreArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// One way to send in one scenario.
#[derive(Debug, Serialize)]
struct Io {
    method: Method,
    /// Nanoseconds per packet that arrived, receiving included.
    nanos: Spread,
    /// The same without the copy that the method makes anyway.
    without_copy: f64,
}

#[derive(Debug, Serialize)]
struct Floor {
    scenario: Scenario,
    io: Vec<Io>,
    /// Best of `io`, plus copy, plus seal (AES-128-GCM), plus opening divided by the fan-out.
    sum: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    crypto: [CryptoCost; 2],
    floors: Vec<Floor>,
}

/// Mean payload of a scenario's packets: chooses which of the measured sizes counts.
pub fn payload_of(window: &Window) -> usize {
    let counts = &window.measured.counts;
    // Header and tag are not payload.
    (counts.bytes / counts.packets.max(1)).saturating_sub(28) as usize
}

/// Runs on the forwarder's core, where the crypto of a bridge would run.
pub fn crypto_on(core: usize, payload: usize) -> Result<CryptoCost, SubjectError> {
    let before = cores::current();
    cores::pin(&[core])?;
    let cost = crypto::measure(payload);
    cores::pin(&before)?;
    Ok(cost)
}

/// Measures and prints the lower bound.
pub fn run(args: &FloorArgs) -> Result<bool, SubjectError> {
    cores::generate_on(args.cores.generator_core)?;
    if args.scenario == Some(Shape::Rooms) {
        return rooms::measure(&args.rooms, args.cores.core, args.seconds, &[], |line| match args.json {
            true => println!("{}", serde_json::to_string(&line).unwrap_or_default()),
            false => rooms::print(&line),
        });
    }
    let crypto = [crypto_on(args.cores.core, 1200)?, crypto_on(args.cores.core, 100)?];
    let mut floors = Vec::new();
    let shapes = args.scenario.map_or_else(|| vec![Shape::Fanout, Shape::Mesh, Shape::Audio], |shape| vec![shape]);
    for shape in shapes {
        let scenario = Scenario::new(shape, shape.usual_size());
        let mut arenas = Vec::new();
        for (net, method) in (1..).zip(Method::FORWARD) {
            let contestant = Contestant::Bare(method, args.cores.core);
            match Arena::new(method.name(), &contestant, &scenario, net, 0, Vec::new()) {
                Ok(arena) => arenas.push((method, arena)),
                Err(error) => eprintln!("{}: {error}", method.name()),
            }
        }
        let (methods, mut arenas): (Vec<_>, Vec<_>) = arenas.into_iter().unzip();
        alternate(&mut arenas, 3, Duration::from_secs_f64(args.seconds / 3.0), &format!("floor, {}", shape.name()))?;
        let crypto = if shape == Shape::Audio { &crypto[1] } else { &crypto[0] };
        let io: Vec<Io> = methods
            .into_iter()
            .zip(&arenas)
            .filter_map(|(method, arena)| {
                let nanos = Spread::of(arena.windows.iter().map(Window::nanos_per_packet))?;
                let copied = if method.copies() { crypto.copy } else { 0.0 };
                Some(Io { method, nanos, without_copy: nanos.median - copied })
            })
            .collect();
        let best = io.iter().map(|io| io.without_copy).fold(f64::INFINITY, f64::min);
        let opening = crypto.open_aes128_gcm / scenario.fan_out() as f64;
        let sum = best + crypto.copy + crypto.seal_aes128_gcm + opening;
        floors.push(Floor { scenario, io, sum });
    }
    let report = Report { crypto, floors };
    if args.json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else {
        print(&report);
    }
    Ok(true)
}

fn print(report: &Report) {
    println!("ns per packet       payload 1200   payload 100");
    let row = |name: &str, get: fn(&CryptoCost) -> f64| {
        println!("{name:<20}{:>12.0}{:>14.0}", get(&report.crypto[0]), get(&report.crypto[1]));
    };
    row("copy", |c| c.copy);
    row("seal AES-128-GCM", |c| c.seal_aes128_gcm);
    row("seal AES-256-GCM", |c| c.seal_aes256_gcm);
    row("seal AES-CM-SHA1", |c| c.seal_aes128_cm_sha1);
    row("open AES-128-GCM", |c| c.open_aes128_gcm);
    for floor in &report.floors {
        println!(
            "\n{} of {}: kernel's price, ns per packet (median, least, greatest)",
            floor.scenario.shape.name(),
            floor.scenario.size
        );
        for io in &floor.io {
            let Spread { median, min, max } = io.nanos;
            println!("  {:<30}{median:>8.0}{min:>8.0}{max:>8.0}", io.method.name());
        }
        println!("  {:<30}{:>8.0}", "floor (sum)", floor.sum);
    }
}
