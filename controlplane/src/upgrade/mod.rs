//! The hand-over of live calls from a running process to the one that takes its place.
//!
//! The running process, the [`Predecessor`], starts the new one, the [`Successor`], and gives it its sockets and its state. There is one
//! decision point, and the predecessor owns it: the commit. Until it is written the predecessor can go on as if nothing had been, and the
//! successor sends no media; from then on the predecessor sends none. So at most one of them may send at any time, no SRTP index is used
//! twice, and what either needs to know about the other is only whether the commit was written (it has died before) or could not be.
//!
//! | step | ends with | if either dies, refuses or stalls |
//! | --- | --- | --- |
//! | start | [`Message::Hello`] | the predecessor goes on |
//! | preparation | [`Message::Prepared`] | the predecessor goes on |
//! | quiescence: handshakes end | | the predecessor goes on |
//! | freeze: nobody sends or receives | [`Message::State`] | the predecessor resumes |
//! | import | [`Message::Ready`] | the predecessor resumes |
//! | commit | [`Message::Commit`] written | not written: the predecessor resumes |
//! | service | [`Message::Serving`] | the calls end as after a crash |
//!
//! A predecessor that dies before the commit ends the calls like any crash; its successor sees the socket close, and ends too.

mod beside;
pub mod command;
mod envelope;
mod hand_over;
mod listener;
mod message;
mod predecessor;
#[cfg(test)]
mod process_tests;
mod program;
mod refusal;
mod sealed;
mod successor;
mod take_over;
#[cfg(test)]
mod tests;
mod wire;

pub use beside::{Beside, BesideHeir, BesideHeritage, BesideLoad, BesideRequest, BesideRequests};
pub use envelope::{EnvelopeError, MAX_STATE, PartName, StateParts, open, seal};
pub use hand_over::{Calls, Load, hand_over};
pub use listener::listening;
pub use message::{Hello, MAX_REASON, Message, STATE_VERSION, Unfit};
pub use predecessor::{Action, Busy, Failure, Input, Limits, Outcome, Predecessor, Step};
pub use program::Program;
pub use refusal::{refuse, refuse_over};
pub use sealed::{SealedError, read_sealed, write_sealed};
pub use successor::{Successor, SuccessorAction, SuccessorInput};
pub use take_over::{Heir, take_over};
pub use wire::{FROM_VARIABLE, MAX_DESCRIPTORS, Peer, Received, Wire, WireError, inherited, pair};
