//! Why a command was not carried out.

use crate::messages::CreateError;
use crate::stats::Counter;

/// A command that changed nothing, or not all that it asked for. It is counted in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It names a conference that was not created, or has expired.
    #[error("the conference is not known: create it first")]
    UnknownConference,
    /// It names an endpoint that was not created, or has expired.
    #[error("the endpoint is not known: create it first")]
    UnknownEndpoint,
    /// The endpoint was not created. [`crate::messages::Event::EndpointRefused`] reports the same.
    #[error("the endpoint was not created: {0}")]
    Refused(CreateError),
    /// An ICE restart under a ufrag that is another endpoint's, or that lacks the worker's tag.
    #[error("the ufrag is taken, or does not begin with demux::ufrag_prefix of this worker")]
    Ufrag,
    /// Credentials for an ICE restart that is not under way (any more), or that has its credentials.
    #[error("no ICE restart of that generation waits for credentials")]
    NoRestart,
    /// There is no valid pair of addresses to send over: wait for [`crate::ice::IceState::Connected`].
    #[error("the endpoint has no valid pair of addresses yet")]
    NoPath,
    /// The path's socket does not exist, or is of the other address family.
    #[error("no local socket of that index and address family")]
    UnknownSocket,
    /// Sockets for an endpoint that exists, or that was given some before: open them before it is created.
    #[error("the endpoint exists, or was given its sockets: open them once, before it is created")]
    TooLate,
    /// The sink had no room for it.
    #[error("the output is full: flush it and try again")]
    OutputFull,
}

impl CommandError {
    /// What it is counted as.
    pub(super) fn counter(self) -> Counter {
        match self {
            Self::Refused(error) => error.counter(),
            Self::UnknownConference | Self::UnknownEndpoint | Self::Ufrag | Self::UnknownSocket => {
                Counter::DropCommandUnknown
            }
            Self::NoRestart => Counter::DropRestartAnswer,
            Self::TooLate => Counter::HandedSocketsRefused,
            Self::NoPath => Counter::DropNoPath,
            Self::OutputFull => Counter::DropOutputFull,
        }
    }
}
