//! What the agents drop, counted by reason.

use std::fmt;
use std::sync::Arc;

/// Why a message, or an answer to one, was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// A request without PRIORITY, or with a comprehension-required attribute that is not known.
    Malformed,
    /// A request for a ufrag that none of the agents has.
    UnknownUfrag,
    /// A response to no check that is under way from there: late, or forged.
    UnknownTransaction,
    /// MESSAGE-INTEGRITY is wrong or missing.
    Integrity,
    /// More requests than connectivity checks need, or too many forged ones before.
    Rate,
    /// Every candidate pair is in use.
    PairsFull,
    /// The sink had no room for a check or an answer.
    OutputFull,
}

/// Counts what the agents drop.
pub trait DropCounter: fmt::Debug {
    /// Counts one.
    fn count_drop(&self, reason: DropReason);
}

impl<T: DropCounter + ?Sized> DropCounter for Arc<T> {
    fn count_drop(&self, reason: DropReason) {
        (**self).count_drop(reason);
    }
}
