//! The running process' side of an upgrade: does what the [`Predecessor`] asks for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::envelope::{StateParts, seal};
use super::message::Message;
use super::predecessor::{Action, Busy, Input, Outcome, Predecessor};
use super::program::{Program, Started};
use super::sealed::write_sealed;
use super::wire::{Received, Wire, WireError};

/// What is handed over.
#[derive(Debug)]
pub struct Load {
    /// What is known.
    pub parts: StateParts,
    /// The sockets. What each is stands in the parts.
    pub descriptors: Vec<OwnedFd>,
}

/// The calls of the running process. None of this may take longer than the step's time limit, since none of it is interrupted.
pub trait Calls {
    /// Waits until nothing is under way that cannot be handed over. The calls go on.
    fn quiesce(&mut self) -> impl Future<Output = Result<(), String>> + Send;
    /// Stops receiving and sending, and writes everything down. [`Self::resume`] follows also after an error.
    fn freeze(&mut self) -> impl Future<Output = Result<Load, String>> + Send;
    /// Goes on as if nothing had been.
    fn resume(&mut self) -> impl Future<Output = ()> + Send;
    /// Lets go of everything, without a word to anybody. The new process is the main one from here on, by this id.
    fn retire(&mut self, successor: u32) -> impl Future<Output = ()> + Send;
}

/// Runs one upgrade, to its end: dropped before, it would leave the calls frozen. With [`Outcome::GoesOn`] this process serves as
/// before, with the others it has to end.
pub async fn hand_over(machine: &mut Predecessor, program: &Program, calls: &mut impl Calls) -> Result<Outcome, Busy> {
    machine.begin(Instant::now())?;
    let mut attempt = Attempt { started: None, wire: None, load: None };
    loop {
        while let Some(action) = machine.poll_action() {
            if let Action::Report(outcome) = action {
                return Ok(outcome);
            }
            let frozen = machine.frozen_for(Instant::now());
            let answer = attempt.act(action, frozen, program, calls).await;
            let now = Instant::now();
            // An answer that took too long is none.
            machine.handle_timeout(now);
            if let Some(input) = answer {
                machine.handle(now, input);
            }
        }
        let deadline = machine.poll_timeout();
        tokio::select! {
            input = attempt.input() => machine.handle(Instant::now(), input),
            () = async { match deadline { Some(at) => sleep_until(at.into()).await, None => std::future::pending().await } } => {
                machine.handle_timeout(Instant::now());
            }
        }
    }
}

/// The new process.
struct Attempt {
    started: Option<Started>,
    wire: Option<Wire>,
    load: Option<Load>,
}

impl Attempt {
    async fn act(
        &mut self,
        action: Action,
        frozen: Duration,
        program: &Program,
        calls: &mut impl Calls,
    ) -> Option<Input> {
        let frozen_micros = u64::try_from(frozen.as_micros()).unwrap_or(u64::MAX);
        match action {
            Action::Start => match program.start() {
                Ok((started, wire)) => {
                    (self.started, self.wire) = (Some(started), Some(wire));
                    None
                }
                Err(why) => Some(Input::NotStarted(why)),
            },
            Action::Quiesce => Some(calls.quiesce().await.map_or_else(Input::NotQuiet, |()| Input::Quiet)),
            Action::Freeze => Some(match calls.freeze().await {
                Ok(load) => {
                    self.load = Some(load);
                    Input::Frozen
                }
                Err(why) => Input::NotFrozen(why),
            }),
            Action::WriteState => self.write_state().await,
            Action::WriteCommit => {
                Some(match self.wire.as_ref().map(|wire| wire.send_now(&Message::Commit { frozen_micros })) {
                    Some(Ok(())) => Input::CommitWritten,
                    Some(Err(error)) => Input::CommitNotWritten(error.to_string()),
                    None => Input::CommitNotWritten("there is no socket".to_owned()),
                })
            }
            Action::Kill => {
                self.load = None;
                self.wire = None;
                // It is not waited for: without the commit it does nothing.
                if let Some(started) = self.started.take() {
                    started.kill();
                }
                None
            }
            Action::Resume => {
                calls.resume().await;
                None
            }
            Action::Retire => {
                self.load = None;
                // It lives on without this process.
                let pid = self.started.take().map_or(0, |started| started.id());
                calls.retire(pid).await;
                None
            }
            Action::Report(_) => None,
        }
    }

    async fn write_state(&mut self) -> Option<Input> {
        let (Some(load), Some(wire)) = (&self.load, &self.wire) else {
            return Some(Input::StateNotWritten("there is nothing to send".to_owned()));
        };
        let sealed = seal(&load.parts).map_err(|error| error.to_string());
        let written = sealed.and_then(|bytes| match write_sealed(&bytes) {
            Ok(file) => Ok((file, bytes.len() as u64)),
            Err(error) => Err(error.to_string()),
        });
        let (file, length) = match written {
            Ok(written) => written,
            Err(why) => return Some(Input::StateNotWritten(why)),
        };
        let descriptors: Vec<_> = load.descriptors.iter().map(AsFd::as_fd).collect();
        match wire.send_state(file.as_fd(), length, &descriptors).await {
            Ok(()) => Some(Input::StateWritten),
            // The new process has ended: what it said last, or its end, is read next.
            Err(WireError::Io(error))
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                None
            }
            Err(error) => Some(Input::StateNotWritten(error.to_string())),
        }
    }

    async fn input(&mut self) -> Input {
        let Some(wire) = &mut self.wire else { return std::future::pending().await };
        match wire.receive().await {
            Ok(Received::Message(message)) => Input::Message(message),
            Ok(Received::State { length, .. }) => Input::Message(Message::State { length, descriptors: 0 }),
            Ok(Received::Gone) => {
                self.wire = None;
                Input::Gone
            }
            Err(error @ WireError::Io(_)) => {
                tracing::debug!(%error, "the new process is gone");
                self.wire = None;
                Input::Gone
            }
            Err(error) => Input::Garbage(error.to_string()),
        }
    }
}

impl Drop for Attempt {
    /// Whoever gives up in the middle leaves nobody behind.
    fn drop(&mut self) {
        if let Some(started) = &self.started {
            started.kill();
        }
    }
}
