//! Identities: those that the control plane mints, those of RTP, and the numbers of the workers' own tables.

use std::fmt;

use crate::slab::key;

/// A conference on this bridge; minted by the control plane, never reused within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConferenceId(pub u32);

/// An endpoint on this bridge; minted by the control plane, never reused within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub u32);

impl fmt::Display for ConferenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conference-{}", self.0)
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "endpoint-{}", self.0)
    }
}

/// The synchronization source of an RTP stream (RFC 3550 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct Ssrc(u32);

impl Ssrc {
    /// The SSRC of a number.
    #[inline]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// As RTP and RTCP carry it.
    #[inline]
    pub const fn from_be_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_be_bytes(bytes))
    }

    /// See [`Self::from_be_bytes`].
    #[inline]
    pub const fn to_be_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

impl From<u32> for Ssrc {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Display for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

key! {
    /// A conference in the table of its worker.
    pub(crate) ConferenceIndex
}

key! {
    /// A participant in the table of its conference.
    pub(crate) ParticipantId
}

key! {
    /// A source in the table of its conference.
    pub(crate) SourceId
}

/// A set of workers, of the first 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WorkerSet(u64);

impl WorkerSet {
    fn bit(worker: usize) -> u64 {
        u32::try_from(worker).ok().and_then(|worker| 1u64.checked_shl(worker)).unwrap_or(0)
    }

    /// Adds one.
    pub fn insert(&mut self, worker: usize) {
        self.0 |= Self::bit(worker);
    }

    /// Takes one out.
    pub fn remove(&mut self, worker: usize) {
        self.0 &= !Self::bit(worker);
    }

    /// Whether one is in it.
    pub fn contains(self, worker: usize) -> bool {
        self.0 & Self::bit(worker) != 0
    }

    /// Whether none is.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of both.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Without those of another set.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl Iterator for WorkerSet {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let next = (self.0 != 0).then(|| self.0.trailing_zeros() as usize);
        self.0 &= self.0.wrapping_sub(1);
        next
    }
}

impl FromIterator<usize> for WorkerSet {
    fn from_iter<I: IntoIterator<Item = usize>>(workers: I) -> Self {
        let mut set = Self::default();
        workers.into_iter().for_each(|worker| set.insert(worker));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_workers() {
        let mut set: WorkerSet = [63, 0, 3, 64].into_iter().collect();
        assert_eq!(set.collect::<Vec<_>>(), [0, 3, 63]);
        set.remove(3);
        assert!(set.contains(63) && !set.contains(3) && !set.contains(64) && !set.is_empty());
        let others: WorkerSet = [0, 5].into_iter().collect();
        assert_eq!(set.intersection(others).collect::<Vec<_>>(), [0]);
        assert_eq!(set.without(others).collect::<Vec<_>>(), [63]);
    }
}
