//! `joins`: many participants come at once, as in the morning or after a restart of the bridge: how long until each has its keys,
//! what that costs, and what those in running calls notice.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::cores::{self, CoreArgs};
use crate::generator::GeneratorError;
use crate::generator::media_numbers::Numbers;
use crate::generator::receiver::{Expected, micros};
use crate::generator::world::{ClientId, World};
use crate::handshake::{self, HandshakeCost};
use crate::media::{Codec, Muted};
use crate::scenario::Scenario;
use crate::subject::whole::{Whole, WholeOptions};
use crate::subject::{Subject, SubjectError};

/// How long the slowest may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the bridge's answers are looked for.
const POLL: Duration = Duration::from_micros(200);
/// How often the control plane is asked something that costs nothing.
const PING: Duration = Duration::from_millis(20);

/// Measure joins: handshakes per second and core, time to keys, and what running calls notice.
#[derive(Debug, Args)]
pub struct JoinsArgs {
    /// Participants that join.
    #[arg(long, default_value_t = 1000)]
    joins: usize,
    /// Participants of each of their rooms.
    #[arg(long, default_value_t = 3)]
    participants: usize,
    /// Seconds over which they come.
    #[arg(long, default_value_t = 10.0)]
    over: f64,
    /// Rooms of three in which media flows meanwhile.
    #[arg(long, default_value_t = 10)]
    running: usize,
    /// Cores of the control plane; by default that of the forwarder, the worst case.
    #[arg(long, value_delimiter = ',')]
    control_cores: Vec<usize>,
    /// Leave out the restart, after which all come at once.
    #[arg(long)]
    no_restart: bool,
    #[command(flatten)]
    cores: CoreArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Times {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Times {
    fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort();
        let at = |quantile: f64| {
            let index = ((durations.len() as f64 * quantile).ceil() as usize).saturating_sub(1);
            durations.get(index).map_or(0.0, |duration| duration.as_secs_f64() * 1e3)
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// What the running calls got meanwhile.
#[derive(Debug, Clone, Copy, Serialize)]
struct Media {
    /// Added latency of audio, microseconds.
    audio_p50_micros: f64,
    /// See `audio_p50_micros`.
    audio_p99_micros: f64,
    /// The same of video.
    video_p50_micros: f64,
    /// See `video_p50_micros`.
    video_p99_micros: f64,
    packets: u64,
    lost: u64,
}

/// One stretch of time.
#[derive(Debug, Serialize)]
struct Phase {
    name: &'static str,
    seconds: f64,
    /// Who got keys.
    joined: usize,
    /// From the first check of ICE to the keys, as the client sees it.
    keys: Times,
    /// From the request for an endpoint to its answer.
    answers: Times,
    /// From a ping over XMPP to its answer: how long others wait for the control plane.
    pings: Times,
    /// Processor time of the control plane for each who joined, microseconds.
    control_micros: f64,
    /// Of the workers, above what the running calls took before.
    worker_micros: f64,
    /// How many one core could serve a second.
    per_second_and_core: f64,
    media: Media,
}

#[derive(Debug, Serialize)]
struct Report {
    handshake: HandshakeCost,
    phases: Vec<Phase>,
}

/// Measures and prints it.
pub fn run(args: &JoinsArgs) -> Result<bool, SubjectError> {
    cores::generate_on(args.cores.generator_core)?;
    let failed = |error| SubjectError::Generator(GeneratorError::Dtls { client: 0, error });
    let handshake = handshake::measure().map_err(failed)?;
    let control_cores = match &args.control_cores[..] {
        [] => vec![args.cores.core],
        cores => cores.to_vec(),
    };
    let options =
        WholeOptions { cores: vec![args.cores.core], control_cores, io: "mmsg", channels: false, relay: None };
    let mut whole = Whole::start(&options)?;
    let mut world = World::new(1, false)?;
    world.stamp()?;
    Scenario::rooms(args.running, 3).join(&mut world, &mut whole, 6, Vec::new(), |_, _| {})?;
    let running = world.clients().len();
    let mut joins = Joins { world, whole, phases: Vec::new(), running_rate: 0.0, control_rate: 0.0 };
    joins.world.play();
    let over = Duration::from_secs_f64(args.over);
    joins.phase("warm up", VecDeque::new(), Duration::from_secs(2))?;
    joins.phases.clear();
    joins.phase("before", VecDeque::new(), over.max(Duration::from_secs(5)))?;
    let mut invited = VecDeque::new();
    for n in 0..args.joins {
        let client = joins.world.add_client(Numbers::USUAL, false, Expected { numbers: None });
        for codec in [Codec::Vp8, Codec::Opus] {
            joins.world.add_stream(client, Box::new(Muted(codec)));
        }
        let at = over.mul_f64(n as f64 / args.joins as f64);
        invited.push_back((at, client, args.running + n / args.participants.max(1)));
    }
    joins.phase("joins", invited.clone(), over)?;
    if !args.no_restart {
        joins.world.pause();
        joins.whole.restart()?;
        let rooms = (0..running).map(|client| (Duration::ZERO, client, client / 3));
        let all: VecDeque<_> =
            rooms.chain(invited.into_iter().map(|(_, client, room)| (Duration::ZERO, client, room))).collect();
        all.iter().for_each(|(_, client, _)| joins.world.renew(*client));
        joins.world.play();
        joins.phase("all at once after a restart", all, Duration::ZERO)?;
        joins.phase("afterwards", VecDeque::new(), Duration::from_secs(5))?;
    }
    let report = Report { handshake, phases: joins.phases };
    if args.json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else {
        print(&report);
    }
    Ok(true)
}

struct Joins {
    world: World,
    whole: Whole,
    phases: Vec<Phase>,
    /// What the workers take for the running calls alone, as a share of a core.
    running_rate: f64,
    /// The same of the control plane.
    control_rate: f64,
}

impl Joins {
    /// Lets some join at their times and waits until all have their keys, for `least` at least.
    fn phase(
        &mut self,
        name: &'static str,
        mut invited: VecDeque<(Duration, ClientId, usize)>,
        least: Duration,
    ) -> Result<(), SubjectError> {
        let Self { world, whole, .. } = self;
        let clients: Vec<ClientId> = invited.iter().map(|(_, client, _)| *client).collect();
        let mut pending = clients.clone();
        let (workers, control) = (whole.cpu()?, whole.control_cpu()?.unwrap_or_default());
        whole.take_answers();
        world.reset();
        let start = Instant::now();
        let (mut next_poll, mut next_ping) = (start, start);
        loop {
            let now = Instant::now();
            let since = now.saturating_duration_since(start);
            while let Some((_, client, room)) = invited.front().copied().filter(|(at, ..)| *at <= since) {
                invited.pop_front();
                whole.invite(client, room)?;
            }
            world.step(now)?;
            if now >= next_poll {
                next_poll = now + POLL;
                whole.serve(world)?;
                if since >= least && invited.is_empty() {
                    let mut failure = Ok(());
                    pending.retain(|client| match world.is_connected(*client) {
                        Ok(connected) => !connected,
                        Err(error) => {
                            failure = Err(error);
                            true
                        }
                    });
                    failure?;
                    if pending.is_empty() {
                        break;
                    }
                    if since > least + PATIENCE {
                        let what = format!("{} of {} have no keys", pending.len(), clients.len());
                        return Err(SubjectError::Peer { name: name.to_owned(), what });
                    }
                }
            }
            if now >= next_ping {
                next_ping = now + PING;
                whole.ping()?;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let workers = whole.cpu()?.since(&workers).total.as_secs_f64();
        let control = whole.control_cpu()?.unwrap_or_default().since(&control).total.as_secs_f64();
        let (answers, pings) = whole.take_answers();
        if clients.is_empty() {
            (self.running_rate, self.control_rate) = (workers / seconds, control / seconds);
        }
        let each = |seconds_used: f64| match clients.len() {
            0 => 0.0,
            n => seconds_used.max(0.0) * 1e6 / n as f64,
        };
        let worker_micros = each(workers - self.running_rate * seconds);
        let control_micros = each(control - self.control_rate * seconds);
        let took = |client: &ClientId| {
            let client = &world.clients()[*client];
            Some(client.connected?.saturating_duration_since(client.began?))
        };
        let measured = world.measured();
        let latency = &measured.latency;
        self.phases.push(Phase {
            name,
            seconds,
            joined: clients.len(),
            keys: Times::of(clients.iter().filter_map(took).collect()),
            answers: Times::of(answers),
            pings: Times::of(pings),
            control_micros,
            worker_micros,
            per_second_and_core: if clients.is_empty() { 0.0 } else { 1e6 / (worker_micros + control_micros).max(1.0) },
            media: Media {
                audio_p50_micros: micros(&latency.audio, 0.5),
                audio_p99_micros: micros(&latency.audio, 0.99),
                video_p50_micros: micros(&latency.video, 0.5),
                video_p99_micros: micros(&latency.video, 0.99),
                packets: measured.counts.packets,
                lost: measured.counts.lost,
            },
        });
        Ok(())
    }
}

fn print(report: &Report) {
    let HandshakeCost { micros, longest_step_micros, peak_bytes, kept_bytes, allocations } = &report.handshake;
    println!(
        "a handshake: {:.0} us ({:.0} to {:.0}), its longest step {:.0} us; {peak_bytes} bytes at once, {kept_bytes} kept, \
         {allocations} allocations",
        micros.median, micros.min, micros.max, longest_step_micros.median
    );
    for phase in &report.phases {
        let Phase { name, seconds, joined, keys, answers, pings, media, .. } = phase;
        println!("{name}: {joined} joined within {seconds:.1} s");
        let times = |what: &str, times: &Times| {
            println!("  {what:<34}p50 {:.1} ms, p99 {:.1}, max {:.1}", times.p50, times.p99, times.max);
        };
        if *joined > 0 {
            times("ICE start to keys", keys);
            times("request to answer", answers);
            println!(
                "  {:<34}control plane {:.0} us, workers {:.0} us each: {:.0} a second and core",
                "processor time", phase.control_micros, phase.worker_micros, phase.per_second_and_core
            );
        }
        times("ping over XMPP", pings);
        println!(
            "  {:<34}audio p50 {:.0} us, p99 {:.0}; video p50 {:.0}, p99 {:.0}; {} packets, {} lost",
            "running calls",
            media.audio_p50_micros,
            media.audio_p99_micros,
            media.video_p50_micros,
            media.video_p99_micros,
            media.packets,
            media.lost
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_times() {
        let times = Times::of((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!((times.p50, times.p99, times.max), (50.0, 99.0, 100.0));
        let none = Times::of(Vec::new());
        assert_eq!((none.p50, none.max), (0.0, 0.0));
    }
}
