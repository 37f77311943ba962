//! `process`: what the whole process takes, control plane included, which is what an operator pays: idle, and with many small
//! rooms in which nothing happens but media, statistics, presence and bridge channels.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::commands::replay::Io;
use crate::commands::rooms::{RATE, own_pace};
use crate::cores::{self, CoreArgs};
use crate::cpu::CpuTime;
use crate::generator::world::World;
use crate::progress::Progress;
use crate::scenario::Scenario;
use crate::subject::SubjectError;
use crate::subject::whole::{Whole, WholeOptions};
use crate::window;

/// How long clients may take to open their channels, once all are connected.
const CHANNELS: Duration = Duration::from_secs(20);
/// After a start, before it counts as idle.
const SETTLE: Duration = Duration::from_secs(3);

/// Measure what the whole process takes: idle, and per participant and minute in small rooms.
#[derive(Debug, Args)]
pub struct ProcessArgs {
    /// Rooms.
    #[arg(long, default_value_t = 300)]
    rooms: usize,
    /// Participants of each.
    #[arg(long, default_value_t = 3)]
    participants: usize,
    /// Seconds to measure, without and with the rooms.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// I/O backend.
    #[arg(long, value_enum, default_value = "mmsg")]
    io: Io,
    /// Cores of the control plane; by default that of the generator, so that the worker has its own.
    #[arg(long, value_delimiter = ',')]
    control_cores: Vec<usize>,
    #[command(flatten)]
    cores: CoreArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    rooms: usize,
    participants: usize,
    /// Share of one core that the process takes without anybody in it.
    idle: f64,
    /// The same by thread.
    idle_by_thread: BTreeMap<String, f64>,
    /// How many times faster than in real time media was played; the control plane keeps its own time, so that less makes its
    /// share larger.
    speed: f64,
    /// Bridge channels that were open.
    channels: usize,
    /// Share of one core by thread, with the rooms.
    by_thread: BTreeMap<String, f64>,
    /// Processor time of the control plane for each participant and minute, milliseconds.
    control_millis_per_participant_minute: f64,
    /// What that is of the whole process.
    control_share: f64,
    /// The same had media been played in real time: the workers' part is divided by the speed.
    control_share_in_real_time: f64,
    /// Processor time of the whole process per forwarded packet, nanoseconds.
    nanos_per_packet: f64,
    packets_per_second: f64,
    loss: f64,
}

/// Measures and prints it.
pub fn run(args: &ProcessArgs) -> Result<bool, SubjectError> {
    cores::generate_on(args.cores.generator_core)?;
    let control_cores = match &args.control_cores[..] {
        [] => vec![args.cores.generator_core],
        cores => cores.to_vec(),
    };
    let options =
        WholeOptions { cores: vec![args.cores.core], control_cores, io: args.io.name(), channels: true, relay: None };
    let mut whole = Whole::start(&options)?;
    std::thread::sleep(SETTLE);
    let before = whole.by_thread()?;
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs_f64(args.seconds));
    let idle_by_thread = shares(&whole.by_thread()?, &before, start.elapsed());
    let scenario = Scenario::rooms(args.rooms, args.participants);
    let mut world = World::new(1, false)?;
    let bar = Progress::new("joining");
    scenario.join(&mut world, &mut whole, 3, Vec::new(), |done, all| bar.set(done, all))?;
    let all = args.rooms * args.participants;
    let deadline = Instant::now() + CHANNELS;
    while whole.open_channels() < all && Instant::now() < deadline {
        world.step_or_pause(Instant::now(), Duration::from_micros(200))?;
        whole.serve(&mut world)?;
    }
    let speed = own_pace(&mut world, &mut whole, RATE)?;
    world.set_speed(speed);
    // What comes of the joins is over when it counts.
    window::run(&mut world, &mut whole, SETTLE, |_| Ok(()))?;
    let (before, start) = (whole.by_thread()?, Instant::now());
    let window = window::run(&mut world, &mut whole, Duration::from_secs_f64(args.seconds), |_| Ok(()))?;
    let by_thread = shares(&whole.by_thread()?, &before, start.elapsed());
    let (control, workers) = (window.control.unwrap_or_default().total.as_secs_f64(), window.cpu.total.as_secs_f64());
    let report = Report {
        rooms: args.rooms,
        participants: args.participants,
        idle: idle_by_thread.values().sum(),
        idle_by_thread,
        speed,
        channels: whole.open_channels(),
        by_thread,
        control_millis_per_participant_minute: window.control_millis_per_minute(all).unwrap_or_default(),
        control_share: window.control_share().unwrap_or_default(),
        control_share_in_real_time: control / (control + workers / speed).max(f64::MIN_POSITIVE),
        nanos_per_packet: window.process_nanos_per_packet().unwrap_or_default(),
        packets_per_second: window.measured.counts.packets as f64 / window.elapsed.as_secs_f64(),
        loss: window.loss(),
    };
    if args.json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else {
        print(&report);
    }
    Ok(window.measured.counts.wrong == 0)
}

/// Shares of one core by thread.
fn shares(
    now: &BTreeMap<String, CpuTime>,
    before: &BTreeMap<String, CpuTime>,
    elapsed: Duration,
) -> BTreeMap<String, f64> {
    let share = |(name, time): (&String, &CpuTime)| {
        let since = time.since(&before.get(name).copied().unwrap_or_default());
        (name.clone(), since.total.as_secs_f64() / elapsed.as_secs_f64())
    };
    now.iter().map(share).collect()
}

fn print(report: &Report) {
    let threads = |shares: &BTreeMap<String, f64>| {
        let each: Vec<_> = shares.iter().map(|(name, share)| format!("{name} {:.3} %", share * 100.0)).collect();
        each.join(", ")
    };
    println!("idle: {:.3} % of a core ({})", report.idle * 100.0, threads(&report.idle_by_thread));
    println!(
        "{} rooms of {}, media {:.2} times as fast as in real time, {} bridge channels: {}",
        report.rooms,
        report.participants,
        report.speed,
        report.channels,
        threads(&report.by_thread)
    );
    println!(
        "control plane: {:.2} ms a participant and minute, {:.1} % of the process ({:.1} % with media in real time)",
        report.control_millis_per_participant_minute,
        report.control_share * 100.0,
        report.control_share_in_real_time * 100.0
    );
    println!(
        "whole process: {:.0} ns per forwarded packet, {:.0} packets a second, {:.4} % lost",
        report.nanos_per_packet,
        report.packets_per_second,
        report.loss * 100.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_was_used_meanwhile() {
        let times = |millis: [u64; 2]| {
            let time = |millis| CpuTime { total: Duration::from_millis(millis), ..CpuTime::default() };
            BTreeMap::from([("a".to_owned(), time(millis[0])), ("b".to_owned(), time(millis[1]))])
        };
        let mut before = times([100, 0]);
        before.remove("b");
        let shares = shares(&times([150, 20]), &before, Duration::from_secs(1));
        assert_eq!(shares, BTreeMap::from([("a".to_owned(), 0.05), ("b".to_owned(), 0.02)]));
    }
}
