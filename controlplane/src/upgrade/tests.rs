//! Both state machines over a socket and a kernel that are simulated: whatever dies, stalls or comes in whatever order, at most one
//! process may send, and none does after the other had taken over.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::message::{Hello, Message, STATE_VERSION};
use super::predecessor::{Action, Failure, Input, Limits, Outcome, Predecessor, Step};
use super::successor::{Successor, SuccessorAction, SuccessorInput};

/// Something that can go wrong when an action is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    NotStarted,
    NotPrepared,
    NotQuiet,
    NotFrozen,
    StateNotWritten,
    NotImported,
    OldVersion,
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The old process does its next action, or else reads what has arrived.
    Old,
    /// The same of the new one.
    New,
    /// So much time passes.
    Time(u64),
    KillOld,
    KillNew,
    /// The operator asks (again).
    Begin,
}

struct World {
    now: Instant,
    old: Predecessor,
    old_lives: bool,
    /// What of the old process really sends.
    old_sends: bool,
    new: Option<Successor>,
    new_lives: bool,
    to_old: VecDeque<Message>,
    to_new: VecDeque<Message>,
    /// An upgrade's socket is open at the old end.
    open: bool,
    fault: Option<Fault>,
    committed: bool,
    old_sent_after_commit: bool,
    outcomes: Vec<Outcome>,
}

impl World {
    fn new(fault: Option<Fault>) -> Self {
        Self {
            now: Instant::now(),
            old: Predecessor::new(Hello::own(2), Limits::default()),
            old_lives: true,
            old_sends: true,
            new: None,
            new_lives: false,
            to_old: VecDeque::new(),
            to_new: VecDeque::new(),
            open: false,
            fault,
            committed: false,
            old_sent_after_commit: false,
            outcomes: Vec::new(),
        }
    }

    fn new_sends(&self) -> bool {
        self.new_lives && self.new.as_ref().is_some_and(Successor::may_send)
    }

    fn check(&self) {
        let old = self.old_lives && self.old_sends;
        assert!(!(old && self.new_sends()), "both send");
        assert!(!self.new_sends() || self.committed, "the new one sends without a commit");
        assert!(!self.old_sent_after_commit, "the old one sends after its commit");
        assert!(!old || !self.committed, "the old one sends although it has committed");
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Old if self.old_lives => self.old_turn(),
            Turn::New if self.new_lives => self.new_turn(),
            Turn::Old | Turn::New => {}
            Turn::Time(millis) => {
                self.now += Duration::from_millis(millis);
                if self.old_lives {
                    self.old.handle_timeout(self.now);
                }
            }
            Turn::KillOld => self.old_lives = false,
            Turn::KillNew => self.kill_new(),
            Turn::Begin if self.old_lives => {
                let busy = self.old.step().is_some();
                let begun = self.old.begin(self.now).is_ok();
                assert!(!(busy && begun), "a second one at a time");
            }
            Turn::Begin => {}
        }
        self.check();
    }

    fn kill_new(&mut self) {
        self.new_lives = false;
        self.to_new.clear();
    }

    fn old_turn(&mut self) {
        let Some(action) = self.old.poll_action() else {
            if !self.open {
                return;
            }
            match self.to_old.pop_front() {
                Some(message) => self.old.handle(self.now, Input::Message(message)),
                None if !self.new_lives => {
                    self.open = false;
                    self.old.handle(self.now, Input::Gone);
                }
                None => {}
            }
            return;
        };
        let answer = match action {
            Action::Start if self.fault == Some(Fault::NotStarted) => Input::NotStarted("no such file".to_owned()),
            Action::Start => {
                let mut hello = Hello::own(2);
                if self.fault == Some(Fault::OldVersion) {
                    hello.state_version = STATE_VERSION + 1;
                }
                assert!(!self.new_lives, "two successors");
                self.to_old.clear();
                self.to_new.clear();
                (self.new, self.new_lives, self.open) = (Some(Successor::new(hello)), true, true);
                return;
            }
            Action::Quiesce if self.fault == Some(Fault::NotQuiet) => Input::NotQuiet("a data channel".to_owned()),
            Action::Quiesce => Input::Quiet,
            Action::Freeze => {
                self.old_sends = false;
                match self.fault {
                    Some(Fault::NotFrozen) => Input::NotFrozen("a worker does not answer".to_owned()),
                    _ => Input::Frozen,
                }
            }
            Action::WriteState if self.fault == Some(Fault::StateNotWritten) => {
                Input::StateNotWritten("memory".to_owned())
            }
            Action::WriteState if !self.new_lives => Input::StateNotWritten("broken pipe".to_owned()),
            Action::WriteState => {
                self.to_new.push_back(Message::State { length: 1, descriptors: 0 });
                Input::StateWritten
            }
            Action::WriteCommit if !self.new_lives => Input::CommitNotWritten("broken pipe".to_owned()),
            Action::WriteCommit => {
                self.to_new.push_back(Message::Commit { frozen_micros: 0 });
                self.committed = true;
                Input::CommitWritten
            }
            Action::Kill => {
                self.open = false;
                return self.kill_new();
            }
            Action::Resume => {
                assert!(!self.old_sends, "resumed without having been frozen");
                self.old_sends = true;
                self.old_sent_after_commit |= self.committed;
                return;
            }
            Action::Retire => return,
            Action::Report(outcome) => {
                if !matches!(outcome, Outcome::GoesOn { .. }) {
                    self.old_lives = false;
                }
                return self.outcomes.push(outcome);
            }
        };
        self.old.handle(self.now, answer);
    }

    fn new_turn(&mut self) {
        let Some(new) = &mut self.new else { return };
        let Some(action) = new.poll_action() else {
            match self.to_new.pop_front() {
                Some(message) => new.handle(SuccessorInput::Message(message)),
                None if !self.old_lives || !self.open => new.handle(SuccessorInput::Gone),
                None => {}
            }
            return;
        };
        match action {
            SuccessorAction::Send(message) => {
                if self.old_lives && self.open {
                    self.to_old.push_back(message);
                }
            }
            SuccessorAction::Prepare => new.handle(match self.fault {
                Some(Fault::NotPrepared) => SuccessorInput::NotPrepared("no io_uring here".to_owned()),
                _ => SuccessorInput::Prepared,
            }),
            SuccessorAction::Import => new.handle(match self.fault {
                Some(Fault::NotImported) => SuccessorInput::NotImported("endpoint 7 is there twice".to_owned()),
                _ => SuccessorInput::Imported,
            }),
            SuccessorAction::Serve => new.handle(SuccessorInput::Serving),
            SuccessorAction::End(_) => self.kill_new(),
        }
    }

    /// Lets both go on without further accidents.
    fn quiet(&mut self) {
        for _ in 0..200 {
            self.turn(Turn::Old);
            self.turn(Turn::New);
        }
    }

    /// Runs an upgrade with one accident once the old process has got to this step, or after so many turns.
    fn with_accident(accident: Turn, at: usize) -> Self {
        let mut world = Self::new(None);
        world.turn(Turn::Begin);
        for turn in 0..200 {
            if turn == at {
                world.turn(accident);
            }
            world.turn(if turn % 2 == 0 { Turn::Old } else { Turn::New });
        }
        world.quiet();
        world
    }

    fn serving(&self) -> (bool, bool) {
        (self.old_lives && self.old_sends, self.new_sends())
    }
}

#[test]
fn an_upgrade_hands_over() {
    let mut world = World::new(None);
    world.turn(Turn::Begin);
    world.quiet();
    assert_eq!(world.serving(), (false, true));
    let release = env!("CARGO_PKG_VERSION").to_owned();
    assert_eq!(world.outcomes, [Outcome::HandedOver { release, frozen: Duration::ZERO }]);
}

#[test]
fn whatever_goes_wrong_before_the_commit_leaves_the_old_one_serving() {
    for (fault, step, label) in [
        (Fault::NotStarted, Step::Start, "not_started"),
        (Fault::OldVersion, Step::Start, "unfit"),
        (Fault::NotPrepared, Step::Preparation, "refused"),
        (Fault::NotQuiet, Step::Quiescence, "not_hitless"),
        (Fault::NotFrozen, Step::Freeze, "not_sent"),
        (Fault::StateNotWritten, Step::Transfer, "not_sent"),
        (Fault::NotImported, Step::Import, "refused"),
    ] {
        let mut world = World::new(Some(fault));
        world.turn(Turn::Begin);
        world.quiet();
        assert_eq!(world.serving(), (true, false), "{fault:?}");
        let [Outcome::GoesOn { step: at, failure, .. }] = &world.outcomes[..] else { panic!("{:?}", world.outcomes) };
        assert_eq!((*at, failure.label()), (step, label), "{fault:?}: {failure}");
        // And the next one, with a better program, succeeds.
        world.fault = None;
        world.turn(Turn::Begin);
        world.quiet();
        assert_eq!(world.serving(), (false, true), "{fault:?}");
    }
}

/// The table of the module: who dies after which turn, and who serves in the end.
#[test]
fn a_death_at_any_turn_leaves_one_or_none() {
    let mut seen = Vec::new();
    for at in 0..60 {
        let world = World::with_accident(Turn::KillNew, at);
        let outcome = match (world.serving(), world.committed) {
            ((true, false), false) => "the old one goes on",
            ((false, false), true) => "lost",
            ((false, true), true) => "after all was over",
            other => panic!("turn {at}: {other:?}"),
        };
        if outcome == "the old one goes on" && at > 0 {
            let expected = |outcome: &Outcome| matches!(outcome, Outcome::GoesOn { .. });
            // It may be killed before it is there.
            assert!(world.outcomes.iter().all(expected), "turn {at}: {:?}", world.outcomes);
        }
        seen.push(outcome);
    }
    assert!(["the old one goes on", "lost"].iter().all(|outcome| seen.contains(outcome)), "{seen:?}");
    for at in 0..60 {
        let world = World::with_accident(Turn::KillOld, at);
        match (world.serving(), world.committed) {
            // As after a crash; the new one has ended, too.
            ((false, false), false) => assert!(!world.new_lives, "turn {at}: a process is left over"),
            ((false, true), true) => {}
            other => panic!("turn {at}: {other:?}"),
        }
    }
}

#[test]
fn a_process_that_stalls_is_given_up() {
    for (at_step, limit) in [(Step::Start, 10_000), (Step::Preparation, 10_000), (Step::Import, 1_000)] {
        let mut world = World::new(None);
        world.turn(Turn::Begin);
        while world.old.step() != Some(at_step) {
            world.turn(Turn::Old);
            world.turn(Turn::New);
        }
        while world.old.poll_action().is_some_and(|action| action == Action::Start) {
            world.turn(Turn::Old);
        }
        world.turn(Turn::Time(limit - 1));
        assert_eq!(world.old.step(), Some(at_step));
        world.turn(Turn::Time(1));
        for _ in 0..10 {
            world.turn(Turn::Old);
        }
        assert_eq!(world.serving(), (true, false), "{at_step:?}");
        let [Outcome::GoesOn { step, failure: Failure::Stalled(_), .. }] = &world.outcomes[..] else {
            panic!("{:?}", world.outcomes)
        };
        assert_eq!(*step, at_step);
    }
}

/// The new process may be slow, but the old one, having committed, is not to come back.
#[test]
fn after_the_commit_there_is_no_way_back() {
    let mut world = World::new(None);
    world.turn(Turn::Begin);
    while !world.committed {
        world.turn(Turn::New);
        world.turn(Turn::Old);
    }
    world.turn(Turn::Time(60_000));
    for _ in 0..10 {
        world.turn(Turn::Old);
    }
    assert_eq!(world.serving(), (false, false));
    assert!(matches!(&world.outcomes[..], [Outcome::Lost(Failure::Stalled(_))]));
    world.quiet();
    assert_eq!(world.serving(), (false, true), "it serves in the end");
}

#[test]
fn a_program_that_talks_nonsense_is_given_up() {
    for message in [
        Message::Ready,
        Message::Serving,
        Message::Commit { frozen_micros: 0 },
        Message::Prepared,
        Message::Descriptors,
    ] {
        let mut old = Predecessor::new(Hello::own(1), Limits::default());
        let now = Instant::now();
        old.begin(now).expect("idle");
        old.handle(now, Input::Message(message.clone()));
        let actions: Vec<_> = std::iter::from_fn(|| old.poll_action()).collect();
        let [Action::Kill, Action::Report(Outcome::GoesOn { failure: Failure::Protocol(what), frozen: None, .. })] =
            &actions[..]
        else {
            panic!("{message:?}: {actions:?}")
        };
        assert!(what.contains("start"), "{what}");
        assert!(old.begin(now).is_ok(), "another may be tried");
    }
}

#[test]
fn what_does_not_fit_is_named_with_the_remedy() {
    let own = Hello::own(2);
    let other = |change: fn(&mut Hello)| {
        let mut other = own.clone();
        change(&mut other);
        own.fits(&other).map_err(|unfit| unfit.to_string())
    };
    assert_eq!(other(|hello| hello.release = "9.9.9".to_owned()), Ok(()), "any release of the same state version");
    let texts = [
        other(|hello| hello.state_version += 1),
        other(|hello| hello.architecture = "sparc".to_owned()),
        other(|hello| hello.workers = 3),
    ];
    for (text, word) in texts.into_iter().zip(["drain", "package", "configure 2"]) {
        assert!(text.as_ref().is_err_and(|text| text.contains(word)), "{text:?}");
    }
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        12 => Just(Turn::Old),
        12 => Just(Turn::New),
        2 => (0u64..1_200).prop_map(Turn::Time),
        1 => Just(Turn::Time(11_000)),
        1 => Just(Turn::Begin),
        1 => Just(Turn::KillNew),
    ];
    proptest::collection::vec(turn, 0..120)
}

fn fault() -> impl Strategy<Value = Option<Fault>> {
    prop_oneof![
        6 => Just(None),
        1 => Just(Some(Fault::NotStarted)),
        1 => Just(Some(Fault::NotPrepared)),
        1 => Just(Some(Fault::NotQuiet)),
        1 => Just(Some(Fault::NotFrozen)),
        1 => Just(Some(Fault::StateNotWritten)),
        1 => Just(Some(Fault::NotImported)),
        1 => Just(Some(Fault::OldVersion)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// [`World::check`] holds after each turn, and in the end somebody serves unless somebody was killed at the wrong time.
    #[test]
    fn at_most_one_sends_at_any_time(turns in turns(), fault in fault(), kill_old in proptest::option::of(0usize..120)) {
        let mut world = World::new(fault);
        world.turn(Turn::Begin);
        for (at, turn) in turns.into_iter().enumerate() {
            if kill_old == Some(at) {
                world.turn(Turn::KillOld);
            }
            world.turn(turn);
        }
        world.quiet();
        let (old, new) = world.serving();
        prop_assert!(!(old && new));
        if !world.committed && world.old_lives {
            prop_assert!(old || world.old.step().is_some_and(|step| step > Step::Start), "nobody serves");
            world.turn(Turn::Time(60_000));
            world.quiet();
            let served = world.serving();
            prop_assert!(served.0 || served.1 || world.committed, "nobody serves though the old one lives");
        }
        if !world.old_lives && !world.committed {
            prop_assert!(!world.new_lives, "a process is left over");
        }
    }
}
