//! A subject with its clients, ready to play; and several of them taking turns on the same cores.

use std::time::{Duration, Instant};

use ringbridge_dataplane::io::{IoChoice, IoLimits};
use ringbridge_dataplane::media::Limit;
use ringbridge_dataplane::srtp::SrtpProfile;

use crate::cores;
use crate::generator::world::World;
use crate::media::Track;
use crate::progress::Progress;
use crate::scenario::Scenario;
use crate::subject::bare::{Bare, Method};
use crate::subject::in_process::{InProcess, Options};
use crate::subject::peer::Peer;
use crate::subject::whole::{Whole, WholeOptions};
use crate::subject::{Subject, SubjectError};
use crate::window::{self, Window};

/// Before a peer's packets count: longer than from one keyframe of the generated video to the next, since a forwarder may
/// wait for one after a pause.
const PEER_WARM_UP: Duration = Duration::from_millis(2500);
/// Share of the packets that a forwarder must deliver for its cost to count; the edges of a window blur it a little.
pub const DELIVERED: f64 = 0.9;
/// How often a forwarder plays a round that it did not deliver, in all: a hiccup of the host is not its price.
const TRIES: usize = 3;
/// How often one of those who wait for their turn is kept alive. One after the other and often: clients check their connections
/// hundreds of times a second where there are hundreds of rooms, and who plays must not wait for that.
const KEEP_ALIVE: Duration = Duration::from_millis(1);

/// A forwarder that takes part in a comparison.
#[derive(Debug, Clone)]
pub enum Contestant {
    /// ringbridge's dataplane in this process.
    Ringbridge(Options),
    /// A bare loop on a core.
    Bare(Method, usize),
    /// The whole of ringbridge, control plane included: its worker on a core, the control plane where it likes.
    Whole(usize),
    /// A peer's program, on a core.
    Peer(std::path::PathBuf, usize),
}

impl Contestant {
    /// ringbridge with a backend and a worker on each of these cores.
    pub fn ringbridge(io: IoChoice, cores: &[usize]) -> Self {
        Self::Ringbridge(Options { io, cores: cores.to_vec(), limits: IoLimits::default(), last_n: Limit::Unlimited })
    }

    fn start(&self, name: &str) -> Result<Box<dyn Subject>, SubjectError> {
        Ok(match self {
            Self::Ringbridge(options) => Box::new(InProcess::start(name, options)?),
            Self::Whole(core) => Box::new(Whole::start(&WholeOptions {
                cores: vec![*core],
                control_cores: cores::all().to_vec(),
                io: "mmsg",
                channels: true,
                relay: None,
            })?),
            Self::Bare(method, core) => Box::new(Bare::start(*method, *core)?),
            Self::Peer(program, core) => Box::new(Peer::start(name, program, *core)?),
        })
    }
}

/// One subject and its clients.
pub struct Arena {
    /// Its name in tables and JSON.
    pub name: String,
    /// The clients.
    pub world: World,
    /// The forwarder.
    pub subject: Box<dyn Subject>,
    /// Windows measured so far.
    pub windows: Vec<Window>,
    /// Why it takes no part any more; only peers fail without ending the run.
    pub failure: Option<SubjectError>,
    is_peer: bool,
    /// How often a round is played that was not delivered.
    tries: usize,
}

impl Arena {
    /// Starts a subject and brings everybody in. `net` keeps addresses apart.
    pub fn new(
        name: &str,
        contestant: &Contestant,
        scenario: &Scenario,
        net: u8,
        samples: usize,
        tracks: Vec<Box<dyn Track>>,
    ) -> Result<Self, SubjectError> {
        Self::beside(&mut [], (name, contestant), scenario, net, samples, tracks)
    }

    /// The same while others wait for it and must not lose their connections.
    pub fn beside(
        others: &mut [Self],
        (name, contestant): (&str, &Contestant),
        scenario: &Scenario,
        net: u8,
        samples: usize,
        tracks: Vec<Box<dyn Track>>,
    ) -> Result<Self, SubjectError> {
        let mut subject = cores::freely(|| contestant.start(name))??;
        let mut world = World::new(net, false)?;
        let bar = Progress::new(&format!("{name}: joining"));
        let mut alive = KeepAlive::new();
        scenario.join(&mut world, subject.as_mut(), samples, tracks, |done, all| {
            bar.set(done, all);
            alive.serve([&mut *others, &mut []], Instant::now());
        })?;
        let is_peer = matches!(contestant, Contestant::Peer(..));
        // An echo sends to one, whatever the room.
        let tries = if matches!(contestant, Contestant::Bare(..)) { 1 } else { TRIES };
        Ok(Self { name: name.to_owned(), world, subject, windows: Vec::new(), failure: None, is_peer, tries })
    }

    /// Plays one window, again where too little was delivered. A peer that fails takes no part from then on.
    fn play(&mut self, duration: Duration, alive: &mut dyn FnMut(Instant)) -> Result<(), SubjectError> {
        if self.failure.is_some() {
            return Ok(());
        }
        let warm_up = if self.is_peer { PEER_WARM_UP } else { window::WARM_UP };
        let mut play = || {
            window::run_after(&mut self.world, self.subject.as_mut(), warm_up, duration, |now| {
                alive(now);
                Ok(())
            })
        };
        let mut window = play();
        for _ in 1..self.tries {
            if window.as_ref().is_ok_and(|window| window.delivered() < DELIVERED) {
                window = play();
            }
        }
        match window {
            Ok(window) => self.windows.push(window),
            Err(error) if self.is_peer => {
                // Nothing more for it: what is sent to nobody costs the others time.
                self.world.pause();
                self.failure = Some(error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether it is another forwarder, for whose failures the run does not end.
    pub fn is_peer(&self) -> bool {
        self.is_peer
    }

    /// SRTP profile that was negotiated with the first client.
    pub fn profile(&self) -> Option<SrtpProfile> {
        self.world.clients().first().and_then(|client| client.keys.as_ref()).map(|keys| keys.profile)
    }
}

/// Keeps those alive who wait for their turn.
#[derive(Debug)]
struct KeepAlive {
    next: Instant,
    turn: usize,
}

impl KeepAlive {
    /// Begins with the first of them, at once.
    fn new() -> Self {
        Self { next: Instant::now(), turn: 0 }
    }

    /// Lets one of the others answer what came for it, when it is time for that. Who has failed shows it at its own turn.
    /// They are in two pieces: before and after who plays.
    fn serve(&mut self, [before, after]: [&mut [Arena]; 2], now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + KEEP_ALIVE;
        self.turn = (self.turn + 1) % (before.len() + after.len()).max(1);
        let other = before.iter_mut().chain(after).nth(self.turn);
        if let Some(other) = other.filter(|other| other.failure.is_none()) {
            let _ = other.world.step(now).map_err(SubjectError::from).and_then(|_| other.subject.poll(now));
        }
    }
}

/// Lets one of several play; `play` is given it, and what keeps the others alive meanwhile: to be called every millisecond.
pub fn take_turn<T>(
    arenas: &mut [Arena],
    at: usize,
    play: impl FnOnce(&mut Arena, &mut dyn FnMut(Instant)) -> T,
) -> Option<T> {
    let (before, rest) = arenas.split_at_mut(at);
    let (arena, after) = rest.split_first_mut()?;
    let mut alive = KeepAlive::new();
    Some(play(arena, &mut |now| alive.serve([&mut *before, &mut *after], now)))
}

/// Lets every arena play in turn, `rounds` times. A peer that fails is left out from then on.
pub fn alternate(arenas: &mut [Arena], rounds: usize, duration: Duration, what: &str) -> Result<(), SubjectError> {
    let bar = Progress::new(what);
    let all = rounds * arenas.len();
    for round in 0..rounds {
        for turn in 0..arenas.len() {
            bar.set(round * arenas.len() + turn, all);
            // Every other round backwards: nobody always follows the same one.
            let at = if round % 2 == 0 { turn } else { arenas.len() - 1 - turn };
            take_turn(arenas, at, |arena, alive| arena.play(duration, alive)).transpose()?;
        }
    }
    Ok(())
}

/// Ratios of two arenas' costs per packet, round by round.
pub fn ratios(ours: &[Window], theirs: &[Window]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(our, their)| our.nanos_per_packet() / their.nanos_per_packet()).collect()
}

/// Median, least and greatest.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
}

impl Spread {
    /// Of some values; `None` of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let median = match values.len() {
            0 => return None,
            n if n % 2 == 1 => values[n / 2],
            n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
        };
        Some(Self { median, min: values[0], max: values[values.len() - 1] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_some_values() {
        let spread = Spread::of([3.0, 1.0, f64::NAN, 2.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([4.0, 2.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of([]), None);
    }
}
