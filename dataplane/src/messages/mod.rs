//! Everything that is said between the control plane and a worker: [`Command`] one way, [`Event`] the other.
//!
//! Plain values: how they travel is [`crate::link`]'s matter, and a caller without threads hands them over directly.

mod command;
mod event;

pub use command::{Command, FeedbackSsrcs, NewEndpoint, SsrcRewriting};
pub use event::{Bandwidth, CreateError, Event, MappedSource};
