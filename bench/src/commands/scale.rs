//! `scale`: how the cost of a packet grows with receivers, with conferences, and with workers.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use plotters::prelude::*;
use serde::Serialize;

use crate::arena::{Arena, Contestant};
use crate::commands::replay::Io;
use crate::cores::{self, WorkerCoreArgs};
use crate::scenario::{PAIR, Scenario, Shape};
use crate::subject::SubjectError;
use crate::window;

const RECEIVERS: [usize; 9] = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const CONFERENCES: [usize; 6] = [1, 5, 20, 50, 100, 300];
/// Packets forwarded a second at every point, so that the points differ only in what is scaled.
const RATE: f64 = 50_000.0;
/// Fastest that a scenario is played: frames of one stream must not overtake each other.
const FASTEST: f64 = 100.0;

/// Measure how the cost per packet grows with receivers, conferences and workers.
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// Seconds to measure each point.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// I/O backend.
    #[arg(long, value_enum, default_value = "auto")]
    io: Io,
    #[command(flatten)]
    cores: WorkerCoreArgs,
    /// Draw the curves into this SVG file.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// One measured point.
#[derive(Debug, Clone, Copy, Serialize)]
struct Point {
    /// Receivers, conferences or workers.
    n: usize,
    /// Processor time per forwarded packet, nanoseconds.
    nanos: f64,
    /// Packets that arrived a second.
    packets_per_second: f64,
    /// Share of packets lost, 0 to 1.
    loss: f64,
    /// Share of the packets that arrived: at its limit ringbridge leaves out video, which is no loss.
    delivered: f64,
    /// p99 of the added latency, microseconds.
    p99_micros: u64,
}

#[derive(Debug, Serialize)]
struct Curves {
    receivers: Vec<Point>,
    conferences: Vec<Point>,
    workers: Vec<Point>,
}

/// Measures every point and prints a table or JSON.
pub fn run(args: &ScaleArgs) -> Result<bool, SubjectError> {
    let workers = &args.cores.cores[..];
    cores::generate_on(args.cores.generator_core)?;
    let curve = |sizes: &[usize], scenario: fn(usize) -> Scenario| -> Result<Vec<Point>, SubjectError> {
        let one = &workers[..1.min(workers.len())];
        sizes.iter().map(|n| point(args, one, scenario(*n), *n)).collect()
    };
    let curves = Curves {
        receivers: curve(&RECEIVERS, |n| Scenario::new(Shape::Fanout, n))?,
        conferences: curve(&CONFERENCES, rooms)?,
        workers: (1..=workers.len()).map(|n| point(args, &workers[..n], rooms(50), n)).collect::<Result<_, _>>()?,
    };
    if let Some(file) = &args.svg {
        draw(file, &curves).map_err(|error| {
            SubjectError::Missing(format!("cannot draw {}: {error}; choose another file with --svg", file.display()))
        })?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&curves).unwrap_or_default());
        return Ok(true);
    }
    for (name, curve) in named(&curves) {
        println!("{name:<14}ns/packet   packets/s      loss    p99 us  delivered");
        for Point { n, nanos, packets_per_second, loss, delivered, p99_micros } in curve {
            let (loss, delivered) = (loss * 100.0, delivered * 100.0);
            println!("{n:>9}{nanos:>14.0}{packets_per_second:>12.0}{loss:>8.3} %{p99_micros:>9}{delivered:>9.0} %");
        }
    }
    Ok(true)
}

fn rooms(n: usize) -> Scenario {
    Scenario::rooms(n, PAIR)
}

fn named(curves: &Curves) -> [(&'static str, &[Point]); 3] {
    [("receivers", &curves.receivers), ("conferences", &curves.conferences), ("workers", &curves.workers)]
}

fn point(args: &ScaleArgs, cores: &[usize], scenario: Scenario, n: usize) -> Result<Point, SubjectError> {
    let contestant = Contestant::ringbridge(args.io.into(), cores);
    let mut arena = Arena::new(&format!("{} of {n}", scenario.shape.name()), &contestant, &scenario, 1, 1, Vec::new())?;
    // A short run at real speed shows how fast to play for the wanted rate.
    let short = Duration::from_millis(700);
    let look = window::run(&mut arena.world, arena.subject.as_mut(), short, |_| Ok(()))?;
    let rate = look.measured.counts.packets as f64 / look.elapsed.as_secs_f64();
    arena.world.set_speed((RATE / rate.max(1.0)).clamp(1.0, FASTEST));
    let window =
        window::run(&mut arena.world, arena.subject.as_mut(), Duration::from_secs_f64(args.seconds), |_| Ok(()))?;
    Ok(Point {
        n,
        nanos: window.nanos_per_packet(),
        packets_per_second: window.measured.counts.packets as f64 / window.elapsed.as_secs_f64(),
        loss: window.loss(),
        delivered: window.delivered(),
        p99_micros: window.latency(0.99).as_micros() as u64,
    })
}

fn draw(file: &std::path::Path, curves: &Curves) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(file, (1080, 340)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, (name, points)) in root.split_evenly((1, 3)).iter().zip(named(curves)) {
        let widest = points.iter().map(|p| p.n).max().unwrap_or(1).max(2) as f64;
        let highest = points.iter().map(|p| p.nanos).fold(100.0, f64::max) * 1.15;
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .caption(name, ("sans-serif", 16))
            .x_label_area_size(30)
            .y_label_area_size(50)
            .build_cartesian_2d((1.0..widest).log_scale(), 0.0..highest)?;
        chart.configure_mesh().y_desc("ns per forwarded packet").x_label_formatter(&|n| format!("{n:.0}")).draw()?;
        chart.draw_series(LineSeries::new(points.iter().map(|p| (p.n as f64, p.nanos)), &BLUE))?;
        chart.draw_series(points.iter().map(|p| Circle::new((p.n as f64, p.nanos), 3, BLUE.filled())))?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_drawn() {
        let point = |n: usize| Point {
            n,
            nanos: 900.0 + n as f64,
            packets_per_second: 1.0,
            loss: 0.0,
            delivered: 1.0,
            p99_micros: 5,
        };
        let some: Vec<Point> = RECEIVERS.map(point).into();
        let curves = Curves { receivers: some.clone(), conferences: some, workers: vec![point(1)] };
        let file = std::env::temp_dir().join(format!("ringbridge-scale-{}.svg", std::process::id()));
        draw(&file, &curves).unwrap();
        let drawn = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(drawn.contains("<svg") && drawn.contains("receivers") && drawn.matches("<circle").count() == 19);
    }
}
