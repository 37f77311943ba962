//! `tune`: what each way to reach the kernel costs or brings on this host, against the same backend without it.

use std::time::Duration;

use clap::Args;
use ringbridge_dataplane::io::{IoChoice, IoExtras, IoLimits};
use ringbridge_dataplane::media::Limit;
use serde::Serialize;

use crate::arena::{Arena, Contestant, Spread, alternate, ratios};
use crate::cores::{self, CoreArgs};
use crate::scenario::{Scenario, ScenarioArgs};
use crate::subject::SubjectError;
use crate::subject::in_process::Options;
use crate::window::Window;

/// An option that costs no more than this share of what there is without it is worth its delay.
const WORTH: f64 = 0.95;
/// Pairs of windows behind every ratio.
const ROUNDS: usize = 9;

/// Measure what each of `--io-options`, and GSO with GRO, gains or costs on this host.
#[derive(Debug, Args)]
pub struct TuneArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Bits per second of each video stream.
    #[arg(long, default_value_t = 2_500_000)]
    bitrate: u64,
    /// Seconds to measure each option.
    #[arg(long, default_value_t = 9.0)]
    seconds: f64,
    /// Microseconds of busy polling to try.
    #[arg(long, default_value_t = 50)]
    busy_poll: u32,
    /// Play this many times faster than real time.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    #[command(flatten)]
    cores: CoreArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// One option, measured.
#[derive(Debug, Serialize)]
struct Row {
    io: &'static str,
    /// What differs from the backend's usual ways: an I/O option, or `no-offload` for neither GSO nor GRO.
    option: &'static str,
    /// Why it could not run here.
    error: Option<String>,
    /// Processor time per forwarded packet, nanoseconds; a thread that the kernel runs for the ring is counted.
    nanos: Option<Spread>,
    /// That over the backend's usual way, round by round.
    ratio: Option<Spread>,
    /// p50 of the added latency, microseconds.
    p50_micros: Option<Spread>,
    /// The same, p99.
    p99_micros: Option<Spread>,
    /// System calls per forwarded packet.
    syscalls_per_packet: Option<Spread>,
}

/// Options of one backend that are compared with each other: its name, and the name and limits of each way to use it.
type Group = (&'static str, IoChoice, Vec<(&'static str, IoLimits)>);

/// Ways that take turns with each other, the backend's usual one first. The kernel's thread of SQPOLL takes a core even
/// between its turns, so it has a group of its own.
fn groups(busy_poll: u32) -> Vec<Group> {
    let (usual, none) = (IoLimits::default(), IoExtras::default());
    let extras = |extras| IoLimits { extras, ..usual };
    let no_offload = ("no-offload", IoLimits { offload: false, ..usual });
    // Both far from what is measured at start, which is the backend's usual way.
    let some = ("coalesce=150", extras(IoExtras { coalesce: Some(150), ..none }));
    let later = ("coalesce=500", extras(IoExtras { coalesce: Some(500), ..none }));
    let busy_poll = ("busy-poll", extras(IoExtras { busy_poll, ..none }));
    let zero_copy = ("zero-copy", extras(IoExtras { zero_copy: true, ..none }));
    let sqpoll = ("sqpoll", extras(IoExtras { sqpoll: true, ..none }));
    vec![
        ("mmsg", IoChoice::Mmsg, vec![("", usual), no_offload, some, later, busy_poll]),
        ("uring", IoChoice::Uring, vec![("", usual), no_offload, some, later, busy_poll, zero_copy]),
        ("uring", IoChoice::Uring, vec![("", usual), sqpoll]),
    ]
}

/// Measures every option and prints a table or JSON.
pub fn run(args: &TuneArgs) -> Result<bool, SubjectError> {
    cores::generate_on(args.cores.generator_core)?;
    let mut scenario = Scenario::from(args.scenario);
    scenario.video.bitrate = args.bitrate;
    let mut rows = Vec::new();
    for (name, io, ways) in groups(args.busy_poll) {
        let (mut options, mut arenas) = (Vec::new(), Vec::new());
        for (net, (option, limits)) in (1..).zip(ways) {
            let contestant =
                Contestant::Ringbridge(Options { io, cores: vec![args.cores.core], limits, last_n: Limit::Unlimited });
            let title = format!("{name} {option}");
            match Arena::beside(&mut arenas, (&title, &contestant), &scenario, net, 1, Vec::new()) {
                Ok(mut arena) => {
                    arena.world.set_speed(args.speed);
                    options.push(option);
                    arenas.push(arena);
                }
                Err(error) => rows.push(Row::missing(name, option, &error)),
            }
        }
        alternate(&mut arenas, ROUNDS, Duration::from_secs_f64(args.seconds / ROUNDS as f64), name)?;
        let usual = options.iter().position(|option| option.is_empty()).map(|at| &arenas[at].windows);
        rows.extend(options.iter().zip(&arenas).map(|(option, arena)| Row::of(name, option, arena, usual)));
    }
    if args.json {
        println!("{}", serde_json::to_string(&rows).unwrap_or_default());
    } else {
        print(&rows);
    }
    // Beside the table: what waiting costs here depends on what else the host does.
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    for line in rows.iter().filter_map(|row| verdict(row, &rows)) {
        eprintln!("{line} (load average {load})");
    }
    Ok(true)
}

impl Row {
    fn missing(io: &'static str, option: &'static str, error: &SubjectError) -> Self {
        let (nanos, ratio, p50_micros, p99_micros, syscalls_per_packet) = (None, None, None, None, None);
        Self { io, option, error: Some(error.to_string()), nanos, ratio, p50_micros, p99_micros, syscalls_per_packet }
    }

    fn of(io: &'static str, option: &'static str, arena: &Arena, usual: Option<&Vec<Window>>) -> Self {
        let windows = &arena.windows;
        let micros =
            |quantile: f64| Spread::of(windows.iter().map(|window| window.latency(quantile).as_micros() as f64));
        Self {
            io,
            option,
            error: None,
            nanos: Spread::of(windows.iter().map(Window::nanos_per_packet)),
            ratio: usual.and_then(|usual| Spread::of(ratios(windows, usual))),
            p50_micros: micros(0.5),
            p99_micros: micros(0.99),
            syscalls_per_packet: Spread::of(windows.iter().filter_map(Window::syscalls_per_packet)),
        }
    }
}

/// What waiting for other datagrams costs and brings; `None` of the other options.
fn verdict(row: &Row, rows: &[Row]) -> Option<String> {
    let option = Some(row.option).filter(|option| option.starts_with("coalesce"))?;
    let usual = rows.iter().find(|usual| usual.io == row.io && usual.option.is_empty())?;
    let (ratio, median) = (row.ratio?, |spread: Option<Spread>| spread.map_or(f64::NAN, |spread| spread.median));
    let worth = ratio.median <= WORTH && ratio.max < 1.0;
    let advice = if worth { "saves where such delays may be" } else { "brings nothing here, so leave it off" };
    Some(format!(
        "{} {option}: {:.2} (least {:.2}, greatest {:.2}) of the processor time per packet, added latency p50 {:.0} us instead of \
         {:.0}, p99 {:.0} instead of {:.0}: {advice}",
        row.io,
        ratio.median,
        ratio.min,
        ratio.max,
        median(row.p50_micros),
        median(usual.p50_micros),
        median(row.p99_micros),
        median(usual.p99_micros),
    ))
}

fn print(rows: &[Row]) {
    println!("                      ns/packet   ratio (least, greatest)   p99 us   calls/packet");
    for row in rows {
        let name = format!("{} {}", row.io, row.option);
        if let Some(error) = &row.error {
            println!("{name:<20} not here: {error}");
            continue;
        }
        let median = |spread: &Option<Spread>| spread.map_or(f64::NAN, |spread| spread.median);
        let ratio = row
            .ratio
            .map_or(String::new(), |ratio| format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.min, ratio.max));
        let (nanos, p99, calls) = (median(&row.nanos), median(&row.p99_micros), median(&row.syscalls_per_packet));
        println!("{name:<20}{nanos:>11.0}   {ratio:<24}{p99:>8.0}{calls:>15.4}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_advised_where_it_saves_in_every_round() {
        let spread = |median, min, max| Some(Spread { median, min, max });
        let row = |option, ratio| Row {
            io: "mmsg",
            option,
            error: None,
            nanos: None,
            ratio,
            p50_micros: spread(120.0, 100.0, 130.0),
            p99_micros: spread(700.0, 600.0, 800.0),
            syscalls_per_packet: None,
        };
        let usual = row("", spread(1.0, 1.0, 1.0));
        for (ratio, worth) in [((0.9, 0.85, 0.97), true), ((0.9, 0.8, 1.1), false), ((1.04, 0.95, 1.3), false)] {
            let rows = [
                Row { p99_micros: spread(138.0, 130.0, 140.0), ..row("", usual.ratio) },
                row("coalesce=150", spread(ratio.0, ratio.1, ratio.2)),
                row("busy-poll", spread(0.5, 0.5, 0.5)),
            ];
            let lines: Vec<_> = rows.iter().filter_map(|row| verdict(row, &rows)).collect();
            assert_eq!(lines.len(), 1, "of the wait alone: {lines:?}");
            assert!(lines[0].contains("p99 700 instead of 138"), "{lines:?}");
            assert_eq!(lines[0].contains("saves"), worth, "{lines:?}");
            assert_eq!(lines[0].contains("leave it off"), !worth, "{lines:?}");
        }
    }

    #[test]
    fn every_option_is_measured_against_its_backend_as_it_usually_is() {
        let groups = groups(50);
        assert_eq!(groups.iter().map(|(_, _, ways)| ways.len()).collect::<Vec<_>>(), [5, 6, 2]);
        for (_, _, ways) in groups {
            assert_eq!(ways[0], ("", IoLimits::default()));
            assert!(ways[1..].iter().all(|(option, limits)| !option.is_empty() && *limits != IoLimits::default()));
        }
    }
}
