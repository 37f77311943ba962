//! `overload`: twice the load that can be carried, then half of it. Video is left out by policy, audio stays, and all
//! comes back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::arena::{Arena, Contestant};
use crate::commands::replay::Io;
use crate::commands::saturate;
use crate::cores::{self, CoreArgs};
use crate::scenario::{Scenario, Shape};
use crate::subject::SubjectError;
use crate::window::{self, Window};

/// How long the recovery is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Apply twice the load that can be carried, then half of it: measure losses and the time to recover.
#[derive(Debug, Args)]
pub struct OverloadArgs {
    /// Receivers of the publisher's video and audio.
    #[arg(long, default_value_t = 50)]
    size: usize,
    /// Seconds of overload.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// I/O backend.
    #[arg(long, value_enum, default_value = "auto")]
    io: Io,
    #[command(flatten)]
    cores: CoreArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    /// Times real time that was carried without loss.
    saturation: f64,
    /// Share of audio packets lost at twice that, 0 to 1.
    audio_loss: f64,
    /// Share of all packets whose loss was no policy: missing sequence numbers at receivers.
    loss: f64,
    /// Packets left out or dropped under overload, by the bridge's own reasons.
    dropped: BTreeMap<&'static str, u64>,
    /// Packets that the generator itself lost or sent more than 5 ms late.
    generator_limit: bool,
    /// Seconds from the end of the overload to that of the first 0.2 s in which everything is forwarded again.
    recovery_seconds: Option<f64>,
}

/// Runs it; false when audio suffered or recovery was slow.
pub fn run(args: &OverloadArgs) -> Result<bool, SubjectError> {
    cores::generate_on(args.cores.generator_core)?;
    let scenario = Scenario::new(Shape::Webinar, args.size);
    let contestant = Contestant::ringbridge(args.io.into(), &[args.cores.core]);
    let mut arena = Arena::new("ringbridge", &contestant, &scenario, 1, 3, Vec::new())?;
    let Some(found) = saturate::find(&mut arena, |_| {})? else {
        return Err(SubjectError::Missing("no load was carried without loss; look at `replay` for the reason".into()));
    };
    let mut play = |speed: f64, seconds: f64, warm_up: Duration| -> Result<Window, SubjectError> {
        arena.world.set_speed(speed);
        let duration = Duration::from_secs_f64(seconds);
        window::run_after(&mut arena.world, arena.subject.as_mut(), warm_up, duration, |_| Ok(()))
    };
    let over = play(found.speed * 2.0, args.seconds, Duration::ZERO)?;
    // The first window in which nothing is left out ends the recovery.
    let (ended, mut recovery) = (Instant::now(), None);
    while recovery.is_none() && ended.elapsed() < PATIENCE {
        let window = play(found.speed / 2.0, 0.2, Duration::ZERO)?;
        let shed = window.own.as_ref().and_then(|own| own.dropped.get("shed")).copied().unwrap_or(0);
        if shed == 0 && window.delivered() > 0.9 {
            recovery = Some(ended.elapsed().as_secs_f64());
        }
    }
    let report = Report {
        saturation: found.speed,
        audio_loss: over.audio_loss(),
        loss: over.loss(),
        dropped: over.own.as_ref().map(|own| own.dropped.clone()).unwrap_or_default(),
        generator_limit: over.measured.overflowed > 0 || over.measured.late > Duration::from_millis(5),
        recovery_seconds: recovery,
    };
    if args.json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else {
        println!("carried without loss           {:.1} times real time", report.saturation);
        println!("at twice that, audio lost      {:.3} %", report.audio_loss * 100.0);
        println!("  packets missing in sequence  {:.3} %", report.loss * 100.0);
        println!("  left out or dropped          {:?}", report.dropped);
        println!("  the generator kept up        {}", !report.generator_limit);
        match report.recovery_seconds {
            Some(seconds) => println!("all forwarded again after      {seconds:.2} s"),
            None => println!("all forwarded again            not within {} s", PATIENCE.as_secs()),
        }
    }
    Ok(report.audio_loss < 0.01 && report.recovery_seconds.is_some_and(|seconds| seconds <= 2.0))
}
