//! The running process in an upgrade: a state machine without I/O.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::message::{Hello, Message, bounded};

/// How long each part may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For the new process to start and prepare. The calls go on meanwhile.
    pub prepare: Duration,
    /// For what is better ended before the freeze: handshakes, and XMPP servers that are asked to keep sessions. The calls go on.
    pub quiet: Duration,
    /// From the freeze to the new process being ready. Media waits in the sockets meanwhile.
    pub freeze: Duration,
    /// From the commit to the new process serving, for the operator. Nothing depends on it.
    pub service: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let [prepare, quiet, freeze, service] = [10, 5, 1, 5].map(Duration::from_secs);
        Self { prepare, quiet, freeze, service }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The process could not be started.
    NotStarted(String),
    /// It says this.
    Message(Message),
    /// What arrived from it cannot be understood, or is from somebody else.
    Garbage(String),
    /// It has closed its socket: it is dead, or as good as that.
    Gone,
    /// Nothing would be lost now, or nothing that the operator does not accept.
    Quiet,
    /// Something would be.
    NotQuiet(String),
    /// Nothing is sent or received any more, and the state is written down.
    Frozen,
    /// That failed.
    NotFrozen(String),
    /// The state and the descriptors are on their way.
    StateWritten,
    /// They are not.
    StateNotWritten(String),
    /// The kernel has taken the commit. There is no way back.
    CommitWritten,
    /// It has not, and will not: the other end is closed.
    CommitNotWritten(String),
}

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start the new process.
    Start,
    /// Wait until nothing is under way that could not be handed over; answered by [`Input::Quiet`] or [`Input::NotQuiet`].
    Quiesce,
    /// Stop receiving and sending, and write the state down; answered by [`Input::Frozen`] or [`Input::NotFrozen`].
    Freeze,
    /// Answered by [`Input::StateWritten`] or [`Input::StateNotWritten`].
    WriteState,
    /// One write, which happens or does not; answered by [`Input::CommitWritten`] or [`Input::CommitNotWritten`] before anything else.
    WriteCommit,
    /// Close the socket, kill the new process, and wait until it is gone.
    Kill,
    /// Receive and send again, as before the freeze.
    Resume,
    /// Let go of everything that the new process now has; the main process is the new one.
    Retire,
    /// Report to the operator; with [`Outcome::HandedOver`] and [`Outcome::Lost`], then end.
    Report(Outcome),
}

/// How far an upgrade has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// The new process starts.
    Start,
    /// It prepares what needs no state.
    Preparation,
    /// What is under way ends.
    Quiescence,
    /// The state is written down.
    Freeze,
    /// It is sent.
    Transfer,
    /// The new process reads it.
    Import,
    /// The commit is being written.
    Commit,
    /// The new process begins to serve.
    Service,
}

impl Step {
    /// For logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Preparation => "preparation",
            Self::Quiescence => "quiescence",
            Self::Freeze => "freeze",
            Self::Transfer => "transfer",
            Self::Import => "import",
            Self::Commit => "commit",
            Self::Service => "service",
        }
    }
}

/// Why an upgrade came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It could not be started.
    #[error("the new process cannot be started: {0}")]
    NotStarted(String),
    /// It does not fit.
    #[error("the new process cannot take over: {0}")]
    Unfit(String),
    /// It does not want to.
    #[error("the new process refuses: {0}")]
    Refused(String),
    /// It ended.
    #[error(
        "the new process ended; its own log says why (a configuration that it does not accept, rights that it lacks, a crash)"
    )]
    Died,
    /// It takes too long.
    #[error("the new process is not ready after {} s; look at the load of the host, and whether the new process waits for something", .0.as_secs())]
    Stalled(Duration),
    /// It says something else than it should.
    #[error("the new process does not follow the protocol: {0}; it may be another program")]
    Protocol(String),
    /// Something would be lost.
    #[error("not everything can be handed over: {0}")]
    NotHitless(String),
    /// The running process could not write its state down or send it.
    #[error("the state cannot be handed over: {0}")]
    NotSent(String),
}

impl Failure {
    /// All that [`Self::label`] may be.
    pub const LABELS: [&str; 8] =
        ["not_started", "unfit", "refused", "died", "stalled", "protocol", "not_hitless", "not_sent"];

    /// For metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotStarted(_) => "not_started",
            Self::Unfit(_) => "unfit",
            Self::Refused(_) => "refused",
            Self::Died => "died",
            Self::Stalled(_) => "stalled",
            Self::Protocol(_) => "protocol",
            Self::NotHitless(_) => "not_hitless",
            Self::NotSent(_) => "not_sent",
        }
    }
}

/// How an upgrade ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The new process serves.
    HandedOver {
        /// Its release.
        release: String,
        /// From the freeze to the commit.
        frozen: Duration,
    },
    /// The running process goes on.
    GoesOn {
        /// Where it ended.
        step: Step,
        /// Why.
        failure: Failure,
        /// How long nothing was sent, if at all.
        frozen: Option<Duration>,
    },
    /// The new process died with everything in its hands, or is not heard of.
    Lost(Failure),
}

/// An upgrade is under way already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an upgrade is under way already; wait for its outcome")]
pub struct Busy;

/// The state machine; one for the life of the process.
#[derive(Debug)]
pub struct Predecessor {
    own: Hello,
    limits: Limits,
    step: Option<Step>,
    release: String,
    deadline: Option<Instant>,
    frozen_at: Option<Instant>,
    frozen_for: Duration,
    actions: VecDeque<Action>,
}

impl Predecessor {
    /// Of a process that is this.
    pub fn new(own: Hello, limits: Limits) -> Self {
        Self {
            own,
            limits,
            step: None,
            release: String::new(),
            deadline: None,
            frozen_at: None,
            frozen_for: Duration::ZERO,
            actions: VecDeque::new(),
        }
    }

    /// Begins an upgrade.
    pub fn begin(&mut self, now: Instant) -> Result<(), Busy> {
        // What ends the last one may still have to be done.
        if self.step.is_some() || !self.actions.is_empty() {
            return Err(Busy);
        }
        self.step = Some(Step::Start);
        self.deadline = Some(now + self.limits.prepare);
        self.actions.push_back(Action::Start);
        Ok(())
    }

    /// How far it is; none when there is no upgrade.
    pub fn step(&self) -> Option<Step> {
        self.step
    }

    /// Whether the new process may have the calls.
    pub fn committed(&self) -> bool {
        self.step == Some(Step::Service)
    }

    /// How long nothing has been sent.
    pub fn frozen_for(&self, now: Instant) -> Duration {
        self.frozen_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_none_or(|at| now < at) {
            return;
        }
        self.deadline = None;
        match self.step {
            Some(Step::Start | Step::Preparation) => self.give_up(now, Failure::Stalled(self.limits.prepare)),
            Some(Step::Quiescence) => self.give_up(now, Failure::Stalled(self.limits.quiet)),
            Some(Step::Freeze | Step::Transfer | Step::Import) => {
                self.give_up(now, Failure::Stalled(self.limits.freeze))
            }
            Some(Step::Service) => self.lose(Failure::Stalled(self.limits.service)),
            // The write is answered at once.
            Some(Step::Commit) | None => {}
        }
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Instant, input: Input) {
        let Some(step) = self.step else { return };
        match (step, input) {
            (Step::Commit, Input::CommitWritten) => self.retire(now),
            (Step::Commit, Input::CommitNotWritten(_)) => self.give_up(now, Failure::Died),
            // Whatever else there is comes after the answer to the write, which decides.
            (Step::Commit, _) => {}
            (Step::Service, Input::Message(Message::Serving)) => self.succeed(),
            (Step::Service, Input::Gone) => self.lose(Failure::Died),
            (Step::Service, Input::Garbage(what)) => self.lose(Failure::Protocol(bounded(what))),
            (Step::Service, _) => {}
            (Step::Start, Input::Message(Message::Hello(hello))) => match self.own.fits(&hello) {
                Ok(()) => {
                    self.release = bounded(hello.release);
                    self.step = Some(Step::Preparation);
                }
                Err(unfit) => self.give_up(now, Failure::Unfit(unfit.to_string())),
            },
            (Step::Preparation, Input::Message(Message::Prepared)) => {
                self.step = Some(Step::Quiescence);
                self.deadline = Some(now + self.limits.quiet);
                self.actions.push_back(Action::Quiesce);
            }
            (Step::Quiescence, Input::Quiet) => {
                self.step = Some(Step::Freeze);
                self.deadline = Some(now + self.limits.freeze);
                self.frozen_at = Some(now);
                self.actions.push_back(Action::Freeze);
            }
            (Step::Freeze, Input::Frozen) => {
                self.step = Some(Step::Transfer);
                self.actions.push_back(Action::WriteState);
            }
            (Step::Transfer, Input::StateWritten) => self.step = Some(Step::Import),
            (Step::Import, Input::Message(Message::Ready)) => {
                self.step = Some(Step::Commit);
                self.deadline = None;
                self.actions.push_back(Action::WriteCommit);
            }
            (_, Input::Message(Message::Refused(reason))) => self.give_up(now, Failure::Refused(bounded(reason))),
            (_, Input::NotStarted(why)) => self.give_up(now, Failure::NotStarted(bounded(why))),
            (_, Input::NotQuiet(why)) => self.give_up(now, Failure::NotHitless(bounded(why))),
            (_, Input::NotFrozen(why) | Input::StateNotWritten(why)) => {
                self.give_up(now, Failure::NotSent(bounded(why)))
            }
            (_, Input::Gone) => self.give_up(now, Failure::Died),
            (_, Input::Garbage(what)) => self.give_up(now, Failure::Protocol(bounded(what))),
            (step, Input::Message(message)) => {
                let what = format!("{message:?} during the {}", step.name());
                self.give_up(now, Failure::Protocol(bounded(what)));
            }
            // An answer to an action of an upgrade that has been given up.
            (
                _,
                Input::Quiet | Input::Frozen | Input::StateWritten | Input::CommitWritten | Input::CommitNotWritten(_),
            ) => {}
        }
    }

    /// Before the commit: as if nothing had been.
    fn give_up(&mut self, now: Instant, failure: Failure) {
        let Some(step) = self.step.take() else { return };
        self.deadline = None;
        // What was to be done for the upgrade need not be done any more.
        let not_yet_frozen = self.actions.contains(&Action::Freeze);
        self.actions.clear();
        self.actions.push_back(Action::Kill);
        let frozen_at = self.frozen_at.take().filter(|_| !not_yet_frozen);
        let frozen = frozen_at.map(|at| now.saturating_duration_since(at));
        if frozen.is_some() {
            self.actions.push_back(Action::Resume);
        }
        self.actions.push_back(Action::Report(Outcome::GoesOn { step, failure, frozen }));
    }

    fn retire(&mut self, now: Instant) {
        self.step = Some(Step::Service);
        self.deadline = Some(now + self.limits.service);
        self.frozen_for = self.frozen_for(now);
        self.actions.push_back(Action::Retire);
    }

    fn succeed(&mut self) {
        self.deadline = None;
        let release = std::mem::take(&mut self.release);
        self.actions.push_back(Action::Report(Outcome::HandedOver { release, frozen: self.frozen_for }));
    }

    /// After the commit: there is nothing to go back to.
    fn lose(&mut self, failure: Failure) {
        self.deadline = None;
        self.actions.push_back(Action::Report(Outcome::Lost(failure)));
    }
}
