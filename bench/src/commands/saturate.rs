//! `saturate`: the highest load that loses less than 0.01 % and keeps p99 of the added latency under 5 ms.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::arena::{Arena, Contestant};
use crate::commands::replay::Io;
use crate::cores::{self, WorkerCoreArgs};
use crate::progress::Progress;
use crate::scenario::{Scenario, ScenarioArgs, Shape};
use crate::subject::SubjectError;
use crate::subject::bare::Method;
use crate::window::{self, Window};

/// Loss that still counts as none.
const LOSS: f64 = 0.0001;
/// p99 of the added latency that is still good.
const LATENCY: Duration = Duration::from_millis(5);
/// One load is tried this long.
const TRY: Duration = Duration::from_millis(1500);
/// The search ends when the bounds are this close.
const CLOSE: f64 = 1.06;
/// The search begins with the scenario's own speed, and ends where no host gets to.
const START: f64 = 1.0;
const END: f64 = 10_000.0;

/// Find the highest load with less than 0.01 % loss and a p99 of added latency under 5 ms, by playing faster than in real time.
#[derive(Debug, Args)]
pub struct SaturateArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// I/O backend.
    #[arg(long, value_enum, default_value = "auto")]
    io: Io,
    #[command(flatten)]
    cores: WorkerCoreArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The last load that was carried.
#[derive(Debug, Clone, Serialize)]
pub struct Saturation {
    /// How many times faster than in real time everything was played.
    pub speed: f64,
    /// Packets forwarded a second.
    pub packets_per_second: f64,
    /// Share of one core that the forwarder used.
    pub busy: f64,
    /// p99 of the added latency, microseconds.
    pub p99_micros: u64,
    /// System calls per forwarded packet, where they are counted.
    pub syscalls_per_packet: Option<f64>,
    /// What ended the search: `loss`, `left_out` when the bridge left out packets by its own policy, `latency`, or `generator` when the generator itself could not go on.
    pub limit: &'static str,
}

/// What is too much in a window, if anything.
fn limit(window: &Window) -> Option<&'static str> {
    let left_out = window.own.as_ref().map_or(0.0, |own| {
        let packets: u64 = own.left_out.values().sum();
        packets as f64 / (packets + own.forwarded).max(1) as f64
    });
    if window.measured.late > LATENCY || window.measured.overflowed > 0 {
        Some("generator")
    } else if window.loss() > LOSS || window.measured.counts.packets == 0 {
        Some("loss")
    } else if left_out > LOSS {
        Some("left_out")
    } else if window.latency(0.99) > LATENCY {
        Some("latency")
    } else {
        None
    }
}

/// Searches with an arena that is ready; leaves it at the last load tried. `idle` runs every millisecond, for those who wait.
pub fn find(arena: &mut Arena, mut idle: impl FnMut(Instant)) -> Result<Option<Saturation>, SubjectError> {
    let bar = Progress::new(&format!("{}: saturating", arena.name));
    let (mut low, mut high, mut step) = (0.0, f64::INFINITY, 0);
    let (mut best, mut ended_by) = (None, "loss");
    let mut speed = START;
    while speed < END && (high.is_infinite() || low == 0.0 || high / low > CLOSE) && step < 40 {
        step += 1;
        bar.set(step, 40);
        arena.world.set_speed(speed);
        let mut play = || {
            window::run(&mut arena.world, arena.subject.as_mut(), TRY, |now| {
                idle(now);
                Ok(())
            })
        };
        let mut window = play()?;
        if limit(&window).is_some() {
            // Once more: a host's hiccup is not the forwarder's limit.
            window = play()?;
        }
        match limit(&window) {
            None => {
                low = speed;
                let seconds = window.elapsed.as_secs_f64();
                best = Some(Saturation {
                    speed,
                    packets_per_second: window.measured.counts.packets as f64 / seconds,
                    busy: window.cpu.total.as_secs_f64() / seconds,
                    p99_micros: window.latency(0.99).as_micros() as u64,
                    syscalls_per_packet: window.syscalls_per_packet(),
                    limit: "loss",
                });
            }
            Some(reason) => (high, ended_by) = (speed, reason),
        }
        speed = if high.is_infinite() {
            speed * 1.6
        } else if low == 0.0 {
            speed / 2.0
        } else {
            (low * high).sqrt()
        };
        if speed < 0.02 {
            break;
        }
    }
    Ok(best.map(|best| Saturation { limit: ended_by, ..best }))
}

/// Searches for the highest load and prints it.
pub fn run(args: &SaturateArgs) -> Result<bool, SubjectError> {
    cores::generate_on(args.cores.generator_core)?;
    let contestant = Contestant::ringbridge(args.io.into(), &args.cores.cores);
    let mut arena = Arena::new("ringbridge", &contestant, &args.scenario.into(), 1, 3, Vec::new())?;
    let found = find(&mut arena, |_| {})?;
    if args.json {
        println!("{}", serde_json::to_string(&found).unwrap_or_default());
    } else if let Some(found) = &found {
        println!(
            "{:.0} packets/s ({:.1} times real time), {:.0} % of a core, p99 {} us, syscalls per packet {:.4}; \
             limit: {}",
            found.packets_per_second,
            found.speed,
            found.busy * 100.0,
            found.p99_micros,
            found.syscalls_per_packet.unwrap_or(f64::NAN),
            found.limit
        );
    } else {
        println!("no load was carried without loss; look at `replay` for the reason");
    }
    Ok(found.is_some())
}

/// p99 of the added latency at half of saturation over that of a bare echo fed with the same packets, pair by pair.
pub fn latency_over_echo(
    contestant: &Contestant,
    core: usize,
    rounds: usize,
    turn: Duration,
) -> Result<Vec<f64>, SubjectError> {
    let scenario = Scenario::new(Shape::Rooms, 50);
    let mut ours = Arena::new("rooms", contestant, &scenario, 1, 10, Vec::new())?;
    let Some(found) = find(&mut ours, |_| {})? else {
        return Err(SubjectError::Missing("no load was carried without loss".into()));
    };
    let echo = Contestant::Bare(Method::Echo, core);
    let mut echo = Arena::new("echo", &echo, &scenario, 2, 10, Vec::new())?;
    for arena in [&mut ours, &mut echo] {
        arena.world.set_speed(found.speed / 2.0);
    }
    let mut arenas = [ours, echo];
    crate::arena::alternate(&mut arenas, rounds, turn, "latency")?;
    let p99 = |window: &Window| window.latency(0.99).as_secs_f64();
    let [ours, echo] = &arenas;
    Ok(ours.windows.iter().zip(&echo.windows).map(|(our, their)| p99(our) / p99(their)).collect())
}
