//! Identities: those that the control plane mints, those of RTP, and the numbers of the workers' own tables.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::slab::key;

/// A conference on this bridge; minted by the control plane, never reused within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConferenceId(pub u32);

/// An endpoint on this bridge; minted by the control plane, never reused within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EndpointId(pub u32);

/// A full mesh of bridges that a conference spans: what came from one bridge of it does not go to another one. Minted by the
/// control plane for each conference and name of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MeshId(pub u32);

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

impl fmt::Display for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mesh-{}", self.0)
    }
}

/// The synchronization source of an RTP stream (RFC 3550 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
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

/// An RTP payload type: 7 bits (RFC 3550 section 5.1). What it stands for is in each endpoint's
/// [`CodecParameters`](crate::media::CodecParameters).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(transparent)]
pub struct PayloadType(#[serde(deserialize_with = "crate::carry::below::<_, _, 128>")] u8);

impl PayloadType {
    /// How many there are.
    pub const COUNT: usize = 128;

    /// The payload type of a number; `None` above 127.
    #[inline]
    pub const fn new(number: u8) -> Option<Self> {
        if number < 128 { Some(Self(number)) } else { None }
    }

    /// The payload type in the lower 7 bits of an octet: the second one of an RTP header, the first one of a RED block header
    /// (RFC 2198 section 3).
    #[inline]
    pub const fn from_low_bits(octet: u8) -> Self {
        Self(octet & 0x7f)
    }

    /// Its number, 0 to 127.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The same, to find it in a list of all payload types.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PayloadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A worker, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[repr(transparent)]
pub struct WorkerId(u8);

impl WorkerId {
    /// The worker of a number.
    #[inline]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// The worker of an index; those past the 255th do not exist, and are taken for it.
    #[inline]
    pub fn from_index(index: usize) -> Self {
        Self(u8::try_from(index).unwrap_or(u8::MAX))
    }

    /// Its number.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The same, to find it in a list of all workers.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for WorkerId {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorkerSet(u64);

impl WorkerSet {
    fn bit(worker: WorkerId) -> u64 {
        1u64.checked_shl(u32::from(worker.0)).unwrap_or(0)
    }

    /// Adds one.
    pub fn insert(&mut self, worker: WorkerId) {
        self.0 |= Self::bit(worker);
    }

    /// Takes one out.
    pub fn remove(&mut self, worker: WorkerId) {
        self.0 &= !Self::bit(worker);
    }

    /// Whether one is in it.
    pub fn contains(self, worker: WorkerId) -> bool {
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
    type Item = WorkerId;

    fn next(&mut self) -> Option<WorkerId> {
        let next = (self.0 != 0).then(|| WorkerId(self.0.trailing_zeros() as u8));
        self.0 &= self.0.wrapping_sub(1);
        next
    }
}

impl FromIterator<WorkerId> for WorkerSet {
    fn from_iter<I: IntoIterator<Item = WorkerId>>(workers: I) -> Self {
        let mut set = Self::default();
        workers.into_iter().for_each(|worker| set.insert(worker));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_type_has_seven_bits() {
        let numbers = (0..=u8::MAX).filter_map(PayloadType::new);
        assert!(numbers.map(PayloadType::index).eq(0..PayloadType::COUNT));
        assert_eq!(PayloadType::from_low_bits(0x80 | 96), PayloadType::new(96).unwrap());
    }

    #[test]
    fn a_set_of_workers() {
        let id = WorkerId::new;
        let mut set: WorkerSet = [63, 0, 3, 64].map(id).into_iter().collect();
        assert_eq!(set.collect::<Vec<_>>(), [0, 3, 63].map(id));
        set.remove(id(3));
        assert!(set.contains(id(63)) && !set.contains(id(3)) && !set.contains(id(64)) && !set.is_empty());
        let others: WorkerSet = [0, 5].map(id).into_iter().collect();
        assert_eq!(set.intersection(others).collect::<Vec<_>>(), [id(0)]);
        assert_eq!(set.without(others).collect::<Vec<_>>(), [id(63)]);
    }
}
