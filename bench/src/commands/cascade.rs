//! `cascade`: one conference on one, two, ... linked bridges, each a process. Who gets whose media, what a link adds to its
//! latency, what a packet costs on the bridge of its sender and on the others, how much crosses beside what is wanted there, and
//! how long it takes until everybody has everybody's media again when a bridge dies.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use ringbridge_dataplane::media::MediaKind;
use serde::Serialize;

use crate::cores::{self, CoreArgs};
use crate::generator::media_numbers::Numbers;
use crate::generator::receiver::{Expected, micros};
use crate::generator::world::{ClientId, World};
use crate::media::audio::GeneratedAudio;
use crate::media::video::{GeneratedVideo, VideoShape};
use crate::scenario::ROOM_BITRATE;
use crate::subject::SubjectError;
use crate::subject::linked::{Linked, Used};
use crate::subject::whole::{self, WholeOptions};

/// How long everybody may take to have everybody's media, at first and after a bridge has died.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether everybody has.
const LOOK: Duration = Duration::from_millis(10);
/// After a start or a change of what is wanted, before it counts.
const SETTLE: Duration = Duration::from_millis(1500);
/// What is under way when a stretch ends.
const REST: Duration = Duration::from_millis(100);
/// Clients of each bridge that decrypt and compare what they get.
const SAMPLES: usize = 2;
/// Packets a second to clients, all bridges together: what one core generates and another one forwards.
const PACE: f64 = 50_000.0;
/// Packets a second of one participant in real time.
const PACKETS: f64 = 85.0;

/// Measure one conference on one to several linked bridges.
#[derive(Debug, Args)]
pub struct CascadeArgs {
    /// Numbers of bridges.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4")]
    bridges: Vec<usize>,
    /// Participants of the conference, who all send video and audio.
    #[arg(long, default_value_t = 24)]
    participants: usize,
    /// Bits a second of each camera.
    #[arg(long, default_value_t = ROOM_BITRATE)]
    bitrate: u64,
    /// Seconds of each stretch that is measured: three for each number of bridges.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How many times as fast as in real time media is played; by default 1, or less where two cores cannot carry that.
    #[arg(long)]
    speed: Option<f64>,
    /// Core of the bridges' control planes; by default that of the generator, so that the workers have theirs.
    #[arg(long)]
    control_core: Option<usize>,
    #[command(flatten)]
    cores: CoreArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// One of the bridges of `cascade`.
#[derive(Debug, Args)]
pub struct BridgeArgs {
    /// Its name among the bridges.
    #[arg(long)]
    relay_id: String,
    /// Core of its worker.
    #[arg(long)]
    core: usize,
    /// Core of its control plane.
    #[arg(long)]
    control_core: usize,
}

/// Runs one of the bridges.
pub fn serve(args: &BridgeArgs) -> Result<bool, SubjectError> {
    whole::serve(&WholeOptions {
        cores: vec![args.core],
        control_cores: vec![args.control_core],
        io: "mmsg",
        channels: false,
        relay: Some(args.relay_id.clone()),
    })
}

/// Microseconds of one hop or two.
#[derive(Debug, Clone, Copy, Serialize)]
struct Latency {
    p50_micros: f64,
    p99_micros: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty())
            .then(|| Self { p50_micros: micros(histogram, 0.5), p99_micros: micros(histogram, 0.99) })
    }
}

/// RTP between bridges in a stretch, both as encrypted.
#[derive(Debug, Clone, Copy, Serialize)]
struct Between {
    bytes: f64,
    /// What was sent of the streams that somebody on another bridge wants, once for each such bridge.
    wanted: f64,
    ratio: Option<f64>,
}

impl Between {
    fn new(bytes: f64, wanted: f64) -> Self {
        Self { bytes, wanted, ratio: (wanted > 0.0).then(|| bytes / wanted) }
    }
}

/// What a forwarded packet costs a worker, nanoseconds; packets to other bridges count as forwarded.
#[derive(Debug, Clone, Copy, Serialize)]
struct Cost {
    /// On the bridge of the senders.
    home_nanos: f64,
    /// On the others, to which each packet comes once.
    remote_nanos: Option<f64>,
    /// The same of the whole processes.
    home_process_nanos: f64,
    remote_process_nanos: Option<f64>,
}

/// What followed when a bridge died.
#[derive(Debug, Clone, Copy, Serialize)]
struct Death {
    /// Who was on it.
    moved: usize,
    /// From the kill until everybody had audio of everybody.
    audio_seconds: f64,
    /// The same with video.
    media_seconds: f64,
}

/// One number of bridges.
#[derive(Debug, Serialize)]
struct Point {
    bridges: usize,
    participants: usize,
    speed: f64,
    /// From the first request to the last answer.
    join_seconds: f64,
    /// From then on until everybody had everybody's audio and video.
    first_media_seconds: f64,
    pairs_expected: usize,
    pairs_delivered: usize,
    packets_per_second: f64,
    loss: f64,
    /// Between participants of one bridge, and of two.
    within: Option<Latency>,
    across: Option<Latency>,
    /// What the further hop adds to the median.
    added_p50_micros: Option<f64>,
    /// Everybody sends: worker time per forwarded packet, all bridges together.
    nanos_per_packet: f64,
    /// The same per packet that arrives at a participant: what links cost is in it.
    nanos_per_delivered: f64,
    between: Between,
    /// While nobody on the last bridge wants video.
    between_unwanted: Option<Between>,
    /// Only participants of the first bridge send.
    cost: Cost,
    death: Option<Death>,
    /// Packets that differ from what was sent.
    wrong: u64,
}

/// Measures and prints it.
pub fn run(args: &CascadeArgs) -> Result<bool, SubjectError> {
    cores::generate_on(args.cores.generator_core)?;
    let mut points = Vec::new();
    for (net, bridges) in (1..).zip(&args.bridges) {
        let point = measure(args, net, (*bridges).max(1))?;
        if !args.json {
            print(&point, points.is_empty());
        }
        points.push(point);
    }
    if args.json {
        println!("{}", serde_json::to_string(&points).unwrap_or_default());
    }
    Ok(points.iter().all(|point| {
        let dead = point.death.is_some() || point.bridges == 1;
        point.wrong == 0 && point.pairs_delivered == point.pairs_expected && dead
    }))
}

/// A conference under way.
struct Cascade {
    world: World,
    linked: Linked,
    bridges: usize,
}

/// A stretch of media.
struct Stretch {
    elapsed: Duration,
    used: Vec<Used>,
    /// Packets that arrived at clients, by bridge.
    arrived: Vec<u64>,
}

impl Stretch {
    /// Worker time and process time per packet forwarded by some bridges, nanoseconds; `None` when they forwarded none.
    fn nanos(&self, bridges: impl Iterator<Item = usize>) -> Option<(f64, f64)> {
        let (mut workers, mut processes, mut packets) = (0.0, 0.0, 0.0);
        for bridge in bridges {
            let (Some(used), Some(arrived)) = (self.used.get(bridge), self.arrived.get(bridge)) else { continue };
            workers += used.workers.total.as_nanos() as f64;
            processes += used.process.total.as_nanos() as f64;
            packets += *arrived as f64 + used.relayed.0;
        }
        (packets > 0.0).then(|| (workers / packets, processes / packets))
    }

    fn relayed_bytes(&self) -> f64 {
        self.used.iter().map(|used| used.relayed.1).sum()
    }
}

fn measure(args: &CascadeArgs, net: u8, bridges: usize) -> Result<Point, SubjectError> {
    let n = args.participants.max(2);
    let control_core = args.control_core.unwrap_or(args.cores.generator_core);
    let mut world = World::new(net, false)?;
    let in_real_time = (n * (n - 1)) as f64 * PACKETS;
    let speed = args.speed.unwrap_or((PACE / in_real_time).min(1.0));
    world.set_speed(speed);
    let linked = Linked::start(bridges, args.cores.core, control_core)?;
    let mut this = Cascade { world, linked, bridges };
    let start = Instant::now();
    this.join(n, args.bitrate)?;
    let join_seconds = start.elapsed().as_secs_f64();
    this.world.play_where(|_| true);
    let [_, first_media_seconds] = this.until_everybody_has_everything(Instant::now(), n)?;

    let duration = Duration::from_secs_f64(args.seconds);
    let all = this.stretch(duration, |_| true)?;
    let (pairs_expected, pairs_delivered) = (n * (n - 1), this.pairs(None).len());
    let measured = this.world.measured();
    let delivered: u64 = all.arrived.iter().sum();
    let (nanos_per_packet, _) = all.nanos(0..bridges).unwrap_or_default();
    let workers: f64 = all.used.iter().map(|used| used.workers.total.as_nanos() as f64).sum();
    let (within, across) = (Latency::of(&measured.latency.within()), Latency::of(&measured.latency.across));
    let between = Between::new(all.relayed_bytes(), this.wanted(|_, _| true));

    let between_unwanted = match bridges {
        1 => None,
        _ => {
            this.linked.want_videos(&mut this.world, bridges - 1, 0)?;
            let stretch = this.stretch(duration, |_| true)?;
            let wanted = this.wanted(|kind, bridge| kind == MediaKind::Audio || bridge + 1 < bridges);
            this.linked.want_videos(&mut this.world, bridges - 1, -1)?;
            Some(Between::new(stretch.relayed_bytes(), wanted))
        }
    };

    let senders: BTreeSet<ClientId> = this.linked.members(0).iter().copied().collect();
    let of_home = this.stretch(duration, |client| senders.contains(&client))?;
    let (home, remote) = (of_home.nanos(0..1).unwrap_or_default(), of_home.nanos(1..bridges));
    let cost = Cost {
        home_nanos: home.0,
        remote_nanos: remote.map(|(worker, _)| worker),
        home_process_nanos: home.1,
        remote_process_nanos: remote.map(|(_, process)| process),
    };
    let wrong = this.world.measured().counts.wrong + measured.counts.wrong;

    let death = if bridges > 1 { Some(this.death(n)?) } else { None };
    Ok(Point {
        bridges,
        participants: n,
        speed,
        join_seconds,
        first_media_seconds,
        pairs_expected,
        pairs_delivered,
        packets_per_second: delivered as f64 / all.elapsed.as_secs_f64(),
        loss: measured.counts.lost as f64 / (delivered + measured.counts.lost).max(1) as f64,
        within,
        across,
        added_p50_micros: within.zip(across).map(|(one, two)| two.p50_micros - one.p50_micros),
        nanos_per_packet,
        nanos_per_delivered: workers / delivered.max(1) as f64,
        between,
        between_unwanted,
        cost,
        death,
        wrong,
    })
}

impl Cascade {
    /// Brings everybody in, on the bridges in turn.
    fn join(&mut self, n: usize, bitrate: u64) -> Result<(), SubjectError> {
        let shape = VideoShape { bitrate, ..VideoShape::default() };
        for n in 0..n {
            // Every third has other numbers.
            let numbers = if n % 3 == 2 { Numbers::OTHER } else { Numbers::USUAL };
            let sampled = n / self.bridges < SAMPLES;
            let client = self.world.add_client(numbers, sampled, Expected { numbers: Some(numbers) });
            self.world.add_stream(client, Box::new(GeneratedVideo::new(shape, client as u64 + 1)));
            self.world.add_stream(client, Box::new(GeneratedAudio::new(client as u64 + 1)));
            self.linked.join(&mut self.world, client, n % self.bridges)?;
        }
        (0..n).try_for_each(|client| self.world.connect(client, |_| Ok(())))
    }

    /// Lets media flow for a while.
    fn run(&mut self, duration: Duration) -> Result<(), SubjectError> {
        let start = Instant::now();
        while start.elapsed() < duration {
            self.world.step(Instant::now())?;
        }
        Ok(())
    }

    /// Measures while some of the clients send.
    fn stretch(&mut self, duration: Duration, plays: impl Fn(ClientId) -> bool) -> Result<Stretch, SubjectError> {
        self.world.pause();
        self.run(REST)?;
        self.world.play_where(plays);
        self.run(SETTLE)?;
        let bridges = self.bridges;
        let used = |linked: &Linked| (0..bridges).map(|bridge| linked.used(bridge)).collect::<Result<Vec<_>, _>>();
        let before = used(&self.linked)?;
        self.world.reset();
        let start = Instant::now();
        self.run(duration)?;
        let elapsed = start.elapsed();
        let used = used(&self.linked)?.iter().zip(&before).map(|(now, before)| now.since(before)).collect();
        let mut arrived = vec![0; bridges];
        for (client, receiver) in self.world.receivers().iter().enumerate() {
            arrived[self.world.bridge_of(client)] += receiver.counts.packets;
        }
        Ok(Stretch { elapsed, used, arrived })
    }

    /// Who has what of whom since the last reset: all streams, or those of one kind.
    fn pairs(&self, kind: Option<MediaKind>) -> BTreeSet<(ClientId, ClientId)> {
        let mut pairs = BTreeSet::new();
        for (receiver, heard) in self.world.receivers().iter().enumerate() {
            let heard: BTreeSet<u32> =
                heard.heard().filter(|(_, packets)| *packets > 0).map(|(ssrc, _)| ssrc).collect();
            let streams =
                || self.world.sent_by_stream().filter(|(_, codec, ..)| kind.is_none_or(|k| k == codec.kind()));
            let missing: BTreeSet<ClientId> =
                streams().filter(|(_, _, ssrc, _)| !heard.contains(ssrc)).map(|(sender, ..)| sender).collect();
            let senders = streams().map(|(sender, ..)| sender).filter(|sender| *sender != receiver);
            pairs.extend(senders.filter(|sender| !missing.contains(sender)).map(|sender| (sender, receiver)));
        }
        pairs
    }

    /// Bytes of what was sent since the last reset, once for every other bridge on which somebody `wants` its kind.
    fn wanted(&self, wants: impl Fn(MediaKind, usize) -> bool) -> f64 {
        let of = |(client, codec, _, bytes): (ClientId, crate::media::Codec, u32, u64)| {
            let home = self.world.bridge_of(client);
            let there = (0..self.bridges).filter(|bridge| *bridge != home && !self.linked.members(*bridge).is_empty());
            there.filter(|bridge| wants(codec.kind(), *bridge)).count() as u64 * bytes
        };
        self.world.sent_by_stream().map(of).sum::<u64>() as f64
    }

    /// Seconds since `start` until everybody has everybody's audio, and everything; what came before now does not count.
    fn until_everybody_has_everything(&mut self, start: Instant, n: usize) -> Result<[f64; 2], SubjectError> {
        let (all, mut audio) = (n * (n - 1), None);
        self.world.reset();
        loop {
            self.run(LOOK)?;
            let elapsed = start.elapsed();
            if audio.is_none() && self.pairs(Some(MediaKind::Audio)).len() == all {
                audio = Some(elapsed.as_secs_f64());
            }
            if let (Some(audio), true) = (audio, self.pairs(None).len() == all) {
                return Ok([audio, elapsed.as_secs_f64()]);
            }
            if elapsed > PATIENCE {
                let what =
                    format!("{} of {all} pairs have media after {} s", self.pairs(None).len(), PATIENCE.as_secs());
                return Err(SubjectError::Peer { name: format!("{} bridges", self.bridges), what });
            }
        }
    }

    /// Kills the last bridge while everybody sends.
    fn death(&mut self, n: usize) -> Result<Death, SubjectError> {
        self.world.pause();
        self.run(REST)?;
        self.world.play_where(|_| true);
        // Nothing of this counts: video was not wanted everywhere until just now.
        self.until_everybody_has_everything(Instant::now(), n)?;
        let last = self.bridges - 1;
        let start = Instant::now();
        let moved = self.linked.kill(last);
        self.linked.heal(&mut self.world, last, &moved)?;
        let [audio_seconds, media_seconds] = self.until_everybody_has_everything(start, n)?;
        Ok(Death { moved: moved.len(), audio_seconds, media_seconds })
    }
}

fn print(point: &Point, first: bool) {
    if first {
        println!(
            "{} participants, media {:.2} times as fast as in real time; latency in us (median, p99), worker ns per forwarded packet, \
             bytes between bridges / wanted there",
            point.participants, point.speed
        );
        println!(
            "{:>7}{:>10}{:>9}{:>16}{:>16}{:>8}{:>8}{:>8}{:>9}{:>8}{:>11}{:>9}{:>8}{:>8}",
            "bridges",
            "pairs",
            "loss %",
            "same bridge",
            "two bridges",
            "added",
            "all",
            "home",
            "remote",
            "bytes",
            "unwanted",
            "joined s",
            "audio s",
            "media s"
        );
    }
    let latency = |latency: Option<Latency>| {
        latency.map_or_else(|| "-".to_owned(), |l| format!("{:.0}, {:.0}", l.p50_micros, l.p99_micros))
    };
    let number = |value: Option<f64>, digits| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"));
    println!(
        "{:>7}{:>10}{:>9.4}{:>16}{:>16}{:>8}{:>8.0}{:>8.0}{:>9}{:>8}{:>11}{:>9.2}{:>8}{:>8}",
        point.bridges,
        format!("{}/{}", point.pairs_delivered, point.pairs_expected),
        point.loss * 100.0,
        latency(point.within),
        latency(point.across),
        number(point.added_p50_micros, 0),
        point.nanos_per_packet,
        point.cost.home_nanos,
        number(point.cost.remote_nanos, 0),
        number(point.between.ratio, 3),
        number(point.between_unwanted.and_then(|between| between.ratio), 3),
        point.join_seconds + point.first_media_seconds,
        number(point.death.map(|death| death.audio_seconds), 2),
        number(point.death.map(|death| death.media_seconds), 2),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuTime;

    #[test]
    fn what_goes_to_other_bridges_counts_as_forwarded() {
        let time = |nanos| CpuTime { total: Duration::from_nanos(nanos), ..CpuTime::default() };
        let used = |workers, process, packets, bytes| Used {
            workers: time(workers),
            process: time(process),
            relayed: (packets, bytes),
        };
        let used = vec![used(3_000, 4_000, 2.0, 2_400.0), used(1_000, 1_500, 0.0, 0.0)];
        let stretch = Stretch { elapsed: Duration::from_secs(1), used, arrived: vec![8, 10] };
        assert_eq!(stretch.nanos(0..1), Some((300.0, 400.0)));
        assert_eq!(stretch.nanos(1..2), Some((100.0, 150.0)));
        assert_eq!((stretch.nanos(0..2), stretch.nanos(2..2)), (Some((200.0, 275.0)), None));
        assert_eq!(stretch.relayed_bytes(), 2_400.0);
        assert_eq!(Between::new(2_400.0, 2_000.0).ratio, Some(1.2));
        assert_eq!(Between::new(0.0, 0.0).ratio, None);
    }
}
