//! A keeper between a bridge and a peer, in virtual time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::Utf8Bytes;
use proptest::prelude::*;

use super::frame::{Assembly, FromKeeper, ToKeeper};
use super::line::{CarriedKeeper, KeeperLine, KeeperNumber, KeptChannel};
use super::machine::Keeper;
use super::{WAITING, WAITING_DATAGRAMS, WAITING_OF_OTHERS};
use crate::channel::counters::{ChannelCounters, Counted};
use crate::channel::data::{DataChannel, MAX_SCTP_MESSAGE};
use crate::channel::limits::MAX_MESSAGE;
use crate::channel::secured::{SecuredChannel, SecuredOutput, Written};
use crate::transport::{Certificate, DtlsRole, DtlsSession, Fingerprint};

const STEP: Duration = Duration::from_millis(20);
/// What the bridge calls the session.
const ID: u32 = 7;

/// What a bridge or a peer learned.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Opened,
    Text(String),
    Closed,
    Stalled,
    Ended(bool),
}

fn text(bytes: Vec<u8>) -> Told {
    Told::Text(String::from_utf8(bytes).expect("text"))
}

struct World {
    now: Instant,
    /// The other end, which is the one that opens the channel.
    peer: SecuredChannel,
    peer_told: Vec<Told>,
    peer_keys: usize,
    keeper: Keeper,
    /// The bridge.
    line: KeeperLine,
    kept: Option<KeptChannel>,
    assembly: Assembly,
    told: Vec<Told>,
    counters: Arc<ChannelCounters>,
    /// The peer hears nothing.
    deaf: bool,
}

fn session(now: Instant, role: DtlsRole, own: &Certificate, other: &Certificate) -> DtlsSession {
    let value = other.fingerprint().to_string();
    let (hash, value) = value.split_once(' ').map_or(("sha-256", value.as_str()), |(hash, value)| (hash, value));
    let fingerprint = Fingerprint { hash: hash.to_owned(), value: value.to_owned() };
    DtlsSession::new(now, own, role, vec![fingerprint]).expect("a session")
}

/// Moves datagrams between the two until neither says anything, at one moment; or until they are connected, if that is `enough`.
fn exchange(now: Instant, ends: [&mut SecuredChannel; 2], enough: bool) {
    let [one, two] = ends;
    loop {
        let mut quiet = true;
        for index in 0..2 {
            let (from, to) = if index == 0 { (&mut *one, &mut *two) } else { (&mut *two, &mut *one) };
            while !(enough && from.is_connected() && to.is_connected()) {
                let Some(output) = from.poll_output() else { break };
                quiet = false;
                if let SecuredOutput::Datagram(datagram) = output {
                    to.handle_datagram(now, &datagram);
                }
            }
        }
        if quiet {
            return;
        }
    }
}

impl World {
    /// A session whose channel is open by the time that this process becomes its keeper, or was not even asked for.
    fn new(open: bool) -> Self {
        let mut now = Instant::now();
        let certificates = [Certificate::generate().expect("made"), Certificate::generate().expect("made")];
        let [ours, theirs] = &certificates;
        let counters: Arc<ChannelCounters> = Arc::default();
        let server = session(now, DtlsRole::Server, ours, theirs);
        let client = session(now, DtlsRole::Client, theirs, ours);
        let mut own = SecuredChannel::new(server, Some(DataChannel::new(Arc::clone(&counters))), Arc::clone(&counters));
        let mut peer = SecuredChannel::new(client, Some(DataChannel::client(Arc::default())), Arc::default());
        for _ in 0..200 {
            exchange(now, [&mut own, &mut peer], !open);
            if own.is_connected() && peer.is_connected() && (!open || own.is_open() && peer.is_open()) {
                break;
            }
            now += STEP;
            own.handle_timeout(now);
            peer.handle_timeout(now);
        }
        assert!(own.is_connected() && (!open || own.is_open() && peer.is_open()));
        let line = KeeperLine::default();
        assert_eq!(own.is_open(), open);
        let kept = KeptChannel::new((KeeperNumber(0), line.clone()), ID, open, Arc::default());
        Self {
            now,
            peer,
            peer_told: Vec::new(),
            peer_keys: 0,
            keeper: Keeper::new(now, [(ID, own)], Arc::clone(&counters)),
            line,
            kept: Some(kept),
            assembly: Assembly::new(MAX_MESSAGE),
            told: Vec::new(),
            counters,
            deaf: false,
        }
    }

    /// What waits on the bridge's side reaches the keeper.
    fn reach_keeper(&mut self) {
        let mut frames = Vec::new();
        let all = self.line.flush(|frame| {
            frames.push(frame.to_vec());
            Ok::<_, ()>(true)
        });
        assert_eq!(all, Ok(()));
        for frame in frames {
            self.keeper.handle(self.now, &frame).expect("it understands");
        }
    }

    /// What the keeper says reaches the bridge; whether there was anything.
    fn reach_bridge(&mut self) -> bool {
        let mut any = false;
        while let Some(frame) = self.keeper.peek_output().map(<[u8]>::to_vec) {
            self.keeper.pop_output();
            any = true;
            let (id, said) = FromKeeper::parse(&frame).expect("it is understood");
            match said {
                FromKeeper::Datagram(datagram) => {
                    if !self.deaf {
                        self.peer.handle_datagram(self.now, &datagram);
                    }
                    continue;
                }
                FromKeeper::Counted { which, times } => {
                    let counted = ChannelCounters::default();
                    counted.add_at(which, times);
                    continue;
                }
                FromKeeper::Text { last, piece } => {
                    if let Some((_, whole)) = self.assembly.add(id, (false, last), piece).expect("in order") {
                        self.told.push(text(whole));
                    }
                }
                FromKeeper::Opened => {
                    self.kept.iter_mut().for_each(|kept| kept.set_open(true));
                    self.told.push(Told::Opened);
                }
                FromKeeper::Closed { stalled } => {
                    self.kept.iter_mut().for_each(|kept| kept.set_open(false));
                    self.told.push(if stalled { Told::Stalled } else { Told::Closed });
                }
                FromKeeper::Ended { by_peer, .. } => self.told.push(Told::Ended(by_peer)),
            }
            assert_eq!(id, ID);
        }
        any
    }

    /// The peer's datagrams reach the bridge; whether there was anything.
    fn of_peer(&mut self) -> bool {
        let mut any = false;
        while let Some(output) = self.peer.poll_output() {
            any = true;
            match output {
                SecuredOutput::Datagram(datagram) => {
                    self.kept.iter_mut().for_each(|kept| kept.handle_datagram(&datagram));
                }
                SecuredOutput::Keys(_) => self.peer_keys += 1,
                SecuredOutput::Opened => self.peer_told.push(Told::Opened),
                SecuredOutput::Text(bytes) => self.peer_told.push(text(bytes)),
                SecuredOutput::Closed => self.peer_told.push(Told::Closed),
                SecuredOutput::Failed(error) => panic!("{error}"),
            }
        }
        any
    }

    /// Lets time pass until `done`, for so many seconds at most.
    fn run(&mut self, seconds: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            loop {
                self.reach_keeper();
                if !(self.reach_bridge() | self.of_peer()) {
                    break;
                }
            }
            if done(self) {
                return true;
            }
            self.now += STEP;
            if self.keeper.poll_timeout().is_some_and(|at| at <= self.now) {
                self.keeper.handle_timeout(self.now);
            }
            if self.peer.poll_timeout().is_some_and(|at| at <= self.now) {
                self.peer.handle_timeout(self.now);
            }
        }
        false
    }

    fn say(&mut self, of_others: bool, text: &str) -> Written {
        self.kept.as_mut().expect("kept").write(of_others, || text.to_owned().into())
    }

    fn peer_says(&mut self, text: &str) {
        assert_eq!(self.peer.write(false, || Utf8Bytes::from(text.to_owned())), Written::Sent);
        self.peer.handle_timeout(self.now);
    }
}

#[test]
fn an_open_channel_goes_on_both_ways_and_nothing_begins_anew() {
    let mut world = World::new(true);
    // What is left of the time before.
    world.run(1, |_| false);
    (world.told, world.peer_told) = (Vec::new(), Vec::new());
    let keys = world.peer_keys;
    let long = "x".repeat(MAX_MESSAGE);
    for n in 0..20 {
        assert_eq!(world.say(false, &format!("down {n}")), Written::Sent);
        world.peer_says(&format!("up {n}"));
    }
    assert_eq!(world.say(false, &"y".repeat(MAX_SCTP_MESSAGE)), Written::Sent);
    assert_eq!(world.say(false, &"y".repeat(MAX_SCTP_MESSAGE + 1)), Written::NotSent);
    world.peer_says(&long);
    assert!(
        world.run(30, |world| world.told.len() == 21 && world.peer_told.len() == 20),
        "{:?}",
        world.peer_told.len()
    );
    let up: Vec<_> = (0..20).map(|n| Told::Text(format!("up {n}"))).chain([Told::Text(long)]).collect();
    let down: Vec<_> = (0..20).map(|n| Told::Text(format!("down {n}"))).collect();
    assert!(world.told == up && world.peer_told == down && world.peer_keys == keys);
    // Minutes in which nobody says anything.
    assert!(!world.run(300, |world| world.keeper.is_empty()));
    assert_eq!(world.say(true, "still here"), Written::Sent);
    assert!(world.run(5, |world| world.peer_told.len() == 21));
}

#[test]
fn a_channel_that_was_not_open_yet_is_opened_afterwards() {
    let mut world = World::new(false);
    assert_eq!(world.say(false, "early"), Written::NotSent);
    assert!(world.run(10, |world| world.told == [Told::Opened] && world.peer_told == [Told::Opened]));
    assert_eq!(world.say(false, "hello"), Written::Sent);
    assert!(world.run(5, |world| world.peer_told.contains(&Told::Text("hello".to_owned()))));
}

#[test]
fn a_channel_that_either_side_closes_may_be_opened_again() {
    let mut world = World::new(true);
    world.peer.close_channel();
    let now = world.now;
    world.peer.handle_timeout(now);
    // The peer is a client: it begins anew.
    let again = [Told::Closed, Told::Opened];
    assert!(world.run(30, |world| world.told.ends_with(&again)), "{:?}", world.told);
    world.told.clear();
    world.kept.as_mut().expect("kept").close();
    assert_eq!(world.say(false, "late"), Written::NotSent);
    assert!(world.run(60, |world| world.told.ends_with(&again)), "{:?}", world.told);
}

#[test]
fn a_peer_that_takes_a_leap_of_time_for_silence_begins_anew() {
    let mut world = World::new(true);
    world.run(1, |_| false);
    (world.told, world.peer_told) = (Vec::new(), Vec::new());
    // One packet is acknowledged after a while only, and the leap is longer.
    world.peer_says("before");
    world.run(1, |_| true);
    world.now += Duration::from_secs(20);
    world.peer.handle_timeout(world.now);
    // What is written to the former channel meanwhile is lost with it.
    assert_eq!(world.say(false, "lost"), Written::Sent);
    let again = [Told::Closed, Told::Opened];
    assert!(world.run(5, |world| world.told.ends_with(&again) && world.peer_told == again), "{:?}", world.peer_told);
    assert_eq!(world.say(false, "after all"), Written::Sent);
    assert!(world.run(5, |world| world.peer_told.ends_with(&[Told::Text("after all".to_owned())])));
}

#[test]
fn a_session_that_the_bridge_drops_is_forgotten_and_the_keeper_may_end() {
    let mut world = World::new(true);
    world.kept = None;
    assert!(world.run(1, |world| world.keeper.is_empty()));
    world.reach_bridge();
    assert_eq!((world.keeper.poll_timeout(), world.keeper.len()), (None, 0));
    // What the peer says then, if it came, would be answered.
    let late = ToKeeper::datagram(ID, &[23; 50]).expect("fits");
    world.keeper.handle(world.now, &late).expect("understood");
    world.reach_bridge();
    assert_eq!(world.told, [Told::Ended(false)]);
    // A message for it crossed with its end.
    for frame in ToKeeper::text(ID, false, b"late").into_iter().chain([ToKeeper::close(ID), ToKeeper::drop(ID)]) {
        world.keeper.handle(world.now, &frame).expect("understood");
    }
    assert!(!world.reach_bridge());
}

#[test]
fn who_does_not_read_loses_the_channel_and_it_is_counted() {
    let mut world = World::new(true);
    world.run(1, |_| false);
    world.told.clear();
    world.deaf = true;
    let message = "z".repeat(MAX_MESSAGE);
    for _ in 0..40 {
        world.say(true, &message);
        world.run(1, |_| true);
    }
    assert_eq!(world.told, [], "what is of others gives way");
    assert!(world.counters.get(Counted::Unread) > 20);
    for _ in 0..20 {
        world.say(false, &message);
        world.run(1, |_| true);
    }
    assert_eq!(world.told, [Told::Stalled]);
    assert_eq!(world.counters.get(Counted::Stalled), 1);
}

#[test]
fn what_is_counted_is_reported_within_a_second_and_once() {
    let mut world = World::new(true);
    world.run(2, |_| false);
    world.counters.count(Counted::Malformed);
    world.counters.add(Counted::Unread, 3);
    let at = world.keeper.poll_timeout().expect("something is to be reported");
    assert!(at <= world.now + Duration::from_secs(1));
    let reported = ChannelCounters::default();
    world.now += Duration::from_secs(1);
    world.keeper.handle_timeout(world.now);
    while let Some(frame) = world.keeper.peek_output() {
        if let Ok((_, FromKeeper::Counted { which, times })) = FromKeeper::parse(frame) {
            reported.add_at(which, times);
        }
        world.keeper.pop_output();
    }
    assert_eq!((reported.get(Counted::Malformed), reported.get(Counted::Unread)), (1, 3));
    reported.add_at(255, 1);
    assert_eq!(reported.all().iter().sum::<u64>(), 4);
}

#[test]
fn a_bridge_that_does_not_read_is_not_served_and_costs_a_bounded_amount() {
    let mut world = World::new(true);
    // The peer says as much as it may, and the bridge reads nothing that the keeper says but its datagrams.
    let message = "w".repeat(MAX_MESSAGE);
    let mut held = Vec::new();
    for _ in 0..2_000 {
        if !world.keeper.is_ready() {
            break;
        }
        if world.peer.write(false, || Utf8Bytes::from(message.clone())) != Written::Sent {
            panic!("the peer gave up");
        }
        for _ in 0..100 {
            world.peer.handle_timeout(world.now);
            world.of_peer();
            world.reach_keeper();
            // Only its acknowledgements go on.
            while let Some(frame) = world.keeper.peek_output().map(<[u8]>::to_vec) {
                world.keeper.pop_output();
                match FromKeeper::parse(&frame).expect("understood").1 {
                    FromKeeper::Datagram(datagram) => world.peer.handle_datagram(world.now, &datagram),
                    _ => held.push(frame),
                }
            }
            world.now += STEP;
        }
        // Put back, as if nobody had read it.
        held.drain(..).for_each(|frame| world.keeper.put_back(frame));
    }
    assert!(!world.keeper.is_ready(), "it goes on reading");
    assert!(world.keeper.waiting() < WAITING, "{} bytes wait", world.keeper.waiting());
}

#[test]
fn a_keeper_that_does_not_read_costs_the_bridge_a_bounded_amount() {
    let (line, counters) = (KeeperLine::default(), Arc::<ChannelCounters>::default());
    let kept = |id| KeptChannel::new((KeeperNumber(0), line.clone()), id, true, Arc::clone(&counters));
    let (mut first, mut second) = (kept(1), kept(2));
    let waiting = || line.waiting().iter().map(Vec::len).sum::<usize>();
    while counters.get(Counted::KeeperBusy) == 0 {
        first.handle_datagram(&[22; 1200]);
        assert!(waiting() < WAITING_DATAGRAMS + 2_000);
    }
    // Messages do not follow: there is too much before them.
    let message = Utf8Bytes::from("m".repeat(MAX_MESSAGE));
    assert_eq!(second.write(true, || message.clone()), Written::GaveWay);
    assert_eq!(counters.get(Counted::Unread), 1);
    assert!(waiting() > WAITING_OF_OTHERS);
    while second.write(false, || message.clone()) == Written::Sent {
        assert!(waiting() < WAITING + 2 * MAX_MESSAGE);
    }
    assert!((counters.get(Counted::Stalled), second.is_open()) == (1, false));
    assert_eq!(second.write(false, || message.clone()), Written::NotSent, "it is closed");
    // All of it is carried, and plausible.
    let carried = |waiting| CarriedKeeper { number: KeeperNumber(3), waiting, partial: None };
    assert!(carried(line.waiting()).is_plausible());
    assert_eq!(KeeperLine::with_waiting(&line.waiting()).waiting(), line.waiting());
    assert!(!carried([line.waiting(), line.waiting()].concat()).is_plausible());
    assert!(!carried(vec![vec![9; 10]]).is_plausible());
    // What ends in order says nothing more; what is dropped does.
    let before = line.waiting().len();
    assert!(first.end());
    assert_eq!(line.waiting().len(), before);
    drop(second);
    assert_eq!(line.waiting().last().map(|frame| ToKeeper::parse(frame)), Some(Ok((2, ToKeeper::Drop))));
}

#[derive(Debug, Clone)]
enum Step {
    Say(bool, usize),
    PeerSays(usize),
    Close,
    Garbage(Vec<u8>),
    /// For another session.
    Stray(u8),
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<bool>(), 1..MAX_MESSAGE).prop_map(|(of_others, length)| Step::Say(of_others, length)),
        (1..MAX_MESSAGE).prop_map(Step::PeerSays),
        Just(Step::Close),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Garbage),
        any::<u8>().prop_map(Step::Stray),
        any::<u16>().prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn whatever_it_is_told_it_goes_on_or_says_what_is_wrong(steps in prop::collection::vec(step(), 1..20)) {
        let mut world = World::new(true);
        for step in steps {
            match step {
                Step::Say(of_others, length) => drop(world.say(of_others, &"s".repeat(length))),
                Step::PeerSays(length) => {
                    world.peer.write(false, || "p".repeat(length).into());
                    world.peer.handle_timeout(world.now);
                }
                Step::Close => world.kept.iter_mut().for_each(KeptChannel::close),
                Step::Garbage(bytes) => {
                    // The end of a connection, and nothing worse.
                    let _ = world.keeper.handle(world.now, &bytes);
                }
                Step::Stray(id) => {
                    let id = u32::from(id) + 100;
                    for frame in ToKeeper::text(id, true, b"stray").into_iter().chain([ToKeeper::close(id), ToKeeper::drop(id)]) {
                        prop_assert!(world.keeper.handle(world.now, &frame).is_ok());
                    }
                }
                Step::Pass(millis) => {
                    world.now += Duration::from_millis(millis.into());
                    world.keeper.handle_timeout(world.now);
                    world.peer.handle_timeout(world.now);
                }
            }
            world.run(1, |_| true);
            prop_assert!(world.keeper.waiting() < WAITING);
            prop_assert_eq!(world.keeper.len(), 1);
        }
        // And afterwards it works: a peer that took a leap of time for silence has begun anew by then.
        world.run(5, |_| false);
        prop_assert!(world.run(120, |world| world.kept.as_ref().is_some_and(KeptChannel::is_open)));
        let before = world.peer_told.len();
        prop_assert_eq!(world.say(false, "after all"), Written::Sent);
        prop_assert!(world.run(60, |world| world.peer_told[before..].contains(&Told::Text("after all".to_owned()))));
    }
}
