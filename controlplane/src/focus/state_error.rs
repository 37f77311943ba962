//! What keeps a focus from being handed over.

use crate::carried::CarryError;

/// Why a focus is not handed over, or not taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FocusStateError {
    /// Others know the focus by it: it cannot change in the middle of calls.
    #[error("the setting {name} is {here:?}, and the running process has {there:?}; keep it, or restart")]
    Setting {
        /// What it is called.
        name: &'static str,
        /// There.
        there: String,
        /// Here.
        here: String,
    },
    /// It cannot be written or read at all.
    #[error(transparent)]
    Carry(#[from] CarryError),
    /// It contradicts itself, or a bound.
    #[error("the state of the focus contradicts itself: {0}")]
    Contradiction(String),
    /// Something is to be sent first.
    #[error("stanzas of the focus wait to be sent")]
    Unsent,
}

/// Of state that is wrong like that.
pub(super) fn contradiction(what: impl Into<String>) -> FocusStateError {
    FocusStateError::Contradiction(what.into())
}
