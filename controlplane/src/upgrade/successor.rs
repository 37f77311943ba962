//! The new process in an upgrade: a state machine without I/O. It has no time limits: the running process has, and closes the socket. Once
//! this one is ready it waits for as long as that socket is open, since only the running process knows whether it has committed.

use std::collections::VecDeque;

use super::message::{Hello, Message, bounded};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SuccessorInput {
    /// What needs no state is there.
    Prepared,
    /// It cannot be made.
    NotPrepared(String),
    /// The running process says this; with [`Message::State`], all that belongs to it has arrived.
    Message(Message),
    /// What arrived cannot be understood, or is from somebody else.
    Garbage(String),
    /// The running process has closed its socket.
    Gone,
    /// Everything of the state is in place, but nothing is sent or received.
    Imported,
    /// The state cannot be used.
    NotImported(String),
    /// Media flows.
    Serving,
}

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SuccessorAction {
    /// Say this.
    Send(Message),
    /// Make what needs no state; answered by [`SuccessorInput::Prepared`] or [`SuccessorInput::NotPrepared`].
    Prepare,
    /// Read the state; answered by [`SuccessorInput::Imported`] or [`SuccessorInput::NotImported`].
    Import,
    /// Receive and send; answered by [`SuccessorInput::Serving`].
    Serve,
    /// End the process, for this reason. The calls are the running process's.
    End(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Preparing,
    Waiting,
    Importing,
    Ready,
    Serving,
    Ended,
}

/// The state machine.
#[derive(Debug)]
pub struct Successor {
    stage: Stage,
    actions: VecDeque<SuccessorAction>,
}

impl Successor {
    /// Says who it is, and prepares.
    pub fn new(own: Hello) -> Self {
        let actions = VecDeque::from([SuccessorAction::Send(Message::Hello(own)), SuccessorAction::Prepare]);
        Self { stage: Stage::Preparing, actions }
    }

    /// Whether media may be received and sent: from the commit on.
    pub fn may_send(&self) -> bool {
        self.stage == Stage::Serving
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<SuccessorAction> {
        self.actions.pop_front()
    }

    /// Takes what happened.
    pub fn handle(&mut self, input: SuccessorInput) {
        match (self.stage, input) {
            (Stage::Ended, _) => {}
            (Stage::Serving, SuccessorInput::Serving) => self.send(Message::Serving),
            // It serves, whatever becomes of the other.
            (Stage::Serving, _) => {}
            (Stage::Preparing, SuccessorInput::Prepared) => {
                self.stage = Stage::Waiting;
                self.send(Message::Prepared);
            }
            (Stage::Waiting, SuccessorInput::Message(Message::State { .. })) => {
                self.stage = Stage::Importing;
                self.actions.push_back(SuccessorAction::Import);
            }
            (Stage::Importing, SuccessorInput::Imported) => {
                self.stage = Stage::Ready;
                self.send(Message::Ready);
            }
            (Stage::Ready, SuccessorInput::Message(Message::Commit { .. })) => {
                self.stage = Stage::Serving;
                self.actions.push_back(SuccessorAction::Serve);
            }
            (_, SuccessorInput::NotPrepared(why) | SuccessorInput::NotImported(why)) => {
                let why = bounded(why);
                self.end(why.clone());
                self.actions.push_front(SuccessorAction::Send(Message::Refused(why)));
            }
            (_, SuccessorInput::Gone) => {
                self.end("the running process has given the upgrade up, or has ended; its log says why".to_owned());
            }
            (_, SuccessorInput::Garbage(what)) => self.end(bounded(what)),
            (stage, input) => self.end(bounded(format!("{input:?} while {stage:?}"))),
        }
    }

    fn send(&mut self, message: Message) {
        self.actions.push_back(SuccessorAction::Send(message));
    }

    fn end(&mut self, why: String) {
        self.stage = Stage::Ended;
        self.actions.clear();
        self.actions.push_back(SuccessorAction::End(why));
    }
}
