//! Many small conferences: what most hosts carry. Every packet has one to four receivers, and mostly comes alone, so waking up
//! and the kernel's price of single packets count for more than in large ones.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::account::Account;
use crate::arena::{Arena, Contestant, DELIVERED, Spread, alternate, take_turn};
use crate::commands::saturate;
use crate::generator::receiver::{Latency, micros};
use crate::generator::world::World;
use crate::scenario::Scenario;
use crate::subject::bare::Method;
use crate::subject::{Subject, SubjectError};
use crate::window::{self, Window};

/// Shares of the lesser saturation that are compared: above these the search's own error loses packets.
const PACES: [(&str, f64); 3] = [("half", 0.5), ("80 %", 0.8), ("90 %", 0.9)];
/// Keeps the echo's addresses apart from the others'.
const ECHO_NET: u8 = 60;
/// Forwarded packets a second at most: what one core generates and another one forwards.
pub const RATE: f64 = 60_000.0;
/// Speed at which it is found out how much there is to generate: slow enough for any number of rooms.
const LOOK: f64 = 0.1;
/// Rounds of every comparison, when the time is divided among them.
const ROUNDS: usize = 5;

/// Which rooms are measured.
#[derive(Debug, Clone, Args)]
pub struct RoomsArgs {
    /// Participants of each room.
    #[arg(long, value_delimiter = ',', default_value = "2,3,5")]
    participants: Vec<usize>,
    /// How many rooms.
    #[arg(long, value_delimiter = ',', default_value = "20,100,300")]
    rooms: Vec<usize>,
    /// Also search for the highest load, and compare cost and latency at half of it, at 80 % and nearly there, beside a bare echo.
    #[arg(long)]
    saturation: bool,
    /// Packets forwarded a second at most: rooms with more are played slower than in real time. Less than the default for forwarders
    /// that do not keep up with it.
    #[arg(long, default_value_t = RATE, value_parser = rate)]
    rate: f64,
}

impl RoomsArgs {
    /// How many lines each pace has.
    pub fn points(&self) -> usize {
        self.participants.len() * self.rooms.len()
    }

    /// Whether there is a second pace.
    pub fn saturation(&self) -> bool {
        self.saturation
    }
}

/// One number of rooms at one pace, by contestant.
#[derive(Debug, Serialize)]
pub struct Line {
    /// `floor_rooms3` for rooms of three.
    pub name: String,
    rooms: usize,
    participants: usize,
    /// `own`: as fast as in real time, or slower where a core cannot generate that. `half`, `80 %` and `90 %` of the highest load
    /// that all of them carry.
    pace: &'static str,
    /// How many times faster than in real time it was played.
    speed: f64,
    /// Packets forwarded a second.
    packets_per_second: f64,
    /// Processor time per forwarded packet, nanoseconds.
    nanos: BTreeMap<String, Spread>,
    /// The bare loop that costs least, and what it does.
    best: &'static str,
    floor: f64,
    /// Cost of each contestant over that, round by round.
    over_floor: BTreeMap<String, Spread>,
    /// Added latency, microseconds: medians of the rounds' percentiles.
    latency_micros: BTreeMap<String, Percentiles>,
    /// System calls per forwarded packet, of those who count them.
    syscalls_per_packet: BTreeMap<String, Spread>,
    /// Share of packets lost.
    loss: BTreeMap<String, f64>,
    /// Least share of a round's packets that arrived: at its limit ringbridge leaves out video, which is no loss.
    delivered: BTreeMap<String, f64>,
    /// Packets that a bridge left out in all rounds, by its own reasons, of those that count.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    left_out: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// Packets that neither arrived nor were counted by anybody, likewise: 0, or the line is wrong.
    unaccounted: BTreeMap<String, i64>,
    /// Processor time of the whole process per forwarded packet, of those whose control plane runs with them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    process_nanos: BTreeMap<String, Spread>,
    /// Share of the control plane in that.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    control_share: BTreeMap<String, Spread>,
    /// Whether all delivered what they were sent, so that their costs are of the same work.
    comparable: bool,
    /// The highest load of each, packets forwarded a second; only at saturation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    saturation: BTreeMap<String, f64>,
}

/// Of the packets of one kind, and of the other: microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Percentiles {
    audio_p50: f64,
    audio_p99: f64,
    /// Of audio that was sent within a millisecond after the beginning of another participant's keyframe.
    audio_behind_keyframe_p50: f64,
    audio_behind_keyframe_p99: f64,
    video_p50: f64,
    video_p99: f64,
}

impl Percentiles {
    fn of(windows: &[Window]) -> Option<Self> {
        let median = |of: fn(&Latency) -> &Histogram<u64>, quantile: f64| {
            let of = |window: &Window| micros(of(&window.measured.latency), quantile);
            Some(Spread::of(windows.iter().map(of))?.median)
        };
        Some(Self {
            audio_p50: median(|latency| &latency.audio, 0.5)?,
            audio_p99: median(|latency| &latency.audio, 0.99)?,
            audio_behind_keyframe_p50: median(|latency| &latency.audio_behind_keyframe, 0.5)?,
            audio_behind_keyframe_p99: median(|latency| &latency.audio_behind_keyframe, 0.99)?,
            video_p50: median(|latency| &latency.video, 0.5)?,
            video_p99: median(|latency| &latency.video, 0.99)?,
        })
    }
}

/// A rate from the command line.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (100.0..=1e7).contains(rate));
    rate.ok_or_else(|| "a number of packets a second from 100 to 10000000 is wanted".to_owned())
}

/// Measures `contestants` (name, how to start it) beside the bare loops that open and seal; calls `each` with every line.
pub fn measure(
    args: &RoomsArgs,
    core: usize,
    seconds: f64,
    contestants: &[(&str, Contestant)],
    mut each: impl FnMut(Line),
) -> Result<bool, SubjectError> {
    let mut right = true;
    for participants in &args.participants {
        for rooms in &args.rooms {
            let scenario = Scenario::rooms(*rooms, *participants);
            let mut arenas = join(core, &scenario, contestants)?;
            let speed = own_speed(&mut arenas, args.rate)?;
            each(play(&mut arenas, &scenario, ("own", speed), seconds)?);
            if args.saturation {
                saturated(core, &mut arenas, &scenario, seconds, &mut each)?;
            }
            right &= arenas.iter().filter(|arena| !arena.is_peer()).flat_map(|arena| &arena.windows).all(|window| {
                window.measured.counts.wrong == 0 && window.account.as_ref().is_none_or(Account::is_whole)
            });
        }
    }
    Ok(right)
}

/// Everybody in: the contestants, then those of the bare loops that this host can run.
fn join(core: usize, scenario: &Scenario, contestants: &[(&str, Contestant)]) -> Result<Vec<Arena>, SubjectError> {
    let mut arenas = Vec::new();
    for (net, (name, contestant)) in (1..).zip(contestants) {
        match Arena::beside(&mut arenas, (name, contestant), scenario, net, 3, Vec::new()) {
            Ok(arena) => arenas.push(arena),
            Err(error) if matches!(contestant, Contestant::Peer(..)) => eprintln!("{name}: {error}"),
            Err(error) => return Err(error),
        }
    }
    for (net, method) in (contestants.len() as u8 + 1..).zip(Method::SEALED) {
        let contestant = Contestant::Bare(method, core);
        match Arena::beside(&mut arenas, (method.name(), &contestant), scenario, net, 3, Vec::new()) {
            Ok(arena) => arenas.push(arena),
            Err(error) => eprintln!("{}: {error}", method.name()),
        }
    }
    Ok(arenas)
}

/// Real time, if that is no more than `rate`.
fn own_speed(arenas: &mut [Arena], rate: f64) -> Result<f64, SubjectError> {
    let Some(arena) = arenas.last_mut() else { return Ok(1.0) };
    own_pace(&mut arena.world, arena.subject.as_mut(), rate)
}

/// How many times as fast as in real time a scenario is played: once, or less where that is more than `rate` packets a second.
pub fn own_pace(world: &mut World, subject: &mut dyn Subject, rate: f64) -> Result<f64, SubjectError> {
    world.set_speed(LOOK);
    let look = window::run(world, subject, Duration::from_millis(500), |_| Ok(()))?;
    let expected = look.expected as f64 / look.elapsed.as_secs_f64() / LOOK;
    Ok((rate / expected.max(1.0)).min(1.0))
}

/// All of them in turn at one speed.
fn play(
    arenas: &mut [Arena],
    scenario: &Scenario,
    (pace, speed): (&'static str, f64),
    seconds: f64,
) -> Result<Line, SubjectError> {
    for arena in arenas.iter_mut() {
        arena.windows.clear();
        arena.world.set_speed(speed);
    }
    let name = format!("{} rooms of {}, {pace} pace", scenario.size, scenario.participants);
    alternate(arenas, ROUNDS, Duration::from_secs_f64(seconds / ROUNDS as f64), &name)?;
    let cost = |arena: &Arena| Spread::of(arena.windows.iter().map(Window::nanos_per_packet));
    let median = |arena: &Arena| cost(arena).map_or(f64::INFINITY, |spread| spread.median);
    let bare = arenas.iter().filter_map(|arena| Some((bare_method(arena)?, arena)));
    let (method, best) = bare
        .min_by(|(_, a), (_, b)| median(a).total_cmp(&median(b)))
        .ok_or_else(|| SubjectError::Missing("no bare loop runs on this host".into()))?;
    let spreads = |of: &dyn Fn(&Arena) -> Option<Spread>| -> BTreeMap<String, Spread> {
        arenas.iter().filter_map(|arena| Some((arena.name.clone(), of(arena)?))).collect()
    };
    let accounts = || {
        arenas.iter().filter_map(|arena| {
            let accounts: Vec<_> = arena.windows.iter().filter_map(|window| window.account.as_ref()).collect();
            (!accounts.is_empty()).then(|| (arena.name.clone(), accounts))
        })
    };
    let seconds = best.windows.iter().map(|window| window.elapsed.as_secs_f64()).sum::<f64>();
    let packets: u64 = best.windows.iter().map(|window| window.measured.counts.packets).sum();
    Ok(Line {
        name: format!("floor_rooms{}", scenario.participants),
        rooms: scenario.size,
        participants: scenario.participants,
        pace,
        speed,
        packets_per_second: packets as f64 / seconds,
        nanos: spreads(&cost),
        best: method.name(),
        floor: median(best),
        over_floor: spreads(&|arena| {
            (!std::ptr::eq(arena, best)).then_some(())?;
            Spread::of(crate::arena::ratios(&arena.windows, &best.windows))
        }),
        latency_micros: arenas
            .iter()
            .filter_map(|arena| Some((arena.name.clone(), Percentiles::of(&arena.windows)?)))
            .collect(),
        syscalls_per_packet: spreads(&|arena| Spread::of(arena.windows.iter().filter_map(Window::syscalls_per_packet))),
        loss: arenas
            .iter()
            .filter_map(|arena| Some((arena.name.clone(), Spread::of(arena.windows.iter().map(Window::loss))?.median)))
            .collect(),
        delivered: arenas
            .iter()
            .filter_map(|arena| {
                let least = arena.windows.iter().map(Window::delivered).reduce(f64::min)?;
                Some((arena.name.clone(), least))
            })
            .collect(),
        left_out: accounts()
            .map(|(name, accounts)| (name, left_out(&accounts)))
            .filter(|(_, by)| !by.is_empty())
            .collect(),
        unaccounted: accounts()
            .map(|(name, accounts)| (name, accounts.iter().map(|account| account.unaccounted).sum()))
            .collect(),
        process_nanos: spreads(&|arena| Spread::of(arena.windows.iter().filter_map(Window::process_nanos_per_packet))),
        control_share: spreads(&|arena| Spread::of(arena.windows.iter().filter_map(Window::control_share))),
        comparable: arenas.iter().filter(|arena| !bare_echo(&arena.name) && !arena.is_peer()).all(|arena| {
            let delivered = arena.windows.iter().map(Window::delivered);
            delivered.fold(f64::INFINITY, f64::min) >= DELIVERED
        }),
        saturation: BTreeMap::new(),
    })
}

/// Packets left out by reason, summed over windows.
fn left_out(accounts: &[&Account]) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for (reason, packets) in accounts.iter().flat_map(|account| &account.left_out) {
        *sums.entry(*reason).or_default() += packets;
    }
    sums
}

fn bare_method(arena: &Arena) -> Option<Method> {
    Method::SEALED.into_iter().find(|method| method.name() == arena.name)
}

/// Searches the highest load of ringbridge and of the best bare loop, and compares them below the lesser one, beside an echo.
fn saturated(
    core: usize,
    arenas: &mut Vec<Arena>,
    scenario: &Scenario,
    seconds: f64,
    each: &mut impl FnMut(Line),
) -> Result<(), SubjectError> {
    let median = |arena: &Arena| {
        Spread::of(arena.windows.iter().map(Window::nanos_per_packet)).map_or(f64::INFINITY, |spread| spread.median)
    };
    // Of the bare loops only the best one: each search takes half a minute.
    let (bare, others): (Vec<_>, Vec<_>) = arenas.drain(..).partition(|arena| bare_method(arena).is_some());
    arenas.extend(others.into_iter().filter(|arena| arena.failure.is_none() && !arena.is_peer()));
    arenas.extend(bare.into_iter().min_by(|a, b| median(a).total_cmp(&median(b))));
    let (mut saturation, mut speed) = (BTreeMap::new(), f64::INFINITY);
    for at in 0..arenas.len() {
        let found = take_turn(arenas, at, |arena, alive| saturate::find(arena, alive)).transpose()?.flatten();
        let name = &arenas[at].name;
        let Some(found) = found else {
            eprintln!("{name}: no load was carried without loss, so that it has no part in how high the others' is");
            continue;
        };
        saturation.insert(name.clone(), found.packets_per_second);
        speed = speed.min(found.speed);
    }
    if speed.is_infinite() {
        return Ok(());
    }
    let echo = Contestant::Bare(Method::Echo, core);
    let echo = Arena::beside(arenas, (Method::Echo.name(), &echo), scenario, ECHO_NET, 3, Vec::new())?;
    arenas.push(echo);
    for (pace, share) in PACES {
        let line = play(arenas, scenario, (pace, speed * share), seconds)?;
        each(Line { saturation: saturation.clone(), ..line });
    }
    Ok(())
}

/// It sends to one, whatever the room.
fn bare_echo(name: &str) -> bool {
    name == Method::Echo.name()
}

/// One line for people.
pub fn print(line: &Line) {
    println!(
        "{} rooms of {}, {} pace (x {:.2}, {:.0} packets/s): ns per packet (median, least, greatest), \
         us of latency (audio p50, p99, p99 behind keyframes; video p50, p99), loss",
        line.rooms, line.participants, line.pace, line.speed, line.packets_per_second
    );
    for (name, Spread { median, min, max }) in &line.nanos {
        let ratio = line.over_floor.get(name).map_or_else(
            || "      floor".to_owned(),
            |ratio| format!("{:>5.2} ({:.2} to {:.2})", ratio.median, ratio.min, ratio.max),
        );
        let latency = line.latency_micros.get(name).map_or_else(String::new, |latency| {
            let Percentiles { audio_p50, audio_p99, audio_behind_keyframe_p99, video_p50, video_p99, .. } = latency;
            format!(
                "{audio_p50:>6.0}{audio_p99:>7.0} ({audio_behind_keyframe_p99:.0});{video_p50:>6.0}{video_p99:>7.0}"
            )
        });
        let loss = line.loss.get(name).copied().unwrap_or(0.0) * 100.0;
        let calls = line.syscalls_per_packet.get(name).map_or(String::new(), |n| format!("  {:.3} calls", n.median));
        let most = line.saturation.get(name).map_or(String::new(), |n| format!("  at most {n:.0} packets/s"));
        let delivered = match line.delivered.get(name) {
            Some(share) if *share < DELIVERED && !bare_echo(name) => format!("  delivered {:.0} %", share * 100.0),
            _ => String::new(),
        };
        let left_out = line.left_out.get(name).map_or(String::new(), |by| format!("  left out {by:?}"));
        let unaccounted = match line.unaccounted.get(name) {
            Some(packets) if *packets != 0 => format!("  unaccounted {packets}"),
            _ => String::new(),
        };
        let share = line.control_share.get(name).map_or(String::new(), |share| {
            let process = line.process_nanos.get(name).map_or(f64::NAN, |nanos| nanos.median);
            format!("  {process:.0} with the control plane, {:.1} % of it", share.median * 100.0)
        });
        println!(
            "  {name:<26}{median:>7.0}{min:>7.0}{max:>7.0}  {ratio:<20}{latency:<36}{loss:>9.4} %{calls}{most}{share}{delivered}{left_out}{unaccounted}"
        );
    }
}
